//! Reads an expression by Jinja2's grammar and writes it for minijinja, with a filter in the place of every operator
//! and attribute whose meaning differs there; it evaluates nothing.

use std::fmt::Write as _;

use super::SyntaxError;
use super::lexer::Token;
use super::written::{Tightness, Written, held, quoted};

/// How deep an expression may nest.
const DEPTH: usize = 60;

/// How many operators, filters, calls and subscripts the expressions of one tag may have: each of them nests what stands
/// before it, and so takes stack where the template is compiled. Literals of lists and dicts may be longer.
const LINKS: usize = 500;

/// The longest operand that is written twice.
const DOUBLED_BYTES: usize = 200;

/// The tokens of one tag, read from the left.
pub(super) struct Expressions<'t> {
    pub(super) tokens: &'t [Token],
    pub(super) at: usize,
    line: usize,
    depth: usize,
    links: usize,
    /// What `loop` is called here.
    pub(super) name_of_loop: Option<String>,
    /// What is read may never run, so that an unknown name is refused only then.
    pub(super) may_not_run: bool,
}

impl<'t> Expressions<'t> {
    pub(super) fn new(tokens: &'t [Token], line: usize, may_not_run: bool) -> Self {
        Self { tokens, at: 0, line, depth: 0, links: 0, name_of_loop: None, may_not_run }
    }

    pub(super) fn fail<T>(&self, words: impl Into<String>) -> Result<T, SyntaxError> {
        Err(SyntaxError::new(self.line, words))
    }

    pub(super) fn unexpected<T>(&self) -> Result<T, SyntaxError> {
        match self.tokens.get(self.at) {
            Some(Token::Name(name)) => self.fail(format!("unexpected '{name}'")),
            Some(Token::Operator(operator)) => self.fail(format!("unexpected '{operator}'")),
            Some(_) => self.fail("unexpected literal"),
            None => self.fail("unexpected end of tag"),
        }
    }

    pub(super) fn peek(&self) -> Option<&'t Token> {
        self.tokens.get(self.at)
    }

    pub(super) fn at(&self, operator: &str) -> bool {
        self.peek().is_some_and(|token| token.is(operator))
    }

    pub(super) fn at_name(&self, name: &str) -> bool {
        self.peek().is_some_and(|token| token.is_name(name))
    }

    pub(super) fn skip(&mut self, operator: &str) -> bool {
        let is = self.at(operator);
        self.at += usize::from(is);
        is
    }

    pub(super) fn skip_name(&mut self, name: &str) -> bool {
        let is = self.at_name(name);
        self.at += usize::from(is);
        is
    }

    pub(super) fn skip_any_name(&mut self) {
        self.at += usize::from(matches!(self.peek(), Some(Token::Name(_))));
    }

    pub(super) fn expect(&mut self, operator: &str) -> Result<(), SyntaxError> {
        if self.skip(operator) { Ok(()) } else { self.unexpected() }
    }

    pub(super) fn expect_name(&mut self, name: &str) -> Result<(), SyntaxError> {
        if self.skip_name(name) { Ok(()) } else { self.unexpected() }
    }

    pub(super) fn name(&mut self) -> Result<&'t str, SyntaxError> {
        let Some(Token::Name(name)) = self.peek() else { return self.unexpected() };
        self.at += 1;
        Ok(name)
    }

    /// Nothing may follow.
    pub(super) fn end(&self) -> Result<(), SyntaxError> {
        if self.at == self.tokens.len() { Ok(()) } else { self.unexpected() }
    }

    /// One expression, or several with commas between them.
    pub(super) fn tuple(&mut self, with_condition: bool) -> Result<String, SyntaxError> {
        Ok(self.tuple_or_one(with_condition, false)?.text)
    }

    pub(super) fn expression(&mut self) -> Result<String, SyntaxError> {
        Ok(self.conditional(true)?.text)
    }

    pub(super) fn tuple_or_one(
        &mut self,
        with_condition: bool,
        may_be_empty: bool,
    ) -> Result<Written, SyntaxError> {
        let mut items = Vec::new();
        let mut is_tuple = false;
        loop {
            if self.peek().is_none() || self.at(")") || self.at_name("recursive") {
                break;
            }
            items.push(self.conditional(with_condition)?);
            if !self.skip(",") {
                break;
            }
            is_tuple = true;
        }
        if !is_tuple {
            return match items.pop() {
                Some(one) => Ok(one),
                None if may_be_empty => Ok(Written::primary("()")),
                None => self.unexpected(),
            };
        }
        let is_constant = items.iter().all(|item| item.is_constant);
        let comma = if items.len() == 1 { "," } else { "" };
        let text = items.into_iter().map(|item| item.text).collect::<Vec<_>>().join(",");
        Ok(held(Written::primary(format!("({text}{comma})")), is_constant))
    }

    pub(super) fn deeper<T>(
        &mut self,
        read: impl FnOnce(&mut Self) -> Result<T, SyntaxError>,
    ) -> Result<T, SyntaxError> {
        if self.depth >= DEPTH {
            return self.fail(format!("an expression nests deeper than {DEPTH}"));
        }
        self.depth += 1;
        let result = read(self);
        self.depth -= 1;
        result
    }

    /// Counts what nests the expression before it.
    pub(super) fn link(&mut self) -> Result<(), SyntaxError> {
        self.links += 1;
        if self.links > LINKS {
            return self.fail(format!("a tag has more than {LINKS} operators, filters and calls"));
        }
        Ok(())
    }

    pub(super) fn conditional(&mut self, with_condition: bool) -> Result<Written, SyntaxError> {
        self.deeper(|this| {
            let mut written = this.or()?;
            let may_not_run = this.may_not_run;
            while with_condition && this.skip_name("if") {
                this.link()?;
                this.may_not_run = true;
                let condition = this.or()?.at(Tightness::Filtered);
                let mut text = format!("{} if {condition}", written.at(Tightness::Filtered));
                if this.skip_name("else") {
                    let _ = write!(text, " else {}", this.conditional(true)?.at(Tightness::Filtered));
                }
                written = Written::loose(text);
            }
            this.may_not_run = may_not_run;
            Ok(written)
        })
    }

    fn or(&mut self) -> Result<Written, SyntaxError> {
        self.chain("or", Self::and)
    }

    fn and(&mut self) -> Result<Written, SyntaxError> {
        self.chain("and", Self::not)
    }

    fn chain(
        &mut self,
        word: &str,
        operand: fn(&mut Self) -> Result<Written, SyntaxError>,
    ) -> Result<Written, SyntaxError> {
        let first = operand(self)?;
        if !self.at_name(word) {
            return Ok(first);
        }
        let mut text = first.at(Tightness::Filtered);
        while self.skip_name(word) {
            self.link()?;
            let _ = write!(text, " {word} {}", operand(self)?.at(Tightness::Filtered));
        }
        Ok(Written::loose(text))
    }

    fn not(&mut self) -> Result<Written, SyntaxError> {
        if !self.skip_name("not") {
            return self.comparison();
        }
        let operand = self.deeper(Self::not)?;
        Ok(Written::loose(format!("not {}", operand.at(Tightness::Filtered))))
    }

    fn comparison(&mut self) -> Result<Written, SyntaxError> {
        let first = self.sum()?;
        let mut parts: Vec<(&'static str, Written)> = Vec::new();
        loop {
            let operator = match self.peek() {
                Some(Token::Operator(operator @ ("==" | "!=" | "<" | "<=" | ">" | ">="))) => operator,
                Some(token) if token.is_name("in") => "in",
                Some(token) if token.is_name("not") => {
                    if !self.tokens.get(self.at + 1).is_some_and(|token| token.is_name("in")) {
                        break;
                    }
                    self.at += 1;
                    "not in"
                }
                _ => break,
            };
            self.at += 1;
            self.link()?;
            parts.push((operator, self.sum()?));
        }
        match parts.as_mut_slice() {
            [] => return Ok(first),
            // Nothing of Python's own is left where a literal is compared for equality.
            [(operator @ ("==" | "!="), second)] if first.is_constant || second.is_constant => {
                let second = std::mem::replace(second, Written::primary(""));
                let (first, second) = (first.at(Tightness::Filtered), second.at(Tightness::Filtered));
                return Ok(Written::primary(format!("({first} {operator} {second})")));
            }
            _ => {}
        }
        // Python stops at the first that does not hold. What stands between two is written twice; where that is much, all
        // are computed.
        if parts.len() > 1 && parts.iter().all(|(_, operand)| operand.text.len() < DOUBLED_BYTES) {
            let mut left = first;
            let mut written = Vec::new();
            for (operator, operand) in parts {
                let next = Written {
                    text: operand.text.clone(),
                    tightness: operand.tightness,
                    is_constant: operand.is_constant,
                };
                written.push(left.filter("__compare", &[quoted(operator), operand.text]).text);
                left = next;
            }
            return Ok(Written::loose(written.join(" and ")));
        }
        let arguments: Vec<String> =
            parts.into_iter().flat_map(|(operator, operand)| [quoted(operator), operand.text]).collect();
        Ok(first.filter("__compare", &arguments))
    }

    fn sum(&mut self) -> Result<Written, SyntaxError> {
        self.operators(Self::joined, &[("+", "__add"), ("-", "__subtract")])
    }

    fn joined(&mut self) -> Result<Written, SyntaxError> {
        let mut written = self.product()?;
        let mut others = Vec::new();
        while self.skip("~") {
            others.push(self.product()?.text);
        }
        if !others.is_empty() {
            written = written.filter("__join", &others);
        }
        Ok(written)
    }

    fn product(&mut self) -> Result<Written, SyntaxError> {
        let operators = [("*", "__multiply"), ("/", "__divide"), ("//", "__floor_divide"), ("%", "__modulo")];
        self.operators(Self::power, &operators)
    }

    fn power(&mut self) -> Result<Written, SyntaxError> {
        self.operators(|this| this.unary(true), &[("**", "__power")])
    }

    fn operators(
        &mut self,
        operand: fn(&mut Self) -> Result<Written, SyntaxError>,
        operators: &[(&str, &str)],
    ) -> Result<Written, SyntaxError> {
        let mut written = operand(self)?;
        while let Some((_, filter)) = operators.iter().find(|(operator, _)| self.at(operator)) {
            self.at += 1;
            self.link()?;
            written = written.filter(filter, &[operand(self)?.text]);
        }
        Ok(written)
    }

    pub(super) fn unary(&mut self, with_filters: bool) -> Result<Written, SyntaxError> {
        let mut written = match self.peek() {
            Some(token) if token.is("-") || token.is("+") => {
                let is_minus = token.is("-");
                self.at += 1;
                let operand = self.deeper(|this| this.unary(false))?;
                if is_minus && operand.is_constant && operand.text.bytes().all(|byte| byte.is_ascii_digit()) {
                    Written {
                        tightness: Tightness::Filtered,
                        ..Written::constant(format!("-{}", operand.text))
                    }
                } else {
                    operand.filter(if is_minus { "__negate" } else { "__positive" }, &[])
                }
            }
            _ => self.primary()?,
        };
        written = self.postfix(written)?;
        if with_filters {
            written = self.filters_and_tests(written)?;
        }
        Ok(written)
    }
}
