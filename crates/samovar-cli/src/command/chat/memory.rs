//! The commands of a chat about what is kept: nothing here asks a model.

use std::path::{Path, PathBuf};

use samovar_chat::{ConversationChange, ExportFormat};
use samovar_core::units::counted;
use samovar_core::{ErrorKind, Failure};

use super::command::Command;
use super::{Session, conversation, kept};
use crate::ended::Ended;

/// Conversations of a list at most.
const LISTED: u32 = 20;

impl Session<'_> {
    /// Obeys a command about what is kept.
    pub(super) fn remember(&mut self, command: Command) -> Result<(), Ended> {
        let report = &self.context.report;
        match command {
            Command::System(text) => self.set_system(text)?,
            Command::Save(path) => {
                let (system, detail) = (self.system_text()?, self.detail()?);
                conversation::save(&conversation::messages(system.as_deref(), detail.as_ref()), &path)?;
                report.note(&format!("saved to {}", path.display()));
            }
            Command::Export(path) => self.export(&path)?,
            Command::Load(name) => self.load(&name)?,
            Command::History => {
                let heads = self.history().list(LISTED, None).map_err(Failure::from)?;
                report.table(kept::table(&heads))?;
            }
            Command::Search(text) => {
                let hits = self.history().search(&text, LISTED).map_err(Failure::from)?;
                if hits.is_empty() {
                    report.note("no conversation has these words");
                } else {
                    report.table(kept::found(&hits))?;
                }
            }
            Command::Forget(name) => self.forget(name.as_deref())?,
            Command::Title(title) => self.title(title)?,
            Command::Remember(text) => {
                let number = self.history().remember(&text).map_err(Failure::from)?;
                report.note(&format!(
                    "remembered as fact {number}: the model is told it in every conversation; /facts forget {number} deletes it"
                ));
            }
            Command::Facts(words) => self.facts(words.as_deref().unwrap_or_default())?,
            Command::Thoughts => {
                let detail = self.detail()?;
                let last = detail.as_ref().and_then(|detail| detail.branch().pop()?.thinking.as_deref());
                report.note(last.unwrap_or("the last answer came without a thought"));
            }
            Command::Clear => {
                self.begin_another();
                self.context.report.note(if self.history().is_kept() {
                    "a new conversation; /history lists those before"
                } else {
                    "the conversation is forgotten"
                });
            }
            Command::Say(_)
            | Command::Pool
            | Command::Stats
            | Command::Model(_)
            | Command::Help
            | Command::Quit => {}
        }
        Ok(())
    }

    fn set_system(&mut self, text: Option<String>) -> Result<(), Failure> {
        let note =
            if text.is_some() { "the system message is set" } else { "there is no system message now" };
        let system = text.unwrap_or_default();
        if let Some(id) = self.conversation {
            let change = ConversationChange { system: Some(system), ..ConversationChange::default() };
            self.history().change(id, &change)?;
            self.system = None;
        } else {
            self.system = Some(system);
        }
        self.context.report.note(note);
        Ok(())
    }

    fn system_text(&self) -> Result<Option<String>, Failure> {
        let of_conversation = self.detail()?.and_then(|detail| detail.system);
        Ok(self.system.clone().or(of_conversation).filter(|text| !text.is_empty()))
    }

    fn export(&self, path: &Path) -> Result<(), Failure> {
        let id = self.conversation.ok_or_else(nothing_said)?;
        let is_markdown = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("md"));
        let format = if is_markdown { ExportFormat::Markdown } else { ExportFormat::Json };
        conversation::write_new(&self.history().export(id, format)?, path)?;
        self.context.report.note(&format!("exported to {}", path.display()));
        Ok(())
    }

    /// A conversation by its number or title, or one in a file. A word that looks like a file is one.
    fn load(&mut self, name: &str) -> Result<(), Failure> {
        let path = PathBuf::from(name);
        let looks_like_a_file = path.extension().is_some() || name.contains('/') || path.is_file();
        let found = if looks_like_a_file && name.parse::<i64>().is_err() {
            self.history().named(name).ok()
        } else {
            Some(self.history().named(name)?)
        };
        if let Some(head) = found {
            self.begin_another();
            (self.conversation, self.system) = (Some(head.id), None);
            self.context.report.note(&kept::described(&head));
            return Ok(());
        }
        let text = conversation::read(&path)?;
        let taken = self.history().import(&text).map_err(|error| match error.kind() {
            ErrorKind::InvalidRequest => conversation::no_conversation(&path),
            _ => error.into(),
        })?;
        let id = taken.last().copied().ok_or_else(nothing_said)?;
        let messages = self.history().open(id)?.branch().len();
        self.begin_another();
        (self.conversation, self.system) = (Some(id), None);
        self.context.report.note(&format!("loaded {} from {}", counted(messages, "message"), path.display()));
        Ok(())
    }

    fn forget(&mut self, name: Option<&str>) -> Result<(), Failure> {
        let id = match name {
            Some(name) => self.history().named(name)?.id,
            None => self.conversation.ok_or_else(nothing_said)?,
        };
        self.history().forget(id)?;
        if self.conversation == Some(id) {
            self.begin_another();
        }
        self.context.report.note(&format!("conversation {id} is deleted"));
        Ok(())
    }

    fn title(&self, title: Option<String>) -> Result<(), Failure> {
        let id = self.conversation.ok_or_else(nothing_said)?;
        let change = ConversationChange { title, ..ConversationChange::default() };
        let head = self.history().change(id, &change)?;
        self.context.report.note(&format!("the title is \"{}\"", head.title));
        Ok(())
    }

    fn facts(&mut self, words: &str) -> Result<(), Failure> {
        let report = &self.context.report;
        let (word, rest) = words.split_once(char::is_whitespace).unwrap_or((words, ""));
        match (word, rest.trim()) {
            ("", _) => {
                let facts = self.history().facts()?;
                if facts.is_empty() {
                    report.note("nothing is remembered; /remember TEXT remembers something");
                }
                for fact in facts {
                    report.note(&format!("{:>4}  {}", fact.id, fact.text));
                }
            }
            (switch @ ("on" | "off"), "") => {
                let id = self.conversation.ok_or_else(nothing_said)?;
                let change =
                    ConversationChange { uses_facts: Some(switch == "on"), ..ConversationChange::default() };
                self.history().change(id, &change)?;
                report.note(&format!("facts are {switch} in this conversation"));
                self.has_told_facts = false;
            }
            ("forget", number) => {
                let id = fact_number(number)?;
                self.history().forget_fact(id)?;
                report.note(&format!("fact {id} is deleted"));
            }
            (number, text) => {
                let id = fact_number(number)?;
                self.history().correct_fact(id, text)?;
                report.note(&format!("fact {id} is corrected"));
            }
        }
        Ok(())
    }
}

fn fact_number(text: &str) -> Result<i64, Failure> {
    text.parse().map_err(|_| {
        Failure::new(ErrorKind::InvalidRequest, "/facts needs the number of a fact")
            .with_hint("/facts lists them; /facts 2 TEXT corrects one, /facts forget 2 deletes it")
    })
}

fn nothing_said() -> Failure {
    Failure::new(ErrorKind::InvalidRequest, "nothing was said in this conversation yet")
        .with_hint("say something first")
}
