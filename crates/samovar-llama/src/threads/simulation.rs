//! Simulated machines: the decision for steps of answers meets other programs that come and go, and is compared with the best
//! fixed number.
//!
//! ```text
//!   time       0 s          5 s          10 s         …
//!   others     none         one loop     none         …
//!   measured   the last three seconds of each phase, against the best number of threads for that phase
//! ```

use super::governor::{Governor, Kind, Step, View, lacks_cores};

/// How long others stay as they are, in seconds.
const PHASE: f64 = 5.0;
/// From when on a phase counts, in seconds.
const REACTED: f64 = 2.0;
/// How often the machine is looked at, in seconds.
const LOOK: f64 = 0.2;

/// A machine, and what else runs on it.
#[derive(Clone, Copy)]
struct Machine {
    cores: f64,
    /// Part of the work that does not divide between threads.
    serial: f64,
    /// Processor time that its group may use, in cores.
    quota: f64,
    /// Whether it tells how many cores idle.
    tells_idle: bool,
    /// Whether the scheduler leaves all spinning threads on too few cores beside other programs.
    stacks: bool,
    /// Seconds of a step with one thread.
    step: f64,
    noise: f64,
    /// Whether the others yield to us.
    others_yield: bool,
}

const PLAIN: Machine = Machine {
    cores: 2.0,
    serial: 0.2,
    quota: f64::INFINITY,
    tells_idle: true,
    stacks: false,
    step: 0.03,
    noise: 0.05,
    others_yield: false,
};

/// Speed and use of cores with so many threads beside so many busy programs.
struct Pace {
    rate: f64,
    cpu: f64,
}

impl Machine {
    fn pace(&self, threads: u32, busy: f64) -> Pace {
        let threads = f64::from(threads);
        let quiet = 1.0 / (self.serial + (1.0 - self.serial) / threads) / self.step;
        let busy = if self.others_yield { 0.0 } else { busy };
        let crowded = threads + busy > self.cores;
        let (mut got, mut rate) = (threads, quiet);
        if crowded {
            let part = self.cores / (threads + busy);
            got = threads * part;
            // A thread that keeps its core spins for those that have lost theirs.
            rate *= if threads > 1.0 { part * 0.5 } else { part };
            if self.stacks && threads > 1.0 && busy > 0.0 {
                (got, rate) = (threads / 2.0, quiet / 50.0);
            }
        }
        if got > self.quota {
            rate *= self.quota / got;
            got = self.quota;
        }
        Pace { rate, cpu: got }
    }

    fn best(&self, most: u32, busy: f64) -> f64 {
        (1..=most).map(|threads| self.pace(threads, busy).rate).fold(0.0, f64::max)
    }

    fn idle(&self, threads: f64, busy: f64) -> f64 {
        let busy = if self.others_yield { 0.0 } else { busy };
        (self.cores - threads - busy).max(0.0).min((self.quota - threads).max(0.0))
    }
}

/// The worst phase: what was done from two seconds on, as a part of what the best fixed number would have done.
fn worst(machine: &Machine, most: u32, others: &[f64]) -> (f64, Vec<(f64, u32)>) {
    let mut governor = Governor::new(most);
    let mut random = 12_345_u64;
    let mut noise = || {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (random >> 33) as f64 / f64::from(u32::MAX >> 1) * 2.0 - 1.0
    };
    let (mut now, mut looked, mut unused, mut idle) = (0.0, 0.0, 0.0, None);
    let mut done = vec![0.0; others.len()];
    let mut told: Vec<(f64, u32)> = Vec::new();
    let end = PHASE * others.len() as f64;
    while now < end {
        let phase = (now / PHASE) as usize;
        let busy = others[phase];
        let view = View { limit: most.min(machine.cores as u32), idle };
        let threads = governor.choose(Kind::Answers, view, now);
        if told.last().is_none_or(|(_, last)| *last != threads) {
            told.push((now, threads));
        }
        let step_limit = governor.step_limit(Kind::Answers, threads, 1.0);
        let pace = machine.pace(threads, busy);
        let mut wall = (1.0 + noise() * machine.noise) / pace.rate;
        let is_hopeless =
            step_limit.is_some_and(|step_limit| wall > step_limit && lacks_cores(threads, 1.0, pace.cpu));
        if is_hopeless {
            wall = step_limit.unwrap_or(wall);
        }
        let step = Step { threads, work: 1.0, wall, cpu: pace.cpu * wall };
        now += wall;
        unused += machine.idle(f64::from(threads), busy) * wall;
        if is_hopeless {
            governor.give_way(Kind::Answers, &step, now);
        } else {
            if now - phase as f64 * PHASE >= REACTED {
                let counted = (now - phase as f64 * PHASE - REACTED).min(wall) / wall;
                done[phase] += counted;
            }
            governor.note(Kind::Answers, &step, View { idle, ..view }, now);
        }
        if now - looked >= LOOK {
            idle = machine.tells_idle.then_some((unused / (now - looked)) as f32);
            (looked, unused) = (now, 0.0);
        }
    }
    let part = |(done, busy): (&f64, &f64)| done / (machine.best(most, *busy) * (PHASE - REACTED));
    (done.iter().zip(others).map(part).fold(f64::INFINITY, f64::min), told)
}

#[track_caller]
fn assert_near_best(machine: &Machine, most: u32, others: &[f64]) {
    let (worst, told) = worst(machine, most, others);
    assert!(worst >= 0.9, "{worst:.2} of the best number beside {others:?}; threads by time: {told:.1?}");
}

#[test]
fn is_never_more_than_a_tenth_from_the_best_number_on_machines_of_any_size() {
    for cores in [2_u32, 4, 16] {
        let full = f64::from(cores);
        let machine = Machine { cores: full, ..PLAIN };
        for others in [
            vec![0.0; 6],
            vec![1.0; 6],
            vec![full; 6],
            vec![0.0, 1.0, 0.0, 1.0, 0.0, 1.0],
            vec![0.0, full, 0.0, full / 2.0, 1.0, 0.0],
            vec![full / 2.0, full / 2.0 - 1.0, full / 2.0 + 1.0, 0.0],
        ] {
            for step in [0.004, 0.03, 0.2] {
                assert_near_best(&Machine { step, ..machine }, cores, &others);
            }
        }
    }
}

#[test]
fn threads_that_the_scheduler_stacks_give_way_at_once() {
    for step in [0.008, 0.03] {
        let machine = Machine { stacks: true, step, ..PLAIN };
        assert_near_best(&machine, 2, &[0.0, 1.0, 0.0, 1.0, 1.0, 1.0, 0.0]);
        let (_, told) = worst(&machine, 2, &[0.0, 1.0]);
        let gave_way = told.iter().find(|(at, threads)| *at >= PHASE && *threads == 1).unwrap();
        assert!(gave_way.0 - PHASE < 1.0, "{told:?}");
    }
}

#[test]
fn without_a_word_about_idle_cores_it_finds_the_number_by_trying() {
    let machine = Machine { tells_idle: false, ..PLAIN };
    assert_near_best(&machine, 2, &[0.0; 6]);
    assert_near_best(&machine, 2, &[1.0; 8]);
    // Back up takes as long as the wait between two attempts, which is bounded.
    let others = [vec![1.0; 2], vec![0.0; 3]].concat();
    let (_, told) = worst(&machine, 2, &others);
    assert_eq!(told.last().unwrap().1, 2, "{told:?}");
}

#[test]
fn a_quota_of_one_and_a_half_cores_is_used_whole() {
    for serial in [0.05, 0.6] {
        let machine = Machine { quota: 1.5, serial, ..PLAIN };
        assert_near_best(&machine, 2, &[0.0; 6]);
    }
}

#[test]
fn programs_that_yield_cost_no_thread() {
    let machine = Machine { others_yield: true, ..PLAIN };
    let (_, told) = worst(&machine, 2, &[2.0; 4]);
    assert_eq!(told.iter().map(|(_, threads)| *threads).collect::<Vec<_>>(), [2]);
}

#[test]
fn does_not_swing_where_nothing_changes() {
    for (cores, busy) in [(2.0, 0.0), (2.0, 1.0), (2.0, 2.0), (4.0, 2.0), (16.0, 5.0)] {
        let machine = Machine { cores, noise: 0.1, ..PLAIN };
        let (_, told) = worst(&machine, cores as u32, &[busy; 12]);
        let late = told.iter().filter(|(at, _)| *at > 10.0).count();
        assert_eq!(late, 0, "{cores} cores, {busy} busy: {told:.1?}");
    }
}

#[test]
fn the_first_step_has_the_cores_that_others_left_before() {
    let mut governor = Governor::new(4);
    let view = View { limit: 4, idle: None };
    let kinds = [Kind::Prompt, Kind::Answers];
    let mut begins = |free, now| {
        governor.begin(free, view, now);
        kinds.map(|kind| governor.choose(kind, view, now))
    };
    // After pauses of some seconds, and of minutes.
    assert_eq!(begins(1.1, 0.0), [1, 1]);
    assert_eq!(begins(3.9, 10.0), [4, 4]);
    assert_eq!(begins(2.6, 20.0), [2, 2]);
    assert_eq!(begins(0.0, 200.0), [1, 1]);
    assert_eq!(begins(4.0, 200.5), [1, 1], "they computed a moment ago, and know better");
    // What a long prompt finds out meanwhile is newer.
    governor.begin(4.0, view, 300.0);
    assert_eq!(governor.choose(Kind::Prompt, view, 300.0), 4);
    governor.give_way(Kind::Prompt, &Step { threads: 4, work: 100.0, wall: 2.0, cpu: 4.0 }, 302.0);
    assert_eq!(governor.choose(Kind::Answers, view, 303.0), 2);
}

#[test]
fn more_threads_are_not_tried_while_no_core_idles() {
    let view = |idle| View { limit: 2, idle };
    let tries = |idle| {
        let mut governor = Governor::new(2);
        governor.begin(1.0, view(idle), 0.0);
        (1..3000).any(|step| {
            let now = f64::from(step) * 0.03;
            let threads = governor.choose(Kind::Answers, view(idle), now);
            governor.note(
                Kind::Answers,
                &Step { threads, work: 1.0, wall: 0.03, cpu: 0.03 },
                view(idle),
                now,
            );
            threads > 1
        })
    };
    assert!(!tries(Some(0.1)));
    assert!(tries(Some(0.4)), "threads of others may rest in between");
    assert!(tries(Some(0.9)));
    assert!(tries(None), "nobody knows");
}

#[test]
fn a_share_is_kept_at_once_and_given_back_at_once() {
    let mut governor = Governor::new(4);
    let view = |limit| View { limit, idle: Some(0.0) };
    assert_eq!(governor.choose(Kind::Answers, view(4), 0.0), 4);
    assert_eq!(governor.choose(Kind::Answers, view(2), 0.1), 2);
    assert_eq!(governor.choose(Kind::Answers, view(0), 0.2), 1);
    assert_eq!(governor.choose(Kind::Answers, view(9), 0.3), 4);
}

#[test]
fn prompts_begin_with_what_answers_have_found() {
    let mut governor = Governor::new(2);
    let view = View { limit: 2, idle: Some(0.0) };
    let machine = Machine { stacks: true, ..PLAIN };
    let mut now = 0.0;
    for _ in 0..40 {
        let threads = governor.choose(Kind::Answers, view, now);
        let pace = machine.pace(threads, 1.0);
        now += 1.0 / pace.rate;
        let step = Step { threads, work: 1.0, wall: 1.0 / pace.rate, cpu: pace.cpu / pace.rate };
        governor.note(Kind::Answers, &step, view, now);
    }
    assert_eq!(governor.choose(Kind::Answers, view, now), 1);
    assert_eq!(governor.choose(Kind::Prompt, view, now), 1);
    // A short request later nothing new is known, and what was found still counts.
    assert_eq!(governor.choose(Kind::Prompt, view, now + 5.0), 1);
    assert_eq!(governor.choose(Kind::Answers, view, now + 5.1), 1);
    assert_eq!(governor.choose(Kind::Prompt, view, now + 100.0), 2, "that was long ago");
}

#[test]
fn a_chunk_of_prompts_may_take_three_times_as_long_as_it_should() {
    let mut governor = Governor::new(2);
    let view = View { limit: 2, idle: Some(0.0) };
    assert_eq!(governor.choose(Kind::Prompt, view, 0.0), 2);
    let step = Step { threads: 2, work: 100.0, wall: 1.0, cpu: 2.0 };
    governor.note(Kind::Prompt, &step, view, 1.0);
    assert_eq!(governor.step_limit(Kind::Prompt, 2, 200.0), Some(6.0));
    assert_eq!(governor.step_limit(Kind::Prompt, 2, 10.0), Some(1.5));
    assert_eq!(governor.step_limit(Kind::Prompt, 1, 200.0), None);
    // Nothing is known of answers.
    assert_eq!(governor.step_limit(Kind::Answers, 2, 1.0), Some(0.5));
}
