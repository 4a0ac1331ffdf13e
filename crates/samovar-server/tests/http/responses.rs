//! `/v1/responses` as OpenAI's clients use it.

use samovar_core::generation::Delta;
use samovar_core::testing::fake::{FakeEngine, Script};
use serde_json::{Value, json};

use crate::fixture::Fixture;
use crate::raw::{broken_load, post};

const PATH: &str = "/v1/responses";

fn ask(more: &Value) -> Value {
    let mut body =
        json!({ "model": "tiny", "input": "Hello there", "temperature": 0, "max_output_tokens": 6 });
    for (field, value) in more.as_object().expect("object") {
        body[field] = value.clone();
    }
    body
}

fn tools() -> Value {
    let city = json!({ "type": "object", "properties": { "city": { "type": "string" } } });
    json!([
        { "type": "function", "name": "weather", "description": "Tells it", "parameters": city, "strict": false },
        { "type": "web_search", "external_web_access": false },
        { "type": "function", "name": "clock" },
    ])
}

/// Thinks, then calls a tool, its arguments in two pieces.
async fn caller() -> Fixture {
    let arguments = |text: &str| Delta::Arguments { index: 0, text: text.to_owned() };
    let call = Delta::Call { index: 0, id: "call_0".to_owned(), name: "weather".to_owned() };
    let deltas = vec![
        vec![Delta::Thinking("so".to_owned())],
        vec![Delta::Thinking(" then".to_owned())],
        vec![call, arguments("{\"city\":")],
        vec![arguments("\"Turku\"}")],
    ];
    Fixture::on(FakeEngine::builder().script(Script { deltas, ..Script::default() })).await
}

async fn sound(fixture: &Fixture, body: &Value) -> Value {
    let answer = post(fixture, PATH, body).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    answer.json()
}

/// The events of a stream without their numbers, which count from 0. Ids end with the request's, which differs from run to run.
fn steady(events: Vec<Value>, id: &str) -> Vec<Value> {
    let numbered = events.into_iter().enumerate().map(|(number, mut event)| {
        assert_eq!(event["sequence_number"], number, "{event}");
        event.as_object_mut().expect("object").remove("sequence_number");
        serde_json::from_str(&event.to_string().replace(id, "ID")).expect("JSON")
    });
    numbered.collect()
}

/// A stream's events.
async fn stream(fixture: &Fixture, more: &Value) -> Vec<Value> {
    let mut body = ask(more);
    body["stream"] = true.into();
    let answer = post(fixture, PATH, &body).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert!(!answer.body.contains("[DONE]"), "{}", answer.body);
    let id = answer.header("x-request-id").expect("an id").to_owned();
    steady(answer.named_events(), &id)
}

#[tokio::test]
async fn answers_whole() {
    let fixture = Fixture::new().await;
    let mut answer = sound(&fixture, &ask(&json!({ "store": true }))).await;
    let (id, created) = (answer["id"].take(), answer["created_at"].take());
    let id = id.as_str().and_then(|id| id.strip_prefix("resp_")).expect("an id");
    assert!(created.is_u64(), "{created}");
    let text = " there in silver once on once";
    let content = json!([{ "type": "output_text", "text": text, "annotations": [], "logprobs": [] }]);
    let item = json!({
        "id": format!("msg_{id}_0"), "type": "message", "status": "incomplete", "role": "assistant",
        "content": content,
    });
    let expected = json!({
        "id": null, "object": "response", "created_at": null, "status": "incomplete", "background": false,
        "error": null, "incomplete_details": { "reason": "max_output_tokens" }, "instructions": null,
        "max_output_tokens": 6, "metadata": {}, "model": "tiny", "output": [item], "parallel_tool_calls": true,
        "previous_response_id": null, "reasoning": { "effort": null, "summary": null }, "store": false,
        "temperature": 0.0, "text": { "format": { "type": "text" } }, "tool_choice": "auto", "tools": [],
        "top_p": 1.0, "truncation": "disabled",
        "usage": {
            "input_tokens": 25, "input_tokens_details": { "cached_tokens": 0 },
            "output_tokens": 6, "output_tokens_details": { "reasoning_tokens": 0 }, "total_tokens": 31,
        },
        "user": null,
    });
    assert_eq!(answer, expected);
}

#[tokio::test]
async fn a_count_is_that_of_the_input_and_computes_nothing() {
    let fixture = Fixture::new().await;
    let body = ask(&json!({ "instructions": "You help.", "tools": tools() }));
    let counted = post(&fixture, "/v1/responses/input_tokens", &body).await;
    assert_eq!(counted.status, 200, "{}", counted.body);
    assert_eq!(fixture.engine.counts().generations_started, 0);
    let tokens = sound(&fixture, &body).await["usage"]["input_tokens"].clone();
    assert_eq!(counted.json(), json!({ "object": "response.input_tokens", "input_tokens": tokens }));
    let missing = post(&fixture, "/v1/responses/input_tokens", &json!({ "model": "tiny" })).await;
    assert_eq!((missing.status, &missing.error()["param"]), (400, &json!("input")), "{}", missing.body);
}

#[tokio::test]
async fn thoughts_and_calls_are_items_with_events_of_their_own() {
    let fixture = caller().await;
    let mut events = stream(&fixture, &json!({ "tools": tools(), "max_output_tokens": 12 })).await;
    let last = events.pop().expect("an end");
    let thoughts = |status: &str, content: Value| json!({ "id": "rs_ID_0", "type": "reasoning", "status": status, "summary": [], "content": content });
    let call = |status: &str, arguments: &str| {
        json!({ "id": "fc_ID_1", "type": "function_call", "status": status, "call_id": "call_0", "name": "weather",
                "arguments": arguments })
    };
    let part = |text: &str| json!({ "type": "reasoning_text", "text": text });
    let of = |kind: &str, more: Value| {
        let mut event = json!({ "type": kind, "item_id": "rs_ID_0", "output_index": 0, "content_index": 0 });
        for (field, value) in more.as_object().expect("object") {
            event[field] = value.clone();
        }
        event
    };
    let whole = "{\"city\":\"Turku\"}";
    let of_call = |kind: &str| format!("response.function_call_arguments.{kind}");
    let delta = |text: &str| json!({ "type": of_call("delta"), "item_id": "fc_ID_1", "output_index": 1, "delta": text });
    let expected = [
        json!({ "type": "response.output_item.added", "output_index": 0, "item": thoughts("in_progress", json!([])) }),
        of("response.content_part.added", json!({ "part": part("") })),
        of("response.reasoning_text.delta", json!({ "delta": "so" })),
        of("response.reasoning_text.delta", json!({ "delta": " then" })),
        of("response.reasoning_text.done", json!({ "text": "so then" })),
        of("response.content_part.done", json!({ "part": part("so then") })),
        json!({ "type": "response.output_item.done", "output_index": 0, "item": thoughts("completed", json!([part("so then")])) }),
        json!({ "type": "response.output_item.added", "output_index": 1, "item": call("in_progress", "") }),
        delta("{\"city\":"),
        delta("\"Turku\"}"),
        json!({ "type": of_call("done"), "item_id": "fc_ID_1", "output_index": 1, "name": "weather", "arguments": whole }),
        json!({ "type": "response.output_item.done", "output_index": 1, "item": call("completed", whole) }),
    ];
    for (begin, kind) in events.drain(..2).zip(["response.created", "response.in_progress"]) {
        assert_eq!(begin["type"], kind);
        let response = &begin["response"];
        assert_eq!((&response["status"], &response["output"]), (&json!("in_progress"), &json!([])));
        assert_eq!((&response["id"], &response["usage"]), (&json!("resp_ID"), &Value::Null));
    }
    assert_eq!(events, expected);
    assert_eq!(last["type"], "response.completed");
    let response = &last["response"];
    let output = json!([thoughts("completed", json!([part("so then")])), call("completed", whole)]);
    assert_eq!((&response["status"], &response["output"]), (&json!("completed"), &output));
    assert_eq!(response["usage"]["output_tokens_details"], json!({ "reasoning_tokens": 2 }));
}

#[tokio::test]
async fn text_is_an_item_with_events_of_its_own() {
    let fixture = Fixture::new().await;
    let events = stream(&fixture, &json!({ "max_output_tokens": 2 })).await;
    let text = " there in";
    let part = |text: &str| json!({ "type": "output_text", "text": text, "annotations": [], "logprobs": [] });
    let item = |status: &str, content: Value| json!({ "id": "msg_ID_0", "type": "message", "status": status, "role": "assistant", "content": content });
    let of = |kind: &str, more: Value| {
        let mut event = json!({ "type": kind, "item_id": "msg_ID_0", "output_index": 0, "content_index": 0 });
        for (field, value) in more.as_object().expect("object") {
            event[field] = value.clone();
        }
        event
    };
    let expected = [
        json!({ "type": "response.output_item.added", "output_index": 0, "item": item("in_progress", json!([])) }),
        of("response.content_part.added", json!({ "part": part("") })),
        of("response.output_text.delta", json!({ "delta": " there", "logprobs": [] })),
        of("response.output_text.delta", json!({ "delta": " in", "logprobs": [] })),
        of("response.output_text.done", json!({ "text": text, "logprobs": [] })),
        of("response.content_part.done", json!({ "part": part(text) })),
        json!({ "type": "response.output_item.done", "output_index": 0, "item": item("incomplete", json!([part(text)])) }),
    ];
    assert_eq!(events[2..events.len() - 1], expected);
    let last = &events[events.len() - 1];
    assert_eq!(
        (&last["type"], &last["response"]["status"]),
        (&json!("response.incomplete"), &json!("incomplete"))
    );
}

#[tokio::test]
async fn a_client_that_asks_for_summaries_gets_the_thoughts_there() {
    let fixture = caller().await;
    let events =
        stream(&fixture, &json!({ "reasoning": { "summary": "auto" }, "max_output_tokens": 12 })).await;
    let kinds: Vec<&str> = events.iter().filter_map(|event| event["type"].as_str()).collect();
    let expected = [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.reasoning_summary_part.added",
        "response.reasoning_summary_text.delta",
        "response.reasoning_summary_text.delta",
        "response.reasoning_summary_text.done",
        "response.reasoning_summary_part.done",
        "response.output_item.done",
        "response.output_item.added",
        "response.content_part.added",
    ];
    assert_eq!(kinds[..expected.len()], expected);
    assert_eq!((&events[4]["summary_index"], &events[4]["delta"]), (&json!(0), &json!("so")));
    let item = &events[8]["item"];
    assert_eq!(item["summary"], json!([{ "type": "summary_text", "text": "so then" }]));
    assert!(item.get("content").is_none(), "{item}");
}

#[tokio::test]
async fn an_agent_finishes_its_loop_and_shares_its_prefix() {
    let fixture = caller().await;
    // As Codex sends it.
    let turn = async |input: &Value| {
        let more = json!({
            "instructions": "You are an agent.", "input": input, "tools": tools(), "tool_choice": "auto",
            "parallel_tool_calls": false, "reasoning": { "effort": "medium", "summary": null }, "store": false,
            "include": ["reasoning.encrypted_content"], "prompt_cache_key": "x", "client_metadata": {},
            "max_output_tokens": null,
        });
        sound(&fixture, &ask(&more)).await
    };
    let text = |role: &str, text: &str| json!({ "type": "message", "role": role, "content": [{ "type": "input_text", "text": text }] });
    let mut input = vec![text("developer", "Be brief."), text("user", "Rain?")];
    let first = turn(&json!(input)).await;
    let call = first["output"][1].clone();
    assert_eq!((&call["type"], &call["call_id"]), (&json!("function_call"), &json!("call_0")), "{first}");
    input.extend(first["output"].as_array().expect("items").clone());
    input.push(json!({ "type": "function_call_output", "call_id": "call_0", "output": "Rain" }));
    let second = turn(&json!(input)).await;
    assert_eq!((&second["status"], &second["output"][0]["type"]), (&json!("completed"), &json!("message")));
    let prompt_tokens = first["usage"]["input_tokens"].as_u64().expect("a count");
    let cached = second["usage"]["input_tokens_details"]["cached_tokens"].as_u64().expect("a count");
    assert!(cached * 100 >= prompt_tokens * 95, "{cached} of {prompt_tokens}");
}

#[tokio::test]
async fn a_warm_up_says_nothing_and_is_complete() {
    let fixture = Fixture::new().await;
    for more in [json!({ "generate": false }), json!({ "generate": false, "input": [] })] {
        let answer = sound(&fixture, &ask(&more)).await;
        assert_eq!((&answer["status"], &answer["output"]), (&json!("completed"), &json!([])));
        assert_eq!(answer["usage"]["output_tokens"], 0);
    }
    let events = stream(&fixture, &json!({ "generate": false })).await;
    let kinds: Vec<&str> = events.iter().filter_map(|event| event["type"].as_str()).collect();
    assert_eq!(kinds, ["response.created", "response.in_progress", "response.completed"]);
    let cached =
        sound(&fixture, &ask(&json!({}))).await["usage"]["input_tokens_details"]["cached_tokens"].clone();
    assert!(cached.as_u64().is_some_and(|cached| cached > 20), "{cached}");
    let other = sound(&fixture, &ask(&json!({ "input": "", "max_output_tokens": 1 }))).await;
    assert_eq!(other["usage"]["output_tokens"], 1);
}

#[tokio::test]
async fn forms_and_choices_have_their_effect() {
    let fixture = caller().await;
    let schema = json!({ "type": "json_schema", "name": "x", "schema": { "type": "object" } });
    for format in [json!({ "type": "json_object" }), schema] {
        let answer =
            sound(&fixture, &ask(&json!({ "text": { "format": format }, "max_output_tokens": 12 }))).await;
        assert_eq!(answer["output"][1]["content"][0]["text"], "{}");
        assert_eq!((&answer["status"], &answer["text"]["format"]), (&json!("completed"), &format));
    }
    let none = json!({ "tools": tools(), "tool_choice": "none", "reasoning": { "effort": "none" } });
    let answer = sound(&fixture, &ask(&none)).await;
    assert_eq!((&answer["output"][0]["type"], &answer["tool_choice"]), (&json!("message"), &json!("none")));
    assert_eq!(answer["reasoning"], json!({ "effort": "none", "summary": null }));
}

#[tokio::test]
async fn what_cannot_be_had_is_refused_by_name() {
    let fixture = Fixture::new().await;
    let image = json!([{ "role": "user", "content": [{ "type": "input_image", "image_url": "x" }] }]);
    let result = json!([{ "type": "function_call_output", "call_id": "a", "output": "x" }]);
    for (more, param) in [
        (json!({ "model": null }), "model"),
        (json!({ "input": null }), "input"),
        (json!({ "input": image }), "input[0].content[0].type"),
        (json!({ "input": result }), "input"),
        (json!({ "previous_response_id": "resp_1" }), "previous_response_id"),
        (json!({ "tools": [{ "type": "function", "name": "a b" }] }), "tools"),
        (json!({ "tool_choice": "required" }), "tool_choice"),
        (json!({ "text": { "format": { "type": "json_schema", "schema": 3 } } }), "text.format.schema"),
        (json!({ "stream": "yes" }), "stream"),
    ] {
        let answer = post(&fixture, PATH, &ask(&more)).await;
        assert_eq!(answer.status, 400, "{more}: {}", answer.body);
        assert_eq!(answer.error()["param"], param, "{more}");
    }
    let answer = post(&fixture, PATH, &ask(&json!({ "model": "nope" }))).await;
    assert_eq!((answer.status, &answer.error()["code"]), (404, &json!("model_not_found")));
}

#[tokio::test]
async fn what_was_begun_before_a_death_is_not_said_to_be_done() {
    let script = Script { crash_after_tokens: Some(3), ..Script::default() };
    let fixture = Fixture::on(FakeEngine::builder().script(script)).await;
    let events = stream(&fixture, &json!({})).await;
    let kinds: Vec<&str> = events.iter().filter_map(|event| event["type"].as_str()).collect();
    assert!(kinds.contains(&"response.output_text.delta"), "{kinds:?}");
    assert!(kinds.iter().all(|kind| !kind.contains(".done")), "{kinds:?}");
    let last = &events[events.len() - 1];
    assert_eq!(last["type"], "response.failed");
    let (error, item) = (&last["response"]["error"], &last["response"]["output"][0]);
    assert_eq!((&error["code"], &item["status"]), (&json!("server_error"), &json!("incomplete")));
}

#[tokio::test]
async fn what_fails_after_the_stream_began_is_its_last_event() {
    let answer = broken_load(PATH, &ask(&json!({ "stream": true })), ": loading the model").await;
    let events = answer.named_events();
    let kinds: Vec<&str> = events.iter().filter_map(|event| event["type"].as_str()).collect();
    assert_eq!(kinds, ["response.created", "response.in_progress", "response.failed"]);
    let response = &events[2]["response"];
    assert_eq!(
        (&response["status"], &response["error"]["code"]),
        (&json!("failed"), &json!("invalid_prompt"))
    );
    assert!(!answer.body.contains("/srv"), "{}", answer.body);
}
