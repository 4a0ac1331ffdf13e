//! Nothing that a worker calls changes anything outside of it: every number, as root and as an ordinary user, with landlock
//! and without.
//!
//! ```text
//!   Outside::look ─► program: every call, with arguments that would do harm ─► Outside::look: the same
//!                             without the sandbox, at the victims alone     ─► Outside::look: everything changed
//! ```

use std::collections::BTreeSet;
use std::os::unix::process::ExitStatusExt;

use samovar_worker::sandbox::{Mode, Part};

use crate::attempt::Attempt;
use crate::outside::{Outside, clear};
use crate::scene::{Scene, User, is_root};
use crate::sweep::{Answer, LAST};

/// Who tries: this user, and an ordinary one where this is root.
fn users() -> Vec<User> {
    if is_root() { vec![User::This, User::Nobody] } else { vec![User::This] }
}

fn answers(text: &str) -> Vec<Answer> {
    serde_json::from_str(text).expect("answers")
}

#[test]
fn no_call_changes_anything_outside() {
    /// The newest call that the list was compared with.
    const NEWEST: i64 = 469;
    for user in users() {
        for hides_landlock in [false, true] {
            let scene = Scene::new();
            let targets = scene.targets(user);
            let attempts = [Attempt::Harm(targets.clone()), Attempt::Sweep(targets.clone())];
            let mut order = scene.order(Mode::Auto, &attempts);
            order.hides_landlock = hides_landlock;
            // What it writes to the file that it was handed it may also read, and its memory shall outlive that.
            order.plan.written_limit_bytes = Some(4096);
            let before = Outside::look(&targets);
            let account = scene.run_as(user, &order);
            let who = format!("{user:?}, landlock hidden: {hides_landlock}");
            assert_eq!(before.changes(&Outside::look(&targets)), [""; 0], "{who}");
            let report = account.report.expect("auto goes on");
            assert!(report.has(Part::Calls) && !(hides_landlock && report.has(Part::Files)), "{report}");
            let harm = answers(account.outcomes[0].text());
            let done: Vec<_> = harm.iter().filter(|answer| !answer.is_denied()).collect();
            assert!(done.is_empty(), "{who}: not denied: {done:?}");
            let swept = answers(account.outcomes[1].text());
            let answered: BTreeSet<i64> =
                swept.iter().filter(|answer| !answer.is_denied()).map(|answer| answer.number).collect();
            assert!(answered.len() < 100, "{who}: {answered:?}");
            // Whatever is newer than the list, and whatever has another interface, seems not to exist.
            assert!(answered.last().is_some_and(|number| *number <= NEWEST), "{who}: {answered:?}");
            let newer = swept.iter().filter(|answer| answer.number > NEWEST);
            assert!(newer.clone().all(|answer| answer.errno == libc::ENOSYS), "{who}");
            assert!(newer.count() > (LAST - NEWEST) as usize, "{who}");
        }
    }
}

#[test]
fn without_the_sandbox_the_same_calls_change_what_is_looked_at() {
    let scene = Scene::new();
    let targets = scene.targets(User::This);
    let before = Outside::look(&targets);
    let account = scene.run(&scene.order(Mode::Off, &[Attempt::Harm(targets.clone())]));
    let changes = before.changes(&Outside::look(&targets));
    clear(targets.key);
    let harm = answers(account.outcomes[0].text());
    for what in [
        format!("file {}", targets.file.display()),
        format!("file {}", targets.removable.display()),
        format!("file {}", targets.free.display()),
        format!("process {}", targets.victim),
        format!("process {}", targets.mortal),
        "shared shm".to_owned(),
        "shared msg".to_owned(),
        "shared sem".to_owned(),
    ] {
        assert!(changes.iter().any(|change| change.starts_with(&what)), "{what}: {changes:#?} {harm:?}");
    }
    // The sweep of all numbers refuses to run where it would do harm to the machine.
    let refused = scene.run(&scene.order(Mode::Off, &[Attempt::Sweep(targets)]));
    assert!(!refused.outcomes[0].is_ok(), "{:?}", refused.outcomes);
}

#[test]
#[cfg(target_arch = "x86_64")]
fn calls_of_another_processor_end_the_process() {
    let scene = Scene::new();
    let status = scene.end_of(&scene.order(Mode::Auto, &[Attempt::OldInterface]));
    // Kernels without that interface know no such instruction.
    assert!(matches!(status.signal(), Some(libc::SIGSYS | libc::SIGSEGV)), "{status}");
}

#[test]
fn what_is_denied_is_told_once() {
    let scene = Scene::new();
    let call = Attempt::Call("sched_setscheduler".to_owned(), libc::SYS_sched_setscheduler);
    let said = scene.said(&scene.order(Mode::Auto, &[call.clone(), call, Attempt::PairOfSockets]));
    let told = |number: i64| {
        let line = format!("WARN the sandbox denied system call {number}");
        said.lines().filter(|said| *said == line).count()
    };
    assert_eq!((told(libc::SYS_sched_setscheduler), told(libc::SYS_socketpair)), (1, 1), "{said}");
}
