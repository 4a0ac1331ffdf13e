//! Memory for work in the background.

use super::*;

impl Harness {
    fn reserve_background(&mut self, bytes: u64) -> Option<TicketId> {
        let ticket = self.ticket();
        let effects = self.happen(Event::BackgroundReservation { ticket, bytes });
        let granted =
            |effect: &Effect| matches!(effect, Effect::BackgroundReservation { is_granted: true, .. });
        effects.iter().any(granted).then_some(ticket)
    }

    fn is_wanted_back(&self, ticket: TicketId) -> bool {
        let asked =
            |effect: &Effect| matches!(effect, Effect::WantBack { ticket: other } if *other == ticket);
        self.effects.iter().any(asked)
    }
}

#[test]
fn what_is_free_is_set_aside_and_nobody_leaves_for_more() {
    let mut harness = Harness::new(|_| ());
    harness.use_once(&model("idle", 60));
    assert_eq!(harness.reserve_background(41), None);
    let background = harness.reserve_background(40).expect("40 are free");
    assert_eq!((harness.state.ledger.used().on_host(), harness.state.ledger.reserved().on_host()), (100, 40));
    assert!(harness.decisions(What::Parked).is_empty());
    harness.release(background);
    assert_eq!(harness.state.ledger.used().on_host(), 60);
}

#[test]
fn nothing_above_the_soft_limit_is_set_aside() {
    let mut harness = Harness::new(|config| config.soft_ratio = 0.8);
    harness.use_once(&model("idle", 60));
    assert_eq!(harness.reserve_background(21), None);
    assert!(harness.reserve_background(20).is_some());
    assert!(harness.decisions(What::Parked).is_empty());
}

#[test]
fn a_request_has_it_back_before_anything_idle_leaves() {
    let mut harness = Harness::new(|_| ());
    harness.use_once(&model("idle", 40));
    let background = harness.reserve_background(50).expect("60 are free");
    let ticket = harness.ask(&model("a", 60));
    assert!(harness.is_wanted_back(background) && harness.decisions(What::Parked).is_empty());
    assert!(harness.reserve_background(1).is_none(), "a request waits for memory");
    harness.release(background);
    harness.finish_work();
    assert!(harness.is_granted(ticket) && harness.is_in(&model("idle", 40), ModelState::Ready));
}

#[test]
fn what_it_gives_back_and_what_is_idle_make_room_together() {
    let mut harness = Harness::new(|_| ());
    harness.use_once(&model("idle", 40));
    let background = harness.reserve_background(50).expect("60 are free");
    let ticket = harness.ask(&model("a", 90));
    assert!(harness.is_wanted_back(background));
    harness.finish_work();
    assert!(!harness.is_granted(ticket), "it is not back");
    harness.release(background);
    harness.finish_work();
    assert!(harness.is_granted(ticket));
}

#[test]
fn under_pressure_and_when_the_pool_leaves_it_is_asked_back_first() {
    let mut harness = Harness::new(|_| ());
    harness.use_once(&model("idle", 40));
    let background = harness.reserve_background(50).expect("60 are free");
    harness.happen(Event::Pressure { available_bytes: 0, stall_percent: 0.0 });
    assert!(harness.is_wanted_back(background) && harness.decisions(What::Parked).is_empty());
    harness.happen(Event::Pressure { available_bytes: 0, stall_percent: 0.0 });
    assert_eq!(harness.decisions(What::Parked).len(), 1);
    harness.release(background);
    let other = harness.reserve_background(50).expect("it is free again");
    harness.happen(Event::Shutdown);
    assert!(harness.is_wanted_back(other) && harness.reserve_background(1).is_none());
}

/// A model of two instances of so many bytes each.
fn pair(held_bytes: u64) -> Arc<ModelSpec> {
    model_with("pair", held_bytes, |spec| spec.instances = Instances { min: 2, max: 2 })
}

#[test]
fn an_instance_that_would_not_fit_even_then_asks_nothing_back() {
    let mut harness = Harness::new(|_| ());
    let lease = harness.ask(&pair(60));
    harness.finish_work();
    let background = harness.reserve_background(30).expect("40 are free");
    harness.pass(1_000);
    harness.release(lease);
    harness.pass(1_000);
    assert!(!harness.is_wanted_back(background), "the second takes 60, and 40 could be had");
    assert_eq!(harness.model(&pair(60)).instances, 1);
}

#[test]
fn an_instance_of_min_has_back_what_it_fits_in_together_with_what_is_idle() {
    let mut harness = Harness::new(|_| ());
    let other = harness.ask(&model("other", 20));
    harness.finish_work();
    let _lease = harness.ask(&pair(45));
    harness.finish_work();
    assert_eq!(harness.loads(), 2, "20 are used by another");
    let background = harness.reserve_background(20).expect("35 are free");
    assert!(!harness.is_wanted_back(background));
    harness.release(other);
    harness.pass(1);
    assert!(
        harness.is_wanted_back(background),
        "20 of it, 20 of the other that is idle now, and 15 are free"
    );
    assert!(harness.is_in(&model("other", 20), ModelState::Parking));
    harness.release(background);
    harness.finish_work();
    assert_eq!((harness.loads(), harness.model(&pair(45)).instances), (3, 2));
}
