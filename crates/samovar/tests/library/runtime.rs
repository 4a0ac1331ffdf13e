//! The way of a request through the façade, on the fake engine: no native code, no sleeps.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use samovar::store::StoreConfig;
use samovar::{
    AnswerEvent, Budget, CacheStatus, Common, Generate, Infill, Input, Message, ModelSettings, Origin,
    PoolConfig, Request, Runtime, SamplingOptions, WarmOptions, Work,
};
use samovar_core::generation::FinishReason;
use samovar_core::port::{
    Capabilities, Engine, EngineInfo, Instance, LoadRequest, PackRequest, PreparePlan, PrepareRequest,
    Preparer, PublishedFacts,
};
use samovar_core::testing::fake::{FakeEngine, Script};
use samovar_core::{
    Cost, Delta, Descriptor, ErrorKind, Failure, Footprint, LoadOptions, Quantization, Sampling, Speed,
};

/// Enough for a machine with much else to do to come as far as a test wants before it passes.
const DEADLINE: Duration = Duration::from_secs(1);

struct Fixture {
    runtime: Runtime,
    engine: FakeEngine,
    home: tempfile::TempDir,
}

fn fixture(engine: FakeEngine) -> Fixture {
    let home = tempfile::tempdir().expect("tempdir");
    let config = PoolConfig::with_budget(Budget { bytes: 1 << 30, source: "a test".into() });
    let mut store = StoreConfig::new(home.path().join("cache"), home.path().join("state"));
    store.sources.is_offline = true;
    let runtime = Runtime::builder()
        .store(store)
        .pool(config)
        .engine(Arc::new(engine.clone()))
        .build()
        .expect("builds");
    Fixture { runtime, engine, home }
}

impl Fixture {
    /// A second model file: the demo model under another name.
    async fn model_file(&self, name: &str) -> std::path::PathBuf {
        let demo = self.runtime.model("demo", Origin::Owner).await.expect("demo").path;
        let path = self.home.path().join(name);
        fs_err::copy(demo, &path).expect("copies");
        path
    }
}

/// The likeliest tokens alone: a draw may end the answer at once, or say no word.
fn hello() -> Request {
    Request::chat("demo", [Message::user("Hello there, samovar")]).sampling(Sampling::greedy()).max_tokens(6)
}

async fn failure_of(runtime: &Runtime, request: Request) -> Failure {
    runtime.generate(request).collect().await.expect_err("fails")
}

#[tokio::test]
async fn the_stop_string_that_ended_an_answer_is_told() {
    let fixture = fixture(FakeEngine::new());
    let ask = |stop: &[&str]| hello().max_tokens(100).stop(stop.iter().copied());
    let (text, summary) = fixture.runtime.generate(ask(&[])).collect().await.expect("answers");
    assert_eq!((summary.finish, summary.stopped_by), (FinishReason::Stop, None));
    let word = text.split(' ').next_back().expect("words").to_owned();
    let (_, summary) = fixture.runtime.generate(ask(&["", "xyzzy", &word])).collect().await.expect("answers");
    assert_eq!((summary.finish, summary.stopped_by), (FinishReason::Stop, Some(word)));
}

#[tokio::test]
async fn an_answer_that_has_had_its_time_ends_at_a_line_break() {
    let says = |text: &str| vec![Delta::Text(text.to_owned())];
    let deltas = ["one", " two\n", "three", "\nfour"].map(says).to_vec();
    let fixture = fixture(FakeEngine::builder().script(Script { deltas, ..Script::default() }).build());
    let ask = |limit| {
        let mut generate = Generate::new(Input::Chat(vec![Message::user("count")]));
        generate.answer_limit = limit;
        Request::of(Common::new("demo"), Work::Generate(generate))
    };
    let (text, summary) =
        fixture.runtime.generate(ask(Some(Duration::ZERO))).collect().await.expect("answers");
    assert_eq!((text.as_str(), summary.finish), ("one two\n", FinishReason::Length));
    assert_eq!(summary.usage.completion_tokens, 2);
    for limit in [None, Some(Duration::from_secs(3600))] {
        let (text, summary) = fixture.runtime.generate(ask(limit)).collect().await.expect("answers");
        assert_eq!((text.as_str(), summary.finish), ("one two\nthree\nfour", FinishReason::Stop));
    }
}

#[tokio::test]
async fn a_prompt_is_counted_and_rendered_without_being_computed() {
    let fixture = fixture(FakeEngine::new());
    let generate = Generate::new;
    let question = || Input::Chat(vec![Message::user("Hello there")]);
    let common = || Common::new("demo");
    let counted = fixture.runtime.count(common(), generate(question())).await.expect("counts");
    let text = fixture.runtime.render(common(), generate(question())).await.expect("renders");
    assert_eq!(text, "<|im_start|>user\nHello there<|im_end|>\n<|im_start|>assistant\n");
    assert_eq!(fixture.engine.counts().generations_started, 0);
    let request = Request::new("demo", question()).max_tokens(1);
    let (_, summary) = fixture.runtime.generate(request).collect().await.expect("answers");
    assert_eq!(summary.usage.prompt_tokens, counted);
    let long = Input::Text("x".repeat(10_000));
    assert_eq!(fixture.runtime.count(common(), generate(long)).await, Ok(10_001));
    let gap = || generate(Input::Infill(Infill::new("a", "b")));
    let failure = fixture.runtime.count(common(), gap()).await.expect_err("has no tokens for it");
    assert_eq!((failure.kind, failure.param.as_deref()), (ErrorKind::InvalidRequest, Some("model")));
    assert!(failure.hint.is_some(), "{failure:?}");
    let tokens = generate(Input::Tokens(vec![5]));
    let failure = fixture.runtime.render(common(), tokens).await.expect_err("no text");
    assert_eq!(failure.kind, ErrorKind::Unsupported);
}

#[tokio::test]
async fn ten_first_requests_cause_one_load() {
    let fixture = fixture(FakeEngine::builder().gate_loads().build());
    let answers: Vec<_> = (0..10).map(|_| fixture.runtime.generate(hello())).collect();
    fixture.engine.wait_until(|counts| counts.loads_started == 1).await;
    fixture.engine.loads_gate().open();
    let mut tiers = Vec::new();
    for answer in answers {
        let (text, summary) = answer.collect().await.expect("answers");
        assert!(!text.is_empty());
        tiers.push(summary.tier);
    }
    let stats = fixture.runtime.stats().await;
    assert_eq!((stats.pool.loads, fixture.engine.counts().loads_started), (1, 1));
    assert_eq!(tiers.iter().filter(|tier| **tier == CacheStatus::Cold).count(), 1, "{tiers:?}");
}

#[tokio::test]
async fn what_is_preloaded_is_ready_before_anybody_asks() {
    let home = tempfile::tempdir().expect("tempdir");
    let engine = FakeEngine::new();
    let runtime = Runtime::builder()
        .cache_dir(home.path())
        .engine(Arc::new(engine.clone()))
        .preload("demo")
        .preload("no-such-model")
        .build()
        .expect("builds");
    engine.wait_until(|counts| counts.loads_finished == 1).await;
    runtime.warm("demo", WarmOptions::default()).await.expect("is ready");
    let pool = runtime.stats().await.pool;
    assert_eq!((pool.loads, pool.requests, pool.hit_rate), (1, 0, 0.0));
    let (_, summary) = runtime.generate(hello()).collect().await.expect("answers");
    assert_eq!(summary.tier, CacheStatus::Hit);
    let pool = runtime.stats().await.pool;
    assert!(pool.hit_rate > 0.99 && pool.usage_percent > 0.0, "{pool:?}");
}

#[tokio::test]
async fn the_second_request_loads_nothing() {
    let fixture = fixture(FakeEngine::new());
    let (_, first) = fixture.runtime.generate(hello()).collect().await.expect("answers");
    let (_, second) = fixture.runtime.generate(hello()).collect().await.expect("answers");
    assert_eq!((first.tier, second.tier), (CacheStatus::Cold, CacheStatus::Hit));
    assert_eq!(fixture.runtime.stats().await.pool.loads, 1);
}

#[tokio::test]
async fn the_same_prompt_gives_the_same_greedy_text() {
    let fixture = fixture(FakeEngine::new());
    let (first, _) = fixture.runtime.generate(hello()).collect().await.expect("answers");
    let (second, _) = fixture.runtime.generate(hello()).collect().await.expect("answers");
    assert_eq!(first, second);
}

#[tokio::test]
async fn events_come_in_the_order_of_the_verbs() {
    let fixture = fixture(FakeEngine::new());
    let mut answer = fixture.runtime.generate(hello());
    let mut seen = String::new();
    while let Some(event) = answer.next().await {
        seen.push(match event {
            AnswerEvent::Waiting(_) => 'w',
            AnswerEvent::Granted { .. } => 'g',
            // A slow machine tells how far the prompt is.
            AnswerEvent::Prefilling { .. } => continue,
            AnswerEvent::Prefilled { .. } => 'p',
            AnswerEvent::Text { .. } => 't',
            AnswerEvent::Done(_) => 'd',
            AnswerEvent::Failed(_) => 'f',
            _ => '?',
        });
    }
    let seen = seen.trim_start_matches('w');
    assert!(seen.starts_with("gpt") && seen.ends_with("td"), "{seen}");
}

#[tokio::test]
async fn a_deadline_returns_the_text_so_far() {
    let fixture = fixture(FakeEngine::builder().gate_tokens().build());
    fixture.runtime.warm("demo", WarmOptions::default()).await.expect("loads");
    fixture.engine.tokens_gate().admit(3);
    let request = hello().deadline(DEADLINE);
    let (text, summary) = fixture.runtime.generate(request).collect().await.expect("a partial answer");
    assert_eq!(summary.finish, FinishReason::TimedOut);
    assert!(!text.is_empty() && summary.timings.total_ms >= DEADLINE.as_secs_f64() * 1e3);
    fixture.engine.wait_until(|counts| counts.generations_running == 0).await;
}

#[tokio::test]
async fn a_deadline_holds_while_the_instance_is_stuck_before_the_first_word() {
    let fixture = fixture(FakeEngine::builder().gate_requests().build());
    fixture.runtime.warm("demo", WarmOptions::default()).await.expect("loads");
    let request = hello().deadline(DEADLINE);
    let failure = failure_of(&fixture.runtime, request).await;
    assert_eq!(failure.kind, ErrorKind::DeadlineExceeded);
    assert!(failure.message.contains("no token yet, the prompt had not begun"), "{failure}");
    let stats = fixture.runtime.stats().await;
    assert_eq!(stats.models.iter().map(|model| model.busy_slots).sum::<u32>(), 0, "its place is free again");
    fixture.engine.requests_gate().open();
    fixture
        .engine
        .wait_until(|counts| counts.generations_started == 1 && counts.generations_running == 0)
        .await;
    assert_eq!(fixture.engine.counts().generations_finished, 0, "what it came to was given up");
}

#[tokio::test]
async fn dropping_an_answer_frees_its_slot() {
    let fixture = fixture(FakeEngine::builder().gate_tokens().build());
    let answer = fixture.runtime.generate(hello());
    fixture.engine.wait_until(|counts| counts.generations_running == 1).await;
    drop(answer);
    fixture.engine.wait_until(|counts| counts.generations_running == 0).await;
    let stats = fixture.runtime.stats().await;
    assert_eq!(stats.models.iter().map(|model| model.busy_slots).sum::<u32>(), 0);
}

#[tokio::test]
async fn a_reader_that_leaves_during_a_load_does_not_abort_it() {
    let fixture = fixture(FakeEngine::builder().gate_loads().build());
    let answer = fixture.runtime.generate(hello());
    fixture.engine.wait_until(|counts| counts.loads_started == 1).await;
    drop(answer);
    fixture.engine.loads_gate().open();
    let (_, summary) = fixture.runtime.generate(hello()).collect().await.expect("answers");
    assert_ne!(summary.tier, CacheStatus::Cold);
    assert_eq!(fixture.engine.counts().loads_started, 1);
}

/// An engine whose first instances die as they should say their first word.
struct Frail {
    dying: FakeEngine,
    sound: FakeEngine,
    deaths_left: AtomicU32,
}

impl Frail {
    fn new(deaths: u32) -> Arc<Self> {
        let script = Script { crash_after_tokens: Some(0), ..Script::default() };
        let dying = FakeEngine::builder().script(script).build();
        Arc::new(Self { dying, sound: FakeEngine::new(), deaths_left: AtomicU32::new(deaths) })
    }

    fn runtime(self: &Arc<Self>, home: &Path) -> Runtime {
        let budget = Budget { bytes: 1 << 30, source: "a test".into() };
        let engine: Arc<dyn Engine> = Arc::clone(self) as _;
        let builder = Runtime::builder().cache_dir(home).pool(PoolConfig::with_budget(budget));
        builder.engine(engine).build().expect("builds")
    }
}

#[deny(clippy::missing_trait_methods)]
impl Engine for Frail {
    fn engines(&self) -> Vec<EngineInfo> {
        self.sound.engines()
    }

    fn engine_for(&self, descriptor: &Descriptor) -> Result<EngineInfo, Failure> {
        self.sound.engine_for(descriptor)
    }

    fn capabilities(&self, descriptor: &Descriptor) -> Capabilities {
        self.sound.capabilities(descriptor)
    }

    fn footprint(&self, descriptor: &Descriptor, options: &LoadOptions) -> Result<Footprint, Failure> {
        self.sound.footprint(descriptor, options)
    }

    fn cost(&self, descriptor: &Descriptor, options: &LoadOptions, memory: Footprint) -> Cost {
        self.sound.cost(descriptor, options, memory)
    }

    fn packing(&self, descriptor: &Descriptor) -> Option<String> {
        self.sound.packing(descriptor)
    }

    fn packing_footprint(&self, descriptor: &Descriptor) -> Result<Footprint, Failure> {
        self.sound.packing_footprint(descriptor)
    }

    fn pack(&self, request: PackRequest<'_>) -> Result<u64, Failure> {
        self.sound.pack(request)
    }

    fn calibrate(&self, request: LoadRequest<'_>) -> Result<Vec<Speed>, Failure> {
        self.sound.calibrate(request)
    }

    fn preparer(&self) -> Option<Preparer> {
        self.sound.preparer()
    }

    fn describe(&self, folder: &Path) -> Result<PublishedFacts, Failure> {
        self.sound.describe(folder)
    }

    fn plan_preparation(&self, folder: &Path, quantization: Quantization) -> Result<PreparePlan, Failure> {
        self.sound.plan_preparation(folder, quantization)
    }

    fn prepare(&self, request: PrepareRequest<'_>) -> Result<u64, Failure> {
        self.sound.prepare(request)
    }

    fn load(&self, request: LoadRequest<'_>) -> Result<Arc<dyn Instance>, Failure> {
        let left =
            self.deaths_left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        let engine = if left.is_ok() { &self.dying } else { &self.sound };
        engine.load(request)
    }
}

#[tokio::test]
async fn a_death_before_the_first_word_is_no_matter_of_the_caller() {
    let home = tempfile::tempdir().expect("tempdir");
    let engine = Frail::new(1);
    let runtime = engine.runtime(home.path());
    let (text, _) = runtime.generate(hello()).collect().await.expect("the second instance answers");
    assert!(!text.is_empty());
    assert_eq!(engine.dying.counts().generations_started, 1);
    assert_eq!(engine.sound.counts().generations_started, 1);
}

#[tokio::test]
async fn two_deaths_before_the_first_word_are_told() {
    let home = tempfile::tempdir().expect("tempdir");
    let engine = Frail::new(u32::MAX);
    let failure = failure_of(&engine.runtime(home.path()), hello()).await;
    assert_eq!(failure.kind, ErrorKind::EngineFailed, "{failure}");
    assert_eq!(engine.dying.counts().generations_started, 2, "it was tried once more, and not again");
}

#[tokio::test]
async fn a_death_after_the_first_word_is_told_and_nothing_is_said_twice() {
    let script = Script { crash_after_tokens: Some(2), ..Script::default() };
    let fixture = fixture(FakeEngine::builder().script(script).build());
    let failure = failure_of(&fixture.runtime, hello()).await;
    assert_eq!(failure.kind, ErrorKind::EngineFailed, "{failure}");
    assert_eq!(fixture.engine.counts().generations_started, 1);
}

#[tokio::test]
async fn the_network_may_not_name_files_until_their_owner_did() {
    let fixture = fixture(FakeEngine::new());
    let path = fixture.model_file("tiny-story.gguf").await;
    let by_path = |origin| Request::text(path.to_string_lossy(), "Once").origin(origin);
    let by_name = || Request::text("tiny-story", "Once").origin(Origin::Network);

    assert_eq!(failure_of(&fixture.runtime, by_path(Origin::Network)).await.kind, ErrorKind::Forbidden);
    assert_eq!(failure_of(&fixture.runtime, by_name()).await.kind, ErrorKind::NotFound);
    fixture.runtime.generate(by_path(Origin::Owner)).collect().await.expect("the owner may");
    fixture.runtime.generate(by_name()).collect().await.expect("now everyone may");
    assert!(fixture.runtime.models().await.iter().any(|model| model.name == "tiny-story"));
}

#[tokio::test]
async fn a_file_replaced_under_its_name_is_loaded_anew() {
    let fixture = fixture(FakeEngine::new());
    let path = fixture.model_file("story.gguf").await;
    let ask = || Request::text(path.to_string_lossy(), "Once").max_tokens(2);
    fixture.runtime.generate(ask()).collect().await.expect("answers");
    let fresh = fixture.model_file("fresh.gguf").await;
    fs_err::rename(fresh, &path).expect("renames");
    let (_, summary) = fixture.runtime.generate(ask()).collect().await.expect("answers");
    assert_eq!(summary.tier, CacheStatus::Cold);
}

#[tokio::test]
async fn an_alias_brings_its_settings() {
    let home = tempfile::tempdir().expect("tempdir");
    let settings = ModelSettings::default().context_tokens(128).slots(3);
    let runtime = Runtime::builder()
        .cache_dir(home.path())
        .engine(Arc::new(FakeEngine::new()))
        .alias("writer", "demo".parse().expect("a reference"), settings)
        .build()
        .expect("builds");
    let info = runtime.model("writer", Origin::Network).await.expect("is known");
    assert_eq!((info.context_tokens, info.slots), (128, 3));
}

#[tokio::test]
async fn what_an_alias_sets_for_answers_holds_where_a_request_says_nothing() {
    let home = tempfile::tempdir().expect("tempdir");
    let greedy = SamplingOptions { temperature: Some(0.0), ..SamplingOptions::default() };
    let greedy = ModelSettings::default().sampling(greedy);
    let writer = greedy.clone().stop(["kettle"]).system("Rhyme about the tea.");
    let demo = || "demo".parse().expect("a reference");
    let runtime = Runtime::builder()
        .cache_dir(home.path())
        .engine(Arc::new(FakeEngine::new()))
        .alias("writer", demo(), writer)
        .alias("brief", demo(), greedy.max_tokens(2))
        .build()
        .expect("builds");
    let answer = async |request: Request| runtime.generate(request).collect().await.expect("answers");
    // The fake engine says the last words of its prompt first.
    let once = |model: &str| Request::text(model, "once the fox and a kettle");
    assert_eq!(answer(once("writer").max_tokens(6)).await.0.trim(), "fox and a");
    assert!(answer(once("writer").max_tokens(6).stop(["and"])).await.0.trim().starts_with("fox"));
    assert_eq!(answer(once("brief")).await.1.usage.completion_tokens, 2);
    assert_eq!(answer(once("brief").max_tokens(3)).await.1.usage.completion_tokens, 3);
    let prompt_tokens = async |model: &str, system: Option<&str>| {
        let messages = system.map(Message::system).into_iter().chain([Message::user("Hello")]);
        answer(Request::chat(model, messages).max_tokens(1)).await.1.usage.prompt_tokens
    };
    let (own, none) = (prompt_tokens("writer", Some("Hi.")).await, prompt_tokens("demo", Some("Hi.")).await);
    assert_eq!(own, none, "a request's own system message counts");
    assert!(prompt_tokens("writer", None).await > prompt_tokens("demo", None).await);
}

#[tokio::test]
async fn wrong_references_say_what_to_do() {
    let fixture = fixture(FakeEngine::new());
    let cases = [
        ("no-such-model", ErrorKind::NotFound, "demo"),
        ("./no/such/file.gguf", ErrorKind::NotFound, "path"),
        ("org/name:Q4_K_M", ErrorKind::Unavailable, "offline"),
        ("hf://org/name", ErrorKind::Unavailable, "offline"),
        ("", ErrorKind::InvalidRequest, ""),
    ];
    for (reference, kind, word) in cases {
        let failure = failure_of(&fixture.runtime, Request::text(reference, "Once")).await;
        assert_eq!(failure.kind, kind, "{reference}: {failure}");
        let hint = failure.hint.expect("a hint");
        assert!(hint.contains(word), "{reference}: {hint}");
    }
}

#[tokio::test]
async fn who_asks_over_the_network_hears_of_names_and_never_of_paths() {
    let fixture = fixture(FakeEngine::new());
    for reference in ["no-such-model", "no such model", "qwen2.5:7b"] {
        let request = Request::text(reference, "Once").origin(Origin::Network);
        let hint = failure_of(&fixture.runtime, request).await.hint.expect("a hint");
        assert_eq!(hint, "write one of the names that are known: demo", "{reference}");
    }
    let hint = failure_of(&fixture.runtime, Request::text("qwen2.5:7b", "Once")).await.hint.expect("a hint");
    assert!(hint.ends_with("ollama://qwen2.5:7b"), "{hint}");
}

#[tokio::test]
async fn a_deadline_before_the_first_token_tells_how_far_the_prompt_was() {
    let fixture = fixture(FakeEngine::builder().gate_tokens().build());
    fixture.runtime.warm("demo", WarmOptions::default()).await.expect("loads");
    let failure = failure_of(&fixture.runtime, hello().deadline(DEADLINE)).await;
    assert_eq!(failure.kind, ErrorKind::DeadlineExceeded);
    assert!(
        failure.message.contains("no token yet") && failure.message.contains("prompt tokens computed"),
        "{failure}"
    );
    assert!(failure.hint.is_some_and(|hint| hint.contains("more time")));
}

#[tokio::test]
async fn files_that_are_no_models_are_refused_before_any_engine_sees_them() {
    let fixture = fixture(FakeEngine::new());
    let broken = fixture.home.path().join("broken.gguf");
    fs_err::write(&broken, b"GGUF and then nothing").expect("writes");
    for path in [broken.as_path(), fixture.home.path(), Path::new("/dev/null")] {
        let failure = failure_of(&fixture.runtime, Request::text(path.to_string_lossy(), "Once")).await;
        assert!(
            matches!(failure.kind, ErrorKind::InvalidModel | ErrorKind::InvalidRequest),
            "{}: {failure:?}",
            path.display()
        );
    }
    assert_eq!(fixture.engine.counts().loads_started, 0);
    let names: Vec<_> = fixture.runtime.models().await.into_iter().map(|model| model.name).collect();
    assert_eq!(names, ["demo"], "what was refused gets no name");
    let hint = failure_of(&fixture.runtime, Request::text("nothing", "Once")).await.hint.expect("a hint");
    assert!(!hint.contains("broken"), "{hint}");
}

#[tokio::test]
async fn a_model_larger_than_the_budget_is_refused_from_its_header() {
    let home = tempfile::tempdir().expect("tempdir");
    let engine = FakeEngine::new();
    let runtime = Runtime::builder()
        .cache_dir(home.path())
        .pool(PoolConfig::with_budget(Budget { bytes: 1 << 20, source: "a test".into() }))
        .engine(Arc::new(engine.clone()))
        .build()
        .expect("builds");
    let failure = failure_of(&runtime, hello()).await;
    assert_eq!(failure.kind, ErrorKind::TooLarge, "{failure}");
    assert_eq!(engine.counts().loads_started, 0);
}

#[tokio::test]
async fn a_prompt_longer_than_the_context_names_both_numbers() {
    let fixture = fixture(FakeEngine::new());
    let request = Request::new("demo", Input::Tokens(vec![5; 600]));
    let failure = failure_of(&fixture.runtime, request).await;
    assert_eq!(failure.kind, ErrorKind::ContextExceeded, "{failure}");
    assert!(failure.message.contains("600") && failure.message.contains("512"), "{failure}");
}

#[tokio::test]
async fn shutdown_lets_running_answers_finish_and_takes_no_more() {
    let fixture = fixture(FakeEngine::builder().gate_tokens().build());
    let answer = fixture.runtime.generate(hello());
    fixture.engine.wait_until(|counts| counts.generations_running == 1).await;
    let leaving = {
        let runtime = fixture.runtime.clone();
        tokio::spawn(async move { runtime.shutdown(Duration::from_secs(60)).await })
    };
    fixture.engine.tokens_gate().open();
    answer.collect().await.expect("the running answer finishes");
    leaving.await.expect("shuts down");
    assert_eq!(fixture.engine.counts().live_instances, 0);
    assert_eq!(failure_of(&fixture.runtime, hello()).await.kind, ErrorKind::Unavailable);
}

/// A long answer that tells much of each token.
fn talkative(tokens: u32) -> Request {
    hello().max_tokens(tokens).logprobs(20).ignore_eos()
}

#[tokio::test]
async fn four_unread_answers_hold_no_slot_from_the_fifth_request() {
    let fixture = fixture(FakeEngine::new());
    let unread: Vec<_> = (0..4).map(|_| fixture.runtime.generate(talkative(300))).collect();
    fixture.engine.wait_until(|counts| counts.generations_finished == 4).await;
    let fifth = fixture.runtime.generate(hello()).collect();
    tokio::time::timeout(Duration::from_secs(20), fifth).await.expect("is served").expect("answers");
    assert!(fixture.runtime.buffers().used_bytes() > 100_000, "what is not read is counted");
    for answer in unread {
        let (_, summary) = answer.collect().await.expect("who reads late reads all");
        assert_eq!(summary.usage.completion_tokens, 300);
    }
    assert_eq!(fixture.runtime.buffers().used_bytes(), 0);
}

#[tokio::test]
async fn a_reader_that_leaves_too_much_unread_loses_its_own_answer_and_holds_no_slot() {
    let home = tempfile::tempdir().expect("tempdir");
    let engine = FakeEngine::new();
    let one_slot = ModelSettings::default().slots(1);
    let builder = Runtime::builder().cache_dir(home.path()).engine(Arc::new(engine.clone()));
    let runtime = builder.defaults(one_slot).buffers(64 << 20).build().expect("builds");
    // Each token tells the probabilities of 256 others: some 15 KB.
    let unread = runtime.generate(talkative(400).logprobs(256));
    engine.wait_until(|counts| counts.generations_started == 1).await;
    let next = runtime.generate(hello().ignore_eos()).collect();
    let next = tokio::time::timeout(Duration::from_secs(20), next).await.expect("the slot is free");
    assert_eq!(next.expect("answers").1.usage.completion_tokens, 6);
    let failure = unread.collect().await.expect_err("it was ended");
    assert_eq!(failure.kind, ErrorKind::Cancelled, "{failure}");
    assert!(failure.message.contains("unread"), "{failure}");
    assert_eq!(runtime.buffers().used_bytes(), 0);
}

#[tokio::test]
async fn small_answers_are_given_when_large_ones_take_all_memory() {
    let home = tempfile::tempdir().expect("tempdir");
    let engine = FakeEngine::new();
    let builder = Runtime::builder().cache_dir(home.path()).engine(Arc::new(engine.clone())).buffers(40_000);
    let runtime = builder.build().expect("builds");
    let unread = runtime.generate(talkative(1_000));
    // It has been broken off, or has ended, before any of it is read.
    engine.wait_until(|counts| counts.generations_finished + counts.generations_cancelled == 1).await;
    let (_, summary) = runtime.generate(hello().ignore_eos()).collect().await.expect("answers");
    assert_eq!(summary.usage.completion_tokens, 6);
    let refused = unread.collect().await.expect_err("no memory was left for it");
    assert_eq!(refused.kind, ErrorKind::Busy, "{refused}");
    assert!(refused.retry_after_ms.is_some());
}
