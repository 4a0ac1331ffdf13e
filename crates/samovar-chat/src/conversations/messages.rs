//! Messages: a question that begins a turn, its answer, and the branch that leads to them.

use rusqlite::{Connection, OptionalExtension as _};

use super::history::{delete, title_of};
use super::row::{self, ConversationSummary, MESSAGE, StoredMessage};
use super::{ChatHistory, Fact, MESSAGE_MAX_BYTES, facts, file};
use crate::error::ChatError;
use crate::turn::{AnswerRecord, ChatQuestion, ReplyTo};

/// Messages of one conversation at most, in all its branches.
pub(super) const MESSAGES_MAX: i64 = 100_000;
/// Characters of a question that is listed.
const QUESTION_CHARACTERS: u32 = 4_000;
/// Bytes of one conversation, from which on it takes no more: each of its requests has them in memory. The smallest room that a daemon
/// has for requests, of which one client may take half, is 64 MiB.
const CONVERSATION_MAX_BYTES: i64 = 24 << 20;

/// What is known when a question has been kept.
pub(crate) struct Started {
    pub(crate) conversation: i64,
    /// The question.
    pub(crate) question: i64,
    /// The end of the branch that went on before.
    pub(crate) leaf: Option<i64>,
    /// How the model should behave.
    pub(crate) system: Option<String>,
    /// The branch that the question follows, the oldest message first.
    pub(crate) history: Vec<StoredMessage>,
    /// The first message that is still sent; `None` = all.
    pub(crate) window_from: Option<i64>,
    pub(crate) summaries: Vec<ConversationSummary>,
    /// What the client asked to be remembered, if the conversation uses it.
    pub(crate) facts: Vec<Fact>,
}

/// Which answer of which question is to be kept.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kept {
    pub(crate) conversation: i64,
    pub(crate) question: i64,
    /// The end of the branch that went on before the question.
    pub(crate) leaf: Option<i64>,
}

impl ChatHistory {
    /// Keeps a question, in a new conversation where none is named.
    pub(crate) fn start(&self, asked: &ChatQuestion) -> Result<Started, ChatError> {
        if asked.text.trim().is_empty() {
            return Err(ChatError::invalid("message", "the message is empty"));
        }
        check_length(&asked.text)?;
        self.write(|transaction| {
            let conversation = match asked.conversation {
                Some(id) => self.owned(transaction, id)?,
                None => self.create(transaction, &title_of(&asked.text))?,
            };
            if let Some(system) = &asked.system {
                let system = Some(system.as_str()).filter(|text| !text.trim().is_empty());
                transaction
                    .execute("UPDATE conversation SET system = ?2 WHERE id = ?1", (conversation, system))?;
            }
            let mut select = transaction.prepare_cached(
                "SELECT system, uses_facts, leaf, window_from, messages FROM conversation WHERE id = ?1",
            )?;
            let (system, uses_facts, leaf, window_from, messages): (
                Option<String>,
                bool,
                Option<i64>,
                Option<i64>,
                i64,
            ) = select.query_row([conversation], |row| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?))
            })?;
            if messages >= MESSAGES_MAX {
                let message = format!("a conversation has at most {MESSAGES_MAX} messages: begin another");
                return Err(ChatError::invalid("conversation", message));
            }
            // Only the heads of rows are read for it.
            let select = "SELECT coalesce(sum(octet_length(text) + coalesce(octet_length(thinking), 0)), 0)
                FROM message WHERE conversation = ?1";
            let mut select = transaction.prepare_cached(select)?;
            let bytes: i64 = select.query_row([conversation], |row| row.get(0))?;
            if bytes >= CONVERSATION_MAX_BYTES {
                let message =
                    format!("a conversation has at most {CONVERSATION_MAX_BYTES} bytes: begin another");
                return Err(ChatError::invalid("conversation", message));
            }
            let parent = match asked.reply_to {
                ReplyTo::Latest => last_answer(transaction, conversation, leaf)?,
                ReplyTo::Nothing => None,
                ReplyTo::Message(id) => {
                    check_answer(transaction, conversation, id)?;
                    Some(id)
                }
            };
            let history = parent.map_or(Ok(Vec::new()), |leaf| branch(transaction, conversation, leaf))?;
            let question = StoredMessage {
                id: 0,
                parent,
                role: "user".to_owned(),
                text: asked.text.clone(),
                thinking: None,
                model: None,
                prompt_tokens: None,
                tokens: None,
                finish: None,
                created_ms: file::now_ms(),
            };
            let question = insert(transaction, conversation, &question)?;
            let facts = if uses_facts { facts::all(transaction, self.owner())? } else { Vec::new() };
            let summaries = summaries(transaction, conversation)?;
            Ok(Started { conversation, question, leaf, system, history, window_from, summaries, facts })
        })
    }

    /// Keeps the answer to a question, and returns its number.
    pub(crate) fn finish(&self, kept: Kept, answer: &AnswerRecord) -> Result<i64, ChatError> {
        let stored = StoredMessage {
            id: 0,
            parent: Some(kept.question),
            role: "assistant".to_owned(),
            text: cut(&answer.text).to_owned(),
            thinking: answer.thinking.as_deref().map(|text| cut(text).to_owned()),
            model: Some(answer.model.clone()),
            prompt_tokens: answer.prompt_tokens,
            tokens: answer.tokens,
            finish: Some(answer.finish.clone()),
            created_ms: file::now_ms(),
        };
        self.write(|transaction| {
            let conversation = self.owned(transaction, kept.conversation)?;
            let id = insert(transaction, conversation, &stored)?;
            let set = "UPDATE conversation SET model = ?2 WHERE id = ?1";
            transaction.execute(set, (conversation, &answer.asked))?;
            Ok(id)
        })
    }

    /// Deletes a question that could not be answered, and a conversation that has nothing else. A busy daemon refuses many: the file is not
    /// written again for that.
    pub(crate) fn take_back(&self, kept: Kept) -> Result<(), ChatError> {
        self.write(|transaction| {
            let conversation = self.owned(transaction, kept.conversation)?;
            let select = "SELECT parent FROM message WHERE id = ?1 AND conversation = ?2
                AND NOT EXISTS (SELECT 1 FROM message WHERE conversation = ?2 AND parent = ?1)";
            let mut select = transaction.prepare_cached(select)?;
            let found = select.query_row((kept.question, conversation), |row| row.get(0));
            let Some(parent): Option<Option<i64>> = found.optional()? else { return Ok(()) };
            transaction.execute("DELETE FROM message WHERE id = ?1", [kept.question])?;
            let set = "UPDATE conversation SET messages = messages - 1, leaf = CASE WHEN leaf = ?2
                THEN coalesce((SELECT id FROM message WHERE id = ?3 AND conversation = ?1), ?4) ELSE leaf END
                WHERE id = ?1";
            transaction.execute(set, (conversation, kept.question, kept.leaf, parent))?;
            let select = "SELECT messages FROM conversation WHERE id = ?1";
            let left: i64 = transaction.query_row(select, [conversation], |row| row.get(0))?;
            if left == 0 { delete(transaction, conversation) } else { Ok(()) }
        })
    }

    /// What the client asked last in all its conversations, the oldest first: at most so many questions, of which none is long.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn questions(&self, limit: u32) -> Result<Vec<String>, ChatError> {
        self.read(|connection| {
            let mut select = connection.prepare_cached(
                "SELECT m.text FROM message m CROSS JOIN conversation c ON c.id = m.conversation
                 WHERE c.owner = ?1 AND m.role = 'user' AND length(m.text) <= ?2 ORDER BY m.id DESC LIMIT ?3",
            )?;
            let texts = select.query_map((self.owner(), QUESTION_CHARACTERS, limit), |row| row.get(0))?;
            let mut texts: Vec<String> = texts.collect::<rusqlite::Result<_>>()?;
            texts.reverse();
            Ok(texts)
        })
    }

    /// Remembers from which message on requests send a conversation.
    pub(crate) fn set_window(&self, conversation: i64, from: i64) -> Result<(), ChatError> {
        self.write(|transaction| {
            let conversation = self.owned(transaction, conversation)?;
            transaction
                .execute("UPDATE conversation SET window_from = ?2 WHERE id = ?1", (conversation, from))?;
            Ok(())
        })
    }

    /// Keeps a summary of what lies before the window, or soon will.
    pub(crate) fn add_summary(
        &self,
        conversation: i64,
        through: i64,
        text: &str,
        model: &str,
    ) -> Result<(), ChatError> {
        self.write(|transaction| {
            let conversation = self.owned(transaction, conversation)?;
            let insert = "INSERT INTO summary (conversation, through, text, model, created_ms) VALUES (?1, ?2, ?3, ?4, ?5)";
            transaction.execute(insert, (conversation, through, text, model, file::now_ms()))?;
            Ok(())
        })
    }

    /// The number, if it is one of this client's conversations.
    pub(super) fn owned(&self, connection: &Connection, id: i64) -> Result<i64, ChatError> {
        let mut select =
            connection.prepare_cached("SELECT id FROM conversation WHERE id = ?1 AND owner = ?2")?;
        let found: Option<i64> = select.query_row((id, self.owner()), |row| row.get(0)).optional()?;
        found.ok_or_else(|| ChatError::NoConversation(id.to_string()))
    }

    pub(super) fn create(&self, connection: &Connection, title: &str) -> Result<i64, ChatError> {
        let now_ms = file::now_ms();
        let insert = "INSERT INTO conversation (owner, title, is_titled, created_ms, changed_ms) VALUES (?1, ?2, 0, ?3, ?3)";
        connection.execute(insert, (self.owner(), title, now_ms))?;
        Ok(connection.last_insert_rowid())
    }
}

/// Keeps a message at the end of its conversation's branch. Its own number counts for nothing.
pub(super) fn insert(
    connection: &Connection,
    conversation: i64,
    message: &StoredMessage,
) -> Result<i64, ChatError> {
    let mut insert = connection.prepare_cached(
        "INSERT INTO message (conversation, parent, role, text, thinking, model, prompt_tokens, tokens, finish, created_ms)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
    )?;
    insert.execute((
        conversation,
        message.parent,
        &message.role,
        &message.text,
        &message.thinking,
        &message.model,
        message.prompt_tokens,
        message.tokens,
        &message.finish,
        message.created_ms,
    ))?;
    // The words are kept by a trigger, whose row is not this one.
    let select = "SELECT max(id) FROM message WHERE conversation = ?1";
    let id: i64 = connection.prepare_cached(select)?.query_row([conversation], |row| row.get(0))?;
    let set = "UPDATE conversation SET leaf = ?2, messages = messages + 1, changed_ms = ?3 WHERE id = ?1";
    connection.execute(set, (conversation, id, message.created_ms))?;
    Ok(id)
}

/// The messages from the beginning to this one.
pub(super) fn branch(
    connection: &Connection,
    conversation: i64,
    leaf: i64,
) -> Result<Vec<StoredMessage>, ChatError> {
    let mut select = connection.prepare_cached(&format!(
        "WITH RECURSIVE branch (id) AS (
             SELECT id FROM message WHERE id = ?2 AND conversation = ?1
             UNION ALL
             SELECT m.parent FROM message m JOIN branch b ON m.id = b.id WHERE m.parent IS NOT NULL
         )
         SELECT {MESSAGE} FROM branch b JOIN message m ON m.id = b.id ORDER BY m.id"
    ))?;
    let messages = select.query_map((conversation, leaf), row::message)?;
    Ok(messages.collect::<rusqlite::Result<_>>()?)
}

/// The answer at the end of a branch, or the one before a question that has none.
fn last_answer(
    connection: &Connection,
    conversation: i64,
    leaf: Option<i64>,
) -> Result<Option<i64>, ChatError> {
    let Some(leaf) = leaf else { return Ok(None) };
    let select = "SELECT role, parent FROM message WHERE id = ?1 AND conversation = ?2";
    let mut select = connection.prepare_cached(select)?;
    let found = select.query_row((leaf, conversation), |row| Ok((row.get(0)?, row.get(1)?)));
    let found: Option<(String, Option<i64>)> = found.optional()?;
    Ok(found.and_then(|(role, parent)| if role == "assistant" { Some(leaf) } else { parent }))
}

/// Refuses a message that is no answer of this conversation.
pub(super) fn check_answer(connection: &Connection, conversation: i64, id: i64) -> Result<(), ChatError> {
    let select =
        "SELECT EXISTS (SELECT 1 FROM message WHERE id = ?1 AND conversation = ?2 AND role = 'assistant')";
    let is_one: bool = connection.query_row(select, (id, conversation), |row| row.get(0))?;
    if is_one { Ok(()) } else { Err(ChatError::NoMessage { conversation, message: id }) }
}

/// The summaries of a conversation, the newest last.
pub(super) fn summaries(
    connection: &Connection,
    conversation: i64,
) -> Result<Vec<ConversationSummary>, ChatError> {
    let select = "SELECT through, text, model, created_ms FROM summary WHERE conversation = ?1 ORDER BY id";
    let mut select = connection.prepare_cached(select)?;
    let summaries = select.query_map([conversation], |row| {
        Ok(ConversationSummary {
            through: row.get(0)?,
            text: row.get(1)?,
            model: row.get(2)?,
            created_ms: row.get(3)?,
        })
    })?;
    Ok(summaries.collect::<rusqlite::Result<_>>()?)
}

/// Refuses a text that is too long to be kept.
pub(super) fn check_length(text: &str) -> Result<(), ChatError> {
    if text.len() <= MESSAGE_MAX_BYTES {
        return Ok(());
    }
    let message = format!("the message has {} bytes, {MESSAGE_MAX_BYTES} is the limit", text.len());
    Err(ChatError::invalid("message", message))
}

/// As much of a text as is kept.
fn cut(text: &str) -> &str {
    let end = (0..=text.len().min(MESSAGE_MAX_BYTES)).rev().find(|at| text.is_char_boundary(*at));
    &text[..end.unwrap_or(0)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conversations::Conversations;

    #[test]
    fn a_conversation_that_fills_the_memory_takes_no_more() {
        let history = Conversations::in_memory().expect("memory").of("");
        let long = "x".repeat(MESSAGE_MAX_BYTES);
        let answer = AnswerRecord { text: long.clone(), thinking: Some(long), ..AnswerRecord::by("demo") };
        let mut question = ChatQuestion::new("more");
        let mut turns = 0;
        let refused = loop {
            let turn = match history.begin(&question) {
                Ok(turn) => turn,
                Err(error) => break error,
            };
            assert_eq!(turn.history_bytes(), 2 * turns * (4 + 2 * MESSAGE_MAX_BYTES));
            question.conversation = Some(turn.conversation());
            turn.keep(&answer).expect("keeps");
            turns += 1;
            assert!(turns < 20, "never full");
        };
        assert!(matches!(refused, ChatError::Invalid { param: "conversation", .. }), "{refused}");
        question.conversation = None;
        assert!(history.begin(&question).is_ok(), "another one begins");
    }
}
