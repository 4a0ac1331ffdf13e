//! What a reference means in another program's folder on this machine: taken over before anything is fetched.
//!
//! ```text
//!   here? ─ no ─► the hub's cache, Ollama's store ─ has it ─► adopted (clone, link, reference) ─► here
//!                                                  └ no ────► the source
//! ```
//!
//! Only the folder of the model that is asked for is read, and only its files are hashed.

use std::sync::PoisonError;

use samovar_core::model::{ArtifactRef, HubRef};

use super::{AdoptKind, AdoptedArtifact, Found, hf_cache, ollama, run};
use crate::error::Error;
use crate::name::ModelId;
use crate::progress::{Progress, Watch};
use crate::source::folder::Bounds;
use crate::source::select::{MIXTURE, PREFERRED, normal_quant};
use crate::store::Store;

impl Store {
    /// Takes over what a reference means from a neighbour of this store's settings, if one has all of it and nothing of
    /// that name is here. `None` when there is nothing to be had; what is wrong with a neighbour's files is logged.
    /// Blocks for as long as reading them once takes; who asks at the same time waits.
    ///
    /// # Errors
    /// When this store cannot be written.
    pub fn take_nearby(
        &self,
        reference: &ArtifactRef,
        watch: Option<&Watch>,
    ) -> Result<Option<AdoptedArtifact>, Error> {
        let inner = &self.0;
        if inner.config.neighbours.is_empty() || inner.barred.is_some() {
            return Ok(None);
        }
        let _turn = inner.ingesting.lock().unwrap_or_else(PoisonError::into_inner);
        if inner.find(reference)?.is_some() {
            return Ok(None);
        }
        for root in &inner.config.neighbours {
            let Ok(bounds) = Bounds::of(&root.path) else { continue };
            let Some(found) = look(root.kind, &bounds, reference) else { continue };
            match run::one(inner, &bounds, &found, watch.cloned())? {
                Ok(adopted) if inner.find(reference)?.is_some() => {
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
        (AdoptKind::Ollama, ArtifactRef::Remote(_)) if text.starts_with("ollama://") => {
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
    let place = |quant: &str| found.iter().position(|found| found.key.quant == quant);
    let at = match hub.quant() {
        Some(quant) => {
            let quant = normal_quant(quant);
            place(&quant).or_else(|| place(&format!("{MIXTURE}{quant}")))
        }
        None => PREFERRED.iter().find_map(|quant| place(quant)).or((found.len() == 1).then_some(0)),
    };
    at.map(|at| found.swap_remove(at))
}
