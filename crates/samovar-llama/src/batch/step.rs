//! One native step: what it computes, and what becomes of it.

use std::cell::Cell;
use std::time::{Duration, Instant};

use super::Batcher;
use crate::context::DecodeError;
use crate::error::Error;
use crate::log;
use crate::plan::BATCH_TOKENS;
use crate::prefix::{self, Reuse};
use crate::schedule::{self, Company, Work};
use crate::slot::{Slot, SlotProgress};
use crate::threads::Stopwatch;

/// So long a step of several answers waits for late rules, whatever their number. Rules usually are ready before the logits.
const PATIENCE: Duration = Duration::from_millis(1);

impl Batcher<'_> {
    /// One native step.
    pub(super) fn step(&mut self) -> Result<(), Error> {
        self.go_on();
        let mut works: Vec<Work> = self.slots.iter().map(Slot::work).collect();
        if self.computing.is_none() {
            self.computing = Some(self.place.compute(self.plan.threads));
            self.threads.begin();
        }
        let company = Company::of(&works);
        let company = if self.slots.iter().any(Slot::is_held_up) { Company::Answers } else { company };
        let company = if self.threads.is_crowded() { company.beside_others() } else { company };
        let chunk = self.pace.chunk_tokens(company, BATCH_TOKENS as usize);
        self.take_turns(&mut works);
        // Those of a step that was broken off.
        self.slots.iter_mut().for_each(|slot| slot.drafts_mut().clear());
        let mut parts = schedule::pick(&works, BATCH_TOKENS as usize, chunk);
        let is_single = self.waiting.is_empty() && works == [Work::Decode];
        if is_single {
            parts[0] += self.make_draft();
        }
        let tokens: usize = parts.iter().sum();
        if tokens == 0 {
            return Ok(());
        }
        if !self.kv.make_room(&mut self.context, tokens) {
            self.end_longest();
            return Ok(());
        }
        let outputs = self.fill_batch(&parts);
        if let Some(weight_views) = self.weight_views {
            weight_views.select_for_batch(tokens);
        }
        let chosen = self.threads.choose(tokens);
        self.context.set_threads(chosen.threads);
        self.published.threads(self.threads.used());
        let start = Instant::now();
        let watch = Stopwatch::start();
        // No request waits for this step when all in it have left, or the instance is to leave. One whose threads
        // do not get cores is computed again with fewer, which is sooner done; recurrent state would have to begin anew.
        // A step that is broken off costs all recurrent states: those of others are worth more than its rest.
        let (slots, published) = (&self.slots, self.published);
        let may_repeat = self.kv.reuse() != Reuse::WholeOnly;
        let mut others = slots.iter().zip(&parts).filter(|(_, part)| **part == 0);
        let is_alone = self.kv.retained() == 0 && others.all(|(slot, _)| slot.sequence().is_none());
        let may_leave = may_repeat || is_alone;
        let is_hopeless = Cell::new(false);
        let is_to_stop = || {
            let mut computed = slots.iter().zip(&parts).filter(|(_, part)| **part > 0);
            published.is_interrupted() || (may_leave && computed.all(|(slot, _)| slot.is_cancelled())) || {
                is_hopeless.set(may_repeat && watch.is_hopeless(&chosen));
                is_hopeless.get()
            }
        };
        match self.context.decode(&mut self.batch, &is_to_stop) {
            Ok(()) => self.threads.note(&chosen, &watch, true),
            Err(DecodeError::Interrupted) if is_hopeless.get() => {
                self.threads.note(&chosen, &watch, false);
                return Ok(());
            }
            Err(DecodeError::Interrupted) => {
                if self.kv.reuse() == Reuse::WholeOnly {
                    self.lose_states();
                }
                return Ok(());
            }
            Err(DecodeError::NoRoom) => {
                let _ = log::take_complaints();
                if is_single && tokens > 1 {
                    self.slots[0].drafts_mut().end();
                    return Ok(());
                }
                // The book says that there is room; the cache knows better. What is kept for others goes
                // first, then the longest answer.
                if !self.kv.evict_oldest(&mut self.context) {
                    self.end_longest();
                }
                return Ok(());
            }
            Err(DecodeError::Failed(code)) => {
                return Err(Error::Decode { code, detail: log::take_complaints() });
            }
        }
        self.failures = 0;
        self.advance(&parts, &outputs, is_single.then_some(start));
        // Sampling is part of what the others wait for.
        self.pace.note(tokens, start.elapsed());
        Ok(())
    }

    /// Attaches the adapters whose turn it is; who needs others waits.
    fn take_turns(&mut self, works: &mut [Work]) {
        let working = self.slots.iter().zip(&*works).filter(|(_, work)| **work != Work::Wait);
        let set = self.turns.next(working.map(|(slot, _)| slot.adapters()), Instant::now());
        for (slot, work) in self.slots.iter().zip(works) {
            if *slot.adapters() != set {
                *work = Work::Wait;
            }
        }
        self.adapters.attach(&mut self.context, &set);
    }

    /// Drafts what the only request may say next, where a step can be taken back. Returns how many tokens that are.
    fn make_draft(&mut self) -> usize {
        if !self.kv.can_cut() {
            return 0;
        }
        // Nothing that is kept for others leaves for a draft.
        let most = self.kv.free_cells().saturating_sub(1);
        self.slots[0].make_draft(most, &self.costs);
        if self.slots[0].drafts().current().is_empty() {
            self.ask_draft_model(most);
        }
        self.slots[0].drafts().current().len()
    }

    /// Has the draft model say what the only request may say next, at most so many tokens, where that pays.
    fn ask_draft_model(&mut self, most: usize) {
        let (Some(drafter), slot, published) = (&mut self.drafter, &mut self.slots[0], self.published) else {
            return;
        };
        let (tokens, left, reads) = (slot.tokens(), slot.draftable_tokens(), self.model_controller.reads());
        let Some(unread) = drafter.unread(tokens, reads) else { return };
        let count = self.model_controller.k(most.min(left), unread, left, &self.costs);
        if count == 0 {
            return;
        }
        // It has no more threads than the model's steps have now.
        let threads = self.threads.used().used;
        let is_to_stop = || published.is_interrupted() || slot.is_cancelled();
        match drafter.draft(tokens, (count, reads, threads), &is_to_stop) {
            Ok((draft, drafting)) if !draft.is_empty() => slot.drafts_mut().put(draft, drafting),
            Ok(_) | Err(DecodeError::Interrupted) => {}
            Err(error) => {
                let detail = log::take_complaints();
                tracing::warn!(?error, %detail, "the draft model failed: answers go on without it");
                self.drafter = None;
            }
        }
    }

    /// Puts each slot's part into the batch. Returns where each slot's logits will be, for those whose last token is in it:
    /// those of its draft follow.
    fn fill_batch(&mut self, parts: &[usize]) -> Vec<Option<usize>> {
        self.batch.clear();
        let batch = &mut self.batch;
        let fill = |(slot, &part): (&Slot, &usize)| {
            let (id, start) = (slot.sequence()?.id(), slot.computed());
            let (known, draft) = (slot.tokens(), slot.drafts().current());
            let mut output = None;
            for (offset, &token) in known[start..].iter().chain(draft).take(part).enumerate() {
                let position = start + offset;
                let is_last = position + 1 >= known.len();
                let place = batch.add(token, position, id, is_last);
                if is_last {
                    output.get_or_insert(place);
                }
            }
            output
        };
        self.slots.iter().zip(parts).map(fill).collect()
    }

    /// Books what was computed, and lets those whose logits are there say their next token. `single_since` is when the step
    /// began, if it was one of a single answer.
    fn advance(&mut self, parts: &[usize], outputs: &[Option<usize>], single_since: Option<Instant>) {
        for (slot, &part) in self.slots.iter_mut().zip(parts) {
            if let Some(sequence) = slot.sequence_mut() {
                self.kv.book(sequence, part);
            }
        }
        self.keep_states();
        let by = Instant::now() + PATIENCE;
        for index in (0..self.slots.len()).rev() {
            let Some(output) = outputs[index] else {
                if parts[index] > 0 {
                    self.slots[index].tell_progress();
                }
                continue;
            };
            if self.slots.len() > 1 && self.hold_up(index, output, by) {
                continue;
            }
            let (progress, accepted) = self.say(index, output);
            if let Some(since) = single_since {
                let drafts = self.slots[index].drafts_mut();
                if parts[index] > 1 {
                    self.published.draft(parts[index] - 1, accepted, drafts.is_of_model());
                }
                let (time, costs) = (since.elapsed(), &mut self.costs);
                drafts.note(parts[index], accepted, time, costs, &mut self.model_controller);
            }
            if progress == SlotProgress::Ends {
                self.vacate(index);
            }
        }
    }

    /// Whether a slot waits for its rules, while the others go on without it: they are not there by then.
    fn hold_up(&mut self, index: usize, output: usize, by: Instant) -> bool {
        let slot = &mut self.slots[index];
        let logits = if slot.has_late_rules(by) { self.context.logits(output) } else { None };
        if let Some(logits) = logits {
            slot.hold_up(logits);
        }
        slot.is_held_up()
    }

    /// Lets those say their next token whose rules were not ready in an earlier step. Where nothing else is to be computed,
    /// it waits for them.
    fn go_on(&mut self) {
        let has_time = self.slots.iter().all(|slot| slot.work() == Work::Wait);
        for index in (0..self.slots.len()).rev() {
            let slot = &mut self.slots[index];
            let Some(logits) = slot.take_logits(has_time) else { continue };
            if slot.advance(&logits, &self.vocab) == SlotProgress::Ends {
                self.vacate(index);
            }
        }
    }

    /// Lets a slot say its next token, and then those for which its draft has computed the logits already: for as long as it
    /// says what the draft says. The rest of the draft leaves the cache. Returns how many tokens of the draft it said, too.
    fn say(&mut self, index: usize, output: usize) -> (SlotProgress, usize) {
        let slot = &mut self.slots[index];
        let known = slot.tokens().len();
        let drafted = slot.drafts().current().len();
        let (mut row, mut accepted) = (0, 0);
        let progress = loop {
            let Some(logits) = self.context.logits(output + row) else { break SlotProgress::Continues };
            let progress = slot.advance(logits, &self.vocab);
            let said = &slot.tokens()[known..];
            accepted = prefix::common_tokens(said, slot.drafts().current());
            // The logits behind what it has said are there only if all of that was drafted.
            if progress == SlotProgress::Ends || accepted < said.len() {
                break progress;
            }
            row = accepted;
        };
        if accepted < drafted
            && let Some(sequence) = slot.sequence_mut()
        {
            self.kv.cut(&mut self.context, sequence, known + accepted);
        }
        (progress, accepted)
    }

    /// Keeps the state of prompts that have come to where it may be needed again.
    fn keep_states(&mut self) {
        for slot in &mut self.slots {
            if let Some(of) = slot.checkpoint()
                && let Some(sequence) = slot.sequence()
            {
                self.kv.checkpoint(&mut self.context, sequence, of, self.published.prefix_id());
            }
        }
    }

    /// Gives up all recurrent states after a step that was broken off: those of the step may have taken half of it in, and
    /// llama.cpp moves others about while it computes. A sequence that goes on begins again.
    fn lose_states(&mut self) {
        while self.kv.evict_oldest(&mut self.context) {}
        for slot in &mut self.slots {
            if let Some(sequence) = slot.begin_anew() {
                self.kv.close(&mut self.context, sequence);
            }
        }
    }
}
