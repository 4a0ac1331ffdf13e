//! A conversation as a document: JSON, with all its branches, which can be read again, and Markdown, for people.

use std::collections::HashMap;
use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use super::history::title_of;
use super::messages::{MESSAGES_MAX, check_length, insert};
use super::{ChatHistory, ConversationDetail, StoredMessage, file};
use crate::error::ChatError;

/// What a document says that it is.
const FORMAT: &str = "samovar.conversation/1";

/// How a conversation is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExportFormat {
    /// With all branches; can be read again.
    Json,
    /// The branch that goes on, for people.
    Markdown,
}

impl ExportFormat {
    /// The format of this name.
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "json" => Some(Self::Json),
            "markdown" | "md" => Some(Self::Markdown),
            _ => None,
        }
    }
}

/// A conversation as it travels.
#[derive(Debug, Serialize, Deserialize)]
struct ConversationDocument {
    format: String,
    title: String,
    #[serde(default)]
    system: Option<String>,
    #[serde(default)]
    leaf: Option<i64>,
    messages: Vec<StoredMessage>,
}

/// A message as other programs write one, and `/save` of older versions did.
#[derive(Debug, Deserialize)]
struct PlainMessage {
    role: String,
    content: String,
    #[serde(default, rename = "reasoning_content")]
    thinking: Option<String>,
}

/// What can be read.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum ImportDocument {
    One(ConversationDocument),
    Several(Vec<ConversationDocument>),
    Plain(Vec<PlainMessage>),
}

impl ChatHistory {
    /// A conversation in this format.
    ///
    /// # Errors
    /// [`ChatError::NoConversation`].
    pub fn export(&self, id: i64, format: ExportFormat) -> Result<String, ChatError> {
        let detail = self.open(id)?;
        Ok(match format {
            ExportFormat::Json => as_json(detail),
            ExportFormat::Markdown => as_markdown(&detail),
        })
    }

    /// Takes in what [`ChatHistory::export`] wrote as JSON, several of it in an array, or an array of messages with `role` and
    /// `content`: each becomes a new conversation. Returns their numbers. All of it is taken, or nothing.
    ///
    /// # Errors
    /// [`ChatError::Invalid`] for anything else.
    pub fn import(&self, text: &str) -> Result<Vec<i64>, ChatError> {
        let wrong = |why: String| ChatError::invalid("messages", format!("it is no conversation: {why}"));
        let document: ImportDocument = serde_json::from_str(text).map_err(|_| {
            wrong(
                "it is neither an export as JSON nor an array of messages with `role` and `content`"
                    .to_owned(),
            )
        })?;
        let documents = match document {
            ImportDocument::One(one) => vec![one],
            ImportDocument::Several(several) => several,
            ImportDocument::Plain(messages) => vec![of_plain(messages).map_err(wrong)?],
        };
        if documents.is_empty() {
            return Err(wrong("there is none".to_owned()));
        }
        documents.iter().try_for_each(|document| check(document).map_err(wrong))?;
        self.write(|transaction| {
            let mut numbers = Vec::new();
            for document in &documents {
                let title = document.title.trim();
                let first = document.messages.first().map(|message| message.text.as_str());
                let title =
                    if title.is_empty() { title_of(first.unwrap_or_default()) } else { title_of(title) };
                let conversation = self.create(transaction, &title)?;
                let mut known: HashMap<i64, i64> = HashMap::new();
                for message in &document.messages {
                    check_length(&message.text)?;
                    message.thinking.as_deref().map_or(Ok(()), check_length)?;
                    // Its parent was read before: that was checked.
                    let parent = message.parent.and_then(|parent| known.get(&parent).copied());
                    let kept = StoredMessage { parent, ..message.clone() };
                    known.insert(message.id, insert(transaction, conversation, &kept)?);
                }
                let leaf = document.leaf.and_then(|leaf| known.get(&leaf).copied());
                let set = "UPDATE conversation SET system = ?2, leaf = coalesce(?3, leaf), changed_ms = ?4,
                    model = (SELECT model FROM message WHERE conversation = ?1 AND model IS NOT NULL ORDER BY id DESC LIMIT 1)
                    WHERE id = ?1";
                transaction.execute(set, (conversation, &document.system, leaf, file::now_ms()))?;
                numbers.push(conversation);
            }
            Ok(numbers)
        })
    }
}

fn as_json(detail: ConversationDetail) -> String {
    let document = ConversationDocument {
        format: FORMAT.to_owned(),
        title: detail.head.title,
        system: detail.system,
        leaf: detail.leaf,
        messages: detail.messages,
    };
    let text = serde_json::to_string_pretty(&document).expect("invariant: conversations serialize");
    format!("{text}\n")
}

fn as_markdown(detail: &ConversationDetail) -> String {
    let mut text = format!("# {}\n\n", detail.head.title);
    if let Some(system) = &detail.system {
        write!(text, "**system:**\n\n{}\n\n", system.trim())
            .expect("invariant: writing to a String succeeds");
    }
    for message in detail.branch() {
        write!(text, "**{}:**\n\n{}\n\n", message.role, message.text.trim())
            .expect("invariant: writing to a String succeeds");
    }
    text
}

/// Questions and answers in turn, after a system message, if there is one. A question without its answer is left out.
fn of_plain(mut messages: Vec<PlainMessage>) -> Result<ConversationDocument, String> {
    let has_system = messages.first().is_some_and(|first| first.role == "system");
    let system = has_system.then(|| messages.remove(0).content);
    if messages.len() % 2 == 1 && messages.last().is_some_and(|last| last.role == "user") {
        messages.pop();
    }
    let roles = ["user", "assistant"].into_iter().cycle();
    if messages.is_empty() || !messages.iter().zip(roles).all(|(message, role)| message.role == role) {
        return Err("its messages are not those of the user and the assistant in turn".to_owned());
    }
    let now_ms = file::now_ms();
    let stored = messages.into_iter().zip(1..).map(|(message, id)| StoredMessage {
        id,
        parent: (id > 1).then_some(id - 1),
        role: message.role,
        text: message.content,
        thinking: message.thinking,
        model: None,
        prompt_tokens: None,
        tokens: None,
        finish: None,
        created_ms: now_ms,
    });
    let messages = stored.collect();
    Ok(ConversationDocument { format: FORMAT.to_owned(), title: String::new(), system, leaf: None, messages })
}

/// Whether it is a tree of questions and answers.
fn check(document: &ConversationDocument) -> Result<(), String> {
    if document.format != FORMAT {
        return Err(format!("its format is not `{FORMAT}`"));
    }
    if document.messages.is_empty() {
        return Err("it has no messages".to_owned());
    }
    if i64::try_from(document.messages.len()).is_ok_and(|count| count > MESSAGES_MAX) {
        return Err(format!("it has more than {MESSAGES_MAX} messages"));
    }
    let mut roles: HashMap<i64, &str> = HashMap::new();
    for message in &document.messages {
        let parent_role = match message.parent {
            None => "assistant",
            Some(parent) => {
                roles.get(&parent).copied().ok_or("a message stands before the one that it follows")?
            }
        };
        let is_next =
            matches!((parent_role, message.role.as_str()), ("assistant", "user") | ("user", "assistant"));
        if !is_next {
            return Err("a message follows one of its own role, or has another role".to_owned());
        }
        if roles.insert(message.id, &message.role).is_some() {
            return Err("two messages have the same number".to_owned());
        }
    }
    Ok(())
}
