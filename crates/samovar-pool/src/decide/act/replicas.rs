//! How many instances a model has: at least `min` while it is kept, more up to `max` while requests wait.
//!
//! ```text
//!   asked for ─► kept: load 1/3, 2/3, 3/3, one after the other, in what is free and what is idle elsewhere
//!   queue worth a load ─► one more, in what is free below the soft limit, while a core has nothing to do
//!   idle ─► those beyond min leave first; the last min of them leave together
//! ```
//!
//! The first instance is a *demand*, for which busy ones make room in the end (see `placement`). The others are not:
//! no request is refused for their sake, and a model with one instance is served.

use samovar_core::Bytes;

use super::StepContext;
use super::departure::FollowUp;
use super::placement::Leavers;
use crate::decide::state::ModelId;
use crate::decide::view::{Leaves, Step};
use crate::protocol::Effect;

impl StepContext<'_> {
    /// A request asked for the model: it is to have all its instances, and so is what it needs.
    pub(super) fn mark_wanted(&mut self, model: ModelId) {
        for part in self.state.group(model) {
            if self.view().replicas(part).max > 1 {
                self.state.model_mut(part).is_kept = true;
                self.state.crews.insert(part);
            }
        }
    }

    /// Places further instances where there is room for them, beside what demands claim; then answers those who wait
    /// for all of them.
    pub(super) fn fill_replicas(&mut self, claimed: Bytes) {
        for model in self.state.crews.clone() {
            if !self.has_replicas_to_check(model) {
                self.state.crews.remove(&model);
                continue;
            }
            let next = self.view().next_replica(model);
            let is_on_its_way =
                next.is_some_and(|(step, is_required)| self.place_beside(model, step, is_required, claimed));
            if !is_on_its_way {
                self.answer_requests_waiting_for_replicas(model);
            }
        }
    }

    fn has_replicas_to_check(&mut self, model: ModelId) -> bool {
        if !self.state.models.contains_key(&model) {
            return false;
        }
        // One that died is brought back when its back-off is over.
        let is_wanted = self.state.is_wanted(model) || self.view().is_set_back(model);
        let of_model = self.state.model_mut(model);
        of_model.is_kept &= !of_model.instances.is_empty() || is_wanted;
        of_model.is_kept || is_wanted
    }

    /// Begins it if there is room, else has room made if it is required. Gives whether it is on its way.
    fn place_beside(&mut self, model: ModelId, step: Step, is_required: bool, claimed: Bytes) -> bool {
        let used = self.state.ledger.used() + self.state.ledger.owed() + claimed;
        let free = self.state.config.soft().minus(used);
        let need = self.view().cost(&step);
        if free.covers(need) {
            self.place(model, vec![step]);
            return true;
        }
        is_required && self.make_room_of_idle(model, &step, need.minus(free))
    }

    /// Asks back what is set aside and has idle instances of other models leave, if that is enough; no busy one is asked
    /// to. Gives whether there will be room.
    fn make_room_of_idle(&mut self, model: ModelId, step: &Step, shortfall: Bytes) -> bool {
        let shortfall = shortfall.minus(self.view().leaving_bytes());
        let of_idle = shortfall.minus(self.view().could_be_asked_back());
        let mut leavers = Leavers::until(of_idle, self);
        let mut chosen = Vec::new();
        for (leaves, id) in self.view().victims(model, std::slice::from_ref(step)) {
            if leavers.is_enough() {
                break;
            }
            if leaves == Leaves::Now && self.state.instance(id).model != model {
                chosen.extend(leavers.add((leaves, id), self));
            }
        }
        if !leavers.is_enough() {
            return false;
        }
        self.ask_back(shortfall);
        self.let_go(model, chosen);
        true
    }

    /// Who wants the model warm has it once nothing more is coming.
    fn answer_requests_waiting_for_replicas(&mut self, model: ModelId) {
        let is_coming = self.state.staying(model).any(|(_, instance)| instance.is_coming());
        let instances = self.view().serving(model);
        if is_coming || instances == 0 || self.state.model(model).warms.is_empty() {
            return;
        }
        let warms: Vec<_> = self.state.model(model).warms.iter().map(|(_, ticket)| *ticket).collect();
        for ticket in warms {
            if self.view().is_served(model, &self.state.tickets[&ticket].spec) {
                self.take_served(ticket);
                self.effects.push(Effect::Done { ticket, instances });
            }
        }
        self.review(model);
    }

    /// One of its instances has been let go: where it was one of the last `min`, those whose time was over go as well.
    pub(super) fn release_replicas(&mut self, model: ModelId) {
        if self.view().serving(model) >= self.view().replicas(model).min {
            return;
        }
        self.state.model_mut(model).is_kept = false;
        let instances = self.state.model(model).instances.iter().copied();
        self.follow_ups.extend(instances.map(FollowUp::Lapsed));
    }
}
