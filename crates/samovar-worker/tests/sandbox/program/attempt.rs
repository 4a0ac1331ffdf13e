//! What a process may try.

#![allow(unsafe_code, reason = "what a model might do goes past every safe interface")]

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{SocketAddr, UnixDatagram, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use serde::{Deserialize, Serialize};

use crate::order::Account;
use crate::sweep::{self, Targets};

/// One thing to try.
#[allow(clippy::unsafe_derive_deserialize, reason = "its unsafe code relies on nothing in it")]
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Attempt {
    ConnectTcp(u16),
    ListenTcp,
    SendUdp(u16),
    ConnectUnix(PathBuf),
    ConnectAbstract(String),
    PairOfSockets,
    Run,
    Fork,
    /// Becomes another program, which says the account of a success; so it must come last.
    Replace,
    Read(PathBuf),
    Map(PathBuf),
    List(PathBuf),
    Create(PathBuf),
    Write(PathBuf),
    Truncate(PathBuf),
    Remove(PathBuf),
    Rename(PathBuf),
    ChangeMode(PathBuf),
    MakeFolder(PathBuf),
    Signal(u32),
    SignalItself,
    Attach(u32),
    ReadMemory(u32),
    /// Everything that is known to reach others, at these targets.
    Harm(Targets),
    /// Every system call that there is, with arguments of all kinds.
    Sweep(Targets),
    /// A call by the interface of 32-bit programs.
    OldInterface,
    /// A system call by its number, with arguments that make no sense.
    Call(String, i64),
    Environment,
    Descriptors,
    Folder,
    Threads(u32),
    Allocate(usize),
    /// Writes to the descriptor that it was started with.
    WriteGiven,
    /// Opens that descriptor's file once more.
    ReopenGiven,
    /// Opens a file that is only in memory by its path.
    ReopenMemory,
    /// Writes so many bytes to it.
    FillGiven(u64),
    /// Niceness, scheduling policy, class of input and output, and niceness of the session.
    Standing,
    OomScore,
    CoreBytes,
    /// How many of root's rights there are.
    Capabilities,
}

/// What came of an attempt.
#[allow(dead_code, reason = "each side uses its own half")]
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum AttemptResult {
    Done(String),
    Failed { errno: Option<i32>, message: String },
}

#[allow(dead_code, reason = "each side uses its own half")]
impl AttemptResult {
    pub(crate) fn is_ok(&self) -> bool {
        matches!(self, Self::Done(_))
    }

    pub(crate) fn errno(&self) -> Option<i32> {
        match self {
            Self::Done(_) => None,
            Self::Failed { errno, .. } => *errno,
        }
    }

    pub(crate) fn text(&self) -> &str {
        match self {
            Self::Done(text) => text,
            Self::Failed { message, .. } => panic!("it failed: {message}"),
        }
    }
}

impl Attempt {
    /// Tries it.
    pub(crate) fn outcome(&self) -> AttemptResult {
        match self.act() {
            Ok(text) => AttemptResult::Done(text),
            Err(error) => AttemptResult::Failed { errno: error.raw_os_error(), message: error.to_string() },
        }
    }

    fn act(&self) -> io::Result<String> {
        let done = || String::new();
        match self {
            Self::ConnectTcp(port) => TcpStream::connect(("127.0.0.1", *port)).map(|_| done()),
            Self::ListenTcp => TcpListener::bind("127.0.0.1:0").map(|_| done()),
            Self::SendUdp(port) => {
                UdpSocket::bind("127.0.0.1:0")?.send_to(b"out", ("127.0.0.1", *port)).map(|_| done())
            }
            Self::ConnectUnix(path) => UnixStream::connect(path).map(|_| done()),
            Self::ConnectAbstract(name) => {
                UnixStream::connect_addr(&SocketAddr::from_abstract_name(name)?).map(|_| done())
            }
            Self::PairOfSockets => UnixDatagram::pair().map(|_| done()),
            Self::Run => Command::new("/bin/true").status().map(|_| done()),
            Self::Fork => fork().map(|()| done()),
            Self::Replace => Err(replace()),
            Self::Read(path) => {
                let mut first = [0; 16];
                open(path).and_then(|mut file| file.read(&mut first)).map(|_| done())
            }
            Self::Map(path) => map(path).map(|()| done()),
            Self::List(path) => std::fs::read_dir(path).map(|entries| entries.count().to_string()),
            Self::Create(path) => File::create_new(path).map(|_| done()),
            Self::Write(path) => std::fs::OpenOptions::new().append(true).open(path).map(|_| done()),
            Self::Truncate(path) => truncate(path).map(|()| done()),
            Self::Remove(path) => std::fs::remove_file(path).map(|()| done()),
            Self::Rename(path) => std::fs::rename(path, path.with_extension("moved")).map(|()| done()),
            Self::ChangeMode(path) => {
                std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).map(|()| done())
            }
            Self::MakeFolder(path) => std::fs::create_dir(path).map(|()| done()),
            Self::Signal(pid) => signal(*pid).map(|()| done()),
            Self::SignalItself => signal(std::process::id()).map(|()| done()),
            Self::Attach(pid) => attach(*pid).map(|()| done()),
            Self::ReadMemory(pid) => read_memory(*pid).map(|()| done()),
            // SAFETY: arguments without meaning; nothing points anywhere.
            Self::Call(_, call) => check(unsafe { libc::syscall(*call, -1, 0, -1, 0, 0, 0) }).map(|_| done()),
            Self::Harm(targets) => Ok(serde_json::to_string(&sweep::targeted(targets))?),
            Self::Sweep(targets) => Ok(serde_json::to_string(&sweep::blind(targets)?)?),
            Self::OldInterface => {
                old_interface();
                Ok(done())
            }
            Self::Environment => {
                let lines = std::env::vars_os()
                    .map(|(name, value)| format!("{}={}", name.to_string_lossy(), value.to_string_lossy()));
                Ok(lines.collect::<Vec<_>>().join("\n"))
            }
            Self::Descriptors => Ok((3..64)
                // SAFETY: asks about a number.
                .filter(|fd| unsafe { libc::fcntl(*fd, libc::F_GETFD) } >= 0)
                .map(|fd| fd.to_string())
                .collect::<Vec<_>>()
                .join("\n")),
            Self::Folder => std::env::current_dir().map(|path| path.display().to_string()),
            Self::Threads(count) => {
                let threads: Vec<_> = (0..*count)
                    .map(|_| std::thread::Builder::new().spawn(|| ()))
                    .collect::<io::Result<_>>()?;
                for thread in threads {
                    thread.join().expect("it does nothing");
                }
                Ok(done())
            }
            Self::Allocate(bytes) => {
                let mut memory = Vec::<u8>::new();
                memory.try_reserve_exact(*bytes).map_err(|_| io::Error::from_raw_os_error(libc::ENOMEM))?;
                memory.resize(*bytes, 1);
                Ok(memory.iter().step_by(4096).map(|byte| usize::from(*byte)).sum::<usize>().to_string())
            }
            Self::WriteGiven => given()?.write_all(b"written").map(|()| done()),
            Self::FillGiven(bytes) => given()?.set_len(*bytes).map(|()| done()),
            Self::Standing => standing(),
            Self::ReopenGiven => open("/proc/self/fd/0".as_ref()).map(|_| done()),
            Self::ReopenMemory => {
                let path = format!("/proc/self/fd/{}", received().as_raw_fd());
                open(path.as_ref()).map(|_| done())
            }
            Self::OomScore => Ok(read("/proc/self/oom_score_adj")?.trim().to_owned()),
            Self::CoreBytes => {
                let limit = rustix::process::getrlimit(rustix::process::Resource::Core);
                Ok(limit.current.unwrap_or(u64::MAX).to_string())
            }
            Self::Capabilities => {
                let status = read("/proc/self/status")?;
                let line = status.lines().find_map(|line| line.strip_prefix("CapPrm:")).unwrap_or_default();
                let set = u64::from_str_radix(line.trim(), 16).map_err(io::Error::other)?;
                Ok(set.count_ones().to_string())
            }
        }
    }
}

/// A file that is only in memory, as a worker is handed an adapter; made before the sandbox is entered.
pub(crate) fn received() -> &'static OwnedFd {
    static RECEIVED: OnceLock<OwnedFd> = OnceLock::new();
    // Away from the numbers of what was inherited.
    const NUMBER: i32 = 100;
    RECEIVED.get_or_init(|| {
        let file =
            rustix::fs::memfd_create("copy", rustix::fs::MemfdFlags::CLOEXEC).expect("a file in memory");
        rustix::io::fcntl_dupfd_cloexec(&file, NUMBER).expect("a number")
    })
}

/// What the process was started with.
fn given() -> io::Result<File> {
    Ok(rustix::stdio::stdin().try_clone_to_owned()?.into())
}

fn read(path: &str) -> io::Result<String> {
    let mut text = String::new();
    open(path.as_ref())?.read_to_string(&mut text)?;
    Ok(text)
}

#[cfg(target_arch = "x86_64")]
fn old_interface() {
    const GETPID: i32 = 20;
    // SAFETY: asks for a number, if it comes back at all.
    unsafe { std::arch::asm!("int 0x80", inout("eax") GETPID => _) };
}

#[cfg(not(target_arch = "x86_64"))]
fn old_interface() {}

fn standing() -> io::Result<String> {
    const IOPRIO_WHO_PROCESS: libc::c_long = 1;
    const CLASS_SHIFT: u32 = 13;
    let nice = rustix::process::getpriority_process(None)?;
    // SAFETY: asks about this thread.
    let policy = check(unsafe { libc::sched_getscheduler(0) }.into())?;
    // SAFETY: asks about this thread.
    let priority = check(unsafe { libc::syscall(libc::SYS_ioprio_get, IOPRIO_WHO_PROCESS, 0) })?;
    // Such as `/autogroup-12 nice 19`; a kernel may be built without it.
    let session = read("/proc/self/autogroup").unwrap_or_default();
    let session = session.split_whitespace().next_back().unwrap_or("none");
    Ok(format!("{nice} {policy} {} {session}", priority >> CLASS_SHIFT))
}

/// With the bare number of the error, which is what the outcome is about.
fn open(path: &Path) -> io::Result<File> {
    File::options().read(true).open(path)
}

fn check(answer: libc::c_long) -> io::Result<libc::c_long> {
    if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(answer) }
}

fn fork() -> io::Result<()> {
    // SAFETY: the child does nothing but end.
    let child = check(unsafe { libc::fork() }.into())?;
    if child == 0 {
        // SAFETY: ends this process.
        unsafe { libc::_exit(0) };
    }
    // SAFETY: waits for the child that was made above.
    unsafe { libc::waitpid(child as libc::pid_t, std::ptr::null_mut(), 0) };
    Ok(())
}

/// Returns only when it failed; else the other program says that it was reached.
fn replace() -> io::Error {
    let account =
        Account { refused: None, report: None, outcomes: vec![AttemptResult::Done("replaced".to_owned())] };
    Command::new("/bin/echo").arg(account.line()).exec()
}

fn map(path: &Path) -> io::Result<()> {
    let file = open(path)?;
    let length = file.metadata()?.len() as usize;
    // SAFETY: a new private mapping, read only; the file does not change meanwhile.
    unsafe {
        let at =
            libc::mmap(std::ptr::null_mut(), length, libc::PROT_READ, libc::MAP_SHARED, file.as_raw_fd(), 0);
        if at == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        std::ptr::read_volatile(at.cast::<u8>());
        libc::munmap(at, length);
    }
    Ok(())
}

fn truncate(path: &Path) -> io::Result<()> {
    let name = std::ffi::CString::new(path.as_os_str().as_encoded_bytes()).expect("no zero in it");
    // SAFETY: a path that ends in zero.
    check(unsafe { libc::truncate(name.as_ptr(), 0) }.into()).map(|_| ())
}

fn signal(pid: u32) -> io::Result<()> {
    // SAFETY: signal 0 only asks.
    check(unsafe { libc::kill(pid.cast_signed(), 0) }.into()).map(|_| ())
}

fn attach(pid: u32) -> io::Result<()> {
    // SAFETY: seizes a process that this test owns, without stopping it, and leaves it again.
    unsafe {
        check(libc::ptrace(libc::PTRACE_SEIZE, pid.cast_signed(), 0, 0))?;
        libc::ptrace(libc::PTRACE_DETACH, pid.cast_signed(), 0, 0);
    }
    Ok(())
}

fn read_memory(pid: u32) -> io::Result<()> {
    let mut into = [0_u8; 1];
    let local = libc::iovec { iov_base: into.as_mut_ptr().cast(), iov_len: 1 };
    // Nothing is mapped there: allowed means "bad address", not success.
    let remote = libc::iovec { iov_base: std::ptr::without_provenance_mut(4096), iov_len: 1 };
    // SAFETY: writes one byte into `into` at most.
    let read =
        unsafe { libc::process_vm_readv(pid.cast_signed(), &raw const local, 1, &raw const remote, 1, 0) };
    match check(read as libc::c_long) {
        Err(error) if error.raw_os_error() == Some(libc::EFAULT) => Ok(()),
        other => other.map(|_| ()),
    }
}
