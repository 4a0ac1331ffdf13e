//! The way out of the store: what was moved away under a lock is unlinked without one.

use std::io;

use super::layout::Layout;
use super::space::entries;

/// Unlinks what lies in the trash. What cannot be unlinked now waits for the next time.
pub(crate) fn empty_trash(layout: &Layout) {
    for (_, path) in entries(&layout.trash()).unwrap_or_default() {
        let removed = match fs_err::symlink_metadata(&path) {
            Ok(found) if found.is_dir() => fs_err::remove_dir_all(&path),
            Ok(_) => fs_err::remove_file(&path),
            Err(error) => Err(error),
        };
        match removed {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(%error, "the trash could not be emptied");
            }
            _ => (),
        }
    }
}
