//! Many first callers of a fresh home: the built-in model enters once, and nobody is refused.

use rustix::process::Signal;

use crate::home::{Home, Running};

const HOMES: usize = 3;
const CALLERS: usize = 48;

#[test]
fn many_first_requests_at_once_are_all_answered() {
    let body = r#"{"model":"demo","messages":[{"role":"user","content":"hi"}],"max_tokens":1}"#;
    for _ in 0..HOMES {
        let home = Home::new();
        let daemon = serve(&home);
        let statuses: Vec<u16> = std::thread::scope(|scope| {
            let call = |_| scope.spawn(|| home.status_of("POST", "/v1/chat/completions", body));
            let callers: Vec<_> = (0..CALLERS).map(call).collect();
            callers.into_iter().map(|caller| caller.join().expect("caller")).collect()
        });
        assert_eq!(statuses, vec![200; CALLERS]);
        daemon.signal(Signal::TERM);
        assert_eq!(daemon.finish().code, 0);
    }
}

/// A daemon whose socket answers.
fn serve(home: &Home) -> Running {
    use std::io::{BufRead, BufReader};
    let mut daemon = home.spawn(&["serve", "--listen", "127.0.0.1:0", "--json"]);
    let stdout = daemon.child.stdout.as_mut().expect("piped");
    let mut line = String::new();
    BufReader::new(stdout).read_line(&mut line).expect("a greeting");
    assert!(line.contains("socket"), "{line}");
    daemon
}
