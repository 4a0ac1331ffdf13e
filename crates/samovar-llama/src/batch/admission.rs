//! Who gets a slot, and where its prompt begins in the cache.

use llama_cpp_2::token::LlamaToken;

use super::Batcher;
use crate::error::Error;
use crate::prefix::{self, Candidate, Choice, Reuse};
use crate::slot::Slot;
use crate::ticket::Ticket;

impl Batcher<'_> {
    /// Lets a request wait for its slot. It was checked when the context may have been larger.
    pub(super) fn receive(&mut self, mut ticket: Ticket) {
        let (prompt, context) = (ticket.prompt.len(), self.plan.context_tokens);
        let rest = (context as usize).saturating_sub(prompt);
        if rest == 0 {
            return ticket.refuse(Error::PromptTooLong { prompt, context });
        }
        ticket.max_tokens = ticket.max_tokens.min(rest as u32);
        self.waiting.push_back(ticket);
    }

    /// Gives free slots to those who wait, in order of arrival.
    pub(super) fn admit(&mut self) {
        let mut busy = self.slots.iter().filter(|slot| !slot.is_probe()).count();
        let mut index = 0;
        while index < self.waiting.len() {
            let is_probe = self.waiting[index].is_probe;
            if !is_probe && busy >= self.plan.slots as usize
                || is_probe && self.slots.iter().any(Slot::is_probe)
            {
                index += 1;
                continue;
            }
            let in_use: Vec<_> = self.slots.iter().map(Slot::adapters).collect();
            if !self.adapters.has_room(&self.waiting[index].adapters, &in_use) {
                // Only probes pass it: so its turn comes when the running ones have ended.
                busy = self.plan.slots as usize;
                continue;
            }
            let ticket = self.waiting.remove(index).expect("invariant: index < len");
            if let Err(error) = self.adapters.ensure(&mut self.context, &ticket.adapters, &in_use) {
                ticket.refuse(error);
                continue;
            }
            busy += usize::from(!is_probe);
            let slot =
                if ticket.ignore_eos { Slot::new(ticket, self.enders()) } else { Slot::new(ticket, &[]) };
            self.slots.push(slot);
        }
    }

    fn enders(&mut self) -> &[LlamaToken] {
        let vocab = &self.vocab;
        self.enders.get_or_insert_with(|| {
            (0..vocab.n_tokens()).map(LlamaToken).filter(|&token| vocab.is_eog(token)).collect()
        })
    }

    /// Gives slots that have none a place in the cache, unless another is computing what they need.
    pub(super) fn place(&mut self) {
        for index in 0..self.slots.len() {
            if self.slots[index].sequence().is_none() {
                self.place_one(index);
            }
        }
    }

    fn place_one(&mut self, index: usize) {
        let (earlier, rest) = self.slots.split_at_mut(index);
        let slot = &mut rest[0];
        let retained = self.kv.retained();
        let is_like = |other: &&Slot| {
            other.reuses_prefix()
                && other.adapters() == slot.adapters()
                && slot.scope().may_use(other.scope())
        };
        let choice = if slot.reuses_prefix() {
            // Only earlier requests are waited for: so no two can wait for each other.
            let live = earlier.iter().filter(is_like);
            let live = live.map(|other| Candidate {
                tokens: other.tokens(),
                computed: other.computed(),
                least: other.sequence().map_or(0, |sequence| self.kv.least(&self.context, sequence)),
            });
            let kept = self.kv.candidates(&self.context, slot.adapters(), slot.scope());
            let candidates: Vec<_> = kept.chain(live).collect();
            prefix::choose(slot.tokens(), &candidates, self.kv.reuse())
        } else {
            Choice::Compute
        };
        let own_tokens = match choice {
            Choice::Copy { tokens, .. } => {
                let live = earlier.iter().filter(is_like).filter(|other| slot.scope().is_own(other.scope()));
                let own = live.map(Slot::tokens).chain(self.kv.own(slot.adapters(), slot.scope()));
                let taken = &slot.tokens()[..tokens];
                own.map(|own| prefix::common_tokens(own, taken)).max().unwrap_or(0)
            }
            Choice::Compute | Choice::Wait { .. } => 0,
        };
        let context = &mut self.context;
        let sequence = match choice {
            Choice::Wait { .. } => return,
            Choice::Compute => self.kv.open(context),
            Choice::Copy { from, tokens } if from < retained => self.kv.share_retained(context, from, tokens),
            Choice::Copy { from, tokens } => {
                let source = earlier.iter().filter(is_like).nth(from - retained);
                let source = source.and_then(Slot::sequence);
                let source = source.expect("invariant: only a sequence that exists has computed tokens");
                self.kv.share(context, source, tokens)
            }
        };
        slot.place(sequence, own_tokens);
        if self.kv.reuse() == Reuse::WholeOnly && slot.reuses_prefix() {
            let vocab = &self.vocab;
            let stops = prefix::stops(slot.tokens(), slot.computed(), |token| vocab.is_control(token));
            slot.stop_at(stops);
        }
    }
}
