//! A model with the adapters that its name stands for, each of which has passed the gate for this very model.
//!
//! Adapters ride on requests: names with different adapters over one base share its loaded instances, and what all
//! of them bring counts as memory of each.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use samovar_core::{Adapter, Descriptor, ErrorKind, Failure, WeightsId, format};
use samovar_pool::ModelSpec;

use super::facts::Facts;
use super::names::Names;
use super::stamp::Stamp;
use crate::bounded::BoundedMap;
use crate::request::Message;
use crate::sampling::SamplingOptions;
use crate::thinking::Effort;

/// Models whose adapters are known at a time; those of others are looked at again.
const MODELS_MAX: usize = 1_024;
/// Adapters of one model that are known at a time.
const ADAPTERS_MAX: usize = 256;
/// Adapters that one instance has in memory at a time, at most: what is known of no engine is assumed of all.
const LOADED_MAX: usize = 8;

/// What a name leads to.
#[derive(Clone, Debug)]
pub(crate) struct Adapted {
    pub(crate) spec: Arc<ModelSpec>,
    /// What its requests are computed with; none = the model as it is.
    pub(crate) adapters: Vec<Adapter>,
    /// Whether several tokens of an answer may be computed in one step.
    pub(crate) speculates: bool,
    pub(crate) prompt_settings: PromptSettings,
}

/// How its requests are read, by the settings of the name.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct PromptSettings {
    /// Control tokens in what people wrote are control tokens.
    pub(crate) special_tokens_in_content: bool,
    /// The template of its conversations instead of the model's own: Jinja, or a built-in one's name.
    pub(crate) chat_template: Option<String>,
    /// What conversations begin with that have no system message of their own.
    pub(crate) system: Option<String>,
    /// Messages that stand before those of every conversation.
    pub(crate) messages: Vec<Message>,
    /// Strings that end answers whose requests name none.
    pub(crate) stop: Vec<String>,
    /// How tokens are chosen where requests do not say so.
    pub(crate) sampling: SamplingOptions,
    /// Tokens of an answer at most where requests do not say so.
    pub(crate) max_tokens: Option<u32>,
    /// How much the model thinks where requests do not say so.
    pub(crate) thinking: Option<Effort>,
    /// What is put before texts that are queries.
    pub(crate) query_prompt: Option<String>,
    /// What is put before texts that are documents.
    pub(crate) document_prompt: Option<String>,
}

/// The adapters that the gate let through for each model.
#[derive(Default)]
pub(crate) struct AdapterRegistry {
    of_models: Mutex<BoundedMap<WeightsId, OfModel, MODELS_MAX>>,
}

/// The adapters of one model.
#[derive(Default)]
struct OfModel {
    /// Those that passed, by their files.
    passed: BoundedMap<PathBuf, Passed, ADAPTERS_MAX>,
    /// The names whose adapters were all looked at.
    looked_at: Option<Arc<Names>>,
}

/// An adapter as it was when it was let through.
#[derive(Clone, Debug)]
struct Passed {
    stamp: Stamp,
    /// What it takes in memory.
    tensor_bytes: u64,
}

impl AdapterRegistry {
    /// Checks what is new or changed among the adapters of a model.
    pub(super) fn check(&self, facts: &Facts, name: &str, adapters: &[Adapter]) -> Result<(), Failure> {
        if !adapters.is_empty() && !facts.capabilities.can_adapt {
            let message = format!("`{name}` has adapters, and {} attaches none", facts.engine.id);
            return Err(Failure::new(ErrorKind::Unsupported, message)
                .with_param("model")
                .with_hint("take `adapters` out of its settings, or name a model without them"));
        }
        adapters.iter().try_for_each(|Adapter { path, .. }| {
            self.check_one(facts, name, path, format::inspect_adapter)
                .inspect_err(|_| self.forget(&facts.weights, path))
        })
    }

    /// Whether the adapters of these names have all been looked at for a model.
    pub(super) fn were_looked_at(&self, weights: &WeightsId, names: &Arc<Names>) -> bool {
        let mut models = self.of_models();
        let looked_at = models.get(weights).and_then(|model| model.looked_at.as_ref());
        looked_at.is_some_and(|looked_at| Arc::ptr_eq(looked_at, names))
    }

    /// They have. Said afterwards: who asks meanwhile looks as well, and counts no less.
    pub(super) fn looked_at(&self, weights: &WeightsId, names: &Arc<Names>) {
        self.of_models().get_or_insert_with(*weights, OfModel::default).looked_at = Some(Arc::clone(names));
    }

    /// What is not let through any more brings nothing.
    fn forget(&self, weights: &WeightsId, adapter: &Path) {
        if let Some(model) = self.of_models().get_mut(weights) {
            model.passed.remove(adapter);
        }
    }

    /// Nothing is locked while files are looked at: a slow disk holds up the names that need it.
    fn check_one(
        &self,
        facts: &Facts,
        name: &str,
        path: &Path,
        inspect: impl Fn(&Path, &Descriptor) -> Result<u64, Failure>,
    ) -> Result<(), Failure> {
        let stamp = Stamp::of(path).map_err(|failure| match failure.kind {
            ErrorKind::NotFound => missing(path, name),
            _ => failure,
        })?;
        let is_known = |model: &mut OfModel| model.passed.get(path).is_some_and(|known| known.stamp == stamp);
        if self.of_models().get_mut(&facts.weights).is_some_and(is_known) {
            return Ok(());
        }
        let tensor_bytes = inspect(path, &facts.descriptor)?;
        let mut models = self.of_models();
        let model = models.get_or_insert_with(facts.weights, OfModel::default);
        model.passed.insert(path.to_owned(), Passed { stamp, tensor_bytes });
        Ok(())
    }

    /// What the adapters of all names over a model take beside it, when as many are attached as there can be.
    pub(crate) fn bytes_on(&self, weights: &WeightsId) -> u64 {
        let mut models = self.of_models();
        let passed_adapters = models.get(weights).into_iter().flat_map(|model| model.passed.values());
        let mut bytes: Vec<u64> = passed_adapters.map(|adapter| adapter.tensor_bytes).collect();
        bytes.sort_unstable_by(|one, other| other.cmp(one));
        bytes.iter().take(LOADED_MAX).sum()
    }

    fn of_models(&self) -> MutexGuard<'_, BoundedMap<WeightsId, OfModel, MODELS_MAX>> {
        // Every change is a single insert or remove.
        self.of_models.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn missing(path: &Path, name: &str) -> Failure {
    Failure::new(ErrorKind::NotFound, format!("the adapter {} of `{name}` is not there", path.display()))
        .with_param("model")
        .with_hint("check `adapters` in its settings; relative paths start at the configuration file")
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use samovar_core::port::Engine;
    use samovar_core::testing::fake::FakeEngine;
    use samovar_core::{Digest, ModelFiles};

    use super::super::customs::Customs;
    use super::*;

    /// A model file with these bytes.
    fn facts(bytes: &str) -> Facts {
        let descriptor = FakeEngine::descriptor("a model", 1 << 20);
        Facts {
            weights: WeightsId::File(Digest::of_bytes(bytes.as_bytes())),
            identity: bytes.to_owned(),
            files: ModelFiles::of("model.gguf"),
            engine: FakeEngine::new().engine_for(&descriptor).expect("the fake engine"),
            capabilities: FakeEngine::CAPABILITIES,
            descriptor: Arc::new(descriptor),
            customs: Customs::default(),
        }
    }

    #[test]
    fn nothing_is_locked_while_a_file_is_looked_at() {
        let file = tempfile::NamedTempFile::new().expect("file");
        let passed_adapters = AdapterRegistry::default();
        let look = |_: &Path, _: &Descriptor| {
            assert!(passed_adapters.of_models.try_lock().is_ok(), "another name would wait for this disk");
            Ok(100)
        };
        passed_adapters.check_one(&facts("a"), "poet", file.path(), look).expect("passes");
        assert_eq!(passed_adapters.bytes_on(&facts("a").weights), 100);
    }

    #[test]
    fn an_adapter_is_looked_at_again_for_a_model_that_was_replaced() {
        let file = tempfile::NamedTempFile::new().expect("file");
        let (passed_adapters, looks) = (AdapterRegistry::default(), Cell::new(0));
        let look = |_: &Path, _: &Descriptor| {
            looks.set(looks.get() + 1);
            Ok(100)
        };
        for (key, looked) in [("a", 1), ("a", 1), ("b", 2)] {
            passed_adapters.check_one(&facts(key), "poet", file.path(), look).expect("passes");
            assert_eq!(looks.get(), looked);
        }
    }

    #[test]
    fn of_many_adapters_as_many_count_as_fit_at_a_time() {
        let files: Vec<_> = (0..12).map(|_| tempfile::NamedTempFile::new().expect("file")).collect();
        let passed_adapters = AdapterRegistry::default();
        for (number, file) in files.iter().enumerate() {
            passed_adapters
                .check_one(&facts("a"), "poet", file.path(), |_, _| Ok(number as u64))
                .expect("passes");
        }
        assert_eq!(passed_adapters.bytes_on(&facts("a").weights), (4..12).sum::<u64>());
        assert_eq!(passed_adapters.bytes_on(&facts("another").weights), 0);
    }
}
