//! Workers that compute at the same time share the cores.

use std::sync::Arc;
use std::time::{Duration, Instant};

use samovar_core::cores::CoreWatch;
use samovar_core::port::{Engine, Instance, LoadControl, LoadRequest};
use samovar_core::testing::FakeEngine;
use samovar_core::{LoadOptions, ModelFiles, TokenEvent};

use crate::stand::{LIMIT, child_named, engine, instance, long_request};

#[track_caller]
fn until(is_so: impl Fn() -> bool, what: &str) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < LIMIT, "{what}");
        std::thread::park_timeout(Duration::from_millis(2));
    }
}

#[test]
fn threads_of_models_that_answer_together_are_no_more_than_the_cores() {
    let engine = engine(&["token_us=50000"]);
    let descriptor = FakeEngine::descriptor("fake", 1 << 20);
    let options = LoadOptions { threads: 64, ..FakeEngine::options() };
    let load = || {
        let (files, control) = (ModelFiles::of("/dev/null"), LoadControl::silent());
        engine.load(LoadRequest::new(&files, &descriptor, &options, &control)).unwrap()
    };
    let (one, other): (Arc<dyn Instance>, Arc<dyn Instance>) = (load(), load());
    let cores = CoreWatch::new().cores().min(64);
    let used = |instance: &Arc<dyn Instance>| instance.measure().threads.used;

    let mut first = one.generate(long_request()).unwrap();
    while !matches!(first.blocking_next().unwrap(), TokenEvent::Token { .. }) {}
    until(|| used(&one) == cores, "alone it has all cores");
    let mut second = other.generate(long_request()).unwrap();
    while !matches!(second.blocking_next().unwrap(), TokenEvent::Token { .. }) {}
    until(|| used(&one) + used(&other) <= cores.max(2), "both have a share");
    assert!(used(&one) >= 1 && used(&other) >= 1);
    assert_eq!(one.measure().threads.most, 64);
    drop(second);
    until(|| used(&one) == cores, "it has all cores again");
}

#[test]
fn each_worker_leads_a_session_of_its_own() {
    let (_instance, _obituaries) = instance(&["name=leads-a-session"]);
    let pid = child_named("leads-a-session");
    assert_eq!(rustix::process::getsid(Some(pid)).unwrap(), pid);
}
