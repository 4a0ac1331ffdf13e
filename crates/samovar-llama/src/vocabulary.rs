//! A model's vocabulary with its special tokens known by their texts: text becomes tokens in pieces, and only what may
//! be a control token becomes one.
//!
//! llama.cpp cuts a text at special tokens in a way that is quadratic in their number, and without a pause. So it is cut
//! here, by the same rules (longest token first, from left to right, whitespace beside a token as its attributes say),
//! and llama.cpp tokenizes what lies between: the tokens are those of one call.

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;
use std::thread::Builder;

use aho_corasick::AhoCorasick;
use llama_cpp_2::model::LlamaModel;
use llama_cpp_2::token::LlamaToken;
use llama_cpp_2::token_type::LlamaTokenAttr;
use memchr::memmem::Finder;
use samovar_core::format::gguf::{SPACE_FIRST, SPACE_PREFIX};
use samovar_core::port::PromptControl;
use samovar_prompt::ControlTokens;

use crate::error::Error;
use crate::native::{self, Tokenizer};

/// Pieces between two looks whether the tokens are still wanted.
const PIECES: usize = 256;
/// A prompt that has this many times the context's tokens already need not be counted to its end.
const CERTAINLY_TOO_LONG: usize = 4;

/// Words of a WordPiece vocabulary that are read between two looks, in bytes.
const WORDS_BYTES: usize = 16 << 10;
/// A word of so many characters is read wherever a text is.
const SHORT_WORD_CHARS: usize = 256;
/// A longer one is read in parts.
const LONG_WORD_CHARS: usize = 16_384;
/// For the longest words: several times what they were seen to take.
const STACK_BYTES: usize = 128 << 20;

/// What is known of a vocabulary.
#[derive(Debug)]
pub(crate) struct Vocabulary {
    specials: Vec<Special>,
    /// Which specials a text has at all.
    prefilter: Option<AhoCorasick>,
    /// Their places in `specials`.
    by_text: HashMap<Box<str>, usize>,
    control: Arc<ControlTokens>,
    bos: Option<LlamaToken>,
    eos: Option<LlamaToken>,
    /// A text is cut into words before it is read.
    has_words: bool,
    /// A space is put before the beginning of a text, unless it begins with one. llama.cpp puts none then.
    is_space_first: bool,
    /// Its words are read one by one, and know nothing of each other.
    is_word_piece: bool,
    /// Bytes of text that one token stands for at most; nothing where text may vanish.
    longest_bytes: Option<usize>,
}

/// A token that is found in a text before anything else.
#[derive(Debug)]
struct Special {
    token: LlamaToken,
    finder: Finder<'static>,
    is_control: bool,
    takes_space_before: bool,
    takes_space_after: bool,
}

/// Which parts of a text are control tokens.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Control<'a> {
    /// None: they are text.
    Never,
    /// Wherever one stands.
    Everywhere,
    /// At these places, each of which is exactly one; in order.
    At(&'a [Range<usize>]),
}

/// How tokenizing is bounded.
#[derive(Clone, Copy)]
pub(crate) struct Bounds<'a> {
    /// Tokens that the prompt may have; `None` = any number.
    pub(crate) context_tokens: Option<u32>,
    /// So many tokens are enough: what comes after them need not be read.
    pub(crate) enough: Option<usize>,
    pub(crate) control: &'a dyn PromptControl,
}

impl Bounds<'_> {
    /// Refuses what cannot fit any more.
    fn check(&self, tokens: usize) -> Result<(), Error> {
        match self.context_tokens {
            Some(context) if tokens > context as usize * CERTAINLY_TOO_LONG => {
                Err(Error::PromptFarTooLong { prompt: tokens, context })
            }
            _ => Ok(()),
        }
    }

    fn are_enough(&self, tokens: usize) -> bool {
        self.enough.is_some_and(|enough| tokens >= enough)
    }
}

/// A part of a text, or the token that it is.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(Range<usize>),
    Special(LlamaToken),
}

impl Vocabulary {
    /// Reads the special tokens of a model.
    pub(crate) fn of(model: &LlamaModel) -> Self {
        let vocab = model.vocab();
        let (mut found, mut longest, mut may_vanish) = (Vec::new(), 0, false);
        for token in vocab.tokens() {
            let attributes = *vocab.attr(token);
            let Some(text) = vocab.text(token).and_then(|text| text.to_str().ok()) else { continue };
            let is_control =
                attributes.contains(LlamaTokenAttr::Control) || attributes.contains(LlamaTokenAttr::Unknown);
            if is_control || attributes.contains(LlamaTokenAttr::UserDefined) {
                may_vanish |= attributes.contains(LlamaTokenAttr::LStrip)
                    || attributes.contains(LlamaTokenAttr::RStrip);
                if !text.is_empty() {
                    found.push((text.to_owned(), token, attributes, is_control));
                }
            } else {
                longest = longest.max(text.len());
            }
        }
        found.sort_by_key(|(text, ..)| std::cmp::Reverse(text.len()));
        let tokenizer = native::tokenizer(model);
        let keeps_all = matches!(tokenizer, Tokenizer::SentencePiece | Tokenizer::BytePair);
        let control = ControlTokens::new(
            found.iter().filter(|(.., is_control)| *is_control).map(|(text, ..)| text.clone()),
        );
        let prefilter = AhoCorasick::new(found.iter().map(|(text, ..)| text)).ok();
        // Of two with one text the first is meant.
        let by_text = found.iter().enumerate().rev();
        let by_text = by_text.map(|(place, (text, ..))| (text.as_str().into(), place)).collect();
        let specials = found.into_iter().map(|(text, token, attributes, is_control)| Special {
            token,
            finder: Finder::new(text.as_bytes()).into_owned(),
            is_control,
            takes_space_before: attributes.contains(LlamaTokenAttr::LStrip),
            takes_space_after: attributes.contains(LlamaTokenAttr::RStrip),
        });
        let wanted = |is_added: bool, token: LlamaToken| (is_added && token.0 >= 0).then_some(token);
        // Of these, llama.cpp adds both whatever the file says.
        let is_word_piece = tokenizer == Tokenizer::WordPiece;
        let (bos, eos) = if is_word_piece {
            (wanted(true, vocab.bos()), wanted(true, vocab.sep()))
        } else {
            (wanted(vocab.should_add_bos(), vocab.bos()), wanted(vocab.should_add_eos(), vocab.eos()))
        };
        Self {
            specials: specials.collect(),
            prefilter,
            by_text,
            control: Arc::new(control),
            bos,
            eos,
            has_words: tokenizer == Tokenizer::BytePair,
            is_space_first: model.meta_val_str(SPACE_PREFIX).is_ok_and(|how| how == SPACE_FIRST),
            is_word_piece,
            longest_bytes: (keeps_all && !may_vanish && longest > 0).then_some(longest),
        }
    }

    /// The texts of its control tokens.
    pub(crate) fn control(&self) -> &Arc<ControlTokens> {
        &self.control
    }

    /// The control token with this text.
    pub(crate) fn control_id(&self, text: &str) -> Option<u32> {
        let special = self.by_text.get(text).map(|place| &self.specials[*place])?;
        special.is_control.then_some(special.token.0 as u32)
    }

    /// What it puts before and behind a text, if anything.
    pub(crate) fn ends(&self) -> (Option<LlamaToken>, Option<LlamaToken>) {
        (self.bos, self.eos)
    }

    /// As much of a text's beginning as so many tokens stand for at most; all of it where that is not known.
    pub(crate) fn beginning<'t>(&self, text: &'t str, tokens: usize) -> &'t str {
        let Some(longest) = self.longest_bytes else { return text };
        let mut end = tokens.saturating_mul(longest).min(text.len());
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        &text[..end]
    }

    /// The same of its end.
    pub(crate) fn ending<'t>(&self, text: &'t str, tokens: usize) -> &'t str {
        let Some(longest) = self.longest_bytes else { return text };
        let mut start = text.len().saturating_sub(tokens.saturating_mul(longest));
        while !text.is_char_boundary(start) {
            start += 1;
        }
        &text[start..]
    }

    /// The tokens of a text. `add_special` puts the begin and the end around it, as the vocabulary asks for: the begin
    /// only where the text has none of its own (behind whitespace at most).
    ///
    /// # Errors
    /// That the prompt is too long for the context of `bounds`, or that it is no longer wanted.
    pub(crate) fn tokenize(
        &self,
        model: &LlamaModel,
        text: &str,
        control: Control<'_>,
        add_special: bool,
        bounds: Bounds<'_>,
    ) -> Result<Vec<LlamaToken>, Error> {
        if i32::try_from(text.len()).is_err() {
            return Err(Error::TextTooLong { bytes: text.len() });
        }
        let pieces = self.cut(text, control, bounds)?;
        self.check_length(&pieces, bounds)?;
        let begins_itself = pieces
            .iter()
            .find(|piece| !matches!(piece, Piece::Text(range) if text[range.clone()].trim().is_empty()))
            .is_some_and(|piece| matches!(piece, Piece::Special(token) if Some(*token) == self.bos));
        let mut tokens = Vec::with_capacity(text.len() / 3 + pieces.len() + 2);
        tokens.extend(self.bos.filter(|_| add_special && !begins_itself));
        for (number, piece) in pieces.iter().enumerate() {
            if number % PIECES == 0 && !bounds.control.is_wanted() {
                return Err(Error::PromptUnwanted);
            }
            match piece {
                Piece::Special(token) => tokens.push(*token),
                Piece::Text(range) => {
                    let part = &text[range.clone()];
                    let has_space = part.starts_with([' ', '\u{2581}']);
                    if self.is_space_first && range.start == 0 && !has_space {
                        self.read_within(model, &format!(" {part}"), &mut tokens, bounds)?;
                    } else {
                        self.read_within(model, part, &mut tokens, bounds)?;
                    }
                }
            }
            bounds.check(tokens.len())?;
            if bounds.are_enough(tokens.len()) {
                break;
            }
        }
        tokens.extend(self.eos.filter(|_| add_special));
        Ok(tokens)
    }

    /// Adds the tokens of a text without special tokens, part by part where it has parts, as far as bounds go.
    fn read_within(
        &self,
        model: &LlamaModel,
        text: &str,
        tokens: &mut Vec<LlamaToken>,
        bounds: Bounds<'_>,
    ) -> Result<(), Error> {
        if !self.is_word_piece || text.len() <= WORDS_BYTES {
            return self.read(model, text, tokens);
        }
        let mut rest = text;
        while !rest.is_empty() && !bounds.are_enough(tokens.len()) {
            if !bounds.control.is_wanted() {
                return Err(Error::PromptUnwanted);
            }
            let (part, behind) = rest.split_at(words_end(rest));
            self.read(model, part, tokens)?;
            bounds.check(tokens.len())?;
            rest = behind;
        }
        Ok(())
    }

    /// Adds the tokens of a text without special tokens. Where words are found by C++'s regular expressions, which take
    /// stack for each character of a word, a long word is read on a thread that has enough, and an endless one in parts.
    fn read(&self, model: &LlamaModel, text: &str, tokens: &mut Vec<LlamaToken>) -> Result<(), Error> {
        let of = |text: &str| model.vocab().tokenize(text.as_bytes(), false, false);
        if !self.has_words || text.len() <= SHORT_WORD_CHARS || longest_word(text) <= SHORT_WORD_CHARS {
            tokens.extend(of(text));
            return Ok(());
        }
        tokens.extend(with_stack(|| parts(text).into_iter().flat_map(of).collect::<Vec<_>>())?);
        Ok(())
    }

    /// Refuses by the count of bytes what cannot fit whatever its tokens are.
    fn check_length(&self, pieces: &[Piece], bounds: Bounds<'_>) -> Result<(), Error> {
        let (Some(context), Some(longest)) = (bounds.context_tokens, self.longest_bytes) else {
            return Ok(());
        };
        let (mut tokens, mut bytes) = (0_usize, 0_usize);
        for piece in pieces {
            match piece {
                Piece::Special(_) => tokens += 1,
                Piece::Text(range) => bytes += range.len(),
            }
        }
        let at_least = tokens + bytes.div_ceil(longest);
        if at_least > context as usize {
            return Err(Error::PromptFarTooLong { prompt: at_least, context });
        }
        Ok(())
    }

    /// Cuts a text at its special tokens.
    fn cut(&self, text: &str, control: Control<'_>, bounds: Bounds<'_>) -> Result<Vec<Piece>, Error> {
        let mut pieces = vec![Piece::Text(0..text.len())];
        if let Control::At(places) = control {
            pieces = self.cut_at(text, places);
        }
        for number in self.occurring(text) {
            let special = &self.specials[number];
            if special.is_control && !matches!(control, Control::Everywhere) {
                continue;
            }
            if !bounds.control.is_wanted() {
                return Err(Error::PromptUnwanted);
            }
            let mut cut = Vec::with_capacity(pieces.len());
            for piece in pieces {
                match piece {
                    Piece::Text(range) => special.cut(text, range, &mut cut),
                    special @ Piece::Special(_) => cut.push(special),
                }
            }
            pieces = cut;
        }
        pieces.retain(|piece| !matches!(piece, Piece::Text(range) if range.is_empty()));
        Ok(pieces)
    }

    /// Cuts a text at places that are known to be control tokens.
    fn cut_at(&self, text: &str, places: &[Range<usize>]) -> Vec<Piece> {
        let mut pieces = Vec::with_capacity(places.len() * 2 + 1);
        let mut from = 0;
        for place in places {
            let Some(special) = self.by_text.get(&text[place.clone()]).map(|at| &self.specials[*at]) else {
                continue;
            };
            special.put(text, from.min(place.start)..place.start, &mut pieces);
            from = place.end;
            if special.takes_space_after {
                from = text.len() - trim_start(&text[from..]);
            }
        }
        pieces.push(Piece::Text(from.min(text.len())..text.len()));
        pieces
    }

    /// The specials that a text has, longest first.
    fn occurring(&self, text: &str) -> Vec<usize> {
        let all = || (0..self.specials.len()).collect();
        let Some(prefilter) = &self.prefilter else { return all() };
        let mut has = vec![false; self.specials.len()];
        // Where one begins in another many overlap; then looking for each is no dearer.
        for (number, found) in prefilter.find_overlapping_iter(text).enumerate() {
            has[found.pattern().as_usize()] = true;
            if number > text.len() + 1024 {
                return all();
            }
        }
        (0..self.specials.len()).filter(|number| has[*number]).collect()
    }
}

impl Special {
    /// Cuts a piece of text wherever this token stands in it.
    fn cut(&self, text: &str, mut rest: Range<usize>, into: &mut Vec<Piece>) {
        while let Some(at) = self.finder.find(&text.as_bytes()[rest.clone()]) {
            let begin = rest.start + at;
            self.put(text, rest.start..begin, into);
            rest.start = begin + self.finder.needle().len();
            if self.takes_space_after {
                rest.start = rest.end - trim_start(&text[rest.clone()]);
            }
        }
        into.push(Piece::Text(rest));
    }

    /// The token, and before it the text that comes before it.
    fn put(&self, text: &str, mut before: Range<usize>, into: &mut Vec<Piece>) {
        if self.takes_space_before {
            before.end = before.start + trim_end(&text[before.clone()]);
        }
        into.push(Piece::Text(before));
        into.push(Piece::Special(self.token));
    }
}

/// Where the first words of a text end, which are read together: before what begins a word wherever it stands, and behind
/// so many bytes at least.
fn words_end(text: &str) -> usize {
    let mut from = WORDS_BYTES.min(text.len());
    while !text.is_char_boundary(from) {
        from += 1;
    }
    text[from..].find(ends_word).map_or(text.len(), |behind| from + behind)
}

/// Whether WordPiece ends a word before this character: some of those that it knows as space, as signs, or as words of their
/// own.
///
/// *Source:* `llm_tokenizer_wpm_session::preprocess` in `llama-vocab.cpp`.
fn ends_word(char: char) -> bool {
    is_space(char)
        || char.is_ascii_punctuation()
        // Space, comma and full stop of Chinese and Japanese, and their characters.
        || matches!(char, '\u{3000}'..='\u{3002}' | '\u{3400}'..='\u{4dbf}' | '\u{4e00}'..='\u{9fff}')
}

/// Reads on a thread that has stack for the longest words.
fn with_stack<T: Send>(read: impl FnOnce() -> T + Send) -> Result<T, Error> {
    std::thread::scope(|scope| {
        let reader = Builder::new().name("words".to_owned()).stack_size(STACK_BYTES);
        let reader = reader.spawn_scoped(scope, read);
        let reader = reader.map_err(|error| Error::Thread { detail: error.to_string() })?;
        // A panic there has said why.
        reader.join().map_err(|_| Error::NotTokenized)
    })
}

/// Characters of the longest stretch that is all whitespace or has none.
fn longest_word(text: &str) -> usize {
    let (mut longest, mut length, mut was_space) = (0, 0, false);
    for char in text.chars() {
        length = if char.is_whitespace() == was_space { length + 1 } else { 1 };
        was_space = char.is_whitespace();
        longest = longest.max(length);
    }
    longest
}

/// The text in parts none of which has a word of more than [`LONG_WORD_CHARS`].
fn parts(text: &str) -> Vec<&str> {
    let (mut parts, mut from, mut length, mut was_space) = (Vec::new(), 0, 0, false);
    for (at, char) in text.char_indices() {
        length = if char.is_whitespace() == was_space { length + 1 } else { 1 };
        was_space = char.is_whitespace();
        if length > LONG_WORD_CHARS {
            parts.push(&text[from..at]);
            (from, length) = (at, 1);
        }
    }
    parts.push(&text[from..]);
    parts
}

/// What C takes for whitespace.
fn is_space(char: char) -> bool {
    matches!(char, ' ' | '\t'..='\r')
}

/// Bytes that are left when whitespace at the end is taken away.
fn trim_end(text: &str) -> usize {
    text.trim_end_matches(is_space).len()
}

/// Bytes that are left when whitespace at the beginning is taken away.
fn trim_start(text: &str) -> usize {
    text.trim_start_matches(is_space).len()
}
