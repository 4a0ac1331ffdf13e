//! The way of a request: resolve, acquire, generate, stream, release.

use std::sync::{Arc, Weak};
use std::time::Duration;

use samovar_core::generation::{FinishReason, GenerationRequest, TokenEvent};
use samovar_core::port::{Clock, Engine, PromptControl};
use samovar_core::{ByteBudget, ErrorKind, Failure, Scope};
use samovar_pool::{Ask, Lease, ModelSpec, Pool};
use samovar_store::Watch;
use samovar_worker::WorkerEngine;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::answer::{Answer, AnswerEvent, Summary};
use crate::builder::Builder;
use crate::catalog::{Adapted, Catalog, Found};
use crate::fetch;
use crate::journey::Journey;
use crate::lifetime::Chronicle;
use crate::packed::Maker;
use crate::prompt;
use crate::request::{Origin, Request};
use crate::request_log::{Noted, RequestLog};
use crate::settings::PrefixSharing;
use crate::shelf::Shelf;
use crate::unread::{self, Outbox};
use crate::upkeep;

const WAIT_CAPACITY: usize = 16;
/// A request whose model is brought again waits so long for the pool to load it, at most.
const MENDING_MOST: Duration = Duration::from_secs(5);
/// Models that are fetched for one request: its own, and those which that one needs.
const FETCHES_MAX: u32 = 32;

/// A model cache, an instance pool and a serving runtime. Cheap to clone: every clone is the same one.
#[derive(Clone)]
pub struct Runtime {
    pub(crate) inner: Arc<Inner>,
}

/// What all clones of a runtime are.
pub(crate) struct Inner {
    pub(crate) catalog: Catalog,
    pub(crate) shelf: Arc<Shelf>,
    pub(crate) pool: Pool,
    /// All of what runs models, as the pool sees it.
    pub(crate) engine: Arc<dyn Engine>,
    /// The part of it that starts processes.
    pub(crate) workers: Option<Arc<WorkerEngine>>,
    /// What makes packed files for it.
    pub(crate) maker: Maker,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) rules: Rules,
    /// For what readers have not taken yet, and for whatever whoever serves this runtime holds beside that.
    pub(crate) buffers: ByteBudget,
    pub(crate) books: Books,
}

/// What holds for every request.
#[derive(Clone, Copy, Default)]
pub(crate) struct Rules {
    /// The deadline of requests that bring none.
    pub(crate) default_deadline: Option<Duration>,
    /// Who may continue from the state of whose prompts.
    pub(crate) share_prefixes: PrefixSharing,
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

    pub(crate) fn new(inner: Inner) -> Self {
        let inner = Arc::new(inner);
        if inner.books.chronicle.is_some() {
            tokio::spawn(upkeep::keep_counting(Arc::downgrade(&inner)));
        }
        Self { inner }
    }

    /// Answers a request. Returns at once; everything, also what is wrong with the request, comes
    /// as events of the [`Answer`].
    ///
    /// Nobody waits for the answer's reader: its slot is free when the text is complete. What is not read is kept, and
    /// counted in [`Runtime::buffers`]; a reader that leaves more than 4 MiB unread loses the rest of its answer.
    pub fn generate(&self, request: Request) -> Answer {
        let (outbox, inbox) = unread::channel(&self.inner.buffers, &request.client);
        let inner = Arc::clone(&self.inner);
        tokio::spawn(async move {
            let last = tokio::select! {
                // The reader is gone: dropping the drive drops generation and lease with it.
                () = outbox.closed() => return,
                last = drive(&inner, request, &outbox) => last,
            };
            outbox.finish(last);
        });
        Answer::new(inbox)
    }

    /// The bound on what unread answers hold; whoever serves this runtime counts the requests that it reads in as well.
    pub fn buffers(&self) -> &ByteBudget {
        &self.inner.buffers
    }
}

impl Inner {
    /// What the pool needs to load the model; fetched from its source when it is not here.
    pub(crate) async fn resolve(
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
    pub(crate) async fn here(
        self: &Arc<Self>,
        reference: &str,
        origin: Origin,
    ) -> Result<Arc<ModelSpec>, Failure> {
        Ok(self.adapted(reference, origin).await?.spec)
    }

    /// Reads a header the first time; a map lookup afterwards.
    async fn find(self: &Arc<Self>, reference: &str, origin: Origin) -> Result<Found, Failure> {
        let inner = Arc::clone(self);
        let reference = reference.to_owned();
        blocking(move || inner.catalog.find(&reference, origin)).await?
    }
}

/// A model that can be loaded, and how long it took to fetch it, if that had to be.
pub(crate) struct Resolved {
    pub(crate) model: Adapted,
    fetch_ms: Option<f64>,
}

/// One request from its first verb to its last.
async fn drive(inner: &Arc<Inner>, request: Request, events: &Outbox) -> AnswerEvent {
    let _passing = inner.maker.workshop().traffic.enter();
    let mut journey = Journey::begin(request.deadline.or(inner.rules.default_deadline));
    let mut outcome = attempt(inner, &request, request.origin, &mut journey, events).await;
    if let Err(failure) = &outcome
        && let Some(origin) = another(inner, failure, request.origin, &mut journey).await
    {
        outcome = attempt(inner, &request, origin, &mut journey, events).await;
    }
    let last = match outcome {
        Ok(summary) => AnswerEvent::Done(summary),
        Err(failure) => AnswerEvent::Failed(failure),
    };
    log_if_late(&request, &last);
    if let Some(chronicle) = &inner.books.chronicle {
        chronicle.note();
    }
    last
}

/// In whose name the model of the same request is looked for once more; `None` where another try is not worth it, or somebody
/// saw something of the first.
async fn another(
    inner: &Arc<Inner>,
    failure: &Failure,
    origin: Origin,
    journey: &mut Journey,
) -> Option<Origin> {
    // The instance died before it said a word.
    if failure.kind == ErrorKind::EngineFailed {
        return journey.may_try_again().then_some(origin);
    }
    // The model's file was damaged, and whoever found that has set it aside: it is brought again.
    if failure.kind != ErrorKind::Storage || !is_gone(inner, journey).await || !journey.may_try_again() {
        return None;
    }
    // Earlier the pool does not load it.
    let wait = Duration::from_millis(failure.retry_after_ms.unwrap_or(0));
    if wait > MENDING_MOST {
        return None;
    }
    by(journey.deadline, tokio::time::sleep(wait)).await?;
    // It was in the store, so its owner chose it: whoever asks now, it may be fetched.
    Some(Origin::Owner)
}

/// Whether the model's artifact is not in the store any more.
async fn is_gone(inner: &Arc<Inner>, journey: &Journey) -> bool {
    let Some(key) = journey.path.as_deref().and_then(|path| inner.shelf.key_of(path)) else { return false };
    let shelf = Arc::clone(&inner.shelf);
    let here = blocking(move || shelf.store().and_then(|store| Ok(store.artifact(&key)?))).await;
    matches!(here, Ok(Ok(None)))
}

/// Whoever runs the daemon hears of every request that ran out of time.
fn log_if_late(request: &Request, last: &AnswerEvent) {
    let (model, client) = (request.model.as_str(), request.client.as_str());
    match last {
        AnswerEvent::Done(summary) if summary.finish == FinishReason::TimedOut => {
            let tokens = summary.usage.completion_tokens;
            tracing::info!(model, client, tokens, "a request ran out of time: its answer is partial");
        }
        AnswerEvent::Failed(failure) if failure.kind == ErrorKind::DeadlineExceeded => {
            tracing::info!(model, client, "a request ran out of time: {failure}");
        }
        _ => {}
    }
}

async fn attempt(
    inner: &Arc<Inner>,
    request: &Request,
    origin: Origin,
    journey: &mut Journey,
    events: &Outbox,
) -> Result<Summary, Failure> {
    let model = resolve(inner, &request.model, origin, journey, events).await?;
    let spec = Arc::clone(&model.spec);
    journey.resolved(&spec.path);
    let mut noted = Noted::begin(inner.books.request_log.as_ref(), &spec, &request.client);
    let acquired = acquire(inner, &spec, request, journey, events).await;
    let mut lease = acquired.inspect_err(|_| noted.refused())?;
    journey.granted(&lease);
    // Dropped before the lease: when the pool has none left, every line is on its way.
    let mut noted = noted.granted(journey);
    let granted = AnswerEvent::Granted {
        model: spec.name.clone(),
        tier: journey.tier,
        queue_ms: journey.timings.queue_ms,
        load_ms: journey.timings.load_ms,
    };
    events.push(granted)?;
    let person = request.person.as_ref().unwrap_or(&request.client);
    let scope = Scope::of_client(person, inner.rules.share_prefixes == PrefixSharing::Client);
    let outcome = stream(&lease, (model, scope), request, journey, events).await;
    let (has, trained) = (spec.options.context_tokens, spec.descriptor.context_tokens);
    let outcome = outcome.map_err(|failure| prompt::with_what_fits(failure, has, trained, request.origin));
    match &outcome {
        Ok(summary) => {
            noted.answered(summary);
            inner.maker.consider(&spec.key);
        }
        Err(failure) => lease.failed(failure),
    }
    if let Some(log) = noted.unheard_of(&spec, journey) {
        log.tell(&spec, lease.instance().measure(), &inner.pool.snapshot().await);
    }
    outcome
    // release: the lease is dropped here, after the generation.
}

async fn resolve(
    inner: &Arc<Inner>,
    reference: &str,
    origin: Origin,
    journey: &mut Journey,
    events: &Outbox,
) -> Result<Adapted, Failure> {
    let watch = fetch::tell_events(events.news());
    let resolved = inner.resolve(reference, origin, watch);
    let resolved = match journey.deadline {
        Some(deadline) => tokio::time::timeout_at(deadline, resolved).await.map_err(|_| fetch::too_late())?,
        None => resolved.await,
    }?;
    journey.fetched(resolved.fetch_ms);
    Ok(resolved.model)
}

async fn acquire(
    inner: &Inner,
    spec: &Arc<ModelSpec>,
    request: &Request,
    journey: &Journey,
    events: &Outbox,
) -> Result<Lease, Failure> {
    let now = inner.clock.now();
    let ask = Ask {
        model: Arc::clone(spec),
        client: request.client.clone(),
        within: request.within.clone(),
        priority: 0,
        deadline: journey.remaining().map(|left| now.plus(left.as_millis() as u64)),
        keep_alive: request.keep_alive,
        affinity: Some(request.input.affinity()),
    };
    let (waits, mut waiting) = mpsc::channel(WAIT_CAPACITY);
    let news = events.news();
    let mut lease = std::pin::pin!(inner.pool.acquire(ask, Some(waits)));
    loop {
        tokio::select! {
            biased;
            granted = &mut lease => return Ok(granted?),
            Some(wait) = waiting.recv() => news.tell(wait.into()),
        }
    }
}

async fn stream(
    lease: &Lease,
    (model, scope): (Adapted, Scope),
    request: &Request,
    journey: &mut Journey,
    events: &Outbox,
) -> Result<Summary, Failure> {
    let generation = GenerationRequest {
        prompt: prompt::of(request, &model.manners)?,
        sampling: request.sampling.clone(),
        max_tokens: request.max_tokens,
        stop: if request.stop.is_empty() { model.manners.stop } else { request.stop.clone() },
        logprobs: request.logprobs,
        ignore_eos: request.ignore_eos,
        adapters: model.adapters,
        reuse_prefix: true,
        scope,
    };
    let instance = Arc::clone(lease.instance());
    // Rendering and tokenizing a long prompt takes milliseconds of a core; taking up its saved state, or an instance that is stuck,
    // takes what it takes: past the deadline nobody waits for it, and what comes of it is dropped, and so cancelled.
    let waiting = Arc::new(());
    let wanted = WhileHeld(Arc::downgrade(&waiting));
    let begun = by(journey.deadline, blocking(move || instance.generate_while(generation, &wanted))).await;
    drop(waiting);
    let Some(begun) = begun else { return journey.timed_out() };
    let mut generation = begun??;
    loop {
        let Some(event) = by(journey.deadline, generation.next()).await else {
            return journey.timed_out();
        };
        let event = match event {
            Some(TokenEvent::Prefilling { computed, of }) => {
                journey.prefilling(computed, of);
                AnswerEvent::Prefilling { computed, of }
            }
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
        events.push(event)?;
    }
}

/// Wanted for as long as whoever waits holds the other end of this.
struct WhileHeld(Weak<()>);

impl PromptControl for WhileHeld {
    fn is_wanted(&self) -> bool {
        self.0.strong_count() > 0
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
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Failure> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|_| Failure::new(ErrorKind::Internal, "a task of the runtime did not finish"))
}
