//! An engine whose instances have what the store keeps for them: the leases on their files, the state of their prompts.
//!
//! ```text
//!   load(path) ─► whose path? ─┬─ a file of the user ──────────────────────► fitter ─┐
//!                              └─ the store's ─► open (lease) ─► fitter ─► note cost ─┴─► Kept
//!   generate ─► memory: is anything saved? ─► instance
//!   park, drop ─► memory: save what is worth it ─► instance ─► lease
//! ```
//!
//! The pool knows no store and the store knows no engine; this is where they meet.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use samovar_core::footprint::{Arrangement, Footprint, LoadOptions, Measurement, Speed};
use samovar_core::generation::{Generation, GenerationRequest, Prompt};
use samovar_core::port::{
    Capabilities, Engine, Instance, LoadControl, ModelFiles, PromptControl, Unconfined,
};
use samovar_core::{Descriptor, ErrorKind, Failure};
use samovar_store::{KeyDigest, Opened, PrefixConfig, Store, Verdict};

use crate::catalog::Riders;
use crate::experience;
use crate::memory::Memory;
use crate::packed::{Fitted, Fitter};
use crate::shelf::Shelf;

/// An engine whose models may lie in the store, and remember their prompts there.
pub(crate) struct Keeper {
    fitter: Fitter,
    shelf: Arc<Shelf>,
    riders: Arc<Riders>,
    prefixes: PrefixConfig,
}

impl Keeper {
    pub(crate) fn new(
        fitter: Fitter,
        shelf: Arc<Shelf>,
        riders: Arc<Riders>,
        prefixes: PrefixConfig,
    ) -> Self {
        Self { fitter, shelf, riders, prefixes }
    }

    fn engine(&self) -> &dyn Engine {
        &**self.fitter.engine()
    }

    fn load_artifact(
        &self,
        key: &KeyDigest,
        descriptor: &Descriptor,
        options: &LoadOptions,
        control: &LoadControl,
    ) -> Result<(Fitted, Opened), Failure> {
        let store = self.shelf.store()?;
        let opened = store.open_artifact(key)?;
        let path = opened.weights().first().cloned().ok_or_else(|| {
            Failure::new(ErrorKind::InvalidModel, format!("{} has no weights", opened.artifact().reference))
        })?;
        let began = Instant::now();
        match self.fitter.load(&path, descriptor, options, control) {
            Ok(fitted) => {
                let (measured, arranged) = (fitted.instance.measure(), &fitted.arrangement);
                let footprint =
                    Footprint { held_bytes: measured.held_bytes, mapped_bytes: measured.mapped_bytes };
                store.note_load(key, began.elapsed().as_secs_f64() * 1e3, footprint);
                let layout = if arranged.refused.is_some() { arranged.layout } else { options.layout };
                let options = LoadOptions { layout, ..options.clone() };
                experience::remember(&store, key, self.engine().name(), &options, footprint);
                Ok((fitted, opened))
            }
            Err(failure) => Err(explain(&store, key, &opened.artifact().reference, failure)),
        }
    }
}

/// What an engine cannot load may have rotted on the disk: then that is the news.
fn explain(store: &Store, key: &KeyDigest, reference: &str, failure: Failure) -> Failure {
    let may_be_rot = matches!(failure.kind, ErrorKind::InvalidModel | ErrorKind::EngineFailed);
    if !may_be_rot {
        return failure;
    }
    match store.suspect(key) {
        Ok(Verdict::Damaged(_)) => Failure::new(
            ErrorKind::Storage,
            format!(
                "the file of {reference} in the cache was damaged and has been set aside: {}",
                failure.message
            ),
        )
        .with_hint("ask again: it is brought anew"),
        Ok(Verdict::Sound) => failure,
        Err(unreadable) => unreadable.into(),
    }
}

impl Engine for Keeper {
    fn name(&self) -> &str {
        self.engine().name()
    }

    /// Whoever is above need save nothing.
    fn capabilities(&self) -> Capabilities {
        Capabilities { saves_prefixes: false, ..self.engine().capabilities() }
    }

    fn footprint(&self, descriptor: &Descriptor, options: &LoadOptions) -> Result<Footprint, Failure> {
        self.engine().footprint(descriptor, options)
    }

    fn packing(&self, descriptor: &Descriptor) -> Option<String> {
        self.engine().packing(descriptor)
    }

    fn pack(
        &self,
        path: &Path,
        descriptor: &Descriptor,
        source: &str,
        into: &File,
        control: &LoadControl,
    ) -> Result<u64, Failure> {
        self.engine().pack(path, descriptor, source, into, control)
    }

    fn calibrate(
        &self,
        files: ModelFiles<'_>,
        descriptor: &Descriptor,
        options: &LoadOptions,
        control: &LoadControl,
    ) -> Result<Vec<Speed>, Failure> {
        self.engine().calibrate(files, descriptor, options, control)
    }

    fn load(
        &self,
        files: ModelFiles<'_>,
        descriptor: &Descriptor,
        options: &LoadOptions,
        control: &LoadControl,
    ) -> Result<Arc<dyn Instance>, Failure> {
        let path = files.path;
        let memory = Memory::of(self.engine(), &self.shelf, self.prefixes, path, descriptor, options);
        let (fitted, opened) = match self.shelf.key_of(path) {
            Some(key) => {
                let (fitted, opened) = self.load_artifact(&key, descriptor, options, control)?;
                (fitted, Some(opened))
            }
            None => (self.fitter.load(path, descriptor, options, control)?, None),
        };
        let kept = Kept {
            // A file that was replaced while it was loaded is nobody's in particular.
            memory: memory.filter(|memory| memory.is_of(path, descriptor)),
            fitted,
            path: path.to_owned(),
            riders: Arc::clone(&self.riders),
            promised_bytes: AtomicU64::default(),
            _opened: opened,
        };
        kept.promise();
        Ok(Arc::new(kept))
    }
}

/// A loaded model with all that the store keeps for it. Its files stay on the disk for as long as it lives.
struct Kept {
    memory: Option<Memory>,
    // Dropped before the lease: that ends after the model has left memory.
    fitted: Fitted,
    path: PathBuf,
    riders: Arc<Riders>,
    /// What it will hold once all adapters of its names are attached; 0 while it is parked.
    promised_bytes: AtomicU64,
    _opened: Option<Opened>,
}

impl Kept {
    fn instance(&self) -> &dyn Instance {
        &*self.fitted.instance
    }

    /// Counts the adapters that its requests will bring, now that it has none.
    fn promise(&self) {
        let measured = self.instance().measure();
        let riding_bytes = self.riders.bytes_on(&self.path);
        // An engine that measures nothing is believed in its prediction, which has them.
        if measured.held_bytes + measured.mapped_bytes > 0 {
            self.promised_bytes.store(measured.held_bytes + riding_bytes, Ordering::Relaxed);
        }
    }
}

impl Instance for Kept {
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
            return Err(Failure::new(ErrorKind::Cancelled, "nobody waits for the answer any more"));
        }
        self.instance().generate_while(request, control)
    }

    fn tokenize(&self, text: &str, add_special: bool, parse_special: bool) -> Result<Vec<u32>, Failure> {
        self.instance().tokenize(text, add_special, parse_special)
    }

    fn encode(&self, prompt: &Prompt, control: &dyn PromptControl) -> Result<Vec<u32>, Failure> {
        self.instance().encode(prompt, control)
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
        self.fitted.arrangement.clone()
    }

    fn measure(&self) -> Measurement {
        let measured = self.instance().measure();
        let promised_bytes = self.promised_bytes.load(Ordering::Relaxed);
        Measurement { held_bytes: measured.held_bytes.max(promised_bytes), ..measured }
    }

    fn probe(&self) -> Result<(), Failure> {
        self.instance().probe()
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        if let Some(memory) = &self.memory {
            memory.leave(self.instance());
        }
    }
}
