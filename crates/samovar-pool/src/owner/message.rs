//! What callers send to the owner, and what they receive from it. It decides nothing.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use samovar_core::Failure;
use samovar_core::port::Instance;
use tokio::sync::{mpsc, oneshot};

use crate::ask::{AcquireRequest, ModelSpec, Wait};
use crate::config::PoolConfig;
use crate::decision::{Decision, NumberedDecision};
use crate::handle::Reply;
use crate::lease::GrantFacts;
use crate::protocol::TicketId;
use crate::snapshot::Snapshot;
use crate::stats::Statistics;

/// What callers send.
pub(crate) enum Command {
    Acquire {
        ticket: TicketId,
        ask: AcquireRequest,
        reply: Reply<Grant>,
        waits: Option<mpsc::Sender<Wait>>,
    },
    Warm {
        ticket: TicketId,
        model: Arc<ModelSpec>,
        reply: Reply<()>,
        waits: Option<mpsc::Sender<Wait>>,
    },
    Pin {
        ticket: TicketId,
        model: Arc<ModelSpec>,
        is_pinned: bool,
        reply: Reply<u32>,
    },
    Unload {
        ticket: TicketId,
        name: Option<String>,
        reply: Reply<u32>,
    },
    BackgroundReservation {
        ticket: TicketId,
        bytes: u64,
        is_wanted_back: Arc<AtomicBool>,
        reply: Reply<bool>,
    },
    Configure {
        config: Box<PoolConfig>,
    },
    Snapshot {
        reply: oneshot::Sender<Snapshot>,
    },
    Statistics {
        reply: oneshot::Sender<Statistics>,
    },
    Why {
        name: String,
        reply: oneshot::Sender<Vec<Decision>>,
    },
    Decisions {
        after: u64,
        reply: oneshot::Sender<Vec<NumberedDecision>>,
    },
    Shutdown {
        grace: Duration,
        reply: oneshot::Sender<Statistics>,
    },
}

/// What a caller gives back: a place in a queue or a lease.
pub(crate) struct Return {
    pub(crate) ticket: TicketId,
    pub(crate) failed: Option<Failure>,
}

/// What a caller receives.
pub(crate) struct Grant {
    pub(crate) instance: Arc<dyn Instance>,
    pub(crate) facts: GrantFacts,
}
