//! Which system calls a worker may make: those that compute, and those that read what it was given.
//!
//! A list of what is denied, and not of what is allowed: native libraries and new versions of libc call what nobody
//! foresees, and a worker that dies of it would be a fault of ours. What is denied fails with "operation not
//! permitted" and so is seen as an error, where a kill would be seen as a crash of the model.

use std::collections::BTreeMap;
use std::os::raw::c_long;

use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen as Length, SeccompCmpOp as Is,
    SeccompCondition as Condition, SeccompFilter, SeccompRule, apply_filter,
};

use super::Entered;

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

/// Networks, and whatever reaches other processes by a name.
const TALK: &[c_long] = &[
    libc::SYS_socket,
    libc::SYS_socketpair,
    libc::SYS_bind,
    libc::SYS_connect,
    libc::SYS_listen,
    libc::SYS_accept,
    libc::SYS_accept4,
    libc::SYS_shmget,
    libc::SYS_shmat,
    libc::SYS_shmctl,
    libc::SYS_semget,
    libc::SYS_semop,
    libc::SYS_semtimedop,
    libc::SYS_semctl,
    libc::SYS_msgget,
    libc::SYS_msgsnd,
    libc::SYS_msgrcv,
    libc::SYS_msgctl,
    libc::SYS_mq_open,
    libc::SYS_mq_unlink,
];

/// Other programs, and other processes.
const PROCESSES: &[c_long] = &[
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_process_madvise,
    libc::SYS_process_mrelease,
    libc::SYS_kcmp,
    libc::SYS_pidfd_open,
    libc::SYS_pidfd_getfd,
    libc::SYS_pidfd_send_signal,
    libc::SYS_tkill,
    libc::SYS_rt_sigqueueinfo,
    libc::SYS_rt_tgsigqueueinfo,
    libc::SYS_setns,
    libc::SYS_unshare,
    libc::SYS_setpgid,
    libc::SYS_setsid,
];

/// Changes of the file system by name, which landlock denies only in part, and not at all on kernels without it.
const CHANGES: &[c_long] = &[
    libc::SYS_truncate,
    libc::SYS_mkdirat,
    libc::SYS_mknodat,
    libc::SYS_unlinkat,
    libc::SYS_renameat2,
    libc::SYS_linkat,
    libc::SYS_symlinkat,
    libc::SYS_fchmod,
    libc::SYS_fchmodat,
    libc::SYS_fchown,
    libc::SYS_fchownat,
    libc::SYS_utimensat,
    libc::SYS_setxattr,
    libc::SYS_lsetxattr,
    libc::SYS_fsetxattr,
    libc::SYS_removexattr,
    libc::SYS_lremovexattr,
    libc::SYS_fremovexattr,
    libc::SYS_name_to_handle_at,
    libc::SYS_open_by_handle_at,
    libc::SYS_inotify_init1,
    libc::SYS_fanotify_init,
];

/// The machine itself, and parts of the kernel that nobody needs to run a model but that faults are found in.
const SYSTEM: &[c_long] = &[
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_open_tree,
    libc::SYS_move_mount,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_mount_setattr,
    libc::SYS_kexec_load,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_bpf,
    libc::SYS_keyctl,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_acct,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_reboot,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_clock_adjtime,
    libc::SYS_adjtimex,
    libc::SYS_quotactl,
    libc::SYS_syslog,
    libc::SYS_vhangup,
    libc::SYS_personality,
];

/// Calls that newer systems have no more.
#[cfg(target_arch = "x86_64")]
const OLD: &[c_long] = &[
    libc::SYS_fork,
    libc::SYS_vfork,
    libc::SYS_creat,
    libc::SYS_mkdir,
    libc::SYS_rmdir,
    libc::SYS_mknod,
    libc::SYS_unlink,
    libc::SYS_rename,
    libc::SYS_renameat,
    libc::SYS_link,
    libc::SYS_symlink,
    libc::SYS_chmod,
    libc::SYS_chown,
    libc::SYS_lchown,
    libc::SYS_utime,
    libc::SYS_utimes,
    libc::SYS_futimesat,
    libc::SYS_inotify_init,
    libc::SYS_kexec_file_load,
    libc::SYS_modify_ldt,
    libc::SYS_iopl,
    libc::SYS_ioperm,
    libc::SYS_uselib,
    libc::SYS_ustat,
    libc::SYS_sysfs,
    libc::SYS_nfsservctl,
];
#[cfg(target_arch = "aarch64")]
const OLD: &[c_long] = &[libc::SYS_renameat, libc::SYS_kexec_file_load, libc::SYS_nfsservctl];
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
const OLD: &[c_long] = &[];

/// Denies the calls above, processes but not threads, signals to others, and opening a file for writing.
pub(super) fn enter() -> Entered {
    let program = |rules, errno: i32| compile(rules, errno).map_err(|error| format!("seccomp: {error}"));
    let (denied, unknown) = (denied().map_err(|error| format!("seccomp: {error}"))?, unknown());
    let count = denied.len();
    // Both are made before the first is in force.
    let programs = [program(unknown, libc::ENOSYS)?, program(denied, libc::EPERM)?];
    for program in programs {
        apply_filter(&program).map_err(|error| format!("seccomp: {error}"))?;
    }
    Ok(format!("seccomp, {count} calls denied"))
}

fn compile(rules: Rules, errno: i32) -> Result<BpfProgram, BackendError> {
    let processor = std::env::consts::ARCH.try_into()?;
    let answer = SeccompAction::Errno(errno.unsigned_abs());
    SeccompFilter::new(with_twins(rules), SeccompAction::Allow, answer, processor)?.try_into()
}

/// Calls with their arguments behind a pointer, which a filter cannot look at: libc does without them when they
/// seem not to exist.
fn unknown() -> Rules {
    [libc::SYS_clone3, libc::SYS_openat2].map(|call| (call, Vec::new())).into()
}

fn denied() -> Result<Rules, BackendError> {
    let mut rules: Rules =
        [TALK, PROCESSES, CHANGES, SYSTEM, OLD].concat().into_iter().map(|call| (call, Vec::new())).collect();
    let this = u64::from(std::process::id());
    rules.insert(libc::SYS_clone, vec![rule(0, Length::Dword, Is::MaskedEq(flags(libc::CLONE_THREAD)), 0)?]);
    for call in [libc::SYS_kill, libc::SYS_tgkill] {
        rules.insert(call, vec![rule(0, Length::Dword, Is::Ne, this)?]);
    }
    let other = SeccompRule::new(vec![
        Condition::new(0, Length::Dword, Is::Ne, 0)?,
        Condition::new(0, Length::Dword, Is::Ne, this)?,
    ])?;
    rules.insert(libc::SYS_prlimit64, vec![other]);
    rules.insert(libc::SYS_openat, writing(2)?);
    #[cfg(target_arch = "x86_64")]
    rules.insert(libc::SYS_open, writing(1)?);
    Ok(rules)
}

/// Any way to open a file that can change something.
fn writing(argument: u8) -> Result<Vec<SeccompRule>, BackendError> {
    let access = flags(libc::O_ACCMODE);
    let mut rules = vec![
        rule(argument, Length::Dword, Is::MaskedEq(access), flags(libc::O_WRONLY))?,
        rule(argument, Length::Dword, Is::MaskedEq(access), flags(libc::O_RDWR))?,
    ];
    for bit in [libc::O_CREAT, libc::O_TRUNC] {
        rules.push(rule(argument, Length::Dword, Is::MaskedEq(flags(bit)), flags(bit))?);
    }
    Ok(rules)
}

fn rule(argument: u8, length: Length, is: Is, value: u64) -> Result<SeccompRule, BackendError> {
    SeccompRule::new(vec![Condition::new(argument, length, is, value)?])
}

fn flags(bits: i32) -> u64 {
    u64::from(bits.unsigned_abs())
}

/// The same calls by the numbers of the x32 interface, which a filter takes for the same processor.
#[cfg(target_arch = "x86_64")]
fn with_twins(rules: Rules) -> Rules {
    const X32: i64 = 0x4000_0000;
    /// Those that have a number of their own there, from `rt_sigaction` to `execveat`; a program of this
    /// processor makes none of them.
    const OWN: std::ops::RangeInclusive<i64> = 512..=547;
    let mut all: Rules = rules.iter().map(|(call, rules)| (call | X32, rules.clone())).collect();
    if rules.contains_key(&libc::SYS_execve) {
        all.extend(OWN.map(|call| (call | X32, Vec::new())));
    }
    all.extend(rules);
    all
}

#[cfg(not(target_arch = "x86_64"))]
fn with_twins(rules: Rules) -> Rules {
    rules
}
