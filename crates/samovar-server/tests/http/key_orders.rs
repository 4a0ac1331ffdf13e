//! What a key that may manage orders, over the owner's and Ollama's routes.

use samovar_server::{KeyTerms, Scope, Secret};
use serde_json::{Value, json};

use crate::keyed::{CHAT, Keyed, chat, for_scopes, with_key};
use crate::raw::{exchange, owner, request, tcp};

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
async fn a_key_that_may_manage_opens_no_file_and_no_address() {
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
        ("/admin/pull", json!({ "model": url })),
        ("/admin/pull", json!({ "model": web })),
    ] {
        let answer = keyed.post(&manage, path, &body).await;
        assert!([400, 403, 404].contains(&answer.status), "{path} {body}: {} {}", answer.status, answer.body);
    }
    let disk = owner(&keyed.fixture, "GET", "/admin/disk", &Value::Null).await.json();
    assert_eq!(disk["artifacts"], 0);
    let models = owner(&keyed.fixture, "GET", "/admin/models", &Value::Null).await;
    assert!(!models.body.contains("\"mine\""), "{}", models.body);
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
