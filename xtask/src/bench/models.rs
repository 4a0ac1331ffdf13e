//! The models of the benches: real shapes with random weights, the built-in one, and what is made of it.

use std::path::PathBuf;

use anyhow::Result;

use crate::environment;
use crate::process;
use crate::tree::Tree;

/// The built-in model's name.
pub(crate) const DEMO: &str = "demo";

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// How weights are stored: `Q4_K_M` or `Q8_0`
    #[arg(long, default_value = "Q4_K_M")]
    quantization: String,
    /// One shape only, such as `bench-0.5b`
    #[arg(long)]
    shape: Option<String>,
    /// Write them in safetensors as well, as their authors publish such models: 3 GB
    #[arg(long)]
    published: bool,
}

/// Writes them into `bench/models`, which git ignores.
pub(crate) fn write(tree: &Tree, arguments: &Arguments) -> Result<()> {
    let python = environment::python(tree, "bench")?;
    let program = tree.root().join("tools/bench/models.py");
    let folder = folder(tree);
    let (python, program, folder) =
        (python.to_string_lossy(), program.to_string_lossy(), folder.to_string_lossy());
    let mut line = vec![program.as_ref(), folder.as_ref(), "--quantization", &arguments.quantization];
    if let Some(shape) = &arguments.shape {
        line.extend(["--shape", shape]);
    }
    process::run(tree.root(), &python, &line)?;
    if arguments.published {
        let program = tree.root().join("tools/bench/published.py");
        let program = program.to_string_lossy();
        let mut line = vec![&*program, &*folder];
        if let Some(shape) = &arguments.shape {
            line.extend(["--shape", shape]);
        }
        process::run(tree.root(), &python, &line)?;
    }
    let pair = tree.root().join("tools/bench/draft_pair.py");
    let demo = tree.root().join("assets/demo-model/demo.gguf");
    let (pair, demo) = (pair.to_string_lossy(), demo.to_string_lossy());
    process::run(tree.root(), &python, &[pair.as_ref(), demo.as_ref(), folder.as_ref()])
}

/// The file of a model by its name; `None` for the built-in one.
///
/// # Errors
/// What to do about it, when it was not written yet.
pub(crate) fn file(tree: &Tree, name: &str) -> Result<Option<PathBuf>> {
    if name == DEMO {
        return Ok(None);
    }
    let path = folder(tree).join(format!("{name}.gguf"));
    // Without the folder of this machine: run files repeat it.
    anyhow::ensure!(path.is_file(), "bench/models/{name}.gguf is missing: run `cargo x bench models`");
    Ok(Some(path))
}

/// The folder of a model in safetensors, by the name of its shape.
///
/// # Errors
/// What to do about it, when it was not written yet.
pub(crate) fn published(tree: &Tree, name: &str) -> Result<PathBuf> {
    let path = folder(tree).join(name);
    anyhow::ensure!(path.is_dir(), "bench/models/{name} is missing: run `cargo x bench models --published`");
    Ok(path)
}

/// The file of any model, also of the built-in one.
///
/// # Errors
/// When it is missing.
pub(crate) fn weights(tree: &Tree, name: &str) -> Result<PathBuf> {
    Ok(file(tree, name)?.unwrap_or_else(|| tree.root().join("assets/demo-model/demo.gguf")))
}

fn folder(tree: &Tree) -> PathBuf {
    tree.root().join("bench/models")
}
