//! One turn: a question that is kept, the request that it becomes, and the answer that is kept with it.
//!
//! All calls that touch the file block for about a millisecond. Nothing is sent here: the caller does that in its own way.

use samovar::{AnswerEvent, Message, Request, SamplingOptions, Summary, Work};
use samovar_core::generation::FinishReason;

use crate::conversations::{ChatHistory, Kept, Started, StoredMessage};
use crate::error::ChatError;
use crate::prompt::{self, MemoryUse};
use crate::window::{self, PromptSize};

/// What a question follows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReplyTo {
    /// The end of the branch that goes on.
    #[default]
    Latest,
    /// Nothing: it begins the conversation again, in a branch of its own.
    Nothing,
    /// This answer.
    Message(i64),
}

/// What a user says.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ChatQuestion {
    /// The text.
    pub text: String,
    /// The conversation; `None` = a new one.
    pub conversation: Option<i64>,
    /// What it follows.
    pub reply_to: ReplyTo,
    /// How the model should behave from now on; an empty text = as it likes; `None` = as before.
    pub system: Option<String>,
    /// The model; `None` = the service's own.
    pub model: Option<String>,
    /// How tokens are chosen.
    pub sampling: SamplingOptions,
    /// Tokens of the answer at most.
    pub max_tokens: Option<u32>,
}

impl ChatQuestion {
    /// This text in a new conversation.
    pub fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), ..Self::default() }
    }

    /// The same in this conversation.
    #[must_use]
    pub fn within(mut self, conversation: i64) -> Self {
        self.conversation = Some(conversation);
        self
    }
}

/// What an answer was.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AnswerRecord {
    /// The name by which the model was asked, with which the conversation goes on. That of a file may end with the process that gave it.
    pub asked: String,
    /// The model that gave it, as the catalog knows it.
    pub model: String,
    /// What it said.
    pub text: String,
    /// What it thought before.
    pub thinking: Option<String>,
    /// Tokens of the prompt.
    pub prompt_tokens: Option<u32>,
    /// Tokens of the answer.
    pub tokens: Option<u32>,
    /// How it ended: `stop`, `length`, `timed_out`, `tool_calls`; `cancelled` until it has.
    pub finish: String,
}

impl AnswerRecord {
    /// The beginning of an answer by this model.
    pub fn by(model: impl Into<String>) -> Self {
        let asked: String = model.into();
        Self { model: asked.clone(), asked, finish: "cancelled".to_owned(), ..Self::default() }
    }

    /// Takes in what is said next.
    pub fn observe(&mut self, event: &AnswerEvent) {
        match event {
            AnswerEvent::Granted { model, .. } => self.model.clone_from(model),
            AnswerEvent::Text { text, .. } => self.text.push_str(text),
            AnswerEvent::Thinking { text } => {
                self.thinking.get_or_insert_default().push_str(text);
            }
            AnswerEvent::Done(summary) => self.end(summary),
            _ => {}
        }
    }

    /// Takes in how it ended.
    pub fn end(&mut self, summary: &Summary) {
        self.prompt_tokens = Some(summary.usage.prompt_tokens);
        self.tokens = Some(summary.usage.completion_tokens);
        word(summary.finish).clone_into(&mut self.finish);
    }

    /// Whether nothing was said yet.
    pub fn is_empty(&self) -> bool {
        self.text.is_empty() && self.thinking.is_none()
    }
}

const fn word(finish: FinishReason) -> &'static str {
    match finish {
        FinishReason::Stop => "stop",
        FinishReason::Length => "length",
        FinishReason::TimedOut => "timed_out",
        FinishReason::ToolCalls => "tool_calls",
    }
}

/// A question that is kept, and has no answer yet. **Dropping it takes the question back**, so that a request that is cancelled before its
/// answer begins leaves nothing behind.
pub struct ChatTurn {
    history: ChatHistory,
    started: Started,
    text: String,
    /// The place in the branch from which on it is sent.
    start: usize,
    /// Whether it was said what becomes of it.
    is_settled: bool,
}

impl ChatHistory {
    /// Keeps a question, and says what its request is.
    ///
    /// # Errors
    /// [`ChatError::NoConversation`], [`ChatError::NoMessage`], [`ChatError::Invalid`] for an empty text and one that is too long.
    pub fn begin(&self, question: &ChatQuestion) -> Result<ChatTurn, ChatError> {
        let started = self.start(question)?;
        let start = window::start_of(&started.history, started.window_from);
        let text = question.text.clone();
        Ok(ChatTurn { history: self.clone(), started, text, start, is_settled: false })
    }
}

impl ChatTurn {
    /// The conversation.
    pub fn conversation(&self) -> i64 {
        self.started.conversation
    }

    /// Where it is kept.
    pub fn kept_in(&self) -> ChatHistory {
        self.history.clone()
    }

    /// The question's message.
    pub fn question(&self) -> i64 {
        self.started.question
    }

    /// Bytes of the messages that the question follows, and of those of them that its request repeats.
    pub fn history_bytes(&self) -> usize {
        let history = &self.started.history;
        let bytes =
            |message: &StoredMessage| message.text.len() + message.thinking.as_ref().map_or(0, String::len);
        history.iter().chain(&history[self.start..]).map(bytes).sum()
    }

    /// What its request says.
    pub fn messages(&self) -> Vec<Message> {
        let system = self.system_text();
        prompt::messages(system, &self.started.history[self.start..], &self.text)
    }

    /// Its request to this model.
    pub fn request(&self, model: impl Into<String>, question: &ChatQuestion) -> Request {
        let mut request = Request::chat(model, self.messages());
        if let Work::Generate(generate) = &mut request.work {
            generate.sampling = question.sampling.clone();
            generate.max_tokens = question.max_tokens;
        }
        request
    }

    /// What its request says besides the branch.
    pub fn memory(&self) -> MemoryUse {
        let summary = self.summary().map(str::to_owned);
        MemoryUse { facts: self.started.facts.clone(), summary, left_out: self.start }
    }

    /// Moves the window, if the prompt does not fit this context with room for an answer; returns whether it moved.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn fit(&mut self, context_tokens: u32, max_tokens: Option<u32>) -> Result<bool, ChatError> {
        let start = self.size().window(self.start, window::budget(context_tokens, max_tokens));
        self.move_to(start)
    }

    /// Moves the window because the model refused the prompt; false = nothing is left to leave out.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn narrow(&mut self) -> Result<bool, ChatError> {
        let Some(start) = self.size().narrower(self.start) else { return Ok(false) };
        self.move_to(start)
    }

    /// About how many tokens the prompt has, and whether a model counted most of them.
    pub(crate) fn tokens(&self) -> (u32, bool) {
        let is_counted = self.started.history.last().is_none_or(|last| last.prompt_tokens.is_some());
        (self.size().tokens(self.start), is_counted)
    }

    fn move_to(&mut self, start: usize) -> Result<bool, ChatError> {
        if start == self.start {
            return Ok(false);
        }
        let from = self.started.history.get(start).map_or(self.started.question, |message| message.id);
        self.history.set_window(self.started.conversation, from)?;
        self.start = start;
        Ok(true)
    }

    fn size(&self) -> PromptSize<'_> {
        PromptSize {
            history: &self.started.history,
            fixed_bytes: self.system_text().map_or(0, |text| text.len()),
            question_bytes: self.text.len(),
        }
    }

    fn system_text(&self) -> Option<String> {
        prompt::system_text(self.started.system.as_deref(), &self.started.facts, self.summary())
    }

    /// The newest summary of messages that are left out, all of them of this branch.
    fn summary(&self) -> Option<&str> {
        let left_out = &self.started.history[..self.start];
        let covers = |through: i64| left_out.iter().any(|message| message.id == through);
        let mut newest_first = self.started.summaries.iter().rev();
        newest_first.find(|summary| covers(summary.through)).map(|summary| summary.text.as_str())
    }

    const fn kept(&self) -> Kept {
        let Started { conversation, question, leaf, .. } = self.started;
        Kept { conversation, question, leaf }
    }

    /// Keeps the answer, and returns the number of its message.
    ///
    /// # Errors
    /// [`ChatError::NoConversation`] for a conversation that was deleted meanwhile; when the file cannot be written.
    pub fn keep(mut self, answer: &AnswerRecord) -> Result<i64, ChatError> {
        self.is_settled = true;
        self.history.finish(self.kept(), answer)
    }

    /// Deletes the question, which could not be answered, and a conversation that has nothing else. The branch that went on before goes on.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn take_back(mut self) -> Result<(), ChatError> {
        self.is_settled = true;
        self.history.take_back(self.kept())
    }
}

impl Drop for ChatTurn {
    fn drop(&mut self) {
        if !self.is_settled {
            tell(self.history.take_back(self.kept()));
        }
    }
}

/// A turn whose answer is on its way. What becomes of it is kept, also when this is dropped: as far as the answer came, or, where it
/// never began, the question is taken back.
pub struct OpenTurn {
    /// Until it has ended.
    turn: Option<ChatTurn>,
    record: AnswerRecord,
}

impl OpenTurn {
    /// A turn that this model is asked in.
    pub fn new(turn: ChatTurn, model: impl Into<String>) -> Self {
        Self { turn: Some(turn), record: AnswerRecord::by(model) }
    }

    /// The turn.
    ///
    /// # Panics
    /// After its end.
    pub fn turn(&mut self) -> &mut ChatTurn {
        self.turn.as_mut().expect("invariant: a turn is not used after its end")
    }

    /// What was said so far.
    pub fn record(&mut self) -> &mut AnswerRecord {
        &mut self.record
    }

    /// Keeps the answer, and returns the number of its message. Blocks for a few milliseconds.
    ///
    /// # Errors
    /// As [`ChatTurn::keep`].
    pub fn finish(&mut self) -> Result<i64, ChatError> {
        let turn = self.turn.take().ok_or(ChatError::Unfinished)?;
        turn.keep(&self.record)
    }

    /// Whether it has not ended.
    pub fn is_open(&self) -> bool {
        self.turn.is_some()
    }

    /// Ends it as dropping it does. Blocks for a few milliseconds, and longer while another process or a deletion has the file.
    pub fn settle(&mut self) {
        if let Some(turn) = self.turn.take() {
            settle_on_drop(turn, &self.record);
        }
    }
}

impl Drop for OpenTurn {
    fn drop(&mut self) {
        self.settle();
    }
}

/// Keeps a partial answer; takes a question back that has none.
pub(crate) fn settle(turn: ChatTurn, record: &AnswerRecord) -> Result<(), ChatError> {
    if record.is_empty() { turn.take_back() } else { turn.keep(record).map(drop) }
}

/// The same where nothing can be awaited. Both take milliseconds.
pub(crate) fn settle_on_drop(turn: ChatTurn, record: &AnswerRecord) {
    tell(settle(turn, record));
}

fn tell(settled: Result<(), ChatError>) {
    if let Err(error) = settled {
        tracing::warn!(%error, "what was said could not be kept");
    }
}
