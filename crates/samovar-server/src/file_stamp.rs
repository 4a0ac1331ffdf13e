//! Tells one state of a file from another without reading it.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;

/// What a file was when it was looked at. Its rights are part of it: what could not be read may be readable since.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FileStamp {
    /// Device and inode.
    file: (u64, u64),
    bytes: u64,
    mode: u32,
    /// In seconds and nanoseconds, as the next one.
    modified: (i64, i64),
    /// When content, rights or owner changed last.
    changed: (i64, i64),
}

impl FileStamp {
    pub(crate) fn of(facts: &Metadata) -> Self {
        Self {
            file: (facts.dev(), facts.ino()),
            bytes: facts.size(),
            mode: facts.mode(),
            modified: (facts.mtime(), facts.mtime_nsec()),
            changed: (facts.ctime(), facts.ctime_nsec()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn another_file_another_size_and_other_rights_are_another_state() {
        let folder = tempfile::tempdir().expect("tempdir");
        let path = folder.path().join("file");
        let stamp = || FileStamp::of(&fs_err::metadata(&path).expect("facts"));
        fs_err::write(&path, "one").expect("writes");
        let first = stamp();
        assert_eq!(stamp(), first);
        fs_err::set_permissions(&path, PermissionsExt::from_mode(0o400)).expect("chmod");
        let second = stamp();
        assert_ne!(second, first, "other rights");
        let new = folder.path().join("new");
        fs_err::write(&new, "one").expect("writes");
        fs_err::set_permissions(&new, PermissionsExt::from_mode(0o400)).expect("chmod");
        fs_err::rename(&new, &path).expect("renames");
        assert_ne!(stamp(), second);
    }
}
