//! Bytes that a client sends under a digest that it promised, and models that are made of them.
//!
//! ```text
//!   begin_upload(digest) ─► room ─► tmp/<random> ◄─ write ─ write ─► finish: as promised? ─► blobs/…
//!                                                                                  └► assemble: an artifact of blobs
//! ```
//!
//! An upload that breaks off leaves nothing. A blob that no artifact needs within an hour is collected like any other.

use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Arc;

use fs_err::File;
use samovar_core::Digest;
use samovar_core::digest::Hasher;

use crate::artifact::Artifact;
use crate::artifact::key::ArtifactKey;
use crate::artifact::manifest::{self, Manifest, ManifestFile, Role};
use crate::artifact::name::FilePath;
use crate::collect::promise::Reservation;
use crate::collect::room;
use crate::disk::durable;
use crate::disk::lease::BlobLease;
use crate::disk::partial::PartialId;
use crate::ensure::{self, ingest};
use crate::error::Error;
use crate::index::now_ms;
use crate::local::Local;
use crate::store::Store;

/// Room that is asked for at a time for bytes whose number is not known.
const STEP_BYTES: u64 = 16 << 20;

/// Bytes on their way in. Dropping it throws away what came. All calls block.
pub struct Upload {
    local: Arc<Local>,
    digest: Digest,
    path: PathBuf,
    file: File,
    hasher: Hasher,
    done_bytes: u64,
    /// Bytes for which there is room.
    granted_bytes: u64,
    room: Option<Reservation>,
    /// So that it is not collected before it is an artifact's.
    _lease: BlobLease,
}

impl Store {
    /// How many bytes the blob of this digest has, if it is here. Blocks; a file that was touched since is hashed once.
    ///
    /// # Errors
    /// When it cannot be looked at.
    pub fn blob_bytes(&self, digest: &Digest) -> Result<Option<u64>, Error> {
        Ok(self.0.local.cache.here(digest, None)?.map(|row| row.size))
    }

    /// Begins to take in the bytes of this digest, of which there are so many if that is known. Room is made for them.
    ///
    /// # Errors
    /// [`Error::NoRoom`] when the quota or the disk cannot hold them; whatever keeps the cache from being written.
    pub fn begin_upload(&self, digest: Digest, size_bytes: Option<u64>) -> Result<Upload, Error> {
        let local = Arc::clone(&self.0.local);
        local.cache.writable(&subject(&digest))?;
        let lease = local.cache.leases.take(&[digest])?;
        let granted_bytes = size_bytes.unwrap_or(STEP_BYTES);
        let room = reserve(&local, digest, granted_bytes)?;
        let path = local.cache.layout.tmp().join(durable::random_name());
        let file = durable::create_new(&path).map_err(Error::io("the blob could not be written"))?;
        Ok(Upload {
            local,
            digest,
            path,
            file,
            hasher: Hasher::new(),
            done_bytes: 0,
            granted_bytes,
            room: Some(room),
            _lease: lease,
        })
    }

    /// Makes an artifact of blobs that are here, each under its place in the artifact. Blocks.
    ///
    /// # Errors
    /// [`Error::Missing`] for a blob that is not here; whatever keeps the cache from being written.
    pub fn assemble(
        &self,
        key: ArtifactKey,
        reference: &str,
        files: &[(FilePath, Role, Digest)],
    ) -> Result<Artifact, Error> {
        let cache = &self.0.local.cache;
        if let Some(artifact) = self.artifact(&key.digest())? {
            return Ok(artifact);
        }
        cache.writable(reference)?;
        let digests: Vec<Digest> = files.iter().map(|(_, _, digest)| *digest).collect();
        let _lease = cache.leases.take(&digests)?;
        let (mut named, mut rows) = (Vec::new(), Vec::new());
        for (path, role, digest) in files {
            let row = cache.here(digest, None)?.ok_or_else(|| Error::Missing {
                subject: subject(digest),
                where_: " in the cache",
                hint: "send its bytes first".to_owned(),
            })?;
            named.push(ManifestFile { path: path.clone(), role: *role, size: row.size, digest: *digest });
            rows.push(row);
        }
        let manifest = Manifest {
            format: manifest::FORMAT,
            key,
            revision: None,
            reference: reference.to_owned(),
            files: named,
            created_ms: now_ms(),
        };
        ensure::record(cache, manifest, &rows)
    }
}

impl Upload {
    /// Takes in the next bytes.
    ///
    /// # Errors
    /// [`Error::NoRoom`] when there is no room for more than were announced; whatever the disk says.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let end_bytes = self.done_bytes + bytes.len() as u64;
        if end_bytes > self.granted_bytes {
            // What was written counts as used by now.
            let more_bytes = STEP_BYTES.max(end_bytes - self.granted_bytes);
            drop(self.room.replace(reserve(&self.local, self.digest, more_bytes)?));
            self.granted_bytes += more_bytes;
        }
        self.file.write_all(bytes).map_err(Error::io("the blob could not be written"))?;
        self.hasher.update(bytes);
        self.done_bytes = end_bytes;
        Ok(())
    }

    /// Gives the bytes their name, all of them being here. Returns how many there are.
    ///
    /// # Errors
    /// [`Error::Mismatch`] when they are not the promised ones; whatever the disk says.
    pub fn finish(mut self) -> Result<u64, Error> {
        let got = std::mem::take(&mut self.hasher).finish();
        if got != self.digest {
            return Err(Error::Mismatch {
                subject: subject(&self.digest),
                expected: format!("sha256:{}", self.digest),
                got: format!("sha256:{got}"),
            });
        }
        let cache = &self.local.cache;
        let row = ingest::publish(&cache.layout, &self.file, &self.path, &self.digest)?;
        cache.index.put_blob(&row)?;
        Ok(row.size)
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        // Renamed away, or not wanted any more.
        let _ = fs_err::remove_file(&self.path);
    }
}

fn reserve(local: &Local, digest: Digest, bytes: u64) -> Result<Reservation, Error> {
    room::reserve(local, &subject(&digest), &[(PartialId::of_digest(digest), bytes)])
}

fn subject(digest: &Digest) -> String {
    format!("the blob sha256:{digest}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::StoreConfig;

    fn store(home: &tempfile::TempDir, max_size_bytes: Option<u64>) -> Store {
        let config = StoreConfig::new(home.path().join("cache"), home.path().join("state"));
        Store::open(StoreConfig { max_size_bytes, min_free_bytes: 0, ..config }).expect("opens")
    }

    fn key() -> ArtifactKey {
        ArtifactKey {
            source: "uploaded".parse().expect("source"),
            model: "m".parse().expect("model"),
            commit: "c".parse().expect("commit"),
            quant: String::new(),
            modality: "text".to_owned(),
        }
    }

    #[test]
    fn bytes_become_a_blob_under_the_promised_digest_alone() {
        let home = tempfile::tempdir().expect("temporary folder");
        let store = store(&home, None);
        let digest = Digest::of_bytes(b"some bytes");
        let path: FilePath = "model.gguf".parse().expect("path");
        let files = [(path, Role::Weights, digest)];
        assert!(matches!(store.assemble(key(), "x", &files), Err(Error::Missing { .. })));
        for size_bytes in [None, Some(3)] {
            let mut upload = store.begin_upload(digest, size_bytes).expect("begins");
            upload.write(b"other bytes").expect("writes");
            assert!(matches!(upload.finish(), Err(Error::Mismatch { .. })));
        }
        assert_eq!(store.blob_bytes(&digest).expect("looks"), None);
        for _ in 0..2 {
            let mut upload = store.begin_upload(digest, Some(10)).expect("begins");
            upload.write(b"some ").expect("writes");
            upload.write(b"bytes").expect("writes");
            assert_eq!(upload.finish().expect("finishes"), 10);
        }
        drop(store.begin_upload(digest, None).expect("begins"));
        assert_eq!(fs_err::read_dir(home.path().join("cache/tmp")).expect("lists").count(), 0);
        assert_eq!(store.blob_bytes(&digest).expect("looks"), Some(10));
        let artifact = store.assemble(key(), "x", &files).expect("assembles");
        assert_eq!((artifact.bytes(), artifact.reference.as_str()), (10, "x"));
        let opened = store.open_artifact(&artifact.key_digest).expect("opens");
        assert_eq!(fs_err::read(&opened.weights()[0]).expect("reads"), b"some bytes");
    }

    #[test]
    fn more_than_the_quota_is_refused_before_the_first_byte() {
        let home = tempfile::tempdir().expect("temporary folder");
        let store = store(&home, Some(1 << 20));
        let digest = Digest::of_bytes(b"x");
        let refused = store.begin_upload(digest, Some(2 << 20));
        assert!(matches!(refused.map(drop), Err(Error::NoRoom { .. })));
        let mut upload = store.begin_upload(digest, Some(1)).expect("begins");
        // More bytes than were announced meet the same quota.
        assert!(matches!(upload.write(&vec![0; 2 << 20]), Err(Error::NoRoom { .. })));
    }
}
