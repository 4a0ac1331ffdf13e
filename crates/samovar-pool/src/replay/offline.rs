//! What knowing the future would be worth: a clairvoyant that can be reached, and a bound that cannot be beaten.
//!
//! Which models to keep for the least load time, when models differ in size and in what a load takes, is NP-hard even
//! for a policy that knows every request to come. So there are two answers, and the best possible lies between them:
//!
//! - [`offline`], from above: Belady's rule with sizes and costs. What leaves is what loses least load time for each
//!   byte and each millisecond until it is needed again. A **heuristic**: it can be done, a better one may exist.
//! - [`bound`], from below: the fractional relaxation (PFOO-L). Keeping a model between two of its requests takes
//!   bytes × time and saves a load; the savings that take least are bought first, until budget × time is spent. A
//!   **bound**: no policy that serves requests at their times and in their order loads less.
//!
//! Both see requests one at a time, without slots, queues or keep-alives. A pool that lets requests wait, and serves
//! those for one model together, can need less than either.
//!
//! *Sources:* L. A. Belady, "A study of replacement algorithms for a virtual-storage computer", IBM Systems Journal
//! 5(2), 1966. D. S. Berger, N. Beckmann, M. Harchol-Balter, "Practical bounds on optimal caching with variable object
//! sizes", Proc. ACM Meas. Anal. Comput. Syst. 2(2), 2018; here with costs, and with parking as a second, cheaper way
//! to keep.

use super::costs::Subject;
use super::log::Trace;
use super::report::Report;

/// Lives through the trace knowing what is to come.
pub fn offline(trace: &Trace, subjects: &[Subject], budget_bytes: u64, can_park: bool) -> Report {
    let mut clairvoyant = Clairvoyant::new(subjects, budget_bytes, can_park);
    let next_uses = next_uses(trace);
    let mut waits_ms = Vec::with_capacity(trace.requests.len());
    for (request, next) in trace.requests.iter().zip(next_uses) {
        let next_at = next.map(|next| trace.requests[next].at.0);
        waits_ms.extend(clairvoyant.serve(request.model, request.at.0, next_at));
    }
    let mut report = Report { requests: trace.requests.len() as u64, ..clairvoyant.report };
    report.waited(waits_ms);
    report
}

/// For each request the next one for the same model.
fn next_uses(trace: &Trace) -> Vec<Option<usize>> {
    let mut later = vec![None; trace.models.len()];
    let mut next_uses = vec![None; trace.requests.len()];
    for (index, request) in trace.requests.iter().enumerate().rev() {
        next_uses[index] = later[request.model].replace(index);
    }
    next_uses
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Residency {
    #[default]
    Absent,
    Parked,
    Ready,
}

/// Who knows what is to come, and what it has in memory.
struct Clairvoyant<'a> {
    subjects: &'a [Subject],
    budget_bytes: u64,
    can_park: bool,
    used_bytes: u64,
    /// Where each model is, and when it is asked for next.
    places: Vec<(Residency, Option<u64>)>,
    report: Report,
}

/// A way to free memory: what it frees, what it loses for each byte and millisecond, and where it leads.
struct Move {
    model: usize,
    to: Residency,
    frees_bytes: u64,
    loss: f64,
}

impl<'a> Clairvoyant<'a> {
    fn new(subjects: &'a [Subject], budget_bytes: u64, can_park: bool) -> Self {
        let places = vec![(Residency::Absent, None); subjects.len()];
        Self { subjects, budget_bytes, can_park, used_bytes: 0, places, report: Report::default() }
    }

    /// Serves a request; returns what it waited, `None` when it can not be served.
    fn serve(&mut self, model: usize, now: u64, next_at: Option<u64>) -> Option<u64> {
        let costs = self.subjects[model].costs;
        let full_bytes = costs.footprint.total_bytes();
        if full_bytes > self.budget_bytes {
            self.report.refused += 1;
            return None;
        }
        let waited_ms = match self.places[model].0 {
            Residency::Ready => {
                self.report.ready += 1;
                0
            }
            Residency::Parked => {
                self.report.parked += 1;
                self.report.resumes += 1;
                costs.resume_ms
            }
            Residency::Absent => {
                self.report.loaded += 1;
                self.report.loads += 1;
                costs.load_ms
            }
        };
        self.report.load_ms += waited_ms;
        self.used_bytes -= self.bytes(model, self.places[model].0);
        // Not among those that could leave while it comes in.
        self.places[model] = (Residency::Absent, None);
        while self.used_bytes + full_bytes > self.budget_bytes {
            let Some(cheapest) = self.cheapest(now) else { break };
            self.used_bytes -= cheapest.frees_bytes;
            self.places[cheapest.model].0 = cheapest.to;
            self.report.evictions += u64::from(cheapest.to == Residency::Absent);
        }
        self.used_bytes += full_bytes;
        self.places[model] = (Residency::Ready, next_at);
        Some(waited_ms)
    }

    fn cheapest(&self, now: u64) -> Option<Move> {
        let models = (0..self.places.len()).flat_map(|model| self.moves(model, now));
        models.min_by(|one, other| one.loss.total_cmp(&other.loss))
    }

    fn moves(&self, model: usize, now: u64) -> impl Iterator<Item = Move> {
        let (place, next_at) = self.places[model];
        let costs = self.subjects[model].costs;
        let bytes = self.bytes(model, place);
        let left_ms = |to: Residency| match to {
            Residency::Parked => costs.resume_ms,
            _ => costs.load_ms,
        };
        let already_ms = if place == Residency::Parked { costs.resume_ms } else { 0 };
        let to_move = move |to: Residency, left_bytes: u64| {
            let frees_bytes = bytes.saturating_sub(left_bytes);
            let lost_ms = left_ms(to).saturating_sub(already_ms) as f64;
            let loss = next_at
                .map_or(0.0, |at| lost_ms / (frees_bytes as f64 * at.saturating_sub(now).max(1) as f64));
            (frees_bytes > 0).then_some(Move { model, to, frees_bytes, loss })
        };
        let may_park = self.can_park && self.subjects[model].can_park() && place == Residency::Ready;
        let unload = (place != Residency::Absent).then(|| to_move(Residency::Absent, 0)).flatten();
        let park = may_park.then(|| to_move(Residency::Parked, costs.parked_bytes)).flatten();
        // For what is never needed again, leaving for good comes first.
        unload.into_iter().chain(park)
    }

    fn bytes(&self, model: usize, place: Residency) -> u64 {
        let costs = self.subjects[model].costs;
        match place {
            Residency::Absent => 0,
            Residency::Parked => costs.parked_bytes,
            Residency::Ready => costs.footprint.total_bytes(),
        }
    }
}

/// Milliseconds of loading and resuming that no policy that serves requests at their times and in their order gets
/// below.
pub fn bound(trace: &Trace, subjects: &[Subject], budget_bytes: u64, can_park: bool) -> u64 {
    let fits = |model: usize| subjects[model].costs.footprint.total_bytes() <= budget_bytes;
    let requests = trace.requests.iter().filter(|request| fits(request.model));
    let all_ms: u64 = requests.map(|request| subjects[request.model].costs.load_ms).sum();
    // The budget holds at every moment, and between any two requests: each gives a bound, and the higher one counts.
    let by_time = |index: usize| trace.requests[index].at.0;
    let by_turn = |index: usize| index as u64;
    let saved = [
        saved_at_most(trace, subjects, budget_bytes, can_park, by_time),
        saved_at_most(trace, subjects, budget_bytes, can_park, by_turn),
    ];
    let [by_time, by_turn] = saved;
    // A fraction of a millisecond less is still a bound.
    all_ms.saturating_sub(by_time.min(by_turn).ceil() as u64)
}

/// The load time that keeping models between their requests saves at most, when lengths are measured by `clock`.
fn saved_at_most(
    trace: &Trace,
    subjects: &[Subject],
    budget_bytes: u64,
    can_park: bool,
    clock: impl Fn(usize) -> u64,
) -> f64 {
    let mut savings: Vec<(f64, f64)> = Vec::new();
    for (index, next) in next_uses(trace).into_iter().enumerate() {
        let Some(next) = next else { continue };
        let subject = &subjects[trace.requests[index].model];
        let costs = subject.costs;
        let full_bytes = costs.footprint.total_bytes();
        if full_bytes > budget_bytes {
            continue;
        }
        let length = (clock(next) - clock(index)) as f64;
        let whole = (full_bytes as f64 * length, costs.load_ms as f64);
        let parked =
            (costs.parked_bytes as f64 * length, costs.load_ms.saturating_sub(costs.resume_ms) as f64);
        let rest = (whole.0 - parked.0, whole.1 - parked.1);
        // Parking is worth a step of its own where it saves more for each byte than staying ready does beyond it.
        if can_park && subject.can_park() && parked.1 * rest.0 > rest.1 * parked.0 {
            savings.extend([parked, rest]);
        } else {
            savings.push(whole);
        }
    }
    // Least bytes × length for each millisecond first.
    savings.sort_by(|one, other| (one.0 * other.1).total_cmp(&(other.0 * one.1)));
    let last = trace.requests.len().saturating_sub(1);
    let mut left = budget_bytes as f64 * if trace.requests.is_empty() { 0.0 } else { clock(last) as f64 };
    let mut saved_ms = 0.0;
    for (takes, saves_ms) in savings {
        let part = if takes <= left { 1.0 } else { left / takes };
        saved_ms += saves_ms * part;
        left -= takes * part;
    }
    saved_ms
}

#[cfg(test)]
mod tests {
    use super::super::log::{ModelCosts, Reader};
    use super::*;

    fn harness(lines: &str) -> (Trace, Vec<Subject>) {
        let mut reader = Reader::default();
        lines.lines().for_each(|line| reader.take(line).expect("reads"));
        let trace = reader.finish();
        let subject = |model| Subject::new(model, None).expect("sized");
        let subjects = trace.models.iter().map(subject).collect();
        (trace, subjects)
    }

    fn facts(model: &str, bytes: u64, load_ms: u64) -> String {
        let facts = ModelCosts {
            model: model.into(),
            held_bytes: Some(0),
            mapped_bytes: Some(bytes),
            load_ms: Some(load_ms),
            ..ModelCosts::default()
        };
        serde_json::to_string(&facts).expect("serializes") + "\n"
    }

    #[test]
    fn what_is_needed_last_leaves_first() {
        // A B C A B: two of three fit; with A kept for its next use, only B is loaded again.
        let lines: String = ["a", "b", "c"].map(|name| facts(name, 10, 100)).concat();
        let (trace, subjects) = harness(&(lines + "0 a\n10 b\n20 c\n30 a\n40 b\n"));
        let report = offline(&trace, &subjects, 20, false);
        assert_eq!((report.loads, report.load_ms, report.ready), (4, 400, 1));
        assert_eq!(report.loaded, 4);
        assert!(bound(&trace, &subjects, 20, false) <= 400);
    }

    #[test]
    fn without_a_limit_both_load_each_model_once() {
        let lines = facts("a", 10, 100) + &facts("b", 30, 700);
        let (trace, subjects) = harness(&(lines + "0 a\n10 b\n20 a\n30 b\n"));
        assert_eq!(offline(&trace, &subjects, 40, false).load_ms, 800);
        assert_eq!(bound(&trace, &subjects, 40, false), 800);
    }

    #[test]
    fn a_budget_for_one_of_two_has_a_bound_above_one_load_each() {
        let lines = facts("a", 10, 100) + &facts("b", 10, 100);
        let (trace, subjects) = harness(&(lines + "0 a\n10 b\n20 a\n30 b\n40 a\n50 b\n"));
        let reached = offline(&trace, &subjects, 10, false).load_ms;
        let bound = bound(&trace, &subjects, 10, false);
        assert_eq!(reached, 600);
        assert!((201..=600).contains(&bound), "{bound}");
    }

    #[test]
    fn a_model_larger_than_the_budget_is_refused_and_costs_nothing() {
        let (trace, subjects) = harness(&(facts("a", 10, 100) + "0 a\n10 a\n"));
        let report = offline(&trace, &subjects, 9, true);
        assert_eq!((report.refused, report.load_ms), (2, 0));
        assert_eq!(bound(&trace, &subjects, 9, true), 0);
    }

    #[test]
    fn parking_is_used_where_it_is_cheaper() {
        let line = |name| {
            let facts = ModelCosts {
                model: name,
                bytes: Some(16),
                parked_bytes: Some(1),
                load_ms: Some(100),
                resume_ms: Some(3),
                ..ModelCosts::default()
            };
            serde_json::to_string(&facts).expect("serializes") + "\n"
        };
        let lines = line("a".to_owned()) + &line("b".to_owned());
        let (trace, subjects) = harness(&(lines + "0 a\n10 b\n20 a\n30 b\n"));
        let report = offline(&trace, &subjects, 17, true);
        assert_eq!((report.loads, report.resumes, report.load_ms), (2, 2, 206));
        let bound = bound(&trace, &subjects, 17, true);
        assert!((200..=206).contains(&bound), "{bound}");
    }
}
