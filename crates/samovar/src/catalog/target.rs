//! From a name to the bytes that it means, and the settings that go with them.
//!
//! An alias wins over every other reading. Whatever a stranger names must have been named by the owner before, or lie
//! in the store: no path and no address out of a request is followed.

use std::path::{Path, PathBuf};

use samovar_core::model::ArtifactRef;
use samovar_core::{ErrorKind, Failure, ModelRef};
use samovar_store::{Artifact, KeyDigest};

use super::stored::short_name;
use super::{Catalog, Kind, demo, stamp};
use crate::request::Origin;
use crate::settings::ModelSettings;

/// A model that is not on this machine.
#[derive(Clone, Debug)]
pub(crate) struct Away {
    pub(crate) reference: ArtifactRef,
    pub(super) settings: ModelSettings,
}

impl Away {
    /// What is said where nothing may be fetched.
    pub(crate) fn missing(&self) -> Failure {
        Failure::new(ErrorKind::NotFound, format!("`{}` is not on this machine", self.reference))
            .with_param("model")
            .with_hint(format!("fetch it: samovar pull {}", self.reference))
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
    pub(super) place: Place,
    pub(super) settings: ModelSettings,
    pub(super) kind: Kind,
}

pub(super) enum Place {
    File(PathBuf),
    Stored(Box<Artifact>),
    Away(ArtifactRef),
}

impl Target {
    /// Which bytes it means, and under which name; nothing of what is not on this machine.
    pub(super) fn identity(&self) -> Option<(Option<String>, Identity)> {
        Some((self.given_name.clone(), self.place.identity()?))
    }
}

impl Place {
    /// Which bytes lie there.
    pub(super) fn identity(&self) -> Option<Identity> {
        match self {
            Self::File(path) => Some(Identity::File(path.clone())),
            Self::Stored(artifact) => Some(Identity::Stored(artifact.key_digest)),
            Self::Away(_) => None,
        }
    }
}

impl Catalog {
    pub(super) fn target(&self, reference: &str, origin: Origin) -> Result<Target, Failure> {
        self.catch_up();
        let names = self.names.now();
        // An alias wins over every other reading of the name, so that an owner may redirect any.
        if let Some(alias) = names.aliases.get(reference) {
            let settings = alias.settings.or(&names.defaults);
            let place = self.place_of(&alias.source, reference)?;
            return Ok(Target { given_name: Some(alias.name.clone()), place, settings, kind: Kind::Config });
        }
        match reference.parse::<ModelRef>()? {
            ModelRef::Demo => Ok(Target {
                given_name: Some(demo::NAME.to_owned()),
                place: self.demo()?,
                settings: names.defaults.clone(),
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
            settings: self.names.now().defaults.clone(),
            kind: Kind::File,
        }
    }

    /// A model of a source. What strangers name must be here already: no address out of a request is fetched.
    fn fetchable(&self, reference: ArtifactRef, origin: Origin) -> Result<Target, Failure> {
        let (settings, kind) = (self.names.now().defaults.clone(), Kind::Stored);
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

    pub(super) fn place_of(&self, source: &ModelRef, alias: &str) -> Result<Place, Failure> {
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
        known.extend(self.names.now().aliases.keys().cloned());
        known.extend(self.seen().names.keys().cloned());
        Failure::new(ErrorKind::NotFound, format!("there is no model named `{name}`"))
            .with_param("model")
            .with_hint(format!(
                "known models: {}; a file is named by its path, such as ./{name}.gguf, a hub model by organisation/name",
                known.join(", ")
            ))
    }
}

/// The path without links, so that one file has one name.
fn existing(path: &Path) -> Result<PathBuf, Failure> {
    fs_err::canonicalize(path).map_err(|error| stamp::unreadable(path, &error))
}
