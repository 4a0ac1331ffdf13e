//! Everything that decisions rest on: models, their instances, who waits, who holds a lease. Data, which knows no rule.
//!
//! ```text
//!   Model ── queue ──► Ticket ──(granted)──► Lease
//!     └── instances ──► Instance (see `instance`)
//! ```
//!
//! Absent is a model without instances.

mod backoff;
mod fair_queue;
mod group;
mod instance;
mod instance_health;
mod ledger;
mod usage_rate;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use samovar_core::port::Millis;
use samovar_core::units::KeepAlive;
use samovar_core::{Bytes, LoadOptions, Memory, ModelKey};

pub(in crate::decide) use backoff::Backoff;
pub(in crate::decide) use fair_queue::{DEPTH, FairQueue, Who};
pub(in crate::decide) use group::is_there;
pub(in crate::decide) use instance::{ExitReason, Growth, Instance, Phase, covers};
pub(in crate::decide) use instance_health::InstanceHealth;
pub(in crate::decide) use ledger::Ledger;
pub(in crate::decide) use usage_rate::UsageRate;

use crate::ask::{ModelSpec, Wait};
use crate::config::PoolConfig;
use crate::lease::GrantKind;
use crate::protocol::{InstanceId, TicketId};
use crate::stats::{MovingMean, Tally};

/// A model by the order in which the pool came to know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::decide) struct ModelId(pub(in crate::decide) u64);

/// Everything that decisions rest on. Changed by [`step`](super::step) alone.
#[derive(Clone, Debug)]
pub struct PoolState {
    pub(in crate::decide) config: PoolConfig,
    pub(in crate::decide) started: Millis,
    pub(in crate::decide) is_leaving: bool,
    pub(in crate::decide) keys: BTreeMap<ModelKey, ModelId>,
    pub(in crate::decide) models: BTreeMap<ModelId, Model>,
    pub(in crate::decide) instances: BTreeMap<InstanceId, Instance>,
    pub(in crate::decide) tickets: BTreeMap<TicketId, Ticket>,
    pub(in crate::decide) leases: BTreeMap<TicketId, LeaseRecord>,
    /// Memory that is set aside for work in the background.
    pub(in crate::decide) background_reservations: BTreeMap<TicketId, Background>,
    pub(in crate::decide) ledger: Ledger,
    /// Models whose demand waits for memory.
    pub(in crate::decide) awaiting_memory: BTreeSet<ModelId>,
    /// Models of several instances that may want another one.
    pub(in crate::decide) crews: BTreeSet<ModelId>,
    /// Instances that will leave for a model that waits.
    pub(in crate::decide) deferred_evictions: BTreeMap<InstanceId, DeferredEviction>,
    pub(in crate::decide) timers: BTreeSet<(Millis, Timer)>,
    /// When to look at demands and deferred evictions again although nothing has happened.
    pub(in crate::decide) review_at: Option<Millis>,
    /// The wake-up that was asked for last.
    pub(in crate::decide) asked_wake: Option<Millis>,
    /// The age of the GDSF policy.
    pub(in crate::decide) age: f64,
    pub(in crate::decide) tally: Tally,
    pub(in crate::decide) next_model: u64,
    pub(in crate::decide) next_instance: u64,
    /// Of the pool's own tickets, counted down.
    next_own_ticket: u64,
}

/// A promise to leave for a model that waits.
#[derive(Clone, Copy, Debug)]
pub(in crate::decide) struct DeferredEviction {
    pub(in crate::decide) beneficiary: ModelId,
    /// Closed to new grants from then on.
    pub(in crate::decide) at: Millis,
}

/// Memory that is out, for work in the background.
#[derive(Clone, Copy, Debug)]
pub(in crate::decide) struct Background {
    /// On the host.
    pub(in crate::decide) bytes: u64,
    pub(in crate::decide) is_wanted_back: bool,
}

/// What is due at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::decide) enum Timer {
    /// A ticket must be answered.
    Deadline(TicketId),
    /// A keep-alive, or the time of a parked instance, is over.
    Idle(InstanceId),
    /// A model may be tried again, or its failures may be forgotten.
    Backoff(ModelId),
    /// An idle instance is to show that it lives.
    Probe(InstanceId),
    /// Those who wait may hear of their places again.
    Tell(ModelId),
}

/// A model that the pool has heard of.
#[derive(Clone, Debug)]
pub(in crate::decide) struct Model {
    pub(in crate::decide) spec: Arc<ModelSpec>,
    /// Who waits for a slot.
    pub(in crate::decide) queue: FairQueue,
    /// Who found no place while others wait.
    pub(in crate::decide) turned_away: BTreeMap<Who, TurnedAway>,
    /// Who waits for it to be ready, without wanting a slot: by the time of coming, then by number.
    pub(in crate::decide) warms: BTreeSet<(u64, TicketId)>,
    pub(in crate::decide) instances: BTreeSet<InstanceId>,
    /// All that it needs beside it, and how.
    pub(in crate::decide) members: Vec<(ModelId, Arc<ModelSpec>)>,
    /// The spec that says so. `None` where a need was let pass that may be taken in later.
    pub(in crate::decide) grouped_by: Option<Arc<ModelSpec>>,
    /// Models that need it.
    pub(in crate::decide) needed_by: BTreeSet<ModelId>,
    pub(in crate::decide) is_pinned: bool,
    /// It is to have all its instances: a request came for it since one of them was let go.
    pub(in crate::decide) is_kept: bool,
    pub(in crate::decide) backoff: Option<Backoff>,
    /// What a load with these options was measured to cost.
    pub(in crate::decide) learned: Option<(LoadOptions, Memory)>,
    /// What a parked instance was measured to hold.
    pub(in crate::decide) residue: Option<Bytes>,
    /// How long leases are held.
    pub(in crate::decide) hold: MovingMean,
    /// How long resumes take.
    pub(in crate::decide) resume: MovingMean,
    /// When those who wait hear of their places, if that is due.
    pub(in crate::decide) tell_at: Option<Millis>,
    /// How often it is used of late.
    pub(in crate::decide) usage_rate: UsageRate,
    pub(in crate::decide) tally: Tally,
    pub(in crate::decide) last_asked: Millis,
    pub(in crate::decide) last_refusal_noted: Option<Millis>,
}

/// A request that found no place, and was told when to come again.
#[derive(Clone, Copy, Debug)]
pub(in crate::decide) struct TurnedAway {
    /// When it asked first.
    pub(in crate::decide) first: Millis,
    /// When it was turned away last.
    pub(in crate::decide) last: Millis,
}

impl TurnedAway {
    /// No client is told to stay away for longer than half of this: one that has not come by then has given up.
    const GIVEN_UP_AFTER_MS: u64 = 120_000;

    /// Whether it may still come again.
    pub(in crate::decide) fn is_expected(&self, now: Millis) -> bool {
        now.since(self.last) < Self::GIVEN_UP_AFTER_MS
    }
}

/// A request that waits.
#[derive(Clone, Debug)]
pub(in crate::decide) struct Ticket {
    pub(in crate::decide) model: ModelId,
    pub(in crate::decide) spec: Arc<ModelSpec>,
    /// Who asks.
    pub(in crate::decide) who: Who,
    /// The time of coming less the head start.
    pub(in crate::decide) place: u64,
    /// Or only wants the model ready.
    pub(in crate::decide) wants_slot: bool,
    pub(in crate::decide) asked_at: Millis,
    /// From when it counts as waiting (see `oldest_first`): its coming, or the end of the last turn of its model.
    pub(in crate::decide) counts_from: Millis,
    pub(in crate::decide) deadline: Option<Millis>,
    pub(in crate::decide) keep_alive: KeepAlive,
    pub(in crate::decide) grant_kind: GrantKind,
    pub(in crate::decide) affinity: Option<u64>,
    /// What it was told last, and when.
    pub(in crate::decide) told: Option<(Wait, Millis)>,
}

/// A request that is served.
#[derive(Clone, Debug)]
pub(in crate::decide) struct LeaseRecord {
    pub(in crate::decide) instance: InstanceId,
    /// Instances of what the model needs.
    pub(in crate::decide) members: Vec<InstanceId>,
    pub(in crate::decide) granted_at: Millis,
}

impl PoolState {
    /// A pool that holds nothing.
    pub fn new(config: PoolConfig, now: Millis) -> Self {
        Self {
            ledger: Ledger::new(config.budgets()),
            config,
            started: now,
            is_leaving: false,
            keys: BTreeMap::new(),
            models: BTreeMap::new(),
            instances: BTreeMap::new(),
            tickets: BTreeMap::new(),
            leases: BTreeMap::new(),
            background_reservations: BTreeMap::new(),
            awaiting_memory: BTreeSet::new(),
            crews: BTreeSet::new(),
            deferred_evictions: BTreeMap::new(),
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

    /// Whether nothing is in memory, no request waits and no lease is out.
    pub fn is_empty(&self) -> bool {
        self.instances.is_empty() && self.tickets.is_empty() && self.leases.is_empty()
    }

    /// Whether this ticket is a lease, or memory that is set aside.
    pub fn is_out(&self, ticket: TicketId) -> bool {
        self.leases.contains_key(&ticket) || self.background_reservations.contains_key(&ticket)
    }

    /// The instance that serves this lease, what it is, and its private bytes by the pool's count; `None` while they are those of
    /// what it is to become.
    pub fn weighable(&self, ticket: TicketId) -> Option<(InstanceId, &ModelSpec, Bytes)> {
        let id = self.leases.get(&ticket)?.instance;
        let instance = self.instances.get(&id).filter(|instance| instance.is_steady())?;
        Some((id, &instance.spec, self.ledger.memory_with_debt(id).private))
    }

    /// Whether any lease is out, or memory is set aside.
    pub fn is_in_use(&self) -> bool {
        !self.leases.is_empty() || !self.background_reservations.is_empty()
    }

    /// When a `Tick` is due, if nothing happens before.
    pub fn next_wake(&self) -> Option<Millis> {
        let timer = self.timers.first().map(|(at, _)| *at);
        timer.into_iter().chain(self.review_at).min()
    }

    pub(in crate::decide) fn model(&self, id: ModelId) -> &Model {
        self.models.get(&id).expect("invariant: a model outlives what names it")
    }

    pub(in crate::decide) fn model_mut(&mut self, id: ModelId) -> &mut Model {
        self.models.get_mut(&id).expect("invariant: a model outlives what names it")
    }

    pub(in crate::decide) fn instance(&self, id: InstanceId) -> &Instance {
        self.instances.get(&id).expect("invariant: an instance outlives what names it")
    }

    pub(in crate::decide) fn instance_mut(&mut self, id: InstanceId) -> &mut Instance {
        self.instances.get_mut(&id).expect("invariant: an instance outlives what names it")
    }

    /// The model's instances, oldest first.
    pub(in crate::decide) fn instances_of(
        &self,
        model: ModelId,
    ) -> impl Iterator<Item = (InstanceId, &Instance)> {
        self.model(model).instances.iter().map(|id| (*id, self.instance(*id)))
    }

    /// Those of the model's instances that are not about to leave.
    pub(in crate::decide) fn staying(&self, model: ModelId) -> impl Iterator<Item = (InstanceId, &Instance)> {
        self.instances_of(model).filter(|(_, instance)| instance.stays())
    }

    /// A ticket of the pool itself, which no caller hears of.
    pub(in crate::decide) fn own_ticket(&mut self) -> TicketId {
        self.next_own_ticket -= 1;
        TicketId(self.next_own_ticket)
    }

    /// Whether the pool itself asked.
    pub(in crate::decide) fn is_own(ticket: TicketId) -> bool {
        ticket.0 > u64::MAX / 2
    }

    /// Counts something for the model and in all.
    pub(in crate::decide) fn count(&mut self, model: ModelId, add: impl Fn(&mut Tally)) {
        add(&mut self.tally);
        add(&mut self.model_mut(model).tally);
    }

    /// The number of a model, which it gets when it is first heard of.
    pub(in crate::decide) fn know(&mut self, spec: &Arc<ModelSpec>, now: Millis) -> ModelId {
        let id = self.know_alone(spec, now);
        let Model { grouped_by, members, .. } = self.model(id);
        let is_grouped = match grouped_by {
            Some(grouped_by) => grouped_by.needs == spec.needs,
            None => spec.needs.is_empty() && members.is_empty(),
        };
        if !is_grouped {
            self.know_group(id, spec, now);
        }
        id
    }

    /// The same, without what it needs. What a single request asks for beyond the usual is not kept.
    pub(in crate::decide) fn know_alone(&mut self, spec: &Arc<ModelSpec>, now: Millis) -> ModelId {
        let spec = spec.usual.as_ref().unwrap_or(spec);
        if let Some(id) = self.keys.get(&spec.key).copied() {
            let model = self.model_mut(id);
            model.last_asked = now;
            model.spec = Arc::clone(spec);
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
            queue: FairQueue::default(),
            turned_away: BTreeMap::new(),
            warms: BTreeSet::new(),
            instances: BTreeSet::new(),
            members: Vec::new(),
            grouped_by: None,
            needed_by: BTreeSet::new(),
            is_pinned: false,
            is_kept: false,
            backoff: None,
            learned: None,
            residue: None,
            hold: MovingMean::default(),
            resume: MovingMean::default(),
            tell_at: None,
            usage_rate: UsageRate::default(),
            tally: Tally::default(),
            last_asked: now,
            last_refusal_noted: None,
        }
    }

    /// Where none waits, each request finds a place.
    pub(in crate::decide) fn forget_turned_away(&mut self) {
        if self.queue.is_empty() {
            self.turned_away.clear();
        }
    }

    pub(in crate::decide) fn has_waiting(&self) -> bool {
        !self.queue.is_empty() || !self.warms.is_empty()
    }

    /// All that wait, in the order of being served.
    pub(in crate::decide) fn waiting(&self) -> Vec<TicketId> {
        let warms = self.warms.iter().map(|(_, ticket)| *ticket);
        match (self.warms.first(), self.queue.first()) {
            (Some(warm), Some(first)) if *warm < first => warms.chain(self.queue.in_order()).collect(),
            _ => self.queue.in_order().into_iter().chain(warms).collect(),
        }
    }

    /// Who is served first of all who wait.
    pub(in crate::decide) fn first_waiting(&self) -> Option<TicketId> {
        let warm = self.warms.first().copied();
        let queued = self.queue.first();
        let first = match (warm, queued) {
            (Some(warm), Some(queued)) => Some(if warm < queued { warm } else { queued }),
            (warm, queued) => queued.or(warm),
        };
        first.map(|(_, ticket)| ticket)
    }

    /// How many wait.
    pub(in crate::decide) fn waiting_count(&self) -> u32 {
        (self.queue.len() + self.warms.len()) as u32
    }

    /// What was asked for at this very moment may be about to be used.
    fn is_forgettable(&self, now: Millis) -> bool {
        let is_in_use = !self.instances.is_empty() || self.has_waiting() || self.is_pinned;
        let is_due = self.backoff.is_some() || self.tell_at.is_some();
        !is_in_use && !is_due && self.needed_by.is_empty() && self.last_asked != now
    }

    /// What loading it so is expected to cost: what was measured, else what the engine predicted.
    pub(in crate::decide) fn expected<'a>(&'a self, spec: &'a ModelSpec) -> &'a Memory {
        match &self.learned {
            Some((options, measured)) if *options == spec.options => measured,
            _ => &spec.cost.memory,
        }
    }
}
