//! `json.dumps`: how transformers' `tojson` writes values.

use std::fmt::Write as _;

use minijinja::{Error, State, Value};

use super::operators::sort;
use super::{Kind, integer, kind, pairs, text};
use crate::template::budget::{bound, charge, refuse};

/// How it is written.
#[derive(Debug)]
pub(crate) struct Style {
    pub(crate) is_ascii: bool,
    /// What a level is indented by; none = on one line.
    pub(crate) indent: Option<String>,
    pub(crate) between_items: String,
    pub(crate) behind_key: String,
    pub(crate) sorts_keys: bool,
}

/// `json.dumps(value)`
///
/// # Errors
/// `TypeError` of what JSON lacks, or when the text becomes too long.
pub(crate) fn dump(state: &mut State, value: &Value, style: &Style) -> Result<String, Error> {
    let mut out = String::new();
    write(state, &mut out, value, style, 0)?;
    charge(state, out.len())?;
    Ok(out)
}

fn write(
    state: &mut State,
    out: &mut String,
    value: &Value,
    style: &Style,
    depth: usize,
) -> Result<(), Error> {
    bound(out.len())?;
    match kind(value) {
        Kind::Text => write_text(out, value.as_str().unwrap_or_default(), style.is_ascii),
        Kind::None | Kind::Bool | Kind::Int | Kind::Float => out.push_str(&plain(value)),
        Kind::List | Kind::Tuple => {
            let items: Vec<Value> = value.try_iter()?.collect();
            let count = items.len();
            surround(out, style, depth, count, ['[', ']'], |out, index| {
                write(state, out, &items[index], style, depth + 1)
            })?;
        }
        Kind::Dict => {
            let mut members = pairs(value);
            if style.sorts_keys {
                members = sort(state, members, false)?;
            }
            surround(out, style, depth, members.len(), ['{', '}'], |out, index| {
                let (key, item) = &members[index];
                match kind(key) {
                    Kind::Text => write_text(out, key.as_str().unwrap_or_default(), style.is_ascii),
                    Kind::None | Kind::Bool | Kind::Int | Kind::Float => {
                        write_text(out, &plain(key), style.is_ascii);
                    }
                    kind => {
                        return Err(refuse(format!(
                            "keys must be str, int, float, bool or None, not {}",
                            kind.name()
                        )));
                    }
                }
                out.push_str(&style.behind_key);
                write(state, out, item, style, depth + 1)
            })?;
        }
        kind => return Err(refuse(format!("Object of type {} is not JSON serializable", kind.name()))),
    }
    Ok(())
}

fn plain(value: &Value) -> String {
    match kind(value) {
        Kind::None => "null".to_owned(),
        Kind::Bool => if value.is_true() { "true" } else { "false" }.to_owned(),
        Kind::Float => match text::float(f64::try_from(value.clone()).unwrap_or_default()).as_str() {
            "nan" => "NaN".to_owned(),
            "inf" => "Infinity".to_owned(),
            "-inf" => "-Infinity".to_owned(),
            digits => digits.to_owned(),
        },
        _ => integer(value).unwrap_or_default().to_string(),
    }
}

fn surround(
    out: &mut String,
    style: &Style,
    depth: usize,
    count: usize,
    brackets: [char; 2],
    mut item: impl FnMut(&mut String, usize) -> Result<(), Error>,
) -> Result<(), Error> {
    out.push(brackets[0]);
    let new_line = |out: &mut String, depth: usize| -> Result<(), Error> {
        if let Some(indent) = &style.indent {
            bound(out.len().saturating_add(indent.len().saturating_mul(depth)))?;
            out.push('\n');
            out.extend(std::iter::repeat_n(indent.as_str(), depth));
        }
        Ok(())
    };
    for index in 0..count {
        if index > 0 {
            out.push_str(&style.between_items);
        }
        new_line(out, depth + 1)?;
        item(out, index)?;
    }
    if count > 0 {
        new_line(out, depth)?;
    }
    out.push(brackets[1]);
    Ok(())
}

fn write_text(out: &mut String, text: &str, is_ascii: bool) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\x08' => out.push_str("\\b"),
            '\x0c' => out.push_str("\\f"),
            '\0'..='\x1f' => {
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c if is_ascii && !(' '..='~').contains(&c) => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    let _ = write!(out, "\\u{unit:04x}");
                }
            }
            c => out.push(c),
        }
    }
    out.push('"');
}
