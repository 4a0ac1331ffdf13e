//! Numbers and names of a request, each checked before an engine sees it.

use std::ops::RangeInclusive;

use samovar::SamplingOptions;
use serde_json::{Map, Number, Value};

use crate::refusal::Refusal;

/// Tokens that may be asked for; the context bounds them further.
const MAX_TOKENS: RangeInclusive<f64> = 0.0..=2_147_483_647.0;
const TEMPERATURE: RangeInclusive<f64> = 0.0..=2.0;
const UNIT: RangeInclusive<f64> = 0.0..=1.0;
const PENALTY: RangeInclusive<f64> = -2.0..=2.0;
const REPEAT_PENALTY: RangeInclusive<f64> = 0.01..=10.0;
const REPEAT_LAST: RangeInclusive<f64> = 0.0..=65_536.0;
const TOP_K: RangeInclusive<f64> = 0.0..=1_000_000.0;
const BIAS: RangeInclusive<f64> = -100.0..=100.0;
const BIASES: usize = 1024;
const STOPS: usize = 16;
const STOP_BYTES: usize = 1024;

/// A number in a range.
pub(crate) fn number(
    param: &str,
    value: Option<f64>,
    range: &RangeInclusive<f64>,
) -> Result<Option<f32>, Refusal> {
    let Some(value) = value else { return Ok(None) };
    if range.contains(&value) {
        Ok(Some(value as f32))
    } else {
        Err(outside(param, value, range, "a number"))
    }
}

/// A whole number in a range.
pub(crate) fn whole(
    param: &str,
    value: Option<f64>,
    range: &RangeInclusive<f64>,
) -> Result<Option<u32>, Refusal> {
    let Some(value) = value else { return Ok(None) };
    let is_whole = value.fract() == 0.0;
    if is_whole && range.contains(&value) {
        Ok(Some(value as u32))
    } else {
        Err(outside(param, value, range, "a whole number"))
    }
}

fn outside(param: &str, value: f64, range: &RangeInclusive<f64>, what: &str) -> Refusal {
    let (least, most) = (range.start(), range.end());
    Refusal::invalid(param, format!("`{param}` must be {what} from {least} to {most}, and is {value}"))
}

/// How long an answer may become.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Length {
    /// As many tokens as the context holds.
    Context,
    /// So many tokens; 0 computes the prompt alone.
    Tokens(u32),
}

impl Length {
    /// In the runtime's terms.
    pub(crate) fn max_tokens(self) -> Option<u32> {
        match self {
            Self::Context => None,
            Self::Tokens(count) => Some(count),
        }
    }
}

/// -1 means as many as the context holds, as elsewhere.
pub(crate) fn length(param: &str, value: Option<f64>) -> Result<Option<Length>, Refusal> {
    if value.is_some_and(|value| value.total_cmp(&-1.0).is_eq()) {
        return Ok(Some(Length::Context));
    }
    let tokens = whole(param, value, &MAX_TOKENS).map_err(|refusal| {
        refusal.with_hint("-1 is as many as the context holds, 0 computes the prompt alone")
    })?;
    Ok(tokens.map(Length::Tokens))
}

pub(crate) fn temperature(value: Option<f64>) -> Result<Option<f32>, Refusal> {
    number("temperature", value, &TEMPERATURE)
}

/// 0 keeps the most likely token alone, which is what its limit means.
pub(crate) fn top_p(value: Option<f64>) -> Result<Option<f32>, Refusal> {
    Ok(number("top_p", value, &UNIT)?.map(|top_p| top_p.max(f32::MIN_POSITIVE)))
}

pub(crate) fn min_p(value: Option<f64>) -> Result<Option<f32>, Refusal> {
    number("min_p", value, &UNIT)
}

/// 0 and -1 mean all tokens.
pub(crate) fn top_k(value: Option<f64>) -> Result<Option<u32>, Refusal> {
    let all_as_zero = value.map(|k| if k.total_cmp(&-1.0).is_eq() { 0.0 } else { k });
    whole("top_k", all_as_zero, &TOP_K)
}

/// Of either name: llama.cpp's or Hugging Face's.
pub(crate) fn repeat_penalty(param: &str, value: Option<f64>) -> Result<Option<f32>, Refusal> {
    number(param, value, &REPEAT_PENALTY)
}

pub(crate) fn penalty(param: &str, value: Option<f64>) -> Result<Option<f32>, Refusal> {
    number(param, value, &PENALTY)
}

/// Any whole number; both halves of a wide one count. -1 means a different one each time, as elsewhere.
pub(crate) fn seed(value: Option<&Number>) -> Result<Option<u32>, Refusal> {
    let Some(value) = value.filter(|value| value.as_i64() != Some(-1)) else { return Ok(None) };
    let wide = value.as_u64().or_else(|| value.as_i64().map(i64::cast_unsigned)).ok_or_else(|| {
        Refusal::invalid("seed", format!("`seed` must be a whole number of 64 bits, and is {value}"))
    })?;
    // Small seeds stay as they are.
    Ok(Some(((wide >> 32) ^ wide) as u32))
}

/// Token ids with what is added to their logits; -100 bans.
pub(crate) fn logit_bias(biases: Option<Map<String, Value>>) -> Result<Vec<(u32, f32)>, Refusal> {
    let biases = biases.unwrap_or_default();
    if biases.len() > BIASES {
        let message = format!("`logit_bias` may name {BIASES} tokens, and names {}", biases.len());
        return Err(Refusal::invalid("logit_bias", message));
    }
    let mut pairs = Vec::with_capacity(biases.len());
    for (token, bias) in biases {
        let id: u32 = token.parse().map_err(|_| {
            let token: String = token.chars().take(40).collect();
            Refusal::invalid("logit_bias", format!("`logit_bias` names tokens by id, and {token:?} is none"))
        })?;
        let param = format!("logit_bias.{id}");
        let bias = bias
            .as_f64()
            .ok_or_else(|| Refusal::invalid(param.clone(), format!("`{param}` must be a number")))?;
        let bias = number(&param, Some(bias), &BIAS)?.unwrap_or_default();
        pairs.push((id, if bias <= -100.0 { f32::NEG_INFINITY } else { bias }));
    }
    Ok(pairs)
}

/// One string or several; empty ones would end every answer at once and are passed over.
pub(crate) fn stop(value: Option<Value>) -> Result<Vec<String>, Refusal> {
    let not_strings = || Refusal::invalid("stop", "`stop` must be a string or an array of strings");
    let stops = match value {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::String(stop)) => vec![stop],
        Some(Value::Array(stops)) => {
            let strings = stops.into_iter().map(|stop| match stop {
                Value::String(stop) => Ok(stop),
                _ => Err(not_strings()),
            });
            strings.collect::<Result<_, _>>()?
        }
        Some(_) => return Err(not_strings()),
    };
    if stops.len() > STOPS {
        let message = format!("`stop` may have {STOPS} strings, and has {}", stops.len());
        return Err(Refusal::invalid("stop", message));
    }
    if let Some(long) = stops.iter().find(|stop| stop.len() > STOP_BYTES) {
        let message = format!("strings of `stop` may have {STOP_BYTES} bytes, and one has {}", long.len());
        return Err(Refusal::invalid("stop", message));
    }
    Ok(stops.into_iter().filter(|stop| !stop.is_empty()).collect())
}

/// Checks options that came in the engine's own terms.
///
/// # Errors
/// 400 that names the parameter and its range.
pub(crate) fn check_sampling(sampling: &SamplingOptions) -> Result<(), Refusal> {
    let wide = |value: Option<f32>| value.map(f64::from);
    temperature(wide(sampling.temperature))?;
    top_p(wide(sampling.top_p))?;
    min_p(wide(sampling.min_p))?;
    top_k(sampling.top_k.map(f64::from))?;
    repeat_penalty("repeat_penalty", wide(sampling.repeat_penalty))?;
    whole("repeat_last_tokens", sampling.repeat_last_tokens.map(f64::from), &REPEAT_LAST)?;
    penalty("frequency_penalty", wide(sampling.frequency_penalty))?;
    penalty("presence_penalty", wide(sampling.presence_penalty))?;
    if sampling.logit_bias.len() > BIASES {
        return Err(Refusal::invalid("logit_bias", format!("`logit_bias` may name {BIASES} tokens")));
    }
    for (token, bias) in &sampling.logit_bias {
        number(&format!("logit_bias.{token}"), wide(Some(*bias)), &BIAS)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn param<T: std::fmt::Debug>(outcome: Result<T, Refusal>) -> String {
        let failure = outcome.expect_err("refuses").failure;
        let param = failure.param.clone().expect("names the parameter");
        assert!(failure.message.contains(param.split('.').next().expect("a part")), "{failure}");
        param
    }

    #[test]
    fn numbers_outside_of_their_range_are_refused_by_name() {
        type Check = fn(f64) -> Result<(), Refusal>;
        let checks: [(&str, Check, &[f64], &[f64]); 7] = [
            (
                "temperature",
                |v| temperature(Some(v)).map(drop),
                &[0.0, 1.0, 2.0],
                &[-0.1, 2.1, f64::NAN, 1e300],
            ),
            ("top_p", |v| top_p(Some(v)).map(drop), &[0.0, 1.0], &[-1.0, 1.01, f64::INFINITY]),
            ("min_p", |v| min_p(Some(v)).map(drop), &[0.0, 1.0], &[-0.5, 2.0]),
            ("top_k", |v| top_k(Some(v)).map(drop), &[-1.0, 0.0, 40.0], &[-2.0, 1.5, 1e12, f64::NAN]),
            (
                "repeat_penalty",
                |v| repeat_penalty("repeat_penalty", Some(v)).map(drop),
                &[0.5, 1.1],
                &[0.0, -1.0, 11.0],
            ),
            (
                "max_tokens",
                |v| length("max_tokens", Some(v)).map(drop),
                &[-1.0, 0.0, 1.0, 4096.0],
                &[-2.0, -0.5, 0.5, 1e20, f64::NAN],
            ),
            (
                "presence_penalty",
                |v| penalty("presence_penalty", Some(v)).map(drop),
                &[-2.0, 2.0],
                &[-2.1, 3.0],
            ),
        ];
        for (name, check, good, bad) in checks {
            for value in good {
                assert!(check(*value).is_ok(), "{name} {value}");
            }
            for value in bad {
                assert_eq!(param(check(*value)), name, "{value}");
            }
        }
    }

    #[test]
    fn minus_one_is_the_whole_context_and_zero_the_prompt_alone() {
        let of = |value: f64| length("max_tokens", Some(value)).expect("takes").map(Length::max_tokens);
        assert_eq!(of(-1.0), Some(None));
        assert_eq!(of(0.0), Some(Some(0)));
        assert_eq!(of(7.0), Some(Some(7)));
        assert_eq!(length("max_tokens", None).expect("takes"), None);
        let failure = length("max_tokens", Some(-2.0)).expect_err("refuses").failure;
        assert!(failure.hint.as_ref().is_some_and(|hint| hint.contains("-1")), "{failure:?}");
    }

    #[test]
    fn the_message_names_the_range() {
        let failure = temperature(Some(3.5)).expect_err("refuses").failure;
        assert_eq!(failure.message, "`temperature` must be a number from 0 to 2, and is 3.5");
    }

    #[test]
    fn seeds_of_64_bits_are_folded_and_small_ones_kept() {
        let seed = |value: Value| seed(Some(value.as_number().expect("number")));
        assert_eq!(seed(json!(42)).expect("seed"), Some(42));
        assert_eq!(seed(json!(-1)).expect("seed"), None);
        assert_eq!(seed(json!(0x1_0000_0001_u64)).expect("seed"), Some(0));
        assert_ne!(seed(json!(u64::MAX - 5)).expect("seed"), seed(json!(u64::MAX - 6)).expect("seed"));
        assert_eq!(param(seed(json!(1.5))), "seed");
    }

    #[test]
    fn stop_is_a_string_or_several() {
        assert_eq!(stop(None).expect("none"), Vec::<String>::new());
        assert_eq!(stop(Some(json!("a"))).expect("one"), ["a"]);
        assert_eq!(stop(Some(json!(["a", "", "b"]))).expect("two"), ["a", "b"]);
        for bad in [json!(3), json!([1]), json!({}), json!(vec!["x"; 17]), json!("x".repeat(1025))] {
            assert_eq!(param(stop(Some(bad))), "stop");
        }
    }

    #[test]
    fn logit_bias_names_tokens_by_id() {
        let of = |value: Value| logit_bias(value.as_object().cloned());
        assert_eq!(of(json!({"5": 1.5, "7": -100})).expect("reads"), [(5, 1.5), (7, f32::NEG_INFINITY)]);
        assert_eq!(param(of(json!({"five": 1}))), "logit_bias");
        assert_eq!(param(of(json!({"5": 101}))), "logit_bias.5");
        assert_eq!(param(of(json!({"5": "1"}))), "logit_bias.5");
        let many: Map<String, Value> = (0..1025).map(|id| (id.to_string(), json!(1))).collect();
        assert_eq!(param(logit_bias(Some(many))), "logit_bias");
    }

    #[test]
    fn sampling_in_the_engines_terms_is_checked_alike() {
        assert!(check_sampling(&SamplingOptions::default()).is_ok());
        assert!(check_sampling(&SamplingOptions::from(samovar_core::Sampling::default())).is_ok());
        let hot = SamplingOptions { temperature: Some(9.0), ..SamplingOptions::default() };
        assert_eq!(param(check_sampling(&hot)), "temperature");
        let nan = SamplingOptions { min_p: Some(f32::NAN), ..SamplingOptions::default() };
        assert_eq!(param(check_sampling(&nan)), "min_p");
    }
}
