//! What every completion may set, whatever its prompt.

use axum::http::HeaderMap;
use samovar::{Common, Generate, Input, Request, SamplingOptions, Work};
use samovar_core::Failure;
use samovar_core::generation::Sampling;
use samovar_core::units::KeepAlive;
use serde::Deserialize;
use serde_json::{Map, Number, Value};

use super::constraint::of_grammar;
use crate::app::App;
use crate::buffer_charge::BufferCharge;
use crate::client::Asker;
use crate::field::{Field, field};
use crate::generation::params;
use crate::generation::request_terms::RequestTerms;
use crate::payload::Payload;
use crate::refusal::Refusal;

/// Answers to one prompt.
const MOST_ANSWERS: f64 = 8.0;
/// OpenAI's own defaults, where the model's author set none; the rest is the engine's.
const TEMPERATURE: f32 = 1.0;
const TOP_P: f32 = 1.0;

/// The fields that both kinds of completion know. All numbers arrive as wide as JSON has them, so
/// that one out of range is told from one of the wrong type.
#[derive(Debug, Deserialize)]
pub(super) struct Options {
    model: Option<String>,
    stream: Option<bool>,
    #[serde(rename = "stream_options")]
    in_stream: Option<InStream>,
    n: Option<f64>,
    temperature: Option<f64>,
    top_p: Option<f64>,
    top_k: Option<f64>,
    min_p: Option<f64>,
    repeat_penalty: Option<f64>,
    /// The same by the name that Hugging Face's libraries gave it.
    repetition_penalty: Option<f64>,
    frequency_penalty: Option<f64>,
    presence_penalty: Option<f64>,
    seed: Option<Number>,
    logit_bias: Option<Map<String, Value>>,
    stop: Option<Value>,
    grammar: Option<Value>,
    ignore_eos: Option<bool>,
    timeout: Option<f64>,
    keep_alive: Option<KeepAlive>,
    context_tokens: Option<f64>,
    user: Option<String>,
}

/// The same with what they mean, apart from the terms.
pub(crate) const FIELDS: &[Field] = &[
    field("stream", "True: the answer comes as it is generated, as server-sent events.").boolean(),
    field("stream_options", "`include_usage`: the last event of a stream contains token counts.").object(),
    field("n", "Answers to each prompt, from 1 to 8.").integer(),
    field(
        "temperature",
        "From 0, always the likeliest token, to 2. Default: what the model's author set, or else 1.",
    ).number(),
    field(
        "top_p",
        "Draw from the smallest set of tokens whose probability reaches it. Default: what the model's author set, or else 1.",
    ).number(),
    field("top_k", "Draw from so many of the likeliest tokens; 0 or -1 = all.").integer(),
    field("min_p", "Drop tokens less likely than this times the likeliest.").number(),
    field("repeat_penalty", "Divide the likelihood of tokens that appeared lately; 1 = off.").number(),
    field("repetition_penalty", "The same by another name; `repeat_penalty` counts where both are given.").number(),
    field("frequency_penalty", "From -2 to 2. Default: 0.").number(),
    field("presence_penalty", "From -2 to 2. Default: 0.").number(),
    field("seed", "A whole number; the same seed and prompt give the same text. -1 = another each time.").integer(),
    field(
        "logit_bias",
        "Token ids with what is added to their logits, from -100 (never) to 100; at most 1024.",
    ).object(),
    field("stop", "A text that ends the answer, or up to 16 of them."),
    field(
        "grammar",
        "What the answer must look like: GBNF as a string, or `{\"type\": \"gbnf\", \"value\": \"…\"}`; the other types are `lark` and `regex`.",
    ),
    field("ignore_eos", "True: generate on past the model's own end.").boolean(),
];

#[derive(Debug, Deserialize)]
struct InStream {
    include_usage: Option<bool>,
}

/// What a request wants, apart from its prompt.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    pub(super) common: Common,
    /// Everything but input, token limit, logprobs, and what only chats have.
    pub(super) generate: Generate,
    /// Answers to each prompt.
    pub(super) answers: u32,
    pub(super) is_streamed: bool,
    pub(super) includes_usage: bool,
}

impl Options {
    /// Checks everything.
    ///
    /// # Errors
    /// 400 that names the parameter, and its range where it has one.
    pub(super) fn check(self, asker: &Asker, headers: &HeaderMap) -> Result<Wanted, Refusal> {
        let Self { model, timeout, keep_alive, context_tokens, user, .. } = self;
        let terms = RequestTerms { model, timeout, keep_alive, context_tokens, user };
        let common = terms.check(asker, headers)?;
        let repeat_penalty = params::repeat_penalty("repeat_penalty", self.repeat_penalty)?;
        let repetition_penalty = params::repeat_penalty("repetition_penalty", self.repetition_penalty)?;
        let sampling = SamplingOptions {
            temperature: params::temperature(self.temperature)?,
            top_p: params::top_p(self.top_p)?,
            top_k: params::top_k(self.top_k)?,
            min_p: params::min_p(self.min_p)?,
            repeat_penalty: repeat_penalty.or(repetition_penalty),
            repeat_last_tokens: None,
            frequency_penalty: params::penalty("frequency_penalty", self.frequency_penalty)?,
            presence_penalty: params::penalty("presence_penalty", self.presence_penalty)?,
            seed: params::seed(self.seed.as_ref())?,
            logit_bias: params::logit_bias(self.logit_bias)?,
        };
        let answers = params::whole("n", self.n, &(1.0..=MOST_ANSWERS))?.unwrap_or(1);
        let mut generate = Generate::new(Input::Text(String::new()));
        generate.sampling = sampling;
        generate.sampling_defaults =
            Sampling { temperature: TEMPERATURE, top_p: TOP_P, ..Sampling::default() };
        generate.stop = params::stop(self.stop)?;
        generate.constraint = of_grammar(self.grammar.as_ref())?;
        generate.ignore_eos = self.ignore_eos.unwrap_or(false);
        let is_streamed = self.stream.unwrap_or(false);
        let includes_usage = self.in_stream.and_then(|options| options.include_usage).unwrap_or(false);
        Ok(Wanted { common, generate, answers, is_streamed, includes_usage })
    }
}

impl Wanted {
    /// A request for each answer. With one seed all answers would be the same: each has the next one.
    pub(super) fn for_each_answer(&self, generate: Generate) -> impl Iterator<Item = Request> {
        let all = std::iter::repeat_n(generate, self.answers as usize).zip(0_u32..);
        all.map(move |(mut generate, answer)| {
            generate.sampling.seed = generate.sampling.seed.map(|seed| seed.wrapping_add(answer));
            Request::of(self.common.clone(), Work::Generate(generate))
        })
    }

    /// The one request, where more answers have no place.
    ///
    /// # Errors
    /// 400 that names `n`.
    pub(super) fn one_answer(self, generate: Generate) -> Result<Request, Refusal> {
        self.refuse_several()?;
        Ok(Request::of(self.common, Work::Generate(generate)))
    }

    /// Refuses more than one answer.
    ///
    /// # Errors
    /// 400 that names `n`.
    pub(super) fn refuse_several(&self) -> Result<(), Refusal> {
        if self.answers == 1 {
            return Ok(());
        }
        Err(Refusal::unsupported("n", "`n` can only be 1 here").with_hint("send several requests"))
    }

    /// Counts what a request takes once more for each answer beyond the first, and the values that each has of its own; the body
    /// itself is counted as it comes.
    ///
    /// # Errors
    /// `Busy` when requests and answers take all the memory that there is for them.
    pub(super) fn hold_copies(
        &self,
        app: &App,
        payload: &Payload,
        value_bytes: usize,
    ) -> Result<BufferCharge, Failure> {
        let answers = self.answers as usize;
        let mut held = BufferCharge::new(app, &self.common.client);
        held.add(payload.len() * answers.saturating_sub(1) + value_bytes * answers)?;
        Ok(held)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_described_fields_are_those_that_are_parsed() {
        use crate::field::{names, parsed};
        use crate::generation::request_terms;
        assert_eq!(names(&[FIELDS, request_terms::FIELDS].concat()), parsed::<Options>());
    }
}
