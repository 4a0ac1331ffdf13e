//! What a collection left half done when its process died: finished, or undone.
//!
//! A manifest that still lies under its name, with all of its bytes, had not begun to leave: its blobs are
//! ready again. Otherwise the rest follows what is gone already. Only rows of the dead are met here, since a
//! living collector holds `gc.lock` while its rows are marked.

use std::collections::{BTreeSet, HashMap};

use samovar_core::Digest;

use super::act::{Moves, blob_paths, claim};
use crate::artifact::Artifact;
use crate::artifact::key::KeyDigest;
use crate::cache::blob;
use crate::disk::layout::Layout;
use crate::disk::lease::{self, alone};
use crate::disk::partial::PartialId;
use crate::disk::plain;
use crate::error::Error;
use crate::index::{BlobState, Index};

/// Brings the index and the disk together again where a collection broke off.
///
/// # Errors
/// When the index or the disk refuses.
pub(crate) fn recover(layout: &Layout, index: &Index) -> Result<(), Error> {
    if index.blobs_in(BlobState::Deleting)?.is_empty() {
        return Ok(());
    }
    let _alone = alone(layout)?;
    let held = lease::held(layout).map_err(Error::io("the leases could not be read"))?;
    let mut halves: HashMap<KeyDigest, Artifact> = HashMap::new();
    let mut marked = BTreeSet::new();
    for row in index.blobs_in(BlobState::Deleting)? {
        let users = index.artifacts_with_blob(&row.digest)?;
        halves.extend(users.into_iter().map(|artifact| (artifact.key_digest, artifact)));
        marked.insert(row.digest);
    }
    let mut moves = Moves::default();
    let fail = || Error::io("a broken-off collection could not be finished");
    for (key, artifact) in &halves {
        if is_whole(layout, artifact)? {
            let back: Vec<Digest> = artifact
                .files
                .iter()
                .map(|file| file.digest)
                .filter(|digest| marked.remove(digest))
                .collect();
            index.set_blob_states(&back, BlobState::Ready)?;
        } else {
            let own = [layout.manifest(key), layout.snapshot(key), layout.pin(key), layout.prefixes_of(key)];
            for path in own {
                moves.take(layout, &path).map_err(fail())?;
            }
            index.remove_artifact(key)?;
        }
    }
    for digest in marked {
        if held.contains_key(&digest) {
            continue;
        }
        let Some(_claim) = claim(layout, &PartialId::of_digest(digest))? else { continue };
        for path in blob_paths(layout, &digest) {
            moves.take(layout, &path).map_err(fail())?;
        }
        index.remove_blob(&digest)?;
    }
    Ok(())
}

fn is_whole(layout: &Layout, artifact: &Artifact) -> Result<bool, Error> {
    let manifest = plain::metadata(layout.root(), &layout.manifest(&artifact.key_digest))
        .map_err(Error::io("a manifest could not be looked at"))?;
    if manifest.is_none() {
        return Ok(false);
    }
    for file in &artifact.files {
        if blob::locate(layout, &file.digest)?.is_none_or(|place| place.stamp.size != file.size) {
            return Ok(false);
        }
    }
    Ok(true)
}
