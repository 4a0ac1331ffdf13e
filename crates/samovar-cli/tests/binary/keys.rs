//! `samovar key`: a key is shown once, kept as a digest, and followed by a daemon that runs.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;

use rustix::process::Signal;
use serde_json::Value;

use crate::home::{Done, Home};

/// The key that a command printed, alone on its line.
#[track_caller]
fn key(done: &Done) -> String {
    assert_eq!(done.code, 0, "{done:?}");
    let key = done.stdout.trim_end();
    assert!(key.starts_with("sk-samovar-") && !key.contains(char::is_whitespace), "{done:?}");
    key.to_owned()
}

/// The status of a request over TCP.
fn status(address: &str, path: &str, key: Option<&str>) -> u16 {
    let mut stream = TcpStream::connect(address).expect("connects");
    let key = key.map(|key| format!("authorization: Bearer {key}\r\n")).unwrap_or_default();
    let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n{key}connection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("sends");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("answers");
    answer.get(9..12).and_then(|status| status.parse().ok()).unwrap_or_else(|| panic!("{answer}"))
}

#[test]
fn a_key_is_shown_once_and_kept_as_a_digest() {
    let home = Home::new();
    let terms =
        ["--models", "demo,org/name", "--rpm", "60", "--tpm", "40000", "--weight", "2", "--expires", "30d"];
    let added = home.run(&[&["key", "add", "ci"][..], &terms].concat());
    let first = key(&added);
    assert!(!added.stderr.contains(&first) && added.stderr.contains("cannot be shown again"), "{added:?}");
    let file = home.path().join("state/keys.json");
    assert_eq!(fs_err::metadata(&file).expect("facts").permissions().mode() & 0o777, 0o600);
    let second = key(&home.run(&["key", "rotate", "ci"]));
    assert_ne!(first, second);
    let listed = home.run(&["key", "list"]);
    assert!(listed.stdout.contains("ci") && listed.stdout.contains("demo,org/name"), "{listed:?}");
    let object = home.run(&["key", "list", "--json"]).json();
    let row = &object["keys"][0];
    assert_eq!(
        (&row["name"], &row["requests_per_minute"], &row["weight"]),
        (&"ci".into(), &60.into(), &2.into())
    );
    let text = fs_err::read_to_string(&file).expect("reads");
    for told in [&text, &listed.stdout, &object.to_string()] {
        assert!(!told.contains(&first) && !told.contains(&second), "{told}");
    }
    let as_json = home.run(&["key", "add", "dev", "--json"]).json();
    assert!(as_json["key"].as_str().is_some_and(|key| key.starts_with("sk-samovar-")), "{as_json}");
    assert_eq!(home.run(&["key", "rm", "ci"]).code, 0);
    assert_eq!(home.run(&["key", "list", "--json"]).json()["keys"].as_array().expect("a list").len(), 1);
}

#[test]
fn mistakes_with_keys_say_what_to_do() {
    let home = Home::new();
    let none = home.run(&["key", "rm", "ci"]);
    assert_eq!(none.code, 66, "{none:?}");
    assert!(none.stderr.contains("samovar key add"), "{none:?}");
    key(&home.run(&["key", "add", "ci"]));
    for (line, code, word) in [
        (&["key", "add", "ci"][..], 64, "samovar key rotate ci"),
        (&["key", "add", "a b"], 64, "letters, digits"),
        (&["key", "rotate", "dev"], 66, "samovar key list"),
        (&["key", "add", "dev", "--scope", "all"], 64, "infer, manage, admin, fleet"),
        (&["key", "add", "dev", "--rpm", "0"], 64, "from 1 to"),
        (&["key", "add", "dev", "--expires", "0"], 64, "30d"),
    ] {
        let done = home.run(line);
        assert_eq!(done.code, code, "{done:?}");
        assert!(done.stderr.contains(word), "{done:?}");
        assert!(done.stdout.is_empty(), "{done:?}");
    }
    fs_err::write(home.path().join("state/keys.json"), "{").expect("writes");
    let damaged = home.run(&["key", "list"]);
    assert_eq!(damaged.code, 74, "{damaged:?}");
    assert!(damaged.stderr.contains("damaged"), "{damaged:?}");
    assert_eq!(home.run(&["serve", "--listen", "127.0.0.1:0"]).code, 74);
}

#[test]
fn a_daemon_that_others_reach_starts_with_a_key_and_follows_each_change_at_once() {
    let home = Home::new();
    let first = key(&home.run(&["key", "add", "ci"]));
    let mut serve = home.spawn(&["serve", "--json", "--listen", "0.0.0.0:0"]);
    let stdout = BufReader::new(serve.child.stdout.as_mut().expect("piped"));
    let line = stdout.lines().next().expect("a line").expect("text");
    let listening: Value = serde_json::from_str(&line).expect("an object");
    let address = listening["listen"].as_str().expect("address").replace("0.0.0.0", "127.0.0.1");
    assert_eq!(status(&address, "/healthz", None), 200);
    assert_eq!(status(&address, "/v1/models", None), 401);
    assert_eq!(status(&address, "/v1/models", Some(&first)), 200);
    let second = key(&home.run(&["key", "rotate", "ci"]));
    assert_eq!(status(&address, "/v1/models", Some(&first)), 401);
    assert_eq!(status(&address, "/v1/models", Some(&second)), 200);
    assert_eq!(home.run(&["key", "rm", "ci"]).code, 0);
    assert_eq!(status(&address, "/v1/models", Some(&second)), 401);
    assert_eq!(
        status(&address, "/v1/models", None),
        401,
        "the last key was removed, and others still reach it"
    );
    assert_eq!(home.status_of("GET", "/v1/models", ""), 200, "the socket needs none");
    serve.signal(Signal::TERM);
    let done = serve.finish();
    assert_eq!(done.code, 0, "{done:?}");
    for key in [&first, &second] {
        assert!(!done.stderr.contains(key) && !done.stdout.contains(key), "{done:?}");
    }
}
