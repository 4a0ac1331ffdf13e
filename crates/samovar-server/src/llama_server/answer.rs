//! What an answer looks like: its pieces in a stream, and the object that ends a stream or is the whole answer.

use samovar::{Generate, Summary, Timings};
use samovar_core::generation::{FinishReason, TokenLogprob, Usage};
use serde_json::{Map, Value, json};

use super::options::Wanted;
use crate::embedding::number::write_json;
use crate::generation::collected::Collected;
use crate::generation::long_list;

/// The field that has the probabilities of all tokens.
const PROBABILITIES: &str = "completion_probabilities";

/// What the answers of one response have in common.
#[derive(Debug)]
pub(super) struct Form {
    /// Empty until a slot was granted.
    pub(super) model: String,
    /// What the request asked for.
    settings: Value,
    has_probs: bool,
    response_fields: Vec<String>,
}

impl Form {
    pub(super) fn of(wanted: &Wanted) -> Self {
        Self {
            model: String::new(),
            settings: settings(wanted),
            has_probs: wanted.has_probs,
            response_fields: wanted.response_fields.clone(),
        }
    }

    /// A piece of a streamed answer.
    pub(super) fn piece(&self, index: usize, text: &str, logprob: Option<&TokenLogprob>) -> Value {
        let tokens = logprob.map(std::slice::from_ref).unwrap_or_default();
        let mut object = json!({
            "index": index, "content": text, "tokens": ids(tokens), "stop": false, "id_slot": -1,
        });
        if self.has_probs && !tokens.is_empty() {
            object[PROBABILITIES] = tokens.iter().map(probability_of_all).collect();
        }
        object
    }

    /// Writes a whole answer.
    pub(super) fn write(&self, bytes: &mut Vec<u8>, index: usize, said: &Collected, end: &Summary) {
        write_json(bytes, &self.last(index, &said.text, &said.logprobs, end));
        let is_chosen = self.response_fields.is_empty()
            || self.response_fields.iter().any(|field| field == PROBABILITIES);
        if self.has_probs && is_chosen {
            long_list::append(bytes, PROBABILITIES, said.logprobs.iter().map(probability_of_all));
        }
    }

    /// The end of a streamed answer, or a whole one without its probabilities.
    pub(super) fn last(&self, index: usize, text: &str, tokens: &[TokenLogprob], end: &Summary) -> Value {
        let (stop_type, word) = stop_type(end);
        let object = json!({
            "index": index,
            "content": text,
            "tokens": ids(tokens),
            "id_slot": -1,
            "stop": true,
            "model": self.model,
            "tokens_predicted": end.usage.completion_tokens,
            "tokens_evaluated": end.usage.prompt_tokens,
            "generation_settings": self.settings,
            "truncated": false,
            "stop_type": stop_type,
            "stopping_word": word,
            "tokens_cached": end.usage.cached_tokens,
            "timings": timings(end.usage, end.timings),
        });
        chosen(object, &self.response_fields)
    }
}

/// What ended the answer, and the stop string if one did.
fn stop_type(end: &Summary) -> (&'static str, &str) {
    match (end.finish, &end.stopped_by) {
        (FinishReason::Length | FinishReason::TimedOut, _) => ("limit", ""),
        (FinishReason::Stop, Some(word)) => ("word", word.as_str()),
        (FinishReason::Stop | FinishReason::ToolCalls, _) => ("eos", ""),
    }
}

/// What the request said of itself; what it left open is the model's or the engine's.
fn settings(wanted: &Wanted) -> Value {
    let Generate { sampling, max_tokens, stop, logprobs, ignore_eos, .. } = &wanted.generate;
    let all = json!({
        "n_predict": max_tokens.map_or(-1, i64::from),
        "stream": wanted.is_streamed,
        "seed": sampling.seed,
        "temperature": sampling.temperature,
        "top_k": sampling.top_k,
        "top_p": sampling.top_p,
        "min_p": sampling.min_p,
        "repeat_penalty": sampling.repeat_penalty,
        "repeat_last_n": sampling.repeat_last_tokens,
        "frequency_penalty": sampling.frequency_penalty,
        "presence_penalty": sampling.presence_penalty,
        "stop": stop,
        "n_probs": logprobs.unwrap_or(0),
        "ignore_eos": ignore_eos,
    });
    match all {
        Value::Object(fields) => {
            Value::Object(fields.into_iter().filter(|(_, value)| !value.is_null()).collect())
        }
        all => all,
    }
}

fn ids(tokens: &[TokenLogprob]) -> Vec<u32> {
    tokens.iter().map(|token| token.token).collect()
}

/// A token's probability with those of its alternatives.
fn probability_of_all(token: &TokenLogprob) -> Value {
    let mut object = probability(token);
    object["top_logprobs"] = token.top.iter().map(probability).collect();
    object
}

fn probability(token: &TokenLogprob) -> Value {
    // JSON has no infinity.
    let logprob = if token.logprob.is_finite() { token.logprob } else { f32::MIN };
    json!({
        "id": token.token,
        "token": String::from_utf8_lossy(&token.bytes),
        "bytes": token.bytes,
        "logprob": logprob,
    })
}

fn timings(usage: Usage, timings: Timings) -> Value {
    let computed = usage.prompt_tokens.saturating_sub(usage.cached_tokens);
    let per = |ms: f64, tokens: u32| if tokens > 0 { ms / f64::from(tokens) } else { 0.0 };
    let rate = |ms: f64, tokens: u32| if ms > 0.0 { f64::from(tokens) * 1e3 / ms } else { 0.0 };
    let predicted = usage.completion_tokens;
    json!({
        "cache_n": usage.cached_tokens,
        "prompt_n": computed,
        "prompt_ms": timings.prefill_ms,
        "prompt_per_token_ms": per(timings.prefill_ms, computed),
        "prompt_per_second": rate(timings.prefill_ms, computed),
        "predicted_n": predicted,
        "predicted_ms": timings.decode_ms,
        "predicted_per_token_ms": per(timings.decode_ms, predicted),
        "predicted_per_second": rate(timings.decode_ms, predicted),
    })
}

/// The fields that were asked for, each under its whole path; one that is not there is left out.
fn chosen(object: Value, paths: &[String]) -> Value {
    if paths.is_empty() {
        return object;
    }
    let mut some = Map::new();
    for path in paths {
        let found = path.split('/').try_fold(&object, |value, field| value.as_object()?.get(field));
        if let Some(found) = found {
            some.insert(path.clone(), found.clone());
        }
    }
    Value::Object(some)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_chosen_by_their_paths() {
        let object = json!({ "content": "a", "timings": { "prompt_n": 3 } });
        let of = |paths: &[&str]| {
            let paths: Vec<String> = paths.iter().map(|path| (*path).to_owned()).collect();
            chosen(object.clone(), &paths)
        };
        assert_eq!(of(&[]), object);
        assert_eq!(
            of(&["timings/prompt_n", "content", "none", "content/x", ""]),
            json!({ "timings/prompt_n": 3, "content": "a" })
        );
    }

    #[test]
    fn numbers_that_json_does_not_have_are_told_by_others() {
        let one = |logprob: f32| TokenLogprob { token: 5, bytes: vec![0xc3], logprob, top: Vec::new() };
        let all = probability_of_all(&TokenLogprob { top: vec![one(f32::NEG_INFINITY)], ..one(-0.5) });
        assert_eq!(
            all,
            json!({ "id": 5, "token": "\u{fffd}", "bytes": [0xc3], "logprob": -0.5, "top_logprobs": [
                { "id": 5, "token": "\u{fffd}", "bytes": [0xc3], "logprob": f32::MIN },
            ] })
        );
        let nothing = timings(Usage::default(), Timings::default());
        assert!(nothing.as_object().expect("object").values().all(Value::is_number), "{nothing}");
    }
}
