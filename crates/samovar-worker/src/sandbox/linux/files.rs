//! Which files a worker may open: its model, and a few of the kernel's about this machine.

use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access, AccessFs, AccessNet, LandlockStatus, PathBeneath, PathFd, RestrictionStatus, Ruleset,
    RulesetAttr, RulesetCreatedAttr, RulesetError, RulesetStatus, Scope,
};

use super::Entered;
use crate::sandbox::Plan;

/// The newest interface whose rights were looked at; an older kernel restricts what it knows.
const KNOWN: ABI = ABI::V9;

/// What native code asks to choose its kernels and threads. None of it tells of users or of other processes.
const ABOUT_THE_MACHINE: [&str; 5] =
    ["/sys/devices/system/cpu", "/sys/devices/system/node", "/proc/cpuinfo", "/proc/meminfo", "/dev/urandom"];

/// Denies every file but those of the plan, everything but reading, every TCP port, and signals to other processes.
pub(super) fn enter(plan: &Plan) -> Entered {
    let status = restrict(plan).map_err(|error| format!("landlock: {error}"))?;
    match (status.ruleset, status.landlock) {
        (
            RulesetStatus::FullyEnforced | RulesetStatus::PartiallyEnforced,
            LandlockStatus::Available { effective_abi, .. },
        ) => Ok(format!("landlock {effective_abi}")),
        (_, LandlockStatus::NotEnabled) => Err("landlock is not switched on in this kernel".to_owned()),
        _ => Err("this kernel has no landlock (it came with Linux 5.13)".to_owned()),
    }
}

fn restrict(plan: &Plan) -> Result<RestrictionStatus, RulesetError> {
    let mut rules = Ruleset::default()
        .handle_access(AccessFs::from_all(KNOWN))?
        .handle_access(AccessNet::from_all(KNOWN))?
        .scope(Scope::from_all(KNOWN))?
        .create()?;
    let machine = ABOUT_THE_MACHINE.iter().map(PathBuf::from);
    for path in plan.readable.iter().cloned().chain(machine) {
        // What is not there cannot be read anyway; the engine says so in its own words.
        let Ok(descriptor) = PathFd::new(&path) else { continue };
        rules = rules.add_rule(PathBeneath::new(descriptor, reading(&path)))?;
    }
    rules.restrict_self()
}

fn reading(path: &Path) -> landlock::BitFlags<AccessFs> {
    if path.is_dir() { AccessFs::ReadFile | AccessFs::ReadDir } else { AccessFs::ReadFile.into() }
}
