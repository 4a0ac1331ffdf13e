//! What a prepared file must show before it gets its name: llama.cpp finds all that its architecture needs, and texts come back from
//! its vocabulary. It computes nothing with the model, and reads no weights.
//!
//! That the ids are those of the published tokenizer is a matter of tests, which have that tokenizer; here is only what was written.

use std::path::Path;

use llama_cpp_2::model::LlamaModel;
use samovar_core::{ErrorKind, Failure};

use crate::log;
use crate::native::{self, Tokenizer};

/// Words of several scripts, spaces, signs and digits.
const TEXTS: [&str; 5] = [
    "Hello, world! It's 12345 o'clock.",
    "  spaces   and\n\n\ttabs \n",
    "naïve façade, Žižkov; Русский текст",
    "日本語の文章 हिन्दी العربية 🦊",
    "fn main() { x += 0x1F; } // <b>&amp;</b>",
];

/// Checks a file that the gate has let through.
///
/// # Errors
/// `EngineFailed`, with what is wrong.
pub(super) fn check(path: &Path) -> Result<(), Failure> {
    let _ = log::take_complaints();
    let Some(model) = native::load_without_weights(path) else {
        return Err(refused(&format!("llama.cpp does not load it: {}", log::take_complaints())));
    };
    match first_that_changes(&model) {
        None => Ok(()),
        Some(text) => Err(refused(&format!("its vocabulary does not give back the text {text:?}"))),
    }
}

/// The first text that does not come back. Vocabularies that change texts, or cannot write all of them, are not asked.
fn first_that_changes(model: &LlamaModel) -> Option<&'static str> {
    if !matches!(native::tokenizer(model), Tokenizer::SentencePiece | Tokenizer::BytePair) {
        return None;
    }
    let vocab = model.vocab();
    let mut has_byte = [false; 256];
    for token in vocab.tokens() {
        if let [byte] = vocab.token_to_piece(token, false, None)[..] {
            has_byte[usize::from(byte)] = true;
        }
    }
    if has_byte.contains(&false) {
        return None;
    }
    TEXTS.into_iter().find(|text| {
        let tokens = vocab.tokenize(text.as_bytes(), false, false);
        let back: Vec<u8> =
            tokens.into_iter().flat_map(|token| vocab.token_to_piece(token, false, None)).collect();
        // Some put a space before every text.
        let is_same = back == text.as_bytes() || back.strip_prefix(b" ") == Some(text.as_bytes());
        !is_same
    })
}

fn refused(what: &str) -> Failure {
    Failure::new(ErrorKind::EngineFailed, format!("the prepared model is refused: {what}"))
        .with_hint("take a repository with GGUF files, and report this with the name of the model")
}
