//! What requests to a model begin with where they say nothing else, and names that users created to carry it.

use samovar_store::KeyDigest;
use serde::{Deserialize, Serialize};

use crate::request::Message;
use crate::sampling::SamplingOptions;

/// What requests to a model begin with where they say nothing else: what its author set, and what a user created over it.
#[non_exhaustive]
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Preset {
    /// What conversations begin with that have no system message of their own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub system: Option<String>,
    /// The template of conversations instead of the model's own: Jinja, or the name of a built-in one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub template: Option<String>,
    /// Messages that stand before those of every conversation.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub messages: Vec<Message>,
    /// Strings that end answers.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub stop: Vec<String>,
    /// How tokens are chosen.
    pub sampling: SamplingOptions,
    /// Tokens of an answer at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_tokens: Option<u32>,
    /// Tokens of context for each slot.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub context_tokens: Option<u32>,
    /// The terms under which the model may be used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub license: Option<String>,
}

impl Preset {
    /// What is said here, and `fallback`'s where nothing is.
    #[must_use]
    pub fn or(&self, fallback: &Self) -> Self {
        let list =
            |own: &Vec<String>, other: &Vec<String>| if own.is_empty() { other.clone() } else { own.clone() };
        Self {
            system: self.system.clone().or_else(|| fallback.system.clone()),
            template: self.template.clone().or_else(|| fallback.template.clone()),
            messages: if self.messages.is_empty() {
                fallback.messages.clone()
            } else {
                self.messages.clone()
            },
            stop: list(&self.stop, &fallback.stop),
            sampling: self.sampling.or(&fallback.sampling),
            max_tokens: self.max_tokens.or(fallback.max_tokens),
            context_tokens: self.context_tokens.or(fallback.context_tokens),
            license: self.license.clone().or_else(|| fallback.license.clone()),
        }
    }
}

/// What a created name was made from.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CreatedFrom {
    /// A model that goes by this reference: a name of the settings, a file, or what a store fetches.
    Model(String),
    /// Bytes that a user sent, which lie in the store.
    Artifact(KeyDigest),
}

/// A name that a user created over a model, with what its requests begin with. It lies in the store, and outlives restarts.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CreatedModel {
    /// The name that requests use.
    pub name: String,
    /// The model behind it; never another created name, whose preset was taken over instead.
    pub from: CreatedFrom,
    /// What the user called that model.
    #[serde(default)]
    pub parent: String,
    /// What its requests begin with.
    pub preset: Preset,
    /// When it was created, in seconds since 1970.
    pub created_unix_s: u64,
}

/// What a name is to be created from.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CreateFrom {
    /// Another model, by any reference.
    Model(String),
    /// A file of weights that was sent to the store, by its digest.
    Blob(samovar_core::Digest),
}

/// What deleting a model took away.
#[non_exhaustive]
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Deleted {
    /// Bytes of the disk that are free now.
    pub freed_bytes: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_name_says_counts_more_than_what_it_was_made_from() {
        let base = Preset {
            system: Some("Rhyme.".to_owned()),
            stop: vec!["a".to_owned()],
            sampling: SamplingOptions {
                top_k: Some(3),
                temperature: Some(0.5),
                ..SamplingOptions::default()
            },
            messages: vec![Message::user("Hi")],
            context_tokens: Some(128),
            ..Preset::default()
        };
        assert_eq!(Preset::default().or(&base), base);
        let own = Preset {
            system: Some("Be brief.".to_owned()),
            sampling: SamplingOptions { top_k: Some(7), ..SamplingOptions::default() },
            max_tokens: Some(9),
            ..Preset::default()
        };
        let both = own.or(&base);
        assert_eq!((both.system.as_deref(), both.max_tokens), (Some("Be brief."), Some(9)));
        assert_eq!((both.sampling.top_k, both.sampling.temperature), (Some(7), Some(0.5)));
        assert_eq!((both.stop, both.context_tokens), (base.stop, Some(128)));
    }

    #[test]
    fn a_created_name_is_written_without_what_it_leaves_open() {
        let model = CreatedModel {
            name: "poet".to_owned(),
            from: CreatedFrom::Model("demo".to_owned()),
            parent: "demo".to_owned(),
            preset: Preset { system: Some("Rhyme.".to_owned()), ..Preset::default() },
            created_unix_s: 7,
        };
        let json = serde_json::to_value(&model).expect("JSON");
        let expected = serde_json::json!({ "name": "poet", "from": { "model": "demo" }, "parent": "demo",
            "preset": { "system": "Rhyme.", "sampling": {} }, "created_unix_s": 7 });
        assert_eq!(json, expected);
        assert_eq!(serde_json::from_value::<CreatedModel>(json).expect("reads"), model);
    }
}
