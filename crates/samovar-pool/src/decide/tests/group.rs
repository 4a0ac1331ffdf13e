//! Models that need others: placed, leased and evicted as one.

use super::*;

/// A model that needs others beside it.
fn needing(name: &str, held_bytes: u64, needs: &[&Arc<ModelSpec>]) -> Arc<ModelSpec> {
    model_with(name, held_bytes, |spec| {
        spec.needs = needs.iter().map(|need| Arc::clone(need)).collect();
        spec.keep_alive = KeepAlive::Ms(60_000);
    })
}

impl Stage {
    fn fail_load(&mut self, spec: &ModelSpec) {
        let loading = self.state.instances.iter().find(|(_, instance)| instance.spec.key == spec.key);
        let instance = *loading.expect("it is loading").0;
        let failure = Failure::new(ErrorKind::InvalidModel, "the file is damaged");
        self.happen(Event::LoadFailed { instance, failure });
    }
}

#[test]
fn a_model_is_granted_when_it_and_all_that_it_needs_are_ready() {
    let mut stage = Stage::new(|_| ());
    let draft = model("draft", 10);
    let helper = needing("helper", 10, &[&draft]);
    let chat = needing("chat", 40, &[&helper]);
    let ticket = stage.ask(&chat);
    assert_eq!((stage.loads(), stage.state.ledger.reserved()), (3, 60), "needs of needs as well");
    for _ in 0..3 {
        assert!(!stage.is_granted(ticket));
        let event = stage.next_outcome().expect("something is loading");
        stage.happen(event);
    }
    assert!(stage.is_granted(ticket));
    assert!(stage.is_in(&draft, ModelState::Busy) && stage.is_in(&helper, ModelState::Busy));
    assert_eq!(stage.model(&chat).needs, ["helper", "draft"]);
    stage.release(ticket);
    assert!(stage.is_in(&draft, ModelState::Ready));
}

#[test]
fn a_group_is_reserved_whole_or_not_at_all() {
    let mut stage = Stage::new(|_| ());
    let busy = stage.ask(&model("busy", 60));
    stage.finish_work();
    let (draft, loads) = (model("draft", 20), stage.loads());
    let ticket = stage.ask(&needing("chat", 40, &[&draft]));
    assert_eq!((stage.loads(), stage.state.ledger.used()), (loads, 60), "40 are free, 60 are needed");
    stage.pass(60_000);
    stage.release(busy);
    stage.finish_work();
    assert!(stage.is_granted(ticket));
}

#[test]
fn two_groups_that_do_not_fit_together_take_turns() {
    let mut stage = Stage::new(|_| ());
    let (a, b) = (model("a", 30), model("b", 30));
    let (first, second) = (needing("first", 30, &[&a]), needing("second", 30, &[&b]));
    let (one, two) = (stage.ask(&first), stage.ask(&second));
    stage.finish_work();
    assert!(stage.is_granted(one) && !stage.is_granted(two));
    stage.pass(60_000);
    stage.release(one);
    stage.finish_work();
    assert!(stage.is_granted(two));
    assert!(stage.is_in(&first, ModelState::Parked) && stage.is_in(&a, ModelState::Parked));
}

#[test]
fn a_member_is_left_alone_while_its_group_is_in_use_or_in_memory() {
    let mut stage = Stage::new(|_| ());
    let draft = model_with("draft", 30, |spec| spec.keep_alive = KeepAlive::Ms(1));
    let chat = needing("chat", 30, &[&draft]);
    let lease = stage.ask(&chat);
    stage.finish_work();
    let ticket = stage.ticket();
    stage.happen(Event::Unload { ticket, name: "draft".into() });
    assert!(stage.is_in(&draft, ModelState::Draining), "a lease needs it");
    stage.release(lease);
    stage.finish_work();
    stage.use_once(&chat);
    stage.pass(10_000);
    assert!(stage.is_in(&draft, ModelState::Ready), "its own time is over; it stays with its group");
    let other = stage.ask(&model("other", 60));
    stage.finish_work();
    assert!(stage.is_granted(other));
    assert!(stage.is_in(&draft, ModelState::Parked) && stage.is_in(&chat, ModelState::Parked));
}

#[test]
fn a_group_leaves_as_one_and_says_so() {
    let mut stage = Stage::new(|_| ()).without_parking();
    let draft = model("draft", 30);
    let chat = needing("chat", 30, &[&draft]);
    stage.use_once(&chat);
    let begun = stage.decisions(What::Loading);
    assert!(begun.contains(&("chat".to_owned(), Reason::Asked)), "{begun:?}");
    assert!(begun.contains(&("draft".to_owned(), Reason::NeededBy { model: "chat".into() })), "{begun:?}");
    stage.pass(60_000);
    assert!(stage.is_in(&chat, ModelState::Unloading) && stage.is_in(&draft, ModelState::Unloading));
    let expected = Reason::WithGroup { model: "chat".into(), frees_bytes: 30, reload_ms: 2_000 };
    assert!(stage.decisions(What::Evicted).contains(&("draft".to_owned(), expected)));
}

#[test]
fn a_shared_member_stays_for_the_other_group_and_for_users_of_its_own() {
    let mut stage = Stage::new(|_| ());
    let shared = model("shared", 20);
    let (one, two) = (needing("one", 20, &[&shared]), needing("two", 20, &[&shared]));
    stage.use_once(&one);
    stage.pass(30_000);
    stage.use_once(&two);
    stage.pass(30_000);
    stage.finish_work();
    assert!(stage.is_in(&one, ModelState::Parked) && stage.is_in(&shared, ModelState::Ready));
    stage.use_once(&shared);
    stage.pass(30_000);
    stage.finish_work();
    assert!(stage.is_in(&two, ModelState::Parked) && stage.is_in(&shared, ModelState::Ready));
    assert_eq!(stage.loads(), 3);
}

#[test]
fn a_member_that_fails_to_load_is_named_to_those_who_wait_for_the_group() {
    let mut stage = Stage::new(|_| ());
    let draft = model("draft", 30);
    let chat = needing("chat", 30, &[&draft]);
    let ticket = stage.ask(&chat);
    stage.fail_load(&draft);
    let why = stage.refusal(ticket).expect("it is refused").to_string();
    assert_eq!(why, "cannot load draft: the file is damaged");
    let again = stage.ask(&chat);
    assert_eq!(stage.refusal(again).expect("it is remembered").to_string(), why);
    stage.finish_work();
    stage.pass(1_000);
    stage.use_once(&chat);
}

#[test]
fn a_group_that_can_never_fit_is_refused_before_anything_is_loaded() {
    let mut stage = Stage::new(|_| ());
    let ticket = stage.ask(&needing("chat", 60, &[&model("draft", 50)]));
    assert!(matches!(stage.refusal(ticket), Some(Error::TooLarge { needed_bytes: 110, .. })));
    assert_eq!(stage.loads(), 0);
}

#[test]
fn a_member_grows_for_its_group() {
    let mut stage = Stage::new(|_| ());
    let small = model("draft", 10);
    stage.use_once(&small);
    let large = model_with("draft", 20, |spec| spec.options.context_tokens = 4_096);
    stage.use_once(&needing("chat", 30, &[&large]));
    assert_eq!((stage.model(&small).grown, stage.loads()), (1, 2));
}

#[test]
fn a_member_that_died_is_replaced_before_the_group_is_granted_again() {
    let mut stage = Stage::new(|_| ());
    let draft = model("draft", 10);
    let chat = needing("chat", 30, &[&draft]);
    stage.use_once(&chat);
    let member = stage.state.instances.iter().find(|(_, instance)| instance.spec.name == "draft");
    let instance = *member.expect("it is there").0;
    let failure = Failure::new(ErrorKind::EngineFailed, "found dead");
    stage.happen(Event::InstanceDied { instance, failure });
    let ticket = stage.ask(&chat);
    assert!(!stage.is_granted(ticket));
    stage.finish_work();
    stage.pass(1_000);
    stage.finish_work();
    assert!(stage.is_granted(ticket));
    assert_eq!(stage.loads(), 3);
}

#[test]
fn a_pinned_model_keeps_what_it_needs() {
    let mut stage = Stage::new(|_| ());
    let draft = model("draft", 30);
    let chat = needing("chat", 30, &[&draft]);
    stage.pin(&chat);
    stage.use_once(&chat);
    stage.pass(10_000_000);
    let refused = stage.ask(&model("other", 50));
    assert!(matches!(stage.refusal(refused), Some(Error::TooLarge { largest_bytes: 40, .. })));
    assert!(stage.is_in(&draft, ModelState::Ready));
}
