//! The fake language: 256 bytes, a few control tokens, and words.

/// Beginning of a sequence.
pub(super) const BOS: u32 = 256;
/// End of a sequence.
pub(super) const EOS: u32 = 257;
const CONTROL: [&str; 4] = ["<s>", "</s>", "<|im_start|>", "<|im_end|>"];
const FIRST_WORD: u32 = 256 + CONTROL.len() as u32;
/// Each is a token with a space before it.
const WORDS: [&str; 60] = [
    "a", "the", "and", "of", "in", "to", "on", "with", "under", "over", "fox", "kettle", "owl", "river",
    "samovar", "garden", "teapot", "cup", "morning", "evening", "winter", "village", "road", "friend",
    "story", "song", "lamp", "window", "bread", "honey", "small", "brave", "quiet", "warm", "bright", "old",
    "clever", "gentle", "golden", "silver", "walked", "sang", "found", "saw", "poured", "waited", "listened",
    "smiled", "shared", "kept", "once", "then", "soon", "again", "never", "always", "here", "there", "home",
    "together",
];

/// A template in the form that chat models carry.
pub(super) const CHAT_TEMPLATE: &str = "{% for message in messages %}<|im_start|>{{ message.role }}\n\
{{ message.content }}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";

/// How many tokens there are.
pub(super) const fn size() -> u32 {
    FIRST_WORD + WORDS.len() as u32
}

/// The tokens that are words.
pub(super) fn words() -> std::ops::Range<u32> {
    FIRST_WORD..size()
}

/// Whether generation ends with this token.
pub(super) fn ends_generation(token: u32) -> bool {
    token == EOS || token == EOS + 2
}

/// Ids of a text: the longest word at each place, else its byte.
pub(super) fn tokenize(text: &str, parse_special: bool) -> Vec<u32> {
    let mut tokens = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((byte, after)) = rest.split_first() {
        let control = if parse_special { control_at(rest) } else { None };
        let (token, length) = control.or_else(|| word_at(rest)).unwrap_or((u32::from(*byte), 1));
        tokens.push(token);
        rest = if length == 1 { after } else { &rest[length..] };
    }
    tokens
}

fn control_at(rest: &[u8]) -> Option<(u32, usize)> {
    let index = CONTROL.iter().position(|text| rest.starts_with(text.as_bytes()))?;
    Some((BOS + index as u32, CONTROL[index].len()))
}

/// A word token matches only a whole word, so that the same word is always the same token.
fn word_at(rest: &[u8]) -> Option<(u32, usize)> {
    let letters = rest.strip_prefix(b" ")?;
    let length = letters.iter().position(|byte| !byte.is_ascii_lowercase()).unwrap_or(letters.len());
    let index = WORDS.iter().position(|word| word.as_bytes() == &letters[..length])?;
    Some((FIRST_WORD + index as u32, length + 1))
}

/// The bytes of a token, control tokens in their written form; empty outside the vocabulary.
pub(super) fn bytes_of(token: u32) -> Vec<u8> {
    if let Ok(byte) = u8::try_from(token) {
        return vec![byte];
    }
    if let Some(text) = CONTROL.get((token - BOS) as usize) {
        return text.as_bytes().to_vec();
    }
    WORDS.get((token - FIRST_WORD) as usize).map(|word| format!(" {word}").into_bytes()).unwrap_or_default()
}

/// Whether this is a control token.
pub(super) fn is_control(token: u32) -> bool {
    (BOS..FIRST_WORD).contains(&token)
}

/// The written form of a token.
pub(super) fn text_of(token: u32) -> String {
    String::from_utf8_lossy(&bytes_of(token)).into_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn words_and_control_tokens_are_single_tokens() {
        assert_eq!(tokenize(" fox kettle", false).len(), 2);
        assert_eq!(tokenize("</s>", true), [EOS]);
        assert_eq!(tokenize("</s>", false).len(), 4);
        assert_eq!(tokenize(" foxes", false).len(), 6);
    }

    proptest! {
        #[test]
        fn text_and_back_is_the_same(text: String, parse_special: bool) {
            let bytes: Vec<u8> = tokenize(&text, parse_special).into_iter().flat_map(bytes_of).collect();
            prop_assert_eq!(bytes, text.into_bytes());
        }
    }
}
