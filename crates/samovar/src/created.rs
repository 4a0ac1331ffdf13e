//! What an owner creates and deletes: names over models, and models of the store.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use samovar_core::{ErrorKind, Failure};
use samovar_pool::{ModelSpec, ModelStats};
use samovar_store::KeyDigest;

use crate::catalog::Doomed;
use crate::preset::{CreateFrom, CreatedModel, Deleted, Preset};
use crate::request::Origin;
use crate::runtime::{Inner, Runtime, blocking};

/// How often, and how many times, a removal is tried again whose model is just leaving memory.
const AGAIN: (Duration, u32) = (Duration::from_millis(50), 100);

impl Runtime {
    /// Creates a name over a model that is here, in place of what was created under it before. It loads nothing: its requests
    /// share the instances of the model behind it. It is kept in the store, over restarts and for all processes.
    ///
    /// # Errors
    /// `InvalidRequest` for a name that cannot be created, a template that is none, or too much text; `NotFound` for a model
    /// that is not here; `Forbidden` for a model that a request of this origin may not name; whatever keeps the store from being
    /// written.
    pub async fn create(
        &self,
        name: &str,
        from: CreateFrom,
        preset: Preset,
        origin: Origin,
    ) -> Result<CreatedModel, Failure> {
        let (inner, name) = (Arc::clone(&self.inner), name.to_owned());
        blocking(move || inner.catalog.create(&name, &from, preset, origin)).await?
    }

    /// Every created name.
    pub async fn created(&self) -> Vec<CreatedModel> {
        let inner = Arc::clone(&self.inner);
        blocking(move || inner.catalog.created()).await.unwrap_or_default()
    }

    /// What requests to a model begin with where they say nothing else.
    ///
    /// # Errors
    /// Whatever resolving the name says.
    pub async fn preset(&self, reference: &str, origin: Origin) -> Result<Preset, Failure> {
        let (inner, reference) = (Arc::clone(&self.inner), reference.to_owned());
        blocking(move || inner.catalog.preset(&reference, origin)).await?
    }

    /// Deletes a created name, or a model of the store, which is unloaded before if no request uses it.
    ///
    /// # Errors
    /// `Busy` for a model that a request or another process uses; `Forbidden` for names of the settings, files of the owner and
    /// the built-in model; `NotFound` for what is not here.
    pub fn delete<'a>(&'a self, name: &'a str, origin: Origin) -> BoxFuture<'a, Result<Deleted, Failure>> {
        Box::pin(async move {
            let inner = &self.inner;
            // The pool knows it by its bytes, which the name leads to only as long as it is there.
            let spec = inner.resolve_local(name, origin).await.ok();
            let (looking, owned) = (Arc::clone(inner), name.to_owned());
            match blocking(move || looking.catalog.doom(&owned, origin)).await?? {
                Doomed::Gone => Ok(Deleted::default()),
                Doomed::Bytes(key) => {
                    let removed = inner.remove(name, spec.as_deref(), key).await;
                    Ok(removed.unwrap_or_else(|failure| {
                        tracing::info!(
                            name,
                            "the bytes of a deleted name stay until they are collected: {failure}"
                        );
                        Deleted::default()
                    }))
                }
                Doomed::Artifact(key) => inner.remove(name, spec.as_deref(), key).await,
            }
        })
    }
}

impl Inner {
    /// Removes an artifact that is known to the pool as this, if at all, and that no request uses.
    async fn remove(
        self: &Arc<Self>,
        name: &str,
        spec: Option<&ModelSpec>,
        key: KeyDigest,
    ) -> Result<Deleted, Failure> {
        if let Some(spec) = spec {
            let models = self.pool.snapshot().await.models;
            let is_used =
                |model: &ModelStats| model.key == spec.key && (model.busy_slots > 0 || model.queued > 0);
            if models.iter().any(is_used) {
                return Err(Failure::new(ErrorKind::Busy, format!("`{name}` is in use by a request"))
                    .with_param("model")
                    .with_hint("delete it when its requests have ended")
                    .with_retry_after_ms(1_000));
            }
            self.pool.unload(spec.key.as_str()).await?;
        }
        let (pause, tries) = AGAIN;
        for left in (0..tries).rev() {
            let inner = Arc::clone(self);
            match blocking(move || inner.catalog.remove_unneeded(&key)).await? {
                Ok(removed) => {
                    let freed_bytes = removed.map_or(0, |removed| removed.freed_bytes);
                    return Ok(Deleted { freed_bytes });
                }
                // Its last process is just ending.
                Err(failure) if failure.kind == ErrorKind::Busy && left > 0 => {
                    tokio::time::sleep(pause).await;
                }
                Err(failure) => return Err(failure.with_param("model")),
            }
        }
        Err(Failure::new(ErrorKind::Internal, "a model was not deleted"))
    }
}

#[cfg(test)]
mod tests {
    use samovar_core::Digest;
    use samovar_core::testing::fake::FakeEngine;
    use samovar_core::testing::gguf::{LlamaShape, llama};

    use super::*;

    #[tokio::test]
    async fn bytes_from_which_a_name_is_created_stay_when_the_last_one_before_it_was_deleted() {
        let home = tempfile::tempdir().expect("tempdir");
        let engine = Arc::new(FakeEngine::new());
        let runtime = Runtime::builder().cache_dir(home.path()).engine(engine).build().expect("builds");
        let (bytes, store) = (llama(LlamaShape::TINY).build(), runtime.store().await.expect("opens"));
        let digest = Digest::of_bytes(&bytes);
        let mut upload = store.begin_upload(digest, None).expect("begins");
        upload.write(&bytes).expect("writes");
        upload.finish().expect("ends");
        let create = async |name: &str| {
            let created = runtime.create(name, CreateFrom::Blob(digest), Preset::default(), Origin::Owner);
            created.await.expect("creates")
        };
        let doom = |name: &str| match runtime.inner.catalog.doom(name, Origin::Owner) {
            Ok(Doomed::Bytes(key)) => key,
            _ => panic!("{name} is the last name"),
        };
        let is_kept = |key: &KeyDigest| matches!(runtime.inner.catalog.remove_unneeded(key), Ok(None));
        create("one").await;
        let key = doom("one");
        // Before the bytes are removed.
        create("two").await;
        assert!(is_kept(&key));
        assert!(runtime.model("two", Origin::Owner).await.is_ok());
        assert!(!is_kept(&doom("two")));
    }
}
