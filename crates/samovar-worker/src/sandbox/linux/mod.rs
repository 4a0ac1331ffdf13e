//! The parts of the sandbox by Linux's own means, in the order in which each still may do what it needs.

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod allowed;
mod background;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod calls;
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
#[path = "unlisted.rs"]
mod calls;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod denials;
mod descriptors;
mod files;
mod limits;
mod privileges;
mod session;
mod threads;

use rustix::process::{DumpableBehavior, set_dumpable_behavior};

pub(super) use background::step_back;
pub(super) use descriptors::close_at_exec;
pub(super) use session::lead_session;
pub(crate) use threads::move_bound;

use super::{Part, PartStatus, SandboxPolicy};

/// How a part was reached, or why not.
type Entered = Result<String, String>;

pub(super) fn enter(plan: &SandboxPolicy) -> Vec<(Part, PartStatus)> {
    // Who is killed first is written to a file of this process, which an ordinary user may not write any more once the
    // limits have made it private. Landlock comes after no_new_privs, which it needs; the filter of system calls comes
    // last, since it would deny what the others do.
    let kill_order = limits::be_killed_first();
    let limits = limits::enter(plan);
    let threads = only_thread();
    let privileges = threads.clone().and_then(|()| privileges::enter());
    let files = threads.clone().and_then(|()| files::enter(plan));
    let calls = threads.and_then(|()| calls::enter(plan));
    [
        (Part::Limits, limits),
        (Part::KillOrder, kill_order),
        (Part::Privileges, privileges),
        (Part::Files, files),
        (Part::Calls, calls),
    ]
    .map(|(part, entered)| (part, entered.map_or_else(PartStatus::Missing, PartStatus::Reached)))
    .into()
}

/// No core dump, also not by a handler that takes them through a pipe and looks at no limit; and no process of the same user
/// traces this process or reads its memory. What the kernel keeps about it under `/proc` is root's from now on.
pub(super) fn forbid_inspection() -> std::io::Result<()> {
    Ok(set_dumpable_behavior(DumpableBehavior::NotDumpable)?)
}

/// Privileges, landlock and the filter are a thread's, and its children's; those of other threads stay as they are.
fn only_thread() -> Result<(), String> {
    let threads = fs_err::read_dir("/proc/self/task").map_err(|error| error.to_string())?.count();
    match threads {
        1 => Ok(()),
        threads => Err(format!("{threads} threads exist already and would not be in it")),
    }
}
