//! Prompts whose state outlives the daemon: kept when it ends, taken up by the next, told of, and off by one switch.

use rustix::process::Signal;
use serde_json::Value;

use crate::home::Home;

/// Long enough for the setting of these tests.
const PROMPT: &str = "Tell me a story about a small fox who lived in a green forest near a blue lake, and who \
    wanted to know why the stars shine at night. The fox had a friend, an old owl, and a little boat. One day \
    the fox and the owl went out on the lake in the boat, and the wind was strong, and they were very happy.";

fn home() -> Home {
    Home::new().with_variable("SAMOVAR_CACHE_PREFIX_MIN_TOKENS", "32")
}

fn ask(home: &Home, flags: &[&str]) -> (u64, u64, Value) {
    let answer = home.run(&[&["--json", "run", "-n", "6", "-t", "0"], flags, &[PROMPT]].concat()).json();
    let count = |name: &str| answer["usage"][name].as_u64().expect("a count");
    (count("prompt_tokens"), count("cached_tokens"), answer["text"].clone())
}

fn end_daemon(home: &Home) {
    home.signal_daemon(Signal::TERM);
    home.wait_until_daemon_is_gone();
}

#[test]
fn the_next_daemon_takes_up_what_the_one_before_computed() {
    let home = home();
    let (tokens, cached, said) = ask(&home, &[]);
    assert!(tokens > 64 && cached == 0, "{cached} of {tokens}");
    end_daemon(&home);
    assert_eq!(home.run(&["--json", "df"]).json()["prefixes"], 1);
    assert_eq!(ask(&home, &[]), (tokens, tokens - 1, said.clone()));
    let stats = home.run(&["stats"]).stdout;
    assert!(stats.contains("1 kept on disk (") && stats.contains("1 reused: "), "{stats}");
    let shown = home.run(&["show", "demo"]).stdout;
    assert!(shown.contains("state of 1 prompt kept, "), "{shown}");
    end_daemon(&home);
    // A process without a daemon shares it.
    assert_eq!(ask(&home, &["--no-daemon"]), (tokens, tokens - 1, said));
    let verified = home.run(&["--json", "verify"]).json();
    assert_eq!((&verified["prefixes"], &verified["damaged_prefixes"]), (&Value::from(1), &Value::from(0)));
}

#[test]
fn the_switch_keeps_nothing_and_gc_removes_what_was_kept() {
    let home = home();
    let (tokens, ..) = ask(&home, &["--no-daemon"]);
    assert_eq!(ask(&home, &["--no-daemon"]).1, tokens - 1);
    let home = home.with_variable("SAMOVAR_CACHE_PREFIX_QUOTA_BYTES", "0");
    assert_eq!(ask(&home, &["--no-daemon"]).1, 0);
    let collected = home.run(&["gc"]).stdout;
    assert!(collected.contains("1 saved prompt: "), "{collected}");
    assert_eq!(home.run(&["--json", "df"]).json()["prefixes"], 0);
}
