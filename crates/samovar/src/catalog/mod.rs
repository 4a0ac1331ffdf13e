//! From what a user writes to what the pool can load: names, files, artifacts, headers, options.
//!
//! ```text
//!   "demo" ───────────────► the store ──┐
//!   "org/name:Q4_K_M" ────► the store ──┤ or: away, and the runtime fetches it
//!   "tiny" ──► alias ──────► either ────┼─► facts ─► settings, layout, adapters, needs ─► specify ─► ModelSpec
//!   "./m.gguf" ────────────► a file ────┘    └─ read once for each identity of bytes
//! ```
//!
//! Facts never change: those of a file are found by its stamp (device, inode, size, time), those of an artifact by its key,
//! which fixes its content. Everything else is put together for each request, so that nothing remembered has to be patched
//! when a setting, a packed file or an adapter comes or goes. A later request costs one `stat` or one look into the index,
//! and some arithmetic. Nothing here loads weights or reaches a network.

mod adapted;
mod customs;
mod demo;
mod embedder;
mod facts;
mod header_bytes;
mod info;
mod names;
mod needs;
mod skill;
mod specify;
mod stamp;
mod stored;
mod target;
mod template_words;
mod templates;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use samovar_core::cores::CoreWatch;
use samovar_core::footprint::{Footprint, Layout, LoadOptions};
use samovar_core::port::Engine;
use samovar_core::{ErrorKind, Failure, ModelKey, ModelRef, WeightsId};
use samovar_pool::{ModelSpec, PoolConfig};

pub(crate) use adapted::{Adapted, AdapterRegistry, PromptSettings};
use customs::{chat_template, settings_with};
pub use demo::built_in;
use embedder::reading;
use facts::{Facts, KnownFacts, Purpose};
pub(crate) use header_bytes::{HeaderBytes, Judgement};
pub use info::{Kind, ModelInfo, TemplateOrigin, ToolSupport};
pub(crate) use names::NameBook;
use names::Names;
pub use names::{Changes, NameSource};
use needs::{Need, Needs};
pub(crate) use skill::Skill;
pub(crate) use specify::AskedContext;
use specify::{Machine, Planned, key, larger_context, specify, without_packed_file};

use crate::bounded::BoundedMap;
use crate::experience::Experience;
use crate::lazy_store::LazyStore;
use crate::packed::{LayoutRegistry, Subject};
use crate::request::Origin;
pub(crate) use stamp::Stamp;
use stored::short_name;
pub(crate) use target::Remote;
use target::{ModelLocation, Target};
use templates::Templates;

/// Files that go by a short name at a time; further ones go by their paths.
const FILE_NAMES_MAX: usize = 4_096;
/// Warnings that are remembered so as not to be said again for each request.
const WARNINGS_MAX: usize = 256;

/// Names, files and artifacts that are known, and what was read of them.
pub(crate) struct Catalog {
    lazy_store: Arc<LazyStore>,
    names: NameBook,
    budget_bytes: AtomicU64,
    cores: u32,
    engine: Arc<dyn Engine>,
    adapter_registry: Arc<AdapterRegistry>,
    layout_registry: Arc<LayoutRegistry>,
    experience: Arc<Experience>,
    templates: Templates,
    facts: KnownFacts,
    /// Files that the owner used, under the short name that everyone may use from then on.
    file_names: Mutex<BTreeMap<String, PathBuf>>,
    /// Contexts that were set too large, and said to be.
    warned: Mutex<BoundedMap<(WeightsId, u32), (), WARNINGS_MAX>>,
}

/// Where a name leads.
pub(crate) enum Found {
    /// To a model that can be loaded.
    Local(Adapted),
    /// To one that has to be fetched first.
    Remote(Remote),
}

impl Catalog {
    pub(crate) fn new(
        lazy_store: Arc<LazyStore>,
        names: NameBook,
        pool: &PoolConfig,
        engine: Arc<dyn Engine>,
        adapter_registry: Arc<AdapterRegistry>,
        layout_registry: Arc<LayoutRegistry>,
        experience: Arc<Experience>,
    ) -> Self {
        Self {
            experience,
            lazy_store,
            names,
            budget_bytes: AtomicU64::new(pool.budget.bytes),
            cores: CoreWatch::new().cores(),
            engine,
            adapter_registry,
            layout_registry,
            templates: Templates::default(),
            facts: KnownFacts::default(),
            file_names: Mutex::default(),
            warned: Mutex::default(),
        }
    }

    /// Where the name leads, for a request that asks for so much context, or says nothing of it. Reads only headers, and
    /// those only when they are new or changed.
    ///
    /// # Errors
    /// `InvalidRequest` for a context that the model can not have or the request may not ask for; whatever else keeps it from
    /// being loaded.
    pub(crate) fn find(
        &self,
        reference: &str,
        origin: Origin,
        asked_context: Option<AskedContext>,
    ) -> Result<Found, Failure> {
        let names = self.names_now();
        let target = self.target(&names, reference, origin)?;
        match self.lead(&target, reference, asked_context) {
            // Code that finds damaged bytes sets them aside. So the name leads to its source now, or to the built-in model that
            // is put there anew. What was in the store, its owner chose: it may be fetched for any client.
            Err(failure) if failure.kind == ErrorKind::Storage && self.is_gone(&target) => {
                tracing::warn!(model = reference, "is brought again: {failure}");
                self.lead(&self.target(&names, reference, Origin::Owner)?, reference, asked_context)
            }
            found => found,
        }
    }

    fn lead(
        &self,
        target: &Target,
        reference: &str,
        asked_context: Option<AskedContext>,
    ) -> Result<Found, Failure> {
        if let ModelLocation::Remote(reference) = &target.place {
            let settings = target.settings.clone();
            return Ok(Found::Remote(Remote { reference: reference.clone(), settings, asked_context }));
        }
        let facts = self.facts_of(target)?;
        let larger_context =
            larger_context(&*self.engine, &facts.descriptor, &target.settings, asked_context)?;
        let prompt_settings = self.prompt_settings(target, &facts)?;
        Ok(match self.specified(target, &facts, larger_context, &[reference])? {
            Need::Local(spec) => Found::Local(Adapted {
                spec,
                adapters: target.settings.adapters.clone(),
                speculates: target.settings.speculates.unwrap_or(true),
                prompt_settings,
            }),
            Need::Remote(remote) => Found::Remote(*remote),
        })
    }

    /// Whether an artifact that was in the store is not any more.
    fn is_gone(&self, target: &Target) -> bool {
        let ModelLocation::Stored(artifact) = &target.place else { return false };
        let here = self.lazy_store.store().and_then(|store| Ok(store.artifact(&artifact.key_digest)?));
        matches!(here, Ok(None))
    }

    /// What people see of the model that `reference` names.
    pub(crate) fn describe(&self, reference: &str, origin: Origin) -> Result<ModelInfo, Failure> {
        self.describe_by(&self.names_now(), reference, origin, Purpose::Use)
    }

    fn describe_by(
        &self,
        names: &Arc<Names>,
        reference: &str,
        origin: Origin,
        purpose: Purpose,
    ) -> Result<ModelInfo, Failure> {
        let target = self.target(names, reference, origin)?;
        let facts = self.facts_for(&target, purpose)?;
        let prompt_settings = self.prompt_settings(&target, &facts)?;
        let planned = self.planned(&target, &facts, None)?;
        // One that is still at its source can be met.
        self.needs(&target, &planned.key, &[reference])?;
        let spec = self.specify(&target, &facts, planned, Vec::new());
        let settings = settings_with(&facts, &target.settings);
        let own = spec.descriptor.chat_template.as_deref();
        let template = prompt_settings.chat_template.as_deref().or(own);
        Ok(ModelInfo::new(&spec, target.kind, &settings, template))
    }

    /// Every model that requests may name; those that are gone, broken or not fetched yet are left out.
    pub(crate) fn list(&self) -> Vec<ModelInfo> {
        let names = self.names_now();
        self.listed_names(&names)
            .iter()
            .filter_map(|name| self.describe_by(&names, name, Origin::Network, Purpose::List).ok())
            .collect()
    }

    /// Every name that requests may use.
    fn listed_names(&self, names: &Names) -> Vec<String> {
        let files: Vec<String> = self.file_names().keys().cloned().collect();
        let stored = self.lazy_store.store().and_then(|store| Ok(store.list()?)).unwrap_or_default();
        let stored = stored.iter().filter(|artifact| !demo::is(artifact)).map(short_name);
        std::iter::once(demo::NAME.to_owned())
            .chain(names.aliases.keys().cloned())
            .chain(files)
            .chain(stored)
            .collect()
    }

    /// Refuses a model that could never be loaded here, or not with the context that is asked for, judged by the first bytes
    /// of its first file, before the rest is fetched.
    pub(crate) fn judge(
        &self,
        remote: &Remote,
        header_bytes: &HeaderBytes<'_>,
    ) -> Result<Judgement, Failure> {
        let descriptor = match header_bytes.descriptor()? {
            Ok(descriptor) => descriptor,
            Err(needed_bytes) => return Ok(Judgement::NeedsMore { needed_bytes }),
        };
        let (settings, machine) = (&remote.settings, self.machine());
        let larger_context = larger_context(&*self.engine, &descriptor, settings, remote.asked_context)?;
        let layout = without_packed_file(settings);
        let (_, footprint) =
            specify::plan(&*self.engine, machine, &descriptor, settings, larger_context, layout)?;
        let budget_bytes = machine.budget_bytes;
        if footprint.total_bytes() <= budget_bytes {
            return Ok(Judgement::MayFit);
        }
        let mib = |bytes: u64| bytes.div_ceil(1 << 20);
        Err(Failure::new(
            ErrorKind::TooLarge,
            format!(
                "{} would need {} MiB of memory and the budget is {} MiB; nothing was fetched",
                remote.reference,
                mib(footprint.total_bytes()),
                mib(budget_bytes)
            ),
        )
        .with_param("model")
        .with_hint("take a smaller quantization, less context_tokens, or raise pool.budget_bytes; `samovar pull` fetches it all the same"))
    }

    /// The names and settings of this moment, for all that is done for one request: what the owner changed is taken in.
    fn names_now(&self) -> Arc<Names> {
        if self.names.catch_up() {
            self.templates.clear();
        }
        self.names.now()
    }

    /// Takes in what the owner changed of the names, and tells what changed in all.
    ///
    /// # Errors
    /// What is wrong with what is written now; then what was in force stays.
    pub(crate) fn reload(&self) -> Result<Changes, Failure> {
        self.names_now();
        self.names.changes()
    }

    /// How requests to a model under this name are read, once its adapters have passed the gate.
    fn prompt_settings(&self, target: &Target, facts: &Facts) -> Result<PromptSettings, Failure> {
        let settings = &target.settings;
        self.adapter_registry.check(facts, &self.name_of(target, facts), &settings.adapters)?;
        let template = chat_template(facts, settings);
        Ok(PromptSettings {
            special_tokens_in_content: settings.special_tokens_in_content,
            chat_template: template.as_ref().map(|template| self.templates.get(template)).transpose()?,
            system: facts.customs.system.clone(),
            stop: facts.customs.stop.clone(),
            sampling: facts.customs.sampling.clone(),
            thinking: settings.thinking,
            query_prompt: settings.query_prompt.clone(),
            document_prompt: settings.document_prompt.clone(),
        })
    }

    /// What the pool is told of a model that is here, with a larger context than usual if there is one, and with all that it
    /// needs; where one of those has to be fetched first, that one.
    fn specified(
        &self,
        target: &Target,
        facts: &Facts,
        larger_context: Option<u32>,
        chain: &[&str],
    ) -> Result<Need, Failure> {
        let planned = self.planned(target, facts, None)?;
        let needs = match self.needs(target, &planned.key, chain)? {
            Needs::Local(needs) => needs,
            Needs::Remote(remote) => return Ok(Need::Remote(remote)),
        };
        let usual = Arc::new(self.specify(target, facts, planned, needs));
        if larger_context.is_none() {
            return Ok(Need::Local(usual));
        }
        let planned = self.planned(target, facts, larger_context)?;
        let spec = self.specify(target, facts, planned, usual.needs.clone());
        Ok(Need::Local(Arc::new(ModelSpec { usual: Some(usual), ..spec })))
    }

    fn specify(
        &self,
        target: &Target,
        facts: &Facts,
        planned: Planned,
        needs: Vec<Arc<ModelSpec>>,
    ) -> ModelSpec {
        let load_ms = match &target.place {
            ModelLocation::Stored(artifact) if artifact.usage.loads > 0 => {
                Some(artifact.usage.load_ms as u64)
            }
            _ => None,
        };
        let adapter_bytes = self.adapter_bytes(target, facts);
        specify(facts, &target.settings, self.name_of(target, facts), planned, adapter_bytes, needs, load_ms)
    }

    /// How the next load is to be, and what that costs: as it was measured, or else predicted.
    fn planned(
        &self,
        target: &Target,
        facts: &Facts,
        larger_context: Option<u32>,
    ) -> Result<Planned, Failure> {
        let settings = &target.settings;
        let usual = self.plan(target, facts, None, without_packed_file(settings))?;
        let key = key(facts, settings, usual.0.pooling);
        let layout = self.layout(target, facts, &key, &usual.0);
        let is_usual = layout == usual.0.layout && larger_context.is_none();
        let (options, predicted) =
            if is_usual { usual } else { self.plan(target, facts, larger_context, layout)? };
        let measured = self.experience.recall(&facts.weights, &facts.engine.name, &options);
        let cost = self.engine.cost(&facts.descriptor, &options, measured.unwrap_or(predicted));
        let capabilities = reading(&*self.engine, &facts.descriptor, settings).capabilities;
        Ok(Planned { key, options, cost, capabilities })
    }

    fn plan(
        &self,
        target: &Target,
        facts: &Facts,
        larger_context: Option<u32>,
        layout: Layout,
    ) -> Result<(LoadOptions, Footprint), Failure> {
        let Target { settings, .. } = target;
        specify::plan(&*self.engine, self.machine(), &facts.descriptor, settings, larger_context, layout)
    }

    fn machine(&self) -> Machine {
        Machine { budget_bytes: self.budget_bytes.load(Ordering::Relaxed), cores: self.cores }
    }

    /// So much memory for all models from now on.
    pub(crate) fn set_budget(&self, bytes: u64) {
        self.budget_bytes.store(bytes, Ordering::Relaxed);
        self.layout_registry.set_budget(bytes);
    }

    /// The layout of the next load. Which that is does not depend on the context that a request asks for.
    fn layout(&self, target: &Target, facts: &Facts, key: &ModelKey, options: &LoadOptions) -> Layout {
        let wish = target.settings.layout.unwrap_or_default();
        let known = self.layout_registry.subject(key).filter(|known| {
            known.weights == facts.weights && known.wish == wish && known.options == *options
        });
        if let Some(known) = known {
            return self.layout_registry.choose(&known).layout;
        }
        if let Some(asked) = target.settings.context_tokens.filter(|asked| *asked > options.context_tokens) {
            self.warn_of_context(facts, asked, options.context_tokens);
        }
        let as_hybrid = LoadOptions { layout: Layout::Hybrid, ..options.clone() };
        let hybrid = self.engine.footprint(&facts.descriptor, &as_hybrid);
        let subject = Subject {
            weights: facts.weights,
            files: facts.files.clone(),
            descriptor: Arc::clone(&facts.descriptor),
            options: options.clone(),
            wish,
            hybrid_bytes: hybrid.map_or(u64::MAX, Footprint::total_bytes),
        };
        self.layout_registry.insert(key, subject).layout
    }

    /// Says once that an owner's setting is cut to what the model can have.
    fn warn_of_context(&self, facts: &Facts, asked: u32, trained: u32) {
        let mut warned = self.warned.lock().unwrap_or_else(PoisonError::into_inner);
        if warned.get(&(facts.weights, asked)).is_none() {
            warned.insert((facts.weights, asked), ());
            let model = facts.files.main().display();
            tracing::warn!(%model, asked, trained, "the context is no larger than the model was trained with");
        }
    }

    /// Memory for the adapters of all names over these bytes; they are looked at when bytes or names are new.
    fn adapter_bytes(&self, target: &Target, facts: &Facts) -> u64 {
        if facts.capabilities.can_adapt
            && !self.adapter_registry.were_looked_at(&facts.weights, &target.names)
        {
            for alias in target.names.aliases.values() {
                let adapters = alias.settings.or(&target.names.defaults).adapters;
                let is_over_it = || {
                    let place = self.place_of(&alias.source, &alias.name).ok();
                    place.and_then(|place| place.identity()) == target.place.identity()
                };
                if !adapters.is_empty() && is_over_it() {
                    // What is wrong with them is said when their name is used.
                    self.adapter_registry.check(facts, &alias.name, &adapters).ok();
                }
            }
            self.adapter_registry.looked_at(&facts.weights, &target.names);
        }
        self.adapter_registry.bytes_on(&facts.weights)
    }

    /// What a model is called that was named like this.
    fn name_of(&self, target: &Target, facts: &Facts) -> String {
        match (&target.given_name, &target.place) {
            (Some(name), _) => name.clone(),
            (None, ModelLocation::Stored(artifact)) => short_name(artifact),
            (None, _) => name_file(&target.names, &mut self.file_names(), facts.files.main()),
        }
    }

    fn file_names(&self) -> MutexGuard<'_, BTreeMap<String, PathBuf>> {
        // Every change is a single insert.
        self.file_names.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The file's short name, remembered: later requests may use it, also over the network. A file whose short name is
/// taken goes by its path.
fn name_file(names: &Names, known: &mut BTreeMap<String, PathBuf>, path: &Path) -> String {
    let short = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    let has_place = match known.get(&short) {
        Some(other) => other == path,
        None => known.len() < FILE_NAMES_MAX,
    };
    let is_free = has_place
        && !names.aliases.contains_key(&short)
        && matches!(short.parse::<ModelRef>(), Ok(ModelRef::Alias(_)));
    if !is_free {
        return path.to_string_lossy().into_owned();
    }
    known.entry(short.clone()).or_insert_with(|| path.to_owned());
    short
}
