//! Brings a whole artifact into the store: asks its source, brings what is missing, commits.
//!
//! ```text
//!   resolve ─► key ─► here? ─► lease, room for all ─► each file: FetchedFile ─► manifest ─► index
//! ```
//!
//! The commit is the last step. What was brought before it is leased until then; when the process dies in
//! between, the blobs are found again by the next who asks.

pub(crate) mod fetched_file;
pub(crate) mod flight;
pub(crate) mod ingest;
pub(crate) mod plan;

use std::sync::Arc;

use samovar_core::model::ArtifactRef;
use serde::Serialize;

use crate::artifact::Artifact;
use crate::artifact::key::KeyDigest;
use crate::artifact::manifest::{self, Manifest, ManifestFile};
use crate::cache::{Cache, blob, manifests};
use crate::collect::promise::Reservation;
use crate::collect::room;
use crate::disk::blocking;
use crate::disk::lease::BlobLease;
use crate::disk::partial::PartialId;
use crate::error::Error;
use crate::fetch::meter::Meter;
use crate::fetch::retry::told;
use crate::index::{BlobRow, Use, now_ms};
use crate::local::Local;
use crate::source::{Listing, Promise, Source};
use fetched_file::{FetchedFile, FileFetcher};

/// An artifact that was asked for at its source.
#[derive(Clone, Debug, Serialize)]
pub struct Pulled {
    /// The artifact.
    pub artifact: Artifact,
    /// Bytes that this process fetched for it.
    pub fetched_bytes: u64,
    /// All of it was here before.
    pub was_here: bool,
}

/// Brings what a reference means at its source now.
///
/// # Errors
/// Whatever the source, the disk or the quota says.
///
/// # Cancel safety
/// Dropping it stops at the next step; what was written is kept.
pub(crate) async fn bring(
    local: &Arc<Local>,
    source: &dyn Source,
    reference: &ArtifactRef,
    meter: &Arc<Meter>,
) -> Result<Pulled, Error> {
    meter.resolving();
    let listing = told(Arc::clone(meter), resolve(local, source, reference)).await?;
    check(&listing)?;
    let key = listing.key.digest();
    if let Some(artifact) = whole(local, key).await? {
        note_names(local, reference, &listing, key).await?;
        return Ok(Pulled { artifact, fetched_bytes: 0, was_here: true });
    }
    local.cache.writable(&listing.reference)?;
    let fetched_files = bring_files(local, source, &listing, meter).await?;
    let fetched_bytes = meter.fetched_bytes();
    let artifact = commit(local, &listing, fetched_files).await?;
    note_names(local, reference, &listing, key).await?;
    local.cache.index.note(&key, Use::Fetched { bytes: fetched_bytes, ms: meter.fetching_ms() });
    Ok(Pulled { artifact, fetched_bytes, was_here: false })
}

/// What a reference means at its source now. One that leaves the quantization open means what it meant before, as long as the
/// source has that.
///
/// # Errors
/// Whatever the source says.
pub(crate) async fn resolve(
    local: &Arc<Local>,
    source: &dyn Source,
    reference: &ArtifactRef,
) -> Result<Listing, Error> {
    let (looking, asked) = (Arc::clone(local), reference.clone());
    // Without an index it is chosen again.
    let chosen = blocking::run(move || Ok(looking.chosen(&asked).ok().flatten())).await?;
    if let Some(chosen) = chosen {
        match source.resolve(&chosen).await {
            Err(Error::Choice { .. } | Error::Missing { .. }) => {
                tracing::warn!(%reference, %chosen, "what a name meant so far is not at its source any more");
                let (forgetting, asked) = (Arc::clone(local), reference.clone());
                let forget = move || {
                    forgetting.forget_choice(&asked);
                    Ok(())
                };
                blocking::run(forget).await?;
            }
            resolved => return resolved,
        }
    }
    source.resolve(reference).await
}

/// A listing comes from outside.
pub(crate) fn check(listing: &Listing) -> Result<(), Error> {
    let mut sizes = listing.files.iter().map(|file| file.size.unwrap_or(0));
    let total = sizes.try_fold(0u64, u64::checked_add);
    let fault = manifest::fault_of(listing.files.iter().map(|file| &file.path))
        .or(total.is_none().then_some("its files have more bytes than there can be"));
    match fault {
        None => Ok(()),
        Some(fault) => {
            Err(Error::BadAnswer { subject: listing.reference.clone(), message: fault.to_owned() })
        }
    }
}

/// The artifact of a key, if all of it is here and right, in the cache or a read-only store.
async fn whole(local: &Arc<Local>, key: KeyDigest) -> Result<Option<Artifact>, Error> {
    let local = Arc::clone(local);
    blocking::run(move || {
        let artifact = local.cache.with_index(|index| index.artifact(&key))?;
        match artifact {
            Some(artifact) if local.cache.is_right(&artifact)? => Ok(Some(artifact)),
            _ => Ok(local.tiers.first(|_, index| index.artifact(&key))),
        }
    })
    .await
}

async fn bring_files(
    local: &Arc<Local>,
    source: &dyn Source,
    listing: &Listing,
    meter: &Arc<Meter>,
) -> Result<Vec<FetchedFile>, Error> {
    let total_bytes = listing.files.iter().filter_map(|file| file.size).sum();
    meter.begin(listing.files.len() as u32, total_bytes);
    let (_kept, mut room) = make_room(local, listing).await?;
    let file_fetcher = FileFetcher { local, source, source_id: &listing.key.source, meter };
    let mut fetched_files = Vec::with_capacity(listing.files.len());
    for file in &listing.files {
        fetched_files.push(file_fetcher.bring(file).await?);
        room.release(&fetched_file::id_of(&listing.key.source, file));
    }
    Ok(fetched_files)
}

/// Leases what is here already and reserves room for the rest: an artifact that does not fit is refused before
/// its first byte, and what it shares with others is not collected to make room for it.
async fn make_room(local: &Arc<Local>, listing: &Listing) -> Result<(BlobLease, Reservation), Error> {
    let (local, reference) = (Arc::clone(local), listing.reference.clone());
    let (source, files) = (listing.key.source.clone(), listing.files.clone());
    blocking::run(move || {
        let digests = files.iter().filter_map(|file| match file.promise {
            Promise::Sha256(digest) => Some(digest),
            _ => None,
        });
        let lease = local.cache.leases.take(&digests.collect::<Vec<_>>())?;
        let missing = files.iter().filter(|file| match file.promise {
            Promise::Sha256(digest) => !matches!(blob::locate(&local.cache.layout, &digest), Ok(Some(_))),
            _ => true,
        });
        let needs: Vec<(PartialId, u64)> =
            missing.map(|file| (fetched_file::id_of(&source, file), file.size.unwrap_or(0))).collect();
        let reservation = room::reserve(&local, &reference, &needs)?;
        Ok((lease, reservation))
    })
    .await
}

/// Writes the manifest and the index. Once begun it is finished, even if no caller waits.
async fn commit(
    local: &Arc<Local>,
    listing: &Listing,
    fetched_files: Vec<FetchedFile>,
) -> Result<Artifact, Error> {
    let files = listing.files.iter().zip(&fetched_files).map(|(file, fetched_file)| ManifestFile {
        path: file.path.clone(),
        role: file.role,
        size: fetched_file.row.size,
        digest: fetched_file.row.digest,
    });
    let manifest = Manifest {
        format: manifest::FORMAT,
        key: listing.key.clone(),
        revision: listing.revision.clone(),
        reference: listing.reference.clone(),
        files: files.collect(),
        created_ms: now_ms(),
    };
    let local = Arc::clone(local);
    blocking::run(move || {
        let blobs: Vec<BlobRow> = fetched_files.iter().map(|fetched_file| fetched_file.row).collect();
        let artifact = record(&local.cache, manifest, &blobs)?;
        // Only now nothing of it can be taken for rubbish.
        drop(fetched_files);
        Ok(artifact)
    })
    .await
}

/// Makes an artifact of blobs that are here: its manifest first, then the index.
///
/// # Errors
/// Whatever the system says. A manifest without its row in the index comes back with the next rebuild.
pub(crate) fn record(cache: &Cache, manifest: Manifest, blobs: &[BlobRow]) -> Result<Artifact, Error> {
    let recorded = manifests::write(&cache.layout, manifest)?;
    cache.with_index(|index| index.commit_artifact(&recorded.manifest, recorded.digest, blobs))
}

/// Remembers what the user's words and the moving name mean now.
async fn note_names(
    local: &Arc<Local>,
    reference: &ArtifactRef,
    listing: &Listing,
    key: KeyDigest,
) -> Result<(), Error> {
    let (local, text, model) = (Arc::clone(local), reference.to_string(), listing.key.clone());
    let revision = listing.revision.clone();
    blocking::run(move || {
        // These are memos: without them the source is asked again.
        let noted = local.cache.index.note_reference(&text, &key).and_then(|()| match revision {
            Some(name) => local.cache.index.set_ref(&model.source, &model.model, &name, &model.commit),
            None => Ok(()),
        });
        if let Err(error) = noted {
            tracing::warn!(%error, "what a name means was not noted");
        }
        Ok(())
    })
    .await
}
