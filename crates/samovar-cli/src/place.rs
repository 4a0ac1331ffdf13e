//! Files of other programs: read without being led out of their folder, and no more of them than a bound.
//!
//! Links are followed to their end before a file is opened, and what they lead to must lie below the folder. Nothing here
//! writes.

use std::io::Read;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};

use crate::home;

/// Entries of one folder and all below it.
const ENTRIES_MAX: usize = 20_000;

/// A folder that files may lie in, with its links resolved.
#[derive(Clone, Debug)]
pub(crate) struct ForeignFolder(PathBuf);

impl ForeignFolder {
    /// A folder as its user names it: links in its own path are the user's.
    ///
    /// # Errors
    /// A clause about it.
    pub(crate) fn of(root: &Path) -> Result<Self, String> {
        let root = root.canonicalize().map_err(|error| clause(&error))?;
        if root.is_dir() { Ok(Self(root)) } else { Err("is no folder".to_owned()) }
    }

    /// The folder itself.
    pub(crate) fn root(&self) -> &Path {
        &self.0
    }

    /// Where a file lies, without links, if that is below the folder.
    ///
    /// # Errors
    /// A clause about it.
    pub(crate) fn file(&self, path: &Path) -> Result<PathBuf, String> {
        let at = self.0.join(path).canonicalize().map_err(|error| clause(&error))?;
        if !at.starts_with(&self.0) {
            return Err("is a link that leads out of its folder".to_owned());
        }
        if at.is_file() { Ok(at) } else { Err("is no regular file".to_owned()) }
    }

    /// The text of a small file below the folder.
    ///
    /// # Errors
    /// A clause about it.
    pub(crate) fn text(&self, path: &Path, most_bytes: u64) -> Result<String, String> {
        read(&self.file(path)?, most_bytes)
    }

    /// The files below a folder of this one, by their places below it, with `/` between names. Links to folders are not
    /// followed, and what is no file or no text is left out.
    ///
    /// # Errors
    /// When there are too many.
    pub(crate) fn files(&self, folder: &Path, depth_max: usize) -> Result<Vec<(String, PathBuf)>, String> {
        let mut found = Vec::new();
        let mut left = ENTRIES_MAX;
        let mut folders = vec![(self.0.join(folder), String::new(), 0)];
        while let Some((folder, prefix, depth)) = folders.pop() {
            let Ok(entries) = fs_err::read_dir(&folder) else { continue };
            for entry in entries.flatten() {
                left = left.checked_sub(1).ok_or_else(|| format!("has more than {ENTRIES_MAX} entries"))?;
                let Ok(name) = entry.file_name().into_string() else { continue };
                let name = if prefix.is_empty() { name } else { format!("{prefix}/{name}") };
                match entry.file_type() {
                    Ok(kind) if kind.is_dir() && depth < depth_max => {
                        folders.push((entry.path(), name, depth + 1));
                    }
                    Ok(kind) if kind.is_file() || kind.is_symlink() => {
                        if let Ok(at) = self.file(&entry.path()) {
                            found.push((name, at));
                        }
                    }
                    _ => {}
                }
            }
        }
        found.sort();
        Ok(found)
    }
}

/// The text of a small file that a user names, wherever its links lead.
///
/// # Errors
/// A clause about it.
pub(crate) fn text_of(path: &Path, most_bytes: u64) -> Result<String, String> {
    read(&path.canonicalize().map_err(|error| clause(&error))?, most_bytes)
}

/// Reads a plain file whose path has no links.
fn read(path: &Path, most_bytes: u64) -> Result<String, String> {
    // Without NONBLOCK a FIFO would hold the open for ever.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let opened = rustix::fs::open(path, flags, Mode::empty());
    let descriptor = opened.map_err(|errno| clause(&errno.into()))?;
    let file = fs_err::File::from_parts(std::fs::File::from(descriptor), path);
    let facts = file.metadata().map_err(|error| clause(&error))?;
    if !facts.is_file() {
        return Err("is no regular file".to_owned());
    }
    let mut bytes = Vec::new();
    file.take(most_bytes + 1).read_to_end(&mut bytes).map_err(|error| clause(&error))?;
    if bytes.len() as u64 > most_bytes {
        return Err(format!("has more than {most_bytes} bytes"));
    }
    String::from_utf8(bytes).map_err(|_| "is no UTF-8 text".to_owned())
}

/// What the system said of a path that is named next to it.
fn clause(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::NotFound => "is not there".to_owned(),
        std::io::ErrorKind::PermissionDenied => "may not be read by this user".to_owned(),
        _ => format!("cannot be read: {}", home::plain(error)),
    }
}

#[cfg(test)]
mod tests {
    use fs_err::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn links_lead_nowhere_else_and_no_more_is_read_than_allowed() {
        let folder = tempfile::tempdir().expect("a folder");
        let root = folder.path().join("theirs");
        fs_err::create_dir_all(root.join("a/b")).expect("folders");
        fs_err::write(folder.path().join("secret"), "secret").expect("written");
        fs_err::write(root.join("a/b/x.json"), "{}").expect("written");
        symlink("../secret", root.join("out")).expect("a link");
        symlink("a/b/x.json", root.join("in")).expect("a link");
        symlink("..", root.join("a/up")).expect("a link");
        let place = ForeignFolder::of(&root).expect("a folder");
        assert_eq!(place.text(Path::new("in"), 9).expect("text"), "{}");
        assert!(place.text(Path::new("out"), 9).expect_err("outside").contains("leads out"));
        assert!(place.text(Path::new("../secret"), 9).expect_err("outside").contains("leads out"));
        assert!(place.text(Path::new("/etc/passwd"), 9).is_err());
        assert!(place.text(Path::new("a"), 9).expect_err("a folder").contains("no regular file"));
        assert!(place.text(Path::new("in"), 1).expect_err("long").contains("more than 1 bytes"));
        assert!(place.text(Path::new("none"), 1).expect_err("absent").contains("not there"));
        let names: Vec<String> =
            place.files(Path::new(""), 9).expect("few").into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["a/b/x.json", "in"]);
        assert!(
            ForeignFolder::of(&root.join("in")).is_err() && ForeignFolder::of(&root.join("none")).is_err()
        );
        assert_eq!(text_of(&root.join("out"), 9).expect("the user's own link"), "secret");
    }
}
