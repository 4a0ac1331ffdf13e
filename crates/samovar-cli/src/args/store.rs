//! Arguments of the verbs that work on the store.

use std::path::PathBuf;

use clap::Args;
use samovar_core::Quantization;

use super::quantization;

/// Arguments of `pull`.
#[derive(Args, Debug)]
#[command(after_help = "\
  samovar pull org/name                     the largest quantization that fits here; `samovar show` lists them
  samovar pull org/name:Q6_K org/other      several at once
  samovar pull hf://org/name@v1.0:Q4_K_M    a branch, tag or commit
  samovar pull https://host/x.gguf#sha256=… another place; also s3://, gs://, az://, file://, ollama://
Files that are on disk are not fetched again, and interrupted downloads resume.")]
pub(crate) struct Pull {
    /// What to fetch: `org/name:Q4_K_M`, another place, or a configured name
    #[arg(value_name = "MODEL", required = true)]
    pub(crate) models: Vec<String>,
    /// Also convert models published in safetensors to this number format, such as `Q4_K_M`
    #[arg(long, value_name = "FORMAT", value_parser = quantization)]
    pub(crate) quantize: Option<Quantization>,
    /// Print nothing but errors
    #[arg(long, short = 'q', conflicts_with = "json")]
    pub(crate) quiet: bool,
}

/// Arguments of `rm`.
#[derive(Args, Debug)]
#[group(required = true, multiple = false)]
pub(crate) struct Rm {
    /// Models as `samovar list` shows them; of a folder, what was prepared of it
    #[arg(value_name = "MODEL")]
    pub(crate) models: Vec<String>,
    /// Every fetched model; your own files, and files of other programs, are kept
    #[arg(long)]
    pub(crate) all: bool,
}

/// Arguments of `gc`.
#[derive(Args, Debug)]
pub(crate) struct Gc {
    /// Only show what would be removed
    #[arg(long, short = 'n')]
    pub(crate) dry_run: bool,
    /// Disk space for all models, such as 50GB, instead of the configured size
    #[arg(long, value_name = "SIZE")]
    pub(crate) max_size: Option<String>,
    /// Days without use after which a model is removed, instead of the configured number; 0 = no age limit
    #[arg(long, value_name = "DAYS")]
    pub(crate) max_age: Option<String>,
}

/// Arguments of `verify`.
#[derive(Args, Debug)]
#[command(after_help = "Reads every byte: about one second per gigabyte. Exits with 1 if a file is damaged.")]
pub(crate) struct Verify {
    /// Models as `samovar list` shows them; default: everything
    #[arg(value_name = "MODEL")]
    pub(crate) models: Vec<String>,
    /// Set damaged files aside, fetch them again, and rebuild the index where it is wrong
    #[arg(long)]
    pub(crate) repair: bool,
}

/// Arguments of `adopt`.
#[derive(Args, Debug)]
#[command(after_help = "\
Files are cloned or linked if the file system can, otherwise used in place. Files of other programs
are never changed or deleted.")]
pub(crate) struct Adopt {
    /// Where to look: hf, ollama, lm-studio or a folder; default: all three, where present
    #[arg(long, value_name = "WHOSE", value_hint = clap::ValueHint::DirPath)]
    pub(crate) from: Vec<String>,
    /// Only show what would be adopted
    #[arg(long, short = 'n')]
    pub(crate) dry_run: bool,
    /// Copy files that cannot be shared, such as another user's
    #[arg(long)]
    pub(crate) copy: bool,
}

/// Arguments of `export`.
#[derive(Args, Debug)]
pub(crate) struct Export {
    /// Models as `samovar list` shows them
    #[arg(value_name = "MODEL", required = true)]
    pub(crate) models: Vec<String>,
    /// The folder; created if it does not exist
    #[arg(long, value_name = "DIR", value_hint = clap::ValueHint::DirPath)]
    pub(crate) to: PathBuf,
}

/// Arguments of `import`.
#[derive(Args, Debug)]
pub(crate) struct Import {
    /// The folder that `export` wrote
    #[arg(value_name = "DIR", value_hint = clap::ValueHint::DirPath)]
    pub(crate) from: PathBuf,
}
