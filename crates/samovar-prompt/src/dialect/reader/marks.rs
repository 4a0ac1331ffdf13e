//! Marks, and how they are met: white space before them and at their own white space counts for nothing.

use super::output::{is_of_name, is_too_long};

/// Bytes of white space within what may become a mark, at most.
const SPACED_MARK_MAX_BYTES: usize = 1024;

/// One mark of a dialect; empty where the dialect has none.
#[derive(Clone, Debug, Default)]
pub(super) struct Mark {
    /// As it is written.
    pub(super) text: String,
    /// Up to its first white space.
    first: String,
    /// Behind that, without white space.
    rest: String,
    /// All of it, without white space.
    squeezed: String,
}

impl Mark {
    pub(super) fn new(text: &str) -> Self {
        let text = text.trim();
        let mut parts = text.split_whitespace();
        let first = parts.next().unwrap_or_default().to_owned();
        let rest: String = parts.collect();
        let squeezed = first.clone() + &rest;
        Self { text: text.to_owned(), first, rest, squeezed }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.text.is_empty()
    }
}

/// Waits for one of several marks.
#[derive(Debug, Default)]
pub(super) struct Expect {
    /// What was read of it, as it was written.
    raw: String,
    /// The same without white space.
    squeezed: String,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Met {
    /// White space, or a part of a mark.
    More,
    /// The mark of this place in the list.
    Mark(usize),
    /// None of them: what was read since the white space before it.
    None(String),
}

impl Expect {
    pub(super) fn is_empty(&self) -> bool {
        self.raw.is_empty()
    }

    pub(super) fn step(&mut self, c: char, marks: &[&Mark]) -> Met {
        self.step_texts(c, marks.iter().map(|mark| mark.squeezed.as_str()))
    }

    /// What was read of a mark, as it was written.
    pub(super) fn take_raw(&mut self) -> String {
        self.squeezed.clear();
        std::mem::take(&mut self.raw)
    }

    fn step_texts<'m>(&mut self, c: char, marks: impl Iterator<Item = &'m str>) -> Met {
        if c.is_whitespace() {
            if self.raw.is_empty() {
                return Met::More;
            }
            self.raw.push(c);
            let is_long = self.raw.len() > SPACED_MARK_MAX_BYTES;
            return if is_long { Met::None(self.take_raw()) } else { Met::More };
        }
        self.raw.push(c);
        self.squeezed.push(c);
        let mut is_begun = false;
        for (place, mark) in marks.enumerate().filter(|(_, mark)| !mark.is_empty()) {
            if mark == self.squeezed {
                return Met::Mark(place);
            }
            is_begun |= mark.starts_with(&self.squeezed);
        }
        if is_begun { Met::More } else { Met::None(self.take_raw()) }
    }
}

/// Reads text up to a mark: a tool's name, or that of an argument.
#[derive(Debug, Default)]
pub(super) struct NameReader {
    pub(super) name: String,
    /// What may be the beginning of the mark.
    tail: String,
    /// Only the mark, or its rest, may follow.
    ending: Option<Ending>,
}

#[derive(Debug)]
struct Ending {
    expect: Expect,
    is_rest: bool,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Named {
    More,
    /// The name is known, and its mark was read.
    Known,
    /// The name is known; this character follows it.
    KnownBefore,
    /// It is no name: what is to be read otherwise.
    No(String),
}

impl NameReader {
    pub(super) fn step(&mut self, c: char, after: &Mark) -> Named {
        if let Some(Ending { expect, is_rest }) = &mut self.ending {
            let wanted = if *is_rest { &after.rest } else { &after.squeezed };
            return match expect.step_texts(c, std::iter::once(wanted.as_str())) {
                Met::More => Named::More,
                Met::Mark(_) => Named::Known,
                Met::None(raw) => Named::No(raw),
            };
        }
        if c.is_whitespace() && self.tail.is_empty() {
            if self.name.is_empty() {
                return Named::More;
            }
            if after.is_empty() {
                return Named::Known;
            }
            self.ending = Some(Ending { expect: Expect::default(), is_rest: false });
            return Named::More;
        }
        if after.is_empty() {
            return self.take_last(c);
        }
        self.tail.push(c);
        loop {
            if self.tail == after.first {
                self.tail.clear();
                if after.rest.is_empty() {
                    return Named::Known;
                }
                self.ending = Some(Ending { expect: Expect::default(), is_rest: true });
                return Named::More;
            }
            if after.first.starts_with(&self.tail) {
                return Named::More;
            }
            let first = self.tail.remove(0);
            self.name.push(first);
            if !is_of_name(first) || is_too_long(&self.name) {
                self.name.pop();
                self.tail.insert(0, first);
                return Named::No(std::mem::take(&mut self.tail));
            }
        }
    }

    /// A character where the name has no mark behind it.
    fn take_last(&mut self, c: char) -> Named {
        if is_of_name(c) {
            self.name.push(c);
            return if is_too_long(&self.name) { Named::No(String::new()) } else { Named::More };
        }
        if self.name.is_empty() { Named::No(c.to_string()) } else { Named::KnownBefore }
    }
}

/// Reads text up to a mark, and says it character by character as soon as it cannot be the mark.
#[derive(Debug, Default)]
pub(super) struct Until {
    tail: String,
    rest: Option<Expect>,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Reached {
    More,
    Mark,
    /// The mark's beginning was read, but something else than its rest follows.
    Broken(String),
}

impl Until {
    pub(super) fn step(&mut self, c: char, mark: &Mark, mut say: impl FnMut(char)) -> Reached {
        if let Some(expect) = &mut self.rest {
            return match expect.step_texts(c, std::iter::once(mark.rest.as_str())) {
                Met::More => Reached::More,
                Met::Mark(_) => Reached::Mark,
                Met::None(raw) => Reached::Broken(raw),
            };
        }
        self.tail.push(c);
        while !self.tail.is_empty() {
            if self.tail == mark.first {
                self.tail.clear();
                if mark.rest.is_empty() {
                    return Reached::Mark;
                }
                self.rest = Some(Expect::default());
                return Reached::More;
            }
            if mark.first.starts_with(&self.tail) {
                return Reached::More;
            }
            say(self.tail.remove(0));
        }
        Reached::More
    }
}
