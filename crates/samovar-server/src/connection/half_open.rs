//! Whether a client that sends no more is still there: it may have closed its half of the connection, or left.
//!
//! Both look the same from this end of a TCP connection. On this machine the kernel's table says whether any program
//! still holds the other end; a client of another machine counts as one that has left, as with most servers.
//!
//! The table has a line for each connection of the machine. All that ask at about the same time share one reading of it,
//! and there are at most ten in a second.

use std::collections::HashSet;
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::net::{TcpStream, UnixStream};
use tokio::sync::Mutex;
use tokio::time::Instant;

/// Between the beginnings of two readings of the table.
const READ_EVERY: Duration = Duration::from_millis(100);

/// Something whose other end may be half open.
pub(crate) trait HalfOpen {
    /// Whether a process still holds the other end. `false` where that cannot be told.
    fn is_half_open(&self) -> Pin<Box<dyn Future<Output = bool> + Send>>;
}

impl HalfOpen for TcpStream {
    fn is_half_open(&self) -> Pin<Box<dyn Future<Output = bool> + Send>> {
        static TABLE: Table = Table::new();
        let ends = self.local_addr().and_then(|ours| Ok((ours, self.peer_addr()?)));
        Box::pin(async move {
            let Ok((ours, theirs)) = ends else { return false };
            is_of_this_machine(ours, theirs)
                && TABLE.read(held_ends).await.contains(&Ends::from((theirs, ours)))
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

/// Whether the other end may be in the table of this machine.
fn is_of_this_machine(ours: SocketAddr, theirs: SocketAddr) -> bool {
    let (ours, theirs) = (ours.ip().to_canonical(), theirs.ip().to_canonical());
    theirs.is_loopback() || theirs == ours
}

/// A connection as one of its ends sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Ends {
    local: (IpAddr, u16),
    remote: (IpAddr, u16),
}

impl From<(SocketAddr, SocketAddr)> for Ends {
    fn from((local, remote): (SocketAddr, SocketAddr)) -> Self {
        let of = |address: SocketAddr| (address.ip().to_canonical(), address.port());
        Self { local: of(local), remote: of(remote) }
    }
}

/// The readings of the table.
struct Table {
    /// How many have begun.
    begun: AtomicU64,
    last: Mutex<Option<Reading>>,
}

/// What was read of the table.
struct Reading {
    number: u64,
    began: Instant,
    held: Arc<HashSet<Ends>>,
}

impl Table {
    const fn new() -> Self {
        Self { begun: AtomicU64::new(0), last: Mutex::const_new(None) }
    }

    /// A reading that began after this was called: an older one may not know the connection that is asked about.
    async fn read(&self, read: fn() -> HashSet<Ends>) -> Arc<HashSet<Ends>> {
        let begun_before = self.begun.load(Ordering::SeqCst);
        let mut last = self.last.lock().await;
        if let Some(reading) = &*last {
            if reading.number > begun_before {
                return Arc::clone(&reading.held);
            }
            tokio::time::sleep_until(reading.began + READ_EVERY).await;
        }
        let number = self.begun.fetch_add(1, Ordering::SeqCst) + 1;
        let began = Instant::now();
        // A reading that fails says that the other end is closed.
        let held = Arc::new(tokio::task::spawn_blocking(read).await.unwrap_or_default());
        *last = Some(Reading { number, began, held: Arc::clone(&held) });
        held
    }
}

/// Every connection of the kernel's table whose local end some program has.
fn held_ends() -> HashSet<Ends> {
    let tables =
        ["/proc/net/tcp", "/proc/net/tcp6"].map(|path| fs_err::read_to_string(path).unwrap_or_default());
    tables.iter().flat_map(|table| table.lines()).filter_map(held).collect()
}

/// The connection of a line, if some program has its local end.
fn held(line: &str) -> Option<Ends> {
    // Number, local and remote address, state, queues, timer, retransmits, user, timeout, inode.
    let mut fields = line.split_ascii_whitespace().skip(1);
    let ends = Ends { local: address_of(fields.next()?)?, remote: address_of(fields.next()?)? };
    (fields.nth(6)? != "0").then_some(ends)
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
    use std::sync::atomic::AtomicUsize;

    use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    #[test]
    #[cfg(target_endian = "little")]
    fn lines_of_the_table_are_read() {
        let line = "   7: 0100007F:B2A4 0100007F:1C85 05 00000000:00000000 00:00000000 00000000  1000 0 82146 1 0 20";
        let end = |port: u16| SocketAddr::from(([127, 0, 0, 1], port));
        assert_eq!(held(line), Some(Ends::from((end(0xB2A4), end(0x1C85)))));
        let orphan = line.replace(" 82146 ", " 0 ");
        assert_eq!(held(&orphan), None);
        let mapped = address_of("0000000000000000FFFF00000100007F:1C85");
        assert_eq!(mapped, Some((end(0).ip(), 0x1C85)));
        for junk in ["", "sl", ":", "0100007F", "0100007F:xyz", "é100007F:0001", "01:01"] {
            assert_eq!(address_of(junk), None, "{junk}");
        }
    }

    #[test]
    fn only_clients_of_this_machine_are_looked_for() {
        let of = |text: &str| text.parse::<SocketAddr>().expect("an address");
        for (ours, theirs, is_here) in [
            ("127.0.0.1:80", "127.0.0.1:5000", true),
            ("[::1]:80", "[::1]:5000", true),
            ("[::ffff:127.0.0.1]:80", "127.0.0.1:5000", true),
            ("192.168.0.2:80", "192.168.0.2:5000", true),
            ("192.168.0.2:80", "192.168.0.3:5000", false),
        ] {
            assert_eq!(is_of_this_machine(of(ours), of(theirs)), is_here, "{ours} {theirs}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn those_that_ask_at_the_same_time_share_a_reading() {
        static READINGS: AtomicUsize = AtomicUsize::new(0);
        fn read() -> HashSet<Ends> {
            READINGS.fetch_add(1, Ordering::Relaxed);
            HashSet::new()
        }
        let table = Table::new();
        table.read(read).await;
        assert_eq!(READINGS.load(Ordering::Relaxed), 1);
        // The second begins after all of them have asked.
        futures_util::future::join_all((0..50).map(|_| table.read(read))).await;
        assert_eq!(READINGS.load(Ordering::Relaxed), 2);
        // Who asks now may ask about a connection that none of them knew.
        table.read(read).await;
        assert_eq!(READINGS.load(Ordering::Relaxed), 3);
    }

    /// Shuts a client's half of a connection, or leaves it altogether, and asks the other end.
    async fn is_told_apart<S: HalfOpen + AsyncRead + AsyncWrite + Unpin>(
        mut ours: S,
        mut client: S,
        leaves: bool,
    ) {
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

    #[tokio::test]
    #[cfg(target_os = "linux")]
    async fn a_client_that_shuts_its_half_is_told_from_one_that_leaves() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
        let address = listener.local_addr().expect("has an address");
        for leaves in [false, true] {
            let client = TcpStream::connect(address).await.expect("connects");
            let (ours, _) = listener.accept().await.expect("accepts");
            is_told_apart(ours, client, leaves).await;
        }
    }

    #[tokio::test]
    async fn the_same_on_the_owners_socket() {
        for leaves in [false, true] {
            let (ours, client) = UnixStream::pair().expect("pairs");
            is_told_apart(ours, client, leaves).await;
        }
    }
}
