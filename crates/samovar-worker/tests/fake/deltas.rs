//! What is more than text travels, too: thoughts and calls to the caller, constraints and budgets to the engine.

use samovar_core::{
    Chat, Completion, Constraint, Delta, ErrorKind, FinishReason, GenerationRequest, Prompt, TokenEvent,
};

use crate::stand::{events, instance, long_request, refusal};

/// A question to a model with tools.
fn question() -> GenerationRequest {
    let messages = r#"[{"role":"user","content":"what is the time?"}]"#;
    let chat = Chat { tools: Some("[]".to_owned()), ..Chat::new(messages, 1) };
    GenerationRequest { prompt: Prompt::Chat(Box::new(chat)), ignore_eos: false, ..long_request() }
}

/// What the answer adds, one item a token, and how it ends.
#[track_caller]
fn said(events: &[TokenEvent]) -> (Vec<Vec<Delta>>, Completion) {
    let deltas = |event: &TokenEvent| match event {
        TokenEvent::Token { text, .. } => Some(vec![Delta::Text(text.clone())]),
        TokenEvent::Deltas { deltas, .. } => Some(deltas.clone()),
        _ => None,
    };
    let Some(TokenEvent::Done(done)) = events.last() else { panic!("{events:?}") };
    (events.iter().filter_map(deltas).collect(), *done)
}

#[test]
fn thoughts_and_calls_arrive_as_they_were_said() {
    let (instance, _) = instance(&["thinks=2", "calls=clock"]);
    let (said, done) = said(&events(instance.generate(question()).unwrap()));
    let thought = vec![Delta::Thinking("so ".to_owned())];
    let call = Delta::Call { index: 0, id: "call_0".to_owned(), name: "clock".to_owned() };
    let arguments = |text: &str| Delta::Arguments { index: 0, text: text.to_owned() };
    let expected = [thought.clone(), thought, vec![call, arguments("{")], vec![arguments("}")]];
    assert_eq!(said, expected);
    assert_eq!((done.finish, done.usage.thinking_tokens), (FinishReason::ToolCalls, 2));
}

#[test]
fn constraints_and_budgets_reach_the_engine() {
    let (instance, _) = instance(&["thinks=3"]);
    let with = |constraint| GenerationRequest {
        constraint: Some(constraint),
        thinking_budget_tokens: Some(1),
        ..question()
    };
    let (said, done) = said(&events(instance.generate(with(Constraint::JsonObject)).unwrap()));
    let text: String = said.concat().iter().map(Delta::text).collect();
    assert_eq!((text.as_str(), done.usage.thinking_tokens), ("so {}", 1));
    let failure = refusal(instance.generate(with(Constraint::Regex("a".to_owned()))));
    assert_eq!(failure.kind, ErrorKind::InvalidRequest, "{failure:?}");
    instance.probe().unwrap();
}
