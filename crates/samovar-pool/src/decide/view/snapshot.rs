//! What the pool holds, as others see it.

use std::collections::BTreeMap;

use samovar_core::port::Millis;
use samovar_core::{Arena, ModelKey};

use crate::decide::state::{Instance, Model, ModelId, Phase, PoolState};
use crate::protocol::InstanceId;
use crate::snapshot::{ArenaStats, ModelState, ModelStats, PoolStats, Snapshot};
use crate::stats::{ModelTally, Statistics};

impl PoolState {
    /// What the pool holds at this moment.
    pub fn snapshot(&self, now: Millis) -> Snapshot {
        let mut models: Vec<_> =
            self.models.iter().map(|(id, model)| self.model_stats(*id, model, now)).collect();
        models.sort_by(|a, b| (&a.name, &a.key).cmp(&(&b.name, &b.key)));
        Snapshot { pool: self.pool_stats(), models, uptime_ms: now.since(self.started) }
    }

    /// What was counted in this pool's life so far.
    pub fn statistics(&self, now: Millis) -> Statistics {
        let mut models: Vec<&Model> = self.models.values().collect();
        models.sort_by_key(|model| std::cmp::Reverse(model.last_asked));
        let of_model = |model: &Model| ModelTally {
            key: model.spec.key.clone(),
            name: model.spec.name.clone(),
            tally: model.tally.clone(),
        };
        Statistics {
            uptime_ms: now.since(self.started),
            total: self.tally.clone(),
            models: models.into_iter().map(of_model).collect(),
        }
    }

    /// The instances of a model, whatever they are doing.
    pub fn instance_ids(&self, key: &ModelKey) -> impl Iterator<Item = InstanceId> {
        let models = self.models.values().filter(move |model| model.spec.key == *key);
        models.flat_map(|model| model.instances.iter().copied())
    }

    fn pool_stats(&self) -> PoolStats {
        let tally = &self.tally;
        let [load_ms_p50, load_ms_p99] = tally.load_times.percentiles_ms([50, 99]);
        let [queue_ms_p50, queue_ms_p99] = tally.queue_times.percentiles_ms([50, 99]);
        let share = |part: u64, of: u64| if of == 0 { 0.0 } else { part as f64 / of as f64 };
        let taken_bytes = self.ledger.used().on_host();
        PoolStats {
            requests: tally.requests,
            hits: tally.hits,
            misses: tally.misses,
            hit_rate: share(tally.hits, tally.hits + tally.misses + tally.coalesced),
            loads: tally.loads,
            load_failures: tally.load_failures,
            coalesced: tally.coalesced,
            evictions: tally.evicted(),
            evictions_by_reason: tally.evictions.clone(),
            parked: tally.parked,
            resumed: tally.resumed,
            grown: tally.grown,
            died: tally.died,
            refused: tally.refused,
            cancelled: tally.cancelled,
            queued: self.tickets.len() as u32,
            leases: self.leases.len() as u32,
            resident_bytes: self.ledger.resident().on_host(),
            reserved_bytes: self.ledger.reserved().on_host(),
            owed_bytes: self.ledger.owed().on_host(),
            budget_bytes: self.config.budget.bytes,
            usage_percent: share(taken_bytes, self.config.budget.bytes) * 100.0,
            soft_bytes: self.config.soft_bytes(),
            devices: self.devices(),
            budget_source: self.config.budget.source.clone(),
            eviction: self.config.eviction.name(),
            load_ms_p50,
            load_ms_mean: tally.load_times.mean_ms(),
            load_ms_p99,
            queue_ms_p50,
            queue_ms_mean: tally.queue_times.mean_ms(),
            queue_ms_p99,
        }
    }

    /// What is counted on each device that has a budget.
    fn devices(&self) -> BTreeMap<Arena, ArenaStats> {
        let (budgets, soft) = (self.config.budgets(), self.config.soft());
        let devices = Arena::all().filter(|arena| !arena.is_host() && budgets.of(*arena) > 0);
        let of_device = |arena: Arena| ArenaStats {
            resident_bytes: self.ledger.resident().of(arena),
            reserved_bytes: self.ledger.reserved().of(arena),
            owed_bytes: self.ledger.owed().of(arena),
            budget_bytes: budgets.of(arena),
            soft_bytes: soft.of(arena),
        };
        devices.map(|arena| (arena, of_device(arena))).collect()
    }

    fn model_stats(&self, id: ModelId, model: &Model, now: Millis) -> ModelStats {
        let tally = &model.tally;
        let [load_ms_p50, load_ms_p99] = tally.load_times.percentiles_ms([50, 99]);
        let instances = || self.instances_of(id).map(|(_, instance)| instance);
        let shown = self.most_alive(id);
        let counted = self.ledger.together(model.instances.iter().copied());
        let on_host = counted.footprint();
        let progress = instances().find_map(|instance| match instance.phase {
            Phase::Loading { fraction, .. } => Some(fraction),
            _ => None,
        });
        let ready = instances().filter(|instance| instance.phase == Phase::Ready);
        let idle = instances().filter(|instance| instance.is_idle());
        let is_idle = !model.instances.is_empty() && idle.count() == model.instances.len();
        let backoff = model.backoff.as_ref();
        ModelStats {
            name: model.spec.name.clone(),
            key: model.spec.key.clone(),
            engine: model.spec.engine.clone(),
            capabilities: model.spec.capabilities.kinds_of_work(),
            state: self.model_state(id, model, now),
            progress,
            options: shown.map(|instance| instance.spec.options.clone()),
            held_bytes: on_host.held_bytes,
            mapped_bytes: on_host.mapped_bytes,
            device_bytes: counted.on_devices(),
            instances: self.staying(id).filter(|(_, instance)| instance.phase == Phase::Ready).count() as u32,
            instances_max: model.spec.instances.max.max(model.instances.len() as u32),
            slots: instances().map(Instance::slots).sum(),
            busy_slots: instances().map(|instance| instance.leases).sum(),
            // The owner of the instances knows.
            threads: Vec::new(),
            queued: model.waiting_count(),
            needs: model.members.iter().map(|(member, _)| self.model(*member).spec.name.clone()).collect(),
            is_pinned: model.is_pinned,
            must_stay: self.is_pinned(id),
            largest_context_tokens: self
                .staying(id)
                .map(|(_, instance)| instance.spec.options.context_tokens)
                .max(),
            requests: tally.requests,
            hits: tally.hits,
            misses: tally.misses,
            coalesced: tally.coalesced,
            refused: tally.refused,
            cancelled: tally.cancelled,
            loads: tally.loads,
            load_failures: tally.load_failures,
            evictions: tally.evicted(),
            parked: tally.parked,
            resumed: tally.resumed,
            grown: tally.grown,
            load_ms_p50,
            load_ms_mean: tally.load_times.mean_ms(),
            load_ms_p99,
            queue_ms_mean: tally.queue_times.mean_ms(),
            age_ms: ready.map(|instance| now.since(instance.ready_span.1)).max(),
            idle_ms: instances().map(|instance| now.since(instance.last_used)).min().filter(|_| is_idle),
            expires_in_ms: instances()
                .filter_map(|instance| instance.expires_at)
                .max()
                .map(|at| at.since(now)),
            retry_in_ms: backoff.map(|backoff| backoff.retry_at.since(now)).filter(|ms| *ms > 0),
            failure: backoff.map(|backoff| backoff.failure.message.clone()),
        }
    }

    fn model_state(&self, id: ModelId, model: &Model, now: Millis) -> ModelState {
        let is_waiting = self.awaiting_memory.contains(&id);
        let Some(instance) = self.most_alive(id) else {
            let is_failed = model.backoff.as_ref().is_some_and(|backoff| backoff.retry_at > now);
            return match (is_waiting, is_failed) {
                (true, _) => ModelState::Waiting,
                (false, true) => ModelState::Failed,
                (false, false) => ModelState::Absent,
            };
        };
        match instance.phase {
            Phase::Loading { .. } => ModelState::Loading,
            _ if instance.growth.is_some() && instance.is_unused() => ModelState::Resuming,
            Phase::Ready if instance.exit_reason.is_some() => ModelState::Draining,
            Phase::Ready if !instance.is_unused() => ModelState::Busy,
            Phase::Ready => ModelState::Ready,
            Phase::Parking => ModelState::Parking,
            Phase::Parked if is_waiting => ModelState::Waiting,
            Phase::Parked => ModelState::Parked,
            Phase::Resuming => ModelState::Resuming,
            Phase::Unloading => ModelState::Unloading,
        }
    }

    /// The instance that says most about the model: one that serves, else one that comes, else one that leaves.
    fn most_alive(&self, model: ModelId) -> Option<&Instance> {
        let liveliness = |instance: &Instance| match instance.phase {
            Phase::Ready if instance.exit_reason.is_none() => 5,
            Phase::Loading { .. } | Phase::Resuming => 4,
            Phase::Ready => 3,
            Phase::Parking => 2,
            Phase::Parked => 1,
            Phase::Unloading => 0,
        };
        let instances = self.instances_of(model).map(|(_, instance)| instance);
        instances.max_by_key(|instance| (liveliness(instance), instance.leases))
    }
}
