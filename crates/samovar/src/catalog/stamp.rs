//! What tells an unchanged file from a replaced one without reading it.

use std::fmt;
use std::path::Path;

use samovar_core::{Digest, ErrorKind, Failure, system_words};

/// A file as it is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified_ns: i128,
}

impl Stamp {
    pub(crate) fn of(path: &Path) -> Result<Self, Failure> {
        use std::os::unix::fs::MetadataExt;
        let facts = metadata(path)?;
        Ok(Self {
            device: facts.dev(),
            inode: facts.ino(),
            size: facts.size(),
            modified_ns: i128::from(facts.mtime()) * 1_000_000_000 + i128::from(facts.mtime_nsec()),
        })
    }

    /// The same for the same file, also in later lives of this program.
    pub(crate) fn digest(&self) -> Digest {
        Digest::of_bytes(format!("samovar file 1\n{self}\n").as_bytes())
    }
}

impl fmt::Display for Stamp {
    /// As it is written into keys that outlive the program; never changed.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { device, inode, size, modified_ns } = self;
        write!(f, "{device:x}-{inode:x}-{size:x}-{modified_ns:x}")
    }
}

fn metadata(path: &Path) -> Result<std::fs::Metadata, Failure> {
    fs_err::metadata(path).map_err(|error| unreadable(path, &error))
}

/// What is said of a file that is not there, or not for us.
pub(super) fn unreadable(path: &Path, error: &std::io::Error) -> Failure {
    let failure = match error.kind() {
        std::io::ErrorKind::NotFound => {
            Failure::new(ErrorKind::NotFound, format!("there is no file {}", path.display()))
                .with_hint("check the path; `samovar list` shows the models that have names")
        }
        std::io::ErrorKind::PermissionDenied => {
            Failure::new(ErrorKind::Storage, format!("the file {} may not be read", path.display()))
                .with_hint("check the permissions of the file and of the folders above it")
        }
        _ => {
            let words = system_words(error);
            Failure::new(ErrorKind::Storage, format!("the file {} cannot be read: {words}", path.display()))
                .with_hint("check the path")
        }
    };
    failure.with_param("model")
}
