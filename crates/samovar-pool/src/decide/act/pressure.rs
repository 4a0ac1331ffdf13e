//! Idle instances leave ahead of need: above the soft limit, and when the machine is short of memory.
//!
//! The instance that was used last stays, as long as the budget itself is kept: a single model that is larger than
//! the soft limit would else be loaded anew for each request.

use samovar_core::Bytes;

use super::StepContext;
use crate::decision::Reason;
use crate::protocol::InstanceId;

impl StepContext<'_> {
    pub(super) fn shed_above_soft(&mut self) {
        let soft = self.state.config.soft();
        let used = self.state.ledger.used() + self.state.ledger.owed();
        if soft.covers(used) {
            return;
        }
        let mut excess = used.minus(soft).minus(self.view().leaving_bytes());
        excess = excess.minus(self.ask_back(excess));
        let keeps_last = self.state.config.budgets().covers(used);
        let spared = self.view().used_last().filter(|_| keeps_last);
        for id in self.view().idle_in_order() {
            let Some(arena) = Bytes::NONE.short_of(excess) else { break };
            if spared == Some(id) || !self.view().can_give_way(id) {
                continue;
            }
            let frees = self.view().frees(id);
            if !frees.helps(excess) {
                continue;
            }
            let stays_until = self.view().residency_end(id);
            if stays_until > self.now {
                let review_at = self.state.review_at.map_or(stays_until, |at| at.min(stays_until));
                self.state.review_at = Some(review_at);
                continue;
            }
            excess = excess.minus(frees);
            let idle_ms = self.now.since(self.state.instance(id).last_used);
            let reload_ms = self.view().reload_ms(id);
            let (used_bytes, soft_bytes) = (used.of(arena), soft.of(arena));
            let frees_bytes = frees.of(arena);
            self.give_way(
                id,
                Reason::AboveSoft { used_bytes, soft_bytes, frees_bytes, idle_ms, reload_ms, arena },
            );
        }
    }

    pub(super) fn machine_pressure(&mut self, available_bytes: u64, stall_percent: f32) {
        if !self.state.config.memory_floor().is_short(available_bytes, stall_percent) {
            return;
        }
        if !self.ask_back(Bytes::host(1)).is_none() {
            return;
        }
        let view = self.view();
        let may_leave = |id: &InstanceId| {
            view.residency_end(*id) <= self.now && view.frees(*id).helps(Bytes::host(u64::MAX))
        };
        let first = view.idle_in_order().into_iter().find(may_leave);
        if let Some(id) = first {
            let (frees_bytes, reload_ms) = (self.view().frees(id).on_host(), self.view().reload_ms(id));
            self.give_way(id, Reason::Pressure { available_bytes, stall_percent, frees_bytes, reload_ms });
        }
    }
}
