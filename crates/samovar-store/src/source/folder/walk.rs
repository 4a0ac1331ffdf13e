//! Reads folders that are not ours without being led out of them.
//!
//! Links are resolved to the end before anything is opened, and what they lead to must lie below the
//! root that the user named. Depth and number of entries are bounded, so that no tree keeps us for ever.

use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::disk::plain;

/// Folders below a root that are looked into at all.
const DEPTH: usize = 12;
/// Entries of one tree.
const ENTRIES: usize = 200_000;

/// Something that was passed over, and why. Never fatal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Skipped {
    /// Where it lies.
    pub path: PathBuf,
    /// Why, as a clause: "is a link that leads out of its folder".
    pub reason: String,
}

impl Skipped {
    pub(crate) fn new(path: &Path, reason: impl Into<String>) -> Self {
        Self { path: path.to_owned(), reason: reason.into() }
    }
}

/// A folder that files may lie in, with its links resolved.
#[derive(Clone, Debug)]
pub(crate) struct Bounds(PathBuf);

/// A regular file below its root.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    /// Its place below the folder that was walked, with `/` between components.
    pub(crate) name: String,
    /// Where it lies, without links.
    pub(crate) at: PathBuf,
    /// What the system says of it.
    pub(crate) metadata: Metadata,
}

impl Bounds {
    /// Takes a root as the user named it; links in the root itself are the user's own.
    pub(crate) fn of(root: &Path) -> Result<Self, String> {
        root.canonicalize().map(Self).map_err(|error| clause(&error))
    }

    /// Takes the folder that a link of this user leads to, if what lies there is this user's as well: models moved to
    /// another disk, with a link in their place. The system's own count as the user's.
    pub(crate) fn behind(link: &Path) -> Result<Self, String> {
        let me = rustix::process::geteuid().as_raw();
        let is_own = |facts: &Metadata| facts.uid() == me || facts.uid() == 0;
        let own_link = link.symlink_metadata().map_err(|error| clause(&error))?;
        let bounds = Self::of(link)?;
        let folder = bounds.0.symlink_metadata().map_err(|error| clause(&error))?;
        if !folder.is_dir() {
            return Err("is a link to something that is no folder".to_owned());
        }
        if !is_own(&own_link) || !is_own(&folder) {
            return Err("is a link of another user, or to what belongs to one".to_owned());
        }
        Ok(bounds)
    }

    pub(crate) fn root(&self) -> &Path {
        &self.0
    }

    /// The regular file that `path` leads to, if it lies below the root.
    pub(crate) fn file(&self, path: &Path) -> Result<(PathBuf, Metadata), String> {
        let at = path.canonicalize().map_err(|error| clause(&error))?;
        if !at.starts_with(&self.0) {
            return Err("is a link that leads out of its folder".to_owned());
        }
        Self::anywhere(&at)
    }

    /// The regular file that a path of the user's own leads to, wherever that is.
    pub(crate) fn anywhere(path: &Path) -> Result<(PathBuf, Metadata), String> {
        let at = path.canonicalize().map_err(|error| clause(&error))?;
        let metadata = at.symlink_metadata().map_err(|error| clause(&error))?;
        if metadata.is_file() { Ok((at, metadata)) } else { Err("is no regular file".to_owned()) }
    }

    /// Opens a file that [`Bounds::file`] gave, without following what was put in its place since.
    pub(crate) fn open(&self, at: &Path) -> io::Result<fs_err::File> {
        plain::open(&self.0, at)
    }

    /// The text of a small file below the root.
    pub(crate) fn text(&self, path: &Path, most_bytes: u64) -> Result<String, String> {
        let (at, _) = self.file(path)?;
        let bytes = plain::read(&self.0, &at, most_bytes).map_err(|error| clause(&error))?;
        String::from_utf8(bytes).map_err(|_| "is no text".to_owned())
    }

    /// All regular files below `folder`, by name. Links to files are followed inside the root, links to
    /// folders never: so there are no loops.
    pub(crate) fn files(&self, folder: &Path, skipped: &mut Vec<Skipped>) -> Vec<Entry> {
        let mut found = Vec::new();
        let mut left = ENTRIES;
        let mut folders = vec![(folder.to_owned(), String::new(), 0)];
        while let Some((folder, prefix, depth)) = folders.pop() {
            for (name, path) in names(&folder, skipped) {
                if left == 0 {
                    skipped.push(Skipped::new(&folder, format!("has more than {ENTRIES} entries")));
                    return sorted(found);
                }
                left -= 1;
                let name = if prefix.is_empty() { name } else { format!("{prefix}/{name}") };
                match path.symlink_metadata() {
                    Ok(metadata) if metadata.is_dir() && depth < DEPTH => {
                        folders.push((path, name, depth + 1));
                    }
                    Ok(metadata) if metadata.is_dir() => skipped.push(Skipped::new(&path, "lies too deep")),
                    Ok(metadata) => self.take(name, &path, &metadata, &mut found, skipped),
                    Err(error) => skipped.push(Skipped::new(&path, clause(&error))),
                }
            }
        }
        sorted(found)
    }

    fn take(
        &self,
        name: String,
        path: &Path,
        metadata: &Metadata,
        found: &mut Vec<Entry>,
        skipped: &mut Vec<Skipped>,
    ) {
        if !metadata.is_file() && !metadata.is_symlink() {
            return;
        }
        match self.file(path) {
            Ok((at, metadata)) => found.push(Entry { name, at, metadata }),
            // A link to a folder is not followed, and hides nothing: what it leads to inside the root is
            // found by its own name.
            Err(_) if path.is_dir() => (),
            Err(reason) => skipped.push(Skipped::new(path, reason)),
        }
    }
}

/// The names in a folder that are text, with their paths; others are skipped with a reason.
pub(crate) fn names(folder: &Path, skipped: &mut Vec<Skipped>) -> Vec<(String, PathBuf)> {
    let entries = match folder.read_dir() {
        Ok(entries) => entries,
        Err(error) => {
            skipped.push(Skipped::new(folder, clause(&error)));
            return Vec::new();
        }
    };
    let mut names = Vec::new();
    for entry in entries.take(ENTRIES) {
        match entry.map(|entry| (entry.file_name().into_string(), entry.path())) {
            Ok((Ok(name), path)) => names.push((name, path)),
            Ok((Err(_), path)) => skipped.push(Skipped::new(&path, "has a name that is no text")),
            Err(error) => skipped.push(Skipped::new(folder, clause(&error))),
        }
    }
    names.sort();
    names
}

/// What the system said of a path that is named beside it.
pub(crate) fn clause(error: &io::Error) -> String {
    if error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error()) {
        return "is a link that leads in a circle".to_owned();
    }
    match error.kind() {
        io::ErrorKind::NotFound => "is not there, or a link to nothing".to_owned(),
        io::ErrorKind::PermissionDenied => "may not be read by this user".to_owned(),
        _ => format!("cannot be read: {error}"),
    }
}

fn sorted(mut found: Vec<Entry>) -> Vec<Entry> {
    found.sort_by(|a, b| a.name.cmp(&b.name));
    found
}

#[cfg(test)]
mod tests {
    use fs_err::os::unix::fs::symlink;

    use super::*;

    fn tree() -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root");
        fs_err::create_dir_all(root.join("a/b")).unwrap();
        fs_err::write(root.join("a/b/x.gguf"), "x").unwrap();
        fs_err::write(dir.path().join("secret"), "s").unwrap();
        (dir, root)
    }

    fn walk(root: &Path) -> (Vec<String>, Vec<String>) {
        let mut skipped = Vec::new();
        let bounds = Bounds::of(root).unwrap();
        let names = bounds.files(bounds.root(), &mut skipped).into_iter().map(|entry| entry.name).collect();
        (names, skipped.into_iter().map(|it| it.reason).collect())
    }

    #[test]
    fn links_are_followed_inside_the_root_only() {
        let (dir, root) = tree();
        symlink("a/b/x.gguf", root.join("inside")).unwrap();
        symlink(dir.path().join("secret"), root.join("outside")).unwrap();
        symlink("/etc/passwd", root.join("a/absolute")).unwrap();
        let (names, reasons) = walk(&root);
        assert_eq!(names, ["a/b/x.gguf", "inside"]);
        assert_eq!(reasons, vec!["is a link that leads out of its folder"; 2]);
    }

    #[test]
    fn loops_and_broken_links_end_the_walk_nowhere() {
        let (_dir, root) = tree();
        symlink("..", root.join("a/up")).unwrap();
        symlink("self", root.join("self")).unwrap();
        symlink("gone", root.join("broken")).unwrap();
        let (names, reasons) = walk(&root);
        assert_eq!(names, ["a/b/x.gguf"]);
        assert_eq!(reasons.len(), 2, "{reasons:?}");
    }

    #[test]
    fn what_is_no_file_is_not_opened() {
        let (_dir, root) = tree();
        let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
        let pipe = root.join("pipe.gguf");
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, mode, 0).unwrap();
        symlink("pipe.gguf", root.join("linked.gguf")).unwrap();
        let (names, reasons) = walk(&root);
        assert_eq!(names, ["a/b/x.gguf"]);
        assert_eq!(reasons, ["is no regular file"]);
    }

    #[test]
    fn a_tree_that_is_too_deep_is_cut_with_a_word() {
        let (_dir, root) = tree();
        let deep = root.join("d/".repeat(DEPTH + 2));
        fs_err::create_dir_all(&deep).unwrap();
        fs_err::write(deep.join("y.gguf"), "y").unwrap();
        let (names, reasons) = walk(&root);
        assert_eq!(names, ["a/b/x.gguf"]);
        assert_eq!(reasons, ["lies too deep"]);
    }

    #[test]
    fn a_link_that_took_a_files_place_is_not_opened() {
        let (dir, root) = tree();
        let bounds = Bounds::of(&root).unwrap();
        let (at, _) = bounds.file(&root.join("a/b/x.gguf")).unwrap();
        fs_err::remove_file(&at).unwrap();
        symlink(dir.path().join("secret"), &at).unwrap();
        assert!(bounds.open(&at).is_err());
    }
}
