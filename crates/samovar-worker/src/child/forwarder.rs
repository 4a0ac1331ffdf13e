//! Carries every request's events to the parent: as soon as there is one, and all that there are.
//!
//! One thread looks after all requests. It sleeps until an event comes, takes whatever has come by then, of however
//! many requests, and sends that as one frame: with one request each token goes out at once, with many the frames fill
//! by themselves.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{JoinHandle, Thread};
use std::time::{Duration, Instant};

use samovar_core::footprint::Measurement;
use samovar_core::generation::{Generation, TokenEvent};
use samovar_core::{ErrorKind, Failure};

use super::frame_writer::FrameWriter;
use super::instance_cell::InstanceCell;
use super::{lock, thread};
use crate::protocol::{Event, FRAME_BYTES, FRAME_EVENTS, Reply};

/// How long after a cancelled request the instance is watched until its slot is free; heartbeats tell later.
const SETTLING: Duration = Duration::from_secs(5);
const LOOK: Duration = Duration::from_millis(5);

/// Looks after all requests.
pub(super) struct EventForwarder {
    requests: Mutex<BTreeMap<u64, Request>>,
    is_cancelling: AtomicBool,
    is_ending: AtomicBool,
    waker: OnceLock<Thread>,
}

/// A request, from its arrival to its last event.
enum Request {
    /// On its way to the engine.
    Accepted,
    /// Answered.
    Running(Generation),
    /// It cannot be answered.
    Failed(Failure),
}

/// Wakes the forwarder's thread.
struct ThreadWaker(Thread);

impl Wake for ThreadWaker {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.unpark();
    }
}

impl EventForwarder {
    /// The forwarder, and its thread for [`end`](Self::end).
    pub(super) fn start(
        frame_writer: Arc<FrameWriter>,
        instance_cell: Arc<InstanceCell>,
    ) -> Result<(Arc<Self>, JoinHandle<()>), Failure> {
        let forwarder = Arc::new(Self {
            requests: Mutex::default(),
            is_cancelling: AtomicBool::new(false),
            is_ending: AtomicBool::new(false),
            waker: OnceLock::new(),
        });
        let worker = Arc::clone(&forwarder);
        let handle = thread("forwarder", move || worker.run(&frame_writer, &instance_cell))?;
        forwarder.waker.set(handle.thread().clone()).ok();
        Ok((forwarder, handle))
    }

    /// From now on this request can be cancelled.
    pub(super) fn accept(&self, id: u64) {
        lock(&self.requests).insert(id, Request::Accepted);
    }

    /// Whether any request is waited for.
    pub(super) fn has_requests(&self) -> bool {
        !lock(&self.requests).is_empty()
    }

    /// Whether the caller still waits for this request.
    pub(super) fn is_wanted(&self, id: u64) -> bool {
        lock(&self.requests).contains_key(&id)
    }

    /// The engine answers; a request that was cancelled meanwhile is dropped here.
    pub(super) fn run_request(&self, id: u64, generation: Generation) {
        self.replace(id, Request::Running(generation));
    }

    /// It cannot be answered.
    pub(super) fn fail(&self, id: u64, failure: Failure) {
        self.replace(id, Request::Failed(failure));
    }

    fn replace(&self, id: u64, with: Request) {
        if let Some(request) = lock(&self.requests).get_mut(&id) {
            *request = with;
        }
        self.wake();
    }

    /// No caller waits for it any more.
    pub(super) fn cancel(&self, id: u64) {
        let request = lock(&self.requests).remove(&id);
        if request.is_some() {
            drop(request);
            self.is_cancelling.store(true, Ordering::Release);
            self.wake();
        }
    }

    /// An operation that could be cancelled has been answered.
    pub(super) fn forget(&self, id: u64) {
        lock(&self.requests).remove(&id);
    }

    /// Drops every request and waits for the thread.
    pub(super) fn end(&self, thread: JoinHandle<()>) {
        self.is_ending.store(true, Ordering::Release);
        lock(&self.requests).clear();
        self.wake();
        // A panic there has ended the process.
        thread.join().ok();
    }

    fn wake(&self) {
        if let Some(thread) = self.waker.get() {
            thread.unpark();
        }
    }

    fn run(&self, frame_writer: &FrameWriter, instance_cell: &InstanceCell) {
        let waker = Waker::from(Arc::new(ThreadWaker(std::thread::current())));
        let mut context = Context::from_waker(&waker);
        let mut said = Measurement::default();
        let mut settling_until = None;
        while !self.is_ending.load(Ordering::Acquire) {
            let events = self.collect(&mut context);
            let measured = instance_cell.measure();
            let is_new = measured != said;
            let is_quiet = events.is_empty();
            if self.is_cancelling.swap(false, Ordering::AcqRel) {
                settling_until = Some(Instant::now() + SETTLING);
            }
            if !is_quiet || (is_new && settling_until.is_some()) {
                said = measured;
                frame_writer.stepped();
                frame_writer.say_measured(|measured| Reply::Events { events, measured });
            }
            if measured.busy_slots as usize <= self.running()
                || settling_until.is_some_and(|until| Instant::now() > until)
            {
                settling_until = None;
            }
            match settling_until {
                _ if !is_quiet => {}
                Some(_) => std::thread::park_timeout(LOOK),
                None => std::thread::park(),
            }
        }
    }

    fn running(&self) -> usize {
        lock(&self.requests).len()
    }

    /// Takes what has come, as far as it goes into one frame, and leaves word to be woken for what comes later.
    fn collect(&self, context: &mut Context<'_>) -> Vec<(u64, Event)> {
        let (mut events, mut bytes) = (Vec::new(), 0);
        let mut requests = lock(&self.requests);
        requests.retain(|id, request| {
            while events.len() < FRAME_EVENTS && bytes < FRAME_BYTES {
                let Some(event) = request.poll(context) else { return true };
                bytes += event.bytes();
                let is_last = event.is_last();
                events.push((*id, event));
                if is_last {
                    return false;
                }
            }
            true
        });
        events
    }
}

impl Request {
    /// Its next event, if it has one.
    fn poll(&mut self, context: &mut Context<'_>) -> Option<Event> {
        match self {
            Self::Accepted => None,
            Self::Failed(failure) => Some(Event::Failed(failure.clone().into())),
            Self::Running(generation) => match pin!(generation.next()).poll(context) {
                Poll::Pending => None,
                Poll::Ready(Some(event)) => Some(event.into()),
                Poll::Ready(None) => Some(TokenEvent::Failed(speechless()).into()),
            },
        }
    }
}

fn speechless() -> Failure {
    Failure::new(ErrorKind::EngineFailed, "the engine broke the answer off without a word")
}

#[cfg(test)]
mod tests {
    use samovar_core::embedding::Embedded;

    use super::*;

    #[test]
    fn a_frame_takes_vectors_until_it_has_its_bytes_and_at_least_one() {
        let forwarder = EventForwarder {
            requests: Mutex::default(),
            is_cancelling: AtomicBool::new(false),
            is_ending: AtomicBool::new(false),
            waker: OnceLock::new(),
        };
        let sizes = [2 * FRAME_BYTES, FRAME_BYTES / 2, FRAME_BYTES / 2, size_of::<f32>()];
        let (events, generation) = Generation::channel_for_inputs(sizes.len());
        for (index, bytes) in sizes.into_iter().enumerate() {
            let values = vec![0.0; bytes / size_of::<f32>()];
            let embedded = Embedded { index: index as u32, tokens: 1, was_cut: false, values };
            events.try_send(TokenEvent::Embedded(embedded)).unwrap();
        }
        forwarder.accept(1);
        forwarder.run_request(1, generation);
        let mut context = Context::from_waker(Waker::noop());
        let frames: Vec<usize> = (0..4).map(|_| forwarder.collect(&mut context).len()).collect();
        assert_eq!(frames, [1, 2, 1, 0]);
    }
}
