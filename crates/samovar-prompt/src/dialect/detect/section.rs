//! What of a rendered conversation the model itself would have written: its last message, without what the template
//! puts before and behind every message of the model.

use super::pieces::Pieces;
use super::{FIRST_NAME, TEXT};

/// Bytes of two short calls, with whatever a template adds: more is no form that anything can be said of.
const SECTION_BYTES: usize = 16 << 10;
/// How far back a mark may begin.
const MARK_BYTES: usize = 80;

/// The part of `written` in which the calls stand. `text` is the same conversation with a plain text in the place of the
/// calls, `opening` the conversation up to where the model begins.
pub(super) fn of_calls<'t>(
    written: &'t str,
    text: Option<&str>,
    opening: Option<&str>,
    eos_token: &str,
    thinking_close: Option<&str>,
) -> Option<&'t str> {
    let name = written.find(FIRST_NAME)?;
    let shared = text.into_iter().chain(opening).map(|other| common_bytes(written, other)).max().unwrap_or(0);
    let mut section = &written[before_cut_mark(written, shared.min(name))..];
    if let Some(behind) = text.and_then(|text| Some(&text[text.rfind(TEXT)? + TEXT.len()..])) {
        section = without_end(section, behind);
    }
    if !eos_token.is_empty() {
        section = section.trim_end();
        section = section.strip_suffix(eos_token).unwrap_or(section);
    }
    for close in thinking_close.into_iter().chain(["</think>"]) {
        let name = section.find(FIRST_NAME)?;
        if let Some(at) = section[..name].rfind(close) {
            section = &section[at + close.len()..];
        }
    }
    (section.len() <= SECTION_BYTES).then_some(section)
}

/// Bytes that both texts begin with, in whole characters.
fn common_bytes(one: &str, other: &str) -> usize {
    one.chars().zip(other.chars()).take_while(|(a, b)| a == b).map(|(a, _)| a.len_utf8()).sum()
}

/// The same place, or the beginning of the mark or the word that it would cut.
fn before_cut_mark(text: &str, mut at: usize) -> usize {
    for (open, close) in [('<', '>'), ('[', ']')] {
        let begin = text[..at].rfind(open).filter(|begin| at - begin <= MARK_BYTES);
        if let Some(begin) = begin
            && !text[begin..at].contains(close)
            && text[begin..].find(close).is_some_and(|length| length < MARK_BYTES)
        {
            at = begin;
        }
    }
    let is_letter = |c: char| c.is_alphanumeric() || c == '_';
    while text[at..].starts_with(is_letter)
        && let Some(before) = text[..at].chars().next_back().filter(|c| is_letter(*c))
    {
        at -= before.len_utf8();
    }
    at
}

/// A section without what the template puts behind every message, or without the last pieces of that.
fn without_end<'t>(section: &'t str, behind: &str) -> &'t str {
    if let Some(section) = section.strip_suffix(behind) {
        return section;
    }
    let pieces = Pieces::of(section);
    match pieces.common_end(&Pieces::of(behind)) {
        0 => section,
        count => &section[..pieces.start(pieces.len() - count)],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_mark_and_no_word_is_cut() {
        let text = "a<think>b [INST] word";
        assert_eq!(before_cut_mark(text, 4), 1);
        assert_eq!(before_cut_mark(text, 8), 8);
        assert_eq!(before_cut_mark(text, 12), 10);
        assert_eq!(before_cut_mark(text, 19), 17);
        assert_eq!(before_cut_mark("a < b", 4), 4);
        assert_eq!(before_cut_mark("é", 2), 2);
    }

    #[test]
    fn the_section_is_what_the_model_writes() {
        let text = format!("<|user|>hi<|end|><|model|>\n<think>\n\n</think>\n{TEXT}<|end|>\n");
        let written =
            format!("<|user|>hi<|end|><|model|>\n<think>\n\n</think>\n<call>{FIRST_NAME}</call><|end|>\n");
        let section = of_calls(&written, Some(&text), Some("<|user|>hi<|end|><|model|>\n"), "", None);
        assert_eq!(section, Some(format!("<call>{FIRST_NAME}</call>").as_str()));
    }

    #[test]
    fn too_much_is_no_section() {
        let written = format!("{FIRST_NAME}{}", "x".repeat(SECTION_BYTES));
        assert_eq!(of_calls(&written, None, None, "", None), None);
    }
}
