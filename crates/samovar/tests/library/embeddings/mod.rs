//! The way of a request for vectors through the façade, on a fake engine: no native code, no sleeps.

mod engine;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use samovar::{
    AnswerEvent, Budget, Builder, CacheStatus, Common, Embed, EmbedInput, Embedded, ErrorKind, Failure,
    ModelSettings, Origin, PoolConfig, Pooling, Request, Runtime, TextRole, Urgency, WarmOptions,
};
use samovar_core::port::Capabilities;
use samovar_core::testing::fake::FakeEngine;
use samovar_core::units::KeepAlive;

use engine::{Embedders, INPUT_TOKENS, TEXT_BYTES};

/// The name under which the demo model makes vectors.
const VECTORS: &str = "vectors";

struct Fixture {
    runtime: Runtime,
    engine: Embedders,
    home: tempfile::TempDir,
}

/// A runtime with `demo`, which writes text, and the same model as `vectors`, which makes vectors as well.
fn fixture(engine: Embedders) -> Fixture {
    house_with(engine, |builder| builder)
}

fn house_with(engine: Embedders, more: impl FnOnce(Builder) -> Builder) -> Fixture {
    let home = tempfile::tempdir().expect("tempdir");
    let budget = Budget { bytes: 1 << 30, source: "a test".into() };
    let builder = Runtime::builder()
        .cache_dir(home.path().join("cache"))
        .pool(PoolConfig { min_residency_ms: 0, cores: 4, ..PoolConfig::with_budget(budget) })
        .engine(Arc::new(engine.clone()))
        .alias(VECTORS, "demo".parse().expect("a reference"), makes_vectors());
    let runtime = more(builder).build().expect("builds");
    Fixture { runtime, engine, home }
}

fn makes_vectors() -> ModelSettings {
    ModelSettings::default().pooling(Pooling::Mean).slots(8)
}

fn texts(count: usize) -> Vec<EmbedInput> {
    (0..count).map(|number| EmbedInput::Text(format!("text {number}"))).collect()
}

fn ask(count: usize) -> Request {
    Request::embed(VECTORS, Embed::new(texts(count)))
}

fn chat() -> Request {
    Request::text("demo", "Once upon a time").max_tokens(4)
}

/// Each input's vector is in its place.
fn check(vectors: &[Embedded], count: usize) {
    assert_eq!(vectors.len(), count);
    for (place, embedded) in vectors.iter().enumerate() {
        assert_eq!(embedded.index as usize, place);
        assert!(embedded.values.iter().all(|value| *value as usize == place), "{embedded:?}");
    }
}

impl Fixture {
    async fn failure_of(&self, request: Request) -> Failure {
        self.runtime.generate(request).collect_embedded().await.expect_err("fails")
    }

    async fn busy_slots(&self) -> u32 {
        self.runtime.stats().await.models.iter().map(|model| model.busy_slots).sum()
    }

    /// A model file of its own: the demo model under another name.
    fn file(&self, name: &str) -> PathBuf {
        let path = self.home.path().join(format!("{name}.gguf"));
        let demo = concat!(env!("CARGO_MANIFEST_DIR"), "/../../assets/demo-model/demo.gguf");
        fs_err::copy(demo, &path).expect("copies");
        path
    }
}

#[tokio::test]
async fn a_thousand_inputs_are_computed_in_parts_and_come_back_in_their_order() {
    let fixture = fixture(Embedders::new());
    let (vectors, summary) = fixture.runtime.generate(ask(1_000)).collect_embedded().await.expect("answers");
    check(&vectors, 1_000);
    assert_eq!((summary.usage.prompt_tokens, summary.usage.completion_tokens), (1_000 * INPUT_TOKENS, 0));
    let seen = fixture.engine.recorder.seen();
    assert!(seen.sizes.len() >= 4 && seen.sizes.iter().all(|size| *size <= 256), "{:?}", seen.sizes);
    assert_eq!(seen.sizes.iter().sum::<usize>(), 1_000);
    assert!(seen.most_running <= 2, "{}", seen.most_running);
    assert!(seen.urgencies.iter().all(|urgency| *urgency == Urgency::Bulk));
    let single = Request::embed(VECTORS, Embed::new(vec![EmbedInput::Text("text 7".to_owned())]));
    let (single, _) = fixture.runtime.generate(single).collect_embedded().await.expect("answers");
    assert_eq!(single[0].values, vectors[7].values);
    assert_eq!(fixture.runtime.buffers().used_bytes(), 0);
}

#[tokio::test]
async fn two_parts_are_on_their_way_so_that_the_instance_never_waits_for_the_next() {
    let fixture = fixture(Embedders::new());
    fixture.engine.recorder.gate.close();
    let answer = fixture.runtime.generate(ask(1_000));
    fixture.engine.recorder.until(|seen| seen.running == 2).await;
    fixture.engine.recorder.gate.open();
    check(&answer.collect_embedded().await.expect("answers").0, 1_000);
}

#[tokio::test]
async fn dropping_the_answer_cancels_every_part_and_frees_the_slot() {
    let fixture = fixture(Embedders::new());
    fixture.engine.recorder.gate.close();
    let answer = fixture.runtime.generate(ask(1_000));
    fixture.engine.recorder.until(|seen| seen.running == 2).await;
    drop(answer);
    fixture.engine.recorder.until(|seen| seen.running == 0).await;
    assert_eq!((fixture.busy_slots().await, fixture.engine.recorder.seen().vectors), (0, 0));
}

#[tokio::test]
async fn a_slow_reader_of_many_vectors_loses_none_and_holds_little_memory() {
    const UNREAD_MOST: u64 = 4 << 20;
    let fixture = fixture(Embedders::new());
    let info = fixture.runtime.embedder(VECTORS, Origin::Owner).await.expect("makes vectors");
    let count = (3 * UNREAD_MOST / (u64::from(info.dimensions) * 4)) as usize;
    let mut answer = fixture.runtime.generate(ask(count));
    fixture.engine.recorder.until(|seen| seen.vectors >= 256).await;
    let mut vectors = Vec::new();
    while let Some(event) = answer.next().await {
        assert!(fixture.runtime.buffers().used_bytes() <= UNREAD_MOST);
        match event {
            AnswerEvent::Embedded(embedded) => vectors.push(embedded),
            AnswerEvent::Failed(failure) => panic!("{failure:?}"),
            _ => {}
        }
    }
    vectors.sort_by_key(|embedded| embedded.index);
    check(&vectors, count);
}

#[tokio::test]
async fn a_deadline_gives_no_part_of_an_answer() {
    let fixture = fixture(Embedders::new());
    fixture.runtime.warm(VECTORS, WarmOptions::default()).await.expect("loads");
    fixture.engine.recorder.gate.close();
    fixture.engine.recorder.gate.admit(3);
    let failure = fixture.failure_of(ask(10).deadline(Duration::from_secs(1))).await;
    assert_eq!(failure.kind, ErrorKind::DeadlineExceeded);
    assert!(failure.message.contains("3 of 10 inputs"), "{failure}");
    assert!(!failure.may_retry() && failure.hint.is_some());
    fixture.engine.recorder.until(|seen| seen.running == 0).await;
    assert_eq!(fixture.busy_slots().await, 0);
}

#[tokio::test]
async fn a_query_reaches_the_instance_while_an_import_runs() {
    let fixture = fixture(Embedders::new());
    fixture.engine.recorder.gate.close();
    let import = fixture.runtime.generate(ask(2_000).client("import"));
    fixture.engine.recorder.until(|seen| seen.running == 2).await;
    let query = fixture.runtime.generate(ask(1).client("person"));
    let seen = fixture.engine.recorder.until(|seen| seen.running == 3).await;
    assert_eq!(seen.urgencies.last(), Some(&Urgency::Interactive));
    fixture.engine.recorder.gate.open();
    check(&query.collect_embedded().await.expect("answers").0, 1);
    check(&import.collect_embedded().await.expect("answers").0, 2_000);
}

#[tokio::test]
async fn an_import_gives_its_only_slot_to_a_query_that_waits_and_is_completed_afterwards() {
    const COUNT: usize = 2_000;
    let log = tempfile::NamedTempFile::new().expect("file");
    let fixture = house_with(Embedders::new(), |builder| {
        let demo = "demo".parse().expect("a reference");
        builder.alias("narrow", demo, makes_vectors().slots(1)).request_log(log.path())
    });
    let ask =
        |count, client: &str| Request::embed("narrow", Embed::new(texts(count))).client(client.to_owned());
    fixture.engine.recorder.gate.close();
    let mut import = fixture.runtime.generate(ask(COUNT, "import"));
    fixture.engine.recorder.until(|seen| seen.running == 2).await;
    let query = fixture.runtime.generate(ask(1, "person"));
    while fixture.runtime.stats().await.pool.queued != 1 {
        tokio::task::yield_now().await;
    }
    fixture.engine.recorder.gate.open();
    check(&query.collect_embedded().await.expect("answers").0, 1);
    let (mut granted, mut vectors, mut tokens) = (0, Vec::new(), 0);
    while let Some(event) = import.next().await {
        match event {
            AnswerEvent::Granted { .. } => granted += 1,
            AnswerEvent::Waiting(_) => assert_eq!(granted, 0, "the second wait is silent"),
            AnswerEvent::Embedded(embedded) => vectors.push(embedded),
            AnswerEvent::Done(summary) => tokens = summary.usage.prompt_tokens,
            AnswerEvent::Failed(failure) => panic!("{failure:?}"),
            _ => {}
        }
    }
    vectors.sort_by_key(|embedded| embedded.index);
    check(&vectors, COUNT);
    assert_eq!((granted, tokens), (1, COUNT as u32 * INPUT_TOKENS));
    let urgencies = fixture.engine.recorder.seen().urgencies;
    let place = urgencies.iter().position(|urgency| *urgency == Urgency::Interactive);
    assert_eq!(place, Some(2), "after the parts that were on their way: {urgencies:?}");
    assert!(urgencies.len() > 3, "{urgencies:?}");
    fixture.runtime.shutdown(Duration::from_secs(5)).await;
    let text = fs_err::read_to_string(log.path()).expect("log");
    assert_eq!(text.lines().filter(|line| line.contains("time_ms")).count(), 3, "a line a lease: {text}");
}

#[tokio::test]
async fn imports_that_have_begun_take_turns_on_one_slot() {
    const COUNT: usize = 1_000;
    let fixture = house_with(Embedders::new(), |builder| {
        builder.alias("narrow", "demo".parse().expect("a reference"), makes_vectors().slots(1))
    });
    let ask = |client: &str| {
        fixture
            .runtime
            .generate(Request::embed("narrow", Embed::new(texts(COUNT))).client(client.to_owned()))
            .collect_embedded()
    };
    let (one, other, third) = tokio::join!(ask("a"), ask("b"), ask("c"));
    for answer in [one, other, third] {
        check(&answer.expect("answers").0, COUNT);
    }
    assert_eq!(fixture.busy_slots().await, 0);
}

#[tokio::test]
async fn what_the_request_says_of_its_urgency_counts() {
    let fixture = fixture(Embedders::new());
    let mut embed = Embed::new(texts(1));
    embed.urgency = Some(Urgency::Bulk);
    fixture.runtime.generate(Request::embed(VECTORS, embed)).collect_embedded().await.expect("answers");
    assert_eq!(fixture.engine.recorder.seen().urgencies, [Urgency::Bulk]);
}

#[tokio::test]
async fn what_is_wrong_with_an_input_names_its_place_in_the_whole_request() {
    let fixture = fixture(Embedders::new());
    let mut inputs = texts(600);
    inputs[512] = EmbedInput::Text("x".repeat(TEXT_BYTES + 1));
    let failure = fixture.failure_of(Request::embed(VECTORS, Embed::new(inputs))).await;
    assert_eq!((failure.kind, failure.param.as_deref()), (ErrorKind::ContextExceeded, Some("input[512]")));
    assert!(failure.message.starts_with("input[512] "), "{failure}");
    assert!(failure.hint.is_some_and(|hint| hint.contains("truncated")));
    let nothing = fixture.failure_of(Request::embed(VECTORS, Embed::new(Vec::new()))).await;
    assert_eq!((nothing.kind, nothing.hint.is_some()), (ErrorKind::InvalidRequest, true));
}

#[tokio::test]
async fn a_text_that_is_too_long_is_not_told_to_ask_for_context_over_the_network() {
    let fixture = house_with(Embedders::new(), |builder| {
        let demo = "demo".parse().expect("a reference");
        builder.alias("short", demo, makes_vectors().context_tokens(64)).context_ceiling(256)
    });
    let long = || Embed::new(vec![EmbedInput::Text("x".repeat(TEXT_BYTES + 1))]);
    let failure = fixture.failure_of(Request::embed("short", long()).origin(Origin::Network)).await;
    let hint = failure.hint.expect("a hint");
    assert!(hint.contains("`truncate`") && !hint.contains("context_tokens"), "{hint}");
}

#[tokio::test]
async fn a_model_that_cannot_do_it_is_not_loaded_and_another_is_named() {
    let fixture = fixture(Embedders::new());
    let embed = Request::embed("demo", Embed::new(texts(1)));
    let rerank = Request::embed(VECTORS, Embed::rerank("a query", ["a document".to_owned()]));
    for (request, named) in
        [(embed.clone(), Some(VECTORS)), (embed.origin(Origin::Network), Some(VECTORS)), (rerank, None)]
    {
        let failure = fixture.failure_of(request).await;
        assert_eq!((failure.kind, failure.kind.surface().http_status), (ErrorKind::InvalidRequest, 400));
        assert_eq!(failure.param.as_deref(), Some("model"));
        let hint = failure.hint.expect("a hint");
        assert!(named.is_none_or(|name| hint.contains(name)), "{hint}");
    }
    let failure = fixture.runtime.embedder("demo", Origin::Owner).await.expect_err("makes none");
    assert!(failure.hint.is_some_and(|hint| hint.contains(VECTORS)));
    let alone = house_of_embedders();
    let failure = alone.runtime.generate(chat()).collect().await.expect_err("writes no text");
    assert_eq!((failure.kind, failure.param.as_deref()), (ErrorKind::InvalidRequest, Some("model")));
    assert!(failure.hint.is_some());
    assert_eq!(
        (fixture.engine.fake.counts().loads_started, alone.engine.fake.counts().loads_started),
        (0, 0)
    );
}

/// A fixture in which no model writes text.
fn house_of_embedders() -> Fixture {
    fixture(Embedders::of(Capabilities { can_generate: false, can_embed: true, ..FakeEngine::CAPABILITIES }))
}

#[tokio::test]
async fn documents_are_scored_by_a_model_that_can() {
    let fixture = fixture(Embedders::of(Capabilities {
        can_embed: false,
        can_rerank: true,
        ..FakeEngine::CAPABILITIES
    }));
    let documents = (0..3).map(|number| format!("document {number}"));
    let request = Request::embed(VECTORS, Embed::rerank("a query", documents));
    check(&fixture.runtime.generate(request).collect_embedded().await.expect("answers").0, 3);
    assert!(fixture.runtime.embedder(VECTORS, Origin::Owner).await.expect("scores").can_rerank);
    let failure = fixture.failure_of(ask(1)).await;
    assert_eq!(failure.kind, ErrorKind::InvalidRequest, "{failure}");
}

#[tokio::test]
async fn a_model_that_writes_no_text_makes_vectors_without_a_setting_for_many_at_once() {
    let fixture = house_of_embedders();
    let (vectors, _) = fixture
        .runtime
        .generate(Request::embed("demo", Embed::new(texts(3))))
        .collect_embedded()
        .await
        .expect("answers");
    check(&vectors, 3);
    let model = fixture.runtime.model("demo", Origin::Owner).await.expect("is known");
    assert_eq!((model.slots, &model.capabilities[..]), (64, &["embed".to_owned()][..]));
    let stats = fixture.runtime.stats().await.models;
    assert_eq!(stats[0].capabilities, ["embed"]);
    let both = self::fixture(Embedders::new()).runtime.model(VECTORS, Origin::Owner).await.expect("is known");
    assert_eq!(both.capabilities, ["generate", "embed"]);
}

#[tokio::test]
async fn a_model_for_text_and_one_for_vectors_are_preloaded_together() {
    let fixture = house_with(Embedders::new(), |builder| builder.preload("demo").preload(VECTORS));
    fixture.engine.fake.wait_until(|counts| counts.loads_finished == 2).await;
    for name in ["demo", VECTORS] {
        fixture.runtime.warm(name, WarmOptions::default()).await.expect("is ready");
    }
    let (_, text) = fixture.runtime.generate(chat()).collect().await.expect("answers");
    let (_, vectors) = fixture.runtime.generate(ask(1)).collect_embedded().await.expect("answers");
    assert_eq!((text.tier, vectors.tier), (CacheStatus::Hit, CacheStatus::Hit));
}

#[tokio::test]
async fn a_request_says_how_long_its_embedder_stays_ready() {
    let fixture = fixture(Embedders::new());
    let mut request = ask(1);
    request.common.keep_alive = Some(KeepAlive::ParkAtOnce);
    fixture.runtime.generate(request).collect_embedded().await.expect("answers");
    fixture.engine.fake.wait_until(|counts| counts.parks == 1).await;
    fixture.runtime.generate(ask(1)).collect_embedded().await.expect("answers");
    assert_eq!((fixture.engine.fake.counts().resumes, fixture.engine.fake.counts().loads_started), (1, 1));
}

#[tokio::test]
async fn an_embedder_and_a_model_for_text_make_room_for_each_other() {
    let fixture = fixture(Embedders::new());
    let one = fixture.runtime.spec(VECTORS).await.expect("is known").footprint().total_bytes();
    let other = fixture.runtime.spec("demo").await.expect("is known").footprint().total_bytes();
    let files = [fixture.file("writer"), fixture.file("embedder")];
    let [writer, embedder] = files.map(|path| path.to_string_lossy().parse().expect("a reference"));
    let engine = Embedders::new();
    let budget = Budget { bytes: one.max(other) + one.min(other) / 2, source: "a test".into() };
    let runtime = Runtime::builder()
        .cache_dir(fixture.home.path().join("another"))
        .pool(PoolConfig { min_residency_ms: 0, cores: 4, ..PoolConfig::with_budget(budget) })
        .engine(Arc::new(engine.clone()))
        .alias("writer", writer, ModelSettings::default())
        .alias(VECTORS, embedder, makes_vectors())
        .build()
        .expect("builds");
    for _ in 0..2 {
        let text = Request::text("writer", "Once upon a time").max_tokens(4);
        runtime.generate(text).collect().await.expect("answers");
        runtime.generate(ask(3)).collect_embedded().await.expect("answers");
        let pool = runtime.stats().await.pool;
        assert!(pool.resident_bytes <= pool.budget_bytes, "{pool:?}");
    }
    let pool = runtime.stats().await.pool;
    assert!(pool.evictions + pool.parked >= 3, "each needs the other's memory: {pool:?}");
}

#[tokio::test]
async fn names_whose_vectors_differ_have_instances_and_fingerprints_of_their_own() {
    let mean = makes_vectors();
    let names = [
        ("same", mean.clone().context_tokens(64)),
        ("first", makes_vectors().pooling(Pooling::Cls)),
        ("asks", mean.clone().query_prompt("query: ")),
        ("tells", mean.document_prompt("query: ")),
    ];
    let fixture = house_with(Embedders::new(), |builder| {
        let demo = || "demo".parse().expect("a reference");
        names.iter().fold(builder, |builder, (name, settings)| builder.alias(*name, demo(), settings.clone()))
    });
    let of = async |name: &str| fixture.runtime.embedder(name, Origin::Owner).await.expect("makes vectors");
    let usual = of(VECTORS).await;
    assert_eq!((usual.pooling, &usual.query_prompt[..], usual.can_rerank), (Pooling::Mean, "", false));
    assert_eq!(of("same").await.fingerprint, usual.fingerprint, "inputs may be as long as they will");
    assert_eq!(of("same").await.max_input_tokens, 64);
    for name in ["first", "asks", "tells"] {
        assert_ne!(of(name).await.fingerprint, usual.fingerprint, "{name}");
    }
    assert_eq!(fixture.engine.fake.counts().loads_started, 0, "nothing is loaded to tell this");
    for (name, loads) in [(VECTORS, 1), ("first", 2), ("asks", 2)] {
        let request = Request::embed(name, Embed::new(texts(1)));
        fixture.runtime.generate(request).collect_embedded().await.expect("answers");
        assert_eq!(fixture.engine.fake.counts().loads_started, loads, "{name}");
    }
}

#[tokio::test]
async fn prompts_are_put_before_texts_and_nothing_else() {
    let prompted = makes_vectors().query_prompt("query: ").document_prompt("passage: ");
    let fixture = house_with(Embedders::new(), |builder| {
        builder.alias("prompted", "demo".parse().expect("a reference"), prompted)
    });
    for role in [None, Some(TextRole::Query), Some(TextRole::Document)] {
        let mut embed =
            Embed::new(vec![EmbedInput::Text("text 5".to_owned()), EmbedInput::Tokens(vec![1, 2])]);
        embed.role = role;
        let request = Request::embed("prompted", embed);
        let (vectors, _) = fixture.runtime.generate(request).collect_embedded().await.expect("answers");
        assert_eq!(vectors[1].values[0] as u32, 2);
    }
    assert_eq!(fixture.engine.recorder.seen().texts, ["text 5", "query: text 5", "passage: text 5"]);
}

#[tokio::test]
async fn texts_become_tokens_and_tokens_texts() {
    let fixture = fixture(Embedders::new());
    let texts = ["hello there, <|im_end|>", "", "äöü"].map(str::to_owned).to_vec();
    let tokens = async |add_special, parse_special| {
        let common = Common::new(VECTORS);
        fixture.runtime.tokenize(common, texts.clone(), add_special, parse_special).await.expect("reads")
    };
    let plain = tokens(false, false).await;
    let back = fixture.runtime.detokenize(Common::new(VECTORS), plain.clone()).await.expect("reads");
    let back: Vec<String> = back.into_iter().map(|bytes| String::from_utf8(bytes).expect("text")).collect();
    assert_eq!(back, texts);
    let special = tokens(true, false).await;
    assert!(special.iter().zip(&plain).all(|(special, plain)| special.len() > plain.len()));
    assert!(tokens(false, true).await[0].len() < plain[0].len(), "a control token is one");
    let foreign = fixture.runtime.detokenize(Common::new(VECTORS), vec![vec![u32::MAX]]).await;
    assert_eq!(foreign.expect_err("is outside the vocabulary").kind, ErrorKind::InvalidRequest);
    let many = fixture.runtime.tokenize(Common::new(VECTORS), vec![String::new(); 1_025], true, false).await;
    assert_eq!(many.expect_err("is too much").kind, ErrorKind::InvalidRequest);
    assert_eq!(fixture.busy_slots().await, 0);
}

#[tokio::test]
async fn the_log_of_requests_counts_vectors_as_work_without_tokens() {
    let log = tempfile::NamedTempFile::new().expect("file");
    let fixture = house_with(Embedders::new(), |builder| builder.request_log(log.path()));
    fixture.runtime.generate(ask(3)).collect_embedded().await.expect("answers");
    fixture.runtime.shutdown(Duration::from_secs(5)).await;
    let text = fs_err::read_to_string(log.path()).expect("log");
    let line = text.lines().find(|line| line.contains("time_ms")).expect("a line");
    let line: serde_json::Value = serde_json::from_str(line).expect("JSON");
    assert_eq!(line["model"], VECTORS);
    assert!(line["tokens"] == 0 && line["hold_ms"].is_u64(), "{line}");
}
