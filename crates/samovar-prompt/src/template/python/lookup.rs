//! `value.name`, `value[key]` and slices with Jinja2's order: an attribute prefers methods, a subscript prefers items.

use minijinja::{Error, State, Value};

use super::objects::{Bound, Range};
use super::{Kind, integer, kind, length, methods, text, undefined};
use crate::template::budget::{self, charge, refuse};

/// `value.name` where it is not called.
///
/// # Errors
/// When the value is undefined, or the attribute is not for templates.
pub(crate) fn attribute(value: &Value, name: &str) -> Result<Value, Error> {
    if let Some(method) = method(value, name)? {
        return Ok(method);
    }
    value.get_attr(name).map_err(|_| undefined())
}

/// `value[key]`
///
/// # Errors
/// When the value is undefined, or the attribute is not for templates.
pub(crate) fn item(value: &Value, key: &Value) -> Result<Value, Error> {
    let found = match kind(value) {
        Kind::Undefined => return Err(undefined()),
        Kind::Dict | Kind::Namespace | Kind::Other => value.get_item(key)?,
        Kind::Text | Kind::List | Kind::Tuple | Kind::Bytes | Kind::Range => match integer(key) {
            Some(index) => at(value, index)?,
            None => Value::UNDEFINED,
        },
        _ => Value::UNDEFINED,
    };
    if found.is_undefined()
        && let Some(method) = key.as_str().map(|name| method(value, name)).transpose()?.flatten()
    {
        return Ok(method);
    }
    Ok(found)
}

fn at(value: &Value, index: i128) -> Result<Value, Error> {
    let length = length(value)? as i128;
    let index = if index < 0 { index + length } else { index };
    match i64::try_from(index) {
        Ok(index) if index >= 0 => {
            let item = value.get_item(&Value::from(index))?;
            Ok(match item.as_str() {
                Some(character) if value.is_safe() => text::like(value, character.to_owned()),
                _ => item,
            })
        }
        _ => Ok(Value::UNDEFINED),
    }
}

/// A method of the value's type. What changes a value is undefined, and so is what belongs to Python itself, as in an
/// immutable sandbox.
fn method(value: &Value, name: &str) -> Result<Option<Value>, Error> {
    let kind = kind(value);
    if kind == Kind::Undefined {
        return Err(undefined());
    }
    let is_own = methods::names(kind).contains(&name);
    if ["__class__", "__init__", "__doc__", "__len__"].contains(&name)
        || (is_own && methods::changes(kind, name))
    {
        return Ok(Some(Value::UNDEFINED));
    }
    if let Some(part) = part_of_number(value, name) {
        return Ok(Some(part));
    }
    Ok(is_own.then(|| Value::from_object(Bound { value: value.clone(), method: name.to_owned() })))
}

/// `number.real` and its siblings.
fn part_of_number(value: &Value, name: &str) -> Option<Value> {
    match (kind(value), name) {
        (Kind::Int | Kind::Bool, "real" | "numerator") => integer(value).map(Value::from),
        (Kind::Int | Kind::Bool, "imag") => Some(Value::from(0)),
        (Kind::Int | Kind::Bool, "denominator") => Some(Value::from(1)),
        (Kind::Float, "real") => Some(value.clone()),
        (Kind::Float, "imag") => Some(Value::from(0.0)),
        _ => None,
    }
}

/// `value[start:stop:step]`
///
/// # Errors
/// When the value is undefined, a bound is no integer, or the step is 0.
pub(crate) fn slice(state: &mut State, value: &Value, bounds: &[Value]) -> Result<Value, Error> {
    let kind = kind(value);
    match kind {
        Kind::Text | Kind::List | Kind::Tuple | Kind::Range => {}
        _ => return Err(super::wrong_type(value, "is not subscriptable")),
    }
    let mut given = [None; 3];
    for (place, bound) in given.iter_mut().zip(bounds) {
        *place = match super::kind(bound) {
            Kind::None => None,
            _ => Some(integer(bound).ok_or_else(|| refuse("slice indices must be integers or None"))?),
        };
    }
    let [start, stop, step] = given;
    let step = step.unwrap_or(1);
    if step == 0 {
        return Err(refuse("slice step cannot be zero"));
    }
    let length = length(value)? as i128;
    let clamp = |bound: i128, low: i128, high: i128| {
        (if bound < 0 { bound.saturating_add(length) } else { bound }).clamp(low, high)
    };
    let (start, stop) = if step > 0 {
        (clamp(start.unwrap_or(0), 0, length), stop.map_or(length, |stop| clamp(stop, 0, length)))
    } else {
        let start = start.map_or(length - 1, |start| clamp(start, -1, length - 1));
        (start, stop.map_or(-1, |stop| clamp(stop, -1, length - 1)))
    };
    // Each place is a number for a while.
    charge(state, length as usize)?;
    let mut places = Vec::new();
    let mut place = start;
    while if step > 0 { place < stop } else { place > stop } {
        places.push(usize::try_from(place).unwrap_or_default());
        place = place.saturating_add(step);
    }
    if kind == Kind::Text {
        let text = value.as_str().unwrap_or_default();
        return Ok(text::like(value, slice_text(text, &places, step)));
    }
    if let Some(range) = value.downcast_object_ref::<Range>() {
        // The end may lie beyond what an integer holds, and nothing is read there.
        let at = |place: i128| {
            i64::try_from(i128::from(range.start) + place * i128::from(range.step)).unwrap_or(range.stop)
        };
        let step = i64::try_from(step).unwrap_or(i64::MAX).saturating_mul(range.step);
        let length = places.len();
        return Ok(Value::from_object(Range { start: at(start), stop: at(stop), step, length }));
    }
    let all: Vec<Value> = value.try_iter()?.checked().collect::<Result<_, _>>()?;
    let items: Vec<Value> = places.into_iter().map(|place| all[place].clone()).collect();
    if kind == Kind::Tuple {
        budget::charge_items(state, items.len())?;
        return Ok(Value::from(minijinja::value::Tuple::from(items)));
    }
    budget::list(state, items)
}

fn slice_text(text: &str, places: &[usize], step: i128) -> String {
    match (places.first(), places.last()) {
        (Some(first), Some(last)) if step == 1 => text.chars().skip(*first).take(last - first + 1).collect(),
        (Some(_), Some(_)) => {
            let chars: Vec<char> = text.chars().collect();
            places.iter().map(|place| chars[*place]).collect()
        }
        _ => String::new(),
    }
}
