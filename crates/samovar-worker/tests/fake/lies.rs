//! A worker that lies: wrong lengths, wrong ids, floods, silence. It loses its own requests, each once and with a
//! reason, takes no memory of ours, and no other notices.

#![allow(clippy::unwrap_used, reason = "helpers of tests: what fails panics")]

use std::sync::Arc;

use samovar_core::TokenEvent;
use samovar_core::port::Instance;
use samovar_worker::Timeouts;

use crate::stand::{
    LIMIT, Obituaries, assert_died_of, broken, engine, engine_with_timeouts, events, instance, load,
    long_request,
};

/// Peak of this process's own memory.
fn peak_bytes() -> u64 {
    let status = fs_err::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

/// What becomes of a request whose worker lies, while another model answers.
#[track_caller]
fn told(lie: &str) -> samovar_core::Failure {
    told_by(lie, instance(&[&format!("token:3=lie:{lie}")]))
}

/// What becomes of a request of this worker, while another model answers.
#[track_caller]
fn told_by(lie: &str, (liar, obituaries): (Arc<dyn Instance>, Obituaries)) -> samovar_core::Failure {
    let (honest, no_news) = instance(&["token_us=200"]);
    let other = honest.generate(long_request()).unwrap();
    let before = peak_bytes();
    let (_, failure) = broken(&events(liar.generate(long_request()).unwrap()));
    obituaries.first();
    assert_eq!(obituaries.all().len(), 1, "{lie}");
    let grown = peak_bytes().saturating_sub(before);
    assert!(grown < 64 << 20, "{lie}: {grown} bytes more");
    assert!(matches!(events(other).last(), Some(TokenEvent::Done(_))), "{lie}");
    assert_eq!(no_news.all(), [], "{lie}");
    failure
}

#[test]
fn frames_that_make_no_sense_end_the_worker() {
    for lie in ["length", "empty", "left-over", "unknown", "noise"] {
        assert_died_of(&told(lie), "makes no sense");
    }
}

#[test]
fn a_frame_that_breaks_off_is_the_end() {
    assert_died_of(&told("cut"), "exit code 0");
}

#[test]
fn few_bytes_that_would_be_many_in_memory_are_refused() {
    for lie in ["events", "deltas", "prefixes"] {
        assert_died_of(&told(lie), "makes no sense");
    }
}

#[test]
fn a_flood_of_messages_ends_the_worker() {
    assert_died_of(&told("flood"), "messages per second");
}

#[test]
fn a_text_longer_than_any_answers_ends_the_worker() {
    // Its socket takes so long a frame in pieces; a heartbeat between them would spoil the text before it is measured.
    let timeouts = Timeouts { heartbeat: LIMIT, ..Timeouts::default() };
    let (liar, obituaries) = load(&engine_with_timeouts(&["token:3=lie:text"], timeouts));
    assert_died_of(&told_by("text", (liar.unwrap(), obituaries)), "is over the limit");
}

/// A worker that says nothing else after its lie is ended when its time limit is over.
fn short() -> Timeouts {
    Timeouts {
        heartbeat: std::time::Duration::from_millis(20),
        standstill: std::time::Duration::from_secs(2),
        silence: LIMIT,
        step: LIMIT,
        ..Timeouts::default()
    }
}

#[test]
fn answers_and_events_that_nobody_asked_for_reach_nobody() {
    let (instance, _) = load(&engine_with_timeouts(&["token:3=lie:ids"], short()));
    let (tokens, failure) = broken(&events(instance.unwrap().generate(long_request()).unwrap()));
    assert!(tokens <= 4, "{tokens}");
    assert_died_of(&failure, "neither answered nor computed");
}

#[test]
fn a_request_ends_once_and_its_end_is_no_other_requests() {
    let (instance, _) = load(&engine_with_timeouts(&["token:3=lie:ends"], short()));
    let instance = instance.unwrap();
    let first = events(instance.generate(long_request()).unwrap());
    let is_end = |event: &&TokenEvent| matches!(event, TokenEvent::Done(_) | TokenEvent::Failed(_));
    assert_eq!(first.iter().filter(is_end).count(), 1, "{first:?}");
    assert!(matches!(first.last(), Some(TokenEvent::Done(_))), "{first:?}");
    // Its worker tells the same of the first request once more, while the second waits.
    let (_, failure) = broken(&events(instance.generate(long_request()).unwrap()));
    assert_died_of(&failure, "neither answered nor computed");
}

#[test]
fn lies_instead_of_a_load_fail_the_load() {
    for lie in ["length", "events", "noise", "flood"] {
        let (outcome, obituaries) = load(&engine(&[&format!("load=lie:{lie}")]));
        let failure = outcome.map(|_| ()).unwrap_err();
        assert_eq!(failure.kind, samovar_core::ErrorKind::EngineFailed, "{lie}: {failure:?}");
        assert_eq!(obituaries.all(), []);
    }
}

#[test]
fn words_without_end_on_the_standard_error_hinder_nobody() {
    let (honest, _) = instance(&[]);
    let (talker, _) = instance(&["name=talker", "idle=lie:words"]);
    let answer = events(honest.generate(long_request()).unwrap());
    assert!(matches!(answer.last(), Some(TokenEvent::Done(_))));
    let before = peak_bytes();
    let answer = events(talker.generate(long_request()).unwrap());
    assert!(matches!(answer.last(), Some(TokenEvent::Done(_))));
    assert!(peak_bytes() - before < 16 << 20);
}
