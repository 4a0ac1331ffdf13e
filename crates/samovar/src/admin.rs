//! What an owner asks of the runtime beside requests: to load, pin and unload models, to tell of them, to end.

use std::sync::{Arc, Weak};
use std::time::Duration;

use futures_util::future::BoxFuture;
use samovar_core::Failure;
use samovar_pool::{Decision, ModelSpec, NumberedDecision, PoolConfig, Snapshot};
use samovar_store::Store;
use samovar_worker::WorkerStats;
use tokio::sync::mpsc;

use crate::catalog::{Changes, ModelInfo};
use crate::fetch;
use crate::options::WarmOptions;
use crate::request::Origin;
use crate::runtime::{Inner, Runtime, blocking};
use crate::stats::{Lifetime, Stats, StoredModel, Tiers};

const WAIT_CAPACITY: usize = 16;

impl Runtime {
    /// Loads a model, if it is not ready, and returns when it is. Fetches it before, if need be.
    ///
    /// # Errors
    /// Whatever `generate` would say of this model.
    ///
    /// # Cancel safety
    /// Cancel safe: a load goes on, the pool owns it. A fetch that no other caller waits for stops, and what
    /// it brought so far is kept.
    pub fn warm<'a>(&'a self, model: &'a str, options: WarmOptions) -> BoxFuture<'a, Result<(), Failure>> {
        Box::pin(async move {
            let WarmOptions { waits } = options;
            let _passing = self.inner.pack_scheduler.packer().activity_counter.enter();
            let resolved = self.inner.resolve(model, Origin::Owner, None, fetch::tell(waits.clone())).await?;
            let (told, mut waiting) = mpsc::channel(WAIT_CAPACITY);
            let mut warmed = std::pin::pin!(self.inner.pool.warm(resolved.model.spec, Some(told)));
            loop {
                tokio::select! {
                    biased;
                    warmed = &mut warmed => {
                        if let Some(lifetime_stats) = &self.inner.usage_logs.lifetime_stats {
                            lifetime_stats.note();
                        }
                        return Ok(warmed?);
                    }
                    Some(wait) = waiting.recv() => {
                        if let Some(waits) = &waits {
                            waits.send(wait.into()).await.ok();
                        }
                    }
                }
            }
        })
    }

    /// Keeps a model from being parked or unloaded by the pool. Loads nothing.
    ///
    /// # Errors
    /// Whatever resolving the name says.
    pub async fn pin(&self, model: &str) -> Result<(), Failure> {
        let spec = self.inner.resolve_local(model, Origin::Owner).await?;
        Ok(self.inner.pool.pin(spec, true).await?)
    }

    /// Lets the pool park and unload a model again.
    ///
    /// # Errors
    /// Whatever resolving the name says.
    pub async fn unpin(&self, model: &str) -> Result<(), Failure> {
        let spec = self.inner.resolve_local(model, Origin::Owner).await?;
        Ok(self.inner.pool.pin(spec, false).await?)
    }

    /// Unloads a model as soon as nothing uses it; returns how many instances go.
    ///
    /// # Errors
    /// `NotFound` when no such model is known.
    pub async fn unload(&self, model: &str) -> Result<u32, Failure> {
        let name = self.inner.name_of(model).await?;
        let instances = self.inner.pool.unload(&name).await?;
        if instances > 0 {
            return Ok(instances);
        }
        // It may be in memory under another of its names.
        match self.inner.resolve_local(model, Origin::Owner).await {
            Ok(spec) => Ok(self.inner.pool.unload(spec.key.as_str()).await?),
            Err(_) => Ok(0),
        }
    }

    /// Unloads every model as soon as nothing uses it; returns how many instances go.
    ///
    /// # Errors
    /// `Unavailable` during shutdown.
    pub async fn unload_all(&self) -> Result<u32, Failure> {
        Ok(self.inner.pool.unload_all().await?)
    }

    /// Other limits of the pool from now on, except for the number of callers at a time. What no longer fits a smaller
    /// budget leaves as soon as nothing uses it.
    ///
    /// # Errors
    /// `Unavailable` during shutdown.
    pub async fn configure(&self, pool: PoolConfig) -> Result<(), Failure> {
        self.inner.catalog.set_limits(&pool);
        Ok(self.inner.pool.configure(pool).await?)
    }

    /// The latest decisions of the pool about a model, newest first.
    ///
    /// # Errors
    /// Whatever resolving the name says.
    pub async fn why(&self, model: &str) -> Result<Vec<Decision>, Failure> {
        let name = self.inner.name_of(model).await?;
        Ok(self.inner.pool.why(&name).await)
    }

    /// The pool's decisions about all models with a higher number than `after` that are remembered, the oldest first.
    pub async fn decisions(&self, after: u64) -> Vec<NumberedDecision> {
        self.inner.pool.decisions(after).await
    }

    /// Takes in what its owner changed of names and models' settings, and tells what changed since the start.
    ///
    /// # Errors
    /// What is wrong with what is written now; then what was in force stays.
    pub async fn reload(&self) -> Result<Changes, Failure> {
        let inner = Arc::clone(&self.inner);
        blocking(move || inner.catalog.reload()).await?
    }

    /// Every model that requests may name.
    pub async fn models(&self) -> Vec<ModelInfo> {
        let inner = Arc::clone(&self.inner);
        blocking(move || inner.catalog.list()).await.unwrap_or_default()
    }

    /// One model, by any reference.
    ///
    /// # Errors
    /// Whatever resolving the name says.
    pub async fn model(&self, reference: &str, origin: Origin) -> Result<ModelInfo, Failure> {
        let inner = Arc::clone(&self.inner);
        let reference = reference.to_owned();
        blocking(move || inner.catalog.describe(&reference, origin)).await?
    }

    /// What the pool is told of a model that is here: its footprint and load time, as measured or predicted.
    ///
    /// # Errors
    /// `NotFound` when it is not on this machine; whatever else resolving the name says.
    pub async fn spec(&self, model: &str) -> Result<Arc<ModelSpec>, Failure> {
        self.inner.resolve_local(model, Origin::Owner).await
    }

    /// What the pool holds now. Reads no disk, so that it can be asked for a few times per second.
    pub async fn snapshot(&self) -> Snapshot {
        let mut snapshot = self.inner.pool.snapshot().await;
        let layout_registry = &self.inner.pack_scheduler.packer().layout_registry;
        snapshot.models = layout_registry.arranged(std::mem::take(&mut snapshot.models));
        snapshot
    }

    /// The processes that models run in; `None` when they run in this one.
    pub fn workers(&self) -> Option<WorkerStats> {
        self.inner.workers.as_ref().map(|workers| workers.stats())
    }

    /// Counters and gauges, without a list of the models on disk.
    pub fn stats(&self) -> BoxFuture<'_, Stats> {
        Box::pin(async move {
            let snapshot = self.inner.pool.snapshot().await;
            let lazy_store = Arc::clone(&self.inner.lazy_store);
            let store = blocking(move || lazy_store.opened()?.stats().ok()).await.ok().flatten();
            let layout_registry = &self.inner.pack_scheduler.packer().layout_registry;
            let engines = self.inner.engine.engines();
            Stats {
                version: env!("CARGO_PKG_VERSION").to_owned(),
                engine: engines.iter().map(|engine| &engine.name[..]).collect::<Vec<_>>().join(", "),
                uptime_ms: snapshot.uptime_ms,
                tiers: Tiers::of(&snapshot.pool, store.as_ref()),
                pool: snapshot.pool,
                workers: self.inner.workers.as_ref().map(|workers| workers.stats()),
                store,
                stored: Vec::new(),
                packed: layout_registry.tally(),
                models: layout_registry.arranged(snapshot.models),
                lifetime: self.lifetime().await,
            }
        })
    }

    /// The same with the models on disk, which the store's index is asked for.
    pub fn stats_and_stored(&self) -> BoxFuture<'_, Stats> {
        Box::pin(async move {
            let stats = self.stats().await;
            let lazy_store = Arc::clone(&self.inner.lazy_store);
            let stored = blocking(move || {
                let artifacts = lazy_store.opened()?.list().ok()?;
                Some(artifacts.iter().map(StoredModel::from).collect())
            });
            Stats { stored: stored.await.ok().flatten().unwrap_or_default(), ..stats }
        })
    }

    async fn lifetime(&self) -> Option<Lifetime> {
        let lifetime_stats = self.inner.usage_logs.lifetime_stats.clone()?;
        let counted = self.inner.pool.statistics().await?;
        blocking(move || lifetime_stats.all(counted).map(Lifetime::from)).await.ok()?
    }

    /// The store under this runtime.
    ///
    /// # Errors
    /// Whatever keeps the cache directory from being used.
    pub async fn store(&self) -> Result<Store, Failure> {
        let lazy_store = Arc::clone(&self.inner.lazy_store);
        blocking(move || lazy_store.store()).await?
    }

    /// Takes no new requests, lets running ones finish within `grace`, unloads everything.
    pub async fn shutdown(&self, grace: Duration) {
        self.inner.pack_scheduler.stop().await;
        let counted = self.inner.pool.shutdown(grace).await;
        if let (Some(lifetime_stats), Some(counted)) = (self.inner.usage_logs.lifetime_stats.clone(), counted)
        {
            blocking(move || lifetime_stats.save(counted)).await.ok();
        }
        if let Some(log) = &self.inner.usage_logs.request_log {
            log.flush().await;
        }
    }
}

impl Inner {
    /// The name under which the pool knows a model, also when its file has gone in the meantime.
    async fn name_of(self: &Arc<Self>, reference: &str) -> Result<String, Failure> {
        match self.resolve_local(reference, Origin::Owner).await {
            Ok(spec) => Ok(spec.name.clone()),
            Err(failure) => {
                let known = self.pool.snapshot().await.models;
                known.into_iter().map(|model| model.name).find(|name| name == reference).ok_or(failure)
            }
        }
    }
}

/// Writes down every now and then what the pool counted, for as long as there is one.
pub(crate) async fn keep_counting(inner: Weak<Inner>) {
    while let Some(runtime) = inner.upgrade() {
        let (Some(lifetime_stats), Some(counted)) =
            (runtime.usage_logs.lifetime_stats.clone(), runtime.pool.statistics().await)
        else {
            return;
        };
        drop(runtime);
        let saving = Arc::clone(&lifetime_stats);
        blocking(move || saving.save(counted)).await.ok();
        lifetime_stats.wait().await;
    }
}
