//! What an owner asks about packed weights: to have them made now, and how a model's weights lie.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use samovar_core::{ErrorKind, Failure};

use super::report::PackedInfo;
use crate::fetch;
use crate::options::PackOptions;
use crate::request::Origin;
use crate::runtime::{Runtime, blocking};

impl Runtime {
    /// Makes the packed file of a model now and measures its layouts, whatever is being served; fetches the model
    /// before, if need be.
    ///
    /// # Errors
    /// `Unsupported` when nothing of it can be packed here; `Busy` without memory for it, `TooLarge` where there never
    /// is so much; `InsufficientStorage` without room on
    /// the disk; whatever resolving the name says.
    ///
    /// # Cancel safety
    /// Dropping the future stops what is being made; what is finished stays.
    pub fn pack<'a>(
        &'a self,
        model: &'a str,
        options: PackOptions,
    ) -> BoxFuture<'a, Result<PackedInfo, Failure>> {
        Box::pin(async move {
            let PackOptions { waits, progress } = options;
            let spec = self.inner.resolve(model, Origin::Owner, None, fetch::tell(waits)).await?.model.spec;
            let packer = self.inner.pack_scheduler.packer();
            let unknown = || {
                Failure::new(ErrorKind::Internal, "nothing is known of this model's layouts")
                    .with_hint("try again")
            };
            let subject = packer.layout_registry.subject(&spec.key).ok_or_else(unknown)?;
            packer.make_now(&subject, progress).await?;
            self.packed(model).await
        })
    }

    /// How a model's weights lie in memory, will lie at its next load, and why.
    ///
    /// # Errors
    /// `NotFound` when it is not on this machine; whatever else resolving the name says.
    pub async fn packed(&self, model: &str) -> Result<PackedInfo, Failure> {
        let spec = self.inner.resolve_local(model, Origin::Owner).await?;
        let packer = Arc::clone(self.inner.pack_scheduler.packer());
        let info = blocking(move || {
            let subject = packer.layout_registry.subject(&spec.key)?;
            Some(packer.layout_registry.info(&subject))
        });
        Ok(info.await?.unwrap_or_default())
    }
}
