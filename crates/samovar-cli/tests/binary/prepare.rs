//! Models in safetensors on the real engine: converted and quantized in a worker within its sandbox, and mapped ever after.
#![cfg(all(target_os = "linux", feature = "llama"))]

use rustix::process::Signal;
use serde_json::{Map, Value, json};

use crate::home::{Home, await_some};

const WIDTH: usize = 64;
const FEED_FORWARD: usize = 128;
const BLOCKS: usize = 2;
const POSITIONS: usize = 64;
const WORDS: [&str; 12] =
    ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "fox", "met", "bird", "story", "of", "tea", "##s"];

/// A folder with a small BERT of random weights, as its author would publish it.
struct Published(tempfile::TempDir);

impl Published {
    fn new() -> Self {
        let published = Self(tempfile::tempdir().expect("a folder"));
        published.write("config.json", config("BertModel").to_string().as_bytes());
        published.write("tokenizer.json", tokenizer().to_string().as_bytes());
        published.write("model.safetensors", &safetensors());
        published
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        fs_err::write(self.0.path().join(name), bytes).expect("written");
    }

    fn path(&self) -> &str {
        self.0.path().to_str().expect("UTF-8")
    }
}

fn config(class: &str) -> Value {
    json!({
        "architectures": [class], "model_type": "bert", "vocab_size": WORDS.len(), "hidden_size": WIDTH,
        "num_hidden_layers": BLOCKS, "num_attention_heads": 2, "intermediate_size": FEED_FORWARD,
        "max_position_embeddings": POSITIONS, "type_vocab_size": 2, "layer_norm_eps": 1e-12,
        "hidden_act": "gelu", "position_embedding_type": "absolute", "pad_token_id": 0, "torch_dtype": "float32",
    })
}

fn tokenizer() -> Value {
    let vocabulary: Map<String, Value> =
        WORDS.iter().enumerate().map(|(id, word)| ((*word).to_owned(), json!(id))).collect();
    let added: Vec<Value> = WORDS[..4]
        .iter()
        .enumerate()
        .map(|(id, word)| json!({ "id": id, "content": word, "special": true }))
        .collect();
    json!({
        "version": "1.0", "added_tokens": added,
        "normalizer": { "type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true,
            "strip_accents": null, "lowercase": true },
        "pre_tokenizer": { "type": "BertPreTokenizer" },
        "post_processor": { "type": "TemplateProcessing",
            "single": [{ "SpecialToken": { "id": "[CLS]", "type_id": 0 } }, { "Sequence": { "id": "A", "type_id": 0 } },
                { "SpecialToken": { "id": "[SEP]", "type_id": 0 } }],
            "pair": [], "special_tokens": {} },
        "model": { "type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100, "vocab": vocabulary },
    })
}

/// Every tensor of the model, in 32-bit floats: norms near one, all others near nothing, and all of them from one seed.
fn safetensors() -> Vec<u8> {
    let mut shapes: Vec<(String, Vec<usize>)> = vec![
        ("embeddings.word_embeddings.weight".to_owned(), vec![WORDS.len(), WIDTH]),
        ("embeddings.token_type_embeddings.weight".to_owned(), vec![2, WIDTH]),
        ("embeddings.position_embeddings.weight".to_owned(), vec![POSITIONS, WIDTH]),
    ];
    let mut both = |name: &str, shape: &[usize]| {
        shapes.push((format!("{name}.weight"), shape.to_vec()));
        shapes.push((format!("{name}.bias"), shape[..1].to_vec()));
    };
    both("embeddings.LayerNorm", &[WIDTH]);
    for block in 0..BLOCKS {
        for (name, shape) in [
            ("attention.self.query", &[WIDTH, WIDTH][..]),
            ("attention.self.key", &[WIDTH, WIDTH]),
            ("attention.self.value", &[WIDTH, WIDTH]),
            ("attention.output.dense", &[WIDTH, WIDTH]),
            ("attention.output.LayerNorm", &[WIDTH]),
            ("intermediate.dense", &[FEED_FORWARD, WIDTH]),
            ("output.dense", &[WIDTH, FEED_FORWARD]),
            ("output.LayerNorm", &[WIDTH]),
        ] {
            both(&format!("encoder.layer.{block}.{name}"), shape);
        }
    }
    let (mut header, mut data, mut seed) = (Map::new(), Vec::new(), 7_u32);
    for (name, shape) in shapes {
        let begin = data.len();
        let is_norm = name.contains("LayerNorm.weight");
        for _ in 0..shape.iter().product::<usize>() {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let noise = f64::from(seed >> 8) / f64::from(1 << 24) - 0.5;
            let value = if is_norm { 1.0 + noise / 10.0 } else { noise / 2.0 };
            data.extend((value as f32).to_le_bytes());
        }
        header.insert(name, json!({ "dtype": "F32", "shape": shape, "data_offsets": [begin, data.len()] }));
    }
    let header = Value::from(header).to_string();
    [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &data].concat()
}

fn vector(home: &Home, model: &str) -> Vec<f64> {
    let done = home.run(&["embed", model, "A fox met a bird"]);
    assert_eq!(done.code, 0, "{done:?}");
    let line = done.stdout.lines().next().expect("a line");
    let line: Value = serde_json::from_str(line).expect("JSON");
    let numbers = line["embedding"].as_array().unwrap_or_else(|| panic!("{line}"));
    numbers.iter().filter_map(Value::as_f64).collect()
}

fn cosine(one: &[f64], other: &[f64]) -> f64 {
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    dot(one, other) / (dot(one, one) * dot(other, other)).sqrt()
}

#[test]
fn a_folder_is_prepared_at_first_use_and_in_another_number_format_on_order() {
    let (published, home) = (Published::new(), Home::new());
    let model = published.path();
    let whole = vector(&home, model);
    assert_eq!(whole.len(), WIDTH);
    let prepared = home.run(&["--json", "prepare", model, "--quantize", "Q8_0"]);
    assert_eq!(prepared.code, 0, "{prepared:?}");
    assert_eq!(prepared.json()[0]["prepared"]["quantization"], "Q8_0");
    let small = vector(&home, model);
    assert!(cosine(&whole, &small) > 0.99, "{whole:?} {small:?}");
    assert_ne!(whole, small);
    assert_eq!(home.run(&["--json", "df"]).json()["prepared"], 2);
    let again = home.run(&["prepare", model]);
    assert!(again.stdout.contains("was prepared before as Q8_0"), "{again:?}");
    home.run(&["shutdown"]);
    home.wait_until_daemon_is_gone();
    assert_eq!(vector(&home, model), small, "the choice outlives the daemon, and so does the file");
    assert_eq!(home.run(&["--json", "df"]).json()["prepared"], 2);
    let used = home.run(&["rm", model]);
    assert!(used.code != 0 && used.stderr.contains("samovar stop"), "{used:?}");
    home.run(&["shutdown"]);
    home.wait_until_daemon_is_gone();
    let removed = home.run(&["rm", model]);
    assert!(removed.code == 0 && removed.stdout.contains("freed"), "{removed:?}");
    assert_eq!(home.run(&["--json", "df"]).json()["prepared"], 0);
    assert_eq!(home.run(&["rm", model]).code, 66, "nothing is left, and the folder is the user's");
}

#[test]
fn an_architecture_that_is_not_converted_is_refused_by_its_name() {
    let (published, home) = (Published::new(), Home::new());
    published.write("config.json", config("SteamModel").to_string().as_bytes());
    let refused = home.run(&["prepare", published.path()]);
    assert_ne!(refused.code, 0);
    assert!(refused.stderr.contains("SteamModel") && refused.stderr.contains("hint:"), "{refused:?}");
    assert_eq!(home.run(&["--json", "df"]).json()["prepared"], 0);
}

#[test]
fn damaged_weights_leave_nothing_behind() {
    let (published, home) = (Published::new(), Home::new());
    let mut bytes = safetensors();
    let end = bytes.len();
    bytes[end - 4..].copy_from_slice(&f32::NAN.to_le_bytes());
    published.write("model.safetensors", &bytes);
    let refused = home.run(&["prepare", published.path(), "--quantize", "Q4_K_M"]);
    assert_ne!(refused.code, 0, "{refused:?}");
    let usage = home.run(&["--json", "df"]).json();
    assert_eq!((&usage["prepared"], &usage["tmp_bytes"]), (&0.into(), &0.into()));
}

/// Weights whose header was changed.
fn with_header(change: impl FnOnce(&mut Value)) -> Vec<u8> {
    let bytes = safetensors();
    let length = u64::from_le_bytes(bytes[..8].try_into().expect("8 bytes")) as usize;
    let mut header = serde_json::from_slice(&bytes[8..8 + length]).expect("a header");
    change(&mut header);
    let header = header.to_string();
    [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &bytes[8 + length..]].concat()
}

/// Moves a tensor by so many bytes at its beginning and its end.
fn moved(by: [i64; 2]) -> Vec<u8> {
    with_header(|header| {
        let offsets = &mut header["encoder.layer.1.output.dense.weight"]["data_offsets"];
        for (place, by) in by.into_iter().enumerate() {
            offsets[place] = json!(offsets[place].as_u64().expect("an offset").saturating_add_signed(by));
        }
    })
}

#[test]
fn bad_input_is_refused_in_words_that_help_and_leaves_nothing() {
    let home = Home::new();
    let refused = |words: &[&str], break_it: &dyn Fn(&Published)| {
        let published = Published::new();
        break_it(&published);
        let done = home.run(&["run", published.path(), "Hello"]);
        assert_ne!(done.code, 0, "{words:?}: {done:?}");
        for word in words.iter().chain(&["hint:"]) {
            assert!(done.stderr.contains(word), "{word}: {done:?}");
        }
    };
    let remove = |published: &Published, name: &str| {
        fs_err::remove_file(published.0.path().join(name)).expect("is there");
    };
    refused(&["pickle", "pytorch_model.bin", "never read"], &|published| {
        remove(published, "model.safetensors");
        published.write("pytorch_model.bin", b"\x80\x02");
    });
    for (by, word) in [([0, 4], "takes"), ([-4, -4], "overlap"), ([4, 4], "belong to no tensor")] {
        refused(&["model.safetensors", word], &|published| {
            published.write("model.safetensors", &moved(by));
        });
    }
    let shard = |number: u32| format!("model-0000{number}-of-00002.safetensors");
    let map = with_names(|name| json!(shard(if name.starts_with("embeddings") { 1 } else { 2 })));
    let in_two = json!({"metadata": {}, "weight_map": map}).to_string();
    refused(&[shard(2).as_str()], &|published| {
        remove(published, "model.safetensors");
        published.write(&shard(1), &safetensors());
        published.write("model.safetensors.index.json", in_two.as_bytes());
    });
    refused(&["swapped"], &|published| {
        let bytes = fs_err::read(published.0.path().join("model.safetensors")).expect("is read");
        remove(published, "model.safetensors");
        published.write(&shard(1), &bytes);
        published.write(&shard(2), b"\x02\0\0\0\0\0\0\0{}");
        published.write("model.safetensors.index.json", in_two.as_bytes());
    });
    refused(&["config.json and the weights disagree", "[128, 64]"], &|published| {
        let mut other = config("BertModel");
        other["intermediate_size"] = json!(96);
        published.write("config.json", other.to_string().as_bytes());
    });
    refused(&["config.json", "num_hidden_layers"], &|published| {
        let mut other = config("BertModel");
        other["num_hidden_layers"] = json!(-1);
        published.write("config.json", other.to_string().as_bytes());
    });
    for method in ["gptq", "awq", "mxfp4", "bitsandbytes"] {
        refused(&["quantized already", method], &|published| {
            let mut other = config("BertModel");
            other["quantization_config"] = json!({"quant_method": method});
            published.write("config.json", other.to_string().as_bytes());
        });
    }
    refused(&["tokenizer.json"], &|published| remove(published, "tokenizer.json"));
    refused(&["adapter", "`adapters`"], &|published| {
        remove(published, "config.json");
        published.write("adapter_config.json", b"{}");
    });
    let usage = home.run(&["--json", "df"]).json();
    assert_eq!((&usage["prepared"], &usage["tmp_bytes"]), (&0.into(), &0.into()));
    assert_eq!(vector(&home, Published::new().path()).len(), WIDTH, "the next sound one is prepared");
}

/// A map with a value for each tensor.
fn with_names(value: impl Fn(&str) -> Value) -> Map<String, Value> {
    let mut map = Map::new();
    with_header(|header| {
        let names = header.as_object().into_iter().flat_map(Map::keys);
        map.extend(names.map(|name| (name.clone(), value(name))));
    });
    map
}

#[test]
fn two_daemons_over_one_cache_prepare_a_model_once() {
    let (published, cache) = (Published::new(), tempfile::tempdir().expect("a folder"));
    let config = format!("[cache]\ncache_dir = '{}'\n", cache.path().display());
    let homes = [(), ()].map(|()| Home::new().with_config(&config));
    let orders = homes.each_ref().map(|home| home.spawn(&["--json", "prepare", published.path()]));
    let took = orders.map(|order| order.finish().json()[0]["prepared"]["took_ms"].clone());
    assert_eq!(took.iter().filter(|took| took.is_number()).count(), 1, "{took:?}");
    assert_eq!(homes[0].run(&["--json", "df"]).json()["prepared"], 1);
    assert_eq!(vector(&homes[0], published.path()), vector(&homes[1], published.path()));
}

/// Writes the weights of a decoder of so many blocks, all of them zero and most of the file a hole.
fn write_large(published: &Published, width: u64, feed_forward: u64, blocks: u64) {
    let config = json!({
        "architectures": ["Qwen2ForCausalLM"], "hidden_size": width, "intermediate_size": feed_forward,
        "num_attention_heads": 8, "num_hidden_layers": blocks, "vocab_size": 4, "max_position_embeddings": 64,
        "tie_word_embeddings": true
    });
    let tokenizer = json!({
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "use_regex": true},
        "model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": ["a b"]}
    });
    let mut shapes = vec![("embed_tokens".to_owned(), vec![4, width]), ("norm".to_owned(), vec![width])];
    for block in 0..blocks {
        for (name, shape) in [
            ("input_layernorm", &[width][..]),
            ("post_attention_layernorm", &[width]),
            ("self_attn.q_proj", &[width, width]),
            ("self_attn.k_proj", &[width, width]),
            ("self_attn.v_proj", &[width, width]),
            ("self_attn.o_proj", &[width, width]),
            ("mlp.gate_proj", &[feed_forward, width]),
            ("mlp.up_proj", &[feed_forward, width]),
            ("mlp.down_proj", &[width, feed_forward]),
        ] {
            shapes.push((format!("layers.{block}.{name}"), shape.to_vec()));
        }
    }
    let (mut header, mut end) = (Map::new(), 0);
    for (name, shape) in shapes {
        let begin = end;
        end += shape.iter().product::<u64>() * 4;
        let place = json!({"dtype": "F32", "shape": shape, "data_offsets": [begin, end]});
        header.insert(format!("model.{name}.weight"), place);
    }
    let header = Value::from(header).to_string();
    published.write("config.json", config.to_string().as_bytes());
    published.write("tokenizer.json", tokenizer.to_string().as_bytes());
    published
        .write("model.safetensors", &[&(header.len() as u64).to_le_bytes()[..], header.as_bytes()].concat());
    let path = published.0.path().join("model.safetensors");
    let file = fs_err::OpenOptions::new().write(true).open(path).expect("is there");
    file.set_len(8 + header.len() as u64 + end).expect("has room");
}

#[test]
fn a_daemon_that_is_killed_while_it_prepares_leaves_nothing_and_the_next_one_prepares() {
    let (published, home) = (Published::new(), Home::new());
    write_large(&published, 512, 1024, 16);
    let order = ["--json", "prepare", published.path(), "--quantize", "Q8_0"];
    let running = home.spawn(&order);
    let entries = |folder: &str| {
        fs_err::read_dir(home.path().join("cache").join(folder)).into_iter().flatten().flatten()
    };
    let is_begun = || entries("packing").any(|making| making.path().join("converted.gguf").exists());
    // On a busy machine it may be whole before it is looked for; then the kill meets nothing.
    await_some(|| (is_begun() || entries("prepared").next().is_some()).then_some(()));
    home.signal_daemon(Signal::KILL);
    running.finish();
    home.wait_until_daemon_is_gone();
    let prepared = home.run(&order);
    assert_eq!(prepared.code, 0, "{prepared:?}");
    assert_eq!(home.run(&["gc"]).code, 0);
    assert_eq!(entries("packing").count(), 0, "something is left");
    let usage = home.run(&["--json", "df"]).json();
    assert_eq!((&usage["prepared"], &usage["tmp_bytes"]), (&1.into(), &0.into()));
}

#[test]
fn preparing_takes_memory_for_the_largest_tensor_and_not_for_the_model() {
    const WIDTH: u64 = 512;
    const LARGEST_BYTES: u64 = WIDTH * 2 * WIDTH * 4;
    /// Of one block, in 16-bit floats: four square matrices, and three that are twice as large.
    const BLOCK_BYTES: u64 = 10 * WIDTH * WIDTH * 2;
    let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get() as u64);
    // Each thread that quantizes has a stack, which counts.
    let limit_bytes = 3 * LARGEST_BYTES + (200 << 20) + cores * (10 << 20);
    let config = format!("[pool]\nworker_memory_bytes = {limit_bytes}\n[cache]\nmin_free_bytes = 0\n");
    let (published, home) = (Published::new(), Home::new().with_config(&config));
    // Not even the 16-bit floats of the whole model would fit.
    let blocks = limit_bytes / BLOCK_BYTES + 2;
    write_large(&published, WIDTH, 2 * WIDTH, blocks);
    let prepared = home.run(&["--json", "prepare", published.path(), "--quantize", "Q8_0"]);
    assert_eq!(prepared.code, 0, "{prepared:?}");
    let bytes = prepared.json()[0]["prepared"]["bytes"].as_u64().expect("a size");
    assert!(bytes > blocks * BLOCK_BYTES / 2, "{bytes} bytes of {blocks} blocks");
}
