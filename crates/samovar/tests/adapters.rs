//! Names that differ in their adapters alone: they answer differently and share what is loaded.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use samovar::{Budget, ModelSettings, Origin, PoolConfig, Request, Runtime};
use samovar_core::port::{Capabilities, Engine};
use samovar_core::testing::fake::FakeEngine;
use samovar_core::testing::gguf::{Writer, lora};
use samovar_core::{Adapter, Descriptor, ErrorKind, Failure, Sampling};

struct Fixture {
    home: tempfile::TempDir,
}

impl Fixture {
    fn new() -> Self {
        Self { home: tempfile::tempdir().expect("tempdir") }
    }

    fn demo() -> Descriptor {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../assets/demo-model/demo.gguf");
        samovar_core::format::gguf::inspect(Path::new(path)).expect("the demo model")
    }

    fn write(&self, name: &str, writer: &Writer) -> PathBuf {
        let path = self.home.path().join(name);
        fs_err::write(&path, writer.build()).expect("writes");
        path
    }

    /// A runtime in which each of these names is the demo model with an adapter.
    fn runtime(&self, engine: Option<Arc<dyn Engine>>, names: &[(&str, &Path, f32)]) -> Runtime {
        let budget = Budget { bytes: 1 << 30, source: "a test".into() };
        let builder = Runtime::builder().cache_dir(self.home.path()).pool(PoolConfig::with_budget(budget));
        let builder = match engine {
            Some(engine) => builder.engine(engine),
            None => builder,
        };
        let named = names.iter().fold(builder, |builder, (name, path, scale)| {
            let adapters = vec![Adapter { path: (*path).to_owned(), scale: *scale }];
            let settings = ModelSettings::default().adapters(adapters);
            builder.alias(*name, "demo".parse().expect("a reference"), settings)
        });
        named.build().expect("builds")
    }
}

fn story(model: &str) -> Request {
    Request::text(model, "Once upon a time").sampling(Sampling::greedy()).max_tokens(24)
}

async fn failure_of(runtime: &Runtime, model: &str) -> Failure {
    runtime.generate(story(model)).collect().await.expect_err("fails")
}

#[cfg(feature = "llama")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_over_one_base_share_it_and_answer_differently() {
    let fixture = Fixture::new();
    let adapter = fixture.write("poet.gguf", &lora(&Fixture::demo(), 2));
    let names = [("poet", adapter.as_path(), 0.5), ("mild", &adapter, 0.25), ("plain", &adapter, 0.0)];
    let runtime = fixture.runtime(None, &names);
    let ask = async |model| runtime.generate(story(model)).collect().await.expect("answers").0;
    let [demo, poet, mild, plain] =
        [ask("demo").await, ask("poet").await, ask("mild").await, ask("plain").await];
    assert_eq!(plain, demo);
    assert!(poet != demo && mild != demo && poet != mild, "{demo:?}, {poet:?}, {mild:?}");
    let running: Vec<_> =
        ["demo", "poet", "mild", "poet"].map(|model| runtime.generate(story(model))).into_iter().collect();
    for (answer, expected) in running.into_iter().zip([&demo, &poet, &mild, &poet]) {
        assert_eq!(answer.collect().await.expect("answers").0, *expected);
    }
    let stats = runtime.stats().await;
    assert_eq!(stats.pool.loads, 1, "one load serves four names: {stats:?}");
    let info = runtime.model("poet", Origin::Network).await.expect("is known");
    assert_eq!(info.adapters, [format!("{}:0.5", adapter.display())]);
}

#[tokio::test]
async fn an_adapter_is_checked_when_its_name_is_used() {
    let fixture = Fixture::new();
    let engine = FakeEngine::builder()
        .capabilities(Capabilities { can_adapt: true, ..FakeEngine::CAPABILITIES })
        .build();
    let good = fixture.write("good.gguf", &lora(&Fixture::demo(), 2));
    let other = fixture.write("other.gguf", &lora(&Descriptor { embedding_width: 64, ..Fixture::demo() }, 2));
    let model = concat!(env!("CARGO_MANIFEST_DIR"), "/../../assets/demo-model/demo.gguf");
    let later = fixture.home.path().join("later.gguf");
    let names = [
        ("good", good.as_path(), 1.0),
        ("other", &other, 1.0),
        ("model", Path::new(model), 1.0),
        ("later", &later, 1.0),
    ];
    let runtime = fixture.runtime(Some(Arc::new(engine.clone())), &names);
    for (name, kind, word) in [
        ("other", ErrorKind::InvalidModel, "shape"),
        ("model", ErrorKind::InvalidModel, "no LoRA adapter"),
        ("later", ErrorKind::NotFound, "later.gguf"),
    ] {
        let failure = failure_of(&runtime, name).await;
        assert_eq!(failure.kind, kind, "{name}: {failure:?}");
        assert!(failure.message.contains(word), "{name}: {failure:?}");
        assert!(failure.hint.is_some(), "{name}: {failure:?}");
    }
    assert_eq!(engine.counts().loads_started, 0);
    let listed: Vec<_> = runtime.models().await.into_iter().map(|model| model.name).collect();
    assert_eq!(listed, ["demo", "good"]);

    runtime.generate(story("good")).collect().await.expect("answers");
    fs_err::copy(&good, &later).expect("copies");
    runtime.generate(story("later")).collect().await.expect("its adapter has come");
    fs_err::copy(&other, &good).expect("copies");
    assert_eq!(failure_of(&runtime, "good").await.kind, ErrorKind::InvalidModel, "it was replaced");
    assert_eq!(engine.counts().loads_finished, 1, "one load serves both names");
}

#[tokio::test]
async fn adapters_of_all_names_over_a_model_are_promised_memory_before_they_are_attached() {
    let fixture = Fixture::new();
    let engine = FakeEngine::builder()
        .capabilities(Capabilities { can_adapt: true, ..FakeEngine::CAPABILITIES })
        .build();
    let poet = fixture.write("poet.gguf", &lora(&Fixture::demo(), 2));
    let bard = fixture.write("bard.gguf", &lora(&Fixture::demo(), 4));
    let bytes = |path| {
        samovar_core::format::gguf::inspect_adapter(path, &Fixture::demo()).expect("an adapter").tensor_bytes
    };
    let bare = Fixture::new().runtime(Some(Arc::new(engine.clone())), &[]);
    let bare = bare.spec("demo").await.expect("is known").footprint();
    let names = [("poet", poet.as_path(), 1.0), ("bard", &bard, 1.0)];
    let runtime = fixture.runtime(Some(Arc::new(engine.clone())), &names);
    let promised = bare.held_bytes + bytes(&poet) + bytes(&bard);
    for name in ["demo", "poet", "bard"] {
        let spec = runtime.spec(name).await.expect("is known");
        assert_eq!(spec.footprint().held_bytes, promised, "{name}: its instances serve all three");
    }
    runtime.generate(story("demo")).collect().await.expect("answers");
    let pool = runtime.stats().await.pool;
    assert_eq!(pool.resident_bytes, promised + bare.mapped_bytes, "none was attached so far");
    // What cannot be attached is not counted.
    fs_err::write(&bard, "no adapter").expect("writes");
    failure_of(&runtime, "bard").await;
    let spec = runtime.spec("poet").await.expect("is known");
    assert_eq!(spec.footprint().held_bytes, bare.held_bytes + bytes(&poet));
}

#[tokio::test]
async fn engines_that_attach_no_adapters_say_so() {
    let fixture = Fixture::new();
    let adapter = fixture.write("poet.gguf", &lora(&Fixture::demo(), 2));
    let engine: Arc<dyn Engine> = Arc::new(FakeEngine::new());
    let runtime = fixture.runtime(Some(engine), &[("poet", &adapter, 1.0)]);
    let failure = failure_of(&runtime, "poet").await;
    assert_eq!(failure.kind, ErrorKind::Unsupported, "{failure:?}");
    runtime.generate(story("demo")).collect().await.expect("answers without");
}
