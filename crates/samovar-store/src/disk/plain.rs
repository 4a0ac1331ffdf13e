//! Opens and looks at files of a store without following any symlink below its root.
//!
//! A symlink planted in the cache must not make the store read, write or remove something elsewhere. The
//! kernel checks this in one call (Linux's `openat2`); where it cannot, each component is looked at in turn.

use std::io::{self, Read as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Component, Path};

use fs_err::File;
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;

/// How the root is held while something below it is opened.
#[cfg(target_os = "linux")]
const HELD: OFlags = OFlags::PATH;
#[cfg(not(target_os = "linux"))]
const HELD: OFlags = OFlags::RDONLY;

/// Opens a plain file to be read.
///
/// # Errors
/// As opening it would; a symlink on the way or anything but a file at the end is an error too.
pub(crate) fn open(root: &Path, path: &Path) -> io::Result<File> {
    open_with(root, path, OFlags::RDONLY, Mode::empty())
}

/// Opens a plain file with these flags; symlinks are refused whatever they are.
pub(crate) fn open_with(root: &Path, path: &Path, flags: OFlags, mode: Mode) -> io::Result<File> {
    let below = path.strip_prefix(root).map_err(|_| outside(path))?;
    // Without NONBLOCK a planted FIFO would hold the open for ever.
    let flags = flags | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let dir = openat(CWD, root, HELD | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|errno| named(errno, root))?;
    let opened = match in_one_call(&dir, below, flags, mode) {
        Some(opened) => opened,
        None => step_by_step(&dir, root, below, flags, mode)?,
    };
    let fd = opened.map_err(|errno| named(errno, path))?;
    let file = File::from_parts(std::fs::File::from(fd), path);
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("{} is no plain file", path.display()),
        ));
    }
    Ok(file)
}

/// `None` where the kernel, or a filter of its calls, does not have it.
#[cfg(target_os = "linux")]
fn in_one_call(dir: &OwnedFd, below: &Path, flags: OFlags, mode: Mode) -> Option<Result<OwnedFd, Errno>> {
    use rustix::fs::{ResolveFlags, openat2};
    match openat2(dir, below, flags, mode, ResolveFlags::NO_SYMLINKS | ResolveFlags::BENEATH) {
        Err(Errno::NOSYS | Errno::PERM | Errno::INVAL) => None,
        opened => Some(opened),
    }
}

#[cfg(not(target_os = "linux"))]
fn in_one_call(_: &OwnedFd, _: &Path, _: OFlags, _: Mode) -> Option<Result<OwnedFd, Errno>> {
    None
}

fn step_by_step(
    dir: &OwnedFd,
    root: &Path,
    below: &Path,
    flags: OFlags,
    mode: Mode,
) -> io::Result<Result<OwnedFd, Errno>> {
    refuse_links(root, below)?;
    Ok(openat(dir, below, flags, mode))
}

/// Reads a plain file of at most `max_bytes`.
///
/// # Errors
/// As [`open`]; a longer file is an error.
pub(crate) fn read(root: &Path, path: &Path, max_bytes: u64) -> io::Result<Vec<u8>> {
    let file = open(root, path)?;
    let mut bytes = Vec::new();
    file.take(max_bytes + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > max_bytes {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("{} has more than {max_bytes} bytes", path.display()),
        ));
    }
    Ok(bytes)
}

/// Facts about a plain file; `None` when nothing is there.
///
/// # Errors
/// When it cannot be looked at, or is not a plain file, or a symlink lies on the way.
pub(crate) fn metadata(root: &Path, path: &Path) -> io::Result<Option<std::fs::Metadata>> {
    match look(root, path) {
        Ok(facts) if facts.is_file() => Ok(Some(facts)),
        Ok(facts) => Err(not_plain(path, facts.file_type())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn look(root: &Path, path: &Path) -> io::Result<std::fs::Metadata> {
    let below = path.strip_prefix(root).map_err(|_| outside(path))?;
    if let Some(parent) = below.parent() {
        refuse_links(root, parent)?;
    }
    fs_err::symlink_metadata(path)
}

fn refuse_links(root: &Path, below: &Path) -> io::Result<()> {
    let mut path = root.to_path_buf();
    for component in below.components() {
        let Component::Normal(name) = component else { return Err(outside(below)) };
        path.push(name);
        match fs_err::symlink_metadata(&path) {
            Ok(facts) if facts.is_symlink() => return Err(not_plain(&path, facts.file_type())),
            Ok(_) => (),
            // What is not there is no link; it may be about to be made.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn not_plain(path: &Path, kind: std::fs::FileType) -> io::Error {
    let what = if kind.is_symlink() {
        "a symlink"
    } else if kind.is_dir() {
        "a directory"
    } else if kind.is_fifo() || kind.is_socket() {
        "a pipe or socket"
    } else {
        "a device"
    };
    io::Error::new(
        io::ErrorKind::InvalidInput,
        format!("{} is {what}, which has no business in the cache", path.display()),
    )
}

fn outside(path: &Path) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, format!("{} lies outside the cache", path.display()))
}

fn named(errno: Errno, path: &Path) -> io::Error {
    if errno == Errno::LOOP {
        let text = format!("a symlink lies on the way to {}", path.display());
        return io::Error::new(io::ErrorKind::InvalidInput, text);
    }
    // The kernel refuses a socket with these, and a device that this machine does not have.
    if [Errno::NXIO, Errno::NODEV].contains(&errno) {
        let text = format!("{} is no plain file", path.display());
        return io::Error::new(io::ErrorKind::InvalidInput, text);
    }
    let error = io::Error::from(errno);
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use fs_err::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn reads_a_plain_file_and_bounds_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        fs_err::write(&path, "abc").unwrap();
        assert_eq!(read(dir.path(), &path, 3).unwrap(), b"abc");
        assert!(read(dir.path(), &path, 2).is_err());
        assert_eq!(metadata(dir.path(), &path).unwrap().unwrap().len(), 3);
        assert!(metadata(dir.path(), &dir.path().join("b")).unwrap().is_none());
        assert!(metadata(dir.path(), &dir.path().join("b/c")).unwrap().is_none());
    }

    #[test]
    fn refuses_symlinks_at_the_end_and_on_the_way() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root");
        fs_err::create_dir_all(root.join("real")).unwrap();
        fs_err::write(root.join("real/file"), "abc").unwrap();
        symlink("real", root.join("dir")).unwrap();
        symlink("real/file", root.join("file")).unwrap();
        for path in ["dir/file", "file"] {
            let path = root.join(path);
            assert!(open(&root, &path).is_err(), "{path:?}");
            assert!(metadata(&root, &path).is_err(), "{path:?}");
        }
        assert!(open(&root, Path::new("/etc/hostname")).is_err());
        assert!(open(&root, &root.join("../root/real/file")).is_err());
    }

    #[test]
    fn without_the_one_call_files_are_made_and_links_refused_all_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        fs_err::create_dir(root.join("real")).unwrap();
        symlink("real", root.join("link")).unwrap();
        let held = openat(CWD, root, HELD | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).unwrap();
        let make = |below: &str| {
            let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW;
            step_by_step(&held, root, Path::new(below), flags, Mode::RUSR | Mode::WUSR)
        };
        assert!(make("real/new").unwrap().is_ok() && make("new").unwrap().is_ok());
        assert!(metadata(root, &root.join("real/new")).unwrap().is_some());
        assert!(make("link/new").is_err() && make("../new").is_err());
        assert_eq!(make("nowhere/new").unwrap().unwrap_err(), Errno::NOENT);
    }

    #[test]
    fn refuses_what_is_no_file_without_waiting_for_it() {
        let dir = tempfile::tempdir().unwrap();
        let pipe = dir.path().join("pipe");
        rustix::fs::mknodat(CWD, &pipe, rustix::fs::FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        assert!(open(dir.path(), &pipe).is_err());
        assert!(metadata(dir.path(), &pipe).is_err());
    }
}
