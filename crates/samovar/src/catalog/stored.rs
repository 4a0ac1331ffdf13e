//! What an artifact of the store is to the catalog: a name, and weights that an engine can run or not.

use samovar_core::{ErrorKind, Failure, ModelRef};
use samovar_store::{Artifact, Role};

/// The name of an artifact without the scheme, where it can be read without.
pub(super) fn short_name(artifact: &Artifact) -> String {
    let full = &artifact.reference;
    let short = full.strip_prefix("hf://").unwrap_or(full);
    let reads_the_same = short.parse::<ModelRef>().is_ok_and(|reading| reading.to_string() == *full);
    if reads_the_same { short.to_owned() } else { full.clone() }
}

/// Whether its weights are GGUF.
pub(super) fn is_gguf(artifact: &Artifact) -> bool {
    let mut weights = artifact.files.iter().filter(|file| file.role == Role::Weights);
    weights.all(|file| file.path.extension().as_deref() != Some("safetensors"))
}

/// What is said of one that is not.
pub(super) fn no_engine_for(artifact: &Artifact) -> Failure {
    Failure::new(
        ErrorKind::Unsupported,
        format!("{} holds no GGUF weights, and this build runs no other format", artifact.reference),
    )
    .with_param("model")
    .with_hint("take a repository with GGUF files; many models have one whose name ends in -GGUF")
}
