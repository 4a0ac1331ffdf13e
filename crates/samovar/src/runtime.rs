//! The runtime: what it is made of, and where requests and names enter it.

use std::any::Any;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use samovar_core::port::{Clock, Engine};
use samovar_core::{ByteBudget, ErrorKind, Failure};
use samovar_pool::{ModelSpec, Pool};
use samovar_worker::WorkerEngine;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::answer::{Answer, AnswerEvent};
use crate::builder::Builder;
use crate::catalog::{Absent, Adapted, AskedContext, Catalog, Found};
use crate::lazy_store::LazyStore;
use crate::lifetime::LifetimeStats;
use crate::packed::PackScheduler;
use crate::prepare::{Order, Preparations};
use crate::request::{Common, Origin, Request, Work};
use crate::request_log::RequestLog;
use crate::request_trace::RequestTrace;
use crate::settings::PrefixSharing;
use crate::unread::Outbox;
use crate::wait::Tell;
use crate::{admin, embed, fetch, generate, prepare, unread};

/// Models that are fetched or prepared for one request: its own, and those which that one needs.
const FETCHES_MAX: u32 = 32;

/// A model cache, an instance pool and a serving runtime. Cheap to clone: every clone is the same one.
#[derive(Clone)]
pub struct Runtime {
    pub(crate) inner: Arc<Inner>,
}

/// What all clones of a runtime are.
pub(crate) struct Inner {
    pub(crate) catalog: Catalog,
    pub(crate) lazy_store: Arc<LazyStore>,
    pub(crate) pool: Pool,
    /// All of what runs models, as the pool sees it.
    pub(crate) engine: Arc<dyn Engine>,
    /// The part of it that starts processes.
    pub(crate) workers: Option<Arc<WorkerEngine>>,
    /// What makes packed files for it.
    pub(crate) pack_scheduler: PackScheduler,
    /// What is being prepared.
    pub(crate) preparations: Preparations,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) rules: Rules,
    /// For what readers have not taken yet, and for what a server of this runtime holds beside that.
    pub(crate) buffers: ByteBudget,
    pub(crate) usage_logs: UsageLogs,
}

/// What holds for every request.
#[derive(Clone, Copy, Default)]
pub(crate) struct Rules {
    /// The deadline of requests that bring none.
    pub(crate) default_deadline: Option<Duration>,
    /// Who may continue from the state of whose prompts.
    pub(crate) share_prefixes: PrefixSharing,
    /// The most context that a request of the network may ask for where its model's name has less.
    pub(crate) context_ceiling_tokens: u32,
}

/// What is written down about requests, where the owner wants that.
#[derive(Default)]
pub(crate) struct UsageLogs {
    /// A line for each.
    pub(crate) request_log: Option<Arc<RequestLog>>,
    /// Their counts over all lives.
    pub(crate) lifetime_stats: Option<Arc<LifetimeStats>>,
}

impl Runtime {
    /// Settings for a new runtime.
    pub fn builder() -> Builder {
        Builder::default()
    }

    pub(crate) fn new(inner: Inner) -> Self {
        let inner = Arc::new(inner);
        if inner.usage_logs.lifetime_stats.is_some() {
            tokio::spawn(admin::keep_counting(Arc::downgrade(&inner)));
        }
        Self { inner }
    }

    /// Answers a request, whatever its work is. Returns at once; everything, also what is wrong with the request, comes
    /// as events of the [`Answer`].
    ///
    /// No slot waits for the answer's reader: its slot is free when the text is complete. What is not read is kept, and
    /// counted in [`Runtime::buffers`]; a reader that leaves more than 4 MiB of text unread loses the rest of its answer. Vectors
    /// wait for their reader, and keep their slot for so long.
    pub fn generate(&self, request: Request) -> Answer {
        let Request { common, work } = request;
        let mut request_trace = RequestTrace::begin(common.deadline.or(self.inner.rules.default_deadline));
        let trace = request_trace.view();
        let (outbox, inbox) = unread::channel(&self.inner.buffers, &common.client);
        let inner = Arc::clone(&self.inner);
        // Without its type: the compiler copies the code of all work for each of tokio's schedulers otherwise.
        let answering: BoxFuture<'static, ()> = Box::pin(async move {
            let last = tokio::select! {
                // The reader is gone: dropping the work drops generation and lease with it.
                () = outbox.closed() => return,
                last = work_on(&inner, &common, &work, &mut request_trace, &outbox) => last,
            };
            outbox.finish(last);
        });
        tokio::spawn(answering);
        Answer::new(inbox, trace)
    }

    /// The bound on what unread answers hold; a server of this runtime counts the requests that it reads in as well.
    pub fn buffers(&self) -> &ByteBudget {
        &self.inner.buffers
    }
}

/// One request from its first verb to its last.
async fn work_on(
    inner: &Arc<Inner>,
    common: &Common,
    work: &Work,
    request_trace: &mut RequestTrace,
    events: &Outbox,
) -> AnswerEvent {
    match work {
        Work::Generate(generate) => generate::answer(inner, common, generate, request_trace, events).await,
        Work::Embed(embed) => embed::answer(inner, common, embed, request_trace, events).await,
    }
}

impl Inner {
    /// What the pool needs to load the model with so much context, or with its usual one; fetched from its source when it is
    /// not here, and prepared when no engine maps it as it is.
    pub(crate) fn resolve<'a>(
        self: &'a Arc<Self>,
        reference: &'a str,
        origin: Origin,
        asked_context: Option<AskedContext>,
        tell: Tell,
    ) -> BoxFuture<'a, Result<Resolved, Failure>> {
        Box::pin(async move {
            let began = Instant::now();
            let mut fetches = 0;
            loop {
                match self.find(reference, origin, asked_context).await? {
                    Found::Local(model) => {
                        let fetch_ms = (fetches > 0).then(|| began.elapsed().as_secs_f64() * 1e3);
                        return Ok(Resolved { model: *model, fetch_ms });
                    }
                    // The model first, then each that it needs.
                    Found::Absent(absent) if fetches < FETCHES_MAX => {
                        match *absent {
                            Absent::Remote(remote) => {
                                let watch = fetch::watch(&tell);
                                fetch::fetch(&self.lazy_store, &self.catalog, &remote, Order::Request, watch)
                                    .await?;
                            }
                            Absent::Unprepared(published) => {
                                prepare::prepare(self, published, Order::Request, &tell).await?;
                            }
                        }
                        fetches += 1;
                    }
                    Found::Absent(absent) => return Err(absent.missing()),
                }
            }
        })
    }

    /// The same for a model that must be here.
    async fn adapted(self: &Arc<Self>, reference: &str, origin: Origin) -> Result<Adapted, Failure> {
        match self.find(reference, origin, None).await? {
            Found::Local(model) => Ok(*model),
            Found::Absent(absent) => Err(absent.missing()),
        }
    }

    /// The same without what rides on its requests.
    pub(crate) fn resolve_local<'a>(
        self: &'a Arc<Self>,
        reference: &'a str,
        origin: Origin,
    ) -> BoxFuture<'a, Result<Arc<ModelSpec>, Failure>> {
        Box::pin(async move { Ok(self.adapted(reference, origin).await?.spec) })
    }

    /// Reads a header the first time; a map lookup afterwards.
    async fn find(
        self: &Arc<Self>,
        reference: &str,
        origin: Origin,
        asked_context: Option<AskedContext>,
    ) -> Result<Found, Failure> {
        let inner = Arc::clone(self);
        let reference = reference.to_owned();
        blocking(move || inner.catalog.find(&reference, origin, asked_context)).await?
    }
}

/// A model that can be loaded, and how long it took to fetch it, if that had to be.
pub(crate) struct Resolved {
    pub(crate) model: Adapted,
    pub(crate) fetch_ms: Option<f64>,
}

/// Runs file reads and native tokenizing where they cannot hold up the event loop.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Failure> {
    let work: ErasedWork = Box::new(move || -> Box<dyn Any + Send> { Box::new(work()) });
    match begin(work).await {
        Ok(done) => Ok(*done.downcast::<T>().expect("invariant: the work returns this")),
        Err(_) => Err(Failure::new(ErrorKind::Internal, "a task of the runtime did not finish")),
    }
}

/// Work and what it returns, without their types: the compiler would make all of a task's code again for each.
type ErasedWork = Box<dyn FnOnce() -> Box<dyn Any + Send> + Send>;

fn begin(work: ErasedWork) -> JoinHandle<Box<dyn Any + Send>> {
    tokio::task::spawn_blocking(work)
}
