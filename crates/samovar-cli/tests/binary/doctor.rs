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
    assert!(text("inference").contains("tokens per second"));
    let workers = text("workers");
    assert!(workers.contains("in its own process") && workers.contains("calls (seccomp"), "{workers}");
    assert!(text("daemon").starts_with("not running"));
    assert!(!home.socket().exists(), "looking starts nothing");
    assert_eq!(home.run(&["run", "-n", "4", "Hello"]).code, 0);
    let done = home.run(&["doctor", "--quick"]);
    assert!(done.stdout.contains("✓ daemon") && done.stdout.contains("process"), "{done:?}");
}

#[test]
fn a_name_whose_file_is_gone_is_told() {
    let home = Home::new().with_config("[models.lost]\nsource = './lost.gguf'\n");
    let done = home.run(&["doctor", "--quick"]);
    assert_eq!(done.code, 0, "{done:?}");
    assert!(done.stdout.contains("! names") && done.stdout.contains("lost.gguf"), "{done:?}");
    fs_err::copy(crate::home::MODEL_FILE, home.path().join("lost.gguf")).expect("copies");
    let done = home.run(&["doctor", "--quick"]);
    assert!(done.stdout.contains("✓ names"), "{done:?}");
    let is_of_names = |line: &&str| line.split_whitespace().nth(1) == Some("names");
    assert_eq!(done.stdout.lines().filter(is_of_names).count(), 1, "they are looked at once: {done:?}");
}

#[test]
fn looking_at_names_of_the_built_in_model_puts_nothing_into_the_store() {
    let home = Home::new().with_config("[models.tale]\nsource = 'demo'\n");
    let done = home.run(&["doctor", "--quick"]);
    assert!(done.code == 0 && done.stdout.contains("✓ names"), "{done:?}");
    assert_eq!(home.run(&["df", "--json"]).json()["artifacts"], 0);
}

#[test]
fn what_is_broken_is_told_with_an_exit_code() {
    let home = Home::new();
    fs_err::write(home.path().join("cache"), "a file where a directory should be").expect("file");
    let done = home.run(&["doctor"]);
    assert_eq!(done.code, 74, "{done:?}");
    assert!(done.stdout.contains("✗ directories") && done.stdout.contains("hint:"), "{done:?}");
}
