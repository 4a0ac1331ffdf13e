//! Probabilities of tokens, in the shape of chats and in that of texts.

use std::fmt::Write;

use samovar_core::generation::TokenLogprob;
use serde_json::{Map, Value, json};

/// What stands for a probability of zero, as JSON has no infinity.
const IMPOSSIBLE: f32 = -9999.0;

fn finite(logprob: f32) -> f32 {
    if logprob.is_finite() { logprob.max(IMPOSSIBLE) } else { IMPOSSIBLE }
}

/// One entry of a chat's `logprobs.content`.
pub(super) fn chat_entry(token: &TokenLogprob) -> Value {
    let mut entry = alone(token);
    entry["top_logprobs"] = token.top.iter().map(alone).collect();
    entry
}

fn alone(token: &TokenLogprob) -> Value {
    json!({
        "token": String::from_utf8_lossy(&token.bytes),
        "logprob": finite(token.logprob),
        "bytes": token.bytes,
    })
}

/// A text's `logprobs`: four lists with an entry for each token.
#[derive(Clone, Debug, Default)]
pub(super) struct TextLogprobs {
    tokens: Vec<Value>,
    token_logprobs: Vec<Value>,
    top_logprobs: Vec<Value>,
    text_offset: Vec<Value>,
}

impl TextLogprobs {
    /// Adds a token that begins `offset` characters after the beginning of the text.
    pub(super) fn push(&mut self, token: &TokenLogprob, offset: usize) {
        let name = text_name(&token.bytes);
        let mut top: Map<String, Value> =
            token.top.iter().map(|other| (text_name(&other.bytes), json!(finite(other.logprob)))).collect();
        top.insert(name.clone(), json!(finite(token.logprob)));
        self.tokens.push(Value::String(name));
        self.token_logprobs.push(json!(finite(token.logprob)));
        self.top_logprobs.push(Value::Object(top));
        self.text_offset.push(json!(offset));
    }

    pub(super) fn into_value(self) -> Value {
        json!({
            "tokens": self.tokens,
            "token_logprobs": self.token_logprobs,
            "top_logprobs": self.top_logprobs,
            "text_offset": self.text_offset,
        })
    }
}

/// A token's text; one that is half a character is named by its bytes, so that names stay distinct.
fn text_name(bytes: &[u8]) -> String {
    if let Ok(text) = std::str::from_utf8(bytes) {
        return text.to_owned();
    }
    let mut name = String::from("bytes:");
    for byte in bytes {
        write!(name, "\\x{byte:02x}").expect("invariant: strings take all text");
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(text: &[u8], logprob: f32, top: Vec<TokenLogprob>) -> TokenLogprob {
        TokenLogprob { token: 1, bytes: text.to_vec(), logprob, top }
    }

    #[test]
    fn a_chats_entry_has_bytes_and_alternatives() {
        let entry = chat_entry(&token(b"hi", -0.5, vec![token(b"\xc3", f32::NEG_INFINITY, vec![])]));
        assert_eq!(
            entry,
            json!({
                "token": "hi", "logprob": -0.5, "bytes": [104, 105],
                "top_logprobs": [{ "token": "\u{fffd}", "logprob": -9999.0, "bytes": [195] }],
            })
        );
    }

    #[test]
    fn a_texts_lists_have_an_entry_for_each_token() {
        let mut lists = TextLogprobs::default();
        lists.push(&token(b"a", -0.5, vec![token(b"b", -1.5, vec![])]), 0);
        lists.push(&token(b"\xff\x01", f32::NAN, vec![]), 1);
        assert_eq!(
            lists.into_value(),
            json!({
                "tokens": ["a", "bytes:\\xff\\x01"],
                "token_logprobs": [-0.5, -9999.0],
                "top_logprobs": [{ "b": -1.5, "a": -0.5 }, { "bytes:\\xff\\x01": -9999.0 }],
                "text_offset": [0, 1],
            })
        );
    }
}
