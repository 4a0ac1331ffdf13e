//! Collection: what leaves the disk, and how it leaves unnoticed by its readers.
//!
//! ```text
//!   survey ─► plan (pure) ─► act ─────────────► trash/ ─► gone
//!   index     worth,          gc.lock, marks        ▲
//!   leases    uptime_history  recover ──────────────┘ after a crash
//!   disk
//! ```
//!
//! Three ask for it: a user (`gc`, `rm`), the limits when something is to be fetched (see [`room`]), and
//! no other: no timer of its own. It never takes what is pinned, leased or on its way in, and never a byte
//! that is not ours: a file of another program is only forgotten.

mod act;
pub(crate) mod commands;
mod limits;
mod pin;
mod plan;
pub(crate) mod promise;
mod recover;
pub(crate) mod room;
pub(crate) mod survey;
mod uptime_history;
mod view;
mod worth;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::artifact::key::KeyDigest;
use crate::cache::Cache;
use crate::derived::prefix::quota;
use crate::disk::ballast;
use crate::error::Error;
use crate::index::now_ms;
use crate::local::Local;

pub(crate) use limits::Limits;
pub use plan::Why;
pub(crate) use plan::{Collection, Short, plan, spare_bytes};
pub(crate) use recover::recover;
use survey::Survey;
pub(crate) use uptime_history::UptimeHistory;
pub use view::LeftoverKind;
pub(crate) use view::used_bytes;

/// Where the uptime history is kept between runs.
const CHRONICLE: &str = "collect.chronicle";

/// What a collection did, or would do.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Collected {
    /// Nothing was changed.
    pub is_dry_run: bool,
    /// Artifacts that went, in the order in which they did.
    pub removed: Vec<Removed>,
    /// What went besides, by kind.
    pub leftovers: BTreeMap<LeftoverKind, Swept>,
    /// Bytes that the disk has more of.
    pub freed_bytes: u64,
    /// Bytes that count against the quota afterwards.
    pub used_bytes: u64,
    /// The quota.
    pub quota_bytes: u64,
    /// Artifacts that stayed because they are pinned.
    pub pinned: u64,
    /// Artifacts that stayed because they are in use.
    pub in_use: u64,
}

/// An artifact that went.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Removed {
    /// The digest of its key.
    pub key: KeyDigest,
    /// What users called it.
    pub reference: String,
    /// Bytes of its files.
    pub bytes: u64,
    /// Bytes that the disk has more of: less than `bytes` where others share them, and more with what was made of it
    /// where a user asked for exactly this.
    pub freed_bytes: u64,
    /// Milliseconds since its last use, in time that the store saw.
    pub idle_ms: u64,
    /// Why it went.
    pub why: Why,
}

/// Leftovers of one kind that went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Swept {
    /// How many.
    pub count: u64,
    /// Bytes that the disk has more of.
    pub bytes: u64,
}

/// What is done whenever a store is opened: a collection that broke off is finished, and time goes on. Not being
/// able to does not prevent opening it.
pub(crate) fn look_after(local: &Local) {
    let looked =
        recover(&local.cache.layout, &local.cache.index).and_then(|()| uptime_history(local, true).map(drop));
    if let Err(error) = looked {
        tracing::warn!(%error, "the cache could not be looked after");
    }
    ballast::lay(&local.cache.layout);
}

/// Looks at the store, and notes the look.
pub(crate) fn survey(local: &Local, may_write: bool) -> Result<Survey, Error> {
    let uptime_history = uptime_history(local, may_write)?;
    if may_write {
        local.cache.recover_index()?;
        recover(&local.cache.layout, &local.cache.index)?;
    }
    Survey::take(local, &uptime_history)
}

/// The uptime history up to now. Dry runs leave no trace in it.
fn uptime_history(local: &Local, may_write: bool) -> Result<UptimeHistory, Error> {
    let now_ms = now_ms();
    let kept = local.cache.index.recall(CHRONICLE)?;
    let earlier: Option<UptimeHistory> = kept.and_then(|json| serde_json::from_str(&json).ok());
    let mut uptime_history = earlier.clone().unwrap_or_else(|| UptimeHistory::begin(now_ms));
    uptime_history.observe(now_ms, max_age_ms(local));
    if may_write && earlier.is_none_or(|earlier| uptime_history.is_news_to(&earlier)) {
        let json = serde_json::to_string(&uptime_history).expect("invariant: numbers are JSON");
        // What was not noted now is noted next time; a full disk must not prevent making room.
        let _ = local.cache.index.remember(CHRONICLE, &json);
    }
    Ok(uptime_history)
}

/// What may stay when so many bytes come.
pub(crate) fn limits(local: &Local, survey: &Survey, incoming_bytes: u64) -> Limits {
    Limits {
        quota_bytes: survey.quota_bytes(local.config.max_size_bytes),
        max_age_ms: max_age_ms(local),
        min_free_bytes: local.config.min_free_bytes,
        incoming_bytes,
        prefix_bytes: quota::quota_bytes(local),
        is_for_copy: false,
    }
}

fn max_age_ms(local: &Local) -> Option<u64> {
    let max_age = local.config.max_age;
    (!max_age.is_zero()).then(|| u64::try_from(max_age.as_millis()).unwrap_or(u64::MAX))
}

/// Does what the plan says, unless it is a dry run, and tells of it.
pub(crate) fn settle(
    cache: &Cache,
    survey: &Survey,
    plan: &Collection,
    limits: &Limits,
    is_dry_run: bool,
) -> Result<Collected, Error> {
    let done = if is_dry_run { survey.as_planned(plan) } else { act::act(cache, survey, plan)? };
    let mut collected = survey.tell(plan, &done);
    collected.is_dry_run = is_dry_run;
    collected.quota_bytes = limits.quota_bytes;
    if !is_dry_run {
        cache.index.count("collected_artifacts", collected.removed.len() as u64);
        cache.index.count("collected_bytes", collected.freed_bytes);
        ballast::lay(&cache.layout);
    }
    Ok(collected)
}

impl Survey {
    /// What doing all of a plan comes to.
    fn as_planned(&self, plan: &Collection) -> act::Done {
        let mut left: BTreeMap<_, u64> = plan
            .blobs
            .iter()
            .map(|digest| (*digest, self.view.blobs.get(digest).map_or(0, |blob| blob.frees_bytes)))
            .collect();
        let mut artifacts: Vec<(KeyDigest, u64)> = Vec::new();
        for (key, _) in plan.artifacts.iter().rev() {
            let facts = self.view.artifacts.iter().find(|artifact| artifact.key == *key);
            let blobs = facts.map(|artifact| artifact.blobs.as_slice()).unwrap_or_default();
            artifacts.push((*key, blobs.iter().filter_map(|digest| left.remove(digest)).sum()));
        }
        artifacts.reverse();
        let orphans = (left.len() as u64, left.values().sum());
        act::Done { artifacts, leftovers: plan.leftovers.clone(), orphans }
    }

    fn tell(&self, plan: &Collection, done: &act::Done) -> Collected {
        let mut collected = Collected::default();
        for (key, freed_bytes) in &done.artifacts {
            let Some(place) = self.artifacts.iter().position(|artifact| artifact.key_digest == *key) else {
                continue;
            };
            let artifact = &self.artifacts[place];
            let why =
                plan.artifacts.iter().find(|(planned, _)| planned == key).map_or(Why::Room, |found| found.1);
            collected.removed.push(Removed {
                key: *key,
                reference: artifact.reference.clone(),
                bytes: artifact.bytes(),
                freed_bytes: *freed_bytes,
                idle_ms: self.view.artifacts[place].idle_ms,
                why,
            });
        }
        for index in &done.leftovers {
            let leftover = self.view.leftovers[*index];
            let swept = collected.leftovers.entry(leftover.kind).or_default();
            *swept = Swept { count: swept.count + 1, bytes: swept.bytes + leftover.bytes };
        }
        if done.orphans.0 > 0 {
            let swept = collected.leftovers.entry(LeftoverKind::Orphan).or_default();
            *swept = Swept { count: swept.count + done.orphans.0, bytes: swept.bytes + done.orphans.1 };
        }
        let freed: u64 = collected.removed.iter().map(|removed| removed.freed_bytes).sum();
        collected.freed_bytes = freed + collected.leftovers.values().map(|swept| swept.bytes).sum::<u64>();
        collected.used_bytes = used_bytes(&self.view).saturating_sub(collected.freed_bytes);
        let gone = |key: &KeyDigest| done.artifacts.iter().any(|(gone, _)| gone == key);
        for artifact in self.view.artifacts.iter().filter(|artifact| !gone(&artifact.key)) {
            collected.pinned += u64::from(artifact.is_pinned);
            collected.in_use += u64::from(view::is_in_use(artifact, &self.view.blobs));
        }
        collected
    }

    /// The quota: as set, or 100 GB or 70 % of what is free or ours, whichever is less.
    pub(crate) fn quota_bytes(&self, set: Option<u64>) -> u64 {
        const DEFAULT_BYTES: u64 = 100_000_000_000;
        let within_reach = self.view.free_disk_bytes.saturating_add(used_bytes(&self.view));
        set.unwrap_or_else(|| DEFAULT_BYTES.min(within_reach / 10 * 7))
    }
}
