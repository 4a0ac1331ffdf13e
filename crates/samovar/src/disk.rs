//! What an owner does with the models on disk: which of them a name means; to fetch, remove, collect and verify them.
//!
//! It decides nothing about the disk: the store does.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use samovar_core::model::{ArtifactRef, HubRef};
use samovar_core::{Digest, ErrorKind, Failure, ModelRef};
use samovar_store::{
    Artifact, CollectOptions, Collected, DiskUse, FetchUnderWay, Pulled, Removed, Store, Verified,
    VerifyOptions, Watch,
};
use serde::{Deserialize, Serialize};

use crate::fetch;
use crate::request::Origin;
use crate::runtime::{Inner, Runtime, blocking};

/// A model that left the disk.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemovedModel {
    /// The canonical text by which users named it, or the created name.
    pub reference: String,
    /// Bytes of its files; of a created name, of those that went with it.
    pub bytes: u64,
    /// Bytes that the disk has more of: less than `bytes` where others share them.
    pub freed_bytes: u64,
    /// The loaded model that uses its files under another name; they stay for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub used_by: Option<String>,
}

impl Runtime {
    /// The models on disk that a name may mean: one where it names one exactly, several where it leaves something open.
    ///
    /// # Errors
    /// `InvalidRequest` for text that names no model; whatever keeps the store from being read.
    pub async fn stored(&self, name: &str) -> Result<Vec<Artifact>, Failure> {
        let (inner, name) = (Arc::clone(&self.inner), name.to_owned());
        blocking(move || inner.stored(&name)).await?
    }

    /// The model on disk that a name means.
    ///
    /// # Errors
    /// `NotFound` when there is none; `InvalidRequest` when there are several, with their names.
    pub async fn stored_one(&self, name: &str) -> Result<Artifact, Failure> {
        let mut fitting = self.stored(name).await?;
        match fitting.len() {
            1 => Ok(fitting.remove(0)),
            0 => Err(self.not_stored(name).await?),
            count => {
                let names: Vec<&str> = fitting.iter().map(|artifact| artifact.reference.as_str()).collect();
                let message = format!("{name} fits {count} models on disk: {}", names.join(", "));
                Err(Failure::new(ErrorKind::InvalidRequest, message)
                    .with_param("model")
                    .with_hint("name one of them"))
            }
        }
    }

    /// Every model on disk, in the order in which they came.
    ///
    /// # Errors
    /// Whatever keeps the store from being read.
    pub async fn all_stored(&self) -> Result<Vec<Artifact>, Failure> {
        let store = self.store().await?;
        Ok(blocking(move || store.list()).await??)
    }

    /// Asks a model's source what its name means now and fetches what is missing of that. Where nothing may be fetched, the model
    /// that is here is the answer.
    ///
    /// # Errors
    /// `InvalidRequest` for a file, which is here already; `NotFound` for an unknown name; whatever the source or the disk says.
    ///
    /// # Cancel safety
    /// Dropping it stops the fetch unless others wait for it. What was fetched is kept for the next one.
    pub fn pull<'a>(
        &'a self,
        model: &'a str,
        watch: Option<Watch>,
    ) -> BoxFuture<'a, Result<Pulled, Failure>> {
        Box::pin(self.pull_unboxed(model, watch))
    }

    async fn pull_unboxed(&self, model: &str, watch: Option<Watch>) -> Result<Pulled, Failure> {
        let Some(reference) = self.source_of(model).await? else {
            // The built-in model enters the store when it is looked at.
            self.inner.resolve_local(model, Origin::Owner).await?;
            let artifact = self.stored_one(model).await?;
            return Ok(Pulled { artifact, fetched_bytes: 0, was_here: true });
        };
        let store = self.store().await?;
        let was_nearby = fetch::take_nearby(&store, &reference, watch.clone()).await;
        if !was_nearby && !self.inner.lazy_store.is_offline() {
            self.choose(model, watch.clone()).await?;
        }
        let failure = match store.pull(&reference, watch).await {
            Ok(pulled) => return Ok(pulled),
            Err(error) => Failure::from(error),
        };
        if !was_nearby && !self.inner.lazy_store.is_offline() {
            return Err(failure);
        }
        match blocking(move || store.find(&reference)).await? {
            Ok(Some(artifact)) => Ok(Pulled { artifact, fetched_bytes: 0, was_here: true }),
            _ => Err(failure),
        }
    }

    /// Brings what a reference means to this machine where it is not here yet: from another program on it, or else from its source.
    ///
    /// # Errors
    /// Whatever the source or the disk says.
    ///
    /// # Cancel safety
    /// As [`Runtime::pull`].
    pub fn bring<'a>(
        &'a self,
        reference: &'a ArtifactRef,
        watch: Option<Watch>,
    ) -> BoxFuture<'a, Result<(), Failure>> {
        Box::pin(self.bring_unboxed(reference, watch))
    }

    async fn bring_unboxed(&self, reference: &ArtifactRef, watch: Option<Watch>) -> Result<(), Failure> {
        let store = self.store().await?;
        if !fetch::take_nearby(&store, reference, watch.clone()).await {
            self.choose(&reference.to_string(), watch.clone()).await?;
        }
        store.ensure(reference, watch).await?;
        Ok(())
    }

    /// What a name is fetched from; `None` for the built-in model.
    ///
    /// # Errors
    /// `InvalidRequest` for a file, and for a created name; `NotFound` for an unknown name.
    pub async fn source_of(&self, name: &str) -> Result<Option<ArtifactRef>, Failure> {
        match self.meaning(name).await? {
            ModelRef::Demo => Ok(None),
            ModelRef::Hub(hub) => Ok(Some(ArtifactRef::Hub(hub))),
            ModelRef::Remote(remote) => Ok(Some(ArtifactRef::Remote(remote))),
            ModelRef::File(path) => {
                let message = format!("{} is a file, and needs no fetching", path.display());
                Err(Failure::new(ErrorKind::InvalidRequest, message)
                    .with_param("model")
                    .with_hint("use it where it lies"))
            }
            ModelRef::Alias(alias) => Err(unknown(alias.as_str())),
        }
    }

    /// What a name of the settings is fetched from; `None` for all other names, and for one that means something else.
    pub async fn configured_source(&self, name: &str) -> Option<ArtifactRef> {
        let (inner, name) = (Arc::clone(&self.inner), name.to_owned());
        blocking(move || inner.catalog.configured(&name)).await.ok()??.artifact()
    }

    /// The fetches that callers wait for.
    pub fn fetches(&self) -> Vec<FetchUnderWay> {
        self.inner.lazy_store.opened().map(|store| store.fetches()).unwrap_or_default()
    }

    /// Removes a model from the disk, pinned there or not. What others need of its files stays. Of a created name, the name
    /// goes, and the bytes that were sent for it.
    ///
    /// # Errors
    /// `Busy` when it is in use; as [`stored_one`](Self::stored_one).
    pub fn remove<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<RemovedModel, Failure>> {
        Box::pin(async move {
            let (inner, asked) = (Arc::clone(&self.inner), name.to_owned());
            if blocking(move || inner.catalog.is_created(&asked)).await? {
                let freed_bytes = self.delete(name, Origin::Owner).await?.freed_bytes;
                let reference = name.to_owned();
                return Ok(RemovedModel { reference, bytes: freed_bytes, freed_bytes, used_by: None });
            }
            let artifact = self.stored_one(name).await?;
            self.remove_artifact(&artifact).await
        })
    }

    /// The same for one that is known.
    ///
    /// # Errors
    /// `Busy` when it is in use; whatever the disk says.
    pub async fn remove_artifact(&self, artifact: &Artifact) -> Result<RemovedModel, Failure> {
        let (store, key) = (self.store().await?, artifact.key_digest);
        let outcome = blocking(move || store.remove(&key).map_err(Failure::from)).await?;
        let (removed, used_by) = match outcome {
            Ok(removed) => (removed, None),
            Err(failure) if failure.kind == ErrorKind::Busy => self.remove_name(artifact, failure).await?,
            Err(failure) => return Err(failure),
        };
        Ok(RemovedModel {
            reference: artifact.reference.clone(),
            bytes: artifact.bytes(),
            freed_bytes: removed.freed_bytes,
            used_by,
        })
    }

    /// Removes the name of a model whose bytes a loaded model of another name uses; gives that name as well. What is loaded
    /// under this very name is in use.
    async fn remove_name(
        &self,
        artifact: &Artifact,
        failure: Failure,
    ) -> Result<(Removed, Option<String>), Failure> {
        let models = self.inner.pool.snapshot().await.models;
        let loaded = models.into_iter().filter(|model| model.held_bytes + model.mapped_bytes > 0);
        let loaded: Vec<String> = loaded.map(|model| model.name).collect();
        let removed = self.remove_name_used_by(std::process::id(), loaded, artifact).await?;
        let (removed, user) = removed.ok_or_else(|| {
            let hint = "unload it (`samovar stop MODEL`, `POST /admin/unload`), then remove it";
            failure.with_hint(hint)
        })?;
        Ok((removed, Some(user)))
    }

    /// Removes the name of a model whose bytes a process uses under another name, of those that it has `loaded`; gives that name
    /// as well. `None` where it uses them under no other name, or under this very one.
    ///
    /// # Errors
    /// `Busy` when another process than `pid` uses it; whatever the disk says.
    pub async fn remove_name_used_by(
        &self,
        pid: u32,
        loaded: Vec<String>,
        artifact: &Artifact,
    ) -> Result<Option<(Removed, String)>, Failure> {
        let (inner, doomed) = (Arc::clone(&self.inner), artifact.clone());
        blocking(move || inner.remove_name(&doomed, &loaded, pid)).await?
    }

    /// Lets go what is past the limits of the disk, or says what would go.
    ///
    /// # Errors
    /// When the index or the disk refuses; what had not left yet stays as it was.
    pub async fn collect(&self, options: CollectOptions) -> Result<Collected, Failure> {
        let store = self.store().await?;
        Ok(blocking(move || store.collect(&options)).await??)
    }

    /// Reads these models again and holds them against their digests; all where there are none.
    ///
    /// # Errors
    /// As [`stored`](Self::stored); `NotFound` for a name that fits nothing; whatever the index or a directory says.
    ///
    /// # Cancel safety
    /// Dropping it stops after the files at hand.
    pub fn verify<'a>(
        &'a self,
        models: &'a [String],
        is_repair: bool,
        watch: Option<Watch>,
    ) -> BoxFuture<'a, Result<Verified, Failure>> {
        Box::pin(async move {
            let mut keys = Vec::new();
            for name in models {
                let fitting = self.stored(name).await?;
                if fitting.is_empty() {
                    return Err(self.not_stored(name).await?);
                }
                keys.extend(fitting.iter().map(|artifact| artifact.key_digest));
            }
            let store = self.store().await?;
            Ok(store.verify(&VerifyOptions { keys, is_repair, watch }).await?)
        })
    }

    /// What the store takes of the disk.
    ///
    /// # Errors
    /// When the index or a directory cannot be read.
    pub async fn disk_use(&self) -> Result<DiskUse, Failure> {
        let store = self.store().await?;
        Ok(blocking(move || store.disk_use()).await??)
    }

    async fn meaning(&self, name: &str) -> Result<ModelRef, Failure> {
        let (inner, name) = (Arc::clone(&self.inner), name.to_owned());
        blocking(move || match inner.catalog.meaning(&name)? {
            ModelRef::Alias(alias) if inner.catalog.is_created(&name) => Err(created(alias.as_str())),
            meaning => Ok(meaning),
        })
        .await?
    }

    /// What is said of a name that fits nothing on disk.
    async fn not_stored(&self, name: &str) -> Result<Failure, Failure> {
        Ok(match self.meaning(name).await? {
            ModelRef::Alias(alias) => unknown(alias.as_str()),
            ModelRef::File(path) => {
                let message = format!("{} is a file of its owner, and not in the store", path.display());
                Failure::new(ErrorKind::InvalidRequest, message)
                    .with_param("model")
                    .with_hint("`samovar list` shows what is in the store")
            }
            reference => Failure::new(ErrorKind::NotFound, format!("{reference} is not on disk"))
                .with_param("model")
                .with_hint(format!("samovar pull {reference} fetches it")),
        })
    }
}

impl Inner {
    fn stored(&self, name: &str) -> Result<Vec<Artifact>, Failure> {
        fitting_artifacts(self.lazy_store.store()?.list()?, name, || self.catalog.meaning(name))
    }

    fn remove_name(
        &self,
        doomed: &Artifact,
        loaded: &[String],
        pid: u32,
    ) -> Result<Option<(Removed, String)>, Failure> {
        let store: Store = self.lazy_store.store()?;
        let mut others = store.list()?;
        others.retain(|other| shares_all(doomed, other));
        let may_mean = |name: &str, artifact: &Artifact| {
            self.catalog.meaning(name).is_ok_and(|wanted| reference_fits(&wanted, &artifact.reference))
        };
        let user = loaded.iter().find(|name| others.iter().any(|other| may_mean(name, other)));
        let Some(user) = user.filter(|_| !loaded.iter().any(|name| may_mean(name, doomed))) else {
            return Ok(None);
        };
        // Another process may use it by this very name: the store asks which one does.
        let removed = store.remove_name(&doomed.key_digest, pid)?;
        Ok(Some((removed, user.clone())))
    }
}

/// Whether another artifact has each file of this one.
fn shares_all(artifact: &Artifact, other: &Artifact) -> bool {
    let has = |digest: &Digest| other.files.iter().any(|file| file.digest == *digest);
    other.key_digest != artifact.key_digest && artifact.files.iter().all(|file| has(&file.digest))
}

fn unknown(name: &str) -> Failure {
    Failure::new(ErrorKind::NotFound, format!("there is no model named `{name}`"))
        .with_param("model")
        .with_hint("write org/name:Q4_K_M for a model of the hub")
}

fn created(name: &str) -> Failure {
    let message = format!("`{name}` is a created name, and has no files of its own");
    Failure::new(ErrorKind::InvalidRequest, message)
        .with_param("model")
        .with_hint(format!("name the model that it was created from; `samovar show {name}` tells it"))
}

/// Which of these artifacts a name may mean: one where it names one exactly, several where it leaves something open. `meaning` is
/// what it stands for, where it is no artifact's reference or key.
///
/// # Errors
/// Those of `meaning`.
pub fn fitting_artifacts(
    mut artifacts: Vec<Artifact>,
    name: &str,
    meaning: impl FnOnce() -> Result<ModelRef, Failure>,
) -> Result<Vec<Artifact>, Failure> {
    let is_it = |artifact: &&Artifact| artifact.reference == name || artifact.key_digest.to_string() == name;
    if let Some(exact) = artifacts.iter().find(is_it) {
        return Ok(vec![exact.clone()]);
    }
    let wanted = meaning()?;
    let exact = wanted.to_string();
    artifacts.retain(|artifact| reference_fits(&wanted, &artifact.reference));
    match artifacts.iter().find(|artifact| artifact.reference == exact) {
        Some(exact) => Ok(vec![exact.clone()]),
        None => Ok(artifacts),
    }
}

/// Whether an artifact of this reference is what `wanted` may mean. What `wanted` leaves open fits all.
pub fn reference_fits(wanted: &ModelRef, reference: &str) -> bool {
    let Ok(has) = reference.parse::<ModelRef>() else { return false };
    match (wanted, &has) {
        (ModelRef::Hub(wanted), ModelRef::Hub(has)) => hub_fits(wanted, has),
        (ModelRef::Remote(wanted), ModelRef::Remote(has)) => {
            wanted.scheme() == has.scheme()
                && wanted.location() == has.location()
                && wanted.digest().is_none_or(|digest| has.digest().is_none_or(|has| has == digest))
        }
        (wanted, has) => wanted == has,
    }
}

fn hub_fits(wanted: &HubRef, has: &HubRef) -> bool {
    let same = |wanted: Option<&str>, has: Option<&str>| {
        wanted.is_none_or(|wanted| has.is_some_and(|has| has.eq_ignore_ascii_case(wanted)))
    };
    wanted.org() == has.org()
        && wanted.name() == has.name()
        && same(wanted.revision(), has.revision())
        && same(wanted.file(), has.file())
        && same(wanted.quant(), has.quant())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_open_fits_all() {
        let fits = |wanted: &str, has: &str| reference_fits(&wanted.parse().expect("a reference"), has);
        for has in ["hf://o/n", "hf://o/n:Q4_K_M", "hf://o/n@v1:Q8_0", "hf://o/n/x.gguf"] {
            assert!(fits("o/n", has), "{has}");
        }
        assert!(fits("o/n:q4_k_m", "hf://o/n:Q4_K_M"));
        assert!(!fits("o/n:Q4_K_M", "hf://o/n"));
        assert!(!fits("o/n@v1", "hf://o/n"));
        assert!(!fits("o/n", "hf://o/m"));
        assert!(fits("demo", "demo") && !fits("demo", "hf://o/n") && !fits("o/n", "demo"));
        assert!(fits("https://h/x.gguf", "https://h/x.gguf"));
        assert!(!fits("https://h/x.gguf", "https://h/y.gguf"));
    }
}
