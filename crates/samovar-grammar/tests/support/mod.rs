//! A vocabulary of bytes and some longer tokens, a seeded generator of numbers, and random walks under a grammar.
#![allow(dead_code, reason = "each test program uses a part of it")]

use samovar_core::Constraint;
use samovar_grammar::{Grammar, Rules, Vocabulary, VocabularyToken};

/// Tokens of more than one byte. None of them is a byte's value.
const WORDS: [&str; 30] = [
    "{\"", "\":", "\": ", "\": \"", "\", \"", "\",\"", ", ", ",\"", "\"}", "}}", "}]", "[]", "{}", "name",
    "the", " the", "true", "false", "null", "true,", "00", "123", "12", "type", "value", "value\":", "aa",
    "é", "日本", "  ",
];
/// A control token that is no end.
pub(crate) const CALL: u32 = 256 + WORDS.len() as u32;
/// The token that usually ends an answer.
pub(crate) const END: u32 = CALL + 1;
/// A second one.
pub(crate) const OTHER_END: u32 = END + 1;

/// All tokens by their id.
pub(crate) fn tokens() -> Vec<VocabularyToken> {
    let bytes = (0..=u8::MAX).map(|byte| vec![byte]);
    let words = WORDS.iter().map(|word| word.as_bytes().to_vec());
    let mut tokens: Vec<_> =
        bytes.chain(words).map(|bytes| VocabularyToken { bytes, ..VocabularyToken::default() }).collect();
    for (text, is_end) in [("<tool_call>", false), ("</s>", true), ("<|im_end|>", true)] {
        tokens.push(VocabularyToken { bytes: text.as_bytes().to_vec(), is_control: true, is_end });
    }
    tokens
}

/// The vocabulary with a tokenizer that takes the longest token.
pub(crate) fn vocabulary() -> Vocabulary {
    Vocabulary::new(tokens(), END, longest).expect("a vocabulary")
}

/// A text as this vocabulary's tokenizer reads it.
pub(crate) fn longest(mut text: &[u8]) -> Vec<u32> {
    let mut read = Vec::new();
    while let Some(first) = text.first() {
        let word = WORDS.iter().enumerate().filter(|(_, word)| text.starts_with(word.as_bytes()));
        let (token, bytes) = match word.max_by_key(|(_, word)| word.len()) {
            Some((index, word)) => (256 + index as u32, word.len()),
            None => (u32::from(*first), 1),
        };
        read.push(token);
        text = &text[bytes..];
    }
    read
}

/// The bytes of tokens; end tokens have none.
pub(crate) fn spell(read: &[u32]) -> Vec<u8> {
    let tokens = tokens();
    let of_text = read.iter().filter(|token| **token < END);
    of_text.flat_map(|token| tokens[*token as usize].bytes.clone()).collect()
}

/// Rules of a constraint that must compile.
pub(crate) fn rules(vocabulary: &Vocabulary, constraint: Constraint) -> Rules {
    let grammar = Grammar::Constraint(constraint);
    let compiled = vocabulary.compile(&grammar, "response_format", &|| true);
    compiled.unwrap_or_else(|failure| panic!("{failure}: {grammar:?}"))
}

/// Numbers that are the same in each run (xorshift).
pub(crate) struct Rng(u64);

impl Rng {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub(crate) fn below(&mut self, most: usize) -> usize {
        (self.next() >> 33) as usize % most
    }

    pub(crate) fn chance(&mut self, of: usize) -> bool {
        self.below(of) == 0
    }
}

/// Writes an answer by choosing any allowed token. After `most_tokens` it prefers what ends soon. `None` if it did not end.
pub(crate) fn walk(rules: &mut Rules, rng: &mut Rng, most_tokens: usize) -> Option<String> {
    let mut written = Vec::new();
    for step in 0..most_tokens * 2 {
        let mask = rules.mask().unwrap_or_else(|failure| panic!("{failure} after {:?}", spell(&written)));
        let allowed: Vec<u32> = mask.tokens().collect();
        assert_eq!(allowed.len(), mask.count());
        let ends = [END, OTHER_END].map(|end| mask.allows(end));
        assert_eq!(ends[0], ends[1], "either both ends are allowed, or none");
        assert!(!mask.allows(CALL), "no grammar here names the control token");
        let token = if ends[0] && (rng.chance(8) || step >= most_tokens) {
            if rng.chance(2) { END } else { OTHER_END }
        } else {
            let closing = allowed.iter().find(|token| matches!(**token, 0x22 | 0x5D | 0x7D));
            match closing {
                Some(token) if rng.chance(6) || step >= most_tokens => *token,
                _ => allowed[rng.below(allowed.len())],
            }
        };
        if token >= END {
            return Some(String::from_utf8(spell(&written)).expect("UTF-8"));
        }
        rules.accept(token).unwrap_or_else(|failure| panic!("{failure} after {:?}", spell(&written)));
        written.push(token);
    }
    None
}
