//! `samovar chat`: a conversation, line by line, on a terminal or through a pipe.
//!
//! ```text
//!   lines (editor | pipe) ─► Command ─┬─ /pool /stats /model /system /history /load /forget /remember …
//!                                     └─ text ─► ChatTurn (kept) ─► answer ─► kept
//! ```
//!
//! Conversations are kept in a file of the state directory, or in memory where they cannot or should not be. The daemon only ever sees
//! the messages of one request.

mod command;
pub(super) mod conversation;
pub(super) mod kept;
mod lines;
mod memory;

use std::sync::Arc;

use samovar::Request;
use samovar_chat::{
    AnswerRecord, ChatBackend, ChatHistory, ChatQuestion, ChatService, ChatTurn, ConversationDetail,
    Conversations, ExportFormat,
};
use samovar_core::units::counted;
use samovar_core::{ErrorKind, Failure};

use super::answer::{self, AnswerReport, Shown};
use super::backend::{self, Backend};
use super::{Context, ps, stats};
use crate::args::{Chat, KeptChat};
use crate::client::{DaemonBackend, Figures};
use crate::ended::Ended;
use command::Command;
use lines::{HISTORY_LINES, InputLine, Lines};

pub(super) async fn execute(context: &Context, arguments: Chat) -> Result<(), Ended> {
    let kept = arguments.kept.clone();
    let conversations = if kept.goes_on || kept.conversation.is_some() {
        kept::open(context)?
    } else {
        kept::open_or_forget(context, kept.private)?
    };
    let history = conversations.of("");
    let found = match &kept {
        KeptChat { conversation: Some(name), .. } => Some(history.named(name).map_err(Failure::from)?),
        KeptChat { goes_on: true, .. } => {
            Some(history.latest().map_err(Failure::from)?.ok_or_else(nothing_yet)?)
        }
        KeptChat { .. } => None,
    };
    let before = found.as_ref().and_then(|head| head.model.clone());
    let name = arguments.model.clone().or(before).unwrap_or_else(|| context.settings.default_model.clone());
    let backend = if arguments.generation.no_daemon {
        Backend::here(context.settings.runtime.clone())?
    } else {
        Backend::daemon(context)
    };
    let answering: Arc<dyn ChatBackend> = match &backend {
        Backend::Here(runtime) => Arc::new(runtime.clone()),
        Backend::Daemon(context) => Arc::new(DaemonBackend::new(context.settings.socket.clone())),
    };
    let mut chat = Session {
        context,
        model: backend::portable(&name, &context.settings)?,
        service: ChatService::over(answering, history),
        conversation: found.as_ref().map(|head| head.id),
        system: arguments.generation.system.clone(),
        arguments,
        failed: None,
        backend,
        left_out: 0,
        has_told_facts: false,
    };
    if let Some(head) = &found {
        context.report.note(&kept::described(head));
    }
    let ended = chat.talk(&name).await;
    chat.backend.end().await;
    ended
}

fn nothing_yet() -> Failure {
    Failure::new(ErrorKind::NotFound, "there is no conversation to go on with")
        .with_hint("`samovar chat` begins one")
}

struct Session<'a> {
    context: &'a Context,
    arguments: Chat,
    backend: Backend<'a>,
    service: ChatService,
    model: String,
    /// The conversation, once something was said in it.
    conversation: Option<i64>,
    /// How the model should behave, if that is to be said with the next question.
    system: Option<String>,
    /// The last failure, for the exit code of a piped conversation.
    failed: Option<ErrorKind>,
    /// Messages of which was said that they are left out.
    left_out: usize,
    /// Whether it was said that facts are told to the model.
    has_told_facts: bool,
}

impl Session<'_> {
    fn history(&self) -> &ChatHistory {
        self.service.history()
    }

    async fn talk(&mut self, name: &str) -> Result<(), Ended> {
        // A wrong name is told before the user types, and the first answer need not wait.
        self.warm().await?;
        let asked = self.history().questions(HISTORY_LINES).unwrap_or_default();
        let mut lines = Lines::open(self.context, &asked)?;
        if lines.is_interactive() {
            let kept = if self.history().is_kept() {
                "this chat is kept, /forget deletes it"
            } else {
                "nothing is kept"
            };
            self.context.report.note(&format!("{name} · {kept} · /help lists the commands, Ctrl-D leaves"));
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
            Command::Help => report.note(command::HELP),
            Command::Quit => {}
            other => match self.remember(other) {
                Err(Ended::Failed(failure)) => self.show(&failure),
                done => return done,
            },
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
        let question = ChatQuestion {
            conversation: self.conversation,
            system: self.system.clone(),
            model: Some(self.model.clone()),
            max_tokens: self.arguments.generation.max_tokens,
            ..ChatQuestion::new(text)
        };
        let mut turn = match self.begin(&question).await {
            Ok(turn) => turn,
            Err(failure) => {
                self.show(&failure);
                return Ok(());
            }
        };
        loop {
            self.tell_memory(&turn);
            let request = Request::chat(self.model.clone(), turn.messages());
            let request = answer::apply(request, &self.arguments.generation);
            let shown = if self.context.report.is_json() { Shown::Nothing } else { Shown::Text };
            match answer::follow(self.context, &self.backend, request, shown).await {
                Ok(outcome) => return self.conclude(turn, &outcome, is_interactive),
                Err(Ended::Failed(failure)) => {
                    let is_too_long = failure.kind == ErrorKind::ContextExceeded;
                    if is_too_long && turn.narrow().map_err(Failure::from)? {
                        continue;
                    }
                    turn.take_back().map_err(Failure::from)?;
                    self.show(&failure);
                    return Ok(());
                }
                Err(ended) => {
                    turn.take_back().map_err(Failure::from)?;
                    return Err(ended);
                }
            }
        }
    }

    /// Keeps a question. A chat whose file can no longer be written goes on in memory.
    async fn begin(&mut self, question: &ChatQuestion) -> Result<ChatTurn, Failure> {
        match self.service.begin(question).await {
            Err(failure) if failure.kind == ErrorKind::Storage && self.history().is_kept() => {
                self.context.report.note(&format!("note: this conversation is not kept any more: {failure}"));
                let memory = Conversations::in_memory()?.of("");
                let before = self.conversation.and_then(|id| {
                    let text = self.history().export(id, ExportFormat::Json).ok()?;
                    memory.import(&text).ok()?.pop()
                });
                self.conversation = before;
                self.service = self.service.clone().with_history(memory);
                let question = ChatQuestion { conversation: before, ..question.clone() };
                self.service.begin(&question).await
            }
            begun => begun,
        }
    }

    /// Says what the request leaves out, and what it says besides the conversation.
    fn tell_memory(&mut self, turn: &ChatTurn) {
        let memory = turn.memory();
        let report = &self.context.report;
        if memory.left_out > self.left_out {
            let instead = if memory.summary.is_some() { "; a summary stands for them" } else { "" };
            report.note(&format!(
                "note: the conversation no longer fits the context; the first {} are left out{instead}",
                counted(memory.left_out, "message")
            ));
        }
        self.left_out = memory.left_out;
        if !memory.facts.is_empty() && !self.has_told_facts {
            report.note(&format!(
                "note: the model is told {} that you asked to be remembered (/facts)",
                counted(memory.facts.len(), "fact")
            ));
            self.has_told_facts = true;
        }
    }

    fn conclude(
        &mut self,
        turn: ChatTurn,
        outcome: &AnswerReport,
        is_interactive: bool,
    ) -> Result<(), Ended> {
        let report = &self.context.report;
        let thought = outcome.thought().map(str::to_owned);
        let mut record = AnswerRecord::by(self.model.as_str());
        record.model.clone_from(&outcome.model);
        record.text.clone_from(&outcome.text);
        record.thinking.clone_from(&thought);
        if let Some(summary) = &outcome.summary {
            record.end(summary);
        }
        let conversation = turn.conversation();
        let is_stopped_at_once = outcome.summary.is_none() && record.is_empty();
        if is_stopped_at_once {
            // Ctrl-C before the first word: nothing was said.
            turn.take_back().map_err(Failure::from)?;
        } else {
            self.conversation = Some(conversation);
            self.system = None;
            if let Err(error) = turn.keep(&record) {
                self.show(&error.into());
            }
        }
        let Some(summary) = &outcome.summary else {
            return if is_interactive { Ok(()) } else { Err(Ended::Interrupted) };
        };
        if report.is_json() {
            report.json(&answer::as_json(outcome, summary))?;
        }
        if self.arguments.generation.verbose {
            report.note(&answer::timing_line(outcome, summary));
        }
        answer::remark(self.context, outcome, summary, &self.arguments.generation);
        if is_interactive {
            if thought.is_some() {
                report.note(&folded(summary.usage.thinking_tokens));
            }
            report.line("")?;
        }
        Ok(())
    }

    /// What was said in this conversation, if anything was.
    fn detail(&self) -> Result<Option<ConversationDetail>, Failure> {
        Ok(self.conversation.map(|id| self.history().open(id)).transpose()?)
    }

    /// Begins a conversation with nothing in it.
    fn begin_another(&mut self) {
        self.conversation = None;
        self.system = self.arguments.generation.system.clone();
        self.left_out = 0;
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
