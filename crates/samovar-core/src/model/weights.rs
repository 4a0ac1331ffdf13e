//! Which bytes a model's weights are.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::digest::Digest;

/// The identity of a model's weights. It travels from the finder of the files to the code that loads them, keeps something of
/// them or makes something of them, so that no code has to find it again from a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum WeightsId {
    /// Those of a verified artifact, by the digest of its key: such bytes never change.
    Artifact(Digest),
    /// Those of a user's file, by the digest of what the system says of it (device, inode, size, time): a file that was
    /// changed has another identity.
    File(Digest),
    /// Those of a prepared model, by the digest of what it was prepared of, and how: such bytes never change.
    Prepared(Digest),
}

impl fmt::Display for WeightsId {
    /// As it is written into keys on the disk; never changed.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Artifact(digest) => write!(f, "artifact-{digest}"),
            Self::File(digest) => write!(f, "file-{digest}"),
            Self::Prepared(digest) => write!(f, "prepared-{digest}"),
        }
    }
}
