//! Vectors, scores and token ids by the real binary: with the built-in model, which makes none of the first two, and with a real
//! embedding model where `SAMOVAR_TEST_MINILM` names the folder that `tools/minilm_gguf.py` wrote. `./dev test` sees to that.
#![cfg(all(target_os = "linux", feature = "llama"))]
#![allow(clippy::disallowed_methods, reason = "a variable of the tests alone")]

use std::io::Write as _;
use std::path::PathBuf;

use serde_json::Value;

use crate::home::{Done, Home};

/// A home with the real models, and what they must say; `None` where they are not here.
fn minilm() -> Option<(Home, Value)> {
    let Some(folder) = std::env::var_os("SAMOVAR_TEST_MINILM").map(PathBuf::from) else {
        // Past the test's captured output: a person who runs the tests is to see it.
        writeln!(
            std::io::stderr(),
            "skipped: no MiniLM; `./dev test` brings it and sets SAMOVAR_TEST_MINILM"
        )
        .expect("says so");
        return None;
    };
    let reference = fs_err::read_to_string(folder.join("reference.json")).expect("the reference");
    let model = |name: &str, file: &str, more: &str| {
        format!("[models.{name}]\nsource = '{}'\n{more}", folder.join(file).display())
    };
    let home = Home::new().with_config(
        &[
            model("minilm", "minilm-f32.gguf", ""),
            model("ranker", "minilm-rank.gguf", ""),
            model("prompted", "minilm-f32.gguf", "query_prompt = 'query: '\n"),
        ]
        .concat(),
    );
    Some((home, serde_json::from_str(&reference).expect("JSON")))
}

fn lines(done: &Done) -> Vec<Value> {
    assert_eq!(done.code, 0, "{done:?}");
    done.stdout.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().expect("numbers").iter().map(|number| number.as_f64().expect("a number")).collect()
}

fn cosine(one: &[f64], other: &[f64]) -> f64 {
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(x, y)| x * y).sum::<f64>();
    dot(one, other) / (dot(one, one) * dot(other, other)).sqrt()
}

#[test]
fn lines_of_a_file_become_the_vectors_of_the_reference() {
    let Some((home, reference)) = minilm() else { return };
    let known = reference["texts"].as_array().expect("texts");
    let texts: Vec<&str> = known.iter().map(|known| known["text"].as_str().expect("a text")).collect();
    let vectors: Vec<Vec<f64>> = known.iter().map(|known| numbers(&known["vector"])).collect();
    // As JSON, since a text may have several lines.
    let file: String = texts.iter().map(|text| serde_json::to_string(text).expect("JSON") + "\n").collect();
    fs_err::write(home.path().join("texts.jsonl"), &file).expect("file");
    let ids = home.run(&["tokenize", "minilm", "--file", "texts.jsonl", "--json"]).json();
    for (row, known) in ids.as_array().expect("rows").iter().zip(known) {
        assert_eq!(row["tokens"], known["ids"], "{known}");
    }
    let all = ["embed", "minilm", "--file", "texts.jsonl"];
    let rows = lines(&home.run(&all));
    assert_eq!(rows.len(), texts.len());
    for (index, (row, vector)) in rows.iter().zip(&vectors).enumerate() {
        assert_eq!(row["index"], index, "in the order of the file");
        let own = numbers(&row["embedding"]);
        assert_eq!(own.len(), vector.len());
        assert!(cosine(&own, vector) >= 0.9999, "text {index}: {}", cosine(&own, vector));
        assert!((own.iter().map(|number| number * number).sum::<f64>() - 1.0).abs() < 1e-5, "text {index}");
    }
    // What is continued is what was left.
    let rest = lines(&home.run(&[&all[..], &["--skip", "2"]].concat()));
    assert_eq!(rest.len(), rows.len() - 2);
    for (one, other) in rest.iter().zip(&rows[2..]) {
        assert_eq!((&one["index"], &one["tokens"]), (&other["index"], &other["tokens"]));
        // Another batch rounds sums otherwise.
        let closeness = cosine(&numbers(&one["embedding"]), &numbers(&other["embedding"]));
        assert!(closeness > 0.999_99, "{closeness}");
    }
    // A worker of its own has it, in the whole sandbox that there is here.
    let stats = home.stats();
    assert!(stats["workers"]["sandbox"].to_string().contains("calls allowed"), "{stats}");
    let listed = home.run(&["ps", "--json"]).json();
    let capabilities = &listed["models"][0]["capabilities"];
    assert!(capabilities.as_array().is_some_and(|all| all.contains(&Value::from("embed"))), "{listed}");
    let shown = home.run(&["show", "minilm", "--json"]).json();
    assert_eq!(shown["embedder"]["dimensions"], vectors[0].len(), "{shown}");
}

#[test]
fn vectors_have_the_form_that_is_asked_for() {
    let Some((home, _)) = minilm() else { return };
    let whole = numbers(&lines(&home.run(&["embed", "minilm", "A fox met a bird."]))[0]["embedding"]);
    let cut = home.run(&["embed", "minilm", "--dimensions", "8", "--json", "A fox met a bird."]).json();
    let cut = numbers(&cut[0]["embedding"]);
    assert_eq!(cut.len(), 8);
    assert!(cosine(&cut, &whole[..8]) > 0.999_99, "cut and normalised: {cut:?}");
    let text = home.run(&["embed", "minilm", "--format", "text", "A fox met a bird."]);
    let words: Vec<f64> =
        text.stdout.split_whitespace().map(|word| word.parse().expect("a number")).collect();
    assert!(cosine(&words, &whole) > 0.999_99);
    // A prompt stands before queries alone.
    let of = |flags: &[&str]| {
        numbers(&lines(&home.run(&[&["embed", "prompted", "A fox"][..], flags].concat()))[0]["embedding"])
    };
    let spelled = numbers(&lines(&home.run(&["embed", "minilm", "query: A fox"]))[0]["embedding"]);
    assert!(cosine(&of(&["--query"]), &spelled) > 0.999_9);
    assert!(cosine(&of(&[]), &spelled) < 0.999);
}

#[test]
fn documents_are_sorted_by_their_score() {
    let Some((home, reference)) = minilm() else { return };
    let pairs = reference["pairs"].as_array().expect("pairs");
    let text = |pair: &Value, field: &str| pair[field].as_str().expect("a text").to_owned();
    for pair in pairs {
        let (query, document) = (text(pair, "query"), text(pair, "document"));
        let scored = home.run(&["rerank", "ranker", &query, &document, "--raw", "--json"]).json();
        let (own, known) =
            (scored[0]["score"].as_f64().expect("a score"), pair["score"].as_f64().expect("known"));
        assert!((own - known).abs() < 1e-2, "{own} and {known} of {pair}");
    }
    let documents: Vec<String> = pairs.iter().map(|pair| text(pair, "document")).collect();
    let query = text(&pairs[0], "query");
    let mut line = vec!["rerank", "ranker", &query, "--json"];
    line.extend(documents.iter().map(String::as_str));
    let ranked = home.run(&line).json();
    let scores: Vec<f64> =
        ranked.as_array().expect("all").iter().map(|row| row["score"].as_f64().expect("a score")).collect();
    assert_eq!(scores.len(), documents.len());
    assert!(scores.is_sorted_by(|one, other| one >= other), "{ranked}");
    assert!(scores.iter().all(|score| (0.0..=1.0).contains(score)), "{ranked}");
    let top = home.run(&[&line[..], &["--top", "1"]].concat()).json();
    assert_eq!(top, Value::from(vec![ranked[0].clone()]));
    let done = home.run(&["rerank", "minilm", "a query", "a document"]);
    assert!(done.code == 64 && done.stderr.contains("hint: "), "it has no classifier: {done:?}");
}

#[test]
fn bad_texts_are_named_and_the_daemon_lives() {
    let Some((home, _)) = minilm() else { return };
    assert_eq!(home.run(&["embed", "minilm", "warm"]).code, 0);
    let pid = home.daemon_pid();
    let long = "fox ".repeat(4_000);
    fs_err::write(home.path().join("texts.txt"), format!("short\n\n{long}\n")).expect("file");
    let done = home.run(&["embed", "minilm", "--file", "texts.txt"]);
    assert_eq!(done.code, 65, "{done:?}");
    assert!(done.stderr.contains("texts.txt, line 3"), "{}", done.stderr);
    assert_eq!(lines(&home.run(&["embed", "minilm", "--file", "texts.txt", "--truncate"])).len(), 2);
    fs_err::write(home.path().join("ids.jsonl"), "[4000000000]\n").expect("file");
    assert_eq!(home.run(&["embed", "minilm", "--file", "ids.jsonl"]).code, 64);
    assert_eq!(home.run(&["embed", "minilm", "--dimensions", "100000", "x"]).code, 64);
    let chat = home.run(&["run", "-m", "minilm", "Hello"]);
    assert!(chat.code == 64 && chat.stderr.contains("hint: "), "{chat:?}");
    assert_eq!(home.run(&["embed", "minilm", "still here"]).code, 0);
    assert_eq!(home.daemon_pid(), pid);
}

#[test]
fn texts_are_token_ids_and_token_ids_are_text() {
    let home = Home::new();
    let ids = home.run(&["tokenize", "demo", "--plain", "A fox met a bird."]);
    assert_eq!(ids.code, 0, "{ids:?}");
    let words: Vec<&str> = ids.stdout.split_whitespace().collect();
    assert!(words.len() > 2 && words.iter().all(|word| word.parse::<u32>().is_ok()), "{ids:?}");
    let text = home.run(&[&["tokenize", "demo", "--detokenize"][..], &words[..]].concat());
    assert_eq!(text.stdout.trim(), "A fox met a bird.");
    let count = home.run(&["tokenize", "demo", "--plain", "--count", "A fox met a bird."]);
    assert_eq!(count.stdout.trim(), words.len().to_string());
    let pieces = home.run(&["tokenize", "demo", "--plain", "--pieces", "--json", "A fox met a bird."]).json();
    let pieces = pieces[0]["pieces"].as_array().expect("pieces").clone();
    assert_eq!(pieces.len(), words.len());
    let lines = home.run_with_input(&["tokenize", "demo", "--count"], b"a fox\n\na bird\n");
    assert_eq!(lines.stdout.lines().count(), 3, "an empty line has its own: {lines:?}");
}

#[test]
fn a_model_that_writes_text_alone_makes_no_vectors() {
    let home = Home::new();
    for line in [&["embed", "demo", "A text"][..], &["rerank", "demo", "a query", "a document"]] {
        let done = home.run(line);
        assert_eq!((done.code, done.stdout.as_str()), (64, ""), "{done:?}");
        assert!(done.stderr.contains("demo") && done.stderr.contains("\nhint: "), "{done:?}");
    }
    assert_eq!(home.run(&["run", "-n", "2", "Hello"]).code, 0);
}
