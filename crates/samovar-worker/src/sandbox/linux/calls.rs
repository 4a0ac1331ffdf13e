//! The filter of system calls: what is not in the list of those that a worker needs is denied and told.
//!
//! ```text
//!   another processor's calls ─► the process ends
//!   clone3, openat2           ─► seem not to exist, and libc does without them
//!   other programs, processes ─► "operation not permitted"
//!   newer than anything known ─► seem not to exist                       ┐
//!   allowed, arguments too    ─► done                                    ├ each is told once
//!   everything else           ─► "operation not permitted"               ┘
//! ```
//!
//! What is denied is seen as an error, where a kill would be seen as a crash of the model. Those that make programs and
//! processes are not told: libc makes them with all signals blocked, and telling needs one.

use std::os::raw::c_long;

use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompFilter, TargetArch, apply_filter, sock_filter,
};

use super::{Entered, allowed, denials};
use crate::sandbox::SandboxPolicy;

/// The newest call that the list was compared with (`file_setattr`, of Linux 6.17). Whatever comes after it, and every number
/// of the x32 interface, which begin far above, is answered as an older kernel would.
const NEWEST: u32 = 469;

/// Calls with their arguments behind a pointer, which a filter cannot look at.
const SEEM_ABSENT: [c_long; 2] = [libc::SYS_clone3, libc::SYS_openat2];

#[cfg(target_arch = "x86_64")]
const PROCESSES: [c_long; 4] = [libc::SYS_execve, libc::SYS_execveat, libc::SYS_fork, libc::SYS_vfork];
#[cfg(target_arch = "aarch64")]
const PROCESSES: [c_long; 2] = [libc::SYS_execve, libc::SYS_execveat];

/// So many instructions of a compiled filter look at the processor.
const LOOK_AT_PROCESSOR: usize = 3;

/// Denies whatever is not allowed, for good.
pub(super) fn enter(plan: &SandboxPolicy) -> Entered {
    let told = |error: &dyn std::fmt::Display| format!("seccomp: {error}");
    let rules = allowed::allowed(plan.writable.is_some()).map_err(|error| told(&error))?;
    let count = rules.len() + 1;
    let program = compile(rules).map_err(|error| told(&error))?;
    denials::answer().map_err(|error| told(&error))?;
    apply_filter(&program).map_err(|error| told(&error))?;
    Ok(format!("seccomp, {count} calls allowed"))
}

fn compile(rules: allowed::Rules) -> Result<BpfProgram, BackendError> {
    let processor: TargetArch = std::env::consts::ARCH.try_into()?;
    let filter = SeccompFilter::new(rules, SeccompAction::Trap, SeccompAction::Allow, processor)?;
    let program: BpfProgram = filter.try_into()?;
    // The first instructions see to it that the number means what it seems to; ours follow them.
    let (processor, listed) = program.split_at(LOOK_AT_PROCESSOR);
    Ok([processor, &by_number(), &threads_alone(), listed].concat())
}

/// What is decided by the number alone.
fn by_number() -> Vec<sock_filter> {
    let mut program = vec![load(NUMBER)];
    let mut when = |compare, number, answer| program.extend([jump(compare, number, 0, 1), end(answer)]);
    for call in SEEM_ABSENT {
        when(libc::BPF_JEQ, call as u32, fails(libc::SECCOMP_RET_ERRNO, libc::ENOSYS));
    }
    for call in PROCESSES {
        when(libc::BPF_JEQ, call as u32, fails(libc::SECCOMP_RET_ERRNO, libc::EPERM));
    }
    when(libc::BPF_JGT, NEWEST, fails(libc::SECCOMP_RET_TRAP, libc::ENOSYS));
    program
}

/// Of `clone` threads are left. The number has been loaded.
fn threads_alone() -> Vec<sock_filter> {
    let [glibc, musl] = allowed::THREAD.map(libc::c_int::cast_unsigned);
    vec![
        jump(libc::BPF_JEQ, libc::SYS_clone as u32, 0, 5),
        load(FIRST_ARGUMENT),
        jump(libc::BPF_JEQ, glibc, 2, 0),
        jump(libc::BPF_JEQ, musl, 1, 0),
        end(fails(libc::SECCOMP_RET_ERRNO, libc::EPERM)),
        end(libc::SECCOMP_RET_ALLOW),
    ]
}

/// Where the kernel puts the number of a call, and the lower half of its first argument.
const NUMBER: u32 = 0;
const FIRST_ARGUMENT: u32 = 16;

fn load(place: u32) -> sock_filter {
    sock_filter { code: (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16, jt: 0, jf: 0, k: place }
}

/// Skips so many instructions if it is so, and so many if it is not.
fn jump(compare: u32, k: u32, jt: u8, jf: u8) -> sock_filter {
    sock_filter { code: (libc::BPF_JMP | compare | libc::BPF_K) as u16, jt, jf, k }
}

fn end(answer: u32) -> sock_filter {
    sock_filter { code: (libc::BPF_RET | libc::BPF_K) as u16, jt: 0, jf: 0, k: answer }
}

fn fails(how: u32, errno: libc::c_int) -> u32 {
    how | errno.cast_unsigned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_processor_is_looked_at_before_the_number() {
        const PROCESSOR: u32 = 4;
        let program = compile(allowed::allowed(false).unwrap()).unwrap();
        assert_eq!(program[0].k, PROCESSOR);
        assert_eq!(program[LOOK_AT_PROCESSOR - 1].k, libc::SECCOMP_RET_KILL_PROCESS);
        assert_eq!(program[LOOK_AT_PROCESSOR].k, NUMBER);
    }

    #[test]
    fn the_list_is_short_and_holds_no_call_that_reaches_others() {
        let rules = allowed::allowed(true).unwrap();
        assert!(rules.len() < 108, "{} calls", rules.len());
        assert!(rules.keys().all(|call| *call <= i64::from(NEWEST)));
        for call in [
            libc::SYS_socket,
            libc::SYS_execve,
            libc::SYS_clone,
            libc::SYS_ptrace,
            libc::SYS_memfd_create,
            libc::SYS_setpriority,
        ] {
            assert!(!rules.contains_key(&call), "{call}");
        }
    }

    #[test]
    fn names_of_files_are_given_and_taken_by_workers_that_prepare_models_alone() {
        let [reads, writes] = [false, true].map(|writes| allowed::allowed(writes).unwrap());
        for call in [libc::SYS_renameat2, libc::SYS_unlinkat] {
            assert!(!reads.contains_key(&call) && writes.contains_key(&call), "{call}");
        }
    }
}
