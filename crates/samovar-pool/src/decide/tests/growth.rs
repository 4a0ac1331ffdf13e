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

impl Stage {
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
    let mut stage = Stage::new(|_| ());
    let (short, long) = (with_context(2_048), with_context(8_192));
    for _ in 0..50 {
        stage.use_once(&short);
        stage.use_once(&long);
    }
    assert_eq!((stage.loads(), stage.moves()), (1, (1, 1, 0)));
    let stats = stage.model(&short);
    assert_eq!((stats.grown, stats.parked, stats.resumed, stats.evictions), (1, 0, 0, 0));
    assert_eq!((stats.held_bytes, stats.options.expect("it is there").context_tokens), (32, 8_192));
    let expected = Reason::Outgrown { context_tokens: 8_192, slots: 1 };
    assert_eq!(stage.decisions(What::Growing), [("a".to_owned(), expected)]);
}

#[test]
fn incomparable_wishes_are_merged_where_both_fit_together() {
    let mut stage = Stage::new(|_| ());
    let (wide, long) = (with_slots(4, 512), with_slots(1, 4_096));
    for _ in 0..10 {
        stage.use_once(&wide);
        stage.use_once(&long);
    }
    assert_eq!((stage.loads(), stage.moves()), (1, (1, 1, 0)));
    let options = stage.model(&wide).options.expect("it is there");
    assert_eq!((options.slots, options.context_tokens), (4, 4_096));
}

#[test]
fn a_growing_instance_drains_first_and_grants_nothing_new() {
    let mut stage = Stage::new(|_| ());
    let lease = stage.ask(&with_slots(2, 512));
    stage.finish_work();
    let large = stage.ask(&with_slots(2, 4_096));
    let small = stage.ask(&with_slots(2, 512));
    assert_eq!(stage.moves(), (0, 0, 0), "a lease is out");
    assert!(!stage.is_granted(small), "the instance is closed");
    stage.release(lease);
    assert_eq!(stage.moves(), (1, 0, 0));
    stage.finish_work();
    assert!(stage.is_granted(large) && stage.is_granted(small));
}

#[test]
fn the_larger_footprint_is_reserved_before_anything_is_done() {
    let mut stage = Stage::new(|_| ());
    let other = model("other", 80);
    let lease = stage.ask(&with_context(2_048));
    stage.finish_work();
    stage.use_once(&other);
    let large = stage.ask(&with_context(8_192));
    assert!(stage.is_in(&other, ModelState::Parking), "32 - 8 bytes are needed, 12 are free");
    assert_eq!(stage.state.ledger.reserved(), 0);
    assert!(stage.is_in(&with_context(2_048), ModelState::Busy));
    let small = stage.ask(&with_context(2_048));
    stage.finish_work();
    assert_eq!(stage.state.ledger.reserved(), 32, "it is promised while the last lease is out");
    stage.release(lease);
    stage.finish_work();
    assert!(stage.is_granted(large));
    stage.release(large);
    assert!(stage.is_granted(small));
    assert_eq!(stage.state.ledger.used(), 32);
}

#[test]
fn while_memory_is_waited_for_small_requests_are_served() {
    let mut stage = Stage::new(|_| ());
    let busy = stage.ask(&model("busy", 85));
    stage.finish_work();
    stage.use_once(&with_slots(1, 512));
    let large = model_with("a", 30, |spec| spec.options = with_slots(1, 4_096).options.clone());
    let of_large = stage.ask(&large);
    let of_small = stage.ask(&with_slots(1, 512));
    assert!(!stage.is_granted(of_large) && stage.is_granted(of_small));
    stage.release(of_small);
    stage.pass(60_000);
    stage.release(busy);
    stage.finish_work();
    assert!(stage.is_granted(of_large));
}

#[test]
fn what_can_never_fit_is_refused_and_the_instance_serves_on() {
    let mut stage = Stage::new(|_| ());
    stage.use_once(&with_context(2_048));
    let refused = stage.ask(&with_context(65_536));
    assert!(matches!(stage.refusal(refused), Some(Error::TooLarge { needed_bytes: 256, .. })));
    stage.use_once(&with_context(2_048));
    assert_eq!(stage.moves(), (0, 0, 0));
}

#[test]
fn an_instance_that_can_not_grow_serves_on_and_is_not_tried_again_for_a_minute() {
    let mut stage = Stage::new(|_| ());
    let (small, large) = (with_context(2_048), with_context(8_192));
    stage.use_once(&small);
    let refused = stage.ask(&large);
    let instance = InstanceId(1);
    let measured = Measurement::default();
    stage.happen(Event::Parked { instance, measured });
    let failure = Failure::new(ErrorKind::EngineFailed, "no memory");
    stage.happen(Event::ResumeFailed { instance, failure });
    let Some(Error::LoadFailed { failure, retry_after_ms: 60_000, .. }) = stage.refusal(refused) else {
        panic!("{:?}", stage.refusal(refused))
    };
    assert_eq!(failure.message, "a context of 8192 tokens could not be had: no memory");
    stage.finish_work();
    stage.use_once(&small);
    assert_eq!((stage.loads(), stage.state.ledger.used()), (1, 8));
    let again = stage.ask(&large);
    assert!(stage.refusal(again).is_some());
    assert_eq!(stage.moves(), (1, 2, 0));
    stage.pass(60_000);
    stage.use_once(&large);
    assert_eq!((stage.loads(), stage.moves()), (1, (2, 3, 0)));
}

#[test]
fn a_parked_instance_resumes_with_what_is_wanted() {
    let mut stage = Stage::new(|_| ());
    stage.use_once(&with_context(2_048));
    stage.use_once(&model("other", 95));
    stage.finish_work();
    assert!(stage.is_in(&with_context(2_048), ModelState::Parked));
    stage.use_once(&with_context(8_192));
    let resumed = stage.effects.iter().find_map(|effect| match effect {
        Effect::Resume { options, reservation, .. } => Some((options.context_tokens, reservation.held_bytes)),
        _ => None,
    });
    assert_eq!(resumed, Some((8_192, 32)));
    assert_eq!(stage.loads(), 2);
}

#[test]
fn a_parked_instance_whose_larger_resume_fails_is_resumed_as_it_was() {
    let mut stage = Stage::new(|_| ());
    let (small, large) = (with_context(2_048), with_context(8_192));
    stage.use_once(&small);
    stage.use_once(&model("other", 95));
    stage.finish_work();
    let refused = stage.ask(&large);
    stage.happen(Event::Parked { instance: InstanceId(2), measured: Measurement::default() });
    let failure = Failure::new(ErrorKind::EngineFailed, "no memory");
    stage.happen(Event::ResumeFailed { instance: InstanceId(1), failure });
    assert!(matches!(stage.refusal(refused), Some(Error::LoadFailed { .. })));
    assert!(stage.is_in(&small, ModelState::Parked));
    stage.use_once(&small);
    assert_eq!(stage.loads(), 2);
}

#[test]
fn who_goes_takes_the_wish_along() {
    let mut stage = Stage::new(|_| ());
    let small = with_slots(2, 512);
    let lease = stage.ask(&small);
    stage.finish_work();
    let large = stage.ask(&with_slots(2, 4_096));
    let waits = stage.ask(&small);
    assert!(!stage.is_granted(waits));
    stage.happen(Event::Cancel { ticket: large });
    assert!(stage.is_granted(waits), "the instance is open again");
    stage.release(lease);
    stage.release(waits);
    assert_eq!((stage.moves(), stage.state.ledger.used()), ((0, 0, 0), 10));
}

#[test]
fn an_engine_that_can_not_park_loads_anew() {
    let mut stage = Stage::new(|_| ()).without_parking();
    stage.use_once(&with_context(2_048));
    stage.use_once(&with_context(8_192));
    stage.use_once(&with_context(2_048));
    assert_eq!((stage.loads(), stage.moves()), (2, (0, 0, 1)));
}

#[test]
fn a_pinned_model_grows_too() {
    let mut stage = Stage::new(|_| ());
    stage.pin(&with_context(2_048));
    stage.use_once(&with_context(2_048));
    stage.use_once(&with_context(8_192));
    assert!(stage.is_in(&with_context(2_048), ModelState::Ready));
    assert_eq!((stage.loads(), stage.model(&with_context(2_048)).grown), (1, 1));
}

#[test]
fn told_to_unload_while_it_grows_it_leaves() {
    let mut stage = Stage::new(|_| ());
    let small = with_context(2_048);
    stage.use_once(&small);
    let large = stage.ask(&with_context(8_192));
    assert_eq!(stage.moves(), (1, 0, 0));
    stage.happen(Event::Cancel { ticket: large });
    let ticket = stage.ticket();
    stage.happen(Event::Unload { ticket, name: "a".into() });
    stage.finish_work();
    assert!(stage.is_in(&small, ModelState::Absent));
    assert_eq!((stage.state.ledger.used(), stage.moves()), (0, (1, 0, 1)));
}

#[test]
fn a_parked_one_that_holds_too_much_for_a_smaller_wish_is_loaded_anew() {
    let mut stage = Stage::new(|_| ());
    let large = model_with("a", 20, |spec| {
        spec.options.context_tokens = 1_024;
        spec.footprint.mapped_bytes = 30;
        spec.keep_alive = KeepAlive::ParkAtOnce;
    });
    let small = model_with("a", 10, |spec| spec.footprint.mapped_bytes = 30);
    let lease = stage.ask(&large);
    stage.finish_work();
    stage.release(lease);
    let measured = Measurement { held_bytes: 20, ..Measurement::default() };
    stage.happen(Event::Parked { instance: InstanceId(1), measured });
    let pinned = model("pinned", 60);
    stage.pin(&pinned);
    stage.use_once(&pinned);
    let ticket = stage.ask(&small);
    stage.finish_work();
    assert!(stage.is_granted(ticket), "40 are left, and 20 + 30 would not fit");
}
