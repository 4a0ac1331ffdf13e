//! The pool's statistics over all lives of the daemon, kept as one row of the store.
//!
//! ```text
//!   first look ─► row ─► earlier lives ─┐
//!   every minute, and at the end: ──────┴─ + this life ─► row
//! ```
//!
//! A crash loses a minute at most. A row that cannot be read is begun anew; a store that cannot be opened is tried
//! again the next time, and nothing is written over what could not be read.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use samovar_pool::Statistics;
use serde::{Deserialize, Serialize};

use crate::shelf::Shelf;

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
pub(crate) struct Kept {
    version: u32,
    /// When counting began, in milliseconds since 1970.
    pub(crate) since_unix_ms: u64,
    /// Lives so far, this one included.
    pub(crate) starts: u64,
    #[serde(flatten)]
    pub(crate) statistics: Statistics,
}

impl Kept {
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

/// Keeps the statistics of all lives.
pub(crate) struct Chronicle {
    shelf: Arc<Shelf>,
    /// What was counted before this life, once it has been read.
    earlier: Mutex<Option<Kept>>,
}

impl Chronicle {
    /// How often the row is written.
    pub(crate) const INTERVAL: Duration = Duration::from_secs(60);

    pub(crate) fn new(shelf: Arc<Shelf>) -> Self {
        Self { shelf, earlier: Mutex::default() }
    }

    /// Writes what was counted in this life and in the earlier ones. Blocks.
    pub(crate) fn save(&self, counted: Statistics) {
        let (Ok(store), Some(mut row)) = (self.shelf.store(), self.all(counted)) else { return };
        row.statistics = row.statistics.shortened(MODELS, TIMES);
        if let Ok(json) = serde_json::to_string(&row) {
            store.remember(KEY, &json);
        }
    }

    /// All lives, this one's statistics included; `None` while the earlier ones cannot be read. Blocks.
    pub(crate) fn all(&self, counted: Statistics) -> Option<Kept> {
        let store = self.shelf.store().ok()?;
        let mut earlier = self.earlier.lock().unwrap_or_else(PoisonError::into_inner);
        let earlier = earlier.get_or_insert_with(|| read(store.recall(KEY).as_deref()));
        Some(earlier.with(counted))
    }
}

/// What the row says.
fn read(row: Option<&str>) -> Kept {
    let Some(row) = row else { return Kept::begin() };
    match serde_json::from_str::<Kept>(row) {
        Ok(kept) if kept.version == VERSION => kept,
        Ok(kept) => {
            tracing::warn!(version = kept.version, "statistics of another version; counting begins anew");
            Kept::begin()
        }
        Err(error) => {
            tracing::warn!("the statistics of earlier lives cannot be read ({error}); counting begins anew");
            Kept::begin()
        }
    }
}

#[cfg(test)]
mod tests {
    use samovar_core::ModelKey;
    use samovar_pool::{ModelTally, Tally};
    use samovar_store::StoreConfig;

    use super::*;

    fn chronicle(home: &std::path::Path) -> Chronicle {
        let config = StoreConfig::new(home.join("cache"), home.join("state"));
        Chronicle::new(Arc::new(Shelf::new(config)))
    }

    fn counted(loads: u64) -> Statistics {
        let tally: Tally =
            serde_json::from_value(serde_json::json!({ "requests": 2 * loads, "loads": loads }))
                .expect("tally");
        let model = ModelTally { key: ModelKey::new("k"), name: "m".into(), tally: tally.clone() };
        Statistics { uptime_ms: 1_000, total: tally, models: vec![model] }
    }

    #[test]
    fn lives_add_up_over_restarts_and_saving_often_counts_once() {
        let home = tempfile::tempdir().expect("tempdir");
        let first = chronicle(home.path());
        first.save(counted(1));
        first.save(counted(3));
        first.save(counted(3));
        drop(first);
        let second = chronicle(home.path());
        second.save(counted(1));
        let all = second.all(counted(4)).expect("read");
        assert_eq!((all.starts, all.statistics.total.counters().loads), (2, 7));
        assert_eq!(all.statistics.models[0].tally.counters().loads, 7);
        assert_eq!(all.statistics.uptime_ms, 2_000);
        drop(second);
        let third = chronicle(home.path());
        third.save(Statistics::default());
        let all = third.all(Statistics::default()).expect("read");
        assert_eq!(
            (all.starts, all.statistics.total.counters().loads),
            (3, 4),
            "a crash loses the last interval"
        );
    }

    #[test]
    fn a_damaged_row_is_begun_anew() {
        let home = tempfile::tempdir().expect("tempdir");
        for row in ["{\"version\":1,\"since", "{}", "{\"version\":99,\"since_unix_ms\":5,\"starts\":7}", "[]"]
        {
            let config = StoreConfig::new(home.path().join("cache"), home.path().join("state"));
            samovar_store::Store::open(config).expect("opens").remember(KEY, row);
            let after = chronicle(home.path());
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
        let first = chronicle(home.path());
        first.save(busy);
        drop(first);
        let second = chronicle(home.path());
        second.save(Statistics::default());
        let all = second.all(Statistics::default()).expect("read");
        assert_eq!((all.starts, all.statistics.models.len()), (2, MODELS));
    }

    #[test]
    fn a_store_that_cannot_be_opened_is_tried_again_and_nothing_is_lost() {
        let home = tempfile::tempdir().expect("tempdir");
        chronicle(home.path()).save(counted(5));
        let blocked = tempfile::NamedTempFile::new().expect("file");
        let elsewhere = chronicle(blocked.path());
        elsewhere.save(counted(1));
        assert!(elsewhere.all(counted(1)).is_none());
        let after = chronicle(home.path());
        after.save(counted(1));
        assert_eq!(after.all(counted(1)).expect("read").statistics.total.counters().loads, 6);
    }
}
