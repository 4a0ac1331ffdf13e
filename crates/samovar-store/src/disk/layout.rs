//! Where everything lies: the only file that knows a path.
//!
//! ```text
//!   CACHEDIR.TAG  FORMAT  index.sqlite3
//!   blobs/sha256/ab/<64 hex>[.ref]     complete and verified, 0444; .ref = where bytes lie that are not ours
//!   manifests/<key>.json   pins/<key>  what belongs together, and what is kept
//!   partial/<id>/{data,state.json}     downloads that are not whole yet
//!   snapshots/<key>/…                  links with real file names
//!   created/<sha256 of a name>.json    what names mean that users created over models
//!   prefixes/<weights>/<kind>/<tokens>/{state,facts.json}   prompt state that instances left behind, 0600
//!   packed/<source>/<id>/{data, facts.json}   weights in an engine's own layout, 0444; packing/<id> while one is made
//!   prepared/<source>/<id>/{data, facts.json}  a published model as an engine maps it, 0444; made below packing/ as well
//!   tmp/  trash/  quarantine/<hex>
//!   locks/{gc.lock, blob/<id>.lock}    never unlinked; and locks/ballast, room for when there is no other
//!   leases/<boot id>-<pid>-<random>    flocked for the life of a process; body = digests in use
//! ```
//!
//! Every name below the root is made of digests and constants. What comes from outside (a repository, a
//! file name, an etag) is hashed before it gets here, except a snapshot's file names, which are
//! [`crate::artifact::name::FilePath`]s.

use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, access};
use samovar_core::Digest;

use crate::artifact::key::KeyDigest;
use crate::config::StoreConfig;
use crate::disk::durable;
use crate::disk::network::is_network;
use crate::disk::partial::PartialId;
use crate::disk::plain;
use crate::error::Error;

/// The layout that this program writes.
pub(crate) const FORMAT: u32 = 1;

const TAG: &str = "Signature: 8a477f597d28d172789f06886806bc55\n\
    # This directory is a cache of models, kept by Samovar. Backups may leave it out.\n";
/// Directories that a store has from the start.
const DIRECTORIES: [&str; 16] = [
    "blobs",
    "blobs/sha256",
    "manifests",
    "pins",
    "partial",
    "snapshots",
    "prefixes",
    "packed",
    "prepared",
    "packing",
    "tmp",
    "trash",
    "quarantine",
    "locks",
    "locks/blob",
    "leases",
];

/// The paths of one store.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    root: PathBuf,
    index: PathBuf,
    is_writable: bool,
    is_network: bool,
}

impl Layout {
    /// The store below a directory, which is made when it is not there.
    ///
    /// A directory that cannot be written is opened to be read, when there is a store in it.
    ///
    /// # Errors
    /// [`Error::Newer`] for a later format; [`Error::Io`] when it can neither be written nor read, or when
    /// something else than a directory lies where one should be.
    pub(crate) fn open(config: &StoreConfig) -> Result<Self, Error> {
        match prepare(&config.cache_dir) {
            Ok(()) => (),
            Err(error) if is_refused_write(&error) && config.cache_dir.is_dir() => {
                return Self::open_read_only(&config.cache_dir);
            }
            Err(error) => return Err(Error::io("the cache directory could not be prepared")(error)),
        }
        let root = canonical(&config.cache_dir)?;
        let is_network = is_network(&root);
        let index =
            if is_network { index_elsewhere(&config.state_dir, &root)? } else { root.join("index.sqlite3") };
        let layout = Self { root, index, is_writable: true, is_network };
        layout.check_format()?;
        layout.write_marks()?;
        Ok(layout)
    }

    /// A store that is only read. Writes nothing, whatever the permissions are.
    ///
    /// # Errors
    /// [`Error::Newer`] for a later format; [`Error::Io`] when there is no such directory.
    pub(crate) fn open_read_only(root: &Path) -> Result<Self, Error> {
        let root = canonical(root)?;
        let index = root.join("index.sqlite3");
        let is_network = is_network(&root);
        let layout = Self { root, index, is_writable: false, is_network };
        layout.check_format()?;
        Ok(layout)
    }

    fn check_format(&self) -> Result<(), Error> {
        let path = self.format_path();
        let text = match plain::read(&self.root, &path, 64) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(Error::io("the cache's format could not be read")(error)),
        };
        let found = std::str::from_utf8(&text).ok().and_then(|text| text.trim().parse().ok());
        match found {
            Some(found) if found <= FORMAT => Ok(()),
            found => {
                Err(Error::Newer { path: self.root.clone(), found: found.unwrap_or(u32::MAX), known: FORMAT })
            }
        }
    }

    fn write_marks(&self) -> Result<(), Error> {
        let marks =
            [(self.root.join("CACHEDIR.TAG"), TAG.to_owned()), (self.format_path(), FORMAT.to_string())];
        for (path, text) in marks {
            if fs_err::symlink_metadata(&path).is_err() {
                durable::write(self, &path, text.as_bytes())
                    .map_err(Error::io("the cache's marks could not be written"))?;
            }
        }
        Ok(())
    }

    /// The directory that everything lies in, without symlinks.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Whether this process may write below the root.
    pub(crate) fn is_writable(&self) -> bool {
        self.is_writable
    }

    /// Whether the root lies on a network file system, where SQLite's shared memory does not work.
    pub(crate) fn is_network(&self) -> bool {
        self.is_network
    }

    pub(crate) fn index_path(&self) -> &Path {
        &self.index
    }

    pub(crate) fn format_path(&self) -> PathBuf {
        self.root.join("FORMAT")
    }

    pub(crate) fn blobs(&self) -> PathBuf {
        self.root.join("blobs").join("sha256")
    }

    /// The 256 directories that blobs lie in, of which some may not be there yet.
    pub(crate) fn blob_shards(&self) -> impl Iterator<Item = PathBuf> {
        let blobs = self.blobs();
        (0..=255u8).map(move |byte| blobs.join(format!("{byte:02x}")))
    }

    pub(crate) fn blob(&self, digest: &Digest) -> PathBuf {
        let hex = digest.to_string();
        self.blobs().join(&hex[..2]).join(hex)
    }

    /// Where it is written that the bytes of this digest lie elsewhere and are not ours.
    pub(crate) fn blob_reference(&self, digest: &Digest) -> PathBuf {
        let hex = digest.to_string();
        self.blobs().join(&hex[..2]).join(format!("{hex}.ref"))
    }

    pub(crate) fn manifests(&self) -> PathBuf {
        self.root.join("manifests")
    }

    pub(crate) fn manifest(&self, key: &KeyDigest) -> PathBuf {
        self.manifests().join(format!("{key}.json"))
    }

    pub(crate) fn pins(&self) -> PathBuf {
        self.root.join("pins")
    }

    pub(crate) fn pin(&self, key: &KeyDigest) -> PathBuf {
        self.pins().join(key.to_string())
    }

    pub(crate) fn partials(&self) -> PathBuf {
        self.root.join("partial")
    }

    pub(crate) fn partial(&self, id: &PartialId) -> PathBuf {
        self.partials().join(id.to_string())
    }

    pub(crate) fn snapshots(&self) -> PathBuf {
        self.root.join("snapshots")
    }

    pub(crate) fn snapshot(&self, key: &KeyDigest) -> PathBuf {
        self.snapshots().join(key.to_string())
    }

    pub(crate) fn prefixes(&self) -> PathBuf {
        self.root.join("prefixes")
    }

    /// What users created; made with the first of them.
    pub(crate) fn created(&self) -> PathBuf {
        created_below(&self.root)
    }

    /// What a name means, by the digest of its text.
    pub(crate) fn created_document(&self, name: &Digest) -> PathBuf {
        self.created().join(format!("{name}.json"))
    }

    /// What instances of an artifact left behind.
    pub(crate) fn prefixes_of(&self, key: &KeyDigest) -> PathBuf {
        self.prefixes().join(key.to_string())
    }

    pub(crate) fn packed(&self) -> PathBuf {
        self.root.join("packed")
    }

    pub(crate) fn prepared(&self) -> PathBuf {
        self.root.join("prepared")
    }

    /// Packed and prepared files that are being made.
    pub(crate) fn packing(&self) -> PathBuf {
        self.root.join("packing")
    }

    pub(crate) fn packing_of(&self, id: &PartialId) -> PathBuf {
        self.packing().join(id.to_string())
    }

    /// Files on their way to another name; whatever lies here while no process writes is rubbish.
    pub(crate) fn tmp(&self) -> PathBuf {
        self.root.join("tmp")
    }

    /// What was taken out of the way and only waits for being unlinked.
    pub(crate) fn trash(&self) -> PathBuf {
        self.root.join("trash")
    }

    pub(crate) fn quarantines(&self) -> PathBuf {
        self.root.join("quarantine")
    }

    pub(crate) fn quarantine(&self, digest: &Digest) -> PathBuf {
        self.quarantines().join(digest.to_string())
    }

    /// Room that is given up when there is no other.
    pub(crate) fn ballast(&self) -> PathBuf {
        self.root.join("locks").join("ballast")
    }

    pub(crate) fn gc_lock(&self) -> PathBuf {
        self.root.join("locks").join("gc.lock")
    }

    /// Held by the process that brings these bytes in.
    pub(crate) fn blob_lock(&self, id: &PartialId) -> PathBuf {
        self.root.join("locks").join("blob").join(format!("{id}.lock"))
    }

    pub(crate) fn leases(&self) -> PathBuf {
        self.root.join("leases")
    }
}

/// What users created in the store below `root`.
pub(crate) fn created_below(root: &Path) -> PathBuf {
    root.join("created")
}

fn canonical(root: &Path) -> Result<PathBuf, Error> {
    fs_err::canonicalize(root).map_err(Error::io("the cache directory could not be opened"))
}

/// Makes what a store consists of. The directory itself may be reached through a symlink, as a user who
/// moved the cache to another disk left it; below it nothing may.
fn prepare(root: &Path) -> io::Result<()> {
    if fs_err::metadata(root).is_err() {
        durable::create_private_dir_all(root)?;
    }
    access(root, Access::WRITE_OK | Access::EXEC_OK)?;
    let root = fs_err::canonicalize(root)?;
    for name in DIRECTORIES {
        durable::create_private_dir(&root.join(name))?;
    }
    Ok(())
}

fn is_refused_write(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied)
}

/// The index of a store whose own file system cannot carry one: below the state directory, by the root's path.
fn index_elsewhere(state_dir: &Path, root: &Path) -> Result<PathBuf, Error> {
    let dir = state_dir.join("index");
    durable::create_private_dir_all(&dir)
        .map_err(Error::io("the directory for the index could not be made"))?;
    let name = Digest::of_bytes(root.as_os_str().as_encoded_bytes()).to_string();
    Ok(dir.join(format!("{}.sqlite3", &name[..32])))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn config(dir: &Path) -> StoreConfig {
        StoreConfig::new(dir.join("cache"), dir.join("state"))
    }

    #[test]
    fn makes_private_directories_and_marks_them() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::open(&config(dir.path())).unwrap();
        for name in DIRECTORIES {
            let mode = fs_err::metadata(layout.root().join(name)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o700, "{name}");
        }
        assert!(
            fs_err::read_to_string(layout.root().join("CACHEDIR.TAG"))
                .unwrap()
                .starts_with("Signature: 8a477f597d28d172")
        );
        assert_eq!(fs_err::read_to_string(layout.format_path()).unwrap(), "1");
    }

    #[test]
    fn refuses_a_later_format_and_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::open(&config(dir.path())).unwrap();
        fs_err::remove_file(layout.format_path()).unwrap();
        fs_err::write(layout.format_path(), "2").unwrap();
        assert!(matches!(Layout::open(&config(dir.path())), Err(Error::Newer { found: 2, known: 1, .. })));
        assert_eq!(fs_err::read_to_string(layout.format_path()).unwrap(), "2");
    }

    #[test]
    fn refuses_a_symlink_where_a_directory_of_the_store_should_be() {
        let dir = tempfile::tempdir().unwrap();
        let elsewhere = dir.path().join("elsewhere");
        fs_err::create_dir_all(&elsewhere).unwrap();
        fs_err::create_dir_all(dir.path().join("cache")).unwrap();
        fs_err::os::unix::fs::symlink(&elsewhere, dir.path().join("cache/blobs")).unwrap();
        assert!(matches!(Layout::open(&config(dir.path())), Err(Error::Io { .. })));
        assert_eq!(fs_err::read_dir(&elsewhere).unwrap().count(), 0);
    }

    #[test]
    fn follows_a_symlink_to_the_store_itself() {
        let dir = tempfile::tempdir().unwrap();
        fs_err::create_dir_all(dir.path().join("disk")).unwrap();
        fs_err::os::unix::fs::symlink(dir.path().join("disk"), dir.path().join("cache")).unwrap();
        let layout = Layout::open(&config(dir.path())).unwrap();
        assert!(layout.root().ends_with("disk"));
    }
}
