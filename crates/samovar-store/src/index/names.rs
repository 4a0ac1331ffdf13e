//! Names in the index: where texts and moving names led, and small memos by key.

use rusqlite::{Connection, OptionalExtension as _};

use super::access::{Durability, PATIENCE};
use super::row::{self, DigestBytes, RefRow};
use super::{Index, now_ms};
use crate::artifact::key::KeyDigest;
use crate::artifact::name::{Commit, ModelId, SourceId};
use crate::error::Error;

/// Bytes of a text that is noted; a longer one is resolved each time.
const TEXT_BYTES: usize = 4 << 10;
/// Texts that lead to one artifact; of more, the oldest are forgotten, but never the artifact's own.
const TEXTS_EACH: i64 = 64;
/// Bytes of a memo.
const MEMO_BYTES: usize = 64 << 10;
/// Memos in all; the oldest are forgotten.
const MEMOS: i64 = 4_096;

impl Index {
    /// Notes that this canonical text now means this artifact. An artifact that is not there, or a text of
    /// more than 4 KiB, is not noted.
    ///
    /// # Errors
    /// When the index cannot be written.
    pub(crate) fn note_reference(&self, reference: &str, key: &KeyDigest) -> Result<(), Error> {
        self.access.write(Durability::Process, PATIENCE, |change| {
            let id: Option<i64> = change
                .prepare_cached("SELECT id FROM artifact WHERE key = ?1")?
                .query_row([DigestBytes(*key.as_digest())], |row| row.get(0))
                .optional()?;
            id.map_or(Ok(()), |id| note_reference(change, reference, id))
        })
    }

    /// Notes that a moving name led to this commit just now.
    ///
    /// # Errors
    /// When the index cannot be written.
    pub(crate) fn set_ref(
        &self,
        source: &SourceId,
        model: &ModelId,
        name: &str,
        commit: &Commit,
    ) -> Result<(), Error> {
        self.access.write(Durability::Process, PATIENCE, |change| {
            set_ref(change, source, model, name, &RefRow { commit: commit.clone(), checked_ms: now_ms() })
        })
    }

    /// Where a moving name last led.
    ///
    /// # Errors
    /// When the index cannot be read.
    pub(crate) fn ref_of(
        &self,
        source: &SourceId,
        model: &ModelId,
        name: &str,
    ) -> Result<Option<RefRow>, Error> {
        self.access.read(|connection| ref_of(connection, source, model, name))
    }

    /// Keeps a small memo under a key, in the place of an earlier one. More than 64 KiB is not kept, and of
    /// more than 4,096 memos the oldest are forgotten.
    ///
    /// # Errors
    /// When the index cannot be written.
    pub(crate) fn remember(&self, key: &str, json: &str) -> Result<(), Error> {
        if key.len() + json.len() > MEMO_BYTES {
            return Ok(());
        }
        self.access.write(Durability::Process, PATIENCE, |change| {
            change
                .prepare_cached("INSERT OR REPLACE INTO memo (key, json, noted_ms) VALUES (?1, ?2, ?3)")?
                .execute((key, json, now_ms().cast_signed()))?;
            change
                .prepare_cached(
                    "DELETE FROM memo WHERE key IN (SELECT key FROM memo WHERE key <> ?1
                     ORDER BY noted_ms DESC LIMIT -1 OFFSET ?2)",
                )?
                .execute((key, MEMOS - 1))
                .map(drop)
        })
    }

    /// The memo under a key.
    ///
    /// # Errors
    /// When the index cannot be read.
    pub(crate) fn recall(&self, key: &str) -> Result<Option<String>, Error> {
        self.access.read(|connection| {
            connection
                .prepare_cached("SELECT json FROM memo WHERE key = ?1")?
                .query_row([key], |row| row.get(0))
                .optional()
        })
    }
}

/// Notes within a transaction what a text means, and forgets the oldest of too many.
pub(super) fn note_reference(change: &Connection, reference: &str, artifact: i64) -> rusqlite::Result<()> {
    if reference.len() > TEXT_BYTES {
        return Ok(());
    }
    change
        .prepare_cached("INSERT OR REPLACE INTO reference (text, artifact_id, noted_ms) VALUES (?1, ?2, ?3)")?
        .execute((reference, artifact, now_ms().cast_signed()))?;
    change
        .prepare_cached(
            "DELETE FROM reference WHERE text IN (SELECT text FROM reference
             WHERE artifact_id = ?1 AND text <> ?2 AND text <> (SELECT reference FROM artifact WHERE id = ?1)
             ORDER BY noted_ms DESC LIMIT -1 OFFSET ?3)",
        )?
        .execute((artifact, reference, TEXTS_EACH - 2))
        .map(drop)
}

/// Notes within a transaction where a moving name led.
pub(super) fn set_ref(
    change: &Connection,
    source: &SourceId,
    model: &ModelId,
    name: &str,
    led: &RefRow,
) -> rusqlite::Result<()> {
    change
        .prepare_cached(
            "INSERT OR REPLACE INTO ref (source, model_id, name, commit_id, checked_ms)
             VALUES (?1, ?2, ?3, ?4, ?5)",
        )?
        .execute((source.as_str(), model.as_str(), name, led.commit.as_str(), led.checked_ms.cast_signed()))
        .map(drop)
}

/// Where a moving name last led, by this connection.
pub(super) fn ref_of(
    connection: &Connection,
    source: &SourceId,
    model: &ModelId,
    name: &str,
) -> rusqlite::Result<Option<RefRow>> {
    connection
        .prepare_cached(
            "SELECT commit_id, checked_ms FROM ref WHERE model_id = ?1 AND name = ?2 AND source = ?3",
        )?
        .query_row((model.as_str(), name, source.as_str()), |row| {
            Ok(RefRow { commit: row::name(row, 0)?, checked_ms: row::unsigned(row, 1)? })
        })
        .optional()
}
