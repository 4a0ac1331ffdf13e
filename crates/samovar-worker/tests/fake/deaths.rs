//! A worker that dies, wherever and however it does: each who waits hears of it once, with the reason.

use std::sync::Arc;

use samovar_core::ErrorKind;
use samovar_core::port::LoadControl;
use samovar_core::testing::FakeEngine;

use crate::stand::{
    LIMIT, assert_died_of, broken, engine, events, find_child, instance, load, load_with, long_request,
    refusal,
};

#[test]
fn dying_before_the_first_word_fails_the_load() {
    for (fault, words) in [
        ("start=abort", "SIGABRT"),
        ("start=segv", "SIGSEGV"),
        ("start=exit:3", "exit code 3"),
        ("start=leave", "exit code 0"),
    ] {
        let (outcome, obituaries) = load(&engine(&[fault]));
        assert_died_of(&outcome.map(|_| ()).unwrap_err(), words);
        assert_eq!(obituaries.all(), []);
    }
}

#[test]
fn dying_during_the_load_fails_it_with_the_last_words() {
    for (fault, words) in [
        (
            "load=abort",
            "SIGABRT (signal 6) while it loaded the model; it last said: FAKE_ASSERT(never) failed",
        ),
        ("load=segv", "SIGSEGV (signal 11) while it loaded"),
        ("load=kill", "SIGKILL (signal 9) while it loaded"),
        ("load=panic", "panics at load"),
    ] {
        let (outcome, obituaries) = load(&engine(&[fault]));
        let Err(failure) = outcome else { panic!("{fault} and it lives") };
        assert_died_of(&failure, words);
        assert_eq!(obituaries.all(), [], "a death during the load is the load's failure, and nothing else");
    }
}

#[test]
fn a_program_that_is_none_fails_the_load() {
    let mut config = samovar_worker::WorkerConfig::new("/nowhere/samovar", [""; 0]);
    let engine = |config| samovar_worker::WorkerEngine::new(Arc::new(FakeEngine::new()), config).unwrap();
    let failure = load(&engine(config.clone())).0.map(|_| ()).unwrap_err();
    assert_eq!(failure.kind, ErrorKind::EngineFailed);
    assert!(failure.message.contains("/nowhere/samovar"), "{failure:?}");
    assert!(failure.hint.as_deref().is_some_and(|hint| hint.contains("be there")), "{failure:?}");
    // It ends at once, and it never says hello.
    config.program = "/bin/true".into();
    let failure = load(&engine(config)).0.map(|_| ()).unwrap_err();
    assert_died_of(&failure, "exit code 0");
}

#[test]
fn a_program_that_is_no_samovar_fails_the_load() {
    // It says back what it is told: our own hello, and then commands instead of answers.
    let mut config = samovar_worker::WorkerConfig::new("/bin/sh", ["-c", "cat <&0 >&0"]);
    config.sandbox = samovar_worker::sandbox::Mode::Off;
    let engine = samovar_worker::WorkerEngine::new(Arc::new(FakeEngine::new()), config).unwrap();
    let failure = load(&engine).0.map(|_| ()).unwrap_err();
    assert_died_of(&failure, "makes no sense");
}

#[test]
fn dying_when_idle_is_news_once() {
    let (instance, obituaries) = instance(&["idle=segv"]);
    assert_died_of(&obituaries.first(), "SIGSEGV");
    assert_died_of(&refusal(instance.generate(long_request())), "SIGSEGV");
    assert_died_of(&instance.probe().unwrap_err(), "SIGSEGV");
    assert_eq!(instance.measure(), samovar_core::footprint::Measurement::default());
    drop(instance);
    assert_eq!(obituaries.all().len(), 1);
}

#[test]
fn dying_in_the_middle_ends_every_answer_once_and_keeps_what_was_said() {
    for (fault, words) in
        [("token:5=abort", "FAKE_ASSERT(never) failed at token"), ("token:5=kill", "SIGKILL")]
    {
        let (instance, obituaries) = instance(&[fault]);
        let running: Vec<_> = (0..4).map(|_| instance.generate(long_request()).unwrap()).collect();
        let ended: Vec<_> = running.into_iter().map(|generation| broken(&events(generation))).collect();
        for (_, failure) in &ended {
            assert_died_of(failure, words);
        }
        assert!(ended.iter().any(|(tokens, _)| *tokens >= 5), "{ended:?}");
        assert_died_of(&obituaries.first(), words);
        drop(instance);
        assert_eq!(obituaries.all().len(), 1);
    }
}

#[test]
fn dying_while_parking_resuming_or_probing_fails_that_and_is_news_once() {
    for stage in ["park", "resume", "probe"] {
        let (instance, obituaries) = instance(&[&format!("{stage}=abort")]);
        let outcome = match stage {
            "park" => instance.park(),
            "resume" => instance.park().and_then(|()| instance.resume(&FakeEngine::options())),
            _ => instance.probe(),
        };
        assert_died_of(&outcome.unwrap_err(), "SIGABRT");
        assert_died_of(&obituaries.first(), "SIGABRT");
        drop(instance);
        assert_eq!(obituaries.all().len(), 1, "{stage}");
    }
}

#[test]
fn one_worker_that_dies_disturbs_no_other() {
    let sound = engine(&["token_us=200"]);
    let (staying, news) = load(&sound);
    let staying = staying.unwrap();
    let running: Vec<_> = (0..2).map(|_| staying.generate(long_request()).unwrap()).collect();
    for fault in ["token:3=segv", "prefill=kill", "token:1=abort"] {
        let (dying, obituaries) = instance(&[fault]);
        broken(&events(dying.generate(long_request()).unwrap()));
        obituaries.first();
    }
    for generation in running {
        let events = events(generation);
        assert!(matches!(events.last(), Some(samovar_core::TokenEvent::Done(_))), "{:?}", events.last());
    }
    assert_eq!(news.all(), []);
}

#[test]
fn an_orderly_end_is_no_news_even_when_the_worker_dies_of_it() {
    for fault in ["drop=segv", "drop=abort", "drop=leave"] {
        let (instance, obituaries) = instance(&[fault, "token_us=5000"]);
        let running = instance.generate(long_request()).unwrap();
        drop(instance);
        assert_eq!(broken(&events(running)).1.kind, ErrorKind::Unavailable);
        assert_eq!(obituaries.all(), []);
    }
}

#[test]
fn a_load_that_reports_more_than_anybody_reads_can_be_cancelled() {
    let engine = engine(&["reports=1000", "load=kill", "name=flooding"]);
    let cancel = Arc::new(std::sync::OnceLock::<Arc<std::sync::atomic::AtomicBool>>::new());
    let control = LoadControl::new({
        let cancel = Arc::clone(&cancel);
        move |_| {
            // Slower than the worker: it has said everything, and is gone.
            let began = std::time::Instant::now();
            while find_child("flooding").is_some() && began.elapsed() < LIMIT {
                std::thread::park_timeout(std::time::Duration::from_millis(1));
            }
            cancel.get().unwrap().store(true, std::sync::atomic::Ordering::Relaxed);
        }
    });
    cancel.set(control.cancel_flag()).unwrap();
    let (done, outcome) = std::sync::mpsc::sync_channel(1);
    std::thread::spawn(move || done.send(load_with(&engine, &control).map(|_| ())));
    outcome.recv_timeout(LIMIT).expect("the load ends").unwrap_err();
}

#[test]
fn a_load_that_is_cancelled_ends_its_worker() {
    let engine = engine(&["load_ms=3600000"]);
    let (started, progress) = std::sync::mpsc::sync_channel(1);
    let control = LoadControl::new(move |_| {
        started.try_send(()).ok();
    });
    let flag = control.cancel_flag();
    let load = std::thread::spawn(move || load_with(&engine, &control).map(|_| ()));
    progress.recv_timeout(LIMIT).unwrap();
    flag.store(true, std::sync::atomic::Ordering::Relaxed);
    assert_eq!(load.join().unwrap().unwrap_err().kind, ErrorKind::Cancelled);
}
