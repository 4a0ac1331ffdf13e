//! What a process in the sandbox can no longer do, and what it still can.
//!
//! ```text
//!   test ─► Order {plan, attempts} ─► program ─► sandbox::enter ─► attempts ─► Account
//!                                     with the sandbox, and without it
//! ```
//!
//! Every denial is tried twice: an attempt that fails without the sandbox as well would prove nothing.
#![cfg(target_os = "linux")]
#![allow(clippy::print_stdout, reason = "why a test was skipped is what it has to say")]

#[allow(dead_code, reason = "only the program tries")]
#[path = "program/attempt.rs"]
mod attempt;
mod escape;
#[path = "program/order.rs"]
mod order;
mod outside;
mod scene;
#[allow(dead_code, reason = "only the program tries")]
#[path = "program/sweep.rs"]
mod sweep;

use std::net::{TcpListener, UdpSocket};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};

use attempt::Attempt;
use order::{Account, ORDER};
use samovar_worker::sandbox::{Level, Mode, Part, PartStatus};
use scene::{Scene, User, is_root, refuses_tracing};

#[test]
fn no_network_can_be_reached() {
    let scene = Scene::new();
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    let path = scene.path("socket");
    let _unix = UnixListener::bind(&path).unwrap();
    let name = format!("samovar-test-{}", std::process::id());
    let _abstract = UnixListener::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
    scene.only_without_sandbox(&[
        Attempt::ConnectTcp(tcp.local_addr().unwrap().port()),
        Attempt::ListenTcp,
        Attempt::SendUdp(udp.local_addr().unwrap().port()),
        Attempt::ConnectUnix(path),
        Attempt::ConnectAbstract(name),
        Attempt::PairOfSockets,
    ]);
}

#[test]
fn no_program_is_run_and_no_process_made() {
    let scene = Scene::new();
    scene.only_without_sandbox(&[Attempt::Run, Attempt::Fork, Attempt::Replace]);
}

#[test]
fn no_file_outside_the_plan_can_be_read() {
    let scene = Scene::new();
    if scene.lacks_landlock() {
        return;
    }
    let link = scene.path("link");
    fs_err::os::unix::fs::symlink(scene.path("secret"), &link).unwrap();
    scene.only_without_sandbox(&[
        Attempt::Read(scene.path("secret")),
        Attempt::Read(link),
        Attempt::List(scene.path(".")),
        Attempt::Read("/etc/passwd".into()),
        Attempt::Read("/proc/self/environ".into()),
        Attempt::Read(format!("/proc/{}/status", std::process::id()).into()),
        // What all others compute is told by the parent, as far as it matters.
        Attempt::Read("/proc/stat".into()),
        Attempt::Read("/proc/loadavg".into()),
        // Mapped and shared, its pages would be memory that no count of a process shows.
        Attempt::Read("/dev/zero".into()),
        // Not even what it was handed, once more and by its name.
        Attempt::ReopenGiven,
    ]);
}

#[test]
fn nothing_on_disk_can_be_changed() {
    let scene = Scene::new();
    let file = |name: &str| {
        fs_err::write(scene.path(name), "as it was").unwrap();
        scene.path(name)
    };
    scene.only_without_sandbox(&[
        Attempt::Create(scene.path("new")),
        Attempt::Write(file("written")),
        Attempt::Write(scene.path("model")),
        Attempt::Truncate(file("truncated")),
        Attempt::Remove(file("removed")),
        Attempt::Rename(file("renamed")),
        Attempt::ChangeMode(file("changed")),
        Attempt::MakeFolder(scene.path("folder")),
    ]);
}

#[test]
fn files_are_made_in_the_folder_that_is_meant_for_that_and_nowhere_else() {
    let scene = Scene::new();
    if scene.lacks_landlock() {
        return;
    }
    let work = scene.path("work");
    fs_err::create_dir(&work).unwrap();
    let new = work.join("new");
    let order = |attempts: &[Attempt]| {
        let mut order = scene.order(Mode::Auto, attempts);
        order.plan.writable = Some(work.clone());
        order
    };
    let made = scene.run(&order(&[
        Attempt::Create(new.clone()),
        Attempt::Write(new.clone()),
        Attempt::Rename(new.clone()),
        Attempt::Remove(new.with_extension("moved")),
    ]));
    assert!(made.outcomes.iter().all(attempt::AttemptResult::is_ok), "{:?}", made.outcomes);
    let denied = [
        Attempt::Create(scene.path("new")),
        Attempt::Write(scene.path("model")),
        Attempt::Rename(scene.path("model")),
        Attempt::Remove(scene.path("model")),
        Attempt::Read(scene.path("secret")),
        Attempt::MakeFolder(work.join("folder")),
        Attempt::ChangeMode(scene.path("model")),
    ];
    let outcomes = scene.run(&order(&denied)).outcomes;
    assert!(!outcomes.iter().any(attempt::AttemptResult::is_ok), "{outcomes:?}");
}

#[test]
fn names_in_a_folder_may_be_listed_without_its_files_being_read() {
    let scene = Scene::new();
    if scene.lacks_landlock() {
        return;
    }
    let folder = scene.path("published");
    fs_err::create_dir(&folder).unwrap();
    fs_err::write(folder.join("notes"), "none of the model's").unwrap();
    let mut order = scene.order(
        Mode::Auto,
        &[Attempt::List(folder.clone()), Attempt::Read(folder.join("notes")), Attempt::List(scene.path("."))],
    );
    order.plan.listable = Some(folder);
    let outcomes = scene.run(&order).outcomes;
    let is_ok: Vec<bool> = outcomes.iter().map(attempt::AttemptResult::is_ok).collect();
    assert_eq!(is_ok, [true, false, false], "{outcomes:?}");
}

#[test]
fn other_processes_cannot_be_touched() {
    let scene = Scene::new();
    let victim = scene.victim();
    let mut attempts = vec![Attempt::Signal(victim)];
    match refuses_tracing() {
        Some(reason) => println!("skipped: attaching: {reason}"),
        None => attempts.extend([Attempt::Attach(victim), Attempt::ReadMemory(victim)]),
    }
    scene.only_without_sandbox(&attempts);
}

#[test]
fn calls_that_faults_are_found_in_are_refused() {
    let scene = Scene::new();
    let calls = [
        ("bpf", libc::SYS_bpf),
        ("io_uring_setup", libc::SYS_io_uring_setup),
        ("userfaultfd", libc::SYS_userfaultfd),
        ("keyctl", libc::SYS_keyctl),
        ("unshare", libc::SYS_unshare),
        ("setns", libc::SYS_setns),
        ("perf_event_open", libc::SYS_perf_event_open),
        ("shmget", libc::SYS_shmget),
    ];
    let attempts: Vec<_> =
        calls.iter().map(|(name, call)| Attempt::Call((*name).to_owned(), *call)).collect();
    let free = scene.run(&scene.order(Mode::Off, &attempts));
    let caged = scene.run(&scene.order(Mode::Auto, &attempts));
    let mut compared = 0;
    for ((attempt, free), caged) in attempts.iter().zip(&free.outcomes).zip(&caged.outcomes) {
        assert_eq!(caged.errno(), Some(libc::EPERM), "{attempt:?}");
        compared += usize::from(free.errno() != Some(libc::EPERM));
    }
    assert!(compared >= 4, "nearly everything is refused without the sandbox too: {:?}", free.outcomes);
}

#[test]
fn the_parents_secrets_stay_with_the_parent() {
    let scene = Scene::new();
    let order = scene.order(Mode::Auto, &[Attempt::Environment, Attempt::Descriptors, Attempt::Folder]);
    let inheritable = scene.inheritable_descriptor();
    let open = scene.run_unprepared(&order);
    let closed = scene.run(&order);
    assert!(open.outcomes[0].text().contains("hf_secret"), "the control sees the secret");
    assert!(!closed.outcomes[0].text().contains("hf_secret"));
    let allowed = ["LANG", "LD_LIBRARY_PATH", ORDER];
    for variable in closed.outcomes[0].text().lines() {
        let name = variable.split('=').next().unwrap_or_default();
        assert!(allowed.contains(&name), "a worker sees {name}");
    }
    let listed =
        |account: &Account| account.outcomes[1].text().lines().any(|line| line == inheritable.to_string());
    assert!(listed(&open), "the control inherits the descriptor: {}", open.outcomes[1].text());
    assert!(!listed(&closed), "{}", closed.outcomes[1].text());
    assert_eq!(closed.outcomes[2].text(), "/");
}

#[test]
fn what_a_model_needs_still_works() {
    let scene = Scene::new();
    let needs = needs(&scene);
    for mode in [Mode::Off, Mode::Auto] {
        let account = scene.run(&scene.order(mode, &needs));
        for (attempt, outcome) in needs.iter().zip(&account.outcomes) {
            assert!(outcome.is_ok(), "{mode:?}: {attempt:?}: {outcome:?}");
        }
    }
    assert_eq!(fs_err::read_to_string(scene.path("given")).unwrap(), "written");
}

fn needs(scene: &Scene) -> Vec<Attempt> {
    vec![
        Attempt::Read(scene.path("model")),
        Attempt::Map(scene.path("model")),
        Attempt::Read("/proc/cpuinfo".into()),
        Attempt::Read("/sys/devices/system/cpu/online".into()),
        Attempt::Threads(8),
        Attempt::Allocate(64 << 20),
        Attempt::WriteGiven,
        Attempt::ReopenMemory,
        Attempt::SignalItself,
    ]
}

#[test]
fn an_ordinary_users_worker_is_caged_as_well_and_lacks_nothing() {
    let scene = Scene::new();
    if !is_root() {
        println!("skipped: changing the user needs root");
        return;
    }
    scene.share_with_everybody();
    let mut attempts = needs(&scene);
    let needed = attempts.len();
    attempts.extend([Attempt::PairOfSockets, Attempt::Fork, Attempt::Read("/etc/passwd".into())]);
    let account = scene.run_as(User::Nobody, &scene.order(Mode::Auto, &attempts));
    for (attempt, outcome) in attempts.iter().zip(&account.outcomes).take(needed) {
        assert!(outcome.is_ok(), "{attempt:?}: {outcome:?}");
    }
    for outcome in &account.outcomes[needed..needed + 2] {
        assert!(outcome.errno().is_some(), "{outcome:?}");
    }
    let has_landlock = !scene.lacks_landlock();
    assert_eq!(account.outcomes[needed + 2].errno().is_some(), has_landlock);
    let report = account.report.expect("auto goes on");
    for part in Part::ALL {
        assert!(report.has(part) || (part == Part::Files && !has_landlock), "{report}");
    }
    if has_landlock {
        let account = scene.run_as(User::Nobody, &scene.order(Mode::Require, &[]));
        assert_eq!(account.report.map(|report| report.level()), Some(Level::Full), "{:?}", account.refused);
    }
}

#[test]
fn memory_past_the_limit_is_refused_to_the_worker() {
    let scene = Scene::new();
    let more = [Attempt::Allocate(512 << 20), Attempt::Map(scene.path("large"))];
    let file = fs_err::File::create(scene.path("large")).unwrap();
    file.set_len(1 << 30).unwrap();
    let with = |limit| {
        let mut order = scene.order(Mode::Auto, &more);
        order.plan.readable.push(scene.path("large"));
        order.plan.memory_limit_bytes = limit;
        scene.run(&order)
    };
    let (free, bound) = (with(None), with(Some(256 << 20)));
    assert!(free.outcomes[0].is_ok(), "{:?}", free.outcomes[0]);
    assert_eq!(bound.outcomes[0].errno(), Some(libc::ENOMEM));
    // Weights are mapped and belong to no process: a gigabyte of them is no memory of its own.
    assert!(bound.outcomes[1].is_ok(), "{:?}", bound.outcomes[1]);
}

#[test]
fn the_worker_dies_before_its_parent_and_leaves_no_core() {
    let scene = Scene::new();
    let facts = [Attempt::OomScore, Attempt::CoreBytes, Attempt::Capabilities];
    let free = scene.run(&scene.order(Mode::Off, &facts));
    let mut order = scene.order(Mode::Auto, &facts);
    order.plan = order.plan.and_reading("/proc/self/oom_score_adj").and_reading("/proc/self/status");
    let caged = scene.run(&order);
    let number = |account: &Account, at: usize| account.outcomes[at].text().parse::<u64>().unwrap();
    assert!(number(&caged, 0) >= 900 && number(&caged, 0) > number(&free, 0));
    assert_eq!(number(&caged, 1), 0);
    if is_root() {
        assert!(number(&caged, 2) <= 2 && number(&free, 2) > 2, "root's capabilities");
    }
}

#[test]
fn a_file_that_it_was_handed_grows_no_further_than_was_granted() {
    let scene = Scene::new();
    let mut order =
        scene.order(Mode::Auto, &[Attempt::FillGiven(1 << 20), Attempt::FillGiven((1 << 20) + 1)]);
    assert!(scene.run(&order).outcomes.iter().all(attempt::AttemptResult::is_ok), "without a bound");
    order.plan.written_limit_bytes = Some(1 << 20);
    let outcomes = scene.run(&order).outcomes;
    assert!(outcomes[0].is_ok(), "{outcomes:?}");
    assert_eq!(outcomes[1].errno(), Some(libc::EFBIG));
}

#[test]
fn work_in_the_background_yields_to_everything_else() {
    const SCHED_IDLE: u32 = 5;
    const CLASS_IDLE: u32 = 3;
    let scene = Scene::new();
    // The sandbox allows no such question, so this is seen without it.
    let mut order = scene.order(Mode::Off, &[Attempt::Standing]);
    let usual = scene.run(&order).outcomes[0].text().to_owned();
    order.plan.is_background = true;
    let standing = scene.run(&order).outcomes[0].text().to_owned();
    let (own, session) = standing.rsplit_once(' ').unwrap();
    assert_eq!(own, format!("19 {SCHED_IDLE} {CLASS_IDLE}"));
    let (own_usual, session_usual) = usual.rsplit_once(' ').unwrap();
    assert_ne!(own, own_usual);
    // A kernel may be built without sessions that share the cores.
    let expected = if session_usual == "none" { "none" } else { "19" };
    assert_eq!(session, expected);
    if !scene.lacks_landlock() {
        order.plan.mode = Mode::Require;
        assert_eq!(scene.run(&order).refused, None, "and it can be asked for together with the sandbox");
    }
}

#[test]
fn required_means_all_or_nothing() {
    let scene = Scene::new();
    // A thread that exists already would stay outside.
    let mut order = scene.order(Mode::Require, &[Attempt::Read(scene.path("model"))]);
    order.starts_a_thread_first = true;
    let account = scene.run(&order);
    let refused = account.refused.expect("required, and incomplete");
    assert!(refused.contains("2 threads exist already"), "{refused}");
    assert!(account.outcomes.is_empty(), "it went on");
    order.plan.mode = Mode::Auto;
    let report = scene.run(&order).report.expect("auto goes on");
    assert_eq!(report.level(), Level::Partial);
}

#[test]
fn without_landlock_the_rest_holds_and_the_report_says_so() {
    let scene = Scene::new();
    let attempts =
        [Attempt::Create(scene.path("new")), Attempt::Write(scene.path("model")), Attempt::PairOfSockets];
    let mut order = scene.order(Mode::Auto, &attempts);
    order.hides_landlock = true;
    let account = scene.run(&order);
    let report = account.report.expect("auto goes on");
    assert_eq!(report.level(), Level::Partial);
    let files = report.parts.iter().find(|(part, _)| *part == Part::Files).unwrap();
    assert!(matches!(&files.1, PartStatus::Missing(why) if why.contains("landlock")), "{files:?}");
    for outcome in &account.outcomes {
        assert_eq!(outcome.errno(), Some(libc::EPERM));
    }
    order.plan.mode = Mode::Require;
    let refused = scene.run(&order).refused.expect("required, and incomplete");
    assert!(refused.contains("files") && refused.contains("landlock"), "{refused}");
}

#[test]
fn here_everything_is_reached() {
    let scene = Scene::new();
    if scene.lacks_landlock() {
        return;
    }
    let account = scene.run(&scene.order(Mode::Require, &[]));
    let report = account.report.unwrap_or_else(|| panic!("refused: {:?}", account.refused));
    assert_eq!(report.level(), Level::Full, "{report}");
    println!("{report}");
}
