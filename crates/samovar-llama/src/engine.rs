//! llama.cpp as an engine of Samovar.

use std::path::Path;
use std::sync::Arc;

use samovar_core::embedding::Pooling;
use samovar_core::port::{
    Capabilities, Converter, Engine, EngineId, EngineInfo, Instance, LoadRequest, PackRequest, PreparePlan,
    PrepareRequest, Preparer,
};
use samovar_core::{
    Descriptor, ErrorKind, Failure, Footprint, Format, Layout, LoadOptions, Quantization, Speed, format,
};

use crate::build_info::{AmxState, build_info};
use crate::embed;
use crate::error::Error;
use crate::footprint;
use crate::instance::LlamaInstance;
use crate::packed::{self, Packing};
use crate::plan::LoadPlan;
use crate::prepare;
use crate::threads::Peers;

/// Runs GGUF models through llama.cpp on the CPU. Cheap to make; the native library is initialized once
/// in a process.
#[derive(Debug)]
pub struct LlamaEngine {
    info: EngineInfo,
    /// Instances of this engine that compute at the same time share the cores.
    peers: Arc<Peers>,
    /// Reads models as they are published.
    converter: Option<Arc<dyn Converter>>,
}

impl LlamaEngine {
    /// An engine.
    #[allow(clippy::new_without_default, reason = "it initializes native state")]
    pub fn new() -> Self {
        let build = build_info();
        let info = EngineInfo {
            id: EngineId::new("llama.cpp"),
            name: format!("llama.cpp {} (llama-cpp-2 {})", build.llama_cpp, build.binding),
            formats: vec![Format::Gguf],
        };
        Self { info, peers: Arc::default(), converter: None }
    }

    /// The same, and it prepares what this converter reads.
    #[must_use]
    pub fn converting(self, converter: Arc<dyn Converter>) -> Self {
        Self { converter: Some(converter), ..self }
    }

    fn converter(&self) -> Result<&dyn Converter, Failure> {
        self.converter.as_deref().ok_or_else(|| {
            Failure::new(ErrorKind::Unsupported, "this build converts no published models")
                .with_param("model")
                .with_hint("take a repository with GGUF files; many models have one whose name ends in -GGUF")
        })
    }
}

/// The plan for a model; on a build whose AMX code may die, weights stay as they are on disk.
fn plan(descriptor: &Descriptor, options: &LoadOptions) -> Result<LoadPlan, Error> {
    if options.layout == Layout::Repacked && build_info().amx == AmxState::Unsafe {
        tracing::warn!("this build's AMX code cannot be trusted: weights are mapped, not repacked");
        return LoadPlan::new(descriptor, &LoadOptions { layout: Layout::Mapped, ..options.clone() });
    }
    LoadPlan::new(descriptor, options)
}

/// Of a model of which some files are not given, llama.cpp would look for them by names of its own making.
fn check_parts(LoadRequest { files, descriptor, .. }: LoadRequest<'_>) -> Result<(), Error> {
    let given = files.weights().count();
    if given == descriptor.parts as usize {
        Ok(())
    } else {
        Err(Error::Parts { path: files.main().to_owned(), parts: descriptor.parts, given })
    }
}

/// A draft model says tokens of the model that it is loaded with, and none that would be another text there.
fn check_draft(LoadRequest { files, descriptor, options, .. }: LoadRequest<'_>) -> Result<(), Failure> {
    let Some(draft) = &options.draft else { return Ok(()) };
    let Some(draft_files) = files.draft() else {
        let detail = "the files of its draft model were not given".to_owned();
        return Err(Error::Options { detail }.into());
    };
    let (parts, given) = (draft.descriptor.parts, draft_files.weights().count());
    if given != parts as usize {
        return Err(Error::Parts { path: draft_files.main().to_owned(), parts, given }.into());
    }
    match format::cannot_draft((&draft_files, &draft.descriptor), (files, descriptor))? {
        None => Ok(()),
        Some(why) => {
            let (model, draft) = (files.main().to_owned(), draft_files.main().to_owned());
            Err(Error::Draft { model, draft, why }.into())
        }
    }
}

/// What is packed or measured is a model that writes text.
fn check_writes(descriptor: &Descriptor) -> Result<(), Error> {
    if descriptor.is_encoder() {
        return Err(Error::NotGenerative { architecture: descriptor.architecture.clone() });
    }
    Ok(())
}

impl Engine for LlamaEngine {
    fn engines(&self) -> Vec<EngineInfo> {
        vec![self.info.clone()]
    }

    fn capabilities(&self, descriptor: &Descriptor) -> Capabilities {
        let writes = !descriptor.is_encoder();
        let pooling = embed::pooling_of(descriptor).filter(|_| embed::is_run(descriptor));
        Capabilities {
            reuses_prefixes: writes,
            can_park: true,
            can_adapt: writes,
            saves_prefixes: writes,
            can_generate: writes,
            can_embed: pooling.is_some_and(|pooling| pooling != Pooling::Rank),
            can_rerank: pooling == Some(Pooling::Rank) && descriptor.has_classifier,
            can_infill: writes && descriptor.infill.is_some(),
        }
    }

    fn footprint(&self, descriptor: &Descriptor, options: &LoadOptions) -> Result<Footprint, Failure> {
        let plan = plan(descriptor, options)?;
        let Footprint { held_bytes, mapped_bytes } = footprint::predict(descriptor, &plan);
        let draft = options.draft.as_ref().zip(plan.draft);
        let draft = draft
            .map_or(Footprint::default(), |(draft, plan)| footprint::predict_draft(&draft.descriptor, plan));
        Ok(Footprint {
            held_bytes: held_bytes.saturating_add(draft.held_bytes),
            mapped_bytes: mapped_bytes.saturating_add(draft.mapped_bytes),
        })
    }

    fn packing(&self, descriptor: &Descriptor) -> Option<String> {
        if descriptor.is_encoder() {
            // Packed weights are compared with their source, and measured, by what they write.
            return None;
        }
        match packed::packable(descriptor) {
            Ok(()) => packed::key().map(str::to_owned),
            Err(reason) => {
                tracing::debug!(model = descriptor.name, reason, "nothing of this model is packed");
                None
            }
        }
    }

    fn packing_footprint(&self, descriptor: &Descriptor) -> Result<Footprint, Failure> {
        Ok(footprint::predict_packing(descriptor)?)
    }

    fn pack(&self, request: PackRequest<'_>) -> Result<u64, Failure> {
        let PackRequest { files, descriptor, source, into, control } = request;
        check_writes(descriptor)?;
        let job = Packing { path: files.main(), descriptor, source, is_tail_forced: false };
        Ok(packed::write(job, into, control)?)
    }

    fn calibrate(&self, request: LoadRequest<'_>) -> Result<Vec<Speed>, Failure> {
        check_writes(request.descriptor)?;
        let plan = LoadPlan::new(request.descriptor, request.options)?;
        check_parts(request)?;
        Ok(packed::calibrate(request, &plan)?)
    }

    fn preparer(&self) -> Option<Preparer> {
        let (converter, build) = (self.converter.as_ref()?, build_info());
        let key =
            format!("converter-{}-llama.cpp-{}-ggml-{}", converter.version(), build.llama_cpp, build.ggml);
        Some(Preparer { engine: self.info.id.clone(), key })
    }

    fn plan_preparation(&self, folder: &Path, quantization: Quantization) -> Result<PreparePlan, Failure> {
        prepare::plan(self.converter()?, folder, quantization)
    }

    fn prepare(&self, request: PrepareRequest<'_>) -> Result<u64, Failure> {
        prepare::prepare(self.converter()?, request)
    }

    fn load(&self, request: LoadRequest<'_>) -> Result<Arc<dyn Instance>, Failure> {
        let plan = plan(request.descriptor, request.options)?;
        check_parts(request)?;
        check_draft(request)?;
        Ok(Arc::new(LlamaInstance::load(request, plan, &self.info.name, &self.peers)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::footprint::tests::descriptor;

    #[test]
    fn what_a_model_can_do_is_said_by_its_header() {
        let engine = LlamaEngine::new();
        let can = |architecture: &str, pooling, has_classifier| {
            let architecture = architecture.to_owned();
            let can =
                engine.capabilities(&Descriptor { architecture, pooling, has_classifier, ..descriptor() });
            assert!(can.can_park);
            assert_eq!([can.reuses_prefixes, can.saves_prefixes, can.can_adapt], [can.can_generate; 3]);
            (can.can_generate, can.can_embed, can.can_rerank)
        };
        assert_eq!(can("llama", None, false), (true, false, false));
        assert_eq!(can("qwen3", Some(Pooling::Last), false), (true, true, false));
        assert_eq!(can("qwen3", Some(Pooling::Rank), true), (true, false, true));
        assert_eq!(can("bert", Some(Pooling::Cls), false), (false, true, false));
        assert_eq!(can("bert", None, false), (false, true, false), "of which the mean is taken");
        assert_eq!(can("bert", Some(Pooling::Rank), true), (false, false, true));
        assert_eq!(can("bert", Some(Pooling::Rank), false), (false, false, false), "without its classifier");
        assert_eq!(can("t5encoder", Some(Pooling::Mean), false), (false, false, false));
    }

    #[test]
    fn encoders_are_not_packed() {
        let bert = Descriptor { architecture: "bert".to_owned(), ..descriptor() };
        assert_eq!(LlamaEngine::new().packing(&bert), None);
    }
}
