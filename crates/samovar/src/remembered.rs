//! An engine whose instances leave their prompts' state on the disk when they go, and take it up when they come.
//!
//! ```text
//!   generate ─► is anything saved? ─ no ─────────────────────────────────────────────► engine
//!                    └ tokens ─► longer than what it holds? ─► store ─► restore_prefix ─┘
//!   park, drop ─► what is worth it ─► save_prefix ─► store ─► engine
//! ```
//!
//! A model that is evicted, or whose daemon is started anew, so goes on where it was. Whatever goes wrong on
//! the way costs the time to compute a prompt, and nothing else: no request fails for it, no answer is another.
//! Requests with adapters neither use nor leave such state.

use std::collections::VecDeque;
use std::fs::File;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use samovar_core::footprint::{Arrangement, Footprint, KvType, LoadOptions, Measurement, Speed};
use samovar_core::generation::{CachedPrefix, Generation, GenerationRequest, Prompt};
use samovar_core::port::{Capabilities, Engine, Instance, LoadControl, ModelFiles};
use samovar_core::{Descriptor, ErrorKind, Failure};
use samovar_store::{PrefixConfig, Prefixes, SavedPrefix, Weights};

use crate::catalog::Stamp;
use crate::shelf::Shelf;

/// How long an instance may hold up whoever wants its memory.
const KEEP_WITHIN: Duration = Duration::from_secs(2);
/// What a disk is trusted to take in that time.
const BYTES_PER_S: u64 = 500_000_000;
/// Prompts of one instance that are kept at a time, those used last.
const KEPT_AT_ONCE: usize = 4;
/// State that says less than this much more than what there is already is not worth moving.
const GAIN_TOKENS: usize = 64;
/// Keeping a state again pays when this part of it is new …
const NEW_PART: usize = 8;
/// … and restoring one when this part of it is of use: it costs about a hundredth of computing it.
const USEFUL_PART: usize = 16;

/// An engine whose models remember their prompts.
pub(crate) struct Remembered {
    engine: Arc<dyn Engine>,
    shelf: Arc<Shelf>,
    min_tokens: usize,
}

impl Remembered {
    /// The engine with a memory; as it is where nothing is to be kept, or cannot be.
    pub(crate) fn around(
        engine: Arc<dyn Engine>,
        shelf: &Arc<Shelf>,
        config: PrefixConfig,
    ) -> Arc<dyn Engine> {
        if !config.is_on() || !engine.capabilities().saves_prefixes {
            return engine;
        }
        let min_tokens = (config.min_tokens as usize).max(1);
        Arc::new(Self { engine, shelf: Arc::clone(shelf), min_tokens })
    }

    /// What tells these weights from all others; nothing for a file whose further parts could change unseen.
    fn weights(&self, path: &Path, descriptor: &Descriptor) -> Option<Weights> {
        match self.shelf.key_of(path) {
            Some(key) => Some(Weights::Artifact(key)),
            None if descriptor.parts <= 1 => Stamp::of(path).ok().map(|stamp| Weights::File(stamp.digest())),
            None => None,
        }
    }
}

impl Engine for Remembered {
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
        let weights = self.weights(files.path, descriptor);
        let instance = self.engine.load(files, descriptor, options, control)?;
        match weights {
            // A file that was replaced while it was loaded is nobody's in particular.
            Some(weights) if self.weights(files.path, descriptor) == Some(weights) => {
                Ok(Arc::new(Remembering {
                    memory: Memory {
                        shelf: Arc::clone(&self.shelf),
                        weights,
                        engine: self.engine.name().to_owned(),
                        kv_type: options.kv_type,
                        bytes_per_token: descriptor.kv_bytes_per_token(),
                        min_tokens: self.min_tokens,
                        opened: Mutex::default(),
                    },
                    context_tokens: AtomicU32::new(options.context_tokens),
                    recent: Mutex::new(Recent {
                        most: options.slots.max(1) as usize,
                        prompts: VecDeque::new(),
                    }),
                    instance,
                }))
            }
            _ => Ok(instance),
        }
    }
}

/// A loaded model that remembers its prompts.
struct Remembering {
    memory: Memory,
    context_tokens: AtomicU32,
    /// Held while a state is taken in, so that of many who need it one restores it.
    recent: Mutex<Recent>,
    instance: Arc<dyn Instance>,
}

/// Where the prompts of one model lie on the disk.
struct Memory {
    shelf: Arc<Shelf>,
    weights: Weights,
    engine: String,
    kv_type: KvType,
    bytes_per_token: u64,
    min_tokens: usize,
    /// Once the store was opened for it.
    opened: Mutex<Option<Prefixes>>,
}

/// Prompts that the instance was given last, and so will hold.
struct Recent {
    most: usize,
    prompts: VecDeque<Arc<[u32]>>,
}

impl Remembering {
    /// The tokens of a prompt for which something on the disk might be of use.
    fn tokens_of(&self, request: &GenerationRequest) -> Option<Vec<u32>> {
        if !request.reuse_prefix || !request.adapters.is_empty() {
            return None;
        }
        // No token is less than a byte.
        let at_most = match &request.prompt {
            Prompt::Text { text, .. } => text.len() + 1,
            Prompt::Tokens(tokens) => tokens.len(),
        };
        if at_most <= self.memory.min_tokens || self.memory.prefixes()?.is_empty() {
            return None;
        }
        let tokens = match &request.prompt {
            Prompt::Text { text, add_special, parse_special } => {
                self.instance.tokenize(text, *add_special, *parse_special).ok()?
            }
            Prompt::Tokens(tokens) => tokens.clone(),
        };
        (tokens.len() > self.memory.min_tokens).then_some(tokens)
    }

    /// Lets the instance have the saved state that is of most use for a prompt, where it has less itself.
    fn recall(&self, tokens: &[u32]) {
        let Some(prefixes) = self.memory.prefixes() else { return };
        // The last token is computed in any case.
        let Some(found) = prefixes.longest(&tokens[..tokens.len() - 1]) else { return };
        let fits = found.tokens.len() < self.context_tokens.load(Ordering::Relaxed) as usize;
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        if fits && self.memory.is_useful(&found, recent.common(tokens)) {
            // Asking holds the instance up for a step, so that only those ask who may gain by it.
            let held = self.instance.prefixes().unwrap_or_default();
            let held = held.iter().map(|held| common(&held.tokens, tokens)).max().unwrap_or(0);
            if self.memory.is_useful(&found, held) {
                self.restore(&prefixes, &found);
            }
        }
        recent.note(tokens);
    }

    fn restore(&self, prefixes: &Prefixes, found: &SavedPrefix) {
        let began = Instant::now();
        let restored = match prefixes.open(found) {
            Ok(Some(file)) => self.instance.restore_prefix(&found.tokens, &file),
            Ok(None) => return,
            Err(error) => Err(error.into()),
        };
        let (tokens, common) = (found.tokens.len(), found.common);
        match restored {
            Ok(()) => {
                prefixes.note_restored(found);
                let took_ms = began.elapsed().as_millis() as u64;
                tracing::debug!(tokens, common, took_ms, "a prompt's state was taken up again");
            }
            Err(failure) => {
                tracing::debug!(tokens, "a prompt's state was not taken up: {failure}");
                // The bytes are right, and still the engine has no use for them.
                if failure.kind == ErrorKind::InvalidRequest {
                    prefixes.forget(found);
                }
            }
        }
    }

    /// Leaves on the disk what would have to be computed again. Bounded in time, and never a failure.
    fn keep(&self) {
        let began = Instant::now();
        let mut held = match self.instance.prefixes() {
            Ok(held) => held,
            Err(failure) => return tracing::debug!("nothing of the instance can be kept: {failure}"),
        };
        held.retain(|prefix| prefix.tokens.len() >= self.memory.min_tokens);
        if held.is_empty() {
            return;
        }
        let Some(prefixes) = self.memory.prefixes() else { return };
        let mut kept = 0;
        for prefix in held.iter().rev().filter(|prefix| !says_less(prefix, &held)) {
            let left = KEEP_WITHIN.saturating_sub(began.elapsed());
            let bytes = self.memory.bytes_per_token * prefix.tokens.len() as u64;
            let is_in_time = bytes <= left.as_millis() as u64 * (BYTES_PER_S / 1_000) && !left.is_zero();
            if kept == KEPT_AT_ONCE || !is_in_time {
                tracing::debug!(kept, bytes, "no more prompts' state is kept this time");
                break;
            }
            if !self.memory.is_new(&prefixes, &prefix.tokens) {
                continue;
            }
            match prefixes.save(&prefix.tokens, bytes, |file| self.instance.save_prefix(prefix, file)) {
                Ok(is_new) => kept += usize::from(is_new),
                Err(failure) if failure.kind == ErrorKind::NotFound => {}
                Err(failure) => {
                    tracing::info!("a prompt's state is not kept: {failure}");
                    break;
                }
            }
        }
        if kept > 0 {
            let took_ms = began.elapsed().as_millis() as u64;
            tracing::info!(kept, took_ms, "prompts' state was kept on the disk");
        }
    }
}

/// Whether another one says all that this one does, and more.
fn says_less(prefix: &CachedPrefix, held: &[CachedPrefix]) -> bool {
    let tokens = &prefix.tokens;
    held.iter().any(|other| other.tokens.len() > tokens.len() && other.tokens.starts_with(tokens))
}

fn common(left: &[u32], right: &[u32]) -> usize {
    left.iter().zip(right).take_while(|(a, b)| a == b).count()
}

impl Memory {
    /// What the store has for this model; nothing while the store cannot be used.
    fn prefixes(&self) -> Option<Prefixes> {
        let mut opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        if opened.is_none() {
            match self.shelf.store() {
                Ok(store) => *opened = Some(store.prefixes(&self.weights, &self.engine, self.kv_type)),
                Err(failure) => tracing::debug!("no prompt's state is kept or used: {failure}"),
            }
        }
        opened.clone()
    }

    /// Whether restoring a saved state beats computing on from what the instance holds.
    fn is_useful(&self, found: &SavedPrefix, held: usize) -> bool {
        let gain = found.common.saturating_sub(held);
        found.common >= self.min_tokens
            && gain >= GAIN_TOKENS.min(self.min_tokens)
            && gain * USEFUL_PART >= found.tokens.len()
    }

    /// Whether a state says enough that no saved one does.
    fn is_new(&self, prefixes: &Prefixes, tokens: &[u32]) -> bool {
        let known = prefixes.longest(tokens).map_or(0, |saved| saved.common);
        let new = tokens.len() - known;
        new >= GAIN_TOKENS.min(self.min_tokens) && new * NEW_PART >= tokens.len()
    }
}

impl Recent {
    fn common(&self, tokens: &[u32]) -> usize {
        self.prompts.iter().map(|prompt| common(prompt, tokens)).max().unwrap_or(0)
    }

    fn note(&mut self, tokens: &[u32]) {
        self.prompts.push_back(tokens.into());
        if self.prompts.len() > self.most {
            self.prompts.pop_front();
        }
    }
}

impl Instance for Remembering {
    fn generate(&self, mut request: GenerationRequest) -> Result<Generation, Failure> {
        if let Some(tokens) = self.tokens_of(&request) {
            self.recall(&tokens);
            // So that nothing is tokenized twice.
            request.prompt = Prompt::Tokens(tokens);
        }
        self.instance.generate(request)
    }

    fn tokenize(&self, text: &str, add_special: bool, parse_special: bool) -> Result<Vec<u32>, Failure> {
        self.instance.tokenize(text, add_special, parse_special)
    }

    fn detokenize(&self, tokens: &[u32]) -> Result<Vec<u8>, Failure> {
        self.instance.detokenize(tokens)
    }

    fn park(&self) -> Result<(), Failure> {
        self.keep();
        self.recent.lock().unwrap_or_else(PoisonError::into_inner).prompts.clear();
        self.instance.park()
    }

    fn resume(&self, options: &LoadOptions) -> Result<(), Failure> {
        self.instance.resume(options)?;
        self.context_tokens.store(options.context_tokens, Ordering::Relaxed);
        self.recent.lock().unwrap_or_else(PoisonError::into_inner).most = options.slots.max(1) as usize;
        Ok(())
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

impl Drop for Remembering {
    fn drop(&mut self) {
        self.keep();
    }
}

#[cfg(test)]
mod tests {
    use samovar_core::generation::{Adapter, TokenEvent};
    use samovar_core::testing::fake::FakeEngine;
    use samovar_store::StoreConfig;

    use super::*;

    /// An instance with a memory below `home`, of a file that is there.
    fn load(home: &Path, engine: &FakeEngine) -> (Arc<dyn Instance>, Arc<Shelf>) {
        let mut config = StoreConfig::new(home.join("cache"), home.join("state"));
        config.min_free_bytes = 0;
        let shelf = Arc::new(Shelf::new(config.clone()));
        let remembered = Remembered::around(Arc::new(engine.clone()), &shelf, config.prefixes);
        let path = home.join("weights");
        if !path.exists() {
            fs_err::write(&path, "weights").unwrap();
        }
        let descriptor = FakeEngine::descriptor("a model", 1 << 20);
        let control = LoadControl::silent();
        (
            remembered.load(ModelFiles::of(&path), &descriptor, &FakeEngine::options(), &control).unwrap(),
            shelf,
        )
    }

    fn request() -> GenerationRequest {
        let prompt = Prompt::Tokens((0..300).map(|token| 10 + token % 97).collect());
        GenerationRequest { max_tokens: Some(4), ..GenerationRequest::new(prompt) }
    }

    /// Tokens of the prompt that were not computed.
    fn cached(instance: &Arc<dyn Instance>, request: GenerationRequest) -> u32 {
        let mut generation = instance.generate(request).unwrap();
        loop {
            match generation.blocking_next().unwrap() {
                TokenEvent::Done(done) => return done.usage.cached_tokens,
                TokenEvent::Failed(failure) => panic!("{failure}"),
                _ => {}
            }
        }
    }

    #[test]
    fn private_requests_and_those_with_adapters_use_nothing_that_was_saved() {
        let home = tempfile::tempdir().unwrap();
        let engine = FakeEngine::new();
        let (first, _) = load(home.path(), &engine);
        assert_eq!(cached(&first, request()), 0);
        drop(first);
        let (second, shelf) = load(home.path(), &engine);
        let adapter = Adapter { path: "adapter".into(), scale: 1.0 };
        let private = GenerationRequest { reuse_prefix: false, ..request() };
        assert_eq!(cached(&second, private), 0);
        drop(second.generate(GenerationRequest { adapters: vec![adapter], ..request() }));
        assert_eq!(shelf.store().unwrap().stats().unwrap().prefixes_restored, 0);
        let (third, shelf) = load(home.path(), &engine);
        let cached = cached(&third, request());
        let restored = shelf.store().unwrap().stats().unwrap().prefixes_restored;
        assert_eq!((cached, restored), (299, 1));
    }

    #[test]
    fn what_does_not_fit_the_context_any_more_is_computed_and_kept() {
        let home = tempfile::tempdir().unwrap();
        let engine = FakeEngine::new();
        assert_eq!(cached(&load(home.path(), &engine).0, request()), 0);
        let (small, _) = load(home.path(), &engine);
        small.park().unwrap();
        small.resume(&LoadOptions { context_tokens: 302, ..FakeEngine::options() }).unwrap();
        assert_eq!(cached(&small, GenerationRequest { max_tokens: Some(1), ..request() }), 0);
        drop(small);
        assert_eq!(cached(&load(home.path(), &engine).0, request()), 299);
    }
}
