//! How often this process had to wait for the disk to bring a page of a file that it has mapped. It reads a counter of the
//! kernel, and never a file.
#![allow(unsafe_code, reason = "no safe binding has getrusage")]

use std::mem::MaybeUninit;
use std::time::Duration;

/// What one such wait takes at most, as a rule: that of a slow disk.
const LONGEST_WAIT: Duration = Duration::from_millis(20);

/// Waits of all threads so far; 0 where the system does not tell.
pub(super) fn waits() -> u64 {
    let mut usage = MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: the pointer is to a structure of that type, which the call fills. It is of plain numbers, so that it is sound
    // without being filled, too.
    let usage = unsafe {
        libc::getrusage(libc::RUSAGE_SELF, usage.as_mut_ptr());
        usage.assume_init()
    };
    usage.ru_majflt as u64
}

/// The time that so many waits may have taken.
pub(super) fn waited(waits: u64) -> Duration {
    LONGEST_WAIT.saturating_mul(u32::try_from(waits).unwrap_or(u32::MAX))
}
