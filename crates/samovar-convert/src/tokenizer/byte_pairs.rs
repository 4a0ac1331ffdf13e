//! Vocabularies of BPE over bytes, which llama.cpp calls `gpt2`.

use super::file::{TokenizerFile, Vocabulary, kind_of};
use super::{Files, Settings, Special, Tokens, Wish, no_row, pre, token_type};
use crate::config::{Config, shown};
use crate::error::Fault;
use crate::gguf::{Metadata, Value};

/// Rows of a vocabulary that begins no texts, whatever its files say.
///
/// *Source:* llama.cpp's converter, of the small models of Granite and `SmolLM`.
const NEVER_BEGINS: u64 = 49_152;

pub(super) fn write(
    files: &Files,
    config: &Config,
    wish: &Wish<'_>,
    metadata: &mut Metadata,
) -> Result<(), Fault> {
    let file = files.needed()?;
    check_normalizer(file)?;
    let tokens = tokens(file, files.settings.as_ref(), wish.vocabulary)?;
    if file.model.merges.0.is_empty() {
        return Err(Fault::Tokenizer("a BPE vocabulary without merges".to_owned()));
    }
    let count = tokens.len();
    metadata.text("tokenizer.ggml.model", "gpt2");
    metadata.text("tokenizer.ggml.pre", pre::name(file, wish.architecture)?);
    metadata.set("tokenizer.ggml.tokens", Value::Texts(tokens.texts));
    metadata.set("tokenizer.ggml.token_type", Value::I32s(tokens.types));
    metadata.set("tokenizer.ggml.merges", Value::Texts(file.model.merges.0.clone()));
    let mut special = Special::read(files.file.as_ref(), files.settings.as_ref(), config, count);
    // Nothing is put before or behind a text unless something says so; llama.cpp would guess by the name of the rules.
    let is_framed = wish.is_framed;
    special.adds_begin = Some(special.adds_begin.unwrap_or(is_framed) && wish.vocabulary != NEVER_BEGINS);
    special.adds_end.get_or_insert(is_framed);
    if is_framed {
        special.adds_separator.get_or_insert(true);
    }
    special.write(metadata);
    Ok(())
}

fn tokens(file: &TokenizerFile, settings: Option<&Settings>, vocabulary: u64) -> Result<Tokens, Fault> {
    let Vocabulary::Ids(ids) = &file.model.vocab else {
        return Err(Fault::Tokenizer("a BPE vocabulary whose tokens have no ids".to_owned()));
    };
    let mut tokens = Tokens::new(vocabulary);
    for (text, id) in ids {
        if !tokens.has(*id) {
            return Err(no_row(*id, tokens.len()));
        }
        if tokens.types[*id as usize] != token_type::UNUSED {
            return Err(Fault::Tokenizer(format!("two tokens have the id {id}")));
        }
        tokens.set(*id, text.clone(), token_type::NORMAL);
    }
    for added in &file.added_tokens {
        if !tokens.has(added.id) {
            return Err(no_row(added.id, tokens.len()));
        }
        tokens.add(added.id, &added.content, added.special);
    }
    tokens.name(file, settings);
    Ok(tokens)
}

/// Composed letters stay as they are in llama.cpp; that is known, and rare. Anything else would be another text.
fn check_normalizer(file: &TokenizerFile) -> Result<(), Fault> {
    match TokenizerFile::steps(&file.normalizer, "normalizers")
        .into_iter()
        .find(|step| kind_of(step) != "NFC")
    {
        None => Ok(()),
        Some(step) => {
            Err(Fault::Tokenizer(format!("texts are changed before they are split: {}", shown(step))))
        }
    }
}
