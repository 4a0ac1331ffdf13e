//! A store in a directory of its own, with artifacts of bytes that the test chooses.
#![allow(dead_code, reason = "each test file uses its part")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use samovar_core::Digest;
use samovar_store::{Artifact, ArtifactKey, Error, Role, Store, StoreConfig};
use tempfile::TempDir;

/// A store and where it lies.
pub(crate) struct Cache {
    pub(crate) dir: TempDir,
    pub(crate) store: Store,
}

impl Cache {
    pub(crate) fn new() -> Self {
        Self::with(|_| ())
    }

    pub(crate) fn with(settle: impl FnOnce(&mut StoreConfig)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut config = config(dir.path());
        settle(&mut config);
        let store = Store::open(config).unwrap();
        Self { dir, store }
    }

    /// The same store as another process would open it, with other settings.
    pub(crate) fn reopen(&self, settle: impl FnOnce(&mut StoreConfig)) -> Store {
        let mut config = config(self.dir.path());
        settle(&mut config);
        Store::open(config).unwrap()
    }

    pub(crate) fn root(&self) -> &Path {
        self.store.dir()
    }

    pub(crate) fn blob(&self, digest: &Digest) -> PathBuf {
        let hex = digest.to_string();
        self.root().join("blobs/sha256").join(&hex[..2]).join(hex)
    }
}

pub(crate) fn config(dir: &Path) -> StoreConfig {
    let mut config = StoreConfig::new(dir.join("cache"), dir.join("state"));
    config.min_free_bytes = 0;
    config.max_size_bytes = Some(1 << 40);
    config.max_age = Duration::ZERO;
    config.sources.is_offline = true;
    config
}

/// Bytes that no other artifact of the test has.
pub(crate) fn bytes_of(name: &str, size: usize) -> Vec<u8> {
    let seed = Digest::of_bytes(name.as_bytes());
    seed.as_bytes().iter().copied().cycle().take(size).collect()
}

pub(crate) fn put(store: &Store, name: &str, bytes: &[u8]) -> Artifact {
    try_put(store, name, bytes).unwrap()
}

pub(crate) fn try_put(store: &Store, name: &str, bytes: &[u8]) -> Result<Artifact, Error> {
    let key = ArtifactKey {
        source: "built-in".parse().unwrap(),
        model: name.parse().unwrap(),
        commit: "1".parse().unwrap(),
        quant: String::new(),
        modality: "text".to_owned(),
    };
    store.ingest(key, name, "model.gguf".parse().unwrap(), Role::Weights, bytes)
}

/// Every file below a directory, with its mode and content, index and locks left out: what a user has.
pub(crate) fn tree(root: &Path) -> BTreeMap<PathBuf, (u32, Vec<u8>)> {
    use std::os::unix::fs::PermissionsExt as _;
    let mut files = BTreeMap::new();
    let mut todo = vec![root.to_owned()];
    while let Some(dir) = todo.pop() {
        for entry in fs_err::read_dir(&dir).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(root).unwrap().to_owned();
            let is_memo = ["index.sqlite3", "locks", "leases"]
                .iter()
                .any(|memo| name.to_string_lossy().starts_with(memo));
            let facts = fs_err::symlink_metadata(&path).unwrap();
            if is_memo {
                continue;
            }
            if facts.is_dir() {
                todo.push(path);
            } else {
                files.insert(name, (facts.permissions().mode(), fs_err::read(&path).unwrap()));
            }
        }
    }
    files
}

/// Invariant 1: each artifact that can be found has all of its bytes, and nothing half lies under a final name.
pub(crate) fn assert_sound(store: &Store) {
    for artifact in store.list().unwrap() {
        let opened = store.open_artifact(&artifact.key_digest).unwrap();
        for file in &artifact.files {
            let path = opened.path_of(&file.path).unwrap();
            assert_eq!(Digest::of_file(path).unwrap(), file.digest, "{}", artifact.reference);
        }
    }
    for (name, (_, bytes)) in tree(store.dir()) {
        if let Ok(name) = name.strip_prefix("blobs/sha256") {
            let digest = Digest::of_bytes(&bytes);
            assert!(name.ends_with(digest.to_string()), "{} holds other bytes", name.display());
        }
    }
}
