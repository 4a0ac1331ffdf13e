//! The tables, and the way from each version of them to the next.
//!
//! Versions are only ever added. `user_version` says how far a file is.

use rusqlite::{Connection, Transaction};

/// The version that this program writes.
pub(super) const VERSION: u32 = MIGRATIONS.len() as u32;

/// Entry n leads from version n to version n + 1.
const MIGRATIONS: [&str; 1] = [
    // 1. A message's parent is older than the message, so that no path is a circle. Numbers are not used twice, so that a client that
    // knows a deleted conversation never writes into another. The words follow the messages by triggers, and with `secure-delete` a
    // deleted word leaves the index at once.
    "CREATE TABLE conversation (
         id INTEGER PRIMARY KEY AUTOINCREMENT,
         owner TEXT NOT NULL,
         title TEXT NOT NULL,
         is_titled INTEGER NOT NULL,
         system TEXT,
         uses_facts INTEGER NOT NULL DEFAULT 1,
         model TEXT,
         leaf INTEGER,
         window_from INTEGER,
         messages INTEGER NOT NULL DEFAULT 0,
         created_ms INTEGER NOT NULL,
         changed_ms INTEGER NOT NULL
     ) STRICT;
     CREATE INDEX conversation_of ON conversation (owner, changed_ms, id);
     CREATE TABLE message (
         id INTEGER PRIMARY KEY AUTOINCREMENT,
         conversation INTEGER NOT NULL REFERENCES conversation (id),
         parent INTEGER CHECK (parent < id),
         role TEXT NOT NULL CHECK (role IN ('user', 'assistant')),
         text TEXT NOT NULL,
         thinking TEXT,
         model TEXT,
         prompt_tokens INTEGER,
         tokens INTEGER,
         finish TEXT,
         created_ms INTEGER NOT NULL
     ) STRICT;
     CREATE INDEX message_of ON message (conversation, id);
     CREATE TABLE summary (
         id INTEGER PRIMARY KEY AUTOINCREMENT,
         conversation INTEGER NOT NULL REFERENCES conversation (id),
         through INTEGER NOT NULL,
         text TEXT NOT NULL,
         model TEXT NOT NULL,
         created_ms INTEGER NOT NULL
     ) STRICT;
     CREATE INDEX summary_of ON summary (conversation, id);
     CREATE TABLE fact (
         id INTEGER PRIMARY KEY AUTOINCREMENT,
         owner TEXT NOT NULL,
         text TEXT NOT NULL,
         created_ms INTEGER NOT NULL
     ) STRICT;
     CREATE INDEX fact_of ON fact (owner, id);
     CREATE VIRTUAL TABLE words USING fts5 (
         text, content = 'message', content_rowid = 'id', tokenize = 'unicode61 remove_diacritics 2'
     );
     INSERT INTO words (words, rank) VALUES ('secure-delete', 1);
     CREATE TRIGGER message_added AFTER INSERT ON message BEGIN
         INSERT INTO words (rowid, text) VALUES (new.id, new.text);
     END;
     CREATE TRIGGER message_deleted AFTER DELETE ON message BEGIN
         INSERT INTO words (words, rowid, text) VALUES ('delete', old.id, old.text);
     END;",
];

/// The version of a file; 0 = nothing there yet.
pub(super) fn version_of(connection: &Connection) -> rusqlite::Result<u32> {
    let version: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    // A negative one was never written by any program of ours; as a huge one it is left alone likewise.
    Ok(u32::try_from(version).unwrap_or(u32::MAX))
}

/// Brings the file up to date, within the caller's transaction.
pub(super) fn migrate(transaction: &Transaction<'_>) -> rusqlite::Result<()> {
    let from = version_of(transaction)?;
    for step in MIGRATIONS.iter().skip(from as usize) {
        transaction.execute_batch(step)?;
    }
    if from < VERSION {
        transaction.pragma_update(None, "user_version", VERSION)?;
    }
    Ok(())
}
