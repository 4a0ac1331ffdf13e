//! What splits a text before pairs are merged: its name in llama.cpp, found by its rules. What llama.cpp does not know is
//! refused, because another split gives other tokens.
//!
//! llama.cpp's converter finds the name by the tokens of a fixed text, so that it knows only the vocabularies that it has
//! seen. The rules themselves are in `tokenizer.json`, so that a new vocabulary with known rules is known, too.
//!
//! *Source:* the rules in `llama-vocab.cpp`, and the published files of the models that it names.

use serde_json::Value;

use super::file::{TokenizerFile, kind_of};
use crate::config::shown;
use crate::error::Fault;

const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN35: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const GPT4O: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const TEKKEN: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// A step that llama.cpp knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step<'a> {
    /// By a regular expression.
    Split(&'a str),
    /// Each digit alone.
    Digits,
    /// Into bytes, by GPT-2's expression before that or not.
    Bytes { is_splitting: bool },
}

/// The name of what splits texts for this vocabulary.
pub(super) fn name(file: &TokenizerFile, architecture: &str) -> Result<&'static str, Fault> {
    let steps = TokenizerFile::steps(&file.pre_tokenizer, "pretokenizers");
    let steps: Vec<Step<'_>> = steps.into_iter().map(step).collect::<Result<_, _>>()?;
    let bytes = Step::Bytes { is_splitting: false };
    let gpt2 = Step::Bytes { is_splitting: true };
    // Whether a text that is a token is taken as one before any pair is merged.
    let is_whole = file.model.ignore_merges == Some(true);
    let found = match (steps.as_slice(), is_whole) {
        ([Step::Split(LLAMA3), last], true) if *last == bytes => Some("llama-bpe"),
        ([Step::Split(LLAMA3), last], false) if *last == bytes => Some("dbrx"),
        ([Step::Split(QWEN2), last], false) if *last == bytes => Some("qwen2"),
        ([Step::Split(QWEN35), last], false) if *last == bytes => Some("qwen35"),
        ([Step::Split(GPT4O), last], false) if *last == bytes => Some("gpt-4o"),
        ([Step::Split(TEKKEN), last], true) if *last == bytes => Some("tekken"),
        ([Step::Digits, last], false) if *last == gpt2 => {
            Some(if architecture == "granite" { "refact" } else { "smollm" })
        }
        ([only], false) if *only == gpt2 => {
            Some(if architecture == "modern-bert" { "modern-bert" } else { "gpt-2" })
        }
        _ => None,
    };
    found.ok_or_else(|| {
        let rules = shown(&file.pre_tokenizer);
        Fault::Tokenizer(format!(
            "llama.cpp has no rule that splits texts so (ignore_merges {is_whole}): {rules}"
        ))
    })
}

fn step(step: &Value) -> Result<Step<'_>, Fault> {
    let flag = |key: &str| step.get(key).and_then(Value::as_bool);
    let refuse = || Fault::Tokenizer(format!("llama.cpp does not split texts so: {}", shown(step)));
    match kind_of(step) {
        "Split" => {
            let pattern =
                step.get("pattern").and_then(|pattern| pattern.get("Regex")).and_then(Value::as_str);
            let is_isolated = step.get("behavior").and_then(Value::as_str) == Some("Isolated");
            let is_plain = is_isolated && flag("invert") != Some(true);
            // Some say it the other way round, and it is the same: all of the text matches.
            let is_removed = step.get("behavior").and_then(Value::as_str) == Some("Removed")
                && flag("invert") == Some(true);
            pattern.filter(|_| is_plain || is_removed).map(Step::Split).ok_or_else(refuse)
        }
        "Digits" if flag("individual_digits") == Some(true) => Ok(Step::Digits),
        "ByteLevel" if flag("add_prefix_space") != Some(true) => {
            Ok(Step::Bytes { is_splitting: flag("use_regex").unwrap_or(true) })
        }
        _ => Err(refuse()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn of(pre_tokenizer: &Value, is_whole: bool, architecture: &str) -> Result<&'static str, Fault> {
        let json = json!({"pre_tokenizer": pre_tokenizer,
            "model": {"type": "BPE", "vocab": {"a": 0}, "merges": ["a a"], "ignore_merges": is_whole}});
        name(&serde_json::from_value(json).unwrap(), architecture)
    }

    fn sequence(pattern: &str) -> Value {
        json!({"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": false},
            {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false}]})
    }

    #[test]
    fn rules_are_known_by_their_expressions() {
        assert_eq!(of(&sequence(LLAMA3), true, "llama").unwrap(), "llama-bpe");
        assert_eq!(of(&sequence(LLAMA3), false, "phi3").unwrap(), "dbrx");
        assert_eq!(of(&sequence(QWEN2), false, "qwen3").unwrap(), "qwen2");
        assert_eq!(of(&sequence(GPT4O), false, "phi3").unwrap(), "gpt-4o");
        assert_eq!(of(&sequence(TEKKEN), true, "llama").unwrap(), "tekken");
    }

    #[test]
    fn digits_and_bytes_are_called_as_the_architecture_has_them() {
        let bytes = json!({"type": "ByteLevel", "add_prefix_space": false, "use_regex": true});
        let digits = json!({"type": "Sequence", "pretokenizers": [
            {"type": "Digits", "individual_digits": true}, bytes]});
        assert_eq!(of(&digits, false, "llama").unwrap(), "smollm");
        assert_eq!(of(&digits, false, "granite").unwrap(), "refact");
        assert_eq!(of(&bytes, false, "llama").unwrap(), "gpt-2");
        assert_eq!(of(&bytes, false, "modern-bert").unwrap(), "modern-bert");
    }

    #[test]
    fn rules_that_llama_cpp_does_not_know_are_refused() {
        for rules in [
            sequence(r"\w+"),
            json!(null),
            json!({"type": "Whitespace"}),
            json!({"type": "ByteLevel"
            , "add_prefix_space": true}),
        ] {
            assert!(matches!(of(&rules, false, "llama"), Err(Fault::Tokenizer(_))), "{rules}");
        }
        assert!(of(&sequence(QWEN2), true, "qwen2").is_err(), "qwen2 merges all texts");
    }
}
