//! `str` and `repr`: how Python writes values, within the bytes that a value may have.

use std::fmt::Write as _;

use minijinja::{Error, State, Value};

use super::objects::{Part, Range, View};
use super::{Kind, kind, pairs};
use crate::template::budget::{bound, charge};

/// `str(value)`
///
/// # Errors
/// When the text becomes too long.
pub(crate) fn string(state: &mut State, value: &Value) -> Result<String, Error> {
    let mut text = String::new();
    append(state, &mut text, value)?;
    Ok(text)
}

/// Writes `str(value)` behind a text.
///
/// # Errors
/// When the text becomes too long.
pub(crate) fn append(state: &mut State, out: &mut String, value: &Value) -> Result<(), Error> {
    if kind(value) == Kind::Text {
        let text = value.as_str().unwrap_or_default();
        charge(state, text.len())?;
        bound(out.len() + text.len())?;
        out.push_str(text);
        return Ok(());
    }
    let before = out.len();
    if kind(value) != Kind::Undefined {
        write_repr(out, value)?;
    }
    bound(out.len())?;
    charge(state, out.len() - before)
}

/// `repr(value)`
///
/// # Errors
/// When the text becomes too long.
pub(crate) fn repr(state: &mut State, value: &Value) -> Result<String, Error> {
    let mut text = String::new();
    write_repr(&mut text, value)?;
    charge(state, text.len())?;
    Ok(text)
}

fn write_repr(out: &mut String, value: &Value) -> Result<(), Error> {
    bound(out.len())?;
    match kind(value) {
        Kind::Undefined => out.push_str("Undefined"),
        Kind::None => out.push_str("None"),
        Kind::Bool => out.push_str(if value.is_true() { "True" } else { "False" }),
        Kind::Float => out.push_str(&float(f64::try_from(value.clone())?)),
        Kind::Text if value.is_safe() => {
            out.push_str("Markup(");
            write_quoted(out, value.as_str().unwrap_or_default());
            out.push(')');
        }
        Kind::Text => write_quoted(out, value.as_str().unwrap_or_default()),
        Kind::List => write_items(out, "[", value.try_iter()?, "]")?,
        Kind::Tuple => {
            let is_single = value.len() == Some(1);
            write_items(out, "(", value.try_iter()?, if is_single { ",)" } else { ")" })?;
        }
        Kind::Dict => {
            out.push('{');
            for (index, (key, item)) in pairs(value).into_iter().enumerate() {
                if index > 0 {
                    out.push_str(", ");
                }
                write_repr(out, &key)?;
                out.push_str(": ");
                write_repr(out, &item)?;
            }
            out.push('}');
        }
        Kind::View => {
            let part = value.downcast_object_ref::<View>().map_or(Part::Items, |view| view.part);
            let name = match part {
                Part::Keys => "dict_keys([",
                Part::Values => "dict_values([",
                Part::Items => "dict_items([",
            };
            write_items(out, name, value.try_iter()?, "])")?;
        }
        Kind::Range => {
            if let Some(Range { start, stop, step, .. }) = value.downcast_object_ref() {
                let _ = match step {
                    1 => write!(out, "range({start}, {stop})"),
                    _ => write!(out, "range({start}, {stop}, {step})"),
                };
            }
        }
        Kind::Generator => out.push_str("<generator object>"),
        Kind::Namespace => out.push_str("<Namespace>"),
        Kind::Bytes => write_bytes(out, value.as_bytes().unwrap_or_default()),
        Kind::Int | Kind::Other => {
            let _ = write!(out, "{value}");
        }
    }
    Ok(())
}

/// A text that is marked as safe if another is: Python's `Markup` stays one.
pub(crate) fn like(model: &Value, text: String) -> Value {
    if model.is_safe() { Value::from_safe_string(text) } else { Value::from(text) }
}

/// `markupsafe.escape(text)`
pub(crate) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&#34;"),
            '\'' => escaped.push_str("&#39;"),
            c => escaped.push(c),
        }
    }
    escaped
}

/// A text as it stands in one that is marked as safe.
pub(crate) fn in_safe(value: &Value) -> String {
    let text = value.as_str().unwrap_or_default();
    if value.is_safe() { text.to_owned() } else { escape(text) }
}

fn write_items(
    out: &mut String,
    opening: &str,
    items: impl Iterator<Item = Value>,
    closing: &str,
) -> Result<(), Error> {
    out.push_str(opening);
    for (index, item) in items.enumerate() {
        if index > 0 {
            out.push_str(", ");
        }
        write_repr(out, &item)?;
    }
    out.push_str(closing);
    Ok(())
}

fn write_quoted(out: &mut String, text: &str) {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    out.push(quote);
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c == quote => out.extend(['\\', c]),
            c if is_printable(c) => out.push(c),
            c => {
                let code = u32::from(c);
                let _ = match code {
                    0..=0xff => write!(out, "\\x{code:02x}"),
                    0x100..=0xffff => write!(out, "\\u{code:04x}"),
                    _ => write!(out, "\\U{code:08x}"),
                };
            }
        }
    }
    out.push(quote);
}

fn write_bytes(out: &mut String, bytes: &[u8]) {
    let quote = if bytes.contains(&b'\'') && !bytes.contains(&b'"') { '"' } else { '\'' };
    out.extend(['b', quote]);
    for byte in bytes {
        match char::from(*byte) {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c == quote => out.extend(['\\', c]),
            c @ ' '..='~' => out.push(c),
            _ => {
                let _ = write!(out, "\\x{byte:02x}");
            }
        }
    }
    out.push(quote);
}

/// `str.isprintable`: no control, format, private or unassigned character, and of the spaces only the plain one.
pub(crate) fn is_printable(c: char) -> bool {
    let is_format = matches!(u32::from(c),
        0xad | 0x600..=0x605 | 0x61c | 0x6dd | 0x70f | 0x8e2 | 0x180e | 0x200b..=0x200f | 0x202a..=0x202e
        | 0x2060..=0x206f | 0xfeff | 0xfff9..=0xfffb | 0xe000..=0xf8ff | 0xe0001..=0xe007f | 0xf0000..=0x0010_ffff);
    !c.is_control() && !is_format && (c == ' ' || !c.is_whitespace())
}

/// `repr(value)` of a float: the shortest digits that read back as the same.
pub(crate) fn float(value: f64) -> String {
    if value.is_nan() {
        return "nan".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "inf" } else { "-inf" }.to_owned();
    }
    let scientific = format!("{value:e}");
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or_default();
    if (-4..16).contains(&exponent) {
        let plain = format!("{value}");
        return if plain.contains('.') { plain } else { format!("{plain}.0") };
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{mantissa}e{sign}{:02}", exponent.abs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_are_written_as_python_writes_them() {
        let cases = [
            (1.0, "1.0"),
            (-0.0, "-0.0"),
            (0.1, "0.1"),
            (1e16, "1e+16"),
            (123_456_789_012_345.0, "123456789012345.0"),
            (1e-4, "0.0001"),
            (1.5e-7, "1.5e-07"),
            (1e300, "1e+300"),
        ];
        for (value, text) in cases {
            assert_eq!(float(value), text);
        }
    }
}
