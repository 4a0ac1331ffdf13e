//! The files that the adapters of a name are attached from: those in GGUF as they are, and those that PEFT published prepared once
//! for all models of the same sides.
//!
//! ```text
//!   a file ──────────────────────────────────────────────► as it is
//!   a folder, or hf://organisation/name ─► source, key ─┬─► prepared: its file, leased as long as this process lives
//!                                                       └─► not yet, or not here: the runtime helps, and asks again
//! ```

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use samovar_core::{Adapter, Descriptor, Digest, ErrorKind, Failure, ModelRef, Quantization};
use samovar_store::OpenedDerived;

use super::Catalog;
use super::facts::Facts;
use super::published::{Published, PublishedPlace, folder_digest, is_published};
use super::target::{Absent, ModelLocation, Remote, existing};
use crate::bounded::BoundedMap;
use crate::settings::ModelSettings;

/// Prepared adapters that stay on the disk whatever is collected: those that were used last.
const LEASES_MAX: usize = 256;

/// Prepared adapters that this process used, by what they were made of and as. What was made of files that are not in a folder any
/// more is let go for what is made of the new ones.
#[derive(Default)]
pub(super) struct AdapterLeases(Mutex<BoundedMap<String, OpenedDerived, LEASES_MAX>>);

/// The adapters of a name.
#[derive(Default)]
pub(super) struct AdapterFiles {
    /// Those that can be attached.
    pub(super) ready: Vec<Adapter>,
    /// The first that has to be fetched or prepared before.
    pub(super) absent: Option<Absent>,
}

/// Where an adapter leads.
enum AdapterFile {
    Here(PathBuf),
    Absent(Absent),
}

impl Catalog {
    /// The files of these adapters for a model.
    ///
    /// # Errors
    /// `Unsupported` for one that no engine of this build prepares; whatever keeps the store or a folder from being looked at.
    pub(super) fn adapter_files(&self, facts: &Facts, adapters: &[Adapter]) -> Result<AdapterFiles, Failure> {
        let mut files = AdapterFiles::default();
        for adapter in adapters {
            // What no engine attaches is refused with all of them, and is not prepared before.
            let file = if facts.capabilities.can_adapt {
                self.adapter_file(facts, &adapter.path)?
            } else {
                AdapterFile::Here(adapter.path.clone())
            };
            match file {
                AdapterFile::Here(path) => files.ready.push(Adapter { path, scale: adapter.scale }),
                AdapterFile::Absent(absent) => files.absent = files.absent.or(Some(absent)),
            }
        }
        Ok(files)
    }

    fn adapter_file(&self, facts: &Facts, path: &Path) -> Result<AdapterFile, Failure> {
        let place = match reference_in(path) {
            Some(reference) => match self.place_of(&reference?, &path.display().to_string())? {
                ModelLocation::Stored(artifact) if is_published(&artifact) => {
                    PublishedPlace::Artifact(artifact.key_digest)
                }
                ModelLocation::Remote(reference) => {
                    let settings = ModelSettings::default();
                    let remote = Remote { reference, settings, asked_context: None };
                    return Ok(AdapterFile::Absent(Absent::Remote(Box::new(remote))));
                }
                _ => return Err(not_published(path)),
            },
            None if path.is_dir() => {
                let folder = existing(path)?;
                let files = folder_digest(&folder)?;
                PublishedPlace::Folder(folder, files)
            }
            None => return Ok(AdapterFile::Here(path.to_owned())),
        };
        let preparer = self.engine.preparer().ok_or_else(|| not_prepared(path))?;
        let published = Published {
            name: path.display().to_string(),
            place,
            quantization: Quantization::AsPublished,
            is_set: true,
            preparer_key: preparer.key,
            base: Some(Arc::clone(&facts.descriptor)),
            choice: String::new(),
        };
        Ok(match self.prepared(&published)? {
            Some((file, _)) if self.is_leased(&published, &file)? => AdapterFile::Here(file),
            _ => AdapterFile::Absent(Absent::Unprepared(published)),
        })
    }

    /// Leases a prepared adapter that was not leased before; false when it was damaged, and is gone.
    fn is_leased(&self, published: &Published, file: &Path) -> Result<bool, Failure> {
        // Every change is a single insert.
        let leases = || self.adapter_leases.0.lock().unwrap_or_else(PoisonError::into_inner);
        let key = format!("{} {}", published.source(), published.made_as());
        if leases().get(key.as_str()).is_some_and(|known| known.path() == file) {
            return Ok(true);
        }
        let Some(opened) = self.lazy_store.store()?.prepared().open(file)? else { return Ok(false) };
        leases().insert(key, opened);
        Ok(true)
    }
}

/// What is read where an adapter is written as a place to fetch it from.
fn reference_in(path: &Path) -> Option<Result<ModelRef, Failure>> {
    let text = path.to_str().filter(|text| text.contains("://"))?;
    Some(text.parse::<ModelRef>().map_err(Failure::from))
}

/// What tells the models apart for which an adapter is written otherwise.
pub(super) fn sides_of(base: &Descriptor) -> Digest {
    let Descriptor { architecture, blocks, heads, kv_heads, vocabulary, .. } = base;
    let widths = [base.embedding_width, base.key_width, base.value_width, base.feed_forward_width];
    let text =
        format!("samovar adapter 1\n{architecture}\n{blocks} {heads} {kv_heads} {vocabulary} {widths:?}\n");
    Digest::of_bytes(text.as_bytes())
}

fn not_published(path: &Path) -> Failure {
    let message = format!("{} is no adapter in safetensors", path.display());
    Failure::new(ErrorKind::Unsupported, message)
        .with_param("model")
        .with_hint("fetch an adapter in GGUF yourself, and name its file under `adapters`")
}

fn not_prepared(path: &Path) -> Failure {
    let message = format!("{} is an adapter in safetensors, and this build prepares none", path.display());
    Failure::new(ErrorKind::Unsupported, message)
        .with_param("model")
        .with_hint("name an adapter in GGUF under `adapters`")
}

#[cfg(test)]
mod tests {
    use samovar_core::testing::fake::FakeEngine;

    use super::*;

    #[test]
    fn models_of_the_same_sides_share_a_prepared_adapter_and_others_do_not() {
        let base = FakeEngine::descriptor("a model", 1 << 20);
        let quantized = Descriptor { quantization: "Q4_K_M".into(), file_bytes: 1, ..base.clone() };
        assert_eq!(sides_of(&base), sides_of(&quantized));
        let wider = Descriptor { feed_forward_width: base.feed_forward_width + 1, ..base.clone() };
        assert_ne!(sides_of(&base), sides_of(&wider));
        let other = Descriptor { architecture: "other".into(), ..base.clone() };
        assert_ne!(sides_of(&base), sides_of(&other));
    }

    #[test]
    fn only_text_with_a_scheme_is_a_place_to_fetch_from() {
        assert!(reference_in(Path::new("/models/poet")).is_none());
        assert!(reference_in(Path::new("hf://org/poet")).is_some_and(|read| read.is_ok()));
        assert!(reference_in(Path::new("nowhere://org/poet")).is_some_and(|read| read.is_err()));
    }
}
