//! How a worker for which no caller waits gets out of the way of all others.

#![allow(unsafe_code, reason = "no safe interface has these calls")]

/// The last in line for a processor, among those that the scheduler treats alike.
const NICEST: i32 = 19;
/// `ioprio_set`: of this thread; the class that reads when no other program does.
const IOPRIO_WHO_PROCESS: libc::c_long = 1;
const IOPRIO_CLASS_IDLE: libc::c_long = 3;
const IOPRIO_CLASS_SHIFT: libc::c_long = 13;

/// Leaves processors and disks to any other program that wants them, as far as the system lets it. Holds for the calling thread and
/// for those that it starts later.
pub(in crate::sandbox) fn step_back() {
    rustix::process::nice(NICEST).ok();
    super::session::step_back(NICEST);
    // SAFETY: all zeros are what the policy below wants to see.
    let parameters: libc::sched_param = unsafe { std::mem::zeroed() };
    // SAFETY: one system call about this thread, which reads the parameters and nothing else.
    unsafe { libc::sched_setscheduler(0, libc::SCHED_IDLE, &raw const parameters) };
    // SAFETY: one system call about this thread that touches no memory.
    unsafe {
        libc::syscall(libc::SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, IOPRIO_CLASS_IDLE << IOPRIO_CLASS_SHIFT)
    };
}
