//! The way of a request: resolve, render, acquire, generate, stream, release.

use std::sync::{Arc, Weak};
use std::time::Duration;

use samovar_core::generation::{GenerationRequest, Prompt, TokenEvent};
use samovar_core::port::{Clock, Engine};
use samovar_core::{Adapter, ErrorKind, Failure};
use samovar_pool::{Ask, Decision, Lease, ModelSpec, Pool};
use samovar_store::{Store, Watch};
use samovar_worker::WorkerEngine;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::answer::{Answer, AnswerEvent, Summary};
use crate::builder::Builder;
use crate::catalog::{Adapted, Catalog, Found, ModelInfo};
use crate::fetch;
use crate::journey::Journey;
use crate::lifetime::Chronicle;
use crate::prompt;
use crate::request::{Input, Origin, Request};
use crate::request_log::{Noted, RequestLog};
use crate::shelf::Shelf;
use crate::stats::{Lifetime, Stats, Tiers};
use crate::wait::Wait;

/// Events that an answer holds before its reader takes them; the engine's own channel holds the rest.
const ANSWER_CAPACITY: usize = 64;
const WAIT_CAPACITY: usize = 16;
/// Models that are fetched for one request: its own, and those which that one needs.
const FETCHES_MAX: u32 = 32;

/// A model cache, an instance pool and a serving runtime. Cheap to clone: every clone is the same one.
#[derive(Clone)]
pub struct Runtime {
    inner: Arc<Inner>,
}

struct Inner {
    catalog: Catalog,
    shelf: Arc<Shelf>,
    pool: Pool,
    engine: Arc<dyn Engine>,
    workers: Option<Arc<WorkerEngine>>,
    clock: Arc<dyn Clock>,
    default_deadline: Option<Duration>,
    books: Books,
}

/// What runs models.
pub(crate) struct Engines {
    /// All of it, as the pool sees it.
    pub(crate) engine: Arc<dyn Engine>,
    /// The part of it that starts processes.
    pub(crate) workers: Option<Arc<WorkerEngine>>,
}

/// What is written down about requests, where the owner wants that.
#[derive(Default)]
pub(crate) struct Books {
    /// A line for each.
    pub(crate) request_log: Option<Arc<RequestLog>>,
    /// Their counts over all lives.
    pub(crate) chronicle: Option<Arc<Chronicle>>,
}

impl Runtime {
    /// Settings for a new runtime.
    pub fn builder() -> Builder {
        Builder::default()
    }

    pub(crate) fn new(
        catalog: Catalog,
        shelf: Arc<Shelf>,
        pool: Pool,
        engines: Engines,
        clock: Arc<dyn Clock>,
        default_deadline: Option<Duration>,
        books: Books,
    ) -> Self {
        let Engines { engine, workers } = engines;
        let inner = Arc::new(Inner { catalog, shelf, pool, engine, workers, clock, default_deadline, books });
        if inner.books.chronicle.is_some() {
            tokio::spawn(keep_counting(Arc::downgrade(&inner)));
        }
        Self { inner }
    }

    /// Answers a request. Returns at once; everything, also what is wrong with the request, comes
    /// as events of the [`Answer`].
    pub fn generate(&self, request: Request) -> Answer {
        let (events, answer) = mpsc::channel(ANSWER_CAPACITY);
        let inner = Arc::clone(&self.inner);
        tokio::spawn(async move {
            let abandoned = events.clone();
            tokio::select! {
                // The reader is gone: dropping the drive drops generation and lease with it.
                () = abandoned.closed() => {}
                () = drive(&inner, request, &events) => {}
            }
        });
        Answer::new(answer)
    }

    /// Loads a model, if it is not ready, and returns when it is. Fetches it before, if need be.
    ///
    /// # Errors
    /// Whatever `generate` would say of this model.
    ///
    /// # Cancel safety
    /// Cancel safe: a load goes on, the pool owns it. A fetch that nobody else waits for stops, and what
    /// it brought so far is kept.
    pub async fn warm(&self, model: &str, waits: Option<mpsc::Sender<Wait>>) -> Result<(), Failure> {
        let resolved = self.inner.resolve(model, Origin::Owner, fetch::tell(waits.clone())).await?;
        let (told, mut waiting) = mpsc::channel(WAIT_CAPACITY);
        let mut warmed = std::pin::pin!(self.inner.pool.warm(resolved.model.spec, Some(told)));
        loop {
            tokio::select! {
                biased;
                warmed = &mut warmed => return Ok(warmed?),
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
        Stats {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            engine: self.inner.engine.name().to_owned(),
            uptime_ms: snapshot.uptime_ms,
            tiers: Tiers::of(&snapshot.pool, store.as_ref()),
            pool: snapshot.pool,
            workers: self.inner.workers.as_ref().map(|workers| workers.stats()),
            store,
            models: snapshot.models,
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
    /// What the pool needs to load the model; fetched from its source when it is not here.
    async fn resolve(
        self: &Arc<Self>,
        reference: &str,
        origin: Origin,
        watch: Watch,
    ) -> Result<Resolved, Failure> {
        let began = Instant::now();
        let mut fetches = 0;
        loop {
            match self.find(reference, origin).await? {
                Found::Here(model) => {
                    let fetch_ms = (fetches > 0).then(|| began.elapsed().as_secs_f64() * 1e3);
                    return Ok(Resolved { model, fetch_ms });
                }
                // The model first, then each that it needs.
                Found::Away(away) if fetches < FETCHES_MAX => {
                    fetch::fetch(&self.shelf, &self.catalog, &away, watch.clone()).await?;
                    fetches += 1;
                }
                Found::Away(away) => return Err(away.missing()),
            }
        }
    }

    /// The same for a model that must be here.
    async fn adapted(self: &Arc<Self>, reference: &str, origin: Origin) -> Result<Adapted, Failure> {
        match self.find(reference, origin).await? {
            Found::Here(model) => Ok(model),
            Found::Away(away) => Err(away.missing()),
        }
    }

    /// The same without what rides on its requests.
    async fn here(self: &Arc<Self>, reference: &str, origin: Origin) -> Result<Arc<ModelSpec>, Failure> {
        Ok(self.adapted(reference, origin).await?.spec)
    }

    /// Reads a header the first time; a map lookup afterwards.
    async fn find(self: &Arc<Self>, reference: &str, origin: Origin) -> Result<Found, Failure> {
        let inner = Arc::clone(self);
        let reference = reference.to_owned();
        blocking(move || inner.catalog.find(&reference, origin)).await?
    }

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

/// A model that can be loaded, and how long it took to fetch it, if that had to be.
struct Resolved {
    model: Adapted,
    fetch_ms: Option<f64>,
}

/// Writes down every now and then what the pool counted, for as long as there is one.
async fn keep_counting(inner: Weak<Inner>) {
    while let Some(runtime) = inner.upgrade() {
        let (Some(chronicle), Some(counted)) =
            (runtime.books.chronicle.clone(), runtime.pool.statistics().await)
        else {
            return;
        };
        drop(runtime);
        blocking(move || chronicle.save(counted)).await.ok();
        tokio::time::sleep(Chronicle::INTERVAL).await;
    }
}

/// One request from its first verb to its last.
async fn drive(inner: &Arc<Inner>, request: Request, events: &mpsc::Sender<AnswerEvent>) {
    let mut journey = Journey::begin(request.deadline.or(inner.default_deadline));
    let outcome = attempt(inner, &request, &mut journey, events).await;
    let outcome = match outcome {
        // The instance died before it said a word: nobody saw anything, so another may try once.
        Err(failure) if failure.kind == ErrorKind::EngineFailed && journey.may_try_again() => {
            attempt(inner, &request, &mut journey, events).await
        }
        outcome => outcome,
    };
    let last = match outcome {
        Ok(summary) => AnswerEvent::Done(summary),
        Err(failure) => AnswerEvent::Failed(failure),
    };
    events.send(last).await.ok();
}

async fn attempt(
    inner: &Arc<Inner>,
    request: &Request,
    journey: &mut Journey,
    events: &mpsc::Sender<AnswerEvent>,
) -> Result<Summary, Failure> {
    let Adapted { spec, adapters } = resolve(inner, request, journey, events).await?;
    let prompt = render(&spec, &request.input).await?;
    let mut noted = Noted::begin(inner.books.request_log.as_ref(), &spec, &request.client);
    let acquired = acquire(inner, &spec, request, journey, events).await;
    let mut lease = acquired.inspect_err(|_| noted.refused())?;
    journey.granted(&lease);
    if let Some(log) = noted.granted(&spec, journey) {
        tell_costs(inner, log, &spec);
    }
    let granted = AnswerEvent::Granted {
        model: spec.name.clone(),
        tier: journey.tier,
        queue_ms: journey.timings.queue_ms,
        load_ms: journey.timings.load_ms,
    };
    events.send(granted).await.ok();
    let outcome = stream(&lease, prompt, adapters, request, journey, events).await;
    match &outcome {
        Ok(summary) => noted.answered(summary),
        Err(failure) => lease.failed(failure),
    }
    outcome
    // release: the lease is dropped here, after the generation.
}

/// Lets the log of requests know what a model costs, now that it has been loaded.
fn tell_costs(inner: &Arc<Inner>, log: Arc<RequestLog>, spec: &Arc<ModelSpec>) {
    let (inner, spec) = (Arc::clone(inner), Arc::clone(spec));
    tokio::spawn(async move { log.tell(&spec, &inner.pool.snapshot().await) });
}

async fn resolve(
    inner: &Arc<Inner>,
    request: &Request,
    journey: &mut Journey,
    events: &mpsc::Sender<AnswerEvent>,
) -> Result<Adapted, Failure> {
    let watch = fetch::tell_events(events.clone());
    let resolved = inner.resolve(&request.model, request.origin, watch);
    let resolved = match journey.deadline {
        Some(deadline) => tokio::time::timeout_at(deadline, resolved).await.map_err(|_| fetch::too_late())?,
        None => resolved.await,
    }?;
    journey.fetched(resolved.fetch_ms);
    Ok(resolved.model)
}

async fn render(spec: &Arc<ModelSpec>, input: &Input) -> Result<Prompt, Failure> {
    match input {
        Input::Chat(messages) => {
            let (descriptor, messages) = (Arc::clone(&spec.descriptor), messages.clone());
            // A template is code: bounded, but free to use what its bounds allow.
            let text = blocking(move || prompt::render(&descriptor, &messages)).await??;
            // Templates that begin with the begin-of-sequence token must not get a second one.
            let has_bos = spec.descriptor.bos_token.as_deref().is_some_and(|bos| text.starts_with(bos));
            Ok(Prompt::Text { text, add_special: !has_bos, parse_special: true })
        }
        Input::Text(text) => Ok(Prompt::Text { text: text.clone(), add_special: true, parse_special: false }),
        Input::Tokens(tokens) => Ok(Prompt::Tokens(tokens.clone())),
    }
}

async fn acquire(
    inner: &Inner,
    spec: &Arc<ModelSpec>,
    request: &Request,
    journey: &Journey,
    events: &mpsc::Sender<AnswerEvent>,
) -> Result<Lease, Failure> {
    let now = inner.clock.now();
    let ask = Ask {
        model: Arc::clone(spec),
        client: request.client.clone(),
        priority: 0,
        deadline: journey.remaining().map(|left| now.plus(left.as_millis() as u64)),
        keep_alive: request.keep_alive,
        affinity: Some(request.input.affinity()),
    };
    let (waits, mut waiting) = mpsc::channel(WAIT_CAPACITY);
    let mut lease = std::pin::pin!(inner.pool.acquire(ask, Some(waits)));
    loop {
        tokio::select! {
            biased;
            granted = &mut lease => return Ok(granted?),
            Some(wait) = waiting.recv() => { events.send(AnswerEvent::Waiting(wait.into())).await.ok(); }
        }
    }
}

async fn stream(
    lease: &Lease,
    prompt: Prompt,
    adapters: Vec<Adapter>,
    request: &Request,
    journey: &mut Journey,
    events: &mpsc::Sender<AnswerEvent>,
) -> Result<Summary, Failure> {
    let generation = GenerationRequest {
        prompt,
        sampling: request.sampling.clone(),
        max_tokens: request.max_tokens,
        stop: request.stop.clone(),
        logprobs: request.logprobs,
        ignore_eos: request.ignore_eos,
        adapters,
        reuse_prefix: true,
    };
    let instance = Arc::clone(lease.instance());
    // Tokenizing a long prompt takes milliseconds of a core; taking up its saved state, or an instance that is stuck,
    // takes what it takes: past the deadline what comes of it is dropped, and so cancelled.
    let begun = by(journey.deadline, blocking(move || instance.generate(generation)));
    let Some(begun) = begun.await else { return Ok(journey.timed_out()) };
    let mut generation = begun??;
    loop {
        let Some(event) = by(journey.deadline, generation.next()).await else {
            return Ok(journey.timed_out());
        };
        let event = match event {
            Some(TokenEvent::Prefilled { usage, prefill_ms }) => {
                journey.prefilled(usage, prefill_ms);
                AnswerEvent::Prefilled { usage }
            }
            Some(TokenEvent::Token { text, logprob }) => {
                journey.token();
                AnswerEvent::Text { text, logprob }
            }
            Some(TokenEvent::Done(done)) => return Ok(journey.done(done.finish, done.usage)),
            Some(TokenEvent::Failed(failure)) => return Err(failure),
            None => {
                return Err(Failure::new(ErrorKind::EngineFailed, "the model stopped answering")
                    .with_hint("the request can be tried again; `samovar why MODEL` tells more"));
            }
        };
        events.send(event).await.ok();
    }
}

/// What comes of it, if that comes in time.
async fn by<T>(deadline: Option<Instant>, of: impl Future<Output = T>) -> Option<T> {
    match deadline {
        Some(deadline) => tokio::time::timeout_at(deadline, of).await.ok(),
        None => Some(of.await),
    }
}

/// Runs file reads and native tokenizing where they cannot hold up the event loop.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Failure> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|_| Failure::new(ErrorKind::Internal, "a task of the runtime did not finish"))
}
