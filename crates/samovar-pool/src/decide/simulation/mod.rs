//! Random pools: thousands of short lives, each from a seed, with the invariants asserted after every step.
//!
//! ```text
//!   seed ─► rng ─► World: requests, cancels, outcomes good and bad, pins, limits, time ─► step
//!                     ▲                                                                   │
//!                     └── its own account of tickets, leases, bytes ◄────── effects ──────┘
//! ```
//!
//! A failure names its seed; `SAMOVAR_SIM_FIRST=<seed> SAMOVAR_SIM_SEEDS=1` runs that one alone.

mod acts;
mod checks;
mod specs;
mod world;

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use samovar_core::port::Millis;
use samovar_core::{Arena, Bytes};

use super::state::{Phase, PoolState, Timer};
use crate::ask::{Instances, ModelSpec};
use crate::stats::Tally;
use checks::Broken;
use world::World;

/// Lives that `./dev test` lives through.
const SEEDS: u64 = 10_000;
/// Random acts in a life, before the quiet end.
const ACTS: u32 = 120;
/// Every so many lives, one is lived twice and compared.
const TWICE_EVERY: u64 = 16;

/// Does harm to the state behind the back of `step`, to see that the checks notice.
type Sabotage = fn(&mut PoolState);

fn live(seed: u64, sabotage: Option<Sabotage>) -> Result<u64, Broken> {
    let mut world = World::new(seed);
    for _ in 0..ACTS {
        world.act()?;
        if let Some(sabotage) = sabotage {
            sabotage(world.state());
        }
    }
    world.come_to_rest()?;
    Ok(world.trace())
}

#[allow(clippy::disallowed_methods, reason = "the number of seeds is a wish of the user who runs the tests")]
fn number_from_env(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

#[test]
fn ten_thousand_random_lives_keep_the_invariants() {
    let first = number_from_env("SAMOVAR_SIM_FIRST", 0);
    let seeds = number_from_env("SAMOVAR_SIM_SEEDS", SEEDS);
    for seed in first..first + seeds {
        let life = catch_unwind(|| live(seed, None));
        let life = life.unwrap_or_else(|_| panic!("seed {seed}: step panicked; see above"));
        let trace = life.unwrap_or_else(|broken| panic!("seed {seed}: {broken}"));
        if seed % TWICE_EVERY == 0 {
            let again = live(seed, None).expect("it lived before");
            assert_eq!(trace, again, "seed {seed}: invariant 7: the same events gave other effects");
        }
    }
}

#[test]
fn random_lives_are_eventful() {
    let mut total = Tally::default();
    let (mut background, mut wanted_back) = (0, 0);
    for seed in 0..300 {
        let mut world = World::new(seed);
        (0..ACTS).try_for_each(|_| world.act()).and_then(|()| world.come_to_rest()).expect("it lives");
        background += world.background_count;
        wanted_back += world.wanted_back_count;
        let tally = &world.state().tally;
        total.hits += tally.hits;
        total.misses += tally.misses;
        total.coalesced += tally.coalesced;
        total.refused += tally.refused;
        total.cancelled += tally.cancelled;
        total.loads += tally.loads;
        total.load_failures += tally.load_failures;
        total.parked += tally.parked;
        total.resumed += tally.resumed;
        total.grown += tally.grown;
        total.died += tally.died;
        for (reason, count) in &tally.evictions {
            *total.evictions.entry(reason.clone()).or_default() += count;
        }
    }
    let counts = [total.hits, total.misses, total.coalesced, total.refused, total.cancelled, total.loads];
    let counts =
        [&counts[..], &[total.load_failures, total.parked, total.resumed, total.grown, total.died]].concat();
    assert!(counts.iter().all(|count| *count > 30), "{total:?}");
    assert!(background > 30 && wanted_back > 10, "{background} set aside, {wanted_back} of them wanted back");
    assert_eq!(total.evictions.len(), 5, "{total:?}");
}

/// Seeds within which sabotage must be noticed.
const SABOTAGED: u64 = 200;

/// Lives until the sabotage is noticed, and gives the invariants that were seen to break.
fn noticed(sabotage: Sabotage) -> Vec<u8> {
    noticed_within(SABOTAGED, sabotage)
}

fn noticed_within(seeds: u64, sabotage: Sabotage) -> Vec<u8> {
    let lives = (0..seeds).map(|seed| catch_unwind(AssertUnwindSafe(|| live(seed, Some(sabotage)))));
    let mut invariants: Vec<u8> = lives
        .filter_map(|life| match life {
            Ok(Err(broken)) => Some(broken.invariant),
            Ok(Ok(_)) | Err(_) => None,
        })
        .collect();
    invariants.sort_unstable();
    invariants.dedup();
    invariants
}

#[test]
fn a_pool_that_overspends_is_noticed() {
    let found = noticed(|state| state.ledger.set_budget(Bytes::ALL.part(0.5)));
    assert!(found.contains(&1), "{found:?}");
}

#[test]
fn a_pool_that_overspends_a_device_is_noticed() {
    let found = noticed(|state| {
        let on_host = state.config.budget.bytes;
        state.ledger.set_budget(Bytes::ALL.part(0.5).with(Arena::HOST, on_host));
    });
    assert!(found.contains(&1), "{found:?}");
}

#[test]
fn lives_are_lived_with_one_to_four_arenas() {
    let arenas = |seed| 1 + World::new(seed).state().config.device_bytes.len();
    let counts: BTreeSet<usize> = (0..100).map(arenas).collect();
    assert_eq!(counts, BTreeSet::from([1, 2, 3, 4]));
}

#[test]
fn a_pool_that_forgets_what_it_set_aside_is_noticed() {
    let found = noticed(|state| {
        if let Some((_, background)) = state.background_reservations.pop_first() {
            state.ledger.give_back(Bytes::host(background.bytes));
        }
    });
    assert!(found.contains(&1), "{found:?}");
}

#[test]
fn a_pool_that_sets_aside_what_is_above_the_soft_limit_is_noticed() {
    let found = noticed(|state| {
        // What a pool would do that looks at the budget alone; a real change of the limit comes by `Configure`.
        state.config.soft_ratio = 1.0;
    });
    assert!(found.contains(&9), "{found:?}");
}

#[test]
fn a_pool_that_loses_a_ticket_is_noticed() {
    let found = noticed(|state| {
        let Some((id, ticket)) = state.tickets.pop_last() else { return };
        let model = state.model_mut(ticket.model);
        model.queue.lose(id);
        model.warms.retain(|(_, warm)| *warm != id);
        state.timers.retain(|(_, timer)| *timer != Timer::Deadline(id));
    });
    assert!(found.contains(&2), "{found:?}");
}

#[test]
fn a_pool_that_forgets_pins_is_noticed() {
    let found = noticed(|state| state.models.values_mut().for_each(|model| model.is_pinned = false));
    assert!(found.contains(&3), "{found:?}");
}

#[test]
fn a_pool_that_loses_count_of_leases_is_noticed() {
    let found = noticed(|state| {
        if let Some(busy) = state.instances.values_mut().find(|instance| instance.leases > 1) {
            busy.leases -= 1;
        }
    });
    assert!(found.contains(&3) || found.contains(&5), "{found:?}");
}

#[test]
fn a_pool_that_loads_twice_is_noticed() {
    let found = noticed(|state| {
        let loading =
            state.instances.values().find(|instance| matches!(instance.phase, Phase::Loading { .. }));
        if let Some(model) = loading.map(|instance| instance.model) {
            state.model_mut(model).instances.clear();
        }
    });
    assert!(found.contains(&4), "{found:?}");
}

#[test]
fn a_pool_that_loads_more_instances_than_it_may_is_noticed() {
    // Few lives have a model that may have several instances, is asked for enough, and has the room.
    let found = noticed_within(10 * SABOTAGED, |state| {
        for model in state.models.values_mut().filter(|model| model.spec.instances.max > 1) {
            let instances = Instances { min: 1, max: model.spec.instances.max + 1 };
            model.spec = Arc::new(ModelSpec { instances, ..(*model.spec).clone() });
        }
    });
    assert!(found.contains(&4), "{found:?}");
}

#[test]
fn a_pool_that_grants_half_a_group_is_noticed() {
    let found = noticed(|state| state.models.values_mut().for_each(|model| model.members.clear()));
    assert!(found.contains(&5), "{found:?}");
}

#[test]
fn a_pool_that_lets_a_part_of_a_group_go_is_noticed() {
    let found = noticed(|state| {
        if let Some(held) = state.instances.values_mut().find(|instance| instance.holds > 0) {
            held.holds = 0;
        }
    });
    assert!(found.contains(&5) || found.contains(&3), "{found:?}");
}

#[test]
fn a_pool_that_favours_a_client_is_noticed() {
    let found = noticed(|state| state.models.values_mut().for_each(|model| model.queue.favour("client 1")));
    assert!(found.contains(&10), "{found:?}");
}

#[test]
fn a_pool_that_loads_what_it_has_given_up_is_noticed() {
    let found = noticed(|state| {
        for backoff in state.models.values_mut().filter_map(|model| model.backoff.as_mut()) {
            backoff.retry_at = Millis(0);
        }
    });
    assert!(found.contains(&11), "{found:?}");
}

#[test]
fn a_pool_that_misses_deadlines_is_noticed() {
    let found = noticed(|state| state.timers.retain(|(_, timer)| !matches!(timer, Timer::Deadline(_))));
    assert!(found.contains(&6), "{found:?}");
}

#[test]
fn a_pool_that_keeps_a_grudge_is_noticed() {
    let found = noticed(|state| state.timers.retain(|(_, timer)| !matches!(timer, Timer::Backoff(_))));
    assert!(found.contains(&8) || found.contains(&6), "{found:?}");
}

#[test]
fn a_pool_in_which_the_older_backlog_always_comes_first_is_noticed() {
    let found = noticed_within(10 * SABOTAGED, |state| {
        state.tickets.values_mut().for_each(|ticket| ticket.counts_from = ticket.asked_at);
    });
    assert!(found.contains(&12), "{found:?}");
}
