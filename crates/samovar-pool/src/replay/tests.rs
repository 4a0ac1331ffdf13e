//! Replays of small logs whose outcome can be told by hand, and of synthetic ones that must add up.

use super::log::Reader;
use super::synthetic::{self, Kind};
use super::*;
use crate::budget::Budget;
use crate::config::{EvictionPolicy, PoolConfig};

fn harness(lines: &str) -> (Trace, Vec<Subject>) {
    let mut reader = Reader::default();
    lines.lines().for_each(|line| reader.take(line).expect("reads"));
    let mut trace = reader.finish();
    trace.assume_holds(10);
    let subjects = subjects(&trace);
    (trace, subjects)
}

fn subjects(trace: &Trace) -> Vec<Subject> {
    trace.models.iter().map(|model| Subject::new(model, None).expect("sized")).collect()
}

fn config(policy: EvictionPolicy, budget_bytes: u64) -> PoolConfig {
    let mut config = PoolConfig::with_budget(Budget::fixed(budget_bytes, "test"));
    config.eviction = policy;
    config
}

const TWO: &str = "{\"model\":\"a\",\"held_bytes\":40,\"mapped_bytes\":40,\"load_ms\":1000,\"resume_ms\":50}\n\
                   {\"model\":\"b\",\"held_bytes\":40,\"mapped_bytes\":40,\"load_ms\":3000,\"resume_ms\":60}\n";

#[test]
fn models_that_fit_together_are_loaded_once() {
    let (trace, subjects) = harness(&(TWO.to_owned() + "0 a\n5000 b\n10000 a\n15000 b\n15001 b\n"));
    let report = replay(&trace, &subjects, &config(EvictionPolicy::Lru, 200), true);
    let expected = Report {
        requests: 5,
        ready: 3,
        loaded: 2,
        loads: 2,
        load_ms: 4_000,
        wait_ms_p50: 0,
        wait_ms_p99: 3_000,
        ..Report::default()
    };
    assert_eq!(report, expected);
    assert!((report.hit_rate() - 0.6).abs() < 1e-9);
}

#[test]
fn what_does_not_fit_is_parked_and_resumed_if_it_can_be() {
    let (trace, subjects) = harness(&(TWO.to_owned() + "0 a\n5000 b\n10000 a\n15000 b\n"));
    let parking = replay(&trace, &subjects, &config(EvictionPolicy::Lru, 120), true);
    assert_eq!((parking.loads, parking.resumes, parking.parked, parking.load_ms), (2, 2, 2, 4_110));
    let loading = replay(&trace, &subjects, &config(EvictionPolicy::Lru, 120), false);
    assert_eq!((loading.loads, loading.resumes, loading.evictions, loading.load_ms), (4, 0, 3, 8_000));
}

#[test]
fn requests_that_meet_a_load_join_it_and_wait_for_the_rest_of_it() {
    let (trace, subjects) = harness(&(TWO.to_owned() + "0 b\n1000 b\n2000 b\n"));
    let report = replay(&trace, &subjects, &config(EvictionPolicy::Gdsf, 200), true);
    assert_eq!((report.loaded, report.joined, report.loads), (1, 2, 1));
    assert_eq!((report.wait_ms_p50, report.wait_ms_p99), (2_000, 3_000));
}

#[test]
fn what_never_fits_is_refused_without_a_load() {
    let (trace, subjects) = harness(&(TWO.to_owned() + "0 a\n10 b\n"));
    let report = replay(&trace, &subjects, &config(EvictionPolicy::Gdsf, 50), true);
    assert_eq!((report.refused, report.loads, report.load_ms), (2, 0, 0));
}

#[test]
fn every_policy_answers_every_request_of_every_kind_and_none_beats_the_bound_of_its_order() {
    for kind in Kind::ALL {
        let trace = synthetic::trace(kind, 1_500, 7);
        let subjects = subjects(&trace);
        let all_bytes: u64 = subjects.iter().map(|subject| subject.costs.footprint.total_bytes()).sum();
        let budget_bytes = all_bytes / 4;
        let offline = offline(&trace, &subjects, budget_bytes, false);
        let bound = bound(&trace, &subjects, budget_bytes, false);
        assert!(0 < bound && bound <= offline.load_ms, "{kind:?}: {bound} {offline:?}");
        for policy in EvictionPolicy::ALL {
            let report = replay(&trace, &subjects, &config(policy, budget_bytes), false);
            let answered = report.ready + report.parked + report.joined + report.loaded + report.refused;
            assert_eq!(answered, report.requests, "{kind:?} {policy:?}: {report:?}");
            // Queues that serve requests for one model together may load less than any order of theirs; by this
            // little, here.
            assert!(report.load_ms * 100 >= bound * 95, "{kind:?} {policy:?}: {report:?} {bound}");
            let again = replay(&trace, &subjects, &config(policy, budget_bytes), false);
            assert_eq!(report, again, "{kind:?} {policy:?}");
        }
    }
}

#[test]
fn the_same_seed_gives_the_same_trace_and_another_seed_another() {
    let trace = |seed| synthetic::trace(Kind::Scan, 500, seed);
    assert_eq!(trace(1), trace(1));
    assert_ne!(trace(1), trace(2));
    assert!(trace(1).requests.is_sorted_by_key(|request| request.at));
}
