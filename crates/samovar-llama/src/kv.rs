//! The sequences in the KV cache: those in use, and those kept because their prefix may come again.
//!
//! ```text
//!   open ──► in use ──retain──► retained, oldest first ──evict──► gone
//!     ▲                            │
//!     └───────── share ◄───────────┘   (marks cells; nothing is copied or computed)
//! ```
//!
//! A recurrent model's sequence is also kept while it computes, at places where others may go on from it: checkpoints.
//! Retained sequences own only what no other sequence needs: they are evicted, short ones and then the oldest first,
//! when cells or sequence ids run short. Every change is made in the native cache and in the book at once.

use std::collections::VecDeque;

use llama_cpp_2::token::LlamaToken;
use samovar_core::Scope;

use crate::adapter_set::AdapterSet;
use crate::cells::{Cells, Holding};
use crate::context::Context;
use crate::error::Error;
use crate::log;
use crate::prefix::{Candidate, Reuse};

/// Shorter sequences are retained where there is room for them, and leave before all others.
const SHORT_TOKENS: usize = 8;

/// A sequence that computes.
#[derive(Debug)]
pub(crate) struct Sequence {
    id: i32,
    holding: Holding,
}

impl Sequence {
    /// llama.cpp's number for it.
    pub(crate) fn id(&self) -> i32 {
        self.id
    }

    /// Tokens that lie in the cache.
    pub(crate) fn computed(&self) -> usize {
        self.holding.len()
    }
}

#[derive(Debug)]
struct Retained {
    id: u64,
    sequence: Sequence,
    of: Computed,
}

/// What a sequence is the state of.
#[derive(Debug)]
pub(crate) struct Computed {
    pub tokens: Vec<LlamaToken>,
    pub adapters: AdapterSet,
    pub scope: Scope,
}

impl Computed {
    fn is_short(&self) -> bool {
        self.tokens.len() < SHORT_TOKENS
    }

    /// Whether the other's state begins with this one and is as much its client's.
    fn begins(&self, other: &Self) -> bool {
        other.tokens.starts_with(&self.tokens) && other.adapters == self.adapters && other.scope == self.scope
    }
}

/// All sequences of one context.
#[derive(Debug)]
pub(crate) struct Kv {
    cells: Cells,
    free_ids: Vec<i32>,
    retained: VecDeque<Retained>,
    retained_most: usize,
    reuse: Reuse,
    /// Tokens of the model's attention window; 0 = it has none.
    window: usize,
}

impl Kv {
    pub(crate) fn new(cells: u32, sequences: u32, retained_most: u32, reuse: Reuse, window: u32) -> Self {
        Self {
            cells: Cells::new(cells),
            free_ids: (0..sequences as i32).rev().collect(),
            retained: VecDeque::new(),
            retained_most: retained_most as usize,
            reuse,
            // Recurrent state is taken whole, with the end of the sequence, which is where a window is.
            window: if reuse == Reuse::WholeOnly { 0 } else { window as usize },
        }
    }

    pub(crate) fn used_cells(&self) -> usize {
        self.cells.used()
    }

    /// Cells that nothing lies in.
    pub(crate) fn free_cells(&self) -> usize {
        self.cells.free()
    }

    pub(crate) fn reuse(&self) -> Reuse {
        self.reuse
    }

    /// Retained sequences, as prefixes for a request with these adapters and this scope to choose from. Those that it
    /// may not use are empty.
    pub(crate) fn candidates(
        &self,
        context: &Context<'_>,
        adapters: &AdapterSet,
        scope: &Scope,
    ) -> impl Iterator<Item = Candidate<'_>> {
        self.retained.iter().map(move |kept| {
            let is_for_it = kept.of.adapters == *adapters && scope.may_use(&kept.of.scope);
            let tokens = if is_for_it { &kept.of.tokens[..] } else { &[] };
            Candidate { tokens, computed: tokens.len(), least: self.least(context, &kept.sequence) }
        })
    }

    /// Tokens of the retained sequences with these adapters that are this client's own.
    pub(crate) fn own(&self, adapters: &AdapterSet, scope: &Scope) -> impl Iterator<Item = &[LlamaToken]> {
        let is_own = move |kept: &&Retained| kept.of.adapters == *adapters && scope.is_own(&kept.of.scope);
        self.retained.iter().filter(is_own).map(|kept| &kept.of.tokens[..])
    }

    /// How many of a sequence's tokens can be taken over at least. llama.cpp gives cells away that a window has
    /// passed, from the beginning on, and does not save them.
    pub(crate) fn least(&self, context: &Context<'_>, sequence: &Sequence) -> usize {
        match (self.window, context.first(sequence.id)) {
            (0, _) | (_, 0) => 0,
            (window, first) => first + window - 1,
        }
    }

    /// How many sequences are retained.
    pub(crate) fn retained(&self) -> usize {
        self.retained.len()
    }

    /// An empty sequence.
    pub(crate) fn open(&mut self, context: &mut Context<'_>) -> Sequence {
        if self.free_ids.is_empty() {
            self.evict_oldest(context);
        }
        let id =
            self.free_ids.pop().expect("invariant: there are more ids than slots, and the rest is retained");
        Sequence { id, holding: Holding::default() }
    }

    /// A new sequence that starts with the first `tokens` of another.
    pub(crate) fn share(&mut self, context: &mut Context<'_>, source: &Sequence, tokens: usize) -> Sequence {
        let mut sequence = self.open(context);
        self.link(context, source.id, sequence.id, tokens);
        sequence.holding = self.cells.share(&source.holding, tokens);
        sequence
    }

    /// A new sequence that starts with the first `tokens` of a retained one, by its place among
    /// [`Self::candidates`]. The retained one counts as just used.
    pub(crate) fn share_retained(
        &mut self,
        context: &mut Context<'_>,
        place: usize,
        tokens: usize,
    ) -> Sequence {
        let kept = self.retained.remove(place).expect("invariant: the place comes from candidates()");
        if self.free_ids.is_empty() && self.retained.is_empty() {
            // The last retained sequence gives its own id away instead of being evicted for it.
            let mut sequence = kept.sequence;
            self.cut(context, &mut sequence, tokens);
            return sequence;
        }
        let sequence = self.share(context, &kept.sequence, tokens);
        if self.reuse == Reuse::WholeOnly {
            // So do the earlier states of the same conversation: nothing can be had of them from this one.
            let retained = std::mem::take(&mut self.retained);
            let (earlier, others): (VecDeque<_>, VecDeque<_>) =
                retained.into_iter().partition(|other| other.of.begins(&kept.of));
            self.retained = others;
            self.retained.extend(earlier);
        }
        self.line_up(kept);
        sequence
    }

    /// Evicts retained sequences until `tokens` cells are free. False if even that is not enough.
    pub(crate) fn make_room(&mut self, context: &mut Context<'_>, tokens: usize) -> bool {
        while self.cells.free() < tokens {
            if !self.evict_oldest(context) {
                return false;
            }
        }
        true
    }

    /// Books tokens that were just computed.
    pub(crate) fn book(&mut self, sequence: &mut Sequence, tokens: usize) {
        self.cells.take(&mut sequence.holding, tokens);
    }

    /// Keeps what a sequence has computed so far, under the name `id`; the sequence goes on.
    pub(crate) fn checkpoint(
        &mut self,
        context: &mut Context<'_>,
        sequence: &Sequence,
        of: Computed,
        id: u64,
    ) {
        if self.refresh(&of) {
            return;
        }
        while self.retained.len() >= self.retained_most {
            self.evict_oldest(context);
        }
        let sequence = self.share(context, sequence, sequence.computed());
        self.line_up(Retained { id, sequence, of });
    }

    /// Whether exactly this is retained; then it counts as just used.
    fn refresh(&mut self, of: &Computed) -> bool {
        let is_same = |kept: &Retained| kept.of.tokens.len() == of.tokens.len() && of.begins(&kept.of);
        let kept = self.retained.iter().position(is_same).and_then(|place| self.retained.remove(place));
        let exists = kept.is_some();
        if let Some(kept) = kept {
            self.line_up(kept);
        }
        exists
    }

    /// Ends a sequence and keeps it, under the name `id`, for a request with the same prefix.
    pub(crate) fn retain(
        &mut self,
        context: &mut Context<'_>,
        sequence: Sequence,
        mut of: Computed,
        id: u64,
    ) {
        of.tokens.truncate(sequence.computed());
        let is_whole = self.least(context, &sequence) == 0;
        let is_covered =
            self.retained.iter().any(|kept| of.begins(&kept.of) && self.least(context, &kept.sequence) == 0);
        let is_useful = match self.reuse {
            Reuse::Partial => !is_covered,
            Reuse::WholeOnly => !self.refresh(&of),
        };
        let has_room = self.retained.len() < self.retained_most;
        if of.tokens.is_empty() || !is_useful || (of.is_short() && !has_room) {
            return self.close(context, sequence);
        }
        if self.reuse == Reuse::Partial && is_whole {
            while let Some(place) = self.retained.iter().position(|kept| kept.of.begins(&of)) {
                self.evict(context, place);
            }
        }
        while self.retained.len() >= self.retained_most {
            self.evict_oldest(context);
        }
        self.line_up(Retained { id, sequence, of });
    }

    /// Puts a sequence where those are that were used last; a short one where those are that leave next.
    fn line_up(&mut self, kept: Retained) {
        if kept.of.is_short() {
            self.retained.push_front(kept);
        } else {
            self.retained.push_back(kept);
        }
    }

    /// Ends a sequence for good.
    pub(crate) fn close(&mut self, context: &mut Context<'_>, sequence: Sequence) {
        remove(context, sequence.id, 0);
        self.cells.release(sequence.holding);
        self.free_ids.push(sequence.id);
    }

    /// Evicts the retained sequence that was used longest ago. False if there is none.
    pub(crate) fn evict_oldest(&mut self, context: &mut Context<'_>) -> bool {
        let exists = !self.retained.is_empty();
        if exists {
            self.evict(context, 0);
        }
        exists
    }

    /// Retained sequences that can be saved, by name, the longest unused first.
    pub(crate) fn prefixes(&self) -> impl Iterator<Item = (u64, &[LlamaToken], Scope)> {
        self.savable().map(|kept| (kept.id, kept.of.tokens.as_slice(), kept.of.scope))
    }

    /// Bytes of a retained sequence's state.
    pub(crate) fn state_bytes(&self, context: &mut Context<'_>, id: u64) -> Result<usize, Error> {
        Ok(context.state_bytes(self.find(id)?.sequence.id))
    }

    /// Writes a retained sequence's state, for which `into` has exactly the room.
    pub(crate) fn save(&self, context: &mut Context<'_>, id: u64, into: &mut [u8]) -> Result<(), Error> {
        if context.save(self.find(id)?.sequence.id, into) {
            Ok(())
        } else {
            Err(Error::StateWrite { detail: log::take_complaints() })
        }
    }

    fn find(&self, id: u64) -> Result<&Retained, Error> {
        self.savable().find(|kept| kept.id == id).ok_or(Error::PrefixGone)
    }

    /// Recurrent state is of use only to who continues exactly there.
    fn savable(&self) -> impl Iterator<Item = &Retained> {
        self.retained.iter().filter(|kept| self.reuse == Reuse::Partial && kept.of.adapters.is_empty())
    }

    /// Retains a sequence that was saved; others may have to leave for it.
    pub(crate) fn restore(
        &mut self,
        context: &mut Context<'_>,
        (tokens, scope): (Vec<LlamaToken>, Scope),
        state: &[u8],
        id: u64,
    ) -> Result<(), Error> {
        if self.reuse == Reuse::WholeOnly {
            return Err(Error::UnsavableState);
        }
        let of = Computed { tokens, adapters: AdapterSet::default(), scope };
        // One whose window has lost the beginning is of no use to who leaves it that early.
        let has_it =
            |kept: &Retained| of.begins(&kept.of) && self.least(context, &kept.sequence) <= of.tokens.len();
        if let Some(place) = self.retained.iter().position(has_it) {
            let kept = self.retained.remove(place);
            self.retained.extend(kept);
            return Ok(());
        }
        let (wanted, total) = (of.tokens.len(), self.cells.total());
        if wanted > total {
            let detail = format!("it has {wanted} tokens, and the KV cache holds {total}");
            return Err(Error::SavedState { detail });
        }
        if self.free_ids.is_empty() && self.retained.is_empty() || !self.make_room(context, wanted) {
            return Err(Error::NoSequence);
        }
        let mut sequence = self.open(context);
        let is_whole = self.window == 0;
        if !context.restore(sequence.id, state, wanted, is_whole) {
            self.close(context, sequence);
            return Err(Error::SavedState { detail: log::take_complaints() });
        }
        self.cells.take(&mut sequence.holding, wanted);
        self.retain(context, sequence, of, id);
        Ok(())
    }

    fn evict(&mut self, context: &mut Context<'_>, place: usize) {
        if let Some(kept) = self.retained.remove(place) {
            self.close(context, kept.sequence);
        }
    }

    /// Whether what a sequence computed last can be taken back, and it goes on as if that had never been: recurrent state
    /// cannot, and of a window it is not certain that what it passed meanwhile is still there.
    pub(crate) fn can_cut(&self) -> bool {
        self.reuse == Reuse::Partial && self.window == 0
    }

    /// Takes all but the first `tokens` of a sequence back.
    pub(crate) fn cut(&mut self, context: &mut Context<'_>, sequence: &mut Sequence, tokens: usize) {
        if tokens < sequence.computed() {
            remove(context, sequence.id, tokens);
            self.cells.truncate(&mut sequence.holding, tokens);
        }
    }

    fn link(&self, context: &mut Context<'_>, source: i32, target: i32, tokens: usize) {
        // Recurrent state has no positions to choose from.
        context.share(source, target, (self.reuse == Reuse::Partial).then_some(tokens));
    }
}

/// Removes a sequence's tokens from place `start` on.
fn remove(context: &mut Context<'_>, id: i32, start: usize) {
    let is_removed = context.remove(id, start);
    debug_assert!(is_removed, "whole sequences and ends of attention caches can always be removed");
}
