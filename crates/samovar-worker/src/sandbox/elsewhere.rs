//! Systems that are not Linux: there is nothing to give up rights with.

use super::{Outcome, Part, Plan, Report};

/// Not done here.
pub(super) fn step_back() {}

pub(super) fn enter(_: &Plan) -> Vec<(Part, Outcome)> {
    Report::missing("this system is not Linux").parts
}

/// Not done here.
#[allow(clippy::unnecessary_wraps, reason = "Linux may refuse")]
pub(super) fn forbid_inspection() -> std::io::Result<()> {
    Ok(())
}
