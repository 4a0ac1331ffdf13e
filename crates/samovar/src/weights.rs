//! The identity of a model's weights, as the store and the user's files give it and as they are found by it.

use std::path::Path;

use samovar_core::{Descriptor, Digest, WeightsId};
use samovar_store::KeyDigest;

use crate::catalog::Stamp;

/// Those of an artifact.
pub(crate) fn of_artifact(key: &KeyDigest) -> WeightsId {
    WeightsId::Artifact(*key.as_digest())
}

/// Those of a file of the user, as it is now.
pub(crate) fn of_file(stamp: &Stamp) -> WeightsId {
    WeightsId::File(stamp.digest())
}

/// Those of a prepared model, by what the store knows its file by.
pub(crate) const fn of_prepared(id: Digest) -> WeightsId {
    WeightsId::Prepared(id)
}

/// The artifact whose weights these are, if they are one's.
///
/// A prepared model is none, although it was made of one.
pub(crate) const fn artifact(weights: &WeightsId) -> Option<KeyDigest> {
    match weights {
        WeightsId::Artifact(digest) => Some(KeyDigest::from_digest(*digest)),
        WeightsId::File(_) | WeightsId::Prepared(_) => None,
    }
}

/// Whether they are those of a prepared model.
pub(crate) const fn is_prepared(weights: &WeightsId) -> bool {
    matches!(weights, WeightsId::Prepared(_))
}

/// Whether these are the bytes at `path` still: a file of the user may have been replaced.
pub(crate) fn are_at(weights: &WeightsId, path: &Path) -> bool {
    match weights {
        WeightsId::Artifact(_) | WeightsId::Prepared(_) => true,
        WeightsId::File(digest) => Stamp::of(path).is_ok_and(|stamp| stamp.digest() == *digest),
    }
}

/// Whether the identity fixes every byte of the model: the further files of a user's split model could change unseen.
pub(crate) const fn fixes_all_of(weights: &WeightsId, descriptor: &Descriptor) -> bool {
    matches!(weights, WeightsId::Artifact(_) | WeightsId::Prepared(_)) || descriptor.parts <= 1
}
