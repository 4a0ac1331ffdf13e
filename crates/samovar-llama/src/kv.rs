//! The sequences in the KV cache: those in use, and those kept because their prefix may come again.
//!
//! ```text
//!   open ──► in use ──retain──► retained, oldest first ──evict──► gone
//!     ▲                            │
//!     └───────── share ◄───────────┘   (marks cells; nothing is copied or computed)
//! ```
//!
//! Retained sequences own only what nobody else needs: they are evicted, oldest first, when cells or
//! sequence ids run short. Every change is made in the native cache and in the book at once.

use std::collections::VecDeque;

use llama_cpp_2::token::LlamaToken;

use crate::cells::{Cells, Holding};
use crate::context::Context;
use crate::prefix::{Candidate, Reuse};

/// Shorter sequences are not worth a sequence id.
const MIN_RETAINED_TOKENS: usize = 8;

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
    sequence: Sequence,
    tokens: Vec<LlamaToken>,
}

/// All sequences of one context.
#[derive(Debug)]
pub(crate) struct Kv {
    cells: Cells,
    free_ids: Vec<i32>,
    retained: VecDeque<Retained>,
    retained_most: usize,
    reuse: Reuse,
}

impl Kv {
    pub(crate) fn new(cells: u32, sequences: u32, retained_most: u32, reuse: Reuse) -> Self {
        Self {
            cells: Cells::new(cells),
            free_ids: (0..sequences as i32).rev().collect(),
            retained: VecDeque::new(),
            retained_most: retained_most as usize,
            reuse,
        }
    }

    pub(crate) fn used_cells(&self) -> usize {
        self.cells.used()
    }

    pub(crate) fn reuse(&self) -> Reuse {
        self.reuse
    }

    /// Retained sequences, as prefixes to choose from.
    pub(crate) fn candidates(&self) -> impl Iterator<Item = Candidate<'_>> {
        self.retained.iter().map(|kept| Candidate { tokens: &kept.tokens, computed: kept.tokens.len() })
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
            return self.cut(context, kept.sequence, tokens);
        }
        let sequence = self.share(context, &kept.sequence, tokens);
        self.retained.push_back(kept);
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

    /// Ends a sequence and keeps it for whoever comes with the same prefix.
    pub(crate) fn retain(
        &mut self,
        context: &mut Context<'_>,
        sequence: Sequence,
        mut tokens: Vec<LlamaToken>,
    ) {
        tokens.truncate(sequence.computed());
        let is_covered = self.retained.iter().any(|kept| kept.tokens.starts_with(&tokens));
        let is_useful = match self.reuse {
            Reuse::Partial => !is_covered,
            Reuse::WholeOnly => true,
        };
        if tokens.len() < MIN_RETAINED_TOKENS || !is_useful || self.retained_most == 0 {
            return self.close(context, sequence);
        }
        if self.reuse == Reuse::Partial {
            while let Some(place) = self.retained.iter().position(|kept| tokens.starts_with(&kept.tokens)) {
                self.evict(context, place);
            }
        }
        while self.retained.len() >= self.retained_most {
            self.evict_oldest(context);
        }
        self.retained.push_back(Retained { sequence, tokens });
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

    fn evict(&mut self, context: &mut Context<'_>, place: usize) {
        if let Some(kept) = self.retained.remove(place) {
            self.close(context, kept.sequence);
        }
    }

    fn cut(&mut self, context: &mut Context<'_>, mut sequence: Sequence, tokens: usize) -> Sequence {
        if tokens < sequence.computed() {
            remove(context, sequence.id, tokens);
            self.cells.truncate(&mut sequence.holding, tokens);
        }
        sequence
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
