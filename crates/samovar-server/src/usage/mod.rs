//! Counts of use: requests and tokens for each client, model and day (UTC), kept over restarts.
//!
//! ```text
//!   request ends ─► pending counts, in memory ─ every 5 s, and at the end ─► FOLDER/2026-11-30.json
//!                          └───────────────────────┬───────────────────────────────┘
//!                                               report ─► GET /admin/usage, `samovar usage`
//! ```
//!
//! A request counts for the day on which it ends, with what was computed for it, also if its client left. A crash loses five seconds.
//! Several daemons may share a folder: each adds to what is there. Nothing here knows a prompt.

mod files;
mod report;
mod rows;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use samovar_core::Failure;
use tokio::sync::Notify;

use crate::moment;
use crate::request_record::EndedRequest;
use files::UsageFolder;
use report::Sums;
pub use report::{GroupBy, UsageReport, UsageRow};
use rows::{Count, Key, Rows};

/// How often the counts are written, at most.
const WRITE_EVERY: Duration = Duration::from_secs(5);
/// How long leaving waits for the last counts to be written.
const LAST_WRITE: Duration = Duration::from_secs(1);

/// The counts of use. Clones are the same.
#[derive(Clone, Debug)]
pub(crate) struct UsageCounts {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    folder: UsageFolder,
    /// What has been counted and not been written.
    pending: Mutex<Rows>,
    /// One write at a time, and no report between a write and the end of what was pending.
    writing: Mutex<bool>,
    changed: Notify,
}

impl UsageCounts {
    /// Keeps the counts in this folder, which is made when there is something to write.
    pub(crate) fn new(folder: PathBuf) -> Self {
        let inner = Inner {
            folder: UsageFolder::new(folder),
            pending: Mutex::default(),
            writing: Mutex::default(),
            changed: Notify::new(),
        };
        Self { inner: Arc::new(inner) }
    }

    /// Counts a request, if it was granted a slot.
    pub(crate) fn count(&self, ended: &EndedRequest) {
        let Some(model) = ended.model.as_deref().filter(|_| ended.is_granted) else { return };
        let key = Key {
            day: moment::day(ended.began + ended.took),
            client: ended.client.clone(),
            model: model.to_owned(),
        };
        let count = Count {
            requests: 1,
            prompt_tokens: ended.prompt_tokens,
            cached_tokens: ended.cached_tokens,
            answer_tokens: ended.answer_tokens,
        };
        self.inner.pending().add(key, count);
        self.inner.changed.notify_one();
    }

    /// Writes what was counted, again and again. Never ends by itself.
    pub(crate) async fn keep(&self) {
        loop {
            self.inner.changed.notified().await;
            tokio::time::sleep(WRITE_EVERY).await;
            self.write().await;
        }
    }

    /// Writes what was counted last; waits for a second at most, since a disk may be stuck.
    pub(crate) async fn flush_at_the_end(&self) {
        tokio::time::timeout(LAST_WRITE, self.write()).await.ok();
    }

    /// What was used on the day so long ago and later, or on all days, written or not.
    ///
    /// # Errors
    /// `Storage` when a file cannot be read.
    pub(crate) async fn report(
        &self,
        back: Option<Duration>,
        by: Vec<GroupBy>,
    ) -> Result<UsageReport, Failure> {
        let inner = Arc::clone(&self.inner);
        let reading = tokio::task::spawn_blocking(move || inner.report(back, &by));
        reading.await.unwrap_or_else(|_| Err(files::fault("the counts of use could not be put together")))
    }

    async fn write(&self) {
        let inner = Arc::clone(&self.inner);
        // It logs what goes wrong.
        let _ = tokio::task::spawn_blocking(move || inner.write()).await;
    }
}

impl Inner {
    fn pending(&self) -> MutexGuard<'_, Rows> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the last write failed, while no other one is under way.
    fn writing(&self) -> MutexGuard<'_, bool> {
        self.writing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn report(&self, back: Option<Duration>, by: &[GroupBy]) -> Result<UsageReport, Failure> {
        let since = day_back(back);
        let first = since.as_deref().unwrap_or_default();
        let mut sums = Sums::by(by);
        let _writing = self.writing();
        self.folder.read_since(first, |key, count| sums.add(key, count))?;
        for (key, count) in self.pending().since(first) {
            sums.add(key, count);
        }
        Ok(sums.report(since))
    }

    /// Adds what is pending to the files. What cannot be written stays pending.
    fn write(&self) {
        let mut has_failed = self.writing();
        let pending = std::mem::take(&mut *self.pending());
        if pending.is_empty() {
            return;
        }
        let (unwritten, failure) = self.folder.add(pending);
        if let Some(failure) = failure {
            let was_told = std::mem::replace(&mut *has_failed, true);
            if !was_told {
                let hint = failure.hint.as_deref();
                tracing::warn!(
                    hint,
                    "the counts of use cannot be written, and are kept in memory: {failure}"
                );
            }
            self.pending().extend(unwritten);
            self.changed.notify_one();
        } else {
            *has_failed = false;
        }
    }
}

/// What was used on the day so long ago and later, or on all days, read from the files of a daemon that is not there.
///
/// # Errors
/// `Storage` when a file cannot be read.
pub fn read_usage(folder: &Path, back: Option<Duration>, by: &[GroupBy]) -> Result<UsageReport, Failure> {
    let since = day_back(back);
    let mut sums = Sums::by(by);
    let first = since.as_deref().unwrap_or_default();
    UsageFolder::new(folder.to_owned()).read_since(first, |key, count| sums.add(key, count))?;
    Ok(sums.report(since))
}

/// The day so long ago.
fn day_back(back: Option<Duration>) -> Option<String> {
    back.map(|back| moment::day(moment::since_1970().saturating_sub(back)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request_record::tests::ended;

    const BY_BOTH: [GroupBy; 2] = [GroupBy::Client, GroupBy::Model];
    const A_DAY: Duration = Duration::from_secs(86_400);

    fn numbers(report: &UsageReport) -> Vec<(Option<&str>, Option<&str>, u64, u64)> {
        let rows = report.rows.iter();
        rows.map(|row| (row.client.as_deref(), row.model.as_deref(), row.requests, row.answer_tokens))
            .collect()
    }

    #[tokio::test]
    async fn counts_outlive_the_daemon_and_add_up() {
        let home = tempfile::tempdir().expect("tempdir");
        let folder = home.path().join("usage");
        for life in 1..=2 {
            let counts = UsageCounts::new(folder.clone());
            counts.count(&ended("alice", "demo", 5));
            counts.count(&ended("alice", "demo", 5));
            counts.count(&ended("bob", "demo", 1));
            let before = counts.report(None, BY_BOTH.to_vec()).await.expect("reads");
            let expected = [
                (Some("alice"), Some("demo"), 2 * life, 20 * life),
                (Some("bob"), Some("demo"), life, 2 * life),
            ];
            assert_eq!(numbers(&before), expected, "what is not written counts");
            counts.write().await;
            let after = counts.report(Some(A_DAY), BY_BOTH.to_vec()).await.expect("reads");
            assert_eq!(numbers(&after), expected, "and is not counted twice");
        }
        let read = read_usage(&folder, None, &[]).expect("reads");
        assert_eq!(numbers(&read), [(None, None, 6, 44)]);
    }

    #[tokio::test]
    async fn a_request_that_was_granted_nothing_is_not_counted() {
        let home = tempfile::tempdir().expect("tempdir");
        let counts = UsageCounts::new(home.path().join("usage"));
        let mut refused = ended("alice", "demo", 5);
        refused.is_granted = false;
        counts.count(&refused);
        counts.write().await;
        assert!(!home.path().join("usage").exists());
    }

    #[tokio::test]
    async fn what_cannot_be_written_is_kept_until_it_can() {
        let home = tempfile::tempdir().expect("tempdir");
        let folder = home.path().join("usage");
        fs_err::write(&folder, "in the way").expect("writes");
        let counts = UsageCounts::new(folder.clone());
        counts.count(&ended("alice", "demo", 5));
        counts.write().await;
        counts.count(&ended("alice", "demo", 5));
        fs_err::remove_file(&folder).expect("removes");
        counts.write().await;
        let read = read_usage(&folder, None, &[GroupBy::Client]).expect("reads");
        assert_eq!(numbers(&read), [(Some("alice"), None, 2, 20)]);
    }

    #[tokio::test(start_paused = true)]
    async fn counts_are_written_some_seconds_after_the_first() {
        let home = tempfile::tempdir().expect("tempdir");
        let folder = home.path().join("usage");
        let counts = UsageCounts::new(folder.clone());
        let keeping = tokio::spawn({
            let counts = counts.clone();
            async move { counts.keep().await }
        });
        counts.count(&ended("alice", "demo", 5));
        tokio::time::sleep(WRITE_EVERY.checked_sub(Duration::from_millis(1)).unwrap()).await;
        assert!(!folder.exists());
        let written = async {
            while !folder.exists() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), written).await.expect("it is written");
        keeping.abort();
    }
}
