//! A key in force: what it may do, what it has used, and its end. One lock, held for a few calculations and never while anything waits.
//!
//! ```text
//!   request ─► begin (requests per minute, at the same time) ─► Underway … dropped with the last byte of the answer
//!           ─► reserve (tokens per minute, by an estimate)   ─► Reserved, one for each work … settled with what all of them used
//! ```

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use samovar_core::{ErrorKind, Failure};
use tokio::sync::watch;
use tokio::time::Instant;

use super::gcra::{Gcra, Taken};
use super::record::KeyRecord;
use super::scope::Scope;
use crate::moment::now_unix_s;

/// How often a running answer looks whether its key has expired: the machine's clock may be set, or the machine sleep.
const EXPIRY_LOOK: Duration = Duration::from_secs(30);
/// When a key comes back that has all its requests under way.
const RETRY_CONCURRENCY_MS: u64 = 1_000;

const LIMIT_REQUESTS: HeaderName = HeaderName::from_static("x-ratelimit-limit-requests");
const LIMIT_TOKENS: HeaderName = HeaderName::from_static("x-ratelimit-limit-tokens");
const REMAINING_REQUESTS: HeaderName = HeaderName::from_static("x-ratelimit-remaining-requests");
const REMAINING_TOKENS: HeaderName = HeaderName::from_static("x-ratelimit-remaining-tokens");
const RESET_REQUESTS: HeaderName = HeaderName::from_static("x-ratelimit-reset-requests");
const RESET_TOKENS: HeaderName = HeaderName::from_static("x-ratelimit-reset-tokens");

/// A key in force.
#[derive(Debug)]
pub(crate) struct Account {
    pub(super) record: KeyRecord,
    /// Its name, or the word for all beyond the bound on labels.
    label: Arc<str>,
    pub(super) used: Arc<Used>,
    pub(super) life: Arc<Life>,
}

/// What the keys of one name have used. It outlives a key that is replaced by another of the same name.
#[derive(Debug)]
pub(super) struct Used {
    began: Instant,
    counts: Mutex<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    requests: Gcra,
    tokens: Gcra,
    underway: u32,
}

/// Until when a key is valid, in seconds since 1970; changed when the file changes.
pub(super) type Life = watch::Sender<Validity>;

/// Whether a key is valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Validity {
    /// Until this time, in seconds since 1970; `None` = without end.
    Until(Option<u64>),
    /// It was removed, or replaced by another.
    Revoked,
}

/// A request that is under way, for the limit on those at the same time.
#[derive(Debug)]
pub(crate) struct Underway {
    used: Arc<Used>,
}

/// Tokens that the works of a request may use, settled once by what all of them used.
#[derive(Debug)]
struct Reservation {
    account: Arc<Account>,
    taken: Taken,
    used: AtomicU64,
}

/// What one work uses of them. Dropped without a word, it used none.
#[derive(Debug)]
pub(crate) struct Reserved {
    reservation: Arc<Reservation>,
    used: u64,
}

impl Used {
    pub(super) fn new() -> Self {
        Self { began: Instant::now(), counts: Mutex::default() }
    }

    fn now_ns(&self) -> u64 {
        self.began.elapsed().as_nanos() as u64
    }

    fn with<T>(&self, change: impl FnOnce(&mut Counts, u64) -> T) -> T {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        // Read under the lock, so that it never goes back.
        let now_ns = self.now_ns();
        change(&mut counts, now_ns)
    }
}

impl Account {
    pub(super) fn new(record: KeyRecord, label: Arc<str>, used: Arc<Used>, life: Arc<Life>) -> Self {
        Self { record, label, used, life }
    }

    /// A key of this name without limits.
    #[cfg(test)]
    pub(crate) fn for_tests(name: &str, weight: Option<u32>) -> Self {
        let terms = super::record::KeyTerms { weight, ..Default::default() };
        let record = KeyRecord::new(name, samovar_core::Digest::of_bytes(name.as_bytes()), terms);
        let life = Arc::new(watch::Sender::new(Validity::Until(None)));
        Self::new(record, name.into(), Arc::new(Used::new()), life)
    }

    /// The key's name: that of the client.
    pub(crate) fn name(&self) -> &str {
        &self.record.name
    }

    /// The name in metrics.
    pub(crate) fn label(&self) -> &str {
        &self.label
    }

    /// Requests that the client has in each turn, where the key says it.
    pub(crate) fn weight(&self) -> Option<u32> {
        self.record.terms.weight
    }

    /// Whether the key may be used where `needed` is.
    pub(crate) fn may(&self, needed: Scope) -> bool {
        self.record.terms.scopes.iter().any(|scope| scope.covers(needed))
    }

    /// Whether its requests may name this model.
    pub(crate) fn allows_model(&self, name: &str) -> bool {
        self.record.terms.allow_model(name)
    }

    /// Refuses a model that its requests may not name.
    ///
    /// # Errors
    /// `Forbidden`.
    pub(crate) fn check_model(&self, name: &str) -> Result<(), Failure> {
        if self.allows_model(name) {
            return Ok(());
        }
        let shown: String = name.chars().filter(|c| !c.is_control()).take(100).collect();
        let message = format!("the key `{}` may not use the model `{shown}`", self.name());
        Err(Failure::new(ErrorKind::Forbidden, message)
            .with_param("model")
            .with_hint("GET /v1/models lists those that it may use"))
    }

    /// Refuses what concerns every model, where its requests may name some alone.
    ///
    /// # Errors
    /// `Forbidden`.
    pub(crate) fn check_every_model(&self) -> Result<(), Failure> {
        if self.record.terms.models.is_empty() {
            return Ok(());
        }
        let message = format!("the key `{}` may use some models alone, and this is for all", self.name());
        Err(Failure::new(ErrorKind::Forbidden, message)
            .with_hint("name a model where the route takes one, or send a key without `--models`"))
    }

    /// Whether it is valid at this moment.
    ///
    /// # Errors
    /// `Unauthenticated` that says why it is not.
    pub(crate) fn check_validity(&self) -> Result<(), Failure> {
        match *self.life.borrow() {
            Validity::Revoked => Err(self.ended("was removed or replaced")),
            Validity::Until(Some(end)) if end <= now_unix_s() => Err(self.ended("has expired")),
            Validity::Until(_) => Ok(()),
        }
    }

    /// Resolves when it is not valid any more.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub(crate) async fn invalid(&self) -> Failure {
        let mut changes = self.life.subscribe();
        loop {
            let validity = *changes.borrow_and_update();
            if let Err(failure) = self.check_validity() {
                return failure;
            }
            let left = match validity {
                Validity::Until(Some(end)) => Some(Duration::from_secs(end.saturating_sub(now_unix_s()))),
                Validity::Until(None) | Validity::Revoked => None,
            };
            let look = left.unwrap_or_default().min(EXPIRY_LOOK);
            tokio::select! {
                // The sender lives in `self`, so waiting cannot fail.
                _ = changes.changed() => {}
                () = tokio::time::sleep(look), if left.is_some() => {}
            }
        }
    }

    fn ended(&self, how: &str) -> Failure {
        Failure::new(ErrorKind::Unauthenticated, format!("the key `{}` {how}", self.name()))
            .with_hint("ask the owner of this server for another one")
    }

    /// Lets a request in.
    ///
    /// # Errors
    /// `RateLimited` with the time after which it may be let in; nothing is counted then.
    pub(crate) fn begin(&self) -> Result<Underway, Failure> {
        let terms = &self.record.terms;
        self.used.with(|counts, now_ns| {
            if terms.concurrency.is_some_and(|most| counts.underway >= most) {
                let most = counts.underway;
                let what = format!("has {most} requests under way, which is as many as it may have");
                return Err(self.limited(&what, RETRY_CONCURRENCY_MS));
            }
            if let Some(limit) = terms.requests_per_minute {
                counts.requests.take(limit, 1, now_ns).map_err(|wait_ns| {
                    self.limited(&format!("has used its {limit} requests per minute"), ms(wait_ns))
                })?;
            }
            counts.underway += 1;
            Ok(Underway { used: Arc::clone(&self.used) })
        })
    }

    /// Sets tokens aside for the works of a request.
    ///
    /// # Errors
    /// `RateLimited` with the time after which there are as many.
    pub(crate) fn reserve(self: &Arc<Self>, tokens: u64) -> Result<Reserved, Failure> {
        let taken = match self.record.terms.tokens_per_minute {
            None => Taken::default(),
            Some(limit) => {
                let taken = self.used.with(|counts, now_ns| counts.tokens.take(limit, tokens, now_ns));
                taken.map_err(|wait_ns| {
                    self.limited(&format!("has used its {limit} tokens per minute"), ms(wait_ns))
                })?
            }
        };
        let reservation = Reservation { account: Arc::clone(self), taken, used: AtomicU64::new(0) };
        Ok(Reserved { reservation: Arc::new(reservation), used: 0 })
    }

    fn limited(&self, what: &str, retry_after_ms: u64) -> Failure {
        Failure::new(ErrorKind::RateLimited, format!("the key `{}` {what}", self.name()))
            .with_hint("send the request again after the time that `retry-after` says")
            .with_retry_after_ms(retry_after_ms.max(1))
    }

    /// What is left of its limits, in the headers that OpenAI's clients read; none for a key without limits.
    pub(crate) fn tell_limits(&self, headers: &mut HeaderMap) {
        let terms = &self.record.terms;
        if terms.requests_per_minute.is_none() && terms.tokens_per_minute.is_none() {
            return;
        }
        let (requests, tokens, now_ns) =
            self.used.with(|counts, now_ns| (counts.requests, counts.tokens, now_ns));
        let limits = [
            (terms.requests_per_minute, requests, [LIMIT_REQUESTS, REMAINING_REQUESTS, RESET_REQUESTS]),
            (terms.tokens_per_minute, tokens, [LIMIT_TOKENS, REMAINING_TOKENS, RESET_TOKENS]),
        ];
        for (limit, gcra, [name, remaining, reset]) in limits {
            let Some(limit) = limit else { continue };
            headers.insert(name, HeaderValue::from(limit));
            headers.insert(remaining, HeaderValue::from(gcra.remaining(limit, now_ns)));
            if let Ok(span) = HeaderValue::from_str(&in_words(ms(gcra.until_full_ns(now_ns)))) {
                headers.insert(reset, span);
            }
        }
    }
}

impl Drop for Underway {
    fn drop(&mut self) {
        self.used.with(|counts, _| counts.underway = counts.underway.saturating_sub(1));
    }
}

impl Reserved {
    /// The same tokens for another work of the request.
    pub(crate) fn share(&self) -> Self {
        Self { reservation: Arc::clone(&self.reservation), used: 0 }
    }

    /// So many tokens were used so far, of the prompt and of the answer together.
    pub(crate) fn use_up_to(&mut self, tokens: u64) {
        self.used = self.used.max(tokens);
    }

    /// So many were used in total, which is known now.
    pub(crate) fn use_exactly(&mut self, tokens: u64) {
        self.used = tokens;
    }

    /// So many more were used.
    pub(crate) fn use_more(&mut self, tokens: u64) {
        self.used = self.used.saturating_add(tokens);
    }

    /// What was used so far.
    pub(crate) const fn used(&self) -> u64 {
        self.used
    }

    pub(crate) fn account(&self) -> &Arc<Account> {
        &self.reservation.account
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        self.reservation.used.fetch_add(self.used, Ordering::Relaxed);
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let Some(limit) = self.account.record.terms.tokens_per_minute else { return };
        let used = *self.used.get_mut();
        self.account.used.with(|counts, now_ns| counts.tokens.settle(limit, self.taken, used, now_ns));
    }
}

/// Whole milliseconds, rounded up.
const fn ms(ns: u64) -> u64 {
    ns.div_ceil(1_000_000)
}

/// A span as OpenAI writes it: `0s`, `120ms`, `8.64s`, `6m0s`.
fn in_words(ms: u64) -> String {
    let seconds = |ms: u64| {
        let text = format!("{}.{:03}", ms / 1000, ms % 1000);
        format!("{}s", text.trim_end_matches('0').trim_end_matches('.'))
    };
    match ms {
        0 => "0s".to_owned(),
        1..1_000 => format!("{ms}ms"),
        1_000..60_000 => seconds(ms),
        _ => format!(
            "{}m{}",
            ms / 60_000,
            if ms.is_multiple_of(60_000) { "0s".to_owned() } else { seconds(ms % 60_000) }
        ),
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use samovar_core::Digest;

    use super::super::record::KeyTerms;
    use super::*;

    fn account(terms: KeyTerms) -> Arc<Account> {
        let end = terms.expires_unix_s;
        let record = KeyRecord::new("ci", Digest::of_bytes(b"x"), terms);
        let life = Arc::new(watch::Sender::new(Validity::Until(end)));
        Arc::new(Account::new(record, "ci".into(), Arc::new(Used::new()), life))
    }

    fn header<'a>(headers: &'a HeaderMap, name: &HeaderName) -> &'a str {
        headers[name].to_str().expect("text")
    }

    #[test]
    fn sixty_four_threads_get_exactly_the_limit() {
        const LIMIT: u32 = 1_000;
        let started = std::time::Instant::now();
        let account = account(KeyTerms { requests_per_minute: Some(LIMIT), ..KeyTerms::default() });
        let began: usize = std::thread::scope(|scope| {
            let asks = || (0..100).filter(|_| account.begin().is_ok()).count();
            let threads: Vec<_> = (0..64).map(|_| scope.spawn(asks)).collect();
            threads.into_iter().map(|thread| thread.join().expect("ends")).sum()
        });
        // Meanwhile a request comes back every 60 ms.
        let came_back = started.elapsed().as_millis() as usize / 60;
        let (least, most) = (LIMIT as usize, LIMIT as usize + came_back);
        assert!((least..=most).contains(&began), "{began} of {least} to {most}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_beyond_the_limit_is_told_when_to_come_again() {
        let account = account(KeyTerms { requests_per_minute: Some(2), ..KeyTerms::default() });
        assert!(account.begin().is_ok() && account.begin().is_ok());
        let failure = account.begin().expect_err("limited");
        assert_eq!((failure.kind, failure.retry_after_ms), (ErrorKind::RateLimited, Some(30_000)));
        let mut headers = HeaderMap::new();
        account.tell_limits(&mut headers);
        assert_eq!(header(&headers, &LIMIT_REQUESTS), "2");
        assert_eq!(header(&headers, &REMAINING_REQUESTS), "0");
        assert_eq!(header(&headers, &RESET_REQUESTS), "1m0s");
        assert!(!headers.contains_key(LIMIT_TOKENS));
        tokio::time::advance(Duration::from_secs(30)).await;
        assert!(account.begin().is_ok() && account.begin().is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn requests_at_the_same_time_are_bounded_until_they_end() {
        let terms = KeyTerms { concurrency: Some(2), requests_per_minute: Some(3), ..KeyTerms::default() };
        let account = account(terms);
        let (one, _two) = (account.begin().expect("first"), account.begin().expect("second"));
        assert_eq!(account.begin().expect_err("a third").retry_after_ms, Some(RETRY_CONCURRENCY_MS));
        drop(one);
        let _three = account.begin().expect("what was refused was not counted");
    }

    #[tokio::test(start_paused = true)]
    async fn tokens_that_were_not_used_come_back() {
        let account = account(KeyTerms { tokens_per_minute: Some(1_000), ..KeyTerms::default() });
        let mut answer = account.reserve(800).expect("fits");
        assert!(account.reserve(300).is_err(), "they are set aside");
        answer.use_up_to(100);
        answer.use_more(50);
        drop(answer);
        let mut headers = HeaderMap::new();
        account.tell_limits(&mut headers);
        assert_eq!(header(&headers, &REMAINING_TOKENS), "850");
        drop(account.reserve(850).expect("they are there"));
        assert!(account.reserve(850).is_ok(), "nothing was used of them");
    }

    #[tokio::test(start_paused = true)]
    async fn the_works_of_a_request_are_settled_together() {
        let account = account(KeyTerms { tokens_per_minute: Some(1_000), ..KeyTerms::default() });
        let mut one = account.reserve(5_000).expect("all of a minute's are there");
        let mut other = one.share();
        one.use_more(300);
        other.use_more(200);
        drop(one);
        assert!(account.reserve(1).is_err(), "the other has not ended");
        drop(other);
        let mut headers = HeaderMap::new();
        account.tell_limits(&mut headers);
        assert_eq!(header(&headers, &REMAINING_TOKENS), "500");
    }

    #[tokio::test(start_paused = true)]
    async fn what_runs_hears_when_its_key_is_revoked() {
        let account = account(KeyTerms::default());
        assert!(account.check_validity().is_ok());
        let mut waits = std::pin::pin!(account.invalid());
        assert!(waits.as_mut().now_or_never().is_none());
        account.life.send_replace(Validity::Revoked);
        assert_eq!(waits.await.kind, ErrorKind::Unauthenticated);
        assert!(account.check_validity().is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_that_has_expired_is_not_valid() {
        let account = account(KeyTerms { expires_unix_s: Some(now_unix_s()), ..KeyTerms::default() });
        let failure = account.invalid().await;
        assert!(failure.message.contains("expired"), "{failure}");
        assert!(!failure.message.contains("sk-"));
    }

    #[test]
    fn spans_are_written_as_openai_writes_them() {
        let spans = [0, 1, 999, 1_000, 8_640, 60_000, 86_400, 360_000].map(in_words);
        assert_eq!(spans, ["0s", "1ms", "999ms", "1s", "8.64s", "1m0s", "1m26.4s", "6m0s"]);
    }
}
