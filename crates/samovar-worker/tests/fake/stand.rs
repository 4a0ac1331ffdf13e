//! Workers with a fake engine, and what the process has of everything that must not leak.

#![allow(clippy::unwrap_used, reason = "helpers of tests: what fails panics")]

use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use samovar_core::embedding::{EmbedInput, EmbedOutput, EmbedRequest, Truncate, Urgency};
use samovar_core::generation::{Generation, GenerationRequest, Prompt, Sampling, TokenEvent};
use samovar_core::port::{Engine, Instance, LoadControl, LoadRequest};
use samovar_core::testing::FakeEngine;
use samovar_core::testing::fake::Script;
use samovar_core::{ErrorKind, Failure, ModelFiles};
use samovar_worker::sandbox::Mode;
use samovar_worker::{Timeouts, WorkerConfig, WorkerEngine};

/// How long anything may take on a slow and busy machine.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

/// What the weights are known by that an engine packs or prepares, here and in its workers.
pub(crate) const PACKING: &str = "fake-here";

/// An engine whose workers have these faults.
pub(crate) fn engine(faults: &[&str]) -> WorkerEngine {
    engine_with_timeouts(faults, Timeouts { heartbeat: Duration::from_millis(20), ..Timeouts::default() })
}

pub(crate) fn engine_with_timeouts(faults: &[&str], timeouts: Timeouts) -> WorkerEngine {
    let packing = format!("packing={PACKING}");
    let faults = faults.iter().copied().chain([&packing[..]]);
    let mut config = WorkerConfig::new(env!("CARGO_BIN_EXE_samovar-fake-worker"), faults);
    config.sandbox = Mode::Auto;
    config.timeouts = timeouts;
    WorkerEngine::new(Arc::new(inner()), config).unwrap()
}

/// What the parent asks for names and arithmetic.
fn inner() -> FakeEngine {
    let here = || Some(PACKING.to_owned());
    let script = Script { packing: here(), preparing: here(), ..Script::default() };
    FakeEngine::builder().capabilities(FakeEngine::EMBEDS).script(script).build()
}

/// A load, and the listener to the instance's death.
pub(crate) fn load(engine: &WorkerEngine) -> (Result<Arc<dyn Instance>, Failure>, Obituaries) {
    let obituaries = Obituaries::default();
    let control = LoadControl::silent().on_death({
        let obituaries = obituaries.clone();
        move |failure| obituaries.put(failure)
    });
    (load_with(engine, &control), obituaries)
}

pub(crate) fn load_with(engine: &WorkerEngine, control: &LoadControl) -> Result<Arc<dyn Instance>, Failure> {
    let (files, descriptor) = (ModelFiles::of("/dev/null"), FakeEngine::descriptor("fake", 1 << 20));
    engine.load(LoadRequest::new(&files, &descriptor, &FakeEngine::embedder_options(), control))
}

/// An instance that lives, of workers that do these deeds later.
pub(crate) fn instance(faults: &[&str]) -> (Arc<dyn Instance>, Obituaries) {
    let (instance, obituaries) = load(&engine(faults));
    (instance.unwrap(), obituaries)
}

/// News of deaths.
#[derive(Clone, Default)]
pub(crate) struct Obituaries {
    inner: Arc<(Mutex<Vec<Failure>>, Condvar)>,
}

impl Obituaries {
    fn put(&self, failure: Failure) {
        self.inner.0.lock().unwrap().push(failure);
        self.inner.1.notify_all();
    }

    pub(crate) fn all(&self) -> Vec<Failure> {
        self.inner.0.lock().unwrap().clone()
    }

    /// Waits for the first.
    #[track_caller]
    pub(crate) fn first(&self) -> Failure {
        let all = self.inner.0.lock().unwrap();
        let (all, waited) = self.inner.1.wait_timeout_while(all, LIMIT, |all| all.is_empty()).unwrap();
        assert!(!waited.timed_out(), "no instance died within {LIMIT:?}");
        all[0].clone()
    }
}

/// A long answer.
pub(crate) fn long_request() -> GenerationRequest {
    GenerationRequest {
        sampling: Sampling::greedy(),
        ignore_eos: true,
        ..GenerationRequest::new(Prompt::Tokens(vec![5, 6, 7]))
    }
}

/// A request for the vectors of so many short texts.
pub(crate) fn vectors(inputs: usize) -> EmbedRequest {
    EmbedRequest {
        inputs: (0..inputs).map(|number| EmbedInput::Text(format!("text {number}"))).collect(),
        output: EmbedOutput::Vector { dimensions: None, normalize: true },
        truncate: Truncate::Refuse,
        urgency: Urgency::Bulk,
    }
}

/// Every event of an answer.
pub(crate) fn events(mut generation: Generation) -> Vec<TokenEvent> {
    let mut events = Vec::new();
    while let Some(event) = generation.blocking_next() {
        events.push(event);
    }
    events
}

/// The text of an answer that broke off, and how it did; checks that it ended once.
#[track_caller]
pub(crate) fn broken(events: &[TokenEvent]) -> (usize, Failure) {
    let ends = events.iter().filter(|event| matches!(event, TokenEvent::Done(_) | TokenEvent::Failed(_)));
    assert_eq!(ends.count(), 1, "{events:?}");
    let tokens = events.iter().filter(|event| matches!(event, TokenEvent::Token { .. })).count();
    match events.last() {
        Some(TokenEvent::Failed(failure)) => (tokens, failure.clone()),
        other => panic!("ends with {other:?}"),
    }
}

/// What `generate` said, at once or as its only event.
#[track_caller]
pub(crate) fn refusal(outcome: Result<Generation, Failure>) -> Failure {
    match outcome {
        Err(failure) => failure,
        Ok(generation) => broken(&events(generation)).1,
    }
}

#[track_caller]
pub(crate) fn assert_died_of(failure: &Failure, words: &str) {
    assert_eq!(failure.kind, ErrorKind::EngineFailed, "{failure:?}");
    assert!(failure.message.contains(words), "{words:?} is not in {:?}", failure.message);
    assert!(failure.hint.is_some(), "{failure:?}");
}

/// The child of this process with this fault `name=NAME`.
#[track_caller]
pub(crate) fn child_named(name: &str) -> rustix::process::Pid {
    find_child(name).unwrap()
}

/// The same, if it lives.
#[allow(clippy::disallowed_methods, reason = "what has ended meanwhile is no error")]
pub(crate) fn find_child(name: &str) -> Option<rustix::process::Pid> {
    let tasks = fs_err::read_dir("/proc/self/task").unwrap().flatten();
    let children = tasks.flat_map(|task| {
        let text = std::fs::read_to_string(task.path().join("children")).unwrap_or_default();
        text.split_whitespace().map(|pid| pid.parse::<i32>().unwrap()).collect::<Vec<_>>()
    });
    let mark = format!("name={name}");
    let mut named = children.filter(|pid| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.split(|byte| *byte == 0).any(|argument| argument == mark.as_bytes())
    });
    rustix::process::Pid::from_raw(named.next()?)
}
