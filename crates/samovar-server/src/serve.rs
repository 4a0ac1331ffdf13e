//! Opens the listeners, serves their connections, and closes them in order.
//!
//! ```text
//!   bind ─► accept ─► connection ─► routes          one task per listener, one per connection
//!             │
//!   shutdown ─┴─► listeners close ─► running requests end, or are cut after the drain ─► models unload
//! ```

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::http::HeaderName;
use rustix::net::sockopt;
use samovar::Runtime;
use samovar_core::{ByteBudget, Digest};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::{Notify, Semaphore};
use tokio::task::JoinSet;

use crate::activity::{Leave, Phase, ServerHandle};
use crate::app::{App, Shared, Surface};
use crate::client::Peer;
use crate::config::ServeConfig;
use crate::connection::{self, ConnectionContext, HalfOpen};
use crate::connection_table::ConnectionTable;
use crate::error::Error;
use crate::layer::Allowed;
use crate::metrics::Metrics;
use crate::socket::OwnerSocket;

/// Time for answers that are complete to leave.
const FLUSH: Duration = Duration::from_secs(1);
/// Time for models to leave memory, and to write the state of their prompts down before.
const UNLOAD: Duration = Duration::from_secs(5);
/// Clients that are told at the same time that all connections are taken; more are closed on.
const TURNING_AWAY: usize = 64;
/// Silence after which the kernel asks whether a client's machine is still there.
const KEEP_ALIVE_IDLE: Duration = Duration::from_secs(30);
/// Pause between a flood's end and the look for memory to give back.
const GIVE_BACK_AFTER: Duration = Duration::from_secs(1);
/// So many simultaneous connections are worth giving memory back for when nearly all of them have gone.
const MANY_CONNECTIONS: usize = 64;
/// Pause after the system refused a connection, mostly for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A server whose listeners are open: clients connect from now on, and are served once it runs.
pub struct Server {
    tcp: Option<TcpListener>,
    unix: Option<OwnerSocket>,
    drain: Duration,
    shared: Arc<Shared>,
}

impl Server {
    /// Opens the listeners. Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// When no address is given, when one cannot be had, or when other machines would reach a server that
    /// authenticates no client.
    pub async fn bind(runtime: Runtime, config: ServeConfig) -> Result<Self, Error> {
        if config.listen.is_none() && config.socket.is_none() {
            return Err(Error::Nowhere);
        }
        let client_header = config.client_header.filter(|name| !name.is_empty());
        let client_header = client_header
            .map(|name| name.parse::<HeaderName>().map_err(|_| Error::ClientHeader(name)))
            .transpose()?;
        let tcp = match config.listen {
            Some(address) => Some(listen(address, config.insecure_no_auth).await?),
            None => None,
        };
        let unix = config.socket.as_deref().map(OwnerSocket::bind).transpose()?;
        let address = tcp.as_ref().and_then(|listener| listener.local_addr().ok());
        let stats = runtime.stats().await;
        let versions = Digest::of_bytes(format!("{} {}", stats.version, stats.engine).as_bytes());
        let [a, b, c, d, ..] = *versions.as_bytes();
        let shared = Arc::new(Shared {
            runtime,
            limits: config.limits,
            allowed: Allowed::new(&config.allowed_hosts, &config.allowed_origins, address),
            client_header,
            server: ServerHandle::new(),
            metrics: Metrics::new(),
            listen: address,
            socket: config.socket,
            fingerprint: format!("fp_{:08x}", u32::from_be_bytes([a, b, c, d])),
        });
        Ok(Self { tcp, unix, drain: config.drain, shared })
    }

    /// How busy it is, and how to end it.
    pub fn handle(&self) -> ServerHandle {
        self.shared.server.clone()
    }

    /// The address that it listens on, with the port that the system chose when 0 was asked for.
    pub fn address(&self) -> Option<SocketAddr> {
        self.shared.listen
    }

    /// The owner's socket.
    pub fn socket(&self) -> Option<&Path> {
        self.shared.socket.as_deref()
    }

    #[cfg(test)]
    pub(crate) fn app(&self, surface: Surface) -> App {
        App { shared: Arc::clone(&self.shared), surface }
    }

    /// Serves until `shutdown` resolves or a client asks for the end, lets running requests end, and shuts the runtime down.
    pub async fn run(self, shutdown: impl Future<Output = ()>) {
        let Self { tcp, unix, drain, shared } = self;
        let server = shared.server.clone();
        let ebbed = Arc::new(Notify::new());
        let mut listeners = JoinSet::new();
        if let Some(listener) = tcp {
            let app = App { shared: Arc::clone(&shared), surface: Surface::Network };
            listeners.spawn(accept_loop(listener, app, Arc::clone(&ebbed)));
        }
        if let Some(socket) = unix {
            let app = App { shared: Arc::clone(&shared), surface: Surface::Local };
            listeners.spawn(accept_loop(socket, app, Arc::clone(&ebbed)));
        }
        let leave = tokio::select! {
            () = shutdown => Leave { grace: None },
            leave = server.asked_to_leave() => leave,
            never = give_back_after_floods(shared.runtime.buffers(), &ebbed) => match never {},
        };
        let grace = leave.grace.unwrap_or(drain);
        tracing::info!(in_flight = server.in_flight(), ?grace, "leaving");
        server.enter(Phase::Draining);
        // Those who do not end in time are cut, so this cannot fail in any way that matters.
        let _ = tokio::time::timeout(grace, server.quiet()).await;
        server.enter(Phase::Cut);
        let flushed = async { while listeners.join_next().await.is_some() {} };
        let _ = tokio::time::timeout(FLUSH, flushed).await;
        listeners.shutdown().await;
        shared.runtime.shutdown(UNLOAD).await;
    }
}

/// Opens the listeners and serves until `shutdown` resolves; see [`Server`].
///
/// # Errors
/// As [`Server::bind`].
pub async fn serve(
    runtime: Runtime,
    config: ServeConfig,
    shutdown: impl Future<Output = ()>,
) -> Result<(), Error> {
    Server::bind(runtime, config).await?.run(shutdown).await;
    Ok(())
}

async fn listen(address: SocketAddr, insecure_no_auth: bool) -> Result<TcpListener, Error> {
    if !address.ip().is_loopback() && !insecure_no_auth {
        return Err(Error::Exposed(address));
    }
    TcpListener::bind(address).await.map_err(|source| Error::Listen { address, source })
}

/// Has freed memory given back to the system whenever much was held, or many connections were there, and nearly all has
/// gone.
async fn give_back_after_floods(buffers: &ByteBudget, connections_ebbed: &Notify) -> Infallible {
    loop {
        tokio::select! {
            () = buffers.ebbed() => {}
            () = connections_ebbed.notified() => {}
        }
        // What was counted is freed in a moment, and a flood comes in waves.
        tokio::time::sleep(GIVE_BACK_AFTER).await;
        // It has nothing to say.
        let _ = tokio::task::spawn_blocking(samovar::give_back_memory).await;
    }
}

/// A listener: a source of connections.
trait Acceptor: Send + Sync + 'static {
    type Stream: AsyncRead + AsyncWrite + HalfOpen + Unpin + Send + 'static;

    fn next(&self) -> impl Future<Output = io::Result<(Self::Stream, Peer)>> + Send;
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
}

impl Acceptor for OwnerSocket {
    type Stream = UnixStream;

    async fn next(&self) -> io::Result<(UnixStream, Peer)> {
        let (stream, uid) = self.accept().await?;
        Ok((stream, Peer::of_user(uid)))
    }
}

/// The most connections of a listener, and whether nearly all of them have gone.
#[derive(Debug, Default)]
struct ConnectionPeak {
    /// The most that there were since nearly all had gone.
    high: usize,
}

impl ConnectionPeak {
    /// So many are there now. Whether there were many, and nearly all of them have gone.
    fn has_fallen(&mut self, connections: usize) -> bool {
        self.high = self.high.max(connections);
        let has_fallen = self.high >= MANY_CONNECTIONS && connections <= self.high / 8;
        if has_fallen {
            self.high = connections;
        }
        has_fallen
    }
}

/// Serves the connections of one listener until the server leaves; then closes it and waits for its connections to end.
/// Tells `ebbed` when nearly all of many connections have gone.
async fn accept_loop<A: Acceptor>(acceptor: A, app: App, ebbed: Arc<Notify>) {
    let routes = crate::router(&app);
    let limits = app.limits;
    let table = ConnectionTable::new(limits.connections, limits.connections_per_address);
    let (budget, server) = (app.runtime.buffers().clone(), app.server.clone());
    let context = ConnectionContext { routes, limits, budget, server };
    let turning_away = Arc::new(Semaphore::new(TURNING_AWAY));
    let (mut connections, mut peak) = (JoinSet::new(), ConnectionPeak::default());
    loop {
        if peak.has_fallen(connections.len()) {
            ebbed.notify_one();
        }
        let (stream, peer) = tokio::select! {
            () = app.server.reached(Phase::Draining) => break,
            Some(_) = connections.join_next() => continue,
            next = acceptor.next() => match next {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            },
        };
        if let Some(permit) = table.take(&peer) {
            app.metrics.admitted(permit.instead_of);
            let (counted, context) = (app.metrics.connection(), context.clone());
            connections.spawn(async move {
                connection::serve(stream, peer, permit.tracker(), context).await;
                drop((permit, counted));
            });
        } else if let Ok(permit) = Arc::clone(&turning_away).try_acquire_owned() {
            connections.spawn(async move {
                connection::turn_away(stream).await;
                drop(permit);
            });
        }
    }
    drop(acceptor);
    while connections.join_next().await.is_some() {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_connections_that_has_gone_is_told_once() {
        let mut peak = ConnectionPeak::default();
        let falls: Vec<bool> = [63, 1, 1000, 126, 50, 0, 64, 8].map(|count| peak.has_fallen(count)).into();
        assert_eq!(falls, [false, false, false, false, true, false, false, true]);
    }
}
