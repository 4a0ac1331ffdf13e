//! Bytes of a loaded model: how it is to be loaded, what that is predicted to cost, what it was measured to cost.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::cores::ThreadUse;
use crate::embedding::Pooling;
use crate::model::DraftModel;

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

/// How the weights lie in memory. What is computed is the same; how fast, and at what price, is not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Layout {
    /// As on disk, mapped: loads at once, shared between processes.
    #[default]
    Mapped,
    /// Packed for this CPU in a file made before, which is mapped in place of the model's: loads at once, shared,
    /// and as fast as `Repacked` once loaded.
    Packed,
    /// Both of these files mapped, each used where it is the faster one: twice the page cache.
    Hybrid,
    /// Packed for this CPU at load: slower to load, and a private copy of the weights.
    Repacked,
}

impl Layout {
    /// Whether loading it needs a packed file.
    pub const fn needs_packed_file(self) -> bool {
        matches!(self, Self::Packed | Self::Hybrid)
    }

    /// As settings and reports write it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Mapped => "mapped",
            Self::Packed => "packed",
            Self::Hybrid => "hybrid",
            Self::Repacked => "repacked",
        }
    }
}

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Which layout an owner wants for a model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LayoutWish {
    /// Whichever is found to be fastest here, at a price that memory and disk can pay.
    #[default]
    Auto,
    /// As on disk, always.
    Mapped,
    /// From a packed file, as soon as there is one.
    Packed,
    /// From both files, as soon as there are both.
    Hybrid,
    /// Packed at every load: for weights that no packed file can be made of.
    Repacked,
}

impl LayoutWish {
    /// Every one, in the order of the settings' reference.
    pub const ALL: [Self; 5] = [Self::Auto, Self::Mapped, Self::Packed, Self::Hybrid, Self::Repacked];

    /// As settings and reports write it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Mapped => "mapped",
            Self::Packed => "packed",
            Self::Hybrid => "hybrid",
            Self::Repacked => "repacked",
        }
    }

    /// The wish of this name.
    pub fn named(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|wish| wish.as_str() == word)
    }
}

impl fmt::Display for LayoutWish {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How an instance's weights came to lie in memory.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Arrangement {
    /// What was reached, which may be less than what was asked for.
    pub layout: Layout,
    /// Why the packed file that was offered is not used; fit to be shown to people.
    pub refused: Option<String>,
}

/// How fast a layout was found to be on this machine.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Speed {
    /// The layout.
    pub layout: Layout,
    /// Prompt tokens a second, in full batches.
    pub prefill: f64,
    /// Tokens a second of one sequence.
    pub decode: f64,
    /// Tokens a second of eight sequences together.
    pub decode_eight: f64,
    /// Part of the threads' processor time that others had while this was measured, 0 to 1.
    #[serde(default)]
    pub lacked: f64,
}

impl Speed {
    /// Processor time that others may have without the figures being worth less.
    const LACKED_MOST: f64 = 0.1;

    /// Whether it was measured while other programs had the cores, and is to be measured again.
    pub fn is_provisional(&self) -> bool {
        self.lacked > Self::LACKED_MOST
    }
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

impl KvType {
    /// What so many bytes of 16-bit floats take.
    pub const fn bytes(self, f16_bytes: u64) -> u64 {
        match self {
            Self::F16 => f16_bytes,
            // Blocks of 32 values in 34 bytes.
            Self::Q8_0 => f16_bytes * 17 / 32,
        }
    }
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
    /// Threads of one step, at most: fewer while others have the cores.
    pub threads: u32,
    /// Keep the mapped weights from being paged out.
    pub lock_memory: bool,
    /// How vectors of whole texts are made; `None` = none are, and `embed` is refused. A model that also writes text
    /// takes some more memory with it.
    pub pooling: Option<Pooling>,
    /// The draft model that is loaded with it; `None` = none is.
    pub draft: Option<Box<DraftModel>>,
}

impl LoadOptions {
    /// Tokens of context in all slots together.
    pub fn cells(&self) -> u64 {
        u64::from(self.context_tokens) * u64::from(self.slots.max(1))
    }
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
    /// The threads of its last step.
    pub threads: ThreadUse,
}
