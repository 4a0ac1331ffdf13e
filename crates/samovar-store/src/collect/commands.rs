//! What a user may ask for: a collection, and the removal of one artifact.

use super::plan::{Collection, plan, plan_removal};
use super::{Collected, Removed, limits, settle, survey};
use crate::artifact::key::KeyDigest;
use crate::disk::ballast;
use crate::error::Error;
use crate::store::Store;

/// What a collection is asked to do.
#[derive(Clone, Debug, Default)]
pub struct CollectOptions {
    /// Only say what would go.
    pub is_dry_run: bool,
    /// Bytes to be made room for, besides keeping the limits.
    pub room_bytes: u64,
}

impl Store {
    /// Lets go what is past the limits: leftovers, artifacts that were not used for long, and while more is
    /// used than the quota allows, what is worth least. Blocks.
    ///
    /// # Errors
    /// When the index or the disk refuses; what had not left yet stays as it was.
    pub fn collect(&self, options: &CollectOptions) -> Result<Collected, Error> {
        let local = &*self.0.local;
        local.cache.writable("a collection")?;
        if !options.is_dry_run {
            ballast::give_up_if_full(&local.cache.layout);
        }
        let survey = survey(local, !options.is_dry_run)?;
        let limits = limits(local, &survey, options.room_bytes);
        let plan = plan(&survey.view, &limits);
        settle(&local.cache, &survey, &plan, &limits, options.is_dry_run)
    }

    /// Removes an artifact now, pinned or not. Blobs that others need stay. Blocks.
    ///
    /// # Errors
    /// [`Error::InUse`] names the process that uses it; [`Error::Missing`] when it is not there.
    pub fn remove(&self, key: &KeyDigest) -> Result<Removed, Error> {
        self.remove_by(key, None)
    }

    /// The same for one of whose blobs others need every one, and which the process `user` uses by another name: the
    /// blobs stay, the name goes. That process should have closed this very artifact. Blocks.
    ///
    /// # Errors
    /// As [`Self::remove`]; [`Error::InUse`] where a blob belongs to no other artifact, and where another process than `user` uses them.
    pub fn remove_name(&self, key: &KeyDigest, user: u32) -> Result<Removed, Error> {
        self.remove_by(key, Some(user))
    }

    fn remove_by(&self, key: &KeyDigest, user: Option<u32>) -> Result<Removed, Error> {
        let local = &*self.0.local;
        local.cache.writable("removing an artifact")?;
        ballast::give_up_if_full(&local.cache.layout);
        let survey = survey(local, true)?;
        let Some(place) = survey.artifacts.iter().position(|artifact| artifact.key_digest == *key) else {
            return Err(Error::Missing {
                subject: format!("the artifact {key}"),
                where_: " in the cache",
                hint: "`samovar list` shows what is there".to_owned(),
            });
        };
        let plan = Collection { user, ..plan_removal(&survey.view, &[*key]) };
        let collected = settle(&local.cache, &survey, &plan, &limits(local, &survey, 0), false)?;
        // What was made of it is of no use any more.
        let made = collected.leftovers.iter().filter(|(kind, _)| kind.is_derived_file());
        let made_bytes: u64 = made.map(|(_, swept)| swept.bytes).sum();
        let removed = collected
            .removed
            .into_iter()
            .next()
            .map(|removed| Removed { freed_bytes: removed.freed_bytes + made_bytes, ..removed });
        removed.ok_or_else(|| {
            let artifact = &survey.artifacts[place];
            let mut held = survey::held_but_by(&local.cache.layout, user).unwrap_or_default();
            if held.is_empty() {
                held = survey::held_but_by(&local.cache.layout, None).unwrap_or_default();
            }
            let holder = artifact.files.iter().find_map(|file| held.get(&file.digest));
            Error::InUse {
                subject: artifact.reference.clone(),
                by: holder.map_or("another process".to_owned(), |pid| format!("process {pid}")),
            }
        })
    }
}
