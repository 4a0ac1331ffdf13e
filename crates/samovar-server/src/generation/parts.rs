//! What one choice said, part by part in its order: thoughts, text and calls of tools. For APIs whose answers keep that order.

use std::collections::VecDeque;

use samovar::{AnswerEvent, Summary, ToolCall};
use samovar_core::Failure;

use super::choices::Choices;
use super::running::without_summary;
use crate::buffer_charge::BufferCharge;

/// A part of an answer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// What the model thought.
    Thinking(String),
    /// What it said.
    Text(String),
    /// A tool that it called.
    Call(ToolCall),
}

impl Part {
    /// Its text; the arguments of a call.
    pub(crate) fn text(&self) -> &str {
        match self {
            Self::Thinking(text) | Self::Text(text) => text,
            Self::Call(call) => &call.arguments,
        }
    }

    fn text_mut(&mut self) -> &mut String {
        match self {
            Self::Thinking(text) | Self::Text(text) => text,
            Self::Call(call) => &mut call.arguments,
        }
    }
}

/// What a choice said, counted in memory for as long as it is kept.
#[derive(Debug)]
pub(crate) struct Parts {
    pub(crate) list: Vec<Part>,
    pub(crate) held: BufferCharge,
    /// Calls that have begun.
    calls: u32,
}

impl Parts {
    /// Nothing yet.
    pub(crate) fn new(held: BufferCharge) -> Self {
        Self { list: Vec::new(), held, calls: 0 }
    }

    /// Takes in what the choice says next, and tells what it adds to the last part; `None` where it adds nothing. What a part
    /// before the last one should get is passed over: a part that was left never goes on.
    ///
    /// # Errors
    /// `Busy` when no memory is left for what is kept.
    pub(crate) fn take<'a>(&mut self, event: &'a AnswerEvent) -> Result<Option<Added<'a>>, Failure> {
        let (begun, text) = match event {
            AnswerEvent::Thinking { text } if !text.is_empty() => {
                let goes_on = matches!(self.list.last(), Some(Part::Thinking(_)));
                ((!goes_on).then(|| Part::Thinking(String::new())), text.as_str())
            }
            AnswerEvent::Text { text, .. } if !text.is_empty() => {
                let goes_on = matches!(self.list.last(), Some(Part::Text(_)));
                ((!goes_on).then(|| Part::Text(String::new())), text.as_str())
            }
            AnswerEvent::ToolCall { id, name, .. } => {
                self.held.add(id.len() + name.len())?;
                self.calls += 1;
                (Some(Part::Call(ToolCall::new(id.as_str(), name.as_str(), ""))), "")
            }
            AnswerEvent::ToolArguments { index, text } if !text.is_empty() => {
                let is_last = matches!(self.list.last(), Some(Part::Call(_))) && index + 1 == self.calls;
                if !is_last {
                    return Ok(None);
                }
                (None, text.as_str())
            }
            _ => return Ok(None),
        };
        self.held.add(text.len() + if begun.is_some() { size_of::<Part>() } else { 0 })?;
        let begins = begun.is_some();
        self.list.extend(begun);
        if let Some(last) = self.list.last_mut() {
            last.text_mut().push_str(text);
        }
        Ok(Some(Added { begins, text }))
    }
}

/// What an event adds to the last part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Added<'a> {
    /// Whether the part begins with it.
    pub(crate) begins: bool,
    /// The text; empty where a call begins.
    pub(crate) text: &'a str,
}

/// Waits for the end of the only choice.
///
/// # Errors
/// Whatever it failed with. `Busy` when no memory is left for what it said.
pub(crate) async fn collect(
    mut choices: Choices,
    mut said: VecDeque<(usize, AnswerEvent)>,
) -> Result<(Parts, Summary), Failure> {
    let mut parts = Parts::new(choices.holds());
    while let Some((_, event)) = choices.next_after(&mut said).await {
        match event {
            AnswerEvent::Done(summary) => return Ok((parts, summary)),
            AnswerEvent::Failed(failure) => return Err(failure),
            event => {
                parts.take(&event)?;
            }
        }
    }
    Err(without_summary())
}
