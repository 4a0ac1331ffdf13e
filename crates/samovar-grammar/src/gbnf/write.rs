//! The rules of a GBNF grammar as Lark.

use std::fmt::Write as _;

use super::regular::Expressions;
use super::{Part, Rule};
use crate::error::Error;
use crate::limits;

/// Writes all rules that the first one needs.
pub(super) fn lark(rules: &[Rule], expressions: &Expressions) -> Result<String, Error> {
    let mut writer = Writer { rules, expressions, needed: Vec::new(), is_needed: vec![false; rules.len()] };
    let start = writer.choice(&rules[0].choice);
    if start.is_empty() || start == EMPTY {
        return Err(Error::Line { line: 1, why: "it allows only an empty answer".to_owned() });
    }
    let mut written = format!("start: {start}\n");
    let mut next = 0;
    while let Some(number) = writer.needed.get(next).copied() {
        let body = writer.choice(&rules[number].choice);
        let _ = writeln!(written, "{}: {body}", writer.name(number));
        if written.len() > limits::GBNF_LARK_BYTES {
            return Err(Error::TooLong {
                what: "the grammar as Lark",
                bytes: written.len(),
                most: limits::GBNF_LARK_BYTES,
            });
        }
        next += 1;
    }
    Ok(written)
}

/// A sequence of nothing.
const EMPTY: &str = "\"\"";

struct Writer<'g> {
    rules: &'g [Rule],
    expressions: &'g Expressions,
    /// Rules that were named and must be written, each once.
    needed: Vec<usize>,
    is_needed: Vec<bool>,
}

impl Writer<'_> {
    /// A name that Lark takes for a rule's, different for each rule.
    fn name(&self, number: usize) -> String {
        let name: String = self.rules[number].name.to_ascii_lowercase().replace('-', "_");
        format!("r{number}_{name}")
    }

    fn choice(&mut self, choice: &[Vec<Part>]) -> String {
        if let Some(expression) = self.expressions.of_choice(choice) {
            return terminal(&expression);
        }
        let sequences: Vec<String> = choice.iter().map(|sequence| self.sequence(sequence)).collect();
        sequences.join(" | ")
    }

    /// A sequence: what is regular next to each other is one terminal.
    fn sequence(&mut self, sequence: &[Part]) -> String {
        let (mut written, mut run) = (Vec::new(), String::new());
        for part in sequence {
            if let Some(expression) = self.expressions.of_part(part) {
                run.push_str(&expression);
                continue;
            }
            if !run.is_empty() {
                written.push(terminal(&std::mem::take(&mut run)));
            }
            written.push(self.part(part));
        }
        if !run.is_empty() {
            written.push(terminal(&run));
        }
        if written.is_empty() { EMPTY.to_owned() } else { written.join(" ") }
    }

    fn part(&mut self, part: &Part) -> String {
        match part {
            Part::Terminal(expression) => terminal(expression),
            Part::Rule(number) => {
                if !std::mem::replace(&mut self.is_needed[*number], true) {
                    self.needed.push(*number);
                }
                self.name(*number)
            }
            Part::Choice(choice) => format!("({})", self.choice(choice)),
            Part::Repeat { most: Some(0), .. } => EMPTY.to_owned(),
            Part::Repeat { part, least, most } => {
                let part = match &**part {
                    Part::Repeat { .. } => format!("({})", self.part(part)),
                    _ => self.part(part),
                };
                match (least, most) {
                    (0, None) => format!("{part}*"),
                    (1, None) => format!("{part}+"),
                    (0, Some(1)) => format!("{part}?"),
                    (least, None) => format!("{part}{{{least},}}"),
                    (least, Some(most)) => format!("{part}{{{least},{most}}}"),
                }
            }
        }
    }
}

fn terminal(expression: &str) -> String {
    if expression.is_empty() { EMPTY.to_owned() } else { format!("/{expression}/") }
}
