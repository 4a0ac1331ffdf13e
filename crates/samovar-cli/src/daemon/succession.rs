//! How a daemon comes to its place: it is free, or is left by one that goes, or is taken over from one that `run` started.
//!
//! ```text
//!   lock free ─────────────────────────────────────────────► ours
//!   held, socket silent ───── it leaves ──────── wait ─────► ours
//!   held by `run`'s daemon ── could we serve? ─ drain ─────► ours, and the same models are loaded again
//!                                └ no ─────────────────────► refused, and that daemon serves on
//!   held by a person's daemon, or we are `run`'s ──────────► refused
//! ```
//!
//! The daemon that takes over holds the start lock meanwhile, so that no `run` starts another daemon in between.

use std::net::SocketAddr;
use std::time::Duration;

use samovar::ModelState;
use samovar_core::{ErrorKind, Failure};
use samovar_server::admin::wire::ShutdownBody;

use super::{lock, start};
use crate::client::{Client, Connection, Figures};
use crate::settings::Settings;

/// How long a daemon may take to end after its requests have.
const LEAVING: Duration = Duration::from_secs(10);

/// The place of the daemon, and what comes with it.
pub(super) struct Handover {
    /// Held for the daemon's life.
    pub(super) lock: lock::Lock,
    /// Held until others can connect, when the place was taken over.
    pub(super) starting: Option<lock::Lock>,
    /// Models that the daemon before this one held.
    pub(super) inherited: Vec<Inherited>,
}

/// A model that is to be loaded again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Inherited {
    pub(super) model: String,
    pub(super) is_pinned: bool,
}

/// What a daemon told about itself before it was asked to leave.
#[derive(Default)]
struct Predecessor {
    /// Models that it holds.
    models: Vec<Inherited>,
    /// Where it listens for HTTP.
    listen: Option<SocketAddr>,
}

/// Takes the daemon's place. `check` runs before another daemon is told to leave, with the address that the other one will give
/// up: if it fails, the other daemon stays.
///
/// # Errors
/// `Unavailable` when another daemon has it and keeps it; any error of `check`.
pub(super) async fn take(
    settings: &Settings,
    in_background: bool,
    check: impl AsyncFnOnce(Option<SocketAddr>) -> Result<(), Failure>,
) -> Result<Handover, Failure> {
    let path = lock::daemon_lock(&settings.socket);
    if let Some(lock) = lock::Lock::try_take(&path)? {
        return Ok(Handover { lock, starting: None, inherited: Vec::new() });
    }
    let (mut starting, mut inherited) = (None, Vec::new());
    let client = Client::new(settings.socket.clone());
    if client.connect().await?.is_some() {
        let replaceable = || {
            let holder = lock::holder(&path).filter(|holder| holder.in_background && !in_background);
            holder.ok_or_else(|| lock::occupied(&settings.socket))
        };
        replaceable()?;
        starting = start::alone(settings).await.map(Some)?;
        // The process that held the start lock before may be a person's daemon by now.
        let holder = replaceable()?;
        let before = ask(&client).await;
        check(before.listen).await?;
        send_away(&client, holder.pid, settings.grace, before.models.len()).await?;
        inherited = before.models;
    }
    tracing::info!("waiting for the previous daemon to exit");
    let lock = lock::Lock::take(&path, settings.grace + LEAVING).await?;
    let lock = lock.ok_or_else(|| lock::occupied(&settings.socket))?;
    Ok(Handover { lock, starting, inherited })
}

/// Asks the daemon in the background about itself. What it holds is a kindness; that it leaves is what counts.
async fn ask(client: &Client) -> Predecessor {
    told(client).await.unwrap_or_else(|failure| {
        tracing::warn!("could not ask the previous daemon for its models: {failure}");
        Predecessor::default()
    })
}

/// Asks the daemon in the background to leave once its requests have ended, within the time that we wait for it.
async fn send_away(client: &Client, pid: u32, grace: Duration, models: usize) -> Result<(), Failure> {
    let Some(connection) = client.connect().await? else { return Ok(()) };
    match connection.shutdown(&ShutdownBody { grace_ms: Some(grace.as_millis() as u64) }).await {
        Ok(answer) => tracing::info!(
            pid,
            requests = answer.requests_in_flight,
            models,
            "taking over from the daemon that `samovar run` started; it finishes its requests first"
        ),
        // It was leaving already.
        Err(failure) if failure.kind == ErrorKind::Unavailable => {}
        Err(failure) => return Err(failure),
    }
    Ok(())
}

async fn told(client: &Client) -> Result<Predecessor, Failure> {
    let Some(connection) = client.connect().await? else { return Ok(Predecessor::default()) };
    let figures = Figures::read(&connection.stats().await?)?;
    let known = match client.connect().await? {
        Some(connection) => Connection::models(connection).await?.models,
        None => Vec::new(),
    };
    let held = figures.models.into_iter().filter(|model| model.is_pinned || is_held(&model.state));
    let models = held
        .map(|model| {
            // A file that its owner named once is known to the next daemon by its path alone.
            let file = known.iter().find(|info| info.name == model.name && info.kind == samovar::Kind::File);
            let name = file.map_or(model.name, |info| info.path.to_string_lossy().into_owned());
            Inherited { model: name, is_pinned: model.is_pinned }
        })
        .collect();
    Ok(Predecessor { models, listen: figures.listen.and_then(|address| address.parse().ok()) })
}

/// Whether the other daemon holds a model in this state. A state that only another version knows is none.
fn is_held(state: &str) -> bool {
    serde_json::from_value::<ModelState>(state.into()).is_ok_and(ModelState::is_held)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_in_memory_or_on_their_way_there_are_held() {
        for state in ["waiting", "loading", "ready", "busy", "parking", "parked", "resuming"] {
            assert!(is_held(state), "{state}");
        }
        for state in ["absent", "draining", "unloading", "failed", "unknown", ""] {
            assert!(!is_held(state), "{state}");
        }
    }
}
