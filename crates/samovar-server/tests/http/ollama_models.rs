//! What Ollama's clients see of models, and how they have them loaded, made larger, unloaded and fetched.

use std::time::Duration;

use samovar::ModelSettings;
use samovar_core::testing::fake::FakeEngine;
use samovar_server::ServeConfig;
use serde_json::{Value, json};

use crate::fixture::{Fixture, eventually};
use crate::ollama::{CHAT, GENERATE, refused, whole, with};
use crate::raw::{exchange, get, owner, post, request, tcp};

#[tokio::test]
async fn a_request_without_a_prompt_loads_the_model_and_answers_with_one_object() {
    let fixture = Fixture::new().await;
    let answer = whole(&fixture, GENERATE, &json!({ "model": "tiny" })).await;
    assert_eq!((&answer["response"], &answer["done"]), (&json!(""), &json!(true)));
    assert_eq!((&answer["done_reason"], &answer["model"]), (&json!("load"), &json!("tiny")));
    let answer = whole(&fixture, CHAT, &json!({ "model": "tiny", "messages": [] })).await;
    assert_eq!((&answer["message"]["content"], &answer["done_reason"]), (&json!(""), &json!("load")));
    let counts = fixture.engine.counts();
    assert_eq!((counts.loads_started, counts.generations_started), (1, 0));
}

#[tokio::test]
async fn the_owner_unloads_a_model_and_a_client_of_the_network_does_not() {
    let fixture = Fixture::new().await;
    whole(&fixture, GENERATE, &json!({ "model": "tiny" })).await;
    let unload = json!({ "model": "tiny", "keep_alive": 0 });
    assert_eq!(whole(&fixture, GENERATE, &unload).await["done_reason"], "unload");
    let loaded = get(&fixture, "/api/ps").await.json();
    assert_eq!(loaded["models"][0]["name"], "tiny:latest", "{loaded}");
    let answer = owner(&fixture, "POST", GENERATE, &unload).await;
    assert_eq!((answer.status, &answer.json()["done_reason"]), (200, &json!("unload")));
    eventually("the model is unloaded", async || fixture.engine.counts().live_instances == 0).await;
    assert_eq!(get(&fixture, "/api/ps").await.json(), json!({ "models": [] }));
    let absent = json!({ "model": "demo", "keep_alive": 0 });
    assert_eq!(whole(&fixture, GENERATE, &absent).await["done_reason"], "unload");
    assert_eq!(fixture.engine.counts().loads_started, 1, "nothing is loaded so as to leave");
}

#[tokio::test]
async fn a_floor_of_nothing_lets_no_stranger_unload_what_it_may_not_name() {
    let adjust = |config: &mut ServeConfig| config.limits.keep_alive_floor = Duration::ZERO;
    let fixture = Fixture::with(FakeEngine::builder(), adjust).await;
    whole(&fixture, GENERATE, &json!({ "model": "tiny" })).await;
    let path = fixture.home.path().join("tiny-model.gguf");
    for path in [path.display().to_string(), format!("{}.absent", path.display())] {
        let unload = json!({ "model": path, "keep_alive": 0 });
        let error = refused(&post(&fixture, GENERATE, &unload).await, 403);
        assert!(error.contains("may not name files"), "{error}");
    }
}

#[tokio::test]
async fn every_list_has_what_clients_read() {
    let fixture = Fixture::new().await;
    let tags = get(&fixture, "/api/tags").await.json();
    let tags = tags["models"].as_array().expect("models").clone();
    let names: Vec<&str> = tags.iter().filter_map(|row| row["name"].as_str()).collect();
    assert!(names.contains(&"tiny:latest") && names.contains(&"demo:latest"), "{names:?}");
    for row in &tags {
        assert_eq!(row["name"], row["model"]);
        let digest = row["digest"].as_str().expect("a digest");
        assert!(digest.len() == 64 && digest.chars().all(|digit| digit.is_ascii_hexdigit()), "{row}");
        assert!(row["size"].is_u64() && row["modified_at"].is_string(), "{row}");
        let details = row["details"].as_object().expect("details");
        assert!(details.values().all(|value| value.is_string() || value.is_array()), "{row}");
    }
    whole(&fixture, GENERATE, &json!({ "model": "tiny:latest", "keep_alive": "10m" })).await;
    let row = get(&fixture, "/api/ps").await.json()["models"][0].clone();
    assert_eq!((&row["context_length"], &row["size_vram"]), (&json!(512), &json!(0)), "{row}");
    assert!(row["expires_at"].is_string() && row["size"].is_u64(), "{row}");
    let digest = tags.iter().find(|tag| tag["name"] == "tiny:latest").expect("is there")["digest"].clone();
    assert_eq!(row["digest"], digest);
    for body in [json!({ "model": "tiny" }), json!({ "name": "tiny:latest", "verbose": true })] {
        let shown = post(&fixture, "/api/show", &body).await;
        let home = fixture.home.path().to_str().expect("UTF-8");
        assert!(!shown.body.contains(home), "{}", shown.body);
        let shown = shown.json();
        assert_eq!(shown["capabilities"], json!(["completion"]));
        assert_eq!(shown["model_info"]["general.architecture"], "llama");
        assert!(shown["model_info"]["llama.context_length"].is_u64(), "{shown}");
        assert!(shown["parameters"].as_str().is_some_and(|lines| lines.contains("num_ctx")), "{shown}");
        assert!(shown["template"].is_string() && shown["details"]["family"] == "llama", "{shown}");
    }
}

#[tokio::test]
async fn what_the_settings_say_of_a_name_is_shown_and_no_name_is_listed_twice() {
    let mut settings = ModelSettings::default().context_tokens(512).slots(1);
    settings.system = Some("Rhyme.".to_owned());
    settings.stop = vec!["zzz".to_owned()];
    settings.sampling.top_k = Some(7);
    settings.max_tokens = Some(5);
    let tune = |builder: samovar::Builder| {
        let demo = || "demo".parse().expect("a reference");
        builder.alias("poet", demo(), settings).alias("poet:latest", demo(), ModelSettings::default())
    };
    let fixture = Fixture::built(FakeEngine::builder(), tune, |_| ()).await;
    let shown = whole(&fixture, "/api/show", &json!({ "model": "poet" })).await;
    assert_eq!(shown["system"], "Rhyme.");
    let parameters = shown["parameters"].as_str().expect("a text");
    for part in ["top_k", "7", "stop", "\"zzz\"", "num_predict", "5"] {
        assert!(parameters.contains(part), "{parameters}");
    }
    let file = shown["modelfile"].as_str().expect("a text");
    assert!(file.contains("SYSTEM \"\"\"Rhyme.\"\"\"\n"), "{file}");
    let tags = get(&fixture, "/api/tags").await.json();
    let rows = tags["models"].as_array().expect("models").iter();
    assert_eq!(rows.filter(|row| row["name"] == "poet:latest").count(), 1, "{tags}");
}

#[tokio::test]
async fn a_larger_context_grows_the_model_and_one_that_fits_does_nothing() {
    let settings = ModelSettings::default().context_tokens(64).slots(1);
    let tune = |builder: samovar::Builder| {
        builder.alias("small", "demo".parse().expect("a reference"), settings).context_ceiling(4_096)
    };
    let fixture = Fixture::built(FakeEngine::builder(), tune, |_| ()).await;
    let ask = |tokens: u32| {
        let options = json!({ "num_predict": 1, "num_ctx": tokens });
        json!({ "model": "small", "prompt": "Hi", "raw": true, "stream": false, "options": options })
    };
    for tokens in [32, 64] {
        whole(&fixture, GENERATE, &ask(tokens)).await;
    }
    assert_eq!(fixture.engine.counts().resumes, 0);
    whole(&fixture, GENERATE, &ask(256)).await;
    let counts = fixture.engine.counts();
    assert_eq!((counts.loads_started, counts.resumes), (1, 1), "it grew, its weights staying in memory");
    // The model was trained with 512.
    whole(&fixture, GENERATE, &ask(100_000)).await;
}

#[tokio::test]
async fn a_larger_context_than_the_owner_allows_is_served_with_what_is_allowed() {
    let settings = ModelSettings::default().context_tokens(64).slots(1);
    let tune = |builder: samovar::Builder| {
        builder.alias("small", "demo".parse().expect("a reference"), settings).context_ceiling(256)
    };
    let fixture = Fixture::built(FakeEngine::builder(), tune, |_| ()).await;
    let ask = |more: Value| {
        let body = json!({ "model": "small", "prompt": "Hi", "raw": true, "stream": false,
                           "options": { "num_predict": 1, "num_ctx": 8_192 } });
        with(body, &more)
    };
    let pin = owner(&fixture, "POST", "/admin/pin", &json!({ "model": "small", "pinned": true })).await;
    assert_eq!(pin.status, 200, "{}", pin.body);
    whole(&fixture, GENERATE, &ask(json!({}))).await;
    let context = async || get(&fixture, "/api/ps").await.json()["models"][0]["context_length"].clone();
    assert_eq!(context().await, 64, "a pinned model grows for its owner alone");
    let unpin = owner(&fixture, "POST", "/admin/pin", &json!({ "model": "small", "pinned": false })).await;
    assert_eq!(unpin.status, 200, "{}", unpin.body);
    let leave = ask(json!({ "prompt": "", "keep_alive": 0 }));
    assert_eq!(whole(&fixture, GENERATE, &leave).await["done_reason"], "unload");
    assert_eq!(context().await, 64, "what leaves does not grow first");
    // A request that only loads it, and one that asks.
    for more in [json!({ "prompt": "" }), json!({})] {
        whole(&fixture, GENERATE, &ask(more)).await;
        assert_eq!(context().await, 256, "as far as the owner allows");
    }
}

#[tokio::test]
async fn the_owner_pulls_a_model_and_hears_how_far_it_is() {
    let fixture = Fixture::new().await;
    let path = fixture.home.path().join("tiny-model.gguf");
    let model = format!("file://{}", path.display());
    let refused = refused(&post(&fixture, "/api/pull", &json!({ "model": model })).await, 403);
    assert!(refused.contains("samovar pull"), "{refused}");
    let answer = owner(&fixture, "POST", "/api/pull", &json!({ "model": model })).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    let lines = answer.lines();
    assert!(lines.iter().all(|line| line["status"].is_string()), "{lines:?}");
    assert_eq!(lines.last().expect("a line")["status"], "success");
    let again = owner(&fixture, "POST", "/api/pull", &json!({ "model": model, "stream": false })).await;
    assert_eq!((again.status, again.json()), (200, json!({ "status": "success" })));
    let absent = json!({ "model": format!("{model}.absent.gguf") });
    let lines = owner(&fixture, "POST", "/api/pull", &absent).await.lines();
    assert!(lines.last().expect("a line")["error"].is_string(), "{lines:?}");
    let wrong = owner(&fixture, "POST", "/api/pull", &json!({ "model": "a b" })).await;
    assert_eq!(wrong.status, 400, "{}", wrong.body);
}

#[tokio::test]
async fn nothing_that_comes_over_the_network_changes_the_models_of_the_machine() {
    let fixture = Fixture::new().await;
    for path in ["/api/create", "/api/copy", "/api/pull"] {
        let body = json!({ "model": "llama3.2:1b" });
        let error = refused(&post(&fixture, path, &body).await, 403);
        assert!(error.contains("the owner can"), "{error}");
    }
    refused(&post(&fixture, "/api/push", &json!({ "model": "tiny" })).await, 501);
    let delete =
        request("DELETE", "/api/delete", &[("content-type", "application/json")], r#"{"model":"tiny"}"#);
    let error = refused(&exchange(tcp(&fixture).await, delete).await, 403);
    assert!(error.contains("samovar rm"), "{error}");
    let here = whole(&fixture, "/api/pull", &json!({ "model": "tiny", "stream": false })).await;
    assert_eq!(here, json!({ "status": "success" }));
    let lines = post(&fixture, "/api/pull", &json!({ "name": "tiny:latest" })).await.lines();
    assert_eq!(lines.last().expect("a line")["status"], "success");
}
