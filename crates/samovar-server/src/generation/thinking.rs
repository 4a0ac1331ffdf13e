//! How much a model thinks before it answers, in the words of OpenAI's API, which others took over.

use std::ops::RangeInclusive;

use samovar::Effort;
use serde_json::{Map, Value};

use super::params;
use crate::refusal::{Refusal, shown};

/// OpenAI's words for an effort, the least first. Templates know three degrees at most.
const EFFORTS: [(&str, Effort); 6] = [
    ("none", Effort::Off),
    ("minimal", Effort::Low),
    ("low", Effort::Low),
    ("medium", Effort::Medium),
    ("high", Effort::High),
    ("xhigh", Effort::High),
];
const BUDGET: RangeInclusive<f64> = 0.0..=2_147_483_647.0;
/// Variables by which templates are told whether their model thinks.
pub(crate) const SWITCHES: [&str; 2] = ["enable_thinking", "thinking"];

/// The effort that a word means.
///
/// # Errors
/// 400 that names `param`, for a word that is not known.
pub(crate) fn effort(param: &str, word: &str) -> Result<Effort, Refusal> {
    EFFORTS.iter().find(|(known, _)| *known == word).map(|(_, effort)| *effort).ok_or_else(|| {
        let (known, shown) = (EFFORTS.map(|(known, _)| known).join(", "), shown(word));
        Refusal::invalid(param, format!("`{param}` must be one of {known}, and is {shown:?}"))
            .with_hint("a word that only this model's template knows goes into `chat_template_kwargs`")
    })
}

/// Tokens of thought at most; -1 = as many as the model likes. Where nothing is said, a model that is told by its template not
/// to think gets none, however it takes that.
///
/// # Errors
/// 400 that names `param`, for a number that is none of tokens.
pub(crate) fn budget(
    param: &str,
    value: Option<f64>,
    arguments: &Map<String, Value>,
) -> Result<Option<u32>, Refusal> {
    match value {
        Some(value) if value.total_cmp(&-1.0).is_eq() => Ok(None),
        Some(_) => params::whole(param, value, &BUDGET)
            .map_err(|refusal| refusal.with_hint("-1 is as many as the model likes, 0 is none")),
        None => {
            // One switch is what most templates know; both are set where they are set by an effort.
            let switch = SWITCHES.iter().find_map(|switch| arguments.get(*switch));
            Ok((switch == Some(&Value::Bool(false))).then_some(0))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_effort_is_one_of_openais_words() {
        for (word, expected) in [("none", Effort::Off), ("minimal", Effort::Low), ("high", Effort::High)] {
            assert_eq!(effort("reasoning_effort", word).expect("known"), expected);
        }
        for unknown in ["", "max", "None", &"high".repeat(10_000)] {
            let failure = effort("reasoning_effort", unknown).expect_err("refuses").failure;
            assert_eq!(failure.param.as_deref(), Some("reasoning_effort"));
            assert!(failure.message.len() < 200 && failure.hint.is_some(), "{failure}");
        }
    }

    #[test]
    fn who_may_not_think_has_no_tokens_for_it_unless_some_are_given() {
        let of = |value: Option<f64>, told: Value| {
            let arguments = told.as_object().cloned().expect("an object");
            budget("budget", value, &arguments).expect("sound")
        };
        assert_eq!(of(None, json!({})), None);
        assert_eq!(of(None, json!({ "enable_thinking": true, "thinking": false })), None);
        assert_eq!(of(None, json!({ "enable_thinking": false })), Some(0));
        assert_eq!(of(None, json!({ "thinking": false })), Some(0));
        assert_eq!(of(Some(7.0), json!({ "enable_thinking": false })), Some(7));
        assert_eq!(of(Some(-1.0), json!({ "enable_thinking": false })), None);
        assert_eq!(of(Some(0.0), json!({})), Some(0));
        for bad in [-2.0, 0.5, 1e18, f64::NAN] {
            let failure = budget("budget", Some(bad), &Map::new()).expect_err("refuses").failure;
            assert_eq!(failure.param.as_deref(), Some("budget"), "{bad}");
        }
    }
}
