//! Writes files so that a final name never holds anything but the whole content, also after a power cut.
//!
//! ```text
//!   tmp/<random> ─► write ─► fsync ─► chmod 0444 ─► rename ─► fsync(directory)
//! ```
//!
//! An `fsync` that fails is never tried again: the kernel may have dropped the pages and would report
//! success. The temporary file is thrown away instead.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::Path;

use fs_err::File;
use fs_err::os::unix::fs::OpenOptionsExt as _;

use crate::layout::Layout;

/// Mode of every file with a final name.
const FINAL_MODE: u32 = 0o444;
const PRIVATE_DIR_MODE: u32 = 0o700;

/// Writes a small file under its final name, whole or not at all. Replaces what lies there.
///
/// # Errors
/// Whatever the system says; nothing is left under the final name that was not there before.
pub(crate) fn write(layout: &Layout, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let tmp = layout.tmp().join(random_name());
    let written = create_new(&tmp).and_then(|mut file| {
        file.write_all(bytes)?;
        seal(&file)?;
        publish(&tmp, path)
    });
    if written.is_err() {
        // Already gone, or rubbish that collection sweeps.
        let _ = fs_err::remove_file(&tmp);
    }
    written
}

/// Makes a new private file; a file or symlink that is there is an error.
pub(crate) fn create_new(path: &Path) -> io::Result<File> {
    fs_err::OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path)
}

/// Brings the bytes to the disk and takes away the right to write.
pub(crate) fn seal(file: &File) -> io::Result<()> {
    file.sync_all()?;
    file.set_permissions(std::fs::Permissions::from_mode(FINAL_MODE))
}

/// Gives a sealed file its final name and makes the name last.
pub(crate) fn publish(from: &Path, to: &Path) -> io::Result<()> {
    fs_err::rename(from, to)?;
    sync_parent(to)
}

/// Makes the names in the directory of `path` last.
pub(crate) fn sync_parent(path: &Path) -> io::Result<()> {
    let parent = path.parent().ok_or_else(|| io::Error::other("a path of the store without a parent"))?;
    File::open(parent)?.sync_all()
}

/// Makes one private directory, unless it is there; a symlink is not taken for one.
pub(crate) fn create_private_dir(path: &Path) -> io::Result<()> {
    match std::fs::DirBuilder::new().mode(PRIVATE_DIR_MODE).create(path) {
        Ok(()) => sync_parent(path),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            if fs_err::symlink_metadata(path)?.is_dir() {
                return Ok(());
            }
            let text = format!("{} is not a directory", path.display());
            Err(io::Error::new(io::ErrorKind::NotADirectory, text))
        }
        Err(error) => Err(io::Error::new(error.kind(), format!("{}: {error}", path.display()))),
    }
}

/// Makes a private directory and what is missing above it.
pub(crate) fn create_private_dir_all(path: &Path) -> io::Result<()> {
    std::fs::DirBuilder::new()
        .mode(PRIVATE_DIR_MODE)
        .recursive(true)
        .create(path)
        .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))
}

/// A name that nobody else uses.
pub(crate) fn random_name() -> String {
    // The standard library's hasher is keyed by the system's randomness, differently each time.
    let random = || RandomState::new().build_hasher().finish();
    format!("{}-{:016x}{:016x}", std::process::id(), random(), random())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::StoreConfig;

    #[test]
    fn a_final_name_is_read_only_and_whole_and_nothing_stays_behind() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::open(&StoreConfig::new(dir.path().join("c"), dir.path().join("s"))).unwrap();
        let path = layout.manifests().join("x.json");
        write(&layout, &path, b"{}").unwrap();
        write(&layout, &path, b"{ }").unwrap();
        assert_eq!(fs_err::read(&path).unwrap(), b"{ }");
        assert_eq!(fs_err::metadata(&path).unwrap().permissions().mode() & 0o777, 0o444);
        assert_eq!(fs_err::read_dir(layout.tmp()).unwrap().count(), 0);
    }

    #[test]
    fn a_failed_write_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::open(&StoreConfig::new(dir.path().join("c"), dir.path().join("s"))).unwrap();
        assert!(write(&layout, &layout.manifests().join("no/such/dir"), b"x").is_err());
        assert_eq!(fs_err::read_dir(layout.tmp()).unwrap().count(), 0);
    }
}
