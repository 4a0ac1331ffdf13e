//! What the death of a worker costs: its own request one error, all others nothing, and the daemon no memory.
//!
//! ```text
//!   7 workers ─► streams without end ─► every one whole        ◄─ counted while
//!   1 worker  ─► stream ─► SIGSEGV, ABRT, KILL, STOP ─► one error ─► the next one answers   (again and again)
//! ```
//!
//! `cargo x soak` kills and loads ten times as often (`SAMOVAR_CRASHES`, `SAMOVAR_LOADS`).
#![cfg(target_os = "linux")]
#![allow(clippy::print_stdout, reason = "how long a recovery takes is what these tests have to say")]

mod cgroup;
mod fixture;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use fixture::{Fixture, Quantiles, Usage, count};
use rustix::process::Signal;
use samovar_core::generation::TokenEvent;

/// Long enough for a busy machine, short enough for a test.
const SILENCE: Duration = Duration::from_millis(800);
/// An answer that never comes.
const LIMIT: Duration = Duration::from_secs(20);

#[test]
fn a_struck_worker_takes_nobody_with_it() {
    let strikes = count("SAMOVAR_CRASHES", 100);
    let others = Fixture::new(&["token_us=1000"]);
    let is_over = Arc::new(AtomicBool::new(false));
    let streams: Vec<_> = (0..7)
        .map(|_| {
            let (instance, is_over) = (others.load(), Arc::clone(&is_over));
            std::thread::spawn(move || {
                let mut whole = 0;
                while !is_over.load(Ordering::Relaxed) {
                    match fixture::answer(&*instance, 200) {
                        Some(TokenEvent::Done(_)) => whole += 1,
                        other => panic!("a stream of another worker ended with {other:?}"),
                    }
                }
                whole
            })
        })
        .collect();

    let struck = Fixture::impatient(&["token_us=1000"], SILENCE);
    let mut recoveries = Vec::new();
    let (mut worker, mut pid) = struck.load_and_find();
    for round in 0..strikes {
        let mut generation = fixture::generate(&*worker, 500);
        let first = fixture::wait_for_a_token(&mut generation);
        assert!(first.is_some(), "round {round}: it began to answer");
        // A stopped worker is found by its silence, which takes its time: one in ten.
        let signal = match round % 10 {
            0 => Signal::STOP,
            1 | 4 | 7 => Signal::SEGV,
            2 | 5 | 8 => Signal::ABORT,
            _ => Signal::KILL,
        };
        fixture::send_signal(pid, signal);
        let began = Instant::now();
        let rest: Vec<_> = std::iter::from_fn(|| generation.blocking_next()).collect();
        assert!(began.elapsed() < LIMIT, "{signal:?}: no caller was told for {:?}", began.elapsed());
        let failures = rest.iter().filter(|event| matches!(event, TokenEvent::Failed(_))).count();
        assert_eq!(failures, 1, "{signal:?}: {:?}", rest.last());
        let Some(TokenEvent::Failed(failure)) = rest.last() else { panic!("the error comes last") };
        assert_eq!(failure.kind, samovar_core::ErrorKind::EngineFailed);
        assert!(failure.message.contains(fixture::words_for(signal)), "{signal:?}: {}", failure.message);
        drop(worker);
        let again = Instant::now();
        (worker, pid) = struck.load_and_find();
        assert!(matches!(fixture::answer(&*worker, 1), Some(TokenEvent::Done(_))));
        recoveries.push(again.elapsed());
    }
    is_over.store(true, Ordering::Relaxed);
    let stops = strikes.div_ceil(10);
    let counted = struck.stats();
    assert_eq!((counted.hung, counted.crashed), (u64::from(stops), u64::from(strikes - stops)));
    assert_eq!((counted.running, others.stats().running), (1, 7));
    assert_eq!(others.stats().crashed, 0);
    let whole: u32 = streams.into_iter().map(|stream| stream.join().expect("foreign failures: none")).sum();
    assert!(whole > 0, "the others had no chance to fail");
    println!(
        "{strikes} strikes, {whole} foreign answers whole; next answer after {}",
        Quantiles::of(recoveries)
    );
}

#[test]
fn loading_and_unloading_leaves_nothing_behind() {
    let loads = count("SAMOVAR_LOADS", 100);
    let fixture = Fixture::new(&[]);
    let once = || {
        let instance = fixture.load();
        assert!(matches!(fixture::answer(&*instance, 4), Some(TokenEvent::Done(_))));
    };
    // Until allocators and pools have what they keep.
    for _ in 0..20 {
        once();
    }
    let before = Usage::of_this_process();
    for _ in 0..loads {
        once();
    }
    let after = Usage::of_this_process();
    println!("{loads} loads: before {before}, after {after}");
    assert_eq!((after.descriptors, after.children), (before.descriptors, 0));
    // The thread that looks after a worker may end a moment after it.
    assert!(after.threads <= before.threads, "{before} became {after}");
    let grown = after.rss_bytes as f64 / before.rss_bytes as f64;
    // Two per cent of a small process are a few pages: a megabyte is allowed for.
    assert!(grown <= 1.02 || after.rss_bytes - before.rss_bytes < 1 << 20, "{before} became {after}");
}

#[test]
fn a_worker_that_takes_far_more_than_its_model_explains_is_ended() {
    // The limit is for the machine's sake, should no process look.
    let fixture = Fixture::frugal(&["prefill=eat"], 6 << 30);
    let instance = fixture.load();
    let Some(TokenEvent::Failed(failure)) = fixture::answer(&*instance, 4) else { panic!("it ate") };
    assert!(failure.message.contains("of memory where its model explains"), "{}", failure.message);
    drop(instance);
    let stats = fixture.stats();
    assert_eq!((stats.overgrown, stats.crashed, stats.running), (1, 0, 0));
}

#[test]
fn memory_past_a_limit_is_refused_to_the_worker_alone() {
    let fixture = Fixture::frugal(&["prefill=eat"], 256 << 20);
    let Some(TokenEvent::Failed(failure)) = fixture::answer(&*fixture.load(), 4) else { panic!("it ate") };
    assert!(failure.message.contains("SIGABRT") && failure.message.contains("memory"), "{}", failure.message);
    assert_eq!(fixture.stats().crashed, 1);
}

#[test]
fn when_memory_ends_the_kernel_takes_the_worker() {
    let group = match cgroup::Group::new(192 << 20) {
        Ok(group) => group,
        Err(reason) => {
            println!("skipped: {reason}");
            return;
        }
    };
    let told = group.run_this_test_binary("the_daemon");
    assert!(told.contains("the model's worker was ended by SIGKILL"), "{told}");
    assert!(told.contains("the daemon lives"), "{told}");
}

/// Not a test: a daemon in a group with little memory.
#[test]
#[ignore = "started by a test"]
fn the_daemon() {
    let fixture = Fixture::new(&["prefill=eat"]);
    let instance = fixture.load();
    let Some(TokenEvent::Failed(failure)) = fixture::answer(&*instance, 4) else { panic!("it ate") };
    println!("{}", failure.message);
    drop(instance);
    let other = Fixture::new(&[]);
    assert!(matches!(fixture::answer(&*other.load(), 4), Some(TokenEvent::Done(_))));
    println!("the daemon lives");
}
