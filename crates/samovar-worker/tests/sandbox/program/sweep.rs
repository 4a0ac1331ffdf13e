//! Every system call that there is, and some that there are not yet, with arguments that would do harm.
//!
//! ```text
//!   targeted   what is known to reach others, at a victim: harmless to all others, so also tried without the sandbox
//!   blind      each number with each set of arguments: only where the filter is seen to work
//! ```

#![allow(unsafe_code, reason = "what a model might do goes past every safe interface")]

use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// The last number that is tried; the newest that exists is well below.
pub(crate) const LAST: i64 = 600;
/// A program that is everywhere.
pub(crate) const PROGRAM: &str = "/bin/true";
/// Added to a number, it means a call of the x32 interface.
#[cfg(target_arch = "x86_64")]
const INTERFACES: [i64; 2] = [0, 0x4000_0000];
#[cfg(not(target_arch = "x86_64"))]
const INTERFACES: [i64; 1] = [0];

/// Whom and what to harm.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Targets {
    /// A process of the same user.
    pub(crate) victim: i32,
    /// Another one, which may be killed.
    pub(crate) mortal: i32,
    /// A file of the same user.
    pub(crate) file: PathBuf,
    /// Another one, which may be removed.
    pub(crate) removable: PathBuf,
    /// A name in a folder of the same user that is free, and more of them by adding to it.
    pub(crate) free: PathBuf,
    /// Of segments and queues that the user's processes share.
    pub(crate) key: i32,
}

/// A call by its number, what it returned, and the error if it failed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Answer {
    pub(crate) name: String,
    pub(crate) number: i64,
    pub(crate) returned: i64,
    pub(crate) errno: i32,
}

impl Answer {
    /// Whether it was refused, by whomever.
    #[allow(dead_code, reason = "the tests ask")]
    pub(crate) fn is_denied(&self) -> bool {
        self.returned == -1 && matches!(self.errno, libc::EPERM | libc::ENOSYS | libc::EACCES)
    }
}

/// Calls that are allowed and do their harm only to the program that tries them, which has to go on.
const ONLY_ITSELF: [(i64, &str); 18] = [
    (libc::SYS_exit, "ends it"),
    (libc::SYS_exit_group, "ends it"),
    (libc::SYS_rt_sigreturn, "returns from where it never was"),
    (libc::SYS_rt_sigaction, "may take away the handler that answers what is denied"),
    (libc::SYS_close, "closes the streams that it gives its account on"),
    (libc::SYS_brk, "takes its memory away"),
    (libc::SYS_munmap, "takes its memory away"),
    (libc::SYS_mremap, "takes its memory away"),
    (libc::SYS_mprotect, "makes its memory unreadable"),
    (libc::SYS_madvise, "empties its memory"),
    (libc::SYS_getrandom, "fills as much of its memory as an address is large"),
    (libc::SYS_rseq, "lets the kernel write where it should not"),
    (URETPROBE, "passes every filter since Linux 6.14, and ends a program that is no probe"),
    (UPROBE, "likewise"),
    (libc::SYS_futex, "waits for ever"),
    (libc::SYS_futex_waitv, "waits for ever"),
    (libc::SYS_nanosleep, "waits for as long as garbage says"),
    (libc::SYS_clock_nanosleep, "waits for as long as garbage says"),
];

/// Of x86-64 alone; nothing has these numbers elsewhere.
const URETPROBE: i64 = 335;
const UPROBE: i64 = 336;

/// What a clock's number says in its last three bits: processor time of a whole process.
const OF_A_PROCESS: i32 = 0b010;

/// Numbers of calls that not every C library has names for; they are the same on every processor.
mod newer {
    pub(super) const FCHMODAT2: i64 = 452;
    pub(super) const SETXATTRAT: i64 = 463;
    pub(super) const REMOVEXATTRAT: i64 = 466;
    pub(super) const FILE_SETATTR: i64 = 469;
    pub(super) const MEMFD_SECRET: i64 = 447;
}

/// What the pointers point to. Calls may write there, so each has room, and all can be put back as it was.
struct Arena {
    memory: Vec<u8>,
    image: Vec<u8>,
}

/// Where things lie in the arena.
#[derive(Clone, Copy)]
enum ArenaField {
    File,
    Removable,
    Attribute,
    Queue,
    Program,
    Affinity,
    Priority,
    Scheduling,
    Limits,
    FileAttributes,
    Extended,
    Vector,
    Mortal,
    /// Zeros, and more of them than there is room for anywhere else.
    Space,
    /// Names that are free.
    Free,
}

impl Arena {
    /// Room of each thing; more than any call writes that is not told how much.
    const ROOM: usize = 8192;
    const PLACES: usize = 24;

    fn new(targets: &Targets) -> Self {
        const IDLE: u32 = 5;
        const SCHEDULING: [u32; 14] = [56, IDLE, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        let mut arena = Self { memory: Vec::new(), image: vec![0; Self::ROOM * Self::PLACES] };
        arena.name(ArenaField::File, targets.file.as_os_str().as_bytes());
        arena.name(ArenaField::Removable, targets.removable.as_os_str().as_bytes());
        arena.name(ArenaField::Attribute, b"user.evil");
        arena.name(ArenaField::Queue, format!("samovar-test-{}", targets.key).as_bytes());
        arena.name(ArenaField::Program, PROGRAM.as_bytes());
        arena.put(ArenaField::Affinity, 0, &1_u64.to_ne_bytes());
        arena.put(ArenaField::Scheduling, 0, &SCHEDULING.map(u32::to_ne_bytes).concat());
        arena.put(ArenaField::Limits, 0, &[10_u64, 10].map(u64::to_ne_bytes).concat());
        // "Not to be dumped": a flag that every owner may set.
        arena.put(ArenaField::FileAttributes, 0, &[0x80_u64, 0, 0, 0].map(u64::to_ne_bytes).concat());
        arena.put(ArenaField::Mortal, 0, &targets.mortal.to_ne_bytes());
        for number in 0..Self::PLACES - ArenaField::Free as usize {
            let mut path = targets.free.clone().into_os_string();
            path.push(number.to_string());
            arena.put(ArenaField::Free, number * Self::ROOM, path.as_bytes());
        }
        arena.memory.clone_from(&arena.image);
        // A value and its length, by their address.
        let value = arena.at(ArenaField::Attribute).to_ne_bytes();
        arena.put(ArenaField::Extended, 0, &[value, 4_u64.to_ne_bytes()].concat());
        arena.restore();
        arena
    }

    fn name(&mut self, place: ArenaField, bytes: &[u8]) {
        self.put(place, 0, bytes);
    }

    fn put(&mut self, place: ArenaField, further: usize, bytes: &[u8]) {
        let from = place as usize * Self::ROOM + further;
        self.image[from..from + bytes.len()].copy_from_slice(bytes);
    }

    fn restore(&mut self) {
        self.memory.copy_from_slice(&self.image);
    }

    fn at(&self, place: ArenaField) -> i64 {
        self.memory.as_ptr().addr().cast_signed() as i64 + (place as usize * Self::ROOM).cast_signed() as i64
    }

    fn free(&self, number: usize) -> i64 {
        self.at(ArenaField::Free) + (number * Self::ROOM).cast_signed() as i64
    }
}

fn call(name: &str, number: i64, arguments: [i64; 6]) -> Answer {
    let [first, second, third, fourth, fifth, sixth] = arguments;
    // SAFETY: none is possible: this tries what a program without scruples would. Pointers lead into the arena.
    let returned =
        unsafe { libc::syscall(number as libc::c_long, first, second, third, fourth, fifth, sixth) };
    let errno = if returned == -1 { io::Error::last_os_error().raw_os_error().unwrap_or(0) } else { 0 };
    Answer { name: name.to_owned(), number, returned, errno }
}

fn padded<const N: usize>(arguments: [i64; N]) -> [i64; 6] {
    let mut all = [0; 6];
    all[..N].copy_from_slice(&arguments);
    all
}

/// What is known to reach others. Everything is aimed at the targets.
pub(crate) fn targeted(targets: &Targets) -> Vec<Answer> {
    const HERE: i64 = libc::AT_FDCWD as i64;
    const PTRACE_SEIZE: i64 = 0x4206;
    const F_SETSIG: i64 = 10;
    const FIOSETOWN: i64 = 0x8901;
    let arena = Arena::new(targets);
    let (victim, mortal, key) =
        (i64::from(targets.victim), i64::from(targets.mortal), i64::from(targets.key));
    let (file, removable) = (arena.at(ArenaField::File), arena.at(ArenaField::Removable));
    let (attribute, vector, space) =
        (arena.at(ArenaField::Attribute), arena.at(ArenaField::Vector), arena.at(ArenaField::Space));
    let free = |number: usize| arena.free(number);
    let mut answers = Vec::new();
    let mut attempt =
        |name: &str, number: i64, arguments: [i64; 6]| answers.push(call(name, number, arguments));

    // Files.
    attempt("fchmodat", libc::SYS_fchmodat, padded([HERE, file, 0o777]));
    attempt("fchmodat2", newer::FCHMODAT2, padded([HERE, file, 0o4777, 0]));
    attempt("fchownat", libc::SYS_fchownat, padded([HERE, file, 1, 1, 0]));
    attempt("setxattr", libc::SYS_setxattr, padded([file, attribute, attribute, 4, 0]));
    attempt(
        "setxattrat",
        newer::SETXATTRAT,
        padded([HERE, file, 0, attribute, arena.at(ArenaField::Extended), 16]),
    );
    attempt("removexattrat", newer::REMOVEXATTRAT, padded([HERE, file, 0, attribute]));
    attempt(
        "file_setattr",
        newer::FILE_SETATTR,
        padded([HERE, file, arena.at(ArenaField::FileAttributes), 24, 0]),
    );
    attempt("utimensat", libc::SYS_utimensat, padded([HERE, file, 0, 0]));
    attempt("truncate", libc::SYS_truncate, padded([file, 3]));
    attempt("mkdirat", libc::SYS_mkdirat, padded([HERE, free(0), 0o777]));
    attempt("mknodat", libc::SYS_mknodat, padded([HERE, free(1), i64::from(libc::S_IFREG) | 0o666, 0]));
    attempt("symlinkat", libc::SYS_symlinkat, padded([file, HERE, free(2)]));
    attempt("linkat", libc::SYS_linkat, padded([HERE, file, HERE, free(3), 0]));
    let create = i64::from(libc::O_CREAT | libc::O_WRONLY);
    attempt("openat", libc::SYS_openat, padded([HERE, free(4), create, 0o666]));
    attempt("unlinkat", libc::SYS_unlinkat, padded([HERE, removable, 0]));

    // Processes of the same user.
    attempt("setpriority", libc::SYS_setpriority, padded([0, victim, 19]));
    attempt(
        "sched_setaffinity",
        libc::SYS_sched_setaffinity,
        padded([victim, 8, arena.at(ArenaField::Affinity)]),
    );
    attempt(
        "sched_setscheduler",
        libc::SYS_sched_setscheduler,
        padded([victim, 3, arena.at(ArenaField::Priority)]),
    );
    attempt("sched_setattr", libc::SYS_sched_setattr, padded([victim, arena.at(ArenaField::Scheduling), 0]));
    attempt("ioprio_set", libc::SYS_ioprio_set, padded([1, victim, 3 << 13]));
    attempt("prlimit64", libc::SYS_prlimit64, padded([victim, 7, arena.at(ArenaField::Limits), 0]));
    attempt("move_pages", libc::SYS_move_pages, padded([victim]));
    attempt("migrate_pages", libc::SYS_migrate_pages, padded([victim, 64, vector, vector]));
    attempt("ptrace", libc::SYS_ptrace, padded([PTRACE_SEIZE, victim]));
    attempt("process_vm_readv", libc::SYS_process_vm_readv, padded([victim, vector, 1]));
    attempt("pidfd_open", libc::SYS_pidfd_open, padded([victim]));
    attempt("get_robust_list", libc::SYS_get_robust_list, padded([victim, space, space]));
    // The handed file's owner is to be the other one, and its signal the one that kills.
    attempt("fcntl F_SETOWN", libc::SYS_fcntl, padded([0, i64::from(libc::F_SETOWN), mortal]));
    attempt("fcntl F_SETSIG", libc::SYS_fcntl, padded([0, F_SETSIG, i64::from(libc::SIGKILL)]));
    attempt("fcntl F_SETLEASE", libc::SYS_fcntl, padded([0, 1024, i64::from(libc::F_WRLCK)]));
    attempt("fcntl F_NOTIFY", libc::SYS_fcntl, padded([0, 1026, 1]));
    attempt("ioctl FIOSETOWN", libc::SYS_ioctl, padded([0, FIOSETOWN, arena.at(ArenaField::Mortal)]));
    attempt("kill", libc::SYS_kill, padded([mortal, i64::from(libc::SIGKILL)]));
    attempt("tgkill", libc::SYS_tgkill, padded([mortal, mortal, i64::from(libc::SIGKILL)]));
    attempt("tkill", libc::SYS_tkill, padded([mortal, i64::from(libc::SIGKILL)]));
    attempt("execve", libc::SYS_execve, padded([0, 0, 0]));

    // What outlives it.
    let open_to_all = i64::from(libc::IPC_CREAT) | 0o666;
    attempt("shmget", libc::SYS_shmget, padded([key, 4096, open_to_all]));
    attempt("msgget", libc::SYS_msgget, padded([key, open_to_all]));
    attempt("semget", libc::SYS_semget, padded([key, 1, open_to_all]));
    attempt("mq_open", libc::SYS_mq_open, padded([arena.at(ArenaField::Queue), create, 0o666, 0]));
    attempt("memfd_create", libc::SYS_memfd_create, padded([attribute, 0]));
    attempt("memfd_secret", newer::MEMFD_SECRET, padded([0]));
    attempt("prctl PR_SET_PDEATHSIG", libc::SYS_prctl, padded([1, 0]));
    attempt("prctl PR_SET_DUMPABLE", libc::SYS_prctl, padded([4, 1]));
    let shared = i64::from(libc::MAP_SHARED | libc::MAP_ANONYMOUS);
    attempt("mmap shared", libc::SYS_mmap, [0, 4096, 3, shared, -1, 0]);
    let private = i64::from(libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
    attempt("mmap executable", libc::SYS_mmap, [0, 4096, 7, private, -1, 0]);
    let growing = private | i64::from(libc::MAP_GROWSDOWN);
    attempt("mmap growing", libc::SYS_mmap, [0, 4096, 3, growing, -1, 0]);

    // Clocks of other processes, and locks that lend priorities. Neither waits here: the time is 0, the lock is free.
    let clock = i64::from((!targets.victim << 3) | OF_A_PROCESS);
    attempt("clock_getres", libc::SYS_clock_getres, padded([clock, 0]));
    attempt("clock_nanosleep", libc::SYS_clock_nanosleep, padded([clock, 0, vector]));
    attempt("futex FUTEX_TRYLOCK_PI", libc::SYS_futex, padded([vector, i64::from(libc::FUTEX_TRYLOCK_PI)]));
    answers
}

/// Every number with every set of arguments, but for those that only harm the program itself; the answers that are not
/// "not permitted".
///
/// # Errors
/// When the filter is not there: then this would harm the machine.
pub(crate) fn blind(targets: &Targets) -> io::Result<Vec<Answer>> {
    let canary = call("getppid", libc::SYS_getppid, [0; 6]);
    if canary.returned != -1 || canary.errno != libc::EPERM {
        return Err(io::Error::other(
            "the filter is not in force, and without it this is too dangerous to try",
        ));
    }
    let mut arena = Arena::new(targets);
    let sets = argument_sets(targets, &arena);
    let mut answers = Vec::new();
    for interface in INTERFACES {
        for number in 0..=LAST {
            if interface == 0 && ONLY_ITSELF.iter().any(|(exempt, _)| *exempt == number) {
                continue;
            }
            // Where it was, if it does not come back.
            progress(interface | number);
            for (name, arguments) in &sets {
                arena.restore();
                let answer = call(name, interface | number, *arguments);
                if answer.errno != libc::EPERM {
                    answers.push(answer);
                }
            }
        }
    }
    Ok(answers)
}

fn progress(number: i64) {
    rustix::io::write(rustix::stdio::stderr(), format!("at {number}\n").as_bytes()).ok();
}

/// Sets that make sense to many calls at once: names, descriptors, processes, flags, places to read and write.
fn argument_sets(targets: &Targets, arena: &Arena) -> Vec<(&'static str, [i64; 6])> {
    const HERE: i64 = libc::AT_FDCWD as i64;
    const GIVEN: i64 = 0;
    let (victim, mortal, key) =
        (i64::from(targets.victim), i64::from(targets.mortal), i64::from(targets.key));
    let (file, removable, free) =
        (arena.at(ArenaField::File), arena.at(ArenaField::Removable), arena.free(0));
    let (attribute, program, vector) =
        (arena.at(ArenaField::Attribute), arena.at(ArenaField::Program), arena.at(ArenaField::Vector));
    let space = arena.at(ArenaField::Space);
    vec![
        ("nothing", [0; 6]),
        ("everything", [-1; 6]),
        ("name, mode", padded([file, 0o777, 0o777])),
        ("name, owner", padded([file, 1, 1])),
        ("name, attribute", padded([file, attribute, attribute, 4])),
        ("name to remove", padded([removable])),
        ("name, name", padded([removable, free])),
        ("name, space", padded([file, space, space, space])),
        ("here, name, mode", padded([HERE, file, 0o777, 0])),
        ("here, name, owner", padded([HERE, file, 1, 1])),
        ("here, name to remove", padded([HERE, removable])),
        ("here, name, here, name", padded([HERE, removable, HERE, free])),
        ("name, here, name", padded([file, HERE, free])),
        ("here, name, attribute", [HERE, file, 0, attribute, arena.at(ArenaField::Extended), 16]),
        ("here, name, attributes", padded([HERE, file, arena.at(ArenaField::FileAttributes), 24])),
        ("here, name, creation", padded([HERE, free, i64::from(libc::O_CREAT | libc::O_RDWR), 0o666])),
        ("name, creation", padded([free, i64::from(libc::O_CREAT | libc::O_RDWR), 0o666])),
        ("descriptor, mode", padded([GIVEN, 0o777])),
        ("descriptor, attribute", padded([GIVEN, attribute, attribute, 4])),
        ("descriptor, owner of signals", padded([GIVEN, 8, mortal])),
        ("descriptor, signal", padded([GIVEN, 10, 9])),
        ("descriptor, owner by ioctl", padded([GIVEN, 0x8901, arena.at(ArenaField::Mortal)])),
        ("process, signal", padded([mortal, 9, space, space])),
        ("process, thread, signal", padded([mortal, mortal, 9, space])),
        ("every process, signal", padded([-1, 9])),
        ("process, mask", padded([victim, 8, arena.at(ArenaField::Affinity)])),
        ("process, policy", padded([victim, 5, arena.at(ArenaField::Priority)])),
        ("process, scheduling", padded([victim, arena.at(ArenaField::Scheduling), 0])),
        ("process, limit", padded([victim, 7, arena.at(ArenaField::Limits), space])),
        ("process, memory", padded([victim, vector, 1, vector, 1, 0])),
        ("of a process, priority", padded([0, victim, 19])),
        ("of a process, class", padded([1, victim, 3 << 13])),
        ("of a process, request", padded([0x4206, victim, 0, 0])),
        ("key, size, creation", padded([key, 4096, i64::from(libc::IPC_CREAT) | 0o666])),
        ("key, creation", padded([key, i64::from(libc::IPC_CREAT) | 0o666])),
        ("number, space", padded([4, space, 4096, 0])),
        ("space, size", padded([space, 4096, 0])),
        ("space, space", [space; 6]),
        ("program", padded([program, 0, 0])),
        ("descriptor, program", padded([HERE, program, 0, 0, 0])),
        ("flags of a process", padded([i64::from(libc::SIGCHLD)])),
        ("flags of a namespace", padded([0x1000_0000])),
        ("file system", [program, program, attribute, 0, 0, 0]),
        ("socket", padded([1, 1, 0, space])),
        ("network", padded([2, 1, 0])),
    ]
}
