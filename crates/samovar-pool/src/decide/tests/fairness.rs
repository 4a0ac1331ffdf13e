//! Clients take turns, and nobody keeps others out by filling the queue.

use super::*;

impl Stage {
    fn ask_as(&mut self, client: &str, model: &Arc<ModelSpec>) -> TicketId {
        let ticket = self.ticket();
        self.happen(Event::Request {
            ticket,
            model: Arc::clone(model),
            client: client.to_owned(),
            priority: 0,
            deadline: None,
            keep_alive: None,
            affinity: None,
        });
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
            lease = granted.expect("somebody waits");
            if lease == wanted {
                return turns;
            }
        }
        unreachable!("it returns")
    }
}

#[test]
fn a_hundred_requests_of_one_client_delay_anothers_by_one_turn_at_most() {
    let mut stage = Stage::new(|config| config.queue_per_model = 200);
    let a = model("a", 10);
    let lease = stage.ask_as("greedy", &a);
    stage.finish_work();
    for _ in 0..100 {
        stage.ask_as("greedy", &a);
    }
    stage.pass(10);
    let modest = stage.ask_as("modest", &a);
    assert!(stage.turns_until(lease, modest) <= 1);
}

#[test]
fn a_client_of_more_weight_is_served_more_often() {
    let mut stage = Stage::new(|config| config.client_weights = [("heavy".to_owned(), 4)].into());
    let a = model("a", 10);
    let lease = stage.ask_as("other", &a);
    stage.finish_work();
    let light: Vec<_> = (0..3).map(|_| stage.ask_as("light", &a)).collect();
    for _ in 0..12 {
        stage.ask_as("heavy", &a);
    }
    assert_eq!(stage.turns_until(lease, light[1]), 8, "seven of the heavy one, one of the light one");
}

#[test]
fn who_fills_the_queue_gives_up_places_to_others() {
    let mut stage = Stage::new(|config| config.queue_per_model = 4);
    let a = model("a", 10);
    stage.ask_as("greedy", &a);
    stage.finish_work();
    let greedy: Vec<_> = (0..4).map(|_| stage.ask_as("greedy", &a)).collect();
    let refused = stage.ask_as("greedy", &a);
    assert!(matches!(stage.refusal(refused), Some(Error::Busy { queued: 4, .. })));

    let modest = stage.ask_as("modest", &a);
    let other = stage.ask_as("other", &a);
    assert!(stage.refusal(modest).is_none() && stage.refusal(other).is_none());
    let displaced: Vec<_> = greedy.iter().filter(|ticket| stage.refusal(**ticket).is_some()).collect();
    assert_eq!(displaced, [&greedy[2], &greedy[3]], "those that would have been served last");

    // Two of the greedy one, one each of two others: nobody has filled the queue alone.
    let late = stage.ask_as("late", &a);
    assert!(stage.refusal(late).is_none());
    let later = stage.ask_as("later", &a);
    assert!(matches!(stage.refusal(later), Some(Error::Busy { .. })));
}

#[test]
fn who_fills_all_queues_gives_up_places_of_any_model() {
    let mut stage = Stage::new(|config| config.queue_total = 4);
    let (a, b, c) = (model("a", 10), model("b", 10), model("c", 10));
    let greedy: Vec<_> = [&a, &a, &b, &b].map(|model| stage.ask_as("greedy", model)).into();
    let modest = stage.ask_as("modest", &c);
    assert!(stage.refusal(modest).is_none());
    assert!(matches!(stage.refusal(greedy[3]), Some(Error::Busy { .. })));
}

#[test]
fn cancelling_takes_no_turn_from_anybody() {
    let mut stage = Stage::new(|_| ());
    let a = model("a", 10);
    let lease = stage.ask_as("x", &a);
    stage.finish_work();
    let first = stage.ask_as("x", &a);
    let second = stage.ask_as("x", &a);
    let other = stage.ask_as("y", &a);
    stage.happen(Event::Cancel { ticket: first });
    stage.happen(Event::Cancel { ticket: first });
    assert_eq!(stage.turns_until(lease, second), 0, "x has its turn, with its next request");
    assert!(!stage.is_granted(other) && !stage.is_granted(first));
    assert_eq!(stage.model(&a).cancelled, 1);
}
