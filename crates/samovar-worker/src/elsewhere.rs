//! Systems that are not Linux: there are no workers, and a caller that asks for one is told.

use std::path::Path;
use std::sync::Arc;

use samovar_core::port::{
    Capabilities, Engine, EngineId, EngineInfo, Instance, LoadRequest, PackRequest, PreparePlan,
    PrepareRequest, Preparer, PublishedFacts,
};
use samovar_core::{Cost, Descriptor, ErrorKind, Failure, Footprint, LoadOptions, Quantization, Speed};

use crate::config::WorkerConfig;
use crate::stats::WorkerStats;

fn unsupported() -> Failure {
    Failure::new(ErrorKind::Unsupported, "models in processes of their own need Linux")
        .with_hint("ask for no workers: models then run in this process")
}

/// What a worker would be.
pub mod child {
    use super::{Arc, Engine, EngineId, Failure, unsupported};

    /// Is no worker.
    ///
    /// # Errors
    /// `Unsupported`.
    pub fn run<S>(
        _socket: S,
        _engine: impl FnOnce(&EngineId) -> Result<Arc<dyn Engine>, Failure>,
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

#[deny(clippy::missing_trait_methods)]
impl Engine for WorkerEngine {
    fn engines(&self) -> Vec<EngineInfo> {
        match *self {}
    }

    fn engine_for(&self, _: &Descriptor) -> Result<EngineInfo, Failure> {
        match *self {}
    }

    fn capabilities(&self, _: &Descriptor) -> Capabilities {
        match *self {}
    }

    fn footprint(&self, _: &Descriptor, _: &LoadOptions) -> Result<Footprint, Failure> {
        match *self {}
    }

    fn cost(&self, _: &Descriptor, _: &LoadOptions, _: Footprint) -> Cost {
        match *self {}
    }

    fn packing(&self, _: &Descriptor) -> Option<String> {
        match *self {}
    }

    fn packing_footprint(&self, _: &Descriptor) -> Result<Footprint, Failure> {
        match *self {}
    }

    fn pack(&self, _: PackRequest<'_>) -> Result<u64, Failure> {
        match *self {}
    }

    fn calibrate(&self, _: LoadRequest<'_>) -> Result<Vec<Speed>, Failure> {
        match *self {}
    }

    fn preparer(&self) -> Option<Preparer> {
        match *self {}
    }

    fn describe(&self, _: &Path) -> Result<PublishedFacts, Failure> {
        match *self {}
    }

    fn plan_preparation(&self, _: &Path, _: Quantization) -> Result<PreparePlan, Failure> {
        match *self {}
    }

    fn prepare(&self, _: PrepareRequest<'_>) -> Result<u64, Failure> {
        match *self {}
    }

    fn load(&self, _: LoadRequest<'_>) -> Result<Arc<dyn Instance>, Failure> {
        match *self {}
    }
}
