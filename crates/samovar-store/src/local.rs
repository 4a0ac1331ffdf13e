//! What is on this machine: the cache, the stores that are only read, and the room that was promised in between.
//!
//! Asks no source. Code that fetches is given this and a source.

use std::sync::{Arc, OnceLock};

use samovar_core::Digest;

use crate::cache::Cache;
use crate::cache::tier::Tiers;
use crate::collect::promise::Room;
use crate::config::StoreConfig;
use crate::disk::layout::Layout;
use crate::error::Error;

/// All that a store has on this machine.
pub(crate) struct Local {
    pub(crate) config: StoreConfig,
    pub(crate) cache: Cache,
    pub(crate) tiers: Tiers,
    pub(crate) room: Arc<Room>,
    /// Where views are made when the cache itself cannot be written.
    views: OnceLock<Layout>,
}

impl Local {
    pub(crate) fn new(config: StoreConfig, cache: Cache, tiers: Tiers) -> Self {
        Self { config, cache, tiers, room: Arc::default(), views: OnceLock::new() }
    }

    /// Where views with real file names are made: the cache itself, else below the state directory.
    ///
    /// # Errors
    /// When neither can be written.
    pub(crate) fn views(&self) -> Result<Layout, Error> {
        let layout = &self.cache.layout;
        if layout.is_writable() {
            return Ok(layout.clone());
        }
        if let Some(views) = self.views.get() {
            return Ok(views.clone());
        }
        let name = Digest::of_bytes(layout.root().as_os_str().as_encoded_bytes()).to_string();
        let cache_dir = self.config.state_dir.join("views").join(&name[..32]);
        let views = Layout::open(&StoreConfig { cache_dir, ..self.config.clone() })?;
        Ok(self.views.get_or_init(|| views).clone())
    }
}
