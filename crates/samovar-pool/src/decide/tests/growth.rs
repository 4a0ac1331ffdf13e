//! Larger wishes make an instance grow; nothing is loaded anew, and clients with different wishes never thrash.

use super::*;

fn with_context(context_tokens: u32) -> Arc<ModelSpec> {
    let held_bytes = u64::from(context_tokens) / 256;
    model_with("a", held_bytes, |spec| spec.options.context_tokens = context_tokens)
}

/// A model without a KV cache to speak of, so that merged wishes cost what the larger one costs.
fn with_slots(slots: u32, context_tokens: u32) -> Arc<ModelSpec> {
    model_with("a", 10, |spec| {
        spec.descriptor = Arc::new(samovar_core::Descriptor { blocks: 0, ..(*spec.descriptor).clone() });
        spec.options.slots = slots;
        spec.options.context_tokens = context_tokens;
    })
}

impl Harness {
    fn count(&self, is_it: fn(&Effect) -> bool) -> usize {
        self.effects.iter().filter(|effect| is_it(effect)).count()
    }

    /// Parks, resumes and unloads asked for.
    fn moves(&self) -> (usize, usize, usize) {
        (
            self.count(|effect| matches!(effect, Effect::Park { .. })),
            self.count(|effect| matches!(effect, Effect::Resume { .. })),
            self.count(|effect| matches!(effect, Effect::Unload { .. })),
        )
    }
}

#[test]
fn two_clients_with_different_contexts_never_thrash() {
    let mut harness = Harness::new(|_| ());
    let (short, long) = (with_context(2_048), with_context(8_192));
    for _ in 0..50 {
        harness.use_once(&short);
        harness.use_once(&long);
    }
    assert_eq!((harness.loads(), harness.moves()), (1, (1, 1, 0)));
    let stats = harness.model(&short);
    assert_eq!((stats.grown, stats.parked, stats.resumed, stats.evictions), (1, 0, 0, 0));
    assert_eq!((stats.held_bytes, stats.options.expect("it is there").context_tokens), (32, 8_192));
    let expected = Reason::Outgrown { context_tokens: 8_192, slots: 1 };
    assert_eq!(harness.decisions(What::Growing), [("a".to_owned(), expected)]);
}

#[test]
fn incomparable_wishes_are_merged_where_both_fit_together() {
    let mut harness = Harness::new(|_| ());
    let (wide, long) = (with_slots(4, 512), with_slots(1, 4_096));
    for _ in 0..10 {
        harness.use_once(&wide);
        harness.use_once(&long);
    }
    assert_eq!((harness.loads(), harness.moves()), (1, (1, 1, 0)));
    let options = harness.model(&wide).options.expect("it is there");
    assert_eq!((options.slots, options.context_tokens), (4, 4_096));
}

#[test]
fn a_growing_instance_drains_first_and_grants_nothing_new() {
    let mut harness = Harness::new(|_| ());
    let lease = harness.ask(&with_slots(2, 512));
    harness.finish_work();
    let large = harness.ask(&with_slots(2, 4_096));
    let small = harness.ask(&with_slots(2, 512));
    assert_eq!(harness.moves(), (0, 0, 0), "a lease is out");
    assert!(!harness.is_granted(small), "the instance is closed");
    harness.release(lease);
    assert_eq!(harness.moves(), (1, 0, 0));
    harness.finish_work();
    assert!(harness.is_granted(large) && harness.is_granted(small));
}

#[test]
fn the_larger_footprint_is_reserved_before_anything_is_done() {
    let mut harness = Harness::new(|_| ());
    let other = model("other", 80);
    let lease = harness.ask(&with_context(2_048));
    harness.finish_work();
    harness.use_once(&other);
    let large = harness.ask(&with_context(8_192));
    assert!(harness.is_in(&other, ModelState::Parking), "32 - 8 bytes are needed, 12 are free");
    assert_eq!(harness.state.ledger.reserved().on_host(), 0);
    assert!(harness.is_in(&with_context(2_048), ModelState::Busy));
    let small = harness.ask(&with_context(2_048));
    harness.finish_work();
    assert_eq!(harness.state.ledger.reserved().on_host(), 32, "it is promised while the last lease is out");
    harness.release(lease);
    harness.finish_work();
    assert!(harness.is_granted(large));
    harness.release(large);
    assert!(harness.is_granted(small));
    assert_eq!(harness.state.ledger.used().on_host(), 32);
}

#[test]
fn while_memory_is_waited_for_small_requests_are_served() {
    let mut harness = Harness::new(|_| ());
    let busy = harness.ask(&model("busy", 85));
    harness.finish_work();
    harness.use_once(&with_slots(1, 512));
    let large = model_with("a", 30, |spec| spec.options = with_slots(1, 4_096).options.clone());
    let of_large = harness.ask(&large);
    let of_small = harness.ask(&with_slots(1, 512));
    assert!(!harness.is_granted(of_large) && harness.is_granted(of_small));
    harness.release(of_small);
    harness.pass(60_000);
    harness.release(busy);
    harness.finish_work();
    assert!(harness.is_granted(of_large));
}

#[test]
fn what_can_never_fit_is_refused_and_the_instance_serves_on() {
    let mut harness = Harness::new(|_| ());
    harness.use_once(&with_context(2_048));
    let refused = harness.ask(&with_context(65_536));
    assert!(matches!(harness.refusal(refused), Some(Error::TooLarge { needed_bytes: 256, .. })));
    harness.use_once(&with_context(2_048));
    assert_eq!(harness.moves(), (0, 0, 0));
}

#[test]
fn an_instance_that_can_not_grow_serves_on_and_is_not_tried_again_for_a_minute() {
    let mut harness = Harness::new(|_| ());
    let (small, large) = (with_context(2_048), with_context(8_192));
    harness.use_once(&small);
    let refused = harness.ask(&large);
    let instance = InstanceId(1);
    harness.happen(Event::Parked { instance, left: Bytes::NONE });
    let failure = Failure::new(ErrorKind::EngineFailed, "no memory");
    harness.happen(Event::ResumeFailed { instance, failure });
    let Some(Error::LoadFailed { failure, retry_after_ms: 60_000, .. }) = harness.refusal(refused) else {
        panic!("{:?}", harness.refusal(refused))
    };
    assert_eq!(failure.message, "a context of 8192 tokens could not be had: no memory");
    harness.finish_work();
    harness.use_once(&small);
    assert_eq!((harness.loads(), harness.state.ledger.used().on_host()), (1, 8));
    let again = harness.ask(&large);
    assert!(harness.refusal(again).is_some());
    assert_eq!(harness.moves(), (1, 2, 0));
    harness.pass(60_000);
    harness.use_once(&large);
    assert_eq!((harness.loads(), harness.moves()), (1, (2, 3, 0)));
}

#[test]
fn a_parked_instance_resumes_with_what_is_wanted() {
    let mut harness = Harness::new(|_| ());
    harness.use_once(&with_context(2_048));
    harness.use_once(&model("other", 95));
    harness.finish_work();
    assert!(harness.is_in(&with_context(2_048), ModelState::Parked));
    harness.use_once(&with_context(8_192));
    let resumed = harness.effects.iter().find_map(|effect| match effect {
        Effect::Resume { model, reservation, .. } => {
            Some((model.options.context_tokens, reservation.private.on_host()))
        }
        _ => None,
    });
    assert_eq!(resumed, Some((8_192, 32)));
    assert_eq!(harness.loads(), 2);
}

#[test]
fn a_parked_instance_whose_larger_resume_fails_is_resumed_as_it_was() {
    let mut harness = Harness::new(|_| ());
    let (small, large) = (with_context(2_048), with_context(8_192));
    harness.use_once(&small);
    harness.use_once(&model("other", 95));
    harness.finish_work();
    let refused = harness.ask(&large);
    harness.happen(Event::Parked { instance: InstanceId(2), left: Bytes::NONE });
    let failure = Failure::new(ErrorKind::EngineFailed, "no memory");
    harness.happen(Event::ResumeFailed { instance: InstanceId(1), failure });
    assert!(matches!(harness.refusal(refused), Some(Error::LoadFailed { .. })));
    assert!(harness.is_in(&small, ModelState::Parked));
    harness.use_once(&small);
    assert_eq!(harness.loads(), 2);
}

#[test]
fn who_goes_takes_the_wish_along() {
    let mut harness = Harness::new(|_| ());
    let small = with_slots(2, 512);
    let lease = harness.ask(&small);
    harness.finish_work();
    let large = harness.ask(&with_slots(2, 4_096));
    let waits = harness.ask(&small);
    assert!(!harness.is_granted(waits));
    harness.happen(Event::Cancel { ticket: large });
    assert!(harness.is_granted(waits), "the instance is open again");
    harness.release(lease);
    harness.release(waits);
    assert_eq!((harness.moves(), harness.state.ledger.used().on_host()), ((0, 0, 0), 10));
}

#[test]
fn an_engine_that_can_not_park_loads_anew() {
    let mut harness = Harness::new(|_| ()).without_parking();
    harness.use_once(&with_context(2_048));
    harness.use_once(&with_context(8_192));
    harness.use_once(&with_context(2_048));
    assert_eq!((harness.loads(), harness.moves()), (2, (0, 0, 1)));
}

#[test]
fn a_pinned_model_grows_too() {
    let mut harness = Harness::new(|_| ());
    harness.pin(&with_context(2_048));
    harness.use_once(&with_context(2_048));
    harness.use_once(&with_context(8_192));
    assert!(harness.is_in(&with_context(2_048), ModelState::Ready));
    assert_eq!((harness.loads(), harness.model(&with_context(2_048)).grown), (1, 1));
}

#[test]
fn told_to_unload_while_it_grows_it_leaves() {
    let mut harness = Harness::new(|_| ());
    let small = with_context(2_048);
    harness.use_once(&small);
    let large = harness.ask(&with_context(8_192));
    assert_eq!(harness.moves(), (1, 0, 0));
    harness.happen(Event::Cancel { ticket: large });
    let ticket = harness.ticket();
    harness.happen(Event::Unload { ticket, name: "a".into() });
    harness.finish_work();
    assert!(harness.is_in(&small, ModelState::Absent));
    assert_eq!((harness.state.ledger.used().on_host(), harness.moves()), (0, (1, 0, 1)));
}

#[test]
fn a_parked_one_that_holds_too_much_for_a_smaller_wish_is_loaded_anew() {
    let mut harness = Harness::new(|_| ());
    let large = model_with("a", 20, |spec| {
        spec.options.context_tokens = 1_024;
        map(spec, 30);
        spec.keep_alive = KeepAlive::ParkAtOnce;
    });
    let small = model_with("a", 10, |spec| map(spec, 30));
    let lease = harness.ask(&large);
    harness.finish_work();
    harness.release(lease);
    harness.happen(Event::Parked { instance: InstanceId(1), left: Bytes::host(20) });
    let pinned = model("pinned", 60);
    harness.pin(&pinned);
    harness.use_once(&pinned);
    let ticket = harness.ask(&small);
    harness.finish_work();
    assert!(harness.is_granted(ticket), "40 are left, and 20 + 30 would not fit");
}

#[test]
fn slots_that_nobody_fixed_are_a_wish_and_bring_no_turns() {
    let mut harness = Harness::new(|_| ());
    let of = |slots: u32, context_tokens: u32| {
        model_with("a", 10, |spec| {
            (spec.options.slots, spec.options.context_tokens) = (slots, context_tokens);
            spec.has_fixed_slots = false;
        })
    };
    // Four slots with the longer context would not fit.
    let (usual, long) = (of(4, 512), of(1, 1_024));
    for _ in 0..10 {
        harness.use_once(&usual);
        harness.use_once(&long);
    }
    assert_eq!((harness.loads(), harness.moves()), (1, (1, 1, 0)));
    let options = harness.model(&usual).options.expect("it is there");
    assert_eq!((options.slots, options.context_tokens), (1, 1_024));
}

#[test]
fn a_model_that_died_comes_back_with_its_usual_context_whatever_requests_asked_for() {
    let mut harness = Harness::new(|_| ());
    let usual = with_context(2_048);
    let asking_for = |context_tokens: u32| {
        Arc::new(ModelSpec { usual: Some(Arc::clone(&usual)), ..(*with_context(context_tokens)).clone() })
    };
    harness.pin(&usual);
    harness.use_once(&usual);
    harness.use_once(&asking_for(8_192));
    assert_eq!(harness.model(&usual).options.expect("it is there").context_tokens, 8_192);
    let refused = harness.ask(&asking_for(65_536));
    assert!(matches!(harness.refusal(refused), Some(Error::TooLarge { .. })));
    let failure = Failure::new(ErrorKind::EngineFailed, "killed by signal 11");
    harness.happen(Event::InstanceDied { instance: InstanceId(1), failure });
    harness.finish_work();
    assert_eq!(harness.loads(), 2);
    assert_eq!(harness.model(&usual).options.expect("it is back").context_tokens, 2_048);
}
