//! The steps towards what those who wait ask of a model's instances: that one is loaded, resumed, or made larger.
//!
//! ```text
//!   asked for ≤ an instance that serves or comes ───► nothing: its turn will come
//!             ≤ nothing that there is ──► resume a parked one │ grow a ready one │ load one where there is none
//! ```
//!
//! What is asked for is merged: the longest context and the most slots of all that fit together, so that clients that ask
//! for different sizes do not take turns in having the model reloaded.

use std::sync::Arc;

use samovar_core::{Bytes, Cost, LoadOptions, Memory};

use crate::ask::ModelSpec;
use crate::decide::state::{Instance, ModelId, Phase, PoolState, covers};
use crate::decide::view::{Demand, View};
use crate::decision::Reason;
use crate::protocol::{InstanceId, TicketId};

/// One step towards serving who waits; it takes memory.
#[derive(Clone, Debug)]
pub(in crate::decide) enum Step {
    Load(ModelId, Arc<ModelSpec>),
    /// Of a parked instance, with the options of this spec.
    Resume(InstanceId, Arc<ModelSpec>),
    /// Of a ready instance, to the options of this spec.
    Grow(InstanceId, Arc<ModelSpec>),
}

impl Step {
    /// The instance that is there already.
    pub(in crate::decide) fn instance(&self) -> Option<InstanceId> {
        match self {
            Self::Load(..) => None,
            Self::Resume(id, _) | Self::Grow(id, _) => Some(*id),
        }
    }
}

impl View<'_> {
    /// What must be placed for the model's demand: all of it or nothing. Empty when all is under way; `None`
    /// while something must be gone first, or is kept for a request that has waited longer.
    ///
    /// Where the group does not fit with all that is asked for merged, it is placed with no more than each part must have.
    pub(in crate::decide) fn steps(&self, model: ModelId) -> Option<Vec<Step>> {
        let Some(demand) = self.demand(model) else { return Some(Vec::new()) };
        let generous = self.steps_of(&demand, false);
        let fits = |steps: &[Step]| self.largest_for(model).covers(self.taken_by(&demand, steps));
        generous.filter(|steps| fits(steps)).or_else(|| self.steps_of(&demand, true))
    }

    fn steps_of(&self, demand: &Demand, is_modest: bool) -> Option<Vec<Step>> {
        let older = self.demands_before(demand.since);
        let unmet = demand.parts.iter().filter(|(part, need)| !self.is_met(*part, need));
        let steps = unmet.map(|(part, need)| {
            let step = self.lacks(*part, need, is_modest)?;
            let (model, spec) = self.becomes(&step);
            let is_free = !self.is_promised_otherwise(&older, model, step.instance(), spec);
            is_free.then_some(step)
        });
        steps.collect()
    }

    /// Bytes of all parts, once these have been placed.
    fn taken_by(&self, demand: &Demand, steps: &[Step]) -> Bytes {
        let of_part = |(part, need): &(ModelId, Arc<ModelSpec>)| {
            let placed = steps.iter().map(|step| (step, self.becomes(step)));
            if let Some((step, (_, spec))) = placed.into_iter().find(|(_, (model, _))| model == part) {
                let expected = self.state.model(*part).expected(spec);
                let keeps = step.instance().map_or(Bytes::NONE, |id| self.kept_through_resume(id));
                return self.needed_alone(*part, spec) + keeps.minus(expected.private);
            }
            let meet = self.state.staying(*part).filter(|(_, instance)| instance.will_satisfy(need));
            let smallest = meet.map(|(id, _)| self.state.ledger.memory(id).total()).reduce(Bytes::min);
            smallest.unwrap_or_default().max(self.needed_alone(*part, need))
        };
        demand.parts.iter().map(of_part).sum()
    }

    fn lacks(&self, model: ModelId, unmet: &Arc<ModelSpec>, is_modest: bool) -> Option<Step> {
        let is_absent = self.state.model(model).instances.is_empty();
        if is_absent {
            return Some(Step::Load(model, self.wanted_spec(model, None, unmet, is_modest)));
        }
        let candidates = self.state.staying(model).filter(|(id, instance)| {
            let can_become_it = !self.is_growth_blocked(instance) || instance.satisfies(unmet);
            let is_cheap = !is_modest || self.is_growth_blocked(instance) || self.can_become(*id, unmet);
            can_become_it && is_cheap && self.can_be_resized(*id, instance)
        });
        let steps = candidates.map(|(id, instance)| {
            let stays_as_it_is = self.is_growth_blocked(instance)
                && self.does_not_fit(model, &instance.spec).is_none()
                && self.fits_in_groups(model, &instance.spec);
            let spec = if stays_as_it_is {
                Arc::clone(&instance.spec)
            } else {
                self.wanted_spec(model, Some(&instance.spec), unmet, is_modest)
            };
            let step = match instance.phase {
                Phase::Parked => Step::Resume(id, spec),
                _ => Step::Grow(id, spec),
            };
            (self.cost(&step).sum(), instance.leases, id, step)
        });
        let cheapest = steps.min_by_key(|(cost, leases, id, _)| (*cost, *leases, *id));
        cheapest.map(|(.., step)| step)
    }

    /// Whether a request asks for what nothing meets that serves or comes.
    pub(in crate::decide) fn has_unmet(&self, model: ModelId) -> bool {
        self.asked_for(model).iter().any(|asked| !self.is_met(model, asked))
    }

    /// Whether all that the model's demand takes serves or comes: nothing is to be placed.
    pub(in crate::decide) fn is_under_way(&self, model: ModelId) -> bool {
        self.demand(model)
            .is_none_or(|demand| demand.parts.iter().all(|(part, need)| self.is_met(*part, need)))
    }

    pub(in crate::decide) fn is_met(&self, model: ModelId, asked: &ModelSpec) -> bool {
        self.is_met_beside(model, asked, None)
    }

    /// Whether another instance than this one is what is asked for.
    pub(in crate::decide) fn is_met_beside(
        &self,
        model: ModelId,
        asked: &ModelSpec,
        id: Option<InstanceId>,
    ) -> bool {
        let mut others = self.state.staying(model).filter(|(other, _)| Some(*other) != id);
        others.any(|(_, instance)| is_or_comes(instance) && instance.will_satisfy(asked))
    }

    /// Whether no waiting request needs this instance to become more than it is.
    pub(in crate::decide) fn is_as_large_as_wanted(&self, id: InstanceId, model: ModelId) -> bool {
        let own = self.state.instance(id);
        let is_met =
            |asked: &Arc<ModelSpec>| own.satisfies(asked) || self.is_met_beside(model, asked, Some(id));
        self.asked_for(model).iter().all(is_met)
    }

    /// What those who wait for the model, or for models that need it, want it to be, oldest first.
    fn asked_for(&self, model: ModelId) -> Vec<Arc<ModelSpec>> {
        let since = |id: TicketId| self.since(id);
        let of_model = self.state.model(model);
        let own = of_model.waiting().into_iter().map(|id| (since(id), &self.state.tickets[&id].spec));
        let dependents = of_model.needed_by.iter().map(|id| self.state.model(*id));
        let groups = dependents.filter_map(|dependent| {
            let since = dependent.waiting().into_iter().map(since).min()?;
            let (_, asked) = dependent.members.iter().find(|(member, _)| *member == model)?;
            Some((since, asked))
        });
        let mut all: Vec<_> = own.chain(groups).collect();
        all.sort_by_key(|(since, _)| *since);
        all.into_iter().map(|(_, asked)| Arc::clone(asked)).collect()
    }

    /// Whether this instance, made what is needed, would count for no more than one loaded for it: the two may be
    /// of different layouts, and what is parked may hold more than the other would.
    pub(in crate::decide) fn can_become(&self, id: InstanceId, need: &Arc<ModelSpec>) -> bool {
        let instance = self.state.instance(id);
        let costs = |spec: &ModelSpec| self.state.model(instance.model).expected(spec).clone();
        let becomes = costs(&self.resized(instance.model, &instance.spec, need, &need.options));
        let private = becomes.private.max(self.kept_through_resume(id));
        costs(need).total().covers(private + becomes.mapped_bytes())
    }

    /// What a parked instance holds, and will hold whatever it becomes.
    fn kept_through_resume(&self, id: InstanceId) -> Bytes {
        match self.state.instance(id).phase {
            Phase::Parked => self.state.ledger.memory(id).private,
            _ => Bytes::NONE,
        }
    }

    fn can_be_resized(&self, id: InstanceId, instance: &Instance) -> bool {
        let is_parked = instance.phase == Phase::Parked;
        let can_park = instance.spec.capabilities.can_park;
        let can_grow = instance.is_serving() && can_park && !self.state.deferred_evictions.contains_key(&id);
        is_parked || can_grow
    }

    /// Whose instance it is, and what that will be.
    fn becomes<'a>(&self, step: &'a Step) -> (ModelId, &'a Arc<ModelSpec>) {
        match step {
            Step::Load(model, spec) => (*model, spec),
            Step::Resume(id, spec) | Step::Grow(id, spec) => (self.state.instance(*id).model, spec),
        }
    }

    /// Bytes that the step takes beyond what is counted already.
    pub(in crate::decide) fn cost(&self, step: &Step) -> Bytes {
        let (model, spec) = self.becomes(step);
        let wanted = self.state.model(model).expected(spec);
        self.state.ledger.cost(step.instance(), model, wanted)
    }

    /// Whether the step leaves an instance that is ready with less than it has.
    pub(in crate::decide) fn shrinks(&self, step: &Step) -> bool {
        let Step::Grow(id, spec) = step else { return false };
        let becomes = self.state.model(self.state.instance(*id).model).expected(spec).total().sum();
        becomes < self.state.ledger.memory_with_debt(*id).total().sum()
    }

    /// What to make of an instance that has these options, or to load, so that it is what is asked for here and,
    /// as far as that fits, by all others.
    fn wanted_spec(
        &self,
        model: ModelId,
        has: Option<&Arc<ModelSpec>>,
        asked: &Arc<ModelSpec>,
        is_modest: bool,
    ) -> Arc<ModelSpec> {
        if is_modest {
            return has
                .map_or_else(|| Arc::clone(asked), |has| self.resized(model, has, asked, &asked.options));
        }
        let fits =
            |spec: &ModelSpec| self.does_not_fit(model, spec).is_none() && self.fits_in_groups(model, spec);
        let mut wanted = match has {
            None => Arc::clone(asked),
            Some(has) => {
                let both = self.merged(model, has, asked);
                if fits(&both) { both } else { self.resized(model, has, asked, &asked.options) }
            }
        };
        for other in self.asked_for(model) {
            let both = self.merged(model, &wanted, &other);
            if !Arc::ptr_eq(&both, &wanted) && fits(&both) {
                wanted = both;
            }
        }
        wanted
    }

    /// Whether those who wait for models that need this one can still have theirs beside it.
    fn fits_in_groups(&self, model: ModelId, spec: &ModelSpec) -> bool {
        let dependents = self.state.model(model).needed_by.iter();
        let mut waiting = dependents.filter(|id| self.state.model(**id).has_waiting());
        waiting.all(|id| self.largest_for(*id).covers(self.needed_by_group(*id, (model, spec))))
    }

    /// What serves both: loaded like the one, with the larger context and the larger number of slots.
    fn merged(&self, model: ModelId, one: &Arc<ModelSpec>, other: &Arc<ModelSpec>) -> Arc<ModelSpec> {
        if covers(one, other) {
            return Arc::clone(one);
        }
        let size = LoadOptions {
            context_tokens: one.options.context_tokens.max(other.options.context_tokens),
            slots: one.options.slots.max(other.options.slots),
            ..one.options.clone()
        };
        self.resized(model, one, other, &size)
    }

    /// The one with the context and the slots of `size`; what that costs is taken from the other where it is just
    /// that, and worked out from both else.
    pub(in crate::decide) fn resized(
        &self,
        model: ModelId,
        one: &Arc<ModelSpec>,
        other: &Arc<ModelSpec>,
        size: &LoadOptions,
    ) -> Arc<ModelSpec> {
        let (context_tokens, slots) = (size.context_tokens, size.slots);
        let options = LoadOptions { context_tokens, slots, ..one.options.clone() };
        if options == other.options {
            return Arc::clone(other);
        }
        let of_model = self.state.model(model);
        let is_alike = options.layout == other.options.layout && options.kv_type == other.options.kv_type;
        let is_others_size = (context_tokens, slots) == (other.options.context_tokens, other.options.slots);
        let memory = if is_alike && is_others_size {
            of_model.expected(other).clone()
        } else {
            let rest =
                |spec: &ModelSpec| of_model.expected(spec).private.minus(spec.cost.of_cells(&spec.options));
            let rest = if is_alike { rest(one).max(rest(other)) } else { rest(one) };
            let private = rest + one.cost.of_cells(&options);
            Memory { private, mapped: of_model.expected(one).mapped.clone() }
        };
        let cost = Cost { memory, ..one.cost.clone() };
        let usual = other.usual.clone().or_else(|| one.usual.clone());
        Arc::new(ModelSpec { options, cost, usual, ..(**one).clone() })
    }

    /// Why an instance is loaded, before it is there: for those who wait, for what is to be, or for a model that needs it.
    pub(in crate::decide) fn reason_to_load(&self, id: ModelId) -> Reason {
        let (model, serving) = (self.state.model(id), self.serving(id));
        if serving > 0 {
            return Reason::Further { serving, waiting: model.queue.len() as u32 };
        }
        if !model.queue.is_empty() {
            return Reason::Asked;
        }
        let mut warms = model.warms.iter().map(|(_, ticket)| *ticket);
        match (warms.next(), model.needed_by.first()) {
            (Some(first), _) if PoolState::is_own(first) && warms.all(PoolState::is_own) => {
                // Else it is begun for those who were told to come again.
                if model.backoff.is_some() { Reason::Replaces } else { Reason::Asked }
            }
            (Some(_), _) => Reason::Warmed,
            (None, Some(by)) if !model.is_pinned => {
                Reason::NeededBy { model: self.state.model(*by).spec.name.clone() }
            }
            (None, _) => Reason::Asked,
        }
    }
}

fn is_or_comes(instance: &Instance) -> bool {
    instance.is_serving() || instance.is_coming()
}
