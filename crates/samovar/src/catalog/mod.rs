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
mod demo;
mod head;
mod info;
mod needs;
mod plan;
mod stamp;
mod stored;

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use samovar_core::footprint::{Footprint, LoadOptions};
use samovar_core::format::gguf;
use samovar_core::model::ArtifactRef;
use samovar_core::port::Engine;
use samovar_core::{Descriptor, ErrorKind, Failure, ModelKey, ModelRef};
use samovar_pool::{ModelSpec, PoolConfig};
use samovar_store::{Artifact, KeyDigest};

pub(crate) use adapted::Adapted;
pub(crate) use head::{Head, Judgement};
pub(crate) use info::Kind;
pub use info::ModelInfo;
use needs::Need;

use crate::experience;
use crate::request::Origin;
use crate::settings::{Alias, ModelSettings};
use crate::shelf::Shelf;
pub(crate) use stamp::Stamp;
use stored::{is_gguf, no_engine_for, short_name};

/// Names, files and artifacts that are known, and what was read of them.
pub(crate) struct Catalog {
    shelf: Arc<Shelf>,
    aliases: BTreeMap<String, Alias>,
    defaults: ModelSettings,
    budget_bytes: u64,
    engine: Arc<dyn Engine>,
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    /// Files that the owner used, under the short name that everyone may use from then on.
    names: BTreeMap<String, PathBuf>,
    specs: HashMap<(Option<String>, Identity), Known>,
    adapters: adapted::Passed,
}

/// What was read of some bytes.
struct Known {
    /// The file as it was then; an artifact needs none, since its key fixes its content.
    stamp: Option<Stamp>,
    spec: Arc<ModelSpec>,
}

/// Which bytes a name means.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Identity {
    File(PathBuf),
    Stored(KeyDigest),
}

/// Where a name leads.
pub(crate) enum Found {
    /// To a model that can be loaded.
    Here(Adapted),
    /// To one that has to be fetched first.
    Away(Away),
}

/// A model that is not on this machine.
#[derive(Clone, Debug)]
pub(crate) struct Away {
    pub(crate) reference: ArtifactRef,
    settings: ModelSettings,
}

impl Away {
    /// What is said where nothing may be fetched.
    pub(crate) fn missing(&self) -> Failure {
        Failure::new(ErrorKind::NotFound, format!("`{}` is not on this machine", self.reference))
            .with_param("model")
            .with_hint(format!("fetch it: samovar pull {}", self.reference))
    }
}

/// A model's bytes and settings, before they are looked at.
struct Target {
    /// The name that its owner or we gave it; a file without one is named after itself once it was read.
    given_name: Option<String>,
    place: Place,
    settings: ModelSettings,
    kind: Kind,
}

enum Place {
    File(PathBuf),
    Stored(Box<Artifact>),
    Away(ArtifactRef),
}

impl Catalog {
    pub(crate) fn new(
        shelf: Arc<Shelf>,
        aliases: Vec<Alias>,
        defaults: ModelSettings,
        pool: &PoolConfig,
        engine: Arc<dyn Engine>,
    ) -> Self {
        let aliases = aliases.into_iter().map(|alias| (alias.name.clone(), alias)).collect();
        Self { shelf, aliases, defaults, budget_bytes: pool.budget.bytes, engine, seen: Mutex::default() }
    }

    /// Where the name leads. Reads only headers, and those only when they are new or changed.
    pub(crate) fn find(&self, reference: &str, origin: Origin) -> Result<Found, Failure> {
        let target = self.target(reference, origin)?;
        if let Place::Away(reference) = &target.place {
            return Ok(Found::Away(Away { reference: reference.clone(), settings: target.settings }));
        }
        let Adapted { spec, adapters } = self.adapt(&target)?;
        Ok(match self.with_needs(spec, &target, &[reference])? {
            Need::Here(spec) => Found::Here(Adapted { spec, adapters }),
            Need::Away(away) => Found::Away(away),
        })
    }

    /// What people see of the model that `reference` names.
    pub(crate) fn describe(&self, reference: &str, origin: Origin) -> Result<ModelInfo, Failure> {
        let target = self.target(reference, origin)?;
        let Adapted { spec, adapters } = self.adapt(&target)?;
        Ok(ModelInfo::new(&spec, target.kind, &adapters))
    }

    /// Every model that requests may name; those that are gone, broken or not fetched yet are left out.
    pub(crate) fn list(&self) -> Vec<ModelInfo> {
        let files: Vec<String> = self.seen().names.keys().cloned().collect();
        let stored = self.shelf.store().and_then(|store| Ok(store.list()?)).unwrap_or_default();
        let stored = stored.iter().filter(|artifact| !demo::is(artifact)).map(short_name);
        std::iter::once(demo::NAME.to_owned())
            .chain(self.aliases.keys().cloned())
            .chain(files)
            .chain(stored)
            .filter_map(|name| self.describe(&name, Origin::Network).ok())
            .collect()
    }

    /// Refuses a model that could never be loaded here, judged by the first bytes of its first file, before
    /// the rest is fetched.
    pub(crate) fn judge(&self, away: &Away, head: &Head<'_>) -> Result<Judgement, Failure> {
        let descriptor = match head.descriptor()? {
            Ok(descriptor) => descriptor,
            Err(needed_bytes) => return Ok(Judgement::NeedsMore { needed_bytes }),
        };
        let (_, footprint) = plan::plan(&*self.engine, &descriptor, &away.settings, self.budget_bytes)?;
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

    fn target(&self, reference: &str, origin: Origin) -> Result<Target, Failure> {
        // An alias wins over every other reading of the name, so that an owner may redirect any.
        if let Some(alias) = self.aliases.get(reference) {
            let settings = alias.settings.or(&self.defaults);
            let place = self.place_of(&alias.source, reference)?;
            return Ok(Target { given_name: Some(alias.name.clone()), place, settings, kind: Kind::Config });
        }
        match reference.parse::<ModelRef>()? {
            ModelRef::Demo => Ok(Target {
                given_name: Some(demo::NAME.to_owned()),
                place: self.demo()?,
                settings: self.defaults.clone(),
                kind: Kind::BuiltIn,
            }),
            ModelRef::File(path) if origin == Origin::Owner => Ok(self.file(existing(&path)?)),
            ModelRef::File(_) => Err(Failure::new(
                ErrorKind::Forbidden,
                "requests over the network may not name files",
            )
            .with_param("model")
            .with_hint("give the file a name under [models.NAME] in samovar.toml, or load it once with `samovar warm FILE`")),
            ModelRef::Alias(name) => self.named(name.as_str()),
            ModelRef::Hub(hub) => self.fetchable(ArtifactRef::Hub(hub), origin),
            ModelRef::Remote(remote) => self.fetchable(ArtifactRef::Remote(remote), origin),
        }
    }

    fn named(&self, name: &str) -> Result<Target, Failure> {
        let path = self.seen().names.get(name).cloned();
        path.map(|path| self.file(path)).ok_or_else(|| self.unknown(name))
    }

    fn file(&self, path: PathBuf) -> Target {
        Target {
            given_name: None,
            place: Place::File(path),
            settings: self.defaults.clone(),
            kind: Kind::File,
        }
    }

    /// A model of a source. What strangers name must be here already: no address out of a request is fetched.
    fn fetchable(&self, reference: ArtifactRef, origin: Origin) -> Result<Target, Failure> {
        let (settings, kind) = (self.defaults.clone(), Kind::Stored);
        match self.stored_or_away(reference)? {
            Place::Stored(artifact) => {
                let given_name = Some(short_name(&artifact));
                Ok(Target { given_name, place: Place::Stored(artifact), settings, kind })
            }
            Place::Away(reference) if origin == Origin::Network => {
                Err(Failure::new(ErrorKind::NotFound, format!("`{reference}` is not on this machine"))
                    .with_param("model")
                    .with_hint(format!("its owner can fetch it: samovar pull {reference}")))
            }
            place => Ok(Target { given_name: None, place, settings, kind }),
        }
    }

    fn stored_or_away(&self, reference: ArtifactRef) -> Result<Place, Failure> {
        Ok(match self.shelf.store()?.find(&reference)? {
            Some(artifact) => Place::Stored(Box::new(artifact)),
            None => Place::Away(reference),
        })
    }

    fn demo(&self) -> Result<Place, Failure> {
        Ok(Place::Stored(Box::new(demo::artifact(&self.shelf.store()?)?)))
    }

    fn place_of(&self, source: &ModelRef, alias: &str) -> Result<Place, Failure> {
        match source {
            ModelRef::Demo => self.demo(),
            ModelRef::File(path) => existing(path).map(Place::File),
            ModelRef::Alias(other) => Err(Failure::new(
                ErrorKind::InvalidRequest,
                format!("the alias `{alias}` points at another alias, `{}`", other.as_str()),
            )
            .with_hint("point it at a file, a hub model or `demo`")),
            ModelRef::Hub(hub) => self.stored_or_away(ArtifactRef::Hub(hub.clone())),
            ModelRef::Remote(remote) => self.stored_or_away(ArtifactRef::Remote(remote.clone())),
        }
    }

    fn unknown(&self, name: &str) -> Failure {
        let mut known: Vec<String> = vec![demo::NAME.to_owned()];
        known.extend(self.aliases.keys().cloned());
        known.extend(self.seen().names.keys().cloned());
        Failure::new(ErrorKind::NotFound, format!("there is no model named `{name}`"))
            .with_param("model")
            .with_hint(format!(
                "known models: {}; a file is named by its path, such as ./{name}.gguf, a hub model by organisation/name",
                known.join(", ")
            ))
    }

    fn adapt(&self, target: &Target) -> Result<Adapted, Failure> {
        let spec = self.specify(target)?;
        let adapters = target.settings.adapters.clone();
        adapted::check(&*self.engine, &spec, &adapters, &mut self.seen().adapters)?;
        Ok(Adapted { spec, adapters })
    }

    fn specify(&self, target: &Target) -> Result<Arc<ModelSpec>, Failure> {
        let stamp = match &target.place {
            Place::File(path) => Some(Stamp::of(path)?),
            _ => None,
        };
        let id = identity(target)?;
        if let Some(known) = self.seen().specs.get(&id)
            && known.stamp == stamp
        {
            self.register(target, &known.spec);
            return Ok(Arc::clone(&known.spec));
        }
        let spec = match &target.place {
            Place::Stored(artifact) => self.specify_stored(target, artifact)?,
            _ => self.specify_file(target, &id.1, stamp.as_ref())?,
        };
        let spec = Arc::new(spec);
        self.register(target, &spec);
        self.seen().specs.insert(id, Known { stamp, spec: Arc::clone(&spec) });
        Ok(spec)
    }

    /// Remembers a specification in place of the one that is known, whose bytes it shares.
    fn remember_spec(&self, target: &Target, spec: &Arc<ModelSpec>) {
        let mut seen = self.seen();
        if let Some(known) = identity(target).ok().and_then(|id| seen.specs.get_mut(&id)) {
            known.spec = Arc::clone(spec);
        }
    }

    /// Tells the shelf which artifact this specification's path stands for.
    fn register(&self, target: &Target, spec: &ModelSpec) {
        if let Place::Stored(artifact) = &target.place {
            self.shelf.register(&spec.path, artifact.key_digest);
        }
    }

    fn specify_file(
        &self,
        target: &Target,
        identity: &Identity,
        stamp: Option<&Stamp>,
    ) -> Result<ModelSpec, Failure> {
        let (Identity::File(path), Some(stamp)) = (identity, stamp) else {
            return Err(Failure::new(ErrorKind::Internal, "a file without a stamp"));
        };
        let descriptor = gguf::inspect(path)?;
        let (options, footprint) = self.plan(&descriptor, &target.settings)?;
        let name = target.given_name.clone().unwrap_or_else(|| self.name_file(&mut self.seen(), path));
        let key = stamp.key(&options);
        Ok(ModelSpec {
            key,
            name,
            path: path.clone(),
            descriptor: Arc::new(descriptor),
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
        let descriptor = gguf::inspect_parts(weights)?;
        let (options, predicted) = self.plan(&descriptor, &target.settings)?;
        let measured = experience::recall(&store, &artifact.key_digest, self.engine.name(), &options);
        let name = target.given_name.clone().unwrap_or_else(|| short_name(artifact));
        let key =
            ModelKey::new(format!("{}-{:?}-{:?}", artifact.key_digest, options.layout, options.kv_type));
        Ok(ModelSpec {
            key,
            name,
            path: path.clone(),
            descriptor: Arc::new(descriptor),
            options,
            footprint: measured.unwrap_or(predicted),
            load_ms: (artifact.usage.loads > 0).then_some(artifact.usage.load_ms as u64),
            keep_alive: target.settings.keep_alive.unwrap_or_default(),
            instances: target.settings.instances(),
            needs: Vec::new(),
        })
    }

    fn plan(
        &self,
        descriptor: &Descriptor,
        settings: &ModelSettings,
    ) -> Result<(LoadOptions, Footprint), Failure> {
        plan::plan(&*self.engine, descriptor, settings, self.budget_bytes)
    }

    /// The file's short name, remembered: later requests may use it, also over the network. A file
    /// whose short name is taken goes by its path.
    fn name_file(&self, seen: &mut Seen, path: &Path) -> String {
        let short = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
        let is_free = !self.aliases.contains_key(&short)
            && matches!(short.parse::<ModelRef>(), Ok(ModelRef::Alias(_)))
            && seen.names.get(&short).is_none_or(|other| other == path);
        if !is_free {
            return path.to_string_lossy().into_owned();
        }
        seen.names.insert(short.clone(), path.to_owned());
        short
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        // Every change to the maps is a single insert: a panic elsewhere cannot leave them half-made.
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn identity(target: &Target) -> Result<(Option<String>, Identity), Failure> {
    let identity = match &target.place {
        Place::File(path) => Identity::File(path.clone()),
        Place::Stored(artifact) => Identity::Stored(artifact.key_digest),
        Place::Away(reference) => {
            let settings = target.settings.clone();
            return Err(Away { reference: reference.clone(), settings }.missing());
        }
    };
    Ok((target.given_name.clone(), identity))
}

fn existing(path: &Path) -> Result<PathBuf, Failure> {
    fs_err::canonicalize(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => {
            Failure::new(ErrorKind::NotFound, format!("there is no file {}", path.display()))
                .with_param("model")
                .with_hint("check the path; `samovar list` shows the models that have names")
        }
        _ => Failure::new(ErrorKind::Storage, error.to_string()).with_param("model"),
    })
}
