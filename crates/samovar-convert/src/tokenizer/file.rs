//! `tokenizer.json`, of which nothing is kept that is not needed, and each list has a bound. It never interprets.

use std::fmt;

use samovar_core::format::gguf::limits;
use serde::Deserialize;
use serde::de::{Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

use crate::error::Fault;
use crate::source::json::{self, FromJson};

/// The file.
#[derive(Debug, Deserialize)]
pub(super) struct TokenizerFile {
    #[serde(default, deserialize_with = "added_tokens")]
    pub(super) added_tokens: Vec<AddedToken>,
    #[serde(default, deserialize_with = "json::value")]
    pub(super) normalizer: Value,
    #[serde(default, deserialize_with = "json::value")]
    pub(super) pre_tokenizer: Value,
    #[serde(default, deserialize_with = "json::value")]
    pub(super) post_processor: Value,
    pub(super) model: Model,
}

impl FromJson for TokenizerFile {
    fn from_json<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::deserialize(deserializer)
    }
}

/// A token that was added to the vocabulary later, or has a role in it.
#[derive(Debug, Deserialize)]
pub(super) struct AddedToken {
    pub(super) id: u32,
    pub(super) content: String,
    #[serde(default)]
    pub(super) special: bool,
    /// Whether spaces behind it belong to it.
    #[serde(default)]
    pub(super) rstrip: bool,
}

/// The vocabulary.
#[derive(Debug, Deserialize)]
pub(super) struct Model {
    #[serde(rename = "type")]
    kind: Option<String>,
    pub(super) vocab: Vocabulary,
    #[serde(default)]
    pub(super) merges: Merges,
    pub(super) unk_id: Option<u32>,
    pub(super) unk_token: Option<String>,
    pub(super) byte_fallback: Option<bool>,
    pub(super) ignore_merges: Option<bool>,
    pub(super) continuing_subword_prefix: Option<String>,
}

impl TokenizerFile {
    /// The kind of the vocabulary.
    pub(super) fn kind(&self) -> &str {
        let guess = || match self.model.vocab {
            Vocabulary::Scores(_) => "Unigram",
            Vocabulary::Ids(_) if self.model.merges.0.is_empty() => "WordPiece",
            Vocabulary::Ids(_) => "BPE",
        };
        self.model.kind.as_deref().unwrap_or_else(guess)
    }

    /// Whether it is BPE over bytes, and not BPE over characters with tokens for single bytes.
    pub(super) fn is_byte_pairs(&self) -> Result<bool, Fault> {
        match self.kind() {
            "BPE" => Ok(self.model.byte_fallback != Some(true)),
            other => Err(Fault::Tokenizer(format!("a decoder with a vocabulary of the kind {other:?}"))),
        }
    }

    /// The id of a token by its text.
    pub(super) fn id_of(&self, text: &str) -> Option<u32> {
        let added = self.added_tokens.iter().find(|token| token.content == text).map(|token| token.id);
        added.or_else(|| match &self.model.vocab {
            Vocabulary::Ids(ids) => ids.iter().find(|(known, _)| known == text).map(|(_, id)| *id),
            Vocabulary::Scores(scores) => {
                scores.iter().position(|(known, _)| known == text).map(|id| id as u32)
            }
        })
    }

    /// Steps of a part such as the normalizer, those of sequences one after the other.
    pub(super) fn steps<'a>(part: &'a Value, list: &str) -> Vec<&'a Value> {
        match part.get(list).and_then(Value::as_array) {
            Some(steps) => steps.iter().flat_map(|step| Self::steps(step, list)).collect(),
            None if part.is_null() => Vec::new(),
            None => vec![part],
        }
    }
}

/// The type of a step.
pub(super) fn kind_of(step: &Value) -> &str {
    step.get("type").and_then(Value::as_str).unwrap_or_default()
}

/// The tokens: with their ids, or in their order with scores.
#[derive(Debug)]
pub(super) enum Vocabulary {
    Ids(Vec<(String, u32)>),
    Scores(Vec<(String, f32)>),
}

/// Pairs that are merged, the first ones first, each as two words with a space between them.
#[derive(Debug, Default)]
pub(super) struct Merges(pub(super) Vec<String>);

impl<'de> Deserialize<'de> for Vocabulary {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Tokens;
        impl<'de> Visitor<'de> for Tokens {
            type Value = Vocabulary;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("tokens with ids or scores")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Vocabulary, A::Error> {
                let mut ids = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    bounded(&ids, limits::VOCABULARY)?;
                    ids.push(entry);
                }
                Ok(Vocabulary::Ids(ids))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Vocabulary, A::Error> {
                let mut scores = Vec::new();
                while let Some(entry) = seq.next_element()? {
                    bounded(&scores, limits::VOCABULARY)?;
                    scores.push(entry);
                }
                Ok(Vocabulary::Scores(scores))
            }
        }
        deserializer.deserialize_any(Tokens)
    }
}

impl<'de> Deserialize<'de> for Merges {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Pairs;
        impl<'de> Visitor<'de> for Pairs {
            type Value = Merges;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of pairs")
            }

            fn visit_unit<E: Error>(self) -> Result<Merges, E> {
                Ok(Merges::default())
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Merges, A::Error> {
                let mut merges = Vec::new();
                while let Some(Merge(merge)) = seq.next_element()? {
                    bounded(&merges, limits::ARRAY_ELEMENTS)?;
                    merges.push(merge);
                }
                Ok(Merges(merges))
            }
        }
        deserializer.deserialize_any(Pairs)
    }
}

/// One pair, in either spelling.
struct Merge(String);

impl<'de> Deserialize<'de> for Merge {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Pair;
        impl<'de> Visitor<'de> for Pair {
            type Value = Merge;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("two words")
            }

            fn visit_str<E: Error>(self, words: &str) -> Result<Merge, E> {
                Ok(Merge(words.to_owned()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Merge, A::Error> {
                let mut word = || seq.next_element::<String>();
                let (Some(first), Some(second), None) = (word()?, word()?, word()?) else {
                    return Err(A::Error::custom("a merge is not two words"));
                };
                // A space would be read as the one between the words.
                let inner = |word: String| word.replace(' ', "\u{120}");
                Ok(Merge(format!("{} {}", inner(first), inner(second))))
            }
        }
        deserializer.deserialize_any(Pair)
    }
}

fn added_tokens<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<AddedToken>, D::Error> {
    struct Added;
    impl<'de> Visitor<'de> for Added {
        type Value = Vec<AddedToken>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a list of tokens")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
            let mut tokens = Vec::new();
            while let Some(token) = seq.next_element()? {
                bounded(&tokens, limits::VOCABULARY)?;
                tokens.push(token);
            }
            Ok(tokens)
        }
    }
    deserializer.deserialize_seq(Added)
}

fn bounded<T, E: Error>(list: &[T], limit: u64) -> Result<(), E> {
    if (list.len() as u64) < limit {
        Ok(())
    } else {
        Err(E::custom(format_args!("a list has more than {limit} elements")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(json: &str) -> TokenizerFile {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn both_spellings_of_merges_are_the_same() {
        let old = file(r#"{"model":{"type":"BPE","vocab":{"a":0,"b":1,"ab":2},"merges":["a b"]}}"#);
        let new = file(r#"{"model":{"type":"BPE","vocab":{"a":0,"b":1,"ab":2},"merges":[["a","b"]]}}"#);
        assert_eq!(old.model.merges.0, new.model.merges.0);
        assert!(old.is_byte_pairs().unwrap());
        assert_eq!(new.id_of("ab"), Some(2));
    }

    #[test]
    fn a_vocabulary_says_its_kind_also_without_a_word() {
        assert_eq!(file(r#"{"model":{"vocab":[["a",-1.5]],"unk_id":0}}"#).kind(), "Unigram");
        assert_eq!(file(r#"{"model":{"vocab":{"[UNK]":0},"merges":null}}"#).kind(), "WordPiece");
    }

    #[test]
    fn files_of_another_form_are_refused() {
        let vocabulary = r#""model":{"vocab":{"a":0}}"#;
        let rules = format!(r#"{{"normalizer":[{}0],{vocabulary}}}"#, "0,".repeat(1 << 20));
        for json in
            [r#"{"model":{"vocab":5}}"#, r#"{"model":{"vocab":{"a":-1}}}"#, "{}", "[]", rules.as_str()]
        {
            assert!(serde_json::from_str::<TokenizerFile>(json).is_err(), "{json}");
        }
        let three = r#"{"model":{"vocab":{"a":0},"merges":[["a","a","a"]]}}"#;
        assert!(serde_json::from_str::<TokenizerFile>(three).is_err());
    }
}
