//! The text of a GBNF grammar → its rules. What is not understood is refused with its line.

use std::collections::HashMap;
use std::fmt::Write as _;

use super::{Part, ROOT, Rule};
use crate::error::Error;
use crate::limits;

/// Reads the rules of a grammar; the first is where an answer begins.
pub(super) fn rules(text: &str) -> Result<Vec<Rule>, Error> {
    let mut parser = Parser {
        chars: text.chars().collect(),
        at: 0,
        depth: 0,
        numbers: HashMap::new(),
        names: Vec::new(),
        bodies: Vec::new(),
    };
    parser.number(ROOT)?;
    parser.space(true);
    while parser.at < parser.chars.len() {
        parser.rule()?;
        parser.space(true);
    }
    let mut rules = Vec::with_capacity(parser.names.len());
    for ((name, line), body) in parser.names.into_iter().zip(parser.bodies) {
        let Some(choice) = body else {
            return Err(Error::Line { line, why: format!("there is no rule `{name}`") });
        };
        rules.push(Rule { name, choice });
    }
    Ok(rules)
}

struct Parser {
    chars: Vec<char>,
    at: usize,
    /// Open parentheses.
    depth: usize,
    numbers: HashMap<String, usize>,
    /// Each rule's name, and the line where it is first seen.
    names: Vec<(String, usize)>,
    bodies: Vec<Option<Vec<Vec<Part>>>>,
}

impl Parser {
    fn refused<T>(&self, why: impl Into<String>) -> Result<T, Error> {
        Err(Error::Line { line: self.line(), why: why.into() })
    }

    fn line(&self) -> usize {
        1 + self.chars.iter().take(self.at).filter(|char| **char == '\n').count()
    }

    fn peek(&self) -> Option<char> {
        self.chars.get(self.at).copied()
    }

    fn starts_with(&self, sign: &str) -> bool {
        let rest = self.chars.get(self.at..).unwrap_or_default();
        rest.len() >= sign.chars().count() && sign.chars().zip(rest).all(|(sign, char)| sign == *char)
    }

    /// Goes past spaces and comments, and past line breaks where they have no meaning.
    fn space(&mut self, with_lines: bool) {
        while let Some(char) = self.peek() {
            match char {
                ' ' | '\t' => self.at += 1,
                '\r' | '\n' if with_lines => self.at += 1,
                '#' => {
                    while self.peek().is_some_and(|char| char != '\n') {
                        self.at += 1;
                    }
                }
                _ => break,
            }
        }
    }

    fn name(&mut self) -> Option<String> {
        let is_of_name = |char: &char| char.is_ascii_alphanumeric() || matches!(char, '-' | '_');
        let name: String = self.chars.iter().skip(self.at).take_while(|char| is_of_name(char)).collect();
        self.at += name.len();
        (!name.is_empty()).then_some(name)
    }

    /// The number of a rule, also of one that is written later.
    fn number(&mut self, name: &str) -> Result<usize, Error> {
        if let Some(number) = self.numbers.get(name) {
            return Ok(*number);
        }
        let number = self.names.len();
        if number >= limits::GBNF_RULES {
            return self.refused(format!("there are more than {} rules", limits::GBNF_RULES));
        }
        self.numbers.insert(name.to_owned(), number);
        self.names.push((name.to_owned(), self.line()));
        self.bodies.push(None);
        Ok(number)
    }

    fn rule(&mut self) -> Result<(), Error> {
        let Some(name) = self.name() else {
            return self.refused("here should be the name of a rule");
        };
        self.space(false);
        if !self.starts_with("::=") {
            return self.refused(format!("here should be `::=` after `{name}`"));
        }
        let number = self.number(&name)?;
        if self.bodies[number].is_some() {
            return self.refused(format!("the rule `{name}` is written twice"));
        }
        self.at += "::=".len();
        self.space(true);
        let choice = self.choice()?;
        match self.peek() {
            None | Some('\r' | '\n') => {}
            Some(char) => return self.refused(format!("`{char}` is not understood here")),
        }
        self.bodies[number] = Some(choice);
        Ok(())
    }

    fn choice(&mut self) -> Result<Vec<Vec<Part>>, Error> {
        let mut choice = vec![self.sequence()?];
        while self.peek() == Some('|') {
            self.at += 1;
            self.space(true);
            choice.push(self.sequence()?);
        }
        Ok(choice)
    }

    fn sequence(&mut self) -> Result<Vec<Part>, Error> {
        let mut parts = Vec::new();
        while let Some(char) = self.peek() {
            let part = match char {
                '"' => self.text()?,
                '[' => self.class()?,
                '.' => {
                    self.at += 1;
                    Part::Terminal("(?s:.)".to_owned())
                }
                '(' => self.group()?,
                '<' | '!' => {
                    return self.refused(format!("`{char}`: tokens cannot be named in GBNF; use Lark"));
                }
                '*' | '+' | '?' | '{' => return self.refused("there is nothing to repeat"),
                _ => {
                    let Some(name) = self.name() else { break };
                    Part::Rule(self.number(&name)?)
                }
            };
            self.space(self.depth > 0);
            parts.push(self.repeated(part)?);
        }
        Ok(parts)
    }

    fn group(&mut self) -> Result<Part, Error> {
        if self.depth >= limits::GBNF_DEPTH {
            return self.refused(format!("there are more than {} open parentheses", limits::GBNF_DEPTH));
        }
        self.at += 1;
        self.depth += 1;
        self.space(true);
        let choice = self.choice()?;
        if self.peek() != Some(')') {
            return self.refused("here should be `)`");
        }
        self.at += 1;
        self.depth -= 1;
        Ok(Part::Choice(choice))
    }

    /// A part with the repetitions behind it.
    fn repeated(&mut self, mut part: Part) -> Result<Part, Error> {
        for _ in 0..=limits::GBNF_DEPTH {
            let (least, most) = match self.peek() {
                Some('*') => (0, None),
                Some('+') => (1, None),
                Some('?') => (0, Some(1)),
                Some('{') => self.counts()?,
                _ => return Ok(part),
            };
            self.at += 1;
            self.space(self.depth > 0);
            part = Part::Repeat { part: Box::new(part), least, most };
        }
        self.refused(format!("one part has more than {} repetitions", limits::GBNF_DEPTH))
    }

    /// The counts between braces; stops at the closing one.
    fn counts(&mut self) -> Result<(u32, Option<u32>), Error> {
        let end = self.chars.iter().skip(self.at).position(|char| *char == '}');
        let Some(length) = end else { return self.refused("`{` does not end") };
        let text: String = self.chars[self.at + 1..self.at + length].iter().collect();
        let count =
            |text: &str| text.trim().parse::<u32>().ok().filter(|count| *count <= limits::GBNF_REPETITIONS);
        let counts = match text.split_once(',') {
            None => count(&text).map(|count| (count, Some(count))),
            Some((least, most)) if most.trim().is_empty() => count(least).map(|least| (least, None)),
            Some((least, most)) => count(least).zip(count(most)).map(|(least, most)| (least, Some(most))),
        };
        match counts {
            Some((least, most)) if most.is_none_or(|most| least <= most) => {
                self.at += length;
                Ok((least, most))
            }
            _ => {
                let most = limits::GBNF_REPETITIONS;
                self.refused(format!("`{{{text}}}` is no number of repeats (up to {most})"))
            }
        }
    }

    fn text(&mut self) -> Result<Part, Error> {
        self.at += 1;
        let mut expression = String::new();
        loop {
            match self.peek() {
                Some('"') => break,
                None | Some('\n') => return self.refused("a text does not end"),
                Some(_) => push_char(&mut expression, self.char()?),
            }
        }
        self.at += 1;
        Ok(Part::Terminal(expression))
    }

    fn class(&mut self) -> Result<Part, Error> {
        self.at += 1;
        let mut expression = "[".to_owned();
        if self.peek() == Some('^') {
            self.at += 1;
            expression.push('^');
        }
        let empty_bytes = expression.len();
        loop {
            match self.peek() {
                Some(']') => break,
                None | Some('\n') => return self.refused("a class of characters does not end"),
                Some(_) => {}
            }
            let first = self.char()?;
            push_char(&mut expression, first);
            if self.peek() == Some('-') && self.chars.get(self.at + 1).is_some_and(|char| *char != ']') {
                self.at += 1;
                let last = self.char()?;
                if last < first {
                    return self.refused("a range of characters is the wrong way round");
                }
                expression.push('-');
                push_char(&mut expression, last);
            }
        }
        if expression.len() == empty_bytes {
            return self.refused("a class of characters is empty");
        }
        self.at += 1;
        expression.push(']');
        Ok(Part::Terminal(expression))
    }

    /// One character of a text or a class, with escapes read.
    fn char(&mut self) -> Result<char, Error> {
        let Some(char) = self.peek() else { return self.refused("a character is missing") };
        self.at += 1;
        if char != '\\' {
            return Ok(char);
        }
        let Some(escape) = self.peek() else { return self.refused("a character is missing after `\\`") };
        self.at += 1;
        let digits = match escape {
            'n' => return Ok('\n'),
            'r' => return Ok('\r'),
            't' => return Ok('\t'),
            '\\' | '"' | '[' | ']' | '-' | '/' | '^' => return Ok(escape),
            'x' => 2,
            'u' => 4,
            'U' => 8,
            _ => return self.refused(format!("`\\{escape}` is not understood")),
        };
        let text: String = self.chars.iter().skip(self.at).take(digits).collect();
        let code = u32::from_str_radix(&text, 16).ok().filter(|_| text.len() == digits);
        let Some(read) = code.and_then(char::from_u32) else {
            return self.refused(format!("`\\{escape}{text}` is no character"));
        };
        self.at += digits;
        Ok(read)
    }
}

/// Writes a character so that it means itself everywhere in a regular expression of Lark.
fn push_char(expression: &mut String, char: char) {
    if char.is_ascii_alphanumeric() {
        expression.push(char);
    } else {
        // Writing to a text does not fail.
        let _ = write!(expression, "\\x{{{:X}}}", u32::from(char));
    }
}
