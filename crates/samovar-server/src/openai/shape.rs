//! What chats and texts look like on the wire, and everything around them that looks the same.

use samovar::{AnswerEvent, CacheStatus, Summary, Timings};
use samovar_core::generation::{FinishReason, TokenLogprob, Usage};
use serde::Serialize;
use serde_json::Value;

use crate::generation::collected::Collected;

/// The form of a choice, streamed and whole.
pub(super) trait Shape: Send + 'static {
    /// `object` of a streamed chunk.
    const CHUNK_OBJECT: &'static str;
    /// `object` of a whole response.
    const WHOLE_OBJECT: &'static str;

    /// What is sent of a choice before its first token, which is text or not, if anything is, and how many characters of text
    /// that holds.
    fn first(&self, index: usize, is_text: bool) -> Option<(Value, usize)>;

    /// A piece of a choice. `offset` counts the characters before it.
    fn piece(&self, index: usize, text: &str, logprob: Option<&TokenLogprob>, offset: usize) -> Value;

    /// A part of a choice that is not its text; `None` for what has no place here.
    fn part(&self, _index: usize, _event: &AnswerEvent) -> Option<Value> {
        None
    }

    /// The end of a choice.
    fn last(&self, index: usize, finish: FinishReason) -> Value;

    /// A whole choice. What may be long of it is made when it is written.
    fn whole(&self, index: usize, said: &Collected, finish: FinishReason) -> impl Serialize;
}

/// What all chunks of one response, or its one object, have in common.
#[derive(Clone, Debug)]
pub(super) struct Frame {
    pub(super) id: String,
    pub(super) created: u64,
    /// Empty until a slot was granted.
    pub(super) model: String,
    pub(super) fingerprint: String,
    /// Answers to each prompt.
    pub(super) answers: u32,
}

/// The object itself.
#[derive(Serialize)]
pub(super) struct Envelope<'a, C, U> {
    pub(super) id: &'a str,
    pub(super) object: &'static str,
    pub(super) created: u64,
    pub(super) model: &'a str,
    pub(super) system_fingerprint: &'a str,
    pub(super) choices: &'a [C],
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) usage: Option<U>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) samovar: Option<Extra>,
}

impl Frame {
    pub(super) fn envelope<'a, C, U>(&'a self, object: &'static str, choices: &'a [C]) -> Envelope<'a, C, U> {
        Envelope {
            id: &self.id,
            object,
            created: self.created,
            model: &self.model,
            system_fingerprint: &self.fingerprint,
            choices,
            usage: None,
            samovar: None,
        }
    }
}

/// What this server says beyond OpenAI's API: where the model was, and where the time went.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Extra {
    timed_out: bool,
    cache: CacheStatus,
    timings: Timings,
}

impl From<&Summary> for Extra {
    fn from(summary: &Summary) -> Self {
        Self {
            timed_out: summary.finish == FinishReason::TimedOut,
            cache: summary.tier,
            timings: summary.timings,
        }
    }
}

impl Extra {
    /// Of several choices the one that took longest; timed out if one was.
    pub(super) fn of_all<'a>(summaries: impl IntoIterator<Item = &'a Summary>) -> Option<Self> {
        summaries.into_iter().map(Self::from).reduce(|one, other| Self {
            timed_out: one.timed_out || other.timed_out,
            ..if other.timings.total_ms > one.timings.total_ms { other } else { one }
        })
    }
}

/// Token counts of a response.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct UsageObject {
    prompt_tokens: u32,
    completion_tokens: u32,
    total_tokens: u32,
    prompt_tokens_details: PromptDetails,
    completion_tokens_details: CompletionDetails,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
struct PromptDetails {
    cached_tokens: u32,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
struct CompletionDetails {
    reasoning_tokens: u32,
}

impl UsageObject {
    /// Adds a choice. Several answers to one prompt count it once.
    pub(super) fn add(&mut self, index: usize, answers: u32, usage: Usage) {
        if index.is_multiple_of(answers.max(1) as usize) {
            let cached = &mut self.prompt_tokens_details.cached_tokens;
            *cached = cached.saturating_add(usage.cached_tokens);
            self.prompt_tokens = self.prompt_tokens.saturating_add(usage.prompt_tokens);
        }
        self.completion_tokens = self.completion_tokens.saturating_add(usage.completion_tokens);
        let thoughts = &mut self.completion_tokens_details.reasoning_tokens;
        *thoughts = thoughts.saturating_add(usage.thinking_tokens);
        self.total_tokens = self.prompt_tokens.saturating_add(self.completion_tokens);
    }
}

/// Characters that begin in these bytes of a token.
pub(super) fn characters(bytes: &[u8]) -> usize {
    bytes.iter().filter(|byte| **byte & 0xC0 != 0x80).count()
}

pub(super) const fn finish_reason(finish: FinishReason) -> &'static str {
    match finish {
        FinishReason::Stop => "stop",
        FinishReason::Length | FinishReason::TimedOut => "length",
        FinishReason::ToolCalls => "tool_calls",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_to_one_prompt_count_it_once() {
        let mut usage = UsageObject::default();
        let one = Usage { prompt_tokens: 10, cached_tokens: 4, completion_tokens: 3, thinking_tokens: 2 };
        for index in 0..4 {
            usage.add(index, 2, one);
        }
        assert_eq!((usage.prompt_tokens, usage.completion_tokens, usage.total_tokens), (20, 12, 32));
        assert_eq!(usage.prompt_tokens_details.cached_tokens, 8);
        assert_eq!(usage.completion_tokens_details.reasoning_tokens, 8);
    }

    #[test]
    fn a_split_character_counts_once() {
        assert_eq!(characters("aé".as_bytes()), 2);
        assert_eq!(characters(&"é".as_bytes()[..1]) + characters(&"é".as_bytes()[1..]), 1);
    }
}
