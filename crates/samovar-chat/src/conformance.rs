//! What every backend must do for the chat service, whatever lies behind it. Each check panics where it does not hold.

use std::sync::Arc;

use samovar::{AnswerEvent, Request, SamplingOptions};
use samovar_core::generation::Sampling;

use crate::backend::ChatBackend;
use crate::chat_service::{ChatEvent, ChatService};
use crate::conversations::Conversations;
use crate::turn::ChatQuestion;

const QUESTIONS: [&str; 3] = ["Hello there", "Tell me a story about a fox", "And then?"];

/// All checks, with a model that the backend has. Returns what was said, which is the same for every backend of the same engine.
///
/// # Panics
/// Where the backend does not do what it must.
pub async fn check(backend: Arc<dyn ChatBackend>, model: &str) -> Vec<String> {
    let conversations = Conversations::in_memory().expect("memory");
    let service = ChatService::over(Arc::clone(&backend), conversations.of("")).model(model);
    let said = answers_follow_each_other(&service).await;
    a_failure_takes_the_question_back(&service).await;
    what_is_dropped_is_kept_as_far_as_it_came(&service).await;
    prompts_are_counted(&*backend, model).await;
    said
}

fn greedy(text: &str) -> ChatQuestion {
    let sampling = SamplingOptions::from(Sampling::greedy());
    ChatQuestion { sampling, max_tokens: Some(8), ..ChatQuestion::new(text) }
}

async fn answers_follow_each_other(service: &ChatService) -> Vec<String> {
    let (mut said, mut conversation, mut prompt_tokens) = (Vec::new(), None, 0);
    for text in QUESTIONS {
        let question = ChatQuestion { conversation, ..greedy(text) };
        let reply = service.send(question).await.collect().await.expect("answers");
        assert!(!reply.text.is_empty(), "{text}");
        assert!(reply.summary.usage.prompt_tokens > prompt_tokens, "the history is part of the prompt");
        assert!(conversation.is_none_or(|before| before == reply.conversation));
        prompt_tokens = reply.summary.usage.prompt_tokens;
        conversation = Some(reply.conversation);
        said.push(reply.text);
    }
    let detail = service.history().open(conversation.expect("a conversation")).expect("kept");
    let kept: Vec<&str> = detail.branch().iter().map(|message| message.text.as_str()).collect();
    let expected: Vec<&str> =
        QUESTIONS.iter().zip(&said).flat_map(|(asked, said)| [*asked, said.as_str()]).collect();
    assert_eq!(kept, expected);
    assert!(detail.branch().iter().all(|message| message.is_question() || message.tokens.is_some()));
    said
}

async fn a_failure_takes_the_question_back(service: &ChatService) {
    let before = service.history().list(10, None).expect("lists").len();
    let question = ChatQuestion { model: Some("no-such-model".to_owned()), ..greedy("Hello") };
    let failure = service.send(question).await.collect().await.expect_err("there is no such model");
    assert_eq!(failure.kind, samovar_core::ErrorKind::NotFound, "{failure}");
    assert_eq!(service.history().list(10, None).expect("lists").len(), before, "nothing is kept of it");
}

async fn what_is_dropped_is_kept_as_far_as_it_came(service: &ChatService) {
    let mut stream = service.send(ChatQuestion { max_tokens: Some(64), ..greedy("Tell me more") }).await;
    let mut begun = None;
    let heard = loop {
        match stream.next().await.expect("an event") {
            ChatEvent::Begun { conversation, .. } => begun = Some(conversation),
            ChatEvent::Answer(AnswerEvent::Text { text, .. }) if !text.is_empty() => break text,
            ChatEvent::Answer(_) => {}
            other => panic!("{other:?}"),
        }
    };
    drop(stream);
    let detail = service.history().open(begun.expect("begun")).expect("kept");
    let answer = detail.branch().pop().expect("an answer");
    assert!(answer.text.starts_with(&heard), "{answer:?}");
    assert_eq!(answer.finish.as_deref(), Some("cancelled"));
}

async fn prompts_are_counted(backend: &dyn ChatBackend, model: &str) {
    let prompt = |text: &str| Request::chat(model, [samovar::Message::user(text)]);
    let short = backend.count(prompt("Hello")).await.expect("counts");
    let long = backend.count(prompt(&"Hello there ".repeat(20))).await.expect("counts");
    assert!(short > 0 && long > short, "{short} {long}");
    let context = backend.context_tokens(model).await.expect("tells").expect("it is known");
    assert!(context > long, "{context} {long}");
}
