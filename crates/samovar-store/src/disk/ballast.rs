//! A little room that is given up when the disk is full, so that what frees room can be written down first.
//!
//! Removing an artifact needs a few pages of the index. On a disk without any, nothing could be removed; so a
//! file that holds nothing but room lies ready, and is laid down again when there is plenty.

use rustix::fs::{FallocateFlags, fallocate};

use crate::disk::durable;
use crate::disk::layout::Layout;
use crate::disk::space::free_disk_bytes;

const BYTES: u64 = 1 << 20;
/// It is only laid down where it does not matter.
const PLENTY_BYTES: u64 = 4 * BYTES;

/// Lays it down where there is plenty of room. Not being able to is no harm.
pub(crate) fn lay(layout: &Layout) {
    let path = layout.ballast();
    let is_plenty = free_disk_bytes(layout.root()).is_ok_and(|free| free >= PLENTY_BYTES);
    if !is_plenty || fs_err::symlink_metadata(&path).is_ok() {
        return;
    }
    if let Ok(file) = durable::create_new(&path)
        && fallocate(&file, FallocateFlags::empty(), 0, BYTES).is_err()
    {
        // Without room in it, it is good for nothing.
        let _ = fs_err::remove_file(&path);
    }
}

/// Gives it up when less than it holds is left. True = there is room now that was not there before.
pub(crate) fn give_up_if_full(layout: &Layout) -> bool {
    let is_full = free_disk_bytes(layout.root()).is_ok_and(|free| free < BYTES);
    is_full && layout.is_writable() && fs_err::remove_file(layout.ballast()).is_ok()
}
