//! Memory for work in the background.

use super::*;

impl Stage {
    fn set_aside(&mut self, bytes: u64) -> Option<TicketId> {
        let ticket = self.ticket();
        let effects = self.happen(Event::SetAside { ticket, bytes });
        let granted = |effect: &Effect| matches!(effect, Effect::SetAside { is_granted: true, .. });
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
    let mut stage = Stage::new(|_| ());
    stage.use_once(&model("idle", 60));
    assert_eq!(stage.set_aside(41), None);
    let aside = stage.set_aside(40).expect("40 are free");
    assert_eq!((stage.state.ledger.used(), stage.state.ledger.reserved()), (100, 40));
    assert!(stage.decisions(What::Parked).is_empty());
    stage.release(aside);
    assert_eq!(stage.state.ledger.used(), 60);
}

#[test]
fn nothing_above_the_soft_limit_is_set_aside() {
    let mut stage = Stage::new(|config| config.soft_ratio = 0.8);
    stage.use_once(&model("idle", 60));
    assert_eq!(stage.set_aside(21), None);
    assert!(stage.set_aside(20).is_some());
    assert!(stage.decisions(What::Parked).is_empty());
}

#[test]
fn a_request_has_it_back_before_anything_idle_leaves() {
    let mut stage = Stage::new(|_| ());
    stage.use_once(&model("idle", 40));
    let aside = stage.set_aside(50).expect("60 are free");
    let ticket = stage.ask(&model("a", 60));
    assert!(stage.is_wanted_back(aside) && stage.decisions(What::Parked).is_empty());
    assert!(stage.set_aside(1).is_none(), "somebody waits for memory");
    stage.release(aside);
    stage.finish_work();
    assert!(stage.is_granted(ticket) && stage.is_in(&model("idle", 40), ModelState::Ready));
}

#[test]
fn what_it_gives_back_and_what_is_idle_make_room_together() {
    let mut stage = Stage::new(|_| ());
    stage.use_once(&model("idle", 40));
    let aside = stage.set_aside(50).expect("60 are free");
    let ticket = stage.ask(&model("a", 90));
    assert!(stage.is_wanted_back(aside));
    stage.finish_work();
    assert!(!stage.is_granted(ticket), "it is not back");
    stage.release(aside);
    stage.finish_work();
    assert!(stage.is_granted(ticket));
}

#[test]
fn under_pressure_and_when_the_pool_leaves_it_is_asked_back_first() {
    let mut stage = Stage::new(|_| ());
    stage.use_once(&model("idle", 40));
    let aside = stage.set_aside(50).expect("60 are free");
    stage.happen(Event::Pressure { available_bytes: 0, stall_percent: 0.0 });
    assert!(stage.is_wanted_back(aside) && stage.decisions(What::Parked).is_empty());
    stage.happen(Event::Pressure { available_bytes: 0, stall_percent: 0.0 });
    assert_eq!(stage.decisions(What::Parked).len(), 1);
    stage.release(aside);
    let other = stage.set_aside(50).expect("it is free again");
    stage.happen(Event::Shutdown);
    assert!(stage.is_wanted_back(other) && stage.set_aside(1).is_none());
}

/// A model of two instances of so many bytes each.
fn pair(held_bytes: u64) -> Arc<ModelSpec> {
    model_with("pair", held_bytes, |spec| spec.instances = Instances { min: 2, max: 2 })
}

#[test]
fn an_instance_that_would_not_fit_even_then_asks_nothing_back() {
    let mut stage = Stage::new(|_| ());
    let lease = stage.ask(&pair(60));
    stage.finish_work();
    let aside = stage.set_aside(30).expect("40 are free");
    stage.pass(1_000);
    stage.release(lease);
    stage.pass(1_000);
    assert!(!stage.is_wanted_back(aside), "the second takes 60, and 40 could be had");
    assert_eq!(stage.model(&pair(60)).instances, 1);
}

#[test]
fn an_instance_of_min_has_back_what_it_fits_in_together_with_what_is_idle() {
    let mut stage = Stage::new(|_| ());
    let other = stage.ask(&model("other", 20));
    stage.finish_work();
    let _lease = stage.ask(&pair(45));
    stage.finish_work();
    assert_eq!(stage.loads(), 2, "20 are used by another");
    let aside = stage.set_aside(20).expect("35 are free");
    assert!(!stage.is_wanted_back(aside));
    stage.release(other);
    stage.pass(1);
    assert!(stage.is_wanted_back(aside), "20 of it, 20 of the other that is idle now, and 15 are free");
    assert!(stage.is_in(&model("other", 20), ModelState::Parking));
    stage.release(aside);
    stage.finish_work();
    assert_eq!((stage.loads(), stage.model(&pair(45)).instances), (3, 2));
}
