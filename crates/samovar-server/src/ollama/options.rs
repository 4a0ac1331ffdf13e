//! `options`: what a model is asked with, by Ollama's names and with Ollama's defaults.

use std::ops::RangeInclusive;

use samovar::SamplingOptions;
use samovar_core::generation::Sampling;
use serde::Deserialize;
use serde_json::{Number, Value};

use crate::generation::params::{self, Length};
use crate::refusal::Refusal;

/// Tokens of context that may be asked for; the model bounds them further. 0 says nothing.
const CONTEXT: RangeInclusive<f64> = 0.0..=16_777_216.0;
/// Tokens that the penalties look at.
const REPEAT_LAST: RangeInclusive<f64> = 0.0..=65_536.0;
/// As many as an answer can have.
const REPEAT_LAST_ALL: f64 = 65_536.0;

/// The options that mean something here; others are passed over, as Ollama does. All numbers arrive as wide as JSON has them.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Options {
    temperature: Option<f64>,
    top_k: Option<f64>,
    top_p: Option<f64>,
    min_p: Option<f64>,
    seed: Option<Number>,
    repeat_penalty: Option<f64>,
    repeat_last_n: Option<f64>,
    presence_penalty: Option<f64>,
    frequency_penalty: Option<f64>,
    stop: Option<Value>,
    num_predict: Option<f64>,
    num_ctx: Option<f64>,
}

/// Options whose values are sound.
#[derive(Debug)]
pub(super) struct Chosen {
    pub(super) sampling: SamplingOptions,
    pub(super) stop: Vec<String>,
    /// None = as many as the context holds.
    pub(super) max_tokens: Option<u32>,
    pub(super) context_tokens: Option<u32>,
}

impl Options {
    /// Checks everything.
    ///
    /// # Errors
    /// 400 that names the option, and its range where it has one.
    pub(super) fn check(self) -> Result<Chosen, Refusal> {
        let repeat_last_n = self.repeat_last_n.map(|n| if is_minus_one(n) { REPEAT_LAST_ALL } else { n });
        let sampling = SamplingOptions {
            temperature: params::temperature(self.temperature)?,
            top_k: params::top_k(self.top_k)?,
            top_p: params::top_p(self.top_p)?,
            min_p: params::min_p(self.min_p)?,
            repeat_penalty: params::repeat_penalty("repeat_penalty", self.repeat_penalty)?,
            repeat_last_tokens: params::whole("repeat_last_n", repeat_last_n, &REPEAT_LAST)?,
            frequency_penalty: params::penalty("frequency_penalty", self.frequency_penalty)?,
            presence_penalty: params::penalty("presence_penalty", self.presence_penalty)?,
            seed: params::seed(self.seed.as_ref())?,
            logit_bias: Vec::new(),
        };
        let context_tokens = params::whole("num_ctx", self.num_ctx, &CONTEXT)?.filter(|tokens| *tokens > 0);
        Ok(Chosen {
            sampling,
            stop: params::stop(self.stop)?,
            max_tokens: max_tokens(self.num_predict)?,
            context_tokens,
        })
    }
}

/// -1 and -2 are as many as the context holds, and so is 0.
fn max_tokens(num_predict: Option<f64>) -> Result<Option<u32>, Refusal> {
    let is_endless = |n: &f64| n.fract() == 0.0 && (-2.0..=0.0).contains(n);
    let length = params::length("num_predict", num_predict.filter(|n| !is_endless(n)))?;
    Ok(length.and_then(Length::max_tokens))
}

fn is_minus_one(value: f64) -> bool {
    value.total_cmp(&-1.0).is_eq()
}

/// What counts where neither the request nor the model's author says anything.
pub(super) fn defaults() -> Sampling {
    Sampling {
        temperature: 0.8,
        top_k: 40,
        top_p: 0.9,
        min_p: 0.0,
        repeat_penalty: 1.1,
        repeat_last_tokens: 64,
        ..Sampling::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(options: Value) -> Result<Chosen, String> {
        let options: Options = serde_json::from_value(options).expect("parses");
        options.check().map_err(|refusal| refusal.failure.param.expect("names the option"))
    }

    #[test]
    fn options_are_ours_by_other_names_and_unknown_ones_are_passed_over() {
        let all = json!({ "temperature": 0.5, "top_k": 3, "top_p": 0.25, "min_p": 0.125, "seed": 7, "num_predict": 9,
                          "num_ctx": 2048, "repeat_penalty": 1.5, "repeat_last_n": -1, "presence_penalty": 1,
                          "frequency_penalty": -1, "stop": ["a", ""], "mirostat": 2, "num_gpu": "all" });
        let chosen = read(all).expect("sound");
        let expected = SamplingOptions {
            temperature: Some(0.5),
            top_k: Some(3),
            top_p: Some(0.25),
            min_p: Some(0.125),
            repeat_penalty: Some(1.5),
            repeat_last_tokens: Some(65_536),
            frequency_penalty: Some(-1.0),
            presence_penalty: Some(1.0),
            seed: Some(7),
            logit_bias: Vec::new(),
        };
        assert_eq!((chosen.sampling, chosen.stop), (expected, vec!["a".to_owned()]));
        assert_eq!((chosen.max_tokens, chosen.context_tokens), (Some(9), Some(2048)));
    }

    #[test]
    fn an_answer_without_a_limit_is_as_long_as_its_context() {
        for endless in [json!(null), json!(0), json!(-1), json!(-2)] {
            assert_eq!(read(json!({ "num_predict": endless })).expect("sound").max_tokens, None);
        }
        assert_eq!(read(json!({ "num_ctx": 0 })).expect("sound").context_tokens, None);
    }

    #[test]
    fn what_is_out_of_range_is_refused_by_name() {
        for (options, name) in [
            (json!({ "temperature": -1 }), "temperature"),
            (json!({ "num_predict": -3 }), "num_predict"),
            (json!({ "num_predict": 0.5 }), "num_predict"),
            (json!({ "num_ctx": -1 }), "num_ctx"),
            (json!({ "repeat_last_n": -2 }), "repeat_last_n"),
            (json!({ "seed": 0.5 }), "seed"),
            (json!({ "stop": 3 }), "stop"),
        ] {
            assert_eq!(read(options).expect_err("refuses"), name);
        }
    }

    #[test]
    fn the_defaults_are_ollamas() {
        let Sampling { temperature, top_p, repeat_penalty, .. } = defaults();
        assert_eq!((temperature, top_p, repeat_penalty), (0.8, 0.9, 1.1));
    }
}
