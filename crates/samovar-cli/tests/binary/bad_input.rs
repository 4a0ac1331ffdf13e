//! What people get wrong: each with its exit code, a sentence, a hint, and a daemon that lives on.

use crate::home::{Done, Home, MODEL_FILE};

#[track_caller]
fn refused(done: &Done, code: i32, says: &[&str]) {
    assert_eq!(done.code, code, "{done:?}");
    assert_eq!(done.stdout, "", "{done:?}");
    assert!(done.stderr.starts_with("error: "), "{done:?}");
    assert!(done.stderr.contains("\nhint: "), "{done:?}");
    for part in says {
        assert!(done.stderr.contains(part), "{part:?} in {done:?}");
    }
}

#[test]
fn files_that_are_no_models() {
    let home = Home::new();
    assert_eq!(home.run(&["warm", "demo"]).code, 0);
    let pid = home.daemon_pid();
    let write = |name: &str, bytes: &[u8]| fs_err::write(home.path().join(name), bytes).expect("file");
    write("empty.gguf", b"");
    write("text.gguf", b"this is not a model at all, it only has the name of one");
    let whole = fs_err::read(MODEL_FILE).expect("model");
    write("cut.gguf", &whole[..whole.len() / 2]);
    let mut lying = whole;
    // The number of tensors, beyond all reason.
    lying[8..16].copy_from_slice(&u64::MAX.to_le_bytes());
    write("lying.gguf", &lying);
    fs_err::create_dir(home.path().join("folder.gguf")).expect("directory");

    refused(&home.run(&["run", "./none.gguf", "Hello"]), 66, &["there is no file", "none.gguf"]);
    refused(&home.run(&["run", "./folder.gguf", "Hello"]), 65, &["folder.gguf"]);
    refused(&home.run(&["run", "./empty.gguf", "Hello"]), 65, &["empty.gguf"]);
    refused(&home.run(&["run", "./text.gguf", "Hello"]), 65, &["text.gguf"]);
    refused(&home.run(&["run", "./cut.gguf", "Hello"]), 65, &["cut.gguf"]);
    refused(&home.run(&["run", "./lying.gguf", "Hello"]), 65, &["lying.gguf"]);
    assert_eq!(home.run(&["run", "-n", "4", "Hello"]).code, 0);
    assert_eq!(home.daemon_pid(), pid);
}

#[test]
fn names_that_mean_nothing() {
    let home = Home::new().with_config("[models.tiny]\nsource = 'demo'\n");
    fs_err::copy(MODEL_FILE, home.path().join("weights")).expect("copies");
    refused(&home.run(&["run", "tinny", "Hello"]), 66, &["`tinny`", "did you mean `tiny`?"]);
    refused(&home.run(&["run", "--no-daemon", "dmo", "Hello"]), 66, &["`dmo`", "did you mean `demo`?"]);
    refused(&home.run(&["run", "Tell", "me"]), 66, &["needs quotes: samovar run \"Tell …\""]);
    refused(&home.run(&["run", "https://huggingface.co/models", "Hello"]), 64, &["hf://organisation/name"]);
    refused(
        &home.run(&["run", "qwen2.5:7b", "Hello"]),
        66,
        &["hint: a model of Ollama's", "ollama://qwen2.5:7b"],
    );
    refused(&home.run(&["run", "./none.gguf", "tell", "me"]), 66, &["hint: check the path"]);
    refused(&home.run(&["run", "What's", "up"]), 64, &["needs quotes"]);
    refused(&home.run(&["run", "weights", "Hello"]), 66, &["hint: a file is named by its path: ./weights"]);
    refused(&home.run(&["run", "Tell me", "a story"]), 64, &["-m"]);
}

#[test]
fn prompts_that_do_not_fit() {
    let home = Home::new();
    refused(&home.run(&["run", ""]), 64, &["the prompt is empty"]);
    refused(&home.run_with_input(&["run"], b"  \n"), 64, &["the prompt is empty"]);
    refused(&home.run_with_input(&["run", "-"], b"\xff\xfe"), 64, &["UTF-8"]);
    let enormous = vec![b'a'; 4_000_001];
    refused(&home.run_with_input(&["run", "-"], &enormous), 64, &["more than 4.0 MB"]);
    let context = home.run(&["show", "demo", "--json"]).json()["context_tokens"].as_u64().expect("number");
    let long = "the fox and the bird went on and on ".repeat(context as usize / 4);
    let done = home.run_with_input(&["run", "-"], long.as_bytes());
    refused(&done, 65, &[&context.to_string()]);
    let numbers: Vec<u64> =
        done.stderr.split(|c: char| !c.is_ascii_digit()).filter_map(|n| n.parse().ok()).collect();
    assert!(numbers.iter().any(|number| *number > context), "the prompt's length too: {done:?}");
}

#[test]
fn a_model_larger_than_the_budget_is_refused_with_the_numbers() {
    let home = Home::new().with_variable("SAMOVAR_POOL_BUDGET_BYTES", "1MB");
    refused(&home.run(&["run", "Hello"]), 71, &["1.0 MB"]);
    assert_eq!(home.stats()["pool"]["loads"], 0);
}

#[test]
fn flags_and_configuration_that_mean_nothing() {
    let home = Home::new();
    for line in [
        ["run", "--temprature", "1", "x"].as_slice(),
        &["run", "-t", "9", "x"],
        &["rnu", "x"],
        &["stop"],
        &[],
    ] {
        let done = home.run(line);
        assert_eq!(done.code, 64, "{done:?}");
    }
    let long = format!("/tmp/{}", "x".repeat(120));
    refused(&home.run(&["ps", "--home", &long]), 64, &["107", "SAMOVAR_HOME"]);
    refused(&home.run(&["ps", "--config", "/nowhere/samovar.toml"]), 66, &["/nowhere/samovar.toml"]);
    let broken = Home::new().with_config("[pool]\nbudget_byte = '1GB'\n");
    refused(&broken.run(&["run", "Hello"]), 64, &["samovar.toml:2", "did you mean `budget_bytes`?"]);
}

#[test]
fn with_json_an_error_is_an_object() {
    let home = Home::new();
    let done = home.run(&["run", "--json", "nobody", "Hello"]);
    assert_eq!((done.code, done.stdout.as_str()), (66, ""));
    let error: serde_json::Value = serde_json::from_str(&done.stderr).expect("one object");
    assert_eq!(error["error"]["kind"], "not_found");
    assert_eq!(error["error"]["exit_code"], 66);
    assert!(error["error"]["hint"].is_string());
}

#[test]
fn a_home_that_cannot_be_written_is_named() {
    let home = Home::new();
    fs_err::write(home.path().join("run"), "a file where a directory should be").expect("file");
    let done = home.run(&["run", "Hello"]);
    refused(&done, 74, &["/run"]);
}
