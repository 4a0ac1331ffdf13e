//! The pool as its callers see it, on the fake engine and paused time.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;
use std::time::Duration;

use samovar_core::footprint::{Footprint, Measurement};
use samovar_core::generation::Generation;
use samovar_core::port::{
    Capabilities, Clock, Engine, EngineId, EngineInfo, Instance, LoadRequest, Millis, PromptControl,
};
use samovar_core::testing::FakeEngine;
use samovar_core::testing::fake::Script;
use samovar_core::units::KeepAlive;
use samovar_core::{
    Arena, Bytes, Cost, Descriptor, ErrorKind, Failure, GenerationRequest, Layout, LoadOptions, Memory,
    ModelFiles, ModelKey, Prompt,
};
use samovar_pool::{
    AcquireRequest, Budget, Error, GrantKind, Instances, ModelSpec, ModelState, ModelStats, Pool, PoolConfig,
    Reason, Wait, What,
};
use tokio::sync::mpsc;
use tokio::time::{Instant, advance};

/// Tokio's clock, which tests pause and move.
struct TokioClock(Instant);

impl Clock for TokioClock {
    fn now(&self) -> Millis {
        Millis(self.0.elapsed().as_millis() as u64)
    }
}

fn pool_with(engine: &FakeEngine, change: impl FnOnce(&mut PoolConfig)) -> Pool {
    let mut config = PoolConfig::with_budget(Budget::fixed(1_000, "test"));
    // What happens here must not depend on the machine.
    config.look_every_ms = 0;
    change(&mut config);
    Pool::start(Arc::new(engine.clone()), Arc::new(TokioClock(Instant::now())), config)
}

fn pool(engine: &FakeEngine) -> Pool {
    pool_with(engine, |_| ())
}

fn spec_with(name: &str, change: impl FnOnce(&mut ModelSpec)) -> Arc<ModelSpec> {
    let mut spec = ModelSpec {
        key: ModelKey::new(format!("key of {name}")),
        name: name.to_owned(),
        files: ModelFiles::of("/nowhere"),
        descriptor: Arc::new(FakeEngine::descriptor(name, 300)),
        engine: EngineId::new("fake"),
        capabilities: FakeEngine::CAPABILITIES,
        options: LoadOptions { slots: 16, ..FakeEngine::options() },
        cost: Cost { memory: Memory::on_host(100, 300), ..Cost::default() },
        load_ms: None,
        keep_alive: KeepAlive::Ms(60_000),
        instances: Instances::default(),
        needs: Vec::new(),
        has_fixed_slots: true,
        usual: None,
    };
    change(&mut spec);
    // As an engine would say of what it is now.
    spec.cost = Cost::on_host(&spec.descriptor, &spec.options, spec.footprint());
    Arc::new(spec)
}

/// It takes so many bytes of its own.
fn hold(spec: &mut ModelSpec, held_bytes: u64) {
    spec.cost.memory.private = Bytes::host(held_bytes);
}

fn spec(name: &str) -> Arc<ModelSpec> {
    spec_with(name, |_| ())
}

/// An engine whose instances measure what the specs above predict.
fn engine() -> FakeEngine {
    engine_builder().build()
}

fn engine_builder() -> samovar_core::testing::fake::Builder {
    let footprint = Some(Footprint { held_bytes: 100, mapped_bytes: 300 });
    FakeEngine::builder().script(Script { footprint, ..Script::default() })
}

async fn model(pool: &Pool, name: &str) -> ModelStats {
    let snapshot = pool.snapshot().await;
    snapshot.models.into_iter().find(|model| model.name == name).expect("the pool knows the model")
}

/// Until the model is in this state; the owner is given turns, no time passes but what it sleeps itself.
async fn until(pool: &Pool, name: &str, state: ModelState) -> ModelStats {
    for _ in 0..100_000 {
        let models = pool.snapshot().await.models;
        if let Some(model) = models.into_iter().find(|model| model.name == name && model.state == state) {
            return model;
        }
        tokio::task::yield_now().await;
        std::thread::yield_now();
    }
    panic!("{name} is {:?}, not {state:?}", model(pool, name).await.state)
}

#[tokio::test(start_paused = true)]
async fn ten_concurrent_first_requests_cause_one_load() {
    let engine = engine_builder().gate_loads().build();
    let pool = pool(&engine);
    let calls: Vec<_> = (0..10)
        .map(|_| {
            let (pool, model) = (pool.clone(), spec("a"));
            tokio::spawn(async move { pool.acquire(AcquireRequest::new(model), None).await })
        })
        .collect();
    while queued(&pool).await < 10 {
        tokio::task::yield_now().await;
    }
    engine.loads_gate().open();
    let mut leases = Vec::new();
    for call in calls {
        leases.push(call.await.unwrap().unwrap());
    }
    assert_eq!(engine.counts().loads_started, 1);
    let origins = |grant_kind| leases.iter().filter(|lease| lease.grant_kind() == grant_kind).count();
    assert_eq!((origins(GrantKind::Cold), origins(GrantKind::Joined)), (1, 9));
    let stats = pool.snapshot().await.pool;
    assert_eq!((stats.requests, stats.loads, stats.misses, stats.coalesced, stats.leases), (10, 1, 1, 9, 10));
    drop(leases);
    assert_eq!(pool.snapshot().await.pool.leases, 0);
    assert_eq!(
        pool.acquire(AcquireRequest::new(spec("a")), None).await.unwrap().grant_kind(),
        GrantKind::Hit
    );
    assert_eq!(pool.snapshot().await.pool.hits, 1);
}

async fn queued(pool: &Pool) -> u32 {
    pool.snapshot().await.pool.queued
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_goes_cancels_its_ticket_and_not_the_load() {
    let engine = engine_builder().gate_loads().build();
    let pool = pool(&engine);
    let call = {
        let pool = pool.clone();
        tokio::spawn(async move { pool.acquire(AcquireRequest::new(spec("a")), None).await })
    };
    engine.wait_until(|counts| counts.loads_started == 1).await;
    call.abort();
    assert!(call.await.unwrap_err().is_cancelled());
    while pool.snapshot().await.pool.cancelled == 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(queued(&pool).await, 0);
    engine.loads_gate().open();
    let ready = until(&pool, "a", ModelState::Ready).await;
    assert_eq!((ready.loads, ready.busy_slots), (1, 0));
    assert_eq!(engine.counts().loads_cancelled, 0);
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_goes_between_grant_and_receipt_gives_the_lease_back() {
    let engine = engine();
    let pool = pool(&engine);
    pool.warm(spec("a"), None).await.unwrap();
    let mut call = Box::pin(pool.acquire(AcquireRequest::new(spec("a")), None));
    let is_pending =
        std::future::poll_fn(|context| Poll::Ready(call.as_mut().poll(context).is_pending())).await;
    assert!(is_pending);
    assert_eq!(model(&pool, "a").await.busy_slots, 1);
    drop(call);
    assert_eq!(model(&pool, "a").await.busy_slots, 0);
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_drops_serves_who_waits_and_who_waits_is_told() {
    let engine = engine();
    let pool = pool(&engine);
    let one_slot = spec_with("a", |spec| spec.options.slots = 1);
    let first = pool.acquire(AcquireRequest::new(Arc::clone(&one_slot)), None).await.unwrap();
    let (tell, mut told) = mpsc::channel(8);
    let second = {
        let (pool, model) = (pool.clone(), Arc::clone(&one_slot));
        tokio::spawn(async move { pool.acquire(AcquireRequest::new(model), Some(tell)).await })
    };
    assert_eq!(told.recv().await, Some(Wait::Queued { position: 1, estimate_ms: None }));
    advance(Duration::from_millis(700)).await;
    drop(first);
    let second = second.await.unwrap().unwrap();
    assert_eq!(second.grant_kind(), GrantKind::Hit);
    assert!((second.queue_ms() - 700.0).abs() < 50.0, "{}", second.queue_ms());
    assert!(second.load_ms().abs() < f64::EPSILON);
}

#[tokio::test(start_paused = true)]
async fn whoever_waits_hears_of_the_load() {
    let engine = engine_builder().gate_loads().build();
    let pool = pool(&engine);
    let (tell, mut told) = mpsc::channel(64);
    let call = {
        let pool = pool.clone();
        tokio::spawn(async move { pool.acquire(AcquireRequest::new(spec("a")), Some(tell)).await })
    };
    assert_eq!(told.recv().await, Some(Wait::Loading { fraction: 0.0, instance: 1, of: 1 }));
    engine.loads_gate().open();
    call.await.unwrap().unwrap();
    let mut last = 0.0;
    while let Some(wait) = told.recv().await {
        let Wait::Loading { fraction, .. } = wait else { panic!("{wait:?}") };
        assert!(fraction >= last);
        last = fraction;
    }
}

#[tokio::test(start_paused = true)]
async fn an_idle_model_is_parked_then_unloaded() {
    let engine = engine();
    let pool = pool_with(&engine, |config| config.parked_ms = 600_000);
    drop(pool.acquire(AcquireRequest::new(spec("a")), None).await.unwrap());
    let ready = until(&pool, "a", ModelState::Ready).await;
    assert_eq!((ready.held_bytes, ready.mapped_bytes, ready.expires_in_ms), (100, 300, Some(60_000)));
    assert_eq!(ready.age_ms, Some(0));
    tokio::time::sleep(Duration::from_secs(7)).await;
    let age_ms = until(&pool, "a", ModelState::Ready).await.age_ms;
    assert!(age_ms.is_some_and(|ms| (7_000..8_000).contains(&ms)), "{age_ms:?}");
    tokio::time::sleep(Duration::from_secs(54)).await;
    let parked = until(&pool, "a", ModelState::Parked).await;
    assert_eq!((parked.held_bytes, parked.mapped_bytes, parked.age_ms), (0, 0, None));
    assert_eq!(engine.counts().parked_instances, 1);

    let lease = pool.acquire(AcquireRequest::new(spec("a")), None).await.unwrap();
    assert_eq!(lease.grant_kind(), GrantKind::Parked);
    drop(lease);
    let stats = pool.snapshot().await.pool;
    assert_eq!((stats.loads, stats.parked, stats.resumed, stats.hits), (1, 1, 1, 1));

    tokio::time::sleep(Duration::from_secs(61)).await;
    until(&pool, "a", ModelState::Parked).await;
    tokio::time::sleep(Duration::from_secs(601)).await;
    until(&pool, "a", ModelState::Absent).await;
    assert_eq!(engine.counts().live_instances, 0);
    assert_eq!(pool.snapshot().await.pool.evictions_by_reason.get("expired"), Some(&1));
}

#[tokio::test(start_paused = true)]
async fn keep_alive_of_a_request_wins_over_that_of_the_model() {
    let engine = engine();
    let pool = pool(&engine);
    let at_once =
        AcquireRequest { keep_alive: Some(KeepAlive::ParkAtOnce), ..AcquireRequest::new(spec("a")) };
    drop(pool.acquire(at_once, None).await.unwrap());
    until(&pool, "a", ModelState::Parked).await;
    let for_ever =
        AcquireRequest { keep_alive: Some(KeepAlive::UntilEvicted), ..AcquireRequest::new(spec("a")) };
    drop(pool.acquire(for_ever, None).await.unwrap());
    tokio::time::sleep(Duration::from_secs(86_400)).await;
    assert_eq!(until(&pool, "a", ModelState::Ready).await.expires_in_ms, None);
}

#[tokio::test(start_paused = true)]
async fn a_pinned_model_stays() {
    let engine = engine();
    let pool = pool(&engine);
    pool.pin(spec("a"), true).await.unwrap();
    pool.warm(spec("a"), None).await.unwrap();
    drop(pool.acquire(AcquireRequest::new(spec("a")), None).await.unwrap());
    tokio::time::sleep(Duration::from_secs(86_400)).await;
    assert!(until(&pool, "a", ModelState::Ready).await.is_pinned);

    let too_much = spec_with("b", |spec| hold(spec, 601));
    let refused = pool.acquire(AcquireRequest::new(too_much), None).await.unwrap_err();
    let Error::TooLarge { needed_bytes: 901, budget_bytes: 1_000, largest_bytes: 600, .. } = refused else {
        panic!("{refused:?}")
    };

    pool.pin(spec("a"), false).await.unwrap();
    tokio::time::sleep(Duration::from_secs(61)).await;
    until(&pool, "a", ModelState::Parked).await;
}

#[tokio::test(start_paused = true)]
async fn unloading_drains_who_is_served() {
    let engine = engine();
    let pool = pool(&engine);
    let lease = pool.acquire(AcquireRequest::new(spec("a")), None).await.unwrap();
    assert_eq!(pool.unload("a").await, Ok(1));
    assert_eq!(until(&pool, "a", ModelState::Draining).await.busy_slots, 1);
    assert_eq!(engine.counts().live_instances, 1);
    drop(lease);
    engine.wait_until(|counts| counts.live_instances == 0).await;
    until(&pool, "a", ModelState::Absent).await;
    assert_eq!(pool.unload("a").await, Ok(0));
    assert_eq!(pool.unload("nobody").await, Ok(0));
}

#[tokio::test(start_paused = true)]
async fn a_request_during_draining_is_served_by_a_new_load() {
    let engine = engine();
    let pool = pool(&engine);
    let lease = pool.acquire(AcquireRequest::new(spec("a")), None).await.unwrap();
    pool.unload_all().await.unwrap();
    let next = {
        let pool = pool.clone();
        tokio::spawn(async move { pool.acquire(AcquireRequest::new(spec("a")), None).await })
    };
    while queued(&pool).await == 0 {
        tokio::task::yield_now().await;
    }
    drop(lease);
    assert_eq!(next.await.unwrap().unwrap().grant_kind(), GrantKind::Cold);
    assert_eq!(engine.counts().loads_finished, 2);
}

#[tokio::test(start_paused = true)]
async fn unloading_stops_a_load_that_nobody_waits_for() {
    let engine = engine_builder().gate_loads().build();
    let pool = pool(&engine);
    let call = {
        let pool = pool.clone();
        tokio::spawn(async move { pool.warm(spec("a"), None).await })
    };
    engine.wait_until(|counts| counts.loads_started == 1).await;
    call.abort();
    while queued(&pool).await > 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(pool.unload("a").await, Ok(1));
    engine.wait_until(|counts| counts.loads_cancelled == 1).await;
    until(&pool, "a", ModelState::Absent).await;
}

#[tokio::test(start_paused = true)]
async fn shutdown_waits_for_leases_and_refuses_the_rest() {
    let engine = engine();
    let pool = pool(&engine);
    let lease = pool.acquire(AcquireRequest::new(spec("a")), None).await.unwrap();
    pool.warm(spec("b"), None).await.unwrap();
    let leaving = {
        let pool = pool.clone();
        tokio::spawn(async move { pool.shutdown(Duration::from_secs(60)).await })
    };
    engine.wait_until(|counts| counts.live_instances == 1).await;
    assert!(!leaving.is_finished());
    assert_eq!(pool.acquire(AcquireRequest::new(spec("b")), None).await.unwrap_err(), Error::ShuttingDown);
    drop(lease);
    leaving.await.unwrap();
    assert_eq!(engine.counts().live_instances, 0);
    assert_eq!(pool.acquire(AcquireRequest::new(spec("b")), None).await.unwrap_err(), Error::ShuttingDown);
    assert_eq!(pool.snapshot().await, samovar_pool::Snapshot::default());
}

#[tokio::test(start_paused = true)]
async fn shutdown_leaves_without_who_does_not_come_back() {
    let engine = engine();
    let pool = pool(&engine);
    let lease = pool.acquire(AcquireRequest::new(spec("a")), None).await.unwrap();
    let start = Instant::now();
    pool.shutdown(Duration::from_secs(5)).await;
    assert!(start.elapsed() >= Duration::from_secs(5));
    assert!(lease.instance().tokenize("still there", false, false).is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_pool_that_nobody_can_call_leaves() {
    let engine = engine();
    let pool = pool(&engine);
    let lease = pool.acquire(AcquireRequest::new(spec("a")), None).await.unwrap();
    drop(pool);
    tokio::task::yield_now().await;
    assert_eq!(engine.counts().live_instances, 1);
    drop(lease);
    engine.wait_until(|counts| counts.live_instances == 0).await;
}

#[tokio::test(start_paused = true)]
async fn a_crowd_meets_a_failing_load_once() {
    let engine = engine_builder().gate_loads().build();
    let damaged = Failure::new(ErrorKind::InvalidModel, "the file is damaged").with_hint("fetch it again");
    engine.fail_next_loads(2, damaged);
    let pool = pool(&engine);
    let calls: Vec<_> = (0..5)
        .map(|_| {
            let pool = pool.clone();
            tokio::spawn(async move { pool.acquire(AcquireRequest::new(spec("a")), None).await })
        })
        .collect();
    while queued(&pool).await < 5 {
        tokio::task::yield_now().await;
    }
    engine.loads_gate().open();
    for call in calls {
        let failure: Failure = call.await.unwrap().unwrap_err().into();
        assert_eq!((failure.kind, failure.retry_after_ms), (ErrorKind::InvalidModel, Some(1_000)));
        assert_eq!(failure.message, "cannot load a: the file is damaged");
        assert_eq!(failure.hint.as_deref(), Some("fetch it again"));
    }
    assert!(pool.acquire(AcquireRequest::new(spec("a")), None).await.is_err());
    assert_eq!(engine.counts().loads_started, 1);
    assert_eq!(model(&pool, "a").await.state, ModelState::Failed);

    advance(Duration::from_millis(1_001)).await;
    let second = pool.acquire(AcquireRequest::new(spec("a")), None).await.unwrap_err();
    assert_eq!(second.retry_after_ms(), Some(2_000));
    advance(Duration::from_millis(2_001)).await;
    pool.acquire(AcquireRequest::new(spec("a")), None).await.unwrap();
    assert_eq!(engine.counts().loads_started, 3);
    assert_eq!(model(&pool, "a").await.failure, None);
}

#[tokio::test(start_paused = true)]
async fn a_deadline_is_answered_when_it_comes() {
    let engine = engine();
    let pool = pool(&engine);
    let one_slot = spec_with("a", |spec| spec.options.slots = 1);
    let _lease = pool.acquire(AcquireRequest::new(Arc::clone(&one_slot)), None).await.unwrap();
    let start = Instant::now();
    let deadline = Some(pool_now(&pool).await.plus(2_000));
    let error =
        pool.acquire(AcquireRequest { deadline, ..AcquireRequest::new(one_slot) }, None).await.unwrap_err();
    assert!(matches!(error, Error::DeadlineExceeded { .. }), "{error:?}");
    let waited = start.elapsed();
    assert!((Duration::from_secs(2)..Duration::from_millis(2_050)).contains(&waited), "{waited:?}");
}

async fn pool_now(pool: &Pool) -> Millis {
    Millis(pool.snapshot().await.uptime_ms)
}

#[tokio::test(start_paused = true)]
async fn a_model_that_never_fits_is_refused_with_the_numbers_and_without_a_load() {
    let engine = engine();
    let pool = pool(&engine);
    let too_large = spec_with("a", |spec| {
        spec.descriptor = Arc::new(Descriptor {
            blocks: 1,
            kv_heads: 1,
            key_width: 1,
            value_width: 1,
            ..(*spec.descriptor).clone()
        });
        // 4 bytes a token: 4,096 tokens are 16,384 of the 16,484 held bytes.
        spec.options = LoadOptions { context_tokens: 4_096, slots: 1, ..FakeEngine::options() };
        hold(spec, 16_484);
    });
    let pool_of_4k = pool_with(&engine, |config| config.budget.bytes = 4_000);
    let error = pool_of_4k.acquire(AcquireRequest::new(Arc::clone(&too_large)), None).await.unwrap_err();
    let Error::TooLarge {
        needed_bytes: 16_784,
        budget_bytes: 4_000,
        largest_bytes: 4_000,
        context_that_fits,
        ..
    } = error
    else {
        panic!("{error:?}")
    };
    // (4,000 − 400) / 4 = 900 tokens, in blocks of 256.
    assert_eq!(context_that_fits, Some(768));
    assert!(
        pool.acquire(AcquireRequest::new(too_large), None)
            .await
            .unwrap_err()
            .hint()
            .unwrap()
            .contains("quantization")
    );
    assert_eq!(engine.counts().loads_started, 0);
    let why = pool_of_4k.why("a").await;
    assert_eq!(why[0].what, What::Refused);
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_refuses_at_once() {
    let engine = engine_builder().gate_loads().build();
    let pool = pool_with(&engine, |config| config.queue_per_model = 2);
    for number in 1..=2 {
        let caller = pool.clone();
        tokio::spawn(async move { caller.acquire(AcquireRequest::new(spec("a")), None).await.map(drop) });
        while queued(&pool).await < number {
            tokio::task::yield_now().await;
        }
    }
    let error = pool.acquire(AcquireRequest::new(spec("a")), None).await.unwrap_err();
    let Error::Busy { queued: 2, retry_after_ms, .. } = error else { panic!("{error:?}") };
    assert!(retry_after_ms > 0);
    engine.loads_gate().open();
}

#[tokio::test(start_paused = true)]
async fn callers_beyond_the_bound_are_refused_at_once() {
    let engine = engine();
    let pool = pool_with(&engine, |config| config.calls_max = 1);
    let lease = pool.acquire(AcquireRequest::new(spec("a")), None).await.unwrap();
    let error = pool.acquire(AcquireRequest::new(spec("a")), None).await.unwrap_err();
    assert!(matches!(error, Error::Busy { .. }), "{error:?}");
    assert_eq!(pool.snapshot().await.pool.refused, 1);
    drop(lease);
    assert_eq!(pool.snapshot().await.pool.leases, 0);
    pool.acquire(AcquireRequest::new(spec("a")), None).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_idle_model_is_parked_for_another_and_says_why() {
    let engine = engine();
    let pool = pool_with(&engine, |config| config.soft_ratio = 1.0);
    for name in ["a", "b"] {
        drop(pool.acquire(AcquireRequest::new(spec(name)), None).await.unwrap());
        until(&pool, name, ModelState::Ready).await;
        advance(Duration::from_secs(10)).await;
    }
    drop(pool.acquire(AcquireRequest::new(spec("c")), None).await.unwrap());
    assert_eq!(until(&pool, "a", ModelState::Parked).await.held_bytes, 0);
    assert_eq!(model(&pool, "b").await.state, ModelState::Ready);
    let why = pool.why("a").await;
    assert_eq!(why[0].what, What::Parked);
    let Reason::NeededFor { model: other, frees_bytes: 400, .. } = &why[0].reason else { panic!("{why:?}") };
    assert_eq!(other, "c");
    assert!(why[0].text.starts_with("parked 400 B, idle 20 s, would take"), "{}", why[0].text);
    assert!(why[0].text.ends_with("needed for c"), "{}", why[0].text);
}

#[tokio::test(start_paused = true)]
async fn decisions_are_numbered_and_those_after_a_number_are_told() {
    let engine = engine();
    let pool = pool_with(&engine, |config| config.decisions_max = 2);
    drop(pool.acquire(AcquireRequest::new(spec("a")), None).await.unwrap());
    pool.pin(spec("a"), true).await.unwrap();
    pool.pin(spec("a"), false).await.unwrap();
    let kept = pool.decisions(0).await;
    let what: Vec<What> = kept.iter().map(|numbered| numbered.decision.what).collect();
    assert_eq!(what, [What::Pinned, What::Unpinned], "older ones are forgotten");
    let [pinned, unpinned] = [kept[0].number, kept[1].number];
    assert!(pinned >= 3 && unpinned == pinned + 1, "{kept:?}");
    assert_eq!(pool.decisions(pinned).await, kept[1..]);
    assert!(pool.decisions(unpinned).await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_busy_model_is_waited_for_and_never_evicted() {
    let engine = engine();
    let pool = pool_with(&engine, |config| config.soft_ratio = 1.0);
    let large = |name| spec_with(name, |spec| hold(spec, 500));
    let lease = pool.acquire(AcquireRequest::new(large("a")), None).await.unwrap();
    let other = {
        let pool = pool.clone();
        let model = spec_with("b", |spec| hold(spec, 600));
        tokio::spawn(async move { pool.acquire(AcquireRequest::new(model), None).await })
    };
    until(&pool, "b", ModelState::Waiting).await;
    tokio::time::sleep(Duration::from_secs(3_600)).await;
    assert_eq!(model(&pool, "a").await.busy_slots, 1);
    assert!(!other.is_finished());
    drop(lease);
    other.await.unwrap().unwrap();
    assert_eq!(model(&pool, "a").await.state, ModelState::Parked);
}

fn engine_that_fails_probes(failure: &Failure) -> FakeEngine {
    let footprint = Some(Footprint { held_bytes: 100, mapped_bytes: 300 });
    let script = Script { footprint, probe_failure: Some(failure.clone()), ..Script::default() };
    FakeEngine::builder().script(script).build()
}

#[tokio::test(start_paused = true)]
async fn an_instance_that_fails_a_request_and_a_probe_is_replaced_at_once() {
    let failure = Failure::new(ErrorKind::EngineFailed, "decode failed");
    let engine = engine_that_fails_probes(&failure);
    let pool = pool(&engine);
    let mut lease = pool.acquire(AcquireRequest::new(spec("a")), None).await.unwrap();
    lease.failed(&failure);
    drop(lease);
    let start = Instant::now();
    let lease = pool.acquire(AcquireRequest::new(spec("a")), None).await.unwrap();
    assert_ne!(lease.grant_kind(), GrantKind::Hit);
    assert!(start.elapsed() < Duration::from_millis(900), "{:?}", start.elapsed());
    assert_eq!(engine.counts().loads_finished, 2);
    assert_eq!(pool.snapshot().await.pool.died, 1);
    assert!(pool.why("a").await.iter().any(|decision| decision.what == What::Died));
}

#[tokio::test(start_paused = true)]
async fn an_instance_that_fails_a_request_and_not_a_probe_serves_on() {
    let engine = engine();
    let pool = pool(&engine);
    let mut lease = pool.acquire(AcquireRequest::new(spec("a")), None).await.unwrap();
    lease.failed(&Failure::new(ErrorKind::EngineFailed, "once"));
    drop(lease);
    pool.acquire(AcquireRequest::new(spec("a")), None).await.unwrap();
    assert_eq!((engine.counts().loads_finished, pool.snapshot().await.pool.died), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn an_idle_instance_that_no_longer_answers_is_unloaded() {
    let engine = engine_that_fails_probes(&Failure::new(ErrorKind::EngineFailed, "no token"));
    let pool = pool(&engine);
    drop(
        pool.acquire(
            AcquireRequest::new(spec_with("a", |spec| spec.keep_alive = KeepAlive::UntilEvicted)),
            None,
        )
        .await,
    );
    let start = Instant::now();
    until(&pool, "a", ModelState::Ready).await;
    while pool.snapshot().await.pool.died == 0 {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert!(start.elapsed() >= Duration::from_secs(59), "{:?}", start.elapsed());
    until(&pool, "a", ModelState::Absent).await;
}

#[tokio::test(start_paused = true)]
async fn a_request_at_fault_leaves_its_instance_alone() {
    let engine = engine();
    let pool = pool(&engine);
    let mut lease = pool.acquire(AcquireRequest::new(spec("a")), None).await.unwrap();
    lease.failed(&Failure::new(ErrorKind::ContextExceeded, "too long"));
    drop(lease);
    assert_eq!(
        pool.acquire(AcquireRequest::new(spec("a")), None).await.unwrap().grant_kind(),
        GrantKind::Hit
    );
}

#[tokio::test(start_paused = true)]
async fn a_larger_context_satisfies_a_smaller_and_not_the_other_way() {
    let engine = engine();
    let pool = pool(&engine);
    let with_context = |tokens| spec_with("a", |spec| spec.options.context_tokens = tokens);
    drop(pool.acquire(AcquireRequest::new(with_context(512)), None).await.unwrap());
    drop(pool.acquire(AcquireRequest::new(with_context(256)), None).await.unwrap());
    assert_eq!(engine.counts().loads_finished, 1);
    drop(pool.acquire(AcquireRequest::new(with_context(1_024)), None).await.unwrap());
    let counts = engine.counts();
    assert_eq!((counts.loads_finished, counts.parks, counts.resumes), (1, 1, 1));
    let stats = model(&pool, "a").await;
    assert_eq!((stats.options.unwrap().context_tokens, stats.grown, stats.parked), (1_024, 1, 0));
    assert!(pool.why("a").await.iter().any(|decision| matches!(decision.reason, Reason::Outgrown { .. })));
}

#[tokio::test(start_paused = true)]
async fn a_model_measured_beyond_the_budget_does_not_stay() {
    let footprint = Some(Footprint { held_bytes: 5_000, mapped_bytes: 0 });
    let engine = FakeEngine::builder().script(Script { footprint, ..Script::default() }).build();
    let pool = pool(&engine);
    let error = pool.acquire(AcquireRequest::new(spec("a")), None).await.unwrap_err();
    assert!(matches!(error, Error::TooLarge { needed_bytes: 5_000, .. }), "{error:?}");
    engine.wait_until(|counts| counts.live_instances == 0).await;
    assert!(pool.acquire(AcquireRequest::new(spec("a")), None).await.is_err());
    assert_eq!(engine.counts().loads_started, 1, "what was measured is remembered");
}

#[tokio::test(start_paused = true)]
async fn an_engine_that_can_not_resume_is_loaded_anew() {
    let script = Script {
        footprint: Some(Footprint { held_bytes: 100, mapped_bytes: 300 }),
        resume_failure: Some(Failure::new(ErrorKind::EngineFailed, "no memory")),
        ..Script::default()
    };
    let engine = FakeEngine::builder().script(script).build();
    let pool = pool(&engine);
    let at_once =
        AcquireRequest { keep_alive: Some(KeepAlive::ParkAtOnce), ..AcquireRequest::new(spec("a")) };
    drop(pool.acquire(at_once, None).await.unwrap());
    until(&pool, "a", ModelState::Parked).await;
    assert_eq!(
        pool.acquire(AcquireRequest::new(spec("a")), None).await.unwrap().grant_kind(),
        GrantKind::Cold
    );
    assert_eq!(engine.counts().loads_finished, 2);
}

#[tokio::test(start_paused = true)]
async fn memory_on_a_device_is_counted_as_the_engine_says() {
    let device = Arena::device(1).unwrap();
    let footprint = Some(Footprint { held_bytes: 100, mapped_bytes: 300 });
    let script = Script { footprint, device_bytes: Bytes::on(device, 30), ..Script::default() };
    let engine = FakeEngine::builder().script(script).build();
    let pool = pool_with(&engine, |config| config.device_bytes = [(device, 50)].into());
    pool.warm(spec("a"), None).await.unwrap();
    let counted = pool.snapshot().await.pool;
    assert_eq!((counted.resident_bytes, counted.devices[&device].resident_bytes), (400, 30));
    let json = serde_json::to_value(counted).unwrap();
    assert_eq!(json["devices"]["device1"]["budget_bytes"], 50);
}

#[tokio::test(start_paused = true)]
async fn what_a_parked_instance_keeps_on_a_device_is_counted_as_the_engine_says() {
    let device = Arena::device(1).unwrap();
    let repacked = spec_with("a", |spec| spec.options.layout = Layout::Repacked);
    let script = Script {
        footprint: Some(Footprint { held_bytes: 100, mapped_bytes: 300 }),
        device_bytes: Bytes::on(device, repacked.options.cells() + 30),
        device_bytes_per_cell: Bytes::on(device, 1),
        ..Script::default()
    };
    let engine = FakeEngine::builder().script(script).build();
    let cost = engine.cost(&repacked.descriptor, &repacked.options, repacked.footprint());
    let model = Arc::new(ModelSpec { cost, ..(*repacked).clone() });
    let pool = pool_with(&engine, |config| config.device_bytes = [(device, 1 << 20)].into());
    let at_once = AcquireRequest { keep_alive: Some(KeepAlive::ParkAtOnce), ..AcquireRequest::new(model) };
    drop(pool.acquire(at_once, None).await.unwrap());
    let parked = until(&pool, "a", ModelState::Parked).await;
    assert_eq!((parked.held_bytes, parked.device_bytes.get(&device)), (0, Some(&30)));
    assert_eq!(pool.snapshot().await.pool.devices[&device].resident_bytes, 30);
}

/// An engine whose instances hold what their requests bring along.
struct Bringing {
    engine: FakeEngine,
    brought_bytes: Arc<AtomicU64>,
}

impl Engine for Bringing {
    fn engines(&self) -> Vec<EngineInfo> {
        self.engine.engines()
    }

    fn capabilities(&self, descriptor: &Descriptor) -> Capabilities {
        self.engine.capabilities(descriptor)
    }

    fn footprint(&self, descriptor: &Descriptor, options: &LoadOptions) -> Result<Footprint, Failure> {
        self.engine.footprint(descriptor, options)
    }

    fn load(&self, request: LoadRequest<'_>) -> Result<Arc<dyn Instance>, Failure> {
        let (instance, brought_bytes) = (self.engine.load(request)?, Arc::clone(&self.brought_bytes));
        Ok(Arc::new(Laden { instance, brought_bytes }))
    }
}

struct Laden {
    instance: Arc<dyn Instance>,
    brought_bytes: Arc<AtomicU64>,
}

impl Instance for Laden {
    fn generate(&self, request: GenerationRequest) -> Result<Generation, Failure> {
        self.instance.generate(request)
    }

    fn tokenize(&self, text: &str, add_special: bool, parse_special: bool) -> Result<Vec<u32>, Failure> {
        self.instance.tokenize(text, add_special, parse_special)
    }

    fn encode(&self, prompt: &Prompt, control: &dyn PromptControl) -> Result<Vec<u32>, Failure> {
        self.instance.encode(prompt, control)
    }

    fn detokenize(&self, tokens: &[u32]) -> Result<Vec<u8>, Failure> {
        self.instance.detokenize(tokens)
    }

    fn park(&self) -> Result<(), Failure> {
        self.instance.park()
    }

    fn resume(&self, options: &LoadOptions) -> Result<(), Failure> {
        self.instance.resume(options)
    }

    fn measure(&self) -> Measurement {
        let measured = self.instance.measure();
        let held_bytes = measured.held_bytes + self.brought_bytes.load(Ordering::Relaxed);
        Measurement { held_bytes, ..measured }
    }

    fn probe(&self) -> Result<(), Failure> {
        self.instance.probe()
    }
}

#[tokio::test(start_paused = true)]
async fn what_requests_brought_along_is_counted_when_one_leaves() {
    let brought_bytes = Arc::<AtomicU64>::default();
    let bringing = Bringing { engine: engine(), brought_bytes: Arc::clone(&brought_bytes) };
    let config = PoolConfig { look_every_ms: 0, ..PoolConfig::with_budget(Budget::fixed(1_000, "test")) };
    let pool = Pool::start(Arc::new(bringing), Arc::new(TokioClock(Instant::now())), config);
    for (brought, resident) in [(0, 400), (70, 470), (20, 420)] {
        let lease = pool.acquire(AcquireRequest::new(spec("a")), None).await.unwrap();
        brought_bytes.store(brought, Ordering::Relaxed);
        drop(lease);
        assert_eq!(pool.snapshot().await.pool.resident_bytes, resident);
    }
}

/// An engine that falls over.
struct Panicking;

impl Engine for Panicking {
    fn engines(&self) -> Vec<EngineInfo> {
        FakeEngine::new().engines()
    }

    fn capabilities(&self, _: &Descriptor) -> Capabilities {
        Capabilities::default()
    }

    fn footprint(&self, _: &Descriptor, _: &LoadOptions) -> Result<Footprint, Failure> {
        Ok(Footprint::default())
    }

    fn load(&self, _: LoadRequest<'_>) -> Result<Arc<dyn Instance>, Failure> {
        panic!("on purpose")
    }
}

#[tokio::test(start_paused = true)]
async fn an_engine_that_panics_is_a_failed_load() {
    let config = PoolConfig { look_every_ms: 0, ..PoolConfig::with_budget(Budget::fixed(1_000, "test")) };
    let pool = Pool::start(Arc::new(Panicking), Arc::new(TokioClock(Instant::now())), config);
    let error = pool.acquire(AcquireRequest::new(spec("a")), None).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Internal);
    assert!(pool.acquire(AcquireRequest::new(spec("a")), None).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn statistics_can_be_written_as_json() {
    let engine = engine();
    let pool = pool(&engine);
    drop(pool.acquire(AcquireRequest::new(spec("a")), None).await.unwrap());
    let json = serde_json::to_value(pool.snapshot().await).unwrap();
    for field in ["requests", "hits", "misses", "loads", "coalesced", "evictions", "parked", "resumed"] {
        assert!(json["pool"][field].is_u64(), "{field}");
    }
    for field in ["resident_bytes", "reserved_bytes", "budget_bytes"] {
        assert!(json["pool"][field].is_u64(), "{field}");
    }
    for field in ["name", "state", "held_bytes", "mapped_bytes", "hits", "loads", "load_ms_p50"] {
        assert!(!json["models"][0][field].is_null(), "{field}");
    }
    assert_eq!(json["models"][0]["state"], "ready");
    let why = serde_json::to_value(pool.why("a").await).unwrap();
    assert_eq!(why[0]["what"], "loaded");
    assert_eq!(why[0]["reason"]["because"], "took");
}

/// Yields so often.
async fn turns(count: u64) {
    for _ in 0..count {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn callers_that_come_and_go_on_many_threads_leave_nothing_behind() {
    let engine = engine();
    let pool = pool_with(&engine, |config| {
        config.queue_per_model = 8;
        config.queue_total = 24;
        config.min_residency_ms = 0;
    });
    // Two of the five fit at a time; four of them give each slot to one caller.
    let specs: Vec<_> = (0..5_u32)
        .map(|number| {
            spec_with(&format!("m{number}"), |spec| {
                spec.options.slots = number.max(1);
                spec.keep_alive = if number == 4 { KeepAlive::ParkAtOnce } else { KeepAlive::UntilEvicted };
            })
        })
        .collect();
    let callers: Vec<_> = (0..24_u64)
        .map(|caller| {
            let (pool, specs) = (pool.clone(), specs.clone());
            tokio::spawn(async move {
                for round in 0..150_u64 {
                    let model = Arc::clone(&specs[((caller + round * 3) % 5) as usize]);
                    tokio::select! {
                        biased;
                        () = turns((caller * 7 + round * 13) % 60), if round % 3 != 0 => {}
                        granted = pool.acquire(AcquireRequest::new(model), None) => {
                            if let Ok(mut lease) = granted {
                                turns(round % 5).await;
                                if caller == 0 && round % 50 == 49 {
                                    lease.failed(&Failure::new(ErrorKind::EngineFailed, "now and then"));
                                }
                            }
                        }
                    }
                    if caller == 1 && round % 40 == 0 {
                        pool.unload_all().await.unwrap();
                    }
                }
            })
        })
        .collect();
    for caller in callers {
        caller.await.unwrap();
    }
    let stats = pool.snapshot().await.pool;
    assert_eq!((stats.leases, stats.queued, stats.owed_bytes), (0, 0, 0), "{stats:?}");
    let answered = stats.hits + stats.misses + stats.coalesced + stats.refused + stats.cancelled;
    assert_eq!(stats.requests, answered, "{stats:?}");
    assert!(stats.hits + stats.misses + stats.coalesced > 0, "{stats:?}");
    pool.shutdown(Duration::from_secs(60)).await;
    assert_eq!(engine.counts().live_instances, 0);
    assert_eq!(
        engine.counts().loads_started,
        engine.counts().loads_finished + engine.counts().loads_cancelled
    );
}

#[tokio::test(start_paused = true)]
async fn memory_set_aside_goes_back_when_a_request_needs_it() {
    let engine = engine();
    let pool = pool(&engine);
    assert!(pool.reserve_background(10_000).await.is_none(), "the budget is 1,000");
    let background = pool.reserve_background(800).await.expect("nothing is in memory");
    assert_eq!((pool.snapshot().await.pool.reserved_bytes, background.is_wanted_back()), (800, false));
    let (asking, a) = (pool.clone(), spec("a"));
    let call = tokio::spawn(async move { asking.acquire(AcquireRequest::new(a), None).await });
    while !background.is_wanted_back() {
        tokio::task::yield_now().await;
    }
    assert!(pool.reserve_background(1).await.is_none(), "a request waits for memory");
    drop(background);
    let lease = call.await.unwrap().unwrap();
    assert_eq!(lease.grant_kind(), GrantKind::Cold);
    assert_eq!(pool.snapshot().await.pool.reserved_bytes, 0);
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn memory_set_aside_goes_back_when_the_machine_is_short_although_nothing_is_loaded() {
    let pool = pool_with(&engine(), |config| {
        config.look_every_ms = 1;
        config.available_floor_bytes = u64::MAX;
    });
    let background = pool.reserve_background(800).await.expect("nothing is in memory");
    let looked = async {
        while !background.is_wanted_back() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), looked).await.expect("no machine has that much memory");
}
