//! Which files a worker may open: its model, a folder that it writes if it prepares one, and a few of the kernel's about this
//! machine.

use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access, AccessFs, AccessNet, LandlockStatus, PathBeneath, PathFd, RestrictionStatus, Ruleset,
    RulesetAttr, RulesetCreatedAttr, RulesetError, RulesetStatus, Scope,
};

use super::Entered;
use crate::sandbox::SandboxPolicy;

/// The newest interface whose rights were looked at; an older kernel restricts what it knows.
const KNOWN: ABI = ABI::V9;

/// What a program asks to choose its kernels and threads. None of it tells of users or of other processes, nor how busy the
/// machine is: of that the parent tells what matters.
const ABOUT_THE_MACHINE: [&str; 5] =
    ["/sys/devices/system/cpu", "/sys/devices/system/node", "/proc/cpuinfo", "/proc/meminfo", "/dev/urandom"];
/// Where control groups are, and where they say how much of the processors a group may use.
const CONTROL_GROUPS: &str = "/sys/fs/cgroup";
const PROCESSORS_OF_A_GROUP: &str = "cpu.max";

/// Denies every file but those of the plan, everything but reading outside of the folder that is written, every TCP port, and
/// signals to other processes.
pub(super) fn enter(plan: &SandboxPolicy) -> Entered {
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

fn restrict(plan: &SandboxPolicy) -> Result<RestrictionStatus, RulesetError> {
    let mut rules = Ruleset::default()
        .handle_access(AccessFs::from_all(KNOWN))?
        .handle_access(AccessNet::from_all(KNOWN))?
        .scope(Scope::from_all(KNOWN))?
        .create()?;
    let machine = ABOUT_THE_MACHINE.iter().map(PathBuf::from);
    for path in plan.readable.iter().cloned().chain(machine).chain(about_this_group()) {
        // What is not there cannot be read anyway; the engine says so in its own words.
        let Ok(descriptor) = PathFd::new(&path) else { continue };
        rules = rules.add_rule(PathBeneath::new(descriptor, reading(&path)))?;
    }
    if let Some(Ok(descriptor)) = plan.listable.as_ref().map(PathFd::new) {
        rules = rules.add_rule(PathBeneath::new(descriptor, AccessFs::ReadDir))?;
    }
    if let Some(Ok(descriptor)) = plan.writable.as_ref().map(PathFd::new) {
        rules = rules.add_rule(PathBeneath::new(descriptor, writing()))?;
    }
    rules.restrict_self()
}

/// The files of this process's group and of those around it; and by which names to look for them.
fn about_this_group() -> Vec<PathBuf> {
    const OWN: &str = "/proc/self/cgroup";
    let own = fs_err::read_to_string(OWN).unwrap_or_default();
    let Some(path) = own.lines().find_map(|line| line.strip_prefix("0::/")) else { return Vec::new() };
    let around = Path::new(path).ancestors().map(|group| Path::new(CONTROL_GROUPS).join(group));
    let files = around.map(|group| group.join(PROCESSORS_OF_A_GROUP));
    files.chain([PathBuf::from(OWN)]).collect()
}

/// Files in one folder: no links, no devices, and none that comes from or goes to another folder.
fn writing() -> landlock::BitFlags<AccessFs> {
    AccessFs::ReadFile
        | AccessFs::ReadDir
        | AccessFs::WriteFile
        | AccessFs::Truncate
        | AccessFs::MakeReg
        | AccessFs::RemoveFile
}

fn reading(path: &Path) -> landlock::BitFlags<AccessFs> {
    if path.is_dir() { AccessFs::ReadFile | AccessFs::ReadDir } else { AccessFs::ReadFile.into() }
}
