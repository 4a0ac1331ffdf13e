//! Jinja2's tests (`x is …`) by name.

use minijinja::value::{Rest, ValueOrKwargs};
use minijinja::{Environment, Error, State, Value};

use super::budget::refuse;
use super::filters::{self, Arguments};
use super::python::{Kind, is_callable, kind, operators, strings, text};

/// A test: what is tested, and its arguments.
type Test = fn(&mut State, &Value, &[Value]) -> Result<bool, Error>;

/// Each with how many arguments it takes.
const TESTS: [(&str, usize, Test); 39] = [
    ("!=", 1, |state, value, other| compare(state, value, "!=", other)),
    ("<", 1, |state, value, other| compare(state, value, "<", other)),
    ("<=", 1, |state, value, other| compare(state, value, "<=", other)),
    ("==", 1, |state, value, other| compare(state, value, "==", other)),
    (">", 1, |state, value, other| compare(state, value, ">", other)),
    (">=", 1, |state, value, other| compare(state, value, ">=", other)),
    ("boolean", 0, |_, value, _| Ok(kind(value) == Kind::Bool)),
    ("callable", 0, |_, value, _| Ok(is_callable(value) || value.is_undefined())),
    ("defined", 0, |_, value, _| Ok(!value.is_undefined())),
    ("divisibleby", 1, |state, value, other| rest(state, value, &other[0], 0)),
    ("eq", 1, |state, value, other| compare(state, value, "==", other)),
    ("equalto", 1, |state, value, other| compare(state, value, "==", other)),
    ("escaped", 0, |_, value, _| Ok(value.is_safe())),
    ("even", 0, |state, value, _| rest(state, value, &Value::from(2), 0)),
    ("false", 0, |_, value, _| Ok(kind(value) == Kind::Bool && !value.is_true())),
    ("filter", 0, |_, value, _| Ok(value.as_str().is_some_and(filters::is_known))),
    ("float", 0, |_, value, _| Ok(kind(value) == Kind::Float)),
    ("ge", 1, |state, value, other| compare(state, value, ">=", other)),
    ("greaterthan", 1, |state, value, other| compare(state, value, ">", other)),
    ("gt", 1, |state, value, other| compare(state, value, ">", other)),
    ("in", 1, |state, value, other| operators::contains(state, &other[0], value)),
    ("integer", 0, |_, value, _| Ok(kind(value) == Kind::Int)),
    ("iterable", 0, |_, value, _| Ok(is_iterable(value))),
    ("le", 1, |state, value, other| compare(state, value, "<=", other)),
    ("lessthan", 1, |state, value, other| compare(state, value, "<", other)),
    ("lower", 0, |state, value, _| cased(state, value, "islower")),
    ("lt", 1, |state, value, other| compare(state, value, "<", other)),
    ("mapping", 0, |_, value, _| Ok(kind(value) == Kind::Dict)),
    ("ne", 1, |state, value, other| compare(state, value, "!=", other)),
    ("none", 0, |_, value, _| Ok(value.is_none())),
    ("number", 0, |_, value, _| Ok(matches!(kind(value), Kind::Bool | Kind::Int | Kind::Float))),
    ("odd", 0, |state, value, _| rest(state, value, &Value::from(2), 1)),
    ("sameas", 1, |state, value, other| is_same(state, value, &other[0])),
    ("sequence", 0, |_, value, _| Ok(is_sequence(value))),
    ("string", 0, |_, value, _| Ok(kind(value) == Kind::Text)),
    ("test", 0, |_, value, _| Ok(value.as_str().is_some_and(is_known))),
    ("true", 0, |_, value, _| Ok(kind(value) == Kind::Bool && value.is_true())),
    ("undefined", 0, |_, value, _| Ok(value.is_undefined())),
    ("upper", 0, |state, value, _| cased(state, value, "isupper")),
];

/// Whether a template may name this test.
pub(super) fn is_known(name: &str) -> bool {
    TESTS.iter().any(|(own, ..)| *own == name)
}

/// Adds every test.
pub(super) fn register(environment: &mut Environment<'static>) {
    for (name, ..) in TESTS {
        environment.add_test(name, move |state: &mut State, value: Value, rest: Rest<ValueOrKwargs>| {
            let arguments = Arguments::from_values(&rest.into_values())?;
            holds(state, name, &value, arguments.positional())
        });
    }
}

/// `value is name(arguments)`
///
/// # Errors
/// An unknown test, a wrong count of arguments, or what the test itself refuses.
pub(super) fn holds(
    state: &mut State,
    name: &str,
    value: &Value,
    arguments: &[Value],
) -> Result<bool, Error> {
    let test = TESTS.iter().find(|(own, ..)| *own == name);
    let Some((_, count, test)) = test else { return Err(refuse(format!("No test named '{name}'."))) };
    if arguments.len() != *count {
        return Err(refuse(format!(
            "test '{name}' takes {count} arguments but {} were given",
            arguments.len()
        )));
    }
    test(state, value, arguments)
}

fn compare(state: &mut State, value: &Value, operator: &str, other: &[Value]) -> Result<bool, Error> {
    operators::chain(state, value, &[Value::from(operator), other[0].clone()])
}

fn rest(state: &mut State, value: &Value, divisor: &Value, wanted: i64) -> Result<bool, Error> {
    let rest = operators::binary(state, "%", value, divisor)?;
    operators::equal(state, &rest, &Value::from(wanted))
}

fn cased(state: &mut State, value: &Value, method: &str) -> Result<bool, Error> {
    let words = text::string(state, value)?;
    Ok(strings::call(state, &Value::from(words), method, Arguments::default())?.is_true())
}

fn is_iterable(value: &Value) -> bool {
    matches!(
        kind(value),
        Kind::Undefined
            | Kind::Text
            | Kind::List
            | Kind::Tuple
            | Kind::Dict
            | Kind::View
            | Kind::Generator
            | Kind::Range
    )
}

fn is_sequence(value: &Value) -> bool {
    matches!(kind(value), Kind::Undefined | Kind::Text | Kind::List | Kind::Tuple | Kind::Dict | Kind::Range)
}

/// `value is other`: constants, small integers and equal short texts are one object in Python.
fn is_same(state: &mut State, value: &Value, other: &Value) -> Result<bool, Error> {
    Ok(kind(value) == kind(other) && operators::equal(state, value, other)?)
}
