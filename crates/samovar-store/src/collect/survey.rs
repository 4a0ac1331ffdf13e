//! What is there: the index, the leases and the disk put side by side. Changes nothing.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use samovar_core::Digest;

use super::uptime_history::UptimeHistory;
use super::view::{ArtifactFacts, BlobFacts, Leftover, LeftoverKind, View};
use super::worth;
use crate::artifact::Artifact;
use crate::artifact::key::KeyDigest;
use crate::artifact::manifest;
use crate::cache::tier::ReadOnly;
use crate::derived::file::{DerivedKind, entries as derived_files};
use crate::derived::prefix::quota;
use crate::disk::layout::Layout;
use crate::disk::lease::{self, alone};
use crate::disk::lock::{FileLock, Hold};
use crate::disk::partial::{Note, PartialId};
use crate::disk::plain;
use crate::disk::space::{bytes_below, changed_ms, entries, free_disk_bytes};
use crate::error::Error;
use crate::index::{BlobRow, Ownership};
use crate::local::Local;

/// How deep leftovers are looked into.
const DEPTH: u32 = 16;

/// The store at one moment, with what the plan does not need to know.
pub(crate) struct Survey {
    pub(crate) view: View,
    /// In the order of [`View::artifacts`].
    pub(crate) artifacts: Vec<Artifact>,
    /// Blobs by what the index says of them; strays are missing here.
    pub(crate) rows: HashMap<Digest, BlobRow>,
    /// In the order of [`View::leftovers`].
    pub(crate) leftovers: Vec<LeftoverPath>,
    /// What living processes use, each with the id of one of them.
    pub(crate) held: BTreeMap<Digest, u32>,
}

/// Where a leftover lies.
#[derive(Clone, Debug)]
pub(crate) struct LeftoverPath {
    pub(crate) path: PathBuf,
    /// The download or making whose lock protects it.
    pub(crate) partial: Option<PartialId>,
    /// What leases on it say.
    pub(crate) lease: Option<Digest>,
}

impl LeftoverPath {
    fn of(path: PathBuf) -> Self {
        Self { path, partial: None, lease: None }
    }
}

impl Survey {
    /// Looks at everything.
    ///
    /// # Errors
    /// When the index or a directory cannot be read.
    pub(crate) fn take(local: &Local, uptime_history: &UptimeHistory) -> Result<Self, Error> {
        let layout = &local.cache.layout;
        let held = held_but_by(layout, None)?;
        let artifacts = local.cache.index.artifacts()?;
        let rows: HashMap<Digest, BlobRow> =
            local.cache.index.blobs()?.into_iter().map(|row| (row.digest, row)).collect();
        let mut survey = Self { view: View::default(), artifacts, rows, leftovers: Vec::new(), held };
        let fail = Error::io("the cache could not be looked through");
        survey.look(local, uptime_history).map_err(fail)?;
        Ok(survey)
    }

    fn look(&mut self, local: &Local, uptime_history: &UptimeHistory) -> std::io::Result<()> {
        let layout = &local.cache.layout;
        let links = OwnLinks::count(layout)?;
        for row in self.rows.values() {
            let facts = BlobFacts {
                frees_bytes: links.frees_bytes(layout, row),
                is_held: self.held.contains_key(&row.digest),
                idle_ms: uptime_history.age_ms(row.created_ms),
            };
            self.view.blobs.insert(row.digest, facts);
        }
        self.strays(layout, &links, uptime_history)?;
        self.view.artifacts = self.artifacts.iter().map(|artifact| facts(artifact, uptime_history)).collect();
        self.snapshots(layout, uptime_history)?;
        self.partials(local, uptime_history)?;
        self.rubbish(&layout.tmp(), LeftoverKind::Tmp, uptime_history)?;
        self.rubbish(&layout.trash(), LeftoverKind::Trash, uptime_history)?;
        self.rubbish(&layout.quarantines(), LeftoverKind::Quarantine, uptime_history)?;
        for kept in quota::kept(layout)? {
            self.push(LeftoverKind::Prefix, LeftoverPath::of(kept.path), uptime_history);
        }
        for kind in DerivedKind::ALL {
            self.derived(local, kind, uptime_history)?;
        }
        self.view.free_disk_bytes = free_disk_bytes(layout.root())?;
        Ok(())
    }

    /// Blobs that the index does not know. One that a manifest names waits for the index to be mended.
    fn strays(
        &mut self,
        layout: &Layout,
        links: &OwnLinks,
        uptime_history: &UptimeHistory,
    ) -> std::io::Result<()> {
        let mut strays = Vec::new();
        for shard in layout.blob_shards() {
            for (name, path) in entries(&shard)? {
                let digest = name.strip_suffix(".ref").unwrap_or(&name).parse::<Digest>();
                match digest {
                    Ok(digest) if self.rows.contains_key(&digest) => (),
                    Ok(digest) => strays.push((digest, path)),
                    Err(_) => self.push(LeftoverKind::Orphan, LeftoverPath::of(path), uptime_history),
                }
            }
        }
        let named = if strays.is_empty() { HashSet::new() } else { self.named_elsewhere(layout)? };
        for (digest, path) in strays {
            let Ok(file) = fs_err::symlink_metadata(&path) else { continue };
            let facts = BlobFacts {
                frees_bytes: links.frees_of(&file),
                is_held: self.held.contains_key(&digest) || named.contains(&digest),
                idle_ms: uptime_history.age_ms(changed_ms(&file)),
            };
            self.view.blobs.insert(digest, facts);
        }
        Ok(())
    }

    /// What manifests need that the index does not know.
    fn named_elsewhere(&self, layout: &Layout) -> std::io::Result<HashSet<Digest>> {
        let known: HashSet<KeyDigest> = self.artifacts.iter().map(|artifact| artifact.key_digest).collect();
        let mut named = HashSet::new();
        for (name, path) in entries(&layout.manifests())? {
            let key = name.strip_suffix(".json").and_then(KeyDigest::parse);
            if key.is_some_and(|key| known.contains(&key)) {
                continue;
            }
            let Ok(bytes) = plain::read(layout.root(), &path, manifest::BYTES) else { continue };
            let Ok(manifest) = serde_json::from_slice::<manifest::Manifest>(&bytes) else { continue };
            named.extend(manifest.files.iter().map(|file| file.digest));
        }
        Ok(named)
    }

    fn snapshots(&mut self, layout: &Layout, uptime_history: &UptimeHistory) -> std::io::Result<()> {
        let known: HashSet<String> =
            self.artifacts.iter().map(|artifact| artifact.key_digest.to_string()).collect();
        for (name, path) in entries(&layout.snapshots())? {
            if !known.contains(&name) {
                self.push(LeftoverKind::Orphan, LeftoverPath::of(path), uptime_history);
            }
        }
        Ok(())
    }

    /// What is on its way in, or was when its process died: downloads, and derived files that are made.
    fn partials(&mut self, local: &Local, uptime_history: &UptimeHistory) -> std::io::Result<()> {
        let layout = &local.cache.layout;
        let mut counted = HashSet::new();
        for (kind, dir) in [(LeftoverKind::Partial, layout.partials()), (LeftoverKind::Tmp, layout.packing())]
        {
            for (name, path) in entries(&dir)? {
                let partial = PartialId::parse(&name);
                let (bytes, changed_ms) = bytes_below(&path, DEPTH);
                let is_held = partial.is_some_and(|id| is_locked(layout, &id));
                if let Some(id) = partial {
                    let declared = is_held.then(|| match kind {
                        LeftoverKind::Partial => Note::read(layout, &id).and_then(|note| note.size),
                        _ => derived_files::expected_bytes(layout, &path),
                    });
                    let promised = declared.flatten().max(local.room.promised_bytes(&id)).unwrap_or(0);
                    self.view.promised_bytes += promised.saturating_sub(bytes);
                    counted.insert(id);
                }
                // A download is taken up again; a derived file is begun anew.
                let is_needless = kind != LeftoverKind::Partial;
                let leftover = Leftover::of(kind, uptime_history.age_ms(changed_ms));
                self.view.leftovers.push(Leftover { bytes, is_held, is_needless, ..leftover });
                self.leftovers.push(LeftoverPath { partial, ..LeftoverPath::of(path) });
            }
        }
        self.view.promised_bytes += local.room.promised_bytes_besides(&counted);
        Ok(())
    }

    /// Packed or prepared files. One whose artifact has gone, or that cannot be found, is of no use.
    fn derived(
        &mut self,
        local: &Local,
        kind: DerivedKind,
        uptime_history: &UptimeHistory,
    ) -> std::io::Result<()> {
        let known: HashSet<KeyDigest> = self.artifacts.iter().map(|artifact| artifact.key_digest).collect();
        let is_gone = |parent: &KeyDigest| !known.contains(parent) && !may_be_in_tiers(local, parent);
        let leftover_kind = match kind {
            DerivedKind::Packed => LeftoverKind::Packed,
            DerivedKind::Prepared => LeftoverKind::Prepared,
        };
        for kept in derived_files::kept(&local.cache.layout, kind)? {
            let is_orphan = kept.parent().is_some_and(|parent| is_gone(&parent));
            // A model that was prepared in another number format later is still used as it was before.
            let is_outdone = kept.is_outdone && kind == DerivedKind::Packed;
            let parent = kept.parent();
            let is_needless = is_orphan || !kept.is_known();
            let is_held = kept.id.is_some_and(|id| self.held.contains_key(&id));
            let place = LeftoverPath { lease: kept.id, ..LeftoverPath::of(kept.path) };
            self.push(leftover_kind, place, uptime_history);
            if let Some(leftover) = self.view.leftovers.last_mut() {
                *leftover = Leftover { is_held, is_needless, is_outdone, parent, ..*leftover };
            }
        }
        Ok(())
    }

    fn rubbish(
        &mut self,
        dir: &Path,
        kind: LeftoverKind,
        uptime_history: &UptimeHistory,
    ) -> std::io::Result<()> {
        for (_, path) in entries(dir)? {
            self.push(kind, LeftoverPath::of(path), uptime_history);
        }
        Ok(())
    }

    fn push(&mut self, kind: LeftoverKind, place: LeftoverPath, uptime_history: &UptimeHistory) {
        let (bytes, changed_ms) = bytes_below(&place.path, DEPTH);
        let idle_ms = uptime_history.age_ms(changed_ms);
        self.view.leftovers.push(Leftover { bytes, ..Leftover::of(kind, idle_ms) });
        self.leftovers.push(place);
    }
}

fn facts(artifact: &Artifact, uptime_history: &UptimeHistory) -> ArtifactFacts {
    let age_ms = uptime_history.age_ms(artifact.created_ms);
    ArtifactFacts {
        key: artifact.key_digest,
        blobs: artifact.files.iter().map(|file| file.digest).collect(),
        is_pinned: artifact.is_pinned,
        idle_ms: uptime_history.age_ms(artifact.usage.last_ms.max(artifact.created_ms)),
        rank: worth::rank(&artifact.usage, artifact.bytes(), age_ms),
    }
}

/// Whether a read-only store has this artifact, or cannot be asked now.
fn may_be_in_tiers(local: &Local, key: &KeyDigest) -> bool {
    let is_one_away = local.tiers.all().len() < local.config.read_only_dirs.len();
    let has_it = |tier: &ReadOnly| {
        let found = tier.index().and_then(|index| index.artifact_in_any_state(key));
        found.map_or(true, |artifact| artifact.is_some())
    };
    is_one_away || local.tiers.all().iter().any(has_it)
}

/// What living processes use; waits for moments, so that no process is just writing a lease.
pub(crate) fn held_but_by(layout: &Layout, process: Option<u32>) -> Result<BTreeMap<Digest, u32>, Error> {
    if !layout.is_writable() {
        return Ok(BTreeMap::new());
    }
    let _alone = alone(layout)?;
    lease::held_but_by(layout, process).map_err(Error::io("the leases could not be read"))
}

/// Names of blobs in our own snapshots, by device and inode: they go together with the blob.
#[derive(Debug, Default)]
pub(crate) struct OwnLinks(HashMap<(u64, u64), u64>);

impl OwnLinks {
    /// Counts them.
    ///
    /// # Errors
    /// When the snapshots cannot be listed.
    pub(crate) fn count(layout: &Layout) -> std::io::Result<Self> {
        let mut links = Self::default();
        links.count_below(&layout.snapshots(), DEPTH)?;
        Ok(links)
    }

    fn count_below(&mut self, dir: &Path, depth: u32) -> std::io::Result<()> {
        for (_, path) in entries(dir)? {
            match fs_err::symlink_metadata(&path) {
                Ok(found) if found.is_dir() && depth > 0 => self.count_below(&path, depth - 1)?,
                Ok(found) if found.is_file() => *self.0.entry((found.dev(), found.ino())).or_default() += 1,
                _ => (),
            }
        }
        Ok(())
    }

    /// What unlinking a blob gives back: nothing where another program has the file too, or where it is not ours.
    pub(crate) fn frees_bytes(&self, layout: &Layout, row: &BlobRow) -> u64 {
        if row.origin == Ownership::Reference {
            return 0;
        }
        match plain::metadata(layout.root(), &layout.blob(&row.digest)) {
            Ok(Some(file)) => self.frees_of(&file),
            _ => 0,
        }
    }

    fn frees_of(&self, file: &std::fs::Metadata) -> u64 {
        let own = 1 + self.0.get(&(file.dev(), file.ino())).copied().unwrap_or(0);
        if file.nlink() > own { 0 } else { file.len() }
    }
}

/// Whether a process works on a download. A lock that was never taken is free, and is not made for this.
pub(crate) fn is_locked(layout: &Layout, id: &PartialId) -> bool {
    let path = layout.blob_lock(id);
    path.exists() && !matches!(FileLock::try_now(layout.root(), &path, Hold::Shared), Ok(Some(_)))
}
