//! The owner of a context for vectors: what waits becomes batches, one native computation at a time.
//!
//! The loop that owns it lets it do a step when its turn is; a batch of several calls takes as many steps. It never blocks on
//! a reader, nor on anything else.

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
use crate::last_event::FinalEvent;
use crate::log;
use crate::packed::WeightViews;
use crate::published::Published;
use crate::threads::{PeerPlace, Stopwatch, Threads};

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
    /// A batch of which not all calls were made.
    unfinished: Option<Computation>,
    fill: Fill,
    threads: Threads<'m>,
    failures: u32,
}

/// A batch that is computed, one native call after the other.
struct Computation {
    picked: Vec<Picked>,
    /// Those that were not made yet.
    calls: VecDeque<Vec<Part>>,
    /// A row for each input; `None` where there is none yet, or llama.cpp has none.
    rows: Vec<Option<Vec<f32>>>,
    /// Tokens of the calls that were made.
    tokens: usize,
    /// What these calls took.
    seconds: f64,
}

/// What became of a native call.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Called {
    Computed,
    /// It was broken off: its batch is to be computed again if it is still wanted.
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
            unfinished: None,
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
        let tokens: usize = ticket.items.iter().map(|item| item.tokens.len()).sum();
        if !self.queue.has_room_for(tokens) {
            return ticket.refuse(Error::TooManyWaiting { waiting: self.queue.len() });
        }
        if let Some(long) = ticket.items.iter().find(|item| item.tokens.len() > limit as usize) {
            let (index, tokens) = (long.index as usize, long.tokens.len());
            return ticket.refuse(Error::InputTooLong { index, tokens, limit });
        }
        self.queue.add(ticket);
        self.publish();
    }

    /// One native call, if anything waits. A batch that begins is a short one if it `is_beside` answers that go on meanwhile.
    ///
    /// # Errors
    /// That too many batches failed in a row. Of one that fails, its requests are told.
    pub(crate) fn step(&mut self, is_beside: bool) -> Result<(), Error> {
        self.queue.forget_cancelled();
        let unfinished = self.unfinished.take();
        let unfinished = unfinished.filter(|batch| !self.queue.listeners(&batch.picked).is_empty());
        let Some(mut batch) = unfinished.or_else(|| self.begin(is_beside)) else {
            self.publish();
            return Ok(());
        };
        let start = Instant::now();
        let called = self.call(&mut batch);
        batch.seconds += start.elapsed().as_secs_f64();
        let final_events = match called {
            Ok(Called::BrokenOff) => {
                self.queue.put_back(batch.picked);
                Vec::new()
            }
            Ok(Called::Computed) if !batch.calls.is_empty() => {
                self.unfinished = Some(batch);
                Vec::new()
            }
            Ok(Called::Computed) => {
                self.failures = 0;
                self.fill.note(batch.tokens, batch.seconds);
                self.tell(batch.picked, batch.rows)
            }
            Err(error) => {
                tracing::warn!(%error, "a batch of inputs failed");
                self.failures += 1;
                if self.failures >= MAX_FAILURES {
                    self.queue.put_back(batch.picked);
                    return Err(Error::Dead { failures: self.failures, detail: error.to_string() });
                }
                let fail = |picked| self.queue.answer(picked, Err(error.clone()));
                batch.picked.into_iter().filter_map(fail).collect()
            }
        };
        // A client that hears the last event finds the place free.
        self.publish();
        final_events.into_iter().for_each(FinalEvent::say);
        Ok(())
    }

    /// The next batch, divided into calls; nothing if nothing waits.
    fn begin(&mut self, is_beside: bool) -> Option<Computation> {
        let least = |tokens: usize| if is_beside { tokens.min(LEAST_TOKENS) } else { tokens };
        let room = Room { tokens: least(self.fill.tokens()), sequences: self.plan.sequences as usize };
        let picked = self.pick(room);
        if picked.is_empty() {
            return None;
        }
        let call_tokens = self.plan.call_tokens as usize;
        let call_tokens = if self.plan.is_in_parts() { least(call_tokens) } else { call_tokens };
        let lengths: Vec<usize> = picked.iter().map(Picked::tokens).collect();
        self.context.clear(std::mem::take(&mut self.is_spoilt));
        Some(Computation {
            calls: calls(&lengths, call_tokens).into(),
            rows: vec![None; picked.len()],
            picked,
            tokens: 0,
            seconds: 0.0,
        })
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
        self.unfinished = None;
        let final_events = self.queue.fail_all(error);
        self.publish();
        final_events.into_iter().for_each(FinalEvent::say);
    }

    fn publish(&self) {
        let tokens = self.unfinished.as_ref().map_or(0, |batch| batch.tokens);
        self.published.embedding(self.queue.len(), tokens);
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

    /// Makes the next call of a batch.
    fn call(&mut self, batch: &mut Computation) -> Result<Called, Error> {
        let Some(call) = batch.calls.pop_front() else { return Ok(Called::Computed) };
        self.batch.clear();
        for part in &call {
            for place in part.places.clone() {
                let token = batch.picked[part.sequence].item.tokens[place];
                self.batch.add(token, place, part.sequence as i32, true);
            }
        }
        let called = self.decode(&batch.picked)?;
        if called == Called::Computed {
            batch.tokens += self.batch.len();
            let is_last = |part: &&Part| part.places.end == batch.picked[part.sequence].tokens();
            for part in call.iter().filter(is_last) {
                batch.rows[part.sequence] = self.context.pooled(part.sequence as i32).map(<[f32]>::to_vec);
            }
        }
        Ok(called)
    }

    /// One native call, with what `self.batch` holds.
    fn decode(&mut self, picked: &[Picked]) -> Result<Called, Error> {
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
                Ok(Called::Computed)
            }
            Err(DecodeError::Interrupted) => {
                if is_hopeless.get() {
                    self.threads.note(&chosen, &watch, false);
                }
                Ok(Called::BrokenOff)
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
    use std::sync::Arc;

    use llama_cpp_2::token::LlamaToken;
    use samovar_core::embedding::{EmbedOutput, Pooling, Urgency};
    use samovar_core::format::gguf;
    use samovar_core::generation::Generation;
    use samovar_core::testing::gguf::{LlamaShape, llama};
    use samovar_core::{LoadOptions, TokenEvent};

    use super::*;
    use crate::embed::Item;
    use crate::footprint::tests::options;
    use crate::native::{self, ModelInput, WeightOptions};
    use crate::plan::LoadPlan;

    /// Lets a request for one vector wait.
    fn receive(embedder: &mut Embedder<'_>, tokens: usize) -> Generation {
        let (events, generation) = Generation::channel_for_inputs(1);
        embedder.receive(EmbedTicket {
            items: vec![Item { index: 0, tokens: vec![LlamaToken(104); tokens], was_cut: false }],
            output: EmbedOutput::Vector { dimensions: None, normalize: true },
            urgency: Urgency::Bulk,
            arrived: Instant::now(),
            events,
        });
        generation
    }

    #[test]
    fn a_long_input_takes_a_step_for_each_call_and_shows_that_it_gets_on() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("model.gguf");
        fs_err::write(&path, llama(LlamaShape::TINY).build()).expect("writes");
        native::backend();
        let weights = WeightOptions { is_repacked: false, is_locked: false };
        let model = native::load_model(ModelInput::Path(&path), weights, |_| true).expect("loads");
        let descriptor = gguf::inspect(&path).expect("it is sound");
        let wish = LoadOptions { pooling: Some(Pooling::Last), context_tokens: 1024, ..options() };
        let load = LoadPlan::new(&descriptor, &wish).unwrap();
        let plan = load.embed.expect("it makes vectors");
        let context = Context::new(&model, plan.context(load.context(false))).expect("a context");
        let (published, place) = (Published::default(), PeerPlace::beside(&Arc::default()));
        let mut embedder = Embedder::new(context, None, plan, 1, &published, &place);

        let mut generation = receive(&mut embedder, 600);
        let mut seen = Vec::new();
        while !embedder.is_idle() {
            embedder.step(false).unwrap();
            seen.push(published.measurement().kv_used_tokens);
        }
        assert!(seen.ends_with(&[256, 512, 0]), "{seen:?}");
        assert!(matches!(generation.blocking_next(), Some(TokenEvent::Embedded(_))));
        assert!(matches!(generation.blocking_next(), Some(TokenEvent::Done(_))));

        // Beside answers each takes less; who leaves in the middle is forgotten with what was computed.
        let left = receive(&mut embedder, 600);
        embedder.step(true).unwrap();
        assert_eq!(published.measurement().kv_used_tokens, 128);
        drop(left);
        embedder.step(true).unwrap();
        assert!(embedder.is_idle());
        assert_eq!(published.measurement().kv_used_tokens, 0);
    }

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
