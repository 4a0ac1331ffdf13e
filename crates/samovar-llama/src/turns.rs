//! Whose step it is, when requests with different adapters run together.
//!
//! ```text
//!   line      base   poet   clerk        the first computes until its turn ends, then goes to the end
//!   step      base base base │ poet poet │ clerk clerk clerk │ base ...
//! ```
//!
//! A step computes one set of adapters, and changing them makes llama.cpp plan its graph anew: so a turn
//! is longer than a step, and short enough that no text seems to stop. Pure.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::adapter_set::AdapterSet;

/// How long a set computes while others wait. Changing costs a few milliseconds.
const TURN: Duration = Duration::from_millis(100);

/// The sets that have something to compute, in their order.
#[derive(Debug, Default)]
pub(crate) struct AdapterQueue {
    line: VecDeque<AdapterSet>,
    since: Option<Instant>,
}

impl AdapterQueue {
    /// The set of the next step. `present` are the sets that have something to compute, at least one.
    pub(crate) fn next<'a>(
        &mut self,
        present: impl Iterator<Item = &'a AdapterSet> + Clone,
        now: Instant,
    ) -> AdapterSet {
        let before = self.line.front().cloned();
        self.line.retain(|set| present.clone().any(|other| other == set));
        for set in present {
            if !self.line.contains(set) {
                self.line.push_back(set.clone());
            }
        }
        let is_over = self.since.is_none_or(|since| now.duration_since(since) >= TURN);
        if before.as_ref() != self.line.front() {
            self.since = Some(now);
        } else if is_over {
            self.line.rotate_left(usize::from(self.line.len() > 1));
            self.since = Some(now);
        }
        self.line.front().cloned().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use samovar_core::Adapter;

    fn sets(count: u8) -> (tempfile::TempDir, Vec<AdapterSet>) {
        let folder = tempfile::tempdir().unwrap();
        let set = |number| {
            let path = folder.path().join(format!("{number}"));
            fs_err::write(&path, "").unwrap();
            AdapterSet::of(&[Adapter { path, scale: 1.0 }]).unwrap()
        };
        let sets = std::iter::once(AdapterSet::default()).chain((1..count).map(set)).collect();
        (folder, sets)
    }

    #[test]
    fn every_set_has_its_turn_and_none_has_two_before_another() {
        let (_folder, sets) = sets(3);
        let mut turns = AdapterQueue::default();
        let mut now = Instant::now();
        let mut steps = Vec::new();
        for _ in 0..96 {
            let set = turns.next(sets.iter(), now);
            steps.push(sets.iter().position(|other| *other == set).unwrap());
            now += TURN / 4;
        }
        let mut order = steps.clone();
        order.dedup();
        assert!(order.windows(3).all(|turns| turns[0] != turns[2]), "{order:?}");
        for set in 0..3 {
            assert_eq!(steps.iter().filter(|step| **step == set).count(), 32, "{steps:?}");
        }
    }

    #[test]
    fn a_step_longer_than_a_turn_is_one_turn() {
        let (_folder, sets) = sets(2);
        let mut turns = AdapterQueue::default();
        let mut now = Instant::now();
        let mut last = turns.next(sets.iter(), now);
        for _ in 0..10 {
            now += TURN * 5;
            let set = turns.next(sets.iter(), now);
            assert_ne!(set, last);
            last = set;
        }
    }

    #[test]
    fn who_is_alone_goes_on_and_who_leaves_is_forgotten() {
        let (_folder, sets) = sets(2);
        let mut turns = AdapterQueue::default();
        let mut now = Instant::now();
        for _ in 0..5 {
            now += TURN * 2;
            assert_eq!(turns.next(sets[1..].iter(), now), sets[1]);
        }
        assert_eq!(turns.next(sets[..1].iter(), now), sets[0]);
        assert_eq!(turns.line.len(), 1);
    }
}
