//! Load options and header facts become llama.cpp's parameters.
//!
//! ```text
//!   slots 4 × context 4,096  ──►  16,384 cells, shared by all     (+ a few for the probe)
//!                                 4 running + 4 retained + 1 probe sequences
//! ```
//!
//! One unified cache serves all sequences, so that a prefix is shared by marking its cells. The cells
//! are as many as all slots need at once: what retained prefixes use is lent and taken back. A model that makes vectors has
//! a context of its own for them ([`EmbedPlan`]). Pure.

use samovar_core::embedding::Pooling;
use samovar_core::footprint::KvType;
use samovar_core::{Descriptor, Layout, LoadOptions};

use crate::drafter::DraftPlan;
use crate::embed::EmbedPlan;
use crate::error::Error;
use crate::native::WeightOptions;
use crate::speculate::DRAFT_MAX;

/// Tokens of one step at most. More would not be faster on a CPU and delays all requests.
pub(crate) const BATCH_TOKENS: u32 = 512;
/// llama.cpp follows no more sequences in one context.
pub(crate) const MAX_SEQUENCES: u32 = 256;
/// Each may keep a finished sequence beside the one that runs.
const MAX_SLOTS: u32 = 120;
/// Finished sequences whose prefix is kept, at least.
const MIN_RETAINED: u32 = 4;
/// States of recurrent models that one conversation needs: where its last turn begins, the end of its prompt, and of the
/// answer. So many are kept at least, and at most so many for each sequence that would be kept of another model.
const CONVERSATION_STATES: u32 = 3;
/// What more of them may take. llama.cpp makes room for all of them when it makes a context.
pub(crate) const STATES_BYTES: u64 = 256 << 20;
/// Cells for a probe that runs beside full slots.
const PROBE_CELLS: u32 = 32;
/// llama.cpp rounds the number of cells up to a multiple of this.
pub(crate) const CELL_GRAIN: u32 = 256;

/// How one model is to be run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LoadPlan {
    /// Requests served at the same time.
    pub slots: u32,
    /// Tokens of one sequence at most.
    pub context_tokens: u32,
    /// Cells of the KV cache for text that is written; 0 = the model writes none.
    pub cells: u32,
    /// How vectors are made, if they are.
    pub embed: Option<EmbedPlan>,
    /// Bytes of the recurrent state of a sequence; 0 = it has none, or it is unknown.
    pub state_bytes: u64,
    /// Threads of one step.
    pub threads: u32,
    /// Number format of the KV cache.
    pub kv_type: KvType,
    /// How the weights are to lie in memory.
    pub layout: Layout,
    /// Whether mapped weights are kept from being paged out.
    pub is_locked: bool,
    /// How its draft model is run, if it has one.
    pub draft: Option<DraftPlan>,
}

impl LoadPlan {
    /// Checks options against what llama.cpp can do.
    pub(crate) fn new(descriptor: &Descriptor, options: &LoadOptions) -> Result<Self, Error> {
        let wrong = |detail: String| Err(Error::Options { detail });
        let is_encoder = descriptor.is_encoder();
        let embed = EmbedPlan::new(descriptor, options)?;
        let cells = if is_encoder { 0 } else { cells(options)? };
        check_slots(options.slots)?;
        if options.threads == 0 {
            return wrong("threads must be at least 1".to_owned());
        }
        if options.kv_type == KvType::Q8_0 && !is_encoder && !has_whole_blocks(descriptor) {
            return wrong(format!(
                "the q8_0 KV type needs head widths that are multiples of 32, not {} and {}",
                descriptor.key_width, descriptor.value_width
            ));
        }
        Ok(Self {
            slots: options.slots,
            // An encoder reads no more at once than it was trained for.
            context_tokens: if is_encoder {
                embed.map_or(0, |embed| embed.input_tokens)
            } else {
                options.context_tokens
            },
            cells,
            embed,
            state_bytes: descriptor.state_bytes,
            threads: options.threads,
            kv_type: options.kv_type,
            layout: options.layout,
            is_locked: options.lock_memory,
            draft: options
                .draft
                .as_ref()
                .filter(|_| !is_encoder)
                .map(|draft| DraftPlan::new(&draft.descriptor, options.threads)),
        })
    }

    /// The same model in a context of another size; what else `options` say was settled by the load.
    pub(crate) fn resized(self, options: &LoadOptions) -> Result<Self, Error> {
        let (slots, context_tokens) = (options.slots, options.context_tokens);
        let embed = self.embed.map(|embed| embed.resized(context_tokens)).transpose()?;
        if !self.generates() {
            check_slots(slots)?;
            let context_tokens = embed.map_or(context_tokens, |embed| embed.input_tokens);
            return Ok(Self { slots, context_tokens, embed, ..self });
        }
        Ok(Self { slots, context_tokens, cells: cells(options)?, embed, ..self })
    }

    /// Whether it writes text.
    pub(crate) fn generates(&self) -> bool {
        self.cells > 0
    }

    /// How llama.cpp is to bring the weights into memory.
    pub(crate) fn weights(&self) -> WeightOptions {
        WeightOptions { is_repacked: self.layout == Layout::Repacked, is_locked: self.is_locked }
    }

    /// Finished sequences whose prefix is kept at most; of recurrent models, checkpoints too.
    pub(crate) fn retained(&self, is_recurrent: bool) -> u32 {
        let finished = self.slots.max(MIN_RETAINED);
        if !is_recurrent {
            return finished;
        }
        // Of states of unknown size, no more than one conversation needs.
        let affordable = STATES_BYTES.checked_div(self.state_bytes).unwrap_or(0);
        let most = (finished * CONVERSATION_STATES).min(MAX_SEQUENCES - self.slots - 1);
        affordable.clamp(u64::from(CONVERSATION_STATES), u64::from(most)) as u32
    }

    /// Sequences of all kinds: running, retained, and one for the probe.
    pub(crate) fn sequences(&self, is_recurrent: bool) -> u32 {
        self.slots + self.retained(is_recurrent) + 1
    }

    /// Options of a context for this plan.
    pub(crate) fn context(&self, is_recurrent: bool) -> ContextOptions {
        ContextOptions {
            cells: self.cells,
            batch_tokens: BATCH_TOKENS,
            sequences: self.sequences(is_recurrent),
            threads: self.threads,
            kv_type: match self.kv_type {
                KvType::F16 => llama_cpp_sys_2::GGML_TYPE_F16,
                KvType::Q8_0 => llama_cpp_sys_2::GGML_TYPE_Q8_0,
            },
            pooled: None,
        }
    }
}

/// What a native context is made with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ContextOptions {
    /// Cells of the KV cache.
    pub cells: u32,
    /// Tokens of one step at most.
    pub batch_tokens: u32,
    /// Sequences at most.
    pub sequences: u32,
    /// Threads of one step.
    pub threads: u32,
    /// Number format of the cache.
    pub kv_type: llama_cpp_sys_2::ggml_type,
    /// How it makes vectors, if it makes them instead of logits.
    pub pooled: Option<PooledOptions>,
}

impl ContextOptions {
    /// Rows of logits that one step computes at most: one of each sequence, or those of a draft.
    pub(crate) fn rows(&self) -> u32 {
        rows(self.sequences)
    }
}

/// Rows of logits that one step of so many sequences computes at most.
pub(crate) fn rows(sequences: u32) -> u32 {
    sequences.max(DRAFT_MAX as u32 + 1)
}

/// How a native context makes one vector of a sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PooledOptions {
    /// Of which of its tokens'.
    pub pooling: Pooling,
    /// Whether a token sees those before it only.
    pub is_causal: bool,
    /// Attention in one piece, exact to 32 bits, which takes memory for every pair of tokens and every head; or in tiles
    /// of 16 bits.
    pub is_exact: bool,
}

fn check_slots(slots: u32) -> Result<(), Error> {
    if slots > 0 { Ok(()) } else { Err(Error::Options { detail: "slots must be at least 1".to_owned() }) }
}

/// Cells that are enough for all slots at once.
fn cells(options: &LoadOptions) -> Result<u32, Error> {
    let wrong = |detail: String| Err(Error::Options { detail });
    let (slots, context) = (options.slots, options.context_tokens);
    if slots == 0 || slots > MAX_SLOTS {
        return wrong(format!("slots must be in 1..={MAX_SLOTS}, not {slots}"));
    }
    if context < 2 {
        return wrong(format!("a context of {context} tokens holds no answer"));
    }
    let cells = slots
        .checked_mul(context)
        .and_then(|cells| cells.checked_add(PROBE_CELLS))
        .and_then(|cells| cells.checked_next_multiple_of(CELL_GRAIN))
        .filter(|cells| i32::try_from(*cells).is_ok());
    match cells {
        Some(cells) => Ok(cells),
        None => wrong(format!("{slots} slots of {context} tokens are too many")),
    }
}

/// Whether rows of the KV cache divide into `q8_0` blocks of 32 numbers.
fn has_whole_blocks(descriptor: &Descriptor) -> bool {
    descriptor.key_width.is_multiple_of(32) && descriptor.value_width.is_multiple_of(32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::footprint::tests::{descriptor, options};

    #[test]
    fn cells_are_enough_for_all_slots_at_once() {
        let plan = LoadPlan::new(&descriptor(), &LoadOptions { slots: 4, context_tokens: 1000, ..options() })
            .unwrap();
        assert!(plan.cells >= 4 * 1000 + PROBE_CELLS);
        assert_eq!(plan.cells % CELL_GRAIN, 0);
        let context = plan.context(false);
        assert_eq!((context.cells, context.sequences), (plan.cells, 4 + 4 + 1));
    }

    #[test]
    fn the_longest_draft_has_its_rows_however_few_sequences_there_are() {
        let rows = |slots: u32| {
            let plan = LoadPlan::new(&descriptor(), &LoadOptions { slots, ..options() }).unwrap();
            plan.context(false).rows()
        };
        assert_eq!((rows(1), rows(8)), (1 + DRAFT_MAX as u32, 8 + 8 + 1));
    }

    #[test]
    fn states_of_recurrent_models_are_kept_as_far_as_their_memory_goes() {
        let kept = |slots: u32, state_bytes: u64| {
            let descriptor = Descriptor { state_bytes, ..descriptor() };
            LoadPlan::new(&descriptor, &LoadOptions { slots, ..options() }).unwrap().retained(true)
        };
        let sizes = [1 << 10, 64 << 20, 200 << 20, 1 << 40, 0];
        assert_eq!(sizes.map(|state_bytes| kept(4, state_bytes)), [12, 4, 3, 3, 3]);
        assert_eq!(kept(1, 1 << 10), 12);
        let plan = LoadPlan {
            slots: MAX_SLOTS,
            state_bytes: 1,
            ..LoadPlan::new(&descriptor(), &options()).unwrap()
        };
        assert_eq!((plan.sequences(true), plan.retained(false)), (MAX_SEQUENCES, MAX_SLOTS));
    }

    #[test]
    fn another_size_changes_the_room_and_nothing_else() {
        let plan = LoadPlan::new(&descriptor(), &options()).unwrap();
        let wish = LoadOptions { context_tokens: 8192, slots: 3, threads: 77, ..options() };
        let resized = plan.resized(&wish).unwrap();
        assert_eq!((resized.slots, resized.context_tokens, resized.threads), (3, 8192, plan.threads));
        assert_eq!(resized.resized(&options()), Ok(plan));
        assert!(plan.resized(&LoadOptions { slots: 0, ..options() }).is_err());
    }

    #[test]
    fn an_encoder_has_no_cells_and_reads_no_more_than_it_was_trained_for() {
        let bert = Descriptor { architecture: "bert".to_owned(), context_tokens: 512, ..descriptor() };
        let wide = LoadOptions { context_tokens: 4096, slots: 200, kv_type: KvType::Q8_0, ..options() };
        let plan = LoadPlan::new(&bert, &wide).unwrap();
        assert_eq!((plan.generates(), plan.cells, plan.slots, plan.context_tokens), (false, 0, 200, 512));
        let resized = plan.resized(&LoadOptions { context_tokens: 100, slots: 2, ..wide }).unwrap();
        assert_eq!((resized.generates(), resized.slots, resized.context_tokens), (false, 2, 100));
        assert!(plan.resized(&LoadOptions { slots: 0, ..options() }).is_err());
        let text = LoadPlan::new(&descriptor(), &options()).unwrap();
        assert!(text.generates() && text.embed.is_none());
    }

    #[test]
    fn refuses_what_cannot_work() {
        let refused = |options: LoadOptions| LoadPlan::new(&descriptor(), &options).unwrap_err().to_string();
        assert!(refused(LoadOptions { slots: 0, ..options() }).contains("slots"));
        assert!(refused(LoadOptions { slots: 121, ..options() }).contains("slots"));
        assert!(refused(LoadOptions { threads: 0, ..options() }).contains("threads"));
        assert!(refused(LoadOptions { context_tokens: 1, ..options() }).contains("context"));
        assert!(refused(LoadOptions { context_tokens: u32::MAX, ..options() }).contains("too many"));
        let odd = Descriptor { key_width: 40, ..descriptor() };
        let options = LoadOptions { kv_type: KvType::Q8_0, ..options() };
        assert!(LoadPlan::new(&odd, &options).unwrap_err().to_string().contains("q8_0"));
    }
}
