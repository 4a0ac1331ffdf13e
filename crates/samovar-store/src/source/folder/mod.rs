//! Files and folders that this machine can read, such as a network share: `file:///mnt/models/x.gguf`.
//!
//! What fixes the content is what the file system says of the chosen files: names, sizes, times. The
//! files are given to the store as they lie there, so that it can clone rather than read them. Links are
//! followed inside the named folder only; the named file itself may be one. Writes nothing.

mod walk;

use std::ops::Range;
use std::path::Path;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::{StreamExt as _, stream};
use samovar_core::Digest;
use samovar_core::model::reference::RemoteRef;

pub use walk::Skipped;
pub(crate) use walk::{Bounds, Entry, clause, names};

use super::http::other_scheme;
use super::select::{self, Want};
use super::{ArtifactRef, Body, Listing, Promise, RemoteFile, Source, commit_of};
use crate::artifact::key::ArtifactKey;
use crate::artifact::manifest::Role;
use crate::artifact::name::{Commit, FilePath};
use crate::error::Error;
use crate::index::Stamp;

/// Bytes that are read at once.
const CHUNK_BYTES: usize = 1 << 20;

/// The file system of this machine.
pub(crate) struct Folder;

/// The files of an artifact in a folder.
pub(crate) struct Chosen {
    pub(crate) quant: String,
    pub(crate) modality: String,
    pub(crate) files: Vec<ChosenFile>,
}

/// One of them.
pub(crate) struct ChosenFile {
    pub(crate) path: FilePath,
    pub(crate) role: Role,
    pub(crate) entry: Entry,
}

impl Folder {
    fn listing(reference: &RemoteRef) -> Result<Listing, Error> {
        let path = reference.path().ok_or_else(|| other_scheme("folder", reference.scheme()))?;
        let subject = reference.to_string();
        let chosen = chosen(&subject, &path)?;
        let promise = promise(&subject, reference, &chosen)?;
        let mut key = chosen.key(&path)?;
        if let Some(digest) = reference.digest() {
            key.commit = commit_of(digest);
        }
        let files = chosen.files.into_iter().map(|file| RemoteFile {
            promise: if file.role == Role::Weights { promise } else { Promise::Unknown },
            role: file.role,
            size: Some(file.entry.metadata.len()),
            locator: file.entry.at.to_string_lossy().into_owned(),
            etag: Some(etag(&file.entry)),
            local: Some(file.entry.at),
            path: file.path,
        });
        Ok(Listing { key, revision: None, reference: subject, files: files.collect() })
    }
}

/// A digest is said of one file: of the only weights.
fn promise(subject: &str, reference: &RemoteRef, chosen: &Chosen) -> Result<Promise, Error> {
    let Some(digest) = reference.digest() else { return Ok(Promise::Unknown) };
    match chosen.files.iter().filter(|file| file.role == Role::Weights).count() {
        1 => Ok(Promise::Sha256(digest)),
        count => Err(Error::Unsupported {
            message: format!("{subject} consists of {count} files, and a digest is said of one"),
            hint: "leave the digest out".to_owned(),
        }),
    }
}

/// What a path means: a file with the other parts of its model, or the preferred model of a folder.
///
/// # Errors
/// [`Error::Missing`] when nothing is there; else as [`select::choose`].
pub(crate) fn chosen(subject: &str, path: &Path) -> Result<Chosen, Error> {
    let missing = |reason: String| Error::Missing { subject: subject.to_owned(), where_: "", hint: reason };
    let facts = fs_err::metadata(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => missing("check the path".to_owned()),
        _ => Error::Io { action: "the file or folder could not be looked at", error },
    })?;
    let root = if facts.is_dir() { path } else { path.parent().unwrap_or(path) };
    let bounds = Bounds::of(root).map_err(missing)?;
    let mut skipped = Vec::new();
    let (entries, file) = if facts.is_dir() {
        (bounds.files(bounds.root(), &mut skipped), None)
    } else {
        let name = path.file_name().and_then(|name| name.to_str());
        let name = name.ok_or_else(|| missing("its name is no text".to_owned()))?;
        (beside(&bounds, path, name, &mut skipped), Some(name))
    };
    for Skipped { path, reason } in skipped {
        tracing::debug!(path = %path.display(), reason, "passed over");
    }
    let all: Vec<&str> = entries.iter().map(|entry| entry.name.as_str()).collect();
    let choice = select::choose(subject, &all, &Want { quant: None, file })?;
    let files = choice.files.iter().map(|&(place, role)| {
        let entry = entries[place].clone();
        Ok(ChosenFile { path: entry.name.parse()?, role, entry })
    });
    Ok(Chosen {
        quant: choice.quant,
        modality: choice.modality.to_owned(),
        files: files.collect::<Result<_, Error>>()?,
    })
}

/// The files in the folder of a named one. The named one may be a link to anywhere, as its user wished.
fn beside(bounds: &Bounds, path: &Path, name: &str, skipped: &mut Vec<Skipped>) -> Vec<Entry> {
    let mut entries = Vec::new();
    for (other, at) in names(bounds.root(), skipped) {
        let found = if other == name { Bounds::anywhere(path) } else { bounds.file(&at) };
        match found {
            Ok((at, metadata)) => entries.push(Entry { name: other, at, metadata }),
            Err(reason) => skipped.push(Skipped::new(&at, reason)),
        }
    }
    entries
}

impl Chosen {
    /// The key: what the path means changes with the names, sizes and times of the chosen files.
    ///
    /// # Errors
    /// When the path is no name for a model.
    pub(crate) fn key(&self, path: &Path) -> Result<ArtifactKey, Error> {
        Ok(ArtifactKey {
            source: "folder".parse()?,
            model: path.to_string_lossy().parse()?,
            commit: self.commit(),
            quant: self.quant.clone(),
            modality: self.modality.clone(),
        })
    }

    /// What fixes the content, as far as the file system tells without reading it.
    pub(crate) fn commit(&self) -> Commit {
        let line = |file: &ChosenFile| {
            let Stamp { mtime_ns, size, .. } = Stamp::of(&file.entry.metadata);
            format!("{} {size} {mtime_ns}\n", file.path)
        };
        let lines: String = self.files.iter().map(line).collect();
        commit_of(Digest::of_bytes(format!("samovar folder 1\n{lines}").as_bytes()))
    }
}

fn etag(entry: &Entry) -> String {
    let Stamp { mtime_ns, size, .. } = Stamp::of(&entry.metadata);
    format!("{size}-{mtime_ns}")
}

/// Bytes of a file, for a caller that does not clone it.
async fn read(file: &RemoteFile, range: Range<u64>) -> Result<Body, Error> {
    let path = file.local.clone().ok_or_else(|| other_scheme("folder", "remote"))?;
    let (mut source, entry) = blocking(move || {
        let failed = Error::io("the file could not be opened");
        let opened =
            Bounds::of(path.parent().unwrap_or(&path)).map_err(std::io::Error::other).and_then(|bounds| {
                let file = bounds.open(&path)?;
                let metadata = file.metadata()?;
                Ok((file, Entry { name: String::new(), at: path.clone(), metadata }))
            });
        opened.map_err(failed)
    })
    .await?;
    let size = entry.metadata.len();
    let end = range.end.min(size);
    let start = range.start.min(end);
    std::io::Seek::seek(&mut source, std::io::SeekFrom::Start(start))
        .map_err(Error::io("the file could not be read"))?;
    let stream = stream::unfold(Some((source, end - start)), |state| async move {
        let (source, left) = state?;
        let next = blocking(move || chunk(source, left)).await;
        match next {
            Ok((bytes, _)) if bytes.is_empty() => None,
            Ok((bytes, source)) => {
                let left = left - bytes.len() as u64;
                Some((Ok(bytes), Some((source, left))))
            }
            Err(error) => Some((Err(error), None)),
        }
    });
    Ok(Body { stream: stream.boxed(), start, size: Some(size), etag: Some(etag(&entry)), is_whole: false })
}

fn chunk(mut source: fs_err::File, left: u64) -> Result<(Bytes, fs_err::File), Error> {
    let mut bytes = vec![0; CHUNK_BYTES.min(left as usize)];
    std::io::Read::read_exact(&mut source, &mut bytes).map_err(Error::io("the file could not be read"))?;
    Ok((bytes.into(), source))
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    tokio::task::spawn_blocking(work).await.expect("invariant: reading a folder does not panic")
}

impl Source for Folder {
    fn resolve<'a>(&'a self, reference: &'a ArtifactRef) -> BoxFuture<'a, Result<Listing, Error>> {
        Box::pin(async move {
            match reference {
                ArtifactRef::Remote(reference) => {
                    let reference = reference.clone();
                    blocking(move || Self::listing(&reference)).await
                }
                ArtifactRef::Hub(_) => Err(other_scheme("folder", "hf")),
            }
        })
    }

    fn fetch<'a>(&'a self, file: &'a RemoteFile, range: Range<u64>) -> BoxFuture<'a, Result<Body, Error>> {
        Box::pin(read(file, range))
    }
}
