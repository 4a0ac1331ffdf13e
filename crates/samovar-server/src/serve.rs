//! Opens the listeners, serves their connections, and closes them in order.
//!
//! ```text
//!   bind ─► accept ─► (TLS) ─► connection ─► routes          one task per listener, one per connection
//!                       └─ begins otherwise than HTTP, on the owner's socket ─► rpc
//!             │
//!   shutdown ─┴─► listeners close ─► running requests end, or are cut after the drain ─► models unload
//! ```

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::http::HeaderName;
use futures_util::future::BoxFuture;
use samovar::Runtime;
use samovar_core::{ByteBudget, Digest};
use tokio::net::TcpListener;
use tokio::sync::{Notify, Semaphore};
use tokio::task::JoinSet;

use crate::acceptor::Acceptor;
use crate::activity::{Leave, Phase, ServerHandle};
use crate::app::{App, Shared, Surface};
use crate::audit::AuditLog;
use crate::chat::Chats;
use crate::config::ServeConfig;
use crate::connection::{self, ConnectionContext, ConnectionTracker};
use crate::connection_table::ConnectionTable;
use crate::error::Error;
use crate::events::Feed;
use crate::keys::{KeyFile, KeyWatch, Keyring};
use crate::layer::Allowed;
use crate::ledger::Ledgers;
use crate::metrics::Metrics;
use crate::moment::unix_ms;
use crate::port_holder;
use crate::request_record::Ledger;
use crate::rpc;
use crate::socket::OwnerSocket;
use crate::tls::Tls;
use crate::usage::UsageCounts;

/// Time for answers that are complete to leave.
const FLUSH: Duration = Duration::from_secs(1);
/// Time for models to leave memory, and to write the state of their prompts down before.
const UNLOAD: Duration = Duration::from_secs(5);
/// Clients that are told at the same time that all connections are taken; more are closed on.
const TURNING_AWAY: usize = 64;
/// Pause between a flood's end and the look for memory to give back.
const GIVE_BACK_AFTER: Duration = Duration::from_secs(1);
/// So many simultaneous connections are worth giving memory back for when nearly all of them have gone.
const MANY_CONNECTIONS: usize = 64;
/// Pause after the system refused a connection, mostly for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A server whose listeners are open: clients connect from now on, and are served once it runs.
pub struct Server {
    tcp: Option<TcpListener>,
    /// What `tcp` is served with.
    tls: Option<Tls>,
    /// The address at which Ollama's clients look.
    ollama: Option<TcpListener>,
    unix: Option<OwnerSocket>,
    drain: Duration,
    shared: Arc<Shared>,
}

impl Server {
    /// Opens the listeners. Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// When no address is given, when one cannot be had, when other machines would reach a server that authenticates no client,
    /// or when a file of TLS or the audit log cannot be used.
    pub fn bind(runtime: Runtime, config: ServeConfig) -> BoxFuture<'static, Result<Self, Error>> {
        // An async function would be compiled again in every program that serves.
        Box::pin(Self::open(runtime, config))
    }

    async fn open(runtime: Runtime, config: ServeConfig) -> Result<Self, Error> {
        if config.listen.is_none() && config.ollama_listen.is_none() && config.socket.is_none() {
            return Err(Error::Nowhere);
        }
        let client_header = config.client_header.filter(|name| !name.is_empty());
        let client_header = client_header
            .map(|name| name.parse::<HeaderName>().map_err(|_| Error::ClientHeader(name)))
            .transpose()?;
        let metrics = Metrics::new();
        // Only clients with a certificate of the owner's authorities come in.
        let knows_clients = config.tls.as_ref().is_some_and(|files| files.client_ca.is_some());
        let files = config.tls.filter(|_| config.listen.is_some());
        let tls = files.map(|files| Tls::read(files, metrics.clone())).transpose()?;
        let is_served = config.listen.is_some() || config.ollama_listen.is_some();
        let mut keys = match config.keys.filter(|_| is_served) {
            Some(file) => Keyring::open(Some(KeyFile::new(file)))?,
            None => Keyring::default(),
        };
        let may_be_anyone = config.insecure_no_auth;
        let tcp = match config.listen {
            Some(address) => Some(listen(address, &mut keys, may_be_anyone || knows_clients).await?),
            None => None,
        };
        let ollama = match config.ollama_listen {
            Some(address) => Some(listen_as_ollama(address, &mut keys, may_be_anyone).await?),
            None => None,
        };
        let unix = config.socket.as_deref().map(OwnerSocket::bind).transpose()?;
        // One that other machines reach says by which names clients may call both.
        let exposed = [config.listen, config.ollama_listen].into_iter().flatten();
        let exposed = exposed.reduce(|one, other| if one.ip().is_loopback() { other } else { one });
        let address = tcp.as_ref().and_then(|listener| listener.local_addr().ok());
        let ledgers = Arc::new(Ledgers {
            audit: config.audit_log.map(audit_log).transpose()?,
            usage: config.usage_dir.map(UsageCounts::new),
        });
        let stats = runtime.stats().await;
        let versions = Digest::of_bytes(format!("{} {}", stats.version, stats.engine).as_bytes());
        let [a, b, c, d, ..] = *versions.as_bytes();
        let started_unix_ms = unix_ms();
        let shared = Arc::new(Shared {
            runtime,
            limits: config.limits,
            allowed: Allowed::new(&config.allowed_hosts, &config.allowed_origins, exposed),
            keys: Arc::new(keys),
            client_header,
            server: ServerHandle::new(),
            metrics,
            ledger: Arc::<Ledgers>::clone(&ledgers) as Arc<dyn Ledger>,
            ledgers,
            listen: address,
            has_tls: tls.is_some(),
            socket: config.socket,
            fingerprint: format!("fp_{:08x}", u32::from_be_bytes([a, b, c, d])),
            started_unix_ms,
            settings: config.settings,
            requests: Arc::default(),
            pulls: Arc::default(),
            chats: Chats::new(config.chats),
            events: Arc::new(Feed::new(started_unix_ms)),
        });
        Ok(Self { tcp, tls, ollama, unix, drain: config.drain, shared })
    }

    /// How busy it is, and how to end it.
    pub fn handle(&self) -> ServerHandle {
        self.shared.server.clone()
    }

    /// The address that it listens on, with the port that the system chose when 0 was asked for.
    pub fn address(&self) -> Option<SocketAddr> {
        self.shared.listen
    }

    /// The address at which it listens for Ollama's clients besides.
    pub fn ollama_address(&self) -> Option<SocketAddr> {
        self.ollama.as_ref().and_then(|listener| listener.local_addr().ok())
    }

    /// The owner's socket.
    pub fn socket(&self) -> Option<&Path> {
        self.shared.socket.as_deref()
    }

    #[cfg(test)]
    pub(crate) fn app(&self, surface: Surface) -> App {
        App::new(&self.shared, surface)
    }

    /// Serves until `shutdown` resolves or a client asks for the end, lets running requests end, and shuts the runtime down.
    pub async fn run(self, shutdown: impl Future<Output = ()> + Send) {
        self.serve(Box::pin(shutdown)).await;
    }

    /// See [`Server::bind`] for why it is boxed.
    fn serve(self, shutdown: BoxFuture<'_, ()>) -> BoxFuture<'_, ()> {
        Box::pin(self.serve_until(shutdown))
    }

    async fn serve_until(self, shutdown: BoxFuture<'_, ()>) {
        let Self { tcp, tls, ollama, unix, drain, shared } = self;
        let server = shared.server.clone();
        let ebbed = Arc::new(Notify::new());
        let mut listeners = JoinSet::new();
        // Only requests over TCP need keys.
        let has_clients = tcp.is_some() || ollama.is_some();
        let watch = has_clients.then(|| KeyWatch::start(Arc::clone(&shared.keys))).flatten();
        // Ollama's clients know no TLS at their address.
        for (listener, tls) in [(tcp, tls), (ollama, None)] {
            let Some(listener) = listener else { continue };
            let app = App::new(&shared, Surface::Network);
            listeners.spawn(accept_loop(listener, tls, app, Arc::clone(&ebbed)));
        }
        if let Some(socket) = unix {
            let app = App::new(&shared, Surface::Local);
            listeners.spawn(accept_loop(socket, None, app, Arc::clone(&ebbed)));
        }
        let keeping =
            shared.ledgers.usage.clone().map(|usage| tokio::spawn(async move { usage.keep().await }));
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
        drop(watch);
        if let Some(keeping) = keeping {
            keeping.abort();
        }
        shared.ledgers.close().await;
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
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), Error> {
    Server::bind(runtime, config).await?.run(shutdown).await;
    Ok(())
}

fn audit_log(path: PathBuf) -> Result<AuditLog, Error> {
    AuditLog::begin(path.clone()).map_err(|source| Error::AuditLog { path, source })
}

/// Opens the port. Where other machines reach it, a key must be there, and stays needed when the last one is removed.
/// `has_no_need`: all who reach it may use it, or are known otherwise.
async fn listen(address: SocketAddr, keys: &mut Keyring, has_no_need: bool) -> Result<TcpListener, Error> {
    let is_exposed = !address.ip().is_loopback() && !has_no_need;
    if is_exposed && keys.is_empty() {
        return Err(Error::Exposed(address));
    }
    let listener = TcpListener::bind(address).await.map_err(|source| Error::Listen { address, source })?;
    if is_exposed {
        keys.expose();
    }
    Ok(listener)
}

/// The address at which Ollama's clients look.
async fn listen_as_ollama(
    address: SocketAddr,
    keys: &mut Keyring,
    has_no_need: bool,
) -> Result<TcpListener, Error> {
    match listen(address, keys, has_no_need).await {
        Err(Error::Listen { source, .. }) if source.kind() == io::ErrorKind::AddrInUse => {
            Err(Error::OllamaAddress { address, holder: port_holder::of(address).await })
        }
        bound => bound,
    }
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

/// Whether a client speaks JSON-RPC from its first byte on. It has as long to begin as the head of a request may take; HTTP closes
/// a connection on which nothing comes.
async fn begins_rpc<A: Acceptor>(stream: &A::Stream, tracker: &ConnectionTracker, app: &App) -> bool {
    tokio::select! {
        first = A::first_byte(stream) => first.is_some_and(rpc::begins_with),
        _ = tracker.over(&app.limits) => false,
        () = app.server.reached(Phase::Draining) => false,
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

/// Serves the connections of one listener, over TLS or without, until the server leaves; then closes it and waits for its
/// connections to end.
/// Tells `ebbed` when nearly all of many connections have gone.
async fn accept_loop<A: Acceptor>(acceptor: A, tls: Option<Tls>, app: App, ebbed: Arc<Notify>) {
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
            let (counted, context, tls) = (app.metrics.connection(), context.clone(), tls.clone());
            let app = app.clone();
            connections.spawn(crate::task::erased(async move {
                match &tls {
                    Some(tls) => {
                        connection::serve_secured(stream, peer, permit.tracker(), context, tls).await;
                    }
                    None if begins_rpc::<A>(&stream, permit.tracker(), &app).await => {
                        rpc::serve(stream, peer, permit.tracker(), app).await;
                    }
                    None => connection::serve(stream, peer, permit.tracker(), context).await,
                }
                drop((permit, counted));
            }));
        } else if let Ok(permit) = Arc::clone(&turning_away).try_acquire_owned() {
            let tls = tls.clone();
            connections.spawn(crate::task::erased(async move {
                match &tls {
                    Some(tls) => tls.turn_away(stream).await,
                    None => connection::turn_away(stream).await,
                }
                drop(permit);
            }));
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
