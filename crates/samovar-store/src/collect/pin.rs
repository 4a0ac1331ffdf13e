//! Pins: what collection must not take. An empty file says so, so that it outlives the index.

use std::io;
use std::path::Path;

use crate::artifact::key::KeyDigest;
use crate::disk::ballast;
use crate::disk::durable;
use crate::error::Error;
use crate::store::Store;

impl Store {
    /// Keeps an artifact from collection, in all processes and after all restarts, or lets it go again. Blocks.
    ///
    /// # Errors
    /// [`Error::Missing`] for what is not in this cache; [`Error::ReadOnly`] when that cannot be written.
    pub fn set_pinned(&self, key: &KeyDigest, is_pinned: bool) -> Result<(), Error> {
        let cache = &self.0.local.cache;
        let subject = || format!("the artifact {key}");
        cache.writable(&subject())?;
        if cache.with_index(|index| index.artifact(key))?.is_none() {
            return Err(Error::Missing {
                subject: subject(),
                where_: " in the cache",
                hint: "the owner of a read-only cache decides what it keeps".to_owned(),
            });
        }
        let pin = || {
            // The file first: it is the truth, and the index is filled from it.
            set(&cache.layout.pin(key), is_pinned).map_err(Error::io("the pin could not be written"))?;
            cache.with_index(|index| index.set_pinned(key, is_pinned))
        };
        match pin() {
            // A model must be kept from leaving above all when the disk is full.
            Err(_) if ballast::give_up_if_full(&cache.layout) => pin(),
            pinned => pinned,
        }
    }

    /// Whether anything can be put here, rather than only used.
    pub fn is_writable(&self) -> bool {
        self.0.local.cache.writable("").is_ok()
    }
}

fn set(path: &Path, is_pinned: bool) -> io::Result<()> {
    let done = if is_pinned { durable::create_new(path).map(drop) } else { fs_err::remove_file(path) };
    match done {
        Err(error) if is_pinned && error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) if !is_pinned && error.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done.and_then(|()| durable::sync_parent(path)),
    }
}

#[cfg(test)]
mod tests {
    use crate::artifact::key::ArtifactKey;
    use crate::artifact::manifest::Role;
    use crate::config::StoreConfig;
    use crate::store::Store;

    #[test]
    fn a_pin_outlives_the_index_and_can_be_taken_away() {
        let home = tempfile::tempdir().expect("temporary folder");
        let config = || StoreConfig::new(home.path().join("cache"), home.path().join("state"));
        let store = Store::open(config()).expect("opens");
        let key = ArtifactKey {
            source: "built-in".parse().expect("source"),
            model: "m".parse().expect("model"),
            commit: "c".parse().expect("commit"),
            quant: String::new(),
            modality: "text".to_owned(),
        };
        let digest = key.digest();
        assert!(store.set_pinned(&digest, true).is_err(), "nothing is there yet");
        let path = "m.gguf".parse().expect("path");
        store.ingest(key, "m", path, Role::Weights, b"bytes").expect("enters");
        let is_pinned = |store: &Store| store.artifact(&digest).expect("asks").expect("is there").is_pinned;
        for _ in 0..2 {
            store.set_pinned(&digest, true).expect("pins");
            assert!(is_pinned(&store));
        }
        drop(store);
        fs_err::remove_file(home.path().join("cache/index.sqlite3")).expect("removes");
        let store = Store::open(config()).expect("opens");
        assert!(is_pinned(&store));
        for _ in 0..2 {
            store.set_pinned(&digest, false).expect("unpins");
            assert!(!is_pinned(&store));
        }
    }
}
