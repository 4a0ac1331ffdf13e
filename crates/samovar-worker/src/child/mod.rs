//! The worker itself: one process, one model.
//!
//! ```text
//!   main thread    hello ─► sandbox ─► reads commands ─┬─► desk     render, tokenize, generate  (a few threads)
//!                                                      ├─► bench    the errand, park, resume, probe, files
//!                                                      └─► pump     every request's events ──► socket
//!                                                          pulse    a beat every second ─────► socket
//!                                                          fence    what a chat template may use
//! ```
//!
//! It lives for one errand: a model that is loaded and then serves, or one whose weights are packed or measured. When the parent goes away, by death or by closing the socket, it ends at once, whatever its
//! engine is doing. It opens nothing by itself but the model's files, and writes nothing but what it was handed.

mod bench;
mod courtesy;
mod cpu_clock;
mod desk;
mod fence;
mod mouth;
mod pulse;
mod pump;
mod seat;

use std::collections::{HashMap, VecDeque};
use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::process::{Signal, getpid, kill_process, set_parent_process_death_signal};
use samovar_core::port::Engine;
use samovar_core::{ErrorKind, Failure};

use self::bench::Bench;
use self::courtesy::Courtesy;
use self::desk::Desk;
use self::fence::Fence;
use self::mouth::Mouth;
use self::pump::Pump;
use self::seat::Seat;
use crate::protocol::{self, Command, Errand, Hello, Inbox, Operation, Reply};
use crate::sandbox;

/// One look at the socket.
const READ_BYTES: usize = 64 << 10;

/// Is a worker until the parent says `Shutdown`; the process should end when this returns. Must be called while the
/// process has one thread. `engine` is made once parent and child have found that they are the same program.
///
/// The parent's end is the end of this process, too, at once and without unwinding; so is a panic on any thread.
///
/// # Errors
/// `EngineFailed` when the parent is of another version; `Internal` when it says something that makes no sense.
pub fn run(
    socket: OwnedFd,
    engine: impl FnOnce() -> Result<Arc<dyn Engine>, Failure>,
) -> Result<(), Failure> {
    // The parent may have died before this call; then the socket says so.
    set_parent_process_death_signal(Some(Signal::KILL)).ok();
    die_of_panics();
    let mut ear =
        Ear { socket, inbox: Inbox::default(), descriptors: VecDeque::new(), buffer: vec![0; READ_BYTES] };
    let seat = Arc::<Seat>::default();
    let outgoing = ear.socket.try_clone().map_err(|error| broken(&error))?;
    let mouth = Arc::new(Mouth::new(outgoing, Arc::clone(&seat)));
    mouth.greet(&Hello::ours());
    ear.hello()?.check("the daemon")?;
    let (Command::Begin(errand), mut files) = ear.command()? else {
        return Err(broken("the first command is no errand"));
    };
    let prepared = engine().and_then(|engine| Ok((engine, sandbox::enter(&plan(&errand))?)));
    match prepared {
        Ok((engine, report)) => {
            let beat = Duration::from_millis(errand.beat_ms.max(1));
            let job = bench::Begin { engine, errand: *errand, into: files.pop().map(File::from), report };
            serve(&mut ear, &mouth, &seat, job, beat)
        }
        Err(failure) => {
            mouth.say(&Reply::Failed(failure.into()));
            Ok(())
        }
    }
}

/// What this process keeps for its errand.
fn plan(errand: &Errand) -> sandbox::Plan {
    let plan = sandbox::Plan {
        memory_limit_bytes: errand.memory_limit_bytes,
        written_limit_bytes: Some(errand.written_limit_bytes),
        is_background: errand.task.is_in_background(),
        ..sandbox::Plan::reading(errand.sandbox, &path_of(&errand.path))
    };
    match &errand.packed {
        Some(packed) => plan.and_reading(path_of(&packed.path)),
        None => plan,
    }
}

fn path_of(bytes: &[u8]) -> PathBuf {
    PathBuf::from(OsStr::from_bytes(bytes))
}

/// Does its errand, and what the parent says until it says `Shutdown`.
fn serve(
    ear: &mut Ear,
    mouth: &Arc<Mouth>,
    seat: &Arc<Seat>,
    job: bench::Begin,
    beat: Duration,
) -> Result<(), Failure> {
    pulse::start(Arc::clone(mouth), Arc::clone(seat), beat)?;
    let (pump, pumping) = Pump::start(Arc::clone(mouth), Arc::clone(seat))?;
    let fence = Fence::start(Arc::clone(mouth))?;
    let desk = Desk::start(Arc::clone(mouth), Arc::clone(&pump), Arc::clone(seat), fence)?;
    let courtesy = Arc::<Courtesy>::default();
    let bench = Bench::start(Arc::clone(mouth), Arc::clone(seat), Arc::clone(&courtesy))?;
    bench.begin(job)?;
    let adapters = Adapters::default();
    loop {
        match ear.command()? {
            (Command::Generate { id, request }, _) => {
                pump.accept(id);
                match request.open(|number| adapters.path_of(number)) {
                    Ok(request) => desk.generate(id, request),
                    Err(failure) => pump.fail(id, failure),
                }
            }
            (Command::Cancel { id }, _) => pump.cancel(id),
            (Command::Adapter { number }, mut files) => adapters.keep(number, files.pop()),
            (Command::ForgetAdapters { numbers }, _) => adapters.forget(&numbers),
            (Command::Cores(cores), _) => seat.share_cores(cores),
            (Command::GiveWay(gives_way), _) => courtesy.give_way(gives_way),
            (Command::Operate { id, operation }, mut files) => match operation {
                Operation::Encode { .. } | Operation::Tokenize { .. } | Operation::Detokenize { .. } => {
                    pump.accept(id);
                    desk.operate(id, operation);
                }
                _ => bench.operate(id, operation, files.pop().map(File::from))?,
            },
            (Command::Shutdown, _) => break,
            (Command::Begin(_), _) => return Err(broken("a second errand")),
        }
    }
    pump.end(pumping);
    desk.end();
    bench.end();
    drop(seat.take());
    Ok(())
}

/// What the parent says.
struct Ear {
    socket: OwnedFd,
    inbox: Inbox,
    /// Arrived, and not yet claimed by a command.
    descriptors: VecDeque<OwnedFd>,
    buffer: Vec<u8>,
}

impl Ear {
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

    /// Waits for more; does not return when there is nobody left to hear.
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
