//! What a loaded model leaves on the disk of its prompts' state when it goes, and takes up when it comes back.
//!
//! ```text
//!   take_up ─► is anything saved? ─ no ──► ·
//!                 └ tokens ─► longer than what it holds? ─► store ─► restore_prefix
//!   leave ───► what is worth it ─► save_prefix ─► store
//! ```
//!
//! A model that is evicted, or whose daemon is started anew, so goes on where it was. Whatever goes wrong on
//! the way costs the time to compute a prompt, and nothing else: no request fails for it, no answer is another.
//! Requests with adapters neither use nor leave such state.

use std::borrow::Cow;
use std::collections::{HashMap, VecDeque};
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use samovar_core::footprint::{KvType, LoadOptions};
use samovar_core::generation::{CachedPrefix, GenerationRequest, Prompt};
use samovar_core::port::{Engine, Instance, PromptControl};
use samovar_core::{Descriptor, Digest, ErrorKind, Scope, WeightsId};
use samovar_store::{KeyDigest, PrefixConfig, Prefixes, SavedPrefix, Weights};

use crate::lazy_store::LazyStore;
use crate::weights;

/// How long an instance may hold up a demand for its memory.
const KEEP_WITHIN: Duration = Duration::from_secs(2);
/// What a disk is trusted to take in that time.
const BYTES_PER_S: u64 = 500_000_000;
/// Clients whose saved state is known at a time, where clients share nothing.
const CLIENTS_AT_ONCE: usize = 64;
/// Prompts of one instance that are kept at a time, those used last.
const KEPT_AT_ONCE: usize = 4;
/// State that says less than this much more than what there is already is not worth moving.
const GAIN_TOKENS: usize = 64;
/// Keeping a state again pays when this part of it is new …
const NEW_PART: usize = 8;
/// … and restoring one when this part of it is of use: it costs about a hundredth of computing it.
const USEFUL_PART: usize = 16;

/// The prompts of one loaded model.
pub(crate) struct Memory {
    lazy_store: Arc<LazyStore>,
    weights: WeightsId,
    engine: String,
    kv_type: KvType,
    bytes_per_token: u64,
    min_tokens: usize,
    /// Once the store was opened for it: what all clients share, or what is a client's own.
    opened: Mutex<HashMap<Option<Digest>, Prefixes>>,
    context_tokens: AtomicU32,
    /// Held while a state is taken in, so that of many who need it one restores it.
    recent: Mutex<Recent>,
}

/// Prompts that the instance was given last, and so will hold.
struct Recent {
    most: usize,
    prompts: VecDeque<(Scope, Box<[u32]>)>,
}

impl Memory {
    /// For a model that is about to be loaded; none where nothing is to be kept, or cannot be: it is unknown which bytes
    /// it is, or its further files could change unseen.
    pub(crate) fn of(
        engine: &dyn Engine,
        lazy_store: &Arc<LazyStore>,
        config: PrefixConfig,
        weights: Option<WeightsId>,
        descriptor: &Descriptor,
        options: &LoadOptions,
    ) -> Option<Self> {
        let capabilities = engine.capabilities(descriptor);
        // Prompts are of those that write text: an input of an embedder is computed once.
        if !config.is_on() || !capabilities.saves_prefixes || !capabilities.can_generate {
            return None;
        }
        Some(Self {
            lazy_store: Arc::clone(lazy_store),
            weights: weights.filter(|weights| weights::fixes_all_of(weights, descriptor))?,
            engine: engine.engine_for(descriptor).ok()?.name,
            kv_type: options.kv_type,
            bytes_per_token: descriptor.kv_bytes_per_token(),
            min_tokens: (config.min_tokens as usize).max(1),
            opened: Mutex::default(),
            context_tokens: AtomicU32::new(options.context_tokens),
            recent: Mutex::new(Recent { most: options.slots.max(1) as usize, prompts: VecDeque::new() }),
        })
    }

    /// Whether it is still that of the model at `path`.
    pub(crate) fn is_of(&self, path: &Path) -> bool {
        weights::are_at(&self.weights, path)
    }

    /// Lets the instance have what is saved of a request's prompt. Of a text for which something might be, the
    /// request has the tokens afterwards, so that nothing is tokenized twice. A conversation stays one: how its answer is
    /// read depends on it.
    pub(crate) fn take_up(
        &self,
        request: &mut GenerationRequest,
        instance: &dyn Instance,
        control: &dyn PromptControl,
    ) {
        if !self.may_know(request) {
            return;
        }
        let tokens = match &request.prompt {
            Prompt::Tokens(tokens) => Cow::Borrowed(tokens.as_slice()),
            // What is wrong with it, the instance says to the request itself.
            prompt => match instance.encode(prompt, control) {
                Ok(tokens) => Cow::Owned(tokens),
                Err(_) => return,
            },
        };
        if tokens.len() > self.min_tokens && control.is_wanted() {
            self.recall(&tokens, &request.scope, instance);
        }
        let encoded = match tokens {
            Cow::Owned(tokens) => Some(tokens),
            Cow::Borrowed(_) => None,
        };
        if let Some(tokens) = encoded
            && !matches!(request.prompt, Prompt::Chat(_))
        {
            request.prompt = Prompt::Tokens(tokens);
        }
    }

    /// The instance has another size from now on.
    pub(crate) fn resized(&self, options: &LoadOptions) {
        self.context_tokens.store(options.context_tokens, Ordering::Relaxed);
        self.recent().most = options.slots.max(1) as usize;
    }

    /// Whether something on the disk might be of use for a request.
    fn may_know(&self, request: &GenerationRequest) -> bool {
        // No token is less than a byte.
        let at_most = match &request.prompt {
            Prompt::Text { text, .. } => text.len() + 1,
            Prompt::Tokens(tokens) => tokens.len(),
            // What its template adds is not known here, nor how much of a text fits.
            Prompt::Chat(_) | Prompt::Infill(_) => usize::MAX,
        };
        request.reuse_prefix
            && request.adapters.is_empty()
            && at_most > self.min_tokens
            && self.prefixes(&request.scope).is_some_and(|prefixes| !prefixes.is_empty())
    }

    /// Restores the saved state that is of most use for a prompt, where the instance has less itself.
    fn recall(&self, tokens: &[u32], scope: &Scope, instance: &dyn Instance) {
        let Some(prefixes) = self.prefixes(scope) else { return };
        // The last token is computed in any case.
        let Some(found) = prefixes.longest(&tokens[..tokens.len() - 1]) else { return };
        let fits = found.tokens.len() < self.context_tokens.load(Ordering::Relaxed) as usize;
        let mut recent = self.recent();
        if fits && self.is_useful(&found, recent.common(tokens, scope)) {
            // Asking holds the instance up for a step, so that only those ask who may gain by it.
            let held = instance.prefixes().unwrap_or_default();
            let held = held.iter().filter(|held| scope.may_use(&held.scope));
            let held = held.map(|held| common(&held.tokens, tokens)).max().unwrap_or(0);
            if self.is_useful(&found, held) {
                restore(&prefixes, &found, instance);
            }
        }
        recent.note(tokens, *scope);
    }

    /// Leaves on the disk what would have to be computed again, since the instance is about to forget it. Bounded in
    /// time, and never a failure.
    pub(crate) fn leave(&self, instance: &dyn Instance) {
        self.recent().prompts.clear();
        let began = Instant::now();
        let mut held = match instance.prefixes() {
            Ok(held) => held,
            Err(failure) => return tracing::debug!("nothing of the instance can be kept: {failure}"),
        };
        held.retain(|prefix| prefix.tokens.len() >= self.min_tokens);
        if held.is_empty() {
            return;
        }
        let mut kept = 0;
        for prefix in held.iter().rev().filter(|prefix| !says_less(prefix, &held)) {
            let Some(prefixes) = self.prefixes(&prefix.scope) else { return };
            let left = KEEP_WITHIN.saturating_sub(began.elapsed());
            let bytes = self.bytes_per_token * prefix.tokens.len() as u64;
            let is_in_time = bytes <= left.as_millis() as u64 * (BYTES_PER_S / 1_000) && !left.is_zero();
            if kept == KEPT_AT_ONCE || !is_in_time {
                tracing::debug!(kept, bytes, "no more prompts' state is kept this time");
                break;
            }
            if !self.is_new(&prefixes, &prefix.tokens) {
                continue;
            }
            let client = prefix.scope.client;
            match prefixes.save(&prefix.tokens, client, bytes, |file| instance.save_prefix(prefix, file)) {
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

    /// What the store has for this model that a request of this scope may use; nothing while the store cannot be used.
    fn prefixes(&self, scope: &Scope) -> Option<Prefixes> {
        let owner = scope.client.filter(|_| scope.is_private);
        let mut opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(prefixes) = opened.get(&owner) {
            return Some(prefixes.clone());
        }
        let weights = match self.weights {
            WeightsId::Artifact(digest) => Weights::Artifact(KeyDigest::from_digest(digest)),
            WeightsId::File(digest) | WeightsId::Prepared(digest) => Weights::File(digest),
        };
        let store = self.lazy_store.store();
        let store =
            store.inspect_err(|failure| tracing::debug!("no prompt's state is kept or used: {failure}"));
        let prefixes = store.ok()?.prefixes(&weights, &self.engine, self.kv_type, scope);
        if opened.len() >= CLIENTS_AT_ONCE {
            // What is there is read again by the next caller.
            opened.clear();
        }
        opened.insert(owner, prefixes.clone());
        Some(prefixes)
    }

    fn recent(&self) -> MutexGuard<'_, Recent> {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
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

fn restore(prefixes: &Prefixes, found: &SavedPrefix, instance: &dyn Instance) {
    let began = Instant::now();
    let restored = match prefixes.open(found) {
        Ok(Some(file)) => instance.restore_prefix(&found.tokens, found.scope, &file),
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

/// Whether another one that is for the same requests says all that this one does, and more.
fn says_less(prefix: &CachedPrefix, held: &[CachedPrefix]) -> bool {
    let tokens = &prefix.tokens;
    held.iter()
        .filter(|other| prefix.scope.may_use(&other.scope))
        .any(|other| other.tokens.len() > tokens.len() && other.tokens.starts_with(tokens))
}

fn common(left: &[u32], right: &[u32]) -> usize {
    left.iter().zip(right).take_while(|(a, b)| a == b).count()
}

impl Recent {
    fn common(&self, tokens: &[u32], scope: &Scope) -> usize {
        let usable = self.prompts.iter().filter(|(of, _)| scope.may_use(of));
        usable.map(|(_, prompt)| common(prompt, tokens)).max().unwrap_or(0)
    }

    fn note(&mut self, tokens: &[u32], scope: Scope) {
        self.prompts.push_back((scope, tokens.into()));
        if self.prompts.len() > self.most {
            self.prompts.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use samovar_core::generation::{Adapter, TokenEvent};
    use samovar_core::port::{LoadControl, LoadRequest};
    use samovar_core::testing::fake::{FakeEngine, Script};
    use samovar_core::{Chat, Delta, ModelFiles};
    use samovar_store::StoreConfig;

    use super::*;
    use crate::catalog::{AdapterRegistry, Stamp};
    use crate::experience::Experience;
    use crate::packed::{LayoutLoader, LayoutRegistry};
    use crate::store_engine::StoreEngine;

    /// An instance with a memory below `home`, of a file that is there.
    fn load(home: &Path, engine: &FakeEngine) -> (Arc<dyn Instance>, Arc<LazyStore>) {
        let mut config = StoreConfig::new(home.join("cache"), home.join("state"));
        config.min_free_bytes = 0;
        let lazy_store = Arc::new(LazyStore::new(config.clone()));
        let adapter_registry = Arc::new(AdapterRegistry::default());
        let engine: Arc<dyn Engine> = Arc::new(engine.clone());
        let layout_registry =
            Arc::new(LayoutRegistry::new(Arc::clone(&lazy_store), Arc::clone(&engine), 1 << 30));
        let layout_loader = LayoutLoader::new(engine, Arc::clone(&lazy_store), layout_registry);
        let experience = Arc::new(Experience::new(Arc::clone(&lazy_store)));
        let store_engine = StoreEngine::new(
            layout_loader,
            Arc::clone(&lazy_store),
            adapter_registry,
            experience,
            config.prefixes,
        );
        let path = home.join("weights");
        if !path.exists() {
            fs_err::write(&path, "weights").unwrap();
        }
        let identity = weights::of_file(&Stamp::of(&path).unwrap());
        let (descriptor, options) = (FakeEngine::descriptor("a model", 1 << 20), FakeEngine::options());
        let (files, control) = (ModelFiles::of(path).identified(identity), LoadControl::silent());
        let request = LoadRequest::new(&files, &descriptor, &options, &control);
        (store_engine.load(request).unwrap(), lazy_store)
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
        let (second, lazy_store) = load(home.path(), &engine);
        let adapter = Adapter { path: "adapter".into(), scale: 1.0 };
        let private = GenerationRequest { reuse_prefix: false, ..request() };
        assert_eq!(cached(&second, private), 0);
        drop(second.generate(GenerationRequest { adapters: vec![adapter], ..request() }));
        assert_eq!(lazy_store.store().unwrap().stats().unwrap().prefixes_restored, 0);
        let (third, lazy_store) = load(home.path(), &engine);
        let cached = cached(&third, request());
        let restored = lazy_store.store().unwrap().stats().unwrap().prefixes_restored;
        assert_eq!((cached, restored), (299, 1));
    }

    #[test]
    fn a_conversation_is_taken_up_and_stays_one() {
        let home = tempfile::tempdir().unwrap();
        let deltas = vec![vec![Delta::Thinking("hm".to_owned())]];
        let engine = FakeEngine::builder().script(Script { deltas, ..Script::default() }).build();
        let messages = format!(r#"[{{"role":"user","content":"{}"}}]"#, "x".repeat(400));
        let request = || GenerationRequest {
            max_tokens: Some(4),
            ..GenerationRequest::new(Prompt::Chat(Box::new(Chat::new(messages.clone(), 1))))
        };
        let (first, _) = load(home.path(), &engine);
        assert_eq!(cached(&first, request()), 0);
        drop(first);
        let (second, lazy_store) = load(home.path(), &engine);
        let mut generation = second.generate(request()).unwrap();
        let events: Vec<_> = std::iter::from_fn(|| generation.blocking_next()).collect();
        assert!(events.iter().any(|event| matches!(event, TokenEvent::Deltas { .. })), "{events:?}");
        assert_eq!(lazy_store.store().unwrap().stats().unwrap().prefixes_restored, 1);
    }

    /// No caller waits.
    struct Gone;

    impl PromptControl for Gone {
        fn is_wanted(&self) -> bool {
            false
        }
    }

    #[test]
    fn for_somebody_who_has_gone_nothing_is_taken_up_or_begun() {
        let home = tempfile::tempdir().unwrap();
        let engine = FakeEngine::new();
        let (first, _) = load(home.path(), &engine);
        assert_eq!(cached(&first, request()), 0);
        drop(first);
        let (second, lazy_store) = load(home.path(), &engine);
        let began = engine.counts().generations_started;
        let failure = second.generate_while(request(), &Gone).expect_err("no caller waits");
        assert_eq!((failure.kind, engine.counts().generations_started), (ErrorKind::Cancelled, began));
        assert_eq!(lazy_store.store().unwrap().stats().unwrap().prefixes_restored, 0);
    }

    #[test]
    fn private_clients_take_up_what_was_their_own() {
        let home = tempfile::tempdir().unwrap();
        let engine = FakeEngine::new();
        let of = |name: &str| GenerationRequest { scope: Scope::of_client(name, true), ..request() };
        let (first, _) = load(home.path(), &engine);
        assert_eq!(cached(&first, of("alice")), 0);
        drop(first);
        let (second, lazy_store) = load(home.path(), &engine);
        assert_eq!([cached(&second, of("bob")), cached(&second, of("alice"))], [0, 299]);
        assert_eq!(lazy_store.store().unwrap().stats().unwrap().prefixes_restored, 1);
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
