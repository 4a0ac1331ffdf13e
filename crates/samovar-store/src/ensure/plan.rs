//! What it would take to bring an artifact, before anything of it is fetched.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt as _;
use samovar_core::model::ArtifactRef;

use crate::artifact::manifest::Role;
use crate::cache::blob;
use crate::disk::blocking;
use crate::disk::layout::Layout;
use crate::disk::partial::{Note, PartialId};
use crate::ensure;
use crate::error::Error;
use crate::fetch::meter::Meter;
use crate::fetch::progress::Watch;
use crate::fetch::retry::told;
use crate::source::{Listing, Promise, RemoteFile};
use crate::store::Store;

/// What it would take to bring an artifact.
#[derive(Clone, Debug)]
pub struct FetchPlan {
    /// What the source says.
    pub listing: Listing,
    /// Bytes that are not here.
    pub missing_bytes: u64,
    /// Bytes in all, as far as the source says.
    pub total_bytes: u64,
    reference: ArtifactRef,
}

impl Store {
    /// What it would take to bring what a reference means. Fetches no model bytes. `watch` is told that the source is asked,
    /// and when it does not answer.
    ///
    /// # Errors
    /// Whatever the source says.
    pub async fn plan(&self, reference: &ArtifactRef, watch: Option<Watch>) -> Result<FetchPlan, Error> {
        let meter = Arc::new(Meter::default());
        let _watching = watch.map(|watch| meter.attach(watch));
        meter.resolving();
        let listing = told(Arc::clone(&meter), self.0.supply.of(reference)?.resolve(reference)).await?;
        ensure::check(&listing)?;
        let local = Arc::clone(&self.0.local);
        let (reference, files) = (reference.clone(), listing.files.clone());
        blocking::run(move || {
            let missing_bytes = files.iter().map(|file| missing_bytes(&local.cache.layout, file)).sum();
            let total_bytes = files.iter().filter_map(|file| file.size).sum();
            Ok(FetchPlan { listing, missing_bytes, total_bytes, reference })
        })
        .await
    }

    /// The first `bytes` of the first weights file, so that its header can be judged before all is fetched.
    /// Fewer when the file is shorter. Nothing of it is kept.
    ///
    /// # Errors
    /// Whatever the source says.
    pub async fn peek(&self, plan: &FetchPlan, bytes: u64) -> Result<Bytes, Error> {
        let file = plan.listing.files.iter().find(|file| file.role == Role::Weights);
        let file = file.ok_or_else(|| Error::Missing {
            subject: format!("the weights of {}", plan.listing.reference),
            where_: " at its source",
            hint: "choose a repository with GGUF or safetensors files".to_owned(),
        })?;
        let end = file.size.map_or(bytes, |size| size.min(bytes));
        if end == 0 {
            return Ok(Bytes::new());
        }
        let body = self.0.supply.of(&plan.reference)?.fetch(file, 0..end).await?;
        if body.start != 0 {
            return Err(Error::BadAnswer {
                subject: file.path.to_string(),
                message: format!("bytes from {} on were sent, 0 was asked", body.start),
            });
        }
        let mut stream = body.stream;
        let mut head = BytesMut::new();
        while let Some(piece) = stream.next().await {
            let piece = piece?;
            let room = (end as usize).saturating_sub(head.len());
            head.extend_from_slice(&piece[..piece.len().min(room)]);
            if head.len() as u64 >= end {
                break;
            }
        }
        Ok(head.freeze())
    }
}

/// Bytes of a file that are not here, those of an unfinished download counted as here.
fn missing_bytes(layout: &Layout, file: &RemoteFile) -> u64 {
    let size = file.size.unwrap_or(0);
    let Promise::Sha256(digest) = file.promise else { return size };
    if blob::locate(layout, &digest).ok().flatten().is_some() {
        return 0;
    }
    let note = Note::read(layout, &PartialId::of_digest(digest));
    size.saturating_sub(note.map_or(0, |note| note.done_bytes()))
}
