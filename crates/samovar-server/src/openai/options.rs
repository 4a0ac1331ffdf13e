//! What every completion may set, whatever its prompt.

use std::str::FromStr;
use std::time::Duration;

use axum::http::{HeaderMap, HeaderName};
use samovar::{Input, Request};
use samovar_core::generation::Sampling;
use samovar_core::units::{KeepAlive, TimeSpan};
use serde::Deserialize;
use serde_json::{Map, Number, Value};

use super::params;
use crate::client::Asker;
use crate::refusal::Refusal;

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
            person: Some(asker.person(self.user.clone())),
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
    pub(super) fn for_each_answer(&self, request: &Request) -> Vec<Request> {
        let with = |answer: u32| {
            let seed = request.sampling.seed.map(|seed| seed.wrapping_add(answer));
            Request { sampling: Sampling { seed, ..request.sampling.clone() }, ..request.clone() }
        };
        (0..self.answers).map(with).collect()
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
