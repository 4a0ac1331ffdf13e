//! Which computed prefix a new prompt continues from.
//!
//! ```text
//!   prompt      the system prompt ....... | a new question
//!   retained    the system prompt ....... | an older question, its answer   → copy the common part
//!   live        the system prom~~~~~~~~~~ (being computed right now)        → wait for it, then copy
//! ```
//!
//! At least one token is always left to compute, because only a computed token has logits. Pure.

use llama_cpp_2::token::LlamaToken;

/// A prefix still being computed must save at least this much over what is ready now.
const MIN_WAIT_TOKENS: usize = 16;

/// A sequence whose cells a prompt might share.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Candidate<'a> {
    /// Its tokens: those computed, and those that will be.
    pub tokens: &'a [LlamaToken],
    /// How many of them lie in the cache now.
    pub computed: usize,
    /// Fewer than these cannot be taken: of a model whose attention has a window, the cache may have lost the
    /// beginning, which those who continue further on do not look at.
    pub least: usize,
}

/// How much of another sequence's state can be taken over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reuse {
    /// Any prefix: attention keeps one cell a token.
    Partial,
    /// All or nothing: recurrent state is a summary of everything so far.
    WholeOnly,
}

/// What to do about a prompt's prefix. `from` is an index into the candidates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Choice {
    /// Compute the prompt from its first token.
    Compute,
    /// Share the first `tokens` cells of a candidate.
    Copy { from: usize, tokens: usize },
    /// Do nothing until the candidate has computed its first `tokens`.
    Wait { from: usize, tokens: usize },
}

/// Chooses for one prompt. `candidates` are those kept, the longest unused first, and then those that run: among equal ones
/// the last wins, so that what has not been used for long stays what leaves first.
pub(crate) fn choose(prompt: &[LlamaToken], candidates: &[Candidate<'_>], reuse: Reuse) -> Choice {
    let most = prompt.len().saturating_sub(1);
    let (mut ready, mut coming) = ((0, 0), (0, 0));
    for (index, candidate) in candidates.iter().enumerate() {
        let common = common_tokens(&prompt[..most], candidate.tokens);
        if common < candidate.least {
            continue;
        }
        let computed = common.min(candidate.computed);
        if reuse == Reuse::WholeOnly {
            if common >= candidate.computed && computed >= ready.0 {
                ready = (computed, index);
            }
            continue;
        }
        if computed >= ready.0 && computed >= candidate.least {
            ready = (computed, index);
        }
        if common > coming.0 {
            coming = (common, index);
        }
    }
    if coming.0 >= ready.0 + MIN_WAIT_TOKENS {
        Choice::Wait { from: coming.1, tokens: coming.0 }
    } else if ready.0 > 0 {
        // Sharing costs nothing, and of a short prompt a few tokens are much: kernels take four at a time.
        Choice::Copy { from: ready.1, tokens: ready.0 }
    } else {
        Choice::Compute
    }
}

/// Fewer tokens than these are computed anew sooner than their state is kept.
const MIN_STATE_TOKENS: usize = 32;

/// Where the prompt of a model whose state can not be cut stops, so that its state can be kept: where the last turn
/// begins, for prompts that go on differently, and before its last token, for the same prompt. `computed` tokens are
/// there already. Turns begin with tokens of which `is_mark` holds, and the last one is that which the prompt ends in.
pub(crate) fn stops(
    prompt: &[LlamaToken],
    computed: usize,
    is_mark: impl Fn(LlamaToken) -> bool,
) -> Vec<usize> {
    let end = prompt.len().saturating_sub(1);
    let mut marks = (0..prompt.len()).rev().filter(|place| is_mark(prompt[*place]));
    let turn = marks.find_map(|last| prompt[..last].iter().rposition(|token| *token == prompt[last]));
    let mut stops: Vec<usize> = turn.into_iter().chain([end]).collect();
    stops.dedup();
    stops.retain(|stop| *stop >= computed + MIN_STATE_TOKENS);
    stops
}

/// How many tokens two prompts begin with together.
pub(crate) fn common_tokens(left: &[LlamaToken], right: &[LlamaToken]) -> usize {
    left.iter().zip(right).take_while(|(a, b)| a == b).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(ids: impl IntoIterator<Item = i32>) -> Vec<LlamaToken> {
        ids.into_iter().map(LlamaToken).collect()
    }

    fn done(tokens: &[LlamaToken]) -> Candidate<'_> {
        Candidate { tokens, computed: tokens.len(), least: 0 }
    }

    #[test]
    fn a_prefix_that_lost_its_beginning_is_taken_far_enough_or_not_at_all() {
        let known = tokens(0..100);
        let candidate = Candidate { least: 60, ..done(&known) };
        let prompt = |common: i32| tokens((0..common).chain(500..540));
        assert_eq!(choose(&prompt(60), &[candidate], Reuse::Partial), Choice::Copy { from: 0, tokens: 60 });
        assert_eq!(choose(&prompt(59), &[candidate], Reuse::Partial), Choice::Compute);
    }

    #[test]
    fn takes_the_longest_common_prefix() {
        let (short, long) = (tokens(0..10), tokens(0..20));
        let prompt = tokens((0..15).chain(100..120));
        let choice = choose(&prompt, &[done(&short), done(&long)], Reuse::Partial);
        assert_eq!(choice, Choice::Copy { from: 1, tokens: 15 });
    }

    #[test]
    fn among_equals_that_which_was_used_last_is_taken() {
        let (older, newer) = (tokens((0..20).chain(500..520)), tokens((0..20).chain(600..620)));
        let prompt = tokens((0..20).chain(700..720));
        let choice = choose(&prompt, &[done(&older), done(&newer)], Reuse::Partial);
        assert_eq!(choice, Choice::Copy { from: 1, tokens: 20 });
        let (whole, same) = (tokens(0..20), tokens(0..20));
        let choice = choose(&prompt, &[done(&whole), done(&same)], Reuse::WholeOnly);
        assert_eq!(choice, Choice::Copy { from: 1, tokens: 20 });
    }

    #[test]
    fn a_fully_cached_prompt_still_computes_its_last_token() {
        let same = tokens(0..32);
        assert_eq!(choose(&same, &[done(&same)], Reuse::Partial), Choice::Copy { from: 0, tokens: 31 });
    }

    #[test]
    fn waits_for_a_prefix_that_another_request_is_computing() {
        let live = tokens(0..600);
        let prompt = tokens((0..512).chain(1000..1010));
        let candidate = Candidate { tokens: &live, computed: 128, least: 0 };
        assert_eq!(choose(&prompt, &[candidate], Reuse::Partial), Choice::Wait { from: 0, tokens: 512 });
        let candidate = Candidate { tokens: &live, computed: 512, least: 0 };
        assert_eq!(choose(&prompt, &[candidate], Reuse::Partial), Choice::Copy { from: 0, tokens: 512 });
    }

    #[test]
    fn does_not_wait_for_a_few_tokens_more() {
        let (ready, live) = (tokens(0..40), tokens(0..50));
        let prompt = tokens(0..100);
        let candidates = [done(&ready), Candidate { tokens: &live, computed: 0, least: 0 }];
        assert_eq!(choose(&prompt, &candidates, Reuse::Partial), Choice::Copy { from: 0, tokens: 40 });
    }

    #[test]
    fn even_one_token_is_taken_and_strangers_share_nothing() {
        let prompt = tokens([1, 2, 3, 4, 5, 6]);
        let other = tokens([1, 800, 801]);
        assert_eq!(choose(&prompt, &[done(&other)], Reuse::Partial), Choice::Copy { from: 0, tokens: 1 });
        let other = tokens([9, 2, 3, 4, 5, 6]);
        assert_eq!(choose(&prompt, &[done(&other)], Reuse::Partial), Choice::Compute);
        assert_eq!(choose(&prompt, &[], Reuse::Partial), Choice::Compute);
        assert_eq!(choose(&[], &[done(&other)], Reuse::Partial), Choice::Compute);
    }

    #[test]
    fn prompts_stop_where_the_last_turn_begins_and_before_their_end() {
        let is_mark = |token: LlamaToken| token.0 < 10;
        // Two turns of 50 tokens, and what makes the model speak.
        let turn = |mark: i32| [mark].into_iter().chain(100..149);
        let prompt = tokens(turn(1).chain(turn(1)).chain([1, 500]));
        assert_eq!(stops(&prompt, 0, is_mark), [50, 101]);
        assert_eq!(stops(&prompt, 30, is_mark), [101], "a few tokens are not worth it");
        assert_eq!(stops(&prompt, 90, is_mark), [0; 0]);
        assert_eq!(stops(&prompt, 0, |_| false), [101]);
        // Marks that come once are passed over.
        let thinking = tokens(turn(1).chain(turn(1)).chain([1, 2, 500]));
        assert_eq!(stops(&thinking, 0, is_mark), [50, 102]);
        assert_eq!(stops(&[], 0, is_mark), [0; 0]);
    }

    #[test]
    fn recurrent_state_is_taken_whole_or_not_at_all() {
        let (whole, beyond) = (tokens(0..20), tokens(0..60));
        let prompt = tokens(0..40);
        let candidates = [done(&beyond), done(&whole)];
        assert_eq!(choose(&prompt, &candidates, Reuse::WholeOnly), Choice::Copy { from: 1, tokens: 20 });
        assert_eq!(choose(&prompt, &candidates[..1], Reuse::WholeOnly), Choice::Compute);
    }
}
