//! Where the bytes are: what each part of the store takes of the disk.

use serde::{Deserialize, Serialize};

use crate::collect::{self, LeftoverKind};
use crate::error::Error;
use crate::index::Ownership;
use crate::store::Store;

/// What the store takes of the disk, in bytes. [`DiskUse::used_bytes`] is the sum of what counts against the quota.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskUse {
    /// Artifacts.
    pub artifacts: u64,
    /// Their blobs; one that several artifacts need counts once.
    pub blobs: u64,
    /// Bytes of artifacts that are the store's alone.
    pub artifact_bytes: u64,
    /// Bytes of artifacts whose files other programs have too: removing them frees nothing.
    pub shared_bytes: u64,
    /// Bytes of artifacts that are used where other programs keep them.
    pub referenced_bytes: u64,
    /// Bytes that are not stored twice because artifacts have blobs in common.
    pub deduplicated_bytes: u64,
    /// Bytes of pinned artifacts, shared ones included.
    pub pinned_bytes: u64,
    /// Downloads that are not whole, as far as they take room.
    pub partial_bytes: u64,
    /// What downloads on their way will still take.
    pub promised_bytes: u64,
    /// What no artifact needs.
    pub orphan_bytes: u64,
    /// What was found damaged.
    pub quarantine_bytes: u64,
    /// Files under construction.
    pub tmp_bytes: u64,
    /// Saved prefixes: prompt state that instances left behind.
    #[serde(default)]
    pub prefixes: u64,
    /// Their bytes.
    #[serde(default)]
    pub prefix_bytes: u64,
    /// Of the quota, what they may take.
    #[serde(default)]
    pub prefix_quota_bytes: u64,
    /// Packed files: weights in an engine's own layout.
    #[serde(default)]
    pub packed: u64,
    /// Their bytes.
    #[serde(default)]
    pub packed_bytes: u64,
    /// Prepared models: published ones in a format that an engine maps.
    #[serde(default)]
    pub prepared: u64,
    /// Their bytes.
    #[serde(default)]
    pub prepared_bytes: u64,
    /// What waits for being unlinked.
    pub trash_bytes: u64,
    /// The index; not counted against the quota.
    pub index_bytes: u64,
    /// What counts against the quota.
    pub used_bytes: u64,
    /// The quota.
    pub quota_bytes: u64,
    /// What the disk has left.
    pub free_disk_bytes: u64,
    /// What stays free of it whatever is fetched.
    pub min_free_bytes: u64,
}

impl Store {
    /// Looks where the bytes are. Blocks; changes nothing.
    ///
    /// # Errors
    /// When the index or a directory cannot be read.
    pub fn disk_use(&self) -> Result<DiskUse, Error> {
        let local = &*self.0.local;
        let survey = collect::survey(local, false)?;
        let limits = collect::limits(local, &survey, 0);
        let mut usage = DiskUse {
            artifacts: survey.artifacts.len() as u64,
            promised_bytes: survey.view.promised_bytes,
            index_bytes: index_bytes(local.cache.layout.index_path()),
            used_bytes: collect::used_bytes(&survey.view),
            quota_bytes: limits.quota_bytes,
            prefix_quota_bytes: limits.prefix_bytes,
            free_disk_bytes: survey.view.free_disk_bytes,
            min_free_bytes: limits.min_free_bytes,
            ..DiskUse::default()
        };
        usage.count_blobs(&survey);
        usage.count_leftovers(&survey);
        Ok(usage)
    }
}

impl DiskUse {
    fn count_blobs(&mut self, survey: &collect::survey::Survey) {
        let files = || survey.artifacts.iter().flat_map(|artifact| &artifact.files);
        let needed: std::collections::HashMap<_, u64> =
            files().map(|file| (file.digest, file.size)).collect();
        self.blobs = needed.len() as u64;
        self.deduplicated_bytes = files().map(|file| file.size).sum::<u64>() - needed.values().sum::<u64>();
        for (digest, blob) in &survey.view.blobs {
            let Some(size) = needed.get(digest) else {
                self.orphan_bytes += blob.frees_bytes;
                continue;
            };
            let is_referenced = survey.rows.get(digest).is_some_and(|row| row.origin == Ownership::Reference);
            match (is_referenced, blob.frees_bytes) {
                (true, _) => self.referenced_bytes += size,
                (false, 0) => self.shared_bytes += size,
                (false, bytes) => self.artifact_bytes += bytes,
            }
        }
        let pinned = survey.artifacts.iter().filter(|artifact| artifact.is_pinned);
        self.pinned_bytes = pinned.map(crate::artifact::Artifact::bytes).sum();
    }

    fn count_leftovers(&mut self, survey: &collect::survey::Survey) {
        for leftover in &survey.view.leftovers {
            let part = match leftover.kind {
                LeftoverKind::Partial => &mut self.partial_bytes,
                LeftoverKind::Orphan => &mut self.orphan_bytes,
                LeftoverKind::Tmp => &mut self.tmp_bytes,
                LeftoverKind::Trash => &mut self.trash_bytes,
                LeftoverKind::Quarantine => &mut self.quarantine_bytes,
                LeftoverKind::Prefix => {
                    self.prefixes += 1;
                    &mut self.prefix_bytes
                }
                LeftoverKind::Packed => {
                    self.packed += 1;
                    &mut self.packed_bytes
                }
                LeftoverKind::Prepared => {
                    self.prepared += 1;
                    &mut self.prepared_bytes
                }
            };
            *part += leftover.bytes;
        }
    }
}

/// The index with its journals.
fn index_bytes(path: &std::path::Path) -> u64 {
    ["", "-wal", "-shm", "-journal"]
        .iter()
        .filter_map(|suffix| {
            let mut name = path.as_os_str().to_owned();
            name.push(suffix);
            fs_err::metadata(std::path::PathBuf::from(name)).ok()
        })
        .map(|file| file.len())
        .sum()
}
