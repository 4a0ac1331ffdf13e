//! An engine that holds the store's lease on what it loads, and tells the store what loading cost.
//!
//! ```text
//!   load(path) ─► whose path? ─┬─ a file of the user ──────────────────────► engine
//!                              └─ the store's ─► open (lease) ─► engine ─► note what it took
//!                                                   └ held by the instance until it is dropped
//! ```
//!
//! The pool knows no store and the store knows no engine; this is where they meet.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use samovar_core::footprint::{Arrangement, Footprint, LoadOptions, Measurement, Speed};
use samovar_core::generation::{CachedPrefix, Generation, GenerationRequest};
use samovar_core::port::{Capabilities, Engine, Instance, LoadControl, ModelFiles};
use samovar_core::{Descriptor, ErrorKind, Failure};
use samovar_store::{KeyDigest, Opened, Store, Verdict};

use crate::experience;
use crate::shelf::Shelf;

/// An engine whose models may lie in the store.
pub(crate) struct Leased {
    engine: Arc<dyn Engine>,
    shelf: Arc<Shelf>,
}

impl Leased {
    pub(crate) fn new(engine: Arc<dyn Engine>, shelf: Arc<Shelf>) -> Self {
        Self { engine, shelf }
    }

    fn load_artifact(
        &self,
        key: &KeyDigest,
        files: ModelFiles<'_>,
        descriptor: &Descriptor,
        options: &LoadOptions,
        control: &LoadControl,
    ) -> Result<Arc<dyn Instance>, Failure> {
        let store = self.shelf.store()?;
        let opened = store.open_artifact(key)?;
        let path = opened.weights().first().cloned().ok_or_else(|| {
            Failure::new(ErrorKind::InvalidModel, format!("{} has no weights", opened.artifact().reference))
        })?;
        let began = Instant::now();
        match self.engine.load(ModelFiles { path: &path, ..files }, descriptor, options, control) {
            Ok(instance) => {
                let measured = instance.measure();
                let footprint =
                    Footprint { held_bytes: measured.held_bytes, mapped_bytes: measured.mapped_bytes };
                store.note_load(key, began.elapsed().as_secs_f64() * 1e3, footprint);
                experience::remember(&store, key, self.engine.name(), options, footprint);
                Ok(Arc::new(Held { instance, _opened: opened }))
            }
            Err(failure) => Err(explain(&store, key, failure)),
        }
    }
}

/// What an engine cannot load may have rotted on the disk: then that is the news.
fn explain(store: &Store, key: &KeyDigest, failure: Failure) -> Failure {
    let may_be_rot = matches!(failure.kind, ErrorKind::InvalidModel | ErrorKind::EngineFailed);
    if !may_be_rot {
        return failure;
    }
    match store.suspect(key) {
        Ok(Verdict::Damaged(_)) => Failure::new(
            ErrorKind::Storage,
            format!("the model's file in the cache was damaged and has been set aside: {}", failure.message),
        )
        .with_hint("ask again: it is fetched anew from its source"),
        Ok(Verdict::Sound) => failure,
        Err(unreadable) => unreadable.into(),
    }
}

impl Engine for Leased {
    fn name(&self) -> &str {
        self.engine.name()
    }

    fn capabilities(&self) -> Capabilities {
        self.engine.capabilities()
    }

    fn footprint(&self, descriptor: &Descriptor, options: &LoadOptions) -> Result<Footprint, Failure> {
        self.engine.footprint(descriptor, options)
    }

    fn packing(&self, descriptor: &Descriptor) -> Option<String> {
        self.engine.packing(descriptor)
    }

    fn pack(
        &self,
        path: &Path,
        descriptor: &Descriptor,
        source: &str,
        into: &File,
        control: &LoadControl,
    ) -> Result<u64, Failure> {
        self.engine.pack(path, descriptor, source, into, control)
    }

    fn calibrate(
        &self,
        files: ModelFiles<'_>,
        descriptor: &Descriptor,
        options: &LoadOptions,
        control: &LoadControl,
    ) -> Result<Vec<Speed>, Failure> {
        self.engine.calibrate(files, descriptor, options, control)
    }

    fn load(
        &self,
        files: ModelFiles<'_>,
        descriptor: &Descriptor,
        options: &LoadOptions,
        control: &LoadControl,
    ) -> Result<Arc<dyn Instance>, Failure> {
        match self.shelf.key_of(files.path) {
            Some(key) => self.load_artifact(&key, files, descriptor, options, control),
            None => self.engine.load(files, descriptor, options, control),
        }
    }
}

/// A loaded model of the store. Its files stay on the disk for as long as it lives.
struct Held {
    // Dropped first: the lease ends after the model has left memory.
    instance: Arc<dyn Instance>,
    _opened: Opened,
}

impl Instance for Held {
    fn generate(&self, request: GenerationRequest) -> Result<Generation, Failure> {
        self.instance.generate(request)
    }

    fn tokenize(&self, text: &str, add_special: bool, parse_special: bool) -> Result<Vec<u32>, Failure> {
        self.instance.tokenize(text, add_special, parse_special)
    }

    fn detokenize(&self, tokens: &[u32]) -> Result<Vec<u8>, Failure> {
        self.instance.detokenize(tokens)
    }

    fn park(&self) -> Result<(), Failure> {
        self.instance.park()
    }

    fn resume(&self, options: &LoadOptions) -> Result<(), Failure> {
        self.instance.resume(options)
    }

    fn arrangement(&self) -> Arrangement {
        self.instance.arrangement()
    }

    fn measure(&self) -> Measurement {
        self.instance.measure()
    }

    fn probe(&self) -> Result<(), Failure> {
        self.instance.probe()
    }

    fn prefixes(&self) -> Result<Vec<CachedPrefix>, Failure> {
        self.instance.prefixes()
    }

    fn save_prefix(&self, prefix: &CachedPrefix, into: &File) -> Result<u64, Failure> {
        self.instance.save_prefix(prefix, into)
    }

    fn restore_prefix(&self, tokens: &[u32], from: &File) -> Result<(), Failure> {
        self.instance.restore_prefix(tokens, from)
    }
}
