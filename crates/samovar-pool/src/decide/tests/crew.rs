//! Several instances of one model: at least so many, at most so many, and which of them serves whom.

use super::*;

/// A model of 10 bytes of its own in each instance and 30 that they share, with one slot each.
fn crew(name: &str, min: u32, max: u32) -> Arc<ModelSpec> {
    model_with(name, 10, |spec| {
        spec.footprint.mapped_bytes = 30;
        spec.instances = Instances { min, max };
        spec.keep_alive = KeepAlive::Ms(60_000);
    })
}

impl Stage {
    fn granted_on(&self, ticket: TicketId) -> Option<InstanceId> {
        self.effects.iter().find_map(|effect| match effect {
            Effect::Grant { ticket: granted, instance, .. } if *granted == ticket => Some(*instance),
            _ => None,
        })
    }

    fn is_done(&self, ticket: TicketId) -> Option<u32> {
        self.effects.iter().find_map(|effect| match effect {
            Effect::Done { ticket: done, instances } if *done == ticket => Some(*instances),
            _ => None,
        })
    }

    fn ask_again(&mut self, model: &Arc<ModelSpec>, affinity: u64) -> TicketId {
        let ticket = self.ticket();
        self.happen(Event::Request {
            ticket,
            model: Arc::clone(model),
            client: String::new(),
            within: Vec::new(),
            priority: 0,
            deadline: None,
            keep_alive: None,
            affinity: Some(affinity),
        });
        ticket
    }

    fn loading_told_to(&self, ticket: TicketId) -> Vec<(u32, u32)> {
        let told = self.effects.iter().filter_map(|effect| match effect {
            Effect::Tell { ticket: told, wait: Wait::Loading { instance, of, .. } } if *told == ticket => {
                Some((*instance, *of))
            }
            _ => None,
        });
        let mut told: Vec<_> = told.collect();
        told.dedup();
        told
    }
}

#[test]
fn each_load_says_whether_it_is_the_first_or_a_further_one() {
    let mut stage = Stage::new(|_| ());
    let a = crew("a", 2, 2);
    stage.use_once(&a);
    stage.finish_work();
    let reasons: Vec<Reason> = stage.decisions(What::Loading).into_iter().map(|(_, reason)| reason).collect();
    assert_eq!(reasons, [Reason::Asked, Reason::Further { serving: 1, waiting: 0 }]);
}

#[test]
fn all_of_min_are_loaded_one_after_the_other_and_warm_waits_for_all() {
    let mut stage = Stage::new(|_| ());
    let a = crew("a", 3, 3);
    let warm = stage.warm(&a);
    for loaded in 1..=3 {
        assert_eq!((stage.loads(), stage.is_done(warm)), (loaded, None));
        let event = stage.next_outcome().expect("one is loading");
        stage.happen(event);
    }
    assert_eq!(stage.is_done(warm), Some(3));
    assert_eq!(stage.loading_told_to(warm), [(1, 3), (2, 3), (3, 3)]);
    assert_eq!(stage.state.ledger.used(), 60, "what is mapped counts once");
    let stats = stage.model(&a);
    assert_eq!((stats.instances, stats.instances_max, stats.slots, stats.mapped_bytes), (3, 3, 3, 30));
}

#[test]
fn the_first_request_is_served_as_soon_as_one_is_ready() {
    let mut stage = Stage::new(|_| ());
    let a = crew("a", 2, 2);
    let first = stage.ask(&a);
    let event = stage.next_outcome().expect("one is loading");
    stage.happen(event);
    assert!(stage.is_granted(first));
    assert_eq!(stage.loads(), 2, "and the second is loaded although nobody waits");
}

#[test]
fn more_are_loaded_while_requests_wait_and_there_is_room_and_no_further_than_max() {
    let mut stage = Stage::new(|config| config.cores = 8);
    let a = crew("a", 1, 3);
    let tickets: Vec<_> = (0..5).map(|_| stage.ask(&a)).collect();
    stage.finish_work();
    assert_eq!((stage.loads(), stage.model(&a).instances), (3, 3));
    assert_eq!(tickets.iter().filter(|ticket| stage.is_granted(**ticket)).count(), 3);
    assert_eq!(stage.model(&a).queued, 2);
}

#[test]
fn no_more_are_loaded_than_cores_can_work_or_the_soft_limit_allows() {
    let mut stage = Stage::new(|config| config.cores = 2);
    let a = crew("a", 1, 4);
    for _ in 0..5 {
        stage.ask(&a);
    }
    stage.finish_work();
    assert_eq!(stage.model(&a).instances, 2);

    let mut stage = Stage::new(|config| {
        config.cores = 8;
        config.soft_ratio = 0.55;
    });
    for _ in 0..5 {
        stage.ask(&a);
    }
    stage.finish_work();
    assert_eq!((stage.model(&a).instances, stage.state.ledger.used()), (2, 50));
}

#[test]
fn nobody_leaves_for_an_instance_beyond_min() {
    let mut stage = Stage::new(|config| config.cores = 8);
    let (a, other) = (crew("a", 1, 2), model("other", 55));
    stage.use_once(&other);
    let _lease = stage.ask(&a);
    stage.finish_work();
    stage.ask(&a);
    stage.finish_work();
    assert!(stage.is_in(&other, ModelState::Ready));
    assert_eq!(stage.model(&a).instances, 1);
}

#[test]
fn idle_ones_leave_for_an_instance_of_min_and_busy_ones_do_not() {
    for (is_busy, expected) in [(true, 1), (false, 2)] {
        let mut stage = Stage::new(|_| ());
        let (a, other) = (crew("a", 2, 2), model("other", 55));
        let lease = stage.ask(&other);
        stage.finish_work();
        if !is_busy {
            stage.release(lease);
        }
        let warm = stage.warm(&a);
        stage.finish_work();
        assert_eq!(stage.is_done(warm), Some(expected));
        assert_eq!(stage.model(&a).instances, expected);
    }
}

#[test]
fn nothing_more_is_loaded_of_a_model_that_is_to_leave_for_another() {
    let mut stage = Stage::new(|config| config.cores = 8);
    let (a, b) = (crew("a", 1, 3), model("b", 80));
    let lease = stage.ask(&a);
    stage.finish_work();
    let waits = stage.ask(&b);
    for _ in 0..5 {
        stage.ask(&a);
    }
    assert_eq!((stage.loads(), stage.model(&a).instances), (1, 1));
    stage.pass(2_000);
    stage.release(lease);
    stage.finish_work();
    assert!(stage.is_granted(waits));
}

#[test]
fn a_queue_that_is_shorter_than_a_load_waits() {
    let mut stage = Stage::new(|config| config.cores = 8);
    let a = crew("a", 1, 2);
    stage.use_once(&a);
    let lease = stage.ask(&a);
    stage.pass(300);
    stage.release(lease);
    let lease = stage.ask(&a);
    stage.ask(&a);
    assert_eq!(stage.loads(), 1, "a load takes 1 s, a request less");
    for _ in 0..20 {
        stage.ask(&a);
    }
    assert_eq!(stage.loads(), 2);
    stage.release(lease);
}

#[test]
fn those_beyond_min_leave_first_and_the_rest_when_the_model_is_out_of_use() {
    let mut stage = Stage::new(|config| config.cores = 8);
    let a = crew("a", 2, 3);
    let tickets: Vec<_> = (0..3).map(|_| stage.ask(&a)).collect();
    stage.finish_work();
    assert_eq!(stage.model(&a).instances, 3);
    stage.release(tickets[1]);
    stage.release(tickets[2]);
    stage.pass(60_000);
    stage.finish_work();
    assert_eq!(stage.model(&a).instances, 2, "one is busy, one kept for the sake of min");
    stage.pass(600_000);
    assert_eq!(stage.model(&a).instances, 2);
    stage.release(tickets[0]);
    stage.pass(59_999);
    assert_eq!(stage.model(&a).instances, 2);
    stage.pass(1);
    assert_eq!(stage.model(&a).instances, 0);
    stage.finish_work();
    assert_eq!(stage.loads(), 3);
}

#[test]
fn another_model_takes_what_is_beyond_min_before_what_is_needed() {
    let mut stage = Stage::new(|config| config.cores = 8);
    let (a, b) = (crew("a", 1, 2), model("b", 30));
    let tickets = [stage.ask(&a), stage.ask(&a)];
    stage.finish_work();
    stage.use_once(&b);
    stage.pass(1_000);
    for ticket in tickets {
        stage.release(ticket);
    }
    // B has been idle for longest; yet A can do without one of its two.
    stage.use_once(&model("c", 30));
    assert_eq!((stage.model(&a).instances, stage.is_in(&b, ModelState::Ready)), (1, true));
}

#[test]
fn a_conversation_returns_to_the_instance_that_remembers_it_and_others_to_the_least_busy() {
    let mut stage = Stage::new(|_| ());
    let a = model_with("a", 10, |spec| {
        spec.options.slots = 2;
        spec.instances = Instances { min: 2, max: 2 };
    });
    stage.warm(&a);
    stage.finish_work();
    let (first, second) = (stage.ask_again(&a, 1), stage.ask_again(&a, 2));
    let (home_of_1, home_of_2) = (stage.granted_on(first), stage.granted_on(second));
    assert_ne!(home_of_1, home_of_2);
    let again = stage.ask_again(&a, 2);
    assert_eq!(stage.granted_on(again), home_of_2, "busier, but it remembers");
    let overflow = stage.ask_again(&a, 2);
    assert_eq!(stage.granted_on(overflow), home_of_1, "the other one is full");
    for ticket in [first, second, again, overflow] {
        stage.release(ticket);
    }
    let moved = stage.ask_again(&a, 2);
    assert_eq!(stage.granted_on(moved), home_of_1, "it served it last");
}

#[test]
fn a_load_that_fails_takes_nobody_else_down() {
    let mut stage = Stage::new(|_| ());
    let a = crew("a", 2, 2);
    let lease = stage.ask(&a);
    let event = stage.next_outcome().expect("one is loading");
    stage.happen(event);
    let waits = stage.ask(&a);
    let failure = Failure::new(ErrorKind::EngineFailed, "no");
    stage.happen(Event::LoadFailed { instance: InstanceId(2), failure });
    assert!(stage.refusal(waits).is_none());
    stage.release(lease);
    assert!(stage.is_granted(waits));
    stage.pass(1_000);
    assert_eq!(stage.loads(), 3, "it is tried again after its back-off");
}

#[test]
fn a_dead_instance_is_replaced_while_the_other_serves() {
    let mut stage = Stage::new(|_| ());
    let a = crew("a", 2, 2);
    stage.warm(&a);
    stage.finish_work();
    let failure = Failure::new(ErrorKind::EngineFailed, "found dead");
    stage.happen(Event::InstanceDied { instance: InstanceId(1), failure });
    let ticket = stage.ask(&a);
    assert_eq!(stage.granted_on(ticket), Some(InstanceId(2)));
    stage.finish_work();
    assert_eq!((stage.loads(), stage.model(&a).instances), (3, 2));
}

#[test]
fn one_of_two_grows_and_the_other_serves_meanwhile() {
    let mut stage = Stage::new(|_| ());
    let small = crew("a", 2, 2);
    let large = Arc::new(ModelSpec {
        options: LoadOptions { context_tokens: 1_024, ..small.options.clone() },
        footprint: Footprint { held_bytes: 20, mapped_bytes: 30 },
        ..(*small).clone()
    });
    stage.warm(&small);
    stage.finish_work();
    let of_large = stage.ask(&large);
    let of_small = stage.ask(&small);
    assert!(stage.is_granted(of_small) && !stage.is_granted(of_large));
    stage.finish_work();
    assert!(stage.is_granted(of_large));
    assert_eq!((stage.loads(), stage.state.ledger.used()), (2, 60));
}

#[test]
fn unloading_takes_all_of_them_and_leaves_none_to_come_back() {
    let mut stage = Stage::new(|_| ());
    let a = crew("a", 3, 3);
    stage.warm(&a);
    stage.finish_work();
    let ticket = stage.ticket();
    stage.happen(Event::Unload { ticket, name: "a".into() });
    assert_eq!(stage.is_done(ticket), Some(3));
    stage.finish_work();
    stage.pass(600_000);
    assert!(stage.is_in(&a, ModelState::Absent));
    assert_eq!((stage.loads(), stage.state.ledger.used()), (3, 0));
}
