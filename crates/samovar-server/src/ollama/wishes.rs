//! `format` and `think`: what an answer must look like, and how much is thought before it.

use samovar::{Constraint, Effort, Generate, ModelInfo};
use serde_json::Value;

use crate::generation::thinking::SWITCHES;
use crate::refusal::{Refusal, shown};

/// What a `format` asks for; nothing for text.
///
/// # Errors
/// 400 for anything but `json`, a schema, and nothing.
pub(super) fn constraint(format: Option<&Value>) -> Result<Option<Constraint>, Refusal> {
    match format {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(word)) if word.is_empty() => Ok(None),
        Some(Value::String(word)) if word == "json" => Ok(Some(Constraint::JsonObject)),
        Some(schema @ Value::Object(_)) => Ok(Some(Constraint::JsonSchema(schema.to_string()))),
        Some(other) => {
            let message = format!(
                "invalid format: {}; expected \"json\" or a valid JSON schema object",
                shown(&other.to_string())
            );
            Err(Refusal::invalid("format", message))
        }
    }
}

/// How much a model is to think.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Think {
    /// As much as it does of itself.
    Usual,
    /// So much, or not at all.
    Effort(Effort),
}

/// What a `think` asks for; nothing where it is absent.
///
/// # Errors
/// 400 for another word, or none.
pub(super) fn think(think: Option<&Value>) -> Result<Option<Think>, Refusal> {
    let effort = match think {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::Bool(true)) => return Ok(Some(Think::Usual)),
        Some(Value::Bool(false)) => Some(Effort::Off),
        Some(Value::String(word)) => match word.as_str() {
            "low" => Some(Effort::Low),
            "medium" => Some(Effort::Medium),
            "high" | "max" => Some(Effort::High),
            _ => None,
        },
        Some(_) => None,
    };
    effort.map(|effort| Some(Think::Effort(effort))).ok_or_else(|| {
        let said = think.map(|think| shown(&think.to_string())).unwrap_or_default();
        let message =
            format!("invalid think value: {said} (must be \"high\", \"medium\", \"low\", true, or false)");
        Refusal::invalid("think", message)
    })
}

impl Think {
    /// Tells it to the model's template.
    ///
    /// # Errors
    /// 400 when a model that cannot think is to do it, as far as that is known.
    pub(super) fn tell(
        self,
        generate: &mut Generate,
        asked: &str,
        model: Option<&ModelInfo>,
    ) -> Result<(), Refusal> {
        if self != Self::Effort(Effort::Off) && model.is_some_and(|model| !model.thinks) {
            let message = format!("{:?} does not support thinking", shown(asked));
            return Err(Refusal::invalid("think", message).with_hint("leave `think` out"));
        }
        match self {
            Self::Effort(effort) => generate.think(effort),
            Self::Usual => {
                let switches = SWITCHES.map(|switch| (switch.to_owned(), Value::Bool(true)));
                generate.template_arguments.extend(switches);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use samovar::Input;
    use serde_json::json;

    #[test]
    fn a_format_is_json_a_schema_or_nothing() {
        let of = |format: Value| constraint(Some(&format));
        assert_eq!(constraint(None).expect("none"), None);
        assert_eq!(of(json!("")).expect("none"), None);
        assert_eq!(of(json!(null)).expect("none"), None);
        assert_eq!(of(json!("json")).expect("JSON"), Some(Constraint::JsonObject));
        let schema = json!({ "type": "object" });
        let expected = Some(Constraint::JsonSchema(schema.to_string()));
        assert_eq!(of(schema).expect("a schema"), expected);
        for wrong in [json!("xml"), json!(true), json!(3), json!([]), json!("x".repeat(1 << 20))] {
            let failure = of(wrong).expect_err("refuses").failure;
            assert!(
                failure.message.starts_with("invalid format") && failure.message.len() < 200,
                "{failure}"
            );
        }
    }

    #[test]
    fn thinking_is_switched_or_has_a_degree() {
        let told = |said: Value| {
            let mut generate = Generate::new(Input::Text(String::new()));
            let think = think(Some(&said)).expect("sound").expect("says something");
            think.tell(&mut generate, "m", None).expect("may think");
            (Value::Object(generate.template_arguments), generate.thinking_budget_tokens)
        };
        assert_eq!(told(json!(true)), (json!({ "enable_thinking": true, "thinking": true }), None));
        let off = json!({ "enable_thinking": false, "thinking": false, "reasoning_effort": "none" });
        assert_eq!(told(json!(false)), (off, Some(0)));
        assert_eq!(told(json!("low")).0["reasoning_effort"], "low");
        assert_eq!(think(None).expect("nothing"), None);
        for wrong in [json!("much"), json!(1), json!([]), json!("")] {
            let failure = think(Some(&wrong)).expect_err("refuses").failure;
            assert_eq!(failure.param.as_deref(), Some("think"), "{wrong}");
        }
    }
}
