//! A response as server-sent events, numbered from 0.
//!
//! ```text
//!   response.created, response.in_progress
//!     response.output_item.added                                    reasoning │ message │ function_call
//!       response.content_part.added │ response.reasoning_summary_part.added
//!       response.reasoning_text.delta │ …reasoning_summary_text… │ …output_text… │ …function_call_arguments…, and its .done
//!       response.content_part.done │ response.reasoning_summary_part.done
//!     response.output_item.done
//!   response.completed │ response.incomplete │ response.failed
//! ```
//!
//! A stream that has nothing to say for a second says in a comment what it waits for.

use samovar::AnswerEvent;
use samovar_core::Failure;
use serde_json::{Map, Value, json};

use super::object::{Frame, Status, item_word};
use crate::generation::event_stream::{EventWriter, comment, named};
use crate::generation::parts::{Part, Parts};
use crate::generation::phase::AnswerPhase;

/// How often the end of an item and that of the response say a text again, beside what is kept of it.
const SAID_AGAIN: usize = 4;

/// Turns events into bytes.
#[derive(Debug)]
pub(super) struct Writer {
    frame: Frame,
    /// What was said; the last part is the one that is being written.
    said: Parts,
    is_open: bool,
    is_over: bool,
    /// The number of the next event.
    sequence: u64,
    bytes: Vec<u8>,
}

/// How the events of a part's text are called.
struct Words {
    /// The event of the text.
    text: &'static str,
    /// The event around it, where it has one.
    around: Option<&'static str>,
    /// The field that counts the texts of an item, all of which have one.
    index: Option<&'static str>,
}

impl EventWriter for Writer {
    fn write(&mut self, _index: usize, event: AnswerEvent) {
        let outcome = match event {
            AnswerEvent::Done(summary) => {
                self.end(&Status::Ended(summary.finish, summary.usage));
                Ok(())
            }
            AnswerEvent::Failed(failure) => Err(failure),
            event => self.part(&event),
        };
        if let Err(failure) = outcome {
            self.end(&Status::Failed(failure));
        }
    }

    fn wait(&mut self, phase: &AnswerPhase) {
        comment(&mut self.bytes, phase);
    }

    fn is_over(&self) -> bool {
        self.is_over
    }

    fn bytes(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }
}

impl Writer {
    /// A response that begins. What it says is kept in `said` until its end, which says it again.
    pub(super) fn new(frame: Frame, said: Parts) -> Self {
        let mut writer = Self { frame, said, is_open: false, is_over: false, sequence: 0, bytes: Vec::new() };
        for name in ["response.created", "response.in_progress"] {
            let response = writer.frame.response(&Status::InProgress, Vec::new());
            writer.event(name, [("response", response)]);
        }
        writer
    }

    fn part(&mut self, event: &AnswerEvent) -> Result<(), Failure> {
        let is_new = match event {
            AnswerEvent::Thinking { text } => {
                !text.is_empty() && !matches!(self.said.list.last(), Some(Part::Thinking(_)))
            }
            AnswerEvent::Text { text, .. } => {
                !text.is_empty() && !matches!(self.said.list.last(), Some(Part::Text(_)))
            }
            AnswerEvent::ToolCall { .. } => true,
            _ => false,
        };
        if is_new {
            // While its part is still the last one.
            self.close("completed");
        }
        let Some(added) = self.said.take(event)? else { return Ok(()) };
        if added.begins {
            self.open();
        }
        if !added.text.is_empty() {
            self.said.held.add(SAID_AGAIN * added.text.len())?;
            self.delta(added.text);
        }
        Ok(())
    }

    /// The part that is being written, with its place.
    fn last(&self) -> Option<(usize, &Part)> {
        let part = self.said.list.last()?;
        Some((self.said.list.len() - 1, part))
    }

    fn open(&mut self) {
        let Some((at, part)) = self.last() else { return };
        let item = self.frame.item(at, part, "in_progress", true);
        let around = self.words(part).around.map(|name| (name, self.frame.content(part, "")));
        self.is_open = true;
        self.event("response.output_item.added", [("output_index", at.into()), ("item", item)]);
        if let Some((name, part)) = around {
            self.of_item(&format!("{name}.added"), "part", part);
        }
    }

    fn delta(&mut self, text: &str) {
        let Some((_, part)) = self.last() else { return };
        let name = format!("{}.delta", self.words(part).text);
        self.of_item(&name, "delta", text.into());
    }

    /// Ends the item that is being written, if one is, with a status.
    fn close(&mut self, word: &str) {
        if !std::mem::replace(&mut self.is_open, false) {
            return;
        }
        let Some((at, part)) = self.last() else { return };
        let Words { text: name, around, .. } = self.words(part);
        let field = if matches!(part, Part::Call(_)) { "arguments" } else { "text" };
        let (text, content) = (Value::from(part.text()), self.frame.content(part, part.text()));
        let item = self.frame.item(at, part, word, false);
        self.of_item(&format!("{name}.done"), field, text);
        if let Some(name) = around {
            self.of_item(&format!("{name}.done"), "part", content);
        }
        self.event("response.output_item.done", [("output_index", at.into()), ("item", item)]);
    }

    fn end(&mut self, status: &Status) {
        // An item that is done is the client's to act upon: agents run the call, and keep the text although they ask again.
        if !matches!(status, Status::Failed(_)) {
            self.close(item_word(status, &self.frame.echo));
        }
        let output = self.frame.output(&self.said.list, status);
        let response = self.frame.response(status, output);
        let name = format!("response.{}", status.word(&self.frame.echo));
        self.event(&name, [("response", response)]);
        self.is_over = true;
    }

    fn words(&self, part: &Part) -> Words {
        let (text, around, index) = match part {
            Part::Thinking(_) if self.frame.has_summaries() => (
                "response.reasoning_summary_text",
                Some("response.reasoning_summary_part"),
                Some("summary_index"),
            ),
            Part::Thinking(_) => {
                ("response.reasoning_text", Some("response.content_part"), Some("content_index"))
            }
            Part::Text(_) => ("response.output_text", Some("response.content_part"), Some("content_index")),
            Part::Call(_) => ("response.function_call_arguments", None, None),
        };
        Words { text, around, index }
    }

    /// An event of the item that is being written, with one field of its own.
    fn of_item(&mut self, name: &str, field: &'static str, value: Value) {
        let Some((at, part)) = self.last() else { return };
        let mut fields: Vec<(&'static str, Value)> =
            vec![("item_id", self.frame.item_id(at, part).into()), ("output_index", at.into())];
        if let Some(index) = self.words(part).index {
            fields.push((index, 0.into()));
        }
        match part {
            Part::Text(_) if field != "part" => fields.push(("logprobs", json!([]))),
            Part::Call(call) if field == "arguments" => fields.push(("name", call.name.as_str().into())),
            _ => {}
        }
        fields.push((field, value));
        self.event(name, fields);
    }

    /// Writes an event. Its fields are moved into it, for they may be all that was said.
    fn event(&mut self, name: &str, fields: impl IntoIterator<Item = (&'static str, Value)>) {
        let mut event = Map::new();
        event.insert("type".to_owned(), name.into());
        event.insert("sequence_number".to_owned(), self.sequence.into());
        event.extend(fields.into_iter().map(|(field, value)| (field.to_owned(), value)));
        self.sequence += 1;
        named(&mut self.bytes, name, &event);
    }
}
