//! Probabilities of tokens, in the shape of chats and in that of texts. Each entry is made when it is written.

use std::fmt::Write;

use samovar_core::generation::TokenLogprob;
use serde::ser::SerializeStruct;
use serde::{Serialize, Serializer};
use serde_json::{Map, Value, json};

use super::shape::characters;
use crate::generation::long_list::LongList;

/// What stands for a probability of zero, as JSON has no infinity.
const IMPOSSIBLE: f32 = -9999.0;

fn finite(logprob: f32) -> f32 {
    if logprob.is_finite() { logprob.max(IMPOSSIBLE) } else { IMPOSSIBLE }
}

/// A chat's `logprobs`: a list with an entry for each of these tokens.
#[derive(Clone, Copy, Debug)]
pub(super) struct ChatLogprobs<'a>(pub(super) &'a [TokenLogprob]);

impl Serialize for ChatLogprobs<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut lists = serializer.serialize_struct("ChatLogprobs", 2)?;
        lists.serialize_field("content", &LongList(self.0.iter().map(chat_entry)))?;
        lists.serialize_field("refusal", &())?;
        lists.end()
    }
}

fn chat_entry(token: &TokenLogprob) -> Value {
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

/// A text's `logprobs`: four lists with an entry for each of these tokens.
#[derive(Clone, Copy, Debug)]
pub(super) struct TextLogprobs<'a> {
    pub(super) tokens: &'a [TokenLogprob],
    /// Characters of the text before the first of them.
    pub(super) offset: usize,
}

impl Serialize for TextLogprobs<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let tokens = self.tokens.iter();
        let names = tokens.clone().map(|token| text_name(&token.bytes));
        let logprobs = tokens.clone().map(|token| json!(finite(token.logprob)));
        let offsets = tokens.clone().scan(self.offset, |next, token| {
            let end = *next + characters(&token.bytes);
            Some(std::mem::replace(next, end))
        });
        let mut lists = serializer.serialize_struct("TextLogprobs", 4)?;
        lists.serialize_field("tokens", &LongList(names))?;
        lists.serialize_field("token_logprobs", &LongList(logprobs))?;
        lists.serialize_field("top_logprobs", &LongList(tokens.map(text_entry)))?;
        lists.serialize_field("text_offset", &LongList(offsets))?;
        lists.end()
    }
}

/// One entry of a text's `top_logprobs`: the alternatives, and the token itself.
fn text_entry(token: &TokenLogprob) -> Value {
    let mut top: Map<String, Value> =
        token.top.iter().map(|other| (text_name(&other.bytes), json!(finite(other.logprob)))).collect();
    top.insert(text_name(&token.bytes), json!(finite(token.logprob)));
    top.into()
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

    fn written(logprobs: &impl Serialize) -> String {
        serde_json::to_string(logprobs).expect("plain data")
    }

    #[test]
    fn a_chats_list_has_entries_with_bytes_and_alternatives() {
        let tokens = [token(b"hi", -0.5, vec![token(b"\xc3", f32::NEG_INFINITY, vec![])])];
        let expected = json!({
            "content": [{
                "token": "hi", "logprob": -0.5, "bytes": [104, 105],
                "top_logprobs": [{ "token": "\u{fffd}", "logprob": -9999.0, "bytes": [195] }],
            }],
            "refusal": null,
        });
        assert_eq!(written(&ChatLogprobs(&tokens)), expected.to_string());
        assert_eq!(written(&ChatLogprobs(&[])), r#"{"content":[],"refusal":null}"#);
    }

    #[test]
    fn a_texts_lists_have_an_entry_for_each_token() {
        let tokens = [
            token(b"a", -0.1, vec![token(b"b", -1.5, vec![])]),
            token("é".as_bytes(), -0.5, vec![]),
            token(b"\xff\x01", f32::NAN, vec![]),
        ];
        let likely = f64::from(-0.1_f32);
        let expected = json!({
            "tokens": ["a", "é", "bytes:\\xff\\x01"],
            "token_logprobs": [likely, -0.5, -9999.0],
            "top_logprobs": [{ "b": -1.5, "a": likely }, { "é": -0.5 }, { "bytes:\\xff\\x01": -9999.0 }],
            "text_offset": [7, 8, 9],
        });
        assert_eq!(written(&TextLogprobs { tokens: &tokens, offset: 7 }), expected.to_string());
    }
}
