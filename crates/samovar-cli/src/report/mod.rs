//! The only place that prints: text, tables, JSON and errors, for a terminal or for a pipe.
//!
//! ```text
//!   stdout   answers, tables, JSON          closed by the reader → `Ended::OutputClosed`, quietly
//!   stderr   progress, notes, errors        colours and spinners only on a terminal
//! ```
//!
//! Text that models or files wrote is made harmless before a terminal sees it.

mod downloads;
mod failure;
mod harmless;
mod progress;
mod prose;
mod table;

use std::io::{IsTerminal, Write};
use std::path::Path;

use samovar::Wait;
use samovar::store::Progress as Step;
use samovar_core::{ErrorKind, Failure};
use serde::Serialize;

pub(crate) use downloads::Downloads;
pub(crate) use harmless::harmless;
pub(crate) use progress::Progress;
pub(crate) use prose::Prose;
pub(crate) use table::{Align, Columns};

use crate::ended::Ended;
use crate::home;
use crate::settings::Environment;

/// How a check came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mark {
    /// As it should be.
    Fine,
    /// It works, but not as well as it could.
    Odd,
    /// It does not work.
    Broken,
}

/// What is at the other end of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// A program or a file.
    Pipe,
    /// A person who wants no colours.
    Plain,
    /// A person.
    Coloured,
}

/// How this process talks to its user.
#[derive(Clone, Debug)]
pub(crate) struct Report {
    is_json: bool,
    stdout: End,
    stderr: End,
}

impl Report {
    /// As the terminal and `NO_COLOR` allow.
    pub(crate) fn new(is_json: bool, environment: &Environment) -> Self {
        let is_dumb = environment.text("TERM").is_some_and(|term| term == "dumb");
        let is_coloured = environment.text("NO_COLOR").is_none() && !is_dumb;
        let end = |is_terminal| match (is_terminal, is_coloured) {
            (false, _) => End::Pipe,
            (true, false) => End::Plain,
            (true, true) => End::Coloured,
        };
        Self {
            is_json,
            stdout: end(std::io::stdout().is_terminal()),
            stderr: end(std::io::stderr().is_terminal()),
        }
    }

    /// Whether machines read the output.
    pub(crate) fn is_json(&self) -> bool {
        self.is_json
    }

    /// Whether a person reads the answer as it comes.
    pub(crate) fn stdout_is_terminal(&self) -> bool {
        self.stdout != End::Pipe
    }

    /// Whether a person reads remarks.
    pub(crate) fn stderr_is_terminal(&self) -> bool {
        self.stderr != End::Pipe
    }

    /// Whether the answer may have colours.
    pub(crate) fn colours_stdout(&self) -> bool {
        self.stdout == End::Coloured
    }

    /// Whether log lines may have colours.
    pub(crate) fn colours_stderr(&self) -> bool {
        self.stderr == End::Coloured
    }

    /// A line on standard output.
    #[expect(clippy::unused_self, reason = "printing is the report's, whatever it needs to know for it")]
    pub(crate) fn line(&self, text: &str) -> Result<(), Ended> {
        write(format!("{text}\n").as_bytes())
    }

    /// Bytes of another process on standard output, as they are.
    #[expect(clippy::unused_self, reason = "printing is the report's, whatever it needs to know for it")]
    pub(crate) fn bytes(&self, bytes: &[u8]) -> Result<(), Ended> {
        write(bytes)
    }

    /// A model's answer as it comes.
    pub(crate) fn prose(&self) -> Prose {
        Prose::new(self.columns(), self.stdout == End::Coloured)
    }

    /// Columns of the terminal that shows the answer; `None` for a pipe.
    pub(crate) fn columns(&self) -> Option<usize> {
        let columns =
            || rustix::termios::tcgetwinsize(std::io::stdout()).ok().map(|size| usize::from(size.ws_col));
        // A terminal that does not tell its width has 80 columns.
        self.stdout_is_terminal().then(|| columns().filter(|columns| *columns > 0).unwrap_or(80))
    }

    /// One JSON document on standard output: a line for programs, spread out for people.
    pub(crate) fn json(&self, value: &impl Serialize) -> Result<(), Ended> {
        let text = match self.stdout {
            End::Pipe => serde_json::to_string(value),
            End::Plain | End::Coloured => serde_json::to_string_pretty(value),
        };
        self.line(&text.map_err(|error| {
            Failure::new(ErrorKind::Internal, format!("an answer could not be written as JSON: {error}"))
        })?)
    }

    /// One JSON object of several, a line each.
    pub(crate) fn event(&self, value: &impl Serialize) -> Result<(), Ended> {
        self.line(&serde_json::to_string(value).map_err(|error| {
            Failure::new(ErrorKind::Internal, format!("an event could not be written as JSON: {error}"))
        })?)
    }

    /// Downloads that a person or a program follows.
    pub(crate) fn downloads(
        &self,
        models: impl IntoIterator<Item = String>,
        is_quiet: bool,
    ) -> Downloads<'_> {
        Downloads::new(self, models, is_quiet)
    }

    /// A table on standard output.
    pub(crate) fn table(&self, columns: Columns) -> Result<(), Ended> {
        self.line(&columns.render(self.stdout == End::Coloured))
    }

    /// A line with a mark in front of it.
    pub(crate) fn marked(&self, mark: Mark, text: &str) -> Result<(), Ended> {
        let (sign, colour) = match mark {
            Mark::Fine => ("✓", "32"),
            Mark::Odd => ("!", "33"),
            Mark::Broken => ("✗", "31"),
        };
        let text = harmless(text);
        if self.stdout == End::Coloured {
            return self.line(&format!("\x1b[{colour}m{sign}\x1b[0m {text}"));
        }
        self.line(&format!("{sign} {text}"))
    }

    /// A remark for a person, beside the answer.
    pub(crate) fn note(&self, text: &str) {
        let text = harmless(text);
        let line =
            if self.colours_stderr() { format!("\x1b[2m{text}\x1b[0m\n") } else { format!("{text}\n") };
        // It has no reader: nothing is lost.
        std::io::stderr().write_all(line.as_bytes()).ok();
    }

    /// What a request waits for. That its model was found on this machine is worth a line that stays.
    pub(crate) fn waiting(&self, progress: &Progress, model: &str, wait: &Wait) {
        match wait {
            Wait::Fetching(Step::Nearby { from, bytes }) => {
                progress.clear();
                self.nearby(model, from, *bytes);
            }
            Wait::Fetching(Step::Chosen { reason, .. }) => {
                progress.clear();
                self.note(&format!("note: {model}: {reason}"));
            }
            Wait::Fetching(Step::Unanswered { reason }) if !progress.is_visible() => {
                self.note(&format!("note: {model}: the source does not answer: {reason}"));
            }
            wait => progress.waiting(model, wait),
        }
    }

    /// That a model was found on this machine.
    pub(crate) fn nearby(&self, model: &str, from: &Path, bytes: u64) {
        self.note(&format!("note: {model}: {}", downloads::nearby(from, bytes)));
    }

    /// What went wrong, with what to do about it.
    pub(crate) fn failure(&self, failure: &Failure) {
        let text = failure::text(failure, self.is_json, self.colours_stderr());
        std::io::stderr().write_all(text.as_bytes()).ok();
    }

    /// A spinner on standard error, invisible unless a person watches.
    pub(crate) fn progress(&self) -> Progress {
        Progress::new(self.stderr_is_terminal() && !self.is_json, self.colours_stderr())
    }
}

/// Writes to standard output and sees that it arrives.
fn write(bytes: &[u8]) -> Result<(), Ended> {
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(bytes).and_then(|()| stdout.flush()).map_err(|error| match error.kind() {
        std::io::ErrorKind::BrokenPipe => Ended::OutputClosed,
        _ => Ended::Failed(
            Failure::new(
                ErrorKind::Storage,
                format!("could not write to standard output: {}", home::plain(&error)),
            )
            .with_hint("check where the output goes"),
        ),
    })
}
