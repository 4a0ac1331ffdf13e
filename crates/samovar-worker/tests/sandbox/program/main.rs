//! The process that the sandbox's tests start: enters the sandbox, tries what it is told, and says what came of it.
#![cfg(target_os = "linux")]

mod attempt;
mod order;
mod sweep;

use samovar_worker::sandbox;

use attempt::Attempt;
use order::{Account, Order};

fn main() {
    let order = Order::given();
    attempt::received();
    prepare();
    if order.hides_landlock {
        hide_landlock();
    }
    if order.starts_a_thread_first {
        std::thread::spawn(std::thread::park);
    }
    match sandbox::enter(&order.plan) {
        Err(failure) => {
            Account { refused: Some(failure.message), report: None, outcomes: Vec::new() }.say();
        }
        Ok(report) => {
            let outcomes = order.attempts.iter().map(Attempt::outcome).collect();
            Account { refused: None, report: Some(report), outcomes }.say();
        }
    }
}

/// No attempt takes longer; a call that does not come back is a finding.
const MOST: u32 = 120;

/// Ends this process after so many seconds, also when it is in a call that does not return; and a file that would grow too
/// large is an error and not the end.
#[allow(unsafe_code, reason = "no safe interface has these calls")]
fn prepare() {
    // SAFETY: asks the kernel for a signal later, and to leave out another; there is one thread.
    unsafe {
        libc::alarm(MOST);
        libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
    }
}

/// Makes this kernel one without landlock, for this process.
fn hide_landlock() {
    use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, apply_filter};
    let calls = [libc::SYS_landlock_create_ruleset, libc::SYS_landlock_restrict_self];
    let filter = SeccompFilter::new(
        calls.map(|call| (call, Vec::new())).into(),
        SeccompAction::Allow,
        SeccompAction::Errno(libc::ENOSYS.unsigned_abs()),
        std::env::consts::ARCH.try_into().expect("a known processor"),
    );
    let filter: BpfProgram = filter.expect("sound rules").try_into().expect("sound rules");
    apply_filter(&filter).expect("a filter can be set");
}
