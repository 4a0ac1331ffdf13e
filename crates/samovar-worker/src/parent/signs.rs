//! What a keeper waits for, and what it found.

use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// What a wait found.
#[derive(Debug)]
#[allow(clippy::struct_excessive_bools, reason = "independent signs, each from a descriptor of its own")]
pub(super) struct Signs {
    /// The socket has something to say, or has closed.
    pub(super) words: bool,
    /// The socket takes what waits for it.
    pub(super) room: bool,
    /// Something on the standard error.
    pub(super) stderr: bool,
    /// The process has ended.
    pub(super) end: bool,
}

impl Signs {
    /// Sleeps until one comes, the bell rings or `limit` has passed. The socket comes with whether room in it is
    /// waited for.
    pub(super) fn wait(
        bell: &OwnedFd,
        socket: Option<(&OwnedFd, bool)>,
        stderr: Option<&impl AsFd>,
        end: Option<&OwnedFd>,
        limit: Duration,
    ) -> Self {
        let mut fds = vec![PollFd::new(bell, PollFlags::IN)];
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
            rustix::io::read(bell, &mut [0; 8]).ok();
        }
        let signs = |at: Option<usize>| at.map_or(PollFlags::empty(), |at| fds[at].revents());
        Self {
            words: signs(socket_at).intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR),
            room: signs(socket_at).contains(PollFlags::OUT),
            stderr: !signs(stderr_at).is_empty(),
            end: !signs(end_at).is_empty(),
        }
    }
}
