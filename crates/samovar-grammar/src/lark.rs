//! Lark grammars on their way to the parser: the JSON schemas in them are read and bounded like those of their own.

use serde_json::{Deserializer, Value};

use crate::error::{Error, bounded};
use crate::{limits, schema};

/// What stands before JSON that is not a schema.
const WITH_JSON: [&str; 2] = ["%llguidance", "%regex"];
const WITH_SCHEMA: &str = "%json";
/// Signs at the end of a text or an expression.
const FLAGS: [char; 6] = ['i', 'm', 's', 'l', 'u', 'x'];

/// Writes a grammar again as the parser needs it.
pub(crate) fn prepare(grammar: &str) -> Result<String, Error> {
    let mut writer = Writer { grammar, at: 0, written: String::with_capacity(grammar.len()) };
    while writer.at < grammar.len() {
        writer.step()?;
    }
    Ok(writer.written)
}

struct Writer<'g> {
    grammar: &'g str,
    at: usize,
    written: String,
}

impl<'g> Writer<'g> {
    fn rest(&self) -> &'g str {
        &self.grammar[self.at..]
    }

    /// Copies so many bytes as they are.
    fn copy(&mut self, bytes: usize) {
        let rest = self.rest();
        self.written.push_str(&rest[..bytes]);
        self.at += bytes;
    }

    fn step(&mut self) -> Result<(), Error> {
        let rest = self.rest();
        if rest.starts_with('#') || rest.starts_with("//") {
            self.copy(rest.find('\n').unwrap_or(rest.len()));
        } else if rest.starts_with('"') {
            self.copy(quoted_bytes(rest, '"'));
        } else if rest.starts_with('/') {
            self.copy(quoted_bytes(rest, '/'));
        } else if rest.starts_with('<') {
            let name = rest.find('>').filter(|end| !rest[1..*end].contains(char::is_whitespace));
            self.copy(name.map_or(1, |end| end + 1));
        } else if rest.starts_with(WITH_SCHEMA) {
            self.schema()?;
        } else if let Some(keyword) = WITH_JSON.iter().find(|keyword| rest.starts_with(**keyword)) {
            self.copy(keyword.len());
            // The parser says what is wrong if this is no JSON.
            if let Ok((_, bytes)) = self.json() {
                self.copy(bytes);
            }
        } else {
            self.copy(rest.chars().next().map_or(1, char::len_utf8));
        }
        Ok(())
    }

    /// The JSON that comes next, and its bytes with the space before it.
    fn json(&self) -> Result<(Value, usize), String> {
        let mut values = Deserializer::from_str(self.rest()).into_iter::<Value>();
        match values.next() {
            Some(Ok(value)) => Ok((value, values.byte_offset())),
            Some(Err(error)) => Err(error.to_string()),
            None => Err("there is none".to_owned()),
        }
    }

    /// Writes a schema again. Line breaks in it stay as many, so that the parser names the lines that the author knows.
    fn schema(&mut self) -> Result<(), Error> {
        let line = self.grammar[..self.at].matches('\n').count() + 1;
        let in_line = |error| Error::Schema { line, error: Box::new(error) };
        self.copy(WITH_SCHEMA.len());
        let (value, bytes) = self.json().map_err(|detail| in_line(Error::NotJson { detail }))?;
        let text = &self.rest()[..bytes];
        bounded("the schema", text, limits::SCHEMA_BYTES).map_err(in_line)?;
        let prepared = schema::prepare(&value).map_err(in_line)?.to_string();
        let lines = text.matches('\n').count();
        self.written.push(' ');
        self.written.push_str(prepared.strip_suffix('}').unwrap_or(&prepared));
        self.written.extend(std::iter::repeat_n('\n', lines));
        self.written.push('}');
        self.at += bytes;
        Ok(())
    }
}

/// Bytes of what begins with a sign and ends with the same, with the flags behind it; one byte if it does not end.
fn quoted_bytes(rest: &str, sign: char) -> usize {
    let mut is_escaped = false;
    for (at, char) in rest.char_indices().skip(1) {
        if is_escaped {
            is_escaped = false;
        } else if char == '\\' {
            is_escaped = true;
        } else if char == sign {
            let flags = rest[at + 1..].chars().take_while(|char| FLAGS.contains(char) && sign == '/').count();
            return at + 1 + flags;
        } else if char == '\n' && sign == '"' {
            break;
        }
    }
    1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schemas_in_a_grammar_are_read_like_others() {
        let grammar = "start: a\na: %json {\n  \"type\": \"string\"\n} b\nb: \"c\"";
        let prepared = prepare(grammar).expect("prepared");
        assert!(
            prepared.contains("whitespace_flexible") && prepared.ends_with("} b\nb: \"c\""),
            "{prepared}"
        );
        assert_eq!(prepared.lines().count(), grammar.lines().count());
        let error = prepare("start: \"%json\"\n  | %json { \"not\": {} }").expect_err("refused");
        assert_eq!(error.to_string().split(':').next(), Some("line 2 of the grammar"), "{error}");
        assert!(error.to_string().contains("`not` at #"), "{error}");
        assert!(prepare("start: %json {").is_err() && prepare("%json").is_err());
    }

    #[test]
    fn what_does_not_end_is_left_to_the_parser() {
        for grammar in ["start: \"abc", "start: /abc", "start: <", "%llguidance {", "start: \"\\", "\u{e9}"] {
            assert_eq!(prepare(grammar).expect("prepared"), grammar);
        }
    }
}
