//! The hub and the models of these tests: small, so that a life takes a tenth of a second.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context as _, Result};
use samovar_core::Digest;
use samovar_testhub::{Content, FileSpec, Hub};

/// Three files: weights, tokenizer, configuration.
pub(crate) const FOX: &str = "hf://tea/fox";
/// One file, and the same configuration.
pub(crate) const OWL: &str = "hf://tea/owl";

/// A hub that serves two models which share a file.
pub(crate) struct Scene {
    hub: Hub,
    /// What the files of each model must be.
    models: BTreeMap<&'static str, Vec<(&'static str, Content)>>,
}

impl Scene {
    pub(crate) fn new() -> Self {
        let config = Content::pattern(1 << 10, 3);
        let fox = vec![
            ("model.safetensors", Content::pattern(200 << 10, 1)),
            ("tokenizer.json", Content::pattern(20 << 10, 2)),
            ("config.json", config.clone()),
        ];
        let owl = vec![("model.safetensors", Content::pattern(100 << 10, 4)), ("config.json", config)];
        let hub = Hub::start_blocking();
        for (name, files) in [("tea/fox", &fox), ("tea/owl", &owl)] {
            let specs = files.iter().map(|(path, content)| (*path, FileSpec::new(content.clone())));
            hub.add_repo(name).put_all(specs);
        }
        Self { hub, models: BTreeMap::from([(FOX, fox), (OWL, owl)]) }
    }

    pub(crate) fn endpoint(&self) -> String {
        self.hub.endpoint()
    }

    pub(crate) fn references(&self) -> impl Iterator<Item = &'static str> {
        self.models.keys().copied()
    }

    /// Each file of a model with the digest of its bytes.
    pub(crate) fn files(&self, reference: &str) -> BTreeMap<String, Digest> {
        let digest = |content: &Content| content.digest().expect("a pattern can be read");
        self.models[reference].iter().map(|(path, content)| ((*path).to_owned(), digest(content))).collect()
    }

    /// Puts a model where the hub's own Python package keeps what it downloads.
    pub(crate) fn lay_out(&self, reference: &str, cache: &Path) -> Result<()> {
        let name = reference.strip_prefix("hf://").context("a model of the hub")?;
        let commit = self.hub.add_repo(name).head();
        let repository = cache.join(format!("models--{}", name.replace('/', "--")));
        let (snapshot, refs) = (repository.join("snapshots").join(&commit), repository.join("refs"));
        fs_err::create_dir_all(&snapshot)?;
        fs_err::create_dir_all(&refs)?;
        fs_err::write(refs.join("main"), commit)?;
        for (path, content) in &self.models[reference] {
            fs_err::write(snapshot.join(path), content.to_vec()?)?;
        }
        Ok(())
    }

    /// The digest of a model's weights.
    pub(crate) fn weights(&self, reference: &str) -> Digest {
        self.files(reference)["model.safetensors"]
    }
}
