//! Prompt state over evictions and restarts: found again, of no influence on any answer, and off by one switch.

use std::path::PathBuf;
use std::sync::Arc;

use samovar::store::{PrefixConfig, StoreConfig, StoreStats};
use samovar::{Budget, CacheStatus, Input, Origin, PoolConfig, Request, Runtime, Summary};
use samovar_core::Sampling;
use samovar_core::port::Engine;
use samovar_core::testing::fake::FakeEngine;
use samovar_core::units::KeepAlive;

/// Less than the default, since the model's context is small.
const MIN_TOKENS: u32 = 64;

struct Fixture {
    home: tempfile::TempDir,
    engine: fn() -> Arc<dyn Engine>,
}

impl Fixture {
    fn new() -> Self {
        Self { home: tempfile::tempdir().expect("tempdir"), engine: || Arc::new(FakeEngine::new()) }
    }

    fn config(&self) -> StoreConfig {
        let mut config = StoreConfig::new(self.home.path().join("cache"), self.home.path().join("state"));
        config.sources.is_offline = true;
        config.min_free_bytes = 0;
        config.prefixes = PrefixConfig { min_tokens: MIN_TOKENS, ..PrefixConfig::default() };
        config
    }

    fn runtime(&self) -> Runtime {
        self.runtime_with(self.config())
    }

    fn runtime_with(&self, config: StoreConfig) -> Runtime {
        let budget = Budget { bytes: 1 << 30, source: "a test".into() };
        let pool = PoolConfig::with_budget(budget);
        Runtime::builder().store(config).pool(pool).engine((self.engine)()).build().expect("builds")
    }

    /// Every saved state.
    fn states(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let mut folders = vec![self.home.path().join("cache/prefixes")];
        while let Some(folder) = folders.pop() {
            for entry in fs_err::read_dir(folder).expect("a folder") {
                let path = entry.expect("an entry").path();
                if path.is_dir() {
                    folders.push(path);
                } else if path.ends_with("state") {
                    found.push(path);
                }
            }
        }
        found
    }
}

/// A prompt of the built-in model: what it begins with, and a little of its own.
fn prompt(model: &str, question: u32) -> Request {
    let begin: Vec<u32> = (0..160).map(|token| 10 + token * 7 % 190).collect();
    let own = (0..20).map(|token| 10 + (token * 11 + question * 13) % 190);
    let tokens = begin.into_iter().chain(own).collect();
    Request::new(model, Input::Tokens(tokens)).sampling(Sampling::greedy()).max_tokens(12)
}

async fn ask(runtime: &Runtime, request: Request) -> (String, Summary) {
    runtime.generate(request).collect().await.expect("answers")
}

async fn end(runtime: Runtime) -> StoreStats {
    runtime.shutdown(std::time::Duration::from_secs(10)).await;
    runtime.stats().await.store.expect("the store was used")
}

async fn what_was_computed_once_is_not_computed_again(fixture: Fixture) {
    let first = fixture.runtime();
    let (said, summary) = ask(&first, prompt("demo", 1)).await;
    assert_eq!((summary.usage.prompt_tokens, summary.usage.cached_tokens), (180, 0));
    assert_eq!(end(first).await.prefixes_saved, 1);

    let second = fixture.runtime();
    let (same, summary) = ask(&second, prompt("demo", 1)).await;
    assert_eq!((same, summary.tier, summary.usage.cached_tokens), (said, CacheStatus::Cold, 179));
    assert_eq!(end(second).await.prefixes_restored, 1);

    // A prompt that only begins alike gets the part that it shares, and the answer that it would have got anyway.
    let third = fixture.runtime();
    let (answer, summary) = ask(&third, prompt("demo", 2)).await;
    assert_eq!(summary.usage.cached_tokens, 160);
    assert_eq!(end(third).await.prefix_tokens_restored, 179 + 160);
    let mut off = fixture.config();
    off.prefixes.quota_bytes = Some(0);
    let computed = fixture.runtime_with(off);
    let (anew, summary) = ask(&computed, prompt("demo", 2)).await;
    assert_eq!((anew, summary.usage.cached_tokens), (answer, 0));
    end(computed).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_does_not_cost_the_prompts() {
    what_was_computed_once_is_not_computed_again(Fixture::new()).await;
}

#[cfg(feature = "llama")]
#[tokio::test(flavor = "multi_thread")]
async fn a_restart_does_not_cost_the_prompts_on_the_real_engine() {
    let engine = || Arc::new(samovar_llama::LlamaEngine::new()) as Arc<dyn Engine>;
    what_was_computed_once_is_not_computed_again(Fixture { engine, ..Fixture::new() }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_parked_model_takes_its_prompts_up_again() {
    let fixture = Fixture::new();
    let engine = FakeEngine::new();
    let budget = Budget { bytes: 1 << 30, source: "a test".into() };
    let runtime = Runtime::builder()
        .store(fixture.config())
        .pool(PoolConfig { min_residency_ms: 0, ..PoolConfig::with_budget(budget) })
        .engine(Arc::new(engine.clone()))
        .build()
        .expect("builds");
    let mut parking = prompt("demo", 1);
    parking.common.keep_alive = Some(KeepAlive::ParkAtOnce);
    ask(&runtime, parking).await;
    engine.wait_until(|counts| counts.parks == 1).await;
    let (_, summary) = ask(&runtime, prompt("demo", 1)).await;
    assert_eq!((summary.tier, summary.usage.cached_tokens), (CacheStatus::Parked, 179));
    // While it is held, nothing is read again.
    let (_, summary) = ask(&runtime, prompt("demo", 1)).await;
    assert_eq!(summary.usage.cached_tokens, 179);
    let stats = end(runtime).await;
    assert_eq!((stats.prefixes_restored, stats.prefixes_saved), (1, 1), "it said nothing new at the end");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_who_begin_alike_one_restores() {
    let fixture = Fixture::new();
    let first = fixture.runtime();
    ask(&first, prompt("demo", 0)).await;
    end(first).await;
    let second = fixture.runtime();
    let answers: Vec<_> = (0..8).map(|question| second.generate(prompt("demo", question))).collect();
    for answer in answers {
        let (_, summary) = answer.collect().await.expect("answers");
        assert!(summary.usage.cached_tokens >= 160, "{summary:?}");
    }
    assert_eq!(end(second).await.prefixes_restored, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_state_costs_its_computing_and_nothing_else() {
    let fixture = Fixture::new();
    let first = fixture.runtime();
    let (said, _) = ask(&first, prompt("demo", 1)).await;
    end(first).await;
    let [state] = &fixture.states()[..] else { panic!("one state") };
    let mut bytes = fs_err::read(state).expect("reads");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs_err::write(state, bytes).expect("writes");
    let second = fixture.runtime();
    let (same, summary) = ask(&second, prompt("demo", 1)).await;
    assert_eq!((same, summary.usage.cached_tokens), (said, 0));
    assert!(fixture.states().is_empty());
    let stats = end(second).await;
    assert_eq!((stats.prefixes_damaged, stats.prefixes, stats.prefixes_restored), (1, 1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_switch_a_short_prompt_and_a_full_disk_leave_nothing() {
    let fixture = Fixture::new();
    let mut off = fixture.config();
    off.prefixes.quota_bytes = Some(0);
    let mut long = fixture.config();
    long.prefixes.min_tokens = 1_000;
    let mut full = fixture.config();
    full.min_free_bytes = u64::MAX / 2;
    for config in [off, long, full] {
        let runtime = fixture.runtime_with(config);
        ask(&runtime, prompt("demo", 1)).await;
        assert_eq!(end(runtime).await.prefixes_saved, 0);
        assert!(fixture.states().is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_of_the_user_has_its_own_and_a_replaced_one_has_none() {
    let fixture = Fixture::new();
    let first = fixture.runtime();
    let demo = first.model("demo", Origin::Owner).await.expect("demo").path;
    let path = fixture.home.path().join("own.gguf");
    let name = path.to_str().expect("a name").to_owned();
    fs_err::copy(&demo, &path).expect("copies");
    ask(&first, prompt(&name, 1)).await;
    end(first).await;
    let second = fixture.runtime();
    assert_eq!(ask(&second, prompt(&name, 1)).await.1.usage.cached_tokens, 179);
    assert_eq!(ask(&second, prompt("demo", 1)).await.1.usage.cached_tokens, 0);
    end(second).await;
    let other = fixture.home.path().join("other.gguf");
    fs_err::copy(&demo, &other).expect("copies");
    fs_err::rename(&other, &path).expect("replaces");
    let third = fixture.runtime();
    assert_eq!(ask(&third, prompt(&name, 1)).await.1.usage.cached_tokens, 0);
    end(third).await;
}
