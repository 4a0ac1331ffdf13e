//! Turning texts into vectors and scores under a lease.
//!
//! ```text
//!   inputs ─► parts of at most 256 ─► room in the answer ─► instance.embed ─► Embedded … ─► reader
//!                └ two on their way: while one is computed, the next is tokenized
//! ```
//!
//! Between parts, and between their inputs, the instance computes those of others. One lease serves a request, unless it is an
//! import and others wait for a slot or for memory: then the lease goes back when the parts on their way are computed, and the
//! rest is computed under another one. A part is sent when the reader has taken most of the vectors before it, so that an answer
//! of any size takes bounded memory.

mod request;

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt};
use samovar_core::embedding::{
    EmbedInput, EmbedOutput, EmbedRequest, Embedded, INPUTS_MAX, Pooling, Urgency,
};
use samovar_core::generation::{FinishReason, TokenEvent, Usage};
use samovar_core::{ErrorKind, Failure};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

pub use self::request::{Embed, TextRole};
use crate::answer::{AnswerEvent, Summary};
use crate::catalog::Skill;
use crate::lease::{Leased, LeasedWork, WhileHeld, by, with_lease};
use crate::request::{Common, Origin};
use crate::request_trace::RequestTrace;
use crate::runtime::{Inner, Runtime, blocking};
use crate::unread::{Outbox, PART_BYTES, weight_of_values};

/// Parts of one request that are on their way at a time.
const PARTS_AT_ONCE: usize = 2;
/// Bytes of the inputs of a part, unless it is a single one.
const PART_INPUT_BYTES: usize = 1 << 20;
/// Scores of an input, at most; of a classifier with more, larger answers are assumed once one was seen.
const SCORES: usize = 16;
/// What stands before an input's number where an instance names one.
const PLACES: [&str; 2] = ["input[", "input "];

/// What a model's vectors are: those of two embedders that differ in anything here must not be compared.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct EmbedderInfo {
    /// The model's name as the catalog knows it.
    pub model: String,
    /// Stands for the weights, the pooling and the prompts: stored vectors should carry it.
    pub fingerprint: String,
    /// How a vector is made of all tokens'.
    pub pooling: Pooling,
    /// Numbers of a whole vector.
    pub dimensions: u32,
    /// Tokens of one input at most, special ones included.
    pub max_input_tokens: u32,
    /// What is put before queries.
    pub query_prompt: String,
    /// What is put before documents.
    pub document_prompt: String,
    /// Whether it can score a query with a document.
    pub can_rerank: bool,
}

/// One request for vectors or scores from its first verb to its last.
pub(crate) async fn answer(
    inner: &Arc<Inner>,
    common: &Common,
    embed: &Embed,
    request_trace: &mut RequestTrace,
    events: &Outbox,
) -> AnswerEvent {
    if let Err(failure) = embed.check() {
        return AnswerEvent::Failed(failure);
    }
    let work = Embedding { inner, common, embed, urgency: embed.urgency_of(common.origin), events };
    match with_lease(inner, common, &work, request_trace, &events.news()).await {
        Ok(summary) => AnswerEvent::Done(summary),
        Err(failure) => AnswerEvent::Failed(failure),
    }
}

/// Texts that are to become vectors or scores, and where those are said.
struct Embedding<'a> {
    inner: &'a Arc<Inner>,
    common: &'a Common,
    embed: &'a Embed,
    urgency: Urgency,
    events: &'a Outbox,
}

/// How far a request is.
#[derive(Default)]
struct Progress {
    inputs: AtomicU64,
    tokens: AtomicU64,
    /// Numbers of the longest answer to an input so far.
    values: AtomicU64,
}

impl LeasedWork for Embedding<'_> {
    type Output = Summary;

    fn skill(&self) -> Option<Skill> {
        Some(match self.embed.output {
            EmbedOutput::Vector { .. } => Skill::Embed,
            EmbedOutput::Score => Skill::Rerank,
        })
    }

    fn how_to_shorten(&self) -> &'static str {
        "divide the text, or ask for it to be truncated (`truncate`)"
    }

    fn affinity(&self) -> Option<u64> {
        None
    }

    /// It writes none.
    fn tokens(_: &Summary) -> u32 {
        0
    }

    async fn run(&self, leased: &mut Leased, request_trace: &mut RequestTrace) -> Result<Summary, Failure> {
        let timings = request_trace.timings();
        self.events.push(AnswerEvent::Granted {
            model: leased.model.spec.name.clone(),
            tier: request_trace.tier(),
            queue_ms: timings.queue_ms,
            load_ms: timings.load_ms,
        })?;
        let progress = Progress::default();
        let computed = by(request_trace.deadline, self.compute(leased, request_trace, &progress)).await;
        let Some(computed) = computed else {
            let (done, of) = (progress.inputs.load(Ordering::Relaxed), self.embed.inputs.len());
            let so_far = format!("{done} of {of} inputs computed");
            return Err(request_trace.too_late(&so_far, "allow more time, or send fewer inputs at once"));
        };
        let computing = computed?;
        let prompt_tokens = u32::try_from(progress.tokens.load(Ordering::Relaxed)).unwrap_or(u32::MAX);
        let usage = Usage { prompt_tokens, ..Usage::default() };
        request_trace.prefilled(usage, computing.as_secs_f64() * 1e3);
        Ok(request_trace.done(FinishReason::Stop, usage))
    }
}

impl Embedding<'_> {
    /// Has all parts computed, under as many leases as it takes; returns how long that took without the waits for them.
    async fn compute(
        &self,
        leased: &mut Leased,
        request_trace: &mut RequestTrace,
        progress: &Progress,
    ) -> Result<Duration, Failure> {
        let (mut next, mut computing) = (0, Duration::ZERO);
        loop {
            let began = Instant::now();
            next = self.compute_under(leased, next, request_trace, progress).await?;
            computing += began.elapsed();
            if next == self.embed.inputs.len() {
                return Ok(computing);
            }
            leased.give_way(self.inner, self.common, request_trace).await?;
        }
    }

    /// Has parts computed under one lease from this input on, a few of them on their way at a time; at least one, and all
    /// unless it gives way. Returns the input after the last.
    async fn compute_under(
        &self,
        leased: &Leased,
        first: usize,
        request_trace: &RequestTrace,
        progress: &Progress,
    ) -> Result<usize, Failure> {
        let mut on_their_way = FuturesUnordered::new();
        let (mut next, mut gives_way) = (first, false);
        loop {
            while !gives_way && on_their_way.len() < PARTS_AT_ONCE && next < self.embed.inputs.len() {
                if next > first && self.should_give_way(leased).await {
                    gives_way = true;
                    break;
                }
                let values = self.values(leased, progress);
                let part = self.part(leased, next, values);
                next = part.end;
                on_their_way.push(self.compute_part(leased, part, values, request_trace, progress));
            }
            match on_their_way.next().await {
                Some(computed) => computed?,
                None => return Ok(next),
            }
        }
    }

    async fn should_give_way(&self, leased: &Leased) -> bool {
        self.urgency == Urgency::Bulk && leased.is_wanted_by_others(self.inner).await
    }

    /// Has one part computed, once there is room for what it becomes.
    async fn compute_part(
        &self,
        leased: &Leased,
        part: Range<usize>,
        values: usize,
        request_trace: &RequestTrace,
        progress: &Progress,
    ) -> Result<(), Failure> {
        let (first, count) = (part.start, part.len());
        let mut room = self.events.room(weight_of_values(values).saturating_mul(count as u64)).await;
        let request = self.request(leased, part);
        let instance = Arc::clone(leased.lease().instance());
        // No caller waits for it past the deadline: what comes of it is dropped, and so cancelled.
        let (waiting, wanted) = WhileHeld::pair();
        let begun = blocking(move || instance.embed(request, &wanted)).await?;
        drop(waiting);
        let mut generation = begun.map_err(|failure| of_whole(failure, first))?;
        let mut is_said = vec![false; count];
        loop {
            match generation.next().await {
                Some(TokenEvent::Embedded(embedded)) => {
                    let said = is_said.get_mut(embedded.index as usize);
                    if said.is_none_or(|said| std::mem::replace(said, true)) {
                        return Err(contradicts("it answered an input twice, or one that there is not"));
                    }
                    progress.inputs.fetch_add(1, Ordering::Relaxed);
                    progress.tokens.fetch_add(u64::from(embedded.tokens), Ordering::Relaxed);
                    progress.values.fetch_max(embedded.values.len() as u64, Ordering::Relaxed);
                    request_trace.spoke();
                    let index = embedded.index + first as u32;
                    room.push(AnswerEvent::Embedded(Embedded { index, ..embedded }))?;
                }
                Some(TokenEvent::Done(_)) if is_said.iter().all(|said| *said) => return Ok(()),
                Some(TokenEvent::Done(_)) => return Err(contradicts("it left inputs out")),
                Some(TokenEvent::Failed(failure)) => return Err(of_whole(failure, first)),
                // Nothing that makes vectors writes text, and how far it is, the vectors say.
                Some(
                    TokenEvent::Prefilling { .. }
                    | TokenEvent::Prefilled { .. }
                    | TokenEvent::Token { .. }
                    | TokenEvent::Deltas { .. },
                ) => {}
                None => {
                    return Err(Failure::new(ErrorKind::EngineFailed, "the model stopped answering")
                        .with_hint("try the request again; `samovar why MODEL` shows more"));
                }
            }
        }
    }

    /// Numbers that an input becomes, as far as that is known.
    fn values(&self, leased: &Leased, progress: &Progress) -> usize {
        let width = leased.model.spec.descriptor.embedding_width as usize;
        let expected = match self.embed.output {
            EmbedOutput::Vector { dimensions, .. } => {
                dimensions.map_or(width, |dimensions| width.min(dimensions as usize))
            }
            EmbedOutput::Score => SCORES,
        };
        expected.max(progress.values.load(Ordering::Relaxed) as usize)
    }

    /// The part that begins with this input: as many as may be sent at once, and as what they become has room.
    fn part(&self, leased: &Leased, first: usize, values: usize) -> Range<usize> {
        let most = (PART_BYTES / weight_of_values(values)).clamp(1, INPUTS_MAX as u64) as usize;
        let prompt_bytes = self.prompt(leased).len();
        let mut bytes = 0;
        let fits = self.embed.inputs[first..].iter().take(most).take_while(|input| {
            bytes += prompt_bytes + input.bytes();
            bytes <= PART_INPUT_BYTES
        });
        first..first + fits.count().max(1)
    }

    /// A part as the instance is told it.
    fn request(&self, leased: &Leased, part: Range<usize>) -> EmbedRequest {
        let prompt = self.prompt(leased);
        let with_prompt = |input: &EmbedInput| match input {
            EmbedInput::Text(text) if !prompt.is_empty() => EmbedInput::Text(format!("{prompt}{text}")),
            input => input.clone(),
        };
        EmbedRequest {
            inputs: self.embed.inputs[part].iter().map(with_prompt).collect(),
            output: self.embed.output,
            truncate: self.embed.truncate,
            urgency: self.urgency,
        }
    }

    /// What is put before its texts.
    fn prompt<'a>(&self, leased: &'a Leased) -> &'a str {
        let settings = &leased.model.prompt_settings;
        let prompt = match self.embed.role {
            None => None,
            Some(TextRole::Query) => settings.query_prompt.as_deref(),
            Some(TextRole::Document) => settings.document_prompt.as_deref(),
        };
        prompt.unwrap_or_default()
    }
}

/// What is said of a part's input, said of the same input of the whole request.
fn of_whole(mut failure: Failure, first: usize) -> Failure {
    if let Some(message) = PLACES.iter().find_map(|before| renumbered(&failure.message, before, first)) {
        failure.message = message;
    }
    let param = failure.param.as_deref();
    if let Some(param) = param.and_then(|param| renumbered(param, PLACES[0], first)) {
        failure.param = Some(param);
    }
    failure
}

/// The text with the first number that follows `before` greater by so much.
fn renumbered(text: &str, before: &str, by: usize) -> Option<String> {
    text.match_indices(before).find_map(|(place, _)| {
        let (head, rest) = text.split_at(place + before.len());
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, tail) = rest.split_at(digits);
        let number = number.parse::<usize>().ok()?.saturating_add(by);
        Some(format!("{head}{number}{tail}"))
    })
}

fn contradicts(how: &str) -> Failure {
    Failure::new(ErrorKind::EngineFailed, format!("the model contradicted itself: {how}"))
        .with_hint("try the request again; `samovar why MODEL` shows more")
}

impl Runtime {
    /// What the model's vectors are, from its header and settings alone: nothing is loaded.
    ///
    /// # Errors
    /// Whatever keeps the model from being found; `InvalidRequest` when it makes no vectors, with the names of some here that do.
    pub async fn embedder(&self, reference: &str, origin: Origin) -> Result<EmbedderInfo, Failure> {
        let (inner, reference) = (Arc::clone(&self.inner), reference.to_owned());
        blocking(move || inner.catalog.embedder(&reference, origin)).await?
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_with_an_input_is_said_of_its_place_in_the_whole_request() {
        let failure =
            |message: &str, param: &str| Failure::new(ErrorKind::ContextExceeded, message).with_param(param);
        let moved = of_whole(failure("input[3] has 600 tokens", "input[3]"), 256);
        assert_eq!(moved, failure("input[259] has 600 tokens", "input[259]"));
        let moved = of_whole(failure("an input is wrong: input 3 has 600 tokens", "input"), 256);
        assert_eq!(moved, failure("an input is wrong: input 259 has 600 tokens", "input"));
        for other in ["input", "input[]", "input[x]", "dimensions"] {
            assert_eq!(of_whole(failure("wrong", other), 256), failure("wrong", other));
        }
        let plain = Failure::new(ErrorKind::EngineFailed, "gone");
        assert_eq!(of_whole(plain.clone(), 256), plain);
    }
}
