//! The one task that owns the pool's state: event in, `step`, effects out.
//!
//! ```text
//!   commands ─┐
//!   returns  ─┼─► select ─► Event ─► decide::step ─► Effect ─┬─► reply to a caller
//!   outcomes ─┤                                              ├─► executor (blocking threads)
//!   timer    ─┘                                              └─► ring of decisions, next wake-up
//! ```
//!
//! It never waits for anything but the next event.

mod message;
mod weighing;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use samovar_core::port::{Clock, Engine, Instance, Millis};
use samovar_core::{ModelKey, ThreadUse};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

use crate::ask::Wait;
use crate::config::PoolConfig;
use crate::decide::{PoolState, step};
use crate::decision::{NumberedDecision, Record};
use crate::effects::{EffectResult, Executor};
use crate::handle::Reply;
use crate::pressure::{PressureWatch, WatchPlan};
use crate::protocol::{Effect, Event, InstanceId, TicketId};
use crate::stats::Statistics;
pub(crate) use message::{Command, Grant, Return};

/// Outcomes on their way from the threads at the same time.
const OUTCOMES: usize = 256;

/// What the owner is made of.
pub(crate) struct Parts {
    pub(crate) engine: Arc<dyn Engine>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) config: PoolConfig,
    pub(crate) commands: mpsc::Receiver<Command>,
    pub(crate) returns: mpsc::Receiver<Return>,
    pub(crate) turned_away: Arc<AtomicU64>,
}

/// Starts the owner on the current runtime.
pub(crate) fn spawn(parts: Parts) {
    let (outcome_sender, outcomes) = mpsc::channel(OUTCOMES);
    let budget = &parts.config.budget;
    tracing::info!(budget_bytes = budget.bytes, source = %budget.source, "the pool starts");
    let owner = Owner {
        state: PoolState::new(parts.config, parts.clock.now()),
        pressure_watch: PressureWatch::start(outcome_sender.clone()),
        executor: Executor::new(parts.engine, outcome_sender),
        clock: parts.clock,
        outcomes,
        returns: parts.returns,
        turned_away: parts.turned_away,
        waiters: BTreeMap::new(),
        instances: BTreeMap::new(),
        stops: BTreeMap::new(),
        probes: BTreeMap::new(),
        background_reservations: BTreeMap::new(),
        ring: VecDeque::new(),
        recorded: 0,
        wake_at: None,
        leaving: None,
    };
    tokio::spawn(owner.run(parts.commands));
}

/// Who waits for the answer to a ticket.
enum Waiter {
    Lease(Reply<Grant>, Option<mpsc::Sender<Wait>>),
    Warm(Reply<()>, Option<mpsc::Sender<Wait>>),
    Count(Reply<u32>),
    Background(Reply<bool>),
}

/// A shutdown under way.
struct Leaving {
    until: Instant,
    replies: Vec<oneshot::Sender<Statistics>>,
}

struct Owner {
    state: PoolState,
    executor: Executor,
    clock: Arc<dyn Clock>,
    outcomes: mpsc::Receiver<EffectResult>,
    returns: mpsc::Receiver<Return>,
    turned_away: Arc<AtomicU64>,
    waiters: BTreeMap<TicketId, Waiter>,
    instances: BTreeMap<InstanceId, Arc<dyn Instance>>,
    /// Flags that stop the loads under way.
    stops: BTreeMap<InstanceId, Arc<AtomicBool>>,
    /// Probes, the last of each instance: what parks or unloads it waits for that.
    probes: BTreeMap<InstanceId, JoinHandle<()>>,
    /// Flags that ask for what is set aside.
    background_reservations: BTreeMap<TicketId, Arc<AtomicBool>>,
    /// Asks the machine about its memory.
    pressure_watch: PressureWatch,
    ring: VecDeque<Record>,
    /// Decisions so far, which is the number of the latest.
    recorded: u64,
    wake_at: Option<(Millis, Instant)>,
    leaving: Option<Leaving>,
}

impl Owner {
    async fn run(mut self, mut commands: mpsc::Receiver<Command>) {
        let mut has_callers = true;
        loop {
            if self.leaving.is_some() && self.state.is_empty() {
                break;
            }
            let wake = self.wake_at.map(|(_, instant)| instant);
            let grace = self.leaving.as_ref().map(|leaving| leaving.until);
            tokio::select! {
                biased;
                // First, lest a flood of callers hold the pool back from leaving.
                () = sleep_until(grace.unwrap_or_else(Instant::now)), if grace.is_some() => {
                    tracing::warn!("the pool leaves with leases or loads still out");
                    break;
                }
                Some(outcome) = self.outcomes.recv() => self.take_outcome(outcome),
                Some(back) = self.returns.recv() => self.take_back(back),
                command = commands.recv(), if has_callers => {
                    has_callers = command.is_some();
                    match command {
                        Some(command) => self.take_command(command),
                        None => self.leave(None, None),
                    }
                }
                () = sleep_until(wake.unwrap_or_else(Instant::now)), if wake.is_some() => self.wake(),
            }
        }
        let counted = self.statistics();
        for reply in self.leaving.into_iter().flat_map(|leaving| leaving.replies) {
            // The caller of the shutdown may have gone.
            let _ = reply.send(counted.clone());
        }
    }

    fn take_outcome(&mut self, outcome: EffectResult) {
        match &outcome.event {
            Event::Loaded { instance, .. } => {
                self.stops.remove(instance);
                self.instances.extend(outcome.made.map(|made| (*instance, made)));
            }
            Event::LoadFailed { instance, .. } => drop(self.stops.remove(instance)),
            _ => {}
        }
        self.step(outcome.event);
    }

    fn take_back(&mut self, back: Return) {
        let ticket = back.ticket;
        self.background_reservations.remove(&ticket);
        if self.state.is_out(ticket) {
            self.weigh(ticket);
            self.step(Event::Released { ticket, failed: back.failed });
        } else {
            self.waiters.remove(&ticket);
            self.step(Event::Cancel { ticket });
        }
    }

    fn take_command(&mut self, command: Command) {
        match command {
            Command::Acquire { ticket, ask, reply, waits } => {
                // The caller has gone, and its return may have come before this: see `handle::Call`.
                if reply.is_closed() {
                    return;
                }
                self.waiters.insert(ticket, Waiter::Lease(reply, waits));
                self.step(Event::Request { ticket, ask });
            }
            Command::Warm { ticket, model, reply, waits } => {
                if reply.is_closed() {
                    return;
                }
                self.waiters.insert(ticket, Waiter::Warm(reply, waits));
                self.step(Event::Warm { ticket, model });
            }
            Command::Pin { ticket, model, is_pinned, reply } => {
                self.waiters.insert(ticket, Waiter::Count(reply));
                self.step(if is_pinned {
                    Event::Pin { ticket, model }
                } else {
                    Event::Unpin { ticket, model }
                });
            }
            Command::Unload { ticket, name, reply } => {
                self.waiters.insert(ticket, Waiter::Count(reply));
                self.step(match name {
                    Some(name) => Event::Unload { ticket, name },
                    None => Event::Clear { ticket },
                });
            }
            Command::BackgroundReservation { ticket, bytes, is_wanted_back, reply } => {
                if reply.is_closed() {
                    return;
                }
                self.waiters.insert(ticket, Waiter::Background(reply));
                self.background_reservations.insert(ticket, is_wanted_back);
                self.step(Event::BackgroundReservation { ticket, bytes });
            }
            Command::Configure { config } => self.step(Event::Configure { config }),
            Command::Snapshot { reply } => {
                let mut snapshot = self.state.snapshot(self.clock.now());
                let turned_away = self.turned_away.load(Ordering::Relaxed);
                snapshot.pool.requests += turned_away;
                snapshot.pool.refused += turned_away;
                for model in &mut snapshot.models {
                    model.threads = self.threads_of(&model.key);
                }
                // Callers that ask and go are no fault.
                let _ = reply.send(snapshot);
            }
            // As above.
            Command::Statistics { reply } => drop(reply.send(self.statistics())),
            Command::Why { name, reply } => {
                let now = self.clock.now();
                let records = self.ring.iter().rev();
                let about = records.filter(|record| record.name == name || record.key.as_str() == name);
                let _ = reply.send(about.map(|record| record.seen_from(now)).collect());
            }
            // As above.
            Command::Decisions { after, reply } => drop(reply.send(self.decisions(after))),
            Command::Shutdown { grace, reply } => self.leave(Some(grace), Some(reply)),
        }
    }

    /// What each instance of a model that is in memory computes with.
    fn threads_of(&self, key: &ModelKey) -> Vec<ThreadUse> {
        let instances = self.state.instance_ids(key).filter_map(|id| self.instances.get(&id));
        let threads = instances.map(|instance| {
            let measured = instance.measure();
            let used = if measured.busy_slots > 0 { measured.threads.used } else { 0 };
            ThreadUse { used, ..measured.threads }
        });
        threads.filter(|threads| threads.most > 0).collect()
    }

    /// The decisions with a higher number than `after` that are remembered, the oldest first.
    fn decisions(&self, after: u64) -> Vec<NumberedDecision> {
        let now = self.clock.now();
        let first = self.recorded - self.ring.len() as u64 + 1;
        let numbered = (first..).zip(&self.ring).filter(|(number, _)| *number > after);
        numbered
            .map(|(number, record)| NumberedDecision { number, decision: record.seen_from(now) })
            .collect()
    }

    fn statistics(&self) -> Statistics {
        let mut statistics = self.state.statistics(self.clock.now());
        let turned_away = self.turned_away.load(Ordering::Relaxed);
        statistics.total.requests += turned_away;
        statistics.total.refused += turned_away;
        statistics
    }

    /// Begins to leave. `None` as grace: no caller is left, so that leases may take their time.
    fn leave(&mut self, grace: Option<Duration>, reply: Option<oneshot::Sender<Statistics>>) {
        const FOREVER: Duration = Duration::from_secs(86_400 * 365);
        let until = Instant::now() + grace.unwrap_or(FOREVER).min(FOREVER);
        let leaving = self.leaving.get_or_insert_with(|| Leaving { until, replies: Vec::new() });
        leaving.until = leaving.until.min(until);
        leaving.replies.extend(reply);
        self.step(Event::Shutdown);
    }

    fn wake(&mut self) {
        self.wake_at = None;
        self.step(Event::Tick);
    }

    fn step(&mut self, event: Event) {
        let now = self.clock.now();
        for effect in step(&mut self.state, event, now) {
            self.act(effect, now);
        }
        self.look_at_memory();
        // The pool's clock and the timer's may differ by a moment: wishes in the past are asked again.
        if self.wake_at.is_none()
            && let Some(at) = self.state.next_wake()
        {
            self.wake_at(at, now);
        }
    }

    /// Nothing in memory, nothing to look for.
    fn look_at_memory(&self) {
        let is_empty = self.instances.is_empty() && self.background_reservations.is_empty();
        let config = self.state.config();
        self.pressure_watch.set(WatchPlan {
            every_ms: if is_empty { 0 } else { config.look_every_ms },
            is_busy: self.state.is_in_use() || !self.stops.is_empty(),
            floor: config.memory_floor(),
        });
    }

    fn wake_at(&mut self, at: Millis, now: Millis) {
        let delay = Duration::from_millis(at.since(now).clamp(1, 86_400_000));
        self.wake_at = Some((at, Instant::now() + delay));
    }

    fn act(&mut self, effect: Effect, now: Millis) {
        match effect {
            Effect::Load { instance, model, .. } => {
                let stop = self.executor.load(instance, model);
                self.stops.insert(instance, stop);
            }
            Effect::StopLoad { instance } => {
                if let Some(stop) = self.stops.get(&instance) {
                    stop.store(true, Ordering::Relaxed);
                }
            }
            Effect::Park { instance, model } => {
                let probe = self.probes.remove(&instance);
                self.executor.park(instance, self.instance(instance), model, probe);
            }
            Effect::Resume { instance, model, .. } => {
                self.executor.resume(instance, self.instance(instance), model);
            }
            Effect::Probe { instance } => {
                let probe = self.executor.probe(instance, self.instance(instance));
                self.probes.insert(instance, probe);
            }
            Effect::Unload { instance } => {
                let loaded =
                    self.instances.remove(&instance).expect("invariant: only what was loaded is unloaded");
                self.executor.unload(instance, loaded, self.probes.remove(&instance));
            }
            Effect::Grant { ticket, instance, facts } => {
                let instance = self.instance(instance);
                if let Some(Waiter::Lease(reply, _)) = self.waiters.remove(&ticket) {
                    // A caller that has gone gives the lease back through its own place.
                    let _ = reply.send(Ok(Grant { instance, facts }));
                }
            }
            Effect::Refuse { ticket, why } => match self.waiters.remove(&ticket) {
                Some(Waiter::Lease(reply, _)) => drop(reply.send(Err(why))),
                Some(Waiter::Warm(reply, _)) => drop(reply.send(Err(why))),
                Some(Waiter::Count(reply)) => drop(reply.send(Err(why))),
                Some(Waiter::Background(_)) | None => {}
            },
            Effect::Done { ticket, instances } => match self.waiters.remove(&ticket) {
                Some(Waiter::Warm(reply, _)) => drop(reply.send(Ok(()))),
                Some(Waiter::Count(reply)) => drop(reply.send(Ok(instances))),
                Some(Waiter::Lease(..) | Waiter::Background(_)) | None => {}
            },
            Effect::BackgroundReservation { ticket, is_granted } => {
                if !is_granted {
                    self.background_reservations.remove(&ticket);
                }
                if let Some(Waiter::Background(reply)) = self.waiters.remove(&ticket) {
                    // A caller that has gone gives it back through its own place.
                    let _ = reply.send(Ok(is_granted));
                }
            }
            Effect::WantBack { ticket } => {
                if let Some(flag) = self.background_reservations.get(&ticket) {
                    flag.store(true, Ordering::Relaxed);
                }
            }
            Effect::Tell { ticket, wait } => {
                if let Some(Waiter::Lease(_, Some(waits)) | Waiter::Warm(_, Some(waits))) =
                    self.waiters.get(&ticket)
                {
                    let _ = waits.try_send(wait);
                }
            }
            Effect::WakeAt { at } => self.wake_at(at, now),
            Effect::Record { record } => self.remember(record),
        }
    }

    fn instance(&self, id: InstanceId) -> Arc<dyn Instance> {
        Arc::clone(self.instances.get(&id).expect("invariant: effects name instances that are loaded"))
    }

    fn remember(&mut self, record: Record) {
        tracing::info!(model = %record.name, "{record}");
        let room = self.state.config().decisions_max as usize;
        while !self.ring.is_empty() && self.ring.len() >= room {
            self.ring.pop_front();
        }
        self.recorded += 1;
        if room > 0 {
            self.ring.push_back(record);
        }
    }
}
