//! A session of its own for each worker: no terminal, and its own place in the kernel's division of the cores.
//!
//! Ctrl-C in a terminal is for the daemon, which tells its workers itself. And a kernel with autogroups divides the cores
//! between sessions before it divides them between the threads of each: in a session of its own, a worker with one thread
//! weighs as much as a build with sixteen that was started from the same terminal as the daemon.
//!
//! *Source:* `sched(7)`, "The autogroup feature".

#![allow(unsafe_code, reason = "code between fork and exec")]

use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::Duration;

use rustix::process::{getpid, getsid, setsid};

/// The session's niceness; that of a thread counts only within its session.
const AUTOGROUP: &str = "/proc/self/autogroup";
/// The kernel takes one change in a tenth of a second from all ordinary users together, and refuses others meanwhile.
const REFUSED_FOR: Duration = Duration::from_millis(110);
/// How often the change is asked for.
const ATTEMPTS: u32 = 5;

/// The process to be leads a new session.
pub(in crate::sandbox) fn lead_session(command: &mut Command) {
    let lead = || -> io::Result<()> {
        // It has just been forked, so it leads no group, and nothing is in the way.
        setsid()?;
        Ok(())
    };
    // SAFETY: the closure makes one system call, allocates nothing and takes no lock.
    unsafe { command.pre_exec(lead) };
}

/// The last in line among sessions, too, as far as the kernel lets it; where this process leads none, nothing happens, since
/// others would have to wait with it.
pub(super) fn step_back(niceness: i32) {
    if !getsid(None).is_ok_and(|session| session == getpid()) {
        return;
    }
    for _ in 0..ATTEMPTS {
        match fs_err::write(AUTOGROUP, niceness.to_string()) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => std::thread::sleep(REFUSED_FOR),
            _ => return,
        }
    }
}
