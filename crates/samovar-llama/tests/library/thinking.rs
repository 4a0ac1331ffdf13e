//! Conversations with a model that thinks before it answers: what is thought, what is said, and how long a thought may be.

use crate::support;

use std::sync::Arc;

use samovar_core::port::{Instance, Unconfined};
use samovar_core::{Chat, Constraint, FinishReason, GenerationRequest, Prompt, Sampling, TokenEvent};
use serde_json::Value;
use support::heard::{Heard, hear};
use support::{load, options, start};

/// The demo's turns, with thoughts; the model's own begin with one.
const THINKS: &str = "{% for message in messages %}<|{{ message.role }}|>\
    {% if message.reasoning_content %}<think>{{ message.reasoning_content }}</think>{% endif %}\
    {{ message.content }}<|end|>{% endfor %}\
    {% if add_generation_prompt %}<|assistant|><think>{% endif %}";

fn chat(template: Option<&str>) -> Chat {
    let messages = serde_json::json!([{ "role": "user", "content": "Tell me a story about a fox" }]);
    Chat { template: template.map(str::to_owned), ..Chat::new(messages.to_string(), 1) }
}

fn request(chat: Chat, budget: Option<u32>, max_tokens: u32) -> GenerationRequest {
    GenerationRequest {
        sampling: Sampling::greedy(),
        max_tokens: Some(max_tokens),
        thinking_budget_tokens: budget,
        ignore_eos: true,
        ..GenerationRequest::new(Prompt::Chat(Box::new(chat)))
    }
}

fn ask(instance: &Arc<dyn Instance>, request: GenerationRequest) -> Heard {
    hear(start(instance, request))
}

#[test]
fn a_thought_without_a_bound_is_all_there_is() {
    let instance = load(&options());
    let heard = ask(&instance, request(chat(Some(THINKS)), None, 40));
    let usage = heard.completion.usage;
    assert!(heard.text.is_empty() && !heard.thinking.is_empty(), "{heard:?}");
    assert_eq!(usage.thinking_tokens, usage.completion_tokens);
}

#[test]
fn a_thought_that_has_had_its_tokens_is_ended_and_an_answer_follows() {
    let instance = load(&options());
    for budget in [1, 7] {
        let heard = ask(&instance, request(chat(Some(THINKS)), Some(budget), 60));
        let usage = heard.completion.usage;
        assert!(!heard.text.is_empty() && !heard.thinking.is_empty(), "{heard:?}");
        assert!(!heard.text.contains("think>") && !heard.thinking.contains("think>"), "{heard:?}");
        // What ends it counts as thought, too.
        assert!((budget..budget + 16).contains(&usage.thinking_tokens), "{usage:?}");
        heard.check_tokens();
    }
}

#[test]
fn a_budget_of_nothing_ends_the_thought_that_the_prompt_has_begun() {
    let instance = load(&options());
    let heard = ask(&instance, request(chat(Some(THINKS)), Some(0), 40));
    assert!(heard.thinking.trim().is_empty() && !heard.text.is_empty(), "{heard:?}");
}

#[test]
fn the_text_alone_has_probabilities_also_where_a_thought_is_ended() {
    let instance = load(&options());
    let plain = ask(&instance, request(chat(Some(THINKS)), Some(3), 30));
    let heard =
        ask(&instance, GenerationRequest { logprobs: Some(1), ..request(chat(Some(THINKS)), Some(3), 30) });
    let bytes = heard.logprobs.iter().flat_map(|token| token.bytes.clone()).collect();
    let told = String::from_utf8(bytes).expect("text");
    assert_eq!(told.trim(), heard.text.trim());
    assert!(!heard.text.is_empty());
    assert_eq!((heard.thinking, heard.text), (plain.thinking, plain.text));
}

#[test]
fn a_length_within_what_ends_a_thought_is_kept() {
    let instance = load(&options());
    let heard = ask(&instance, request(chat(Some(THINKS)), Some(3), 5));
    assert_eq!(
        (heard.completion.usage.completion_tokens, heard.completion.finish),
        (5, FinishReason::Length)
    );
    assert!(heard.text.is_empty(), "{heard:?}");
}

#[test]
fn what_is_bound_begins_behind_the_thought() {
    let instance = load(&options());
    for constraint in [Constraint::JsonObject, Constraint::Regex("[0-9]{4}".to_owned())] {
        for seed in 0..4 {
            let sampling = Sampling { temperature: 2.0, seed: Some(seed), ..Sampling::default() };
            let bound = GenerationRequest {
                constraint: Some(constraint.clone()),
                ignore_eos: false,
                sampling,
                ..request(chat(Some(THINKS)), Some(8), 120)
            };
            let heard = ask(&instance, bound);
            assert!(!heard.thinking.is_empty(), "{heard:?}");
            match serde_json::from_str::<Value>(&heard.text) {
                Ok(value) => {
                    assert!(value.is_object() || value.is_u64() || heard.text.len() == 4, "{heard:?}");
                }
                Err(error) => {
                    let is_cut = error.is_eof() && heard.completion.finish == FinishReason::Length;
                    // Digits with zeros before them are no JSON.
                    let is_number =
                        heard.text.len() == 4 && heard.text.bytes().all(|byte| byte.is_ascii_digit());
                    assert!(is_cut || is_number, "{error}: {heard:?}");
                }
            }
        }
    }
}

#[test]
fn a_model_that_does_not_think_answers_as_to_the_same_tokens() {
    let instance = load(&options());
    let prompt = Prompt::Chat(Box::new(chat(None)));
    let tokens = Prompt::Tokens(instance.encode(&prompt, &Unconfined).expect("encodes"));
    let events = |prompt: Prompt| {
        let request = GenerationRequest { prompt, ..request(chat(None), Some(2), 40) };
        let request = GenerationRequest { stop: vec!["fox".to_owned()], reuse_prefix: false, ..request };
        let mut generation = start(&instance, request);
        let mut said = Vec::new();
        while let Some(event) = generation.blocking_next() {
            match event {
                TokenEvent::Token { text, logprob } => said.push((text, logprob)),
                TokenEvent::Done(done) => return (said, done.finish, done.usage),
                TokenEvent::Prefilling { .. } | TokenEvent::Prefilled { .. } => {}
                other => panic!("{other:?}"),
            }
        }
        panic!("no end")
    };
    assert_eq!(events(prompt), events(tokens));
}
