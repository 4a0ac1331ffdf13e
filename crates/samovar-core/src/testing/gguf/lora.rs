//! A small adapter.

use super::Writer;
use crate::model::Descriptor;

/// A sound LoRA adapter with random weights for a llama model: of each block it changes what queries are made
/// of and what the feed-forward layer gives out. Its effect is plain, and the same each time.
pub fn lora(base: &Descriptor, rank: u64) -> Writer {
    let width = u64::from(base.embedding_width);
    let queries = u64::from(base.heads) * u64::from(base.key_width);
    let inner = u64::from(base.feed_forward_width);
    let mut writer = Writer::default()
        .text("general.type", "adapter")
        .text("general.architecture", &base.architecture)
        .text("general.name", "a small adapter")
        .text("adapter.type", "lora")
        .f32("adapter.lora.alpha", rank as f32 * 2.0);
    for block in 0..base.blocks {
        let half = |part: &str, half: &str| format!("blk.{block}.{part}.weight.lora_{half}");
        writer = writer
            .tensor(&half("attn_q", "a"), &[width, rank])
            .tensor(&half("attn_q", "b"), &[rank, queries])
            .tensor(&half("ffn_down", "a"), &[inner, rank])
            .tensor(&half("ffn_down", "b"), &[rank, width]);
    }
    writer
}
