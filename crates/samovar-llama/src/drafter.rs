//! The draft model of an instance: says what its model may say next.
//!
//! ```text
//!   tokens of a request ─► which sequence begins like them? ─► read what is new, in batches ─► say one token after the other
//! ```
//!
//! It has weights, a context and threads of its own, and remembers the tokens of the conversations that it drafted for last: of
//! another one it reads the end. So it needs no part in what becomes of its model's cache. It takes the likeliest token each
//! time. What it says is a guess: it never changes which tokens are sampled, and where it fails it ends, and no answer does.

use std::time::Instant;

use llama_cpp_2::token::LlamaToken;
use samovar_core::Descriptor;

use crate::context::{Batch, Context, DecodeError};
use crate::plan::{CELL_GRAIN, ContextOptions};
use crate::prefix::common_tokens;
use crate::speculate::{DRAFT_MAX, Drafting};

/// Conversations that it remembers.
const SEQUENCES: u32 = 2;
/// Tokens of each at most: then it goes on with the end of the text.
const CONTEXT_TOKENS: u32 = 1_024;
/// Tokens of one of its steps at most.
pub(crate) const DRAFT_BATCH_TOKENS: u32 = 128;
/// Weights that keep one more thread busy.
const WEIGHTS_PER_THREAD: u64 = 25_000_000;

/// How a draft model is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DraftPlan {
    /// Tokens of one sequence at most.
    context_tokens: u32,
    /// Threads of one step at most.
    threads: u32,
}

impl DraftPlan {
    /// For a draft model beside a model with so many threads.
    pub(crate) fn new(draft: &Descriptor, threads: u32) -> Self {
        let trained = if draft.context_tokens == 0 { CONTEXT_TOKENS } else { draft.context_tokens };
        Self {
            context_tokens: CONTEXT_TOKENS.min(trained),
            // Those of a small model wait for each other longer than they compute.
            threads: u64::from(threads).min(1 + draft.parameters / WEIGHTS_PER_THREAD) as u32,
        }
    }

    /// Options of its context.
    pub(crate) fn context(self) -> ContextOptions {
        ContextOptions {
            cells: (SEQUENCES * self.context_tokens).next_multiple_of(CELL_GRAIN),
            batch_tokens: DRAFT_BATCH_TOKENS,
            sequences: SEQUENCES,
            threads: self.threads,
            kv_type: llama_cpp_sys_2::GGML_TYPE_F16,
            pooled: None,
        }
    }
}

/// A draft model with its context.
#[derive(Debug)]
pub(crate) struct Drafter<'m> {
    context: Context<'m>,
    plan: DraftPlan,
    batch: Batch,
    /// Tokens that both vocabularies have.
    vocabulary: usize,
    sequences: Vec<Remembered>,
    /// Drafts that were asked for.
    asked: u64,
}

/// What it has computed of a text.
#[derive(Debug)]
struct Remembered {
    id: i32,
    /// Its first token's place in the text.
    begin: usize,
    tokens: Vec<LlamaToken>,
    /// The draft that it was of use for last.
    used: u64,
}

/// Where a text is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Continuation {
    /// Of the sequence.
    index: usize,
    /// Of the text, the first token that is read.
    begin: usize,
    /// Tokens from there on that are computed.
    computed: usize,
}

impl<'m> Drafter<'m> {
    /// For models of which both vocabularies have so many tokens.
    pub(crate) fn new(context: Context<'m>, plan: DraftPlan, vocabulary: usize) -> Self {
        let remembered = |id| Remembered { id, begin: 0, tokens: Vec::new(), used: 0 };
        let sequences = (0..SEQUENCES as i32).map(remembered).collect();
        Self { context, plan, batch: Batch::default(), vocabulary, sequences, asked: 0 }
    }

    /// How many tokens it must read before it can say what follows these; of a text that it does not know, `reads` at most.
    /// `None` where one of them is none of its own, or there are none.
    pub(crate) fn unread(&self, tokens: &[LlamaToken], reads: usize) -> Option<usize> {
        let Continuation { begin, computed, .. } = self.place(tokens, reads)?;
        let unread = &tokens[begin + computed..];
        let is_known = |token: &LlamaToken| usize::try_from(token.0).is_ok_and(|id| id < self.vocabulary);
        unread.iter().all(is_known).then_some(unread.len())
    }

    /// Says `count` tokens that may follow these, and what that took. `interrupt` is asked between operations and breaks it off
    /// by answering true.
    ///
    /// # Errors
    /// Those of a step; it goes on with the next draft as if this one had not been asked for.
    pub(crate) fn draft(
        &mut self,
        tokens: &[LlamaToken],
        (count, reads, threads): (usize, usize, u32),
        interrupt: &dyn Fn() -> bool,
    ) -> Result<(Vec<LlamaToken>, Drafting), DecodeError> {
        let Some(place) = self.place(tokens, reads) else {
            return Ok((Vec::new(), Drafting::default()));
        };
        self.asked += 1;
        self.context.set_threads(self.plan.threads.min(threads).max(1));
        let remembered = &mut self.sequences[place.index];
        remembered.used = self.asked;
        remembered.begin = place.begin;
        self.cut(place.index, place.computed);
        let drafted = self.say(place.index, &tokens[place.begin + place.computed..], count, interrupt);
        if drafted.is_err() {
            self.cut(place.index, 0);
        }
        drafted
    }

    /// Reads these tokens, and says so many after them.
    fn say(
        &mut self,
        index: usize,
        unread: &[LlamaToken],
        count: usize,
        interrupt: &dyn Fn() -> bool,
    ) -> Result<(Vec<LlamaToken>, Drafting), DecodeError> {
        let began = Instant::now();
        for part in unread.chunks(DRAFT_BATCH_TOKENS as usize) {
            self.compute(index, part, interrupt)?;
        }
        let mut drafting = Drafting { read: unread.len(), read_time: began.elapsed(), ..Drafting::default() };
        let (began, mut said) = (Instant::now(), Vec::with_capacity(count));
        while let Some(token) = self.likeliest() {
            said.push(token);
            // What follows the last one is not asked for.
            if said.len() >= count {
                break;
            }
            self.compute(index, &[token], interrupt)?;
            drafting.steps += 1;
        }
        drafting.steps_time = began.elapsed();
        Ok((said, drafting))
    }

    /// One step. The last token has logits.
    fn compute(
        &mut self,
        index: usize,
        tokens: &[LlamaToken],
        interrupt: &dyn Fn() -> bool,
    ) -> Result<(), DecodeError> {
        let remembered = &mut self.sequences[index];
        self.batch.clear();
        for (offset, &token) in tokens.iter().enumerate() {
            let position = remembered.tokens.len() + offset;
            self.batch.add(token, position, remembered.id, offset + 1 == tokens.len());
        }
        self.context.decode(&mut self.batch, interrupt)?;
        remembered.tokens.extend_from_slice(tokens);
        Ok(())
    }

    /// The likeliest token that both models have, after the last step.
    fn likeliest(&mut self) -> Option<LlamaToken> {
        let last = self.batch.len().checked_sub(1)?;
        let logits = self.context.logits(last)?;
        let known = &logits[..self.vocabulary.min(logits.len())];
        let (best, _) =
            known.iter().enumerate().reduce(|best, other| if other.1 > best.1 { other } else { best })?;
        Some(LlamaToken(best as i32))
    }

    /// Forgets all but the first tokens of a sequence.
    fn cut(&mut self, index: usize, tokens: usize) {
        let remembered = &mut self.sequences[index];
        if remembered.tokens.len() > tokens || tokens == 0 {
            let is_removed = self.context.remove(remembered.id, tokens);
            debug_assert!(is_removed, "ends of attention caches can always be removed");
        }
        remembered.tokens.truncate(tokens);
    }

    fn place(&self, tokens: &[LlamaToken], reads: usize) -> Option<Continuation> {
        place(&self.sequences, tokens, reads, self.plan.context_tokens as usize)
    }
}

/// Where most of a text is computed: in the sequence that begins like it, or at its end in the one that was of no use for
/// longest. No sequence has more than `most` tokens with a draft. `None` = the text is empty.
fn place(sequences: &[Remembered], tokens: &[LlamaToken], reads: usize, most: usize) -> Option<Continuation> {
    let reads = reads.min(most.saturating_sub(DRAFT_MAX)).max(1);
    let known = |(index, remembered): (usize, &Remembered)| {
        let begin = remembered.begin;
        let rest = tokens.get(begin..).filter(|rest| rest.len() + DRAFT_MAX <= most)?;
        // The last token is computed in any case: for its logits.
        let computed = common_tokens(&remembered.tokens, rest).min(rest.len().checked_sub(1)?);
        (computed > 0).then_some(Continuation { index, begin, computed })
    };
    let unread = |place: &Continuation| tokens.len() - place.begin - place.computed;
    let best = sequences.iter().enumerate().filter_map(known).min_by_key(unread);
    let (oldest, _) = sequences.iter().enumerate().min_by_key(|(_, remembered)| remembered.used)?;
    let begin = tokens.len().saturating_sub(reads);
    let anew = (!tokens.is_empty()).then_some(Continuation { index: oldest, begin, computed: 0 })?;
    Some(best.filter(|best| unread(best) <= unread(&anew)).unwrap_or(anew))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::footprint::tests::descriptor;

    fn tokens(ids: impl IntoIterator<Item = i32>) -> Vec<LlamaToken> {
        ids.into_iter().map(LlamaToken).collect()
    }

    /// Two sequences: the end of a text from its 100th token on, and the begin of another one, which was of use later.
    fn sequences() -> [Remembered; 2] {
        [
            Remembered { id: 0, begin: 100, tokens: tokens(100..160), used: 1 },
            Remembered { id: 1, begin: 0, tokens: tokens((0..40).map(|id| id * 3)), used: 2 },
        ]
    }

    fn placed(text: &[LlamaToken]) -> (usize, usize, usize) {
        let place = place(&sequences(), text, 50, 200).expect("a place");
        (place.index, place.begin, place.computed)
    }

    #[test]
    fn a_text_goes_on_where_most_of_it_is_computed() {
        assert_eq!(placed(&tokens(0..165)), (0, 100, 60), "five tokens are new");
        assert_eq!(placed(&tokens((0..45).map(|id| id * 3))), (1, 0, 40));
        let refused = tokens((0..30).map(|id| id * 3).chain([7]));
        assert_eq!(placed(&refused), (1, 0, 30), "what was said otherwise is computed again");
    }

    #[test]
    fn the_last_token_is_always_read() {
        assert_eq!(placed(&tokens(0..160)), (0, 100, 59));
        assert_eq!(placed(&tokens(0..120)), (0, 100, 19));
    }

    #[test]
    fn of_a_text_that_is_not_known_the_end_is_read_in_place_of_the_oldest() {
        assert_eq!(placed(&tokens(500..580)), (0, 30, 0));
        assert_eq!(placed(&tokens(500..510)), (0, 0, 0), "all of a short one");
        let far = tokens((0..10).map(|id| id * 3).chain(700..800));
        assert_eq!(placed(&far), (0, 60, 0), "the end is nearer than what is common");
        assert!(place(&sequences(), &[], 50, 200).is_none());
    }

    #[test]
    fn a_sequence_that_is_full_begins_anew() {
        let long = [Remembered { id: 0, begin: 0, tokens: tokens(0..190), used: 1 }];
        let place = |text: i32| place(&long, &tokens(0..text), 50, 200).expect("a place");
        assert_eq!(place(192), Continuation { index: 0, begin: 0, computed: 190 });
        assert_eq!(place(193), Continuation { index: 0, begin: 143, computed: 0 }, "a draft needs room, too");
    }

    #[test]
    fn a_draft_model_has_no_more_context_than_it_was_trained_with() {
        let cells = |context_tokens| {
            let draft = Descriptor { context_tokens, ..descriptor() };
            DraftPlan::new(&draft, 2).context().cells
        };
        assert_eq!([0, 100, 512, 100_000].map(cells), [2048, 256, 1024, 2048]);
        let tiny = Descriptor { parameters: 3_000_000, ..descriptor() };
        assert_eq!([1, 8].map(|threads| DraftPlan::new(&tiny, threads).threads), [1, 1]);
    }
}
