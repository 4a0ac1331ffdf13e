//! Vocabularies: from the published files of a tokenizer to the keys that llama.cpp reads. It never tokenizes.
//!
//! ```text
//!   tokenizer.json ─┬─ BPE over bytes ─────► byte_pairs   tokens, merges, and the name of what splits texts (pre)
//!                   ├─ BPE with byte tokens ► pieces       scores from tokenizer.model, or from the order of merges
//!   tokenizer.model ┘                                      (sentence_piece reads it)
//!   WordPiece ─────► word_piece      Unigram ─► unigram
//!   all of them ───► special (ids, what is put around texts), template
//! ```

mod byte_pairs;
mod file;
mod pieces;
mod pre;
mod sentence_piece;
mod special;
pub(crate) mod template;
mod unigram;
mod word_piece;

use samovar_core::format::gguf::limits;
use serde_json::{Map, Value};

use crate::config::Config;
use crate::error::Fault;
use crate::gguf::Metadata;
use crate::source::Folder;
use file::TokenizerFile;
use sentence_piece::SentencePiece;
use special::Special;

pub(crate) use unigram::write as unigram;
pub(crate) use word_piece::write as word_piece;

const FILE: &str = "tokenizer.json";
const MODEL: &str = "tokenizer.model";
const FILE_BYTES: u64 = 64 << 20;
const SETTINGS_BYTES: u64 = 16 << 20;

/// Types of tokens.
///
/// *Source:* `enum llama_token_type` of llama.cpp; SentencePiece's own numbers are the same.
mod token_type {
    pub(super) const NORMAL: i32 = 1;
    pub(super) const UNKNOWN: i32 = 2;
    pub(super) const CONTROL: i32 = 3;
    pub(super) const USER_DEFINED: i32 = 4;
    pub(super) const UNUSED: i32 = 5;
    pub(super) const BYTE: i32 = 6;
}

/// What an architecture wants of its vocabulary.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wish<'a> {
    /// As GGUF calls it.
    pub(crate) architecture: &'a str,
    /// Rows of the token embedding: so many tokens there must be.
    pub(crate) vocabulary: u64,
    /// Whether a space is put before texts; `None` where the tokenizer's own files say it.
    pub(crate) is_space_added: Option<bool>,
    /// Whether tokens are put around texts where the tokenizer's own files say nothing.
    pub(crate) is_framed: bool,
}

/// `tokenizer_config.json`.
pub(crate) type Settings = Map<String, Value>;

/// The files of a tokenizer.
struct Files {
    file: Option<TokenizerFile>,
    settings: Option<Settings>,
}

impl Files {
    fn read(folder: &Folder) -> Result<Self, Fault> {
        let file: Option<TokenizerFile> = folder.json(FILE, FILE_BYTES)?;
        let settings = folder.json("tokenizer_config.json", SETTINGS_BYTES)?;
        Ok(Self { file, settings })
    }

    /// `tokenizer.json`, without which this kind of vocabulary is not converted.
    fn needed(&self) -> Result<&TokenizerFile, Fault> {
        self.file.as_ref().ok_or_else(|| Fault::Missing { file: FILE.to_owned() })
    }
}

/// Writes the vocabulary of a decoder.
pub(crate) fn decoder(
    folder: &Folder,
    config: &Config,
    wish: &Wish<'_>,
    metadata: &mut Metadata,
) -> Result<(), Fault> {
    let files = Files::read(folder)?;
    let is_bytes = files.file.as_ref().map(TokenizerFile::is_byte_pairs).transpose()?;
    match is_bytes {
        Some(true) => byte_pairs::write(&files, config, wish, metadata)?,
        Some(false) => pieces::write(folder, &files, config, wish, metadata)?,
        None if folder.has(MODEL) => pieces::write(folder, &files, config, wish, metadata)?,
        None if folder.has("tekken.json") => {
            return Err(Fault::Tokenizer("there is only tekken.json, and no tokenizer.json".to_owned()));
        }
        None => return Err(Fault::Missing { file: format!("{FILE} or {MODEL}") }),
    }
    template::write(folder, files.settings.as_ref(), metadata)
}

/// Writes the vocabulary of a `ModernBERT`.
pub(crate) fn modern_bert(
    folder: &Folder,
    config: &Config,
    vocabulary: u64,
    metadata: &mut Metadata,
) -> Result<(), Fault> {
    let files = Files::read(folder)?;
    if !files.needed()?.is_byte_pairs()? {
        return Err(Fault::Tokenizer("a ModernBERT whose vocabulary is not BPE over bytes".to_owned()));
    }
    let wish = Wish { architecture: "modern-bert", vocabulary, is_space_added: None, is_framed: true };
    byte_pairs::write(&files, config, &wish, metadata)
}

/// Tokens in the making: one for each row of the embedding, which has a name of its own until it is filled in.
struct Tokens {
    texts: Vec<String>,
    types: Vec<i32>,
}

impl Tokens {
    fn new(vocabulary: u64) -> Self {
        let count = vocabulary.min(limits::VOCABULARY) as usize;
        let texts = (0..count).map(|id| format!("[PAD{id}]")).collect();
        Self { texts, types: vec![token_type::UNUSED; count] }
    }

    fn len(&self) -> usize {
        self.texts.len()
    }

    /// Whether there is a row for it.
    fn has(&self, id: u32) -> bool {
        (id as usize) < self.texts.len()
    }

    fn set(&mut self, id: u32, text: String, kind: i32) {
        self.texts[id as usize] = text;
        self.types[id as usize] = kind;
    }

    /// Makes control tokens of those that only `tokenizer_config.json` gives a role, as transformers does.
    fn name(&mut self, file: &TokenizerFile, settings: Option<&Settings>) {
        for text in special::named(settings) {
            let id = file.id_of(&text).filter(|id| self.has(*id));
            // A single sign, such as a `!` for padding, also stands in answers.
            let is_word = text.chars().nth(1).is_some();
            // Those that were added have said what they are.
            if let Some(id) = id.filter(|id| is_word && self.types[*id as usize] == token_type::NORMAL) {
                self.set(id, text, token_type::CONTROL);
            }
        }
    }

    /// Sets a token that was added to the vocabulary later.
    fn add(&mut self, id: u32, text: &str, is_special: bool) {
        if is_special || looks_special(text) {
            self.set(id, text.to_owned(), token_type::CONTROL);
        } else {
            // Its spaces stand as they are in texts.
            self.set(id, text.replace('\u{2581}', " "), token_type::USER_DEFINED);
        }
    }
}

/// Whether a token is for control although its file does not say so.
///
/// *Source:* llama.cpp's converter.
fn looks_special(text: &str) -> bool {
    ["<pad>", "<mask>", "<2mass>", "[@BOS@]"].contains(&text)
        || (text.starts_with("<|") && text.ends_with("|>"))
        || (text.starts_with("<｜") && text.ends_with("｜>"))
        || (text.starts_with("<unused") && text.ends_with('>'))
}

/// That there is a row in the embedding for each token of `tokenizer.json`.
fn no_row(id: u32, vocabulary: usize) -> Fault {
    Fault::Disagree(format!("the tokenizer has a token {id}, and the embedding has {vocabulary} rows"))
}
