//! Loads models with their packed files, where they have one.
//!
//! ```text
//!   load(packed | hybrid) ─► whose bytes? ─► the store: find (lease) ─┬─ there ─► engine, with it ─┬─ taken ──► LoadedLayout
//!                                                                     └─ gone ──► engine, without  ├─ refused: it goes
//!                                                                                      ▲           └─ failed ─┐
//!                                                                                      └── well: it goes ◄────┘
//! ```
//!
//! A packed file that is gone, refused or in the way of the load costs nothing but the layout: the model is mapped as
//! it lies on the disk, and the reason is kept. Only a model that fails without its packed file, too, fails. The lease
//! on the file is the instance's.

use std::sync::Arc;

use samovar_core::footprint::{Arrangement, Layout, LoadOptions};
use samovar_core::port::{Engine, Instance, LoadRequest, PackedFile};
use samovar_core::{Descriptor, ErrorKind, Failure, ModelFiles, WeightsId};
use samovar_store::OpenedDerived;

use super::known::LayoutRegistry;
use super::subject::packable;
use crate::lazy_store::LazyStore;
use crate::weights;

/// Loads for an engine whose models may have packed files in the store.
pub(crate) struct LayoutLoader {
    engine: Arc<dyn Engine>,
    lazy_store: Arc<LazyStore>,
    layout_registry: Arc<LayoutRegistry>,
}

/// A loaded model, with the lease on its packed file for as long as it lives.
pub(crate) struct LoadedLayout {
    // Dropped first: the lease ends after the model has left memory.
    pub(crate) instance: Arc<dyn Instance>,
    /// How its weights came to lie, which the instance does not know of a file that was never offered to it.
    pub(crate) arrangement: Arrangement,
    _opened: Option<OpenedDerived>,
}

/// A packed file that can be used, and what it is of.
struct Found {
    weights: WeightsId,
    /// The same as the file says it.
    source: String,
    key: String,
    opened: OpenedDerived,
}

impl LayoutLoader {
    pub(crate) fn new(
        engine: Arc<dyn Engine>,
        lazy_store: Arc<LazyStore>,
        layout_registry: Arc<LayoutRegistry>,
    ) -> Self {
        Self { engine, lazy_store, layout_registry }
    }

    /// What loads without looking for anything.
    pub(crate) const fn engine(&self) -> &Arc<dyn Engine> {
        &self.engine
    }

    /// Loads a model as the request asks, with its packed file where its options need one.
    ///
    /// # Errors
    /// As [`Engine::load`], of the model without a packed file.
    pub(crate) fn load(&self, request: LoadRequest<'_>) -> Result<LoadedLayout, Failure> {
        let LoadRequest { files, descriptor, options, .. } = request;
        let loaded_layout = if options.layout.needs_packed_file() {
            match self.find(files, descriptor) {
                Ok(found) => self.load_with(found, request)?,
                Err(why) => self.load_without(request, Some(why))?,
            }
        } else {
            self.load_without(request, None)?
        };
        self.layout_registry.loaded(files.identity(), options.layout, &loaded_layout.arrangement);
        Ok(loaded_layout)
    }

    /// The packed file of these bytes, or why there is none.
    fn find(&self, files: &ModelFiles, descriptor: &Descriptor) -> Result<Found, String> {
        let weights = packable(files, descriptor)?;
        let source = weights.to_string();
        let key = self.engine.packing(descriptor).ok_or("this engine packs nothing of such a model")?;
        let store = self.lazy_store.store().map_err(|failure| failure.to_string())?;
        match store.packed().find(&source, &key) {
            Ok(Some(opened)) => Ok(Found { weights, source, key, opened }),
            Ok(None) => {
                self.layout_registry.missing(&weights);
                Err("its packed file has gone from the store".to_owned())
            }
            Err(error) => Err(error.to_string()),
        }
    }

    fn load_with(&self, found: Found, request: LoadRequest<'_>) -> Result<LoadedLayout, Failure> {
        let path = request.files.main();
        let packed = PackedFile { path: found.opened.path(), source: &found.source };
        let loaded = self.engine.load(request.with_packed(Some(packed)));
        let instance = match loaded {
            Err(failure) if may_be_the_packed_file(&failure) && !request.control.is_cancelled() => {
                return self.load_after(&failure, &found, request);
            }
            loaded => loaded?,
        };
        // A hybrid of two different models must not live.
        if !weights::are_at(&found.weights, path) {
            return Err(Failure::new(ErrorKind::Storage, "the file was replaced while it was loaded")
                .with_param("model")
                .with_hint("ask again"));
        }
        let arrangement = instance.arrangement();
        let Some(why) = &arrangement.refused else {
            return Ok(LoadedLayout { instance, arrangement, _opened: Some(found.opened) });
        };
        self.layout_registry.refuse(&found.weights, path, &found.key, why);
        Ok(LoadedLayout { instance, arrangement, _opened: None })
    }

    /// The load without the packed file, after the one with it failed. If that goes well, the packed file was at fault.
    fn load_after(
        &self,
        failure: &Failure,
        found: &Found,
        request: LoadRequest<'_>,
    ) -> Result<LoadedLayout, Failure> {
        let why = format!("the model could not be loaded with it: {}", failure.message);
        let loaded_layout = self.load_without(request, Some(why.clone()))?;
        self.layout_registry.refuse(&found.weights, request.files.main(), &found.key, &why);
        Ok(loaded_layout)
    }

    fn load_without(&self, request: LoadRequest<'_>, why: Option<String>) -> Result<LoadedLayout, Failure> {
        let options = match why {
            Some(_) => &LoadOptions { layout: Layout::Mapped, ..request.options.clone() },
            None => request.options,
        };
        let instance = self.engine.load(LoadRequest { options, packed: None, ..request })?;
        let arrangement = Arrangement { refused: why, ..instance.arrangement() };
        Ok(LoadedLayout { instance, arrangement, _opened: None })
    }
}

/// Whether a load may have failed for its packed file: a bad sector, a worker that died of it.
const fn may_be_the_packed_file(failure: &Failure) -> bool {
    matches!(failure.kind, ErrorKind::EngineFailed | ErrorKind::InvalidModel)
}
