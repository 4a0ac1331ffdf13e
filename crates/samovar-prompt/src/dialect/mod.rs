//! How a model writes thoughts and calls of tools: found by rendering its chat template, and used to read its answers.
//!
//! ```text
//!   detect      a template, rendered with sentinels ──► a dialect; known families by their marks
//!   generic     the dialect of models whose template knows no tools
//!   reader      the text of an answer, piece by piece ──► deltas: text, thoughts, calls
//!   grammar     a dialect and the tools of a request ──► a grammar that calls obey
//! ```
//!
//! Pure, but for the renders of `detect`, which are bounded like every other.

pub(crate) mod detect;
mod families;
pub(crate) mod generic;
mod grammar;
mod reader;

pub use grammar::answer_grammar;
pub use reader::AnswerReader;

use samovar_core::{Chat, ToolChoice};

/// How a model writes thoughts and calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dialect {
    /// The marks around a thought, where its template writes thoughts.
    pub thinking: Option<Marks>,
    /// How calls are written.
    pub calls: Calls,
    /// The template itself tells the model of tools; otherwise they are described in the system text.
    pub knows_tools: bool,
}

impl Dialect {
    /// Whether an answer to this may have several calls. A model that must call, and whose template knows no tools, calls one: it
    /// was never taught when to stop, and writes the same call until its tokens are used up.
    pub(crate) fn takes_several_calls(&self, chat: &Chat) -> bool {
        let must_call = matches!(chat.tool_choice, ToolChoice::Required | ToolChoice::Named(_));
        chat.parallel_tool_calls && (self.knows_tools || !must_call)
    }
}

/// What stands before and behind something. Never empty before; behind it may be empty: then the end of the answer, or what
/// comes next, ends it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Marks {
    /// Before it.
    pub open: String,
    /// Behind it.
    pub close: String,
}

/// How the calls of one answer are written, white space at the ends of marks left out: readers skip it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Calls {
    /// Around all calls of an answer together.
    pub around_all: Option<Marks>,
    /// Around each.
    pub around_each: Option<Marks>,
    /// Between two: a comma, a semicolon, or nothing.
    pub between: String,
    /// What stands inside.
    pub form: Form,
}

/// One call without the marks around it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Form {
    /// A JSON object with the name and the arguments in fields.
    Json {
        /// The field of the name: `name`.
        name: String,
        /// The field of the arguments: `arguments` or `parameters`.
        arguments: String,
        /// The field of the call's id, where it has one.
        id: Option<String>,
        /// The field that holds the name and the arguments, where they are one level down: `function`.
        inside: Option<String>,
        /// All calls are the items of one JSON array.
        is_array: bool,
    },
    /// The name as plain text, then the arguments as a JSON object.
    Named {
        /// Before the name; may be empty.
        before_name: String,
        /// Between the name and the arguments. What else stands there before the `{`, such as an id, is skipped.
        after_name: String,
        /// Behind the arguments; may be empty.
        after_arguments: String,
    },
    /// The name as plain text, then each argument between marks, as plain text or JSON.
    Tagged {
        /// Before the name; may be empty.
        before_name: String,
        /// Behind the name; may be empty: then white space, the next mark, or the end of the call ends it.
        after_name: String,
        /// Before an argument's name.
        before_key: String,
        /// Between an argument's name and its value.
        after_key: String,
        /// Behind the value.
        after_value: String,
        /// Behind the last argument; may be empty.
        after_arguments: String,
    },
    /// Calls as Python writes them: `name(key="value", …)`, in a list.
    Python,
    /// Channels and recipients, as gpt-oss writes them.
    Harmony,
}
