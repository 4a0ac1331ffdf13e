//! What those who wait ask of a model's instances: that one is loaded, resumed, or made larger.
//!
//! ```text
//!   wish ≤ an instance that serves or comes ───► nothing: its turn will come
//!        ≤ nothing that there is ──► resume a parked one │ grow a ready one │ load one where there is none
//! ```
//!
//! Wishes are merged: the longest context and the most slots of all that fit together, so that clients with different
//! wishes do not take turns in having the model reloaded.

use std::sync::Arc;

use samovar_core::footprint::{Footprint, KvType, LoadOptions};

use super::Turn;
use super::files::Files;
use super::seniority::{Ask, Since};
use super::state::{Instance, ModelId, Phase, covers};
use crate::ask::ModelSpec;
use crate::protocol::{InstanceId, TicketId};

/// What a model is wanted to be.
pub(super) struct Claim {
    pub(super) wish: Arc<ModelSpec>,
    pub(super) since: Since,
}

/// One step towards serving who waits; it takes memory.
#[derive(Clone, Debug)]
pub(super) enum Placement {
    Load(ModelId, Arc<ModelSpec>),
    /// Of a parked instance, with the options of this spec.
    Resume(InstanceId, Arc<ModelSpec>),
    /// Of a ready instance, to the options of this spec.
    Grow(InstanceId, Arc<ModelSpec>),
}

impl Placement {
    /// The instance that is there already.
    pub(super) fn instance(&self) -> Option<InstanceId> {
        match self {
            Self::Load(..) => None,
            Self::Resume(id, _) | Self::Grow(id, _) => Some(*id),
        }
    }
}

impl Turn<'_> {
    /// What must be placed for the oldest ask for the model: all of it or nothing. Empty when all is under way; `None`
    /// while something must be gone first, or is kept for somebody who has waited longer.
    ///
    /// Where the group does not fit with the wishes of all merged, it is placed with no more than each part must have.
    pub(super) fn lacking(&self, model: ModelId) -> Option<Vec<Placement>> {
        let Some(ask) = self.ask(model) else { return Some(Vec::new()) };
        let generous = self.placements(&ask, false);
        let fits = |placements: &[Placement]| self.taken_by(&ask, placements) <= self.largest_for(model);
        generous.filter(|placements| fits(placements)).or_else(|| self.placements(&ask, true))
    }

    fn placements(&self, ask: &Ask, is_modest: bool) -> Option<Vec<Placement>> {
        let older = self.asks_before(ask.since);
        let unmet = ask.parts.iter().filter(|(part, need)| !self.is_met(*part, need));
        let placements = unmet.map(|(part, need)| {
            let placement = self.lacks(*part, need, is_modest)?;
            let (model, spec) = self.becomes(&placement);
            let is_free = !self.is_promised_otherwise(&older, model, placement.instance(), spec);
            is_free.then_some(placement)
        });
        placements.collect()
    }

    /// Bytes of all parts, once these have been placed.
    fn taken_by(&self, ask: &Ask, placements: &[Placement]) -> u64 {
        let of_part = |(part, need): &(ModelId, Arc<ModelSpec>)| {
            let placed = placements.iter().map(|placement| (placement, self.becomes(placement)));
            if let Some((placement, (_, spec))) = placed.into_iter().find(|(_, (model, _))| model == part) {
                let expected = self.state.model(*part).expected(spec);
                let keeps_bytes = placement.instance().map_or(0, |id| self.kept_through_resume(id));
                return self.needed_alone(*part, spec) + keeps_bytes.saturating_sub(expected.held_bytes);
            }
            let meet = self.state.staying(*part).filter(|(_, instance)| instance.will_satisfy(need));
            let smallest = meet.map(|(id, _)| self.state.ledger.footprint(id).total_bytes()).min();
            smallest.unwrap_or(0).max(self.needed_alone(*part, need))
        };
        ask.parts.iter().map(of_part).sum()
    }

    fn lacks(&self, model: ModelId, unmet: &Arc<ModelSpec>, is_modest: bool) -> Option<Placement> {
        let is_absent = self.state.model(model).instances.is_empty();
        if is_absent {
            return Some(Placement::Load(model, self.wanted_spec(model, None, unmet, is_modest)));
        }
        let candidates = self.state.staying(model).filter(|(id, instance)| {
            let can_become_it = !self.is_stunted(instance) || instance.satisfies(unmet);
            let is_cheap = !is_modest || self.is_stunted(instance) || self.can_become(*id, unmet);
            can_become_it && is_cheap && self.can_be_resized(*id, instance)
        });
        let placements = candidates.map(|(id, instance)| {
            let stays_as_it_is = self.is_stunted(instance)
                && self.does_not_fit(model, &instance.spec).is_none()
                && self.fits_in_groups(model, &instance.spec);
            let spec = if stays_as_it_is {
                Arc::clone(&instance.spec)
            } else {
                self.wanted_spec(model, Some(&instance.spec), unmet, is_modest)
            };
            let placement = match instance.phase {
                Phase::Parked => Placement::Resume(id, spec),
                _ => Placement::Grow(id, spec),
            };
            (self.cost(&placement), instance.leases, id, placement)
        });
        let cheapest = placements.min_by_key(|(cost, leases, id, _)| (*cost, *leases, *id));
        cheapest.map(|(.., placement)| placement)
    }

    /// The oldest claim that nothing meets which serves or comes.
    pub(super) fn unmet_claim(&self, model: ModelId) -> Option<Claim> {
        self.claims(model).into_iter().find(|claim| !self.is_met(model, &claim.wish))
    }

    pub(super) fn is_met(&self, model: ModelId, wish: &ModelSpec) -> bool {
        self.is_met_beside(model, wish, None)
    }

    /// Whether another instance than this one meets the wish.
    pub(super) fn is_met_beside(&self, model: ModelId, wish: &ModelSpec, id: Option<InstanceId>) -> bool {
        let mut others = self.state.staying(model).filter(|(other, _)| Some(*other) != id);
        others.any(|(_, instance)| is_or_comes(instance) && instance.will_satisfy(wish))
    }

    /// Whether nobody who waits needs this instance to become more than it is.
    pub(super) fn is_as_large_as_wanted(&self, id: InstanceId, model: ModelId) -> bool {
        let own = self.state.instance(id);
        let is_met = |wish: &Arc<ModelSpec>| own.satisfies(wish) || self.is_met_beside(model, wish, Some(id));
        self.wishes(model).iter().all(is_met)
    }

    fn wishes(&self, model: ModelId) -> Vec<Arc<ModelSpec>> {
        self.claims(model).into_iter().map(|claim| claim.wish).collect()
    }

    /// What those who wait for the model, or for models that need it, want it to be, oldest first.
    fn claims(&self, model: ModelId) -> Vec<Claim> {
        let since = |id: TicketId| self.since(id);
        let of_model = self.state.model(model);
        let own = of_model
            .waiting()
            .into_iter()
            .map(|id| Claim { wish: Arc::clone(&self.state.tickets[&id].spec), since: since(id) });
        let dependents = of_model.needed_by.iter().map(|id| self.state.model(*id));
        let groups = dependents.filter_map(|dependent| {
            let since = dependent.waiting().into_iter().map(since).min()?;
            let (_, wish) = dependent.members.iter().find(|(member, _)| *member == model)?;
            Some(Claim { wish: Arc::clone(wish), since })
        });
        let mut claims: Vec<_> = own.chain(groups).collect();
        claims.sort_by_key(|claim| claim.since);
        claims
    }

    /// Whether this instance, made what is needed, would count for no more than one loaded for it: the two may be
    /// of different layouts, and what is parked may hold more than the other would.
    pub(super) fn can_become(&self, id: InstanceId, need: &Arc<ModelSpec>) -> bool {
        let instance = self.state.instance(id);
        let costs = |spec: &ModelSpec| self.state.model(instance.model).expected(spec);
        let becomes = costs(&self.resized(instance.model, &instance.spec, need, &need.options));
        let held_bytes = becomes.held_bytes.max(self.kept_through_resume(id));
        held_bytes + becomes.mapped_bytes <= costs(need).total_bytes()
    }

    /// What a parked instance holds, and will hold whatever it becomes.
    fn kept_through_resume(&self, id: InstanceId) -> u64 {
        match self.state.instance(id).phase {
            Phase::Parked => self.state.ledger.footprint(id).held_bytes,
            _ => 0,
        }
    }

    fn can_be_resized(&self, id: InstanceId, instance: &Instance) -> bool {
        let is_parked = instance.phase == Phase::Parked;
        let can_grow = instance.is_serving() && self.state.can_park && !self.state.pledges.contains_key(&id);
        is_parked || can_grow
    }

    /// Whose instance it is, and what that will be.
    fn becomes<'a>(&self, placement: &'a Placement) -> (ModelId, &'a Arc<ModelSpec>) {
        match placement {
            Placement::Load(model, spec) => (*model, spec),
            Placement::Resume(id, spec) | Placement::Grow(id, spec) => (self.state.instance(*id).model, spec),
        }
    }

    /// Bytes that the step takes beyond what is counted already.
    pub(super) fn cost(&self, placement: &Placement) -> u64 {
        let (model, spec) = self.becomes(placement);
        let wanted = self.state.model(model).expected(spec);
        self.state.ledger.cost(placement.instance(), model, wanted, Files::of(spec))
    }

    /// Whether the step leaves an instance that is ready with less than it has.
    pub(super) fn shrinks(&self, placement: &Placement) -> bool {
        let Placement::Grow(id, spec) = placement else { return false };
        let becomes = self.state.model(self.state.instance(*id).model).expected(spec).total_bytes();
        becomes < self.state.ledger.footprint_with_debt(*id).total_bytes()
    }

    /// What to make of an instance that has these options, or to load, so that it meets this wish and, as far as
    /// that fits, all others.
    pub(super) fn wanted_spec(
        &self,
        model: ModelId,
        has: Option<&Arc<ModelSpec>>,
        wish: &Arc<ModelSpec>,
        is_modest: bool,
    ) -> Arc<ModelSpec> {
        if is_modest {
            return has.map_or_else(|| Arc::clone(wish), |has| self.resized(model, has, wish, &wish.options));
        }
        let fits =
            |spec: &ModelSpec| self.does_not_fit(model, spec).is_none() && self.fits_in_groups(model, spec);
        let mut wanted = match has {
            None => Arc::clone(wish),
            Some(has) => {
                let both = self.merged(model, has, wish);
                if fits(&both) { both } else { self.resized(model, has, wish, &wish.options) }
            }
        };
        for other in self.wishes(model) {
            let both = self.merged(model, &wanted, &other);
            if fits(&both) {
                wanted = both;
            }
        }
        wanted
    }

    /// Whether those who wait for models that need this one can still have theirs beside it.
    fn fits_in_groups(&self, model: ModelId, spec: &ModelSpec) -> bool {
        let dependents = self.state.model(model).needed_by.iter();
        let mut waiting = dependents.filter(|id| self.state.model(**id).has_waiting());
        waiting.all(|id| self.needed_by_group(*id, (model, spec)) <= self.largest_for(*id))
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
    fn resized(
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
        let costs = |spec: &ModelSpec| self.state.model(model).expected(spec);
        let is_alike = options.layout == other.options.layout && options.kv_type == other.options.kv_type;
        let is_others_size = (context_tokens, slots) == (other.options.context_tokens, other.options.slots);
        let footprint = if is_alike && is_others_size {
            costs(other)
        } else {
            let rest =
                |spec: &ModelSpec| costs(spec).held_bytes.saturating_sub(kv_bytes(spec, &spec.options));
            let rest_bytes = if is_alike { rest(one).max(rest(other)) } else { rest(one) };
            Footprint {
                held_bytes: rest_bytes.saturating_add(kv_bytes(one, &options)),
                mapped_bytes: costs(one).mapped_bytes,
            }
        };
        Arc::new(ModelSpec { options, footprint, ..(**one).clone() })
    }
}

fn is_or_comes(instance: &Instance) -> bool {
    instance.is_serving() || instance.is_coming()
}

/// Bytes of the KV cache of all slots.
pub(super) fn kv_bytes(spec: &ModelSpec, options: &LoadOptions) -> u64 {
    let f16_bytes = spec.descriptor.kv_bytes_per_token();
    let cell_bytes = match options.kv_type {
        KvType::F16 => f16_bytes,
        // Blocks of 32 values in 34 bytes.
        KvType::Q8_0 => f16_bytes * 17 / 32,
    };
    let cells = u64::from(options.context_tokens) * u64::from(options.slots.max(1));
    cells.saturating_mul(cell_bytes)
}
