//! What goes: a pure function from what is there to what is removed.
//!
//! ```text
//!   leftovers past their time, or that none can want
//!     ─► artifacts past the age limit
//!          ─► over the high mark, or too little disk: down to the low mark
//!               packed files ─► broken-off downloads ─► saved prefixes ─► prepared models ─► artifacts, what is worth least
//! ```
//!
//! For a copy that can be made again nothing goes but other such copies, and it stays below the high mark, so
//! that it does not have to go right after.
//!
//! Never named: a pinned artifact, an artifact or blob in use, a blob that an artifact which stays needs.
//! A blob is freed with the last artifact that needs it; bytes that another program shares count as none.

use std::collections::{BTreeSet, HashMap, HashSet};

use samovar_core::Digest;
use serde::{Deserialize, Serialize};

use super::limits::{HOUR_MS, Limits, ORPHAN_MS};
use super::view::{LeftoverKind, View, is_in_use, used_bytes};
use crate::artifact::key::KeyDigest;

/// Why an artifact goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Why {
    /// It was not used for longer than the age limit.
    Age,
    /// Room was needed, and it was worth least.
    Room,
    /// A caller said so.
    Asked,
}

/// What goes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Collection {
    /// In the order in which they go.
    pub(crate) artifacts: Vec<(KeyDigest, Why)>,
    /// Blobs that go with them, and those that no artifact needed before.
    pub(crate) blobs: Vec<Digest>,
    /// Places in [`View::leftovers`].
    pub(crate) leftovers: Vec<usize>,
    pub(crate) frees_bytes: u64,
    /// What is missing of the limits even so.
    pub(crate) short: Option<Short>,
    /// The artifacts go although this process uses their blobs, which others need as well and which therefore stay.
    pub(crate) user: Option<u32>,
}

/// A limit that cannot be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Short {
    /// `quota` or `disk`.
    pub(crate) limit: &'static str,
    /// What could be written at most.
    pub(crate) free_bytes: u64,
}

/// Decides what goes.
pub(crate) fn plan(view: &View, limits: &Limits) -> Collection {
    let mut choice = Choice::new(view);
    choice.take_leftovers(limits);
    choice.take_aged(limits);
    choice.take_for_room(limits);
    choice.finish()
}

/// Decides what goes when exactly these artifacts do.
pub(crate) fn plan_removal(view: &View, keys: &[KeyDigest]) -> Collection {
    let mut choice = Choice::new(view);
    for index in 0..view.artifacts.len() {
        if keys.contains(&view.artifacts[index].key) {
            choice.take(index, Why::Asked);
            choice.take_copies_of(index);
        }
    }
    choice.finish()
}

/// Bytes that may still come, after those that the limits speak of, before anything must go.
pub(crate) fn spare_bytes(view: &View, limits: &Limits) -> u64 {
    let ahead = used_bytes(view).saturating_add(limits.incoming_bytes);
    let by_quota = limits.high_mark_bytes().saturating_sub(ahead);
    let on_disk = view.promised_bytes.saturating_add(limits.incoming_bytes);
    let by_disk = view.free_disk_bytes.saturating_sub(limits.min_free_bytes.saturating_add(on_disk));
    by_quota.min(by_disk)
}

/// A plan while it is made.
struct Choice<'a> {
    view: &'a View,
    /// How many artifacts that stay need a blob.
    needs: HashMap<Digest, usize>,
    gone: Vec<(usize, Why)>,
    is_gone: Vec<bool>,
    orphans: Vec<Digest>,
    leftovers: Vec<usize>,
    /// By place in [`View::leftovers`]: what is in `leftovers`.
    is_swept: Vec<bool>,
    freed_bytes: u64,
    short: Option<Short>,
}

impl<'a> Choice<'a> {
    fn new(view: &'a View) -> Self {
        let mut needs: HashMap<Digest, usize> = view.blobs.keys().map(|digest| (*digest, 0)).collect();
        for artifact in &view.artifacts {
            for digest in distinct(&artifact.blobs) {
                *needs.entry(digest).or_default() += 1;
            }
        }
        let is_gone = vec![false; view.artifacts.len()];
        let is_swept = vec![false; view.leftovers.len()];
        let (gone, orphans, leftovers) = (Vec::new(), Vec::new(), Vec::new());
        Self { view, needs, gone, is_gone, orphans, leftovers, is_swept, freed_bytes: 0, short: None }
    }

    fn take_leftovers(&mut self, limits: &Limits) {
        for (index, leftover) in self.view.leftovers.iter().enumerate() {
            let is_due = leftover.is_needless || leftover.idle_ms >= limits.grace_ms(leftover.kind);
            if !leftover.is_held && is_due {
                self.take_leftover(index);
            }
        }
        self.take_surplus_prefixes(limits.prefix_bytes);
        for (digest, blob) in &self.view.blobs {
            if self.needs[digest] == 0 && !blob.is_held && blob.idle_ms >= ORPHAN_MS {
                self.orphans.push(*digest);
                self.freed_bytes += blob.frees_bytes;
            }
        }
    }

    /// Saved prefixes have a quota of their own; those that were used longest ago go.
    fn take_surplus_prefixes(&mut self, quota_bytes: u64) {
        let mut left = self.prefixes();
        let mut bytes: u64 = left.iter().map(|index| self.view.leftovers[*index].bytes).sum();
        while bytes > quota_bytes
            && let Some(oldest) = left.pop()
        {
            bytes -= self.view.leftovers[oldest].bytes;
            self.take_leftover(oldest);
        }
    }

    /// Places of the saved prefixes that stay so far, the one used longest ago last.
    fn prefixes(&self) -> Vec<usize> {
        let leftovers = &self.view.leftovers;
        let mut places: Vec<usize> = (0..leftovers.len())
            .filter(|index| leftovers[*index].kind == LeftoverKind::Prefix && !self.is_swept[*index])
            .collect();
        places.sort_by_key(|index| leftovers[*index].idle_ms);
        places
    }

    fn take_leftover(&mut self, index: usize) {
        self.leftovers.push(index);
        self.is_swept[index] = true;
        self.freed_bytes += self.view.leftovers[index].bytes;
    }

    fn take_aged(&mut self, limits: &Limits) {
        let Some(max_age_ms) = limits.max_age_ms else { return };
        for (index, artifact) in self.view.artifacts.iter().enumerate() {
            if artifact.idle_ms > max_age_ms && self.may_go(index) {
                self.take(index, Why::Age);
                self.take_copies_of(index);
            }
        }
    }

    /// Down to the low mark when that can be; else only what must go; else all that can, and says what is short.
    fn take_for_room(&mut self, limits: &Limits) {
        let must = self.needed_bytes(limits);
        let want = if limits.is_for_copy { must } else { self.wanted_bytes(limits) };
        if want.max(must) == 0 {
            return;
        }
        let before = (self.gone.len(), self.leftovers.len());
        for goal in [want.max(must), must] {
            self.free(goal, limits);
            if self.freed_bytes >= goal {
                return;
            }
            self.undo_to(before);
        }
        self.free(u64::MAX, limits);
        self.short = self.shortage(limits);
    }

    /// Frees at least `goal` bytes in all, or as much as can be.
    fn free(&mut self, goal: u64, limits: &Limits) {
        let begin = self.gone.len();
        self.take_derived(LeftoverKind::Packed, goal);
        if limits.is_for_copy {
            return;
        }
        self.take_broken_off(goal);
        self.take_prefixes(goal);
        self.take_derived(LeftoverKind::Prepared, goal);
        let mut order: Vec<usize> = (0..self.view.artifacts.len())
            .filter(|index| self.may_go(*index) && self.may_free(*index))
            .collect();
        let facts = &self.view.artifacts;
        order.sort_by(|a, b| {
            let by_rank = facts[*a].rank.total_cmp(&facts[*b].rank);
            by_rank.then(facts[*b].idle_ms.cmp(&facts[*a].idle_ms)).then(facts[*a].key.cmp(&facts[*b].key))
        });
        for index in order {
            if self.freed_bytes >= goal {
                break;
            }
            self.take(index, Why::Room);
        }
        self.reprieve(begin, goal);
    }

    /// What can be made again goes: what is outdone, then what was used longest ago.
    fn take_derived(&mut self, kind: LeftoverKind, goal: u64) {
        let leftovers = &self.view.leftovers;
        let mut left: Vec<usize> = (0..leftovers.len())
            .filter(|index| leftovers[*index].kind == kind && !leftovers[*index].is_held)
            .filter(|index| leftovers[*index].bytes > 0 && !self.is_swept[*index])
            .collect();
        left.sort_by_key(|index| (leftovers[*index].is_outdone, leftovers[*index].idle_ms));
        while self.freed_bytes < goal
            && let Some(least) = left.pop()
        {
            self.take_leftover(least);
        }
    }

    /// What was made of an artifact that goes for good.
    fn take_copies_of(&mut self, index: usize) {
        let parent = Some(self.view.artifacts[index].key);
        for (place, leftover) in self.view.leftovers.iter().enumerate() {
            if leftover.parent == parent && !leftover.is_held && !self.is_swept[place] {
                self.take_leftover(place);
            }
        }
    }

    /// Downloads that broke off within the week go before any artifact does.
    fn take_broken_off(&mut self, goal: u64) {
        for (index, leftover) in self.view.leftovers.iter().enumerate() {
            let is_broken_off = leftover.kind == LeftoverKind::Partial && leftover.idle_ms >= HOUR_MS;
            if self.freed_bytes < goal
                && is_broken_off
                && !leftover.is_held
                && leftover.bytes > 0
                && !self.is_swept[index]
            {
                self.take_leftover(index);
            }
        }
    }

    /// What can be computed again goes before what has to be fetched.
    fn take_prefixes(&mut self, goal: u64) {
        let mut left = self.prefixes();
        while self.freed_bytes < goal
            && let Some(oldest) = left.pop()
        {
            self.take_leftover(oldest);
        }
    }

    /// Lets those stay without whom the goal is reached too: a big one that came later made them needless,
    /// or their blobs are needed by others after all. The most worthy first.
    fn reprieve(&mut self, begin: usize, goal: u64) {
        let mut has_changed = true;
        while std::mem::take(&mut has_changed) {
            for place in (begin..self.gone.len()).rev() {
                let index = self.gone[place].0;
                let back = self.bytes_if_back(index);
                if back == 0 || self.freed_bytes - back >= goal {
                    self.give_back(index);
                    self.gone.remove(place);
                    has_changed = true;
                }
            }
        }
    }

    fn undo_to(&mut self, (gone, leftovers): (usize, usize)) {
        for (index, _) in self.gone.split_off(gone) {
            self.give_back(index);
        }
        for index in self.leftovers.split_off(leftovers) {
            self.is_swept[index] = false;
            self.freed_bytes -= self.view.leftovers[index].bytes;
        }
    }

    fn may_go(&self, index: usize) -> bool {
        let artifact = &self.view.artifacts[index];
        !artifact.is_pinned && !self.is_gone[index] && !is_in_use(artifact, &self.view.blobs)
    }

    /// Whether its going, together with that of others, can free anything.
    fn may_free(&self, index: usize) -> bool {
        self.view.artifacts[index].blobs.iter().any(|digest| self.freeable(digest) > 0)
    }

    fn freeable(&self, digest: &Digest) -> u64 {
        self.view.blobs.get(digest).map_or(0, |blob| if blob.is_held { 0 } else { blob.frees_bytes })
    }

    fn take(&mut self, index: usize, why: Why) {
        for digest in distinct(&self.view.artifacts[index].blobs) {
            let needs = self.needs.get_mut(&digest).expect("invariant: every needed blob is counted");
            *needs -= 1;
            if *needs == 0 {
                self.freed_bytes += self.freeable(&digest);
            }
        }
        self.gone.push((index, why));
        self.is_gone[index] = true;
    }

    fn give_back(&mut self, index: usize) {
        self.freed_bytes -= self.bytes_if_back(index);
        for digest in distinct(&self.view.artifacts[index].blobs) {
            *self.needs.get_mut(&digest).expect("invariant: every needed blob is counted") += 1;
        }
        self.is_gone[index] = false;
    }

    fn bytes_if_back(&self, index: usize) -> u64 {
        let blobs = distinct(&self.view.artifacts[index].blobs);
        blobs.iter().filter(|digest| self.needs[digest] == 0).map(|digest| self.freeable(digest)).sum()
    }

    /// To be freed in all to come to the low mark; 0 while below the high one.
    fn wanted_bytes(&self, limits: &Limits) -> u64 {
        let ahead = used_bytes(self.view).saturating_add(limits.incoming_bytes);
        if ahead.saturating_sub(self.freed_bytes) > limits.high_mark_bytes() {
            ahead.saturating_sub(limits.low_mark_bytes())
        } else {
            0
        }
    }

    /// To be freed in all so that quota and disk hold.
    fn needed_bytes(&self, limits: &Limits) -> u64 {
        let for_quota = used_bytes(self.view)
            .saturating_add(limits.incoming_bytes)
            .saturating_sub(limits.ceiling_bytes());
        let on_disk = self.view.promised_bytes.saturating_add(limits.incoming_bytes);
        let for_disk =
            limits.min_free_bytes.saturating_add(on_disk).saturating_sub(self.view.free_disk_bytes);
        // A disk that others filled is no reason to lose models, until something is to be written.
        if limits.incoming_bytes == 0 { for_quota } else { for_quota.max(for_disk) }
    }

    fn shortage(&self, limits: &Limits) -> Option<Short> {
        if self.freed_bytes >= self.needed_bytes(limits) {
            return None;
        }
        let by_quota = (limits.ceiling_bytes() + self.freed_bytes).saturating_sub(used_bytes(self.view));
        let by_disk = (self.view.free_disk_bytes + self.freed_bytes)
            .saturating_sub(limits.min_free_bytes + self.view.promised_bytes);
        Some(if by_quota <= by_disk {
            Short { limit: "quota", free_bytes: by_quota }
        } else {
            Short { limit: "disk", free_bytes: by_disk }
        })
    }

    fn finish(mut self) -> Collection {
        let mut blobs: BTreeSet<Digest> = std::mem::take(&mut self.orphans).into_iter().collect();
        for (index, _) in &self.gone {
            let is_free = |digest: &Digest| {
                self.needs[digest] == 0 && self.view.blobs.get(digest).is_some_and(|blob| !blob.is_held)
            };
            blobs.extend(distinct(&self.view.artifacts[*index].blobs).into_iter().filter(is_free));
        }
        Collection {
            artifacts: self.gone.iter().map(|(index, why)| (self.view.artifacts[*index].key, *why)).collect(),
            blobs: blobs.into_iter().collect(),
            leftovers: self.leftovers,
            frees_bytes: self.freed_bytes,
            short: self.short,
            user: None,
        }
    }
}

/// Two files of an artifact may be the same blob.
fn distinct(digests: &[Digest]) -> HashSet<Digest> {
    digests.iter().copied().collect()
}

#[cfg(test)]
mod tests;
