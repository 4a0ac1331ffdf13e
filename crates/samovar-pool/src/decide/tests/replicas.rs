//! Several instances of one model: at least so many, at most so many, and which of them serves whom.

use super::*;

/// A model of 10 bytes of its own in each instance and 30 that they share, with one slot each.
fn replicas(name: &str, min: u32, max: u32) -> Arc<ModelSpec> {
    model_with(name, 10, |spec| {
        map(spec, 30);
        spec.instances = Instances { min, max };
        spec.keep_alive = KeepAlive::Ms(60_000);
    })
}

impl Harness {
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
        let ask = AcquireRequest { affinity: Some(affinity), ..AcquireRequest::new(Arc::clone(model)) };
        self.happen(Event::Request { ticket, ask });
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
    let mut harness = Harness::new(|_| ());
    let a = replicas("a", 2, 2);
    harness.use_once(&a);
    harness.finish_work();
    let reasons: Vec<Reason> =
        harness.decisions(What::Loading).into_iter().map(|(_, reason)| reason).collect();
    assert_eq!(reasons, [Reason::Asked, Reason::Further { serving: 1, waiting: 0 }]);
}

#[test]
fn all_of_min_are_loaded_one_after_the_other_and_warm_waits_for_all() {
    let mut harness = Harness::new(|_| ());
    let a = replicas("a", 3, 3);
    let warm = harness.warm(&a);
    for loaded in 1..=3 {
        assert_eq!((harness.loads(), harness.is_done(warm)), (loaded, None));
        let event = harness.next_outcome().expect("one is loading");
        harness.happen(event);
    }
    assert_eq!(harness.is_done(warm), Some(3));
    assert_eq!(harness.loading_told_to(warm), [(1, 3), (2, 3), (3, 3)]);
    assert_eq!(harness.state.ledger.used().on_host(), 60, "what is mapped counts once");
    let stats = harness.model(&a);
    assert_eq!((stats.instances, stats.instances_max, stats.slots, stats.mapped_bytes), (3, 3, 3, 30));
}

#[test]
fn the_first_request_is_served_as_soon_as_one_is_ready() {
    let mut harness = Harness::new(|_| ());
    let a = replicas("a", 2, 2);
    let first = harness.ask(&a);
    let event = harness.next_outcome().expect("one is loading");
    harness.happen(event);
    assert!(harness.is_granted(first));
    assert_eq!(harness.loads(), 2, "and the second is loaded although no request waits");
}

#[test]
fn more_are_loaded_while_requests_wait_and_there_is_room_and_no_further_than_max() {
    let mut harness = Harness::new(|config| config.cores = 8);
    let a = replicas("a", 1, 3);
    let tickets: Vec<_> = (0..5).map(|_| harness.ask(&a)).collect();
    harness.finish_work();
    assert_eq!((harness.loads(), harness.model(&a).instances), (3, 3));
    assert_eq!(tickets.iter().filter(|ticket| harness.is_granted(**ticket)).count(), 3);
    assert_eq!(harness.model(&a).queued, 2);
}

#[test]
fn no_more_are_loaded_than_cores_can_work_or_the_soft_limit_allows() {
    let mut harness = Harness::new(|config| config.cores = 2);
    let a = replicas("a", 1, 4);
    for _ in 0..5 {
        harness.ask(&a);
    }
    harness.finish_work();
    assert_eq!(harness.model(&a).instances, 2);

    let mut harness = Harness::new(|config| {
        config.cores = 8;
        config.soft_ratio = 0.55;
    });
    for _ in 0..5 {
        harness.ask(&a);
    }
    harness.finish_work();
    assert_eq!((harness.model(&a).instances, harness.state.ledger.used().on_host()), (2, 50));
}

#[test]
fn nobody_leaves_for_an_instance_beyond_min() {
    let mut harness = Harness::new(|config| config.cores = 8);
    let (a, other) = (replicas("a", 1, 2), model("other", 55));
    harness.use_once(&other);
    let _lease = harness.ask(&a);
    harness.finish_work();
    harness.ask(&a);
    harness.finish_work();
    assert!(harness.is_in(&other, ModelState::Ready));
    assert_eq!(harness.model(&a).instances, 1);
}

#[test]
fn idle_ones_leave_for_an_instance_of_min_and_busy_ones_do_not() {
    for (is_busy, expected) in [(true, 1), (false, 2)] {
        let mut harness = Harness::new(|_| ());
        let (a, other) = (replicas("a", 2, 2), model("other", 55));
        let lease = harness.ask(&other);
        harness.finish_work();
        if !is_busy {
            harness.release(lease);
        }
        let warm = harness.warm(&a);
        harness.finish_work();
        assert_eq!(harness.is_done(warm), Some(expected));
        assert_eq!(harness.model(&a).instances, expected);
    }
}

#[test]
fn nothing_more_is_loaded_of_a_model_that_is_to_leave_for_another() {
    let mut harness = Harness::new(|config| config.cores = 8);
    let (a, b) = (replicas("a", 1, 3), model("b", 80));
    let lease = harness.ask(&a);
    harness.finish_work();
    let waits = harness.ask(&b);
    for _ in 0..5 {
        harness.ask(&a);
    }
    assert_eq!((harness.loads(), harness.model(&a).instances), (1, 1));
    harness.pass(2_000);
    harness.release(lease);
    harness.finish_work();
    assert!(harness.is_granted(waits));
}

#[test]
fn a_queue_that_is_shorter_than_a_load_waits() {
    let mut harness = Harness::new(|config| config.cores = 8);
    let a = replicas("a", 1, 2);
    harness.use_once(&a);
    let lease = harness.ask(&a);
    harness.pass(300);
    harness.release(lease);
    let lease = harness.ask(&a);
    harness.ask(&a);
    assert_eq!(harness.loads(), 1, "a load takes 1 s, a request less");
    for _ in 0..20 {
        harness.ask(&a);
    }
    assert_eq!(harness.loads(), 2);
    harness.release(lease);
}

#[test]
fn those_beyond_min_leave_first_and_the_rest_when_the_model_is_out_of_use() {
    let mut harness = Harness::new(|config| config.cores = 8);
    let a = replicas("a", 2, 3);
    let tickets: Vec<_> = (0..3).map(|_| harness.ask(&a)).collect();
    harness.finish_work();
    assert_eq!(harness.model(&a).instances, 3);
    harness.release(tickets[1]);
    harness.release(tickets[2]);
    harness.pass(60_000);
    harness.finish_work();
    assert_eq!(harness.model(&a).instances, 2, "one is busy, one kept for the sake of min");
    harness.pass(600_000);
    assert_eq!(harness.model(&a).instances, 2);
    harness.release(tickets[0]);
    harness.pass(59_999);
    assert_eq!(harness.model(&a).instances, 2);
    harness.pass(1);
    assert_eq!(harness.model(&a).instances, 0);
    harness.finish_work();
    assert_eq!(harness.loads(), 3);
}

#[test]
fn another_model_takes_what_is_beyond_min_before_what_is_needed() {
    let mut harness = Harness::new(|config| config.cores = 8);
    let (a, b) = (replicas("a", 1, 2), model("b", 30));
    let tickets = [harness.ask(&a), harness.ask(&a)];
    harness.finish_work();
    harness.use_once(&b);
    harness.pass(1_000);
    for ticket in tickets {
        harness.release(ticket);
    }
    // B has been idle for longest; yet A can do without one of its two.
    harness.use_once(&model("c", 30));
    assert_eq!((harness.model(&a).instances, harness.is_in(&b, ModelState::Ready)), (1, true));
}

#[test]
fn a_conversation_returns_to_the_instance_that_remembers_it_and_others_to_the_least_busy() {
    let mut harness = Harness::new(|_| ());
    let a = model_with("a", 10, |spec| {
        spec.options.slots = 2;
        spec.instances = Instances { min: 2, max: 2 };
    });
    harness.warm(&a);
    harness.finish_work();
    let (first, second) = (harness.ask_again(&a, 1), harness.ask_again(&a, 2));
    let (home_of_1, home_of_2) = (harness.granted_on(first), harness.granted_on(second));
    assert_ne!(home_of_1, home_of_2);
    let again = harness.ask_again(&a, 2);
    assert_eq!(harness.granted_on(again), home_of_2, "busier, but it remembers");
    let overflow = harness.ask_again(&a, 2);
    assert_eq!(harness.granted_on(overflow), home_of_1, "the other one is full");
    for ticket in [first, second, again, overflow] {
        harness.release(ticket);
    }
    let moved = harness.ask_again(&a, 2);
    assert_eq!(harness.granted_on(moved), home_of_1, "it served it last");
}

#[test]
fn a_load_that_fails_takes_nobody_else_down() {
    let mut harness = Harness::new(|_| ());
    let a = replicas("a", 2, 2);
    let lease = harness.ask(&a);
    let event = harness.next_outcome().expect("one is loading");
    harness.happen(event);
    let waits = harness.ask(&a);
    let failure = Failure::new(ErrorKind::EngineFailed, "no");
    harness.happen(Event::LoadFailed { instance: InstanceId(2), failure });
    assert!(harness.refusal(waits).is_none());
    harness.release(lease);
    assert!(harness.is_granted(waits));
    harness.pass(1_000);
    assert_eq!(harness.loads(), 3, "it is tried again after its back-off");
}

#[test]
fn a_dead_instance_is_replaced_while_the_other_serves() {
    let mut harness = Harness::new(|_| ());
    let a = replicas("a", 2, 2);
    harness.warm(&a);
    harness.finish_work();
    let failure = Failure::new(ErrorKind::EngineFailed, "found dead");
    harness.happen(Event::InstanceDied { instance: InstanceId(1), failure });
    let ticket = harness.ask(&a);
    assert_eq!(harness.granted_on(ticket), Some(InstanceId(2)));
    harness.finish_work();
    assert_eq!((harness.loads(), harness.model(&a).instances), (3, 2));
}

#[test]
fn one_of_two_grows_and_the_other_serves_meanwhile() {
    let mut harness = Harness::new(|_| ());
    let small = replicas("a", 2, 2);
    let large = Arc::new(ModelSpec {
        options: LoadOptions { context_tokens: 1_024, ..small.options.clone() },
        cost: Cost { memory: Memory::on_host(20, 30), ..small.cost.clone() },
        ..(*small).clone()
    });
    harness.warm(&small);
    harness.finish_work();
    let of_large = harness.ask(&large);
    let of_small = harness.ask(&small);
    assert!(harness.is_granted(of_small) && !harness.is_granted(of_large));
    harness.finish_work();
    assert!(harness.is_granted(of_large));
    harness.release(of_large);
    // The other serves, so it is what is shown.
    let (shown, largest) = (harness.model(&small).options, harness.model(&small).largest_context_tokens);
    assert!(shown.is_some_and(|options| options.context_tokens < 1_024));
    assert_eq!(largest, Some(1_024));
    assert_eq!((harness.loads(), harness.state.ledger.used().on_host()), (2, 60));
}

#[test]
fn unloading_takes_all_of_them_and_leaves_none_to_come_back() {
    let mut harness = Harness::new(|_| ());
    let a = replicas("a", 3, 3);
    harness.warm(&a);
    harness.finish_work();
    let ticket = harness.ticket();
    harness.happen(Event::Unload { ticket, name: "a".into() });
    assert_eq!(harness.is_done(ticket), Some(3));
    harness.finish_work();
    harness.pass(600_000);
    assert!(harness.is_in(&a, ModelState::Absent));
    assert_eq!((harness.loads(), harness.state.ledger.used().on_host()), (3, 0));
}

#[test]
fn a_further_instance_has_the_usual_size_and_not_what_one_request_asked_for() {
    let mut harness = Harness::new(|_| ());
    let usual = replicas("a", 2, 2);
    let large = Arc::new(ModelSpec {
        options: LoadOptions { context_tokens: 1_024, ..usual.options.clone() },
        cost: Cost { memory: Memory::on_host(20, 30), ..usual.cost.clone() },
        usual: Some(Arc::clone(&usual)),
        ..(*usual).clone()
    });
    harness.use_once(&large);
    assert_eq!((harness.loads(), harness.state.ledger.used().on_host()), (2, 20 + 10 + 30));
}
