//! What it would take to bring an artifact, in each form in which its source has it, before anything of it is fetched.

use std::ops::Range;
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
use crate::source::select::family_of;
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

impl FetchPlan {
    fn new(layout: &Layout, listing: Listing, reference: ArtifactRef) -> Self {
        let missing_bytes = listing.files.iter().map(|file| missing_bytes(layout, file)).sum();
        let total_bytes = listing.files.iter().filter_map(|file| file.size).sum();
        Self { listing, missing_bytes, total_bytes, reference }
    }

    /// What means this artifact alone.
    pub fn reference(&self) -> &ArtifactRef {
        &self.reference
    }

    /// The files with weights, in the order of their parts.
    pub fn weights(&self) -> impl Iterator<Item = &RemoteFile> {
        self.listing.files.iter().filter(|file| file.role == Role::Weights)
    }

    /// What the weights of one model in several quantizations have in common: their name without the quantization.
    pub fn family(&self) -> String {
        self.weights().next().map(|file| family_of(file.path.as_str())).unwrap_or_default()
    }
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
        let source = self.0.supply.of(reference)?;
        let listing = told(Arc::clone(&meter), ensure::resolve(&self.0.local, source, reference)).await?;
        ensure::check(&listing)?;
        let (local, reference) = (Arc::clone(&self.0.local), reference.clone());
        blocking::run(move || Ok(FetchPlan::new(&local.cache.layout, listing, reference))).await
    }

    /// The same of every form in which the source has what a reference leaves open, such as the quantizations of a repository,
    /// each with a reference of its own; of a reference that leaves nothing open, of that.
    ///
    /// # Errors
    /// As [`Store::plan`].
    pub async fn variants(
        &self,
        reference: &ArtifactRef,
        watch: Option<Watch>,
    ) -> Result<Vec<FetchPlan>, Error> {
        let meter = Arc::new(Meter::default());
        let _watching = watch.map(|watch| meter.attach(watch));
        meter.resolving();
        let source = self.0.supply.of(reference)?;
        let listings = told(Arc::clone(&meter), source.variants(reference)).await?;
        listings.iter().try_for_each(ensure::check)?;
        let (local, asked) = (Arc::clone(&self.0.local), reference.clone());
        blocking::run(move || {
            let plan = |listing: Listing| {
                // Only a hub leaves something open, and the references of its listings can be read.
                let own = match &asked {
                    ArtifactRef::Hub(_) => listing.reference.parse::<ArtifactRef>().ok(),
                    ArtifactRef::Remote(_) => None,
                };
                FetchPlan::new(&local.cache.layout, listing, own.unwrap_or_else(|| asked.clone()))
            };
            Ok(listings.into_iter().map(plan).collect())
        })
        .await
    }

    /// The first `bytes` of the first weights file, so that its header can be judged before all is fetched.
    /// Fewer when the file is shorter. Nothing of it is kept.
    ///
    /// # Errors
    /// Whatever the source says.
    pub async fn peek(&self, plan: &FetchPlan, bytes: u64) -> Result<Bytes, Error> {
        let file = plan.weights().next().ok_or_else(|| Error::Missing {
            subject: format!("the weights of {}", plan.listing.reference),
            where_: " at its source",
            hint: "choose a repository with GGUF or safetensors files".to_owned(),
        })?;
        self.read_part(plan, file, 0..bytes).await
    }

    /// A part of one of the plan's files; less where the file ends earlier. Nothing of it is kept.
    ///
    /// # Errors
    /// Whatever the source says; [`Error::BadAnswer`] where it sends another part.
    pub async fn read_part(
        &self,
        plan: &FetchPlan,
        file: &RemoteFile,
        range: Range<u64>,
    ) -> Result<Bytes, Error> {
        let start = range.start;
        let end = file.size.map_or(range.end, |size| size.min(range.end));
        let Some(wanted_bytes) = end.checked_sub(start).filter(|bytes| *bytes > 0) else {
            return Ok(Bytes::new());
        };
        let body = self.0.supply.of(&plan.reference)?.fetch(file, start..end).await?;
        // A server that knows no ranges sends the file from its beginning.
        let Some(mut before_bytes) = start.checked_sub(body.start) else {
            return Err(Error::BadAnswer {
                subject: file.path.to_string(),
                message: format!("bytes from {} on were sent, {start} was asked", body.start),
            });
        };
        let mut stream = body.stream;
        let mut part = BytesMut::new();
        while let Some(piece) = stream.next().await {
            let piece = piece?;
            let passed = (before_bytes as usize).min(piece.len());
            before_bytes -= passed as u64;
            let piece = piece.slice(passed..);
            let room = (wanted_bytes as usize).saturating_sub(part.len());
            part.extend_from_slice(&piece[..piece.len().min(room)]);
            if part.len() as u64 >= wanted_bytes {
                break;
            }
        }
        Ok(part.freeze())
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
