//! `cargo x demo-model`: trains the built-in model again, in a Python environment of its own.

use anyhow::{Context, Result, bail};

use crate::process;
use crate::tree::Tree;

#[derive(clap::Args)]
#[command(disable_help_flag = true)]
pub(crate) struct Arguments {
    /// Passed on to the program as they are; `--help` lists them
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    rest: Vec<String>,
}

/// Makes the environment under the target directory when it is missing or its requirements changed, then
/// calls `tools/demo-model/main.py`.
pub(crate) fn run(tree: &Tree, arguments: &Arguments) -> Result<()> {
    let source = tree.root().join("tools/demo-model");
    let environment = tree.target()?.join("demo-model-venv");
    let python = environment.join("bin/python");
    let requirements = source.join("requirements.txt");
    let stamp = environment.join("requirements.installed");
    let wanted = fs_err::read_to_string(&requirements)?;
    let is_current = fs_err::read_to_string(&stamp).is_ok_and(|installed| installed == wanted);
    let (environment, python) = (environment.to_string_lossy(), python.to_string_lossy());
    if !is_current {
        if !process::works("python3", &["-c", "import venv, ensurepip"]) {
            bail!("training needs python3 with venv: sudo apt-get install -y python3 python3-venv");
        }
        process::run(tree.root(), "python3", &["-m", "venv", &environment])?;
        let install = ["-m", "pip", "install", "--quiet", "-r", &requirements.to_string_lossy()];
        process::run(tree.root(), &python, &install).context("installing the trainer's requirements")?;
        fs_err::write(&stamp, wanted)?;
    }
    let program = source.join("main.py");
    let program = program.to_string_lossy();
    let mut line = vec![program.as_ref()];
    line.extend(arguments.rest.iter().map(String::as_str));
    process::run(tree.root(), &python, &line)
}
