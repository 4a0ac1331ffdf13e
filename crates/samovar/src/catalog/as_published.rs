//! Published models that an engine runs as they are, without preparing them: which ones, and their facts.
//!
//! ```text
//!   engine = "candle" ─────────────────────────────────────────────► as it is, or why not
//!   engine = "llama" ──────────────────────────────────────────────► prepared
//!   auto ─► can it be prepared? ─ Unsupported ─► is it described? ──► as it is
//!                 └ else ───────────────────────────► no ──────────► prepared, or why not
//! ```

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use samovar_core::port::PublishedFacts;
use samovar_core::{ErrorKind, Failure, Format, Quantization, WeightsId};

use super::Catalog;
use super::customs::Customs;
use super::facts::{Facts, Purpose};
use super::published::PublishedPlace;
use super::target::{ModelLocation, Target};
use crate::bounded::BoundedMap;
use crate::engine_choice::EngineChoice;
use crate::weights;

/// Models that were judged and need not be judged again.
const VERDICTS_MAX: usize = 256;

/// Which published models are run as they are where nothing chooses, by their sources.
#[derive(Default)]
pub(super) struct AsPublished(Mutex<BoundedMap<String, bool, VERDICTS_MAX>>);

impl AsPublished {
    fn lock(&self) -> MutexGuard<'_, BoundedMap<String, bool, VERDICTS_MAX>> {
        // Every change is a single insert.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Catalog {
    /// Whether an engine runs the published model at this place as it is. Reads its configuration and headers when it is new.
    pub(super) fn is_run_as_it_is(&self, target: &Target, place: &PublishedPlace) -> Result<bool, Failure> {
        match target.settings.engine.unwrap_or_default() {
            EngineChoice::Candle => return Ok(true),
            EngineChoice::Llama => return Ok(false),
            EngineChoice::Auto => {}
        }
        let mut engines = self.engine.engines().into_iter();
        if !engines.any(|engine| engine.formats.contains(&Format::Safetensors)) {
            return Ok(false);
        }
        let source = place.source();
        if let Some(known) = self.as_published.lock().get(&source) {
            return Ok(*known);
        }
        let verdict = self.in_folder(place, |folder, _| {
            let plan = self.engine.plan_preparation(folder, Quantization::default());
            Ok(match plan.err().map(|failure| failure.kind) {
                Some(ErrorKind::Unsupported) => Some(self.engine.describe(folder).is_ok()),
                None | Some(ErrorKind::InvalidModel) => Some(false),
                // It says nothing of the model, and may be gone the next time.
                Some(_) => None,
            })
        })?;
        if let Some(is_run) = verdict {
            self.as_published.lock().insert(source, is_run);
        }
        Ok(verdict.unwrap_or(false))
    }

    /// What the files of a published model say that is run as it is; `None` for any other.
    ///
    /// # Errors
    /// `Unsupported` where no engine of this build runs it, and for models in other formats that are to be run by candle.
    pub(super) fn facts_as_published(
        &self,
        target: &Target,
        purpose: Purpose,
    ) -> Result<Option<Arc<Facts>>, Failure> {
        let Some(place) = PublishedPlace::of(target)? else {
            let is_here = !matches!(target.place, ModelLocation::Remote(_));
            return if is_here && target.settings.engine == Some(EngineChoice::Candle) {
                Err(only_published())
            } else {
                Ok(None)
            };
        };
        if !self.is_run_as_it_is(target, &place)? {
            return Ok(None);
        }
        let weights = match &place {
            PublishedPlace::Artifact(key) => weights::of_artifact(key),
            PublishedPlace::Folder(_, files) => WeightsId::File(*files),
        };
        // A folder that was moved has the same files under other paths.
        let is_there = |known: &Arc<Facts>| match &place {
            PublishedPlace::Folder(folder, _) => known.files.main().starts_with(folder),
            PublishedPlace::Artifact(_) => true,
        };
        if let Some(known) = self.known_facts(&weights, purpose).filter(is_there) {
            return Ok(Some(known));
        }
        self.in_folder(&place, |folder, customs| {
            let PublishedFacts { descriptor, files } = self.engine.describe(folder)?;
            let identity = format!("{weights}-published");
            self.keep(weights, identity, files.identified(weights), customs, descriptor, purpose)
        })
        .map(Some)
    }

    /// Does what needs the folder of a published model, and what its author set beside the weights.
    fn in_folder<T>(
        &self,
        place: &PublishedPlace,
        work: impl FnOnce(&Path, Customs) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        match place {
            PublishedPlace::Folder(folder, _) => work(folder, Customs::default()),
            PublishedPlace::Artifact(key) => {
                // The lease ends with this function; a load takes another.
                let opened = self.lazy_store.store()?.look_at(key)?;
                let folder = opened.directory().ok_or_else(|| {
                    Failure::new(ErrorKind::Storage, "the files of a published model have no names")
                        .with_param("model")
                        .with_hint("pull it again")
                })?;
                work(folder, Customs::of(&opened))
            }
        }
    }
}

/// What is said of a model in GGUF that is to be run by candle.
fn only_published() -> Failure {
    Failure::new(ErrorKind::Unsupported, "candle runs models in safetensors here, and this one is in GGUF")
        .with_param("model")
        .with_hint("take `engine` out of the model's settings")
}
