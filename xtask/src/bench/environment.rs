//! A Python environment of the benches' own, below the target directory.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};

use crate::process;
use crate::tree::Tree;

/// The interpreter of an environment that has what `tools/bench/requirements.txt` names; made when missing or stale.
pub(crate) fn python(tree: &Tree) -> Result<PathBuf> {
    let requirements = tree.root().join("tools/bench/requirements.txt");
    let folder = tree.target()?.join("bench-venv");
    let python = folder.join("bin/python");
    let stamp = folder.join("requirements.installed");
    let wanted = fs_err::read_to_string(&requirements)?;
    if fs_err::read_to_string(&stamp).is_ok_and(|installed| installed == wanted) {
        return Ok(python);
    }
    if !process::works("python3", &["-c", "import venv, ensurepip"]) {
        bail!("the models are written by a Python program: sudo apt-get install -y python3 python3-venv");
    }
    process::run(tree.root(), "python3", &["-m", "venv", &folder.to_string_lossy()])?;
    let install = ["-m", "pip", "install", "--quiet", "-r", &requirements.to_string_lossy()];
    process::run(tree.root(), &python.to_string_lossy(), &install)
        .context("installing what the generator requires")?;
    fs_err::write(&stamp, wanted)?;
    Ok(python)
}
