//! The bytes of every token of a model, arranged as grammars need them. It is made once a model, when the first request has
//! a grammar, and takes 0.1 to 0.3 seconds for 150,000 tokens.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use llguidance::ParserFactory;
use llguidance::earley::SlicedBiasComputer;
use samovar_core::Failure;
use toktrie::{InferenceCapabilities, TokEnv, TokRxInfo, TokTrie, TokenizerEnv};

use crate::error::Error;
use crate::limits;
use crate::memory::GrammarMemory;

/// Tokens that a tokenizer may put before a text that begins with a line break.
const TOKENS_BEFORE: usize = 4;

/// One token of a model.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VocabularyToken {
    /// What it adds to a text; of a control token, the text by which templates write it. Empty where there is none.
    pub bytes: Vec<u8>,
    /// It has a meaning for the model instead of text. Only a grammar that names it allows it.
    pub is_control: bool,
    /// It ends an answer. It is allowed exactly where the grammar may end.
    pub is_end: bool,
}

/// What one model can write. Cheap to clone.
#[derive(Clone)]
pub struct Vocabulary {
    pub(crate) shared: Arc<Shared>,
}

/// What all grammars of a model share.
pub(crate) struct Shared {
    pub(crate) factory: ParserFactory,
    /// How many grammars are being compiled.
    compiles: AtomicUsize,
    /// How much memory those that are compiled take.
    pub(crate) memory: Arc<GrammarMemory>,
}

/// The right to compile, until it is dropped.
pub(crate) struct CompilePermit(Arc<Shared>);

impl Vocabulary {
    /// Arranges the tokens of a model; the index is the token's id. `end` is the token that usually ends an answer.
    ///
    /// `tokenize` is the model's own tokenizer: text to tokens, without a token for the beginning, and without reading control
    /// tokens in the text. Forced tokens are what it says, as long as they spell the same bytes. Invalid UTF-8 never
    /// reaches it.
    ///
    /// # Errors
    /// `Unsupported` if there are too many tokens, or none with the id of `end`.
    pub fn new(
        tokens: Vec<VocabularyToken>,
        end: u32,
        tokenize: impl Fn(&[u8]) -> Vec<u32> + Send + Sync + 'static,
    ) -> Result<Self, Failure> {
        let refused = |detail: String| Error::Vocabulary { detail }.into_failure(None);
        if tokens.len() > limits::TOKENS {
            return Err(refused(format!("it has {} tokens; {} are allowed", tokens.len(), limits::TOKENS)));
        }
        let count = tokens.len() as u32;
        if end >= count {
            return Err(refused(format!("its end token {end} is none of its {count} tokens")));
        }
        let (mut words, mut ends) = (Vec::with_capacity(tokens.len()), vec![end]);
        for (id, token) in (0..).zip(tokens) {
            let is_end = token.is_end || id == end;
            if is_end && id != end {
                ends.push(id);
            }
            words.push(word(token, is_end));
        }
        let bytes: usize = words.iter().map(Vec::len).sum();
        if bytes > limits::TOKEN_BYTES_TOTAL {
            let most = limits::TOKEN_BYTES_TOTAL;
            return Err(refused(format!("its tokens have {bytes} bytes; {most} are allowed")));
        }
        let trie = TokTrie::from(&TokRxInfo::new(count, end), &words).with_eos_tokens(&ends);
        let can_spell =
            (0..=u8::MAX).filter(|byte| is_in_utf8(*byte)).all(|byte| trie.token_id(&[byte]).is_some());
        let environment: TokEnv = Arc::new(Tokenizer { trie, tokenize: Box::new(tokenize), can_spell });
        let slices = SlicedBiasComputer::general_slices();
        let mut factory = ParserFactory::new(&environment, InferenceCapabilities::default(), &slices)
            .map_err(|error| refused(error.to_string()))?;
        factory.quiet();
        *factory.limits_mut() = limits::parser_limits();
        let (compiles, memory) = (AtomicUsize::new(0), Arc::default());
        Ok(Self { shared: Arc::new(Shared { factory, compiles, memory }) })
    }

    /// Bytes of the tree of tokens, about.
    pub fn tree_bytes(&self) -> usize {
        self.shared.factory.tok_env().tok_trie().vocab_size() * limits::TREE_TOKEN_BYTES
    }

    /// Bytes of the grammars that are compiled and in use now, at most 64 MiB.
    pub fn grammar_bytes(&self) -> usize {
        self.shared.memory.bytes()
    }
}

impl fmt::Debug for Vocabulary {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tokens = self.shared.factory.tok_env().tok_trie().vocab_size();
        formatter.debug_struct("Vocabulary").field("tokens", &tokens).finish_non_exhaustive()
    }
}

impl CompilePermit {
    /// A permit, unless as many as may compile do so already.
    pub(crate) fn new(shared: &Arc<Shared>) -> Result<Self, Error> {
        let permit = Self(Arc::clone(shared));
        if shared.compiles.fetch_add(1, Ordering::Relaxed) < limits::COMPILES {
            Ok(permit)
        } else {
            Err(Error::Busy)
        }
    }
}

impl Drop for CompilePermit {
    fn drop(&mut self) {
        self.0.compiles.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The bytes by which the parser knows a token: none for a token that it must never allow, and with the mark of a special
/// token for one that is no text. An end token that looks like text would otherwise end an answer in the middle of a string.
fn word(token: VocabularyToken, is_end: bool) -> Vec<u8> {
    let VocabularyToken { mut bytes, is_control, .. } = token;
    if bytes.is_empty() || bytes.len() > limits::TOKEN_BYTES {
        return Vec::new();
    }
    if is_control || is_end {
        bytes.insert(0, TokTrie::SPECIAL_TOKEN_MARKER);
    } else if bytes.first() == Some(&TokTrie::SPECIAL_TOKEN_MARKER) {
        // No text has this byte, and the parser would take the token for a special one.
        return Vec::new();
    }
    bytes
}

/// Whether UTF-8 has this byte anywhere.
const fn is_in_utf8(byte: u8) -> bool {
    !matches!(byte, 0xC0 | 0xC1 | 0xF5..=0xFF)
}

/// Text to tokens, as [`Vocabulary::new`] takes it.
type Tokenize = Box<dyn Fn(&[u8]) -> Vec<u32> + Send + Sync>;

/// The model's tokenizer as the parser calls it.
struct Tokenizer {
    trie: TokTrie,
    tokenize: Tokenize,
    /// Every text has tokens. Without that, no token is forced.
    can_spell: bool,
}

impl Tokenizer {
    /// The tokens of a text, as they are in the middle of an answer.
    fn read(&self, text: &str) -> Vec<u32> {
        let tokens = (self.tokenize)(text.as_bytes());
        if self.spells(&tokens, text) {
            return tokens;
        }
        // Some tokenizers put a space before each text, but not between a line break and what follows.
        let behind = (self.tokenize)(format!("\n{text}").as_bytes());
        let most = TOKENS_BEFORE.min(behind.len());
        let found = (1..=most).find(|start| self.spells(&behind[*start..], text));
        found.map_or(tokens, |start| behind[start..].to_vec())
    }

    fn spells(&self, tokens: &[u32], text: &str) -> bool {
        self.trie.decode_raw(tokens) == text.as_bytes()
    }
}

impl TokenizerEnv for Tokenizer {
    fn tok_trie(&self) -> &TokTrie {
        &self.trie
    }

    /// What the model's tokenizer says if it spells these bytes, and otherwise the longest tokens that do. Tokens that spell
    /// something else would break the grammar.
    fn tokenize_bytes(&self, bytes: &[u8]) -> Vec<u32> {
        let tokens = self.trie.tokenize_with_greedy_fallback(bytes, |text| self.read(text));
        if self.trie.decode_raw(&tokens) == bytes { tokens } else { self.trie.greedy_tokenize(bytes) }
    }

    fn tokenize_is_canonical(&self) -> bool {
        self.can_spell
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes_and(words: &[&str]) -> Vec<VocabularyToken> {
        let bytes = (0..=u8::MAX).map(|byte| vec![byte]);
        let words = words.iter().map(|word| word.as_bytes().to_vec());
        bytes.chain(words).map(|bytes| VocabularyToken { bytes, ..VocabularyToken::default() }).collect()
    }

    fn tokenize(vocabulary: &Vocabulary, text: &str) -> Vec<u32> {
        vocabulary.shared.factory.tok_env().tokenize_bytes(text.as_bytes())
    }

    #[test]
    fn the_models_own_tokenizer_is_used_where_it_spells_the_text() {
        let vocabulary = Vocabulary::new(bytes_and(&["ab", "</s>"]), 257, |text| match text {
            b"ab" => vec![97, 98],
            _ => vec![256],
        });
        let vocabulary = vocabulary.expect("a vocabulary");
        assert_eq!(tokenize(&vocabulary, "ab"), [97, 98]);
        // It says "ab", which is something else: the longest tokens are used.
        assert_eq!(tokenize(&vocabulary, "abc"), [256, 99]);
    }

    #[test]
    fn a_space_that_a_tokenizer_puts_before_a_text_is_left_out() {
        let vocabulary = Vocabulary::new(bytes_and(&[" a", "</s>"]), 257, |text| {
            let mut tokens: Vec<u32> = text.iter().map(|byte| u32::from(*byte)).collect();
            tokens.insert(0, u32::from(b' '));
            tokens
        });
        assert_eq!(tokenize(&vocabulary.expect("a vocabulary"), "a b"), [97, 32, 98]);
    }

    #[test]
    fn invalid_utf8_never_reaches_the_tokenizer() {
        let vocabulary = Vocabulary::new(bytes_and(&["</s>"]), 256, |text| {
            assert!(std::str::from_utf8(text).is_ok());
            text.iter().map(|byte| u32::from(*byte)).collect()
        });
        let vocabulary = vocabulary.expect("a vocabulary");
        let tokens = vocabulary.shared.factory.tok_env().tokenize_bytes(b"a\xe2\x82b");
        assert_eq!(tokens, [97, 0xe2, 0x82, 98]);
    }

    #[test]
    fn vocabularies_that_cannot_be_arranged_are_refused() {
        let none = |_: &[u8]| Vec::new();
        assert!(Vocabulary::new(Vec::new(), 0, none).is_err());
        let failure = Vocabulary::new(bytes_and(&[]), 256, none).expect_err("no such end");
        assert!(failure.message.contains("end token 256"), "{failure}");
        // A token that no tree has room for is never allowed, instead of being a reason to refuse.
        let long = "x".repeat(limits::TOKEN_BYTES + 1);
        assert!(Vocabulary::new(bytes_and(&["</s>", &long]), 256, none).is_ok());
        let many = vec![VocabularyToken { bytes: vec![b'x'; 500], ..VocabularyToken::default() }; 9_000];
        assert!(Vocabulary::new(many, 0, none).is_err());
    }

    #[test]
    fn as_many_grammars_as_allowed_compile_at_once() {
        let vocabulary = Vocabulary::new(bytes_and(&["</s>"]), 256, |_| Vec::new()).expect("a vocabulary");
        let permits: Vec<_> = (0..limits::COMPILES).map(|_| CompilePermit::new(&vocabulary.shared)).collect();
        assert!(permits.iter().all(Result::is_ok));
        assert_eq!(CompilePermit::new(&vocabulary.shared).err(), Some(Error::Busy));
        drop(permits);
        assert!(CompilePermit::new(&vocabulary.shared).is_ok());
    }
}
