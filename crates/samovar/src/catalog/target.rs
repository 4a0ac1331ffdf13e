//! From a name to the bytes that it means, and the settings that go with them.
//!
//! An alias wins over every other reading. Whatever a stranger names must have been named by the owner before, or lie
//! in the store: no path and no address out of a request is followed.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use samovar_core::model::ArtifactRef;
use samovar_core::{ErrorKind, Failure, ModelRef};
use samovar_store::{Artifact, KeyDigest};

use super::created::Created;
use super::names::Names;
use super::published::Published;
use super::stored::short_name;
use super::{AskedContext, Catalog, Kind, demo, stamp};
use crate::request::Origin;
use crate::settings::ModelSettings;

/// A model that is not on this machine.
#[derive(Clone, Debug)]
pub(crate) struct Remote {
    pub(crate) reference: ArtifactRef,
    pub(crate) settings: ModelSettings,
    /// What the request for which it would be fetched asks for.
    pub(super) asked_context: Option<AskedContext>,
}

impl Remote {
    /// What is said where nothing may be fetched.
    pub(crate) fn missing(&self) -> Failure {
        Failure::new(ErrorKind::NotFound, format!("`{}` is not on this machine", self.reference))
            .with_param("model")
            .with_hint(format!("fetch it: samovar pull {}", self.reference))
    }
}

/// What keeps a model from being loaded at once, and can be helped.
#[derive(Clone, Debug)]
pub(crate) enum Absent {
    /// It is not on this machine.
    Remote(Box<Remote>),
    /// It is here as its author published it, and has to be prepared.
    Unprepared(Published),
}

impl Absent {
    /// What is said where it may not be helped.
    pub(crate) fn missing(&self) -> Failure {
        match self {
            Self::Remote(remote) => remote.missing(),
            Self::Unprepared(published) => published.missing(),
        }
    }
}

/// Which bytes a name means.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Identity {
    File(PathBuf),
    Stored(KeyDigest),
}

/// A model's bytes and settings, before they are looked at.
pub(super) struct Target {
    /// The name that its owner or we gave it; a file without one is named after itself once it was read.
    pub(super) given_name: Option<String>,
    pub(super) place: ModelLocation,
    pub(super) settings: ModelSettings,
    pub(super) kind: Kind,
    /// What a user created under this name.
    pub(super) created: Option<Arc<Created>>,
    /// Those of the moment at which the request came.
    pub(super) names: Arc<Names>,
}

pub(super) enum ModelLocation {
    File(PathBuf),
    Stored(Box<Artifact>),
    Remote(ArtifactRef),
}

impl ModelLocation {
    /// Which bytes lie there.
    pub(super) fn identity(&self) -> Option<Identity> {
        match self {
            Self::File(path) => Some(Identity::File(path.clone())),
            Self::Stored(artifact) => Some(Identity::Stored(artifact.key_digest)),
            Self::Remote(_) => None,
        }
    }
}

impl Catalog {
    pub(super) fn target(
        &self,
        names: &Arc<Names>,
        reference: &str,
        origin: Origin,
    ) -> Result<Target, Failure> {
        let created = names.created.get(reference);
        match created.filter(|_| !names.aliases.contains_key(reference)) {
            Some(created) => self.of_created(names, created),
            None => self.target_but_created(names, reference, origin),
        }
    }

    /// The same, where no name counts that a user created.
    pub(super) fn target_but_created(
        &self,
        names: &Arc<Names>,
        reference: &str,
        origin: Origin,
    ) -> Result<Target, Failure> {
        // An alias wins over every other reading of the name, so that an owner may redirect any.
        if let Some(alias) = names.aliases.get(reference) {
            let settings = alias.settings.or(&names.defaults);
            let place = self.place_of(&alias.source, reference)?;
            let (given_name, names) = (Some(alias.name.clone()), Arc::clone(names));
            return Ok(Target { given_name, place, settings, kind: Kind::Config, created: None, names });
        }
        let read = reference.parse::<ModelRef>().map_err(|error| match origin {
            Origin::Owner => Failure::from(error),
            // A client of the network may write nothing but a name.
            Origin::Network => Failure::from(error).with_hint(format!("write {}", self.known_names(names))),
        });
        match read? {
            ModelRef::Demo => Ok(Target {
                given_name: Some(demo::NAME.to_owned()),
                place: self.demo()?,
                settings: names.defaults.clone(),
                kind: Kind::BuiltIn,
                created: None,
                names: Arc::clone(names),
            }),
            ModelRef::File(path) if origin == Origin::Owner => Ok(file(names, existing(&path)?)),
            ModelRef::File(_) => Err(Failure::new(
                ErrorKind::Forbidden,
                "requests over the network may not name files",
            )
            .with_param("model")
            .with_hint("give the file a name under [models.NAME] in samovar.toml, or load it once with `samovar warm FILE`")),
            ModelRef::Alias(name) => self.named(names, name.as_str(), origin),
            ModelRef::Hub(hub) => self.fetchable(names, ArtifactRef::Hub(hub), origin),
            ModelRef::Remote(remote) => self.fetchable(names, ArtifactRef::Remote(remote), origin),
        }
    }

    /// What a name stands for: a configured name's source, or itself.
    ///
    /// # Errors
    /// `InvalidRequest` for text that names no model.
    pub(crate) fn meaning(&self, name: &str) -> Result<ModelRef, Failure> {
        match self.configured(name) {
            Some(source) => Ok(source),
            None => Ok(name.parse::<ModelRef>()?),
        }
    }

    /// The source of a configured name.
    pub(crate) fn configured(&self, name: &str) -> Option<ModelRef> {
        self.names_now().aliases.get(name).map(|alias| alias.source.clone())
    }

    fn named(&self, names: &Arc<Names>, name: &str, origin: Origin) -> Result<Target, Failure> {
        let path = self.file_names().get(name).cloned();
        path.map(|path| file(names, path)).ok_or_else(|| self.unknown(names, name, origin))
    }

    /// A model of a source. What strangers name must be here already: no address out of a request is fetched.
    fn fetchable(
        &self,
        names: &Arc<Names>,
        reference: ArtifactRef,
        origin: Origin,
    ) -> Result<Target, Failure> {
        let (settings, kind, names) = (names.defaults.clone(), Kind::Stored, Arc::clone(names));
        match self.stored_or_remote(reference)? {
            ModelLocation::Stored(artifact) => {
                let given_name = Some(short_name(&artifact));
                let place = ModelLocation::Stored(artifact);
                Ok(Target { given_name, place, settings, kind, created: None, names })
            }
            ModelLocation::Remote(reference) if origin == Origin::Network => {
                Err(Failure::new(ErrorKind::NotFound, format!("`{reference}` is not on this machine"))
                    .with_param("model")
                    .with_hint(format!("its owner can fetch it: samovar pull {reference}")))
            }
            place => Ok(Target { given_name: None, place, settings, kind, created: None, names }),
        }
    }

    fn stored_or_remote(&self, reference: ArtifactRef) -> Result<ModelLocation, Failure> {
        Ok(match self.lazy_store.store()?.find(&reference)? {
            Some(artifact) => ModelLocation::Stored(Box::new(artifact)),
            None => ModelLocation::Remote(reference),
        })
    }

    fn demo(&self) -> Result<ModelLocation, Failure> {
        Ok(ModelLocation::Stored(Box::new(demo::artifact(&self.lazy_store.store()?)?)))
    }

    pub(super) fn place_of(&self, source: &ModelRef, alias: &str) -> Result<ModelLocation, Failure> {
        match source {
            ModelRef::Demo => self.demo(),
            ModelRef::File(path) => existing(path).map(ModelLocation::File),
            ModelRef::Alias(other) => Err(Failure::new(
                ErrorKind::InvalidRequest,
                format!("the alias `{alias}` points at another alias, `{}`", other.as_str()),
            )
            .with_hint("point it at a file, a hub model or `demo`")),
            ModelRef::Hub(hub) => self.stored_or_remote(ArtifactRef::Hub(hub.clone())),
            ModelRef::Remote(remote) => self.stored_or_remote(ArtifactRef::Remote(remote.clone())),
        }
    }

    /// What is said of an unknown name. The hint is the likeliest one, of what the client may do.
    fn unknown(&self, names: &Names, name: &str, origin: Origin) -> Failure {
        let hint = match origin {
            Origin::Network => format!("write {}", self.known_names(names)),
            Origin::Owner if is_of_ollama(name) => {
                format!("a model of Ollama's registry is written with its scheme: ollama://{name}")
            }
            Origin::Owner => format!(
                "write organisation/name for a model of the hub, ./{name}.gguf for a file, or {}",
                self.known_names(names)
            ),
        };
        Failure::new(ErrorKind::NotFound, format!("there is no model named `{name}`"))
            .with_param("model")
            .with_hint(hint)
    }

    /// The names that requests may use, as many as a sentence holds.
    fn known_names(&self, names: &Names) -> String {
        const MOST: usize = 8;
        let mut known: Vec<String> = vec![demo::NAME.to_owned()];
        known.extend(names.aliases.keys().cloned());
        known.extend(names.created.keys().cloned());
        known.extend(self.file_names().keys().cloned());
        let more = known.len().saturating_sub(MOST);
        known.truncate(MOST);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        format!("one of the names that are known: {}{more}", known.join(", "))
    }
}

fn file(names: &Arc<Names>, path: PathBuf) -> Target {
    let (settings, names) = (names.defaults.clone(), Arc::clone(names));
    let place = ModelLocation::File(path);
    Target { given_name: None, place, settings, kind: Kind::File, created: None, names }
}

/// Whether a name is written as Ollama's users write models: with a tag.
fn is_of_ollama(name: &str) -> bool {
    name.contains(':') && format!("ollama://{name}").parse::<ModelRef>().is_ok()
}

/// The path without links, so that one file has one name.
pub(super) fn existing(path: &Path) -> Result<PathBuf, Failure> {
    fs_err::canonicalize(path).map_err(|error| stamp::unreadable(path, &error))
}
