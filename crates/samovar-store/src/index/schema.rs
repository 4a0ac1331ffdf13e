//! The tables, and the way from each version of them to the next.
//!
//! Versions are only ever added: an index of any age is brought up to date step by step, in one
//! transaction. `user_version` says how far one is.

use rusqlite::{Connection, Transaction};

/// The version that this program writes.
pub(super) const VERSION: u32 = MIGRATIONS.len() as u32;

/// The fact that says whether the index holds all that the manifests say.
const REBUILT: &str = "rebuilt";

/// Entry n leads from version n to version n + 1.
const MIGRATIONS: [&str; 2] = [
    // 1: what there is and how it is used. `position` keeps the parts of a split model in order.
    "CREATE TABLE blob (
         digest BLOB PRIMARY KEY CHECK (length(digest) = 32),
         size INTEGER NOT NULL,
         state INTEGER NOT NULL,
         verified_ms INTEGER NOT NULL,
         dev INTEGER NOT NULL,
         ino INTEGER NOT NULL,
         mtime_ns INTEGER NOT NULL,
         origin INTEGER NOT NULL,
         created_ms INTEGER NOT NULL
     ) STRICT, WITHOUT ROWID;
     CREATE TABLE artifact (
         id INTEGER PRIMARY KEY,
         key BLOB NOT NULL UNIQUE CHECK (length(key) = 32),
         source TEXT NOT NULL,
         model_id TEXT NOT NULL,
         commit_id TEXT NOT NULL,
         quant TEXT NOT NULL,
         modality TEXT NOT NULL,
         format INTEGER NOT NULL,
         manifest_digest BLOB NOT NULL,
         reference TEXT NOT NULL,
         pinned INTEGER NOT NULL DEFAULT 0,
         created_ms INTEGER NOT NULL
     ) STRICT;
     CREATE INDEX artifact_model ON artifact (model_id);
     CREATE TABLE artifact_file (
         artifact_id INTEGER NOT NULL REFERENCES artifact (id) ON DELETE CASCADE,
         position INTEGER NOT NULL,
         path TEXT NOT NULL,
         digest BLOB NOT NULL REFERENCES blob (digest),
         role INTEGER NOT NULL,
         PRIMARY KEY (artifact_id, position)
     ) STRICT, WITHOUT ROWID;
     CREATE INDEX artifact_file_digest ON artifact_file (digest);
     CREATE TABLE ref (
         source TEXT NOT NULL,
         model_id TEXT NOT NULL,
         name TEXT NOT NULL,
         commit_id TEXT NOT NULL,
         checked_ms INTEGER NOT NULL,
         PRIMARY KEY (model_id, name, source)
     ) STRICT, WITHOUT ROWID;
     CREATE TABLE usage (
         artifact_id INTEGER PRIMARY KEY REFERENCES artifact (id) ON DELETE CASCADE,
         hits INTEGER NOT NULL,
         misses INTEGER NOT NULL,
         last_ms INTEGER NOT NULL,
         rate_ewma REAL NOT NULL,
         load_n INTEGER NOT NULL,
         load_ms_ewma REAL NOT NULL,
         held_bytes INTEGER NOT NULL,
         mapped_bytes INTEGER NOT NULL,
         fetch_bps_ewma REAL NOT NULL
     ) STRICT;
     CREATE TABLE counters (
         name TEXT PRIMARY KEY,
         value INTEGER NOT NULL
     ) STRICT, WITHOUT ROWID;",
    // 2: names found by one lookup, small memos, and facts about the index itself.
    "CREATE TABLE reference (
         text TEXT PRIMARY KEY,
         artifact_id INTEGER NOT NULL REFERENCES artifact (id) ON DELETE CASCADE,
         noted_ms INTEGER NOT NULL
     ) STRICT, WITHOUT ROWID;
     CREATE INDEX reference_artifact ON reference (artifact_id, noted_ms);
     INSERT INTO reference (text, artifact_id, noted_ms)
         SELECT reference, id, created_ms FROM artifact WHERE true ORDER BY created_ms, id
         ON CONFLICT (text) DO UPDATE SET artifact_id = excluded.artifact_id, noted_ms = excluded.noted_ms;
     CREATE TABLE memo (
         key TEXT PRIMARY KEY,
         json TEXT NOT NULL,
         noted_ms INTEGER NOT NULL
     ) STRICT, WITHOUT ROWID;
     CREATE INDEX memo_noted ON memo (noted_ms);
     CREATE INDEX blob_state ON blob (state) WHERE state > 0;
     CREATE TABLE fact (
         name TEXT PRIMARY KEY,
         value INTEGER NOT NULL
     ) STRICT, WITHOUT ROWID;",
];

/// The version of an index; 0 = nothing there yet.
pub(super) fn version_of(connection: &Connection) -> rusqlite::Result<u32> {
    let version: i64 = connection.prepare_cached("PRAGMA user_version")?.query_row([], |row| row.get(0))?;
    // A negative one was never written by any program of ours; as a huge one it is left alone likewise.
    Ok(u32::try_from(version).unwrap_or(u32::MAX))
}

/// Brings the index up to date, within the caller's transaction.
pub(super) fn migrate(transaction: &Transaction<'_>) -> rusqlite::Result<()> {
    let from = version_of(transaction)?;
    for step in MIGRATIONS.iter().skip(from as usize) {
        transaction.execute_batch(step)?;
    }
    if from < VERSION {
        transaction.pragma_update(None, "user_version", VERSION)?;
        // An index of version 1 was filled by its maker.
        set_rebuilt(transaction, from > 0)?;
    }
    Ok(())
}

/// Whether it was said that the index holds all that the manifests say.
pub(super) fn is_rebuilt(connection: &Connection) -> rusqlite::Result<bool> {
    connection
        .prepare_cached("SELECT EXISTS (SELECT 1 FROM fact WHERE name = ?1 AND value = 1)")?
        .query_row([REBUILT], |row| row.get(0))
}

/// Says whether the index holds all that the manifests say.
pub(super) fn set_rebuilt(connection: &Connection, is_rebuilt: bool) -> rusqlite::Result<()> {
    connection
        .prepare_cached("INSERT OR REPLACE INTO fact (name, value) VALUES (?1, ?2)")?
        .execute((REBUILT, is_rebuilt))
        .map(drop)
}
