//! A text as a row of marks and words: what two texts have in common is compared by these, never by single characters,
//! so that no mark is cut.

use std::ops::Range;

/// The longest name in square brackets: `[TOOL_CALLS]`.
const BRACKETED_BYTES: usize = 31;

/// The pieces of a text, without the white space between them.
#[derive(Debug)]
pub(super) struct Pieces<'t> {
    text: &'t str,
    ranges: Vec<Range<usize>>,
}

impl<'t> Pieces<'t> {
    pub(super) fn of(text: &'t str) -> Self {
        let mut ranges = Vec::new();
        let mut at = 0;
        while let Some(first) = text[at..].chars().next() {
            let rest = &text[at..];
            let length = match first {
                _ if first.is_whitespace() => {
                    at += first.len_utf8();
                    continue;
                }
                '<' => rest.find('>').map_or_else(|| rest.trim_end().len(), |end| end + 1),
                '[' => bracketed(rest).unwrap_or(1),
                _ => rest.find(|c: char| c.is_whitespace() || c == '<' || c == '[').unwrap_or(rest.len()),
            };
            ranges.push(at..at + length);
            at += length;
        }
        Self { text, ranges }
    }

    pub(super) fn len(&self) -> usize {
        self.ranges.len()
    }

    /// The text from the first of these pieces to the last, with the white space between them.
    pub(super) fn span(&self, pieces: Range<usize>) -> &'t str {
        match &self.ranges[pieces] {
            [] => "",
            [first, .., last] => &self.text[first.start..last.end],
            [one] => &self.text[one.clone()],
        }
    }

    /// Where a piece begins.
    pub(super) fn start(&self, piece: usize) -> usize {
        self.ranges[piece].start
    }

    /// Whether nothing stands between a piece and the one before it.
    pub(super) fn is_joined(&self, piece: usize) -> bool {
        piece > 0 && self.ranges[piece - 1].end == self.ranges[piece].start
    }

    fn word(&self, piece: usize) -> &'t str {
        &self.text[self.ranges[piece].clone()]
    }

    /// How many pieces both texts begin with.
    pub(super) fn common_start(&self, other: &Self) -> usize {
        let most = self.len().min(other.len());
        (0..most).take_while(|piece| self.word(*piece) == other.word(*piece)).count()
    }

    /// How many pieces both texts end with.
    pub(super) fn common_end(&self, other: &Self) -> usize {
        let most = self.len().min(other.len());
        (1..=most).take_while(|back| self.word(self.len() - back) == other.word(other.len() - back)).count()
    }
}

/// Bytes of a name in square brackets.
fn bracketed(text: &str) -> Option<usize> {
    let end = text.find(']')?;
    let name = &text[1..end];
    let is_name = !name.is_empty() && name.len() <= BRACKETED_BYTES && !name.contains(['[', '{', '"']);
    is_name.then_some(end + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<&str> {
        let pieces = Pieces::of(text);
        (0..pieces.len()).map(|piece| pieces.word(piece)).collect()
    }

    #[test]
    fn marks_stay_whole_and_white_space_is_left_out() {
        assert_eq!(words("<|a|>\n <b c=\"d\">e"), ["<|a|>", "<b c=\"d\">", "e"]);
        assert_eq!(words("[TOOL_CALLS][{\"a\""), ["[TOOL_CALLS]", "[", "{\"a\""]);
        assert_eq!(words("\"> <function= "), ["\">", "<function="]);
        assert!(words(" \n").is_empty());
    }

    #[test]
    fn texts_are_compared_by_pieces() {
        let (one, other) = (Pieces::of("</call></all>"), Pieces::of("</call>\n<call>"));
        assert_eq!((one.common_start(&other), one.common_end(&other)), (1, 0));
        assert_eq!(other.span(0..2), "</call>\n<call>");
        assert_eq!((other.span(1..1), other.span(1..2)), ("", "<call>"));
    }
}
