//! `raise_exception`: how a template refuses a conversation in its own words.

use minijinja::{Error, ErrorKind, State, Value};

use super::budget::refuse;
use super::filters::Arguments;
use super::python::text;

pub(super) fn raise_exception(state: &mut State, arguments: Arguments) -> Result<Value, Error> {
    let [message] = arguments.bind("raise_exception", ["message"])?;
    let message = message.ok_or_else(|| refuse("raise_exception() needs a message"))?;
    let words = text::string(state, &message)?;
    Err(Error::new(ErrorKind::InvalidOperation, "raise_exception").with_source(Refusal(words)))
}

/// What a template said by `raise_exception`.
#[derive(Debug)]
pub(crate) struct Refusal(String);

impl Refusal {
    /// The template's words, if it was a refusal that stopped it.
    pub(crate) fn in_error(error: &Error) -> Option<&str> {
        let mut source = std::error::Error::source(error);
        while let Some(error) = source {
            if let Some(refusal) = error.downcast_ref::<Self>() {
                return Some(&refusal.0);
            }
            source = error.source();
        }
        None
    }
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Refusal {}
