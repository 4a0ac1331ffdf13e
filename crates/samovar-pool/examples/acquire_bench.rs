//! How long acquire and release take through the owner task, with many models in memory.
//!
//! `cargo run --release -p samovar-pool --example acquire_bench -- [models] [rounds]` prints one JSON object.
#![allow(clippy::print_stdout, reason = "the result is the output")]

use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result};
use samovar_core::port::{EngineId, SystemClock};
use samovar_core::testing::FakeEngine;
use samovar_core::units::KeepAlive;
use samovar_core::{Cost, LoadOptions, Memory, ModelFiles, ModelKey};
use samovar_pool::{AcquireRequest, Budget, Instances, ModelSpec, Pool, PoolConfig};
use serde_json::{Value, json};

/// Rounds before measuring.
const WARM_UP: usize = 5_000;
const CALLERS: usize = 8;

fn main() -> Result<()> {
    let mut numbers = std::env::args().skip(1).map(|text| text.parse::<usize>());
    let models = numbers.next().transpose().context("models must be a number")?.unwrap_or(1_000);
    let rounds = numbers.next().transpose().context("rounds must be a number")?.unwrap_or(200_000);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    println!("{:#}", runtime.block_on(measure(models, rounds))?);
    Ok(())
}

async fn measure(models: usize, rounds: usize) -> Result<Value> {
    let specs: Arc<[_]> = (0..models).map(spec).collect();
    let pool = start(models);
    for spec in &*specs {
        pool.warm(Arc::clone(spec), None).await?;
    }
    caller(&pool, &specs, 0, WARM_UP).await?;
    let alone = caller(&pool, &specs, 1, rounds).await?;

    let began = Instant::now();
    let callers = (0..CALLERS).map(|number| {
        let (pool, specs) = (pool.clone(), Arc::clone(&specs));
        tokio::spawn(async move { caller(&pool, &specs, number, rounds / CALLERS).await })
    });
    let mut together = Times::default();
    for caller in callers.collect::<Vec<_>>() {
        together.extend(caller.await??);
    }
    let per_second = together.acquire_ns.len() as f64 / began.elapsed().as_secs_f64();

    let stats = pool.snapshot().await;
    anyhow::ensure!(stats.pool.loads == models as u64, "a model was loaded again: this measures loads");
    Ok(json!({
        "models": stats.models.len(),
        "rounds": rounds,
        "one_caller": alone.summary(),
        "eight_callers": together.summary(),
        "eight_callers_acquires_per_second": per_second.round(),
        "hits": stats.pool.hits,
        "loads": stats.pool.loads,
    }))
}

fn start(models: usize) -> Pool {
    let mut config = PoolConfig::with_budget(Budget::fixed(10_000 * models as u64, "bench"));
    config.models_max = models as u32 + 1;
    Pool::start(Arc::new(FakeEngine::new()), Arc::new(SystemClock::new()), config)
}

fn spec(number: usize) -> Arc<ModelSpec> {
    Arc::new(ModelSpec {
        key: ModelKey::new(format!("sha256:{number:064x}")),
        name: format!("model-{number}"),
        files: ModelFiles::of("/nowhere"),
        descriptor: Arc::new(FakeEngine::descriptor("bench", 100)),
        engine: EngineId::new("fake"),
        capabilities: FakeEngine::CAPABILITIES,
        options: LoadOptions { context_tokens: 1, slots: 16, ..FakeEngine::options() },
        cost: Cost { memory: Memory::on_host(4_096, 100), ..Cost::default() },
        load_ms: None,
        keep_alive: KeepAlive::Ms(300_000),
        instances: Instances::default(),
        needs: Vec::new(),
        has_fixed_slots: true,
        usual: None,
    })
}

#[derive(Default)]
struct Times {
    acquire_ns: Vec<u64>,
    round_ns: Vec<u64>,
}

impl Times {
    fn extend(&mut self, other: Self) {
        self.acquire_ns.extend(other.acquire_ns);
        self.round_ns.extend(other.round_ns);
    }

    fn summary(self) -> Value {
        let [acquire_p50, acquire_p99, acquire_max] = percentiles(self.acquire_ns);
        let [round_p50, round_p99, round_max] = percentiles(self.round_ns);
        json!({
            "acquire_us_p50": acquire_p50, "acquire_us_p99": acquire_p99, "acquire_us_max": acquire_max,
            "acquire_and_release_us_p50": round_p50, "acquire_and_release_us_p99": round_p99,
            "acquire_and_release_us_max": round_max,
        })
    }
}

fn percentiles(mut ns: Vec<u64>) -> [f64; 3] {
    ns.sort_unstable();
    let at = |share: f64| {
        ns.get((ns.len() as f64 * share) as usize).or(ns.last()).map_or(0.0, |ns| *ns as f64 / 1e3)
    };
    [at(0.5), at(0.99), at(1.0)]
}

/// Acquires and releases in a scattered order of models.
async fn caller(pool: &Pool, specs: &[Arc<ModelSpec>], first: usize, rounds: usize) -> Result<Times> {
    let mut times = Times::default();
    let mut next = first;
    for _ in 0..rounds {
        next = (next + 7_919) % specs.len();
        let ask = AcquireRequest::new(Arc::clone(&specs[next]));
        let began = Instant::now();
        let lease = pool.acquire(ask, None).await?;
        times.acquire_ns.push(began.elapsed().as_nanos() as u64);
        drop(lease);
        times.round_ns.push(began.elapsed().as_nanos() as u64);
    }
    Ok(times)
}
