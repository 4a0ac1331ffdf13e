//! The pool as its callers see it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use samovar_core::port::{Clock, Engine};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::mpsc::{self, OwnedPermit};
use tokio::sync::oneshot;

use crate::ask::{AcquireRequest, ModelSpec, Wait};
use crate::config::PoolConfig;
use crate::decision::{Decision, NumberedDecision};
use crate::error::Error;
use crate::lease::{BackgroundReservation, Lease};
use crate::owner::{self, Command, Grant, Return};
use crate::protocol::TicketId;
use crate::snapshot::Snapshot;
use crate::stats::Statistics;

/// Commands on their way to the owner at the same time.
const COMMANDS: usize = 256;

/// Which models live in memory. Cloning it gives another handle to the same pool.
#[derive(Clone)]
pub struct Pool {
    inner: Arc<Inner>,
}

struct Inner {
    commands: mpsc::Sender<Command>,
    /// A place is reserved here for every call before it is made, so that giving back never waits.
    returns: mpsc::Sender<Return>,
    tickets: AtomicU64,
    /// Calls refused for want of a place, which the owner never saw.
    turned_away: Arc<AtomicU64>,
}

impl Pool {
    /// Starts the pool's owner on the current tokio runtime.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn start(engine: Arc<dyn Engine>, clock: Arc<dyn Clock>, config: PoolConfig) -> Self {
        let (commands, command_queue) = mpsc::channel(COMMANDS);
        let (returns, return_queue) = mpsc::channel(config.calls_max.max(1) as usize);
        let turned_away = Arc::new(AtomicU64::new(0));
        owner::spawn(owner::Parts {
            engine,
            clock,
            config,
            commands: command_queue,
            returns: return_queue,
            turned_away: Arc::clone(&turned_away),
        });
        let inner = Inner { commands, returns, tickets: AtomicU64::new(1), turned_away };
        Self { inner: Arc::new(inner) }
    }

    /// A slot of the model, loading it first where that is needed. `waits` hears of places in the queue and of
    /// the load; what it has no room for is lost.
    ///
    /// # Errors
    /// [`Error`]: too large, busy, too late, load failed, shutting down.
    ///
    /// # Cancel safety
    /// Dropping the future gives the place in the queue back. A load it has caused goes on: the pool owns loads.
    pub async fn acquire(
        &self,
        ask: AcquireRequest,
        waits: Option<mpsc::Sender<Wait>>,
    ) -> Result<Lease, Error> {
        let name = ask.model.name.clone();
        let (mut call, reply) = self.call(&name)?;
        self.send(Command::Acquire { ticket: call.ticket, ask, reply, waits }).await?;
        let Grant { instance, facts } = call.answer().await?;
        Ok(Lease::new(call.ticket, instance, facts, call.place.take()))
    }

    /// Has the model ready, and returns when it is.
    ///
    /// # Errors
    /// As [`Pool::acquire`].
    ///
    /// # Cancel safety
    /// Dropping the future stops the waiting, not the load.
    pub async fn warm(&self, model: Arc<ModelSpec>, waits: Option<mpsc::Sender<Wait>>) -> Result<(), Error> {
        let name = model.name.clone();
        let (mut call, reply) = self.call(&name)?;
        self.send(Command::Warm { ticket: call.ticket, model, reply, waits }).await?;
        call.answer().await?;
        call.place = None;
        Ok(())
    }

    /// Pins the model or takes its pin off. A pinned model that is in memory is never parked or unloaded by the
    /// pool's own decision; pinning one that is absent does not load it. [`Pool::unload`] takes the pin off.
    ///
    /// # Errors
    /// `TooLarge` for a model that can never be in memory, `ShuttingDown`.
    pub async fn pin(&self, model: Arc<ModelSpec>, is_pinned: bool) -> Result<(), Error> {
        let (reply, answer) = oneshot::channel();
        let ticket = self.next_ticket();
        self.send(Command::Pin { ticket, model, is_pinned, reply }).await?;
        answer.await.unwrap_or(Err(Error::ShuttingDown)).map(|_| ())
    }

    /// Unloads the model of this name or key: at once when no request uses it, else when the last lease drops.
    /// A load that no request waits for is stopped. Returns the number of instances concerned, 0 when it is absent.
    ///
    /// # Errors
    /// `ShuttingDown`.
    pub async fn unload(&self, name: &str) -> Result<u32, Error> {
        let (reply, answer) = oneshot::channel();
        let ticket = self.next_ticket();
        self.send(Command::Unload { ticket, name: Some(name.to_owned()), reply }).await?;
        answer.await.unwrap_or(Err(Error::ShuttingDown))
    }

    /// Unloads every model, as [`Pool::unload`] does one.
    ///
    /// # Errors
    /// `ShuttingDown`.
    pub async fn unload_all(&self) -> Result<u32, Error> {
        let (reply, answer) = oneshot::channel();
        let ticket = self.next_ticket();
        self.send(Command::Unload { ticket, name: None, reply }).await?;
        answer.await.unwrap_or(Err(Error::ShuttingDown))
    }

    /// Memory for work in the background, such as packing weights: counted in the budget until it is dropped. `None` at
    /// once when so much is not free below the soft limit, or a request waits for memory: no instance leaves for such work.
    ///
    /// # Cancel safety
    /// Dropping the future gives back what may have been set aside.
    pub async fn reserve_background(&self, bytes: u64) -> Option<BackgroundReservation> {
        let (mut call, reply) = self.call("").ok()?;
        let is_wanted_back = Arc::new(AtomicBool::new(false));
        let (ticket, flag) = (call.ticket, Arc::clone(&is_wanted_back));
        self.send(Command::BackgroundReservation { ticket, bytes, is_wanted_back: flag, reply })
            .await
            .ok()?;
        let is_granted = call.answer().await.ok()?;
        let place = call.place.take();
        is_granted.then(|| BackgroundReservation::new(ticket, is_wanted_back, place))
    }

    /// Other limits from now on. The number of callers at a time stays that of the start.
    ///
    /// # Errors
    /// `ShuttingDown`.
    pub async fn configure(&self, config: PoolConfig) -> Result<(), Error> {
        self.send(Command::Configure { config: Box::new(config) }).await
    }

    /// What the pool holds now. Empty once the pool has shut down.
    pub async fn snapshot(&self) -> Snapshot {
        let (reply, answer) = oneshot::channel();
        match self.send(Command::Snapshot { reply }).await {
            Ok(()) => answer.await.unwrap_or_default(),
            Err(_) => Snapshot::default(),
        }
    }

    /// What was counted in this pool's life so far; `None` once it has shut down.
    pub async fn statistics(&self) -> Option<Statistics> {
        let (reply, answer) = oneshot::channel();
        self.send(Command::Statistics { reply }).await.ok()?;
        answer.await.ok()
    }

    /// What was decided about the model of this name or key, newest first. Empty once the pool has shut down.
    pub async fn why(&self, name: &str) -> Vec<Decision> {
        let (reply, answer) = oneshot::channel();
        match self.send(Command::Why { name: name.to_owned(), reply }).await {
            Ok(()) => answer.await.unwrap_or_default(),
            Err(_) => Vec::new(),
        }
    }

    /// The decisions about all models with a higher number than `after` that are remembered, the oldest first. Empty once the
    /// pool has shut down.
    pub async fn decisions(&self, after: u64) -> Vec<NumberedDecision> {
        let (reply, answer) = oneshot::channel();
        match self.send(Command::Decisions { after, reply }).await {
            Ok(()) => answer.await.unwrap_or_default(),
            Err(_) => Vec::new(),
        }
    }

    /// Admits no request from now on, refuses those that wait, unloads what is idle and the rest as leases drop; returns
    /// when all is unloaded or `grace` has passed. Leases that are still out stay usable until they drop. What it
    /// returns is what was counted; `None` when the pool had shut down before.
    pub async fn shutdown(&self, grace: Duration) -> Option<Statistics> {
        let (reply, answer) = oneshot::channel();
        self.send(Command::Shutdown { grace, reply }).await.ok()?;
        answer.await.ok()
    }

    fn next_ticket(&self) -> TicketId {
        TicketId(self.inner.tickets.fetch_add(1, Ordering::Relaxed))
    }

    async fn send(&self, command: Command) -> Result<(), Error> {
        self.inner.commands.send(command).await.map_err(|_| Error::ShuttingDown)
    }

    /// A call that gives its ticket back when it is dropped before it became a lease.
    fn call<T>(&self, model: &str) -> Result<(Call<T>, Reply<T>), Error> {
        let place = self.inner.returns.clone().try_reserve_owned().map_err(|error| match error {
            TrySendError::Closed(_) => Error::ShuttingDown,
            TrySendError::Full(_) => {
                self.inner.turned_away.fetch_add(1, Ordering::Relaxed);
                let queued = self.inner.returns.max_capacity() as u32;
                Error::Busy { model: model.to_owned(), queued, retry_after_ms: 1_000 }
            }
        })?;
        let (reply, answer) = oneshot::channel();
        Ok((Call { ticket: self.next_ticket(), place: Some(place), answer: Some(answer) }, reply))
    }
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pool").finish_non_exhaustive()
    }
}

pub(crate) type Reply<T> = oneshot::Sender<Result<T, Error>>;

/// A call that waits for its answer.
struct Call<T> {
    ticket: TicketId,
    place: Option<OwnedPermit<Return>>,
    answer: Option<oneshot::Receiver<Result<T, Error>>>,
}

impl<T> Call<T> {
    async fn answer(&mut self) -> Result<T, Error> {
        let answer = self.answer.as_mut().expect("invariant: a call is answered once");
        let outcome = answer.await.unwrap_or(Err(Error::ShuttingDown));
        if outcome.is_err() {
            self.place = None;
        }
        outcome
    }
}

impl<T> Drop for Call<T> {
    fn drop(&mut self) {
        // The answer's channel closes first: an owner that sees this message before the request itself
        // finds the channel closed and lets the request fall.
        drop(self.answer.take());
        if let Some(place) = self.place.take() {
            place.send(Return { ticket: self.ticket, failed: None });
        }
    }
}
