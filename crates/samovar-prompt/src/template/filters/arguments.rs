//! The arguments of a call, in order and by name, bound to parameters as Python binds them.

use minijinja::value::{Kwargs, from_args};
use minijinja::{Error, Value};

use crate::template::budget::refuse;
use crate::template::python::pairs;

/// What a filter, a test or a method was called with.
#[derive(Clone, Debug, Default)]
pub(in crate::template) struct Arguments {
    positional: Vec<Value>,
    named: Vec<(String, Value)>,
}

impl Arguments {
    /// # Errors
    /// Never in practice: keyword arguments come last.
    pub(in crate::template) fn from_values(values: &[Value]) -> Result<Self, Error> {
        if !values.last().is_some_and(Value::is_kwargs) {
            return Ok(Self { positional: values.to_vec(), named: Vec::new() });
        }
        let (positional, kwargs) = from_args::<(&[Value], Kwargs)>(values)?;
        let mut named = Vec::new();
        for name in kwargs.args() {
            named.push((name.to_owned(), kwargs.peek::<Value>(name)?));
        }
        Ok(Self { positional: positional.to_vec(), named })
    }

    /// A mapping's items as named arguments.
    pub(in crate::template) fn of_mapping(mapping: &Value) -> Self {
        let named =
            pairs(mapping).into_iter().filter_map(|(key, value)| Some((key.as_str()?.to_owned(), value)));
        Self { positional: Vec::new(), named: named.collect() }
    }

    pub(in crate::template) fn positional(&self) -> &[Value] {
        &self.positional
    }

    pub(in crate::template) fn named(&self) -> &[(String, Value)] {
        &self.named
    }

    /// The first one; undefined without any.
    pub(in crate::template) fn first(&self) -> Value {
        self.positional.first().cloned().unwrap_or_default()
    }

    /// Without the first one, which is given.
    pub(in crate::template) fn split_first(mut self) -> Option<(Value, Self)> {
        if self.positional.is_empty() {
            return None;
        }
        let first = self.positional.remove(0);
        Some((first, self))
    }

    pub(in crate::template) fn take_named(&mut self, name: &str) -> Option<Value> {
        let at = self.named.iter().position(|(own, _)| own == name)?;
        Some(self.named.remove(at).1)
    }

    /// The value of each parameter, `None` where it was not given.
    ///
    /// # Errors
    /// Too many arguments, one given twice, or a name that is no parameter.
    pub(in crate::template) fn bind<const N: usize>(
        self,
        function: &str,
        parameters: [&str; N],
    ) -> Result<[Option<Value>; N], Error> {
        let mut bound = [const { None }; N];
        if self.positional.len() > N {
            return Err(refuse(format!(
                "{function}() takes {N} arguments but {} were given",
                self.positional.len()
            )));
        }
        for (place, value) in bound.iter_mut().zip(self.positional) {
            *place = Some(value);
        }
        for (name, value) in self.named {
            let place = parameters.iter().position(|own| *own == name);
            match place.map(|place| &mut bound[place]) {
                Some(place @ None) => *place = Some(value),
                Some(_) => {
                    return Err(refuse(format!("{function}() got multiple values for argument '{name}'")));
                }
                None => {
                    return Err(refuse(format!("{function}() got an unexpected keyword argument '{name}'")));
                }
            }
        }
        Ok(bound)
    }
}
