//! The operands of an expression: literals, names, attributes, subscripts, calls, filters and tests.

use std::collections::HashMap;
use std::fmt::Write as _;

use super::SyntaxError;
use super::expression::Expressions;
use super::lexer::Token;
use super::written::{Tightness, Written, held, quoted};
use crate::template::{filters, python, tests};

impl Expressions<'_> {
    pub(super) fn primary(&mut self) -> Result<Written, SyntaxError> {
        let Some(token) = self.peek() else { return self.unexpected() };
        self.at += 1;
        Ok(match token {
            Token::Name(name) => match name.as_str() {
                "true" | "True" => Written::constant("true"),
                "false" | "False" => Written::constant("false"),
                "none" | "None" => Written::constant("none"),
                "loop" => Written::primary(self.name_of_loop.as_deref().unwrap_or("loop")),
                name => Written::primary(name),
            },
            Token::Text(text) => {
                let mut text = text.clone();
                while let Some(Token::Text(more)) = self.peek() {
                    text.push_str(more);
                    self.at += 1;
                }
                Written::constant(quoted(&text))
            }
            Token::Integer(value) => Written::constant(value.to_string()),
            Token::Float(value) => {
                let text = format!("{value:?}");
                let is_plain = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
                if is_plain {
                    Written::constant(text)
                } else {
                    Written::constant(quoted(&text)).filter("float", &[])
                }
            }
            Token::Operator("(") => {
                let inner = self.deeper(|this| this.tuple_or_one(true, true))?;
                self.expect(")")?;
                let is_constant = inner.is_constant;
                Written { is_constant, ..Written::primary(inner.at(Tightness::Primary)) }
            }
            Token::Operator("[") => {
                let (items, is_constant) = self.items("]")?;
                held(Written::primary(format!("[{items}]")), is_constant)
            }
            Token::Operator("{") => self.dict()?,
            Token::Operator(_) => {
                self.at -= 1;
                return self.unexpected();
            }
        })
    }

    fn items(&mut self, closing: &str) -> Result<(String, bool), SyntaxError> {
        let mut items = Vec::new();
        let mut is_constant = true;
        while !self.at(closing) {
            if !items.is_empty() {
                self.expect(",")?;
                if self.at(closing) {
                    break;
                }
            }
            let item = self.conditional(true)?;
            is_constant &= item.is_constant;
            items.push(item.text);
        }
        self.expect(closing)?;
        Ok((items.join(","), is_constant))
    }

    fn dict(&mut self) -> Result<Written, SyntaxError> {
        let mut pairs: Vec<(String, String)> = Vec::new();
        let mut numbers: HashMap<u64, usize> = HashMap::new();
        let mut is_constant = true;
        while !self.at("}") {
            if !pairs.is_empty() {
                self.expect(",")?;
                if self.at("}") {
                    break;
                }
            }
            let key = self.conditional(true)?;
            self.expect(":")?;
            let value = self.conditional(true)?;
            is_constant &= value.is_constant;
            if let Some(number) = key.number() {
                // To Python `1`, `1.0` and `true` are one key, which keeps its first form and takes the last value.
                let place = *numbers.entry(number.to_bits()).or_insert(pairs.len());
                if place < pairs.len() {
                    pairs[place].1 = value.text;
                    continue;
                }
            }
            let key = if key.is_constant { key.text } else { key.filter("__key", &[]).text };
            pairs.push((key, value.text));
        }
        self.expect("}")?;
        let pairs: Vec<String> = pairs.into_iter().map(|(key, value)| format!("{key}:{value}")).collect();
        // A space, as two braces are the end of a tag.
        Ok(held(Written::primary(format!("{{{} }}", pairs.join(","))), is_constant))
    }

    /// Counts what nests the operand before it, where one of these follows.
    fn link_at(&mut self, openings: &[&str]) -> Result<(), SyntaxError> {
        if openings.iter().any(|opening| self.at(opening)) { self.link() } else { Ok(()) }
    }

    pub(super) fn postfix(&mut self, mut written: Written) -> Result<Written, SyntaxError> {
        loop {
            self.link_at(&[".", "[", "("])?;
            if self.skip(".") {
                written = match self.peek() {
                    Some(Token::Name(name)) => {
                        self.at += 1;
                        let is_called = self.at("(");
                        if name.starts_with("__") || (!is_called && python::is_method(name)) {
                            written.filter("__attribute", &[quoted(name)])
                        } else {
                            Written::primary(format!("{}.{name}", written.at(Tightness::Primary)))
                        }
                    }
                    Some(Token::Integer(index)) => {
                        self.at += 1;
                        written.filter("__item", &[index.to_string()])
                    }
                    _ => return self.fail("expected name or number"),
                };
            } else if self.skip("[") {
                written = self.subscript(written)?;
            } else if self.at("(") {
                if self.name_of_loop.as_ref().is_some_and(|name| *name == written.text) {
                    return self
                        .fail("a loop cannot call itself in a 'with' that 'break' or 'continue' leaves");
                }
                let arguments = self.arguments()?;
                // A loop that calls itself iterates over its argument.
                let is_loop = written.text == "loop" && arguments.len() == 1;
                let arguments =
                    if is_loop { format!("({})|__iterate", arguments[0]) } else { arguments.join(",") };
                written = Written::primary(format!("{}({arguments})", written.at(Tightness::Primary)));
            } else {
                return Ok(written);
            }
        }
    }

    fn subscript(&mut self, written: Written) -> Result<Written, SyntaxError> {
        let constant = match (self.peek(), self.tokens.get(self.at + 1)) {
            (Some(token), Some(next)) if next.is("]") => Some(token),
            _ => None,
        };
        match constant {
            Some(Token::Text(key)) if !key.starts_with("__") && !python::is_method(key) => {
                self.at += 2;
                return Ok(Written::primary(format!("{}[{}]", written.at(Tightness::Primary), quoted(key))));
            }
            Some(Token::Integer(index)) => {
                self.at += 2;
                return Ok(written.filter("__item", &[index.to_string()]));
            }
            _ => {}
        }
        let mut bounds: Vec<String> = Vec::new();
        let mut is_slice = false;
        loop {
            let bound = if self.at(":") || self.at("]") { "none".to_owned() } else { self.expression()? };
            bounds.push(bound);
            if !self.skip(":") {
                break;
            }
            is_slice = true;
        }
        if bounds.len() > 3 || (!is_slice && self.tokens[self.at - 1].is("[")) {
            return self.unexpected();
        }
        self.expect("]")?;
        Ok(written.filter(if is_slice { "__slice" } else { "__item" }, &bounds))
    }

    /// The arguments of a call, with its parentheses.
    fn arguments(&mut self) -> Result<Vec<String>, SyntaxError> {
        self.deeper(|this| {
            this.expect("(")?;
            let mut arguments = Vec::new();
            let mut has_named = false;
            while !this.at(")") {
                if !arguments.is_empty() {
                    this.expect(",")?;
                    if this.at(")") {
                        break;
                    }
                }
                let named = match (this.peek(), this.tokens.get(this.at + 1)) {
                    (Some(Token::Name(name)), Some(next)) if next.is("=") => Some(name),
                    _ => None,
                };
                if let Some(name) = named {
                    this.at += 2;
                    has_named = true;
                    arguments.push(format!("{name}={}", this.expression()?));
                } else if this.skip("**") {
                    has_named = true;
                    arguments.push(format!("**{}", this.conditional(true)?.at(Tightness::Primary)));
                } else if this.skip("*") {
                    arguments.push(format!("*{}", this.conditional(true)?.at(Tightness::Primary)));
                } else if has_named {
                    return this.fail("invalid syntax for function call expression");
                } else {
                    arguments.push(this.expression()?);
                }
            }
            this.expect(")")?;
            Ok(arguments)
        })
    }

    pub(super) fn filters_and_tests(&mut self, mut written: Written) -> Result<Written, SyntaxError> {
        loop {
            self.link_at(&["|", "("])?;
            if self.skip("|") {
                let (name, arguments) = self.named_call(filters::is_known)?;
                written = match name {
                    Some(name) => written.filter(&name, &arguments),
                    None => written.filter("__refuse", &[quoted("no filter of this name")]),
                };
            } else if self.skip_name("is") {
                self.link()?;
                let is_negated = self.skip_name("not");
                let (name, mut arguments) = self.named_call(tests::is_known)?;
                if arguments.is_empty() && !self.tokens[self.at - 1].is(")") && self.at_operand() {
                    if self.at_name("is") {
                        return self.fail("you cannot chain multiple tests with is");
                    }
                    let is_word = ["not", "in", "if"].iter().any(|word| self.at_name(word));
                    let operand = self.primary()?;
                    // Python reads a name here, which nothing has.
                    let operand =
                        if is_word { Written::primary("__nothing") } else { self.postfix(operand)? };
                    arguments.push(operand.text);
                }
                let Some(name) = name else {
                    written = written.filter("__refuse", &[quoted("no test of this name")]);
                    continue;
                };
                let arguments =
                    if arguments.is_empty() { String::new() } else { format!("({})", arguments.join(",")) };
                let not = if is_negated { "not " } else { "" };
                written =
                    Written::loose(format!("{} is {not}{name}{arguments}", written.at(Tightness::Filtered)));
            } else if self.at("(") {
                let arguments = self.arguments()?.join(",");
                written = Written::primary(format!("{}({arguments})", written.at(Tightness::Primary)));
            } else {
                return Ok(written);
            }
        }
    }

    /// A test's argument may stand without parentheses.
    fn at_operand(&self) -> bool {
        match self.peek() {
            Some(Token::Name(name)) => !["else", "or", "and"].contains(&name.as_str()),
            Some(Token::Operator(operator)) => ["(", "[", "{"].contains(operator),
            Some(_) => true,
            None => false,
        }
    }

    /// A filter's or test's name with its arguments; no name where it is unknown and may never be reached.
    pub(super) fn named_call(
        &mut self,
        is_known: fn(&str) -> bool,
    ) -> Result<(Option<String>, Vec<String>), SyntaxError> {
        let mut name = self.name()?.to_owned();
        while self.skip(".") {
            let _ = write!(name, ".{}", self.name()?);
        }
        let is_known = is_known(&name);
        if !is_known && !self.may_not_run {
            return self.fail(format!("no filter or test named '{name}'"));
        }
        let arguments = if self.at("(") { self.arguments()? } else { Vec::new() };
        Ok((is_known.then_some(name), arguments))
    }
}
