//! The manifests of a store on disk: written once, read to fill an index.

use std::io;

use fs_err::DirEntry;
use samovar_core::Digest;

use crate::artifact::key::KeyDigest;
use crate::artifact::manifest::{self, Manifest, ManifestFile};
use crate::cache::blob;
use crate::disk::durable;
use crate::disk::layout::Layout;
use crate::disk::plain;
use crate::error::Error;
use crate::index::{BlobRow, Entry, Index};

/// Artifacts that go into the index in one transaction.
const BATCH: usize = 256;

/// A manifest as it lies on disk.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Recorded {
    pub(crate) manifest: Manifest,
    /// The digest of its text.
    pub(crate) digest: Digest,
}

/// Writes a manifest, unless one with the same content is there.
///
/// # Errors
/// Whatever the system says; then what was there is still there.
pub(crate) fn write(layout: &Layout, manifest: Manifest) -> Result<Recorded, Error> {
    let key = manifest.key.digest();
    if let Some(there) = read(layout, &key)?.filter(|there| is_same(&there.manifest, &manifest)) {
        return Ok(there);
    }
    let settle = || -> io::Result<Recorded> {
        let mut text = serde_json::to_vec_pretty(&manifest).map_err(io::Error::other)?;
        text.push(b'\n');
        durable::write(layout, &layout.manifest(&key), &text)?;
        Ok(Recorded { digest: Digest::of_bytes(&text), manifest })
    };
    settle().map_err(Error::io("the manifest could not be written"))
}

/// Whether two manifests say the same of the content; when they were written does not matter.
fn is_same(one: &Manifest, other: &Manifest) -> bool {
    one.key == other.key
        && one.files == other.files
        && one.reference == other.reference
        && one.revision == other.revision
}

/// Reads a manifest; `None` when there is none, or what lies there is none of this key.
///
/// # Errors
/// When it cannot be read, or a symlink lies there.
pub(crate) fn read(layout: &Layout, key: &KeyDigest) -> Result<Option<Recorded>, Error> {
    let bytes = match plain::read(layout.root(), &layout.manifest(key), manifest::BYTES) {
        Ok(bytes) => bytes,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::InvalidData) => {
            return Ok(None);
        }
        Err(error) => return Err(Error::io("the manifest could not be read")(error)),
    };
    let manifest = serde_json::from_slice::<Manifest>(&bytes).ok();
    Ok(manifest
        .filter(|manifest| manifest.format <= manifest::FORMAT && manifest.key.digest() == *key)
        .filter(|manifest| manifest.fault().is_none())
        .map(|manifest| Recorded { manifest, digest: Digest::of_bytes(&bytes) }))
}

/// The keys of all manifests that lie here.
///
/// # Errors
/// When the directory cannot be read.
pub(crate) fn keys(layout: &Layout) -> Result<Vec<KeyDigest>, Error> {
    let list = || -> io::Result<Vec<KeyDigest>> {
        let entries = fs_err::read_dir(layout.manifests())?.collect::<io::Result<Vec<DirEntry>>>()?;
        let key = |entry: &DirEntry| KeyDigest::parse(entry.file_name().to_str()?.strip_suffix(".json")?);
        Ok(entries.iter().filter_map(key).collect())
    };
    match list() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        other => other.map_err(Error::io("the manifests could not be listed")),
    }
}

/// Fills an index from manifests and blobs. What a manifest names and is not here leaves its artifact out.
/// Hardly any bytes are hashed: a file with a blob's name was verified when it got it, and its time tells
/// whether it was written to since.
///
/// # Errors
/// When the manifests cannot be listed or the index cannot be written.
pub(crate) fn fill(layout: &Layout, index: &Index) -> Result<usize, Error> {
    let mut filled = 0;
    for keys in keys(layout)?.chunks(BATCH) {
        let whole: Vec<(Recorded, Vec<BlobRow>)> =
            keys.iter().filter_map(|key| whole(layout, index, key)).collect();
        let entries: Vec<Entry<'_>> = whole
            .iter()
            .map(|(recorded, blobs)| Entry {
                manifest: &recorded.manifest,
                manifest_digest: recorded.digest,
                blobs,
            })
            .collect();
        index.commit_artifacts(&entries)?;
        for (recorded, _) in &whole {
            let key = recorded.manifest.key.digest();
            if fs_err::symlink_metadata(layout.pin(&key)).is_ok() {
                index.set_pinned(&key, true)?;
            }
        }
        filled += whole.len();
    }
    index.set_rebuilt()?;
    Ok(filled)
}

/// A manifest whose blobs are all here, with their rows. What cannot be read is passed over.
fn whole(layout: &Layout, index: &Index, key: &KeyDigest) -> Option<(Recorded, Vec<BlobRow>)> {
    let recorded = match read(layout, key) {
        Ok(recorded) => recorded?,
        Err(error) => {
            tracing::warn!(%key, %error, "a manifest was passed over");
            return None;
        }
    };
    let rows =
        recorded.manifest.files.iter().map(|file| row(layout, index, file, recorded.manifest.created_ms));
    let rows = rows.collect::<Option<_>>()?;
    Some((recorded, rows))
}

/// The row of a manifest's file, if its blob is here. Bytes that were written after the manifest are hashed:
/// blobs come before the manifests that name them.
fn row(layout: &Layout, index: &Index, file: &ManifestFile, created_ms: u64) -> Option<BlobRow> {
    let digest = &file.digest;
    let place = blob::locate(layout, digest).ok().flatten().filter(|place| place.stamp.size == file.size)?;
    if let Some(row) = index.blob(digest).ok().flatten().filter(|row| row.stamp == place.stamp) {
        return Some(row);
    }
    let is_younger = place.stamp.mtime_ns > created_ms.cast_signed().saturating_mul(1_000_000);
    if is_younger && !blob::rehash(layout, index, digest).ok()? {
        return None;
    }
    Some(blob::unhashed(digest, &place))
}
