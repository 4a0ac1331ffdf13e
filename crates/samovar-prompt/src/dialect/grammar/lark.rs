//! Text of a grammar in llguidance's form of Lark: rules, literals, and marks as tokens or text.

use std::fmt::Write as _;

/// Bytes of a grammar from which on it is too large to be compiled.
const FULL_BYTES: usize = 2 << 20;

/// A grammar that is being written.
pub(super) struct Lark<'s> {
    rules: String,
    special: &'s dyn Fn(&str) -> Option<u32>,
    /// Rules that have a number for a name.
    count: usize,
}

/// One piece of a mark.
#[derive(Debug, PartialEq, Eq)]
enum Piece {
    Token(u32),
    Text(String),
    Space,
}

impl<'s> Lark<'s> {
    pub(super) fn new(special: &'s dyn Fn(&str) -> Option<u32>) -> Self {
        let rules = String::from("TEXT: /(.|\\n)*/\nWS: /[ \\t\\r\\n]{1,8}/\n");
        Self { rules, special, count: 0 }
    }

    /// Whether it is too large to be compiled, so that nothing more need be written.
    pub(super) fn is_full(&self) -> bool {
        self.rules.len() > FULL_BYTES
    }

    /// Adds a rule, or with capital letters a terminal.
    pub(super) fn rule(&mut self, name: &str, expression: &str) {
        let _ = writeln!(self.rules, "{name}: {expression}");
    }

    /// Adds a terminal, if it is not there.
    pub(super) fn rule_once(&mut self, name: &str, expression: &str) {
        if !self.rules.contains(&format!("\n{name}: ")) {
            self.rule(name, expression);
        }
    }

    /// Adds a rule with a name of its own, and gives the name.
    pub(super) fn own_rule(&mut self, attributes: &str, expression: &str) -> String {
        let name = format!("r{}", self.count);
        self.count += 1;
        let _ = writeln!(self.rules, "{name}{attributes}: {expression}");
        name
    }

    /// Adds a terminal with a name of its own, and gives the name.
    pub(super) fn own_terminal(&mut self, expression: &str) -> String {
        let name = format!("T{}", self.count);
        self.count += 1;
        let _ = writeln!(self.rules, "{name}: {expression}");
        name
    }

    pub(super) fn finish(self) -> String {
        self.rules
    }

    /// A mark: control tokens by their ids, all else as text, and white space as it likes.
    pub(super) fn mark(&self, mark: &str) -> String {
        written(&self.pieces(mark))
    }

    /// Whether a mark begins with a control token, which no text contains.
    pub(super) fn begins_with_token(&self, mark: &str) -> bool {
        matches!(self.pieces(mark).first(), Some(Piece::Token(_)))
    }

    /// Text up to a mark, and the mark; `text` is the terminal of such text.
    pub(super) fn text_until(&mut self, mark: &str, text: &str) -> String {
        let pieces = self.pieces(mark);
        match pieces.split_first() {
            Some((Piece::Text(first), rest)) => {
                let rest = written(rest);
                let name = self.own_rule("[lazy]", &format!("{text} {}", literal(first)));
                if rest.is_empty() { name } else { format!("{name} {rest}") }
            }
            _ => format!("{text} {}", written(&pieces)),
        }
    }

    /// Text that a terminal matches, up to a mark, and the mark. A line break at both ends, or none, belongs to the marks.
    pub(super) fn bounded_until(&mut self, mark: &str, value: &str) -> String {
        let pieces = self.pieces(mark);
        let (first, rest) = match pieces.split_first() {
            Some((Piece::Text(first), rest)) => (Some(literal(first)), rest),
            _ => (None, &pieces[..]),
        };
        let rest = written(rest);
        let value = match &first {
            // All of it is one terminal: the text alone would go on into the mark.
            Some(first) => {
                let marked = self.own_terminal(&format!("TEXT {first} TEXT"));
                self.own_terminal(&format!("{value} & ~{marked}"))
            }
            None => self.own_terminal(value),
        };
        let plain = self.own_terminal(&format!("{value} & ~( \"\\n\" TEXT )"));
        let whole = format!("( {plain} | \"\\n\" {value} \"\\n\" ) {}", first.unwrap_or_default());
        let whole = self.own_terminal(whole.trim_end());
        if rest.is_empty() { whole } else { format!("{whole} {rest}") }
    }

    fn pieces(&self, mark: &str) -> Vec<Piece> {
        let mut pieces: Vec<Piece> = Vec::new();
        let mut rest = mark.trim();
        while let Some(first) = rest.chars().next() {
            let mut ends = rest.char_indices().map(|(at, c)| at + c.len_utf8()).rev();
            let token = ends.find_map(|end| Some((end, (self.special)(&rest[..end])?)));
            let end = match (token, pieces.last_mut()) {
                (Some((end, id)), _) => {
                    pieces.push(Piece::Token(id));
                    end
                }
                (None, last) if first.is_whitespace() => {
                    if last != Some(&mut Piece::Space) {
                        pieces.push(Piece::Space);
                    }
                    first.len_utf8()
                }
                (None, Some(Piece::Text(text))) => {
                    text.push(first);
                    first.len_utf8()
                }
                (None, _) => {
                    pieces.push(Piece::Text(first.to_string()));
                    first.len_utf8()
                }
            };
            rest = &rest[end..];
        }
        pieces
    }
}

fn written(pieces: &[Piece]) -> String {
    let each: Vec<String> = pieces
        .iter()
        .map(|piece| match piece {
            Piece::Token(id) => format!("<[{id}]>"),
            Piece::Text(text) => literal(text),
            Piece::Space => "WS?".to_owned(),
        })
        .collect();
    each.join(" ")
}

/// Exactly this text.
pub(super) fn literal(text: &str) -> String {
    // The one character that JSON leaves as it is and Lark does not take.
    serde_json::Value::from(text).to_string().replace('\u{7f}', "\\u007f")
}

/// What a regular expression matches, without the anchors at its ends, which say nothing new; `None` where it ends within
/// an escape.
pub(super) fn regex(regex: &str) -> Option<String> {
    let is_escape = |text: &str| text.bytes().rev().take_while(|byte| *byte == b'\\').count() % 2 == 1;
    let regex = regex.strip_prefix('^').unwrap_or(regex);
    let regex = regex.strip_suffix('$').filter(|before| !is_escape(before)).unwrap_or(regex);
    if regex.is_empty() {
        return Some("\"\"".to_owned());
    }
    let mut written = String::from("/");
    let mut is_escaped = false;
    for c in regex.chars() {
        match c {
            '/' if !is_escaped => written.push_str("\\/"),
            // An escape before a line break would not be one piece.
            '\n' if is_escaped => written.push('n'),
            '\n' => written.push_str("\\n"),
            c => written.push(c),
        }
        is_escaped = c == '\\' && !is_escaped;
    }
    written.push('/');
    (!is_escaped).then_some(written)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_tokens_where_the_vocabulary_has_them() {
        let special = |text: &str| match text {
            "<|call|>" => Some(7),
            "[ARGS]" => Some(8),
            _ => None,
        };
        let mut lark = Lark::new(&special);
        assert_eq!(lark.mark("<|call|>"), "<[7]>");
        assert_eq!(
            lark.mark(" function<|call|>[ARGS]\n\n```json "),
            r#""function" <[7]> <[8]> WS? "```json""#
        );
        assert!(lark.begins_with_token("[ARGS]x") && !lark.begins_with_token("x[ARGS]"));
        assert_eq!(lark.text_until("<|call|>x", "TEXT"), r#"TEXT <[7]> "x""#);
        assert_eq!(lark.text_until("</p>", "FREE"), "r0");
        assert!(lark.finish().ends_with("r0[lazy]: FREE \"</p>\"\n"));
    }

    #[test]
    fn literals_and_expressions_cannot_end_early() {
        assert_eq!(literal("a\"\\\n\u{7f}é"), r#""a\"\\\n\u007fé""#);
        assert_eq!(regex("a/b\\/c").as_deref(), Some(r"/a\/b\/c/"));
        assert_eq!(regex("").as_deref(), Some("\"\""));
        assert_eq!(regex("^a$").as_deref(), Some("/a/"));
        assert_eq!(regex("a\\$").as_deref(), Some("/a\\$/"));
        assert_eq!(regex("a\\"), None);
    }
}
