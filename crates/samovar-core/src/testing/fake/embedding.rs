//! Texts as vectors and scores: one thread of the instance computes the inputs of all requests, in small batches.
//!
//! ```text
//!   embed ─► read (tokenize, bound) ─► Embedding: requests ─► pick a batch ─► compute ─► events
//!                                         urgent ones first, and of equal ones each in its turn
//! ```

use std::collections::{HashSet, VecDeque};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use super::counts::Ledger;
use super::instance::{Shared, check_ids, lock};
use super::vocabulary::{self, BOS, EOS};
use super::voice::mix;
use crate::embedding::{EmbedInput, EmbedOutput, EmbedRequest, Embedded, Truncate, Urgency};
use crate::error::{ErrorKind, Failure};
use crate::generation::{Completion, FinishReason, Generation, TokenEvent, Usage};
use crate::port::PromptControl;

/// Inputs of one batch at most.
pub(super) const BATCH_INPUTS: usize = 8;
const LOOK: Duration = Duration::from_millis(2);

/// The requests of one instance whose inputs are being embedded.
#[derive(Default)]
pub(super) struct Embedding {
    /// Who was served longest ago stands first.
    requests: VecDeque<Request>,
    next_id: u64,
    /// Whether there is a thread that will look at the requests.
    is_computing: bool,
}

/// A request, as far as it has come.
struct Request {
    id: u64,
    urgency: Urgency,
    output: EmbedOutput,
    waiting: VecDeque<Input>,
    prompt_tokens: u32,
    sender: mpsc::Sender<TokenEvent>,
    arrived: Instant,
}

/// What a batch consists of: which request each input is of and what that asks for, and the inputs.
type Picked = (Vec<(u64, EmbedOutput)>, Vec<(u64, Input)>);

/// An input that can be computed.
struct Input {
    index: u32,
    source: EmbedInput,
    tokens: Vec<u32>,
    was_cut: bool,
}

/// Takes a request, and says whether a thread must be started to [`compute`].
pub(super) fn enter(
    shared: &Shared,
    request: EmbedRequest,
    control: &dyn PromptControl,
) -> Result<(Generation, bool), Failure> {
    check(shared, &request)?;
    let arrived = Instant::now();
    let context = lock(&shared.state).context_tokens as usize;
    let EmbedRequest { inputs, output, truncate, urgency } = request;
    let mut waiting = VecDeque::new();
    for (index, source) in inputs.into_iter().enumerate() {
        if !control.is_wanted() {
            return Err(Failure::new(ErrorKind::Cancelled, "the request for these inputs was cancelled"));
        }
        waiting.push_back(Input::read(index as u32, source, context, truncate)?);
    }
    let prompt_tokens = waiting.iter().map(|input| input.tokens.len() as u32).sum();
    let (sender, generation) = Generation::channel_for_inputs(waiting.len());
    shared.ledger.change(|counts| counts.embeds_started += 1);
    let mut embedding = lock(&shared.embedding);
    let id = embedding.next_id;
    embedding.next_id += 1;
    embedding.requests.push_back(Request { id, urgency, output, waiting, prompt_tokens, sender, arrived });
    let was_computing = std::mem::replace(&mut embedding.is_computing, true);
    Ok((generation, !was_computing))
}

/// Refuses what no input can change.
fn check(shared: &Shared, request: &EmbedRequest) -> Result<(), Failure> {
    request.check_inputs()?;
    let width = shared.descriptor.embedding_width;
    let (can, what) = match request.output {
        EmbedOutput::Vector { .. } => (shared.capabilities.can_embed, "vectors"),
        EmbedOutput::Score => (shared.capabilities.can_rerank, "scores"),
    };
    if !can || shared.pooling.is_none() {
        return Err(Failure::new(ErrorKind::Unsupported, format!("this model makes no {what} of texts")));
    }
    match request.output {
        EmbedOutput::Vector { dimensions: Some(dimensions), .. } if !(1..=width).contains(&dimensions) => {
            let message =
                format!("{dimensions} dimensions cannot be had: a vector of this model has {width}");
            Err(Failure::new(ErrorKind::InvalidRequest, message).with_param("dimensions"))
        }
        _ => Ok(()),
    }
}

/// Computes batches until nothing waits.
pub(super) fn compute(shared: &Shared) {
    while shared.has_inputs() {
        let gives_up = || shared.check_usable().is_err() || lock(&shared.embedding).is_unwanted();
        if !shared.gates.batches.pass(gives_up) {
            continue;
        }
        let (output_of, batch) = {
            let mut embedding = lock(&shared.embedding);
            embedding.drop_cancelled(&shared.ledger);
            embedding.pick()
        };
        if batch.is_empty() {
            continue;
        }
        shared.ledger.change(|counts| counts.batches += 1);
        shared.spend(shared.script.time_per_input * batch.len() as u32);
        if shared.check_usable().is_ok() {
            shared.tell(&output_of, batch);
        }
    }
}

impl Shared {
    /// Ends what cannot go on, and says whether anything is left to compute; when not, the next request needs a thread.
    fn has_inputs(&self) -> bool {
        let mut embedding = lock(&self.embedding);
        embedding.drop_cancelled(&self.ledger);
        if let Err(failure) = self.check_usable() {
            embedding.end_all(&failure);
        }
        embedding.is_computing = !embedding.requests.is_empty();
        embedding.is_computing
    }

    /// Lets a batch take its time, while it can be computed at all.
    fn spend(&self, time: Duration) {
        let end = Instant::now() + time;
        while self.check_usable().is_ok() {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            std::thread::sleep(left.min(LOOK));
        }
    }

    /// Sends what the inputs of a batch became, and dies when the script says so.
    fn tell(&self, output_of: &[(u64, EmbedOutput)], batch: Vec<(u64, Input)>) {
        for (id, input) in batch {
            let computed = self.inputs_embedded.fetch_add(1, Ordering::SeqCst);
            if self.script.crash_after_inputs.is_some_and(|limit| computed >= limit) {
                self.is_dead.store(true, Ordering::SeqCst);
                return;
            }
            let Some((_, output)) = output_of.iter().find(|(known, _)| *known == id) else { continue };
            let outcome = self.embedded(input, *output);
            self.ledger.change(|counts| counts.inputs_embedded += 1);
            lock(&self.embedding).deliver(id, outcome);
        }
        lock(&self.embedding).finish(&self.ledger);
    }

    fn embedded(&self, input: Input, output: EmbedOutput) -> Result<Embedded, Failure> {
        let Input { index, source, tokens, was_cut } = input;
        let width = self.descriptor.embedding_width;
        let mut values = match (output, &source) {
            (EmbedOutput::Vector { dimensions, normalize }, _) => {
                values_of(&tokens, width, dimensions, normalize)
            }
            (EmbedOutput::Score, EmbedInput::Pair { query, document }) => vec![score_of(query, document)],
            (EmbedOutput::Score, _) => values_of(&tokens, width, Some(1), false),
        };
        if self.script.not_a_number.as_ref().is_some_and(|word| contains(&source, word)) {
            values[0] = f32::NAN;
        }
        if values.iter().all(|value| value.is_finite()) {
            Ok(Embedded { index, tokens: tokens.len() as u32, was_cut, values })
        } else {
            let message = format!("the model computed no finite numbers for input {index}");
            Err(Failure::new(ErrorKind::EngineFailed, message)
                .with_hint("the model's file may be damaged: verify it, or fetch it again"))
        }
    }
}

impl Embedding {
    /// Requests that are waited for.
    pub(super) fn running(&self) -> u32 {
        self.requests.iter().filter(|request| !request.sender.is_closed()).count() as u32
    }

    fn is_unwanted(&self) -> bool {
        self.running() == 0
    }

    fn drop_cancelled(&mut self, ledger: &Ledger) {
        let (mut requests, mut inputs) = (0, 0);
        self.requests.retain(|request| {
            let is_wanted = !request.sender.is_closed();
            if !is_wanted {
                requests += 1;
                inputs += request.waiting.len() as u64;
            }
            is_wanted
        });
        if requests > 0 {
            ledger.change(|counts| {
                counts.embeds_cancelled += requests;
                counts.inputs_dropped += inputs;
            });
        }
    }

    /// Takes the next inputs: of urgent requests before others, and one of each in turn. Also what their requests ask for.
    fn pick(&mut self) -> Picked {
        let mut batch = Vec::new();
        while batch.len() < BATCH_INPUTS {
            let place_of = |urgency: Urgency| {
                let waits = |request: &Request| request.urgency == urgency && !request.waiting.is_empty();
                self.requests.iter().position(waits)
            };
            let place = place_of(Urgency::Interactive).or_else(|| place_of(Urgency::Bulk));
            let Some(mut request) = place.and_then(|place| self.requests.remove(place)) else { break };
            batch.extend(request.waiting.pop_front().map(|input| (request.id, input)));
            self.requests.push_back(request);
        }
        let picked: HashSet<u64> = batch.iter().map(|(id, _)| *id).collect();
        let of_batch = self.requests.iter().filter(|request| picked.contains(&request.id));
        (of_batch.map(|request| (request.id, request.output)).collect(), batch)
    }

    /// Says what an input became. One that failed ends its request.
    fn deliver(&mut self, id: u64, outcome: Result<Embedded, Failure>) {
        let Some(place) = self.requests.iter().position(|request| request.id == id) else { return };
        match outcome {
            // The channel holds the whole answer: it can only be closed, never full.
            Ok(embedded) => {
                self.requests[place].sender.try_send(TokenEvent::Embedded(embedded)).ok();
            }
            Err(failure) => {
                if let Some(request) = self.requests.remove(place) {
                    request.sender.try_send(TokenEvent::Failed(failure)).ok();
                }
            }
        }
    }

    /// Ends the requests all of whose inputs were computed.
    fn finish(&mut self, ledger: &Ledger) {
        self.requests.retain(|request| {
            if !request.waiting.is_empty() {
                return true;
            }
            let usage = Usage { prompt_tokens: request.prompt_tokens, ..Usage::default() };
            let prefill_ms = request.arrived.elapsed().as_secs_f64() * 1e3;
            let finish = FinishReason::Stop;
            let completion = Completion { finish, stopped_by: None, usage, prefill_ms, decode_ms: 0.0 };
            let is_heard = request.sender.try_send(TokenEvent::Done(completion)).is_ok();
            ledger.change(|counts| {
                counts.embeds_finished += u64::from(is_heard);
                counts.embeds_cancelled += u64::from(!is_heard);
            });
            false
        });
    }

    /// Ends all of an instance that is parked or gone; one that died says nothing.
    fn end_all(&mut self, failure: &Failure) {
        for request in self.requests.drain(..) {
            if failure.kind != ErrorKind::EngineFailed {
                request.sender.try_send(TokenEvent::Failed(failure.clone())).ok();
            }
        }
    }
}

impl Input {
    /// Tokenizes an input, and cuts it to the context where it may be cut.
    fn read(index: u32, source: EmbedInput, context: usize, truncate: Truncate) -> Result<Self, Failure> {
        if source.bytes() == 0 {
            let message = format!("input {index} is empty");
            return Err(Failure::new(ErrorKind::InvalidRequest, message).with_param("input"));
        }
        // With the tokens of it that may be left out.
        let (mut tokens, may_go) = match &source {
            EmbedInput::Text(text) => {
                let tokens = tokens_of(text);
                let end = tokens.len() - 1;
                (tokens, 1..end)
            }
            EmbedInput::Tokens(tokens) => {
                check_ids(tokens)?;
                let is_special = |token: &&u32| vocabulary::is_control(**token);
                let begin = tokens.iter().take_while(is_special).count();
                let end = tokens.len() - tokens.iter().rev().take_while(is_special).count();
                (tokens.clone(), begin..end.max(begin))
            }
            EmbedInput::Pair { query, document } => {
                let mut tokens = tokens_of(query);
                let begin = tokens.len();
                tokens.extend(vocabulary::tokenize(document, false));
                let end = tokens.len();
                tokens.push(EOS);
                (tokens, begin..end)
            }
        };
        let excess = tokens.len().saturating_sub(context);
        if excess > 0 {
            let left_out = match truncate {
                Truncate::End if excess < may_go.len() => may_go.end - excess..may_go.end,
                Truncate::Start if excess < may_go.len() => may_go.start..may_go.start + excess,
                _ => return Err(too_long(index, tokens.len(), context)),
            };
            tokens.drain(left_out);
        }
        Ok(Self { index, source, tokens, was_cut: excess > 0 })
    }
}

fn too_long(index: u32, tokens: usize, context: usize) -> Failure {
    let message =
        format!("input {index} is too long: it has {tokens} tokens, but the model reads {context} at most");
    Failure::new(ErrorKind::ContextExceeded, message)
        .with_param("input")
        .with_hint("send a shorter text, or ask for it to be truncated")
}

fn contains(source: &EmbedInput, word: &str) -> bool {
    match source {
        EmbedInput::Text(text) => text.contains(word),
        EmbedInput::Tokens(_) => false,
        EmbedInput::Pair { query, document } => query.contains(word) || document.contains(word),
    }
}

/// A text's tokens between the two special ones.
pub(super) fn tokens_of(text: &str) -> Vec<u32> {
    let tokens = vocabulary::tokenize(text, false);
    std::iter::once(BOS).chain(tokens).chain([EOS]).collect()
}

/// The mean of what each token is, which does not depend on anything computed beside it.
pub(super) fn values_of(tokens: &[u32], width: u32, dimensions: Option<u32>, normalize: bool) -> Vec<f32> {
    let width = dimensions.unwrap_or(width).min(width);
    let number = |token: u32, place: u32| {
        let noise = mix(u64::from(token) << 32 | u64::from(place)) % 2001;
        noise as f32 / 1000.0 - 1.0
    };
    let mean = |place| {
        let sum: f32 = tokens.iter().map(|token| number(*token, place)).sum();
        sum / tokens.len() as f32
    };
    let mut values: Vec<f32> = (0..width).map(mean).collect();
    if normalize {
        let length = values.iter().map(|value| value * value).sum::<f32>().sqrt();
        if length > 0.0 {
            for value in &mut values {
                *value /= length;
            }
        }
    }
    values
}

/// The share of the query's words that are in the document.
pub(super) fn score_of(query: &str, document: &str) -> f32 {
    let words = |text: &str| -> HashSet<String> {
        let words = text.split(|letter: char| !letter.is_alphanumeric());
        words.filter(|word| !word.is_empty()).map(str::to_lowercase).collect()
    };
    let (query, document) = (words(query), words(document));
    if query.is_empty() { 0.0 } else { query.intersection(&document).count() as f32 / query.len() as f32 }
}

#[cfg(test)]
mod tests;
