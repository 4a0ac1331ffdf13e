//! Moving in: stores and files as other programs write them are taken over, and their clients' requests are answered under the old
//! names.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;

use rustix::process::Signal;
use samovar_core::Digest;
use serde_json::{Value, json};

use crate::home::{Done, Home, MODEL_FILE, Running};

/// The answer to a client's request.
#[track_caller]
fn ask(address: &str, path: &str, body: &Value) -> Value {
    let mut stream = TcpStream::connect(address).expect("connects");
    let body = body.to_string();
    let length = body.len();
    write!(
        stream,
        "POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
    )
    .expect("sends");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("answers");
    let (head, text) = answer.split_once("\r\n\r\n").expect("head and body");
    assert!(head.starts_with("HTTP/1.1 200"), "{path}: {answer}");
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {answer}"))
}

/// Whether a client of OpenAI's API is answered under this name, with so many tokens at most.
#[track_caller]
fn answers(address: &str, model: &str, most_tokens: u64) {
    let messages = json!([{ "role": "user", "content": "Once" }]);
    let answer = ask(address, "/v1/chat/completions", &json!({ "model": model, "messages": messages }));
    let tokens = answer["usage"]["completion_tokens"].as_u64().expect("a count");
    assert!((1..=most_tokens).contains(&tokens), "{model}: {answer}");
}

fn end(daemon: Running) {
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.finish().code, 0);
}

fn write(path: &Path, bytes: &[u8]) {
    fs_err::create_dir_all(path.parent().expect("a parent")).expect("folder");
    fs_err::write(path, bytes).expect("written");
}

/// A model in Ollama's store, as Ollama writes it.
fn ollama_model(root: &Path, place: &str, layers: &[(&str, &[u8])]) {
    let blob = |bytes: &[u8]| {
        let digest = Digest::of_bytes(bytes);
        write(&root.join(format!("blobs/sha256-{digest}")), bytes);
        digest
    };
    let layer = |kind: &str, bytes: &[u8]| {
        json!({
            "mediaType": format!("application/vnd.ollama.image.{kind}"),
            "digest": format!("sha256:{}", blob(bytes)),
            "size": bytes.len(),
        })
    };
    let layers: Vec<Value> = layers.iter().map(|(kind, bytes)| layer(kind, bytes)).collect();
    let config = br#"{"model_format":"gguf","file_type":"Q8_0"}"#;
    let config = json!({
        "mediaType": "application/vnd.docker.container.image.v1+json",
        "digest": format!("sha256:{}", blob(config)),
        "size": config.len(),
    });
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
        "config": config,
        "layers": layers,
    });
    write(&root.join("manifests").join(place), manifest.to_string().as_bytes());
}

fn settings<'a>(done: &'a Value, name: &str) -> &'a Value {
    let models = done["models"].as_array().expect("models");
    let model = models.iter().find(|model| model["name"] == name);
    &model.unwrap_or_else(|| panic!("{name}: {done}"))["settings"]
}

fn entries(done: &Value) -> Vec<(&str, &str)> {
    let models = done["models"].as_array().expect("models").iter();
    models
        .map(|model| (model["name"].as_str().expect("a name"), model["entry"].as_str().expect("an entry")))
        .collect()
}

fn config_of(home: &Home) -> String {
    fs_err::read_to_string(home.path().join("samovar.toml")).expect("a configuration")
}

#[test]
fn ollamas_models_answer_its_clients_under_their_names() {
    let home = Home::new().with_variable("OLLAMA_KEEP_ALIVE", "30m");
    let weights = fs_err::read(MODEL_FILE).expect("model");
    let root = home.path().join("theirs/models");
    let params = br#"{"temperature":0,"num_ctx":256,"num_predict":6,"stop":["zzz"],"mirostat":1}"#;
    let layers: &[(&str, &[u8])] = &[
        ("model", &weights),
        ("template", b"<|im_start|>user\n{{ .Prompt }}<|im_end|>"),
        ("system", b"Be brief."),
        ("params", params),
        ("license", b"MIT"),
    ];
    ollama_model(&root, "registry.ollama.ai/library/tiny/latest", layers);
    ollama_model(&root, "registry.ollama.ai/me/mine/1b", &[("model", &weights)]);
    ollama_model(&root, "other.example/me/far/1b", &[("model", &weights)]);
    ollama_model(&root, "registry.ollama.ai/library/gone/1b", &[("model", b"no model at all")]);
    write(&root.join("manifests/registry.ollama.ai/library/bad/1b"), b"{");
    let from = home.path().join("theirs");
    let line = ["migrate", "ollama", "--from", from.to_str().expect("text"), "--json"];

    let dry = home.run(&[&line[..], &["--dry-run"]].concat()).json();
    assert!(!home.path().join("samovar.toml").exists(), "{dry}");
    let done = home.run(&line).json();
    assert_eq!((&dry["models"], &dry["not_taken_over"]), (&done["models"], &done["not_taken_over"]));
    let expected = [("tiny:latest", "added"), ("tiny", "added"), ("me/mine:1b", "added")];
    assert_eq!(entries(&done), expected, "{done}");
    let tiny = json!({
        "system": "Be brief.", "temperature": 0, "context_tokens": 256, "max_tokens": 6, "stop": ["zzz"],
        "source": "ollama://tiny", "keep_alive": "30m",
    });
    assert_eq!(settings(&done, "tiny"), &tiny);
    let left = done["not_taken_over"].to_string();
    for words in ["mirostat 1", "other.example/me/far:1b", "gone:1b", "bad:1b"] {
        assert!(left.contains(words), "{words}: {left}");
    }
    let saved = done["adopted"]["artifacts"][0]["how"].as_str().expect("how");
    assert_ne!(saved, "copy", "{done}");

    let written = config_of(&home);
    let again = home.run(&line).json();
    assert!(entries(&again).iter().all(|(_, entry)| *entry == "same"), "{again}");
    assert_eq!(config_of(&home), written);

    let (daemon, address) = home.serve();
    let messages = json!([{ "role": "user", "content": "Once" }]);
    for model in ["tiny", "tiny:latest"] {
        let answer =
            ask(&address, "/api/chat", &json!({ "model": model, "messages": messages, "stream": false }));
        assert_eq!(answer["done"], true, "{answer}");
        assert!(answer["eval_count"].as_u64().is_some_and(|count| count <= 6), "{answer}");
        answers(&address, model, 6);
    }
    let body = json!({ "model": "me/mine:1b", "prompt": "Once", "max_tokens": 4 });
    assert_eq!(ask(&address, "/v1/completions", &body)["usage"]["completion_tokens"], 4);
    end(daemon);
}

#[test]
fn an_entry_that_is_there_stays_and_is_told_line_by_line() {
    let before = "# mine\n[models.tiny]\nsource = 'ollama://tiny'\nkeep_alive = '1h' # long\n";
    let home = Home::new().with_config(before);
    let weights = fs_err::read(MODEL_FILE).expect("model");
    let root = home.path().join("theirs");
    let layers: &[(&str, &[u8])] = &[("model", &weights), ("params", br#"{"temperature":0.5}"#)];
    ollama_model(&root, "registry.ollama.ai/library/tiny/latest", layers);
    let done = home.run(&["migrate", "ollama", "--from", root.to_str().expect("text")]);
    assert_eq!(done.code, 0, "{done:?}");
    assert!(done.stderr.contains("kept: tiny: temperature is not set here, and 0.5 in Ollama"), "{done:?}");
    assert!(done.stdout.contains("is here with other values, and stays"), "{done:?}");
    let after = config_of(&home);
    assert!(after.starts_with(before) && after.matches("[models.").count() == 2, "{after}");
}

#[test]
fn llama_swaps_models_answer_under_their_names_and_aliases() {
    let home = Home::new();
    fs_err::copy(MODEL_FILE, home.path().join("x.gguf")).expect("copies");
    let config = "macros:\n  server: /opt/llama-server --port ${PORT}\n  models: ${env.HOME}\n\
                  models:\n  \"org/writer\":\n    cmd: |\n      # the small one\n      ${server}\n      --model ${models}/x.gguf\n      \
                  -c 256 --temp 0 -n 5 -ngl 99\n    ttl: 60\n    aliases: [gpt-4o-mini]\n  vllm:\n    cmd: vllm serve x\n\
                  hooks:\n  on_startup:\n    preload: [org/writer]\n";
    fs_err::write(home.path().join("config.yaml"), config).expect("written");
    let done = home.run(&["migrate", "llama-swap", "--json"]).json();
    assert_eq!(entries(&done), [("org/writer", "added"), ("gpt-4o-mini", "added")], "{done}");
    assert_eq!(settings(&done, "gpt-4o-mini")["keep_alive"], "60s");
    let left = done["not_taken_over"].to_string();
    assert!(left.contains("--ngl 99") && left.contains("vllm"), "{left}");
    assert!(config_of(&home).contains("preload_models = [\"org/writer\"]"), "{}", config_of(&home));
    let (daemon, address) = home.serve();
    answers(&address, "org/writer", 5);
    answers(&address, "gpt-4o-mini", 5);
    end(daemon);
}

#[test]
fn presets_of_llama_server_and_models_of_lm_studio_answer_under_their_names() {
    let home = Home::new();
    let weights = fs_err::read(MODEL_FILE).expect("model");
    write(&home.path().join("models/x.gguf"), &weights);
    let presets = "version = 1\n[*]\nc = 256\n[custom_model]\nmodel = models/x.gguf\nn-predict = 4\nload-on-startup = true\n";
    write(&home.path().join("models.ini"), presets.as_bytes());
    let done = home.run(&["migrate", "llama-server", "--from", "models.ini", "--json"]).json();
    assert_eq!(entries(&done), [("custom_model", "added")], "{done}");

    let studio = home.path().join(".lmstudio");
    write(&studio.join("models/pub/Demo-GGUF/demo-Q8_0.gguf"), &weights);
    let index = json!({ "models": [
        { "defaultIdentifier": "demo-7b", "indexedModelIdentifier": "pub/Demo-GGUF/demo-Q8_0.gguf" },
    ] });
    write(&studio.join(".internal/model-index-cache.json"), index.to_string().as_bytes());
    let defaults = json!({ "preset": "", "operation": { "fields": [
        { "key": "llm.prediction.maxPredictedTokens", "value": { "checked": true, "value": 3 } },
    ] }, "load": { "fields": [{ "key": "llm.load.contextLength", "value": 256 }] } });
    let place = ".internal/user-concrete-model-default-config/pub/Demo-GGUF/demo-Q8_0.gguf.json";
    write(&studio.join(place), defaults.to_string().as_bytes());
    let done = home.run(&["migrate", "lmstudio", "--json"]).json();
    assert_eq!(entries(&done), [("demo-7b", "added")], "{done}");
    let (daemon, address) = home.serve();
    answers(&address, "custom_model", 4);
    answers(&address, "demo-7b", 3);
    end(daemon);
}

#[test]
fn names_that_lead_to_one_template_share_its_file() {
    let home = Home::new();
    fs_err::copy(MODEL_FILE, home.path().join("x.gguf")).expect("copies");
    let config = "models:\n  'a:b':\n    cmd: llama-server -m x.gguf --chat-template '{{ messages }}'\n    aliases: [a-b]\n";
    fs_err::write(home.path().join("config.yaml"), config).expect("written");
    let done = home.run(&["migrate", "llama-swap", "--json"]).json();
    assert_eq!(entries(&done), [("a:b", "added"), ("a-b", "added")], "{done}");
    assert_eq!(settings(&done, "a:b")["chat_template"], "templates/a-b.jinja");
    let template = fs_err::read_to_string(home.path().join("templates/a-b.jinja")).expect("a template");
    assert_eq!(template, "{{ messages }}");
}

#[test]
fn nothing_foreign_is_followed_or_run() {
    let home = Home::new();
    let root = home.path().join("theirs");
    write(&home.path().join("secret"), br#"{"layers": []}"#);
    fs_err::create_dir_all(root.join("manifests/registry.ollama.ai/library/x")).expect("folder");
    fs_err::create_dir_all(root.join("blobs")).expect("folder");
    let manifest = root.join("manifests/registry.ollama.ai/library/x/1b");
    fs_err::os::unix::fs::symlink(home.path().join("secret"), manifest).expect("a link");
    let done = home.run(&["migrate", "ollama", "--from", root.to_str().expect("text"), "--json"]).json();
    assert_eq!(done["models"], json!([]), "{done}");
    let traps = "models:\n  a: { cmd: 'llama-server -m x; touch ran' }\n  b: { cmd: '$(touch ran)' }\n  c: { cmd: 'sh -c \"touch ran\"' }\n";
    fs_err::write(home.path().join("config.yaml"), traps).expect("written");
    let done: Done = home.run(&["migrate", "llama-swap"]);
    assert_eq!((done.code, done.stdout.lines().count()), (0, 1), "{done:?}");
    assert!(!home.path().join("ran").exists() && !home.path().join("samovar.toml").exists());
}
