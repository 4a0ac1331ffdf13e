//! BERT's vocabularies: words with a mark before them, and what goes on with a word without one.

use serde_json::Value;

use super::file::{TokenizerFile, Vocabulary, kind_of};
use super::{Files, Settings, Special, Tokens, no_row, token_type};
use crate::config::{Config, shown};
use crate::error::Fault;
use crate::gguf::{self, Metadata};
use crate::source::Folder;

/// What stands before a piece that goes on with a word.
const CONTINUED: &str = "##";

/// Writes the vocabulary of a BERT.
pub(crate) fn write(
    folder: &Folder,
    config: &Config,
    vocabulary: u64,
    metadata: &mut Metadata,
) -> Result<(), Fault> {
    let files = Files::read(folder)?;
    let file = files.needed()?;
    if file.kind() != "WordPiece" {
        return Err(Fault::Tokenizer(format!("a BERT with a vocabulary of the kind {:?}", file.kind())));
    }
    let continued = file.model.continuing_subword_prefix.as_deref().unwrap_or(CONTINUED);
    if continued != CONTINUED {
        return Err(Fault::Tokenizer(format!("pieces that go on with a word begin with {continued:?}")));
    }
    let tokens = tokens(file, files.settings.as_ref(), vocabulary)?;
    let count = tokens.len();
    metadata.text("tokenizer.ggml.model", "bert");
    metadata.text("tokenizer.ggml.pre", "default");
    metadata.set("tokenizer.ggml.tokens", gguf::Value::Texts(tokens.texts));
    metadata.set("tokenizer.ggml.token_type", gguf::Value::I32s(tokens.types));
    normalizer(file, metadata)?;
    for (role, word) in [
        ("bos", "[CLS]"),
        ("eos", "[SEP]"),
        ("unknown", "[UNK]"),
        ("seperator", "[SEP]"),
        ("padding", "[PAD]"),
    ] {
        if let Some(id) = file.id_of(word) {
            metadata.whole(format!("tokenizer.ggml.{role}_token_id"), u64::from(id));
        }
    }
    // What the files say of roles counts more than the usual words.
    Special::read(files.file.as_ref(), files.settings.as_ref(), config, count).write(metadata);
    Ok(())
}

fn tokens(file: &TokenizerFile, settings: Option<&Settings>, vocabulary: u64) -> Result<Tokens, Fault> {
    let Vocabulary::Ids(ids) = &file.model.vocab else {
        return Err(Fault::Tokenizer("a WordPiece vocabulary whose tokens have no ids".to_owned()));
    };
    let mut tokens = Tokens::new(vocabulary);
    // Rows without a token have the mark, too, as the converter of llama.cpp writes them.
    tokens.texts.iter_mut().for_each(|text| *text = marked(text));
    for (text, id) in ids {
        if !tokens.has(*id) {
            return Err(no_row(*id, tokens.len()));
        }
        if tokens.types[*id as usize] != token_type::UNUSED {
            return Err(Fault::Tokenizer(format!("two tokens have the id {id}")));
        }
        tokens.set(*id, marked(text), token_type::NORMAL);
    }
    for added in &file.added_tokens {
        if !tokens.has(added.id) {
            return Err(no_row(added.id, tokens.len()));
        }
        if added.special {
            tokens.set(added.id, added.content.clone(), token_type::CONTROL);
        } else {
            tokens.set(added.id, marked(&added.content), token_type::USER_DEFINED);
        }
    }
    tokens.name(file, settings);
    Ok(tokens)
}

/// A word as llama.cpp has it.
fn marked(text: &str) -> String {
    text.strip_prefix(CONTINUED).map_or_else(|| format!("\u{2581}{text}"), str::to_owned)
}

/// What is done to texts before they are split.
fn normalizer(file: &TokenizerFile, metadata: &mut Metadata) -> Result<(), Fault> {
    for step in TokenizerFile::steps(&file.normalizer, "normalizers") {
        let flag = |key: &str| step.get(key).and_then(Value::as_bool);
        match kind_of(step) {
            "BertNormalizer" => {
                metadata.flag("tokenizer.ggml.normalizer.lowercase", flag("lowercase").unwrap_or(true));
                // Without a word about them accents go where letters become small ones, in both programs.
                if let Some(is_stripped) = flag("strip_accents") {
                    metadata.flag("tokenizer.ggml.normalizer.strip_accents", is_stripped);
                }
            }
            "Lowercase" => metadata.flag("tokenizer.ggml.normalizer.lowercase", true),
            "StripAccents" => metadata.flag("tokenizer.ggml.normalizer.strip_accents", true),
            "NFC" | "NFD" => (),
            _ => {
                return Err(Fault::Tokenizer(format!(
                    "texts are changed before they are split: {}",
                    shown(step)
                )));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_have_a_mark_and_what_goes_on_has_none() {
        let json = r###"{"added_tokens":[{"id":0,"content":"[PAD]","special":true}],
            "model":{"type":"WordPiece","vocab":{"[PAD]":0,"play":1,"##ing":2}}}"###;
        let tokens = tokens(&serde_json::from_str(json).unwrap(), None, 4).unwrap();
        assert_eq!(tokens.texts, ["[PAD]", "\u{2581}play", "ing", "\u{2581}[PAD3]"]);
        assert_eq!(tokens.types, [3, 1, 1, 5]);
    }

    #[test]
    fn a_word_with_a_role_is_a_control_token_although_it_was_not_added() {
        let json = r#"{"model":{"type":"WordPiece","vocab":{"[PAD]":0,"[SEP]":1,"play":2}}}"#;
        let settings = serde_json::json!({"sep_token": {"content": "[SEP]"}, "mask_token": "[MASK]"});
        let settings: Settings = serde_json::from_value(settings).unwrap();
        let tokens = tokens(&serde_json::from_str(json).unwrap(), Some(&settings), 3).unwrap();
        assert_eq!(tokens.texts, ["\u{2581}[PAD]", "[SEP]", "\u{2581}play"]);
        assert_eq!(tokens.types, [1, 3, 1]);
    }
}
