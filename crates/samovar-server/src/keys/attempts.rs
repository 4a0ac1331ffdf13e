//! Slows down addresses that send one wrong key after another, in bounded memory. A right key is never slowed down, so that a client behind
//! the same proxy as an attacker is served.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::gcra::Gcra;

/// Wrong keys per minute and address that are answered at once.
const AT_ONCE_PER_MINUTE: u32 = 20;
/// No answer waits longer.
const DELAY_MAX: Duration = Duration::from_secs(5);
/// Addresses that are remembered.
const ADDRESSES_MAX: usize = 1_024;

/// The wrong keys of the last minute, by address.
#[derive(Debug)]
pub(super) struct Attempts {
    began: Instant,
    by_address: Mutex<HashMap<Arc<str>, Gcra>>,
}

impl Attempts {
    pub(super) fn new() -> Self {
        Self { began: Instant::now(), by_address: Mutex::default() }
    }

    /// Counts a wrong key of this address. How long its answer is to wait.
    pub(super) fn wrong(&self, address: &Arc<str>) -> Duration {
        let now_ns = self.began.elapsed().as_nanos() as u64;
        let mut by_address = self.by_address.lock().unwrap_or_else(PoisonError::into_inner);
        if by_address.len() >= ADDRESSES_MAX && !by_address.contains_key(address) {
            make_room(&mut by_address, now_ns);
        }
        let gcra = by_address.entry(Arc::clone(address)).or_default();
        match gcra.take(AT_ONCE_PER_MINUTE, 1, now_ns) {
            Ok(_) => Duration::ZERO,
            Err(wait_ns) => {
                let wait = Duration::from_nanos(wait_ns);
                if wait < DELAY_MAX {
                    // It waits in line behind the wrong keys before it.
                    gcra.charge(AT_ONCE_PER_MINUTE, 1, now_ns);
                }
                wait.min(DELAY_MAX)
            }
        }
    }
}

impl Default for Attempts {
    fn default() -> Self {
        Self::new()
    }
}

/// Forgets the addresses that may begin anew, or else the one that is nearest to it.
fn make_room(by_address: &mut HashMap<Arc<str>, Gcra>, now_ns: u64) {
    by_address.retain(|_, gcra| gcra.until_full_ns(now_ns) > 0);
    if by_address.len() < ADDRESSES_MAX {
        return;
    }
    let nearest = by_address.iter().min_by_key(|(_, gcra)| gcra.until_full_ns(now_ns));
    if let Some(address) = nearest.map(|(address, _)| Arc::clone(address)) {
        by_address.remove(&address);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_address_that_sends_many_wrong_keys_waits_and_others_do_not() {
        let attempts = Attempts::new();
        let (one, other): (Arc<str>, Arc<str>) = ("10.0.0.7".into(), "10.0.0.8".into());
        let waits: Vec<Duration> = (0..30).map(|_| attempts.wrong(&one)).collect();
        assert!(waits[..20].iter().all(Duration::is_zero), "{waits:?}");
        assert_eq!(waits[20], Duration::from_secs(3));
        assert!(waits[21..].iter().all(|wait| *wait == DELAY_MAX), "{waits:?}");
        assert!(attempts.wrong(&other).is_zero());
        tokio::time::advance(Duration::from_secs(120)).await;
        assert!(attempts.wrong(&one).is_zero());
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_addresses_are_remembered_than_there_is_room_for() {
        let attempts = Attempts::new();
        let busy: Arc<str> = "busy".into();
        for _ in 0..30 {
            attempts.wrong(&busy);
        }
        for number in 0..2 * ADDRESSES_MAX {
            attempts.wrong(&format!("{number}").into());
        }
        assert!(attempts.by_address.lock().expect("lock").len() <= ADDRESSES_MAX);
        assert!(!attempts.wrong(&busy).is_zero(), "the busiest address is not forgotten for others");
    }
}
