//! Small published models with random weights, written as their authors would publish them.
#![allow(dead_code, reason = "each test binary uses a part of it")]

use serde_json::{Map, Value, json};
use tempfile::TempDir;

/// Bytes, then `<s>`, `</s>`, `<|im_start|>` and `<|im_end|>`, then unused rows.
pub(crate) const VOCABULARY: usize = 272;
const SPECIALS: [&str; 4] = ["<s>", "</s>", "<|im_start|>", "<|im_end|>"];
/// Weights of a WordPiece vocabulary, by their texts.
const WORDS: [&str; 14] = [
    "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "fox", "kettle", "owl", "river", "once", "friends", "with",
    "there", "##s",
];
const CHAT: &str = "{{ bos_token }}{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";

/// A tensor by its name.
pub(crate) type Named = (String, Vec<usize>, Vec<f32>);

/// Random numbers that are the same each time.
pub(crate) struct Noise(u64);

impl Noise {
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Numbers from `-most` to `most`.
    pub(crate) fn numbers(&mut self, count: usize, most: f32) -> Vec<f32> {
        let number = |state: &mut u64| {
            *state ^= *state << 13;
            *state ^= *state >> 7;
            *state ^= *state << 17;
            ((*state >> 40) as f32 / (1_u64 << 23) as f32 - 1.0) * most
        };
        (0..count).map(|_| number(&mut self.0)).collect()
    }
}

/// Writes a model of these tensors, in two shards with an index.
pub(crate) fn publish(config: &Value, tensors: &[Named], tokenizer: &Value, settings: &Value) -> TempDir {
    let place = tempfile::tempdir().expect("a folder");
    let write =
        |name: &str, bytes: Vec<u8>| fs_err::write(place.path().join(name), bytes).expect("is written");
    write("config.json", config.to_string().into_bytes());
    write("tokenizer.json", tokenizer.to_string().into_bytes());
    write("tokenizer_config.json", settings.to_string().into_bytes());
    let (mut map, middle) = (Map::new(), tensors.len() / 2);
    for (number, shard) in [&tensors[..middle], &tensors[middle..]].into_iter().enumerate() {
        let name = format!("model-0000{}-of-00002.safetensors", number + 1);
        map.extend(shard.iter().map(|(tensor, ..)| (tensor.clone(), json!(name))));
        write(&name, safetensors(shard));
    }
    write("model.safetensors.index.json", json!({ "weight_map": map }).to_string().into_bytes());
    place
}

/// A file of 32-bit floats.
fn safetensors(tensors: &[Named]) -> Vec<u8> {
    let (mut header, mut data) = (Map::new(), Vec::new());
    for (name, shape, numbers) in tensors {
        assert_eq!(shape.iter().product::<usize>(), numbers.len(), "{name}");
        let begin = data.len();
        data.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
        header.insert(
            name.clone(),
            json!({"dtype": "F32", "shape": shape, "data_offsets": [begin, data.len()]}),
        );
    }
    let header = Value::Object(header).to_string();
    [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &data].concat()
}

/// A decoder of this class. `more` changes the configuration; its sides are small.
pub(crate) fn decoder(class: &str, more: &Value) -> (Value, Vec<Named>) {
    let mut config = json!({
        "architectures": [class], "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 4,
        "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": VOCABULARY, "hidden_act": "silu",
        "max_position_embeddings": 2048, "rms_norm_eps": 1e-6, "rope_theta": 10000.0, "tie_word_embeddings": false,
        "bos_token_id": 256, "eos_token_id": 257,
    });
    for (key, value) in more.as_object().expect("an object") {
        config[key] = value.clone();
    }
    let whole = |key: &str| config[key].as_u64().unwrap_or(0) as usize;
    let (width, heads, kv_heads) =
        (whole("hidden_size"), whole("num_attention_heads"), whole("num_key_value_heads"));
    let head = if config.get("head_dim").is_some() { whole("head_dim") } else { width / heads };
    let feed_forward = whole("intermediate_size");
    let mut noise = Noise::new(7);
    let mut tensors = Vec::new();
    let is_gemma = class == "Gemma3ForCausalLM";
    // Norms near one; Gemma counts from one on.
    let level = if is_gemma { 0.0 } else { 1.0 };
    let mut add = |name: &str, shape: &[usize], level: f32, most: f32| {
        let count = shape.iter().product();
        let numbers: Vec<f32> = noise.numbers(count, most).into_iter().map(|number| number + level).collect();
        tensors.push((name.to_owned(), shape.to_vec(), numbers));
    };
    add("model.embed_tokens.weight", &[VOCABULARY, width], 0.0, 1.0);
    for layer in 0..whole("num_hidden_layers") {
        let name = |part: &str| format!("model.layers.{layer}.{part}.weight");
        for (part, rows, columns) in [
            ("self_attn.q_proj", heads * head, width),
            ("self_attn.k_proj", kv_heads * head, width),
            ("self_attn.v_proj", kv_heads * head, width),
            ("self_attn.o_proj", width, heads * head),
            ("mlp.gate_proj", feed_forward, width),
            ("mlp.up_proj", feed_forward, width),
            ("mlp.down_proj", width, feed_forward),
        ] {
            add(&name(part), &[rows, columns], 0.0, (3.0 / columns as f32).sqrt());
            if class == "Qwen2ForCausalLM"
                && ["q_proj", "k_proj", "v_proj"].iter().any(|end| part.ends_with(end))
            {
                add(&format!("model.layers.{layer}.{part}.bias"), &[rows], 0.0, 0.3);
            }
        }
        let mut norms = vec!["input_layernorm", "post_attention_layernorm"];
        if is_gemma {
            norms.extend(["pre_feedforward_layernorm", "post_feedforward_layernorm"]);
        }
        for norm in norms {
            add(&name(norm), &[width], level, 0.2);
        }
        if is_gemma || class == "Qwen3ForCausalLM" {
            add(&name("self_attn.q_norm"), &[head], level, 0.2);
            add(&name("self_attn.k_norm"), &[head], level, 0.2);
        }
    }
    add("model.norm.weight", &[width], level, 0.2);
    if config["tie_word_embeddings"] == json!(false) {
        add("lm_head.weight", &[VOCABULARY, width], 0.0, 0.5);
        // Greedy answers are of letters: all other rows say nothing.
        let (_, _, head) = tensors.last_mut().expect("it was added");
        for token in (0..VOCABULARY).filter(|token| !(32..127).contains(token)) {
            head[token * width..(token + 1) * width].fill(0.0);
        }
    }
    (config, tensors)
}

/// A model that writes text, by this class.
pub(crate) fn published_decoder(class: &str, more: &Value) -> TempDir {
    let (config, tensors) = decoder(class, more);
    publish(&config, &tensors, &byte_tokenizer(), &chat_settings())
}

pub(crate) fn chat_settings() -> Value {
    json!({"bos_token": "<s>", "eos_token": "<|im_end|>", "chat_template": CHAT})
}

/// A tokenizer with a token for each byte, which puts `<s>` before texts.
pub(crate) fn byte_tokenizer() -> Value {
    let is_shown = |byte: u32| matches!(byte, 0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff);
    let (mut vocabulary, mut hidden) = (Map::new(), 0);
    for byte in 0..256_u32 {
        let code = if is_shown(byte) {
            byte
        } else {
            255 + {
                hidden += 1;
                hidden
            }
        };
        let character = char::from_u32(code).expect("a character");
        vocabulary.insert(character.to_string(), json!(byte));
    }
    let added = SPECIALS.iter().enumerate().map(|(place, text)| added_token(256 + place, text));
    let special = json!({"SpecialToken": {"id": "<s>", "type_id": 0}});
    let sequence = |id: &str, kind: u32| json!({"Sequence": {"id": id, "type_id": kind}});
    json!({
        "version": "1.0", "truncation": null, "padding": null, "normalizer": null,
        "added_tokens": added.collect::<Vec<_>>(),
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true},
        "post_processor": {
            "type": "TemplateProcessing", "single": [special, sequence("A", 0)],
            "pair": [special, sequence("A", 0), special, sequence("B", 1)],
            "special_tokens": {"<s>": {"id": "<s>", "ids": [256], "tokens": ["<s>"]}},
        },
        "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true},
        "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
            "vocab": vocabulary, "merges": []},
    })
}

pub(crate) fn added_token(id: usize, text: &str) -> Value {
    json!({"id": id, "content": text, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false,
        "special": true})
}

/// An encoder of BERT's build, by this class.
pub(crate) fn encoder(class: &str) -> (Value, Vec<Named>) {
    let (width, feed_forward, positions, layers) = (48, 96, 512, 2);
    let mut config = json!({
        "architectures": [class], "hidden_size": width, "intermediate_size": feed_forward, "num_hidden_layers": layers,
        "num_attention_heads": 4, "vocab_size": WORDS.len(), "hidden_act": "gelu", "max_position_embeddings": positions,
        "type_vocab_size": 2, "layer_norm_eps": 1e-12, "pad_token_id": 0, "hidden_dropout_prob": 0.1,
        "initializer_range": 0.02, "model_type": "bert",
    });
    let is_classifier = class == "BertForSequenceClassification";
    let prefix = if is_classifier { "bert." } else { "" };
    if is_classifier {
        config["id2label"] = json!({"0": "LABEL_0"});
    }
    let mut noise = Noise::new(11);
    let mut tensors = Vec::new();
    let mut add = |name: String, shape: &[usize], level: f32, most: f32| {
        let numbers = noise.numbers(shape.iter().product(), most).into_iter().map(|number| number + level);
        tensors.push((name, shape.to_vec(), numbers.collect()));
    };
    for (name, rows) in [("word", WORDS.len()), ("position", positions), ("token_type", 2)] {
        let name = format!("{prefix}embeddings.{name}_embeddings.weight");
        add(name, &[rows, width], 0.0, 1.0);
    }
    let mut norms = vec!["embeddings.LayerNorm".to_owned()];
    let mut linears = Vec::new();
    for layer in 0..layers {
        let name = |part: &str| format!("encoder.layer.{layer}.{part}");
        norms.extend([name("attention.output.LayerNorm"), name("output.LayerNorm")]);
        linears.extend([
            (name("attention.self.query"), width, width),
            (name("attention.self.key"), width, width),
            (name("attention.self.value"), width, width),
            (name("attention.output.dense"), width, width),
            (name("intermediate.dense"), feed_forward, width),
            (name("output.dense"), width, feed_forward),
        ]);
    }
    if is_classifier {
        linears.push(("pooler.dense".to_owned(), width, width));
    }
    for norm in norms {
        add(format!("{prefix}{norm}.weight"), &[width], 1.0, 0.2);
        add(format!("{prefix}{norm}.bias"), &[width], 0.0, 0.2);
    }
    for (linear, rows, columns) in linears {
        add(format!("{prefix}{linear}.weight"), &[rows, columns], 0.0, (3.0 / columns as f32).sqrt());
        add(format!("{prefix}{linear}.bias"), &[rows], 0.0, 0.2);
    }
    if is_classifier {
        add("classifier.weight".to_owned(), &[1, width], 0.0, 0.5);
        add("classifier.bias".to_owned(), &[1], 0.0, 0.5);
    }
    (config, tensors)
}

/// A model that makes vectors or scores.
pub(crate) fn published_encoder(class: &str) -> TempDir {
    let (config, tensors) = encoder(class);
    publish(&config, &tensors, &word_tokenizer(), &json!({"cls_token": "[CLS]", "sep_token": "[SEP]"}))
}

/// A tokenizer of whole words, which puts `[CLS]` and `[SEP]` around texts and tells two texts apart by their types.
pub(crate) fn word_tokenizer() -> Value {
    let vocabulary: Map<String, Value> =
        WORDS.iter().enumerate().map(|(id, word)| ((*word).to_owned(), json!(id))).collect();
    let added = WORDS.iter().enumerate().take(5).map(|(id, text)| added_token(id, text));
    let special = |id: &str, kind: u32| json!({"SpecialToken": {"id": id, "type_id": kind}});
    let sequence = |id: &str, kind: u32| json!({"Sequence": {"id": id, "type_id": kind}});
    let token = |id: usize| json!({"id": WORDS[id], "ids": [id], "tokens": [WORDS[id]]});
    json!({
        "version": "1.0",
        // As some folders have them; they must not count.
        "truncation": {"direction": "Right", "max_length": 16, "strategy": "LongestFirst", "stride": 0},
        "padding": {"strategy": {"Fixed": 16}, "direction": "Right", "pad_to_multiple_of": null, "pad_id": 0,
            "pad_type_id": 0, "pad_token": "[PAD]"},
        "added_tokens": added.collect::<Vec<_>>(),
        "normalizer": {"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true, "strip_accents": null,
            "lowercase": true},
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [special("[CLS]", 0), sequence("A", 0), special("[SEP]", 0)],
            "pair": [special("[CLS]", 0), sequence("A", 0), special("[SEP]", 0), sequence("B", 1), special("[SEP]", 1)],
            "special_tokens": {"[CLS]": token(2), "[SEP]": token(3)},
        },
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": true},
        "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100, "vocab": vocabulary},
    })
}
