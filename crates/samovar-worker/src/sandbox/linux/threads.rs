//! How many threads a worker may make before its parent looks again.
//!
//! The kernel counts threads for a user, and not for a process. So the bound is moved along: it lies this much above all
//! the threads that there are, and the parent puts it there anew each time it looks. It holds for everybody but root, whom
//! the kernel does not count; there the parent's look is all there is.

use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};

/// More threads than a user starts in a second, and fewer than a machine has room for.
const BETWEEN_LOOKS: u64 = 4096;

/// Puts the bound of a process, or of this one, where it belongs now.
///
/// # Errors
/// In words, when the kernel does not tell how many threads there are, or does not let the bound be moved.
pub(crate) fn move_bound(process: Option<Pid>) -> Result<(), String> {
    let told = |error: std::io::Error| format!("no limit on threads: {error}");
    let load = fs_err::read_to_string("/proc/loadavg").map_err(told)?;
    let threads =
        all_threads(&load).ok_or("no limit on threads: /proc/loadavg does not tell how many there are")?;
    let maximum = getrlimit(Resource::Nproc).maximum;
    let bound = threads.saturating_add(BETWEEN_LOOKS);
    let current = Some(maximum.map_or(bound, |maximum| maximum.min(bound)));
    prlimit(process, Resource::Nproc, Rlimit { current, maximum })
        .map(drop)
        .map_err(|error| told(error.into()))
}

/// The number behind the line in `0.00 0.01 0.05 1/234 5678`: of everybody, so never fewer than one user's.
fn all_threads(load: &str) -> Option<u64> {
    load.split_whitespace().nth(3)?.split_once('/')?.1.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_threads_is_read() {
        assert_eq!(all_threads("0.00 0.01 0.05 1/234 5678\n"), Some(234));
        assert_eq!(all_threads("0.00 0.01"), None);
    }
}
