//! The formats that models are published in.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The format of a model's weights.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Format {
    /// ggml's format: one file, or several parts, with everything that a model needs.
    #[default]
    Gguf,
    /// Hugging Face's format: weights in one file or several, configuration and tokenizer in others beside them.
    Safetensors,
}

impl Format {
    /// As settings and reports write it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Gguf => "gguf",
            Self::Safetensors => "safetensors",
        }
    }

    /// The format of files whose names end so; `None` where the ending says nothing.
    pub fn of_extension(extension: &str) -> Option<Self> {
        [Self::Gguf, Self::Safetensors].into_iter().find(|format| format.as_str() == extension)
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
