//! The model inside the binary: it enters the store like any other, so that engines can map it and all
//! processes share it.

use std::io::Cursor;
use std::sync::LazyLock;

use samovar_core::format::gguf;
use samovar_core::{Descriptor, Digest, Failure};
use samovar_store::{Artifact, ArtifactKey, Role, Store};

/// The name by which requests call it.
pub(super) const NAME: &str = "demo";

const FILE: &str = "demo.gguf";

static BYTES: &[u8] =
    include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../assets/demo-model/demo.gguf"));

/// The digest fixes the content, so another version of the binary brings another artifact.
static KEY: LazyLock<ArtifactKey> = LazyLock::new(|| ArtifactKey {
    source: "built-in".parse().expect("invariant: a plain word"),
    model: NAME.parse().expect("invariant: a plain word"),
    commit: Digest::of_bytes(BYTES).to_string().parse().expect("invariant: hexadecimal digits"),
    quant: String::new(),
    modality: "text".to_owned(),
});

/// What the built-in model is. Needs no store, and puts nothing into it.
pub fn built_in() -> &'static Descriptor {
    static DESCRIPTOR: LazyLock<Descriptor> = LazyLock::new(|| {
        gguf::inspect_reader(Cursor::new(BYTES), BYTES.len() as u64)
            .expect("invariant: the built-in model passes the gate")
    });
    &DESCRIPTOR
}

/// The artifact, put into the store when it is not there.
///
/// # Errors
/// `Storage` when the cache directory cannot be written.
pub(super) fn artifact(store: &Store) -> Result<Artifact, Failure> {
    if let Some(artifact) = store.artifact(&KEY.digest())? {
        return Ok(artifact);
    }
    let path = FILE.parse().expect("invariant: a plain file name");
    Ok(store.ingest(KEY.clone(), NAME, path, Role::Weights, BYTES)?)
}

/// Whether an artifact is the built-in model of this or another version.
pub(super) fn is(artifact: &Artifact) -> bool {
    artifact.key.source == KEY.source
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn enters_the_store_once() {
        let home = tempfile::tempdir().expect("tempdir");
        let config = samovar_store::StoreConfig::new(home.path().join("cache"), home.path().join("state"));
        let store = Store::open(config).expect("opens");
        let first = artifact(&store).expect("enters");
        let second = artifact(&store).expect("is there");
        assert_eq!(first.key_digest, second.key_digest);
        let opened = store.open_artifact(&first.key_digest).expect("opens");
        assert_eq!(fs_err::read(&opened.weights()[0]).expect("reads"), BYTES);
        assert_eq!(store.list().expect("lists").len(), 1);
        assert_eq!(built_in(), &gguf::inspect(&opened.weights()[0]).expect("passes"));
    }

    #[test]
    fn says_what_to_do_when_it_cannot_be_written() {
        let home = tempfile::NamedTempFile::new().expect("file");
        let config = samovar_store::StoreConfig::new(home.path(), home.path().join("state"));
        let failure = Store::open(config)
            .map_err(Failure::from)
            .and_then(|store| artifact(&store))
            .expect_err("not a directory");
        assert_eq!(failure.kind, samovar_core::ErrorKind::Storage);
        assert!(failure.hint.is_some());
    }
}
