//! The words inside one tag, as Jinja2's lexer cuts them: names, literals, operators. It knows no grammar.

use super::SyntaxError;
use crate::template::python::is_space;

/// A word inside a tag.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Token {
    Name(String),
    /// A string, its escapes read.
    Text(String),
    Integer(i128),
    Float(f64),
    Operator(&'static str),
}

impl Token {
    pub(super) fn is(&self, operator: &str) -> bool {
        matches!(self, Self::Operator(own) if *own == operator)
    }

    pub(super) fn is_name(&self, name: &str) -> bool {
        matches!(self, Self::Name(own) if own == name)
    }
}

/// Longest first.
const OPERATORS: [&str; 26] = [
    "**", "//", "==", "!=", ">=", "<=", "+", "-", "/", "*", "%", "~", "[", "]", "(", ")", "{", "}", ">", "<",
    "=", ".", ":", "|", ",", ";",
];

/// The tokens up to `end` (`}}` or `%}`), how many bytes they and the end take, and the sign before the end.
pub(super) fn tokens(
    text: &str,
    first_line: usize,
    end: &str,
    is_block: bool,
) -> Result<(Vec<Token>, usize, Option<char>), SyntaxError> {
    let mut tokens = Vec::new();
    let mut open: Vec<&str> = Vec::new();
    let mut at = 0;
    loop {
        let rest = &text[at..];
        let fail = |words: String| SyntaxError::new(first_line + text[..at].matches('\n').count(), words);
        let Some(first) = rest.chars().next() else {
            return Err(SyntaxError::new(first_line, "unexpected end of template inside a tag"));
        };
        if open.is_empty() {
            if rest.starts_with(end) {
                return Ok((tokens, at + end.len(), None));
            }
            let has_sign = first == '-' || (is_block && first == '+');
            if has_sign && rest[1..].starts_with(end) {
                return Ok((tokens, at + 1 + end.len(), Some(first)));
            }
        }
        if is_space(first) {
            at += first.len_utf8();
        } else if first.is_ascii_digit() {
            let follows_dot = text[..at].ends_with('.');
            let (token, bytes) = number(rest, follows_dot).map_err(fail)?;
            tokens.push(token);
            at += bytes;
        } else if first.is_alphanumeric() || first == '_' {
            let bytes = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
            tokens.push(Token::Name(rest[..bytes].to_owned()));
            at += bytes;
        } else if first == '"' || first == '\'' {
            let (token, bytes) = string(rest, first).map_err(fail)?;
            tokens.push(token);
            at += bytes;
        } else if let Some(operator) = OPERATORS.into_iter().find(|operator| rest.starts_with(operator)) {
            match operator {
                "(" => open.push(")"),
                "[" => open.push("]"),
                "{" => open.push("}"),
                ")" | "]" | "}" if open.pop() != Some(operator) => {
                    return Err(fail(format!("unexpected '{operator}'")));
                }
                _ => {}
            }
            tokens.push(Token::Operator(operator));
            at += operator.len();
        } else {
            return Err(fail(format!("unexpected char {first:?}")));
        }
    }
}

fn number(text: &str, follows_dot: bool) -> Result<(Token, usize), String> {
    let prefixed = |prefix: &str| text.get(..2).is_some_and(|start| start.eq_ignore_ascii_case(prefix));
    for (prefix, radix) in [("0b", 2), ("0o", 8), ("0x", 16)] {
        if prefixed(prefix) && text[2..].starts_with(|c: char| c.is_digit(radix) || c == '_') {
            let bytes = 2 + digits(&text[2..], radix);
            let value = i128::from_str_radix(&text[2..bytes].replace('_', ""), radix);
            return value
                .map(|value| (Token::Integer(value), bytes))
                .map_err(|_| "an integer is too large".to_owned());
        }
    }
    let whole = digits(text, 10);
    if !follows_dot {
        let mut bytes = whole;
        if text[bytes..].starts_with('.') && text[bytes + 1..].starts_with(|c: char| c.is_ascii_digit()) {
            bytes += 1 + digits(&text[bytes + 1..], 10);
        }
        if text[bytes..].starts_with(['e', 'E']) {
            let sign = usize::from(text[bytes + 1..].starts_with(['+', '-']));
            if text[bytes + 1 + sign..].starts_with(|c: char| c.is_ascii_digit()) {
                bytes += 1 + sign + digits(&text[bytes + 1 + sign..], 10);
            }
        }
        if bytes > whole {
            let value = text[..bytes].replace('_', "").parse().map_err(|_| "no number".to_owned())?;
            return Ok((Token::Float(value), bytes));
        }
    }
    // Jinja2 reads `012` as two numbers, which no expression can hold.
    let clean = text[..whole].replace('_', "");
    if clean.len() > 1 && clean.starts_with('0') && clean.chars().any(|c| c != '0') {
        return Err(format!("unexpected number '{clean}'"));
    }
    clean
        .parse()
        .map(|value| (Token::Integer(value), whole))
        .map_err(|_| "an integer is too large".to_owned())
}

/// The length of digits with single underscores between them.
fn digits(text: &str, radix: u32) -> usize {
    let bytes = text.as_bytes();
    let is_digit = |at: usize| bytes.get(at).is_some_and(|byte| char::from(*byte).is_digit(radix));
    let mut at = 0;
    while is_digit(at) || (bytes.get(at) == Some(&b'_') && is_digit(at + 1)) {
        at += 1;
    }
    at
}

/// A string with Python's escapes; what they do not know stays as it is.
fn string(text: &str, quote: char) -> Result<(Token, usize), String> {
    let mut value = String::new();
    let mut chars = text.char_indices().skip(1);
    while let Some((at, c)) = chars.next() {
        if c == quote {
            return Ok((Token::Text(value), at + 1));
        }
        if c != '\\' {
            value.push(c);
            continue;
        }
        let Some((at, escaped)) = chars.next() else { break };
        let mut skip = 0;
        let mut code = |from: usize, length: usize| {
            let digits = text.get(from..from + length)?;
            skip = length;
            u32::from_str_radix(digits, 16).ok().filter(|_| !digits.starts_with('+')).and_then(char::from_u32)
        };
        match escaped {
            '\n' => {}
            '\\' | '\'' | '"' => value.push(escaped),
            'a' => value.push('\x07'),
            'b' => value.push('\x08'),
            'f' => value.push('\x0c'),
            'n' => value.push('\n'),
            'r' => value.push('\r'),
            't' => value.push('\t'),
            'v' => value.push('\x0b'),
            'x' => value.push(code(at + 1, 2).ok_or("truncated \\xXX escape")?),
            'u' => value.push(code(at + 1, 4).ok_or("truncated \\uXXXX escape")?),
            'U' => value.push(code(at + 1, 8).ok_or("truncated \\UXXXXXXXX escape")?),
            'N' => return Err("escapes by a character's name are not supported".to_owned()),
            '0'..='7' => {
                let octal = &text[at..];
                let length = octal.find(|c: char| !('0'..='7').contains(&c)).unwrap_or(octal.len()).min(3);
                skip = length - 1;
                let code = u32::from_str_radix(&octal[..length], 8).ok().and_then(char::from_u32);
                value.push(code.ok_or("no character")?);
            }
            other => {
                value.push('\\');
                value.push(other);
            }
        }
        for _ in 0..skip {
            chars.next();
        }
    }
    Err("a string has no end".to_owned())
}
