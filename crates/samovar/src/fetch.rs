//! Brings a model that is not here from another program on this machine, or else from its source, after a look at whether it could be loaded at all.
//!
//! ```text
//!   plan (sizes, digests) ─► first bytes ─► judge: could this ever fit? ─► ensure (the store)
//!    └ a name that leaves the quantization open: the largest that fits is chosen
//! ```

use std::sync::Arc;

use futures_util::future::BoxFuture;
use samovar_core::model::ArtifactRef;
use samovar_core::{ErrorKind, Failure, Format, format};
use samovar_store::{FetchPlan, Role, Store, Watch};
use tokio::sync::mpsc;

use crate::catalog::{Catalog, HeaderBytes, Judgement, Remote};
use crate::lazy_store::LazyStore;
use crate::options::WarmOptions;
use crate::outlook;
use crate::prepare::Order;
use crate::request::Origin;
use crate::runtime::{Runtime, blocking};
use crate::unread::News;
use crate::wait::{Tell, Wait};

/// Enough for the header of nearly every model: it holds the vocabulary, which takes a few MiB.
const HEAD_BYTES: u64 = 8 << 20;
/// No sound header is longer.
pub(crate) const HEAD_MOST_BYTES: u64 = 64 << 20;

impl Runtime {
    /// Brings a model, and each that it needs, to this machine without loading it, and prepares what no engine maps as it is, as its
    /// first request would. Returns how long that took, in milliseconds; `None` when all was here. [`Runtime::pull`] also asks
    /// the source of a model that is here.
    ///
    /// # Errors
    /// `TooLarge` when it could never be loaded; whatever the name, the source or the disk says.
    ///
    /// # Cancel safety
    /// Cancel safe: a fetch that no other caller waits for stops, and what it brought so far is kept.
    pub fn fetch<'a>(
        &'a self,
        model: &'a str,
        options: WarmOptions,
    ) -> BoxFuture<'a, Result<Option<f64>, Failure>> {
        Box::pin(async move {
            let _passing = self.inner.pack_scheduler.packer().activity_counter.enter();
            let resolved = self.inner.resolve(model, Origin::Owner, None, tell(options.waits)).await?;
            Ok(resolved.fetch_ms)
        })
    }
}

/// Fetches the model. Its bytes are in the store when this returns.
///
/// # Errors
/// `TooLarge` before anything was fetched when it could never be loaded; whatever the source or the disk says.
///
/// # Cancel safety
/// Cancel safe: what was fetched so far is kept.
pub(crate) async fn fetch(
    lazy_store: &Arc<LazyStore>,
    catalog: &Catalog,
    remote: &Remote,
    order: Order,
    watch: Watch,
) -> Result<(), Failure> {
    let opening = Arc::clone(lazy_store);
    let store = blocking(move || opening.store()).await??;
    if take_nearby(&store, &remote.reference, Some(watch.clone())).await {
        return Ok(());
    }
    // Who waited for another's taking of it finds it here, and asks no source.
    if is_here(&store, remote).await {
        store.ensure(&remote.reference, Some(watch)).await?;
        return Ok(());
    }
    let chosen = Box::pin(outlook::choose(&store, catalog, remote, Some(&watch))).await?;
    let plan = match chosen {
        Some(plan) => plan,
        None => store.plan(&remote.reference, Some(Arc::clone(&watch))).await?,
    };
    let weights: Vec<_> = plan.listing.files.iter().filter(|file| file.role == Role::Weights).collect();
    let format_of = |path: &samovar_store::FilePath| Format::of_extension(&path.extension()?);
    if let Some(first) =
        weights.first().filter(|first| format_of(&first.path).is_some_and(format::has_reader))
        && let Some(first_bytes) = first.size
    {
        let total_bytes = weights.iter().filter_map(|file| file.size).sum();
        judge(&store, &plan, catalog, remote, [first_bytes, total_bytes]).await?;
    }
    // An owner may have it prepared for another machine.
    if order == Order::Request {
        Box::pin(outlook::check_published(&store, catalog, remote, &plan)).await?;
    }
    store.ensure(&remote.reference, Some(watch)).await?;
    Ok(())
}

/// Whether another program on this machine has it, and let us have it. What cannot be had there is fetched.
pub(crate) async fn take_nearby(store: &Store, reference: &ArtifactRef, watch: Option<Watch>) -> bool {
    match store.take_nearby(reference, watch).await {
        Ok(Some(taken)) => {
            let (reference, from) = (taken.reference, taken.from.display());
            tracing::info!(reference, %from, "taken from another program's folder");
            true
        }
        Ok(None) => false,
        Err(error) => {
            tracing::warn!("what other programs have could not be used: {error}");
            false
        }
    }
}

/// Whether something of that name is in the store by now.
async fn is_here(store: &Store, remote: &Remote) -> bool {
    let (store, reference) = (store.clone(), remote.reference.clone());
    matches!(blocking(move || store.find(&reference)).await, Ok(Ok(Some(_))))
}

/// Reads as much of the beginning as the header has, and lets the catalog judge it.
async fn judge(
    store: &Store,
    plan: &FetchPlan,
    catalog: &Catalog,
    remote: &Remote,
    [file_bytes, total_bytes]: [u64; 2],
) -> Result<(), Failure> {
    let mut wanted_bytes = HEAD_BYTES;
    loop {
        let bytes = store.peek(plan, wanted_bytes.min(file_bytes)).await?;
        match catalog.judge(remote, &HeaderBytes { bytes: &bytes, file_bytes, total_bytes })? {
            Judgement::NeedsMore { needed_bytes }
                if (wanted_bytes..HEAD_MOST_BYTES).contains(&needed_bytes) =>
            {
                // A little more each time would mean a request for every string of the header.
                wanted_bytes = needed_bytes.saturating_mul(2).min(HEAD_MOST_BYTES);
            }
            // A header that is stranger still is for the gate to refuse, once the file is whole.
            Judgement::NeedsMore { .. } | Judgement::MayFit => return Ok(()),
        }
    }
}

/// Tells the callers that warm a model what it waits for. What they are too slow to read is left out.
pub(crate) fn tell(waits: Option<mpsc::Sender<Wait>>) -> Tell {
    Arc::new(move |wait| {
        if let Some(waits) = &waits {
            waits.try_send(wait).ok();
        }
    })
}

/// The same for a caller that waits for an answer.
pub(crate) fn tell_events(news: News) -> Tell {
    Arc::new(move |wait| news.tell(wait))
}

/// A watch that passes a fetch on.
pub(crate) fn watch(tell: &Tell) -> Watch {
    let tell = Arc::clone(tell);
    Arc::new(move |progress| tell(Wait::Fetching(progress)))
}

/// A deadline that passed while the model was being fetched.
pub(crate) fn too_late() -> Failure {
    Failure::new(ErrorKind::DeadlineExceeded, "the deadline passed before the model was on this machine")
        .with_hint("what came so far is kept; `samovar pull` fetches the rest without a deadline")
}
