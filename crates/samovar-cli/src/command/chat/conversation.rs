//! A conversation in a file of the user's: written by `/save` and `/export`, read by `/load`. What is kept between chats lies elsewhere.

use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::path::Path;

use samovar::Message;
use samovar_chat::ConversationDetail;
use samovar_core::units::ByteSize;
use samovar_core::{ErrorKind, Failure};

use crate::home;

/// Bytes of a file that is read at most: all of it has to fit into memory, about three times.
const FILE_MAX_BYTES: u64 = 256_000_000;

/// The system message, then user and assistant in turn.
pub(super) fn messages(system: Option<&str>, detail: Option<&ConversationDetail>) -> Vec<Message> {
    let branch = detail.map(ConversationDetail::branch).unwrap_or_default();
    let said = branch.into_iter().map(|stored| {
        let mut message = Message::new(stored.role.as_str(), stored.text.as_str());
        message.thinking.clone_from(&stored.thinking);
        message
    });
    system.map(Message::system).into_iter().chain(said).collect()
}

/// Writes everything that was said, also what is no longer sent, to a new file.
///
/// # Errors
/// `InvalidRequest` when there is such a file already; `Storage` when it cannot be written.
pub(super) fn save(messages: &[Message], path: &Path) -> Result<(), Failure> {
    let is_json = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("json"));
    write_new(&if is_json { as_json(messages) } else { as_markdown(messages) }, path)
}

/// Writes a text to a new file.
///
/// # Errors
/// As [`save`].
pub(super) fn write_new(text: &str, path: &Path) -> Result<(), Failure> {
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

/// The text of a file that may hold a conversation.
///
/// # Errors
/// `NotFound` when there is no such file; `Storage` when it cannot be read; `InvalidRequest` for one that is too large or no
/// text.
pub(crate) fn read(path: &Path) -> Result<String, Failure> {
    read_at_most(path, FILE_MAX_BYTES)
}

fn read_at_most(path: &Path, most_bytes: u64) -> Result<String, Failure> {
    let name = path.display();
    let file = fs_err::File::open(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => Failure::new(ErrorKind::NotFound, format!("there is no file {name}"))
            .with_hint("check the path; `/history` lists the conversations"),
        _ => unreadable(path, &error),
    })?;
    let mut bytes = Vec::new();
    file.take(most_bytes + 1).read_to_end(&mut bytes).map_err(|error| unreadable(path, &error))?;
    if bytes.len() as u64 <= most_bytes {
        return String::from_utf8(bytes).map_err(|_| no_conversation(path));
    }
    let message = format!("{name} has more than {}", ByteSize::from_bytes(most_bytes));
    Err(Failure::new(ErrorKind::InvalidRequest, message)
        .with_hint("export fewer conversations into a file: `samovar history 12 --export json > 12.json`"))
}

/// What is said of a file that holds something else.
pub(crate) fn no_conversation(path: &Path) -> Failure {
    let message = format!("{} holds no conversation that can be loaded", path.display());
    Failure::new(ErrorKind::InvalidRequest, message)
        .with_hint("`/save story.json` writes one: Markdown is for people alone")
}

fn as_json(messages: &[Message]) -> String {
    let text = serde_json::to_string_pretty(messages).expect("invariant: messages serialize");
    format!("{text}\n")
}

fn as_markdown(messages: &[Message]) -> String {
    messages.iter().fold(String::new(), |mut text, message| {
        write!(text, "**{}:**\n\n{}\n\n", message.role, message.content.trim())
            .expect("invariant: writing to a String succeeds");
        text
    })
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
    use samovar_chat::{AnswerRecord, ChatQuestion, Conversations};

    use super::*;

    #[test]
    fn what_was_saved_is_loaded_and_what_is_no_conversation_is_not() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let history = Conversations::in_memory().expect("memory").of("");
        let turn = history.begin(&ChatQuestion::new("q0")).expect("begins");
        let conversation = turn.conversation();
        let answer =
            AnswerRecord { text: "a0".into(), thinking: Some("hm".into()), ..AnswerRecord::by("demo") };
        turn.keep(&answer).expect("keeps");
        let detail = history.open(conversation).expect("opens");
        let said = messages(Some("be brief"), Some(&detail));
        let path = folder.path().join("c.json");
        save(&said, &path).expect("saves");
        let loaded = history.import(&read(&path).expect("reads")).expect("imports");
        let again = history.open(loaded[0]).expect("opens");
        assert_eq!(messages(again.system.as_deref(), Some(&again)), said);
        assert_eq!(save(&said, &path).expect_err("is there").kind, ErrorKind::InvalidRequest);
        assert_eq!(read(&folder.path().join("none")).expect_err("is absent").kind, ErrorKind::NotFound);
        fs_err::write(folder.path().join("bytes"), [0xff, 0xfe]).expect("writes");
        let failure = read(&folder.path().join("bytes")).expect_err("is no text");
        assert!(failure.message.contains("holds no conversation"), "{failure}");
        let failure = read_at_most(&path, 3).expect_err("is larger");
        assert!(
            failure.kind == ErrorKind::InvalidRequest && failure.message.contains("more than 3"),
            "{failure}"
        );
        let markdown = folder.path().join("c.md");
        save(&said, &markdown).expect("saves");
        assert!(history.import(&read(&markdown).expect("reads")).is_err());
    }
}
