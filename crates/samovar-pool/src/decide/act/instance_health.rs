//! Whether an instance is believed to work: by what requests say, and by probes of one token.
//!
//! ```text
//!   idle for a minute ─► probe ─► well: the next after two minutes, four …
//!   a request fails ───► probe ─► well: open again          two failures in a row, of
//!   (closed meanwhile)     └───► failed: probe again ─────► requests or probes: replaced
//! ```
//!
//! A probe delays no request: one that comes is served at the same time. Requests that fail while a probe is under way are one
//! failure: they were served together.

use samovar_core::Failure;

use super::StepContext;
use crate::decide::state::{Phase, Timer};
use crate::decide::view::is_fault_of_the_instance;
use crate::protocol::{Effect, InstanceId};

/// In a row; then the instance is replaced.
const FAILURES_MAX: u32 = 2;

/// The wait for the next probe doubles no more often.
const DOUBLINGS_MAX: u32 = 10;

impl StepContext<'_> {
    /// Takes a request's end into account.
    pub(super) fn judge(&mut self, id: InstanceId, failed: Option<Failure>) {
        let instance_health = &mut self.state.instance_mut(id).health;
        instance_health.probes = 0;
        match failed {
            None => {
                (instance_health.failed_requests, instance_health.failed_probes, instance_health.suspected) =
                    (0, 0, None);
                let model = self.state.instance(id).model;
                self.has_proved_itself(model);
            }
            Some(failure)
                if is_fault_of_the_instance(failure.kind) && instance_health.suspected.is_none() =>
            {
                instance_health.failed_requests += 1;
                self.suspect(id, failure);
            }
            Some(_) => {}
        }
    }

    pub(super) fn probe_went_well(&mut self, id: InstanceId) {
        let Some(instance) = self.state.instances.get_mut(&id) else { return };
        let instance_health = &mut instance.health;
        (instance_health.is_probed, instance_health.failed_probes, instance_health.suspected) =
            (false, 0, None);
        let model = instance.model;
        self.review(model);
        self.await_probe(id);
    }

    pub(super) fn probe_failed(&mut self, id: InstanceId, failure: Failure) {
        let Some(instance) = self.state.instances.get_mut(&id) else { return };
        instance.health.is_probed = false;
        // One that is being parked ends what it does.
        if instance.phase == Phase::Ready && instance.exit_reason.is_none() {
            instance.health.failed_probes += 1;
            self.suspect(id, failure);
        }
    }

    /// It was made anew.
    pub(super) fn clear_suspicion(&mut self, id: InstanceId) {
        self.state.instance_mut(id).health.suspected = None;
    }

    /// Closes it and looks at it again, or gives it up.
    fn suspect(&mut self, id: InstanceId, failure: Failure) {
        let instance = self.state.instance_mut(id);
        let instance_health = &mut instance.health;
        let first = instance_health.suspected.get_or_insert(failure).clone();
        if instance_health.failed_requests + instance_health.failed_probes >= FAILURES_MAX {
            self.died(id, first);
        } else if instance.phase == Phase::Ready && instance.exit_reason.is_none() {
            self.probe(id);
        }
    }

    fn probe(&mut self, id: InstanceId) {
        let instance_health = &mut self.state.instance_mut(id).health;
        if !std::mem::replace(&mut instance_health.is_probed, true) {
            self.effects.push(Effect::Probe { instance: id });
        }
    }

    /// Plans the next probe of an instance that is unused.
    pub(super) fn await_probe(&mut self, id: InstanceId) {
        let every_ms = self.state.config.probe_idle_ms;
        let instance = self.state.instance(id);
        let is_due = instance.phase == Phase::Ready && instance.is_idle() && instance.stays();
        if every_ms == 0 || !is_due || instance.health.is_probed || instance.health.due.is_some() {
            return;
        }
        let doublings = instance.health.probes.min(DOUBLINGS_MAX);
        let at = self.now.plus(every_ms.saturating_mul(1 << doublings));
        self.state.instance_mut(id).health.due = Some(at);
        self.state.timers.insert((at, Timer::Probe(id)));
    }

    /// It is used, or leaves.
    pub(super) fn await_no_probe(&mut self, id: InstanceId) {
        let instance_health = &mut self.state.instance_mut(id).health;
        if let Some(at) = instance_health.due.take() {
            self.state.timers.remove(&(at, Timer::Probe(id)));
        }
    }

    pub(super) fn probe_due(&mut self, id: InstanceId) {
        let Some(instance) = self.state.instances.get_mut(&id) else { return };
        instance.health.due = None;
        if instance.phase == Phase::Ready && instance.is_idle() && instance.stays() {
            instance.health.probes += 1;
            self.probe(id);
        }
    }
}
