//! Marks around the control tokens that a template itself writes, so that nothing which people wrote can be one.
//!
//! ```text
//!   template   <|user|>{{ content }}          → ⟨<|user|>⟩{{ content }}
//!   rendered   ⟨<|user|>⟩hi<|user|>there      → <|user|> is a control token, the second one is text
//! ```
//!
//! The marks are two characters that mean nothing (Unicode's noncharacters), put into the template's source: into its
//! text and its string literals, but not where a literal is only compared. A conversation cannot contain them: there
//! they are replaced. So whatever the template does with content (cut, join, replace, change its case), content never
//! becomes a control token. Of a marker that the template puts together (`'<|' + role + '|>'`) both ends are marked,
//! and it counts when they enclose exactly a control token.

use std::ops::Range;

use crate::control::ControlTokens;

/// Before a control token, or what begins one.
pub(crate) const OPEN: char = '\u{FDD0}';
/// After a control token, or what ends one.
pub(crate) const CLOSE: char = '\u{FDD1}';
/// Stands where a conversation had one of the marks.
const REPLACEMENT: &str = "\u{FFFD}";

/// The template's source with marks.
pub(crate) fn mark(source: &str, tokens: &ControlTokens) -> String {
    let source = clean(source);
    if tokens.is_empty() {
        return source;
    }
    let mut marker = Marker { tokens, marked: String::with_capacity(source.len() * 2) };
    marker.template(&source);
    marker.marked
}

/// A text that is a control token, with its marks; any other as it is.
pub(crate) fn mark_value(text: &str, tokens: &ControlTokens) -> String {
    if tokens.has(text) { format!("{OPEN}{text}{CLOSE}") } else { clean(text) }
}

/// A text of ours with marks around its control tokens.
pub(crate) fn mark_text(text: &str, tokens: &ControlTokens) -> String {
    let (mut marked, mut from) = (String::with_capacity(text.len()), 0);
    for found in tokens.find(text) {
        marked.push_str(&text[from..found.start]);
        marked.push(OPEN);
        marked.push_str(&text[found.clone()]);
        marked.push(CLOSE);
        from = found.end;
    }
    marked.push_str(&text[from..]);
    marked
}

/// A text of a conversation, in which no mark can stand.
pub(crate) fn clean(text: &str) -> String {
    if is_clean(text) { text.to_owned() } else { text.replace([OPEN, CLOSE], REPLACEMENT) }
}

pub(crate) fn is_clean(text: &str) -> bool {
    !text.contains([OPEN, CLOSE])
}

/// A rendered text without its marks, and where they enclosed a control token.
pub(crate) fn unmark(text: &str, tokens: &ControlTokens) -> (String, Vec<Range<usize>>) {
    let mut plain = String::with_capacity(text.len());
    let (mut control, mut opened, mut from) = (Vec::new(), None, 0);
    for (at, mark) in text.match_indices([OPEN, CLOSE]) {
        plain.push_str(&text[from..at]);
        from = at + mark.len();
        if mark.starts_with(OPEN) {
            opened = Some(plain.len());
        } else if let Some(begin) = opened.take()
            && tokens.has(&plain[begin..])
        {
            control.push(begin..plain.len());
        }
    }
    plain.push_str(&text[from..]);
    (plain, control)
}

struct Marker<'a> {
    tokens: &'a ControlTokens,
    marked: String,
}

/// What a literal is given to when it is only compared with something.
const COMPARING: [&str; 14] = [
    "startswith(",
    "endswith(",
    "split(",
    "rsplit(",
    "partition(",
    "rpartition(",
    "replace(",
    "find(",
    "rfind(",
    "index(",
    "count(",
    "removeprefix(",
    "removesuffix(",
    "strip(",
];

impl Marker<'_> {
    /// Text and tags in turn.
    fn template(&mut self, mut rest: &str) {
        while let Some(at) = next_tag(rest) {
            self.text(&rest[..at]);
            rest = match &rest[at..at + 2] {
                "{#" => self.copy_through(&rest[at..], "#}"),
                "{{" => self.tag(&rest[at..], "}}"),
                _ if is_block(&rest[at..], "raw") => self.raw(&rest[at..]),
                _ => self.tag(&rest[at..], "%}"),
            };
        }
        self.text(rest);
    }

    fn copy_through<'r>(&mut self, rest: &'r str, end: &str) -> &'r str {
        let to = rest.find(end).map_or(rest.len(), |at| at + end.len());
        self.marked.push_str(&rest[..to]);
        &rest[to..]
    }

    /// `{% raw %} … {% endraw %}`, up to the second tag.
    fn raw<'r>(&mut self, rest: &'r str) -> &'r str {
        let rest = self.copy_through(rest, "%}");
        let mut to = 0;
        while let Some(at) = rest[to..].find("{%") {
            if is_block(&rest[to + at..], "endraw") {
                self.text(&rest[..to + at]);
                return self.copy_through(&rest[to + at..], "%}");
            }
            to += at + 2;
        }
        self.text(rest);
        ""
    }

    /// A tag, whose string literals are marked.
    fn tag<'r>(&mut self, rest: &'r str, end: &str) -> &'r str {
        let mut at = 0;
        while let Some(char) = rest[at..].chars().next() {
            if rest[at..].starts_with(end) {
                self.marked.push_str(end);
                return &rest[at + end.len()..];
            }
            if char == '\'' || char == '"' {
                let begin = at + 1;
                let Some(length) = literal_length(&rest[begin..], char) else { break };
                let (before, after) = (&rest[..at], &rest[begin + length + 1..]);
                self.marked.push(char);
                if is_compared(before, after) {
                    self.marked.push_str(&rest[begin..begin + length]);
                } else {
                    self.literal(&rest[begin..begin + length]);
                }
                self.marked.push(char);
                at = begin + length + 1;
            } else {
                self.marked.push(char);
                at += char.len_utf8();
            }
        }
        // The tag has no end: the template engine will say so.
        self.marked.push_str(&rest[at..]);
        ""
    }

    /// A string literal, in which `{}` and `%s` stand for something else.
    fn literal(&mut self, mut text: &str) {
        loop {
            let place = ["{}", "%s"].iter().filter_map(|place| text.find(place)).min();
            let Some(at) = place else { return self.text(text) };
            self.text(&text[..at]);
            self.marked.push_str(&text[at..at + 2]);
            text = &text[at + 2..];
        }
    }

    /// Text before and after which something else may stand.
    fn text(&mut self, text: &str) {
        let mut from = 0;
        for found in self.tokens.find(text) {
            self.between(&text[from..found.start]);
            self.marked.push(OPEN);
            self.marked.push_str(&text[found.clone()]);
            self.marked.push(CLOSE);
            from = found.end;
        }
        self.between(&text[from..]);
    }

    /// Text without a whole control token.
    fn between(&mut self, text: &str) {
        let end = self.tokens.end_at_beginning(text).unwrap_or(0);
        let begin = self.tokens.beginning_at_end(text).filter(|begin| *begin >= end);
        self.marked.push_str(&text[..end]);
        if end > 0 {
            self.marked.push(CLOSE);
        }
        self.marked.push_str(&text[end..begin.unwrap_or(text.len())]);
        if let Some(begin) = begin {
            self.marked.push(OPEN);
            self.marked.push_str(&text[begin..]);
        }
    }
}

fn next_tag(text: &str) -> Option<usize> {
    let mut from = 0;
    while let Some(at) = text[from..].find('{') {
        match text.as_bytes().get(from + at + 1) {
            Some(b'{' | b'%' | b'#') => return Some(from + at),
            _ => from += at + 1,
        }
    }
    None
}

/// Whether a tag is the block of this name.
fn is_block(tag: &str, name: &str) -> bool {
    let inside = tag.trim_start_matches("{%").trim_start_matches(['-', '+']).trim_start();
    inside.strip_prefix(name).is_some_and(|rest| !rest.starts_with(|char: char| char.is_alphanumeric()))
}

/// Bytes up to the quote that ends a literal.
fn literal_length(text: &str, quote: char) -> Option<usize> {
    let mut is_escaped = false;
    text.char_indices().find_map(|(at, char)| {
        let ends = char == quote && !is_escaped;
        is_escaped = char == '\\' && !is_escaped;
        ends.then_some(at)
    })
}

/// Whether the literal between these is compared with something, or looked up, rather than written.
fn is_compared(before: &str, after: &str) -> bool {
    let (before, after) = (before.trim_end(), after.trim_start());
    let is_word = |text: &str, word: &str| {
        text.strip_prefix(word).is_some_and(|rest| rest.starts_with(char::is_whitespace))
    };
    ["==", "!="].iter().any(|operator| before.ends_with(operator) || after.starts_with(operator))
        || before.strip_suffix("in").is_some_and(|rest| rest.ends_with(char::is_whitespace))
        || is_word(after, "in")
        || is_word(after, "not")
        || after.starts_with(':')
        || COMPARING.iter().any(|call| before.ends_with(call))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens() -> ControlTokens {
        ControlTokens::new(["<|user|>", "<|end|>", "[INST]", "<s>"].map(str::to_owned))
    }

    /// The marks as brackets.
    fn marked(source: &str) -> String {
        mark(source, &tokens()).replace(OPEN, "⟨").replace(CLOSE, "⟩")
    }

    fn unmarked(text: &str) -> (String, Vec<String>) {
        let (text, control) = unmark(&text.replace('⟨', "\u{FDD0}").replace('⟩', "\u{FDD1}"), &tokens());
        let control = control.into_iter().map(|range| text[range].to_owned()).collect();
        (text, control)
    }

    #[test]
    fn what_a_template_writes_is_marked() {
        assert_eq!(marked("<|user|>{{ x }}<|end|>"), "⟨<|user|>⟩{{ x }}⟨<|end|>⟩");
        assert_eq!(marked("{{ '<|user|>\\n' + x }}"), "{{ '⟨<|user|>⟩\\n' + x }}");
        assert_eq!(marked("{% set a = \"<s>[INST]\" %}"), "{% set a = \"⟨<s>⟩⟨[INST]⟩\" %}");
        assert_eq!(marked("{% raw %}<s>{{{% endraw %}<s>"), "{% raw %}⟨<s>⟩{{{% endraw %}⟨<s>⟩");
        assert_eq!(marked("{# <s> #}{{ <s> }}"), "{# <s> #}{{ <s> }}");
    }

    #[test]
    fn a_marker_that_is_put_together_has_both_its_ends_marked() {
        assert_eq!(marked("{{ '<|' + role + '|>\\n' }}"), "{{ '⟨<|' + role + '|>⟩\\n' }}");
        assert_eq!(marked("<|{{ role }}|>"), "⟨<|{{ role }}|>⟩");
        assert_eq!(marked("{{ '<|{}|>'.format(role) }}"), "{{ '⟨<|{}|>⟩'.format(role) }}");
    }

    #[test]
    fn what_is_compared_stays_as_it_is() {
        for source in [
            "{% if '<|end|>' in content %}",
            "{{ content.split('<|end|>')[0] }}",
            "{% if role == '<|user|>' %}",
            "{{ {'<|user|>': 1} }}",
        ] {
            assert_eq!(marked(source), source);
        }
        assert_eq!(marked("{{ x|replace('<|end|>', '<s>') }}"), "{{ x|replace('<|end|>', '⟨<s>⟩') }}");
    }

    #[test]
    fn only_what_is_between_marks_is_a_control_token() {
        let text = "⟨<s>⟩<s>⟨<|user|>⟩<|⟨<|end|>⟩";
        let (plain, control) = unmarked(text);
        assert_eq!(plain, "<s><s><|user|><|<|end|>");
        assert_eq!(control, ["<s>", "<|user|>", "<|end|>"]);
    }

    #[test]
    fn marks_that_enclose_something_else_mean_nothing() {
        assert_eq!(unmarked("⟨<|end|><|user|>⟩a⟩⟨b⟨c"), ("<|end|><|user|>abc".to_owned(), Vec::new()));
        assert_eq!(unmarked("⟨<|tool|>⟩").1, Vec::<String>::new());
    }

    #[test]
    fn a_conversation_has_no_marks() {
        assert_eq!(clean("a\u{FDD0}<s>\u{FDD1}"), "a\u{FFFD}<s>\u{FFFD}");
        assert!(marked("\u{FDD0}x").starts_with('\u{FFFD}'));
    }

    #[test]
    fn any_source_can_be_marked() {
        for source in
            ["{{", "{%", "{#", "{{ 'x", "{% raw %}<s>", "{", "{{ \"\\\"", "'", "{%-", "é{{ 'é<s>é' }}é"]
        {
            let plain: String = marked(source).replace(['⟨', '⟩'], "");
            assert_eq!(plain, source);
        }
    }
}
