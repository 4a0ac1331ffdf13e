//! Values as Python sees them: what kind one is, whether it is true, how long it is, what it iterates over.

pub(super) mod format;
pub(super) mod json;
pub(super) mod lookup;
pub(super) mod methods;
pub(super) mod objects;
pub(super) mod operators;
pub(super) mod strings;
pub(super) mod text;

use minijinja::value::{DynObject, ObjectRepr, Tuple, ValueKind};
use minijinja::{Error, State, Value};

use super::budget::{DEPTH_LIMIT, charge, charge_items, refuse};
pub(super) use methods::is_method;
use objects::{Bound, Generator, Group, Range, View};

/// The type of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Undefined,
    None,
    Bool,
    Int,
    Float,
    Text,
    Bytes,
    List,
    Tuple,
    Range,
    Dict,
    /// `dict.items()` and its siblings.
    View,
    /// Can be iterated over once.
    Generator,
    Namespace,
    /// Macros, functions, methods, the loop.
    Other,
}

impl Kind {
    /// Python's name of the type.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Undefined => "Undefined",
            Self::None => "NoneType",
            Self::Bool => "bool",
            Self::Int => "int",
            Self::Float => "float",
            Self::Text => "str",
            Self::Bytes => "bytes",
            Self::List => "list",
            Self::Tuple => "tuple",
            Self::Range => "range",
            Self::Dict => "dict",
            Self::View => "dict_items",
            Self::Generator => "generator",
            Self::Namespace => "Namespace",
            Self::Other => "object",
        }
    }
}

pub(super) fn kind(value: &Value) -> Kind {
    match value.kind() {
        ValueKind::Undefined => Kind::Undefined,
        ValueKind::None => Kind::None,
        ValueKind::Bool => Kind::Bool,
        ValueKind::Number if value.is_integer() => Kind::Int,
        ValueKind::Number => Kind::Float,
        ValueKind::String => Kind::Text,
        ValueKind::Bytes => Kind::Bytes,
        _ => value.as_object().map_or(Kind::Other, kind_of_object),
    }
}

fn kind_of_object(object: &DynObject) -> Kind {
    if object.is::<Generator>() {
        return Kind::Generator;
    }
    if object.is::<View>() {
        return Kind::View;
    }
    if object.is::<Range>() {
        return Kind::Range;
    }
    match object.repr() {
        ObjectRepr::Seq if object.is::<Tuple>() || object.is::<Group>() => Kind::Tuple,
        ObjectRepr::Seq | ObjectRepr::Iterable => Kind::List,
        ObjectRepr::Map => match object.type_name() {
            name if name.ends_with("::Namespace") => Kind::Namespace,
            name if name.ends_with("::Loop") || name.ends_with("::Macro") || name.ends_with("::Module") => {
                Kind::Other
            }
            _ => Kind::Dict,
        },
        _ => Kind::Other,
    }
}

/// The error of a value that a template never set.
pub(super) fn undefined() -> Error {
    Error::new(minijinja::ErrorKind::UndefinedError, "a value is undefined")
}

/// `TypeError`, or the error of an undefined value.
pub(super) fn wrong_type(value: &Value, what: &str) -> Error {
    match kind(value) {
        Kind::Undefined => undefined(),
        kind => refuse(format!("'{}' object {what}", kind.name())),
    }
}

/// `bool(value)`
pub(super) fn is_true(value: &Value) -> bool {
    value.is_true()
}

/// `len(value)`
///
/// # Errors
/// `TypeError`.
pub(super) fn length(value: &Value) -> Result<usize, Error> {
    match kind(value) {
        Kind::Undefined => Ok(0),
        Kind::Text | Kind::Bytes | Kind::List | Kind::Tuple | Kind::Dict | Kind::View | Kind::Range => {
            value.len().ok_or_else(|| wrong_type(value, "has no len()"))
        }
        _ => Err(wrong_type(value, "has no len()")),
    }
}

/// `list(value)`. What can be iterated over once is used up.
///
/// # Errors
/// `TypeError`, or a list that is too long.
pub(super) fn items(state: &mut State, value: &Value) -> Result<Vec<Value>, Error> {
    match kind(value) {
        Kind::Undefined => Ok(Vec::new()),
        Kind::Generator => {
            value.downcast_object_ref::<Generator>().map_or_else(|| Ok(Vec::new()), Generator::take)
        }
        Kind::Text | Kind::List | Kind::Tuple | Kind::Dict | Kind::View | Kind::Range => {
            charge_items(state, value.len().unwrap_or_default())?;
            value.try_iter()?.checked().collect()
        }
        _ => Err(wrong_type(value, "is not iterable")),
    }
}

/// The pairs of a dict.
pub(super) fn pairs(dict: &Value) -> Vec<(Value, Value)> {
    dict.as_object().and_then(DynObject::try_iter_pairs).map(Iterator::collect).unwrap_or_default()
}

/// Whether a value nests no deeper than it may and holds nothing that could hold it; counts what it holds.
///
/// # Errors
/// When it does not.
pub(super) fn check_nesting(state: &mut State, value: &Value) -> Result<(), Error> {
    let mut left = NODES_LIMIT;
    nested(value, 0, &mut left)?;
    charge(state, (NODES_LIMIT - left).min(crate::bounds::OUTPUT_LIMIT_BYTES))
}

/// Values that one literal may hold, with those that they hold.
const NODES_LIMIT: usize = 1 << 20;

fn nested(value: &Value, depth: usize, left: &mut usize) -> Result<(), Error> {
    *left = left.checked_sub(1).ok_or_else(|| refuse("a list holds too many values"))?;
    if depth > DEPTH_LIMIT {
        return Err(refuse(format!("lists nest deeper than {DEPTH_LIMIT}")));
    }
    match kind(value) {
        Kind::List | Kind::Tuple | Kind::View => {
            for item in value.try_iter()? {
                nested(&item, depth + 1, left)?;
            }
        }
        Kind::Generator => {
            for item in value.downcast_object_ref::<Generator>().map(Generator::peek).unwrap_or_default() {
                nested(&item, depth + 1, left)?;
            }
        }
        Kind::Dict => {
            for (key, item) in pairs(value) {
                nested(&key, depth + 1, left)?;
                nested(&item, depth + 1, left)?;
            }
        }
        Kind::Namespace if depth > 0 => return Err(refuse("a namespace cannot be put into a list here")),
        _ => {}
    }
    Ok(())
}

/// A character that Python's `str.isspace` and `\s` know.
pub(super) fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\x1c'..='\x1f').contains(&c)
}

/// An integer, also from a bool.
pub(super) fn integer(value: &Value) -> Option<i128> {
    match kind(value) {
        Kind::Bool => Some(i128::from(value.is_true())),
        Kind::Int => i128::try_from(value.clone()).ok(),
        _ => None,
    }
}

/// A number.
pub(super) fn number(value: &Value) -> Option<f64> {
    match kind(value) {
        Kind::Float => f64::try_from(value.clone()).ok(),
        _ => integer(value).map(|value| value as f64),
    }
}

/// `callable(value)`
pub(super) fn is_callable(value: &Value) -> bool {
    let Some(object) = value.as_object() else { return false };
    let is_plain = matches!(object.repr(), ObjectRepr::Plain) && !object.is::<Generator>();
    is_plain || object.is::<Bound>() || object.type_name().ends_with("::Macro")
}
