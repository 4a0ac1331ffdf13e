//! Systems that are not Linux: there is nothing to give up rights with.

use super::{Part, PartStatus, Report, SandboxPolicy};

/// Not done here.
pub(super) fn step_back() {}

pub(super) fn enter(_: &SandboxPolicy) -> Vec<(Part, PartStatus)> {
    Report::missing("this system is not Linux").parts
}

/// Not done here.
#[allow(clippy::unnecessary_wraps, reason = "Linux may refuse")]
pub(super) fn forbid_inspection() -> std::io::Result<()> {
    Ok(())
}
