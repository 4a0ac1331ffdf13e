//! Fetches one artifact into a new store and says how long that took, as one line of JSON.
//!
//! ```console
//! $ fetch_bench ENDPOINT REFERENCE DIRECTORY [CONNECTIONS]
//! ```
#![expect(clippy::print_stdout, reason = "a bench reports to whoever started it")]

use std::time::Instant;

use anyhow::Context as _;
use samovar_store::{Store, StoreConfig};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut args = std::env::args().skip(1);
    let mut next = |what: &'static str| args.next().context(what);
    let endpoint = next("the hub's address is missing")?;
    let reference = next("the reference is missing")?.parse()?;
    let directory = next("the directory is missing")?;
    let connections = args.next().map(|text| text.parse()).transpose()?;

    let mut config = StoreConfig::new(format!("{directory}/cache"), format!("{directory}/state"));
    config.sources.hub_endpoint = Some(endpoint);
    config.sources.connections = connections.unwrap_or(config.sources.connections);
    let connections = config.sources.connections;
    let store = Store::open(config)?;
    let begin = Instant::now();
    let pulled = store.pull(&reference, None).await?;
    let seconds = begin.elapsed().as_secs_f64();
    let report = serde_json::json!({
        "reference": pulled.artifact.reference,
        "connections": connections,
        "bytes": pulled.fetched_bytes,
        "seconds": seconds,
        "bytes_per_s": pulled.fetched_bytes as f64 / seconds,
        "was_here": pulled.was_here,
    });
    println!("{report}");
    Ok(())
}
