//! What an owner of a daemon for others sees: use over restarts, and mistakes in the files of TLS.

use crate::home::{Home, await_some};

#[test]
fn use_is_told_by_the_daemon_and_after_it_has_gone() {
    let home = Home::new();
    let none = home.run(&["usage"]);
    assert_eq!((none.code, none.stdout.as_str()), (0, "no model was used\n"), "{none:?}");
    assert_eq!(home.run(&["run", "-n", "4", "Hello"]).code, 0);
    let usage = || home.run(&["usage", "--json", "--by", "model", "--since", "1d"]).json();
    // The daemon may end a request a moment after its client has read the last byte.
    let told = await_some(|| Some(usage()).filter(|report| report["rows"][0]["requests"] == 1));
    assert_eq!(told["rows"][0]["model"], "demo");
    assert!(told["rows"][0]["prompt_tokens"].as_u64() > Some(0), "{told}");
    let table = home.run(&["usage"]).stdout;
    assert!(table.starts_with("CLIENT") && table.contains("uid ") && table.contains("demo"), "{table}");
    assert_eq!(home.run(&["shutdown"]).code, 0);
    assert_eq!(usage()["rows"], told["rows"], "read from the files");
}

#[test]
fn a_daemon_that_counts_nothing_says_so() {
    let home = Home::new().with_config("[server]\nusage = false\n");
    let done = home.run(&["usage"]);
    assert_ne!(done.code, 0);
    assert!(done.stderr.contains("not counted") && done.stderr.contains("usage = true"), "{done:?}");
}

#[test]
fn a_file_of_tls_that_is_not_there_is_named_at_the_start() {
    let home = Home::new().with_config("[server.tls]\ncertificate = 'server.pem'\nkey = 'key.pem'\n");
    let done = home.run(&["serve", "--listen", "127.0.0.1:0"]);
    assert_ne!(done.code, 0);
    assert!(done.stderr.contains("cannot read the TLS certificate"), "{done:?}");
    assert!(done.stderr.contains("server.pem") && done.stderr.contains("server.tls.certificate"), "{done:?}");
    let looked = home.run(&["doctor", "--quick"]);
    assert!(looked.code != 0 && looked.stdout.contains("✗ tls"), "{looked:?}");
    let half = Home::new().with_config("[server.tls]\ncertificate = 'server.pem'\n");
    let done = half.run(&["config"]);
    assert_ne!(done.code, 0);
    assert!(done.stderr.contains("`server.tls.key` is not"), "{done:?}");
}
