//! Decisions as situations: what happens, and what is decided.

mod arenas;
mod background_reservation;
mod estimates;
mod fairness;
mod group;
mod growth;
mod health;
mod replicas;

use std::sync::Arc;

use samovar_core::footprint::{Footprint, KvType, Layout};
use samovar_core::port::{EngineId, Millis};
use samovar_core::testing::FakeEngine;
use samovar_core::units::KeepAlive;
use samovar_core::{
    Arena, Bytes, Cost, ErrorKind, Failure, FileId, LoadOptions, Memory, ModelFiles, ModelKey,
};

use super::{PoolState, step};
use crate::ask::{AcquireRequest, Instances, ModelSpec, Wait};
use crate::budget::Budget;
use crate::config::{EvictionPolicy, PoolConfig};
use crate::decision::{Reason, What};
use crate::error::Error;
use crate::lease::GrantKind;
use crate::protocol::{Effect, Event, InstanceId, TicketId};
use crate::snapshot::{ModelState, ModelStats};

/// A pool with a budget of 100 bytes in which loads take 1 s, and a note of what it did.
struct Harness {
    state: PoolState,
    now: Millis,
    next_ticket: u64,
    effects: Vec<Effect>,
    can_park: bool,
}

impl Harness {
    fn new(change: impl FnOnce(&mut PoolConfig)) -> Self {
        let mut config = PoolConfig::with_budget(Budget::fixed(100, "test"));
        config.soft_ratio = 1.0;
        config.min_residency_ms = 0;
        config.eviction = EvictionPolicy::Lru;
        change(&mut config);
        let state = PoolState::new(config, Millis(0));
        Self { state, now: Millis(0), next_ticket: 1, effects: Vec::new(), can_park: true }
    }

    fn without_parking(mut self) -> Self {
        self.can_park = false;
        self
    }

    fn happen(&mut self, mut event: Event) -> Vec<Effect> {
        if let Event::Request { ask: AcquireRequest { model, .. }, .. }
        | Event::Warm { model, .. }
        | Event::Pin { model, .. } = &mut event
            && !self.can_park
        {
            *model = model.without_parking();
        }
        let effects = step(&mut self.state, event, self.now);
        self.effects.extend(effects.clone());
        effects
    }

    fn pass(&mut self, ms: u64) -> Vec<Effect> {
        self.now = self.now.plus(ms);
        self.happen(Event::Tick)
    }

    fn ticket(&mut self) -> TicketId {
        self.next_ticket += 1;
        TicketId(self.next_ticket)
    }

    fn ask(&mut self, model: &Arc<ModelSpec>) -> TicketId {
        self.ask_with(model, 0, None)
    }

    fn ask_with(&mut self, model: &Arc<ModelSpec>, priority: u8, deadline: Option<Millis>) -> TicketId {
        let ticket = self.ticket();
        let ask = AcquireRequest { priority, deadline, ..AcquireRequest::new(Arc::clone(model)) };
        self.happen(Event::Request { ticket, ask });
        ticket
    }

    fn warm(&mut self, model: &Arc<ModelSpec>) -> TicketId {
        let ticket = self.ticket();
        self.happen(Event::Warm { ticket, model: Arc::clone(model) });
        ticket
    }

    fn release(&mut self, ticket: TicketId) {
        self.happen(Event::Released { ticket, failed: None });
    }

    fn pin(&mut self, model: &Arc<ModelSpec>) {
        let ticket = self.ticket();
        self.happen(Event::Pin { ticket, model: Arc::clone(model) });
    }

    /// Everything under way ends well, a load after a second.
    fn finish_work(&mut self) {
        while let Some(event) = self.next_outcome() {
            if matches!(event, Event::Loaded { .. }) {
                self.now = self.now.plus(1_000);
            }
            self.happen(event);
        }
    }

    fn next_outcome(&self) -> Option<Event> {
        use super::state::Phase;
        self.state.instances.iter().find_map(|(id, found)| {
            let instance = *id;
            let memory = self.state.ledger.memory(instance);
            match found.phase {
                Phase::Loading { .. } => {
                    let layout = found.spec.options.layout;
                    Some(Event::Loaded { instance, memory, layout })
                }
                Phase::Parking => Some(Event::Parked { instance, left: Bytes::NONE }),
                Phase::Resuming => Some(Event::Resumed { instance, memory }),
                Phase::Unloading => Some(Event::Unloaded { instance }),
                Phase::Ready | Phase::Parked => None,
            }
        })
    }

    /// Asks, waits for the load, and lets go.
    fn use_once(&mut self, model: &Arc<ModelSpec>) {
        let ticket = self.ask(model);
        self.finish_work();
        assert!(self.is_granted(ticket), "{} was not granted", model.name);
        self.release(ticket);
    }

    fn is_granted(&self, ticket: TicketId) -> bool {
        self.effects
            .iter()
            .any(|effect| matches!(effect, Effect::Grant { ticket: granted, .. } if *granted == ticket))
    }

    fn refusal(&self, ticket: TicketId) -> Option<&Error> {
        self.effects.iter().find_map(|effect| match effect {
            Effect::Refuse { ticket: refused, why } if *refused == ticket => Some(why),
            _ => None,
        })
    }

    fn model(&self, spec: &ModelSpec) -> ModelStats {
        let models = self.state.snapshot(self.now).models;
        models.into_iter().find(|model| model.key == spec.key).expect("the pool knows it")
    }

    fn is_in(&self, spec: &ModelSpec, state: ModelState) -> bool {
        self.model(spec).state == state
    }

    fn decisions(&self, what: What) -> Vec<(String, Reason)> {
        let records = self.effects.iter().filter_map(|effect| match effect {
            Effect::Record { record } if record.what == what => {
                Some((record.name.clone(), record.reason.clone()))
            }
            _ => None,
        });
        records.collect()
    }

    /// Held and mapped bytes of each load.
    fn reservations(&self) -> Vec<(u64, u64)> {
        let loads = self.effects.iter().filter_map(|effect| match effect {
            Effect::Load { reservation, .. } => {
                let Footprint { held_bytes, mapped_bytes } = reservation.footprint();
                Some((held_bytes, mapped_bytes))
            }
            _ => None,
        });
        loads.collect()
    }

    fn loads(&self) -> usize {
        self.effects.iter().filter(|effect| matches!(effect, Effect::Load { .. })).count()
    }
}

/// A model of so many bytes, all its own, with one slot.
fn model(name: &str, held_bytes: u64) -> Arc<ModelSpec> {
    model_with(name, held_bytes, |_| ())
}

fn model_with(name: &str, held_bytes: u64, change: impl FnOnce(&mut ModelSpec)) -> Arc<ModelSpec> {
    let mut spec = ModelSpec {
        key: ModelKey::new(format!("key of {name}")),
        name: name.to_owned(),
        files: ModelFiles::of("/nowhere"),
        descriptor: Arc::new(FakeEngine::descriptor(name, 1)),
        engine: EngineId::new("fake"),
        capabilities: FakeEngine::CAPABILITIES,
        options: LoadOptions { slots: 1, ..FakeEngine::options() },
        cost: Cost { memory: Memory::on_host(held_bytes, 0), ..Cost::default() },
        load_ms: None,
        keep_alive: KeepAlive::UntilEvicted,
        instances: Instances::default(),
        needs: Vec::new(),
        has_fixed_slots: true,
        usual: None,
    };
    change(&mut spec);
    // As an engine would say of what it is now.
    let of_devices = spec.cost.memory.clone();
    spec.cost = Cost::on_host(&spec.descriptor, &spec.options, spec.footprint());
    let on_host = spec.cost.memory.private.on_host();
    spec.cost.memory.private = of_devices.private.with(Arena::HOST, on_host);
    Arc::new(spec)
}

/// So much of the model's own file is mapped.
fn map(spec: &mut ModelSpec, mapped_bytes: u64) {
    spec.cost.memory.mapped = [(FileId::OWN, Bytes::host(mapped_bytes))].into();
}

#[test]
fn evicts_idle_before_refusing() {
    let mut harness = Harness::new(|_| ()).without_parking();
    let (a, b) = (model("a", 60), model("b", 60));
    harness.use_once(&a);
    harness.pass(5_000);
    harness.use_once(&b);
    assert!(harness.is_in(&a, ModelState::Absent) && harness.is_in(&b, ModelState::Ready));
    let expected = Reason::NeededFor { model: "b".into(), frees_bytes: 60, idle_ms: 5_000, reload_ms: 1_000 };
    assert_eq!(harness.decisions(What::Evicted), [("a".to_owned(), expected)]);
}

#[test]
fn gdsf_remembers_what_loads_took_in_earlier_lives() {
    let mut harness = Harness::new(|config| config.eviction = EvictionPolicy::Gdsf).without_parking();
    let slow = model_with("slow", 40, |spec| spec.load_ms = Some(90_000));
    let quick = model("quick", 40);
    harness.use_once(&slow);
    harness.use_once(&quick);
    // Here both took a second; the one that is known to be slow stays, although it is idle for longer.
    harness.use_once(&model("new", 40));
    assert!(harness.is_in(&slow, ModelState::Ready) && harness.is_in(&quick, ModelState::Absent));
}

#[test]
fn lru_lets_the_oldest_leave_and_gdsf_the_cheapest() {
    for (policy, leaves) in [(EvictionPolicy::Lru, "old"), (EvictionPolicy::Gdsf, "recent")] {
        let mut harness = Harness::new(|config| config.eviction = policy);
        // The old one was used often; both cost the same to load.
        let (old, recent) = (model("old", 40), model("recent", 40));
        harness.use_once(&old);
        harness.use_once(&old);
        harness.use_once(&old);
        harness.pass(1_000);
        harness.use_once(&recent);
        harness.pass(1_000);
        harness.use_once(&model("new", 50));
        assert_eq!(harness.decisions(What::Parked)[0].0, leaves, "{policy:?}");
    }
}

#[test]
fn lfu_and_priority_know_what_was_used_before_it_left() {
    for (policy, leaves) in [(EvictionPolicy::Lfu, "recent"), (EvictionPolicy::Priority, "old")] {
        let mut harness = Harness::new(|config| config.eviction = policy).without_parking();
        let (old, recent) = (model("old", 40), model("recent", 40));
        (0..5).for_each(|_| harness.use_once(&old));
        let ticket = harness.ticket();
        harness.happen(Event::Unload { ticket, name: "old".into() });
        harness.finish_work();
        harness.use_once(&old);
        harness.pass(60_000);
        harness.use_once(&recent);
        harness.use_once(&model("new", 50));
        assert_eq!(harness.decisions(What::Evicted)[0].0, leaves, "{policy:?}");
    }
}

#[test]
fn what_gives_nothing_back_by_parking_is_unloaded() {
    let mut harness = Harness::new(|_| ());
    // No KV cache to speak of: the repacked weights are all there is.
    let packed = model_with("a", 60, |spec| {
        spec.options.layout = Layout::Repacked;
        spec.descriptor = Arc::new(samovar_core::Descriptor { blocks: 0, ..(*spec.descriptor).clone() });
    });
    harness.use_once(&packed);
    harness.use_once(&model("b", 60));
    assert!(harness.is_in(&packed, ModelState::Absent));
    assert_eq!(harness.decisions(What::Parked), []);
}

#[test]
fn parked_ones_leave_when_their_residue_is_needed() {
    let mut harness = Harness::new(|_| ());
    let (a, b) = (model("a", 60), model("b", 95));
    harness.use_once(&a);
    harness.ask(&b);
    let instance = InstanceId(1);
    harness.happen(Event::Parked { instance, left: Bytes::host(10) });
    assert_eq!(harness.loads(), 1, "90 are free, 95 are needed");
    harness.finish_work();
    assert!(harness.is_in(&a, ModelState::Absent) && harness.is_in(&b, ModelState::Busy));
}

#[test]
fn above_the_soft_limit_idle_ones_leave_but_the_last_used() {
    let mut harness = Harness::new(|config| config.soft_ratio = 0.85);
    let (a, b) = (model("a", 45), model("b", 45));
    harness.use_once(&a);
    harness.use_once(&b);
    harness.finish_work();
    assert!(harness.is_in(&a, ModelState::Parked) && harness.is_in(&b, ModelState::Ready));
    assert!(matches!(
        harness.decisions(What::Parked)[0].1,
        Reason::AboveSoft { used_bytes: 90, soft_bytes: 85, .. }
    ));

    let mut harness = Harness::new(|config| config.soft_ratio = 0.85);
    let alone = model("alone", 95);
    harness.use_once(&alone);
    harness.use_once(&alone);
    assert!(harness.is_in(&alone, ModelState::Ready));
    assert_eq!(harness.loads(), 1, "a model between soft and hard limit is not loaded for each request");
}

#[test]
fn two_models_that_do_not_fit_together_are_served_in_turns_of_some_length() {
    let mut harness = Harness::new(|_| ());
    let (a, b) = (model("a", 80), model("b", 80));
    harness.use_once(&a);
    let ready_at = harness.now;
    let mut of_a = harness.ask(&a);
    let of_b = harness.ask(&b);
    // A keeps its place for twice its load time of 1 s, although B waits.
    let mut served = 0;
    while !harness.is_granted(of_b) {
        let next = harness.ask(&a);
        harness.pass(300);
        harness.release(of_a);
        if !harness.is_granted(next) {
            harness.finish_work();
            break;
        }
        served += 1;
        of_a = next;
    }
    assert!(harness.is_granted(of_b), "B starved");
    assert!(harness.now.since(ready_at) >= 2_000 && served >= 5, "A was thrown out after {served} requests");
    assert_eq!(harness.loads(), 2);
    // A's last request still waits, and gets its turn again.
    harness.pass(3_000);
    harness.release(of_b);
    harness.finish_work();
    assert!(harness.is_in(&a, ModelState::Busy) && harness.is_in(&b, ModelState::Parked));
}

#[test]
fn a_small_model_passes_a_large_one_that_waits_but_never_takes_what_leaves_for_it() {
    let mut harness = Harness::new(|_| ());
    let (busy, large) = (model("busy", 70), model("large", 90));
    let (small, other) = (model("small", 20), model("other", 30));
    let lease = harness.ask(&busy);
    harness.finish_work();
    let of_large = harness.ask(&large);
    let of_tiny = harness.ask(&model("tiny", 10));
    harness.finish_work();
    assert!(
        harness.is_granted(of_tiny),
        "30 are free, of which the large one needs 20 beside the 70 that will leave"
    );
    harness.release(of_tiny);
    let of_small = harness.ask(&small);
    harness.finish_work();
    assert!(!harness.is_granted(of_small) && !harness.is_granted(of_large), "the 20 free bytes are claimed");
    let of_other = harness.ask(&other);
    harness.pass(60_000);
    harness.release(lease);
    harness.finish_work();
    assert!(harness.is_granted(of_large) && !harness.is_granted(of_other));
}

#[test]
fn a_pinned_model_is_left_alone_and_what_can_not_fit_beside_it_is_refused() {
    let mut harness = Harness::new(|_| ());
    let (a, b) = (model("a", 60), model("b", 60));
    harness.pin(&a);
    harness.use_once(&a);
    let refused = harness.ask(&b);
    assert_eq!(
        harness.refusal(refused),
        Some(&Error::TooLarge {
            model: "b".into(),
            needed_bytes: 60,
            budget_bytes: 100,
            largest_bytes: 40,
            arena: Arena::HOST,
            context_that_fits: None
        })
    );
    harness.pass(1_000_000);
    assert!(harness.is_in(&a, ModelState::Ready));
}

#[test]
fn who_waits_is_refused_when_a_pin_makes_it_impossible() {
    let mut harness = Harness::new(|_| ());
    let (a, b) = (model("a", 60), model("b", 60));
    harness.ask(&a);
    harness.finish_work();
    let waits = harness.ask(&b);
    assert!(harness.refusal(waits).is_none());
    harness.pin(&a);
    assert!(matches!(harness.refusal(waits), Some(Error::TooLarge { largest_bytes: 40, .. })));
}

#[test]
fn priority_is_a_head_start_and_no_more() {
    let mut harness = Harness::new(|_| ());
    let a = model("a", 10);
    let lease = harness.ask(&a);
    harness.finish_work();
    let early = harness.ask_with(&a, 0, None);
    harness.pass(900);
    let urgent = harness.ask_with(&a, 10, None);
    harness.pass(200);
    let late = harness.ask_with(&a, 10, None);
    for (done, next) in [(lease, urgent), (urgent, early), (early, late)] {
        harness.release(done);
        assert!(harness.is_granted(next));
    }
}

#[test]
fn positions_and_estimates_are_told() {
    let mut harness = Harness::new(|_| ());
    let a = model("a", 10);
    let first = harness.ask(&a);
    harness.finish_work();
    harness.pass(400);
    harness.release(first);
    let lease = harness.ask(&a);
    let second = harness.ask(&a);
    let third = harness.ask(&a);
    let told = |harness: &Harness, ticket| {
        let tells = harness.effects.iter().rev().find_map(|effect| match effect {
            Effect::Tell { ticket: told, wait } if *told == ticket => Some(*wait),
            _ => None,
        });
        tells.expect("it was told")
    };
    assert_eq!(told(&harness, second), Wait::Queued { position: 1, estimate_ms: Some(400) });
    assert_eq!(told(&harness, third), Wait::Queued { position: 2, estimate_ms: Some(800) });
    harness.pass(250);
    harness.release(lease);
    // The last lease counts for a fifth.
    assert_eq!(told(&harness, third), Wait::Queued { position: 1, estimate_ms: Some(370) });
}

#[test]
fn times_of_waiting_and_loading_are_told_apart() {
    let mut harness = Harness::new(|_| ());
    let a = model_with("a", 10, |spec| spec.options.slots = 1);
    let first = harness.ask(&a);
    harness.now = harness.now.plus(250);
    let second = harness.ask(&a);
    harness.finish_work();
    harness.pass(3_000);
    harness.release(first);
    let facts: Vec<_> = harness
        .effects
        .iter()
        .filter_map(|effect| match effect {
            Effect::Grant { ticket, facts, .. } => Some((*ticket, *facts)),
            _ => None,
        })
        .collect();
    assert_eq!((facts[0].0, facts[0].1.load_ms, facts[0].1.queue_ms), (first, 1_250, 0));
    assert_eq!((facts[1].0, facts[1].1.load_ms, facts[1].1.queue_ms), (second, 1_000, 3_000));
    assert_eq!((facts[0].1.grant_kind, facts[1].1.grant_kind), (GrantKind::Cold, GrantKind::Joined));
}

#[test]
fn a_warm_model_makes_the_first_request_a_hit() {
    let mut harness = Harness::new(|_| ());
    let a = model("a", 10);
    harness.warm(&a);
    let joined = harness.ask(&a);
    harness.finish_work();
    assert!(harness.is_granted(joined));
    assert_eq!((harness.model(&a).coalesced, harness.model(&a).loads), (1, 1));
    harness.release(joined);
    harness.ask(&a);
    assert_eq!(harness.model(&a).hits, 1);
}

#[test]
fn a_longer_measurement_makes_idle_ones_leave_until_it_is_paid() {
    let mut harness = Harness::new(|_| ());
    let (a, b) = (model("a", 40), model("b", 50));
    harness.use_once(&a);
    harness.ask(&b);
    let memory = Memory::on_host(75, 0);
    harness.happen(Event::Loaded { instance: InstanceId(2), memory, layout: Layout::Mapped });
    assert_eq!(harness.state.ledger.owed().on_host(), 15);
    assert!(harness.is_in(&a, ModelState::Parking));
    harness.finish_work();
    assert_eq!((harness.state.ledger.owed().on_host(), harness.state.ledger.used().on_host()), (0, 75));
    assert_eq!(harness.decisions(What::Corrected).len(), 1);
}

#[test]
fn what_requests_bring_along_is_counted_while_it_is_there_and_predicted_for_no_load() {
    let mut harness = Harness::new(|_| ());
    let (a, b) = (model("a", 40), model("b", 50));
    harness.use_once(&a);
    let lease = harness.ask(&b);
    harness.finish_work();
    let id = InstanceId(2);
    let counted =
        |harness: &Harness| harness.state.weighable(lease).map(|(id, _, bytes)| (id, bytes.on_host()));
    assert_eq!(counted(&harness), Some((id, 50)));
    let weighed = |held_bytes| Event::Weighed { instance: id, memory: Memory::on_host(held_bytes, 0) };
    harness.happen(weighed(75));
    assert_eq!((counted(&harness), harness.state.ledger.owed().on_host()), (Some((id, 75)), 15));
    assert!(harness.is_in(&a, ModelState::Parking), "what is idle makes room");
    harness.finish_work();
    harness.happen(weighed(55));
    assert_eq!((harness.state.ledger.owed().on_host(), harness.state.ledger.used().on_host()), (0, 55));
    harness.release(lease);
    assert_eq!(counted(&harness), None);
    let ticket = harness.ticket();
    harness.happen(Event::Unload { ticket, name: "b".into() });
    harness.happen(weighed(75));
    harness.finish_work();
    assert!(harness.state.ledger.used().is_none(), "what leaves is not weighed");
    harness.ask(&b);
    assert_eq!(harness.reservations().last(), Some(&(50, 0)));
    assert!(harness.decisions(What::Corrected).is_empty());
}

#[test]
fn a_lower_budget_is_reached_by_what_is_idle() {
    let mut harness = Harness::new(|_| ());
    let a = model("a", 60);
    harness.use_once(&a);
    let mut config = harness.state.config().clone();
    config.budget.bytes = 50;
    harness.happen(Event::Configure { config: Box::new(config) });
    assert!(
        harness.is_in(&a, ModelState::Parking),
        "even the last one leaves when the budget itself is exceeded"
    );
}

#[test]
fn under_pressure_of_the_machine_one_idle_instance_leaves() {
    let mut harness = Harness::new(|_| ());
    let (a, b) = (model("a", 10), model("b", 10));
    harness.use_once(&a);
    harness.pass(1_000);
    harness.use_once(&b);
    harness.happen(Event::Pressure { available_bytes: u64::MAX, stall_percent: 1.0 });
    assert!(harness.is_in(&a, ModelState::Ready));
    harness.happen(Event::Pressure { available_bytes: 0, stall_percent: 0.0 });
    assert!(harness.is_in(&a, ModelState::Parking) && harness.is_in(&b, ModelState::Ready));
    let reason =
        Reason::Pressure { available_bytes: 0, stall_percent: 0.0, frees_bytes: 10, reload_ms: 1_000 };
    assert_eq!(harness.decisions(What::Parked), [("a".to_owned(), reason)]);
}

#[test]
fn pressure_goes_on_until_only_what_is_used_or_pinned_is_left() {
    let mut harness = Harness::new(|_| ());
    let [used, pinned, idle, other] = ["used", "pinned", "idle", "other"].map(|name| model(name, 10));
    let _lease = harness.ask(&used);
    harness.finish_work();
    harness.pin(&pinned);
    for model in [&pinned, &idle, &other] {
        harness.use_once(model);
        harness.pass(1_000);
    }
    for _ in 0..10 {
        harness.happen(Event::Pressure { available_bytes: u64::MAX, stall_percent: 40.0 });
        harness.finish_work();
        harness.pass(1_000);
    }
    assert!(harness.is_in(&used, ModelState::Busy) && harness.is_in(&pinned, ModelState::Ready));
    assert!(harness.is_in(&idle, ModelState::Absent) && harness.is_in(&other, ModelState::Absent));
    let names = |what| harness.decisions(what).into_iter().map(|(name, _)| name).collect::<Vec<_>>();
    assert_eq!(
        (names(What::Parked), names(What::Evicted)),
        (vec!["idle".into(), "other".into()], vec!["idle".into(), "other".into()])
    );
}

#[test]
fn two_clients_with_incomparable_wishes_are_both_served() {
    let mut harness = Harness::new(|_| ());
    let wide = model_with("a", 10, |spec| spec.options.slots = 4);
    let long = model_with("a", 10, |spec| spec.options.context_tokens = 1_024);
    let of_wide = harness.ask(&wide);
    let warmed = harness.warm(&long);
    harness.finish_work();
    assert!(harness.is_granted(of_wide));
    harness.release(of_wide);
    harness.finish_work();
    let is_done = |effect: &Effect| matches!(effect, Effect::Done { ticket, .. } if *ticket == warmed);
    assert!(harness.effects.iter().any(is_done));
    assert_eq!((harness.loads(), harness.model(&wide).grown), (1, 1));
}

#[test]
fn the_larger_wish_among_those_who_wait_is_loaded_at_once() {
    let mut harness = Harness::new(|_| ());
    let busy = model("busy", 95);
    let lease = harness.ask(&busy);
    harness.finish_work();
    let short = harness.ask(&model("a", 10));
    let long = harness.ask(&model_with("a", 12, |spec| spec.options.context_tokens = 1_024));
    harness.release(lease);
    harness.finish_work();
    assert!(harness.is_granted(short));
    harness.release(short);
    assert!(harness.is_granted(long));
    assert_eq!(harness.loads(), 2, "busy, and one for both");
}

#[test]
fn statistics_of_models_are_bounded() {
    let mut harness = Harness::new(|config| config.models_max = 3);
    for number in 0..10 {
        harness.use_once(&model(&format!("m{number}"), 90));
        harness.finish_work();
        harness.pass(31 * 60_000);
        harness.finish_work();
    }
    let snapshot = harness.state.snapshot(harness.now);
    assert!(snapshot.models.len() <= 3, "{}", snapshot.models.len());
    assert_eq!(snapshot.pool.requests, 10);
}

#[test]
fn refusals_of_a_crowd_are_noted_once_a_second() {
    let mut harness = Harness::new(|config| config.queue_per_model = 1);
    let a = model("a", 10);
    for _ in 0..50 {
        harness.ask(&a);
    }
    assert_eq!(harness.decisions(What::Refused).len(), 1);
    assert_eq!(harness.model(&a).refused, 49);
}

#[test]
fn what_is_due_is_done_even_without_a_tick() {
    let mut harness = Harness::new(|_| ());
    let (a, b) = (model("a", 10), model("b", 10));
    let _lease = harness.ask(&a);
    harness.finish_work();
    let deadline = harness.now.plus(100);
    let late = harness.ask_with(&a, 0, Some(deadline));
    harness.now = harness.now.plus(100);
    harness.ask(&b);
    assert!(matches!(harness.refusal(late), Some(Error::DeadlineExceeded { waited_ms: 100, .. })));
    let past = harness.ask_with(&a, 0, Some(deadline));
    assert!(matches!(harness.refusal(past), Some(Error::DeadlineExceeded { waited_ms: 0, .. })));
}

#[test]
fn what_was_loaded_without_its_packed_file_says_nothing_about_a_load_with_it() {
    let mut harness = Harness::new(|_| ()).without_parking();
    let hybrid = model_with("a", 5, |spec| {
        spec.options.layout = Layout::Hybrid;
        spec.descriptor = Arc::new(FakeEngine::descriptor("a", 30));
        map(spec, 60);
        spec.instances = Instances { min: 2, max: 2 };
    });
    let lease = harness.ask(&hybrid);
    let memory = Memory::on_host(10, 30);
    harness.happen(Event::Loaded { instance: InstanceId(1), memory, layout: Layout::Mapped });
    // The second is loaded like the first, and shares what that maps.
    assert_eq!(harness.reservations(), [(5, 60), (10, 30)]);
    assert_eq!(harness.state.ledger.used().on_host(), 50);
    harness.finish_work();
    harness.release(lease);
    let ticket = harness.ticket();
    harness.happen(Event::Unload { ticket, name: "a".into() });
    harness.finish_work();
    harness.ask(&hybrid);
    assert_eq!(harness.reservations()[2], (5, 60));
}

#[test]
fn a_parked_instance_with_repacked_weights_is_expected_to_hold_these_alone() {
    let of_f16 = 512 * FakeEngine::descriptor("a", 1).kv_bytes_per_token();
    for (kv_type, kv_bytes) in [(KvType::F16, of_f16), (KvType::Q8_0, of_f16 * 17 / 32)] {
        let mut harness = Harness::new(|config| config.budget.bytes = 1 << 40);
        let repacked = model_with("a", 1_000 + kv_bytes, |spec| {
            spec.options = LoadOptions {
                layout: Layout::Repacked,
                context_tokens: 512,
                kv_type,
                ..spec.options.clone()
            };
            spec.keep_alive = KeepAlive::Ms(1_000);
        });
        harness.use_once(&repacked);
        harness.pass(1_000);
        let frees = Reason::Expired { idle_ms: 1_000, frees_bytes: kv_bytes, reload_ms: 1_000 };
        assert_eq!(harness.decisions(What::Parked), [("a".to_owned(), frees)], "{kv_type:?}");
    }
}
