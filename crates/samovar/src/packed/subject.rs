//! What packed weights are of: bytes, and a model under the settings of one of its names.

use std::path::PathBuf;
use std::sync::Arc;

use samovar_core::Descriptor;
use samovar_core::footprint::{KvType, LayoutWish, LoadOptions};
use samovar_store::KeyDigest;

use crate::catalog::Stamp;

/// The bytes that a packed file would be of.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Source {
    /// Tells them from all others.
    pub(crate) text: String,
    /// The artifact, where they are one's.
    pub(crate) parent: Option<KeyDigest>,
}

/// A model under the settings of one of its names.
#[derive(Clone, Debug)]
pub(crate) struct Subject {
    pub(crate) source: Source,
    pub(crate) path: PathBuf,
    pub(crate) descriptor: Arc<Descriptor>,
    pub(crate) options: LoadOptions,
    pub(crate) wish: LayoutWish,
    /// What a load as a hybrid is predicted to cost.
    pub(crate) hybrid_bytes: u64,
}

impl Source {
    pub(crate) fn artifact(key: KeyDigest) -> Self {
        Self { text: format!("artifact-{key}"), parent: Some(key) }
    }

    /// A file of the user, as it is now.
    pub(crate) fn file(stamp: &Stamp) -> Self {
        Self { text: format!("file-{}", stamp.digest()), parent: None }
    }
}

/// What else than its bytes and this machine a model's speeds depend on.
pub(super) type Manner = (u32, KvType);

pub(super) fn manner(subject: &Subject) -> Manner {
    (subject.options.threads, subject.options.kv_type)
}

/// Where the speeds of models of this shape are kept: on this machine, in this build, with as many threads.
pub(super) fn machine_and_shape(key: &str, subject: &Subject) -> String {
    let Subject { descriptor, options, .. } = subject;
    let Descriptor {
        architecture,
        parameters,
        formats,
        embedding_width,
        blocks,
        heads,
        kv_heads,
        feed_forward_width,
        vocabulary,
        ..
    } = &**descriptor;
    let formats: Vec<_> = formats.iter().map(|format| (&format.name, format.bytes)).collect();
    format!(
        "samovar speeds 1\n{key}\n{architecture} {parameters} {embedding_width} {blocks} {heads} {kv_heads} \
         {feed_forward_width} {vocabulary} {formats:?}\n{} threads, {:?}\n",
        options.threads, options.kv_type
    )
}
