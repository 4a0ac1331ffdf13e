//! The control tokens of a vocabulary, as texts: what a template may write and people may not.

use std::collections::HashSet;
use std::ops::Range;

use aho_corasick::{AhoCorasick, MatchKind};

/// Pieces of a control token that a template may put together, at least: one character says too little.
const SHORTEST_BEGINNING: usize = 2;

/// Texts such as `<|im_end|>` that a vocabulary reads as one token with a meaning for the model.
#[derive(Clone, Debug)]
pub struct ControlTokens {
    /// Finds them, the longest where several begin.
    finder: Option<AhoCorasick>,
    /// Finds the first two and the last two characters of any, in whatever case.
    edges: Option<AhoCorasick>,
    texts: HashSet<String>,
    /// What they may begin and end with, none of it a whole one.
    beginnings: HashSet<String>,
    ends: HashSet<String>,
    longest: usize,
}

impl ControlTokens {
    /// Of a vocabulary.
    pub fn new(texts: impl IntoIterator<Item = String>) -> Self {
        let texts: HashSet<String> = texts.into_iter().filter(|text| !text.is_empty()).collect();
        let finder = AhoCorasick::builder().match_kind(MatchKind::LeftmostLongest).build(&texts);
        // So many texts that no automaton holds them are no vocabulary.
        let finder = finder.ok().filter(|_| !texts.is_empty());
        let (mut beginnings, mut ends) = (HashSet::new(), HashSet::new());
        for text in &texts {
            for (at, _) in text.char_indices().skip(1) {
                if at >= SHORTEST_BEGINNING {
                    beginnings.insert(text[..at].to_owned());
                }
                ends.insert(text[at..].to_owned());
            }
        }
        let longest = texts.iter().map(String::len).max().unwrap_or(0);
        let edges: HashSet<&str> = texts.iter().flat_map(|text| edges_of(text)).collect();
        let edges = AhoCorasick::builder().ascii_case_insensitive(true).build(edges).ok();
        let edges = edges.filter(|_| !texts.is_empty());
        Self { finder, edges, texts, beginnings, ends, longest }
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
        (from..text.len()).find(|at| text.is_char_boundary(*at) && self.beginnings.contains(&text[*at..]))
    }

    /// Where the text's longest beginning ends that a control token may end with.
    pub(crate) fn end_at_beginning(&self, text: &str) -> Option<usize> {
        let to = text.len().min(self.longest);
        (1..=to).rev().find(|at| text.is_char_boundary(*at) && self.ends.contains(&text[..*at]))
    }
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
        assert_eq!(edges_of("<é>"), ["<é", "é>"]);
        assert_eq!(edges_of("x"), ["x", "x"]);
    }

    #[test]
    fn a_vocabulary_may_have_none() {
        let none = ControlTokens::none();
        assert!(none.is_empty() && none.find("<s>").next().is_none());
        assert_eq!((none.beginning_at_end("<|"), none.end_at_beginning("|>")), (None, None));
    }
}
