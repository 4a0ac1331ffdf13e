//! What is read of conversations: values without a way back into the file.

use rusqlite::Row;
use serde::{Deserialize, Serialize};

/// A conversation without its messages.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ConversationHead {
    /// Its number, which is never given to another.
    pub id: i64,
    /// Its title: the beginning of its first message, unless its owner gave it another.
    pub title: String,
    /// The model of its latest answer.
    pub model: Option<String>,
    /// Messages in all branches.
    pub messages: i64,
    /// When it began, in milliseconds since 1970.
    pub created_ms: i64,
    /// When something was said last, in milliseconds since 1970.
    pub changed_ms: i64,
}

/// The columns of a head, of the table `conversation` under the name `c`.
pub(super) const HEAD: &str = "c.id, c.title, c.model, c.messages, c.created_ms, c.changed_ms";

pub(super) fn head(row: &Row<'_>) -> rusqlite::Result<ConversationHead> {
    Ok(ConversationHead {
        id: row.get(0)?,
        title: row.get(1)?,
        model: row.get(2)?,
        messages: row.get(3)?,
        created_ms: row.get(4)?,
        changed_ms: row.get(5)?,
    })
}

/// A message of a conversation.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredMessage {
    /// Its number, which is higher than that of its parent.
    pub id: i64,
    /// The message that it follows; `None` = it begins the conversation.
    pub parent: Option<i64>,
    /// `user` or `assistant`.
    pub role: String,
    /// What was said.
    pub text: String,
    /// What the model thought before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thinking: Option<String>,
    /// The model that said it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Tokens of the prompt that it answers, as the model counted them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt_tokens: Option<u32>,
    /// Tokens of the answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens: Option<u32>,
    /// How the answer ended: `stop`, `length`, `timed_out`, `tool_calls`, `cancelled`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finish: Option<String>,
    /// When it was said, in milliseconds since 1970.
    pub created_ms: i64,
}

impl StoredMessage {
    /// Whether it is the user's.
    pub fn is_question(&self) -> bool {
        self.role == "user"
    }
}

/// The columns of a message, of the table `message` under the name `m`.
pub(super) const MESSAGE: &str =
    "m.id, m.parent, m.role, m.text, m.thinking, m.model, m.prompt_tokens, m.tokens, m.finish, m.created_ms";

pub(super) fn message(row: &Row<'_>) -> rusqlite::Result<StoredMessage> {
    Ok(StoredMessage {
        id: row.get(0)?,
        parent: row.get(1)?,
        role: row.get(2)?,
        text: row.get(3)?,
        thinking: row.get(4)?,
        model: row.get(5)?,
        prompt_tokens: row.get(6)?,
        tokens: row.get(7)?,
        finish: row.get(8)?,
        created_ms: row.get(9)?,
    })
}

/// What stands for the messages of a conversation that requests leave out. A model wrote it, and may be wrong.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConversationSummary {
    /// The last message that it covers.
    pub through: i64,
    /// The text.
    pub text: String,
    /// The model that wrote it.
    pub model: String,
    /// When, in milliseconds since 1970.
    pub created_ms: i64,
}

/// A conversation with its messages.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ConversationDetail {
    /// What is known of it.
    #[serde(flatten)]
    pub head: ConversationHead,
    /// How the model should behave.
    pub system: Option<String>,
    /// Whether its requests tell the model the facts that the client asked to be remembered.
    pub uses_facts: bool,
    /// The message at the end of the branch that goes on.
    pub leaf: Option<i64>,
    /// The first message that its next request sends; `None` = all of them.
    pub window_from: Option<i64>,
    /// Summaries of what the window leaves out, the newest last.
    pub summaries: Vec<ConversationSummary>,
    /// The messages of all branches, the oldest first.
    #[serde(rename = "nodes")]
    pub messages: Vec<StoredMessage>,
}

impl ConversationDetail {
    /// The messages from the beginning to the end of the branch that goes on.
    pub fn branch(&self) -> Vec<&StoredMessage> {
        let mut wanted = self.leaf;
        // A parent is always older than its message.
        let mut branch: Vec<&StoredMessage> = Vec::new();
        for message in self.messages.iter().rev() {
            if Some(message.id) == wanted {
                wanted = message.parent;
                branch.push(message);
            }
        }
        branch.reverse();
        branch
    }
}

/// A message in which the words of a search are.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SearchHit {
    /// Its conversation.
    #[serde(flatten)]
    pub conversation: ConversationHead,
    /// The message; `None` = the words are in the title.
    pub message: Option<i64>,
    /// The text around the words, each of them between [`SNIPPET_BEGIN`](crate::SNIPPET_BEGIN) and
    /// [`SNIPPET_END`](crate::SNIPPET_END).
    pub snippet: String,
}
