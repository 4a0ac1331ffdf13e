//! The pool's statistics over all lives of the daemon, kept as one row of the store.
//!
//! ```text
//!   first look ─► row ─► earlier lives ─┐
//!   a second after a request, every
//!   minute, and at the end: ────────────┴─ + this life ─► row
//! ```
//!
//! A crash loses a second of requests at most; while there are no requests, the row is written once a minute for the uptime. A row that
//! is damaged is begun anew. A store that cannot be opened or asked is tried again the next time, and nothing is written over
//! what was not read; least of all over what a newer version wrote.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use samovar_pool::Statistics;
use samovar_store::Store;
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

use crate::lazy_store::LazyStore;

/// Where the row is kept.
const KEY: &str = "pool/statistics";
/// The version of the row's format.
const VERSION: u32 = 1;
/// Models whose counts are kept: the ones that were asked for last.
const MODELS: usize = 64;
/// Times of each of them that are kept for percentiles.
const TIMES: usize = 32;

/// The row.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct LifetimeRecord {
    version: u32,
    /// When counting began, in milliseconds since 1970.
    pub(crate) since_unix_ms: u64,
    /// Lives so far, this one included.
    pub(crate) starts: u64,
    #[serde(flatten)]
    pub(crate) statistics: Statistics,
}

impl LifetimeRecord {
    fn begin() -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self {
            version: VERSION,
            since_unix_ms: now.as_millis() as u64,
            starts: 0,
            statistics: Statistics::default(),
        }
    }

    /// These lives and one more.
    fn with(&self, counted: Statistics) -> Self {
        let statistics = counted.after(&self.statistics);
        Self {
            version: VERSION,
            since_unix_ms: self.since_unix_ms,
            starts: self.starts.saturating_add(1),
            statistics,
        }
    }
}

/// What was counted before this life.
enum Earlier {
    /// This.
    Read(Box<LifetimeRecord>),
    /// A newer version of the program knows, and this one leaves it alone.
    Newer,
}

/// Keeps the statistics of all lives.
pub(crate) struct LifetimeStats {
    lazy_store: Arc<LazyStore>,
    pages: Mutex<Pages>,
    changed: Notify,
}

#[derive(Default)]
struct Pages {
    /// Once it has been read.
    earlier: Option<Earlier>,
    /// How old this life was when the row was written last.
    written_at_ms: u64,
}

impl LifetimeStats {
    /// How often the row is written while nothing is counted but time.
    const QUIET_INTERVAL: Duration = Duration::from_secs(60);
    /// How often it is written at most.
    const BUSY_INTERVAL: Duration = Duration::from_secs(1);

    pub(crate) fn new(lazy_store: Arc<LazyStore>) -> Self {
        Self { lazy_store, pages: Mutex::default(), changed: Notify::new() }
    }

    /// Says that there is something new to be counted.
    pub(crate) fn note(&self) {
        self.changed.notify_one();
    }

    /// Waits until the row is to be written again.
    pub(crate) async fn wait(&self) {
        tokio::time::sleep(Self::BUSY_INTERVAL).await;
        // A minute without any news is one of uptime.
        tokio::time::timeout(Self::QUIET_INTERVAL, self.changed.notified()).await.ok();
    }

    /// Writes what was counted in this life and in the earlier ones, unless those cannot be read. Blocks.
    pub(crate) fn save(&self, counted: Statistics) {
        let Ok(store) = self.lazy_store.store() else { return };
        let mut pages = self.pages.lock().unwrap_or_else(PoisonError::into_inner);
        // Counted before what is written already, and late to come here.
        if counted.uptime_ms < pages.written_at_ms {
            return;
        }
        pages.written_at_ms = counted.uptime_ms;
        let Some(mut row) = with_earlier(&mut pages.earlier, &store, counted) else { return };
        row.statistics = row.statistics.shortened(MODELS, TIMES);
        if let Ok(json) = serde_json::to_string(&row) {
            store.remember(KEY, &json);
        }
    }

    /// All lives, this one's statistics included; `None` while the earlier ones cannot be read. Blocks.
    pub(crate) fn all(&self, counted: Statistics) -> Option<LifetimeRecord> {
        let store = self.lazy_store.store().ok()?;
        let mut pages = self.pages.lock().unwrap_or_else(PoisonError::into_inner);
        with_earlier(&mut pages.earlier, &store, counted)
    }
}

/// This life and those before it, which are read when they have not been.
fn with_earlier(earlier: &mut Option<Earlier>, store: &Store, counted: Statistics) -> Option<LifetimeRecord> {
    if earlier.is_none() {
        match store.recall(KEY) {
            Ok(row) => *earlier = Some(read(row.as_deref())),
            Err(error) => tracing::debug!("the statistics of earlier lives cannot be read now: {error}"),
        }
    }
    match earlier.as_ref()? {
        Earlier::Read(kept) => Some(kept.with(counted)),
        Earlier::Newer => None,
    }
}

/// What the row says.
fn read(row: Option<&str>) -> Earlier {
    #[derive(Deserialize)]
    struct Version {
        version: u32,
    }
    let Some(row) = row else { return Earlier::Read(Box::new(LifetimeRecord::begin())) };
    if let Ok(Version { version }) = serde_json::from_str(row)
        && version > VERSION
    {
        tracing::warn!(version, "the statistics of all lives are of a newer version, and left as they are");
        return Earlier::Newer;
    }
    match serde_json::from_str::<LifetimeRecord>(row) {
        Ok(kept) => Earlier::Read(Box::new(kept)),
        Err(error) => {
            tracing::warn!("the statistics of earlier lives cannot be read ({error}); counting begins again");
            Earlier::Read(Box::new(LifetimeRecord::begin()))
        }
    }
}

#[cfg(test)]
mod tests {
    use samovar_core::ModelKey;
    use samovar_pool::{ModelTally, Tally};
    use samovar_store::StoreConfig;

    use super::*;

    fn lifetime_stats(home: &std::path::Path) -> LifetimeStats {
        let config = StoreConfig::new(home.join("cache"), home.join("state"));
        LifetimeStats::new(Arc::new(LazyStore::new(config)))
    }

    fn counted(loads: u64) -> Statistics {
        let tally: Tally =
            serde_json::from_value(serde_json::json!({ "requests": 2 * loads, "loads": loads }))
                .expect("tally");
        let model = ModelTally { key: ModelKey::new("k"), name: "m".into(), tally: tally.clone() };
        Statistics { uptime_ms: 1_000, total: tally, models: vec![model] }
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_request_counted_is_written_within_a_second_and_quiet_costs_a_look_a_minute() {
        let home = tempfile::tempdir().expect("tempdir");
        let lifetime_stats = lifetime_stats(home.path());
        let waited = async || {
            let began = tokio::time::Instant::now();
            lifetime_stats.wait().await;
            began.elapsed().as_secs()
        };
        assert_eq!(waited().await, 61);
        for _ in 0..3 {
            lifetime_stats.note();
            assert_eq!(waited().await, 1);
        }
        assert_eq!(waited().await, 61);
    }

    #[test]
    fn lives_add_up_over_restarts_and_saving_often_counts_once() {
        let home = tempfile::tempdir().expect("tempdir");
        let first = lifetime_stats(home.path());
        first.save(counted(1));
        first.save(counted(3));
        first.save(counted(3));
        first.save(Statistics { uptime_ms: 999, ..counted(1) });
        drop(first);
        let second = lifetime_stats(home.path());
        second.save(counted(1));
        let all = second.all(counted(4)).expect("read");
        assert_eq!((all.starts, all.statistics.total.counters().loads), (2, 7));
        assert_eq!(all.statistics.models[0].tally.counters().loads, 7);
        assert_eq!(all.statistics.uptime_ms, 2_000);
        drop(second);
        let third = lifetime_stats(home.path());
        third.save(Statistics::default());
        let all = third.all(Statistics::default()).expect("read");
        assert_eq!(
            (all.starts, all.statistics.total.counters().loads),
            (3, 4),
            "a crash loses what was not written"
        );
    }

    #[test]
    fn a_damaged_row_is_begun_anew() {
        let home = tempfile::tempdir().expect("tempdir");
        for row in ["{\"version\":1,\"since", "{}", "{\"version\":0,\"starts\":7}", "[]"] {
            let config = StoreConfig::new(home.path().join("cache"), home.path().join("state"));
            Store::open(config).expect("opens").remember(KEY, row);
            let after = lifetime_stats(home.path());
            after.save(counted(2));
            let all = after.all(counted(2)).expect("read");
            assert_eq!((all.starts, all.statistics.total.counters().loads), (1, 2), "{row}");
        }
    }

    #[test]
    fn the_row_of_a_busy_life_is_small_enough_to_be_kept() {
        let home = tempfile::tempdir().expect("tempdir");
        let times: Vec<u64> = (0..256).map(|n| 100_000 + n).collect();
        let times =
            serde_json::json!({ "recent": times, "next": 0, "count": 9_999_999, "sum_ms": 999_999_999 });
        let tally: Tally = serde_json::from_value(serde_json::json!({
            "requests": u32::MAX, "hits": u32::MAX, "loads": u32::MAX, "load_times": times, "queue_times": times,
        }))
        .expect("tally");
        let model = |number: usize| ModelTally {
            key: ModelKey::new(format!("{number}-{}", "d".repeat(100))),
            name: format!("organisation/a-rather-long-name-of-a-model-{number}:Q4_K_M"),
            tally: tally.clone(),
        };
        let busy = Statistics { uptime_ms: 1, total: tally.clone(), models: (0..1_000).map(model).collect() };
        let first = lifetime_stats(home.path());
        first.save(busy);
        drop(first);
        let second = lifetime_stats(home.path());
        second.save(Statistics::default());
        let all = second.all(Statistics::default()).expect("read");
        assert_eq!((all.starts, all.statistics.models.len()), (2, MODELS));
    }

    #[test]
    fn a_row_of_a_newer_version_is_left_alone() {
        let home = tempfile::tempdir().expect("tempdir");
        let config = StoreConfig::new(home.path().join("cache"), home.path().join("state"));
        let store = Store::open(config).expect("opens");
        for row in [r#"{"version":99,"other":"things"}"#, r#"{"version":2,"since_unix_ms":5,"starts":7}"#] {
            store.remember(KEY, row);
            let older = lifetime_stats(home.path());
            older.save(counted(2));
            assert!(older.all(counted(2)).is_none(), "{row}");
            assert_eq!(store.recall(KEY).expect("reads").as_deref(), Some(row));
        }
    }

    #[test]
    fn a_store_that_cannot_be_opened_is_tried_again_and_nothing_is_lost() {
        let home = tempfile::tempdir().expect("tempdir");
        lifetime_stats(home.path()).save(counted(5));
        let (cache, away) = (home.path().join("cache"), home.path().join("away"));
        fs_err::rename(&cache, &away).expect("renames");
        fs_err::write(&cache, "in the way").expect("writes");
        let patient = lifetime_stats(home.path());
        patient.save(counted(1));
        assert!(patient.all(counted(1)).is_none());
        fs_err::remove_file(&cache).expect("removes");
        fs_err::rename(&away, &cache).expect("renames");
        assert_eq!(patient.all(counted(1)).expect("read").statistics.total.counters().loads, 6);
        patient.save(counted(2));
        let after = lifetime_stats(home.path());
        assert_eq!(after.all(counted(1)).expect("read").statistics.total.counters().loads, 8);
    }

    #[test]
    fn a_row_that_cannot_be_asked_for_is_not_written_over() {
        let home = tempfile::tempdir().expect("tempdir");
        lifetime_stats(home.path()).save(counted(5));
        let patient = lifetime_stats(home.path());
        patient.lazy_store.store().expect("opens");
        // A newer program has changed the tables meanwhile.
        let other = rusqlite::Connection::open(home.path().join("cache/index.sqlite3")).expect("opens");
        let version: u32 =
            other.query_row("PRAGMA user_version", [], |row| row.get(0)).expect("has a version");
        let change = |sql: String| other.execute_batch(&sql).expect("changes");
        change("ALTER TABLE memo RENAME TO notebook; PRAGMA user_version = 99;".to_owned());
        assert!(patient.all(counted(1)).is_none());
        patient.save(counted(1));
        change(format!("ALTER TABLE notebook RENAME TO memo; PRAGMA user_version = {version};"));
        assert_eq!(patient.all(counted(1)).expect("read").statistics.total.counters().loads, 6);
    }
}
