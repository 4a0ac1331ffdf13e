//! A model with the adapters that its name stands for, each of which has passed the gate for this very model.
//!
//! Adapters ride on requests: names with different adapters over one base share its loaded instances.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use samovar_core::format::gguf;
use samovar_core::port::Engine;
use samovar_core::{Adapter, ErrorKind, Failure};
use samovar_pool::ModelSpec;

use super::stamp::Stamp;

/// What a name leads to.
#[derive(Clone, Debug)]
pub(crate) struct Adapted {
    pub(crate) spec: Arc<ModelSpec>,
    /// What its requests are computed with; none = the model as it is.
    pub(crate) adapters: Vec<Adapter>,
}

/// Adapters that the gate let through, by their file and the model's.
pub(super) type Passed = HashMap<(PathBuf, PathBuf), Stamp>;

/// Checks what is new or changed among the adapters of a model, and puts it into `passed`.
pub(super) fn check(
    engine: &dyn Engine,
    spec: &ModelSpec,
    adapters: &[Adapter],
    passed: &mut Passed,
) -> Result<(), Failure> {
    if !adapters.is_empty() && !engine.capabilities().can_adapt {
        let message = format!("`{}` has adapters, and {} attaches none", spec.name, engine.name());
        return Err(Failure::new(ErrorKind::Unsupported, message)
            .with_param("model")
            .with_hint("take `adapters` out of its settings, or name a model without them"));
    }
    for Adapter { path, .. } in adapters {
        let stamp = stamp(path, &spec.name)?;
        let id = (path.clone(), spec.path.clone());
        if passed.get(&id) != Some(&stamp) {
            gguf::inspect_adapter(path, &spec.descriptor)?;
            passed.insert(id, stamp);
        }
    }
    Ok(())
}

fn stamp(path: &Path, name: &str) -> Result<Stamp, Failure> {
    if path.exists() {
        return Stamp::of(path);
    }
    Err(Failure::new(ErrorKind::NotFound, format!("the adapter {} of `{name}` is not there", path.display()))
        .with_param("model")
        .with_hint("check `adapters` in its settings; relative paths start at the configuration file"))
}
