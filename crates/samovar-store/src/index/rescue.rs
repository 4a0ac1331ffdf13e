//! What of a damaged index can still be read: how artifacts were used, and the counters. All else is in the files.

use std::path::Path;

use rusqlite::{Connection, OpenFlags, Row};
use samovar_core::Digest;

use super::Index;
use super::access::{Durability, PATIENCE};
use super::row::{self, DigestBytes};
use crate::error::Error;

/// The columns of `usage`, after its artifact.
const FIGURES: &str =
    "hits, misses, last_ms, rate_ewma, load_n, load_ms_ewma, held_bytes, mapped_bytes, fetch_bps_ewma";

/// The figures of one artifact, as they lie in the file.
struct Figures {
    key: Digest,
    integers: [i64; 6],
    averages: [f64; 3],
}

impl Index {
    /// Takes over figures and counters from an index that was set aside, as far as they can be read; those of
    /// artifacts that have figures of their own by now stay. How many artifacts got theirs back.
    ///
    /// # Errors
    /// When this index cannot be written.
    pub(crate) fn rescue(&self, aside: &Path) -> Result<usize, Error> {
        let Ok(old) = Connection::open_with_flags(aside, OpenFlags::SQLITE_OPEN_READ_ONLY) else {
            return Ok(0);
        };
        let figures = read(
            &old,
            &format!("SELECT a.key, {FIGURES} FROM usage JOIN artifact a ON a.id = artifact_id"),
            figures,
        );
        let counters = read(&old, "SELECT name, value FROM counters", |row| {
            Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?))
        });
        self.access.write(Durability::Process, PATIENCE, |change| {
            let mut rescued = 0;
            let mut insert = change.prepare_cached(&format!(
                "INSERT OR IGNORE INTO usage (artifact_id, {FIGURES})
                 SELECT id, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10 FROM artifact WHERE key = ?1"
            ))?;
            for Figures { key, integers: [hits, misses, last_ms, loads, held, mapped], averages } in &figures
            {
                let [rate, load_ms, fetch] = averages;
                let key = DigestBytes(*key);
                rescued += insert
                    .execute((key, hits, misses, last_ms, rate, loads, load_ms, held, mapped, fetch))?;
            }
            let mut add = change.prepare_cached(
                "INSERT INTO counters (name, value) VALUES (?1, ?2)
                 ON CONFLICT (name) DO UPDATE SET value = value + excluded.value",
            )?;
            counters.iter().try_for_each(|(name, value)| add.execute((name, value)).map(drop))?;
            Ok(rescued)
        })
    }
}

fn figures(row: &Row<'_>) -> rusqlite::Result<Figures> {
    Ok(Figures {
        key: row::digest(row, 0)?,
        integers: [row.get(1)?, row.get(2)?, row.get(3)?, row.get(5)?, row.get(7)?, row.get(8)?],
        averages: [row.get(4)?, row.get(6)?, row.get(9)?],
    })
}

/// All rows up to the first that cannot be read.
fn read<T>(old: &Connection, query: &str, row: impl FnMut(&Row<'_>) -> rusqlite::Result<T>) -> Vec<T> {
    let Ok(mut statement) = old.prepare(query) else { return Vec::new() };
    let Ok(rows) = statement.query_map([], row) else { return Vec::new() };
    rows.map_while(Result::ok).collect()
}

#[cfg(test)]
mod tests {
    use super::super::{BlobRow, BlobState, Journal, Ownership, Stamp, Use};
    use super::*;
    use crate::artifact::key::{ArtifactKey, KeyDigest};
    use crate::artifact::manifest::{FORMAT, Manifest, ManifestFile, Role};

    fn index(path: &Path) -> Index {
        Index::open(path, Journal::Wal).unwrap().index
    }

    fn commit(index: &Index) -> KeyDigest {
        let digest = Digest::of_bytes(b"bytes");
        let key = ArtifactKey {
            source: "built-in".parse().unwrap(),
            model: "m".parse().unwrap(),
            commit: "1".parse().unwrap(),
            quant: String::new(),
            modality: "text".to_owned(),
        };
        let file = ManifestFile { path: "m.gguf".parse().unwrap(), role: Role::Weights, size: 5, digest };
        let (reference, files) = ("m".to_owned(), vec![file]);
        let manifest = Manifest { format: FORMAT, key, revision: None, reference, files, created_ms: 1 };
        let row = BlobRow {
            digest,
            size: 5,
            state: BlobState::Ready,
            verified_ms: 1,
            stamp: Stamp { size: 5, ..Stamp::default() },
            origin: Ownership::Owned,
            created_ms: 1,
        };
        index.commit_artifact(&manifest, digest, &[row]).unwrap().key_digest
    }

    #[test]
    fn figures_and_counters_come_over_and_newer_figures_stay() {
        let dir = tempfile::tempdir().unwrap();
        let old = index(&dir.path().join("old"));
        let key = commit(&old);
        (0..5).for_each(|_| old.note(&key, Use::Hit));
        old.note(&key, Use::Fetched { bytes: 1_000, ms: 10.0 });
        old.count("hits", 5);
        old.flush();
        drop(old);
        let new = index(&dir.path().join("new"));
        commit(&new);
        new.count("hits", 1);
        new.flush();
        assert_eq!(new.rescue(&dir.path().join("old")).unwrap(), 1);
        let usage = new.artifact(&key).unwrap().unwrap().usage;
        assert_eq!((usage.hits, usage.fetch_bytes_per_s), (5, 100_000.0));
        assert_eq!(new.counters().unwrap()["hits"], 6);
        assert_eq!(new.rescue(&dir.path().join("old")).unwrap(), 0, "it has figures of its own by now");
    }

    #[test]
    fn what_is_no_index_gives_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let (index, aside) = (index(&dir.path().join("index")), dir.path().join("aside"));
        assert_eq!(index.rescue(&aside).unwrap(), 0);
        fs_err::write(&aside, "no database").unwrap();
        assert_eq!(index.rescue(&aside).unwrap(), 0);
        assert!(index.counters().unwrap().is_empty());
    }
}
