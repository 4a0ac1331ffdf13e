//! The right to use an instance, until it is dropped.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use samovar_core::Failure;
use samovar_core::port::Instance;
use serde::Serialize;
use tokio::sync::mpsc::OwnedPermit;

use crate::owner::Return;
use crate::protocol::TicketId;

/// How the instance of a lease came to be ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum GrantKind {
    /// It was ready when the request came.
    Hit,
    /// It was parked and was resumed for the request.
    Parked,
    /// It was being loaded for another request, which this one joined.
    Joined,
    /// It was loaded for this request.
    Cold,
}

/// What the decision to grant says to the one who receives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GrantFacts {
    /// How the instance came to be ready.
    pub grant_kind: GrantKind,
    /// Milliseconds that the request waited for a slot or for memory.
    pub queue_ms: u64,
    /// Milliseconds that the request waited for a load or a resume.
    pub load_ms: u64,
    /// Tokens of context that the instance has for each slot.
    pub context_tokens: u32,
    /// Requests that the instance can serve at the same time.
    pub slots: u32,
}

/// The right to use one slot of an instance, until it is dropped.
///
/// Dropping it never blocks: the place for the message that gives it back was reserved before it was granted.
/// A clone of the instance must not outlive the lease: the pool unloads what no lease holds.
pub struct Lease {
    instance: Option<Arc<dyn Instance>>,
    ticket: TicketId,
    facts: GrantFacts,
    failed: Option<Failure>,
    place: Option<OwnedPermit<Return>>,
}

impl Lease {
    pub(crate) fn new(
        ticket: TicketId,
        instance: Arc<dyn Instance>,
        facts: GrantFacts,
        place: Option<OwnedPermit<Return>>,
    ) -> Self {
        Self { instance: Some(instance), ticket, facts, failed: None, place }
    }

    /// The instance to use.
    pub fn instance(&self) -> &Arc<dyn Instance> {
        self.instance.as_ref().expect("invariant: only drop takes the instance")
    }

    /// How the instance came to be ready.
    pub fn grant_kind(&self) -> GrantKind {
        self.facts.grant_kind
    }

    /// Milliseconds that the request waited for a slot or for memory.
    pub fn queue_ms(&self) -> f64 {
        self.facts.queue_ms as f64
    }

    /// Milliseconds that the request waited for a load or a resume; 0 for a hit.
    pub fn load_ms(&self) -> f64 {
        self.facts.load_ms as f64
    }

    /// Tokens of context that the instance has for each slot: at least those asked for.
    pub fn context_tokens(&self) -> u32 {
        self.facts.context_tokens
    }

    /// Requests that the instance can serve at the same time.
    pub fn slots(&self) -> u32 {
        self.facts.slots
    }

    /// Tells the pool, when the lease drops, how the request failed. `EngineFailed`, `Unavailable` and `Internal`
    /// have the instance probed and, when it fails again, replaced; other kinds are the request's own fault.
    pub fn failed(&mut self, failure: &Failure) {
        self.failed = Some(failure.clone());
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        // The pool must be the last to hold the instance: unloading blocks, and belongs on its thread.
        drop(self.instance.take());
        if let Some(place) = self.place.take() {
            place.send(Return { ticket: self.ticket, failed: self.failed.take() });
        }
    }
}

impl std::fmt::Debug for Lease {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lease")
            .field("ticket", &self.ticket)
            .field("facts", &self.facts)
            .finish_non_exhaustive()
    }
}

/// Memory that is counted for work in the background, until it is dropped.
///
/// Dropping it never blocks, as with [`Lease`]. Its holder looks at [`BackgroundReservation::is_wanted_back`] from time to time,
/// and then leaves off: a request waits for it.
pub struct BackgroundReservation {
    ticket: TicketId,
    is_wanted_back: Arc<AtomicBool>,
    place: Option<OwnedPermit<Return>>,
}

impl BackgroundReservation {
    pub(crate) fn new(
        ticket: TicketId,
        is_wanted_back: Arc<AtomicBool>,
        place: Option<OwnedPermit<Return>>,
    ) -> Self {
        Self { ticket, is_wanted_back, place }
    }

    /// Whether a request needs the memory, or the pool is leaving.
    pub fn is_wanted_back(&self) -> bool {
        self.is_wanted_back.load(Ordering::Relaxed)
    }

    /// The same as a flag, for work that looks at one to know when to stop.
    pub fn wanted_back(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.is_wanted_back)
    }
}

impl Drop for BackgroundReservation {
    fn drop(&mut self) {
        if let Some(place) = self.place.take() {
            place.send(Return { ticket: self.ticket, failed: None });
        }
    }
}

impl std::fmt::Debug for BackgroundReservation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BackgroundReservation").field("ticket", &self.ticket).finish_non_exhaustive()
    }
}
