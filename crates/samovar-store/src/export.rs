//! Artifacts over an air gap: a folder that can be carried away, checked with common tools, and taken in elsewhere.
//!
//! ```text
//!   FORMAT  SHA256SUMS            `sha256sum -c SHA256SUMS` checks all of it
//!   blobs/sha256/ab/<64 hex>      cloned, else linked, else copied
//!   manifests/<key>.json
//! ```
//!
//! The folder is a store's layout, and serves as a read-only store as it is. What is taken in from such a folder
//! comes from outside: names and sizes are checked first, every byte is held against its digest, no symlink in
//! it is followed and nothing in it is ever unpacked or run.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use fs_err::File;
use samovar_core::Digest;
use samovar_core::digest::Hasher;
use serde::{Deserialize, Serialize};

use crate::artifact::key::KeyDigest;
use crate::artifact::manifest::{self, Manifest, ManifestFile};
use crate::cache::{Cache, blob, manifests};
use crate::collect::room;
use crate::disk::layout;
use crate::disk::lease::BlobLease;
use crate::disk::lock::{FileLock, Hold};
use crate::disk::partial::PartialId;
use crate::disk::plain;
use crate::disk::space::entries;
use crate::ensure::ingest;
use crate::error::Error;
use crate::index::{BlobRow, Ownership};
use crate::local::Local;
use crate::source::Promise;
use crate::store::Store;

/// The list of all files with their digests, as `sha256sum` reads and writes it.
const SUMS: &str = "SHA256SUMS";
/// Manifests of one folder.
const MANIFESTS: usize = 65_536;
/// Bytes of a text in a manifest, such as the reference.
const TEXT_BYTES: usize = 4 << 10;
const PIECE_BYTES: usize = 1 << 20;

/// What was put into a folder.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exported {
    /// Artifacts.
    pub artifacts: u64,
    /// Blobs that were put there; those that lay there already are not counted.
    pub blobs: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Bytes among them that had to be copied: the others share the disk with the cache.
    pub copied_bytes: u64,
}

/// What was taken in from a folder.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Imported {
    /// Artifacts that are here now, by what users call them.
    pub references: Vec<String>,
    /// Blobs that were not here before.
    pub blobs: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl Store {
    /// Puts artifacts into a folder: a new or empty one, or one that an earlier export made. Blocks.
    ///
    /// # Errors
    /// [`Error::Missing`] for what is not here; [`Error::Damaged`] for what is not right any more;
    /// [`Error::Unsupported`] for a folder with other things in it.
    pub fn export(&self, keys: &[KeyDigest], to: &Path) -> Result<Exported, Error> {
        let cache = &self.0.local.cache;
        let manifests: Vec<Manifest> =
            keys.iter().map(|key| manifest_of(cache, key)).collect::<Result<_, _>>()?;
        let digests: Vec<Digest> =
            manifests.iter().flat_map(|it| it.files.iter().map(|file| file.digest)).collect();
        let _lease = cache.leases.take(&digests)?;
        let mut folder =
            Folder::prepare(to).map_err(Error::io("the export's folder could not be prepared"))??;
        let mut exported = Exported::default();
        for manifest in &manifests {
            for file in &manifest.files {
                folder.put_blob(cache, file, &mut exported)?;
            }
            folder.put_manifest(manifest).map_err(Error::io("the manifest could not be exported"))?;
            exported.artifacts += 1;
        }
        folder.write_sums().map_err(Error::io("the list of digests could not be written"))?;
        Ok(exported)
    }

    /// Takes in all artifacts of a folder that [`Store::export`] made. Blocks.
    ///
    /// # Errors
    /// [`Error::BadAnswer`] or [`Error::Mismatch`] for a folder that is not what it says; what came before the fault is
    /// kept, whole artifacts only. [`Error::NoRoom`] when it does not fit.
    pub fn import(&self, from: &Path) -> Result<Imported, Error> {
        let local = &*self.0.local;
        local.cache.writable("an import")?;
        let root = fs_err::canonicalize(from).map_err(Error::io("the folder could not be opened"))?;
        let mut imported = Imported::default();
        for manifest in read_manifests(&root)? {
            take_in(local, &root, manifest, &mut imported)?;
        }
        Ok(imported)
    }
}

fn manifest_of(cache: &Cache, key: &KeyDigest) -> Result<Manifest, Error> {
    let missing = || Error::Missing {
        subject: format!("the artifact {key}"),
        where_: " in the cache",
        hint: "`samovar list` shows what is there".to_owned(),
    };
    Ok(manifests::read(&cache.layout, key)?.ok_or_else(missing)?.manifest)
}

/// The folder that is written.
struct Folder {
    root: PathBuf,
    /// Digests by path below the root.
    sums: BTreeMap<String, Digest>,
}

impl Folder {
    fn prepare(to: &Path) -> io::Result<Result<Self, Error>> {
        fs_err::create_dir_all(to)?;
        let root = fs_err::canonicalize(to)?;
        let is_export = root.join("FORMAT").is_file() && root.join(SUMS).is_file();
        if !is_export && fs_err::read_dir(&root)?.next().is_some() {
            return Ok(Err(Error::Unsupported {
                message: format!("{} has other things in it", root.display()),
                hint: "name a new or empty folder".to_owned(),
            }));
        }
        let mut folder = Self { root, sums: BTreeMap::new() };
        if is_export {
            folder.read_sums()?;
        }
        let format = layout::FORMAT.to_string();
        folder.put("FORMAT", format.as_bytes())?;
        Ok(Ok(folder))
    }

    /// A list that another program changed counts as far as it can be read.
    fn read_sums(&mut self) -> io::Result<()> {
        for line in fs_err::read_to_string(self.root.join(SUMS))?.lines() {
            if let Some((digest, path)) = line.split_once("  ")
                && let Ok(digest) = digest.parse()
            {
                self.sums.insert(path.to_owned(), digest);
            }
        }
        Ok(())
    }

    fn put_blob(&mut self, cache: &Cache, file: &ManifestFile, exported: &mut Exported) -> Result<(), Error> {
        let hex = file.digest.to_string();
        let name = format!("blobs/sha256/{}/{hex}", &hex[..2]);
        let to = self.root.join(&name);
        let is_there =
            fs_err::symlink_metadata(&to).is_ok_and(|there| there.is_file() && there.len() == file.size);
        if !is_there {
            let missing = || Error::Missing {
                subject: file.path.to_string(),
                where_: " in the cache",
                hint: "`samovar verify --repair` fetches it again".to_owned(),
            };
            let place =
                blob::settle(&cache.layout, &cache.index, &file.digest, file.size)?.ok_or_else(missing)?;
            let is_ours = place.origin() != Ownership::Reference;
            let copied =
                put_file(&place.path, &to, is_ours).map_err(Error::io("a blob could not be exported"))?;
            if let Some(copied) = copied {
                exported.copied_bytes += file.size;
                if copied != file.digest {
                    let _ = fs_err::remove_file(&to);
                    return Err(Error::Damaged { digest: file.digest, of: None });
                }
            }
            exported.blobs += 1;
            exported.bytes += file.size;
        }
        self.sums.insert(name, file.digest);
        Ok(())
    }

    fn put_manifest(&mut self, manifest: &Manifest) -> io::Result<()> {
        let mut text = serde_json::to_vec_pretty(manifest).map_err(io::Error::other)?;
        text.push(b'\n');
        let name = format!("manifests/{}.json", manifest.key.digest());
        self.put(&name, &text)
    }

    fn put(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        write_whole(&self.root.join(name), bytes)?;
        self.sums.insert(name.to_owned(), Digest::of_bytes(bytes));
        Ok(())
    }

    /// Last, so that a list is only there when everything on it is.
    fn write_sums(&self) -> io::Result<()> {
        let lines: Vec<String> =
            self.sums.iter().map(|(path, digest)| format!("{digest}  {path}\n")).collect();
        let lines = lines.concat();
        write_whole(&self.root.join(SUMS), lines.as_bytes())
    }
}

fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let new = beside(path)?;
    let mut file = new_file(&new)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs_err::rename(new, path)
}

/// A name for a file that is not whole yet.
fn beside(path: &Path) -> io::Result<PathBuf> {
    let parent = path.parent().ok_or_else(|| io::Error::other("a file without a folder"))?;
    fs_err::create_dir_all(parent)?;
    let mut name = path.as_os_str().to_owned();
    name.push(".part");
    Ok(PathBuf::from(name))
}

/// What an earlier export that broke off left is replaced.
fn new_file(path: &Path) -> io::Result<File> {
    match fs_err::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => (),
    }
    fs_err::OpenOptions::new().write(true).create_new(true).open(path)
}

/// Puts a file there: shares its blocks where the file system can, else links it if it is ours, else copies.
/// Gives the digest of what was copied.
fn put_file(from: &Path, to: &Path, may_link: bool) -> io::Result<Option<Digest>> {
    let new = beside(to)?;
    drop(new_file(&new)?);
    fs_err::remove_file(&new)?;
    let shared =
        reflink_copy::reflink(from, &new).is_ok() || (may_link && fs_err::hard_link(from, &new).is_ok());
    let copied = if shared { None } else { Some(copy(from, &new)?) };
    fs_err::rename(new, to)?;
    Ok(copied)
}

fn copy(from: &Path, to: &Path) -> io::Result<Digest> {
    let (mut from, mut to) = (File::open(from)?, new_file(to)?);
    let (mut hasher, mut piece) = (Hasher::new(), vec![0; PIECE_BYTES]);
    loop {
        match from.read(&mut piece) {
            Ok(0) => break,
            Ok(count) => {
                hasher.update(&piece[..count]);
                to.write_all(&piece[..count])?;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => (),
            Err(error) => return Err(error),
        }
    }
    to.sync_all()?;
    Ok(hasher.finish())
}

/// The manifests of a folder, every one of them checked before anything is taken in.
fn read_manifests(root: &Path) -> Result<Vec<Manifest>, Error> {
    let names =
        entries(&root.join("manifests")).map_err(Error::io("the folder's manifests could not be listed"))?;
    let lie = |name: &str, message: &str| Error::BadAnswer {
        subject: name.to_owned(),
        message: message.to_owned(),
    };
    if names.is_empty() {
        return Err(Error::Missing {
            subject: root.display().to_string(),
            where_: ": no manifests are in it",
            hint: "name a folder that `samovar export` made".to_owned(),
        });
    }
    if names.len() > MANIFESTS {
        return Err(lie(&root.display().to_string(), "it has too many manifests"));
    }
    let mut manifests = Vec::new();
    for (name, path) in names.iter().filter(|(_, path)| path.extension().is_some_and(|it| it == "json")) {
        let bytes =
            plain::read(root, path, manifest::BYTES).map_err(Error::io("a manifest could not be read"))?;
        let manifest: Manifest = serde_json::from_slice(&bytes)
            .map_err(|error| lie(name, &format!("it is no manifest: {error}")))?;
        if let Some(fault) = fault_of(&manifest, name) {
            return Err(lie(name, fault));
        }
        for file in &manifest.files {
            check_size(root, file)?;
        }
        manifests.push(manifest);
    }
    Ok(manifests)
}

fn fault_of(manifest: &Manifest, name: &str) -> Option<&'static str> {
    let is_odd = |text: &str| text.len() > TEXT_BYTES || text.chars().any(char::is_control);
    if manifest.format > manifest::FORMAT {
        Some("it was written by a newer Samovar")
    } else if name != format!("{}.json", manifest.key.digest()) {
        Some("it is not the manifest of this key")
    } else if [&manifest.reference, &manifest.key.quant, &manifest.key.modality]
        .into_iter()
        .any(|it| is_odd(it))
        || manifest.revision.as_deref().is_some_and(is_odd)
    {
        Some("it has texts that no manifest has")
    } else {
        manifest.fault()
    }
}

fn foreign_blob(root: &Path, digest: &Digest) -> PathBuf {
    let hex = digest.to_string();
    root.join("blobs").join("sha256").join(&hex[..2]).join(hex)
}

fn check_size(root: &Path, file: &ManifestFile) -> Result<(), Error> {
    let path = foreign_blob(root, &file.digest);
    let found = plain::metadata(root, &path).map_err(Error::io("a blob could not be looked at"))?;
    match found {
        Some(found) if found.len() == file.size => Ok(()),
        found => Err(Error::Mismatch {
            subject: format!("{} ({})", file.path, file.digest),
            expected: format!("{} bytes", file.size),
            got: found.map_or("no file".to_owned(), |found| format!("{} bytes", found.len())),
        }),
    }
}

fn take_in(local: &Local, root: &Path, manifest: Manifest, imported: &mut Imported) -> Result<(), Error> {
    let mut rows: BTreeMap<Digest, BlobRow> = BTreeMap::new();
    let mut leases = Vec::new();
    for file in &manifest.files {
        let Entry::Vacant(place) = rows.entry(file.digest) else { continue };
        let (row, lease, is_new) = bring(local, root, file)?;
        imported.blobs += u64::from(is_new);
        imported.bytes += if is_new { file.size } else { 0 };
        place.insert(row);
        leases.push(lease);
    }
    let reference = manifest.reference.clone();
    let recorded = manifests::write(&local.cache.layout, manifest)?;
    let rows: Vec<BlobRow> = rows.into_values().collect();
    local.cache.index.commit_artifact(&recorded.manifest, recorded.digest, &rows)?;
    imported.references.push(reference);
    Ok(())
}

/// Brings one file, unless its bytes are here. Leased first, so that what is found stays.
fn bring(local: &Local, root: &Path, file: &ManifestFile) -> Result<(BlobRow, BlobLease, bool), Error> {
    let lease = local.cache.leases.take(&[file.digest])?;
    if let Some(row) = local.cache.here(&file.digest, Some(file.size))? {
        return Ok((row, lease, false));
    }
    let id = PartialId::of_digest(file.digest);
    let _lock =
        FileLock::wait(local.cache.layout.root(), &local.cache.layout.blob_lock(&id), Hold::Exclusive)
            .map_err(Error::io("the blob could not be locked"))?;
    if let Some(row) = local.cache.here(&file.digest, Some(file.size))? {
        return Ok((row, lease, false));
    }
    let subject = file.path.to_string();
    let _room = room::reserve(local, &subject, &[(id, file.size)])?;
    let from = foreign_blob(root, &file.digest);
    check_size(root, file)?;
    let row =
        ingest::of_file(&local.cache.layout, &subject, &from, Promise::Sha256(file.digest), |_| Ok(()))?;
    local.cache.index.put_blob(&row)?;
    Ok((row, lease, true))
}
