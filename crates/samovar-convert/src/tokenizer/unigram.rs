//! XLM-RoBERTa's vocabularies, which llama.cpp calls `t5`: pieces with their likelihoods, and a table of characters.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::file::{TokenizerFile, Vocabulary, kind_of};
use super::pieces::puts_space;
use super::{Files, Special, Tokens, no_row, token_type};
use crate::config::{Config, shown};
use crate::error::Fault;
use crate::gguf::{self, Metadata};
use crate::source::Folder;

/// The score of rows without a piece.
const UNUSED: f32 = -10_000.0;

/// Writes the vocabulary of an XLM-RoBERTa.
pub(crate) fn write(
    folder: &Folder,
    config: &Config,
    vocabulary: u64,
    metadata: &mut Metadata,
) -> Result<(), Fault> {
    let files = Files::read(folder)?;
    let file = files.needed()?;
    let (tokens, scores) = tokens(file, vocabulary)?;
    let count = tokens.len();
    let normalizers = TokenizerFile::steps(&file.normalizer, "normalizers");
    let splits = TokenizerFile::steps(&file.pre_tokenizer, "pretokenizers");
    metadata.text("tokenizer.ggml.model", "t5");
    metadata.text("tokenizer.ggml.pre", "default");
    metadata.set("tokenizer.ggml.tokens", gguf::Value::Texts(tokens.texts));
    metadata.set("tokenizer.ggml.scores", gguf::Value::F32s(scores));
    metadata.set("tokenizer.ggml.token_type", gguf::Value::I32s(tokens.types));
    let is_space_added = splits.iter().any(|step| kind_of(step) == "Metaspace" && puts_space(step));
    metadata.flag("tokenizer.ggml.add_space_prefix", is_space_added);
    // Spaces become one either where texts are split at them, or by a rule that replaces several by one.
    let is_joined = splits.iter().any(|step| kind_of(step) == "WhitespaceSplit")
        || normalizers.iter().any(|step| kind_of(step) == "Replace");
    metadata.flag("tokenizer.ggml.remove_extra_whitespaces", is_joined);
    if let Some(table) = characters(&normalizers)? {
        metadata.set("tokenizer.ggml.precompiled_charsmap", gguf::Value::Bytes(table));
    }
    Special::read(files.file.as_ref(), files.settings.as_ref(), config, count).write(metadata);
    Ok(())
}

fn tokens(file: &TokenizerFile, vocabulary: u64) -> Result<(Tokens, Vec<f32>), Fault> {
    let Vocabulary::Scores(pieces) = &file.model.vocab else {
        return Err(Fault::Tokenizer(format!(
            "an XLM-RoBERTa with a vocabulary of the kind {:?}",
            file.kind()
        )));
    };
    let mut tokens = Tokens::new(vocabulary);
    let mut scores = vec![UNUSED; tokens.len()];
    if pieces.len() > tokens.len() {
        return Err(no_row(pieces.len() as u32 - 1, tokens.len()));
    }
    for (id, (text, score)) in pieces.iter().enumerate() {
        if !score.is_finite() {
            return Err(Fault::Tokenizer(format!("the token {id} has a score that is no number")));
        }
        let is_unknown = file.model.unk_id == Some(id as u32);
        let kind = if is_unknown { token_type::UNKNOWN } else { token_type::NORMAL };
        tokens.set(id as u32, text.clone(), kind);
        scores[id] = *score;
    }
    for added in &file.added_tokens {
        if !tokens.has(added.id) {
            return Err(no_row(added.id, tokens.len()));
        }
        if tokens.types[added.id as usize] == token_type::UNUSED {
            scores[added.id as usize] = 0.0;
        }
        if file.model.unk_id != Some(added.id) {
            let kind = if added.special { token_type::CONTROL } else { token_type::USER_DEFINED };
            tokens.set(added.id, added.content.clone(), kind);
        }
    }
    Ok((tokens, scores))
}

/// The table that replaces characters. llama.cpp reads it where its beginning says, so that this is checked here.
fn characters(normalizers: &[&Value]) -> Result<Option<Vec<u8>>, Fault> {
    let mut found = None;
    for step in normalizers {
        match kind_of(step) {
            "Precompiled" => {
                let text = step.get("precompiled_charsmap").and_then(Value::as_str).unwrap_or_default();
                let refuse = |_| Fault::unsound("tokenizer.json", "precompiled_charsmap is no base64");
                let table = STANDARD.decode(text).map_err(refuse)?;
                if !table.is_empty() {
                    check_table(&table)?;
                    found = Some(table);
                }
            }
            "Replace" | "Nmt" | "NFKC" | "Strip" => (),
            _ => {
                return Err(Fault::Tokenizer(format!(
                    "texts are changed before they are split: {}",
                    shown(step)
                )));
            }
        }
    }
    Ok(found)
}

/// That the table begins with the size of its first part, which is whole numbers of 32 bits, and ends with a NUL.
fn check_table(table: &[u8]) -> Result<(), Fault> {
    let refuse = || Fault::unsound("tokenizer.json", "precompiled_charsmap contradicts its own size");
    let (size, rest) = table.split_first_chunk::<4>().ok_or_else(refuse)?;
    let size = u32::from_le_bytes(*size) as usize;
    let is_sound = size.is_multiple_of(4) && size > 0 && size < rest.len() && rest.last() == Some(&0);
    if is_sound { Ok(()) } else { Err(refuse()) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn pieces_keep_their_order_and_roles() {
        let json = r#"{"added_tokens":[{"id":0,"content":"<s>","special":true},{"id":3,"content":"<unk>","special":true},
            {"id":5,"content":"<mask>","special":true}],
            "model":{"type":"Unigram","unk_id":3,"vocab":[["<s>",0.0],["<pad>",0.0],["</s>",0.0],["<unk>",0.0],["a",-2.5]]}}"#;
        let (tokens, scores) = tokens(&serde_json::from_str(json).unwrap(), 7).unwrap();
        assert_eq!(tokens.types, [3, 1, 1, 2, 1, 3, 5]);
        assert_eq!(tokens.texts[5], "<mask>");
        assert_eq!(scores[4..].iter().map(|score| *score as i32).collect::<Vec<_>>(), [-2, 0, -10_000]);
    }

    #[test]
    fn a_table_that_leads_beyond_its_end_is_refused() {
        let of = |bytes: &[u8]| {
            let step = json!({"type": "Precompiled", "precompiled_charsmap": STANDARD.encode(bytes)});
            characters(&[&step])
        };
        assert!(of(&[4, 0, 0, 0, 1, 2, 3, 4, b'a', 0]).unwrap().is_some());
        assert!(of(&[]).unwrap().is_none());
        for table in [
            &[255, 255, 255, 255, 0][..],
            &[4, 0, 0],
            &[4, 0, 0, 0, 1, 2, 3, 4],
            &[3, 0, 0, 0, 1, 2, 3, 0, 0],
        ] {
            assert!(of(table).is_err(), "{table:?}");
        }
    }
}
