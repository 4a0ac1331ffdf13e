//! What goes: a pure function from what is there to what is removed.
//!
//! ```text
//!   leftovers past their time, or that none can want
//!     ─► artifacts past the age limit
//!          ─► over the high mark, or too little disk: down to the low mark
//!               packed files ─► broken-off downloads ─► saved prefixes ─► artifacts, what is worth least
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
        self.take_packed(goal);
        if limits.is_for_copy {
            return;
        }
        self.take_broken_off(goal);
        self.take_prefixes(goal);
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

    /// What can be made again goes first: what is outdone, then what was used longest ago.
    fn take_packed(&mut self, goal: u64) {
        let leftovers = &self.view.leftovers;
        let mut left: Vec<usize> = (0..leftovers.len())
            .filter(|index| leftovers[*index].kind == LeftoverKind::Packed && !leftovers[*index].is_held)
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
mod tests {
    use proptest::prelude::*;

    use super::super::view::{ArtifactFacts, BlobFacts, Leftover};
    use super::*;

    const GB: u64 = 1_000_000_000;

    fn digest(n: u64) -> Digest {
        Digest::of_bytes(&n.to_le_bytes())
    }

    fn key(n: u64) -> KeyDigest {
        KeyDigest::parse(&digest(n).to_string()).expect("64 digits")
    }

    /// Artifact `n` of rank `n`, with these blobs.
    fn artifact(n: u64, blobs: &[u64]) -> ArtifactFacts {
        let blobs = blobs.iter().map(|blob| digest(*blob)).collect();
        ArtifactFacts { key: key(n), blobs, is_pinned: false, idle_ms: HOUR_MS, rank: n as f64 }
    }

    fn blob(n: u64, frees_bytes: u64) -> (Digest, BlobFacts) {
        (digest(n), BlobFacts { frees_bytes, is_held: false, idle_ms: 2 * HOUR_MS })
    }

    fn packed(gigabytes: u64, idle_ms: u64, parent: u64) -> Leftover {
        let parent = Some(key(parent));
        Leftover { bytes: gigabytes * GB, parent, ..Leftover::of(LeftoverKind::Packed, idle_ms) }
    }

    #[test]
    fn packed_files_leave_first_those_that_are_outdone_before_those_unused_for_long() {
        let mut view = row(90);
        view.leftovers = vec![
            prefix(1, 9_000),
            packed(1, 10, 1),
            packed(1, 30, 2),
            Leftover { is_outdone: true, ..packed(1, 20, 3) },
            Leftover { is_held: true, ..packed(1, 99, 4) },
        ];
        let limits = Limits { prefix_bytes: 100 * GB, ..quota(100) };
        let found = plan(&view, &Limits { quota_bytes: 94 * GB, ..limits });
        assert_eq!(
            (found.leftovers, found.artifacts.len()),
            (vec![3, 2, 1, 0], 12),
            "15.1 GB to the low mark"
        );
        let mut view = row(80);
        view.leftovers = vec![prefix(2, 9_000), packed(8, 10, 1), packed(6, 20, 2)];
        let found = plan(&view, &limits);
        assert_eq!((found.leftovers, found.artifacts), (vec![2, 1], vec![]), "11 GB to the low mark");
    }

    #[test]
    fn for_a_copy_only_copies_go_and_it_stays_below_the_high_mark() {
        let mut view = row(80);
        view.leftovers = vec![prefix(5, 9_000), packed(4, 10, 1), packed(4, 20, 2)];
        let copy = |bytes| Limits {
            incoming_bytes: bytes * GB,
            prefix_bytes: 100 * GB,
            is_for_copy: true,
            ..quota(100)
        };
        // 93 are used, 95 the high mark.
        assert_eq!(plan(&view, &copy(2)), Collection::default());
        assert_eq!((plan(&view, &copy(3)).leftovers, plan(&view, &copy(3)).short), (vec![2], None));
        assert_eq!(plan(&view, &copy(7)).leftovers, [2, 1]);
        let refused = plan(&view, &copy(11));
        assert!(refused.artifacts.is_empty(), "no model goes for a copy of one");
        assert_eq!(refused.short, Some(Short { limit: "quota", free_bytes: 10 * GB }));
        let full = plan(&View { free_disk_bytes: GB, ..view.clone() }, &copy(2));
        assert_eq!((full.leftovers, full.short), (vec![2], None));
        let full = plan(&View { free_disk_bytes: GB, ..view }, &copy(10));
        assert_eq!(full.short, Some(Short { limit: "disk", free_bytes: 9 * GB }));
    }

    #[test]
    fn what_was_packed_of_an_artifact_goes_with_it_and_alone_when_that_is_gone() {
        let mut view = row(2);
        view.leftovers =
            vec![packed(1, 5, 0), packed(1, 5, 1), Leftover { is_needless: true, ..packed(1, 0, 7) }];
        let found = plan_removal(&view, &[key(1)]);
        assert_eq!((found.leftovers, found.frees_bytes), (vec![1], 2 * GB));
        assert_eq!(plan(&view, &quota(100)).leftovers, [2]);
        view.artifacts[0].idle_ms = 9 * HOUR_MS;
        let aged = plan(&view, &Limits { max_age_ms: Some(8 * HOUR_MS), ..quota(100) });
        assert_eq!((aged.leftovers, aged.artifacts), (vec![2, 0], vec![(key(0), Why::Age)]));
    }

    /// `n` artifacts of one blob of a gigabyte each.
    fn row(n: u64) -> View {
        View {
            artifacts: (0..n).map(|n| artifact(n, &[n])).collect(),
            blobs: (0..n).map(|n| blob(n, GB)).collect(),
            free_disk_bytes: 1_000 * GB,
            ..View::default()
        }
    }

    fn quota(gigabytes: u64) -> Limits {
        Limits {
            quota_bytes: gigabytes * GB,
            max_age_ms: None,
            min_free_bytes: 0,
            incoming_bytes: 0,
            is_for_copy: false,
            prefix_bytes: GB,
        }
    }

    fn keys(collection: &Collection) -> Vec<KeyDigest> {
        collection.artifacts.iter().map(|(key, _)| *key).collect()
    }

    fn prefix(gigabytes: u64, idle_ms: u64) -> Leftover {
        Leftover { bytes: gigabytes * GB, ..Leftover::of(LeftoverKind::Prefix, idle_ms) }
    }

    #[test]
    fn saved_prefixes_past_their_quota_or_their_age_go_the_oldest_first() {
        let view = View { leftovers: vec![prefix(2, 10), prefix(2, 30), prefix(2, 20)], ..row(1) };
        let limits = Limits { prefix_bytes: 5 * GB, ..quota(100) };
        assert_eq!(plan(&view, &limits).leftovers, [1]);
        assert_eq!(plan(&view, &Limits { prefix_bytes: 0, ..limits }).leftovers, [1, 2, 0]);
        let limits = Limits { max_age_ms: Some(20), prefix_bytes: 6 * GB, ..limits };
        assert_eq!(plan(&view, &limits).leftovers, [1, 2]);
    }

    #[test]
    fn saved_prefixes_go_before_any_model_does() {
        let view = View { leftovers: vec![prefix(8, 10), prefix(8, 20)], ..row(90) };
        let limits = Limits { prefix_bytes: 100 * GB, ..quota(100) };
        let collection = plan(&view, &limits);
        assert_eq!((collection.leftovers, collection.artifacts.len()), (vec![1, 0], 5));
    }

    #[test]
    fn nothing_goes_below_the_high_mark() {
        assert_eq!(plan(&row(95), &quota(100)), Collection::default());
    }

    #[test]
    fn above_the_high_mark_the_least_worth_go_down_to_the_low_one() {
        let collection = plan(&row(96), &quota(100));
        assert_eq!(keys(&collection), (0..11).map(key).collect::<Vec<_>>());
        assert_eq!(collection.frees_bytes, 11 * GB);
        assert!(collection.artifacts.iter().all(|(_, why)| *why == Why::Room));
    }

    #[test]
    fn what_comes_counts_before_it_is_there() {
        let limits = Limits { incoming_bytes: 20 * GB, ..quota(100) };
        assert_eq!(plan(&row(90), &limits).frees_bytes, 25 * GB);
    }

    #[test]
    fn a_low_mark_out_of_reach_costs_only_what_must_go() {
        let mut view = row(10);
        view.artifacts.iter_mut().skip(2).for_each(|artifact| artifact.is_pinned = true);
        let collection = plan(&view, &Limits { incoming_bytes: GB, ..quota(10) });
        assert_eq!((keys(&collection), collection.short), (vec![key(0)], None));
    }

    #[test]
    fn pinned_and_used_ones_survive_any_quota() {
        let mut view = row(3);
        view.artifacts[0].is_pinned = true;
        view.blobs.get_mut(&digest(1)).expect("there").is_held = true;
        let collection = plan(&view, &quota(1));
        assert_eq!(keys(&collection), [key(2)]);
        assert_eq!(collection.short, Some(Short { limit: "quota", free_bytes: 0 }));
    }

    #[test]
    fn age_takes_what_was_not_used_and_is_not_pinned() {
        let mut view = row(4);
        for (index, artifact) in view.artifacts.iter_mut().enumerate() {
            artifact.idle_ms = index as u64 * 10 * HOUR_MS;
            artifact.is_pinned = index == 3;
        }
        let limits = Limits { max_age_ms: Some(15 * HOUR_MS), ..quota(100) };
        assert_eq!(plan(&view, &limits).artifacts, [(key(2), Why::Age)]);
    }

    #[test]
    fn a_shared_blob_goes_with_the_last_that_needs_it() {
        let mut view = row(2);
        view.blobs.extend([blob(7, 5 * GB)]);
        view.artifacts.iter_mut().for_each(|artifact| artifact.blobs.push(digest(7)));
        let one = plan_removal(&view, &[key(0)]);
        assert_eq!((one.frees_bytes, one.blobs), (GB, vec![digest(0)]));
        let both = plan_removal(&view, &[key(0), key(1)]);
        assert_eq!((both.frees_bytes, both.blobs.len()), (7 * GB, 3));
    }

    #[test]
    fn nobody_goes_in_vain() {
        let mut view = row(3);
        view.artifacts[0].blobs = vec![digest(2)];
        view.blobs.remove(&digest(0));
        view.blobs.get_mut(&digest(1)).expect("there").frees_bytes = 0;
        view.artifacts[2].is_pinned = true;
        let collection = plan(&view, &quota(0));
        assert!(collection.artifacts.is_empty(), "one shares with a pinned one, one frees nothing");
        assert!(collection.short.is_some());
    }

    #[test]
    fn a_big_one_that_must_go_spares_the_small_ones_before_it() {
        let mut view = row(3);
        view.blobs.get_mut(&digest(2)).expect("there").frees_bytes = 98 * GB;
        view.artifacts[2].rank = 9.0;
        let collection = plan(&view, &quota(90));
        assert_eq!(keys(&collection), [key(2)]);
    }

    #[test]
    fn one_that_shares_a_blob_with_one_in_use_may_go_without_it() {
        let mut view = row(2);
        view.artifacts[0].blobs.push(digest(1));
        view.blobs.get_mut(&digest(1)).expect("there").is_held = true;
        let collection = plan_removal(&view, &[key(0)]);
        assert_eq!(collection.blobs, [digest(0)]);
        assert!(is_in_use(&view.artifacts[1], &view.blobs) && !is_in_use(&view.artifacts[0], &view.blobs));
    }

    #[test]
    fn the_disk_s_floor_holds_only_when_something_comes() {
        let mut view = row(3);
        view.free_disk_bytes = GB;
        let limits = Limits { min_free_bytes: 2 * GB, ..quota(100) };
        assert!(plan(&view, &limits).artifacts.is_empty());
        let limits = Limits { incoming_bytes: GB, ..limits };
        assert_eq!(keys(&plan(&view, &limits)), [key(0), key(1)]);
        let short = plan(&view, &Limits { incoming_bytes: 9 * GB, ..limits }).short;
        assert_eq!(short, Some(Short { limit: "disk", free_bytes: 2 * GB }));
    }

    #[test]
    fn leftovers_go_after_their_time_and_never_while_held() {
        let leftover = |kind, hours| Leftover { bytes: 1, ..Leftover::of(kind, hours * HOUR_MS) };
        let leftovers = vec![
            leftover(LeftoverKind::Trash, 0),
            leftover(LeftoverKind::Tmp, 2),
            leftover(LeftoverKind::Tmp, 24),
            leftover(LeftoverKind::Partial, 24),
            leftover(LeftoverKind::Partial, 24 * 7),
            Leftover { is_held: true, ..leftover(LeftoverKind::Partial, 24 * 70) },
            leftover(LeftoverKind::Quarantine, 24 * 30),
        ];
        let view = View { leftovers, ..View::default() };
        assert_eq!(plan(&view, &quota(100)).leftovers, [0, 2, 4, 6]);
    }

    #[test]
    fn a_download_that_broke_off_goes_before_an_artifact() {
        let mut view = row(3);
        let partial = Leftover { bytes: GB, ..Leftover::of(LeftoverKind::Partial, 2 * HOUR_MS) };
        view.leftovers.push(partial);
        let collection = plan(&view, &quota(3));
        assert_eq!((collection.leftovers.len(), collection.artifacts.len()), (1, 1));
    }

    #[test]
    fn blobs_without_an_artifact_go_after_an_hour() {
        let mut view = View { blobs: [blob(1, GB), blob(2, GB), blob(3, GB)].into(), ..View::default() };
        view.blobs.get_mut(&digest(2)).expect("there").idle_ms = 1;
        view.blobs.get_mut(&digest(3)).expect("there").is_held = true;
        assert_eq!(plan(&view, &quota(100)).blobs, [digest(1)]);
    }

    fn views() -> impl Strategy<Value = View> {
        let artifacts = prop::collection::vec(
            (prop::collection::vec(0_u64..12, 1..4), any::<bool>(), 0_u64..200, 0_u32..5),
            0..12,
        );
        let blobs = prop::collection::vec((0_u64..4, prop::bool::weighted(0.2), 0_u64..3), 12);
        (artifacts, blobs, 0_u64..10).prop_map(|(artifacts, blobs, free)| View {
            artifacts: artifacts
                .into_iter()
                .enumerate()
                .map(|(n, (blobs, is_pinned, hours, rank))| ArtifactFacts {
                    is_pinned,
                    idle_ms: hours * HOUR_MS,
                    rank: f64::from(rank),
                    ..artifact(n as u64, &blobs)
                })
                .collect(),
            blobs: blobs
                .into_iter()
                .enumerate()
                .map(|(n, (gigabytes, is_held, hours))| {
                    let (digest, facts) = blob(n as u64, gigabytes * GB);
                    (digest, BlobFacts { is_held, idle_ms: hours * HOUR_MS, ..facts })
                })
                .collect(),
            free_disk_bytes: free * GB,
            ..View::default()
        })
    }

    proptest! {
        #[test]
        fn whatever_is_there_the_rules_hold(
            view in views(),
            quota_gb in 0_u64..30,
            incoming in 0_u64..5,
            age in prop::option::of(0_u64..200),
            is_for_copy: bool,
        ) {
            let limits = Limits {
                quota_bytes: quota_gb * GB,
                max_age_ms: age.map(|hours| hours * HOUR_MS),
                min_free_bytes: GB,
                incoming_bytes: incoming * GB,
                prefix_bytes: GB,
                is_for_copy,
            };
            let collection = plan(&view, &limits);
            let gone: HashSet<KeyDigest> = keys(&collection).into_iter().collect();
            prop_assert_eq!(gone.len(), collection.artifacts.len());
            prop_assert!(!is_for_copy || collection.artifacts.iter().all(|(_, why)| *why != Why::Room));
            let stays = |artifact: &&ArtifactFacts| !gone.contains(&artifact.key);
            let needed: HashSet<Digest> =
                view.artifacts.iter().filter(stays).flat_map(|artifact| artifact.blobs.clone()).collect();
            for artifact in view.artifacts.iter().filter(|artifact| gone.contains(&artifact.key)) {
                prop_assert!(!artifact.is_pinned);
                prop_assert!(!is_in_use(artifact, &view.blobs));
            }
            for digest in &collection.blobs {
                prop_assert!(!view.blobs[digest].is_held);
                prop_assert!(!needed.contains(digest), "a blob that is needed");
            }
            let freed: u64 = collection.blobs.iter().map(|digest| view.blobs[digest].frees_bytes).sum();
            prop_assert_eq!(freed, collection.frees_bytes);
            let used: u64 = view.blobs.values().map(|blob| blob.frees_bytes).sum();
            let left = used - freed + limits.incoming_bytes;
            if collection.short.is_none() {
                prop_assert!(left <= limits.quota_bytes);
            }
            if let Some(short) = collection.short {
                prop_assert!(short.free_bytes < limits.incoming_bytes || limits.incoming_bytes == 0);
            }
            let again = plan(&view, &limits);
            prop_assert_eq!(collection, again);
        }
    }
}
