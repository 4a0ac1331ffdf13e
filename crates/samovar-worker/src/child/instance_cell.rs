//! Where the model is once it is loaded, for every thread.

use std::sync::{Arc, PoisonError, RwLock};

use samovar_core::cores::Cores;
use samovar_core::footprint::Measurement;
use samovar_core::port::Instance;
use samovar_core::{ErrorKind, Failure};

/// Empty before the load and after the end.
#[derive(Default)]
pub(super) struct InstanceCell {
    instance: RwLock<Option<Arc<dyn Instance>>>,
}

impl InstanceCell {
    pub(super) fn put(&self, instance: Arc<dyn Instance>) {
        *self.instance.write().unwrap_or_else(PoisonError::into_inner) = Some(instance);
    }

    /// Takes the model away; unless a thread is just using it, dropping this unloads it.
    pub(super) fn take(&self) -> Option<Arc<dyn Instance>> {
        self.instance.write().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// The model.
    ///
    /// # Errors
    /// `Unavailable` before the load and after the end.
    pub(super) fn get(&self) -> Result<Arc<dyn Instance>, Failure> {
        let instance = self.instance.read().unwrap_or_else(PoisonError::into_inner);
        instance
            .clone()
            .ok_or_else(|| Failure::new(ErrorKind::Unavailable, "the worker has not loaded its model yet"))
    }

    /// Passes on what the model may compute with; nothing when there is none.
    pub(super) fn share_cores(&self, cores: Cores) {
        let instance = self.instance.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(instance) = instance.as_ref() {
            instance.share_cores(cores);
        }
    }

    /// What the model uses now; nothing when there is none. Holds no reference to it.
    pub(super) fn measure(&self) -> Measurement {
        let instance = self.instance.read().unwrap_or_else(PoisonError::into_inner);
        instance.as_ref().map(|instance| instance.measure()).unwrap_or_default()
    }
}
