//! Clients take turns, and none keeps others out by filling the queue.

use super::*;

impl Harness {
    fn ask_as(&mut self, client: &str, model: &Arc<ModelSpec>) -> TicketId {
        let ticket = self.ticket();
        let ask = AcquireRequest { client: client.to_owned(), ..AcquireRequest::new(Arc::clone(model)) };
        self.happen(Event::Request { ticket, ask });
        ticket
    }

    /// Releases one lease after another until this ticket has one; gives how many turns that took.
    fn turns_until(&mut self, mut lease: TicketId, wanted: TicketId) -> usize {
        for turns in 0.. {
            self.pass(10);
            let before = self.effects.len();
            self.release(lease);
            let granted = self.effects[before..].iter().find_map(|effect| match effect {
                Effect::Grant { ticket, .. } => Some(*ticket),
                _ => None,
            });
            lease = granted.expect("a request waits");
            if lease == wanted {
                return turns;
            }
        }
        unreachable!("it returns")
    }
}

#[test]
fn a_hundred_requests_of_one_client_delay_anothers_by_one_turn_at_most() {
    let mut harness = Harness::new(|config| config.queue_per_model = 200);
    let a = model("a", 10);
    let lease = harness.ask_as("greedy", &a);
    harness.finish_work();
    for _ in 0..100 {
        harness.ask_as("greedy", &a);
    }
    harness.pass(10);
    let modest = harness.ask_as("modest", &a);
    assert!(harness.turns_until(lease, modest) <= 1);
}

#[test]
fn a_client_of_more_weight_is_served_more_often() {
    let mut harness = Harness::new(|config| config.client_weights = [("heavy".to_owned(), 4)].into());
    let a = model("a", 10);
    let lease = harness.ask_as("other", &a);
    harness.finish_work();
    let light: Vec<_> = (0..3).map(|_| harness.ask_as("light", &a)).collect();
    for _ in 0..12 {
        harness.ask_as("heavy", &a);
    }
    assert_eq!(harness.turns_until(lease, light[1]), 8, "seven of the heavy one, one of the light one");
}

#[test]
fn a_weight_that_a_request_brings_counts_unless_the_configuration_says_another() {
    for (configured, before) in [(None, 8), (Some(1), 2)] {
        let mut harness = Harness::new(|config| {
            config.client_weights.extend(configured.map(|weight| ("heavy".to_owned(), weight)));
        });
        let a = model("a", 10);
        let lease = harness.ask_as("other", &a);
        harness.finish_work();
        let light: Vec<_> = (0..3).map(|_| harness.ask_as("light", &a)).collect();
        for _ in 0..12 {
            let ticket = harness.ticket();
            let ask = AcquireRequest {
                client: "heavy".to_owned(),
                weight: Some(4),
                ..AcquireRequest::new(Arc::clone(&a))
            };
            harness.happen(Event::Request { ticket, ask });
        }
        assert_eq!(harness.turns_until(lease, light[1]) > 4, before > 4, "{configured:?}");
    }
}

#[test]
fn who_fills_the_queue_gives_up_places_to_others() {
    let mut harness = Harness::new(|config| config.queue_per_model = 4);
    let a = model("a", 10);
    harness.ask_as("greedy", &a);
    harness.finish_work();
    let greedy: Vec<_> = (0..4).map(|_| harness.ask_as("greedy", &a)).collect();
    let refused = harness.ask_as("greedy", &a);
    assert!(matches!(harness.refusal(refused), Some(Error::Busy { queued: 4, .. })));

    let modest = harness.ask_as("modest", &a);
    let other = harness.ask_as("other", &a);
    assert!(harness.refusal(modest).is_none() && harness.refusal(other).is_none());
    let displaced: Vec<_> = greedy.iter().filter(|ticket| harness.refusal(**ticket).is_some()).collect();
    assert_eq!(displaced, [&greedy[2], &greedy[3]], "those that would have been served last");

    // Two of the greedy one, one each of two others: none has filled the queue alone.
    let late = harness.ask_as("late", &a);
    assert!(harness.refusal(late).is_none());
    let later = harness.ask_as("later", &a);
    assert!(matches!(harness.refusal(later), Some(Error::Busy { .. })));
}

#[test]
fn who_fills_all_queues_gives_up_places_of_any_model() {
    let mut harness = Harness::new(|config| config.queue_total = 4);
    let (a, b, c) = (model("a", 10), model("b", 10), model("c", 10));
    let greedy: Vec<_> = [&a, &a, &b, &b].map(|model| harness.ask_as("greedy", model)).into();
    let modest = harness.ask_as("modest", &c);
    assert!(harness.refusal(modest).is_none());
    assert!(matches!(harness.refusal(greedy[3]), Some(Error::Busy { .. })));
}

#[test]
fn cancelling_takes_no_turn_from_anybody() {
    let mut harness = Harness::new(|_| ());
    let a = model("a", 10);
    let lease = harness.ask_as("x", &a);
    harness.finish_work();
    let first = harness.ask_as("x", &a);
    let second = harness.ask_as("x", &a);
    let other = harness.ask_as("y", &a);
    harness.happen(Event::Cancel { ticket: first });
    harness.happen(Event::Cancel { ticket: first });
    assert_eq!(harness.turns_until(lease, second), 0, "x has its turn, with its next request");
    assert!(!harness.is_granted(other) && !harness.is_granted(first));
    assert_eq!(harness.model(&a).cancelled, 1);
}

/// Requests of two models that do not fit together, each served for so long. Gives whom each grant went to, and when.
fn served(mut harness: Harness, asked: &[(char, TicketId)], each_ms: u64) -> (Vec<(char, u64)>, Harness) {
    let mut served: Vec<(char, u64)> = Vec::new();
    let mut seen = 0;
    while served.len() < asked.len() {
        harness.finish_work();
        let granted = harness.effects[seen..].iter().find_map(|effect| match effect {
            Effect::Grant { ticket, .. } => Some(*ticket),
            _ => None,
        });
        let granted = granted.expect("one is served at a time");
        seen = harness.effects.len();
        let (name, _) = asked.iter().find(|(_, ticket)| *ticket == granted).expect("it was asked for");
        served.push((*name, harness.now.0));
        harness.pass(each_ms);
        harness.release(granted);
    }
    harness.finish_work();
    (served, harness)
}

/// Ten requests each of two models, in turns, all at once.
fn served_in_turns(each_ms: u64) -> (Vec<(char, u64)>, Harness) {
    let mut harness = Harness::new(|_| ());
    let (a, b) = (model("a", 80), model("b", 80));
    let asked: Vec<_> = (0..10).flat_map(|_| [('A', harness.ask(&a)), ('B', harness.ask(&b))]).collect();
    served(harness, &asked, each_ms)
}

/// So many of the one, and a millisecond later so many of the other.
fn served_backlogs(
    mut harness: Harness,
    (of_a, of_b): (usize, usize),
    each_ms: u64,
) -> (Vec<(char, u64)>, Harness) {
    let (a, b) = (model("a", 80), model("b", 80));
    let mut asked: Vec<_> = (0..of_a).map(|_| ('A', harness.ask(&a))).collect();
    harness.pass(1);
    asked.extend((0..of_b).map(|_| ('B', harness.ask(&b))));
    served(harness, &asked, each_ms)
}

fn order(served: &[(char, u64)]) -> String {
    served.iter().map(|(name, _)| name).collect()
}

fn switches(served: &[(char, u64)]) -> usize {
    served.windows(2).filter(|pair| pair[0].0 != pair[1].0).count()
}

#[test]
fn interleaved_requests_of_two_models_that_do_not_fit_together_cost_one_switch() {
    let (served, harness) = served_in_turns(100);
    assert_eq!(order(&served), "AAAAAAAAAABBBBBBBBBB");
    assert_eq!((switches(&served), harness.loads()), (1, 2));
}

#[test]
fn where_their_requests_are_long_they_take_turns_of_twice_a_load() {
    let (served, harness) = served_in_turns(500);
    let order = order(&served);
    assert!(switches(&served) <= 5, "{order}");
    assert_eq!(harness.loads(), 2, "who has yielded is parked, and not loaded anew");
    // A turn of twice the load time of a second, the request that is under way then, and the other's load.
    for name in ['A', 'B'] {
        let turns: Vec<_> = served.iter().filter(|(other, _)| *other == name).map(|(_, at)| *at).collect();
        let longest = turns.windows(2).map(|pair| pair[1] - pair[0] - 500).max().unwrap_or(0);
        assert!(longest <= 2_000 + 500 + 1_000, "{name} waited {longest} ms: {order}");
    }
}

#[test]
fn an_older_backlog_yields_after_its_turn_to_who_came_later_and_comes_back_once() {
    let (served, harness) = served_backlogs(Harness::new(|_| ()), (20, 1), 450);
    assert_eq!(order(&served), "AAAAABAAAAAAAAAAAAAAA");
    assert_eq!((harness.decisions(What::Parked).len(), harness.decisions(What::Resumed).len()), (2, 1));
    assert_eq!(harness.loads(), 2, "who has yielded is parked, and not loaded anew");
}

#[test]
fn the_same_by_an_engine_that_can_not_park() {
    let (served, harness) = served_backlogs(Harness::new(|_| ()).without_parking(), (20, 1), 450);
    assert_eq!(order(&served), "AAAAABAAAAAAAAAAAAAAA");
    assert_eq!((harness.decisions(What::Evicted).len(), harness.loads()), (2, 3));
}

#[test]
fn backlogs_that_have_waited_too_long_still_take_whole_turns() {
    for can_park in [true, false] {
        let mut harness = Harness::new(|config| config.max_wait_ms = 4_000);
        harness.can_park = can_park;
        let (served, _) = served_backlogs(harness, (40, 40), 450);
        let order = order(&served);
        // Five requests a turn of twice a load, for as long as both have some.
        assert!(switches(&served) <= 16, "{order}");
        assert!(order.starts_with("AAAAABBBBBAAAAABBBBB"), "{order}");
    }
}

#[test]
fn three_models_of_which_no_two_fit_together_take_turns() {
    let mut harness = Harness::new(|_| ());
    let mut asked = Vec::new();
    for (name, count) in [('A', 12), ('B', 8), ('C', 4)] {
        let model = model(&name.to_string(), 80);
        asked.extend((0..count).map(|_| (name, harness.ask(&model))));
        harness.pass(1);
    }
    let (served, harness) = served(harness, &asked, 450);
    assert_eq!(order(&served), "AAAAABBBBBCCCCAAAAABBBAA");
    assert_eq!(harness.loads(), 3);
}

impl Harness {
    fn ask_within(&mut self, client: &str, within: &[&str], model: &Arc<ModelSpec>) -> TicketId {
        let ticket = self.ticket();
        let ask = AcquireRequest {
            client: client.to_owned(),
            within: within.iter().map(|name| (*name).to_owned()).collect(),
            ..AcquireRequest::new(Arc::clone(model))
        };
        self.happen(Event::Request { ticket, ask });
        ticket
    }
}

#[test]
fn eighty_connections_of_a_greedy_program_neither_shut_a_modest_one_out_nor_keep_it_waiting() {
    let mut harness = Harness::new(|config| config.queue_per_model = 64);
    let a = model("a", 10);
    let lease = harness.ask_within("here", &["greedy", "connection 0"], &a);
    harness.finish_work();
    for number in 1..=80 {
        harness.ask_within("here", &["greedy", &format!("connection {number}")], &a);
    }
    harness.pass(10);
    let modest = harness.ask_within("here", &["modest", "connection 81"], &a);
    assert!(harness.refusal(modest).is_none());
    assert!(harness.turns_until(lease, modest) <= 1);
}

/// A client, and who within it.
type Names = (&'static str, [&'static str; 2]);

/// Those who wait, the newcomer, and the one of them that gives its place up.
type Case = ([Names; 4], Names, Option<usize>);

#[test]
fn places_in_a_full_queue_are_divided_at_each_level() {
    let here = |program: &'static str, connection: &'static str| ("here", [program, connection]);
    let there = |program: &'static str, connection: &'static str| ("there", [program, connection]);
    let table: [Case; 7] = [
        // Another address: the one that has filled the queue gives up the last of the program that has most.
        ([here("a", "1"), here("a", "2"), here("a", "3"), here("b", "4")], there("c", "5"), Some(2)),
        // Many names are no more than one: they share what their address has.
        ([here("a", "1"), here("b", "2"), here("c", "3"), here("d", "4")], there("e", "5"), Some(3)),
        // The same address: its program with most gives way to one with none.
        ([here("a", "1"), here("a", "2"), here("a", "3"), here("a", "4")], here("b", "5"), Some(3)),
        // The same program: its connection with most gives way.
        ([here("a", "1"), here("a", "1"), here("a", "1"), here("a", "2")], here("a", "3"), Some(2)),
        // None has two more than the newcomer.
        ([here("a", "1"), here("a", "2"), here("a", "3"), here("a", "4")], here("a", "5"), None),
        ([here("a", "1"), here("b", "2"), there("a", "3"), there("b", "4")], ("third", ["", ""]), Some(3)),
        // Who has most itself displaces within its own, and never another.
        ([here("a", "1"), here("a", "2"), here("a", "3"), there("a", "4")], here("b", "5"), Some(2)),
    ];
    for (waiting, newcomer, displaced) in table {
        let mut harness = Harness::new(|config| config.queue_per_model = 4);
        let a = model("a", 10);
        harness.ask_as("holder", &a);
        harness.finish_work();
        let ask = |harness: &mut Harness, (client, within): (&str, [&str; 2])| {
            harness.pass(1);
            harness.ask_within(client, &within, &a)
        };
        let tickets: Vec<_> = waiting.iter().map(|who| ask(&mut harness, *who)).collect();
        let came = ask(&mut harness, newcomer);
        assert_eq!(harness.refusal(came).is_none(), displaced.is_some(), "{waiting:?} {newcomer:?}");
        let gone: Vec<_> = (0..4).filter(|at| harness.refusal(tickets[*at]).is_some()).collect();
        assert_eq!(gone, displaced.into_iter().collect::<Vec<_>>(), "{waiting:?} {newcomer:?}");
    }
}

#[test]
fn eight_answers_to_one_request_count_as_eight() {
    let mut harness = Harness::new(|_| ());
    let a = model("a", 10);
    let lease = harness.ask_within("here", &["many", "connection 1"], &a);
    harness.finish_work();
    for _ in 1..8 {
        harness.ask_within("here", &["many", "connection 1"], &a);
    }
    harness.pass(10);
    let single = harness.ask_within("here", &["many", "connection 2"], &a);
    assert!(harness.turns_until(lease, single) <= 1);
}

/// Connections of one program, of which one is served and four wait.
struct Crowd {
    lease: TicketId,
    waiting: Vec<TicketId>,
}

impl Crowd {
    fn of(harness: &mut Harness, model: &Arc<ModelSpec>) -> Self {
        let lease = harness.ask_within("here", &["program", "0"], model);
        harness.finish_work();
        let ask = |at: u32| harness.ask_within("here", &["program", &at.to_string()], model);
        Self { lease, waiting: (1..=4).map(ask).collect() }
    }

    /// All that wait are served, and others of the program take each place as soon as it is free.
    fn move_on(&mut self, harness: &mut Harness, model: &Arc<ModelSpec>) {
        for _ in 0..4 {
            harness.pass(10);
            harness.release(self.lease);
            self.lease = self.waiting.remove(0);
            let another = format!("after {:?}", self.lease);
            self.waiting.push(harness.ask_within("here", &["program", &another], model));
        }
    }
}

#[test]
fn who_does_not_come_again_when_it_was_told_to_has_no_claim_on_a_place() {
    let mut harness = Harness::new(|config| config.queue_per_model = 4);
    let a = model("a", 10);
    let mut crowd = Crowd::of(&mut harness, &a);
    harness.pass(1);
    let modest = harness.ask_within("here", &["program", "modest"], &a);
    assert!(harness.refusal(modest).is_some());
    crowd.move_on(&mut harness, &a);
    harness.pass(120_000);
    let late = harness.ask_within("here", &["program", "modest"], &a);
    assert!(harness.refusal(late).is_some());
}

#[test]
fn names_that_do_not_come_again_are_forgotten_for_those_that_do() {
    let mut harness = Harness::new(|config| config.queue_per_model = 4);
    let a = model("a", 10);
    let mut crowd = Crowd::of(&mut harness, &a);
    for number in 0..1_100 {
        let once = harness.ask_within("here", &["program", &format!("once {number}")], &a);
        assert!(harness.refusal(once).is_some());
    }
    harness.pass(120_000);
    let modest = harness.ask_within("here", &["program", "modest"], &a);
    assert!(harness.refusal(modest).is_some());
    crowd.move_on(&mut harness, &a);
    let again = harness.ask_within("here", &["program", "modest"], &a);
    assert!(harness.refusal(again).is_none());
}

#[test]
fn who_was_turned_away_first_has_the_next_place_although_others_ask_more_often() {
    let mut harness = Harness::new(|config| config.queue_per_model = 4);
    let a = model("a", 10);
    let mut crowd = Crowd::of(&mut harness, &a);
    harness.pass(1);
    let modest = harness.ask_within("here", &["program", "modest"], &a);
    assert!(harness.refusal(modest).is_some());
    crowd.move_on(&mut harness, &a);
    let Crowd { lease, waiting } = crowd;
    harness.pass(10);
    let again = harness.ask_within("here", &["program", "modest"], &a);
    assert!(harness.refusal(again).is_none());
    let displaced: Vec<_> = waiting.iter().filter(|ticket| harness.refusal(**ticket).is_some()).collect();
    assert_eq!(displaced, [&waiting[3]], "the one that asked latest");
    // The displaced one has waited for longer than a newcomer, and less long than the others.
    let newcomer = harness.ask_within("here", &["program", "new"], &a);
    assert!(harness.refusal(newcomer).is_some());
    assert!(harness.turns_until(lease, again) <= 4);
}
