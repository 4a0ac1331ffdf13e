//! What can be typed and what the reference says, held against the real program.

use crate::home::Home;

#[test]
fn help_reads_well() {
    let home = Home::new();
    insta::assert_snapshot!("help", home.run(&["--help"]).stdout);
    insta::assert_snapshot!("help-run", home.run(&["run", "--help"]).stdout);
}

#[test]
fn the_committed_reference_is_what_the_program_says() {
    let home = Home::new();
    for topic in ["cli", "config", "env", "errors", "http", "metrics"] {
        let done = home.run(&["reference", topic]);
        assert_eq!(done.code, 0, "{done:?}");
        assert!(done.stdout.starts_with("# ") && done.stdout.contains("|---|"), "{topic}: {done:?}");
        let file = format!("{}/../../docs/reference/{topic}.md", env!("CARGO_MANIFEST_DIR"));
        let committed = fs_err::read_to_string(file).expect("a committed page");
        // It begins with a comment that says where it comes from.
        let committed = committed.split_once("-->").map_or("", |(_, page)| page);
        let is_fresh = committed.trim() == done.stdout.trim();
        assert!(is_fresh, "docs/reference/{topic}.md is stale: run `cargo x docs`");
    }
}

#[test]
fn the_openapi_document_is_what_the_daemon_serves_and_what_is_committed() {
    let home = Home::new();
    let printed = home.run(&["reference", "openapi"]).json();
    let committed = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/reference/openapi.json");
    let committed = fs_err::read_to_string(committed).expect("a committed document");
    let committed: serde_json::Value = serde_json::from_str(&committed).expect("JSON");
    assert!(committed == printed, "docs/reference/openapi.json is stale: run `cargo x docs`");
    assert_eq!(home.run(&["warm", "demo"]).code, 0);
    assert_eq!(home.status_of("GET", "/openapi.json", ""), 200);
}

#[test]
fn every_route_of_the_reference_is_served() {
    let home = Home::new();
    let page = home.run(&["reference", "http"]).stdout;
    assert_eq!(home.run(&["warm", "demo"]).code, 0);
    // The first conversation, which some of them are about.
    assert_eq!(home.run_with_input(&["chat", "-n", "4"], b"Hello\n").code, 0);
    let routes: Vec<(&str, String)> = page
        .lines()
        .filter_map(|line| {
            let mut cells = line.trim_matches('|').split('|').map(str::trim);
            let (method, path) = (cells.next()?, cells.next()?.trim_matches('`'));
            ["GET", "POST"]
                .contains(&method)
                .then(|| {
                    path.replace("conversations/{id}", "conversations/1").replace("page/{id}", "page/app.js")
                })
                .map(|path| (method, path.replace("{id}", "demo").replace("NAME", "demo")))
        })
        .collect();
    assert!(routes.len() > 10, "{page}");
    assert_eq!(home.status_of("GET", "/admin/none", ""), 404);
    // The last row is the daemon's end.
    for (method, path) in routes {
        // `{}` is a wrong body for most, which only a route that exists can say.
        let status = home.status_of(method, &path, if method == "POST" { "{}" } else { "" });
        assert!(![404, 405].contains(&status), "{method} {path}: {status}");
    }
}

#[test]
fn completions_are_written_for_every_shell() {
    let home = Home::new();
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let done = home.run(&["completions", shell]);
        assert!(done.code == 0 && done.stdout.contains("samovar"), "{shell}");
    }
}

#[test]
fn the_version_is_told() {
    let home = Home::new();
    assert_eq!(home.run(&["--version"]).stdout, format!("samovar {}\n", env!("CARGO_PKG_VERSION")));
}
