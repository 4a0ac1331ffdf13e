//! What a worker that prepares a published model is told, and which files it may read.

use std::path::{Path, PathBuf};

use samovar_core::port::PrepareRequest;
use samovar_core::port::prepare::PUBLISHED_ENDINGS;
use samovar_core::{ErrorKind, Failure, FileRole, ModelFiles, system_words};

use super::worker_job::absolute;
use crate::protocol::Preparation;

/// Folders below the model's own that hold files of it, such as `1_Pooling/config.json`.
const DEPTH: u32 = 2;
/// Files of one model at most.
const FILES_MAX: usize = 4_096;

/// The order, with paths that do not depend on a working directory.
pub(super) fn of(request: PrepareRequest<'_>) -> Result<Preparation, Failure> {
    let PrepareRequest { folder, quantization, target, .. } = request;
    Ok(Preparation { folder: absolute(folder)?, target: absolute(target)?, quantization })
}

/// The files of a published model. Each is named, because those of the store lead to files in other folders.
pub(super) fn files_in(folder: &Path) -> Result<ModelFiles, Failure> {
    let mut files = Vec::new();
    gather(folder, DEPTH, &mut files).map_err(|error| {
        let message = format!("{} cannot be read: {}", folder.display(), system_words(&error));
        Failure::new(ErrorKind::Storage, message).with_param("model")
    })?;
    ModelFiles::new(files.into_iter().map(|path| (FileRole::Weights, path))).ok_or_else(|| {
        let message = format!("{} has no files", folder.display());
        Failure::new(ErrorKind::InvalidModel, message)
            .with_param("model")
            .with_hint("name the folder of a model")
    })
}

fn gather(folder: &Path, depth: u32, files: &mut Vec<PathBuf>) -> std::io::Result<()> {
    for entry in fs_err::read_dir(folder)? {
        let path = entry?.path();
        let Ok(facts) = fs_err::metadata(&path) else { continue };
        if facts.is_file() && files.len() < FILES_MAX {
            // A user's folder may hold anything else, which is none of the worker's business.
            let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or_default();
            if PUBLISHED_ENDINGS.contains(&ending) {
                files.push(path);
            }
        } else if facts.is_dir() && depth > 0 {
            gather(&path, depth - 1, files)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_a_model_are_found_below_its_folder_and_through_links() {
        let home = tempfile::tempdir().unwrap();
        let (folder, pooling) = (home.path().join("model"), home.path().join("model/1_Pooling"));
        fs_err::create_dir_all(&pooling).unwrap();
        fs_err::write(home.path().join("blob"), "weights").unwrap();
        fs_err::os::unix::fs::symlink(home.path().join("blob"), folder.join("model.safetensors")).unwrap();
        fs_err::write(pooling.join("config.json"), "{}").unwrap();
        for name in ["notes", "notes.md", "pytorch_model.bin"] {
            fs_err::write(folder.join(name), "none of the model's").unwrap();
        }
        let files = files_in(&folder).unwrap();
        let mut found: Vec<_> = files.weights().collect();
        found.sort();
        assert_eq!(found, [pooling.join("config.json"), folder.join("model.safetensors")]);
        fs_err::remove_dir_all(&folder).unwrap();
        fs_err::create_dir(&folder).unwrap();
        assert_eq!(files_in(&folder).unwrap_err().kind, ErrorKind::InvalidModel);
    }
}
