//! Keys: who is let in over TCP, and for what; and that no key is ever shown.

use samovar_core::testing::fake::FakeEngine;
use samovar_server::{Error, KeyFile, KeyTerms, ROUTES, Scope, ServeConfig, Server};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::fixture::runtime;
use crate::keyed::{CHAT, Keyed, chat, for_scopes, with_key};
use crate::raw::{exchange, get, owner, post, request, tcp};

#[tokio::test]
async fn without_keys_every_client_is_served_and_what_it_sends_is_passed_over() {
    let keyed = Keyed::new().await;
    assert_eq!(get(&keyed.fixture, "/v1/models").await.status, 200);
    let any = [("authorization", "Bearer sk-of-another-program")];
    let answer = exchange(tcp(&keyed.fixture).await, request("GET", "/v1/models", &any, "")).await;
    assert_eq!(answer.status, 200);
    assert_eq!(get(&keyed.fixture, "/admin/stats").await.status, 404);
    let wrong = exchange(tcp(&keyed.fixture).await, request("DELETE", "/admin/stats", &[], "")).await;
    assert_eq!(wrong.status, 404);
}

#[tokio::test]
async fn once_there_is_a_key_every_route_that_is_not_open_needs_one() {
    let keyed = Keyed::new().await;
    keyed.add("ci", KeyTerms::default()).await;
    for route in ROUTES {
        let id = if route.path == "/page/{id}" { "app.css" } else { "demo" };
        let path = route.path.replace("{id}", id);
        let body = if route.method == "POST" { "{}" } else { "" };
        let answer = exchange(tcp(&keyed.fixture).await, request(route.method, &path, &[], body)).await;
        let expected = if route.scope == Scope::Open { 200 } else { 401 };
        assert_eq!(answer.status, expected, "{} {path}: {}", route.method, answer.body);
        assert_eq!(answer.header("www-authenticate").is_some(), expected == 401, "{path}");
    }
    let wrong = request("GET", "/v1/models", &[("authorization", "Bearer sk-samovar-wrong")], "");
    assert_eq!(exchange(tcp(&keyed.fixture).await, wrong).await.status, 401);
    assert!(!keyed.fixture.handle.is_draining());
    // The socket is its owner's.
    assert_eq!(owner(&keyed.fixture, "GET", "/admin/stats", &Value::Null).await.status, 200);
    assert_eq!(owner(&keyed.fixture, "GET", "/v1/models", &Value::Null).await.status, 200);
}

#[tokio::test]
async fn a_request_without_a_key_is_refused_as_the_clients_of_its_route_read_it() {
    let keyed = Keyed::new().await;
    keyed.add("ci", KeyTerms::default()).await;
    let of = async |path: &str| post(&keyed.fixture, path, &json!({})).await.json();
    let openai = of(CHAT).await;
    assert_eq!(openai["error"]["code"], "invalid_api_key");
    assert_eq!(openai["error"]["type"], "invalid_request_error");
    let anthropic = of("/v1/messages").await;
    assert_eq!(
        (&anthropic["type"], &anthropic["error"]["type"]),
        (&json!("error"), &json!("authentication_error"))
    );
    assert!(of("/api/chat").await["error"].as_str().expect("a text").contains("no key"));
    let llama_server = of("/completion").await;
    assert_eq!(llama_server["error"]["code"], 401);
    assert_eq!(llama_server["error"]["type"], "authentication_error");
    assert_eq!(of("/admin/unload").await["kind"], "unauthenticated");
}

#[tokio::test]
async fn a_key_is_taken_from_two_headers_and_never_from_an_address() {
    let keyed = Keyed::new().await;
    let key = keyed.add("ci", KeyTerms::default()).await;
    assert_eq!(keyed.get(&key, "/v1/models").await.status, 200);
    let plain = request("GET", "/v1/models", &[("x-api-key", key.text())], "");
    assert_eq!(exchange(tcp(&keyed.fixture).await, plain).await.status, 200);
    let both = [("authorization", "Bearer none"), ("x-api-key", key.text())];
    assert_eq!(
        exchange(tcp(&keyed.fixture).await, request("GET", "/v1/models", &both, "")).await.status,
        200
    );
    for name in ["key", "api_key", "x-api-key", "access_token"] {
        let path = format!("/v1/models?{name}={}", key.text());
        assert_eq!(get(&keyed.fixture, &path).await.status, 401, "{name}");
    }
}

#[tokio::test]
async fn a_key_opens_the_routes_of_its_scope_alone() {
    let keyed = Keyed::new().await;
    let infer = keyed.add("infer", for_scopes(&[Scope::Infer])).await;
    let manage = keyed.add("manage", for_scopes(&[Scope::Manage])).await;
    let admin = keyed.add("admin", for_scopes(&[Scope::Admin])).await;
    for (path, [by_infer, by_manage, by_admin]) in
        [("/v1/models", [200, 403, 200]), ("/metrics", [403, 200, 200]), ("/admin/stats", [403, 200, 200])]
    {
        assert_eq!(keyed.get(&infer, path).await.status, by_infer, "{path}");
        assert_eq!(keyed.get(&manage, path).await.status, by_manage, "{path}");
        assert_eq!(keyed.get(&admin, path).await.status, by_admin, "{path}");
    }
    for key in [&infer, &manage] {
        let refused = keyed.post(key, "/admin/shutdown", &json!({})).await;
        assert_eq!(refused.status, 403, "{}", refused.body);
        assert!(refused.body.contains("--scope admin"), "{}", refused.body);
    }
    assert_eq!(keyed.post(&admin, "/admin/keys/reload", &json!({})).await.json()["keys"], 3);
    assert!(!keyed.fixture.handle.is_draining());
}

#[tokio::test]
async fn a_key_does_not_open_a_route_to_a_foreign_name_or_page() {
    let keyed = Keyed::new().await;
    let admin = keyed.add("admin", for_scopes(&[Scope::Admin])).await;
    let value = format!("Bearer {}", admin.text());
    for route in ROUTES {
        let path = route.path.replace("{id}", "demo");
        let body = if route.method == "POST" { "{}" } else { "" };
        for foreign in [("host", "evil.example"), ("origin", "https://evil.example")] {
            let text = request(route.method, &path, &[foreign, ("authorization", value.as_str())], body);
            let answer = exchange(tcp(&keyed.fixture).await, text).await;
            assert_eq!(answer.status, 403, "{} {path}: {}", route.method, answer.body);
            let says = route.method == "HEAD" || answer.body.contains("evil.example");
            assert!(says, "{path}: {}", answer.body);
        }
    }
    assert!(!keyed.fixture.handle.is_draining());
}

#[tokio::test]
async fn a_stream_of_events_ends_when_its_key_is_removed() {
    let keyed = Keyed::new().await;
    let manage = keyed.add("manage", for_scopes(&[Scope::Manage])).await;
    let mut stream = tcp(&keyed.fixture).await;
    let text = with_key("GET", "/admin/events", &manage, "");
    stream.write_all(text.as_bytes()).await.expect("writes");
    let mut bytes = Vec::new();
    while !String::from_utf8_lossy(&bytes).contains("event: snapshot") {
        assert_ne!(stream.read_buf(&mut bytes).await.expect("reads"), 0);
    }
    keyed.file.remove("manage").expect("removes");
    keyed.reload().await;
    stream.read_to_end(&mut bytes).await.expect("it ends");
    assert!(!String::from_utf8_lossy(&bytes).contains("event: leaving"), "the server stays");
}

#[tokio::test]
async fn a_key_for_some_models_sees_and_uses_those_alone() {
    let keyed = Keyed::new().await;
    let terms = KeyTerms { models: vec!["tiny".into()], ..KeyTerms::default() };
    let key = keyed.add("ci", terms).await;
    let names = |list: &Value, field: &str| -> Vec<String> {
        let rows = list.as_array().expect("a list").iter();
        rows.map(|row| row[field].as_str().expect("a name").to_owned()).collect()
    };
    assert_eq!(names(&keyed.get(&key, "/v1/models").await.json()["data"], "id"), ["tiny"]);
    assert_eq!(names(&keyed.get(&key, "/api/tags").await.json()["models"], "name"), ["tiny:latest"]);
    assert_eq!(keyed.get(&key, "/v1/models/tiny").await.status, 200);
    assert_eq!(keyed.get(&key, "/v1/models/demo").await.status, 403);
    assert_eq!(keyed.get(&key, "/props?model=demo").await.status, 403);
    assert_eq!(keyed.post(&key, "/api/show", &json!({ "model": "demo" })).await.status, 403);
    assert_eq!(keyed.post(&key, CHAT, &chat("tiny", 2)).await.status, 200);
    let prompt = json!({ "model": "demo", "prompt": "x" });
    let input = json!({ "model": "demo", "input": "x" });
    for (path, body) in [
        (CHAT, chat("demo", 2)),
        ("/v1/completions", prompt.clone()),
        ("/v1/responses", input.clone()),
        ("/v1/messages", chat("demo", 2)),
        ("/v1/embeddings", input.clone()),
        ("/v1/rerank", json!({ "model": "demo", "query": "x", "documents": ["x"] })),
        ("/embed", json!({ "model": "demo", "inputs": "x" })),
        ("/tokenize", json!({ "model": "demo", "content": "x" })),
        ("/detokenize", json!({ "model": "demo", "tokens": [1] })),
        ("/decode", json!({ "model": "demo", "ids": [[1]] })),
        ("/completion", prompt.clone()),
        ("/api/chat", chat("demo", 2)),
        ("/api/generate", prompt.clone()),
        ("/api/embed", input.clone()),
        ("/api/embeddings", prompt.clone()),
    ] {
        let answer = keyed.post(&key, path, &body).await;
        assert_eq!(answer.status, 403, "{path}: {}", answer.body);
        assert!(answer.body.contains("may not use the model"), "{path}: {}", answer.body);
    }
    assert_eq!(keyed.post(&key, CHAT, &chat("nobody", 2)).await.status, 403, "whether it exists is not told");
}

#[tokio::test]
async fn a_stream_ends_with_an_error_when_its_key_is_removed() {
    for (path, marks) in [(CHAT, "invalid_api_key"), ("/v1/messages", "authentication_error")] {
        let keyed = Keyed::on(FakeEngine::builder().gate_tokens()).await;
        let key = keyed.add("ci", KeyTerms::default()).await;
        let mut body = chat("demo", 50);
        body["stream"] = json!(true);
        let mut stream = tcp(&keyed.fixture).await;
        let text = with_key("POST", path, &key, &body.to_string());
        stream.write_all(text.as_bytes()).await.expect("writes");
        let mut bytes = Vec::new();
        while !String::from_utf8_lossy(&bytes).contains("text/event-stream") {
            assert_ne!(stream.read_buf(&mut bytes).await.expect("reads"), 0);
        }
        keyed.file.remove("ci").expect("removes");
        keyed.reload().await;
        stream.read_to_end(&mut bytes).await.expect("reads");
        let text = String::from_utf8_lossy(&bytes);
        assert!(text.contains("the key `ci` was removed or replaced"), "{path}: {text}");
        assert!(text.contains(marks), "{path}: {text}");
        assert!(!text.contains(key.text()));
        keyed.fixture.handle_quiet().await;
    }
}

#[tokio::test]
async fn a_key_that_is_replaced_or_has_expired_is_refused_at_once() {
    let keyed = Keyed::new().await;
    let first = keyed.add("ci", KeyTerms::default()).await;
    keyed.add("other", KeyTerms::default()).await;
    let second = keyed.file.rotate("ci").expect("rotates");
    keyed.reload().await;
    assert_eq!(keyed.get(&first, "/v1/models").await.status, 401);
    assert_eq!(keyed.get(&second, "/v1/models").await.status, 200);
    let old = keyed.add("old", KeyTerms { expires_unix_s: Some(1), ..KeyTerms::default() }).await;
    let refused = keyed.get(&old, "/v1/models").await;
    assert_eq!(refused.status, 401);
    assert!(refused.body.contains("has expired"), "{}", refused.body);
}

#[tokio::test]
async fn a_damaged_file_is_told_and_changes_nothing() {
    let keyed = Keyed::new().await;
    let key = keyed.add("ci", KeyTerms::default()).await;
    fs_err::write(keyed.file.path(), "{").expect("writes");
    let told = keyed.reload().await;
    assert_eq!(told.status, 500, "{}", told.body);
    assert!(told.body.contains("damaged"), "{}", told.body);
    assert_eq!(keyed.get(&key, "/v1/models").await.status, 200);
    assert_eq!(get(&keyed.fixture, "/v1/models").await.status, 401);
}

#[tokio::test]
async fn the_keys_name_is_counted_and_no_key_is_shown() {
    let keyed = Keyed::new().await;
    let key = keyed.add("ci", for_scopes(&[Scope::Admin])).await;
    assert_eq!(keyed.post(&key, CHAT, &chat("demo", 3)).await.status, 200);
    let mut told = get(&keyed.fixture, "/v1/models").await.body;
    told += &keyed.get(&key, "/metrics").await.body;
    assert!(told.contains("samovar_key_requests_total{key=\"ci\"} "), "{told}");
    assert!(told.contains("samovar_key_tokens_total{key=\"ci\"} "), "{told}");
    assert!(told.contains("samovar_key_refusals_total{kind=\"invalid_api_key\"} 1"), "{told}");
    told += &keyed.get(&key, "/admin/stats").await.body;
    told += &keyed.get(&key, "/admin/why?model=demo").await.body;
    told += &keyed.get(&key, "/v1/models/nobody").await.body;
    let tail = key.text().trim_start_matches("sk-samovar-");
    assert!(!told.contains(tail) && !told.contains(&key.digest().to_string()), "{told}");
}

#[tokio::test]
async fn a_server_that_others_reach_starts_with_a_key_and_not_with_a_damaged_file() {
    let (engine, home) = (FakeEngine::new(), tempfile::tempdir().expect("tempdir"));
    let file = KeyFile::new(home.path().join("keys.json"));
    let config = ServeConfig {
        listen: Some("0.0.0.0:0".parse().expect("address")),
        keys: Some(file.path().to_owned()),
        ..ServeConfig::default()
    };
    let refused = Server::bind(runtime(&engine, &home), config.clone()).await.err().expect("refuses");
    assert!(matches!(refused, Error::Exposed(_)) && refused.hint().contains("samovar key add"));
    file.add("ci", KeyTerms::default()).expect("adds");
    assert!(Server::bind(runtime(&engine, &home), config.clone()).await.is_ok());
    fs_err::write(file.path(), "{").expect("writes");
    let damaged = Server::bind(runtime(&engine, &home), config).await.err().expect("refuses");
    assert!(matches!(damaged, Error::Keys(_)), "{damaged}");
}
