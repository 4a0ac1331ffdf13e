//! Many first callers of a fresh home: the built-in model enters once, and no caller is refused.
//!
//! `cargo x soak homes` tries more homes with more callers (`SAMOVAR_HOMES`, `SAMOVAR_CALLERS`).

use rustix::process::Signal;

use crate::home::{Home, Running};

#[test]
fn many_first_requests_at_once_are_all_answered() {
    let body = r#"{"model":"demo","messages":[{"role":"user","content":"hi"}],"max_tokens":1}"#;
    let (homes, callers) = (count("SAMOVAR_HOMES", 3), count("SAMOVAR_CALLERS", 48));
    for number in 0..homes {
        let home = Home::new();
        let daemon = serve(&home);
        let statuses: Vec<u16> = std::thread::scope(|scope| {
            let call = |_| scope.spawn(|| home.status_of("POST", "/v1/chat/completions", body));
            let callers: Vec<_> = (0..callers).map(call).collect();
            callers.into_iter().map(|caller| caller.join().expect("caller")).collect()
        });
        assert_eq!(statuses, vec![200; callers], "home {number}");
        daemon.signal(Signal::TERM);
        assert_eq!(daemon.finish().code, 0);
    }
    println!("{homes} fresh homes, {callers} first callers of each, no failure");
}

/// How many of something: as a test has, or as an endurance run wishes.
fn count(variable: &str, otherwise: usize) -> usize {
    std::env::vars()
        .find_map(|(name, text)| (name == variable).then(|| text.parse().ok()).flatten())
        .unwrap_or(otherwise)
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
