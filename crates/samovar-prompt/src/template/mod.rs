//! Jinja as the Hugging Face libraries run it: the same text as Python's Jinja2 in their sandbox, or the same refusal.
//!
//! ```text
//!   source/    a template's text → minijinja's, with Python's operators written out
//!   python/    values as Python has them: str and repr, operators, lookups, methods, json
//!   filters/   Jinja2's filters, and the operators
//!   tests      Jinja2's tests: `is defined`
//!   functions  range, dict, namespace, raise_exception
//!   clock      strftime_now
//!   builtin    templates by name
//!   budget     what the values of one rendering may take
//! ```
//!
//! minijinja compiles and runs the statements: blocks, loops, macros, scopes.
//! *Source:* <https://huggingface.co/docs/transformers/chat_templating>.

mod budget;
mod builtin;
mod clock;
mod filters;
mod functions;
mod python;
mod refusal;
mod source;
mod tests;

use minijinja::syntax::SyntaxConfig;
use minijinja::{AutoEscape, Environment, Error, ErrorKind, Value};

pub(crate) use builtin::{CHATML, named};
pub(crate) use clock::Clock;
pub(crate) use refusal::Refusal;

use crate::bounds::{FUEL, RECURSION_LIMIT};

/// What every template finds.
///
/// # Errors
/// Never in practice: the syntax is a fixed one.
pub(crate) fn environment() -> Result<Environment<'static>, Error> {
    let mut environment = Environment::empty();
    // Every rule of whitespace is applied by `source`.
    environment.set_syntax(SyntaxConfig::builder().keep_trailing_newline(true).build()?);
    environment.set_auto_escape_callback(|_| AutoEscape::None);
    environment.set_fuel(Some(FUEL));
    environment.set_recursion_limit(RECURSION_LIMIT);
    environment.set_unknown_method_callback(python::methods::call);
    environment.set_formatter(|out, state, value| {
        let text = python::text::string(state, value)?;
        out.write_str(&text).map_err(|_| budget::refuse("the text cannot be written"))
    });
    filters::register(&mut environment);
    tests::register(&mut environment);
    functions::register(&mut environment);
    // As when a chat has neither.
    for name in ["tools", "documents"] {
        environment.add_global(name, Value::from(()));
    }
    Ok(environment)
}

/// Compiles a template into `environment`.
///
/// # Errors
/// What Jinja2 refuses to compile.
pub(crate) fn add(
    environment: &mut Environment<'static>,
    name: &'static str,
    source: &str,
) -> Result<(), Error> {
    let translated = source::translate(source)
        .map_err(|error| Error::new(ErrorKind::SyntaxError, error.to_string()).with_source(error))?;
    environment.add_template_owned(name, translated)
}
