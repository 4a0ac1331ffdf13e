//! What is on its way to a worker: sent at once when the socket takes it, kept for the supervisor when it does not.

use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex};

use rustix::net::SendFlags;
use samovar_core::{ErrorKind, Failure};

use super::lock;
use crate::protocol;

/// Bytes that may wait for a worker that does not listen.
const MAX_WAITING_BYTES: usize = 128 << 20;

/// The outgoing side of a worker's socket. Callers never wait.
#[derive(Debug)]
pub(super) struct Outbox {
    socket: Arc<OwnedFd>,
    queue: Mutex<Queue>,
}

#[derive(Debug, Default)]
struct Queue {
    parcels: VecDeque<Parcel>,
    bytes: usize,
}

#[derive(Debug)]
struct Parcel {
    frame: Vec<u8>,
    sent: usize,
    /// Go with the first byte.
    descriptors: Vec<OwnedFd>,
}

impl Outbox {
    pub(super) fn new(socket: Arc<OwnedFd>) -> Self {
        Self { socket, queue: Mutex::default() }
    }

    /// Sends a frame, or keeps it. Says whether something waits now.
    pub(super) fn send(&self, frame: Vec<u8>, descriptors: Vec<OwnedFd>) -> Result<bool, Failure> {
        let mut queue = lock(&self.queue);
        if queue.bytes.saturating_add(frame.len()) > MAX_WAITING_BYTES {
            return Err(Failure::new(ErrorKind::Busy, "the worker accepts no more requests at the moment")
                .with_hint("its queue is full: try again in a moment, or with shorter prompts"));
        }
        queue.bytes += frame.len();
        queue.parcels.push_back(Parcel { frame, sent: 0, descriptors });
        // A socket that is broken is the supervisor's business: it sees its end.
        Ok(queue.flush(&self.socket).unwrap_or(false))
    }

    /// Sends what waits, as far as the socket takes it. Says whether something still waits.
    pub(super) fn flush(&self) -> io::Result<bool> {
        lock(&self.queue).flush(&self.socket)
    }

    /// Whether something waits.
    pub(super) fn is_waiting(&self) -> bool {
        !lock(&self.queue).parcels.is_empty()
    }
}

impl Queue {
    fn flush(&mut self, socket: &OwnedFd) -> io::Result<bool> {
        while let Some(parcel) = self.parcels.front_mut() {
            let rest = &parcel.frame[parcel.sent..];
            match protocol::send_now(socket, rest, &parcel.descriptors, SendFlags::DONTWAIT) {
                Ok(sent) => {
                    parcel.sent += sent;
                    self.bytes -= sent;
                    parcel.descriptors.clear();
                    if parcel.sent == parcel.frame.len() {
                        self.parcels.pop_front();
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(true),
                Err(error) => return Err(error),
            }
        }
        Ok(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_that_does_not_listen_blocks_nobody_and_gets_everything_later() {
        let (ours, theirs) = protocol::pair().unwrap();
        let outbox = Outbox::new(Arc::new(ours));
        let frames = 64_usize;
        for number in 0..frames {
            outbox.send(vec![number as u8; 100_000], Vec::new()).unwrap();
        }
        assert!(outbox.is_waiting());
        let mut heard = Vec::new();
        while heard.len() < frames * 100_000 {
            let mut buffer = vec![0; 1 << 20];
            let received = protocol::receive(&theirs, &mut buffer).unwrap();
            heard.extend_from_slice(&buffer[..received.bytes]);
            outbox.flush().unwrap();
        }
        assert!(!outbox.is_waiting());
        assert!(
            heard.chunks(100_000).enumerate().all(|(number, chunk)| chunk == vec![number as u8; 100_000])
        );
    }

    #[test]
    fn what_may_wait_is_bounded() {
        let (ours, _theirs) = protocol::pair().unwrap();
        let outbox = Outbox::new(Arc::new(ours));
        let refused = (0..16).find_map(|_| outbox.send(vec![0; 16 << 20], Vec::new()).err()).unwrap();
        assert_eq!(refused.kind, ErrorKind::Busy);
    }
}
