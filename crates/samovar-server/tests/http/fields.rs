//! Every field of OpenAI's API, and the better known ones of its neighbours: used, refused by name, or passed over.

use samovar_server::ROUTES;
use serde_json::{Value, json};

use crate::fixture::Fixture;
use crate::raw::post;

/// What becomes of a field.
enum Fate {
    /// It counts: this value, which is a wrong one, is refused by the field's name.
    Used(Value),
    /// It would change what the answer means and is not built: this value is refused by the field's name.
    Refused(Value),
    /// It is passed over, whatever its value.
    Ignored,
}

use Fate::{Ignored, Refused, Used};

/// Fields that chats and texts share.
fn shared() -> Vec<(&'static str, Fate)> {
    let wrong = || json!([[{}]]);
    vec![
        // OpenAI's.
        ("model", Used(wrong())),
        ("frequency_penalty", Used(json!(9))),
        ("logit_bias", Used(json!([[5, 1]]))),
        ("n", Used(json!(0))),
        ("presence_penalty", Used(json!(9))),
        ("seed", Used(json!(0.5))),
        ("stop", Used(wrong())),
        ("stream", Used(wrong())),
        ("stream_options", Used(json!(3))),
        ("temperature", Used(json!(-1))),
        ("top_p", Used(json!(7))),
        ("user", Used(json!(7))),
        ("max_tokens", Used(json!(-2))),
        // Those of llama.cpp, vLLM and others.
        ("top_k", Used(json!(0.5))),
        ("min_p", Used(json!(7))),
        ("repeat_penalty", Used(json!(0))),
        ("repetition_penalty", Used(json!(0))),
        ("ignore_eos", Used(json!(1))),
        ("timeout", Used(json!(-1))),
        ("keep_alive", Used(json!("soon"))),
        ("context_tokens", Used(json!(0))),
        ("grammar", Used(json!(3))),
        ("format", Refused(json!("json"))),
        ("format", Refused(json!({ "type": "object" }))),
        ("json_schema", Refused(json!({}))),
        ("guided_json", Refused(json!({}))),
        ("guided_regex", Refused(json!("a+"))),
        ("guided_choice", Refused(json!(["yes", "no"]))),
        ("guided_grammar", Refused(json!("root ::= \"x\""))),
        ("structured_outputs", Refused(json!({ "choice": ["a"] }))),
        ("options", Refused(json!({ "num_ctx": 128 }))),
        ("min_tokens", Refused(json!(5))),
        ("stop_token_ids", Refused(json!([5]))),
        ("bad_words", Refused(json!(["x"]))),
        ("allowed_token_ids", Refused(json!([5]))),
        ("use_beam_search", Refused(json!(true))),
        ("prompt_logprobs", Refused(json!(0))),
        ("truncate_prompt_tokens", Refused(json!(100))),
        ("mirostat", Ignored),
        ("typical_p", Ignored),
        ("cache_prompt", Ignored),
        ("deferred", Ignored),
        ("think", Ignored),
        ("unknown_field", Ignored),
    ]
}

fn of_chats() -> Vec<(&'static str, Fate)> {
    vec![
        ("messages", Used(json!([]))),
        ("logprobs", Used(json!(3))),
        ("max_completion_tokens", Used(json!(-2))),
        ("reasoning_effort", Used(json!(3))),
        ("top_logprobs", Used(json!(21))),
        ("audio", Refused(json!({ "format": "wav", "voice": "alloy" }))),
        ("function_call", Refused(json!({ "name": "f" }))),
        ("functions", Refused(json!([{ "name": "f" }]))),
        ("modalities", Refused(json!(["text", "audio"]))),
        ("prediction", Refused(json!({ "type": "content", "content": "x" }))),
        ("store", Refused(json!(true))),
        ("parallel_tool_calls", Used(json!(3))),
        ("response_format", Used(json!("json"))),
        ("tool_choice", Used(json!("required"))),
        ("tool_choice", Used(json!({ "type": "function" }))),
        ("tools", Used(json!("x"))),
        ("web_search_options", Refused(json!({}))),
        ("metadata", Ignored),
        ("prompt_cache_key", Ignored),
        ("prompt_cache_retention", Ignored),
        ("safety_identifier", Ignored),
        ("service_tier", Ignored),
        ("verbosity", Ignored),
        // Those of others.
        ("chat_template_kwargs", Used(json!(3))),
        ("enable_thinking", Used(json!(3))),
        ("thinking_budget_tokens", Used(json!(-2))),
        ("documents", Refused(json!([{ "text": "x" }]))),
        ("continue_final_message", Refused(json!(true))),
        ("add_generation_prompt", Refused(json!(false))),
        ("reasoning", Ignored),
    ]
}

fn of_texts() -> Vec<(&'static str, Fate)> {
    vec![
        ("prompt", Used(json!({}))),
        ("echo", Used(json!(3))),
        ("logprobs", Used(json!(99))),
        ("best_of", Refused(json!(3))),
        ("suffix", Used(json!(3))),
        ("response_format", Refused(json!({ "type": "json_object" }))),
        ("tools", Refused(json!([{ "type": "function", "function": { "name": "f" } }]))),
    ]
}

async fn check(path: &str, sound: &Value, fields: Vec<(&'static str, Fate)>) {
    let fixture = Fixture::new().await;
    for (field, fate) in fields {
        let (value, code) = match fate {
            Used(value) => (value, Some("invalid_request")),
            Refused(value) => (value, Some("unsupported_parameter")),
            Ignored => (json!([[{}]]), None),
        };
        let mut body = sound.clone();
        body[field] = value.clone();
        let answer = post(&fixture, path, &body).await;
        let Some(code) = code else {
            assert_eq!(answer.status, 200, "{field} {value}: {}", answer.body);
            continue;
        };
        assert_eq!(answer.status, 400, "{field} {value}: {}", answer.body);
        let error = answer.error();
        assert_eq!((&error["param"], &error["code"]), (&json!(field), &json!(code)), "{value}: {error}");
        assert!(error["message"].as_str().is_some_and(|message| message.contains(field)), "{error}");
        assert_eq!(answer.header("x-should-retry"), Some("false"));
        if code == "unsupported_parameter" {
            assert!(error["message"].as_str().is_some_and(|message| message.contains("hint: ")), "{error}");
            body[field] = Value::Null;
            assert_eq!(post(&fixture, path, &body).await.status, 200, "{field} null");
        }
    }
}

#[tokio::test]
async fn every_field_of_a_chat_is_used_refused_or_passed_over() {
    let sound = json!({ "model": "tiny", "messages": [{ "role": "user", "content": "x" }], "max_tokens": 2,
                        "logprobs": true });
    let fields = shared().into_iter().chain(of_chats()).collect();
    check("/v1/chat/completions", &sound, fields).await;
}

#[tokio::test]
async fn every_field_of_a_text_is_used_refused_or_passed_over() {
    let sound = json!({ "model": "tiny", "prompt": "x", "max_tokens": 2 });
    check("/v1/completions", &sound, shared().into_iter().chain(of_texts()).collect()).await;
}

#[tokio::test]
async fn empty_values_of_what_is_not_built_ask_for_nothing() {
    let fixture = Fixture::new().await;
    let body = json!({
        "model": "tiny", "messages": [{ "role": "user", "content": "x" }], "max_tokens": 2,
        "response_format": { "type": "text" }, "format": "", "grammar": "", "guided_choice": [], "tools": [],
        "tool_choice": "auto", "functions": [], "function_call": "none", "store": false, "options": {},
        "modalities": ["text"], "documents": [], "add_generation_prompt": true, "min_tokens": 0,
        "stop_token_ids": [], "use_beam_search": false,
    });
    let answer = post(&fixture, "/v1/chat/completions", &body).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
}

#[tokio::test]
async fn a_repetition_penalty_has_the_effect_of_a_repeat_penalty() {
    let fixture = Fixture::new().await;
    let said = async |more: Value| {
        let mut body = json!({ "model": "tiny", "prompt": "a a a a a a", "max_tokens": 24, "temperature": 0,
                               "ignore_eos": true, "logprobs": 3 });
        for (field, value) in more.as_object().expect("object") {
            body[field] = value.clone();
        }
        let answer = post(&fixture, "/v1/completions", &body).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        answer.json()["choices"][0].clone()
    };
    let by_our_name = said(json!({ "repeat_penalty": 10 })).await;
    assert_eq!(said(json!({ "repetition_penalty": 10 })).await, by_our_name);
    assert_eq!(said(json!({ "repetition_penalty": 0.5, "repeat_penalty": 10 })).await, by_our_name);
}

#[tokio::test]
async fn no_value_of_a_field_is_a_fault_of_the_server() {
    let fixture = Fixture::new().await;
    let odd = [
        json!(null),
        json!(true),
        json!(0),
        json!(-1),
        json!(0.5),
        json!(1e300),
        json!(""),
        json!("x".repeat(5_000)),
        json!([]),
        json!([[{}]]),
        json!([{ "type": "text" }]),
        json!([{ "type": "function", "role": "user", "content": {} }]),
        json!({}),
        json!({ "type": "tool", "name": 3, "effort": 3, "format": 3 }),
    ];
    let response = json!({ "model": "tiny", "input": "x", "max_output_tokens": 2 });
    let message =
        json!({ "model": "tiny", "messages": [{ "role": "user", "content": "x" }], "max_tokens": 2 });
    for (path, sound) in [
        ("/v1/responses", &response),
        ("/v1/responses/input_tokens", &response),
        ("/v1/messages", &message),
        ("/v1/messages/count_tokens", &message),
        ("/apply-template", &message),
    ] {
        let route = ROUTES.iter().find(|route| route.path == path).expect("is served");
        for field in route.fields.iter().copied().flatten() {
            for value in &odd {
                let mut body = sound.clone();
                body[field.name] = value.clone();
                let answer = post(&fixture, path, &body).await;
                assert!(
                    [200, 400, 404, 504].contains(&answer.status),
                    "{}: {value}: {}",
                    field.name,
                    answer.body
                );
                assert!(answer.body.len() < 16_000, "{}: {}", field.name, answer.body);
            }
        }
    }
}

#[tokio::test]
async fn a_body_that_is_no_object_names_no_type_of_ours() {
    let fixture = Fixture::new().await;
    for body in [json!([]), json!(3), json!("x"), json!(["tiny", true])] {
        for path in ["/v1/chat/completions", "/v1/completions"] {
            let answer = post(&fixture, path, &body).await;
            assert_eq!(answer.status, 400, "{}", answer.body);
            let message = answer.error()["message"].as_str().expect("text").to_owned();
            assert!(message.contains("a JSON object") && !message.contains("struct"), "{message}");
        }
    }
}
