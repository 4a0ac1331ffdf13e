//! Who is next among those who wait for one model: fair between clients, first come first served within one.
//!
//! ```text
//!   alice  a1 a2 a3 a4 …        turn 7, 8, 9, 10 …
//!   bob    b1                   turn 8                 served: a1  a2 b1  a3  a4 …
//! ```
//!
//! Every client has a lane; the lane with the lowest turn is served, and its next one has a later turn: one turn later,
//! or a part of it for a client of more weight. A client that comes newly joins one turn after that which is being
//! served. So whoever has one request waits for at most two of each other client, of which the first was due before it
//! came, however many those have; and whoever waits is never passed by clients that come later than its turn has been reached.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::protocol::TicketId;

/// One turn of a client of weight 1. Divisible by every weight up to 16.
const TURN: u64 = 720_720;
/// No client weighs more.
const WEIGHT_MAX: u32 = 1_000;

/// Who waits for one model.
#[derive(Clone, Debug, Default)]
pub(super) struct Line {
    lanes: BTreeMap<Arc<str>, Lane>,
    /// The turn that was served last.
    turn: u64,
    length: usize,
}

/// Who waits for one client, by the time of coming less the head start, then by number.
#[derive(Clone, Debug)]
struct Lane {
    tickets: BTreeSet<(u64, TicketId)>,
    /// When its first is served.
    turn: u64,
    /// Between one and the next.
    step: u64,
}

impl Line {
    pub(super) fn join(&mut self, client: &Arc<str>, weight: u32, place: u64, ticket: TicketId) {
        let step = TURN / u64::from(weight.clamp(1, WEIGHT_MAX));
        let turn = self.turn + step;
        let lane = self.lanes.entry(Arc::clone(client)).or_insert_with(|| Lane {
            tickets: BTreeSet::new(),
            turn,
            step,
        });
        self.length += usize::from(lane.tickets.insert((place, ticket)));
    }

    /// Takes out one that is served: the client's next has a later turn.
    pub(super) fn serve(&mut self, client: &str, place: u64, ticket: TicketId) {
        if let Some(lane) = self.lanes.get_mut(client) {
            // One whose wish could not be served for a while does not catch up on the turns that it missed.
            self.turn = self.turn.max(lane.turn);
            lane.turn = self.turn + lane.step;
        }
        self.leave(client, place, ticket);
    }

    /// Takes out one that goes without having been served.
    pub(super) fn leave(&mut self, client: &str, place: u64, ticket: TicketId) {
        let Some(lane) = self.lanes.get_mut(client) else { return };
        self.length -= usize::from(lane.tickets.remove(&(place, ticket)));
        if lane.tickets.is_empty() {
            self.lanes.remove(client);
        }
        if self.lanes.is_empty() {
            self.turn = 0;
        }
    }

    /// Who is next, with its place.
    pub(super) fn first(&self) -> Option<(u64, TicketId)> {
        let heads = self.lanes.values().filter_map(|lane| Some((lane.turn, *lane.tickets.first()?)));
        heads.min().map(|(_, head)| head)
    }

    /// Everybody in the order of being served, if nobody comes or goes.
    pub(super) fn in_order(&self) -> Vec<TicketId> {
        let of_lane = |lane: &Lane| {
            let (turn, step) = (lane.turn, lane.step);
            let turns = (0..).map(move |index: u64| turn + index * step);
            turns.zip(lane.tickets.iter().copied().collect::<Vec<_>>())
        };
        let mut all: Vec<_> = self.lanes.values().flat_map(of_lane).collect();
        all.sort_unstable();
        all.into_iter().map(|(_, (_, ticket))| ticket).collect()
    }

    pub(super) fn len(&self) -> usize {
        self.length
    }

    pub(super) fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// How many wait for each client.
    pub(super) fn clients(&self) -> impl Iterator<Item = (&Arc<str>, usize)> {
        self.lanes.iter().map(|(client, lane)| (client, lane.tickets.len()))
    }

    /// The one of this client that is served last.
    pub(super) fn last_of(&self, client: &str) -> Option<(u64, TicketId)> {
        self.lanes.get(client)?.tickets.last().copied()
    }

    #[cfg(test)]
    pub(super) fn favour(&mut self, client: &str) {
        if let Some(lane) = self.lanes.get_mut(client) {
            lane.turn = 0;
        }
    }

    #[cfg(test)]
    pub(super) fn lose(&mut self, ticket: TicketId) {
        let found = self.lanes.iter().find_map(|(client, lane)| {
            let (place, _) = lane.tickets.iter().find(|(_, waiting)| *waiting == ticket)?;
            Some((Arc::clone(client), *place))
        });
        if let Some((client, place)) = found {
            self.leave(&client, place, ticket);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Queue {
        line: Line,
        owners: BTreeMap<TicketId, (Arc<str>, u64)>,
        next: u64,
    }

    impl Queue {
        fn new() -> Self {
            Self { line: Line::default(), owners: BTreeMap::new(), next: 1 }
        }

        fn join(&mut self, client: &str, weight: u32) -> TicketId {
            let (ticket, client) = (TicketId(self.next), Arc::from(client));
            self.line.join(&client, weight, self.next, ticket);
            self.owners.insert(ticket, (client, self.next));
            self.next += 1;
            ticket
        }

        fn serve(&mut self) -> (Arc<str>, TicketId) {
            let (_, ticket) = self.line.first().expect("somebody waits");
            assert_eq!(self.line.in_order()[0], ticket);
            let (client, place) = self.owners.remove(&ticket).expect("it joined");
            self.line.serve(&client, place, ticket);
            (client, ticket)
        }
    }

    #[test]
    fn a_hundred_requests_of_one_delay_another_by_one_turn() {
        let mut queue = Queue::new();
        for _ in 0..100 {
            queue.join("greedy", 1);
        }
        for _ in 0..3 {
            queue.serve();
        }
        let single = queue.join("modest", 1);
        queue.serve();
        assert_eq!(queue.serve().1, single);
    }

    #[test]
    fn a_client_is_served_first_come_first_served() {
        let mut queue = Queue::new();
        let mine: Vec<_> = (0..4).map(|_| queue.join("a", 1)).collect();
        for _ in 0..4 {
            queue.join("b", 1);
        }
        let served: Vec<_> =
            (0..8).map(|_| queue.serve()).filter(|(client, _)| &**client == "a").map(|(_, id)| id).collect();
        assert_eq!(served, mine);
    }

    #[test]
    fn weight_three_is_served_three_times_as_often() {
        let mut queue = Queue::new();
        for _ in 0..40 {
            queue.join("light", 1);
            queue.join("heavy", 3);
        }
        let heavy = (0..40).filter(|_| &*queue.serve().0 == "heavy").count();
        assert_eq!(heavy, 30);
    }

    #[test]
    fn a_stream_of_new_clients_passes_nobody_more_than_once_each_turn() {
        let mut queue = Queue::new();
        let mine: Vec<_> = (0..3).map(|_| queue.join("patient", 1)).collect();
        let mut served = Vec::new();
        for number in 0..12 {
            queue.join(&format!("new {number}"), 1);
            served.push(queue.serve().1);
        }
        let turns: Vec<_> = mine.iter().map(|id| served.iter().position(|other| other == id)).collect();
        assert!(turns.iter().all(Option::is_some), "{turns:?}");
        assert_eq!(turns[0], Some(0));
    }

    #[test]
    fn two_who_always_ask_again_take_turns() {
        let mut queue = Queue::new();
        queue.join("a", 1);
        queue.join("a", 1);
        queue.join("b", 1);
        let mut served = Vec::new();
        for _ in 0..8 {
            let (client, _) = queue.serve();
            queue.join(&client, 1);
            served.push(client);
        }
        assert_eq!(served.iter().filter(|client| &***client == "b").count(), 4, "{served:?}");
    }

    #[test]
    fn who_leaves_costs_its_client_no_turn() {
        let mut queue = Queue::new();
        queue.join("a", 1);
        queue.join("b", 1);
        let kept = queue.join("a", 1);
        queue.line.lose(TicketId(1));
        assert_eq!(queue.serve().0.as_ref(), "b");
        assert_eq!(queue.serve().1, kept);
        assert!(queue.line.is_empty() && queue.line.turn == 0);
    }
}
