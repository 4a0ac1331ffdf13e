//! Builds a runtime from its settings.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use samovar_core::port::{self, Clock, Engine, SystemClock};
use samovar_core::{ByteBudget, ErrorKind, Failure, ModelRef};
use samovar_pool::{Budget, Pool, PoolConfig};
use samovar_store::StoreConfig;
use samovar_worker::{WorkerConfig, WorkerEngine};

use crate::catalog::{AdapterRegistry, Catalog, NameBook, NameSource};
use crate::directories::Directories;
use crate::engines::default_engine;
use crate::experience::Experience;
use crate::lazy_store::LazyStore;
use crate::lifetime::LifetimeStats;
use crate::options::WarmOptions;
use crate::packed::{ActivityCounter, LayoutLoader, LayoutRegistry, PackScheduler, Packer};
use crate::prepare::Preparations;
use crate::request_log::RequestLog;
use crate::runtime::{Inner, Rules, Runtime, UsageLogs};
use crate::settings::{Alias, ModelSettings, PrefixSharing, RuntimeSettings};
use crate::store_engine::StoreEngine;

/// How long the runtime must have served no request before packed files are made: longer than a pause in a chat.
const IDLE: Duration = Duration::from_secs(5);

/// Collects settings for a [`Runtime`].
#[derive(Default)]
pub struct Builder {
    store: Option<StoreConfig>,
    pool: Option<PoolConfig>,
    aliases: Vec<Alias>,
    defaults: ModelSettings,
    names: Option<Arc<dyn NameSource>>,
    rules: Rules,
    engines: Vec<Arc<dyn Engine>>,
    workers: Option<WorkerConfig>,
    clock: Option<Arc<dyn Clock>>,
    request_log: Option<PathBuf>,
    keeps_statistics: bool,
    idle: Option<Duration>,
    buffer_bytes: Option<u64>,
    preload: Vec<String>,
}

impl Builder {
    /// All settings at once, as a configuration file gives them.
    pub fn settings(settings: RuntimeSettings) -> Self {
        Self {
            store: Some(settings.store),
            pool: Some(settings.pool),
            aliases: settings.aliases,
            defaults: settings.defaults,
            rules: Rules {
                default_deadline: settings.default_deadline,
                share_prefixes: settings.share_prefixes,
                context_ceiling_tokens: settings.context_ceiling_tokens,
            },
            buffer_bytes: settings.buffer_bytes,
            ..Self::default()
        }
    }

    /// Where models are kept, with the store's other settings at their defaults. Default: where the command line keeps them
    /// ([`Directories::of_process`]).
    #[must_use]
    pub fn cache_dir(self, cache_dir: impl Into<PathBuf>) -> Self {
        let cache_dir = cache_dir.into();
        let state_dir = cache_dir.join("state");
        self.store(StoreConfig::new(cache_dir, state_dir))
    }

    /// The store that models are kept in, and its sources.
    #[must_use]
    pub fn store(mut self, config: StoreConfig) -> Self {
        self.store = Some(config);
        self
    }

    /// The pool's limits. Default: 70 % of the memory that this process may use.
    #[must_use]
    pub fn pool(mut self, config: PoolConfig) -> Self {
        self.pool = Some(config);
        self
    }

    /// A name for a model, with its settings.
    #[must_use]
    pub fn alias(mut self, name: impl Into<String>, source: ModelRef, settings: ModelSettings) -> Self {
        self.aliases.push(Alias::new(name, source, settings));
        self
    }

    /// Settings of every model that has none of its own.
    #[must_use]
    pub fn defaults(mut self, defaults: ModelSettings) -> Self {
        self.defaults = defaults;
        self
    }

    /// Where names and the settings of every model come from once they change. Default: they do not.
    #[must_use]
    pub fn names(mut self, source: Arc<dyn NameSource>) -> Self {
        self.names = Some(source);
        self
    }

    /// Deadline of requests that bring none. Default: none.
    #[must_use]
    pub fn default_deadline(mut self, deadline: Duration) -> Self {
        self.rules.default_deadline = Some(deadline);
        self
    }

    /// Which clients may continue from the state of which clients' prompts. Default: all clients from all.
    #[must_use]
    pub fn share_prefixes(mut self, sharing: PrefixSharing) -> Self {
        self.rules.share_prefixes = sharing;
        self
    }

    /// The most context that a request of the network may ask for where its model's name has less. Default: 0, only what the
    /// settings of the name give.
    #[must_use]
    pub fn context_ceiling(mut self, tokens: u32) -> Self {
        self.rules.context_ceiling_tokens = tokens;
        self
    }

    /// An engine in place of those that this build has. Of several, each model goes to the first that runs its format.
    #[must_use]
    pub fn engine(mut self, engine: Arc<dyn Engine>) -> Self {
        self.engines.push(engine);
        self
    }

    /// Runs each loaded model in a child process of its own, so that one that crashes or hangs takes nothing else
    /// down. Default: in this process.
    #[must_use]
    pub fn workers(mut self, config: WorkerConfig) -> Self {
        self.workers = Some(config);
        self
    }

    /// Another clock than the system's.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = Some(clock);
        self
    }

    /// Writes a line for each request to this file, for `samovar plan`: model, times, a number that stands for the
    /// client; no prompt and no answer. The file and an older one beside it take 64 MiB at most. Default: none.
    #[must_use]
    pub fn request_log(mut self, path: impl Into<PathBuf>) -> Self {
        self.request_log = Some(path.into());
        self
    }

    /// Keeps the pool's statistics in the store, over restarts: written every minute and at shutdown. One runtime
    /// of a store may do so, as the daemon does. Default: they end with the runtime.
    #[must_use]
    pub fn keep_statistics(mut self) -> Self {
        self.keeps_statistics = true;
        self
    }

    /// How long the runtime must have served no request before packed files are made, where layouts ask for them.
    /// Default: 5 seconds.
    #[must_use]
    pub fn pack_when_idle_for(mut self, idle: Duration) -> Self {
        self.idle = Some(idle);
        self
    }

    /// Memory for what readers of answers have not taken yet, and for the requests that a server in front of the runtime
    /// reads in. Default: a sixteenth of the memory that this process may use, from 64 MiB to 1 GiB.
    #[must_use]
    pub fn buffers(mut self, bytes: u64) -> Self {
        self.buffer_bytes = Some(bytes);
        self
    }

    /// A model that is loaded as soon as the runtime is there, and fetched before that if it has to be. What goes wrong is
    /// logged, and told to the first request for it.
    #[must_use]
    pub fn preload(mut self, model: impl Into<String>) -> Self {
        self.preload.push(model.into());
        self
    }

    /// Starts the runtime. Must be called inside a tokio runtime, which will carry the pool's task.
    ///
    /// # Errors
    /// `Unsupported` when this build has no engine and none was given, or no workers on this system; `Internal`
    /// outside a tokio runtime; `InvalidRequest` when no directory was given and none is found; whatever keeps workers from
    /// being started.
    pub fn build(self) -> Result<Runtime, Failure> {
        if tokio::runtime::Handle::try_current().is_err() {
            return Err(Failure::new(ErrorKind::Internal, "the runtime was built outside a tokio runtime")
                .with_hint("call build() inside #[tokio::main] or Runtime::block_on"));
        }
        let engine: Arc<dyn Engine> = match self.engines {
            engines if engines.is_empty() => default_engine()?,
            engines => Arc::new(port::Engines::new(engines)),
        };
        let workers = match self.workers {
            Some(config) => Some(Arc::new(WorkerEngine::new(Arc::clone(&engine), config)?)),
            None => None,
        };
        let engine = workers.clone().map_or(engine, |workers| workers as Arc<dyn Engine>);
        let clock = self.clock.unwrap_or_else(|| Arc::new(SystemClock::new()));
        let store = self.store.map_or_else(default_store, Ok)?;
        let prefixes = store.prefixes;
        let lazy_store = Arc::new(LazyStore::new(store));
        let adapter_registry = Arc::new(AdapterRegistry::default());
        let pool_config = self.pool.unwrap_or_default();
        let layout_registry =
            LayoutRegistry::new(Arc::clone(&lazy_store), Arc::clone(&engine), pool_config.budget.bytes);
        let layout_registry = Arc::new(layout_registry);
        let bare = Arc::clone(&engine);
        let layout_loader = LayoutLoader::new(engine, Arc::clone(&lazy_store), Arc::clone(&layout_registry));
        let experience = Arc::new(Experience::new(Arc::clone(&lazy_store)));
        let store_engine = StoreEngine::new(
            layout_loader,
            Arc::clone(&lazy_store),
            Arc::clone(&adapter_registry),
            Arc::clone(&experience),
            prefixes,
        );
        let engine: Arc<dyn Engine> = Arc::new(store_engine);
        let catalog = Catalog::new(
            Arc::clone(&lazy_store),
            NameBook::new(self.aliases, self.defaults, self.names),
            &pool_config,
            Arc::clone(&engine),
            adapter_registry,
            Arc::clone(&layout_registry),
            experience,
        );
        let pool = Pool::start(Arc::clone(&engine), Arc::clone(&clock), pool_config);
        let pack_scheduler = PackScheduler::start(Packer {
            engine: bare,
            lazy_store: Arc::clone(&lazy_store),
            layout_registry,
            pool: pool.clone(),
            activity_counter: ActivityCounter::new(),
            idle: self.idle.unwrap_or(IDLE),
            turn: Arc::default(),
        });
        let usage_logs = UsageLogs {
            request_log: self.request_log.map(RequestLog::begin),
            lifetime_stats: self
                .keeps_statistics
                .then(|| Arc::new(LifetimeStats::new(Arc::clone(&lazy_store)))),
        };
        let buffers = match self.buffer_bytes {
            Some(bytes) => ByteBudget::new(bytes),
            None => ByteBudget::part_of(Budget::available_bytes()),
        };
        let runtime = Runtime::new(Inner {
            catalog,
            lazy_store,
            pool,
            engine,
            workers,
            pack_scheduler,
            preparations: Preparations::default(),
            clock,
            rules: self.rules,
            buffers,
            usage_logs,
        });
        for model in self.preload {
            let runtime = runtime.clone();
            tokio::spawn(async move {
                if let Err(failure) = runtime.warm(&model, WarmOptions::default()).await {
                    tracing::error!(model, hint = failure.hint, "could not be loaded: {failure}");
                }
            });
        }
        Ok(runtime)
    }
}

fn default_store() -> Result<StoreConfig, Failure> {
    let Directories { cache_dir, state_dir, .. } = Directories::of_process()?;
    Ok(StoreConfig::new(cache_dir, state_dir))
}
