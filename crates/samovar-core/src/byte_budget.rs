//! One bound on bytes for many holders, with a share for each owner; it counts and never allocates anything.
//!
//! ```text
//!   ByteBudget (total) ──charge(owner)──► Charge ── grow ──► granted │ Exhausted
//!                                            └── shrink, drop ──► given back
//! ```
//!
//! Bytes are granted while there are any, and while their owner has no more than it leaves to all others: one owner can
//! have half of the total, two a third each, and there is always something left for the next. The first bytes of each
//! holder are granted whatever the rest holds, so that small requests are served beside large ones; holders are bounded
//! elsewhere.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::error::{ErrorKind, Failure};

/// Bytes of each holder that are granted whatever others hold.
pub const FLOOR_BYTES: u64 = 16 << 10;
/// A budget that is not told otherwise is this part of what there is …
const PART: u64 = 16;
/// … and at least so much …
const LEAST_BYTES: u64 = 64 << 20;
/// … and at most so much.
const MOST_BYTES: u64 = 1 << 30;
/// Less than this that was granted is not worth a look for memory to give back to the system.
const TIDE_BYTES: u64 = 2 << 20;
/// When a refused client may try again, in milliseconds.
const RETRY_AFTER_MS: u64 = 1_000;

/// One bound on bytes for many holders. Clones are the same budget.
#[derive(Clone, Debug)]
pub struct ByteBudget {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    total_bytes: u64,
    state: Mutex<State>,
    ebbed: Notify,
}

#[derive(Debug, Default)]
struct State {
    used_bytes: u64,
    /// Owners that hold anything.
    owners: HashMap<Arc<str>, u64>,
    refusals: u64,
    /// What was granted since it was last told that nearly nothing is held. Bodies that come one after another leave as
    /// much freed memory behind as bodies that come together.
    granted_bytes: u64,
}

/// The budget has no room for what was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no memory is left for it: {used_bytes} of {total_bytes} bytes are in use")]
pub struct Exhausted {
    /// Bytes in use.
    pub used_bytes: u64,
    /// The bound.
    pub total_bytes: u64,
}

impl From<Exhausted> for Failure {
    fn from(error: Exhausted) -> Self {
        let message = format!(
            "the memory for requests and unread answers is in use ({} of {} bytes)",
            error.used_bytes, error.total_bytes
        );
        Self::new(ErrorKind::Busy, message)
            .with_hint("try again in a moment; server.buffer_budget_bytes says how much there is")
            .with_retry_after_ms(RETRY_AFTER_MS)
    }
}

impl ByteBudget {
    /// A budget of so many bytes.
    pub fn new(total_bytes: u64) -> Self {
        Self { shared: Arc::new(Shared { total_bytes, state: Mutex::default(), ebbed: Notify::new() }) }
    }

    /// A sixteenth of this memory, and from 64 MiB to 1 GiB.
    pub fn part_of(memory_bytes: u64) -> Self {
        Self::new((memory_bytes / PART).clamp(LEAST_BYTES, MOST_BYTES))
    }

    /// A holder that has nothing yet, of this owner.
    pub fn charge(&self, owner: &str) -> Charge {
        Charge { budget: self.clone(), owner: owner.into(), bytes: 0 }
    }

    /// The bound.
    pub fn total_bytes(&self) -> u64 {
        self.shared.total_bytes
    }

    /// Bytes that are held now.
    pub fn used_bytes(&self) -> u64 {
        self.state().used_bytes
    }

    /// How often bytes were refused.
    pub fn refusals(&self) -> u64 {
        self.state().refusals
    }

    /// Resolves each time that much was granted and nearly all of it has been given back: freed memory may be worth
    /// returning to the system.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn ebbed(&self) {
        self.shared.ebbed.notified().await;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Bytes that a request holds. Dropping it gives them back.
#[derive(Debug)]
pub struct Charge {
    budget: ByteBudget,
    owner: Arc<str>,
    bytes: u64,
}

impl Charge {
    /// Bytes that it holds.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Takes more bytes.
    ///
    /// # Errors
    /// [`Exhausted`]; what it held before it still holds.
    pub fn grow(&mut self, by_bytes: u64) -> Result<(), Exhausted> {
        if by_bytes == 0 {
            // An owner that holds nothing is not kept.
            return Ok(());
        }
        let total_bytes = self.budget.shared.total_bytes;
        let mut state = self.budget.state();
        let own_bytes = state.owners.get(&self.owner).copied().unwrap_or(0).saturating_add(by_bytes);
        let used_bytes = state.used_bytes.saturating_add(by_bytes);
        let is_small = self.bytes.saturating_add(by_bytes) <= FLOOR_BYTES;
        if !is_small && own_bytes > total_bytes.saturating_sub(used_bytes) {
            state.refusals += 1;
            return Err(Exhausted { used_bytes: state.used_bytes, total_bytes });
        }
        state.used_bytes = used_bytes;
        state.granted_bytes = state.granted_bytes.saturating_add(by_bytes);
        state.owners.insert(Arc::clone(&self.owner), own_bytes);
        drop(state);
        self.bytes += by_bytes;
        Ok(())
    }

    /// Gives bytes back, at most those that it holds.
    pub fn shrink(&mut self, by_bytes: u64) {
        let by_bytes = by_bytes.min(self.bytes);
        if by_bytes == 0 {
            return;
        }
        self.bytes -= by_bytes;
        let mut state = self.budget.state();
        state.used_bytes -= by_bytes;
        if let Some(own_bytes) = state.owners.get_mut(&self.owner) {
            *own_bytes -= by_bytes;
            if *own_bytes == 0 {
                state.owners.remove(&self.owner);
            }
        }
        if state.granted_bytes >= TIDE_BYTES && state.used_bytes <= state.granted_bytes / 8 {
            state.granted_bytes = state.used_bytes;
            self.budget.shared.ebbed.notify_one();
        }
    }

    /// Gives all bytes back.
    pub fn clear(&mut self) {
        self.shrink(self.bytes);
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn one_owner_has_half_and_two_a_third_each() {
        let budget = ByteBudget::new(60 * MIB);
        let mut greedy = budget.charge("greedy");
        while greedy.grow(MIB).is_ok() {}
        assert_eq!(greedy.bytes(), 30 * MIB);
        let mut other = budget.charge("other");
        while other.grow(MIB).is_ok() {}
        assert_eq!(other.bytes(), 15 * MIB);
        greedy.clear();
        while other.grow(MIB).is_ok() {}
        while greedy.grow(MIB).is_ok() {}
        assert!(budget.used_bytes() < budget.total_bytes());
        assert_eq!(budget.refusals(), 4);
    }

    #[test]
    fn an_owner_under_many_holders_has_no_more() {
        let budget = ByteBudget::new(60 * MIB);
        let mut held: Vec<Charge> = (0..100).map(|_| budget.charge("greedy")).collect();
        let granted = held.iter_mut().filter_map(|charge| charge.grow(MIB).ok()).count();
        assert_eq!(granted, 30);
    }

    #[test]
    fn small_holders_are_served_when_nothing_is_left() {
        let budget = ByteBudget::new(MIB);
        let mut greedy = budget.charge("x");
        while greedy.grow(MIB / 8).is_ok() {}
        let mut small = budget.charge("x");
        small.grow(FLOOR_BYTES).expect("the floor is granted");
        small.grow(1).expect_err("and no more");
        assert_eq!(small.bytes(), FLOOR_BYTES);
    }

    #[test]
    fn what_is_dropped_is_given_back_to_the_last_byte() {
        let budget = ByteBudget::new(MIB);
        let mut charge = budget.charge("a");
        charge.grow(300).expect("fits");
        charge.shrink(100);
        assert_eq!(budget.used_bytes(), 200);
        charge.shrink(1_000);
        assert_eq!((charge.bytes(), budget.used_bytes()), (0, 0));
        charge.grow(5).expect("fits");
        drop(charge);
        assert_eq!(budget.used_bytes(), 0);
        assert!(budget.state().owners.is_empty());
    }

    #[test]
    fn taking_nothing_is_granted_and_leaves_no_owner_behind() {
        let budget = ByteBudget::new(0);
        let mut charges: Vec<Charge> = ["a", "b"].map(|owner| budget.charge(owner)).into();
        charges[1].grow(FLOOR_BYTES).expect("the floor is granted");
        for charge in &mut charges {
            assert_eq!(charge.grow(0), Ok(()));
        }
        assert_eq!(budget.state().owners.len(), 1);
        drop(charges);
        assert!(budget.state().owners.is_empty());
        assert_eq!(budget.refusals(), 0);
    }

    #[test]
    fn a_flood_that_has_gone_is_told_once() {
        let budget = ByteBudget::new(100 * MIB);
        let told = || {
            let mut told = std::pin::pin!(budget.ebbed());
            let waker = std::task::Waker::noop();
            told.as_mut().poll(&mut std::task::Context::from_waker(waker)).is_ready()
        };
        let mut charge = budget.charge("a");
        charge.grow(MIB).expect("fits");
        charge.clear();
        assert!(!told(), "so little is not worth it");
        charge.grow(40 * MIB).expect("fits");
        charge.shrink(MIB);
        assert!(!told());
        charge.clear();
        assert!(told() && !told());
        for _ in 0..2 {
            charge.grow(MIB).expect("fits");
            assert!(!told());
            charge.clear();
        }
        assert!(told() && !told(), "one after another is as much");
    }

    #[test]
    fn a_part_of_the_memory_has_bounds() {
        assert_eq!(ByteBudget::part_of(200 * MIB).total_bytes(), 64 * MIB);
        assert_eq!(ByteBudget::part_of(8 << 30).total_bytes(), 512 * MIB);
        assert_eq!(ByteBudget::part_of(1 << 40).total_bytes(), 1 << 30);
    }
}
