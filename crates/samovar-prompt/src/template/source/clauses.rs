//! What stands in tags beside expressions: targets of assignments, signatures, chains of filters.

use super::SyntaxError;
use super::expression::Expressions;
use super::written::Tightness;
use crate::template::filters;

impl Expressions<'_> {
    /// What is assigned to: names, and where `with_attributes` attributes of namespaces. Tells whether it is one.
    pub(super) fn target(&mut self, with_attributes: bool) -> Result<(String, bool), SyntaxError> {
        let mut targets = Vec::new();
        let mut is_tuple = false;
        let mut is_attribute = false;
        loop {
            if self.peek().is_none() || self.at("=") || self.at("|") || self.at(")") || self.at_name("in") {
                break;
            }
            if self.skip("(") {
                let (inner, _) = self.deeper(|this| this.target(with_attributes))?;
                self.expect(")")?;
                targets.push(format!("({inner})"));
            } else {
                let name = self.name()?;
                if ["true", "false", "none", "True", "False", "None"].contains(&name) {
                    return self.fail(format!("can't assign to '{name}'"));
                }
                if with_attributes && self.skip(".") {
                    targets.push(format!("{name}.{}", self.name()?));
                    is_attribute = true;
                } else {
                    targets.push(name.to_owned());
                }
            }
            if !self.skip(",") {
                break;
            }
            is_tuple = true;
        }
        if targets.is_empty() {
            return self.unexpected();
        }
        let comma = if is_tuple && targets.len() == 1 { "," } else { "" };
        Ok((format!("{}{comma}", targets.join(", ")), is_attribute))
    }

    /// `(a, b=1)` behind a macro's name or `call`.
    pub(super) fn signature(&mut self) -> Result<String, SyntaxError> {
        self.expect("(")?;
        let mut parameters = Vec::new();
        let mut has_default = false;
        while !self.at(")") {
            if !parameters.is_empty() {
                self.expect(",")?;
            }
            let name = self.name()?;
            if self.skip("=") {
                has_default = true;
                parameters.push(format!("{name}={}", self.expression()?));
            } else if has_default {
                return self.fail("non-default argument follows default argument");
            } else {
                parameters.push(name.to_owned());
            }
        }
        self.expect(")")?;
        Ok(parameters.join(", "))
    }

    /// `a = 1, b = 2` of `with`: the names, and what each is set to.
    pub(super) fn assignments(&mut self) -> Result<(Vec<String>, Vec<String>), SyntaxError> {
        let (mut names, mut values) = (Vec::new(), Vec::new());
        while self.peek().is_some() {
            if !names.is_empty() {
                self.expect(",")?;
            }
            names.push(self.name()?.to_owned());
            self.expect("=")?;
            values.push(self.expression()?);
        }
        Ok((names, values))
    }

    /// `f(1)|g` of a filter block or an assignment block.
    pub(super) fn filters(&mut self) -> Result<String, SyntaxError> {
        let mut written = Vec::new();
        loop {
            let (name, arguments) = self.named_call(filters::is_known)?;
            let Some(name) = name else { return self.fail("unknown filter") };
            written.push(if arguments.is_empty() {
                name
            } else {
                format!("{name}({})", arguments.join(","))
            });
            if !self.skip("|") {
                return Ok(written.join("|"));
            }
            self.link()?;
        }
    }

    /// The call of a `call` block.
    pub(super) fn call(&mut self) -> Result<String, SyntaxError> {
        let call = self.unary(true)?;
        if call.tightness != Tightness::Primary || !call.text.ends_with(')') {
            return self.fail("expected call");
        }
        Ok(call.text)
    }
}
