//! Values that Python has and minijinja lacks: generators, views of dicts, ranges, methods that are not called yet.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use minijinja::value::{Enumerator, Object, ObjectRepr};
use minijinja::{Error, State, Value};

use super::methods;

/// What filters such as `map` give: it has no length, is always true, and can be iterated over once. What went wrong in
/// the filter is told then.
#[derive(Debug)]
pub(crate) struct Generator(Mutex<Option<Result<VecDeque<Value>, Error>>>);

impl Generator {
    /// What a filter came to.
    pub(crate) fn value(items: Result<Vec<Value>, Error>) -> Value {
        Value::from_object(Self(Mutex::new(Some(items.map(VecDeque::from)))))
    }

    fn lock(&self) -> MutexGuard<'_, Option<Result<VecDeque<Value>, Error>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The items, the first time.
    pub(crate) fn take(&self) -> Result<Vec<Value>, Error> {
        self.lock().take().map_or_else(|| Ok(Vec::new()), |items| items.map(Vec::from))
    }

    /// The next item.
    pub(crate) fn next(&self) -> Result<Option<Value>, Error> {
        let mut place = self.lock();
        match place.take() {
            Some(Ok(mut items)) => {
                let item = items.pop_front();
                *place = Some(Ok(items));
                Ok(item)
            }
            Some(Err(error)) => Err(error),
            None => Ok(None),
        }
    }

    /// The items that are left, which stay.
    pub(crate) fn peek(&self) -> Vec<Value> {
        match &*self.lock() {
            Some(Ok(items)) => items.iter().cloned().collect(),
            _ => Vec::new(),
        }
    }
}

impl Object for Generator {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn is_true(self: &Arc<Self>) -> bool {
        true
    }
}

/// Which part of a dict a view shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Keys,
    Values,
    Items,
}

/// `dict.keys()`, `dict.values()`, `dict.items()`
#[derive(Debug)]
pub(crate) struct View {
    pub(crate) part: Part,
    pub(crate) items: Vec<Value>,
}

impl Object for View {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Iterable
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        let view = Arc::clone(self);
        Enumerator::Iter(Box::new((0..view.items.len()).map(move |index| view.items[index].clone())))
    }

    fn enumerator_len(self: &Arc<Self>) -> Option<usize> {
        Some(self.items.len())
    }
}

/// `range(…)`
#[derive(Debug)]
pub(crate) struct Range {
    pub(crate) start: i64,
    pub(crate) stop: i64,
    pub(crate) step: i64,
    pub(crate) length: usize,
}

impl Range {
    pub(crate) fn item(&self, index: usize) -> Option<Value> {
        let index = i64::try_from(index).ok().filter(|_| index < self.length)?;
        Some(Value::from(self.start + index * self.step))
    }
}

impl Object for Range {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Seq
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        self.item(key.as_usize()?)
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Seq(self.length)
    }
}

/// A method of a value, not called yet.
#[derive(Debug)]
pub(crate) struct Bound {
    pub(crate) value: Value,
    pub(crate) method: String,
}

impl Object for Bound {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn is_true(self: &Arc<Self>) -> bool {
        true
    }

    fn call(self: &Arc<Self>, state: &mut State<'_, '_>, args: &[Value]) -> Result<Value, Error> {
        methods::call(state, &self.value, &self.method, args)
    }
}

/// `joiner(", ")`: nothing the first time it is called, then what it joins by.
#[derive(Debug)]
pub(crate) struct Joiner {
    pub(crate) separator: Value,
    pub(crate) was_used: Mutex<bool>,
}

impl Object for Joiner {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn call(self: &Arc<Self>, _state: &mut State<'_, '_>, _args: &[Value]) -> Result<Value, Error> {
        let mut was_used = self.was_used.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(if std::mem::replace(&mut was_used, true) { self.separator.clone() } else { Value::from("") })
    }
}

/// `cycler(a, b)`: gives its items in turn.
#[derive(Debug)]
pub(crate) struct Cycler {
    pub(crate) items: Vec<Value>,
    pub(crate) position: Mutex<usize>,
}

impl Object for Cycler {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        let position = self.position.lock().unwrap_or_else(PoisonError::into_inner);
        (key.as_str() == Some("current")).then(|| self.items[*position].clone())
    }

    fn call_method(
        self: &Arc<Self>,
        _state: &mut State<'_, '_>,
        method: &str,
        _args: &[Value],
    ) -> Result<Value, Error> {
        let mut position = self.position.lock().unwrap_or_else(PoisonError::into_inner);
        match method {
            "next" => {
                let item = self.items[*position].clone();
                *position = (*position + 1) % self.items.len();
                Ok(item)
            }
            "reset" => {
                *position = 0;
                Ok(Value::from(()))
            }
            _ => Err(Error::from(minijinja::ErrorKind::UnknownMethod)),
        }
    }
}

/// A named tuple of `groupby`.
#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) key: Value,
    pub(crate) members: Value,
}

impl Object for Group {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Seq
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        match (key.as_usize(), key.as_str()) {
            (Some(0), _) | (_, Some("grouper")) => Some(self.key.clone()),
            (Some(1), _) | (_, Some("list")) => Some(self.members.clone()),
            _ => None,
        }
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Seq(2)
    }
}
