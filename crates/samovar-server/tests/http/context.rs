//! Context that a request asks for: over OpenAI's API and the owner's.

use samovar::ModelSettings;
use samovar_core::testing::fake::FakeEngine;
use samovar_server::admin::wire::{GenerateBody, GenerateEvent};
use serde_json::{Value, json};

use crate::fixture::Fixture;
use crate::raw::{owner, post};

/// A server with the built-in model under a name that has 64 tokens of context, where requests may ask for so many.
async fn fixture(ceiling_tokens: u32) -> Fixture {
    let settings = ModelSettings::default().context_tokens(64).slots(1);
    let tune = |builder: samovar::Builder| {
        builder.alias("small", "demo".parse().expect("a reference"), settings).context_ceiling(ceiling_tokens)
    };
    Fixture::built(FakeEngine::builder(), tune, |_| ()).await
}

/// Asks for text after a prompt of so many tokens.
fn body(prompt_tokens: usize, context_tokens: &Value) -> Value {
    json!({ "model": "small", "prompt": vec![5; prompt_tokens], "max_tokens": 2, "context_tokens": context_tokens })
}

#[tokio::test]
async fn a_request_gets_the_context_that_it_asks_for_where_the_owner_allows_it() {
    let fixture = fixture(256).await;
    let refused = post(&fixture, "/v1/completions", &body(200, &Value::Null)).await;
    assert_eq!((refused.status, &refused.error()["code"]), (400, &json!("context_length_exceeded")));
    let answer = post(&fixture, "/v1/completions", &body(200, &json!(256))).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    let counts = fixture.engine.counts();
    assert_eq!((counts.loads_started, counts.resumes), (1, 1), "it grew, its weights staying in memory");
    let chat = json!({ "model": "small", "messages": [{ "role": "user", "content": "Hi" }], "max_tokens": 2,
                       "context_tokens": 128 });
    assert_eq!(post(&fixture, "/v1/chat/completions", &chat).await.status, 200);
    assert_eq!(fixture.engine.counts().resumes, 1, "less is what it has");
}

#[tokio::test]
async fn more_than_the_model_was_trained_with_is_a_400_that_says_how_much_that_is() {
    let fixture = fixture(4_096).await;
    for wrong in [json!(0), json!(-1), json!(0.5), json!(513), json!(1e12)] {
        let answer = post(&fixture, "/v1/completions", &body(5, &wrong)).await;
        assert_eq!(answer.status, 400, "{wrong}: {}", answer.body);
        assert_eq!(answer.error()["param"], "context_tokens", "{wrong}");
    }
    let answer = post(&fixture, "/v1/completions", &body(5, &json!(513))).await;
    assert!(answer.error()["message"].as_str().is_some_and(|text| text.contains("512")), "{}", answer.body);
    assert_eq!(fixture.engine.counts().loads_started, 0);
}

#[tokio::test]
async fn the_owners_requests_carry_their_context_and_priority() {
    let fixture = fixture(0).await;
    let mut request = samovar::Request::text("small", "Once upon a time").max_tokens(2).context_tokens(256);
    request.common.priority = 3;
    let body = GenerateBody::try_from(request.clone()).expect("text");
    assert_eq!(body.clone().into_request(samovar::Origin::Owner), request);
    let body = serde_json::to_value(body).expect("JSON");
    let events = owner(&fixture, "POST", "/admin/generate", &body).await.lines();
    let last: GenerateEvent =
        serde_json::from_value(events.last().expect("an event").clone()).expect("reads");
    assert!(matches!(last, GenerateEvent::Done(_)), "{last:?}");
    let stats = owner(&fixture, "GET", "/admin/stats", &Value::Null).await.json();
    assert_eq!(stats["models"][0]["options"]["context_tokens"], 256, "{stats}");
}

#[tokio::test]
async fn the_port_asks_for_no_more_than_the_owner_set_and_the_socket_does() {
    let fixture = fixture(0).await;
    let loaded = post(&fixture, "/v1/completions", &body(5, &json!(64))).await;
    assert_eq!(loaded.status, 200, "{}", loaded.body);
    let chat = json!({ "model": "small", "messages": [{ "role": "user", "content": "Hi" }], "max_tokens": 2,
                       "context_tokens": 65 });
    for (path, asked) in [("/v1/completions", body(5, &json!(65))), ("/v1/chat/completions", chat)] {
        let answer = post(&fixture, path, &asked).await;
        assert_eq!(
            (answer.status, &answer.error()["param"]),
            (400, &json!("context_tokens")),
            "{}",
            answer.body
        );
        let text = answer.error().to_string();
        assert!(text.contains("from 1 to 64") && !text.contains("512"), "{text}");
    }
    assert_eq!(fixture.engine.counts().resumes, 0);
    let too_long = post(&fixture, "/v1/completions", &body(200, &Value::Null)).await.error().to_string();
    assert!(!too_long.contains("512"), "it offers nothing that would be refused: {too_long}");
    let answer = owner(&fixture, "POST", "/v1/completions", &body(200, &json!(250))).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    let stats = owner(&fixture, "GET", "/admin/stats", &Value::Null).await.json();
    assert_eq!(stats["models"][0]["options"]["context_tokens"], 256, "a power of two: {stats}");
}

#[tokio::test]
async fn a_pinned_model_grows_for_its_owner_alone() {
    let fixture = fixture(512).await;
    let pin = owner(&fixture, "POST", "/admin/pin", &json!({ "model": "small", "pinned": true })).await;
    assert_eq!(pin.status, 200, "{}", pin.body);
    let usual = post(&fixture, "/v1/completions", &body(5, &Value::Null)).await;
    assert_eq!(usual.status, 200, "{}", usual.body);
    let refused = post(&fixture, "/v1/completions", &body(5, &json!(256))).await;
    assert_eq!(
        (refused.status, &refused.error()["param"]),
        (400, &json!("context_tokens")),
        "{}",
        refused.body
    );
    let too_long = post(&fixture, "/v1/completions", &body(200, &Value::Null)).await.error().to_string();
    assert!(too_long.contains("shorten") && !too_long.contains("512"), "nor is more offered: {too_long}");
    let grown = owner(&fixture, "POST", "/v1/completions", &body(200, &json!(256))).await;
    assert_eq!(grown.status, 200, "{}", grown.body);
    let served = post(&fixture, "/v1/completions", &body(5, &json!(256))).await;
    assert_eq!(served.status, 200, "it has as much now: {}", served.body);
}
