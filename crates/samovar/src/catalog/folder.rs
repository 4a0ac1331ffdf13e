//! The files of a folder with a published model: which ones count, and what tells them from others. It reads none of them.

use std::path::{Path, PathBuf};

use samovar_core::port::prepare::PUBLISHED_ENDINGS;
use samovar_core::{Digest, ErrorKind, Failure};

use super::stamp::{self, Stamp};

/// Folders below a model's own that are looked into.
const DEPTH: u32 = 1;
/// Files of one folder at most.
const FILES_MAX: usize = 4_096;

/// What stands for a folder wherever it is remembered.
pub(super) fn digest_of_path(path: &Path) -> Digest {
    Digest::of_bytes(path.as_os_str().as_encoded_bytes())
}

/// What the store knows by what was prepared of a folder, whose path has no links.
pub(super) fn source_of(folder: &Path) -> String {
    format!("folder-{}", digest_of_path(folder))
}

/// The same for a path as it was written. The folder need not be there any more.
pub(crate) fn source_of_folder(folder: &Path) -> String {
    let without_links = fs_err::canonicalize(folder).or_else(|_| std::path::absolute(folder));
    source_of(&without_links.unwrap_or_else(|_| folder.to_owned()))
}

/// The folder's files, as they are now: what tells it from every other.
///
/// # Errors
/// `InvalidModel` for a folder of GGUF files, and for one that is no model's; whatever the system says.
pub(crate) fn folder_digest(folder: &Path) -> Result<Digest, Failure> {
    let mut files = Vec::new();
    gather(folder, folder, DEPTH, &mut files)?;
    if !files.iter().any(|(path, _)| has_ending(path, "safetensors"))
        && let Some(file) = first_gguf(folder)
    {
        let message = format!("{} holds GGUF files, which are loaded one by one", folder.display());
        return Err(Failure::new(ErrorKind::InvalidModel, message)
            .with_param("model")
            .with_hint(format!("name the file: {}", file.display())));
    }
    // Of a folder with one of the others the converter says what it is.
    if !["config.json", "adapter_config.json", "params.json"].iter().any(|name| folder.join(name).exists()) {
        let message = format!("{} is not the folder of a model: it has no config.json", folder.display());
        return Err(Failure::new(ErrorKind::InvalidModel, message)
            .with_param("model")
            .with_hint("name a folder with config.json and *.safetensors, or a GGUF file"));
    }
    let line = |(path, stamp): (PathBuf, Stamp)| {
        let name = path.strip_prefix(folder).unwrap_or(&path).display().to_string();
        format!("{} {stamp}", name.replace('\n', " "))
    };
    let mut lines: Vec<String> = files.into_iter().map(line).collect();
    lines.sort();
    Ok(Digest::of_bytes(format!("samovar folder 1\n{}\n", lines.join("\n")).as_bytes()))
}

fn gather(root: &Path, folder: &Path, depth: u32, files: &mut Vec<(PathBuf, Stamp)>) -> Result<(), Failure> {
    let unreadable = |error: &std::io::Error| stamp::unreadable(folder, error);
    for entry in fs_err::read_dir(folder).map_err(|error| unreadable(&error))? {
        let path = entry.map_err(|error| unreadable(&error))?.path();
        if path.is_dir() {
            if depth > 0 {
                gather(root, &path, depth - 1, files)?;
            }
            continue;
        }
        if !PUBLISHED_ENDINGS.into_iter().any(|ending| has_ending(&path, ending)) {
            continue;
        }
        if files.len() == FILES_MAX {
            let message = format!("{} has more than {FILES_MAX} files", root.display());
            return Err(Failure::new(ErrorKind::InvalidModel, message)
                .with_param("model")
                .with_hint("name the folder of one model"));
        }
        if has_ending(&path, "jinja") {
            check_link(root, &path)?;
        }
        let stamp = Stamp::of(&path)?;
        files.push((path, stamp));
    }
    Ok(())
}

fn has_ending(path: &Path, ending: &str) -> bool {
    path.extension().is_some_and(|found| found == ending)
}

/// The first GGUF file of a folder with weights in it.
fn first_gguf(folder: &Path) -> Option<PathBuf> {
    let paths = fs_err::read_dir(folder).ok()?.filter_map(|entry| Some(entry.ok()?.path()));
    let is_projector =
        |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("mmproj"));
    paths.filter(|path| has_ending(path, "gguf") && !is_projector(path)).min()
}

/// A template may be any text, and clients can ask for it. So a link to it may lead to a file of the same folder, or to the blobs
/// of the cache that the folder is a snapshot in, and not to another file of the user's.
fn check_link(root: &Path, path: &Path) -> Result<(), Failure> {
    let is_link = fs_err::symlink_metadata(path).is_ok_and(|facts| facts.is_symlink());
    if !is_link {
        return Ok(());
    }
    let unreadable = |error: std::io::Error| stamp::unreadable(path, &error);
    let (root, target) =
        (fs_err::canonicalize(root).map_err(unreadable)?, fs_err::canonicalize(path).map_err(unreadable)?);
    let blobs = root.ancestors().nth(2).map(|cache| cache.join("blobs"));
    if target.starts_with(&root) || blobs.is_some_and(|blobs| target.starts_with(blobs)) {
        return Ok(());
    }
    let message = format!("{} is a link out of the folder of the model", path.display());
    Err(Failure::new(ErrorKind::InvalidModel, message)
        .with_param("model")
        .with_hint("copy the template into the folder"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_another_one_when_a_file_of_the_model_changes_and_only_then() {
        let home = tempfile::tempdir().expect("a folder");
        let write = |name: &str, text: &str| fs_err::write(home.path().join(name), text).expect("written");
        write("config.json", "{}");
        let first = folder_digest(home.path()).expect("is read");
        write("README.md", "hello");
        assert_eq!(folder_digest(home.path()).expect("is read"), first);
        fs_err::create_dir(home.path().join("1_Pooling")).expect("a folder");
        write("1_Pooling/config.json", "{}");
        let second = folder_digest(home.path()).expect("is read");
        assert_ne!(second, first);
        write("config.json", "{ }");
        assert_ne!(folder_digest(home.path()).expect("is read"), second);
        assert_eq!(folder_digest(Path::new("/nowhere")).expect_err("is refused").kind, ErrorKind::NotFound);
    }

    #[test]
    fn a_folder_of_gguf_files_names_one_of_them() {
        let home = tempfile::tempdir().expect("a folder");
        for name in ["config.json", "mmproj.gguf", "w-Q8_0.gguf", "w-Q4_K_M.gguf"] {
            fs_err::write(home.path().join(name), "{}").expect("written");
        }
        let refused = folder_digest(home.path()).expect_err("is refused");
        assert!(refused.hint.is_some_and(|hint| hint.ends_with("/w-Q4_K_M.gguf")), "{}", refused.message);
        fs_err::write(home.path().join("model.safetensors"), "").expect("written");
        folder_digest(home.path()).expect("has published weights, too");
        fs_err::remove_file(home.path().join("config.json")).expect("removed");
        let refused = folder_digest(home.path()).expect_err("is no model's");
        assert!(refused.message.contains("config.json") && refused.hint.is_some(), "{refused:?}");
    }

    #[test]
    fn a_template_that_is_a_link_out_of_the_folder_is_refused_and_one_into_the_caches_blobs_is_not() {
        let home = tempfile::tempdir().expect("a folder");
        let folder = home.path().join("models--o--n/snapshots/abc");
        let blobs = home.path().join("models--o--n/blobs");
        for folder in [&folder, &blobs] {
            fs_err::create_dir_all(folder).expect("a folder");
        }
        let secret = home.path().join("secret");
        for file in [&secret, &blobs.join("1"), &folder.join("other.jinja"), &folder.join("config.json")] {
            fs_err::write(file, "words").expect("written");
        }
        let link = folder.join("chat_template.jinja");
        let linked = |target: &Path| {
            fs_err::os::unix::fs::symlink(target, &link).expect("a link");
            let found = folder_digest(&folder);
            fs_err::remove_file(&link).expect("removed");
            found
        };
        for target in ["../../blobs/1", "other.jinja"] {
            linked(Path::new(target)).expect("is read");
        }
        for target in [secret.as_path(), Path::new("../../../secret")] {
            let refused = linked(target).expect_err("is refused");
            assert!(refused.message.contains("chat_template.jinja") && refused.hint.is_some(), "{refused:?}");
        }
    }
}
