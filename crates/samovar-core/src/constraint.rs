//! What an answer must look like: a request may say so, and then the model can write nothing else.
//!
//! The daemon only checks its size and that JSON is JSON. It is read and compiled where the model is.

use serde::{Deserialize, Serialize};

/// What an answer must look like.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Constraint {
    /// Any JSON object.
    JsonObject,
    /// JSON that this JSON schema allows.
    JsonSchema(String),
    /// Text that this regular expression matches from its beginning to its end.
    Regex(String),
    /// Text of this grammar, in the form of Lark as llguidance reads it; it begins with the rule `start`.
    Lark(String),
    /// Text of this grammar, in llama.cpp's form of BNF; it begins with the rule `root`.
    Gbnf(String),
}

impl Constraint {
    /// What was written to say it; nothing for any JSON object.
    pub fn source(&self) -> &str {
        match self {
            Self::JsonObject => "",
            Self::JsonSchema(source) | Self::Regex(source) | Self::Lark(source) | Self::Gbnf(source) => {
                source
            }
        }
    }

    /// Its kind as people read it.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::JsonObject => "a JSON object",
            Self::JsonSchema(_) => "a JSON schema",
            Self::Regex(_) => "a regular expression",
            Self::Lark(_) => "a Lark grammar",
            Self::Gbnf(_) => "a GBNF grammar",
        }
    }
}
