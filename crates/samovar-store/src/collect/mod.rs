//! Collection: what leaves the disk, and how it leaves without anybody noticing.
//!
//! ```text
//!   survey ─► plan (pure) ─► act ─────────────► trash/ ─► gone
//!   index     worth,          gc.lock, marks        ▲
//!   leases    chronicle       recover ──────────────┘ after a crash
//!   disk
//! ```
//!
//! Three ask for it: a user (`gc`, `rm`), the limits when something is to be fetched (see [`crate::room`]), and
//! nobody else: no timer of its own. It never takes what is pinned, leased or on its way in, and never a byte
//! that is not ours: a file of another program is only forgotten.

mod act;
mod chronicle;
mod limits;
mod plan;
mod recover;
pub(crate) mod survey;
mod view;
mod worth;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::ballast;
use crate::error::Error;
use crate::index::now_ms;
use crate::key::KeyDigest;
use crate::prefix::quota;
use crate::store::{Inner, Store};

pub(crate) use act::empty_trash;
pub(crate) use chronicle::Chronicle;
pub(crate) use limits::Limits;
pub use plan::Why;
pub(crate) use plan::{Collection, Short, plan, spare_bytes};
pub(crate) use recover::recover;
use survey::Survey;
pub use view::LeftoverKind;
pub(crate) use view::used_bytes;

/// Where the chronicle is kept between runs.
const CHRONICLE: &str = "collect.chronicle";

/// What a collection is asked to do.
#[derive(Clone, Debug, Default)]
pub struct CollectOptions {
    /// Only say what would go.
    pub is_dry_run: bool,
    /// Bytes to be made room for, besides keeping the limits.
    pub room_bytes: u64,
}

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
    /// Artifacts that stayed because somebody uses them.
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
    /// Bytes that the disk has more of: less than `bytes` where others share them, and more with what was packed of it
    /// where somebody asked for exactly this.
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

impl Store {
    /// Lets go what is past the limits: leftovers, artifacts that were not used for long, and while more is
    /// used than the quota allows, what is worth least. Blocks.
    ///
    /// # Errors
    /// When the index or the disk refuses; what had not left yet stays as it was.
    pub fn collect(&self, options: &CollectOptions) -> Result<Collected, Error> {
        let inner = &*self.0;
        inner.writable("a collection")?;
        if !options.is_dry_run {
            ballast::give_up_if_full(&inner.layout);
        }
        let survey = survey(inner, !options.is_dry_run)?;
        let limits = limits(inner, &survey, options.room_bytes);
        let plan = plan(&survey.view, &limits);
        settle(inner, &survey, &plan, &limits, options.is_dry_run)
    }

    /// Removes an artifact now, pinned or not. Blobs that others need stay. Blocks.
    ///
    /// # Errors
    /// [`Error::InUse`] names the process that uses it; [`Error::Missing`] when it is not there.
    pub fn remove(&self, key: &KeyDigest) -> Result<Removed, Error> {
        let inner = &*self.0;
        inner.writable("removing an artifact")?;
        ballast::give_up_if_full(&inner.layout);
        let survey = survey(inner, true)?;
        let Some(place) = survey.artifacts.iter().position(|artifact| artifact.key_digest == *key) else {
            return Err(Error::Missing {
                subject: format!("the artifact {key}"),
                where_: " in the cache",
                hint: "`samovar list` shows what is there".to_owned(),
            });
        };
        let plan = plan::plan_removal(&survey.view, &[*key]);
        let collected = settle(inner, &survey, &plan, &limits(inner, &survey, 0), false)?;
        // What was packed of it is of no use to anybody any more.
        let packed_bytes = collected.leftovers.get(&LeftoverKind::Packed).map_or(0, |swept| swept.bytes);
        let removed = collected
            .removed
            .into_iter()
            .next()
            .map(|removed| Removed { freed_bytes: removed.freed_bytes + packed_bytes, ..removed });
        removed.ok_or_else(|| {
            let artifact = &survey.artifacts[place];
            let held = survey::held(&inner.layout).unwrap_or_default();
            let holder = artifact.files.iter().find_map(|file| held.get(&file.digest));
            Error::InUse {
                subject: artifact.reference.clone(),
                by: holder.map_or("another process".to_owned(), |pid| format!("process {pid}")),
            }
        })
    }
}

/// What is done whenever a store is opened: a collection that broke off is finished, and time goes on. Not being
/// able to keeps nobody from opening it.
pub(crate) fn look_after(inner: &Inner) {
    let looked = recover(&inner.layout, &inner.index).and_then(|()| chronicle(inner, true).map(drop));
    if let Err(error) = looked {
        tracing::warn!(%error, "the cache could not be looked after");
    }
    ballast::lay(&inner.layout);
}

/// Looks at the store, and notes that somebody did.
pub(crate) fn survey(inner: &Inner, may_write: bool) -> Result<Survey, Error> {
    let chronicle = chronicle(inner, may_write)?;
    if may_write {
        inner.heal()?;
        recover(&inner.layout, &inner.index)?;
    }
    Survey::take(inner, &chronicle)
}

/// The chronicle up to now. Dry runs leave no trace in it.
fn chronicle(inner: &Inner, may_write: bool) -> Result<Chronicle, Error> {
    let now_ms = now_ms();
    let kept = inner.index.recall(CHRONICLE)?;
    let earlier: Option<Chronicle> = kept.and_then(|json| serde_json::from_str(&json).ok());
    let mut chronicle = earlier.clone().unwrap_or_else(|| Chronicle::begin(now_ms));
    chronicle.observe(now_ms, max_age_ms(inner));
    if may_write && earlier.is_none_or(|earlier| chronicle.is_news_to(&earlier)) {
        let json = serde_json::to_string(&chronicle).expect("invariant: numbers are JSON");
        // What was not noted now is noted next time; a full disk must not keep anybody from making room.
        let _ = inner.index.remember(CHRONICLE, &json);
    }
    Ok(chronicle)
}

/// What may stay when so many bytes come.
pub(crate) fn limits(inner: &Inner, survey: &Survey, incoming_bytes: u64) -> Limits {
    Limits {
        quota_bytes: survey.quota_bytes(inner.config.max_size_bytes),
        max_age_ms: max_age_ms(inner),
        min_free_bytes: inner.config.min_free_bytes,
        incoming_bytes,
        prefix_bytes: quota::quota_bytes(inner),
        is_for_copy: false,
    }
}

fn max_age_ms(inner: &Inner) -> Option<u64> {
    let max_age = inner.config.max_age;
    (!max_age.is_zero()).then(|| u64::try_from(max_age.as_millis()).unwrap_or(u64::MAX))
}

/// Does what the plan says, unless it is a dry run, and tells of it.
pub(crate) fn settle(
    inner: &Inner,
    survey: &Survey,
    plan: &Collection,
    limits: &Limits,
    is_dry_run: bool,
) -> Result<Collected, Error> {
    let done = if is_dry_run { survey.as_planned(plan) } else { act::act(inner, survey, plan)? };
    let mut collected = survey.tell(plan, &done);
    collected.is_dry_run = is_dry_run;
    collected.quota_bytes = limits.quota_bytes;
    if !is_dry_run {
        inner.index.count("collected_artifacts", collected.removed.len() as u64);
        inner.index.count("collected_bytes", collected.freed_bytes);
        ballast::lay(&inner.layout);
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
