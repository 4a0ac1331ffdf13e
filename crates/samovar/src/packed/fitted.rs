//! Loads models with their packed files, where they have one.
//!
//! ```text
//!   load(packed | hybrid) ─► whose bytes? ─► the store: find (lease) ─┬─ there ─► engine, with it ─┬─ taken ──► Fitted
//!                                                                     └─ gone ──► engine, without  ├─ refused: it goes
//!                                                                                      ▲           └─ failed ─┐
//!                                                                                      └── well: it goes ◄────┘
//! ```
//!
//! A packed file that is gone, refused or in the way of the load costs nothing but the layout: the model is mapped as
//! it lies on the disk, and the reason is kept. Only a model that fails without its packed file, too, fails. The lease
//! on the file is the instance's.

use std::path::Path;
use std::sync::Arc;

use samovar_core::footprint::{Arrangement, Layout, LoadOptions};
use samovar_core::port::{Engine, Instance, LoadControl, ModelFiles, PackedFile};
use samovar_core::{Descriptor, ErrorKind, Failure};
use samovar_store::OpenedPacked;

use super::known::Packings;
use super::subject::Source;
use crate::shelf::Shelf;

/// Loads for an engine whose models may have packed files in the store.
pub(crate) struct Fitter {
    engine: Arc<dyn Engine>,
    shelf: Arc<Shelf>,
    packings: Arc<Packings>,
}

/// A loaded model, with the lease on its packed file for as long as it lives.
pub(crate) struct Fitted {
    // Dropped first: the lease ends after the model has left memory.
    pub(crate) instance: Arc<dyn Instance>,
    /// How its weights came to lie, which the instance does not know of a file that was never offered to it.
    pub(crate) arrangement: Arrangement,
    _opened: Option<OpenedPacked>,
}

/// A packed file that can be used, and what it is of.
struct Found {
    source: Source,
    key: String,
    opened: OpenedPacked,
}

impl Fitter {
    pub(crate) fn new(engine: Arc<dyn Engine>, shelf: Arc<Shelf>, packings: Arc<Packings>) -> Self {
        Self { engine, shelf, packings }
    }

    /// What loads without looking for anything.
    pub(crate) const fn engine(&self) -> &Arc<dyn Engine> {
        &self.engine
    }

    /// Loads the model at `path` as `options` ask, with its packed file where they need one.
    ///
    /// # Errors
    /// As [`Engine::load`], of the model without a packed file.
    pub(crate) fn load(
        &self,
        path: &Path,
        descriptor: &Descriptor,
        options: &LoadOptions,
        control: &LoadControl,
    ) -> Result<Fitted, Failure> {
        let fitted = if options.layout.needs_packed_file() {
            match self.find(path, descriptor) {
                Ok(found) => self.load_with(found, path, descriptor, options, control)?,
                Err(why) => self.load_without(path, descriptor, options, control, Some(why))?,
            }
        } else {
            self.load_without(path, descriptor, options, control, None)?
        };
        self.packings.loaded(path, options.layout, &fitted.arrangement);
        Ok(fitted)
    }

    /// The packed file of these bytes, or why there is none.
    fn find(&self, path: &Path, descriptor: &Descriptor) -> Result<Found, String> {
        let source = self.packings.source_of(path, descriptor)?;
        let key = self.engine.packing(descriptor).ok_or("this engine packs nothing of such a model")?;
        let store = self.shelf.store().map_err(|failure| failure.to_string())?;
        match store.packed().find(&source.text, &key) {
            Ok(Some(opened)) => Ok(Found { source, key, opened }),
            Ok(None) => {
                self.packings.gone(&source);
                Err("its packed file has gone from the store".to_owned())
            }
            Err(error) => Err(error.to_string()),
        }
    }

    fn load_with(
        &self,
        found: Found,
        path: &Path,
        descriptor: &Descriptor,
        options: &LoadOptions,
        control: &LoadControl,
    ) -> Result<Fitted, Failure> {
        let packed = PackedFile { path: found.opened.path(), source: &found.source.text };
        let files = ModelFiles { path, packed: Some(packed) };
        let loaded = self.engine.load(files, descriptor, options, control);
        let instance = match loaded {
            Err(failure) if may_be_the_packed_file(&failure) && !control.is_cancelled() => {
                return self.load_after(&failure, &found, path, descriptor, options, control);
            }
            loaded => loaded?,
        };
        // A hybrid of two different models must not live.
        let is_file = found.source.parent.is_none();
        if is_file && self.packings.source_of(path, descriptor).as_ref() != Ok(&found.source) {
            return Err(Failure::new(ErrorKind::Storage, "the file was replaced while it was loaded")
                .with_param("model")
                .with_hint("ask again"));
        }
        let arrangement = instance.arrangement();
        let Some(why) = &arrangement.refused else {
            return Ok(Fitted { instance, arrangement, _opened: Some(found.opened) });
        };
        self.packings.refuse(&found.source, path, &found.key, why);
        Ok(Fitted { instance, arrangement, _opened: None })
    }

    /// The load without the packed file, after the one with it failed. If that goes well, the packed file was at fault.
    fn load_after(
        &self,
        failure: &Failure,
        found: &Found,
        path: &Path,
        descriptor: &Descriptor,
        options: &LoadOptions,
        control: &LoadControl,
    ) -> Result<Fitted, Failure> {
        let why = format!("the model could not be loaded with it: {}", failure.message);
        let fitted = self.load_without(path, descriptor, options, control, Some(why.clone()))?;
        self.packings.refuse(&found.source, path, &found.key, &why);
        Ok(fitted)
    }

    fn load_without(
        &self,
        path: &Path,
        descriptor: &Descriptor,
        options: &LoadOptions,
        control: &LoadControl,
        why: Option<String>,
    ) -> Result<Fitted, Failure> {
        let options = match why {
            Some(_) => &LoadOptions { layout: Layout::Mapped, ..options.clone() },
            None => options,
        };
        let instance = self.engine.load(ModelFiles::of(path), descriptor, options, control)?;
        let arrangement = Arrangement { refused: why, ..instance.arrangement() };
        Ok(Fitted { instance, arrangement, _opened: None })
    }
}

/// Whether a load may have failed for its packed file: a bad sector, a worker that died of it.
const fn may_be_the_packed_file(failure: &Failure) -> bool {
    matches!(failure.kind, ErrorKind::EngineFailed | ErrorKind::InvalidModel)
}
