//! Decisions as situations: what happens, and what is decided.

mod aside;
mod crew;
mod fairness;
mod group;
mod growth;
mod health;
mod outlook;

use std::path::PathBuf;
use std::sync::Arc;

use samovar_core::footprint::{KvType, Layout, Measurement};
use samovar_core::port::Millis;
use samovar_core::testing::FakeEngine;
use samovar_core::units::KeepAlive;
use samovar_core::{ErrorKind, Failure, Footprint, LoadOptions, ModelKey};

use super::{PoolState, step};
use crate::ask::{Instances, ModelSpec, Wait};
use crate::budget::Budget;
use crate::config::{EvictionPolicy, PoolConfig};
use crate::decision::{Reason, What};
use crate::error::Error;
use crate::lease::Origin;
use crate::protocol::{Effect, Event, InstanceId, TicketId};
use crate::snapshot::{ModelState, ModelStats};

/// A pool with a budget of 100 bytes in which loads take 1 s, and a note of what it did.
struct Stage {
    state: PoolState,
    now: Millis,
    next_ticket: u64,
    effects: Vec<Effect>,
}

impl Stage {
    fn new(change: impl FnOnce(&mut PoolConfig)) -> Self {
        let mut config = PoolConfig::with_budget(Budget::fixed(100, "test"));
        config.soft_ratio = 1.0;
        config.min_residency_ms = 0;
        config.eviction = EvictionPolicy::Lru;
        change(&mut config);
        let state = PoolState::new(config, true, Millis(0));
        Self { state, now: Millis(0), next_ticket: 1, effects: Vec::new() }
    }

    fn without_parking(mut self) -> Self {
        self.state.can_park = false;
        self
    }

    fn happen(&mut self, event: Event) -> Vec<Effect> {
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
        let (model, client) = (Arc::clone(model), String::new());
        self.happen(Event::Request {
            ticket,
            model,
            client,
            within: Vec::new(),
            priority,
            deadline,
            keep_alive: None,
            affinity: None,
        });
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
            let footprint = self.state.ledger.footprint(instance);
            let full = Measurement {
                held_bytes: footprint.held_bytes,
                mapped_bytes: footprint.mapped_bytes,
                ..Measurement::default()
            };
            match found.phase {
                Phase::Loading { .. } => {
                    let layout = found.spec.options.layout;
                    Some(Event::Loaded { instance, footprint, layout })
                }
                Phase::Parking => Some(Event::Parked { instance, measured: Measurement::default() }),
                Phase::Resuming => Some(Event::Resumed { instance, measured: full }),
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
            Effect::Load { reservation, .. } => Some((reservation.held_bytes, reservation.mapped_bytes)),
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
        path: PathBuf::from("/nowhere"),
        descriptor: Arc::new(FakeEngine::descriptor(name, 1)),
        options: LoadOptions { slots: 1, ..FakeEngine::options() },
        footprint: Footprint { held_bytes, mapped_bytes: 0 },
        load_ms: None,
        keep_alive: KeepAlive::UntilEvicted,
        instances: Instances::default(),
        needs: Vec::new(),
    };
    change(&mut spec);
    Arc::new(spec)
}

#[test]
fn evicts_idle_before_refusing() {
    let mut stage = Stage::new(|_| ()).without_parking();
    let (a, b) = (model("a", 60), model("b", 60));
    stage.use_once(&a);
    stage.pass(5_000);
    stage.use_once(&b);
    assert!(stage.is_in(&a, ModelState::Absent) && stage.is_in(&b, ModelState::Ready));
    let expected = Reason::NeededFor { model: "b".into(), frees_bytes: 60, idle_ms: 5_000, reload_ms: 1_000 };
    assert_eq!(stage.decisions(What::Evicted), [("a".to_owned(), expected)]);
}

#[test]
fn gdsf_remembers_what_loads_took_in_earlier_lives() {
    let mut stage = Stage::new(|config| config.eviction = EvictionPolicy::Gdsf).without_parking();
    let slow = model_with("slow", 40, |spec| spec.load_ms = Some(90_000));
    let quick = model("quick", 40);
    stage.use_once(&slow);
    stage.use_once(&quick);
    // Here both took a second; the one that is known to be slow stays, although it is idle for longer.
    stage.use_once(&model("new", 40));
    assert!(stage.is_in(&slow, ModelState::Ready) && stage.is_in(&quick, ModelState::Absent));
}

#[test]
fn lru_lets_the_oldest_leave_and_gdsf_the_cheapest() {
    for (policy, leaves) in [(EvictionPolicy::Lru, "old"), (EvictionPolicy::Gdsf, "recent")] {
        let mut stage = Stage::new(|config| config.eviction = policy);
        // The old one was used often; both cost the same to load.
        let (old, recent) = (model("old", 40), model("recent", 40));
        stage.use_once(&old);
        stage.use_once(&old);
        stage.use_once(&old);
        stage.pass(1_000);
        stage.use_once(&recent);
        stage.pass(1_000);
        stage.use_once(&model("new", 50));
        assert_eq!(stage.decisions(What::Parked)[0].0, leaves, "{policy:?}");
    }
}

#[test]
fn lfu_and_priority_know_what_was_used_before_it_left() {
    for (policy, leaves) in [(EvictionPolicy::Lfu, "recent"), (EvictionPolicy::Priority, "old")] {
        let mut stage = Stage::new(|config| config.eviction = policy).without_parking();
        let (old, recent) = (model("old", 40), model("recent", 40));
        (0..5).for_each(|_| stage.use_once(&old));
        let ticket = stage.ticket();
        stage.happen(Event::Unload { ticket, name: "old".into() });
        stage.finish_work();
        stage.use_once(&old);
        stage.pass(60_000);
        stage.use_once(&recent);
        stage.use_once(&model("new", 50));
        assert_eq!(stage.decisions(What::Evicted)[0].0, leaves, "{policy:?}");
    }
}

#[test]
fn what_gives_nothing_back_by_parking_is_unloaded() {
    let mut stage = Stage::new(|_| ());
    let packed = model_with("a", 60, |spec| spec.options.layout = Layout::Repacked);
    // No KV cache to speak of: the repacked weights are all there is.
    let packed = Arc::new(ModelSpec {
        descriptor: Arc::new(samovar_core::Descriptor { blocks: 0, ..(*packed.descriptor).clone() }),
        ..(*packed).clone()
    });
    stage.use_once(&packed);
    stage.use_once(&model("b", 60));
    assert!(stage.is_in(&packed, ModelState::Absent));
    assert_eq!(stage.decisions(What::Parked), []);
}

#[test]
fn parked_ones_leave_when_their_residue_is_needed() {
    let mut stage = Stage::new(|_| ());
    let (a, b) = (model("a", 60), model("b", 95));
    stage.use_once(&a);
    stage.ask(&b);
    let instance = InstanceId(1);
    stage.happen(Event::Parked {
        instance,
        measured: Measurement { held_bytes: 10, ..Measurement::default() },
    });
    assert_eq!(stage.loads(), 1, "90 are free, 95 are needed");
    stage.finish_work();
    assert!(stage.is_in(&a, ModelState::Absent) && stage.is_in(&b, ModelState::Busy));
}

#[test]
fn above_the_soft_limit_idle_ones_leave_but_the_last_used() {
    let mut stage = Stage::new(|config| config.soft_ratio = 0.85);
    let (a, b) = (model("a", 45), model("b", 45));
    stage.use_once(&a);
    stage.use_once(&b);
    stage.finish_work();
    assert!(stage.is_in(&a, ModelState::Parked) && stage.is_in(&b, ModelState::Ready));
    assert!(matches!(
        stage.decisions(What::Parked)[0].1,
        Reason::AboveSoft { used_bytes: 90, soft_bytes: 85, .. }
    ));

    let mut stage = Stage::new(|config| config.soft_ratio = 0.85);
    let alone = model("alone", 95);
    stage.use_once(&alone);
    stage.use_once(&alone);
    assert!(stage.is_in(&alone, ModelState::Ready));
    assert_eq!(stage.loads(), 1, "a model between soft and hard limit is not loaded for each request");
}

#[test]
fn two_models_that_do_not_fit_together_are_served_in_turns_of_some_length() {
    let mut stage = Stage::new(|_| ());
    let (a, b) = (model("a", 80), model("b", 80));
    stage.use_once(&a);
    let ready_at = stage.now;
    let mut of_a = stage.ask(&a);
    let of_b = stage.ask(&b);
    // A keeps its place for twice its load time of 1 s, although B waits.
    let mut served = 0;
    while !stage.is_granted(of_b) {
        let next = stage.ask(&a);
        stage.pass(300);
        stage.release(of_a);
        if !stage.is_granted(next) {
            stage.finish_work();
            break;
        }
        served += 1;
        of_a = next;
    }
    assert!(stage.is_granted(of_b), "B starved");
    assert!(stage.now.since(ready_at) >= 2_000 && served >= 5, "A was thrown out after {served} requests");
    assert_eq!(stage.loads(), 2);
    // A's last request still waits, and gets its turn again.
    stage.pass(3_000);
    stage.release(of_b);
    stage.finish_work();
    assert!(stage.is_in(&a, ModelState::Busy) && stage.is_in(&b, ModelState::Parked));
}

#[test]
fn a_small_model_passes_a_large_one_that_waits_but_never_takes_what_leaves_for_it() {
    let mut stage = Stage::new(|_| ());
    let (busy, large) = (model("busy", 70), model("large", 90));
    let (small, other) = (model("small", 20), model("other", 30));
    let lease = stage.ask(&busy);
    stage.finish_work();
    let of_large = stage.ask(&large);
    let of_tiny = stage.ask(&model("tiny", 10));
    stage.finish_work();
    assert!(
        stage.is_granted(of_tiny),
        "30 are free, of which the large one needs 20 beside the 70 that will leave"
    );
    stage.release(of_tiny);
    let of_small = stage.ask(&small);
    stage.finish_work();
    assert!(!stage.is_granted(of_small) && !stage.is_granted(of_large), "the 20 free bytes are claimed");
    let of_other = stage.ask(&other);
    stage.pass(60_000);
    stage.release(lease);
    stage.finish_work();
    assert!(stage.is_granted(of_large) && !stage.is_granted(of_other));
}

#[test]
fn a_pinned_model_is_left_alone_and_what_can_not_fit_beside_it_is_refused() {
    let mut stage = Stage::new(|_| ());
    let (a, b) = (model("a", 60), model("b", 60));
    stage.pin(&a);
    stage.use_once(&a);
    let refused = stage.ask(&b);
    assert_eq!(
        stage.refusal(refused),
        Some(&Error::TooLarge {
            model: "b".into(),
            needed_bytes: 60,
            budget_bytes: 100,
            largest_bytes: 40,
            context_that_fits: None
        })
    );
    stage.pass(1_000_000);
    assert!(stage.is_in(&a, ModelState::Ready));
}

#[test]
fn who_waits_is_refused_when_a_pin_makes_it_impossible() {
    let mut stage = Stage::new(|_| ());
    let (a, b) = (model("a", 60), model("b", 60));
    stage.ask(&a);
    stage.finish_work();
    let waits = stage.ask(&b);
    assert!(stage.refusal(waits).is_none());
    stage.pin(&a);
    assert!(matches!(stage.refusal(waits), Some(Error::TooLarge { largest_bytes: 40, .. })));
}

#[test]
fn priority_is_a_head_start_and_no_more() {
    let mut stage = Stage::new(|_| ());
    let a = model("a", 10);
    let lease = stage.ask(&a);
    stage.finish_work();
    let early = stage.ask_with(&a, 0, None);
    stage.pass(900);
    let urgent = stage.ask_with(&a, 10, None);
    stage.pass(200);
    let late = stage.ask_with(&a, 10, None);
    for (done, next) in [(lease, urgent), (urgent, early), (early, late)] {
        stage.release(done);
        assert!(stage.is_granted(next));
    }
}

#[test]
fn positions_and_estimates_are_told() {
    let mut stage = Stage::new(|_| ());
    let a = model("a", 10);
    let first = stage.ask(&a);
    stage.finish_work();
    stage.pass(400);
    stage.release(first);
    let lease = stage.ask(&a);
    let second = stage.ask(&a);
    let third = stage.ask(&a);
    let told = |stage: &Stage, ticket| {
        let tells = stage.effects.iter().rev().find_map(|effect| match effect {
            Effect::Tell { ticket: told, wait } if *told == ticket => Some(*wait),
            _ => None,
        });
        tells.expect("it was told")
    };
    assert_eq!(told(&stage, second), Wait::Queued { position: 1, estimate_ms: Some(400) });
    assert_eq!(told(&stage, third), Wait::Queued { position: 2, estimate_ms: Some(800) });
    stage.pass(250);
    stage.release(lease);
    // The last lease counts for a fifth.
    assert_eq!(told(&stage, third), Wait::Queued { position: 1, estimate_ms: Some(370) });
}

#[test]
fn times_of_waiting_and_loading_are_told_apart() {
    let mut stage = Stage::new(|_| ());
    let a = model_with("a", 10, |spec| spec.options.slots = 1);
    let first = stage.ask(&a);
    stage.now = stage.now.plus(250);
    let second = stage.ask(&a);
    stage.finish_work();
    stage.pass(3_000);
    stage.release(first);
    let facts: Vec<_> = stage
        .effects
        .iter()
        .filter_map(|effect| match effect {
            Effect::Grant { ticket, facts, .. } => Some((*ticket, *facts)),
            _ => None,
        })
        .collect();
    assert_eq!((facts[0].0, facts[0].1.load_ms, facts[0].1.queue_ms), (first, 1_250, 0));
    assert_eq!((facts[1].0, facts[1].1.load_ms, facts[1].1.queue_ms), (second, 1_000, 3_000));
    assert_eq!((facts[0].1.origin, facts[1].1.origin), (Origin::Cold, Origin::Joined));
}

#[test]
fn a_warm_model_makes_the_first_request_a_hit() {
    let mut stage = Stage::new(|_| ());
    let a = model("a", 10);
    stage.warm(&a);
    let joined = stage.ask(&a);
    stage.finish_work();
    assert!(stage.is_granted(joined));
    assert_eq!((stage.model(&a).coalesced, stage.model(&a).loads), (1, 1));
    stage.release(joined);
    stage.ask(&a);
    assert_eq!(stage.model(&a).hits, 1);
}

#[test]
fn a_longer_measurement_makes_idle_ones_leave_until_it_is_paid() {
    let mut stage = Stage::new(|_| ());
    let (a, b) = (model("a", 40), model("b", 50));
    stage.use_once(&a);
    stage.ask(&b);
    let footprint = Footprint { held_bytes: 75, mapped_bytes: 0 };
    stage.happen(Event::Loaded { instance: InstanceId(2), footprint, layout: Layout::Mapped });
    assert_eq!(stage.state.ledger.owed(), 15);
    assert!(stage.is_in(&a, ModelState::Parking));
    stage.finish_work();
    assert_eq!((stage.state.ledger.owed(), stage.state.ledger.used()), (0, 75));
    assert_eq!(stage.decisions(What::Corrected).len(), 1);
}

#[test]
fn a_lower_budget_is_reached_by_what_is_idle() {
    let mut stage = Stage::new(|_| ());
    let a = model("a", 60);
    stage.use_once(&a);
    let mut config = stage.state.config().clone();
    config.budget.bytes = 50;
    stage.happen(Event::Configure { config: Box::new(config) });
    assert!(
        stage.is_in(&a, ModelState::Parking),
        "even the last one leaves when the budget itself is exceeded"
    );
}

#[test]
fn under_pressure_of_the_machine_one_idle_instance_leaves() {
    let mut stage = Stage::new(|_| ());
    let (a, b) = (model("a", 10), model("b", 10));
    stage.use_once(&a);
    stage.pass(1_000);
    stage.use_once(&b);
    stage.happen(Event::Pressure { available_bytes: u64::MAX, stall_percent: 1.0 });
    assert!(stage.is_in(&a, ModelState::Ready));
    stage.happen(Event::Pressure { available_bytes: 0, stall_percent: 0.0 });
    assert!(stage.is_in(&a, ModelState::Parking) && stage.is_in(&b, ModelState::Ready));
    let reason =
        Reason::Pressure { available_bytes: 0, stall_percent: 0.0, frees_bytes: 10, reload_ms: 1_000 };
    assert_eq!(stage.decisions(What::Parked), [("a".to_owned(), reason)]);
}

#[test]
fn pressure_goes_on_until_only_what_is_used_or_pinned_is_left() {
    let mut stage = Stage::new(|_| ());
    let [used, pinned, idle, other] = ["used", "pinned", "idle", "other"].map(|name| model(name, 10));
    let _lease = stage.ask(&used);
    stage.finish_work();
    stage.pin(&pinned);
    for model in [&pinned, &idle, &other] {
        stage.use_once(model);
        stage.pass(1_000);
    }
    for _ in 0..10 {
        stage.happen(Event::Pressure { available_bytes: u64::MAX, stall_percent: 40.0 });
        stage.finish_work();
        stage.pass(1_000);
    }
    assert!(stage.is_in(&used, ModelState::Busy) && stage.is_in(&pinned, ModelState::Ready));
    assert!(stage.is_in(&idle, ModelState::Absent) && stage.is_in(&other, ModelState::Absent));
    let names = |what| stage.decisions(what).into_iter().map(|(name, _)| name).collect::<Vec<_>>();
    assert_eq!(
        (names(What::Parked), names(What::Evicted)),
        (vec!["idle".into(), "other".into()], vec!["idle".into(), "other".into()])
    );
}

#[test]
fn two_clients_with_incomparable_wishes_are_both_served() {
    let mut stage = Stage::new(|_| ());
    let wide = model_with("a", 10, |spec| spec.options.slots = 4);
    let long = model_with("a", 10, |spec| spec.options.context_tokens = 1_024);
    let of_wide = stage.ask(&wide);
    let warmed = stage.warm(&long);
    stage.finish_work();
    assert!(stage.is_granted(of_wide));
    stage.release(of_wide);
    stage.finish_work();
    let is_done = |effect: &Effect| matches!(effect, Effect::Done { ticket, .. } if *ticket == warmed);
    assert!(stage.effects.iter().any(is_done));
    assert_eq!((stage.loads(), stage.model(&wide).grown), (1, 1));
}

#[test]
fn the_larger_wish_among_those_who_wait_is_loaded_at_once() {
    let mut stage = Stage::new(|_| ());
    let busy = model("busy", 95);
    let lease = stage.ask(&busy);
    stage.finish_work();
    let short = stage.ask(&model("a", 10));
    let long = stage.ask(&model_with("a", 12, |spec| spec.options.context_tokens = 1_024));
    stage.release(lease);
    stage.finish_work();
    assert!(stage.is_granted(short));
    stage.release(short);
    assert!(stage.is_granted(long));
    assert_eq!(stage.loads(), 2, "busy, and one for both");
}

#[test]
fn statistics_of_models_are_bounded() {
    let mut stage = Stage::new(|config| config.models_max = 3);
    for number in 0..10 {
        stage.use_once(&model(&format!("m{number}"), 90));
        stage.finish_work();
        stage.pass(31 * 60_000);
        stage.finish_work();
    }
    let snapshot = stage.state.snapshot(stage.now);
    assert!(snapshot.models.len() <= 3, "{}", snapshot.models.len());
    assert_eq!(snapshot.pool.requests, 10);
}

#[test]
fn refusals_of_a_crowd_are_noted_once_a_second() {
    let mut stage = Stage::new(|config| config.queue_per_model = 1);
    let a = model("a", 10);
    for _ in 0..50 {
        stage.ask(&a);
    }
    assert_eq!(stage.decisions(What::Refused).len(), 1);
    assert_eq!(stage.model(&a).refused, 49);
}

#[test]
fn what_is_due_is_done_even_without_a_tick() {
    let mut stage = Stage::new(|_| ());
    let (a, b) = (model("a", 10), model("b", 10));
    let _lease = stage.ask(&a);
    stage.finish_work();
    let deadline = stage.now.plus(100);
    let late = stage.ask_with(&a, 0, Some(deadline));
    stage.now = stage.now.plus(100);
    stage.ask(&b);
    assert!(matches!(stage.refusal(late), Some(Error::DeadlineExceeded { waited_ms: 100, .. })));
    let past = stage.ask_with(&a, 0, Some(deadline));
    assert!(matches!(stage.refusal(past), Some(Error::DeadlineExceeded { waited_ms: 0, .. })));
}

#[test]
fn what_was_loaded_without_its_packed_file_says_nothing_about_a_load_with_it() {
    let mut stage = Stage::new(|_| ()).without_parking();
    let hybrid = model_with("a", 5, |spec| {
        spec.options.layout = Layout::Hybrid;
        spec.descriptor = Arc::new(FakeEngine::descriptor("a", 30));
        spec.footprint.mapped_bytes = 60;
        spec.instances = Instances { min: 2, max: 2 };
    });
    let lease = stage.ask(&hybrid);
    let footprint = Footprint { held_bytes: 10, mapped_bytes: 30 };
    stage.happen(Event::Loaded { instance: InstanceId(1), footprint, layout: Layout::Mapped });
    // The second is loaded like the first, and shares what that maps.
    assert_eq!(stage.reservations(), [(5, 60), (10, 30)]);
    assert_eq!(stage.state.ledger.used(), 50);
    stage.finish_work();
    stage.release(lease);
    let ticket = stage.ticket();
    stage.happen(Event::Unload { ticket, name: "a".into() });
    stage.finish_work();
    stage.ask(&hybrid);
    assert_eq!(stage.reservations()[2], (5, 60));
}

#[test]
fn a_parked_instance_with_repacked_weights_is_expected_to_hold_these_alone() {
    let of_f16 = 512 * FakeEngine::descriptor("a", 1).kv_bytes_per_token();
    for (kv_type, kv_bytes) in [(KvType::F16, of_f16), (KvType::Q8_0, of_f16 * 17 / 32)] {
        let mut stage = Stage::new(|config| config.budget.bytes = 1 << 40);
        let repacked = model_with("a", 1_000 + kv_bytes, |spec| {
            spec.options = LoadOptions {
                layout: Layout::Repacked,
                context_tokens: 512,
                kv_type,
                ..spec.options.clone()
            };
            spec.keep_alive = KeepAlive::Ms(1_000);
        });
        stage.use_once(&repacked);
        stage.pass(1_000);
        let frees = Reason::Expired { idle_ms: 1_000, frees_bytes: kv_bytes, reload_ms: 1_000 };
        assert_eq!(stage.decisions(What::Parked), [("a".to_owned(), frees)], "{kv_type:?}");
    }
}
