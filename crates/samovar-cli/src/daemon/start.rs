//! Finds the daemon, or starts it: exactly one, however many look for it at once.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use samovar_core::{ErrorKind, Failure};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, BufReader};
use tokio::time::Instant;

use super::{lock, log};
use crate::client::{Client, Connection};
use crate::home;
use crate::settings::Settings;

/// A machine under load needs seconds; more means that something is wrong.
const START_LIMIT: Duration = Duration::from_secs(60);
/// How often a leaving daemon is looked at; its listener closes at a moment of its own.
const LOOK_AGAIN: Duration = Duration::from_millis(10);
/// Between a broken connection and the end of its process lies no more than this.
const DYING: Duration = Duration::from_secs(2);
/// A daemon's word is one line.
const WORD_MAX_BYTES: u64 = 64 << 10;

/// The first and only word of a daemon in the background, on its standard output.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum StartReport {
    /// The socket accepts.
    Ready,
    /// It could not start.
    Failed(Failure),
}

/// A connection to the daemon, which is started when there is none. `starting` is called once, if it is.
///
/// # Errors
/// Whatever kept it from starting, as the daemon itself says it; `Unavailable` when it says nothing.
///
/// # Cancel safety
/// Cancel safe: a daemon that was started goes on starting.
pub(crate) async fn ensure(settings: &Settings, starting: impl FnOnce()) -> Result<Connection, Failure> {
    let client = Client::new(settings.socket.clone());
    if let Some(connection) = client.connect().await? {
        return Ok(connection);
    }
    starting();
    make_places(settings)?;
    let _alone = alone(settings).await?;
    // The process that held the lock before may have started it.
    if let Some(connection) = client.connect().await? {
        return Ok(connection);
    }
    spawn(settings).await?;
    client.connect_or_fail().await
}

/// The lock of the process that is about to start or replace the daemon.
///
/// # Errors
/// `Unavailable` when another process has it for too long.
pub(super) async fn alone(settings: &Settings) -> Result<lock::Lock, Failure> {
    let path = lock::start_lock(&settings.socket);
    // A daemon that takes over waits for the requests of the daemon before.
    lock::Lock::take(&path, START_LIMIT + settings.grace).await?.ok_or_else(|| {
        Failure::new(ErrorKind::Unavailable, "another command has been starting the daemon for too long")
            .with_hint(format!("look into {}", settings.home.log_file().display()))
    })
}

/// How often a request is sent again when it met a daemon on its way out.
const TRIES: u32 = 3;

/// Sends a request by `send`, to the next daemon when this one was just leaving. A daemon that refuses for
/// any other reason, or dies of the request, is not asked for long.
///
/// # Errors
/// As [`ensure`], and whatever `send` says in the end.
pub(crate) async fn ask<T>(
    settings: &Settings,
    first: Connection,
    send: impl AsyncFn(Connection) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let mut outcome = send(first).await;
    for _ in 1..TRIES {
        if !outcome.as_ref().is_err_and(|failure| failure.kind == ErrorKind::Unavailable) {
            break;
        }
        outcome = send(next(settings).await?).await;
    }
    outcome
}

/// A daemon that is not leaving: this one if it stays, else the one after it.
///
/// # Errors
/// As [`ensure`].
pub(crate) async fn next(settings: &Settings) -> Result<Connection, Failure> {
    let client = Client::new(settings.socket.clone());
    let until = Instant::now() + settings.grace + START_LIMIT;
    while let Some(connection) = client.connect().await? {
        if connection.takes_requests().await {
            return client.connect_or_fail().await;
        }
        if Instant::now() >= until {
            break;
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
    ensure(settings, || ()).await
}

/// What happened to a daemon whose connection broke: its last words when it died, else `failure` as it is.
pub(crate) async fn obituary(settings: &Settings, failure: Failure) -> Failure {
    let path = lock::daemon_lock(&settings.socket);
    if !lock::released(&path, DYING).await {
        return failure;
    }
    // The log of a daemon that a person watches is on that person's terminal.
    if !lock::holder(&path).is_some_and(|holder| holder.in_background) {
        return Failure::new(failure.kind, "the daemon ended in the middle of the answer")
            .with_hint("its terminal shows why");
    }
    let log_file = settings.home.log_file();
    let lines = log::tail(&log_file, 200);
    let hint = format!("the next run starts another; its log is {}", log_file.display());
    match log::cause_of_death(lines.iter().map(String::as_str)) {
        Some(cause) => Failure::new(
            ErrorKind::EngineFailed,
            format!("the daemon died in the middle of the answer: {cause}"),
        ),
        None => Failure::new(failure.kind, "the daemon ended in the middle of the answer"),
    }
    .with_hint(hint)
}

/// What is wrong between this program and the daemon, if anything is: they may be of different versions.
pub(crate) fn skew(settings: &Settings) -> Option<String> {
    let holder = lock::holder(&lock::daemon_lock(&settings.socket))?;
    let own = env!("CARGO_PKG_VERSION");
    (holder.version != own).then(|| {
        format!(
            "the daemon is samovar {}, this is {own}; `samovar shutdown` lets the next run start the new one",
            holder.version
        )
    })
}

/// The directories that daemon and client share.
///
/// # Errors
/// `Storage` or `Forbidden` when one cannot be had.
pub(crate) fn make_places(settings: &Settings) -> Result<(), Failure> {
    home::make_private_dir(&settings.home.run_dir)?;
    match home::make_private_dir(&settings.home.state_dir) {
        // With a full disk, what is there can still be used: logs and statistics are lost, and that is said.
        Err(failure) if failure.kind == ErrorKind::Storage => {
            tracing::warn!(hint = failure.hint, "logs and statistics are not kept: {failure}");
        }
        made => made?,
    }
    match settings.socket.parent() {
        Some(parent) if !parent.exists() => home::make_private_dir(parent),
        _ => Ok(()),
    }
}

/// The file of this program. One that was replaced while it runs (an upgrade) is still there for the kernel.
///
/// # Errors
/// `Internal` when the system does not tell.
pub(crate) fn own_program() -> Result<PathBuf, Failure> {
    const BY_KERNEL: &str = "/proc/self/exe";
    match std::env::current_exe() {
        Ok(path) if path.exists() => Ok(path),
        _ if Path::new(BY_KERNEL).exists() => Ok(PathBuf::from(BY_KERNEL)),
        Ok(path) => Ok(path),
        Err(error) => Err(Failure::new(
            ErrorKind::Internal,
            format!("could not find this program's own file: {}", home::plain(&error)),
        )),
    }
}

/// Starts the daemon and waits for its word.
async fn spawn(settings: &Settings) -> Result<(), Failure> {
    let log_file = settings.home.log_file();
    // A disk too full for a log is no reason not to serve.
    let stderr = log::open_for_append(&log_file).map_or_else(|_| Stdio::null(), Stdio::from);
    let mut command = tokio::process::Command::new(own_program()?);
    if let Some(config) = &settings.config_file {
        command.arg("--config").arg(config);
    }
    if let Some(root) = &settings.home.root {
        command.arg("--home").arg(root);
    }
    let mut child = command
        .arg("--socket")
        .arg(&settings.socket)
        .args(["serve", "--background"])
        // A debugger that ggml calls for a backtrace would keep a dying daemon alive for seconds.
        .env("GGML_NO_BACKTRACE", "1")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(stderr)
        .kill_on_drop(false)
        .spawn()
        .map_err(|error| {
            Failure::new(
                ErrorKind::Unavailable,
                format!("could not start the daemon: {}", home::plain(&error)),
            )
            .with_hint("`--no-daemon` runs the model in this process instead")
        })?;
    let stdout = child.stdout.take().expect("invariant: piped above");
    let mut word = Vec::new();
    let mut pipe = BufReader::new(stdout).take(WORD_MAX_BYTES);
    match tokio::time::timeout(START_LIMIT, pipe.read_to_end(&mut word)).await {
        Ok(Ok(_)) => {}
        Ok(Err(error)) => return Err(speechless(settings, &error.to_string())),
        Err(_) => return Err(speechless(settings, &format!("nothing within {} s", START_LIMIT.as_secs()))),
    }
    match serde_json::from_slice(&word) {
        Ok(StartReport::Ready) => Ok(()),
        Ok(StartReport::Failed(failure)) => Err(failure),
        Err(_) => {
            let end = tokio::time::timeout(Duration::from_secs(1), child.wait()).await;
            let how = match end {
                Ok(Ok(status)) => status.to_string(),
                _ => "no word from it".to_owned(),
            };
            Err(speechless(settings, &how))
        }
    }
}

fn speechless(settings: &Settings, how: &str) -> Failure {
    let path = settings.home.log_file();
    let last = log::tail(&path, 1)
        .pop()
        .map(|line| format!("; the last line of its log: {line}"))
        .unwrap_or_default();
    Failure::new(ErrorKind::Unavailable, format!("the daemon did not start: {how}{last}"))
        .with_hint(format!("its log is {}; `samovar doctor` checks the rest", path.display()))
}
