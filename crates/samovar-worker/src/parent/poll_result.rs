//! What a supervisor waits for, and what it found.

use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// What a wait found.
#[derive(Debug)]
#[allow(clippy::struct_excessive_bools, reason = "independent signs, each from a descriptor of its own")]
pub(super) struct PollResult {
    /// The socket has something to say, or has closed.
    pub(super) words: bool,
    /// The socket takes what waits for it.
    pub(super) room: bool,
    /// Something on the standard error.
    pub(super) stderr: bool,
    /// The process has ended.
    pub(super) end: bool,
}

impl PollResult {
    /// Sleeps until one comes, it is woken or `limit` has passed. The socket comes with whether room in it is
    /// waited for.
    pub(super) fn wait(
        wakeup: &OwnedFd,
        socket: Option<(&OwnedFd, bool)>,
        stderr: Option<&impl AsFd>,
        end: Option<&OwnedFd>,
        limit: Duration,
    ) -> Self {
        let mut fds = vec![PollFd::new(wakeup, PollFlags::IN)];
        let mut add = |fd, flags| {
            fds.push(PollFd::from_borrowed_fd(fd, flags));
            fds.len() - 1
        };
        let socket_at = socket.map(|(socket, wants_room)| {
            let room = if wants_room { PollFlags::OUT } else { PollFlags::empty() };
            add(socket.as_fd(), PollFlags::IN | room)
        });
        let stderr_at = stderr.map(|stderr| add(stderr.as_fd(), PollFlags::IN));
        let end_at = end.map(|end| add(end.as_fd(), PollFlags::IN));
        let limit = Timespec::try_from(limit).ok();
        poll(&mut fds, limit.as_ref()).ok();
        if !fds[0].revents().is_empty() {
            rustix::io::read(wakeup, &mut [0; 8]).ok();
        }
        let poll_result = |at: Option<usize>| at.map_or(PollFlags::empty(), |at| fds[at].revents());
        Self {
            words: poll_result(socket_at).intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR),
            room: poll_result(socket_at).contains(PollFlags::OUT),
            stderr: !poll_result(stderr_at).is_empty(),
            end: !poll_result(end_at).is_empty(),
        }
    }
}
