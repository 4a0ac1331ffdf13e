//! The one thread that starts workers: the kernel ends a worker when the *thread* that started it ends, so this one
//! lives as long as any of them.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use samovar_core::{ErrorKind, Failure};

use crate::config::WorkerConfig;
use crate::{protocol, sandbox};

/// What `ps` and `top` show.
const PROCESS_NAME: &str = "samovar";
/// Starts on their way.
const JOBS: usize = 16;

struct Job {
    config: Arc<WorkerConfig>,
    reply: SyncSender<io::Result<Spawned>>,
}

/// A worker that was just started.
#[derive(Debug)]
pub(super) struct Spawned {
    pub(super) child: Child,
    pub(super) socket: OwnedFd,
}

/// Starts workers.
#[derive(Debug)]
pub(super) struct Spawner {
    jobs: SyncSender<Job>,
}

impl Spawner {
    pub(super) fn start() -> Result<Self, Failure> {
        let (jobs, todo) = sync_channel(JOBS);
        std::thread::Builder::new().name("spawner".to_owned()).spawn(move || work(&todo)).map_err(
            |error| Failure::new(ErrorKind::EngineFailed, format!("no thread to start workers: {error}")),
        )?;
        Ok(Self { jobs })
    }

    /// Starts a worker.
    pub(super) fn spawn(&self, config: &Arc<WorkerConfig>) -> Result<Spawned, Failure> {
        let (reply, spawned) = sync_channel(1);
        let job = Job { config: Arc::clone(config), reply };
        let gone = || io::Error::other("the thread for it is gone");
        let outcome = self.jobs.send(job).map_err(|_| gone()).and_then(|()| match spawned.recv() {
            Ok(outcome) => outcome,
            Err(_) => Err(gone()),
        });
        outcome.map_err(|error| failed(config, &error))
    }
}

fn failed(config: &WorkerConfig, error: &io::Error) -> Failure {
    let message = format!("a worker could not be started from {}: {error}", config.program.display());
    let hint = match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied => {
            "the program must be there, and be allowed to run: reinstall samovar, then `samovar shutdown` lets the \
             next run start it"
        }
        _ => "the system may be out of processes, descriptors or memory",
    };
    Failure::new(ErrorKind::EngineFailed, message).with_hint(hint)
}

fn work(todo: &Receiver<Job>) {
    while let Ok(Job { config, reply }) = todo.recv() {
        if let Err(unheard) = reply.send(spawn(&config))
            && let Ok(mut spawned) = unheard.0
        {
            spawned.child.kill().ok();
            spawned.child.wait().ok();
        }
    }
}

/// The worker's end of the socket is its standard input.
fn spawn(config: &WorkerConfig) -> io::Result<Spawned> {
    let (ours, theirs) = protocol::pair()?;
    let mut command = Command::new(&config.program);
    command.arg0(PROCESS_NAME).args(&config.args);
    sandbox::prepare(&mut command);
    command
        .envs(config.environment.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::from(theirs))
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    Ok(Spawned { child: command.spawn()?, socket: ours })
}
