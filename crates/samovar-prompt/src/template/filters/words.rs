//! Filters of texts.

use std::fmt::Write as _;

use minijinja::{Error, State, Value};

use super::Arguments;
use crate::template::budget::{self, charge, refuse};
use crate::template::python::json::{self, Style};
use crate::template::python::{
    Kind, format as formats, integer, is_space, is_true, items, kind, length as length_of, pairs, strings,
    text, undefined, wrong_type,
};

fn cased(state: &mut State, value: &Value, arguments: Arguments, method: &str) -> Result<Value, Error> {
    arguments.bind::<0>(method, [])?;
    let words = text::string(state, value)?;
    let cased = strings::cased(&words, method);
    charge(state, cased.len())?;
    Ok(text::like(value, cased))
}

pub(super) fn upper(state: &mut State, value: &Value, arguments: Arguments) -> Result<Value, Error> {
    cased(state, value, arguments, "upper")
}

pub(super) fn lower(state: &mut State, value: &Value, arguments: Arguments) -> Result<Value, Error> {
    cased(state, value, arguments, "lower")
}

pub(super) fn capitalize(state: &mut State, value: &Value, arguments: Arguments) -> Result<Value, Error> {
    cased(state, value, arguments, "capitalize")
}

/// Words begin behind spaces, hyphens and opening brackets.
pub(super) fn title(state: &mut State, value: &Value, arguments: Arguments) -> Result<Value, Error> {
    arguments.bind::<0>("title", [])?;
    let words = text::string(state, value)?;
    let mut titled = String::with_capacity(words.len());
    let mut is_first = true;
    for c in words.chars() {
        let parts = is_space(c) || matches!(c, '-' | '(' | '{' | '[' | '<');
        if is_first && !parts {
            titled.extend(c.to_uppercase());
        } else {
            titled.extend(c.to_lowercase());
        }
        is_first = parts;
    }
    budget::text(state, titled)
}

pub(super) fn string(state: &mut State, value: &Value, arguments: Arguments) -> Result<Value, Error> {
    arguments.bind::<0>("string", [])?;
    if kind(value) == Kind::Text {
        return Ok(value.clone());
    }
    text::string(state, value).map(Value::from)
}

pub(super) fn trim(state: &mut State, value: &Value, arguments: Arguments) -> Result<Value, Error> {
    let [chars] = arguments.bind("trim", ["chars"])?;
    let words = text::string(state, value)?;
    Ok(text::like(value, strings::strip(&words, "strip", chars.as_ref())?.to_owned()))
}

pub(super) fn replace(state: &mut State, value: &Value, arguments: Arguments) -> Result<Value, Error> {
    let [old, new, count] = arguments.bind("replace", ["old", "new", "count"])?;
    let (Some(old), Some(new)) = (old, new) else { return Err(refuse("replace needs two texts")) };
    let words = text::string(state, value)?;
    let (old, new) = (text::string(state, &old)?, text::string(state, &new)?);
    let count = count
        .filter(|count| !count.is_none())
        .as_ref()
        .map(|count| integer(count).ok_or_else(|| refuse("replace's count must be an integer")));
    strings::replace(state, &words, &old, &new, count.transpose()?.unwrap_or(-1)).map(Value::from)
}

pub(super) fn center(state: &mut State, value: &Value, arguments: Arguments) -> Result<Value, Error> {
    let [width] = arguments.bind("center", ["width"])?;
    let width = width
        .as_ref()
        .map_or(Some(80), integer)
        .ok_or_else(|| refuse("center's width must be an integer"))?;
    let words = text::string(state, value)?;
    strings::pad(state, &words, width, " ", "center").map(|padded| text::like(value, padded))
}

pub(super) fn indent(state: &mut State, value: &Value, arguments: Arguments) -> Result<Value, Error> {
    let [width, first, blank] = arguments.bind("indent", ["width", "first", "blank"])?;
    let words = match (kind(value), value.as_str()) {
        (Kind::Undefined, _) => return Err(undefined()),
        (_, Some(words)) => words,
        _ => return Err(wrong_type(value, "cannot be indented")),
    };
    let indention = match width.as_ref().map(|width| (width.as_str(), integer(width))) {
        None => " ".repeat(4),
        Some((Some(text), _)) => text.to_owned(),
        Some((None, Some(width))) => {
            let width = usize::try_from(width.max(0)).unwrap_or(usize::MAX);
            charge(state, width)?;
            " ".repeat(width)
        }
        Some(_) => return Err(refuse("indent's width must be an integer or a text")),
    };
    let (first, blank) =
        (first.is_some_and(|first| is_true(&first)), blank.is_some_and(|blank| is_true(&blank)));
    // Jinja2 adds a newline before it splits, so that one at the end stays.
    let mut lines = strings::lines(words, false, usize::MAX);
    if words.is_empty()
        || words
            .ends_with(['\n', '\r', '\x0b', '\x0c', '\x1c', '\x1d', '\x1e', '\u{85}', '\u{2028}', '\u{2029}'])
    {
        lines.push("");
    }
    charge(state, words.len().saturating_add(lines.len().saturating_mul(indention.len() + 1)))?;
    let mut indented = if first { indention.clone() } else { String::new() };
    for (index, line) in lines.into_iter().enumerate() {
        if index > 0 {
            indented.push('\n');
            if blank || !line.is_empty() {
                indented.push_str(&indention);
            }
        }
        indented.push_str(line);
    }
    Ok(text::like(value, indented))
}

#[expect(clippy::needless_pass_by_value, reason = "filters have one signature")]
pub(super) fn format(state: &mut State, value: &Value, arguments: Arguments) -> Result<Value, Error> {
    let words =
        if value.as_str().is_some() { value.clone() } else { Value::from(text::string(state, value)?) };
    let values = match (arguments.positional(), arguments.named()) {
        (positional, []) => Value::from(minijinja::value::Tuple::from(positional.to_vec())),
        ([], named) => Value::from_pairs(named.iter().cloned()),
        _ => return Err(refuse("can't handle positional and keyword arguments at the same time")),
    };
    formats::percent(state, &words, &values)
}

pub(super) fn escape(state: &mut State, value: &Value, arguments: Arguments) -> Result<Value, Error> {
    arguments.bind::<0>("escape", [])?;
    if value.is_safe() {
        return Ok(value.clone());
    }
    forceescape(state, value, Arguments::default())
}

pub(super) fn forceescape(state: &mut State, value: &Value, arguments: Arguments) -> Result<Value, Error> {
    arguments.bind::<0>("forceescape", [])?;
    let escaped = text::escape(&text::string(state, value)?);
    charge(state, escaped.len())?;
    Ok(Value::from_safe_string(escaped))
}

pub(super) fn safe(state: &mut State, value: &Value, arguments: Arguments) -> Result<Value, Error> {
    arguments.bind::<0>("safe", [])?;
    text::string(state, value).map(Value::from_safe_string)
}

pub(super) fn tojson(state: &mut State, value: &Value, arguments: Arguments) -> Result<Value, Error> {
    let [is_ascii, indent, separators, sorts_keys] =
        arguments.bind("tojson", ["ensure_ascii", "indent", "separators", "sort_keys"])?;
    let indent = match indent.filter(|indent| !indent.is_none()) {
        None => None,
        Some(indent) => match (indent.as_str(), integer(&indent)) {
            (Some(text), _) => Some(text.to_owned()),
            (None, Some(width)) => {
                let width = usize::try_from(width.max(0)).ok().filter(|width| *width <= 1000);
                Some(" ".repeat(width.ok_or_else(|| refuse("tojson's indent is too wide"))?))
            }
            _ => return Err(refuse("tojson's indent must be an integer or a text")),
        },
    };
    let (between_items, behind_key) = match separators.filter(|separators| !separators.is_none()) {
        None => (if indent.is_some() { "," } else { ", " }.to_owned(), ": ".to_owned()),
        Some(pair) => match items(state, &pair)?.as_slice() {
            [items, keys] => (text::string(state, items)?, text::string(state, keys)?),
            _ => return Err(refuse("tojson's separators must be two texts")),
        },
    };
    let style = Style {
        is_ascii: is_ascii.is_some_and(|is_ascii| is_true(&is_ascii)),
        indent,
        between_items,
        behind_key,
        sorts_keys: sorts_keys.is_some_and(|sorts_keys| is_true(&sorts_keys)),
    };
    json::dump(state, value, &style).map(Value::from)
}

pub(super) fn truncate(state: &mut State, value: &Value, arguments: Arguments) -> Result<Value, Error> {
    let [length, killwords, end, leeway] =
        arguments.bind("truncate", ["length", "killwords", "end", "leeway"])?;
    let number = |given: Option<Value>, default: i128| match given.filter(|given| !given.is_none()) {
        None => Ok(default),
        Some(given) => integer(&given).ok_or_else(|| refuse("truncate's lengths must be integers")),
    };
    let (length, leeway) = (number(length, 255)?, number(leeway, 5)?);
    let end = end.map_or_else(|| Ok("...".to_owned()), |end| text::string(state, &end))?;
    let end_length = end.chars().count() as i128;
    if length < end_length || leeway < 0 {
        return Err(refuse("truncate's length is shorter than its end"));
    }
    budget::look_through(state, value)?;
    if length_of(value)? as i128 <= length.saturating_add(leeway) {
        return Ok(value.clone());
    }
    let words = value.as_str().ok_or_else(|| wrong_type(value, "cannot be truncated"))?;
    let kept: String = words.chars().take(usize::try_from(length - end_length).unwrap_or_default()).collect();
    let killwords = killwords.is_some_and(|killwords| is_true(&killwords));
    let kept = if killwords { &kept } else { kept.rsplit_once(' ').map_or(kept.as_str(), |(kept, _)| kept) };
    Ok(text::like(value, [kept, &end].concat()))
}

pub(super) fn urlencode(state: &mut State, value: &Value, arguments: Arguments) -> Result<Value, Error> {
    arguments.bind::<0>("urlencode", [])?;
    let pairs = match kind(value) {
        Kind::Dict => pairs(value),
        Kind::List | Kind::Tuple | Kind::View | Kind::Generator | Kind::Undefined => {
            let mut pairs = Vec::new();
            for pair in items(state, value)? {
                match items(state, &pair)?.as_slice() {
                    [key, item] => pairs.push((key.clone(), item.clone())),
                    _ => return Err(refuse("urlencode needs pairs")),
                }
            }
            pairs
        }
        _ => {
            let words = text::string(state, value)?;
            return budget::text(state, quote(&words, false));
        }
    };
    let mut encoded = Vec::new();
    for (key, item) in pairs {
        let (key, item) = (text::string(state, &key)?, text::string(state, &item)?);
        encoded.push(format!("{}={}", quote(&key, true), quote(&item, true)));
    }
    budget::text(state, encoded.join("&"))
}

fn quote(words: &str, is_query: bool) -> String {
    let mut quoted = String::with_capacity(words.len());
    for byte in words.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' | b'.' | b'-' | b'~' => {
                quoted.push(char::from(byte));
            }
            b'/' if !is_query => quoted.push('/'),
            b' ' if is_query => quoted.push('+'),
            byte => {
                let _ = write!(quoted, "%{byte:02X}");
            }
        }
    }
    quoted
}

pub(super) fn wordcount(state: &mut State, value: &Value, arguments: Arguments) -> Result<Value, Error> {
    arguments.bind::<0>("wordcount", [])?;
    let words = text::string(state, value)?;
    let is_apart = |c: char| !c.is_alphanumeric() && c != '_';
    Ok(Value::from(words.split(is_apart).filter(|word| !word.is_empty()).count()))
}
