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

use crate::disk::layout::Layout;

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

/// Gives a sealed file its final name unless something lies there, and makes the name last. False when something
/// does: it stays as it is, since a process may have its inode open or allowed, and `from` stays too.
pub(crate) fn publish_new(from: &Path, to: &Path) -> io::Result<bool> {
    let is_new = rename_new(from, to)?;
    if is_new {
        sync_parent(to)?;
    }
    Ok(is_new)
}

/// Renames without ever replacing; false when something lies there.
#[cfg(any(target_os = "linux", target_os = "macos"))]
fn rename_new(from: &Path, to: &Path) -> io::Result<bool> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    use rustix::io::Errno;
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        Ok(()) => Ok(true),
        Err(Errno::EXIST) => Ok(false),
        // Not every file system knows how.
        Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => link_new(from, to),
        Err(errno) => {
            let error = io::Error::from(errno);
            let text = format!("rename {} to {}: {error}", from.display(), to.display());
            Err(io::Error::new(error.kind(), text))
        }
    }
}

#[cfg(not(any(target_os = "linux", target_os = "macos")))]
fn rename_new(from: &Path, to: &Path) -> io::Result<bool> {
    link_new(from, to)
}

/// A second name never replaces anything; where there are none, a look has to do.
fn link_new(from: &Path, to: &Path) -> io::Result<bool> {
    match fs_err::hard_link(from, to) {
        // What stays behind of the first name is rubbish that collection sweeps.
        Ok(()) => fs_err::remove_file(from).or(Ok(())).map(|()| true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(_) if fs_err::symlink_metadata(to).is_ok() => Ok(false),
        Err(_) => fs_err::rename(from, to).map(|()| true),
    }
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

/// A name that no other process uses.
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
    fn a_name_that_is_there_keeps_its_inode() {
        use std::os::unix::fs::MetadataExt as _;
        let dir = tempfile::tempdir().unwrap();
        for publish in [publish_new, link_new] {
            let (first, second, to) = (dir.path().join("a"), dir.path().join("b"), dir.path().join("to"));
            fs_err::write(&first, "equal").unwrap();
            fs_err::write(&second, "equal").unwrap();
            assert!(publish(&first, &to).unwrap());
            let inode = fs_err::metadata(&to).unwrap().ino();
            assert!(!publish(&second, &to).unwrap());
            assert_eq!(fs_err::metadata(&to).unwrap().ino(), inode);
            assert!(!first.exists() && second.exists());
            fs_err::remove_file(&to).unwrap();
        }
    }

    #[test]
    fn a_failed_write_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::open(&StoreConfig::new(dir.path().join("c"), dir.path().join("s"))).unwrap();
        assert!(write(&layout, &layout.manifests().join("no/such/dir"), b"x").is_err());
        assert_eq!(fs_err::read_dir(layout.tmp()).unwrap().count(), 0);
    }
}
