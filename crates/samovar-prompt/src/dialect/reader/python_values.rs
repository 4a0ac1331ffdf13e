//! Python's literals as JSON: strings, numbers, lists, tuples, mappings. Nothing is evaluated.

use serde_json::Value;

use super::raw::quoted;

/// How deep lists and mappings may nest.
const DEPTH_MAX: u32 = 64;

/// A literal as JSON; `None` where it is none.
pub(super) fn to_json(text: &str) -> Option<String> {
    let mut literal = Literal { rest: text, json: String::new() };
    literal.value(DEPTH_MAX)?;
    literal.rest.trim().is_empty().then_some(literal.json)
}

struct Literal<'t> {
    rest: &'t str,
    json: String,
}

impl Literal<'_> {
    fn value(&mut self, depth: u32) -> Option<()> {
        self.rest = self.rest.trim_start();
        match self.rest.chars().next()? {
            '"' | '\'' => {
                let said = self.string()?;
                self.json.push_str(&quoted(&said));
            }
            '[' => self.items(']', depth)?,
            '(' => self.items(')', depth)?,
            '{' => self.mapping(depth)?,
            _ => self.word()?,
        }
        Some(())
    }

    fn items(&mut self, close: char, depth: u32) -> Option<()> {
        let depth = depth.checked_sub(1)?;
        self.skip();
        self.json.push('[');
        let mut is_first = true;
        while !self.takes(close) {
            if !std::mem::take(&mut is_first) {
                self.takes(',').then_some(())?;
                if self.takes(close) {
                    break;
                }
                self.json.push_str(", ");
            }
            self.value(depth)?;
        }
        self.json.push(']');
        Some(())
    }

    fn mapping(&mut self, depth: u32) -> Option<()> {
        let depth = depth.checked_sub(1)?;
        self.skip();
        self.json.push('{');
        let mut is_first = true;
        while !self.takes('}') {
            if !std::mem::take(&mut is_first) {
                self.takes(',').then_some(())?;
                if self.takes('}') {
                    break;
                }
                self.json.push_str(", ");
            }
            self.rest = self.rest.trim_start();
            let key = self.string()?;
            self.takes(':').then_some(())?;
            self.json.push_str(&quoted(&key));
            self.json.push_str(": ");
            self.value(depth)?;
        }
        self.json.push('}');
        Some(())
    }

    /// A number or a constant.
    fn word(&mut self) -> Option<()> {
        let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.' | '_');
        let end = self.rest.find(|c: char| !is_part(c)).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        let json = match word {
            "True" => "true",
            "False" => "false",
            "None" => "null",
            "true" | "false" | "null" => word,
            _ => serde_json::from_str::<Value>(word).ok().filter(Value::is_number).map(|_| word)?,
        };
        self.json.push_str(json);
        self.rest = rest;
        Some(())
    }

    fn string(&mut self) -> Option<String> {
        let mut chars = self.rest.chars();
        let quote = chars.next().filter(|c| matches!(c, '"' | '\''))?;
        let mut said = String::new();
        loop {
            match chars.next()? {
                c if c == quote => break,
                '\\' => match chars.next()? {
                    'n' => said.push('\n'),
                    't' => said.push('\t'),
                    'r' => said.push('\r'),
                    '\n' => {}
                    c @ ('\\' | '\'' | '"') => said.push(c),
                    c @ ('x' | 'u') => {
                        let digits = if c == 'x' { 2 } else { 4 };
                        let rest = chars.as_str();
                        let code = u32::from_str_radix(rest.get(..digits)?, 16).ok()?;
                        said.push(char::from_u32(code)?);
                        chars = rest[digits..].chars();
                    }
                    // Python leaves what is no escape as it is.
                    c => said.extend(['\\', c]),
                },
                c => said.push(c),
            }
        }
        self.rest = chars.as_str();
        Some(said)
    }

    fn skip(&mut self) {
        let mut chars = self.rest.chars();
        chars.next();
        self.rest = chars.as_str();
    }

    /// Whether this character comes next; then it is behind.
    fn takes(&mut self, c: char) -> bool {
        let rest = self.rest.trim_start();
        let found = rest.strip_prefix(c);
        self.rest = found.unwrap_or(rest);
        found.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_become_the_json_that_means_the_same() {
        for (python, json) in [
            ("'it\\'s \"x\" \\x41\\u00e9\\d'", r#""it's \"x\" Aé\\d""#),
            ("-1.5e3", "-1.5e3"),
            ("True", "true"),
            ("None", "null"),
            ("[1, (2, 'a',), []]", r#"[1, [2, "a"], []]"#),
            ("{'a': {\"b\": False}, 'c': 1,}", r#"{"a": {"b": false}, "c": 1}"#),
        ] {
            assert_eq!(to_json(python).as_deref(), Some(json));
        }
        let deep = "[".repeat(100) + &"]".repeat(100);
        for wrong in ["", "name", "f(1)", "'open", "[1", "{1: 2}", "1 2", "'\\xé1'", deep.as_str()] {
            assert_eq!(to_json(wrong), None, "{wrong}");
        }
    }
}
