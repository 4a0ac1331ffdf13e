//! What people tell the pool to do: pin, unload, other limits, leave.

use std::sync::Arc;

use samovar_core::Bytes;

use super::StepContext;
use crate::ask::ModelSpec;
use crate::config::PoolConfig;
use crate::decide::state::{ModelId, Phase};
use crate::decision::{Reason, What};
use crate::error::Error;
use crate::protocol::{Effect, InstanceId, TicketId};

impl StepContext<'_> {
    pub(super) fn pin(&mut self, ticket: TicketId, spec: &Arc<ModelSpec>) {
        let model = self.state.know(spec, self.now);
        let refusal = self
            .state
            .is_leaving
            .then_some(Error::ShuttingDown)
            .or_else(|| self.view().does_not_fit(model, spec));
        if let Some(why) = refusal {
            self.note_refusal(model, &why);
            self.effects.push(Effect::Refuse { ticket, why });
            return;
        }
        if !self.state.model(model).is_pinned {
            self.state.model_mut(model).is_pinned = true;
            self.note(model, What::Pinned, Reason::Told);
        }
        let instances = self.state.model(model).instances.clone();
        for id in &instances {
            self.state.instance_mut(*id).leaves_when_idle = false;
            self.stop_keep_alive(*id);
            self.state.deferred_evictions.remove(id);
        }
        self.review(model);
        self.effects.push(Effect::Done { ticket, instances: instances.len() as u32 });
    }

    pub(super) fn unpin(&mut self, ticket: TicketId, spec: &Arc<ModelSpec>) {
        let model = self.state.know(spec, self.now);
        self.take_pin_off(model);
        let instances = self.state.model(model).instances.clone();
        for id in &instances {
            self.went_idle(*id);
        }
        self.look_after_members(model);
        self.effects.push(Effect::Done { ticket, instances: instances.len() as u32 });
    }

    fn take_pin_off(&mut self, model: ModelId) {
        self.let_it_be_gone(model);
        if std::mem::take(&mut self.state.model_mut(model).is_pinned) {
            self.note(model, What::Unpinned, Reason::Told);
        }
    }

    pub(super) fn unload_by_name(&mut self, ticket: TicketId, name: &str) {
        let models = self.state.models.iter();
        let named: Vec<_> = models
            .filter(|(_, model)| model.spec.name == name || model.spec.key.as_str() == name)
            .map(|(id, _)| *id)
            .collect();
        self.send_away(ticket, &named);
    }

    pub(super) fn clear(&mut self, ticket: TicketId) {
        let all: Vec<_> = self.state.models.keys().copied().collect();
        self.send_away(ticket, &all);
    }

    fn send_away(&mut self, ticket: TicketId, models: &[ModelId]) {
        let mut instances = 0;
        for model in models {
            self.take_pin_off(*model);
            self.state.model_mut(*model).is_kept = false;
            for id in self.state.model(*model).instances.clone() {
                instances += 1;
                self.send_instance_away(id);
            }
        }
        self.effects.push(Effect::Done { ticket, instances });
    }

    /// At once when no request uses it; a load or resume that requests wait for serves them first.
    fn send_instance_away(&mut self, id: InstanceId) {
        let instance = self.state.instance(id);
        let is_coming = matches!(instance.phase, Phase::Loading { .. } | Phase::Resuming);
        if is_coming && instance.exit_reason.is_none() && self.state.is_wanted(instance.model) {
            self.state.instance_mut(id).leaves_when_idle = true;
        } else {
            self.begin_unload(id, What::Unloaded, Reason::Told);
        }
    }

    pub(super) fn configure(&mut self, config: PoolConfig) {
        self.state.ledger.set_budget(config.budgets());
        self.state.config = config;
    }

    pub(super) fn shut_down(&mut self) {
        self.state.is_leaving = true;
        self.ask_back(Bytes::ALL);
        let models: Vec<_> = self.state.models.keys().copied().collect();
        for model in models {
            self.refuse_waiting(model, &Error::ShuttingDown);
            self.await_no_memory(model);
            self.forget_backoff(model);
            self.state.model_mut(model).is_pinned = false;
            for id in self.state.model(model).instances.clone() {
                self.begin_unload(id, What::Unloaded, Reason::Leaving);
            }
        }
    }
}
