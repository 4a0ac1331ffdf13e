//! From what a user writes to what the pool can load: names, files, artifacts, headers, options.
//!
//! ```text
//!   "demo" ───────────────► the store ──┐
//!   "org/name:Q4_K_M" ────► the store ──┤ or: away, and the runtime fetches it
//!   "tiny" ──► alias ──────► either ────┼─► facts ─► settings, layout, adapters, needs ─► specify ─► ModelSpec
//!   "./m.gguf" ────────────► a file ────┘    └─ read once for each identity of bytes; so are those of its draft model
//!   "./folder" ────────────► published ──► prepared? ─ no ─► the runtime prepares it; so it is with safetensors of the store
//!                                └─► run as it is? ─ yes ─► facts of its configuration and headers
//! ```
//!
//! Facts never change: those of a file are found by its stamp (device, inode, size, time), those of an artifact by its key,
//! which fixes its content. Everything else is put together for each request, so that nothing remembered has to be patched
//! when a setting, a packed file or an adapter comes or goes. A later request costs one `stat` or one look into the index,
//! and some arithmetic. Nothing here loads weights or reaches a network.

mod adapted;
mod adapter_files;
mod as_published;
mod created;
mod customs;
mod demo;
mod draft;
mod embedder;
mod facts;
mod folder;
mod header_bytes;
mod info;
mod names;
mod needs;
mod next_load;
mod preset;
mod published;
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
use samovar_core::port::Engine;
use samovar_core::{ErrorKind, Failure, ModelRef, WeightsId};
use samovar_pool::{ModelSpec, PoolConfig};

pub(crate) use adapted::{Adapted, AdapterRegistry, PromptSettings};
use adapter_files::AdapterLeases;
use as_published::AsPublished;
use created::CreatedBook;
pub(crate) use created::Doomed;
use customs::settings_with;
pub use demo::built_in;
use draft::{Drafts, FoundDraft};
use facts::{Facts, KnownFacts, Purpose};
pub(crate) use folder::source_of_folder;
pub(crate) use header_bytes::{HeaderBytes, Judgement};
pub use info::{Kind, ModelInfo, TemplateOrigin, ToolSupport};
pub(crate) use names::NameBook;
use names::Names;
pub use names::{Changes, NameSource};
use needs::{Need, Needs};
pub(crate) use published::{
    Publication, Published, PublishedPlace, artifact_choice, check_prepared, folder_digest, is_adapter,
};
pub(crate) use skill::Skill;
pub(crate) use specify::AskedContext;
use specify::{Machine, larger_context};

use crate::bounded::BoundedMap;
use crate::experience::Experience;
use crate::lazy_store::LazyStore;
use crate::packed::LayoutRegistry;
use crate::request::Origin;
pub(crate) use stamp::Stamp;
use stored::short_name;
pub(crate) use target::{Absent, Remote};
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
    created: CreatedBook,
    budget_bytes: AtomicU64,
    soft_bytes: AtomicU64,
    cores: u32,
    engine: Arc<dyn Engine>,
    adapter_registry: Arc<AdapterRegistry>,
    adapter_leases: AdapterLeases,
    layout_registry: Arc<LayoutRegistry>,
    experience: Arc<Experience>,
    templates: Templates,
    facts: KnownFacts,
    as_published: AsPublished,
    drafts: Drafts,
    /// Files that the owner used, under the short name that everyone may use from then on.
    file_names: Mutex<BTreeMap<String, PathBuf>>,
    /// Contexts that were set too large, and said to be.
    warned: Mutex<BoundedMap<(WeightsId, u32), (), WARNINGS_MAX>>,
}

/// Where a name leads.
pub(crate) enum Found {
    /// To a model that can be loaded.
    Local(Box<Adapted>),
    /// To one that has to be fetched or prepared first.
    Absent(Box<Absent>),
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
            created: CreatedBook::new(lazy_store.created_names()),
            lazy_store,
            names,
            budget_bytes: AtomicU64::new(pool.budget.bytes),
            soft_bytes: AtomicU64::new(pool.soft_bytes()),
            cores: CoreWatch::new().cores(),
            engine,
            adapter_registry,
            adapter_leases: AdapterLeases::default(),
            layout_registry,
            templates: Templates::default(),
            facts: KnownFacts::default(),
            as_published: AsPublished::default(),
            drafts: Drafts::default(),
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
        let facts = match self.look(target, asked_context)? {
            published::Looked::Here(facts) => facts,
            published::Looked::Absent(absent) => return Ok(Found::Absent(Box::new(absent))),
        };
        let larger_context =
            larger_context(&*self.engine, &facts.descriptor, &target.settings, asked_context)?;
        let adapters = self.adapter_files(&facts, &target.settings.adapters)?;
        if let Some(absent) = adapters.absent {
            return Ok(Found::Absent(Box::new(absent)));
        }
        let prompt_settings = self.prompt_settings(target, &facts, &adapters.ready)?;
        Ok(match self.specified(target, &facts, larger_context, &[reference])? {
            Need::Local(spec) => Found::Local(Box::new(Adapted {
                spec,
                adapters: adapters.ready,
                speculates: target.settings.speculates.unwrap_or(true),
                prompt_settings,
            })),
            Need::Absent(absent) => Found::Absent(absent),
        })
    }

    /// Whether an artifact that was in the store is not any more: the model's, or its draft model's.
    fn is_gone(&self, target: &Target) -> bool {
        let is_draft_gone = target.settings.wanted_draft().is_some_and(|name| {
            let draft = self.target(&target.names, name, Origin::Owner);
            draft.is_ok_and(|draft| matches!(draft.place, ModelLocation::Remote(_)))
        });
        let ModelLocation::Stored(artifact) = &target.place else { return is_draft_gone };
        let here = self.lazy_store.store().and_then(|store| Ok(store.artifact(&artifact.key_digest)?));
        is_draft_gone || matches!(here, Ok(None))
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
        // What its requests prepare first keeps no name from being listed.
        let adapters = self.adapter_files(&facts, &target.settings.adapters)?;
        let prompt_settings = self.prompt_settings(&target, &facts, &adapters.ready)?;
        let draft = self.draft(&target, &facts)?.local();
        let planned = self.planned(&target, &facts, draft.as_ref(), None)?;
        // One that is still at its source can be met.
        self.needs(&target, &planned.key, &[reference])?;
        let spec = self.specify(&target, &facts, planned, Vec::new());
        let settings = settings_with(&facts, &target.settings);
        let own = spec.descriptor.chat_template.as_deref();
        let template = prompt_settings.chat_template.as_deref().or(own);
        let info = ModelInfo::new(&spec, target.kind, &settings, template);
        // Of a folder, what is loaded lies in the store, where the owner does not look for it.
        let info = match &target.place {
            ModelLocation::File(path) => ModelInfo { path: path.clone(), ..info },
            ModelLocation::Stored(_) | ModelLocation::Remote(_) => info,
        };
        Ok(match &target.created {
            Some(created) => info.of_created(&created.model, created.digest),
            None => info.of_bytes(&facts.weights),
        })
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
            .chain(names.created.keys().filter(|name| !names.aliases.contains_key(*name)).cloned())
            .chain(files)
            .chain(stored)
            .collect()
    }

    /// The names and settings of this moment, for all that is done for one request: what the owner changed is taken in.
    fn names_now(&self) -> Arc<Names> {
        if self.names.catch_up(|| self.created.now()) {
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

    /// What the pool is told of a model that is here, with a larger context than usual if there is one, and with all that it
    /// needs; where one of those has to be fetched first, that one.
    fn specified(
        &self,
        target: &Target,
        facts: &Facts,
        larger_context: Option<u32>,
        chain: &[&str],
    ) -> Result<Need, Failure> {
        let draft = match self.draft(target, facts)? {
            FoundDraft::Absent(absent) => return Ok(Need::Absent(absent)),
            found => found.local(),
        };
        let planned = self.planned(target, facts, draft.as_ref(), None)?;
        let needs = match self.needs(target, &planned.key, chain)? {
            Needs::Local(needs) => needs,
            Needs::Absent(absent) => return Ok(Need::Absent(absent)),
        };
        let usual = Arc::new(self.specify(target, facts, planned, needs));
        if larger_context.is_none() {
            return Ok(Need::Local(usual));
        }
        let planned = self.planned(target, facts, draft.as_ref(), larger_context)?;
        let spec = self.specify(target, facts, planned, usual.needs.clone());
        Ok(Need::Local(Arc::new(ModelSpec { usual: Some(usual), ..spec })))
    }

    fn machine(&self) -> Machine {
        Machine { budget_bytes: self.budget_bytes.load(Ordering::Relaxed), cores: self.cores }
    }

    /// So much memory for all models from now on.
    pub(crate) fn set_limits(&self, pool: &PoolConfig) {
        self.budget_bytes.store(pool.budget.bytes, Ordering::Relaxed);
        self.soft_bytes.store(pool.soft_bytes(), Ordering::Relaxed);
        self.layout_registry.set_budget(pool.budget.bytes);
    }

    /// What a model is called that was named like this.
    fn name_of(&self, target: &Target, facts: &Facts) -> String {
        match (&target.given_name, &target.place) {
            (Some(name), _) => name.clone(),
            (None, ModelLocation::Stored(artifact)) => short_name(artifact),
            // Of a folder, what is loaded lies elsewhere.
            (None, ModelLocation::File(path)) => name_file(&target.names, &mut self.file_names(), path),
            (None, ModelLocation::Remote(_)) => {
                name_file(&target.names, &mut self.file_names(), facts.files.main())
            }
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
    let short = short_file_name(path);
    let has_place = match known.get(&short) {
        Some(other) => other == path,
        None => known.len() < FILE_NAMES_MAX,
    };
    let is_free = has_place
        && !names.aliases.contains_key(&short)
        && !names.created.contains_key(&short)
        && matches!(short.parse::<ModelRef>(), Ok(ModelRef::Alias(_)));
    if !is_free {
        return path.to_string_lossy().into_owned();
    }
    known.entry(short.clone()).or_insert_with(|| path.to_owned());
    short
}

/// The name of a file without its ending. That of a folder has none: `Llama-3.2-1B` is one.
fn short_file_name(path: &Path) -> String {
    let short = if path.is_dir() { path.file_name() } else { path.file_stem() };
    short.map(|short| short.to_string_lossy().into_owned()).unwrap_or_default()
}
