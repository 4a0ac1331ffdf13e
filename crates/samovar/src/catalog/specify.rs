//! From the facts of a model and the settings of one of its names to what the pool is told. Pure: what is measured, found
//! or counted elsewhere comes as an argument, so that nothing has to be patched afterwards.
//!
//! ```text
//!   facts, settings, the request's context, a layout ─► plan ─► options, predicted footprint ─┐
//!   what such a load was measured to cost, adapters of all names, needs ──────────────────────┴─► specify ─► ModelSpec
//! ```

use std::sync::Arc;

use samovar_core::footprint::{Footprint, Layout, LayoutWish, LoadOptions};
use samovar_core::port::{Capabilities, Engine};
use samovar_core::{Bytes, Cost, Descriptor, DraftModel, ErrorKind, Failure, ModelFiles, ModelKey, Pooling};
use samovar_pool::ModelSpec;

use super::draft::Draft;
use super::embedder::{DEFAULT_INPUT_TOKENS, DEFAULT_SLOTS, reading};
use super::facts::Facts;
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

/// What holds for every load on this machine.
#[derive(Clone, Copy, Debug)]
pub(super) struct Machine {
    /// Memory that all models may use together.
    pub(super) budget_bytes: u64,
    /// The cores that this process really has: affinity and cgroup quota counted, a part of a core as one.
    pub(super) cores: u32,
}

/// The context that a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AskedContext {
    pub(crate) tokens: u32,
    /// The most that it may ask for where the model's name has less; `None` = as much as the model can have.
    pub(crate) ceiling_tokens: Option<u32>,
    /// Whether the most that it may ask for will do where it asks for more.
    pub(crate) takes_less: bool,
}

/// How a model is to be loaded, and what that costs.
#[derive(Clone, Debug)]
pub(super) struct Planned {
    pub(super) key: ModelKey,
    /// The model's files, with those of its draft model.
    pub(super) files: ModelFiles,
    pub(super) options: LoadOptions,
    pub(super) cost: Cost,
    /// What can be done with it under its name.
    pub(super) capabilities: Capabilities,
}

/// What the pool is told of a model under one of its names.
pub(super) fn specify(
    facts: &Facts,
    settings: &ModelSettings,
    name: String,
    planned: Planned,
    adapter_bytes: u64,
    needs: Vec<Arc<ModelSpec>>,
    load_ms: Option<u64>,
) -> ModelSpec {
    let Planned { key, files, options, mut cost, capabilities } = planned;
    cost.memory.private += Bytes::host(adapter_bytes);
    ModelSpec {
        key,
        name,
        files,
        descriptor: Arc::clone(&facts.descriptor),
        engine: facts.engine.id.clone(),
        capabilities,
        options,
        cost,
        load_ms,
        keep_alive: settings.keep_alive.unwrap_or_default(),
        instances: settings.instances(),
        needs,
        has_fixed_slots: settings.slots.is_some(),
        usual: None,
    }
}

/// Names that wish for different layouts or KV formats have different instances, also of the same bytes, and so have names
/// whose vectors are made in different ways, or that have different draft models. Which layout a wish comes to changes with
/// what is known, and makes no other instance; neither does the context.
pub(super) fn key(
    facts: &Facts,
    settings: &ModelSettings,
    pooling: Option<Pooling>,
    draft: Option<&Draft>,
) -> ModelKey {
    let (wish, kv_type) = (settings.layout.unwrap_or_default(), settings.kv_type.unwrap_or_default());
    let pooling = pooling.map(|pooling| format!("-{}", pooling.as_str())).unwrap_or_default();
    let draft = draft.map(|draft| format!("-draft-{}", draft.facts.identity)).unwrap_or_default();
    ModelKey::new(format!("{}-{wish}-{kv_type:?}{pooling}{draft}", facts.identity))
}

/// The layout of a load that finds no packed file.
pub(super) const fn without_packed_file(settings: &ModelSettings) -> Layout {
    match settings.layout {
        Some(LayoutWish::Repacked) => Layout::Repacked,
        _ => Layout::Mapped,
    }
}

/// The most context that a model can have: what it was trained with, or a careful guess where its header does not say.
const fn most_context(descriptor: &Descriptor) -> u32 {
    if descriptor.context_tokens == 0 { DEFAULT_CONTEXT_TOKENS } else { descriptor.context_tokens }
}

/// The context that a model has under a name, where no request asks for more. An owner's setting is cut to what it can have.
fn usual_context(engine: &dyn Engine, descriptor: &Descriptor, settings: &ModelSettings) -> u32 {
    let is_embedder = reading(engine, descriptor, settings).is_embedder();
    let default = if is_embedder { DEFAULT_INPUT_TOKENS } else { DEFAULT_CONTEXT_TOKENS };
    settings.context_tokens.unwrap_or(default).clamp(1, most_context(descriptor))
}

/// The context to load for a request that asks for more than the model's name has; `None` where the usual one is enough. Sizes
/// are rounded up to a power of two: requests for slightly different ones do not have the model resized each time.
///
/// # Errors
/// `InvalidRequest` for a context that the model can not have, or that the request may not ask for, with the most that it may.
pub(super) fn larger_context(
    engine: &dyn Engine,
    descriptor: &Descriptor,
    settings: &ModelSettings,
    asked: Option<AskedContext>,
) -> Result<Option<u32>, Failure> {
    let Some(AskedContext { tokens, ceiling_tokens, takes_less }) = asked else { return Ok(None) };
    let (trained, usual) = (most_context(descriptor), usual_context(engine, descriptor, settings));
    let most = ceiling_tokens.map_or(trained, |ceiling| ceiling.clamp(usual, trained));
    let tokens = if takes_less { tokens.min(most) } else { tokens };
    if (1..=most).contains(&tokens) {
        let size = tokens.checked_next_power_of_two().map_or(most, |size| size.min(most));
        return Ok((tokens > usual).then_some(size));
    }
    let (whose, why) = if most < trained {
        let why = "its owner can raise `context_tokens` of the model or `server.context_ceiling_tokens` in samovar.toml";
        ("requests to this server may ask this model for", why.to_owned())
    } else if descriptor.context_tokens == 0 {
        ("this model can have", format!("its file does not say more than that {most} tokens are safe"))
    } else {
        ("this model can have", format!("it was trained with {most} tokens"))
    };
    let message = format!("`context_tokens` is {tokens}, and {whose} from 1 to {most}");
    Err(Failure::new(ErrorKind::InvalidRequest, message)
        .with_param("context_tokens")
        .with_hint(format!("ask for {most} or less: {why}")))
}

/// The options of a load and what it is predicted to cost. For a larger context than the name has there may be fewer slots;
/// a smaller one is never loaded.
///
/// # Errors
/// Whatever the engine says of such a model.
pub(super) fn plan(
    engine: &dyn Engine,
    machine: Machine,
    descriptor: &Descriptor,
    settings: &ModelSettings,
    draft: Option<&DraftModel>,
    larger_context: Option<u32>,
    layout: Layout,
) -> Result<(LoadOptions, Footprint), Failure> {
    let Machine { budget_bytes, cores } = machine;
    let reading = reading(engine, descriptor, settings);
    let usual = usual_context(engine, descriptor, settings);
    let context_tokens = larger_context.map_or(usual, |tokens| tokens.max(usual));
    let (slots, threads) = if reading.is_embedder() {
        // A step of it is hundreds of tokens, which keep every core busy.
        (DEFAULT_SLOTS, cores)
    } else {
        (default_slots(descriptor, context_tokens, budget_bytes), default_threads(descriptor, cores))
    };
    let mut options = LoadOptions {
        context_tokens,
        slots: settings.slots.unwrap_or(slots).max(1),
        layout,
        kv_type: settings.kv_type.unwrap_or_default(),
        threads: settings.threads.unwrap_or(threads).max(1),
        lock_memory: settings.lock_memory,
        pooling: reading.pooling,
        draft: draft.cloned().map(Box::new),
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

/// The cores that there are, but no more than the model can keep busy: threads of a small model wait for each other longer
/// than they compute.
fn default_threads(descriptor: &Descriptor, cores: u32) -> u32 {
    u64::from(cores).min(1 + descriptor.parameters / WEIGHTS_PER_THREAD) as u32
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

    fn planned(budget_bytes: u64, settings: &ModelSettings, asked_context: Option<u32>) -> LoadOptions {
        let (engine, machine) = (FakeEngine::builder().build(), Machine { budget_bytes, cores: 2 });
        let shape = shape(2, 4, 512);
        plan(&engine, machine, &shape, settings, None, asked_context, Layout::Mapped).expect("plans").0
    }

    #[test]
    fn context_is_never_more_than_the_model_was_trained_for() {
        let asked = ModelSettings { context_tokens: Some(100_000), ..Default::default() };
        assert_eq!(planned(1 << 40, &asked, None).context_tokens, 512);
    }

    #[test]
    fn a_load_for_a_request_has_at_least_the_usual_context_and_no_more_slots() {
        let usual = ModelSettings { context_tokens: Some(128), ..Default::default() };
        let usual_slots = planned(1 << 40, &usual, None).slots;
        for (larger, expected) in [(16, 128), (128, 128), (512, 512)] {
            let options = planned(1 << 40, &usual, Some(larger));
            assert_eq!(options.context_tokens, expected);
            assert!(options.slots <= usual_slots, "{options:?}");
        }
        let slots = |larger: u32| {
            let (engine, shape) = (FakeEngine::builder().build(), shape(8, 20, 4_096));
            let usual = ModelSettings { context_tokens: Some(256), ..Default::default() };
            let machine = Machine { budget_bytes: 8 << 30, cores: 2 };
            plan(&engine, machine, &shape, &usual, None, Some(larger), Layout::Mapped).expect("plans").0.slots
        };
        assert_eq!([16, 256, 4_096].map(slots), [4, 4, 1]);
    }

    fn larger(shape: &Descriptor, usual: u32, asked: AskedContext) -> Result<Option<u32>, Failure> {
        let settings = ModelSettings { context_tokens: Some(usual), ..Default::default() };
        larger_context(&FakeEngine::new(), shape, &settings, Some(asked))
    }

    fn by_owner(tokens: u32) -> AskedContext {
        AskedContext { tokens, ceiling_tokens: None, takes_less: false }
    }

    #[test]
    fn a_context_beyond_the_usual_is_rounded_up_so_that_few_sizes_are_loaded() {
        let trained = shape(2, 4, 1_000);
        let sizes = [1, 99, 100, 101, 128, 129, 600, 1_000];
        let loaded = sizes.map(|tokens| larger(&trained, 100, by_owner(tokens)).expect("it can have that"));
        let expected = [None, None, None, Some(128), Some(128), Some(256), Some(1_000), Some(1_000)];
        assert_eq!(loaded, expected);
        let nothing = larger_context(&FakeEngine::new(), &trained, &ModelSettings::default(), None);
        assert_eq!(nothing, Ok(None));
    }

    #[test]
    fn a_context_that_the_model_can_not_have_is_refused_with_what_it_can_have() {
        let trained = shape(2, 4, 512);
        for wrong in [0, 513, u32::MAX] {
            let failure = larger(&trained, 128, by_owner(wrong)).expect_err("refuses");
            assert_eq!(
                (failure.kind, failure.param.as_deref()),
                (ErrorKind::InvalidRequest, Some("context_tokens"))
            );
            assert!(failure.message.contains("512") && failure.hint.is_some(), "{failure}");
        }
        let untold = larger(&shape(2, 4, 0), 128, by_owner(DEFAULT_CONTEXT_TOKENS + 1)).expect_err("refuses");
        assert!(untold.message.contains("4096"), "{untold}");
    }

    #[test]
    fn a_request_of_the_network_has_no_more_than_the_owner_allows() {
        let trained = shape(2, 4, 512);
        let asked = |tokens, ceiling| {
            let asked = AskedContext { tokens, ceiling_tokens: Some(ceiling), takes_less: false };
            larger(&trained, 100, asked)
        };
        assert_eq!(asked(100, 0), Ok(None));
        assert_eq!((asked(101, 200), asked(200, 200)), (Ok(Some(128)), Ok(Some(200))));
        assert_eq!(asked(512, 4_096), Ok(Some(512)), "the model can have no more");
        for (tokens, ceiling, most) in [(101, 0, "100"), (101, 50, "100"), (201, 200, "200"), (0, 0, "100")] {
            let failure = asked(tokens, ceiling).expect_err("the owner allows less");
            assert_eq!(failure.kind, ErrorKind::InvalidRequest);
            assert!(failure.message.contains(most), "{failure}");
            assert!(failure.hint.is_some_and(|hint| hint.contains("server.context_ceiling_tokens")));
        }
        assert!(asked(513, 4_096).expect_err("it was trained with 512").message.contains("512"));
    }

    #[test]
    fn a_request_for_which_less_will_do_gets_the_most_that_it_may_have() {
        let trained = shape(2, 4, 512);
        let asked = |tokens, ceiling_tokens| {
            larger(&trained, 100, AskedContext { tokens, ceiling_tokens, takes_less: true })
        };
        assert_eq!((asked(8_192, Some(0)), asked(8_192, Some(200))), (Ok(None), Ok(Some(200))));
        assert_eq!((asked(8_192, Some(4_096)), asked(8_192, None)), (Ok(Some(512)), Ok(Some(512))));
        assert_eq!(asked(101, Some(200)), Ok(Some(128)), "what it may have is not cut");
        assert!(asked(0, None).is_err(), "none is no context");
    }

    #[test]
    fn a_wide_model_gets_fewer_slots() {
        assert_eq!(default_slots(&shape(2, 4, 4096), 4096, 1 << 30), 4);
        assert_eq!(default_slots(&shape(32, 80, 4096), 4096, 1 << 30), 1);
    }

    #[test]
    fn a_tiny_model_runs_on_one_thread() {
        let tiny = Descriptor { parameters: 3_000_000, ..shape(2, 4, 512) };
        assert_eq!(default_threads(&tiny, 8), 1);
    }

    #[test]
    fn an_embedder_serves_many_at_once_with_inputs_no_longer_than_most_need() {
        let can = Capabilities { can_generate: false, can_embed: true, ..FakeEngine::CAPABILITIES };
        let (engine, machine) =
            (FakeEngine::builder().capabilities(can).build(), Machine { budget_bytes: 1 << 40, cores: 8 });
        let shape = shape(2, 4, 8_192);
        let planned = |settings: &ModelSettings| {
            plan(&engine, machine, &shape, settings, None, None, Layout::Mapped).expect("plans").0
        };
        let usual = planned(&ModelSettings::default());
        assert_eq!((usual.slots, usual.context_tokens, usual.threads), (64, 2_048, 8));
        assert_eq!(usual.pooling, Some(Pooling::Mean));
        let asked =
            ModelSettings::default().context_tokens(100_000).slots(3).threads(2).pooling(Pooling::Cls);
        let asked = planned(&asked);
        assert_eq!((asked.slots, asked.context_tokens, asked.threads), (3, 8_192, 2));
        assert_eq!(asked.pooling, Some(Pooling::Cls));
    }

    #[test]
    fn a_fixed_number_of_slots_is_kept() {
        let asked = ModelSettings { slots: Some(7), ..Default::default() };
        assert_eq!(planned(1, &asked, None).slots, 7);
    }
}
