//! Tells text, thoughts and calls apart by marks, character by character: what it says depends on the text alone, never on
//! how the text was cut.

mod calls;

use super::json::JsonCall;
use super::marks::{Expect, Mark};
use super::named::NamedCall;
use super::output::Output;
use super::python::PythonCall;
use super::syntax::{AnswerSyntax, Found, Next};
use super::tagged::TaggedCall;

/// White space that is held back because a mark may follow, at most.
const BLANK_MAX_BYTES: usize = 1024;

#[derive(Debug)]
#[allow(clippy::struct_excessive_bools, reason = "independent facts about what was read")]
pub(super) struct Scanner {
    state: State,
    /// White space that is no part of the text if a mark follows.
    blank: String,
    /// It is no part of the text at all: it follows a thought or a call.
    skips_blank: bool,
    /// What may become a mark.
    tail: String,
    /// What was read of a call that is not yet said, as it was written: text, if it is none.
    held: String,
    /// A call of this attempt has been said.
    is_said: bool,
    /// Nothing but white space has been said since the beginning, a thought or a call.
    is_fresh: bool,
    /// The text so far ends with a line break.
    is_line_start: bool,
    /// Inside which marks the next character is.
    group: Group,
    /// The same before the call that is not yet said.
    group_before: Group,
    /// Characters that are to be read again, the last one first.
    again: Vec<char>,
    nothing: Mark,
}

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Group {
    pub(super) is_in_all: bool,
    pub(super) is_in_each: bool,
    is_in_array: bool,
}

#[derive(Debug)]
enum State {
    Text,
    Thinking {
        has_begun: bool,
    },
    /// Behind a mark: a call begins, or there is none.
    Seek(Expect),
    Call(Call),
    /// Behind a call: another one, the end of a mark, or text.
    Behind(Expect),
    /// What follows is of no interest.
    Done,
}

#[derive(Debug)]
enum Call {
    Json(JsonCall),
    Named(NamedCall),
    Tagged(TaggedCall),
    Python(PythonCall),
}

impl Scanner {
    pub(super) fn new(opens_thinking: bool) -> Self {
        let state = if opens_thinking { State::Thinking { has_begun: false } } else { State::Text };
        Self {
            state,
            blank: String::new(),
            skips_blank: false,
            tail: String::new(),
            held: String::new(),
            is_said: false,
            is_fresh: true,
            is_line_start: true,
            group: Group::default(),
            group_before: Group::default(),
            again: Vec::new(),
            nothing: Mark::default(),
        }
    }

    pub(super) fn is_thinking(&self) -> bool {
        matches!(self.state, State::Thinking { .. })
    }

    /// White space behind a thought or a call is not of the text.
    pub(super) fn is_in_text(&self) -> bool {
        matches!(self.state, State::Text) && !self.skips_blank
    }

    pub(super) fn is_done(&self) -> bool {
        matches!(self.state, State::Done)
    }

    pub(super) fn read(&mut self, c: char, syntax: &AnswerSyntax, out: &mut Output) {
        self.again.push(c);
        while let Some(c) = self.again.pop() {
            match &self.state {
                State::Text if syntax.has_no_marks() => out.text(c.encode_utf8(&mut [0; 4])),
                State::Text => self.in_text(c, syntax, out),
                State::Thinking { .. } => self.in_thought(c, syntax, out),
                State::Seek(_) => self.seek(c, syntax, out),
                State::Call(_) => self.in_call(c, syntax, out),
                State::Behind(_) => self.behind(c, syntax),
                State::Done => {}
            }
        }
    }

    /// The answer is at its end: what was held back is what it was until now.
    pub(super) fn end(&mut self, out: &mut Output) {
        match std::mem::replace(&mut self.state, State::Done) {
            State::Thinking { .. } => {
                out.thinking(&self.blank);
                out.thinking(&self.tail);
            }
            State::Text => {
                if !self.skips_blank {
                    out.text(&self.blank);
                }
                out.text(&self.tail);
            }
            State::Seek(_) | State::Call(_) => out.text(&self.held),
            // What closes a call may have been cut.
            State::Behind(_) if self.group.is_in_all || self.group.is_in_each => {}
            State::Behind(mut expect) => out.text(&expect.take_raw()),
            State::Done => {}
        }
    }

    fn in_text(&mut self, c: char, syntax: &AnswerSyntax, out: &mut Output) {
        if self.tail.is_empty() {
            if c.is_whitespace() {
                self.blank.push(c);
                if self.blank.len() > BLANK_MAX_BYTES {
                    self.say_blank(out);
                }
                return;
            }
            if self.is_fresh && syntax.begins_bare(c) {
                self.attempt("");
                self.group = Group::default();
                self.state = State::Seek(Expect::default());
                self.again.push(c);
                return;
            }
        }
        self.tail.push(c);
        while !self.tail.is_empty() {
            let is_line_start = self.is_fresh || self.is_line_start || self.blank.contains('\n');
            match syntax.find(&self.tail, self.group, is_line_start) {
                Found::Mark(next) => {
                    let mark = std::mem::take(&mut self.tail);
                    return self.enter(next, &mark, syntax);
                }
                Found::Part => return,
                Found::Nothing => {
                    let first = self.tail.remove(0);
                    self.say(first, out);
                }
            }
        }
    }

    /// Says a character of the text, and the white space before it.
    fn say(&mut self, c: char, out: &mut Output) {
        if c.is_whitespace() {
            self.blank.push(c);
            return;
        }
        self.say_blank(out);
        out.text(c.encode_utf8(&mut [0; 4]));
        (self.is_fresh, self.is_line_start, self.skips_blank) = (false, false, false);
    }

    fn say_blank(&mut self, out: &mut Output) {
        if !self.skips_blank {
            out.text(&self.blank);
            self.is_line_start |= self.blank.contains('\n');
        }
        self.blank.clear();
    }

    /// Behind a mark that was met outside of a call.
    fn enter(&mut self, next: Next, mark: &str, syntax: &AnswerSyntax) {
        match next {
            Next::Think => {
                self.blank.clear();
                self.state = State::Thinking { has_begun: false };
                return;
            }
            Next::CloseEach | Next::CloseAll => {
                self.group.is_in_each = false;
                self.group.is_in_all &= next == Next::CloseEach;
                self.state = State::Behind(Expect::default());
                self.come_behind();
                return;
            }
            _ => self.attempt(mark),
        }
        match next {
            Next::OpenAll => {
                self.group = Group { is_in_all: true, ..Group::default() };
                self.state = State::Seek(Expect::default());
            }
            Next::OpenEach => {
                (self.group.is_in_each, self.group.is_in_array) = (true, false);
                self.state = State::Seek(Expect::default());
            }
            Next::Name => self.state = State::Call(self.new_call(syntax)),
            _ => self.state = State::Seek(Expect::default()),
        }
    }

    fn come_behind(&mut self) {
        self.blank.clear();
        (self.is_fresh, self.skips_blank) = (true, true);
    }

    fn in_thought(&mut self, c: char, syntax: &AnswerSyntax, out: &mut Output) {
        let State::Thinking { mut has_begun } = self.state else { return };
        if self.tail.is_empty() && c.is_whitespace() {
            if has_begun {
                self.blank.push(c);
                if self.blank.len() > BLANK_MAX_BYTES {
                    out.thinking(&std::mem::take(&mut self.blank));
                }
            }
            return;
        }
        self.tail.push(c);
        while !self.tail.is_empty() {
            match syntax.find_in_thought(&self.tail, has_begun) {
                Found::Mark(Next::Think) => {
                    // The model wrote the opening mark again.
                    self.tail.clear();
                    return;
                }
                Found::Mark(next) => {
                    let mark = std::mem::take(&mut self.tail);
                    self.come_behind();
                    self.state = State::Text;
                    if next != Next::Text {
                        self.enter(next, &mark, syntax);
                    }
                    return;
                }
                Found::Part => return,
                Found::Nothing => {
                    let first = self.tail.remove(0);
                    if first.is_whitespace() {
                        self.blank.push(first);
                    } else {
                        out.thinking(&std::mem::take(&mut self.blank));
                        out.thinking(first.encode_utf8(&mut [0; 4]));
                    }
                    has_begun = true;
                    self.state = State::Thinking { has_begun };
                }
            }
        }
    }
}
