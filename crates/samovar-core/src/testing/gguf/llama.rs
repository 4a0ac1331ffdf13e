//! A small llama model.

use super::Writer;

/// The shape of a llama model.
#[derive(Clone, Copy, Debug)]
pub struct LlamaShape {
    /// Width of the residual stream.
    pub width: u64,
    /// Transformer blocks.
    pub blocks: u32,
    /// Attention heads.
    pub heads: u32,
    /// Key/value heads.
    pub kv_heads: u32,
    /// Width of the feed-forward layer.
    pub feed_forward: u64,
    /// Context in tokens.
    pub context: u32,
}

impl LlamaShape {
    /// The smallest that makes sense: for headers alone.
    pub const SMALLEST: Self =
        Self { width: 8, blocks: 1, heads: 2, kv_heads: 1, feed_forward: 16, context: 64 };
    /// Small, but real: an engine can load and run it.
    pub const TINY: Self =
        Self { width: 64, blocks: 2, heads: 4, kv_heads: 2, feed_forward: 128, context: 2048 };
}

/// A sound llama model with random weights and a SentencePiece vocabulary of bytes and a few words.
pub fn llama(shape: LlamaShape) -> Writer {
    with_vocabulary(shape, &vocabulary())
}

/// The same whose answers are whole characters: instead of bytes that are none alone it has words. It reads ASCII.
pub fn wordy(shape: LlamaShape) -> Writer {
    let mut entries = vocabulary();
    let bytes = entries.iter_mut().filter(|entry| entry.2 == BYTE).zip(0_u8..=255);
    for (entry, byte) in bytes.filter(|(_, byte)| !byte.is_ascii_graphic() && !b" \n".contains(byte)) {
        *entry = (format!("▁word{byte}"), -100.0 - f32::from(byte), NORMAL);
    }
    with_vocabulary(shape, &entries)
}

/// The same as [`llama`] with further tokens: their texts, and whether each is a control token or one that users defined.
pub fn with_specials(shape: LlamaShape, specials: &[(&str, bool)]) -> Writer {
    let mut entries = vocabulary();
    let kind = |is_control| if is_control { CONTROL } else { USER_DEFINED };
    entries.extend(specials.iter().map(|(text, is_control)| ((*text).to_owned(), 0.0, kind(*is_control))));
    with_vocabulary(shape, &entries)
}

/// A sound llama model whose vocabulary is of byte pairs (as GPT-2's), cut into words by the rules called `pre`: the
/// special tokens of [`with_specials`], all bytes, and two pairs.
pub fn byte_pairs(shape: LlamaShape, pre: &str, specials: &[(&str, bool)]) -> Writer {
    let is_itself = |byte: u8| matches!(byte, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF);
    let mut moved = 0x100..;
    let bytes: Vec<char> = (0..=u8::MAX)
        .map(|byte| {
            if is_itself(byte) {
                char::from(byte)
            } else {
                char::from_u32(moved.next().unwrap_or(0)).unwrap_or(' ')
            }
        })
        .collect();
    let space = bytes[usize::from(b' ')];
    let kind = |is_control| if is_control { CONTROL } else { USER_DEFINED };
    let mut entries: Vec<Entry> =
        ["<unk>", "<s>", "</s>"].map(|text| (text.to_owned(), 0.0, CONTROL)).into_iter().collect();
    entries.extend(bytes.iter().map(|char| (char.to_string(), 0.0, NORMAL)));
    entries.extend([("aa".to_owned(), 0.0, NORMAL), (format!("{space}t"), 0.0, NORMAL)]);
    entries.extend(specials.iter().map(|(text, is_control)| ((*text).to_owned(), 0.0, kind(*is_control))));
    with_vocabulary(shape, &entries)
        .without("tokenizer.ggml.model")
        .text("tokenizer.ggml.model", "gpt2")
        .text("tokenizer.ggml.pre", pre)
        .strings("tokenizer.ggml.merges", &["a a".to_owned(), format!("{space} t")])
}

fn with_vocabulary(shape: LlamaShape, entries: &[Entry]) -> Writer {
    let kv_width = shape.width / u64::from(shape.heads) * u64::from(shape.kv_heads);
    let vocabulary = entries.len() as u64;
    let mut writer = Writer::default()
        .text("general.architecture", "llama")
        .text("general.name", "tiny")
        .u32("general.file_type", 0)
        .u32("llama.context_length", shape.context)
        .u32("llama.embedding_length", shape.width as u32)
        .u32("llama.block_count", shape.blocks)
        .u32("llama.feed_forward_length", shape.feed_forward as u32)
        .u32("llama.attention.head_count", shape.heads)
        .u32("llama.attention.head_count_kv", shape.kv_heads)
        .f32("llama.attention.layer_norm_rms_epsilon", 1e-5)
        .u32("llama.rope.dimension_count", shape.width as u32 / shape.heads)
        .text("tokenizer.ggml.model", "llama")
        .strings("tokenizer.ggml.tokens", &entries.iter().map(|entry| &entry.0).collect::<Vec<_>>())
        .f32s("tokenizer.ggml.scores", &entries.iter().map(|entry| entry.1).collect::<Vec<_>>())
        .i32s("tokenizer.ggml.token_type", &entries.iter().map(|entry| entry.2).collect::<Vec<_>>())
        .u32("tokenizer.ggml.unknown_token_id", 0)
        .u32("tokenizer.ggml.bos_token_id", 1)
        .u32("tokenizer.ggml.eos_token_id", 2)
        .boolean("tokenizer.ggml.add_bos_token", true)
        .tensor("token_embd.weight", &[shape.width, vocabulary]);
    for block in 0..shape.blocks {
        let name = |part: &str| format!("blk.{block}.{part}.weight");
        writer = writer
            .tensor(&name("attn_norm"), &[shape.width])
            .tensor(&name("attn_q"), &[shape.width, shape.width])
            .tensor(&name("attn_k"), &[shape.width, kv_width])
            .tensor(&name("attn_v"), &[shape.width, kv_width])
            .tensor(&name("attn_output"), &[shape.width, shape.width])
            .tensor(&name("ffn_norm"), &[shape.width])
            .tensor(&name("ffn_gate"), &[shape.width, shape.feed_forward])
            .tensor(&name("ffn_up"), &[shape.width, shape.feed_forward])
            .tensor(&name("ffn_down"), &[shape.feed_forward, shape.width]);
    }
    writer.tensor("output_norm.weight", &[shape.width]).tensor("output.weight", &[shape.width, vocabulary])
}

/// The same as a Gemma 2 model, every second block of which looks back `window` tokens only.
pub fn windowed(shape: LlamaShape, window: u32) -> Writer {
    let kv_width = shape.width / u64::from(shape.heads) * u64::from(shape.kv_heads);
    let entries = vocabulary();
    let mut writer = Writer::default()
        .text("general.architecture", "gemma2")
        .text("general.name", "windowed")
        .u32("general.file_type", 0)
        .u32("gemma2.context_length", shape.context)
        .u32("gemma2.embedding_length", shape.width as u32)
        .u32("gemma2.block_count", shape.blocks)
        .u32("gemma2.feed_forward_length", shape.feed_forward as u32)
        .u32("gemma2.attention.head_count", shape.heads)
        .u32("gemma2.attention.head_count_kv", shape.kv_heads)
        .u32("gemma2.attention.key_length", shape.width as u32 / shape.heads)
        .u32("gemma2.attention.value_length", shape.width as u32 / shape.heads)
        .u32("gemma2.attention.sliding_window", window)
        .f32("gemma2.attention.layer_norm_rms_epsilon", 1e-5)
        .text("tokenizer.ggml.model", "llama")
        .strings("tokenizer.ggml.tokens", &entries.iter().map(|entry| &entry.0).collect::<Vec<_>>())
        .f32s("tokenizer.ggml.scores", &entries.iter().map(|entry| entry.1).collect::<Vec<_>>())
        .i32s("tokenizer.ggml.token_type", &entries.iter().map(|entry| entry.2).collect::<Vec<_>>())
        .u32("tokenizer.ggml.unknown_token_id", 0)
        .u32("tokenizer.ggml.bos_token_id", 1)
        .u32("tokenizer.ggml.eos_token_id", 2)
        .boolean("tokenizer.ggml.add_bos_token", true)
        .tensor("token_embd.weight", &[shape.width, entries.len() as u64]);
    for block in 0..shape.blocks {
        let name = |part: &str| format!("blk.{block}.{part}.weight");
        writer = writer
            .tensor(&name("attn_norm"), &[shape.width])
            .tensor(&name("attn_q"), &[shape.width, shape.width])
            .tensor(&name("attn_k"), &[shape.width, kv_width])
            .tensor(&name("attn_v"), &[shape.width, kv_width])
            .tensor(&name("attn_output"), &[shape.width, shape.width])
            .tensor(&name("post_attention_norm"), &[shape.width])
            .tensor(&name("ffn_norm"), &[shape.width])
            .tensor(&name("ffn_gate"), &[shape.width, shape.feed_forward])
            .tensor(&name("ffn_up"), &[shape.width, shape.feed_forward])
            .tensor(&name("ffn_down"), &[shape.feed_forward, shape.width])
            .tensor(&name("post_ffw_norm"), &[shape.width]);
    }
    writer.tensor("output_norm.weight", &[shape.width])
}

/// The same as an LFM2 model, every second block of which is a convolution: its state is a summary of everything so far,
/// and cannot be cut.
pub fn hybrid(shape: LlamaShape) -> Writer {
    let kv_width = shape.width / u64::from(shape.heads) * u64::from(shape.kv_heads);
    let head_width = shape.width / u64::from(shape.heads);
    let attends = |block: u32| block % 2 == 1;
    let kv_heads: Vec<i32> = (0..shape.blocks)
        .map(|block| if attends(block) { shape.kv_heads.cast_signed() } else { 0 })
        .collect();
    let entries = vocabulary();
    let mut writer = Writer::default()
        .text("general.architecture", "lfm2")
        .text("general.name", "hybrid")
        .u32("general.file_type", 0)
        .u32("lfm2.context_length", shape.context)
        .u32("lfm2.embedding_length", shape.width as u32)
        .u32("lfm2.block_count", shape.blocks)
        .u32("lfm2.feed_forward_length", shape.feed_forward as u32)
        .u32("lfm2.attention.head_count", shape.heads)
        .i32s("lfm2.attention.head_count_kv", &kv_heads)
        .f32("lfm2.attention.layer_norm_rms_epsilon", 1e-5)
        .f32("lfm2.rope.freq_base", 10_000.0)
        .u32("lfm2.shortconv.l_cache", CONVOLUTION as u32)
        .text("tokenizer.ggml.model", "llama")
        .strings("tokenizer.ggml.tokens", &entries.iter().map(|entry| &entry.0).collect::<Vec<_>>())
        .f32s("tokenizer.ggml.scores", &entries.iter().map(|entry| entry.1).collect::<Vec<_>>())
        .i32s("tokenizer.ggml.token_type", &entries.iter().map(|entry| entry.2).collect::<Vec<_>>())
        .u32("tokenizer.ggml.unknown_token_id", 0)
        .u32("tokenizer.ggml.bos_token_id", 1)
        .u32("tokenizer.ggml.eos_token_id", 2)
        .boolean("tokenizer.ggml.add_bos_token", true)
        .tensor("token_embd.weight", &[shape.width, entries.len() as u64])
        .tensor("token_embd_norm.weight", &[shape.width]);
    for block in 0..shape.blocks {
        let name = |part: &str| format!("blk.{block}.{part}.weight");
        writer = writer
            .tensor(&name("attn_norm"), &[shape.width])
            .tensor(&name("ffn_norm"), &[shape.width])
            .tensor(&name("ffn_gate"), &[shape.width, shape.feed_forward])
            .tensor(&name("ffn_up"), &[shape.width, shape.feed_forward])
            .tensor(&name("ffn_down"), &[shape.feed_forward, shape.width]);
        writer = if attends(block) {
            writer
                .tensor(&name("attn_q_norm"), &[head_width])
                .tensor(&name("attn_k_norm"), &[head_width])
                .tensor(&name("attn_q"), &[shape.width, shape.width])
                .tensor(&name("attn_k"), &[shape.width, kv_width])
                .tensor(&name("attn_v"), &[shape.width, kv_width])
                .tensor(&name("attn_output"), &[shape.width, shape.width])
        } else {
            writer
                .tensor(&name("shortconv.conv"), &[CONVOLUTION, shape.width])
                .tensor(&name("shortconv.in_proj"), &[shape.width, 3 * shape.width])
                .tensor(&name("shortconv.out_proj"), &[shape.width, shape.width])
        };
    }
    writer
}

/// Tokens that a convolution looks at.
const CONVOLUTION: u64 = 3;

/// Text, score and type.
type Entry = (String, f32, i32);

const NORMAL: i32 = 1;
const CONTROL: i32 = 3;
const USER_DEFINED: i32 = 4;
const BYTE: i32 = 6;

/// Three control tokens, 256 bytes, some words.
fn vocabulary() -> Vec<Entry> {
    const WORDS: [&str; 13] =
        ["▁", "a", "e", "o", "▁a", "▁the", "▁fox", "▁kettle", "▁story", "▁and", ".", "▁saw", "▁tea"];
    let mut entries: Vec<_> = [("<unk>", 2), ("<s>", 3), ("</s>", 3)]
        .iter()
        .map(|(text, kind)| ((*text).to_owned(), 0.0, *kind))
        .collect();
    entries.extend((0..256).map(|byte| (format!("<0x{byte:02X}>"), 0.0, BYTE)));
    entries.extend(WORDS.iter().enumerate().map(|(rank, word)| ((*word).to_owned(), -(rank as f32), NORMAL)));
    entries
}
