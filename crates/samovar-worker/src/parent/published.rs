//! What the worker last said of its use, for readers that do not wait.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use samovar_core::ThreadUse;
use samovar_core::cores::ThreadsWhy;
use samovar_core::footprint::Measurement;

/// How much of a load is done: the supervisor writes, and callers that wait for the load look. Never fuller than one number,
/// however much a worker reports.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// The bits of the number.
    fraction: AtomicU32,
    /// Those of the largest that counted as a step.
    furthest: AtomicU32,
}

/// Less is no step of a load.
const HAIR: f32 = 1.0 / 4096.0;

impl Progress {
    /// Says whether that is further than it ever was, by more than a hair: so there are only so many steps to take.
    pub(super) fn set(&self, fraction: f32) -> bool {
        let fraction = if fraction.is_nan() { 0.0 } else { fraction.clamp(0.0, 1.0) };
        self.fraction.store(fraction.to_bits(), Ordering::Relaxed);
        let is_further = fraction >= f32::from_bits(self.furthest.load(Ordering::Relaxed)) + HAIR;
        if is_further {
            self.furthest.store(fraction.to_bits(), Ordering::Relaxed);
        }
        is_further
    }

    pub(super) fn get(&self) -> f32 {
        f32::from_bits(self.fraction.load(Ordering::Relaxed))
    }
}

/// Numbers that the supervisor writes and any thread reads. Each is true for itself; together they may be one step apart.
#[derive(Debug, Default)]
pub(super) struct Published {
    held_bytes: AtomicU64,
    mapped_bytes: AtomicU64,
    kv_used_tokens: AtomicU32,
    kv_total_tokens: AtomicU32,
    busy_slots: AtomicU32,
    threads_used: AtomicU32,
    threads_most: AtomicU32,
    threads_why: AtomicU32,
}

impl Published {
    pub(super) fn set(&self, measured: &Measurement) {
        let Measurement { held_bytes, mapped_bytes, kv_used_tokens, kv_total_tokens, busy_slots, threads } =
            measured;
        let why = ThreadsWhy::ALL.iter().position(|why| *why == threads.why).unwrap_or(0);
        self.threads_used.store(threads.used, Ordering::Relaxed);
        self.threads_most.store(threads.most, Ordering::Relaxed);
        self.threads_why.store(why as u32, Ordering::Relaxed);
        self.held_bytes.store(*held_bytes, Ordering::Relaxed);
        self.mapped_bytes.store(*mapped_bytes, Ordering::Relaxed);
        self.kv_used_tokens.store(*kv_used_tokens, Ordering::Relaxed);
        self.kv_total_tokens.store(*kv_total_tokens, Ordering::Relaxed);
        self.busy_slots.store(*busy_slots, Ordering::Release);
    }

    pub(super) fn get(&self) -> Measurement {
        Measurement {
            busy_slots: self.busy_slots.load(Ordering::Acquire),
            held_bytes: self.held_bytes.load(Ordering::Relaxed),
            mapped_bytes: self.mapped_bytes.load(Ordering::Relaxed),
            kv_used_tokens: self.kv_used_tokens.load(Ordering::Relaxed),
            kv_total_tokens: self.kv_total_tokens.load(Ordering::Relaxed),
            threads: ThreadUse {
                used: self.threads_used.load(Ordering::Relaxed),
                most: self.threads_most.load(Ordering::Relaxed),
                why: ThreadsWhy::ALL
                    [self.threads_why.load(Ordering::Relaxed) as usize % ThreadsWhy::ALL.len()],
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_load_takes_only_so_many_steps() {
        let progress = Progress::default();
        assert!(!progress.set(0.0) && progress.set(0.25) && !progress.set(0.25) && !progress.set(0.1));
        assert!(!progress.set(f32::NAN) && progress.set(f32::INFINITY) && !progress.set(1.0));
        let progress = Progress::default();
        let steps = (0..1_000_000_u32).filter(|part| progress.set(*part as f32 / 1e6)).count();
        assert!(steps <= 4096, "{steps}");
    }
}
