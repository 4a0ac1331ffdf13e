//! What an instance's thread publishes about itself, for readers that do not wait for it.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use samovar_core::ThreadUse;
use samovar_core::cores::ThreadsWhy;
use samovar_core::footprint::Measurement;

/// Numbers that the thread writes and any thread reads. Each is true for itself; together they may be one
/// step apart.
#[derive(Debug, Default)]
pub(crate) struct Published {
    held_bytes: AtomicU64,
    adapter_bytes: AtomicU64,
    mapped_bytes: AtomicU64,
    kv_used_tokens: AtomicU32,
    kv_total_tokens: AtomicU32,
    busy_slots: AtomicU32,
    embedding: AtomicU32,
    embedding_tokens: AtomicU32,
    context_tokens: AtomicU32,
    is_parked: AtomicBool,
    interrupts: AtomicU32,
    prefixes: AtomicU64,
    threads_used: AtomicU32,
    threads_most: AtomicU32,
    threads_why: AtomicU32,
    drafted: AtomicU64,
    accepted: AtomicU64,
    drafted_by_model: AtomicU64,
    accepted_of_model: AtomicU64,
    #[cfg(test)]
    steps: AtomicU64,
}

impl Published {
    pub(crate) fn memory(&self, held_bytes: u64, mapped_bytes: u64, kv_total_tokens: u32) {
        self.held_bytes.store(held_bytes, Ordering::Relaxed);
        self.mapped_bytes.store(mapped_bytes, Ordering::Relaxed);
        self.kv_total_tokens.store(kv_total_tokens, Ordering::Relaxed);
    }

    /// Adapters in memory, beside what `memory` says.
    pub(crate) fn adapters(&self, bytes: u64) {
        self.adapter_bytes.store(bytes, Ordering::Relaxed);
    }

    pub(crate) fn work(&self, kv_used_tokens: usize, busy_slots: usize) {
        self.kv_used_tokens.store(kv_used_tokens as u32, Ordering::Relaxed);
        self.busy_slots.store(busy_slots as u32, Ordering::Relaxed);
    }

    /// Requests for vectors, and tokens that the cache holds of a batch that is not finished, beside what `work` says. So a
    /// supervisor sees a long batch get on.
    pub(crate) fn embedding(&self, requests: usize, tokens: usize) {
        self.embedding.store(requests as u32, Ordering::Relaxed);
        self.embedding_tokens.store(tokens as u32, Ordering::Relaxed);
    }

    /// The threads of the step that begins.
    pub(crate) fn threads(&self, threads: ThreadUse) {
        #[cfg(test)]
        self.steps.fetch_add(1, Ordering::Relaxed);
        let why = ThreadsWhy::ALL.iter().position(|why| *why == threads.why).unwrap_or(0);
        self.threads_used.store(threads.used, Ordering::Relaxed);
        self.threads_most.store(threads.most, Ordering::Relaxed);
        self.threads_why.store(why as u32, Ordering::Relaxed);
    }

    /// A step computed so many tokens of a draft, a draft model's if it `is_of_model`, and of those so many were accepted.
    pub(crate) fn draft(&self, drafted: usize, accepted: usize, is_of_model: bool) {
        self.drafted.fetch_add(drafted as u64, Ordering::Relaxed);
        self.accepted.fetch_add(accepted as u64, Ordering::Relaxed);
        if is_of_model {
            self.drafted_by_model.fetch_add(drafted as u64, Ordering::Relaxed);
            self.accepted_of_model.fetch_add(accepted as u64, Ordering::Relaxed);
        }
    }

    /// Steps that have begun.
    #[cfg(test)]
    pub(crate) fn steps(&self) -> u64 {
        self.steps.load(Ordering::Relaxed)
    }

    /// Tokens of drafts that were computed so far, and those of them that were accepted: each is a step less.
    #[cfg(test)]
    pub(crate) fn drafts(&self) -> (u64, u64) {
        (self.drafted.load(Ordering::Relaxed), self.accepted.load(Ordering::Relaxed))
    }

    /// The same of a draft model's alone.
    #[cfg(test)]
    pub(crate) fn model_drafts(&self) -> (u64, u64) {
        (self.drafted_by_model.load(Ordering::Relaxed), self.accepted_of_model.load(Ordering::Relaxed))
    }

    /// Tokens of one sequence at most, from now on.
    pub(crate) fn context(&self, tokens: u32) {
        self.context_tokens.store(tokens, Ordering::Release);
    }

    pub(crate) fn context_tokens(&self) -> u32 {
        self.context_tokens.load(Ordering::Acquire)
    }

    pub(crate) fn parked(&self, is_parked: bool) {
        self.is_parked.store(is_parked, Ordering::Release);
    }

    pub(crate) fn is_parked(&self) -> bool {
        self.is_parked.load(Ordering::Acquire)
    }

    /// A number for kept prompt state, never given before.
    pub(crate) fn prefix_id(&self) -> u64 {
        self.prefixes.fetch_add(1, Ordering::Relaxed)
    }

    /// Asks the thread to break its step off for a command that follows.
    pub(crate) fn interrupt(&self) {
        self.interrupts.fetch_add(1, Ordering::Relaxed);
    }

    /// Takes one such wish back: its command has arrived, or could not be sent.
    pub(crate) fn interrupted(&self) {
        self.interrupts.fetch_sub(1, Ordering::Relaxed);
    }

    pub(crate) fn is_interrupted(&self) -> bool {
        self.interrupts.load(Ordering::Relaxed) > 0
    }

    pub(crate) fn measurement(&self) -> Measurement {
        Measurement {
            held_bytes: self.held_bytes.load(Ordering::Relaxed) + self.adapter_bytes.load(Ordering::Relaxed),
            mapped_bytes: self.mapped_bytes.load(Ordering::Relaxed),
            kv_used_tokens: self.kv_used_tokens.load(Ordering::Relaxed)
                + self.embedding_tokens.load(Ordering::Relaxed),
            kv_total_tokens: self.kv_total_tokens.load(Ordering::Relaxed),
            busy_slots: self.busy_slots.load(Ordering::Relaxed) + self.embedding.load(Ordering::Relaxed),
            threads: ThreadUse {
                used: self.threads_used.load(Ordering::Relaxed),
                most: self.threads_most.load(Ordering::Relaxed),
                why: ThreadsWhy::ALL
                    [self.threads_why.load(Ordering::Relaxed) as usize % ThreadsWhy::ALL.len()],
            },
        }
    }
}
