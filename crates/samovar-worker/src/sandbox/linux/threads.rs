//! How many threads a worker may make before its parent looks again.
//!
//! The kernel counts threads for a user, and not for a process. So the bound is moved along: it lies this much above all
//! the threads that there are, and the parent puts it there anew each time it looks. It holds for all users but root, whom
//! the kernel does not count; there the parent's look is all there is.

use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};

/// More threads than a user starts in a second, and fewer than a machine has room for.
const BETWEEN_LOOKS: u64 = 4096;

/// Puts the bound of a process that this one started, or of this one, where it belongs now: never above the limit that this
/// process has, which the other one inherited.
///
/// # Errors
/// In words, when the kernel does not tell how many threads there are, or does not let the bound be moved.
pub(crate) fn move_bound(process: Option<Pid>) -> Result<(), String> {
    let told = |error: std::io::Error| format!("no limit on threads: {error}");
    let load = fs_err::read_to_string("/proc/loadavg").map_err(told)?;
    let threads =
        all_threads(&load).ok_or("no limit on threads: /proc/loadavg does not tell how many there are")?;
    let Rlimit { current, maximum } = getrlimit(Resource::Nproc);
    prlimit(process, Resource::Nproc, Rlimit { current: Some(bound(threads, current)), maximum })
        .map(drop)
        .map_err(|error| told(error.into()))
}

/// So many threads may there be until the next look, where the inherited limit allows it.
fn bound(threads: u64, inherited: Option<u64>) -> u64 {
    threads.saturating_add(BETWEEN_LOOKS).min(inherited.unwrap_or(u64::MAX))
}

/// The number behind the line in `0.00 0.01 0.05 1/234 5678`: of all users, so never fewer than one user's.
fn all_threads(load: &str) -> Option<u64> {
    load.split_whitespace().nth(3)?.split_once('/')?.1.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bound_moves_along_and_never_above_what_was_inherited() {
        assert_eq!(bound(1000, None), 1000 + BETWEEN_LOOKS);
        assert_eq!(bound(1000, Some(200)), 200);
        assert_eq!(bound(u64::MAX, None), u64::MAX);
    }

    #[test]
    fn the_number_of_threads_is_read() {
        assert_eq!(all_threads("0.00 0.01 0.05 1/234 5678\n"), Some(234));
        assert_eq!(all_threads("0.00 0.01"), None);
    }
}
