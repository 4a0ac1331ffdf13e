//! Chooses how a model is loaded where its owner said nothing. Pure but for asking how many cores there are.

use samovar_core::cores::CoreWatch;
use samovar_core::footprint::{Footprint, Layout, LoadOptions};
use samovar_core::port::Engine;
use samovar_core::{Descriptor, Failure};

use crate::settings::ModelSettings;

/// Context for each slot when nothing is said: what Ollama users know; more costs memory that few need.
const DEFAULT_CONTEXT_TOKENS: u32 = 4_096;
const DEFAULT_SLOTS_MAX: u32 = 4;
/// KV cache that a model gets without being asked: making one costs about 0.4 ms a MiB, at every
/// load and every resume.
const DEFAULT_KV_BYTES: u64 = 256 << 20;
/// A machine with a large budget can afford more: this part of it.
const DEFAULT_KV_PART_OF_BUDGET: u64 = 50;
/// Weights that keep one more thread busy through a decode step.
const WEIGHTS_PER_THREAD: u64 = 25_000_000;

/// The options of a load and what it is predicted to cost.
///
/// # Errors
/// Whatever the engine says of such a model.
pub(super) fn plan(
    engine: &dyn Engine,
    descriptor: &Descriptor,
    settings: &ModelSettings,
    layout: Layout,
    budget_bytes: u64,
) -> Result<(LoadOptions, Footprint), Failure> {
    let trained =
        if descriptor.context_tokens == 0 { DEFAULT_CONTEXT_TOKENS } else { descriptor.context_tokens };
    let context_tokens = settings.context_tokens.unwrap_or(DEFAULT_CONTEXT_TOKENS).clamp(1, trained);
    let mut options = LoadOptions {
        context_tokens,
        slots: settings
            .slots
            .unwrap_or_else(|| default_slots(descriptor, context_tokens, budget_bytes))
            .max(1),
        layout,
        kv_type: settings.kv_type.unwrap_or_default(),
        threads: settings.threads.unwrap_or_else(|| default_threads(descriptor)).max(1),
        lock_memory: settings.lock_memory,
    };
    let mut footprint = engine.footprint(descriptor, &options)?;
    // Fewer slots before a refusal, unless the owner fixed their number.
    while footprint.total_bytes() > budget_bytes && options.slots > 1 && settings.slots.is_none() {
        options.slots -= 1;
        footprint = engine.footprint(descriptor, &options)?;
    }
    Ok((options, footprint))
}

fn default_slots(descriptor: &Descriptor, context_tokens: u32, budget_bytes: u64) -> u32 {
    let kv_bytes_per_slot = descriptor.kv_bytes_per_token().saturating_mul(u64::from(context_tokens)).max(1);
    let affordable = DEFAULT_KV_BYTES.max(budget_bytes / DEFAULT_KV_PART_OF_BUDGET) / kv_bytes_per_slot;
    affordable.clamp(1, u64::from(DEFAULT_SLOTS_MAX)) as u32
}

/// The cores that this process really has (affinity and cgroup quota counted, a part of a core as one), but no more
/// than the model can keep busy: threads of a small model wait for each other longer than they compute.
fn default_threads(descriptor: &Descriptor) -> u32 {
    let cores = u64::from(CoreWatch::new().cores());
    cores.min(1 + descriptor.parameters / WEIGHTS_PER_THREAD) as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use samovar_core::testing::fake::FakeEngine;

    fn shape(kv_heads: u32, blocks: u32, context_tokens: u32) -> Descriptor {
        Descriptor {
            blocks,
            kv_heads,
            key_width: 64,
            value_width: 64,
            context_tokens,
            ..FakeEngine::descriptor("shape", 100 << 20)
        }
    }

    #[test]
    fn context_is_never_more_than_the_model_was_trained_for() {
        let engine = FakeEngine::builder().build();
        let asked = ModelSettings { context_tokens: Some(100_000), ..Default::default() };
        let (options, _) = plan(&engine, &shape(2, 4, 512), &asked, Layout::Mapped, 1 << 40).expect("plans");
        assert_eq!(options.context_tokens, 512);
    }

    #[test]
    fn a_wide_model_gets_fewer_slots() {
        assert_eq!(default_slots(&shape(2, 4, 4096), 4096, 1 << 30), 4);
        assert_eq!(default_slots(&shape(32, 80, 4096), 4096, 1 << 30), 1);
    }

    #[test]
    fn a_tiny_model_runs_on_one_thread() {
        let tiny = Descriptor { parameters: 3_000_000, ..shape(2, 4, 512) };
        assert_eq!(default_threads(&tiny), 1);
    }

    #[test]
    fn a_fixed_number_of_slots_is_kept() {
        let engine = FakeEngine::builder().build();
        let asked = ModelSettings { slots: Some(7), ..Default::default() };
        let (options, _) = plan(&engine, &shape(2, 4, 512), &asked, Layout::Mapped, 1).expect("plans");
        assert_eq!(options.slots, 7);
    }
}
