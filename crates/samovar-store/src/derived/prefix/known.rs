//! What is saved for one model, engine and KV format, in the order of its tokens.
//!
//! ```text
//!   saved     [1 2 3 4]  [1 2 9]  [7 7]
//!   prompt             ▲ [1 2 8 5]           the longest common prefix is one of the two neighbours'
//! ```
//!
//! Sorted by their tokens, those with most in common with a prompt lie next to where it would be; so nothing
//! has to be hashed, and the answer is exact to the token. Facts are read once; a `stat` of the directory tells
//! whether this or another process saved or removed something since.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::ops::Bound;
use std::path::Path;
use std::sync::Arc;

use samovar_core::{Digest, Scope};

use super::SavedPrefix;
use super::facts::PrefixMetadata;
use super::quota;
use crate::disk::layout::Layout;
use crate::disk::space::entries;
use crate::index::Stamp;

/// What is known of one directory of prefixes.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// The directory when it was last listed.
    stamp: Option<Stamp>,
    by_tokens: BTreeMap<Arc<[u32]>, Entry>,
    by_name: HashMap<String, Arc<[u32]>>,
}

/// One of them.
#[derive(Debug)]
struct Entry {
    name: String,
    client: Option<Digest>,
}

impl Known {
    /// Takes in what changed in the directory. What cannot be read is as if it were not there.
    pub(super) fn catch_up(&mut self, layout: &Layout, dir: &Path) {
        let stamp = fs_err::symlink_metadata(dir).ok().map(|facts| Stamp::of(&facts));
        if stamp == self.stamp {
            return;
        }
        let names: Vec<String> = entries(dir).unwrap_or_default().into_iter().map(|(name, _)| name).collect();
        let gone: Vec<String> =
            self.by_name.keys().filter(|name| names.binary_search(name).is_err()).cloned().collect();
        for name in gone {
            if let Some(tokens) = self.by_name.remove(&name) {
                self.by_tokens.remove(&tokens);
            }
        }
        for name in names {
            if !self.by_name.contains_key(&name) {
                self.learn(layout, dir, name);
            }
        }
        self.stamp = stamp;
    }

    fn learn(&mut self, layout: &Layout, dir: &Path, name: String) {
        let path = dir.join(&name);
        match PrefixMetadata::read(layout, &path) {
            Ok(Some(facts)) => {
                let tokens: Arc<[u32]> = facts.tokens.into();
                let entry = Entry { name: name.clone(), client: facts.client };
                self.by_tokens.insert(Arc::clone(&tokens), entry);
                self.by_name.insert(name, tokens);
            }
            Ok(None) => {
                tracing::warn!(path = %path.display(), "a saved prefix has no facts that can be read; it goes");
                quota::remove(layout, &path);
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => (),
            Err(error) => tracing::debug!(%error, "a saved prefix is passed over"),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.by_tokens.is_empty()
    }

    /// The one with most in common with a prompt.
    pub(super) fn longest(&self, prompt: &[u32]) -> Option<SavedPrefix> {
        let mut before = self.by_tokens.range::<[u32], _>((Bound::Unbounded, Bound::Included(prompt)));
        let mut after = self.by_tokens.range::<[u32], _>((Bound::Excluded(prompt), Bound::Unbounded));
        let neighbours = [before.next_back(), after.next()];
        let saved = |(tokens, entry): (&Arc<[u32]>, &Entry)| SavedPrefix {
            tokens: Arc::clone(tokens),
            scope: Scope { client: entry.client, is_private: false },
            common: common(tokens, prompt),
        };
        neighbours
            .into_iter()
            .flatten()
            .map(saved)
            .filter(|saved| saved.common > 0)
            .max_by_key(|saved| (saved.common, std::cmp::Reverse(saved.tokens.len())))
    }

    /// Those that say no more than these tokens, which are not among them.
    pub(super) fn shorter_than(&self, tokens: &[u32]) -> Vec<String> {
        let is_shorter = |known: &[u32]| known.len() < tokens.len() && tokens.starts_with(known);
        let shorter = self.by_tokens.iter().filter(|(known, _)| is_shorter(known));
        shorter.map(|(_, entry)| entry.name.clone()).collect()
    }
}

fn common(left: &[u32], right: &[u32]) -> usize {
    left.iter().zip(right).take_while(|(a, b)| a == b).count()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn known(all: impl IntoIterator<Item = Vec<u32>>) -> Known {
        let mut known = Known::default();
        for (number, tokens) in all.into_iter().enumerate() {
            known.by_tokens.insert(tokens.into(), Entry { name: number.to_string(), client: None });
        }
        known
    }

    #[test]
    fn a_prompt_that_shares_only_a_part_finds_the_state_too() {
        let known = known([(0..2000).collect(), (500..600).collect()]);
        let prompt: Vec<u32> = (0..1500).chain(7000..7100).collect();
        let found = known.longest(&prompt).unwrap();
        assert_eq!((found.common, found.tokens.len()), (1500, 2000));
        assert_eq!(known.longest(&[9, 9]), None);
    }

    #[test]
    fn of_equals_the_shorter_is_taken() {
        let known = known([vec![1, 2, 3], vec![1, 2, 3, 5, 5]]);
        assert_eq!(known.longest(&[1, 2, 3, 4]).unwrap().tokens.len(), 3);
    }

    proptest! {
        #[test]
        fn the_neighbours_have_the_longest_common_prefix(
            all in proptest::collection::btree_set(proptest::collection::vec(0u32..3, 1..6), 0..20),
            prompt in proptest::collection::vec(0u32..3, 0..7),
        ) {
            let best = all.iter().map(|tokens| common(tokens, &prompt)).max().unwrap_or(0);
            let found = known(all).longest(&prompt);
            prop_assert_eq!(found.map_or(0, |saved| saved.common), best);
        }
    }
}
