//! Builds a runtime: the one place where features choose engines.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use samovar_core::port::{Clock, Engine, SystemClock};
use samovar_core::{ErrorKind, Failure, ModelRef};
use samovar_pool::{Pool, PoolConfig};

use crate::catalog::Catalog;
use crate::runtime::Runtime;
use crate::settings::{Alias, ModelSettings, RuntimeSettings};

/// Collects settings for a [`Runtime`].
#[derive(Default)]
pub struct Builder {
    cache_dir: Option<PathBuf>,
    pool: Option<PoolConfig>,
    aliases: Vec<Alias>,
    defaults: ModelSettings,
    default_deadline: Option<Duration>,
    engine: Option<Arc<dyn Engine>>,
    clock: Option<Arc<dyn Clock>>,
}

impl Builder {
    /// All settings at once, as a configuration file gives them.
    pub fn settings(settings: RuntimeSettings) -> Self {
        Self {
            cache_dir: Some(settings.cache_dir),
            pool: Some(settings.pool),
            aliases: settings.aliases,
            defaults: settings.defaults,
            default_deadline: settings.default_deadline,
            engine: None,
            clock: None,
        }
    }

    /// Where the built-in demo model is unpacked. Default: `samovar` under the system's temporary directory.
    #[must_use]
    pub fn cache_dir(mut self, cache_dir: impl Into<PathBuf>) -> Self {
        self.cache_dir = Some(cache_dir.into());
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
        self.aliases.push(Alias { name: name.into(), source, settings });
        self
    }

    /// Settings of every model that has none of its own.
    #[must_use]
    pub fn defaults(mut self, defaults: ModelSettings) -> Self {
        self.defaults = defaults;
        self
    }

    /// Deadline of requests that bring none. Default: none.
    #[must_use]
    pub fn default_deadline(mut self, deadline: Duration) -> Self {
        self.default_deadline = Some(deadline);
        self
    }

    /// Another engine than llama.cpp.
    #[must_use]
    pub fn engine(mut self, engine: Arc<dyn Engine>) -> Self {
        self.engine = Some(engine);
        self
    }

    /// Another clock than the system's.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = Some(clock);
        self
    }

    /// Starts the runtime. Must be called inside a tokio runtime, which will carry the pool's task.
    ///
    /// # Errors
    /// `Unsupported` when this build has no engine and none was given; `EngineFailed` when the
    /// engine's native library does not start; `Internal` outside a tokio runtime.
    pub fn build(self) -> Result<Runtime, Failure> {
        if tokio::runtime::Handle::try_current().is_err() {
            return Err(Failure::new(ErrorKind::Internal, "the runtime was built outside a tokio runtime")
                .with_hint("call build() inside #[tokio::main] or Runtime::block_on"));
        }
        let engine = match self.engine {
            Some(engine) => engine,
            None => default_engine()?,
        };
        let clock = self.clock.unwrap_or_else(|| Arc::new(SystemClock::new()));
        let cache_dir = self.cache_dir.unwrap_or_else(|| std::env::temp_dir().join("samovar"));
        let pool_config = self.pool.unwrap_or_default();
        let catalog =
            Catalog::new(&cache_dir, self.aliases, self.defaults, &pool_config, Arc::clone(&engine));
        let pool = Pool::start(Arc::clone(&engine), Arc::clone(&clock), pool_config);
        Ok(Runtime::new(catalog, pool, engine, clock, self.default_deadline))
    }
}

#[cfg(feature = "llama")]
fn default_engine() -> Result<Arc<dyn Engine>, Failure> {
    Ok(Arc::new(samovar_llama::LlamaEngine::new()))
}

#[cfg(not(feature = "llama"))]
fn default_engine() -> Result<Arc<dyn Engine>, Failure> {
    Err(Failure::new(ErrorKind::Unsupported, "this build has no engine")
        .with_hint("build with the feature `llama`, or give one with Builder::engine"))
}
