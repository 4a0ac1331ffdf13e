//! Encoders and classifiers: names, rows and labels of each architecture.

use samovar_core::Pooling;
use serde_json::json;

use crate::repository::{Repository, VOCABULARY, WIDE, WIDTH, config};
use crate::tokenizers::{gpt2, unigram, unigram_settings, words, words_settings};

/// Tensors of BERT's build below a prefix, with so many rows of positions.
fn bert_like(model: Repository, prefix: &str, positions: u64, types: u64) -> Repository {
    let mut model = model
        .tensor(&format!("{prefix}embeddings.word_embeddings.weight"), &[VOCABULARY, WIDTH])
        .tensor(&format!("{prefix}embeddings.token_type_embeddings.weight"), &[types, WIDTH])
        .tensor(&format!("{prefix}embeddings.position_embeddings.weight"), &[positions, WIDTH])
        .tensor(&format!("{prefix}embeddings.LayerNorm.weight"), &[WIDTH])
        .tensor(&format!("{prefix}embeddings.LayerNorm.bias"), &[WIDTH]);
    for block in 0..2 {
        for (name, shape) in [
            ("attention.self.query", &[WIDTH, WIDTH][..]),
            ("attention.self.key", &[WIDTH, WIDTH]),
            ("attention.self.value", &[WIDTH, WIDTH]),
            ("attention.output.dense", &[WIDTH, WIDTH]),
            ("attention.output.LayerNorm", &[WIDTH]),
            ("intermediate.dense", &[WIDE, WIDTH]),
            ("output.dense", &[WIDTH, WIDE]),
            ("output.LayerNorm", &[WIDTH]),
        ] {
            let name = format!("{prefix}encoder.layer.{block}.{name}");
            model =
                model.tensor(&format!("{name}.weight"), shape).tensor(&format!("{name}.bias"), &shape[..1]);
        }
    }
    model
}

fn names(blocks: &[&str], others: &[&str]) -> Vec<String> {
    let of_block = |block: usize| blocks.iter().map(move |name| format!("blk.{block}.{name}"));
    let mut names: Vec<String> =
        (0..2).flat_map(of_block).chain(others.iter().map(|name| (*name).to_owned())).collect();
    names.sort_unstable();
    names
}

const BERT: [&str; 16] = [
    "attn_q.weight",
    "attn_q.bias",
    "attn_k.weight",
    "attn_k.bias",
    "attn_v.weight",
    "attn_v.bias",
    "attn_output.weight",
    "attn_output.bias",
    "attn_output_norm.weight",
    "attn_output_norm.bias",
    "ffn_up.weight",
    "ffn_up.bias",
    "ffn_down.weight",
    "ffn_down.bias",
    "layer_output_norm.weight",
    "layer_output_norm.bias",
];
const TABLES: [&str; 5] = [
    "token_embd.weight",
    "token_types.weight",
    "position_embd.weight",
    "token_embd_norm.weight",
    "token_embd_norm.bias",
];
const CLASSIFIER: [&str; 4] = ["cls.weight", "cls.bias", "cls.output.weight", "cls.output.bias"];

fn with_words(model: Repository) -> Repository {
    model
        .file("tokenizer.json", &words().to_string())
        .file("tokenizer_config.json", &words_settings().to_string())
}

fn with_unigram(model: Repository) -> Repository {
    model
        .file("tokenizer.json", &unigram().to_string())
        .file("tokenizer_config.json", &unigram_settings().to_string())
}

#[test]
fn bert_loses_its_pooler_and_keeps_its_tables_wide() {
    let more = json!({"type_vocab_size": 2, "layer_norm_eps": 1e-12, "hidden_act": "gelu"});
    let model = bert_like(Repository::new(&config("BertModel", &more)), "", 32, 2)
        .tensor("pooler.dense.weight", &[WIDTH, WIDTH])
        .tensor("pooler.dense.bias", &[WIDTH])
        .tensor("embeddings.position_ids", &[1, 32]);
    let model = with_words(model)
        .file("modules.json", r#"[{"type":"sentence_transformers.models.Pooling","path":"1_Pooling"}]"#)
        .file("1_Pooling/config.json", r#"{"pooling_mode_cls_token":true}"#)
        .whole();
    let (converted, written) = model.converted();
    assert_eq!(written.tensors.keys().cloned().collect::<Vec<_>>(), names(&BERT, &TABLES));
    assert_eq!(written.tensors["position_embd.weight"].format, 0);
    assert_eq!(written.tensors["token_types.weight"].format, 0);
    assert_eq!(written.tensors["blk.0.ffn_up.weight"].format, 1);
    assert_eq!(converted.descriptor.pooling, Some(Pooling::Cls));
    assert_eq!(written.flag("bert.attention.causal"), Some(false));
    assert_eq!(written.number("tokenizer.ggml.token_type_count"), Some(2.0));
    assert_eq!(written.flag("tokenizer.ggml.normalizer.lowercase"), Some(true));
    assert_eq!(written.number("tokenizer.ggml.bos_token_id"), Some(2.0));
    assert_eq!(written.texts("tokenizer.ggml.tokens")[4..7], ["[MASK]", "\u{2581}play", "ing"]);
}

#[test]
fn a_bert_classifier_keeps_its_pooler_and_says_its_labels() {
    let more = json!({"type_vocab_size": 2, "id2label": {"0": "LABEL_0"}});
    let model = bert_like(Repository::new(&config("BertForSequenceClassification", &more)), "bert.", 32, 2)
        .tensor("bert.pooler.dense.weight", &[WIDTH, WIDTH])
        .tensor("bert.pooler.dense.bias", &[WIDTH])
        .tensor("classifier.weight", &[1, WIDTH])
        .tensor("classifier.bias", &[1]);
    let (converted, written) = with_words(model).whole().converted();
    let others = [&TABLES[..], &CLASSIFIER].concat();
    assert_eq!(written.tensors.keys().cloned().collect::<Vec<_>>(), names(&BERT, &others));
    assert_eq!(written.texts("bert.classifier.output_labels"), ["LABEL_0"]);
    assert_eq!(converted.descriptor.pooling, Some(Pooling::Rank));
    assert!(converted.descriptor.has_classifier);
}

#[test]
fn xlm_roberta_begins_its_positions_behind_that_of_padding() {
    let more = json!({"type_vocab_size": 1, "pad_token_id": 1, "max_position_embeddings": 34});
    let class = "XLMRobertaForSequenceClassification";
    let model = bert_like(Repository::new(&config(class, &more)), "roberta.", 34, 1)
        .tensor("classifier.dense.weight", &[WIDTH, WIDTH])
        .tensor("classifier.dense.bias", &[WIDTH])
        .tensor("classifier.out_proj.weight", &[1, WIDTH])
        .tensor("classifier.out_proj.bias", &[1]);
    let model = with_unigram(model).whole();
    let (converted, written) = model.converted();
    let others = [&TABLES[..], &CLASSIFIER].concat();
    assert_eq!(written.tensors.keys().cloned().collect::<Vec<_>>(), names(&BERT, &others));
    let published = model.numbers("roberta.embeddings.position_embeddings.weight");
    assert_eq!(written.tensors["position_embd.weight"].numbers, published[2 * WIDTH as usize..]);
    assert_eq!(converted.descriptor.context_tokens, 32);
    assert_eq!(written.text("tokenizer.ggml.model"), Some("t5"));
    for key in
        ["add_bos_token", "add_eos_token", "add_sep_token", "add_space_prefix", "remove_extra_whitespaces"]
    {
        assert_eq!(written.flag(&format!("tokenizer.ggml.{key}")), Some(true), "{key}");
    }
}

#[test]
fn nomic_bert_has_gates_and_rotary_positions() {
    let config = json!({"architectures": ["NomicBertModel"], "n_embd": WIDTH, "n_head": 2, "n_layer": 2,
        "n_inner": WIDE, "n_positions": 8192, "max_trained_positions": 2048, "vocab_size": VOCABULARY,
        "type_vocab_size": 2, "layer_norm_epsilon": 1e-12, "activation_function": "swiglu", "causal": false,
        "qkv_proj_bias": false, "prenorm": false, "rotary_emb_base": 1000, "rotary_emb_fraction": 1.0});
    let mut model = Repository::new(&config)
        .tensor("embeddings.word_embeddings.weight", &[VOCABULARY, WIDTH])
        .tensor("embeddings.token_type_embeddings.weight", &[2, WIDTH])
        .tensor("emb_ln.weight", &[WIDTH])
        .tensor("emb_ln.bias", &[WIDTH]);
    for block in 0..2 {
        for (name, shape) in [
            ("attn.Wqkv.weight", &[3 * WIDTH, WIDTH][..]),
            ("attn.out_proj.weight", &[WIDTH, WIDTH]),
            ("norm1.weight", &[WIDTH]),
            ("norm1.bias", &[WIDTH]),
            ("mlp.fc11.weight", &[WIDE, WIDTH]),
            ("mlp.fc12.weight", &[WIDE, WIDTH]),
            ("mlp.fc2.weight", &[WIDTH, WIDE]),
            ("norm2.weight", &[WIDTH]),
            ("norm2.bias", &[WIDTH]),
        ] {
            model = model.tensor(&format!("encoder.layers.{block}.{name}"), shape);
        }
    }
    let model = with_words(model).whole();
    let (converted, written) = model.converted();
    let blocks = [
        "attn_qkv.weight",
        "attn_output.weight",
        "attn_output_norm.weight",
        "attn_output_norm.bias",
        "ffn_up.weight",
        "ffn_gate.weight",
        "ffn_down.weight",
        "layer_output_norm.weight",
        "layer_output_norm.bias",
    ];
    let others =
        ["token_embd.weight", "token_types.weight", "token_embd_norm.weight", "token_embd_norm.bias"];
    assert_eq!(written.tensors.keys().cloned().collect::<Vec<_>>(), names(&blocks, &others));
    assert_eq!(
        written.tensors["blk.0.ffn_gate.weight"].numbers,
        model.numbers("encoder.layers.0.mlp.fc12.weight")
    );
    assert_eq!(written.number("nomic-bert.rope.freq_base"), Some(1000.0));
    assert_eq!(converted.descriptor.context_tokens, 2048);
}

#[test]
fn modern_bert_has_no_norm_before_its_first_attention() {
    let more = json!({"norm_eps": 1e-5, "global_attn_every_n_layers": 3, "local_attention": 16,
        "global_rope_theta": 160_000.0, "local_rope_theta": 10_000.0, "hidden_activation": "gelu",
        "classifier_pooling": "mean", "id2label": {"0": "no", "1": "yes"}});
    let mut model = Repository::new(&config("ModernBertForSequenceClassification", &more))
        .tensor("model.embeddings.tok_embeddings.weight", &[VOCABULARY, WIDTH])
        .tensor("model.embeddings.norm.weight", &[WIDTH])
        .tensor("model.final_norm.weight", &[WIDTH])
        .tensor("head.dense.weight", &[WIDTH, WIDTH])
        .tensor("head.norm.weight", &[WIDTH])
        .tensor("classifier.weight", &[2, WIDTH])
        .tensor("classifier.bias", &[2]);
    for block in 0..2 {
        for (name, shape) in [
            ("attn_norm", &[WIDTH][..]),
            ("attn.Wqkv", &[3 * WIDTH, WIDTH]),
            ("attn.Wo", &[WIDTH, WIDTH]),
            ("mlp_norm", &[WIDTH]),
            ("mlp.Wi", &[2 * WIDE, WIDTH]),
            ("mlp.Wo", &[WIDTH, WIDE]),
        ] {
            if block == 1 || name != "attn_norm" {
                model = model.tensor(&format!("model.layers.{block}.{name}.weight"), shape);
            }
        }
    }
    let model = model
        .file("tokenizer.json", &gpt2().to_string())
        .file("tokenizer_config.json", r#"{"cls_token":"[CLS]","sep_token":"[SEP]"}"#)
        .whole();
    let (converted, written) = model.converted();
    let blocks =
        ["attn_qkv.weight", "attn_output.weight", "ffn_norm.weight", "ffn_up.weight", "ffn_down.weight"];
    let others = [
        "blk.1.attn_norm.weight",
        "token_embd.weight",
        "token_embd_norm.weight",
        "output_norm.weight",
        "cls.weight",
        "cls.norm.weight",
        "cls.output.weight",
        "cls.output.bias",
    ];
    assert_eq!(written.tensors.keys().cloned().collect::<Vec<_>>(), names(&blocks, &others));
    assert_eq!(written.text("tokenizer.ggml.pre"), Some("modern-bert"));
    assert_eq!(written.number("tokenizer.ggml.bos_token_id"), Some(4.0));
    assert_eq!(written.flag("tokenizer.ggml.add_sep_token"), Some(true));
    assert_eq!(written.number("modern-bert.classifier.pooling_type"), Some(1.0));
    assert_eq!(written.number("modern-bert.rope.freq_base_swa"), Some(10_000.0));
    assert_eq!(written.texts("modern-bert.classifier.output_labels"), ["no", "yes"]);
    assert!(converted.descriptor.has_classifier);
}
