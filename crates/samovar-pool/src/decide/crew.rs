//! How many instances a model has: at least `min` while it is kept, more up to `max` while requests wait.
//!
//! ```text
//!   asked for ─► kept: load 1/3, 2/3, 3/3, one after the other, in what is free and what is idle elsewhere
//!   queue worth a load ─► one more, in what is free below the soft limit, while a core has nothing to do
//!   idle ─► those beyond min leave first; the last min of them leave together
//! ```
//!
//! The first instance is a *want*, for which busy ones make room in the end (see `placement`). The others are not:
//! nobody is refused for their sake, and whoever has one instance is served.

use std::collections::BTreeSet;

use samovar_core::units::KeepAlive;

use super::Turn;
use super::demand::Placement;
use super::placement::Step;
use super::state::{Instance, ModelId, Phase};
use crate::ask::Instances;
use crate::protocol::{Effect, InstanceId};

impl Turn<'_> {
    /// Somebody asked for the model: it is to have all its instances, and so is what it needs.
    pub(super) fn rouse(&mut self, model: ModelId) {
        for part in self.state.group(model) {
            if self.crew(part).max > 1 {
                self.state.model_mut(part).is_kept = true;
                self.state.crews.insert(part);
            }
        }
    }

    /// How many instances the model may have.
    pub(super) fn crew(&self, model: ModelId) -> Instances {
        let Instances { min, max } = self.state.model(model).spec.instances;
        Instances { min: min.max(1), max: max.max(min).max(1) }
    }

    /// Of how many instances the one is that is loaded next.
    pub(super) fn crew_to_be(&self, model: ModelId) -> u32 {
        self.crew(model).min.max(self.serving(model) + 1)
    }

    pub(super) fn serving(&self, model: ModelId) -> u32 {
        self.state.staying(model).filter(|(_, instance)| instance.is_serving()).count() as u32
    }

    /// Places further instances where there is room for them, beside what wants claim; then answers those who wait
    /// for all of them.
    pub(super) fn fill_crews(&mut self, claimed_bytes: u64) {
        for model in self.state.crews.clone() {
            if !self.has_crew_to_see_to(model) {
                self.state.crews.remove(&model);
                continue;
            }
            let next = self.next_of_crew(model);
            let is_on_its_way = next.is_some_and(|(placement, is_required)| {
                self.place_beside(model, placement, is_required, claimed_bytes)
            });
            if !is_on_its_way {
                self.answer_who_waits_for_the_crew(model);
            }
        }
    }

    fn has_crew_to_see_to(&mut self, model: ModelId) -> bool {
        if !self.state.models.contains_key(&model) {
            return false;
        }
        // One that died is brought back when its back-off is over.
        let is_wanted = self.state.is_wanted(model) || self.is_set_back(model);
        let of_model = self.state.model_mut(model);
        of_model.is_kept &= !of_model.instances.is_empty() || is_wanted;
        of_model.is_kept || is_wanted
    }

    /// The next instance beside those that serve, one at a time, and whether it is one of `min`.
    fn next_of_crew(&self, model: ModelId) -> Option<(Placement, bool)> {
        let of_model = self.state.model(model);
        let is_under_way = |(_, instance): (_, &Instance)| {
            instance.is_coming() || matches!(instance.phase, Phase::Parking | Phase::Loading { .. })
        };
        // Another like those that are there would be in the way of who wants them to be something else.
        let waits_itself =
            self.state.wants.contains(&model) || self.is_set_back(model) || self.unmet_claim(model).is_some();
        // One more would keep in memory what is to leave for another model.
        let gives_way = self.state.instances_of(model).any(|(id, _)| self.state.pledges.contains_key(&id));
        let is_settled = !waits_itself && !gives_way && !self.state.instances_of(model).any(is_under_way);
        if self.state.is_leaving || !is_settled {
            return None;
        }
        let (serving, crew) = (self.serving(model), self.crew(model));
        let is_required = of_model.is_kept && serving < crew.min;
        let is_worth_it = serving < crew.max && self.queue_is_worth_a_load(model);
        if serving == 0 || !is_required && !is_worth_it {
            return None;
        }
        let mut staying = self.state.staying(model);
        let parked = staying.find(|(_, instance)| instance.phase == Phase::Parked);
        let placement = if let Some((id, instance)) = parked {
            Placement::Resume(id, instance.spec.clone())
        } else {
            let sized =
                |instance: &Instance| (instance.spec.options.context_tokens, instance.spec.options.slots);
            let (_, like) = self.state.staying(model).max_by_key(|(_, instance)| sized(instance))?;
            Placement::Load(model, like.spec.clone())
        };
        Some((placement, is_required))
    }

    /// Whether those who wait would wait for longer than one more load takes, and a core would be free for it.
    fn queue_is_worth_a_load(&self, model: ModelId) -> bool {
        let of_model = self.state.model(model);
        let slots: u32 = self.state.staying(model).map(|(_, instance)| instance.slots()).sum();
        let is_at_work = |instance: &&Instance| instance.leases > 0 || instance.is_coming();
        let at_work = self.state.instances.values().filter(is_at_work).count() as u32;
        if of_model.queue.is_empty() || self.has_free_slot(model) || at_work >= self.state.config.cores {
            return false;
        }
        let load_ms = of_model.tally.load_times.expected_ms(of_model.spec.load_ms);
        let rounds = of_model.queue.len().div_ceil(slots.max(1) as usize) as f64;
        match (of_model.hold.ms(), load_ms) {
            (Some(hold_ms), Some(load_ms)) => hold_ms * rounds >= load_ms as f64,
            _ => true,
        }
    }

    /// Begins it if there is room, else has room made if it is required. Gives whether it is on its way.
    fn place_beside(
        &mut self,
        model: ModelId,
        placement: Placement,
        is_required: bool,
        claimed_bytes: u64,
    ) -> bool {
        let used_bytes = self.state.ledger.used() + self.state.ledger.owed() + claimed_bytes;
        let free_bytes = self.state.config.soft_bytes().saturating_sub(used_bytes);
        let need = self.cost(&placement);
        if need <= free_bytes {
            self.place(model, vec![placement]);
            return true;
        }
        is_required && self.make_room_of_idle(model, &placement, need - free_bytes)
    }

    /// Asks back what is set aside and has idle instances of other models leave, if that is enough; nobody busy is asked
    /// to. Gives whether there will be room.
    fn make_room_of_idle(&mut self, model: ModelId, placement: &Placement, shortfall: u64) -> bool {
        let mut leaving = self.leaving();
        let shortfall = shortfall.saturating_sub(self.leaving_bytes());
        let of_idle = shortfall.saturating_sub(self.could_be_asked_back());
        let before = self.state.ledger.freed_by_all(&leaving);
        let mut chosen = Vec::new();
        for (step, id) in self.victims(model, std::slice::from_ref(placement)) {
            if self.state.ledger.freed_by_all(&leaving) - before >= of_idle {
                break;
            }
            if step == Step::Now && self.state.instance(id).model != model {
                self.add_leaving(&mut leaving, id);
                chosen.push(id);
            }
        }
        if self.state.ledger.freed_by_all(&leaving) - before < of_idle {
            return false;
        }
        self.ask_back(shortfall);
        for id in chosen {
            if !self.can_give_way(id) {
                continue;
            }
            let reason = self.needed_for(id, model);
            self.give_way(id, reason);
        }
        true
    }

    /// Who wants the model warm has it once nothing more is coming.
    fn answer_who_waits_for_the_crew(&mut self, model: ModelId) {
        let is_coming = self.state.staying(model).any(|(_, instance)| instance.is_coming());
        let instances = self.serving(model);
        if is_coming || instances == 0 || self.state.model(model).warms.is_empty() {
            return;
        }
        let warms: Vec<_> = self.state.model(model).warms.iter().map(|(_, ticket)| *ticket).collect();
        for ticket in warms {
            if self.is_served(model, &self.state.tickets[&ticket].spec) {
                self.take_served(ticket);
                self.effects.push(Effect::Done { ticket, instances });
            }
        }
        self.review(model);
    }

    /// Whether it is one of the last `min` of a model that is in use: by another instance, or by a model that needs it.
    pub(super) fn is_held_by_its_crew(&self, id: InstanceId) -> bool {
        let Instance { model, phase, .. } = *self.state.instance(id);
        if phase != Phase::Ready {
            return false;
        }
        let is_in_use = |instance: &Instance| {
            let is_kept = instance.expires_at.is_some() || instance.keep_alive == KeepAlive::UntilEvicted;
            !instance.is_idle() || is_kept && !instance.is_lapsed
        };
        let mut others = self.state.staying(model).filter(|(other, instance)| {
            *other != id && !matches!(instance.phase, Phase::Parked | Phase::Parking)
        });
        let is_used = others.any(|(_, instance)| is_in_use(instance)) || self.state.is_depended_on(model);
        self.serving(model) <= self.crew(model).min && is_used
    }

    /// One of its instances has been let go: where it was one of the last `min`, those whose time was over go as well.
    pub(super) fn dismiss_crew(&mut self, model: ModelId) {
        if self.serving(model) >= self.crew(model).min {
            return;
        }
        self.state.model_mut(model).is_kept = false;
        for id in self.state.model(model).instances.clone() {
            if self.state.instance(id).is_lapsed {
                self.expired(id);
            }
        }
    }

    /// Which of these idle instances, in the order of leaving, their models can do without.
    pub(super) fn dispensable(&self, in_order: impl Iterator<Item = InstanceId>) -> BTreeSet<InstanceId> {
        let mut dispensable = BTreeSet::new();
        for id in in_order {
            let instance = self.state.instance(id);
            let of_model = |id: &&InstanceId| self.state.instance(**id).model == instance.model;
            let gone = dispensable.iter().filter(of_model).count() as u32;
            let spare = self.serving(instance.model).saturating_sub(self.crew(instance.model).min);
            if instance.is_serving() && gone < spare {
                dispensable.insert(id);
            }
        }
        dispensable
    }
}
