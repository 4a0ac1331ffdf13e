//! Lines of a chat: from an editor with history on a terminal, from a pipe as they are.
//!
//! The history is what was asked in conversations that are kept, and what was typed since. It has no file of its own, in which a question
//! would outlive its conversation.

use std::io::{BufRead, IsTerminal};

use rustyline::completion::Completer;
use rustyline::error::ReadlineError;
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::history::DefaultHistory;
use rustyline::validate::Validator;
use rustyline::{Config, Editor, Helper};
use samovar_core::{ErrorKind, Failure};

use super::command::NAMES;
use crate::command::Context;
use crate::{home, report};

const PROMPT: &str = "› ";
const CONTINUED: &str = "· ";
/// Lines that the editor remembers.
pub(super) const HISTORY_LINES: u32 = 1_000;

/// What came of reading a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum InputLine {
    Text(String),
    Interrupted,
    End,
}

/// Where lines come from.
pub(super) enum Lines {
    Editor(Box<Editor<Commands, DefaultHistory>>),
    Pipe,
}

impl Lines {
    /// Lines of a person who asked this before, or of a pipe.
    ///
    /// # Errors
    /// `Internal` when the terminal cannot be used.
    pub(super) fn open(context: &Context, asked: &[String]) -> Result<Self, Failure> {
        // Earlier versions kept all that was typed there, whatever was deleted since.
        fs_err::remove_file(context.settings.home.history_file()).ok();
        if !std::io::stdin().is_terminal() || !context.report.stdout_is_terminal() {
            return Ok(Self::Pipe);
        }
        let config = Config::builder()
            .history_ignore_space(true)
            .max_history_size(HISTORY_LINES as usize)
            .and_then(|config| config.history_ignore_dups(true))
            .map_err(|error| unusable(&error))?
            .build();
        let mut editor = Editor::with_config(config).map_err(|error| unusable(&error))?;
        editor.set_helper(Some(Commands));
        let mut lines = Self::Editor(Box::new(editor));
        for line in asked {
            lines.remember(line);
        }
        Ok(lines)
    }

    /// Whether a person types.
    pub(super) fn is_interactive(&self) -> bool {
        matches!(self, Self::Editor(_))
    }

    /// The next line; one that ends in a backslash is joined with what follows it.
    ///
    /// # Errors
    /// `Storage` when standard input cannot be read.
    pub(super) async fn next(&mut self) -> Result<InputLine, Failure> {
        let mut whole = String::new();
        loop {
            let line = match self {
                Self::Editor(editor) => edited(editor, if whole.is_empty() { PROMPT } else { CONTINUED }),
                Self::Pipe => piped().await,
            }?;
            match line {
                InputLine::Text(text) => {
                    let Some(begin) = text.strip_suffix('\\') else {
                        whole.push_str(&text);
                        self.remember(&whole);
                        return Ok(InputLine::Text(whole));
                    };
                    whole.push_str(begin);
                    whole.push('\n');
                }
                InputLine::End if !whole.is_empty() => return Ok(InputLine::Text(whole)),
                other => return Ok(other),
            }
        }
    }

    fn remember(&mut self, line: &str) {
        if let Self::Editor(editor) = self
            && !line.trim().is_empty()
        {
            // Without a history one can still talk.
            editor.add_history_entry(line).ok();
        }
    }
}

fn edited(editor: &mut Editor<Commands, DefaultHistory>, prompt: &str) -> Result<InputLine, Failure> {
    match editor.readline(prompt) {
        Ok(text) => Ok(InputLine::Text(text)),
        Err(ReadlineError::Interrupted) => Ok(InputLine::Interrupted),
        Err(ReadlineError::Eof) => Ok(InputLine::End),
        Err(error) => Err(unusable(&error)),
    }
}

/// Reads on a thread of its own, so that Ctrl-C is heard meanwhile.
async fn piped() -> Result<InputLine, Failure> {
    let read = tokio::task::spawn_blocking(|| {
        let mut text = String::new();
        std::io::stdin().lock().read_line(&mut text).map(|bytes| (bytes, text))
    });
    tokio::select! {
        read = read => match read {
            Ok(Ok((0, _))) => Ok(InputLine::End),
            Ok(Ok((_, text))) => Ok(InputLine::Text(text.trim_end_matches(['\n', '\r']).to_owned())),
            Ok(Err(error)) => Err(Failure::new(
                ErrorKind::Storage,
                format!("could not read standard input: {}", home::plain(&error)),
            )),
            Err(_) => Err(Failure::new(ErrorKind::Internal, "reading standard input did not finish")),
        },
        _ = tokio::signal::ctrl_c() => Ok(InputLine::Interrupted),
    }
}

fn unusable(error: &ReadlineError) -> Failure {
    let reason = report::harmless(&error.to_string()).into_owned();
    Failure::new(ErrorKind::Internal, format!("the terminal cannot be used: {reason}"))
        .with_hint("`samovar chat < file` reads lines without an editor")
}

/// Completes the names of commands.
#[derive(Clone, Copy, Debug)]
pub(super) struct Commands;

impl Helper for Commands {}
impl Highlighter for Commands {}
impl Validator for Commands {}
impl Hinter for Commands {
    type Hint = String;
}

impl Completer for Commands {
    type Candidate = String;

    fn complete(
        &self,
        line: &str,
        position: usize,
        _: &rustyline::Context<'_>,
    ) -> rustyline::Result<(usize, Vec<String>)> {
        let typed = line.get(..position).unwrap_or_default();
        let matching = NAMES.iter().filter(|name| typed.starts_with('/') && name.starts_with(typed));
        Ok((0, matching.map(|name| format!("{name} ")).collect()))
    }
}
