//! Drafts from the text itself: what followed when its last tokens stood earlier in the prompt or the answer.
//!
//! ```text
//!   … the quick brown fox jumps over … says the quick brown ▏
//!     └───── same ──────┘└─ draft ─┘        └──── end ─────┘
//! ```
//!
//! The index is that of a Lempel-Ziv compressor: the last place of each three tokens, and for each place the one before
//! it. It takes at most 16 bytes per token, and a bounded time per token and per draft, whatever the text. A collision in it
//! costs a comparison; every match is compared with the text. It never reads a model.

use llama_cpp_2::token::LlamaToken;

/// Tokens at the end that must have stood earlier.
const MATCH_MIN: usize = 3;
/// The longest match that is looked for: longer ones are not told apart.
const MATCH_MAX: usize = 12;
/// Earlier places that are compared for one draft.
const PLACES_MAX: usize = 32;
/// No place. Contexts are far shorter.
const NONE: u32 = u32::MAX;
/// Places in the smallest table.
const TABLE_MIN: usize = 1024;

/// Tokens that may come next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Draft<'t> {
    /// At most as many as were asked for.
    pub(crate) tokens: &'t [LlamaToken],
    /// Tokens that stood before them there as they do here: how much speaks for them.
    pub(crate) matched: usize,
}

/// An index of one request's tokens, which only grow.
#[derive(Debug, Default)]
pub(crate) struct Lookup {
    /// By hash of three tokens: where they ended last. A power of two, and no less than the tokens in it.
    last: Vec<u32>,
    /// By the end of three tokens: where three with the same hash ended before.
    before: Vec<u32>,
}

impl Lookup {
    /// An empty index.
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Up to `most` tokens that may follow `tokens`: those that followed the longest earlier occurrence of its end, of
    /// 12 down to 3 tokens. Among equally long ones, the latest that as many tokens follow. Empty without one.
    ///
    /// `tokens` begin with those of the call before; what is new in them is taken into the index.
    pub(crate) fn draft<'t>(&mut self, tokens: &'t [LlamaToken], most: usize) -> Draft<'t> {
        self.take_in(tokens);
        let mut best = Draft::default();
        if tokens.len() <= MATCH_MIN || most == 0 {
            return best;
        }
        let mut place = self.last[self.slot(tokens, tokens.len())];
        for _ in 0..PLACES_MAX {
            if place == NONE {
                break;
            }
            let end = place as usize;
            let matched = common_end(&tokens[..end], tokens);
            let draft = &tokens[end..tokens.len().min(end + most)];
            if matched >= MATCH_MIN && (matched, draft.len()) > (best.matched, best.tokens.len()) {
                best = Draft { tokens: draft, matched };
                if (matched, draft.len()) == (MATCH_MAX, most) {
                    break;
                }
            }
            place = self.before[end];
        }
        best
    }

    /// Takes in what ended before the last token: the end itself is what is looked for.
    fn take_in(&mut self, tokens: &[LlamaToken]) {
        if tokens.len() > self.last.len() || tokens.len() < self.before.len() {
            self.last = vec![NONE; tokens.len().next_power_of_two().max(TABLE_MIN)];
            self.before.clear();
        }
        for end in self.before.len()..tokens.len() {
            if end < MATCH_MIN {
                self.before.push(NONE);
                continue;
            }
            let slot = self.slot(tokens, end);
            self.before.push(std::mem::replace(&mut self.last[slot], end as u32));
        }
    }

    /// Where the table has the three tokens before `end`.
    fn slot(&self, tokens: &[LlamaToken], end: usize) -> usize {
        let three = &tokens[end - MATCH_MIN..end];
        let hash = three.iter().fold(0_u64, |hash, token| {
            (hash ^ u64::from(token.0.cast_unsigned())).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(29)
        });
        hash as usize & (self.last.len() - 1)
    }
}

/// Tokens that both end with, at most `MATCH_MAX`.
fn common_end(earlier: &[LlamaToken], tokens: &[LlamaToken]) -> usize {
    let pairs = earlier.iter().rev().zip(tokens.iter().rev()).take(MATCH_MAX);
    pairs.take_while(|(earlier, token)| earlier == token).count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::speculate::DRAFT_MAX;

    fn tokens(ids: impl IntoIterator<Item = i32>) -> Vec<LlamaToken> {
        ids.into_iter().map(LlamaToken).collect()
    }

    fn draft(ids: impl IntoIterator<Item = i32>, most: usize) -> Vec<i32> {
        Lookup::new().draft(&tokens(ids), most).tokens.iter().map(|token| token.0).collect()
    }

    /// What an index must find, by looking everywhere.
    fn by_hand(tokens: &[LlamaToken], most: usize) -> Vec<LlamaToken> {
        let places = (MATCH_MIN..tokens.len()).map(|end| {
            let draft = &tokens[end..tokens.len().min(end + most)];
            (common_end(&tokens[..end], tokens), draft.len(), end)
        });
        let best = places.filter(|(matched, _, _)| *matched >= MATCH_MIN).max();
        best.map(|(_, length, end)| tokens[end..end + length].to_vec()).unwrap_or_default()
    }

    #[test]
    fn what_followed_the_same_tokens_is_the_draft() {
        assert_eq!(draft([1, 2, 3, 4, 5, 6, 7, 8, 9, 1, 2, 3], 4), [4, 5, 6, 7]);
        assert_eq!(draft([1, 2, 3, 4, 5, 9, 1, 2, 3], DRAFT_MAX), [4, 5, 9, 1, 2, 3], "what there is");
    }

    #[test]
    fn two_tokens_are_too_few() {
        assert!(draft([1, 2, 3, 4, 9, 2, 3], 4).is_empty());
        assert!(draft([], 4).is_empty());
        assert!(draft([1, 2, 3], 4).is_empty());
        assert!(draft([1, 1, 1, 1], 0).is_empty(), "none was wanted");
    }

    #[test]
    fn a_longer_match_counts_more_than_a_later_one() {
        assert_eq!(draft([7, 1, 2, 3, 50, 8, 1, 2, 3, 60, 7, 1, 2, 3], 1), [50]);
    }

    #[test]
    fn of_equal_matches_the_later_counts() {
        assert_eq!(draft([7, 1, 2, 3, 50, 8, 1, 2, 3, 60, 9, 1, 2, 3], 1), [60]);
    }

    #[test]
    fn a_text_that_repeats_itself_has_whole_drafts() {
        assert_eq!(draft([5; 40], DRAFT_MAX), [5; DRAFT_MAX]);
        assert_eq!(draft((0..60).map(|index| index % 3), DRAFT_MAX), [0, 1, 2, 0, 1, 2, 0, 1]);
    }

    #[test]
    fn a_growing_text_has_the_drafts_of_a_new_index() {
        // A small alphabet has many matches; the table grows on the way.
        let mut state = 7_u32;
        let all = tokens((0..3000).map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as i32 % 20
        }));
        let mut growing = Lookup::new();
        for length in (0..all.len()).step_by(7) {
            let text = &all[..length];
            let drafted = growing.draft(text, DRAFT_MAX);
            assert_eq!(drafted, Lookup::new().draft(text, DRAFT_MAX), "after {length} tokens");
            assert_eq!(drafted.tokens, by_hand(text, DRAFT_MAX), "after {length} tokens");
        }
    }

    #[test]
    fn a_long_context_takes_few_bytes_and_few_comparisons() {
        // One more than a power of two and the end of a match: the table has its largest share of unused places.
        let length = 131_075;
        let mut lookup = Lookup::new();
        // The worst for an index: the same three tokens everywhere, followed by others.
        let text = tokens((0..length).map(|index| if index % 4 == 3 { index } else { index % 4 }));
        assert_eq!(lookup.draft(&text, DRAFT_MAX).tokens.len(), DRAFT_MAX);
        assert!((lookup.last.len() + lookup.before.len()) * size_of::<u32>() <= 12 * text.len());
    }

    #[test]
    fn a_text_that_is_cut_is_indexed_again() {
        let mut lookup = Lookup::new();
        lookup.draft(&tokens(0..100), DRAFT_MAX);
        let other = tokens([1, 2, 3, 4, 5, 1, 2, 3]);
        assert_eq!(lookup.draft(&other, DRAFT_MAX).tokens, tokens([4, 5, 1, 2, 3]));
    }
}
