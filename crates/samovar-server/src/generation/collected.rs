//! Everything that each choice said, for answers that are written in one piece.

use std::collections::VecDeque;

use samovar::{AnswerEvent, Summary, ToolCall};
use samovar_core::Failure;
use samovar_core::generation::TokenLogprob;

use super::choices::Choices;
use super::running::without_summary;
use crate::buffer_charge::BufferCharge;

/// What a choice said.
#[derive(Debug, Default)]
pub(crate) struct Collected {
    pub(crate) text: String,
    /// What the model thought before.
    pub(crate) thinking: String,
    /// The tools that it called.
    pub(crate) calls: Vec<ToolCall>,
    pub(crate) logprobs: Vec<TokenLogprob>,
    /// Once it has ended.
    pub(crate) summary: Option<Summary>,
}

/// Waits for the end of so many choices, of which `said` came before, and counts what they say.
///
/// # Errors
/// Whatever failed in one of them; the others are cancelled. `Busy` when no memory is left for what is collected.
pub(crate) async fn collect(
    mut choices: Choices,
    mut said: VecDeque<(usize, AnswerEvent)>,
    count: usize,
) -> Result<(Vec<Collected>, BufferCharge), Failure> {
    let mut held = choices.holds();
    let mut collected: Vec<Collected> = (0..count).map(|_| Collected::default()).collect();
    while let Some((index, event)) = choices.next_after(&mut said).await {
        collected[index].take(event, &mut held)?;
    }
    Ok((collected, held))
}

impl Collected {
    /// How it ended.
    ///
    /// # Errors
    /// `Internal` when it has not.
    pub(crate) fn end(&self) -> Result<&Summary, Failure> {
        self.summary.as_ref().ok_or_else(without_summary)
    }

    /// Takes in what the choice says next, and counts it with `held`.
    ///
    /// # Errors
    /// Whatever the choice failed with. `Busy` when no memory is left for what is collected.
    pub(crate) fn take(&mut self, event: AnswerEvent, held: &mut BufferCharge) -> Result<(), Failure> {
        match event {
            AnswerEvent::Text { text, logprob } => {
                held.keep(&text, logprob.as_ref())?;
                self.text.push_str(&text);
                self.logprobs.extend(logprob);
            }
            AnswerEvent::Thinking { text } => {
                held.keep(&text, None)?;
                self.thinking.push_str(&text);
            }
            AnswerEvent::ToolCall { id, name, .. } => {
                held.add(size_of::<ToolCall>() + id.len() + name.len())?;
                self.calls.push(ToolCall::new(id, name, ""));
            }
            AnswerEvent::ToolArguments { index, text } => {
                held.keep(&text, None)?;
                // Calls are counted from 0 in the order in which they begin.
                if let Some(call) = self.calls.get_mut(index as usize) {
                    call.arguments.push_str(&text);
                }
            }
            AnswerEvent::Done(summary) => self.summary = Some(summary),
            AnswerEvent::Failed(failure) => return Err(failure),
            _ => {}
        }
        Ok(())
    }
}
