//! What a reference means in another program's folder on this machine: taken over before anything is fetched.
//!
//! ```text
//!   here? ─ no ─► the hub's cache, Ollama's store ─ has it ─► adopted (clone, link, reference) ─► here
//!                                                  └ no ────► the source
//! ```
//!
//! Of the hub's cache only the folder of the model that is asked for is read, of Ollama's store all manifests, which are
//! small; only the files of that model are hashed. Who waits for the same name holds no thread.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use futures_util::future::BoxFuture;
use samovar_core::model::{ArtifactRef, HubRef};
use tokio::sync::OwnedMutexGuard;

use super::{AdoptKind, AdoptedArtifact, Found, hf_cache, ollama, run};
use crate::artifact::name::ModelId;
use crate::disk::blocking;
use crate::error::Error;
use crate::fetch::progress::{Progress, Watch};
use crate::local::Local;
use crate::source::folder::Bounds;
use crate::source::select::{normal_quant, preferred, with_name};
use crate::store::Store;

/// One taker of each name at a time.
#[derive(Default)]
pub(crate) struct NameLocks(Mutex<HashMap<String, Weak<tokio::sync::Mutex<()>>>>);

impl NameLocks {
    /// The turn of a name, once those before are done.
    async fn of(&self, name: String) -> OwnedMutexGuard<()> {
        let turn = {
            let mut turns = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            turns.retain(|_, turn| turn.strong_count() > 0);
            let known = turns.get(&name).and_then(Weak::upgrade);
            known.unwrap_or_else(|| {
                let turn = Arc::new(tokio::sync::Mutex::new(()));
                turns.insert(name, Arc::downgrade(&turn));
                turn
            })
        };
        turn.lock_owned().await
    }
}

impl Store {
    /// Takes over what a reference means from a neighbour of this store's settings, if one has all of it and nothing of
    /// that name is here. `None` when there is nothing to be had; what is wrong with a neighbour's files is logged.
    /// Takes as long as reading them once; who asks for the same at the same time waits, and finds it here.
    ///
    /// # Errors
    /// When this store cannot be written.
    ///
    /// # Cancel safety
    /// What has begun is finished also when no caller waits for it any more.
    pub fn take_nearby<'a>(
        &'a self,
        reference: &'a ArtifactRef,
        watch: Option<Watch>,
    ) -> BoxFuture<'a, Result<Option<AdoptedArtifact>, Error>> {
        Box::pin(async move {
            let local = &self.0.local;
            if local.config.neighbours.is_empty() || local.cache.is_barred() {
                return Ok(None);
            }
            let turn = self.0.nearby.of(reference.to_string()).await;
            let (local, reference) = (Arc::clone(local), reference.clone());
            blocking::run(move || {
                let _turn = turn;
                take(&local, &reference, watch.as_ref())
            })
            .await
        })
    }
}

fn take(
    local: &Local,
    reference: &ArtifactRef,
    watch: Option<&Watch>,
) -> Result<Option<AdoptedArtifact>, Error> {
    if local.find(reference)?.is_some() {
        return Ok(None);
    }
    for root in &local.config.neighbours {
        let Ok(bounds) = Bounds::of(&root.path) else { continue };
        let Some(found) = look(root.kind, &bounds, reference) else { continue };
        match run::one(local, &bounds, &found, watch.cloned())? {
            Ok(adopted) if local.find(reference)?.is_some() => {
                if let Some(watch) = watch {
                    watch(Progress::Nearby { from: adopted.from.clone(), bytes: adopted.bytes });
                }
                return Ok(Some(adopted));
            }
            Ok(_) => {}
            Err(skipped) => {
                let path = skipped.path.display();
                tracing::info!(%path, reason = skipped.reason, "what another program has is not used");
            }
        }
    }
    Ok(None)
}

/// The artifact that a reference means in a folder of this kind.
fn look(kind: AdoptKind, bounds: &Bounds, reference: &ArtifactRef) -> Option<Found> {
    // What is passed over while looking is what a whole `adopt` would tell.
    let mut skipped = Vec::new();
    let text = reference.to_string();
    match (kind, reference) {
        (AdoptKind::HuggingFace, ArtifactRef::Hub(hub)) => {
            let model: ModelId = format!("{}/{}", hub.org(), hub.name()).parse().ok()?;
            choose(hf_cache::scan_model(bounds, &model, &mut skipped), hub, &text)
        }
        (AdoptKind::Ollama, _) if text.starts_with("ollama://") || text.starts_with("hf://") => {
            let found = ollama::scan(bounds, &mut skipped);
            found.into_iter().find(|found| found.texts().any(|known| known == text))
        }
        _ => None,
    }
}

/// By its text, else of the branch that is meant: the asked quantization, else the preferred one that is there.
fn choose(mut found: Vec<Found>, hub: &HubRef, text: &str) -> Option<Found> {
    if let Some(at) = found.iter().position(|found| found.texts().any(|known| known == text)) {
        return Some(found.swap_remove(at));
    }
    if hub.file().is_some() {
        return None;
    }
    let model = format!("{}/{}", hub.org(), hub.name());
    found.retain(|found| {
        let is_of_revision = match hub.revision() {
            None => found.revision.as_deref() == Some("main"),
            Some(revision) => {
                found.revision.as_deref() == Some(revision) || found.key.commit.as_str() == revision
            }
        };
        is_of_revision && found.key.model.as_str() == model
    });
    let quants = found.iter().map(|found| found.key.quant.as_str());
    let quant = match hub.quant() {
        Some(quant) => with_name(quants, &normal_quant(quant)),
        None => preferred(quants),
    }?;
    let at = found.iter().position(|found| found.key.quant == quant)?;
    Some(found.swap_remove(at))
}
