//! The checkout: where it stands and which files belong to it.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use cargo_metadata::{Metadata, MetadataCommand};

use crate::process;

/// Folders that hold no source, for a checkout that did not come from git.
const NOT_SOURCE: [&str; 3] = [".git", "target", "__pycache__"];

/// The selection of `./dev`, with which third-party crates have the features that the tests have: nothing is built twice.
const BUILD: [&str; 8] =
    ["build", "--quiet", "--release", "--workspace", "--bin", "samovar", "--example", "threads_watch"];

/// A checkout of this repository.
pub(crate) struct Tree {
    root: PathBuf,
}

impl Tree {
    /// The checkout that the current directory lies in.
    pub(crate) fn find() -> Result<Self> {
        let manifest =
            process::output("cargo", &["locate-project", "--workspace", "--message-format", "plain"])?;
        let root = Path::new(manifest.trim()).parent().context("the workspace manifest has no folder")?;
        Ok(Self { root: root.to_path_buf() })
    }

    /// A folder taken as a checkout, for the tests of the rules.
    #[cfg(test)]
    pub(crate) fn at(root: &Path) -> Self {
        Self { root: root.to_path_buf() }
    }

    /// Absolute path of the checkout.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// What cargo knows of the workspace's own packages, without resolving the others.
    pub(crate) fn metadata(&self) -> Result<Metadata> {
        let mut command = MetadataCommand::new();
        command.current_dir(&self.root).no_deps();
        command.exec().context("cargo metadata")
    }

    /// Where cargo puts what it builds.
    pub(crate) fn target(&self) -> Result<PathBuf> {
        Ok(self.metadata()?.target_directory.into_std_path_buf())
    }

    /// Builds the program, and tells the folder in which it lies.
    pub(crate) fn build(&self) -> Result<PathBuf> {
        process::run(&self.root, "cargo", &BUILD)?;
        Ok(self.target()?.join("release"))
    }

    /// Paths of the repository's files, relative to the root and sorted: what git tracks or would track,
    /// or every file where there is no git.
    pub(crate) fn files(&self) -> Result<Vec<PathBuf>> {
        let mut files = self.git_files().map_or_else(|_| self.walked_files(), Ok)?;
        files.retain(|file| self.root.join(file).is_file());
        files.sort();
        files.dedup();
        Ok(files)
    }

    fn git_files(&self) -> Result<Vec<PathBuf>> {
        let root = self.root.to_string_lossy();
        let list = ["-C", &root, "ls-files", "--cached", "--others", "--exclude-standard", "-z"];
        Ok(process::output("git", &list)?
            .split('\0')
            .filter(|path| !path.is_empty())
            .map(PathBuf::from)
            .collect())
    }

    fn walked_files(&self) -> Result<Vec<PathBuf>> {
        let mut files = Vec::new();
        let mut folders = vec![self.root.clone()];
        while let Some(folder) = folders.pop() {
            for entry in fs_err::read_dir(&folder)? {
                let path = entry?.path();
                let is_source =
                    path.file_name().is_some_and(|name| NOT_SOURCE.iter().all(|other| name != *other));
                if path.is_symlink() || !is_source {
                    continue;
                }
                if path.is_dir() {
                    folders.push(path);
                } else {
                    files.push(path.strip_prefix(&self.root)?.to_path_buf());
                }
            }
        }
        Ok(files)
    }

    /// The text of a file of the tree; `None` when it is not text.
    pub(crate) fn text(&self, file: &Path) -> Result<Option<String>> {
        Ok(String::from_utf8(fs_err::read(self.root.join(file))?).ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_without_git_is_walked_without_its_build_output() {
        let folder = tempfile::tempdir().expect("temporary folder");
        for file in ["src/a.rs", "target/release/b.rs", "README.md"] {
            let path = folder.path().join(file);
            fs_err::create_dir_all(path.parent().expect("parent")).expect("folder");
            fs_err::write(path, "text").expect("file");
        }
        let files = Tree::at(folder.path()).walked_files().map(|mut files| {
            files.sort();
            files
        });
        assert_eq!(files.expect("files"), [PathBuf::from("README.md"), PathBuf::from("src/a.rs")]);
    }
}
