//! Packed files through the façade, with a fake engine and a real store: made behind the back of requests, shared, and
//! of no influence on any answer.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use samovar::core::footprint::{Footprint, KvType, Layout, LayoutWish, Speed};
use samovar::core::{ErrorKind, Failure, Sampling};
use samovar::store::StoreConfig;
use samovar::{Budget, ModelSettings, PackOptions, PackedInfo, PoolConfig, Request, Runtime, WarmOptions};
use samovar_core::testing::fake::{Builder, FakeEngine, Script};

const MODEL: &str = "demo";
const LIMIT: Duration = Duration::from_secs(60);

struct Fixture {
    home: tempfile::TempDir,
}

/// An engine that packs, and finds the packed layout so much faster.
fn packer(gain: f64) -> Builder {
    FakeEngine::builder().script(script(gain))
}

fn script(gain: f64) -> Script {
    let speed = |layout, gain| Speed {
        layout,
        prefill: 100.0,
        decode: 10.0 * gain,
        decode_eight: 30.0 * gain,
        lacked: 0.0,
    };
    Script {
        packing: Some("this machine".to_owned()),
        speeds: vec![speed(Layout::Mapped, 1.0), speed(Layout::Packed, gain)],
        ..Script::default()
    }
}

impl Fixture {
    fn new() -> Self {
        Self { home: tempfile::tempdir().expect("tempdir") }
    }

    fn config(&self) -> StoreConfig {
        let mut config = StoreConfig::new(self.home.path().join("cache"), self.home.path().join("state"));
        config.sources.is_offline = true;
        config.min_free_bytes = 0;
        config
    }

    fn runtime(&self, engine: &FakeEngine, wish: LayoutWish) -> Runtime {
        self.runtime_after(engine, wish, Duration::ZERO)
    }

    fn runtime_after(&self, engine: &FakeEngine, wish: LayoutWish, idle: Duration) -> Runtime {
        self.builder(engine, wish, 1 << 30).pack_when_idle_for(idle).build().expect("builds")
    }

    fn builder(&self, engine: &FakeEngine, wish: LayoutWish, budget_bytes: u64) -> samovar::Builder {
        Runtime::builder()
            .store(self.config())
            .pool(PoolConfig::with_budget(Budget { bytes: budget_bytes, source: "a test".into() }))
            .engine(Arc::new(engine.clone()))
            .defaults(ModelSettings::default().layout(wish))
            .pack_when_idle_for(Duration::ZERO)
    }

    /// Every packed file.
    fn files(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let mut folders = vec![self.home.path().join("cache/packed")];
        while let Some(folder) = folders.pop() {
            for entry in fs_err::read_dir(folder).into_iter().flatten() {
                let path = entry.expect("an entry").path();
                match path.is_dir() {
                    true => folders.push(path),
                    false if path.ends_with("data") => found.push(path),
                    false => {}
                }
            }
        }
        found
    }
}

async fn ask(runtime: &Runtime) -> String {
    let request = Request::text(MODEL, "Tell me of a fox").sampling(Sampling::greedy()).max_tokens(8);
    runtime.generate(request).collect().await.expect("answers").0
}

/// Waits until what is known of the model's layouts is so.
async fn known(runtime: &Runtime, is_so: impl Fn(&PackedInfo) -> bool) -> PackedInfo {
    let waiting = async {
        loop {
            let info = runtime.packed(MODEL).await.expect("known");
            if is_so(&info) {
                return info;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(LIMIT, waiting).await.expect("in time")
}

/// Has the model loaded anew, and gives the layout that it has then.
async fn layout_of_next_load(runtime: &Runtime) -> Option<Layout> {
    runtime.unload(MODEL).await.expect("unloads");
    ask(runtime).await;
    runtime.packed(MODEL).await.expect("known").arrangement.map(|arrangement| arrangement.layout)
}

#[tokio::test]
async fn the_first_load_is_mapped_and_the_next_one_packed() {
    let (fixture, engine) = (Fixture::new(), packer(1.3).build());
    let runtime = fixture.runtime(&engine, LayoutWish::Auto);
    let answer = ask(&runtime).await;
    assert_eq!(engine.counts().packed_loads, 0);
    let info = known(&runtime, |info| info.layout == Layout::Packed).await;
    assert_eq!(info.speeds, script(1.3).speeds);
    assert_eq!(info.bytes, fixture.files().first().map(|file| file.metadata().expect("a file").len()));
    // What is loaded stays as it is.
    assert_eq!(ask(&runtime).await, answer);
    assert_eq!((engine.counts().loads_finished, engine.counts().packed_loads), (1, 0));
    assert_eq!(layout_of_next_load(&runtime).await, Some(Layout::Packed));
    assert_eq!(ask(&runtime).await, answer);
    assert_eq!((engine.counts().loads_finished, engine.counts().packed_loads), (2, 1));
    let packed = runtime.stats().await.packed;
    assert_eq!((packed.made, packed.calibrations, packed.failed), (1, 1, 0));
    assert_eq!(packed.loads.into_iter().collect::<Vec<_>>(), [("mapped".into(), 1), ("packed".into(), 1)]);
}

#[tokio::test]
async fn auto_gives_the_disk_back_where_packing_is_not_faster() {
    let (fixture, engine) = (Fixture::new(), packer(1.0).build());
    let runtime = fixture.runtime(&engine, LayoutWish::Auto);
    ask(&runtime).await;
    let info = known(&runtime, |info| !info.speeds.is_empty() && info.bytes.is_none()).await;
    assert_eq!(info.layout, Layout::Mapped);
    assert_eq!(fixture.files(), Vec::<PathBuf>::new());
    assert_eq!(layout_of_next_load(&runtime).await, Some(Layout::Mapped));
    assert_eq!((engine.counts().packs_started, engine.counts().calibrations), (1, 1));
    let stats = runtime.stats().await;
    assert!(stats.packed.refused.is_empty(), "{:?}", stats.packed);
    assert_eq!(stats.store.expect("a store").packed_refused, 0);
    runtime.shutdown(LIMIT).await;
    // And the next life knows it.
    let runtime = fixture.runtime(&engine, LayoutWish::Auto);
    ask(&runtime).await;
    runtime.shutdown(LIMIT).await;
    assert_eq!((engine.counts().packs_started, engine.counts().calibrations), (1, 1));
}

#[tokio::test]
async fn the_owners_wish_needs_no_figures_and_mapped_makes_nothing() {
    let (fixture, engine) = (Fixture::new(), packer(0.5).build());
    let runtime = fixture.runtime(&engine, LayoutWish::Mapped);
    ask(&runtime).await;
    runtime.shutdown(LIMIT).await;
    assert_eq!(engine.counts().packs_started, 0);
    let runtime = fixture.runtime(&engine, LayoutWish::Hybrid);
    ask(&runtime).await;
    known(&runtime, |info| info.layout == Layout::Hybrid).await;
    assert_eq!(layout_of_next_load(&runtime).await, Some(Layout::Hybrid));
    assert_eq!(engine.counts().calibrations, 0);
}

#[tokio::test]
async fn a_restart_finds_what_was_made() {
    let (fixture, engine) = (Fixture::new(), packer(1.3).build());
    let runtime = fixture.runtime(&engine, LayoutWish::Auto);
    ask(&runtime).await;
    known(&runtime, |info| info.layout == Layout::Packed).await;
    runtime.shutdown(LIMIT).await;
    let runtime = fixture.runtime(&engine, LayoutWish::Auto);
    ask(&runtime).await;
    assert_eq!(engine.counts().packed_loads, 1);
    assert_eq!((engine.counts().packs_started, engine.counts().calibrations), (1, 1));
}

#[tokio::test]
async fn two_runtimes_make_it_once() {
    let (fixture, engine) = (Fixture::new(), packer(1.3).gate_packs().build());
    let runtimes = [(); 2].map(|()| fixture.runtime(&engine, LayoutWish::Packed));
    for runtime in &runtimes {
        ask(runtime).await;
    }
    engine.wait_until(|counts| counts.packs_started == 1).await;
    engine.packs_gate().open();
    for runtime in &runtimes {
        known(runtime, |info| info.layout == Layout::Packed).await;
        assert_eq!(layout_of_next_load(runtime).await, Some(Layout::Packed));
    }
    assert_eq!((engine.counts().packs_started, fixture.files().len()), (1, 1));
}

#[tokio::test]
async fn a_request_stops_the_making_and_it_is_begun_again_afterwards() {
    let (fixture, engine) = (Fixture::new(), packer(1.3).gate_packs().build());
    let runtime = fixture.runtime(&engine, LayoutWish::Packed);
    ask(&runtime).await;
    engine.wait_until(|counts| counts.packs_started == 1).await;
    // The gate is closed: were the request to wait for the file, it would wait for ever.
    ask(&runtime).await;
    engine.wait_until(|counts| counts.packs_cancelled == 1 && counts.packs_started == 2).await;
    assert_eq!(fixture.files(), Vec::<PathBuf>::new());
    engine.packs_gate().open();
    known(&runtime, |info| info.layout == Layout::Packed).await;
    let packed = runtime.stats().await.packed;
    assert_eq!((packed.made, packed.interrupted, packed.failed), (1, 1, 0));
}

#[tokio::test(start_paused = true)]
async fn nothing_is_made_before_it_has_been_quiet_for_long_enough() {
    let (fixture, engine) = (Fixture::new(), packer(1.3).build());
    let runtime = fixture.runtime_after(&engine, LayoutWish::Packed, Duration::from_secs(3_600));
    ask(&runtime).await;
    let first = tokio::time::Instant::now();
    engine.wait_until(|counts| counts.packs_started == 1).await;
    assert!(first.elapsed() >= Duration::from_secs(3_599), "{:?}", first.elapsed());
}

#[tokio::test]
async fn a_file_that_was_changed_or_is_gone_costs_its_layout_only_and_is_made_again() {
    let change = |file: &Path| {
        let mut bytes = fs_err::read(file).expect("a file");
        *bytes.last_mut().expect("bytes") ^= 1;
        // Under its name lies another file now.
        fs_err::remove_file(file).expect("removed");
        fs_err::write(file, bytes).expect("written");
    };
    let remove = |file: &Path| fs_err::remove_dir_all(file.parent().expect("a folder")).expect("removed");
    let damages: [&dyn Fn(&Path); 2] = [&change, &remove];
    for damage in damages {
        let (fixture, engine) = (Fixture::new(), packer(1.3).build());
        let runtime = fixture.runtime(&engine, LayoutWish::Packed);
        let answer = ask(&runtime).await;
        known(&runtime, |info| info.layout == Layout::Packed).await;
        let files = fixture.files();
        assert_eq!(files.len(), 1);
        damage(&files[0]);
        assert_eq!(layout_of_next_load(&runtime).await, Some(Layout::Mapped));
        assert_eq!(ask(&runtime).await, answer);
        known(&runtime, |info| info.layout == Layout::Packed).await;
        assert_eq!(layout_of_next_load(&runtime).await, Some(Layout::Packed));
        assert_eq!(runtime.stats().await.packed.refused.get("gone"), Some(&1));
        assert_eq!(engine.counts().packs_finished, 2);
    }
}

#[tokio::test]
async fn a_file_that_has_to_leave_again_and_again_is_not_made_again_and_again() {
    let (fixture, engine) = (Fixture::new(), packer(1.3).build());
    let runtime = fixture.runtime(&engine, LayoutWish::Packed);
    ask(&runtime).await;
    for _ in 0..2 {
        known(&runtime, |info| info.layout == Layout::Packed).await;
        for file in fixture.files() {
            fs_err::remove_dir_all(file.parent().expect("a folder")).expect("removed");
        }
        assert_eq!(layout_of_next_load(&runtime).await, Some(Layout::Mapped));
    }
    for _ in 0..5 {
        ask(&runtime).await;
    }
    let info = runtime.packed(MODEL).await.expect("known");
    assert!(info.last_error.is_some_and(|last_error| last_error.contains("has left the cache 2 times")));
    runtime.shutdown(LIMIT).await;
    assert_eq!((engine.counts().packs_started, fixture.files().len()), (2, 0));
}

#[tokio::test]
async fn a_load_that_fails_with_its_packed_file_only_is_mapped_and_the_file_goes() {
    let (fixture, engine) = (Fixture::new(), packer(1.3).build());
    let runtime = fixture.runtime(&engine, LayoutWish::Packed);
    let answer = ask(&runtime).await;
    known(&runtime, |info| info.layout == Layout::Packed).await;
    engine.fail_next_loads(1, Failure::new(ErrorKind::EngineFailed, "a sector that cannot be read"));
    assert_eq!(layout_of_next_load(&runtime).await, Some(Layout::Mapped));
    assert_eq!(ask(&runtime).await, answer);
    let info = runtime.packed(MODEL).await.expect("known");
    let refused = info.arrangement.and_then(|arrangement| arrangement.refused).expect("a reason");
    assert!(refused.contains("a sector that cannot be read"), "{refused}");
    assert_eq!(runtime.stats().await.packed.refused.get("refused"), Some(&1));
    known(&runtime, |info| info.layout == Layout::Packed).await;
    assert_eq!(layout_of_next_load(&runtime).await, Some(Layout::Packed));
    assert_eq!((engine.counts().loads_failed, engine.counts().packs_finished), (1, 2));
}

#[tokio::test]
async fn a_model_that_fails_without_its_packed_file_too_keeps_it() {
    let (fixture, engine) = (Fixture::new(), packer(1.3).build());
    let runtime = fixture.runtime(&engine, LayoutWish::Packed);
    ask(&runtime).await;
    known(&runtime, |info| info.layout == Layout::Packed).await;
    runtime.unload(MODEL).await.expect("unloads");
    engine.fail_next_loads(2, Failure::new(ErrorKind::EngineFailed, "out of memory"));
    runtime.warm(MODEL, WarmOptions::default()).await.expect_err("neither can be loaded");
    assert_eq!((engine.counts().loads_failed, fixture.files().len()), (2, 1));
    assert!(runtime.stats().await.packed.refused.is_empty());
}

#[tokio::test]
async fn an_engine_that_refuses_fresh_files_is_believed_at_the_second() {
    let refusing = Script { packed_refusal: Some("another CPU".to_owned()), ..script(1.3) };
    let (fixture, engine) = (Fixture::new(), FakeEngine::builder().script(refusing).build());
    let runtime = fixture.runtime(&engine, LayoutWish::Packed);
    for files in 1..=2 {
        ask(&runtime).await;
        engine.wait_until(|counts| counts.packs_finished == files).await;
        known(&runtime, |info| info.layout == Layout::Packed).await;
        assert_eq!(layout_of_next_load(&runtime).await, Some(Layout::Mapped));
    }
    let info = runtime.packed(MODEL).await.expect("known");
    assert!(info.why.contains("another CPU"), "{}", info.why);
    assert_eq!((info.layout, info.bytes), (Layout::Mapped, None));
    ask(&runtime).await;
    runtime.shutdown(LIMIT).await;
    assert_eq!((engine.counts().packs_finished, fixture.files().len()), (2, 0));
}

#[tokio::test]
async fn a_failure_is_kept_as_the_reason_and_not_tried_again_at_once() {
    let failing =
        Script { pack_failure: Some(Failure::new(ErrorKind::Storage, "the disk is full")), ..script(1.3) };
    let (fixture, engine) = (Fixture::new(), FakeEngine::builder().script(failing).build());
    let runtime = fixture.runtime(&engine, LayoutWish::Packed);
    ask(&runtime).await;
    let info = known(&runtime, |info| info.last_error.is_some()).await;
    assert!(info.last_error.is_some_and(|last_error| last_error.contains("the disk is full")));
    for _ in 0..5 {
        ask(&runtime).await;
    }
    runtime.shutdown(LIMIT).await;
    assert_eq!((engine.counts().packs_started, fixture.files().len()), (1, 0));
}

#[tokio::test]
async fn what_can_not_be_packed_is_mapped_and_says_why() {
    let (fixture, engine) = (Fixture::new(), FakeEngine::new());
    let runtime = fixture.runtime(&engine, LayoutWish::Auto);
    ask(&runtime).await;
    let info = runtime.packed(MODEL).await.expect("known");
    assert_eq!(info.layout, Layout::Mapped);
    assert!(info.why.contains("packs nothing"), "{}", info.why);
    assert_eq!(
        runtime.pack(MODEL, PackOptions::default()).await.expect_err("refused").kind,
        ErrorKind::Unsupported
    );
    assert_eq!(engine.counts().packs_started, 0);
}

#[tokio::test]
async fn packing_on_request_makes_and_measures_now_and_tells_how_it_gets_on() {
    let (fixture, engine) = (Fixture::new(), packer(1.3).build());
    let runtime = fixture.runtime_after(&engine, LayoutWish::Auto, Duration::from_secs(3_600));
    let (progress, mut told) = tokio::sync::mpsc::channel(16);
    let info = runtime.pack(MODEL, PackOptions::default().progress(progress)).await.expect("packs");
    assert_eq!((info.layout, info.speeds.len()), (Layout::Packed, 2));
    assert_eq!((told.recv().await, told.recv().await), (Some(0.5), Some(1.0)));
    ask(&runtime).await;
    assert_eq!((engine.counts().packed_loads, engine.counts().packs_started), (1, 1));
    // Once more makes nothing, and measures anew.
    runtime.pack(MODEL, PackOptions::default()).await.expect("packs");
    assert_eq!((engine.counts().packs_started, engine.counts().calibrations), (1, 2));
}

#[tokio::test]
async fn an_order_that_is_dropped_stops_the_work_and_leaves_nothing_behind() {
    let (fixture, engine) = (Fixture::new(), packer(1.3).gate_packs().build());
    let runtime = fixture.runtime_after(&engine, LayoutWish::Packed, Duration::from_secs(3_600));
    let packing = tokio::spawn({
        let runtime = runtime.clone();
        async move { runtime.pack(MODEL, PackOptions::default()).await }
    });
    engine.wait_until(|counts| counts.packs_started == 1).await;
    known(&runtime, |info| info.progress == Some(0.5)).await;
    assert!(runtime.stats().await.pool.reserved_bytes > 0);
    packing.abort();
    engine.wait_until(|counts| counts.packs_cancelled == 1).await;
    known(&runtime, |info| info.progress.is_none()).await;
    while runtime.stats().await.pool.reserved_bytes > 0 {
        tokio::task::yield_now().await;
    }
    engine.packs_gate().open();
    runtime.pack(MODEL, PackOptions::default()).await.expect("packs");
    assert_eq!((engine.counts().packs_finished, fixture.files().len()), (1, 1));
}

#[tokio::test]
async fn an_order_goes_before_what_is_made_in_the_background() {
    let (fixture, engine) = (Fixture::new(), packer(1.3).gate_packs().build());
    let runtime = fixture.runtime(&engine, LayoutWish::Packed);
    ask(&runtime).await;
    engine.wait_until(|counts| counts.packs_started == 1).await;
    let packing = tokio::spawn({
        let runtime = runtime.clone();
        async move { runtime.pack(MODEL, PackOptions::default()).await }
    });
    engine.wait_until(|counts| counts.packs_cancelled == 1 && counts.packs_started == 2).await;
    engine.packs_gate().open();
    packing.await.expect("no panic").expect("packs");
    let packed = runtime.stats().await.packed;
    assert_eq!((packed.made, packed.calibrations, packed.interrupted), (1, 1, 1));
}

/// A model that counts for 110 MiB, as packing it does.
fn of_110_mib() -> FakeEngine {
    let footprint = Footprint { held_bytes: 10 << 20, mapped_bytes: 100 << 20 };
    FakeEngine::builder().gate_packs().script(Script { footprint: Some(footprint), ..script(1.3) }).build()
}

#[tokio::test]
async fn an_order_that_waits_for_another_runtime_holds_no_memory_that_a_request_needs() {
    let (fixture, engine) = (Fixture::new(), of_110_mib());
    let first = fixture.runtime(&engine, LayoutWish::Packed);
    ask(&first).await;
    engine.wait_until(|counts| counts.packs_started == 1).await;
    // Room for one of the two.
    let builder = fixture.builder(&engine, LayoutWish::Packed, 200 << 20);
    let second = builder.pack_when_idle_for(Duration::from_secs(3_600)).build().expect("builds");
    let packing = tokio::spawn({
        let second = second.clone();
        async move { second.pack(MODEL, PackOptions::default()).await }
    });
    while second.stats().await.pool.reserved_bytes == 0 {
        tokio::task::yield_now().await;
    }
    tokio::time::timeout(LIMIT, ask(&second)).await.expect("the first is still at it");
    assert_eq!((engine.counts().packs_started, packing.is_finished()), (1, false));
    packing.abort();
}

#[tokio::test(start_paused = true)]
async fn what_lacks_memory_is_made_when_the_model_has_left() {
    let (fixture, engine) = (Fixture::new(), of_110_mib());
    engine.packs_gate().open();
    let runtime = fixture.builder(&engine, LayoutWish::Packed, 200 << 20).build().expect("builds");
    ask(&runtime).await;
    let info = known(&runtime, |info| info.last_error.is_some()).await;
    assert!(info.last_error.is_some_and(|last_error| last_error.contains("waits for memory")));
    assert_eq!(runtime.stats().await.packed.failed, 0);
    let failure = runtime.pack(MODEL, PackOptions::default()).await.expect_err("no memory");
    assert!(failure.hint.is_some_and(|hint| hint.contains("this one too")));
    runtime.unload(MODEL).await.expect("unloads");
    engine.wait_until(|counts| counts.packs_finished == 1).await;
    let info = known(&runtime, |info| info.layout == Layout::Packed).await;
    assert_eq!(info.last_error, None);
}

#[tokio::test]
async fn what_never_fits_the_budget_says_so_and_is_not_tried_again() {
    let (fixture, engine) = (Fixture::new(), of_110_mib());
    let runtime = fixture.builder(&engine, LayoutWish::Packed, 120 << 20).build().expect("builds");
    ask(&runtime).await;
    let info = known(&runtime, |info| info.why.contains("do not fit the budget")).await;
    assert_eq!((info.layout, info.bytes), (Layout::Mapped, None));
    let failure = runtime.pack(MODEL, PackOptions::default()).await.expect_err("never fits");
    assert_eq!((failure.kind, engine.counts().packs_started), (ErrorKind::TooLarge, 0));
}

#[tokio::test]
async fn a_file_that_was_asked_for_by_name_is_made_where_measuring_would_not_fit() {
    let (fixture, engine) = (Fixture::new(), packer(1.3).build());
    let whole = fixture.runtime(&engine, LayoutWish::Mapped);
    let weights = whole.spec(MODEL).await.expect("known").footprint().mapped_bytes;
    // Below the soft limit of 85 %: one and a half of it, and the little that is held.
    let budget_bytes = weights * 15 / 10 * 100 / 85;
    let small = ModelSettings::default().context_tokens(64).slots(1);
    let auto = small.clone().layout(LayoutWish::Auto);
    let runtime = fixture
        .builder(&engine, LayoutWish::Packed, budget_bytes)
        .alias("any", MODEL.parse().expect("a name"), auto)
        .alias("fast", MODEL.parse().expect("a name"), small)
        .pack_when_idle_for(Duration::from_secs(3_600))
        .build()
        .expect("builds");
    let failure = runtime.pack("any", PackOptions::default()).await.expect_err("it cannot be measured");
    assert_eq!((failure.kind, engine.counts().packs_started), (ErrorKind::TooLarge, 0), "{failure}");
    assert!(runtime.packed("any").await.expect("known").why.contains("do not fit the budget"));
    let info = runtime.pack("fast", PackOptions::default()).await.expect("needs no figures");
    assert_eq!((info.layout, info.speeds.len()), (Layout::Packed, 0));
    assert_eq!((engine.counts().packs_finished, engine.counts().calibrations), (1, 0));
}

#[tokio::test]
async fn figures_of_other_settings_are_not_taken_for_its_own() {
    let (fixture, engine) = (Fixture::new(), packer(1.3).build());
    let small = ModelSettings::default().kv_type(KvType::Q8_0);
    let builder = fixture.builder(&engine, LayoutWish::Auto, 1 << 30);
    let runtime = builder
        .alias("small", MODEL.parse().expect("a name"), small)
        .pack_when_idle_for(Duration::from_secs(3_600))
        .build()
        .expect("builds");
    let info = runtime.pack(MODEL, PackOptions::default()).await.expect("packs");
    assert_eq!((info.layout, info.speeds.len()), (Layout::Packed, 2));
    let other = runtime.packed("small").await.expect("known");
    assert_eq!((other.layout, other.speeds.len(), other.bytes), (Layout::Mapped, 0, info.bytes));
    let other = runtime.pack("small", PackOptions::default()).await.expect("measures");
    assert_eq!((other.layout, other.speeds.len()), (Layout::Packed, 2));
    assert_eq!((engine.counts().packs_started, engine.counts().calibrations), (1, 2));
}

#[tokio::test]
async fn a_file_of_the_user_is_packed_as_well_and_anew_when_it_was_replaced() {
    let (fixture, engine) = (Fixture::new(), packer(1.3).build());
    let runtime = fixture.runtime(&engine, LayoutWish::Packed);
    let demo = runtime.model(MODEL, samovar::Origin::Owner).await.expect("demo").path;
    let path = fixture.home.path().join("mine.gguf");
    fs_err::copy(&demo, &path).expect("copies");
    let name = path.to_string_lossy().into_owned();
    let info = runtime.pack(&name, PackOptions::default()).await.expect("packs");
    assert_eq!((info.layout, fixture.files().len()), (Layout::Packed, 1));
    let again = fixture.home.path().join("again.gguf");
    fs_err::copy(&demo, &again).expect("copies");
    fs_err::rename(&again, &path).expect("replaced");
    let info = runtime.packed(&name).await.expect("known");
    assert_eq!((info.layout, info.bytes), (Layout::Mapped, None));
}

#[tokio::test]
async fn shutting_down_stops_what_is_being_made() {
    let (fixture, engine) = (Fixture::new(), packer(1.3).gate_packs().build());
    let runtime = fixture.runtime(&engine, LayoutWish::Packed);
    ask(&runtime).await;
    engine.wait_until(|counts| counts.packs_started == 1).await;
    runtime.shutdown(LIMIT).await;
    assert_eq!((engine.counts().packs_cancelled, fixture.files().len()), (1, 0));
}

#[tokio::test]
async fn a_file_that_is_replaced_while_it_is_packed_leaves_nothing_behind() {
    let (fixture, engine) = (Fixture::new(), packer(1.3).gate_packs().build());
    let runtime = fixture.runtime_after(&engine, LayoutWish::Packed, Duration::from_secs(3_600));
    let demo = runtime.model(MODEL, samovar::Origin::Owner).await.expect("demo").path;
    let (path, again) = (fixture.home.path().join("mine.gguf"), fixture.home.path().join("again.gguf"));
    fs_err::copy(&demo, &path).expect("copies");
    fs_err::copy(&demo, &again).expect("copies");
    let packing = tokio::spawn({
        let (runtime, name) = (runtime.clone(), path.to_string_lossy().into_owned());
        async move { runtime.pack(&name, PackOptions::default()).await }
    });
    engine.wait_until(|counts| counts.packs_started == 1).await;
    fs_err::rename(&again, &path).expect("replaced");
    engine.packs_gate().open();
    let failure = packing.await.expect("no panic").expect_err("it is of no file");
    assert_eq!(failure.kind, ErrorKind::Storage, "{failure}");
    assert!(failure.message.contains("replaced"), "{failure}");
    assert_eq!(fixture.files(), Vec::<PathBuf>::new());
}

#[tokio::test]
async fn a_disk_without_room_costs_the_layout_and_no_request() {
    let (fixture, engine) = (Fixture::new(), packer(1.3).build());
    let first = fixture.runtime(&engine, LayoutWish::Mapped);
    first.model(MODEL, samovar::Origin::Owner).await.expect("enters the store while there is room");
    let mut full = fixture.config();
    full.min_free_bytes = u64::MAX / 2;
    let runtime = fixture.builder(&engine, LayoutWish::Packed, 1 << 30).store(full).build().expect("builds");
    let answer = ask(&runtime).await;
    let info = known(&runtime, |info| info.last_error.is_some()).await;
    assert_eq!((info.layout, info.bytes), (Layout::Mapped, None));
    assert_eq!(ask(&runtime).await, answer);
    assert_eq!((engine.counts().packs_started, fixture.files().len()), (0, 0));
}
