//! Who has waited longest, and what is kept for those.
//!
//! ```text
//!   asks, oldest first    A: x, y as it wants them     B: y, z     C: x larger
//!                         may have anything leave      not x, y of A's size      …
//! ```
//!
//! An ask is what the ticket of a model that has waited longest without being served needs: the model as it wants it,
//! and all that this needs. What an older ask needs is neither taken away nor made something else for a younger one.
//! So the parts of the oldest come together whatever the others want, it is served, and the next is the oldest: nobody
//! starves, and no two undo what the other has loaded.
//!
//! Whose model has had its turn and yields it waits anew: it is served after those that wait by then, however long its own
//! backlog is. Whoever has not had a turn keeps its age.

use std::sync::Arc;

use samovar_core::port::Millis;

use super::Turn;
use super::state::{Instance, ModelId, covers};
use crate::ask::ModelSpec;
use crate::decision::Reason;
use crate::protocol::{InstanceId, TicketId};

/// From when somebody waits; no two are equal.
pub(super) type Since = (Millis, TicketId);

/// After everybody who waits.
pub(super) const LAST: Since = (Millis(u64::MAX), TicketId(u64::MAX));

/// What must serve before the one who has waited longest for a model can be served.
pub(super) struct Ask {
    pub(super) since: Since,
    /// The model as it is wanted, and all that it needs.
    pub(super) parts: Vec<(ModelId, Arc<ModelSpec>)>,
}

impl Ask {
    /// Whether this is, or will be, one of its parts.
    pub(super) fn needs(&self, instance: &Instance) -> bool {
        self.parts.iter().any(|(part, need)| *part == instance.model && instance.will_satisfy(need))
    }
}

impl Turn<'_> {
    pub(super) fn since(&self, ticket: TicketId) -> Since {
        (self.state.tickets[&ticket].counts_from, ticket)
    }

    /// Has an instance leave for another model as it has promised. Those whom it would have served wait anew.
    pub(super) fn yield_turn(&mut self, id: InstanceId, reason: Reason) {
        let model = self.state.instance(id).model;
        let dependents = self.state.model(model).needed_by.iter().copied();
        let concerned: Vec<_> = dependents.chain([model]).collect();
        let had_their_turn: Vec<_> = concerned.iter().flat_map(|model| self.with_service(*model)).collect();
        self.give_way(id, reason);
        let still_have: Vec<_> = concerned.iter().flat_map(|model| self.with_service(*model)).collect();
        // After everybody who has come until now, whom this may be for.
        let anew = self.now.plus(1);
        for ticket in had_their_turn.into_iter().filter(|ticket| !still_have.contains(ticket)) {
            if let Some(ticket) = self.state.tickets.get_mut(&ticket) {
                ticket.counts_from = anew;
            }
        }
    }

    /// Those who wait for the model and will be served without any further decision.
    fn with_service(&self, model: ModelId) -> Vec<TicketId> {
        if self.members_ready(model).is_none() {
            return Vec::new();
        }
        let mut waiting = self.state.model(model).waiting();
        waiting.retain(|id| self.is_served(model, &self.state.tickets[id].spec));
        waiting
    }

    /// The oldest ask for the model that something is missing for; a full instance is not missing.
    pub(super) fn ask(&self, model: ModelId) -> Option<Ask> {
        let of_model = self.state.model(model);
        let are_members_ready = self.members_ready(model).is_some();
        let unserved = of_model.waiting().into_iter().filter_map(|id| {
            let ticket = &self.state.tickets[&id];
            let is_served = are_members_ready && self.is_served(model, &ticket.spec);
            (!is_served).then_some((self.since(id), &ticket.spec))
        });
        let (since, wish) = unserved.min_by_key(|(since, _)| *since)?;
        let own = std::iter::once((model, Arc::clone(wish)));
        Some(Ask { since, parts: own.chain(of_model.members.iter().cloned()).collect() })
    }

    /// The asks that are older, but for those that only time can help on.
    pub(super) fn asks_before(&self, since: Since) -> Vec<Ask> {
        let waiting = self.state.models.iter().filter(|(_, model)| model.has_waiting());
        let hopeful = waiting.filter(|(id, _)| !self.is_kept_from_loading(**id));
        hopeful.filter_map(|(id, _)| self.ask(*id)).filter(|ask| ask.since < since).collect()
    }

    /// Whether the model, were this instance (or a new one) of it to become so, would be something else than what one of
    /// these asks needs.
    pub(super) fn is_promised_otherwise(
        &self,
        asks: &[Ask],
        model: ModelId,
        id: Option<InstanceId>,
        spec: &ModelSpec,
    ) -> bool {
        let mut needs = asks.iter().flat_map(|ask| &ask.parts).filter(|(part, _)| *part == model);
        needs.any(|(_, need)| !covers(spec, need) && !self.is_met_beside(model, need, id))
    }
}
