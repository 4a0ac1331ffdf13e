//! Recording an artifact in the index, with its blobs and the names that lead to it.

use rusqlite::{Connection, OptionalExtension as _};
use samovar_core::Digest;

use super::access::{Durability, PATIENCE};
use super::row::{self, BlobRow, Coded as _, DigestBytes, RefRow};
use super::{Index, blobs, names, now_ms};
use crate::artifact::Artifact;
use crate::artifact::manifest::Manifest;
use crate::error::Error;

/// An artifact that is to be in the index.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry<'a> {
    /// What it is.
    pub(crate) manifest: &'a Manifest,
    /// The digest of the manifest's file.
    pub(crate) manifest_digest: Digest,
    /// Blobs that are new or have changed; the others that the manifest names are in the index already.
    pub(crate) blobs: &'a [BlobRow],
}

impl Index {
    /// Records an artifact whose files are all there, in one transaction that survives the loss of power: its
    /// blobs, itself, its files, its reference and the moving name that led to it. What is known of how it was
    /// used, and its pin, stay. Names are only moved to it by what is not older than what they mean now, so that
    /// artifacts may be recorded in any order.
    ///
    /// # Errors
    /// When the index cannot be written, or a blob that the manifest names is neither in it nor given.
    pub(crate) fn commit_artifact(
        &self,
        manifest: &Manifest,
        manifest_digest: Digest,
        blobs: &[BlobRow],
    ) -> Result<Artifact, Error> {
        self.commit_artifacts(&[Entry { manifest, manifest_digest, blobs }])?;
        let key = manifest.key.digest();
        self.artifact_in_any_state(&key)?.ok_or_else(|| Error::Missing {
            subject: manifest.reference.clone(),
            where_: " in the index",
            hint: "it was removed at the same moment; try again".to_owned(),
        })
    }

    /// Records many artifacts at once, as [`Index::commit_artifact`] does one, for the price of one.
    ///
    /// # Errors
    /// As [`Index::commit_artifact`]; then none was recorded.
    pub(crate) fn commit_artifacts(&self, entries: &[Entry<'_>]) -> Result<(), Error> {
        self.access.write(Durability::Power, PATIENCE, |change| {
            entries.iter().try_for_each(|entry| commit(change, entry))
        })
    }
}

fn commit(change: &Connection, entry: &Entry<'_>) -> rusqlite::Result<()> {
    entry.blobs.iter().try_for_each(|row| blobs::put(change, row))?;
    let id = put_artifact(change, entry)?;
    change.prepare_cached("DELETE FROM artifact_file WHERE artifact_id = ?1")?.execute([id])?;
    let mut statement = change.prepare_cached(
        "INSERT INTO artifact_file (artifact_id, position, path, digest, role) VALUES (?1, ?2, ?3, ?4, ?5)",
    )?;
    for (position, file) in (0_i64..).zip(&entry.manifest.files) {
        let digest = DigestBytes(file.digest);
        statement.execute((id, position, file.path.as_str(), digest, file.role.code()))?;
    }
    move_names(change, entry.manifest, id)
}

fn put_artifact(change: &Connection, entry: &Entry<'_>) -> rusqlite::Result<i64> {
    let Manifest { key, format, reference, created_ms, .. } = entry.manifest;
    change
        .prepare_cached(
            "INSERT INTO artifact (key, source, model_id, commit_id, quant, modality, format, manifest_digest,
                 reference, created_ms)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)
             ON CONFLICT (key) DO UPDATE SET format = excluded.format, reference = excluded.reference,
                 manifest_digest = excluded.manifest_digest, created_ms = excluded.created_ms
             RETURNING id",
        )?
        .query_row(
            (
                DigestBytes(*key.digest().as_digest()),
                key.source.as_str(),
                key.model.as_str(),
                key.commit.as_str(),
                &key.quant,
                &key.modality,
                format,
                DigestBytes(entry.manifest_digest),
                reference,
                created_ms.cast_signed(),
            ),
            |row| row.get(0),
        )
}

/// Moves the names of a manifest to its artifact, unless they mean something newer.
fn move_names(change: &Connection, manifest: &Manifest, id: i64) -> rusqlite::Result<()> {
    let key = &manifest.key;
    let age = Age::now(manifest.created_ms);
    if age.is_not_older_than(created_of_reference(change, &manifest.reference)?) {
        names::note_reference(change, &manifest.reference, id)?;
    }
    let Some(revision) = &manifest.revision else { return Ok(()) };
    let before = names::ref_of(change, &key.source, &key.model, revision)?;
    if age.is_not_older_than(before.map(|before| before.checked_ms)) {
        let led = RefRow { commit: key.commit.clone(), checked_ms: manifest.created_ms };
        names::set_ref(change, &key.source, &key.model, revision, &led)?;
    }
    Ok(())
}

/// When something was made, for a comparison in which times that lie in the future do not count: they come from
/// a clock that was wrong, and would win for ever.
struct Age {
    created_ms: u64,
    now_ms: u64,
}

impl Age {
    fn now(created_ms: u64) -> Self {
        Self { created_ms, now_ms: now_ms() }
    }

    fn is_not_older_than(&self, other_ms: Option<u64>) -> bool {
        let believed = |ms: u64| if ms > self.now_ms { 0 } else { ms };
        other_ms.is_none_or(|other_ms| believed(self.created_ms) >= believed(other_ms))
    }
}

fn created_of_reference(change: &Connection, reference: &str) -> rusqlite::Result<Option<u64>> {
    change
        .prepare_cached(
            "SELECT a.created_ms FROM reference r JOIN artifact a ON a.id = r.artifact_id WHERE r.text = ?1",
        )?
        .query_row([reference], |row| row::unsigned(row, 0))
        .optional()
}
