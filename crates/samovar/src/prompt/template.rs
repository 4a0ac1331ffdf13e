//! Renders a model's chat template, which is code from a stranger: bounded in steps, depth and output.
//!
//! Templates are Jinja as the Hugging Face libraries run it: `trim_blocks`, `lstrip_blocks`, Python's
//! string methods, `raise_exception`, `strftime_now`, `tojson`.
//! *Source:* <https://huggingface.co/docs/transformers/chat_templating>.

use minijinja::syntax::SyntaxConfig;
use minijinja::{Environment, Error, ErrorKind as TemplateErrorKind, Value, context};
use samovar_core::{Descriptor, ErrorKind, Failure};

use crate::request::Message;

/// Steps of the template engine; the longest published templates use a few thousand a message.
const FUEL: u64 = 2_000_000;
/// Bytes of rendered prompt: what a context of a million tokens could hold.
const OUTPUT_LIMIT_BYTES: usize = 8 << 20;
const RECURSION_LIMIT: usize = 64;

/// What a model without a template gets: the `ChatML` form, as llama.cpp does.
const FALLBACK: &str = "{%- for message in messages -%}\
{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' -}}\
{%- endfor -%}\
{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}{%- endif -%}";

/// The conversation as the text that makes the model answer next.
///
/// # Errors
/// `InvalidRequest` when the template refuses the conversation (its own words are in the message) or
/// the result is too long; `InvalidModel` when the template itself is broken or runs away.
pub(crate) fn render(descriptor: &Descriptor, messages: &[Message]) -> Result<String, Failure> {
    let source = descriptor.chat_template.as_deref().unwrap_or(FALLBACK);
    let environment = environment()?;
    let template = environment.template_from_str(source).map_err(|error| broken(&error))?;
    let mut output = Bounded { bytes: Vec::new(), is_full: false };
    let rendered = template.render_captured_to(
        context! {
            messages => messages.iter().map(turn).collect::<Value>(),
            add_generation_prompt => true,
            bos_token => descriptor.bos_token.as_deref().unwrap_or_default(),
            eos_token => descriptor.eos_token.as_deref().unwrap_or_default(),
        },
        &mut output,
    );
    if output.is_full {
        return Err(Failure::new(
            ErrorKind::InvalidRequest,
            format!("the conversation renders to more than {OUTPUT_LIMIT_BYTES} bytes of prompt"),
        )
        .with_param("messages"));
    }
    rendered.map(drop).map_err(|error| refused_or_broken(&error))?;
    String::from_utf8(output.bytes)
        .map_err(|_| Failure::new(ErrorKind::InvalidModel, "the chat template wrote text that is not UTF-8"))
}

fn turn(message: &Message) -> Value {
    Value::from_pairs([("role", message.role.as_str()), ("content", message.content.as_str())])
}

fn environment() -> Result<Environment<'static>, Failure> {
    let mut environment = Environment::new();
    let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
    environment.set_syntax(syntax.map_err(|error| broken(&error))?);
    environment.set_fuel(Some(FUEL));
    environment.set_recursion_limit(RECURSION_LIMIT);
    environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
    environment.add_function("raise_exception", raise_exception);
    Ok(environment)
}

fn raise_exception(message: String) -> Result<String, Error> {
    Err(Error::new(TemplateErrorKind::InvalidOperation, REFUSAL).with_source(Refusal(message)))
}

const REFUSAL: &str = "raise_exception";

/// What a template said by `raise_exception`.
#[derive(Debug)]
struct Refusal(String);

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Refusal {}

fn refused_or_broken(error: &Error) -> Failure {
    let refusal = std::error::Error::source(error).and_then(|source| source.downcast_ref::<Refusal>());
    match refusal {
        Some(Refusal(words)) => Failure::new(
            ErrorKind::InvalidRequest,
            format!("the model's chat template refuses this conversation: {words}"),
        )
        .with_param("messages"),
        None => broken(error),
    }
}

fn broken(error: &Error) -> Failure {
    Failure::new(ErrorKind::InvalidModel, format!("the model's chat template does not work: {error}"))
        .with_hint("send plain text to /v1/completions, or use a file with another template")
}

/// A writer that stops at [`OUTPUT_LIMIT_BYTES`].
struct Bounded {
    bytes: Vec<u8>,
    is_full: bool,
}

impl std::io::Write for Bounded {
    fn write(&mut self, buffer: &[u8]) -> std::io::Result<usize> {
        if self.bytes.len() + buffer.len() > OUTPUT_LIMIT_BYTES {
            self.is_full = true;
            return Err(std::io::Error::other("the rendered prompt is too long"));
        }
        self.bytes.extend_from_slice(buffer);
        Ok(buffer.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use samovar_core::testing::fake::FakeEngine;

    fn with_template(template: Option<&str>) -> Descriptor {
        Descriptor {
            chat_template: template.map(str::to_owned),
            bos_token: Some("<s>".into()),
            eos_token: Some("</s>".into()),
            ..FakeEngine::descriptor("any", 1 << 20)
        }
    }

    fn hello() -> Vec<Message> {
        vec![Message::system("Be brief."), Message::user("  Hello ")]
    }

    #[test]
    fn renders_a_template_written_for_python() {
        let template = "{{ bos_token }}{% for m in messages %}\n{% if m['role'] == 'user' %}\n[INST] {{ m['content'].strip() }} [/INST]\n{% endif %}\n{% endfor %}";
        let text = render(&with_template(Some(template)), &hello()).expect("renders");
        assert_eq!(text, "<s>[INST] Hello [/INST]\n");
    }

    #[test]
    fn falls_back_to_chatml() {
        let text = render(&with_template(None), &hello()).expect("renders");
        assert_eq!(
            text,
            "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n  Hello <|im_end|>\n<|im_start|>assistant\n"
        );
    }

    #[test]
    fn a_template_may_refuse_in_its_own_words() {
        let failure = render(&with_template(Some("{{ raise_exception('roles must alternate') }}")), &hello())
            .expect_err("refuses");
        assert_eq!(failure.kind, ErrorKind::InvalidRequest);
        assert!(failure.message.contains("roles must alternate"), "{failure}");
    }

    #[test]
    fn a_template_that_runs_away_is_stopped() {
        let endless = "{% for a in range(9999) %}{% for b in range(9999) %}{% for c in range(9999) %}{% endfor %}{% endfor %}{% endfor %}";
        let failure = render(&with_template(Some(endless)), &hello()).expect_err("stops");
        assert_eq!(failure.kind, ErrorKind::InvalidModel);
        let flood = "{% for a in range(9999) %}{{ 'x' * 100000 }}{% endfor %}";
        assert!(render(&with_template(Some(flood)), &hello()).is_err());
        let recursive = "{% macro f(n) %}{{ f(n) }}{% endmacro %}{{ f(1) }}";
        assert!(render(&with_template(Some(recursive)), &hello()).is_err());
    }

    #[test]
    fn a_broken_template_is_the_models_fault() {
        let failure = render(&with_template(Some("{% if %}")), &hello()).expect_err("broken");
        assert_eq!(failure.kind, ErrorKind::InvalidModel);
    }
}
