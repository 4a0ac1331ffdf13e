//! Which instance would serve which request, and whether one is served without any further decision.

use std::cmp::Reverse;

use crate::ask::ModelSpec;
use crate::decide::state::{Instance, ModelId, Phase, Ticket};
use crate::decide::view::View;
use crate::lease::GrantKind;
use crate::protocol::{InstanceId, TicketId};

impl View<'_> {
    /// After a failure, a model that has no instance left waits for the back-off to pass, and so do those that need it.
    pub(in crate::decide) fn is_kept_from_loading(&self, model: ModelId) -> bool {
        let mut group = self.state.group(model).into_iter();
        group.any(|part| self.is_set_back(part) && self.state.model(part).instances.is_empty())
    }

    /// Who is to be served now, and by which instance: all who want the model ready as it is, then the first in the queue
    /// for whom there is a slot.
    pub(in crate::decide) fn next_to_serve(&self, model: ModelId) -> Option<(TicketId, InstanceId)> {
        let serving = || self.state.staying(model).filter(|(_, instance)| instance.is_serving());
        serving().next()?;
        let of_model = self.state.model(model);
        // Who wants all instances of several is answered when they are there (see `replicas`), unless the one that there
        // is must become another first.
        let answers_warms = self.replicas(model).max == 1 || self.has_unmet(model);
        let mut warms = of_model.warms.iter().filter(|_| answers_warms);
        let warm = warms.find_map(|(_, ticket)| {
            let spec = &self.state.tickets[ticket].spec;
            serving().find(|(_, instance)| instance.satisfies(spec)).map(|(id, _)| (*ticket, id))
        });
        warm.or_else(|| {
            serving().find(|(id, instance)| self.has_open_slot(*id, instance))?;
            let mut fair_queue = of_model.queue.in_order().into_iter();
            fair_queue.find_map(|ticket| Some((ticket, self.instance_for(&self.state.tickets[&ticket])?)))
        })
    }

    fn instance_for(&self, ticket: &Ticket) -> Option<InstanceId> {
        let open = self.state.staying(ticket.model).filter(|(id, instance)| {
            instance.is_serving() && instance.satisfies(&ticket.spec) && self.has_open_slot(*id, instance)
        });
        let best = open.max_by_key(|(id, instance)| {
            let remembers = ticket.affinity.is_some_and(|affinity| instance.affinities.contains(&affinity));
            let free_per_mille = 1_000 - u64::from(instance.leases) * 1_000 / u64::from(instance.slots());
            (remembers, free_per_mille, Reverse(*id))
        });
        best.map(|(id, _)| id)
    }

    /// Whether a request that came now would be granted at once.
    pub(in crate::decide) fn has_free_slot(&self, model: ModelId) -> bool {
        let mut serving = self.state.staying(model).filter(|(_, instance)| instance.is_serving());
        serving.any(|(id, instance)| self.has_open_slot(id, instance)) && self.members_ready(model).is_some()
    }

    /// Whether some instance serves who wants this, sooner or later, without any further decision.
    pub(in crate::decide) fn is_served(&self, model: ModelId, asked: &ModelSpec) -> bool {
        let mut serving = self.state.staying(model).filter(|(_, instance)| instance.is_serving());
        serving.any(|(_, instance)| instance.satisfies(asked))
    }

    fn has_open_slot(&self, id: InstanceId, instance: &Instance) -> bool {
        !self.is_closed(id) && !self.is_on_trial(instance.model) && instance.leases < instance.slots()
    }

    /// It has to leave for a model that waits.
    pub(in crate::decide) fn is_closed(&self, id: InstanceId) -> bool {
        self.state
            .deferred_evictions
            .get(&id)
            .is_some_and(|deferred_eviction| deferred_eviction.at <= self.now)
    }

    pub(in crate::decide) fn grant_kind_now(&self, model: ModelId, asked: &ModelSpec) -> GrantKind {
        if self.is_served(model, asked) {
            return GrantKind::Hit;
        }
        let mut best = GrantKind::Cold;
        for (_, instance) in self.state.staying(model) {
            match instance.phase {
                Phase::Loading { .. } => return GrantKind::Joined,
                _ => best = GrantKind::Parked,
            }
        }
        best
    }
}
