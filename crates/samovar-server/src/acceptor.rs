//! A listener as a source of connections: each with its client, and the first byte that it sends. Nothing is served here.

use std::future::Future;
use std::io;
use std::time::Duration;

use rustix::net::{RecvFlags, recv, sockopt};
use tokio::io::{AsyncRead, AsyncWrite, Interest};
use tokio::net::{TcpListener, TcpStream, UnixStream};

use crate::client::Peer;
use crate::connection::HalfOpen;
use crate::socket::OwnerSocket;

/// Silence after which the kernel asks whether a client's machine is still there.
const KEEP_ALIVE_IDLE: Duration = Duration::from_secs(30);

/// A listener: a source of connections.
pub(crate) trait Acceptor: Send + Sync + 'static {
    type Stream: AsyncRead + AsyncWrite + HalfOpen + Unpin + Send + Sync + 'static;

    fn next(&self) -> impl Future<Output = io::Result<(Self::Stream, Peer)>> + Send;

    /// The first byte that a client sends, which stays to be read; `None` at once where all speak HTTP, and at the end.
    fn first_byte(stream: &Self::Stream) -> impl Future<Output = Option<u8>> + Send;
}

impl Acceptor for TcpListener {
    type Stream = TcpStream;

    async fn next(&self) -> io::Result<(TcpStream, Peer)> {
        let (stream, address) = self.accept().await?;
        // Each token is a small write that a client waits for.
        stream.set_nodelay(true)?;
        // A machine that vanished says no goodbye; its request must not hold a slot for ever.
        sockopt::set_socket_keepalive(&stream, true)?;
        sockopt::set_tcp_keepidle(&stream, KEEP_ALIVE_IDLE)?;
        Ok((stream, Peer::of_address(address.ip())))
    }

    async fn first_byte(_: &TcpStream) -> Option<u8> {
        None
    }
}

impl Acceptor for OwnerSocket {
    type Stream = UnixStream;

    async fn next(&self) -> io::Result<(UnixStream, Peer)> {
        let (stream, uid) = self.accept().await?;
        Ok((stream, Peer::of_user(uid)))
    }

    async fn first_byte(stream: &UnixStream) -> Option<u8> {
        let mut byte = [0_u8];
        loop {
            stream.readable().await.ok()?;
            let peeked = stream.try_io(Interest::READABLE, || {
                let (_, count) = recv(stream, &mut byte, RecvFlags::PEEK)?;
                Ok(count)
            });
            match peeked {
                Ok(count) => return (count > 0).then_some(byte[0]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return None,
            }
        }
    }
}
