//! The page for people: who gets it, its files, and what it may do in a browser.

use samovar_server::KeyTerms;

use crate::fixture::Fixture;
use crate::keyed::Keyed;
use crate::raw::{Answer, exchange, request, tcp, unix};

/// What a browser says that it takes.
const BROWSER: &str = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8";

async fn root(fixture: &Fixture, accept: &str) -> Answer {
    exchange(tcp(fixture).await, request("GET", "/", &[("accept", accept)], "")).await
}

#[tokio::test]
async fn browsers_get_the_page_and_programs_what_they_expect() {
    let fixture = Fixture::new().await;
    let page = root(&fixture, BROWSER).await;
    assert_eq!((page.status, page.header("content-type")), (200, Some("text/html; charset=utf-8")));
    assert!(page.body.starts_with("<!doctype html>"), "{}", page.body);
    let described = root(&fixture, "application/json").await.json();
    assert_eq!((&described["name"], &described["openapi"]), (&"samovar".into(), &"/openapi.json".into()));
    for program in ["*/*", "text/plain", ""] {
        let answer = root(&fixture, program).await;
        assert_eq!((answer.status, answer.body.as_str()), (200, "Ollama is running"), "{program}");
    }
    let on_socket = request("GET", "/", &[("accept", BROWSER)], "");
    assert_eq!(exchange(unix(&fixture.socket).await, on_socket).await.body, page.body);
}

#[tokio::test]
async fn the_page_runs_nothing_but_its_own_scripts_and_lies_in_no_frame() {
    let fixture = Fixture::new().await;
    let script = exchange(tcp(&fixture).await, request("GET", "/page/app.js", &[], "")).await;
    for answer in [root(&fixture, BROWSER).await, script] {
        let policy = answer.header("content-security-policy").expect("a policy");
        for needed in ["default-src 'none'", "require-trusted-types-for 'script'", "frame-ancestors 'none'"] {
            assert!(policy.contains(needed), "{policy}");
        }
        assert!(!policy.contains("unsafe"), "{policy}");
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
        assert_eq!(answer.header("referrer-policy"), Some("no-referrer"));
    }
}

#[tokio::test]
async fn every_file_that_the_page_names_has_its_type_and_is_sent_once() {
    let fixture = Fixture::new().await;
    let index = root(&fixture, BROWSER).await.body;
    let mut files: Vec<&str> = index.split('"').filter(|text| text.starts_with("/page/")).collect();
    files.extend(["/page/dashboard.js", "/page/chat.js", "/page/playground.js"]);
    assert!(files.len() > 8, "{files:?}");
    for file in files {
        let answer = exchange(tcp(&fixture).await, request("GET", file, &[], "")).await;
        let expected = match file.rsplit('.').next() {
            Some("css") => "text/css; charset=utf-8",
            Some("svg") => "image/svg+xml",
            _ => "text/javascript; charset=utf-8",
        };
        assert_eq!((answer.status, answer.header("content-type")), (200, Some(expected)), "{file}");
        let tag = answer.header("etag").expect("a tag").to_owned();
        let again = request("GET", file, &[("if-none-match", tag.as_str())], "");
        let again = exchange(tcp(&fixture).await, again).await;
        assert_eq!((again.status, again.body.as_str()), (304, ""), "{file}");
    }
    for strange in
        ["/page/", "/page/none.js", "/page/../app.js", "/page/%2e%2e/policy.txt", "/page/index.html"]
    {
        let answer = exchange(tcp(&fixture).await, request("GET", strange, &[], "")).await;
        assert_eq!(answer.status, 404, "{strange}: {}", answer.body);
    }
}

#[tokio::test]
async fn the_page_needs_no_key_and_what_it_asks_for_does() {
    let keyed = Keyed::new().await;
    keyed.add("ci", KeyTerms::default()).await;
    assert_eq!(root(&keyed.fixture, BROWSER).await.status, 200);
    for (path, expected) in [("/page/app.js", 200), ("/admin/events", 401), ("/v1/models", 401)] {
        let answer = exchange(tcp(&keyed.fixture).await, request("GET", path, &[], "")).await;
        assert_eq!(answer.status, expected, "{path}");
    }
}
