//! What those who wait may expect, from experience: when they will be served.
//!
//! ```text
//!   nothing serves yet ──► what is left of the load or resume ─┐
//!   all slots are taken ─► what is left of the oldest lease ───┴─► + for each place before: mean lease / slots
//! ```
//!
//! A request that can not meet its deadline, going by that, is refused at once; without experience none is. The load
//! that such a one would have waited for is begun all the same, so that the next one finds the model. It waits in the pool's
//! own name, and within `queue_total` like all.

use crate::ask::{AcquireRequest, ModelSpec, Wait};
use crate::decide::state::{ModelId, Phase, Who};
use crate::decide::view::View;
use crate::error::Error;
use crate::protocol::TicketId;

/// What one point of priority is worth, in milliseconds of waiting.
const HEAD_START_MS: u64 = 100;

/// Retry after this when nothing is known of how long a slot is held.
const RETRY_UNKNOWN_MS: u64 = 1_000;

/// No client is told to stay away for longer because of a queue.
const RETRY_MAX_MS: u64 = 60_000;

/// How a model serves, or will serve, at a moment.
struct Service {
    slots: u32,
    /// Unused slots.
    free: u32,
    /// Slots that will be there together, beside the first one.
    together: u32,
    /// Until the next slot, if that can be told.
    next_ms: Option<u64>,
    hold_ms: Option<f64>,
}

impl Service {
    /// When the request at this place, counted from 1, is served.
    fn wait_ms(&self, position: u32) -> Option<u64> {
        let Some(ahead) = position.saturating_sub(self.free).checked_sub(1) else { return Some(0) };
        let next_ms = self.next_ms?;
        match (ahead.saturating_sub(self.together), self.hold_ms) {
            (0, _) => Some(next_ms),
            (turns, Some(hold_ms)) => {
                Some(next_ms + (f64::from(turns) * hold_ms / f64::from(self.slots)) as u64)
            }
            (_, None) => None,
        }
    }
}

impl View<'_> {
    /// When the request at this place in the model's queue, counted from 1, is served; `None` without experience.
    fn expected_wait(&self, model: ModelId, position: u32) -> Option<u64> {
        self.service(model, &self.state.model(model).spec).wait_ms(position)
    }

    /// When a client that is refused for a full queue should come again: half of those who wait will have been served.
    pub(in crate::decide) fn retry_after_ms(&self, model: ModelId) -> u64 {
        let half = self.state.model(model).waiting_count() / 2 + 1;
        self.expected_wait(model, half).unwrap_or(RETRY_UNKNOWN_MS).clamp(1, RETRY_MAX_MS)
    }

    /// The refusal of a request that came now and would not be served in time.
    pub(in crate::decide) fn too_late(&self, model: ModelId, ask: &AcquireRequest) -> Option<Error> {
        let allowed_ms = ask.deadline?.since(self.now);
        let expected_ms = self.service(model, &ask.model).wait_ms(self.place_of_newcomer(model, ask))?;
        (expected_ms > allowed_ms).then(|| Error::TooLate {
            model: ask.model.name.clone(),
            expected_ms,
            allowed_ms,
            retry_after_ms: (expected_ms - allowed_ms).min(RETRY_MAX_MS),
        })
    }

    fn place_of_newcomer(&self, model: ModelId, ask: &AcquireRequest) -> u32 {
        let newcomer = TicketId(u64::MAX);
        let mut fair_queue = self.state.model(model).queue.clone();
        let weight = self.weight_of(ask);
        fair_queue.join(&Who::of(ask), weight, self.place_in_queue(ask.priority), newcomer);
        let before = fair_queue.in_order().into_iter().take_while(|ticket| *ticket != newcomer);
        before.count() as u32 + 1
    }

    fn service(&self, model: ModelId, spec: &ModelSpec) -> Service {
        let hold_ms = self.state.model(model).hold.ms();
        let serving = || self.state.staying(model).filter(|(_, instance)| instance.is_serving());
        let slots: u32 = serving().map(|(_, instance)| instance.slots()).sum();
        if slots == 0 {
            let slots = spec.options.slots.max(1);
            let next_ms = self.ready_in_ms(model, spec);
            return Service { slots, free: 0, together: slots - 1, next_ms, hold_ms };
        }
        let busy: u32 = serving().map(|(_, instance)| instance.leases).sum();
        let free = if self.has_free_slot(model) { slots.saturating_sub(busy) } else { 0 };
        let granted = self.state.leases.values().filter(|lease| {
            self.state.instances.get(&lease.instance).is_some_and(|instance| instance.model == model)
        });
        let oldest = granted.map(|lease| lease.granted_at).min().unwrap_or(self.now);
        let next_ms = hold_ms.map(|hold_ms| (hold_ms as u64).saturating_sub(self.now.since(oldest)));
        Service { slots, free, together: 0, next_ms, hold_ms }
    }

    /// When a model that serves no request now will, if memory for it is found at once.
    fn ready_in_ms(&self, model: ModelId, spec: &ModelSpec) -> Option<u64> {
        let of_model = self.state.model(model);
        let load_ms = || of_model.tally.load_times.expected_ms(spec.load_ms);
        let resume_ms = || of_model.resume.ms().map(|ms| ms as u64);
        let soonest = self.state.staying(model).filter_map(|(_, instance)| {
            let under_way_ms = self.now.since(instance.ready_span.0);
            match instance.phase {
                Phase::Loading { .. } => load_ms().map(|ms| ms.saturating_sub(under_way_ms)),
                Phase::Resuming => resume_ms().map(|ms| ms.saturating_sub(under_way_ms)),
                Phase::Parking | Phase::Parked => resume_ms(),
                // It is being looked at, or about to grow.
                Phase::Ready | Phase::Unloading => None,
            }
        });
        if self.state.staying(model).next().is_some() {
            return soonest.min();
        }
        let back_off_ms = of_model.backoff.as_ref().map_or(0, |backoff| backoff.retry_in_ms(self.now));
        load_ms().map(|ms| ms + back_off_ms)
    }

    pub(in crate::decide) fn weight_of(&self, ask: &AcquireRequest) -> u32 {
        let configured = self.state.config.client_weights.get(&ask.client).copied();
        configured.or(ask.weight).unwrap_or(1).max(1)
    }

    pub(in crate::decide) fn place_in_queue(&self, priority: u8) -> u64 {
        let behind_ms = u64::from(u8::MAX - priority) * HEAD_START_MS;
        self.now.plus(behind_ms).0
    }

    pub(in crate::decide) fn wait_estimate(&self, model: ModelId, position: u32, wants_slot: bool) -> Wait {
        let are_members_ready = self.members_ready(model).is_some();
        let serving = self.state.staying(model).filter(|(_, instance)| instance.is_serving());
        let slots: u32 = serving.filter(|_| are_members_ready).map(|(_, instance)| instance.slots()).sum();
        let group = self.state.group(model);
        let loading =
            group.iter().flat_map(|part| self.state.staying(*part)).find_map(|(_, instance)| match instance
                .phase
            {
                Phase::Loading { fraction, .. } => Some((instance.model, fraction)),
                _ => None,
            });
        if let Some((loaded, fraction)) = loading.filter(|_| slots == 0 || !wants_slot) {
            let (instance, of) = (self.serving(loaded) + 1, self.replicas_to_be(loaded));
            return Wait::Loading { fraction, instance, of };
        }
        if slots > 0 {
            return Wait::Queued { position, estimate_ms: self.expected_wait(model, position) };
        }
        let mut parts = group.iter().flat_map(|part| self.state.staying(*part));
        if parts.any(|(_, instance)| instance.phase == Phase::Resuming) {
            return Wait::Resuming;
        }
        Wait::Queued { position, estimate_ms: self.expected_wait(model, position) }
    }
}
