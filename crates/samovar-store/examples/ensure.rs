//! Brings models into a cache from another process: what tests and sweeps of faults run.
//!
//! `ensure --cache DIR --endpoint URL [--offline] [--quota BYTES] [--times] [--hold] REFERENCE…` prints the
//! paths of each model's weights. With `--times` a line for each step of the fetch comes before, with
//! milliseconds since 1970; with `--hold` it keeps its lease until its input ends.
#![forbid(unsafe_code)]
#![allow(clippy::print_stdout, reason = "its answer goes to the process that started it")]

use std::io::{Read as _, Write as _};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, bail};
use samovar_core::model::ArtifactRef;
use samovar_store::{Progress, RetryConfig, Store, StoreConfig, Watch};

#[derive(Default)]
struct Args {
    cache: Option<PathBuf>,
    endpoint: Option<String>,
    quota_bytes: Option<u64>,
    connections: Option<u32>,
    is_offline: bool,
    is_timed: bool,
    holds: bool,
    references: Vec<ArtifactRef>,
}

fn read(mut words: impl Iterator<Item = String>) -> anyhow::Result<Args> {
    let mut args = Args::default();
    while let Some(word) = words.next() {
        let mut value = || words.next().with_context(|| format!("{word} needs a value"));
        match word.as_str() {
            "--cache" => args.cache = Some(value()?.into()),
            "--endpoint" => args.endpoint = Some(value()?),
            "--quota" => args.quota_bytes = Some(value()?.parse()?),
            "--connections" => args.connections = Some(value()?.parse()?),
            "--offline" => args.is_offline = true,
            "--times" => args.is_timed = true,
            "--hold" => args.holds = true,
            _ if word.starts_with("--") => bail!("{word} is not known"),
            _ => args.references.push(word.parse()?),
        }
    }
    Ok(args)
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    run(std::env::args().skip(1)).await
}

/// Does what these words say.
pub(crate) async fn run(words: impl Iterator<Item = String>) -> anyhow::Result<()> {
    let args = read(words)?;
    let cache = args.cache.context("--cache DIR")?;
    let mut config = StoreConfig::new(&cache, cache.with_extension("state"));
    config.min_free_bytes = 0;
    config.max_size_bytes = args.quota_bytes;
    config.sources.hub_endpoint = args.endpoint;
    config.sources.is_offline = args.is_offline;
    config.sources.retry = RetryConfig {
        tries: 3,
        first_wait: Duration::from_millis(20),
        longest_wait: Duration::from_millis(100),
    };
    if let Some(connections) = args.connections {
        config.sources.connections = connections;
    }
    let store = Store::open(config)?;
    let watch = args.is_timed.then(|| Arc::new(tell) as Watch);
    let mut opened = Vec::new();
    for reference in &args.references {
        let artifact = store.ensure(reference, watch.clone()).await?;
        let model = store.open_artifact(&artifact.key_digest)?;
        for path in model.weights() {
            println!("{}", path.display());
        }
        opened.push(model);
    }
    std::io::stdout().flush()?;
    if args.holds {
        std::io::stdin().read_to_end(&mut Vec::new())?;
    }
    Ok(())
}

#[allow(clippy::needless_pass_by_value, reason = "the shape of a watch")]
fn tell(progress: Progress) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis());
    let (step, transfer) = match progress {
        Progress::Resolving => ("resolving", None),
        Progress::Unanswered { .. } => ("unanswered", None),
        Progress::Fetching(transfer) if transfer.by_another_process => ("waiting", Some(transfer)),
        Progress::Fetching(transfer) => ("fetching", Some(transfer)),
        Progress::Verifying(transfer) => ("verifying", Some(transfer)),
        Progress::Nearby { .. } => ("nearby", None),
        Progress::Chosen { .. } => ("chosen", None),
    };
    println!("# {now} {step} {}", transfer.map_or(0, |transfer| transfer.done_bytes));
}
