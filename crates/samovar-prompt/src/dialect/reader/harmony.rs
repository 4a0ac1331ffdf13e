//! Channels and recipients, as gpt-oss writes them: `analysis` is thought, a message to `functions.NAME` is a call, and
//! every other message is text. What is written without a channel is text, too.

use super::output::Output;
use super::raw::{Passed, Raw};
use super::syntax::AnswerSyntax;

const CHANNEL: &str = "<|channel|>";
const START: &str = "<|start|>";
const MESSAGE: &str = "<|message|>";
/// Every mark that ends a message; the first two begin another.
const ENDS: [&str; 5] = [CHANNEL, START, "<|end|>", "<|return|>", "<|call|>"];
const RECIPIENT: &str = "to=";
/// Bytes of what stands before a message at most.
const HEADER_MAX_BYTES: usize = 1024;
/// Its marks, also where no token is only one of them.
pub(super) const MARKS: [&str; 7] =
    [CHANNEL, START, MESSAGE, "<|end|>", "<|return|>", "<|call|>", "<|constrain|>"];
/// What ends a thought.
pub(super) const THINKING_END: &str = "<|end|>";
/// The same, and what begins the answer.
pub(super) const THINKING_CLOSE: &str = "<|end|><|start|>assistant<|channel|>final<|message|>";

#[derive(Debug)]
pub(super) struct Harmony {
    state: State,
    /// What may become a mark.
    tail: String,
    /// A header, and what follows it until a call is said.
    held: String,
    again: Vec<char>,
}

#[derive(Debug)]
enum State {
    /// Before a message. `is_start`: at the beginning of the answer, where text may stand without a header.
    Header {
        is_start: bool,
    },
    Text,
    Thinking,
    /// Before the arguments of a call.
    Seek(String),
    Call(Raw),
    Behind,
    Done,
}

impl Harmony {
    pub(super) fn new(opens_thinking: bool) -> Self {
        let state = if opens_thinking { State::Thinking } else { State::Header { is_start: true } };
        Self { state, tail: String::new(), held: String::new(), again: Vec::new() }
    }

    pub(super) fn is_thinking(&self) -> bool {
        matches!(self.state, State::Thinking)
    }

    pub(super) fn is_in_text(&self) -> bool {
        match &self.state {
            State::Text => true,
            State::Header { is_start } => *is_start && self.held.is_empty(),
            _ => false,
        }
    }

    pub(super) fn is_done(&self) -> bool {
        matches!(self.state, State::Done)
    }

    pub(super) fn read(&mut self, c: char, syntax: &AnswerSyntax, out: &mut Output) {
        self.again.push(c);
        while let Some(c) = self.again.pop() {
            self.step(c, syntax, out);
        }
    }

    pub(super) fn end(&mut self, out: &mut Output) {
        match std::mem::replace(&mut self.state, State::Done) {
            State::Thinking => out.thinking(&self.tail),
            State::Text | State::Behind => out.text(&self.tail),
            // A header without its message says nothing.
            State::Header { .. } if self.held.trim_start().starts_with("<|") => {}
            State::Header { .. } | State::Seek(_) => out.text(&self.held),
            State::Call(_) | State::Done => {}
        }
    }

    fn step(&mut self, c: char, syntax: &AnswerSyntax, out: &mut Output) {
        match &mut self.state {
            State::Header { is_start } => {
                let is_start = *is_start;
                self.held.push(c);
                let said = self.held.trim_start();
                if self.held.ends_with(MESSAGE) {
                    self.begin_message(syntax);
                } else if self.held.len() > HEADER_MAX_BYTES || (is_start && !may_be_header(said)) {
                    self.give_up(out);
                }
            }
            State::Text | State::Thinking => {
                let is_thinking = self.is_thinking();
                self.tail.push(c);
                while !self.tail.is_empty() {
                    if let Some(place) = ENDS.iter().position(|end| *end == self.tail) {
                        return self.end_message(place);
                    }
                    if ENDS.iter().any(|end| end.starts_with(&self.tail)) {
                        return;
                    }
                    let first = self.tail.remove(0);
                    let mut bytes = [0; 4];
                    let first = first.encode_utf8(&mut bytes);
                    if is_thinking { out.thinking(first) } else { out.text(first) }
                }
            }
            State::Seek(name) => {
                self.held.push(c);
                let is_first = c == '{';
                if !is_first && c.is_whitespace() && self.held.len() <= HEADER_MAX_BYTES {
                    return;
                }
                if !is_first || !out.begin(name) {
                    return self.give_up(out);
                }
                self.held.clear();
                out.arguments("{");
                self.state = State::Call(Raw::Nested { depth: 1, is_in_string: false, is_escaped: false });
            }
            State::Call(raw) => {
                let passed = raw.step(c, Some('<'));
                if passed != Passed::Behind {
                    out.arguments(c.encode_utf8(&mut [0; 4]));
                }
                if passed == Passed::More {
                    return;
                }
                out.end_call();
                self.state = if syntax.is_single { State::Done } else { State::Behind };
                if passed == Passed::Behind {
                    self.again.push(c);
                }
            }
            State::Behind => {
                if self.tail.is_empty() && c.is_whitespace() {
                    return;
                }
                self.tail.push(c);
                if let Some(place) = ENDS.iter().position(|end| *end == self.tail) {
                    self.end_message(place);
                } else if !ENDS.iter().any(|end| end.starts_with(&self.tail)) {
                    self.state = State::Text;
                    self.again.extend(std::mem::take(&mut self.tail).chars().rev());
                }
            }
            State::Done => {}
        }
    }

    /// Behind one of [`ENDS`].
    fn end_message(&mut self, place: usize) {
        self.tail.clear();
        self.state = State::Behind;
        if place < 2 {
            self.held.clear();
            self.held.push_str(ENDS[place]);
            self.state = State::Header { is_start: false };
        }
    }

    fn begin_message(&mut self, syntax: &AnswerSyntax) {
        let recipient = self.held.split_once(RECIPIENT).map(|(_, name)| name);
        let recipient = recipient.and_then(|name| name.split(|c: char| c.is_whitespace() || c == '<').next());
        let recipient = recipient.filter(|_| syntax.looks_for_calls());
        if let Some(name) = recipient {
            // What cannot be said is found out when the call would be.
            let name = name.strip_prefix("functions.").unwrap_or(name).to_owned();
            self.state = State::Seek(name);
            return;
        }
        let channel = self.held.split_once(CHANNEL).map_or("", |(_, channel)| channel).trim_start();
        self.state = if channel.starts_with("analysis") { State::Thinking } else { State::Text };
        self.held.clear();
    }

    fn give_up(&mut self, out: &mut Output) {
        out.text(&std::mem::take(&mut self.held));
        self.state = State::Text;
    }
}

/// Whether a header, or its beginning, is written like this.
fn may_be_header(said: &str) -> bool {
    [RECIPIENT, CHANNEL, START, MESSAGE]
        .iter()
        .any(|begin| begin.starts_with(said) || said.starts_with(begin))
}
