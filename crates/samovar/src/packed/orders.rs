//! What an owner asks about packed weights: to have them made now, and how a model's weights lie.

use std::sync::Arc;

use samovar_core::{ErrorKind, Failure};
use tokio::sync::mpsc;

use super::report::PackedInfo;
use crate::fetch;
use crate::request::Origin;
use crate::runtime::{Runtime, blocking};
use crate::wait::Wait;

impl Runtime {
    /// Makes the packed file of a model now and measures its layouts, whatever is being served; fetches the model
    /// before, if need be. `waits` hears of that, `progress` of the part done of each, 0 to 1; what they have no room
    /// for is lost.
    ///
    /// # Errors
    /// `Unsupported` when nothing of it can be packed here; `Busy` without memory for it, `TooLarge` where there never
    /// is so much; `InsufficientStorage` without room on
    /// the disk; whatever resolving the name says.
    ///
    /// # Cancel safety
    /// Dropping the future stops what is being made; what is finished stays.
    pub async fn pack(
        &self,
        model: &str,
        waits: Option<mpsc::Sender<Wait>>,
        progress: Option<mpsc::Sender<f32>>,
    ) -> Result<PackedInfo, Failure> {
        let spec = self.inner.resolve(model, Origin::Owner, fetch::tell(waits)).await?.model.spec;
        let workshop = self.inner.maker.workshop();
        let unknown = || Failure::new(ErrorKind::Internal, "nothing is known of this model's layouts");
        let subject = workshop.packings.subject(&spec.key).ok_or_else(unknown)?;
        workshop.make_now(&subject, progress).await?;
        self.packed(model).await
    }

    /// How a model's weights lie in memory, will lie at its next load, and why.
    ///
    /// # Errors
    /// `NotFound` when it is not on this machine; whatever else resolving the name says.
    pub async fn packed(&self, model: &str) -> Result<PackedInfo, Failure> {
        let spec = self.inner.here(model, Origin::Owner).await?;
        let workshop = Arc::clone(self.inner.maker.workshop());
        let info = blocking(move || {
            let subject = workshop.packings.subject(&spec.key)?;
            Some(workshop.packings.info(&subject))
        });
        Ok(info.await?.unwrap_or_default())
    }
}
