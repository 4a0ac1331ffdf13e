//! Values in a JSON file that people write: comments, order and spaces stay, and so do commas after the last value.

use serde_json::{Map, Value};

use super::Edit;

/// Objects and lists within each other.
const DEPTH_MAX: usize = 64;

pub(super) fn apply(before: &str, edits: &[Edit]) -> Result<String, String> {
    let mut text = if before.trim().is_empty() { "{}\n".to_owned() } else { before.to_owned() };
    for edit in edits {
        text = match edit {
            Edit::Set(path, value) => set(&text, path, value, |_| true)?,
            Edit::Secret(path, stand_in) => set(&text, path, &Value::from(*stand_in), is_stand_in)?,
            Edit::Needed(..) | Edit::Item(..) => text,
        };
    }
    // What is written can be read again.
    JsonReader::new(&text).whole()?;
    Ok(text)
}

/// Whether a value, as it is written, has no secret yet.
fn is_stand_in(written: &str) -> bool {
    serde_json::from_str::<String>(written).is_ok_and(|text| super::is_stand_in(&text))
}

/// The text with a value at a path; one that is there already stays unless it `may_go`.
fn set(text: &str, path: &[&str], value: &Value, may_go: impl Fn(&str) -> bool) -> Result<String, String> {
    let root = JsonReader::new(text).whole()?;
    let mut node = &root;
    for (depth, key) in path.iter().enumerate() {
        let NodeShape::Object(members) = &node.shape else {
            let place =
                if depth == 0 { "the file".to_owned() } else { format!("`{}`", path[..depth].join(".")) };
            return Err(format!("is not as expected: {place} is no object"));
        };
        // Of several, the last counts.
        let Some(member) = members.iter().rfind(|member| member.key == *key) else {
            return Ok(inserted(text, node, members, key, &nested(&path[depth + 1..], value)));
        };
        node = &member.value;
        if depth + 1 == path.len() && may_go(&text[node.start..node.end]) {
            let indent = indent_of(text, member.at);
            return Ok(format!("{}{}{}", &text[..node.start], pretty(value, indent), &text[node.end..]));
        }
    }
    Ok(text.to_owned())
}

/// A value below these keys.
fn nested(path: &[&str], value: &Value) -> Value {
    path.iter().rev().fold(value.clone(), |inner, key| {
        let mut outer = Map::new();
        outer.insert((*key).to_owned(), inner);
        Value::Object(outer)
    })
}

/// The text with one more member of an object, after those that it has.
fn inserted(text: &str, object: &Node, members: &[Member], key: &str, value: &Value) -> String {
    let name = Value::from(key);
    match members.last() {
        Some(last) if text[object.start..last.at].contains('\n') => {
            let indent = indent_of(text, last.at);
            let end = last.value.end;
            format!("{},\n{indent}{name}: {}{}", &text[..end], pretty(value, indent), &text[end..])
        }
        Some(last) => {
            let end = last.value.end;
            format!("{}, {name}: {value}{}", &text[..end], &text[end..])
        }
        None => {
            let outer = indent_of(text, object.start);
            let inner = format!("{outer}  ");
            let begin = object.start + 1;
            // What stands in it now are spaces or comments.
            let rest = text[begin..].trim_start_matches([' ', '\t', '\r', '\n']);
            format!("{}\n{inner}{name}: {}\n{outer}{rest}", &text[..begin], pretty(value, &inner))
        }
    }
}

fn pretty(value: &Value, indent: &str) -> String {
    let text = serde_json::to_string_pretty(value).unwrap_or_default();
    text.replace('\n', &format!("\n{indent}"))
}

/// The spaces at the beginning of a place's line.
fn indent_of(text: &str, at: usize) -> &str {
    let line = &text[text[..at].rfind('\n').map_or(0, |end| end + 1)..];
    &line[..line.len() - line.trim_start_matches([' ', '\t']).len()]
}

/// A value's place in the text.
struct Node {
    start: usize,
    end: usize,
    shape: NodeShape,
}

enum NodeShape {
    Object(Vec<Member>),
    Other,
}

struct Member {
    key: String,
    /// Where its key begins.
    at: usize,
    value: Node,
}

struct JsonReader<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> JsonReader<'a> {
    fn new(text: &'a str) -> Self {
        // A mark of the byte order is not a part of it.
        Self { text, at: if text.starts_with('\u{feff}') { '\u{feff}'.len_utf8() } else { 0 } }
    }

    fn whole(mut self) -> Result<Node, String> {
        let node = self.value(0)?;
        self.skip()?;
        if self.at < self.text.len() { Err(self.wrong("more than one value")) } else { Ok(node) }
    }

    fn wrong(&self, reason: &str) -> String {
        let line = self.text[..self.at].matches('\n').count() + 1;
        format!("is no JSON: line {line}: {reason}")
    }

    fn peek(&self) -> Option<char> {
        self.text[self.at..].chars().next()
    }

    fn take(&mut self, wanted: char) -> bool {
        let is_there = self.peek() == Some(wanted);
        if is_there {
            self.at += wanted.len_utf8();
        }
        is_there
    }

    /// Goes past spaces and comments.
    fn skip(&mut self) -> Result<(), String> {
        loop {
            let rest = &self.text[self.at..];
            let spaces = rest.len() - rest.trim_start().len();
            self.at += spaces;
            let rest = &self.text[self.at..];
            if rest.starts_with("//") {
                self.at += rest.find('\n').unwrap_or(rest.len());
            } else if rest.starts_with("/*") {
                self.at += rest.find("*/").ok_or_else(|| self.wrong("a comment does not end"))? + 2;
            } else if spaces == 0 {
                return Ok(());
            }
        }
    }

    fn value(&mut self, depth: usize) -> Result<Node, String> {
        if depth > DEPTH_MAX {
            return Err(self.wrong("too many objects and lists within each other"));
        }
        self.skip()?;
        let start = self.at;
        let shape = match self.peek() {
            Some('{') => self.object(depth)?,
            Some('[') => self.list(depth)?,
            Some('"') => {
                self.string()?;
                NodeShape::Other
            }
            _ => {
                let rest = &self.text[self.at..];
                let word = rest.find(|c: char| !(c.is_ascii_alphanumeric() || "+-.".contains(c)));
                let word = &rest[..word.unwrap_or(rest.len())];
                if serde_json::from_str::<Value>(word).is_err() {
                    return Err(self.wrong("a value is missing"));
                }
                self.at += word.len();
                NodeShape::Other
            }
        };
        Ok(Node { start, end: self.at, shape })
    }

    fn object(&mut self, depth: usize) -> Result<NodeShape, String> {
        self.take('{');
        let mut members = Vec::new();
        loop {
            self.skip()?;
            if self.take('}') {
                return Ok(NodeShape::Object(members));
            }
            let at = self.at;
            let key = self.string()?;
            self.skip()?;
            if !self.take(':') {
                return Err(self.wrong("a key has no value"));
            }
            let value = self.value(depth + 1)?;
            members.push(Member { key, at, value });
            self.skip()?;
            if !self.take(',') && self.peek() != Some('}') {
                return Err(self.wrong("an object does not end"));
            }
        }
    }

    fn list(&mut self, depth: usize) -> Result<NodeShape, String> {
        self.take('[');
        loop {
            self.skip()?;
            if self.take(']') {
                return Ok(NodeShape::Other);
            }
            self.value(depth + 1)?;
            self.skip()?;
            if !self.take(',') && self.peek() != Some(']') {
                return Err(self.wrong("a list does not end"));
            }
        }
    }

    fn string(&mut self) -> Result<String, String> {
        let start = self.at;
        if !self.take('"') {
            return Err(self.wrong("a text in quotes is missing"));
        }
        while let Some(next) = self.peek() {
            self.at += next.len_utf8();
            match next {
                '"' => {
                    return serde_json::from_str(&self.text[start..self.at])
                        .map_err(|_| self.wrong("a text is not written as JSON wants it"));
                }
                '\\' => self.at += self.peek().map_or(0, char::len_utf8),
                _ => {}
            }
        }
        Err(self.wrong("a text does not end"))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn with(before: &str, path: &[&'static str], value: Value) -> Result<String, String> {
        apply(before, &[Edit::Set(path.to_vec(), value)])
    }

    #[test]
    fn a_new_file_has_the_settings_alone() {
        let text = with("", &["a", "b"], json!({ "c": [1] })).expect("valid");
        assert_eq!(text, "{\n  \"a\": {\n    \"b\": {\n      \"c\": [\n        1\n      ]\n    }\n  }\n}\n");
        let again = with(&text, &["a", "b"], json!({ "c": [1] })).expect("valid");
        assert_eq!(again, text);
    }

    #[test]
    fn what_people_wrote_stays() {
        let before = "// mine\n{\n  /* theme */ \"theme\": \"One\", // good\n  \"env\": { \"A\": \"1\" },\n  \"x\": [1, 2,],\n}\n";
        let after = with(before, &["env", "B"], "2".into()).expect("valid");
        assert_eq!(after, before.replace("{ \"A\": \"1\" }", "{ \"A\": \"1\", \"B\": \"2\" }"));
        let after = with(&after, &["env", "A"], "3".into()).expect("valid");
        assert!(after.contains("{ \"A\": \"3\", \"B\": \"2\" }"), "{after}");
        let after = with(before, &["new", "b"], true.into()).expect("valid");
        let added = "\"x\": [1, 2,],\n  \"new\": {\n    \"b\": true\n  },\n}\n";
        assert!(after.ends_with(added) && after.starts_with("// mine\n{\n  /* theme */"), "{after}");
    }

    #[test]
    fn what_is_no_object_is_refused() {
        for (text, reason) in [
            ("[1]", "the file is no object"),
            ("{\"a\": 1}", "`a` is no object"),
            ("{\"a\": ", "line 1: a value is missing"),
            ("{\n\"a\" 1}", "line 2: a key has no value"),
            ("{} {}", "more than one value"),
            ("{\"a", "a text does not end"),
            ("/* x", "a comment does not end"),
        ] {
            let error = with(text, &["a", "b"], Value::Null).expect_err(text);
            assert!(error.contains(reason), "{text}: {error}");
        }
        let deep = format!("{{\"a\": {}{}}}", "[".repeat(99), "]".repeat(99));
        assert!(with(&deep, &["a", "b"], Value::Null).expect_err("deep").contains("within each other"));
    }
}
