//! An artifact that is in use: its files' paths, and the lease that keeps them.

use std::path::{Path, PathBuf};

use samovar_core::{ModelFiles, WeightsId};

use crate::artifact::Artifact;
use crate::artifact::manifest::Role;
use crate::artifact::name::FilePath;
use crate::cache::blob::{self, BlobFile};
use crate::cache::tier::Location;
use crate::disk::layout::Layout;
use crate::disk::lease::BlobLease;
use crate::disk::snapshot::{self, Link};
use crate::error::Error;
use crate::index::{Index, Ownership};
use crate::local::Local;

/// An artifact whose files stay where they are until this is dropped.
///
/// Files of a read-only store are not leased: nothing is written there, and the keeper of that store decides.
#[derive(Debug)]
pub struct Opened {
    artifact: Artifact,
    tier: Location,
    /// In the artifact's order.
    paths: Vec<PathBuf>,
    weights: Vec<PathBuf>,
    snapshot: Option<PathBuf>,
    _lease: BlobLease,
}

impl Opened {
    /// What was opened.
    pub fn artifact(&self) -> &Artifact {
        &self.artifact
    }

    /// Which store had it.
    pub fn location(&self) -> &Location {
        &self.tier
    }

    /// The weights, in the order of their parts. A single file has its blob's name; parts of a split model have
    /// their real ones, in one directory.
    pub fn weights(&self) -> &[PathBuf] {
        &self.weights
    }

    /// The files that an engine may read, in the artifact's order. `None` where none has weights.
    pub fn files(&self) -> Option<ModelFiles> {
        let files = self.artifact.files.iter().zip(&self.paths);
        let files =
            ModelFiles::new(files.filter_map(|(file, path)| Some((file.role.in_model()?, path.clone()))));
        Some(files?.identified(WeightsId::Artifact(*self.artifact.key_digest.as_digest())))
    }

    /// Where a file of the artifact lies.
    pub fn path_of(&self, file: &FilePath) -> Option<&Path> {
        let at = self.artifact.files.iter().position(|known| known.path == *file)?;
        self.paths.get(at).map(PathBuf::as_path)
    }

    /// A directory in which all files have their real names, where the model needs one: split weights, or
    /// several files that belong together.
    pub fn directory(&self) -> Option<&Path> {
        self.snapshot.as_deref()
    }
}

/// Opens an artifact of the cache itself: leases, looks at every file's stamp.
///
/// # Errors
/// [`Error::Missing`] when it is not here; [`Error::Damaged`] when a file is not what it was.
pub(crate) fn open(local: &Local, artifact: Artifact) -> Result<Opened, Error> {
    let digests: Vec<_> = artifact.files.iter().map(|file| file.digest).collect();
    let lease = match local.cache.leases.take(&digests) {
        Ok(lease) => lease,
        Err(error) => {
            // A full disk must not hide what is there; mapped files outlive their names.
            tracing::warn!(%error, reference = artifact.reference, "opened without a lease");
            local.cache.leases.nothing()
        }
    };
    let places = places(&local.cache.layout, &local.cache.index, &artifact)?;
    assemble(local, artifact, &places, Location::Cache, lease)
}

/// Opens an artifact of a read-only store.
///
/// # Errors
/// As [`open`].
pub(crate) fn open_in_tier(
    local: &Local,
    layout: &Layout,
    index: &Index,
    artifact: Artifact,
) -> Result<Opened, Error> {
    let places = places(layout, index, &artifact)?;
    let tier = if layout.root() == local.cache.layout.root() {
        Location::Cache
    } else {
        Location::ReadOnly(layout.root().to_owned())
    };
    assemble(local, artifact, &places, tier, local.cache.leases.nothing())
}

fn places(layout: &Layout, index: &Index, artifact: &Artifact) -> Result<Vec<BlobFile>, Error> {
    let place = |digest, size| {
        let settled = blob::settle(layout, index, digest, size).map_err(|error| match error {
            Error::Damaged { digest, .. } => Error::Damaged { digest, of: Some(artifact.reference.clone()) },
            error => error,
        });
        settled?.ok_or_else(|| Error::Missing {
            subject: artifact.reference.clone(),
            where_: " in the cache any more",
            hint: "pull it again".to_owned(),
        })
    };
    artifact.files.iter().map(|file| place(&file.digest, file.size)).collect()
}

fn assemble(
    local: &Local,
    artifact: Artifact,
    places: &[BlobFile],
    tier: Location,
    lease: BlobLease,
) -> Result<Opened, Error> {
    let mut paths: Vec<PathBuf> = places.iter().map(|place| place.path.clone()).collect();
    let mut snapshot = None;
    if needs_names(&artifact) {
        // Asked for only where it is needed: a single file is served also where nothing at all can be written.
        let layout = local.views()?;
        let dir = snapshot::build(&layout, &artifact.key_digest, &links(&artifact, places, &layout))?;
        paths = artifact.files.iter().map(|file| dir.join(file.path.as_str())).collect();
        snapshot = Some(dir);
    }
    let weights = artifact.files.iter().zip(&paths).filter(|(file, _)| file.role == Role::Weights);
    let weights = weights.map(|(_, path)| path.clone()).collect();
    Ok(Opened { artifact, tier, paths, weights, snapshot, _lease: lease })
}

/// Split weights find each other by their names, and safetensors their configuration.
fn needs_names(artifact: &Artifact) -> bool {
    let weights = || artifact.files.iter().filter(|file| file.role == Role::Weights);
    weights().count() > 1 || weights().any(|file| file.path.extension().as_deref() == Some("safetensors"))
}

fn links<'a>(artifact: &'a Artifact, places: &'a [BlobFile], layout: &Layout) -> Vec<Link<'a>> {
    let files = artifact.files.iter().zip(places);
    files
        .map(|(file, place)| Link {
            name: &file.path,
            blob: &place.path,
            stamp: place.stamp,
            is_ours: place.origin() == Ownership::Owned && place.path.starts_with(layout.root()),
        })
        .collect()
}
