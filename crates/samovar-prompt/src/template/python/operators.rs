//! Python's operators, with its errors where types do not fit, and with bounds on what they make.

use std::cmp::Ordering;
use std::collections::VecDeque;

use minijinja::value::Tuple;
use minijinja::{Error, State, Value};

use super::objects::Generator;
use super::{Kind, format, integer, items, kind, number, pairs, text, undefined, wrong_type};
use crate::template::budget::{self, charge, charge_items, refuse};

/// `left OPERATOR right` of two numbers, texts or lists.
///
/// # Errors
/// `TypeError`, `ZeroDivisionError`, an undefined operand, or a value that is too large.
pub(crate) fn binary(state: &mut State, operator: &str, left: &Value, right: &Value) -> Result<Value, Error> {
    let kinds = (kind(left), kind(right));
    if kinds.0 == Kind::Undefined || kinds.1 == Kind::Undefined {
        // What is formatted by `%` may well be undefined.
        if operator != "%" || kinds.0 != Kind::Text {
            return Err(undefined());
        }
    }
    match (operator, kinds) {
        ("+", (Kind::Text, Kind::Text)) if left.is_safe() || right.is_safe() => {
            let (left, right) = (text::in_safe(left), text::in_safe(right));
            charge(state, left.len() + right.len())?;
            return Ok(Value::from_safe_string(left + &right));
        }
        ("+", (Kind::Text, Kind::Text)) => {
            let (left, right) = (left.as_str().unwrap_or_default(), right.as_str().unwrap_or_default());
            charge(state, left.len() + right.len())?;
            return Ok(Value::from([left, right].concat()));
        }
        ("+", (Kind::List, Kind::List)) => {
            let joined = joined(state, left, right)?;
            return Ok(Value::from_object(joined));
        }
        ("+", (Kind::Tuple, Kind::Tuple)) => {
            return Ok(Value::from(Tuple::from(joined(state, left, right)?)));
        }
        ("*", (Kind::Text | Kind::List | Kind::Tuple, _)) if integer(right).is_some() => {
            return repeated(state, left, integer(right).unwrap_or_default());
        }
        ("*", (_, Kind::Text | Kind::List | Kind::Tuple)) if integer(left).is_some() => {
            return repeated(state, right, integer(left).unwrap_or_default());
        }
        ("%", (Kind::Text, _)) => {
            return format::percent(state, left, right);
        }
        _ => {}
    }
    match (integer(left), integer(right)) {
        (Some(left), Some(right)) => integers(operator, left, right),
        _ => match (number(left), number(right)) {
            (Some(left), Some(right)) => floats(operator, left, right),
            _ => Err(refuse(format!(
                "unsupported operand type(s) for {operator}: '{}' and '{}'",
                kinds.0.name(),
                kinds.1.name()
            ))),
        },
    }
}

fn joined(state: &mut State, left: &Value, right: &Value) -> Result<Vec<Value>, Error> {
    charge_items(state, left.len().unwrap_or_default() + right.len().unwrap_or_default())?;
    left.try_iter()?.chain(right.try_iter()?).map(Ok).collect()
}

fn repeated(state: &mut State, value: &Value, times: i128) -> Result<Value, Error> {
    let times = usize::try_from(times.max(0)).unwrap_or(usize::MAX);
    if let Some(words) = value.as_str() {
        charge(state, words.len().saturating_mul(times))?;
        return Ok(text::like(value, words.repeat(times)));
    }
    charge_items(state, value.len().unwrap_or_default().saturating_mul(times))?;
    let once: Vec<Value> = value.try_iter()?.collect();
    let times = if once.is_empty() { 0 } else { times };
    let all: Vec<Value> = std::iter::repeat_n(once, times).flatten().collect();
    Ok(if kind(value) == Kind::Tuple { Value::from(Tuple::from(all)) } else { Value::from_object(all) })
}

fn too_large() -> Error {
    refuse("an integer becomes too large")
}

fn integer_value(value: i128) -> Value {
    i64::try_from(value).map_or_else(|_| Value::from(value), Value::from)
}

fn integers(operator: &str, left: i128, right: i128) -> Result<Value, Error> {
    let by_zero = || refuse("division by zero");
    Ok(integer_value(match operator {
        "+" => left.checked_add(right).ok_or_else(too_large)?,
        "-" => left.checked_sub(right).ok_or_else(too_large)?,
        "*" => left.checked_mul(right).ok_or_else(too_large)?,
        "//" | "%" => {
            if right == 0 {
                return Err(by_zero());
            }
            let (quotient, rest) = (left.checked_div(right).ok_or_else(too_large)?, left % right);
            let is_uneven = rest != 0 && (rest < 0) != (right < 0);
            if operator == "//" {
                quotient - i128::from(is_uneven)
            } else if is_uneven {
                rest + right
            } else {
                rest
            }
        }
        "**" if right >= 0 => {
            let exponent = u32::try_from(right).map_err(|_| too_large())?;
            left.checked_pow(exponent).ok_or_else(too_large)?
        }
        _ => return floats(operator, left as f64, right as f64),
    }))
}

fn floats(operator: &str, left: f64, right: f64) -> Result<Value, Error> {
    if right == 0.0 && matches!(operator, "/" | "//" | "%") || operator == "**" && left == 0.0 && right < 0.0
    {
        return Err(refuse("division by zero"));
    }
    let rest = || {
        let rest = left % right;
        if rest != 0.0 && (rest < 0.0) != (right < 0.0) { rest + right } else { rest }
    };
    Ok(Value::from(match operator {
        "+" => left + right,
        "-" => left - right,
        "*" => left * right,
        "/" => left / right,
        "//" => ((left - rest()) / right).round(),
        "%" => rest(),
        _ => {
            let power = left.powf(right);
            if left.is_finite() && right.is_finite() && !power.is_finite() {
                // Python has complex numbers for roots of negative ones.
                return Err(refuse("the result of ** is no finite number"));
            }
            power
        }
    }))
}

/// `-value`, `+value`
///
/// # Errors
/// `TypeError` or an undefined operand.
pub(crate) fn unary(value: &Value, is_minus: bool) -> Result<Value, Error> {
    if let Some(integer) = integer(value) {
        return Ok(integer_value(if is_minus {
            integer.checked_neg().ok_or_else(too_large)?
        } else {
            integer
        }));
    }
    match number(value) {
        Some(float) => Ok(Value::from(if is_minus { -float } else { float })),
        None => Err(wrong_type(value, "has no sign")),
    }
}

/// `a ~ b ~ c`
///
/// # Errors
/// When the text becomes too long.
pub(crate) fn join(state: &mut State, first: &Value, others: &[Value]) -> Result<Value, Error> {
    let mut joined = String::new();
    for value in std::iter::once(first).chain(others) {
        text::append(state, &mut joined, value)?;
    }
    Ok(Value::from(joined))
}

/// `first == a < b not in c`: operators and operands in turn.
///
/// # Errors
/// `TypeError`, or an undefined operand that is ordered.
pub(crate) fn chain(state: &mut State, first: &Value, rest: &[Value]) -> Result<bool, Error> {
    let mut left = first;
    for pair in rest.chunks_exact(2) {
        let right = &pair[1];
        let holds = match pair[0].as_str().unwrap_or_default() {
            "==" => equal(state, left, right)?,
            "!=" => !equal(state, left, right)?,
            "in" => contains(state, right, left)?,
            "not in" => !contains(state, right, left)?,
            operator => {
                let order = order(state, left, right)?;
                match operator {
                    "<" => order == Some(Ordering::Less),
                    "<=" => matches!(order, Some(Ordering::Less | Ordering::Equal)),
                    ">" => order == Some(Ordering::Greater),
                    _ => matches!(order, Some(Ordering::Greater | Ordering::Equal)),
                }
            }
        };
        if !holds {
            return Ok(false);
        }
        left = right;
    }
    Ok(true)
}

/// `left == right`
///
/// # Errors
/// When they hold too many values.
pub(crate) fn equal(state: &mut State, left: &Value, right: &Value) -> Result<bool, Error> {
    charge(state, 1)?;
    Ok(match (kind(left), kind(right)) {
        (Kind::List, Kind::List) | (Kind::Tuple, Kind::Tuple) => {
            if left.len() != right.len() {
                return Ok(false);
            }
            for (left, right) in left.try_iter()?.zip(right.try_iter()?) {
                if !equal(state, &left, &right)? {
                    return Ok(false);
                }
            }
            true
        }
        (Kind::Dict, Kind::Dict) => {
            if left.len() != right.len() {
                return Ok(false);
            }
            for (key, own) in pairs(left) {
                let other = right.get_item(&key)?;
                if other.is_undefined() || !equal(state, &own, &other)? {
                    return Ok(false);
                }
            }
            true
        }
        (Kind::List | Kind::Tuple | Kind::Dict, _) | (_, Kind::List | Kind::Tuple | Kind::Dict) => false,
        _ => match (integer(left), integer(right)) {
            (Some(left), Some(right)) => left == right,
            _ => match (number(left), number(right)) {
                #[expect(clippy::float_cmp, reason = "Python's own equality")]
                (Some(left), Some(right)) => left == right,
                (None, None) => {
                    if left.as_str().map(str::len) == right.as_str().map(str::len) {
                        budget::look_through(state, left)?;
                    }
                    left == right
                }
                _ => false,
            },
        },
    })
}

/// `<`, `>` and their kind; `None` for what is not a number.
///
/// # Errors
/// `TypeError` or an undefined operand.
pub(crate) fn order(state: &mut State, left: &Value, right: &Value) -> Result<Option<Ordering>, Error> {
    charge(state, 1)?;
    let kinds = (kind(left), kind(right));
    match kinds {
        (Kind::Undefined, _) | (_, Kind::Undefined) => return Err(undefined()),
        (Kind::Text, Kind::Text) => {
            let (left, right) = (left.as_str().unwrap_or_default(), right.as_str().unwrap_or_default());
            charge(state, left.len().min(right.len()))?;
            return Ok(Some(left.cmp(right)));
        }
        (Kind::List, Kind::List) | (Kind::Tuple, Kind::Tuple) => {
            for (left, right) in left.try_iter()?.zip(right.try_iter()?) {
                if !equal(state, &left, &right)? {
                    return order(state, &left, &right);
                }
            }
            return Ok(Some(left.len().cmp(&right.len())));
        }
        _ => {}
    }
    match (integer(left), integer(right)) {
        (Some(left), Some(right)) => Ok(Some(left.cmp(&right))),
        _ => match (number(left), number(right)) {
            (Some(left), Some(right)) => Ok(left.partial_cmp(&right)),
            _ => Err(refuse(format!(
                "'<' not supported between instances of '{}' and '{}'",
                kinds.0.name(),
                kinds.1.name()
            ))),
        },
    }
}

/// `item in container`
///
/// # Errors
/// `TypeError`.
pub(crate) fn contains(state: &mut State, container: &Value, item: &Value) -> Result<bool, Error> {
    charge(state, 1)?;
    match kind(container) {
        Kind::Undefined => Ok(false),
        Kind::Text => match (container.as_str(), item.as_str().filter(|_| kind(item) == Kind::Text)) {
            (Some(text), Some(item)) => {
                budget::look_through(state, container)?;
                Ok(text.contains(item))
            }
            _ => Err(refuse(format!(
                "'in <string>' requires string as left operand, not {}",
                kind(item).name()
            ))),
        },
        Kind::Dict => {
            check_key(item)?;
            budget::look_through(state, item)?;
            Ok(!container.get_item(item)?.is_undefined())
        }
        Kind::Generator => {
            let Some(generator) = container.downcast_object_ref::<Generator>() else { return Ok(false) };
            while let Some(own) = generator.next()? {
                if equal(state, &own, item)? {
                    return Ok(true);
                }
            }
            Ok(false)
        }
        Kind::List | Kind::Tuple | Kind::View | Kind::Range => {
            for own in container.try_iter()? {
                if equal(state, &own, item)? {
                    return Ok(true);
                }
            }
            Ok(false)
        }
        kind => Err(refuse(format!("argument of type '{}' is not iterable", kind.name()))),
    }
}

/// A value may be a key of a dict.
///
/// # Errors
/// `TypeError` of what Python cannot hash.
pub(crate) fn check_key(key: &Value) -> Result<(), Error> {
    match kind(key) {
        Kind::List | Kind::Dict | Kind::View => {
            Err(refuse(format!("unhashable type: '{}'", kind(key).name())))
        }
        Kind::Tuple => key.try_iter()?.try_for_each(|item| match kind(&item) {
            Kind::Tuple => Err(refuse("a tuple of tuples cannot be a key here")),
            _ => check_key(&item),
        }),
        _ => Ok(()),
    }
}

/// `sum(items, start)`
///
/// # Errors
/// As [`binary`].
pub(crate) fn sum(state: &mut State, values: &[Value], start: Value) -> Result<Value, Error> {
    if kind(&start) == Kind::Text {
        return Err(refuse("sum() can't sum strings"));
    }
    let mut sum = start;
    for value in values {
        sum = binary(state, "+", &sum, value)?;
    }
    Ok(sum)
}

/// Sorts by keys, stably, by merging: also where the order is none (`nan`) it comes to an end.
///
/// # Errors
/// Where two keys have no order.
pub(crate) fn sort(
    state: &mut State,
    keyed: Vec<(Value, Value)>,
    is_reverse: bool,
) -> Result<Vec<(Value, Value)>, Error> {
    charge_items(state, keyed.len())?;
    let mut runs: VecDeque<VecDeque<(Value, Value)>> =
        keyed.into_iter().map(|pair| VecDeque::from([pair])).collect();
    // Neighbours are merged, level by level, so that equal ones keep their places.
    while runs.len() > 1 {
        let mut merged = VecDeque::with_capacity(runs.len().div_ceil(2));
        while let Some(left) = runs.pop_front() {
            match runs.pop_front() {
                Some(right) => merged.push_back(merge(state, left, right, is_reverse)?),
                None => merged.push_back(left),
            }
        }
        runs = merged;
    }
    Ok(runs.pop_front().map(Vec::from).unwrap_or_default())
}

/// Two sorted runs as one.
fn merge(
    state: &mut State,
    mut left: VecDeque<(Value, Value)>,
    mut right: VecDeque<(Value, Value)>,
    is_reverse: bool,
) -> Result<VecDeque<(Value, Value)>, Error> {
    let wanted = if is_reverse { Ordering::Greater } else { Ordering::Less };
    let mut merged = VecDeque::with_capacity(left.len() + right.len());
    while let (Some((first, _)), Some((second, _))) = (left.front(), right.front()) {
        let comes_first = order(state, second, first)? == Some(wanted);
        merged.extend(if comes_first { right.pop_front() } else { left.pop_front() });
    }
    merged.append(&mut left);
    merged.append(&mut right);
    Ok(merged)
}

/// The items of a value, as a list value.
///
/// # Errors
/// `TypeError`.
pub(crate) fn list(state: &mut State, value: &Value) -> Result<Value, Error> {
    let items = items(state, value)?;
    budget::list(state, items)
}
