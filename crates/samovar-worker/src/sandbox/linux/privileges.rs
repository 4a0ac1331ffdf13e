//! What a process may do that others may not.

use rustix::process::getuid;
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, clear_ambient_capability_set, set_capabilities,
    set_no_new_privs,
};

use super::Entered;

/// Of root's rights a worker keeps two: to lock its memory, and to read a model that belongs to someone else.
const KEPT: CapabilitySet = CapabilitySet::IPC_LOCK.union(CapabilitySet::DAC_READ_SEARCH);

/// No program that it could start would gain rights, and those it was started with are given back.
pub(super) fn enter() -> Entered {
    set_no_new_privs(true).map_err(|error| format!("no_new_privs: {error}"))?;
    drop_capabilities().map_err(|error| format!("capabilities: {error}"))?;
    Ok(if getuid().is_root() { "no new privileges, few of root's left" } else { "no new privileges" }
        .to_owned())
}

fn drop_capabilities() -> rustix::io::Result<()> {
    clear_ambient_capability_set()?;
    let had = capabilities(None)?;
    let kept = had.permitted & KEPT;
    set_capabilities(
        None,
        CapabilitySets { effective: kept, permitted: kept, inheritable: CapabilitySet::empty() },
    )
}
