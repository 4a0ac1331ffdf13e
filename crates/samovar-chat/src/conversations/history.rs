//! The list of conversations, one of them, and what becomes of it: another title, other settings, its end.

use rusqlite::{Connection, OptionalExtension as _};

use super::ChatHistory;
use super::row::{self, ConversationDetail, ConversationHead, HEAD, MESSAGE};
use crate::error::ChatError;

/// Conversations of one answer at most.
const LIST_MAX: u32 = 1_000;
/// Characters of a title that a client gives.
pub(super) const TITLE_CHARACTERS: usize = 200;

/// What may be changed of a conversation; `None` = it stays.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConversationChange {
    /// Its title; an empty one = the beginning of its first message again.
    pub title: Option<String>,
    /// How the model should behave; an empty text = as it likes.
    pub system: Option<String>,
    /// Whether its requests tell the model what the client asked to be remembered.
    pub uses_facts: Option<bool>,
    /// The message at the end of the branch that goes on.
    pub leaf: Option<i64>,
}

impl ChatHistory {
    /// The latest conversations, the one that changed last first: at most `limit`, of those before the conversation `before` in that
    /// order, if one is named.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn list(&self, limit: u32, before: Option<i64>) -> Result<Vec<ConversationHead>, ChatError> {
        self.read(|connection| {
            let mut select = connection.prepare_cached(&format!(
                "SELECT {HEAD} FROM conversation c WHERE c.owner = ?1
                 AND (?2 IS NULL OR (c.changed_ms, c.id) < (SELECT changed_ms, id FROM conversation WHERE id = ?2 AND owner = ?1))
                 ORDER BY c.changed_ms DESC, c.id DESC LIMIT ?3"
            ))?;
            let heads = select.query_map((self.owner(), before, limit.min(LIST_MAX)), row::head)?;
            Ok(heads.collect::<rusqlite::Result<_>>()?)
        })
    }

    /// The conversation in which something was said last.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn latest(&self) -> Result<Option<ConversationHead>, ChatError> {
        Ok(self.list(1, None)?.pop())
    }

    /// A conversation by its number, or else by its title.
    ///
    /// # Errors
    /// [`ChatError::NoConversation`]; [`ChatError::Ambiguous`] for a title that several have.
    pub fn named(&self, name: &str) -> Result<ConversationHead, ChatError> {
        let name = name.trim();
        self.read(|connection| {
            if let Ok(id) = name.parse::<i64>()
                && let Some(head) = self.head(connection, id)?
            {
                return Ok(head);
            }
            let mut select = connection.prepare_cached(&format!(
                "SELECT {HEAD} FROM conversation c WHERE c.owner = ?1 AND c.title = ?2 COLLATE NOCASE
                 ORDER BY c.changed_ms DESC LIMIT 6"
            ))?;
            let found = select.query_map((self.owner(), name), row::head)?;
            let mut found: Vec<ConversationHead> = found.collect::<rusqlite::Result<_>>()?;
            match found.len() {
                0 => Err(ChatError::NoConversation(name.to_owned())),
                1 => Ok(found.remove(0)),
                _ => {
                    let numbers = found.iter().map(|head| head.id.to_string()).collect::<Vec<_>>().join(", ");
                    Err(ChatError::Ambiguous { title: name.to_owned(), numbers })
                }
            }
        })
    }

    /// A conversation without its messages.
    ///
    /// # Errors
    /// [`ChatError::NoConversation`].
    pub fn head_of(&self, id: i64) -> Result<ConversationHead, ChatError> {
        let missing = || ChatError::NoConversation(id.to_string());
        self.read(|connection| self.head(connection, id)?.ok_or_else(missing))
    }

    fn head(&self, connection: &Connection, id: i64) -> Result<Option<ConversationHead>, ChatError> {
        let select = format!("SELECT {HEAD} FROM conversation c WHERE c.id = ?1 AND c.owner = ?2");
        let mut select = connection.prepare_cached(&select)?;
        Ok(select.query_row((id, self.owner()), row::head).optional()?)
    }

    /// A conversation with the messages of all its branches.
    ///
    /// # Errors
    /// [`ChatError::NoConversation`].
    pub fn open(&self, id: i64) -> Result<ConversationDetail, ChatError> {
        self.read(|connection| self.detail(connection, id))
    }

    pub(super) fn detail(&self, connection: &Connection, id: i64) -> Result<ConversationDetail, ChatError> {
        let missing = || ChatError::NoConversation(id.to_string());
        let head = self.head(connection, id)?.ok_or_else(missing)?;
        let mut select = connection
            .prepare_cached("SELECT system, uses_facts, leaf, window_from FROM conversation WHERE id = ?1")?;
        let (system, uses_facts, leaf, window_from) =
            select.query_row([id], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))?;
        let mut select = connection.prepare_cached(&format!(
            "SELECT {MESSAGE} FROM message m WHERE m.conversation = ?1 ORDER BY m.id"
        ))?;
        let messages = select.query_map([id], row::message)?.collect::<rusqlite::Result<_>>()?;
        let summaries = super::messages::summaries(connection, id)?;
        Ok(ConversationDetail { head, system, uses_facts, leaf, window_from, summaries, messages })
    }

    /// Changes what is named of a conversation.
    ///
    /// # Errors
    /// [`ChatError::NoConversation`], [`ChatError::NoMessage`] for a leaf that is no answer of it, [`ChatError::Invalid`] for a title that
    /// is too long.
    pub fn change(&self, id: i64, change: &ConversationChange) -> Result<ConversationHead, ChatError> {
        if change.title.as_ref().is_some_and(|title| title.chars().count() > TITLE_CHARACTERS) {
            let message = format!("a title has at most {TITLE_CHARACTERS} characters");
            return Err(ChatError::invalid("title", message));
        }
        self.write(|transaction| {
            let missing = || ChatError::NoConversation(id.to_string());
            self.head(transaction, id)?.ok_or_else(missing)?;
            if let Some(title) = &change.title {
                // Lists have a line for each.
                let title = title.split_whitespace().collect::<Vec<_>>().join(" ");
                let is_titled = !title.is_empty();
                let given = if is_titled { title } else { first_words(transaction, id)? };
                let set = "UPDATE conversation SET title = ?2, is_titled = ?3 WHERE id = ?1";
                transaction.execute(set, (id, given, is_titled))?;
            }
            if let Some(system) = &change.system {
                let system = Some(system.as_str()).filter(|text| !text.trim().is_empty());
                transaction.execute("UPDATE conversation SET system = ?2 WHERE id = ?1", (id, system))?;
            }
            if let Some(uses_facts) = change.uses_facts {
                transaction
                    .execute("UPDATE conversation SET uses_facts = ?2 WHERE id = ?1", (id, uses_facts))?;
            }
            if let Some(leaf) = change.leaf {
                super::messages::check_answer(transaction, id, leaf)?;
                transaction.execute("UPDATE conversation SET leaf = ?2 WHERE id = ?1", (id, leaf))?;
            }
            self.head(transaction, id)?.ok_or_else(missing)
        })
    }

    /// Deletes a conversation: its bytes are overwritten.
    ///
    /// # Errors
    /// [`ChatError::NoConversation`].
    pub fn forget(&self, id: i64) -> Result<(), ChatError> {
        self.delete(|transaction| {
            let missing = || ChatError::NoConversation(id.to_string());
            self.head(transaction, id)?.ok_or_else(missing)?;
            delete(transaction, id)
        })
    }

    /// Deletes all conversations of the client, and returns how many. What it asked to be remembered stays.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn forget_all(&self) -> Result<usize, ChatError> {
        self.delete(|transaction| {
            let mut select = transaction.prepare("SELECT id FROM conversation WHERE owner = ?1")?;
            let ids: Vec<i64> =
                select.query_map([self.owner()], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
            ids.iter().try_for_each(|id| delete(transaction, *id))?;
            Ok(ids.len())
        })
    }
}

/// Deletes a conversation with all that hangs on it.
pub(super) fn delete(connection: &Connection, id: i64) -> Result<(), ChatError> {
    for table in ["message", "summary"] {
        connection.execute(&format!("DELETE FROM {table} WHERE conversation = ?1"), [id])?;
    }
    connection.execute("DELETE FROM conversation WHERE id = ?1", [id])?;
    Ok(())
}

/// The title that a conversation has by itself.
fn first_words(connection: &Connection, id: i64) -> Result<String, ChatError> {
    let select = "SELECT text FROM message WHERE conversation = ?1 AND role = 'user' ORDER BY id LIMIT 1";
    let text: Option<String> = connection.query_row(select, [id], |row| row.get(0)).optional()?;
    Ok(title_of(text.as_deref().unwrap_or_default()))
}

/// The beginning of a message as a title: its first line that has words, cut at a word.
pub(super) fn title_of(text: &str) -> String {
    const CHARACTERS: usize = 60;
    let line = text.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or("(without words)");
    let line = line.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.chars().count() <= CHARACTERS {
        return line;
    }
    let cut: String = line.chars().take(CHARACTERS).collect();
    let whole = cut.rsplit_once(' ').map(|(words, _)| words).filter(|words| words.len() > cut.len() / 2);
    format!("{}…", whole.unwrap_or(&cut))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_title_is_the_first_line_cut_at_a_word() {
        assert_eq!(title_of("\n  What  is a samovar?\nTell me."), "What is a samovar?");
        assert_eq!(title_of(" \n"), "(without words)");
        let long = title_of(&"word ".repeat(30));
        assert!(long.ends_with("word…") && long.chars().count() <= 61, "{long}");
        assert_eq!(title_of(&"ä".repeat(80)).chars().count(), 61);
    }
}
