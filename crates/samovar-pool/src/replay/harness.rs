//! The replay itself: requests from the trace, outcomes from a virtual engine, time from whichever comes next.

use std::collections::BTreeMap;
use std::sync::Arc;

use samovar_core::port::Millis;
use samovar_core::{Bytes, ErrorKind, Failure, Memory, ModelKey};

use super::costs::{Costs, Subject};
use super::log::Trace;
use super::report::Report;
use crate::ask::{AcquireRequest, ModelSpec};
use crate::config::PoolConfig;
use crate::decide::{PoolState, step};
use crate::lease::{GrantFacts, GrantKind};
use crate::protocol::{Effect, Event, InstanceId, TicketId};

/// Lives through the trace with a pool of these limits; `subjects` are what its models cost, in its order. Without
/// `can_park` nothing is parked, whatever the engines can do.
pub fn replay(trace: &Trace, subjects: &[Subject], config: &PoolConfig, can_park: bool) -> Report {
    let mut harness = Harness::new(trace, subjects, config.clone(), can_park);
    while let Some(next) = harness.next() {
        harness.live(next);
    }
    harness.report()
}

/// What happens next.
#[derive(Clone, Copy)]
enum Next {
    Request,
    EffectResult,
    Tick(Millis),
}

struct Harness<'a> {
    trace: &'a Trace,
    specs: Vec<Arc<ModelSpec>>,
    /// What models cost that are loaded because others need them.
    costs: BTreeMap<ModelKey, Costs>,
    state: PoolState,
    now: Millis,
    /// Requests that have come so far.
    came: usize,
    /// Requests that still have no answer, or have a slot.
    open: u64,
    /// Outcomes under way, each by its time and a number.
    agenda: BTreeMap<(Millis, u64), Event>,
    begun: u64,
    /// Instances, and where the outcome of a load is found on the agenda.
    instances: BTreeMap<InstanceId, (Costs, (Millis, u64))>,
    /// What each of them takes when it is ready.
    memories: BTreeMap<InstanceId, Memory>,
    waits_ms: Vec<u64>,
    report: Report,
}

impl<'a> Harness<'a> {
    fn new(trace: &'a Trace, subjects: &[Subject], config: PoolConfig, can_park: bool) -> Self {
        let costs = subjects.iter().map(|subject| (subject.spec.key.clone(), subject.costs)).collect();
        let spec = |subject: &Subject| {
            if can_park { Arc::clone(&subject.spec) } else { subject.spec.without_parking() }
        };
        Self {
            trace,
            specs: subjects.iter().map(spec).collect(),
            costs,
            state: PoolState::new(config, Millis(0)),
            now: Millis(0),
            came: 0,
            open: 0,
            agenda: BTreeMap::new(),
            begun: 0,
            instances: BTreeMap::new(),
            memories: BTreeMap::new(),
            waits_ms: Vec::new(),
            report: Report::default(),
        }
    }

    /// Outcomes before requests before time alone; nothing once every request has ended.
    fn next(&self) -> Option<Next> {
        let request = self.trace.requests.get(self.came).map(|request| (request.at, 1, Next::Request));
        if request.is_none() && self.open == 0 {
            return None;
        }
        let outcome = self.agenda.first_key_value().map(|((at, _), _)| (*at, 0, Next::EffectResult));
        let tick =
            self.state.next_wake().map(|at| at.max(self.now.plus(1))).map(|at| (at, 2, Next::Tick(at)));
        let soonest = [outcome, request, tick].into_iter().flatten();
        soonest.min_by_key(|(at, order, _)| (*at, *order)).map(|(_, _, next)| next)
    }

    fn live(&mut self, next: Next) {
        match next {
            Next::Tick(at) => {
                self.now = at;
                self.step(Event::Tick);
            }
            Next::EffectResult => {
                let Some(((at, _), event)) = self.agenda.pop_first() else { return };
                self.now = self.now.max(at);
                if matches!(event, Event::Released { .. }) {
                    self.open -= 1;
                }
                self.step(event);
            }
            Next::Request => {
                let request = &self.trace.requests[self.came];
                let ticket = TicketId(self.came as u64);
                self.came += 1;
                self.open += 1;
                self.now = self.now.max(request.at);
                let model = Arc::clone(&self.specs[request.model]);
                let ask = AcquireRequest { client: request.client.clone(), ..AcquireRequest::new(model) };
                self.step(Event::Request { ticket, ask });
            }
        }
    }

    fn step(&mut self, event: Event) {
        for effect in step(&mut self.state, event, self.now) {
            self.act(effect);
        }
    }

    /// What threads and callers would do, each in its time.
    fn act(&mut self, effect: Effect) {
        match effect {
            Effect::Load { instance, model, .. } => {
                let costs = self.costs.get(&model.key).copied().unwrap_or_else(|| Costs::of(&model));
                let layout = model.options.layout;
                let memory = costs.of_all(&model).memory;
                self.memories.insert(instance, memory.clone());
                let loaded = Event::Loaded { instance, memory, layout };
                let entry = self.after(costs.load_ms, loaded);
                self.instances.insert(instance, (costs, entry));
                self.report.load_ms += costs.load_ms;
            }
            Effect::StopLoad { instance } => {
                let Some((costs, entry)) = self.instances.get(&instance).copied() else { return };
                if self.agenda.remove(&entry).is_some() {
                    self.report.load_ms -= entry.0.since(self.now).min(costs.load_ms);
                    let failure = Failure::new(ErrorKind::Cancelled, "the load was stopped");
                    self.after(0, Event::LoadFailed { instance, failure });
                }
            }
            Effect::Park { instance, .. } => {
                let parked = |costs: Costs| Event::Parked { instance, left: Bytes::host(costs.parked_bytes) };
                self.answer(instance, |_| Costs::PARK_MS, parked);
            }
            Effect::Resume { instance, .. } => {
                let memory = self.memories.get(&instance).cloned().unwrap_or_default();
                let resumed = |_: Costs| Event::Resumed { instance, memory: memory.clone() };
                self.report.load_ms += self.answer(instance, |costs| costs.resume_ms, resumed);
            }
            Effect::Unload { instance } => {
                self.answer(instance, |_| Costs::UNLOAD_MS, |_| Event::Unloaded { instance });
                self.instances.remove(&instance);
                self.memories.remove(&instance);
            }
            Effect::Grant { ticket, facts, .. } => self.granted(ticket, facts),
            Effect::Refuse { .. } => {
                self.open -= 1;
                self.report.refused += 1;
            }
            // The virtual engine is always well.
            Effect::Probe { instance } => {
                self.answer(instance, |_| Costs::PROBE_MS, |_| Event::Probed { instance });
            }
            // No task listens; time comes by itself.
            Effect::Done { .. }
            | Effect::BackgroundReservation { .. }
            | Effect::WantBack { .. }
            | Effect::Tell { .. }
            | Effect::WakeAt { .. }
            | Effect::Record { .. } => {}
        }
    }

    fn granted(&mut self, ticket: TicketId, facts: GrantFacts) {
        *match facts.grant_kind {
            GrantKind::Hit => &mut self.report.ready,
            GrantKind::Parked => &mut self.report.parked,
            GrantKind::Joined => &mut self.report.joined,
            GrantKind::Cold => &mut self.report.loaded,
        } += 1;
        self.waits_ms.push(facts.queue_ms + facts.load_ms);
        let request = &self.trace.requests[ticket.0 as usize];
        self.after(request.hold_ms.unwrap_or(0), Event::Released { ticket, failed: None });
    }

    /// Has an instance answer after a while; returns how long that is.
    fn answer(
        &mut self,
        instance: InstanceId,
        ms: impl Fn(Costs) -> u64,
        event: impl Fn(Costs) -> Event,
    ) -> u64 {
        let Some((costs, _)) = self.instances.get(&instance).copied() else { return 0 };
        self.after(ms(costs), event(costs));
        ms(costs)
    }

    fn after(&mut self, ms: u64, event: Event) -> (Millis, u64) {
        self.begun += 1;
        let entry = (self.now.plus(ms), self.begun);
        self.agenda.insert(entry, event);
        entry
    }

    fn report(self) -> Report {
        let pool = self.state.snapshot(self.now).pool;
        let mut report = Report {
            requests: self.trace.requests.len() as u64,
            loads: pool.loads,
            resumes: pool.resumed,
            evictions: pool.evictions,
            ..self.report
        };
        report.waited(self.waits_ms);
        report
    }
}
