//! What is counted of a store's use: hits, misses, and what was fetched.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use crate::artifact::key::KeyDigest;
use crate::ensure::Pulled;
use crate::index::{Index, Use};

/// More than any process fetches without using.
const MOST: usize = 4_096;

/// Artifacts that were fetched and not opened yet, whose first opening is no hit.
#[derive(Default)]
pub(crate) struct Unopened(Mutex<HashSet<KeyDigest>>);

impl Unopened {
    fn insert(&self, key: KeyDigest) {
        let mut keys = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if keys.len() < MOST {
            keys.insert(key);
        }
    }

    fn take(&self, key: &KeyDigest) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(key)
    }

    /// An opening is a hit, except the first after a fetch that a caller waited for.
    pub(crate) fn note_opened(&self, index: &Index, key: &KeyDigest) {
        if !self.take(key) {
            index.note(key, Use::Hit);
            index.count("hits", 1);
        }
    }

    /// A caller asked for what was not here, and waited until it was fetched.
    pub(crate) fn note_miss(&self, index: &Index, pulled: &Pulled) {
        let key = pulled.artifact.key_digest;
        index.note(&key, Use::Miss);
        index.count("misses", 1);
        note_fetched(index, pulled);
        self.insert(key);
    }
}

/// What a fetch brought, for any caller.
pub(crate) fn note_fetched(index: &Index, pulled: &Pulled) {
    if pulled.fetched_bytes > 0 {
        index.count("fetched_bytes", pulled.fetched_bytes);
    }
    if !pulled.was_here {
        index.count("fetched_artifacts", 1);
    }
}
