//! Programs that are to ask this one: their settings, shown, written and tried.

use rustix::process::Signal;
use serde_json::Value;

use crate::home::Home;

#[test]
fn the_programs_that_are_known_are_listed() {
    let home = Home::new();
    let done = home.run(&["link", "--json"]).json();
    let programs: Vec<&str> = done["programs"]
        .as_array()
        .expect("programs")
        .iter()
        .filter_map(|row| row["program"].as_str())
        .collect();
    let expected = [
        "open-webui",
        "continue",
        "zed",
        "codex",
        "claude-code",
        "opencode",
        "aider",
        "langchain",
        "litellm",
    ];
    assert_eq!(programs, expected);
    for program in expected {
        let done = home.run(&["link", program]);
        assert_eq!(done.code, 0, "{program}: {done:?}");
        assert!(done.stdout.contains("http://127.0.0.1:7266"), "{program}: {done:?}");
        assert!(done.stderr.contains("no daemon is running: `samovar serve`"), "{program}: {done:?}");
    }
    assert!(home.daemon_pid().is_none());
}

#[test]
fn settings_are_written_once_and_what_was_there_is_kept() {
    let home = Home::new();
    let file = home.path().join(".codex/config.toml");
    let line = ["link", "codex", "--write"];
    let done = home.run(&line);
    assert_eq!(
        (done.code, done.stdout.as_str()),
        (0, format!("wrote {}\n", file.display()).as_str()),
        "{done:?}"
    );
    let text = fs_err::read_to_string(&file).expect("written");
    assert!(text.contains("wire_api = \"responses\"") && text.contains("model = \"demo\""), "{text}");
    let again = home.run(&line);
    assert!(again.stdout.ends_with("says so already\n"), "{again:?}");
    let mine = "# mine\nmodel = \"other\"\n[tools]\nx = 1\n";
    fs_err::write(&file, mine).expect("written");
    let done = home.run(&line);
    assert!(done.stdout.contains("what it was is in"), "{done:?}");
    assert_eq!(fs_err::read_to_string(home.path().join(".codex/config.toml.bak")).expect("a copy"), mine);
    let text = fs_err::read_to_string(&file).expect("written");
    assert!(text.starts_with("# mine\nmodel = \"demo\"\n") && text.contains("[tools]\nx = 1\n"), "{text}");
    let broken = home.path().join("broken.json");
    fs_err::write(&broken, "{ not json").expect("written");
    let done = home.run(&["link", "zed", "--write", "--file", "broken.json"]);
    assert_eq!(done.code, 64, "{done:?}");
    assert_eq!(fs_err::read_to_string(&broken).expect("text"), "{ not json");
}

#[test]
fn a_check_asks_as_the_program_does() {
    // Another daemon of this machine may have the usual port.
    let unserved = Home::new().with_config("[server]\nlisten = '127.0.0.1:1'\n");
    let nothing = unserved.run(&["link", "langchain", "--check"]);
    assert_eq!(nothing.code, 69, "{nothing:?}");
    assert!(
        nothing.stdout.starts_with("✗ gets a whole answer (/v1/chat/completions): nothing answers at"),
        "{nothing:?}"
    );
    let home = Home::new();
    let (daemon, _) = home.serve();
    for program in ["open-webui", "aider", "langchain", "litellm"] {
        let done = home.run(&["link", program, "--check", "--json"]).json();
        let checks = done["checks"].as_array().expect("checks");
        assert!(!checks.is_empty() && checks.iter().all(|check| check["works"] == true), "{program}: {done}");
        assert_eq!(done["model"], Value::from("demo"), "{program}: {done}");
    }
    let unknown = home.run(&["link", "codex", "--model", "dmo"]);
    assert!(unknown.code == 66 && unknown.stderr.contains("did you mean"), "{unknown:?}");
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.finish().code, 0);
}

#[test]
fn a_daemon_with_keys_is_asked_with_the_key_of_the_variable() {
    let home = Home::new();
    let open = home.run(&["link", "codex"]);
    assert!(!open.stdout.contains("env_key"), "{open:?}");
    let added = home.run(&["key", "add", "link"]);
    assert_eq!(added.code, 0, "{added:?}");
    let asked = home.run(&["link", "codex"]);
    assert!(asked.stdout.contains("env_key = \"SAMOVAR_API_KEY\""), "{asked:?}");
    assert!(asked.stderr.contains("the daemon asks for a key"), "{asked:?}");
    let (daemon, _) = home.serve();
    let without = home.run(&["link", "langchain", "--check"]);
    assert!(without.code == 69 && without.stdout.contains("401"), "{without:?}");
    let key = added.stdout.trim().to_owned();
    let mut command = home.command(&["link", "langchain", "--check", "--json"]);
    let output = command.env("SAMOVAR_API_KEY", &key).output().expect("runs");
    let stdout = String::from_utf8(output.stdout).expect("UTF-8");
    assert!(output.status.success() && !stdout.contains(&key), "{stdout}");
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.finish().code, 0);
}

#[test]
fn a_daemon_with_tls_is_asked_over_it_and_must_show_its_own_certificate() {
    let certificates = concat!(env!("CARGO_MANIFEST_DIR"), "/../samovar-server/tests/certificates");
    let home = Home::new().with_config("[server.tls]\ncertificate = 'server.pem'\nkey = 'key.pem'\n");
    let copy = |from: &str, to: &str| {
        fs_err::copy(format!("{certificates}/{from}"), home.path().join(to)).expect("copies")
    };
    copy("server.pem", "server.pem");
    copy("server.key.pem", "key.pem");
    let (daemon, _) = home.serve();
    let done = home.run(&["link", "langchain", "--check", "--json"]).json();
    assert!(done["url"].as_str().is_some_and(|url| url.starts_with("https://127.0.0.1:")), "{done}");
    assert_eq!(done["checks"][0]["works"], true, "{done}");
    let shown = home.run(&["link", "codex"]);
    assert!(shown.stdout.contains("https://") && shown.stderr.contains("CODEX_CA_CERTIFICATE"), "{shown:?}");
    let other = home.path().join("client.pem");
    copy("client.pem", "client.pem");
    let mut command = home.command(&["link", "langchain", "--check"]);
    let output = command.env("SAMOVAR_SERVER_TLS_CERTIFICATE", &other).output().expect("runs");
    let stdout = String::from_utf8(output.stdout).expect("UTF-8");
    assert!(!output.status.success() && stdout.contains("the TLS handshake failed"), "{stdout}");
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.finish().code, 0);
}
