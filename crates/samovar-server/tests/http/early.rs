//! Streams that begin before their first token: the head at once, and a comment a second that says what is waited for.

use std::time::{Duration, Instant};

use samovar_core::testing::fake::{FakeEngine, Script};
use samovar_core::{ErrorKind, Failure};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::fixture::{Fixture, SLOTS, steady};
use crate::raw::{Answer, owner, parse, request, tcp};

const CHAT: &str = "/v1/chat/completions";
const TEXT: &str = "/v1/completions";
/// Longer than anything here takes, also on a machine that has much else to do.
const PATIENCE: Duration = Duration::from_secs(60);

fn body(path: &str) -> Value {
    let mut body =
        json!({ "model": "tiny", "stream": true, "temperature": 0, "max_tokens": 3, "ignore_eos": true });
    if path == CHAT {
        body["messages"] = json!([{ "role": "user", "content": "Hi" }]);
    } else {
        body["prompt"] = "Hi".into();
    }
    body
}

/// A streamed answer, as far as it has come.
struct Coming {
    stream: TcpStream,
    bytes: Vec<u8>,
}

impl Coming {
    async fn of(fixture: &Fixture, path: &str) -> Self {
        let mut stream = tcp(fixture).await;
        let text = request("POST", path, &[], &body(path).to_string());
        stream.write_all(text.as_bytes()).await.expect("writes");
        Self { stream, bytes: Vec::new() }
    }

    /// Reads until `text` has come so many times.
    async fn until(&mut self, text: &str, times: usize) {
        let read = async {
            while String::from_utf8_lossy(&self.bytes).matches(text).count() < times {
                let count = self.stream.read_buf(&mut self.bytes).await.expect("reads");
                assert_ne!(count, 0, "no {text:?} in {:?}", String::from_utf8_lossy(&self.bytes));
            }
        };
        tokio::time::timeout(PATIENCE, read).await.unwrap_or_else(|_| panic!("no {text:?} came"));
    }

    async fn rest(mut self) -> Answer {
        self.stream.read_to_end(&mut self.bytes).await.expect("reads");
        parse(&self.bytes)
    }
}

#[tokio::test]
async fn a_stream_begins_while_its_model_loads() {
    for path in [CHAT, TEXT] {
        let fixture = Fixture::on(FakeEngine::builder().gate_loads()).await;
        let mut coming = Coming::of(&fixture, path).await;
        coming.until("HTTP/1.1 200 OK", 1).await;
        coming.until(": loading the model: ", 2).await;
        assert_eq!(fixture.engine.counts().loads_finished, 0);
        fixture.engine.loads_gate().open();
        let answer = coming.rest().await;
        assert_eq!(answer.header("x-samovar-cache"), None, "it was not known yet");
        let events = answer.events();
        assert!(events.iter().all(|event| event["model"] == "tiny"), "{events:?}");
        let last = events.last().expect("an end");
        assert_eq!(last["choices"][0]["finish_reason"], "length");
        assert_eq!(last["samovar"]["cache"], "cold");
    }
}

#[tokio::test]
async fn a_stream_begins_while_it_queues_and_tells_the_place() {
    let fixture = Fixture::on(FakeEngine::builder().gate_tokens()).await;
    let mut running = Vec::new();
    for count in 1..=u64::from(SLOTS) {
        running.push(Coming::of(&fixture, CHAT).await);
        fixture.engine.wait_until(|counts| counts.generations_running == count).await;
    }
    let mut queued = Coming::of(&fixture, CHAT).await;
    queued.until(": waiting for a slot: place 1 in the queue", 1).await;
    fixture.engine.tokens_gate().open();
    let queued = queued.rest().await;
    let place = queued.header("x-queue-position");
    assert!(place.is_none_or(|place| place == "1"), "the head may have left before there was one: {place:?}");
    assert_eq!(queued.events().last().expect("an end")["samovar"]["timed_out"], false);
    for coming in running {
        assert_eq!(coming.rest().await.status, 200);
    }
}

#[tokio::test]
async fn a_comment_a_second_until_the_first_token_and_between_tokens() {
    let fixture = Fixture::on(FakeEngine::builder().gate_tokens()).await;
    // A load that takes its time would be told as well, and the head would not say where the model was.
    assert_eq!(owner(&fixture, "POST", "/admin/warm", &json!({ "model": "tiny" })).await.status, 200);
    // Before the first comment can come: a test that reads it late measures more, and never less.
    let began = Instant::now();
    let mut coming = Coming::of(&fixture, TEXT).await;
    coming.until(": computing the prompt", 3).await;
    assert!(began.elapsed() > Duration::from_millis(1_500), "{:?}", began.elapsed());
    fixture.engine.tokens_gate().admit(1);
    coming.until(": computing the next token", 1).await;
    fixture.engine.tokens_gate().open();
    let answer = coming.rest().await;
    assert_eq!(answer.header("x-samovar-cache"), Some("hit"));
    assert!(
        answer.header("server-timing").is_some_and(|timing| !timing.contains("first-token")),
        "{answer:?}"
    );
    let said: String =
        answer.events().iter().filter_map(|event| event["choices"][0]["text"].as_str()).collect();
    assert!(!said.is_empty());
    // The head's and its own: comments are told once.
    let steady: String = answer
        .body
        .split_inclusive("\n\n")
        .map(|event| match event.strip_prefix("data: ").and_then(|text| serde_json::from_str(text).ok()) {
            Some(object) => format!("data: {}\n\n", steady(object)),
            None => event.to_owned(),
        })
        .collect();
    let mut blocks: Vec<&str> = steady.split_inclusive("\n\n").collect();
    blocks.dedup();
    insta::assert_snapshot!(blocks.concat());
}

#[tokio::test]
async fn a_long_prompt_tells_how_far_it_is() {
    let script = Script { prefill_time_per_token: Duration::from_millis(10), ..Script::default() };
    let fixture = Fixture::on(FakeEngine::builder().script(script)).await;
    let mut stream = tcp(&fixture).await;
    let mut long = body(TEXT);
    long["prompt"] = json!((0..300).map(|at| 5 + at % 200).collect::<Vec<u32>>());
    stream.write_all(request("POST", TEXT, &[], &long.to_string()).as_bytes()).await.expect("writes");
    let mut coming = Coming { stream, bytes: Vec::new() };
    coming.until(" of 300 tokens", 1).await;
    let answer = coming.rest().await;
    let told = answer.comments().iter().any(|comment| comment.starts_with("computing the prompt: "));
    assert!(told, "{:?}", answer.comments());
    assert_eq!(answer.events().last().expect("an end")["choices"][0]["finish_reason"], "length");
}

#[tokio::test]
async fn what_fails_after_the_stream_began_is_its_last_event() {
    for path in [CHAT, TEXT] {
        let fixture = Fixture::on(FakeEngine::builder().gate_loads()).await;
        let failure = Failure::new(ErrorKind::InvalidModel, "no such tensor in /srv/m.gguf");
        fixture.engine.fail_next_loads(1, failure);
        let mut coming = Coming::of(&fixture, path).await;
        coming.until(": loading the model", 1).await;
        fixture.engine.loads_gate().open();
        let answer = coming.rest().await;
        assert_eq!(answer.status, 200);
        let events = answer.events();
        assert_eq!(events.len(), 1, "{events:?}");
        assert_eq!(events[0]["error"]["code"], "invalid_model");
        assert!(!answer.body.contains("/srv"), "{}", answer.body);
    }
}

#[tokio::test]
async fn a_client_that_goes_in_the_silence_leaves_the_queue() {
    let fixture = Fixture::on(FakeEngine::builder().gate_tokens()).await;
    let mut running = Coming::of(&fixture, CHAT).await;
    running.until(": computing the prompt", 1).await;
    let mut second = Coming::of(&fixture, CHAT).await;
    second.until(": computing the prompt", 1).await;
    let mut queued = Coming::of(&fixture, CHAT).await;
    queued.until(": waiting for a slot", 1).await;
    drop(queued);
    fixture.queued(0).await;
    fixture.engine.tokens_gate().open();
    assert_eq!(running.rest().await.status, 200);
    assert_eq!(second.rest().await.comments()[0], "computing the prompt");
}
