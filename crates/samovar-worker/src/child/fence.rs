//! What a chat template may use of this process: memory, counted by the allocator, and processor time, looked at by a
//! thread. A template that takes more costs its model's worker: its own request hears why, then the process ends.
//!
//! The template engine has bounds of its own, which end a template with an ordinary error. These stand behind them and
//! know nothing of templates.

use std::collections::HashMap;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use samovar_core::{ErrorKind, Failure};

use super::cpu_clock::CpuClock;
use super::frame_writer::FrameWriter;
use super::{lock, thread};
use crate::protocol::{Event, Reply};
use crate::ration;

/// Memory that a template and its values may hold: several times the largest conversation that a client can send.
const MEMORY_LIMIT_BYTES: i64 = 256 << 20;
/// Processor time of one rendering; published templates take a thousandth of it.
const CPU_LIMIT: Duration = Duration::from_secs(2);
/// By the clock on the wall, where the processor's is not to be had: much more, since others may have the processor.
const WALL_LIMIT: Duration = Duration::from_secs(20);
/// Between two looks at the clocks.
const LOOK: Duration = Duration::from_millis(50);

/// Who waits for a prompt.
#[derive(Clone, Copy, Debug)]
pub(super) enum Waiting {
    /// A request, for its answer.
    Request(u64),
    /// An operation, for the tokens.
    Operation(u64),
}

/// Watches all confined work of this process.
pub(super) struct Fence {
    frame_writer: Arc<FrameWriter>,
    confined: Mutex<Confined>,
    begun: Condvar,
}

#[derive(Default)]
struct Confined {
    next_id: u64,
    running: HashMap<u64, Running>,
}

struct Running {
    waiting: Waiting,
    clock: CpuClock,
    began_cpu: Option<Duration>,
    began: Instant,
}

impl Running {
    fn is_over(&self) -> bool {
        match (self.began_cpu, self.clock.now()) {
            (Some(began), Some(now)) => now.saturating_sub(began) > CPU_LIMIT,
            _ => self.began.elapsed() > WALL_LIMIT,
        }
    }
}

impl Fence {
    /// The fence, whose watch lives as long as this process.
    pub(super) fn start(frame_writer: Arc<FrameWriter>) -> Result<Arc<Self>, Failure> {
        let fence = Arc::new(Self { frame_writer, confined: Mutex::default(), begun: Condvar::new() });
        let watched = Arc::clone(&fence);
        thread("fence", move || watched.watch())?;
        let fenced = Arc::clone(&fence);
        ration::on_exceeded(move |id| {
            let mib = MEMORY_LIMIT_BYTES >> 20;
            fenced.end(id, &format!("the model's chat template used more than {mib} MiB of memory"));
        });
        Ok(fence)
    }

    /// Does a stranger's work for the caller that waits.
    pub(super) fn confine(&self, waiting: Waiting, work: &mut dyn FnMut()) {
        let clock = CpuClock::of_this_thread();
        let id = {
            let mut confined = lock(&self.confined);
            confined.next_id += 1;
            let id = confined.next_id;
            let running = Running { waiting, clock, began_cpu: clock.now(), began: Instant::now() };
            confined.running.insert(id, running);
            id
        };
        self.begun.notify_one();
        ration::within(MEMORY_LIMIT_BYTES, id, work);
        lock(&self.confined).running.remove(&id);
    }

    fn watch(&self) {
        let mut confined = lock(&self.confined);
        loop {
            confined = if confined.running.is_empty() {
                self.begun.wait(confined).unwrap_or_else(PoisonError::into_inner)
            } else {
                self.begun.wait_timeout(confined, LOOK).unwrap_or_else(PoisonError::into_inner).0
            };
            let over = confined.running.iter().find(|(_, running)| running.is_over()).map(|(id, _)| *id);
            if let Some(id) = over {
                drop(confined);
                let seconds = CPU_LIMIT.as_secs();
                self.end(
                    id,
                    &format!("the model's chat template took more than {seconds} seconds of processor time"),
                );
            }
        }
    }

    /// Tells the caller that waits for the work, and ends this process.
    fn end(&self, id: u64, why: &str) -> ! {
        let waiting = lock(&self.confined).running.get(&id).map(|running| running.waiting);
        let failure = Failure::new(ErrorKind::InvalidModel, why)
            .with_hint("use a file with another template, or send plain text to /v1/completions");
        match waiting {
            Some(Waiting::Request(id)) => self.frame_writer.say_measured(|measured| Reply::Events {
                events: vec![(id, Event::Failed(failure.into()))],
                measured,
            }),
            Some(Waiting::Operation(id)) => {
                self.frame_writer.say_measured(|measured| Reply::Answer {
                    id,
                    answer: Err(failure.into()),
                    measured,
                });
            }
            None => {}
        }
        rustix::io::write(rustix::stdio::stderr(), format!("{why}\n").as_bytes()).ok();
        std::process::abort();
    }
}
