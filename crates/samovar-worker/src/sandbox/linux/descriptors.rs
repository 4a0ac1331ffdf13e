//! Descriptors that the parent itself inherited from the process that started it, and would hand on.

#![allow(unsafe_code, reason = "code between fork and exec")]

use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// Marks every descriptor but the standard three to be closed when the program starts.
pub(in crate::sandbox) fn close_at_exec(command: &mut Command) {
    let mark = || {
        const FIRST: libc::c_uint = 3;
        // SAFETY: one system call that changes flags of this process's own descriptors and touches no memory.
        let marked = unsafe {
            libc::syscall(libc::SYS_close_range, FIRST, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC)
        };
        match marked {
            0 => Ok(()),
            _ => match io::Error::last_os_error() {
                // A kernel before 5.11: those of our own are marked by the code that opened them.
                error if matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EINVAL)) => Ok(()),
                error => Err(error),
            },
        }
    };
    // SAFETY: the closure makes one system call, allocates nothing and takes no lock.
    unsafe { command.pre_exec(mark) };
}
