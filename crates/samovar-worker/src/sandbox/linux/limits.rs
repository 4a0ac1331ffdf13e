//! What the kernel counts for a process: descriptors, sizes, memory, threads, and who dies first.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::{Entered, forbid_inspection, threads};
use crate::sandbox::SandboxPolicy;

/// For the standard three, the parent's socket, each part of a model, and a few that come and go.
const DESCRIPTORS: u64 = 256;
/// A worker is to be killed before what people work with; 1000 is the most there is.
const OOM_SCORE: i32 = 900;
const MOST_OOM_SCORE: i32 = 1000;
/// At least so much above the daemon, whatever that has.
const ABOVE_PARENT: i32 = 50;

/// No core dumps (they would hold what users wrote, and take as long as the model is large), few descriptors, and the
/// bounds of the plan. Files in memory count as files, so what they may grow to is bounded as well.
pub(super) fn enter(plan: &SandboxPolicy) -> Entered {
    // First, so that no limit which cannot be had leaves this process open to others.
    forbid_inspection().map_err(|error| format!("core dumps: {error}"))?;
    let descriptors = DESCRIPTORS + plan.readable.len() as u64;
    let mut limits = vec![
        (Resource::Core, 0, "core dumps"),
        (Resource::Nofile, descriptors, "descriptors"),
        (Resource::Msgqueue, 0, "message queues"),
        (Resource::Fsize, plan.written_limit_bytes.unwrap_or(u64::MAX), "file sizes"),
    ];
    if let Some(bytes) = plan.memory_limit_bytes {
        // Of private writable memory: the address space holds whole models, and costs nothing.
        limits.push((Resource::Data, bytes, "memory"));
    }
    for (resource, most, what) in limits {
        lower(resource, most).map_err(|error| format!("no limit on {what}: {error}"))?;
    }
    threads::move_bound(None)?;
    let memory = plan.memory_limit_bytes.map(|bytes| format!(", {} MiB of memory", bytes >> 20));
    Ok(format!("no core dumps, {descriptors} descriptors{}", memory.unwrap_or_default()))
}

/// Never raises: that takes rights, and what was set by others is smaller for a reason.
fn lower(resource: Resource, most: u64) -> rustix::io::Result<()> {
    let bound = match getrlimit(resource).maximum {
        Some(maximum) => Some(maximum.min(most)),
        None if most == u64::MAX => None,
        None => Some(most),
    };
    setrlimit(resource, Rlimit { current: bound, maximum: bound })
}

/// When memory ends, the kernel shall take a worker, whose death costs its own requests alone.
pub(super) fn be_killed_first() -> Entered {
    const FILE: &str = "/proc/self/oom_score_adj";
    let told = |error: std::io::Error| error.to_string();
    let inherited: i32 = fs_err::read_to_string(FILE).map_err(told)?.trim().parse().unwrap_or(0);
    let score = OOM_SCORE.max(inherited + ABOVE_PARENT).min(MOST_OOM_SCORE);
    fs_err::write(FILE, score.to_string()).map_err(told)?;
    Ok(format!("oom score {score}"))
}
