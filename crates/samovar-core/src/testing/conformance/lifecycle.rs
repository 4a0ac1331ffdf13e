//! Loading, parking, measuring and going away.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use super::subject::{Subject, ask, collect, greedy, prompt, refusal, start, try_ask, within_limit};
use crate::error::ErrorKind;
use crate::footprint::LoadOptions;
use crate::generation::{GenerationRequest, TokenEvent};
use crate::port::LoadControl;

/// The engine runs the model, and all keys of what it makes name it: what another made cannot be taken for its own.
pub fn what_it_makes_is_known_by_its_name(subject: &Subject) {
    let engine = subject.engine.engine_for(&subject.descriptor).unwrap();
    assert!(subject.engine.engines().contains(&engine), "{engine:?}");
    assert!(engine.formats.contains(&subject.descriptor.format), "{engine:?}");
    assert!(!engine.id.as_str().is_empty() && engine.name.starts_with(engine.id.as_str()), "{engine:?}");
    if let Some(key) = subject.engine.packing(&subject.descriptor) {
        assert!(key.starts_with(engine.id.as_str()), "{key} is not of {}", engine.id);
        assert!(subject.engine.packing_footprint(&subject.descriptor).unwrap().total_bytes() > 0);
    }
}

/// Progress goes from 0 to 1 and never back.
pub fn loading_reports_rising_progress(subject: &Subject) {
    let reported = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&reported);
    let control = LoadControl::new(move |fraction| sink.lock().unwrap().push(fraction));
    subject.engine.load(subject.request(&control)).unwrap();
    let reported = reported.lock().unwrap();
    assert!(reported.iter().all(|fraction| (0.0..=1.0).contains(fraction)), "{reported:?}");
    assert!(reported.is_sorted(), "{reported:?}");
}

/// A load that was cancelled says so, or was quicker.
pub fn a_cancelled_load_is_cancelled_or_complete(subject: &Subject) {
    let control = LoadControl::silent();
    control.cancel_flag().store(true, Ordering::Relaxed);
    match subject.engine.load(subject.request(&control)) {
        Ok(instance) => instance.probe().unwrap(),
        Err(failure) => assert_eq!(failure.kind, ErrorKind::Cancelled, "{failure:?}"),
    }
    subject.load().probe().unwrap();
}

/// A parked instance holds less, refuses requests, and answers as before once it is resumed.
pub fn parking_keeps_the_answer(subject: &Subject) {
    if !subject.capabilities().can_park {
        return;
    }
    let instance = subject.load();
    let request = greedy(prompt(&instance, 80, 0), 16);
    let before = ask(&instance, request.clone());
    let held = instance.measure().held_bytes;
    for round in 0..3 {
        instance.park().unwrap();
        instance.park().unwrap();
        let parked = instance.measure().held_bytes;
        assert!(parked < held, "round {round}: {parked} bytes held when parked, {held} before");
        let refused = refusal(&instance, request.clone());
        assert_eq!(refused.kind, ErrorKind::Unavailable, "{refused:?}");
        instance.resume(&subject.options).unwrap();
        instance.resume(&subject.options).unwrap();
        let after = ask(&instance, request.clone());
        assert_eq!(after.text, before.text, "round {round}");
    }
}

/// A parked instance comes back with more room or with less, and the answers that fit are the same.
pub fn resuming_with_another_context_keeps_the_answer(subject: &Subject) {
    if !subject.capabilities().can_park {
        return;
    }
    let instance = subject.load();
    let old = subject.options.context_tokens;
    let short = greedy(prompt(&instance, 80, 8), 16);
    let long = greedy(prompt(&instance, old as usize + old as usize / 2, 8), 4);
    let before = ask(&instance, short.clone());
    for (context_tokens, slots) in [(old * 2, subject.options.slots), (old / 2, 1), (old, 3), (old * 2, 1)] {
        let options = LoadOptions { context_tokens, slots, ..subject.options.clone() };
        instance.park().unwrap();
        instance.resume(&options).unwrap();
        let total = instance.measure().kv_total_tokens;
        assert!(total >= context_tokens * slots, "{total} tokens of KV cache for {options:?}");
        subject.assert_same(&format!("{options:?}"), &before, &ask(&instance, short.clone()));
        match try_ask(&instance, long.clone()) {
            Ok(answer) => {
                assert!(context_tokens > old, "{options:?} took a longer prompt");
                assert_eq!(answer.completion.usage.completion_tokens, 4);
            }
            Err(failure) => {
                assert!(context_tokens <= old, "{options:?}: {failure:?}");
                assert_eq!(failure.kind, ErrorKind::ContextExceeded, "{failure:?}");
            }
        }
        let running: Vec<_> = (0..=slots).map(|_| start(&instance, short.clone())).collect();
        for generation in running {
            subject.assert_same(&format!("{options:?}"), &before, &collect(generation));
        }
    }
}

/// Answers of an instance that goes away end; they do not hang.
pub fn dropping_the_instance_ends_its_answers(subject: &Subject) {
    let instance = subject.load();
    let request = GenerationRequest { max_tokens: None, ..greedy(prompt(&instance, 20, 0), 0) };
    let mut running: Vec<_> =
        (0..=subject.options.slots).map(|_| start(&instance, request.clone())).collect();
    within_limit("end of the instance", move || drop(instance));
    for generation in &mut running {
        let mut last = None;
        while let Some(event) = generation.blocking_next() {
            last = Some(event);
        }
        assert!(
            !matches!(last, Some(TokenEvent::Failed(ref failure)) if failure.kind == ErrorKind::Internal)
        );
    }
}

/// The instance is alive and says what it uses.
pub fn probing_and_measuring_work(subject: &Subject) {
    let instance = subject.load();
    instance.probe().unwrap();
    let idle = instance.measure();
    assert_eq!(idle.busy_slots, 0);
    assert!(idle.kv_total_tokens >= subject.options.context_tokens, "{idle:?}");
    assert!(idle.kv_used_tokens <= idle.kv_total_tokens, "{idle:?}");
    let predicted = subject.engine.footprint(&subject.descriptor, &subject.options).unwrap();
    assert!(predicted.total_bytes() > 0, "{predicted:?}");
    ask(&instance, greedy(prompt(&instance, 100, 0), 4));
    instance.probe().unwrap();
    let used = instance.measure();
    assert!(used.kv_used_tokens <= used.kv_total_tokens, "{used:?}");
}
