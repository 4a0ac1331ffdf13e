//! What lies between the daemon, its workers and other processes, for each user who runs it: root or not.
#![cfg(all(target_os = "linux", feature = "llama"))]
#![allow(clippy::print_stdout, reason = "why a test was skipped is what it has to say")]

use std::io::Write;

use crate::home::Home;

#[test]
fn whoever_requires_the_whole_sandbox_is_served() {
    let home = Home::new().with_config("[pool]\nsandbox = 'require'\n");
    let done = home.run(&["run", "-n", "4", "Hello"]);
    if done.stderr.contains("landlock") {
        // Past the test's captured output: the user who runs the tests must see it.
        writeln!(std::io::stderr(), "skipped: this kernel lacks a part of the sandbox: {}", done.stderr)
            .expect("says so");
        return;
    }
    assert_eq!(done.code, 0, "{done:?}");
    let sandbox = home.stats()["workers"]["sandbox"].to_string();
    assert!(!sandbox.contains("missing") && sandbox.contains("calls allowed"), "{sandbox}");
    assert_eq!(home.stats()["workers"]["denied_calls"], 0, "{sandbox}");
}

#[test]
fn the_daemon_is_closed_to_others_of_its_user() {
    let home = Home::new();
    assert_eq!(home.run(&["run", "-n", "2", "Hello"]).code, 0);
    let pid = home.daemon_pid().expect("a daemon");
    if rustix::process::geteuid().is_root() {
        println!("skipped: nothing is closed to root");
        return;
    }
    for secret in ["environ", "mem", "maps"] {
        let error = fs_err::File::open(format!("/proc/{pid}/{secret}")).expect_err(secret);
        assert_eq!(error.kind(), std::io::ErrorKind::PermissionDenied, "{secret}");
    }
}
