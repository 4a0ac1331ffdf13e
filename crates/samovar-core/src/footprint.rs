//! Bytes of a loaded model: how it is to be loaded, what that is predicted to cost, what it was measured to cost.

use serde::{Deserialize, Serialize};

/// Memory of one loaded model, in the two parts that the ledger counts differently.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Footprint {
    /// Anonymous memory of this instance alone: KV cache, compute buffers, repacked weights, vocabulary.
    pub held_bytes: u64,
    /// Weights as clean page cache, shared by every process that maps the same file.
    pub mapped_bytes: u64,
}

impl Footprint {
    /// What a ready instance costs the budget.
    pub const fn total_bytes(self) -> u64 {
        self.held_bytes.saturating_add(self.mapped_bytes)
    }
}

/// How the weights lie in memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Layout {
    /// As on disk, mapped: loads at once, shared between processes.
    #[default]
    Mapped,
    /// Repacked for this CPU at load: faster batches, a private second copy of the weights.
    Packed,
}

/// The number format of the KV cache.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KvType {
    /// 16-bit floats.
    #[default]
    F16,
    /// 8-bit blocks: half the memory, slightly less exact.
    Q8_0,
}

/// What a caller may choose about a load; part of an instance's identity.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct LoadOptions {
    /// Tokens of context that each slot can count on.
    pub context_tokens: u32,
    /// Sequences that one instance serves at the same time.
    pub slots: u32,
    /// How the weights lie in memory.
    pub layout: Layout,
    /// The number format of the KV cache.
    pub kv_type: KvType,
    /// Threads of one decode step.
    pub threads: u32,
    /// Keep the mapped weights from being paged out.
    pub lock_memory: bool,
}

/// What an instance is found to use, by asking the kernel and the engine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Measurement {
    /// Anonymous bytes by the engine's own account.
    pub held_bytes: u64,
    /// Mapped bytes of weights.
    pub mapped_bytes: u64,
    /// Cells of the KV cache in use, in tokens.
    pub kv_used_tokens: u32,
    /// Cells of the KV cache in all, in tokens.
    pub kv_total_tokens: u32,
    /// Slots that serve a request at this moment.
    pub busy_slots: u32,
}
