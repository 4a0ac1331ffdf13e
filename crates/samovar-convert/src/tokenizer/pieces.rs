//! SentencePiece's BPE vocabularies, which llama.cpp calls `llama`: pieces with scores.

use std::collections::{HashMap, HashSet};

use samovar_core::format::gguf::{SPACE_FIRST, SPACE_PREFIX};
use serde_json::{Map, Value};

use super::file::{TokenizerFile, Vocabulary, kind_of};
use super::{
    Files, MODEL, SETTINGS_BYTES, SentencePiece, Settings, Special, Tokens, Wish, no_row, token_type,
};
use crate::config::Config;
use crate::error::Fault;
use crate::gguf::{self, Metadata};
use crate::source::Folder;

/// The score of rows without a piece.
const UNUSED: f32 = -10_000.0;
/// The score of tokens that were added later, which are found before any pair is merged.
const ADDED: f32 = -1_000.0;
/// The score of pieces that no merge makes.
const UNMERGED: f32 = -1e9;
/// Rows of `CodeLlama`'s vocabulary, which has tokens for gaps.
const CODE_LLAMA: u64 = 32_016;

/// A name by which llama.cpp knows a vocabulary whose control tokens take the spaces behind them.
const PHI3: &str = "Phi-3";
/// Its tokens that do not.
const PHI3_PLAIN: [&str; 3] = ["<unk>", "<s>", "<|endoftext|>"];
/// A token that does, and that llama.cpp looks for by its text.
const PHI3_END: &str = "</s>";

/// Tokens with scores.
struct Pieces {
    tokens: Tokens,
    scores: Vec<f32>,
    /// Whether a space is put before texts, where the files say it.
    is_space_added: Option<bool>,
}

pub(super) fn write(
    folder: &Folder,
    files: &Files,
    config: &Config,
    wish: &Wish<'_>,
    metadata: &mut Metadata,
) -> Result<(), Fault> {
    let mut pieces = match (folder.bytes(MODEL, super::FILE_BYTES)?, &files.file) {
        (Some(bytes), _) => of_model(&SentencePiece::read(&bytes, MODEL)?, wish.vocabulary)?,
        (None, Some(file)) => of_file(file, wish.vocabulary)?,
        (None, None) => return Err(Fault::Missing { file: MODEL.to_owned() }),
    };
    add_later_ones(&mut pieces, folder, files)?;
    let count = pieces.tokens.len();
    if wish.architecture == "phi3" && takes_spaces(files.file.as_ref(), &pieces.tokens) {
        metadata.text("general.name", PHI3);
    }
    metadata.text("tokenizer.ggml.model", "llama");
    metadata.text("tokenizer.ggml.pre", "default");
    metadata.set("tokenizer.ggml.tokens", gguf::Value::Texts(pieces.tokens.texts));
    metadata.set("tokenizer.ggml.scores", gguf::Value::F32s(pieces.scores));
    metadata.set("tokenizer.ggml.token_type", gguf::Value::I32s(pieces.tokens.types));
    let said = files.settings.as_ref().and_then(|settings| settings.get("add_prefix_space")?.as_bool());
    if files.file.as_ref().is_some_and(puts_space_first) {
        // llama.cpp has no such rule, so that the engine puts the space there.
        metadata.flag("tokenizer.ggml.add_space_prefix", false);
        metadata.text(SPACE_PREFIX, SPACE_FIRST);
    } else if let Some(is_added) = wish.is_space_added.or(said).or(pieces.is_space_added) {
        metadata.flag("tokenizer.ggml.add_space_prefix", is_added);
    }
    if wish.architecture == "llama" && wish.vocabulary == CODE_LLAMA {
        for (key, id) in [("prefix", 32_007), ("suffix", 32_008), ("middle", 32_009), ("eot", 32_010)] {
            metadata.whole(format!("tokenizer.ggml.{key}_token_id"), id);
        }
    }
    Special::read(files.file.as_ref(), files.settings.as_ref(), config, count).write(metadata);
    Ok(())
}

/// Whether control tokens take the spaces behind them as llama.cpp has it for Phi-3, which must have these tokens then.
///
/// *Source:* the attributes of tokens in `llama-vocab.cpp`.
fn takes_spaces(file: Option<&TokenizerFile>, tokens: &Tokens) -> bool {
    let Some(file) = file else { return false };
    let added = &file.added_tokens;
    added.iter().any(|token| token.rstrip)
        && added.iter().all(|token| token.rstrip != PHI3_PLAIN.contains(&token.content.as_str()))
        && PHI3_PLAIN.iter().chain([&PHI3_END]).all(|text| tokens.texts.iter().any(|known| known == text))
}

/// The pieces of `tokenizer.model`. Those behind the last row of the embedding are left out.
fn of_model(model: &SentencePiece, vocabulary: u64) -> Result<Pieces, Fault> {
    if model.is_unigram {
        return Err(Fault::Tokenizer(format!("{MODEL} is a Unigram vocabulary, and llama.cpp merges pairs")));
    }
    let mut tokens = Tokens::new(vocabulary);
    let mut scores = vec![UNUSED; tokens.len()];
    for (id, piece) in model.pieces.iter().enumerate().take(tokens.len()) {
        // Pieces of users are found again among the tokens that were added later.
        let kind = if piece.kind == token_type::USER_DEFINED { token_type::NORMAL } else { piece.kind };
        tokens.set(id as u32, piece.text.clone(), kind);
        scores[id] = piece.score;
    }
    Ok(Pieces { tokens, scores, is_space_added: None })
}

/// The pieces of `tokenizer.json`: of two pairs the one is merged first whose piece has the higher score, so that scores
/// follow from the order of merges.
fn of_file(file: &TokenizerFile, vocabulary: u64) -> Result<Pieces, Fault> {
    let Vocabulary::Ids(ids) = &file.model.vocab else {
        return Err(Fault::Tokenizer("a BPE vocabulary whose tokens have no ids".to_owned()));
    };
    let merges = &file.model.merges.0;
    if merges.is_empty() {
        return Err(Fault::Tokenizer("a BPE vocabulary without merges".to_owned()));
    }
    let mut ranks: HashMap<String, usize> = HashMap::with_capacity(merges.len());
    for (rank, merge) in merges.iter().enumerate() {
        let Some((first, second)) = merge.split_once(' ') else {
            return Err(Fault::Tokenizer("a merge is not two words".to_owned()));
        };
        ranks.entry(format!("{first}{second}")).or_insert(rank);
    }
    let mut tokens = Tokens::new(vocabulary);
    let mut scores = vec![UNUSED; tokens.len()];
    let unknown = file.model.unk_token.as_deref();
    let added: HashSet<u32> = file.added_tokens.iter().map(|added| added.id).collect();
    for (text, id) in ids {
        if !tokens.has(*id) {
            // Some have one token more, for images, than the model for text has rows.
            if added.contains(id) {
                continue;
            }
            return Err(no_row(*id, tokens.len()));
        }
        if tokens.types[*id as usize] != token_type::UNUSED {
            return Err(Fault::Tokenizer(format!("two tokens have the id {id}")));
        }
        let kind = match text.as_str() {
            text if Some(text) == unknown => token_type::UNKNOWN,
            text if is_byte(text) => token_type::BYTE,
            _ => token_type::NORMAL,
        };
        scores[*id as usize] = ranks.get(text).map_or(UNMERGED, |rank| -(*rank as f32) - 1.0);
        tokens.set(*id, text.clone(), kind);
    }
    Ok(Pieces { tokens, scores, is_space_added: Some(is_space_added(file)) })
}

/// Whether a step before the split puts a space before texts.
fn is_space_added(file: &TokenizerFile) -> bool {
    let normalizers = TokenizerFile::steps(&file.normalizer, "normalizers");
    let splits = TokenizerFile::steps(&file.pre_tokenizer, "pretokenizers");
    normalizers.iter().any(|step| kind_of(step) == "Prepend")
        || splits.iter().any(|step| kind_of(step) == "Metaspace" && puts_space(step))
}

/// Whether a space is put before the beginning of a text alone, and not behind control tokens.
fn puts_space_first(file: &TokenizerFile) -> bool {
    let splits = TokenizerFile::steps(&file.pre_tokenizer, "pretokenizers");
    splits.iter().any(|step| {
        kind_of(step) == "Metaspace" && step.get("prepend_scheme").and_then(Value::as_str) == Some("first")
    })
}

/// Whether a step of the kind `Metaspace` puts a space before texts, in either spelling.
pub(super) fn puts_space(step: &Value) -> bool {
    match step.get("prepend_scheme").and_then(Value::as_str) {
        Some(scheme) => scheme != "never",
        None => step.get("add_prefix_space").and_then(Value::as_bool) != Some(false),
    }
}

/// The tokens that were added to the vocabulary later. Those behind the last row of the embedding are left out.
fn add_later_ones(pieces: &mut Pieces, folder: &Folder, files: &Files) -> Result<(), Fault> {
    let mut add = |id: u64, text: &str, is_special: bool| {
        let Some(id) = u32::try_from(id).ok().filter(|id| pieces.tokens.has(*id)) else { return };
        pieces.tokens.add(id, text, is_special);
        pieces.scores[id as usize] = ADDED;
    };
    if let Some(ids) = folder.json::<Map<String, Value>>("added_tokens.json", SETTINGS_BYTES)? {
        for (text, id) in &ids {
            let id =
                id.as_u64().ok_or_else(|| Fault::unsound("added_tokens.json", format!("{id} is no id")))?;
            add(id, text, false);
        }
    }
    if let Some(decoder) = files.settings.as_ref().and_then(decoder_of) {
        for (id, token) in decoder {
            let text = token.get("content").and_then(Value::as_str);
            let (Ok(id), Some(text)) = (id.parse(), text) else {
                return Err(Fault::unsound("tokenizer_config.json", format!("{id:?} is no added token")));
            };
            add(id, text, token.get("special").and_then(Value::as_bool) == Some(true));
        }
    } else {
        for added in files.file.iter().flat_map(|file| &file.added_tokens) {
            add(u64::from(added.id), &added.content, added.special);
        }
    }
    Ok(())
}

fn decoder_of(settings: &Settings) -> Option<&Map<String, Value>> {
    settings.get("added_tokens_decoder")?.as_object().filter(|tokens| !tokens.is_empty())
}

/// Whether a piece stands for a byte, as `<0x0A>` does.
fn is_byte(text: &str) -> bool {
    let digits = text.strip_prefix("<0x").and_then(|rest| rest.strip_suffix('>'));
    digits.is_some_and(|digits| digits.len() == 2 && digits.bytes().all(|digit| digit.is_ascii_hexdigit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_follow_the_order_of_merges() {
        let json = r#"{"normalizer":{"type":"Sequence","normalizers":[{"type":"Prepend","prepend":"▁"}]},
            "model":{"type":"BPE","byte_fallback":true,"unk_token":"<unk>",
            "vocab":{"<unk>":0,"<0x0A>":1,"a":2,"b":3,"ab":4,"aba":5},"merges":["a b","ab a"]}}"#;
        let pieces = of_file(&serde_json::from_str(json).unwrap(), 7).unwrap();
        assert!(pieces.scores[4] > pieces.scores[5] && pieces.scores[5] > pieces.scores[2]);
        assert_eq!(pieces.tokens.types, [2, 6, 1, 1, 1, 1, 5]);
        assert_eq!(pieces.tokens.texts[6], "[PAD6]");
        assert_eq!(pieces.is_space_added, Some(true));
    }

    #[test]
    fn control_tokens_that_take_the_spaces_behind_them_are_those_of_phi_3() {
        let file = |takes: bool| -> TokenizerFile {
            let json = format!(
                r#"{{"added_tokens":[{{"id":0,"content":"<s>"}},{{"id":1,"content":"</s>","rstrip":{takes}}}],
                "model":{{"vocab":{{}}}}}}"#
            );
            serde_json::from_str(&json).unwrap()
        };
        let mut tokens = Tokens::new(4);
        for (id, text) in ["<s>", "</s>", "<unk>", "<|endoftext|>"].into_iter().enumerate() {
            tokens.set(id as u32, text.to_owned(), token_type::CONTROL);
        }
        assert!(takes_spaces(Some(&file(true)), &tokens));
        assert!(!takes_spaces(Some(&file(false)), &tokens) && !takes_spaces(None, &tokens));
        tokens.set(3, "other".to_owned(), token_type::NORMAL);
        assert!(!takes_spaces(Some(&file(true)), &tokens), "llama.cpp would not load it by that name");
    }

    #[test]
    fn a_space_before_the_beginning_alone_is_told_from_one_before_each_part() {
        let file = |scheme: &str| -> TokenizerFile {
            let json = format!(
                r#"{{"pre_tokenizer":{{"type":"Metaspace","prepend_scheme":"{scheme}"}},"model":{{"vocab":{{}}}}}}"#
            );
            serde_json::from_str(&json).unwrap()
        };
        assert!(puts_space_first(&file("first")) && !puts_space_first(&file("always")));
    }
}
