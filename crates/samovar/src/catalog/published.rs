//! Models in the form in which their authors published them, which no engine maps: what they are prepared as, and whether they are.
//!
//! ```text
//!   an artifact of safetensors ─┐                        ┌─ there ─► facts, as of any file
//!                               ├─► source, key ─► peek ─┤
//!   a folder of the user ───────┘   number format        └─ not yet ─► the runtime prepares it first
//! ```
//!
//! The number format is that of the settings, else the one that the owner chose last with an order, else the default.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use samovar_core::{
    Descriptor, Digest, ErrorKind, Failure, Format, ModelFiles, Quantization, WeightsId, format,
};
use samovar_store::{Artifact, ArtifactKey, KeyDigest, Role};

use super::adapter_files::sides_of;
use super::customs::Customs;
use super::facts::{Facts, Purpose};
pub(crate) use super::folder::folder_digest;
use super::folder::{digest_of_path, source_of};
use super::target::{Absent, ModelLocation, Remote, Target};
use super::{AskedContext, Catalog};
use crate::preset::CreatedFrom;
use crate::request::Origin;
use crate::weights;

/// Ends what the store knows prepared adapters by.
const ADAPTER: &str = " adapter";

/// Whether the store knows a prepared adapter by this key.
pub(crate) fn is_adapter(key: &str) -> bool {
    key.ends_with(ADAPTER)
}

/// A published model under the settings of one of its names, or a published adapter of a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Published {
    /// What people call it; of an adapter, where it lies.
    pub(crate) name: String,
    /// Where it lies.
    pub(crate) place: PublishedPlace,
    /// The number format that it is prepared in.
    pub(crate) quantization: Quantization,
    /// Whether the settings name that format.
    pub(crate) is_set: bool,
    /// Versions of everything that decides which bytes are written.
    pub(super) preparer_key: String,
    /// The model that it is an adapter of; `None` for a model.
    pub(crate) base: Option<Arc<Descriptor>>,
    /// Where the owner's choice of a number format is kept. It outlives changes of a folder's files, and new commits. Adapters
    /// have none.
    pub(crate) choice: String,
}

/// Where a published model lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum PublishedPlace {
    /// In the store.
    Artifact(KeyDigest),
    /// In a folder of the user's, whose files were like this.
    Folder(PathBuf, Digest),
}

impl PublishedPlace {
    /// Where the model of a target lies, if it is a published one.
    pub(super) fn of(target: &Target) -> Result<Option<Self>, Failure> {
        Ok(match &target.place {
            ModelLocation::Stored(artifact) if is_published(artifact) => {
                Some(Self::Artifact(artifact.key_digest))
            }
            ModelLocation::File(path) if path.is_dir() => {
                Some(Self::Folder(path.clone(), folder_digest(path)?))
            }
            _ => None,
        })
    }

    /// What tells it from every other.
    pub(super) fn source(&self) -> String {
        match self {
            Self::Artifact(key) => format!("artifact-{key}"),
            Self::Folder(_, files) => format!("folder-{files}"),
        }
    }
}

/// What a name means to an owner who wants it prepared.
pub(crate) enum Publication {
    /// It has to be fetched first.
    Remote(Box<Remote>),
    /// A published model, prepared or not.
    Published(Published),
    /// A model that is mapped as it is, or that an engine runs as it was published.
    Mapped,
}

/// What a look at a target finds.
pub(super) enum Looked {
    /// A model that can be loaded.
    Here(Arc<Facts>),
    /// One that has to be fetched or prepared first.
    Absent(Absent),
}

impl Published {
    /// What the store knows the prepared file by. Of a folder it is the path, so that what was prepared of files that are not
    /// there any more makes room for what is prepared of the new ones.
    pub(crate) fn source(&self) -> String {
        match &self.place {
            PublishedPlace::Artifact(key) => format!("artifact-{key}"),
            PublishedPlace::Folder(path, _) => source_of(path),
        }
    }

    /// What the store tells preparations of one source apart by. It ends with the number format, or says that it is an adapter.
    pub(crate) fn key(&self) -> String {
        match &self.place {
            PublishedPlace::Artifact(_) => self.made_as(),
            PublishedPlace::Folder(_, files) => format!("files-{files} {}", self.made_as()),
        }
    }

    /// The same whatever the files of a folder are.
    pub(super) fn made_as(&self) -> String {
        match &self.base {
            Some(base) => format!("{} {}{ADAPTER}", self.preparer_key, sides_of(base)),
            None => format!("{} {}", self.preparer_key, self.quantization),
        }
    }

    /// The artifact that it is, if it is one.
    pub(crate) fn artifact(&self) -> Option<KeyDigest> {
        match &self.place {
            PublishedPlace::Artifact(key) => Some(*key),
            PublishedPlace::Folder(..) => None,
        }
    }

    /// The same in another number format.
    pub(crate) fn in_format(self, quantization: Quantization) -> Self {
        Self { quantization, ..self }
    }

    /// What is said where nothing may be prepared.
    pub(crate) fn missing(&self) -> Failure {
        let Self { name, quantization, .. } = self;
        if self.base.is_some() {
            return Failure::new(ErrorKind::Unsupported, format!("the adapter {name} is not prepared yet"))
                .with_param("model")
                .with_hint(
                    "the first request prepares it, and so does `samovar warm` of the name that has it",
                );
        }
        Failure::new(ErrorKind::Unsupported, format!("`{name}` is not prepared as {quantization} yet"))
            .with_param("model")
            .with_hint(format!("samovar prepare {name}"))
    }
}

/// Where the choice of a number format for an artifact is kept: that of all its commits.
pub(crate) fn artifact_choice(key: &ArtifactKey) -> String {
    let ArtifactKey { source, model, quant, .. } = key;
    let text = format!("{}\n{}\n{quant}", source.as_str(), model.as_str());
    format!("quantization/{}", Digest::of_bytes(text.as_bytes()))
}

/// Whether an artifact is one that has to be prepared: its weights are in safetensors.
pub(super) fn is_published(artifact: &Artifact) -> bool {
    let weights = artifact.files.iter().filter(|file| file.role == Role::Weights);
    let format_of = |file: &samovar_store::ArtifactFile| Format::of_extension(&file.path.extension()?);
    let mut formats = weights.map(format_of).peekable();
    formats.peek().is_some() && formats.all(|format| format == Some(Format::Safetensors))
}

impl Catalog {
    /// What has to happen before the target can be loaded: a fetch, or a preparation; `None` where nothing has to.
    ///
    /// # Errors
    /// Whatever keeps the store or a folder from being looked at.
    pub(super) fn absent(
        &self,
        target: &Target,
        asked_context: Option<AskedContext>,
    ) -> Result<Option<Absent>, Failure> {
        if let ModelLocation::Remote(reference) = &target.place {
            let (reference, settings) = (reference.clone(), target.settings.clone());
            return Ok(Some(Absent::Remote(Box::new(Remote { reference, settings, asked_context }))));
        }
        let Some(published) = self.published(target)? else { return Ok(None) };
        Ok(self.prepared(&published)?.is_none().then_some(Absent::Unprepared(published)))
    }

    /// What the bytes of a target say, or what has to happen before they can be read.
    ///
    /// # Errors
    /// Whatever is wrong with the target or its file.
    pub(super) fn look(
        &self,
        target: &Target,
        asked_context: Option<AskedContext>,
    ) -> Result<Looked, Failure> {
        if let Some(absent) = self.absent(target, asked_context)? {
            return Ok(Looked::Absent(absent));
        }
        match self.facts_of(target) {
            Ok(facts) => Ok(Looked::Here(facts)),
            // A prepared file that turned out to be damaged has been removed, and another process may have collected a sound one.
            Err(failure) => self.absent(target, asked_context)?.map(Looked::Absent).ok_or(failure),
        }
    }

    /// What a name means to an owner who wants it prepared.
    ///
    /// # Errors
    /// Whatever keeps the name from being found.
    pub(crate) fn publication(&self, reference: &str) -> Result<Publication, Failure> {
        let target = self.target(&self.names_now(), reference, Origin::Owner)?;
        if let ModelLocation::Remote(reference) = &target.place {
            let (reference, settings) = (reference.clone(), target.settings.clone());
            return Ok(Publication::Remote(Box::new(Remote { reference, settings, asked_context: None })));
        }
        Ok(self.published(&target)?.map_or(Publication::Mapped, Publication::Published))
    }

    /// Where the prepared file lies, and what it is known by, if there is one.
    pub(crate) fn prepared(&self, published: &Published) -> Result<Option<(PathBuf, Digest)>, Failure> {
        Ok(self.lazy_store.store()?.prepared().peek(&published.source(), &published.key()))
    }

    /// The published model of a target that is to be prepared; `None` for one that an engine runs as it is, or where nothing is
    /// prepared.
    pub(super) fn published(&self, target: &Target) -> Result<Option<Published>, Failure> {
        let Some(place) = PublishedPlace::of(target)? else { return Ok(None) };
        let choice = match &target.place {
            ModelLocation::Stored(artifact) => artifact_choice(&artifact.key),
            ModelLocation::File(path) => format!("quantization/{}", digest_of_path(path)),
            ModelLocation::Remote(_) => return Ok(None),
        };
        if self.is_run_as_it_is(target, &place)? {
            return Ok(None);
        }
        let Some(preparer) = self.engine.preparer() else { return Ok(None) };
        let behind = target.created.as_ref().and_then(|created| match &created.model.from {
            // It is what can be prepared, also before the name over it is created.
            CreatedFrom::Model(from) => Some(from),
            CreatedFrom::Artifact(_) => None,
        });
        let name = match (behind.or(target.given_name.as_ref()), &target.place) {
            (Some(name), _) => name.clone(),
            (None, ModelLocation::File(path)) => path.display().to_string(),
            (None, ModelLocation::Stored(artifact)) => super::short_name(artifact),
            (None, ModelLocation::Remote(reference)) => reference.to_string(),
        };
        let set = target.settings.quantization;
        let mut published = Published {
            name,
            place,
            quantization: set.unwrap_or_default(),
            is_set: set.is_some(),
            preparer_key: preparer.key,
            base: None,
            choice,
        };
        if set.is_none() {
            let chosen = self.lazy_store.store()?.recall(&published.choice).ok().flatten();
            published.quantization = chosen.and_then(|word| Quantization::named(&word)).unwrap_or_default();
        }
        Ok(Some(published))
    }

    /// What the prepared file of a published model says.
    ///
    /// # Errors
    /// `Unsupported` for one that is not prepared yet; whatever is wrong with the file.
    pub(super) fn facts_of_published(
        &self,
        published: &Published,
        purpose: Purpose,
    ) -> Result<Arc<Facts>, Failure> {
        let (path, id) = self.prepared(published)?.ok_or_else(|| published.missing())?;
        let weights = weights::of_prepared(id);
        // One that was made again may lie in another place than the one that is known.
        match self.known_facts(&weights, purpose).filter(|known| known.files.main() == path) {
            Some(known) => Ok(known),
            None => self.read_prepared(published, weights, &path, purpose),
        }
    }

    /// Reads the header of a prepared file. It was sound when the file got its name: one that is not is damaged, and goes.
    fn read_prepared(
        &self,
        published: &Published,
        weights: WeightsId,
        path: &Path,
        purpose: Purpose,
    ) -> Result<Arc<Facts>, Failure> {
        let files = ModelFiles::of(path).identified(weights);
        let read = self.read(weights, weights.to_string(), files, Customs::default(), purpose);
        if let Err(failure) = &read
            && failure.kind == ErrorKind::InvalidModel
            && purpose == Purpose::Use
        {
            tracing::warn!(model = published.name, "a prepared model is damaged, and is removed: {failure}");
            let store = self.lazy_store.store()?;
            store.prepared().discard(&published.source(), &published.key(), &failure.message);
        }
        read
    }
}

/// Checks a prepared model, or an adapter of `base`, before its file gets its name.
///
/// # Errors
/// What the gate says of it.
pub(crate) fn check_prepared(path: &Path, base: Option<&Descriptor>) -> Result<(), Failure> {
    match base {
        Some(base) => format::inspect_adapter(path, base).map(drop),
        None => format::inspect(&ModelFiles::of(path)).map(drop),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_model_is_prepared_as_is_part_of_what_it_is_known_by() {
        let key = KeyDigest::parse(&"ab".repeat(32)).expect("a digest");
        let published = Published {
            name: "o/n".to_owned(),
            place: PublishedPlace::Artifact(key),
            quantization: Quantization::F16,
            is_set: false,
            preparer_key: "converter-1".to_owned(),
            base: None,
            choice: "quantization/n".to_owned(),
        };
        let smaller = published.clone().in_format(Quantization::Q4KM);
        assert_eq!(published.source(), smaller.source());
        assert_ne!(published.key(), smaller.key());
        assert!(smaller.missing().hint.is_some_and(|hint| hint.contains("samovar prepare o/n")));
        let files = |text: &[u8]| PublishedPlace::Folder(PathBuf::from("/models/n"), Digest::of_bytes(text));
        let old = Published { place: files(b"old"), ..published.clone() };
        let new = Published { place: files(b"new"), ..published };
        assert_eq!(old.source(), new.source(), "what is outdated makes room for what is new");
        assert_ne!(old.key(), new.key());
        assert!(new.key().ends_with(" F16"));
    }
}
