//! llama.cpp's grammars (GBNF), written again as Lark.
//!
//! ```text
//!   parse    text → rules
//!   regular  rules that do not contain themselves → regular expressions
//!   write    the others → rules of Lark
//! ```
//!
//! llama.cpp reads a grammar character by character. Here, what stands next to each other without a rule that contains itself
//! becomes one terminal, because a terminal is read much faster than a rule. As in Lark, a terminal takes the longest text that
//! it can. So between a terminal and a rule, the language can be smaller than in llama.cpp; it is never larger.

mod parse;
mod regular;
mod write;

use crate::error::Error;

/// The rule with which an answer begins.
const ROOT: &str = "root";

/// One part of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    /// One character or several, as a regular expression.
    Terminal(String),
    /// Another rule, by its number.
    Rule(usize),
    /// One of several sequences.
    Choice(Vec<Vec<Part>>),
    /// A part again and again.
    Repeat { part: Box<Part>, least: u32, most: Option<u32> },
}

/// A rule: one of several sequences.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Rule {
    name: String,
    choice: Vec<Vec<Part>>,
}

/// Writes a grammar as Lark.
pub(crate) fn to_lark(text: &str) -> Result<String, Error> {
    let rules = parse::rules(text)?;
    let expressions = regular::expressions(&rules);
    write::lark(&rules, &expressions)
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use super::*;

    fn lark(text: &str) -> String {
        to_lark(text).unwrap_or_else(|error| panic!("{error}"))
    }

    fn refused(text: &str) -> String {
        to_lark(text).expect_err("refused").to_string()
    }

    #[test]
    fn a_grammar_without_recursion_is_one_terminal() {
        assert_eq!(lark("root ::= \"yes\" | \"no\""), "start: /(?:yes|no)/\n");
        let written = lark("root ::= [a-z]+ \" \" x?\nx ::= [^\"\\n]{2,3}");
        assert_eq!(written.trim_end(), r"start: /(?:[a-z])+\x{20}(?:(?:[^\x{22}\x{A}]){2,3})?/");
        assert_eq!(lark("root ::= . \"\\x41\\u00e9/\""), "start: /(?s:.)A\\x{E9}\\x{2F}/\n");
    }

    #[test]
    fn what_contains_itself_stays_a_rule() {
        let grammar = "# lists\nroot ::= list\nlist ::= \"[\" (item (\",\" item)*)? \"]\"\nitem ::= [0-9] | list # end\n";
        let written = lark(grammar);
        let expected = "start: r1_list\n\
             r1_list: /\\x{5B}/ (r2_item (/\\x{2C}/ r2_item)*)? /\\x{5D}/\n\
             r2_item: /[0-9]/ | r1_list\n";
        assert_eq!(written, expected);
    }

    #[test]
    fn rules_may_go_over_lines_in_parentheses_and_after_signs() {
        let grammar = "root ::=\n  \"a\" (\n  \"b\" |\n  \"c\"\n  ) |\n  \"d\"\n\nunused ::= \"e\"\n";
        assert_eq!(lark(grammar), "start: /(?:a(?:b|c)|d)/\n");
        assert_eq!(lark("root ::= \"a\"{0} \"b\"{3} \"c\"{1,}"), "start: /(?:b){3}(?:c)+/\n");
    }

    #[test]
    fn what_is_not_understood_is_refused_with_its_line() {
        for (grammar, line, why) in [
            ("root ::= \"a\"\nx = \"b\"", 2, "::="),
            ("root ::= \"a", 1, "does not end"),
            ("root ::= [a-z", 1, "does not end"),
            ("root ::= [z-a]", 1, "range"),
            ("root ::= \"a\" | (\"b\"\n\n", 3, ")"),
            ("root ::= \"\\q\"", 1, "\\q"),
            ("root ::= <[123]>", 1, "<"),
            ("root ::= y\n", 1, "`y`"),
            ("root ::= \"a\"\nroot ::= \"b\"", 2, "twice"),
            ("root ::= * \"a\"", 1, "repeat"),
            ("root ::= \"a\"{3,2}", 1, "repeat"),
            ("root ::= \"a\"{1,100000}", 1, "repeat"),
            ("root ::= \"\\ud800\"", 1, "character"),
            ("start ::= \"a\"", 1, "`root`"),
            ("", 1, "`root`"),
            ("root ::= ", 1, "empty"),
        ] {
            let message = refused(grammar);
            assert!(
                message.starts_with(&format!("line {line} ")) && message.contains(why),
                "{grammar:?}: {message}"
            );
        }
        let deep = format!("root ::= {}\"a\"{}", "(".repeat(1_000), ")".repeat(1_000));
        assert!(refused(&deep).contains("parentheses"));
        let repeated = |signs: usize| format!("root ::= \"a\"{}", "?".repeat(signs));
        assert!(refused(&repeated(65)).contains("repetitions") && to_lark(&repeated(64)).is_ok());
        let many: Vec<String> = (0..2_000).map(|rule| format!("r{rule} ::= \"a\"\n")).collect();
        assert!(refused(&many.concat()).contains("rules"));
    }

    #[test]
    fn what_doubles_with_each_rule_stays_small() {
        let mut grammar = "root ::= r0\n".to_owned();
        for rule in 0..60 {
            let _ = writeln!(grammar, "r{rule} ::= r{0} r{0}", rule + 1);
        }
        grammar.push_str("r60 ::= \"ab\"\n");
        assert!(lark(&grammar).len() < 200_000);
    }
}
