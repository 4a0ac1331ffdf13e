//! Keys: who is let in over TCP, for what, and how much; and that no key is ever shown.

use std::time::Duration;

use samovar_core::testing::fake::{Builder, FakeEngine, Script};
use samovar_server::{Error, KeyFile, KeyTerms, ROUTES, Scope, Secret, ServeConfig, Server};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::fixture::{Fixture, runtime};
use crate::raw::{Answer, exchange, get, owner, post, read, request, tcp};

const CHAT: &str = "/v1/chat/completions";

/// A server whose file of keys is `file`.
struct Keyed {
    fixture: Fixture,
    file: KeyFile,
    _folder: tempfile::TempDir,
}

impl Keyed {
    async fn on(engine: Builder) -> Self {
        let folder = tempfile::tempdir().expect("tempdir");
        let file = KeyFile::new(folder.path().join("keys.json"));
        let path = file.path().to_owned();
        let fixture = Fixture::with(engine, |config| config.keys = Some(path)).await;
        Self { fixture, file, _folder: folder }
    }

    async fn new() -> Self {
        Self::on(FakeEngine::builder()).await
    }

    async fn add(&self, name: &str, terms: KeyTerms) -> Secret {
        let secret = self.file.add(name, terms).expect("adds");
        self.reload().await;
        secret
    }

    async fn reload(&self) -> Answer {
        owner(&self.fixture, "POST", "/admin/keys/reload", &Value::Null).await
    }

    async fn get(&self, key: &Secret, path: &str) -> Answer {
        exchange(tcp(&self.fixture).await, with_key("GET", path, key, "")).await
    }

    async fn post(&self, key: &Secret, path: &str, body: &Value) -> Answer {
        exchange(tcp(&self.fixture).await, with_key("POST", path, key, &body.to_string())).await
    }
}

fn with_key(method: &str, path: &str, key: &Secret, body: &str) -> String {
    let value = format!("Bearer {}", key.text());
    request(method, path, &[("authorization", value.as_str())], body)
}

fn for_scopes(scopes: &[Scope]) -> KeyTerms {
    KeyTerms { scopes: scopes.to_vec(), ..KeyTerms::default() }
}

fn chat(model: &str, max_tokens: u32) -> Value {
    json!({ "model": model, "messages": [{ "role": "user", "content": "Hi" }], "max_tokens": max_tokens,
            "ignore_eos": true })
}

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
        let path = route.path.replace("{id}", "demo");
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
async fn orders_over_tcp_name_no_file_of_this_machine() {
    let keyed = Keyed::new().await;
    let manage = keyed.add("manage", for_scopes(&[Scope::Manage])).await;
    let file = keyed.fixture.home.path().join("tiny-model.gguf");
    for order in ["warm", "pack", "pin", "unload"] {
        let body = json!({ "model": file, "pinned": true });
        let body = if order == "pin" { body } else { json!({ "model": file }) };
        let answer = keyed.post(&manage, &format!("/admin/{order}"), &body).await;
        assert!([403, 404].contains(&answer.status), "{order}: {} {}", answer.status, answer.body);
    }
    let why = keyed.get(&manage, &format!("/admin/why?model={}", file.display())).await;
    assert!([403, 404].contains(&why.status), "{} {}", why.status, why.body);
    assert_eq!(
        keyed.post(&manage, "/admin/pin", &json!({ "model": "tiny", "pinned": true })).await.status,
        200
    );
}

#[tokio::test]
async fn ollamas_orders_over_tcp_make_no_file_known_and_reach_no_other_model() {
    let keyed = Keyed::new().await;
    let manage = keyed.add("manage", for_scopes(&[Scope::Manage])).await;
    let both = vec![Scope::Infer, Scope::Manage];
    let all = keyed.add("all", for_scopes(&both)).await;
    let terms = KeyTerms { scopes: both, models: vec!["mine".into()], ..KeyTerms::default() };
    let one = keyed.add("one", terms).await;
    let status = async |key: &Secret, method: &str, path: &str, body: Value| {
        let text = with_key(method, path, key, &body.to_string());
        exchange(tcp(&keyed.fixture).await, text).await.status
    };
    let named = |model: &str| json!({ "model": model, "stream": false });
    let path = keyed.fixture.home.path().join("tiny-model.gguf").display().to_string();
    for foreign in [path.clone(), format!("file://{path}")] {
        for (method, order, body) in [
            ("POST", "/api/pull", named(&foreign)),
            ("POST", "/api/copy", json!({ "source": foreign, "destination": "x" })),
            ("DELETE", "/api/delete", named(&foreign)),
        ] {
            let status = status(&all, method, order, body).await;
            assert!([400, 403, 404].contains(&status), "{order} {foreign}: {status}");
        }
    }
    assert_eq!(keyed.get(&all, "/v1/models/tiny-model").await.status, 404);
    let copy = json!({ "source": "tiny", "destination": "other" });
    assert_eq!(status(&manage, "POST", "/api/copy", copy).await, 200, "the scope is enough");
    for (method, order) in [("POST", "/api/pull"), ("DELETE", "/api/delete")] {
        for model in ["other", "other:latest", "qwen3:4b"] {
            assert_eq!(status(&one, method, order, named(model)).await, 403, "{order} {model}");
        }
    }
    assert_eq!(status(&manage, "DELETE", "/api/delete", named("other:latest")).await, 200);
}

#[tokio::test]
async fn a_key_that_may_manage_opens_no_file_and_no_address_by_ollamas_routes() {
    let keyed = Keyed::new().await;
    let manage = keyed.add("manage", for_scopes(&[Scope::Infer, Scope::Manage])).await;
    let file = keyed.fixture.home.path().join("tiny-model.gguf");
    let (url, web) = (format!("file://{}", file.display()), "http://127.0.0.1:1/x.gguf");
    for (path, body) in [
        ("/api/copy", json!({ "source": file, "destination": "mine" })),
        ("/api/copy", json!({ "source": url, "destination": "mine" })),
        ("/api/create", json!({ "model": "mine", "from": file, "stream": false })),
        ("/api/create", json!({ "model": "mine", "from": url, "stream": false })),
        ("/api/create", json!({ "model": "mine", "from": web, "stream": false })),
        ("/api/pull", json!({ "model": url, "stream": false })),
        ("/api/pull", json!({ "model": web, "stream": false })),
    ] {
        let answer = keyed.post(&manage, path, &body).await;
        assert!([400, 403, 404].contains(&answer.status), "{path} {body}: {} {}", answer.status, answer.body);
    }
    let tags = keyed.get(&manage, "/api/tags").await;
    assert!(!tags.body.contains("mine"), "{}", tags.body);
}

#[tokio::test]
async fn a_key_for_some_models_creates_and_deletes_those_alone() {
    let keyed = Keyed::new().await;
    let models = vec!["tiny".to_owned(), "mine".to_owned()];
    let terms = KeyTerms { models, ..for_scopes(&[Scope::Infer, Scope::Manage]) };
    let key = keyed.add("ci", terms).await;
    for (path, body) in [
        ("/api/copy", json!({ "source": "demo", "destination": "mine" })),
        ("/api/copy", json!({ "source": "tiny", "destination": "other" })),
        ("/api/create", json!({ "model": "mine", "from": "demo", "stream": false })),
        ("/api/create", json!({ "model": "other", "from": "tiny", "stream": false })),
    ] {
        let answer = keyed.post(&key, path, &body).await;
        assert_eq!(answer.status, 403, "{path} {body}: {}", answer.body);
    }
    let copied = keyed.post(&key, "/api/copy", &json!({ "source": "tiny", "destination": "mine" })).await;
    assert_eq!(copied.status, 200, "{}", copied.body);
    assert_eq!(keyed.post(&key, CHAT, &chat("mine", 2)).await.status, 200);
    // What it created it may delete, and no model.
    for (model, status) in [("tiny", 403), ("demo", 403), ("mine", 200)] {
        let text = with_key("DELETE", "/api/delete", &key, &json!({ "model": model }).to_string());
        let answer = exchange(tcp(&keyed.fixture).await, text).await;
        assert_eq!(answer.status, status, "{model}: {}", answer.body);
    }
}

#[tokio::test]
async fn a_key_that_may_manage_asks_no_model_by_the_owners_routes() {
    let keyed = Keyed::new().await;
    let manage = keyed.add("manage", for_scopes(&[Scope::Manage])).await;
    for path in ["/admin/generate", "/admin/embed", "/admin/tokenize", "/admin/detokenize"] {
        let answer = keyed.post(&manage, path, &json!({ "model": "demo" })).await;
        assert_eq!(answer.status, 403, "{path}: {}", answer.body);
        assert!(answer.body.contains("--scope admin"), "{path}: {}", answer.body);
    }
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
async fn a_key_that_may_manage_has_no_file_and_no_address_fetched() {
    let keyed = Keyed::new().await;
    let key = keyed.add("both", for_scopes(&[Scope::Infer, Scope::Manage])).await;
    let path = keyed.fixture.home.path().join("tiny-model.gguf");
    let address = format!("file://{}", path.display());
    for (order, body) in [
        ("/admin/pull", json!({ "model": address })),
        ("/api/pull", json!({ "model": address, "stream": false })),
        ("/api/create", json!({ "model": "mine", "from": address, "stream": false })),
        ("/api/copy", json!({ "source": address, "destination": "mine" })),
        ("/api/copy", json!({ "source": path, "destination": "mine" })),
    ] {
        let answer = keyed.post(&key, order, &body).await;
        assert!([403, 404].contains(&answer.status), "{order}: {} {}", answer.status, answer.body);
    }
    let disk = owner(&keyed.fixture, "GET", "/admin/disk", &Value::Null).await.json();
    assert_eq!(disk["artifacts"], 0);
    let models = owner(&keyed.fixture, "GET", "/admin/models", &Value::Null).await;
    assert!(!models.body.contains("\"mine\""), "{}", models.body);
}

#[tokio::test]
async fn names_are_for_a_key_that_may_manage_and_the_models_behind_them_for_an_admins() {
    let keyed = Keyed::new().await;
    let infer = keyed.add("infer", for_scopes(&[Scope::Infer])).await;
    let manage = keyed.add("manage", for_scopes(&[Scope::Manage])).await;
    let admin = keyed.add("admin", for_scopes(&[Scope::Admin])).await;
    let address = format!("file://{}", keyed.fixture.home.path().join("tiny-model.gguf").display());
    let pulled = owner(&keyed.fixture, "POST", "/admin/pull", &json!({ "model": address })).await;
    let stored = pulled.lines().pop().expect("a line")["done"]["reference"].clone();
    let copy = json!({ "source": "tiny", "destination": "mine" });
    assert_eq!(keyed.post(&infer, "/api/copy", &copy).await.status, 403);
    assert_eq!(keyed.post(&manage, "/api/copy", &copy).await.status, 200);
    let delete = async |key: &Secret, model: &Value| {
        let body = json!({ "model": model }).to_string();
        let value = format!("Bearer {}", key.text());
        let headers = [("authorization", value.as_str()), ("content-type", "application/json")];
        let text = request("DELETE", "/api/delete", &headers, &body);
        exchange(tcp(&keyed.fixture).await, text).await.status
    };
    assert_eq!(delete(&manage, &stored).await, 403);
    assert_eq!(delete(&infer, &json!("mine")).await, 403);
    assert_eq!(delete(&manage, &json!("mine")).await, 200);
    assert_eq!(delete(&admin, &stored).await, 200);
}

#[tokio::test]
async fn a_key_for_some_models_orders_nothing_for_all_or_for_others() {
    let keyed = Keyed::new().await;
    let terms = KeyTerms { models: vec!["tiny".into()], ..for_scopes(&[Scope::Admin]) };
    let key = keyed.add("one", terms).await;
    for (order, body) in [
        ("/admin/unload", json!({ "all": true })),
        ("/admin/gc", json!({})),
        ("/admin/clear", json!({ "tier": "memory" })),
        ("/admin/verify", json!({})),
        ("/api/copy", json!({ "source": "demo", "destination": "tiny" })),
        ("/api/copy", json!({ "source": "tiny", "destination": "mine" })),
        ("/api/create", json!({ "model": "mine", "from": "tiny" })),
    ] {
        let answer = keyed.post(&key, order, &body).await;
        assert_eq!(answer.status, 403, "{order}: {}", answer.body);
        assert!(answer.body.contains("the key `one` may"), "{order}: {}", answer.body);
    }
    let pin = json!({ "model": "tiny", "pinned": true });
    assert_eq!(keyed.post(&key, "/admin/pin", &pin).await.status, 200);
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
async fn a_key_has_its_requests_per_minute_and_is_told_how_many_are_left() {
    let keyed = Keyed::new().await;
    let terms = KeyTerms { requests_per_minute: Some(2), ..KeyTerms::default() };
    let key = keyed.add("ci", terms).await;
    for left in ["1", "0"] {
        let answer = keyed.post(&key, CHAT, &chat("demo", 1)).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        assert_eq!(answer.header("x-ratelimit-limit-requests"), Some("2"));
        assert_eq!(answer.header("x-ratelimit-remaining-requests"), Some(left));
    }
    let refused = keyed.post(&key, CHAT, &chat("demo", 1)).await;
    assert_eq!(refused.status, 429, "{}", refused.body);
    assert_eq!(refused.error()["code"], "rate_limit_exceeded");
    let wait: u64 = refused.header("retry-after").and_then(|wait| wait.parse().ok()).expect("a time");
    assert!((1..=30).contains(&wait), "{wait}");
    assert!(refused.header("x-ratelimit-reset-requests").is_some());
    let anthropic = keyed.post(&key, "/v1/messages", &chat("demo", 1)).await;
    assert_eq!(anthropic.json()["error"]["type"], "rate_limit_error");
    assert_eq!(keyed.get(&key, "/v1/models").await.status, 200, "what only looks is not counted");
    let other = keyed.add("other", KeyTerms::default()).await;
    let answer = keyed.post(&other, CHAT, &chat("demo", 1)).await;
    assert_eq!((answer.status, answer.header("x-ratelimit-limit-requests")), (200, None));
}

#[tokio::test]
async fn a_key_pays_for_the_tokens_that_were_used_and_not_for_those_that_might_have_been() {
    let keyed = Keyed::new().await;
    let terms = KeyTerms { tokens_per_minute: Some(1_000), ..KeyTerms::default() };
    let key = keyed.add("ci", terms).await;
    let body = json!({ "model": "demo", "prompt": "x", "max_tokens": 5, "ignore_eos": true });
    let answer = keyed.post(&key, "/v1/completions", &body).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    let used = answer.json()["usage"]["total_tokens"].as_u64().expect("a count");
    let left: u64 =
        answer.header("x-ratelimit-remaining-tokens").and_then(|left| left.parse().ok()).expect("a count");
    // A token comes back every 60 ms.
    assert!(left >= 1_000 - used && left <= 1_000, "{left} left of 1000 after {used}");
    let large = json!({ "model": "demo", "prompt": "x", "max_tokens": 100_000 });
    let refused = keyed.post(&key, "/v1/completions", &large).await;
    assert_eq!(refused.status, 429, "{}", refused.body);
    let again = keyed.post(&key, "/v1/completions", &body).await;
    assert_eq!(again.status, 200, "{}", again.body);
}

#[tokio::test]
async fn a_client_that_leaves_while_its_prompt_is_computed_pays_for_the_prompt() {
    let script = Script { prefill_time_per_token: Duration::from_secs(1), ..Script::default() };
    let keyed = Keyed::on(FakeEngine::builder().script(script)).await;
    let terms = KeyTerms { tokens_per_minute: Some(1_000), ..KeyTerms::default() };
    let key = keyed.add("ci", terms).await;
    let body = json!({ "model": "demo", "prompt": vec![1; 400], "max_tokens": 5, "stream": true });
    let mut stream = tcp(&keyed.fixture).await;
    let text = with_key("POST", "/v1/completions", &key, &body.to_string());
    stream.write_all(text.as_bytes()).await.expect("writes");
    keyed.fixture.engine.wait_until(|counts| counts.generations_running == 1).await;
    let mut bytes = Vec::new();
    while !String::from_utf8_lossy(&bytes).contains("text/event-stream") {
        assert_ne!(stream.read_buf(&mut bytes).await.expect("reads"), 0);
    }
    drop(stream);
    keyed.fixture.handle_quiet().await;
    let answer = keyed.get(&key, "/v1/models").await;
    let left: u64 =
        answer.header("x-ratelimit-remaining-tokens").and_then(|left| left.parse().ok()).expect("a count");
    // A token comes back every 60 ms.
    assert!(left < 1_000, "{left}");
}

#[tokio::test]
async fn a_key_has_as_many_requests_under_way_as_it_may() {
    let keyed = Keyed::on(FakeEngine::builder().gate_tokens()).await;
    let key = keyed.add("ci", KeyTerms { concurrency: Some(1), ..KeyTerms::default() }).await;
    let mut first = tcp(&keyed.fixture).await;
    let text = with_key("POST", CHAT, &key, &chat("demo", 2).to_string());
    first.write_all(text.as_bytes()).await.expect("writes");
    keyed.fixture.engine.wait_until(|counts| counts.generations_running == 1).await;
    let second = keyed.post(&key, CHAT, &chat("demo", 2)).await;
    assert_eq!(second.status, 429, "{}", second.body);
    assert!(second.header("retry-after").is_some());
    keyed.fixture.engine.tokens_gate().open();
    assert_eq!(read(first).await.status, 200);
    assert_eq!(keyed.post(&key, CHAT, &chat("demo", 2)).await.status, 200);
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
