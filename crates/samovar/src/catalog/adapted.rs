//! A model with the adapters that its name stands for, each of which has passed the gate for this very model.
//!
//! Adapters ride on requests: names with different adapters over one base share its loaded instances, and what all
//! of them bring counts as memory of each.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use samovar_core::format::gguf;
use samovar_core::port::Engine;
use samovar_core::{Adapter, Descriptor, ErrorKind, Failure, ModelKey};
use samovar_pool::ModelSpec;

use super::stamp::Stamp;

/// Adapters that one instance has in memory at a time, at most: what is known of no engine is assumed of all.
const LOADED_MAX: usize = 8;

/// What a name leads to.
#[derive(Clone, Debug)]
pub(crate) struct Adapted {
    pub(crate) spec: Arc<ModelSpec>,
    /// What its requests are computed with; none = the model as it is.
    pub(crate) adapters: Vec<Adapter>,
    pub(crate) manners: Manners,
}

/// How its requests are read, by the settings of the name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Manners {
    /// Control tokens in what people wrote are control tokens.
    pub(crate) special_tokens_in_content: bool,
    /// The template of its conversations instead of the model's own: Jinja, or a built-in one's name.
    pub(crate) chat_template: Option<String>,
    /// What conversations begin with that have no system message of their own.
    pub(crate) system: Option<String>,
    /// Strings that end answers whose requests name none.
    pub(crate) stop: Vec<String>,
}

/// The adapters that the gate let through, by the model's file and their own.
#[derive(Default)]
pub(crate) struct Riders {
    passed: Mutex<HashMap<PathBuf, HashMap<PathBuf, Passed>>>,
}

/// An adapter as it was when it was let through.
#[derive(Clone, Debug)]
struct Passed {
    stamp: Stamp,
    /// The bytes that it was compared with.
    model: ModelKey,
    /// What it takes in memory.
    tensor_bytes: u64,
}

impl Riders {
    /// Checks what is new or changed among the adapters of a model.
    pub(super) fn check(
        &self,
        engine: &dyn Engine,
        spec: &ModelSpec,
        adapters: &[Adapter],
    ) -> Result<(), Failure> {
        if !adapters.is_empty() && !engine.capabilities().can_adapt {
            let message = format!("`{}` has adapters, and {} attaches none", spec.name, engine.name());
            return Err(Failure::new(ErrorKind::Unsupported, message)
                .with_param("model")
                .with_hint("take `adapters` out of its settings, or name a model without them"));
        }
        let inspect = |path: &Path, base: &Descriptor| Ok(gguf::inspect_adapter(path, base)?.tensor_bytes);
        adapters.iter().try_for_each(|Adapter { path, .. }| {
            self.check_one(spec, path, inspect).inspect_err(|_| self.forget(&spec.path, path))
        })
    }

    /// What is not let through any more brings nothing.
    fn forget(&self, model: &Path, adapter: &Path) {
        if let Some(riders) = self.passed().get_mut(model) {
            riders.remove(adapter);
        }
    }

    /// Nothing is locked while files are looked at: a slow disk holds up the names that need it.
    fn check_one(
        &self,
        spec: &ModelSpec,
        path: &Path,
        inspect: impl Fn(&Path, &Descriptor) -> Result<u64, Failure>,
    ) -> Result<(), Failure> {
        let stamp = Stamp::of(path).map_err(|failure| match failure.kind {
            ErrorKind::NotFound => missing(path, &spec.name),
            _ => failure,
        })?;
        let known = self.passed().get(&spec.path).and_then(|riders| riders.get(path).cloned());
        if known.is_some_and(|known| known.stamp == stamp && known.model == spec.key) {
            return Ok(());
        }
        let tensor_bytes = inspect(path, &spec.descriptor)?;
        let passed = Passed { stamp, model: spec.key.clone(), tensor_bytes };
        self.passed().entry(spec.path.clone()).or_default().insert(path.to_owned(), passed);
        Ok(())
    }

    /// What the adapters of all names over a model take beside it, when as many are attached as there can be.
    pub(crate) fn bytes_on(&self, model: &Path) -> u64 {
        let passed = self.passed();
        let riders = passed.get(model).into_iter().flat_map(HashMap::values);
        let mut bytes: Vec<u64> = riders.map(|rider| rider.tensor_bytes).collect();
        bytes.sort_unstable_by(|one, other| other.cmp(one));
        bytes.iter().take(LOADED_MAX).sum()
    }

    fn passed(&self) -> MutexGuard<'_, HashMap<PathBuf, HashMap<PathBuf, Passed>>> {
        self.passed.lock().unwrap_or_else(PoisonError::into_inner)
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

    use samovar_core::testing::fake::FakeEngine;
    use samovar_pool::Instances;

    use super::*;

    fn spec(key: &str) -> ModelSpec {
        let (engine, options) = (FakeEngine::new(), FakeEngine::options());
        let descriptor = FakeEngine::descriptor("a model", 1 << 20);
        ModelSpec {
            key: ModelKey::new(key),
            name: "poet".to_owned(),
            path: "model.gguf".into(),
            footprint: engine.footprint(&descriptor, &options).expect("a footprint"),
            descriptor: Arc::new(descriptor),
            options,
            load_ms: None,
            keep_alive: samovar_core::units::KeepAlive::default(),
            instances: Instances::default(),
            needs: Vec::new(),
        }
    }

    #[test]
    fn nothing_is_locked_while_a_file_is_looked_at() {
        let file = tempfile::NamedTempFile::new().expect("file");
        let riders = Riders::default();
        let look = |_: &Path, _: &Descriptor| {
            assert!(riders.passed.try_lock().is_ok(), "another name would wait for this disk");
            Ok(100)
        };
        riders.check_one(&spec("a"), file.path(), look).expect("passes");
        assert_eq!(riders.bytes_on(Path::new("model.gguf")), 100);
    }

    #[test]
    fn an_adapter_is_looked_at_again_for_a_model_that_was_replaced() {
        let file = tempfile::NamedTempFile::new().expect("file");
        let (riders, looks) = (Riders::default(), Cell::new(0));
        let look = |_: &Path, _: &Descriptor| {
            looks.set(looks.get() + 1);
            Ok(100)
        };
        for (key, looked) in [("a", 1), ("a", 1), ("b", 2)] {
            riders.check_one(&spec(key), file.path(), look).expect("passes");
            assert_eq!(looks.get(), looked);
        }
    }

    #[test]
    fn of_many_adapters_as_many_count_as_fit_at_a_time() {
        let files: Vec<_> = (0..12).map(|_| tempfile::NamedTempFile::new().expect("file")).collect();
        let riders = Riders::default();
        for (number, file) in files.iter().enumerate() {
            riders.check_one(&spec("a"), file.path(), |_, _| Ok(number as u64)).expect("passes");
        }
        assert_eq!(riders.bytes_on(Path::new("model.gguf")), (4..12).sum::<u64>());
        assert_eq!(riders.bytes_on(Path::new("other.gguf")), 0);
    }
}
