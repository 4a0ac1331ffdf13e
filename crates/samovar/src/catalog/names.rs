//! The names that the owner gave to models and the settings of all, which may change while the runtime lives.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use samovar_core::Failure;
use serde::{Deserialize, Serialize};

use super::created::CreatedMap;
use crate::settings::{Alias, ModelSettings};

/// Where an owner's names come from, when they may change.
pub trait NameSource: Send + Sync {
    /// The names and the settings of every model, when they changed since they were last asked for. Asked before a name
    /// is resolved, so that a name that was just written is known; it must be quick, and may block for a `stat`.
    fn changed(&self) -> Option<(Vec<Alias>, ModelSettings)>;

    /// What changed since the runtime began, by the names of the settings.
    ///
    /// # Errors
    /// What is wrong with what is written there now.
    fn changes(&self) -> Result<Changes, Failure>;
}

/// What changed of an owner's settings since the runtime began.
#[non_exhaustive]
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changes {
    /// In force.
    pub in_force: Vec<String>,
    /// In force after a restart.
    pub needs_restart: Vec<String>,
}

impl Changes {
    /// Settings by their names: those whose change is in force, and those whose change is so after a restart.
    pub fn new(in_force: Vec<String>, needs_restart: Vec<String>) -> Self {
        Self { in_force, needs_restart }
    }
}

/// The names of one moment.
#[derive(Default)]
pub(super) struct Names {
    pub(super) aliases: BTreeMap<String, Alias>,
    /// Those that users created; a name of the settings counts more.
    pub(super) created: Arc<CreatedMap>,
    pub(super) defaults: ModelSettings,
}

impl Names {
    fn of(aliases: Vec<Alias>, defaults: ModelSettings, created: Arc<CreatedMap>) -> Self {
        let aliases = aliases.into_iter().map(|alias| (alias.name.clone(), alias)).collect();
        Self { aliases, created, defaults }
    }
}

/// The names as they are now.
pub(crate) struct NameBook {
    now: RwLock<Arc<Names>>,
    source: Option<Arc<dyn NameSource>>,
    /// Held while changes are taken in, so that no caller goes on without those that another one is about to take in.
    taking_in: Mutex<()>,
}

impl NameBook {
    pub(crate) fn new(
        aliases: Vec<Alias>,
        defaults: ModelSettings,
        source: Option<Arc<dyn NameSource>>,
    ) -> Self {
        let now = RwLock::new(Arc::new(Names::of(aliases, defaults, Arc::default())));
        Self { now, source, taking_in: Mutex::default() }
    }

    /// The names of this moment, without a look at where they come from.
    pub(super) fn now(&self) -> Arc<Names> {
        Arc::clone(&self.now.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// What changed since the runtime began.
    ///
    /// # Errors
    /// What is wrong with what is written now.
    pub(super) fn changes(&self) -> Result<Changes, Failure> {
        self.source.as_ref().map_or_else(|| Ok(Changes::default()), |source| source.changes())
    }

    /// Takes in what changed, with what users `created` by now. True = something did.
    pub(super) fn catch_up(&self, created: impl FnOnce() -> Arc<CreatedMap>) -> bool {
        let _one_at_a_time = self.taking_in.lock().unwrap_or_else(PoisonError::into_inner);
        let changed = self.source.as_ref().and_then(|source| source.changed());
        let (created, now) = (created(), self.now());
        let names = match changed {
            Some((aliases, defaults)) => Names::of(aliases, defaults, created),
            None if Arc::ptr_eq(&now.created, &created) => return false,
            None => Names { aliases: now.aliases.clone(), created, defaults: now.defaults.clone() },
        };
        *self.now.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(names);
        true
    }
}
