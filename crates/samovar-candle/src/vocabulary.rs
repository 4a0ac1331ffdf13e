//! A model's tokenizer: texts become tokens, and tokens bytes. Only what may be a control token becomes one.
//!
//! Tokens of a text are those of the `tokenizers` library, which its author used. Bytes of a token are those that a text has where
//! it stands: half a character where it is a part of one.

use std::collections::{BTreeSet, HashMap};
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use samovar_convert::PublishedModel;
use samovar_core::Failure;
use samovar_prompt::ControlTokens;
use serde_json::{Map, Value};
use tokenizers::{Encoding, Tokenizer};

use crate::error::Error;

const TOKENIZER_BYTES: u64 = 64 << 20;
const GENERATION_BYTES: u64 = 1 << 20;
/// Tokens that end a turn in the vocabularies of the families that are run, whatever their files say.
const TURN_ENDS: [&str; 8] = [
    "<|im_end|>",
    "<|eot_id|>",
    "<|eom_id|>",
    "<|end_of_text|>",
    "<|endoftext|>",
    "<end_of_turn>",
    "<|end|>",
    "<EOT>",
];

/// Which parts of a text are control tokens.
#[derive(Clone, Copy, Debug)]
pub(crate) enum ControlPlaces<'a> {
    /// None: they are text.
    Never,
    /// Wherever one stands.
    Everywhere,
    /// At these places, each of which is exactly one; in order.
    At(&'a [Range<usize>]),
}

/// A tokenizer, and what is known of its tokens.
#[derive(Debug)]
pub(crate) struct Vocabulary {
    /// Whether it reads control tokens is a switch of its own.
    tokenizer: Mutex<Tokenizer>,
    /// The bytes of each token; of control tokens, their names.
    bytes: Vec<Box<[u8]>>,
    control_ids: HashMap<String, u32>,
    is_control: Vec<bool>,
    control: Arc<ControlTokens>,
    /// What stands before and behind a text.
    begin: Vec<u32>,
    end: Vec<u32>,
    ends_answer: Vec<u32>,
    /// Bytes of text that one token stands for, at most.
    longest_bytes: usize,
}

/// How a tokenizer writes the bytes of its tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Spelling {
    /// Each byte is a character of its own.
    Bytes,
    /// `▁` is a space, and `<0x0A>` a byte.
    Pieces,
    /// `##` goes on with a word, and everything else begins one.
    Words,
}

impl Vocabulary {
    /// That of a published model with so many rows of logits.
    pub(crate) fn read(model: &PublishedModel, rows: u64) -> Result<Self, Failure> {
        let read = |error: tokenizers::Error| Error::Tokenizer { detail: error.to_string() };
        let mut tokenizer = Tokenizer::from_bytes(model.tokenizer(TOKENIZER_BYTES)?).map_err(read)?;
        // How long a text may be, and how texts are batched, is decided here.
        tokenizer.with_truncation(None).map_err(read)?;
        tokenizer.with_padding(None);
        let spelling = Spelling::of(&tokenizer);
        let added = tokenizer.get_added_tokens_decoder();
        let size = rows as usize;
        let mut bytes: Vec<Box<[u8]>> = vec![Box::default(); size];
        let mut is_control = vec![false; size];
        let mut control_ids = HashMap::new();
        for (text, id) in tokenizer.get_vocab(true) {
            let place = id as usize;
            // Some have one token more, for images, than the model for text has rows.
            if place >= size && added.contains_key(&id) {
                continue;
            }
            has_row(id, rows)?;
            match added.get(&id) {
                Some(token) if token.special => {
                    bytes[place] = text.as_bytes().into();
                    is_control[place] = true;
                    control_ids.insert(text, id);
                }
                Some(_) => bytes[place] = text.as_bytes().into(),
                None => bytes[place] = spelling.bytes_of(&text),
            }
        }
        let settings = model.tokenizer_settings()?.unwrap_or_default();
        let names = (token_text(&settings, "bos_token"), token_text(&settings, "eos_token"));
        let (begin, end) = around(&tokenizer, &settings, names.0.as_deref()).map_err(read)?;
        begin.iter().chain(&end).try_for_each(|id| has_row(*id, rows))?;
        let longest_bytes = bytes.iter().map(|bytes| bytes.len()).max().unwrap_or(1).max(1);
        let ends_answer = ends_of_answers(model, names.1.as_deref(), &control_ids, rows)?;
        Ok(Self {
            control: Arc::new(ControlTokens::new(control_ids.keys().cloned())),
            tokenizer: Mutex::new(tokenizer),
            bytes,
            control_ids,
            is_control,
            begin,
            end,
            ends_answer,
            longest_bytes,
        })
    }

    /// Rows of logits.
    pub(crate) fn size(&self) -> u32 {
        self.bytes.len() as u32
    }

    /// The texts of its control tokens.
    pub(crate) fn control(&self) -> &Arc<ControlTokens> {
        &self.control
    }

    /// Tokens that end an answer.
    pub(crate) fn ends_answer(&self) -> &[u32] {
        &self.ends_answer
    }

    /// The text of a control token; `None` for any other.
    pub(crate) fn control_text(&self, token: u32) -> Option<&str> {
        let place = token as usize;
        if !self.is_control.get(place).copied().unwrap_or(false) {
            return None;
        }
        std::str::from_utf8(&self.bytes[place]).ok()
    }

    /// The bytes of a token; none of a control token, unless it `is_named`.
    pub(crate) fn bytes(&self, token: u32, is_named: bool) -> &[u8] {
        match self.bytes.get(token as usize) {
            Some(bytes) if is_named || !self.is_control[token as usize] => bytes,
            _ => &[],
        }
    }

    /// Refuses tokens that it does not have.
    pub(crate) fn check(&self, tokens: &[u32]) -> Result<(), Error> {
        match tokens.iter().find(|token| **token >= self.size()) {
            Some(token) => Err(Error::UnknownToken { token: *token, vocabulary: self.size() }),
            None => Ok(()),
        }
    }

    /// Tokens that a text has at least.
    pub(crate) fn at_least(&self, text: &str) -> usize {
        text.len().div_ceil(self.longest_bytes)
    }

    /// The tokens of a text. `add_special` puts before and behind it what stands there; the begin only where the text has none of
    /// its own.
    pub(crate) fn tokenize(
        &self,
        text: &str,
        places: ControlPlaces<'_>,
        add_special: bool,
    ) -> Result<Vec<u32>, Error> {
        let mut tokens = match places {
            ControlPlaces::Never => self.encode(text, false)?.get_ids().to_vec(),
            ControlPlaces::Everywhere => self.encode(text, true)?.get_ids().to_vec(),
            ControlPlaces::At(places) => self.encode_at(text, places)?,
        };
        if add_special {
            if !self.begin.is_empty() && !tokens.starts_with(&self.begin) {
                tokens.splice(0..0, self.begin.iter().copied());
            }
            tokens.extend(&self.end);
        }
        Ok(tokens)
    }

    /// What lies between the places is read by itself: a part may get the space that some vocabularies put before a text.
    fn encode_at(&self, text: &str, places: &[Range<usize>]) -> Result<Vec<u32>, Error> {
        let mut tokens = Vec::new();
        let mut from = 0;
        for place in places {
            if from < place.start {
                tokens.extend_from_slice(self.encode(&text[from..place.start], false)?.get_ids());
            }
            match self.control_ids.get(&text[place.clone()]) {
                Some(id) => tokens.push(*id),
                None => tokens.extend_from_slice(self.encode(&text[place.clone()], false)?.get_ids()),
            }
            from = place.end;
        }
        if from < text.len() {
            tokens.extend_from_slice(self.encode(&text[from..], false)?.get_ids());
        }
        Ok(tokens)
    }

    /// A text without what stands around it.
    pub(crate) fn encode(&self, text: &str, reads_control: bool) -> Result<Encoding, Error> {
        let mut tokenizer = self.lock();
        tokenizer.set_encode_special_tokens(!reads_control);
        self.checked(tokenizer.encode_fast(text, false))
    }

    /// One text, or two, with what stands around and between them.
    pub(crate) fn frame(&self, first: Encoding, second: Option<Encoding>) -> Result<Encoding, Error> {
        self.checked(self.lock().post_process(first, second, true))
    }

    /// What the tokenizer made of a text. One token without a row would fail all requests of its step.
    fn checked(&self, made: tokenizers::Result<Encoding>) -> Result<Encoding, Error> {
        let made = made.map_err(|error| Error::Tokenizer { detail: error.to_string() })?;
        self.check(made.get_ids())?;
        Ok(made)
    }

    fn lock(&self) -> MutexGuard<'_, Tokenizer> {
        // Its switch is set before each use.
        self.tokenizer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// That the model has a row of logits for a token.
fn has_row(id: u32, rows: u64) -> Result<(), Error> {
    if u64::from(id) < rows {
        return Ok(());
    }
    let detail = format!("it has a token {id}, and the model {rows} rows of logits");
    Err(Error::Tokenizer { detail })
}

/// What the tokenizer puts before and behind a text.
fn around(
    tokenizer: &Tokenizer,
    settings: &Map<String, Value>,
    bos: Option<&str>,
) -> tokenizers::Result<(Vec<u32>, Vec<u32>)> {
    let ids =
        |is_framed| Ok::<_, tokenizers::Error>(tokenizer.encode_fast("a", is_framed)?.get_ids().to_vec());
    let (inner, framed) = (ids(false)?, ids(true)?);
    let place = framed.windows(inner.len().max(1)).position(|window| window == inner).unwrap_or(0);
    let mut begin = framed[..place.min(framed.len())].to_vec();
    let end = framed.get(place + inner.len()..).unwrap_or_default().to_vec();
    // What the settings say counts more, as it does in transformers.
    let bos = bos.and_then(|text| tokenizer.token_to_id(text));
    match (settings.get("add_bos_token").and_then(Value::as_bool), bos) {
        (Some(false), Some(bos)) if begin == [bos] => begin.clear(),
        (Some(true), Some(bos)) if begin.is_empty() => begin.push(bos),
        _ => {}
    }
    Ok((begin, end))
}

/// The text of a token, which stands alone or among its properties.
fn token_text(settings: &Map<String, Value>, key: &str) -> Option<String> {
    let value = settings.get(key)?;
    value.as_str().or_else(|| value.get("content")?.as_str()).map(str::to_owned)
}

/// Tokens that end an answer, as the files say in several places.
fn ends_of_answers(
    model: &PublishedModel,
    eos: Option<&str>,
    control_ids: &HashMap<String, u32>,
    rows: u64,
) -> Result<Vec<u32>, Failure> {
    const KEY: &str = "eos_token_id";
    let generation = model.json("generation_config.json", GENERATION_BYTES)?.unwrap_or_default();
    let mut ends = BTreeSet::new();
    for said in [generation.get(KEY), model.value(KEY)].into_iter().flatten() {
        let numbers = said.as_array().map_or_else(|| std::slice::from_ref(said), Vec::as_slice);
        ends.extend(numbers.iter().filter_map(Value::as_u64).filter(|id| *id < rows).map(|id| id as u32));
    }
    ends.extend(eos.into_iter().chain(TURN_ENDS).filter_map(|name| control_ids.get(name)));
    Ok(ends.into_iter().collect())
}

impl Spelling {
    fn of(tokenizer: &Tokenizer) -> Self {
        let decoder = tokenizer.get_decoder().and_then(|decoder| serde_json::to_string(decoder).ok());
        match decoder.unwrap_or_default() {
            said if said.contains("\"ByteLevel\"") => Self::Bytes,
            said if said.contains("\"WordPiece\"") => Self::Words,
            _ => Self::Pieces,
        }
    }

    fn bytes_of(self, text: &str) -> Box<[u8]> {
        match self {
            Self::Bytes => text.chars().flat_map(bytes_of_character).collect(),
            Self::Words => match text.strip_prefix("##") {
                Some(rest) => rest.as_bytes().into(),
                None => format!(" {text}").into_bytes().into(),
            },
            Self::Pieces => {
                let byte = text.strip_prefix("<0x").and_then(|rest| rest.strip_suffix('>'));
                match byte.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
                    Some(byte) => Box::new([byte]),
                    None => text.replace('\u{2581}', " ").into_bytes().into(),
                }
            }
        }
    }
}

/// The byte that a character stands for in vocabularies over bytes; its own bytes where it stands for none.
///
/// *Source:* `bytes_to_unicode` of GPT-2.
fn bytes_of_character(character: char) -> Vec<u8> {
    let is_shown = |byte: u8| matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
    let code = character as u32;
    match u8::try_from(code) {
        Ok(byte) if is_shown(byte) => vec![byte],
        _ => {
            let hidden = (0..=u8::MAX).filter(|byte| !is_shown(*byte)).nth(code.wrapping_sub(256) as usize);
            hidden.map_or_else(|| character.to_string().into_bytes(), |byte| vec![byte])
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_stand_for_bytes_as_in_gpt_2() {
        for (character, byte) in
            [('A', b'A'), ('Ġ', b' '), ('Ċ', b'\n'), ('Ā', 0), ('ÿ', 0xff), ('ł', 0xa0), ('Ń', 0xad)]
        {
            assert_eq!(bytes_of_character(character), [byte], "{character}");
        }
        assert_eq!(bytes_of_character('東'), "東".as_bytes());
    }

    #[test]
    fn pieces_and_words_are_spelled_as_they_stand_in_texts() {
        assert_eq!(&*Spelling::Pieces.bytes_of("▁the"), b" the");
        assert_eq!(&*Spelling::Pieces.bytes_of("<0x0A>"), b"\n");
        assert_eq!(&*Spelling::Words.bytes_of("##ing"), b"ing");
        assert_eq!(&*Spelling::Words.bytes_of("go"), b" go");
    }
}
