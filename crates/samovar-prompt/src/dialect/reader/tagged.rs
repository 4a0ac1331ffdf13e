//! A call as a name in plain text and each argument between marks. Its arguments become JSON as they arrive: a value is
//! a string, or JSON, as the tool's schema says.

use serde_json::Value as Json;

use super::marks::{Expect, Mark, Met, NameReader, Named, Reached, Until};
use super::raw::{escape, quoted};
use super::tools::Kinds;
use super::{HELD_MAX_BYTES, Progress, Scene};

/// The marks of such a call.
#[derive(Clone, Debug)]
pub(super) struct TaggedMarks {
    pub(super) before_name: Mark,
    pub(super) after_name: Mark,
    pub(super) before_key: Mark,
    pub(super) after_key: Mark,
    pub(super) after_value: Mark,
    pub(super) after_arguments: Mark,
}

#[derive(Debug)]
pub(super) struct TaggedCall {
    name: NameReader,
    place: TaggedPlace,
    is_said: bool,
    /// Names of the arguments so far: only the first of each counts.
    keys: Vec<String>,
}

#[derive(Debug)]
enum TaggedPlace {
    Name,
    /// An argument, or the end.
    Next(Expect),
    Key(NameReader),
    Value(Until, Value),
}

impl TaggedCall {
    /// From behind the mark before its name.
    pub(super) fn new() -> Self {
        Self { name: NameReader::default(), place: TaggedPlace::Name, is_said: false, keys: Vec::new() }
    }

    pub(super) fn step(&mut self, c: char, marks: &TaggedMarks, scene: &mut Scene<'_>) -> Progress {
        match &mut self.place {
            TaggedPlace::Name => match self.name.step(c, &marks.after_name) {
                Named::More => Progress::More,
                Named::Known => self.next(),
                Named::KnownBefore => {
                    self.next();
                    self.step(c, marks, scene)
                }
                Named::No(again) => Progress::Ended(again),
            },
            TaggedPlace::Next(expect) => {
                match expect.step(c, &[&marks.before_key, &marks.after_arguments, scene.close]) {
                    Met::More => Progress::More,
                    Met::None(again) => {
                        if self.is_said {
                            close(scene);
                        }
                        Progress::Ended(again)
                    }
                    Met::Mark(place) => {
                        let raw = expect.take_raw();
                        if !self.is_said && !self.say(scene) {
                            return Progress::Ended(raw);
                        }
                        if place == 0 {
                            self.place = TaggedPlace::Key(NameReader::default());
                            return Progress::More;
                        }
                        close(scene);
                        if place == 1 { Progress::Whole } else { Progress::Ended(raw) }
                    }
                }
            }
            TaggedPlace::Key(reader) => match reader.step(c, &marks.after_key) {
                Named::More => Progress::More,
                Named::No(again) => {
                    close(scene);
                    Progress::Ended(again)
                }
                known => {
                    let key = std::mem::take(&mut reader.name);
                    self.begin_value(key, scene);
                    if known == Named::Known { Progress::More } else { self.step(c, marks, scene) }
                }
            },
            TaggedPlace::Value(until, value) => {
                let out = &mut *scene.out;
                let take = |c| value.take(c, &mut |piece: &str| out.arguments(piece));
                match until.step(c, &marks.after_value, take) {
                    Reached::More => Progress::More,
                    Reached::Mark => {
                        value.end(&mut |piece: &str| scene.out.arguments(piece));
                        self.next()
                    }
                    Reached::Broken(again) => {
                        value.end(&mut |piece: &str| scene.out.arguments(piece));
                        close(scene);
                        Progress::Ended(again)
                    }
                }
            }
        }
    }

    fn next(&mut self) -> Progress {
        self.place = TaggedPlace::Next(Expect::default());
        Progress::More
    }

    /// Says that the call begins; false where it cannot be one.
    fn say(&mut self, scene: &mut Scene<'_>) -> bool {
        self.is_said = scene.out.begin(scene.tools.meant(&self.name.name));
        if self.is_said {
            scene.out.arguments("{");
        }
        self.is_said
    }

    fn begin_value(&mut self, key: String, scene: &mut Scene<'_>) {
        let tool = scene.tools.meant(&self.name.name);
        let kinds = scene.tools.kinds(tool, &key);
        let is_again = self.keys.contains(&key) || self.keys.len() == ARGUMENTS_MAX;
        if !is_again {
            let comma = if self.keys.is_empty() { "" } else { ", " };
            scene.out.arguments(&format!("{comma}{}: ", quoted(&key)));
            self.keys.push(key);
        }
        let mut value = Value::new(kinds, is_again);
        if kinds.is_text() {
            value.open(&mut |piece: &str| scene.out.arguments(piece));
        }
        self.place = TaggedPlace::Value(Until::default(), value);
    }
}

fn close(scene: &mut Scene<'_>) {
    scene.out.arguments("}");
    scene.out.end_call();
}

/// Arguments of one call at most.
const ARGUMENTS_MAX: usize = 1024;

/// The value of one argument, between its marks. One line break at each end belongs to the marks.
#[derive(Debug)]
#[allow(clippy::struct_excessive_bools, reason = "independent facts about what was read")]
struct Value {
    kinds: Kinds,
    /// A name was used a second time: nothing is said.
    is_dropped: bool,
    /// It is said as a string, as it arrives.
    is_open: bool,
    is_begun: bool,
    begins_with_break: bool,
    /// A line break that may be the last character.
    has_break: bool,
    /// What may be JSON.
    held: String,
}

impl Value {
    fn new(kinds: Kinds, is_dropped: bool) -> Self {
        let held = String::new();
        Self {
            kinds,
            is_dropped,
            is_open: false,
            is_begun: false,
            begins_with_break: false,
            has_break: false,
            held,
        }
    }

    fn open(&mut self, say: &mut dyn FnMut(&str)) {
        self.is_open = true;
        if !self.is_dropped {
            say("\"");
        }
    }

    fn take(&mut self, c: char, say: &mut dyn FnMut(&str)) {
        if !std::mem::replace(&mut self.is_begun, true) && c == '\n' {
            self.begins_with_break = true;
            return;
        }
        if std::mem::take(&mut self.has_break) {
            self.put('\n', say);
        }
        if c == '\n' && self.begins_with_break {
            self.has_break = true;
        } else {
            self.put(c, say);
        }
    }

    fn put(&mut self, c: char, say: &mut dyn FnMut(&str)) {
        if self.is_open {
            let mut piece = String::new();
            escape(c, &mut piece);
            if !self.is_dropped {
                say(&piece);
            }
            return;
        }
        self.held.push(c);
        if self.held.len() > HELD_MAX_BYTES {
            // Too long to be looked at as a whole.
            self.open(say);
            for c in std::mem::take(&mut self.held).chars() {
                self.put(c, say);
            }
        }
    }

    fn end(&mut self, say: &mut dyn FnMut(&str)) {
        if self.is_dropped {
            return;
        }
        if self.is_open {
            say("\"");
            return;
        }
        let held = std::mem::take(&mut self.held);
        let written = match held.trim() {
            "True" => "true",
            "False" => "false",
            "None" => "null",
            other => other,
        };
        let json = serde_json::from_str::<Json>(written).ok().filter(|json| self.kinds.takes(json));
        match json {
            Some(_) => say(written),
            None => say(&quoted(&held)),
        }
    }
}
