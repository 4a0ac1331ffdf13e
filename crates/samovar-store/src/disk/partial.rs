//! A download that is not whole yet: bytes at their offsets, and a note of which are there.
//!
//! ```text
//!   partial/<id>/data         sparse, as large as the file will be
//!   partial/<id>/state.json   { size, etag, spans: [[0, 4194304], …] }
//! ```
//!
//! Bytes are written at their offsets, never appended, and the file is never cut. The note lags behind the
//! bytes and never runs ahead of them; what it misses after a crash is fetched again. A process that uses a
//! partial holds its blob lock; others may only read the note.

use std::io;
use std::ops::Range;
use std::os::unix::fs::{FileExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use fs_err::File;
use rustix::fs::{FallocateFlags, Mode, OFlags, fallocate};
use rustix::io::Errno;
use samovar_core::Digest;
use serde::{Deserialize, Serialize};

use crate::disk::durable;
use crate::disk::layout::Layout;
use crate::disk::lock::FileLock;
use crate::disk::plain;
use crate::disk::span::Spans;
use crate::error::Error;

/// The state file's version.
const FORMAT: u32 = 1;
/// Bytes of a state file that is read at all.
const STATE_BYTES: u64 = 4 << 20;
/// How often the note is written while bytes come in.
const NOTE_EVERY: Duration = Duration::from_millis(250);

/// Which download: by the digest that was promised, or by where the bytes come from when none was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct PartialId(Digest);

impl PartialId {
    /// The download of bytes whose digest is known beforehand.
    pub(crate) fn of_digest(digest: Digest) -> Self {
        Self(digest)
    }

    /// The download of whatever a source has at a place.
    pub(crate) fn of_place(source: &str, locator: &str, size: Option<u64>) -> Self {
        let size = size.map_or("?".to_owned(), |size| size.to_string());
        let text =
            format!("samovar partial 1\n{}:{source}\n{}:{locator}\n{size}\n", source.len(), locator.len());
        Self(Digest::of_bytes(text.as_bytes()))
    }

    /// From the name of a directory below `partial/`.
    pub(crate) fn parse(name: &str) -> Option<Self> {
        name.parse().ok().map(Self)
    }
}

impl std::fmt::Display for PartialId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// What the note on disk says.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Note {
    format: u32,
    /// Bytes of the whole file, once they are known.
    pub(crate) size: Option<u64>,
    /// What the server called these bytes.
    pub(crate) etag: Option<String>,
    /// What is there.
    spans: Vec<(u64, u64)>,
}

impl Note {
    /// The note of a download, by whomever it is done; `None` when there is none that can be read.
    pub(crate) fn read(layout: &Layout, id: &PartialId) -> Option<Self> {
        let path = layout.partial(id).join("state.json");
        let bytes = plain::read(layout.root(), &path, STATE_BYTES).ok()?;
        let note: Self = serde_json::from_slice(&bytes).ok()?;
        (note.format == FORMAT).then_some(note)
    }

    /// Bytes that are there.
    pub(crate) fn done_bytes(&self) -> u64 {
        self.spans.iter().map(|(from, to)| to.saturating_sub(*from)).sum()
    }
}

/// A download that is not whole yet. All calls block; all may come from several threads.
#[derive(Debug)]
pub(crate) struct Partial {
    dir: PathBuf,
    data: File,
    state: Mutex<State>,
    moved: Condvar,
    /// Held as long as a task may still write.
    lock: Option<Arc<FileLock>>,
}

#[derive(Debug)]
struct State {
    size: Option<u64>,
    etag: Option<String>,
    spans: Spans,
    /// Counts how often all was thrown away, so that who follows the front notices.
    era: u64,
    resumed_bytes: u64,
    noted_at: Instant,
    is_noted: bool,
    is_closed: bool,
}

/// How far the bytes reach without a gap from the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Front {
    /// In this era, up to here.
    At { era: u64, end: u64, is_whole: bool },
    /// Nothing will come any more.
    Closed,
}

impl Partial {
    /// Opens a download: what is there is kept when size and etag agree, else it starts anew. The caller
    /// holds the blob lock.
    ///
    /// # Errors
    /// When the files cannot be made, or are not plain files.
    pub(crate) fn open(
        layout: &Layout,
        id: &PartialId,
        size: Option<u64>,
        etag: Option<&str>,
    ) -> Result<Self, Error> {
        let fail = Error::io("the partial download could not be opened");
        Self::open_files(layout, id, size, etag).map_err(fail)
    }

    /// Keeps the blob lock for as long as a task may still write.
    #[must_use]
    pub(crate) fn holding(mut self, lock: Arc<FileLock>) -> Self {
        self.lock = Some(lock);
        self
    }

    fn open_files(
        layout: &Layout,
        id: &PartialId,
        size: Option<u64>,
        etag: Option<&str>,
    ) -> io::Result<Self> {
        let dir = layout.partial(id);
        durable::create_private_dir(&dir)?;
        let flags = OFlags::RDWR | OFlags::CREATE;
        let data = plain::open_with(layout.root(), &dir.join("data"), flags, Mode::RUSR | Mode::WUSR)?;
        let there = data.metadata()?.len();
        let kept = Note::read(layout, id)
            .filter(|note| size.is_none() || note.size == size)
            .filter(|note| etag.is_none() || note.etag.is_none() || note.etag.as_deref() == etag);
        let mut spans = Spans::default();
        for (from, to) in kept.iter().flat_map(|note| &note.spans) {
            spans.insert(*from..(*to).min(there));
        }
        let state = State {
            size: size.or(kept.as_ref().and_then(|note| note.size)),
            etag: etag.map(str::to_owned).or(kept.and_then(|note| note.etag)),
            era: 0,
            resumed_bytes: spans.bytes(),
            spans,
            noted_at: Instant::now(),
            is_noted: false,
            is_closed: false,
        };
        let partial = Self { dir, data, state: Mutex::new(state), moved: Condvar::new(), lock: None };
        partial.note(&mut partial.state())?;
        Ok(partial)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks the file system for the room of the whole file at once, so that a full disk shows now and not
    /// after hours. File systems that cannot promise room are taken as they are.
    ///
    /// # Errors
    /// When there is no room.
    pub(crate) fn allocate(&self) -> Result<(), Error> {
        let Some(size) = self.size().filter(|size| *size > 0) else { return Ok(()) };
        match fallocate(&self.data, FallocateFlags::KEEP_SIZE, 0, size) {
            Err(errno @ (Errno::NOSPC | Errno::DQUOT | Errno::FBIG)) => {
                Err(Error::io("the room for a download could not be had")(errno.into()))
            }
            _ => Ok(()),
        }
    }

    /// The ranges that are not there, in pieces of at most `chunk_bytes`; empty while the size is unknown.
    pub(crate) fn missing(&self, chunk_bytes: u64) -> Vec<Range<u64>> {
        let state = self.state();
        state.size.map(|size| state.spans.missing(size, chunk_bytes)).unwrap_or_default()
    }

    /// Bytes of the whole file, once they are known.
    pub(crate) fn size(&self) -> Option<u64> {
        self.state().size
    }

    /// Says how large the whole file is, once that is known.
    pub(crate) fn set_size(&self, size: u64) {
        let mut state = self.state();
        state.size = Some(size);
        state.is_noted = false;
        self.moved.notify_all();
    }

    /// What the server called these bytes.
    pub(crate) fn etag(&self) -> Option<String> {
        self.state().etag.clone()
    }

    /// Bytes that are there.
    pub(crate) fn done_bytes(&self) -> u64 {
        self.state().spans.bytes()
    }

    /// Bytes that were there when this download was taken up, and count still.
    pub(crate) fn resumed_bytes(&self) -> u64 {
        self.state().resumed_bytes
    }

    /// Whether every byte is there.
    pub(crate) fn is_whole(&self) -> bool {
        let state = self.state();
        state.size.is_some_and(|size| state.spans.front() >= size)
    }

    /// Puts bytes at their offset. They count once [`Partial::written`] says so.
    ///
    /// # Errors
    /// When the file cannot be written, or the bytes lie past the declared size.
    pub(crate) fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<(), Error> {
        let end = offset.saturating_add(bytes.len() as u64);
        if let Some(size) = self.size().filter(|size| end > *size) {
            return Err(Error::BadAnswer {
                subject: "a download".to_owned(),
                message: format!("bytes up to {end} were sent of a file of {size}"),
            });
        }
        self.data
            .file()
            .write_all_at(bytes, offset)
            .map_err(|error| named(&error, self.data.path()))
            .map_err(Error::io("the download could not be written"))
    }

    /// Says that these bytes were written. The note on disk follows a few times a second.
    ///
    /// # Errors
    /// When the note cannot be written.
    pub(crate) fn written(&self, range: Range<u64>) -> Result<(), Error> {
        let mut state = self.state();
        state.spans.insert(range);
        state.is_noted = false;
        self.moved.notify_all();
        if state.noted_at.elapsed() < NOTE_EVERY {
            return Ok(());
        }
        self.note(&mut state).map_err(Error::io("the state of a download could not be written"))
    }

    /// Starts anew: all that was there counts as unwritten.
    ///
    /// # Errors
    /// When the note cannot be written.
    pub(crate) fn restart(&self, size: Option<u64>, etag: Option<&str>) -> Result<(), Error> {
        let mut state = self.state();
        state.spans = Spans::default();
        state.size = size;
        state.etag = etag.map(str::to_owned);
        state.era += 1;
        state.resumed_bytes = 0;
        self.moved.notify_all();
        self.note(&mut state).map_err(Error::io("the state of a download could not be written"))
    }

    /// Waits until the front is past `end` in this era, or the era is another, or the download is closed.
    /// Meanwhile it keeps the note on disk up to date.
    pub(crate) fn wait_front(&self, era: u64, end: u64) -> Front {
        let mut state = self.state();
        loop {
            if state.is_closed {
                return Front::Closed;
            }
            let front = state.spans.front();
            let is_whole = state.size.is_some_and(|size| front >= size);
            if state.era != era || front > end || is_whole {
                return Front::At { era: state.era, end: front, is_whole };
            }
            // When bytes stop coming, the note must still catch up with those that came.
            if !state.is_noted && state.noted_at.elapsed() >= NOTE_EVERY {
                // A note that cannot be written costs bytes fetched twice, no more.
                let _ = self.note(&mut state);
            }
            let waited = self.moved.wait_timeout(state, NOTE_EVERY);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Whether the download is still in this era and whole at this size.
    pub(crate) fn is_at(&self, era: u64, size: u64) -> bool {
        let state = self.state();
        state.era == era && state.size == Some(size) && state.spans.front() == size
    }

    /// Tells those that follow the front that nothing will come any more, and notes what came: those that follow may
    /// outlive this process's last look at the download.
    pub(crate) fn close(&self) {
        let mut state = self.state();
        state.is_closed = true;
        self.moved.notify_all();
        if !state.is_noted {
            // What is not noted is fetched again; nothing else is lost.
            let _ = self.note(&mut state);
        }
    }

    /// Reads what is there.
    pub(crate) fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.data.file().read_exact_at(buffer, offset).map_err(|error| named(&error, self.data.path()))
    }

    /// The file that holds the bytes.
    pub(crate) fn data(&self) -> &File {
        &self.data
    }

    /// Lets a whole download be taken up again that could not get its final name.
    pub(crate) fn keep(&self) {
        // It may have lost the right to be written on the way to its name. Without it, it is fetched again.
        let _ = self.data.set_permissions(std::fs::Permissions::from_mode(0o600));
    }

    /// Removes what is left of the download. Failing to is no harm: collection sweeps it.
    pub(crate) fn discard(&self) {
        self.state().is_noted = true;
        for name in ["state.json", "state.new", "data"] {
            let _ = fs_err::remove_file(self.dir.join(name));
        }
        let _ = fs_err::remove_dir(&self.dir);
    }

    fn note(&self, state: &mut State) -> io::Result<()> {
        let note = Note {
            format: FORMAT,
            size: state.size,
            etag: state.etag.clone(),
            spans: state.spans.iter().map(|span| (span.start, span.end)).collect(),
        };
        let new = self.dir.join("state.new");
        let text = serde_json::to_vec(&note).map_err(io::Error::other)?;
        // Renamed, so that a reader in another process never sees half of it; not synced, because after a
        // power cut the digest decides anyway.
        fs_err::write(&new, text)?;
        fs_err::rename(new, self.dir.join("state.json"))?;
        state.noted_at = Instant::now();
        state.is_noted = true;
        Ok(())
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        let mut state = self.state();
        if !state.is_noted {
            // What is not noted is fetched again; nothing else is lost.
            let _ = self.note(&mut state);
        }
    }
}

fn named(error: &io::Error, path: &Path) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::StoreConfig;

    #[test]
    fn what_came_is_noted_when_a_download_is_closed_also_while_others_look_at_it() {
        let home = tempfile::tempdir().unwrap();
        let config = StoreConfig::new(home.path().join("cache"), home.path().join("state"));
        let layout = Layout::open(&config).unwrap();
        let id = PartialId::of_place("hub", "model.gguf", Some(100));
        let partial = Partial::open(&layout, &id, Some(100), None).unwrap();
        partial.write_at(0, &[7; 60]).unwrap();
        // So soon after it was opened, it is not noted yet.
        partial.written(0..60).unwrap();
        partial.close();
        // As when a process ends before the thread that follows the front has let go of it.
        std::mem::forget(partial);
        assert_eq!(Note::read(&layout, &id).unwrap().spans, [(0, 60)]);
    }
}
