//! One client of JSON-RPC: its calls run at the same time, each as a task of this session, and are answered in the order in which
//! they end. Dropping the session cancels them. Knows no method and no stream.
//!
//! ```text
//!   message ─► calls ─► prepared in their order (method, parameters, id, a place) ─► task ─► answer ─┐
//!                           └ what is wrong with one ────────────────────────────────────► error ──┴─► queue, bounded
//! ```

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::body::Bytes;
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, join_all, ready};
use samovar_core::{ErrorKind, Failure};
use serde::Serialize;
use serde_json::{Map, Value};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinSet;

use super::methods::Method;
use super::wire::{self, BATCH_CALLS, Call, Fault, Id, Message};
use crate::app::App;
use crate::buffer_charge::BufferCharge;
use crate::client::Asker;
use crate::generation::copies::weight;
use crate::generation::running::leaving;
use crate::request_record::RequestRecord;

/// Calls of one client that run at the same time.
pub(super) const CALLS: usize = 2 * BATCH_CALLS;
/// Messages whose answers are not in the queue yet, those that only say what is wrong included.
const MESSAGES: usize = CALLS + BATCH_CALLS;
/// Messages that wait to be written. Whatever speaks waits for its place.
pub(super) const UNSENT: usize = 64;
/// When a client with too many calls may try again, in milliseconds.
const RETRY_AFTER_MS: u64 = 1_000;

/// One client.
pub(super) struct Session {
    app: App,
    asker: Asker,
    methods: &'static [Method],
    queue: mpsc::Sender<Bytes>,
    /// Whether the client hears what happens on the way to an answer.
    tells: bool,
    in_flight: InFlightIds,
    places: Arc<Semaphore>,
    tasks: JoinSet<()>,
}

/// What a method is given.
pub(super) struct CallContext {
    pub(super) app: App,
    pub(super) asker: Asker,
    pub(super) params: Map<String, Value>,
    pub(super) notifier: Notifier,
    pub(super) in_flight: InFlightIds,
    /// Counts the message that the call came in.
    _held: Arc<BufferCharge>,
}

impl CallContext {
    /// Counts what is kept for the answer.
    pub(super) fn holds(&self) -> BufferCharge {
        BufferCharge::new(&self.app, &self.asker.client(None))
    }
}

/// What a call came to: JSON, and what it is counted with.
pub(super) struct Answered {
    pub(super) json: Vec<u8>,
    pub(super) held: Option<BufferCharge>,
}

impl Answered {
    /// Something small.
    pub(super) fn of(result: &impl Serialize) -> Self {
        Self { json: wire::written(result), held: None }
    }
}

/// What a method does.
pub(super) type Work = BoxFuture<'static, Result<Answered, Fault>>;

/// Tells a client what happens on the way to one of its answers.
pub(super) struct Notifier {
    /// Absent for calls that have no id, and for clients that take answers alone.
    to: Option<(mpsc::Sender<Bytes>, Id)>,
}

impl Notifier {
    /// Says it, as soon as there is room in the queue. An object gets the request's id as its first member.
    pub(super) async fn tell(&self, method: &str, what: &Value) {
        if let Some((queue, id)) = &self.to {
            // A client that is gone hears nothing, and its calls end with it.
            queue.send(Bytes::from(wire::notification(method, id, what))).await.ok();
        }
    }

    /// Whether anything is told.
    pub(super) fn tells(&self) -> bool {
        self.to.is_some()
    }

    /// Tells nothing from now on.
    pub(super) fn silence(&mut self) {
        self.to = None;
    }
}

/// The ids of a client whose answers are not complete. Clones are the same.
#[derive(Clone, Default)]
pub(super) struct InFlightIds(Arc<Mutex<HashMap<Id, Arc<Notify>>>>);

impl InFlightIds {
    /// Ends the call of this id. False when there is none.
    pub(super) fn cancel(&self, id: &Id) -> bool {
        let ids = self.ids();
        let call = ids.get(id);
        if let Some(call) = call {
            call.notify_one();
        }
        call.is_some()
    }

    /// `None` while there is one of this id.
    fn begin(&self, id: &Id) -> Option<InFlightId> {
        let cancelled = Arc::new(Notify::new());
        let mut ids = self.ids();
        if ids.contains_key(id) {
            return None;
        }
        ids.insert(id.clone(), Arc::clone(&cancelled));
        Some(InFlightId { ids: self.clone(), id: id.clone(), cancelled })
    }

    fn ids(&self) -> MutexGuard<'_, HashMap<Id, Arc<Notify>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An id in use, until it is dropped.
struct InFlightId {
    ids: InFlightIds,
    id: Id,
    cancelled: Arc<Notify>,
}

impl Drop for InFlightId {
    fn drop(&mut self) {
        self.ids.ids().remove(&self.id);
    }
}

/// What is said to a call: its answer, if it has one, and its place among those that run.
struct Said {
    answer: Option<Bytes>,
    place: Option<OwnedSemaphorePermit>,
}

impl Said {
    fn at_once(id: Option<Id>, fault: &Fault) -> Self {
        Self { answer: id.map(|id| Bytes::from(wire::error(&id, fault))), place: None }
    }
}

impl Session {
    /// What is said goes into `queue`; what happens on the way to answers only if it `tells`.
    pub(super) fn new(
        app: App,
        asker: Asker,
        methods: &'static [Method],
        queue: mpsc::Sender<Bytes>,
        tells: bool,
    ) -> Self {
        let (in_flight, places) = (InFlightIds::default(), Arc::new(Semaphore::new(CALLS)));
        Self { app, asker, methods, queue, tells, in_flight, places, tasks: JoinSet::new() }
    }

    /// Whether the next message may come.
    pub(super) fn has_room(&self) -> bool {
        self.tasks.len() < MESSAGES
    }

    /// Whether every message was answered.
    pub(super) fn is_quiet(&self) -> bool {
        self.tasks.is_empty()
    }

    /// Resolves when a message was answered; `None` when all were.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub(super) async fn answered(&mut self) -> Option<()> {
        self.tasks.join_next().await.map(drop)
    }

    /// Says that a message cannot be read.
    pub(super) fn refuse(&mut self, fault: &Fault) {
        let answer = Bytes::from(wire::error(&Id::NULL, fault));
        let queue = self.queue.clone();
        self.tasks.spawn(crate::task::erased(async move {
            queue.send(answer).await.ok();
        }));
    }

    /// Takes a message in: its calls begin in their order.
    pub(super) fn take(&mut self, bytes: &[u8], mut held: BufferCharge) {
        let message = match Message::read(bytes, self.app.limits.json_depth) {
            Ok(message) => message,
            Err(fault) => return self.refuse(&fault),
        };
        let value_bytes = match &message {
            Message::One(value) => weight(value),
            Message::Batch(values) => values.iter().map(weight).sum(),
        };
        if let Err(failure) = held.add(value_bytes) {
            return self.refuse(&failure.into());
        }
        let held = Arc::new(held);
        let queue = self.queue.clone();
        match message {
            Message::One(value) => {
                let said = self.begin(value, &held);
                self.tasks.spawn(crate::task::erased(async move {
                    let Said { answer, place } = said.await;
                    let Some(answer) = answer else { return };
                    if let Ok(room) = queue.reserve().await {
                        // The client that reads this may send its next call.
                        drop(place);
                        room.send(answer);
                    }
                }));
            }
            Message::Batch(values) => {
                let calls: Vec<_> = values.into_iter().map(|value| self.begin(value, &held)).collect();
                let mut kept = BufferCharge::new(&self.app, &self.asker.client(None));
                self.tasks.spawn(crate::task::erased(async move {
                    let said = join_all(calls).await;
                    let answers: Vec<Bytes> = said.iter().filter_map(|said| said.answer.clone()).collect();
                    if answers.is_empty() {
                        return;
                    }
                    let bytes: usize = answers.iter().map(|answer| answer.len() + 1).sum();
                    let whole = kept.add(bytes).and_then(|()| kept.becomes(wire::batch(&answers)));
                    let whole =
                        whole.unwrap_or_else(|failure| wire::error(&Id::NULL, &failure.into()).into());
                    drop(answers);
                    if let Ok(room) = queue.reserve().await {
                        drop(said);
                        room.send(whole);
                    }
                }));
            }
        }
    }

    /// Prepares a call now; what is returned does it, or says what is wrong with it.
    fn begin(&self, value: Value, held: &Arc<BufferCharge>) -> BoxFuture<'static, Said> {
        match self.prepare(value, held) {
            Ok(said) => said,
            Err((id, fault)) => ready(Said::at_once(id, &fault)).boxed(),
        }
    }

    fn prepare(
        &self,
        value: Value,
        held: &Arc<BufferCharge>,
    ) -> Result<BoxFuture<'static, Said>, (Option<Id>, Fault)> {
        let Call { id, method, params } = Call::read(value).map_err(|(id, fault)| (Some(id), fault))?;
        let Some(method) = self.methods.iter().find(|known| known.name == method) else {
            return Err((id, Fault::unknown_method("rpc.discover lists the methods")));
        };
        let params = match params.named(&method.names(), method.is_by_name) {
            Ok(params) => params,
            Err(fault) => return Err((id, fault)),
        };
        if self.app.server.is_draining() && !method.is_instant {
            return Err((id, leaving().into()));
        }
        let place = match Arc::clone(&self.places).try_acquire_owned() {
            Ok(place) => Some(place),
            // What ends other calls must not wait for them.
            Err(_) if method.is_instant => None,
            Err(_) => return Err((id, too_many().into())),
        };
        let in_use = id.as_ref().map(|id| self.in_flight.begin(id));
        if let Some(None) = in_use {
            // An answer with that id would be taken for the one to the first.
            let hint = "a request of this connection with the same `id` is not answered yet";
            return Err((Some(Id::NULL), Fault::invalid(hint)));
        }
        let in_use = in_use.flatten();
        let to = id.clone().filter(|_| self.tells).map(|id| (self.queue.clone(), id));
        let work = (method.run)(CallContext {
            app: self.app.clone(),
            asker: self.asker.clone(),
            params,
            notifier: Notifier { to },
            in_flight: self.in_flight.clone(),
            _held: Arc::clone(held),
        });
        let client = self.asker.client(None);
        let record = RequestRecord::of_call(&self.app, &client, method.name, method.changes);
        Ok(run(id, in_use, work, place, record).boxed())
    }
}

/// Does the work of a call to its end, unless it is cancelled.
async fn run(
    id: Option<Id>,
    in_use: Option<InFlightId>,
    work: Work,
    place: Option<OwnedSemaphorePermit>,
    record: RequestRecord,
) -> Said {
    let cancelled = async {
        match &in_use {
            Some(in_use) => in_use.cancelled.notified().await,
            None => std::future::pending().await,
        }
    };
    let outcome: Result<Answered, Fault> = tokio::select! {
        biased;
        () = cancelled => Err(Failure::new(ErrorKind::Cancelled, "the request was cancelled").into()),
        outcome = AssertUnwindSafe(record.during(work)).catch_unwind() => outcome.unwrap_or_else(|_| {
            tracing::error!("a method of JSON-RPC panicked");
            Err(Failure::new(ErrorKind::Internal, "a fault of the server")
                .with_hint("please report it with the log")
                .into())
        }),
    };
    if outcome.is_err() {
        record.refused();
    }
    // Before its answer is read, so that the id may be used again.
    drop(in_use);
    let answer = id.map(|id| match outcome.and_then(|answered| counted(&id, answered)) {
        Ok(answer) => answer,
        Err(fault) => Bytes::from(wire::error(&id, &fault)),
    });
    Said { answer, place }
}

fn counted(id: &Id, answered: Answered) -> Result<Bytes, Fault> {
    let Answered { json, held } = answered;
    let answer = wire::answer(id, &json);
    match held {
        Some(held) => Ok(held.becomes(answer)?),
        None => Ok(Bytes::from(answer)),
    }
}

fn too_many() -> Failure {
    Failure::new(ErrorKind::Busy, format!("{CALLS} requests of this connection run already"))
        .with_hint("wait for one of their answers")
        .with_retry_after_ms(RETRY_AFTER_MS)
}
