//! One worker as the daemon holds it: how it is told things, and how it is let go.

use std::os::fd::OwnedFd;
use std::process::Child;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use rustix::event::{EventfdFlags, eventfd};
use samovar_core::{ErrorKind, Failure};

use super::appetite::Expected;
use super::books::Books;
use super::keeper::{Ears, Keeper};
use super::line::Line;
use super::published::{Progress, Published};
use super::roll::{Roll, Stage};
use super::scales::Scales;
use super::sharing::Sharing;
use super::spawner::{Spawned, Spawner};
use super::tally::Tally;
use crate::config::{Patience, WorkerConfig};
use crate::protocol::{self, Command, FrameError, Hello};
use crate::sandbox;

/// One worker. Dropping it tells the worker to leave, ends it if it does not, and returns when it is gone.
#[derive(Debug)]
pub(super) struct Worker {
    shared: Arc<Shared>,
    keeper: Option<JoinHandle<()>>,
    /// Ends after the worker: the worker would end with it.
    _spawner: Arc<Spawner>,
}

/// What every worker of an engine comes from.
#[derive(Debug)]
pub(super) struct Ground {
    pub(super) config: Arc<WorkerConfig>,
    pub(super) spawner: Arc<Spawner>,
    pub(super) tally: Arc<Tally>,
    pub(super) sharing: Arc<Sharing>,
}

/// What the keeper and everybody else know together.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) roll: Roll,
    pub(super) published: Published,
    /// What its model explains.
    pub(super) expected: Expected,
    pub(super) progress: Progress,
    pub(super) pid: u32,
    /// What it is there for, in words that follow "while it".
    pub(super) deed: &'static str,
    pub(super) line: Line,
    pub(super) bell: OwnedFd,
    pub(super) is_leaving: AtomicBool,
    pub(super) is_killed: AtomicBool,
}

impl Shared {
    /// A worker that is just being started, at the other end of this socket.
    ///
    /// # Errors
    /// `EngineFailed` when there is no descriptor left.
    pub(super) fn new(pid: u32, deed: &'static str, socket: Arc<OwnedFd>) -> Result<Self, Failure> {
        let bell = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
            .map_err(|error| failed("descriptor", &error))?;
        Ok(Self {
            roll: Roll::new(),
            published: Published::default(),
            expected: Expected::default(),
            progress: Progress::default(),
            pid,
            deed,
            line: Line::new(socket),
            bell,
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
        if self.line.send(frame, files)? {
            self.ring();
        }
        Ok(())
    }

    /// Makes the keeper look.
    fn ring(&self) {
        // A bell that rings already is heard all the same.
        rustix::io::write(&self.bell, &1_u64.to_ne_bytes()).ok();
    }
}

impl Worker {
    /// Starts a worker and greets it. The errand, which is for the caller to ask for, is answered by one word.
    pub(super) fn start(
        ground: &Ground,
        deed: &'static str,
        patience: Patience,
        ears: Ears,
    ) -> Result<Self, Failure> {
        let Spawned { child, socket } = ground.spawner.spawn(&ground.config)?;
        let mut burden = Some(child);
        Self::adopt(ground, deed, patience, ears, &mut burden, socket).inspect_err(|_| {
            if let Some(mut child) = burden {
                child.kill().ok();
                child.wait().ok();
            }
        })
    }

    fn adopt(
        ground: &Ground,
        deed: &'static str,
        patience: Patience,
        ears: Ears,
        child: &mut Option<Child>,
        socket: OwnedFd,
    ) -> Result<Self, Failure> {
        let pid = child.as_ref().map(Child::id).unwrap_or_default();
        // Before it is told what to do, and with that to close itself to inspection.
        let books = Books::open(pid).inspect_err(|error| {
            tracing::warn!(pid, "the kernel does not tell what a worker takes: {error}");
        });
        let scales = Scales::new(books.ok(), ground.config.sandbox != sandbox::Mode::Off);
        let socket = Arc::new(socket);
        let shared = Arc::new(Shared::new(pid, deed, Arc::clone(&socket))?);
        // What a worker that died at once does not hear, its keeper tells.
        shared.line.send(Hello::ours().encode(), Vec::new())?;
        let builder = std::thread::Builder::new().name(format!("worker {pid}"));
        let (handed, taken) = std::sync::mpsc::sync_channel::<Child>(1);
        let keeper = {
            let (shared, tally) = (Arc::clone(&shared), Arc::clone(&ground.tally));
            builder.spawn(move || {
                if let Ok(child) = taken.recv() {
                    Keeper::new(shared, child, socket, patience, tally, ears, scales).keep();
                }
            })
        };
        let keeper = keeper.map_err(|error| failed("thread", &error))?;
        if let Some(child) = child.take() {
            handed.send(child).ok();
        }
        Ok(Self { shared, keeper: Some(keeper), _spawner: Arc::clone(&ground.spawner) })
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
        self.shared.roll.serve()
    }

    /// Ends it without a word.
    pub(super) fn kill(&self) {
        self.shared.is_killed.store(true, Ordering::Release);
        self.shared.ring();
    }

    /// What everybody hears of a worker that is gone.
    pub(super) fn ended(&self) -> Failure {
        match self.shared.roll.stage() {
            Stage::Ended(failure) => failure,
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
        self.shared.roll.leave();
        self.shared.tell(&Command::Shutdown, Vec::new()).ok();
        self.shared.is_leaving.store(true, Ordering::Release);
        self.shared.ring();
        if let Some(keeper) = self.keeper.take()
            && keeper.thread().id() != std::thread::current().id()
        {
            // A panic there has been reported already.
            keeper.join().ok();
        }
    }
}
