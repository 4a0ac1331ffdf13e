//! How something leaves: out of the way under the lock, unlinked outside of it.
//!
//! ```text
//!   gc.lock, exclusive ┌ read the leases again ─► mark `deleting` ─► manifest, blobs ─► trash/ ─► forget the rows
//!                      └─ a few artifacts at a time, so that an open waits for moments only
//!   no lock              unlink what lies in trash/
//! ```
//!
//! A crash between two steps leaves rows marked `deleting`; the next process that opens the store finishes or undoes
//! them (see [`super::recover`]). Nothing under `blobs/` is ever unlinked in place, and nothing is written into.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::io;
use std::path::{Path, PathBuf};

use samovar_core::Digest;

use super::plan::{Collection, Why};
use super::survey::Survey;
use super::view::LeftoverKind;
use crate::artifact::Artifact;
use crate::artifact::key::KeyDigest;
use crate::cache::Cache;
use crate::derived::file::entries;
use crate::disk::durable::random_name;
use crate::disk::layout::Layout;
use crate::disk::lease::{self, alone};
use crate::disk::lock::{FileLock, Hold};
use crate::disk::partial::PartialId;
use crate::disk::space::bytes_below;
use crate::disk::trash::empty_trash;
use crate::error::Error;
use crate::index::BlobState;

/// Artifacts or blobs that leave under one hold of the lock.
const BATCH: usize = 32;

/// What left.
#[derive(Debug, Default)]
pub(crate) struct Done {
    /// Artifacts, with the bytes that each freed.
    pub(crate) artifacts: Vec<(KeyDigest, u64)>,
    /// Places in the survey's leftovers.
    pub(crate) leftovers: Vec<usize>,
    /// Blobs that no artifact needed, and their bytes.
    pub(crate) orphans: (u64, u64),
}

/// Lets go what the plan says, except what was taken into use since.
///
/// # Errors
/// When the index or the disk refuses; what had not left yet stays as it was.
pub(crate) fn act(cache: &Cache, survey: &Survey, plan: &Collection) -> Result<Done, Error> {
    let mut done = Done::default();
    for batch in plan.artifacts.chunks(BATCH) {
        done.artifacts.extend(take_away(cache, survey, batch, plan.user)?);
    }
    let needed: HashSet<Digest> =
        survey.view.artifacts.iter().flat_map(|artifact| artifact.blobs.iter().copied()).collect();
    let orphans: Vec<Digest> = plan.blobs.iter().copied().filter(|digest| !needed.contains(digest)).collect();
    for batch in orphans.chunks(BATCH) {
        let (blobs, bytes) = take_orphans(cache, batch)?;
        done.orphans = (done.orphans.0 + blobs, done.orphans.1 + bytes);
    }
    let gone: HashSet<KeyDigest> = done.artifacts.iter().map(|(key, _)| *key).collect();
    let stayed: HashSet<KeyDigest> =
        plan.artifacts.iter().map(|(key, _)| *key).filter(|key| !gone.contains(key)).collect();
    for index in &plan.leftovers {
        // What was to leave with an artifact that was taken into use meanwhile.
        if survey.view.leftovers[*index].parent.is_some_and(|parent| stayed.contains(&parent)) {
            continue;
        }
        if sweep(cache, survey, *index)? {
            done.leftovers.push(*index);
        }
    }
    empty_trash(&cache.layout);
    Ok(done)
}

/// Lets artifacts go, under one hold of the lock. Those in use by now stay, unless all of their blobs do and `user` alone
/// uses them.
fn take_away(
    cache: &Cache,
    survey: &Survey,
    wanted: &[(KeyDigest, Why)],
    user: Option<u32>,
) -> Result<Vec<(KeyDigest, u64)>, Error> {
    let layout = &cache.layout;
    let _alone = alone(layout)?;
    let held = lease::held(layout).map_err(Error::io("the leases could not be read"))?;
    let by_others = user.map(|_| lease::held_but_by(layout, user)).transpose();
    let by_others = by_others.map_err(Error::io("the leases could not be read"))?;
    let in_the_way = by_others.as_ref().unwrap_or(&held);
    let mut leaving = Vec::new();
    for (key, why) in wanted {
        let Some(artifact) = cache.index.artifact_in_any_state(key)? else { continue };
        let is_kept = artifact.is_pinned && *why != Why::Asked;
        let is_free = !is_held(&artifact, in_the_way) && (user.is_none() || is_shared(cache, &artifact)?);
        if !is_kept && is_free {
            leaving.push(artifact);
        }
    }
    let blobs = Blobs::of(cache, survey, &leaving, &held)?;
    let keys: Vec<KeyDigest> = leaving.iter().map(|artifact| artifact.key_digest).collect();
    let digests: Vec<Digest> = blobs.free.keys().copied().collect();
    cache.index.set_blob_states(&digests, BlobState::Deleting)?;
    let mut moves = Moves::default();
    // The manifests first: without them nothing claims to be there.
    let own = keys.iter().flat_map(|key| {
        [layout.manifest(key), layout.snapshot(key), layout.pin(key), layout.prefixes_of(key)]
    });
    let moved = own
        .chain(digests.iter().flat_map(|digest| blob_paths(layout, digest)))
        .try_for_each(|path| moves.take(layout, &path));
    let forgotten = moved
        .map_err(Error::io("an artifact could not be moved out of the way"))
        .and_then(|()| cache.index.forget(&keys, &digests));
    if let Err(error) = forgotten {
        moves.undo();
        // When this fails too, the next process that opens the store does it.
        let _ = cache.index.set_blob_states(&digests, BlobState::Ready);
        return Err(error);
    }
    Ok(blobs.shares(&leaving))
}

/// Whether a process uses an artifact; as in [`super::view::is_in_use`].
fn is_held(artifact: &Artifact, held: &BTreeMap<Digest, u32>) -> bool {
    !artifact.files.is_empty() && artifact.files.iter().all(|file| held.contains_key(&file.digest))
}

/// Whether other artifacts need each of its blobs.
fn is_shared(cache: &Cache, artifact: &Artifact) -> Result<bool, Error> {
    for file in &artifact.files {
        let users = cache.index.artifacts_with_blob(&file.digest)?;
        if users.iter().all(|user| user.key_digest == artifact.key_digest) {
            return Ok(false);
        }
    }
    Ok(!artifact.files.is_empty())
}

/// Blobs that leave together with artifacts.
struct Blobs {
    /// With the bytes that each gives back.
    free: BTreeMap<Digest, u64>,
    /// Keep others from bringing the same bytes in meanwhile.
    claims: Vec<Claim>,
}

impl Blobs {
    /// Those that no other process needs, uses, or is just bringing in.
    fn of(
        cache: &Cache,
        survey: &Survey,
        leaving: &[Artifact],
        held: &BTreeMap<Digest, u32>,
    ) -> Result<Self, Error> {
        let keys: HashSet<KeyDigest> = leaving.iter().map(|artifact| artifact.key_digest).collect();
        let digests: BTreeSet<Digest> =
            leaving.iter().flat_map(|artifact| artifact.files.iter().map(|file| file.digest)).collect();
        let mut blobs = Self { free: BTreeMap::new(), claims: Vec::new() };
        for digest in digests {
            let users = cache.index.artifacts_with_blob(&digest)?;
            if held.contains_key(&digest) || users.iter().any(|user| !keys.contains(&user.key_digest)) {
                continue;
            }
            let Some(claim) = claim(&cache.layout, &PartialId::of_digest(digest))? else { continue };
            let frees_bytes = survey.view.blobs.get(&digest).map_or(0, |blob| blob.frees_bytes);
            blobs.free.insert(digest, frees_bytes);
            blobs.claims.push(claim);
        }
        Ok(blobs)
    }

    /// What each artifact's going gives back; what several shared counts for the last.
    fn shares(mut self, gone: &[Artifact]) -> Vec<(KeyDigest, u64)> {
        let mut shares: Vec<(KeyDigest, u64)> = gone
            .iter()
            .rev()
            .map(|artifact| {
                let bytes = artifact.files.iter().filter_map(|file| self.free.remove(&file.digest)).sum();
                (artifact.key_digest, bytes)
            })
            .collect();
        shares.reverse();
        shares
    }
}

/// Lets blobs go that no artifact needs. Those that are needed by now stay. How many went, and their bytes.
fn take_orphans(cache: &Cache, digests: &[Digest]) -> Result<(u64, u64), Error> {
    let layout = &cache.layout;
    let _alone = alone(layout)?;
    let held = lease::held(layout).map_err(Error::io("the leases could not be read"))?;
    let (mut claims, mut free) = (Vec::new(), Vec::new());
    for digest in digests {
        if held.contains_key(digest) || !cache.index.artifacts_with_blob(digest)?.is_empty() {
            continue;
        }
        let Some(claim) = claim(layout, &PartialId::of_digest(*digest))? else { continue };
        claims.push(claim);
        free.push(*digest);
    }
    cache.index.set_blob_states(&free, BlobState::Deleting)?;
    let paths = free.iter().flat_map(|digest| blob_paths(layout, digest));
    let bytes: u64 = paths.clone().map(|path| bytes_below(&path, 0).0).sum();
    let mut moves = Moves::default();
    let moved = paths.clone().try_for_each(|path| moves.take(layout, &path));
    moved.map_err(Error::io("a blob could not be moved out of the way"))?;
    cache.index.remove_blobs(&free)?;
    Ok((free.len() as u64, bytes))
}

/// Lets a leftover go; false when a process works on it by now.
fn sweep(cache: &Cache, survey: &Survey, index: usize) -> Result<bool, Error> {
    let place = &survey.leftovers[index];
    if survey.view.leftovers[index].kind == LeftoverKind::Trash {
        return Ok(true);
    }
    if survey.view.leftovers[index].kind.is_derived_file() {
        return entries::take_unless_held(&cache.layout, &place.path, place.lease);
    }
    let claim = place.partial.as_ref().map(|id| claim(&cache.layout, id)).transpose()?;
    if matches!(claim, Some(None)) {
        return Ok(false);
    }
    let moved = Moves::default().take(&cache.layout, &place.path);
    moved.map_err(Error::io("unused files could not be moved out of the way"))?;
    Ok(true)
}

/// What was moved to the trash, so that it can come back.
#[derive(Default)]
pub(crate) struct Moves(Vec<(PathBuf, PathBuf)>);

impl Moves {
    /// Moves what lies there, if anything does.
    pub(crate) fn take(&mut self, layout: &Layout, path: &Path) -> io::Result<()> {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let to = layout.trash().join(format!("{}-{name}", random_name()));
        match fs_err::rename(path, &to) {
            Ok(()) => {
                self.0.push((path.to_owned(), to));
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn undo(self) {
        for (from, to) in self.0.into_iter().rev() {
            if let Err(error) = fs_err::rename(&to, &from) {
                tracing::error!(%error, "what was moved out of the way could not be moved back");
            }
        }
    }
}

/// Where a blob's bytes, or the note of where they lie, may be.
pub(crate) fn blob_paths(layout: &Layout, digest: &Digest) -> [PathBuf; 2] {
    [layout.blob(digest), layout.blob_reference(digest)]
}

/// Keeps others from bringing in what is just leaving.
pub(crate) struct Claim {
    _lock: Option<FileLock>,
}

/// Claims a blob or download; `None` when a process works on it. Where none ever did, no lock is made: one that
/// begins now leases first, and waits for `gc.lock` with that.
pub(crate) fn claim(layout: &Layout, id: &PartialId) -> Result<Option<Claim>, Error> {
    let path = layout.blob_lock(id);
    if fs_err::symlink_metadata(&path).is_err() {
        return Ok(Some(Claim { _lock: None }));
    }
    let lock = FileLock::try_now(layout.root(), &path, Hold::Exclusive);
    let lock = lock.map_err(Error::io("a blob could not be locked"))?;
    Ok(lock.map(|lock| Claim { _lock: Some(lock) }))
}
