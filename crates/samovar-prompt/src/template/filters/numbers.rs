//! Filters of numbers.

use std::num::IntErrorKind;

use minijinja::{Error, State, Value};

use super::Arguments;
use crate::template::budget::{look_through, refuse};
use crate::template::python::{Kind, integer, is_space, kind, number, undefined, wrong_type};

pub(super) fn abs(_: &mut State, value: &Value, arguments: Arguments) -> Result<Value, Error> {
    arguments.bind::<0>("abs", [])?;
    match (integer(value), number(value)) {
        (Some(integer), _) => Ok(of_integer(integer.checked_abs().ok_or_else(too_large)?)),
        (None, Some(float)) => Ok(Value::from(float.abs())),
        _ => Err(wrong_type(value, "has no absolute value")),
    }
}

fn of_integer(integer: i128) -> Value {
    i64::try_from(integer).map_or_else(|_| Value::from(integer), Value::from)
}

/// `int(text, base)`; `None` where the text is no integer.
fn parse_int(text: &str, base: u32) -> Result<Option<i128>, Error> {
    let text = text.trim_matches(is_space);
    let (is_negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let prefixes: &[&str] = match base {
        2 => &["0b", "0B"],
        8 => &["0o", "0O"],
        16 => &["0x", "0X"],
        _ => &[],
    };
    let digits = prefixes.iter().find_map(|prefix| digits.strip_prefix(prefix)).unwrap_or(digits);
    if digits.starts_with(['_', '+', '-']) || digits.ends_with('_') || digits.contains("__") {
        return Ok(None);
    }
    match i128::from_str_radix(&digits.replace('_', ""), base) {
        Ok(value) => Ok(Some(if is_negative { -value } else { value })),
        Err(error) if *error.kind() == IntErrorKind::PosOverflow => Err(too_large()),
        Err(_) => Ok(None),
    }
}

fn too_large() -> Error {
    refuse("an integer is too large")
}

/// `float(text)`
fn parse_float(text: &str) -> Option<f64> {
    let text = text.trim_matches(is_space);
    if text.starts_with('_') || text.ends_with('_') || text.contains("__") {
        return None;
    }
    text.replace('_', "").parse().ok()
}

/// `int(float)`; `None` of what is no number.
fn truncated(float: f64) -> Result<Option<i128>, Error> {
    match float.abs() {
        size if size.is_nan() => Ok(None),
        size if size < 1e38 => Ok(Some(float.trunc() as i128)),
        _ => Err(too_large()),
    }
}

pub(super) fn int(state: &mut State, value: &Value, arguments: Arguments) -> Result<Value, Error> {
    let [default, base] = arguments.bind("int", ["default", "base"])?;
    look_through(state, value)?;
    let base = base.as_ref().and_then(integer).map_or(Some(10), |base| u32::try_from(base).ok());
    let base = base
        .filter(|base| (2..=36).contains(base))
        .ok_or_else(|| refuse("int() base must be between 2 and 36"))?;
    let found = match (kind(value), value.as_str()) {
        (Kind::Undefined, _) => return Err(undefined()),
        (Kind::Bool | Kind::Int, _) => integer(value),
        (Kind::Float, _) => truncated(f64::try_from(value.clone())?)?,
        (_, Some(text)) => match (parse_int(text, base)?, parse_float(text)) {
            (None, Some(float)) if float.is_finite() => truncated(float)?,
            (whole, _) => whole,
        },
        _ => None,
    };
    Ok(found.map_or_else(|| default.unwrap_or_else(|| Value::from(0)), of_integer))
}

pub(super) fn float(state: &mut State, value: &Value, arguments: Arguments) -> Result<Value, Error> {
    let [default] = arguments.bind("float", ["default"])?;
    look_through(state, value)?;
    let found = match (kind(value), value.as_str()) {
        (Kind::Undefined, _) => return Err(undefined()),
        (_, Some(text)) => parse_float(text),
        _ => number(value),
    };
    Ok(found.map_or_else(|| default.unwrap_or_else(|| Value::from(0.0)), Value::from))
}

pub(super) fn round(_: &mut State, value: &Value, arguments: Arguments) -> Result<Value, Error> {
    let [precision, method] = arguments.bind("round", ["precision", "method"])?;
    let precision = precision
        .as_ref()
        .map_or(Some(0), integer)
        .ok_or_else(|| refuse("the precision must be an integer"))?;
    let precision = i32::try_from(precision.clamp(-300, 300)).unwrap_or_default();
    let method = method.as_ref().map_or("common", |method| method.as_str().unwrap_or_default());
    let number = number(value).ok_or_else(|| wrong_type(value, "has no rounding"))?;
    let factor = 10_f64.powi(precision);
    match method {
        "common" => match integer(value) {
            Some(_) if precision >= 0 && kind(value) == Kind::Int => Ok(value.clone()),
            Some(integer) if precision >= 0 => Ok(of_integer(integer)),
            Some(_) => {
                Ok(of_integer(truncated((number * factor).round_ties_even() / factor)?.unwrap_or_default()))
            }
            None if precision >= 0 => {
                let digits = usize::try_from(precision).unwrap_or_default();
                Ok(Value::from(format!("{number:.digits$}").parse::<f64>().unwrap_or(number)))
            }
            None => Ok(Value::from((number * factor).round_ties_even() / factor)),
        },
        "ceil" => Ok(Value::from((number * factor).ceil() / factor)),
        "floor" => Ok(Value::from((number * factor).floor() / factor)),
        _ => Err(refuse("method must be common, ceil or floor")),
    }
}

pub(super) fn filesizeformat(_: &mut State, value: &Value, arguments: Arguments) -> Result<Value, Error> {
    let [binary] = arguments.bind("filesizeformat", ["binary"])?;
    let is_binary = binary.is_some_and(|binary| binary.is_true());
    let bytes = value.as_str().map_or_else(|| number(value), parse_float);
    let bytes = bytes.ok_or_else(|| wrong_type(value, "is no size"))?;
    let base: f64 = if is_binary { 1024.0 } else { 1000.0 };
    if (bytes - 1.0).abs() < f64::EPSILON {
        return Ok(Value::from("1 Byte"));
    }
    if bytes < base {
        return Ok(Value::from(format!("{:.0} Bytes", bytes.trunc())));
    }
    let mut unit = base;
    let mut prefix = "";
    for letter in ["k", "M", "G", "T", "P", "E", "Z", "Y"] {
        unit *= base;
        prefix = letter;
        if bytes < unit {
            break;
        }
    }
    let prefix = if is_binary { format!("{}iB", prefix.to_uppercase()) } else { format!("{prefix}B") };
    Ok(Value::from(format!("{:.1} {prefix}", base * bytes / unit)))
}
