//! Everything around the pool, made at random: callers, threads, time; and its own account of what must be true.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use samovar_core::footprint::Layout;
use samovar_core::port::Millis;
use samovar_core::{Arena, Bytes, Memory, ModelKey};

use super::super::state::{Instance, PoolState};
use super::super::step;
use super::checks::{Broken, broken};
use super::specs::{all_needs, make_specs};
use crate::ask::ModelSpec;
use crate::budget::Budget;
use crate::config::{EvictionPolicy, PoolConfig};
use crate::decision::{Reason, What};
use crate::protocol::{Effect, Event, InstanceId, TicketId};
use crate::rng::Rng;

/// Clients that ask; each weighs one more than its number.
pub(super) const CLIENTS: u64 = 3;

/// Makes of a seed that of the devices.
const DEVICES: u64 = 0x5eed_de71_ce55_0001;

/// Work that a thread would be doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Work {
    Load,
    Park,
    Resume,
    Unload,
}

/// An instance as the world sees it.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    pub(super) key: ModelKey,
    pub(super) layout: Layout,
    /// Bytes it counts for: promised, measured, or left after parking. Those of its key share what is mapped of each file.
    pub(super) bytes: Memory,
    pub(super) promised: Memory,
    pub(super) work: Option<Work>,
    pub(super) is_stopped: bool,
    pub(super) is_ready: bool,
}

/// A caller who has not had an answer.
#[derive(Clone, Debug)]
pub(super) struct Caller {
    pub(super) deadline: Option<Millis>,
    /// Wants the model ready or gives an order; may not be granted.
    pub(super) wants_no_slot: bool,
    /// Of those who ask for a slot: what, and which client.
    pub(super) asks: Option<(Arc<ModelSpec>, u64)>,
}

pub(super) struct World {
    pub(super) rng: Rng,
    /// For what is on devices, so that lives on the host stay those that they were.
    pub(super) of_devices: Rng,
    pub(super) state: PoolState,
    pub(super) now: Millis,
    pub(super) specs: Vec<Arc<ModelSpec>>,
    pub(super) next_ticket: u64,
    pub(super) waiting: BTreeMap<TicketId, Caller>,
    pub(super) leases: BTreeMap<TicketId, InstanceId>,
    /// What each key needs beside it, and the keys that leases hold beside their own.
    pub(super) needs: BTreeMap<ModelKey, BTreeSet<ModelKey>>,
    pub(super) held: BTreeMap<TicketId, BTreeSet<ModelKey>>,
    pub(super) instances: BTreeMap<InstanceId, Seen>,
    /// Memory that work in the background has been given, and whether it was asked back.
    pub(super) background_reservations: BTreeMap<TicketId, (u64, bool)>,
    /// How often that was granted, and asked back.
    pub(super) background_count: u64,
    pub(super) wanted_back_count: u64,
    /// Probes that have no answer yet.
    pub(super) probes: BTreeSet<InstanceId>,
    pub(super) pinned: BTreeSet<ModelKey>,
    /// How often a client that waits for a key was passed over in favour of another since its last turn.
    pub(super) passed: BTreeMap<(ModelKey, u64, u64), u64>,
    /// How often a key has yielded its turn to a model, by its name, since that was placed last.
    pub(super) yielded: BTreeMap<(ModelKey, String), u32>,
    /// Until when a key is given up.
    pub(super) given_up: BTreeMap<ModelKey, Millis>,
    /// How many loads in a hundred fail.
    pub(super) failing_percent: u64,
    /// The budget, and what may be in use while a lower one has not been reached.
    pub(super) budget: Bytes,
    pub(super) allowance: Bytes,
    /// Share of the budget that is not to be exceeded.
    pub(super) soft_ratio: f64,
    pub(super) is_leaving: bool,
    pub(super) is_kind: bool,
    pub(super) trace: DefaultHasher,
}

impl World {
    pub(super) fn new(seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let budget = rng.between(50, 200);
        let mut config = PoolConfig::with_budget(Budget::fixed(budget, "dice"));
        let mut of_devices = Rng::new(seed ^ DEVICES);
        let devices: Vec<Arena> = (1..of_devices.between(1, 5) as u8).filter_map(Arena::device).collect();
        for arena in &devices {
            config.device_bytes.insert(*arena, of_devices.between(20, 120));
        }
        let budget = config.budgets();
        config.eviction = rng.pick(&EvictionPolicy::ALL).unwrap_or_default();
        config.queue_per_model = rng.between(1, 10) as u32;
        config.queue_total = rng.between(2, 20) as u32;
        config.min_residency_ms = rng.between(0, 3) * 400;
        config.max_wait_ms = rng.between(1, 30) * 1_000;
        config.parked_ms = rng.between(1, 100) * 1_000;
        config.keep_alive_floor_ms = if rng.chance(20) { 500 } else { 0 };
        config.keep_alive_ceiling_ms = rng.chance(20).then_some(20_000);
        config.probe_idle_ms = rng.between(0, 3) * 10_000;
        config.models_max = rng.between(2, 12) as u32;
        config.cores = rng.between(1, 9) as u32;
        let can_park = rng.chance(70);
        let failing_percent = if rng.chance(10) { 80 } else { 15 };
        for client in 0..CLIENTS {
            config.client_weights.insert(format!("client {client}"), client as u32 + 1);
        }
        let specs = make_specs(&mut rng, can_park, &devices, &mut of_devices);
        let needs = specs.iter().map(|spec| (spec.key.clone(), all_needs(spec))).collect();
        Self {
            soft_ratio: config.soft_ratio,
            state: PoolState::new(config, Millis(0)),
            rng,
            of_devices,
            now: Millis(0),
            specs,
            next_ticket: 1,
            waiting: BTreeMap::new(),
            leases: BTreeMap::new(),
            needs,
            held: BTreeMap::new(),
            instances: BTreeMap::new(),
            background_reservations: BTreeMap::new(),
            background_count: 0,
            wanted_back_count: 0,
            probes: BTreeSet::new(),
            pinned: BTreeSet::new(),
            passed: BTreeMap::new(),
            yielded: BTreeMap::new(),
            given_up: BTreeMap::new(),
            failing_percent,
            budget,
            allowance: budget,
            is_leaving: false,
            is_kind: false,
            trace: DefaultHasher::new(),
        }
    }

    pub(super) fn state(&mut self) -> &mut PoolState {
        &mut self.state
    }

    /// A number that differs when the effects do.
    pub(super) fn trace(&self) -> u64 {
        self.trace.finish()
    }

    /// Nothing new: what was begun ends well, callers finish, time passes. Every request must have an answer, and in the
    /// end nothing may be left.
    pub(super) fn come_to_rest(&mut self) -> Result<(), Broken> {
        self.is_kind = true;
        self.go_on_until("a ticket starved", 6, |world| world.waiting.is_empty())?;
        for spec in self.specs.clone() {
            let ticket = self.ticket(None, true);
            self.pinned.remove(&spec.key);
            self.happen(Event::Unpin { ticket, model: spec })?;
        }
        for ticket in self.background_reservations.keys().copied().collect::<Vec<_>>() {
            self.gives_back(ticket)?;
        }
        let ticket = self.ticket(None, true);
        self.happen(Event::Clear { ticket })?;
        self.go_on_until("something is left over", 8, Self::is_as_new)
    }

    fn go_on_until(
        &mut self,
        otherwise: &str,
        invariant: u8,
        is_so: fn(&Self) -> bool,
    ) -> Result<(), Broken> {
        for _ in 0..400 {
            if is_so(self) {
                return Ok(());
            }
            let works: Vec<_> = self.working();
            for (id, work) in works {
                self.answer(id, work)?;
            }
            for probe in self.probes.clone() {
                self.answer_probe(probe)?;
            }
            let wanted_back =
                self.background_reservations.iter().filter(|(_, (_, is_wanted_back))| *is_wanted_back);
            for ticket in wanted_back.map(|(ticket, _)| *ticket).collect::<Vec<_>>() {
                self.gives_back(ticket)?;
            }
            for ticket in self.leases.keys().copied().collect::<Vec<_>>() {
                self.release(ticket, None)?;
            }
            let wake = self.state.next_wake().filter(|at| *at > self.now);
            self.now = wake.unwrap_or(self.now.plus(1));
            self.happen(Event::Tick)?;
        }
        broken(invariant, format!("{otherwise}\n{}", self.describe()))
    }

    /// The state in a few lines, to understand a failure.
    pub(super) fn describe(&self) -> String {
        let state = &self.state;
        let mut text = format!(
            "now {:?}, next wake {:?}, budget {:?}, used {:?}, owed {:?}, awaiting memory {:?}, pledges {:?}, timers {:?}\n",
            self.now,
            state.next_wake(),
            self.budget,
            state.ledger.used(),
            state.ledger.owed(),
            state.awaiting_memory,
            state.deferred_evictions,
            state.timers
        );
        let models = state.models.iter().map(|(id, model)| {
            let backoff = model.backoff.as_ref();
            format!(
                "{id:?} {} {:?} pinned {} queue {:?} warms {:?} setback {backoff:?}\n",
                model.spec.key, model.instances, model.is_pinned, model.queue, model.warms
            )
        });
        let instances = state.instances.iter().map(|(id, instance)| {
            let Instance { model, phase, leases, ready_span, exit_reason, spec, growth, .. } = instance;
            let (bytes, options) =
                (state.ledger.memory(*id), (spec.options.context_tokens, spec.options.slots));
            format!("{id:?} {model:?} {phase:?} {leases} {ready_span:?} {exit_reason:?} {bytes:?} {options:?} {growth:?}\n")
        });
        let tickets = state.tickets.iter().map(|(id, ticket)| {
            let options = (ticket.spec.options.context_tokens, ticket.spec.options.slots);
            format!("{id:?} of {:?} since {:?} {options:?}\n", ticket.model, ticket.asked_at)
        });
        text.extend(models.chain(instances).chain(tickets));
        text
    }

    fn is_as_new(&self) -> bool {
        let state = &self.state;
        state.is_empty()
            && state.ledger.is_empty()
            && state.ledger.used().is_none()
            && state.ledger.owed().is_none()
            && state.awaiting_memory.is_empty()
            && state.deferred_evictions.is_empty()
            && state.timers.is_empty()
            && state.review_at.is_none()
            && state.models.values().all(|model| model.backoff.is_none() && model.instances.is_empty())
    }

    pub(super) fn happen(&mut self, event: Event) -> Result<(), Broken> {
        let pinning = match &event {
            Event::Pin { model, ticket } => Some((model.key.clone(), *ticket)),
            _ => None,
        };
        let background = match &event {
            Event::BackgroundReservation { ticket, bytes } => Some((*ticket, *bytes)),
            _ => None,
        };
        let effects = step(&mut self.state, event, self.now);
        if let Some((ticket, bytes)) = background
            && effects
                .iter()
                .any(|effect| matches!(effect, Effect::BackgroundReservation { is_granted: true, .. }))
        {
            self.check_background_reservations(&effects)?;
            self.background_count += 1;
            self.background_reservations.insert(ticket, (bytes, false));
        }
        for effect in &effects {
            format!("{effect:?}").hash(&mut self.trace);
        }
        let is_done =
            |effect: &Effect, ticket| matches!(effect, Effect::Done { ticket: done, .. } if *done == ticket);
        if let Some((key, ticket)) = pinning
            && effects.iter().any(|effect| is_done(effect, ticket))
        {
            self.pinned.insert(key);
        }
        let asked: Vec<_> = self.waiting.values().filter_map(|caller| caller.asks.as_ref()).collect();
        let is_waited_for = |name: &str| asked.iter().any(|(model, _)| model.name == name);
        self.yielded.retain(|(_, beneficiary), _| is_waited_for(beneficiary));
        for effect in effects {
            self.watch(effect)?;
        }
        self.check()
    }

    /// Takes an effect into the world's own account, if it is one that may be.
    fn watch(&mut self, effect: Effect) -> Result<(), Broken> {
        match effect {
            Effect::Load { instance, model, reservation } => {
                self.check_breaker(&model.key)?;
                self.check_number(&model)?;
                self.yielded.retain(|(_, beneficiary), _| *beneficiary != model.name);
                let seen = Seen {
                    key: model.key.clone(),
                    layout: model.options.layout,
                    bytes: reservation.clone(),
                    promised: reservation.clone(),
                    work: Some(Work::Load),
                    is_stopped: false,
                    is_ready: false,
                };
                self.instances.insert(instance, seen);
                self.check_room(instance, &reservation)?;
            }
            Effect::StopLoad { instance } => self.seen(instance, 3)?.is_stopped = true,
            Effect::Park { instance, .. } => self.begin(instance, Work::Park)?,
            Effect::Resume { instance, reservation, .. } => {
                self.check_room(instance, &reservation)?;
                self.begin(instance, Work::Resume)?;
                let name = self.state.instance(instance).spec.name.clone();
                self.yielded.retain(|(_, beneficiary), _| *beneficiary != name);
                let seen = self.seen(instance, 3)?;
                seen.promised = reservation.clone();
                seen.bytes = reservation;
            }
            Effect::Unload { instance } => self.begin(instance, Work::Unload)?,
            Effect::Probe { instance } => {
                let seen = self.seen(instance, 3)?;
                if !seen.is_ready || seen.work.is_some() {
                    return broken(3, format!("{instance:?} is probed, which is {seen:?}"));
                }
                if !self.probes.insert(instance) {
                    return broken(3, format!("{instance:?} is probed twice"));
                }
            }
            Effect::Grant { ticket, instance, .. } => {
                let caller = self.take_waiting(ticket)?;
                if caller.wants_no_slot {
                    return broken(2, format!("{ticket:?} was granted and only wanted the model ready"));
                }
                self.check_turn(instance, caller)?;
                let seen = self.seen(instance, 5)?;
                if !seen.is_ready || seen.work.is_some() {
                    return broken(5, format!("{ticket:?} was granted {seen:?}"));
                }
                let key = seen.key.clone();
                let needs = self.needs[&key].clone();
                self.check_group(ticket, &needs)?;
                self.held.insert(ticket, needs);
                self.leases.insert(ticket, instance);
            }
            Effect::Refuse { ticket, .. } | Effect::Done { ticket, .. } if PoolState::is_own(ticket) => {}
            Effect::Refuse { ticket, .. } | Effect::Done { ticket, .. } => drop(self.take_waiting(ticket)?),
            Effect::Tell { ticket, .. }
                if !PoolState::is_own(ticket) && !self.waiting.contains_key(&ticket) =>
            {
                return broken(2, format!("{ticket:?} was told something after its answer"));
            }
            Effect::Record { record } => {
                match record.reason {
                    Reason::FailedOften { retry_in_ms, .. } => {
                        self.given_up.insert(record.key.clone(), self.now.plus(retry_in_ms));
                    }
                    _ if record.what == What::Recovered => drop(self.given_up.remove(&record.key)),
                    _ => {}
                }
                if let (What::Parked | What::Evicted, Reason::NeededFor { model, .. }) =
                    (record.what, &record.reason)
                {
                    self.check_yield(&record.key, model)?;
                }
                let is_own_decision = matches!(record.what, What::Parked | What::Evicted);
                let is_named = !matches!(record.reason, Reason::Told | Reason::Leaving);
                if is_own_decision && is_named && self.pinned.contains(&record.key) {
                    return broken(3, format!("pinned, and yet: {record}"));
                }
            }
            Effect::WantBack { ticket } => match self.background_reservations.get_mut(&ticket) {
                Some((_, is_wanted_back)) if !*is_wanted_back => {
                    *is_wanted_back = true;
                    self.wanted_back_count += 1;
                }
                _ => return broken(1, format!("{ticket:?} is asked for what it does not have, or again")),
            },
            Effect::BackgroundReservation { .. } | Effect::Tell { .. } | Effect::WakeAt { .. } => {}
        }
        Ok(())
    }

    fn begin(&mut self, id: InstanceId, work: Work) -> Result<(), Broken> {
        if let Some((ticket, _)) = self.leases.iter().find(|(_, instance)| **instance == id) {
            return broken(3, format!("{work:?} of {id:?}, which {ticket:?} holds"));
        }
        if self.state.instances.get(&id).is_some_and(|instance| instance.holds > 0) {
            return broken(3, format!("{work:?} of {id:?}, which a lease needs"));
        }
        let seen = self.seen(id, 3)?;
        if let Some(other) = seen.work {
            return broken(3, format!("{work:?} of {id:?} during {other:?}"));
        }
        seen.work = Some(work);
        seen.is_ready = false;
        Ok(())
    }

    fn seen(&mut self, id: InstanceId, invariant: u8) -> Result<&mut Seen, Broken> {
        let what = || Broken { invariant, what: format!("{id:?} is not there") };
        self.instances.get_mut(&id).ok_or_else(what)
    }

    fn take_waiting(&mut self, ticket: TicketId) -> Result<Caller, Broken> {
        let what = || Broken {
            invariant: 2,
            what: format!("{ticket:?} was answered twice, or after it was cancelled"),
        };
        self.waiting.remove(&ticket).ok_or_else(what)
    }
}
