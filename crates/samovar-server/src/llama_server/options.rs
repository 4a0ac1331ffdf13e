//! What a completion may set, in llama-server's words.

use std::ops::RangeInclusive;
use std::time::Duration;

use axum::http::HeaderMap;
use samovar::{Common, Constraint, Generate, Input, SamplingOptions};
use samovar_core::units::KeepAlive;
use serde::Deserialize;
use serde_json::{Number, Value};

use super::logit_bias::{self, Biases};
use super::prompt::{self, Prompt};
use crate::client::Asker;
use crate::field::{Field, field};
use crate::generation::params;
use crate::generation::request_terms::RequestTerms;
use crate::refusal::Refusal;

/// Alternatives to each token: as many as the runtime allows.
const PROBS: RangeInclusive<f64> = 0.0..=128.0;
const ANSWERS: RangeInclusive<f64> = 1.0..=8.0;
/// Choices of one response: prompts times answers.
const MOST_CHOICES: usize = 128;
const MOST_REPEAT_LAST: f64 = 65_536.0;
/// Milliseconds of an answer.
const PREDICT_MS: RangeInclusive<f64> = 0.0..=86_400_000.0;
/// Fields of an answer that may be chosen.
const RESPONSE_FIELDS: usize = 64;

/// The fields of a body. All numbers arrive as wide as JSON has them, so that one out of range is told from one of the wrong type.
#[derive(Debug, Deserialize)]
pub(super) struct Options {
    model: Option<String>,
    prompt: Option<Value>,
    stream: Option<bool>,
    n_predict: Option<f64>,
    max_tokens: Option<f64>,
    n_cmpl: Option<f64>,
    n: Option<f64>,
    temperature: Option<f64>,
    top_k: Option<f64>,
    top_p: Option<f64>,
    min_p: Option<f64>,
    repeat_penalty: Option<f64>,
    repeat_last_n: Option<f64>,
    frequency_penalty: Option<f64>,
    presence_penalty: Option<f64>,
    seed: Option<Number>,
    logit_bias: Option<Value>,
    stop: Option<Value>,
    grammar: Option<String>,
    json_schema: Option<Value>,
    ignore_eos: Option<bool>,
    n_probs: Option<f64>,
    post_sampling_probs: Option<bool>,
    return_tokens: Option<bool>,
    response_fields: Option<Vec<String>>,
    lora: Option<Vec<Value>>,
    t_max_predict_ms: Option<f64>,
    timeout: Option<f64>,
    keep_alive: Option<KeepAlive>,
    context_tokens: Option<f64>,
    user: Option<String>,
}

/// The field that has what is continued, with what it means.
pub(crate) const PROMPT: &[Field] = &[field(
    "prompt",
    "What to continue: a text, a list of token ids and texts, an object with `prompt_string`, or a list of these. Control tokens in it count. Required.",
)];

/// The other fields with what they mean.
pub(crate) const FIELDS: &[Field] = &[
    field(
        "model",
        "The model; also `?model=NAME`. The only model here that can do the work where it is absent.",
    ).text(),
    field("stream", "True: the answer comes as it is generated, as server-sent events.").boolean(),
    field(
        "n_predict",
        "Tokens to generate at most; -1 or -2 = as many as the context holds, 0 = compute the prompt alone. Default: -1.",
    ).integer(),
    field("max_tokens", "The same by another name; `n_predict` counts where both are given.").integer(),
    field("n_cmpl", "Answers to each prompt, from 1 to 8. The answer to several is a list.").integer(),
    field("n", "The same by another name; `n_cmpl` counts where both are given.").integer(),
    field(
        "temperature",
        "Up to 2; 0 and less = always the likeliest token. Default: what the model's author set, or else 0.8.",
    ).number(),
    field("top_k", "Draw from so many of the likeliest tokens; 0 or -1 = all.").integer(),
    field("top_p", "Draw from the smallest set of tokens whose probability reaches it.").number(),
    field("min_p", "Drop tokens less likely than this times the likeliest.").number(),
    field("repeat_penalty", "Divide the likelihood of tokens that appeared lately; 1 = off.").number(),
    field(
        "repeat_last_n",
        "How many of the last tokens the penalties look at, up to 65536, which is also -1; 0 = off.",
    ).integer(),
    field("frequency_penalty", "From -2 to 2. Default: 0.").number(),
    field("presence_penalty", "From -2 to 2. Default: 0.").number(),
    field("seed", "A whole number; the same seed and prompt give the same text. -1 = another each time.").integer(),
    field(
        "logit_bias",
        "What is added to the logits of tokens, from -100 to 100, or false for never: `[[token, bias], …]` or `{\"token\": bias}`; a token is an id, or a text that stands for each of its tokens; at most 1024.",
    ),
    field("stop", "A text that ends the answer, or up to 16 of them."),
    field("grammar", "What the answer must look like, in GBNF; not with `json_schema`.").text(),
    field("json_schema", "The JSON schema that the answer must fit; `{}` = any JSON.").object(),
    field("ignore_eos", "True: generate on past the model's own end.").boolean(),
    field("n_probs", "Tell how likely each token was, with so many alternatives, up to 128; 0 = do not.").integer(),
    field(
        "post_sampling_probs",
        "False or absent; true is refused: probabilities are those before sampling.",
    ).boolean(),
    field(
        "return_tokens",
        "True: `tokens` of the answer has the ids of its tokens; they are also there with `n_probs`.",
    ).boolean(),
    field(
        "response_fields",
        "The fields that the answer's object, or a stream's last one, has; `timings/prompt_n` is a field of a field. All where it is absent.",
    ).texts(),
    field(
        "t_max_predict_ms",
        "Milliseconds that the answer may take from its first token on: after that it ends as soon as it has a line break. 0 = no limit.",
    ).integer(),
    field("lora", "Empty or absent; anything else is refused: adapters are settings of a model's name.").list(),
    field(
        "timeout",
        "Seconds that the whole answer may take, from 0.001 to 86400; then what there is of it is returned, or an error where there is none yet.",
    ).number(),
    field(
        "keep_alive",
        "How long the model stays ready afterwards, such as `10m`; within `server.keep_alive_floor` and `server.keep_alive_ceiling` for requests over HTTP.",
    ),
    field("context_tokens", "Tokens of context that the request needs, as for `/v1/completions`.").integer(),
    field("user", "The client. It counts only if `server.client_header` is set.").text(),
];

/// What a request wants.
#[derive(Debug)]
pub(super) struct Wanted {
    pub(super) model: Option<String>,
    /// Everything but the model.
    pub(super) common: Common,
    /// Everything but the input and what is yet to become token ids.
    pub(super) generate: Generate,
    pub(super) prompts: Vec<Prompt>,
    /// Texts that name tokens, with their bias.
    pub(super) biases_by_text: Vec<(String, f32)>,
    /// Answers to each prompt.
    pub(super) answers: u32,
    pub(super) is_streamed: bool,
    pub(super) has_probs: bool,
    pub(super) response_fields: Vec<String>,
}

impl Options {
    /// Checks everything.
    ///
    /// # Errors
    /// 400 that names the parameter, and its range where it has one.
    pub(super) fn check(mut self, asker: &Asker, headers: &HeaderMap) -> Result<Wanted, Refusal> {
        let prompts = prompt::read(self.prompt.take())?;
        self.check_with(prompts, asker, headers)
    }

    /// Checks everything but the prompts, which are these.
    ///
    /// # Errors
    /// As [`Options::check`].
    pub(super) fn check_with(
        self,
        prompts: Vec<Prompt>,
        asker: &Asker,
        headers: &HeaderMap,
    ) -> Result<Wanted, Refusal> {
        self.refuse_unsupported()?;
        let Biases { by_id, by_text } = logit_bias::read(self.logit_bias)?;
        let n_cmpl = params::whole("n_cmpl", self.n_cmpl, &ANSWERS)?;
        let answers = n_cmpl.or(params::whole("n", self.n, &ANSWERS)?).unwrap_or(1);
        let n_predict = params::length("n_predict", self.n_predict.map(unlimited))?;
        let length = n_predict.or(params::length("max_tokens", self.max_tokens.map(unlimited))?);
        let n_probs = params::whole("n_probs", self.n_probs, &PROBS)?.filter(|count| *count > 0);
        let returns_tokens = self.return_tokens.unwrap_or(false);
        if prompts.len().saturating_mul(answers as usize) > MOST_CHOICES {
            let message =
                format!("{} prompts times `n_cmpl` are more than {MOST_CHOICES} answers", prompts.len());
            return Err(Refusal::invalid("prompt", message).with_hint("send them in several requests"));
        }
        let mut generate = Generate::new(Input::Text(String::new()));
        generate.sampling = SamplingOptions {
            temperature: params::temperature(self.temperature.map(|value| value.max(0.0)))?,
            top_k: params::top_k(self.top_k)?,
            top_p: params::top_p(self.top_p)?,
            min_p: params::min_p(self.min_p)?,
            repeat_penalty: params::repeat_penalty("repeat_penalty", self.repeat_penalty)?,
            repeat_last_tokens: repeat_last(self.repeat_last_n)?,
            frequency_penalty: params::penalty("frequency_penalty", self.frequency_penalty)?,
            presence_penalty: params::penalty("presence_penalty", self.presence_penalty)?,
            seed: seed(self.seed.as_ref())?,
            logit_bias: by_id,
        };
        generate.max_tokens = length.and_then(params::Length::max_tokens);
        generate.stop = params::stop(self.stop)?;
        generate.constraint = constraint(self.grammar, self.json_schema)?;
        generate.ignore_eos = self.ignore_eos.unwrap_or(false);
        let limit_ms = params::whole("t_max_predict_ms", self.t_max_predict_ms, &PREDICT_MS)?;
        let limit_ms = limit_ms.filter(|ms| *ms > 0);
        generate.answer_limit = limit_ms.map(|ms| Duration::from_millis(u64::from(ms)));
        // A token's id comes with its probability.
        generate.logprobs = n_probs.or(returns_tokens.then_some(0));
        let terms = RequestTerms {
            model: None,
            timeout: self.timeout,
            keep_alive: self.keep_alive,
            context_tokens: self.context_tokens,
            user: self.user,
        };
        let common = terms.check_all_but_model(asker, headers)?;
        Ok(Wanted {
            model: self.model,
            common,
            generate,
            prompts,
            biases_by_text: by_text,
            answers,
            is_streamed: self.stream.unwrap_or(false),
            has_probs: n_probs.is_some(),
            response_fields: self.response_fields.unwrap_or_default(),
        })
    }

    fn refuse_unsupported(&self) -> Result<(), Refusal> {
        if self.post_sampling_probs == Some(true) {
            let message = "`post_sampling_probs` is not supported: probabilities are those before sampling";
            return Err(Refusal::unsupported("post_sampling_probs", message).with_hint("leave it out"));
        }
        if self.lora.as_ref().is_some_and(|adapters| !adapters.is_empty()) {
            let message = "`lora` is not supported: adapters are settings of a model's name";
            return Err(Refusal::unsupported("lora", message)
                .with_hint("configure a name with the adapters, and ask for it as `model`"));
        }
        if let Some(fields) = self.response_fields.as_ref().filter(|fields| fields.len() > RESPONSE_FIELDS) {
            let message =
                format!("`response_fields` may have {RESPONSE_FIELDS} fields, and has {}", fields.len());
            return Err(Refusal::invalid("response_fields", message));
        }
        Ok(())
    }
}

/// -2 means the same as -1 here: an answer ends with the context.
fn unlimited(length: f64) -> f64 {
    if length.total_cmp(&-2.0).is_eq() { -1.0 } else { length }
}

/// -1 means as many tokens as there are.
fn repeat_last(value: Option<f64>) -> Result<Option<u32>, Refusal> {
    let value = value.map(|last| if last.total_cmp(&-1.0).is_eq() { MOST_REPEAT_LAST } else { last });
    params::whole("repeat_last_n", value, &(0.0..=MOST_REPEAT_LAST))
}

/// The largest number of 32 bits is llama.cpp's word for another seed each time.
fn seed(value: Option<&Number>) -> Result<Option<u32>, Refusal> {
    params::seed(value.filter(|seed| seed.as_u64() != Some(u64::from(u32::MAX))))
}

fn constraint(grammar: Option<String>, schema: Option<Value>) -> Result<Option<Constraint>, Refusal> {
    let grammar = grammar.filter(|grammar| !grammar.is_empty());
    match (grammar, schema) {
        (None, None) => Ok(None),
        (Some(grammar), None) => Ok(Some(Constraint::Gbnf(grammar))),
        (None, Some(schema @ Value::Object(_))) => Ok(Some(Constraint::JsonSchema(schema.to_string()))),
        (None, Some(_)) => {
            Err(Refusal::invalid("json_schema", "`json_schema` must be a JSON schema: an object"))
        }
        (Some(_), Some(_)) => {
            let message = "either `grammar` or `json_schema` may be given, not both";
            Err(Refusal::invalid("json_schema", message))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::payload::Payload;
    use serde_json::json;

    fn check(more: &Value) -> Result<Wanted, Refusal> {
        let mut body = json!({ "prompt": "x" });
        for (field, value) in more.as_object().expect("object") {
            body[field] = value.clone();
        }
        Payload::of(body.to_string()).parse::<Options>()?.check(&Asker::stranger(), &HeaderMap::new())
    }

    #[test]
    fn the_described_fields_are_those_that_are_parsed() {
        use crate::field::{names, parsed};
        assert_eq!(names(&[PROMPT, FIELDS].concat()), parsed::<Options>());
    }

    #[test]
    fn numbers_have_llama_servers_special_values() {
        let of = |more: Value| check(&more).expect("sound").generate;
        for (value, expected) in
            [(json!(-1), None), (json!(-2), None), (json!(0), Some(0)), (json!(7), Some(7))]
        {
            assert_eq!(of(json!({ "n_predict": value })).max_tokens, expected, "{value}");
            assert_eq!(of(json!({ "max_tokens": value })).max_tokens, expected, "{value}");
        }
        assert_eq!(of(json!({})).max_tokens, None);
        assert_eq!(of(json!({ "n_predict": 3, "max_tokens": 4 })).max_tokens, Some(3));
        assert_eq!(of(json!({ "temperature": -1 })).sampling.temperature, Some(0.0));
        assert_eq!(of(json!({ "repeat_last_n": -1 })).sampling.repeat_last_tokens, Some(65_536));
        assert_eq!(of(json!({ "seed": 4_294_967_295_u32 })).sampling.seed, None);
        assert_eq!(of(json!({ "seed": 3 })).sampling.seed, Some(3));
        assert_eq!(of(json!({ "t_max_predict_ms": 0 })).answer_limit, None);
        assert_eq!(of(json!({ "t_max_predict_ms": 250 })).answer_limit, Some(Duration::from_millis(250)));
        assert_eq!(of(json!({ "n_probs": 0 })).logprobs, None);
        assert_eq!(of(json!({ "n_probs": 0, "return_tokens": true })).logprobs, Some(0));
        assert_eq!(of(json!({ "n_probs": 3, "return_tokens": true })).logprobs, Some(3));
    }

    #[test]
    fn an_answer_has_one_form() {
        let of = |more: Value| check(&more).map(|wanted| wanted.generate.constraint);
        let schema = json!({ "type": "object" });
        assert_eq!(of(json!({ "grammar": "", "json_schema": null })).expect("none"), None);
        let grammar = of(json!({ "grammar": "root ::= \"x\"" })).expect("grammar");
        assert_eq!(grammar, Some(Constraint::Gbnf("root ::= \"x\"".to_owned())));
        let obeyed = of(json!({ "json_schema": schema })).expect("schema");
        assert_eq!(obeyed, Some(Constraint::JsonSchema(schema.to_string())));
        for bad in [json!({ "grammar": "x", "json_schema": {} }), json!({ "json_schema": "x" })] {
            assert_eq!(of(bad).expect_err("refuses").failure.param.as_deref(), Some("json_schema"));
        }
    }

    #[test]
    fn what_cannot_be_done_is_refused_by_name() {
        for (more, param) in [
            (json!({ "lora": [{ "id": 0, "scale": 0.5 }] }), "lora"),
            (json!({ "post_sampling_probs": true }), "post_sampling_probs"),
            (json!({ "response_fields": vec!["content"; 65] }), "response_fields"),
            (json!({ "response_fields": [3] }), "response_fields[0]"),
            (json!({ "n_probs": 129 }), "n_probs"),
            (json!({ "n_predict": -3 }), "n_predict"),
            (json!({ "n_cmpl": 0 }), "n_cmpl"),
            (json!({ "t_max_predict_ms": -1 }), "t_max_predict_ms"),
            (json!({ "repeat_last_n": -2 }), "repeat_last_n"),
            (json!({ "temperature": 3 }), "temperature"),
            (json!({ "temperature": "hot" }), "temperature"),
            (json!({ "grammar": {} }), "grammar"),
            (json!({ "prompt": vec!["x"; 65], "n": 2 }), "prompt"),
        ] {
            let refusal = check(&more).expect_err("refuses");
            assert_eq!(refusal.status, axum::http::StatusCode::BAD_REQUEST);
            assert_eq!(refusal.failure.param.as_deref(), Some(param), "{more}");
        }
        assert!(check(&json!({ "lora": [], "post_sampling_probs": false })).is_ok());
    }
}
