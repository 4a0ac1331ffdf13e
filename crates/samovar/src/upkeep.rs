//! What an owner asks of the runtime beside requests: to load, pin and unload models, to tell of them, to end.

use std::sync::{Arc, Weak};
use std::time::Duration;

use samovar_core::Failure;
use samovar_pool::{Decision, ModelSpec};
use samovar_store::Store;
use tokio::sync::mpsc;

use crate::catalog::{Changes, ModelInfo};
use crate::fetch;
use crate::request::Origin;
use crate::runtime::{Inner, Runtime, blocking};
use crate::stats::{Lifetime, Stats, Tiers};
use crate::wait::Wait;

const WAIT_CAPACITY: usize = 16;

impl Runtime {
    /// Loads a model, if it is not ready, and returns when it is. Fetches it before, if need be.
    ///
    /// # Errors
    /// Whatever `generate` would say of this model.
    ///
    /// # Cancel safety
    /// Cancel safe: a load goes on, the pool owns it. A fetch that nobody else waits for stops, and what
    /// it brought so far is kept.
    pub async fn warm(&self, model: &str, waits: Option<mpsc::Sender<Wait>>) -> Result<(), Failure> {
        let _passing = self.inner.maker.workshop().traffic.enter();
        let resolved = self.inner.resolve(model, Origin::Owner, fetch::tell(waits.clone())).await?;
        let (told, mut waiting) = mpsc::channel(WAIT_CAPACITY);
        let mut warmed = std::pin::pin!(self.inner.pool.warm(resolved.model.spec, Some(told)));
        loop {
            tokio::select! {
                biased;
                warmed = &mut warmed => {
                    if let Some(chronicle) = &self.inner.books.chronicle {
                        chronicle.note();
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
    }

    /// Keeps a model from being parked or unloaded by the pool, or lets it go again. Loads nothing.
    ///
    /// # Errors
    /// Whatever resolving the name says.
    pub async fn pin(&self, model: &str, is_pinned: bool) -> Result<(), Failure> {
        let spec = self.inner.here(model, Origin::Owner).await?;
        Ok(self.inner.pool.pin(spec, is_pinned).await?)
    }

    /// Unloads a model as soon as nothing uses it; returns how many instances go.
    ///
    /// # Errors
    /// `NotFound` when no such model is known.
    pub async fn unload(&self, model: &str) -> Result<u32, Failure> {
        let name = self.inner.name_of(model).await?;
        Ok(self.inner.pool.unload(&name).await?)
    }

    /// Unloads every model as soon as nothing uses it; returns how many instances go.
    ///
    /// # Errors
    /// `Unavailable` during shutdown.
    pub async fn unload_all(&self) -> Result<u32, Failure> {
        Ok(self.inner.pool.unload_all().await?)
    }

    /// The latest decisions of the pool about a model, newest first.
    ///
    /// # Errors
    /// Whatever resolving the name says.
    pub async fn why(&self, model: &str) -> Result<Vec<Decision>, Failure> {
        let name = self.inner.name_of(model).await?;
        Ok(self.inner.pool.why(&name).await)
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
        self.inner.here(model, Origin::Owner).await
    }

    /// Whether this runtime's engine can park models.
    pub fn can_park(&self) -> bool {
        self.inner.engine.capabilities().can_park
    }

    /// Counters and gauges.
    pub async fn stats(&self) -> Stats {
        let snapshot = self.inner.pool.snapshot().await;
        let shelf = Arc::clone(&self.inner.shelf);
        let store =
            blocking(move || shelf.opened().and_then(|store| store.stats().ok())).await.ok().flatten();
        let packings = &self.inner.maker.workshop().packings;
        Stats {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            engine: self.inner.engine.name().to_owned(),
            uptime_ms: snapshot.uptime_ms,
            tiers: Tiers::of(&snapshot.pool, store.as_ref()),
            pool: snapshot.pool,
            workers: self.inner.workers.as_ref().map(|workers| workers.stats()),
            store,
            packed: packings.tally(),
            models: packings.arranged(snapshot.models),
            lifetime: self.lifetime().await,
        }
    }

    async fn lifetime(&self) -> Option<Lifetime> {
        let chronicle = self.inner.books.chronicle.clone()?;
        let counted = self.inner.pool.statistics().await?;
        blocking(move || chronicle.all(counted).map(Lifetime::from)).await.ok()?
    }

    /// The store under this runtime.
    ///
    /// # Errors
    /// Whatever keeps the cache directory from being used.
    pub async fn store(&self) -> Result<Store, Failure> {
        let shelf = Arc::clone(&self.inner.shelf);
        blocking(move || shelf.store()).await?
    }

    /// Takes no new requests, lets running ones finish within `grace`, unloads everything.
    pub async fn shutdown(&self, grace: Duration) {
        self.inner.maker.stop().await;
        let counted = self.inner.pool.shutdown(grace).await;
        if let (Some(chronicle), Some(counted)) = (self.inner.books.chronicle.clone(), counted) {
            blocking(move || chronicle.save(counted)).await.ok();
        }
        if let Some(log) = &self.inner.books.request_log {
            log.flush().await;
        }
    }
}

impl Inner {
    /// The name under which the pool knows a model, also when its file has gone in the meantime.
    async fn name_of(self: &Arc<Self>, reference: &str) -> Result<String, Failure> {
        match self.here(reference, Origin::Owner).await {
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
        let (Some(chronicle), Some(counted)) =
            (runtime.books.chronicle.clone(), runtime.pool.statistics().await)
        else {
            return;
        };
        drop(runtime);
        let saving = Arc::clone(&chronicle);
        blocking(move || saving.save(counted)).await.ok();
        chronicle.wait().await;
    }
}
