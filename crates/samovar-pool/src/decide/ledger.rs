//! Who counts for how many bytes, and what is left.
//!
//! ```text
//!   budget ├──────────────────────────────────────────────┤
//!          │ resident: held + mapped once a model │ reserved │ free
//! ```
//!
//! `resident + reserved ≤ budget` holds after every call. What is measured beyond that is *owed*: it is counted as
//! soon as something else leaves, before anything new is reserved.

use std::collections::BTreeMap;

use samovar_core::Footprint;

use super::files::{Files, Mapped};
use super::state::ModelId;
use crate::protocol::InstanceId;

/// Who counts for how many bytes on one device.
#[derive(Clone, Debug)]
pub(super) struct Ledger {
    budget: u64,
    accounts: BTreeMap<InstanceId, Account>,
    resident: u64,
    reserved: u64,
    owed: u64,
    /// Reserved for what is no instance.
    aside: u64,
}

#[derive(Clone, Copy, Debug)]
struct Account {
    model: ModelId,
    held: u64,
    /// Weights mapped that are counted; of a parked one none.
    mapped: Mapped,
    /// All weights that it maps: what is not counted of them is owed.
    weights: Mapped,
    /// What it holds beyond what is counted.
    owed: u64,
    is_reserved: bool,
}

impl Ledger {
    pub(super) fn new(budget: u64) -> Self {
        Self { budget, accounts: BTreeMap::new(), resident: 0, reserved: 0, owed: 0, aside: 0 }
    }

    /// Another budget. One below what is in use is reached as instances leave.
    pub(super) fn set_budget(&mut self, budget: u64) {
        self.budget = budget;
        self.settle_debts();
    }

    /// The budget that holds: the one that was set, or what is in use while that is more.
    #[cfg(test)]
    pub(super) fn budget(&self) -> u64 {
        self.budget.max(self.used())
    }

    pub(super) fn resident(&self) -> u64 {
        self.resident
    }

    pub(super) fn reserved(&self) -> u64 {
        self.reserved
    }

    pub(super) fn owed(&self) -> u64 {
        self.owed
    }

    pub(super) fn used(&self) -> u64 {
        self.resident + self.reserved
    }

    pub(super) fn free(&self) -> u64 {
        self.budget.saturating_sub(self.used())
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.accounts.is_empty()
    }

    /// Held and mapped bytes that an instance counts for.
    pub(super) fn footprint(&self, instance: InstanceId) -> Footprint {
        self.accounts.get(&instance).map_or(Footprint::default(), |account| Footprint {
            held_bytes: account.held,
            mapped_bytes: account.mapped.total(),
        })
    }

    /// What these count for together, if they are of one model.
    pub(super) fn together(&self, instances: impl Iterator<Item = InstanceId>) -> Footprint {
        let (mut held_bytes, mut mapped) = (0, Mapped::default());
        for account in instances.filter_map(|id| self.accounts.get(&id)) {
            held_bytes += account.held;
            mapped = mapped.max(account.mapped);
        }
        Footprint { held_bytes, mapped_bytes: mapped.total() }
    }

    /// Held and mapped bytes of an instance, counted or owed.
    pub(super) fn footprint_with_debt(&self, instance: InstanceId) -> Footprint {
        self.accounts.get(&instance).map_or(Footprint::default(), |account| Footprint {
            held_bytes: account.held + account.owed,
            mapped_bytes: account.weights.total(),
        })
    }

    /// Bytes that would be free if this instance left: all that it holds, and the weights that only it maps.
    pub(super) fn freed_by_unload(&self, instance: InstanceId) -> u64 {
        self.accounts.get(&instance).map_or(0, |account| {
            account.held + account.mapped.beyond(self.mapped_beside(Some(instance), account.model)).total()
        })
    }

    /// Bytes that would be free if this instance were parked with so much left.
    pub(super) fn freed_by_park(&self, instance: InstanceId, residue: u64) -> u64 {
        self.freed_by_unload(instance).saturating_sub(residue)
    }

    /// Bytes that would be free if of each of these only so much were left. Weights go with the last of a model.
    pub(super) fn freed_by_all(&self, left: &BTreeMap<InstanceId, u64>) -> u64 {
        let mut freed = 0;
        let mut weights: BTreeMap<ModelId, (Mapped, Mapped)> = BTreeMap::new();
        for (id, account) in &self.accounts {
            let (before, after) = weights.entry(account.model).or_default();
            *before = (*before).max(account.mapped);
            match left.get(id) {
                Some(residue) => freed += account.held.saturating_sub(*residue),
                None => *after = (*after).max(account.mapped),
            }
        }
        freed + weights.into_values().map(|(before, after)| before.beyond(after).total()).sum::<u64>()
    }

    /// Bytes to reserve for one more account of the model, or for a fuller one of the same instance.
    pub(super) fn cost(
        &self,
        instance: Option<InstanceId>,
        model: ModelId,
        wanted: Footprint,
        files: Files,
    ) -> u64 {
        let now = instance.and_then(|id| self.accounts.get(&id)).map_or(0, |account| account.held);
        let mapped = files.split(wanted.mapped_bytes).beyond(self.mapped_beside(None, model));
        wanted.held_bytes.saturating_sub(now) + mapped.total()
    }

    /// Promises bytes to a load or a resume, if they are free.
    #[must_use]
    pub(super) fn reserve(
        &mut self,
        instance: InstanceId,
        model: ModelId,
        wanted: Footprint,
        files: Files,
    ) -> bool {
        let existing = self.accounts.contains_key(&instance).then_some(instance);
        if self.cost(existing, model, wanted, files) > self.free() {
            return false;
        }
        let account = self.accounts.entry(instance).or_insert(Account {
            model,
            held: 0,
            mapped: Mapped::default(),
            weights: Mapped::default(),
            owed: 0,
            is_reserved: true,
        });
        account.held = account.held.max(wanted.held_bytes);
        account.mapped = files.split(wanted.mapped_bytes);
        account.weights = account.mapped;
        account.is_reserved = true;
        self.recount();
        true
    }

    /// Promises bytes to something else than an instance, if they are free.
    #[must_use]
    pub(super) fn set_aside(&mut self, bytes: u64) -> bool {
        let is_free = bytes <= self.free();
        if is_free {
            self.aside += bytes;
            self.recount();
        }
        is_free
    }

    /// That has ended.
    pub(super) fn give_back(&mut self, bytes: u64) {
        self.aside -= bytes;
        self.settle_debts();
    }

    /// What was promised is in use now, and was measured to be this, in these files. The part that is not free is owed.
    pub(super) fn commit(&mut self, instance: InstanceId, measured: Footprint, files: Files) {
        let Some(account) = self.accounts.get_mut(&instance) else { return };
        account.is_reserved = false;
        account.weights = files.split(measured.mapped_bytes);
        account.mapped = account.mapped.min(account.weights);
        account.held = account.held.min(measured.held_bytes);
        account.owed = measured.held_bytes - account.held;
        self.settle_debts();
    }

    /// Only this much is left of the instance; its weights count no more.
    pub(super) fn park(&mut self, instance: InstanceId, residue: u64) {
        let Some(account) = self.accounts.get_mut(&instance) else { return };
        account.is_reserved = false;
        (account.mapped, account.weights) = (Mapped::default(), Mapped::default());
        account.owed = residue.saturating_sub(account.held);
        account.held = account.held.min(residue);
        self.settle_debts();
    }

    /// The instance is gone.
    pub(super) fn release(&mut self, instance: InstanceId) {
        self.accounts.remove(&instance);
        self.settle_debts();
    }

    /// What is mapped of a model by others than this instance.
    fn mapped_beside(&self, instance: Option<InstanceId>, model: ModelId) -> Mapped {
        let others =
            self.accounts.iter().filter(|(id, other)| Some(**id) != instance && other.model == model);
        others.fold(Mapped::default(), |all, (_, other)| all.max(other.mapped))
    }

    /// Counts what is owed as far as there is room, oldest debtor first; of each its weights first, which are shared.
    fn settle_debts(&mut self) {
        self.recount();
        let debtors = self.accounts.iter().filter(|(_, account)| account.is_in_debt());
        for (id, model) in debtors.map(|(id, account)| (*id, account.model)).collect::<Vec<_>>() {
            let (counted, free) = (self.mapped_beside(None, model), self.free());
            let Some(account) = self.accounts.get_mut(&id) else { continue };
            account.mapped = account.mapped.max(counted.towards(account.weights, free));
            self.recount();
            let free = self.free();
            let Some(account) = self.accounts.get_mut(&id) else { continue };
            let paid = account.owed.min(free);
            account.owed -= paid;
            account.held += paid;
            self.recount();
        }
    }

    fn recount(&mut self) {
        (self.resident, self.reserved, self.owed) = (0, self.aside, 0);
        let mut weights: BTreeMap<ModelId, Weights> = BTreeMap::new();
        for account in self.accounts.values() {
            self.owed += account.owed;
            *(if account.is_reserved { &mut self.reserved } else { &mut self.resident }) += account.held;
            let of_model = weights.entry(account.model).or_default();
            of_model.all = of_model.all.max(account.weights);
            of_model.counted = of_model.counted.max(account.mapped);
            if !account.is_reserved {
                of_model.resident = of_model.resident.max(account.mapped);
            }
        }
        for Weights { all, counted, resident } in weights.into_values() {
            self.resident += resident.total();
            self.reserved += counted.beyond(resident).total();
            self.owed += all.beyond(counted).total();
        }
    }
}

impl Account {
    fn is_in_debt(&self) -> bool {
        self.owed > 0 || self.mapped != self.weights
    }
}

/// The weights of one model: what is mapped in all, what of it counts, and what by instances that are there. The rest of
/// what counts is promised.
#[derive(Default)]
struct Weights {
    all: Mapped,
    counted: Mapped,
    resident: Mapped,
}

#[cfg(test)]
mod tests {
    use samovar_core::Layout;

    use super::*;

    const A: InstanceId = InstanceId(1);
    const B: InstanceId = InstanceId(2);
    const C: InstanceId = InstanceId(3);
    const MODEL: ModelId = ModelId(1);
    const OTHER: ModelId = ModelId(2);

    const PLAIN: Files = Files::new(Layout::Mapped, 50);

    fn bytes(held_bytes: u64, mapped_bytes: u64) -> Footprint {
        Footprint { held_bytes, mapped_bytes }
    }

    #[test]
    fn two_instances_of_a_model_count_its_weights_once() {
        let mut ledger = Ledger::new(100);
        assert!(ledger.reserve(A, MODEL, bytes(10, 50), PLAIN));
        assert_eq!(ledger.cost(None, MODEL, bytes(10, 50), PLAIN), 10);
        assert!(ledger.reserve(B, MODEL, bytes(10, 50), PLAIN));
        assert_eq!((ledger.reserved(), ledger.free()), (70, 30));
        ledger.commit(A, bytes(10, 50), PLAIN);
        assert_eq!((ledger.resident(), ledger.reserved()), (60, 10));
        assert_eq!((ledger.freed_by_unload(A), ledger.freed_by_unload(B)), (10, 10));
        ledger.release(A);
        assert_eq!(ledger.freed_by_unload(B), 60);
        ledger.release(B);
        assert_eq!((ledger.used(), ledger.is_empty()), (0, true));
    }

    #[test]
    fn a_parked_instance_counts_its_residue_alone() {
        let mut ledger = Ledger::new(100);
        assert!(ledger.reserve(A, MODEL, bytes(40, 50), PLAIN));
        ledger.commit(A, bytes(40, 50), PLAIN);
        assert_eq!(ledger.freed_by_park(A, 3), 87);
        ledger.park(A, 3);
        assert_eq!(ledger.used(), 3);
        assert_eq!(ledger.cost(Some(A), MODEL, bytes(40, 50), PLAIN), 87);
        assert!(ledger.reserve(A, MODEL, bytes(40, 50), PLAIN));
        assert_eq!((ledger.resident(), ledger.reserved()), (0, 90));
    }

    #[test]
    fn nothing_is_reserved_beyond_the_budget() {
        let mut ledger = Ledger::new(100);
        assert!(ledger.reserve(A, MODEL, bytes(60, 0), PLAIN));
        assert!(!ledger.reserve(B, OTHER, bytes(41, 0), PLAIN));
        assert_eq!(ledger.used(), 60);
        assert!(ledger.reserve(B, OTHER, bytes(40, 0), PLAIN));
        assert_eq!(ledger.free(), 0);
    }

    #[test]
    fn what_is_measured_beyond_the_budget_is_owed_and_paid_first() {
        let mut ledger = Ledger::new(100);
        assert!(ledger.reserve(A, MODEL, bytes(50, 0), PLAIN));
        assert!(ledger.reserve(B, OTHER, bytes(40, 0), PLAIN));
        ledger.commit(B, bytes(70, 0), PLAIN);
        assert_eq!((ledger.used(), ledger.owed(), ledger.free()), (100, 20, 0));
        ledger.commit(A, bytes(45, 0), PLAIN);
        assert_eq!((ledger.used(), ledger.owed()), (100, 15));
        ledger.release(A);
        assert_eq!((ledger.used(), ledger.owed(), ledger.free()), (70, 0, 30));
    }

    #[test]
    fn a_smaller_budget_is_reached_as_instances_leave() {
        let mut ledger = Ledger::new(100);
        assert!(ledger.reserve(A, MODEL, bytes(60, 0), PLAIN));
        ledger.set_budget(50);
        assert_eq!((ledger.budget(), ledger.free()), (60, 0));
        ledger.release(A);
        assert_eq!((ledger.budget(), ledger.free()), (50, 50));
    }

    #[test]
    fn each_file_is_counted_once_whoever_maps_it() {
        let packed = Files::new(Layout::Packed, 50);
        let hybrid = Files::new(Layout::Hybrid, 50);
        let mut ledger = Ledger::new(200);
        assert!(ledger.reserve(A, MODEL, bytes(1, 50), PLAIN));
        ledger.commit(A, bytes(1, 50), PLAIN);
        assert_eq!(ledger.cost(None, MODEL, bytes(1, 52), packed), 53, "another file");
        assert_eq!(
            ledger.cost(None, MODEL, bytes(1, 102), hybrid),
            53,
            "the model's own file is mapped already"
        );
        assert!(ledger.reserve(B, MODEL, bytes(1, 102), hybrid));
        assert_eq!((ledger.resident(), ledger.reserved()), (51, 53));
        ledger.commit(B, bytes(1, 102), hybrid);
        assert_eq!(ledger.resident(), 104);
        assert_eq!((ledger.freed_by_unload(A), ledger.freed_by_unload(B)), (1, 53));
        assert_eq!(ledger.together([A, B].into_iter()), bytes(2, 102));
        ledger.release(A);
        assert_eq!((ledger.used(), ledger.freed_by_unload(B)), (103, 103));
        ledger.release(B);
        assert!(
            ledger.reserve(A, MODEL, bytes(1, 52), packed) && ledger.reserve(B, MODEL, bytes(1, 52), packed)
        );
        assert_eq!(ledger.used(), 54);
    }

    #[test]
    fn a_hybrid_that_came_to_be_plain_counts_one_file() {
        let mut ledger = Ledger::new(200);
        assert!(ledger.reserve(A, MODEL, bytes(1, 102), Files::new(Layout::Hybrid, 50)));
        ledger.commit(A, bytes(1, 50), PLAIN);
        assert_eq!((ledger.used(), ledger.cost(None, MODEL, bytes(1, 50), PLAIN)), (51, 1));
    }

    #[test]
    fn what_came_to_be_plain_shares_with_others_what_they_map() {
        let packed = Files::new(Layout::Packed, 50);
        let mut ledger = Ledger::new(110);
        assert!(ledger.reserve(A, MODEL, bytes(1, 50), PLAIN));
        ledger.commit(A, bytes(1, 50), PLAIN);
        assert!(ledger.reserve(B, MODEL, bytes(1, 52), packed));
        assert!(ledger.reserve(C, OTHER, bytes(6, 0), PLAIN));
        ledger.commit(B, bytes(1, 50), PLAIN);
        assert_eq!((ledger.used(), ledger.owed()), (58, 0), "both map the model's own file");
        assert_eq!((ledger.freed_by_unload(A), ledger.freed_by_unload(B)), (1, 1));
    }

    #[test]
    fn what_came_to_be_plain_alone_counts_the_models_own_file() {
        let mut ledger = Ledger::new(60);
        assert!(ledger.reserve(A, MODEL, bytes(1, 52), Files::new(Layout::Packed, 50)));
        ledger.commit(A, bytes(1, 50), PLAIN);
        assert_eq!((ledger.used(), ledger.owed()), (51, 0));
        assert_eq!(ledger.cost(None, MODEL, bytes(1, 50), PLAIN), 1, "another that maps it adds nothing");
    }

    #[test]
    fn weights_that_are_owed_are_paid_as_weights_that_others_share() {
        let mut ledger = Ledger::new(100);
        assert!(ledger.reserve(A, MODEL, bytes(7, 36), Files::new(Layout::Packed, 18)));
        assert!(ledger.reserve(C, OTHER, bytes(50, 0), PLAIN));
        ledger.set_budget(50);
        ledger.commit(A, bytes(7, 36), PLAIN);
        assert_eq!((ledger.used(), ledger.owed()), (57, 36));
        ledger.release(C);
        assert_eq!((ledger.used(), ledger.owed()), (43, 0));
        assert_eq!(ledger.cost(None, MODEL, bytes(7, 36), PLAIN), 7);
    }
}
