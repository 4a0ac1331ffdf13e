//! The control tokens of a vocabulary, as texts: what a template may write and people may not.

use std::collections::{BTreeSet, HashSet};
use std::ops::{Bound, Range};

use aho_corasick::{AhoCorasick, MatchKind};

/// Pieces of a control token that a template may put together, at least: one character says too little.
const SHORTEST_BEGINNING: usize = 2;

/// Texts such as `<|im_end|>` that a vocabulary reads as one token with a meaning for the model.
#[derive(Clone, Debug)]
pub struct ControlTokens {
    /// Finds them, the longest where several begin.
    finder: Option<AhoCorasick>,
    /// Finds the first two and the last two characters of any, in whatever case, as they are and as JSON writes them.
    edges: Option<AhoCorasick>,
    texts: BTreeSet<String>,
    /// The same texts with their characters in reverse.
    reversed: BTreeSet<String>,
    /// Their characters that are no letters, digits, underscores or spaces: `<`, `|`, `>`.
    signs: HashSet<char>,
    /// What stands between the signs at both ends of one, in lower case: `im_end`.
    words: HashSet<String>,
    longest: usize,
}

impl ControlTokens {
    /// Of a vocabulary.
    pub fn new(texts: impl IntoIterator<Item = String>) -> Self {
        let texts: BTreeSet<String> = texts.into_iter().filter(|text| !text.is_empty()).collect();
        let finder = AhoCorasick::builder().match_kind(MatchKind::LeftmostLongest).build(&texts);
        // So many texts that no automaton holds them are no vocabulary.
        let finder = finder.ok().filter(|_| !texts.is_empty());
        let longest = texts.iter().map(String::len).max().unwrap_or(0);
        let edges: HashSet<String> = texts
            .iter()
            .flat_map(|text| edges_of(text))
            .flat_map(|edge| [edge.to_owned(), in_json(edge)])
            .collect();
        let edges = AhoCorasick::builder().ascii_case_insensitive(true).build(edges).ok();
        let edges = edges.filter(|_| !texts.is_empty());
        Self {
            finder,
            edges,
            reversed: texts.iter().map(|text| text.chars().rev().collect()).collect(),
            signs: texts.iter().flat_map(|text| text.chars()).filter(|c| is_sign(*c)).collect(),
            words: texts.iter().map(|text| word_of(text)).filter(|word| !word.is_empty()).collect(),
            texts,
            longest,
        }
    }

    /// Of a vocabulary that has none.
    pub fn none() -> Self {
        Self::new([])
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.texts.is_empty()
    }

    /// Whether this text is one.
    pub(crate) fn has(&self, text: &str) -> bool {
        self.texts.contains(text)
    }

    /// A text of a conversation with a letter in the place of whatever a template could make a control token of; `None`
    /// where there is nothing of the kind. What `may_name_one` may be the word of a token, as roles are.
    pub(crate) fn disarmed(&self, text: &str, may_name_one: bool) -> Option<String> {
        let word = text.trim();
        if !may_name_one && word.len() <= self.longest && self.words.contains(&word.to_lowercase()) {
            return Some(text.replace(|c: char| !c.is_whitespace(), "x"));
        }
        let is_sign = |c: char| self.signs.contains(&c);
        text.contains(is_sign).then(|| text.replace(is_sign, "x"))
    }

    /// Where they stand in a text, from left to right, the longest where several begin.
    pub fn find<'t>(&self, text: &'t str) -> impl Iterator<Item = Range<usize>> + use<'_, 't> {
        self.finder.iter().flat_map(move |finder| finder.find_iter(text)).map(|found| found.range())
    }

    /// Whether a text has what one begins or ends with, so that a template could make one of it.
    pub(crate) fn may_come_of(&self, text: &str) -> bool {
        self.edges.as_ref().is_some_and(|edges| edges.is_match(text))
    }

    /// Where the text's longest ending begins that a control token may begin with.
    pub(crate) fn beginning_at_end(&self, text: &str) -> Option<usize> {
        let from = text.len().saturating_sub(self.longest);
        let to = (text.len() + 1).saturating_sub(SHORTEST_BEGINNING);
        (from..to).find(|at| text.is_char_boundary(*at) && begins_one(&self.texts, &text[*at..]))
    }

    /// Where the text's longest beginning ends that a control token may end with.
    pub(crate) fn end_at_beginning(&self, text: &str) -> Option<usize> {
        let to = text.len().min(self.longest);
        let to = (0..=to).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        let reversed: String = text[..to].chars().rev().collect();
        (1..=to)
            .rev()
            .find(|at| text.is_char_boundary(*at) && begins_one(&self.reversed, &reversed[to - at..]))
    }
}

/// Whether one of these texts begins with `part` and is longer.
fn begins_one(texts: &BTreeSet<String>, part: &str) -> bool {
    let behind = (Bound::Excluded(part), Bound::Unbounded);
    texts.range::<str, _>(behind).next().is_some_and(|text| text.starts_with(part))
}

/// A character that words do not have.
fn is_sign(c: char) -> bool {
    !c.is_alphanumeric() && c != '_' && !c.is_whitespace()
}

/// Whether a token has a character that words do not have.
pub(crate) fn has_sign(token: &str) -> bool {
    token.contains(is_sign)
}

fn word_of(token: &str) -> String {
    token.trim_matches(|c: char| is_sign(c) || c.is_whitespace()).to_lowercase()
}

/// A text as it stands within a string of JSON.
fn in_json(text: &str) -> String {
    let quoted = serde_json::Value::from(text).to_string();
    quoted[1..quoted.len() - 1].to_owned()
}

/// The first and the last characters of a token.
fn edges_of(text: &str) -> [&str; 2] {
    let begin = text.char_indices().nth(SHORTEST_BEGINNING).map_or(text.len(), |(at, _)| at);
    let end = text.char_indices().nth_back(SHORTEST_BEGINNING - 1).map_or(0, |(at, _)| at);
    [&text[..begin], &text[end..]]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens() -> ControlTokens {
        ControlTokens::new(["<|user|>", "<|end|>", "<s>"].map(str::to_owned))
    }

    #[test]
    fn finds_whole_ones_and_pieces() {
        let tokens = tokens();
        assert!(tokens.has("<s>") && !tokens.has("<|user|"));
        let found: Vec<_> = tokens.find("a<s><|user|>b").collect();
        assert_eq!(found, [1..4, 4..12]);
        assert_eq!(tokens.beginning_at_end("text<|"), Some(4));
        assert_eq!(tokens.beginning_at_end("a < b <"), None);
        assert_eq!(tokens.end_at_beginning("|>\n"), Some(2));
        assert_eq!(tokens.end_at_beginning("text"), None);
    }

    #[test]
    fn what_begins_or_ends_like_one_is_seen_in_any_case() {
        let tokens = tokens();
        for text in ["a<|b", "<S", "|> and", "s>"] {
            assert!(tokens.may_come_of(text), "{text}");
        }
        for text in ["", "if a < b and c > d", "[\"a\"]", "vec![1]"] {
            assert!(!tokens.may_come_of(text), "{text}");
        }
        assert!(!ControlTokens::none().may_come_of("<s>"));
        let with_newline = ControlTokens::new(["\n\n".to_owned()]);
        assert!(with_newline.may_come_of(r#"{"content":"a\n\nb"}"#));
        assert_eq!(edges_of("<é>"), ["<é", "é>"]);
        assert_eq!(edges_of("x"), ["x", "x"]);
    }

    #[test]
    fn nothing_is_left_in_a_text_that_a_token_could_be_made_of() {
        let tokens = tokens();
        assert_eq!(tokens.disarmed("a <b", false).as_deref(), Some("a xb"));
        assert_eq!(tokens.disarmed("a (b) \"c\"", false), None);
        assert_eq!(tokens.disarmed(" End\n", false).as_deref(), Some(" xxx\n"));
        assert_eq!(tokens.disarmed("user", true), None);
        assert!(has_sign("<s>") && !has_sign("pad_1"));
    }

    #[test]
    fn a_long_token_takes_no_more_than_its_own_length() {
        let long = "<".to_owned() + &"é".repeat(100_000) + ">";
        let tokens = ControlTokens::new([long.clone()]);
        let held: usize =
            tokens.texts.iter().chain(&tokens.reversed).chain(&tokens.words).map(String::len).sum();
        assert!(held <= 3 * long.len(), "{held}");
        assert_eq!(tokens.beginning_at_end("a<éé"), Some(1));
        assert_eq!(tokens.end_at_beginning("éé>a"), Some("éé>".len()));
    }

    #[test]
    fn a_vocabulary_may_have_none() {
        let none = ControlTokens::none();
        assert!(none.is_empty() && none.find("<s>").next().is_none());
        assert_eq!((none.beginning_at_end("<|"), none.end_at_beginning("|>")), (None, None));
    }
}
