//! What became of an engine's workers, as the operator of the daemon is told.

use serde::Serialize;

use crate::sandbox;

/// What an engine's workers did and do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct WorkerStats {
    /// Workers there are now.
    pub running: u64,
    /// Memory of their own, which mapped weights are not part of, as last looked at.
    pub own_bytes: u64,
    /// Workers started.
    pub started: u64,
    /// Workers that died by themselves.
    pub crashed: u64,
    /// Workers that were ended because they gave no sign of life or did not get on.
    pub hung: u64,
    /// Workers that were ended because they took far more memory or threads than their model explains, or said of
    /// themselves what the kernel does not bear out.
    pub overgrown: u64,
    /// System calls that sandboxes denied, each number of each worker once. 0 as long as all is well.
    pub denied_calls: u64,
    /// What is asked of the sandbox.
    pub sandbox_mode: sandbox::Mode,
    /// What the sandbox of the last worker reached; absent before the first has loaded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sandbox: Option<sandbox::Report>,
}
