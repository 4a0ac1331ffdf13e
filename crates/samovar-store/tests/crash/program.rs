//! The program that is killed: this test binary once more, in a process of its own, doing what it is told.

use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result};
use samovar_core::footprint::KvType;
use samovar_core::model::ArtifactRef;
use samovar_core::{ErrorKind, Failure, Scope};

use samovar_store::{
    AdoptOptions, AdoptRoot, CollectOptions, KeyDigest, Make, Store, StoreConfig, VerifyOptions, Weights,
};
use serde::{Deserialize, Serialize};

/// Carries the order into the process.
const ORDER: &str = "SAMOVAR_CRASH_ORDER";

/// What a process is to do with a cache directory.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Order {
    pub(crate) cache: PathBuf,
    /// The hub.
    pub(crate) endpoint: String,
    pub(crate) quota_bytes: Option<u64>,
    pub(crate) steps: Vec<Step>,
    /// Gets a line for each reference that the store said it has.
    pub(crate) said: PathBuf,
}

/// One thing to do with an open store. Opening it makes it, migrates it and fills its index, as needed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Step {
    Ensure(String),
    Collect,
    Remove(String),
    Repair,
    /// The state of this many tokens, for weights of the user's.
    SavePrefix(u32),
    /// The packed file of these weights, which are not the store's.
    Pack(u8),
    /// It is refused.
    Discard(u8),
    /// The prepared file of these weights, which are not the store's.
    Prepare(u8),
    /// From [`beside`] the cache.
    Import,
    /// From [`beside`] the cache.
    Adopt,
}

impl Order {
    /// The process.
    pub(crate) fn command(&self) -> Result<Command> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["--exact", "the_program", "--ignored", "--nocapture", "--test-threads=1"]);
        command.env(ORDER, serde_json::to_string(self)?);
        command.stdin(Stdio::null()).stdout(Stdio::null());
        Ok(command)
    }

    /// The order of the process that calls this, if it was given one.
    #[expect(clippy::disallowed_methods, reason = "the way by which a test tells its own process what to do")]
    pub(crate) fn given() -> Option<Self> {
        let text = std::env::var(ORDER).ok()?;
        Some(serde_json::from_str(&text).expect("an order as Order::command writes it"))
    }

    /// Does it.
    pub(crate) fn obey(&self) -> Result<()> {
        let store = Store::open(config(&self.cache, &self.endpoint, self.quota_bytes))?;
        for step in &self.steps {
            self.take(&store, step)?;
        }
        Ok(())
    }

    fn take(&self, store: &Store, step: &Step) -> Result<()> {
        match step {
            Step::Ensure(reference) => {
                ensure(store, reference)?;
                let mut said = fs_err::OpenOptions::new().append(true).create(true).open(&self.said)?;
                writeln!(said, "{reference}")?;
            }
            Step::Collect => {
                store.collect(&CollectOptions::default())?;
            }
            Step::Remove(reference) => {
                let artifact = store.find(&parse(reference)?)?.context("nothing to be removed")?;
                store.remove(&artifact.key_digest)?;
            }
            Step::Repair => repair(store)?,
            Step::SavePrefix(tokens) => save_prefix(store, *tokens)?,
            Step::Pack(weights) => pack(store, *weights, None)?,
            Step::Discard(weights) => store.packed().discard(&packed_source(*weights), "engine 1", "as told"),
            Step::Prepare(weights) => prepare(store, *weights)?,
            Step::Import => {
                store.import(&beside(&self.cache))?;
            }
            Step::Adopt => {
                let roots = vec![AdoptRoot::guess(beside(&self.cache))];
                let adopted = store.adopt(&AdoptOptions { roots, ..AdoptOptions::default() })?;
                anyhow::ensure!(adopted.skipped.is_empty(), "not adopted: {:?}", adopted.skipped);
            }
        }
        Ok(())
    }
}

/// Brings an artifact, on this thread.
pub(crate) fn ensure(store: &Store, reference: &str) -> Result<samovar_store::Artifact> {
    Ok(runtime()?.block_on(store.ensure(&parse(reference)?, None))?)
}

/// Saves the state of so many tokens. Several say less of the same.
pub(crate) fn save_prefix(store: &Store, tokens: u32) -> Result<()> {
    let weights = Weights::File(samovar_core::Digest::of_bytes(b"weights"));
    let prefixes = store.prefixes(&weights, "engine 1", KvType::F16, &Scope::default());
    let state = vec![tokens as u8; 40 << 10];
    let saved = prefixes.save(&(0..tokens).collect::<Vec<_>>(), None, state.len() as u64, |mut file| {
        file.write_all(&state)
            .map(|()| state.len() as u64)
            .map_err(|error| Failure::new(ErrorKind::Storage, error.to_string()))
    });
    saved.map(drop).map_err(|failure| anyhow::anyhow!(failure.message))
}

/// Makes the packed file of these weights, unless it is here.
pub(crate) fn pack(store: &Store, weights: u8, parent: Option<KeyDigest>) -> Result<()> {
    let bytes = vec![weights; 40 << 10];
    let source = packed_source(weights);
    match store.packed().make(&source, "engine 1", bytes.len() as u64, parent)? {
        Make::Begun(making) => {
            // The engine's writing, in more than one piece.
            for (piece, at) in bytes.chunks(16 << 10).zip((0..).step_by(16 << 10)) {
                making.file().write_all_at(piece, at)?;
            }
            making.commit()?;
        }
        Make::Here => (),
        Make::ByAnother => anyhow::bail!("another process makes {source}"),
    }
    Ok(())
}

/// Makes the prepared file of these weights, unless it is here, as the converter does: in another file, in pieces, with its header
/// last, which then takes the place of the first.
pub(crate) fn prepare(store: &Store, weights: u8) -> Result<()> {
    let source = packed_source(weights);
    match store.prepared().make(&source, "engine 1", 80 << 10, None)? {
        Make::Begun(making) => {
            let converted = making.dir().join("converted.gguf");
            let file = fs_err::File::create(&converted)?;
            file.set_len(40 << 10)?;
            for at in [16 << 10, 32 << 10, 0] {
                let count = (16 << 10).min((40 << 10) - at);
                file.file().write_all_at(&vec![weights; count], at as u64)?;
            }
            file.sync_all()?;
            drop(file);
            fs_err::rename(&converted, making.path())?;
            making.commit()?;
        }
        Make::Here => (),
        Make::ByAnother => anyhow::bail!("another process prepares {source}"),
    }
    Ok(())
}

fn packed_source(weights: u8) -> String {
    format!("weights {weights}")
}

/// The references that an order's process said it has.
pub(crate) fn said(path: &Path) -> Vec<String> {
    let text = fs_err::read_to_string(path).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

pub(crate) fn parse(reference: &str) -> Result<ArtifactRef> {
    reference.parse().map_err(|error| anyhow::anyhow!("{reference}: {error}"))
}

/// Where models lie that do not come from the hub, on the same disk.
pub(crate) fn beside(cache: &Path) -> PathBuf {
    cache.with_file_name("beside")
}

/// Reads everything again and fetches again what is damaged.
pub(crate) fn repair(store: &Store) -> Result<()> {
    let options = VerifyOptions { is_repair: true, ..VerifyOptions::default() };
    let verified = runtime()?.block_on(store.verify(&options))?;
    anyhow::ensure!(verified.is_sound(), "not repaired: {verified:?}");
    Ok(())
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?)
}

/// A store of this test. No disk is too small for it, and no failure is tried for long.
pub(crate) fn config(cache: &Path, endpoint: &str, quota_bytes: Option<u64>) -> StoreConfig {
    let mut config = StoreConfig::new(cache, cache.with_extension("state"));
    config.max_size_bytes = quota_bytes.or(Some(1 << 40));
    config.min_free_bytes = 0;
    config.sources.hub_endpoint = Some(endpoint.to_owned());
    config.sources.retry.tries = 2;
    config.sources.retry.first_wait = Duration::from_millis(10);
    config
}
