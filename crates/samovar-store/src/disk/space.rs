//! How much room there is on the disk, and how much files and folders take of it. Changes nothing.

use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// Bytes of the disk that we may write.
pub(crate) fn free_disk_bytes(root: &Path) -> io::Result<u64> {
    let facts = rustix::fs::statvfs(root)?;
    Ok(facts.f_bavail.saturating_mul(facts.f_frsize))
}

/// Names in a directory that may be missing; what is no text is no name of ours, and is left alone.
pub(crate) fn entries(dir: &Path) -> io::Result<Vec<(String, PathBuf)>> {
    let found = match fs_err::read_dir(dir) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut names = Vec::new();
    for entry in found {
        let entry = entry?;
        if let Ok(name) = entry.file_name().into_string() {
            names.push((name, entry.path()));
        }
    }
    names.sort();
    Ok(names)
}

/// Directories below a directory that may be missing, or on its way out.
pub(crate) fn folders(dir: &Path) -> io::Result<Vec<(String, PathBuf)>> {
    let mut found = entries(dir)?;
    found.retain(|(_, path)| fs_err::symlink_metadata(path).is_ok_and(|facts| facts.is_dir()));
    Ok(found)
}

/// Bytes on the disk that removing this gives back, and when something of it changed last, in milliseconds
/// since 1970. Follows no link.
pub(crate) fn bytes_below(path: &Path, depth: u32) -> (u64, u64) {
    let Ok(found) = fs_err::symlink_metadata(path) else { return (0, 0) };
    if !found.is_dir() {
        let bytes = if found.nlink() > 1 { 0 } else { found.blocks() * 512 };
        return (bytes, changed_ms(&found));
    }
    let below = if depth == 0 { Vec::new() } else { entries(path).unwrap_or_default() };
    below.iter().fold((0, changed_ms(&found)), |(bytes, changed), (_, path)| {
        let (more, later) = bytes_below(path, depth - 1);
        (bytes + more, changed.max(later))
    })
}

/// When a file was last written or renamed.
pub(crate) fn changed_ms(file: &Metadata) -> u64 {
    let ms = file.ctime().saturating_mul(1_000).saturating_add(file.ctime_nsec() / 1_000_000);
    u64::try_from(ms).unwrap_or(0)
}
