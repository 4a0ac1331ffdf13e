//! Models that need others: placed, leased and evicted as one.

use super::*;

/// A model that needs others beside it.
fn needing(name: &str, held_bytes: u64, needs: &[&Arc<ModelSpec>]) -> Arc<ModelSpec> {
    model_with(name, held_bytes, |spec| {
        spec.needs = needs.iter().map(|need| Arc::clone(need)).collect();
        spec.keep_alive = KeepAlive::Ms(60_000);
    })
}

impl Harness {
    fn fail_load(&mut self, spec: &ModelSpec) {
        let loading = self.state.instances.iter().find(|(_, instance)| instance.spec.key == spec.key);
        let instance = *loading.expect("it is loading").0;
        let failure = Failure::new(ErrorKind::InvalidModel, "the file is damaged");
        self.happen(Event::LoadFailed { instance, failure });
    }
}

#[test]
fn a_model_is_granted_when_it_and_all_that_it_needs_are_ready() {
    let mut harness = Harness::new(|_| ());
    let draft = model("draft", 10);
    let helper = needing("helper", 10, &[&draft]);
    let chat = needing("chat", 40, &[&helper]);
    let ticket = harness.ask(&chat);
    assert_eq!(
        (harness.loads(), harness.state.ledger.reserved().on_host()),
        (3, 60),
        "needs of needs as well"
    );
    for _ in 0..3 {
        assert!(!harness.is_granted(ticket));
        let event = harness.next_outcome().expect("something is loading");
        harness.happen(event);
    }
    assert!(harness.is_granted(ticket));
    assert!(harness.is_in(&draft, ModelState::Busy) && harness.is_in(&helper, ModelState::Busy));
    assert_eq!(harness.model(&chat).needs, ["helper", "draft"]);
    harness.release(ticket);
    assert!(harness.is_in(&draft, ModelState::Ready));
}

#[test]
fn a_group_is_reserved_whole_or_not_at_all() {
    let mut harness = Harness::new(|_| ());
    let busy = harness.ask(&model("busy", 60));
    harness.finish_work();
    let (draft, loads) = (model("draft", 20), harness.loads());
    let ticket = harness.ask(&needing("chat", 40, &[&draft]));
    assert_eq!(
        (harness.loads(), harness.state.ledger.used().on_host()),
        (loads, 60),
        "40 are free, 60 are needed"
    );
    harness.pass(60_000);
    harness.release(busy);
    harness.finish_work();
    assert!(harness.is_granted(ticket));
}

#[test]
fn two_groups_that_do_not_fit_together_take_turns() {
    let mut harness = Harness::new(|_| ());
    let (a, b) = (model("a", 30), model("b", 30));
    let (first, second) = (needing("first", 30, &[&a]), needing("second", 30, &[&b]));
    let (one, two) = (harness.ask(&first), harness.ask(&second));
    harness.finish_work();
    assert!(harness.is_granted(one) && !harness.is_granted(two));
    harness.pass(60_000);
    harness.release(one);
    harness.finish_work();
    assert!(harness.is_granted(two));
    assert!(harness.is_in(&first, ModelState::Parked) && harness.is_in(&a, ModelState::Parked));
}

#[test]
fn a_member_is_left_alone_while_its_group_is_in_use_or_in_memory() {
    let mut harness = Harness::new(|_| ());
    let draft = model_with("draft", 30, |spec| spec.keep_alive = KeepAlive::Ms(1));
    let chat = needing("chat", 30, &[&draft]);
    let lease = harness.ask(&chat);
    harness.finish_work();
    let ticket = harness.ticket();
    harness.happen(Event::Unload { ticket, name: "draft".into() });
    assert!(harness.is_in(&draft, ModelState::Draining), "a lease needs it");
    harness.release(lease);
    harness.finish_work();
    harness.use_once(&chat);
    harness.pass(10_000);
    assert!(harness.is_in(&draft, ModelState::Ready), "its own time is over; it stays with its group");
    let other = harness.ask(&model("other", 60));
    harness.finish_work();
    assert!(harness.is_granted(other));
    assert!(harness.is_in(&draft, ModelState::Parked) && harness.is_in(&chat, ModelState::Parked));
}

#[test]
fn a_group_leaves_as_one_and_says_so() {
    let mut harness = Harness::new(|_| ()).without_parking();
    let draft = model("draft", 30);
    let chat = needing("chat", 30, &[&draft]);
    harness.use_once(&chat);
    let begun = harness.decisions(What::Loading);
    assert!(begun.contains(&("chat".to_owned(), Reason::Asked)), "{begun:?}");
    assert!(begun.contains(&("draft".to_owned(), Reason::NeededBy { model: "chat".into() })), "{begun:?}");
    harness.pass(60_000);
    assert!(harness.is_in(&chat, ModelState::Unloading) && harness.is_in(&draft, ModelState::Unloading));
    let expected = Reason::WithGroup { model: "chat".into(), frees_bytes: 30, reload_ms: 2_000 };
    assert!(harness.decisions(What::Evicted).contains(&("draft".to_owned(), expected)));
}

#[test]
fn a_shared_member_stays_for_the_other_group_and_for_users_of_its_own() {
    let mut harness = Harness::new(|_| ());
    let shared = model("shared", 20);
    let (one, two) = (needing("one", 20, &[&shared]), needing("two", 20, &[&shared]));
    harness.use_once(&one);
    harness.pass(30_000);
    harness.use_once(&two);
    harness.pass(30_000);
    harness.finish_work();
    assert!(harness.is_in(&one, ModelState::Parked) && harness.is_in(&shared, ModelState::Ready));
    harness.use_once(&shared);
    harness.pass(30_000);
    harness.finish_work();
    assert!(harness.is_in(&two, ModelState::Parked) && harness.is_in(&shared, ModelState::Ready));
    assert_eq!(harness.loads(), 3);
}

#[test]
fn a_member_that_fails_to_load_is_named_to_those_who_wait_for_the_group() {
    let mut harness = Harness::new(|_| ());
    let draft = model("draft", 30);
    let chat = needing("chat", 30, &[&draft]);
    let ticket = harness.ask(&chat);
    harness.fail_load(&draft);
    let why = harness.refusal(ticket).expect("it is refused").to_string();
    assert_eq!(why, "cannot load draft: the file is damaged");
    let again = harness.ask(&chat);
    assert_eq!(harness.refusal(again).expect("it is remembered").to_string(), why);
    harness.finish_work();
    harness.pass(1_000);
    harness.use_once(&chat);
}

#[test]
fn a_group_that_can_never_fit_is_refused_before_anything_is_loaded() {
    let mut harness = Harness::new(|_| ());
    let ticket = harness.ask(&needing("chat", 60, &[&model("draft", 50)]));
    assert!(matches!(harness.refusal(ticket), Some(Error::TooLarge { needed_bytes: 110, .. })));
    assert_eq!(harness.loads(), 0);
}

#[test]
fn a_member_grows_for_its_group() {
    let mut harness = Harness::new(|_| ());
    let small = model("draft", 10);
    harness.use_once(&small);
    let large = model_with("draft", 20, |spec| spec.options.context_tokens = 4_096);
    harness.use_once(&needing("chat", 30, &[&large]));
    assert_eq!((harness.model(&small).grown, harness.loads()), (1, 2));
}

#[test]
fn a_member_that_died_is_replaced_before_the_group_is_granted_again() {
    let mut harness = Harness::new(|_| ());
    let draft = model("draft", 10);
    let chat = needing("chat", 30, &[&draft]);
    harness.use_once(&chat);
    let member = harness.state.instances.iter().find(|(_, instance)| instance.spec.name == "draft");
    let instance = *member.expect("it is there").0;
    let failure = Failure::new(ErrorKind::EngineFailed, "found dead");
    harness.happen(Event::InstanceDied { instance, failure });
    let ticket = harness.ask(&chat);
    assert!(!harness.is_granted(ticket));
    harness.finish_work();
    harness.pass(1_000);
    harness.finish_work();
    assert!(harness.is_granted(ticket));
    assert_eq!(harness.loads(), 3);
}

#[test]
fn a_pinned_model_keeps_what_it_needs() {
    let mut harness = Harness::new(|_| ());
    let draft = model("draft", 30);
    let chat = needing("chat", 30, &[&draft]);
    harness.pin(&chat);
    harness.use_once(&chat);
    harness.pass(10_000_000);
    let refused = harness.ask(&model("other", 50));
    assert!(matches!(harness.refusal(refused), Some(Error::TooLarge { largest_bytes: 40, .. })));
    assert!(harness.is_in(&draft, ModelState::Ready));
    let of_draft = harness.model(&draft);
    assert!(of_draft.must_stay && !of_draft.is_pinned, "the draft itself is not pinned");
}

#[test]
fn a_need_that_was_let_pass_is_taken_in_once_it_does_not_need_the_model() {
    let mut harness = Harness::new(|_| ());
    let (one, two, helper) = (model("one", 10), model("two", 10), model("helper", 10));
    let one_needs_two = needing("one", 10, &[&two]);
    let two_needs_both = needing("two", 10, &[&one, &helper]);
    harness.use_once(&one_needs_two);
    harness.use_once(&two_needs_both);
    assert_eq!(harness.model(&two).needs, ["helper"], "one needs two");
    harness.use_once(&two);
    assert!(harness.model(&two).needs.is_empty());
    harness.use_once(&two_needs_both);
    assert_eq!(harness.model(&two).needs, ["helper"]);
    harness.use_once(&one);
    harness.use_once(&two_needs_both);
    assert_eq!(harness.model(&two).needs, ["one", "helper"]);
}
