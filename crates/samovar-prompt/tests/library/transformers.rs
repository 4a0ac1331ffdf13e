//! Every template of the corpus with every conversation renders as Python's Jinja2 does in transformers' sandbox: by
//! the outputs that are kept in `corpus/expected.json`, and anew where Python and its jinja2 are at hand.
//!
//! Python is taken from `SAMOVAR_TEST_JINJA_PYTHON`, else `python3`; without jinja2 the second test says so and is
//! skipped. `SAMOVAR_TEST_WRITE_EXPECTED=1` writes the outputs anew by Python, and `SAMOVAR_TEST_TEMPLATES=folder`
//! compares the templates of another folder, too.
#![allow(
    clippy::disallowed_methods,
    clippy::format_push_string,
    clippy::print_stdout,
    reason = "where Python lies is known to the user who runs the tests, and what was skipped is said"
)]

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use samovar_core::chat::{Chat, WallTime};
use samovar_core::testing::fake::FakeEngine;
use samovar_core::{Descriptor, ErrorKind};
use samovar_prompt::{ControlTokens, Renderer};
use serde_json::{Map, Value, json};

/// 2025-07-21 00:00:00 UTC.
const NOW_S: i64 = 1_753_056_000;

/// What became of a rendering.
#[derive(Debug, Clone, PartialEq, Eq)]
enum RenderOutcome {
    Text(String),
    /// By `raise_exception`, in these words.
    Refused(String),
    /// By anything else.
    Failed,
}

impl RenderOutcome {
    fn of_json(answer: &Value) -> Self {
        let text = |name: &str| answer.get(name).and_then(Value::as_str).map(str::to_owned);
        match (text("text"), text("refused")) {
            (Some(text), _) => Self::Text(text),
            (None, Some(words)) => Self::Refused(words),
            (None, None) => Self::Failed,
        }
    }

    fn to_json(&self) -> Value {
        match self {
            Self::Text(text) => json!({ "text": text }),
            Self::Refused(words) => json!({ "refused": words }),
            Self::Failed => json!({ "failed": true }),
        }
    }
}

fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus")
}

fn read(path: &Path) -> String {
    fs_err::read_to_string(path).expect("a file of the corpus")
}

/// By name, in order.
fn templates(folder: &Path) -> BTreeMap<String, String> {
    let folder = fs_err::read_dir(folder).expect("a folder of templates");
    let paths = folder.map(|entry| entry.expect("an entry").path()).filter(|path| path.is_file());
    paths
        .map(|path| (path.file_stem().expect("a name").to_string_lossy().into_owned(), read(&path)))
        .collect()
}

fn conversations() -> Vec<Map<String, Value>> {
    serde_json::from_str(&read(&corpus().join("conversations.json"))).expect("conversations")
}

fn ours(template: &str, conversation: &Map<String, Value>) -> RenderOutcome {
    let descriptor = Descriptor {
        chat_template: Some(template.to_owned()),
        bos_token: Some("<s>".into()),
        eos_token: Some("</s>".into()),
        ..FakeEngine::descriptor("any", 1 << 20)
    };
    let messages = &conversation["messages"];
    let count = messages.as_array().map_or(0, Vec::len);
    let text = |name: &str| conversation.get(name).map(Value::to_string);
    let chat = Chat {
        tools: text("tools"),
        documents: text("documents"),
        arguments: text("arguments"),
        add_generation_prompt: conversation.get("add_generation_prompt") != Some(&Value::Bool(false)),
        now: WallTime { unix_s: NOW_S, utc_offset_s: 0 },
        ..Chat::new(messages.to_string(), u32::try_from(count).expect("few"))
    };
    let no_tokens = Arc::new(ControlTokens::new(Vec::<String>::new()));
    let rendered =
        Renderer::new(&descriptor, None, no_tokens).and_then(|renderer| renderer.render_as_sent(&chat));
    match rendered {
        Ok(rendered) => RenderOutcome::Text(rendered.text),
        Err(failure) if failure.kind == ErrorKind::InvalidRequest => {
            let words =
                failure.message.split_once("refuses this conversation: ").map(|(_, words)| words.to_owned());
            RenderOutcome::Refused(words.unwrap_or(failure.message))
        }
        Err(failure) => {
            assert_eq!(failure.kind, ErrorKind::InvalidModel, "{failure}");
            RenderOutcome::Failed
        }
    }
}

/// What Python makes of every template and conversation, or why there is none.
fn of_python(templates: &BTreeMap<String, String>) -> Result<BTreeMap<String, Vec<RenderOutcome>>, String> {
    let python = std::env::var("SAMOVAR_TEST_JINJA_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let has_jinja = Command::new(&python).args(["-c", "import jinja2"]).output();
    if !has_jinja.is_ok_and(|output| output.status.success()) {
        return Err("no jinja2; `pip install jinja2` and set SAMOVAR_TEST_JINJA_PYTHON".to_owned());
    }
    let mut jobs = String::new();
    for template in templates.values() {
        for conversation in conversations() {
            let mut variables =
                conversation.get("arguments").and_then(Value::as_object).cloned().unwrap_or_default();
            for (name, default) in [
                ("messages", json!([])),
                ("tools", json!(null)),
                ("documents", json!(null)),
                ("add_generation_prompt", json!(true)),
            ] {
                variables.insert(name.to_owned(), conversation.get(name).cloned().unwrap_or(default));
            }
            variables.insert("bos_token".to_owned(), json!("<s>"));
            variables.insert("eos_token".to_owned(), json!("</s>"));
            let job = json!({ "template": template, "variables": variables, "unix_s": NOW_S });
            jobs.push_str(&format!("{job}\n"));
        }
    }
    let mut child = Command::new(&python)
        .arg(corpus().join("render.py"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| error.to_string())?;
    let mut stdin = child.stdin.take().expect("piped");
    let writer = std::thread::spawn(move || stdin.write_all(jobs.as_bytes()));
    let output = child.wait_with_output().expect("Python's answers");
    writer.join().expect("the writer").expect("Python reads");
    let answers = String::from_utf8(output.stdout).expect("UTF-8");
    let mut answers = answers.split('\n').filter(|line| !line.is_empty());
    let count = conversations().len();
    Ok(templates
        .keys()
        .map(|name| {
            let outcomes = answers.by_ref().take(count);
            let outcomes = outcomes
                .map(|line| RenderOutcome::of_json(&serde_json::from_str(line).expect("JSON")))
                .collect();
            (name.clone(), outcomes)
        })
        .collect())
}

/// Every outcome of ours that is another than it should be.
fn differences(
    templates: &BTreeMap<String, String>,
    expected: &BTreeMap<String, Vec<RenderOutcome>>,
) -> Vec<String> {
    assert_eq!(
        templates.keys().collect::<Vec<_>>(),
        expected.keys().collect::<Vec<_>>(),
        "expected.json is older"
    );
    let conversations = conversations();
    let mut differences = Vec::new();
    for (name, template) in templates {
        assert_eq!(expected[name].len(), conversations.len(), "{name}");
        for (conversation, expected) in conversations.iter().zip(&expected[name]) {
            let ours = ours(template, conversation);
            if ours != *expected {
                differences.push(format!(
                    "{name} × {}:\n  expected {expected:?}\n  ours     {ours:?}",
                    conversation["name"]
                ));
            }
        }
    }
    differences
}

/// Outcomes of one template, each once with the conversations that have it.
fn grouped(outcomes: &[RenderOutcome]) -> Value {
    let mut groups: Vec<(&RenderOutcome, Vec<usize>)> = Vec::new();
    for (index, outcome) in outcomes.iter().enumerate() {
        match groups.iter_mut().find(|(own, _)| *own == outcome) {
            Some((_, indices)) => indices.push(index),
            None => groups.push((outcome, vec![index])),
        }
    }
    groups
        .into_iter()
        .map(|(outcome, indices)| {
            let mut group = outcome.to_json();
            group["conversations"] = json!(indices);
            group
        })
        .collect()
}

fn kept() -> BTreeMap<String, Vec<RenderOutcome>> {
    let kept: BTreeMap<String, Vec<Value>> =
        serde_json::from_str(&read(&corpus().join("expected.json"))).expect("expected outcomes");
    let outcomes = |groups: Vec<Value>| {
        let mut outcomes = BTreeMap::new();
        for group in &groups {
            for index in group["conversations"].as_array().expect("indices") {
                outcomes.insert(index.as_u64(), RenderOutcome::of_json(group));
            }
        }
        outcomes.into_values().collect()
    };
    kept.into_iter().map(|(name, groups)| (name, outcomes(groups))).collect()
}

fn assert_equal(templates: &BTreeMap<String, String>, expected: &BTreeMap<String, Vec<RenderOutcome>>) {
    let differences = differences(templates, expected);
    let all = expected.values().flatten();
    let count = |is: fn(&RenderOutcome) -> bool| all.clone().filter(|outcome| is(outcome)).count();
    println!(
        "{} templates: {} texts, {} refusals, {} failures; {} differ",
        templates.len(),
        count(|outcome| matches!(outcome, RenderOutcome::Text(_))),
        count(|outcome| matches!(outcome, RenderOutcome::Refused(_))),
        count(|outcome| *outcome == RenderOutcome::Failed),
        differences.len()
    );
    assert!(differences.is_empty(), "{} differ:\n{}", differences.len(), differences.join("\n"));
}

#[test]
fn renders_as_transformers_rendered() {
    assert_equal(&templates(&corpus().join("templates")), &kept());
}

#[test]
fn renders_as_transformers_renders() {
    let own = corpus().join("templates");
    let another = std::env::var_os("SAMOVAR_TEST_TEMPLATES").map(PathBuf::from);
    for folder in std::iter::once(own.clone()).chain(another) {
        let templates = templates(&folder);
        let expected = match of_python(&templates) {
            Ok(expected) => expected,
            Err(reason) => {
                println!("skipped: {reason}");
                return;
            }
        };
        if folder == own && std::env::var_os("SAMOVAR_TEST_WRITE_EXPECTED").is_some() {
            let lines: Vec<String> = expected
                .iter()
                .map(|(name, outcomes)| format!("{}: {}", json!(name), grouped(outcomes)))
                .collect();
            let text = format!("{{\n{}\n}}\n", lines.join(",\n"));
            fs_err::write(corpus().join("expected.json"), text).expect("written");
        }
        assert_equal(&templates, &expected);
    }
}
