//! `cargo x demo-model`: trains the built-in model again, in a Python environment of its own.

use anyhow::Result;

use crate::environment;
use crate::process;
use crate::tree::Tree;

#[derive(clap::Args)]
#[command(disable_help_flag = true)]
pub(crate) struct Arguments {
    /// Passed on to the program as they are; `--help` lists them
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    rest: Vec<String>,
}

/// Calls `tools/demo-model/main.py`.
pub(crate) fn run(tree: &Tree, arguments: &Arguments) -> Result<()> {
    let python = environment::python(tree, "demo-model")?;
    let program = tree.root().join("tools/demo-model/main.py");
    let program = program.to_string_lossy();
    let mut line = vec![program.as_ref()];
    line.extend(arguments.rest.iter().map(String::as_str));
    process::run(tree.root(), &python.to_string_lossy(), &line)
}
