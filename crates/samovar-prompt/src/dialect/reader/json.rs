//! A call as a JSON object: its name and its arguments are fields, in any order.

use super::output::{Output, is_too_long};
use super::raw::{Passed, Raw, Unescape};
use super::{Progress, Scene};

/// What both kinds of models call the arguments, whatever their template says.
const ARGUMENTS: [&str; 2] = ["arguments", "parameters"];

/// Which fields a call has.
#[derive(Clone, Debug)]
pub(super) struct Fields {
    pub(super) name: String,
    pub(super) arguments: String,
    pub(super) id: Option<String>,
    pub(super) inside: Option<String>,
}

impl Fields {
    fn is_arguments(&self, key: &str) -> bool {
        key == self.arguments || ARGUMENTS.contains(&key)
    }

    fn is_inside(&self, key: &str) -> bool {
        self.inside.as_deref() == Some(key)
    }

    /// Whether a call has this field.
    fn has(&self, key: &str) -> bool {
        let is_other = ["id", "type"].contains(&key) || self.id.as_deref() == Some(key);
        is_other || key == self.name || self.is_arguments(key) || self.is_inside(key)
    }
}

#[derive(Debug)]
#[allow(clippy::struct_excessive_bools, reason = "independent facts about what was read")]
pub(super) struct JsonCall {
    /// No mark stands before it: any other object may be meant.
    is_bare: bool,
    /// Read within the field that holds the others.
    is_inside: bool,
    place: JsonPlace,
    key: String,
    name: Option<String>,
    /// Arguments that came before the name.
    early: String,
    /// All arguments have been read.
    has_arguments: bool,
    is_said: bool,
}

#[derive(Debug)]
enum JsonPlace {
    /// A key, or the object's end.
    Key,
    InKey(Unescape),
    Colon,
    Value,
    InName(Unescape, String),
    Arguments(Raw),
    /// Arguments as text that is JSON.
    Text {
        unescape: Unescape,
        has_begun: bool,
    },
    /// The value of another field.
    Other(Raw),
    /// A comma, or the object's end.
    Next,
}

impl JsonCall {
    /// From behind its opening brace.
    pub(super) fn new(is_bare: bool) -> Self {
        Self {
            is_bare,
            is_inside: false,
            place: JsonPlace::Key,
            key: String::new(),
            name: None,
            early: String::new(),
            has_arguments: false,
            is_said: false,
        }
    }

    pub(super) fn step(&mut self, c: char, fields: &Fields, scene: &mut Scene<'_>) -> Progress {
        let is_space = c.is_whitespace();
        match &mut self.place {
            JsonPlace::Key | JsonPlace::Colon | JsonPlace::Value | JsonPlace::Next if is_space => {
                Progress::More
            }
            JsonPlace::Key => match c {
                '"' => {
                    self.key.clear();
                    self.go(JsonPlace::InKey(Unescape::default()))
                }
                '}' => self.end(c, scene),
                _ => ended(c),
            },
            JsonPlace::InKey(unescape) => {
                if !unescape.step(c, &mut self.key) {
                    return if is_too_long(&self.key) {
                        Progress::Ended(String::new())
                    } else {
                        Progress::More
                    };
                }
                if self.is_bare && !fields.has(&self.key) {
                    return Progress::Ended(String::new());
                }
                self.go(JsonPlace::Colon)
            }
            JsonPlace::Colon => {
                if c == ':' {
                    self.go(JsonPlace::Value)
                } else {
                    ended(c)
                }
            }
            JsonPlace::Value => self.begin_value(c, fields, scene),
            JsonPlace::InName(unescape, name) => {
                if !unescape.step(c, name) {
                    return if is_too_long(name) { Progress::Ended(String::new()) } else { Progress::More };
                }
                self.name = Some(scene.tools.meant(name).to_owned());
                if self.has_arguments && !self.say_early(scene.out) {
                    return Progress::Ended(String::new());
                }
                self.go(JsonPlace::Next)
            }
            JsonPlace::Arguments(raw) => match raw.step(c, scene.stop()) {
                Passed::Behind => ended(c),
                passed => {
                    self.argue(c.encode_utf8(&mut [0; 4]), scene.out);
                    if passed == Passed::Last { self.end_arguments(scene.out) } else { Progress::More }
                }
            },
            JsonPlace::Text { unescape, has_begun } => {
                let (mut piece, mut has_begun_now) = (String::new(), *has_begun);
                let is_end = unescape.step(c, &mut piece);
                if !has_begun_now {
                    piece = piece.trim_start().to_owned();
                    has_begun_now = !piece.is_empty();
                    if has_begun_now && !piece.starts_with(['{', '[']) {
                        return Progress::Ended(String::new());
                    }
                }
                let begins = has_begun_now && !*has_begun;
                *has_begun = has_begun_now;
                if begins && !self.begin_arguments(scene.out) {
                    return Progress::Ended(String::new());
                }
                self.argue(&piece, scene.out);
                match (is_end, has_begun_now) {
                    (false, _) => Progress::More,
                    (true, true) => self.end_arguments(scene.out),
                    (true, false) => self.go(JsonPlace::Next),
                }
            }
            JsonPlace::Other(raw) => match raw.step(c, scene.stop()) {
                Passed::More => Progress::More,
                Passed::Last => self.go(JsonPlace::Next),
                Passed::Behind => {
                    self.place = JsonPlace::Next;
                    self.step(c, fields, scene)
                }
            },
            JsonPlace::Next => match c {
                ',' => self.go(JsonPlace::Key),
                '}' => self.end(c, scene),
                _ => ended(c),
            },
        }
    }

    fn go(&mut self, place: JsonPlace) -> Progress {
        self.place = place;
        Progress::More
    }

    fn begin_value(&mut self, c: char, fields: &Fields, scene: &mut Scene<'_>) -> Progress {
        if fields.is_inside(&self.key) && c == '{' && !self.is_inside {
            self.is_inside = true;
            return self.go(JsonPlace::Key);
        }
        if self.key == fields.name && self.name.is_none() {
            let is_text = c == '"';
            return if is_text {
                self.go(JsonPlace::InName(Unescape::default(), String::new()))
            } else {
                ended(c)
            };
        }
        let Some(raw) = Raw::begin(c) else { return ended(c) };
        if !fields.is_arguments(&self.key) || self.is_said || self.has_arguments {
            return self.go(JsonPlace::Other(raw));
        }
        match raw {
            Raw::Nested { .. } => {
                if !self.begin_arguments(scene.out) {
                    return ended(c);
                }
                self.argue(c.encode_utf8(&mut [0; 4]), scene.out);
                self.go(JsonPlace::Arguments(raw))
            }
            Raw::Text { .. } => self.go(JsonPlace::Text { unescape: Unescape::default(), has_begun: false }),
            // No arguments: the call is said at the end of the object.
            Raw::Word if c == 'n' => self.go(JsonPlace::Other(raw)),
            Raw::Word => ended(c),
        }
    }

    /// False where it cannot be a call.
    fn begin_arguments(&mut self, out: &mut Output) -> bool {
        if let Some(name) = &self.name {
            self.is_said = out.begin(name);
            return self.is_said;
        }
        true
    }

    fn argue(&mut self, piece: &str, out: &mut Output) {
        if self.is_said {
            out.arguments(piece);
        } else {
            self.early.push_str(piece);
        }
    }

    fn end_arguments(&mut self, out: &mut Output) -> Progress {
        self.has_arguments = true;
        if self.is_said {
            out.end_call();
        }
        self.go(JsonPlace::Next)
    }

    /// Says the whole call; false where it cannot be one.
    fn say_early(&mut self, out: &mut Output) -> bool {
        if !self.begin_arguments(out) {
            return false;
        }
        out.arguments(&std::mem::take(&mut self.early));
        out.end_call();
        true
    }

    /// At the end of an object.
    fn end(&mut self, c: char, scene: &mut Scene<'_>) -> Progress {
        if self.is_inside {
            self.is_inside = false;
            return self.go(JsonPlace::Next);
        }
        if self.is_said {
            return Progress::Whole;
        }
        let Some(name) = self.name.as_deref().filter(|name| !self.is_bare || scene.tools.has(name)) else {
            return ended(c);
        };
        if !scene.out.begin(name) {
            return ended(c);
        }
        scene.out.arguments("{}");
        scene.out.end_call();
        Progress::Whole
    }
}

/// This character is not what a call would have here.
fn ended(c: char) -> Progress {
    Progress::Ended(c.to_string())
}
