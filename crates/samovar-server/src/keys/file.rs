//! The file of keys: read whole, written whole and durably, by one process at a time. It holds digests, never a key.
//!
//! ```text
//!   keys.json.lock ─► read keys.json ─► change ─► keys.json.new ─► fsync ─► rename ─► fsync(directory)
//! ```

use std::io::{self, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use fs_err::File;
use fs_err::os::unix::fs::OpenOptionsExt;
use rustix::fs::{FlockOperation, flock};
use samovar_core::{ErrorKind, Failure, system_words};
use serde::{Deserialize, Serialize};

use super::record::{KeyRecord, KeyTerms};
use super::secret::Secret;
use crate::file_stamp::FileStamp;
use crate::socket::others_write;

/// What is written into the file, so that a later form is known from this one.
const VERSION: u32 = 1;
/// Only the owner reads and writes it.
const MODE: u32 = 0o600;
/// A larger file is not read.
const FILE_BYTES_MAX: u64 = 16 << 20;
/// More keys than are handed out by hand.
const KEYS_MAX: usize = 10_000;

/// Why the file of keys cannot be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// The system said no.
    #[error("could not {action} {}: {}", path.display(), system_words(source))]
    System {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It holds something else than keys.
    #[error("the file of keys {} is damaged: {reason}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Others could put keys of their own into it.
    #[error("other users may write the file of keys {}", .0.display())]
    Open(PathBuf),
    /// Another user could put keys into it.
    #[error("the file of keys {} belongs to user {owner}", path.display())]
    Strangers {
        /// The file.
        path: PathBuf,
        /// Its owner.
        owner: u32,
    },
    /// There is a key of this name.
    #[error("there is a key named {0:?} already")]
    Taken(String),
    /// There is no key of this name.
    #[error("there is no key named {0:?}")]
    Unknown(String),
    /// A key cannot be so.
    #[error("{0}")]
    Invalid(String),
    /// There is no room for more keys.
    #[error("there are {} keys, and there can be no more", KEYS_MAX)]
    Full,
    /// No key could be made.
    #[error(transparent)]
    NoSecret(#[from] Failure),
}

impl KeyFileError {
    /// What kind of failure this is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::System { .. } | Self::Damaged { .. } => ErrorKind::Storage,
            Self::Open(_) | Self::Strangers { .. } => ErrorKind::Forbidden,
            Self::Taken(_) | Self::Invalid(_) | Self::Full => ErrorKind::InvalidRequest,
            Self::Unknown(_) => ErrorKind::NotFound,
            Self::NoSecret(failure) => failure.kind,
        }
    }

    /// What the owner can do about it.
    pub fn hint(&self) -> String {
        match self {
            Self::System { .. } => "check its permissions and the space on the disk".to_owned(),
            Self::Damaged { path, .. } => {
                format!("put it right, or move {} away and add the keys again", path.display())
            }
            Self::Open(path) => format!("run `chmod 600 {}`", path.display()),
            Self::Strangers { path, .. } => {
                format!("remove {}, or set SAMOVAR_HOME to a directory of your own", path.display())
            }
            Self::Taken(name) => format!(
                "`samovar key rotate {name}` makes a new key of this name, and `samovar key rm {name}` removes it"
            ),
            Self::Unknown(_) => "`samovar key list` shows the keys there are".to_owned(),
            Self::Invalid(_) => "see `samovar key add --help`".to_owned(),
            Self::Full => "remove one with `samovar key rm NAME`".to_owned(),
            Self::NoSecret(failure) => failure.hint.clone().unwrap_or_default(),
        }
    }
}

impl From<KeyFileError> for Failure {
    fn from(error: KeyFileError) -> Self {
        Self::new(error.kind(), error.to_string()).with_hint(error.hint())
    }
}

/// The file of keys. Nothing is kept of it between calls.
#[derive(Clone, Debug)]
pub struct KeyFile {
    path: PathBuf,
}

#[derive(Serialize)]
struct Written<'a> {
    version: u32,
    keys: &'a [KeyRecord],
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Contents {
    version: u32,
    keys: Vec<KeyRecord>,
}

impl KeyFile {
    /// The file of this path, whether it is there or not.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The keys in it; none when it is not there.
    ///
    /// # Errors
    /// When it cannot be read, is damaged, or when others could change it.
    pub fn read(&self) -> Result<Vec<KeyRecord>, KeyFileError> {
        Ok(self.read_stamped()?.1)
    }

    /// Makes a key of this name. The result is the only place where it can be read.
    ///
    /// # Errors
    /// When there is one of this name, when a name or a term cannot be so, and as [`KeyFile::read`].
    pub fn add(&self, name: &str, terms: KeyTerms) -> Result<Secret, KeyFileError> {
        self.change(|keys| {
            if keys.iter().any(|key| key.name == name) {
                return Err(KeyFileError::Taken(name.to_owned()));
            }
            if keys.len() >= KEYS_MAX {
                return Err(KeyFileError::Full);
            }
            let secret = Secret::new()?;
            let key = KeyRecord::new(name, secret.digest(), terms);
            if let Some(fault) = key.fault() {
                return Err(KeyFileError::Invalid(fault));
            }
            keys.push(key);
            Ok(secret)
        })
    }

    /// Makes a new key for this name, with the same terms. The one before it is not valid any more.
    ///
    /// # Errors
    /// When there is none of this name, and as [`KeyFile::read`].
    pub fn rotate(&self, name: &str) -> Result<Secret, KeyFileError> {
        self.change(|keys| {
            let key = keys.iter_mut().find(|key| key.name == name);
            let key = key.ok_or_else(|| KeyFileError::Unknown(name.to_owned()))?;
            let secret = Secret::new()?;
            *key = KeyRecord::new(name, secret.digest(), key.terms.clone());
            Ok(secret)
        })
    }

    /// Removes the key of this name. How many are left.
    ///
    /// # Errors
    /// When there is none of this name, and as [`KeyFile::read`].
    pub fn remove(&self, name: &str) -> Result<usize, KeyFileError> {
        self.change(|keys| {
            let at = keys.iter().position(|key| key.name == name);
            keys.remove(at.ok_or_else(|| KeyFileError::Unknown(name.to_owned()))?);
            Ok(keys.len())
        })
    }

    /// What tells its content from another; `None` when it is not there.
    ///
    /// # Errors
    /// When it cannot be looked at.
    pub(super) fn stamp(&self) -> Result<Option<FileStamp>, KeyFileError> {
        match fs_err::metadata(&self.path) {
            Ok(facts) => Ok(Some(FileStamp::of(&facts))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(self.failed("look at", source)),
        }
    }

    /// The keys in it, and what tells this content from another.
    ///
    /// # Errors
    /// As [`KeyFile::read`].
    pub(super) fn read_stamped(&self) -> Result<(Option<FileStamp>, Vec<KeyRecord>), KeyFileError> {
        let file = match File::open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((None, Vec::new())),
            Err(source) => return Err(self.failed("open", source)),
        };
        let facts = file.metadata().map_err(|source| self.failed("look at", source))?;
        let owner = facts.uid();
        if owner != rustix::process::geteuid().as_raw() && owner != 0 {
            return Err(KeyFileError::Strangers { path: self.path.clone(), owner });
        }
        if others_write(&facts) {
            return Err(KeyFileError::Open(self.path.clone()));
        }
        let mut bytes = Vec::new();
        let read = file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes);
        read.map_err(|source| self.failed("read", source))?;
        if bytes.len() as u64 > FILE_BYTES_MAX {
            return Err(self.damaged(format!("it has more than {FILE_BYTES_MAX} bytes")));
        }
        Ok((Some(FileStamp::of(&facts)), self.parse(&bytes)?))
    }

    fn parse(&self, bytes: &[u8]) -> Result<Vec<KeyRecord>, KeyFileError> {
        let contents: Contents =
            serde_json::from_slice(bytes).map_err(|error| self.damaged(error.to_string()))?;
        if contents.version != VERSION {
            let version = contents.version;
            return Err(self.damaged(format!("its version is {version}, and this program knows {VERSION}")));
        }
        if contents.keys.len() > KEYS_MAX {
            return Err(self.damaged(format!("it has more than {KEYS_MAX} keys")));
        }
        let (mut names, mut digests) = (std::collections::HashSet::new(), std::collections::HashSet::new());
        for key in &contents.keys {
            if let Some(fault) = key.fault() {
                return Err(self.damaged(format!("the key {:?}: {fault}", key.name)));
            }
            if !names.insert(key.name.as_str()) || !digests.insert(key.sha256) {
                return Err(self.damaged(format!("the key {:?} is there twice", key.name)));
            }
        }
        Ok(contents.keys)
    }

    fn change<T>(
        &self,
        change: impl FnOnce(&mut Vec<KeyRecord>) -> Result<T, KeyFileError>,
    ) -> Result<T, KeyFileError> {
        let _lock = self.lock()?;
        let mut keys = self.read()?;
        let result = change(&mut keys)?;
        self.write(&keys)?;
        Ok(result)
    }

    /// Held until it is dropped.
    fn lock(&self) -> Result<File, KeyFileError> {
        let path = self.beside("lock");
        let failed = |source| KeyFileError::System { action: "lock", path: path.clone(), source };
        let mut options = fs_err::OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(MODE);
        let file = options.open(&path).map_err(failed)?;
        rustix::io::retry_on_intr(|| flock(file.file(), FlockOperation::LockExclusive))
            .map_err(|errno| failed(errno.into()))?;
        Ok(file)
    }

    fn write(&self, keys: &[KeyRecord]) -> Result<(), KeyFileError> {
        let new = self.beside("new");
        let mut bytes = serde_json::to_vec_pretty(&Written { version: VERSION, keys })
            .expect("invariant: keys are plain data");
        bytes.push(b'\n');
        let written = write_new(&new, &bytes).and_then(|()| {
            fs_err::rename(&new, &self.path)?;
            let directory = self.path.parent().filter(|parent| !parent.as_os_str().is_empty());
            File::open(directory.unwrap_or(Path::new(".")))?.sync_all()
        });
        if written.is_err() {
            // Gone already, or replaced at the next change.
            let _ = fs_err::remove_file(&new);
        }
        written.map_err(|source| self.failed("write", source))
    }

    /// The path of a file next to it.
    fn beside(&self, ending: &str) -> PathBuf {
        let mut path = self.path.as_os_str().to_owned();
        path.push(".");
        path.push(ending);
        path.into()
    }

    fn damaged(&self, reason: String) -> KeyFileError {
        KeyFileError::Damaged { path: self.path.clone(), reason }
    }

    fn failed(&self, action: &'static str, source: io::Error) -> KeyFileError {
        KeyFileError::System { action, path: self.path.clone(), source }
    }
}

/// Writes a new private file to the disk. What an interrupted change left there is replaced.
fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    match fs_err::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = fs_err::OpenOptions::new().write(true).create_new(true).mode(MODE).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn file() -> (tempfile::TempDir, KeyFile) {
        let home = tempfile::tempdir().expect("temporary folder");
        let file = KeyFile::new(home.path().join("keys.json"));
        (home, file)
    }

    #[test]
    fn what_is_written_is_private_and_holds_no_key() {
        let (home, file) = file();
        assert!(file.read().expect("reads").is_empty());
        let secret = file.add("ci", KeyTerms::default()).expect("adds");
        let text = fs_err::read_to_string(file.path()).expect("reads");
        assert!(!text.contains(secret.text()) && !text.contains("sk-samovar"), "{text}");
        assert!(text.contains(&secret.digest().to_string()));
        assert_eq!(fs_err::metadata(file.path()).expect("facts").permissions().mode() & 0o777, MODE);
        let paths: Vec<_> =
            fs_err::read_dir(home.path()).expect("lists").map(|entry| entry.expect("entry").path()).collect();
        assert!(
            !paths.iter().any(|path| path.extension().is_some_and(|ending| ending == "new")),
            "{paths:?}"
        );
    }

    #[test]
    fn a_key_is_added_replaced_and_removed_by_its_name() {
        let (_home, file) = file();
        let terms = KeyTerms { weight: Some(3), ..KeyTerms::default() };
        let first = file.add("ci", terms.clone()).expect("adds");
        assert!(matches!(file.add("ci", KeyTerms::default()), Err(KeyFileError::Taken(_))));
        assert!(matches!(file.add("a b", KeyTerms::default()), Err(KeyFileError::Invalid(_))));
        let second = file.rotate("ci").expect("rotates");
        assert_ne!(first.digest(), second.digest());
        let keys = file.read().expect("reads");
        assert_eq!((keys[0].sha256, &keys[0].terms), (second.digest(), &terms));
        assert!(matches!(file.rotate("dev"), Err(KeyFileError::Unknown(_))));
        assert_eq!(file.remove("ci").expect("removes"), 0);
        assert!(matches!(file.remove("ci"), Err(KeyFileError::Unknown(_))));
        assert!(file.read().expect("reads").is_empty());
    }

    #[test]
    fn a_damaged_file_and_one_that_others_may_write_are_refused_and_kept() {
        let (_home, file) = file();
        file.add("ci", KeyTerms::default()).expect("adds");
        let good = fs_err::read_to_string(file.path()).expect("reads");
        let misnamed = good.replacen("\"ci\"", "\"a b\"", 1);
        let (later, more) = ("{\"version\":2,\"keys\":[]}", "{\"version\":1,\"keys\":[],\"more\":1}");
        for text in ["", "{", "[]", later, more, &misnamed] {
            fs_err::write(file.path(), text).expect("writes");
            assert!(matches!(file.read(), Err(KeyFileError::Damaged { .. })), "{text}");
            assert!(file.add("dev", KeyTerms::default()).is_err());
            assert_eq!(fs_err::read_to_string(file.path()).expect("reads"), text);
        }
        fs_err::write(file.path(), good).expect("writes");
        fs_err::set_permissions(file.path(), PermissionsExt::from_mode(0o666)).expect("chmod");
        assert!(matches!(file.read(), Err(KeyFileError::Open(_))));
    }

    #[test]
    fn changes_at_the_same_time_are_all_kept() {
        let (_home, file) = file();
        std::thread::scope(|scope| {
            for number in 0..16 {
                let file = file.clone();
                scope.spawn(move || file.add(&format!("key-{number}"), KeyTerms::default()).expect("adds"));
            }
        });
        assert_eq!(file.read().expect("reads").len(), 16);
    }
}
