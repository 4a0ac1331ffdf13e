//! Why a published model is not converted: what is wrong, where, and what helps.

use std::io;
use std::path::PathBuf;

use samovar_core::{ErrorKind, Failure, format, system_words};

/// Characters of one message.
const MESSAGE_CHARACTERS: usize = 600;

/// Why a model is not converted.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Fault {
    /// Something that the converter does not know, by its name.
    #[error("{what} cannot be converted to GGUF")]
    Unsupported { what: String },
    /// Weights whose numbers were packed into fewer bits by another program.
    #[error("the weights are quantized already ({method}), and such weights are not converted")]
    Quantized { method: String },
    /// Weights that only a program can read.
    #[error("the weights are a pickle ({file}), and pickles are never read")]
    Pickle { file: String },
    /// A folder without what makes it a model.
    #[error("the model has no {file}")]
    Missing { file: String },
    /// A file that cannot be read.
    #[error("cannot read {}: {}", .path.display(), system_words(.source))]
    Read { path: PathBuf, source: io::Error },
    /// A file that contradicts itself or its format.
    #[error("{file} is not sound: {what}")]
    Unsound { file: String, what: String },
    /// A number of `config.json` that cannot be.
    #[error("config.json is not sound: {0}")]
    Config(String),
    /// Weights of other shapes or names than the configuration says.
    #[error("config.json and the weights disagree: {0}")]
    Disagree(String),
    /// A folder with an adapter where a model should be.
    #[error("this is an adapter (LoRA), and no model ({file})")]
    IsAdapter { file: String },
    /// An adapter of a kind that GGUF cannot hold, or of a model whose adapters are not converted.
    #[error("an adapter with {what} cannot be converted to GGUF")]
    AdapterWith { what: String },
    /// An adapter that was made for another model.
    #[error("the adapter does not fit the model: {0}")]
    Adapter(String),
    /// A tokenizer that GGUF cannot hold, or that lacks a part.
    #[error("the tokenizer cannot be converted: {0}")]
    Tokenizer(String),
    /// A weight that is infinite or no number.
    #[error("the tensor {0} has weights that are no finite numbers")]
    NotFinite(String),
    /// A file that was written to meanwhile.
    #[error("{0} changed while it was converted")]
    Changed(String),
    /// The caller said stop.
    #[error("the conversion was cancelled")]
    Cancelled,
    /// The file that is made cannot be written.
    #[error("cannot write {}: {}", .path.display(), system_words(.source))]
    Write { path: PathBuf, source: io::Error },
    /// The file that was made is not one that an engine may see.
    #[error("the converted file was refused: {0}")]
    Gate(Box<format::gguf::Error>),
}

impl Fault {
    /// A file that is not sound.
    pub(crate) fn unsound(file: &str, what: impl Into<String>) -> Self {
        Self::Unsound { file: file.to_owned(), what: what.into() }
    }

    fn kind(&self) -> ErrorKind {
        match self {
            Self::Unsupported { .. }
            | Self::Quantized { .. }
            | Self::Pickle { .. }
            | Self::IsAdapter { .. }
            | Self::AdapterWith { .. }
            | Self::Tokenizer(_) => ErrorKind::Unsupported,
            Self::Missing { .. }
            | Self::Unsound { .. }
            | Self::Config(_)
            | Self::Disagree(_)
            | Self::Adapter(_)
            | Self::NotFinite(_)
            | Self::Gate(_) => ErrorKind::InvalidModel,
            Self::Read { .. } | Self::Changed(_) | Self::Write { .. } => ErrorKind::Storage,
            Self::Cancelled => ErrorKind::Cancelled,
        }
    }

    const fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Unsupported { .. } | Self::Tokenizer(_) => Some(
                "look for a repository with GGUF files of this model, or convert it with llama.cpp's convert_hf_to_gguf.py",
            ),
            Self::Quantized { .. } => Some(
                "take the repository that this one was made from, and quantize it here; or one with GGUF files",
            ),
            Self::Pickle { .. } => {
                Some("look for a revision with model.safetensors, or for a repository with GGUF files")
            }
            Self::IsAdapter { .. } => {
                Some("name its model, and write this folder under `adapters` of that name in samovar.toml")
            }
            Self::AdapterWith { .. } => Some(
                "merge the adapter into its model with PEFT's merge_and_unload, and use the merged model",
            ),
            Self::Adapter(_) => {
                Some("take the model that the adapter was made for; its adapter_config.json names it")
            }
            Self::Missing { .. } | Self::Unsound { .. } | Self::NotFinite(_) => {
                Some("fetch the model again; if its source has the same files, tell its author")
            }
            Self::Config(_) | Self::Disagree(_) => {
                Some("take config.json and the weights from the same revision of the model")
            }
            Self::Changed(_) => Some("convert the model again when its files are complete"),
            Self::Write { .. } => Some("see that its folder can be written and has space, then try again"),
            Self::Read { .. } | Self::Cancelled | Self::Gate(_) => None,
        }
    }
}

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Self {
        // Names and values from files are quoted, and may be as long as a file.
        let message = fault.to_string();
        let message = message.chars().filter(|character| !character.is_control()).take(MESSAGE_CHARACTERS);
        let failure = Self::new(fault.kind(), message.collect::<String>()).with_param("model");
        match fault.hint() {
            Some(hint) => failure.with_hint(hint),
            None => failure,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_unknown_is_named_with_what_helps() {
        let failure = Failure::from(Fault::Unsupported { what: "the architecture MambaForCausalLM".into() });
        assert_eq!(failure.kind, ErrorKind::Unsupported);
        assert!(failure.message.contains("MambaForCausalLM"), "{failure:?}");
        assert!(failure.hint.is_some_and(|hint| hint.contains("GGUF")));
    }

    #[test]
    fn a_message_is_short_and_clean_whatever_a_file_holds() {
        let failure = Failure::from(Fault::Disagree("\u{1b}[2J".repeat(10_000)));
        assert_eq!(failure.message.chars().count(), MESSAGE_CHARACTERS);
        assert!(!failure.message.contains('\u{1b}'));
    }
}
