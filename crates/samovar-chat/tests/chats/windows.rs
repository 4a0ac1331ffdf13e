//! Conversations that outgrow the context of their model.

use samovar_chat::{ChatQuestion, ChatService, Conversations};
use samovar_core::testing::fake::FakeEngine;
use samovar_core::{ErrorKind, Prompt};

use crate::backends::runtime;

#[tokio::test]
async fn a_conversation_longer_than_the_context_goes_on_and_its_prompts_begin_alike() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let engine = FakeEngine::new();
    let conversations = Conversations::in_memory().expect("memory");
    let service = ChatService::new(runtime(&engine, folder.path(), 256), &conversations).model("tiny");
    let mut conversation = None;
    for number in 0..24 {
        let text = format!("Question {number}: tell me a story about a fox");
        let question = ChatQuestion { conversation, max_tokens: Some(16), ..ChatQuestion::new(text) };
        let reply = service.send(question).await.collect().await.expect("answers");
        conversation = Some(reply.conversation);
    }
    let prompts: Vec<Vec<String>> = engine.latest().iter().map(|request| contents(&request.prompt)).collect();
    // A retry after a refusal is a request as well.
    assert!(prompts.len() >= 24, "{}", prompts.len());
    let moves = prompts.windows(2).filter(|pair| !pair[1].starts_with(&pair[0])).count();
    assert!((1..=12).contains(&moves), "the window moved {moves} times");
    let detail = service.history().open(conversation.expect("a conversation")).expect("opens");
    assert_eq!(detail.branch().len(), 48, "nothing of it is lost");
    assert!(detail.window_from.is_some());
}

#[tokio::test]
async fn a_message_longer_than_any_context_is_said_so_and_taken_back() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let engine = FakeEngine::new();
    let conversations = Conversations::in_memory().expect("memory");
    let service = ChatService::new(runtime(&engine, folder.path(), 64), &conversations).model("tiny");
    let first = service.send(ChatQuestion { max_tokens: Some(4), ..ChatQuestion::new("Hi") }).await;
    let conversation = first.collect().await.expect("answers").conversation;
    let long = ChatQuestion::new("a long word ".repeat(200)).within(conversation);
    let failure = service.send(long).await.collect().await.expect_err("it never fits");
    assert_eq!(failure.kind, ErrorKind::ContextExceeded, "{failure}");
    assert_eq!(service.history().open(conversation).expect("opens").messages.len(), 2);
}

/// What the messages of a prompt say.
fn contents(prompt: &Prompt) -> Vec<String> {
    let Prompt::Chat(chat) = prompt else { panic!("no conversation") };
    let messages: Vec<serde_json::Value> = serde_json::from_str(&chat.messages).expect("JSON");
    messages.iter().map(|message| message["content"].as_str().expect("a text").to_owned()).collect()
}
