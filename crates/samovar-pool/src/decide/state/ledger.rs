//! Who counts for how many bytes, and what is left, in each arena.
//!
//! ```text
//!   budget ├──────────────────────────────────────────────┤   of one arena; each has such a line
//!          │ resident: private + each file once │ reserved │ free
//! ```
//!
//! `resident + reserved ≤ budget` holds after every call, in every arena. What is measured beyond that is *owed*: it is
//! counted as soon as something else leaves, before anything new is reserved.

use std::collections::{BTreeMap, BTreeSet};

use samovar_core::{Bytes, FileId, Mapped, Memory};

use super::ModelId;
use crate::protocol::InstanceId;

/// Who counts for how many bytes.
#[derive(Clone, Debug)]
pub(in crate::decide) struct Ledger {
    budget: Bytes,
    accounts: BTreeMap<InstanceId, Account>,
    /// The accounts of each model, and their sums.
    models: BTreeMap<ModelId, OfModel>,
    /// The sums of all models.
    sums: Sums,
    /// Reserved for what is no instance.
    background: Bytes,
}

#[derive(Clone, Debug)]
struct Account {
    model: ModelId,
    private: Bytes,
    /// Weights mapped that are counted; of a parked one none.
    mapped: Mapped,
    /// All weights that it maps: what is not counted of them is owed.
    weights: Mapped,
    /// What it holds beyond what is counted.
    owed: Bytes,
    is_reserved: bool,
}

#[derive(Clone, Debug, Default)]
struct OfModel {
    instances: BTreeSet<InstanceId>,
    sums: Sums,
}

#[derive(Clone, Copy, Debug, Default)]
struct Sums {
    resident: Bytes,
    reserved: Bytes,
    owed: Bytes,
}

impl Ledger {
    pub(in crate::decide) fn new(budget: Bytes) -> Self {
        Self {
            budget,
            accounts: BTreeMap::new(),
            models: BTreeMap::new(),
            sums: Sums::default(),
            background: Bytes::NONE,
        }
    }

    /// Another budget. One below what is in use is reached as instances leave.
    pub(in crate::decide) fn set_budget(&mut self, budget: Bytes) {
        self.budget = budget;
        self.settle_debts();
    }

    /// The budget that holds: the one that was set, or what is in use while that is more.
    #[cfg(test)]
    pub(in crate::decide) fn budget(&self) -> Bytes {
        self.budget.max(self.used())
    }

    pub(in crate::decide) fn resident(&self) -> Bytes {
        self.sums.resident
    }

    pub(in crate::decide) fn reserved(&self) -> Bytes {
        self.sums.reserved + self.background
    }

    pub(in crate::decide) fn owed(&self) -> Bytes {
        self.sums.owed
    }

    pub(in crate::decide) fn used(&self) -> Bytes {
        self.resident() + self.reserved()
    }

    pub(in crate::decide) fn free(&self) -> Bytes {
        self.budget.minus(self.used())
    }

    #[cfg(test)]
    pub(in crate::decide) fn is_empty(&self) -> bool {
        self.accounts.is_empty()
    }

    /// What an instance counts for.
    pub(in crate::decide) fn memory(&self, instance: InstanceId) -> Memory {
        self.accounts.get(&instance).map_or_else(Memory::default, |account| Memory {
            private: account.private,
            mapped: account.mapped.clone(),
        })
    }

    /// What these count for together, if they are of one model.
    pub(in crate::decide) fn together(&self, instances: impl Iterator<Item = InstanceId>) -> Memory {
        let mut all = Memory::default();
        for account in instances.filter_map(|id| self.accounts.get(&id)) {
            all.private += account.private;
            higher(&mut all.mapped, &account.mapped);
        }
        all
    }

    /// What an instance has, counted or owed.
    pub(in crate::decide) fn memory_with_debt(&self, instance: InstanceId) -> Memory {
        self.accounts.get(&instance).map_or_else(Memory::default, |account| Memory {
            private: account.private + account.owed,
            mapped: account.weights.clone(),
        })
    }

    /// Bytes that would be free if this instance left: all that it holds, and the weights that only it maps.
    pub(in crate::decide) fn freed_by_unload(&self, instance: InstanceId) -> Bytes {
        self.accounts.get(&instance).map_or(Bytes::NONE, |account| {
            account.private + beyond(&account.mapped, &self.mapped_beside(Some(instance), account.model))
        })
    }

    /// Bytes that would be free if this instance were parked with so much left.
    pub(in crate::decide) fn freed_by_park(&self, instance: InstanceId, residue: Bytes) -> Bytes {
        self.freed_by_unload(instance).minus(residue)
    }

    /// Bytes that would be free if of each of these only so much were left. Weights go with the last of a model.
    pub(in crate::decide) fn freed_by_all(&self, left: &BTreeMap<InstanceId, Bytes>) -> Bytes {
        let mut freed = Bytes::NONE;
        let mut models = BTreeSet::new();
        for (id, residue) in left {
            let Some(account) = self.accounts.get(id) else { continue };
            freed += account.private.minus(*residue);
            models.insert(account.model);
        }
        for model in models {
            let (mut before, mut after) = (Mapped::new(), Mapped::new());
            for (id, account) in self.accounts_of(model) {
                higher(&mut before, &account.mapped);
                if !left.contains_key(&id) {
                    higher(&mut after, &account.mapped);
                }
            }
            freed += beyond(&before, &after);
        }
        freed
    }

    /// Bytes to reserve for one more account of the model, or for a fuller one of the same instance.
    pub(in crate::decide) fn cost(
        &self,
        instance: Option<InstanceId>,
        model: ModelId,
        wanted: &Memory,
    ) -> Bytes {
        let now =
            instance.and_then(|id| self.accounts.get(&id)).map_or(Bytes::NONE, |account| account.private);
        wanted.private.minus(now) + beyond(&wanted.mapped, &self.mapped_beside(None, model))
    }

    /// Promises bytes to a load or a resume, if they are free.
    #[must_use]
    pub(in crate::decide) fn reserve(
        &mut self,
        instance: InstanceId,
        model: ModelId,
        wanted: &Memory,
    ) -> bool {
        let existing = self.accounts.contains_key(&instance).then_some(instance);
        if !self.free().covers(self.cost(existing, model, wanted)) {
            return false;
        }
        let account = self.accounts.entry(instance).or_insert_with(|| Account {
            model,
            private: Bytes::NONE,
            mapped: Mapped::new(),
            weights: Mapped::new(),
            owed: Bytes::NONE,
            is_reserved: true,
        });
        account.private = account.private.max(wanted.private);
        // What is to grow maps what it has until it is parked, though it may come back with other files.
        higher(&mut account.mapped, &wanted.mapped);
        higher(&mut account.weights, &wanted.mapped);
        account.is_reserved = true;
        self.models.entry(model).or_default().instances.insert(instance);
        self.recount(model);
        true
    }

    /// Promises bytes to something else than an instance, if they are free.
    #[must_use]
    pub(in crate::decide) fn reserve_background(&mut self, bytes: Bytes) -> bool {
        let is_free = self.free().covers(bytes);
        if is_free {
            self.background += bytes;
        }
        is_free
    }

    /// That has ended.
    pub(in crate::decide) fn give_back(&mut self, bytes: Bytes) {
        self.background = self.background.minus(bytes);
        self.settle_debts();
    }

    /// What was promised is in use now, and was measured to be this. The part that is not free is owed.
    pub(in crate::decide) fn commit(&mut self, instance: InstanceId, measured: &Memory) {
        let Some(account) = self.accounts.get_mut(&instance) else { return };
        account.is_reserved = false;
        account.weights.clone_from(&measured.mapped);
        account.mapped = lower(&account.mapped, &account.weights);
        account.private = account.private.min(measured.private);
        account.owed = measured.private.minus(account.private);
        let model = account.model;
        self.recount(model);
        self.settle_debts();
    }

    /// Only this much is left of the instance; its weights count no more.
    pub(in crate::decide) fn park(&mut self, instance: InstanceId, residue: Bytes) {
        let Some(account) = self.accounts.get_mut(&instance) else { return };
        account.is_reserved = false;
        (account.mapped, account.weights) = (Mapped::new(), Mapped::new());
        account.owed = residue.minus(account.private);
        account.private = account.private.min(residue);
        let model = account.model;
        self.recount(model);
        self.settle_debts();
    }

    /// The instance is gone.
    pub(in crate::decide) fn release(&mut self, instance: InstanceId) {
        if let Some(account) = self.accounts.remove(&instance) {
            if let Some(of_model) = self.models.get_mut(&account.model) {
                of_model.instances.remove(&instance);
            }
            self.recount(account.model);
        }
        self.settle_debts();
    }

    fn accounts_of(&self, model: ModelId) -> impl Iterator<Item = (InstanceId, &Account)> {
        let instances = self.models.get(&model).into_iter().flat_map(|of_model| &of_model.instances);
        instances.filter_map(move |id| Some((*id, self.accounts.get(id)?)))
    }

    /// What is mapped of a model by others than this instance.
    fn mapped_beside(&self, instance: Option<InstanceId>, model: ModelId) -> Mapped {
        let mut all = Mapped::new();
        for (_, other) in self.accounts_of(model).filter(|(id, _)| Some(*id) != instance) {
            higher(&mut all, &other.mapped);
        }
        all
    }

    /// Counts what is owed as far as there is room, oldest debtor first; of each its weights first, which are shared.
    fn settle_debts(&mut self) {
        let debtors = self.accounts.iter().filter(|(_, account)| account.is_in_debt());
        for (id, model) in debtors.map(|(id, account)| (*id, account.model)).collect::<Vec<_>>() {
            let (counted, free) = (self.mapped_beside(None, model), self.free());
            let Some(account) = self.accounts.get_mut(&id) else { continue };
            higher(&mut account.mapped, &towards(&counted, &account.weights, free));
            self.recount(model);
            let free = self.free();
            let Some(account) = self.accounts.get_mut(&id) else { continue };
            let paid = account.owed.min(free);
            account.owed = account.owed.minus(paid);
            account.private += paid;
            self.recount(model);
        }
    }

    /// Adds up what the accounts of a model count for.
    fn recount(&mut self, model: ModelId) {
        let now = self.sums_of(model);
        let Some(of_model) = self.models.get_mut(&model) else { return };
        let before = std::mem::replace(&mut of_model.sums, now);
        if of_model.instances.is_empty() {
            self.models.remove(&model);
        }
        let Sums { resident, reserved, owed } = self.sums;
        self.sums = Sums {
            resident: resident.minus(before.resident) + now.resident,
            reserved: reserved.minus(before.reserved) + now.reserved,
            owed: owed.minus(before.owed) + now.owed,
        };
    }

    fn sums_of(&self, model: ModelId) -> Sums {
        let mut sums = Sums::default();
        // What is mapped in all, what of it counts, and what by instances that are there; what else counts is promised.
        let (mut all, mut counted, mut resident) = (Mapped::new(), Mapped::new(), Mapped::new());
        for (_, account) in self.accounts_of(model) {
            sums.owed += account.owed;
            *(if account.is_reserved { &mut sums.reserved } else { &mut sums.resident }) += account.private;
            higher(&mut all, &account.weights);
            higher(&mut counted, &account.mapped);
            if !account.is_reserved {
                higher(&mut resident, &account.mapped);
            }
        }
        sums.resident += resident.values().copied().sum::<Bytes>();
        sums.reserved += beyond(&counted, &resident);
        sums.owed += beyond(&all, &counted);
        sums
    }
}

impl Account {
    fn is_in_debt(&self) -> bool {
        !self.owed.is_none() || self.mapped != self.weights
    }
}

fn mapped_of(mapped: &Mapped, file: FileId) -> Bytes {
    mapped.get(&file).copied().unwrap_or_default()
}

/// Makes of each file what the one or the other has, whichever is more.
fn higher(one: &mut Mapped, other: &Mapped) {
    for (file, bytes) in other {
        let most = one.entry(*file).or_default();
        *most = most.max(*bytes);
    }
}

/// Of each file what both have.
fn lower(one: &Mapped, other: &Mapped) -> Mapped {
    let both = other.iter().map(|(file, bytes)| (*file, bytes.min(mapped_of(one, *file))));
    both.filter(|(_, bytes)| !bytes.is_none()).collect()
}

/// What of all files the one has beyond the other.
fn beyond(one: &Mapped, other: &Mapped) -> Bytes {
    one.iter().map(|(file, bytes)| bytes.minus(mapped_of(other, *file))).sum()
}

/// What there is, and of what `full` has beyond it so many bytes; no more than `full`.
fn towards(there: &Mapped, full: &Mapped, mut bytes: Bytes) -> Mapped {
    let mut reached = Mapped::new();
    for (file, most) in full {
        let now = mapped_of(there, *file);
        let next = most.min(now + bytes);
        bytes = bytes.minus(next.minus(now));
        reached.insert(*file, next);
    }
    reached
}

#[cfg(test)]
mod tests;
