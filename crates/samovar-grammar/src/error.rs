//! How grammars fail: each as a sentence with a hint, and as the kind of failure that a client sees.

use samovar_core::{ErrorKind, Failure};

/// Characters of a parser's own words that go into a message.
const WORDS_CHARS: usize = 400;
/// What the parser ends its words with where it does not tell its state.
const TERSE: &str = "<non-verbose/>";

/// Why a grammar is refused, or why an answer under it cannot go on.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Error {
    /// More bytes than are read.
    #[error("{what} has {bytes} bytes; {most} are allowed")]
    TooLong { what: &'static str, bytes: usize, most: usize },
    /// The schema is no JSON.
    #[error("the schema is not valid JSON: {detail}")]
    NotJson { detail: String },
    /// A keyword whose meaning cannot be kept.
    #[error("`{keyword}` at {place} is not supported: {why}")]
    Unsupported { keyword: String, place: String, why: &'static str },
    /// A keyword whose value has another form than the specification says.
    #[error("`{keyword}` at {place} is wrong: {why}")]
    Wrong { keyword: String, place: String, why: String },
    /// A keyword whose value is beyond what is allowed.
    #[error("`{keyword}` at {place}: {value} is more than the {most} that are allowed")]
    TooLarge { keyword: String, place: String, value: u64, most: u64 },
    /// More of something in the whole schema than is allowed.
    #[error("the schema has more than {most} {what} (counted up to {place})")]
    TooMany { what: &'static str, place: String, most: usize },
    /// A reference that leads outside, nowhere or in a circle.
    #[error("`$ref` {reference:?} at {place} {why}")]
    Reference { reference: String, place: String, why: &'static str },
    /// A line of a grammar.
    #[error("line {line} of the grammar: {why}")]
    Line { line: usize, why: String },
    /// A schema within a grammar.
    #[error("line {line} of the grammar: {error}")]
    Schema { line: usize, error: Box<Error> },
    /// The parser refused it, in its own words.
    #[error("{what} cannot be compiled: {detail}")]
    NotCompiled { what: &'static str, detail: String },
    /// The parser did not come to an end.
    #[error("{what} takes too long to compile")]
    TooSlow { what: &'static str },
    /// No request waits for it any more.
    #[error("the request was cancelled while its grammar was compiled")]
    Cancelled,
    /// Others are being compiled.
    #[error("too many grammars are being compiled")]
    Busy,
    /// It alone takes more memory than all grammars of a model may.
    #[error("this grammar takes {bytes} bytes of memory; {most} are allowed")]
    TooBig { bytes: usize, most: usize },
    /// With those of other answers, it takes more memory than all grammars of a model may.
    #[error("the grammars of running answers take {bytes} bytes of memory, of {most} at most")]
    Full { bytes: usize, most: usize },
    /// The system gives no thread.
    #[error("no thread for a grammar: {detail}")]
    Thread { detail: String },
    /// The tokens of a model cannot be arranged.
    #[error("the model's vocabulary cannot be used with grammars: {detail}")]
    Vocabulary { detail: String },
    /// A step, or all steps together, cost more than is allowed.
    #[error("the answer's grammar became too costly: {detail}")]
    TooCostly { detail: String },
    /// The grammar wants bytes that no token of the model has.
    #[error("no token of this model can follow under the answer's grammar")]
    NoToken,
    /// A token that the mask did not allow.
    #[error("the answer left its grammar: {detail}")]
    Left { detail: String },
    /// A fault of the parser.
    #[error("the grammar's parser failed: {detail}")]
    Fault { detail: String },
}

impl Error {
    /// What the parser said about a grammar that it did not accept.
    pub(crate) fn not_compiled(what: &'static str, words: &str) -> Self {
        let detail = shortened(words);
        if words.starts_with("panic:") {
            return Self::NotCompiled { what, detail: "its parser does not get through it".to_owned() };
        }
        Self::NotCompiled { what, detail }
    }

    /// What the parser said in the middle of an answer.
    pub(crate) fn in_answer(words: &str) -> Self {
        const COSTLY: [&str; 6] = ["too many", "Too many", "max is", "too big", "TooComplex", "MaxTokens"];
        let detail = shortened(words);
        // The words about a token show its text, which may be anything.
        let is_about_token = words.contains("doesn't satisfy the grammar");
        if words.starts_with("panic:") {
            Self::Fault { detail }
        } else if !is_about_token && words.contains("NoExtension") {
            Self::NoToken
        } else if !is_about_token && COSTLY.iter().any(|sign| words.contains(sign)) {
            Self::TooCostly { detail }
        } else {
            Self::Left { detail }
        }
    }

    /// The failure that a client sees; `param` is the parameter of its request that carried the grammar.
    pub(crate) fn into_failure(self, param: Option<&str>) -> Failure {
        let failure = Failure::new(self.kind(), self.to_string());
        let failure = match self.hint() {
            Some(hint) => failure.with_hint(hint),
            None => failure,
        };
        match param {
            Some(param) if failure.kind == ErrorKind::InvalidRequest => failure.with_param(param),
            _ => failure,
        }
    }

    const fn kind(&self) -> ErrorKind {
        match self {
            Self::Cancelled => ErrorKind::Cancelled,
            Self::Busy | Self::Full { .. } => ErrorKind::Busy,
            Self::Thread { .. } => ErrorKind::EngineFailed,
            Self::Vocabulary { .. } => ErrorKind::Unsupported,
            Self::Left { .. } | Self::Fault { .. } => ErrorKind::Internal,
            _ => ErrorKind::InvalidRequest,
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Unsupported { keyword, .. } if keyword == "oneOf" => {
                "use `anyOf`, or give the choices a required property with a different `const` in each"
                    .to_owned()
            }
            Self::Unsupported { .. } => "leave it out, and check it in the answer".to_owned(),
            Self::Reference { .. } => "put what it refers to under `$defs`".to_owned(),
            Self::TooLong { .. } | Self::TooLarge { .. } | Self::TooMany { .. } | Self::TooBig { .. } => {
                "make it smaller, or leave details to the prompt".to_owned()
            }
            Self::TooSlow { .. } | Self::TooCostly { .. } => {
                "make it simpler: fewer repetitions of repetitions, shorter lists, smaller counts".to_owned()
            }
            Self::Busy | Self::Full { .. } => "try again shortly".to_owned(),
            Self::Schema { error, .. } => return error.hint(),
            _ => return None,
        })
    }
}

/// The first line of the parser's words, and not much of it.
fn shortened(words: &str) -> String {
    let line = words.replace(TERSE, "");
    let line = line.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or("no reason was given");
    match line.char_indices().nth(WORDS_CHARS) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line.to_owned(),
    }
}

/// Refuses a text that is too long.
pub(crate) fn bounded(what: &'static str, text: &str, most: usize) -> Result<(), Error> {
    if text.len() > most { Err(Error::TooLong { what, bytes: text.len(), most }) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_the_parser_are_cut_to_their_first_line() {
        let error = Error::not_compiled("the grammar", "\nat 3(1): no such rule\n  1 | start: x\n");
        assert_eq!(error.to_string(), "the grammar cannot be compiled: at 3(1): no such rule");
        let long = Error::not_compiled("the schema", &"é".repeat(10_000));
        assert!(long.to_string().len() < 1_000);
    }

    #[test]
    fn a_panic_of_the_parser_shows_no_backtrace() {
        let error =
            Error::not_compiled("the schema", "panic: index\n<backtrace>\n at secret.rs\n</backtrace>");
        assert!(!error.to_string().contains("secret"), "{error}");
        assert_eq!(error.into_failure(Some("response_format")).kind, ErrorKind::InvalidRequest);
        let error = Error::in_answer("panic: index\n<backtrace>\n at secret.rs\n</backtrace>");
        assert!(!error.to_string().contains("secret"), "{error}");
        assert_eq!(error.into_failure(None).kind, ErrorKind::Internal);
    }

    #[test]
    fn only_what_a_client_can_change_names_its_parameter() {
        let refused = Error::NoToken.into_failure(Some("grammar"));
        assert_eq!((refused.kind, refused.param.as_deref()), (ErrorKind::InvalidRequest, Some("grammar")));
        assert_eq!(Error::Busy.into_failure(Some("grammar")).param, None);
        assert_eq!(
            Error::in_answer("lexer error: too many states: 5 >= 5\n<non-verbose/>"),
            Error::TooCostly { detail: "lexer error: too many states: 5 >= 5".to_owned() }
        );
    }
}
