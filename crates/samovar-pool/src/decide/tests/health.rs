//! What becomes of models that fail, and of instances that are not believed to work.

use super::*;
use crate::decision::Record;

fn engine_failed(message: &str) -> Failure {
    Failure::new(ErrorKind::EngineFailed, message)
}

impl Stage {
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
fn given_up() -> (Stage, Arc<ModelSpec>) {
    let mut stage = Stage::new(|_| ());
    let a = model_with("a", 10, |spec| spec.options.slots = 4);
    for _ in 0..5 {
        stage.use_once(&a);
        stage.die();
        let retry_in_ms = stage.model(&a).retry_in_ms.unwrap_or(0);
        if stage.records(What::Died).len() < 5 {
            stage.pass(retry_in_ms);
        }
    }
    (stage, a)
}

#[test]
fn back_off_of_failed_loads_doubles_until_the_model_is_given_up_and_is_forgotten() {
    let mut stage = Stage::new(|_| ());
    let a = model("a", 10);
    let mut waits = Vec::new();
    for _ in 0..6 {
        let ticket = stage.ask(&a);
        let instance = stage.latest();
        stage.happen(Event::LoadFailed { instance, failure: engine_failed("no") });
        let is_given_up = matches!(stage.refusal(ticket), Some(Error::GivenUp { .. }));
        assert_eq!(is_given_up, waits.len() >= 4, "{:?}", stage.refusal(ticket));
        waits.push(stage.refusal(ticket).and_then(Error::retry_after_ms).expect("it says when"));
        stage.pass(waits[waits.len() - 1]);
    }
    assert_eq!(waits, [1_000, 2_000, 4_000, 8_000, 60_000, 60_000]);
    stage.pass(60_000);
    assert!(stage.is_in(&a, ModelState::Absent));
    assert_eq!(stage.model(&a).failure, None);
    stage.use_once(&a);
}

#[test]
fn the_first_death_is_replaced_at_once_and_the_next_ones_after_a_while() {
    let mut stage = Stage::new(|_| ());
    let a = model("a", 10);
    let mut gaps = Vec::new();
    for _ in 0..4 {
        let ticket = stage.ask(&a);
        stage.finish_work();
        stage.die();
        let retry = stage.ask(&a);
        stage.fail(ticket);
        stage.finish_work();
        gaps.push(stage.model(&a).retry_in_ms.unwrap_or(0));
        assert!(stage.refusal(retry).is_none(), "who is served by it may try again");
        stage.pass(gaps[gaps.len() - 1]);
        stage.finish_work();
        assert!(stage.is_granted(retry));
        stage.release(retry);
    }
    assert_eq!(gaps, [0, 1_000, 2_000, 4_000]);
}

#[test]
fn five_deaths_within_a_minute_give_the_model_up_with_what_the_engine_said() {
    let (mut stage, a) = given_up();
    assert!(stage.is_in(&a, ModelState::Failed));
    let refused = stage.ask(&a);
    let Some(why @ Error::GivenUp { failures: 5, retry_after_ms: 60_000, .. }) = stage.refusal(refused)
    else {
        panic!("{:?}", stage.refusal(refused))
    };
    assert_eq!(why.kind(), ErrorKind::Unavailable);
    assert!(why.to_string().contains("killed by signal 11"), "{why}");
    let died = stage.records(What::Died);
    assert!(
        died[4]
            .to_string()
            .ends_with("killed by signal 11; 5 failures within a minute, not tried again for 60 s"),
        "{}",
        died[4]
    );
    assert_eq!(stage.loads(), 5);
}

#[test]
fn who_waits_when_the_model_is_given_up_is_refused() {
    let mut stage = Stage::new(|_| ());
    let a = model("a", 10);
    for _ in 0..4 {
        stage.use_once(&a);
        stage.die();
        stage.pass(stage.model(&a).retry_in_ms.unwrap_or(0));
    }
    let lease = stage.ask(&a);
    stage.finish_work();
    let waits = stage.ask(&a);
    stage.die();
    assert!(matches!(stage.refusal(waits), Some(Error::GivenUp { .. })));
    stage.release(lease);
    stage.finish_work();
    assert!(stage.is_in(&a, ModelState::Failed));
}

#[test]
fn afterwards_one_tries_for_all() {
    let (mut stage, a) = given_up();
    stage.pass(60_000);
    let crowd: Vec<_> = (0..4).map(|_| stage.ask(&a)).collect();
    stage.finish_work();
    let granted = |stage: &Stage| crowd.iter().filter(|ticket| stage.is_granted(**ticket)).count();
    assert_eq!((granted(&stage), stage.loads()), (1, 6), "four slots are free, and one tries");
    stage.release(crowd[0]);
    assert_eq!(granted(&stage), 4);
    assert_eq!(stage.records(What::Recovered)[0].to_string(), "works again, after 5 failures");
    assert_eq!(stage.model(&a).failure, None);
}

#[test]
fn who_is_served_for_a_while_has_shown_that_the_model_works() {
    let (mut stage, a) = given_up();
    stage.pass(60_000);
    let crowd: Vec<_> = (0..4).map(|_| stage.ask(&a)).collect();
    stage.finish_work();
    stage.pass(9_999);
    assert!(!stage.is_granted(crowd[1]));
    stage.pass(1);
    assert!(crowd.iter().all(|ticket| stage.is_granted(*ticket)));
}

#[test]
fn when_the_one_that_tries_fails_all_are_refused_again() {
    let (mut stage, a) = given_up();
    stage.pass(60_000);
    let crowd: Vec<_> = (0..4).map(|_| stage.ask(&a)).collect();
    stage.finish_work();
    stage.die();
    stage.fail(crowd[0]);
    stage.finish_work();
    for waits in &crowd[1..] {
        assert!(matches!(stage.refusal(*waits), Some(Error::GivenUp { retry_after_ms: 60_000, .. })));
    }
    assert_eq!(stage.loads(), 6);
}

#[test]
fn a_failed_request_closes_its_instance_until_a_probe_went_well() {
    let mut stage = Stage::new(|_| ());
    let a = model_with("a", 10, |spec| spec.options.slots = 4);
    let failing = stage.ask(&a);
    stage.finish_work();
    stage.fail(failing);
    assert_eq!(stage.probes(), 1);
    let retry = stage.ask(&a);
    assert!(!stage.is_granted(retry) && stage.loads() == 1);
    stage.probed(true);
    assert!(stage.is_granted(retry) && stage.loads() == 1);
}

#[test]
fn a_failed_request_and_a_failed_probe_have_the_instance_replaced_and_the_request_served() {
    let mut stage = Stage::new(|_| ());
    let a = model("a", 10);
    let failing = stage.ask(&a);
    stage.finish_work();
    stage.fail(failing);
    let retry = stage.ask(&a);
    stage.probed(false);
    stage.finish_work();
    assert!(stage.is_granted(retry), "by the replacement, which the first death does not delay");
    assert_eq!((stage.loads(), stage.model(&a).state), (2, ModelState::Busy));
    assert!(
        matches!(&stage.decisions(What::Died)[0].1, Reason::Failed { message, .. } if message == "decode failed")
    );
}

#[test]
fn requests_that_fail_together_are_one_failure_and_in_a_row_they_are_two() {
    let mut stage = Stage::new(|_| ());
    let a = model_with("a", 10, |spec| spec.options.slots = 4);
    let together: Vec<_> = (0..4).map(|_| stage.ask(&a)).collect();
    stage.finish_work();
    for ticket in together {
        stage.fail(ticket);
    }
    stage.probed(true);
    assert_eq!((stage.probes(), stage.loads()), (1, 1));
    assert!(stage.is_in(&a, ModelState::Ready));
    let again = stage.ask(&a);
    stage.fail(again);
    assert_eq!(stage.decisions(What::Died).len(), 1, "although probes go well");
}

#[test]
fn a_request_that_went_well_restores_trust() {
    let mut stage = Stage::new(|_| ());
    let a = model("a", 10);
    stage.use_once(&a);
    for _ in 0..5 {
        let failing = stage.ask(&a);
        stage.fail(failing);
        stage.probed(true);
        stage.use_once(&a);
    }
    assert_eq!((stage.loads(), stage.decisions(What::Died).len()), (1, 0));
}

#[test]
fn an_idle_instance_is_probed_less_and_less_often() {
    let mut stage = Stage::new(|_| ());
    let a = model("a", 10);
    stage.use_once(&a);
    let mut gaps = Vec::new();
    while gaps.len() < 4 {
        let before = stage.probes();
        let began = stage.now;
        while stage.probes() == before {
            stage.pass(1_000);
        }
        gaps.push(stage.now.since(began));
        stage.probed(true);
    }
    assert_eq!(gaps, [60_000, 120_000, 240_000, 480_000]);

    let lease = stage.ask(&a);
    assert!(stage.is_granted(lease));
    stage.pass(10_000_000);
    assert_eq!(stage.probes(), 4, "whoever uses it says how it is");
    stage.release(lease);
    stage.pass(60_000);
    assert_eq!(stage.probes(), 5, "from the beginning");
    let beside = stage.ask(&a);
    assert!(stage.is_granted(beside), "a probe delays nobody");
}

#[test]
fn two_failed_probes_in_a_row_have_an_idle_instance_replaced() {
    let mut stage = Stage::new(|_| ());
    let a = model("a", 10);
    stage.use_once(&a);
    stage.pass(60_000);
    stage.probed(false);
    assert_eq!((stage.probes(), stage.decisions(What::Died).len()), (2, 0), "it is asked again at once");
    stage.probed(false);
    stage.finish_work();
    assert!(stage.is_in(&a, ModelState::Absent));
    assert_eq!(stage.model(&a).loads, 1, "nobody waits for it");
}

#[test]
fn without_the_setting_nothing_is_probed_but_what_failed() {
    let mut stage = Stage::new(|config| config.probe_idle_ms = 0);
    stage.use_once(&model("a", 10));
    stage.pass(10_000_000);
    assert_eq!(stage.probes(), 0);
}

#[test]
fn a_pinned_model_that_dies_comes_back_although_nobody_waits() {
    let mut stage = Stage::new(|_| ());
    let a = model("a", 10);
    stage.pin(&a);
    stage.use_once(&a);
    stage.die();
    assert!(stage.is_in(&a, ModelState::Ready) && stage.loads() == 2);
    stage.die();
    assert!(stage.is_in(&a, ModelState::Waiting) || stage.is_in(&a, ModelState::Failed));
    stage.pass(1_000);
    stage.finish_work();
    assert!(stage.is_in(&a, ModelState::Ready) && stage.loads() == 3);
}
