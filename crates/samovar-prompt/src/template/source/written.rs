//! A piece of an expression in minijinja's terms, with the parentheses that its place needs; it reads no tokens.

use std::fmt::Write as _;

/// Integers below are exact as floats.
const EXACT: f64 = (1_u64 << 53) as f64;

/// How tightly a written expression holds together.
#[derive(Clone, Copy, PartialEq, PartialOrd)]
pub(super) enum Tightness {
    /// `a and b`, `-a`, `a is b`: needs parentheses in almost every place.
    Loose,
    /// `a|f`: only more filters may follow.
    Filtered,
    /// `a.b`: anything may follow.
    Primary,
}

/// A written expression.
pub(super) struct Written {
    pub(super) text: String,
    pub(super) tightness: Tightness,
    /// A literal that holds no other value.
    pub(super) is_constant: bool,
}

impl Written {
    pub(super) fn primary(text: impl Into<String>) -> Self {
        Self { text: text.into(), tightness: Tightness::Primary, is_constant: false }
    }

    pub(super) fn constant(text: impl Into<String>) -> Self {
        Self { is_constant: true, ..Self::primary(text) }
    }

    pub(super) fn loose(text: String) -> Self {
        Self { text, tightness: Tightness::Loose, is_constant: false }
    }

    /// The number that a literal is to Python as a key, also of a truth value; of integers only where they are exact.
    pub(super) fn number(&self) -> Option<f64> {
        match self.text.as_str() {
            _ if !self.is_constant => None,
            "true" => Some(1.0),
            "false" => Some(0.0),
            text if text.starts_with(|c: char| c.is_ascii_digit() || c == '-') => {
                // Zero has one sign only.
                text.parse().ok().filter(|number: &f64| number.abs() < EXACT).map(|number| number + 0.0)
            }
            _ => None,
        }
    }

    /// In a place that needs this tightness.
    pub(super) fn at(self, needed: Tightness) -> String {
        if self.tightness >= needed { self.text } else { format!("({})", self.text) }
    }

    pub(super) fn filter(self, name: &str, arguments: &[String]) -> Self {
        let mut text = self.at(Tightness::Filtered);
        let _ = write!(text, "|{name}");
        if !arguments.is_empty() {
            let _ = write!(text, "({})", arguments.join(","));
        }
        Self { text, tightness: Tightness::Filtered, is_constant: false }
    }
}

/// A string as a literal of minijinja.
pub(super) fn quoted(text: &str) -> String {
    let mut literal = String::with_capacity(text.len() + 2);
    literal.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => literal.extend(['\\', c]),
            '\n' => literal.push_str("\\n"),
            '\r' => literal.push_str("\\r"),
            _ => literal.push(c),
        }
    }
    literal.push('"');
    literal
}

/// A literal of values: how deep it becomes is bounded where it is made.
pub(super) fn held(written: Written, is_constant: bool) -> Written {
    if is_constant {
        return Written { is_constant: false, ..written };
    }
    let text = format!("({})", written.filter("__held", &[]).text);
    Written::primary(text)
}
