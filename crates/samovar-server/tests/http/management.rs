//! What an owner does with models on disk over HTTP, and the settings that are shown.

use samovar_core::testing::fake::FakeEngine;
use samovar_core::{ErrorKind, Failure};
use samovar_server::SettingsSource;
use samovar_server::admin::wire::{Cleared, PullEvent, PullsCancelled, VerifyEvent};
use serde_json::{Value, json};

use crate::fixture::{Fixture, eventually};
use crate::raw::{Answer, get, owner};

/// A model that can be fetched: a file by its address.
fn source(fixture: &Fixture) -> String {
    format!("file://{}", fixture.home.path().join("tiny-model.gguf").display())
}

async fn pulled(fixture: &Fixture) -> String {
    let answer = owner(fixture, "POST", "/admin/pull", &json!({ "model": source(fixture) })).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    let last = answer.lines().pop().expect("a line");
    match serde_json::from_value(last).expect("an event") {
        PullEvent::Done { reference, .. } => reference,
        event => panic!("{event:?}"),
    }
}

fn refused(answer: &Answer, status: u16) -> Failure {
    assert_eq!(answer.status, status, "{}", answer.body);
    serde_json::from_str(&answer.body).expect("a failure")
}

async fn disk(fixture: &Fixture) -> Value {
    owner(fixture, "GET", "/admin/disk", &Value::Null).await.json()
}

#[tokio::test]
async fn a_model_is_fetched_with_progress_and_once() {
    let fixture = Fixture::new().await;
    let reference = pulled(&fixture).await;
    assert_eq!(disk(&fixture).await["artifacts"], 1);
    let again = owner(&fixture, "POST", "/admin/pull", &json!({ "model": reference })).await;
    let last = again.lines().pop().expect("a line");
    assert_eq!((&last["done"]["was_here"], &last["done"]["fetched_bytes"]), (&json!(true), &json!(0)));
    let unknown = owner(&fixture, "POST", "/admin/pull", &json!({ "model": "nobody" })).await;
    assert_eq!(refused(&unknown, 404).kind, ErrorKind::NotFound);
    let path = fixture.home.path().join("tiny-model.gguf");
    let file = owner(&fixture, "POST", "/admin/pull", &json!({ "model": path })).await;
    assert!(refused(&file, 400).hint.is_some());
    let absent = json!({ "model": format!("{reference}.absent.gguf") });
    let lines = owner(&fixture, "POST", "/admin/pull", &absent).await.lines();
    assert!(lines.last().expect("a line")["failed"]["message"].is_string(), "{lines:?}");
}

#[tokio::test]
async fn a_model_is_judged_at_its_source_before_it_is_fetched() {
    let fixture = Fixture::new().await;
    let path = format!("/admin/outlook?model={}", source(&fixture));
    let outlook = owner(&fixture, "GET", &path, &Value::Null).await.json();
    let variant = &outlook["variants"][0];
    assert_eq!((&variant["form"], &variant["verdict"]), (&json!("mapped"), &json!("fits_now")), "{outlook}");
    assert!(variant["usual"]["bytes"].as_u64() > Some(0) && outlook["budget_bytes"].is_u64(), "{outlook}");
    assert_eq!(disk(&fixture).await["artifacts"], 0, "nothing was fetched");
    for wrong in ["/admin/outlook", "/admin/outlook?model=demo"] {
        assert!(!refused(&owner(&fixture, "GET", wrong, &Value::Null).await, 400).message.is_empty());
    }
}

#[tokio::test]
async fn a_fetch_goes_on_in_the_background() {
    let fixture = Fixture::new().await;
    let body = json!({ "model": source(&fixture), "background": true });
    let answer = owner(&fixture, "POST", "/admin/pull", &body).await;
    assert_eq!(answer.status, 202, "{}", answer.body);
    let reference = answer.json()["reference"].as_str().expect("a reference").to_owned();
    eventually("it is on disk", async || disk(&fixture).await["artifacts"] == 1).await;
    eventually("it has ended", async || {
        let none = owner(&fixture, "POST", "/admin/pull/cancel", &json!({ "model": reference })).await;
        let none: PullsCancelled = serde_json::from_str(&none.body).expect("an answer");
        none.cancelled == 0
    })
    .await;
}

#[tokio::test]
async fn a_model_in_use_stays_and_is_removed_after_it_was_unloaded() {
    let fixture = Fixture::new().await;
    let reference = pulled(&fixture).await;
    let body = json!({ "model": reference });
    assert_eq!(owner(&fixture, "POST", "/admin/warm", &body).await.status, 200);
    let busy = refused(&owner(&fixture, "POST", "/admin/rm", &body).await, 503);
    assert!(busy.kind == ErrorKind::Busy && busy.hint.as_deref().is_some_and(|hint| hint.contains("unload")));
    assert_eq!(owner(&fixture, "POST", "/admin/unload", &body).await.status, 200);
    eventually("it is removed", async || owner(&fixture, "POST", "/admin/rm", &body).await.status == 200)
        .await;
    assert_eq!(refused(&owner(&fixture, "POST", "/admin/rm", &body).await, 404).kind, ErrorKind::NotFound);
    assert_eq!(disk(&fixture).await["artifacts"], 0);
}

#[tokio::test]
async fn the_disk_is_collected_and_verified() {
    let fixture = Fixture::new().await;
    let reference = pulled(&fixture).await;
    let dry = owner(&fixture, "POST", "/admin/gc", &json!({ "dry_run": true })).await.json();
    assert_eq!((&dry["is_dry_run"], &dry["removed"]), (&json!(true), &json!([])));
    let wet = owner(&fixture, "POST", "/admin/gc", &Value::Null).await.json();
    assert_eq!(wet["is_dry_run"], false);
    for body in [Value::Null, json!({ "models": [reference] })] {
        let lines = owner(&fixture, "POST", "/admin/verify", &body).await.lines();
        let last: VerifyEvent =
            serde_json::from_value(lines.last().expect("a line").clone()).expect("an event");
        let VerifyEvent::Done(found) = last else { panic!("{last:?}") };
        assert!(found.is_sound && found.verified.blobs > 0, "{found:?}");
    }
    let unknown = owner(&fixture, "POST", "/admin/verify", &json!({ "models": ["nobody"] })).await.lines();
    assert_eq!(unknown.last().expect("a line")["failed"]["kind"], "not_found");
}

#[tokio::test]
async fn a_level_of_the_cache_is_emptied() {
    let fixture = Fixture::new().await;
    let reference = pulled(&fixture).await;
    assert_eq!(owner(&fixture, "POST", "/admin/warm", &json!({ "model": reference })).await.status, 200);
    let clear = async |tier: &str| {
        let answer = owner(&fixture, "POST", "/admin/clear", &json!({ "tier": tier })).await;
        serde_json::from_str::<Cleared>(&answer.body).expect("an answer")
    };
    let in_use = clear("disk").await;
    assert!(in_use.removed.is_empty() && in_use.failed.len() == 1, "{in_use:?}");
    assert_eq!(in_use.failed[0].failure.kind, ErrorKind::Busy);
    assert_eq!(clear("memory").await.instances, 1);
    eventually("the disk is empty", async || {
        clear("disk").await;
        disk(&fixture).await["artifacts"] == 0
    })
    .await;
    for wrong in [json!({}), json!({ "tier": "l1" }), json!({ "tier": null })] {
        refused(&owner(&fixture, "POST", "/admin/clear", &wrong).await, 400);
    }
}

#[tokio::test]
async fn a_created_name_is_removed_as_a_model_is() {
    let fixture = Fixture::new().await;
    for name in ["one", "two"] {
        let copy = json!({ "source": "tiny", "destination": name });
        assert_eq!(owner(&fixture, "POST", "/api/copy", &copy).await.status, 200);
    }
    let one = json!({ "model": "one" });
    let removed = owner(&fixture, "POST", "/admin/rm", &one).await;
    assert_eq!((removed.status, &removed.json()["reference"]), (200, &json!("one")));
    assert_eq!(refused(&owner(&fixture, "POST", "/admin/rm", &one).await, 404).kind, ErrorKind::NotFound);
    let cleared = owner(&fixture, "POST", "/admin/clear", &json!({ "tier": "disk" })).await.json();
    assert_eq!(cleared["removed"][0]["reference"], "two");
    let models = owner(&fixture, "GET", "/admin/models", &Value::Null).await;
    assert!(!models.body.contains("\"two\""), "{}", models.body);
    assert_eq!(get(&fixture, "/v1/models/tiny").await.status, 200, "the model behind them stays");
}

#[tokio::test]
async fn a_query_that_cannot_be_read_is_a_failure() {
    let fixture = Fixture::new().await;
    let answer = owner(&fixture, "GET", "/admin/usage?since_ms=soon", &Value::Null).await;
    let failure = refused(&answer, 400);
    assert!(failure.kind == ErrorKind::InvalidRequest && failure.hint.is_some());
}

#[tokio::test]
async fn the_settings_are_shown_to_the_owner() {
    let none = Fixture::new().await;
    let refused = refused(&owner(&none, "GET", "/admin/config", &Value::Null).await, 501);
    assert!(refused.hint.is_some());
    let shown = || json!({ "values": [{ "key": "a.b", "value": 1, "from": "default" }] });
    let fixture = Fixture::with(FakeEngine::builder(), |config| {
        config.settings = Some(SettingsSource::new(shown));
    })
    .await;
    let config = owner(&fixture, "GET", "/admin/config", &Value::Null).await.json();
    assert_eq!((&config["values"], &config["problem"]), (&shown()["values"], &Value::Null));
    assert_eq!(config["changes"], json!({ "in_force": [], "needs_restart": [] }));
    assert_eq!(get(&fixture, "/admin/config").await.status, 404);
}

#[tokio::test]
async fn the_document_of_the_routes_is_on_the_port() {
    let fixture = Fixture::new().await;
    let answer = get(&fixture, "/openapi.json").await;
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/json")));
    assert_eq!(answer.json(), samovar_server::openapi());
}
