//! `config.json`: its numbers, each in its range. It fills in nothing; defaults are the architecture's.

use std::ops::RangeInclusive;

use samovar_core::format::gguf::limits;
use serde_json::{Map, Value};

use crate::adapter;
use crate::error::Fault;
use crate::source::Folder;

const FILE: &str = "config.json";
const BYTES: u64 = 4 << 20;

/// The configuration of a model.
#[derive(Clone, Debug)]
pub(crate) struct Config(Map<String, Value>);

impl Config {
    /// That of the model in `folder`.
    pub(crate) fn read(folder: &Folder) -> Result<Self, Fault> {
        match folder.json(FILE, BYTES)? {
            Some(map) => Ok(Self(map)),
            None if folder.has(adapter::SETTINGS_FILE) => {
                Err(Fault::IsAdapter { file: adapter::SETTINGS_FILE.to_owned() })
            }
            None if folder.has("params.json") => {
                Err(Fault::Unsupported { what: "Mistral's own format (params.json)".to_owned() })
            }
            None => Err(Fault::Missing { file: FILE.to_owned() }),
        }
    }

    /// The class that its author runs it with, such as `LlamaForCausalLM`.
    pub(crate) fn class(&self) -> Result<&str, Fault> {
        let classes = self.0.get("architectures").and_then(Value::as_array);
        let class = classes.and_then(|classes| classes.first()).and_then(Value::as_str);
        class.ok_or_else(|| Fault::Config("it names no architecture (architectures)".to_owned()))
    }

    /// How the weights were quantized by another program, if they were.
    pub(crate) fn quantization(&self) -> Option<String> {
        let found =
            ["quantization_config", "compression_config"].into_iter().find_map(|key| self.value(key))?;
        let named =
            ["quant_method", "quant_algo", "format"].into_iter().find_map(|key| found.get(key)?.as_str());
        let clean = |name: &str| name.chars().filter(|character| !character.is_control()).take(60).collect();
        Some(named.map_or_else(|| "quantization_config".to_owned(), clean))
    }

    /// A value that is there and is not null.
    pub(crate) fn value(&self, key: &str) -> Option<&Value> {
        self.0.get(key).filter(|value| !value.is_null())
    }

    /// A whole number in a range.
    pub(crate) fn whole(&self, key: &str, range: RangeInclusive<u64>) -> Result<Option<u64>, Fault> {
        let Some(value) = self.value(key) else { return Ok(None) };
        match value.as_u64() {
            Some(number) if range.contains(&number) => Ok(Some(number)),
            _ => {
                let (least, most) = range.into_inner();
                Err(Fault::Config(format!(
                    "{key} is {}, and must be a whole number from {least} to {most}",
                    shown(value)
                )))
            }
        }
    }

    /// The first of these keys that has a whole number; one must have.
    pub(crate) fn needed(&self, keys: &[&str], range: RangeInclusive<u64>) -> Result<u64, Fault> {
        for key in keys {
            if let Some(number) = self.whole(key, range.clone())? {
                return Ok(number);
            }
        }
        Err(Fault::Config(format!("it has no {}", keys.join(" or "))))
    }

    /// A finite number.
    pub(crate) fn number(&self, key: &str) -> Result<Option<f64>, Fault> {
        self.value(key).map(|value| finite(key, value)).transpose()
    }

    /// A truth value.
    pub(crate) fn flag(&self, key: &str) -> Result<Option<bool>, Fault> {
        let Some(value) = self.value(key) else { return Ok(None) };
        let refuse = || Fault::Config(format!("{key} is {}, and must be true or false", shown(value)));
        value.as_bool().map(Some).ok_or_else(refuse)
    }

    /// A text.
    pub(crate) fn text(&self, key: &str) -> Option<&str> {
        self.value(key)?.as_str()
    }

    /// Tokens of context.
    pub(crate) fn context(&self) -> Result<u64, Fault> {
        self.needed(&["max_position_embeddings", "n_positions"], 1..=limits::CONTEXT_TOKENS)
    }

    /// Rows of the token embedding.
    pub(crate) fn vocabulary(&self) -> Result<u64, Fault> {
        self.needed(&["vocab_size"], 1..=limits::VOCABULARY)
    }

    /// Refuses a model whose `key` says another word than one of these.
    pub(crate) fn expect_word(&self, key: &str, words: &[&str]) -> Result<(), Fault> {
        match self.value(key) {
            None => Ok(()),
            Some(Value::String(word)) if words.contains(&word.as_str()) => Ok(()),
            Some(other) => Err(Fault::Unsupported { what: format!("a model with {key} = {}", shown(other)) }),
        }
    }

    #[cfg(test)]
    pub(crate) fn of(value: Value) -> Self {
        match value {
            Value::Object(map) => Self(map),
            other => panic!("{other} is no configuration"),
        }
    }
}

/// A finite number.
pub(crate) fn finite(key: &str, value: &Value) -> Result<f64, Fault> {
    let refuse = || Fault::Config(format!("{key} is {}, and must be a number", shown(value)));
    // What an f32 cannot hold would be written as an infinity.
    value.as_f64().filter(|number| (*number as f32).is_finite()).ok_or_else(refuse)
}

/// A value as a message may show it.
pub(crate) fn shown(value: &Value) -> String {
    let text = value.to_string();
    if text.chars().count() <= 80 { text } else { text.chars().take(80).chain(['…']).collect() }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn numbers_out_of_their_range_are_named() {
        let config = Config::of(json!({"a": 5, "b": -1, "c": "x", "d": null, "e": 1e300}));
        assert_eq!(config.whole("a", 1..=5).unwrap(), Some(5));
        assert_eq!(config.whole("d", 1..=5).unwrap(), None);
        for key in ["b", "c"] {
            let fault = config.whole(key, 1..=5).unwrap_err();
            assert!(fault.to_string().contains(&format!("{key} is ")), "{fault}");
        }
        assert!(config.number("e").is_err());
        assert!(config.needed(&["x", "y"], 0..=1).unwrap_err().to_string().contains("x or y"));
    }

    #[test]
    fn weights_that_are_quantized_already_name_their_method() {
        let of = |value| Config::of(value).quantization();
        assert_eq!(of(json!({"quantization_config": {"quant_method": "gptq"}})).as_deref(), Some("gptq"));
        assert_eq!(of(json!({"quantization_config": {}})).as_deref(), Some("quantization_config"));
        assert_eq!(of(json!({"quantization_config": null})), None);
    }
}
