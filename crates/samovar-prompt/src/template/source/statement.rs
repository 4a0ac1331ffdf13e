//! Writes the tags of a template anew, each in minijinja's terms; it keeps what blocks are open, and nothing of values.

use std::fmt::Write as _;

use super::SyntaxError;
use super::expression::{Expressions, quoted};
use super::lexer::Token;
use super::pieces::Piece;

/// Collects the translated template.
#[derive(Debug, Default)]
pub(super) struct Writer {
    pub(super) text: String,
    lines: usize,
    open: Vec<(String, usize)>,
}

impl Writer {
    pub(super) fn write(&mut self, piece: Piece) -> Result<(), SyntaxError> {
        match piece {
            Piece::Data { text, .. } => self.data(&text),
            Piece::Print { tokens, line } => self.print(&tokens, line)?,
            Piece::Block { tokens, line } if tokens.first().is_some_and(|token| token.is_name("print")) => {
                self.print(&tokens[1..], line)?;
            }
            Piece::Block { tokens, line } => {
                let text = self.statement(&tokens, line)?;
                self.tag("{%", &text, "%}", line);
            }
        }
        Ok(())
    }

    pub(super) fn finish(self) -> Result<String, SyntaxError> {
        match self.open.last() {
            Some((name, line)) => Err(SyntaxError::new(*line, format!("'{name}' is never closed"))),
            None => Ok(self.text),
        }
    }

    fn print(&mut self, tokens: &[Token], line: usize) -> Result<(), SyntaxError> {
        let mut expressions = self.expressions(tokens, line);
        let printed = expressions.tuple(true)?;
        expressions.end()?;
        self.tag("{{", &printed, "}}", line);
        Ok(())
    }

    fn data(&mut self, text: &str) {
        self.lines += text.matches('\n').count();
        if text.contains("{{") || text.contains("{%") || text.contains("{#") {
            let _ = write!(self.text, "{{% raw %}}{text}{{% endraw %}}");
        } else if text.ends_with('{') {
            // A brace before a tag would become part of its opening.
            let _ = write!(self.text, "{}{{{{ \"{{\" }}}}", &text[..text.len() - 1]);
        } else {
            self.text.push_str(text);
        }
    }

    /// A tag, with the newlines inside that bring it to its line.
    fn tag(&mut self, opening: &str, text: &str, closing: &str, line: usize) {
        self.text.push_str(opening);
        let missing = line.saturating_sub(1 + self.lines);
        self.text.extend(std::iter::repeat_n('\n', missing));
        self.lines += missing;
        let _ = write!(self.text, " {text} {closing}");
    }

    /// Directly in an `if`, an unknown filter is refused only when it is reached, as in Jinja2.
    fn expressions<'t>(&self, tokens: &'t [Token], line: usize) -> Expressions<'t> {
        Expressions::new(tokens, line, self.is_in("if"))
    }

    fn statement(&mut self, tokens: &[Token], line: usize) -> Result<String, SyntaxError> {
        let error = |words: String| SyntaxError::new(line, words);
        let Some((Token::Name(tag), rest)) = tokens.split_first() else {
            return Err(error("tag name expected".to_owned()));
        };
        let mut words = self.expressions(rest, line);
        let text = match tag.as_str() {
            "for" => {
                let text = for_loop(&mut words)?;
                self.open("for", line);
                text
            }
            "if" => {
                self.open("if", line);
                format!("if {}", self.condition(rest, line)?)
            }
            "elif" if self.is_in("if") => format!("elif {}", self.condition(rest, line)?),
            "else" if self.is_in("if") || self.is_in("for") => self.bare("else", rest, line)?,
            "set" => self.set(rest, line)?,
            "macro" => {
                let name = words.name()?;
                let text = format!("macro {name}({})", words.signature()?);
                words.end()?;
                self.open("macro", line);
                text
            }
            "call" => {
                let signature =
                    if words.at("(") { format!("({})", words.signature()?) } else { String::new() };
                let text = format!("call{signature} {}", words.call()?);
                words.end()?;
                self.open("call", line);
                text
            }
            "filter" => {
                let text = format!("filter {}", words.filters()?);
                words.end()?;
                self.open("filter", line);
                text
            }
            "with" => {
                let text = format!("with {}", words.assignments()?);
                words.end()?;
                self.open("with", line);
                text
            }
            "generation" => {
                words.end()?;
                self.open("generation", line);
                "with".to_owned()
            }
            "block" => {
                let name = words.name()?;
                for mark in ["scoped", "required"] {
                    words.skip_name(mark);
                }
                words.end()?;
                self.open("block", line);
                format!("block {name}")
            }
            "break" | "continue" => {
                let mut around = self.open.iter().rev().map(|(name, _)| name.as_str());
                if !around.any(|name| name == "for") {
                    return Err(error(format!("'{tag}' outside loop")));
                }
                self.bare(tag, rest, line)?
            }
            "include" | "import" | "from" | "extends" => {
                format!("set __none = {}|__refuse", quoted("no other template can be loaded"))
            }
            "autoescape" => return Err(error("autoescape is not supported".to_owned())),
            other => match other.strip_prefix("end").filter(|name| self.is_in(name)) {
                Some(name) => {
                    if name == "block" {
                        words.skip_any_name();
                    }
                    words.end()?;
                    self.open.pop();
                    if name == "generation" { "endwith".to_owned() } else { other.to_owned() }
                }
                None => return Err(error(format!("encountered unknown tag '{other}'"))),
            },
        };
        Ok(text)
    }

    fn condition(&self, tokens: &[Token], line: usize) -> Result<String, SyntaxError> {
        let mut words = self.expressions(tokens, line);
        let text = words.tuple(false)?;
        words.end()?;
        Ok(text)
    }

    fn bare(&self, tag: &str, rest: &[Token], line: usize) -> Result<String, SyntaxError> {
        self.expressions(rest, line).end()?;
        Ok(tag.to_owned())
    }

    fn set(&mut self, rest: &[Token], line: usize) -> Result<String, SyntaxError> {
        let mut words = self.expressions(rest, line);
        let (target, is_attribute) = words.target(true)?;
        if words.skip("=") {
            let value = words.tuple(true)?;
            words.end()?;
            // A namespace that held itself would never be freed.
            let held = if is_attribute { format!("({value})|__held_by_namespace") } else { value };
            return Ok(format!("set {target} = {held}"));
        }
        let filters = if words.skip("|") { format!(" | {}", words.filters()?) } else { String::new() };
        words.end()?;
        self.open("set", line);
        Ok(format!("set {target}{filters}"))
    }

    fn open(&mut self, name: &str, line: usize) {
        self.open.push((name.to_owned(), line));
    }

    fn is_in(&self, name: &str) -> bool {
        self.open.last().is_some_and(|(own, _)| own == name)
    }
}

fn for_loop(words: &mut Expressions<'_>) -> Result<String, SyntaxError> {
    let (target, _) = words.target(false)?;
    words.expect_name("in")?;
    let sequence = words.tuple(false)?;
    let mut text = format!("for {target} in ({sequence})|__iterate");
    if words.skip_name("if") {
        let condition = words.expression()?;
        let _ = write!(text, " if ({condition})");
    }
    if words.skip_name("recursive") {
        text.push_str(" recursive");
    }
    words.end()?;
    Ok(text)
}
