//! The files that a model consists of, each with what it is for.
//!
//! The part that knows the files (a store, a user's path) says which they are; all others take them as they are, and
//! none derives a name from another.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::WeightsId;

/// What a file of a model is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum FileRole {
    /// Weights; of a split model, one part. Parts are in their order.
    Weights,
    /// A vision projector that belongs to the weights.
    Projector,
    /// A tokenizer's file.
    Tokenizer,
    /// A chat template.
    Template,
    /// Configuration of the model.
    Config,
    /// Weights of a draft model that is loaded with the model; of a split one, one part. Parts are in their order.
    Draft,
}

/// The files of one model, at least one of them with weights. Clones are cheap.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ModelFiles {
    files: Arc<[(FileRole, PathBuf)]>,
    identity: Option<WeightsId>,
}

impl ModelFiles {
    /// A model in one file.
    pub fn of(path: impl Into<PathBuf>) -> Self {
        Self { files: Arc::new([(FileRole::Weights, path.into())]), identity: None }
    }

    /// A model in these files; the parts of a split one are in their order. `None` where none has weights.
    pub fn new(files: impl IntoIterator<Item = (FileRole, PathBuf)>) -> Option<Self> {
        let files: Arc<[_]> = files.into_iter().collect();
        files.iter().any(|(role, _)| *role == FileRole::Weights).then_some(Self { files, identity: None })
    }

    /// The same files, whose weights are known by this.
    #[must_use]
    pub fn identified(self, identity: WeightsId) -> Self {
        Self { identity: Some(identity), ..self }
    }

    /// What the weights are known by; `None` where they are unknown, so that nothing is kept for them.
    pub const fn identity(&self) -> Option<WeightsId> {
        self.identity
    }

    /// All files with their roles.
    pub fn with_roles(&self) -> impl Iterator<Item = (FileRole, &Path)> {
        self.files.iter().map(|(role, path)| (*role, path.as_path()))
    }

    /// The files with weights, in the order of the parts.
    pub fn weights(&self) -> impl Iterator<Item = &Path> {
        self.with_roles().filter(|(role, _)| *role == FileRole::Weights).map(|(_, path)| path)
    }

    /// The same with the weights of a draft model in place of another one's.
    #[must_use]
    pub fn with_draft(&self, draft: &Self) -> Self {
        let own = self.with_roles().filter(|(role, _)| *role != FileRole::Draft);
        let of_draft = draft.weights().map(|path| (FileRole::Draft, path));
        let files = own.chain(of_draft).map(|(role, path)| (role, path.to_owned()));
        Self { files: files.collect(), identity: self.identity }
    }

    /// The files of the draft model that is loaded with it, as those of a model of its own.
    pub fn draft(&self) -> Option<Self> {
        let files = self.with_roles().filter(|(role, _)| *role == FileRole::Draft);
        Self::new(files.map(|(_, path)| (FileRole::Weights, path.to_owned())))
    }

    /// The model's file; of a split model, the first part.
    pub fn main(&self) -> &Path {
        self.weights().next().expect("invariant: a model has a file with weights")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_has_weights_and_its_parts_keep_their_order() {
        let files = [(FileRole::Config, "config.json"), (FileRole::Weights, "b"), (FileRole::Weights, "a")];
        let files = files.map(|(role, path)| (role, PathBuf::from(path)));
        assert_eq!(ModelFiles::new(files[..1].to_vec()), None);
        let model = ModelFiles::new(files).unwrap();
        assert_eq!(model.main(), Path::new("b"));
        assert_eq!(model.weights().collect::<Vec<_>>(), [Path::new("b"), Path::new("a")]);
        assert_eq!(model.with_roles().count(), 3);
        assert_eq!(ModelFiles::of("m").main(), Path::new("m"));
    }

    #[test]
    fn a_draft_is_among_the_files_and_not_among_the_weights() {
        let (model, draft) = (ModelFiles::of("m"), ModelFiles::of("d"));
        assert_eq!(model.draft(), None);
        let both = model.with_draft(&ModelFiles::of("another")).with_draft(&draft);
        assert_eq!(both.weights().collect::<Vec<_>>(), [Path::new("m")]);
        assert_eq!((both.draft(), both.with_roles().count()), (Some(draft), 2));
    }
}
