//! From what a user writes to what the pool can load: names, files, artifacts, headers, options.
//!
//! ```text
//!   "demo" ───────────────► the store ──┐
//!   "org/name:Q4_K_M" ────► the store ──┤ or: away, and the runtime fetches it
//!   "tiny" ──► alias ──────► either ────┼─► header (the gate) ─► options ─► footprint ─► ModelSpec
//!   "./m.gguf" ────────────► a file ────┘      └─ unchanged since last time: the same ModelSpec
//! ```
//!
//! What was read once is remembered: a file with its stamp (device, inode, size, time), an artifact by its
//! key, which fixes its content. A later request costs one `stat` or one look into the index. Nothing
//! here loads weights or reaches a network.

mod adapted;
mod customs;
mod demo;
mod head;
mod info;
mod names;
mod needs;
mod plan;
mod stamp;
mod stored;
mod target;
mod templates;

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use samovar_core::footprint::{Footprint, Layout, LayoutWish, LoadOptions};
use samovar_core::format::gguf;
use samovar_core::port::Engine;
use samovar_core::{Descriptor, ErrorKind, Failure, ModelKey, ModelRef};
use samovar_pool::{ModelSpec, PoolConfig};
use samovar_store::{Artifact, KeyDigest};

pub(crate) use adapted::{Adapted, Manners, Riders};
use customs::{Customs, settings_with};
pub use demo::built_in;
pub(crate) use head::{Head, Judgement};
pub use info::{Kind, ModelInfo, TemplateOrigin};
pub(crate) use names::NameBook;
use names::Names;
pub use names::{Changes, NameSource};
use needs::Need;

use crate::experience;
use crate::packed::{Packings, Source, Subject};
use crate::request::Origin;
use crate::settings::ModelSettings;
use crate::shelf::Shelf;
pub(crate) use stamp::Stamp;
use stored::{is_gguf, no_engine_for, short_name};
pub(crate) use target::Away;
use target::{Identity, Place, Target};
use templates::Templates;

/// Names, files and artifacts that are known, and what was read of them.
pub(crate) struct Catalog {
    shelf: Arc<Shelf>,
    names: NameBook,
    budget_bytes: u64,
    engine: Arc<dyn Engine>,
    riders: Arc<Riders>,
    packings: Arc<Packings>,
    templates: Templates,
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    /// Files that the owner used, under the short name that everyone may use from then on.
    names: BTreeMap<String, PathBuf>,
    specs: HashMap<(Option<String>, Identity), Known>,
    /// What authors set beside the weights.
    customs: HashMap<KeyDigest, Arc<Customs>>,
}

/// What was read of some bytes.
struct Known {
    /// The file as it was then; an artifact needs none, since its key fixes its content.
    stamp: Option<Stamp>,
    /// The names and settings under which it was read.
    names: Arc<Names>,
    spec: Arc<ModelSpec>,
    /// What was known of packed weights when its layout was chosen.
    edition: u64,
    /// How much of its held bytes is for adapters.
    riding_bytes: u64,
}

impl Known {
    /// Whether it was read under the same names and settings.
    fn is_of(&self, target: &Target) -> bool {
        Arc::ptr_eq(&self.names, &target.names)
    }
}

/// Where a name leads.
pub(crate) enum Found {
    /// To a model that can be loaded.
    Here(Adapted),
    /// To one that has to be fetched first.
    Away(Away),
}

impl Catalog {
    pub(crate) fn new(
        shelf: Arc<Shelf>,
        names: NameBook,
        pool: &PoolConfig,
        engine: Arc<dyn Engine>,
        riders: Arc<Riders>,
        packings: Arc<Packings>,
    ) -> Self {
        let budget_bytes = pool.budget.bytes;
        let (templates, seen) = (Templates::default(), Mutex::default());
        Self { shelf, names, budget_bytes, engine, riders, packings, templates, seen }
    }

    /// Where the name leads. Reads only headers, and those only when they are new or changed.
    pub(crate) fn find(&self, reference: &str, origin: Origin) -> Result<Found, Failure> {
        let names = self.names_now();
        let target = self.target(&names, reference, origin)?;
        match self.lead(&target, reference) {
            // Whoever finds damaged bytes sets them aside. So the name leads to its source now, or to the built-in model that
            // is put there anew. What was in the store, its owner chose: whoever asks now, it may be fetched.
            Err(failure) if failure.kind == ErrorKind::Storage && self.is_gone(&target) => {
                tracing::warn!(model = reference, "is brought again: {failure}");
                self.lead(&self.target(&names, reference, Origin::Owner)?, reference)
            }
            found => found,
        }
    }

    fn lead(&self, target: &Target, reference: &str) -> Result<Found, Failure> {
        if let Place::Away(reference) = &target.place {
            let settings = target.settings.clone();
            return Ok(Found::Away(Away { reference: reference.clone(), settings }));
        }
        let adapted = self.adapt(target)?;
        Ok(match self.with_needs(Arc::clone(&adapted.spec), target, &[reference])? {
            Need::Here(spec) => Found::Here(Adapted { spec, ..adapted }),
            Need::Away(away) => Found::Away(*away),
        })
    }

    /// Whether an artifact that was in the store is not any more.
    fn is_gone(&self, target: &Target) -> bool {
        let Place::Stored(artifact) = &target.place else { return false };
        let here = self.shelf.store().and_then(|store| Ok(store.artifact(&artifact.key_digest)?));
        matches!(here, Ok(None))
    }

    /// What people see of the model that `reference` names.
    pub(crate) fn describe(&self, reference: &str, origin: Origin) -> Result<ModelInfo, Failure> {
        self.describe_by(&self.names_now(), reference, origin)
    }

    fn describe_by(&self, names: &Arc<Names>, reference: &str, origin: Origin) -> Result<ModelInfo, Failure> {
        let target = self.target(names, reference, origin)?;
        let Adapted { spec, .. } = self.adapt(&target)?;
        // One that is still at its source can be met.
        self.with_needs(Arc::clone(&spec), &target, &[reference])?;
        let settings = settings_with(&self.customs(&target), &spec, &target.settings);
        Ok(ModelInfo::new(&spec, target.kind, &settings))
    }

    /// Every model that requests may name; those that are gone, broken or not fetched yet are left out.
    pub(crate) fn list(&self) -> Vec<ModelInfo> {
        let names = self.names_now();
        let files: Vec<String> = self.seen().names.keys().cloned().collect();
        let stored = self.shelf.store().and_then(|store| Ok(store.list()?)).unwrap_or_default();
        let stored = stored.iter().filter(|artifact| !demo::is(artifact)).map(short_name);
        std::iter::once(demo::NAME.to_owned())
            .chain(names.aliases.keys().cloned())
            .chain(files)
            .chain(stored)
            .filter_map(|name| self.describe_by(&names, &name, Origin::Network).ok())
            .collect()
    }

    /// Refuses a model that could never be loaded here, judged by the first bytes of its first file, before
    /// the rest is fetched.
    pub(crate) fn judge(&self, away: &Away, head: &Head<'_>) -> Result<Judgement, Failure> {
        let descriptor = match head.descriptor()? {
            Ok(descriptor) => descriptor,
            Err(needed_bytes) => return Ok(Judgement::NeedsMore { needed_bytes }),
        };
        let layout = without_packed_file(&away.settings);
        let (_, footprint) = self.plan(&descriptor, &away.settings, layout)?;
        if footprint.total_bytes() <= self.budget_bytes {
            return Ok(Judgement::MayFit);
        }
        let mib = |bytes: u64| bytes.div_ceil(1 << 20);
        Err(Failure::new(
            ErrorKind::TooLarge,
            format!(
                "{} would need {} MiB of memory and the budget is {} MiB; nothing was fetched",
                away.reference,
                mib(footprint.total_bytes()),
                mib(self.budget_bytes)
            ),
        )
        .with_param("model")
        .with_hint("take a smaller quantization, less context_tokens, or raise pool.budget_bytes; `samovar pull` fetches it all the same"))
    }

    /// The names and settings of this moment, for all that is done for one request: what the owner changed is taken in.
    /// What was read of models is read again, since their settings may be others.
    fn names_now(&self) -> Arc<Names> {
        if self.names.catch_up() {
            self.seen().specs.clear();
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

    fn adapt(&self, target: &Target) -> Result<Adapted, Failure> {
        let mut spec = self.specify(target)?;
        let adapters = target.settings.adapters.clone();
        if !adapters.is_empty() {
            self.riders.check(&*self.engine, &spec, &adapters)?;
            spec = self.with_riders(spec, target);
        }
        let customs = self.customs(target);
        let template = settings_with(&customs, &spec, &target.settings).chat_template;
        let manners = Manners {
            special_tokens_in_content: target.settings.special_tokens_in_content,
            chat_template: template.as_ref().map(|template| self.templates.get(template)).transpose()?,
            system: customs.system.clone(),
            stop: customs.stop.clone(),
        };
        Ok(Adapted { spec, adapters, manners })
    }

    fn specify(&self, target: &Target) -> Result<Arc<ModelSpec>, Failure> {
        let stamp = match &target.place {
            Place::File(path) => Some(Stamp::of(path)?),
            _ => None,
        };
        let known = self.known(target, stamp.as_ref());
        let spec = match (known, &target.place) {
            (Some(spec), _) => spec,
            (None, Place::Stored(artifact)) => {
                let edition = self.packings.edition();
                self.meet(target, stamp, self.specify_stored(target, artifact)?, edition)
            }
            (None, Place::File(path)) => {
                let (now, edition) = (Stamp::of(path)?, self.packings.edition());
                let spec = self.specify_file(target, path, &now)?;
                self.meet(target, Some(now), spec, edition)
            }
            (None, Place::Away(reference)) => {
                let settings = target.settings.clone();
                return Err(Away { reference: reference.clone(), settings }.missing());
            }
        };
        if let Place::Stored(artifact) = &target.place {
            self.shelf.register(&spec.path, artifact.key_digest);
        }
        Ok(self.with_riders(spec, target))
    }

    /// What was read of these bytes, if they have not changed since.
    fn known(&self, target: &Target, stamp: Option<&Stamp>) -> Option<Arc<ModelSpec>> {
        let id = target.identity()?;
        let (spec, edition) = {
            let seen = self.seen();
            let known = seen.specs.get(&id).filter(|known| known.is_of(target))?;
            if known.stamp.as_ref() != stamp {
                return None;
            }
            (Arc::clone(&known.spec), known.edition)
        };
        let now = self.packings.edition();
        if edition == now {
            return Some(spec);
        }
        let refitted = self.refit(&spec, target);
        let mut seen = self.seen();
        let known = seen.specs.get_mut(&id).filter(|known| Arc::ptr_eq(&known.spec, &spec));
        if let Some(known) = known {
            known.edition = now;
            if let Some(refitted) = refitted {
                (known.spec, known.riding_bytes) = (Arc::new(refitted), 0);
            }
        }
        let known = seen.specs.get(&id).filter(|known| known.is_of(target));
        Some(known.map_or(spec, |known| Arc::clone(&known.spec)))
    }

    /// The specification with the layout of the next load, if that has changed.
    fn refit(&self, spec: &ModelSpec, target: &Target) -> Option<ModelSpec> {
        let subject = self.packings.subject(&spec.key)?;
        let layout = self.packings.choose(&subject).layout;
        if layout == spec.options.layout {
            return None;
        }
        let (options, predicted) = self.plan(&spec.descriptor, &target.settings, layout).ok()?;
        let footprint = self.experienced(target, &options).unwrap_or(predicted);
        Some(ModelSpec { options, footprint, ..spec.clone() })
    }

    /// What such a load was measured to cost.
    fn experienced(&self, target: &Target, options: &LoadOptions) -> Option<Footprint> {
        let Place::Stored(artifact) = &target.place else { return None };
        experience::recall(&self.shelf.store().ok()?, &artifact.key_digest, self.engine.name(), options)
    }

    /// Remembers a new specification, and looks at what other names will bring to its instances. `edition` is that from
    /// before its layout was chosen.
    fn meet(&self, target: &Target, stamp: Option<Stamp>, spec: ModelSpec, edition: u64) -> Arc<ModelSpec> {
        let spec = Arc::new(spec);
        if let Some(id) = target.identity() {
            let (names, spec) = (Arc::clone(&target.names), Arc::clone(&spec));
            let known = Known { stamp, names, spec, edition, riding_bytes: 0 };
            self.seen().specs.insert(id, known);
        }
        if self.engine.capabilities().can_adapt {
            for alias in target.names.aliases.values() {
                let adapters = alias.settings.or(&target.names.defaults).adapters;
                let is_over_it = || {
                    let place = self.place_of(&alias.source, &alias.name).ok();
                    place.and_then(|place| place.identity()) == target.place.identity()
                };
                if !adapters.is_empty() && is_over_it() {
                    // What is wrong with them is said when their name is used.
                    self.riders.check(&*self.engine, &spec, &adapters).ok();
                }
            }
        }
        spec
    }

    /// The specification with room for the adapters of all names over its bytes.
    fn with_riders(&self, spec: Arc<ModelSpec>, target: &Target) -> Arc<ModelSpec> {
        let riding_bytes = self.riders.bytes_on(&spec.path);
        let mut seen = self.seen();
        let known = target.identity().and_then(|id| seen.specs.get_mut(&id));
        let Some(known) = known.filter(|known| known.is_of(target)) else { return spec };
        if known.riding_bytes != riding_bytes {
            let mut spec = (*known.spec).clone();
            spec.footprint.held_bytes = spec.footprint.held_bytes - known.riding_bytes + riding_bytes;
            known.spec = Arc::new(spec);
            known.riding_bytes = riding_bytes;
        }
        Arc::clone(&known.spec)
    }

    /// The specification with these needs, in place of the one that is known: whatever else is new in that stays.
    fn remember_needs(
        &self,
        target: &Target,
        spec: &Arc<ModelSpec>,
        needs: Vec<Arc<ModelSpec>>,
    ) -> Arc<ModelSpec> {
        let mut seen = self.seen();
        let known = target.identity().and_then(|id| seen.specs.get_mut(&id));
        let known = known.filter(|known| known.is_of(target) && known.spec.key == spec.key);
        let now = known.as_ref().map_or(spec, |known| &known.spec);
        let with_needs = Arc::new(ModelSpec { needs, ..(**now).clone() });
        if let Some(known) = known {
            known.spec = Arc::clone(&with_needs);
        }
        with_needs
    }

    fn specify_file(&self, target: &Target, path: &Path, stamp: &Stamp) -> Result<ModelSpec, Failure> {
        let descriptor = Arc::new(gguf::inspect(path)?);
        let key = stamp.key(&target.settings);
        let source = Source::file(stamp);
        let (options, footprint) = self.fit(target, &key, source, path, &descriptor)?;
        let name = target.given_name.clone();
        let name = name.unwrap_or_else(|| name_file(&target.names, &mut self.seen(), path));
        Ok(ModelSpec {
            key,
            name,
            path: path.to_owned(),
            descriptor,
            options,
            footprint,
            load_ms: None,
            keep_alive: target.settings.keep_alive.unwrap_or_default(),
            instances: target.settings.instances(),
            needs: Vec::new(),
        })
    }

    fn specify_stored(&self, target: &Target, artifact: &Artifact) -> Result<ModelSpec, Failure> {
        let store = self.shelf.store()?;
        // The lease ends with this function; whoever loads takes another.
        let opened = store.look_at(&artifact.key_digest)?;
        let weights = opened.weights();
        let path = weights.first().filter(|_| is_gguf(artifact)).ok_or_else(|| no_engine_for(artifact))?;
        let descriptor = Arc::new(gguf::inspect_parts(weights)?);
        let key = key(&artifact.key_digest, &target.settings);
        let source = Source::artifact(artifact.key_digest);
        let (options, predicted) = self.fit(target, &key, source, path, &descriptor)?;
        let measured = self.experienced(target, &options);
        let name = target.given_name.clone().unwrap_or_else(|| short_name(artifact));
        Ok(ModelSpec {
            key,
            name,
            path: path.clone(),
            descriptor,
            options,
            footprint: measured.unwrap_or(predicted),
            load_ms: (artifact.usage.loads > 0).then_some(artifact.usage.load_ms as u64),
            keep_alive: target.settings.keep_alive.unwrap_or_default(),
            instances: target.settings.instances(),
            needs: Vec::new(),
        })
    }

    /// Chooses the layout of the next load, and plans that.
    fn fit(
        &self,
        target: &Target,
        key: &ModelKey,
        source: Source,
        path: &Path,
        descriptor: &Arc<Descriptor>,
    ) -> Result<(LoadOptions, Footprint), Failure> {
        let settings = &target.settings;
        let planned = self.plan(descriptor, settings, without_packed_file(settings))?;
        if let Some(asked) = settings.context_tokens.filter(|asked| *asked > planned.0.context_tokens) {
            let (model, trained) = (path.display(), planned.0.context_tokens);
            tracing::warn!(%model, asked, trained, "the context is no larger than the model was trained with");
        }
        let as_hybrid = LoadOptions { layout: Layout::Hybrid, ..planned.0.clone() };
        let hybrid = self.engine.footprint(descriptor, &as_hybrid);
        let subject = Subject {
            source,
            path: path.to_owned(),
            descriptor: Arc::clone(descriptor),
            options: planned.0.clone(),
            wish: settings.layout.unwrap_or_default(),
            hybrid_bytes: hybrid.map_or(u64::MAX, Footprint::total_bytes),
        };
        let layout = self.packings.meet(key, subject).layout;
        if layout == planned.0.layout { Ok(planned) } else { self.plan(descriptor, settings, layout) }
    }

    fn plan(
        &self,
        descriptor: &Descriptor,
        settings: &ModelSettings,
        layout: Layout,
    ) -> Result<(LoadOptions, Footprint), Failure> {
        plan::plan(&*self.engine, descriptor, settings, layout, self.budget_bytes)
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        // Every change to the maps is a single insert: a panic elsewhere cannot leave them half-made.
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The file's short name, remembered: later requests may use it, also over the network. A file whose short name is
/// taken goes by its path.
fn name_file(names: &Names, seen: &mut Seen, path: &Path) -> String {
    let short = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    let is_free = !names.aliases.contains_key(&short)
        && matches!(short.parse::<ModelRef>(), Ok(ModelRef::Alias(_)))
        && seen.names.get(&short).is_none_or(|other| other == path);
    if !is_free {
        return path.to_string_lossy().into_owned();
    }
    seen.names.insert(short.clone(), path.to_owned());
    short
}

/// Names that wish for different layouts or KV formats have different instances, also of the same bytes. Which layout
/// a wish comes to changes with what is known, and makes no other instance.
fn key(bytes: &dyn std::fmt::Display, settings: &ModelSettings) -> ModelKey {
    let (wish, kv_type) = (settings.layout.unwrap_or_default(), settings.kv_type.unwrap_or_default());
    ModelKey::new(format!("{bytes}-{wish}-{kv_type:?}"))
}

/// The layout of a load that finds no packed file.
fn without_packed_file(settings: &ModelSettings) -> Layout {
    match settings.layout {
        Some(LayoutWish::Repacked) => Layout::Repacked,
        _ => Layout::Mapped,
    }
}
