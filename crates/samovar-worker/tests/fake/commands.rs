//! What is asked of a worker besides answers: to stop one, to hand files over, to refuse what is too much.

use std::io::Seek;
use std::sync::Arc;
use std::time::{Duration, Instant};

use samovar_core::generation::Adapter;
use samovar_core::port::{Engine, Engines, LoadControl, LoadRequest};
use samovar_core::testing::FakeEngine;
use samovar_core::{Descriptor, ErrorKind, Format, GenerationRequest, ModelFiles, Prompt, TokenEvent};
use samovar_worker::{WorkerConfig, WorkerEngine};

use crate::stand::{LIMIT, broken, events, instance, long_request, refusal};

#[test]
fn who_leaves_frees_the_slot_long_before_the_answer_would_end() {
    let (instance, _) = instance(&["token_us=20000"]);
    for _ in 0..10 {
        let mut generation = instance.generate(long_request()).unwrap();
        while !matches!(generation.blocking_next().unwrap(), TokenEvent::Token { .. }) {}
        drop(generation);
        let left = Instant::now();
        while instance.measure().busy_slots > 0 {
            assert!(left.elapsed() < LIMIT, "{:?}", instance.measure());
            std::thread::park_timeout(Duration::from_millis(1));
        }
        // The whole answer takes ten seconds, a step 20 ms.
        assert!(left.elapsed() < Duration::from_secs(5), "{:?}", left.elapsed());
    }
}

#[test]
fn files_are_handed_over_and_used_from_inside_the_sandbox() {
    let (instance, _) = instance(&[]);
    let request = GenerationRequest { max_tokens: Some(4), reuse_prefix: true, ..long_request() };
    assert!(matches!(events(instance.generate(request).unwrap()).last(), Some(TokenEvent::Done(_))));
    let prefix = instance.prefixes().unwrap().pop().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("prefix");
    let mut file = std::fs::File::options().create_new(true).read(true).write(true).open(path).unwrap();
    let bytes = instance.save_prefix(&prefix, &file).unwrap();
    assert_eq!(file.metadata().unwrap().len(), bytes);
    file.rewind().unwrap();
    instance.restore_prefix(&prefix.tokens, samovar_core::Scope::default(), &file).unwrap();
    file.set_len(0).unwrap();
    file.rewind().unwrap();
    let refused = instance.restore_prefix(&prefix.tokens, samovar_core::Scope::default(), &file).unwrap_err();
    assert_eq!(refused.kind, ErrorKind::InvalidRequest);
}

#[test]
fn an_adapter_that_is_not_there_fails_its_request_alone() {
    let (instance, _) = instance(&[]);
    let request = GenerationRequest {
        adapters: vec![Adapter { path: "/nowhere/a.gguf".into(), scale: 1.0 }],
        ..long_request()
    };
    let (_, failure) = broken(&events(instance.generate(request).unwrap()));
    assert_eq!(failure.kind, ErrorKind::NotFound);
    instance.probe().unwrap();
}

#[test]
fn more_adapters_than_a_worker_has_descriptors_for_come_one_after_the_other() {
    let (instance, news) = instance(&["token_us=20000"]);
    let folder = tempfile::tempdir().unwrap();
    let with = |number: u32| {
        let path = folder.path().join(format!("{number}.gguf"));
        fs_err::write(&path, number.to_string()).unwrap();
        let adapters = vec![Adapter { path, scale: 1.0 }];
        instance.generate(GenerationRequest { adapters, max_tokens: Some(0), ..long_request() }).unwrap()
    };
    for number in 0..300 {
        let events = events(with(number));
        assert!(matches!(events.last(), Some(TokenEvent::Done(_))), "{number}: {:?}", events.last());
    }
    // A request that runs keeps what it named, and prevents no other adapters.
    let path = folder.path().join("300.gguf");
    fs_err::write(&path, "300").unwrap();
    let adapters = vec![Adapter { path, scale: 1.0 }];
    let mut running = instance.generate(GenerationRequest { adapters, ..long_request() }).unwrap();
    while !matches!(running.blocking_next().unwrap(), TokenEvent::Token { .. }) {}
    for number in 301..500 {
        let events = events(with(number));
        assert!(matches!(events.last(), Some(TokenEvent::Done(_))), "{number}: {:?}", events.last());
    }
    drop(running);
    assert_eq!(news.all(), []);
    instance.probe().unwrap();
}

#[test]
fn a_request_beyond_the_frame_limit_is_refused_and_harms_nobody() {
    let (instance, _) = instance(&[]);
    let text = "x".repeat((64 << 20) + 1);
    let prompt = Prompt::Text { text, add_special: true, parse_special: false };
    let failure = refusal(instance.generate(GenerationRequest { prompt, ..long_request() }));
    assert_eq!(failure.kind, ErrorKind::InvalidRequest);
    assert!(failure.message.contains("67108864"), "{failure:?}");
    instance.probe().unwrap();
}

#[test]
fn a_request_whose_answer_would_break_the_protocol_is_refused_and_the_worker_lives() {
    let (instance, _) = instance(&[]);
    let most = GenerationRequest { max_tokens: Some(1), ..long_request() };
    let refused = [
        (GenerationRequest { logprobs: Some(129), ..most.clone() }, "logprobs"),
        (GenerationRequest { stop: vec!["x".repeat(40 << 10); 2], ..most.clone() }, "stop"),
    ];
    for (request, param) in refused {
        let failure = refusal(instance.generate(request));
        assert_eq!((failure.kind, failure.param.as_deref()), (ErrorKind::InvalidRequest, Some(param)));
        assert!(failure.hint.is_some(), "{failure:?}");
        instance.probe().unwrap();
    }
    let most = GenerationRequest { logprobs: Some(128), stop: vec!["x".repeat(64 << 10)], ..most };
    assert!(matches!(events(instance.generate(most).unwrap()).last(), Some(TokenEvent::Done(_))));
}

#[test]
fn the_sandbox_that_was_reached_is_known() {
    let engine = crate::stand::engine(&[]);
    assert!(engine.stats().sandbox.is_none());
    let (instance, _) = crate::stand::load(&engine);
    instance.unwrap();
    assert!(engine.stats().sandbox.is_some());
}

#[test]
fn a_worker_is_the_engine_that_runs_its_model() {
    let other = FakeEngine::builder().identity("other", [Format::Safetensors]).build();
    let engines = Engines::new(vec![Arc::new(FakeEngine::new()), Arc::new(other)]);
    let config = WorkerConfig::new(env!("CARGO_BIN_EXE_samovar-fake-worker"), [""; 0]);
    let engine = WorkerEngine::new(Arc::new(engines), config).unwrap();
    let load = |format| {
        let descriptor = Descriptor { format, ..FakeEngine::descriptor("fake", 1 << 20) };
        let (files, options, control) =
            (ModelFiles::of("/dev/null"), FakeEngine::options(), LoadControl::silent());
        engine.load(LoadRequest::new(&files, &descriptor, &options, &control))
    };
    load(Format::Gguf).unwrap().probe().unwrap();
    // The program of these workers is the fake engine alone.
    let failure = load(Format::Safetensors).map(drop).unwrap_err();
    assert!(failure.message.contains("there is no engine other"), "{failure:?}");
}
