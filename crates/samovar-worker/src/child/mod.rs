//! The worker itself: one process, one model.
//!
//! ```text
//!   main thread    hello ─► sandbox ─► reads commands ─┬─► request_thread  render, tokenize, generate  (a few threads)
//!                                                      ├─► operation_thread  the job, park, resume, probe, files
//!                                                      └─► forwarder  every request's events ──► socket
//!                                                          heartbeat  every second, at rest every ten ─► socket
//!                                                          fence    what a chat template may use
//! ```
//!
//! It lives for one job: a model that is loaded and then serves, one that is prepared, or one whose weights are packed or
//! measured. When the parent goes away, by death or by closing the socket, it ends at once, whatever its engine is doing. It
//! opens nothing by itself but the model's files, and writes nothing but what it was handed and what it prepares.

mod courtesy;
mod cpu_clock;
mod fence;
mod forwarder;
mod frame_writer;
mod heartbeat;
mod instance_cell;
mod operation_thread;
mod request_thread;

use std::collections::{HashMap, VecDeque};
use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::process::{Signal, getpid, kill_process, set_parent_process_death_signal};
use samovar_core::port::{Engine, EngineId};
use samovar_core::{ErrorKind, Failure};

use self::courtesy::Courtesy;
use self::fence::Fence;
use self::forwarder::EventForwarder;
use self::frame_writer::FrameWriter;
use self::heartbeat::{HeartbeatTimer, Pace};
use self::instance_cell::InstanceCell;
use self::operation_thread::OperationThread;
use self::request_thread::RequestThread;
use crate::protocol::{self, Command, Hello, Inbox, Operation, Reply, Task, WorkerJob};
use crate::sandbox;

/// One look at the socket.
const READ_BYTES: usize = 64 << 10;

/// Is a worker until the parent says `Shutdown`; the process should end when this returns. Must be called while the
/// process has one thread. `engine` makes the engine that the parent names, once both have found that they are the same
/// program.
///
/// The parent's end is the end of this process, too, at once and without unwinding; so is a panic on any thread.
///
/// # Errors
/// `EngineFailed` when the parent is of another version; `Internal` when it says something that makes no sense.
pub fn run(
    socket: OwnedFd,
    engine: impl FnOnce(&EngineId) -> Result<Arc<dyn Engine>, Failure>,
) -> Result<(), Failure> {
    // The parent may have died before this call; then the socket says so.
    set_parent_process_death_signal(Some(Signal::KILL)).ok();
    die_of_panics();
    let mut frame_reader = FrameReader {
        socket,
        inbox: Inbox::default(),
        descriptors: VecDeque::new(),
        buffer: vec![0; READ_BYTES],
    };
    let instance_cell = Arc::<InstanceCell>::default();
    let outgoing = frame_reader.socket.try_clone().map_err(|error| broken(&error))?;
    let frame_writer = Arc::new(FrameWriter::new(outgoing, Arc::clone(&instance_cell)));
    frame_writer.greet(&Hello::ours());
    frame_reader.hello()?.check("the daemon")?;
    let (Command::Begin(worker_job), mut files) = frame_reader.command()? else {
        return Err(broken("the first command is no job"));
    };
    let prepared =
        engine(&worker_job.engine).and_then(|engine| Ok((engine, sandbox::enter(&plan(&worker_job))?)));
    match prepared {
        Ok((engine, report)) => {
            let pace = Pace {
                interval: Duration::from_millis(worker_job.heartbeat_ms.max(1)),
                rest: Duration::from_millis(worker_job.rest_heartbeat_ms.max(1)),
            };
            let job = operation_thread::Begin {
                engine,
                worker_job: *worker_job,
                into: files.pop().map(File::from),
                report,
            };
            serve(&mut frame_reader, &frame_writer, &instance_cell, job, pace)
        }
        Err(failure) => {
            frame_writer.say(&Reply::Failed(failure.into()));
            Ok(())
        }
    }
}

/// What this process keeps for its job.
fn plan(worker_job: &WorkerJob) -> sandbox::SandboxPolicy {
    let plan = sandbox::SandboxPolicy {
        memory_limit_bytes: worker_job.memory_limit_bytes,
        written_limit_bytes: Some(worker_job.written_limit_bytes),
        is_background: worker_job.task.is_in_background(),
        ..sandbox::SandboxPolicy::reading(
            worker_job.sandbox,
            worker_job.files.iter().map(|(_, path)| path_of(path)),
        )
    };
    let plan = match &worker_job.packed {
        Some(packed) => plan.and_reading(path_of(&packed.path)),
        None => plan,
    };
    match &worker_job.task {
        Task::Prepare(preparation) => {
            let writable = path_of(&preparation.target).parent().map(Path::to_owned);
            sandbox::SandboxPolicy { writable, listable: Some(path_of(&preparation.folder)), ..plan }
        }
        _ => plan,
    }
}

fn path_of(bytes: &[u8]) -> PathBuf {
    PathBuf::from(OsStr::from_bytes(bytes))
}

/// Does its job, and what the parent says until it says `Shutdown`.
fn serve(
    frame_reader: &mut FrameReader,
    frame_writer: &Arc<FrameWriter>,
    instance_cell: &Arc<InstanceCell>,
    job: operation_thread::Begin,
    pace: Pace,
) -> Result<(), Failure> {
    let (forwarder, forwarding) = EventForwarder::start(Arc::clone(frame_writer), Arc::clone(instance_cell))?;
    let fence = Fence::start(Arc::clone(frame_writer))?;
    let request_thread = RequestThread::start(
        Arc::clone(frame_writer),
        Arc::clone(&forwarder),
        Arc::clone(instance_cell),
        fence,
    )?;
    let courtesy = Arc::<Courtesy>::default();
    let operation_thread =
        OperationThread::start(Arc::clone(frame_writer), Arc::clone(instance_cell), Arc::clone(&courtesy))?;
    operation_thread.begin(job)?;
    let heartbeat_timer = {
        let (forwarder, unfinished) = (Arc::clone(&forwarder), operation_thread.unfinished());
        let has_work = move || forwarder.has_requests() || unfinished.load(Ordering::Acquire) > 0;
        HeartbeatTimer::start(Arc::clone(frame_writer), Arc::clone(instance_cell), pace, has_work)?
    };
    let adapters = Adapters::default();
    loop {
        match frame_reader.command()? {
            (Command::Generate { id, request }, _) => {
                forwarder.accept(id);
                match request.open(|number| adapters.path_of(number)) {
                    Ok(request) => request_thread.generate(id, request),
                    Err(failure) => forwarder.fail(id, failure),
                }
            }
            (Command::Embed { id, request }, _) => {
                forwarder.accept(id);
                request_thread.embed(id, request);
            }
            (Command::Cancel { id }, _) => forwarder.cancel(id),
            (Command::Adapter { number }, mut files) => adapters.keep(number, files.pop()),
            (Command::ForgetAdapters { numbers }, _) => adapters.forget(&numbers),
            (Command::Cores(cores), _) => instance_cell.share_cores(cores),
            (Command::GiveWay(gives_way), _) => courtesy.give_way(gives_way),
            (Command::Operate { id, operation }, mut files) => match operation {
                Operation::Encode { .. }
                | Operation::Tokenize { .. }
                | Operation::Detokenize { .. }
                | Operation::Render { .. }
                | Operation::Count { .. } => {
                    forwarder.accept(id);
                    request_thread.operate(id, operation);
                }
                _ => operation_thread.operate(id, operation, files.pop().map(File::from))?,
            },
            (Command::Shutdown, _) => break,
            (Command::Begin(_), _) => return Err(broken("a second job")),
        }
        heartbeat_timer.stir();
    }
    forwarder.end(forwarding);
    request_thread.end();
    operation_thread.end();
    drop(instance_cell.take());
    Ok(())
}

/// What the parent says.
struct FrameReader {
    socket: OwnedFd,
    inbox: Inbox,
    /// Arrived, and not yet claimed by a command.
    descriptors: VecDeque<OwnedFd>,
    buffer: Vec<u8>,
}

impl FrameReader {
    fn hello(&mut self) -> Result<Hello, Failure> {
        loop {
            if let Some(frame) = self.inbox.take().map_err(|error| broken(&error))? {
                return Hello::decode(frame).map_err(|error| broken(&error));
            }
            self.listen();
        }
    }

    /// The next command and its descriptors.
    fn command(&mut self) -> Result<(Command, Vec<OwnedFd>), Failure> {
        loop {
            if let Some(frame) = self.inbox.take().map_err(|error| broken(&error))? {
                let command: Command = protocol::decode(frame).map_err(|error| broken(&error))?;
                let wanted = command.descriptors();
                if self.descriptors.len() < wanted {
                    return Err(broken("a command came without its file"));
                }
                return Ok((command, self.descriptors.drain(..wanted).collect()));
            }
            self.listen();
        }
    }

    /// Waits for more; does not return when the parent has gone.
    fn listen(&mut self) {
        match protocol::receive(&self.socket, &mut self.buffer) {
            Ok(received) if received.bytes > 0 => {
                self.inbox.put(&self.buffer[..received.bytes]);
                self.descriptors.extend(received.descriptors);
            }
            Ok(_) | Err(_) => vanish(),
        }
    }
}

/// Files of adapters, by the numbers that the parent gave them. They stay open: engines open them by path.
#[derive(Default)]
struct Adapters {
    files: Mutex<HashMap<u64, OwnedFd>>,
}

impl Adapters {
    fn keep(&self, number: u64, file: Option<OwnedFd>) {
        if let Some(file) = file {
            lock(&self.files).insert(number, file);
        }
    }

    fn forget(&self, numbers: &[u64]) {
        let mut files = lock(&self.files);
        for number in numbers {
            files.remove(number);
        }
    }

    fn path_of(&self, number: u64) -> Option<PathBuf> {
        use std::os::fd::AsRawFd;
        let descriptor = lock(&self.files).get(&number)?.as_raw_fd();
        Some(PathBuf::from(format!("/proc/self/fd/{descriptor}")))
    }
}

/// Ends this process at once, native threads and all.
fn vanish() -> ! {
    kill_process(getpid(), Signal::KILL).ok();
    std::process::abort()
}

/// A panic says why, in one line, and then the process ends: the parent knows what to do about that.
fn die_of_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let payload = panic.payload();
        let why = payload.downcast_ref::<&str>().copied();
        let why = why.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("no reason");
        let place = panic.location().map(|place| format!(" ({place})")).unwrap_or_default();
        let line = format!("panicked at: {}{place}\n", why.replace('\n', " "));
        rustix::io::write(rustix::stdio::stderr(), line.as_bytes()).ok();
        std::process::abort();
    }));
}

fn broken(what: impl std::fmt::Display) -> Failure {
    Failure::new(ErrorKind::Internal, format!("the daemon cannot be understood: {what}"))
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn thread(name: &str, work: impl FnOnce() + Send + 'static) -> Result<std::thread::JoinHandle<()>, Failure> {
    std::thread::Builder::new().name(name.to_owned()).spawn(work).map_err(|error| {
        Failure::new(ErrorKind::EngineFailed, format!("the worker could not start a thread: {error}"))
    })
}
