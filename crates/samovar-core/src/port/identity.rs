//! Which engine it is: what everything that one engine made and another must not take is known by.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::error::{ErrorKind, Failure};
use crate::model::Format;

/// The short name of an engine, the same in all its versions, such as `llama.cpp`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct EngineId(String);

impl EngineId {
    /// The engine of this name.
    pub fn new(name: impl Into<String>) -> Self {
        Self(name.into())
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for EngineId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What an engine says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EngineInfo {
    /// Its short name.
    pub id: EngineId,
    /// Name and version, such as `llama.cpp 0.6.0 (llama-cpp-2 0.1.160)`: the id, and what follows it. Part of the key of
    /// saved state.
    pub name: String,
    /// The formats of the models that it runs.
    pub formats: Vec<Format>,
}

/// What is said of a model in a format that no engine runs.
pub(super) fn no_engine_for(format: Format) -> Failure {
    Failure::new(ErrorKind::Unsupported, format!("no engine of this build runs {format} models"))
        .with_param("model")
        .with_hint("take the same model in another format: most are published as GGUF, too")
}
