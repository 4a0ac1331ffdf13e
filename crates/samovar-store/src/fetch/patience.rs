//! How long to wait before the same is asked again, and when to give up.

use std::time::Duration;

use backon::{BackoffBuilder as _, ExponentialBackoff, ExponentialBuilder};

use crate::config::RetryConfig;
use crate::error::Error;

/// The waits between tries of one thing.
pub(crate) struct Patience {
    config: RetryConfig,
    waits: ExponentialBackoff,
}

impl Patience {
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

/// Does something until it succeeds, fails for good, or was tried often enough.
pub(crate) async fn patiently<T, F: Future<Output = Result<T, Error>>>(
    config: RetryConfig,
    mut attempt: impl FnMut() -> F,
) -> Result<T, Error> {
    let mut patience = Patience::new(config);
    loop {
        match attempt().await {
            Ok(value) => return Ok(value),
            Err(error) => match patience.after(&error) {
                Some(wait) => {
                    tracing::debug!(%error, ?wait, "will be tried again");
                    tokio::time::sleep(wait).await;
                }
                None => return Err(error),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: RetryConfig = RetryConfig {
        tries: 4,
        first_wait: Duration::from_millis(100),
        longest_wait: Duration::from_secs(2),
    };

    fn passing(retry_after: Option<u64>) -> Error {
        let retry_after = retry_after.map(Duration::from_secs);
        Error::Unreachable { subject: "x".to_owned(), message: "y".to_owned(), retry_after }
    }

    #[test]
    fn waits_double_with_jitter_and_end() {
        let mut patience = Patience::new(CONFIG);
        let waits: Vec<_> = std::iter::from_fn(|| patience.after(&passing(None))).collect();
        assert_eq!(waits.len(), 3, "the first try has no wait");
        for (wait, least) in waits.iter().zip([100, 200, 400]) {
            assert!(*wait >= Duration::from_millis(least) && *wait <= Duration::from_secs(2), "{waits:?}");
        }
        patience.restore();
        assert!(patience.after(&passing(None)).is_some());
    }

    #[test]
    fn a_servers_wish_counts_up_to_the_longest_wait() {
        let mut patience = Patience::new(CONFIG);
        assert_eq!(patience.after(&passing(Some(1))), Some(Duration::from_secs(1)));
        assert_eq!(patience.after(&passing(Some(86_400))), Some(Duration::from_secs(2)));
    }

    #[test]
    fn what_will_not_pass_is_not_waited_for() {
        let lie = Error::Lie { subject: "x".to_owned(), message: "y".to_owned() };
        assert_eq!(Patience::new(CONFIG).after(&lie), None);
    }

    #[tokio::test(start_paused = true)]
    async fn tries_as_often_as_said_and_reports_the_last() {
        let mut tries = 0;
        let result = patiently(CONFIG, || {
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
