//! Chats that have to be answered within a time.

use samovar_core::testing::fake::FakeEngine;
use serde_json::json;

use crate::chat::{PATH, hello};
use crate::fixture::Fixture;
use crate::raw::{self, post, request, tcp};

#[tokio::test]
async fn a_deadline_returns_what_there_is() {
    let fixture = Fixture::on(FakeEngine::builder().gate_tokens()).await;
    fixture.engine.tokens_gate().admit(3);
    let whole = post(&fixture, PATH, &hello(&json!({ "timeout": 1.5 }))).await;
    assert_eq!(whole.status, 200, "{}", whole.body);
    let whole = whole.json();
    assert_eq!(whole["choices"][0]["finish_reason"], "length");
    assert_eq!(whole["samovar"]["timed_out"], true);
    assert_eq!(whole["usage"]["completion_tokens"], 3);
    assert!(whole["samovar"]["timings"]["total_ms"].as_f64().expect("ms") >= 1500.0);
    fixture.engine.wait_until(|counts| counts.generations_running == 0).await;

    fixture.engine.tokens_gate().admit(2);
    let body = hello(&json!({ "stream": true })).to_string();
    let streamed = request("POST", PATH, &[("x-request-timeout", "1500ms")], &body);
    let events = raw::exchange(tcp(&fixture).await, streamed).await.events();
    let last = events.last().expect("a last chunk");
    assert_eq!(last["choices"][0]["finish_reason"], "length");
    assert_eq!(last["samovar"]["timed_out"], true);
    assert_eq!(events.len(), 4, "role, two tokens, end");
}

#[tokio::test]
async fn a_deadline_before_the_first_token_is_an_error_that_tells_how_far_it_was() {
    let fixture = Fixture::on(FakeEngine::builder().gate_tokens()).await;
    let patient = tokio::spawn({
        let (address, body) = (fixture.address, hello(&json!({ "n": 2 })).to_string());
        async move {
            let stream = tokio::net::TcpStream::connect(address).await.expect("connects");
            raw::exchange(stream, request("POST", PATH, &[], &body)).await
        }
    });
    fixture.engine.wait_until(|counts| counts.generations_running == 2).await;
    let queued = post(&fixture, PATH, &hello(&json!({ "timeout": 0.2 }))).await;
    assert_eq!(queued.status, 504, "{}", queued.body);
    assert_eq!(queued.error()["code"], "deadline_exceeded");
    assert_eq!(queued.header("x-should-retry"), Some("true"), "the queue may be shorter then");
    fixture.engine.tokens_gate().open();
    assert_eq!(patient.await.expect("ends").status, 200);
    fixture.engine.tokens_gate().close();
    let silent = post(&fixture, PATH, &hello(&json!({ "timeout": 1.5 }))).await;
    assert_eq!(silent.status, 504, "{}", silent.body);
    assert_eq!(silent.error()["code"], "deadline_exceeded");
    assert!(silent.error()["message"].as_str().is_some_and(|words| words.contains("no token yet")));
    assert_eq!(silent.header("x-should-retry"), Some("false"), "it would be computed as long again");
}

#[tokio::test]
async fn a_deadline_with_more_choices_than_slots_returns_what_some_have() {
    let fixture = Fixture::on(FakeEngine::builder().gate_tokens()).await;
    fixture.engine.tokens_gate().admit(4);
    let answer = post(&fixture, PATH, &hello(&json!({ "n": 8, "timeout": 1.5 }))).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    let answer = answer.json();
    let choices = answer["choices"].as_array().expect("choices");
    assert_eq!(choices.len(), 8);
    assert!(choices.iter().all(|choice| choice["finish_reason"] == "length"), "{answer}");
    assert_eq!(answer["usage"]["completion_tokens"], 4);
    assert_eq!(answer["samovar"]["timed_out"], true);
}
