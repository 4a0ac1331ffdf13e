//! From what a user writes to what the pool can load: names, files, headers, options.
//!
//! ```text
//!   "demo" ───────────────► built-in file ─┐
//!   "tiny" ──► alias ──────► file ─────────┼─► stamp ─► header (the gate) ─► options ─► footprint ─► ModelSpec
//!   "./m.gguf" ────────────────────────────┘      └─ unchanged since last time: the same ModelSpec
//! ```
//!
//! A file that was read once is remembered with its stamp (device, inode, size, time), so that a later
//! request costs one `stat`. Nothing here loads weights.

mod demo;
mod info;
mod plan;

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use samovar_core::format::gguf;
use samovar_core::port::Engine;
use samovar_core::{ErrorKind, Failure, ModelKey, ModelRef};
use samovar_pool::{ModelSpec, PoolConfig};

pub(crate) use info::Kind;
pub use info::ModelInfo;

use crate::request::Origin;
use crate::settings::{Alias, ModelSettings};

/// Names and files that are known, and what was read of them.
pub(crate) struct Catalog {
    demo: demo::Demo,
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
    specs: HashMap<(Option<String>, PathBuf), (Stamp, Arc<ModelSpec>)>,
}

/// A model's file and settings, before the file is looked at.
struct Target {
    /// The name that its owner or we gave it; a file without one is named after itself once it was read.
    given_name: Option<String>,
    path: PathBuf,
    settings: ModelSettings,
    kind: Kind,
}

impl Catalog {
    pub(crate) fn new(
        cache_dir: &Path,
        aliases: Vec<Alias>,
        defaults: ModelSettings,
        pool: &PoolConfig,
        engine: Arc<dyn Engine>,
    ) -> Self {
        let aliases = aliases.into_iter().map(|alias| (alias.name.clone(), alias)).collect();
        Self {
            demo: demo::Demo::under(cache_dir),
            aliases,
            defaults,
            budget_bytes: pool.budget.bytes,
            engine,
            seen: Mutex::default(),
        }
    }

    /// What the pool needs to load the model that `reference` names. Reads only the file's header,
    /// and that only when the file is new or changed.
    pub(crate) fn resolve(&self, reference: &str, origin: Origin) -> Result<Arc<ModelSpec>, Failure> {
        let target = self.target(reference, origin)?;
        self.specify(&target)
    }

    /// What people see of the model that `reference` names.
    pub(crate) fn describe(&self, reference: &str, origin: Origin) -> Result<ModelInfo, Failure> {
        let target = self.target(reference, origin)?;
        let spec = self.specify(&target)?;
        Ok(ModelInfo::new(&spec, target.kind))
    }

    /// Every model that requests may name; those whose file is gone or broken are left out.
    pub(crate) fn list(&self) -> Vec<ModelInfo> {
        let files: Vec<String> = self.seen().names.keys().cloned().collect();
        std::iter::once(demo::NAME.to_owned())
            .chain(self.aliases.keys().cloned())
            .chain(files)
            .filter_map(|name| self.describe(&name, Origin::Network).ok())
            .collect()
    }

    fn target(&self, reference: &str, origin: Origin) -> Result<Target, Failure> {
        // An alias wins over every other reading of the name, so that an owner may redirect any.
        if let Some(alias) = self.aliases.get(reference) {
            let settings = alias.settings.or(&self.defaults);
            let path = self.file_of(&alias.source, reference)?;
            return Ok(Target { given_name: Some(alias.name.clone()), path, settings, kind: Kind::Config });
        }
        match reference.parse::<ModelRef>()? {
            ModelRef::Demo => Ok(Target {
                given_name: Some(demo::NAME.to_owned()),
                path: self.demo.unpacked()?,
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
            hub @ (ModelRef::Hub(_) | ModelRef::Remote(_)) => Err(not_yet(&hub)),
        }
    }

    fn named(&self, name: &str) -> Result<Target, Failure> {
        let path = self.seen().names.get(name).cloned();
        path.map(|path| self.file(path)).ok_or_else(|| self.unknown(name))
    }

    fn file(&self, path: PathBuf) -> Target {
        Target { given_name: None, path, settings: self.defaults.clone(), kind: Kind::File }
    }

    fn file_of(&self, source: &ModelRef, alias: &str) -> Result<PathBuf, Failure> {
        match source {
            ModelRef::Demo => self.demo.unpacked(),
            ModelRef::File(path) => existing(path),
            ModelRef::Alias(other) => Err(Failure::new(
                ErrorKind::InvalidRequest,
                format!("the alias `{alias}` points at another alias, `{}`", other.as_str()),
            )
            .with_hint("point it at a file or at `demo`")),
            hub @ (ModelRef::Hub(_) | ModelRef::Remote(_)) => Err(not_yet(hub)),
        }
    }

    fn unknown(&self, name: &str) -> Failure {
        let mut known: Vec<String> = vec![demo::NAME.to_owned()];
        known.extend(self.aliases.keys().cloned());
        known.extend(self.seen().names.keys().cloned());
        Failure::new(ErrorKind::NotFound, format!("there is no model named `{name}`"))
            .with_param("model")
            .with_hint(format!(
                "known models: {}; a file is named by its path, such as ./{name}.gguf",
                known.join(", ")
            ))
    }

    fn specify(&self, target: &Target) -> Result<Arc<ModelSpec>, Failure> {
        let stamp = Stamp::of(&target.path)?;
        let id = (target.given_name.clone(), target.path.clone());
        if let Some((known, spec)) = self.seen().specs.get(&id)
            && *known == stamp
        {
            return Ok(Arc::clone(spec));
        }
        let descriptor = gguf::inspect(&target.path)?;
        let (options, footprint) =
            plan::plan(&*self.engine, &descriptor, &target.settings, self.budget_bytes)?;
        let mut seen = self.seen();
        let name = target.given_name.clone().unwrap_or_else(|| self.name_file(&mut seen, &target.path));
        let spec = Arc::new(ModelSpec {
            key: stamp.key(&options),
            name,
            path: target.path.clone(),
            descriptor: Arc::new(descriptor),
            options,
            footprint,
            load_ms: None,
            keep_alive: target.settings.keep_alive.unwrap_or_default(),
        });
        seen.specs.insert(id, (stamp, Arc::clone(&spec)));
        Ok(spec)
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

fn not_yet(reference: &ModelRef) -> Failure {
    Failure::new(
        ErrorKind::Unsupported,
        format!("`{reference}` would have to be fetched: sources come with the store"),
    )
    .with_param("model")
    .with_hint("download the GGUF file yourself and name it by its path, such as ./model.gguf")
}

/// What tells an unchanged file from a replaced one without reading it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified_ns: i128,
}

impl Stamp {
    #[cfg(unix)]
    fn of(path: &Path) -> Result<Self, Failure> {
        use std::os::unix::fs::MetadataExt;
        let facts = metadata(path)?;
        Ok(Self {
            device: facts.dev(),
            inode: facts.ino(),
            size: facts.size(),
            modified_ns: i128::from(facts.mtime()) * 1_000_000_000 + i128::from(facts.mtime_nsec()),
        })
    }

    #[cfg(not(unix))]
    fn of(path: &Path) -> Result<Self, Failure> {
        let facts = metadata(path)?;
        let modified = facts.modified().ok().and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok());
        Ok(Self {
            device: 0,
            inode: 0,
            size: facts.len(),
            modified_ns: modified.map_or(0, |time| time.as_nanos() as i128),
        })
    }

    /// Instances that differ in layout or KV format are different ones, also of the same file.
    fn key(&self, options: &samovar_core::LoadOptions) -> ModelKey {
        let Self { device, inode, size, modified_ns } = self;
        ModelKey::new(format!(
            "{device:x}-{inode:x}-{size:x}-{modified_ns:x}-{:?}-{:?}",
            options.layout, options.kv_type
        ))
    }
}

fn metadata(path: &Path) -> Result<std::fs::Metadata, Failure> {
    fs_err::metadata(path)
        .map_err(|error| Failure::new(ErrorKind::Storage, error.to_string()).with_param("model"))
}
