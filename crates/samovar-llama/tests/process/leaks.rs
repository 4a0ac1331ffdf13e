//! What is loaded and unloaded, parked and resumed, leaves nothing behind.
#![cfg(target_os = "linux")]

use crate::support;

use samovar_core::LoadOptions;

/// Growth that heap fragments and the test harness itself may cause.
const SLACK_BYTES: u64 = 12 << 20;

fn anonymous_bytes() -> u64 {
    support::process_status("RssAnon") * 1024
}

fn threads() -> u64 {
    support::process_status("Threads")
}

#[test]
fn two_hundred_rounds_leave_nothing_behind() {
    let _alone = crate::alone();
    let options = LoadOptions { context_tokens: 256, slots: 2, ..support::options() };
    let answer = |instance: &_| {
        let request = support::greedy(support::text("Once upon a time"), 4);
        support::collect(support::start(instance, request))
    };
    let load_and_unload = || {
        let instance = support::load(&options);
        answer(&instance);
    };
    for _ in 0..5 {
        load_and_unload();
    }
    let (memory, before) = (anonymous_bytes(), threads());
    for _ in 0..200 {
        load_and_unload();
    }
    assert_eq!(threads(), before, "threads after 200 loads");
    let grown = anonymous_bytes().saturating_sub(memory);
    assert!(grown < SLACK_BYTES, "{grown} bytes more after 200 loads");

    let instance = support::load(&options);
    let first = answer(&instance);
    let (memory, before) = (anonymous_bytes(), threads());
    for _ in 0..200 {
        instance.park().unwrap();
        instance.resume(&options).unwrap();
        assert_eq!(answer(&instance).0, first.0);
    }
    assert_eq!(threads(), before, "threads after 200 parks");
    let grown = anonymous_bytes().saturating_sub(memory);
    assert!(grown < SLACK_BYTES, "{grown} bytes more after 200 parks");
}
