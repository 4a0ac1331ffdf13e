//! Filters that look into each item: by an attribute, a test or another filter.

#![expect(
    clippy::unnecessary_wraps,
    reason = "filters have one signature, and these fail only when they are iterated over"
)]

use minijinja::{Error, State, Value};

use super::Arguments;
use crate::template::budget::{self, refuse};
use crate::template::python::objects::{Generator, Group};
use crate::template::python::{
    Kind, check_nesting, is_true, items, kind, lookup, methods, operators, strings,
};
use crate::template::tests;

/// Reads an attribute such as `a.b.0` from an item.
pub(super) struct Getter {
    parts: Vec<Value>,
    default: Option<Value>,
}

impl Getter {
    /// No attribute = the item itself.
    pub(super) fn of(attribute: Option<&Value>, default: Option<Value>) -> Self {
        let default = default.filter(|default| !default.is_none());
        let parts = match attribute {
            None => Vec::new(),
            Some(attribute) => match (kind(attribute), attribute.as_str()) {
                (Kind::None, _) => Vec::new(),
                (_, Some(path)) => path
                    .split('.')
                    .map(|part| {
                        let is_number = !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
                        part.parse::<i64>()
                            .ok()
                            .filter(|_| is_number)
                            .map_or_else(|| Value::from(part), Value::from)
                    })
                    .collect(),
                _ => vec![attribute.clone()],
            },
        };
        Self { parts, default }
    }

    pub(super) fn get(&self, state: &mut State, item: &Value) -> Result<Value, Error> {
        let mut found = item.clone();
        for part in &self.parts {
            found = super::item(state, &found, part)?;
            if let (true, Some(default)) = (found.is_undefined(), &self.default) {
                found = default.clone();
            }
        }
        Ok(found)
    }
}

/// What an item is sorted or told apart by.
pub(super) fn key_of(state: &mut State, value: Value, folds_case: bool) -> Result<Value, Error> {
    match value.as_str() {
        Some(text) if folds_case => budget::text(state, strings::cased(text, "lower")),
        _ => Ok(value),
    }
}

pub(super) fn attr(_: &mut State, value: &Value, arguments: Arguments) -> Result<Value, Error> {
    let [name] = arguments.bind("attr", ["name"])?;
    let name = name.ok_or_else(|| refuse("attr needs a name"))?;
    let name = name.as_str().unwrap_or_default();
    // A dict's items are no attributes.
    if kind(value) == Kind::Dict && !methods::names(Kind::Dict).contains(&name) {
        return Ok(Value::UNDEFINED);
    }
    lookup::attribute(value, name)
}

pub(super) fn map(state: &mut State, value: &Value, arguments: Arguments) -> Result<Value, Error> {
    Ok(Generator::value(mapped(state, value, arguments)))
}

fn mapped(state: &mut State, value: &Value, mut arguments: Arguments) -> Result<Vec<Value>, Error> {
    if !is_true(value) {
        return Ok(Vec::new());
    }
    let mut mapped = Vec::new();
    if arguments.positional().is_empty() && arguments.named().iter().any(|(name, _)| name == "attribute") {
        let attribute = arguments.take_named("attribute");
        let default = arguments.take_named("default");
        arguments.bind::<0>("map", [])?;
        let getter = Getter::of(attribute.as_ref(), default);
        for item in items(state, value)? {
            mapped.push(getter.get(state, &item)?);
        }
        return Ok(mapped);
    }
    let (name, rest) = arguments.split_first().ok_or_else(|| refuse("map requires a filter argument"))?;
    let filter = name.as_str().and_then(|name| super::FILTERS.iter().find(|(own, _)| *own == name));
    let (_, filter) = filter.ok_or_else(|| refuse("map knows no filter of this name"))?;
    for item in items(state, value)? {
        mapped.push(filter(state, &item, rest.clone())?);
    }
    Ok(mapped)
}

/// `select`, `reject`, `selectattr`, `rejectattr`.
fn choose(
    state: &mut State,
    value: &Value,
    arguments: Arguments,
    by_attribute: bool,
    wanted: bool,
) -> Result<Vec<Value>, Error> {
    if !is_true(value) {
        return Ok(Vec::new());
    }
    let (getter, arguments) = if by_attribute {
        let (attribute, rest) =
            arguments.split_first().ok_or_else(|| refuse("Missing parameter for attribute name"))?;
        (Getter::of(Some(&attribute), None), rest)
    } else {
        (Getter::of(None, None), arguments)
    };
    let test = arguments.split_first();
    let mut chosen = Vec::new();
    for item in items(state, value)? {
        let looked_at = getter.get(state, &item)?;
        let holds = match &test {
            None => is_true(&looked_at),
            Some((name, rest)) => {
                tests::holds(state, name.as_str().unwrap_or_default(), &looked_at, rest.positional())?
            }
        };
        if holds == wanted {
            chosen.push(item);
        }
    }
    Ok(chosen)
}

pub(super) fn select(state: &mut State, value: &Value, arguments: Arguments) -> Result<Value, Error> {
    Ok(Generator::value(choose(state, value, arguments, false, true)))
}

pub(super) fn reject(state: &mut State, value: &Value, arguments: Arguments) -> Result<Value, Error> {
    Ok(Generator::value(choose(state, value, arguments, false, false)))
}

pub(super) fn selectattr(state: &mut State, value: &Value, arguments: Arguments) -> Result<Value, Error> {
    Ok(Generator::value(choose(state, value, arguments, true, true)))
}

pub(super) fn rejectattr(state: &mut State, value: &Value, arguments: Arguments) -> Result<Value, Error> {
    Ok(Generator::value(choose(state, value, arguments, true, false)))
}

pub(super) fn groupby(state: &mut State, value: &Value, arguments: Arguments) -> Result<Value, Error> {
    let [attribute, default, case_sensitive] =
        arguments.bind("groupby", ["attribute", "default", "case_sensitive"])?;
    let attribute = attribute.ok_or_else(|| refuse("groupby needs an attribute"))?;
    let folds_case = !case_sensitive.is_some_and(|sensitive| is_true(&sensitive));
    let getter = Getter::of(Some(&attribute), default);
    check_nesting(state, value)?;
    let mut keyed = Vec::new();
    for item in items(state, value)? {
        let key = getter.get(state, &item)?;
        let key = key_of(state, key, folds_case)?;
        keyed.push((key, item));
    }
    let mut groups: Vec<(Value, Vec<Value>)> = Vec::new();
    for (key, item) in operators::sort(state, keyed, false)? {
        match groups.last_mut() {
            Some((own, members)) if operators::equal(state, own, &key)? => members.push(item),
            _ => groups.push((key, vec![item])),
        }
    }
    let mut listed = Vec::new();
    for (key, members) in groups {
        let key = if folds_case { getter.get(state, &members[0])? } else { key };
        listed.push(Value::from_object(Group { key, members: Value::from_object(members) }));
    }
    budget::list(state, listed)
}
