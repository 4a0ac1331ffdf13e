//! A folder with a published model. It opens regular files by plain names, reads no more than it was told, and never
//! follows a name out of the folder.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use fs_err::File;

use super::json::FromJson;
use crate::error::Fault;

/// Entries of one folder.
const ENTRIES: usize = 10_000;
/// Bytes of one name.
const NAME_BYTES: usize = 255;

/// A folder whose files decide what is written.
#[derive(Debug)]
pub(crate) struct Folder {
    path: PathBuf,
    /// Which files were opened, with their sizes.
    opened: RefCell<BTreeMap<String, u64>>,
}

impl Folder {
    /// The folder at `path`.
    pub(crate) fn open(path: &Path) -> Result<Self, Fault> {
        let read = |source| Fault::Read { path: path.to_owned(), source };
        let facts = fs_err::metadata(path).map_err(read)?;
        if !facts.is_dir() {
            return Err(Fault::unsound(&path.display().to_string(), "it is no folder"));
        }
        Ok(Self { path: path.to_owned(), opened: RefCell::default() })
    }

    /// Where a file of this name is.
    pub(crate) fn path_of(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Whether there is a regular file of this name.
    pub(crate) fn has(&self, name: &str) -> bool {
        fs_err::metadata(self.path_of(name)).is_ok_and(|facts| facts.is_file())
    }

    /// Opens a file and says its size. `None` where there is none of this name.
    pub(crate) fn file(&self, name: &str) -> Result<Option<(File, u64)>, Fault> {
        let path = self.path_of(name);
        let read = |source| Fault::Read { path: path.clone(), source };
        // Looked at before it is opened: opening a pipe would wait for a writer.
        let facts = match fs_err::metadata(&path) {
            Ok(facts) => facts,
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                return Ok(None);
            }
            Err(error) => return Err(read(error)),
        };
        if !facts.is_file() {
            return Err(Fault::unsound(name, "it is no regular file"));
        }
        let file = File::open(&path).map_err(read)?;
        let bytes = file.metadata().map_err(read)?.len();
        self.opened.borrow_mut().insert(name.to_owned(), bytes);
        Ok(Some((file, bytes)))
    }

    /// All bytes of a file, which may be so many at most.
    pub(crate) fn bytes(&self, name: &str, limit_bytes: u64) -> Result<Option<Vec<u8>>, Fault> {
        let Some((file, bytes)) = self.file(name)? else { return Ok(None) };
        let too_large =
            || Fault::unsound(name, format!("it has {bytes} bytes, and the limit is {limit_bytes}"));
        if bytes > limit_bytes {
            return Err(too_large());
        }
        let mut read = Vec::with_capacity(bytes as usize);
        // One byte more, to see whether the file grew.
        file.take(limit_bytes + 1)
            .read_to_end(&mut read)
            .map_err(|source| Fault::Read { path: self.path_of(name), source })?;
        if read.len() as u64 > limit_bytes { Err(too_large()) } else { Ok(Some(read)) }
    }

    /// A file as text.
    pub(crate) fn text(&self, name: &str, limit_bytes: u64) -> Result<Option<String>, Fault> {
        let Some(bytes) = self.bytes(name, limit_bytes)? else { return Ok(None) };
        String::from_utf8(bytes).map(Some).map_err(|_| Fault::unsound(name, "it is not UTF-8"))
    }

    /// A file as JSON. The parser bounds how deep it is nested.
    pub(crate) fn json<T: FromJson>(&self, name: &str, limit_bytes: u64) -> Result<Option<T>, Fault> {
        let Some(bytes) = self.bytes(name, limit_bytes)? else { return Ok(None) };
        let mut text = serde_json::Deserializer::from_slice(&bytes);
        let read = T::from_json(&mut text).and_then(|read| text.end().map(|()| read));
        read.map(Some).map_err(|error| Fault::unsound(name, error.to_string()))
    }

    /// The names in the folder that are text, sorted.
    pub(crate) fn names(&self) -> Result<Vec<String>, Fault> {
        let read = |source| Fault::Read { path: self.path.clone(), source };
        let mut names = Vec::new();
        for entry in fs_err::read_dir(&self.path).map_err(read)? {
            if let Ok(name) = entry.map_err(read)?.file_name().into_string() {
                names.push(name);
            }
            if names.len() > ENTRIES {
                let what = format!("it has more than {ENTRIES} entries");
                return Err(Fault::unsound(&self.path.display().to_string(), what));
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    /// The files that were opened, with their sizes, sorted by name.
    pub(crate) fn opened(&self) -> Vec<(String, u64)> {
        self.opened.borrow().iter().map(|(name, bytes)| (name.clone(), *bytes)).collect()
    }
}

/// Whether a name from a file is one of a file or folder in the same folder.
pub(crate) fn is_plain(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= NAME_BYTES
        && !name.starts_with('.')
        && !name.chars().any(|character| matches!(character, '/' | '\\' | ':') || character.is_control())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_lead_elsewhere_are_not_plain() {
        assert!(is_plain("model-00001-of-00002.safetensors") && is_plain("1_Pooling"));
        for name in ["", ".", "..", "../x", "/etc/passwd", "a/b", "a\\b", "C:x", "a\nb", ".hidden"] {
            assert!(!is_plain(name), "{name:?}");
        }
    }

    #[test]
    fn a_file_beyond_its_bound_is_refused_before_it_is_read() {
        let place = tempfile::tempdir().unwrap();
        fs_err::write(place.path().join("config.json"), [b' '; 100]).unwrap();
        let folder = Folder::open(place.path()).unwrap();
        assert!(matches!(folder.bytes("config.json", 99), Err(Fault::Unsound { .. })));
        assert_eq!(folder.bytes("config.json", 100).unwrap().unwrap().len(), 100);
        assert!(folder.bytes("absent", 9).unwrap().is_none());
        assert_eq!(folder.opened(), [("config.json".to_owned(), 100)]);
    }
}
