//! The sign of life: a thread that never touches the engine but for its published numbers.

use std::sync::Arc;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use samovar_core::Failure;
use samovar_core::footprint::Measurement;

use super::mouth::Mouth;
use super::seat::Seat;
use super::thread;
use crate::protocol::{Beat, Reply};

/// Beats every `interval`, until the process ends.
pub(super) fn start(mouth: Arc<Mouth>, seat: Arc<Seat>, interval: Duration) -> Result<(), Failure> {
    thread("pulse", move || {
        let mut last = Measurement::default();
        loop {
            let measured = seat.measure();
            // A chunk of a prefill is a step that no event tells of.
            if measured != last {
                mouth.stepped();
                last = measured;
            }
            mouth.say_measured(|measured| {
                Reply::Beat(Beat { steps: mouth.steps(), cpu_ms: cpu_ms(), measured })
            });
            std::thread::sleep(interval);
        }
    })
    .map(drop)
}

fn cpu_ms() -> u64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec.unsigned_abs() * 1000 + time.tv_nsec.unsigned_abs() / 1_000_000
}
