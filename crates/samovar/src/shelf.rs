//! The store as the runtime holds it: opened when it is first needed, and asked which artifact a path belongs to.
//!
//! A cache directory that cannot be used keeps nobody from running a model file, so opening waits until
//! something is to be taken from the store; a failure is told to whoever asked, and tried again by the next.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use samovar_core::Failure;
use samovar_store::{KeyDigest, Store, StoreConfig};

/// The store, and the paths that models of it were given.
pub(crate) struct Shelf {
    config: StoreConfig,
    store: Mutex<Option<Store>>,
    keys: Mutex<HashMap<PathBuf, KeyDigest>>,
}

impl Shelf {
    pub(crate) fn new(config: StoreConfig) -> Self {
        Self { config, store: Mutex::default(), keys: Mutex::default() }
    }

    /// The store. Blocks while it is opened.
    ///
    /// # Errors
    /// Whatever keeps the cache directory from being used.
    pub(crate) fn store(&self) -> Result<Store, Failure> {
        let mut store = self.store.lock().unwrap_or_else(PoisonError::into_inner);
        if store.is_none() {
            *store = Some(Store::open(self.config.clone())?);
        }
        Ok(store.clone().expect("invariant: filled above"))
    }

    /// The store, if it was needed so far.
    pub(crate) fn opened(&self) -> Option<Store> {
        self.store.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Remembers that loading `path` means loading this artifact. Artifacts may have a blob in common: the one that
    /// was asked for last is the one that is here.
    pub(crate) fn register(&self, path: &Path, key: KeyDigest) {
        let mut keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        if keys.get(path) != Some(&key) {
            keys.insert(path.to_owned(), key);
        }
    }

    /// The artifact that is loaded by `path`, if it is one of the store's.
    pub(crate) fn key_of(&self, path: &Path) -> Option<KeyDigest> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner).get(path).copied()
    }
}
