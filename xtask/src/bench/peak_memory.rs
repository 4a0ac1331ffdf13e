//! The peak memory of processes that come and go: looked at while they run, since nothing is left of it afterwards.

use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::thread;
use std::time::Duration;

use super::process_memory::children;

/// How often is looked.
const LOOK: Duration = Duration::from_millis(10);

/// The most memory that one process of several had, in KiB.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct PeakMemory {
    /// Its pages in memory, with those of mapped files. The kernel keeps this peak while a process runs, so that only the
    /// growth of its last moment is missed.
    pub(crate) resident_kib: u64,
    /// Its pages that no file backs, of the moments at which was looked.
    pub(crate) anonymous_kib: u64,
}

impl PeakMemory {
    /// Does `work`, and looks meanwhile at a process and all that it started, and these in turn.
    pub(crate) fn while_doing<T>(pid: u32, work: impl FnOnce() -> T) -> (T, Self) {
        let (ends, end) = sync_channel::<()>(0);
        thread::scope(|scope| {
            let looking = scope.spawn(move || {
                let mut peak = Self::default();
                while end.recv_timeout(LOOK) == Err(RecvTimeoutError::Timeout) {
                    peak.look(pid);
                }
                peak.look(pid);
                peak
            });
            let done = work();
            drop(ends);
            (done, looking.join().expect("invariant: looking does not panic"))
        })
    }

    /// The larger of two, each figure by itself.
    pub(crate) fn max(self, other: Self) -> Self {
        Self {
            resident_kib: self.resident_kib.max(other.resident_kib),
            anonymous_kib: self.anonymous_kib.max(other.anonymous_kib),
        }
    }

    fn look(&mut self, pid: u32) {
        // It may have ended meanwhile.
        if let Ok(status) = fs_err::read_to_string(format!("/proc/{pid}/status")) {
            let [resident_kib, anonymous_kib] = ["VmHWM:", "RssAnon:"].map(|name| kib(&status, name));
            *self = self.max(Self { resident_kib, anonymous_kib });
        }
        for child in children(pid) {
            self.look(child);
        }
    }
}

/// A figure of `/proc/…/status`; nothing of a process that has ended.
fn kib(status: &str, name: &str) -> u64 {
    let rest = status.lines().find_map(|line| line.strip_prefix(name));
    rest.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_that_was_taken_during_the_work_is_seen() {
        let (bytes, peak) = PeakMemory::while_doing(std::process::id(), || vec![1_u8; 64 << 20]);
        assert!(peak.resident_kib >= 64 << 10 && peak.anonymous_kib >= 64 << 10, "{peak:?}");
        assert_eq!(bytes.len(), 64 << 20);
    }

    #[test]
    fn a_process_that_has_ended_has_no_memory() {
        assert_eq!(kib("Name:\tsh\nState:\tZ (zombie)\n", "VmHWM:"), 0);
        assert_eq!(kib("VmHWM:\t    1234 kB\nRssAnon:\t     56 kB\n", "RssAnon:"), 56);
    }
}
