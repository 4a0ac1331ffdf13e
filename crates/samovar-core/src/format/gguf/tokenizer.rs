//! The vocabulary: entries, and the arrays and special tokens that belong to them.
//!
//! llama.cpp aborts the process on two equal entries, on byte tokens that name no byte, and where it is to add a token
//! that the vocabulary does not have, so that these are looked for here.

use std::hash::{BuildHasher, RandomState};
use std::io::{Read, Seek};

use super::error::Fault;
use super::infill::Found;
use super::limits;
use super::metadata::Metadata;
use super::value::{self, ValueType};
use crate::infill::InfillTokens;

pub(super) const MODEL: &str = "tokenizer.ggml.model";
pub(super) const TOKENS: &str = "tokenizer.ggml.tokens";
const SCORES: &str = "tokenizer.ggml.scores";
const TOKEN_TYPES: &str = "tokenizer.ggml.token_type";
const MERGES: &str = "tokenizer.ggml.merges";
pub(super) const BOS: &str = "tokenizer.ggml.bos_token_id";
pub(super) const EOS: &str = "tokenizer.ggml.eos_token_id";
pub(super) const ADD_EOS: &str = "tokenizer.ggml.add_eos_token";
const UNKNOWN: &str = "tokenizer.ggml.unknown_token_id";
/// The misspelling is the format's own.
const SEPARATOR: &str = "tokenizer.ggml.seperator_token_id";
/// What llama.cpp takes for a model without a vocabulary; it aborts when it is asked for any token.
const WITHOUT: [&str; 2] = ["none", "no_vocab"];
/// The model of BERT's vocabularies.
const WORD_PIECE: &str = "bert";
/// Besides [`BOS`] and [`EOS`].
const SPECIAL: [&str; 16] = [
    "tokenizer.ggml.eot_token_id",
    "tokenizer.ggml.eom_token_id",
    UNKNOWN,
    SEPARATOR,
    "tokenizer.ggml.padding_token_id",
    "tokenizer.ggml.cls_token_id",
    "tokenizer.ggml.mask_token_id",
    "tokenizer.ggml.fim_pre_token_id",
    "tokenizer.ggml.fim_suf_token_id",
    "tokenizer.ggml.fim_mid_token_id",
    "tokenizer.ggml.fim_pad_token_id",
    "tokenizer.ggml.fim_rep_token_id",
    "tokenizer.ggml.fim_sep_token_id",
    "tokenizer.ggml.prefix_token_id",
    "tokenizer.ggml.suffix_token_id",
    "tokenizer.ggml.middle_token_id",
];
/// Truth values whose type llama.cpp relies on.
const FLAGS: [&str; 4] = [
    ADD_EOS,
    "tokenizer.ggml.add_sep_token",
    "tokenizer.ggml.add_space_prefix",
    "tokenizer.ggml.remove_extra_whitespaces",
];
/// The token type of entries such as `<0x41>`.
const BYTE_TYPE: i32 = 6;
/// Pre-tokenizers of the `gpt2` family that add a begin-of-sequence token unless told otherwise.
///
/// *Source:* `llama-vocab.cpp`.
const PRE_THAT_ADD_BOS: [&str; 11] = [
    "llama3",
    "llama-v3",
    "llama-bpe",
    "falcon3",
    "falcon-h1",
    "pixtral",
    "midm-2.0",
    "lfm2",
    "jina-v5-nano",
    "tekken",
    "chameleon",
];

/// Pre-tokenizers of the `gpt2` family without a begin-of-sequence token of their own.
///
/// *Source:* `llama-vocab.cpp`.
const PRE_WITHOUT_BOS: [&str; 3] = ["chatglm-bpe", "glm4", "glm5"];
/// What begins and ends texts of the others when the file names no token of the vocabulary.
const GPT2_DEFAULT: u64 = 11;

/// Facts of a vocabulary that has passed all checks.
#[derive(Debug, Default)]
pub(super) struct Tokenizer {
    pub(super) vocabulary: u64,
    pub(super) bos_token: Option<String>,
    pub(super) eos_token: Option<String>,
    pub(super) adds_bos: bool,
    pub(super) infill: Option<InfillTokens>,
}

/// Checks the vocabulary. `None` when the file has none.
pub(super) fn read<R: Read + Seek>(metadata: &mut Metadata<R>) -> Result<Option<Tokenizer>, Fault> {
    let model = metadata.text(MODEL, limits::IDENTIFIER_BYTES)?.unwrap_or_default();
    if WITHOUT.contains(&model.as_str()) {
        return Err(Fault::OutOfRange {
            key: MODEL.to_owned(),
            value: format!("{model:?}"),
            range: "one that has tokens".to_owned(),
        });
    }
    let Some(tokens) = metadata.array(TOKENS, &[ValueType::String], "an array of strings")? else {
        return Ok(None);
    };
    let vocabulary = tokens.count;
    if vocabulary == 0 {
        return Err(Fault::EmptyVocabulary);
    }
    if vocabulary > limits::VOCABULARY {
        return Err(Fault::VocabularyTooLarge { count: vocabulary });
    }
    let adds_bos = adds_bos(metadata, &model)?;
    let adds_eos = metadata.boolean(ADD_EOS)?.unwrap_or(false);
    let bos = end_token(metadata, BOS, &model, vocabulary, adds_bos)?;
    let eos = end_token(metadata, EOS, &model, vocabulary, adds_eos)?;
    let mut found = Found::default();
    for key in SPECIAL {
        found.key(key, special_token(metadata, key, vocabulary)?);
    }
    let bos = if model == WORD_PIECE { Some(check_word_piece(metadata, vocabulary)?) } else { bos };
    let mut tokenizer = Tokenizer { vocabulary, adds_bos, ..Tokenizer::default() };
    check_entries(metadata, &model, |id, text| {
        if bos == Some(id) {
            tokenizer.bos_token = Some(text.to_owned());
        }
        if eos == Some(id) {
            tokenizer.eos_token = Some(text.to_owned());
        }
        found.entry(id, text);
    })?;
    tokenizer.infill = found.tokens();
    check_scores(metadata, vocabulary)?;
    metadata.array(MERGES, &[ValueType::String], "an array of strings")?;
    for key in FLAGS {
        metadata.boolean(key)?;
    }
    Ok(Some(tokenizer))
}

/// That a WordPiece vocabulary has what is put around every text and for every unknown word. Returns what begins a text.
fn check_word_piece<R: Read + Seek>(metadata: &mut Metadata<R>, vocabulary: u64) -> Result<u64, Fault> {
    let mut of = |key: &'static str, default: u64| match special_token(metadata, key, vocabulary)? {
        Special::Id(id) => Ok(id),
        Special::Unsaid | Special::Outside(_) if default < vocabulary => Ok(default),
        Special::Outside(id) => Err(Fault::SpecialToken { key, id, vocabulary }),
        Special::Unsaid => Err(Fault::SpecialToken { key, id: default, vocabulary }),
    };
    of(UNKNOWN, 100)?;
    of(SEPARATOR, 102)?;
    of(BOS, 101)
}

/// What a key says of a special token.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Special {
    /// Nothing, or that there is none.
    Unsaid,
    Id(u64),
    /// An id outside of the vocabulary: llama.cpp warns, and uses what it would use if nothing was said.
    Outside(u64),
}

fn special_token<R: Read + Seek>(
    metadata: &mut Metadata<R>,
    key: &'static str,
    vocabulary: u64,
) -> Result<Special, Fault> {
    match metadata.integer(key)? {
        // Converters write "none" as -1, in a signed type or in u32.
        None | Some(-1 | 0xffff_ffff) => Ok(Special::Unsaid),
        Some(id) => match u64::try_from(id) {
            Ok(id) if id < vocabulary => Ok(Special::Id(id)),
            Ok(id) => Ok(Special::Outside(id)),
            Err(_) => Err(Fault::SpecialToken { key, id: id as u64, vocabulary }),
        },
    }
}

/// The token that begins or ends texts. One outside of the vocabulary is no reason to refuse a file, unless llama.cpp
/// has no other and is to add it to every prompt: then it aborts.
pub(super) fn end_token<R: Read + Seek>(
    metadata: &mut Metadata<R>,
    key: &'static str,
    model: &str,
    vocabulary: u64,
    is_added: bool,
) -> Result<Option<u64>, Fault> {
    let sentence_piece = if key == BOS { 1 } else { 2 };
    let default = match special_token(metadata, key, vocabulary)? {
        Special::Id(id) => return Ok(Some(id)),
        Special::Unsaid => (model == "llama").then_some(sentence_piece),
        Special::Outside(id) => {
            let pre = metadata.text("tokenizer.ggml.pre", limits::IDENTIFIER_BYTES)?.unwrap_or_default();
            let default = match model {
                "llama" => Some(sentence_piece),
                "gpt2" if key == BOS && PRE_WITHOUT_BOS.contains(&pre.as_str()) => None,
                "gpt2" => Some(GPT2_DEFAULT),
                _ => None,
            };
            let is_usable = default.is_some_and(|id| id < vocabulary);
            // Of other kinds of vocabularies is not known here which tokens they add.
            if !is_usable && (is_added || model != "gpt2") {
                return Err(Fault::SpecialToken { key, id, vocabulary });
            }
            default
        }
    };
    Ok(default.filter(|id| *id < vocabulary))
}

/// Whether a begin-of-sequence token is added to texts.
pub(super) fn adds_bos<R: Read + Seek>(metadata: &mut Metadata<R>, model: &str) -> Result<bool, Fault> {
    if let Some(adds_bos) = metadata.boolean("tokenizer.ggml.add_bos_token")? {
        return Ok(adds_bos);
    }
    let pre = metadata.text("tokenizer.ggml.pre", limits::IDENTIFIER_BYTES)?.unwrap_or_default();
    Ok(match model {
        "llama" | WORD_PIECE => true,
        "gpt2" => PRE_THAT_ADD_BOS.contains(&pre.as_str()),
        _ => false,
    })
}

/// Checks every entry: that it is the only one of its text, and that byte tokens name bytes.
fn check_entries<R: Read + Seek>(
    metadata: &mut Metadata<R>,
    model: &str,
    mut visit: impl FnMut(u64, &str),
) -> Result<(), Fault> {
    let byte_tokens = byte_tokens(metadata)?;
    let hasher = RandomState::new();
    // The number of entries has been checked against the limit and the file.
    let mut hashes = Vec::with_capacity(seek_entries(metadata)? as usize);
    each_entry(metadata, |id, text| {
        hashes.push(hasher.hash_one(text));
        visit(id, text);
        // The WordPiece detokenizer aborts on any byte token.
        if byte_tokens.get(id) && (model == WORD_PIECE || !names_byte(text)) {
            return Err(Fault::ByteToken { token: id, text: value::shown(text) });
        }
        Ok(())
    })?;
    hashes.sort_unstable();
    let suspect = hashes.windows(2).find(|pair| pair[0] == pair[1]).map(|pair| pair[0]);
    match suspect {
        None => Ok(()),
        Some(hash) => check_same_hash(metadata, |text| hasher.hash_one(text) == hash),
    }
}

/// Tells entries that are equal from different ones that only have the same hash.
fn check_same_hash<R: Read + Seek>(
    metadata: &mut Metadata<R>,
    is_suspect: impl Fn(&str) -> bool,
) -> Result<(), Fault> {
    let mut seen: Vec<String> = Vec::new();
    each_entry(metadata, |_, text| {
        if is_suspect(text) {
            if seen.iter().any(|other| other == text) {
                return Err(Fault::DuplicateToken { text: value::shown(text) });
            }
            seen.push(text.to_owned());
        }
        Ok(())
    })
}

/// Calls `visit` with every entry's id and its text as llama.cpp sees it: cut at a NUL, and with a
/// name for entries without text.
pub(super) fn each_entry<R: Read + Seek>(
    metadata: &mut Metadata<R>,
    mut visit: impl FnMut(u64, &str) -> Result<(), Fault>,
) -> Result<(), Fault> {
    let count = seek_entries(metadata)?;
    for id in 0..count {
        let subject = || format!("token {id}");
        let bytes = value::string_bytes(&mut metadata.reader, limits::TOKEN_BYTES, subject)?;
        let text = metadata.reader.short_text(bytes as usize).map_err(|fault| fault.of(subject))?;
        match text.split_once('\0').map_or(text, |(before, _)| before) {
            "" => visit(id, &format!("[EMPTY_{id}]"))?,
            text => visit(id, text)?,
        }
    }
    Ok(())
}

fn seek_entries<R: Read + Seek>(metadata: &mut Metadata<R>) -> Result<u64, Fault> {
    let elements = metadata.array(TOKENS, &[ValueType::String], "an array of strings")?;
    Ok(elements.map_or(0, |elements| elements.count))
}

fn names_byte(text: &str) -> bool {
    let digits = text.strip_prefix("<0x").and_then(|rest| rest.strip_suffix('>'));
    digits.is_some_and(|digits| digits.len() == 2 && digits.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

/// Which entries are byte tokens.
fn byte_tokens<R: Read + Seek>(metadata: &mut Metadata<R>) -> Result<BitSet, Fault> {
    let vocabulary = seek_entries(metadata)?;
    let Some(types) = metadata.array(TOKEN_TYPES, &[ValueType::I32], "an array of i32")? else {
        return Ok(BitSet::default());
    };
    check_length(TOKEN_TYPES, types.count, vocabulary)?;
    let mut byte_tokens = BitSet::default();
    for id in 0..types.count {
        if i32::from_le_bytes(metadata.reader.array()?) == BYTE_TYPE {
            byte_tokens.set(id);
        }
    }
    Ok(byte_tokens)
}

fn check_scores<R: Read + Seek>(metadata: &mut Metadata<R>, vocabulary: u64) -> Result<(), Fault> {
    let allowed = [ValueType::F32, ValueType::I32];
    let Some(scores) = metadata.array(SCORES, &allowed, "an array of f32")? else { return Ok(()) };
    check_length(SCORES, scores.count, vocabulary)?;
    if scores.element == ValueType::F32 {
        for token in 0..scores.count {
            if f32::from_le_bytes(metadata.reader.array()?).is_nan() {
                return Err(Fault::Score { token });
            }
        }
    }
    Ok(())
}

fn check_length(key: &'static str, count: u64, vocabulary: u64) -> Result<(), Fault> {
    if count == vocabulary { Ok(()) } else { Err(Fault::TokenizerLength { key, count, vocabulary }) }
}

/// A set of small numbers, one bit each.
#[derive(Default)]
struct BitSet(Vec<u64>);

impl BitSet {
    fn set(&mut self, number: u64) {
        let word = (number / 64) as usize;
        if word >= self.0.len() {
            self.0.resize(word + 1, 0);
        }
        self.0[word] |= 1 << (number % 64);
    }

    fn get(&self, number: u64) -> bool {
        self.0.get((number / 64) as usize).is_some_and(|word| word >> (number % 64) & 1 == 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_two_hexadecimal_digits_name_a_byte() {
        for text in ["<0x00>", "<0xfF>"] {
            assert!(names_byte(text), "{text}");
        }
        for text in ["<0x-1>", "<0x1>", "<0x123>", "0x12", "<0x12", "<0xG0>", "", "é"] {
            assert!(!names_byte(text), "{text}");
        }
    }

    #[test]
    fn a_bit_set_holds_what_was_set() {
        let mut set = BitSet::default();
        for number in [0, 63, 64, 1000] {
            set.set(number);
        }
        let held: Vec<u64> = (0..2000).filter(|number| set.get(*number)).collect();
        assert_eq!(held, [0, 63, 64, 1000]);
    }
}
