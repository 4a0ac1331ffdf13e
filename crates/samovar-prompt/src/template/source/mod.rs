//! From a template as Python's Jinja2 reads it to one that minijinja reads with the same meaning: whitespace rules,
//! operators and attributes become explicit. It only rewrites text and never evaluates any.

mod clauses;
mod expression;
mod lexer;
mod operand;
mod pieces;
mod statement;
mod written;

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
    let pieces = pieces::split(&source)?;
    let mut writer = statement::Writer::new(&pieces)?;
    for piece in pieces {
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
        is(
            "{% set x %}a{% endset %}{% filter trim %}b{% endfilter %}",
            "{% set x %}{% with %}a{% endwith %}{% endset %}{% filter trim %}{% with %}b{% endwith %}{% endfilter %}",
        );
    }

    #[test]
    fn equal_keys_of_a_dict_are_one() {
        is("{{ {1: a, true: b, 'x': c, 1.0: d} }}", "{{ ({1:d,\"x\":c }|__held) }}");
    }

    #[test]
    fn with_sets_all_its_names_at_once() {
        is("{% with a=1, b=a %}{% endwith %}", "{% with (a, b) = (1,a) %}{% endwith %}");
    }

    #[test]
    fn what_a_loop_leaves_early_is_a_loop() {
        is(
            "{% for x in y %}{% with %}{% break %}{{ loop.first }}{% endwith %}{% endfor %}",
            "{% for x in (y)|__iterate %}{% set __loop1 = loop %}{% set __jump1 = namespace(to=\"\") %}\
             {% for __one in [(1)] %}{% set __jump1.to = \"break\" %}{% break %}{{ __loop1.first }}{% endfor %}\
             {% if __jump1.to == \"continue\" %}{% continue %}{% endif %}\
             {% if __jump1.to == \"break\" %}{% break %}{% endif %}{% endfor %}",
        );
    }

    #[test]
    fn refuses_a_loop_that_calls_itself_where_it_is_left_early() {
        let within = |call: &str, leave: &str| {
            format!(
                "{{% for x in y recursive %}}{{% with %}}{{{{ {call} }}}}{leave}{{% endwith %}}{{% endfor %}}"
            )
        };
        let error = translate(&within("loop(x)", "{% break %}")).expect_err("refuses");
        assert!(error.words.contains("cannot call itself"), "{error}");
        assert!(translate(&within("loop(x)", "")).is_ok());
        assert!(translate(&within("loop.cycle(x)", "{% break %}")).is_ok());
    }

    #[test]
    fn refuses_to_leave_a_loop_through_what_python_makes_a_function_of() {
        for around in ["macro m()", "call m()", "block b", "generation", "filter upper", "set x"] {
            let end = around.split(' ').next().unwrap_or_default();
            let source =
                format!("{{% for x in y %}}{{% {around} %}}{{% break %}}{{% end{end} %}}{{% endfor %}}");
            assert!(translate(&source).is_err(), "{source}");
        }
        assert!(translate("{% for x in y %}{% else %}{% break %}{% endfor %}").is_err());
        let outer = "{% for z in y %}{% for x in y %}{% else %}{% break %}{% endfor %}{% endfor %}";
        assert!(translate(outer).is_ok());
    }

    #[test]
    fn what_would_take_too_much_stack_is_refused() {
        let nested = |opening: &str, closing: &str, count: usize| {
            format!("{}{}", opening.repeat(count), closing.repeat(count))
        };
        let elifs = "{% elif x %}".repeat(10_000);
        for source in [
            format!("{{% set {} = 1 %}}", nested("(", ")", 10_000).replacen("()", "(a)", 1)),
            format!("{{{{ a{} }}}}", " + a".repeat(10_000)),
            format!("{{{{ a{} }}}}", " and a".repeat(10_000)),
            format!("{{{{ a{} }}}}", ".a".repeat(10_000)),
            format!("{{{{ a{} }}}}", "|trim".repeat(10_000)),
            format!("{{{{ a{} }}}}", " if a".repeat(10_000)),
            format!("{{{{ {}a }}}}", "-".repeat(10_000)),
            format!("{{% if x %}}{elifs}{{% endif %}}"),
            nested("{% if x %}{% elif x %}{% elif x %}{% elif x %}", "{% endif %}", 90),
            nested("{% if x %}", "{% endif %}", 10_000),
            nested("{% with %}", "{% endwith %}", 10_000),
        ] {
            assert!(translate(&source).is_err(), "{}", &source[..60]);
        }
        let languages: Vec<String> = (0..2_000).map(|n| format!("'l{n}': 'Language {n}'")).collect();
        assert!(translate(&format!("{{% set languages = {{{}}} %}}", languages.join(", "))).is_ok());
        assert!(translate(&format!("{{{{ a{} }}}}", " + a".repeat(300))).is_ok());
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
            "{% with a=1, %}{% endwith %}",
        ] {
            assert!(translate(source).is_err(), "{source}");
        }
    }
}
