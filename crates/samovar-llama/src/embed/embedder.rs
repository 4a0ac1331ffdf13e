//! The owner of a context for vectors: what waits becomes batches, one native computation at a time.
//!
//! The loop that owns it lets it do a step when its turn is. It never blocks on a reader, nor on anything else.

use std::cell::Cell;
use std::collections::VecDeque;
use std::ops::Range;
use std::time::Instant;

use super::fill::{Fill, LEAST_TOKENS};
use super::plan::EmbedPlan;
use super::queue::{Picked, Queue, Room};
use super::ticket::EmbedTicket;
use super::vector;
use crate::context::{Batch, Context, DecodeError};
use crate::error::Error;
use crate::log;
use crate::packed::WeightViews;
use crate::published::Published;
use crate::slot::FinalEvent;
use crate::threads::{PeerPlace, Stopwatch, Threads};

/// Requests that may wait. The pool's queue is the real one.
const MAX_WAITING: usize = 1024;
/// Failed batches in a row after which the instance gives itself up.
const MAX_FAILURES: u32 = 3;

/// Makes vectors of texts.
pub(crate) struct Embedder<'m> {
    context: Context<'m>,
    /// If its weights change with the size of batches.
    weight_views: Option<&'m WeightViews<'m>>,
    plan: EmbedPlan,
    published: &'m Published,
    batch: Batch,
    queue: Queue,
    /// Inputs of batches that came to no finite numbers. One of them may have spoiled the others: each is computed alone.
    suspects: VecDeque<Picked>,
    /// Whether the last batch was one of these.
    was_suspect: bool,
    /// The last batch came to no finite numbers.
    is_spoilt: bool,
    fill: Fill,
    threads: Threads<'m>,
    failures: u32,
}

/// What became of a batch.
enum Computed {
    /// A row for each input; `None` where llama.cpp has none.
    Whole(Vec<Option<Vec<f32>>>),
    /// It was broken off, and is to be computed again if it is still wanted.
    BrokenOff,
}

impl<'m> Embedder<'m> {
    /// For a context that was made for `plan`.
    pub(crate) fn new(
        context: Context<'m>,
        weight_views: Option<&'m WeightViews<'m>>,
        plan: EmbedPlan,
        threads: u32,
        published: &'m Published,
        place: &'m PeerPlace,
    ) -> Self {
        Self {
            context,
            weight_views,
            plan,
            published,
            batch: Batch::default(),
            queue: Queue::default(),
            suspects: VecDeque::new(),
            was_suspect: false,
            is_spoilt: false,
            fill: Fill::new(plan.budget_tokens as usize),
            threads: Threads::new(threads, &place.allowance),
            failures: 0,
        }
    }

    /// Whether it has nothing to do.
    pub(crate) fn is_idle(&self) -> bool {
        self.queue.len() == 0
    }

    /// Lets a request wait. It was checked when inputs may have been longer.
    pub(crate) fn receive(&mut self, ticket: EmbedTicket) {
        let limit = self.plan.input_tokens;
        if self.queue.len() >= MAX_WAITING {
            return ticket.refuse(Error::TooManyWaiting { waiting: MAX_WAITING });
        }
        if let Some(long) = ticket.items.iter().find(|item| item.tokens.len() > limit as usize) {
            let (index, tokens) = (long.index as usize, long.tokens.len());
            return ticket.refuse(Error::InputTooLong { index, tokens, limit });
        }
        self.queue.add(ticket);
        self.publish();
    }

    /// One batch, if anything waits; a short one if it `is_beside` answers that go on meanwhile.
    ///
    /// # Errors
    /// That too many batches failed in a row. Of one that fails, its requests are told.
    pub(crate) fn step(&mut self, is_beside: bool) -> Result<(), Error> {
        self.queue.forget_cancelled();
        let tokens = if is_beside { self.fill.tokens().min(LEAST_TOKENS) } else { self.fill.tokens() };
        let room = Room { tokens, sequences: self.plan.sequences as usize };
        let picked = self.pick(room);
        if picked.is_empty() {
            self.publish();
            return Ok(());
        }
        let start = Instant::now();
        let final_events = match self.compute(&picked) {
            Ok(Computed::BrokenOff) => {
                self.queue.put_back(picked);
                Vec::new()
            }
            Ok(Computed::Whole(rows)) => {
                self.failures = 0;
                self.fill.note(picked.iter().map(Picked::tokens).sum(), start.elapsed().as_secs_f64());
                self.tell(picked, rows)
            }
            Err(error) => {
                tracing::warn!(%error, "a batch of inputs failed");
                self.failures += 1;
                if self.failures >= MAX_FAILURES {
                    self.queue.put_back(picked);
                    return Err(Error::Dead { failures: self.failures, detail: error.to_string() });
                }
                let fail = |picked| self.queue.answer(picked, Err(error.clone()));
                picked.into_iter().filter_map(fail).collect()
            }
        };
        // A client that hears the last event finds the place free.
        self.publish();
        final_events.into_iter().for_each(FinalEvent::say);
        Ok(())
    }

    /// The inputs of the next batch: a suspect, or those whose turn it is.
    fn pick(&mut self, room: Room) -> Vec<Picked> {
        self.was_suspect = !self.was_suspect && !self.suspects.is_empty();
        if !self.was_suspect {
            let picked = self.queue.pick(room);
            if !picked.is_empty() {
                return picked;
            }
        }
        while let Some(suspect) = self.suspects.pop_front() {
            let alone = vec![suspect];
            if !self.queue.listeners(&alone).is_empty() {
                return alone;
            }
        }
        // One suspect is not waited for any more.
        if self.was_suspect { self.queue.pick(room) } else { Vec::new() }
    }

    /// Ends everything that waits.
    pub(crate) fn break_off(&mut self, error: &Error) {
        self.suspects.clear();
        let final_events = self.queue.fail_all(error);
        self.publish();
        final_events.into_iter().for_each(FinalEvent::say);
    }

    fn publish(&self) {
        self.published.embedding(self.queue.len());
    }

    fn tell(&mut self, picked: Vec<Picked>, rows: Vec<Option<Vec<f32>>>) -> Vec<FinalEvent> {
        let (is_alone, scores) = (picked.len() == 1, self.plan.scores);
        let tell = |(picked, row): (Picked, Option<Vec<f32>>)| {
            let values = row.and_then(|row| vector::values(&row, picked.output, scores));
            self.is_spoilt |= values.is_none();
            if values.is_none() && !is_alone {
                self.suspects.push_back(picked);
                return None;
            }
            let index = picked.item.index as usize;
            self.queue.answer(picked, values.ok_or(Error::NotFinite { index }))
        };
        picked.into_iter().zip(rows).filter_map(tell).collect()
    }

    /// Computes a batch, in as many native calls as it takes.
    fn compute(&mut self, picked: &[Picked]) -> Result<Computed, Error> {
        let mut rows = vec![None; picked.len()];
        let lengths: Vec<usize> = picked.iter().map(Picked::tokens).collect();
        self.context.clear(std::mem::take(&mut self.is_spoilt));
        for call in calls(&lengths, self.plan.call_tokens as usize) {
            self.batch.clear();
            for part in &call {
                for place in part.places.clone() {
                    let token = picked[part.sequence].item.tokens[place];
                    self.batch.add(token, place, part.sequence as i32, true);
                }
            }
            if !self.decode(picked)? {
                return Ok(Computed::BrokenOff);
            }
            for part in call.iter().filter(|part| part.places.end == lengths[part.sequence]) {
                rows[part.sequence] = self.context.pooled(part.sequence as i32).map(<[f32]>::to_vec);
            }
        }
        Ok(Computed::Whole(rows))
    }

    /// One native call. False if it was broken off.
    fn decode(&mut self, picked: &[Picked]) -> Result<bool, Error> {
        let tokens = self.batch.len();
        if let Some(weight_views) = self.weight_views {
            weight_views.select_for_batch(tokens);
        }
        let chosen = self.threads.choose(tokens);
        self.context.set_threads(chosen.threads);
        self.published.threads(self.threads.used());
        let watch = Stopwatch::start();
        // A batch is not waited for when all clients in it have left, or the instance is to leave. One whose threads do not get
        // cores is computed again with fewer, which is sooner done.
        let (listeners, published) = (self.queue.listeners(picked), self.published);
        let is_hopeless = Cell::new(false);
        let is_to_stop = || {
            published.is_interrupted() || listeners.iter().all(|events| events.is_closed()) || {
                is_hopeless.set(watch.is_hopeless(&chosen));
                is_hopeless.get()
            }
        };
        match self.context.decode(&mut self.batch, &is_to_stop) {
            Ok(()) => {
                self.threads.note(&chosen, &watch, true);
                Ok(true)
            }
            Err(DecodeError::Interrupted) => {
                if is_hopeless.get() {
                    self.threads.note(&chosen, &watch, false);
                }
                Ok(false)
            }
            Err(DecodeError::NoRoom) => Err(Error::Decode { code: 1, detail: log::take_complaints() }),
            Err(DecodeError::Failed(code)) => Err(Error::Decode { code, detail: log::take_complaints() }),
        }
    }
}

/// Tokens of one input in one native call.
#[derive(Debug, PartialEq, Eq)]
struct Part {
    sequence: usize,
    places: Range<usize>,
}

/// Divides inputs into calls of at most so many tokens.
fn calls(lengths: &[usize], call_tokens: usize) -> Vec<Vec<Part>> {
    let (mut calls, mut call, mut tokens) = (Vec::new(), Vec::new(), 0);
    for (sequence, length) in lengths.iter().copied().enumerate() {
        let mut start = 0;
        while start < length {
            if tokens == call_tokens {
                calls.push(std::mem::take(&mut call));
                tokens = 0;
            }
            let end = length.min(start + call_tokens - tokens);
            call.push(Part { sequence, places: start..end });
            tokens += end - start;
            start = end;
        }
    }
    if !call.is_empty() {
        calls.push(call);
    }
    calls
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inputs_are_divided_into_calls_that_are_full_but_for_the_last() {
        let shape = |lengths: &[usize]| -> Vec<Vec<(usize, Range<usize>)>> {
            let call = |call: Vec<Part>| call.into_iter().map(|part| (part.sequence, part.places)).collect();
            calls(lengths, 10).into_iter().map(call).collect()
        };
        assert_eq!(shape(&[4, 6]), [vec![(0, 0..4), (1, 0..6)]]);
        assert_eq!(shape(&[25]), [vec![(0, 0..10)], vec![(0, 10..20)], vec![(0, 20..25)]]);
        assert_eq!(shape(&[7, 7, 2]), [vec![(0, 0..7), (1, 0..3)], vec![(1, 3..7), (2, 0..2)]]);
        assert!(shape(&[]).is_empty());
    }
}
