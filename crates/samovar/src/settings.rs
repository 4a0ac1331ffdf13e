//! What an owner may set for a model, and for the runtime as a whole.

use std::time::Duration;

use samovar_core::footprint::{KvType, LayoutWish};
use samovar_core::units::KeepAlive;
use samovar_core::{Adapter, ModelRef};
use samovar_pool::{Instances, PoolConfig};
use samovar_store::StoreConfig;

/// Settings of one model; whatever is `None` is chosen from the model and the machine.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ModelSettings {
    /// Tokens of context for each slot; default: the model's own, at most 4,096.
    pub context_tokens: Option<u32>,
    /// Requests served at the same time; default from memory, at most 4.
    pub slots: Option<u32>,
    /// How the weights are to lie in memory; default `auto`.
    pub layout: Option<LayoutWish>,
    /// Number format of the KV cache; default `f16`.
    pub kv_type: Option<KvType>,
    /// Threads of one decode step; default: the cores this process has.
    pub threads: Option<u32>,
    /// How long the model stays ready when idle; default 5 minutes.
    pub keep_alive: Option<KeepAlive>,
    /// Keep the weights from being paged out.
    pub lock_memory: bool,
    /// Adapters (LoRA) that its requests are computed with. They change neither how it is loaded nor how often:
    /// names that differ in them alone share what is loaded.
    pub adapters: Vec<Adapter>,
    /// Instances that are loaded whenever the model is; default 1.
    pub min_instances: Option<u32>,
    /// The most instances, when requests wait and memory is free; default as many as `min_instances`.
    pub max_instances: Option<u32>,
    /// Names of models that must be in memory wherever this one is: loaded, used and evicted with it.
    pub needs: Vec<String>,
}

impl ModelSettings {
    /// These settings, with `fallback`'s wherever these say nothing.
    #[must_use]
    pub fn or(&self, fallback: &Self) -> Self {
        Self {
            context_tokens: self.context_tokens.or(fallback.context_tokens),
            slots: self.slots.or(fallback.slots),
            layout: self.layout.or(fallback.layout),
            kv_type: self.kv_type.or(fallback.kv_type),
            threads: self.threads.or(fallback.threads),
            keep_alive: self.keep_alive.or(fallback.keep_alive),
            lock_memory: self.lock_memory || fallback.lock_memory,
            adapters: if self.adapters.is_empty() {
                fallback.adapters.clone()
            } else {
                self.adapters.clone()
            },
            min_instances: self.min_instances.or(fallback.min_instances),
            max_instances: self.max_instances.or(fallback.max_instances),
            needs: if self.needs.is_empty() { fallback.needs.clone() } else { self.needs.clone() },
        }
    }

    /// How many instances of the model there may be. A `max_instances` below `min_instances` counts as that.
    pub fn instances(&self) -> Instances {
        let min = self.min_instances.unwrap_or(1).max(1);
        Instances { min, max: self.max_instances.unwrap_or(min).max(min) }
    }
}

/// A name that the owner gave to a model, with the settings that go with it.
#[derive(Clone, Debug, PartialEq)]
pub struct Alias {
    /// The name that requests use.
    pub name: String,
    /// What it stands for.
    pub source: ModelRef,
    /// Its settings.
    pub settings: ModelSettings,
}

/// Settings of the runtime.
#[derive(Clone, Debug)]
pub struct RuntimeSettings {
    /// Where models are kept, and where they come from.
    pub store: StoreConfig,
    /// The pool's limits and policy.
    pub pool: PoolConfig,
    /// Names that the owner gave to models.
    pub aliases: Vec<Alias>,
    /// Settings of every model that has none of its own.
    pub defaults: ModelSettings,
    /// Deadline of requests that bring none.
    pub default_deadline: Option<Duration>,
}
