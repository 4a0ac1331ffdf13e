//! What may happen, at random: callers come and go, threads answer well or badly, people give commands, time passes.

use std::sync::Arc;

use samovar_core::port::Millis;
use samovar_core::units::KeepAlive;
use samovar_core::{Bytes, ErrorKind, Failure, FileId, Layout, Memory};

use super::checks::{Broken, broken};
use super::specs;
use super::world::{CLIENTS, Caller, Work, World};
use crate::ask::AcquireRequest;
use crate::budget::Budget;
use crate::protocol::{Event, InstanceId, TicketId};

impl World {
    /// One random thing happens.
    pub(super) fn act(&mut self) -> Result<(), Broken> {
        match self.rng.between(0, 100) {
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
            96 if self.rng.chance(60) => self.an_instance_is_found_dead(),
            96 => self.a_probe_answers(),
            97 => self.the_limits_change(),
            98 if self.rng.chance(70) => self.someone_reserves_in_background(),
            98 => self.happen(Event::Tick),
            _ if self.rng.chance(10) => self.the_pool_leaves(),
            _ => self.time_passes(),
        }
    }

    fn someone_asks(&mut self) -> Result<(), Broken> {
        let Some(model) = self.rng.pick(&self.specs) else { return Ok(()) };
        let deadline = self.rng.chance(40).then(|| self.now.plus(self.rng.between(0, 10_000)));
        let keep_alive = self.rng.chance(50).then(|| self.some_keep_alive());
        let priority = if self.rng.chance(20) { self.rng.between(0, 256) as u8 } else { 0 };
        let ticket = self.ticket(deadline, false);
        let number = self.rng.between(0, CLIENTS);
        let client = format!("client {number}");
        let is_theirs = |caller: &Caller| {
            caller.asks.as_ref().is_some_and(|(asked, one)| asked.key == model.key && *one == number)
        };
        if !self.waiting.values().any(is_theirs) {
            self.passed.retain(|(key, passed, _), _| *key != model.key || *passed != number);
        }
        self.waiting.entry(ticket).and_modify(|caller| caller.asks = Some((Arc::clone(&model), number)));
        let affinity = self.rng.chance(50).then(|| self.rng.between(0, 5));
        // Not drawn, so that the lives stay those that they were.
        let within = (0..ticket.0 % 3).map(|level| format!("part {}", (ticket.0 / 3 + level) % 3)).collect();
        let ask =
            AcquireRequest { model, client, within, weight: None, priority, deadline, keep_alive, affinity };
        self.happen(Event::Request { ticket, ask })
    }

    fn some_keep_alive(&mut self) -> KeepAlive {
        specs::some_keep_alive(&mut self.rng)
    }

    fn someone_warms(&mut self) -> Result<(), Broken> {
        let Some(model) = self.rng.pick(&self.specs) else { return Ok(()) };
        let ticket = self.ticket(None, true);
        self.happen(Event::Warm { ticket, model })
    }

    fn someone_leaves(&mut self) -> Result<(), Broken> {
        let waiting: Vec<_> = self.waiting.keys().copied().collect();
        let Some(ticket) = self.rng.pick(&waiting) else { return Ok(()) };
        self.waiting.remove(&ticket);
        self.happen(Event::Cancel { ticket })
    }

    fn someone_is_done(&mut self) -> Result<(), Broken> {
        let leases: Vec<_> = self.leases.keys().copied().collect();
        let Some(ticket) = self.rng.pick(&leases) else { return Ok(()) };
        let kinds = [ErrorKind::EngineFailed, ErrorKind::Unavailable, ErrorKind::InvalidRequest];
        let failed = if self.rng.chance(10) { self.rng.pick(&kinds) } else { None };
        self.release(ticket, failed.map(|kind| Failure::new(kind, "dice")))
    }

    pub(super) fn release(&mut self, ticket: TicketId, failed: Option<Failure>) -> Result<(), Broken> {
        self.leases.remove(&ticket);
        self.held.remove(&ticket);
        self.happen(Event::Released { ticket, failed })
    }

    pub(super) fn working(&self) -> Vec<(InstanceId, Work)> {
        self.instances.iter().filter_map(|(id, seen)| Some((*id, seen.work?))).collect()
    }

    fn a_thread_answers(&mut self) -> Result<(), Broken> {
        let working = self.working();
        let Some((id, work)) = self.rng.pick(&working) else { return Ok(()) };
        self.answer(id, work)
    }

    fn a_probe_answers(&mut self) -> Result<(), Broken> {
        let probes: Vec<_> = self.probes.iter().copied().collect();
        self.rng.pick(&probes).map_or(Ok(()), |id| self.answer_probe(id))
    }

    pub(super) fn answer_probe(&mut self, instance: InstanceId) -> Result<(), Broken> {
        self.probes.remove(&instance);
        if self.is_kind || self.rng.chance(60) {
            return self.happen(Event::Probed { instance });
        }
        let failure = Failure::new(ErrorKind::EngineFailed, "no token");
        self.happen(Event::ProbeFailed { instance, failure })
    }

    pub(super) fn answer(&mut self, id: InstanceId, work: Work) -> Result<(), Broken> {
        if self.probes.contains(&id) {
            self.answer_probe(id)?;
        }
        let fails = !self.is_kind && self.rng.chance(self.failing_percent);
        let seen = self.instances.get_mut(&id).expect("it works");
        seen.work = None;
        let promised = seen.promised.clone();
        let failure = Failure::new(ErrorKind::EngineFailed, "dice");
        let event = match work {
            Work::Load if seen.is_stopped && self.rng.chance(70) => {
                self.instances.remove(&id);
                Event::LoadFailed { instance: id, failure: Failure::new(ErrorKind::Cancelled, "stopped") }
            }
            Work::Load if fails => {
                self.instances.remove(&id);
                Event::LoadFailed { instance: id, failure }
            }
            Work::Load => {
                let mut memory = self.measured(&promised);
                let seen = self.instances.get_mut(&id).expect("it works");
                if seen.layout.needs_packed_file() && !self.is_kind && self.rng.chance(30) {
                    seen.layout = Layout::Mapped;
                    all_of_its_own(&mut memory);
                }
                seen.is_ready = true;
                if !memory.is_none() {
                    seen.bytes = memory.clone();
                }
                Event::Loaded { instance: id, memory, layout: seen.layout }
            }
            Work::Park if fails => Event::ParkFailed { instance: id, failure },
            Work::Park => {
                let left = Bytes::host(self.rng.between(0, 4).min(seen.bytes.private.on_host()));
                seen.bytes = held(left);
                Event::Parked { instance: id, left }
            }
            Work::Resume if fails => {
                seen.bytes = held(seen.promised.private);
                Event::ResumeFailed { instance: id, failure }
            }
            Work::Resume => {
                let memory = self.measured(&promised);
                let seen = self.instances.get_mut(&id).expect("it works");
                seen.is_ready = true;
                if !memory.is_none() {
                    seen.bytes = memory.clone();
                }
                Event::Resumed { instance: id, memory }
            }
            Work::Unload => {
                self.instances.remove(&id);
                Event::Unloaded { instance: id }
            }
        };
        // A resume that failed leaves what was parked; the state alone remembers how much that was.
        if let Event::ResumeFailed { .. } = event {
            let model = self.state.instance(id).model;
            let residue = self.state.model(model).residue.unwrap_or_default();
            self.instances.get_mut(&id).expect("it is parked").bytes = held(residue);
        }
        self.happen(event)
    }

    /// What a load is found to use: mostly as promised, sometimes less, nothing, more, or far too much.
    fn measured(&mut self, promised: &Memory) -> Memory {
        let private = promised.private;
        let private = match if self.is_kind { 0 } else { self.rng.between(0, 20) } {
            17 => private.part(0.5),
            18 => {
                let on_devices = private.minus(Bytes::host(u64::MAX));
                private + Bytes::host(self.rng.between(0, 30)) + on_devices.part(0.3)
            }
            19 if self.rng.chance(20) => private + Bytes::host(300),
            16 => return Memory::default(),
            _ => private,
        };
        Memory { private, mapped: promised.mapped.clone() }
    }

    fn a_load_gets_on(&mut self) -> Result<(), Broken> {
        let working = self.working();
        let Some((instance, _)) = self.rng.pick(&working) else { return Ok(()) };
        let fraction = self.rng.between(0, 101) as f32 / 100.0;
        self.happen(Event::LoadProgress { instance, fraction })
    }

    fn time_passes(&mut self) -> Result<(), Broken> {
        let longest = if self.rng.chance(5) { 2_000_000 } else { 3_000 };
        let passes = self.rng.between(1, longest);
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

    /// Background work begins or ends.
    fn someone_reserves_in_background(&mut self) -> Result<(), Broken> {
        let out: Vec<_> = self.background_reservations.keys().copied().collect();
        if let Some(ticket) = self.rng.pick(&out).filter(|_| self.rng.chance(50)) {
            return self.gives_back(ticket);
        }
        let ticket = TicketId(self.next_ticket);
        self.next_ticket += 1;
        let bytes = self.rng.between(1, 100);
        // What is due anyway is done before.
        self.happen(Event::Tick)?;
        self.happen(Event::BackgroundReservation { ticket, bytes })
    }

    pub(super) fn gives_back(&mut self, ticket: TicketId) -> Result<(), Broken> {
        self.background_reservations.remove(&ticket);
        self.happen(Event::Released { ticket, failed: None })
    }

    fn someone_pins(&mut self) -> Result<(), Broken> {
        let Some(model) = self.rng.pick(&self.specs) else { return Ok(()) };
        let ticket = self.ticket(None, true);
        if self.rng.chance(40) {
            self.happen(Event::Pin { ticket, model })
        } else {
            self.pinned.remove(&model.key);
            self.happen(Event::Unpin { ticket, model })
        }
    }

    fn someone_unloads(&mut self) -> Result<(), Broken> {
        let Some(model) = self.rng.pick(&self.specs) else { return Ok(()) };
        let ticket = self.ticket(None, true);
        if self.rng.chance(20) {
            self.pinned.clear();
            self.happen(Event::Clear { ticket })
        } else {
            self.pinned.remove(&model.key);
            self.happen(Event::Unload { ticket, name: model.name.clone() })
        }
    }

    fn the_machine_is_short(&mut self) -> Result<(), Broken> {
        let stall_percent = self.rng.between(0, 40) as f32;
        self.happen(Event::Pressure { available_bytes: u64::MAX, stall_percent })
    }

    fn an_instance_is_found_dead(&mut self) -> Result<(), Broken> {
        let ready: Vec<_> =
            self.instances.iter().filter(|(_, seen)| seen.is_ready).map(|(id, _)| *id).collect();
        let Some(instance) = self.rng.pick(&ready) else { return Ok(()) };
        let failure = Failure::new(ErrorKind::EngineFailed, "found dead");
        self.happen(Event::InstanceDied { instance, failure })
    }

    fn the_limits_change(&mut self) -> Result<(), Broken> {
        let mut config = self.state.config().clone();
        config.budget = Budget::fixed(self.rng.between(50, 200), "dice");
        for bytes in config.device_bytes.values_mut() {
            *bytes = self.of_devices.between(20, 120);
        }
        self.budget = config.budgets();
        self.allowance = self.state.ledger.used().max(self.budget);
        self.happen(Event::Configure { config: Box::new(config) })
    }

    fn the_pool_leaves(&mut self) -> Result<(), Broken> {
        self.is_leaving = true;
        self.pinned.clear();
        self.happen(Event::Shutdown)
    }

    pub(super) fn ticket(&mut self, deadline: Option<Millis>, wants_no_slot: bool) -> TicketId {
        let ticket = TicketId(self.next_ticket);
        self.next_ticket += 1;
        self.waiting.insert(ticket, Caller { deadline, wants_no_slot, asks: None });
        ticket
    }
}

fn held(private: Bytes) -> Memory {
    Memory { private, ..Memory::default() }
}

/// Loaded without the file that was made for it, it maps as much of its own.
fn all_of_its_own(memory: &mut Memory) {
    if let Some(made) = memory.mapped.remove(&FileId::MADE) {
        *memory.mapped.entry(FileId::OWN).or_default() += made;
    }
}
