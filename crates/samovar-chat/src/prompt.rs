//! What a turn's request says, in an order that keeps prompts alike from turn to turn.
//!
//! ```text
//!   system text · facts · summary │ history from the window on │ (text found for the question) │ question
//!   └── changes when its owner or the window does ──┘ └ grows ┘ └──── new in each turn ────────────────┘
//! ```
//!
//! Text that is found for a question stands behind the history, never in the system text: there it would spoil what is computed of all
//! turns. Nothing is put in that [`MemoryUse`] does not name.

use samovar::Message;
use serde::Serialize;

use crate::conversations::{Fact, StoredMessage};

/// What stands before the facts of a client.
const FACTS: &str = "The user asked you to remember:";
/// What stands before a summary.
const SUMMARY: &str = "Summary of the earlier part of this conversation, which is left out:";

/// What a request says besides the messages of its window and the system text.
#[non_exhaustive]
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct MemoryUse {
    /// What the client asked to be remembered.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub facts: Vec<Fact>,
    /// The summary of messages that are left out. A model wrote it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub summary: Option<String>,
    /// Messages of the branch that are left out.
    pub left_out: usize,
}

impl MemoryUse {
    /// Whether it is the branch, the whole branch, and nothing but the branch.
    pub fn is_plain(&self) -> bool {
        self.facts.is_empty() && self.summary.is_none() && self.left_out == 0
    }
}

/// The system message, if there is anything to say in one.
pub(crate) fn system_text(system: Option<&str>, facts: &[Fact], summary: Option<&str>) -> Option<String> {
    let facts = (!facts.is_empty()).then(|| {
        facts.iter().fold(FACTS.to_owned(), |mut text, fact| {
            text.push_str("\n- ");
            text.push_str(&fact.text);
            text
        })
    });
    let summary = summary.map(|text| format!("{SUMMARY}\n{}", text.trim()));
    let parts: Vec<String> = system.map(str::to_owned).into_iter().chain(facts).chain(summary).collect();
    (!parts.is_empty()).then(|| parts.join("\n\n"))
}

/// The messages of a request.
pub(crate) fn messages(system: Option<String>, sent: &[StoredMessage], question: &str) -> Vec<Message> {
    let history = sent.iter().map(|stored| {
        let message = Message::new(stored.role.as_str(), stored.text.as_str());
        // The model's template decides whether it reads its thoughts again.
        match &stored.thinking {
            Some(thinking) => message.thinking(thinking.as_str()),
            None => message,
        }
    });
    system.map(Message::system).into_iter().chain(history).chain([Message::user(question)]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts_and_a_summary_are_marked_and_follow_the_system_text() {
        let fact: Fact =
            serde_json::from_value(serde_json::json!({ "id": 1, "text": "I like tea", "created_ms": 0 }))
                .expect("a fact");
        assert_eq!(system_text(None, &[], None), None);
        let text = system_text(Some("Be brief."), &[fact], Some("They met. ")).expect("a text");
        let expected = "Be brief.\n\nThe user asked you to remember:\n- I like tea\n\n\
             Summary of the earlier part of this conversation, which is left out:\nThey met.";
        assert_eq!(text, expected);
    }
}
