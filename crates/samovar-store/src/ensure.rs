//! Brings a whole artifact into the store: asks its source, brings what is missing, commits.
//!
//! ```text
//!   resolve ─► key ─► here? ─► lease, room for all ─► each file: arrival ─► manifest ─► index
//! ```
//!
//! The commit is the last step. What was brought before it is leased until then; when the process dies in
//! between, the blobs are found again by the next who asks.

use std::sync::Arc;

use samovar_core::model::ArtifactRef;

use crate::arrival::{self, Arrival, Carrier};
use crate::artifact::Artifact;
use crate::blob;
use crate::blocking;
use crate::error::Error;
use crate::index::{BlobRow, Use, now_ms};
use crate::key::KeyDigest;
use crate::lease::Lease;
use crate::manifest::{self, Manifest, ManifestFile};
use crate::manifests;
use crate::meter::Meter;
use crate::partial::PartialId;
use crate::room::{self, Reservation};
use crate::source::{Listing, Promise, Source};
use crate::store::{Inner, Pulled};

/// Brings what a reference means at its source now.
///
/// # Errors
/// Whatever the source, the disk or the quota says.
///
/// # Cancel safety
/// Dropping it stops at the next step; what was written is kept.
pub(crate) async fn bring(
    inner: &Arc<Inner>,
    reference: &ArtifactRef,
    meter: &Arc<Meter>,
) -> Result<Pulled, Error> {
    let source = inner.source_of(reference)?;
    meter.resolving();
    let listing = source.resolve(reference).await?;
    check(&listing)?;
    let key = listing.key.digest();
    if let Some(artifact) = whole(inner, key).await? {
        note_names(inner, reference, &listing, key).await?;
        return Ok(Pulled { artifact, fetched_bytes: 0, was_here: true });
    }
    inner.writable(&listing.reference)?;
    let arrivals = bring_files(inner, source, &listing, meter).await?;
    let fetched_bytes = meter.fetched_bytes();
    let artifact = commit(inner, &listing, arrivals).await?;
    note_names(inner, reference, &listing, key).await?;
    inner.index.note(&key, Use::Fetched { bytes: fetched_bytes, ms: meter.fetching_ms() });
    Ok(Pulled { artifact, fetched_bytes, was_here: false })
}

/// A listing comes from outside.
pub(crate) fn check(listing: &Listing) -> Result<(), Error> {
    let mut sizes = listing.files.iter().map(|file| file.size.unwrap_or(0));
    let total = sizes.try_fold(0u64, u64::checked_add);
    let fault = manifest::fault_of(listing.files.iter().map(|file| &file.path))
        .or(total.is_none().then_some("its files have more bytes than there can be"));
    match fault {
        None => Ok(()),
        Some(fault) => Err(Error::Lie { subject: listing.reference.clone(), message: fault.to_owned() }),
    }
}

/// The artifact of a key, if all of it is here and right, in the cache or a read-only store.
async fn whole(inner: &Arc<Inner>, key: KeyDigest) -> Result<Option<Artifact>, Error> {
    let inner = Arc::clone(inner);
    blocking::run(move || {
        let artifact = inner.with_index(|index| index.artifact(&key))?;
        match artifact {
            Some(artifact) if is_right(&inner, &artifact)? => Ok(Some(artifact)),
            _ => Ok(inner.in_tiers(|_, index| index.artifact(&key))),
        }
    })
    .await
}

/// Whether every file of an artifact is here and unchanged.
pub(crate) fn is_right(inner: &Inner, artifact: &Artifact) -> Result<bool, Error> {
    for file in &artifact.files {
        if arrival::here(inner, &file.digest, Some(file.size))?.is_none() {
            return Ok(false);
        }
    }
    Ok(true)
}

async fn bring_files(
    inner: &Arc<Inner>,
    source: &dyn Source,
    listing: &Listing,
    meter: &Arc<Meter>,
) -> Result<Vec<Arrival>, Error> {
    let total_bytes = listing.files.iter().filter_map(|file| file.size).sum();
    meter.begin(listing.files.len() as u32, total_bytes);
    let (_kept, mut room) = make_room(inner, listing).await?;
    let carrier = Carrier { inner, source, source_id: &listing.key.source, meter };
    let mut arrivals = Vec::with_capacity(listing.files.len());
    for file in &listing.files {
        arrivals.push(carrier.bring(file).await?);
        room.release(&arrival::id_of(&listing.key.source, file));
    }
    Ok(arrivals)
}

/// Leases what is here already and reserves room for the rest: an artifact that does not fit is refused before
/// its first byte, and what it shares with others is not collected to make room for it.
async fn make_room(inner: &Arc<Inner>, listing: &Listing) -> Result<(Lease, Reservation), Error> {
    let (inner, reference) = (Arc::clone(inner), listing.reference.clone());
    let (source, files) = (listing.key.source.clone(), listing.files.clone());
    blocking::run(move || {
        let digests = files.iter().filter_map(|file| match file.promise {
            Promise::Sha256(digest) => Some(digest),
            _ => None,
        });
        let lease = inner.leases.take(&digests.collect::<Vec<_>>())?;
        let missing = files.iter().filter(|file| match file.promise {
            Promise::Sha256(digest) => !matches!(blob::locate(&inner.layout, &digest), Ok(Some(_))),
            _ => true,
        });
        let needs: Vec<(PartialId, u64)> =
            missing.map(|file| (arrival::id_of(&source, file), file.size.unwrap_or(0))).collect();
        let reservation = room::reserve(&inner, &reference, &needs)?;
        Ok((lease, reservation))
    })
    .await
}

/// Writes the manifest and the index. Once begun it is finished, whoever waits.
async fn commit(inner: &Arc<Inner>, listing: &Listing, arrivals: Vec<Arrival>) -> Result<Artifact, Error> {
    let files = listing.files.iter().zip(&arrivals).map(|(file, arrival)| ManifestFile {
        path: file.path.clone(),
        role: file.role,
        size: arrival.row.size,
        digest: arrival.row.digest,
    });
    let manifest = Manifest {
        format: manifest::FORMAT,
        key: listing.key.clone(),
        revision: listing.revision.clone(),
        reference: listing.reference.clone(),
        files: files.collect(),
        created_ms: now_ms(),
    };
    let inner = Arc::clone(inner);
    blocking::run(move || {
        let blobs: Vec<BlobRow> = arrivals.iter().map(|arrival| arrival.row).collect();
        let artifact = record(&inner, manifest, &blobs)?;
        // Only now nothing of it can be taken for rubbish.
        drop(arrivals);
        Ok(artifact)
    })
    .await
}

/// Makes an artifact of blobs that are here: its manifest first, then the index.
///
/// # Errors
/// Whatever the system says. A manifest without its row in the index comes back with the next rebuild.
pub(crate) fn record(inner: &Inner, manifest: Manifest, blobs: &[BlobRow]) -> Result<Artifact, Error> {
    let recorded = manifests::write(&inner.layout, manifest)?;
    inner.with_index(|index| index.commit_artifact(&recorded.manifest, recorded.digest, blobs))
}

/// Remembers what the user's words and the moving name mean now.
async fn note_names(
    inner: &Arc<Inner>,
    reference: &ArtifactRef,
    listing: &Listing,
    key: KeyDigest,
) -> Result<(), Error> {
    let (inner, text, model) = (Arc::clone(inner), reference.to_string(), listing.key.clone());
    let revision = listing.revision.clone();
    blocking::run(move || {
        // These are memos: without them the source is asked again.
        let noted = inner.index.note_reference(&text, &key).and_then(|()| match revision {
            Some(name) => inner.index.set_ref(&model.source, &model.model, &name, &model.commit),
            None => Ok(()),
        });
        if let Err(error) = noted {
            tracing::warn!(%error, "what a name means was not noted");
        }
        Ok(())
    })
    .await
}
