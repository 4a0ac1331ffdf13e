//! Facts: what a client asked to be remembered, word for word. Nothing is added by itself.

use rusqlite::Connection;
use serde::{Deserialize, Serialize};

use super::{ChatHistory, file};
use crate::error::ChatError;

/// Facts of one client at most.
const FACTS_MAX: usize = 200;
/// Characters of one fact at most.
const FACT_CHARACTERS: usize = 1_000;

/// Something that a client asked to be remembered.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fact {
    /// Its number.
    pub id: i64,
    /// The text.
    pub text: String,
    /// When, in milliseconds since 1970.
    pub created_ms: i64,
}

impl ChatHistory {
    /// Remembers a text, and returns its number.
    ///
    /// # Errors
    /// [`ChatError::Invalid`] for an empty text, a long one, and one too many.
    pub fn remember(&self, text: &str) -> Result<i64, ChatError> {
        let text = checked(text)?;
        self.write(|transaction| {
            if all(transaction, self.owner())?.len() >= FACTS_MAX {
                let message = format!(
                    "at most {FACTS_MAX} facts are remembered: delete one first (/facts forget NUMBER)"
                );
                return Err(ChatError::invalid("fact", message));
            }
            let insert = "INSERT INTO fact (owner, text, created_ms) VALUES (?1, ?2, ?3)";
            transaction.execute(insert, (self.owner(), text, file::now_ms()))?;
            Ok(transaction.last_insert_rowid())
        })
    }

    /// What is remembered, the oldest first.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn facts(&self) -> Result<Vec<Fact>, ChatError> {
        self.read(|connection| all(connection, self.owner()))
    }

    /// Remembers another text in the place of one.
    ///
    /// # Errors
    /// [`ChatError::NoFact`]; as [`ChatHistory::remember`].
    pub fn correct_fact(&self, id: i64, text: &str) -> Result<(), ChatError> {
        let text = checked(text)?;
        self.delete(|transaction| {
            let set = "UPDATE fact SET text = ?3 WHERE id = ?1 AND owner = ?2";
            changed(id, transaction.execute(set, (id, self.owner(), text))?)
        })
    }

    /// Forgets a fact: its bytes are overwritten.
    ///
    /// # Errors
    /// [`ChatError::NoFact`].
    pub fn forget_fact(&self, id: i64) -> Result<(), ChatError> {
        self.delete(|transaction| {
            let delete = "DELETE FROM fact WHERE id = ?1 AND owner = ?2";
            changed(id, transaction.execute(delete, (id, self.owner()))?)
        })
    }
}

/// What a client asked to be remembered, the oldest first.
pub(super) fn all(connection: &Connection, owner: &str) -> Result<Vec<Fact>, ChatError> {
    let mut select =
        connection.prepare_cached("SELECT id, text, created_ms FROM fact WHERE owner = ?1 ORDER BY id")?;
    let facts = select
        .query_map([owner], |row| Ok(Fact { id: row.get(0)?, text: row.get(1)?, created_ms: row.get(2)? }))?;
    Ok(facts.collect::<rusqlite::Result<_>>()?)
}

fn checked(text: &str) -> Result<&str, ChatError> {
    let text = text.trim();
    if (1..=FACT_CHARACTERS).contains(&text.chars().count()) {
        return Ok(text);
    }
    Err(ChatError::invalid("fact", format!("a fact has 1 to {FACT_CHARACTERS} characters")))
}

fn changed(id: i64, rows: usize) -> Result<(), ChatError> {
    if rows > 0 { Ok(()) } else { Err(ChatError::NoFact(id)) }
}
