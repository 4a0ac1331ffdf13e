//! Conversations in a file of SQLite, one client's apart from another's.
//!
//! ```text
//!   conversation ◄── message ──► parent (a tree; `leaf` = the end of the branch that is shown)
//!     │    │             └─► words (FTS5, by triggers)
//!     │    └── summary   (what stands for messages that the window leaves out)
//!     └ owner ─► fact    (what the client asked to be remembered)
//! ```
//!
//! All calls block, mostly for less than a millisecond. Deleting is real: the file is written again without what was deleted, which takes
//! about a second for a hundred megabytes.

mod exchange;
mod facts;
mod file;
mod history;
mod messages;
mod row;
mod schema;
mod search;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rusqlite::{Connection, Transaction, TransactionBehavior};

pub use exchange::ExportFormat;
pub use facts::Fact;
pub use history::ConversationChange;
pub(crate) use messages::{Kept, Started};
pub use row::{ConversationDetail, ConversationHead, ConversationSummary, SearchHit, StoredMessage};
pub use search::{SNIPPET_BEGIN, SNIPPET_END};

use crate::error::ChatError;

/// Bytes of one message at most.
pub const MESSAGE_MAX_BYTES: usize = 4 << 20;

/// The conversations of all clients. Clones are the same file.
#[derive(Clone)]
pub struct Conversations {
    shared: Arc<ChatFile>,
}

struct ChatFile {
    /// `None` = in memory.
    path: Option<PathBuf>,
    connection: Mutex<Connection>,
    /// Where a damaged file was put when this one was opened.
    aside: Option<PathBuf>,
}

/// What one client sees of the conversations. Clones are the same client's.
#[derive(Clone)]
pub struct ChatHistory {
    conversations: Conversations,
    owner: Arc<str>,
}

impl Conversations {
    /// Opens or makes the file. One that is damaged is set aside, and a fresh one begun ([`Conversations::set_aside`]).
    ///
    /// # Errors
    /// [`ChatError::Newer`] for the file of a newer program, which is left as it is; [`ChatError::Locked`] when another process keeps it
    /// for too long; [`ChatError::Io`] when the file system says no.
    pub fn open(path: &Path) -> Result<Self, ChatError> {
        let (connection, aside) = file::open(path, false)?;
        Ok(Self::over(Some(path.to_owned()), connection, aside))
    }

    /// Conversations that end with this value.
    ///
    /// # Errors
    /// When there is no memory.
    pub fn in_memory() -> Result<Self, ChatError> {
        Ok(Self::over(None, file::in_memory()?, None))
    }

    fn over(path: Option<PathBuf>, connection: Connection, aside: Option<PathBuf>) -> Self {
        Self { shared: Arc::new(ChatFile { path, connection: Mutex::new(connection), aside }) }
    }

    /// Where a damaged file lies that was found in this one's place.
    pub fn set_aside(&self) -> Option<&Path> {
        self.shared.aside.as_deref()
    }

    /// Those of one client. The empty name is that of this machine's owner.
    pub fn of(&self, owner: impl Into<Arc<str>>) -> ChatHistory {
        ChatHistory { conversations: self.clone(), owner: owner.into() }
    }
}

impl ChatFile {
    fn lock(&self) -> MutexGuard<'_, Connection> {
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The error with its file; a damaged file is set aside on the way, and a fresh one opened.
    fn explain(&self, error: ChatError) -> ChatError {
        let Some(path) = &self.path else { return error };
        match error {
            ChatError::Sql(error) if file::is_damage(&error) => {
                let mut connection = self.lock();
                match file::open(path, true) {
                    Ok((fresh, Some(aside))) => {
                        *connection = fresh;
                        ChatError::Damaged { path: path.clone(), aside, reason: error.to_string() }
                    }
                    // Another call or process did it before.
                    Ok((fresh, None)) => {
                        *connection = fresh;
                        ChatError::Sql(error)
                    }
                    Err(error) => error,
                }
            }
            error => file::explain(error, path),
        }
    }
}

impl ChatHistory {
    /// Whether it outlives this process.
    pub fn is_kept(&self) -> bool {
        self.conversations.shared.path.is_some()
    }

    /// The client.
    pub(crate) fn owner(&self) -> &str {
        &self.owner
    }

    fn read<T>(&self, query: impl FnOnce(&Connection) -> Result<T, ChatError>) -> Result<T, ChatError> {
        let shared = &self.conversations.shared;
        let answer = query(&shared.lock());
        answer.map_err(|error| shared.explain(error))
    }

    /// Makes a change, whole or not at all.
    fn write<T>(
        &self,
        change: impl FnOnce(&Transaction<'_>) -> Result<T, ChatError>,
    ) -> Result<T, ChatError> {
        let shared = &self.conversations.shared;
        let changed = within_transaction(&mut shared.lock(), change);
        changed.map_err(|error| shared.explain(error))
    }
}

impl ChatHistory {
    /// Makes a change that deletes something, and writes the whole file again: `secure_delete` overwrites what is deleted where it lies,
    /// and not what moved from page to page before and left a copy behind.
    fn delete<T>(
        &self,
        change: impl FnOnce(&Transaction<'_>) -> Result<T, ChatError>,
    ) -> Result<T, ChatError> {
        let value = self.write(change)?;
        if let Err(error) = self.conversations.shared.lock().execute_batch("VACUUM") {
            tracing::warn!(%error, "what was deleted may lie in the file until something else is deleted");
        }
        Ok(value)
    }
}

fn within_transaction<T>(
    connection: &mut Connection,
    change: impl FnOnce(&Transaction<'_>) -> Result<T, ChatError>,
) -> Result<T, ChatError> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let value = change(&transaction)?;
    transaction.commit()?;
    Ok(value)
}
