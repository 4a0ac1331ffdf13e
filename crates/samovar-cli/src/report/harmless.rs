//! Text of unknown origin, made unable to command a terminal.

use std::borrow::Cow;

/// The text with control characters (but newline and tab) replaced by pictures of them.
pub(crate) fn harmless(text: &str) -> Cow<'_, str> {
    let is_harmful = |c: char| c.is_control() && c != '\n' && c != '\t';
    if !text.contains(is_harmful) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(text.chars().map(|c| if is_harmful(c) { picture(c) } else { c }).collect())
}

fn picture(control: char) -> char {
    match u32::from(control) {
        code @ 0..=0x1f => char::from_u32(0x2400 + code).unwrap_or('\u{fffd}'),
        0x7f => '\u{2421}',
        _ => '\u{fffd}',
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escape_sequences_become_visible() {
        assert_eq!(harmless("a\x1b[2Jb\u{9b}0m"), "a␛[2Jb\u{fffd}0m");
    }

    #[test]
    fn plain_text_passes_untouched() {
        assert!(matches!(harmless("Grüße,\n\tWelt"), Cow::Borrowed(_)));
    }
}
