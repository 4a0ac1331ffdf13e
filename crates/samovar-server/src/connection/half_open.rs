//! Whether a client that sends no more is still there: it may have closed its half of the connection, or left.
//!
//! Both look the same from this end of a TCP connection. On this machine the kernel's table says whether any program
//! still holds the other end; a client of another machine counts as one that has left, as with most servers.

use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;

use tokio::net::{TcpStream, UnixStream};

/// Something whose other end may be half open.
pub(crate) trait HalfOpen {
    /// Whether anybody still holds the other end. `false` where that cannot be told.
    fn is_half_open(&self) -> Pin<Box<dyn Future<Output = bool> + Send>>;
}

impl HalfOpen for TcpStream {
    fn is_half_open(&self) -> Pin<Box<dyn Future<Output = bool> + Send>> {
        let ends = self.local_addr().and_then(|ours| Ok((ours, self.peer_addr()?)));
        Box::pin(async move {
            let Ok((ours, theirs)) = ends else { return false };
            // The table has a line for each connection of the machine.
            tokio::task::spawn_blocking(move || is_held(ours, theirs)).await.unwrap_or(false)
        })
    }
}

impl HalfOpen for UnixStream {
    fn is_half_open(&self) -> Pin<Box<dyn Future<Output = bool> + Send>> {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};
        let mut asked = [PollFd::new(self, PollFlags::empty())];
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        let has_told = poll(&mut asked, Some(&now)).is_ok();
        let is_gone = asked[0].revents().intersects(PollFlags::HUP | PollFlags::ERR);
        Box::pin(std::future::ready(has_told && !is_gone))
    }
}

#[cfg(test)]
impl HalfOpen for tokio::io::DuplexStream {
    fn is_half_open(&self) -> Pin<Box<dyn Future<Output = bool> + Send>> {
        Box::pin(std::future::ready(true))
    }
}

/// Looks for the other end of this connection in the kernel's table.
fn is_held(ours: SocketAddr, theirs: SocketAddr) -> bool {
    ["/proc/net/tcp", "/proc/net/tcp6"].into_iter().any(|path| {
        fs_err::read_to_string(path).is_ok_and(|table| table.lines().any(|line| holds(line, theirs, ours)))
    })
}

/// Whether the line is of a socket from `local` to `remote` that some program has.
fn holds(line: &str, local: SocketAddr, remote: SocketAddr) -> bool {
    let mut fields = line.split_ascii_whitespace().skip(1);
    let is = |field: Option<&str>, address: SocketAddr| {
        field
            .and_then(address_of)
            .is_some_and(|(ip, port)| ip == address.ip().to_canonical() && port == address.port())
    };
    // Local and remote address, state, queues, timer, retransmits, user, timeout, inode.
    is(fields.next(), local) && is(fields.next(), remote) && fields.nth(6).is_some_and(|inode| inode != "0")
}

/// `0100007F:1C85`: each 32 bits of the address in the machine's own order.
fn address_of(field: &str) -> Option<(IpAddr, u16)> {
    let (address, port) = field.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let word = |at: usize| {
        let word = u32::from_str_radix(address.get(at * 8..at * 8 + 8)?, 16).ok()?;
        Some(word.to_ne_bytes())
    };
    match address.len() {
        8 => Some((IpAddr::from(word(0)?), port)),
        32 => {
            let mut bytes = [0; 16];
            for (at, place) in bytes.chunks_exact_mut(4).enumerate() {
                place.copy_from_slice(&word(at)?);
            }
            Some((IpAddr::from(bytes).to_canonical(), port))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, UnixStream};

    use super::*;

    #[test]
    #[cfg(target_endian = "little")]
    fn lines_of_the_table_are_read() {
        let line = "   7: 0100007F:B2A4 0100007F:1C85 05 00000000:00000000 00:00000000 00000000  1000 0 82146 1 0 20";
        let end = |port: u16| SocketAddr::from(([127, 0, 0, 1], port));
        assert!(holds(line, end(0xB2A4), end(0x1C85)));
        assert!(!holds(line, end(0x1C85), end(0xB2A4)));
        let orphan = line.replace(" 82146 ", " 0 ");
        assert!(!holds(&orphan, end(0xB2A4), end(0x1C85)));
        let mapped = address_of("0000000000000000FFFF00000100007F:1C85");
        assert_eq!(mapped, Some((end(0).ip(), 0x1C85)));
        for junk in ["", "sl", ":", "0100007F", "0100007F:xyz", "é100007F:0001", "01:01"] {
            assert_eq!(address_of(junk), None, "{junk}");
        }
    }

    #[tokio::test]
    #[cfg(target_os = "linux")]
    async fn a_client_that_shuts_its_half_is_told_from_one_that_leaves() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
        let address = listener.local_addr().expect("has an address");
        for leaves in [false, true] {
            let mut client = TcpStream::connect(address).await.expect("connects");
            let (mut ours, _) = listener.accept().await.expect("accepts");
            let kept = if leaves {
                drop(client);
                None
            } else {
                client.shutdown().await.expect("shuts");
                Some(client)
            };
            assert_eq!(ours.read(&mut [0]).await.expect("reads"), 0);
            assert_eq!(ours.is_half_open().await, !leaves);
            drop(kept);
        }
    }

    #[tokio::test]
    async fn the_same_on_the_owners_socket() {
        for leaves in [false, true] {
            let (mut ours, mut client) = UnixStream::pair().expect("pairs");
            let kept = if leaves {
                drop(client);
                None
            } else {
                client.shutdown().await.expect("shuts");
                Some(client)
            };
            assert_eq!(ours.read(&mut [0]).await.expect("reads"), 0);
            assert_eq!(ours.is_half_open().await, !leaves);
            drop(kept);
        }
    }
}
