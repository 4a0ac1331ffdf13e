//! An engine whose instances have what the store keeps for them: the leases on their files, the state of their prompts.
//!
//! ```text
//!   load ─► whose weights? ────┬─ a file of the user ──────────────────────► layout_loader ─┐
//!                              ├─ a prepared model's ─► open (lease) ───────► layout_loader ─┤
//!                              └─ the store's ─► open (lease) ─► layout_loader ─► note cost ─┴─► StoreInstance
//!   generate ─► memory: is anything saved? ─► instance
//!   park, drop ─► memory: save what is worth it ─► instance ─► lease
//! ```
//!
//! The pool knows no store and the store knows no engine; this is where they meet.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use samovar_core::embedding::EmbedRequest;
use samovar_core::footprint::{Arrangement, Footprint, LoadOptions, Measurement, Speed};
use samovar_core::generation::{CachedPrefix, Generation, GenerationRequest, Prompt};
use samovar_core::port::{
    Capabilities, Engine, EngineInfo, Instance, LoadRequest, PackRequest, PreparePlan, PrepareRequest,
    Preparer, PromptControl, PublishedFacts, Unconfined,
};
use samovar_core::{
    Chat, Cores, Cost, Descriptor, ErrorKind, Failure, Format, ModelFiles, Quantization, Scope, WeightsId,
};
use samovar_store::{Integrity, KeyDigest, Opened, OpenedDerived, PrefixConfig, Store};

use crate::catalog::AdapterRegistry;
use crate::experience::Experience;
use crate::lazy_store::LazyStore;
use crate::memory::Memory;
use crate::packed::{LayoutLoader, LoadedLayout};
use crate::weights;

/// An engine whose models may lie in the store, and remember their prompts there.
pub(crate) struct StoreEngine {
    layout_loader: LayoutLoader,
    lazy_store: Arc<LazyStore>,
    adapter_registry: Arc<AdapterRegistry>,
    experience: Arc<Experience>,
    prefixes: PrefixConfig,
}

impl StoreEngine {
    pub(crate) fn new(
        layout_loader: LayoutLoader,
        lazy_store: Arc<LazyStore>,
        adapter_registry: Arc<AdapterRegistry>,
        experience: Arc<Experience>,
        prefixes: PrefixConfig,
    ) -> Self {
        Self { layout_loader, lazy_store, adapter_registry, experience, prefixes }
    }

    fn engine(&self) -> &dyn Engine {
        &**self.layout_loader.engine()
    }

    /// The files of the draft model, if it is the store's, for as long as they are leased.
    fn open_draft(&self, options: &LoadOptions) -> Result<Option<(KeyDigest, ModelFiles, Opened)>, Failure> {
        let key = options.draft.as_ref().and_then(|draft| weights::artifact(&draft.weights));
        let Some(key) = key else { return Ok(None) };
        let opened = self.lazy_store.store()?.open_artifact(&key)?;
        let files = files_of(&opened)?;
        Ok(Some((key, files, opened)))
    }

    /// The lease on a prepared model's file, and on the artifact that it was made of, whose use this is; `None` for weights of
    /// another kind.
    fn open_prepared(
        &self,
        weights: Option<&WeightsId>,
        files: &ModelFiles,
    ) -> Result<Option<Prepared>, Failure> {
        if !weights.is_some_and(weights::is_prepared) {
            return Ok(None);
        }
        let store = self.lazy_store.store()?;
        let Some(file) = store.prepared().open(files.main())? else {
            return Err(Failure::new(ErrorKind::Storage, "the prepared model has gone from the store")
                .with_param("model")
                .with_hint("try again: it is prepared again"));
        };
        // Without its source it can be used as well.
        let source = file.parent().and_then(|parent| store.open_artifact(&parent).ok());
        Ok(Some(Prepared { file, _source: source }))
    }

    /// Loads a prepared model, and says what that took: its artifact is worth that much.
    fn load_prepared(&self, file: &OpenedDerived, request: LoadRequest<'_>) -> Result<LoadedLayout, Failure> {
        let began = Instant::now();
        let loaded_layout = self.layout_loader.load(request)?;
        if let Some(parent) = file.parent() {
            let measured = loaded_layout.instance.measure();
            let footprint =
                Footprint { held_bytes: measured.held_bytes, mapped_bytes: measured.mapped_bytes };
            self.lazy_store.store()?.note_load(&parent, began.elapsed().as_secs_f64() * 1e3, footprint);
        }
        Ok(loaded_layout)
    }

    fn load_artifact(
        &self,
        key: &KeyDigest,
        request: LoadRequest<'_>,
    ) -> Result<(LoadedLayout, Opened), Failure> {
        let store = self.lazy_store.store()?;
        let opened = store.open_artifact(key)?;
        // An engine that runs a published model as it is has said which of its files it reads.
        let is_published = request.descriptor.format == Format::Safetensors;
        let own = if is_published { request.files.clone() } else { files_of(&opened)? };
        let files = request.files.draft().map_or_else(|| own.clone(), |draft| own.with_draft(&draft));
        let (options, began) = (request.options, Instant::now());
        match self.layout_loader.load(LoadRequest { files: &files, ..request }) {
            Ok(loaded_layout) => {
                let (measured, arranged) = (loaded_layout.instance.measure(), &loaded_layout.arrangement);
                let footprint =
                    Footprint { held_bytes: measured.held_bytes, mapped_bytes: measured.mapped_bytes };
                store.note_load(key, began.elapsed().as_secs_f64() * 1e3, footprint);
                let layout = if arranged.refused.is_some() { arranged.layout } else { options.layout };
                let options = LoadOptions { layout, ..options.clone() };
                if let Ok(engine) = self.engine().engine_for(request.descriptor) {
                    self.experience.remember(&store, key, &engine.name, &options, footprint);
                }
                Ok((loaded_layout, opened))
            }
            Err(failure) => Err(explain(&store, key, &opened.artifact().reference, failure)),
        }
    }
}

fn files_of(opened: &Opened) -> Result<ModelFiles, Failure> {
    opened.files().ok_or_else(|| {
        Failure::new(ErrorKind::InvalidModel, format!("{} has no weights", opened.artifact().reference))
            .with_hint("pull it again")
    })
}

/// What an engine cannot load may have rotted on the disk: then that is the news.
fn explain(store: &Store, key: &KeyDigest, reference: &str, failure: Failure) -> Failure {
    let may_be_rot = matches!(failure.kind, ErrorKind::InvalidModel | ErrorKind::EngineFailed);
    if !may_be_rot {
        return failure;
    }
    match store.suspect(key) {
        Ok(Integrity::Damaged(_)) => Failure::new(
            ErrorKind::Storage,
            format!(
                "the file of {reference} in the cache was damaged and has been set aside: {}",
                failure.message
            ),
        )
        .with_hint("try again: the next request fetches it again"),
        // A read-only store is its keeper's to verify.
        Ok(Integrity::Sound) | Err(samovar_store::Error::Missing { .. }) => failure,
        Err(unreadable) => unreadable.into(),
    }
}

#[deny(clippy::missing_trait_methods)]
impl Engine for StoreEngine {
    fn engines(&self) -> Vec<EngineInfo> {
        self.engine().engines()
    }

    fn engine_for(&self, descriptor: &Descriptor) -> Result<EngineInfo, Failure> {
        self.engine().engine_for(descriptor)
    }

    /// Callers above need save nothing.
    fn capabilities(&self, descriptor: &Descriptor) -> Capabilities {
        Capabilities { saves_prefixes: false, ..self.engine().capabilities(descriptor) }
    }

    fn footprint(&self, descriptor: &Descriptor, options: &LoadOptions) -> Result<Footprint, Failure> {
        self.engine().footprint(descriptor, options)
    }

    fn cost(&self, descriptor: &Descriptor, options: &LoadOptions, memory: Footprint) -> Cost {
        self.engine().cost(descriptor, options, memory)
    }

    fn packing(&self, descriptor: &Descriptor) -> Option<String> {
        self.engine().packing(descriptor)
    }

    fn packing_footprint(&self, descriptor: &Descriptor) -> Result<Footprint, Failure> {
        self.engine().packing_footprint(descriptor)
    }

    fn pack(&self, request: PackRequest<'_>) -> Result<u64, Failure> {
        self.engine().pack(request)
    }

    fn calibrate(&self, request: LoadRequest<'_>) -> Result<Vec<Speed>, Failure> {
        self.engine().calibrate(request)
    }

    fn preparer(&self) -> Option<Preparer> {
        self.engine().preparer()
    }

    fn describe(&self, folder: &Path) -> Result<PublishedFacts, Failure> {
        self.engine().describe(folder)
    }

    fn plan_preparation(&self, folder: &Path, quantization: Quantization) -> Result<PreparePlan, Failure> {
        self.engine().plan_preparation(folder, quantization)
    }

    fn prepare(&self, request: PrepareRequest<'_>) -> Result<u64, Failure> {
        self.engine().prepare(request)
    }

    fn load(&self, request: LoadRequest<'_>) -> Result<Arc<dyn Instance>, Failure> {
        let LoadRequest { files, descriptor, options, .. } = request;
        let weights = files.identity();
        let memory = Memory::of(self.engine(), &self.lazy_store, self.prefixes, weights, descriptor, options);
        let prepared = self.open_prepared(weights.as_ref(), files)?;
        let prepared_draft = match files.draft() {
            Some(draft) => self.open_prepared(options.draft.as_ref().map(|draft| &draft.weights), &draft)?,
            None => None,
        };
        let draft = self.open_draft(options)?;
        let with_draft = draft.as_ref().map(|(_, draft, _)| files.with_draft(draft));
        let request = LoadRequest { files: with_draft.as_ref().unwrap_or(files), ..request };
        let loaded = match weights.as_ref().and_then(weights::artifact) {
            Some(key) => {
                self.load_artifact(&key, request).map(|(loaded_layout, opened)| (loaded_layout, Some(opened)))
            }
            None => match &prepared {
                Some(prepared) => self.load_prepared(&prepared.file, request),
                None => self.layout_loader.load(request),
            }
            .map(|loaded_layout| (loaded_layout, None)),
        };
        let (loaded_layout, opened) = match (loaded, &draft) {
            (Err(failure), Some((key, _, opened))) => {
                return Err(explain(&self.lazy_store.store()?, key, &opened.artifact().reference, failure));
            }
            (loaded, _) => loaded?,
        };
        let kept = StoreInstance {
            // A file that was replaced while it was loaded has no identity.
            memory: memory.filter(|memory| memory.is_of(files.main())),
            loaded_layout,
            weights,
            adapter_registry: Arc::clone(&self.adapter_registry),
            promised_bytes: AtomicU64::default(),
            _opened: [opened, draft.map(|(_, _, opened)| opened)],
            _prepared: [prepared, prepared_draft],
        };
        kept.promise();
        Ok(Arc::new(kept))
    }
}

/// A loaded model with all that the store keeps for it. Its files stay on the disk for as long as it lives.
struct StoreInstance {
    memory: Option<Memory>,
    // Dropped before the lease: that ends after the model has left memory.
    loaded_layout: LoadedLayout,
    weights: Option<WeightsId>,
    adapter_registry: Arc<AdapterRegistry>,
    /// What it will hold once all adapters of its names are attached; 0 while it is parked.
    promised_bytes: AtomicU64,
    _opened: [Option<Opened>; 2],
    _prepared: [Option<Prepared>; 2],
}

/// What a prepared model needs of the store for as long as it lives.
struct Prepared {
    file: OpenedDerived,
    _source: Option<Opened>,
}

impl StoreInstance {
    fn instance(&self) -> &dyn Instance {
        &*self.loaded_layout.instance
    }

    /// Counts the adapters that its requests will bring, now that it has none.
    fn promise(&self) {
        let measured = self.instance().measure();
        let adapter_bytes = self.weights.map_or(0, |weights| self.adapter_registry.bytes_on(&weights));
        // An engine that measures nothing is believed in its prediction, which has them.
        if measured.held_bytes + measured.mapped_bytes > 0 {
            self.promised_bytes.store(measured.held_bytes + adapter_bytes, Ordering::Relaxed);
        }
    }
}

#[deny(clippy::missing_trait_methods)]
impl Instance for StoreInstance {
    fn generate(&self, request: GenerationRequest) -> Result<Generation, Failure> {
        self.generate_while(request, &Unconfined)
    }

    fn generate_while(
        &self,
        mut request: GenerationRequest,
        control: &dyn PromptControl,
    ) -> Result<Generation, Failure> {
        if let Some(memory) = &self.memory {
            memory.take_up(&mut request, self.instance(), control);
        }
        if !control.is_wanted() {
            return Err(Failure::new(ErrorKind::Cancelled, "the request for this answer was cancelled"));
        }
        self.instance().generate_while(request, control)
    }

    fn embed(&self, request: EmbedRequest, control: &dyn PromptControl) -> Result<Generation, Failure> {
        self.instance().embed(request, control)
    }

    fn tokenize(&self, text: &str, add_special: bool, parse_special: bool) -> Result<Vec<u32>, Failure> {
        self.instance().tokenize(text, add_special, parse_special)
    }

    fn encode(&self, prompt: &Prompt, control: &dyn PromptControl) -> Result<Vec<u32>, Failure> {
        self.instance().encode(prompt, control)
    }

    fn render(&self, chat: &Chat, control: &dyn PromptControl) -> Result<String, Failure> {
        self.instance().render(chat, control)
    }

    fn count(&self, prompt: &Prompt, control: &dyn PromptControl) -> Result<u32, Failure> {
        self.instance().count(prompt, control)
    }

    fn detokenize(&self, tokens: &[u32]) -> Result<Vec<u8>, Failure> {
        self.instance().detokenize(tokens)
    }

    fn park(&self) -> Result<(), Failure> {
        if let Some(memory) = &self.memory {
            memory.leave(self.instance());
        }
        self.promised_bytes.store(0, Ordering::Relaxed);
        self.instance().park()
    }

    fn resume(&self, options: &LoadOptions) -> Result<(), Failure> {
        self.instance().resume(options)?;
        if let Some(memory) = &self.memory {
            memory.resized(options);
        }
        self.promise();
        Ok(())
    }

    fn arrangement(&self) -> Arrangement {
        self.loaded_layout.arrangement.clone()
    }

    fn measure(&self) -> Measurement {
        let measured = self.instance().measure();
        let promised_bytes = self.promised_bytes.load(Ordering::Relaxed);
        Measurement { held_bytes: measured.held_bytes.max(promised_bytes), ..measured }
    }

    fn share_cores(&self, cores: Cores) {
        self.instance().share_cores(cores);
    }

    fn probe(&self) -> Result<(), Failure> {
        self.instance().probe()
    }

    fn prefixes(&self) -> Result<Vec<CachedPrefix>, Failure> {
        self.instance().prefixes()
    }

    fn save_prefix(&self, prefix: &CachedPrefix, into: &File) -> Result<u64, Failure> {
        self.instance().save_prefix(prefix, into)
    }

    fn restore_prefix(&self, tokens: &[u32], scope: Scope, from: &File) -> Result<(), Failure> {
        self.instance().restore_prefix(tokens, scope, from)
    }
}

impl Drop for StoreInstance {
    fn drop(&mut self) {
        if let Some(memory) = &self.memory {
            memory.leave(self.instance());
        }
    }
}

#[cfg(test)]
mod tests {
    use samovar_core::testing::FakeEngine;
    use samovar_core::testing::conformance::Subject;
    use samovar_store::StoreConfig;

    use super::*;
    use crate::catalog::Stamp;
    use crate::packed::LayoutRegistry;

    /// A store, for as long as this lives.
    struct Home(tempfile::TempDir);

    impl Home {
        fn new() -> Self {
            Self(tempfile::tempdir().unwrap())
        }

        /// A file of the user, loaded as the runtime loads it, and remembered in the store.
        fn subject(&self) -> Subject {
            self.subject_of(FakeEngine::new())
        }

        /// The same model, loaded to make vectors.
        fn embedder(&self) -> Subject {
            let engine = FakeEngine::builder().capabilities(FakeEngine::EMBEDS).build();
            Subject { options: FakeEngine::embedder_options(), ..self.subject_of(engine) }
        }

        fn subject_of(&self, engine: FakeEngine) -> Subject {
            let mut config = StoreConfig::new(self.0.path().join("cache"), self.0.path().join("state"));
            config.min_free_bytes = 0;
            let prefixes = config.prefixes;
            let lazy_store = Arc::new(LazyStore::new(config));
            let engine: Arc<dyn Engine> = Arc::new(engine);
            let layout_registry =
                Arc::new(LayoutRegistry::new(Arc::clone(&lazy_store), Arc::clone(&engine), 1 << 30));
            let layout_loader = LayoutLoader::new(engine, Arc::clone(&lazy_store), layout_registry);
            let path = self.0.path().join("weights");
            fs_err::write(&path, "weights").unwrap();
            let identity = weights::of_file(&Stamp::of(&path).unwrap());
            let experience = Arc::new(Experience::new(Arc::clone(&lazy_store)));
            let engine = StoreEngine::new(layout_loader, lazy_store, Arc::default(), experience, prefixes);
            Subject {
                engine: Arc::new(engine),
                files: ModelFiles::of(path).identified(identity),
                packed: None,
                descriptor: FakeEngine::descriptor("any", 1 << 20),
                options: FakeEngine::options(),
                tie_gap: 0.0,
            }
        }
    }

    samovar_core::engine_conformance!(Home::new().subject());

    mod embedders {
        samovar_core::engine_conformance!(embeddings: super::Home::new().embedder());
    }
}
