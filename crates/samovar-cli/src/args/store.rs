//! Arguments of the verbs that work on the store.

use std::path::PathBuf;

use clap::Args;

/// Arguments of `pull`.
#[derive(Args, Debug)]
#[command(after_help = "\
  samovar pull org/name                     the quantization that suits most: Q4_K_M, else Q8_0
  samovar pull org/name:Q6_K org/other      several at once
  samovar pull hf://org/name@v1.0:Q4_K_M    a branch, tag or commit
  samovar pull https://host/x.gguf#sha256=… another place; also s3://, gs://, az://, file://, ollama://
What is here already is not fetched again, and what was broken off goes on where it stopped.")]
pub(crate) struct Pull {
    /// What to fetch: `org/name:Q4_K_M`, another place, or a configured name
    #[arg(value_name = "MODEL", required = true)]
    pub(crate) models: Vec<String>,
    /// Print nothing but errors
    #[arg(long, short = 'q', conflicts_with = "json")]
    pub(crate) quiet: bool,
}

/// Arguments of `rm`.
#[derive(Args, Debug)]
#[group(required = true, multiple = false)]
pub(crate) struct Rm {
    /// Models as `samovar list` shows them
    #[arg(value_name = "MODEL")]
    pub(crate) models: Vec<String>,
    /// Every model that was fetched; files of yours, and what other programs own, stay where they are
    #[arg(long)]
    pub(crate) all: bool,
}

/// Arguments of `gc`.
#[derive(Args, Debug)]
pub(crate) struct Gc {
    /// Only tell what would leave
    #[arg(long, short = 'n')]
    pub(crate) dry_run: bool,
    /// Disk that models may use together, such as 50GB, in place of the configured size
    #[arg(long, value_name = "SIZE")]
    pub(crate) max_size: Option<String>,
    /// Days without use after which a model leaves, in place of the configured number; 0 = age is no reason
    #[arg(long, value_name = "DAYS")]
    pub(crate) max_age: Option<String>,
}

/// Arguments of `verify`.
#[derive(Args, Debug)]
#[command(
    after_help = "Reads every byte: about a second for each gigabyte. Exits with 1 when something is damaged."
)]
pub(crate) struct Verify {
    /// Models as `samovar list` shows them; default: everything
    #[arg(value_name = "MODEL")]
    pub(crate) models: Vec<String>,
    /// Set aside what is damaged, fetch it again, and build the index anew where it is wrong
    #[arg(long)]
    pub(crate) repair: bool,
}

/// Arguments of `adopt`.
#[derive(Args, Debug)]
#[command(after_help = "\
Files are cloned or linked where the file system can, else used in place; what other programs own
is never changed or deleted.")]
pub(crate) struct Adopt {
    /// Whose: hf, ollama, lm-studio or a folder; default: all three that are there
    #[arg(long, value_name = "WHOSE", value_hint = clap::ValueHint::DirPath)]
    pub(crate) from: Vec<String>,
    /// Only tell what would be shared
    #[arg(long, short = 'n')]
    pub(crate) dry_run: bool,
    /// Copy what cannot be shared, such as another user's files
    #[arg(long)]
    pub(crate) copy: bool,
}

/// Arguments of `export`.
#[derive(Args, Debug)]
pub(crate) struct Export {
    /// Models as `samovar list` shows them
    #[arg(value_name = "MODEL", required = true)]
    pub(crate) models: Vec<String>,
    /// The folder; made when it is not there
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
