//! The daemon itself: takes the lock, listens, loads the requested models, and ends when it is told to or idle.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use samovar::store::Progress;
use samovar::{Builder, Origin, Runtime, Wait, WarmOptions};
use samovar_core::{ErrorKind, Failure};
use samovar_server::{ServeConfig, Server, ServerHandle, SettingsSource};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::succession::{self, Inherited};
use super::{lock, start, statistics, workers};
use crate::exit_code;
use crate::settings::{Settings, Watched, entries_as_json, settings_as_json};

/// A disk with less room than this takes nothing that is worth the name.
const FULL_BYTES: u64 = 64 << 10;
/// How often a long load or download is written to the log again.
const TELL_AGAIN: Duration = Duration::from_secs(2);
/// How often a daemon that a person watches tells what it did.
const STATISTICS: Duration = Duration::from_secs(60);
/// How often a daemon that stays only for a pinned model looks again.
const PINNED_LOOK: Duration = Duration::from_secs(60);

/// What differs between a daemon of a person and one of `run`.
#[derive(Clone, Debug)]
pub(crate) struct ServeOptions {
    /// Started by `run`.
    pub(crate) in_background: bool,
    /// Where to listen for HTTP.
    pub(crate) listen: Option<SocketAddr>,
    /// Where to listen for Ollama's clients as well.
    pub(crate) ollama_listen: Option<SocketAddr>,
    /// Leave after so long without a request.
    pub(crate) idle_exit: Option<Duration>,
    /// Models to load at once; a mistake in their names is fatal.
    pub(crate) models: Vec<String>,
    /// Whether other machines are answered although there is no key.
    pub(crate) is_insecure: bool,
}

/// Where a daemon can be reached.
#[derive(Clone, Debug)]
pub(crate) struct ListenAddresses {
    /// HTTP.
    pub(crate) listen: Option<SocketAddr>,
    /// HTTP for Ollama's clients.
    pub(crate) ollama: Option<SocketAddr>,
    /// The owner's socket.
    pub(crate) socket: PathBuf,
}

/// Serves until a signal, an idle end, or `samovar shutdown`. `up` is called once it listens.
///
/// # Errors
/// `Unavailable` when another daemon serves this socket; any error of the engine or of listening.
pub(crate) async fn live(
    settings: &Settings,
    names: Option<Arc<Watched>>,
    options: ServeOptions,
    up: impl FnOnce(&ListenAddresses),
) -> Result<(), Failure> {
    start::make_places(settings)?;
    raise_file_limit();
    samovar::keep_little_freed_memory();
    let place = succession::take(settings, options.in_background, async |theirs| {
        check_before_takeover(settings, &options, theirs).await
    });
    let succession::Handover { mut lock, starting, inherited } = place.await?;
    let mut builder = Builder::settings(settings.runtime.clone()).keep_statistics();
    let shown = settings_source(settings, names.clone());
    if let Some(names) = names {
        builder = builder.names(names);
    }
    if let Some(workers) = workers::config(settings) {
        builder = builder.workers(workers);
    }
    if let Some(path) = &settings.request_log {
        builder = builder.request_log(path);
    }
    let runtime = builder.build()?;
    for model in &options.models {
        check_name(settings, &runtime, model).await?;
    }
    let config = ServeConfig { settings: Some(shown), ..serve_config(settings, &options) };
    let server = Server::bind(runtime.clone(), config).await?;
    lock.sign(&lock::Holder::this_process(options.in_background));
    let addresses = ListenAddresses {
        listen: server.address(),
        ollama: server.ollama_address(),
        socket: settings.socket.clone(),
    };
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        pid = std::process::id(),
        listen = addresses.listen.map(tracing::field::display),
        tls = addresses.listen.is_some() && settings.tls.is_some(),
        ollama = addresses.ollama.map(tracing::field::display),
        budget_bytes = settings.runtime.pool.budget.bytes,
        "serving"
    );
    say_if_full(settings);
    let signals = Signals::listen()?;
    up(&addresses);
    // A process that waits to start a daemon finds this one.
    drop(starting);
    for model in options.models.iter().chain(&settings.preload_models) {
        tokio::spawn(preload(runtime.clone(), model.clone()));
    }
    for inherited in inherited {
        tokio::spawn(inherit(runtime.clone(), inherited));
    }
    let usual = if options.in_background { Duration::ZERO } else { STATISTICS };
    let every = settings.stats_interval.unwrap_or(usual);
    let statistics = (!every.is_zero()).then(|| tokio::spawn(statistics::tell(runtime.clone(), every)));
    let handle = server.handle();
    server.run(told_to_leave(signals, handle, runtime, options.idle_exit)).await;
    if let Some(statistics) = statistics {
        statistics.abort();
    }
    tracing::info!("shut down");
    Ok(())
}

/// Says what would keep this daemon from serving while the one before it still does: a mistake in the names of models, or an
/// address that is not to be had. That of the daemon before, `theirs`, will be free.
async fn check_before_takeover(
    settings: &Settings,
    options: &ServeOptions,
    theirs: Option<SocketAddr>,
) -> Result<(), Failure> {
    let runtime = Builder::settings(settings.runtime.clone()).build()?;
    for model in &options.models {
        check_name(settings, &runtime, model).await?;
    }
    if let Some(address) = options.listen {
        let is_theirs = theirs.is_some_and(|theirs| overlap(theirs, address));
        let listen = if is_theirs { SocketAddr::new(address.ip(), 0) } else { address };
        // The daemon before may have the address for Ollama's clients, and gives it back as well.
        let config = ServeConfig {
            listen: Some(listen),
            ollama_listen: None,
            socket: None,
            audit_log: None,
            usage_dir: None,
            ..serve_config(settings, options)
        };
        // The listener is closed again at once.
        drop(Server::bind(runtime.clone(), config).await?);
    }
    runtime.shutdown(Duration::ZERO).await;
    Ok(())
}

/// Whether one address cannot be had while another process listens on the other.
fn overlap(one: SocketAddr, other: SocketAddr) -> bool {
    one.port() == other.port()
        && (one.ip() == other.ip() || one.ip().is_unspecified() || other.ip().is_unspecified())
}

/// Says what does not work without room on the disk; everything else does.
fn say_if_full(settings: &Settings) {
    let cache = &settings.runtime.store.cache_dir;
    // What is not there yet lies on the disk of what is above it.
    let there = cache.ancestors().find(|path| path.exists()).unwrap_or(cache);
    let Ok(facts) = rustix::fs::statvfs(there) else { return };
    if facts.f_bavail.saturating_mul(facts.f_frsize) < FULL_BYTES {
        tracing::warn!(
            path = %there.display(),
            "the disk is full: until there is space, nothing is fetched, and no log, statistics or prompt state is written"
        );
    }
}

/// Each connection and each model takes files; the usual limit is one of the days of `select`. The system lets every
/// process raise it to the one that its owner may not pass.
fn raise_file_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current == maximum {
        return;
    }
    match setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        Ok(()) => tracing::debug!(?current, ?maximum, "raised the limit on open files"),
        Err(error) => tracing::warn!(?current, %error, "could not raise the limit on open files"),
    }
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

fn serve_config(settings: &Settings, options: &ServeOptions) -> ServeConfig {
    ServeConfig {
        listen: options.listen,
        tls: settings.tls.clone(),
        ollama_listen: options.ollama_listen,
        socket: Some(settings.socket.clone()),
        insecure_no_auth: options.is_insecure,
        keys: Some(settings.home.keys_file()),
        allowed_hosts: settings.allowed_hosts.clone(),
        allowed_origins: settings.allowed_origins.clone(),
        client_header: settings.client_header.clone(),
        audit_log: settings.audit_log.clone(),
        usage_dir: settings.usage_dir.clone(),
        chats: Some(settings.home.chats_file()),
        limits: settings.limits,
        drain: settings.grace,
        settings: None,
    }
}

/// What the owner is shown of the settings of a daemon that begins with these.
fn settings_source(settings: &Settings, names: Option<Arc<Watched>>) -> SettingsSource {
    let (began_with, shown) = (settings.entries.clone(), settings_as_json(settings));
    SettingsSource::new(move || {
        let mut shown = shown.clone();
        if let Some(names) = &names {
            shown["values"] = entries_as_json(&names.in_force(&began_with));
        }
        shown
    })
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
                Wait::Preparing(preparing) => {
                    let percent = (preparing.fraction * 100.0) as u32;
                    tracing::info!(model, percent, "preparing");
                }
                _ => {}
            }
        }
    };
    let (outcome, ()) = tokio::join!(runtime.warm(&model, WarmOptions::default().waits(waits)), progress);
    match outcome {
        Ok(()) => tracing::info!(model, took_ms = began.elapsed().as_millis() as u64, "ready"),
        Err(failure) => tracing::error!(model, hint = failure.hint, "could not be loaded: {failure}"),
    }
}

/// Holds again what the daemon before this one held.
async fn inherit(runtime: Runtime, inherited: Inherited) {
    let Inherited { model, is_pinned } = inherited;
    if is_pinned && let Err(failure) = runtime.pin(&model).await {
        tracing::warn!(model, "could not be pinned again: {failure}");
    }
    preload(runtime, model).await;
}

/// Resolves at the first signal, or when no client has needed the daemon for long enough. After a signal,
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
        name = signals.next() => tracing::info!(signal = name, "received a signal, shutting down; a second signal exits at once"),
        () = idle => tracing::info!(after = ?idle_exit, "no requests; shutting down"),
    }
    tokio::spawn(async move {
        let name = signals.next().await;
        tracing::warn!(signal = name, "received a second signal; exiting at once");
        std::process::exit(i32::from(exit_code::of(ErrorKind::Cancelled)));
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

/// The signals that mean "leave". One that was ignored when the program began stays ignored: `nohup` and shells do that for
/// programs that must outlive a terminal. A supervisor's own, SIGTERM, is always heard.
struct Signals {
    terminate: Signal,
    interrupt: Option<Signal>,
    hang_up: Option<Signal>,
}

impl Signals {
    fn listen() -> Result<Self, Failure> {
        let on = |kind| {
            signal(kind).map_err(|error| {
                Failure::new(ErrorKind::Internal, format!("signals cannot be listened to: {error}"))
            })
        };
        let unless_ignored = |kind: SignalKind| {
            if is_ignored(kind) {
                tracing::debug!(
                    signal = kind.as_raw_value(),
                    "this signal was ignored at the start, and stays ignored"
                );
                return Ok(None);
            }
            on(kind).map(Some)
        };
        Ok(Self {
            terminate: on(SignalKind::terminate())?,
            interrupt: unless_ignored(SignalKind::interrupt())?,
            hang_up: unless_ignored(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            () = heard(&mut self.interrupt) => "SIGINT",
            () = heard(&mut self.hang_up) => "SIGHUP",
        }
    }
}

async fn heard(signal: &mut Option<Signal>) {
    match signal {
        Some(signal) => drop(signal.recv().await),
        None => std::future::pending().await,
    }
}

/// Whether a signal was ignored when this process was started, by what the kernel says; false where it does not say.
fn is_ignored(kind: SignalKind) -> bool {
    let status = fs_err::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    mask & (1 << (kind.as_raw_value() - 1)) != 0
}
