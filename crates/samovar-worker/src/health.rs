//! Whether a worker is alive, and whether it gets on: pure arithmetic over its heartbeats and the time between looks.
//!
//! ```text
//!   nothing heard ────────────────────────────────► silent      stopped, or frozen as a whole; 2 × silent at rest
//!   heartbeats, work to do, no step, no computing ─────► standstill  it waits for what never comes
//!   heartbeats, work to do, no step, computing ────────► step   a loop without end; or time limit too short
//!   heartbeats, nothing to do, computing ──────────────► step   it computes for another one
//!   heartbeats that tell of steps, no computing ───────► step   it only says that it gets on
//!   heartbeats that tell of steps, nothing brought ────► 4 × step  the same, and it computes for another one
//! ```
//!
//! A step that brought something (an event that a caller waits for, an answer, a load that is further than before) is
//! believed: of these there are only so many. A step that a heartbeat tells of is believed for a while.
//!
//! Timeouts count polls, not wall time: while this process was stopped no poll ran, and the worker is not blamed. A
//! worker at rest, which has nothing to do, says little and is looked at rarely; its work and the limits on it begin to
//! count when it has something to do.

use std::time::Duration;

use crate::config::Timeouts;
use crate::protocol::Heartbeat;

/// A look further apart than this is counted as this much, or as the time that was meant to pass: we were not there.
const LOOK_MAX: Duration = Duration::from_secs(1);
/// A worker that computes uses more than this share of one processor; beating and looking at a clock takes less.
const COMPUTING_SHARE: f64 = 0.02;
/// A worker without work that uses less than this share of one processor is at rest.
const RESTLESS_SHARE: f64 = 0.2;
/// Into so many parts the shorter time limit, for a standstill or a step, is divided; in each the worker either computes or not.
const WINDOWS: u32 = 4;
/// Steps that only heartbeats tell of are believed for so many times the limit for one step.
const HEARSAY: u32 = 4;

/// What is known of a worker's health.
#[derive(Debug)]
pub(crate) struct Health {
    timeouts: Timeouts,
    has_spoken: bool,
    /// It has nothing to do.
    is_at_rest: bool,
    /// Since its last word, as long as it was not at rest.
    silent: Duration,
    /// The same at rest. Work that begins and ends makes neither of them shorter.
    silent_at_rest: Duration,
    /// Since the last step, or since there was work.
    stalled: Duration,
    /// Of that, since it last computed.
    still: Duration,
    /// Since it last computed, whatever it says.
    unproven: Duration,
    /// Since it last brought something, whatever it says.
    fruitless: Duration,
    last_steps: u64,
    /// How long it has been computing without work.
    restless: Duration,
    /// Processor time at the beginning of the window, and how long ago that was.
    window_cpu_ms: u64,
    window: Duration,
}

impl Health {
    pub(crate) fn new(timeouts: Timeouts) -> Self {
        Self {
            timeouts,
            has_spoken: false,
            is_at_rest: false,
            silent: Duration::ZERO,
            silent_at_rest: Duration::ZERO,
            stalled: Duration::ZERO,
            still: Duration::ZERO,
            unproven: Duration::ZERO,
            fruitless: Duration::ZERO,
            restless: Duration::ZERO,
            last_steps: 0,
            window_cpu_ms: 0,
            window: Duration::ZERO,
        }
    }

    /// Says, before the wait for the next look, whether it has nothing to do.
    pub(crate) fn rests(&mut self, is_at_rest: bool) {
        self.is_at_rest = is_at_rest;
    }

    /// How long to wait for its next word until the next look.
    pub(crate) fn interval(&self) -> Duration {
        let Timeouts { silence, standstill, step, .. } = self.timeouts;
        let look = (silence.min(standstill).min(step) / 4).clamp(Duration::from_millis(10), LOOK_MAX);
        if self.is_at_rest && self.has_spoken {
            // Its heartbeat comes twice in this time; from then on it is late.
            look.max(self.timeouts.rest_heartbeat().saturating_mul(2).saturating_sub(self.silent_at_rest))
        } else {
            look
        }
    }

    /// Time has passed since the last look; it is told before what was heard meanwhile.
    pub(crate) fn passed(&mut self, elapsed: Duration) {
        let elapsed = elapsed.min(self.interval().max(LOOK_MAX));
        let Self { silent, silent_at_rest, stalled, still, unproven, fruitless, restless, window, .. } = self;
        for counter in [restless, window] {
            *counter = counter.saturating_add(elapsed);
        }
        if self.is_at_rest {
            *silent_at_rest = silent_at_rest.saturating_add(elapsed);
        } else {
            for counter in [silent, stalled, still, unproven, fruitless] {
                *counter = counter.saturating_add(elapsed);
            }
        }
    }

    /// It said something, whatever that is worth.
    pub(crate) fn spoke(&mut self) {
        self.has_spoken = true;
        self.silent = Duration::ZERO;
        self.silent_at_rest = Duration::ZERO;
    }

    /// It brought something that was waited for: it gets on.
    pub(crate) fn stepped(&mut self) {
        self.said_to_step();
        self.unproven = Duration::ZERO;
        self.fruitless = Duration::ZERO;
    }

    /// It says that it gets on.
    fn said_to_step(&mut self) {
        self.spoke();
        self.stalled = Duration::ZERO;
        self.still = Duration::ZERO;
    }

    /// It has something to do, or had until now: whatever it computes is for that.
    pub(crate) fn worked(&mut self) {
        self.restless = Duration::ZERO;
    }

    /// It lives. A worker that has nothing to do cannot get on.
    pub(crate) fn heartbeat(&mut self, heartbeat: Heartbeat, is_working: bool) {
        self.spoke();
        if !is_working {
            self.stepped();
        } else if heartbeat.steps != self.last_steps {
            self.said_to_step();
        }
        self.last_steps = heartbeat.steps;
        if self.window >= self.timeouts.standstill.min(self.timeouts.step) / WINDOWS {
            let computed = Duration::from_millis(heartbeat.cpu_ms.saturating_sub(self.window_cpu_ms));
            if computed > self.window.mul_f64(COMPUTING_SHARE) {
                self.still = Duration::ZERO;
                self.unproven = Duration::ZERO;
            }
            if computed < self.window.mul_f64(RESTLESS_SHARE) {
                self.restless = Duration::ZERO;
            }
            self.window_cpu_ms = heartbeat.cpu_ms;
            self.window = Duration::ZERO;
        }
    }

    /// What is wrong, in words that follow "the worker", or nothing.
    pub(crate) fn complaint(&self) -> Option<String> {
        let Timeouts { start, silence, standstill, step, .. } = self.timeouts;
        let rest_silence = self.timeouts.rest_silence();
        let seconds = |limit: Duration| limit.as_secs_f64();
        if !self.has_spoken {
            return (self.silent > start).then(|| format!("did not start within {} s", seconds(start)));
        }
        for (silent, limit) in [(self.silent, silence), (self.silent_at_rest, rest_silence)] {
            if silent > limit {
                return Some(format!("gave no sign of life for {} s", seconds(limit)));
            }
        }
        if self.still > standstill {
            return Some(format!("neither answered nor computed for {} s", seconds(standstill)));
        }
        if self.restless > step {
            return Some(format!("computed for {} s with nothing to do", seconds(step)));
        }
        if self.stalled > step {
            return Some(format!("computed for {} s without an answer", seconds(step)));
        }
        if self.unproven > step {
            return Some(format!("said for {} s that it gets on, and computed nothing", seconds(step)));
        }
        let hearsay = step * HEARSAY;
        (self.fruitless > hearsay)
            .then(|| format!("said for {} s that it gets on, and brought nothing", seconds(hearsay)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn health() -> Health {
        let mut health = Health::new(Timeouts::default());
        health.stepped();
        health
    }

    fn heartbeat(steps: u64, cpu_ms: u64) -> Heartbeat {
        Heartbeat { steps, cpu_ms, ..Heartbeat::default() }
    }

    /// Seconds until something is wrong, at most `limit`, with a heartbeat each second.
    fn lasts(
        mut heartbeat_at: impl FnMut(u64) -> Option<Heartbeat>,
        is_working: bool,
        limit: u64,
    ) -> (u64, String) {
        let mut health = health();
        for second in 1..=limit {
            health.passed(SECOND);
            if let Some(complaint) = health.complaint() {
                return (second, complaint);
            }
            if is_working {
                health.worked();
            }
            if let Some(heartbeat) = heartbeat_at(second) {
                health.heartbeat(heartbeat, is_working);
            }
        }
        (limit, String::new())
    }

    #[test]
    fn silence_is_noticed_after_fifteen_seconds() {
        let (after, complaint) = lasts(|_| None, false, 100);
        assert_eq!(after, 16);
        assert!(complaint.contains("no sign of life"), "{complaint}");
    }

    #[test]
    fn an_idle_worker_may_be_idle_for_ever() {
        assert_eq!(lasts(|_| Some(heartbeat(0, 0)), false, 100_000).0, 100_000);
    }

    #[test]
    fn a_standstill_is_noticed_after_a_minute_although_it_beats() {
        let (after, complaint) = lasts(|_| Some(heartbeat(0, 0)), true, 10_000);
        assert_eq!(after, 61);
        assert!(complaint.contains("neither answered nor computed"), "{complaint}");
    }

    #[test]
    fn a_long_step_that_computes_is_left_in_peace_for_a_quarter_of_an_hour() {
        let (after, complaint) = lasts(|second| Some(heartbeat(0, second * 900)), true, 10_000);
        assert_eq!(after, 901);
        assert!(complaint.contains("without an answer"), "{complaint}");
        let slow = |second| Some(heartbeat(second / 600, second * 900));
        assert_eq!(lasts(slow, true, 3_600).1, "");
    }

    #[test]
    fn steps_that_are_only_said_keep_nobody_alive_for_ever() {
        let (after, complaint) = lasts(|second| Some(heartbeat(second, 0)), true, 10_000);
        assert_eq!(after, 901);
        assert!(complaint.contains("computed nothing"), "{complaint}");
        let (after, complaint) = lasts(|second| Some(heartbeat(second, second * 900)), true, 10_000);
        assert_eq!(after, 3_601);
        assert!(complaint.contains("brought nothing"), "{complaint}");
    }

    #[test]
    fn who_brings_something_now_and_then_may_take_for_ever() {
        let mut health = health();
        for second in 1..100_000 {
            health.passed(SECOND);
            assert_eq!(health.complaint(), None, "after {second} s");
            health.worked();
            health.heartbeat(heartbeat(second / 600, second * 900), true);
            if second % 850 == 0 {
                health.stepped();
            }
        }
    }

    #[test]
    fn what_brings_nothing_is_a_sign_of_life_and_no_step() {
        let mut health = health();
        let after = (1..1000).find(|_| {
            health.passed(SECOND);
            health.spoke();
            health.complaint().is_some()
        });
        assert_eq!(after, Some(61), "it stands still");
    }

    #[test]
    fn who_computes_for_nobody_is_left_in_peace_no_longer_than_who_computes_for_ever() {
        let (after, complaint) = lasts(|second| Some(heartbeat(0, second * 900)), false, 10_000);
        assert_eq!(after, 901);
        assert!(complaint.contains("nothing to do"), "{complaint}");
        // A long step whose client has left, and rest after it.
        let once = |second: u64| Some(heartbeat(0, second.min(800) * 900));
        assert_eq!(lasts(once, false, 10_000).0, 10_000);
        let often = |second: u64| {
            Some(heartbeat(second / 100, (second / 100 * 50 + second.rem_euclid(100).min(50)) * 900))
        };
        assert_eq!(lasts(often, false, 10_000).0, 10_000);
    }

    #[test]
    fn a_pause_of_this_process_blames_nobody() {
        for is_at_rest in [false, true] {
            let mut health = health();
            health.rests(is_at_rest);
            health.passed(Duration::from_secs(3600));
            assert_eq!(health.complaint(), None, "at rest: {is_at_rest}");
        }
    }

    #[test]
    fn a_worker_at_rest_is_looked_at_rarely_until_its_heartbeat_is_late() {
        let mut health = health();
        health.rests(true);
        let beat = Timeouts::default().rest_heartbeat();
        assert_eq!((beat, health.interval()), (10 * SECOND, 20 * SECOND));
        for _ in 0..1_000 {
            health.passed(beat);
            health.heartbeat(heartbeat(0, 0), false);
            assert_eq!((health.complaint(), health.interval()), (None, 20 * SECOND));
        }
        // And then nothing any more.
        let (mut waited, mut looks) = (Duration::ZERO, 0);
        while health.complaint().is_none() {
            looks += 1;
            waited += health.interval();
            health.passed(health.interval());
        }
        assert_eq!((waited, looks), (31 * SECOND, 12));
        assert!(health.complaint().unwrap().contains("no sign of life for 30 s"));
    }

    #[test]
    fn rest_is_no_part_of_the_time_for_work() {
        let noticed = |silent_too: bool| {
            let mut health = health();
            health.rests(true);
            health.passed(9 * SECOND);
            health.rests(false);
            assert_eq!(health.interval(), LOOK_MAX);
            (1..1_000).find(|_| {
                health.passed(SECOND);
                if !silent_too {
                    health.spoke();
                }
                health.complaint().is_some()
            })
        };
        assert_eq!((noticed(true), noticed(false)), (Some(16), Some(61)), "as without rest before it");
    }

    #[test]
    fn a_silent_worker_is_noticed_although_its_callers_leave_and_come_again() {
        for (working, resting) in [(2, 3), (10, 5), (14, 1)] {
            let mut health = health();
            let after = (0..1_000).find(|second| {
                health.rests(second % (working + resting) >= working);
                health.passed(SECOND);
                health.complaint().is_some()
            });
            assert!(
                after.is_some_and(|second| second <= 45),
                "{working} s of work, {resting} s of rest: {after:?}"
            );
        }
    }

    #[test]
    fn who_never_speaks_has_a_minute_to_start() {
        let mut health = Health::new(Timeouts::default());
        let after = (1..1000).find(|_| {
            health.passed(SECOND);
            health.complaint().is_some()
        });
        assert_eq!(after, Some(61));
    }
}
