//! The whole conversation between the pool's decisions and its acts: events in, effects out.
//!
//! ```text
//!   callers ── Request Cancel Released Warm Pin Unload ──►┐            ┌──► Grant Refuse Tell Done    ──► callers
//!   threads ── Loaded Weighed Parked … Failed ───────────►│ decide::step│──► Load Park Resume Unload  ──► threads
//!   time    ── Tick ─────────────────────────────────────►│            │──► WakeAt                    ──► time
//!   machine ── Pressure Configure Shutdown ──────────────►┘            └──► Record                    ──► why
//! ```
//!
//! A slow load is two quick events around an effect. Nothing in this file does anything.
//!
//! Fairness reads `AcquireRequest::client` and `within`; pressure is `Pressure`; probes are `Probe`, `Probed` and `ProbeFailed`; parking is
//! `Park` and `Resume`. An instance that grows is a `Park` and a `Resume` with larger options. Several instances of a
//! model change no variant, since events and effects name an [`InstanceId`] and never a model in memory. A group of
//! models that depend on each other enters in [`ModelSpec`], which `Request` and `Warm` carry: one `Load` for each
//! member, one `Grant` for the whole.

use std::sync::Arc;

use samovar_core::port::Millis;
use samovar_core::{Bytes, Failure, Layout, Memory};

use crate::ask::{AcquireRequest, ModelSpec, Wait};
use crate::config::PoolConfig;
use crate::decision::Record;
use crate::error::Error;
use crate::lease::GrantFacts;

/// A caller's call, and the lease that it may become. Numbers rise with time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TicketId(pub u64);

/// One loaded model, or the attempt at one. Numbers rise with time and are never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InstanceId(pub u64);

/// What has happened.
#[derive(Clone, Debug)]
pub enum Event {
    /// A caller asks for a slot.
    Request {
        /// Names the call from now on.
        ticket: TicketId,
        /// What it asks for.
        ask: AcquireRequest,
    },
    /// A caller wants the model ready, without using it.
    Warm {
        /// Names the call from now on.
        ticket: TicketId,
        /// The model.
        model: Arc<ModelSpec>,
    },
    /// A waiting caller went away. Of no effect on tickets that have their answer.
    Cancel {
        /// The call.
        ticket: TicketId,
    },
    /// A lease was dropped, or what was set aside.
    Released {
        /// The call that was granted it.
        ticket: TicketId,
        /// How the request failed, if it did.
        failed: Option<Failure>,
    },
    /// A load got on.
    LoadProgress {
        /// The instance.
        instance: InstanceId,
        /// Part done, 0 to 1.
        fraction: f32,
    },
    /// A load ended well.
    Loaded {
        /// The instance.
        instance: InstanceId,
        /// What it was measured to use; nothing where the engine measures nothing.
        memory: Memory,
        /// How its weights lie, which may be otherwise than was asked for.
        layout: Layout,
    },
    /// A load ended badly; everything was given back.
    LoadFailed {
        /// The instance.
        instance: InstanceId,
        /// What the engine said.
        failure: Failure,
    },
    /// An instance was found dead outside of any lease.
    InstanceDied {
        /// The instance.
        instance: InstanceId,
        /// What is known.
        failure: Failure,
    },
    /// A probe ended well.
    Probed {
        /// The instance.
        instance: InstanceId,
    },
    /// A probe ended badly.
    ProbeFailed {
        /// The instance.
        instance: InstanceId,
        /// What the inference said.
        failure: Failure,
    },
    /// Working memory was given back.
    Parked {
        /// The instance.
        instance: InstanceId,
        /// What is left of it.
        left: Bytes,
    },
    /// Parking failed; the instance must go.
    ParkFailed {
        /// The instance.
        instance: InstanceId,
        /// What the engine said.
        failure: Failure,
    },
    /// A parked instance is ready again.
    Resumed {
        /// The instance.
        instance: InstanceId,
        /// What it uses now.
        memory: Memory,
    },
    /// An instance that a request leaves was measured again: its requests have brought something along, or taken it away.
    Weighed {
        /// The instance.
        instance: InstanceId,
        /// What it uses now.
        memory: Memory,
    },
    /// Resuming failed; the instance is still parked.
    ResumeFailed {
        /// The instance.
        instance: InstanceId,
        /// What the engine said.
        failure: Failure,
    },
    /// An instance has left memory.
    Unloaded {
        /// The instance.
        instance: InstanceId,
    },
    /// Work in the background would use so much memory. Answered by `BackgroundReservation` at once, and ended by `Released`.
    BackgroundReservation {
        /// Names the call, and what is set aside.
        ticket: TicketId,
        /// How much.
        bytes: u64,
    },
    /// Time has passed: what is due is done. Every other event does that as well.
    Tick,
    /// The machine was asked about its memory. One idle instance leaves for each such event that finds less than
    /// the configured floor available, or tasks that wait for memory.
    Pressure {
        /// Memory that could be had now.
        available_bytes: u64,
        /// Share of time in which some task waited for memory, in percent.
        stall_percent: f32,
    },
    /// The model must stay in memory once it is there.
    Pin {
        /// Names the call.
        ticket: TicketId,
        /// The model.
        model: Arc<ModelSpec>,
    },
    /// The model may leave memory again.
    Unpin {
        /// Names the call.
        ticket: TicketId,
        /// The model.
        model: Arc<ModelSpec>,
    },
    /// The model is to leave memory as soon as no request uses it. Takes its pin off.
    Unload {
        /// Names the call.
        ticket: TicketId,
        /// The model's name or key.
        name: String,
    },
    /// Every model is to leave memory as soon as no request uses it. Takes all pins off.
    Clear {
        /// Names the call.
        ticket: TicketId,
    },
    /// Other limits hold from now on. A budget below what is in use is reached as instances leave.
    Configure {
        /// The limits.
        config: Box<PoolConfig>,
    },
    /// Admit no request, refuse those that wait, unload what is idle, and the rest when its leases drop.
    Shutdown,
}

/// What is to be done.
#[derive(Clone, Debug)]
pub enum Effect {
    /// Load a model; its bytes are reserved. Answered by `Loaded` or `LoadFailed`.
    Load {
        /// The instance to be.
        instance: InstanceId,
        /// The model, and how to load it.
        model: Arc<ModelSpec>,
        /// What was reserved for it.
        reservation: Memory,
    },
    /// Tell a load to stop. It is still answered by `Loaded` or `LoadFailed`.
    StopLoad {
        /// The instance.
        instance: InstanceId,
    },
    /// Park an instance that no request uses. Answered by `Parked` or `ParkFailed`.
    Park {
        /// The instance.
        instance: InstanceId,
        /// What it is, by which its engine says what it keeps on devices.
        model: Arc<ModelSpec>,
    },
    /// Resume a parked instance; its bytes are reserved. Answered by `Resumed` or `ResumeFailed`.
    Resume {
        /// The instance.
        instance: InstanceId,
        /// What it is from now on; its context and slots may be others than before.
        model: Arc<ModelSpec>,
        /// What was reserved for it, what it holds already included.
        reservation: Memory,
    },
    /// Unload an instance that no request uses. Answered by `Unloaded`.
    Unload {
        /// The instance.
        instance: InstanceId,
    },
    /// Run one token of inference, next to the requests that use the instance. Answered by `Probed` or `ProbeFailed`, and
    /// before the answer to any later `Park` or `Unload`.
    Probe {
        /// The instance.
        instance: InstanceId,
    },
    /// The ticket is a lease from now on.
    Grant {
        /// The call.
        ticket: TicketId,
        /// What it may use.
        instance: InstanceId,
        /// How that came about.
        facts: GrantFacts,
    },
    /// The answer is no.
    Refuse {
        /// The call.
        ticket: TicketId,
        /// Why, and when to come again.
        why: Error,
    },
    /// The answer to `Warm`, `Pin`, `Unpin`, `Unload` and `Clear`.
    Done {
        /// The call.
        ticket: TicketId,
        /// Instances concerned.
        instances: u32,
    },
    /// The answer to `BackgroundReservation`.
    BackgroundReservation {
        /// The call.
        ticket: TicketId,
        /// Whether the memory is set aside.
        is_granted: bool,
    },
    /// What was set aside is needed for a request: it is to be given back soon.
    WantBack {
        /// The call.
        ticket: TicketId,
    },
    /// What a waiting caller may want to know.
    Tell {
        /// The call.
        ticket: TicketId,
        /// Its place, or how the load gets on.
        wait: Wait,
    },
    /// Send `Tick` at this time; replaces any earlier wish.
    WakeAt {
        /// When.
        at: Millis,
    },
    /// Remember a decision.
    Record {
        /// What and why.
        record: Record,
    },
}
