//! Systems that are not Linux: there are no workers, and whoever asks for one is told.

use std::sync::Arc;

use samovar_core::port::{Capabilities, Engine, Instance, LoadControl, ModelFiles};
use samovar_core::{Descriptor, ErrorKind, Failure, Footprint, LoadOptions};

use crate::config::WorkerConfig;
use crate::stats::WorkerStats;

fn unsupported() -> Failure {
    Failure::new(ErrorKind::Unsupported, "models in processes of their own need Linux")
        .with_hint("ask for no workers: models then run in this process")
}

/// What a worker would be.
pub mod child {
    use super::{Arc, Engine, Failure, unsupported};

    /// Is no worker.
    ///
    /// # Errors
    /// `Unsupported`.
    pub fn run<S>(
        _socket: S,
        _engine: impl FnOnce() -> Result<Arc<dyn Engine>, Failure>,
    ) -> Result<(), Failure> {
        Err(unsupported())
    }
}

/// An engine that cannot be made here.
#[derive(Debug)]
pub enum WorkerEngine {}

impl WorkerEngine {
    /// Makes none.
    ///
    /// # Errors
    /// `Unsupported`.
    pub fn new(_inner: Arc<dyn Engine>, _config: WorkerConfig) -> Result<Self, Failure> {
        Err(unsupported())
    }

    /// What became of its workers.
    pub fn stats(&self) -> WorkerStats {
        match *self {}
    }
}

impl Engine for WorkerEngine {
    fn name(&self) -> &str {
        match *self {}
    }

    fn capabilities(&self) -> Capabilities {
        match *self {}
    }

    fn footprint(&self, _: &Descriptor, _: &LoadOptions) -> Result<Footprint, Failure> {
        match *self {}
    }

    fn load(
        &self,
        _: ModelFiles<'_>,
        _: &Descriptor,
        _: &LoadOptions,
        _: &LoadControl,
    ) -> Result<Arc<dyn Instance>, Failure> {
        match *self {}
    }
}
