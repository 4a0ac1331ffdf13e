//! Vectors and scores of texts: which tokens a text becomes, and whose text is next.
//!
//! What stands around a text and between two, and the types of all tokens, are those of the model's own tokenizer.

use std::collections::VecDeque;
use std::time::Instant;

use samovar_core::embedding::{EmbedInput, EmbedOutput, EmbedRequest, Embedded, Truncate, Urgency};
use samovar_core::port::PromptControl;
use samovar_core::{Completion, Failure, FinishReason, Pooling, TokenEvent, Usage};
use tokenizers::{Encoding, TruncationDirection};
use tokio::sync::mpsc::Sender;

use crate::error::Error;
use crate::slot::send;
use crate::vocabulary::Vocabulary;

/// An input that can be computed.
#[derive(Debug)]
pub(crate) struct Item {
    pub(crate) index: u32,
    pub(crate) tokens: Vec<u32>,
    /// The type of each token.
    pub(crate) types: Vec<u32>,
    pub(crate) was_cut: bool,
}

/// A request for vectors or scores, as far as it has come.
#[derive(Debug)]
pub(crate) struct EmbedTicket {
    pub(crate) items: VecDeque<Item>,
    pub(crate) output: EmbedOutput,
    pub(crate) urgency: Urgency,
    pub(crate) prompt_tokens: u32,
    pub(crate) arrived: Instant,
    /// Holds every event, so sending never blocks.
    pub(crate) events: Sender<TokenEvent>,
}

impl EmbedTicket {
    /// Ends a request that computes nothing more.
    pub(crate) fn refuse(self, error: Error) {
        send(&self.events, TokenEvent::Failed(error.into()));
    }
}

/// Requests whose inputs wait: one input of each in turn, urgent requests first.
#[derive(Debug, Default)]
pub(crate) struct EmbedQueue(VecDeque<EmbedTicket>);

/// Refuses what no input can change.
pub(crate) fn check(request: &EmbedRequest, pooling: Pooling, width: usize) -> Result<(), Failure> {
    request.check_inputs()?;
    let makes_scores = pooling == Pooling::Rank;
    match request.output {
        EmbedOutput::Score if !makes_scores => Err(Error::NoScores.into()),
        EmbedOutput::Vector { .. } if makes_scores => Err(Error::OnlyScores.into()),
        EmbedOutput::Vector { dimensions: Some(wanted), .. } if wanted == 0 || wanted as usize > width => {
            Err(Error::Dimensions { wanted, width }.into())
        }
        EmbedOutput::Vector { .. } => {
            let is_pair = |input: &EmbedInput| matches!(input, EmbedInput::Pair { .. });
            match request.inputs.iter().position(is_pair) {
                Some(index) => Err(Error::PairForVector { index }.into()),
                None => Ok(()),
            }
        }
        EmbedOutput::Score => Ok(()),
    }
}

/// The tokens of all inputs, each of which has at most `limit`.
pub(crate) fn read(
    vocabulary: &Vocabulary,
    request: &EmbedRequest,
    limit: u32,
    types: u64,
    control: &dyn PromptControl,
) -> Result<VecDeque<Item>, Failure> {
    let read = |(index, input): (usize, &EmbedInput)| -> Result<Item, Failure> {
        if !control.is_wanted() {
            return Err(Error::PromptUnwanted.into());
        }
        let (tokens, mut kinds, was_cut) = read_one(vocabulary, input, index, request.truncate, limit)?;
        // A model with one type has it everywhere.
        for kind in &mut kinds {
            *kind = (*kind).min(types.saturating_sub(1) as u32);
        }
        Ok(Item { index: index as u32, tokens, types: kinds, was_cut })
    };
    request.inputs.iter().enumerate().map(read).collect()
}

fn read_one(
    vocabulary: &Vocabulary,
    input: &EmbedInput,
    index: usize,
    truncate: Truncate,
    limit: u32,
) -> Result<(Vec<u32>, Vec<u32>, bool), Error> {
    let most = limit as usize;
    let too_long = |tokens| Error::InputTooLong { index, tokens, limit };
    if input.bytes() == 0 {
        return Err(Error::EmptyInput { index });
    }
    let (first, last) = match input {
        EmbedInput::Tokens(tokens) => {
            vocabulary.check(tokens)?;
            let (tokens, was_cut) = cut_tokens(vocabulary, tokens, truncate, most);
            if tokens.len() > most {
                return Err(too_long(tokens.len()));
            }
            let kinds = vec![0; tokens.len()];
            return Ok((tokens, kinds, was_cut));
        }
        EmbedInput::Text(text) => (None, vocabulary.encode(text, false)?),
        EmbedInput::Pair { query, document } => {
            (Some(vocabulary.encode(query, false)?), vocabulary.encode(document, false)?)
        }
    };
    let count = last.len();
    let whole = frame(vocabulary, first.clone(), last.clone())?;
    if whole.is_empty() {
        return Err(Error::EmptyInput { index });
    }
    let excess = whole.len().saturating_sub(most);
    if excess == 0 {
        return Ok((whole.get_ids().to_vec(), whole.get_type_ids().to_vec(), false));
    }
    let direction = match truncate {
        Truncate::End => TruncationDirection::Right,
        Truncate::Start => TruncationDirection::Left,
        Truncate::Refuse => return Err(too_long(whole.len())),
    };
    if excess > count {
        return Err(too_long(whole.len() - count));
    }
    let mut cut = last;
    cut.truncate(count - excess, 0, direction);
    // What was cut off would be framed as further texts.
    cut.take_overflowing();
    let framed = frame(vocabulary, first, cut)?;
    Ok((framed.get_ids().to_vec(), framed.get_type_ids().to_vec(), true))
}

fn frame(vocabulary: &Vocabulary, first: Option<Encoding>, last: Encoding) -> Result<Encoding, Error> {
    match first {
        Some(first) => vocabulary.frame(first, Some(last)),
        None => vocabulary.frame(last, None),
    }
}

/// Tokens as they came, cut if they are too many and may be cut: control tokens at both ends stay.
fn cut_tokens(vocabulary: &Vocabulary, tokens: &[u32], truncate: Truncate, most: usize) -> (Vec<u32>, bool) {
    let mut tokens = tokens.to_vec();
    let count = tokens.len();
    if count <= most || truncate == Truncate::Refuse || most == 0 {
        return (tokens, false);
    }
    let (first, last) = (tokens[0], tokens[count - 1]);
    let is_control = |token| vocabulary.control_text(token).is_some();
    if truncate == Truncate::End {
        tokens.truncate(most);
        if is_control(last) {
            tokens[most - 1] = last;
        }
    } else {
        tokens.drain(..count - most);
        if is_control(first) {
            tokens[0] = first;
        }
    }
    (tokens, true)
}

/// The numbers that are told of a row. `None` where not all of them are finite.
fn values(mut row: Vec<f32>, output: EmbedOutput) -> Option<Vec<f32>> {
    if !row.iter().all(|number| number.is_finite()) {
        return None;
    }
    let EmbedOutput::Vector { dimensions, normalize } = output else { return Some(row) };
    if let Some(dimensions) = dimensions {
        row.truncate(dimensions as usize);
    }
    let length = row.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt();
    // A vector without a direction stays as it is.
    if normalize && length > 0.0 {
        for value in &mut row {
            *value = (f64::from(*value) / length) as f32;
        }
    }
    Some(row)
}

impl EmbedQueue {
    pub(crate) fn push(&mut self, ticket: EmbedTicket) {
        self.0.push_back(ticket);
    }

    /// Requests that wait.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Drops the requests that are not waited for.
    pub(crate) fn drop_cancelled(&mut self) {
        self.0.retain(|ticket| !ticket.events.is_closed());
    }

    /// Takes the request whose input is next.
    pub(crate) fn next(&mut self) -> Option<(EmbedTicket, Item)> {
        let urgent = self.0.iter().position(|ticket| ticket.urgency == Urgency::Interactive);
        let mut ticket = self.0.remove(urgent.unwrap_or(0))?;
        let item = ticket.items.pop_front()?;
        Some((ticket, item))
    }

    /// Says what the input of a request became, and lets it wait for its next turn; or ends it. `busy` hears how many wait then,
    /// before the last word of a request.
    pub(crate) fn tell(
        &mut self,
        ticket: EmbedTicket,
        item: &Item,
        row: Result<Vec<f32>, Error>,
        busy: impl Fn(usize),
    ) {
        let index = item.index as usize;
        let found = row.and_then(|row| values(row, ticket.output).ok_or(Error::InputNotFinite { index }));
        let values = match found {
            Ok(values) => values,
            Err(error) => {
                busy(self.len());
                send(&ticket.events, TokenEvent::Failed(error.into()));
                return;
            }
        };
        let embedded =
            Embedded { index: item.index, tokens: item.tokens.len() as u32, was_cut: item.was_cut, values };
        send(&ticket.events, TokenEvent::Embedded(embedded));
        if !ticket.items.is_empty() {
            self.0.push_back(ticket);
            return;
        }
        busy(self.len());
        let usage = Usage { prompt_tokens: ticket.prompt_tokens, ..Usage::default() };
        let prefill_ms = ticket.arrived.elapsed().as_secs_f64() * 1e3;
        let finish = FinishReason::Stop;
        let completion = Completion { finish, stopped_by: None, usage, prefill_ms, decode_ms: 0.0 };
        send(&ticket.events, TokenEvent::Done(completion));
    }

    /// Ends all requests.
    pub(crate) fn end_all(&mut self, error: impl Fn() -> Error) {
        for ticket in self.0.drain(..) {
            ticket.refuse(error());
        }
    }
}
