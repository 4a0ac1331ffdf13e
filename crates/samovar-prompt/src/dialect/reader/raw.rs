//! JSON as it arrives, character by character: where a value ends, and what a string says. Nothing is kept, and what is
//! no JSON passes through.

/// A value, from behind its first character.
#[derive(Debug)]
pub(super) enum Raw {
    /// An object or an array.
    Nested { depth: u32, is_in_string: bool, is_escaped: bool },
    /// A string.
    Text { is_escaped: bool },
    /// A number, `true`, `false` or `null`.
    Word,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Passed {
    /// It is not at its end.
    More,
    /// This character is its last one.
    Last,
    /// It ended before this character.
    Behind,
}

impl Raw {
    /// Of a value that begins with this character.
    pub(super) fn begin(c: char) -> Option<Self> {
        match c {
            '{' | '[' => Some(Self::Nested { depth: 1, is_in_string: false, is_escaped: false }),
            '"' => Some(Self::Text { is_escaped: false }),
            '-' => Some(Self::Word),
            _ => c.is_ascii_alphanumeric().then_some(Self::Word),
        }
    }

    /// `stop` is a character with which what follows a broken value begins.
    pub(super) fn step(&mut self, c: char, stop: Option<char>) -> Passed {
        match self {
            Self::Text { is_escaped } => {
                let is_end = c == '"' && !*is_escaped;
                *is_escaped = c == '\\' && !*is_escaped;
                if is_end { Passed::Last } else { Passed::More }
            }
            Self::Word => {
                let is_part = c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.');
                if is_part { Passed::More } else { Passed::Behind }
            }
            Self::Nested { is_in_string, is_escaped, .. } if *is_in_string => {
                *is_in_string = c != '"' || *is_escaped;
                *is_escaped = c == '\\' && !*is_escaped;
                Passed::More
            }
            Self::Nested { depth, is_in_string, .. } => {
                match c {
                    '"' => *is_in_string = true,
                    '{' | '[' => *depth = depth.saturating_add(1),
                    '}' | ']' => *depth -= 1,
                    _ if Some(c) == stop => return Passed::Behind,
                    _ => {}
                }
                if *depth == 0 { Passed::Last } else { Passed::More }
            }
        }
    }
}

/// What a string of JSON says, from behind its opening quote.
#[derive(Debug, Default)]
pub(super) struct Unescape {
    escape: Escape,
    /// The first half of a character that takes two escapes.
    high: Option<u32>,
}

#[derive(Debug, Default)]
enum Escape {
    #[default]
    None,
    Begun,
    Hex {
        value: u32,
        digits: u8,
    },
}

impl Unescape {
    /// Appends what the next character adds to `text`; true for the closing quote.
    pub(super) fn step(&mut self, c: char, text: &mut String) -> bool {
        match self.escape {
            Escape::None => match c {
                '\\' => self.escape = Escape::Begun,
                '"' => {
                    self.end_half(text);
                    return true;
                }
                _ => self.plain(c, text),
            },
            Escape::Begun => {
                self.escape = Escape::None;
                match c {
                    'u' => self.escape = Escape::Hex { value: 0, digits: 0 },
                    'n' => self.plain('\n', text),
                    't' => self.plain('\t', text),
                    'r' => self.plain('\r', text),
                    'b' => self.plain('\u{8}', text),
                    'f' => self.plain('\u{c}', text),
                    _ => self.plain(c, text),
                }
            }
            Escape::Hex { value, digits } => {
                let Some(digit) = c.to_digit(16) else {
                    self.escape = Escape::None;
                    self.plain(char::REPLACEMENT_CHARACTER, text);
                    return self.step(c, text);
                };
                let value = value * 16 + digit;
                if digits < 3 {
                    self.escape = Escape::Hex { value, digits: digits + 1 };
                } else {
                    self.escape = Escape::None;
                    self.unit(value, text);
                }
            }
        }
        false
    }

    fn plain(&mut self, c: char, text: &mut String) {
        self.end_half(text);
        text.push(c);
    }

    /// A unit of UTF-16.
    fn unit(&mut self, value: u32, text: &mut String) {
        match (self.high.take(), value) {
            (Some(high), 0xdc00..=0xdfff) => {
                let code = 0x1_0000 + ((high - 0xd800) << 10) + (value - 0xdc00);
                text.push(char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER));
            }
            (high, _) => {
                if high.is_some() {
                    text.push(char::REPLACEMENT_CHARACTER);
                }
                if (0xd800..=0xdbff).contains(&value) {
                    self.high = Some(value);
                } else {
                    text.push(char::from_u32(value).unwrap_or(char::REPLACEMENT_CHARACTER));
                }
            }
        }
    }

    fn end_half(&mut self, text: &mut String) {
        if self.high.take().is_some() {
            text.push(char::REPLACEMENT_CHARACTER);
        }
    }
}

/// Appends a character as it stands in a string of JSON.
pub(super) fn escape(c: char, text: &mut String) {
    match c {
        '"' => text.push_str("\\\""),
        '\\' => text.push_str("\\\\"),
        '\n' => text.push_str("\\n"),
        '\r' => text.push_str("\\r"),
        '\t' => text.push_str("\\t"),
        c if u32::from(c) < 0x20 => {
            let code = u32::from(c);
            text.push_str("\\u00");
            text.extend([code / 16, code % 16].map(|digit| char::from_digit(digit, 16).unwrap_or('0')));
        }
        c => text.push(c),
    }
}

/// A string of JSON that says this.
pub(super) fn quoted(said: &str) -> String {
    let mut text = String::with_capacity(said.len() + 2);
    text.push('"');
    said.chars().for_each(|c| escape(c, &mut text));
    text.push('"');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unescaped(json: &str) -> String {
        let mut text = String::new();
        let mut unescape = Unescape::default();
        assert!(json.chars().skip(1).any(|c| unescape.step(c, &mut text)), "{json}");
        text
    }

    #[test]
    fn strings_are_unescaped_as_serde_json_does() {
        let texts = ["", "plain", "\"q\" \\ / \n\t\r\u{8}\u{c}\u{1}", "é 漢 😀", "ends with \\"];
        for text in texts {
            let json = serde_json::Value::from(text).to_string();
            assert_eq!(unescaped(&json), text);
            assert_eq!(serde_json::from_str::<String>(&quoted(text)).unwrap(), text);
        }
        assert_eq!(unescaped(r#""\u00e9\uD83D\uDE00""#), "é😀");
        assert_eq!(unescaped(r#""\uD83Dx\uDE00\uD83D""#), "\u{fffd}x\u{fffd}\u{fffd}");
        assert_eq!(unescaped(r#""\u12 z""#), "\u{fffd} z");
    }

    #[test]
    fn a_value_ends_where_its_brackets_do() {
        for (json, rest) in [
            (r#"{"a": "}\"]", "b": [{}]} tail"#, " tail"),
            (r"[[], {}],", ","),
            (r#""a\\" tail"#, " tail"),
            ("-1.5e+3,", ","),
            ("null}", "}"),
        ] {
            let mut chars = json.char_indices();
            let mut raw = Raw::begin(chars.next().unwrap().1).unwrap();
            let end = chars.find_map(|(at, c)| match raw.step(c, None) {
                Passed::More => None,
                Passed::Last => Some(at + c.len_utf8()),
                Passed::Behind => Some(at),
            });
            assert_eq!(&json[end.unwrap()..], rest);
        }
        assert!(Raw::begin('<').is_none() && Raw::begin('\'').is_none());
    }
}
