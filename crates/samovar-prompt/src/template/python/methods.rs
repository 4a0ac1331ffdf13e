//! The methods of Python's built-in types, without those that change a value.

use minijinja::value::Tuple;
use minijinja::{Error, ErrorKind, State, Value};

use super::objects::{Part, View};
use super::operators::{check_key, equal};
use super::{Kind, integer, kind, pairs, strings, undefined};
use crate::template::budget::{charge_items, look_through, refuse};
use crate::template::filters::Arguments;

const DICT: [&str; 11] =
    ["clear", "copy", "fromkeys", "get", "items", "keys", "pop", "popitem", "setdefault", "update", "values"];
const LIST: [&str; 11] =
    ["append", "clear", "copy", "count", "extend", "index", "insert", "pop", "remove", "reverse", "sort"];
const TUPLE: [&str; 2] = ["count", "index"];
const NUMBER: [&str; 3] = ["bit_length", "conjugate", "is_integer"];
const BYTES: [&str; 1] = ["decode"];
/// What numbers have that is no method.
const PARTS: [&str; 4] = ["denominator", "imag", "numerator", "real"];

/// The methods of a type.
pub(crate) fn names(kind: Kind) -> &'static [&'static str] {
    match kind {
        Kind::Dict => &DICT,
        Kind::List => &LIST,
        Kind::Tuple | Kind::Range => &TUPLE,
        Kind::Text => &strings::NAMES,
        Kind::Int | Kind::Float | Kind::Bool => &NUMBER,
        Kind::Bytes => &BYTES,
        _ => &[],
    }
}

/// Whether some type has a method of this name, or another attribute.
pub(crate) fn is_method(name: &str) -> bool {
    [&DICT[..], &LIST, &strings::NAMES, &NUMBER, &BYTES, &PARTS].iter().any(|names| names.contains(&name))
}

/// Whether a method changes its value.
pub(crate) fn changes(kind: Kind, name: &str) -> bool {
    match kind {
        Kind::Dict => ["clear", "pop", "popitem", "setdefault", "update"].contains(&name),
        Kind::List => LIST.contains(&name) && !["copy", "count", "index"].contains(&name),
        _ => false,
    }
}

/// `value.method(arguments)`
///
/// # Errors
/// An unknown method (the caller may find a callable of this name in the value), a wrong call, a method that changes
/// its value.
pub(crate) fn call(
    state: &mut State,
    value: &Value,
    method: &str,
    arguments: &[Value],
) -> Result<Value, Error> {
    let kind = kind(value);
    if kind == Kind::Undefined {
        return Err(undefined());
    }
    if !names(kind).contains(&method) {
        return Err(Error::from(ErrorKind::UnknownMethod));
    }
    if changes(kind, method) {
        return Err(refuse(format!("'{method}' would change a '{}'", kind.name())));
    }
    let arguments = Arguments::from_values(arguments)?;
    match kind {
        Kind::Text => strings::call(state, value, method, arguments),
        Kind::Bytes => strings::decode(state, value, arguments),
        Kind::Dict => dict(state, value, method, arguments),
        Kind::List | Kind::Tuple | Kind::Range => list(state, value, method, arguments),
        _ => {
            arguments.bind::<0>(method, [])?;
            Ok(match (method, integer(value)) {
                ("is_integer", None) => {
                    Value::from(f64::try_from(value.clone()).is_ok_and(|float| float.fract() == 0.0))
                }
                ("is_integer", Some(_)) => Value::from(true),
                ("bit_length", Some(integer)) => Value::from(128 - integer.unsigned_abs().leading_zeros()),
                ("conjugate", _) => value.clone(),
                _ => return Err(Error::from(ErrorKind::UnknownMethod)),
            })
        }
    }
}

fn dict(state: &mut State, value: &Value, method: &str, arguments: Arguments) -> Result<Value, Error> {
    if method == "get" {
        let [key, default] = arguments.bind("get", ["key", "default"])?;
        let key = key.ok_or_else(|| refuse("get expected at least 1 argument, got 0"))?;
        check_key(&key)?;
        look_through(state, &key)?;
        let found = value.get_item(&key)?;
        return Ok(if found.is_undefined() { default.unwrap_or_else(|| Value::from(())) } else { found });
    }
    if method == "fromkeys" {
        return Err(refuse("'fromkeys' is not supported"));
    }
    arguments.bind::<0>(method, [])?;
    let pairs = pairs(value);
    charge_items(state, pairs.len())?;
    Ok(match method {
        "copy" => Value::from_pairs(pairs),
        "keys" => Value::from_object(View {
            part: Part::Keys,
            items: pairs.into_iter().map(|(key, _)| key).collect(),
        }),
        "values" => {
            let items = pairs.into_iter().map(|(_, item)| item).collect();
            Value::from_object(View { part: Part::Values, items })
        }
        _ => {
            let items = pairs.into_iter().map(|(key, item)| Value::from(Tuple::from([key, item]))).collect();
            Value::from_object(View { part: Part::Items, items })
        }
    })
}

fn list(state: &mut State, value: &Value, method: &str, arguments: Arguments) -> Result<Value, Error> {
    if method == "copy" {
        return super::operators::list(state, value);
    }
    let [wanted, start, stop] = arguments.bind(method, ["value", "start", "stop"])?;
    let wanted = wanted.ok_or_else(|| refuse(format!("{method} expected at least 1 argument, got 0")))?;
    let mut count = 0_usize;
    let length = value.len().unwrap_or_default();
    let bound = |given: Option<Value>, default: usize| match given.as_ref().and_then(integer) {
        Some(bound) if bound < 0 => usize::try_from(bound + length as i128).unwrap_or(0),
        Some(bound) => usize::try_from(bound).unwrap_or(length),
        None => default,
    };
    let (start, stop) = (bound(start, 0), bound(stop, length));
    for (index, item) in value.try_iter()?.enumerate() {
        if (method == "count" || (start..stop).contains(&index)) && equal(state, &item, &wanted)? {
            if method == "index" {
                return Ok(Value::from(index));
            }
            count += 1;
        }
    }
    if method == "index" { Err(refuse("the value is not in the list")) } else { Ok(Value::from(count)) }
}
