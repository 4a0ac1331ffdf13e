//! Draft models: from the settings of a name to what is in memory.

use std::path::PathBuf;
use std::sync::Arc;

use samovar::{Budget, ModelSettings, Origin, PoolConfig, Request, Runtime};
use samovar_core::testing::fake::FakeEngine;
use samovar_core::testing::gguf::{LlamaShape, llama};
use samovar_core::{ErrorKind, Sampling};

struct Fixture {
    home: tempfile::TempDir,
    engine: FakeEngine,
}

impl Fixture {
    fn new() -> Self {
        Self { home: tempfile::tempdir().expect("tempdir"), engine: FakeEngine::new() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(format!("{name}.gguf"))
    }

    /// A model file of its own: the demo model under another name.
    fn file(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        let demo = concat!(env!("CARGO_MANIFEST_DIR"), "/../../assets/demo-model/demo.gguf");
        fs_err::copy(demo, &path).expect("copies");
        path
    }

    /// A small model with another vocabulary.
    fn other(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        fs_err::write(&path, llama(LlamaShape::TINY).build()).expect("writes");
        path
    }

    /// A runtime in which each of these names is a file with settings.
    fn runtime(&self, names: &[(&str, &PathBuf, ModelSettings)]) -> Runtime {
        let budget = Budget { bytes: 1 << 30, source: "a test".into() };
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

fn drafted(by: &str) -> ModelSettings {
    ModelSettings::default().draft(by)
}

fn ask(model: &str) -> Request {
    Request::text(model, "Once upon a time").sampling(Sampling::greedy()).max_tokens(4)
}

#[tokio::test]
async fn a_draft_model_is_loaded_counted_and_evicted_with_its_model() {
    let fixture = Fixture::new();
    let [writer, small] = ["writer", "small"].map(|name| fixture.file(name));
    let names = [
        ("writer", &writer, drafted("small")),
        ("alone", &writer, ModelSettings::default()),
        ("small", &small, ModelSettings::default()),
    ];
    let runtime = fixture.runtime(&names);
    let both = runtime.spec("writer").await.expect("is known");
    let alone = runtime.spec("alone").await.expect("is known");
    assert_ne!(both.key, alone.key, "they are other instances");
    let draft_bytes = alone.descriptor.tensor_bytes;
    assert_eq!(both.footprint().mapped_bytes, alone.footprint().mapped_bytes + draft_bytes);
    assert!(both.footprint().held_bytes > alone.footprint().held_bytes);
    let info = runtime.model("writer", Origin::Owner).await.expect("is known");
    assert_eq!(info.draft.as_deref(), Some("small"));
    assert_eq!(info.predicted_bytes, both.footprint().total_bytes());

    runtime.generate(ask("writer")).collect().await.expect("answers");
    assert_eq!(fixture.engine.counts().loads_finished, 1, "both are one");
    let models = runtime.stats().await.models;
    let loaded = models.iter().find(|model| model.name == "writer").expect("was asked for");
    assert_eq!(loaded.mapped_bytes, both.footprint().mapped_bytes);
    runtime.unload("writer").await.expect("is known");
    fixture.engine.wait_until(|counts| counts.live_instances == 0).await;
}

#[tokio::test]
async fn no_draft_model_is_loaded_where_drafts_are_switched_off() {
    let fixture = Fixture::new();
    let writer = fixture.file("writer");
    let names = [
        ("off", &writer, drafted("nowhere").speculates(false)),
        ("alone", &writer, ModelSettings::default()),
    ];
    let runtime = fixture.runtime(&names);
    let off = runtime.spec("off").await.expect("is known");
    let alone = runtime.spec("alone").await.expect("is known");
    assert_eq!((&off.key, off.footprint()), (&alone.key, alone.footprint()));
    let info = runtime.model("off", Origin::Owner).await.expect("is known");
    assert_eq!(info.draft, None);
}

#[tokio::test]
async fn a_draft_model_may_be_a_file_or_one_of_the_store() {
    let fixture = Fixture::new();
    let [writer, small] = ["writer", "small"].map(|name| fixture.file(name));
    let names =
        [("by-file", &writer, drafted(&small.to_string_lossy())), ("by-store", &writer, drafted("demo"))];
    let runtime = fixture.runtime(&names);
    for name in ["by-file", "by-store"] {
        runtime.generate(ask(name)).collect().await.expect("answers");
    }
    assert_eq!(fixture.engine.counts().loads_finished, 2);
}

#[tokio::test]
async fn a_draft_model_that_was_replaced_makes_another_instance() {
    let fixture = Fixture::new();
    let [writer, small] = ["writer", "small"].map(|name| fixture.file(name));
    let runtime = fixture.runtime(&[("writer", &writer, drafted(&small.to_string_lossy()))]);
    let before = runtime.spec("writer").await.expect("is known");
    let file = fs_err::OpenOptions::new().write(true).open(&small).expect("opens");
    file.file().set_modified(std::time::SystemTime::UNIX_EPOCH).expect("is told");
    let after = runtime.spec("writer").await.expect("is known");
    assert_ne!(before.key, after.key);
}

#[tokio::test]
async fn a_model_that_cannot_draft_is_refused_by_name_before_anything_is_loaded() {
    let fixture = Fixture::new();
    let (writer, other) = (fixture.file("writer"), fixture.other("other"));
    let gone = fixture.path("gone");
    let names = [
        ("writer", &writer, drafted("other")),
        ("other", &other, ModelSettings::default()),
        ("smaller", &other, drafted("demo")),
        ("unknown", &writer, drafted("nowhere")),
        ("lost", &writer, drafted(&gone.to_string_lossy())),
    ];
    let runtime = fixture.runtime(&names);
    for (name, kind, words) in [
        ("writer", ErrorKind::InvalidRequest, ["`other`", "`writer`", "vocabulary"]),
        ("smaller", ErrorKind::InvalidRequest, ["`demo`", "`smaller`", "parameters"]),
        ("unknown", ErrorKind::NotFound, ["draft model", "`unknown`", "nowhere"]),
        ("lost", ErrorKind::NotFound, ["draft model", "`lost`", "gone.gguf"]),
    ] {
        let failure = runtime.generate(ask(name)).collect().await.expect_err("cannot be loaded");
        assert_eq!(failure.kind, kind, "{name}: {failure:?}");
        assert!(failure.hint.is_some(), "{name}: {failure:?}");
        for word in words {
            assert!(failure.message.contains(word), "{name}: {failure:?}");
        }
        let shown = runtime.model(name, Origin::Owner).await.expect_err("says so, too");
        assert_eq!(shown.message, failure.message, "{name}");
    }
    assert_eq!(fixture.engine.counts().loads_started, 0);
}
