//! Which messages of a branch a request sends, when not all of them fit.
//!
//! ```text
//!   question  question  question            question  question
//!   answer    answer    answer    ──────►   answer    …            whole turns leave, and half of the budget is free again
//!   └──────── sent ────────┘                └─ sent ─┘
//! ```
//!
//! A prompt that begins as the one before is computed from its end on only. So the window moves rarely and by a big step: from full to half
//! full. Sizes are what the model counted of the prompts before, and an estimate of what is new; nothing is tokenized here.

use crate::conversations::StoredMessage;

/// Tokens of a byte as long as no model has counted any.
const TOKENS_PER_BYTE: f64 = 1.0 / 3.0;
/// Bounds of what is measured: short prompts are mostly template.
const MEASURED: std::ops::RangeInclusive<f64> = 0.05..=1.0;
/// Tokens that a template puts around a message.
const MESSAGE_TOKENS: f64 = 6.0;
/// Bytes below which a prompt tells nothing of tokens per byte.
const MEASURED_BYTES: usize = 400;

/// What a prompt consists of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PromptSize<'a> {
    /// The branch.
    pub(crate) history: &'a [StoredMessage],
    /// Bytes before the history.
    pub(crate) fixed_bytes: usize,
    /// Bytes of the question.
    pub(crate) question_bytes: usize,
}

/// The place in the branch from which on it is sent.
pub(crate) fn start_of(history: &[StoredMessage], window_from: Option<i64>) -> usize {
    let found = window_from.and_then(|from| history.iter().position(|message| message.id == from));
    found.unwrap_or(0)
}

/// Tokens that a prompt may have in a context of this size: some are left for the answer.
pub(crate) fn budget(context_tokens: u32, max_tokens: Option<u32>) -> u32 {
    let usual = context_tokens / 4;
    let reserved = max_tokens.unwrap_or(usual).clamp(context_tokens / 16, context_tokens / 2);
    context_tokens - reserved
}

impl PromptSize<'_> {
    /// Tokens of the prompt that begins with the message `start`.
    pub(crate) fn tokens(&self, start: usize) -> u32 {
        let question = self.tokens_of(self.question_bytes, start);
        if let Some(last) = self.history.last()
            && start < self.history.len()
            && let (Some(prompt), Some(answer)) = (last.prompt_tokens, last.tokens)
        {
            return prompt.saturating_add(answer).saturating_add(question);
        }
        self.estimate(start)
    }

    /// The same when nothing was counted with this beginning.
    fn estimate(&self, start: usize) -> u32 {
        let fixed = self.tokens_of(self.fixed_bytes, start);
        let question = self.tokens_of(self.question_bytes, start);
        let sent = self.history[start.min(self.history.len())..].iter();
        sent.map(|message| self.tokens_of(message.text.len(), start))
            .fold(fixed.saturating_add(question), u32::saturating_add)
    }

    fn tokens_of(&self, bytes: usize, start: usize) -> u32 {
        (bytes as f64 * self.tokens_per_byte(start) + MESSAGE_TOKENS).ceil() as u32
    }

    /// As the model counted the latest prompt.
    fn tokens_per_byte(&self, start: usize) -> f64 {
        let counted = self.history.iter().enumerate().rev().find_map(|(at, message)| {
            let tokens = message.prompt_tokens?;
            let sent = self.history.get(start..at)?;
            let bytes: usize =
                sent.iter().map(|message| message.text.len()).sum::<usize>() + self.fixed_bytes;
            (bytes >= MEASURED_BYTES).then(|| f64::from(tokens) / bytes as f64)
        });
        counted.map_or(TOKENS_PER_BYTE, |measured| measured.clamp(*MEASURED.start(), *MEASURED.end()))
    }

    /// Where the window has to begin, if it begins at `start` now and the prompt may have `budget` tokens: where it is, or so far on
    /// that half of the budget is free.
    pub(crate) fn window(&self, start: usize, budget: u32) -> usize {
        if self.tokens(start) <= budget {
            return start;
        }
        let beginnings = self.turns_after(start);
        let fits = |at: &usize| self.estimate(*at) <= budget / 2;
        beginnings.into_iter().find(fits).unwrap_or(self.history.len())
    }

    /// Where the window begins when the model refused the prompt as too long: half of the turns leave. `None` = none is left to leave.
    pub(crate) fn narrower(&self, start: usize) -> Option<usize> {
        let mut beginnings = self.turns_after(start);
        beginnings.push(self.history.len());
        (start < self.history.len()).then(|| beginnings[(beginnings.len() - 1) / 2])
    }

    /// The questions behind `start`.
    fn turns_after(&self, start: usize) -> Vec<usize> {
        let questions =
            self.history.iter().enumerate().skip(start + 1).filter(|(_, message)| message.is_question());
        questions.map(|(at, _)| at).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Turns of 300 bytes, of which a model counted the prompts: a token for three bytes.
    fn history(turns: usize) -> Vec<StoredMessage> {
        (0..turns * 2)
            .map(|at| {
                let id = i64::try_from(at).expect("few turns") + 1;
                let is_answer = at % 2 == 1;
                let message = serde_json::json!({
                    "id": id, "parent": (at > 0).then_some(id - 1), "role": if is_answer { "assistant" } else { "user" },
                    "text": "x".repeat(150), "created_ms": 0,
                    "prompt_tokens": is_answer.then_some(at * 50), "tokens": is_answer.then_some(50),
                });
                serde_json::from_value(message).expect("a message")
            })
            .collect()
    }

    #[test]
    fn the_window_stays_until_it_is_full_and_then_moves_to_half() {
        let mut starts = Vec::new();
        let mut start = 0;
        for turns in 0..60 {
            let mut history = history(turns);
            // What the model counts is what was sent.
            for (at, message) in history.iter_mut().enumerate() {
                message.prompt_tokens = message.prompt_tokens.map(|_| (at.saturating_sub(start) * 50) as u32);
            }
            let size = PromptSize { history: &history, fixed_bytes: 0, question_bytes: 150 };
            let before = start;
            start = size.window(start, 1_000);
            assert!(size.estimate(start) <= 1_200, "{turns}: {}", size.estimate(start));
            assert!(start == history.len() || history[start].is_question());
            if start != before {
                starts.push(start);
            }
        }
        assert!((3..=14).contains(&starts.len()), "rarely: {starts:?}");
        assert!(starts.windows(2).all(|pair| pair[1] - pair[0] >= 6), "by big steps: {starts:?}");
    }

    #[test]
    fn a_prompt_that_was_refused_loses_half_of_its_turns_until_none_is_left() {
        let history = history(8);
        let size = PromptSize { history: &history, fixed_bytes: 0, question_bytes: 10 };
        let mut starts = vec![0];
        while let Some(start) = size.narrower(starts[starts.len() - 1]) {
            starts.push(start);
        }
        assert_eq!(starts.last(), Some(&16), "{starts:?}");
        assert!(starts.len() <= 6 && starts.is_sorted(), "{starts:?}");
        assert_eq!(PromptSize { history: &[], ..size }.narrower(0), None);
    }

    #[test]
    fn the_answer_has_room() {
        assert_eq!(budget(4096, None), 3072);
        assert_eq!(budget(4096, Some(100)), 3840);
        assert_eq!(budget(4096, Some(100_000)), 2048);
        assert_eq!(budget(0, None), 0);
    }

    #[test]
    fn a_branch_without_the_windows_beginning_is_sent_from_its_own() {
        let history = history(2);
        assert_eq!(start_of(&history, Some(3)), 2);
        assert_eq!((start_of(&history, Some(99)), start_of(&history, None)), (0, 0));
    }
}
