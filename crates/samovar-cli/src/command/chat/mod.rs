//! `samovar chat`: a conversation, line by line, on a terminal or through a pipe.
//!
//! ```text
//!   lines (editor | pipe) ─► Command ─┬─ /pool /stats /model /system /save /load /thoughts /clear /help /quit
//!                                     └─ text ─► Conversation ─► answer ─► remembered
//! ```
//!
//! The conversation lives here; the daemon only ever sees the messages of one request.

mod command;
mod conversation;
mod lines;

use samovar::Request;
use samovar_core::generation::FinishReason;
use samovar_core::units::counted;
use samovar_core::{ErrorKind, Failure};

use super::answer::{self, AnswerReport, Shown};
use super::backend::{self, Backend};
use super::{Context, ps, stats};
use crate::args::Chat;
use crate::client::Figures;
use crate::ended::Ended;
use command::Command;
use conversation::Conversation;
use lines::{InputLine, Lines};

pub(super) async fn execute(context: &Context, arguments: Chat) -> Result<(), Ended> {
    let name = arguments.model.clone().unwrap_or_else(|| context.settings.default_model.clone());
    let backend = if arguments.generation.no_daemon {
        Backend::here(context.settings.runtime.clone())?
    } else {
        Backend::daemon(context)
    };
    let mut chat = Session {
        context,
        arguments,
        model: backend::portable(&name, &context.settings)?,
        conversation: Conversation::default(),
        failed: None,
        backend,
    };
    chat.conversation.set_system(chat.arguments.generation.system.clone());
    let ended = chat.talk(&name).await;
    chat.backend.end().await;
    ended
}

struct Session<'a> {
    context: &'a Context,
    arguments: Chat,
    backend: Backend<'a>,
    model: String,
    conversation: Conversation,
    /// The last failure, for the exit code of a piped conversation.
    failed: Option<ErrorKind>,
}

impl Session<'_> {
    async fn talk(&mut self, name: &str) -> Result<(), Ended> {
        // A wrong name is told before the user types, and the first answer need not wait.
        self.warm().await?;
        let mut lines = Lines::open(self.context)?;
        if lines.is_interactive() {
            self.context.report.note(&format!("{name} · /help lists the commands, Ctrl-D leaves"));
        }
        loop {
            match lines.next().await? {
                InputLine::End => break,
                InputLine::Interrupted if lines.is_interactive() => {
                    self.context.report.note("Ctrl-D or /quit leaves");
                }
                InputLine::Interrupted => return Err(Ended::Interrupted),
                InputLine::Text(text) if text.trim().is_empty() => {}
                InputLine::Text(text) => match Command::read(&text) {
                    Ok(Command::Quit) => break,
                    Ok(command) => self.obey(command, lines.is_interactive()).await?,
                    Err(failure) => self.show(&failure),
                },
            }
        }
        match self.failed {
            Some(kind) if !lines.is_interactive() => Err(Ended::Shown(kind)),
            _ => Ok(()),
        }
    }

    async fn warm(&self) -> Result<f64, Ended> {
        tokio::select! {
            warmed = self.backend.warm(&self.context.report, &self.model, false) => Ok(warmed?),
            _ = tokio::signal::ctrl_c() => Err(Ended::Interrupted),
        }
    }

    async fn obey(&mut self, command: Command, is_interactive: bool) -> Result<(), Ended> {
        let report = &self.context.report;
        match command {
            Command::Say(text) => return self.say(text, is_interactive).await,
            Command::Pool => {
                let figures = self.figures().await?;
                report.table(ps::table(&figures))?;
                report.line(&ps::availability(&figures))?;
            }
            Command::Stats => report.table(stats::summary(&self.figures().await?))?,
            Command::Model(None) => report.note(&self.model),
            Command::Model(Some(name)) => self.change_model(&name).await?,
            Command::System(text) => {
                report.note(if text.is_some() {
                    "the system message is set"
                } else {
                    "there is no system message now"
                });
                self.conversation.set_system(text);
            }
            Command::Save(path) => match self.conversation.save(&path) {
                Ok(()) => report.note(&format!("saved to {}", path.display())),
                Err(failure) => self.show(&failure),
            },
            Command::Load(path) => match Conversation::load(&path) {
                Ok(conversation) => {
                    let messages = counted(conversation.len(), "message");
                    self.conversation = conversation;
                    report.note(&format!("loaded {messages} from {}", path.display()));
                }
                Err(failure) => self.show(&failure),
            },
            Command::Thoughts => {
                report.note(
                    self.conversation.last_thought().unwrap_or("the last answer came without a thought"),
                );
            }
            Command::Clear => {
                self.conversation.clear();
                report.note("the conversation is forgotten");
            }
            Command::Help => report.note(command::HELP),
            Command::Quit => {}
        }
        Ok(())
    }

    async fn change_model(&mut self, name: &str) -> Result<(), Ended> {
        let before = self.model.clone();
        let changed = match backend::portable(name, &self.context.settings) {
            Ok(model) => {
                self.model = model;
                self.warm().await
            }
            Err(failure) => Err(failure.into()),
        };
        match changed {
            Ok(_) => self.context.report.note(&format!("talking with {name} now")),
            Err(ended) => {
                self.model = before;
                match ended {
                    Ended::Failed(failure) => self.show(&failure),
                    Ended::Interrupted => self.context.report.note("the model stays as it was"),
                    other => return Err(other),
                }
            }
        }
        Ok(())
    }

    async fn figures(&self) -> Result<Figures, Failure> {
        let stats = self.backend.stats().await?;
        stats.as_ref().map(Figures::read).transpose().map(Option::unwrap_or_default)
    }

    /// One turn. When the conversation has outgrown the context, its oldest turns are left out, and said so.
    async fn say(&mut self, text: String, is_interactive: bool) -> Result<(), Ended> {
        self.conversation.ask(text);
        loop {
            let request = Request::chat(self.model.clone(), self.conversation.messages());
            let request = answer::apply(request, &self.arguments.generation);
            let shown = if self.context.report.is_json() { Shown::Nothing } else { Shown::Text };
            match answer::follow(self.context, &self.backend, request, shown).await {
                Ok(outcome) => return self.conclude(outcome, is_interactive),
                Err(Ended::Failed(failure))
                    if failure.kind == ErrorKind::ContextExceeded && self.conversation.forget_oldest() =>
                {
                    self.context.report.note(&format!(
                        "note: the conversation no longer fits the context; the first {} are left out",
                        counted(self.conversation.forgotten(), "message")
                    ));
                }
                Err(Ended::Failed(failure)) => {
                    self.conversation.take_back();
                    self.show(&failure);
                    return Ok(());
                }
                Err(ended) => return Err(ended),
            }
        }
    }

    fn conclude(&mut self, outcome: AnswerReport, is_interactive: bool) -> Result<(), Ended> {
        let report = &self.context.report;
        let thought = outcome.thought().map(str::to_owned);
        let Some(summary) = &outcome.summary else {
            // Ctrl-C: what was said so far was heard.
            self.conversation.answer(outcome.text, thought);
            return if is_interactive { Ok(()) } else { Err(Ended::Interrupted) };
        };
        if report.is_json() {
            report.json(&answer::as_json(&outcome, summary))?;
        }
        if self.arguments.generation.verbose {
            report.note(&answer::timing_line(&outcome, summary));
        }
        let is_context_full =
            summary.finish == FinishReason::Length && self.arguments.generation.max_tokens.is_none();
        answer::remark(self.context, &outcome, summary, &self.arguments.generation);
        if is_interactive {
            if thought.is_some() {
                report.note(&folded(summary.usage.thinking_tokens));
            }
            report.line("")?;
        }
        self.conversation.answer(outcome.text, thought);
        if is_context_full && self.conversation.forget_oldest() {
            report.note(&format!(
                "note: the first {} will be left out from now on, to make room",
                counted(self.conversation.forgotten(), "message")
            ));
        }
        Ok(())
    }

    fn show(&mut self, failure: &Failure) {
        self.failed = Some(failure.kind);
        self.context.report.failure(failure);
    }
}

/// What stands for a thought.
fn folded(tokens: u32) -> String {
    format!("thought for {} (/thoughts shows them)", counted(tokens, "token"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thought_is_one_line() {
        assert_eq!(folded(214), "thought for 214 tokens (/thoughts shows them)");
        assert_eq!(folded(1), "thought for 1 token (/thoughts shows them)");
    }
}
