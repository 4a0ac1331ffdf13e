//! How long an instance stays after its last use.
//!
//! ```text
//!   last lease drops ── keep-alive ──► park ── parked_ms ──► unload
//! ```
//!
//! `0` parks at once, `-1` waits until the memory is needed; a pinned instance stays.

use samovar_core::units::KeepAlive;

use super::StepContext;
use crate::config::PoolConfig;
use crate::decide::state::{Phase, Timer};
use crate::decision::Reason;
use crate::protocol::InstanceId;

/// Whether an instance's time is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Expiry {
    /// It is to leave at once.
    Now,
    /// A timer says when, or nothing does.
    Later,
}

/// A wish within the pool's floor and ceiling.
pub(super) fn within_bounds(config: &PoolConfig, wish: KeepAlive) -> KeepAlive {
    let ceiling = config.keep_alive_ceiling_ms;
    let wished_ms = match wish {
        KeepAlive::ParkAtOnce => 0,
        KeepAlive::Ms(ms) => ms,
        KeepAlive::UntilEvicted => match ceiling {
            None => return KeepAlive::UntilEvicted,
            Some(ceiling) => ceiling,
        },
    };
    match wished_ms.min(ceiling.unwrap_or(u64::MAX)).max(config.keep_alive_floor_ms) {
        0 => KeepAlive::ParkAtOnce,
        ms => KeepAlive::Ms(ms),
    }
}

impl StepContext<'_> {
    /// Begins to count from now, for an instance that is unused; or says that its time is over at once.
    pub(super) fn start_keep_alive(&mut self, id: InstanceId) -> Expiry {
        self.stop_keep_alive(id);
        self.await_probe(id);
        let instance = self.state.instance(id);
        if !instance.is_idle() || instance.exit_reason.is_some() || self.state.is_pinned(instance.model) {
            return Expiry::Later;
        }
        let after_ms = match (instance.phase, instance.keep_alive) {
            (Phase::Parked, _) => self.state.config.parked_ms,
            (_, KeepAlive::Ms(ms)) => ms,
            (_, KeepAlive::ParkAtOnce) => return Expiry::Now,
            (_, KeepAlive::UntilEvicted) => return Expiry::Later,
        };
        let at = self.now.plus(after_ms);
        self.state.instance_mut(id).expires_at = Some(at);
        self.state.timers.insert((at, Timer::Idle(id)));
        Expiry::Later
    }

    pub(super) fn stop_keep_alive(&mut self, id: InstanceId) {
        self.await_no_probe(id);
        if let Some(at) = self.state.instance_mut(id).expires_at.take() {
            self.state.timers.remove(&(at, Timer::Idle(id)));
        }
    }

    /// Why the instance is to give way, its time being over: to be parked if it was ready, unloaded if it was parked.
    /// `None` when it stays.
    pub(super) fn time_is_over(&mut self, id: InstanceId) -> Option<Reason> {
        let instance = self.state.instances.get_mut(&id)?;
        instance.expires_at = None;
        instance.is_lapsed = false;
        if !instance.is_idle() || instance.exit_reason.is_some() {
            return None;
        }
        let (model, idle_ms) = (instance.model, self.now.since(instance.last_used));
        if self.state.is_pinned(model) || self.state.is_wanted(model) {
            return None;
        }
        if self.view().is_held_by_its_replicas(id) {
            self.state.instance_mut(id).is_lapsed = true;
            return None;
        }
        let (frees_bytes, reload_ms) = (self.view().frees(id).sum(), self.view().reload_ms(id));
        Some(Reason::Expired { idle_ms, frees_bytes, reload_ms })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::budget::Budget;

    #[test]
    fn floor_and_ceiling_win_over_wishes() {
        let mut config = PoolConfig::with_budget(Budget::fixed(1, "test"));
        assert_eq!(within_bounds(&config, KeepAlive::ParkAtOnce), KeepAlive::ParkAtOnce);
        assert_eq!(within_bounds(&config, KeepAlive::UntilEvicted), KeepAlive::UntilEvicted);
        config.keep_alive_floor_ms = 1_000;
        config.keep_alive_ceiling_ms = Some(5_000);
        assert_eq!(within_bounds(&config, KeepAlive::ParkAtOnce), KeepAlive::Ms(1_000));
        assert_eq!(within_bounds(&config, KeepAlive::UntilEvicted), KeepAlive::Ms(5_000));
        assert_eq!(within_bounds(&config, KeepAlive::Ms(60_000)), KeepAlive::Ms(5_000));
        assert_eq!(within_bounds(&config, KeepAlive::Ms(3_000)), KeepAlive::Ms(3_000));
    }
}
