//! Blobs in the index: what is known of each file of bytes.

use rusqlite::{Connection, OptionalExtension as _};
use samovar_core::Digest;

use super::Index;
use super::access::{Durability, PATIENCE};
use super::row::{self, BLOB_COLUMNS, BlobRow, BlobState, Coded as _, DigestBytes};
use crate::disk::stamp::Stamp;
use crate::error::Error;

impl Index {
    /// Records a blob, or what has changed of one; when it came stays as it was.
    ///
    /// # Errors
    /// When the index cannot be written.
    pub(crate) fn put_blob(&self, row: &BlobRow) -> Result<(), Error> {
        self.access.write(Durability::Power, PATIENCE, |change| put(change, row))
    }

    /// What is known of a blob.
    ///
    /// # Errors
    /// When the index cannot be read.
    pub(crate) fn blob(&self, digest: &Digest) -> Result<Option<BlobRow>, Error> {
        self.access.read(|connection| {
            connection
                .prepare_cached(&format!("SELECT {BLOB_COLUMNS} FROM blob WHERE digest = ?1"))?
                .query_row([DigestBytes(*digest)], row::blob)
                .optional()
        })
    }

    /// All blobs, by digest.
    ///
    /// # Errors
    /// When the index cannot be read.
    pub(crate) fn blobs(&self) -> Result<Vec<BlobRow>, Error> {
        self.access.read(|connection| {
            connection
                .prepare_cached(&format!("SELECT {BLOB_COLUMNS} FROM blob ORDER BY digest"))?
                .query_map([], row::blob)?
                .collect()
        })
    }

    /// The blobs in this state, by digest. Those that are not ready are few, and found without a look at the others.
    ///
    /// # Errors
    /// When the index cannot be read.
    pub(crate) fn blobs_in(&self, state: BlobState) -> Result<Vec<BlobRow>, Error> {
        // The number stands in the text so that SQLite sees that its index of the few applies.
        let which = state.code();
        self.access.read(|connection| {
            connection
                .prepare_cached(&format!(
                    "SELECT {BLOB_COLUMNS} FROM blob WHERE state = {which} ORDER BY digest"
                ))?
                .query_map([], row::blob)?
                .collect()
        })
    }

    /// Sets the state of a blob, if it is known. Survives the loss of power: what is marked may be removed.
    ///
    /// # Errors
    /// When the index cannot be written.
    pub(crate) fn set_blob_state(&self, digest: &Digest, state: BlobState) -> Result<(), Error> {
        self.set_blob_states(std::slice::from_ref(digest), state)
    }

    /// Sets the state of many blobs at once, for the price of one.
    ///
    /// # Errors
    /// When the index cannot be written; then none was changed.
    pub(crate) fn set_blob_states(&self, digests: &[Digest], state: BlobState) -> Result<(), Error> {
        self.access.write(Durability::Power, PATIENCE, |change| {
            let mut statement = change.prepare_cached("UPDATE blob SET state = ?2 WHERE digest = ?1")?;
            digests
                .iter()
                .try_for_each(|digest| statement.execute((DigestBytes(*digest), state.code())).map(drop))
        })
    }

    /// Records that a blob's bytes were hashed and are right, in the file of this stamp.
    ///
    /// # Errors
    /// When the index cannot be written.
    pub(crate) fn stamp_blob(&self, digest: &Digest, stamp: Stamp, verified_ms: u64) -> Result<(), Error> {
        self.stamp_blobs(&[(*digest, stamp, verified_ms)])
    }

    /// Records many blobs at once, as [`Index::stamp_blob`] does one.
    ///
    /// # Errors
    /// When the index cannot be written.
    pub(crate) fn stamp_blobs(&self, stamps: &[(Digest, Stamp, u64)]) -> Result<(), Error> {
        self.access.write(Durability::Process, PATIENCE, |change| {
            let mut statement = change.prepare_cached(
                "UPDATE blob SET dev = ?2, ino = ?3, mtime_ns = ?4, verified_ms = ?5 WHERE digest = ?1",
            )?;
            stamps.iter().try_for_each(|(digest, stamp, verified_ms)| {
                let (dev, ino) = (stamp.dev.cast_signed(), stamp.ino.cast_signed());
                statement
                    .execute((DigestBytes(*digest), dev, ino, stamp.mtime_ns, verified_ms.cast_signed()))
                    .map(drop)
            })
        })
    }

    /// Forgets a blob whose file is gone. One that an artifact still names stays known, as not usable.
    ///
    /// # Errors
    /// When the index cannot be written.
    pub(crate) fn remove_blob(&self, digest: &Digest) -> Result<(), Error> {
        self.remove_blobs(std::slice::from_ref(digest))
    }

    /// Forgets many blobs at once, as [`Index::remove_blob`] does one.
    ///
    /// # Errors
    /// When the index cannot be written; then none was forgotten.
    pub(crate) fn remove_blobs(&self, digests: &[Digest]) -> Result<(), Error> {
        self.access.write(Durability::Power, PATIENCE, |change| {
            digests.iter().try_for_each(|digest| remove(change, digest))
        })
    }
}

/// Records a blob within a transaction.
pub(super) fn put(change: &Connection, row: &BlobRow) -> rusqlite::Result<()> {
    change
        .prepare_cached(
            "INSERT INTO blob (digest, size, state, verified_ms, dev, ino, mtime_ns, origin, created_ms)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)
             ON CONFLICT (digest) DO UPDATE SET size = excluded.size, state = excluded.state,
                 verified_ms = excluded.verified_ms, dev = excluded.dev, ino = excluded.ino,
                 mtime_ns = excluded.mtime_ns, origin = excluded.origin",
        )?
        .execute((
            DigestBytes(row.digest),
            row.size.cast_signed(),
            row.state.code(),
            row.verified_ms.cast_signed(),
            row.stamp.dev.cast_signed(),
            row.stamp.ino.cast_signed(),
            row.stamp.mtime_ns,
            row.origin.code(),
            row.created_ms.cast_signed(),
        ))
        .map(drop)
}

/// Forgets a blob within a transaction; see [`Index::remove_blob`].
pub(super) fn remove(change: &Connection, digest: &Digest) -> rusqlite::Result<()> {
    let named = "EXISTS (SELECT 1 FROM artifact_file WHERE artifact_file.digest = blob.digest)";
    let digest = DigestBytes(*digest);
    let removed = change
        .prepare_cached(&format!("DELETE FROM blob WHERE digest = ?1 AND NOT {named}"))?
        .execute([&digest])?;
    if removed == 0 {
        change
            .prepare_cached("UPDATE blob SET state = ?2 WHERE digest = ?1")?
            .execute((&digest, BlobState::Quarantined.code()))?;
    }
    Ok(())
}
