//! Artifacts in the index: found by key, name or blob, and removed.

use rusqlite::{Connection, OptionalExtension as _, Params, Row};
use samovar_core::Digest;
use samovar_core::footprint::Footprint;

use super::access::{Durability, PATIENCE};
use super::row::{self, BlobState, DigestBytes};
use super::usage::as_of;
use super::{Index, blobs, names, now_ms};
use crate::artifact::key::{ArtifactKey, KeyDigest};
use crate::artifact::name::{ModelId, SourceId};
use crate::artifact::{Artifact, ArtifactFile, Usage};
use crate::error::Error;

/// One row for each file of an artifact, with all that is known of the artifact; one row without a file for an
/// artifact that has none. Being one statement, it never sees half a change.
const SELECT: &str =
    "SELECT a.id, a.key, a.source, a.model_id, a.commit_id, a.quant, a.modality, a.reference,
        a.pinned, a.created_ms, u.hits, u.misses, u.last_ms, u.rate_ewma, u.load_n, u.load_ms_ewma,
        u.held_bytes, u.mapped_bytes, u.fetch_bps_ewma, f.path, f.role, f.digest, b.size, b.state
    FROM artifact a
    LEFT JOIN usage u ON u.artifact_id = a.id
    LEFT JOIN artifact_file f ON f.artifact_id = a.id
    LEFT JOIN blob b ON b.digest = f.digest";
const USAGE_COLUMN: usize = 10;
const FILE_COLUMN: usize = 19;

/// An artifact's id and figures by its key. An artifact that was never used has none.
pub(super) const USAGE_OF_KEY: &str = "SELECT a.id, u.hits, u.misses, u.last_ms, u.rate_ewma, u.load_n,
        u.load_ms_ewma, u.held_bytes, u.mapped_bytes, u.fetch_bps_ewma
    FROM artifact a LEFT JOIN usage u ON u.artifact_id = a.id WHERE a.key = ?1";

/// An artifact, and whether all of its blobs can be used.
struct Found {
    artifact: Artifact,
    is_whole: bool,
}

impl Index {
    /// The artifact of this key, if all of its blobs are ready.
    ///
    /// # Errors
    /// When the index cannot be read.
    pub(crate) fn artifact(&self, key: &KeyDigest) -> Result<Option<Artifact>, Error> {
        Ok(self.find_by_key(key)?.filter(|found| found.is_whole).map(|found| found.artifact))
    }

    /// The artifact of this key, also when a blob of it is damaged, gone or about to go.
    ///
    /// # Errors
    /// When the index cannot be read.
    pub(crate) fn artifact_in_any_state(&self, key: &KeyDigest) -> Result<Option<Artifact>, Error> {
        Ok(self.find_by_key(key)?.map(|found| found.artifact))
    }

    /// All artifacts, in the order in which they came, whatever the state of their blobs.
    ///
    /// # Errors
    /// When the index cannot be read.
    pub(crate) fn artifacts(&self) -> Result<Vec<Artifact>, Error> {
        let all = self.find_many("", [])?;
        Ok(all.into_iter().map(|found| found.artifact).collect())
    }

    /// The artifacts of a model whose blobs are all ready, in the order in which they came.
    ///
    /// # Errors
    /// When the index cannot be read.
    pub(crate) fn artifacts_of(&self, source: &SourceId, model: &ModelId) -> Result<Vec<Artifact>, Error> {
        let found =
            self.find_many("WHERE a.model_id = ?1 AND a.source = ?2", (model.as_str(), source.as_str()))?;
        Ok(found.into_iter().filter(|found| found.is_whole).map(|found| found.artifact).collect())
    }

    /// The artifacts that name a blob, whatever the state of their blobs.
    ///
    /// # Errors
    /// When the index cannot be read.
    pub(crate) fn artifacts_with_blob(&self, digest: &Digest) -> Result<Vec<Artifact>, Error> {
        let naming = "WHERE a.id IN (SELECT artifact_id FROM artifact_file WHERE digest = ?1)";
        let found = self.find_many(naming, [DigestBytes(*digest)])?;
        Ok(found.into_iter().map(|found| found.artifact).collect())
    }

    /// What this canonical text means, if all blobs of it are ready.
    ///
    /// # Errors
    /// When the index cannot be read.
    pub(crate) fn by_reference(&self, reference: &str) -> Result<Option<Artifact>, Error> {
        let meant = "WHERE a.id = (SELECT artifact_id FROM reference WHERE text = ?1)";
        let found = self.find_many(meant, [reference])?;
        Ok(found.into_iter().find(|found| found.is_whole).map(|found| found.artifact))
    }

    /// Forgets an artifact and gives the digests that no artifact names any more. Its canonical text then means
    /// the newest artifact left that users name the same way.
    ///
    /// # Errors
    /// When the index cannot be written.
    pub(crate) fn remove_artifact(&self, key: &KeyDigest) -> Result<Vec<Digest>, Error> {
        self.remove_artifacts(std::slice::from_ref(key))
    }

    /// Forgets many artifacts at once, as [`Index::remove_artifact`] does one, for the price of one.
    ///
    /// # Errors
    /// When the index cannot be written; then none was forgotten.
    pub(crate) fn remove_artifacts(&self, keys: &[KeyDigest]) -> Result<Vec<Digest>, Error> {
        self.access.write(Durability::Power, PATIENCE, |change| {
            let mut free = Vec::new();
            for key in keys {
                free.extend(remove(change, key)?);
            }
            Ok(free)
        })
    }

    /// Forgets artifacts together with blobs whose files are gone, in one transaction.
    ///
    /// # Errors
    /// When the index cannot be written; then nothing was forgotten.
    pub(crate) fn forget(&self, keys: &[KeyDigest], blobs: &[Digest]) -> Result<(), Error> {
        self.access.write(Durability::Power, PATIENCE, |change| {
            keys.iter().try_for_each(|key| remove(change, key).map(drop))?;
            blobs.iter().try_for_each(|digest| blobs::remove(change, digest))
        })
    }

    /// Keeps an artifact from collection, or no longer.
    ///
    /// # Errors
    /// When the index cannot be written.
    pub(crate) fn set_pinned(&self, key: &KeyDigest, is_pinned: bool) -> Result<(), Error> {
        self.access.write(Durability::Power, PATIENCE, |change| {
            change
                .prepare_cached("UPDATE artifact SET pinned = ?2 WHERE key = ?1")?
                .execute((DigestBytes(*key.as_digest()), is_pinned))
                .map(drop)
        })
    }

    fn find_by_key(&self, key: &KeyDigest) -> Result<Option<Found>, Error> {
        let mut found = self.find_many("WHERE a.key = ?1", [DigestBytes(*key.as_digest())])?;
        Ok(found.pop())
    }

    fn find_many(&self, which: &'static str, params: impl Params) -> Result<Vec<Found>, Error> {
        let mut all = self.access.read(|connection| {
            let sql = format!("{SELECT} {which} ORDER BY a.id, f.position");
            let mut statement = connection.prepare_cached(&sql)?;
            let mut rows = statement.query(params)?;
            let mut all: Vec<Found> = Vec::new();
            while let Some(row) = rows.next()? {
                add_row(&mut all, row)?;
            }
            Ok(all)
        })?;
        let now_ms = now_ms();
        for Found { artifact, .. } in &mut all {
            artifact.usage = as_of(self.with_pending(&artifact.key_digest, artifact.usage), now_ms);
        }
        Ok(all)
    }
}

/// Takes in the next row of [`SELECT`]: a further file of the last artifact, or a new one.
fn add_row(all: &mut Vec<Found>, row: &Row<'_>) -> rusqlite::Result<()> {
    let id: i64 = row.get(0)?;
    if all.last().is_none_or(|last| last.artifact.id != id) {
        all.push(Found { artifact: head(id, row)?, is_whole: true });
    }
    let last = all.last_mut().expect("invariant: one was just there or pushed");
    if row.get_ref(FILE_COLUMN)?.as_str_or_null()?.is_none() {
        return Ok(());
    }
    last.artifact.files.push(ArtifactFile {
        path: row::name(row, FILE_COLUMN)?,
        role: row::coded(row, FILE_COLUMN + 1)?,
        digest: row::digest(row, FILE_COLUMN + 2)?,
        size: row::unsigned(row, FILE_COLUMN + 3)?,
    });
    last.is_whole &= row::coded::<BlobState>(row, FILE_COLUMN + 4)? == BlobState::Ready;
    Ok(())
}

fn head(id: i64, row: &Row<'_>) -> rusqlite::Result<Artifact> {
    Ok(Artifact {
        id,
        key_digest: row::key_digest(row, 1)?,
        key: ArtifactKey {
            source: row::name(row, 2)?,
            model: row::name(row, 3)?,
            commit: row::name(row, 4)?,
            quant: row.get(5)?,
            modality: row.get(6)?,
        },
        reference: row.get(7)?,
        is_pinned: row.get(8)?,
        created_ms: row::unsigned(row, 9)?,
        files: Vec::new(),
        usage: usage(row, USAGE_COLUMN)?,
    })
}

/// The figures from nine columns, zero where there are none.
pub(super) fn usage(row: &Row<'_>, column: usize) -> rusqlite::Result<Usage> {
    if row.get::<_, Option<i64>>(column)?.is_none() {
        return Ok(Usage::default());
    }
    Ok(Usage {
        hits: row::unsigned(row, column)?,
        misses: row::unsigned(row, column + 1)?,
        last_ms: row::unsigned(row, column + 2)?,
        rate: row.get(column + 3)?,
        loads: row::unsigned(row, column + 4)?,
        load_ms: row.get(column + 5)?,
        footprint: Footprint {
            held_bytes: row::unsigned(row, column + 6)?,
            mapped_bytes: row::unsigned(row, column + 7)?,
        },
        fetch_bytes_per_s: row.get(column + 8)?,
    })
}

/// Writes an artifact's figures within a transaction.
pub(super) fn put_usage(change: &Connection, artifact: i64, usage: &Usage) -> rusqlite::Result<()> {
    change
        .prepare_cached(
            "INSERT OR REPLACE INTO usage (artifact_id, hits, misses, last_ms, rate_ewma, load_n, load_ms_ewma,
                 held_bytes, mapped_bytes, fetch_bps_ewma)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
        )?
        .execute((
            artifact,
            usage.hits.cast_signed(),
            usage.misses.cast_signed(),
            usage.last_ms.cast_signed(),
            usage.rate,
            usage.loads.cast_signed(),
            usage.load_ms,
            usage.footprint.held_bytes.cast_signed(),
            usage.footprint.mapped_bytes.cast_signed(),
            usage.fetch_bytes_per_s,
        ))
        .map(drop)
}

fn remove(change: &Connection, key: &KeyDigest) -> rusqlite::Result<Vec<Digest>> {
    let found = change
        .prepare_cached("SELECT id, source, model_id, reference FROM artifact WHERE key = ?1")?
        .query_row([DigestBytes(*key.as_digest())], |row| {
            Ok((row.get::<_, i64>(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
        })
        .optional()?;
    let Some((id, source, model, reference)): Option<(i64, String, String, String)> = found else {
        return Ok(Vec::new());
    };
    let free = change
        .prepare_cached(
            "SELECT DISTINCT digest FROM artifact_file f WHERE artifact_id = ?1 AND NOT EXISTS
                 (SELECT 1 FROM artifact_file o WHERE o.digest = f.digest AND o.artifact_id <> ?1)",
        )?
        .query_map([id], |row| row::digest(row, 0))?
        .collect::<rusqlite::Result<_>>()?;
    let was_meant = change
        .prepare_cached("SELECT EXISTS (SELECT 1 FROM reference WHERE text = ?1 AND artifact_id = ?2)")?
        .query_row((&reference, id), |row| row.get(0))?;
    change.prepare_cached("DELETE FROM artifact WHERE id = ?1")?.execute([id])?;
    if was_meant {
        hand_on(change, &source, &model, &reference)?;
    }
    Ok(free)
}

/// Lets a canonical text mean the newest artifact left that users name so.
fn hand_on(change: &Connection, source: &str, model: &str, reference: &str) -> rusqlite::Result<()> {
    let heir: Option<i64> = change
        .prepare_cached(
            "SELECT id FROM artifact WHERE model_id = ?1 AND source = ?2 AND reference = ?3
             ORDER BY created_ms DESC, id DESC LIMIT 1",
        )?
        .query_row((model, source, reference), |row| row.get(0))
        .optional()?;
    heir.map_or(Ok(()), |id| names::note_reference(change, reference, id))
}
