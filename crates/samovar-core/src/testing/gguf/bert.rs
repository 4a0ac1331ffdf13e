//! A small BERT model: an encoder, which makes vectors and scores of texts.

use super::{LlamaShape, Writer};

/// Begins every text.
pub const CLS: u32 = 101;
/// Ends every text.
pub const SEP: u32 = 102;
/// Stands for every word that the vocabulary does not have.
const UNKNOWN: u32 = 100;

const NORMAL: i32 = 1;
const CONTROL: i32 = 3;

/// A sound BERT model with random weights and a WordPiece vocabulary of letters, digits, signs and a few words. Of its shape
/// `kv_heads` says nothing. The mean of all tokens' vectors is the text's.
pub fn bert(shape: LlamaShape) -> Writer {
    let entries = vocabulary();
    let types: Vec<i32> =
        entries.iter().map(|text| if text.starts_with('[') { CONTROL } else { NORMAL }).collect();
    let mut writer = Writer::default()
        .text("general.architecture", "bert")
        .text("general.name", "tiny bert")
        .u32("general.file_type", 0)
        .u32("bert.context_length", shape.context)
        .u32("bert.embedding_length", shape.width as u32)
        .u32("bert.block_count", shape.blocks)
        .u32("bert.feed_forward_length", shape.feed_forward as u32)
        .u32("bert.attention.head_count", shape.heads)
        .f32("bert.attention.layer_norm_epsilon", 1e-12)
        .boolean("bert.attention.causal", false)
        .u32("bert.pooling_type", 1)
        .text("tokenizer.ggml.model", "bert")
        .text("tokenizer.ggml.pre", "default")
        .u32("tokenizer.ggml.token_type_count", 2)
        .strings("tokenizer.ggml.tokens", &entries)
        .i32s("tokenizer.ggml.token_type", &types)
        .u32("tokenizer.ggml.padding_token_id", 0)
        .u32("tokenizer.ggml.unknown_token_id", UNKNOWN)
        .u32("tokenizer.ggml.cls_token_id", CLS)
        .u32("tokenizer.ggml.seperator_token_id", SEP)
        .u32("tokenizer.ggml.mask_token_id", 103)
        .tensor("token_embd.weight", &[shape.width, entries.len() as u64])
        .tensor("token_types.weight", &[shape.width, 2])
        .tensor("position_embd.weight", &[shape.width, u64::from(shape.context)])
        .tensor("token_embd_norm.weight", &[shape.width])
        .tensor("token_embd_norm.bias", &[shape.width]);
    for block in 0..shape.blocks {
        let name = |part: &str| format!("blk.{block}.{part}");
        for part in ["attn_q", "attn_k", "attn_v", "attn_output"] {
            writer = writer
                .tensor(&name(&format!("{part}.weight")), &[shape.width, shape.width])
                .tensor(&name(&format!("{part}.bias")), &[shape.width]);
        }
        writer = writer
            .tensor(&name("attn_output_norm.weight"), &[shape.width])
            .tensor(&name("attn_output_norm.bias"), &[shape.width])
            .tensor(&name("ffn_up.weight"), &[shape.width, shape.feed_forward])
            .tensor(&name("ffn_up.bias"), &[shape.feed_forward])
            .tensor(&name("ffn_down.weight"), &[shape.feed_forward, shape.width])
            .tensor(&name("ffn_down.bias"), &[shape.width])
            .tensor(&name("layer_output_norm.weight"), &[shape.width])
            .tensor(&name("layer_output_norm.bias"), &[shape.width]);
    }
    writer
}

/// The same as a reranker: a classifier makes one score of what stands at the text's beginning.
pub fn reranker(shape: LlamaShape) -> Writer {
    bert(shape)
        .u32("bert.pooling_type", 4)
        .tensor("cls.weight", &[shape.width, shape.width])
        .tensor("cls.bias", &[shape.width])
        .tensor("cls.output.weight", &[shape.width, 1])
        .tensor("cls.output.bias", &[1])
}

/// The special tokens at BERT's places, then what begins words, and what goes on with them.
fn vocabulary() -> Vec<String> {
    const WORDS: [&str; 8] = ["the", "fox", "kettle", "story", "saw", "tea", "and", "quick"];
    const SIGNS: &str = ".,!?-'";
    let letters = || ('a'..='z').chain('0'..='9');
    let mut entries = vec!["[PAD]".to_owned()];
    entries.extend((1..UNKNOWN).map(|number| format!("[unused{number}]")));
    entries.extend(["[UNK]", "[CLS]", "[SEP]", "[MASK]"].map(str::to_owned));
    entries.extend(letters().map(|letter| format!("▁{letter}")));
    entries.extend(letters().map(String::from));
    entries.extend(SIGNS.chars().map(|sign| format!("▁{sign}")));
    entries.extend(WORDS.map(|word| format!("▁{word}")));
    entries
}
