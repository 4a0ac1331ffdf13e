//! What the runtime answers: events from the queue to the last token, and a summary of where time went.

use samovar_core::Failure;
use samovar_core::embedding::Embedded;
use samovar_core::generation::{FinishReason, TokenLogprob, Usage};
use serde::{Deserialize, Serialize};

use crate::request_trace::TraceView;
use crate::unread::Inbox;
use crate::wait::Wait;

/// Where the model was found.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CacheStatus {
    /// Ready in memory.
    Hit,
    /// In memory, its working memory given back before and made again for this request.
    Parked,
    /// Being loaded for another request; this request waited for the same load.
    Joined,
    /// Loaded from disk for this request.
    Cold,
    /// Fetched from its source, and loaded, for this request.
    Fetched,
}

impl CacheStatus {
    /// The word used in headers and logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Hit => "hit",
            Self::Parked => "parked",
            Self::Joined => "joined",
            Self::Cold => "cold",
            Self::Fetched => "fetched",
        }
    }

    /// The level of the cache that had the model: `l1` memory, `l2` disk, `l3` a source.
    pub const fn level(self) -> &'static str {
        match self {
            Self::Hit | Self::Parked | Self::Joined => "l1",
            Self::Cold => "l2",
            Self::Fetched => "l3",
        }
    }
}

/// Where the time of one request went, in milliseconds.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Timings {
    /// Fetching the model from its source.
    #[serde(default)]
    pub fetch_ms: f64,
    /// Waiting for a slot.
    pub queue_ms: f64,
    /// Waiting for the model to load or resume.
    pub load_ms: f64,
    /// Computing the prompt.
    pub prefill_ms: f64,
    /// From the request's arrival to its first token.
    pub first_token_ms: f64,
    /// From the first to the last token.
    pub decode_ms: f64,
    /// From arrival to the end.
    pub total_ms: f64,
}

/// How an answer ended.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Why it ended.
    pub finish: FinishReason,
    /// The stop string that ended it: one of the request's, or of the model's author where the request has none; `None` = no stop
    /// string did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stopped_by: Option<String>,
    /// Token counts.
    pub usage: Usage,
    /// Where the model was found.
    pub tier: CacheStatus,
    /// Where the time went.
    pub timings: Timings,
}

impl Summary {
    /// The end of an answer whose deadline passed before its first token.
    pub fn timed_out(tier: CacheStatus, timings: Timings) -> Self {
        let finish = FinishReason::TimedOut;
        Self { finish, stopped_by: None, usage: Usage::default(), tier, timings }
    }
}

/// One event of an answer. The last is `Done` or `Failed`.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq)]
pub enum AnswerEvent {
    /// The request waits: for a download, a slot, a load, a resume.
    Waiting(Wait),
    /// A slot was granted; the prompt is being computed.
    Granted {
        /// The model's name as the catalog knows it.
        model: String,
        /// Where it was found.
        tier: CacheStatus,
        /// Milliseconds waited for a slot.
        queue_ms: f64,
        /// Milliseconds waited for a load or resume.
        load_ms: f64,
    },
    /// A part of the prompt has been computed; told a few times a second at most.
    Prefilling {
        /// Tokens of the prompt whose state is there.
        computed: u32,
        /// Tokens of the prompt.
        of: u32,
    },
    /// The prompt has been computed.
    Prefilled {
        /// Token counts so far.
        usage: Usage,
    },
    /// Text to append; may be empty when only a logprob is reported.
    Text {
        /// The text.
        text: String,
        /// The token's probability, when asked for.
        logprob: Option<TokenLogprob>,
    },
    /// Text to append to the thoughts before the answer.
    Thinking {
        /// The text.
        text: String,
    },
    /// The model begins to call a tool.
    ToolCall {
        /// Counts the calls of this answer from 0.
        index: u32,
        /// Names it among all calls of the conversation.
        id: String,
        /// The tool.
        name: String,
    },
    /// Text to append to the arguments of a call that has begun: together they are JSON.
    ToolArguments {
        /// Which call.
        index: u32,
        /// The text, as the model wrote it.
        text: String,
    },
    /// An input became a vector or scores; its index counts the inputs of the whole request.
    Embedded(Embedded),
    /// The answer is complete, or complete as far as its deadline let it be.
    Done(Summary),
    /// The answer broke off.
    Failed(Failure),
}

/// The answer to one request. **Dropping it cancels the request** and frees its slot within one
/// decode step or one prefill chunk.
#[derive(Debug)]
pub struct Answer {
    events: Inbox,
    trace: TraceView,
}

impl Answer {
    pub(crate) fn new(events: Inbox, trace: TraceView) -> Self {
        Self { events, trace }
    }

    /// What is known so far of the request, also before its events are read.
    pub fn trace(&self) -> &TraceView {
        &self.trace
    }

    /// The next event; `None` after the last.
    ///
    /// # Cancel safety
    /// Cancel safe: no event is lost.
    pub async fn next(&mut self) -> Option<AnswerEvent> {
        self.events.next().await
    }

    /// The next piece of text; `None` when the answer is complete.
    ///
    /// # Errors
    /// Whatever ended the answer early.
    pub async fn next_text(&mut self) -> Result<Option<String>, Failure> {
        loop {
            match self.next().await {
                Some(AnswerEvent::Text { text, .. }) if !text.is_empty() => return Ok(Some(text)),
                Some(AnswerEvent::Failed(failure)) => return Err(failure),
                Some(AnswerEvent::Done(_)) | None => return Ok(None),
                Some(_) => {}
            }
        }
    }

    /// What all inputs became, in their order, and a summary.
    ///
    /// # Errors
    /// Whatever ended the answer early.
    pub async fn collect_embedded(mut self) -> Result<(Vec<Embedded>, Summary), Failure> {
        let mut all = Vec::new();
        while let Some(event) = self.next().await {
            match event {
                AnswerEvent::Embedded(embedded) => all.push(embedded),
                AnswerEvent::Done(summary) => {
                    all.sort_by_key(|embedded| embedded.index);
                    return Ok((all, summary));
                }
                AnswerEvent::Failed(failure) => return Err(failure),
                _ => {}
            }
        }
        Err(Failure::new(samovar_core::ErrorKind::Internal, "the answer ended without a summary"))
    }

    /// The whole text and its summary.
    ///
    /// # Errors
    /// Whatever ended the answer early.
    pub async fn collect(mut self) -> Result<(String, Summary), Failure> {
        let mut whole = String::new();
        while let Some(event) = self.next().await {
            match event {
                AnswerEvent::Text { text, .. } => whole.push_str(&text),
                AnswerEvent::Done(summary) => return Ok((whole, summary)),
                AnswerEvent::Failed(failure) => return Err(failure),
                _ => {}
            }
        }
        Err(Failure::new(samovar_core::ErrorKind::Internal, "the answer ended without a summary"))
    }
}
