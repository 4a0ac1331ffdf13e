//! What is known of a request on its way: when it began, when it must end, where its time went.

use std::time::Duration;

use samovar_core::generation::{FinishReason, Usage};
use samovar_pool::{Lease, Origin};
use tokio::time::Instant;

use crate::answer::{Summary, Tier, Timings};

/// One request on its way.
pub(crate) struct Journey {
    began: Instant,
    /// When it must end.
    pub(crate) deadline: Option<Instant>,
    first_token: Option<Instant>,
    retried: bool,
    /// Where its model was found.
    pub(crate) tier: Tier,
    usage: Usage,
    /// Where its time went so far.
    pub(crate) timings: Timings,
}

impl Journey {
    pub(crate) fn begin(limit: Option<Duration>) -> Self {
        let began = Instant::now();
        Self {
            began,
            deadline: limit.and_then(|limit| began.checked_add(limit)),
            first_token: None,
            retried: false,
            tier: Tier::Hit,
            usage: Usage::default(),
            timings: Timings::default(),
        }
    }

    pub(crate) fn remaining(&self) -> Option<Duration> {
        self.deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()))
    }

    pub(crate) fn may_try_again(&mut self) -> bool {
        self.first_token.is_none() && !std::mem::replace(&mut self.retried, true)
    }

    pub(crate) fn fetched(&mut self, fetch_ms: Option<f64>) {
        if let Some(fetch_ms) = fetch_ms {
            self.timings.fetch_ms = fetch_ms;
        }
    }

    pub(crate) fn granted(&mut self, lease: &Lease) {
        self.tier = match lease.origin() {
            Origin::Hit => Tier::Hit,
            Origin::Parked => Tier::Parked,
            Origin::Joined => Tier::Joined,
            Origin::Cold if self.timings.fetch_ms > 0.0 => Tier::Fetched,
            Origin::Cold => Tier::Cold,
        };
        self.timings.queue_ms = lease.queue_ms();
        self.timings.load_ms = lease.load_ms();
    }

    pub(crate) fn prefilled(&mut self, usage: Usage, prefill_ms: f64) {
        self.usage = usage;
        self.timings.prefill_ms = prefill_ms;
    }

    pub(crate) fn token(&mut self) {
        self.first_token.get_or_insert_with(Instant::now);
        self.usage.completion_tokens += 1;
    }

    pub(crate) fn timed_out(&mut self) -> Summary {
        let usage = self.usage;
        self.done(FinishReason::TimedOut, usage)
    }

    pub(crate) fn done(&mut self, finish: FinishReason, usage: Usage) -> Summary {
        let now = Instant::now();
        let ms = |from: Instant, to: Instant| (to - from).as_secs_f64() * 1e3;
        if let Some(first) = self.first_token {
            self.timings.first_token_ms = ms(self.began, first);
            self.timings.decode_ms = ms(first, now);
        }
        self.timings.total_ms = ms(self.began, now);
        Summary { finish, usage, tier: self.tier, timings: self.timings }
    }
}
