//! What a worker may not do: a model is foreign data read by native code, so the process that reads it is given away
//! everything it does not need.
//!
//! ```text
//!   parent   prepare(command)   no environment, no inherited descriptors, own session, working directory /
//!   child    enter(plan)        (step back) ─► kill order ─► limits ─► privileges ─► files ─► calls ─► Report
//!                               (before any other thread exists, before the model is touched)
//! ```
//!
//! Each part is tried by itself: what one kernel lacks takes nothing from the others, and the [`Report`] says what
//! was reached and why the rest was not. With [`Mode::Require`] a missing part is an error. Nothing here can be
//! undone, and nothing here decides what a worker reads.

mod policy;
mod report;
mod spawn;

#[cfg(not(target_os = "linux"))]
mod elsewhere;
#[cfg(target_os = "linux")]
mod linux;

use samovar_core::{ErrorKind, Failure};

#[cfg(target_os = "linux")]
pub(crate) use linux::move_bound;
pub use policy::{Mode, SandboxPolicy};
pub use report::{Level, Part, PartStatus, Report};
pub use spawn::prepare;

#[cfg(not(target_os = "linux"))]
use elsewhere as system;
#[cfg(target_os = "linux")]
use linux as system;

/// How a worker says that a call was denied, before the number; each number once.
#[cfg(target_os = "linux")]
pub(crate) const DENIED: &str = "WARN the sandbox denied system call ";

/// Gives up, for this process and for good, what `policy` does not grant.
///
/// To be called on the only thread of the process: threads that exist already would keep what they have, so they
/// are found and told as a reason why a part was not reached. Threads started afterwards are in the sandbox.
///
/// # Errors
/// `Unsupported` with [`Mode::Require`], when a part cannot be reached; the process must then end. Parts reached
/// before stay in force.
pub fn enter(plan: &SandboxPolicy) -> Result<Report, Failure> {
    if plan.is_background {
        system::step_back();
    }
    let report = match plan.mode {
        Mode::Off => Report::off(),
        Mode::Auto | Mode::Require => Report { parts: system::enter(plan) },
    };
    match report.first_missing() {
        Some((part, why)) if plan.mode == Mode::Require => Err(Failure::new(
            ErrorKind::Unsupported,
            format!("the worker's sandbox is incomplete, and it is required: {}: {why}", part.name()),
        )
        .with_hint("use a kernel with landlock and seccomp, or allow less with sandbox = \"auto\"")),
        _ => Ok(report),
    }
}

/// Closes this process to others of the same user: no process traces it, reads its memory or takes a core dump of it. Meant for
/// the daemon, which holds what its clients wrote. Root still may. Elsewhere than on Linux nothing changes.
///
/// # Errors
/// When the kernel refuses.
pub fn forbid_inspection() -> std::io::Result<()> {
    system::forbid_inspection()
}
