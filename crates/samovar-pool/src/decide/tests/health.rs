//! What becomes of models that fail, and of instances that are not believed to work.

use super::*;
use crate::decision::Record;

fn engine_failed(message: &str) -> Failure {
    Failure::new(ErrorKind::EngineFailed, message)
}

impl Harness {
    /// The instance that was begun last.
    fn latest(&self) -> InstanceId {
        *self.state.instances.last_key_value().expect("there is one").0
    }

    fn die(&mut self) {
        let instance = self.latest();
        self.happen(Event::InstanceDied { instance, failure: engine_failed("killed by signal 11") });
        self.finish_work();
    }

    fn fail(&mut self, ticket: TicketId) {
        self.happen(Event::Released { ticket, failed: Some(engine_failed("decode failed")) });
    }

    fn probes(&self) -> usize {
        self.effects.iter().filter(|effect| matches!(effect, Effect::Probe { .. })).count()
    }

    fn probed(&mut self, is_well: bool) {
        let instance = self.latest();
        let failure = engine_failed("no token");
        self.happen(if is_well {
            Event::Probed { instance }
        } else {
            Event::ProbeFailed { instance, failure }
        });
    }

    fn records(&self, what: What) -> Vec<&Record> {
        let records = self.effects.iter().filter_map(|effect| match effect {
            Effect::Record { record } if record.what == what => Some(record),
            _ => None,
        });
        records.collect()
    }
}

/// A model that died five times within a minute, and is given up.
fn given_up() -> (Harness, Arc<ModelSpec>) {
    let mut harness = Harness::new(|_| ());
    let a = model_with("a", 10, |spec| spec.options.slots = 4);
    for _ in 0..5 {
        harness.use_once(&a);
        harness.die();
        let retry_in_ms = harness.model(&a).retry_in_ms.unwrap_or(0);
        if harness.records(What::Died).len() < 5 {
            harness.pass(retry_in_ms);
        }
    }
    (harness, a)
}

#[test]
fn back_off_of_failed_loads_doubles_until_the_model_is_given_up_and_is_forgotten() {
    let mut harness = Harness::new(|_| ());
    let a = model("a", 10);
    let mut waits = Vec::new();
    for _ in 0..6 {
        let ticket = harness.ask(&a);
        let instance = harness.latest();
        harness.happen(Event::LoadFailed { instance, failure: engine_failed("no") });
        let is_given_up = matches!(harness.refusal(ticket), Some(Error::GivenUp { .. }));
        assert_eq!(is_given_up, waits.len() >= 4, "{:?}", harness.refusal(ticket));
        waits.push(harness.refusal(ticket).and_then(Error::retry_after_ms).expect("it says when"));
        harness.pass(waits[waits.len() - 1]);
    }
    assert_eq!(waits, [1_000, 2_000, 4_000, 8_000, 60_000, 60_000]);
    harness.pass(60_000);
    assert!(harness.is_in(&a, ModelState::Absent));
    assert_eq!(harness.model(&a).failure, None);
    harness.use_once(&a);
}

#[test]
fn the_first_death_is_replaced_at_once_and_the_next_ones_after_a_while() {
    let mut harness = Harness::new(|_| ());
    let a = model("a", 10);
    let mut gaps = Vec::new();
    for _ in 0..4 {
        let ticket = harness.ask(&a);
        harness.finish_work();
        harness.die();
        let retry = harness.ask(&a);
        harness.fail(ticket);
        harness.finish_work();
        gaps.push(harness.model(&a).retry_in_ms.unwrap_or(0));
        assert!(harness.refusal(retry).is_none(), "who is served by it may try again");
        harness.pass(gaps[gaps.len() - 1]);
        harness.finish_work();
        assert!(harness.is_granted(retry));
        harness.release(retry);
    }
    assert_eq!(gaps, [0, 1_000, 2_000, 4_000]);
}

#[test]
fn five_deaths_within_a_minute_give_the_model_up_with_what_the_engine_said() {
    let (mut harness, a) = given_up();
    assert!(harness.is_in(&a, ModelState::Failed));
    let refused = harness.ask(&a);
    let Some(why @ Error::GivenUp { failures: 5, retry_after_ms: 60_000, .. }) = harness.refusal(refused)
    else {
        panic!("{:?}", harness.refusal(refused))
    };
    assert_eq!(why.kind(), ErrorKind::Unavailable);
    assert!(why.to_string().contains("killed by signal 11"), "{why}");
    let died = harness.records(What::Died);
    assert!(
        died[4]
            .to_string()
            .ends_with("killed by signal 11; 5 failures within a minute, not tried again for 60 s"),
        "{}",
        died[4]
    );
    assert_eq!(harness.loads(), 5);
}

#[test]
fn who_waits_when_the_model_is_given_up_is_refused() {
    let mut harness = Harness::new(|_| ());
    let a = model("a", 10);
    for _ in 0..4 {
        harness.use_once(&a);
        harness.die();
        harness.pass(harness.model(&a).retry_in_ms.unwrap_or(0));
    }
    let lease = harness.ask(&a);
    harness.finish_work();
    let waits = harness.ask(&a);
    harness.die();
    assert!(matches!(harness.refusal(waits), Some(Error::GivenUp { .. })));
    harness.release(lease);
    harness.finish_work();
    assert!(harness.is_in(&a, ModelState::Failed));
}

#[test]
fn afterwards_one_tries_for_all() {
    let (mut harness, a) = given_up();
    harness.pass(60_000);
    let crowd: Vec<_> = (0..4).map(|_| harness.ask(&a)).collect();
    harness.finish_work();
    let granted = |harness: &Harness| crowd.iter().filter(|ticket| harness.is_granted(**ticket)).count();
    assert_eq!((granted(&harness), harness.loads()), (1, 6), "four slots are free, and one tries");
    harness.release(crowd[0]);
    assert_eq!(granted(&harness), 4);
    assert_eq!(harness.records(What::Recovered)[0].to_string(), "works again, after 5 failures");
    assert_eq!(harness.model(&a).failure, None);
}

#[test]
fn who_is_served_for_a_while_has_shown_that_the_model_works() {
    let (mut harness, a) = given_up();
    harness.pass(60_000);
    let crowd: Vec<_> = (0..4).map(|_| harness.ask(&a)).collect();
    harness.finish_work();
    harness.pass(9_999);
    assert!(!harness.is_granted(crowd[1]));
    harness.pass(1);
    assert!(crowd.iter().all(|ticket| harness.is_granted(*ticket)));
}

#[test]
fn when_the_one_that_tries_fails_all_are_refused_again() {
    let (mut harness, a) = given_up();
    harness.pass(60_000);
    let crowd: Vec<_> = (0..4).map(|_| harness.ask(&a)).collect();
    harness.finish_work();
    harness.die();
    harness.fail(crowd[0]);
    harness.finish_work();
    for waits in &crowd[1..] {
        assert!(matches!(harness.refusal(*waits), Some(Error::GivenUp { retry_after_ms: 60_000, .. })));
    }
    assert_eq!(harness.loads(), 6);
}

#[test]
fn a_failed_request_closes_its_instance_until_a_probe_went_well() {
    let mut harness = Harness::new(|_| ());
    let a = model_with("a", 10, |spec| spec.options.slots = 4);
    let failing = harness.ask(&a);
    harness.finish_work();
    harness.fail(failing);
    assert_eq!(harness.probes(), 1);
    let retry = harness.ask(&a);
    assert!(!harness.is_granted(retry) && harness.loads() == 1);
    harness.probed(true);
    assert!(harness.is_granted(retry) && harness.loads() == 1);
}

#[test]
fn a_failed_request_and_a_failed_probe_have_the_instance_replaced_and_the_request_served() {
    let mut harness = Harness::new(|_| ());
    let a = model("a", 10);
    let failing = harness.ask(&a);
    harness.finish_work();
    harness.fail(failing);
    let retry = harness.ask(&a);
    harness.probed(false);
    harness.finish_work();
    assert!(harness.is_granted(retry), "by the replacement, which the first death does not delay");
    assert_eq!((harness.loads(), harness.model(&a).state), (2, ModelState::Busy));
    assert!(
        matches!(&harness.decisions(What::Died)[0].1, Reason::Failed { message, .. } if message == "decode failed")
    );
}

#[test]
fn requests_that_fail_together_are_one_failure_and_in_a_row_they_are_two() {
    let mut harness = Harness::new(|_| ());
    let a = model_with("a", 10, |spec| spec.options.slots = 4);
    let together: Vec<_> = (0..4).map(|_| harness.ask(&a)).collect();
    harness.finish_work();
    for ticket in together {
        harness.fail(ticket);
    }
    harness.probed(true);
    assert_eq!((harness.probes(), harness.loads()), (1, 1));
    assert!(harness.is_in(&a, ModelState::Ready));
    let again = harness.ask(&a);
    harness.fail(again);
    assert_eq!(harness.decisions(What::Died).len(), 1, "although probes go well");
}

#[test]
fn a_request_that_went_well_restores_health() {
    let mut harness = Harness::new(|_| ());
    let a = model("a", 10);
    harness.use_once(&a);
    for _ in 0..5 {
        let failing = harness.ask(&a);
        harness.fail(failing);
        harness.probed(true);
        harness.use_once(&a);
    }
    assert_eq!((harness.loads(), harness.decisions(What::Died).len()), (1, 0));
}

#[test]
fn an_idle_instance_is_probed_less_and_less_often() {
    let mut harness = Harness::new(|_| ());
    let a = model("a", 10);
    harness.use_once(&a);
    let mut gaps = Vec::new();
    while gaps.len() < 4 {
        let before = harness.probes();
        let began = harness.now;
        while harness.probes() == before {
            harness.pass(1_000);
        }
        gaps.push(harness.now.since(began));
        harness.probed(true);
    }
    assert_eq!(gaps, [60_000, 120_000, 240_000, 480_000]);

    let lease = harness.ask(&a);
    assert!(harness.is_granted(lease));
    harness.pass(10_000_000);
    assert_eq!(harness.probes(), 4, "the request that uses it says how it is");
    harness.release(lease);
    harness.pass(60_000);
    assert_eq!(harness.probes(), 5, "from the beginning");
    let beside = harness.ask(&a);
    assert!(harness.is_granted(beside), "a probe delays no request");
}

#[test]
fn two_failed_probes_in_a_row_have_an_idle_instance_replaced() {
    let mut harness = Harness::new(|_| ());
    let a = model("a", 10);
    harness.use_once(&a);
    harness.pass(60_000);
    harness.probed(false);
    assert_eq!((harness.probes(), harness.decisions(What::Died).len()), (2, 0), "it is asked again at once");
    harness.probed(false);
    harness.finish_work();
    assert!(harness.is_in(&a, ModelState::Absent));
    assert_eq!(harness.model(&a).loads, 1, "no request waits for it");
}

#[test]
fn without_the_setting_nothing_is_probed_but_what_failed() {
    let mut harness = Harness::new(|config| config.probe_idle_ms = 0);
    harness.use_once(&model("a", 10));
    harness.pass(10_000_000);
    assert_eq!(harness.probes(), 0);
}

#[test]
fn a_pinned_model_that_dies_comes_back_although_nobody_waits() {
    let mut harness = Harness::new(|_| ());
    let a = model("a", 10);
    harness.pin(&a);
    harness.use_once(&a);
    harness.die();
    assert!(harness.is_in(&a, ModelState::Ready) && harness.loads() == 2);
    harness.die();
    assert!(harness.is_in(&a, ModelState::Waiting) || harness.is_in(&a, ModelState::Failed));
    harness.pass(1_000);
    harness.finish_work();
    assert!(harness.is_in(&a, ModelState::Ready) && harness.loads() == 3);
}
