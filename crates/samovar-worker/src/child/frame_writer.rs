//! What this worker says, from whatever thread, one whole frame after the other.

use std::borrow::Borrow;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use rustix::net::SendFlags;
use samovar_core::footprint::Measurement;

use super::instance_cell::InstanceCell;
use super::{lock, vanish};
use crate::protocol::{self, Hello, Reply};

/// The socket's outgoing side, and the count of what was done.
pub(super) struct FrameWriter {
    socket: Mutex<OwnedFd>,
    instance_cell: Arc<InstanceCell>,
    steps: AtomicU64,
}

impl FrameWriter {
    pub(super) fn new(socket: OwnedFd, instance_cell: Arc<InstanceCell>) -> Self {
        Self { socket: Mutex::new(socket), instance_cell, steps: AtomicU64::new(0) }
    }

    pub(super) fn greet(&self, hello: &Hello) {
        send(&lock(&self.socket), &hello.encode());
    }

    /// Says it, and waits until the parent has room for it. A worker that cannot be heard any more ends.
    pub(super) fn say(&self, reply: &Reply) {
        self.say_measured(|_| reply);
    }

    /// Says it with what the model uses at this moment: what is said later is also measured later.
    pub(super) fn say_measured<R: Borrow<Reply>>(&self, reply: impl FnOnce(Measurement) -> R) {
        let socket = lock(&self.socket);
        match protocol::encode(reply(self.instance_cell.measure()).borrow()) {
            Ok(frame) => send(&socket, &frame),
            // Nothing of ours comes near the limit; an engine whose answer does is out of its mind.
            Err(error) => panic!("an answer cannot be sent: {error}"),
        }
    }

    /// Something was done.
    pub(super) fn stepped(&self) {
        self.steps.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn steps(&self) -> u64 {
        self.steps.load(Ordering::Relaxed)
    }
}

fn send(socket: &OwnedFd, mut frame: &[u8]) {
    while !frame.is_empty() {
        match protocol::send_now(socket, frame, &[], SendFlags::empty()) {
            Ok(sent) => frame = &frame[sent..],
            Err(_) => vanish(),
        }
    }
}
