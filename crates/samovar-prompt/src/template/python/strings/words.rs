//! What the methods of a text do to it.

use minijinja::{Error, State, Value};

use super::{digits, text_of};
use crate::template::budget::{ITEMS_LIMIT, charge, refuse};
use crate::template::python::text::is_printable;
use crate::template::python::{Kind, is_space, kind};

fn is_cased(c: char) -> bool {
    c.is_lowercase() || c.is_uppercase() || matches!(c, 'ǅ' | 'ǈ' | 'ǋ' | 'ǲ')
}

/// A letter at the start of a word in a title.
fn titled(c: char) -> String {
    match c {
        'Ǆ'..='ǆ' => "ǅ".to_owned(),
        'Ǉ'..='ǉ' => "ǈ".to_owned(),
        'Ǌ'..='ǌ' => "ǋ".to_owned(),
        'Ǳ'..='ǳ' => "ǲ".to_owned(),
        _ => {
            let mut upper = c.to_uppercase();
            let first: String = upper.next().into_iter().collect();
            first + &upper.flat_map(char::to_lowercase).collect::<String>()
        }
    }
}

/// A letter as Unicode folds it.
fn folded(c: char) -> String {
    match c {
        'ı' => c.to_string(),
        'ẞ' => "ss".to_owned(),
        // Cherokee is folded to its capitals.
        '\u{13a0}'..='\u{13fd}' | '\u{ab70}'..='\u{abbf}' => c.to_uppercase().collect(),
        _ => c.to_uppercase().flat_map(char::to_lowercase).collect(),
    }
}

pub(crate) fn cased(text: &str, method: &str) -> String {
    match method {
        "lower" => text.to_lowercase(),
        "casefold" => text.chars().map(folded).collect(),
        "upper" => text.to_uppercase(),
        "capitalize" => {
            let mut chars = text.chars();
            let first: String = chars.next().map(titled).unwrap_or_default();
            first + &chars.as_str().to_lowercase()
        }
        "swapcase" => {
            let mut swapped = String::with_capacity(text.len());
            for c in text.chars() {
                if c.is_uppercase() {
                    swapped.extend(c.to_lowercase());
                } else if c.is_lowercase() {
                    swapped.extend(c.to_uppercase());
                } else {
                    swapped.push(c);
                }
            }
            swapped
        }
        _ => {
            let mut words = String::with_capacity(text.len());
            let mut is_inside = false;
            for c in text.chars() {
                if is_inside {
                    words.extend(c.to_lowercase());
                } else {
                    words.push_str(&titled(c));
                }
                is_inside = is_cased(c);
            }
            words
        }
    }
}

/// `str.strip` and its siblings; `chars` none = whitespace.
pub(crate) fn strip<'t>(text: &'t str, method: &str, chars: Option<&Value>) -> Result<&'t str, Error> {
    let chars = chars.filter(|chars| kind(chars) != Kind::None);
    let set: Option<Vec<char>> =
        chars.map(|chars| text_of(method, Some(chars)).map(|set| set.chars().collect())).transpose()?;
    let goes = |c: char| set.as_ref().map_or_else(|| is_space(c), |set| set.contains(&c));
    Ok(match method {
        "lstrip" => text.trim_start_matches(goes),
        "rstrip" => text.trim_end_matches(goes),
        _ => text.trim_matches(goes),
    })
}

/// `str.replace`; a negative count = all.
pub(crate) fn replace(
    state: &mut State,
    text: &str,
    old: &str,
    new: &str,
    count: i128,
) -> Result<String, Error> {
    let all = if old.is_empty() { text.chars().count() + 1 } else { text.matches(old).count() };
    let count = usize::try_from(count).unwrap_or(usize::MAX).min(all);
    charge(state, text.len().saturating_add(count.saturating_mul(new.len())))?;
    Ok(text.replacen(old, new, count))
}

pub(crate) fn pad(
    state: &mut State,
    text: &str,
    width: i128,
    fill: &str,
    side: &str,
) -> Result<String, Error> {
    if fill.chars().count() != 1 {
        return Err(refuse("the fill character must be exactly one character long"));
    }
    let width = usize::try_from(width.max(0)).unwrap_or(usize::MAX);
    let length = text.chars().count();
    let missing = width.saturating_sub(length);
    charge(state, missing.saturating_mul(fill.len()).saturating_add(text.len()))?;
    let left = match side {
        "ljust" => 0,
        "rjust" => missing,
        // As CPython rounds.
        _ => missing / 2 + (missing & width & 1),
    };
    Ok([&fill.repeat(left), text, &fill.repeat(missing - left)].concat())
}

pub(crate) fn split<'t>(
    text: &'t str,
    separator: Option<&str>,
    limit: usize,
    from_right: bool,
) -> Result<Vec<&'t str>, Error> {
    // What would be too many is counted no further.
    let most = ITEMS_LIMIT + 1;
    let pieces = limit.saturating_add(1);
    Ok(match separator {
        Some("") => return Err(refuse("empty separator")),
        Some(separator) if from_right => {
            let mut parts: Vec<&str> = text.rsplitn(pieces, separator).take(most).collect();
            parts.reverse();
            parts
        }
        Some(separator) => text.splitn(pieces, separator).take(most).collect(),
        None => {
            let mut parts = Vec::new();
            let mut rest = text;
            loop {
                rest = if from_right {
                    rest.trim_end_matches(is_space)
                } else {
                    rest.trim_start_matches(is_space)
                };
                if rest.is_empty() || parts.len() >= most {
                    break;
                }
                let cut = if from_right { rest.rfind(is_space) } else { rest.find(is_space) };
                let Some(cut) = cut.filter(|_| parts.len() < limit) else {
                    parts.push(rest);
                    break;
                };
                if from_right {
                    let word = cut + rest[cut..].chars().next().map_or(0, char::len_utf8);
                    parts.push(&rest[word..]);
                    rest = &rest[..cut];
                } else {
                    parts.push(&rest[..cut]);
                    rest = &rest[cut..];
                }
            }
            if from_right {
                parts.reverse();
            }
            parts
        }
    })
}

/// `str.expandtabs`
pub(crate) fn expand_tabs(state: &mut State, text: &str, size: i128) -> Result<String, Error> {
    let size = usize::try_from(size.max(0)).unwrap_or(usize::MAX);
    charge(state, text.len().saturating_add(text.matches('\t').count().saturating_mul(size)))?;
    let mut expanded = String::with_capacity(text.len());
    let mut column = 0;
    for c in text.chars() {
        match c {
            '\t' if size > 0 => {
                let missing = size - column % size;
                expanded.extend(std::iter::repeat_n(' ', missing));
                column += missing;
            }
            '\t' => {}
            _ => {
                expanded.push(c);
                column = if matches!(c, '\n' | '\r') { 0 } else { column + 1 };
            }
        }
    }
    Ok(expanded)
}

/// `str.splitlines`; what would be more than `most` lines is read no further than one line beyond.
pub(crate) fn lines(text: &str, keep_ends: bool, most: usize) -> Vec<&str> {
    let is_end = |c: char| {
        matches!(c, '\n' | '\r' | '\x0b' | '\x0c' | '\x1c'..='\x1e' | '\u{85}' | '\u{2028}' | '\u{2029}')
    };
    let mut lines = Vec::new();
    let mut rest = text;
    while !rest.is_empty() && lines.len() <= most {
        let Some(at) = rest.find(is_end) else {
            lines.push(rest);
            break;
        };
        let end = if rest[at..].starts_with("\r\n") {
            2
        } else {
            rest[at..].chars().next().map_or(1, char::len_utf8)
        };
        lines.push(&rest[..if keep_ends { at + end } else { at }]);
        rest = &rest[at + end..];
    }
    lines
}

pub(crate) fn is(text: &str, method: &str) -> bool {
    let all = |test: fn(char) -> bool| !text.is_empty() && text.chars().all(test);
    match method {
        "isalnum" => all(|c| c.is_alphanumeric() || digits::is_numeric(c)),
        "isalpha" => all(|c| c.is_alphabetic() && !c.is_numeric()),
        "isascii" => text.is_ascii(),
        "isdecimal" => all(digits::is_decimal),
        "isdigit" => all(digits::is_digit),
        "isnumeric" => all(digits::is_numeric),
        "isidentifier" => {
            text.chars().next().is_some_and(|c| c.is_alphabetic() || c == '_')
                && text.chars().all(|c| c.is_alphanumeric() || c == '_')
        }
        "islower" => text.chars().any(is_cased) && !text.chars().any(char::is_uppercase),
        "isupper" => text.chars().any(is_cased) && !text.chars().any(char::is_lowercase),
        "isprintable" => text.chars().all(is_printable),
        "isspace" => all(is_space),
        _ => text.chars().any(is_cased) && cased(text, "title") == text,
    }
}
