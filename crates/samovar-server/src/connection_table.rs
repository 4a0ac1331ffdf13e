//! The open connections: a bound for all and for each address, and the one that is closed when another one comes.
//!
//! ```text
//!   a newcomer ─► its address has all that it may? ─► one of its own is closed
//!                 all are taken? ──────────────────► one is closed of the address that has most
//!                 none can be closed ───────────────► it is turned away
//! ```
//!
//! First those leave that never said a byte, then those whose last request is answered, then those that have not
//! completed a head, or a body, then those whose readers take nothing: each time the one that has been at it longest.
//! A connection that is being answered and read is never closed.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;

use crate::client::Peer;
use crate::connection::{ConnectionTracker, Doing, State};

/// Of all connections, the part that one address of another machine may have.
const PART_OF_AN_ADDRESS: usize = 4;

/// The connections of one listener. Clones are the same.
#[derive(Clone, Debug)]
pub(crate) struct ConnectionTable {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    most: usize,
    /// For each address; `None` = a quarter, and for this machine all.
    most_of_an_address: Option<usize>,
    open: Mutex<OpenConnections>,
}

#[derive(Debug, Default)]
struct OpenConnections {
    next: u64,
    by_number: BTreeMap<u64, OpenConnection>,
    /// How many there are of each address.
    addresses: HashMap<Arc<str>, usize>,
}

#[derive(Debug)]
struct OpenConnection {
    address: Arc<str>,
    tracker: ConnectionTracker,
}

/// The right of a connection to be open, until it is dropped.
#[derive(Debug)]
pub(crate) struct ConnectionPermit {
    table: ConnectionTable,
    number: u64,
    tracker: ConnectionTracker,
    /// What the connection was doing that was closed for this one.
    pub(crate) instead_of: Option<Doing>,
}

impl ConnectionTable {
    pub(crate) fn new(most: usize, most_of_an_address: Option<usize>) -> Self {
        Self { shared: Arc::new(Shared { most, most_of_an_address, open: Mutex::default() }) }
    }

    /// A permit for a connection of this peer, if there is room or room is made.
    pub(crate) fn take(&self, peer: &Peer) -> Option<ConnectionPermit> {
        let Shared { most, most_of_an_address, .. } = *self.shared;
        let of_an_address = match most_of_an_address {
            Some(most) => most,
            None if peer.is_local() => most,
            None => most.div_ceil(PART_OF_AN_ADDRESS),
        };
        let mut open = self.open();
        let own = open.addresses.get(peer.name()).copied().unwrap_or(0);
        let mut instead_of = None;
        if own >= of_an_address {
            instead_of = Some(open.dismiss_one(std::slice::from_ref(peer.name()))?);
        } else if open.by_number.len() >= most {
            let mut addresses: Vec<_> =
                open.addresses.iter().map(|(name, count)| (*count, Arc::clone(name))).collect();
            addresses.sort_unstable_by(|one, other| other.cmp(one));
            let addresses: Vec<_> = addresses.into_iter().map(|(_, name)| name).collect();
            instead_of = Some(open.dismiss_one(&addresses)?);
        }
        let tracker = ConnectionTracker::new();
        let number = open.next;
        open.next += 1;
        *open.addresses.entry(Arc::clone(peer.name())).or_default() += 1;
        open.by_number
            .insert(number, OpenConnection { address: Arc::clone(peer.name()), tracker: tracker.clone() });
        Some(ConnectionPermit { table: self.clone(), number, tracker, instead_of })
    }

    fn open(&self) -> MutexGuard<'_, OpenConnections> {
        self.shared.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl OpenConnections {
    /// Closes one connection of the first of these addresses that has one to spare.
    fn dismiss_one(&mut self, addresses: &[Arc<str>]) -> Option<Doing> {
        let (number, doing) = self.first_to_close(addresses)?;
        if let Some(connection) = self.remove(number) {
            connection.tracker.dismiss();
        }
        Some(doing)
    }

    /// The connection that is to be closed: of the first of these addresses that has an idle one, or else of the first
    /// that has any to spare. And what it does.
    fn first_to_close(&self, addresses: &[Arc<str>]) -> Option<(u64, Doing)> {
        let by_address = self.first_of_each_address();
        let spare = |address: &Arc<str>| by_address.get(&**address).copied();
        let idle = addresses.iter().filter_map(spare).find(|(doing, ..)| *doing <= Doing::Idle);
        let (doing, _, number) = idle.or_else(|| addresses.iter().find_map(spare))?;
        Some((number, doing))
    }

    /// Of each address, the connection that is to be closed first: what it does, since when, and its number.
    fn first_of_each_address(&self) -> HashMap<&str, (Doing, Instant, u64)> {
        let mut first = HashMap::new();
        for (&number, connection) in &self.by_number {
            let state = connection.tracker.state();
            let Some(since) = spare_since(state) else { continue };
            let this = (state.doing, since, number);
            first.entry(&*connection.address).and_modify(|other| *other = this.min(*other)).or_insert(this);
        }
        first
    }

    fn remove(&mut self, number: u64) -> Option<OpenConnection> {
        let connection = self.by_number.remove(&number)?;
        if let Some(count) = self.addresses.get_mut(&connection.address) {
            *count -= 1;
            if *count == 0 {
                self.addresses.remove(&connection.address);
            }
        }
        Some(connection)
    }
}

/// Since when the connection could be spared; `None` for one that is being served.
fn spare_since(state: State) -> Option<Instant> {
    match state.doing {
        Doing::Serving => state.stalled,
        _ => Some(state.since),
    }
}

impl ConnectionPermit {
    pub(crate) fn tracker(&self) -> &ConnectionTracker {
        &self.tracker
    }
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        // One that was closed for another has lost its place already.
        self.table.open().remove(self.number);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn peer(address: &str) -> Peer {
        Peer::of_address(address.parse().expect("address"))
    }

    fn is_dismissed(permit: &ConnectionPermit) -> bool {
        permit.tracker.state().is_dismissed
    }

    async fn a_while() {
        tokio::time::advance(Duration::from_secs(1)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn one_address_has_a_quarter_and_closes_its_own() {
        let table = ConnectionTable::new(8, None);
        let (greedy, other) = (peer("10.0.0.1"), peer("10.0.0.2"));
        let first = table.take(&greedy).expect("a permit");
        a_while().await;
        let second = table.take(&greedy).expect("a permit");
        let third = table.take(&greedy).expect("instead of the first");
        assert_eq!(third.instead_of, Some(Doing::Fresh));
        assert!(is_dismissed(&first) && !is_dismissed(&second));
        for permit in [&second, &third] {
            permit.tracker.begin_for_tests();
        }
        assert!(table.take(&greedy).is_none(), "both are being answered");
        assert!(table.take(&other).is_some());
        drop((first, second));
        assert!(table.take(&greedy).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn this_machine_has_all_and_yields_to_others_when_all_are_taken() {
        let table = ConnectionTable::new(4, None);
        let held: Vec<_> = (0..4).map(|_| table.take(&peer("127.0.0.1")).expect("a permit")).collect();
        let other = table.take(&peer("10.0.0.2")).expect("of the address that has most");
        assert_eq!(other.instead_of, Some(Doing::Fresh));
        assert_eq!(held.iter().filter(|permit| is_dismissed(permit)).count(), 1);
        let again = table.take(&peer("127.0.0.1")).expect("of the address that has most: its own");
        assert!(!is_dismissed(&other) && again.instead_of.is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn those_that_never_spoke_leave_before_idle_ones_and_those_before_half_requests() {
        let table = ConnectionTable::new(3, None);
        let here = peer("127.0.0.1");
        let half = table.take(&here).expect("a permit");
        half.tracker.head_for_tests();
        a_while().await;
        let idle = table.take(&here).expect("a permit");
        idle.tracker.idle_for_tests();
        a_while().await;
        let fresh = table.take(&here).expect("a permit");
        let mut served = Vec::new();
        for leaves in [&fresh, &idle, &half] {
            let next = table.take(&here).expect("a permit");
            next.tracker.begin_for_tests();
            assert!(is_dismissed(leaves));
            served.push(next);
        }
        assert!(table.take(&here).is_none());
        served[1].tracker.stall_for_tests();
        assert_eq!(table.take(&here).expect("of one that reads nothing").instead_of, Some(Doing::Serving));
        assert!(is_dismissed(&served[1]));
    }

    #[tokio::test(start_paused = true)]
    async fn idle_ones_of_others_leave_before_half_requests_of_the_greediest() {
        let table = ConnectionTable::new(3, None);
        let halves: Vec<_> = (0..2).map(|_| table.take(&peer("127.0.0.1")).expect("a permit")).collect();
        for permit in &halves {
            permit.tracker.head_for_tests();
        }
        let idle = table.take(&peer("10.0.0.1")).expect("a permit");
        let newcomer = table.take(&peer("10.0.0.2")).expect("a permit");
        assert!(is_dismissed(&idle) && newcomer.instead_of == Some(Doing::Fresh));
    }

    #[tokio::test(start_paused = true)]
    async fn an_owner_may_set_the_bound_of_an_address() {
        let table = ConnectionTable::new(8, Some(1));
        let first = table.take(&peer("127.0.0.1")).expect("a permit");
        first.tracker.begin_for_tests();
        assert!(table.take(&peer("127.0.0.1")).is_none());
        drop(first);
        assert!(table.take(&peer("127.0.0.1")).is_some());
        assert!(table.open().addresses.is_empty(), "a permit that is dropped leaves nothing behind");
    }
}
