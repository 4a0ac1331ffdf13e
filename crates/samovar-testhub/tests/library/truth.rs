//! What the hub says when it does not lie: each route, as the real hub answers it.

#![allow(clippy::unwrap_used, reason = "what is missing fails the test")]

use crate::client;

use client::{ask, ask_with, get};
use samovar_core::Digest;
use samovar_testhub::{Content, FileSpec, Hub, Listener, Route};
use serde_json::json;

const MODEL: &str = "tiny.Q4_K_M.gguf";

fn hub() -> (Hub, String) {
    let hub = Hub::start_blocking();
    let repo = hub.add_repo("acme/tiny");
    repo.put_all([
        (MODEL, FileSpec::new(Content::pattern(100_000, 1))),
        ("config.json", "{}\n".into()),
        ("sub/deep/notes.txt", "hello\n".into()),
    ]);
    let head = repo.head();
    (hub, head)
}

#[test]
fn a_repository_is_described_with_its_commit_and_files() {
    let (hub, head) = hub();
    let info = get(hub.address(Listener::Origin), "/api/models/acme/tiny?blobs=true");
    assert_eq!(info.status, 200);
    let info = info.json();
    assert_eq!((&info["id"], &info["sha"]), (&json!("acme/tiny"), &json!(head)));
    let paths: Vec<_> = info["siblings"].as_array().unwrap().iter().map(|file| &file["rfilename"]).collect();
    assert_eq!(paths, ["config.json", "sub/deep/notes.txt", MODEL]);
    assert_eq!(info["siblings"][2]["size"], 100_000);
    for revision in ["main", &head] {
        let target = format!("/api/models/acme/tiny/revision/{revision}");
        assert_eq!(get(hub.address(Listener::Origin), &target).json()["sha"], json!(head));
    }
}

#[test]
fn a_listing_tells_sizes_and_both_kinds_of_digest() {
    let (hub, _) = hub();
    let tree = get(hub.address(Listener::Origin), "/api/models/acme/tiny/tree/main?recursive=true").json();
    let entry = |path: &str| tree.as_array().unwrap().iter().find(|entry| entry["path"] == path).unwrap();
    let digest = Content::pattern(100_000, 1).digest().unwrap();
    assert_eq!(entry(MODEL)["lfs"]["oid"], json!(digest));
    assert_eq!((entry(MODEL)["size"].as_u64(), &entry(MODEL)["type"]), (Some(100_000), &json!("file")));
    assert_eq!(entry("sub/deep/notes.txt")["oid"], "ce013625030ba8dba906f756967f9e9ca394464a");
    assert_eq!(entry("sub/deep/notes.txt").get("lfs"), None);
    assert_eq!(entry("sub/deep")["type"], "directory");
    let top = get(hub.address(Listener::Origin), "/api/models/acme/tiny/tree/main").json();
    let paths: Vec<_> = top.as_array().unwrap().iter().map(|entry| entry["path"].as_str().unwrap()).collect();
    assert_eq!(paths, ["config.json", "sub", MODEL]);
    let below = get(hub.address(Listener::Origin), "/api/models/acme/tiny/tree/main/sub/deep").json();
    assert_eq!(below[0]["path"], "sub/deep/notes.txt");
}

#[test]
fn a_long_listing_comes_in_pages() {
    let hub = Hub::start_blocking();
    hub.set_page_entries(2);
    let names: Vec<String> = (0..5).map(|number| format!("{number}.txt")).collect();
    hub.add_repo("acme/many").put_all(names.iter().map(|name| (name.as_str(), "x".into())));
    let mut target = "/api/models/acme/many/tree/main?recursive=true".to_owned();
    let mut found = Vec::new();
    loop {
        let page = get(hub.address(Listener::Origin), &target);
        let entries = page.json();
        assert!(entries.as_array().unwrap().len() <= 2);
        found.extend(
            entries.as_array().unwrap().iter().map(|entry| entry["path"].as_str().unwrap().to_owned()),
        );
        let Some(link) = page.header("link") else { break };
        let (address, rest) = link.split_once(">; ").unwrap();
        assert_eq!(rest, "rel=\"next\"");
        target = address.strip_prefix(&format!("<{}", hub.endpoint())).unwrap().to_owned();
    }
    assert_eq!(found, names);
}

#[test]
fn a_large_file_is_a_signed_redirect_to_another_host() {
    let (hub, head) = hub();
    let content = Content::pattern(100_000, 1);
    for method in ["HEAD", "GET"] {
        let answer =
            ask(hub.address(Listener::Origin), method, &format!("/acme/tiny/resolve/main/{MODEL}"), &[]);
        assert_eq!(answer.status, 302);
        assert_eq!(answer.header("x-repo-commit"), Some(head.as_str()));
        assert_eq!(answer.header("x-linked-size"), Some("100000"));
        let etag = format!("\"{}\"", content.digest().unwrap());
        assert_eq!(answer.header("x-linked-etag"), Some(etag.as_str()));
        let (host, target) = answer.location();
        assert_eq!(host, hub.address(Listener::Cdn).to_string());
        let whole = get(hub.address(Listener::Cdn), &target);
        assert_eq!((whole.status, whole.body), (200, content.to_vec().unwrap()));
        let unsigned = get(hub.address(Listener::Cdn), target.split('?').next().unwrap());
        assert_eq!(unsigned.status, 403);
    }
}

#[test]
fn a_small_file_is_a_redirect_on_the_same_host() {
    let (hub, _) = hub();
    let answer = get(hub.address(Listener::Origin), "/acme/tiny/resolve/main/sub/deep/notes.txt");
    assert_eq!(answer.status, 307);
    assert_eq!(answer.header("x-linked-etag"), Some("\"ce013625030ba8dba906f756967f9e9ca394464a\""));
    let (host, target) = answer.location();
    assert_eq!(host, "");
    let file = get(hub.address(Listener::Origin), &target);
    assert_eq!((file.status, file.body.as_slice()), (200, b"hello\n".as_slice()));
}

#[test]
fn ranges_are_kept_to() {
    let hub = Hub::start_blocking();
    hub.add_plain("x.bin", Content::pattern(1000, 9));
    let bytes = Content::pattern(1000, 9).to_vec().unwrap();
    let part = |headers: &[(&str, &str)]| ask(hub.address(Listener::Origin), "GET", "/plain/x.bin", headers);
    let answer = part(&[("Range", "bytes=10-19")]);
    assert_eq!((answer.status, answer.header("content-range")), (206, Some("bytes 10-19/1000")));
    assert_eq!(answer.body, bytes[10..20]);
    let etag = answer.header("etag").unwrap().to_owned();
    let same = part(&[("Range", "bytes=990-"), ("If-Range", &etag)]);
    assert_eq!((same.status, same.body.as_slice()), (206, &bytes[990..]));
    let other = part(&[("Range", "bytes=990-"), ("If-Range", "\"other\"")]);
    assert_eq!((other.status, other.body.as_slice()), (200, bytes.as_slice()));
    let outside = part(&[("Range", "bytes=1000-")]);
    assert_eq!((outside.status, outside.header("content-range")), (416, Some("bytes */1000")));
}

#[test]
fn branches_move_and_commits_stay() {
    let (hub, first) = hub();
    let repo = hub.add_repo("acme/tiny");
    repo.set_branch("v1", &first).put("config.json", "{\"new\": true}\n");
    assert_ne!(repo.head(), first);
    let text = |revision: &str| {
        let target = format!("/acme/tiny/resolve/{revision}/config.json");
        let (_, target) = get(hub.address(Listener::Origin), &target).location();
        String::from_utf8(get(hub.address(Listener::Origin), &target).body).unwrap()
    };
    assert_eq!(text("main"), "{\"new\": true}\n");
    assert_eq!((text("v1"), text(&first)), ("{}\n".to_owned(), "{}\n".to_owned()));
}

#[test]
fn access_is_refused_as_the_real_hub_does() {
    let (hub, _) = hub();
    let repo = hub.add_repo("acme/tiny");
    let codes = |target: &str, token: Option<&str>| {
        let bearer = format!("Bearer {}", token.unwrap_or_default());
        let headers = [("Authorization", bearer.as_str())];
        let headers = if token.is_some() { &headers[..] } else { &[] };
        let answer = ask(hub.address(Listener::Origin), "GET", target, headers);
        (answer.status, answer.header("x-error-code").map(str::to_owned))
    };
    let code = |text: &str| Some(text.to_owned());
    let (file, info) = (format!("/acme/tiny/resolve/main/{MODEL}"), "/api/models/acme/tiny");
    assert_eq!(codes("/acme/tiny/resolve/main/none", None), (404, code("EntryNotFound")));
    assert_eq!(codes("/acme/tiny/resolve/none/config.json", None), (404, code("RevisionNotFound")));
    assert_eq!(codes("/api/models/acme/none", None), (401, code("RepoNotFound")));
    assert_eq!(codes("/api/models/acme/none", Some("hf_a")), (404, code("RepoNotFound")));
    assert_eq!(codes(info, Some("rubbish")), (401, None));
    repo.gated("hf_member");
    assert_eq!(codes(info, None).0, 200);
    assert_eq!(codes(&file, None), (401, code("GatedRepo")));
    assert_eq!(codes(&file, Some("hf_stranger")), (403, code("GatedRepo")));
    assert_eq!(codes(&file, Some("hf_member")).0, 302);
    repo.private("hf_member");
    assert_eq!(codes(info, None), (401, code("RepoNotFound")));
    assert_eq!(codes(&file, Some("hf_stranger")), (404, code("RepoNotFound")));
    assert_eq!(codes(info, Some("hf_member")).0, 200);
}

#[test]
fn an_ollama_model_is_a_manifest_and_blobs_a_redirect_away() {
    let hub = Hub::start_blocking();
    let model = Content::pattern(5000, 2);
    let digests = hub.add_ollama(
        "library/tiny:latest",
        &[
            ("application/vnd.ollama.image.model", model.clone()),
            ("application/vnd.ollama.image.template", "{{ .Prompt }}".into()),
        ],
    );
    let manifest = get(hub.address(Listener::Origin), "/v2/library/tiny/manifests/latest").json();
    assert_eq!(manifest["layers"][0]["digest"], format!("sha256:{}", digests[0]));
    assert_eq!(manifest["layers"][0]["size"], 5000);
    let target = format!("/v2/library/tiny/blobs/sha256:{}", digests[0]);
    let (host, target) = get(hub.address(Listener::Origin), &target).location();
    assert_eq!(host, hub.address(Listener::Cdn).to_string());
    assert_eq!(Digest::of_bytes(&get(hub.address(Listener::Cdn), &target).body), digests[0]);
    assert_eq!(hub.sent().of(&format!("ollama/library/tiny/sha256:{}", digests[0])), 5000);
    assert_eq!(get(hub.address(Listener::Origin), "/v2/library/tiny/manifests/none").status, 404);
}

#[test]
fn what_went_out_is_counted_to_the_byte() {
    let hub = Hub::start_blocking();
    hub.add_plain("x.bin", Content::pattern(3_000_000, 9));
    ask(hub.address(Listener::Origin), "HEAD", "/plain/x.bin", &[]);
    let head = hub.sent();
    assert_eq!((head.body_bytes, head.requests_for(Route::Plain)), (0, 1));
    get(hub.address(Listener::Origin), "/plain/x.bin");
    ask(hub.address(Listener::Origin), "GET", "/plain/x.bin", &[("Range", "bytes=5-9")]);
    assert_eq!(hub.sent().since(&head).of("plain/x.bin"), 3_000_005);
    assert_eq!(hub.sent().since(&head).requests_for(Route::Plain), 2);
}

#[test]
fn a_token_that_crosses_over_is_seen() {
    let (hub, _) = hub();
    let token = [("Authorization", "Bearer hf_secret")];
    let answer =
        ask(hub.address(Listener::Origin), "GET", &format!("/acme/tiny/resolve/main/{MODEL}"), &token);
    assert_eq!(hub.tokens_seen_elsewhere(), []);
    let (_, target) = answer.location();
    get(hub.address(Listener::Cdn), &target);
    assert_eq!(hub.tokens_seen_elsewhere(), []);
    ask(hub.address(Listener::Cdn), "GET", &target, &token);
    get(hub.address(Listener::Cdn), &format!("{target}&token=hf_secret"));
    assert_eq!(hub.tokens_seen_elsewhere().len(), 1);
    assert_eq!(hub.text_seen_elsewhere("hf_secret").len(), 2);
}

#[test]
fn a_file_is_held_in_the_middle_until_it_is_released() {
    let hub = Hub::start_blocking();
    hub.add_plain("x.bin", Content::pattern(4_000_000, 9));
    hub.hold_after("plain/x.bin", 1_234_567);
    let address = hub.address(Listener::Origin);
    std::thread::scope(|scope| {
        let download = scope.spawn(move || get(address, "/plain/x.bin"));
        assert!(hub.wait_until_held("plain/x.bin"));
        assert_eq!(hub.sent().of("plain/x.bin"), 1_234_567);
        hub.release("plain/x.bin");
        assert_eq!(download.join().unwrap().body.len(), 4_000_000);
    });
}

#[test]
fn a_client_that_leaves_while_it_is_held_gets_nothing_more() {
    let hub = Hub::start_blocking();
    hub.add_plain("x.bin", Content::pattern(4_000_000, 9));
    hub.hold_after("plain/x.bin", 1000);
    // This client leaves after a second without news.
    assert_eq!(get(hub.address(Listener::Origin), "/plain/x.bin").body.len(), 1000);
    hub.release("plain/x.bin");
    let rest = ask(hub.address(Listener::Origin), "GET", "/plain/x.bin", &[("Range", "bytes=1000-")]);
    assert_eq!(rest.body.len(), 3_999_000);
    assert_eq!(hub.sent().of("plain/x.bin"), 4_000_000);
}

#[test]
fn other_processes_count_lie_and_hold_over_http() {
    let hub = Hub::start_blocking();
    hub.add_plain("x.bin", Content::pattern(1000, 9));
    let address = hub.address(Listener::Origin);
    let rule = r#"{"lie": {"cut": {"after": 7}}, "path": "x.bin", "times": {"only": 1}}"#;
    assert_eq!(ask_with(address, "POST", "/_lies", &[], rule).status, 200);
    assert_eq!(ask_with(address, "POST", "/_lies", &[], r#"{"lie": "no_such_lie"}"#).status, 400);
    assert_eq!(get(address, "/plain/x.bin").body.len(), 7);
    assert_eq!(get(address, "/plain/x.bin").body.len(), 1000);
    let counts = get(address, "/_counts").json();
    assert_eq!((&counts["sent"]["files"]["plain/x.bin"], &counts["told"][0]), (&json!(1007), &json!(1)));
    assert_eq!(ask_with(address, "POST", "/_lies", &[], r#"[{"lie": "hang_up"}]"#).status, 200);
    assert_eq!(get(address, "/plain/x.bin").status, 0);
    assert_eq!(ask(address, "DELETE", "/_lies", &[]).status, 200);
    ask_with(address, "POST", "/_hold", &[], r#"{"file": "plain/x.bin", "after": 3}"#);
    let held = get(address, "/plain/x.bin");
    assert_eq!((held.body.len(), held.broke), (3, true));
    assert_eq!(get(address, "/_held?file=plain%2Fx.bin").json()["held"], true);
    ask_with(address, "POST", "/_release", &[], r#"{"file": "plain/x.bin"}"#);
    assert_eq!(get(address, "/plain/x.bin").body.len(), 1000);
}
