//! The sign of life: a thread that never touches the engine but for its published numbers.

use std::sync::Arc;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use samovar_core::Failure;
use samovar_core::footprint::Measurement;

use super::frame_writer::FrameWriter;
use super::instance_cell::InstanceCell;
use super::thread;
use crate::protocol::{Heartbeat, Reply};

/// Sends a heartbeat every `interval`, until the process ends.
pub(super) fn start(
    frame_writer: Arc<FrameWriter>,
    instance_cell: Arc<InstanceCell>,
    interval: Duration,
) -> Result<(), Failure> {
    thread("pulse", move || {
        let mut last = Measurement::default();
        loop {
            let measured = instance_cell.measure();
            // A chunk of a prefill is a step that no event tells of.
            if measured != last {
                frame_writer.stepped();
                last = measured;
            }
            frame_writer.say_measured(|measured| {
                Reply::Heartbeat(Heartbeat { steps: frame_writer.steps(), cpu_ms: cpu_ms(), measured })
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
