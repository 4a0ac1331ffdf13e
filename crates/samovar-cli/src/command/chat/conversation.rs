//! What was said so far. Grows by turns, shrinks from its oldest end.

use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::path::Path;

use samovar::Message;
use samovar_core::{ErrorKind, Failure};

use crate::home;

/// A file with more is no conversation.
const FILE_MAX_BYTES: u64 = 16 << 20;

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

    /// What the model said, and thought before. Its template decides whether it reads its thoughts again.
    pub(super) fn answer(&mut self, text: String, thought: Option<String>) {
        let mut message = Message::assistant(text);
        message.thinking = thought;
        self.turns.push(message);
    }

    /// What the model thought before its last answer.
    pub(super) fn last_thought(&self) -> Option<&str> {
        self.turns.iter().rfind(|turn| turn.role == "assistant")?.thinking.as_deref()
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
            not_saved(path, &error)
        })?;
        file.write_all(text.as_bytes()).map_err(|error| not_saved(path, &error))
    }

    /// A conversation that was saved as JSON.
    ///
    /// # Errors
    /// `NotFound` when there is no such file; `Storage` when it cannot be read; `InvalidRequest` for one that holds no
    /// conversation.
    pub(super) fn load(path: &Path) -> Result<Self, Failure> {
        let name = path.display();
        let file = fs_err::File::open(path).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => {
                Failure::new(ErrorKind::NotFound, format!("there is no file {name}"))
                    .with_hint("check the path")
            }
            _ => unreadable(path, &error),
        })?;
        let mut text = String::new();
        file.take(FILE_MAX_BYTES + 1).read_to_string(&mut text).map_err(|error| unreadable(path, &error))?;
        let messages: Option<Vec<Message>> =
            if text.len() as u64 > FILE_MAX_BYTES { None } else { serde_json::from_str(&text).ok() };
        messages.and_then(Self::of_messages).ok_or_else(|| {
            Failure::new(
                ErrorKind::InvalidRequest,
                format!("{name} holds no conversation that can be loaded"),
            )
            .with_hint("`/save story.json` writes one: Markdown is for people alone")
        })
    }

    /// A system message, if there is one, then user and assistant in turn. A question without its answer is left out.
    fn of_messages(messages: Vec<Message>) -> Option<Self> {
        let mut turns = messages;
        let has_system = turns.first().is_some_and(|first| first.role == "system");
        let system = has_system.then(|| turns.remove(0));
        if turns.len() % 2 == 1 {
            turns.pop().filter(|last| last.role == "user")?;
        }
        let roles = ["user", "assistant"].into_iter().cycle();
        let is_sound = turns.iter().zip(roles).all(|(turn, role)| turn.role == role);
        (is_sound && !turns.is_empty()).then_some(Self { system, turns, forgotten: 0 })
    }

    /// How many messages there are.
    pub(super) fn len(&self) -> usize {
        self.turns.len()
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

/// Why nothing was saved, and what to do about that folder or disk.
fn not_saved(path: &Path, error: &std::io::Error) -> Failure {
    use std::io::ErrorKind as Io;
    let folder = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let hint = match error.kind() {
        Io::NotFound => format!("there is no folder {}: make it, or save into another one", folder.display()),
        Io::PermissionDenied | Io::ReadOnlyFilesystem => "save into a folder of your own".to_owned(),
        Io::StorageFull | Io::QuotaExceeded => "free some disk space, or save elsewhere".to_owned(),
        _ => "save under another name".to_owned(),
    };
    let message = format!("could not save to {}: {}", path.display(), home::plain(error));
    Failure::new(ErrorKind::Storage, message).with_hint(hint)
}

fn unreadable(path: &Path, error: &std::io::Error) -> Failure {
    let message = format!("could not read {}: {}", path.display(), home::plain(error));
    Failure::new(ErrorKind::Storage, message).with_hint("check the path and its permissions")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conversation(turns: usize) -> Conversation {
        let mut conversation = Conversation::default();
        conversation.set_system(Some("be brief".into()));
        for turn in 0..turns {
            conversation.ask(format!("q{turn}"));
            conversation.answer(format!("a{turn}"), None);
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
    fn the_last_thought_is_that_of_the_last_answer() {
        let mut conversation = conversation(1);
        assert_eq!(conversation.last_thought(), None);
        conversation.ask("q1".into());
        conversation.answer("a1".into(), Some("hm".into()));
        conversation.ask("q2".into());
        assert_eq!(conversation.last_thought(), Some("hm"));
        conversation.answer("a2".into(), None);
        assert_eq!(conversation.last_thought(), None);
        // The template is given all of them.
        let thoughts: Vec<_> = conversation.messages().into_iter().filter_map(|turn| turn.thinking).collect();
        assert_eq!(thoughts, ["hm"]);
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
    fn what_was_saved_is_loaded_and_what_is_no_conversation_is_not() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let json = folder.path().join("c.json");
        conversation(2).save(&json).expect("saves");
        let loaded = Conversation::load(&json).expect("loads");
        assert_eq!(sent(&loaded), ["be brief", "q0", "a0", "q1", "a1"]);
        let kind = |text: &str| {
            let path = folder.path().join("x.json");
            fs_err::write(&path, text).expect("file");
            Conversation::load(&path).map(|_| ()).expect_err(text).kind
        };
        let odd = r#"[{"role":"assistant","content":"a"},{"role":"user","content":"b"}]"#;
        for text in ["", "**user:**", "[]", r#"[{"role":"system","content":"x"}]"#, odd] {
            assert_eq!(kind(text), ErrorKind::InvalidRequest, "{text}");
        }
        assert_eq!(
            Conversation::load(&folder.path().join("none")).expect_err("gone").kind,
            ErrorKind::NotFound
        );
        let failure = conversation(1).save(&folder.path().join("none/c.json")).expect_err("no folder");
        let hint = failure.hint.expect("a hint");
        assert!(hint.contains("there is no folder") && !hint.contains("SAMOVAR_HOME"), "{hint}");
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
