//! Removes what was prepared of folders of the user. What was prepared of an artifact leaves with that.

use std::path::Path;
use std::sync::Arc;

use samovar_core::{ErrorKind, Failure};
use samovar_store::{DerivedFacts, DerivedUse, Store};

use crate::catalog::{is_adapter, source_of_folder};
use crate::runtime::{Runtime, blocking};
use crate::weights;

impl Runtime {
    /// How much was prepared of a folder, which need not be there any more.
    ///
    /// # Errors
    /// Whatever keeps the store from being read.
    pub async fn prepared_of(&self, folder: &Path) -> Result<DerivedUse, Failure> {
        let (inner, source) = (Arc::clone(&self.inner), source_of_folder(folder));
        blocking(move || {
            let files = files_of(&inner.lazy_store.store()?, Some(source.as_str()))?;
            Ok(DerivedUse { count: files.len() as u64, bytes: files.iter().map(|file| file.bytes).sum() })
        })
        .await?
    }

    /// Removes what was prepared of a folder, or of all folders, and what was packed of that. Nothing in the folders goes.
    /// Returns how much went.
    ///
    /// # Errors
    /// `Busy` when a loaded model uses some of it, which stays; whatever keeps the store from being changed.
    pub async fn remove_prepared(&self, folder: Option<&Path>) -> Result<DerivedUse, Failure> {
        let (inner, source) = (Arc::clone(&self.inner), folder.map(source_of_folder));
        blocking(move || remove(&inner.lazy_store.store()?, source.as_deref())).await?
    }
}

/// The prepared files of this folder, or of all folders.
fn files_of(store: &Store, source: Option<&str>) -> Result<Vec<DerivedFacts>, Failure> {
    let mut files = store.prepared().list()?;
    files.retain(|file| match source {
        Some(source) => file.source == source,
        None => file.parent.is_none(),
    });
    Ok(files)
}

fn remove(store: &Store, source: Option<&str>) -> Result<DerivedUse, Failure> {
    let (prepared, packed) = (store.prepared(), store.packed());
    let (mut gone, mut used) = (DerivedUse::default(), None);
    for file in files_of(store, source)? {
        let weights =
            prepared.peek(&file.source, &file.key).map(|(_, id)| weights::of_prepared(id).to_string());
        if !prepared.remove(&file)? {
            used = Some(file);
            continue;
        }
        gone.count += 1;
        gone.bytes += file.bytes;
        for copy in packed.list()?.into_iter().filter(|copy| Some(&copy.source) == weights.as_ref()) {
            if packed.remove(&copy)? {
                gone.bytes += copy.bytes;
            }
        }
    }
    match used {
        None => Ok(gone),
        Some(file) => {
            let message = "a running program uses what was prepared of the folder";
            let hint = if is_adapter(&file.key) {
                "a program keeps the adapters that it attached until it ends: `samovar shutdown`"
            } else {
                "unload the model with `samovar stop`"
            };
            Err(Failure::new(ErrorKind::Busy, message).with_param("model").with_hint(hint))
        }
    }
}
