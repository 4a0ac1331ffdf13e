//! What must be true after every step, by the world's own account.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use samovar_core::{Bytes, FileId, Memory, ModelKey};

use super::super::state::Instance;
use super::world::{CLIENTS, Caller, Seen, Work, World};
use crate::ask::ModelSpec;
use crate::protocol::{Effect, InstanceId, TicketId};

/// How often a model may yield its turn to one that waits and has not been placed since: twice only where other things
/// have changed meanwhile, such as the budget, or who waits for what.
const YIELDS_MAX: u32 = 2;

/// An invariant of the pool's design that did not hold.
#[derive(Debug)]
pub(super) struct Broken {
    pub(super) invariant: u8,
    pub(super) what: String,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "invariant {}: {}", self.invariant, self.what)
    }
}

pub(super) fn broken(invariant: u8, what: impl Into<String>) -> Result<(), Broken> {
    Err(Broken { invariant, what: what.into() })
}

impl World {
    /// No model has more instances than it may have; one that may have one has none that leaves beside it either.
    pub(super) fn check_number(&self, model: &ModelSpec) -> Result<(), Broken> {
        let others = self.instances.iter().filter(|(_, seen)| seen.key == model.key).map(|(id, _)| id);
        let count = match model.instances.max {
            1 => others.count(),
            _ => others.filter(|id| self.state.instances.get(*id).is_some_and(Instance::stays)).count(),
        };
        if count as u32 >= model.instances.max {
            return broken(4, format!("{} is loaded beside {count} others", model.name));
        }
        Ok(())
    }

    /// A model that is given up is not loaded, and then by one load at a time until it works again or is forgotten.
    pub(super) fn check_breaker(&self, key: &ModelKey) -> Result<(), Broken> {
        let Some(until) = self.given_up.get(key).filter(|until| self.now < until.plus(60_000)) else {
            return Ok(());
        };
        let loads =
            self.instances.values().filter(|seen| seen.key == *key && seen.work == Some(Work::Load)).count();
        if self.now < *until {
            return broken(11, format!("{key} is loaded and was given up until {until:?}"));
        }
        if loads > 0 {
            return broken(11, format!("{key} is tried by {} loads at a time", loads + 1));
        }
        Ok(())
    }

    /// A model that has yielded its turn to another does not come back before it, to yield again and again.
    pub(super) fn check_yield(&mut self, key: &ModelKey, beneficiary: &str) -> Result<(), Broken> {
        if !self.had_its_turn(key) {
            return Ok(());
        }
        let times = self.yielded.entry((key.clone(), beneficiary.to_owned())).or_default();
        *times += 1;
        if *times > YIELDS_MAX {
            return broken(12, format!("{key} yielded {times} times to {beneficiary}, which waits"));
        }
        Ok(())
    }

    /// Whether the one instance of a model that is alone was ready for all who wait for it.
    fn had_its_turn(&self, key: &ModelKey) -> bool {
        let is_alone = self.needs[key].is_empty() && !self.needs.values().any(|needs| needs.contains(key));
        let mut instances = self.instances.iter().filter(|(_, seen)| seen.key == *key);
        let (Some((id, seen)), None) = (instances.next(), instances.next()) else { return false };
        let Some(instance) = self.state.instances.get(id).filter(|_| is_alone && seen.is_ready) else {
            return false;
        };
        let asked = self.waiting.values().filter_map(|caller| caller.asks.as_ref());
        let mut wishes = asked.filter(|(model, _)| model.key == *key).peekable();
        wishes.peek().is_some() && wishes.all(|(wish, _)| instance.satisfies(wish))
    }

    /// No client whom this instance could have served is passed over more often than the weights say.
    pub(super) fn check_turn(&mut self, id: InstanceId, granted: Caller) -> Result<(), Broken> {
        let Some((model, client)) = granted.asks else { return Ok(()) };
        let key = model.key.clone();
        self.passed.retain(|(other, passed, _), _| *other != key || *passed != client);
        for other in (0..CLIENTS).filter(|other| *other != client) {
            let of_other = |caller: &&Caller| {
                caller.asks.as_ref().is_some_and(|(asked, number)| asked.key == key && *number == other)
            };
            let waiting = self.waiting.values().filter(of_other);
            let mut asked = waiting.filter_map(|caller| caller.asks.as_ref()).peekable();
            let instance = self.state.instances.get(&id);
            let waits = asked.peek().is_some();
            let could_be_served =
                |(wish, _): &(Arc<ModelSpec>, u64)| instance.is_some_and(|one| one.satisfies(wish));
            if !waits || !asked.all(could_be_served) {
                self.passed.remove(&(key.clone(), other, client));
                continue;
            }
            let times = self.passed.entry((key.clone(), other, client)).or_default();
            *times += 1;
            if *times > (client + 1) / (other + 1) + 1 {
                let who = format!("client {other} of {key}");
                return broken(10, format!("{who} was passed over {times} times for client {client}"));
            }
        }
        Ok(())
    }

    /// A promise may be made only for bytes that are there. While something is owed nothing new is promised; a growth
    /// that was promised before goes on.
    pub(super) fn check_room(&self, id: InstanceId, wanted: &Memory) -> Result<(), Broken> {
        let with_it = self.instances.iter().map(|(other, seen)| {
            let bytes = if *other == id { wanted.clone() } else { seen.bytes.clone() };
            (seen, bytes)
        });
        let in_use = sum_of(with_it) + self.background_bytes();
        let allowed = self.allowance.max(self.budget) + self.state.ledger.owed();
        if !allowed.covers(in_use) {
            return broken(1, format!("{wanted:?} promised, with it {in_use:?} in use of {:?}", self.budget));
        }
        Ok(())
    }

    /// No instance leaves for work in the background, and it has only what is free below the soft limit.
    pub(super) fn check_background_reservations(&self, effects: &[Effect]) -> Result<(), Broken> {
        let leaves = |effect: &&Effect| matches!(effect, Effect::Park { .. } | Effect::Unload { .. });
        if let Some(effect) = effects.iter().find(leaves) {
            return broken(9, format!("{effect:?} for work in the background"));
        }
        let (ledger, soft) = (&self.state.ledger, self.budget.part(self.soft_ratio));
        let in_use = (ledger.used() + ledger.owed()).on_host();
        if in_use > soft.on_host() {
            return broken(9, format!("{in_use} in use of {soft:?} with work in the background"));
        }
        Ok(())
    }

    pub(super) fn background_bytes(&self) -> Bytes {
        self.background_reservations.values().map(|(bytes, _)| Bytes::host(*bytes)).sum()
    }

    /// A request that is granted a model has all that the model needs.
    pub(super) fn check_group(&self, ticket: TicketId, needs: &BTreeSet<ModelKey>) -> Result<(), Broken> {
        let is_ready = |key: &ModelKey| {
            self.instances.values().any(|seen| seen.key == *key && seen.is_ready && seen.work.is_none())
        };
        match needs.iter().find(|key| !is_ready(key)) {
            Some(missing) => broken(5, format!("{ticket:?} was granted without {missing}")),
            None => Ok(()),
        }
    }

    pub(super) fn check(&mut self) -> Result<(), Broken> {
        self.check_bytes()?;
        self.check_callers()?;
        self.check_holds()?;
        for (id, instance) in &self.state.instances {
            let held = self.leases.values().filter(|leased| *leased == id).count();
            if instance.leases as usize != held || instance.leases > instance.slots() {
                return broken(5, format!("{id:?} counts {} leases, {held} are out", instance.leases));
            }
        }
        Ok(())
    }

    /// Every lease of a model holds one instance of each that it needs.
    pub(super) fn check_holds(&self) -> Result<(), Broken> {
        let mut holds: BTreeMap<&ModelKey, u32> = BTreeMap::new();
        for instance in self.state.instances.values() {
            *holds.entry(&instance.spec.key).or_default() += instance.holds;
        }
        for (key, count) in holds {
            let held = self.held.values().filter(|keys| keys.contains(key)).count();
            if count as usize != held {
                return broken(5, format!("{key} counts {count} leases that need it, {held} are out"));
            }
        }
        Ok(())
    }

    pub(super) fn check_bytes(&mut self) -> Result<(), Broken> {
        let ledger = &self.state.ledger;
        self.allowance = self.allowance.min(ledger.used()).max(self.budget);
        if !self.allowance.covers(ledger.used()) {
            return broken(1, format!("{:?} in use of {:?}", ledger.used(), self.allowance));
        }
        // What is to grow counts for more from the decision on, before anything is done.
        let growing = |id: &InstanceId| self.state.instance(*id).growth.is_some();
        let counted = |(id, seen): (&InstanceId, &Seen)| {
            let counts = ledger.memory_with_debt(*id);
            let mut more = seen.bytes.clone();
            if growing(id) {
                more.private = more.private.max(counts.private);
                for (file, bytes) in counts.mapped {
                    let most = more.mapped.entry(file).or_default();
                    *most = most.max(bytes);
                }
            }
            more
        };
        let in_use = sum_of(self.instances.iter().map(|(id, seen)| (seen, counted((id, seen)))));
        let in_use = in_use + self.background_bytes();
        if ledger.used() + ledger.owed() != in_use {
            let (used, owed) = (ledger.used(), ledger.owed());
            return broken(1, format!("{used:?} counted and {owed:?} owed, {in_use:?} in use"));
        }
        Ok(())
    }

    pub(super) fn check_callers(&self) -> Result<(), Broken> {
        let overdue = |caller: &&Caller| caller.deadline.is_some_and(|deadline| deadline <= self.now);
        if let Some(caller) = self.waiting.values().find(overdue) {
            return broken(6, format!("{caller:?} waits at {:?}", self.now));
        }
        let lost = self.waiting.keys().find(|ticket| !self.state.tickets.contains_key(ticket));
        if let Some(ticket) = lost {
            return broken(2, format!("{ticket:?} was lost"));
        }
        let tally = &self.state.tally;
        let granted = tally.hits + tally.misses + tally.coalesced;
        let queued = self.state.tickets.values().filter(|ticket| ticket.wants_slot).count() as u64;
        if tally.requests != granted + tally.refused + tally.cancelled + queued {
            return broken(2, format!("{queued} queued do not make up the sum of {tally:?}"));
        }
        if self.is_leaving && !self.waiting.is_empty() {
            return broken(6, "a request waits for a pool that leaves");
        }
        Ok(())
    }
}

/// All that is held, and what is mapped once a file.
fn sum_of<'a>(memories: impl Iterator<Item = (&'a Seen, Memory)>) -> Bytes {
    let mut mapped: BTreeMap<(&ModelKey, FileId), Bytes> = BTreeMap::new();
    let mut sum = Bytes::NONE;
    for (seen, memory) in memories {
        sum += memory.private;
        for (file, bytes) in memory.mapped {
            let most = mapped.entry((&seen.key, file)).or_default();
            *most = most.max(bytes);
        }
    }
    mapped.into_values().fold(sum, |all, bytes| all + bytes)
}
