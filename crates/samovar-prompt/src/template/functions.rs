//! What every template can call: `range`, `dict`, `namespace`, `joiner`, `cycler`, `raise_exception`.

#![expect(clippy::needless_pass_by_value, reason = "what a template can call has one signature")]

use std::sync::Mutex;

use minijinja::value::{Kwargs, Rest, ValueOrKwargs};
use minijinja::{Environment, Error, State, Value};

use super::budget::{charge_items, look_through, refuse};
use super::filters::Arguments;
use super::python::objects::{Cycler, Joiner, Range};
use super::python::{Kind, check_nesting, integer, items, kind, pairs};
use super::refusal;

/// What a template can call, and its arguments.
type Function = fn(&mut State, Arguments) -> Result<Value, Error>;

/// As many as the sandbox of Jinja2 lets `range` have.
const RANGE_LIMIT: usize = 100_000;

/// Adds every function.
pub(super) fn register(environment: &mut Environment<'static>) {
    let functions: [(&'static str, Function); 6] = [
        ("range", range),
        ("dict", dict),
        ("namespace", namespace),
        ("joiner", joiner),
        ("cycler", cycler),
        ("raise_exception", refusal::raise_exception),
    ];
    for (name, function) in functions {
        environment.add_function(name, move |state: &mut State, rest: Rest<ValueOrKwargs>| {
            function(state, Arguments::from_values(&rest.into_values())?)
        });
    }
}

fn range(_: &mut State, arguments: Arguments) -> Result<Value, Error> {
    let mut numbers = Vec::new();
    for value in arguments.positional() {
        let number = integer(value).and_then(|number| i64::try_from(number).ok());
        numbers.push(
            number.ok_or_else(|| super::python::wrong_type(value, "cannot be interpreted as an integer"))?,
        );
    }
    let (start, stop, step) = match numbers.as_slice() {
        [stop] => (0, *stop, 1),
        [start, stop] => (*start, *stop, 1),
        [start, stop, step] => (*start, *stop, *step),
        _ => return Err(refuse("range expected 1 to 3 arguments")),
    };
    if step == 0 || !arguments.named().is_empty() {
        return Err(refuse("range() arg 3 must not be zero"));
    }
    let distance = i128::from(stop) - i128::from(start);
    let length = if (distance > 0) == (step > 0) && distance != 0 {
        usize::try_from(distance.unsigned_abs().div_ceil(u128::from(step.unsigned_abs())))
            .unwrap_or(usize::MAX)
    } else {
        0
    };
    if length > RANGE_LIMIT {
        return Err(refuse(format!(
            "Range too big. The sandbox blocks ranges larger than MAX_RANGE ({RANGE_LIMIT})."
        )));
    }
    Ok(Value::from_object(Range { start, stop, step, length }))
}

/// The pairs of a mapping or of a list of pairs, then those by name.
fn members(state: &mut State, arguments: &Arguments) -> Result<Vec<(Value, Value)>, Error> {
    let mut members = Vec::new();
    for source in arguments.positional() {
        if kind(source) == Kind::Dict {
            members.extend(pairs(source));
            continue;
        }
        for pair in items(state, source)? {
            match items(state, &pair)?.as_slice() {
                [key, value] => members.push((key.clone(), value.clone())),
                _ => return Err(refuse("a dict is made of pairs")),
            }
        }
    }
    members.extend(arguments.named().iter().map(|(name, value)| (Value::from(name.as_str()), value.clone())));
    charge_items(state, members.len())?;
    for (_, value) in &members {
        check_nesting(state, value)?;
    }
    Ok(members)
}

fn dict(state: &mut State, arguments: Arguments) -> Result<Value, Error> {
    let members = members(state, &arguments)?;
    for (key, _) in &members {
        super::python::operators::check_key(key)?;
        look_through(state, key)?;
    }
    let dict = Value::from_pairs(members);
    check_nesting(state, &dict)?;
    Ok(dict)
}

fn namespace(state: &mut State, arguments: Arguments) -> Result<Value, Error> {
    let mut named = Vec::new();
    for (key, value) in members(state, &arguments)? {
        if kind(&value) == Kind::Namespace {
            return Err(refuse("a namespace cannot be put into a namespace here"));
        }
        named.push((key.as_str().unwrap_or_default().to_owned(), value));
    }
    minijinja::functions::namespace(Some(ValueOrKwargs::from(Value::from(Kwargs::from_iter(named)))))
}

fn joiner(_: &mut State, arguments: Arguments) -> Result<Value, Error> {
    let [separator] = arguments.bind("joiner", ["sep"])?;
    let separator = separator.unwrap_or_else(|| Value::from(", "));
    Ok(Value::from_object(Joiner { separator, was_used: Mutex::new(false) }))
}

fn cycler(_: &mut State, arguments: Arguments) -> Result<Value, Error> {
    if arguments.positional().is_empty() {
        return Err(refuse("at least one item has to be provided"));
    }
    Ok(Value::from_object(Cycler { items: arguments.positional().to_vec(), position: Mutex::new(0) }))
}
