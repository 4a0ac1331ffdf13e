//! What the author of a model of Ollama's set beside its weights: a system message, strings that end answers, how tokens
//! are chosen, and a template in Go's language.
//!
//! The template is never run: it is looked at for the marks of the built-in templates, of which the one that fits stands
//! for it. What is said here yields to whatever a request or the settings say.

use std::io::Read as _;
use std::path::Path;

use samovar_core::chat::BUILT_IN_TEMPLATES;
use samovar_core::{ErrorKind, Failure};
use samovar_store::{Artifact, Opened};
use serde_json::Value;

use super::facts::Facts;
use crate::sampling::SamplingOptions;
use crate::settings::{ChatTemplate, ModelSettings};

/// Bytes of each file that is read.
const FILE_BYTES: u64 = 256 << 10;
/// Strings that end an answer, at most, and the bytes of each.
const STOPS: usize = 16;
const STOP_BYTES: usize = 256;

/// By what marks a template in Go's language is known to write what a built-in one writes. The first that fits counts.
const MARKS: [(&str, &[&str]); 7] = [
    ("chatml", &["<|im_start|>"]),
    ("gemma", &["<start_of_turn>"]),
    ("llama3", &["<|start_header_id|>"]),
    ("phi3", &["<|user|>", "<|end|>"]),
    ("zephyr", &["<|user|>", "</s>"]),
    ("mistral", &["[INST]"]),
    ("vicuna", &["USER:", "ASSISTANT:"]),
];

/// Words by which a tag in Go's language begins, and in Jinja none does that stands for a value.
const GO_WORDS: [&str; 8] = ["if", "range", "end", "else", "with", "block", "define", "template"];

/// What an author set.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Customs {
    /// What conversations begin with that have no system message of their own.
    pub(super) system: Option<String>,
    /// Strings that end answers.
    pub(super) stop: Vec<String>,
    /// How tokens are chosen.
    pub(super) sampling: SamplingOptions,
    /// The built-in template that stands for the author's.
    pub(super) template: Option<&'static str>,
}

impl Customs {
    /// Whether such an artifact may have any.
    fn may_be_of(artifact: &Artifact) -> bool {
        artifact.key.source.as_str() == "ollama"
    }

    /// Reads what there is. What cannot be read or understood is as if it were not there, and told in the log.
    pub(super) fn of(opened: &Opened) -> Self {
        if !Self::may_be_of(opened.artifact()) {
            return Self::default();
        }
        let text = |name: &str| {
            let path = name.parse().expect("invariant: a plain word is a file's name");
            read(opened.path_of(&path)?)
        };
        let template = text("template.go.txt").filter(|template| !template.trim().is_empty());
        let known = template.as_deref().and_then(template_of);
        if template.is_some() && known.is_none() {
            let model = &opened.artifact().reference;
            tracing::warn!(
                model,
                "its template is in Go's language and like none of the built-in ones; where its file has no other, ChatML \
                 is taken, and `chat_template` in its settings names a better one"
            );
        }
        let params = text("params.json").and_then(|params| serde_json::from_str(&params).ok());
        let params = params.unwrap_or(Value::Null);
        Self {
            system: text("system.txt").filter(|system| !system.trim().is_empty()),
            stop: stops(&params),
            sampling: sampling(&params),
            template: known,
        }
    }
}

/// The settings, with the template that stands for the author's where there is no other.
pub(super) fn settings_with(facts: &Facts, settings: &ModelSettings) -> ModelSettings {
    ModelSettings { chat_template: chat_template(facts, settings), ..settings.clone() }
}

/// The template that an owner chose; where no template was chosen and the file has none, the one that stands for the author's.
pub(super) fn chat_template(facts: &Facts, settings: &ModelSettings) -> Option<ChatTemplate> {
    let has_own = facts.descriptor.chat_template.as_ref().is_some_and(|own| !own.trim().is_empty());
    let of_author = facts.customs.template.filter(|_| !has_own);
    settings.chat_template.clone().or_else(|| of_author.map(|name| ChatTemplate::BuiltIn(name.to_owned())))
}

/// The text of a small file.
fn read(path: &Path) -> Option<String> {
    let mut text = String::new();
    let file = fs_err::File::open(path);
    match file.and_then(|file| file.take(FILE_BYTES + 1).read_to_string(&mut text)) {
        Ok(bytes) if bytes as u64 <= FILE_BYTES => Some(text),
        Ok(_) => {
            tracing::warn!(path = %path.display(), "is longer than {FILE_BYTES} bytes, and left out");
            None
        }
        Err(error) => {
            tracing::warn!(%error, "what a model's author set is left out");
            None
        }
    }
}

/// The built-in template that writes what this one does, as far as its marks tell.
fn template_of(template: &str) -> Option<&'static str> {
    let has_all = |marks: &[&str]| marks.iter().all(|mark| template.contains(mark));
    MARKS.iter().find(|(_, marks)| has_all(marks)).map(|(name, _)| *name)
}

/// The template that a user gave, as it is kept: Jinja, or the name of a built-in one. One in Go's language is known by its marks.
///
/// # Errors
/// `InvalidRequest` for one in Go's language whose marks are not known, and for a text without any.
pub(super) fn known_template(template: &str) -> Result<String, Failure> {
    let is_built_in = BUILT_IN_TEMPLATES.contains(&template.trim());
    if is_built_in {
        return Ok(template.trim().to_owned());
    }
    if is_jinja(template) {
        return Ok(template.to_owned());
    }
    template_of(template).map(str::to_owned).ok_or_else(|| {
        Failure::new(
            ErrorKind::InvalidRequest,
            "the template is in Go's language and like none of the built-in ones",
        )
        .with_param("template")
        .with_hint(format!(
            "send it in Jinja, name one of {}, or leave it out: then the model's own counts",
            BUILT_IN_TEMPLATES.join(", ")
        ))
    })
}

/// Whether a template is in Jinja, as far as its tags tell, rather than in Go's language.
fn is_jinja(template: &str) -> bool {
    if template.contains("{%") {
        return true;
    }
    let mut tags = template.split("{{").skip(1).map(|tag| tag.trim_start_matches('-').trim_start());
    let is_gos = |tag: &str| {
        let word = tag.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').next().unwrap_or_default();
        tag.starts_with(['.', '$', '/']) || GO_WORDS.contains(&word)
    };
    template.contains("{{") && !tags.any(is_gos)
}

/// The strings that end answers, by the parameters: one, or a list.
fn stops(params: &Value) -> Vec<String> {
    let stops = match &params["stop"] {
        Value::String(stop) => vec![stop.clone()],
        Value::Array(stops) => stops.iter().filter_map(|stop| stop.as_str().map(str::to_owned)).collect(),
        _ => Vec::new(),
    };
    stops.into_iter().filter(|stop| (1..=STOP_BYTES).contains(&stop.len())).take(STOPS).collect()
}

/// How tokens are chosen, by the parameters; what is no number, or out of its range, is left out. A seed is left out, too:
/// every request would get the same answer.
fn sampling(params: &Value) -> SamplingOptions {
    let number = |name: &str, least: f64, most: f64| {
        let value = params[name].as_f64().filter(|value| (least..=most).contains(value));
        value.map(|value| value as f32)
    };
    let whole = |name: &str, most: u64| {
        let value = params[name].as_u64().filter(|value| *value <= most);
        value.map(|value| value as u32)
    };
    SamplingOptions {
        temperature: number("temperature", 0.0, 2.0),
        top_k: whole("top_k", 1_000_000),
        top_p: number("top_p", f64::from(f32::MIN_POSITIVE), 1.0),
        min_p: number("min_p", 0.0, 1.0),
        repeat_penalty: number("repeat_penalty", 0.01, 10.0),
        repeat_last_tokens: whole("repeat_last_n", 65_536),
        frequency_penalty: number("frequency_penalty", -2.0, 2.0),
        presence_penalty: number("presence_penalty", -2.0, 2.0),
        ..SamplingOptions::default()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_template_in_gos_language_is_known_by_its_marks() {
        for (template, known) in [
            ("{{ if .System }}<|im_start|>system\n{{ .System }}<|im_end|>{{ end }}", Some("chatml")),
            ("<start_of_turn>user\n{{ .Prompt }}<end_of_turn>", Some("gemma")),
            ("{{ if .System }}<|start_header_id|>system<|end_header_id|>", Some("llama3")),
            ("<|user|>\n{{ .Prompt }}<|end|>\n<|assistant|>", Some("phi3")),
            ("<|user|>\n{{ .Prompt }}</s>\n<|assistant|>", Some("zephyr")),
            ("[INST] {{ .Prompt }} [/INST]", Some("mistral")),
            ("USER: {{ .Prompt }}\nASSISTANT:", Some("vicuna")),
            ("{{ .Prompt }}", None),
            ("### Instruction: {{ .Prompt }}", None),
        ] {
            assert_eq!(template_of(template), known, "{template}");
        }
        let built_in = BUILT_IN_TEMPLATES;
        assert!(MARKS.iter().all(|(name, _)| built_in.contains(name)));
    }

    #[test]
    fn a_template_is_jinja_a_built_in_one_or_known_by_its_marks() {
        for (template, kept) in [
            ("gemma", "gemma"),
            (" llama3\n", "llama3"),
            ("{{ if .System }}<|im_start|>system\n{{ .System }}<|im_end|>{{ end }}", "chatml"),
            ("{{- range .Messages }}<start_of_turn>{{ .Role }}{{ end }}", "gemma"),
            (
                "{% for m in messages %}{{ m.content }}{% endfor %}",
                "{% for m in messages %}{{ m.content }}{% endfor %}",
            ),
            ("{{ bos_token }}{{ messages[0].content }}", "{{ bos_token }}{{ messages[0].content }}"),
        ] {
            assert_eq!(known_template(template).expect("is one"), kept, "{template}");
        }
        for template in ["{{ .Prompt }}", "plain text", "### {{ .System }}", "", "{{- /* a comment */ -}}"] {
            let failure = known_template(template).expect_err("refuses");
            assert_eq!(failure.param.as_deref(), Some("template"), "{template}");
        }
    }

    #[test]
    fn stops_are_one_or_a_list_and_bounded() {
        assert_eq!(stops(&json!({ "stop": "<|end|>", "temperature": 0.5 })), ["<|end|>"]);
        assert_eq!(stops(&json!({ "stop": ["a", "", 7, "b"] })), ["a", "b"]);
        assert_eq!(stops(&json!({ "stop": vec!["x"; 99] })).len(), STOPS);
        for params in [json!(null), json!([]), json!({}), json!({ "stop": {} })] {
            assert!(stops(&params).is_empty(), "{params}");
        }
    }

    #[test]
    fn sampling_is_what_the_parameters_say_in_their_ranges() {
        let params = json!({
            "temperature": 0.5, "top_k": 20, "top_p": 0.5, "min_p": 0.25, "repeat_penalty": 1.5, "repeat_last_n": 32,
            "presence_penalty": 1, "frequency_penalty": -0.5, "num_ctx": 4096, "seed": 7, "stop": ["a"],
        });
        let expected = SamplingOptions {
            temperature: Some(0.5),
            top_k: Some(20),
            top_p: Some(0.5),
            min_p: Some(0.25),
            repeat_penalty: Some(1.5),
            repeat_last_tokens: Some(32),
            presence_penalty: Some(1.0),
            frequency_penalty: Some(-0.5),
            ..SamplingOptions::default()
        };
        assert_eq!(sampling(&params), expected);
        let wrong = json!({
            "temperature": 9, "top_k": -1, "top_p": 0, "min_p": "0.1", "repeat_penalty": 0, "repeat_last_n": -1,
            "presence_penalty": null, "frequency_penalty": [1],
        });
        for params in [json!(null), json!([]), json!({}), wrong] {
            assert_eq!(sampling(&params), SamplingOptions::default(), "{params}");
        }
    }
}
