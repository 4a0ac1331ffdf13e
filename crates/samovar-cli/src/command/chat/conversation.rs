//! What was said so far. Grows by turns, shrinks from its oldest end.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;

use samovar::Message;
use samovar_core::{ErrorKind, Failure};

use crate::home;

/// What was said so far.
#[derive(Clone, Debug, Default)]
pub(super) struct Conversation {
    system: Option<Message>,
    /// User and assistant in turn.
    turns: Vec<Message>,
    /// How many of the oldest turns are no longer sent.
    forgotten: usize,
}

impl Conversation {
    pub(super) fn set_system(&mut self, text: Option<String>) {
        self.system = text.map(Message::system);
    }

    /// What the next request sends.
    pub(super) fn messages(&self) -> Vec<Message> {
        self.system.iter().chain(&self.turns[self.forgotten..]).cloned().collect()
    }

    pub(super) fn ask(&mut self, text: String) {
        self.turns.push(Message::user(text));
    }

    pub(super) fn answer(&mut self, text: String) {
        self.turns.push(Message::assistant(text));
    }

    /// Unsays the last question, which could not be answered.
    pub(super) fn take_back(&mut self) {
        if self.turns.last().is_some_and(|turn| turn.role == "user") {
            self.turns.pop();
        }
        self.forgotten = self.forgotten.min(self.turns.len());
    }

    /// Leaves the oldest question and its answer out from now on; false when nothing but the last turn is left.
    pub(super) fn forget_oldest(&mut self) -> bool {
        let can = self.turns.len() - self.forgotten > 2;
        if can {
            self.forgotten += 2;
        }
        can
    }

    /// How many turns are no longer sent.
    pub(super) fn forgotten(&self) -> usize {
        self.forgotten
    }

    pub(super) fn clear(&mut self) {
        self.turns.clear();
        self.forgotten = 0;
    }

    /// Writes everything that was said, also what is no longer sent, to a new file.
    ///
    /// # Errors
    /// `InvalidRequest` when there is such a file already; `Storage` when it cannot be written.
    pub(super) fn save(&self, path: &Path) -> Result<(), Failure> {
        let is_json = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("json"));
        let text = if is_json { self.as_json() } else { self.as_markdown() };
        let mut file = std::fs::File::options().write(true).create_new(true).open(path).map_err(|error| {
            if error.kind() == std::io::ErrorKind::AlreadyExists {
                return Failure::new(
                    ErrorKind::InvalidRequest,
                    format!("there is already a file {}", path.display()),
                )
                .with_hint("choose another name; nothing was overwritten");
            }
            home::storage("create", path, &error)
        })?;
        file.write_all(text.as_bytes()).map_err(|error| home::storage("write", path, &error))
    }

    fn all(&self) -> impl Iterator<Item = &Message> {
        self.system.iter().chain(&self.turns)
    }

    fn as_json(&self) -> String {
        let messages: Vec<&Message> = self.all().collect();
        let text = serde_json::to_string_pretty(&messages).expect("invariant: messages serialize");
        format!("{text}\n")
    }

    fn as_markdown(&self) -> String {
        self.all().fold(String::new(), |mut text, message| {
            write!(text, "**{}:**\n\n{}\n\n", message.role, message.content.trim())
                .expect("invariant: writing to a String succeeds");
            text
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conversation(turns: usize) -> Conversation {
        let mut conversation = Conversation::default();
        conversation.set_system(Some("be brief".into()));
        for turn in 0..turns {
            conversation.ask(format!("q{turn}"));
            conversation.answer(format!("a{turn}"));
        }
        conversation
    }

    fn sent(conversation: &Conversation) -> Vec<String> {
        conversation.messages().into_iter().map(|message| message.content).collect()
    }

    #[test]
    fn the_oldest_turns_are_forgotten_first_and_the_system_message_never() {
        let mut conversation = conversation(2);
        conversation.ask("q2".into());
        assert!(conversation.forget_oldest());
        assert_eq!(sent(&conversation), ["be brief", "q1", "a1", "q2"]);
        assert!(conversation.forget_oldest());
        assert!(!conversation.forget_oldest());
        assert_eq!(sent(&conversation), ["be brief", "q2"]);
    }

    #[test]
    fn an_unanswered_question_is_taken_back() {
        let mut conversation = conversation(1);
        conversation.ask("too much".into());
        conversation.take_back();
        assert_eq!(sent(&conversation), ["be brief", "q0", "a0"]);
        conversation.take_back();
        assert_eq!(sent(&conversation), ["be brief", "q0", "a0"]);
    }

    #[test]
    fn a_saved_conversation_is_whole_and_overwrites_nothing() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let mut conversation = conversation(2);
        conversation.forget_oldest();
        let json = folder.path().join("c.json");
        conversation.save(&json).expect("saves");
        let read: Vec<Message> =
            serde_json::from_str(&fs_err::read_to_string(&json).expect("file")).expect("JSON");
        assert_eq!(read.len(), 5);
        assert_eq!(conversation.save(&json).expect_err("exists").kind, ErrorKind::InvalidRequest);
        let markdown = folder.path().join("c.md");
        conversation.save(&markdown).expect("saves");
        assert!(
            fs_err::read_to_string(markdown)
                .expect("file")
                .starts_with("**system:**\n\nbe brief\n\n**user:**")
        );
    }
}
