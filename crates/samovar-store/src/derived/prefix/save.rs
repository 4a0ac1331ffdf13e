//! How a state comes to the disk: beside its place, whole, and then at once.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::Path;

use samovar_core::{Digest, ErrorKind, Failure};

use super::check::digest_of;
use super::facts::{self, FACTS, PrefixMetadata, STATE};
use super::{Prefixes, quota};
use crate::disk::durable;
use crate::disk::layout::Layout;
use crate::error::Error;
use crate::index::now_ms;

impl Prefixes {
    /// Keeps the state of these tokens: `write` is given an empty private file and says how many bytes it wrote.
    /// States that say less of the same leave. `client` is whose prompt it was; `expected_bytes` is a guess, so that what has no room is not
    /// written first. False = it was here already. Blocks.
    ///
    /// # Errors
    /// When there is no room, when the disk refuses, or whatever `write` says; then nothing was changed.
    pub fn save(
        &self,
        tokens: &[u32],
        client: Option<Digest>,
        expected_bytes: u64,
        write: impl FnOnce(&File) -> Result<u64, Failure>,
    ) -> Result<bool, Failure> {
        let local = &*self.store.0.local;
        local.cache.writable("a prompt's state")?;
        let place = self.place(tokens);
        if place.exists() {
            return Ok(false);
        }
        quota::make_room(local, expected_bytes, expected_bytes)?;
        let tmp = local.cache.layout.tmp().join(durable::random_name());
        let saved = write_state(&tmp, tokens, client, write).and_then(|bytes| {
            quota::make_room(local, bytes, 0)?;
            publish(&local.cache.layout, &tmp, &place)
                .map_err(Error::io("a prompt's state could not be kept"))?;
            Ok(())
        });
        if let Err(failure) = saved {
            // Rubbish that collection sweeps, should it not go now.
            let _ = fs_err::remove_dir_all(&tmp);
            return if place.exists() { Ok(false) } else { Err(failure) };
        }
        local.cache.index.count("prefixes_saved", 1);
        for name in self.known().shorter_than(tokens) {
            quota::remove(&local.cache.layout, &self.dir.join(name));
        }
        Ok(true)
    }
}

/// Writes a prefix's directory under another name; gives the state's bytes.
fn write_state(
    tmp: &Path,
    tokens: &[u32],
    client: Option<Digest>,
    write: impl FnOnce(&File) -> Result<u64, Failure>,
) -> Result<u64, Failure> {
    let fail = || Error::io("a prompt's state could not be written");
    durable::create_private_dir(tmp).map_err(fail())?;
    let state = durable::create_new(&tmp.join(STATE)).map_err(fail())?;
    let bytes = write(state.file())?;
    let written = state.metadata().map_err(fail())?.len();
    if written != bytes || bytes == 0 {
        let message = format!("the engine wrote {written} bytes of state and spoke of {bytes}");
        return Err(Failure::new(ErrorKind::EngineFailed, message));
    }
    let digest = digest_of(state.file(), bytes).map_err(fail())?;
    let tokens = tokens.to_vec();
    let facts = PrefixMetadata { format: facts::FORMAT, bytes, digest, created_ms: now_ms(), tokens, client };
    let text = facts
        .to_text()
        .ok_or_else(|| Failure::new(ErrorKind::TooLarge, "the prompt is too long to be kept"))?;
    let mut beside = durable::create_new(&tmp.join(FACTS)).map_err(fail())?;
    beside.write_all(&text).map_err(fail())?;
    state.sync_all().map_err(fail())?;
    beside.sync_all().map_err(fail())?;
    Ok(bytes)
}

/// Gives it its name, which nothing else may have.
fn publish(layout: &Layout, tmp: &Path, place: &Path) -> io::Result<()> {
    let kind = place.parent().ok_or_else(|| io::Error::other("a prefix without a directory"))?;
    let owner = kind.parent().ok_or_else(|| io::Error::other("a prefix without an owner"))?;
    durable::create_private_dir(&layout.prefixes())?;
    durable::create_private_dir(owner)?;
    durable::create_private_dir(kind)?;
    durable::sync_parent(&tmp.join(STATE))?;
    durable::publish(tmp, place)
}
