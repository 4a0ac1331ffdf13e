//! Files mapped for reading.
#![allow(unsafe_code, reason = "mapping a file is unsafe: someone else could cut it short meanwhile")]

use std::io;
use std::path::Path;

use fs_err::File;
use memmap2::{Mmap, MmapOptions};

/// A part of a file, shared with all processes that map it.
#[derive(Debug)]
pub(super) struct Mapping(Mmap);

impl Mapping {
    /// A whole file.
    pub(super) fn whole(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let length = file.metadata()?.len();
        Self::part(&file, 0, length)
    }

    /// So many bytes from `offset` on, which the file has.
    pub(super) fn part(file: &File, offset: u64, bytes: u64) -> io::Result<Self> {
        let length = usize::try_from(bytes).map_err(|_| io::ErrorKind::FileTooLarge)?;
        // SAFETY: model files are replaced and removed by their keeper, but not changed or cut short; llama.cpp
        // maps them on the same condition.
        unsafe { MmapOptions::new().offset(offset).len(length).map(file.file()) }.map(Self)
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// Asks the kernel to read a part of it soon.
    pub(super) fn will_need(&self, offset: usize, bytes: usize) {
        #[cfg(unix)]
        let _ = self.0.advise_range(memmap2::Advice::WillNeed, offset, bytes);
    }

    /// Keeps a part of it from being paged out. A wish: the system may bound how much is locked.
    pub(super) fn lock(&self, offset: usize, bytes: usize) -> io::Result<()> {
        let part = self.0.get(offset..offset.saturating_add(bytes)).ok_or(io::ErrorKind::InvalidInput)?;
        // SAFETY: pins pages of a mapping that lives, until it is unmapped; no byte is changed.
        Ok(unsafe { rustix::mm::mlock(part.as_ptr().cast_mut().cast(), part.len()) }?)
    }
}
