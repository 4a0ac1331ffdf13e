//! YAML as JSON values, within bounds: of depth, of values, and of what anchors may multiply. Nothing is included from elsewhere.

use std::collections::BTreeMap;

use saphyr_parser::{Event, Parser, ScalarStyle};
use serde_json::{Map, Value};

/// Mappings and lists within each other.
const DEPTH_MAX: usize = 64;
/// Values of a document, each counted as often as it is repeated by an anchor.
const VALUES_MAX: usize = 100_000;
/// Bytes of all its texts, counted alike.
const TEXT_MAX_BYTES: usize = 8 << 20;
/// The key under which a mapping takes in others.
const MERGE: &str = "<<";

/// Reads the first document of a text.
///
/// # Errors
/// A clause about the text, with the line.
pub(crate) fn parse(text: &str) -> Result<Value, String> {
    let mut parser = Parser::new_from_str(text);
    let mut loader = Loader::default();
    while let Some(event) = parser.next_event() {
        let (event, span) = event.map_err(|error| on_line(error.marker().line(), error.info()))?;
        if matches!(event, Event::DocumentEnd) {
            break;
        }
        loader.take(event).map_err(|reason| on_line(span.start.line(), &reason))?;
    }
    Ok(loader.done.unwrap_or(Value::Null))
}

fn on_line(line: usize, reason: &str) -> String {
    format!("cannot be read: line {line}: {reason}")
}

/// A mapping or list that has not ended.
enum Open {
    List { anchor: usize, items: Vec<Value> },
    Mapping { anchor: usize, entries: Vec<(String, Value)>, key: Option<String> },
}

struct Loader {
    open: Vec<Open>,
    anchors: BTreeMap<usize, Value>,
    values_left: usize,
    bytes_left: usize,
    done: Option<Value>,
}

impl Default for Loader {
    fn default() -> Self {
        Self {
            open: Vec::new(),
            anchors: BTreeMap::new(),
            values_left: VALUES_MAX,
            bytes_left: TEXT_MAX_BYTES,
            done: None,
        }
    }
}

impl Loader {
    fn take(&mut self, event: Event<'_>) -> Result<(), String> {
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                self.charge(1, text.len())?;
                if let Some(Open::Mapping { key: key @ None, .. }) = self.open.last_mut() {
                    if anchor > 0 {
                        self.anchors.insert(anchor, Value::String(text.to_string()));
                    }
                    *key = Some(text.into_owned());
                    return Ok(());
                }
                let is_plain = style == ScalarStyle::Plain && tag.is_none();
                let value = if is_plain { plain(&text) } else { Value::String(text.into_owned()) };
                self.put(value, anchor)
            }
            Event::SequenceStart(anchor, _) => self.begin(Open::List { anchor, items: Vec::new() }),
            Event::MappingStart(anchor, _) => {
                self.begin(Open::Mapping { anchor, entries: Vec::new(), key: None })
            }
            Event::SequenceEnd | Event::MappingEnd => match self.open.pop() {
                Some(Open::List { anchor, items }) => self.put(Value::Array(items), anchor),
                Some(Open::Mapping { anchor, entries, .. }) => self.put(mapping(entries)?, anchor),
                None => Err("ends what did not begin".to_owned()),
            },
            Event::Alias(anchor) => {
                let value = self.anchors.get(&anchor).ok_or("an anchor refers to itself")?.clone();
                self.charge_all(&value)?;
                if let (Some(Open::Mapping { key: key @ None, .. }), Value::String(text)) =
                    (self.open.last_mut(), &value)
                {
                    *key = Some(text.clone());
                    return Ok(());
                }
                self.put(value, 0)
            }
            _ => Ok(()),
        }
    }

    fn begin(&mut self, open: Open) -> Result<(), String> {
        if self.open.len() == DEPTH_MAX {
            return Err(format!("more than {DEPTH_MAX} mappings and lists lie within each other"));
        }
        if matches!(self.open.last(), Some(Open::Mapping { key: None, .. })) {
            return Err("a key is no text".to_owned());
        }
        self.charge(1, 0)?;
        self.open.push(open);
        Ok(())
    }

    /// A whole value, into what is open.
    fn put(&mut self, value: Value, anchor: usize) -> Result<(), String> {
        if anchor > 0 {
            // It is kept a second time.
            self.charge_all(&value)?;
            self.anchors.insert(anchor, value.clone());
        }
        match self.open.last_mut() {
            None => self.done = Some(value),
            Some(Open::List { items, .. }) => items.push(value),
            Some(Open::Mapping { entries, key, .. }) => {
                let name = key.take().ok_or("a key is no text")?;
                entries.push((name, value));
            }
        }
        Ok(())
    }

    fn charge(&mut self, values: usize, bytes: usize) -> Result<(), String> {
        let left = (self.values_left.checked_sub(values), self.bytes_left.checked_sub(bytes));
        let (Some(values_left), Some(bytes_left)) = left else {
            return Err(format!(
                "there are more than {VALUES_MAX} values, or {TEXT_MAX_BYTES} bytes of text; repeated ones count each time"
            ));
        };
        (self.values_left, self.bytes_left) = (values_left, bytes_left);
        Ok(())
    }

    fn charge_all(&mut self, value: &Value) -> Result<(), String> {
        match value {
            Value::String(text) => self.charge(1, text.len()),
            Value::Array(items) => {
                self.charge(1, 0)?;
                items.iter().try_for_each(|item| self.charge_all(item))
            }
            Value::Object(entries) => {
                self.charge(1, 0)?;
                entries.iter().try_for_each(|(name, value)| {
                    self.charge(0, name.len())?;
                    self.charge_all(value)
                })
            }
            _ => self.charge(1, 0),
        }
    }
}

/// The mapping of these entries, with the mappings that it takes in where it says nothing itself.
fn mapping(entries: Vec<(String, Value)>) -> Result<Value, String> {
    let mut map = Map::new();
    let mut merged = Vec::new();
    for (name, value) in entries {
        if name == MERGE {
            merged.push(value);
        } else if map.contains_key(&name) {
            return Err(format!("{name:?} is there twice"));
        } else {
            map.insert(name, value);
        }
    }
    for value in merged {
        merge(&mut map, value)?;
    }
    Ok(Value::Object(map))
}

fn merge(map: &mut Map<String, Value>, value: Value) -> Result<(), String> {
    match value {
        Value::Object(other) => {
            for (name, value) in other {
                map.entry(name).or_insert(value);
            }
            Ok(())
        }
        Value::Array(others) if others.iter().all(Value::is_object) => {
            others.into_iter().try_for_each(|other| merge(map, other))
        }
        _ => Err(format!("{MERGE} takes in what is no mapping")),
    }
}

/// What a text without quotes means.
fn plain(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => Value::Null,
        "true" | "True" | "TRUE" => Value::Bool(true),
        "false" | "False" | "FALSE" => Value::Bool(false),
        _ => number(text).unwrap_or_else(|| Value::String(text.to_owned())),
    }
}

fn number(text: &str) -> Option<Value> {
    if let Ok(whole) = text.parse::<i64>() {
        return Some(Value::from(whole));
    }
    let begins = text.trim_start_matches(['-', '+']);
    if !begins.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
        return None;
    }
    text.parse::<f64>().ok().filter(|number| number.is_finite()).map(Value::from)
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use serde_json::json;

    use super::*;

    #[test]
    fn documents_become_values() {
        let text = "a: 1\nb: [x, 'y', 2.5, true, ~, \"7\"]\nc:\n  cmd: |\n    one\n    two\n  folded: >\n    one\n    two\n";
        let expected = json!({
            "a": 1, "b": ["x", "y", 2.5, true, null, "7"], "c": { "cmd": "one\ntwo\n", "folded": "one two\n" },
        });
        assert_eq!(parse(text).expect("valid"), expected);
        assert_eq!(parse("").expect("empty"), Value::Null);
        assert_eq!(parse("a: 1\n---\nb: 2\n").expect("two"), json!({ "a": 1 }));
        assert_eq!(parse("v: 1.10.2\nh: -hf\n").expect("texts"), json!({ "v": "1.10.2", "h": "-hf" }));
    }

    #[test]
    fn anchors_and_merges_are_understood() {
        let text = "base: &base { ttl: 60, env: [A=1] }\nm:\n  <<: *base\n  ttl: 5\nl: *base\n";
        let base = json!({ "ttl": 60, "env": ["A=1"] });
        let expected = json!({ "base": base, "m": { "ttl": 5, "env": ["A=1"] }, "l": base });
        assert_eq!(parse(text).expect("valid"), expected);
    }

    #[test]
    fn what_is_wrong_or_multiplies_is_refused_with_its_line() {
        let reason = |text: &str| parse(text).expect_err("refused");
        assert!(reason("a: 1\na: 2\n").contains("twice"));
        assert!(reason("a: [1\nb: 2\n").starts_with("cannot be read: line "));
        assert!(reason("[a]: 1\n").contains("a key is no text"));
        assert!(reason("a: &a [*a]\n").contains("itself"));
        assert!(reason("x: *none\n").starts_with("cannot be read: line 1: "));
        assert!(reason(&format!("{}{}", "[".repeat(200), "]".repeat(200))).contains("within each other"));
        let mut laughs = "a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol]\n".to_owned();
        for level in 1..9 {
            let before = format!("*a{}", level - 1);
            let items = vec![before; 9].join(", ");
            _ = writeln!(laughs, "a{level}: &a{level} [{items}]");
        }
        assert!(reason(&laughs).contains("more than 100000 values"));
        let text = format!("a: &a {}\nb: [{}]\n", "x".repeat(1 << 16), vec!["*a"; 999].join(", "));
        assert!(reason(&text).contains("bytes of text"));
    }
}
