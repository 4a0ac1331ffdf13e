//! What those who wait are told, and who is refused because it would be served too late.

use super::*;

impl Harness {
    /// A model with one slot of which it is known that it is held for a second, and which is held now.
    fn held_for_a_second(&mut self) -> (Arc<ModelSpec>, TicketId) {
        let a = model("a", 10);
        let first = self.ask(&a);
        self.finish_work();
        self.pass(1_000);
        self.release(first);
        let lease = self.ask(&a);
        (a, lease)
    }

    fn within(&mut self, model: &Arc<ModelSpec>, ms: u64) -> TicketId {
        let deadline = self.now.plus(ms);
        self.ask_with(model, 0, Some(deadline))
    }

    fn tells(&self, ticket: TicketId) -> Vec<Wait> {
        let tells = self.effects.iter().filter_map(|effect| match effect {
            Effect::Tell { ticket: told, wait } if *told == ticket => Some(*wait),
            _ => None,
        });
        tells.collect()
    }
}

#[test]
fn who_would_be_served_too_late_is_refused_at_once_and_told_when_to_come_again() {
    let mut harness = Harness::new(|_| ());
    let (a, _lease) = harness.held_for_a_second();
    for _ in 0..3 {
        harness.ask(&a);
    }
    harness.pass(400);
    let late = harness.within(&a, 3_000);
    let expected =
        Error::TooLate { model: "a".into(), expected_ms: 3_600, allowed_ms: 3_000, retry_after_ms: 600 };
    assert_eq!(harness.refusal(late), Some(&expected));
    assert_eq!(expected.kind(), ErrorKind::Busy);
    let reasons = harness.decisions(What::Refused);
    assert_eq!(reasons[0].1, Reason::WouldBeLate { expected_ms: 3_600, allowed_ms: 3_000 });
    let in_time = harness.within(&a, 3_700);
    assert!(harness.refusal(in_time).is_none());
}

#[test]
fn without_experience_nobody_is_refused_before_the_deadline() {
    let mut harness = Harness::new(|_| ());
    let a = model("a", 10);
    harness.ask(&a);
    harness.finish_work();
    (0..5).for_each(|_| assert!(harness.ask(&a).0 > 0));
    let hopeful = harness.within(&a, 100);
    assert!(harness.refusal(hopeful).is_none());
    harness.pass(100);
    assert!(matches!(harness.refusal(hopeful), Some(Error::DeadlineExceeded { waited_ms: 100, .. })));
}

#[test]
fn a_load_that_takes_too_long_for_one_is_begun_for_the_next() {
    let mut harness = Harness::new(|_| ());
    let a = model_with("a", 10, |spec| spec.load_ms = Some(1_000));
    let hasty = harness.within(&a, 400);
    assert!(matches!(
        harness.refusal(hasty),
        Some(Error::TooLate { expected_ms: 1_000, retry_after_ms: 600, .. })
    ));
    assert_eq!(harness.loads(), 1);
    harness.pass(600);
    let next = harness.within(&a, 1_500);
    assert!(harness.refusal(next).is_none(), "the load goes on");
    harness.finish_work();
    assert!(harness.is_granted(next) && harness.loads() == 1);
}

#[test]
fn the_place_of_a_client_counts_and_not_the_length_of_the_queue() {
    let mut harness = Harness::new(|_| ());
    let (a, _lease) = harness.held_for_a_second();
    for _ in 0..20 {
        harness.ask(&a);
    }
    harness.pass(10);
    let ticket = harness.ticket();
    let deadline = Some(harness.now.plus(3_000));
    let ask = AcquireRequest { client: "another".into(), deadline, ..AcquireRequest::new(Arc::clone(&a)) };
    harness.happen(Event::Request { ticket, ask });
    assert!(harness.refusal(ticket).is_none(), "one of the other client is before it");
    let own = harness.within(&a, 3_000);
    assert!(matches!(harness.refusal(own), Some(Error::TooLate { .. })));
}

#[test]
fn a_full_queue_says_when_half_of_it_will_have_been_served() {
    let mut harness = Harness::new(|config| config.queue_per_model = 10);
    let (a, _lease) = harness.held_for_a_second();
    for _ in 0..10 {
        harness.ask(&a);
    }
    let refused = harness.ask(&a);
    assert_eq!(harness.refusal(refused).and_then(Error::retry_after_ms), Some(6_000));
}

#[test]
fn places_are_told_when_they_change_and_four_times_a_second_at_most() {
    let mut harness = Harness::new(|_| ());
    let (a, mut lease) = harness.held_for_a_second();
    let queue: Vec<_> = (0..50).map(|_| harness.ask(&a)).collect();
    let last = queue[49];
    for next in &queue[..40] {
        harness.pass(25);
        harness.release(lease);
        lease = *next;
    }
    let told = harness.tells(last);
    assert!((4..=6).contains(&told.len()), "40 changes in a second: {}", told.len());
    harness.pass(250);
    let Some(Wait::Queued { position, .. }) = harness.tells(last).last().copied() else { panic!("it waits") };
    assert_eq!(position, 10, "the latest place is told in the end");
    let count = harness.tells(last).len();
    harness.pass(10_000);
    assert_eq!(harness.tells(last).len(), count, "nothing has changed");
}

#[test]
fn no_more_is_begun_for_those_who_come_too_late_than_may_wait() {
    let mut harness = Harness::new(|config| config.queue_total = 2);
    for number in 0..5 {
        let slow = model_with(&format!("m{number}"), 10, |spec| spec.load_ms = Some(1_000));
        let late = harness.within(&slow, 1);
        assert!(matches!(harness.refusal(late), Some(Error::TooLate { .. })));
    }
    assert_eq!((harness.loads(), harness.state.tickets.len()), (2, 2));
}
