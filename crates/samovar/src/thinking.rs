//! How much a model thinks before it answers: what a request wishes, in the variables that chat templates know.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use samovar_core::{ErrorKind, Failure};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::request::{Generate, Request};

/// Variables of templates that switch thinking on or off; each model knows one of them, or none.
const SWITCHES: [&str; 2] = ["enable_thinking", "thinking"];
/// The variable of templates that say how much is thought.
const EFFORT: &str = "reasoning_effort";
/// Their word for no thoughts at all.
const NO_EFFORT: &str = "none";

/// How much a model is to think before it answers. A model that cannot think, or whose template knows no such wish, does as
/// it always does.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Effort {
    /// Not at all: what the template cannot switch off is cut short at once.
    Off,
    /// Little.
    Low,
    /// As much as is usual.
    Medium,
    /// Much.
    High,
}

impl Effort {
    /// All of them, the least first.
    pub const ALL: [Self; 4] = [Self::Off, Self::Low, Self::Medium, Self::High];

    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
        }
    }
}

impl fmt::Display for Effort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Effort {
    type Err = Failure;

    fn from_str(text: &str) -> Result<Self, Failure> {
        Self::ALL.into_iter().find(|effort| effort.as_str() == text).ok_or_else(|| {
            Failure::new(ErrorKind::InvalidRequest, format!("{text:?} is no effort of thinking"))
                .with_hint("take off, low, medium or high")
        })
    }
}

impl Effort {
    /// Tells it to a template, and returns what becomes of a budget of thought.
    fn tell(self, arguments: &mut Map<String, Value>, budget: Option<u32>) -> Option<u32> {
        let thinks = self != Self::Off;
        for switch in SWITCHES {
            arguments.insert(switch.to_owned(), thinks.into());
        }
        let word = if thinks { self.as_str() } else { NO_EFFORT };
        arguments.insert(EFFORT.to_owned(), word.into());
        if thinks { budget.filter(|tokens| *tokens > 0) } else { Some(0) }
    }
}

impl Generate {
    /// Has the model think so much: sets the variables of its template that say so, and for [`Effort::Off`] a budget of no
    /// tokens.
    pub fn think(&mut self, effort: Effort) {
        self.thinking_budget_tokens = effort.tell(&mut self.template_arguments, self.thinking_budget_tokens);
    }

    /// The variables of the template and the budget of thought of this request to a model that usually thinks so much: where the
    /// request says anything of it, that counts alone.
    pub(crate) fn thinking(&self, usual: Option<Effort>) -> (Cow<'_, Map<String, Value>>, Option<u32>) {
        let mut names = SWITCHES.into_iter().chain([EFFORT]);
        let says_nothing = self.thinking_budget_tokens.is_none()
            && !names.any(|name| self.template_arguments.contains_key(name));
        match usual {
            Some(effort) if says_nothing => {
                let mut arguments = self.template_arguments.clone();
                let budget = effort.tell(&mut arguments, None);
                (Cow::Owned(arguments), budget)
            }
            _ => (Cow::Borrowed(&self.template_arguments), self.thinking_budget_tokens),
        }
    }
}

impl Request {
    /// The same request, before whose answer the model thinks so much.
    #[must_use]
    pub fn thinking(self, effort: Effort) -> Self {
        self.generating(|generate| generate.think(effort))
    }

    /// The same request, whose answer begins after at most so many tokens of thought.
    #[must_use]
    pub fn thinking_budget(self, tokens: u32) -> Self {
        self.generating(|generate| generate.thinking_budget_tokens = Some(tokens))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::request::{Input, Message, Work};

    fn of(request: Request) -> (Value, Option<u32>) {
        let Work::Generate(generate) = request.work else { panic!("another work") };
        (generate.template_arguments.into(), generate.thinking_budget_tokens)
    }

    #[test]
    fn efforts_are_variables_of_the_template_and_off_is_a_budget_of_nothing() {
        let ask = || Request::chat("m", [Message::user("Hi")]);
        let off = json!({ "enable_thinking": false, "thinking": false, "reasoning_effort": "none" });
        assert_eq!(of(ask().thinking(Effort::Off)), (off, Some(0)));
        let high = json!({ "enable_thinking": true, "thinking": true, "reasoning_effort": "high" });
        assert_eq!(of(ask().thinking(Effort::Off).thinking(Effort::High)), (high.clone(), None));
        assert_eq!(of(ask().thinking_budget(9).thinking(Effort::High)), (high, Some(9)));
    }

    #[test]
    fn a_models_usual_effort_counts_where_a_request_says_nothing() {
        let ask = |template_arguments: Value, thinking_budget_tokens| {
            let Value::Object(template_arguments) = template_arguments else { panic!("an object") };
            let input = Input::Chat(vec![Message::user("Hi")]);
            Generate { template_arguments, thinking_budget_tokens, ..Generate::new(input) }
        };
        let of = |generate: &Generate, usual| {
            let (arguments, budget) = generate.thinking(usual);
            (Value::from(arguments.into_owned()), budget)
        };
        let off =
            json!({ "other": 1, "enable_thinking": false, "thinking": false, "reasoning_effort": "none" });
        assert_eq!(of(&ask(json!({ "other": 1 }), None), Some(Effort::Off)), (off, Some(0)));
        assert_eq!(of(&ask(json!({ "other": 1 }), None), None), (json!({ "other": 1 }), None));
        for said in ["enable_thinking", "thinking", "reasoning_effort"] {
            let said = json!({ said: true });
            assert_eq!(of(&ask(said.clone(), None), Some(Effort::Off)), (said, None));
        }
        assert_eq!(of(&ask(json!({}), Some(9)), Some(Effort::Off)), (json!({}), Some(9)));
    }

    #[test]
    fn efforts_are_read_as_they_are_written() {
        for effort in Effort::ALL {
            assert_eq!(effort.to_string().parse(), Ok(effort));
            assert_eq!(json!(effort), effort.as_str());
        }
        let failure = "enormous".parse::<Effort>().expect_err("there is none");
        assert!(failure.hint.is_some_and(|hint| hint.contains("medium")));
    }
}
