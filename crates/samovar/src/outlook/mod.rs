//! What a model would take and give here, before anything of it is fetched but headers; and which variant of it is taken where its
//! name leaves that open.
//!
//! ```text
//!   source ─► plans, one a variant ─► sizes (headers, in part) ─► foresee: memory at a context ─┬─► verdict ─┐
//!                                     published (config.json)                                   ├─► choice ──┼─► Outlook
//!                                                     bandwidth ────────► tokens a second ──────┴────────────┘
//! ```
//!
//! A choice is kept in the store: the same name means the same file from then on, also when the budget changes.

mod bandwidth;
mod choice;
mod meant;
mod published;
mod sizes;
mod verdict;

use std::sync::Arc;

use samovar_core::model::ArtifactRef;
use samovar_core::units::ByteSize;
use samovar_core::{Descriptor, Failure, Format, Quantization};
use samovar_store::{ArtifactKey, FetchPlan, FilePath, Progress, Role, Store, Watch};
use serde::{Deserialize, Serialize};

use bandwidth::ReadRate;
pub(crate) use bandwidth::note as note_rate;
use choice::{RatedVariant, grouped};
pub(crate) use meant::check_published;
use sizes::SizedVariant;
pub use sizes::VariantForm;
pub use verdict::{MemoryInUse, MemoryUser, Verdict};

use crate::catalog::{Catalog, Remote, artifact_choice};
use crate::engine_choice::EngineChoice;
use crate::runtime::{Runtime, blocking};

/// Contexts at which memory is told, in tokens.
const CONTEXTS: [u32; 2] = [4_096, 32_768];
/// Words in the names of architectures that read only a part of their weights for a token.
const SPARSE: [&str; 7] = ["moe", "gpt-oss", "deepseek", "mixtral", "dbrx", "grok", "llama4"];

/// What a model would take and give here.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Outlook {
    /// What was asked about.
    pub model: String,
    /// Memory that all models may use together, in bytes.
    pub budget_bytes: u64,
    /// Of these, bytes that no model has now.
    pub free_bytes: u64,
    /// Bytes of weights that this machine reads in a second; `None` where that is not known.
    pub read_bytes_per_s: Option<f64>,
    /// Whether a model reached that; else the memory gives it, and no model exceeds it.
    pub is_read_rate_of_models: bool,
    /// Why the recommended variant is recommended, as a sentence.
    pub reason: Option<String>,
    /// Every form in which the model is at its source, and what can be prepared of it; the largest first.
    pub variants: Vec<VariantOutlook>,
}

/// What one variant of a model would take and give here.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct VariantOutlook {
    /// What means this variant alone; of what is prepared, what is fetched for it.
    pub reference: String,
    /// In which form it is.
    pub form: VariantForm,
    /// Its quantization, or the format of a published model's numbers; empty where nothing says it.
    pub quantization: String,
    /// What the store would know it by.
    pub key: ArtifactKey,
    /// The files that are fetched for it.
    pub files: Vec<OutlookFile>,
    /// Bytes of its weights; of what is prepared, about.
    pub bytes: u64,
    /// Bytes of all files that are fetched for it.
    pub fetched_bytes: u64,
    /// Of these, bytes that are not here.
    pub missing_bytes: u64,
    /// Context that it was trained for, in tokens; `None` where that is not known.
    pub trained_context_tokens: Option<u32>,
    /// How it would be loaded under its name, and the memory that takes; `None` where that is not known.
    pub usual: Option<ContextMemory>,
    /// The memory at other contexts.
    pub memory: Vec<ContextMemory>,
    /// Whether it could be loaded under its name.
    pub verdict: Verdict,
    /// The models that would have to leave the memory first, or that are pinned.
    pub others: Vec<String>,
    /// Tokens of an answer in a second, about, by the bytes that are read for each; `None` where that is not known.
    pub tokens_per_s: Option<f64>,
    /// Whether the name means this variant, or would.
    pub is_recommended: bool,
    /// What to type to have it.
    pub command: String,
    /// Why something is not known of it, or why it cannot be prepared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// A file that is fetched.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutlookFile {
    /// Its place in the artifact.
    pub path: FilePath,
    /// What it is for.
    pub role: Role,
    /// Bytes, when the source says so.
    pub size: Option<u64>,
}

/// Memory at one context.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContextMemory {
    /// Tokens of context for each slot.
    pub context_tokens: u32,
    /// Requests at the same time.
    pub slots: u32,
    /// Bytes in all.
    pub bytes: u64,
}

impl Runtime {
    /// Judges a model at its source: its variants, the memory of each, whether it could be loaded next to what is in memory now,
    /// and how fast it would answer. Reads headers and small files alone. `memory` is what another process holds; without it,
    /// what this runtime does.
    ///
    /// # Errors
    /// `InvalidRequest` for a name that means nothing that is fetched; whatever its source says.
    ///
    /// # Cancel safety
    /// Cancel safe: nothing is kept but the rate at which memory is read.
    pub async fn outlook(&self, model: &str, memory: Option<MemoryInUse>) -> Result<Outlook, Failure> {
        let (inner, name) = (Arc::clone(&self.inner), model.to_owned());
        let remote = blocking(move || inner.catalog.remote(&name)).await??;
        let store = self.store().await?;
        let catalog = &self.inner.catalog;
        let plans = store.variants(&remote.reference, None).await?;
        let sized = sizes::variants(&store, catalog, &plans).await;
        let memory = match memory {
            Some(memory) => memory,
            None => MemoryInUse::from(&self.inner.pool.snapshot().await),
        };
        // Afterwards, since measuring takes memory for a moment.
        let rate = self.read_rate(&store).await?;
        let usual: Vec<_> = sized.iter().map(|variant| memory_at(catalog, &remote, variant, None)).collect();
        let meant = meant::meant(&store, &remote, &plans, &sized).await?;
        let fitting = || {
            let soft_bytes = catalog.soft_bytes().min(memory.budget_bytes);
            best(&plans, &sized, &usual, [memory.budget_bytes, soft_bytes])
        };
        let (recommended, reason) = meant.or_else(fitting).unzip();
        let variants = sized.iter().zip(usual).enumerate().map(|(place, (variant, usual))| {
            let outlook = VariantJudge { catalog, remote: &remote, plans: &plans, memory: &memory, rate };
            outlook.of(variant, usual, recommended == Some(place), model)
        });
        Ok(Outlook {
            model: model.to_owned(),
            budget_bytes: memory.budget_bytes,
            free_bytes: memory.free_bytes(),
            read_bytes_per_s: rate.map(|rate| rate.bytes_per_s),
            is_read_rate_of_models: rate.is_some_and(|rate| rate.is_of_models),
            reason,
            variants: variants.collect(),
        })
    }

    /// Chooses what a name means that leaves the quantization open, and keeps that; the largest that fits. Does nothing where a
    /// choice was made before, or none is left. `watch` is told why.
    ///
    /// # Errors
    /// Whatever the source says.
    pub async fn choose(&self, model: &str, watch: Option<Watch>) -> Result<(), Failure> {
        let (inner, name) = (Arc::clone(&self.inner), model.to_owned());
        let remote = blocking(move || inner.catalog.remote(&name)).await??;
        let store = self.store().await?;
        Box::pin(choose(&store, &self.inner.catalog, &remote, watch.as_ref())).await?;
        Ok(())
    }
}

/// The same, with what it takes to fetch what was chosen; `None` where there was nothing to choose, or nothing to choose by.
///
/// # Errors
/// Whatever the source says.
pub(crate) async fn choose(
    store: &Store,
    catalog: &Catalog,
    remote: &Remote,
    watch: Option<&Watch>,
) -> Result<Option<FetchPlan>, Failure> {
    if !matches!(&remote.reference, ArtifactRef::Hub(hub) if hub.leaves_choice()) {
        return Ok(None);
    }
    let (looking, reference) = (store.clone(), remote.reference.clone());
    let is_settled = blocking(move || {
        let is_here = || matches!(looking.find(&reference), Ok(Some(_)));
        matches!(looking.chosen(&reference), Ok(Some(_))) || is_here()
    });
    if is_settled.await? {
        return Ok(None);
    }
    let mut plans = store.variants(&remote.reference, watch.cloned()).await?;
    let is_published = plans.iter().any(|plan| sizes::format_of(plan) == Some(Format::Safetensors));
    if plans.len() == 1 && !is_published {
        return Ok(plans.pop());
    }
    let sized = sizes::variants(store, catalog, &plans).await;
    let usual: Vec<_> = sized.iter().map(|variant| memory_at(catalog, remote, variant, None)).collect();
    let limits = [catalog.budget_bytes(), catalog.soft_bytes()];
    let Some((place, reason)) = best(&plans, &sized, &usual, limits) else { return Ok(None) };
    let SizedVariant { plan, form, quantization, .. } = &sized[place];
    let plan = plans.swap_remove(*plan);
    let keeping = store.clone();
    if *form == VariantForm::Prepared {
        // What is set counts, and candle runs the model as it is.
        let Remote { settings, .. } = remote;
        if settings.quantization.is_some() || settings.engine == Some(EngineChoice::Candle) {
            return Ok(Some(plan));
        }
        let (memo, format) = (artifact_choice(&plan.listing.key), quantization.clone());
        let keep = move || {
            // What was chosen by an order counts, too.
            let is_free = matches!(keeping.recall(&memo), Ok(None));
            // The default needs no memo.
            if is_free && format != Quantization::default().as_str() {
                keeping.remember(&memo, &format);
            }
            is_free
        };
        if !blocking(keep).await? {
            return Ok(Some(plan));
        }
    } else {
        let (asked, chosen) = (remote.reference.clone(), plan.reference().clone());
        blocking(move || keeping.choose(&asked, &chosen)).await?;
    }
    tracing::info!(model = %remote.reference, chosen = %plan.reference(), "a variant was chosen: {reason}");
    if let Some(watch) = watch {
        watch(Progress::Chosen { reference: plan.listing.reference.clone(), reason });
    }
    Ok(Some(plan))
}

/// The variant to take, and why; `None` where several models are there, or where nothing is known to fit. What is prepared for a
/// request has to fit below the soft limit.
fn best(
    plans: &[FetchPlan],
    sized: &[SizedVariant],
    usual: &[Option<ContextMemory>],
    [budget_bytes, soft_bytes]: [u64; 2],
) -> Option<(usize, String)> {
    let first = plans.first()?.family();
    if plans.iter().any(|plan| plan.family() != first) {
        return None;
    }
    // A published form is not loaded as it is.
    let places: Vec<usize> =
        (0..sized.len()).filter(|place| sized[*place].form != VariantForm::Published).collect();
    let rated: Vec<RatedVariant<'_>> = places
        .iter()
        .map(|&place| RatedVariant {
            quantization: &sized[place].quantization,
            bytes: sized[place].bytes,
            memory_bytes: usual[place].map(|usual| usual.bytes),
        })
        .collect();
    let is_prepared = places.iter().any(|place| sized[*place].form == VariantForm::Prepared);
    // What is prepared keeps its author's precision where that fits; the bytes that are fetched are the same.
    let largest =
        (0..rated.len()).find(|place| rated[*place].memory_bytes.is_some_and(|bytes| bytes <= soft_bytes));
    let chosen = if is_prepared { largest? } else { choice::best(&rated, budget_bytes)? };
    let place = places[chosen];
    let context_tokens = usual[place]?.context_tokens;
    let reason = if is_prepared {
        let (name, budget) = (&sized[place].quantization, ByteSize::from_bytes(soft_bytes));
        let tokens = grouped(context_tokens);
        format!(
            "{name}: the most exact format that fits in {budget} with {tokens} tokens once it is prepared"
        )
    } else {
        choice::reason(&rated, chosen, budget_bytes, context_tokens)
    };
    Some((place, reason))
}

/// How a variant would be loaded with so much context, or with that of its name.
fn memory_at(
    catalog: &Catalog,
    remote: &Remote,
    variant: &SizedVariant,
    context_tokens: Option<u32>,
) -> Option<ContextMemory> {
    let descriptor = variant.descriptor.as_ref()?;
    let (options, footprint) = catalog.foresee(descriptor, remote, context_tokens).ok()?;
    let bytes = footprint.total_bytes();
    Some(ContextMemory { context_tokens: options.context_tokens, slots: options.slots, bytes })
}

/// What the variants of one model have in common.
#[derive(Clone, Copy)]
struct VariantJudge<'a> {
    catalog: &'a Catalog,
    remote: &'a Remote,
    plans: &'a [FetchPlan],
    memory: &'a MemoryInUse,
    rate: Option<ReadRate>,
}

impl VariantJudge<'_> {
    fn of(
        self,
        variant: &SizedVariant,
        usual: Option<ContextMemory>,
        is_recommended: bool,
        model: &str,
    ) -> VariantOutlook {
        let SizedVariant { plan, form, quantization, bytes, descriptor, problem } = variant;
        let plan = &self.plans[*plan];
        let needed_bytes = usual.map(|usual| usual.bytes);
        let soft_bytes = self.catalog.soft_bytes();
        let (verdict, others) = match needed_bytes {
            // It would not be prepared for a request.
            Some(bytes) if *form == VariantForm::Prepared && bytes > soft_bytes => {
                (Verdict::Never, Vec::new())
            }
            _ => verdict::judge(needed_bytes, self.memory),
        };
        let mut memory: Vec<ContextMemory> = CONTEXTS
            .iter()
            .filter_map(|tokens| memory_at(self.catalog, self.remote, variant, Some(*tokens)))
            .collect();
        memory.dedup_by_key(|memory| memory.context_tokens);
        let files = plan.listing.files.iter().map(|file| OutlookFile {
            path: file.path.clone(),
            role: file.role,
            size: file.size,
        });
        VariantOutlook {
            reference: plan.listing.reference.clone(),
            form: *form,
            quantization: quantization.clone(),
            key: plan.listing.key.clone(),
            files: files.collect(),
            bytes: *bytes,
            fetched_bytes: plan.total_bytes,
            missing_bytes: plan.missing_bytes,
            trained_context_tokens: descriptor
                .as_ref()
                .map(|descriptor| descriptor.context_tokens)
                .filter(|tokens| *tokens > 0),
            usual,
            memory,
            verdict,
            others,
            tokens_per_s: descriptor.as_ref().and_then(|descriptor| tokens_per_s(descriptor, self.rate?)),
            is_recommended,
            command: match form {
                VariantForm::Prepared => format!("samovar pull {model} --quantize {quantization}"),
                _ => format!("samovar pull {}", plan.listing.reference),
            },
            problem: problem.clone(),
        }
    }
}

/// For each token of an answer all weights are read once. `None` for models that write none, and for those that read only some.
fn tokens_per_s(descriptor: &Descriptor, rate: ReadRate) -> Option<f64> {
    let is_sparse = SPARSE.iter().any(|word| descriptor.architecture.contains(word));
    let reads_all = descriptor.is_causal && !descriptor.is_encoder() && !is_sparse;
    (reads_all && descriptor.tensor_bytes > 0).then(|| rate.bytes_per_s / descriptor.tensor_bytes as f64)
}
