//! What every completion may set, whatever its prompt.

use std::str::FromStr;
use std::time::Duration;

use axum::http::{HeaderMap, HeaderName};
use samovar::{Input, Request};
use samovar_core::Failure;
use samovar_core::generation::Sampling;
use samovar_core::units::{KeepAlive, TimeSpan};
use serde::Deserialize;
use serde_json::{Map, Number, Value};

use super::params;
use crate::app::App;
use crate::client::Asker;
use crate::kept::Kept;
use crate::payload::Payload;
use crate::refusal::Refusal;
use crate::routes::{Field, field};

/// How long the client waits for the whole answer, in seconds or as `1m30s`.
const REQUEST_TIMEOUT: HeaderName = HeaderName::from_static("x-request-timeout");
const LONGEST_TIMEOUT: Duration = Duration::from_secs(24 * 60 * 60);
const SHORTEST_TIMEOUT: Duration = Duration::from_millis(1);
/// Answers to one prompt.
const MOST_ANSWERS: f64 = 8.0;
/// OpenAI's own defaults; the rest is the engine's.
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
    ignore_eos: Option<bool>,
    timeout: Option<f64>,
    keep_alive: Option<KeepAlive>,
    user: Option<String>,
}

/// The same with what they mean.
pub(crate) const FIELDS: &[Field] = &[
    field("model", "The model. Required."),
    field("stream", "True: the answer comes as it is generated, as server-sent events."),
    field("stream_options", "`include_usage`: the last event of a stream tells token counts."),
    field("n", "Answers to each prompt, from 1 to 8."),
    field("temperature", "From 0, always the likeliest token, to 2. Default: 1."),
    field("top_p", "Draw from the smallest set of tokens whose probability reaches it. Default: 1."),
    field("top_k", "Draw from so many of the likeliest tokens; 0 or -1 = all."),
    field("min_p", "Drop tokens less likely than this times the likeliest."),
    field("repeat_penalty", "Divide the likelihood of tokens that appeared lately; 1 = off."),
    field("repetition_penalty", "The same by another name; `repeat_penalty` counts where both are given."),
    field("frequency_penalty", "From -2 to 2. Default: 0."),
    field("presence_penalty", "From -2 to 2. Default: 0."),
    field("seed", "A whole number; the same seed and prompt give the same text. -1 = another each time."),
    field(
        "logit_bias",
        "Token ids with what is added to their logits, from -100 (never) to 100; at most 1024.",
    ),
    field("stop", "A text that ends the answer, or up to 16 of them."),
    field("ignore_eos", "True: generate on past the model's own end."),
    field(
        "timeout",
        "Seconds that the whole answer may take, from 0.001 to 86400; then what there is of it is returned, or an error where there is none yet.",
    ),
    field(
        "keep_alive",
        "How long the model stays ready afterwards, such as `10m`; within `server.keep_alive_floor` and `server.keep_alive_ceiling` for requests over HTTP.",
    ),
    field("user", "Who asks. It counts only where `server.client_header` is set."),
];

#[derive(Debug, Deserialize)]
struct InStream {
    include_usage: Option<bool>,
}

/// What a request wants, apart from its prompt.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    /// The request with everything but input, token limit and logprobs.
    pub(super) request: Request,
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
        let model = self.model.filter(|model| !model.is_empty()).ok_or_else(|| {
            Refusal::invalid("model", "`model` is missing").with_hint("GET /v1/models lists what there is")
        })?;
        let sampling = Sampling {
            temperature: params::temperature(self.temperature)?.unwrap_or(TEMPERATURE),
            top_p: params::top_p(self.top_p)?.unwrap_or(TOP_P),
            frequency_penalty: params::penalty("frequency_penalty", self.frequency_penalty)?.unwrap_or(0.0),
            presence_penalty: params::penalty("presence_penalty", self.presence_penalty)?.unwrap_or(0.0),
            seed: params::seed(self.seed.as_ref())?,
            logit_bias: params::logit_bias(self.logit_bias)?,
            ..Sampling::default()
        };
        let repeat_penalty = params::repeat_penalty("repeat_penalty", self.repeat_penalty)?;
        let repetition_penalty = params::repeat_penalty("repetition_penalty", self.repetition_penalty)?;
        let sampling = Sampling {
            top_k: params::top_k(self.top_k)?.unwrap_or(sampling.top_k),
            min_p: params::min_p(self.min_p)?.unwrap_or(sampling.min_p),
            repeat_penalty: repeat_penalty.or(repetition_penalty).unwrap_or(sampling.repeat_penalty),
            ..sampling
        };
        let answers = params::whole("n", self.n, &(1.0..=MOST_ANSWERS))?.unwrap_or(1);
        let request = Request {
            sampling,
            stop: params::stop(self.stop)?,
            ignore_eos: self.ignore_eos.unwrap_or(false),
            deadline: deadline(self.timeout, headers)?,
            keep_alive: self.keep_alive,
            client: asker.client(self.user),
            within: asker.within(),
            origin: asker.origin,
            ..Request::new(model, Input::Text(String::new()))
        };
        let is_streamed = self.stream.unwrap_or(false);
        let includes_usage = self.in_stream.and_then(|options| options.include_usage).unwrap_or(false);
        Ok(Wanted { request, answers, is_streamed, includes_usage })
    }
}

impl Wanted {
    /// The request once for each answer. With one seed all answers would be the same: each has the next one.
    pub(super) fn for_each_answer(&self, request: Request) -> impl Iterator<Item = Request> {
        std::iter::repeat_n(request, self.answers as usize).zip(0_u32..).map(|(mut request, answer)| {
            request.sampling.seed = request.sampling.seed.map(|seed| seed.wrapping_add(answer));
            request
        })
    }

    /// Counts what a request takes once more for each answer beyond the first; the body itself is counted as it comes.
    ///
    /// # Errors
    /// `Busy` when requests and answers take all the memory that there is for them.
    pub(super) fn hold_copies(&self, app: &App, payload: &Payload) -> Result<Kept, Failure> {
        let mut held = Kept::new(app, &self.request.client);
        held.add(payload.len() * (self.answers as usize).saturating_sub(1))?;
        Ok(held)
    }
}

/// The shorter of the body's and the header's.
fn deadline(field: Option<f64>, headers: &HeaderMap) -> Result<Option<Duration>, Refusal> {
    let range = SHORTEST_TIMEOUT.as_secs_f64()..=LONGEST_TIMEOUT.as_secs_f64();
    let field = params::number("timeout", field, &range)?.map(Duration::from_secs_f32);
    let header = headers.get(REQUEST_TIMEOUT).map(|value| {
        let span = value.to_str().ok().and_then(|text| TimeSpan::from_str(text).ok());
        let limits = SHORTEST_TIMEOUT..=LONGEST_TIMEOUT;
        span.map(TimeSpan::as_duration).filter(|span| limits.contains(span)).ok_or_else(|| {
            let message = "the header x-request-timeout must be a number of seconds from 0.001 to 86400";
            Refusal::invalid("x-request-timeout", message)
        })
    });
    let header = header.transpose()?;
    Ok(match (field, header) {
        (Some(field), Some(header)) => Some(field.min(header)),
        (field, header) => field.or(header),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_described_fields_are_those_that_are_parsed() {
        use crate::routes::{names, parsed};
        assert_eq!(names(FIELDS), parsed::<Options>());
    }

    fn with_header(value: &str) -> HeaderMap {
        HeaderMap::from_iter([(REQUEST_TIMEOUT, value.parse().expect("value"))])
    }

    #[test]
    fn the_shorter_deadline_counts() {
        let none = HeaderMap::new();
        assert_eq!(deadline(None, &none).expect("none"), None);
        assert_eq!(deadline(Some(1.5), &none).expect("field"), Some(Duration::from_millis(1500)));
        assert_eq!(deadline(None, &with_header("2")).expect("header"), Some(Duration::from_secs(2)));
        assert_eq!(
            deadline(Some(5.0), &with_header("250ms")).expect("both"),
            Some(Duration::from_millis(250))
        );
    }

    #[test]
    fn a_deadline_out_of_range_is_refused() {
        for seconds in [0.0, -1.0, 1e9, f64::NAN] {
            assert!(deadline(Some(seconds), &HeaderMap::new()).is_err(), "{seconds}");
        }
        for text in ["0", "soon", "-3", "99999999"] {
            assert!(deadline(None, &with_header(text)).is_err(), "{text}");
        }
    }
}
