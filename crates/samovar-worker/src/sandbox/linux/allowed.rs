//! The system calls that a worker needs, and the arguments that it needs them with. Whatever is not here is denied.
//!
//! Found by reading llama.cpp, the C library's allocator and threads, and Rust's standard library, and by tracing workers
//! that load, pack, measure, answer, park, resume, save and restore prefixes, read adapters and die. Two things decide
//! what stands here: what a call can do outside of this process (nothing, but for what it was handed), and whether
//! a program makes it. Names come from the C library, so that each processor has its own numbers.

use std::collections::BTreeMap;
use std::os::raw::c_long;

use seccompiler::{
    BackendError, SeccompCmpArgLen as Length, SeccompCmpOp as Is, SeccompCondition as Condition, SeccompRule,
};

pub(super) type Rules = BTreeMap<i64, Vec<SeccompRule>>;

/// Memory of its own. What may be executed was mapped before the model was touched.
const MEMORY: &[c_long] = &[
    libc::SYS_brk,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_msync,
    libc::SYS_mincore,
    libc::SYS_mlock,
    libc::SYS_mlock2,
    libc::SYS_munlock,
];

/// Threads of its own: how they wait, how they end, and on how many processors they may run.
const THREADS: &[c_long] = &[
    libc::SYS_futex_waitv,
    libc::SYS_set_robust_list,
    libc::SYS_rseq,
    libc::SYS_membarrier,
    libc::SYS_sched_yield,
    libc::SYS_sched_getaffinity,
    libc::SYS_getcpu,
    libc::SYS_gettid,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_restart_syscall,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
];

/// Time, chance, and questions about itself and the machine.
const QUESTIONS: &[c_long] = &[
    libc::SYS_nanosleep,
    libc::SYS_gettimeofday,
    libc::SYS_getrandom,
    libc::SYS_getrusage,
    libc::SYS_times,
    libc::SYS_sysinfo,
    libc::SYS_uname,
    libc::SYS_getpid,
    libc::SYS_getuid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getegid,
    libc::SYS_getcwd,
];

/// Files that it has open: its model, what it was handed, and its socket. Nothing here takes a name but what asks for
/// facts, which landlock does not look at and a filter cannot.
const FILES: &[c_long] = &[
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_pread64,
    libc::SYS_preadv,
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_pwrite64,
    libc::SYS_pwritev,
    libc::SYS_lseek,
    libc::SYS_close,
    libc::SYS_fstat,
    libc::SYS_newfstatat,
    libc::SYS_statx,
    libc::SYS_getdents64,
    libc::SYS_ftruncate,
    libc::SYS_fallocate,
    libc::SYS_fadvise64,
    libc::SYS_fsync,
    libc::SYS_fdatasync,
    libc::SYS_recvmsg,
];

/// What older systems have calls of their own for.
#[cfg(target_arch = "x86_64")]
const OLD: &[c_long] = &[libc::SYS_stat, libc::SYS_lstat, libc::SYS_time, libc::SYS_getrlimit];
#[cfg(not(target_arch = "x86_64"))]
const OLD: &[c_long] = &[];

/// What a worker that makes files in a folder needs besides: landlock says in which.
const NAMES: &[c_long] = &[libc::SYS_renameat2, libc::SYS_unlinkat, libc::SYS_faccessat2];
#[cfg(target_arch = "x86_64")]
const OLD_NAMES: &[c_long] =
    &[libc::SYS_rename, libc::SYS_renameat, libc::SYS_unlink, libc::SYS_access, libc::SYS_faccessat];
#[cfg(not(target_arch = "x86_64"))]
const OLD_NAMES: &[c_long] = &[libc::SYS_renameat, libc::SYS_faccessat];

/// What a thread is made with, by `clone`: by glibc, and by musl with a flag that has no meaning any more. Anything less
/// would be a process, anything more a new namespace.
pub(super) const THREAD: [libc::c_int; 2] = [AS_GLIBC, AS_GLIBC | libc::CLONE_DETACHED];
const AS_GLIBC: libc::c_int = libc::CLONE_VM
    | libc::CLONE_FS
    | libc::CLONE_FILES
    | libc::CLONE_SIGHAND
    | libc::CLONE_THREAD
    | libc::CLONE_SYSVSEM
    | libc::CLONE_SETTLS
    | libc::CLONE_PARENT_SETTID
    | libc::CLONE_CHILD_CLEARTID;

/// Advice about pages that can only lose what they hold or make them slower to reach. The numbers are the kernel's, since
/// not every C library has names for the last two (guards of stacks).
const ADVICE: [libc::c_int; 14] = [
    libc::MADV_NORMAL,
    libc::MADV_RANDOM,
    libc::MADV_SEQUENTIAL,
    libc::MADV_WILLNEED,
    libc::MADV_DONTNEED,
    libc::MADV_FREE,
    libc::MADV_HUGEPAGE,
    libc::MADV_NOHUGEPAGE,
    libc::MADV_DONTDUMP,
    libc::MADV_DODUMP,
    libc::MADV_POPULATE_READ,
    libc::MADV_POPULATE_WRITE,
    102,
    103,
];

/// Waiting for others and waking them, by glibc, musl, Rust and C++. Not the locks that lend their holder a priority: no code
/// here uses them, and faults were found in them more than once.
const WAITS: [libc::c_int; 7] = [
    libc::FUTEX_WAIT,
    libc::FUTEX_WAKE,
    libc::FUTEX_REQUEUE,
    libc::FUTEX_CMP_REQUEUE,
    libc::FUTEX_WAKE_OP,
    libc::FUTEX_WAIT_BITSET,
    libc::FUTEX_WAKE_BITSET,
];

/// Clocks to sleep by.
const SLEEPS: [libc::c_int; 2] = [libc::CLOCK_REALTIME, libc::CLOCK_MONOTONIC];

/// Descriptors' own flags, and copies of them. Neither owners nor signals, leases, locks or notices.
const DESCRIPTORS: [libc::c_int; 5] =
    [libc::F_GETFD, libc::F_SETFD, libc::F_GETFL, libc::F_DUPFD, libc::F_DUPFD_CLOEXEC];

/// Flags of opening a file that is there, for reading. `O_PATH` is not among them: it needs no right to read.
const READING: libc::c_int = libc::O_CLOEXEC
    | libc::O_DIRECT
    | libc::O_DIRECTORY
    | libc::O_NOCTTY
    | libc::O_NOFOLLOW
    | libc::O_NONBLOCK
    | LARGE_FILE;
/// The kernel's own `O_LARGEFILE`, which the C library calls 0 where every file may be large.
const LARGE_FILE: libc::c_int = if cfg!(target_arch = "aarch64") { 0o400_000 } else { 0o100_000 };

/// Flags of opening a file to write it, made where it is not there.
const WRITING: libc::c_int =
    READING | libc::O_WRONLY | libc::O_RDWR | libc::O_CREAT | libc::O_EXCL | libc::O_TRUNC | libc::O_APPEND;

/// Every call that is allowed but `clone`, with the arguments that it is allowed with; also those by which a worker that
/// `writes` makes files.
pub(super) fn allowed(writes: bool) -> Result<Rules, BackendError> {
    let (names, opening) =
        if writes { ([NAMES, OLD_NAMES].concat(), WRITING) } else { (Vec::new(), READING) };
    let mut rules: Rules = [MEMORY, THREADS, QUESTIONS, FILES, OLD, names.as_slice()]
        .concat()
        .into_iter()
        .map(|call| (call, Vec::new()))
        .collect();
    let this = std::process::id().cast_signed();
    let mut only = |call: c_long, ways: Vec<Vec<Condition>>| -> Result<(), BackendError> {
        rules.insert(call, ways.into_iter().map(SeccompRule::new).collect::<Result<_, _>>()?);
        Ok(())
    };
    only(libc::SYS_kill, one_of(0, &[this])?)?;
    only(libc::SYS_tgkill, one_of(0, &[this])?)?;
    only(libc::SYS_prctl, one_of(0, ABOUT_ITSELF)?)?;
    only(libc::SYS_fcntl, one_of(1, &DESCRIPTORS)?)?;
    // Whether a stream is a terminal.
    only(libc::SYS_ioctl, one_of(1, &[libc::TCGETS as libc::c_int, libc::TCGETS2 as libc::c_int])?)?;
    only(libc::SYS_madvise, one_of(2, &ADVICE)?)?;
    for call in [libc::SYS_clock_gettime, libc::SYS_clock_getres] {
        only(call, vec![vec![is(0, Is::Le, libc::CLOCK_TAI)?], vec![of_a_thread()?]])?;
    }
    only(libc::SYS_clock_nanosleep, one_of(0, &SLEEPS)?)?;
    only(libc::SYS_futex, waits()?)?;
    only(libc::SYS_sendmsg, vec![vec![within(2, libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT)?]])?;
    only(libc::SYS_openat, vec![vec![within(2, opening)?]])?;
    #[cfg(target_arch = "x86_64")]
    {
        only(libc::SYS_open, vec![vec![within(1, opening)?]])?;
        only(libc::SYS_arch_prctl, one_of(0, &TILES)?)?;
    }
    only(libc::SYS_mprotect, vec![vec![lacks(2, libc::PROT_EXEC)?]])?;
    only(libc::SYS_mmap, mappings()?)?;
    // What the limits are, never what they shall be.
    let asks = || Condition::new(2, Length::Qword, Is::Eq, 0);
    only(libc::SYS_prlimit64, vec![vec![is(0, Is::Eq, 0)?, asks()?], vec![is(0, Is::Eq, this)?, asks()?]])?;
    Ok(rules)
}

/// Whether the processor's matrix tiles may be used, and leave to do so (`ARCH_{GET_XCOMP_SUPP,GET_XCOMP_PERM,REQ_XCOMP_PERM}`).
#[cfg(target_arch = "x86_64")]
const TILES: [libc::c_int; 3] = [0x1021, 0x1022, 0x1023];
/// Names of threads, and what the kernel told this program when it started (`PR_GET_AUXV`); on ARM also how long vectors are
/// (`PR_SVE_GET_VL`, `PR_SME_GET_VL`).
const ABOUT_ITSELF: &[libc::c_int] = if cfg!(target_arch = "aarch64") {
    &[libc::PR_SET_NAME, libc::PR_GET_NAME, GET_AUXV, 51, 64]
} else {
    &[libc::PR_SET_NAME, libc::PR_GET_NAME, GET_AUXV]
};
const GET_AUXV: libc::c_int = 0x4155_5856;

/// Private memory, and files; for writing, those that it was handed for that (saved prompts). Not shared memory without a
/// file, nor memory that grows downwards by itself: no limit counts them. Not huge pages, of which the machine has few for
/// all. Nothing that could be executed.
fn mappings() -> Result<Vec<Vec<Condition>>, BackendError> {
    let kind = |but: libc::c_int, kind: libc::c_int| {
        let looked_at = bits(libc::MAP_TYPE | libc::MAP_HUGETLB | libc::MAP_GROWSDOWN | but);
        Condition::new(3, Length::Dword, Is::MaskedEq(looked_at), bits(kind))
    };
    Ok(vec![
        vec![lacks(2, libc::PROT_EXEC)?, kind(0, libc::MAP_PRIVATE)?],
        vec![lacks(2, libc::PROT_EXEC)?, kind(libc::MAP_ANONYMOUS, libc::MAP_SHARED)?],
    ])
}

/// Each with the two flags that say how to look for the other side, and by which clock to wait.
fn waits() -> Result<Vec<Vec<Condition>>, BackendError> {
    let looked_at = bits(!(libc::FUTEX_PRIVATE_FLAG | libc::FUTEX_CLOCK_REALTIME));
    WAITS
        .iter()
        .map(|kind| Ok(vec![Condition::new(1, Length::Dword, Is::MaskedEq(looked_at), bits(*kind))?]))
        .collect()
}

/// The processor's clock of a thread, which the kernel shows to threads of the same process; those of processes it shows to
/// all. Such a number is the thread's, inverted, above three bits that say what it is.
fn of_a_thread() -> Result<Condition, BackendError> {
    const IS_INVERTED: u64 = 1 << 31;
    const KIND: u64 = 0b111;
    const THREAD: u64 = 0b110;
    Condition::new(0, Length::Dword, Is::MaskedEq(IS_INVERTED | KIND), IS_INVERTED | THREAD)
}

fn one_of(argument: u8, values: &[libc::c_int]) -> Result<Vec<Vec<Condition>>, BackendError> {
    values.iter().map(|value| Ok(vec![is(argument, Is::Eq, *value)?])).collect()
}

/// No other bits than these.
fn within(argument: u8, most: libc::c_int) -> Result<Condition, BackendError> {
    lacks(argument, !most)
}

/// None of these bits.
fn lacks(argument: u8, these: libc::c_int) -> Result<Condition, BackendError> {
    Condition::new(argument, Length::Dword, Is::MaskedEq(bits(these)), 0)
}

/// The kernel takes the lower half of each of the arguments that are looked at here.
fn is(argument: u8, is: Is, value: libc::c_int) -> Result<Condition, BackendError> {
    Condition::new(argument, Length::Dword, is, bits(value))
}

fn bits(value: libc::c_int) -> u64 {
    u64::from(value.cast_unsigned())
}
