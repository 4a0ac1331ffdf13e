//! Splits a template into data and tags by the whitespace rules of Jinja2's lexer with `trim_blocks` and
//! `lstrip_blocks`; it knows nothing of what stands inside a tag but where that ends.

use super::SyntaxError;
use super::lexer::{self, Token};
use crate::template::python::is_space;

/// A stretch of a template.
#[derive(Debug, PartialEq)]
pub(super) enum Piece {
    /// Text that is written as it is.
    Data(String),
    /// `{{ … }}`
    Print { tokens: Vec<Token>, line: usize },
    /// `{% … %}`
    Block { tokens: Vec<Token>, line: usize },
}

#[derive(Clone, Copy, PartialEq)]
enum Opens {
    Print,
    Block,
    Comment,
    Raw,
}

struct Splitter<'s> {
    source: &'s str,
    /// Where reading goes on, in bytes.
    at: usize,
    line: usize,
    /// The last thing that was read ended with a newline.
    at_line_start: bool,
    pieces: Vec<Piece>,
}

pub(super) fn split(source: &str) -> Result<Vec<Piece>, SyntaxError> {
    let mut splitter = Splitter { source, at: 0, line: 1, at_line_start: true, pieces: Vec::new() };
    while splitter.next()? {}
    Ok(splitter.pieces)
}

impl Splitter<'_> {
    fn rest(&self) -> &str {
        &self.source[self.at..]
    }

    /// Reads data and the tag behind it; false at the end.
    fn next(&mut self) -> Result<bool, SyntaxError> {
        let Some((start, opens)) = next_tag(self.rest()) else {
            let text = self.rest().to_owned();
            self.data(text);
            return Ok(false);
        };
        let mut text = self.rest()[..start].to_owned();
        self.take(start + 2);
        let sign = self.sign();
        strip_before_tag(&mut text, sign, opens != Opens::Print, self.at_line_start);
        self.data(text);
        let line = self.line;
        match opens {
            Opens::Comment => self.comment(line)?,
            Opens::Raw => self.raw(line)?,
            Opens::Print => {
                let tokens = self.tag(line, "}}", false)?;
                self.pieces.push(Piece::Print { tokens, line });
            }
            Opens::Block => {
                let tokens = self.tag(line, "%}", true)?;
                self.pieces.push(Piece::Block { tokens, line });
            }
        }
        Ok(true)
    }

    /// Moves on over `bytes` and counts their lines.
    fn take(&mut self, bytes: usize) {
        self.line += self.source[self.at..self.at + bytes].matches('\n').count();
        self.at += bytes;
    }

    /// `-` or `+` behind the opening of a tag.
    fn sign(&mut self) -> Option<char> {
        let sign = self.rest().chars().next().filter(|c| matches!(c, '-' | '+'))?;
        self.take(1);
        Some(sign)
    }

    fn data(&mut self, text: String) {
        if !text.is_empty() {
            self.pieces.push(Piece::Data(text));
        }
    }

    /// Behind the closing of a tag: whitespace after `-`, one newline after a block without a sign.
    fn end_of_tag(&mut self, sign: Option<char>, trims_newline: bool) {
        let before = self.at;
        match sign {
            Some('-') => {
                let space = self.rest().len() - self.rest().trim_start_matches(is_space).len();
                self.take(space);
            }
            None if trims_newline && self.rest().starts_with('\n') => self.take(1),
            _ => {}
        }
        self.at_line_start = self.source[before..self.at].ends_with('\n');
    }

    fn comment(&mut self, line: usize) -> Result<(), SyntaxError> {
        let Some(end) = self.rest().find("#}") else {
            return Err(SyntaxError::new(line, "missing end of comment tag"));
        };
        let sign = self.rest()[..end].chars().next_back().filter(|c| matches!(c, '-' | '+'));
        self.take(end + 2);
        self.end_of_tag(sign, true);
        Ok(())
    }

    fn tag(&mut self, line: usize, end: &str, is_block: bool) -> Result<Vec<Token>, SyntaxError> {
        let (tokens, bytes, sign) = lexer::tokens(self.rest(), line, end, is_block)?;
        self.take(bytes);
        self.end_of_tag(sign, is_block);
        Ok(tokens)
    }

    /// Behind `{%` and its sign: ` raw %}`, what is kept, and `{% endraw %}`.
    fn raw(&mut self, line: usize) -> Result<(), SyntaxError> {
        let word = self.rest().find("raw").unwrap_or_default() + "raw".len();
        self.take(word);
        let space = self.rest().len() - self.rest().trim_start_matches(is_space).len();
        self.take(space);
        let is_stripped = self.rest().starts_with('-');
        self.take(usize::from(is_stripped) + 2);
        if is_stripped {
            self.end_of_tag(Some('-'), false);
        }
        self.at_line_start = false;
        let Some(end) = end_of_raw(self.rest()) else {
            return Err(SyntaxError::new(line, "missing end of raw directive"));
        };
        let mut text = self.rest()[..end.text_bytes].to_owned();
        strip_before_tag(&mut text, end.sign, true, false);
        self.take(end.text_bytes + end.tag_bytes);
        self.end_of_tag(end.end_sign, true);
        self.data(text);
        Ok(())
    }
}

/// The next opening of a tag in `text`, and what it opens.
fn next_tag(text: &str) -> Option<(usize, Opens)> {
    let mut from = 0;
    loop {
        let at = from + text[from..].find('{')?;
        let opens = match text.as_bytes().get(at + 1) {
            Some(b'{') => Opens::Print,
            Some(b'#') => Opens::Comment,
            Some(b'%') if is_raw(&text[at + 2..]) => Opens::Raw,
            Some(b'%') => Opens::Block,
            _ => {
                from = at + 1;
                continue;
            }
        };
        return Some((at, opens));
    }
}

/// `[-+] raw [-]%}`
fn is_raw(text: &str) -> bool {
    let text = text.strip_prefix(['-', '+']).unwrap_or(text).trim_start_matches(is_space);
    let Some(text) = text.strip_prefix("raw") else { return false };
    let text = text.trim_start_matches(is_space);
    text.strip_prefix('-').unwrap_or(text).starts_with("%}")
}

/// Where raw text ends, and the tag that ends it.
struct EndOfRaw {
    text_bytes: usize,
    tag_bytes: usize,
    /// Behind `{%`.
    sign: Option<char>,
    /// Before `%}`.
    end_sign: Option<char>,
}

fn end_of_raw(text: &str) -> Option<EndOfRaw> {
    let mut from = 0;
    loop {
        let at = from + text[from..].find("{%")?;
        from = at + 2;
        let rest = &text[from..];
        let sign = rest.chars().next().filter(|c| matches!(c, '-' | '+'));
        let opening = 2 + usize::from(sign.is_some());
        let word = text[at + opening..].trim_start_matches(is_space);
        let Some(tail) = word.strip_prefix("endraw") else { continue };
        let tail = tail.trim_start_matches(is_space);
        let end_sign = tail.chars().next().filter(|c| matches!(c, '-' | '+'));
        let tail = &tail[usize::from(end_sign.is_some())..];
        if !tail.starts_with("%}") {
            continue;
        }
        let tag_bytes = text.len() - tail.len() + 2 - at;
        return Some(EndOfRaw { text_bytes: at, tag_bytes, sign, end_sign });
    }
}

/// What of the text before a tag goes: all whitespace by `-`; by `lstrip_blocks` the blanks since the line's start.
fn strip_before_tag(text: &mut String, sign: Option<char>, is_block: bool, at_line_start: bool) {
    match sign {
        Some('-') => text.truncate(text.trim_end_matches(is_space).len()),
        None if is_block => {
            let start = text.rfind('\n').map_or(0, |at| at + 1);
            if (start > 0 || at_line_start) && text[start..].chars().all(is_space) {
                text.truncate(start);
            }
        }
        _ => {}
    }
}
