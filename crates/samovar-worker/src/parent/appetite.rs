//! Whether a worker takes more memory of its own than its model can explain: pure arithmetic, and one look at the
//! kernel's books.
//!
//! Mapped weights do not count: they are page cache, shared with everybody. What is expected is what was predicted from
//! the model's header, or what the engine itself publishes when that is more (adapters, a grown context).

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// How often to look.
const INTERVAL: Duration = Duration::from_secs(1);
/// The program itself, its threads and libraries.
const PROGRAM_BYTES: u64 = 128 << 20;
/// Above this multiple of what was expected, it is told.
const ODD: u64 = 2;
/// Above this multiple, and the surplus below, it is ended: nothing explains that but a fault.
const RUNAWAY: u64 = 4;
const RUNAWAY_SURPLUS_BYTES: u64 = 1 << 30;

/// What a worker may be expected to hold, for whoever learns more about it.
#[derive(Debug, Default)]
pub(crate) struct Expected {
    bytes: AtomicU64,
}

impl Expected {
    /// From now on so many bytes; 0 = nobody knows, and nothing is too much.
    pub(crate) fn set(&self, held_bytes: u64) {
        self.bytes.store(held_bytes, Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }
}

/// Looks after one worker's memory.
#[derive(Debug)]
pub(crate) struct Appetite {
    since_look: Duration,
    is_told: bool,
}

/// What a look found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// What its model explains.
    Fine,
    /// Far more.
    Odd,
    /// So much more that it must end.
    Runaway,
}

impl Appetite {
    pub(crate) fn new() -> Self {
        Self { since_look: Duration::ZERO, is_told: false }
    }

    /// Time has passed since the last look; whether it is time for the next.
    pub(crate) fn is_due(&mut self, elapsed: Duration) -> bool {
        self.since_look = self.since_look.saturating_add(elapsed);
        let is_due = self.since_look >= INTERVAL;
        if is_due {
            self.since_look = Duration::ZERO;
        }
        is_due
    }

    /// What is wrong with so much memory, in words that follow "the worker", if it must end for it. What is merely odd
    /// is logged, once.
    pub(crate) fn complaint(
        &mut self,
        pid: u32,
        own_bytes: u64,
        expected: &Expected,
        published: u64,
    ) -> Option<String> {
        let expected = match expected.get() {
            0 => return None,
            predicted => predicted.max(published).saturating_add(PROGRAM_BYTES),
        };
        match judge(own_bytes, expected) {
            Verdict::Fine => {
                self.is_told = false;
                None
            }
            Verdict::Odd => {
                if !std::mem::replace(&mut self.is_told, true) {
                    tracing::warn!(
                        pid,
                        own_bytes,
                        expected,
                        "a worker takes more memory than its model explains"
                    );
                }
                None
            }
            Verdict::Runaway => Some(format!(
                "took {} MiB of memory where its model explains {} MiB",
                own_bytes >> 20,
                expected >> 20
            )),
        }
    }
}

fn judge(own_bytes: u64, expected: u64) -> Verdict {
    let is_runaway =
        own_bytes > expected.saturating_mul(RUNAWAY) && own_bytes - expected > RUNAWAY_SURPLUS_BYTES;
    match own_bytes {
        _ if is_runaway => Verdict::Runaway,
        own_bytes if own_bytes > expected.saturating_mul(ODD) => Verdict::Odd,
        _ => Verdict::Fine,
    }
}

/// Memory that a process shares with nobody, on disk or not; nothing when the kernel does not tell.
pub(crate) fn own_bytes(pid: u32) -> Option<u64> {
    let status = fs_err::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let kilobytes = |name: &str| -> Option<u64> {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim().trim_end_matches(" kB").parse().ok()
    };
    Some((kilobytes("RssAnon:")? + kilobytes("VmSwap:").unwrap_or(0)) << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    #[test]
    fn a_small_model_may_be_off_by_much_and_a_large_one_by_half() {
        assert_eq!(judge(GIB, 300 << 20), Verdict::Odd);
        assert_eq!(judge(2 * GIB, 300 << 20), Verdict::Runaway);
        assert_eq!(judge(15 * GIB, 10 * GIB), Verdict::Fine);
        assert_eq!(judge(25 * GIB, 10 * GIB), Verdict::Odd);
        assert_eq!(judge(41 * GIB, 10 * GIB), Verdict::Runaway);
    }

    #[test]
    fn this_process_has_some_memory_of_its_own() {
        let before = own_bytes(std::process::id()).unwrap();
        // Else the compiler sees that nobody looks at it, and there is none.
        let more = std::hint::black_box(vec![1_u8; 64 << 20]);
        let after = own_bytes(std::process::id()).unwrap();
        assert!(after >= before + (32 << 20), "{before} {after} {}", more.len());
    }

    #[test]
    fn nobody_is_blamed_without_an_expectation() {
        let mut appetite = Appetite::new();
        assert_eq!(appetite.complaint(1, u64::MAX, &Expected::default(), 0), None);
    }

    #[test]
    fn a_look_is_taken_once_a_second() {
        let mut appetite = Appetite::new();
        let looks = (0..100).filter(|_| appetite.is_due(Duration::from_millis(50))).count();
        assert_eq!(looks, 5);
    }
}
