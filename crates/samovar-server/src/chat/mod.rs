//! The chat service over HTTP: messages of conversations that are kept, and the conversations themselves.
//!
//! ```text
//!   POST   /chat                                send     question kept ─► Choices ─► answer kept ─► JSON or SSE (stream)
//!   GET    /chat/conversations                  list
//!   POST   /chat/conversations/import           import
//!   GET    /chat/conversations/{id}             one      PATCH and DELETE as well
//!   GET    /chat/conversations/{id}/export      export
//! ```
//!
//! A client sees its own conversations alone (`whose`). Nothing here tokenizes or renders; what a request says is `samovar-chat`'s.

pub(crate) mod export;
pub(crate) mod fields;
pub(crate) mod list;
pub(crate) mod one;
pub(crate) mod send;
mod stream;
mod whose;

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::http::StatusCode;
use samovar::{ModelState, ModelStats};
use samovar_chat::{ChatError, ChatHistory, ChatService, ConversationHead, Conversations};
use samovar_core::{ErrorKind, Failure};
use serde_json::{Value, json};
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::OnceCell;

use crate::activity::Phase;
use crate::app::App;
use crate::client::Asker;
use crate::refusal::Refusal;

/// A pause in a chat, after which its summary may be made, if nothing else is asked.
const SUMMARY_IDLE: Duration = Duration::from_secs(20);

/// The conversations of this server, opened when the first request needs them.
pub(crate) struct Chats {
    file: Option<PathBuf>,
    opened: OnceCell<Conversations>,
    /// Those that wait for a pause in which their summary may be made.
    unsummarised: Mutex<HashSet<i64>>,
}

impl Chats {
    /// Those in this file; `None` = none are kept.
    pub(crate) fn new(file: Option<PathBuf>) -> Self {
        Self { file, opened: OnceCell::new(), unsummarised: Mutex::default() }
    }

    async fn conversations(&self) -> Result<&Conversations, Failure> {
        self.opened
            .get_or_try_init(|| async {
                let file = self.file.clone().ok_or_else(|| {
                    Failure::new(ErrorKind::Unsupported, "this server keeps no conversations")
                        .with_hint("the daemon that `samovar serve` starts keeps them")
                })?;
                on_disk(move || Conversations::open(&file)).await
            })
            .await
    }

    /// Whether the conversation did not wait yet, and does now.
    fn waits_for_pause(&self, conversation: i64) -> bool {
        self.unsummarised.lock().unwrap_or_else(PoisonError::into_inner).insert(conversation)
    }

    fn has_pause(&self, conversation: i64) {
        self.unsummarised.lock().unwrap_or_else(PoisonError::into_inner).remove(&conversation);
    }
}

/// The conversations of the client that asks.
async fn history(app: &App, asker: &Asker) -> Result<ChatHistory, Failure> {
    Ok(app.chats.conversations().await?.of(whose::owner(asker)))
}

/// Uses the file where it cannot hold up the event loop.
async fn on_disk<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ChatError> + Send + 'static,
) -> Result<T, Failure> {
    let done = tokio::task::spawn_blocking(work).await;
    Ok(done.unwrap_or(Err(ChatError::Unfinished))?)
}

/// The same where nothing can be awaited, for what takes milliseconds.
fn on_disk_now<T>(work: impl FnOnce() -> T) -> T {
    let has_others =
        Handle::try_current().is_ok_and(|runtime| runtime.runtime_flavor() == RuntimeFlavor::MultiThread);
    if has_others { tokio::task::block_in_place(work) } else { work() }
}

/// Has the conversation summarised, if it needs that, as soon as nothing was asked for a while. It is given up when the server leaves.
fn summarise_later(app: &App, history: ChatHistory, conversation: i64) {
    if !app.chats.waits_for_pause(conversation) {
        return;
    }
    let app = app.clone();
    crate::task::spawn(async move {
        let summarised = async {
            app.server.unused(SUMMARY_IDLE).await;
            // Other summaries wait for the end of this one; a later message asks for another.
            let _in_flight = app.server.begin();
            app.chats.has_pause(conversation);
            if !has_model(&app, &history, conversation).await? {
                return Ok(false);
            }
            let service = ChatService::over(Arc::new(app.runtime.clone()), history);
            // Boxed: it is rarely needed, and large.
            Box::pin(service.summarise(conversation)).await
        };
        tokio::select! {
            () = app.server.reached(Phase::Draining) => {}
            summarised = summarised => match summarised {
                Ok(true) => tracing::debug!(conversation, "a conversation was summarised"),
                Ok(false) => {}
                Err(failure) => tracing::debug!(conversation, %failure, "a conversation could not be summarised"),
            }
        }
    });
}

/// Whether the conversation's model is still in memory. One that has left is not loaded again for a summary.
async fn has_model(app: &App, history: &ChatHistory, conversation: i64) -> Result<bool, Failure> {
    let history = history.clone();
    let head = on_disk(move || history.head_of(conversation)).await?;
    let Some(model) = head.model else { return Ok(false) };
    let spec = app.runtime.spec(&model).await?;
    let mut models = app.runtime.snapshot().await.models.into_iter();
    let is_in_memory = |model: &ModelStats| model.instances > 0 || model.state == ModelState::Parked;
    Ok(models.any(|model| model.key == spec.key && is_in_memory(&model)))
}

/// What is refused of conversations, with a word of its own where the table of kinds means models.
fn refusal(failure: Failure) -> Refusal {
    let is_of_chat = matches!(failure.param.as_deref(), Some("conversation" | "parent"));
    if failure.kind == ErrorKind::NotFound && is_of_chat {
        return Refusal { failure, status: StatusCode::NOT_FOUND, code: "conversation_not_found" };
    }
    failure.into()
}

/// The number behind an id. What is no number names nothing.
fn number(id: &str) -> Result<i64, Refusal> {
    id.parse().map_err(|_| refusal(ChatError::NoConversation(id.chars().take(40).collect()).into()))
}

/// A conversation as it is listed. Numbers travel as texts: clients treat them as names.
fn head(head: &ConversationHead) -> Value {
    json!({
        "id": head.id.to_string(),
        "title": head.title,
        "model": head.model,
        "message_count": head.messages,
        "created_ms": head.created_ms,
        "changed_ms": head.changed_ms,
    })
}

#[cfg(test)]
mod tests {
    use samovar::WarmOptions;
    use samovar_chat::{AnswerRecord, ChatQuestion};
    use samovar_core::testing::FakeEngine;

    use super::*;
    use crate::app::Surface;
    use crate::config::ServeConfig;
    use crate::serve::Server;

    #[tokio::test]
    async fn a_model_that_has_left_memory_summarises_nothing() {
        let home = tempfile::tempdir().expect("tempdir");
        let engine = Arc::new(FakeEngine::new());
        let runtime =
            samovar::Runtime::builder().cache_dir(home.path()).engine(engine).build().expect("builds");
        let config = ServeConfig { socket: Some(home.path().join("run/s")), ..ServeConfig::default() };
        let server = Server::bind(runtime, config).await.expect("binds");
        let app = server.app(Surface::Local);
        let history = Conversations::in_memory().expect("memory").of("");
        let turn = history.begin(&ChatQuestion::new("Hello")).expect("begins");
        let conversation = turn.conversation();
        turn.keep(&AnswerRecord { text: "Hi".to_owned(), ..AnswerRecord::by("demo") }).expect("keeps");
        let has = async || has_model(&app, &history, conversation).await.expect("is looked up");
        assert!(!has().await);
        app.runtime.warm("demo", WarmOptions::default()).await.expect("loads");
        assert!(has().await);
        app.runtime.unload("demo").await.expect("unloads");
        let leaves = async {
            while has().await {
                tokio::task::yield_now().await;
            }
        };
        assert!(tokio::time::timeout(Duration::from_secs(30), leaves).await.is_ok());
    }

    #[test]
    fn a_conversation_waits_for_one_summary_at_a_time() {
        let chats = Chats::new(None);
        assert!(chats.waits_for_pause(1) && chats.waits_for_pause(2));
        assert!(!chats.waits_for_pause(1));
        chats.has_pause(1);
        assert!(chats.waits_for_pause(1));
    }
}
