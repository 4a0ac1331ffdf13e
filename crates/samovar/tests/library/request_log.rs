//! The log of requests, on the fake engine: what each line says, and what none says.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use samovar::replay::{Subject, log::Reader, replay};
use samovar::store::StoreConfig;
use samovar::{Budget, Message, ModelSettings, PoolConfig, Request, Runtime, WarmOptions};
use samovar_core::ErrorKind;
use samovar_core::testing::fake::FakeEngine;
use serde_json::Value;

struct Fixture {
    runtime: Runtime,
    engine: FakeEngine,
    log: PathBuf,
    home: tempfile::TempDir,
}

fn fixture(engine: FakeEngine, budget_bytes: u64) -> Fixture {
    fixture_at(tempfile::tempdir().expect("tempdir"), engine, budget_bytes)
}

fn fixture_at(home: tempfile::TempDir, engine: FakeEngine, budget_bytes: u64) -> Fixture {
    let log = home.path().join("requests.log");
    let runtime = Runtime::builder()
        .store(StoreConfig::new(home.path().join("cache"), home.path().join("state")))
        .pool(PoolConfig::with_budget(Budget { bytes: budget_bytes, source: "a test".into() }))
        .engine(Arc::new(engine.clone()))
        .request_log(&log)
        .build()
        .expect("builds");
    Fixture { runtime, engine, log, home }
}

fn ask(client: &str) -> Request {
    ask_for("demo", client)
}

fn ask_for(model: &str, client: &str) -> Request {
    Request::chat(model, [Message::user("a secret word")]).max_tokens(6).client(client)
}

impl Fixture {
    /// What was written, once the runtime has left.
    async fn lines(&self) -> (String, Vec<Value>) {
        self.runtime.shutdown(Duration::from_secs(5)).await;
        let text = fs_err::read_to_string(&self.log).expect("log");
        let lines = text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        (text, lines)
    }
}

#[tokio::test]
async fn a_line_tells_the_model_the_tier_and_the_times_and_never_a_word() {
    let fixture = fixture(FakeEngine::new(), 1 << 30);
    let mut timings = Vec::new();
    for client in ["alice", "bob", "alice"] {
        timings.push(fixture.runtime.generate(ask(client)).collect().await.expect("answers").1.timings);
    }
    let (text, lines) = fixture.lines().await;
    assert!(!text.contains("secret") && !text.contains("alice"), "{text}");
    let asked: Vec<&Value> = lines.iter().filter(|line| line["time_ms"].is_u64()).collect();
    let tiers: Vec<&Value> = asked.iter().map(|line| &line["tier"]).collect();
    assert_eq!(tiers, ["cold", "hit", "hit"], "{text}");
    assert!(asked.iter().all(|line| line["hold_ms"].is_u64() && line["tokens"].is_u64()), "{text}");
    for (line, timings) in asked.iter().zip(&timings) {
        let told = (line["queue_ms"].as_u64(), line["load_ms"].as_u64());
        assert_eq!(told, (Some(timings.queue_ms as u64), Some(timings.load_ms as u64)), "one clock: {text}");
    }
    assert_eq!(asked[0]["client"], asked[2]["client"]);
    assert_ne!(asked[0]["client"], asked[1]["client"]);

    let mut reader = Reader::default();
    text.lines().for_each(|line| reader.take(line).expect("reads"));
    let trace = reader.finish();
    let subject = Subject::new(&trace.models[0], None).expect("the log says what the model costs");
    let config = PoolConfig::with_budget(Budget { bytes: 1 << 30, source: "a test".into() });
    let report = replay(&trace, &[subject], &config, true);
    assert_eq!((report.requests, report.loaded, report.ready), (3, 1, 2));
}

#[tokio::test]
async fn a_restart_goes_on_in_the_same_file_and_clients_are_other_numbers() {
    let first = fixture(FakeEngine::new(), 1 << 30);
    first.runtime.generate(ask("alice")).collect().await.expect("answers");
    let (before, _) = first.lines().await;
    let second = fixture_at(first.home, FakeEngine::new(), 1 << 30);
    second.runtime.generate(ask("alice")).collect().await.expect("answers");
    let (text, lines) = second.lines().await;
    assert!(text.starts_with(&before) && text.len() > before.len(), "{text}");
    let clients: Vec<&Value> = lines.iter().map(|line| &line["client"]).filter(|it| it.is_string()).collect();
    assert_eq!(clients.len(), 2, "{text}");
    assert_ne!(clients[0], clients[1], "{text}");
    let mut reader = Reader::default();
    text.lines().for_each(|line| reader.take(line).expect("reads"));
    let trace = reader.finish();
    assert_eq!((trace.requests.len(), trace.models.len()), (2, 1));
}

#[tokio::test]
async fn every_name_of_a_model_has_its_costs_and_those_of_one_instance() {
    let home = tempfile::tempdir().expect("tempdir");
    let log = home.path().join("requests.log");
    let trio = ModelSettings::default().min_instances(3);
    let runtime = Runtime::builder()
        .store(StoreConfig::new(home.path().join("cache"), home.path().join("state")))
        .pool(PoolConfig::with_budget(Budget { bytes: 1 << 30, source: "a test".into() }))
        .engine(Arc::new(FakeEngine::new()))
        .alias("trio", "demo".parse().expect("a reference"), trio)
        .request_log(&log)
        .build()
        .expect("builds");
    let one = runtime.spec("demo").await.expect("is known").footprint();
    runtime.warm("trio", WarmOptions::default()).await.expect("loads");
    for model in ["trio", "demo"] {
        runtime.generate(ask_for(model, "alice")).collect().await.expect("answers");
    }
    runtime.shutdown(Duration::from_secs(5)).await;
    let text = fs_err::read_to_string(&log).expect("log");
    for model in ["trio", "demo"] {
        let mut lines = text.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
        let facts = lines.find(|line| line["model"] == model && line["held_bytes"].is_u64());
        assert_eq!(facts.expect("facts")["held_bytes"], one.held_bytes, "{model}: {text}");
    }
}

#[tokio::test]
async fn refused_callers_and_those_who_left_are_told_apart() {
    let small = fixture(FakeEngine::new(), 1);
    let failure = small.runtime.generate(ask("alice")).collect().await.expect_err("too large");
    assert_eq!(failure.kind, ErrorKind::TooLarge);
    let (text, lines) = small.lines().await;
    assert_eq!(lines.last().expect("a line")["tier"], "refused", "{text}");

    let slow = fixture(FakeEngine::builder().gate_loads().build(), 1 << 30);
    let answer = slow.runtime.generate(ask("alice"));
    slow.engine.wait_until(|counts| counts.loads_started == 1).await;
    drop(answer);
    slow.engine.loads_gate().open();
    let (text, lines) = slow.lines().await;
    let left = lines.iter().find(|line| line["time_ms"].is_u64()).expect("a line");
    assert_eq!(left["tier"], "left", "{text}");
    assert!(left.get("hold_ms").is_none(), "{text}");
}

#[tokio::test]
async fn a_log_that_cannot_be_written_harms_no_request() {
    let home = tempfile::tempdir().expect("tempdir");
    let runtime = Runtime::builder()
        .store(StoreConfig::new(home.path().join("cache"), home.path().join("state")))
        .engine(Arc::new(FakeEngine::new()))
        .request_log(home.path())
        .build()
        .expect("builds");
    runtime.generate(ask("alice")).collect().await.expect("answers");
    runtime.shutdown(Duration::from_secs(5)).await;
}
