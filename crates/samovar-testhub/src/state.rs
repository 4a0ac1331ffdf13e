//! What the hub keeps, behind one lock that is never held while anything is sent.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::bad_answer::Topic;
use crate::count::{Counts, Listener};
use crate::gate::Gates;
use crate::repo::{Repository, Stored};
use crate::route::ollama::Manifest;
use crate::rule::{Occasion, Rules, Told};

/// Entries of a listing's page, as on the real hub.
const PAGE_ENTRIES: usize = 1000;

/// What all connections share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) addresses: Addresses,
    pub(crate) gates: Gates,
    state: Mutex<State>,
}

/// Where the three listeners are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Addresses {
    pub(crate) origin: SocketAddr,
    pub(crate) cdn: SocketAddr,
    pub(crate) elsewhere: SocketAddr,
}

impl Addresses {
    pub(crate) fn of(&self, listener: Listener) -> SocketAddr {
        match listener {
            Listener::Origin => self.origin,
            Listener::Cdn => self.cdn,
            Listener::Elsewhere => self.elsewhere,
        }
    }
}

/// What changes.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) repos: BTreeMap<String, Repository>,
    pub(crate) plain: BTreeMap<String, Arc<Stored>>,
    /// Manifests by `namespace/name:tag`.
    pub(crate) ollama: BTreeMap<String, Manifest>,
    /// Blobs of Ollama models by digest.
    pub(crate) blobs: BTreeMap<String, Arc<Stored>>,
    pub(crate) rules: Rules,
    pub(crate) counts: Counts,
    pub(crate) page_entries: usize,
    /// Whether the CDN is another host; otherwise the hub sends large files itself.
    pub(crate) has_cdn: bool,
    /// Addresses at the CDN that were given out.
    pub(crate) addresses_given: u64,
}

impl Shared {
    pub(crate) fn new(addresses: Addresses) -> Self {
        let state = State {
            repos: BTreeMap::new(),
            plain: BTreeMap::new(),
            ollama: BTreeMap::new(),
            blobs: BTreeMap::new(),
            rules: Rules::default(),
            counts: Counts::default(),
            page_entries: PAGE_ENTRIES,
            has_cdn: true,
            addresses_given: 0,
        };
        Self { addresses, gates: Gates::default(), state: Mutex::new(state) }
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    pub(crate) fn draw(&mut self, topic: Topic, occasion: Occasion<'_>) -> Vec<Told> {
        self.rules.draw(topic, occasion)
    }
}
