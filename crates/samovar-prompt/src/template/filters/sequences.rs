//! Filters over lists, dicts and other things that can be iterated over.

use minijinja::value::Tuple;
use minijinja::{Error, State, Value};

use super::Arguments;
use super::select::{Getter, key_of};
use crate::template::budget::{self, charge, charge_items, refuse};
use crate::template::python::objects::Generator;
use crate::template::python::{
    self, Kind, check_nesting, integer, is_true, items, kind, operators, pairs, text, undefined, wrong_type,
};

pub(super) fn length(state: &mut State, value: &Value, arguments: Arguments) -> Result<Value, Error> {
    arguments.bind::<0>("length", [])?;
    budget::look_through(state, value)?;
    python::length(value).map(Value::from)
}

pub(super) fn default(_: &mut State, value: &Value, arguments: Arguments) -> Result<Value, Error> {
    let [default, boolean] = arguments.bind("default", ["default_value", "boolean"])?;
    let replaces_false = boolean.is_some_and(|boolean| is_true(&boolean));
    if value.is_undefined() || (replaces_false && !is_true(value)) {
        return Ok(default.unwrap_or_else(|| Value::from("")));
    }
    Ok(value.clone())
}

pub(super) fn first(state: &mut State, value: &Value, arguments: Arguments) -> Result<Value, Error> {
    arguments.bind::<0>("first", [])?;
    if let Some(generator) = value.downcast_object_ref::<Generator>() {
        return Ok(generator.next()?.unwrap_or_default());
    }
    Ok(items(state, value)?.into_iter().next().unwrap_or_default())
}

pub(super) fn last(state: &mut State, value: &Value, arguments: Arguments) -> Result<Value, Error> {
    arguments.bind::<0>("last", [])?;
    if kind(value) == Kind::Generator {
        return Err(wrong_type(value, "is not reversible"));
    }
    Ok(items(state, value)?.pop().unwrap_or_default())
}

pub(super) fn list(state: &mut State, value: &Value, arguments: Arguments) -> Result<Value, Error> {
    arguments.bind::<0>("list", [])?;
    operators::list(state, value)
}

pub(super) fn items_of(state: &mut State, value: &Value, arguments: Arguments) -> Result<Value, Error> {
    arguments.bind::<0>("items", [])?;
    let items = match kind(value) {
        Kind::Undefined => Ok(Vec::new()),
        Kind::Dict => {
            let pairs = pairs(value);
            charge_items(state, pairs.len())?;
            Ok(pairs.into_iter().map(|(key, item)| Value::from(Tuple::from([key, item]))).collect())
        }
        _ => Err(refuse("Can only get item pairs from a mapping.")),
    };
    Ok(Generator::value(items))
}

pub(super) fn join(state: &mut State, value: &Value, arguments: Arguments) -> Result<Value, Error> {
    let [separator, attribute] = arguments.bind("join", ["d", "attribute"])?;
    let getter = Getter::of(attribute.as_ref(), None);
    let separator =
        separator.map(|separator| text::string(state, &separator)).transpose()?.unwrap_or_default();
    let mut joined = String::new();
    for (index, item) in items(state, value)?.iter().enumerate() {
        let item = getter.get(state, item)?;
        if index > 0 {
            charge(state, separator.len())?;
            joined.push_str(&separator);
        }
        text::append(state, &mut joined, &item)?;
    }
    Ok(Value::from(joined))
}

pub(super) fn reverse(state: &mut State, value: &Value, arguments: Arguments) -> Result<Value, Error> {
    arguments.bind::<0>("reverse", [])?;
    if let Some(words) = value.as_str() {
        charge(state, words.len())?;
        return Ok(text::like(value, words.chars().rev().collect()));
    }
    let is_reversible = kind(value) != Kind::Generator;
    let mut items = items(state, value)?;
    items.reverse();
    if is_reversible { Ok(Generator::value(Ok(items))) } else { budget::list(state, items) }
}

/// The options that `sort`, `min`, `max` and `unique` share.
fn keyed(
    state: &mut State,
    value: &Value,
    case_sensitive: Option<&Value>,
    attribute: Option<&Value>,
) -> Result<Vec<(Value, Value)>, Error> {
    let folds_case = !case_sensitive.is_some_and(is_true);
    let getter = Getter::of(attribute, None);
    let mut keyed = Vec::new();
    for item in items(state, value)? {
        let key = getter.get(state, &item)?;
        let key = key_of(state, key, folds_case)?;
        keyed.push((key, item));
    }
    Ok(keyed)
}

pub(super) fn sort(state: &mut State, value: &Value, arguments: Arguments) -> Result<Value, Error> {
    let [reverse, case_sensitive, attribute] =
        arguments.bind("sort", ["reverse", "case_sensitive", "attribute"])?;
    let names: Vec<Value> = match attribute.as_ref().and_then(Value::as_str) {
        Some(names) => names.split(',').map(Value::from).collect(),
        None => vec![attribute.unwrap_or_else(|| Value::from(()))],
    };
    let folds_case = !case_sensitive.is_some_and(|sensitive| is_true(&sensitive));
    let getters: Vec<Getter> = names.iter().map(|name| Getter::of(Some(name), None)).collect();
    let mut keyed = Vec::new();
    for item in items(state, value)? {
        let mut keys = Vec::new();
        for getter in &getters {
            let key = getter.get(state, &item)?;
            keys.push(key_of(state, key, folds_case)?);
        }
        keyed.push((Value::from_object(keys), item));
    }
    let sorted = operators::sort(state, keyed, reverse.is_some_and(|reverse| is_true(&reverse)))?;
    budget::list(state, sorted.into_iter().map(|(_, item)| item).collect())
}

pub(super) fn unique(state: &mut State, value: &Value, arguments: Arguments) -> Result<Value, Error> {
    let [case_sensitive, attribute] = arguments.bind("unique", ["case_sensitive", "attribute"])?;
    let keyed = keyed(state, value, case_sensitive.as_ref(), attribute.as_ref());
    let mut seen = std::collections::HashSet::new();
    let unique = keyed.and_then(|keyed| {
        let mut unique = Vec::new();
        for (key, item) in keyed {
            operators::check_key(&key)?;
            budget::look_through(state, &key)?;
            // To Python `true` and `1` are equal.
            let key = if kind(&key) == Kind::Bool { integer(&key).map_or(key, Value::from) } else { key };
            if seen.insert(key) {
                unique.push(item);
            }
        }
        Ok(unique)
    });
    Ok(Generator::value(unique))
}

fn extreme(state: &mut State, value: &Value, arguments: Arguments, is_max: bool) -> Result<Value, Error> {
    let [case_sensitive, attribute] = arguments.bind("min", ["case_sensitive", "attribute"])?;
    let mut best: Option<(Value, Value)> = None;
    for (key, item) in keyed(state, value, case_sensitive.as_ref(), attribute.as_ref())? {
        let is_better = match &best {
            None => true,
            Some((own, _)) => {
                let wanted = if is_max { std::cmp::Ordering::Greater } else { std::cmp::Ordering::Less };
                operators::order(state, &key, own)? == Some(wanted)
            }
        };
        if is_better {
            best = Some((key, item));
        }
    }
    Ok(best.map_or(Value::UNDEFINED, |(_, item)| item))
}

pub(super) fn min(state: &mut State, value: &Value, arguments: Arguments) -> Result<Value, Error> {
    extreme(state, value, arguments, false)
}

pub(super) fn max(state: &mut State, value: &Value, arguments: Arguments) -> Result<Value, Error> {
    extreme(state, value, arguments, true)
}

pub(super) fn sum(state: &mut State, value: &Value, arguments: Arguments) -> Result<Value, Error> {
    let [attribute, start] = arguments.bind("sum", ["attribute", "start"])?;
    let getter = Getter::of(attribute.as_ref(), None);
    let mut values = Vec::new();
    for item in items(state, value)? {
        values.push(getter.get(state, &item)?);
    }
    operators::sum(state, &values, start.unwrap_or_else(|| Value::from(0)))
}

pub(super) fn dictsort(state: &mut State, value: &Value, arguments: Arguments) -> Result<Value, Error> {
    let [case_sensitive, by, reverse] = arguments.bind("dictsort", ["case_sensitive", "by", "reverse"])?;
    if kind(value) != Kind::Dict {
        return Err(if value.is_undefined() {
            undefined()
        } else {
            wrong_type(value, "has no attribute 'items'")
        });
    }
    let by_value = match by.as_ref().and_then(Value::as_str) {
        None if by.is_none() => false,
        Some("key") => false,
        Some("value") => true,
        _ => return Err(refuse("You can only sort by either \"key\" or \"value\"")),
    };
    let folds_case = !case_sensitive.is_some_and(|sensitive| is_true(&sensitive));
    let mut keyed = Vec::new();
    for (key, item) in pairs(value) {
        let by = if by_value { item.clone() } else { key.clone() };
        keyed.push((key_of(state, by, folds_case)?, Value::from(Tuple::from([key, item]))));
    }
    let sorted = operators::sort(state, keyed, reverse.is_some_and(|reverse| is_true(&reverse)))?;
    budget::list(state, sorted.into_iter().map(|(_, pair)| pair).collect())
}

fn count_of(function: &str, value: Option<&Value>) -> Result<usize, Error> {
    let count = value.and_then(integer).and_then(|count| usize::try_from(count).ok());
    count.filter(|count| *count > 0).ok_or_else(|| refuse(format!("{function} needs a positive number")))
}

pub(super) fn batch(state: &mut State, value: &Value, arguments: Arguments) -> Result<Value, Error> {
    let [linecount, fill_with] = arguments.bind("batch", ["linecount", "fill_with"])?;
    Ok(Generator::value(batches(state, value, linecount.as_ref(), fill_with)))
}

fn batches(
    state: &mut State,
    value: &Value,
    linecount: Option<&Value>,
    fill_with: Option<Value>,
) -> Result<Vec<Value>, Error> {
    let linecount = count_of("batch", linecount)?;
    check_nesting(state, value)?;
    let items = items(state, value)?;
    let mut rows: Vec<Vec<Value>> = items.chunks(linecount).map(<[Value]>::to_vec).collect();
    if let (Some(fill), Some(row)) = (fill_with.filter(|fill| !fill.is_none()), rows.last_mut()) {
        charge_items(state, linecount)?;
        row.resize(linecount, fill);
    }
    charge_items(state, items.len())?;
    Ok(rows.into_iter().map(Value::from_object).collect())
}

pub(super) fn slice(state: &mut State, value: &Value, arguments: Arguments) -> Result<Value, Error> {
    let [slices, fill_with] = arguments.bind("slice", ["slices", "fill_with"])?;
    Ok(Generator::value(columns(state, value, slices.as_ref(), fill_with)))
}

fn columns(
    state: &mut State,
    value: &Value,
    slices: Option<&Value>,
    fill_with: Option<Value>,
) -> Result<Vec<Value>, Error> {
    let slices = count_of("slice", slices)?;
    check_nesting(state, value)?;
    let items = items(state, value)?;
    charge_items(state, items.len() + slices)?;
    let (each, with_extra) = (items.len() / slices, items.len() % slices);
    let fill_with = fill_with.filter(|fill| !fill.is_none());
    let mut rest = items.into_iter();
    let mut rows = Vec::new();
    for index in 0..slices {
        let mut row: Vec<Value> = rest.by_ref().take(each + usize::from(index < with_extra)).collect();
        if index >= with_extra {
            row.extend(fill_with.clone());
        }
        rows.push(Value::from_object(row));
    }
    Ok(rows)
}
