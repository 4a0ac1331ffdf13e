//! Tools, thoughts and forced forms of answers, as OpenAI's clients ask for them and read them.

use samovar_core::generation::Delta;
use samovar_core::testing::fake::{FakeEngine, Script};
use serde_json::{Value, json};

use crate::fixture::Fixture;
use crate::raw::post;

const CHAT: &str = "/v1/chat/completions";
const TEXT: &str = "/v1/completions";

fn thinking(text: &str) -> Delta {
    Delta::Thinking(text.to_owned())
}

fn call(index: u32, name: &str) -> Delta {
    Delta::Call { index, id: format!("call_{index}"), name: name.to_owned() }
}

fn arguments(index: u32, text: &str) -> Delta {
    Delta::Arguments { index, text: text.to_owned() }
}

/// Thinks, then calls two tools, the first one's arguments in two pieces.
fn script() -> Script {
    let deltas = vec![
        vec![thinking("so")],
        vec![thinking(" then")],
        vec![call(0, "weather"), arguments(0, "{\"city\":")],
        vec![arguments(0, "\"Turku\"}")],
        vec![call(1, "clock"), arguments(1, "{}")],
    ];
    Script { deltas, ..Script::default() }
}

async fn caller() -> Fixture {
    Fixture::on(FakeEngine::builder().script(script())).await
}

fn tools() -> Value {
    let city = json!({ "type": "object", "properties": { "city": { "type": "string" } } });
    json!([
        { "type": "function",
          "function": { "name": "weather", "description": "Tells it", "parameters": city, "strict": true } },
        { "type": "function", "function": { "name": "clock" } },
    ])
}

fn ask(more: &Value) -> Value {
    let mut body = json!({
        "model": "tiny", "messages": [{ "role": "user", "content": "Rain?" }], "temperature": 0,
        "max_completion_tokens": 12, "tools": tools(),
    });
    for (field, value) in more.as_object().expect("object") {
        body[field] = value.clone();
    }
    body
}

/// The only choice of a whole answer.
async fn choice(fixture: &Fixture, more: &Value) -> Value {
    let answer = post(fixture, CHAT, &ask(more)).await;
    assert_eq!(answer.status, 200, "{more}: {}", answer.body);
    answer.json()["choices"][0].clone()
}

/// What the choice `index` of a stream adds, in its order, and how it ends.
fn deltas(events: &[Value], index: u64) -> (Vec<Value>, Value) {
    let of_it = events.iter().map(|event| &event["choices"][0]).filter(|choice| choice["index"] == index);
    let mut choices: Vec<&Value> = of_it.collect();
    let last = choices.pop().expect("an end");
    assert_eq!(last["delta"], json!({}));
    assert!(choices.iter().all(|choice| choice["finish_reason"].is_null()), "{choices:?}");
    (choices.into_iter().map(|choice| choice["delta"].clone()).collect(), last["finish_reason"].clone())
}

#[tokio::test]
async fn a_whole_answer_has_calls_in_the_place_of_content_and_thoughts_apart() {
    let fixture = caller().await;
    let answer = post(&fixture, CHAT, &ask(&json!({}))).await.json();
    let expected = json!({
        "role": "assistant", "content": null, "refusal": null, "reasoning_content": "so then",
        "tool_calls": [
            { "id": "call_0", "type": "function",
              "function": { "name": "weather", "arguments": "{\"city\":\"Turku\"}" } },
            { "id": "call_1", "type": "function", "function": { "name": "clock", "arguments": "{}" } },
        ],
    });
    assert_eq!(answer["choices"][0]["message"], expected);
    assert_eq!(answer["choices"][0]["finish_reason"], "tool_calls");
    assert_eq!(answer["usage"]["completion_tokens"], 5);
    assert_eq!(answer["usage"]["completion_tokens_details"], json!({ "reasoning_tokens": 2 }));
}

#[tokio::test]
async fn a_stream_has_the_id_and_the_name_first_and_then_the_arguments() {
    let fixture = caller().await;
    let body = ask(&json!({ "stream": true, "stream_options": { "include_usage": true }, "n": 2 }));
    let answer = post(&fixture, CHAT, &body).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    let mut events = answer.events();
    let usage = events.pop().expect("usage");
    assert_eq!(usage["usage"]["completion_tokens_details"]["reasoning_tokens"], 4);
    let begin = |index: u32, name: &str| {
        let function = json!({ "name": name, "arguments": "" });
        let id = format!("call_{index}");
        json!({ "tool_calls": [{ "index": index, "id": id, "type": "function", "function": function }] })
    };
    let more = |index: u32, text: &str| json!({ "tool_calls": [{ "index": index, "function": { "arguments": text } }] });
    let expected = vec![
        json!({ "role": "assistant", "content": null }),
        json!({ "reasoning_content": "so" }),
        json!({ "reasoning_content": " then" }),
        begin(0, "weather"),
        more(0, "{\"city\":"),
        more(0, "\"Turku\"}"),
        begin(1, "clock"),
        more(1, "{}"),
    ];
    for index in 0..2 {
        assert_eq!(deltas(&events, index), (expected.clone(), json!("tool_calls")));
    }
}

#[tokio::test]
async fn a_choice_without_tools_is_text_and_one_call_is_one() {
    let fixture = caller().await;
    let text = choice(&fixture, &json!({ "tool_choice": "none" })).await;
    assert!(text["message"]["content"].as_str().is_some_and(|content| !content.is_empty()), "{text}");
    assert_eq!(text["message"]["reasoning_content"], "so then");
    assert!(text["message"].get("tool_calls").is_none(), "{text}");
    assert_ne!(text["finish_reason"], "tool_calls");
    for more in [json!({ "tools": null }), json!({ "tools": [], "tool_choice": "auto" })] {
        assert!(choice(&fixture, &more).await["message"].get("tool_calls").is_none(), "{more}");
    }
    let calls = |choice: &Value| choice["message"]["tool_calls"].as_array().map(Vec::len);
    for (more, count) in [
        (json!({ "parallel_tool_calls": false }), 1),
        (json!({ "parallel_tool_calls": true }), 2),
        (json!({ "tool_choice": "required" }), 2),
        (json!({ "tool_choice": { "type": "function", "function": { "name": "weather" } } }), 1),
    ] {
        assert_eq!(calls(&choice(&fixture, &more).await), Some(count), "{more}");
    }
}

#[tokio::test]
async fn calls_and_their_results_are_a_conversation() {
    let fixture = caller().await;
    let first = choice(&fixture, &json!({ "parallel_tool_calls": false, "reasoning_effort": "none" })).await;
    // A client sends back what it was sent.
    let result = json!({ "role": "tool", "tool_call_id": "call_0", "content": "Rain" });
    let messages = json!([{ "role": "user", "content": "Rain?" }, first["message"], result]);
    let second = choice(&fixture, &json!({ "messages": messages })).await;
    assert!(second["message"]["content"].as_str().is_some_and(|content| !content.is_empty()), "{second}");
    assert!(second["message"].get("tool_calls").is_none(), "{second}");
}

#[tokio::test]
async fn thoughts_have_a_budget_and_an_effort_of_none_has_none() {
    let fixture = caller().await;
    let thought = async |more: Value| choice(&fixture, &more).await["message"]["reasoning_content"].clone();
    assert_eq!(thought(json!({ "reasoning_effort": "low" })).await, "so then");
    assert_eq!(thought(json!({ "thinking_budget_tokens": 1 })).await, "so");
    assert_eq!(thought(json!({ "thinking_budget_tokens": -1 })).await, "so then");
    for none in [
        json!({ "reasoning_effort": "none" }),
        json!({ "enable_thinking": false }),
        json!({ "chat_template_kwargs": { "enable_thinking": false } }),
        json!({ "thinking_budget_tokens": 0 }),
    ] {
        assert_eq!(thought(none.clone()).await, Value::Null, "{none}");
    }
    let both = json!({ "reasoning_effort": "none", "thinking_budget_tokens": 1 });
    assert_eq!(thought(both).await, "so");
}

#[tokio::test]
async fn a_deadline_in_the_middle_of_a_thought_returns_the_thought() {
    let fixture = Fixture::on(FakeEngine::builder().script(script()).gate_tokens()).await;
    fixture.engine.tokens_gate().admit(2);
    let answer = post(&fixture, CHAT, &ask(&json!({ "timeout": 1.5 }))).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    let answer = answer.json();
    let choice = &answer["choices"][0];
    assert_eq!(choice["message"]["reasoning_content"], "so then");
    assert_eq!((&choice["message"]["content"], &choice["finish_reason"]), (&json!(""), &json!("length")));
    assert_eq!(answer["samovar"]["timed_out"], true);
    assert_eq!(answer["usage"]["completion_tokens_details"]["reasoning_tokens"], 2);
}

#[tokio::test]
async fn json_is_json_after_thoughts_whole_and_streamed() {
    let fixture = caller().await;
    let schema = json!({ "type": "object" });
    for format in [
        json!({ "type": "json_object" }),
        json!({ "type": "json_schema", "json_schema": { "name": "x", "schema": schema, "strict": true } }),
    ] {
        let more = json!({ "response_format": format, "tools": null, "stop": ["never said"] });
        let whole = choice(&fixture, &more).await;
        assert_eq!((&whole["message"]["content"], &whole["finish_reason"]), (&json!("{}"), &json!("stop")));
        assert_eq!(whole["message"]["reasoning_content"], "so then");
        let mut streamed = ask(&more);
        streamed["stream"] = true.into();
        let events = post(&fixture, CHAT, &streamed).await.events();
        let (deltas, finish) = deltas(&events, 0);
        assert_eq!((&deltas[0], &finish), (&json!({ "role": "assistant", "content": null }), &json!("stop")));
        let content: String = deltas.iter().filter_map(|delta| delta["content"].as_str()).collect();
        assert_eq!(content, "{}");
    }
}

#[tokio::test]
async fn grammars_are_for_chats_and_texts() {
    let script = Script { constrained: Some(" once".to_owned()), ..Script::default() };
    let fixture = Fixture::on(FakeEngine::builder().script(script)).await;
    for grammar in [
        json!("root ::= \" once\""),
        json!({ "type": "gbnf", "value": "root ::= \" once\"" }),
        json!({ "type": "lark", "value": "start: \" once\"" }),
        json!({ "type": "regex", "value": " once" }),
    ] {
        let chat = choice(&fixture, &json!({ "grammar": grammar, "tools": null })).await;
        assert_eq!(chat["message"]["content"], " once", "{grammar}");
        let body = json!({ "model": "tiny", "prompt": "x", "grammar": grammar, "max_tokens": 9 });
        let text = post(&fixture, TEXT, &body).await;
        assert_eq!(text.status, 200, "{}", text.body);
        assert_eq!(text.json()["choices"][0]["text"], " once", "{grammar}");
    }
}

#[tokio::test]
async fn what_the_engine_cannot_obey_is_a_400_whole_and_streamed() {
    let fixture = Fixture::new().await;
    for stream in [false, true] {
        let body = ask(&json!({ "grammar": "root ::= x", "tools": null, "stream": stream }));
        let answer = post(&fixture, CHAT, &body).await;
        assert_eq!(answer.status, 400, "{}", answer.body);
        assert_eq!(answer.error()["type"], "invalid_request_error");
        assert_eq!(answer.header("x-should-retry"), Some("false"));
    }
}

#[tokio::test]
async fn hostile_forms_and_tools_are_refused_by_their_place_before_anything_is_loaded() {
    let fixture = Fixture::new().await;
    let function = |function: Value| json!({ "tools": [{ "type": "function", "function": function }] });
    let schema = |schema: Value| {
        let named = json!({ "name": "x", "schema": schema });
        json!({ "response_format": { "type": "json_schema", "json_schema": named } })
    };
    let many: Vec<Value> =
        (0..500).map(|at| json!({ "type": "function", "function": { "name": format!("f{at}") } })).collect();
    let result = json!({ "role": "tool", "tool_call_id": "call_9", "content": "Rain" });
    let table = [
        (schema(json!({ "description": "x".repeat(1 << 20) })), "response_format"),
        (json!({ "grammar": "x".repeat(1 << 20), "tools": null }), "grammar"),
        (json!({ "grammar": { "type": "regex", "value": "x".repeat(1 << 20) }, "tools": null }), "grammar"),
        (json!({ "tools": many }), "tools"),
        (function(json!({ "name": "get weather" })), "tools[0].function.name"),
        (function(json!({ "name": "<tool_call>" })), "tools[0].function.name"),
        (function(json!({ "name": "погода" })), "tools[0].function.name"),
        (function(json!({ "description": "nameless" })), "tools[0].function"),
        (function(json!({ "name": "f", "parameters": [] })), "tools[0].function.parameters"),
        (json!({ "tool_choice": { "type": "function", "function": { "name": "h" } } }), "tool_choice"),
        (json!({ "tool_choice": "required", "tools": null }), "tool_choice"),
        (json!({ "messages": [{ "role": "user", "content": "Rain?" }, result] }), "messages[1].tool_call_id"),
        (json!({ "grammar": "root ::= \"x\"" }), "grammar"),
        (json!({ "response_format": { "type": "json_object" }, "grammar": "root ::= \"x\"" }), "grammar"),
        (json!({ "functions": [{ "name": "f" }] }), "functions"),
    ];
    for (more, param) in table {
        let answer = post(&fixture, CHAT, &ask(&more)).await;
        assert_eq!(answer.status, 400, "{param}: {}", answer.body);
        let error = answer.error();
        assert_eq!(error["param"], param, "{error}");
        assert!(error["message"].as_str().is_some_and(|message| message.len() < 1_000), "{error}");
    }
    let deep = format!(
        r#"{{"model":"tiny","messages":[],"response_format":{}{}}}"#,
        "[".repeat(1_000),
        "]".repeat(1_000)
    );
    let request = crate::raw::request("POST", CHAT, &[], &deep);
    let answer = crate::raw::exchange(crate::raw::tcp(&fixture).await, request).await;
    assert_eq!((answer.status, &answer.error()["code"]), (400, &json!("invalid_json")));
    assert_eq!(fixture.engine.counts().loads_started, 0);
    let values: Vec<u32> = (0..10_000).collect();
    let answer = post(&fixture, CHAT, &ask(&schema(json!({ "enum": values })))).await;
    assert_eq!(answer.status, 200, "it is for the engine to say: {}", answer.body);
}

#[tokio::test]
async fn the_owners_lines_tell_thoughts_and_calls_apart() {
    let fixture = caller().await;
    let tools: Vec<Value> =
        tools().as_array().expect("tools").iter().map(|tool| tool["function"].clone()).collect();
    let body = json!({
        "model": "tiny", "input": { "chat": [{ "role": "user", "content": "Rain?" }] }, "tools": tools,
        "tool_choice": { "named": "weather" }, "parallel_tool_calls": false, "thinking_budget_tokens": 1,
    });
    let answer = crate::raw::owner(&fixture, "POST", "/admin/generate", &body).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    let mut lines = answer.lines();
    lines.retain(|line| {
        ["thinking", "tool_call", "tool_arguments"].iter().any(|kind| line.get(kind).is_some())
    });
    let expected = [
        json!({ "thinking": { "text": "so" } }),
        json!({ "tool_call": { "index": 0, "id": "call_0", "name": "weather" } }),
        json!({ "tool_arguments": { "index": 0, "text": "{\"city\":" } }),
        json!({ "tool_arguments": { "index": 0, "text": "\"Turku\"}" } }),
    ];
    assert_eq!(lines, expected);
    let constrained = json!({ "model": "tiny", "input": { "text": "x" }, "constraint": "json_object" });
    let answer = crate::raw::owner(&fixture, "POST", "/admin/generate", &constrained).await;
    let said: String =
        answer.lines().iter().filter_map(|line| line["text"]["text"].as_str().map(str::to_owned)).collect();
    assert_eq!(said, "{}");
}
