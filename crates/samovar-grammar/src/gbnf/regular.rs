//! Rules that do not contain themselves, as regular expressions.

use super::{Part, Rule};
use crate::limits;

/// What is known of a rule.
#[derive(Clone)]
enum Known {
    Nothing,
    /// It is being read: a rule that is met then contains itself.
    InProgress,
    /// It has no regular expression, or a very long one.
    Irregular,
    Regular(String),
}

/// The regular expression of each rule; `None` for one that stays a rule.
pub(super) struct Expressions {
    known: Vec<Known>,
}

/// Reads all rules.
pub(super) fn expressions(rules: &[Rule]) -> Expressions {
    let mut expressions = Expressions { known: vec![Known::Nothing; rules.len()] };
    for number in 0..rules.len() {
        expressions.read_rule(rules, number);
    }
    expressions
}

impl Expressions {
    /// The regular expression of a rule.
    pub(super) fn of_rule(&self, number: usize) -> Option<&str> {
        match &self.known[number] {
            Known::Regular(expression) => Some(expression),
            _ => None,
        }
    }

    /// The regular expression of a part, if all rules in it have one.
    pub(super) fn of_part(&self, part: &Part) -> Option<String> {
        match part {
            Part::Terminal(expression) => Some(expression.clone()),
            Part::Rule(number) => self.of_rule(*number).map(str::to_owned),
            Part::Choice(choice) => self.of_choice(choice),
            Part::Repeat { part, least, most } => bounded(repeated(&self.of_part(part)?, *least, *most)),
        }
    }

    /// The regular expression of a choice, if all parts of it have one.
    pub(super) fn of_choice(&self, choice: &[Vec<Part>]) -> Option<String> {
        let mut alternatives = Vec::with_capacity(choice.len());
        for sequence in choice {
            let parts: Option<Vec<String>> = sequence.iter().map(|part| self.of_part(part)).collect();
            alternatives.push(bounded(parts?.concat())?);
        }
        match alternatives.as_slice() {
            [only] => Some(only.clone()),
            _ => bounded(format!("(?:{})", alternatives.join("|"))),
        }
    }

    fn read_rule(&mut self, rules: &[Rule], number: usize) {
        if !matches!(self.known[number], Known::Nothing) {
            return;
        }
        self.known[number] = Known::InProgress;
        for sequence in &rules[number].choice {
            for part in sequence {
                self.read_part(rules, part);
            }
        }
        self.known[number] = match self.of_choice(&rules[number].choice) {
            Some(expression) => Known::Regular(expression),
            None => Known::Irregular,
        };
    }

    /// Reads the rules in a part.
    fn read_part(&mut self, rules: &[Rule], part: &Part) {
        match part {
            Part::Terminal(_) => {}
            Part::Rule(number) => self.read_rule(rules, *number),
            Part::Choice(choice) => {
                for part in choice.iter().flatten() {
                    self.read_part(rules, part);
                }
            }
            Part::Repeat { part, .. } => self.read_part(rules, part),
        }
    }
}

/// A part again and again.
fn repeated(expression: &str, least: u32, most: Option<u32>) -> String {
    if most == Some(0) || expression.is_empty() {
        return String::new();
    }
    match (least, most) {
        (0, None) => format!("(?:{expression})*"),
        (1, None) => format!("(?:{expression})+"),
        (0, Some(1)) => format!("(?:{expression})?"),
        (least, None) => format!("(?:{expression}){{{least},}}"),
        (least, Some(most)) if least == most => format!("(?:{expression}){{{least}}}"),
        (least, Some(most)) => format!("(?:{expression}){{{least},{most}}}"),
    }
}

/// An expression that is not too long to stand wherever its rule is used.
fn bounded(expression: String) -> Option<String> {
    (expression.len() <= limits::GBNF_TERMINAL_BYTES).then_some(expression)
}
