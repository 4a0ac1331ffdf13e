//! What the store's tests stand on: a hub that counts, and a cache directory of their own.
#![allow(dead_code, reason = "each test program uses a part of it")]

use std::path::PathBuf;
use std::time::Duration;

use samovar_core::model::ArtifactRef;
use samovar_store::{Artifact, RetryConfig, Store, StoreConfig};
use samovar_testhub::{Content, FileSpec, Hub};
use tempfile::TempDir;

/// The repository that most tests fetch.
pub(crate) const REPO: &str = "org/name";

/// A hub with a repository, and an empty cache.
pub(crate) struct Ground {
    pub(crate) hub: Hub,
    pub(crate) dir: TempDir,
}

impl Ground {
    /// A hub on which `files` are the repository's: large ones, with a promised SHA-256.
    pub(crate) fn with(files: &[(&str, Content)]) -> Self {
        let hub = Hub::start_blocking();
        let repo = hub.add_repo(REPO);
        for (path, content) in files {
            repo.put(path, FileSpec::new(content.clone()).lfs(true));
        }
        Self { hub, dir: tempfile::tempdir().unwrap() }
    }

    /// One GGUF of this size, quantized as `Q4_K_M`.
    pub(crate) fn with_one(bytes: u64) -> Self {
        Self::with(&[("model-Q4_K_M.gguf", Content::pattern(bytes, 1))])
    }

    pub(crate) fn cache(&self) -> PathBuf {
        self.dir.path().join("cache")
    }

    pub(crate) fn config(&self) -> StoreConfig {
        let mut config = StoreConfig::new(self.cache(), self.dir.path().join("state"));
        config.min_free_bytes = 0;
        config.sources.hub_endpoint = Some(self.hub.endpoint());
        config.sources.retry = RetryConfig {
            tries: 2,
            first_wait: Duration::from_millis(5),
            longest_wait: Duration::from_millis(20),
        };
        config
    }

    pub(crate) fn store(&self) -> Store {
        Store::open(self.config()).unwrap()
    }

    pub(crate) fn offline(&self) -> Store {
        let mut config = self.config();
        config.sources.is_offline = true;
        Store::open(config).unwrap()
    }

    /// Bytes of the repository's files that went out.
    pub(crate) fn sent_bytes(&self, file: &str) -> u64 {
        self.hub.sent().of(&format!("{REPO}/{file}"))
    }
}

/// A reference, as a user writes it.
pub(crate) fn reference(text: &str) -> ArtifactRef {
    text.parse().unwrap()
}

/// The reference of the one model.
pub(crate) fn model() -> ArtifactRef {
    reference("hf://org/name:Q4_K_M")
}

/// The bytes of an artifact's only weights file, read through the store.
pub(crate) fn weights(store: &Store, artifact: &Artifact) -> Vec<u8> {
    let opened = store.open_artifact(&artifact.key_digest).unwrap();
    let [path] = opened.weights() else { panic!("one weights file") };
    fs_err::read(path).unwrap()
}
