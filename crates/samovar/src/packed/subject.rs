//! What packed weights are of: bytes, and a model under the settings of one of its names.

use std::sync::Arc;

use samovar_core::footprint::{KvType, LayoutWish, LoadOptions};
use samovar_core::{Descriptor, ModelFiles, WeightsId};

use crate::weights;

/// A model under the settings of one of its names.
#[derive(Clone, Debug)]
pub(crate) struct Subject {
    pub(crate) weights: WeightsId,
    pub(crate) files: ModelFiles,
    pub(crate) descriptor: Arc<Descriptor>,
    pub(crate) options: LoadOptions,
    pub(crate) wish: LayoutWish,
    /// What a load as a hybrid is predicted to cost.
    pub(crate) hybrid_bytes: u64,
}

/// The bytes of these files, or why nothing can be packed of them.
pub(super) fn packable(files: &ModelFiles, descriptor: &Descriptor) -> Result<WeightsId, String> {
    match files.identity() {
        None => Err("its bytes cannot be identified".to_owned()),
        Some(weights) if !weights::fixes_all_of(&weights, descriptor) => Err(SPLIT.to_owned()),
        Some(weights) if !weights::are_at(&weights, files.main()) => Err("its file was replaced".to_owned()),
        Some(weights) => Ok(weights),
    }
}

/// Its further files could change unseen.
pub(super) const SPLIT: &str = "a model in several files is not packed";

/// What else than its bytes and this machine a model's speeds depend on.
pub(super) type SpeedKey = (u32, KvType);

pub(super) fn speed_key(subject: &Subject) -> SpeedKey {
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
