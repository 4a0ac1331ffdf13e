//! Arguments of the verbs that connect this program with others: those that it replaces, and those that ask it.

use std::path::PathBuf;

use clap::Args;

use crate::migrate::SourceProgram;

/// Arguments of `migrate`.
#[derive(Args, Debug)]
#[command(after_help = "\
  samovar migrate ollama                            its models, parameters, system texts, adapters
  samovar migrate llama-swap --from config.yaml     its models, aliases, ttl, groups, preloads
  samovar migrate llama-server --from models.ini    presets of its router mode; also a folder of models
  samovar migrate lmstudio                          its models, their defaults and presets
Files are shared without a copy. Names and settings become [models.NAME] entries of samovar.toml; an entry
that is there already stays as it is. What has no equal here is listed with the reason. The other program's
files are never changed, and its commands are never run.")]
pub(crate) struct Migrate {
    /// The program
    #[arg(value_name = "PROGRAM")]
    pub(crate) program: SourceProgram,
    /// Its folder or configuration file, instead of the usual place
    #[arg(long, value_name = "PATH", value_hint = clap::ValueHint::AnyPath)]
    pub(crate) from: Option<PathBuf>,
    /// Only show what would be taken over
    #[arg(long, short = 'n')]
    pub(crate) dry_run: bool,
}

/// Arguments of `link`.
#[derive(Args, Debug)]
#[command(after_help = "\
  samovar link                       the programs that are known
  samovar link codex                 print its settings, with the address and models of this daemon
  samovar link codex --write         write them into its file; a copy of what it was stays next to it
  samovar link codex --check         ask the daemon as Codex does")]
pub(crate) struct Link {
    /// The program; default: list all
    #[arg(value_name = "PROGRAM")]
    pub(crate) program: Option<crate::link::ClientProgram>,
    /// Write the settings into the program's file, and keep a copy of what it was
    #[arg(long, requires = "program", conflicts_with = "check")]
    pub(crate) write: bool,
    /// Send the daemon the requests that the program sends, and show what works
    #[arg(long, requires = "program")]
    pub(crate) check: bool,
    /// The file to write, instead of the program's usual one
    #[arg(long, value_name = "FILE", requires = "write", value_hint = clap::ValueHint::FilePath)]
    pub(crate) file: Option<PathBuf>,
    /// The model that answers, instead of the one that Samovar chooses
    #[arg(long, value_name = "MODEL", requires = "program")]
    pub(crate) model: Option<String>,
}
