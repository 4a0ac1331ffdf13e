//! From a grammar to rules: on a thread of its own, whose stack is large enough for what its parsers call themselves, and
//! for which the request waits only so long.

use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::thread::Builder;
use std::time::Instant;

use llguidance::Matcher;
use llguidance::api::TopLevelGrammar;
use samovar_core::{Constraint, Failure};
use serde_json::json;

use crate::error::{Error, bounded};
use crate::memory::GrammarShare;
use crate::rules::{Rules, Size};
use crate::vocabulary::{CompilePermit, Shared, Vocabulary};
use crate::{gbnf, lark, limits, schema};

/// What is compiled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Grammar {
    /// What a request says about its answer.
    Constraint(Constraint),
    /// A Lark grammar that was written here, for calls of tools. Control tokens stand in it by their ids, `<[7]>`: a text
    /// means its characters, because a client may have written it.
    Lark(String),
}

impl Grammar {
    fn text_bytes(&self) -> usize {
        match self {
            Self::Constraint(constraint) => constraint.source().len(),
            Self::Lark(text) => text.len(),
        }
    }
}

impl Vocabulary {
    /// Compiles a grammar, and computes which tokens an answer can begin with.
    ///
    /// `param` is the parameter of the request that carried it. `is_wanted` is asked now and then; compiling ends for its
    /// caller when it says no.
    ///
    /// # Errors
    /// `InvalidRequest` with `param` and the keyword, place or line, if the grammar is wrong, not supported, too large or too
    /// costly; `Busy` if too many are being compiled, or those that are in use have most of the memory for grammars;
    /// `Cancelled`.
    pub fn compile(
        &self,
        grammar: &Grammar,
        param: &str,
        is_wanted: &dyn Fn() -> bool,
    ) -> Result<Rules, Failure> {
        let with_param = |error: Error| error.into_failure(Some(param));
        let what = what(grammar);
        let permit = CompilePermit::new(&self.shared).map_err(with_param)?;
        self.shared.memory.check_room().map_err(with_param)?;
        let (sender, receiver) = sync_channel(1);
        let (shared, grammar) = (Arc::clone(&self.shared), grammar.clone());
        let run = move || {
            // Nothing receives it if the request gave up.
            let _ = sender.send(compile(&shared, grammar, what));
            drop(permit);
        };
        let thread =
            Builder::new().name("compile".to_owned()).stack_size(limits::COMPILE_STACK_BYTES).spawn(run);
        if let Err(error) = thread {
            return Err(with_param(Error::Thread { detail: error.to_string() }));
        }
        let began = Instant::now();
        loop {
            match receiver.recv_timeout(limits::COMPILE_LOOK) {
                Ok(compiled) => {
                    let mut rules = compiled.map_err(with_param)?;
                    rules.mask().map_err(|failure| failure.with_param(param))?;
                    return Ok(rules);
                }
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(with_param(Error::not_compiled(what, "panic: outside the parser")));
                }
                Err(RecvTimeoutError::Timeout) if !is_wanted() => return Err(with_param(Error::Cancelled)),
                Err(RecvTimeoutError::Timeout) if began.elapsed() > limits::COMPILE_TIME => {
                    return Err(with_param(Error::TooSlow { what }));
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }
}

fn what(grammar: &Grammar) -> &'static str {
    match grammar {
        Grammar::Constraint(Constraint::JsonObject | Constraint::JsonSchema(_)) => "the schema",
        Grammar::Constraint(Constraint::Regex(_)) => "the regular expression",
        Grammar::Constraint(Constraint::Lark(_) | Constraint::Gbnf(_)) => "the grammar",
        Grammar::Lark(_) => "the grammar of the tools",
    }
}

fn compile(shared: &Shared, grammar: Grammar, what: &'static str) -> Result<Rules, Error> {
    let text_bytes = grammar.text_bytes();
    let grammar = translate(grammar)?;
    let parser = shared.factory.create_parser(grammar);
    let parser = parser.map_err(|error| Error::not_compiled(what, &error.to_string()))?;
    // A copy shares its lexer with the first, and tells its size.
    let lexer = parser.parser.clone();
    let compiled_bytes = text_bytes.saturating_mul(limits::COMPILED_PER_BYTE);
    let size = Size { lexer, compiled_bytes, share: GrammarShare::new(&shared.memory) };
    let mut rules = Rules::new(Matcher::new(Ok(parser)), shared.factory.tok_env().clone(), size);
    // The first mask costs the most. What fails here fails again, with the same words, for the caller.
    let _ = rules.mask();
    Ok(rules)
}

/// The grammar in the form that the parser reads.
fn translate(grammar: Grammar) -> Result<TopLevelGrammar, Error> {
    match grammar {
        Grammar::Constraint(Constraint::JsonObject) => {
            schema::prepare(&json!({ "type": "object" })).map(TopLevelGrammar::from_json_schema)
        }
        Grammar::Constraint(Constraint::JsonSchema(text)) => {
            schema::read(&text).map(TopLevelGrammar::from_json_schema)
        }
        Grammar::Constraint(Constraint::Regex(text)) => {
            bounded("the regular expression", &text, limits::REGEX_BYTES)?;
            regex(&text)
        }
        Grammar::Constraint(Constraint::Lark(text)) => {
            bounded("the grammar", &text, limits::GRAMMAR_BYTES)?;
            lark::prepare(&text).map(TopLevelGrammar::from_lark)
        }
        Grammar::Constraint(Constraint::Gbnf(text)) => {
            bounded("the grammar", &text, limits::GRAMMAR_BYTES)?;
            gbnf::to_lark(&text).map(TopLevelGrammar::from_lark)
        }
        Grammar::Lark(text) => {
            bounded("the grammar of the tools", &text, limits::TOOLS_BYTES)?;
            lark::prepare(&text).map(TopLevelGrammar::from_lark)
        }
    }
}

/// A regular expression matches the whole answer, so anchors at its ends say nothing new.
fn regex(text: &str) -> Result<TopLevelGrammar, Error> {
    let backslashes = |text: &str| text.chars().rev().take_while(|char| *char == '\\').count();
    let inner = text.strip_prefix('^').unwrap_or(text);
    let inner = match inner.strip_suffix('$') {
        Some(before) if backslashes(before) % 2 == 0 => before,
        _ => inner,
    };
    let wrong =
        |detail: &str| Err(Error::NotCompiled { what: "the regular expression", detail: detail.to_owned() });
    if inner.is_empty() {
        return wrong("it allows only an empty answer");
    }
    if backslashes(inner) % 2 == 1 {
        return wrong("it ends with a backslash");
    }
    Ok(TopLevelGrammar::from_regex(inner))
}
