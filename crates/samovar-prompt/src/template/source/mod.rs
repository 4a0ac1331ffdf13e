//! From a template as Python's Jinja2 reads it to one that minijinja reads with the same meaning: whitespace rules,
//! operators and attributes become explicit. It only rewrites text and never evaluates any.

mod clauses;
mod expression;
mod lexer;
mod operand;
mod pieces;
mod statement;

use std::fmt;

/// Bytes that a rewritten template may have; published ones stay below 100 KB.
const LIMIT_BYTES: usize = 4 << 20;

/// Why a template is no Jinja.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SyntaxError {
    pub(crate) line: usize,
    pub(crate) words: String,
}

impl SyntaxError {
    fn new(line: usize, words: impl Into<String>) -> Self {
        Self { line, words: words.into() }
    }
}

impl fmt::Display for SyntaxError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "syntax error: {} (line {})", self.words, self.line)
    }
}

impl std::error::Error for SyntaxError {}

/// The template in minijinja's terms. Every whitespace rule is applied already: the result is to be compiled without
/// `trim_blocks` and `lstrip_blocks`, and with its last newline kept. Lines keep their numbers where they can.
///
/// # Errors
/// What Jinja2 refuses to compile.
pub(crate) fn translate(source: &str) -> Result<String, SyntaxError> {
    let source = one_kind_of_newline(source);
    let mut writer = statement::Writer::default();
    for piece in pieces::split(&source)? {
        writer.write(piece)?;
        if writer.text.len() > LIMIT_BYTES {
            return Err(SyntaxError::new(1, format!("it is longer than {LIMIT_BYTES} bytes")));
        }
    }
    writer.finish()
}

/// Jinja2 reads `\r\n` and `\r` as `\n`, and drops one newline at the end.
fn one_kind_of_newline(source: &str) -> String {
    let mut text = source.replace("\r\n", "\n").replace('\r', "\n");
    if text.ends_with('\n') {
        text.pop();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is(source: &str, expected: &str) {
        assert_eq!(translate(source).expect("translates"), expected);
    }

    #[test]
    fn operators_become_filters_that_know_python() {
        is("{{ a + b * 2 }}", "{{ a|__add(b|__multiply(2)) }}");
        is("{{ '%s' % x ~ y }}", "{{ \"%s\"|__modulo(x)|__join(y) }}");
        is("{{ a < b <= 3 }}", "{{ a|__compare(\"<\",b) and b|__compare(\"<=\",3) }}");
        is("{{ m['role'] == 'user' }}", "{{ (m[\"role\"] == \"user\") }}");
    }

    #[test]
    fn whitespace_is_decided_here() {
        is("a\n  {% if x %}\nb\n  {%+ endif -%}\n c\n", "a\n{% if x %}b\n  {%\n endif %}c");
        is("a {{- x -}} b", "a{{ x }}b");
        is("{# a #}\nb", "b");
        is("{% raw %}{{ x }}{% endraw %}", "{% raw %}{{ x }}{% endraw %}");
    }

    #[test]
    fn generation_blocks_are_scopes() {
        is("{% generation %}a{% endgeneration %}", "{% with %}a{% endwith %}");
    }

    #[test]
    fn refuses_what_python_refuses() {
        for source in [
            "{% do x %}",
            "{{ a b }}",
            "{{ 'x }}",
            "{{ x|nothing }}",
            "{% if %}",
            "{{ (a }}",
            "{# x",
            "{{ a is b is c }}",
        ] {
            assert!(translate(source).is_err(), "{source}");
        }
    }
}
