//! The daemon itself: takes the lock, opens the doors, loads what was asked for, leaves when told or idle.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use samovar::store::Progress;
use samovar::{Builder, Origin, Runtime, Wait};
use samovar_core::{ErrorKind, Failure};
use samovar_server::{ServeConfig, Server, ServerHandle};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::{lock, start, workers};
use crate::settings::Settings;

/// How long a daemon may take to end after its requests have.
const LEAVING: Duration = Duration::from_secs(10);
/// How often a long load or download is told to whoever reads the log.
const TELL_AGAIN: Duration = Duration::from_secs(2);
/// How often a daemon that stays only for a pinned model looks again.
const PINNED_LOOK: Duration = Duration::from_secs(60);

/// What differs between a daemon of a person and one of `run`.
#[derive(Clone, Debug)]
pub(crate) struct Manner {
    /// Started by `run`.
    pub(crate) in_background: bool,
    /// Where to listen for HTTP.
    pub(crate) listen: Option<SocketAddr>,
    /// Leave after so long without a request.
    pub(crate) idle_exit: Option<Duration>,
    /// Models to load at once; a mistake in their names is fatal.
    pub(crate) models: Vec<String>,
    /// Whether other machines are answered without keys.
    pub(crate) is_insecure: bool,
}

/// Where a daemon can be reached.
#[derive(Clone, Debug)]
pub(crate) struct Doors {
    /// HTTP.
    pub(crate) listen: Option<SocketAddr>,
    /// The owner's socket.
    pub(crate) socket: PathBuf,
}

/// Serves until a signal, an idle end, or `samovar shutdown`. `up` is called once the doors are open.
///
/// # Errors
/// `Unavailable` when another daemon serves this socket; whatever keeps the engine or the doors shut.
pub(crate) async fn live(
    settings: &Settings,
    manner: Manner,
    up: impl FnOnce(&Doors),
) -> Result<(), Failure> {
    start::make_places(settings)?;
    let mut only_one = only_one(settings).await?;
    let mut builder = Builder::settings(settings.runtime.clone()).keep_statistics();
    if let Some(workers) = workers::config(settings) {
        builder = builder.workers(workers);
    }
    if let Some(path) = &settings.request_log {
        builder = builder.request_log(path);
    }
    let runtime = builder.build()?;
    for model in &manner.models {
        check_name(settings, &runtime, model).await?;
    }
    let server = Server::bind(runtime.clone(), serve_config(settings, &manner)).await?;
    only_one.sign(&lock::Holder::this_process(manner.in_background));
    let doors = Doors { listen: server.address(), socket: settings.socket.clone() };
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        pid = std::process::id(),
        listen = doors.listen.map(tracing::field::display),
        budget_bytes = settings.runtime.pool.budget.bytes,
        "serving"
    );
    let signals = Signals::listen()?;
    up(&doors);
    for model in manner.models.iter().chain(&settings.preload_models) {
        tokio::spawn(preload(runtime.clone(), model.clone()));
    }
    let handle = server.handle();
    server.run(told_to_leave(signals, handle, runtime, manner.idle_exit)).await;
    tracing::info!("left");
    Ok(())
}

/// A model that is not on disk yet will be fetched; every other mistake is told now.
async fn check_name(settings: &Settings, runtime: &Runtime, model: &str) -> Result<(), Failure> {
    match runtime.model(model, Origin::Owner).await {
        Err(failure) if failure.kind == ErrorKind::NotFound => {
            settings.meaning(model)?.artifact().map(drop).ok_or(failure)
        }
        outcome => outcome.map(drop),
    }
}

/// The daemon lock. While its holder leaves (its socket answers no more), waits for it.
async fn only_one(settings: &Settings) -> Result<lock::Lock, Failure> {
    let path = lock::daemon_lock(&settings.socket);
    if let Some(lock) = lock::Lock::try_take(&path)? {
        return Ok(lock);
    }
    let client = crate::client::Client::new(settings.socket.clone());
    if client.connect().await?.is_some() {
        return Err(lock::occupied(&settings.socket));
    }
    tracing::info!("waiting for the daemon before this one to leave");
    let lock = lock::Lock::take(&path, settings.grace + LEAVING).await?;
    lock.ok_or_else(|| lock::occupied(&settings.socket))
}

fn serve_config(settings: &Settings, manner: &Manner) -> ServeConfig {
    ServeConfig {
        listen: manner.listen,
        socket: Some(settings.socket.clone()),
        insecure_no_auth: manner.is_insecure,
        allowed_hosts: settings.allowed_hosts.clone(),
        allowed_origins: settings.allowed_origins.clone(),
        client_header: settings.client_header.clone(),
        drain: settings.grace,
        ..ServeConfig::default()
    }
}

/// Loads a model because its owner said so beforehand. What goes wrong is logged: the daemon serves on.
async fn preload(runtime: Runtime, model: String) {
    let (waits, mut waiting) = mpsc::channel(16);
    let began = Instant::now();
    let progress = async {
        let mut told = began;
        while let Some(wait) = waiting.recv().await {
            if told.elapsed() < TELL_AGAIN {
                continue;
            }
            told = Instant::now();
            match wait {
                Wait::Loading { fraction, instance, of } => {
                    let percent = (fraction * 100.0) as u32;
                    tracing::info!(model, percent, "loading instance {instance}/{of}");
                }
                Wait::Fetching(Progress::Fetching(transfer)) => {
                    let (done_bytes, total_bytes) = (transfer.done_bytes, transfer.total_bytes);
                    tracing::info!(model, done_bytes, total_bytes, "fetching");
                }
                _ => {}
            }
        }
    };
    let (outcome, ()) = tokio::join!(runtime.warm(&model, Some(waits)), progress);
    match outcome {
        Ok(()) => tracing::info!(model, took_ms = began.elapsed().as_millis() as u64, "ready"),
        Err(failure) => tracing::error!(model, hint = failure.hint, "could not be loaded: {failure}"),
    }
}

/// Resolves at the first signal, or when nobody has needed the daemon for long enough. After a signal,
/// a second one ends the process at once.
async fn told_to_leave(
    mut signals: Signals,
    handle: ServerHandle,
    runtime: Runtime,
    idle_exit: Option<Duration>,
) {
    let idle = async {
        match idle_exit {
            Some(after) => idle(&handle, &runtime, after).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        name = signals.next() => tracing::info!(signal = name, "told to leave; a second signal ends at once"),
        () = idle => tracing::info!(after = ?idle_exit, "nobody asked for anything; leaving"),
    }
    tokio::spawn(async move {
        let name = signals.next().await;
        tracing::warn!(signal = name, "told again; ending at once");
        std::process::exit(i32::from(ErrorKind::Cancelled.surface().exit_code));
    });
}

/// Resolves after `after` without a request, unless a model is pinned: who pins a model wants it to stay.
async fn idle(handle: &ServerHandle, runtime: &Runtime, after: Duration) {
    loop {
        handle.idle(after).await;
        if !runtime.stats().await.models.iter().any(|model| model.is_pinned) {
            return;
        }
        tokio::time::sleep(PINNED_LOOK.min(after)).await;
    }
}

/// The signals that mean "leave".
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
}

impl Signals {
    fn listen() -> Result<Self, Failure> {
        let on = |kind| {
            signal(kind).map_err(|error| {
                Failure::new(ErrorKind::Internal, format!("signals cannot be listened to: {error}"))
            })
        };
        Ok(Self {
            terminate: on(SignalKind::terminate())?,
            interrupt: on(SignalKind::interrupt())?,
            hang_up: on(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.hang_up.recv() => "SIGHUP",
        }
    }
}
