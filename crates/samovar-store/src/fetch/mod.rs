//! The engine for downloads: any source's file into a sink, by several connections at once.
//!
//! ```text
//!   gaps of the file ─► queue ─► lane ─┐   a lane = one connection: asks for a piece, pumps it, asks again
//!                             ─► lane ─┼─► sink: bytes at their offsets
//!                             ─► lane ─┘
//!   a lane breaks off     → waits, goes on where it broke off
//!   the whole file comes  → all lanes stop, the one body is read
//!   another etag          → all lanes stop, everything starts anew
//! ```
//!
//! It never appends, never keeps bytes of two versions, never takes more than was declared, and never
//! holds more than two batches a lane in memory. Dropping the future stops it; what is in the file by then
//! stays noted.

mod feed;
mod lane;
pub(crate) mod meter;
pub(crate) mod progress;
mod pump;
mod queue;
pub(crate) mod retry;
mod sink;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use tokio_util::task::TaskTracker;

use crate::config::SourceConfig;
use crate::error::Error;
use crate::source::{Body, RemoteFile, Source};

use feed::Feed;
use lane::{Round, Stop, is_other};
use pump::Pump;
use retry::Retries;
pub(crate) use sink::Sink;

/// Bytes of a file whose size its source does not say.
const UNKNOWN_BYTES: u64 = 1 << 40;
/// A piece that is never split.
const WHOLE: u64 = 1 << 60;

/// Fetches what is missing of a file. `sent` is told of bytes as they arrive.
///
/// # Errors
/// Whatever the source says, after as many tries as configured; a source whose answers do not fit each
/// other; a sink that cannot be written.
///
/// # Cancel safety
/// Dropping it stops it within one batch a connection. Batches that are being written are finished.
pub(crate) async fn fetch<S: Sink>(
    source: &dyn Source,
    file: &RemoteFile,
    sink: Arc<S>,
    config: &SourceConfig,
    sent: impl Fn(u64) + Send + Sync + Clone,
) -> Result<(), Error> {
    let pump = Pump {
        sink,
        writes: TaskTracker::new(),
        stall: config.stall,
        subject: format!("the download of {}", file.path),
    };
    let fetch = Fetch { source, file, pump, config, sent };
    fetch.run().await
}

struct Fetch<'a, S, F> {
    source: &'a dyn Source,
    file: &'a RemoteFile,
    pump: Pump<S>,
    config: &'a SourceConfig,
    sent: F,
}

impl<S: Sink, F: Fn(u64) + Send + Sync> Fetch<'_, S, F> {
    async fn run(&self) -> Result<(), Error> {
        let mut retries = Retries::new(self.config.retry);
        let mut furthest = 0;
        loop {
            let stop = match self.turn().await {
                Ok(true) => return Ok(()),
                Ok(false) => continue,
                Err(stop) => stop,
            };
            // No task may write any more when the file starts again.
            self.pump.writes.close();
            self.pump.writes.wait().await;
            self.pump.writes.reopen();
            let outcome = match stop {
                Stop::Failed(error) => return Err(error),
                Stop::Broke(error) => Err(error),
                Stop::Changed { size, etag } => {
                    self.restart(size, etag).await?;
                    Err(self.pump.passing("the file at the source is another one than before".to_owned()))
                }
                Stop::Whole(body) => self.read_whole(body).await,
            };
            let done = self.pump.sink.done_bytes();
            // Progress is what was never reached before: a server that always breaks off at half and knows
            // no ranges would be asked forever otherwise.
            if done > furthest {
                furthest = done;
                retries.restore();
            }
            if let Err(error) = outcome {
                let wait = retries.after(&error).ok_or(error)?;
                tokio::time::sleep(wait).await;
            }
        }
    }

    /// One go at all that is missing. True = nothing is.
    async fn turn(&self) -> Result<bool, Stop> {
        let sink = &self.pump.sink;
        if sink.size().is_none() {
            return self.unsized_turn().await.map_err(Stop::broke);
        }
        let gaps = sink.missing(WHOLE);
        if gaps.is_empty() {
            return Ok(true);
        }
        Round::new(self.source, self.file, &self.pump, self.config, gaps, &self.sent).run().await?;
        Ok(false)
    }

    /// A go at a file of unknown size: one stream from where the last one ended.
    async fn unsized_turn(&self) -> Result<bool, Stop> {
        let sink = &self.pump.sink;
        let at = sink.done_bytes();
        let file = lane::with_etag(self.file, sink.etag());
        let body = self.source.fetch(&file, at..u64::MAX).await?;
        lane::check_claims(&self.pump, self.file, &body)?;
        if body.start != at {
            return Err(Stop::Whole(body));
        }
        if at == 0 {
            self.restart(body.size, body.etag).await?;
        } else if is_other(sink.etag().as_deref(), body.etag.as_deref())
            || body.size.is_some_and(|size| size < at)
        {
            return Err(Stop::Changed { size: body.size, etag: body.etag });
        } else if let Some(size) = body.size {
            sink.set_size(size);
        }
        self.read_to_end(&mut Feed::new(body.stream), at).await?;
        Ok(false)
    }

    /// Reads the whole file from its start, where a part was asked for. What is there of the same version is
    /// passed over and not written again, since it may have been hashed.
    async fn read_whole(&self, body: Body) -> Result<(), Error> {
        let Body { stream, start, size, etag, .. } = body;
        if start != 0 {
            return Err(self.pump.lie(format!("bytes from {start} on, which were not requested")));
        }
        let sink = &self.pump.sink;
        let is_same = etag.is_some() && sink.etag() == etag && (size.is_none() || size == sink.size());
        if !is_same {
            self.restart(size.or(self.file.size), etag).await?;
        }
        let mut feed = Feed::new(stream);
        if sink.size().is_none() {
            let at = sink.done_bytes();
            self.pump.skip(&mut feed, at).await?;
            return self.read_to_end(&mut feed, at).await;
        }
        let mut at = 0;
        for gap in sink.missing(WHOLE) {
            self.pump.skip(&mut feed, gap.start - at).await?;
            let pumped = self.pump.run(&mut feed, gap.clone(), &self.sent).await;
            if let Some(error) = pumped.error {
                return Err(error);
            }
            at = gap.start + pumped.bytes;
            if at < gap.end {
                return Err(self.pump.short());
            }
        }
        Ok(())
    }

    /// Reads on from `at`, where the file's end is the stream's unless its size is known.
    async fn read_to_end(&self, feed: &mut Feed, at: u64) -> Result<(), Error> {
        let sink = &self.pump.sink;
        let size = sink.size();
        let pumped = self.pump.run(feed, at..size.unwrap_or(UNKNOWN_BYTES), &self.sent).await;
        let end = at + pumped.bytes;
        match (pumped.error, size) {
            (Some(error), _) => Err(error),
            (None, Some(size)) if end < size => Err(self.pump.short()),
            (None, Some(_)) => Ok(()),
            (None, None) if end == UNKNOWN_BYTES => Err(self.pump.lie("the file does not end".to_owned())),
            (None, None) => {
                sink.set_size(end);
                Ok(())
            }
        }
    }

    async fn restart(&self, size: Option<u64>, etag: Option<String>) -> Result<(), Error> {
        let size = size.or(self.file.size);
        lane::restart(&self.pump, size, etag).await
    }
}
