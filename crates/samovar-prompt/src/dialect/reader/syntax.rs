//! The syntax of an answer: the marks of a dialect, made ready, and which of them may come where.

use samovar_core::{Chat, Failure, ToolChoice};

use super::json::Fields;
use super::marks::Mark;
use super::named::NamedMarks;
use super::scanner::Group;
use super::tagged::TaggedMarks;
use super::tools::{self, Tools};
use crate::dialect::{Calls, Dialect, Form, Marks};

/// Llama 3 writes calls with and without this mark.
const OPTIONAL_MARK: &str = "<|python_tag|>";

/// What a reader looks for in an answer to one request.
#[derive(Debug)]
#[allow(clippy::struct_excessive_bools, reason = "independent facts about the dialect and the request")]
pub(super) struct AnswerSyntax {
    pub(super) all: Option<Around>,
    pub(super) each: Option<Around>,
    between: Mark,
    pub(super) shape: Shape,
    think: Option<Around>,
    pub(super) tools: Tools,
    looks_for_calls: bool,
    /// One call ends the answer.
    pub(super) is_single: bool,
    is_array: bool,
    /// A call may begin without a mark.
    is_bare: bool,
}

#[derive(Debug)]
pub(super) struct Around {
    pub(super) open: Mark,
    pub(super) close: Mark,
}

#[derive(Debug)]
pub(super) enum Shape {
    Json(Fields),
    Named(NamedMarks),
    Tagged(Box<TaggedMarks>),
    Python,
}

/// What follows a mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// A thought.
    Think,
    /// Text, behind a thought.
    Text,
    /// All calls.
    OpenAll,
    /// One call.
    OpenEach,
    /// The name of a call.
    Name,
    /// Another call.
    Between,
    /// The end of one call.
    CloseEach,
    /// The end of all.
    CloseAll,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    Mark(Next),
    /// The beginning of a mark.
    Part,
    Nothing,
}

impl AnswerSyntax {
    /// # Errors
    /// `InvalidRequest` where the tools cannot be read.
    pub(super) fn new(dialect: &Dialect, chat: &Chat) -> Result<Self, Failure> {
        let tools = chat.tools.as_deref().map(tools::read).transpose()?.unwrap_or_default();
        let tools = Tools::new(&tools);
        let looks_for_calls = !tools.is_empty() && chat.tool_choice != ToolChoice::None;
        let Calls { around_all, around_each, between, form } = &dialect.calls;
        let around = |marks: Option<&Marks>| {
            let marks = marks.filter(|marks| looks_for_calls && !marks.open.trim().is_empty());
            marks.map(Around::new)
        };
        let (all, each) = (around(around_all.as_ref()), around(around_each.as_ref()));
        let shape = Shape::new(form);
        let is_optional = [&all, &each].into_iter().flatten().any(|around| around.open.text == OPTIONAL_MARK);
        let has_marks = all.is_some() || each.is_some() || shape.before_name().is_some();
        Ok(Self {
            all,
            each,
            between: Mark::new(between),
            shape,
            think: dialect.thinking.as_ref().filter(|marks| !marks.open.trim().is_empty()).map(Around::new),
            tools,
            looks_for_calls,
            is_single: !dialect.takes_several_calls(chat),
            is_array: matches!(form, Form::Json { is_array: true, .. }),
            is_bare: looks_for_calls && (is_optional || !has_marks),
        })
    }

    pub(super) fn looks_for_calls(&self) -> bool {
        self.looks_for_calls
    }

    pub(super) fn thinks(&self) -> bool {
        self.think.is_some()
    }

    /// Every text of this answer is text.
    pub(super) fn has_no_marks(&self) -> bool {
        !self.looks_for_calls && self.think.is_none()
    }

    /// What closes a thought, where something does.
    pub(super) fn thinking_close(&self) -> Option<&Mark> {
        self.think.as_ref().map(|think| &think.close).filter(|close| !close.is_empty())
    }

    /// Whether a call without marks may begin with this character.
    pub(super) fn begins_bare(&self, c: char) -> bool {
        self.is_bare
            && match &self.shape {
                Shape::Json(_) => c == '{' || (c == '[' && self.is_array),
                Shape::Python => c == '[',
                Shape::Named(_) | Shape::Tagged(_) => false,
            }
    }

    /// What a part of the text is, outside of thoughts and calls.
    pub(super) fn find(&self, text: &str, group: Group, is_line_start: bool) -> Found {
        let think = self.think.as_ref().filter(|_| is_line_start);
        let think = think.map(|think| (&think.open, Next::Think)).into_iter();
        // Marks that close calls, where something stands between a call and them.
        let closing = self.closing(group).into_iter().flatten();
        found(text, self.opening(group).chain(think).chain(closing))
    }

    /// What a part of a thought is. `has_begun`: something has been thought.
    pub(super) fn find_in_thought(&self, text: &str, has_begun: bool) -> Found {
        let Some(think) = &self.think else { return Found::Nothing };
        let again = (!has_begun).then_some((&think.open, Next::Think)).into_iter();
        if think.close.is_empty() {
            return found(text, self.opening(Group::default()).chain(again));
        }
        found(text, std::iter::once((&think.close, Next::Text)).chain(again))
    }

    /// The marks that may follow a call.
    pub(super) fn behind_a_call(&self, group: Group) -> Vec<(&Mark, Next)> {
        let [close_each, close_all] = self.closing(group);
        let mut marks: Vec<_> = close_each.into_iter().collect();
        if marks.is_empty() {
            marks.push((&self.between, Next::Between));
            marks.extend(close_all);
            marks.extend(self.opening(group));
            marks.extend(self.think.as_ref().map(|think| (&think.open, Next::Think)));
        }
        marks
    }

    /// What closes the innermost marks that are open.
    pub(super) fn close(&self, group: Group) -> Option<&Mark> {
        self.closing(group).into_iter().flatten().map(|(mark, _)| mark).next()
    }

    fn closing(&self, group: Group) -> [Option<(&Mark, Next)>; 2] {
        let each = self.each.as_ref().filter(|each| group.is_in_each && !each.close.is_empty());
        let all = self.all.as_ref().filter(|all| group.is_in_all && !all.close.is_empty());
        [each.map(|each| (&each.close, Next::CloseEach)), all.map(|all| (&all.close, Next::CloseAll))]
    }

    /// The marks with which calls begin. What stands before a name is one of them where no mark must come before it, or
    /// where that one is open: all calls are within one pair of marks.
    fn opening(&self, group: Group) -> impl Iterator<Item = (&Mark, Next)> {
        let all = self.all.as_ref().map(|all| (&all.open, Next::OpenAll));
        let each = self.each.as_ref().map(|each| (&each.open, Next::OpenEach));
        let is_first = self.looks_for_calls && each.is_none() && (all.is_none() || group.is_in_all);
        let name = self.shape.before_name().filter(|_| is_first).map(|mark| (mark, Next::Name));
        [all, each, name].into_iter().flatten()
    }
}

fn found<'m>(text: &str, marks: impl Iterator<Item = (&'m Mark, Next)>) -> Found {
    let mut found = Found::Nothing;
    for (mark, next) in marks {
        if mark.text == text {
            return Found::Mark(next);
        }
        if mark.text.starts_with(text) {
            found = Found::Part;
        }
    }
    found
}

impl Around {
    fn new(marks: &Marks) -> Self {
        Self { open: Mark::new(&marks.open), close: Mark::new(&marks.close) }
    }
}

impl Shape {
    fn new(form: &Form) -> Self {
        match form {
            Form::Json { name, arguments, id, inside, .. } => Self::Json(Fields {
                name: name.clone(),
                arguments: arguments.clone(),
                id: id.clone(),
                inside: inside.clone(),
            }),
            Form::Named { before_name, after_name, after_arguments } => Self::Named(NamedMarks {
                before_name: Mark::new(before_name),
                after_name: Mark::new(after_name),
                after_arguments: Mark::new(after_arguments),
            }),
            Form::Tagged { before_name, after_name, before_key, after_key, after_value, after_arguments } => {
                Self::Tagged(Box::new(TaggedMarks {
                    before_name: Mark::new(before_name),
                    after_name: Mark::new(after_name),
                    before_key: Mark::new(before_key),
                    after_key: Mark::new(after_key),
                    after_value: Mark::new(after_value),
                    after_arguments: Mark::new(after_arguments),
                }))
            }
            // Harmony has a reader of its own.
            Form::Python | Form::Harmony => Self::Python,
        }
    }

    /// What stands before a name, where something does.
    pub(super) fn before_name(&self) -> Option<&Mark> {
        let mark = match self {
            Self::Named(marks) => &marks.before_name,
            Self::Tagged(marks) => &marks.before_name,
            Self::Json(_) | Self::Python => return None,
        };
        Some(mark).filter(|mark| !mark.is_empty())
    }
}
