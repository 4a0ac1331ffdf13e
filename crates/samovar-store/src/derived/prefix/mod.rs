//! Saved prefixes: prompt state that outlives the instance which computed it.
//!
//! ```text
//!   instance ─► save ─► tmp/<random>/ ─► fsync ─► rename ─► prefixes/<weights>/<kind>/<tokens>/
//!                 └ room: its own quota, the least recently used leave        ├ state        the engine's bytes
//!   instance ◄─ open ◄─ digest is right ◄─ longest(prompt) ◄──────────────────┴ facts.json   tokens, digest
//! ```
//!
//! `<weights>` is an artifact's key or a file of the user, `<kind>` the engine with its version, the KV format and
//! the client where clients share nothing, `<tokens>` the digest of the tokens: state is only ever found by those whose own it could be. A
//! directory gets its name when all of it is on the disk, so that the directories are the truth; nothing of
//! this is in the index. When a state was used last is the time of its file.
//!
//! It never fails a request: what cannot be saved or opened is computed again.

mod check;
mod facts;
mod known;
pub(crate) mod quota;
mod save;

use std::fs::File;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use samovar_core::footprint::KvType;
use samovar_core::{Digest, Scope};
use serde::{Deserialize, Serialize};

pub(crate) use check::verify;

use crate::artifact::key::KeyDigest;
use crate::error::Error;
use crate::store::Store;
use known::Known;

/// Whose state it is: the weights that computed it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Weights {
    /// An artifact. What is saved of it leaves together with it.
    Artifact(KeyDigest),
    /// A file that is not the store's, by whatever tells it from every other.
    File(Digest),
}

/// The saved prefixes of one model under one engine and KV format. Clones share what they know.
#[derive(Clone)]
pub struct Prefixes {
    store: Store,
    dir: PathBuf,
    is_private: bool,
    known: Arc<Mutex<Known>>,
}

/// A saved prefix that begins as a prompt does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SavedPrefix {
    /// Its tokens.
    pub tokens: Arc<[u32]>,
    /// Whose it is.
    pub scope: Scope,
    /// How many of them the prompt has in common, from the first on.
    pub common: usize,
}

/// How much was saved of a model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PrefixUse {
    /// How many prefixes.
    pub count: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl Store {
    /// What is saved of these weights for this engine, by its name with version, that a request of this scope may use:
    /// what a private scope saved is found by that one alone. Looks at nothing yet.
    pub fn prefixes(&self, weights: &Weights, engine: &str, kv_type: KvType, scope: &Scope) -> Prefixes {
        let owner = match weights {
            Weights::Artifact(key) => key.to_string(),
            Weights::File(digest) => format!("file-{digest}"),
        };
        let mut kind = format!("samovar prefix {}\n{}:{engine}\n{kv_type:?}\n", facts::FORMAT, engine.len());
        if scope.is_private {
            kind +=
                &scope.client.map_or_else(|| "private\n".to_owned(), |client| format!("private {client}\n"));
        }
        let kind = Digest::of_bytes(kind.as_bytes()).to_string();
        let dir = self.0.local.cache.layout.prefixes().join(owner).join(kind);
        Prefixes { store: self.clone(), dir, is_private: scope.is_private, known: Arc::default() }
    }

    /// How much is saved of an artifact, for all engines. Blocks; looks at each prefix once.
    ///
    /// # Errors
    /// When a directory cannot be read.
    pub fn prefixes_of(&self, key: &KeyDigest) -> Result<PrefixUse, Error> {
        let kept = quota::kept_of(&self.0.local.cache.layout.prefixes_of(key))
            .map_err(Error::io("the saved prefixes could not be listed"))?;
        Ok(PrefixUse { count: kept.len() as u64, bytes: kept.iter().map(|kept| kept.bytes).sum() })
    }
}

impl Prefixes {
    /// The saved prefix that has most in common with a prompt, if any has anything. Blocks for microseconds, and
    /// for longer when others saved or removed some since.
    pub fn longest(&self, prompt: &[u32]) -> Option<SavedPrefix> {
        let found = self.known().longest(prompt)?;
        let scope = Scope { is_private: self.is_private, ..found.scope };
        Some(SavedPrefix { scope, ..found })
    }

    /// Whether nothing is saved here.
    pub fn is_empty(&self) -> bool {
        self.known().is_empty()
    }

    /// Opens a saved prefix from its beginning, once its bytes were held against their digest. `None` when it has
    /// gone meanwhile; one that is damaged goes now. Blocks for as long as reading it takes.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn open(&self, saved: &SavedPrefix) -> Result<Option<File>, Error> {
        check::open(&self.store.0.local.cache, &self.place(&saved.tokens))
            .map_err(Error::io("a saved prefix could not be read"))
    }

    /// Says that an instance took a saved prefix in: it was used now.
    pub fn note_restored(&self, saved: &SavedPrefix) {
        let state = self.place(&saved.tokens).join(facts::STATE);
        if let Ok(file) = fs_err::File::open(state) {
            // Without it the state counts as unused since its last use before.
            let _ = file.set_modified(SystemTime::now());
        }
        let index = &self.store.0.local.cache.index;
        index.count("prefixes_restored", 1);
        index.count("prefix_tokens_restored", saved.common as u64);
    }

    /// Lets a saved prefix go which the engine does not take. Not being able to is no harm.
    pub fn forget(&self, saved: &SavedPrefix) {
        quota::remove(&self.store.0.local.cache.layout, &self.place(&saved.tokens));
    }

    fn place(&self, tokens: &[u32]) -> PathBuf {
        self.dir.join(facts::name_of(tokens))
    }

    /// What is there now.
    fn known(&self) -> MutexGuard<'_, Known> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.catch_up(&self.store.0.local.cache.layout, &self.dir);
        known
    }
}

impl std::fmt::Debug for Prefixes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Prefixes").field("dir", &self.dir).finish_non_exhaustive()
    }
}
