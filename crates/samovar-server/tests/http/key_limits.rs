//! How much a key may ask for: requests, tokens, and requests at the same time.

use std::time::Duration;

use samovar_core::testing::fake::{FakeEngine, Script};
use samovar_server::KeyTerms;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::keyed::{CHAT, Keyed, chat, with_key};
use crate::raw::{Answer, read, tcp};

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

/// What the key had left of its tokens when this answer began.
fn left(answer: &Answer) -> u64 {
    answer.header("x-ratelimit-remaining-tokens").and_then(|left| left.parse().ok()).expect("a count")
}

#[tokio::test]
async fn a_key_pays_for_the_tokens_that_were_used_and_not_for_those_that_might_have_been() {
    let keyed = Keyed::new().await;
    // One comes back every three seconds.
    let terms = KeyTerms { tokens_per_minute: Some(20), ..KeyTerms::default() };
    let key = keyed.add("ci", terms).await;
    let body = json!({ "model": "demo", "prompt": "x", "max_tokens": 5, "ignore_eos": true });
    let answer = keyed.post(&key, "/v1/completions", &body).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    let used = answer.json()["usage"]["total_tokens"].as_u64().expect("a count");
    assert!((20 - used..20).contains(&left(&answer)), "{} left of 20 after {used}", left(&answer));
    let large = json!({ "model": "demo", "prompt": "x", "max_tokens": 100_000 });
    let refused = keyed.post(&key, "/v1/completions", &large).await;
    assert_eq!(refused.status, 429, "{}", refused.body);
    let again = keyed.post(&key, "/v1/completions", &body).await;
    assert_eq!(again.status, 200, "{}", again.body);
}

#[tokio::test]
async fn the_choices_of_a_request_take_their_tokens_together() {
    let keyed = Keyed::new().await;
    let terms = KeyTerms { tokens_per_minute: Some(20), ..KeyTerms::default() };
    let key = keyed.add("ci", terms).await;
    // More than run at the same time.
    let body = json!({ "model": "demo", "prompt": ["x", "y"], "n": 8, "max_tokens": 5, "ignore_eos": true });
    let answer = keyed.post(&key, "/v1/completions", &body).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert_eq!((answer.json()["usage"]["completion_tokens"].as_u64(), left(&answer)), (Some(80), 0));
    let refused = keyed.post(&key, "/v1/completions", &body).await;
    assert_eq!(refused.status, 429, "{}", refused.body);
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
    // A token comes back every 60 ms.
    assert!(left(&answer) < 1_000, "{}", left(&answer));
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
