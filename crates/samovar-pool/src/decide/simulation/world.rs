//! Everything around the pool, made of dice: callers, threads, time; and its own account of what must be true.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::PathBuf;
use std::sync::Arc;

use samovar_core::footprint::{KvType, Layout, Measurement};
use samovar_core::port::Millis;
use samovar_core::units::KeepAlive;
use samovar_core::{Descriptor, ErrorKind, Failure, Footprint, LoadOptions, ModelKey};

use super::super::state::{Instance, PoolState};
use super::super::step;
use crate::ask::{Instances, ModelSpec};
use crate::budget::Budget;
use crate::config::{EvictionPolicy, PoolConfig};
use crate::decision::{Reason, What};
use crate::dice::Dice;
use crate::protocol::{Effect, Event, InstanceId, TicketId};

/// Clients that ask; each weighs one more than its number.
const CLIENTS: u64 = 3;

/// An invariant of the pool's design that did not hold.
#[derive(Debug)]
pub(super) struct Broken {
    pub(super) invariant: u8,
    what: String,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "invariant {}: {}", self.invariant, self.what)
    }
}

fn broken(invariant: u8, what: impl Into<String>) -> Result<(), Broken> {
    Err(Broken { invariant, what: what.into() })
}

/// Work that a thread would be doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Work {
    Load,
    Park,
    Resume,
    Unload,
}

/// An instance as the world sees it.
#[derive(Clone, Debug)]
struct Seen {
    key: ModelKey,
    layout: Layout,
    /// Weights of the model's own file.
    own_bytes: u64,
    /// Bytes it counts for: promised, measured, or left after parking. Those of its key share what is mapped of each file.
    bytes: Footprint,
    promised: Footprint,
    work: Option<Work>,
    is_stopped: bool,
    is_ready: bool,
}

/// A caller who has not had an answer.
#[derive(Clone, Debug)]
struct Caller {
    deadline: Option<Millis>,
    /// Wants the model ready or gives an order; may not be granted.
    wants_no_slot: bool,
    /// Of those who ask for a slot: what, and which client.
    asks: Option<(Arc<ModelSpec>, u64)>,
}

pub(super) struct World {
    dice: Dice,
    state: PoolState,
    now: Millis,
    specs: Vec<Arc<ModelSpec>>,
    next_ticket: u64,
    waiting: BTreeMap<TicketId, Caller>,
    leases: BTreeMap<TicketId, InstanceId>,
    /// What each key needs beside it, and the keys that leases hold beside their own.
    needs: BTreeMap<ModelKey, BTreeSet<ModelKey>>,
    held: BTreeMap<TicketId, BTreeSet<ModelKey>>,
    instances: BTreeMap<InstanceId, Seen>,
    /// Memory that work in the background has been given, and whether it was asked back.
    asides: BTreeMap<TicketId, (u64, bool)>,
    /// Probes that have no answer yet.
    probes: BTreeSet<InstanceId>,
    pinned: BTreeSet<ModelKey>,
    /// How often a client that waits for a key was passed over in favour of another since its last turn.
    passed: BTreeMap<(ModelKey, u64, u64), u64>,
    /// Until when a key is given up.
    given_up: BTreeMap<ModelKey, Millis>,
    /// How many loads in a hundred fail.
    failing_percent: u64,
    /// The budget, and what may be in use while a lower one has not been reached.
    budget: u64,
    allowance: u64,
    is_leaving: bool,
    is_kind: bool,
    trace: DefaultHasher,
}

impl World {
    pub(super) fn new(seed: u64) -> Self {
        let mut dice = Dice::new(seed);
        let budget = dice.between(50, 200);
        let mut config = PoolConfig::with_budget(Budget::fixed(budget, "dice"));
        config.eviction = dice.pick(&EvictionPolicy::ALL).unwrap_or_default();
        config.queue_per_model = dice.between(1, 10) as u32;
        config.queue_total = dice.between(2, 20) as u32;
        config.min_residency_ms = dice.between(0, 3) * 400;
        config.max_wait_ms = dice.between(1, 30) * 1_000;
        config.parked_ms = dice.between(1, 100) * 1_000;
        config.keep_alive_floor_ms = if dice.chance(20) { 500 } else { 0 };
        config.keep_alive_ceiling_ms = dice.chance(20).then_some(20_000);
        config.probe_idle_ms = dice.between(0, 3) * 10_000;
        config.models_max = dice.between(2, 12) as u32;
        config.cores = dice.between(1, 9) as u32;
        let can_park = dice.chance(70);
        let failing_percent = if dice.chance(10) { 80 } else { 15 };
        for client in 0..CLIENTS {
            config.client_weights.insert(format!("client {client}"), client as u32 + 1);
        }
        let specs = make_specs(&mut dice);
        let needs = specs.iter().map(|spec| (spec.key.clone(), all_needs(spec))).collect();
        Self {
            state: PoolState::new(config, can_park, Millis(0)),
            dice,
            now: Millis(0),
            specs,
            next_ticket: 1,
            waiting: BTreeMap::new(),
            leases: BTreeMap::new(),
            needs,
            held: BTreeMap::new(),
            instances: BTreeMap::new(),
            asides: BTreeMap::new(),
            probes: BTreeSet::new(),
            pinned: BTreeSet::new(),
            passed: BTreeMap::new(),
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

    /// One random thing happens.
    pub(super) fn act(&mut self) -> Result<(), Broken> {
        match self.dice.between(0, 100) {
            0..30 => self.someone_asks(),
            30..34 => self.someone_warms(),
            34..39 => self.someone_leaves(),
            39..55 => self.someone_is_done(),
            55..75 => self.a_thread_answers(),
            75..78 => self.a_load_gets_on(),
            78..88 => self.time_passes(),
            88..92 => self.someone_pins(),
            92..95 => self.someone_unloads(),
            95 => self.the_machine_is_short(),
            96 if self.dice.chance(60) => self.an_instance_is_found_dead(),
            96 => self.a_probe_answers(),
            97 => self.the_limits_change(),
            98 if self.dice.chance(70) => self.someone_sets_aside(),
            98 => self.happen(Event::Tick),
            _ if self.dice.chance(10) => self.the_pool_leaves(),
            _ => self.time_passes(),
        }
    }

    /// Nothing new: what was begun ends well, callers finish, time passes. Everybody must have an answer, and in the
    /// end nothing may be left.
    pub(super) fn come_to_rest(&mut self) -> Result<(), Broken> {
        self.is_kind = true;
        self.go_on_until("a ticket starved", 6, |world| world.waiting.is_empty())?;
        for spec in self.specs.clone() {
            let ticket = self.ticket(None, true);
            self.pinned.remove(&spec.key);
            self.happen(Event::Unpin { ticket, model: spec })?;
        }
        for ticket in self.asides.keys().copied().collect::<Vec<_>>() {
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
            let wanted_back = self.asides.iter().filter(|(_, (_, is_wanted_back))| *is_wanted_back);
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

    /// The state in a few lines, for whoever must understand a failure.
    fn describe(&self) -> String {
        let state = &self.state;
        let mut text = format!(
            "now {:?}, next wake {:?}, budget {}, used {}, owed {}, wants {:?}, pledges {:?}, timers {:?}\n",
            self.now,
            state.next_wake(),
            self.budget,
            state.ledger.used(),
            state.ledger.owed(),
            state.wants,
            state.pledges,
            state.timers
        );
        let models = state.models.iter().map(|(id, model)| {
            let setback = model.setback.as_ref();
            format!(
                "{id:?} {} {:?} pinned {} queue {:?} warms {:?} setback {setback:?}\n",
                model.spec.key, model.instances, model.is_pinned, model.queue, model.warms
            )
        });
        let instances = state.instances.iter().map(|(id, instance)| {
            let Instance { model, phase, leases, ready_span, farewell, spec, growth, .. } = instance;
            let (bytes, options) =
                (state.ledger.footprint(*id), (spec.options.context_tokens, spec.options.slots));
            format!("{id:?} {model:?} {phase:?} {leases} {ready_span:?} {farewell:?} {bytes:?} {options:?} {growth:?}\n")
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
            && state.ledger.used() == 0
            && state.ledger.owed() == 0
            && state.wants.is_empty()
            && state.pledges.is_empty()
            && state.timers.is_empty()
            && state.review_at.is_none()
            && state.models.values().all(|model| model.setback.is_none() && model.instances.is_empty())
    }

    fn someone_asks(&mut self) -> Result<(), Broken> {
        let Some(model) = self.dice.pick(&self.specs) else { return Ok(()) };
        let deadline = self.dice.chance(40).then(|| self.now.plus(self.dice.between(0, 10_000)));
        let keep_alive = self.dice.chance(50).then(|| self.some_keep_alive());
        let priority = if self.dice.chance(20) { self.dice.between(0, 256) as u8 } else { 0 };
        let ticket = self.ticket(deadline, false);
        let number = self.dice.between(0, CLIENTS);
        let client = format!("client {number}");
        let is_theirs = |caller: &Caller| {
            caller.asks.as_ref().is_some_and(|(asked, one)| asked.key == model.key && *one == number)
        };
        if !self.waiting.values().any(is_theirs) {
            self.passed.retain(|(key, passed, _), _| *key != model.key || *passed != number);
        }
        self.waiting.entry(ticket).and_modify(|caller| caller.asks = Some((Arc::clone(&model), number)));
        let affinity = self.dice.chance(50).then(|| self.dice.between(0, 5));
        self.happen(Event::Request { ticket, model, client, priority, deadline, keep_alive, affinity })
    }

    fn some_keep_alive(&mut self) -> KeepAlive {
        some_keep_alive(&mut self.dice)
    }

    fn someone_warms(&mut self) -> Result<(), Broken> {
        let Some(model) = self.dice.pick(&self.specs) else { return Ok(()) };
        let ticket = self.ticket(None, true);
        self.happen(Event::Warm { ticket, model })
    }

    fn someone_leaves(&mut self) -> Result<(), Broken> {
        let waiting: Vec<_> = self.waiting.keys().copied().collect();
        let Some(ticket) = self.dice.pick(&waiting) else { return Ok(()) };
        self.waiting.remove(&ticket);
        self.happen(Event::Cancel { ticket })
    }

    fn someone_is_done(&mut self) -> Result<(), Broken> {
        let leases: Vec<_> = self.leases.keys().copied().collect();
        let Some(ticket) = self.dice.pick(&leases) else { return Ok(()) };
        let kinds = [ErrorKind::EngineFailed, ErrorKind::Unavailable, ErrorKind::InvalidRequest];
        let failed = if self.dice.chance(10) { self.dice.pick(&kinds) } else { None };
        self.release(ticket, failed.map(|kind| Failure::new(kind, "dice")))
    }

    fn release(&mut self, ticket: TicketId, failed: Option<Failure>) -> Result<(), Broken> {
        self.leases.remove(&ticket);
        self.held.remove(&ticket);
        self.happen(Event::Released { ticket, failed })
    }

    fn working(&self) -> Vec<(InstanceId, Work)> {
        self.instances.iter().filter_map(|(id, seen)| Some((*id, seen.work?))).collect()
    }

    fn a_thread_answers(&mut self) -> Result<(), Broken> {
        let working = self.working();
        let Some((id, work)) = self.dice.pick(&working) else { return Ok(()) };
        self.answer(id, work)
    }

    fn a_probe_answers(&mut self) -> Result<(), Broken> {
        let probes: Vec<_> = self.probes.iter().copied().collect();
        self.dice.pick(&probes).map_or(Ok(()), |id| self.answer_probe(id))
    }

    fn answer_probe(&mut self, instance: InstanceId) -> Result<(), Broken> {
        self.probes.remove(&instance);
        if self.is_kind || self.dice.chance(60) {
            return self.happen(Event::Probed { instance });
        }
        let failure = Failure::new(ErrorKind::EngineFailed, "no token");
        self.happen(Event::ProbeFailed { instance, failure })
    }

    fn answer(&mut self, id: InstanceId, work: Work) -> Result<(), Broken> {
        if self.probes.contains(&id) {
            self.answer_probe(id)?;
        }
        let fails = !self.is_kind && self.dice.chance(self.failing_percent);
        let seen = self.instances.get_mut(&id).expect("it works");
        seen.work = None;
        let promised = seen.promised;
        let failure = Failure::new(ErrorKind::EngineFailed, "dice");
        let event = match work {
            Work::Load if seen.is_stopped && self.dice.chance(70) => {
                self.instances.remove(&id);
                Event::LoadFailed { instance: id, failure: Failure::new(ErrorKind::Cancelled, "stopped") }
            }
            Work::Load if fails => {
                self.instances.remove(&id);
                Event::LoadFailed { instance: id, failure }
            }
            Work::Load => {
                let footprint = self.measured(promised);
                let seen = self.instances.get_mut(&id).expect("it works");
                seen.is_ready = true;
                seen.bytes = if footprint.total_bytes() == 0 { seen.bytes } else { footprint };
                Event::Loaded { instance: id, footprint }
            }
            Work::Park if fails => Event::ParkFailed { instance: id, failure },
            Work::Park => {
                seen.bytes = held(self.dice.between(0, 4).min(seen.bytes.held_bytes));
                Event::Parked {
                    instance: id,
                    measured: measurement(seen.bytes.held_bytes, promised.mapped_bytes),
                }
            }
            Work::Resume if fails => {
                seen.bytes = held(seen.promised.held_bytes);
                Event::ResumeFailed { instance: id, failure }
            }
            Work::Resume => {
                let footprint = self.measured(promised);
                let seen = self.instances.get_mut(&id).expect("it works");
                seen.is_ready = true;
                seen.bytes = if footprint.total_bytes() == 0 { seen.bytes } else { footprint };
                Event::Resumed {
                    instance: id,
                    measured: measurement(footprint.held_bytes, footprint.mapped_bytes),
                }
            }
            Work::Unload => {
                self.instances.remove(&id);
                Event::Unloaded { instance: id }
            }
        };
        // A resume that failed leaves what was parked; the state alone remembers how much that was.
        if let Event::ResumeFailed { .. } = event {
            let model = self.state.instance(id).model;
            let residue = self.state.model(model).residue.unwrap_or(0);
            self.instances.get_mut(&id).expect("it is parked").bytes = held(residue);
        }
        self.happen(event)
    }

    /// What a load is found to use: mostly as promised, sometimes less, nothing, more, or far too much.
    fn measured(&mut self, promised: Footprint) -> Footprint {
        let held_bytes = match if self.is_kind { 0 } else { self.dice.between(0, 20) } {
            17 => promised.held_bytes / 2,
            18 => promised.held_bytes + self.dice.between(0, 30),
            19 if self.dice.chance(20) => promised.held_bytes + 300,
            16 => return Footprint::default(),
            _ => promised.held_bytes,
        };
        Footprint { held_bytes, mapped_bytes: promised.mapped_bytes }
    }

    fn a_load_gets_on(&mut self) -> Result<(), Broken> {
        let working = self.working();
        let Some((instance, _)) = self.dice.pick(&working) else { return Ok(()) };
        let fraction = self.dice.between(0, 101) as f32 / 100.0;
        self.happen(Event::LoadProgress { instance, fraction })
    }

    fn time_passes(&mut self) -> Result<(), Broken> {
        let longest = if self.dice.chance(5) { 2_000_000 } else { 3_000 };
        let passes = self.dice.between(1, longest);
        // The owner wakes up when it was asked to, so that time never jumps over what is due.
        let until = self.now.plus(passes);
        while let Some(at) = self.state.next_wake().filter(|at| *at <= until) {
            self.now = at.max(self.now);
            self.happen(Event::Tick)?;
            if self.state.next_wake() == Some(at) {
                return broken(6, format!("what is due at {at:?} is never done\n{}", self.describe()));
            }
        }
        self.now = until;
        self.happen(Event::Tick)
    }

    /// Somebody works in the background, or leaves off.
    fn someone_sets_aside(&mut self) -> Result<(), Broken> {
        let out: Vec<_> = self.asides.keys().copied().collect();
        if let Some(ticket) = self.dice.pick(&out).filter(|_| self.dice.chance(50)) {
            return self.gives_back(ticket);
        }
        let ticket = TicketId(self.next_ticket);
        self.next_ticket += 1;
        let bytes = self.dice.between(1, 100);
        // What is due anyway is done before.
        self.happen(Event::Tick)?;
        self.happen(Event::SetAside { ticket, bytes })
    }

    fn gives_back(&mut self, ticket: TicketId) -> Result<(), Broken> {
        self.asides.remove(&ticket);
        self.happen(Event::Released { ticket, failed: None })
    }

    fn someone_pins(&mut self) -> Result<(), Broken> {
        let Some(model) = self.dice.pick(&self.specs) else { return Ok(()) };
        let ticket = self.ticket(None, true);
        if self.dice.chance(40) {
            self.happen(Event::Pin { ticket, model })
        } else {
            self.pinned.remove(&model.key);
            self.happen(Event::Unpin { ticket, model })
        }
    }

    fn someone_unloads(&mut self) -> Result<(), Broken> {
        let Some(model) = self.dice.pick(&self.specs) else { return Ok(()) };
        let ticket = self.ticket(None, true);
        if self.dice.chance(20) {
            self.pinned.clear();
            self.happen(Event::Clear { ticket })
        } else {
            self.pinned.remove(&model.key);
            self.happen(Event::Unload { ticket, name: model.name.clone() })
        }
    }

    fn the_machine_is_short(&mut self) -> Result<(), Broken> {
        let stall_percent = self.dice.between(0, 40) as f32;
        self.happen(Event::Pressure { available_bytes: u64::MAX, stall_percent })
    }

    fn an_instance_is_found_dead(&mut self) -> Result<(), Broken> {
        let ready: Vec<_> =
            self.instances.iter().filter(|(_, seen)| seen.is_ready).map(|(id, _)| *id).collect();
        let Some(instance) = self.dice.pick(&ready) else { return Ok(()) };
        let failure = Failure::new(ErrorKind::EngineFailed, "found dead");
        self.happen(Event::InstanceDied { instance, failure })
    }

    fn the_limits_change(&mut self) -> Result<(), Broken> {
        let mut config = self.state.config().clone();
        self.budget = self.dice.between(50, 200);
        config.budget = Budget::fixed(self.budget, "dice");
        self.allowance = self.state.ledger.used().max(self.budget);
        self.happen(Event::Configure { config: Box::new(config) })
    }

    fn the_pool_leaves(&mut self) -> Result<(), Broken> {
        self.is_leaving = true;
        self.pinned.clear();
        self.happen(Event::Shutdown)
    }

    fn ticket(&mut self, deadline: Option<Millis>, wants_no_slot: bool) -> TicketId {
        let ticket = TicketId(self.next_ticket);
        self.next_ticket += 1;
        self.waiting.insert(ticket, Caller { deadline, wants_no_slot, asks: None });
        ticket
    }

    fn happen(&mut self, event: Event) -> Result<(), Broken> {
        let pinning = match &event {
            Event::Pin { model, ticket } => Some((model.key.clone(), *ticket)),
            _ => None,
        };
        let set_aside = match &event {
            Event::SetAside { ticket, bytes } => Some((*ticket, *bytes)),
            _ => None,
        };
        let effects = step(&mut self.state, event, self.now);
        if let Some((ticket, bytes)) = set_aside {
            Self::check_set_aside(&effects)?;
            if effects.iter().any(|effect| matches!(effect, Effect::SetAside { is_granted: true, .. })) {
                self.asides.insert(ticket, (bytes, false));
            }
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
                let seen = Seen {
                    key: model.key.clone(),
                    layout: model.options.layout,
                    own_bytes: model.descriptor.tensor_bytes,
                    bytes: reservation,
                    promised: reservation,
                    work: Some(Work::Load),
                    is_stopped: false,
                    is_ready: false,
                };
                self.instances.insert(instance, seen);
                self.check_room(instance, reservation)?;
            }
            Effect::StopLoad { instance } => self.seen(instance, 3)?.is_stopped = true,
            Effect::Park { instance } => self.begin(instance, Work::Park)?,
            Effect::Resume { instance, reservation, .. } => {
                self.check_room(instance, reservation)?;
                self.begin(instance, Work::Resume)?;
                let seen = self.seen(instance, 3)?;
                seen.promised = reservation;
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
                let is_own_decision = matches!(record.what, What::Parked | What::Evicted);
                let is_named = !matches!(record.reason, Reason::Told | Reason::Leaving);
                if is_own_decision && is_named && self.pinned.contains(&record.key) {
                    return broken(3, format!("pinned, and yet: {record}"));
                }
            }
            Effect::WantBack { ticket } => match self.asides.get_mut(&ticket) {
                Some((_, is_wanted_back)) if !*is_wanted_back => *is_wanted_back = true,
                _ => return broken(1, format!("{ticket:?} is asked for what it does not have, or again")),
            },
            Effect::SetAside { .. } | Effect::Tell { .. } | Effect::WakeAt { .. } => {}
        }
        Ok(())
    }

    /// No model has more instances than it may have; one that may have one has none that leaves beside it either.
    fn check_number(&self, model: &ModelSpec) -> Result<(), Broken> {
        let others = self.instances.iter().filter(|(_, seen)| seen.key == model.key).map(|(id, _)| id);
        let count = match model.instances.max {
            1 => others.count(),
            _ => others.filter(|id| self.state.instances.get(*id).is_some_and(Instance::stays)).count(),
        };
        if count as u32 >= model.instances.max {
            return broken(4, format!("{} is loaded beside {count} others", model.name));
        }
        Ok(())
    }

    /// A model that is given up is not loaded, and then by one load at a time until it works again or is forgotten.
    fn check_breaker(&self, key: &ModelKey) -> Result<(), Broken> {
        let Some(until) = self.given_up.get(key).filter(|until| self.now < until.plus(60_000)) else {
            return Ok(());
        };
        let loads =
            self.instances.values().filter(|seen| seen.key == *key && seen.work == Some(Work::Load)).count();
        if self.now < *until {
            return broken(11, format!("{key} is loaded and was given up until {until:?}"));
        }
        if loads > 0 {
            return broken(11, format!("{key} is tried by {} loads at a time", loads + 1));
        }
        Ok(())
    }

    /// Nobody whom this instance could have served is passed over more often than the weights say.
    fn check_turn(&mut self, id: InstanceId, granted: Caller) -> Result<(), Broken> {
        let Some((model, client)) = granted.asks else { return Ok(()) };
        let key = model.key.clone();
        self.passed.retain(|(other, passed, _), _| *other != key || *passed != client);
        for other in (0..CLIENTS).filter(|other| *other != client) {
            let of_other = |caller: &&Caller| {
                caller.asks.as_ref().is_some_and(|(asked, number)| asked.key == key && *number == other)
            };
            let waiting = self.waiting.values().filter(of_other);
            let mut asked = waiting.filter_map(|caller| caller.asks.as_ref()).peekable();
            let instance = self.state.instances.get(&id);
            let waits = asked.peek().is_some();
            let could_be_served =
                |(wish, _): &(Arc<ModelSpec>, u64)| instance.is_some_and(|one| one.satisfies(wish));
            if !waits || !asked.all(could_be_served) {
                self.passed.remove(&(key.clone(), other, client));
                continue;
            }
            let times = self.passed.entry((key.clone(), other, client)).or_default();
            *times += 1;
            if *times > (client + 1) / (other + 1) + 1 {
                let who = format!("client {other} of {key}");
                return broken(10, format!("{who} was passed over {times} times for client {client}"));
            }
        }
        Ok(())
    }

    /// A promise may be made only for bytes that are there. While something is owed nothing new is promised; a growth
    /// that was promised before goes on.
    fn check_room(&self, id: InstanceId, wanted: Footprint) -> Result<(), Broken> {
        let with_it = self.instances.iter().map(|(other, seen)| {
            let bytes = if *other == id { wanted } else { seen.bytes };
            (seen, bytes)
        });
        let in_use = sum_of(with_it) + self.set_aside();
        let allowed = self.allowance.max(self.budget) + self.state.ledger.owed();
        if in_use > allowed {
            return broken(1, format!("{wanted:?} promised, with it {in_use} in use of {}", self.budget));
        }
        Ok(())
    }

    /// Nobody leaves for work in the background.
    fn check_set_aside(effects: &[Effect]) -> Result<(), Broken> {
        let is_granted =
            effects.iter().any(|effect| matches!(effect, Effect::SetAside { is_granted: true, .. }));
        let leaves = |effect: &&Effect| matches!(effect, Effect::Park { .. } | Effect::Unload { .. });
        match effects.iter().find(leaves) {
            Some(effect) if is_granted => broken(9, format!("{effect:?} for work in the background")),
            _ => Ok(()),
        }
    }

    fn set_aside(&self) -> u64 {
        self.asides.values().map(|(bytes, _)| bytes).sum()
    }

    /// Whoever is granted a model has all that it needs.
    fn check_group(&self, ticket: TicketId, needs: &BTreeSet<ModelKey>) -> Result<(), Broken> {
        let is_ready = |key: &ModelKey| {
            self.instances.values().any(|seen| seen.key == *key && seen.is_ready && seen.work.is_none())
        };
        match needs.iter().find(|key| !is_ready(key)) {
            Some(missing) => broken(5, format!("{ticket:?} was granted without {missing}")),
            None => Ok(()),
        }
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

    fn check(&mut self) -> Result<(), Broken> {
        self.check_bytes()?;
        self.check_callers()?;
        self.check_holds()?;
        for (id, instance) in &self.state.instances {
            let held = self.leases.values().filter(|leased| *leased == id).count();
            if instance.leases as usize != held || instance.leases > instance.slots() {
                return broken(5, format!("{id:?} counts {} leases, {held} are out", instance.leases));
            }
        }
        Ok(())
    }

    /// Every lease of a model holds one instance of each that it needs.
    fn check_holds(&self) -> Result<(), Broken> {
        let mut holds: BTreeMap<&ModelKey, u32> = BTreeMap::new();
        for instance in self.state.instances.values() {
            *holds.entry(&instance.spec.key).or_default() += instance.holds;
        }
        for (key, count) in holds {
            let held = self.held.values().filter(|keys| keys.contains(key)).count();
            if count as usize != held {
                return broken(5, format!("{key} counts {count} leases that need it, {held} are out"));
            }
        }
        Ok(())
    }

    fn check_bytes(&mut self) -> Result<(), Broken> {
        let ledger = &self.state.ledger;
        self.allowance = self.allowance.min(ledger.used()).max(self.budget);
        if ledger.used() > self.allowance {
            return broken(1, format!("{} in use of {}", ledger.used(), self.allowance));
        }
        // What is to grow counts for more from the decision on, before anything is done.
        let growing = |id: &InstanceId| self.state.instance(*id).growth.is_some();
        let counted = |(id, seen): (&InstanceId, &Seen)| {
            let counts = ledger.footprint(*id);
            let held_bytes = ledger.footprint_with_debt(*id) - counts.mapped_bytes;
            let more = Footprint {
                held_bytes: seen.bytes.held_bytes.max(held_bytes),
                mapped_bytes: seen.bytes.mapped_bytes.max(counts.mapped_bytes),
            };
            if growing(id) { more } else { seen.bytes }
        };
        let in_use = sum_of(self.instances.iter().map(|(id, seen)| (seen, counted((id, seen)))));
        let in_use = in_use + self.set_aside();
        if ledger.used() + ledger.owed() != in_use {
            let (used, owed) = (ledger.used(), ledger.owed());
            return broken(1, format!("{used} counted and {owed} owed, {in_use} in use"));
        }
        Ok(())
    }

    fn check_callers(&self) -> Result<(), Broken> {
        let overdue = |caller: &&Caller| caller.deadline.is_some_and(|deadline| deadline <= self.now);
        if let Some(caller) = self.waiting.values().find(overdue) {
            return broken(6, format!("{caller:?} waits at {:?}", self.now));
        }
        let lost = self.waiting.keys().find(|ticket| !self.state.tickets.contains_key(ticket));
        if let Some(ticket) = lost {
            return broken(2, format!("{ticket:?} was lost"));
        }
        let tally = &self.state.tally;
        let granted = tally.hits + tally.misses + tally.coalesced;
        let queued = self.state.tickets.values().filter(|ticket| ticket.wants_slot).count() as u64;
        if tally.requests != granted + tally.refused + tally.cancelled + queued {
            return broken(2, format!("{queued} queued do not make up the sum of {tally:?}"));
        }
        if self.is_leaving && !self.waiting.is_empty() {
            return broken(6, "somebody waits for a pool that leaves");
        }
        Ok(())
    }
}

fn held(held_bytes: u64) -> Footprint {
    Footprint { held_bytes, mapped_bytes: 0 }
}

/// All that is held, and what is mapped once a file.
fn sum_of<'a>(footprints: impl Iterator<Item = (&'a Seen, Footprint)>) -> u64 {
    let mut mapped: BTreeMap<(&ModelKey, bool), u64> = BTreeMap::new();
    let mut sum = 0;
    for (seen, footprint) in footprints {
        sum += footprint.held_bytes;
        let own = match seen.layout {
            Layout::Packed => 0,
            Layout::Hybrid => footprint.mapped_bytes.min(seen.own_bytes),
            Layout::Mapped | Layout::Repacked => footprint.mapped_bytes,
        };
        for (is_packed, bytes) in [(false, own), (true, footprint.mapped_bytes - own)] {
            let most = mapped.entry((&seen.key, is_packed)).or_default();
            *most = (*most).max(bytes);
        }
    }
    sum + mapped.values().sum::<u64>()
}

fn measurement(held_bytes: u64, mapped_bytes: u64) -> Measurement {
    Measurement { held_bytes, mapped_bytes, ..Measurement::default() }
}

fn some_keep_alive(dice: &mut Dice) -> KeepAlive {
    match dice.between(0, 6) {
        0 => KeepAlive::ParkAtOnce,
        1 => KeepAlive::UntilEvicted,
        _ => KeepAlive::Ms(dice.between(1, 30_000)),
    }
}

/// The keys of all that a model needs.
fn all_needs(spec: &ModelSpec) -> BTreeSet<ModelKey> {
    spec.needs.iter().flat_map(|need| all_needs(need).into_iter().chain([need.key.clone()])).collect()
}

/// Models of all sizes, some in two sizes of context, some of several instances, some that need others, some that
/// never fit.
fn make_specs(dice: &mut Dice) -> Vec<Arc<ModelSpec>> {
    let mut specs: Vec<Arc<ModelSpec>> = Vec::new();
    for number in 0..dice.between(2, 9) {
        let mapped_bytes = dice.between(0, 60);
        let slots = dice.between(1, 4) as u32;
        let usual = if dice.chance(30) { Layout::Repacked } else { Layout::Mapped };
        let keep_alive = some_keep_alive(dice);
        let sizes = dice.between(1, 3) as u32;
        let descriptor = Arc::new(some_descriptor(dice, mapped_bytes / 2));
        let held_bytes = dice.between(1, 40);
        let min = if dice.chance(70) { 1 } else { dice.between(1, 4) as u32 };
        let max = if dice.chance(60) { min } else { min + dice.between(0, 3) as u32 };
        let needs: Vec<_> = (0..2).filter_map(|_| dice.pick(&specs).filter(|_| dice.chance(15))).collect();
        for size in 1..=sizes {
            let layout = if dice.chance(20) { dice.pick(&[Layout::Packed, Layout::Hybrid]) } else { None };
            let layout = layout.unwrap_or(usual);
            specs.push(Arc::new(ModelSpec {
                key: ModelKey::new(format!("key {number}")),
                name: format!("model {number}"),
                path: PathBuf::from("/nowhere"),
                descriptor: Arc::clone(&descriptor),
                options: LoadOptions {
                    context_tokens: 512 * size,
                    slots: if dice.chance(10) { slots + 1 } else { slots },
                    layout,
                    kv_type: KvType::F16,
                    threads: 1,
                    lock_memory: false,
                },
                footprint: Footprint { held_bytes: held_bytes * u64::from(size), mapped_bytes },
                load_ms: dice.chance(20).then(|| dice.between(1, 60_000)),
                keep_alive,
                instances: Instances { min, max },
                needs: needs.clone(),
            }));
        }
    }
    specs
}

/// With a KV cache of a size that matters, or with none to speak of, so that wishes can be merged.
fn some_descriptor(dice: &mut Dice, tensor_bytes: u64) -> Descriptor {
    let blocks = if dice.chance(50) { 4 } else { 0 };
    Descriptor { blocks, ..samovar_core::testing::FakeEngine::descriptor("dice", tensor_bytes) }
}
