//! Jinja2's filters by name, and the operators that a translated template calls as filters.

mod arguments;
mod numbers;
mod select;
mod sequences;
mod words;

use minijinja::value::{Rest, ValueOrKwargs};
use minijinja::{Environment, Error, State, Value};

pub(super) use arguments::Arguments;

use super::budget::{look_through, refuse};
use super::python::Kind;
use super::python::{check_nesting, is_true, items, kind, lookup, operators};

/// A filter: what it is applied to, and its arguments.
type Filter = fn(&mut State, &Value, Arguments) -> Result<Value, Error>;

/// Every filter that a template may name.
const FILTERS: [(&str, Filter); 48] = [
    ("abs", numbers::abs),
    ("attr", select::attr),
    ("batch", sequences::batch),
    ("capitalize", words::capitalize),
    ("center", words::center),
    ("count", sequences::length),
    ("d", sequences::default),
    ("default", sequences::default),
    ("dictsort", sequences::dictsort),
    ("e", words::escape),
    ("escape", words::escape),
    ("filesizeformat", numbers::filesizeformat),
    ("first", sequences::first),
    ("float", numbers::float),
    ("forceescape", words::forceescape),
    ("format", words::format),
    ("groupby", select::groupby),
    ("indent", words::indent),
    ("int", numbers::int),
    ("items", sequences::items_of),
    ("join", sequences::join),
    ("last", sequences::last),
    ("length", sequences::length),
    ("list", sequences::list),
    ("lower", words::lower),
    ("map", select::map),
    ("max", sequences::max),
    ("min", sequences::min),
    ("reject", select::reject),
    ("rejectattr", select::rejectattr),
    ("replace", words::replace),
    ("reverse", sequences::reverse),
    ("round", numbers::round),
    ("safe", words::safe),
    ("select", select::select),
    ("selectattr", select::selectattr),
    ("slice", sequences::slice),
    ("sort", sequences::sort),
    ("string", words::string),
    ("sum", sequences::sum),
    ("title", words::title),
    ("tojson", words::tojson),
    ("trim", words::trim),
    ("truncate", words::truncate),
    ("unique", sequences::unique),
    ("upper", words::upper),
    ("urlencode", words::urlencode),
    ("wordcount", words::wordcount),
];

/// Jinja2's filters that no published template uses; they are refused when they are reached.
const UNSUPPORTED: [&str; 6] = ["pprint", "random", "striptags", "urlize", "wordwrap", "xmlattr"];

/// What the translation writes in the place of operators.
const OPERATORS: [(&str, Filter); 18] = [
    ("__add", |state, left, right| operators::binary(state, "+", left, &right.first())),
    ("__subtract", |state, left, right| operators::binary(state, "-", left, &right.first())),
    ("__multiply", |state, left, right| operators::binary(state, "*", left, &right.first())),
    ("__divide", |state, left, right| operators::binary(state, "/", left, &right.first())),
    ("__floor_divide", |state, left, right| operators::binary(state, "//", left, &right.first())),
    ("__modulo", |state, left, right| operators::binary(state, "%", left, &right.first())),
    ("__power", |state, left, right| operators::binary(state, "**", left, &right.first())),
    ("__negate", |_, value, _| operators::unary(value, true)),
    ("__positive", |_, value, _| operators::unary(value, false)),
    ("__join", |state, first, others| operators::join(state, first, others.positional())),
    ("__compare", |state, first, rest| operators::chain(state, first, rest.positional()).map(Value::from)),
    ("__attribute", |_, value, name| lookup::attribute(value, name.first().as_str().unwrap_or_default())),
    ("__item", |state, value, key| item(state, value, &key.first())),
    ("__slice", |state, value, bounds| lookup::slice(state, value, bounds.positional())),
    ("__iterate", |state, value, unpacks| iterate(state, value, is_true(&unpacks.first()))),
    ("__held", |state, value, _| check_nesting(state, value).map(|()| value.clone())),
    ("__held_by_namespace", held_by_namespace),
    ("__key", |state, key, _| {
        operators::check_key(key)?;
        look_through(state, key).map(|()| key.clone())
    }),
];

/// Whether a template may name this filter.
pub(super) fn is_known(name: &str) -> bool {
    FILTERS.iter().any(|(own, _)| *own == name) || UNSUPPORTED.contains(&name)
}

/// Adds every filter.
pub(super) fn register(environment: &mut Environment<'static>) {
    for (name, filter) in FILTERS.into_iter().chain(OPERATORS) {
        add(environment, name, filter);
    }
    for name in UNSUPPORTED {
        add(environment, name, |_, _, _| Err(refuse("this filter is not supported")));
    }
    add(environment, "__refuse", |_, words, _| Err(refuse(words.as_str().unwrap_or_default())));
}

fn add(environment: &mut Environment<'static>, name: &'static str, filter: Filter) {
    environment.add_filter(name, move |state: &mut State, value: Value, rest: Rest<ValueOrKwargs>| {
        let arguments = Arguments::from_values(&rest.into_values())?;
        filter(state, &value, arguments)
    });
}

/// `value[key]`. A place in a text is found from its beginning, and a key by all of its characters.
fn item(state: &mut State, value: &Value, key: &Value) -> Result<Value, Error> {
    look_through(state, if key.as_str().is_some() { key } else { value })?;
    lookup::item(value, key)
}

/// What a loop iterates over: used up where it can be iterated over once. With `unpacks`, each item is unpacked.
fn iterate(state: &mut State, value: &Value, unpacks: bool) -> Result<Value, Error> {
    if !unpacks && matches!(kind(value), Kind::List | Kind::Tuple) {
        return Ok(value.clone());
    }
    let mut list = items(state, value)?;
    for item in list.iter_mut().filter(|_| unpacks) {
        // The engine unpacks neither.
        if matches!(kind(item), Kind::Text | Kind::Generator) {
            *item = Value::from_object(items(state, item)?);
        }
    }
    Ok(Value::from_object(list))
}

fn held_by_namespace(_: &mut State, value: &Value, _: Arguments) -> Result<Value, Error> {
    match kind(value) {
        Kind::Namespace => Err(refuse("a namespace cannot be put into a namespace here")),
        _ => Ok(value.clone()),
    }
}
