//! Answers denied system calls with an error, and tells of each the first time, on the standard error.
//!
//! The kernel sends a signal in place of a denied call. The handler only answers: a process that takes it away dies of its
//! next denied call, and gains nothing.

#![allow(unsafe_code, reason = "a handler of a signal, and the registers that it answers in")]

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::sandbox::DENIED;

/// Numbers that are told apart; those above share the last place.
const NUMBERS: usize = 1024;
/// Which numbers were told.
static TOLD: [AtomicU64; NUMBERS / 64] = [const { AtomicU64::new(0) }; NUMBERS / 64];

/// From now on a denied call fails, where without this it would end the process.
pub(super) fn answer() -> io::Result<()> {
    let handler: extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void) = deny;
    // SAFETY: all zeros are an empty mask and no flags, and the handler's type is what SA_SIGINFO asks for. The second
    // call reads the set that the first two fill.
    let done = unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = handler as usize;
        action.sa_flags = libc::SA_SIGINFO;
        let mut blocked: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut blocked);
        libc::sigaddset(&raw mut blocked, libc::SIGSYS);
        libc::sigprocmask(libc::SIG_UNBLOCK, &raw const blocked, std::ptr::null_mut());
        libc::sigaction(libc::SIGSYS, &raw const action, std::ptr::null_mut())
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

extern "C" fn deny(_: libc::c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: the kernel hands both to a handler with SA_SIGINFO, and they are this call's alone.
    let (errno, registers) = unsafe { ((*info).si_errno, &mut *context.cast::<libc::ucontext_t>()) };
    // The filter says which error, and nothing for the usual one.
    let errno = if errno == 0 { libc::EPERM } else { errno };
    let number = replace(registers, -i64::from(errno));
    if is_news(number) {
        tell(number);
    }
}

/// Puts the answer where the caller looks for it, and returns the number of the call.
#[cfg(target_arch = "x86_64")]
fn replace(context: &mut libc::ucontext_t, answer: i64) -> u64 {
    std::mem::replace(&mut context.uc_mcontext.gregs[libc::REG_RAX as usize], answer).cast_unsigned()
}

#[cfg(target_arch = "aarch64")]
fn replace(context: &mut libc::ucontext_t, answer: i64) -> u64 {
    context.uc_mcontext.regs[0] = answer.cast_unsigned();
    context.uc_mcontext.regs[8]
}

fn is_news(number: u64) -> bool {
    let place = (number as usize).min(NUMBERS - 1);
    let bit = 1 << (place % 64);
    TOLD[place / 64].fetch_or(bit, Ordering::Relaxed) & bit == 0
}

/// In a handler nothing may be allocated and no lock taken.
fn tell(number: u64) {
    const BEFORE: &[u8] = DENIED.as_bytes();
    let mut line = [0_u8; BEFORE.len() + 21];
    line[..BEFORE.len()].copy_from_slice(BEFORE);
    let mut digits = [0_u8; 20];
    let mut from = digits.len();
    let mut rest = number;
    loop {
        from -= 1;
        digits[from] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    let end = BEFORE.len() + digits.len() - from;
    line[BEFORE.len()..end].copy_from_slice(&digits[from..]);
    line[end] = b'\n';
    // SAFETY: writes from an array of this function; what it may say of an error is put back.
    unsafe {
        let errno = libc::__errno_location();
        let before = *errno;
        libc::write(libc::STDERR_FILENO, line.as_ptr().cast(), end + 1);
        *errno = before;
    }
}
