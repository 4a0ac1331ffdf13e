//! `/v1/messages` as Anthropic's clients use it.

use samovar_core::generation::Delta;
use samovar_core::testing::fake::{FakeEngine, Script};
use serde_json::{Value, json};

use crate::fixture::Fixture;
use crate::raw::{Answer, broken_load, exchange, get, post, request, tcp};

const PATH: &str = "/v1/messages";

fn ask(more: &Value) -> Value {
    let mut body = json!({
        "model": "tiny", "max_tokens": 6, "temperature": 0,
        "messages": [{ "role": "user", "content": "Hello there" }],
    });
    for (field, value) in more.as_object().expect("object") {
        body[field] = value.clone();
    }
    body
}

fn tools() -> Value {
    let city = json!({ "type": "object", "properties": { "city": { "type": "string" } } });
    json!([
        { "name": "weather", "description": "Tells it", "input_schema": city },
        { "type": "web_search_20250305", "name": "web_search" },
        { "name": "clock", "input_schema": { "type": "object" } },
    ])
}

/// Thinks, then calls two tools, the first one's arguments in two pieces.
async fn caller() -> Fixture {
    let call =
        |index: u32, name: &str| Delta::Call { index, id: format!("call_{index}"), name: name.to_owned() };
    let arguments = |index: u32, text: &str| Delta::Arguments { index, text: text.to_owned() };
    let deltas = vec![
        vec![Delta::Thinking("so".to_owned())],
        vec![Delta::Thinking(" then".to_owned())],
        vec![call(0, "weather"), arguments(0, "{\"city\":")],
        vec![arguments(0, "\"Turku\"}")],
        vec![call(1, "clock"), arguments(1, "{}")],
    ];
    Fixture::on(FakeEngine::builder().script(Script { deltas, ..Script::default() })).await
}

async fn sound(fixture: &Fixture, body: &Value) -> Value {
    let answer = post(fixture, PATH, body).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    answer.json()
}

#[tokio::test]
async fn answers_whole() {
    let fixture = Fixture::new().await;
    let mut answer = sound(&fixture, &ask(&json!({}))).await;
    let id = answer["id"].take();
    assert!(id.as_str().is_some_and(|id| id.starts_with("msg_")), "{id}");
    let expected = json!({
        "id": null, "type": "message", "role": "assistant", "model": "tiny",
        "content": [{ "type": "text", "text": " there in silver once on once" }],
        "stop_reason": "max_tokens", "stop_sequence": null,
        "usage": {
            "input_tokens": 25, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0, "output_tokens": 6,
        },
    });
    assert_eq!(answer, expected);
}

#[tokio::test]
async fn answers_streamed() {
    let fixture = caller().await;
    let body = ask(&json!({ "stream": true, "max_tokens": 12, "tools": tools() }));
    let answer = post(&fixture, PATH, &body).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    let mut events = answer.named_events();
    let start = events.remove(0);
    assert_eq!(start["type"], "message_start");
    let message = &start["message"];
    assert_eq!((&message["content"], &message["stop_reason"]), (&json!([]), &Value::Null));
    assert_eq!((&message["model"], &message["role"]), (&json!("tiny"), &json!("assistant")));
    assert_eq!(
        (&message["usage"]["input_tokens"], &message["usage"]["output_tokens"]),
        (&json!(25), &json!(0))
    );
    let begin = |index: u32, block: Value| json!({ "type": "content_block_start", "index": index, "content_block": block });
    let delta =
        |index: u32, delta: Value| json!({ "type": "content_block_delta", "index": index, "delta": delta });
    let stop = |index: u32| json!({ "type": "content_block_stop", "index": index });
    let call = |id: &str, name: &str| json!({ "type": "tool_use", "id": id, "name": name, "input": {} });
    let input = |text: &str| json!({ "type": "input_json_delta", "partial_json": text });
    let usage = json!({
        "input_tokens": 25, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0, "output_tokens": 5,
    });
    let expected = [
        begin(0, json!({ "type": "thinking", "thinking": "", "signature": "" })),
        delta(0, json!({ "type": "thinking_delta", "thinking": "so" })),
        delta(0, json!({ "type": "thinking_delta", "thinking": " then" })),
        delta(0, json!({ "type": "signature_delta", "signature": "unsigned" })),
        stop(0),
        begin(1, call("call_0", "weather")),
        delta(1, input("{\"city\":")),
        delta(1, input("\"Turku\"}")),
        stop(1),
        begin(2, call("call_1", "clock")),
        delta(2, input("{}")),
        stop(2),
        json!({ "type": "message_delta", "delta": { "stop_reason": "tool_use", "stop_sequence": null }, "usage": usage }),
        json!({ "type": "message_stop" }),
    ];
    assert_eq!(events, expected);
}

#[tokio::test]
async fn streamed_text_is_one_block_and_says_the_same_as_a_whole_answer() {
    let fixture = Fixture::new().await;
    let whole = sound(&fixture, &ask(&json!({}))).await;
    let events = post(&fixture, PATH, &ask(&json!({ "stream": true }))).await.named_events();
    let said: String = events.iter().filter_map(|event| event["delta"]["text"].as_str()).collect();
    assert_eq!(whole["content"][0]["text"], said);
    let kinds: Vec<&Value> =
        events.iter().map(|event| &event["type"]).filter(|kind| *kind != "content_block_delta").collect();
    let expected =
        ["message_start", "content_block_start", "content_block_stop", "message_delta", "message_stop"];
    assert_eq!(kinds, expected);
}

#[tokio::test]
async fn choices_budgets_and_stops_have_their_effect() {
    let fixture = caller().await;
    let kinds = async |more: Value| {
        let mut body = ask(&json!({ "max_tokens": 12, "tools": tools() }));
        for (field, value) in more.as_object().expect("object") {
            body[field] = value.clone();
        }
        let answer = sound(&fixture, &body).await;
        let content = answer["content"].as_array().expect("blocks").clone();
        content
            .into_iter()
            .map(|block| block["type"].as_str().expect("a type").to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(kinds(json!({})).await, ["thinking", "tool_use", "tool_use"]);
    let one = json!({ "tool_choice": { "type": "auto", "disable_parallel_tool_use": true } });
    assert_eq!(kinds(one).await, ["thinking", "tool_use"]);
    assert_eq!(kinds(json!({ "tool_choice": { "type": "none" } })).await, ["thinking", "text"]);
    assert_eq!(kinds(json!({ "thinking": { "type": "disabled" } })).await, ["tool_use", "tool_use"]);
    let format = json!({ "format": { "type": "json_schema", "schema": { "type": "object" } } });
    let answer = sound(&fixture, &ask(&json!({ "output_config": format, "max_tokens": 12 }))).await;
    assert_eq!(answer["content"][1], json!({ "type": "text", "text": "{}" }));
    let cut = sound(&fixture, &ask(&json!({ "tool_choice": null, "max_tokens": 1 }))).await;
    assert_eq!(cut["stop_reason"], "max_tokens");

    let fixture = Fixture::new().await;
    let answer = sound(&fixture, &ask(&json!({ "stop_sequences": [" silver"] }))).await;
    assert_eq!(answer["content"], json!([{ "type": "text", "text": " there in" }]));
    assert_eq!(answer["stop_reason"], "stop_sequence");
    let nothing = sound(&fixture, &ask(&json!({ "max_tokens": 0 }))).await;
    assert_eq!((&nothing["content"], &nothing["usage"]["output_tokens"]), (&json!([]), &json!(0)));
}

#[tokio::test]
async fn the_text_that_ended_an_answer_is_told_whole_and_streamed() {
    let fixture = Fixture::new().await;
    let mut body = ask(&json!({ "stop_sequences": ["xyzzy", " silver"] }));
    let whole = sound(&fixture, &body).await;
    let told = json!({ "stop_reason": "stop_sequence", "stop_sequence": " silver" });
    for field in ["stop_reason", "stop_sequence"] {
        assert_eq!(whole[field], told[field], "{whole}");
    }
    body["stream"] = true.into();
    let events = post(&fixture, PATH, &body).await.named_events();
    let end = events.iter().find(|event| event["type"] == "message_delta").expect("an end");
    assert_eq!(end["delta"], told);
    let by_itself = sound(&fixture, &ask(&json!({ "max_tokens": 200, "stop_sequences": ["xyzzy"] }))).await;
    assert_eq!((&by_itself["stop_reason"], &by_itself["stop_sequence"]), (&json!("end_turn"), &Value::Null));
}

#[tokio::test]
async fn a_count_is_that_of_the_message_and_computes_nothing() {
    let fixture = Fixture::new().await;
    let count = async |more: &Value| {
        let mut body = json!({ "model": "tiny", "messages": [{ "role": "user", "content": "Hello there" }] });
        for (field, value) in more.as_object().expect("object") {
            body[field] = value.clone();
        }
        post(&fixture, "/v1/messages/count_tokens", &body).await
    };
    let more = json!({ "system": "You help.", "tools": tools(), "thinking": { "type": "adaptive" } });
    let counted = count(&more).await;
    assert_eq!(counted.status, 200, "{}", counted.body);
    assert_eq!(fixture.engine.counts().generations_started, 0);
    let usage = sound(&fixture, &ask(&more)).await["usage"].clone();
    assert_eq!(counted.json(), json!({ "input_tokens": usage["input_tokens"] }));
    let long = json!([{ "role": "user", "content": "x ".repeat(2_000) }]);
    let counted = count(&json!({ "messages": long })).await.json();
    assert!(counted["input_tokens"].as_u64() > Some(512), "it may be longer than the context: {counted}");
    for (more, status, word) in [
        (json!({ "messages": null }), 400, "`messages`"),
        (json!({ "system": 3 }), 400, "`system`"),
        (json!({ "model": "nope" }), 404, "nope"),
        (json!({ "tool_choice": { "type": "any" } }), 400, "tool"),
    ] {
        let answer = count(&more).await;
        assert_eq!(answer.status, status, "{}", answer.body);
        assert!(error(&answer).1.contains(word), "{}", answer.body);
    }
}

/// As Claude Code sends it.
fn agent(build: &str, messages: &Value) -> String {
    let text = |text: &str| json!({ "type": "text", "text": text, "cache_control": { "type": "ephemeral" } });
    let header = format!("x-anthropic-billing-header: cc_version=2.1.328.{build}; cc_entrypoint=cli;");
    let body = json!({
        "model": "tiny", "max_tokens": 12, "temperature": 0, "stream": false,
        "system": [text(&header), text("You are an agent."), text("You work in a directory.")],
        "messages": messages, "tools": tools(), "thinking": { "type": "adaptive" },
        "context_management": { "edits": [] }, "output_config": { "effort": "high" },
        "metadata": { "user_id": "x" }, "betas": ["x"],
    });
    let headers = [
        ("x-api-key", "any"),
        ("anthropic-version", "2023-06-01"),
        ("anthropic-beta", "a,b"),
        ("authorization", "Bearer any"),
    ];
    request("POST", "/v1/messages?beta=true", &headers, &body.to_string())
}

#[tokio::test]
async fn turns_and_sessions_of_an_agent_share_their_prefix() {
    let fixture = caller().await;
    let turn = async |build: &str, messages: &Value| {
        let answer = exchange(tcp(&fixture).await, agent(build, messages)).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        let answer = answer.json();
        let count = |field: &str| answer["usage"][field].as_u64().expect("a count");
        let cached = count("cache_read_input_tokens");
        (answer.clone(), cached + count("input_tokens"), cached)
    };
    let user = json!({ "role": "user", "content": [{ "type": "text", "text": "Rain?" }] });
    let later = json!({ "role": "system", "content": "Be brief." });
    let (first, prompt_tokens, cached) = turn("b7f", &json!([user, later])).await;
    assert_eq!((&first["stop_reason"], cached), (&json!("tool_use"), 0));
    let (_, again, cached) = turn("515", &json!([user, later])).await;
    assert_eq!(again, prompt_tokens);
    assert!(cached * 100 >= prompt_tokens * 95, "{cached} of {prompt_tokens}");
    let results = json!([
        { "type": "tool_result", "tool_use_id": "call_0", "content": "Rain" },
        { "type": "tool_result", "tool_use_id": "call_1", "content": [{ "type": "text", "text": "noon" }] },
    ]);
    let said = json!({ "role": "assistant", "content": first["content"] });
    let messages = json!([user, later, said, { "role": "user", "content": results }]);
    let (second, _, cached) = turn("0a1", &messages).await;
    assert_eq!(second["content"][0]["type"], "text");
    assert!(cached * 100 >= prompt_tokens * 95, "{cached} of {prompt_tokens}");
}

#[tokio::test]
async fn one_conversation_is_one_prompt_in_every_api() {
    let fixture = Fixture::new().await;
    let chat = json!({
        "model": "tiny", "temperature": 0, "max_tokens": 6,
        "messages": [{ "role": "system", "content": "You help." }, { "role": "user", "content": "Hello there" }],
    });
    let chat = post(&fixture, "/v1/chat/completions", &chat).await.json();
    let (text, prompt_tokens) = (&chat["choices"][0]["message"]["content"], &chat["usage"]["prompt_tokens"]);
    let messages = sound(&fixture, &ask(&json!({ "system": "You help." }))).await;
    assert_eq!(messages["content"][0]["text"], *text);
    let usage = &messages["usage"];
    let count = |field: &str| usage[field].as_u64().expect("a count");
    assert_eq!(json!(count("input_tokens") + count("cache_read_input_tokens")), *prompt_tokens);
    assert_eq!(count("input_tokens"), 1, "the last token of a prompt is always computed");
    let body = json!({
        "model": "tiny", "temperature": 0, "max_output_tokens": 6, "instructions": "You help.",
        "input": "Hello there",
    });
    let response = post(&fixture, "/v1/responses", &body).await.json();
    assert_eq!(response["output"][0]["content"][0]["text"], *text);
    assert_eq!(response["usage"]["input_tokens"], *prompt_tokens);
    let cached = &response["usage"]["input_tokens_details"]["cached_tokens"];
    assert_eq!(cached.as_u64().map(|cached| json!(cached + 1)), Some(prompt_tokens.clone()));
}

/// The error's type and message.
fn error(answer: &Answer) -> (String, String) {
    let body = answer.json();
    assert_eq!((&body["type"], body.as_object().expect("object").len()), (&json!("error"), 2), "{body}");
    let text = |field: &str| body["error"][field].as_str().expect("a text").to_owned();
    (text("type"), text("message"))
}

#[tokio::test]
async fn refusals_have_anthropics_form() {
    let fixture = Fixture::new().await;
    let image = json!([{ "role": "user", "content": [{ "type": "image", "source": {} }] }]);
    let long = json!([{ "role": "user", "content": "x ".repeat(2_000) }]);
    for (body, status, kind, word) in [
        (ask(&json!({ "max_tokens": null })), 400, "invalid_request_error", "`max_tokens`"),
        (ask(&json!({ "model": "" })), 400, "invalid_request_error", "`model`"),
        (ask(&json!({ "model": "nope" })), 404, "not_found_error", "nope"),
        (ask(&json!({ "messages": image })), 400, "invalid_request_error", "messages[0].content[0]"),
        (ask(&json!({ "messages": 3 })), 400, "invalid_request_error", "`messages`"),
        (ask(&json!({ "messages": long })), 400, "invalid_request_error", "too long"),
        (ask(&json!({ "tool_choice": { "type": "any" } })), 400, "invalid_request_error", "tool"),
        (json!([]), 400, "invalid_request_error", "a JSON object"),
    ] {
        for is_streamed in [false, true] {
            let mut body = body.clone();
            if let Some(fields) = body.as_object_mut() {
                fields.insert("stream".to_owned(), is_streamed.into());
            }
            let answer = post(&fixture, PATH, &body).await;
            assert_eq!(answer.status, status, "{}", answer.body);
            let (found, message) = error(&answer);
            assert_eq!(found, kind, "{message}");
            assert!(message.contains(word), "{message}");
        }
    }
}

#[tokio::test]
async fn refusals_before_and_below_the_route_have_anthropics_form() {
    let fixture = Fixture::new().await;
    let below = post(&fixture, "/v1/messages/batches", &ask(&json!({}))).await;
    assert_eq!((below.status, error(&below).0.as_str()), (404, "not_found_error"));
    let method = get(&fixture, PATH).await;
    assert_eq!((method.status, error(&method).0.as_str()), (405, "invalid_request_error"));
    let foreign = request("POST", PATH, &[("origin", "https://evil.example")], "{}");
    let foreign = exchange(tcp(&fixture).await, foreign).await;
    assert_eq!((foreign.status, error(&foreign).0.as_str()), (403, "permission_error"));
    let broken = exchange(tcp(&fixture).await, request("POST", PATH, &[], "{\"model\": ")).await;
    assert_eq!((broken.status, error(&broken).0.as_str()), (400, "invalid_request_error"));
}

#[tokio::test]
async fn a_death_in_the_middle_is_the_last_event_and_ends_no_block() {
    let script = Script { crash_after_tokens: Some(3), ..Script::default() };
    let fixture = Fixture::on(FakeEngine::builder().script(script)).await;
    let events = post(&fixture, PATH, &ask(&json!({ "stream": true }))).await.named_events();
    let kinds: Vec<&str> = events.iter().filter_map(|event| event["type"].as_str()).collect();
    assert_eq!(kinds[..3], ["message_start", "content_block_start", "content_block_delta"]);
    assert!(!kinds.contains(&"content_block_stop"), "{kinds:?}");
    let last = &events[events.len() - 1];
    assert_eq!((&last["type"], &last["error"]["type"]), (&json!("error"), &json!("api_error")));
}

#[tokio::test]
async fn what_fails_after_the_stream_began_is_its_last_event() {
    let ping = "event: ping\ndata: {\"type\":\"ping\"}\n\n";
    let answer = broken_load(PATH, &ask(&json!({ "stream": true })), ping).await;
    assert_eq!(answer.status, 200);
    let events = answer.named_events();
    assert_eq!(events.len(), 1, "{events:?}");
    assert_eq!(
        (&events[0]["type"], &events[0]["error"]["type"]),
        (&json!("error"), &json!("invalid_request_error"))
    );
    assert!(!answer.body.contains("/srv"), "{}", answer.body);
}
