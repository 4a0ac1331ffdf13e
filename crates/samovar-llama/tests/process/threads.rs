//! A share of the cores is kept from the next step on, in the middle of an answer, and given back in the same way.

use crate::support;

use std::sync::Arc;
use std::time::{Duration, Instant};

use samovar_core::cores::{CoreWatch, Cores, ThreadsWhy};
use samovar_core::generation::Generation;
use samovar_core::port::Instance;
use samovar_core::{LoadOptions, ThreadUse, TokenEvent};

use support::{collect, greedy, load, options, process_status, start, text};

/// Reads the next event of an answer; `false` when that is its end.
fn next(answer: &mut Generation) -> bool {
    match answer.blocking_next().expect("an answer has an end") {
        TokenEvent::Failed(failure) => panic!("{failure:?}"),
        TokenEvent::Done(_) => false,
        TokenEvent::Prefilling { .. }
        | TokenEvent::Prefilled { .. }
        | TokenEvent::Token { .. }
        | TokenEvent::Deltas { .. }
        | TokenEvent::Embedded(_) => true,
    }
}

/// Reads an answer until the instance computes with threads of which this holds; `false` when it ends before.
fn read_until(
    instance: &Arc<dyn Instance>,
    answer: &mut Generation,
    is_meant: impl Fn(ThreadUse) -> bool,
) -> bool {
    while !is_meant(instance.measure().threads) {
        if !next(answer) {
            return false;
        }
    }
    true
}

#[test]
fn a_share_is_kept_while_it_answers_and_given_back() {
    let _alone = crate::alone();
    let mut watch = CoreWatch::new();
    if watch.cores() < 2 {
        support::skipped("there is one core");
        return;
    }
    let instance = load(&LoadOptions { threads: 2, context_tokens: 4096, slots: 1, ..options() });
    assert_eq!(instance.measure().threads.used, 0, "it has computed nothing yet");
    let told = |share| Cores { share, idle: Some(1.0), free: None };
    let mut answer = start(&instance, greedy(text("Tea is"), 2000));
    for _ in 0..3 {
        instance.share_cores(told(2));
        watch.restart(Instant::now());
        // Beside other programs two may last for a moment only, or never come.
        if !read_until(&instance, &mut answer, |threads| threads.used == 2) {
            let idle = watch.idle(Instant::now());
            assert!(idle.is_none_or(|idle| idle < 0.9), "it has one thread, and {idle:?} cores idle");
            support::skipped("other programs use the cores");
            return;
        }
        instance.share_cores(told(1));
        let told_one = ThreadUse { used: 1, most: 2, why: ThreadsWhy::OtherModels };
        let has_one = read_until(&instance, &mut answer, |threads| threads == told_one);
        assert!(has_one, "{:?}", instance.measure().threads);
        // Idle cores are no reason to have more than the share.
        for _ in 0..50 {
            assert!(next(&mut answer), "the answer has ended");
            assert_eq!(instance.measure().threads, told_one);
        }
    }
    collect(answer);
}

#[test]
fn threads_do_not_pile_up_and_none_spins_when_nobody_asks() {
    let _alone = crate::alone();
    let instance = load(&LoadOptions { threads: 6, context_tokens: 2048, slots: 1, ..options() });
    let before = process_status("Threads");
    for share in [6, 5, 4, 3, 2, 1, 2, 3, 4, 5, 6] {
        instance.share_cores(Cores { share, idle: None, free: None });
        collect(start(&instance, greedy(text("Tea is"), 4)));
    }
    let after = process_status("Threads");
    // Three pools at most are kept, of six threads together with the one that computes.
    assert!(after <= before + 12, "{before} threads, then {after}");
    // A thread that waits for work looks for it for a few milliseconds, then sleeps.
    std::thread::park_timeout(Duration::from_millis(200));
    let used = cpu_ticks();
    std::thread::park_timeout(Duration::from_millis(500));
    // One spinning thread would have used fifty ticks.
    let spun = cpu_ticks() - used;
    assert!(spun < 20, "{spun} ticks in half a second");
}

/// Hundredths of a second of processor time of this process.
fn cpu_ticks() -> u64 {
    let stat = fs_err::read_to_string("/proc/self/stat").expect("Linux tells about processes");
    let fields = stat.rsplit_once(')').map(|(_, fields)| fields).expect("the name ends");
    fields.split_whitespace().skip(11).take(2).map(|field| field.parse::<u64>().expect("a number")).sum()
}
