//! What an artifact of the store is to the catalog: a name, and weights that an engine can run or not.

use samovar_core::{ErrorKind, Failure, Format, ModelRef, format};
use samovar_store::{Artifact, FilePath, Role};

/// The name of an artifact without the scheme, where it can be read without.
pub(super) fn short_name(artifact: &Artifact) -> String {
    let full = &artifact.reference;
    let short = full.strip_prefix("hf://").unwrap_or(full);
    let reads_the_same = short.parse::<ModelRef>().is_ok_and(|reading| reading.to_string() == *full);
    if reads_the_same { short.to_owned() } else { full.clone() }
}

/// Whether its weights can be inspected, as far as their names say: where they say nothing, the bytes will.
pub(super) fn has_reader(artifact: &Artifact) -> bool {
    let mut weights = artifact.files.iter().filter(|file| file.role == Role::Weights);
    let format_of = |path: &FilePath| Format::of_extension(&path.extension()?);
    weights.all(|file| format_of(&file.path).is_none_or(format::has_reader))
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
