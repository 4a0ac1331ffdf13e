//! Which variant a name means that leaves the quantization open: the one that was chosen for it, else the one that is here. The
//! same name means the same file from then on. Asks no source, and chooses none.

use samovar_core::model::{ArtifactRef, HubRef};

use crate::artifact::Artifact;
use crate::error::Error;
use crate::index::Index;
use crate::local::Local;
use crate::store::Store;

impl Store {
    /// What was chosen for a reference that leaves the quantization open, or what it means here by now; `None` for all others,
    /// and where nothing was chosen yet. Blocks for microseconds.
    ///
    /// # Errors
    /// When the index cannot be read.
    pub fn chosen(&self, reference: &ArtifactRef) -> Result<Option<ArtifactRef>, Error> {
        self.0.local.chosen(reference)
    }

    /// Remembers what a reference that leaves the quantization open means from now on. What the index cannot take is chosen
    /// again next time.
    pub fn choose(&self, reference: &ArtifactRef, chosen: &ArtifactRef) {
        self.remember(&memo(reference), &chosen.to_string());
    }
}

impl Local {
    /// As [`Store::chosen`].
    ///
    /// # Errors
    /// As [`Store::chosen`].
    pub(crate) fn chosen(&self, reference: &ArtifactRef) -> Result<Option<ArtifactRef>, Error> {
        let Some(hub) = open_choice(reference) else { return Ok(None) };
        let noted = self.cache.index.recall(&memo(reference))?;
        if let Some(chosen) = noted.and_then(|text| text.parse::<ArtifactRef>().ok()) {
            return Ok(Some(chosen));
        }
        let here = self.find(reference)?.map(|artifact| artifact.key.quant);
        let Some(quant) = here.filter(|quant| !quant.is_empty()) else { return Ok(None) };
        Ok(format!("{hub}:{quant}").parse().ok())
    }

    /// The next choice is a new one.
    pub(crate) fn forget_choice(&self, reference: &ArtifactRef) {
        // An empty text is no reference.
        if let Err(error) = self.cache.index.remember(&memo(reference), "") {
            tracing::debug!(%reference, "a choice was not forgotten: {error}");
        }
    }
}

/// The artifact that was chosen for a reference that leaves the quantization open, if it is in this store.
///
/// # Errors
/// When the index cannot be read.
pub(super) fn here(index: &Index, reference: &ArtifactRef) -> Result<Option<Artifact>, Error> {
    if open_choice(reference).is_none() {
        return Ok(None);
    }
    // A store that is only read may remember nothing.
    match index.recall(&memo(reference)).ok().flatten() {
        Some(chosen) => index.by_reference(&chosen),
        None => Ok(None),
    }
}

fn memo(reference: &ArtifactRef) -> String {
    format!("choice/{reference}")
}

/// The repository of a reference that leaves the quantization open.
fn open_choice(reference: &ArtifactRef) -> Option<&HubRef> {
    match reference {
        ArtifactRef::Hub(hub) if hub.leaves_choice() => Some(hub),
        _ => None,
    }
}
