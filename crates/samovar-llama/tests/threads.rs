//! A share of the cores is kept from the next step on, in the middle of an answer, and given back in the same way.

mod support;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use samovar_core::cores::{CoreWatch, Cores, ThreadsWhy};
use samovar_core::port::Instance;
use samovar_core::{LoadOptions, TokenEvent};

use support::{collect, greedy, load, options, process_status, start, text};

/// These tests look at the whole process: one at a time.
static PROCESS: Mutex<()> = Mutex::new(());

/// Reads an answer token by token until the instance computes with so many threads; returns the tokens that took.
fn tokens_until(
    instance: &Arc<dyn Instance>,
    answer: &mut samovar_core::generation::Generation,
    used: u32,
) -> u32 {
    let mut tokens = 0;
    while instance.measure().threads.used != used {
        match answer.blocking_next().expect("the answer goes on") {
            TokenEvent::Failed(failure) => panic!("{failure:?}"),
            TokenEvent::Done(_) => panic!("not {used} threads by its end: {:?}", instance.measure().threads),
            TokenEvent::Prefilling { .. } | TokenEvent::Prefilled { .. } | TokenEvent::Token { .. } => {
                tokens += 1
            }
        }
    }
    tokens
}

#[test]
fn a_share_counts_from_the_next_step_on() {
    let _alone = PROCESS.lock().unwrap_or_else(PoisonError::into_inner);
    let instance = load(&LoadOptions { threads: 2, context_tokens: 4096, slots: 1, ..options() });
    assert_eq!(instance.measure().threads.used, 0, "it has computed nothing yet");
    let told = |share| Cores { share, idle: Some(1.0) };
    instance.share_cores(told(1));
    let mut answer = start(&instance, greedy(text("Tea is"), 2000));
    tokens_until(&instance, &mut answer, 1);
    let one = instance.measure().threads;
    assert_eq!((one.used, one.most), (1, 2));
    if CoreWatch::new().cores() > 1 {
        assert_eq!(one.why, ThreadsWhy::OtherModels);
        // Up again and down again while it answers. Beside other programs two may last for a moment only.
        for _ in 0..3 {
            instance.share_cores(told(2));
            tokens_until(&instance, &mut answer, 2);
            instance.share_cores(told(1));
            tokens_until(&instance, &mut answer, 1);
        }
    }
    collect(answer);
}

#[test]
fn threads_do_not_pile_up_and_none_spins_when_nobody_asks() {
    let _alone = PROCESS.lock().unwrap_or_else(PoisonError::into_inner);
    let instance = load(&LoadOptions { threads: 6, context_tokens: 2048, slots: 1, ..options() });
    let before = process_status("Threads");
    for share in [6, 5, 4, 3, 2, 1, 2, 3, 4, 5, 6] {
        instance.share_cores(Cores { share, idle: None });
        collect(start(&instance, greedy(text("Tea is"), 4)));
    }
    let after = process_status("Threads");
    // Three pools at most are kept, of six threads together with the one that computes.
    assert!(after <= before + 12, "{before} threads, then {after}");
    // Whoever waits for work looks for it for a few milliseconds, then sleeps.
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
