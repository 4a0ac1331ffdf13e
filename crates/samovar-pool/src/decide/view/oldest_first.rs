//! Who has waited longest, and what is kept for those.
//!
//! ```text
//!   demands, oldest first  A: x, y as it wants them     B: y, z     C: x larger
//!                          may have anything leave      not x, y of A's size      …
//! ```
//!
//! A demand is what the ticket of a model that has waited longest without being served needs: the model as it wants it,
//! and all that this needs. What an older demand needs is neither taken away nor made something else for a younger one.
//! So the parts of the oldest come together whatever the others want, it is served, and the next is the oldest: none
//! starves, and no two undo what the other has loaded.
//!
//! A request whose model has had its turn and yields it waits again: it is served after those that wait by then, however long its own
//! backlog is. One that has not had a turn keeps its age.

use std::sync::Arc;

use samovar_core::port::Millis;

use crate::ask::ModelSpec;
use crate::decide::state::{Instance, ModelId, covers};
use crate::decide::view::View;
use crate::protocol::{InstanceId, TicketId};

/// Since when a demand waits; no two are equal.
pub(in crate::decide) type Since = (Millis, TicketId);

/// After all that wait.
pub(in crate::decide) const LAST: Since = (Millis(u64::MAX), TicketId(u64::MAX));

/// What must serve before the one who has waited longest for a model can be served.
#[derive(Clone, Debug)]
pub(in crate::decide) struct Demand {
    pub(in crate::decide) since: Since,
    /// Something else than time can help it on: no part of it has to wait after a failure.
    is_hopeful: bool,
    /// The model as it is wanted, and all that it needs.
    pub(in crate::decide) parts: Vec<(ModelId, Arc<ModelSpec>)>,
}

impl Demand {
    /// The model that the ticket is for.
    fn model(&self) -> ModelId {
        self.parts[0].0
    }

    /// Whether this is, or will be, one of its parts.
    pub(in crate::decide) fn needs(&self, instance: &Instance) -> bool {
        self.parts.iter().any(|(part, need)| *part == instance.model && instance.will_satisfy(need))
    }
}

impl View<'_> {
    pub(in crate::decide) fn since(&self, ticket: TicketId) -> Since {
        (self.state.tickets[&ticket].counts_from, ticket)
    }

    /// Those who wait for the model and will be served without any further decision.
    pub(in crate::decide) fn with_service(&self, model: ModelId) -> Vec<TicketId> {
        if self.members_ready(model).is_none() {
            return Vec::new();
        }
        let mut waiting = self.state.model(model).waiting();
        waiting.retain(|id| self.is_served(model, &self.state.tickets[id].spec));
        waiting
    }

    /// The oldest ticket for the model that something is missing for, with all that it takes; a full instance is not
    /// missing.
    pub(in crate::decide) fn demand(&self, model: ModelId) -> Option<Demand> {
        self.demands().iter().find(|demand| demand.model() == model).cloned()
    }

    /// The older demands, but for those that only time can help on.
    pub(in crate::decide) fn demands_before(&self, since: Since) -> Vec<&Demand> {
        let older = self.demands().iter().take_while(|demand| demand.since < since);
        older.filter(|demand| demand.is_hopeful).collect()
    }

    /// The demands of all models, oldest first.
    fn demands(&self) -> &[Demand] {
        self.derived.demands.get_or_init(|| {
            let waiting = self.state.models.iter().filter(|(_, model)| model.has_waiting());
            let mut demands: Vec<_> = waiting.filter_map(|(id, _)| self.work_out_demand(*id)).collect();
            demands.sort_by_key(|demand| demand.since);
            demands
        })
    }

    fn work_out_demand(&self, model: ModelId) -> Option<Demand> {
        let of_model = self.state.model(model);
        let are_members_ready = self.members_ready(model).is_some();
        let unserved = of_model.waiting().into_iter().filter_map(|id| {
            let ticket = &self.state.tickets[&id];
            let is_served = are_members_ready && self.is_served(model, &ticket.spec);
            (!is_served).then_some((self.since(id), &ticket.spec))
        });
        let (since, asked) = unserved.min_by_key(|(since, _)| *since)?;
        let own = std::iter::once((model, Arc::clone(asked)));
        let parts = own.chain(of_model.members.iter().cloned()).collect();
        Some(Demand { since, is_hopeful: !self.is_kept_from_loading(model), parts })
    }

    /// Whether the model, were this instance (or a new one) of it to become so, would be something else than what one of
    /// these demands needs.
    pub(in crate::decide) fn is_promised_otherwise(
        &self,
        demands: &[&Demand],
        model: ModelId,
        id: Option<InstanceId>,
        spec: &ModelSpec,
    ) -> bool {
        let mut needs = demands.iter().flat_map(|demand| &demand.parts).filter(|(part, _)| *part == model);
        needs.any(|(_, need)| !covers(spec, need) && !self.is_met_beside(model, need, id))
    }
}
