//! How vectors are made of one model: the sizes of a context for them. Pure.
//!
//! ```text
//!   encoder    all tokens of a batch in one call        budget = call ≥ the longest input
//!   decoder    in calls of a few hundred tokens, where the last token's vector is wanted; else as an encoder
//! ```
//!
//! llama.cpp aborts on a batch of more tokens than a call may have, and keeps room for logits of every token of a call.

use samovar_core::embedding::Pooling;
use samovar_core::footprint::KvType;
use samovar_core::{Descriptor, LoadOptions};

use super::vector::Scores;
use crate::error::Error;
use crate::plan::{CELL_GRAIN, ContextOptions, MAX_SEQUENCES, PooledOptions, STATES_BYTES};

/// Tokens of a batch at most, unless one input has more.
const BUDGET_TOKENS: u32 = 512;
/// Tokens of a native call where inputs may be computed in parts. Each has a row of logits there.
const PART_TOKENS: u32 = 256;
/// Inputs of a batch of a decoder.
const DECODER_SEQUENCES: u32 = 64;
/// What exact attention may take.
const EXACT_BYTES: u64 = 64 << 20;
/// An encoder of llama.cpp that has a KV cache.
const CACHED_ENCODER: &str = "llama-embed";
/// Models of which no vectors are made: an encoder that llama.cpp runs as half of another model, and those that write by
/// diffusion, which have no KV cache there.
const NOT_RUN: [&str; 5] = ["t5encoder", "dream", "llada", "llada-moe", "rnd1"];

/// Rerankers whose answers llama.cpp makes probabilities.
const SOFTMAX: [&str; 2] = ["qwen3", "qwen3vl"];

/// Sizes of one model's context for vectors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct EmbedPlan {
    /// How a vector is made of all tokens'.
    pub pooling: Pooling,
    /// What its scores are.
    pub scores: Scores,
    /// Tokens of one input at most, special ones included.
    pub input_tokens: u32,
    /// Tokens of one batch at most.
    pub budget_tokens: u32,
    /// Tokens of one native call at most.
    pub call_tokens: u32,
    /// Inputs of one batch at most.
    pub sequences: u32,
    /// Whether it has a KV cache, and makes logits that are not read.
    pub has_cache: bool,
    /// Whether a token sees those before it only.
    is_causal: bool,
    /// Whether the numbers of the cache are blocks of 8 bits.
    is_quantized: bool,
    /// Tokens that the model was trained for, where it cannot read more.
    limit_tokens: u32,
    heads: u32,
}

/// How a model's file says that vectors are made of it, if they are: encoders make them in any case.
pub(crate) fn pooling_of(descriptor: &Descriptor) -> Option<Pooling> {
    match descriptor.pooling {
        None if descriptor.is_encoder() => Some(Pooling::Mean),
        pooling => pooling,
    }
}

/// Whether vectors or scores can be made of a model at all.
pub(crate) fn is_run(descriptor: &Descriptor) -> bool {
    !NOT_RUN.contains(&descriptor.architecture.as_str())
}

impl EmbedPlan {
    /// Sizes for these options. `None` where no vectors are to be made.
    pub(crate) fn new(descriptor: &Descriptor, options: &LoadOptions) -> Result<Option<Self>, Error> {
        let is_encoder = descriptor.is_encoder();
        let Some(pooling) = options.pooling.or_else(|| pooling_of(descriptor).filter(|_| is_encoder)) else {
            return Ok(None);
        };
        if !is_run(descriptor) {
            let detail = format!("no vectors are made by {} models", descriptor.architecture);
            return Err(Error::Options { detail });
        }
        if pooling == Pooling::Rank && !descriptor.has_classifier {
            return Err(Error::NoClassifier);
        }
        let has_cache = !is_encoder || descriptor.architecture == CACHED_ENCODER;
        let sequences = if is_encoder {
            MAX_SEQUENCES
        } else {
            let states = STATES_BYTES.checked_div(descriptor.state_bytes).unwrap_or(u64::MAX);
            states.clamp(1, u64::from(DECODER_SEQUENCES)) as u32
        };
        let plan = Self {
            pooling,
            scores: if SOFTMAX.contains(&descriptor.architecture.as_str()) {
                Scores::Probabilities
            } else {
                Scores::Raw
            },
            input_tokens: 0,
            budget_tokens: 0,
            call_tokens: 0,
            sequences,
            has_cache,
            is_causal: descriptor.is_causal,
            is_quantized: has_cache && options.kv_type == KvType::Q8_0,
            limit_tokens: if is_encoder { descriptor.context_tokens } else { u32::MAX },
            heads: descriptor.heads,
        };
        plan.resized(options.context_tokens).map(Some)
    }

    /// The same for inputs of at most so many tokens.
    pub(crate) fn resized(self, context_tokens: u32) -> Result<Self, Error> {
        let input_tokens = context_tokens.min(self.limit_tokens);
        if input_tokens < 2 {
            let detail = format!("inputs of {input_tokens} tokens hold no text");
            return Err(Error::Options { detail });
        }
        let budget = input_tokens.max(BUDGET_TOKENS).checked_next_multiple_of(CELL_GRAIN);
        let budget = budget.filter(|tokens| i32::try_from(*tokens).is_ok());
        let Some(budget_tokens) = budget else {
            return Err(Error::Options { detail: format!("inputs of {input_tokens} tokens are too long") });
        };
        let call_tokens = if self.is_in_parts() { PART_TOKENS } else { budget_tokens };
        Ok(Self { input_tokens, budget_tokens, call_tokens, ..self })
    }

    /// Whether an input may be computed in parts: what was computed of it stays in the cache, and its last token comes last.
    pub(crate) fn is_in_parts(&self) -> bool {
        self.has_cache && self.is_causal && matches!(self.pooling, Pooling::Last | Pooling::Rank)
    }

    /// Pairs of tokens that attention looks at in one call.
    pub(crate) fn pairs(&self) -> u64 {
        let seen = if self.has_cache { self.budget_tokens } else { self.call_tokens };
        u64::from(self.call_tokens).saturating_mul(u64::from(seen))
    }

    /// Whether attention is computed exactly: the same for an input alone and in a batch, but for the order of sums.
    /// llama.cpp cannot with blocks of 8 bits.
    pub(crate) fn is_exact(&self) -> bool {
        !self.is_quantized && self.pairs().saturating_mul(4 * u64::from(self.heads)) <= EXACT_BYTES
    }

    /// Options of a context for this plan. `beside` are those of a context for text, of which threads and the cache's
    /// numbers are taken.
    pub(crate) fn context(&self, beside: ContextOptions) -> ContextOptions {
        ContextOptions {
            cells: self.budget_tokens,
            batch_tokens: self.call_tokens,
            sequences: self.sequences,
            // What there is no cache of is in no format; llama.cpp refuses some with exact attention all the same.
            kv_type: if self.has_cache { beside.kv_type } else { llama_cpp_sys_2::GGML_TYPE_F16 },
            pooled: Some(PooledOptions {
                pooling: self.pooling,
                is_causal: self.is_causal,
                is_exact: self.is_exact(),
            }),
            ..beside
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::footprint::tests::{descriptor, options};

    fn bert() -> Descriptor {
        Descriptor {
            architecture: "bert".to_owned(),
            context_tokens: 512,
            is_causal: false,
            heads: 12,
            ..descriptor()
        }
    }

    fn plan(descriptor: &Descriptor, options: &LoadOptions) -> EmbedPlan {
        EmbedPlan::new(descriptor, options).unwrap().expect("it makes vectors")
    }

    #[test]
    fn the_longest_input_fits_one_call_of_an_encoder() {
        for context_tokens in [2, 100, 512, 513, 8192] {
            let long = Descriptor { context_tokens: 8192, ..bert() };
            let plan = plan(&long, &LoadOptions { context_tokens, ..options() });
            assert_eq!(plan.input_tokens, context_tokens);
            assert!(plan.call_tokens >= context_tokens.max(512) && plan.call_tokens == plan.budget_tokens);
            assert_eq!((plan.call_tokens % CELL_GRAIN, plan.sequences), (0, 256));
            assert!(!plan.has_cache);
        }
        assert_eq!(plan(&bert(), &LoadOptions { context_tokens: 4096, ..options() }).input_tokens, 512);
    }

    #[test]
    fn attention_is_exact_where_that_takes_little() {
        let of = |context_tokens| {
            let long = Descriptor { context_tokens: 8192, ..bert() };
            plan(&long, &LoadOptions { context_tokens, ..options() }).is_exact()
        };
        assert!(of(512) && !of(8192));
        let decoder = |kv_type| {
            let options =
                LoadOptions { pooling: Some(Pooling::Last), kv_type, context_tokens: 1024, ..options() };
            plan(&descriptor(), &options).is_exact()
        };
        assert!(decoder(KvType::F16) && !decoder(KvType::Q8_0));
    }

    #[test]
    fn a_decoder_computes_long_inputs_in_parts_if_the_last_token_says_all() {
        let of = |pooling| {
            let options = LoadOptions { pooling: Some(pooling), context_tokens: 4000, ..options() };
            plan(&Descriptor { has_classifier: true, ..descriptor() }, &options)
        };
        for pooling in [Pooling::Last, Pooling::Rank] {
            let plan = of(pooling);
            assert_eq!((plan.input_tokens, plan.budget_tokens, plan.call_tokens), (4000, 4096, 256));
            assert!(plan.has_cache && !plan.is_exact(), "134 MB of products");
        }
        assert_eq!(of(Pooling::Mean).call_tokens, 4096);
        assert_eq!(EmbedPlan::new(&descriptor(), &options()), Ok(None), "none are asked for");
    }

    #[test]
    fn recurrent_states_bound_the_inputs_of_a_batch() {
        let of = |state_bytes| {
            let options = LoadOptions { pooling: Some(Pooling::Last), ..options() };
            plan(&Descriptor { state_bytes, ..descriptor() }, &options).sequences
        };
        assert_eq!([of(0), of(1), of(64 << 20), of(1 << 40)], [64, 64, 4, 1]);
    }

    #[test]
    fn yes_and_no_of_some_rerankers_are_probabilities() {
        let of = |architecture: &str| {
            let descriptor =
                Descriptor { architecture: architecture.to_owned(), has_classifier: true, ..descriptor() };
            plan(&descriptor, &LoadOptions { pooling: Some(Pooling::Rank), ..options() }).scores
        };
        assert_eq!(["qwen3", "llama", "bert"].map(of), [Scores::Probabilities, Scores::Raw, Scores::Raw]);
    }

    #[test]
    fn what_a_file_does_not_say_is_the_mean_of_an_encoder_and_nothing_of_others() {
        assert_eq!(pooling_of(&bert()), Some(Pooling::Mean));
        assert_eq!(pooling_of(&descriptor()), None);
        let last = Descriptor { pooling: Some(Pooling::Last), ..bert() };
        assert_eq!(pooling_of(&last), Some(Pooling::Last));
        assert_eq!(plan(&last, &options()).pooling, Pooling::Last);
        let asked = LoadOptions { pooling: Some(Pooling::Cls), ..options() };
        assert_eq!(plan(&last, &asked).pooling, Pooling::Cls);
    }

    #[test]
    fn refuses_what_cannot_work() {
        let rank = LoadOptions { pooling: Some(Pooling::Rank), ..options() };
        assert_eq!(EmbedPlan::new(&bert(), &rank), Err(Error::NoClassifier));
        let last = LoadOptions { pooling: Some(Pooling::Last), ..options() };
        for architecture in NOT_RUN {
            let other = Descriptor { architecture: architecture.to_owned(), ..descriptor() };
            assert!(matches!(EmbedPlan::new(&other, &last), Err(Error::Options { .. })), "{architecture}");
        }
        for context_tokens in [0, 1] {
            let options = LoadOptions { context_tokens, ..options() };
            assert!(matches!(EmbedPlan::new(&bert(), &options), Err(Error::Options { .. })));
        }
        let endless = LoadOptions { context_tokens: u32::MAX, pooling: Some(Pooling::Last), ..options() };
        assert!(EmbedPlan::new(&descriptor(), &endless).is_err());
    }

    #[test]
    fn a_context_without_a_cache_has_no_format_of_it() {
        let wish = LoadOptions { kv_type: KvType::Q8_0, ..options() };
        let load = crate::plan::LoadPlan::new(&bert(), &wish).unwrap();
        let context = load.embed.expect("it makes vectors").context(load.context(false));
        assert_eq!(context.kv_type, llama_cpp_sys_2::GGML_TYPE_F16);
        assert_eq!((context.cells, context.batch_tokens, context.sequences), (512, 512, 256));
        assert!(context.pooled.is_some_and(|pooled| !pooled.is_causal));
    }
}
