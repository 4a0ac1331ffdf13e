//! What a download is written to.

use std::ops::Range;

use crate::disk::partial::Partial;
use crate::error::Error;

/// A file that is not whole yet. All calls may block and may come from several threads.
///
/// A write that has begun is finished even when the download is given up, so whatever keeps others from
/// the file must last as long as the last `Arc` of its sink.
pub(crate) trait Sink: Send + Sync + 'static {
    /// Bytes of the whole file, once they are known.
    fn size(&self) -> Option<u64>;
    /// Says how large the whole file is.
    fn set_size(&self, size: u64);
    /// What the server called the bytes that are there.
    fn etag(&self) -> Option<String>;
    /// The ranges that are not there, in order, in pieces of at most `chunk_bytes`; empty while the size is unknown.
    fn missing(&self, chunk_bytes: u64) -> Vec<Range<u64>>;
    /// Bytes that are there.
    fn done_bytes(&self) -> u64;
    /// Puts bytes at their offset.
    fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<(), Error>;
    /// Says that these bytes were written.
    fn written(&self, range: Range<u64>) -> Result<(), Error>;
    /// Starts anew: all that was there counts as unwritten.
    fn restart(&self, size: Option<u64>, etag: Option<&str>) -> Result<(), Error>;
}

impl Sink for Partial {
    fn size(&self) -> Option<u64> {
        self.size()
    }

    fn set_size(&self, size: u64) {
        self.set_size(size);
    }

    fn etag(&self) -> Option<String> {
        self.etag()
    }

    fn missing(&self, chunk_bytes: u64) -> Vec<Range<u64>> {
        self.missing(chunk_bytes)
    }

    fn done_bytes(&self) -> u64 {
        self.done_bytes()
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<(), Error> {
        self.write_at(offset, bytes)
    }

    fn written(&self, range: Range<u64>) -> Result<(), Error> {
        self.written(range)
    }

    fn restart(&self, size: Option<u64>, etag: Option<&str>) -> Result<(), Error> {
        self.restart(size, etag)
    }
}
