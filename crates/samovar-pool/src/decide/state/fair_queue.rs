//! Who is next among those who wait for one model: fair between clients, and between those who share a client's turns;
//! first come first served within one.
//!
//! ```text
//!   alice  a1 a2 a3 a4 …        turn 7, 8, 9, 10 …
//!   bob    b1                   turn 8                 served: a1  a2 b1  a3  a4 …
//!
//!   an address ── turns ──┬─ a key or a program ── turns of the address ──┬─ a connection ── turns of the program
//! ```
//!
//! Every client has a lane; the lane with the lowest turn is served, and its next one has a later turn: one turn later,
//! or a part of it for a client of more weight. A client that comes newly joins one turn after that which is being
//! served. So a client with one request waits for at most two requests of each other client, however many those have:
//! one that was already next when it came, and one more. A client that comes when a turn has been reached is served after it.
//!
//! A client's turn goes to one of those within it by the same rule, and so on. Many names within one client divide what
//! that client has; they gain nothing from other clients.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::ask::AcquireRequest;
use crate::protocol::TicketId;

/// One turn of a client of weight 1. Divisible by every weight up to 16.
const TURN: u64 = 720_720;
/// No client weighs more.
const WEIGHT_MAX: u32 = 1_000;
/// A client, who within it, and who within that.
pub(in crate::decide) const DEPTH: usize = 3;

/// Who asks: the names from the client to the innermost.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::decide) struct Who(Arc<[Arc<str>; DEPTH]>);

impl Who {
    pub(in crate::decide) fn of(ask: &AcquireRequest) -> Self {
        Self::new(&ask.client, &ask.within)
    }

    /// Names that are missing are empty ones; those too many do not count.
    fn new(client: &str, within: &[String]) -> Self {
        let within = |at: usize| within.get(at).map_or("", String::as_str).into();
        Self(Arc::new([client.into(), within(0), within(1)]))
    }

    #[cfg(test)]
    pub(in crate::decide) fn client(&self) -> &str {
        &self.0[0]
    }

    pub(in crate::decide) fn names(&self) -> &[Arc<str>] {
        &self.0[..]
    }
}

/// Who waits for one model, or for the turns of one client.
#[derive(Clone, Debug, Default)]
pub(in crate::decide) struct FairQueue {
    lanes: BTreeMap<Arc<str>, Lane>,
    /// The turn that was served last.
    turn: u64,
    length: usize,
}

/// Who waits for one name.
#[derive(Clone, Debug)]
struct Lane {
    waiting: Waiting,
    /// When its first is served.
    turn: u64,
    /// Between one and the next.
    step: u64,
}

#[derive(Clone, Debug)]
enum Waiting {
    /// By the time of coming less the head start, then by number.
    Tickets(BTreeSet<(u64, TicketId)>),
    /// Those who share its turns.
    Within(FairQueue),
}

impl FairQueue {
    /// Adds one. The weight is the client's: all within a client weigh the same.
    pub(in crate::decide) fn join(&mut self, who: &Who, weight: u32, place: u64, ticket: TicketId) {
        self.join_at(who.names(), weight, place, ticket);
    }

    fn join_at(&mut self, names: &[Arc<str>], weight: u32, place: u64, ticket: TicketId) -> bool {
        let Some((name, inner)) = names.split_first() else { return false };
        let step = TURN / u64::from(weight.clamp(1, WEIGHT_MAX));
        let turn = self.turn + step;
        let lane = self.lanes.entry(Arc::clone(name)).or_insert_with(|| {
            let waiting = if inner.is_empty() {
                Waiting::Tickets(BTreeSet::new())
            } else {
                Waiting::Within(Self::default())
            };
            Lane { waiting, turn, step }
        });
        let is_new = match &mut lane.waiting {
            Waiting::Tickets(tickets) => tickets.insert((place, ticket)),
            Waiting::Within(fair_queue) => fair_queue.join_at(inner, 1, place, ticket),
        };
        self.length += usize::from(is_new);
        is_new
    }

    /// Takes out one that is served: the next of the same name has a later turn.
    pub(in crate::decide) fn serve(&mut self, who: &Who, place: u64, ticket: TicketId) {
        self.take(who.names(), (place, ticket), true);
    }

    /// Takes out one that goes without having been served.
    pub(in crate::decide) fn leave(&mut self, who: &Who, place: u64, ticket: TicketId) {
        self.take(who.names(), (place, ticket), false);
    }

    fn take(&mut self, names: &[Arc<str>], at: (u64, TicketId), is_served: bool) -> bool {
        let Some((name, inner)) = names.split_first() else { return false };
        let Some(lane) = self.lanes.get_mut(name) else { return false };
        if is_served {
            // One whose wish could not be served for a while does not catch up on the turns that it missed.
            self.turn = self.turn.max(lane.turn);
            lane.turn = self.turn + lane.step;
        }
        let was_there = match &mut lane.waiting {
            Waiting::Tickets(tickets) => tickets.remove(&at),
            Waiting::Within(fair_queue) => fair_queue.take(inner, at, is_served),
        };
        self.length -= usize::from(was_there);
        if lane.len() == 0 {
            self.lanes.remove(name);
        }
        if self.lanes.is_empty() {
            self.turn = 0;
        }
        was_there
    }

    /// Who is next, with its place.
    pub(in crate::decide) fn first(&self) -> Option<(u64, TicketId)> {
        let heads = self.lanes.values().filter_map(|lane| Some((lane.turn, lane.first()?)));
        heads.min().map(|(_, head)| head)
    }

    /// All in the order of being served, if none comes or goes.
    pub(in crate::decide) fn in_order(&self) -> Vec<TicketId> {
        self.order().into_iter().map(|(_, ticket)| ticket).collect()
    }

    fn order(&self) -> Vec<(u64, TicketId)> {
        let of_lane = |lane: &Lane| {
            let (turn, step) = (lane.turn, lane.step);
            let turns = (0..).map(move |index: u64| turn + index * step);
            turns.zip(lane.order())
        };
        let mut all: Vec<_> = self.lanes.values().flat_map(of_lane).collect();
        all.sort_unstable();
        all.into_iter().map(|(_, at)| at).collect()
    }

    pub(in crate::decide) fn len(&self) -> usize {
        self.length
    }

    pub(in crate::decide) fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// How many wait for each name within these.
    pub(in crate::decide) fn counts(&self, within: &[Arc<str>]) -> Vec<(&Arc<str>, usize)> {
        let Some(fair_queue) = self.within(within) else { return Vec::new() };
        fair_queue.lanes.iter().map(|(name, lane)| (name, lane.len())).collect()
    }

    /// The one of this name that came last.
    pub(in crate::decide) fn last_of(&self, names: &[Arc<str>]) -> Option<(u64, TicketId)> {
        let (name, outer) = names.split_last()?;
        match &self.within(outer)?.lanes.get(name)?.waiting {
            Waiting::Tickets(tickets) => tickets.last().copied(),
            Waiting::Within(fair_queue) => fair_queue.order().into_iter().max(),
        }
    }

    fn within(&self, names: &[Arc<str>]) -> Option<&Self> {
        names.iter().try_fold(self, |fair_queue, name| match &fair_queue.lanes.get(name)?.waiting {
            Waiting::Tickets(_) => None,
            Waiting::Within(fair_queue) => Some(fair_queue),
        })
    }

    #[cfg(test)]
    pub(in crate::decide) fn favour(&mut self, client: &str) {
        if let Some(lane) = self.lanes.get_mut(client) {
            lane.turn = 0;
        }
    }

    #[cfg(test)]
    pub(in crate::decide) fn lose(&mut self, ticket: TicketId) {
        for lane in self.lanes.values_mut() {
            let before = lane.len();
            match &mut lane.waiting {
                Waiting::Tickets(tickets) => tickets.retain(|(_, waiting)| *waiting != ticket),
                Waiting::Within(fair_queue) => fair_queue.lose(ticket),
            }
            self.length -= before - lane.len();
        }
        self.lanes.retain(|_, lane| lane.len() > 0);
    }
}

impl Lane {
    fn len(&self) -> usize {
        match &self.waiting {
            Waiting::Tickets(tickets) => tickets.len(),
            Waiting::Within(fair_queue) => fair_queue.len(),
        }
    }

    fn first(&self) -> Option<(u64, TicketId)> {
        match &self.waiting {
            Waiting::Tickets(tickets) => tickets.first().copied(),
            Waiting::Within(fair_queue) => fair_queue.first(),
        }
    }

    fn order(&self) -> Vec<(u64, TicketId)> {
        match &self.waiting {
            Waiting::Tickets(tickets) => tickets.iter().copied().collect(),
            Waiting::Within(fair_queue) => fair_queue.order(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Queue {
        inner: FairQueue,
        owners: BTreeMap<TicketId, (Who, u64)>,
        next: u64,
    }

    impl Queue {
        fn new() -> Self {
            Self { inner: FairQueue::default(), owners: BTreeMap::new(), next: 1 }
        }

        fn join(&mut self, client: &str, weight: u32) -> TicketId {
            self.join_as(&Who::new(client, &[]), weight)
        }

        fn join_within(&mut self, client: &str, within: &[&str]) -> TicketId {
            let within: Vec<String> = within.iter().map(|name| (*name).to_owned()).collect();
            self.join_as(&Who::new(client, &within), 1)
        }

        fn join_as(&mut self, who: &Who, weight: u32) -> TicketId {
            let ticket = TicketId(self.next);
            self.inner.join(who, weight, self.next, ticket);
            self.owners.insert(ticket, (who.clone(), self.next));
            self.next += 1;
            ticket
        }

        fn serve(&mut self) -> (String, TicketId) {
            let (who, ticket) = self.serve_who();
            (who.client().to_owned(), ticket)
        }

        fn serve_who(&mut self) -> (Who, TicketId) {
            let (_, ticket) = self.inner.first().expect("a request waits");
            assert_eq!(self.inner.in_order()[0], ticket);
            let (who, place) = self.owners.remove(&ticket).expect("it joined");
            self.inner.serve(&who, place, ticket);
            (who, ticket)
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
            (0..8).map(|_| queue.serve()).filter(|(client, _)| client == "a").map(|(_, id)| id).collect();
        assert_eq!(served, mine);
    }

    #[test]
    fn weight_three_is_served_three_times_as_often() {
        let mut queue = Queue::new();
        for _ in 0..40 {
            queue.join("light", 1);
            queue.join("heavy", 3);
        }
        let heavy = (0..40).filter(|_| queue.serve().0 == "heavy").count();
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
        assert_eq!(served.iter().filter(|client| *client == "b").count(), 4, "{served:?}");
    }

    #[test]
    fn who_leaves_costs_its_client_no_turn() {
        let mut queue = Queue::new();
        queue.join("a", 1);
        queue.join("b", 1);
        let kept = queue.join("a", 1);
        queue.inner.lose(TicketId(1));
        assert_eq!(queue.serve().0, "b");
        assert_eq!(queue.serve().1, kept);
        assert!(queue.inner.is_empty() && queue.inner.turn == 0);
    }

    #[test]
    fn names_within_a_client_divide_its_turns_and_have_none_of_anothers() {
        let mut queue = Queue::new();
        for number in 0..80 {
            queue.join_within("here", &["program", &format!("connection {number}")]);
            queue.join_within("there", &[]);
        }
        let here = (0..40).filter(|_| queue.serve().0 == "here").count();
        assert_eq!(here, 20, "eighty names have the turns of one client");
    }

    #[test]
    fn a_modest_program_waits_for_one_turn_of_a_greedy_one_beside_it() {
        let mut queue = Queue::new();
        for number in 0..80 {
            queue.join_within("here", &["greedy", &format!("connection {number}")]);
        }
        for _ in 0..5 {
            queue.serve();
        }
        let modest = queue.join_within("here", &["modest", "connection 80"]);
        let turns = (0..80).map(|_| queue.serve().1).position(|served| served == modest);
        assert!(turns.is_some_and(|turns| turns <= 1), "{turns:?}");
    }

    #[test]
    fn connections_of_one_program_take_turns() {
        let mut queue = Queue::new();
        for _ in 0..8 {
            queue.join_within("here", &["program", "many at once"]);
        }
        let single = queue.join_within("here", &["program", "another"]);
        queue.serve();
        assert_eq!(queue.serve().1, single);
    }

    #[test]
    fn the_order_that_is_told_is_the_order_of_being_served() {
        let mut queue = Queue::new();
        for number in 0..60 {
            let client = format!("client {}", number % 3);
            let within = [format!("program {}", number % 4), format!("connection {}", number % 7)];
            queue.join_as(&Who::new(&client, &within), 1 + number % 3);
            if number % 5 == 0 {
                queue.serve();
            }
        }
        let told = queue.inner.in_order();
        let served: Vec<_> = told.iter().map(|_| queue.serve_who().1).collect();
        assert_eq!(served, told);
        assert!(queue.inner.is_empty());
    }

    #[test]
    fn counts_and_last_ones_are_of_the_name_that_was_asked_for() {
        let mut queue = Queue::new();
        queue.join_within("here", &["a", "1"]);
        let last = queue.join_within("here", &["a", "2"]);
        queue.join_within("here", &["b", "3"]);
        let names = |path: &[&str]| path.iter().map(|name| Arc::from(*name)).collect::<Vec<Arc<str>>>();
        let counts = queue.inner.counts(&names(&["here"]));
        assert_eq!(
            counts.iter().map(|(name, count)| (&***name, *count)).collect::<Vec<_>>(),
            [("a", 2), ("b", 1)]
        );
        assert_eq!(queue.inner.last_of(&names(&["here", "a"])).map(|(_, ticket)| ticket), Some(last));
        assert!(queue.inner.last_of(&names(&["there"])).is_none());
    }
}
