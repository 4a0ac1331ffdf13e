//! One worker as the daemon holds it: how it is told things, and how it is let go.

use std::os::fd::OwnedFd;
use std::process::Child;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use rustix::event::{EventfdFlags, eventfd};
use samovar_core::{ErrorKind, Failure};

use super::memory_watch::Expected;
use super::outbox::Outbox;
use super::pending_calls::{PendingCalls, WorkerPhase};
use super::proc_files::ProcFiles;
use super::published::{Progress, Published};
use super::scales::Scales;
use super::sharing::Sharing;
use super::spawner::{Spawned, Spawner};
use super::supervisor::{ExitHandlers, Supervisor};
use super::tally::Tally;
use crate::config::{Timeouts, WorkerConfig};
use crate::protocol::{self, Command, FrameError, Hello};
use crate::sandbox;

/// One worker. Dropping it tells the worker to leave, ends it if it does not, and returns when it is gone.
#[derive(Debug)]
pub(super) struct Worker {
    shared: Arc<Shared>,
    supervisor: Option<JoinHandle<()>>,
    /// Ends after the worker: the worker would end with it.
    _spawner: Arc<Spawner>,
}

/// What every worker of an engine comes from.
#[derive(Debug)]
pub(super) struct WorkerContext {
    pub(super) config: Arc<WorkerConfig>,
    pub(super) spawner: Arc<Spawner>,
    pub(super) tally: Arc<Tally>,
    pub(super) sharing: Arc<Sharing>,
}

/// What the supervisor shares with all others.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) pending_calls: PendingCalls,
    pub(super) published: Published,
    /// What its model explains.
    pub(super) expected: Expected,
    pub(super) progress: Progress,
    pub(super) pid: u32,
    /// What it is there for, in words that follow "while it".
    pub(super) activity: &'static str,
    pub(super) outbox: Outbox,
    pub(super) wakeup: OwnedFd,
    /// The supervisor looks now and then only, until the worker is told something.
    pub(super) is_at_rest: AtomicBool,
    pub(super) is_leaving: AtomicBool,
    pub(super) is_killed: AtomicBool,
}

impl Shared {
    /// A worker that is just being started, at the other end of this socket.
    ///
    /// # Errors
    /// `EngineFailed` when there is no descriptor left.
    pub(super) fn new(pid: u32, activity: &'static str, socket: Arc<OwnedFd>) -> Result<Self, Failure> {
        let wakeup = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
            .map_err(|error| failed("descriptor", &error))?;
        Ok(Self {
            pending_calls: PendingCalls::new(),
            published: Published::default(),
            expected: Expected::default(),
            progress: Progress::default(),
            pid,
            activity,
            outbox: Outbox::new(socket),
            wakeup,
            is_at_rest: AtomicBool::new(false),
            is_leaving: AtomicBool::new(false),
            is_killed: AtomicBool::new(false),
        })
    }

    /// Sends a command with these files. Waits for nothing.
    pub(super) fn tell(&self, command: &Command, files: Vec<OwnedFd>) -> Result<(), Failure> {
        let frame = protocol::encode(command).map_err(|error| match error {
            FrameError::TooLarge { .. } => {
                Failure::new(ErrorKind::InvalidRequest, format!("the request is too large: {error}"))
                    .with_hint("no model reads a prompt of so many bytes: send less")
            }
            FrameError::Malformed(_) | FrameError::TextTooLong { .. } => {
                Failure::new(ErrorKind::Internal, error.to_string())
            }
        })?;
        let is_waiting = self.outbox.send(frame, files)?;
        if self.is_at_rest.swap(false, Ordering::AcqRel) || is_waiting {
            self.ring();
        }
        Ok(())
    }

    /// Makes the supervisor look.
    fn ring(&self) {
        // A wakeup that is pending already is heard all the same.
        rustix::io::write(&self.wakeup, &1_u64.to_ne_bytes()).ok();
    }
}

impl Worker {
    /// Starts a worker and greets it. The job, which is for the caller to ask for, is answered by one result.
    pub(super) fn start(
        worker_context: &WorkerContext,
        activity: &'static str,
        timeouts: Timeouts,
        exit_handlers: ExitHandlers,
    ) -> Result<Self, Failure> {
        let Spawned { child, socket } = worker_context.spawner.spawn(&worker_context.config)?;
        let mut burden = Some(child);
        Self::adopt(worker_context, activity, timeouts, exit_handlers, &mut burden, socket).inspect_err(
            |_| {
                if let Some(mut child) = burden {
                    child.kill().ok();
                    child.wait().ok();
                }
            },
        )
    }

    fn adopt(
        worker_context: &WorkerContext,
        activity: &'static str,
        timeouts: Timeouts,
        exit_handlers: ExitHandlers,
        child: &mut Option<Child>,
        socket: OwnedFd,
    ) -> Result<Self, Failure> {
        let pid = child.as_ref().map(Child::id).unwrap_or_default();
        // Before it is told what to do, and with that to close itself to inspection.
        let proc_files = ProcFiles::open(pid).inspect_err(|error| {
            tracing::warn!(pid, "the kernel does not tell what a worker takes: {error}");
        });
        let scales = Scales::new(proc_files.ok(), worker_context.config.sandbox != sandbox::Mode::Off);
        let socket = Arc::new(socket);
        let shared = Arc::new(Shared::new(pid, activity, Arc::clone(&socket))?);
        // What a worker that died at once does not hear, its supervisor tells.
        shared.outbox.send(Hello::ours().encode(), Vec::new())?;
        let builder = std::thread::Builder::new().name(format!("worker {pid}"));
        let (handed, taken) = std::sync::mpsc::sync_channel::<Child>(1);
        let supervisor = {
            let (shared, tally) = (Arc::clone(&shared), Arc::clone(&worker_context.tally));
            builder.spawn(move || {
                if let Ok(child) = taken.recv() {
                    Supervisor::new(shared, child, socket, timeouts, tally, exit_handlers, scales).keep();
                }
            })
        };
        let supervisor = supervisor.map_err(|error| failed("thread", &error))?;
        if let Some(child) = child.take() {
            handed.send(child).ok();
        }
        Ok(Self { shared, supervisor: Some(supervisor), _spawner: Arc::clone(&worker_context.spawner) })
    }

    pub(super) fn pid(&self) -> u32 {
        self.shared.pid
    }

    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// As [`Shared::tell`].
    pub(super) fn tell(&self, command: &Command, files: Vec<OwnedFd>) -> Result<(), Failure> {
        self.shared.tell(command, files)
    }

    /// The load is over; a death is news from now on.
    ///
    /// # Errors
    /// When it has died meanwhile.
    pub(super) fn serve(&self) -> Result<(), Failure> {
        self.shared.pending_calls.serve()
    }

    /// Ends it without a word.
    pub(super) fn kill(&self) {
        self.shared.is_killed.store(true, Ordering::Release);
        self.shared.ring();
    }

    /// What callers hear of a worker that is gone.
    pub(super) fn ended(&self) -> Failure {
        match self.shared.pending_calls.phase() {
            WorkerPhase::Ended(failure) => failure,
            _ => Failure::new(ErrorKind::Unavailable, "the worker is gone"),
        }
    }
}

fn failed(what: &str, error: &dyn std::fmt::Display) -> Failure {
    Failure::new(ErrorKind::EngineFailed, format!("no {what} for a worker: {error}"))
        .with_hint("the system may be out of threads, descriptors or memory")
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.shared.pending_calls.leave();
        self.shared.tell(&Command::Shutdown, Vec::new()).ok();
        self.shared.is_leaving.store(true, Ordering::Release);
        self.shared.ring();
        if let Some(supervisor) = self.supervisor.take()
            && supervisor.thread().id() != std::thread::current().id()
        {
            // A panic there has been reported already.
            supervisor.join().ok();
        }
    }
}
