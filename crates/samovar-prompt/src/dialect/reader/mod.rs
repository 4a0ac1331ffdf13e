//! Reads an answer's text as it arrives: text, thoughts and calls of tools.
//!
//! ```text
//!   scanner   text, thoughts and calls by the dialect's marks ─► json, named, tagged, python: one call
//!   harmony   the same by gpt-oss's channels
//!   syntax    which marks there are, and where they may come
//!   tools     names of tools, and what their arguments may be
//!   output    deltas
//! ```
//!
//! Text is read character by character, so what is said never depends on how it was cut. Held back is only what may still
//! become a mark, or a call; what turns out to be none is text, as the model wrote it. There are no errors, and what was
//! said is never taken back.

mod harmony;
mod json;
mod marks;
mod named;
mod output;
mod python;
mod python_values;
mod raw;
mod scanner;
mod syntax;
mod tagged;
#[cfg(test)]
mod tests;
pub(super) mod tools;

use std::sync::Arc;

use samovar_core::generation::DELTAS_MAX;
use samovar_core::{Chat, Delta, Failure, FinishReason};

use self::harmony::Harmony;
use self::marks::Mark;
use self::named::is_of_json;
use self::output::Output;
use self::scanner::Scanner;
use self::syntax::AnswerSyntax;
use self::tools::Tools;
use super::{Dialect, Form};

/// Bytes that are held back at most: what may become a call, or the value of one argument.
const HELD_MAX_BYTES: usize = 64 << 10;

/// Reads the text of one answer, piece by piece.
#[derive(Debug)]
pub struct AnswerReader {
    syntax: AnswerSyntax,
    kind: Kind,
    out: Output,
    dialect: Arc<Dialect>,
    thinking_close: Option<String>,
}

#[derive(Debug)]
enum Kind {
    Marks(Box<Scanner>),
    Harmony(Harmony),
}

/// What a character is to the call that is being read.
#[derive(Debug)]
enum Progress {
    /// A part of it.
    More,
    /// Its end.
    Whole,
    /// The call, where one was said, ended before this text, which was read last; otherwise it is none.
    Ended(String),
}

/// What readers of calls use.
struct Scene<'a> {
    out: &'a mut Output,
    tools: &'a Tools,
    /// The mark that closes the call; may be empty.
    close: &'a Mark,
}

impl Scene<'_> {
    /// A character with which the mark behind broken JSON begins.
    fn stop(&self) -> Option<char> {
        self.close.text.chars().next().filter(|c| !is_of_json(*c))
    }
}

impl AnswerReader {
    /// For an answer to `chat` by a model of this dialect. `opens_thinking`: the prompt ends inside a thought. Calls are
    /// looked for only where there are tools and [`tool_choice`](Chat::tool_choice) allows them.
    ///
    /// # Errors
    /// `InvalidRequest` where the tools cannot be read.
    pub fn new(dialect: Arc<Dialect>, chat: &Chat, opens_thinking: bool) -> Result<Self, Failure> {
        let syntax = AnswerSyntax::new(&dialect, chat)?;
        let (kind, thinking_close) = if dialect.calls.form == Form::Harmony {
            let close = harmony::THINKING_CLOSE.to_owned();
            (Kind::Harmony(Harmony::new(opens_thinking)), Some(close))
        } else {
            let close = syntax.thinking_close().map(|mark| format!("\n{}\n\n", mark.text));
            (Kind::Marks(Box::new(Scanner::new(opens_thinking && syntax.thinks()))), close)
        };
        Ok(Self { syntax, kind, out: Output::new(), dialect, thinking_close })
    }

    /// Whether the text of a special token must be pushed like any other: it is a mark, or a part of one. The text of other
    /// special tokens must not be.
    pub fn wants_special(&self, token_text: &str) -> bool {
        let text = token_text.trim();
        !text.is_empty() && self.marks().iter().any(|mark| mark.contains(text))
    }

    /// What the next piece of the answer adds: at most [`DELTAS_MAX`] deltas; further ones come with the next piece.
    pub fn push(&mut self, text: &str) -> Vec<Delta> {
        for c in text.chars() {
            match &mut self.kind {
                Kind::Marks(scanner) => scanner.read(c, &self.syntax, &mut self.out),
                Kind::Harmony(harmony) => harmony.read(c, &self.syntax, &mut self.out),
            }
        }
        self.out.take(DELTAS_MAX)
    }

    /// The answer has ended: what was held back, and all that was not yet given. The reason is
    /// [`ToolCalls`](FinishReason::ToolCalls) where the model stopped, called tools, and broke off none of the calls.
    pub fn end(&mut self, finish: FinishReason) -> (Vec<Delta>, FinishReason) {
        match &mut self.kind {
            Kind::Marks(scanner) => scanner.end(&mut self.out),
            Kind::Harmony(harmony) => harmony.end(&mut self.out),
        }
        let called = finish == FinishReason::Stop && self.out.is_made_of_whole_calls();
        (self.out.take(usize::MAX), if called { FinishReason::ToolCalls } else { finish })
    }

    /// Whether the next piece belongs to a thought.
    pub fn is_thinking(&self) -> bool {
        match &self.kind {
            Kind::Marks(scanner) => scanner.is_thinking(),
            Kind::Harmony(harmony) => harmony.is_thinking(),
        }
    }

    /// Whether the next piece is text, as far as can be told: neither a thought nor a call, nor what stands around them.
    pub fn is_in_text(&self) -> bool {
        match &self.kind {
            Kind::Marks(scanner) => scanner.is_in_text(),
            Kind::Harmony(harmony) => harmony.is_in_text(),
        }
    }

    /// What ends a thought: to be written in the model's place where it has thought enough. Control tokens in it count as
    /// such.
    pub fn thinking_close(&self) -> Option<&str> {
        self.thinking_close.as_deref()
    }

    /// The same where the answer's [grammar](super::answer_grammar) begins behind the thought: without what it writes itself.
    pub fn thinking_end(&self) -> Option<&str> {
        match &self.kind {
            Kind::Marks(_) => self.thinking_close(),
            Kind::Harmony(_) => Some(harmony::THINKING_END),
        }
    }

    /// Whether nothing that follows counts: one call is whole, and the request allows no second one.
    pub fn is_done(&self) -> bool {
        match &self.kind {
            Kind::Marks(scanner) => scanner.is_done(),
            Kind::Harmony(harmony) => harmony.is_done(),
        }
    }

    /// The texts of all marks.
    fn marks(&self) -> Vec<&str> {
        let calls = Some(&self.dialect.calls).filter(|_| self.syntax.looks_for_calls());
        let around = calls.into_iter().flat_map(|calls| [&calls.around_all, &calls.around_each]).flatten();
        let around = around.chain(&self.dialect.thinking).flat_map(|marks| [&marks.open, &marks.close]);
        let between = calls.map(|calls| &calls.between);
        let mut marks: Vec<&str> = around.chain(between).map(String::as_str).collect();
        match &self.dialect.calls.form {
            Form::Harmony => marks.extend(harmony::MARKS),
            Form::Named { before_name, after_name, after_arguments } if calls.is_some() => {
                marks.extend([before_name, after_name, after_arguments].map(String::as_str));
            }
            Form::Tagged { before_name, after_name, before_key, after_key, after_value, after_arguments }
                if calls.is_some() =>
            {
                let own = [before_name, after_name, before_key, after_key, after_value, after_arguments];
                marks.extend(own.map(String::as_str));
            }
            _ => {}
        }
        marks
    }
}
