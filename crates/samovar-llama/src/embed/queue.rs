//! The requests for vectors that wait: whose inputs the next batch computes, and who is told what.
//!
//! ```text
//!   interactive   a ▪▪▪  b ▪        one input of each in turn, longest first, until the batch is full
//!   bulk          c ▪▪▪▪▪▪▪▪▪▪      what room there is: all of it if no other request waits, little of it beside others
//! ```
//!
//! A query waits for the batch that runs, and for one more at most: every few batches the bulk has the first place in one,
//! so that each of its requests gets on however many ask. It never touches native state.

use std::collections::VecDeque;
use std::time::Instant;

use samovar_core::embedding::{EmbedOutput, Embedded, Urgency};
use samovar_core::{Completion, FinishReason, TokenEvent, Usage};
use tokio::sync::mpsc::Sender;

use super::fill::LEAST_TOKENS;
use super::ticket::{EmbedTicket, Item};
use crate::error::Error;
use crate::last_event::{FinalEvent, send};

/// Requests that may wait. The pool's queue is the real one.
const MAX_REQUESTS: usize = 1024;
/// Tokens that they may have together: 64 MiB. One alone may have more.
const MAX_TOKENS: usize = 16 << 20;
/// Batches in a row that need not take anything of the bulk's first request.
const URGENT_BATCHES: u32 = 4;

/// An input of the next batch.
#[derive(Debug)]
pub(crate) struct Picked {
    request: u64,
    pub output: EmbedOutput,
    pub item: Item,
}

impl Picked {
    pub(crate) fn tokens(&self) -> usize {
        self.item.tokens.len()
    }
}

/// How much a batch holds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Room {
    /// Tokens, unless one input alone has more.
    pub tokens: usize,
    /// Inputs.
    pub sequences: usize,
}

/// One request.
#[derive(Debug)]
struct Request {
    id: u64,
    output: EmbedOutput,
    arrived: Instant,
    events: Sender<TokenEvent>,
    /// Longest first.
    waiting: VecDeque<Item>,
    /// Inputs of which nothing was said yet.
    left: usize,
    /// Tokens of all inputs.
    tokens: usize,
}

/// All requests of one instance.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    urgent: VecDeque<Request>,
    bulk: VecDeque<Request>,
    next: u64,
    /// Batches in a row in which nothing of the first request of the waiting bulk had room.
    urgent_batches: u32,
}

impl Queue {
    /// Lets a request wait.
    pub(crate) fn add(&mut self, ticket: EmbedTicket) {
        let EmbedTicket { mut items, output, urgency, arrived, events } = ticket;
        items.sort_by_key(|item| std::cmp::Reverse(item.tokens.len()));
        let request = Request {
            id: self.next,
            output,
            arrived,
            events,
            left: items.len(),
            tokens: items.iter().map(|item| item.tokens.len()).sum(),
            waiting: items.into(),
        };
        self.next += 1;
        match urgency {
            Urgency::Interactive => self.urgent.push_back(request),
            Urgency::Bulk => self.bulk.push_back(request),
        }
    }

    /// Whether a request of so many tokens may wait.
    pub(crate) fn has_room_for(&self, tokens: usize) -> bool {
        let waiting: usize = self.urgent.iter().chain(&self.bulk).map(|request| request.tokens).sum();
        self.len() == 0 || self.len() < MAX_REQUESTS && waiting.saturating_add(tokens) <= MAX_TOKENS
    }

    /// Requests of both kinds.
    pub(crate) fn len(&self) -> usize {
        self.urgent.len() + self.bulk.len()
    }

    /// Drops what is not waited for.
    pub(crate) fn forget_cancelled(&mut self) {
        for requests in [&mut self.urgent, &mut self.bulk] {
            requests.retain(|request| !request.events.is_closed());
        }
    }

    /// Takes the inputs of the next batch out.
    pub(crate) fn pick(&mut self, room: Room) -> Vec<Picked> {
        let mut batch = NextBatch::default();
        let has_urgent = has_waiting(&self.urgent);
        let has_bulk = has_waiting(&self.bulk);
        let is_turn_of_bulk = has_urgent && has_bulk && self.urgent_batches >= URGENT_BATCHES;
        let mut had_turn = is_turn_of_bulk && batch.take(&mut self.bulk, Room { sequences: 1, ..room });
        batch.take(&mut self.urgent, room);
        // Beside a request that waits only what makes the batch worth its while.
        let tokens = if has_urgent { room.tokens.min(LEAST_TOKENS) } else { room.tokens };
        had_turn |= batch.take(&mut self.bulk, Room { tokens, ..room });
        self.urgent_batches = if has_bulk && !had_turn { self.urgent_batches + 1 } else { 0 };
        batch.picked
    }

    /// Those who wait for these.
    pub(crate) fn listeners(&self, picked: &[Picked]) -> Vec<&Sender<TokenEvent>> {
        let is_in = |request: &&Request| picked.iter().any(|picked| picked.request == request.id);
        self.urgent.iter().chain(&self.bulk).filter(is_in).map(|request| &request.events).collect()
    }

    /// Puts inputs back that were not computed.
    pub(crate) fn put_back(&mut self, picked: Vec<Picked>) {
        for Picked { request, item, .. } in picked {
            if let Some(request) = self.find(request) {
                let longer = |other: &Item| other.tokens.len() > item.tokens.len();
                let place = request.waiting.partition_point(longer);
                request.waiting.insert(place, item);
            }
        }
    }

    /// Tells what an input became. The last word, if that was the last input or it failed; others of a request that failed
    /// are forgotten.
    pub(crate) fn answer(&mut self, picked: Picked, values: Result<Vec<f32>, Error>) -> Option<FinalEvent> {
        let Picked { request: id, item, .. } = picked;
        let request = self.find(id)?;
        let event = match values {
            Err(error) => TokenEvent::Failed(error.into()),
            Ok(values) => {
                let (tokens, was_cut) = (item.tokens.len() as u32, item.was_cut);
                let embedded = Embedded { index: item.index, tokens, was_cut, values };
                send(&request.events, TokenEvent::Embedded(embedded));
                request.left -= 1;
                if request.left > 0 {
                    return None;
                }
                TokenEvent::Done(request.completion())
            }
        };
        let request = self.remove(id)?;
        Some(FinalEvent::new(request.events, event))
    }

    /// Ends all requests.
    pub(crate) fn fail_all(&mut self, error: &Error) -> Vec<FinalEvent> {
        let requests = self.urgent.drain(..).chain(self.bulk.drain(..));
        let fail =
            |request: Request| FinalEvent::new(request.events, TokenEvent::Failed(error.clone().into()));
        requests.map(fail).collect()
    }

    fn find(&mut self, id: u64) -> Option<&mut Request> {
        self.urgent.iter_mut().chain(&mut self.bulk).find(|request| request.id == id)
    }

    fn remove(&mut self, id: u64) -> Option<Request> {
        for requests in [&mut self.urgent, &mut self.bulk] {
            if let Some(place) = requests.iter().position(|request| request.id == id) {
                return requests.remove(place);
            }
        }
        None
    }
}

impl Request {
    fn completion(&self) -> Completion {
        Completion {
            finish: FinishReason::Stop,
            stopped_by: None,
            usage: Usage { prompt_tokens: self.tokens as u32, ..Usage::default() },
            prefill_ms: self.arrived.elapsed().as_secs_f64() * 1e3,
            decode_ms: 0.0,
        }
    }
}

fn has_waiting(requests: &VecDeque<Request>) -> bool {
    requests.iter().any(|request| !request.waiting.is_empty())
}

/// A batch in the making.
#[derive(Default)]
struct NextBatch {
    picked: Vec<Picked>,
    tokens: usize,
}

impl NextBatch {
    /// Takes one input of each request in turn, the longest that has room, until nothing has. Returns whether the first that
    /// waits had its turn: then it is last next time; else it stays the first, so that what is long comes, too.
    fn take(&mut self, requests: &mut VecDeque<Request>, room: Room) -> bool {
        let first = requests.iter().find(|request| !request.waiting.is_empty()).map(|request| request.id);
        let begin = self.picked.len();
        loop {
            let before = self.picked.len();
            for request in requests.iter_mut() {
                if self.picked.len() >= room.sequences {
                    break;
                }
                if let Some(item) = self.fitting(&mut request.waiting, room.tokens) {
                    self.tokens += item.tokens.len();
                    self.picked.push(Picked { request: request.id, output: request.output, item });
                }
            }
            if self.picked.len() == before {
                break;
            }
        }
        let had_turn = self.picked[begin..].iter().any(|picked| Some(picked.request) == first);
        if let Some(place) = requests.iter().position(|request| had_turn && Some(request.id) == first) {
            requests.rotate_left(place + 1);
        }
        had_turn
    }

    /// The longest input that has room. Of an empty batch it may take more than there is.
    fn fitting(&self, waiting: &mut VecDeque<Item>, tokens: usize) -> Option<Item> {
        if self.picked.is_empty() {
            return waiting.pop_front();
        }
        let left = tokens.saturating_sub(self.tokens);
        let place = waiting.partition_point(|item| item.tokens.len() > left);
        waiting.remove(place)
    }
}

#[cfg(test)]
mod tests;
