//! Prepares published models and adapters, so that every later load maps them: on an owner's order, or for the first request that needs one.
//!
//! ```text
//!   prepare ─► flight: one for all callers of this process ─► turn ─► plan: fits? ─► memory ─► a thread: store.make
//!      ▲                                                                                 └ another process makes it: looked again
//!      └──────── progress, outcome ◄──────────────────────── engine.prepare ─► the gate ─► commit
//! ```
//!
//! A preparation that a request began goes on without it, as loads do: the next request finds it done. One that an owner ordered
//! stops with the order, unless a request waits for it, too.

mod flight;
mod removal;
mod room;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use samovar_core::port::{ADAPTER_HELD_BYTES, LoadControl, PreparePlan, PrepareRequest};
use samovar_core::units::ByteSize;
use samovar_core::{Descriptor, ErrorKind, Failure, Quantization};
use samovar_store::{Make, Opened, Store};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::catalog::{Publication, Published, PublishedPlace, check_prepared, folder_digest};
use crate::fetch;
use crate::options::PrepareOptions;
use crate::runtime::{Inner, Runtime, blocking};
use crate::wait::{Tell, Wait};
pub(crate) use flight::Preparations;
use flight::{Flight, Id, State};

/// How often is looked whether memory is wanted back.
const LOOK: Duration = Duration::from_millis(20);
/// How often is looked whether another process has finished.
const BY_ANOTHER: Duration = Duration::from_millis(500);
/// How long a request's preparation waits for memory that others use …
const PATIENCE: Duration = Duration::from_secs(60);
/// … and how often it begins again after others wanted its memory back.
const BEGINS_AGAIN: u32 = 3;
/// Progress of less than this is not told.
const STEP: f32 = 0.005;
/// The weights of an adapter, as PEFT names them.
const ADAPTER_WEIGHTS: &str = "adapter_model.safetensors";

/// A model that is prepared.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PreparedInfo {
    /// What people call it.
    pub model: String,
    /// The number format of its weights.
    pub quantization: Quantization,
    /// Bytes of the prepared file.
    pub bytes: u64,
    /// How long it took, in milliseconds; `None` when it was prepared before.
    pub took_ms: Option<f64>,
}

/// Whose wish a preparation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// A request's, which needs the model in memory.
    Request,
    /// An owner's, who may have reasons to prepare what does not fit here.
    Owner,
}

impl Runtime {
    /// Prepares a published model now; fetches it before, if need be.
    ///
    /// # Errors
    /// `InvalidRequest` for a model that is run as it is, or whose settings name another number format; `Unsupported` for
    /// one that is not converted; `InsufficientStorage` without room on the disk; whatever resolving the name says.
    ///
    /// # Cancel safety
    /// Dropping the future stops the preparation, unless a request waits for it.
    pub fn prepare<'a>(
        &'a self,
        model: &'a str,
        options: PrepareOptions,
    ) -> BoxFuture<'a, Result<PreparedInfo, Failure>> {
        Box::pin(self.prepare_unboxed(model, options))
    }

    async fn prepare_unboxed(&self, model: &str, options: PrepareOptions) -> Result<PreparedInfo, Failure> {
        let PrepareOptions { quantization, waits } = options;
        let (inner, tell) = (&self.inner, fetch::tell(waits));
        let _passing = inner.pack_scheduler.packer().activity_counter.enter();
        let mut published = match publication(inner, model).await? {
            Publication::Remote(mut remote) => {
                let set = remote.settings.quantization;
                if let (Some(set), Some(asked)) = (set, quantization)
                    && set != asked
                {
                    return Err(contradicted(model, set, asked));
                }
                // What the order names is not chosen besides.
                remote.settings.quantization = set.or(quantization);
                let watch = fetch::watch(&tell);
                fetch::fetch(&inner.lazy_store, &inner.catalog, &remote, Order::Owner, watch).await?;
                publication(inner, model).await?.published(model)?
            }
            found => found.published(model)?,
        };
        if let Some(quantization) = quantization {
            published = chosen(published, quantization)?;
        }
        let info = prepare(inner, published.clone(), Order::Owner, &tell).await?;
        if let Some(quantization) = quantization {
            let (inner, choice) = (Arc::clone(inner), published.choice);
            blocking(move || {
                inner.lazy_store.store()?.remember(&choice, quantization.as_str());
                Ok::<_, Failure>(())
            })
            .await??;
        }
        Ok(info)
    }
}

async fn publication(inner: &Arc<Inner>, model: &str) -> Result<Publication, Failure> {
    let (inner, model) = (Arc::clone(inner), model.to_owned());
    blocking(move || inner.catalog.publication(&model)).await?
}

impl Publication {
    /// The published model.
    fn published(self, model: &str) -> Result<Published, Failure> {
        match self {
            Self::Published(published) => Ok(published),
            Self::Remote(remote) => Err(remote.missing()),
            Self::Mapped => {
                let message =
                    format!("`{model}` is not prepared: it is run as it is, or this build prepares none");
                Err(Failure::new(ErrorKind::InvalidRequest, message)
                    .with_param("model")
                    .with_hint("only models in safetensors are prepared, and not those that candle runs"))
            }
        }
    }
}

/// The model in a number format that an owner chooses with an order.
fn chosen(published: Published, quantization: Quantization) -> Result<Published, Failure> {
    if published.is_set && published.quantization != quantization {
        return Err(contradicted(&published.name, published.quantization, quantization));
    }
    Ok(published.in_format(quantization))
}

/// What is said of an order that contradicts the settings.
fn contradicted(name: &str, set: Quantization, asked: Quantization) -> Failure {
    let message = format!("the settings of `{name}` say {set}, and not {asked}");
    Failure::new(ErrorKind::InvalidRequest, message)
        .with_param("quantization")
        .with_hint("change `quantization` in samovar.toml, or leave it out there")
}

/// Prepares a model, unless it is prepared, and returns when it is. However many ask for it, it is prepared once.
///
/// # Errors
/// `TooLarge` for what a request could never load; whatever the engine or the store say.
///
/// # Cancel safety
/// Dropping it stops a preparation that only owners wait for; one that a request began goes on.
pub(crate) async fn prepare(
    inner: &Arc<Inner>,
    published: Published,
    order: Order,
    tell: &Tell,
) -> Result<PreparedInfo, Failure> {
    let quantization = published.quantization;
    let id = (published.source(), published.key());
    if order == Order::Request
        && let Some(failure) = inner.preparations.known_failure(&id)
    {
        return Err(failure);
    }
    let flight = join(inner, published, id, order);
    let mut state = flight.state.clone();
    let mut told = None;
    loop {
        let now = state.borrow_and_update().clone();
        if let Some(outcome) = now.outcome {
            return outcome;
        }
        let is_news = told.is_none_or(|told: f32| (now.fraction - told).abs() >= STEP);
        if let Some(news) = now.news(quantization).filter(|_| is_news) {
            told = Some(now.fraction);
            tell(Wait::Preparing(news));
        }
        if state.changed().await.is_err() {
            return Err(Failure::new(ErrorKind::Internal, "the preparation of a model did not finish"));
        }
    }
}

/// The flight of a model, begun where there is none.
fn join(inner: &Arc<Inner>, published: Published, id: Id, order: Order) -> Arc<Flight> {
    let mut flights = inner.preparations.flights();
    let running = flights.get(&id).and_then(Weak::upgrade);
    if let Some(flight) = running.filter(|flight| flight.state.borrow().outcome.is_none()) {
        if order == Order::Request {
            flight.goes_on.store(true, Ordering::Relaxed);
        }
        return flight;
    }
    let (sender, state) = watch::channel(State::default());
    let sender = Arc::new(sender);
    let told = Arc::clone(&sender);
    let control =
        LoadControl::new(move |fraction| told.send_modify(|state| state.fraction = fraction.clamp(0.0, 1.0)));
    let cancelled = control.cancel_flag();
    let goes_on = AtomicBool::new(order == Order::Request);
    let flight = Arc::new(Flight { state, cancelled, goes_on });
    flights.retain(|_, flight| flight.strong_count() > 0);
    flights.insert(id.clone(), Arc::downgrade(&flight));
    drop(flights);
    let inner = Arc::clone(inner);
    // What goes on without its callers is found by the next one as long as it lives.
    let kept = (order == Order::Request).then(|| Arc::clone(&flight));
    tokio::spawn(async move {
        let name = published.name.clone();
        let outcome = carry_out(&inner, published, order, control, &sender).await;
        inner.preparations.note(&id, &outcome);
        if let Err(failure) = &outcome {
            tracing::warn!(model = name, hint = failure.hint, "was not prepared: {failure}");
        }
        sender.send_modify(|state| state.outcome = Some(outcome));
        drop(kept);
    });
    flight
}

/// What came of one try.
enum Tried {
    Done(PreparedInfo),
    /// Another process prepares it.
    ByAnother,
}

async fn carry_out(
    inner: &Arc<Inner>,
    published: Published,
    order: Order,
    control: LoadControl,
    sender: &watch::Sender<State>,
) -> Result<PreparedInfo, Failure> {
    let _turn = Arc::clone(&inner.preparations.turn).lock_owned().await;
    let (published, control) = (Arc::new(published), Arc::new(control));
    let (looking, model) = (Arc::clone(inner), Arc::clone(&published));
    let plan =
        blocking(move || Source::open(&looking, &model).and_then(|source| source.plan(&looking, &model)));
    let plan = plan.await??;
    room::check_fits(inner, &published, &plan, order).await?;
    let began = Instant::now();
    sender.send_modify(|state| (state.plan, state.began) = (Some(plan.clone()), Some(began)));
    let (mut waited, mut begun_again) = (Duration::ZERO, 0);
    loop {
        if control.is_cancelled() {
            return Err(stopped());
        }
        let Some(memory) = room::reserve(inner, plan.held_bytes).await else {
            if order == Order::Request && waited < PATIENCE {
                waited += BY_ANOTHER;
                tokio::time::sleep(BY_ANOTHER).await;
                continue;
            }
            let needed = ByteSize::from_bytes(plan.held_bytes);
            let message = format!("{needed} of memory are not free to prepare `{}`", published.name);
            return Err(Failure::new(ErrorKind::Busy, message)
                .with_param("model")
                .with_hint("unload models, or raise pool.budget_bytes"));
        };
        let wanted_back = memory.wanted_back();
        let (working, model, of_work) = (Arc::clone(inner), Arc::clone(&published), Arc::clone(&control));
        let disk_bytes = plan.disk_bytes;
        let mut work = tokio::task::spawn_blocking(move || {
            let _held = memory;
            work(&working, &model, disk_bytes, &of_work, began)
        });
        let tried = tokio::select! {
            tried = &mut work => tried,
            () = is_set(&wanted_back) => {
                control.cancel_flag().store(true, Ordering::Relaxed);
                work.await
            }
        };
        let tried = tried.map_err(|_| {
            Failure::new(ErrorKind::Internal, "the engine panicked")
                .with_hint("this is a fault of the program; please report it with the log")
        })?;
        match tried {
            Ok(Tried::Done(info)) => return Ok(info),
            Ok(Tried::ByAnother) => tokio::time::sleep(BY_ANOTHER).await,
            Err(failure) if failure.kind == ErrorKind::Cancelled && wanted_back.load(Ordering::Relaxed) => {
                if order == Order::Request && begun_again < BEGINS_AGAIN {
                    begun_again += 1;
                    // Set above, and by no caller: what a request began goes on without its callers.
                    control.cancel_flag().store(false, Ordering::Relaxed);
                    let now = Some(Instant::now());
                    sender.send_modify(|state| (state.fraction, state.began) = (0.0, now));
                    tokio::time::sleep(BY_ANOTHER).await;
                    continue;
                }
                let message = "a request needed the memory before the model was prepared";
                return Err(Failure::new(ErrorKind::Busy, message)
                    .with_param("model")
                    .with_hint("try again"));
            }
            Err(failure) => return Err(failure),
        }
    }
}

/// The published files, which stay where they are for as long as this lives.
struct Source {
    folder: PathBuf,
    _opened: Option<Opened>,
}

impl Source {
    fn open(inner: &Inner, published: &Published) -> Result<Self, Failure> {
        match &published.place {
            PublishedPlace::Folder(folder, _) => Ok(Self { folder: folder.clone(), _opened: None }),
            PublishedPlace::Artifact(key) => {
                let opened = inner.lazy_store.store()?.look_at(key)?;
                let folder = opened.directory().map(std::path::Path::to_owned).ok_or_else(|| {
                    let message = format!("the files of `{}` have no names", published.name);
                    Failure::new(ErrorKind::Storage, message).with_param("model").with_hint("pull it again")
                })?;
                Ok(Self { folder, _opened: Some(opened) })
            }
        }
    }

    fn plan(&self, inner: &Inner, published: &Published) -> Result<PreparePlan, Failure> {
        match &published.base {
            Some(base) => Ok(self.plan_adapter(base)),
            None => inner.engine.plan_preparation(&self.folder, published.quantization),
        }
    }

    /// What an adapter takes is known from the size of its weights: 16-bit floats become floats of 32 bits.
    fn plan_adapter(&self, base: &Descriptor) -> PreparePlan {
        let weights = fs_err::metadata(self.folder.join(ADAPTER_WEIGHTS));
        let source_bytes = weights.map_or(0, |facts| facts.len());
        let prepared_bytes = source_bytes.saturating_mul(2).saturating_add(1 << 20);
        PreparePlan {
            architecture: base.architecture.clone(),
            source_bytes,
            prepared_bytes,
            disk_bytes: prepared_bytes,
            held_bytes: ADAPTER_HELD_BYTES,
        }
    }

    /// Whether the files are those that were asked for.
    fn is_unchanged(&self, published: &Published) -> bool {
        match &published.place {
            PublishedPlace::Artifact(_) => true,
            PublishedPlace::Folder(_, files) => folder_digest(&self.folder).is_ok_and(|now| now == *files),
        }
    }
}

/// Prepares it. Blocks.
fn work(
    inner: &Inner,
    published: &Published,
    disk_bytes: u64,
    control: &LoadControl,
    began: Instant,
) -> Result<Tried, Failure> {
    let store: Store = inner.lazy_store.store()?;
    let (source_key, key) = (published.source(), published.key());
    let done = |bytes: u64, took_ms: Option<f64>| {
        let (model, quantization) = (published.name.clone(), published.quantization);
        Tried::Done(PreparedInfo { model, quantization, bytes, took_ms })
    };
    let source = Source::open(inner, published)?;
    let making = match store.prepared().make(&source_key, &key, disk_bytes, published.artifact())? {
        Make::Begun(making) => making,
        Make::ByAnother => return Ok(Tried::ByAnother),
        Make::Here => match store.prepared().find(&source_key, &key)? {
            Some(opened) => return Ok(done(opened.bytes(), None)),
            // It was damaged, and has been removed.
            None => return Ok(Tried::ByAnother),
        },
    };
    let (folder, quantization, target) = (&source.folder, published.quantization, making.path());
    let base = published.base.as_deref();
    inner.engine.prepare(PrepareRequest { folder, quantization, target, base, control })?;
    if !source.is_unchanged(published) {
        let message = format!("the files of `{}` changed while it was prepared", published.name);
        return Err(Failure::new(ErrorKind::Storage, message).with_param("model").with_hint("ask again"));
    }
    check_prepared(making.path(), base)?;
    let opened = making.commit_unless(&control.cancel_flag())?.ok_or_else(stopped)?;
    let took_ms = began.elapsed().as_secs_f64() * 1e3;
    let size = ByteSize::from_bytes(opened.bytes());
    tracing::info!(model = published.name, %quantization, took_ms = took_ms as u64, "a model was prepared: {size}");
    Ok(done(opened.bytes(), Some(took_ms)))
}

/// Returns when this is set.
async fn is_set(flag: &AtomicBool) {
    while !flag.load(Ordering::Relaxed) {
        tokio::time::sleep(LOOK).await;
    }
}

fn stopped() -> Failure {
    Failure::new(ErrorKind::Cancelled, "the preparation was stopped")
}
