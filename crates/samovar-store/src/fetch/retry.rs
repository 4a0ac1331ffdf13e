//! How long to wait before the same is asked again, and when to give up.

use std::sync::Arc;
use std::time::Duration;

use backon::{BackoffBuilder as _, ExponentialBackoff, ExponentialBuilder};
use tokio::time::Instant;

use crate::config::RetryConfig;
use crate::error::Error;
use crate::fetch::meter::Meter;

/// Where no server is to be asked, a question is not asked more than once again after this long: the address is wrong, or the
/// network is not there, and a person waits. A download that has begun is retried as often as the settings say.
const NOBODY_THERE: Duration = Duration::from_secs(4);
/// After this long without an answer, those that wait are told.
const SLOW: Duration = Duration::from_millis(1_500);

tokio::task_local! {
    /// Who is told that a source does not answer: sources know nothing of who watches.
    static METER: Arc<Meter>;
}

/// Does something whose vain questions the meter's watchers are told.
pub(crate) async fn told<F: Future>(meter: Arc<Meter>, work: F) -> F::Output {
    METER.scope(meter, work).await
}

fn tell(reason: &str) {
    // Without a meter there is no watcher.
    let _ = METER.try_with(|meter| meter.unanswered(reason));
}

/// The waits between tries of one thing.
pub(crate) struct Retries {
    config: RetryConfig,
    waits: ExponentialBackoff,
}

impl Retries {
    pub(crate) fn new(config: RetryConfig) -> Self {
        Self { config, waits: waits(config) }
    }

    /// How long to wait after this failure; `None` when it is final. A server's own wish counts, up to the
    /// longest wait.
    pub(crate) fn after(&mut self, error: &Error) -> Option<Duration> {
        if !error.may_pass() {
            return None;
        }
        let wait = self.waits.next()?;
        let asked = match error {
            Error::Unreachable { retry_after, .. } => retry_after.unwrap_or_default(),
            _ => Duration::ZERO,
        };
        Some(wait.max(asked).min(self.config.longest_wait))
    }

    /// Something was achieved: what comes is counted anew.
    pub(crate) fn restore(&mut self) {
        self.waits = waits(self.config);
    }
}

fn waits(config: RetryConfig) -> ExponentialBackoff {
    ExponentialBuilder::new()
        .with_min_delay(config.first_wait)
        .with_max_delay(config.longest_wait)
        .with_factor(2.0)
        .with_max_times(config.tries.saturating_sub(1) as usize)
        .with_jitter()
        .build()
}

/// Asks until there is an answer, a failure for good, or it was asked often enough.
pub(crate) async fn with_retries<T, F: Future<Output = Result<T, Error>>>(
    config: RetryConfig,
    mut attempt: impl FnMut() -> F,
) -> Result<T, Error> {
    let mut retries = Retries::new(config);
    let (began, mut tries) = (Instant::now(), 0);
    loop {
        tries += 1;
        let mut asked = std::pin::pin!(attempt());
        let answer = if let Ok(answer) = tokio::time::timeout(SLOW, &mut asked).await {
            answer
        } else {
            tell("no answer yet");
            asked.await
        };
        let error = match answer {
            Ok(value) => return Ok(value),
            Err(error) => error,
        };
        let is_silent = matches!(error, Error::Unreachable { is_silent: true, .. });
        // One connection that was not made in time may be a packet that was lost.
        let is_worth_it =
            |wait: &Duration| !is_silent || tries == 1 || began.elapsed() + *wait <= NOBODY_THERE;
        let Some(wait) = retries.after(&error).filter(is_worth_it) else { return Err(error) };
        tracing::debug!(%error, ?wait, "will be tried again");
        if let Error::Unreachable { message, .. } = &error {
            tell(message);
        }
        tokio::time::sleep(wait).await;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::fetch::progress::Progress;

    const CONFIG: RetryConfig = RetryConfig {
        tries: 4,
        first_wait: Duration::from_millis(100),
        longest_wait: Duration::from_secs(2),
    };

    fn passing(retry_after: Option<u64>) -> Error {
        let retry_after = retry_after.map(Duration::from_secs);
        Error::Unreachable { subject: "x".to_owned(), message: "y".to_owned(), retry_after, is_silent: false }
    }

    fn silent() -> Error {
        Error::Unreachable {
            subject: "x".to_owned(),
            message: "refused".to_owned(),
            retry_after: None,
            is_silent: true,
        }
    }

    /// What watchers hear of some work, each with the milliseconds since it began.
    async fn heard<F: Future>(work: F) -> (F::Output, Vec<(u128, Progress)>) {
        let seen = Arc::new(Mutex::new(Vec::<(u128, Progress)>::new()));
        let (meter, sink, began) = (Arc::new(Meter::default()), Arc::clone(&seen), Instant::now());
        let watching = meter.attach(Arc::new(move |progress: Progress| {
            sink.lock().unwrap().push((began.elapsed().as_millis(), progress));
        }));
        let output = told(Arc::clone(&meter), work).await;
        drop(watching);
        let seen = seen.lock().unwrap().clone();
        (output, seen)
    }

    #[tokio::test(start_paused = true)]
    async fn where_nobody_is_there_it_is_said_at_once_and_given_up_soon() {
        let config = RetryConfig { tries: 100, first_wait: Duration::from_millis(500), ..CONFIG };
        let (began, mut tries) = (Instant::now(), 0);
        let ask = || {
            tries += 1;
            std::future::ready(Err::<(), _>(silent()))
        };
        let (result, heard) = heard(with_retries(config, ask)).await;
        assert!(matches!(result, Err(Error::Unreachable { is_silent: true, .. })), "{result:?}");
        assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
        assert!(tries > 1, "it is asked again");
        assert_eq!(heard[0], (0, Progress::Unanswered { reason: "refused".to_owned() }));
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_takes_long_to_fail_is_tried_once_more_where_the_settings_let_it() {
        for (allowed, expected) in [(1, 1), (2, 2), (100, 2)] {
            let mut tries = 0;
            let ask = || {
                tries += 1;
                async {
                    tokio::time::sleep(Duration::from_secs(10)).await;
                    Err::<(), _>(silent())
                }
            };
            let result = with_retries(RetryConfig { tries: allowed, ..CONFIG }, ask).await;
            assert!(result.is_err());
            assert_eq!(tries, expected, "of {allowed}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_takes_long_is_said_to() {
        let ask = || async {
            tokio::time::sleep(Duration::from_secs(8)).await;
            Ok(7)
        };
        let (result, heard) = heard(with_retries(CONFIG, ask)).await;
        assert_eq!(result.unwrap(), 7);
        assert!(heard.len() == 1 && heard[0].0 < 2_000, "{heard:?}");
    }

    #[test]
    fn waits_double_with_jitter_and_end() {
        let mut retries = Retries::new(CONFIG);
        let waits: Vec<_> = std::iter::from_fn(|| retries.after(&passing(None))).collect();
        assert_eq!(waits.len(), 3, "the first try has no wait");
        for (wait, least) in waits.iter().zip([100, 200, 400]) {
            assert!(*wait >= Duration::from_millis(least) && *wait <= Duration::from_secs(2), "{waits:?}");
        }
        retries.restore();
        assert!(retries.after(&passing(None)).is_some());
    }

    #[test]
    fn a_servers_wish_counts_up_to_the_longest_wait() {
        let mut retries = Retries::new(CONFIG);
        assert_eq!(retries.after(&passing(Some(1))), Some(Duration::from_secs(1)));
        assert_eq!(retries.after(&passing(Some(86_400))), Some(Duration::from_secs(2)));
    }

    #[test]
    fn what_will_not_pass_is_not_waited_for() {
        let lie = Error::BadAnswer { subject: "x".to_owned(), message: "y".to_owned() };
        assert_eq!(Retries::new(CONFIG).after(&lie), None);
    }

    #[tokio::test(start_paused = true)]
    async fn tries_as_often_as_said_and_reports_the_last() {
        let mut tries = 0;
        let result = with_retries(CONFIG, || {
            tries += 1;
            std::future::ready(Err::<(), _>(passing(Some(tries))))
        })
        .await;
        assert!(
            matches!(result, Err(Error::Unreachable { retry_after: Some(wait), .. }) if wait.as_secs() == 4)
        );
        assert_eq!(tries, 4);
    }
}
