//! A worker that no longer gets on: it is noticed, ended, and what it had said until then is kept.

use std::time::{Duration, Instant};

use rustix::process::{Signal, kill_process};
use samovar_core::TokenEvent;
use samovar_core::port::Unconfined;
use samovar_worker::Timeouts;

use crate::stand::{
    LIMIT, assert_died_of, broken, child_named, engine_with_timeouts, events, load, long_request, vectors,
};

/// Short limits, none shorter than a busy machine may take for a heartbeat.
fn short() -> Timeouts {
    Timeouts {
        heartbeat: Duration::from_millis(20),
        silence: Duration::from_millis(1500),
        standstill: Duration::from_millis(1500),
        step: Duration::from_secs(3),
        leave: Duration::from_millis(200),
        grace: Duration::from_millis(200),
        ..Timeouts::default()
    }
}

fn long() -> Timeouts {
    Timeouts { silence: LIMIT, standstill: LIMIT, step: LIMIT, ..short() }
}

#[test]
fn a_stopped_worker_is_noticed_and_its_text_is_kept() {
    let (instance, obituaries) = load(&engine_with_timeouts(
        &["token_us=2000", "name=to-be-stopped"],
        Timeouts { standstill: LIMIT, step: LIMIT, ..short() },
    ));
    let instance = instance.unwrap();
    let mut generation = instance.generate(long_request()).unwrap();
    let mut seen = Vec::new();
    while seen.len() < 5 {
        seen.push(generation.blocking_next().unwrap());
    }
    kill_process(child_named("to-be-stopped"), Signal::STOP).unwrap();
    let began = Instant::now();
    seen.extend(events(generation));
    let (tokens, failure) = broken(&seen);
    assert!(tokens >= 4, "{tokens}");
    assert_died_of(&failure, "gave no sign of life");
    assert!(failure.hint.as_deref().unwrap().contains("delivered"), "{failure:?}");
    assert!(began.elapsed() < LIMIT);
    assert_died_of(&obituaries.first(), "gave no sign of life");
}

#[test]
fn a_worker_that_waits_for_what_never_comes_is_noticed_although_it_beats() {
    let timeouts = Timeouts { silence: LIMIT, step: LIMIT, ..short() };
    let (instance, obituaries) = load(&engine_with_timeouts(&["token:4=hang"], timeouts));
    let instance = instance.unwrap();
    let (tokens, failure) = broken(&events(instance.generate(long_request()).unwrap()));
    assert!(tokens >= 3, "{tokens}");
    assert_died_of(&failure, "neither answered nor computed");
    assert_died_of(&obituaries.first(), "neither answered nor computed");
}

#[test]
fn vectors_that_never_come_are_noticed_and_those_that_came_are_kept() {
    let timeouts = Timeouts { silence: LIMIT, step: LIMIT, ..short() };
    let (instance, obituaries) = load(&engine_with_timeouts(&["vector:4=hang"], timeouts));
    let instance = instance.unwrap();
    let heard = events(instance.embed(vectors(20), &Unconfined).unwrap());
    let (_, failure) = broken(&heard);
    assert!(heard.len() >= 4, "{heard:?}");
    assert_died_of(&failure, "neither answered nor computed");
    assert_died_of(&obituaries.first(), "neither answered nor computed");
}

#[test]
fn vectors_that_come_slowly_prove_that_the_worker_gets_on() {
    // A batch of eight takes half a second, and all of them longer than a worker may stand still.
    let timeouts = Timeouts { silence: LIMIT, step: LIMIT, ..short() };
    let (instance, obituaries) = load(&engine_with_timeouts(&["input_us=60000"], timeouts));
    let heard = events(instance.unwrap().embed(vectors(48), &Unconfined).unwrap());
    assert!(matches!(heard.last(), Some(TokenEvent::Done(_))), "{:?}", heard.last());
    assert_eq!(obituaries.all(), []);
}

#[test]
fn a_loop_without_end_is_noticed_although_it_computes() {
    let timeouts = Timeouts { silence: LIMIT, standstill: LIMIT, ..short() };
    let (instance, obituaries) = load(&engine_with_timeouts(&["token:2=spin"], timeouts));
    let instance = instance.unwrap();
    let (_, failure) = broken(&events(instance.generate(long_request()).unwrap()));
    assert_died_of(&failure, "without an answer");
    obituaries.first();
}

#[test]
fn a_load_that_hangs_fails() {
    let timeouts = Timeouts { silence: LIMIT, step: LIMIT, ..short() };
    let (outcome, obituaries) = load(&engine_with_timeouts(&["load=hang"], timeouts));
    assert_died_of(&outcome.map(|_| ()).unwrap_err(), "while it loaded the model");
    assert_eq!(obituaries.all(), []);
}

#[test]
fn a_worker_that_never_says_hello_is_not_waited_for() {
    let timeouts = Timeouts { start: Duration::from_millis(500), ..short() };
    let (outcome, _) = load(&engine_with_timeouts(&["start=hang"], timeouts));
    assert_died_of(&outcome.map(|_| ()).unwrap_err(), "did not start");
}

#[test]
fn a_long_prefill_that_computes_is_left_in_peace() {
    // Each chunk of 64 tokens takes longer than the worker may be silent, and sleeps: only its heartbeats tell that it lives.
    let timeouts = Timeouts { step: LIMIT, standstill: LIMIT, ..short() };
    let (instance, obituaries) = load(&engine_with_timeouts(&["prefill_us=30000"], timeouts));
    let instance = instance.unwrap();
    let request = samovar_core::GenerationRequest {
        prompt: samovar_core::Prompt::Tokens(vec![5; 64]),
        max_tokens: Some(2),
        ..long_request()
    };
    let events = events(instance.generate(request).unwrap());
    assert!(matches!(events.last(), Some(TokenEvent::Done(_))), "{:?}", events.last());
    assert_eq!(obituaries.all(), []);
}

#[test]
fn a_worker_that_hangs_when_told_to_leave_is_ended_and_that_is_no_news() {
    for fault in ["drop=hang", "drop=stop", "drop=spin"] {
        let (instance, obituaries) =
            load(&engine_with_timeouts(&[fault], Timeouts { leave: short().leave, ..long() }));
        let began = Instant::now();
        drop(instance.unwrap());
        assert!(began.elapsed() < LIMIT / 2, "{fault}");
        assert_eq!(obituaries.all(), []);
    }
}
