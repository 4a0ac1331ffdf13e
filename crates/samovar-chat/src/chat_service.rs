//! The chat service: a message goes to a backend, and what is said is kept.

use std::collections::VecDeque;
use std::sync::Arc;

use futures_util::StreamExt as _;
use samovar::{AnswerEvent, Summary};
use samovar_core::{ErrorKind, Failure};

use crate::backend::{AnswerStream, ChatBackend};
use crate::conversations::{ChatHistory, Conversations};
use crate::error::ChatError;
use crate::prompt::MemoryUse;
use crate::turn::{AnswerRecord, ChatQuestion, ChatTurn, settle, settle_on_drop};
use crate::window;

/// The model of questions that name none, until [`ChatService::model`] says another.
const MODEL: &str = "demo";

/// Sends the messages of one client to a backend and keeps its conversations. Cheap to clone.
#[derive(Clone)]
pub struct ChatService {
    backend: Arc<dyn ChatBackend>,
    history: ChatHistory,
    model: Arc<str>,
}

/// What happens while a message is answered. The last is `Kept` or `Failed`.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq)]
pub enum ChatEvent {
    /// The message is kept, and was sent.
    Begun {
        /// Its conversation.
        conversation: i64,
        /// Its own number.
        question: i64,
        /// What the request says besides the branch.
        memory: MemoryUse,
    },
    /// An event of the answer, but its last.
    Answer(AnswerEvent),
    /// The answer is complete and kept under this number.
    Kept {
        /// Its number.
        message: i64,
        /// How it ended.
        summary: Summary,
    },
    /// It ended early. What was said so far is kept; a message of which nothing was answered is taken back.
    Failed(Failure),
}

/// A whole answer.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq)]
pub struct ChatReply {
    /// What was said.
    pub text: String,
    /// The conversation.
    pub conversation: i64,
    /// The number of the answer.
    pub message: i64,
    /// What the request said besides the branch.
    pub memory: MemoryUse,
    /// How it ended.
    pub summary: Summary,
}

impl ChatService {
    /// The service of this machine's owner over a backend: a [`samovar::Runtime`], an [`UnpooledBackend`](crate::UnpooledBackend), or a
    /// daemon's socket.
    pub fn new(backend: impl ChatBackend + 'static, conversations: &Conversations) -> Self {
        Self::over(Arc::new(backend), conversations.of(""))
    }

    /// The service of one client.
    pub fn over(backend: Arc<dyn ChatBackend>, history: ChatHistory) -> Self {
        Self { backend, history, model: MODEL.into() }
    }

    /// The same with another model for questions that name none.
    #[must_use]
    pub fn model(self, model: impl Into<Arc<str>>) -> Self {
        Self { model: model.into(), ..self }
    }

    /// The same over other conversations.
    #[must_use]
    pub fn with_history(self, history: ChatHistory) -> Self {
        Self { history, ..self }
    }

    /// The client's conversations.
    pub fn history(&self) -> &ChatHistory {
        &self.history
    }

    /// Keeps a message, and says what its request is: for callers that send it in their own way.
    ///
    /// # Errors
    /// What is wrong with the message; what keeps the file from being written.
    pub async fn begin(&self, question: &ChatQuestion) -> Result<ChatTurn, Failure> {
        let model = self.model_of(question).to_owned();
        let (history, asked) = (self.history.clone(), question.clone());
        let mut turn = blocking(move || history.begin(&asked)).await?;
        // A backend that cannot be asked will say so to the request itself.
        let context = self.backend.context_tokens(&model).await.ok().flatten();
        if let Some(context_tokens) = context {
            let max_tokens = question.max_tokens;
            turn = changed(turn, move |turn| turn.fit(context_tokens, max_tokens)).await?.0;
            let budget = window::budget(context_tokens, max_tokens);
            let (tokens, is_counted) = turn.tokens();
            // No model has counted what was said so far, such as a conversation that was imported.
            if !is_counted && tokens > budget / 2 {
                turn = self.count_in(turn, question, &model, budget).await?;
            }
        }
        Ok(turn)
    }

    /// Leaves out so much that the prompt, as the model counts it, has room.
    async fn count_in(
        &self,
        mut turn: ChatTurn,
        question: &ChatQuestion,
        model: &str,
        budget: u32,
    ) -> Result<ChatTurn, Failure> {
        loop {
            // What is wrong with the model or the prompt, the request itself will be told.
            match self.backend.count(turn.request(model, question)).await {
                Ok(tokens) if tokens > budget => {}
                _ => return Ok(turn),
            }
            let (narrower, has_moved) = changed(turn, ChatTurn::narrow).await?;
            turn = narrower;
            if !has_moved {
                return Ok(turn);
            }
        }
    }

    /// Sends a message. Everything, also what is wrong with it, comes as events.
    pub async fn send(&self, question: ChatQuestion) -> ChatStream {
        let mut stream = ChatStream {
            service: self.clone(),
            record: AnswerRecord::by(self.model_of(&question)),
            question,
            turn: None,
            answers: None,
            ready: VecDeque::new(),
            has_ended: false,
        };
        if let Err(failure) = stream.begin().await {
            stream.fail(failure).await;
        }
        stream
    }

    fn model_of<'a>(&'a self, question: &'a ChatQuestion) -> &'a str {
        question.model.as_deref().unwrap_or(&self.model)
    }

    /// Makes the summary that a conversation needs, if it needs one: to be called while nothing else is asked. Returns whether it did.
    ///
    /// # Errors
    /// [`ChatError::NoConversation`]; whatever keeps the model from answering.
    pub async fn summarise(&self, conversation: i64) -> Result<bool, Failure> {
        let history = self.history.clone();
        let detail = blocking(move || history.open(conversation)).await?;
        let Some(model) = detail.head.model else { return Ok(false) };
        let Some(context) = self.backend.context_tokens(&model).await? else { return Ok(false) };
        let history = self.history.clone();
        let Some(order) = blocking(move || history.due_summary(conversation, context)).await? else {
            return Ok(false);
        };
        let mut record = AnswerRecord::by(order.model.as_str());
        let mut answers = self.backend.generate(order.request).await?;
        while let Some(event) = answers.next().await {
            if let AnswerEvent::Failed(failure) = event {
                return Err(failure);
            }
            record.observe(&event);
        }
        let text = record.text.trim().to_owned();
        if text.is_empty() {
            return Ok(false);
        }
        let history = self.history.clone();
        blocking(move || history.add_summary(conversation, order.through, &text, &order.model)).await?;
        Ok(true)
    }
}

/// A message that is being answered. **Dropping it cancels the answer**; what was said of it so far is kept.
pub struct ChatStream {
    service: ChatService,
    question: ChatQuestion,
    /// Until the answer is kept.
    turn: Option<ChatTurn>,
    record: AnswerRecord,
    answers: Option<AnswerStream>,
    ready: VecDeque<ChatEvent>,
    has_ended: bool,
}

impl ChatStream {
    async fn begin(&mut self) -> Result<(), Failure> {
        self.turn = Some(self.service.begin(&self.question).await?);
        self.ask().await
    }

    async fn ask(&mut self) -> Result<(), Failure> {
        let turn = self.turn.as_ref().expect("invariant: a turn has begun");
        let (conversation, question, memory) = (turn.conversation(), turn.question(), turn.memory());
        let request = turn.request(self.service.model_of(&self.question), &self.question);
        let backend = Arc::clone(&self.service.backend);
        self.answers = Some(backend.generate(request).await?);
        self.ready.push_back(ChatEvent::Begun { conversation, question, memory });
        Ok(())
    }

    /// The next event; `None` after the last.
    pub async fn next(&mut self) -> Option<ChatEvent> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Some(event);
            }
            if self.has_ended {
                return None;
            }
            let answers = self.answers.as_mut().expect("invariant: it was asked, or has failed");
            match answers.next().await {
                Some(AnswerEvent::Failed(failure)) => {
                    let is_too_long = failure.kind == ErrorKind::ContextExceeded && self.record.is_empty();
                    let asked_again = if is_too_long { self.ask_for_less().await } else { Ok(false) };
                    match asked_again {
                        Ok(true) => {}
                        Ok(false) => self.fail(failure).await,
                        Err(other) => self.fail(other).await,
                    }
                }
                Some(AnswerEvent::Done(summary)) => {
                    self.record.end(&summary);
                    self.finish(summary).await;
                }
                Some(event) => {
                    self.record.observe(&event);
                    return Some(ChatEvent::Answer(event));
                }
                None => {
                    let message = "the answer ended without a summary";
                    self.fail(Failure::new(ErrorKind::Internal, message)).await;
                }
            }
        }
    }

    /// Asks again with half of the history; false = nothing is left to leave out.
    async fn ask_for_less(&mut self) -> Result<bool, Failure> {
        let Some(turn) = self.turn.take() else { return Ok(false) };
        let (turn, has_moved) = changed(turn, ChatTurn::narrow).await?;
        self.turn = Some(turn);
        if has_moved {
            self.ask().await?;
        }
        Ok(has_moved)
    }

    async fn finish(&mut self, summary: Summary) {
        self.has_ended = true;
        let Some(turn) = self.turn.take() else { return };
        let record = std::mem::take(&mut self.record);
        let kept = blocking(move || turn.keep(&record)).await;
        self.ready.push_back(match kept {
            Ok(message) => ChatEvent::Kept { message, summary },
            Err(failure) => ChatEvent::Failed(failure),
        });
    }

    /// Ends with a failure: a question without an answer is taken back, a partial answer is kept.
    async fn fail(&mut self, failure: Failure) {
        self.has_ended = true;
        self.settle().await;
        self.ready.push_back(ChatEvent::Failed(failure));
    }

    async fn settle(&mut self) {
        let Some(turn) = self.turn.take() else { return };
        let record = std::mem::take(&mut self.record);
        let settled = blocking(move || settle(turn, &record)).await;
        if let Err(failure) = settled {
            tracing::warn!(%failure, "what was said could not be kept");
        }
    }

    /// The whole answer.
    ///
    /// # Errors
    /// Whatever ended it early.
    pub async fn collect(mut self) -> Result<ChatReply, Failure> {
        let (mut text, mut begun) = (String::new(), None);
        while let Some(event) = self.next().await {
            match event {
                ChatEvent::Begun { conversation, memory, .. } => begun = Some((conversation, memory)),
                ChatEvent::Answer(AnswerEvent::Text { text: more, .. }) => text.push_str(&more),
                ChatEvent::Answer(_) => {}
                ChatEvent::Kept { message, summary } => {
                    let (conversation, memory) = begun.expect("invariant: it begins before it ends");
                    return Ok(ChatReply { text, conversation, message, memory, summary });
                }
                ChatEvent::Failed(failure) => return Err(failure),
            }
        }
        Err(Failure::new(ErrorKind::Internal, "the answer ended without a summary"))
    }
}

impl Drop for ChatStream {
    fn drop(&mut self) {
        if let Some(turn) = self.turn.take() {
            settle_on_drop(turn, &self.record);
        }
    }
}

/// Changes a turn where the file cannot hold up the event loop.
async fn changed<T: Send + 'static>(
    mut turn: ChatTurn,
    change: impl FnOnce(&mut ChatTurn) -> Result<T, ChatError> + Send + 'static,
) -> Result<(ChatTurn, T), Failure> {
    blocking(move || {
        let value = change(&mut turn)?;
        Ok((turn, value))
    })
    .await
}

/// Uses the file where it cannot hold up the event loop.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ChatError> + Send + 'static,
) -> Result<T, Failure> {
    let done = tokio::task::spawn_blocking(work).await;
    Ok(done.unwrap_or(Err(ChatError::Unfinished))?)
}
