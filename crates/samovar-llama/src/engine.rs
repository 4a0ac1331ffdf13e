//! llama.cpp as an engine of Samovar.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use samovar_core::port::{Capabilities, Engine, Instance, LoadControl, ModelFiles};
use samovar_core::{Descriptor, Failure, Footprint, Layout, LoadOptions, Speed};

use crate::build_info::{AmxState, build_info};
use crate::error::Error;
use crate::footprint;
use crate::instance::LlamaInstance;
use crate::packed::{self, Packing};
use crate::plan::Plan;
use crate::threads::Peers;

/// Runs GGUF models through llama.cpp on the CPU. Cheap to make; the native library is initialized once
/// in a process.
#[derive(Debug)]
pub struct LlamaEngine {
    name: String,
    /// Instances of this engine that compute at the same time share the cores.
    peers: Arc<Peers>,
}

impl LlamaEngine {
    /// An engine.
    #[allow(clippy::new_without_default, reason = "it initializes native state")]
    pub fn new() -> Self {
        let build = build_info();
        Self {
            name: format!("llama.cpp {} (llama-cpp-2 {})", build.llama_cpp, build.binding),
            peers: Arc::default(),
        }
    }
}

/// The plan for a model; on a build whose AMX code may die, weights stay as they are on disk.
fn plan(descriptor: &Descriptor, options: &LoadOptions) -> Result<Plan, Error> {
    if options.layout == Layout::Repacked && build_info().amx == AmxState::Unsafe {
        tracing::warn!("this build's AMX code cannot be trusted: weights are mapped, not repacked");
        return Plan::new(descriptor, &LoadOptions { layout: Layout::Mapped, ..options.clone() });
    }
    Plan::new(descriptor, options)
}

/// llama.cpp finds the other files of a split model by the name of the first.
fn check_part_name(path: &Path, descriptor: &Descriptor) -> Result<(), Error> {
    let parts = descriptor.parts;
    let ending = format!("-00001-of-{parts:05}.gguf");
    let name = path.file_name().unwrap_or_default().as_encoded_bytes();
    // It wants something before the ending, too.
    if parts <= 1 || name.len() > ending.len() && name.ends_with(ending.as_bytes()) {
        Ok(())
    } else {
        Err(Error::PartName { path: path.to_owned(), parts, ending })
    }
}

impl Engine for LlamaEngine {
    fn name(&self) -> &str {
        &self.name
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            is_batching: true,
            reuses_prefixes: true,
            can_park: true,
            can_embed: false,
            can_adapt: true,
            saves_prefixes: true,
        }
    }

    fn footprint(&self, descriptor: &Descriptor, options: &LoadOptions) -> Result<Footprint, Failure> {
        Ok(footprint::predict(descriptor, &plan(descriptor, options)?))
    }

    fn packing(&self, descriptor: &Descriptor) -> Option<String> {
        match packed::packable(descriptor) {
            Ok(()) => packed::key().map(str::to_owned),
            Err(reason) => {
                tracing::debug!(model = descriptor.name, reason, "nothing of this model is packed");
                None
            }
        }
    }

    fn pack(
        &self,
        path: &Path,
        descriptor: &Descriptor,
        source: &str,
        into: &File,
        control: &LoadControl,
    ) -> Result<u64, Failure> {
        let job = Packing { path, descriptor, source, is_tail_forced: false };
        Ok(packed::write(job, into, control)?)
    }

    fn calibrate(
        &self,
        files: ModelFiles<'_>,
        descriptor: &Descriptor,
        options: &LoadOptions,
        control: &LoadControl,
    ) -> Result<Vec<Speed>, Failure> {
        let plan = Plan::new(descriptor, options)?;
        check_part_name(files.path, descriptor)?;
        Ok(packed::calibrate(files, descriptor, &plan, control)?)
    }

    fn load(
        &self,
        files: ModelFiles<'_>,
        descriptor: &Descriptor,
        options: &LoadOptions,
        control: &LoadControl,
    ) -> Result<Arc<dyn Instance>, Failure> {
        let plan = plan(descriptor, options)?;
        check_part_name(files.path, descriptor)?;
        Ok(Arc::new(LlamaInstance::load(files, descriptor, plan, &self.name, &self.peers, control)?))
    }
}
