//! A request for text, and the events that answer it and every other kind of work.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use crate::chat::Chat;
use crate::constraint::Constraint;
use crate::embedding::Embedded;
use crate::error::Failure;
use crate::infill::Infill;
use crate::scope::Scope;

/// What the model continues.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Prompt {
    /// Text to be tokenized by the model's own vocabulary.
    Text {
        /// The text.
        text: String,
        /// Let the model's vocabulary add its begin-of-sequence token, if it asks for one.
        add_special: bool,
        /// Read control tokens such as `<|im_end|>` in the text as control tokens.
        parse_special: bool,
    },
    /// Token ids as they are.
    Tokens(Vec<u32>),
    /// A conversation, rendered by the model's chat template where the model is.
    Chat(Box<Chat>),
    /// A gap in a text, which the model fills in. No text in it is read as a control token.
    Infill(Box<Infill>),
}

/// How the next token is chosen. The defaults are llama.cpp's, except where a client's API says otherwise.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Sampling {
    /// 0 = greedy; in `[0, 2]` over HTTP.
    pub temperature: f32,
    /// Keep the k most likely tokens; 0 = all.
    pub top_k: u32,
    /// Keep the smallest set of tokens whose probability reaches p, in `(0, 1]`.
    pub top_p: f32,
    /// Drop tokens less likely than `min_p` × the most likely one, in `[0, 1]`.
    pub min_p: f32,
    /// Multiplicative penalty on repeated tokens; 1 = off.
    pub repeat_penalty: f32,
    /// How many of the last tokens the penalties look at; 0 = off.
    pub repeat_last_tokens: u32,
    /// Additive penalty by count, in `[-2, 2]`.
    pub frequency_penalty: f32,
    /// Additive penalty by presence, in `[-2, 2]`.
    pub presence_penalty: f32,
    /// Seed of the draw; `None` = from the clock, different each time.
    pub seed: Option<u32>,
    /// Added to the logit of a token before anything else; `-inf` bans it.
    pub logit_bias: Vec<(u32, f32)>,
}

impl Default for Sampling {
    fn default() -> Self {
        Self {
            temperature: 0.8,
            top_k: 40,
            top_p: 0.95,
            min_p: 0.05,
            repeat_penalty: 1.0,
            repeat_last_tokens: 64,
            frequency_penalty: 0.0,
            presence_penalty: 0.0,
            seed: None,
            logit_bias: Vec::new(),
        }
    }
}

impl Sampling {
    /// The most likely token each time: the same text for the same prompt.
    pub fn greedy() -> Self {
        Self { temperature: 0.0, ..Self::default() }
    }
}

/// A small set of weights (LoRA) that changes a model's answers while it is attached.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Adapter {
    /// Its file, whose header has passed the gate.
    pub path: PathBuf,
    /// How strongly it counts; 1 = as it was trained.
    pub scale: f32,
}

impl std::fmt::Display for Adapter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.path.display(), self.scale)
    }
}

impl std::str::FromStr for Adapter {
    type Err = ParseAdapterError;

    /// Reads `path` or `path:scale`.
    fn from_str(text: &str) -> Result<Self, ParseAdapterError> {
        let scaled = text.rsplit_once(':').and_then(|(path, scale)| Some((path, scale.parse().ok()?)));
        let (path, scale) = scaled.unwrap_or((text, 1.0));
        if path.is_empty() {
            return Err(ParseAdapterError::NoPath);
        }
        if !f32::is_finite(scale) {
            return Err(ParseAdapterError::Scale(scale.to_string()));
        }
        Ok(Self { path: path.into(), scale })
    }
}

/// Text that names no adapter.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseAdapterError {
    /// Nothing, or a scale alone.
    #[error("an adapter is written path or path:scale")]
    NoPath,
    /// A scale that is no number.
    #[error("an adapter cannot be scaled by {0}")]
    Scale(String),
}

/// Prompt state that an instance keeps of a finished request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CachedPrefix {
    /// Names it among the instance's others; a later state never has the same number.
    pub id: u64,
    /// The tokens whose state it is, from the first on.
    pub tokens: Vec<u32>,
    /// Whose it is.
    pub scope: Scope,
}

/// One request to one instance.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GenerationRequest {
    /// What to continue.
    pub prompt: Prompt,
    /// How to choose tokens.
    pub sampling: Sampling,
    /// Tokens to generate at most; `None` = as many as the context holds.
    pub max_tokens: Option<u32>,
    /// Strings that end the answer and are not part of it.
    pub stop: Vec<String>,
    /// How many alternatives to report for each token; `None` = no logprobs at all.
    pub logprobs: Option<u32>,
    /// Generate on past the end-of-generation token.
    pub ignore_eos: bool,
    /// Look for and leave behind a reusable prompt prefix.
    pub reuse_prefix: bool,
    /// Whose the prompt is: whose state it may continue from, and who may continue from its own.
    pub scope: Scope,
    /// What the answer must look like; thoughts before it, and calls of tools in its place, need not.
    pub constraint: Option<Constraint>,
    /// Tokens of thought after which a model that still thinks is made to answer; `None` = as many as it likes.
    pub thinking_budget_tokens: Option<u32>,
    /// Whether several of its tokens may be computed in one step where that is faster here.
    pub speculates: bool,
    /// Adapters to attach while this request is computed; none = the model as it is. Empty where
    /// [`can_adapt`](crate::port::Capabilities::can_adapt) is false.
    pub adapters: Vec<Adapter>,
}

impl GenerationRequest {
    /// A request with the defaults of [`Sampling`] for this prompt.
    pub fn new(prompt: Prompt) -> Self {
        Self {
            prompt,
            sampling: Sampling::default(),
            max_tokens: None,
            stop: Vec::new(),
            logprobs: None,
            ignore_eos: false,
            reuse_prefix: true,
            scope: Scope::default(),
            constraint: None,
            thinking_budget_tokens: None,
            speculates: true,
            adapters: Vec::new(),
        }
    }
}

/// A token with its probability, and the alternatives to it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TokenLogprob {
    /// Token id.
    pub token: u32,
    /// The token's bytes; a token may hold half a character.
    pub bytes: Vec<u8>,
    /// Natural logarithm of the probability the model gave it, before sampling filters.
    pub logprob: f32,
    /// The most likely tokens at this place, best first, each without alternatives of its own.
    pub top: Vec<TokenLogprob>,
}

/// Why an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FinishReason {
    /// The model said it was done, or a stop string appeared: [`Completion::stopped_by`] tells which.
    Stop,
    /// `max_tokens` or the context was used up.
    Length,
    /// The deadline passed; the text so far is partial.
    TimedOut,
    /// The model called tools, and waits for what they say.
    ToolCalls,
}

/// Counts of one answer, in tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Tokens of the prompt.
    pub prompt_tokens: u32,
    /// Of these, how many came from a cached prefix of the same client and were not computed. What was another
    /// client's is not told.
    pub cached_tokens: u32,
    /// Tokens generated.
    pub completion_tokens: u32,
    /// Of these, how many were thoughts. A daemon of an older version does not say it.
    #[serde(default)]
    pub thinking_tokens: u32,
}

/// How an answer ended, what it cost and how long its parts took.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Completion {
    /// Why it ended.
    pub finish: FinishReason,
    /// The place of the stop string that ended it among those of its request; `None` = no stop string did. Only where `finish`
    /// is [`FinishReason::Stop`].
    pub stopped_by: Option<u32>,
    /// Token counts.
    pub usage: Usage,
    /// From the request's arrival at the instance to the end of its prefill, in milliseconds.
    pub prefill_ms: f64,
    /// From the first to the last token, in milliseconds.
    pub decode_ms: f64,
}

/// A part of an answer that was read apart: thoughts and calls are told from text by the marks that the model writes around
/// them, which are in none of them. What was said is never taken back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Delta {
    /// Text to append to the answer.
    Text(String),
    /// Text to append to the thoughts before it.
    Thinking(String),
    /// A call of a tool begins.
    Call {
        /// Counts the calls of this answer from 0.
        index: u32,
        /// Names it among all calls of the conversation.
        id: String,
        /// The tool.
        name: String,
    },
    /// Text to append to the arguments of a call that has begun: together they are JSON.
    Arguments {
        /// Which call.
        index: u32,
        /// The text, as the model wrote it.
        text: String,
    },
}

impl Delta {
    /// Its text; the name, where a call begins.
    pub fn text(&self) -> &str {
        match self {
            Self::Text(text) | Self::Thinking(text) | Self::Arguments { text, .. } => text,
            Self::Call { name, .. } => name,
        }
    }
}

/// What an instance says while it answers. Ends with exactly one `Done` or `Failed`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum TokenEvent {
    /// A part of the prompt has been computed. Told a few times a second at most, and by [`may_tell_progress`] alone.
    Prefilling {
        /// Tokens of the prompt whose state is there.
        computed: u32,
        /// Tokens of the prompt.
        of: u32,
    },
    /// The prompt has been computed; the first token follows.
    Prefilled {
        /// Token counts so far.
        usage: Usage,
        /// Milliseconds since the request arrived at the instance.
        prefill_ms: f64,
    },
    /// A token was generated. `text` is whole UTF-8 and may be empty: bytes of a split character and
    /// the beginning of a possible stop string are withheld until they are decided.
    Token {
        /// Text to append to the answer.
        text: String,
        /// The token with its probability; only when logprobs were asked for, and for no token of a thought or a call.
        logprob: Option<TokenLogprob>,
    },
    /// A token was generated in an answer to a conversation, and what it added is not text alone. Never without deltas.
    Deltas {
        /// What it added, in its order; at most [`DELTAS_MAX`].
        deltas: Vec<Delta>,
        /// The token with its probability; only when logprobs were asked for, and text is in it.
        logprob: Option<TokenLogprob>,
    },
    /// An input became a vector or scores.
    Embedded(Embedded),
    /// The answer is complete. Any text withheld before comes in a last `Token`.
    Done(Completion),
    /// The answer broke off.
    Failed(Failure),
}

/// Deltas of one token at most: a token of many closing marks may end thoughts, begin a call, and end it.
pub const DELTAS_MAX: usize = 64;

/// Whether progress can be sent to the reader of this: when nothing else is on its way to it. So the channel needs one
/// place for it, however slow its reader is. `kept` places are spoken for.
pub fn may_tell_progress(events: &mpsc::Sender<TokenEvent>, kept: usize) -> bool {
    events.capacity() + kept == events.max_capacity()
}

/// The receiving end of one answer. **Dropping it cancels the request** within one decode step or
/// one prefill chunk; the slot is free afterwards.
pub struct Generation {
    events: mpsc::Receiver<TokenEvent>,
    on_drop: Option<Box<dyn FnOnce() + Send>>,
}

impl Generation {
    /// A channel that holds a whole answer of `max_tokens`, so that a slow reader never stalls the
    /// engine and memory stays bounded by what the request itself asked for.
    pub fn channel(max_tokens: u32) -> (mpsc::Sender<TokenEvent>, Self) {
        // Prefilling, Prefilled, one event a token, one flush of withheld text, Done.
        let (sender, events) = mpsc::channel(max_tokens as usize + 4);
        (sender, Self { events, on_drop: None })
    }

    /// A channel that holds the whole answer to a request for vectors or scores of so many inputs.
    pub fn channel_for_inputs(inputs: usize) -> (mpsc::Sender<TokenEvent>, Self) {
        // Prefilling, one event an input, Done.
        let (sender, events) = mpsc::channel(inputs + 2);
        (sender, Self { events, on_drop: None })
    }

    /// The same, and `on_drop` is called when it is dropped, also after its end: for engines that do not see a
    /// closed channel before they have something to say. It must not block.
    #[must_use]
    pub fn on_drop(mut self, on_drop: impl FnOnce() + Send + 'static) -> Self {
        self.on_drop = Some(Box::new(on_drop));
        self
    }

    /// The next event; `None` after `Done` or `Failed`, or when the instance died without a word.
    ///
    /// # Cancel safety
    /// Cancel safe: no event is lost.
    pub async fn next(&mut self) -> Option<TokenEvent> {
        self.events.recv().await
    }

    /// The next event, for callers outside an async runtime. Must not be called inside one.
    pub fn blocking_next(&mut self) -> Option<TokenEvent> {
        self.events.blocking_recv()
    }
}

impl Drop for Generation {
    fn drop(&mut self) {
        self.events.close();
        if let Some(on_drop) = self.on_drop.take() {
            on_drop();
        }
    }
}

impl std::fmt::Debug for Generation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Generation").field("events", &self.events).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_never_takes_the_place_of_another_event() {
        let (sender, mut generation) = Generation::channel(0);
        let progress = TokenEvent::Prefilling { computed: 1, of: 2 };
        assert!(may_tell_progress(&sender, 0));
        sender.try_send(progress.clone()).unwrap();
        assert!(!may_tell_progress(&sender, 0), "the reader has not taken the last");
        for _ in 0..3 {
            sender.try_send(TokenEvent::Token { text: String::new(), logprob: None }).unwrap();
        }
        assert_eq!(generation.blocking_next(), Some(progress));
        assert!(!may_tell_progress(&sender, 0));
        let (sender, _generation) = Generation::channel(0);
        let _place = sender.try_reserve().unwrap();
        assert!(!may_tell_progress(&sender, 0) && may_tell_progress(&sender, 1));
    }

    #[test]
    fn an_adapter_is_a_path_and_perhaps_a_scale() {
        let read = |text: &str| text.parse::<Adapter>().map(|adapter| (adapter.path, adapter.scale));
        assert_eq!(read("poet.gguf"), Ok(("poet.gguf".into(), 1.0)));
        assert_eq!(read("a:b/poet.gguf:0.5"), Ok(("a:b/poet.gguf".into(), 0.5)));
        assert_eq!(read("poet:v2"), Ok(("poet:v2".into(), 1.0)));
        assert_eq!(read("poet:-1"), Ok(("poet".into(), -1.0)));
        assert_eq!(read(":0.5"), Err(ParseAdapterError::NoPath));
        assert_eq!(read(""), Err(ParseAdapterError::NoPath));
        assert_eq!(read("poet:inf"), Err(ParseAdapterError::Scale("inf".to_owned())));
        let adapter = Adapter { path: "poet:1".into(), scale: 0.25 };
        assert_eq!(adapter.to_string().parse(), Ok(adapter));
    }
}
