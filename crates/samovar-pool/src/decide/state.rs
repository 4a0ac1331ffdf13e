//! Everything that decisions rest on: models, their instances, who waits, who holds a lease.
//!
//! ```text
//!   Model ── queue ──► Ticket ──(granted)──► Lease
//!     └── instances ──► Instance (see `instance`)
//! ```
//!
//! Absent is a model without instances.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use samovar_core::port::Millis;
use samovar_core::units::KeepAlive;
use samovar_core::{Footprint, LoadOptions, ModelKey};

pub(super) use super::instance::{Farewell, Growth, Instance, Phase, covers};

use super::aside::Aside;
use super::eviction::Fame;
use super::health::Setback;
use super::ledger::Ledger;
use super::line::{Line, Who};
use super::placement::Pledge;
use crate::ask::{ModelSpec, Wait};
use crate::config::PoolConfig;
use crate::lease::Origin;
use crate::protocol::{InstanceId, TicketId};
use crate::stats::{MovingMean, Tally};

/// A model by the order in which the pool came to know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ModelId(pub(super) u64);

/// Everything that decisions rest on. Changed by [`step`](super::step) alone.
#[derive(Clone, Debug)]
pub struct PoolState {
    pub(super) config: PoolConfig,
    pub(super) can_park: bool,
    pub(super) started: Millis,
    pub(super) is_leaving: bool,
    pub(super) keys: BTreeMap<ModelKey, ModelId>,
    pub(super) models: BTreeMap<ModelId, Model>,
    pub(super) instances: BTreeMap<InstanceId, Instance>,
    pub(super) tickets: BTreeMap<TicketId, Ticket>,
    pub(super) leases: BTreeMap<TicketId, Lease>,
    /// Memory that is set aside for work in the background.
    pub(super) asides: BTreeMap<TicketId, Aside>,
    pub(super) ledger: Ledger,
    /// Models that wait for memory.
    pub(super) wants: BTreeSet<ModelId>,
    /// Models of several instances that may want another one.
    pub(super) crews: BTreeSet<ModelId>,
    /// Instances that will leave for a model that waits.
    pub(super) pledges: BTreeMap<InstanceId, Pledge>,
    pub(super) timers: BTreeSet<(Millis, Timer)>,
    /// When to look at wants and pledges again although nothing has happened.
    pub(super) review_at: Option<Millis>,
    /// The wake-up that was asked for last.
    pub(super) asked_wake: Option<Millis>,
    /// The age of the GDSF policy.
    pub(super) age: f64,
    pub(super) tally: Tally,
    pub(super) next_model: u64,
    pub(super) next_instance: u64,
    /// Of the pool's own tickets, counted down.
    next_own_ticket: u64,
}

/// What is due at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Timer {
    /// A ticket must be answered.
    Deadline(TicketId),
    /// A keep-alive, or the time of a parked instance, is over.
    Idle(InstanceId),
    /// A model may be tried again, or its failures may be forgotten.
    Setback(ModelId),
    /// An idle instance is to show that it lives.
    Probe(InstanceId),
    /// Those who wait may hear of their places again.
    Tell(ModelId),
}

/// A model that the pool has heard of.
#[derive(Clone, Debug)]
pub(super) struct Model {
    pub(super) spec: Arc<ModelSpec>,
    /// Who waits for a slot.
    pub(super) queue: Line,
    /// Who found no place while others wait.
    pub(super) turned_away: BTreeMap<Who, TurnedAway>,
    /// Who waits for it to be ready, without wanting a slot: by the time of coming, then by number.
    pub(super) warms: BTreeSet<(u64, TicketId)>,
    pub(super) instances: BTreeSet<InstanceId>,
    /// All that it needs beside it, and how.
    pub(super) members: Vec<(ModelId, Arc<ModelSpec>)>,
    /// The spec that says so.
    pub(super) grouped_by: Option<Arc<ModelSpec>>,
    /// Models that need it.
    pub(super) needed_by: BTreeSet<ModelId>,
    pub(super) is_pinned: bool,
    /// It is to have all its instances: somebody asked for it since one of them was let go.
    pub(super) is_kept: bool,
    pub(super) setback: Option<Setback>,
    /// What a load with these options was measured to cost.
    pub(super) learned: Option<(LoadOptions, Footprint)>,
    /// What a parked instance was measured to hold.
    pub(super) residue: Option<u64>,
    /// How long leases are held.
    pub(super) hold: MovingMean,
    /// How long resumes take.
    pub(super) resume: MovingMean,
    /// When those who wait hear of their places, if that is due.
    pub(super) tell_at: Option<Millis>,
    /// How often it is used of late.
    pub(super) fame: Fame,
    pub(super) tally: Tally,
    pub(super) last_asked: Millis,
    pub(super) last_refusal_noted: Option<Millis>,
}

/// Somebody who found no place, and was told when to come again.
#[derive(Clone, Copy, Debug)]
pub(super) struct TurnedAway {
    /// When it asked first.
    pub(super) first: Millis,
    /// When it was turned away last.
    pub(super) last: Millis,
}

impl TurnedAway {
    /// Nobody is told to stay away for longer than half of this: who has not come by then has given up.
    const GIVEN_UP_AFTER_MS: u64 = 120_000;

    /// Whether it may still come again.
    pub(super) fn is_expected(&self, now: Millis) -> bool {
        now.since(self.last) < Self::GIVEN_UP_AFTER_MS
    }
}

/// Somebody who waits.
#[derive(Clone, Debug)]
pub(super) struct Ticket {
    pub(super) model: ModelId,
    pub(super) spec: Arc<ModelSpec>,
    /// Who asks.
    pub(super) who: Who,
    /// The time of coming less the head start.
    pub(super) place: u64,
    /// Or only wants the model ready.
    pub(super) wants_slot: bool,
    pub(super) asked_at: Millis,
    /// From when it counts as waiting (see `seniority`): its coming, or the end of the last turn of its model.
    pub(super) counts_from: Millis,
    pub(super) deadline: Option<Millis>,
    pub(super) keep_alive: KeepAlive,
    pub(super) origin: Origin,
    pub(super) affinity: Option<u64>,
    /// What it was told last, and when.
    pub(super) told: Option<(Wait, Millis)>,
}

/// Somebody who is served.
#[derive(Clone, Debug)]
pub(super) struct Lease {
    pub(super) instance: InstanceId,
    /// Instances of what the model needs.
    pub(super) members: Vec<InstanceId>,
    pub(super) granted_at: Millis,
}

impl PoolState {
    /// A pool that holds nothing.
    pub fn new(config: PoolConfig, can_park: bool, now: Millis) -> Self {
        Self {
            ledger: Ledger::new(config.budget.bytes),
            config,
            can_park,
            started: now,
            is_leaving: false,
            keys: BTreeMap::new(),
            models: BTreeMap::new(),
            instances: BTreeMap::new(),
            tickets: BTreeMap::new(),
            leases: BTreeMap::new(),
            asides: BTreeMap::new(),
            wants: BTreeSet::new(),
            crews: BTreeSet::new(),
            pledges: BTreeMap::new(),
            timers: BTreeSet::new(),
            review_at: None,
            asked_wake: None,
            age: 0.0,
            tally: Tally::default(),
            next_model: 1,
            next_instance: 1,
            next_own_ticket: u64::MAX,
        }
    }

    /// The limits that hold.
    pub fn config(&self) -> &PoolConfig {
        &self.config
    }

    /// Whether nothing is in memory, nobody waits and no lease is out.
    pub fn is_empty(&self) -> bool {
        self.instances.is_empty() && self.tickets.is_empty() && self.leases.is_empty()
    }

    /// Whether this ticket is a lease, or memory that is set aside.
    pub fn is_out(&self, ticket: TicketId) -> bool {
        self.leases.contains_key(&ticket) || self.asides.contains_key(&ticket)
    }

    /// When a `Tick` is due, if nothing happens before.
    pub fn next_wake(&self) -> Option<Millis> {
        let timer = self.timers.first().map(|(at, _)| *at);
        timer.into_iter().chain(self.review_at).min()
    }

    pub(super) fn model(&self, id: ModelId) -> &Model {
        self.models.get(&id).expect("invariant: a model outlives what names it")
    }

    pub(super) fn model_mut(&mut self, id: ModelId) -> &mut Model {
        self.models.get_mut(&id).expect("invariant: a model outlives what names it")
    }

    pub(super) fn instance(&self, id: InstanceId) -> &Instance {
        self.instances.get(&id).expect("invariant: an instance outlives what names it")
    }

    pub(super) fn instance_mut(&mut self, id: InstanceId) -> &mut Instance {
        self.instances.get_mut(&id).expect("invariant: an instance outlives what names it")
    }

    /// The model's instances, oldest first.
    pub(super) fn instances_of(&self, model: ModelId) -> impl Iterator<Item = (InstanceId, &Instance)> {
        self.model(model).instances.iter().map(|id| (*id, self.instance(*id)))
    }

    /// Those of the model's instances that are not about to leave.
    pub(super) fn staying(&self, model: ModelId) -> impl Iterator<Item = (InstanceId, &Instance)> {
        self.instances_of(model).filter(|(_, instance)| instance.stays())
    }

    /// A ticket of the pool itself, which nobody hears of.
    pub(super) fn own_ticket(&mut self) -> TicketId {
        self.next_own_ticket -= 1;
        TicketId(self.next_own_ticket)
    }

    /// Whether the pool itself asked.
    pub(super) fn is_own(ticket: TicketId) -> bool {
        ticket.0 > u64::MAX / 2
    }

    /// Counts something for the model and in all.
    pub(super) fn count(&mut self, model: ModelId, add: impl Fn(&mut Tally)) {
        add(&mut self.tally);
        add(&mut self.model_mut(model).tally);
    }

    /// The number of a model, which it gets when it is first heard of.
    pub(super) fn know(&mut self, spec: &Arc<ModelSpec>, now: Millis) -> ModelId {
        let id = self.know_alone(spec, now);
        let known = self.model(id).grouped_by.as_ref();
        if known.map_or(!spec.needs.is_empty(), |known| !Arc::ptr_eq(known, spec)) {
            self.know_group(id, spec, now);
        }
        id
    }

    /// The same, without what it needs.
    pub(super) fn know_alone(&mut self, spec: &Arc<ModelSpec>, now: Millis) -> ModelId {
        if let Some(id) = self.keys.get(&spec.key).copied() {
            let model = self.model_mut(id);
            model.last_asked = now;
            if !Arc::ptr_eq(&model.spec, spec) {
                model.spec = Arc::clone(spec);
            }
            return id;
        }
        self.forget_one_beyond_the_bound(now);
        let id = ModelId(self.next_model);
        self.next_model += 1;
        self.keys.insert(spec.key.clone(), id);
        self.models.insert(id, Model::new(Arc::clone(spec), now));
        id
    }

    fn forget_one_beyond_the_bound(&mut self, now: Millis) {
        if self.models.len() < self.config.models_max as usize {
            return;
        }
        let forgettable = self.models.iter().filter(|(_, model)| model.is_forgettable(now));
        let oldest = forgettable.min_by_key(|(id, model)| (model.last_asked, **id)).map(|(id, _)| *id);
        let Some((id, forgotten)) = oldest.and_then(|id| Some((id, self.models.remove(&id)?))) else {
            return;
        };
        self.keys.remove(&forgotten.spec.key);
        for (member, _) in forgotten.members {
            if let Some(member) = self.models.get_mut(&member) {
                member.needed_by.remove(&id);
            }
        }
    }
}

impl Model {
    fn new(spec: Arc<ModelSpec>, now: Millis) -> Self {
        Self {
            spec,
            queue: Line::default(),
            turned_away: BTreeMap::new(),
            warms: BTreeSet::new(),
            instances: BTreeSet::new(),
            members: Vec::new(),
            grouped_by: None,
            needed_by: BTreeSet::new(),
            is_pinned: false,
            is_kept: false,
            setback: None,
            learned: None,
            residue: None,
            hold: MovingMean::default(),
            resume: MovingMean::default(),
            tell_at: None,
            fame: Fame::default(),
            tally: Tally::default(),
            last_asked: now,
            last_refusal_noted: None,
        }
    }

    /// Where nobody waits, everybody finds a place.
    pub(super) fn forget_turned_away(&mut self) {
        if self.queue.is_empty() {
            self.turned_away.clear();
        }
    }

    pub(super) fn has_waiting(&self) -> bool {
        !self.queue.is_empty() || !self.warms.is_empty()
    }

    /// Everybody who waits, in the order of being served.
    pub(super) fn waiting(&self) -> Vec<TicketId> {
        let warms = self.warms.iter().map(|(_, ticket)| *ticket);
        match (self.warms.first(), self.queue.first()) {
            (Some(warm), Some(first)) if *warm < first => warms.chain(self.queue.in_order()).collect(),
            _ => self.queue.in_order().into_iter().chain(warms).collect(),
        }
    }

    /// How many wait.
    pub(super) fn waiting_count(&self) -> u32 {
        (self.queue.len() + self.warms.len()) as u32
    }

    /// What was asked for at this very moment may be about to be used.
    fn is_forgettable(&self, now: Millis) -> bool {
        let is_in_use = !self.instances.is_empty() || self.has_waiting() || self.is_pinned;
        let is_due = self.setback.is_some() || self.tell_at.is_some();
        !is_in_use && !is_due && self.needed_by.is_empty() && self.last_asked != now
    }

    /// What loading it so is expected to cost: what was measured, else what the engine predicted.
    pub(super) fn expected(&self, spec: &ModelSpec) -> Footprint {
        match &self.learned {
            Some((options, measured)) if *options == spec.options => *measured,
            _ => spec.footprint,
        }
    }
}
