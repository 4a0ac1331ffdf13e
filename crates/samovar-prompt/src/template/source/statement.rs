//! Writes the tags of a template anew, each in minijinja's terms; it keeps what blocks are open, and nothing of values.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use super::SyntaxError;
use super::expression::Expressions;
use super::lexer::Token;
use super::pieces::Piece;
use super::written::quoted;

/// How deep blocks may nest; Python allows about as many.
const BLOCKS: usize = 100;
/// How many `elif` the open blocks may have together: each nests all that follow.
const ELIFS: usize = 200;

/// A block that is not closed yet.
#[derive(Debug)]
struct Open {
    name: String,
    line: usize,
    /// The piece that opened it.
    piece: usize,
    /// Behind its `else`.
    in_else: bool,
    elifs: usize,
}

/// Collects the translated template.
#[derive(Debug)]
pub(super) struct Writer {
    pub(super) text: String,
    lines: usize,
    open: Vec<Open>,
    /// How many pieces were read before this one.
    piece: usize,
    /// The `with` blocks that a `break` or `continue` leaves. The engine cannot leave them, and so they become loops over
    /// one item, behind which the loop around them is left.
    left_early: BTreeSet<usize>,
}

impl Writer {
    pub(super) fn new(pieces: &[Piece]) -> Result<Self, SyntaxError> {
        let left_early = left_early(pieces)?;
        Ok(Self { text: String::new(), lines: 0, open: Vec::new(), piece: 0, left_early })
    }

    pub(super) fn write(&mut self, piece: Piece) -> Result<(), SyntaxError> {
        match piece {
            Piece::Data(text) => self.data(&text),
            Piece::Print { tokens, line } => self.print(&tokens, line)?,
            Piece::Block { tokens, line } if tokens.first().is_some_and(|token| token.is_name("print")) => {
                self.print(&tokens[1..], line)?;
            }
            Piece::Block { tokens, line } => {
                let text = self.statement(&tokens, line)?;
                self.tag("{%", &text, "%}", line);
            }
        }
        self.piece += 1;
        Ok(())
    }

    pub(super) fn finish(self) -> Result<String, SyntaxError> {
        match self.open.last() {
            Some(open) => Err(SyntaxError::new(open.line, format!("'{}' is never closed", open.name))),
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
        } else if let Some(before) = text.strip_suffix('{') {
            // A brace before a tag would become part of its opening.
            let _ = write!(self.text, "{before}{{{{ \"{{\" }}}}");
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
        let mut expressions = Expressions::new(tokens, line, self.is_in("if"));
        expressions.name_of_loop = self.name_of_loop();
        expressions
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
                self.open("for", line)?;
                text
            }
            "if" => {
                self.open("if", line)?;
                format!("if {}", self.condition(rest, line)?)
            }
            "elif" if self.is_in("if") => {
                if let Some(open) = self.open.last_mut() {
                    open.elifs += 1;
                }
                if self.open.iter().map(|open| open.elifs).sum::<usize>() > ELIFS {
                    return Err(error(format!("more than {ELIFS} 'elif'")));
                }
                format!("elif {}", self.condition(rest, line)?)
            }
            "else" if self.is_in("if") || self.is_in("for") => {
                if let Some(open) = self.open.last_mut() {
                    open.in_else = true;
                }
                self.bare("else", rest, line)?
            }
            "set" => self.set(rest, line)?,
            "macro" => {
                let name = words.name()?;
                let text = format!("macro {name}({})", words.signature()?);
                words.end()?;
                self.open("macro", line)?;
                text
            }
            "call" => {
                let signature =
                    if words.at("(") { format!("({})", words.signature()?) } else { String::new() };
                let text = format!("call{signature} {}", words.call()?);
                words.end()?;
                self.open("call", line)?;
                text
            }
            "filter" => {
                // What is set inside is not set outside.
                let text = format!("filter {} %}}{{% with", words.filters()?);
                words.end()?;
                self.open("filter", line)?;
                text
            }
            "with" => {
                let (names, values) = words.assignments()?;
                words.end()?;
                let text = self.with(&names, values);
                self.open("with", line)?;
                text
            }
            "generation" => {
                words.end()?;
                self.open("generation", line)?;
                "with".to_owned()
            }
            "block" => {
                let name = words.name()?;
                for mark in ["scoped", "required"] {
                    words.skip_name(mark);
                }
                words.end()?;
                self.open("block", line)?;
                format!("block {name}")
            }
            "break" | "continue" => {
                words.end()?;
                self.leave(tag, line)?
            }
            "include" | "import" | "from" | "extends" => {
                format!("set __none = {}|__refuse", quoted("no other template can be loaded"))
            }
            "autoescape" if words.skip_name("false") || words.skip_name("False") => {
                words.end()?;
                self.open("autoescape", line)?;
                "with".to_owned()
            }
            "autoescape" => return Err(error("autoescape is not supported".to_owned())),
            other => match other.strip_prefix("end").filter(|name| self.is_in(name)) {
                Some(name) => {
                    if name == "block" {
                        words.skip_any_name();
                    }
                    words.end()?;
                    let piece = self.open.pop().map_or(0, |open| open.piece);
                    match name {
                        "generation" | "autoescape" => "endwith".to_owned(),
                        "filter" | "set" => format!("endwith %}}{{% {other}"),
                        "with" if self.left_early.contains(&piece) => self.end_of_loop(piece),
                        _ => other.to_owned(),
                    }
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
            let held = match (is_attribute, target.contains(',')) {
                (true, _) => format!("({value})|__held_by_namespace"),
                (false, true) => format!("({value})|__iterate"),
                (false, false) => value,
            };
            return Ok(format!("set {target} = {held}"));
        }
        let filters = if words.skip("|") { format!(" | {}", words.filters()?) } else { String::new() };
        words.end()?;
        self.open("set", line)?;
        // What is set inside is not set outside.
        Ok(format!("set {target}{filters} %}}{{% with"))
    }

    /// `with` whose values are computed before any of its names is set.
    fn with(&self, names: &[String], values: Vec<String>) -> String {
        if self.left_early.contains(&self.piece) {
            let names = std::iter::once("__one").chain(names.iter().map(String::as_str));
            let values = std::iter::once("1".to_owned()).chain(values);
            return format!(
                "set __loop{0} = {1} %}}{{% set __jump{0} = namespace(to=\"\") %}}{{% for {2} in [({3})]",
                self.piece,
                self.name_of_loop().as_deref().unwrap_or("loop"),
                names.collect::<Vec<_>>().join(", "),
                values.collect::<Vec<_>>().join(","),
            );
        }
        match names {
            [] => "with".to_owned(),
            [name] => format!("with {name} = {}", values.concat()),
            _ => format!("with ({}) = ({})", names.join(", "), values.join(",")),
        }
    }

    /// The end of a `with` that became a loop: it leaves the loop around it where that was asked for.
    fn end_of_loop(&self, piece: usize) -> String {
        let around = self.open.iter().rev().find(|open| open.is_loop() || open.name == "with");
        let go_on = if around.is_some_and(Open::is_loop) { "continue" } else { "break" };
        format!(
            "endfor %}}{{% if __jump{piece}.to == \"continue\" %}}{{% {go_on} %}}{{% endif %}}\
             {{% if __jump{piece}.to == \"break\" %}}{{% break %}}{{% endif"
        )
    }

    /// `break` or `continue`, through the blocks between it and its loop.
    fn leave(&self, tag: &str, line: usize) -> Result<String, SyntaxError> {
        let mut text = String::new();
        for open in self.open.iter().rev() {
            match open.name.as_str() {
                "for" if open.is_loop() => {
                    text.push_str(if text.is_empty() { tag } else { "break" });
                    return Ok(text);
                }
                "with" => {
                    let _ = write!(text, "set __jump{}.to = \"{tag}\" %}}{{% ", open.piece);
                }
                "filter" | "set" | "autoescape" => {
                    return Err(SyntaxError::new(line, format!("'{tag}' cannot leave '{}' here", open.name)));
                }
                // Python makes functions of these.
                "macro" | "call" | "block" | "generation" => break,
                _ => {}
            }
        }
        Err(SyntaxError::new(line, format!("'{tag}' outside loop")))
    }

    /// What `loop` is called here, where a `with` that became a loop hides it.
    fn name_of_loop(&self) -> Option<String> {
        let around = self.open.iter().rev().find(|open| match open.name.as_str() {
            "with" => self.left_early.contains(&open.piece),
            "macro" | "call" | "block" => true,
            _ => open.is_loop(),
        });
        around.filter(|open| open.name == "with").map(|open| format!("__loop{}", open.piece))
    }

    fn open(&mut self, name: &str, line: usize) -> Result<(), SyntaxError> {
        if self.open.len() >= BLOCKS {
            return Err(SyntaxError::new(line, format!("blocks nest deeper than {BLOCKS}")));
        }
        let (name, piece) = (name.to_owned(), self.piece);
        self.open.push(Open { name, line, piece, in_else: false, elifs: 0 });
        Ok(())
    }

    fn is_in(&self, name: &str) -> bool {
        self.open.last().is_some_and(|open| open.name == name)
    }
}

impl Open {
    /// Whether this is a loop whose body is not over yet.
    fn is_loop(&self) -> bool {
        self.name == "for" && !self.in_else
    }
}

/// The `with` blocks that a `break` or `continue` leaves.
fn left_early(pieces: &[Piece]) -> Result<BTreeSet<usize>, SyntaxError> {
    let mut left = BTreeSet::new();
    let mut open: Vec<(&str, usize)> = Vec::new();
    for (index, piece) in pieces.iter().enumerate() {
        let Piece::Block { tokens, line } = piece else { continue };
        let Some(Token::Name(tag)) = tokens.first() else { continue };
        match tag.as_str() {
            "for" | "if" | "with" if open.len() >= BLOCKS => {
                return Err(SyntaxError::new(*line, format!("blocks nest deeper than {BLOCKS}")));
            }
            "for" | "if" | "with" => open.push((tag.as_str(), index)),
            "else" => {
                if let Some((name, _)) = open.last_mut().filter(|(name, _)| *name == "for") {
                    *name = "else";
                }
            }
            "endfor" | "endif" | "endwith" => {
                open.pop();
            }
            "break" | "continue" => {
                let inside = open.iter().rev().take_while(|(name, _)| *name != "for");
                left.extend(inside.filter(|(name, _)| *name == "with").map(|(_, index)| *index));
            }
            _ => {}
        }
    }
    Ok(left)
}

fn for_loop(words: &mut Expressions<'_>) -> Result<String, SyntaxError> {
    let (target, _) = words.target(false)?;
    words.expect_name("in")?;
    let sequence = words.tuple(false)?;
    let unpacks = if target.contains(',') { "(true)" } else { "" };
    let mut text = format!("for {target} in ({sequence})|__iterate{unpacks}");
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
