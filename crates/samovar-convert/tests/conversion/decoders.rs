//! Decoders: names, rows and numbers of each architecture.

use serde_json::{Value, json};

use crate::repository::{Repository, VOCABULARY, WIDE, WIDTH, config};
use crate::tokenizers::{LLAMA3, QWEN2, byte_pairs, pieces, pieces_settings};

/// Width of a head, of which there are two for queries and one for keys and values.
pub(crate) const HEAD: u64 = 4;

/// A model of Llama's build, with its tokenizer.
pub(crate) fn llama_like(class: &str, more: &Value, prefix: &str) -> Repository {
    let mut more = more.clone();
    more["num_key_value_heads"] = json!(1);
    let mut repository = Repository::new(&config(class, &more))
        .tensor(&format!("{prefix}embed_tokens.weight"), &[VOCABULARY, WIDTH])
        .tensor(&format!("{prefix}norm.weight"), &[WIDTH]);
    for block in 0..2 {
        for (name, shape) in [
            ("input_layernorm", &[WIDTH][..]),
            ("self_attn.q_proj", &[2 * HEAD, WIDTH]),
            ("self_attn.k_proj", &[HEAD, WIDTH]),
            ("self_attn.v_proj", &[HEAD, WIDTH]),
            ("self_attn.o_proj", &[WIDTH, 2 * HEAD]),
            ("post_attention_layernorm", &[WIDTH]),
            ("mlp.gate_proj", &[WIDE, WIDTH]),
            ("mlp.up_proj", &[WIDE, WIDTH]),
            ("mlp.down_proj", &[WIDTH, WIDE]),
        ] {
            repository = repository.tensor(&format!("{prefix}layers.{block}.{name}.weight"), shape);
        }
    }
    repository
}

pub(crate) fn with_byte_pairs(repository: Repository, expression: &str) -> Repository {
    repository
        .file("tokenizer.json", &byte_pairs(expression).to_string())
        .file("tokenizer_config.json", r#"{"eos_token":"<|end|>","chat_template":"{{ messages }}"}"#)
}

pub(crate) fn with_pieces(repository: Repository) -> Repository {
    repository
        .file("tokenizer.json", &pieces().to_string())
        .file("tokenizer_config.json", &pieces_settings().to_string())
}

/// Names of the tensors of both blocks and of all others, sorted.
fn names(blocks: &[&str], others: &[&str]) -> Vec<String> {
    let of_block = |block: usize| blocks.iter().map(move |name| format!("blk.{block}.{name}"));
    let mut names: Vec<String> =
        (0..2).flat_map(of_block).chain(others.iter().map(|name| (*name).to_owned())).collect();
    names.sort_unstable();
    names
}

const BLOCK: [&str; 9] = [
    "attn_norm.weight",
    "attn_q.weight",
    "attn_k.weight",
    "attn_v.weight",
    "attn_output.weight",
    "ffn_norm.weight",
    "ffn_gate.weight",
    "ffn_up.weight",
    "ffn_down.weight",
];
const TIED: [&str; 2] = ["token_embd.weight", "output_norm.weight"];
const UNTIED: [&str; 3] = ["token_embd.weight", "output_norm.weight", "output.weight"];

#[test]
fn llama_has_its_rows_interleaved_and_its_vocabulary_scored() {
    let model = llama_like("LlamaForCausalLM", &json!({"rope_theta": 5e5, "rms_norm_eps": 1e-5}), "model.");
    let model = with_pieces(model).tensor("lm_head.weight", &[VOCABULARY, WIDTH]).in_two();
    let (converted, written) = model.converted();
    assert_eq!(written.tensors.keys().cloned().collect::<Vec<_>>(), names(&BLOCK, &UNTIED));
    assert_eq!(written.order.first().map(String::as_str), Some("token_embd.weight"));
    let published = model.numbers("model.layers.1.self_attn.q_proj.weight");
    for (row, from) in [0, 2, 1, 3, 4, 6, 5, 7].into_iter().enumerate() {
        let begin = from * WIDTH as usize;
        assert_eq!(written.row("blk.1.attn_q.weight", row), &published[begin..begin + 8], "row {row}");
    }
    assert_eq!(
        written.tensors["blk.0.attn_v.weight"].numbers,
        model.numbers("model.layers.0.self_attn.v_proj.weight")
    );
    assert_eq!(written.tensors["blk.0.attn_v.weight"].format, 1);
    assert_eq!(written.tensors["blk.0.attn_norm.weight"].format, 0);
    assert_eq!(written.number("llama.rope.freq_base"), Some(5e5));
    assert_eq!(written.number("llama.rope.dimension_count"), Some(4.0));
    assert_eq!(written.number("llama.attention.head_count_kv"), Some(1.0));
    assert_eq!(written.number("general.file_type"), Some(1.0));
    assert_eq!(written.text("tokenizer.ggml.model"), Some("llama"));
    assert_eq!(written.flag("tokenizer.ggml.add_bos_token"), Some(true));
    assert_eq!(written.flag("tokenizer.ggml.add_space_prefix"), Some(true));
    assert_eq!(written.number("tokenizer.ggml.eos_token_id"), Some(2.0));
    let descriptor = converted.descriptor;
    assert_eq!((descriptor.architecture.as_str(), descriptor.vocabulary), ("llama", 16));
    assert_eq!(descriptor.chat_template.as_deref(), Some("{{ messages }}"));
    assert_eq!(descriptor.quantization, "F16");
}

#[test]
fn llama_3_has_a_tensor_of_rotations_and_bytes_for_a_vocabulary() {
    let rope = json!({"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192});
    let more = json!({"rope_scaling": rope, "rope_theta": 5e5, "tie_word_embeddings": true});
    // What a tied model stores besides is not what it uses.
    let model =
        llama_like("LlamaForCausalLM", &more, "model.").tensor("lm_head.weight", &[VOCABULARY, WIDTH]);
    let (_, written) = with_byte_pairs(model, LLAMA3).whole().converted();
    let others = [&TIED[..], &["rope_freqs.weight"]].concat();
    assert_eq!(written.tensors.keys().cloned().collect::<Vec<_>>(), names(&BLOCK, &others));
    assert_eq!(written.tensors["rope_freqs.weight"].shape, [2]);
    assert_eq!(written.tensors["rope_freqs.weight"].numbers[0].to_bits(), 1_f32.to_bits());
    assert_eq!(written.text("tokenizer.ggml.pre"), Some("llama-bpe"));
    assert_eq!(written.texts("tokenizer.ggml.merges"), ["a b"]);
    assert_eq!(written.texts("tokenizer.ggml.tokens")[3..7], ["ab", "<|end|>", "<think>", "[PAD6]"]);
    assert_eq!(written.number("tokenizer.ggml.eos_token_id"), Some(4.0));
    assert_eq!(written.flag("tokenizer.ggml.add_bos_token"), Some(false));
}

#[test]
fn mistral_is_a_llama() {
    let model = llama_like("MistralForCausalLM", &json!({"sliding_window": null, "head_dim": 4}), "model.");
    let (converted, _) =
        with_pieces(model.tensor("lm_head.weight", &[VOCABULARY, WIDTH])).whole().converted();
    assert_eq!(converted.descriptor.architecture, "llama");
}

#[test]
fn qwen2_keeps_its_rows_and_biases() {
    let mut model = llama_like("Qwen2ForCausalLM", &json!({"tie_word_embeddings": true}), "model.");
    for block in 0..2 {
        for (name, rows) in [("q", 2 * HEAD), ("k", HEAD), ("v", HEAD)] {
            model = model.tensor(&format!("model.layers.{block}.self_attn.{name}_proj.bias"), &[rows]);
        }
    }
    let model = with_byte_pairs(model, QWEN2).whole();
    let (_, written) = model.converted();
    let blocks = [&BLOCK[..], &["attn_q.bias", "attn_k.bias", "attn_v.bias"]].concat();
    assert_eq!(written.tensors.keys().cloned().collect::<Vec<_>>(), names(&blocks, &TIED));
    assert_eq!(
        written.tensors["blk.1.attn_q.weight"].numbers,
        model.numbers("model.layers.1.self_attn.q_proj.weight")
    );
    assert_eq!(written.tensors["blk.1.attn_q.bias"].format, 0);
    assert_eq!(written.text("tokenizer.ggml.pre"), Some("qwen2"));
}

/// A Qwen3 that makes vectors, without the prefix of those that write text.
fn qwen3_embedder(class: &str, more: &Value) -> Repository {
    let mut model = llama_like(class, more, "");
    for block in 0..2 {
        for name in ["q", "k"] {
            model = model.tensor(&format!("layers.{block}.self_attn.{name}_norm.weight"), &[HEAD]);
        }
    }
    let modules = r#"[{"type":"sentence_transformers.models.Transformer","path":""},
        {"type":"sentence_transformers.models.Pooling","path":"1_Pooling"}]"#;
    with_byte_pairs(model, QWEN2)
        .file("modules.json", modules)
        .file("1_Pooling/config.json", r#"{"pooling_mode_lasttoken":true,"pooling_mode_mean_tokens":false}"#)
        .whole()
}

#[test]
fn qwen3_has_norms_of_heads_and_may_lack_the_prefix() {
    // Models of embeddings name either class, and have no head in either.
    for (class, more) in [
        ("Qwen3Model", json!({"head_dim": 4})),
        ("Qwen3ForCausalLM", json!({"head_dim": 4, "tie_word_embeddings": false})),
    ] {
        let written = qwen3_embedder(class, &more).converted().1;
        let blocks = [&BLOCK[..], &["attn_q_norm.weight", "attn_k_norm.weight"]].concat();
        assert_eq!(written.tensors.keys().cloned().collect::<Vec<_>>(), names(&blocks, &TIED));
        assert_eq!(written.tensors["blk.0.attn_q_norm.weight"].format, 0);
        assert_eq!(written.number("qwen3.pooling_type"), Some(3.0));
    }
}

#[test]
fn a_decoder_that_sees_both_ways_says_so() {
    let more = json!({"is_causal": false, "tie_word_embeddings": true});
    let model = with_byte_pairs(llama_like("Qwen2Model", &more, ""), QWEN2).whole();
    let (converted, written) = model.converted();
    assert_eq!(written.flag("qwen2.attention.causal"), Some(false));
    assert!(!converted.descriptor.is_causal);
}

#[test]
fn a_token_that_only_the_settings_name_is_a_control_token() {
    let more = json!({"tie_word_embeddings": true});
    let settings =
        r#"{"eos_token":"<|end|>","pad_token":"b","additional_special_tokens":[{"content":"ab"}]}"#;
    let model = with_byte_pairs(llama_like("Qwen2ForCausalLM", &more, "model."), QWEN2);
    let (_, written) = model.file("tokenizer_config.json", settings).whole().converted();
    let Some(crate::written::Value::List(types)) = written.keys.get("tokenizer.ggml.token_type") else {
        panic!("types are a list")
    };
    let control = crate::written::Value::Number(3.0);
    assert_eq!(
        types.iter().map(|kind| *kind == control).collect::<Vec<_>>()[..6],
        [false, false, false, true, true, false]
    );
}

#[test]
fn smollm3_is_interleaved_and_needs_every_fourth_layer_bare() {
    let model = |list: Value| {
        let more = json!({"no_rope_layers": list, "no_rope_layer_interval": 4});
        with_byte_pairs(llama_like("SmolLM3ForCausalLM", &more, "model."), LLAMA3).whole()
    };
    let (_, written) = model(json!([1, 1])).converted();
    assert_eq!(written.tensors.keys().cloned().collect::<Vec<_>>(), names(&BLOCK, &TIED));
    assert_eq!(written.number("smollm3.rope.freq_base"), Some(2e6));
    assert!(model(json!([1, 0])).refusal().message.contains("no_rope_layers"));
}

#[test]
fn granite_says_its_multipliers() {
    let more = json!({"attention_multiplier": 0.5, "embedding_multiplier": 12.0, "residual_multiplier": 0.25,
        "logits_scaling": 8.0, "tie_word_embeddings": true});
    let (_, written) =
        with_byte_pairs(llama_like("GraniteForCausalLM", &more, "model."), QWEN2).whole().converted();
    for (key, number) in
        [("attention.scale", 0.5), ("embedding_scale", 12.0), ("residual_scale", 0.25), ("logit_scale", 8.0)]
    {
        assert_eq!(written.number(&format!("granite.{key}")), Some(number), "{key}");
    }
}

#[test]
fn phi3_keeps_what_is_fused_and_has_two_tables_of_rotations() {
    let more = json!({"num_key_value_heads": 2, "original_max_position_embeddings": 16, "rope_scaling": {
        "type": "longrope", "short_factor": [1.0, 1.5], "long_factor": [2.0, 3.0]}});
    let mut model = Repository::new(&config("Phi3ForCausalLM", &more))
        .tensor("model.embed_tokens.weight", &[VOCABULARY, WIDTH])
        .tensor("lm_head.weight", &[VOCABULARY, WIDTH])
        .tensor("model.norm.weight", &[WIDTH]);
    for block in 0..2 {
        for (name, shape) in [
            ("input_layernorm", &[WIDTH][..]),
            ("self_attn.qkv_proj", &[3 * WIDTH, WIDTH]),
            ("self_attn.o_proj", &[WIDTH, WIDTH]),
            ("post_attention_layernorm", &[WIDTH]),
            ("mlp.gate_up_proj", &[2 * WIDE, WIDTH]),
            ("mlp.down_proj", &[WIDTH, WIDE]),
        ] {
            model = model.tensor(&format!("model.layers.{block}.{name}.weight"), shape);
        }
    }
    let model = with_pieces(model).whole();
    let (_, written) = model.converted();
    let blocks = [
        "attn_norm.weight",
        "attn_qkv.weight",
        "attn_output.weight",
        "ffn_norm.weight",
        "ffn_up.weight",
        "ffn_down.weight",
    ];
    let others = [&UNTIED[..], &["rope_factors_long.weight", "rope_factors_short.weight"]].concat();
    assert_eq!(written.tensors.keys().cloned().collect::<Vec<_>>(), names(&blocks, &others));
    assert_eq!(written.tensors["rope_factors_long.weight"].numbers, [2.0, 3.0]);
    let factor = (1.0_f64 + 2_f64.ln() / 16_f64.ln()).sqrt();
    assert!((written.number("phi3.rope.scaling.attn_factor").unwrap() - factor).abs() < 1e-6);
    assert_eq!(written.number("phi3.attention.sliding_window"), Some(0.0));
    assert_eq!(
        written.tensors["blk.0.attn_qkv.weight"].numbers,
        model.numbers("model.layers.0.self_attn.qkv_proj.weight")
    );
}

/// A Gemma, whose embedding has two rows more than its vocabulary.
fn gemma(class: &str, prefix: &str) -> Repository {
    let more = json!({"head_dim": 4, "sliding_window": 16, "query_pre_attn_scalar": 4, "rope_local_base_freq": 1e4,
        "hidden_activation": "gelu_pytorch_tanh"});
    let mut model = llama_like(class, &more, prefix)
        .without(&format!("{prefix}embed_tokens.weight"))
        .tensor(&format!("{prefix}embed_tokens.weight"), &[VOCABULARY + 2, WIDTH]);
    for block in 0..2 {
        for (name, width) in [
            ("self_attn.q_norm", HEAD),
            ("self_attn.k_norm", HEAD),
            ("pre_feedforward_layernorm", WIDTH),
            ("post_feedforward_layernorm", WIDTH),
        ] {
            model = model.tensor(&format!("{prefix}layers.{block}.{name}.weight"), &[width]);
        }
    }
    with_pieces(model)
}

const GEMMA: [&str; 4] =
    ["attn_q_norm.weight", "attn_k_norm.weight", "post_attention_norm.weight", "post_ffw_norm.weight"];

#[test]
fn gemma_3_has_its_norms_plus_one_and_no_rows_behind_its_vocabulary() {
    let model = gemma("Gemma3ForCausalLM", "model.").whole();
    let (_, written) = model.converted();
    let blocks = [&BLOCK[..], &GEMMA].concat();
    assert_eq!(written.tensors.keys().cloned().collect::<Vec<_>>(), names(&blocks, &TIED));
    assert_eq!(written.tensors["token_embd.weight"].shape, [WIDTH, VOCABULARY]);
    for (from, to) in [
        ("model.layers.0.post_attention_layernorm.weight", "blk.0.post_attention_norm.weight"),
        ("model.layers.0.pre_feedforward_layernorm.weight", "blk.0.ffn_norm.weight"),
        ("model.layers.1.self_attn.q_norm.weight", "blk.1.attn_q_norm.weight"),
        ("model.norm.weight", "output_norm.weight"),
    ] {
        let shifted: Vec<u32> = model.numbers(from).iter().map(|number| (number + 1.0).to_bits()).collect();
        let found: Vec<u32> = written.tensors[to].numbers.iter().map(|number| number.to_bits()).collect();
        assert_eq!(found, shifted, "{to}");
    }
    assert_eq!(written.number("gemma3.rope.freq_base"), Some(1e6));
    assert_eq!(written.number("gemma3.rope.freq_base_swa"), Some(1e4));
    assert_eq!(written.number("gemma3.attention.sliding_window"), Some(16.0));
    assert_eq!(written.flag("tokenizer.ggml.add_space_prefix"), Some(false));
}

#[test]
fn a_gemma_that_sees_the_other_way_than_llama_cpp_is_refused() {
    for (class, sees_both) in [("Gemma3TextModel", false), ("Gemma3ForCausalLM", true)] {
        let model = gemma(class, "model.");
        let config = fs_err::read_to_string(model.path().join("config.json")).unwrap();
        let said = format!("{{\"use_bidirectional_attention\":{sees_both},");
        let refusal = model.file("config.json", &config.replacen('{', &said, 1)).whole().refusal();
        assert!(refusal.message.contains("use_bidirectional_attention"), "{refusal:?}");
    }
}

#[test]
fn embedding_gemma_has_the_layers_behind_its_pooling() {
    let model = gemma("Gemma3TextModel", "")
        .layer("2_Dense", 24, WIDTH)
        .layer("3_Dense", WIDTH, 24)
        .file("modules.json", r#"[{"type":"sentence_transformers.models.Pooling","path":"1_Pooling"}]"#)
        .file("1_Pooling/config.json", r#"{"pooling_mode_mean_tokens":true}"#)
        .whole();
    let (converted, written) = model.converted();
    let (blocks, others) =
        ([&BLOCK[..], &GEMMA].concat(), [&TIED[..], &["dense_2.weight", "dense_3.weight"]].concat());
    assert_eq!(written.tensors.keys().cloned().collect::<Vec<_>>(), names(&blocks, &others));
    assert_eq!(written.tensors["dense_2.weight"].shape, [WIDTH, 24]);
    assert_eq!(written.number("gemma-embedding.dense_2_feat_out"), Some(24.0));
    assert_eq!(written.number("gemma-embedding.pooling_type"), Some(1.0));
    assert_eq!(converted.descriptor.architecture, "gemma-embedding");
}
