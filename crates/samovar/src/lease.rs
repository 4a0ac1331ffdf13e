//! What every kind of work has in common: its model is resolved, a slot acquired, the work done under the lease, and the lease
//! released.
//!
//! ```text
//!   with_lease(common, work) ─► resolve ─► log ─► acquire ─► work.run(leased, journey) ─► log ─► release
//!                                  ▲                              │
//!                                  └── once more, where no client saw anything, and it may go well
//! ```
//!
//! Kinds of work differ in `run` alone. Nothing here knows what it is. Long work may give its slot back on the way, where others
//! wait, and goes on under another lease.

use std::sync::{Arc, Weak};
use std::time::Duration;

use samovar_core::port::PromptControl;
use samovar_core::{ErrorKind, Failure};
use samovar_pool::{AcquireRequest, Lease, ModelSpec, ModelState, ModelStats};
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::catalog::{Adapted, AskedContext, Skill};
use crate::fetch;
use crate::prompt;
use crate::request::{Common, Origin};
use crate::request_log::LogEntry;
use crate::request_trace::RequestTrace;
use crate::runtime::{Inner, blocking};
use crate::unread::News;
use crate::weights;

const WAIT_CAPACITY: usize = 16;
/// A request whose model is brought again waits so long for the pool to load it, at most.
const MENDING_MOST: Duration = Duration::from_secs(5);
/// Work that gave way and finds the queue full asks again after so long, at least and at most.
const ASK_AGAIN: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// A slot of a loaded model, and how requests to it are read.
pub(crate) struct Leased {
    /// Dropped before the lease: when the pool has none left, every line is on its way.
    log_entry: LogEntry,
    /// `None` while another is waited for, and when that was refused.
    lease: Option<Lease>,
    pub(crate) model: Adapted,
}

impl Leased {
    /// The slot.
    pub(crate) fn lease(&self) -> &Lease {
        self.lease.as_ref().expect("invariant: work whose slot was given back and refused has ended")
    }

    /// Whether another request waits for a slot of the model, or any model for memory.
    pub(crate) async fn is_wanted_by_others(&self, inner: &Inner) -> bool {
        let key = &self.model.spec.key;
        let models = inner.pool.snapshot().await.models;
        let waits = |model: &ModelStats| {
            model.state == ModelState::Waiting || (model.key == *key && model.queued > 0)
        };
        models.iter().any(waits)
    }

    /// Gives the slot back and waits for another one of the same model, without a word to the reader: the pool decides who is
    /// next. A queue that is full does not end work that has begun: it asks again. The caller minds the deadline.
    ///
    /// # Errors
    /// Whatever else keeps the pool from granting one. The work must end then.
    ///
    /// # Cancel safety
    /// Dropping it gives up the place in the queue.
    pub(crate) async fn give_way(
        &mut self,
        inner: &Inner,
        common: &Common,
        request_trace: &mut RequestTrace,
    ) -> Result<(), Failure> {
        let spec = Arc::clone(&self.model.spec);
        self.log_entry.answered(0);
        loop {
            self.log_entry = LogEntry::begin(inner.usage_logs.request_log.as_ref(), &spec, &common.client);
            self.lease = None;
            let failure = match acquire(inner, &spec, common, None, None, None).await {
                Ok(lease) => {
                    self.log_entry.granted(&lease, request_trace.granted(&lease));
                    self.lease = Some(lease);
                    return Ok(());
                }
                Err(failure) => failure,
            };
            self.log_entry.refused();
            if failure.kind != ErrorKind::Busy {
                return Err(failure);
            }
            let wait = Duration::from_millis(failure.retry_after_ms.unwrap_or(0));
            tokio::time::sleep(wait.clamp(ASK_AGAIN.0, ASK_AGAIN.1)).await;
        }
    }
}

/// Something that is done with a leased model.
pub(crate) trait LeasedWork: Sync {
    /// What comes of it.
    type Output;

    /// What a model must be able to do for it; `None` = every one can.
    fn skill(&self) -> Option<Skill>;

    /// What can be done about what is too long, besides more context: a sentence's beginning.
    fn how_to_shorten(&self) -> &'static str;

    /// Whether requests over the network have a field for it that asks for more context.
    fn may_ask_for_context(&self) -> bool {
        false
    }

    /// Stands for what it begins with: of several instances the one that saw it last is preferred.
    fn affinity(&self) -> Option<u64>;

    /// Tokens of what came of it, for the log of requests.
    fn tokens(output: &Self::Output) -> u32;

    /// Does it. Called again when it failed before `request_trace` heard of a token.
    fn run(
        &self,
        leased: &mut Leased,
        request_trace: &mut RequestTrace,
    ) -> impl Future<Output = Result<Self::Output, Failure>> + Send;
}

/// Does the work under a lease on the request's model, whose waits are told as news.
///
/// # Errors
/// Whatever keeps the model from being found, loaded or granted; whatever the work says.
///
/// # Cancel safety
/// Dropping it cancels the work and gives the lease back.
pub(crate) async fn with_lease<W: LeasedWork>(
    inner: &Arc<Inner>,
    common: &Common,
    work: &W,
    request_trace: &mut RequestTrace,
    news: &News,
) -> Result<W::Output, Failure> {
    let _passing = inner.pack_scheduler.packer().activity_counter.enter();
    let mut outcome = attempt(inner, common, common.origin, work, request_trace, news).await;
    if let Err(failure) = &outcome
        && let Some(origin) = another(inner, failure, common.origin, request_trace).await
    {
        outcome = attempt(inner, common, origin, work, request_trace, news).await;
    }
    if let Err(failure) = &outcome
        && failure.kind == ErrorKind::DeadlineExceeded
    {
        let (model, client) = (common.model.as_str(), common.client.as_str());
        tracing::info!(model, client, "a request ran out of time: {failure}");
    }
    if let Some(lifetime_stats) = &inner.usage_logs.lifetime_stats {
        lifetime_stats.note();
    }
    outcome
}

/// In whose name the model of the same request is looked for once more; `None` where another try is not worth it, or a client
/// saw something of the first.
async fn another(
    inner: &Arc<Inner>,
    failure: &Failure,
    origin: Origin,
    request_trace: &mut RequestTrace,
) -> Option<Origin> {
    // The instance died before it said a word.
    if failure.kind == ErrorKind::EngineFailed {
        return request_trace.may_try_again().then_some(origin);
    }
    // The model's file was damaged, and the code that found that has set it aside: it is brought again.
    if failure.kind != ErrorKind::Storage
        || !is_gone(inner, request_trace).await
        || !request_trace.may_try_again()
    {
        return None;
    }
    // Earlier the pool does not load it.
    let wait = Duration::from_millis(failure.retry_after_ms.unwrap_or(0));
    if wait > MENDING_MOST {
        return None;
    }
    by(request_trace.deadline, tokio::time::sleep(wait)).await?;
    // It was in the store, so its owner chose it: it may be fetched for any client.
    Some(Origin::Owner)
}

/// Whether the model's artifact, or its draft model's, is not in the store any more; of a prepared model that can always be so.
async fn is_gone(inner: &Arc<Inner>, request_trace: &RequestTrace) -> bool {
    if request_trace.weights.iter().any(weights::is_prepared) {
        return true;
    }
    let keys: Vec<_> = request_trace.weights.iter().filter_map(weights::artifact).collect();
    if keys.is_empty() {
        return false;
    }
    let lazy_store = Arc::clone(&inner.lazy_store);
    let look = move || {
        let store = lazy_store.store()?;
        for key in keys {
            if store.artifact(&key)?.is_none() {
                return Ok::<_, Failure>(true);
            }
        }
        Ok(false)
    };
    matches!(blocking(look).await, Ok(Ok(true)))
}

async fn attempt<W: LeasedWork>(
    inner: &Arc<Inner>,
    common: &Common,
    origin: Origin,
    work: &W,
    request_trace: &mut RequestTrace,
    news: &News,
) -> Result<W::Output, Failure> {
    // Fetching and reading a model takes much to wait for, and most requests only look it up.
    let mut model = Box::pin(resolve(inner, common, origin, request_trace, news)).await?;
    if let Some(skill) = work.skill().filter(|skill| !skill.is_in(model.spec.capabilities)) {
        return Err(lacking(inner, &model.spec, skill, common.origin).await);
    }
    bound_pinned(inner, &mut model, common).await?;
    let spec = Arc::clone(&model.spec);
    let draft = spec.options.draft.as_ref().map(|draft| draft.weights);
    request_trace.weights = spec.files.identity().into_iter().chain(draft).collect();
    let mut log_entry = LogEntry::begin(inner.usage_logs.request_log.as_ref(), &spec, &common.client);
    let left = request_trace.remaining();
    let acquired = acquire(inner, &spec, common, work.affinity(), left, Some(news)).await;
    let lease = acquired.inspect_err(|_| log_entry.refused())?;
    log_entry.granted(&lease, request_trace.granted(&lease));
    let mut leased = Leased { log_entry, lease: Some(lease), model };
    let outcome = match work.run(&mut leased, request_trace).await {
        Err(failure) if failure.kind == ErrorKind::ContextExceeded => {
            let has = leased.lease.as_ref().map_or(0, Lease::context_tokens);
            let allowed = if work.may_ask_for_context() {
                let kept = context_where_it_must_stay(inner, &spec).await;
                kept.unwrap_or_else(|| usual_context(&spec).max(inner.rules.context_ceiling_tokens))
            } else {
                has
            };
            let trained = spec.descriptor.context_tokens;
            let how_to_shorten = work.how_to_shorten();
            Err(prompt::with_what_fits(failure, how_to_shorten, has, allowed, trained, common.origin))
        }
        outcome => outcome,
    };
    match &outcome {
        Ok(output) => {
            leased.log_entry.answered(W::tokens(output));
            inner.pack_scheduler.consider(&spec.key);
        }
        Err(failure) => {
            if let Some(lease) = &mut leased.lease {
                lease.failed(failure);
            }
        }
    }
    if let Some(lease) = &leased.lease
        && let Some(log) = leased.log_entry.unheard_of(&spec, request_trace)
    {
        let (measured, slots) = (lease.instance().measure(), lease.slots());
        log.tell(&spec, measured, slots, &inner.pool.snapshot().await);
    }
    outcome
    // release: the lease is dropped here, after the work.
}

async fn resolve(
    inner: &Arc<Inner>,
    common: &Common,
    origin: Origin,
    request_trace: &mut RequestTrace,
    news: &News,
) -> Result<Adapted, Failure> {
    let tell = fetch::tell_events(news.clone());
    // Who asked first counts, also where the model is looked for once more in its owner's name.
    let ceiling_tokens = (common.origin == Origin::Network).then_some(inner.rules.context_ceiling_tokens);
    let takes_less = common.takes_less_context;
    let asked_context =
        common.context_tokens.map(|tokens| AskedContext { tokens, ceiling_tokens, takes_less });
    let resolved = inner.resolve(&common.model, origin, asked_context, tell);
    let resolved = by(request_trace.deadline, resolved).await.ok_or_else(fetch::too_late)??;
    request_trace.fetched(resolved.fetch_ms);
    Ok(resolved.model)
}

/// What is said to a client that asks a model for what it can not do: which others here can.
async fn lacking(inner: &Arc<Inner>, spec: &Arc<ModelSpec>, skill: Skill, origin: Origin) -> Failure {
    let (looking, spec) = (Arc::clone(inner), Arc::clone(spec));
    let said = blocking(move || looking.catalog.lacking(&spec.name, skill, origin)).await;
    said.unwrap_or_else(|failure| failure)
}

/// A pinned model, and what it needs, stays as large as it becomes: it grows for its owner alone. A request for which less will do
/// is served with what it has.
async fn bound_pinned(inner: &Inner, model: &mut Adapted, common: &Common) -> Result<(), Failure> {
    let Some(usual) = model.spec.usual.clone().filter(|_| common.origin == Origin::Network) else {
        return Ok(());
    };
    let Some(most) = context_where_it_must_stay(inner, &model.spec).await else { return Ok(()) };
    if most >= model.spec.options.context_tokens {
        return Ok(());
    }
    if common.takes_less_context {
        model.spec = usual;
        return Ok(());
    }
    let name = &model.spec.name;
    let message = format!("`{name}` is pinned with {most} tokens of context, and grows only for its owner");
    Err(Failure::new(ErrorKind::InvalidRequest, message)
        .with_param("context_tokens")
        .with_hint(format!("ask for {most} or less, or have its owner unpin it and what needs it")))
}

/// Tokens of context that the model has, or will have, where the pool must keep it; `None` where it need not.
async fn context_where_it_must_stay(inner: &Inner, spec: &ModelSpec) -> Option<u32> {
    let models = inner.pool.snapshot().await.models;
    let kept = models.iter().find(|model| model.key == spec.key && model.must_stay)?;
    Some(kept.largest_context_tokens.unwrap_or_else(|| usual_context(spec)))
}

/// Tokens of context without what a single request asks for beyond them.
fn usual_context(spec: &ModelSpec) -> u32 {
    spec.usual.as_deref().unwrap_or(spec).options.context_tokens
}

async fn acquire(
    inner: &Inner,
    spec: &Arc<ModelSpec>,
    common: &Common,
    affinity: Option<u64>,
    left: Option<Duration>,
    news: Option<&News>,
) -> Result<Lease, Failure> {
    let now = inner.clock.now();
    let ask = AcquireRequest {
        model: Arc::clone(spec),
        client: common.client.clone(),
        within: common.within.clone(),
        weight: common.weight,
        priority: common.priority,
        deadline: left.map(|left| now.plus(left.as_millis() as u64)),
        keep_alive: common.keep_alive,
        affinity,
    };
    let (waits, mut waiting) = mpsc::channel(WAIT_CAPACITY);
    let mut lease = std::pin::pin!(inner.pool.acquire(ask, Some(waits)));
    loop {
        tokio::select! {
            biased;
            granted = &mut lease => return Ok(granted?),
            Some(wait) = waiting.recv() => {
                if let Some(news) = news {
                    news.tell(wait.into());
                }
            }
        }
    }
}

/// What comes of it, if that comes in time.
pub(crate) async fn by<T>(deadline: Option<Instant>, of: impl Future<Output = T>) -> Option<T> {
    match deadline {
        Some(deadline) => tokio::time::timeout_at(deadline, of).await.ok(),
        None => Some(of.await),
    }
}

/// Wanted for as long as the caller that waits holds the other end of this.
pub(crate) struct WhileHeld(Weak<()>);

impl WhileHeld {
    /// Both ends.
    pub(crate) fn pair() -> (Arc<()>, Self) {
        let held = Arc::new(());
        let wanted = Self(Arc::downgrade(&held));
        (held, wanted)
    }
}

impl PromptControl for WhileHeld {
    fn is_wanted(&self) -> bool {
        self.0.strong_count() > 0
    }
}
