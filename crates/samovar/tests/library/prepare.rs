//! Published models through the façade, with a fake engine and a real store: prepared once for any number of callers, and mapped by every later load.

use std::path::PathBuf;
use std::sync::Arc;

use samovar::core::{ErrorKind, Failure};
use samovar::store::StoreConfig;
use samovar::{
    Budget, CreateFrom, EngineChoice, ModelSettings, Origin, PoolConfig, PrepareOptions, Preset,
    Quantization, Request, Runtime, WarmOptions,
};
use samovar_core::footprint::Footprint;
use samovar_core::testing::fake::{Builder, FakeEngine, Script};

struct Fixture {
    home: tempfile::TempDir,
}

/// An engine that prepares models.
fn preparer() -> Builder {
    FakeEngine::builder().script(script())
}

fn script() -> Script {
    Script { preparing: Some("version 1".to_owned()), ..Script::default() }
}

impl Fixture {
    /// With a published model in a folder of the user.
    fn new() -> Self {
        let home = tempfile::tempdir().expect("tempdir");
        fs_err::create_dir(home.path().join("model-1.5")).expect("a folder");
        let fixture = Self { home };
        fixture.write("config.json", "{}");
        fixture.write("model.safetensors", "weights");
        fixture
    }

    fn write(&self, name: &str, text: &str) {
        fs_err::write(self.home.path().join("model-1.5").join(name), text).expect("written");
    }

    fn model(&self) -> String {
        fs_err::canonicalize(self.home.path().join("model-1.5")).expect("is there").display().to_string()
    }

    fn config(&self) -> StoreConfig {
        let mut config = StoreConfig::new(self.home.path().join("cache"), self.home.path().join("state"));
        config.sources.is_offline = true;
        config.min_free_bytes = 0;
        config
    }

    fn builder(&self, engine: &FakeEngine, budget_bytes: u64) -> samovar::Builder {
        Runtime::builder()
            .store(self.config())
            .pool(PoolConfig::with_budget(Budget { bytes: budget_bytes, source: "a test".into() }))
            .engine(Arc::new(engine.clone()))
    }

    fn runtime(&self, engine: &FakeEngine) -> Runtime {
        self.builder(engine, 1 << 30).build().expect("builds")
    }

    /// Files below a folder of the store.
    fn files(&self, folder: &str) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let mut folders = vec![self.home.path().join("cache").join(folder)];
        while let Some(folder) = folders.pop() {
            for entry in fs_err::read_dir(folder).into_iter().flatten() {
                let path = entry.expect("an entry").path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    found.push(path);
                }
            }
        }
        found
    }

    async fn ask(&self, runtime: &Runtime) -> Result<String, Failure> {
        let request = Request::text(self.model(), "Tell me of a fox").max_tokens(4);
        Ok(runtime.generate(request).collect().await?.0)
    }
}

#[tokio::test]
async fn a_published_model_is_prepared_by_its_first_request_and_mapped_ever_after() {
    let (fixture, engine) = (Fixture::new(), preparer().build());
    let runtime = fixture.runtime(&engine);
    assert!(!fixture.ask(&runtime).await.expect("answers").is_empty());
    fixture.ask(&runtime).await.expect("answers");
    assert_eq!(engine.counts().preparations_finished, 1);
    assert_eq!(fixture.files("prepared").len(), 2, "the file, and what is known of it");
    assert!(fixture.files("packing").is_empty(), "nothing is left of the making");
    // It goes by the name of its folder from now on, which has no ending.
    let info = runtime.model("model-1.5", Origin::Network).await.expect("has a name");
    assert_eq!((info.architecture.as_str(), info.path), ("llama", PathBuf::from(fixture.model())));
    let later = preparer().build();
    fixture.ask(&fixture.runtime(&later)).await.expect("answers");
    assert_eq!((later.counts().preparations_started, later.counts().loads_finished), (0, 1));
}

#[tokio::test]
async fn however_many_ask_for_a_model_it_is_prepared_once() {
    let (fixture, engine) = (Fixture::new(), preparer().gate_packs().build());
    let (one, other) = (fixture.runtime(&engine), fixture.runtime(&engine));
    let open = async {
        engine.wait_until(|counts| counts.preparations_started == 1).await;
        engine.packs_gate().open();
    };
    let asked = tokio::join!(fixture.ask(&one), fixture.ask(&one), fixture.ask(&other), open);
    for answer in [asked.0, asked.1, asked.2] {
        answer.expect("answers");
    }
    assert_eq!(engine.counts().preparations_started, 1);
}

#[tokio::test]
async fn an_order_chooses_the_number_format_for_all_later_requests() {
    let (fixture, engine) = (Fixture::new(), preparer().build());
    let runtime = fixture.runtime(&engine);
    let options = PrepareOptions::default().quantization(Quantization::Q4KM);
    let info = runtime.prepare(&fixture.model(), options.clone()).await.expect("is prepared");
    assert!(info.quantization == Quantization::Q4KM && info.took_ms.is_some(), "{info:?}");
    let again = runtime.prepare(&fixture.model(), options).await.expect("is prepared");
    assert_eq!(again.took_ms, None);
    fixture.ask(&runtime).await.expect("answers");
    fixture.ask(&fixture.runtime(&engine)).await.expect("answers");
    assert_eq!(engine.counts().preparations_started, 1);
    // Settings count more, and an order may not contradict them.
    let defaults = ModelSettings::default().quantization(Quantization::Q8_0);
    let set = fixture.builder(&engine, 1 << 30).defaults(defaults).build().expect("builds");
    fixture.ask(&set).await.expect("answers");
    assert_eq!(engine.counts().preparations_started, 2);
    let other = PrepareOptions::default().quantization(Quantization::F16);
    let refused = set.prepare(&fixture.model(), other).await.expect_err("is refused");
    assert_eq!(refused.kind, ErrorKind::InvalidRequest);
    assert!(refused.message.contains("Q8_0"), "{refused:?}");
}

#[tokio::test]
async fn an_engine_that_the_build_lacks_is_refused_with_what_builds_it() {
    let (fixture, engine) = (Fixture::new(), preparer().build());
    let with = |choice| {
        let defaults = ModelSettings::default().engine(choice);
        fixture.builder(&engine, 1 << 30).defaults(defaults).build().expect("builds")
    };
    let refused = fixture.ask(&with(EngineChoice::Candle)).await.expect_err("it is not in this build");
    assert_eq!(refused.kind, ErrorKind::Unsupported);
    assert!(refused.hint.is_some_and(|hint| hint.contains("--features candle")));
    assert_eq!(engine.counts().preparations_started, 0);
    fixture.ask(&with(EngineChoice::Llama)).await.expect("is prepared");
    fixture.ask(&with(EngineChoice::Auto)).await.expect("is prepared already");
    assert_eq!(engine.counts().preparations_started, 1);
}

#[tokio::test]
async fn a_folder_that_changed_is_prepared_again() {
    let (fixture, engine) = (Fixture::new(), preparer().build());
    let runtime = fixture.runtime(&engine);
    fixture.ask(&runtime).await.expect("answers");
    fixture.write("model.safetensors", "other weights");
    fixture.ask(&runtime).await.expect("answers");
    assert_eq!(engine.counts().preparations_finished, 2);
}

#[tokio::test]
async fn a_folder_that_changes_while_it_is_prepared_is_not_kept() {
    let (fixture, engine) = (Fixture::new(), preparer().gate_packs().build());
    let runtime = fixture.runtime(&engine);
    let change = async {
        engine.wait_until(|counts| counts.preparations_started == 1).await;
        fixture.write("model.safetensors", "other weights");
        engine.packs_gate().open();
    };
    let model = fixture.model();
    let (prepared, ()) = tokio::join!(runtime.prepare(&model, PrepareOptions::default()), change);
    assert_eq!(prepared.expect_err("is refused").kind, ErrorKind::Storage);
    assert!(fixture.files("prepared").is_empty() && fixture.files("packing").is_empty());
}

#[tokio::test]
async fn a_preparation_that_fails_leaves_nothing_and_says_why() {
    let failure = Failure::new(ErrorKind::InvalidModel, "the weights are no numbers");
    let script = Script { prepare_failure: Some(failure), ..script() };
    let (fixture, engine) = (Fixture::new(), preparer().script(script).build());
    let failure = fixture.ask(&fixture.runtime(&engine)).await.expect_err("fails");
    assert_eq!(
        (failure.kind, failure.message.as_str()),
        (ErrorKind::InvalidModel, "the weights are no numbers")
    );
    assert!(fixture.files("prepared").is_empty() && fixture.files("packing").is_empty());
}

#[tokio::test]
async fn an_order_that_is_given_up_stops_and_a_requests_preparation_goes_on() {
    let (fixture, engine) = (Fixture::new(), preparer().gate_packs().build());
    let runtime = fixture.runtime(&engine);
    let model = fixture.model();
    let begun = |count: u64| engine.wait_until(move |counts| counts.preparations_started == count);
    tokio::select! {
        _ = runtime.prepare(&model, PrepareOptions::default()) => panic!("the gate is closed"),
        _ = begun(1) => {}
    }
    engine.wait_until(|counts| counts.preparations_failed == 1).await;
    tokio::select! {
        _ = fixture.ask(&runtime) => panic!("the gate is closed"),
        _ = begun(2) => {}
    }
    engine.packs_gate().open();
    engine.wait_until(|counts| counts.preparations_finished == 1).await;
}

#[tokio::test]
async fn what_could_never_be_loaded_is_not_prepared_for_a_request() {
    let (fixture, engine) = (Fixture::new(), preparer().build());
    let runtime = fixture.builder(&engine, 1 << 10).build().expect("builds");
    let failure = fixture.ask(&runtime).await.expect_err("is refused");
    assert!(failure.kind == ErrorKind::TooLarge && failure.hint.is_some(), "{failure:?}");
    assert_eq!(engine.counts().preparations_started, 0);
}

#[tokio::test]
async fn without_room_on_the_disk_a_preparation_is_refused_before_it_begins() {
    let (fixture, engine) = (Fixture::new(), preparer().build());
    let config = StoreConfig { max_size_bytes: Some(1), ..fixture.config() };
    let runtime = fixture.builder(&engine, 1 << 30).store(config).build().expect("builds");
    let failure = fixture.ask(&runtime).await.expect_err("is refused");
    assert!(failure.kind == ErrorKind::InsufficientStorage && failure.hint.is_some(), "{failure:?}");
    assert_eq!(engine.counts().preparations_started, 0);
    assert!(fixture.files("prepared").is_empty() && fixture.files("packing").is_empty());
    fixture.ask(&fixture.runtime(&engine)).await.expect("answers where there is room");
}

#[tokio::test]
async fn a_model_that_is_mapped_as_it_is_needs_no_preparation() {
    let (fixture, engine) = (Fixture::new(), preparer().build());
    let runtime = fixture.runtime(&engine);
    let failure = runtime.prepare("demo", PrepareOptions::default()).await.expect_err("is refused");
    assert_eq!(failure.kind, ErrorKind::InvalidRequest);
    runtime.warm("demo", WarmOptions::default()).await.expect("loads");
    assert_eq!(engine.counts().preparations_started, 0);
}

#[tokio::test]
async fn a_damaged_prepared_model_is_prepared_again() {
    // A weight, and the header that is read before the model is loaded.
    for is_header in [false, true] {
        let (fixture, engine) = (Fixture::new(), preparer().build());
        fixture.ask(&fixture.runtime(&engine)).await.expect("answers");
        let data =
            fixture.files("prepared").into_iter().find(|path| path.ends_with("data")).expect("is there");
        let mut bytes = fs_err::read(&data).expect("is read");
        fs_err::remove_file(&data).expect("is removed");
        let at = if is_header { 0 } else { bytes.len() - 1 };
        bytes[at] ^= 1;
        fs_err::write(&data, bytes).expect("is written");
        let runtime = fixture.runtime(&engine);
        // Who finds the damage brings the model again, and answers.
        fixture.ask(&runtime).await.expect("answers");
        assert_eq!(engine.counts().preparations_finished, 2);
    }
}

#[tokio::test]
async fn what_was_prepared_of_files_that_are_gone_makes_room() {
    let (fixture, engine) = (Fixture::new(), preparer().build());
    let runtime = fixture.runtime(&engine);
    for version in 0..6 {
        fixture.write("model.safetensors", &"weights".repeat(version + 1));
        runtime.prepare(&fixture.model(), PrepareOptions::default()).await.expect("is prepared");
    }
    assert_eq!(engine.counts().preparations_finished, 6);
    assert_eq!(fixture.files("prepared").len(), 2 * 4, "of one folder four stay");
}

#[tokio::test]
async fn a_model_that_could_not_be_prepared_is_not_tried_again_for_each_request() {
    let script = Script {
        prepare_failure: Some(Failure::new(ErrorKind::EngineFailed, "the worker died")),
        ..script()
    };
    let (fixture, engine) = (Fixture::new(), preparer().script(script).build());
    let runtime = fixture.runtime(&engine);
    for _ in 0..3 {
        let failure = fixture.ask(&runtime).await.expect_err("fails");
        assert_eq!(failure.message, "the worker died");
    }
    assert_eq!(engine.counts().preparations_started, 1);
    // Its owner may know that something changed, and files that changed are another model.
    runtime.prepare(&fixture.model(), PrepareOptions::default()).await.expect_err("fails");
    assert_eq!(engine.counts().preparations_started, 2);
    fixture.write("model.safetensors", "other weights");
    fixture.ask(&runtime).await.expect_err("fails");
    assert_eq!(engine.counts().preparations_started, 3);
}

#[tokio::test]
async fn what_was_prepared_of_a_folder_is_removed_unless_it_is_loaded() {
    let (fixture, engine) = (Fixture::new(), preparer().build());
    let runtime = fixture.runtime(&engine);
    let model = fixture.model();
    fixture.ask(&runtime).await.expect("answers");
    let folder = std::path::Path::new(&model);
    let busy = runtime.remove_prepared(Some(folder)).await.expect_err("is loaded");
    assert_eq!(busy.kind, ErrorKind::Busy);
    runtime.shutdown(std::time::Duration::from_secs(5)).await;
    let runtime = fixture.runtime(&preparer().build());
    assert_eq!(runtime.prepared_of(folder).await.expect("is looked at").count, 1);
    // The folder need not be there any more.
    fs_err::remove_dir_all(folder).expect("is removed");
    let gone = runtime.remove_prepared(Some(folder)).await.expect("is removed");
    assert!(gone.count == 1 && gone.bytes > 0 && fixture.files("prepared").is_empty(), "{gone:?}");
    assert_eq!(runtime.remove_prepared(None).await.expect("there is none").count, 0);
}

#[tokio::test]
async fn a_name_over_a_model_that_is_not_prepared_says_what_prepares_it() {
    let (fixture, engine) = (Fixture::new(), preparer().build());
    let runtime = fixture.runtime(&engine);
    let create = || {
        let from = CreateFrom::Model(fixture.model());
        runtime.create("poet", from, Preset::default(), Origin::Owner)
    };
    let refused = create().await.expect_err("is not prepared");
    let hint = format!("samovar prepare {}", fixture.model());
    assert_eq!((refused.kind, refused.hint), (ErrorKind::Unsupported, Some(hint)));
    runtime.prepare(&fixture.model(), PrepareOptions::default()).await.expect("is prepared");
    assert_eq!(create().await.expect("is created").parent, "model-1.5");
    runtime.generate(Request::text("poet", "A fox").max_tokens(4)).collect().await.expect("answers");
    assert_eq!(engine.counts().preparations_started, 1);
}

#[tokio::test]
async fn idle_models_leave_for_a_preparation() {
    const MIB: u64 = 1 << 20;
    // Of 85 MiB below the soft limit, half a MiB is free; a preparation takes one.
    let footprint = Footprint { held_bytes: 84 * MIB + MIB / 2, mapped_bytes: 0 };
    let script = Script { footprint: Some(footprint), ..script() };
    let (fixture, engine) = (Fixture::new(), preparer().script(script).build());
    let runtime = fixture.builder(&engine, 100 * MIB).build().expect("builds");
    runtime.warm("demo", WarmOptions::default()).await.expect("loads");
    fixture.ask(&runtime).await.expect("answers");
    assert_eq!(engine.counts().preparations_finished, 1);
}

#[tokio::test]
async fn a_requests_preparation_begins_again_after_its_memory_was_wanted_back() {
    const MIB: u64 = 1 << 20;
    // With this model there is no MiB left for a preparation.
    let footprint = Footprint { held_bytes: 99 * MIB + MIB / 2, mapped_bytes: 0 };
    let script = Script { footprint: Some(footprint), ..script() };
    let (fixture, engine) = (Fixture::new(), preparer().gate_packs().script(script).build());
    let runtime = fixture.builder(&engine, 100 * MIB).build().expect("builds");
    let other = async {
        engine.wait_until(|counts| counts.preparations_started == 1).await;
        runtime.warm("demo", WarmOptions::default()).await.expect("loads");
        engine.packs_gate().open();
    };
    let (answer, ()) = tokio::join!(fixture.ask(&runtime), other);
    answer.expect("answers");
    assert_eq!((engine.counts().preparations_started, engine.counts().preparations_finished), (2, 1));
}
