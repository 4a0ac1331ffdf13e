//! What a reference means among the artifacts that are here. Asks no source.

use samovar_core::model::{ArtifactRef, HubRef};

use crate::artifact::Artifact;
use crate::artifact::name::{ModelId, SourceId};
use crate::cache::blob;
use crate::disk::layout::Layout;
use crate::error::Error;
use crate::index::Index;
use crate::local::Local;
use crate::lookup::chosen;
use crate::source::select::{PREFERRED, normal_quant, with_name};

/// The branch that is meant when none is asked for.
const DEFAULT_REVISION: &str = "main";

impl Local {
    /// The artifact that a reference means here, or in a store that is only read.
    ///
    /// # Errors
    /// When the index cannot be read.
    pub(crate) fn find(&self, reference: &ArtifactRef) -> Result<Option<Artifact>, Error> {
        match self.cache.with_index(|index| find(&self.cache.layout, index, reference))? {
            Some(artifact) => Ok(Some(artifact)),
            None => Ok(self.tiers.first(|layout, index| find(layout, index, reference))),
        }
    }

    /// As [`Local::find`], for what is also unchanged.
    ///
    /// # Errors
    /// As [`Local::find`].
    pub(crate) fn find_right(&self, reference: &ArtifactRef) -> Result<Option<Artifact>, Error> {
        match self.cache.with_index(|index| find(&self.cache.layout, index, reference))? {
            Some(artifact) if self.cache.is_right(&artifact)? => Ok(Some(artifact)),
            _ => Ok(self.tiers.first(|layout, index| find(layout, index, reference))),
        }
    }
}

/// The artifact that a reference means here, with all of its files in place.
///
/// # Errors
/// When the index cannot be read.
pub(crate) fn find(
    layout: &Layout,
    index: &Index,
    reference: &ArtifactRef,
) -> Result<Option<Artifact>, Error> {
    let noted = index.by_reference(&reference.to_string())?;
    let found = match (noted, reference) {
        (Some(artifact), _) => Some(artifact),
        (None, ArtifactRef::Hub(hub)) if hub.file().is_none() => match chosen::here(index, reference)? {
            Some(artifact) => Some(artifact),
            None => by_choice(index, hub)?,
        },
        (None, _) => None,
    };
    Ok(found.filter(|artifact| is_in_place(layout, artifact)))
}

/// Whether every file lies where it should with its size. Reads no bytes.
pub(crate) fn is_in_place(layout: &Layout, artifact: &Artifact) -> bool {
    artifact.files.iter().all(|file| {
        let place = blob::locate(layout, &file.digest).ok().flatten();
        place.is_some_and(|place| place.stamp.size == file.size)
    })
}

/// Among the artifacts of a hub model: those of the commit that its revision led to, of the asked
/// quantization or else the preferred one.
fn by_choice(index: &Index, hub: &HubRef) -> Result<Option<Artifact>, Error> {
    let source: SourceId = "hub".parse()?;
    let model: ModelId = format!("{}/{}", hub.org(), hub.name()).parse()?;
    let mut here = index.artifacts_of(&source, &model)?;
    let revision = hub.revision().unwrap_or(DEFAULT_REVISION);
    let commit = index.ref_of(&source, &model, revision)?.map(|row| row.commit);
    match (commit, hub.revision()) {
        (Some(commit), _) => here.retain(|artifact| artifact.key.commit == commit),
        (None, Some(revision)) => here.retain(|artifact| artifact.key.commit.as_str() == revision),
        (None, None) => (),
    }
    Ok(choose(here, hub.quant()))
}

/// The newest of the asked quantization; when none is asked for, of the preferred one that is here.
fn choose(mut here: Vec<Artifact>, quant: Option<&str>) -> Option<Artifact> {
    here.sort_by_key(|artifact| artifact.created_ms);
    let newest_of = |quant: &str| here.iter().rposition(|artifact| artifact.key.quant == quant);
    let at = match quant {
        Some(quant) => {
            let quants = here.iter().map(|artifact| artifact.key.quant.as_str());
            newest_of(with_name(quants, &normal_quant(quant))?)
        }
        None => PREFERRED.iter().find_map(|quant| newest_of(quant)).or(here.len().checked_sub(1)),
    };
    at.map(|at| here.swap_remove(at))
}
