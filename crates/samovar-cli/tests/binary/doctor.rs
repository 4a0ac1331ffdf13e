//! `samovar doctor`.

use crate::home::Home;

#[test]
fn a_healthy_machine_is_found_healthy_with_real_inference() {
    let home = Home::new();
    let found = home.run(&["doctor", "--json"]).json();
    assert_eq!(found["is_fine"], true);
    let findings = found["findings"].as_array().expect("findings");
    let text = |name: &str| {
        let finding =
            findings.iter().find(|finding| finding["name"] == name).unwrap_or_else(|| panic!("{name}"));
        finding["text"].as_str().expect("text").to_owned()
    };
    assert!(text("inference").contains("tokens a second"));
    let workers = text("workers");
    assert!(workers.contains("in a process of its own") && workers.contains("calls (seccomp"), "{workers}");
    assert!(text("daemon").starts_with("not running"));
    assert!(!home.socket().exists(), "looking starts nothing");
    assert_eq!(home.run(&["run", "-n", "4", "Hello"]).code, 0);
    let done = home.run(&["doctor", "--quick"]);
    assert!(done.stdout.contains("✓ daemon") && done.stdout.contains("process"), "{done:?}");
}

#[test]
fn what_is_broken_is_told_with_an_exit_code() {
    let home = Home::new();
    fs_err::write(home.path().join("cache"), "a file where a directory should be").expect("file");
    let done = home.run(&["doctor"]);
    assert_eq!(done.code, 74, "{done:?}");
    assert!(done.stdout.contains("✗ directories") && done.stdout.contains("hint:"), "{done:?}");
}
