//! Python environments for the programs in `tools/`, each below the target directory.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};

use crate::process;
use crate::tree::Tree;

/// The interpreter of an environment that has what `requirements.txt` of a folder in `tools/` names; made when missing or stale.
///
/// # Errors
/// What to do about it, where there is no Python.
pub(crate) fn python(tree: &Tree, tools: &str) -> Result<PathBuf> {
    let requirements = tree.root().join("tools").join(tools).join("requirements.txt");
    let folder = tree.target()?.join(format!("{tools}-venv"));
    let python = folder.join("bin/python");
    let stamp = folder.join("requirements.installed");
    let wanted = fs_err::read_to_string(&requirements)?;
    if fs_err::read_to_string(&stamp).is_ok_and(|installed| installed == wanted) {
        return Ok(python);
    }
    if !process::works("python3", &["-c", "import venv, ensurepip"]) {
        bail!("tools/{tools} needs python3 with venv: sudo apt-get install -y python3 python3-venv");
    }
    process::run(tree.root(), "python3", &["-m", "venv", &folder.to_string_lossy()])?;
    let install = ["-m", "pip", "install", "--quiet", "-r", &requirements.to_string_lossy()];
    process::run(tree.root(), &python.to_string_lossy(), &install)
        .with_context(|| format!("installing what tools/{tools} requires"))?;
    fs_err::write(&stamp, wanted)?;
    Ok(python)
}
