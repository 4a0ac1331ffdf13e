//! Command lines as people write them.

use super::*;
use crate::migrate::entry::Remark;

/// A model of this command line, in a folder with a model and a template.
fn read(line: &str) -> (ModelEntry, Vec<String>) {
    let folder = tempfile::tempdir().expect("a folder");
    for name in ["x.gguf", "chat.jinja", "poet.gguf"] {
        fs_err::write(folder.path().join(name), "text").expect("written");
    }
    let mut entry = ModelEntry::new("m");
    let names = apply(&mut entry, &of_line(line).expect("a line"), folder.path());
    let here = format!("{}/", folder.path().display());
    for (_, value) in &mut entry.settings {
        let shorten = |raw: &mut Raw| {
            if let Raw::Text(text) = raw {
                *text = text.replace(&here, "");
            }
        };
        match value {
            Raw::List(items) => items.iter_mut().for_each(shorten),
            one => shorten(one),
        }
    }
    (entry, names)
}

fn text(text: &str) -> Raw {
    Raw::Text(text.to_owned())
}

#[test]
fn a_command_line_becomes_settings() {
    let line = "# a comment\nGGML_X=1 LLAMA_ARG_CTX_SIZE=1 /opt/llama-server-ec9e --port 5800 \\\n  -m x.gguf -c 8192 -np 2 \\\n\
                --temp 0.7 --top-p 0.9 --top-k 20 --min-p 0.05 --repeat-penalty 1.1 -n 512 -s -1 \\\n\
                --chat-template-file 'chat.jinja' -ctk q8_0 -ctv q8_0 --mlock --jinja -a 'one,two' --lora-scaled poet.gguf:0.5\n";
    let (entry, names) = read(line);
    let expected = [
        ("temperature", Raw::Float(0.7)),
        ("top_p", Raw::Float(0.9)),
        ("top_k", Raw::Integer(20)),
        ("min_p", Raw::Float(0.05)),
        ("repeat_penalty", Raw::Float(1.1)),
        ("max_tokens", Raw::Integer(512)),
        ("chat_template", text("chat.jinja")),
        ("lock_memory", Raw::Flag(true)),
        ("source", text("x.gguf")),
        ("slots", Raw::Integer(2)),
        ("context_tokens", Raw::Integer(4096)),
        ("kv_type", text("q8_0")),
        ("adapters", Raw::List(vec![text("poet.gguf:0.5")])),
    ];
    assert_eq!(entry.settings, expected);
    assert_eq!(names, ["one", "two"]);
    assert!(entry.remarks.is_empty(), "{:?}", entry.remarks);
}

#[test]
fn models_of_the_hub_are_named_as_here() {
    let source = |line: &str| read(line).0.source().map(str::to_owned);
    assert_eq!(source("llama-server -hf org/name:Q4_K_M").as_deref(), Some("hf://org/name:Q4_K_M"));
    assert_eq!(source("llama-server -hf org/name").as_deref(), Some("hf://org/name"));
    let file = "llama-server --hf-repo org/name --hf-file name-Q8_0.gguf";
    assert_eq!(source(file).as_deref(), Some("hf://org/name/name-Q8_0.gguf"));
    let address = "llama-server --model-url https://host.example/x.gguf";
    assert_eq!(source(address).as_deref(), Some("https://host.example/x.gguf"));
    let (lost, _) = read("llama-server -m none.gguf");
    assert!(lost.source().is_none() && lost.remarks[0].why.contains("there is no file"), "{lost:?}");
}

#[test]
fn a_draft_model_is_a_file_or_of_the_hub() {
    let draft = |line: &str| read(line).0.settings;
    for flag in ["-md", "--model-draft", "--spec-draft-model"] {
        assert_eq!(draft(&format!("llama-server {flag} x.gguf")), [("draft", text("x.gguf"))]);
    }
    assert_eq!(draft("LLAMA_ARG_SPEC_DRAFT_MODEL=x.gguf llama-server"), [("draft", text("x.gguf"))]);
    for flag in ["-hfd", "-hfrd", "--hf-repo-draft", "--spec-draft-hf"] {
        let line = format!("llama-server {flag} org/small:Q8_0");
        assert_eq!(draft(&line), [("draft", text("hf://org/small:Q8_0"))]);
    }
    let (entry, _) = read("llama-server -md none.gguf -hfd small --draft-max 16 --spec-draft-n-max 8");
    let whats: Vec<&str> = entry.remarks.iter().map(|remark| remark.what.as_str()).collect();
    assert_eq!(whats, ["--md none.gguf", "--hfd small", "--draft-max 16", "--spec-draft-n-max 8"]);
    assert!(entry.settings.is_empty() && entry.remarks[0].why.contains("there is no file"), "{entry:?}");
}

#[test]
fn thinking_and_embedders_are_understood() {
    let settings = |line: &str| read(line).0.settings;
    assert_eq!(settings("llama-server --reasoning-budget 0"), [("thinking", text("off"))]);
    assert_eq!(settings("llama-server --reasoning-effort high"), [("thinking", text("high"))]);
    assert!(settings("llama-server --reasoning-effort default").is_empty());
    let arguments = r#"llama-server --chat-template-kwargs '{"reasoning_effort": "low"}'"#;
    assert_eq!(settings(arguments), [("thinking", text("low"))]);
    assert_eq!(settings("llama-server --embedding --pooling last"), [("pooling", text("last"))]);
    assert_eq!(settings("llama-server --reranking"), [("pooling", text("rank"))]);
    assert_eq!(settings("llama-server --chat-template gemma"), [("chat_template", text("gemma"))]);
    let shared = settings("llama-server -c 8192 -np 4 --kv-unified");
    assert_eq!(shared, [("slots", Raw::Integer(4)), ("context_tokens", Raw::Integer(8192))]);
    let inline = read("llama-server --chat-template '{{ messages }}'").0;
    assert_eq!(inline.template.as_deref(), Some("{{ messages }}"));
}

#[test]
fn what_has_no_equal_is_named_with_its_reason() {
    let (entry, _) =
        read("llama-server -ngl 99 --frobnicate 3 --temp hot --top-k 1.5 -ctk q4_0 word --pooling none -c 0");
    let whats: Vec<&str> = entry.remarks.iter().map(|remark| remark.what.as_str()).collect();
    let expected =
        ["--ngl 99", "--frobnicate 3", "--temp hot", "--top-k 1.5", "word", "--pooling none", "--ctx-size 0"];
    assert_eq!(whats[..7], expected);
    assert!(whats[7].starts_with("--cache-type-k q4_0"), "{whats:?}");
    assert_eq!(
        entry.remarks[1],
        Remark::new("m", "--frobnicate 3", "is no flag of llama-server that is known here")
    );
    assert!(entry.settings.is_empty(), "{entry:?}");
}

#[test]
fn secrets_are_named_and_not_shown() {
    let line =
        "llama-server --api-key sk-hunter2 -hft hf_hunter2 --mcp-servers-json '{\"key\": \"hunter2\"}'";
    let (entry, _) = read(line);
    let whats: Vec<&str> = entry.remarks.iter().map(|remark| remark.what.as_str()).collect();
    assert_eq!(whats, ["--api-key", "--hft", "--mcp-servers-json"]);
}

#[test]
fn other_programs_are_not_mistaken_for_it() {
    for (line, reason) in [
        ("vllm serve x", "starts \"vllm\""),
        ("docker run -v /m:/m image llama-server -m /m/x", "starts \"docker\" around"),
        ("sh -c 'llama-server -m x'", "starts \"sh\""),
        ("", "starts \"nothing\""),
        ("llama-server 'open", "a quote that does not end"),
    ] {
        let error = of_line(line).expect_err(line);
        assert!(error.contains(reason), "{line}: {error}");
    }
    assert!(of_line("env A=1 /usr/bin/llama-server -m x").is_ok());
    assert!(of_line("$(reboot) && llama-server").is_err());
}
