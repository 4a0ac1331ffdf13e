//! The parts of the sandbox by Linux's own means, in the order in which each still may do what it needs.

mod background;
mod calls;
mod descriptors;
mod files;
mod limits;
mod privileges;

pub(super) use background::step_back;
pub(super) use descriptors::close_at_exec;

use super::{Outcome, Part, Plan};

/// How a part was reached, or why not.
type Entered = Result<String, String>;

pub(super) fn enter(plan: &Plan) -> Vec<(Part, Outcome)> {
    // Landlock comes after no_new_privs, which it needs; the filter of system calls comes last, since it would deny
    // what the others do.
    let limits = limits::enter(plan);
    let kill_order = limits::be_killed_first();
    let threads = only_thread();
    let privileges = threads.clone().and_then(|()| privileges::enter());
    let files = threads.clone().and_then(|()| files::enter(plan));
    let calls = threads.and_then(|()| calls::enter());
    [
        (Part::Limits, limits),
        (Part::KillOrder, kill_order),
        (Part::Privileges, privileges),
        (Part::Files, files),
        (Part::Calls, calls),
    ]
    .map(|(part, entered)| (part, entered.map_or_else(Outcome::Missing, Outcome::Reached)))
    .into()
}

/// Privileges, landlock and the filter are a thread's, and its children's; those of other threads stay as they are.
fn only_thread() -> Result<(), String> {
    let threads = fs_err::read_dir("/proc/self/task").map_err(|error| error.to_string())?.count();
    match threads {
        1 => Ok(()),
        threads => Err(format!("{threads} threads exist already and would not be in it")),
    }
}
