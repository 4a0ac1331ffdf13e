//! Where conversations are kept, and what a person is shown of them.

use samovar_chat::{ConversationHead, Conversations, SearchHit};
use samovar_core::Failure;
use samovar_core::units::counted;

use crate::command::Context;
use crate::command::answer::roughly;
use crate::home;
use crate::report::{Align, Columns};

/// The conversations of this machine's owner, in their file.
///
/// # Errors
/// `Storage` or `Forbidden` when the state directory cannot be used; `Busy` when another process keeps the file for too long.
pub(crate) fn open(context: &Context) -> Result<Conversations, Failure> {
    let home = &context.settings.home;
    home::make_private_dir(&home.state_dir)?;
    let conversations = Conversations::open(&home.chats_file())?;
    if let Some(aside) = conversations.set_aside() {
        let aside = aside.display();
        context.report.note(&format!(
            "note: the file of conversations was damaged; it is set aside as {aside}, and a fresh one was begun"
        ));
    }
    Ok(conversations)
}

/// The same for a chat, which goes on without a file.
///
/// # Errors
/// When there is no memory.
pub(super) fn open_or_forget(context: &Context, is_private: bool) -> Result<Conversations, Failure> {
    if is_private {
        return Ok(Conversations::in_memory()?);
    }
    match open(context) {
        Ok(conversations) => Ok(conversations),
        Err(failure) => {
            context.report.note(&format!("note: this conversation is not kept: {failure}"));
            Ok(Conversations::in_memory()?)
        }
    }
}

/// A list of conversations.
pub(crate) fn table(heads: &[ConversationHead]) -> Columns {
    let names =
        [("ID", Align::Right), ("TITLE", Align::Left), ("MESSAGES", Align::Right), ("AGE", Align::Right)];
    let mut columns = Columns::new(&names);
    for head in heads {
        columns.row([head.id.to_string(), head.title.clone(), head.messages.to_string(), age(head)]);
    }
    columns
}

/// What a search found.
pub(crate) fn found(hits: &[SearchHit]) -> Columns {
    let mut columns = Columns::new(&[
        ("ID", Align::Right),
        ("TITLE", Align::Left),
        ("AGE", Align::Right),
        ("WORDS", Align::Left),
    ]);
    for hit in hits {
        let head = &hit.conversation;
        let words = hit.snippet.split_whitespace().collect::<Vec<_>>().join(" ");
        columns.row([head.id.to_string(), head.title.clone(), age(head), words]);
    }
    columns
}

/// A conversation in a few words.
pub(super) fn described(head: &ConversationHead) -> String {
    let messages = counted(head.messages, "message");
    format!("conversation {}, \"{}\", with {messages}", head.id, head.title)
}

fn age(head: &ConversationHead) -> String {
    let now_ms = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(i64::MAX));
    roughly(u64::try_from(now_ms - head.changed_ms).unwrap_or(0))
}
