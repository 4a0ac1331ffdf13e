//! What the bytes of models say: read once for each identity of bytes, and never changed afterwards.
//!
//! ```text
//!   a file ──── stat ──► device, inode, size, time ─┐
//!                                                   ├─► WeightsId ─► known? ─ no ─► header (the gate) ─► Facts
//!   an artifact ────────► its key ──────────────────┤
//!   a prepared model ───► what it was made of, how ─┘
//! ```
//!
//! No setting of an owner's is in here, and nothing that is measured: those meet the facts in `specify`, for each request.

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use samovar_core::port::{Capabilities, EngineInfo};
use samovar_core::{Descriptor, Failure, ModelFiles, WeightsId, format};
use samovar_store::Artifact;

use super::customs::Customs;
use super::stamp::Stamp;
use super::stored::{has_reader, no_engine_for};
use super::target::{ModelLocation, Target};
use super::{Catalog, Remote};
use crate::bounded::BoundedMap;
use crate::weights;

/// Models whose facts are known at a time; those of others are read again.
const FACTS_MAX: usize = 1_024;

/// What some bytes say.
#[derive(Debug)]
pub(super) struct Facts {
    /// Which bytes.
    pub(super) weights: WeightsId,
    /// The same as the pool's keys say it.
    pub(super) identity: String,
    /// The files that an engine loads.
    pub(super) files: ModelFiles,
    /// What the headers say.
    pub(super) descriptor: Arc<Descriptor>,
    /// The engine that runs it.
    pub(super) engine: EngineInfo,
    /// What that engine can do with it.
    pub(super) capabilities: Capabilities,
    /// What the author set beside the weights.
    pub(super) customs: Customs,
}

/// What facts are looked up for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// A model is to be used, or is asked about by its name.
    Use,
    /// All models are listed: those that are in use are not forgotten for the others.
    List,
}

/// The facts that are known.
#[derive(Default)]
pub(super) struct KnownFacts {
    by_weights: Mutex<BoundedMap<WeightsId, Arc<Facts>, FACTS_MAX>>,
}

impl KnownFacts {
    fn get(&self, weights: &WeightsId, purpose: Purpose) -> Option<Arc<Facts>> {
        let mut known = self.lock();
        match purpose {
            Purpose::Use => known.get(weights).cloned(),
            Purpose::List => known.peek(weights).cloned(),
        }
    }

    fn keep(&self, facts: Facts, purpose: Purpose) -> Arc<Facts> {
        let facts = Arc::new(facts);
        let (weights, kept) = (facts.weights, Arc::clone(&facts));
        match purpose {
            Purpose::Use => self.lock().insert(weights, kept),
            Purpose::List => self.lock().insert_if_free(weights, kept),
        }
        facts
    }

    fn lock(&self) -> MutexGuard<'_, BoundedMap<WeightsId, Arc<Facts>, FACTS_MAX>> {
        self.by_weights.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Catalog {
    /// What the bytes of a model say. Reads its header when the bytes are new, and nothing otherwise.
    ///
    /// # Errors
    /// `NotFound` for one that is still at its source; whatever is wrong with its file.
    pub(super) fn facts_of(&self, target: &Target) -> Result<Arc<Facts>, Failure> {
        self.facts_for(target, Purpose::Use)
    }

    /// The same for this purpose.
    ///
    /// # Errors
    /// The same.
    pub(super) fn facts_for(&self, target: &Target, purpose: Purpose) -> Result<Arc<Facts>, Failure> {
        if let Some(facts) = self.facts_as_published(target, purpose)? {
            return Ok(facts);
        }
        if let Some(published) = self.published(target)? {
            return self.facts_of_published(&published, purpose);
        }
        match &target.place {
            ModelLocation::File(path) => self.facts_of_file(path, purpose),
            ModelLocation::Stored(artifact) => self.facts_of_artifact(artifact, purpose),
            ModelLocation::Remote(reference) => {
                let settings = target.settings.clone();
                Err(Remote { reference: reference.clone(), settings, asked_context: None }.missing())
            }
        }
    }

    fn facts_of_file(&self, path: &Path, purpose: Purpose) -> Result<Arc<Facts>, Failure> {
        let stamp = Stamp::of(path)?;
        let weights = weights::of_file(&stamp);
        // One file may have several paths, and goes by the one that was asked for.
        let known = self.facts.get(&weights, purpose);
        if let Some(known) = known.filter(|known| known.files.main() == path) {
            return Ok(known);
        }
        let files = ModelFiles::of(path).identified(weights);
        self.read(weights, stamp.to_string(), files, Customs::default(), purpose)
    }

    fn facts_of_artifact(&self, artifact: &Artifact, purpose: Purpose) -> Result<Arc<Facts>, Failure> {
        let weights = weights::of_artifact(&artifact.key_digest);
        if let Some(known) = self.facts.get(&weights, purpose) {
            return Ok(known);
        }
        // The lease ends with this function; a load takes another.
        let opened = self.lazy_store.store()?.look_at(&artifact.key_digest)?;
        let files = opened.files().filter(|_| has_reader(artifact)).ok_or_else(|| no_engine_for(artifact))?;
        self.read(weights, artifact.key_digest.to_string(), files, Customs::of(&opened), purpose)
    }

    /// What is known already of these bytes.
    pub(super) fn known_facts(&self, weights: &WeightsId, purpose: Purpose) -> Option<Arc<Facts>> {
        self.facts.get(weights, purpose)
    }

    pub(super) fn read(
        &self,
        weights: WeightsId,
        identity: String,
        files: ModelFiles,
        customs: Customs,
        purpose: Purpose,
    ) -> Result<Arc<Facts>, Failure> {
        let descriptor = format::inspect(&files)?;
        self.keep(weights, identity, files, customs, descriptor, purpose)
    }

    /// Keeps what is known of a model, with the engine that runs it.
    pub(super) fn keep(
        &self,
        weights: WeightsId,
        identity: String,
        files: ModelFiles,
        customs: Customs,
        descriptor: Descriptor,
        purpose: Purpose,
    ) -> Result<Arc<Facts>, Failure> {
        let descriptor = Arc::new(descriptor);
        let engine = self.engine.engine_for(&descriptor)?;
        let capabilities = self.engine.capabilities(&descriptor);
        let facts = Facts { weights, identity, files, descriptor, engine, capabilities, customs };
        Ok(self.facts.keep(facts, purpose))
    }
}
