//! What may be believed of a worker's own figures, and whether it takes more than its model can explain: pure arithmetic
//! over what the kernel says, what was predicted from the model's header, and what the worker says of itself.
//!
//! ```text
//!   the worker says ─┐
//!   the kernel says ─┼─► believed: what the pool gets to see       kernel ─┬─► Fine
//!   predicted ───────┘   a lie by far ─► ended                  predicted ─┴─► Odd (told), Runaway (ended)
//! ```
//!
//! Mapped weights do not count as its own: they are page cache, shared with all processes. What it says never raises a bound:
//! only the kernel, the model's header and the adapters that it was handed explain memory.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use samovar_core::footprint::Measurement;

use super::proc_files::Account;

/// How often to look.
const INTERVAL: Duration = Duration::from_secs(1);
/// The program itself, its threads and libraries; and how far two counts of the same thing may be apart.
const PROGRAM_BYTES: u64 = 128 << 20;
/// Above this multiple of what was expected, it is told.
const ODD: u64 = 2;
/// Above this multiple, and the surplus below, it is ended: nothing explains that but a fault.
const RUNAWAY: u64 = 4;
const RUNAWAY_SURPLUS_BYTES: u64 = 1 << 30;
/// Of what a worker maps: twice what the kernel needs to know where it lies.
const PAGE_TABLES_PER_MAPPED: u64 = 256;
/// Threads of the program: those that every worker has, and room for what comes and goes.
const PROGRAM_THREADS: u64 = 256;
/// For each processor that the engine may compute on: of prompts, of answers, of measuring, and those that end just now.
const THREADS_A_PROCESSOR: u64 = 4;

/// What a worker may be expected to hold, for code that learns more about it. 0 = unknown, and nothing is too much.
#[derive(Debug, Default)]
pub(crate) struct Expected {
    held_bytes: AtomicU64,
    adapter_bytes: AtomicU64,
    mapped_bytes: AtomicU64,
    processors: AtomicU64,
}

impl Expected {
    /// From now on so many bytes of its own.
    pub(crate) fn hold(&self, bytes: u64) {
        self.held_bytes.store(bytes, Ordering::Relaxed);
    }

    /// It was handed so many bytes of adapters, each of which it may hold a copy of. Memory that was given back to an allocator
    /// need not return to the kernel, so the most that it ever had counts.
    pub(crate) fn hold_adapters(&self, bytes: u64) {
        self.adapter_bytes.fetch_max(bytes, Ordering::Relaxed);
    }

    /// It maps no more than the files that it was given, and computes on so many processors at once.
    pub(crate) fn map_and_compute(&self, mapped_bytes: u64, processors: u64) {
        self.mapped_bytes.store(mapped_bytes, Ordering::Relaxed);
        self.processors.store(processors, Ordering::Relaxed);
    }

    /// What its model and its adapters explain.
    fn held_bytes(&self) -> Option<u64> {
        let model = Some(self.held_bytes.load(Ordering::Relaxed)).filter(|bytes| *bytes > 0)?;
        Some(model.saturating_add(self.adapter_bytes.load(Ordering::Relaxed)))
    }
}

/// What a worker says, as far as it may be believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Believed {
    /// For all to see.
    pub(crate) measured: Measurement,
    /// What is wrong with what it said, in words that follow "the worker", if it must end for it.
    pub(crate) lie: Option<String>,
    /// Whether something was put right.
    pub(crate) is_corrected: bool,
}

/// Puts what a worker says of itself within what the kernel and its model can explain.
pub(crate) fn believe(said: Measurement, account: Account, expected: &Expected) -> Believed {
    let own_bytes = account.own_bytes;
    let explained = match expected.held_bytes() {
        // Memory that was asked for and not yet touched is part of the prediction.
        Some(predicted) => predicted.max(own_bytes),
        None => account.writable_bytes.max(own_bytes),
    };
    let most = explained.saturating_add(PROGRAM_BYTES);
    let least = own_bytes.saturating_sub(PROGRAM_BYTES);
    let held_bytes = said.held_bytes.clamp(least, most);
    let mapped_bytes = match expected.mapped_bytes.load(Ordering::Relaxed) {
        0 => said.mapped_bytes,
        files => said.mapped_bytes.min(files),
    };
    let is_lie = is_runaway(said.held_bytes, most);
    let lie = is_lie.then(|| {
        format!(
            "said that it holds {} MiB where the kernel counts {} MiB and its model explains {} MiB",
            said.held_bytes >> 20,
            own_bytes >> 20,
            most >> 20
        )
    });
    let measured = Measurement { held_bytes, mapped_bytes, ..said };
    Believed { is_corrected: measured != said, measured, lie }
}

/// Looks after one worker's memory and threads.
#[derive(Debug)]
pub(crate) struct MemoryWatch {
    since_look: Duration,
    is_told: bool,
}

/// What a look found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MemoryLevel {
    /// What its model explains.
    Fine,
    /// Far more.
    Odd,
    /// So much more that it must end.
    Runaway,
}

impl MemoryWatch {
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

    /// What is wrong with so much of everything, in words that follow "the worker", if it must end for it. What is merely
    /// odd is logged, once.
    pub(crate) fn complaint(&mut self, pid: u32, account: Account, expected: &Expected) -> Option<String> {
        let threads = most_threads(expected);
        if account.threads > threads {
            return Some(format!(
                "has {} threads where no model explains more than {threads}",
                account.threads
            ));
        }
        let files_tables = expected.mapped_bytes.load(Ordering::Relaxed) / PAGE_TABLES_PER_MAPPED;
        let own_bytes =
            account.own_bytes.saturating_add(account.page_table_bytes.saturating_sub(files_tables));
        let expected = expected.held_bytes()?.saturating_add(PROGRAM_BYTES);
        match judge(own_bytes, expected) {
            MemoryLevel::Fine => {
                self.is_told = false;
                None
            }
            MemoryLevel::Odd => {
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
            MemoryLevel::Runaway => Some(format!(
                "took {} MiB of memory where its model explains {} MiB",
                own_bytes >> 20,
                expected >> 20
            )),
        }
    }
}

fn most_threads(expected: &Expected) -> u64 {
    let processors = expected.processors.load(Ordering::Relaxed);
    PROGRAM_THREADS.saturating_add(processors.saturating_mul(THREADS_A_PROCESSOR))
}

fn judge(own_bytes: u64, expected: u64) -> MemoryLevel {
    match own_bytes {
        _ if is_runaway(own_bytes, expected) => MemoryLevel::Runaway,
        own_bytes if own_bytes > expected.saturating_mul(ODD) => MemoryLevel::Odd,
        _ => MemoryLevel::Fine,
    }
}

fn is_runaway(bytes: u64, expected: u64) -> bool {
    bytes > expected.saturating_mul(RUNAWAY) && bytes - expected > RUNAWAY_SURPLUS_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;
    const GIB: u64 = 1 << 30;

    fn expecting(held_bytes: u64) -> Expected {
        let expected = Expected::default();
        expected.hold(held_bytes);
        expected.map_and_compute(3 * GIB, 4);
        expected
    }

    fn account(own_bytes: u64) -> Account {
        Account { own_bytes, page_table_bytes: 0, writable_bytes: own_bytes, threads: 9 }
    }

    fn said(held_bytes: u64) -> Measurement {
        Measurement { held_bytes, mapped_bytes: GIB, busy_slots: 2, ..Measurement::default() }
    }

    #[test]
    fn a_small_model_may_be_off_by_much_and_a_large_one_by_half() {
        assert_eq!(judge(GIB, 300 << 20), MemoryLevel::Odd);
        assert_eq!(judge(2 * GIB, 300 << 20), MemoryLevel::Runaway);
        assert_eq!(judge(15 * GIB, 10 * GIB), MemoryLevel::Fine);
        assert_eq!(judge(25 * GIB, 10 * GIB), MemoryLevel::Odd);
        assert_eq!(judge(41 * GIB, 10 * GIB), MemoryLevel::Runaway);
    }

    #[test]
    fn nobody_is_blamed_without_an_expectation() {
        let mut memory_watch = MemoryWatch::new();
        assert_eq!(memory_watch.complaint(1, account(u64::MAX), &Expected::default()), None);
    }

    #[test]
    fn a_look_is_taken_once_a_second() {
        let mut memory_watch = MemoryWatch::new();
        let looks = (0..100).filter(|_| memory_watch.is_due(Duration::from_millis(50))).count();
        assert_eq!(looks, 5);
    }

    #[test]
    fn what_is_plausible_is_passed_on_as_it_was_said() {
        // A context that was asked for and not yet touched; one that was; a model of which little is left.
        for (held, own) in [(2 * GIB, 20 * MIB), (2 * GIB, 2 * GIB + 60 * MIB), (MIB, 100 * MIB)] {
            let believed = believe(said(held), account(own), &expecting(2 * GIB));
            assert_eq!(believed, Believed { measured: said(held), lie: None, is_corrected: false });
        }
    }

    #[test]
    fn who_claims_to_hold_the_machine_is_put_right_and_ended() {
        let believed = believe(said(500 * GIB), account(11 * MIB), &expecting(GIB));
        assert_eq!(believed.measured, said(GIB + PROGRAM_BYTES));
        let lie = believed.lie.unwrap();
        assert!(lie.contains("512000 MiB") && lie.contains("11 MiB"), "{lie}");
        // Three times as much may be a fault of the prediction: put right, and no more.
        let believed = believe(said(3 * GIB), account(11 * MIB), &expecting(GIB));
        assert_eq!((believed.measured.held_bytes, believed.lie), (GIB + PROGRAM_BYTES, None));
    }

    #[test]
    fn who_says_less_than_the_kernel_counts_is_counted_by_the_kernel() {
        let believed = believe(said(11 * MIB), account(2 * GIB), &expecting(GIB));
        assert!(believed.is_corrected);
        assert_eq!(believed.measured.held_bytes, 2 * GIB - PROGRAM_BYTES);
    }

    #[test]
    fn its_own_word_explains_no_memory_and_its_adapters_do() {
        let (mut memory_watch, expected) = (MemoryWatch::new(), expecting(GIB));
        let taken = account(5 * GIB);
        // It says just what the kernel counts, which is true and no excuse.
        assert_eq!(believe(said(5 * GIB), taken, &expected).lie, None);
        let complaint = memory_watch.complaint(1, taken, &expected).unwrap();
        assert!(complaint.contains("took 5120 MiB") && complaint.contains("1152 MiB"), "{complaint}");
        expected.hold_adapters(GIB);
        assert_eq!(memory_watch.complaint(1, taken, &expected), None);
        // Those that it gave back may still lie in its allocator.
        expected.hold_adapters(0);
        assert_eq!(memory_watch.complaint(1, taken, &expected), None);
    }

    #[test]
    fn page_tables_of_more_than_its_files_are_memory_of_its_own() {
        let (mut memory_watch, expected) = (MemoryWatch::new(), expecting(GIB));
        let with = |page_table_bytes| Account { page_table_bytes, ..account(GIB) };
        // Those of 3 GiB of files.
        assert_eq!(memory_watch.complaint(1, with(12 * MIB), &expected), None);
        let complaint = memory_watch.complaint(1, with(8 * GIB), &expected).unwrap();
        assert!(complaint.contains("took 9204 MiB"), "{complaint}");
    }

    #[test]
    fn nobody_maps_more_than_the_files_that_it_was_given() {
        let claim = Measurement { mapped_bytes: u64::MAX, ..said(GIB) };
        assert_eq!(believe(claim, account(GIB), &expecting(GIB)).measured.mapped_bytes, 3 * GIB);
    }

    #[test]
    fn without_a_prediction_what_was_asked_of_the_kernel_is_the_bound() {
        let asked = Account { writable_bytes: GIB, ..account(11 * MIB) };
        assert!(!believe(said(GIB), asked, &Expected::default()).is_corrected);
        assert!(believe(said(9 * GIB), asked, &Expected::default()).lie.is_some());
    }

    #[test]
    fn more_threads_than_any_model_needs_are_a_reason_to_end() {
        let (mut memory_watch, expected) = (MemoryWatch::new(), expecting(GIB));
        let with = |threads| Account { threads, ..account(GIB) };
        assert_eq!(memory_watch.complaint(1, with(PROGRAM_THREADS + 16), &expected), None);
        let complaint = memory_watch.complaint(1, with(PROGRAM_THREADS + 17), &expected).unwrap();
        assert!(complaint.contains("273 threads"), "{complaint}");
    }
}
