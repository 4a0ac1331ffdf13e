//! What is known of a request on its way: when it began, when it must end, where its time went.

use std::path::{Path, PathBuf};
use std::time::Duration;

use samovar_core::generation::{FinishReason, Usage};
use samovar_core::units::TimeSpan;
use samovar_core::{ErrorKind, Failure};
use samovar_pool::{Lease, Origin};
use tokio::time::Instant;

use crate::answer::{Summary, Tier, Timings};

/// One request on its way.
pub(crate) struct Journey {
    began: Instant,
    /// When it must end.
    pub(crate) deadline: Option<Instant>,
    first_token: Option<Instant>,
    /// How many of the prompt's tokens are computed, of how many, once that is known.
    prompt: Option<(u32, u32)>,
    retried: bool,
    /// The file of its model.
    pub(crate) path: Option<PathBuf>,
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
            prompt: None,
            retried: false,
            path: None,
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

    pub(crate) fn resolved(&mut self, path: &Path) {
        self.path = Some(path.to_owned());
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

    pub(crate) fn prefilling(&mut self, computed: u32, of: u32) {
        self.prompt = Some((computed, of));
    }

    pub(crate) fn prefilled(&mut self, usage: Usage, prefill_ms: f64) {
        self.prompt = Some((usage.prompt_tokens, usage.prompt_tokens));
        self.usage = usage;
        self.timings.prefill_ms = prefill_ms;
    }

    pub(crate) fn token(&mut self) {
        self.first_token.get_or_insert_with(Instant::now);
        self.usage.completion_tokens += 1;
    }

    /// What there is when the time is over: the text so far.
    ///
    /// # Errors
    /// `DeadlineExceeded` before the first token, with how far the prompt was; another try would compute as long.
    pub(crate) fn timed_out(&mut self) -> Result<Summary, Failure> {
        if self.first_token.is_some() {
            let usage = self.usage;
            return Ok(self.done(FinishReason::TimedOut, usage));
        }
        let after = TimeSpan::from_ms(self.began.elapsed().as_millis() as u64);
        let so_far = self.prompt.map_or_else(
            || "the prompt had not begun to be computed".to_owned(),
            |(computed, of)| format!("{computed} of {of} prompt tokens computed"),
        );
        let message = format!("the time was over after {after}: no token yet, {so_far}");
        Err(Failure::new(ErrorKind::DeadlineExceeded, message)
            .with_hint("allow more time, or shorten the prompt")
            .lasting())
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
