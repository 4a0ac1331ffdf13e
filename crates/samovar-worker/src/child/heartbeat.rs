//! The sign of life: a thread that never touches the engine but for its published numbers.
//!
//! ```text
//!   work to do, or figures that change ─► a heartbeat every interval
//!   neither ────────────────────────────► one every rest, until something is asked of the worker
//! ```

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use samovar_core::Failure;
use samovar_core::footprint::Measurement;

use super::frame_writer::FrameWriter;
use super::instance_cell::InstanceCell;
use super::{lock, thread};
use crate::protocol::{Heartbeat, Reply};

/// How often to send heartbeats.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    /// Between two of them.
    pub(super) interval: Duration,
    /// The same while there is nothing to do.
    pub(super) rest: Duration,
}

/// The thread's rest, for the thread that ends it.
#[derive(Debug, Default)]
pub(super) struct HeartbeatTimer {
    is_resting: Mutex<bool>,
    stirred: Condvar,
}

impl HeartbeatTimer {
    /// Sends heartbeats until the process ends. `has_work` says whether anything is asked of this worker; whatever is
    /// asked of it later is told by [`stir`](Self::stir).
    pub(super) fn start(
        frame_writer: Arc<FrameWriter>,
        instance_cell: Arc<InstanceCell>,
        pace: Pace,
        has_work: impl Fn() -> bool + Send + 'static,
    ) -> Result<Arc<Self>, Failure> {
        let timer = Arc::<Self>::default();
        let waiting = Arc::clone(&timer);
        thread("heartbeat", move || {
            let mut last = Measurement::default();
            loop {
                let measured = instance_cell.measure();
                let is_changed = measured != last;
                // A chunk of a prefill is a step that no event tells of.
                if is_changed {
                    frame_writer.stepped();
                    last = measured;
                }
                frame_writer.say_measured(|measured| {
                    Reply::Heartbeat(Heartbeat { steps: frame_writer.steps(), cpu_ms: cpu_ms(), measured })
                });
                waiting.wait(pace, || is_changed || measured.busy_slots > 0 || has_work());
            }
        })?;
        Ok(timer)
    }

    /// Something is asked of this worker.
    pub(super) fn stir(&self) {
        if std::mem::take(&mut *lock(&self.is_resting)) {
            self.stirred.notify_one();
        }
    }

    /// Returns when the next heartbeat is due.
    fn wait(&self, Pace { interval, rest }: Pace, is_at_work: impl FnOnce() -> bool) {
        // Said before the look: what is asked later ends the rest.
        *lock(&self.is_resting) = true;
        if !is_at_work() && !self.stirred_within(rest) {
            return;
        }
        *lock(&self.is_resting) = false;
        std::thread::sleep(interval);
    }

    /// Rests for so long, unless something is asked meanwhile: whether it was.
    fn stirred_within(&self, rest: Duration) -> bool {
        let is_resting = lock(&self.is_resting);
        let waited = self.stirred.wait_timeout_while(is_resting, rest, |is_resting| *is_resting);
        !waited.unwrap_or_else(PoisonError::into_inner).1.timed_out()
    }
}

fn cpu_ms() -> u64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec.unsigned_abs() * 1000 + time.tv_nsec.unsigned_abs() / 1_000_000
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::sync_channel;

    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    #[test]
    fn rest_ends_as_soon_as_something_is_asked() {
        let timer = HeartbeatTimer::default();
        let (says, hears) = sync_channel(1);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                timer.wait(Pace { interval: Duration::ZERO, rest: HOUR }, || {
                    says.send(()).expect("the test listens");
                    false
                });
            });
            hears.recv().expect("it looks for work");
            timer.stir();
        });
        assert!(!*lock(&timer.is_resting));
    }

    #[test]
    fn what_has_work_does_not_rest_and_what_has_none_keeps_to_its_rest() {
        let timer = HeartbeatTimer::default();
        timer.wait(Pace { interval: Duration::ZERO, rest: HOUR }, || true);
        timer.wait(Pace { interval: HOUR, rest: Duration::ZERO }, || false);
    }
}
