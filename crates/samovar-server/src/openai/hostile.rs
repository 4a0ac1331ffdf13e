//! Bodies that no client would send: every one is a request or a 400, and never a panic.

use crate::client::Asker;
use axum::http::{HeaderMap, StatusCode};
use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::options::Options;
use super::{chat, completions, embeddings};
use crate::embedding::terms::Terms;
use crate::payload::Payload;
use crate::refusal::Refusal;

/// Words that mean something somewhere.
const WORDS: &[&str] = &[
    "text",
    "user",
    "assistant",
    "tool",
    "none",
    "auto",
    "required",
    "low",
    "5m",
    "json_object",
    "json_schema",
    "object",
    "function",
    "allowed_tools",
    "lark",
    "regex",
    "f",
    "{}",
];
/// Names of fields inside others.
const KEYS: &[&str] = &[
    "role",
    "content",
    "type",
    "text",
    "7",
    "x",
    "function",
    "name",
    "description",
    "parameters",
    "strict",
    "arguments",
    "id",
    "tool_calls",
    "tool_call_id",
    "function_call",
    "reasoning_content",
    "json_schema",
    "schema",
    "value",
    "allowed_tools",
    "mode",
    "tools",
    "enable_thinking",
];

/// Any JSON, mostly of what has hurt parsers before.
fn anything() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        prop_oneof![Just(0), Just(-1), Just(1), Just(4), Just(128)].prop_map(Value::from),
        any::<String>().prop_map(Value::from),
        prop::sample::select(WORDS).prop_map(Value::from),
    ];
    let key = prop::sample::select(KEYS);
    leaf.prop_recursive(3, 16, 4, move |inner| {
        let object = prop::collection::vec((key.clone(), inner.clone()), 0..4);
        prop_oneof![
            prop::collection::vec(inner, 0..4).prop_map(Value::from),
            object.prop_map(|pairs| {
                let pairs = pairs.into_iter().map(|(key, value)| (key.to_owned(), value));
                Value::Object(pairs.collect::<Map<_, _>>())
            }),
        ]
    })
}

fn body() -> impl Strategy<Value = Value> {
    const FIELDS: [&str; 59] = [
        "model",
        "stream",
        "stream_options",
        "n",
        "temperature",
        "top_p",
        "top_k",
        "min_p",
        "repeat_penalty",
        "frequency_penalty",
        "presence_penalty",
        "seed",
        "logit_bias",
        "stop",
        "ignore_eos",
        "timeout",
        "keep_alive",
        "context_tokens",
        "user",
        "messages",
        "max_tokens",
        "max_completion_tokens",
        "logprobs",
        "top_logprobs",
        "response_format",
        "tools",
        "tool_choice",
        "parallel_tool_calls",
        "thinking_budget_tokens",
        "functions",
        "modalities",
        "prompt",
        "echo",
        "suffix",
        "best_of",
        "chat_template_kwargs",
        "reasoning_effort",
        "enable_thinking",
        "repetition_penalty",
        "store",
        "format",
        "grammar",
        "guided_json",
        "options",
        "audio",
        "function_call",
        "unknown",
        "metadata",
        "input",
        "encoding_format",
        "dimensions",
        "truncate",
        "input_type",
        "prompt_name",
        "priority",
        "query",
        "documents",
        "texts",
        "top_n",
    ];
    let sound = json!({ "model": "m", "messages": [{ "role": "user", "content": "x" }], "prompt": "x",
                        "input": "x", "query": "x", "texts": ["x"] });
    prop::collection::vec((0..FIELDS.len(), anything()), 0..4).prop_map(move |changes| {
        let mut body = sound.clone();
        for (field, value) in changes {
            body[FIELDS[field]] = value;
        }
        body
    })
}

fn is_taken_or_refused(outcome: Result<(), Refusal>) -> Result<(), TestCaseError> {
    if let Err(refusal) = outcome {
        prop_assert_eq!(refusal.status, StatusCode::BAD_REQUEST);
        prop_assert!(!refusal.failure.message.is_empty());
    }
    Ok(())
}

proptest! {
    #[test]
    fn every_body_is_a_request_or_a_400(body in body()) {
        let payload = Payload::of(body.to_string());
        let options = |payload: &Payload| payload.parse::<Options>()?.check(&Asker::stranger(), &HeaderMap::new());
        let as_chat = options(&payload).and_then(|wanted| chat::check(&payload, &wanted));
        is_taken_or_refused(as_chat)?;
        let as_text = options(&payload).and_then(|wanted| completions::check(&payload, &wanted));
        is_taken_or_refused(as_text)?;
        let terms = |payload: &Payload| payload.parse::<Terms>()?.check(&Asker::stranger(), &HeaderMap::new());
        let as_input = terms(&payload).and_then(|wanted| embeddings::check(&payload, &wanted));
        is_taken_or_refused(as_input)?;
        is_taken_or_refused(crate::rerank::check(&payload))?;
    }

    #[test]
    fn every_text_is_json_or_a_400(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        is_taken_or_refused(Payload::of(bytes).parse::<Options>().map(drop))?;
    }
}
