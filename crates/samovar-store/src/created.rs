//! What users created over models: one small document a name, whose content the caller gives meaning to.
//!
//! No collection takes them, for they cannot be fetched again. To read them needs no open store, so that a look at names opens
//! none, and a store that is not there yet has none.

use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use samovar_core::Digest;

use crate::config::StoreConfig;
use crate::disk::durable;
use crate::disk::layout::{Layout, created_below};
use crate::disk::plain;
use crate::disk::space::entries;
use crate::error::Error;
use crate::store::Store;

/// Bytes of one document.
pub const CREATED_BYTES: u64 = 256 << 10;
/// Documents of a store.
const DOCUMENTS_MAX: usize = 1_024;
/// The clock of a file system may tick this slowly: what changed within it may have changed twice.
const TICK_S: u64 = 2;

/// The documents of a store, to be read.
#[derive(Clone, Debug)]
pub struct CreatedNames {
    cache_dir: PathBuf,
}

/// Changes with any of the documents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CreatedStamp {
    ino: u64,
    modified_s: i64,
    modified_ns: i64,
}

impl CreatedStamp {
    /// Whether it changed long enough ago that a later change has another stamp.
    pub fn is_settled(&self) -> bool {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(self.modified_s).is_ok_and(|modified_s| modified_s + TICK_S < now.as_secs())
    }
}

impl CreatedNames {
    /// Those of the store of these settings.
    pub fn of(config: &StoreConfig) -> Self {
        Self { cache_dir: config.cache_dir.clone() }
    }

    /// What tells whether any of them changed; `None` where there are none. Blocks for a `stat`.
    pub fn stamp(&self) -> Option<CreatedStamp> {
        let facts = fs_err::metadata(created_below(&self.cache_dir)).ok()?;
        Some(CreatedStamp { ino: facts.ino(), modified_s: facts.mtime(), modified_ns: facts.mtime_nsec() })
    }

    /// All of them, in no order that means anything. What cannot be read is left out, and told in the log.
    pub fn read(&self) -> Vec<Vec<u8>> {
        let Ok(root) = fs_err::canonicalize(&self.cache_dir) else { return Vec::new() };
        let found = entries(&created_below(&root)).unwrap_or_default();
        let documents = found
            .iter()
            .filter(|(_, path)| path.extension().is_some_and(|ending| ending == "json"))
            .take(DOCUMENTS_MAX);
        let read = |path: &PathBuf| {
            plain::read(&root, path, CREATED_BYTES)
                .inspect_err(|error| tracing::warn!(%error, "what was created under a name is left out"))
                .ok()
        };
        documents.filter_map(|(_, path)| read(path)).collect()
    }
}

impl Store {
    /// Writes what a name means, in place of what it meant. Blocks; survives the loss of power.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for a document of more than [`CREATED_BYTES`], and for one name too many; whatever keeps the
    /// cache from being written.
    pub fn write_created(&self, name: &str, document: &[u8]) -> Result<(), Error> {
        let layout = &self.0.local.cache.layout;
        self.0.local.cache.writable(name)?;
        if document.len() as u64 > CREATED_BYTES {
            return Err(Error::Unsupported {
                message: format!(
                    "what {name} is to mean has {} bytes, {CREATED_BYTES} is the limit",
                    document.len()
                ),
                hint: "shorten its system text, its template or its messages".to_owned(),
            });
        }
        let fail = Error::io("what was created could not be written");
        let path = path_of(layout, name);
        let write = || -> io::Result<bool> {
            durable::create_private_dir(&layout.created())?;
            if entries(&layout.created())?.len() >= DOCUMENTS_MAX && fs_err::symlink_metadata(&path).is_err()
            {
                return Ok(false);
            }
            durable::write(layout, &path, document).map(|()| true)
        };
        if write().map_err(fail)? {
            return Ok(());
        }
        Err(Error::Unsupported {
            message: format!("{DOCUMENTS_MAX} names were created, and that is the limit"),
            hint: "delete one first".to_owned(),
        })
    }

    /// Forgets what a name means. False = it meant nothing. Blocks.
    ///
    /// # Errors
    /// Whatever keeps the cache from being written.
    pub fn remove_created(&self, name: &str) -> Result<bool, Error> {
        let layout = &self.0.local.cache.layout;
        self.0.local.cache.writable(name)?;
        let path = path_of(layout, name);
        match fs_err::remove_file(&path).and_then(|()| durable::sync_parent(&path)) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(Error::io("what was created could not be removed")(error)),
        }
    }
}

fn path_of(layout: &Layout, name: &str) -> PathBuf {
    layout.created_document(&Digest::of_bytes(name.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_means_what_was_written_last_until_it_is_removed() {
        let home = tempfile::tempdir().expect("temporary folder");
        let config = || StoreConfig::new(home.path().join("cache"), home.path().join("state"));
        let names = CreatedNames::of(&config());
        assert!(names.stamp().is_none() && names.read().is_empty(), "there is no store yet");
        let store = Store::open(config()).expect("opens");
        assert!(!store.remove_created("a").expect("looks"));
        store.write_created("a", b"1").expect("writes");
        store.write_created("../b", b"2").expect("writes");
        store.write_created("a", b"3").expect("writes");
        let mut read = names.read();
        read.sort();
        assert_eq!(read, [b"2".to_vec(), b"3".to_vec()]);
        assert!(
            !names.stamp().expect("is there").is_settled(),
            "a change may follow within the clock's tick"
        );
        drop(store);
        let store = Store::open(config()).expect("opens");
        assert!(store.remove_created("../b").expect("removes"));
        assert_eq!(names.read(), [b"3".to_vec()]);
        let long = vec![b'x'; CREATED_BYTES as usize + 1];
        assert!(matches!(store.write_created("c", &long), Err(Error::Unsupported { .. })));
    }

    #[test]
    fn a_planted_link_is_left_out() {
        let home = tempfile::tempdir().expect("temporary folder");
        let config = StoreConfig::new(home.path().join("cache"), home.path().join("state"));
        let store = Store::open(config.clone()).expect("opens");
        store.write_created("a", b"1").expect("writes");
        let link = created_below(&config.cache_dir).join("b.json");
        fs_err::os::unix::fs::symlink("/etc/hostname", link).expect("links");
        assert_eq!(CreatedNames::of(&config).read(), [b"1".to_vec()]);
    }
}
