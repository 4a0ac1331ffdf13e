//! Bit-rot and gaps: every byte is read again, what is wrong is set aside, and what can be is fetched again.
//!
//! ```text
//!   rows ─► two threads: read, hash ─► right ─► stamp            manifests ─► in the index? ─► fill
//!                                     └ wrong ─► quarantine      damaged ─► ensure ─► right again
//! ```
//!
//! Nothing that is right is changed, and bytes of other programs are never touched: only our reference to them goes.

mod reading;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::future::BoxFuture;
use samovar_core::Digest;
use samovar_core::model::ArtifactRef;
use serde::{Deserialize, Serialize};

use crate::artifact::Artifact;
use crate::artifact::key::KeyDigest;
use crate::cache::{Cache, manifests};
use crate::collect;
use crate::derived::file::{self, DerivedKind};
use crate::derived::prefix;
use crate::disk::blocking;
use crate::disk::space::entries;
use crate::error::Error;
use crate::fetch::progress::Watch;
use crate::index::BlobState;
use crate::store::Store;
use reading::Finding;

/// What is to be verified.
#[derive(Clone, Default)]
pub struct VerifyOptions {
    /// Only the blobs of these artifacts; empty = everything that is here.
    pub keys: Vec<KeyDigest>,
    /// Build the index again from the files, and fetch again what is damaged or gone.
    pub is_repair: bool,
    /// Is told how far the reading is.
    pub watch: Option<Watch>,
}

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verified {
    /// Blobs that were read.
    pub blobs: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Blobs whose bytes were wrong. They were set aside.
    pub damaged: Vec<Fault>,
    /// Blobs that the index has and the disk has not.
    pub missing: Vec<Fault>,
    /// Blobs that the disk would not give. They stay where they are.
    pub unreadable: Vec<Fault>,
    /// Blobs that are here and that nothing names; collection takes them.
    pub strays: u64,
    /// What the index has and no manifest says; a repair forgets it.
    pub unfounded: Vec<String>,
    /// Manifests whose files are not all here, by what users call the artifact.
    pub incomplete: Vec<String>,
    /// Manifests that are none, by their keys; a repair sets them aside.
    pub unreadable_manifests: Vec<String>,
    /// Saved prefixes that were read and were right.
    #[serde(default)]
    pub prefixes: u64,
    /// Saved prefixes whose bytes were wrong. They were removed; nothing is lost but the time to compute them.
    #[serde(default)]
    pub damaged_prefixes: u64,
    /// Packed files that were read and were right.
    #[serde(default)]
    pub packed: u64,
    /// Packed files whose bytes were wrong. They were removed; nothing is lost but the time to make them.
    #[serde(default)]
    pub damaged_packed: u64,
    /// Prepared models that were read and were right.
    #[serde(default)]
    pub prepared: u64,
    /// Prepared models whose bytes were wrong. They were removed; nothing is lost but the time to prepare them.
    #[serde(default)]
    pub damaged_prepared: u64,
    /// Artifacts that a repair made whole again, by what users call them.
    pub repaired: Vec<String>,
    /// Artifacts that a repair could not make whole.
    pub unrepaired: Vec<Unrepaired>,
}

/// A blob that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// Its digest.
    pub digest: Digest,
    /// The artifacts that need it, by what users call them.
    pub artifacts: Vec<String>,
    /// What is wrong.
    pub message: String,
}

/// An artifact that could not be made whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unrepaired {
    /// What users call it.
    pub reference: String,
    /// Why not.
    pub message: String,
}

impl Verified {
    /// Whether everything is as it should be, now.
    pub fn is_sound(&self) -> bool {
        self.unreadable.is_empty() && self.unrepaired.is_empty() && self.open_faults().is_empty()
    }

    /// Artifacts with a fault that was not repaired, by what users call them.
    fn open_faults(&self) -> BTreeSet<&str> {
        let faults = self.damaged.iter().chain(&self.missing).flat_map(|fault| &fault.artifacts);
        let open = faults.chain(&self.incomplete).filter(|reference| !self.repaired.contains(reference));
        open.map(String::as_str).collect()
    }
}

/// An artifact to be fetched again.
struct Broken {
    key: KeyDigest,
    reference: String,
    commit: String,
}

impl Store {
    /// Reads everything again and holds it against its digest. What is damaged is set aside, so that it is fetched
    /// again when it is next asked for; a repair does so at once.
    ///
    /// # Errors
    /// When the index or a directory cannot be used. What is wrong with single files is in the answer.
    ///
    /// # Cancel safety
    /// Dropping it stops after the files at hand.
    pub fn verify<'a>(&'a self, options: &'a VerifyOptions) -> BoxFuture<'a, Result<Verified, Error>> {
        Box::pin(async move {
            let stop = Arc::new(AtomicBool::new(false));
            let _stop_on_drop = StopOnDrop(Arc::clone(&stop));
            let (store, given) = (self.clone(), options.clone());
            let (mut verified, broken) =
                blocking::run(move || look(&store.0.local.cache, &given, &stop)).await?;
            if options.is_repair {
                for broken in broken {
                    self.mend(broken, &mut verified).await;
                }
            }
            Ok(verified)
        })
    }

    async fn mend(&self, broken: Broken, verified: &mut Verified) {
        let outcome = match self.fetch_again(&broken.reference, &broken.key).await {
            // The name has moved on; the commit has not.
            Ok(false) => match at_commit(&broken.reference, &broken.commit) {
                Some(reference) => self.fetch_again(&reference, &broken.key).await,
                None => Ok(false),
            },
            other => other,
        };
        let message = match outcome {
            Ok(true) => return verified.repaired.push(broken.reference),
            Ok(false) => "its source has something else under this name now".to_owned(),
            Err(error) => error.to_string(),
        };
        verified.unrepaired.push(Unrepaired { reference: broken.reference, message });
    }

    /// Whether this artifact is here after its reference was asked for.
    async fn fetch_again(&self, reference: &str, key: &KeyDigest) -> Result<bool, Error> {
        let reference: ArtifactRef = reference.parse().map_err(|_| Error::Unsupported {
            message: "it did not come from a place that can be asked again".to_owned(),
            hint: "put it into the cache again the way it came".to_owned(),
        })?;
        self.ensure(&reference, None).await?;
        let (store, key) = (self.clone(), *key);
        blocking::run(move || Ok(store.0.local.cache.index.artifact(&key)?.is_some())).await
    }
}

struct StopOnDrop(Arc<AtomicBool>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// The reference of a hub's artifact at its commit, for one that was asked for without.
fn at_commit(reference: &str, commit: &str) -> Option<String> {
    let Ok(ArtifactRef::Hub(hub)) = reference.parse() else { return None };
    let part =
        |before: &str, text: Option<&str>| text.map_or(String::new(), |text| format!("{before}{text}"));
    let (file, quant) = (part("/", hub.file()), part(":", hub.quant()));
    Some(format!("hf://{}/{}@{commit}{file}{quant}", hub.org(), hub.name()))
}

fn look(cache: &Cache, options: &VerifyOptions, stop: &AtomicBool) -> Result<(Verified, Vec<Broken>), Error> {
    let mut verified = Verified::default();
    if cache.layout.is_writable() {
        collect::recover(&cache.layout, &cache.index)?;
    }
    if options.is_repair {
        cache.writable("a repair")?;
        manifests::fill(&cache.layout, &cache.index)?;
    }
    let mut broken = look_at_manifests(cache, options, &mut verified)?;
    read_blobs(cache, options, stop, &mut verified)?;
    let prefixes = prefix::verify(&cache.layout, &options.keys, stop)?;
    (verified.prefixes, verified.damaged_prefixes) = (prefixes.count, prefixes.damaged);
    let packed = file::verify(cache, DerivedKind::Packed, &options.keys, stop)?;
    (verified.packed, verified.damaged_packed) = (packed.count, packed.damaged);
    let prepared = file::verify(cache, DerivedKind::Prepared, &options.keys, stop)?;
    (verified.prepared, verified.damaged_prepared) = (prepared.count, prepared.damaged);
    verified.bytes += prefixes.bytes + packed.bytes + prepared.bytes;
    for artifact in wanted(cache, options)? {
        if cache.index.artifact(&artifact.key_digest)?.is_none() {
            broken.push(Broken::of(&artifact));
        }
    }
    Ok((verified, broken))
}

fn wanted(cache: &Cache, options: &VerifyOptions) -> Result<Vec<Artifact>, Error> {
    let mut artifacts = cache.index.artifacts()?;
    if !options.keys.is_empty() {
        artifacts.retain(|artifact| options.keys.contains(&artifact.key_digest));
    }
    Ok(artifacts)
}

impl Broken {
    fn of(artifact: &Artifact) -> Self {
        let commit = artifact.key.commit.to_string();
        Self { key: artifact.key_digest, reference: artifact.reference.clone(), commit }
    }
}

/// Holds the index against the manifests, which are the truth. Gives what a manifest promises and is not here.
fn look_at_manifests(
    cache: &Cache,
    options: &VerifyOptions,
    verified: &mut Verified,
) -> Result<Vec<Broken>, Error> {
    let mut broken = Vec::new();
    if !options.keys.is_empty() {
        return Ok(broken);
    }
    let mut known: BTreeMap<KeyDigest, Artifact> =
        cache.index.artifacts()?.into_iter().map(|artifact| (artifact.key_digest, artifact)).collect();
    for key in manifests::keys(&cache.layout)? {
        match manifests::read(&cache.layout, &key)? {
            Some(recorded) if known.remove(&key).is_none() => {
                verified.incomplete.push(recorded.manifest.reference.clone());
                let commit = recorded.manifest.key.commit.to_string();
                broken.push(Broken { key, reference: recorded.manifest.reference, commit });
            }
            Some(_) => (),
            None => {
                verified.unreadable_manifests.push(key.to_string());
                if options.is_repair {
                    set_manifest_aside(cache, &key)?;
                }
            }
        }
    }
    for (key, artifact) in known {
        verified.unfounded.push(artifact.reference);
        if options.is_repair {
            cache.index.remove_artifact(&key)?;
        }
    }
    Ok(broken)
}

fn set_manifest_aside(cache: &Cache, key: &KeyDigest) -> Result<(), Error> {
    let to = cache.layout.quarantines().join(format!("{key}.json"));
    fs_err::rename(cache.layout.manifest(key), to)
        .map_err(Error::io("a manifest that is none could not be set aside"))
}

fn read_blobs(
    cache: &Cache,
    options: &VerifyOptions,
    stop: &AtomicBool,
    verified: &mut Verified,
) -> Result<(), Error> {
    let mut users: BTreeMap<Digest, BTreeSet<String>> = BTreeMap::new();
    let mut digests: BTreeMap<Digest, u64> = BTreeMap::new();
    for artifact in wanted(cache, options)? {
        for file in &artifact.files {
            users.entry(file.digest).or_default().insert(artifact.reference.clone());
            digests.insert(file.digest, file.size);
        }
    }
    if options.keys.is_empty() {
        let rows = cache.index.blobs()?;
        digests.extend(
            rows.iter().filter(|row| row.state == BlobState::Ready).map(|row| (row.digest, row.size)),
        );
        verified.strays = strays(cache, &digests)?;
    }
    let read = reading::read(cache, digests, options.watch.as_ref(), stop);
    verified.bytes = read.bytes;
    for (digest, finding) in read.found {
        verified.blobs += 1;
        let artifacts: Vec<String> = users.remove(&digest).unwrap_or_default().into_iter().collect();
        let fault = |message: &str| Fault { digest, artifacts, message: message.to_owned() };
        match finding {
            Finding::Right => (),
            Finding::Wrong => verified.damaged.push(fault("its bytes are not what they were")),
            Finding::Gone => verified.missing.push(fault("its file is gone")),
            Finding::Unread(message) => verified.unreadable.push(fault(&message)),
        }
    }
    Ok(())
}

fn strays(cache: &Cache, known: &BTreeMap<Digest, u64>) -> Result<u64, Error> {
    let mut strays = 0;
    for shard in cache.layout.blob_shards() {
        let entries = entries(&shard).map_err(Error::io("the blobs could not be listed"))?;
        strays += entries
            .iter()
            .filter_map(|(name, _)| name.strip_suffix(".ref").unwrap_or(name).parse::<Digest>().ok())
            .filter(|digest| !known.contains_key(digest))
            .count() as u64;
    }
    Ok(strays)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moving_name_is_held_to_its_commit() {
        assert_eq!(at_commit("hf://a/b:Q4_K_M", "c0ffee").as_deref(), Some("hf://a/b@c0ffee:Q4_K_M"));
        assert_eq!(at_commit("hf://a/b/x.gguf", "c0ffee").as_deref(), Some("hf://a/b@c0ffee/x.gguf"));
        assert_eq!(at_commit("https://example.org/x.gguf", "c0ffee"), None);
    }
}
