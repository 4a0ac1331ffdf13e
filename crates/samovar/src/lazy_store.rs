//! The store as the runtime holds it: opened when it is first needed.
//!
//! A cache directory that cannot be used does not prevent running a model file, so opening waits until
//! something is to be taken from the store; a failure is told to the caller, and tried again by the next.

use std::sync::{Mutex, PoisonError};

use samovar_core::Failure;
use samovar_store::{CreatedNames, Store, StoreConfig};

/// The store, once it was needed.
pub(crate) struct LazyStore {
    config: StoreConfig,
    store: Mutex<Option<Store>>,
}

impl LazyStore {
    pub(crate) fn new(config: StoreConfig) -> Self {
        Self { config, store: Mutex::default() }
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

    /// Whether no source may be asked for anything.
    pub(crate) fn is_offline(&self) -> bool {
        self.config.sources.is_offline
    }

    /// What users created in it, for which it need not be opened.
    pub(crate) fn created_names(&self) -> CreatedNames {
        CreatedNames::of(&self.config)
    }

    /// The store, if it was needed so far.
    pub(crate) fn opened(&self) -> Option<Store> {
        self.store.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
