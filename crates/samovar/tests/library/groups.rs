//! Several instances of a model, models that need others, and names that differ in their context alone: from their
//! settings to what is in memory.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use samovar::{
    Budget, CacheStatus, Input, ModelSettings, ModelStats, Origin, PoolConfig, Request, Runtime, Wait,
    WarmOptions,
};
use samovar_core::testing::fake::FakeEngine;
use samovar_core::{ErrorKind, Sampling};
use tokio::sync::mpsc;

struct Fixture {
    home: tempfile::TempDir,
    engine: FakeEngine,
}

impl Fixture {
    fn new(engine: FakeEngine) -> Self {
        Self { home: tempfile::tempdir().expect("tempdir"), engine }
    }

    /// A model file of its own: the demo model under another name.
    fn file(&self, name: &str) -> PathBuf {
        let path = self.home.path().join(format!("{name}.gguf"));
        let demo = concat!(env!("CARGO_MANIFEST_DIR"), "/../../assets/demo-model/demo.gguf");
        fs_err::copy(demo, &path).expect("copies");
        path
    }

    /// A runtime in which each of these names is a file with settings.
    fn runtime(&self, budget_bytes: u64, names: &[(&str, &PathBuf, ModelSettings)]) -> Runtime {
        let budget = Budget { bytes: budget_bytes, source: "a test".into() };
        let builder = Runtime::builder()
            .cache_dir(self.home.path().join("cache"))
            .pool(PoolConfig { min_residency_ms: 0, cores: 4, ..PoolConfig::with_budget(budget) })
            .engine(Arc::new(self.engine.clone()));
        let named = names.iter().fold(builder, |builder, (name, path, settings)| {
            let source = path.to_string_lossy().parse().expect("a reference");
            builder.alias(*name, source, settings.clone())
        });
        named.build().expect("builds")
    }
}

fn needs(names: &[&str]) -> ModelSettings {
    ModelSettings::default().needs(names.iter().copied())
}

fn ask(model: &str) -> Request {
    Request::text(model, "Once upon a time").sampling(Sampling::greedy()).max_tokens(4)
}

async fn model(runtime: &Runtime, name: &str) -> ModelStats {
    let models = runtime.stats().await.models;
    models.into_iter().find(|model| model.name == name).expect("was asked for")
}

#[tokio::test]
async fn a_model_and_what_it_needs_load_together_serve_together_and_leave_together() {
    let fixture = Fixture::new(FakeEngine::builder().gate_tokens().build());
    let [chat, draft, eyes] = ["chat", "draft", "eyes"].map(|name| fixture.file(name));
    let names = [
        ("chat", &chat, needs(&["draft", "eyes"])),
        ("draft", &draft, ModelSettings::default()),
        ("eyes", &eyes, ModelSettings::default()),
    ];
    let runtime = fixture.runtime(1 << 30, &names);
    let answer = runtime.generate(ask("chat"));
    fixture.engine.wait_until(|counts| counts.generations_running == 1).await;
    assert_eq!(fixture.engine.counts().loads_finished, 3, "no request is served before all are there");
    // In use with it, though no request asked for it.
    assert_eq!(runtime.unload("draft").await.expect("is known"), 1);
    assert_eq!(fixture.engine.counts().live_instances, 3, "a model in use stays");
    fixture.engine.tokens_gate().open();
    answer.collect().await.expect("answers");
    assert_eq!(model(&runtime, "chat").await.needs, ["draft", "eyes"]);
    runtime.unload("chat").await.expect("is known");
    fixture.engine.wait_until(|counts| counts.live_instances == 0).await;
    assert_eq!(fixture.engine.counts().loads_finished, 3);
}

#[tokio::test]
async fn a_group_that_does_not_fit_is_refused_whole_and_loads_nothing() {
    let fixture = Fixture::new(FakeEngine::new());
    let [chat, draft] = ["chat", "draft"].map(|name| fixture.file(name));
    let names = [("chat", &chat, needs(&["draft"])), ("draft", &draft, ModelSettings::default())];
    let room = Fixture::new(FakeEngine::new());
    let one = room.runtime(1 << 30, &[]).spec("demo").await.expect("is known").footprint().total_bytes();
    let runtime = fixture.runtime(one + one / 2, &names);
    let failure = runtime.generate(ask("chat")).collect().await.expect_err("does not fit");
    assert_eq!(failure.kind, ErrorKind::TooLarge, "{failure:?}");
    assert_eq!(fixture.engine.counts().loads_started, 0);
    runtime.generate(ask("draft")).collect().await.expect("fits by itself");
}

#[tokio::test]
async fn needs_that_can_not_be_met_are_told_before_anything_is_loaded() {
    let fixture = Fixture::new(FakeEngine::new());
    let [one, other] = ["one", "other"].map(|name| fixture.file(name));
    let gone = fixture.home.path().join("gone.gguf");
    let names = [
        ("circle", &one, needs(&["back"])),
        ("back", &other, needs(&["circle"])),
        ("itself", &one, needs(&["same"])),
        ("same", &one, ModelSettings::default()),
        ("unknown", &one, needs(&["nobody"])),
        ("lost", &one, needs(&["gone"])),
        ("gone", &gone, ModelSettings::default()),
    ];
    let runtime = fixture.runtime(1 << 30, &names);
    for (name, kind, word) in [
        ("circle", ErrorKind::InvalidRequest, "circle"),
        ("itself", ErrorKind::InvalidRequest, "same model"),
        ("unknown", ErrorKind::NotFound, "nobody"),
        ("lost", ErrorKind::NotFound, "gone.gguf"),
    ] {
        let failure = runtime.generate(ask(name)).collect().await.expect_err("can not be met");
        assert_eq!(failure.kind, kind, "{name}: {failure:?}");
        assert!(failure.message.contains(word) && failure.hint.is_some(), "{name}: {failure:?}");
    }
    assert_eq!(fixture.engine.counts().loads_started, 0);
    let listed: Vec<_> = runtime.models().await.into_iter().map(|model| model.name).collect();
    assert_eq!(listed, ["demo", "same"], "what can not be loaded is not offered");
}

#[tokio::test]
async fn three_instances_are_announced_one_by_one_and_share_their_weights() {
    let fixture = Fixture::new(FakeEngine::builder().gate_loads().build());
    let settings = ModelSettings::default().min_instances(3);
    let path = fixture.file("crowd");
    let runtime = fixture.runtime(1 << 30, &[("crowd", &path, settings)]);
    let info = runtime.model("crowd", Origin::Network).await.expect("is known");
    assert_eq!((info.instances.min, info.instances.max), (3, 3));
    let (told, mut waits) = mpsc::channel(1_000);
    let warming = tokio::spawn({
        let runtime = runtime.clone();
        async move { runtime.warm("crowd", WarmOptions::default().waits(told)).await }
    });
    for number in 1..=3 {
        loop {
            let wait = waits.recv().await.expect("it is told before it is loaded");
            if matches!(wait, Wait::Loading { instance, of: 3, .. } if instance == number) {
                break;
            }
        }
        fixture.engine.loads_gate().admit(1);
    }
    warming.await.expect("no panic").expect("loads");
    fixture.engine.wait_until(|counts| counts.live_instances == 3).await;
    let one = runtime.spec("crowd").await.expect("is known").footprint();
    let pool = loop {
        let pool = runtime.stats().await.pool;
        if pool.reserved_bytes == 0 {
            break pool;
        }
        tokio::task::yield_now().await;
    };
    assert_eq!(pool.resident_bytes, 3 * one.held_bytes + one.mapped_bytes);
    let crowd = model(&runtime, "crowd").await;
    assert_eq!((crowd.instances, crowd.instances_max), (3, 3));
    assert_eq!(runtime.unload("crowd").await.expect("is known"), 3);
    fixture.engine.wait_until(|counts| counts.live_instances == 0).await;
}

#[tokio::test]
async fn a_model_grows_to_its_most_instances_under_load_and_no_further() {
    let fixture = Fixture::new(FakeEngine::builder().gate_tokens().build());
    let settings = ModelSettings::default().max_instances(2).slots(1);
    let path = fixture.file("pair");
    let runtime = fixture.runtime(1 << 30, &[("pair", &path, settings)]);
    let info = runtime.model("pair", Origin::Network).await.expect("is known");
    assert_eq!((info.instances.min, info.instances.max), (1, 2));
    let first = runtime.generate(ask("pair"));
    fixture.engine.wait_until(|counts| counts.generations_running == 1).await;
    assert_eq!(fixture.engine.counts().live_instances, 1, "one is enough for one");
    let others = [(); 2].map(|()| runtime.generate(ask("pair")));
    fixture.engine.wait_until(|counts| counts.generations_running == 2).await;
    while model(&runtime, "pair").await.queued != 1 {
        tokio::task::yield_now().await;
    }
    let pair = model(&runtime, "pair").await;
    assert_eq!((pair.instances, pair.instances_max, pair.busy_slots), (2, 2, 2));
    fixture.engine.tokens_gate().open();
    let (text, _) = first.collect().await.expect("answers");
    for answer in others {
        assert_eq!(answer.collect().await.expect("answers").0, text);
    }
    assert_eq!((fixture.engine.counts().loads_started, fixture.engine.counts().live_instances), (2, 2));
}

#[tokio::test]
async fn a_smaller_budget_makes_idle_models_leave_and_counts_for_what_comes() {
    let fixture = Fixture::new(FakeEngine::new());
    let [one, other] = ["one", "other"].map(|name| fixture.file(name));
    let names = [("one", &one, ModelSettings::default()), ("other", &other, ModelSettings::default())];
    let runtime = fixture.runtime(1 << 30, &names);
    for name in ["one", "other"] {
        runtime.generate(ask(name)).collect().await.expect("answers");
    }
    assert_eq!(fixture.engine.counts().live_instances, 2);
    let cost = runtime.spec("one").await.expect("is known").footprint().total_bytes();
    let of = |bytes| PoolConfig {
        min_residency_ms: 0,
        ..PoolConfig::with_budget(Budget { bytes, source: "a test".into() })
    };
    runtime.configure(of(cost * 3 / 2)).await.expect("takes it in");
    fixture.engine.wait_until(|counts| counts.parks > 0 || counts.live_instances < 2).await;
    runtime.configure(of(1)).await.expect("takes it in");
    let failure = runtime.generate(ask("one")).collect().await.expect_err("does not fit any more");
    assert_eq!(failure.kind, ErrorKind::TooLarge, "{failure:?}");
    runtime.configure(of(1 << 30)).await.expect("takes it in");
    runtime.generate(ask("one")).collect().await.expect("fits again");
}

#[tokio::test]
async fn a_request_for_more_context_makes_the_loaded_model_larger_and_one_for_less_leaves_it() {
    let fixture = Fixture::new(FakeEngine::new());
    let path = fixture.file("story");
    let usual = ModelSettings::default().context_tokens(128);
    let runtime = fixture.runtime(1 << 30, &[("story", &path, usual)]);
    let long =
        || Request::new("story", Input::Tokens(vec![5; 200])).sampling(Sampling::greedy()).max_tokens(2);
    let failure = runtime.generate(long()).collect().await.expect_err("does not fit 128 tokens");
    assert_eq!(failure.kind, ErrorKind::ContextExceeded, "{failure:?}");
    assert!(failure.hint.is_some_and(|hint| hint.contains("context_tokens")));
    runtime.generate(long().context_tokens(256)).collect().await.expect("fits 256");
    let counts = fixture.engine.counts();
    assert_eq!((counts.loads_started, counts.resumes), (1, 1), "it grew, its weights staying in memory");
    for context_tokens in [16, 128, 256] {
        let request = ask("story").context_tokens(context_tokens);
        let (_, summary) = runtime.generate(request).collect().await.expect("answers");
        assert_eq!(summary.tier, CacheStatus::Hit, "{context_tokens}");
    }
    let options = model(&runtime, "story").await.options.expect("is loaded");
    assert_eq!((options.context_tokens, fixture.engine.counts().resumes), (256, 1));
    runtime.shutdown(Duration::from_secs(5)).await;
}

#[tokio::test]
async fn a_context_that_the_model_can_not_have_is_refused_before_anything_is_loaded() {
    let fixture = Fixture::new(FakeEngine::new());
    let path = fixture.file("story");
    let runtime = fixture.runtime(1 << 30, &[("story", &path, ModelSettings::default())]);
    for wrong in [0, 513] {
        let request = ask("story").context_tokens(wrong);
        let failure = runtime.generate(request).collect().await.expect_err("was trained with 512");
        let told = (failure.kind, failure.param.as_deref());
        assert_eq!(told, (ErrorKind::InvalidRequest, Some("context_tokens")), "{failure:?}");
        assert!(failure.message.contains("512") && failure.hint.is_some(), "{failure:?}");
    }
    assert_eq!(fixture.engine.counts().loads_started, 0);
    runtime.generate(ask("story").context_tokens(512)).collect().await.expect("is what it was trained with");
}

#[tokio::test]
async fn names_that_differ_in_their_context_cost_one_growth_and_no_more() {
    let fixture = Fixture::new(FakeEngine::new());
    let path = fixture.file("story");
    let sized = |context| ModelSettings::default().context_tokens(context);
    let names = [("short", &path, sized(128)), ("long", &path, sized(512))];
    let runtime = fixture.runtime(1 << 30, &names);
    let mut tiers = Vec::new();
    for name in ["short", "long", "short", "long", "short"] {
        tiers.push(runtime.generate(ask(name)).collect().await.expect("answers").1.tier);
    }
    assert_eq!(tiers[0], CacheStatus::Cold);
    assert_eq!(tiers[2..], [CacheStatus::Hit; 3]);
    let counts = fixture.engine.counts();
    assert_eq!((counts.loads_started, counts.resumes), (1, 1));
    let long = runtime.model("long", Origin::Owner).await.expect("is known");
    assert_eq!(long.context_tokens, 512);
    runtime.shutdown(Duration::from_secs(5)).await;
}
