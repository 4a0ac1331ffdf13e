//! The calls in an answer: where one begins, where it ends, and what follows it.

use super::{Call, Scanner, State};
use crate::dialect::reader::json::JsonCall;
use crate::dialect::reader::marks::{Expect, Mark, Met};
use crate::dialect::reader::named::NamedCall;
use crate::dialect::reader::output::Output;
use crate::dialect::reader::python::PythonCall;
use crate::dialect::reader::syntax::{AnswerSyntax, Shape};
use crate::dialect::reader::tagged::TaggedCall;
use crate::dialect::reader::{HELD_MAX_BYTES, Progress, Scene};

impl Scanner {
    /// From here on, what is read may be a call, or text.
    pub(super) fn attempt(&mut self, mark: &str) {
        if !self.skips_blank {
            self.held.push_str(&self.blank);
        }
        self.blank.clear();
        self.held.push_str(mark);
        self.group_before = self.group;
        self.is_said = false;
    }

    /// It is none: what was held is text, but for its end, which is read again.
    fn give_up(&mut self, again: &str, out: &mut Output) {
        let mut held = std::mem::take(&mut self.held);
        held.truncate(held.len().saturating_sub(again.len()));
        let said = held.trim_end();
        if !said.is_empty() {
            out.text(said);
            (self.is_fresh, self.is_line_start, self.skips_blank) = (false, false, false);
        }
        self.blank.push_str(&held[said.len()..]);
        self.group = self.group_before;
        self.state = State::Text;
        self.again.extend(again.chars().rev());
    }

    pub(super) fn seek(&mut self, c: char, syntax: &AnswerSyntax, out: &mut Output) {
        self.held.push(c);
        if self.held.len() > HELD_MAX_BYTES {
            return self.give_up("", out);
        }
        let State::Seek(expect) = &mut self.state else { return };
        let needs_each = syntax.each.is_some() && !self.group.is_in_each;
        let each = syntax.each.as_ref().filter(|_| needs_each).map(|each| &each.open);
        if let Some(mark) = each.or(syntax.shape.before_name()) {
            match expect.step(c, &[mark]) {
                Met::More => {}
                Met::None(again) => self.give_up(&again, out),
                Met::Mark(_) if needs_each => {
                    self.group.is_in_each = true;
                    self.state = State::Seek(Expect::default());
                }
                Met::Mark(_) => self.state = State::Call(self.new_call(syntax)),
            }
            return;
        }
        if c.is_whitespace() {
            return;
        }
        let may_be_array = matches!(syntax.shape, Shape::Json(_) | Shape::Python);
        if c == '[' && may_be_array && !self.group.is_in_array {
            self.group.is_in_array = true;
            return;
        }
        match &syntax.shape {
            Shape::Json(_) if c != '{' => self.give_up(c.encode_utf8(&mut [0; 4]), out),
            Shape::Json(_) => self.state = State::Call(self.new_call(syntax)),
            Shape::Python | Shape::Named(_) | Shape::Tagged(_) => {
                // Its first character is a part of its name.
                self.held.pop();
                self.again.push(c);
                self.state = State::Call(self.new_call(syntax));
            }
        }
    }

    pub(super) fn new_call(&self, syntax: &AnswerSyntax) -> Call {
        match &syntax.shape {
            Shape::Json(_) => Call::Json(JsonCall::new(!self.group.is_in_all && !self.group.is_in_each)),
            Shape::Named(_) => Call::Named(NamedCall::new()),
            Shape::Tagged(_) => Call::Tagged(TaggedCall::new()),
            Shape::Python => Call::Python(PythonCall::new()),
        }
    }

    pub(super) fn in_call(&mut self, c: char, syntax: &AnswerSyntax, out: &mut Output) {
        if !self.is_said {
            self.held.push(c);
        }
        let close = syntax.close(self.group).unwrap_or(&self.nothing);
        let calls_before = out.calls();
        let mut scene = Scene { out: &mut *out, tools: &syntax.tools, close };
        let State::Call(call) = &mut self.state else { return };
        let progress = match (call, &syntax.shape) {
            (Call::Json(call), Shape::Json(fields)) => call.step(c, fields, &mut scene),
            (Call::Named(call), Shape::Named(marks)) => call.step(c, marks, &mut scene),
            (Call::Tagged(call), Shape::Tagged(marks)) => call.step(c, marks, &mut scene),
            (Call::Python(call), _) => call.step(c, &mut scene),
            // A syntax has one shape.
            _ => Progress::Ended(c.to_string()),
        };
        if out.calls() > calls_before {
            self.is_said = true;
            self.held.clear();
        }
        if syntax.is_single && out.has_whole_call() {
            self.state = State::Done;
            return;
        }
        match progress {
            Progress::More if self.held.len() > HELD_MAX_BYTES => self.give_up("", out),
            Progress::More => {}
            Progress::Ended(again) if !self.is_said => self.give_up(&again, out),
            Progress::Whole => self.go_behind(out),
            Progress::Ended(again) => {
                self.go_behind(out);
                self.again.extend(again.chars().rev());
            }
        }
    }

    fn go_behind(&mut self, out: &mut Output) {
        out.end_call();
        self.held.clear();
        self.come_behind();
        self.state = State::Behind(Expect::default());
    }

    pub(super) fn behind(&mut self, c: char, syntax: &AnswerSyntax) {
        let State::Behind(expect) = &mut self.state else { return };
        if expect.is_empty() {
            if c.is_whitespace() {
                return;
            }
            if self.group.is_in_array && matches!(c, ',' | ']') {
                if c == ']' {
                    self.group.is_in_array = false;
                } else {
                    self.attempt(",");
                    self.state = State::Seek(Expect::default());
                }
                return;
            }
            // Some models write objects one behind the other.
            let has_own_marks = syntax.each.is_some() && !self.group.is_in_each;
            if c == '{' && matches!(syntax.shape, Shape::Json(_)) && !has_own_marks {
                self.attempt("");
                self.state = State::Seek(Expect::default());
                self.again.push(c);
                return;
            }
        }
        let choices = syntax.behind_a_call(self.group);
        let marks: Vec<&Mark> = choices.iter().map(|(mark, _)| *mark).collect();
        match expect.step(c, &marks) {
            Met::More => {}
            Met::Mark(place) => {
                let raw = expect.take_raw();
                self.enter(choices[place].1, &raw, syntax);
            }
            Met::None(again) => {
                self.state = State::Text;
                self.again.extend(again.chars().rev());
            }
        }
    }
}
