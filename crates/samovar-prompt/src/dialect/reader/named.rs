//! A call as a name in plain text and its arguments as JSON.

use super::marks::{Expect, Mark, Met, NameReader, Named};
use super::raw::{Passed, Raw};
use super::{Progress, Scene};

/// Bytes of an id between the mark behind a name and the arguments, at most.
const SKIPPED_MAX_BYTES: usize = 128;

/// The marks of such a call.
#[derive(Clone, Debug)]
pub(super) struct NamedMarks {
    pub(super) before_name: Mark,
    pub(super) after_name: Mark,
    pub(super) after_arguments: Mark,
}

#[derive(Debug)]
pub(super) struct NamedCall {
    name: NameReader,
    place: NamedPlace,
    /// Bytes between the mark behind the name and the arguments.
    skipped_bytes: usize,
}

#[derive(Debug)]
enum NamedPlace {
    Name,
    /// The arguments, or an end without any.
    Open(Expect),
    Arguments(Raw),
    End(Expect),
}

impl NamedCall {
    /// From behind the mark before its name.
    pub(super) fn new() -> Self {
        Self { name: NameReader::default(), place: NamedPlace::Name, skipped_bytes: 0 }
    }

    pub(super) fn step(&mut self, c: char, marks: &NamedMarks, scene: &mut Scene<'_>) -> Progress {
        match &mut self.place {
            NamedPlace::Name => match self.name.step(c, &marks.after_name) {
                Named::More => Progress::More,
                Named::Known => {
                    self.place = NamedPlace::Open(Expect::default());
                    Progress::More
                }
                Named::KnownBefore => {
                    self.place = NamedPlace::Open(Expect::default());
                    self.step(c, marks, scene)
                }
                Named::No(again) => Progress::Ended(again),
            },
            NamedPlace::Open(expect) => {
                if c == '{' && expect.is_empty() {
                    if !scene.out.begin(scene.tools.meant(&self.name.name)) {
                        return Progress::Ended(c.to_string());
                    }
                    scene.out.arguments("{");
                    let raw = Raw::Nested { depth: 1, is_in_string: false, is_escaped: false };
                    self.place = NamedPlace::Arguments(raw);
                    return Progress::More;
                }
                match expect.step(c, &[&marks.after_arguments, scene.close]) {
                    Met::More => Progress::More,
                    Met::None(again) => self.skip(again, marks, scene),
                    Met::Mark(place) => {
                        let raw = expect.take_raw();
                        if !scene.out.begin(scene.tools.meant(&self.name.name)) {
                            return Progress::Ended(raw);
                        }
                        scene.out.arguments("{}");
                        scene.out.end_call();
                        if place == 0 { Progress::Whole } else { Progress::Ended(raw) }
                    }
                }
            }
            NamedPlace::Arguments(raw) => {
                let first = marks.after_arguments.text.chars().next();
                let stop = first.filter(|c| !is_of_json(*c)).or(scene.stop());
                let passed = raw.step(c, stop);
                if passed != Passed::Behind {
                    scene.out.arguments(c.encode_utf8(&mut [0; 4]));
                }
                if passed == Passed::More {
                    return Progress::More;
                }
                scene.out.end_call();
                self.place = NamedPlace::End(Expect::default());
                if passed == Passed::Behind {
                    return self.step(c, marks, scene);
                }
                if marks.after_arguments.is_empty() { Progress::Whole } else { Progress::More }
            }
            NamedPlace::End(expect) => match expect.step(c, &[&marks.after_arguments]) {
                Met::More => Progress::More,
                Met::Mark(_) => Progress::Whole,
                Met::None(again) => Progress::Ended(again),
            },
        }
    }
}

impl NamedCall {
    /// What stands before the arguments and is none of the marks: an id, where the dialect has a mark before it.
    fn skip(&mut self, read: String, marks: &NamedMarks, scene: &mut Scene<'_>) -> Progress {
        let mut rest = read.chars();
        let first = rest.next();
        self.skipped_bytes += first.map_or(0, char::len_utf8);
        if marks.after_name.is_empty() || self.skipped_bytes > SKIPPED_MAX_BYTES {
            return Progress::Ended(read);
        }
        while let Some(c) = rest.next() {
            match self.step(c, marks, scene) {
                Progress::More => {}
                Progress::Whole if rest.as_str().is_empty() => return Progress::Whole,
                Progress::Whole => return Progress::Ended(rest.as_str().to_owned()),
                Progress::Ended(again) => return Progress::Ended(again + rest.as_str()),
            }
        }
        Progress::More
    }
}

/// Whether JSON may have this character outside of its strings.
pub(super) fn is_of_json(c: char) -> bool {
    c.is_ascii_alphanumeric() || c.is_whitespace() || "{}[],:\"+-.".contains(c)
}
