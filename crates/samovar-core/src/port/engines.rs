//! Several engines as one: each model goes to the engine that runs its format.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use super::engine::runs_no_published;
use super::identity::no_engine_for;
use super::{
    Capabilities, Engine, EngineInfo, Instance, LoadRequest, PackRequest, PreparePlan, PrepareRequest,
    Preparer, PublishedFacts,
};
use crate::error::{ErrorKind, Failure};
use crate::footprint::{Footprint, LoadOptions, Speed};
use crate::memory::Cost;
use crate::model::{Descriptor, Format, Quantization};

/// The engines of a runtime. It decides by a model's format alone, and adds nothing of its own.
pub struct Engines {
    engines: Vec<Arc<dyn Engine>>,
}

impl Engines {
    /// These engines. Of several that run models of the same format, the first does.
    pub const fn new(engines: Vec<Arc<dyn Engine>>) -> Self {
        Self { engines }
    }

    fn running(&self, descriptor: &Descriptor) -> Result<&dyn Engine, Failure> {
        let engine = self.engines.iter().find(|engine| engine.engine_for(descriptor).is_ok());
        engine.map(|engine| &**engine).ok_or_else(|| no_engine_for(descriptor.format))
    }

    /// The first that prepares published models.
    fn preparing(&self) -> Result<&dyn Engine, Failure> {
        let engine = self.engines.iter().find(|engine| engine.preparer().is_some());
        engine.map(|engine| &**engine).ok_or_else(|| no_engine_for(Format::Safetensors))
    }
}

#[deny(clippy::missing_trait_methods)]
impl Engine for Engines {
    fn engines(&self) -> Vec<EngineInfo> {
        self.engines.iter().flat_map(|engine| engine.engines()).collect()
    }

    fn engine_for(&self, descriptor: &Descriptor) -> Result<EngineInfo, Failure> {
        self.running(descriptor)?.engine_for(descriptor)
    }

    fn capabilities(&self, descriptor: &Descriptor) -> Capabilities {
        self.running(descriptor)
            .map_or_else(|_| Capabilities::default(), |engine| engine.capabilities(descriptor))
    }

    fn footprint(&self, descriptor: &Descriptor, options: &LoadOptions) -> Result<Footprint, Failure> {
        self.running(descriptor)?.footprint(descriptor, options)
    }

    fn cost(&self, descriptor: &Descriptor, options: &LoadOptions, memory: Footprint) -> Cost {
        self.running(descriptor).map_or_else(
            |_| Cost::on_host(descriptor, options, memory),
            |engine| engine.cost(descriptor, options, memory),
        )
    }

    fn packing(&self, descriptor: &Descriptor) -> Option<String> {
        self.running(descriptor).ok()?.packing(descriptor)
    }

    fn packing_footprint(&self, descriptor: &Descriptor) -> Result<Footprint, Failure> {
        self.running(descriptor)?.packing_footprint(descriptor)
    }

    fn pack(&self, request: PackRequest<'_>) -> Result<u64, Failure> {
        self.running(request.descriptor)?.pack(request)
    }

    fn calibrate(&self, request: LoadRequest<'_>) -> Result<Vec<Speed>, Failure> {
        self.running(request.descriptor)?.calibrate(request)
    }

    fn preparer(&self) -> Option<Preparer> {
        self.preparing().ok()?.preparer()
    }

    fn plan_preparation(&self, folder: &Path, quantization: Quantization) -> Result<PreparePlan, Failure> {
        self.preparing()?.plan_preparation(folder, quantization)
    }

    fn prepare(&self, request: PrepareRequest<'_>) -> Result<u64, Failure> {
        self.preparing()?.prepare(request)
    }

    /// By the first that runs it; else in the words of one that runs others.
    fn describe(&self, folder: &Path) -> Result<PublishedFacts, Failure> {
        let mut refusal = runs_no_published();
        let runs_published = |engine: &EngineInfo| engine.formats.contains(&Format::Safetensors);
        for engine in self.engines.iter().filter(|engine| engine.engines().iter().any(runs_published)) {
            match engine.describe(folder) {
                Err(failure) if failure.kind == ErrorKind::Unsupported => refusal = failure,
                described => return described,
            }
        }
        Err(refusal)
    }

    fn load(&self, request: LoadRequest<'_>) -> Result<Arc<dyn Instance>, Failure> {
        self.running(request.descriptor)?.load(request)
    }
}

impl fmt::Debug for Engines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.engines().into_iter().map(|engine| engine.name);
        f.debug_tuple("Engines").field(&names.collect::<Vec<_>>()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ModelFiles;
    use crate::port::LoadControl;
    use crate::testing::FakeEngine;
    use crate::testing::conformance::Subject;
    use crate::testing::fake::Script;

    fn engine(id: &str, format: Format) -> FakeEngine {
        FakeEngine::builder().identity(id, [format]).build()
    }

    fn model(format: Format) -> Descriptor {
        Descriptor { format, ..FakeEngine::descriptor("any", 1 << 20) }
    }

    fn load(engines: &Engines, format: Format) -> Result<Arc<dyn Instance>, Failure> {
        let (files, options, control) = (ModelFiles::of("any"), FakeEngine::options(), LoadControl::silent());
        engines.load(LoadRequest::new(&files, &model(format), &options, &control))
    }

    #[test]
    fn each_model_goes_to_the_first_engine_that_runs_its_format() {
        let [one, same, other] =
            [("one", Format::Gguf), ("same", Format::Gguf), ("other", Format::Safetensors)]
                .map(|(id, format)| engine(id, format));
        let engines =
            Engines::new(vec![Arc::new(one.clone()), Arc::new(same.clone()), Arc::new(other.clone())]);
        for (format, id) in [(Format::Gguf, "one"), (Format::Safetensors, "other")] {
            assert_eq!(engines.engine_for(&model(format)).unwrap().id.as_str(), id);
            load(&engines, format).unwrap().probe().unwrap();
        }
        let loads = [&one, &same, &other].map(|engine| engine.counts().loads_finished);
        assert_eq!(loads, [1, 0, 1]);
        assert_eq!(engines.engines().len(), 3);
    }

    #[test]
    fn published_models_go_to_the_first_engine_that_prepares_them() {
        let silent = engine("silent", Format::Gguf);
        let script = Script { preparing: Some("how".to_owned()), ..Script::default() };
        let preparing = FakeEngine::builder().identity("preparing", [Format::Gguf]).script(script).build();
        let engines = Engines::new(vec![Arc::new(silent.clone()), Arc::new(preparing)]);
        let preparer = engines.preparer().unwrap();
        assert_eq!((preparer.engine.as_str(), preparer.key.as_str()), ("preparing", "how"));
        let none = Engines::new(vec![Arc::new(silent)]);
        assert_eq!(none.preparer(), None);
        let refused = none.plan_preparation(Path::new("any"), Quantization::F16).unwrap_err();
        assert!(refused.kind == ErrorKind::Unsupported && refused.hint.is_some(), "{refused:?}");
    }

    #[test]
    fn a_model_that_no_engine_runs_is_refused_with_its_format() {
        let engines = Engines::new(vec![Arc::new(engine("one", Format::Gguf))]);
        let other = model(Format::Safetensors);
        assert_eq!(engines.capabilities(&other), Capabilities::default());
        assert_eq!(engines.packing(&other), None);
        let refusals = [
            engines.engine_for(&other).map(drop),
            engines.footprint(&other, &FakeEngine::options()).map(drop),
            load(&engines, Format::Safetensors).map(drop),
        ];
        for refused in refusals {
            let failure = refused.unwrap_err();
            assert_eq!(failure.kind, ErrorKind::Unsupported);
            assert!(failure.message.contains("safetensors") && failure.hint.is_some(), "{failure:?}");
        }
    }

    fn subject() -> Subject {
        subject_of(FakeEngine::new())
    }

    /// The same model, loaded to make vectors.
    fn embedder() -> Subject {
        let engine = FakeEngine::builder().capabilities(FakeEngine::EMBEDS).build();
        Subject { options: FakeEngine::embedder_options(), ..subject_of(engine) }
    }

    fn subject_of(engine_of_the_model: FakeEngine) -> Subject {
        let engines: Vec<Arc<dyn Engine>> =
            vec![Arc::new(engine("other", Format::Safetensors)), Arc::new(engine_of_the_model)];
        Subject {
            engine: Arc::new(Engines::new(engines)),
            files: ModelFiles::of("any"),
            packed: None,
            descriptor: model(Format::Gguf),
            options: FakeEngine::options(),
            tie_gap: 0.0,
        }
    }

    mod conformance {
        crate::engine_conformance!(super::subject());
    }

    mod embedders {
        crate::engine_conformance!(embeddings: super::embedder());
    }
}
