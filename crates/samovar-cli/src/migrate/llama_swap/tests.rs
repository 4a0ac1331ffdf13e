//! Configuration files as llama-swap's users write them.

use std::fmt::Write as _;

use super::*;
use crate::settings::Environment;
use crate::settings::foreign::Foreign;

const CONFIG: &str = r#"
# yaml-language-server: $schema=https://example.org/${env.NOT_SET}
healthCheckTimeout: 500
startPort: 10001
globalTTL: 600
macros:
  "latest-llama": >
    /opt/llama-server/llama-server-ec9e0301 --port ${PORT}
  "default_ctx": 4096
  "default_args": "--ctx-size ${default_ctx} --jinja"
apiKeys: ["sk-hunter2"]
models:
  "gpt-oss-120b":
    macros: { "default_ctx": 16384, "temp": 0.7 }
    cmd: |
      # ${nothing} in a comment is no macro
      ${latest-llama}
      --model ${env.MODELS}/x.gguf
      ${default_args}
      --temperature ${temp} -ngl 99
    name: "gpt-oss 120B"
    env: ["CUDA_VISIBLE_DEVICES=0", "LLAMA_ARG_N_PARALLEL=2"]
    ttl: 60
    aliases: ["gpt-4o-mini", "a b"]
    metadata: { port: "${PORT}" }
    filters:
      stripParams: "top_k"
      setParams: { top_p: 0.5 }
      setParamsByID:
        "${MODEL_ID}:low": { chat_template_kwargs: { reasoning_effort: low } }
  "embedder":
    cmd: llama-server -hf org/embed:Q8_0 --embedding --pooling mean
    ttl: 0
    unlisted: true
  "docker-llama":
    cmd: docker run --name ${MODEL_ID} image --model /m/x.gguf
  "reader":
    cmd: llama-server -m none.gguf
groups:
  forever: { persistent: true, swap: false, exclusive: false, members: [gpt-oss-120b, nobody] }
hooks:
  on_startup:
    preload: ["gpt-4o-mini", "docker-llama"]
surprise: 1
"#;

fn look_at(text: &str) -> Result<FoundModels, String> {
    let folder = tempfile::tempdir().expect("a folder");
    fs_err::write(folder.path().join("x.gguf"), "GGUF").expect("written");
    let path = folder.path().join("config.yaml");
    fs_err::write(&path, text).expect("written");
    let pairs = [("MODELS", folder.path().to_str().expect("text"))];
    let pairs = pairs.map(|(name, value)| (name.into(), value.into()));
    let mut found = look(&path, &Foreign::read(&Environment::from_pairs(pairs)).variables)?;
    for entry in &mut found.models {
        for (_, value) in &mut entry.settings {
            if let Raw::Text(text) = value {
                *text = text.replace(&format!("{}/", folder.path().display()), "");
            }
        }
    }
    Ok(found)
}

#[test]
fn models_names_and_preloads_are_taken_over() {
    let found = look_at(CONFIG).expect("valid");
    let names: Vec<&str> = found.models.iter().map(|entry| entry.name.as_str()).collect();
    assert_eq!(names, ["gpt-oss-120b", "gpt-4o-mini", "gpt-oss-120b:low", "embedder"]);
    let expected = [
        ("temperature", Raw::Float(0.7)),
        ("source", Raw::Text("x.gguf".into())),
        ("slots", Raw::Integer(2)),
        ("context_tokens", Raw::Integer(8192)),
        ("top_p", Raw::Float(0.5)),
        ("keep_alive", Raw::Integer(-1)),
    ];
    assert_eq!(found.models[0].settings, expected);
    let low = &found.models[2].settings;
    assert!(low.contains(&("thinking", Raw::Text("low".into()))) && low.contains(&expected[0]), "{low:?}");
    assert_eq!(found.models[1].get("keep_alive"), Some(&Raw::Text("60s".into())));
    let embedder = [
        ("pooling", Raw::Text("mean".into())),
        ("source", Raw::Text("hf://org/embed:Q8_0".into())),
        ("keep_alive", Raw::Integer(-1)),
    ];
    assert_eq!(found.models[3].settings, embedder);
    assert_eq!(found.preload, ["gpt-oss-120b"]);
}

#[test]
fn what_is_not_taken_over_is_named() {
    let found = look_at(CONFIG).expect("valid");
    let of_models = found.models.iter().flat_map(|entry| &entry.remarks);
    let all: Vec<String> = found
        .remarks
        .iter()
        .chain(of_models)
        .map(|remark| format!("{}: {}: {}", remark.of, remark.what, remark.why))
        .collect();
    for expected in [
        "a b: its name: a name here has",
        "docker-llama: cmd: its command starts \"docker\"",
        "reader: its model: there is no file",
        "group forever: nobody: there is no such model",
        "group forever: persistent: keep_alive = -1",
        "hooks.on_startup.preload: docker-llama: there is no such model",
        "apiKeys: the section: keys are",
        "surprise: the section: is not known",
        "gpt-oss-120b: --ngl 99: this build computes",
        "gpt-oss-120b: filters.setParams: holds where",
        "gpt-oss-120b: filters.stripParams \"top_k\": what a request says",
        "embedder: unlisted: every name",
    ] {
        assert!(all.iter().any(|line| line.starts_with(expected)), "{expected}: {all:#?}");
    }
    assert!(!all.iter().any(|line| line.contains("hunter2")), "{all:?}");
}

#[test]
fn hostile_files_are_refused() {
    let reason = |text: &str| look_at(text).expect_err("refused");
    assert!(reason("x: 1").contains("no `models`"));
    assert!(reason("- a\n").contains("no `models`"));
    assert!(reason("models: [\n").starts_with("cannot be read: line "));
    assert!(reason("models: { a: { cmd: '${env.NOT_SET}' } }\n").contains("needs the variable NOT_SET"));
    let mut macros = "macros:\n  a0: xxxxxxxxxx\n".to_owned();
    for level in 1..12 {
        let before = format!("${{a{}}}", level - 1).repeat(10);
        _ = writeln!(macros, "  a{level}: '{before}'");
    }
    let found =
        look_at(&format!("{macros}models: {{ m: {{ cmd: 'llama-server ${{a11}}' }} }}\n")).expect("valid");
    assert!(found.remarks[0].why.contains("longer than 65536 bytes"), "{:?}", found.remarks);
    let text = "models: { m: { cmd: 'llama-server -m ${gone}' }, n: 1, o: { macros: 1 }, p: { macros: { x: [] } } }\n";
    let found = look_at(text).expect("valid");
    let whys: Vec<&str> = found.remarks.iter().map(|remark| remark.why.as_str()).collect();
    let expected = [
        "the macro \"gone\" is not defined",
        "is no mapping",
        "has `macros` that are no mapping",
        "has a macro \"x\" that is no plain value",
    ];
    assert_eq!(whys, expected, "each model that cannot be read is left out, and no other");
}
