//! Conversations with tools: calls that must be made are made, by their schemas, and nothing of how they are written is text.

use crate::support;

use std::sync::Arc;

use samovar_core::port::Instance;
use samovar_core::{
    Chat, ErrorKind, FinishReason, GenerationRequest, LoadOptions, Prompt, Sampling, ToolChoice,
};
use serde_json::{Value, json};
use support::heard::{Heard, hear};
use support::{load, start};

/// Tools are described at length.
fn options() -> LoadOptions {
    LoadOptions { context_tokens: 2048, slots: 2, ..support::options() }
}

fn chat(choice: ToolChoice) -> Chat {
    let messages = json!([{ "role": "user", "content": "Tell me a story about a fox" }]);
    let tool = |name: &str, field: &str| {
        let parameters = json!({
            "type": "object",
            "properties": { field: { "type": "string", "maxLength": 8 }, "days": { "type": "integer", "maximum": 9, "minimum": 1 } },
            "required": [field, "days"],
            "additionalProperties": false,
        });
        json!({ "type": "function", "function": { "name": name, "parameters": parameters, "strict": true } })
    };
    Chat {
        tools: Some(json!([tool("weather", "city"), tool("news", "topic")]).to_string()),
        tool_choice: choice,
        ..Chat::new(messages.to_string(), 1)
    }
}

fn wild(chat: Chat, seed: u32) -> GenerationRequest {
    GenerationRequest {
        sampling: Sampling { temperature: 2.0, seed: Some(seed), ..Sampling::default() },
        max_tokens: Some(150),
        ..GenerationRequest::new(Prompt::Chat(Box::new(chat)))
    }
}

fn ask(instance: &Arc<dyn Instance>, request: GenerationRequest) -> Heard {
    hear(start(instance, request))
}

/// Whole calls of these tools alone, and no word besides.
fn check(heard: &Heard, names: &[&str]) {
    if heard.completion.finish == FinishReason::Length {
        return;
    }
    assert_eq!(heard.completion.finish, FinishReason::ToolCalls, "{heard:?}");
    assert!(heard.text.trim().is_empty() && !heard.calls.is_empty(), "{heard:?}");
    for (name, arguments) in &heard.calls {
        assert!(names.contains(&name.as_str()), "{heard:?}");
        let arguments: Value = serde_json::from_str(arguments).expect("arguments are JSON");
        let field = if name == "weather" { "city" } else { "topic" };
        let text = arguments[field].as_str().expect("a text");
        assert!(text.chars().count() <= 8, "{arguments}");
        assert!((1..=9).contains(&arguments["days"].as_i64().expect("a number")), "{arguments}");
    }
}

#[test]
fn a_call_that_must_be_made_is_made_by_its_schema() {
    let instance = load(&options());
    let mut made = 0;
    for seed in 0..10 {
        let heard = ask(&instance, wild(chat(ToolChoice::Required), seed));
        check(&heard, &["weather", "news"]);
        made += heard.calls.len();
        let heard = ask(&instance, wild(chat(ToolChoice::Named("news".to_owned())), seed));
        check(&heard, &["news"]);
    }
    assert!(made > 0);
}

#[test]
fn one_call_ends_the_answer_where_several_may_not_be_made() {
    let instance = load(&options());
    for seed in 0..10 {
        let single = Chat { parallel_tool_calls: false, ..chat(ToolChoice::Required) };
        let heard = ask(&instance, wild(single, seed));
        check(&heard, &["weather", "news"]);
        assert!(heard.calls.len() <= 1, "{heard:?}");
    }
}

#[test]
fn a_model_that_may_not_call_answers_with_text() {
    let instance = load(&options());
    let heard =
        ask(&instance, GenerationRequest { sampling: Sampling::greedy(), ..wild(chat(ToolChoice::None), 1) });
    assert!(heard.calls.is_empty() && !heard.text.is_empty(), "{heard:?}");
}

#[test]
fn a_tool_that_is_not_there_cannot_be_chosen() {
    let instance = load(&options());
    let request = wild(chat(ToolChoice::Named("weather station".to_owned())), 1);
    let failure = instance.generate(request).map(|_| ()).expect_err("refused");
    assert_eq!(failure.kind, ErrorKind::InvalidRequest, "{failure:?}");
}
