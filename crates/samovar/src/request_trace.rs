//! What is known of a request on its way: when it began, when it must end, where its time went.
//!
//! ```text
//!   driver ── granted, prefilled, token ──► Record ◄── TraceView: headers, a server that cannot wait any longer
//!                                             └──────► Summary, the log of requests
//! ```
//!
//! One clock and one record for each request: code that tells of its times reads them here.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use samovar_core::generation::{FinishReason, Usage};
use samovar_core::units::TimeSpan;
use samovar_core::{ErrorKind, Failure, WeightsId};
use samovar_pool::{GrantKind, Lease};
use tokio::time::Instant;

use crate::answer::{CacheStatus, Summary, Timings};

/// One request on its way, as its driver knows it.
pub(crate) struct RequestTrace {
    record: Arc<Mutex<Record>>,
    /// When it must end.
    pub(crate) deadline: Option<Instant>,
    /// How many of the prompt's tokens are computed, of how many, once that is known.
    prompt: Option<(u32, u32)>,
    retried: bool,
    /// Which bytes its model is, and its draft model, once they were found.
    pub(crate) weights: Vec<WeightsId>,
}

/// What is told of a request.
#[derive(Clone, Copy, Debug)]
struct Record {
    began: Instant,
    is_granted: bool,
    has_prefilled: bool,
    /// Whether its reader was told anything of the answer.
    has_spoken: bool,
    first_token: Option<Instant>,
    /// Where its model was found, once a slot was granted.
    tier: CacheStatus,
    usage: Usage,
    /// Without what goes on until the end.
    timings: Timings,
}

impl Record {
    /// Where the time went until now.
    fn timings(&self) -> Timings {
        let now = Instant::now();
        let decode_ms = self.first_token.map_or(0.0, |first| ms(first, now));
        Timings { decode_ms, total_ms: ms(self.began, now), ..self.timings }
    }

    fn summary(&self, finish: FinishReason) -> Summary {
        Summary { finish, stopped_by: None, usage: self.usage, tier: self.tier, timings: self.timings() }
    }
}

/// What is known so far of a request on its way. Its answer's summary, the log of requests and all readers of this have
/// their numbers from one record. Clones are the same.
#[derive(Clone, Debug)]
pub struct TraceView {
    record: Arc<Mutex<Record>>,
}

impl TraceView {
    /// Where its time went until now.
    pub fn timings(&self) -> Timings {
        lock(&self.record).timings()
    }

    /// Where its model was found; `None` before a slot was granted.
    pub fn tier(&self) -> Option<CacheStatus> {
        let record = lock(&self.record);
        record.is_granted.then_some(record.tier)
    }

    /// What computing the prompt took, in milliseconds, once that is done.
    pub fn prefill_ms(&self) -> Option<f64> {
        let record = lock(&self.record);
        record.has_prefilled.then_some(record.timings.prefill_ms)
    }

    /// From the request's arrival to its first token, in milliseconds, once there is one.
    pub fn first_token_ms(&self) -> Option<f64> {
        let record = lock(&self.record);
        record.first_token.map(|_| record.timings.first_token_ms)
    }

    /// What there is so far as the end of the answer, for who cannot wait any longer; `None` before a slot was granted.
    pub fn cut(&self) -> Option<Summary> {
        let record = lock(&self.record);
        record.is_granted.then(|| record.summary(FinishReason::TimedOut))
    }
}

impl RequestTrace {
    /// A request that comes now.
    pub(crate) fn begin(limit: Option<Duration>) -> Self {
        let began = Instant::now();
        let record = Record {
            began,
            is_granted: false,
            has_prefilled: false,
            has_spoken: false,
            first_token: None,
            tier: CacheStatus::Hit,
            usage: Usage::default(),
            timings: Timings::default(),
        };
        Self {
            record: Arc::new(Mutex::new(record)),
            deadline: limit.and_then(|limit| began.checked_add(limit)),
            prompt: None,
            retried: false,
            weights: Vec::new(),
        }
    }

    /// The same for who only reads.
    pub(crate) fn view(&self) -> TraceView {
        TraceView { record: Arc::clone(&self.record) }
    }

    pub(crate) fn remaining(&self) -> Option<Duration> {
        self.deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()))
    }

    pub(crate) fn may_try_again(&mut self) -> bool {
        let has_spoken = self.record().has_spoken;
        !has_spoken && !std::mem::replace(&mut self.retried, true)
    }

    pub(crate) fn fetched(&mut self, fetch_ms: Option<f64>) {
        if let Some(fetch_ms) = fetch_ms {
            self.record().timings.fetch_ms = fetch_ms;
        }
    }

    /// A slot was granted, where the model was found as is returned. An answer of which a part was said goes on under it: where
    /// the model was found first stays, and the waits are added up.
    pub(crate) fn granted(&mut self, lease: &Lease) -> CacheStatus {
        let mut record = self.record();
        let tier = match lease.grant_kind() {
            GrantKind::Hit => CacheStatus::Hit,
            GrantKind::Parked => CacheStatus::Parked,
            GrantKind::Joined => CacheStatus::Joined,
            GrantKind::Cold if record.timings.fetch_ms > 0.0 && !record.has_spoken => CacheStatus::Fetched,
            GrantKind::Cold => CacheStatus::Cold,
        };
        let mut before = (0.0, 0.0);
        if record.has_spoken {
            before = (record.timings.queue_ms, record.timings.load_ms);
        } else {
            record.is_granted = true;
            record.tier = tier;
        }
        record.timings.queue_ms = before.0 + lease.queue_ms();
        record.timings.load_ms = before.1 + lease.load_ms();
        tier
    }

    /// Where its model was found.
    pub(crate) fn tier(&self) -> CacheStatus {
        self.record().tier
    }

    /// Where its time went until now.
    pub(crate) fn timings(&self) -> Timings {
        self.record().timings()
    }

    pub(crate) fn prefilling(&mut self, computed: u32, of: u32) {
        self.prompt = Some((computed, of));
    }

    pub(crate) fn prefilled(&mut self, usage: Usage, prefill_ms: f64) {
        self.prompt = Some((usage.prompt_tokens, usage.prompt_tokens));
        let mut record = self.record();
        record.usage = usage;
        record.has_prefilled = true;
        record.timings.prefill_ms = prefill_ms;
    }

    /// A part of an answer that is no text was said: it is not begun anew.
    pub(crate) fn spoke(&self) {
        self.record().has_spoken = true;
    }

    pub(crate) fn token(&mut self) {
        let mut record = self.record();
        record.has_spoken = true;
        if record.first_token.is_none() {
            let now = Instant::now();
            record.first_token = Some(now);
            record.timings.first_token_ms = ms(record.began, now);
        }
        record.usage.completion_tokens += 1;
    }

    /// The last token added to a thought alone.
    pub(crate) fn thought(&self) {
        self.record().usage.thinking_tokens += 1;
    }

    /// What there is when the time is over: the text so far.
    ///
    /// # Errors
    /// `DeadlineExceeded` before the first token, with how far the prompt was; another try would compute as long.
    pub(crate) fn timed_out(&self) -> Result<Summary, Failure> {
        let record = *self.record();
        if record.first_token.is_some() {
            return Ok(record.summary(FinishReason::TimedOut));
        }
        let so_far = self.prompt.map_or_else(
            || "the prompt had not begun to be computed".to_owned(),
            |(computed, of)| format!("{computed} of {of} prompt tokens computed"),
        );
        Err(self.too_late(&format!("no token yet, {so_far}"), "allow more time, or shorten the prompt"))
    }

    /// How long its answer has been coming.
    pub(crate) fn answering_for(&self) -> Duration {
        self.record().first_token.map_or(Duration::ZERO, |first| first.elapsed())
    }

    /// The end of an answer that is cut here, because there is enough of it.
    pub(crate) fn enough(&self) -> Summary {
        self.record().summary(FinishReason::Length)
    }

    /// What is said when the time is over and there is nothing that would be of use; another try would take as long.
    pub(crate) fn too_late(&self, so_far: &str, hint: &str) -> Failure {
        let after = TimeSpan::from_ms(self.record().began.elapsed().as_millis() as u64);
        Failure::new(ErrorKind::DeadlineExceeded, format!("the time was over after {after}: {so_far}"))
            .with_hint(hint)
            .lasting()
    }

    /// The end of the answer, as the engine tells it.
    pub(crate) fn done(&mut self, finish: FinishReason, usage: Usage) -> Summary {
        let mut record = self.record();
        record.usage = usage;
        record.summary(finish)
    }

    fn record(&self) -> MutexGuard<'_, Record> {
        lock(&self.record)
    }
}

fn lock(record: &Mutex<Record>) -> MutexGuard<'_, Record> {
    // Every change is made by plain assignments: a panic elsewhere cannot leave it half-made.
    record.lock().unwrap_or_else(PoisonError::into_inner)
}

fn ms(from: Instant, to: Instant) -> f64 {
    (to - from).as_secs_f64() * 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn whoever_reads_on_the_way_reads_what_the_summary_says() {
        let mut request_trace = RequestTrace::begin(None);
        let view = request_trace.view();
        assert_eq!((view.prefill_ms(), view.first_token_ms(), view.tier()), (None, None, None));
        assert_eq!(view.cut(), None, "no slot was granted yet");
        let usage = Usage { prompt_tokens: 5, ..Usage::default() };
        request_trace.prefilled(usage, 7.0);
        tokio::time::advance(Duration::from_millis(30)).await;
        request_trace.token();
        request_trace.thought();
        tokio::time::advance(Duration::from_millis(20)).await;
        let so_far = request_trace.timed_out().expect("a token was said").usage;
        assert_eq!((so_far.completion_tokens, so_far.thinking_tokens), (1, 1));
        assert_eq!((view.prefill_ms(), view.first_token_ms()), (Some(7.0), Some(30.0)));
        let so_far = view.timings();
        let summary = request_trace.done(FinishReason::Stop, Usage { completion_tokens: 1, ..usage });
        assert_eq!(summary.timings, so_far);
        assert_eq!((so_far.first_token_ms, so_far.decode_ms, so_far.total_ms), (30.0, 20.0, 50.0));
        assert_eq!(summary.usage.completion_tokens, 1);
    }
}
