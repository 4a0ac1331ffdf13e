//! From a stream of bytes to their place in the file: received and written at the same time, in bounded memory.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio_util::task::TaskTracker;

use crate::error::Error;
use crate::fetch::feed::Feed;
use crate::fetch::sink::Sink;

/// Bytes that are written at once.
const BATCH_BYTES: usize = 1 << 20;

/// Where bytes go.
pub(crate) struct Pump<S> {
    pub(crate) sink: Arc<S>,
    /// Every write under way, so that a restart can wait for them.
    pub(crate) writes: TaskTracker,
    /// A silence longer than this is the connection's end.
    pub(crate) stall: Duration,
    /// What is fetched, in words for an error.
    pub(crate) subject: String,
}

/// How far a stream came, and what ended it.
pub(crate) struct Pumped {
    /// Bytes that are in the file now.
    pub(crate) bytes: u64,
    /// `None` when the stream ended, or all that was wanted came.
    pub(crate) error: Option<Error>,
}

/// Bytes that lie behind each other in the file.
struct Batch {
    offset: u64,
    bytes: u64,
    parts: Vec<Bytes>,
}

impl<S: Sink> Pump<S> {
    /// Writes what comes to `range` of the file, and stops at its end.
    pub(crate) async fn run(
        &self,
        feed: &mut Feed,
        range: Range<u64>,
        sent: &(impl Fn(u64) + Sync),
    ) -> Pumped {
        let mut batch = Batch::at(range.start);
        let mut done = 0;
        let mut writing = None;
        let error = loop {
            let left = range.end - batch.end();
            if left == 0 {
                break None;
            }
            let part = match self.next(feed, left).await {
                Some(Ok(part)) => part,
                Some(Err(error)) => break Some(error),
                None => break None,
            };
            sent(part.len() as u64);
            batch.push(part);
            if batch.bytes >= BATCH_BYTES as u64 {
                // One batch is written while the next one comes in; more would be memory for nothing.
                match self.settle(&mut writing).await {
                    Ok(bytes) => done += bytes,
                    Err(error) => return Pumped { bytes: done, error: Some(error) },
                }
                let next = Batch::at(batch.end());
                writing = Some(self.write(std::mem::replace(&mut batch, next)));
            }
        };
        let mut last = (!batch.parts.is_empty()).then(|| self.write(batch));
        for writing in [&mut writing, &mut last] {
            match self.settle(writing).await {
                Ok(bytes) => done += bytes,
                Err(error) => return Pumped { bytes: done, error: Some(error) },
            }
        }
        Pumped { bytes: done, error }
    }

    /// Reads past what is not wanted.
    ///
    /// # Errors
    /// When the stream breaks off before.
    pub(crate) async fn skip(&self, feed: &mut Feed, mut bytes: u64) -> Result<(), Error> {
        while bytes > 0 {
            match self.next(feed, bytes).await {
                Some(part) => bytes -= part?.len() as u64,
                None => return Err(self.short()),
            }
        }
        Ok(())
    }

    async fn next(&self, feed: &mut Feed, most: u64) -> Option<Result<Bytes, Error>> {
        match tokio::time::timeout(self.stall, feed.next(most)).await {
            Ok(part) => part,
            Err(_) => Some(Err(self.passing(format!("nothing came for {} s", self.stall.as_secs_f32())))),
        }
    }

    /// The source ended too early.
    pub(crate) fn short(&self) -> Error {
        self.passing("the source ended before the file did".to_owned())
    }

    /// What may go better the next time.
    pub(crate) fn passing(&self, message: String) -> Error {
        Error::Unreachable { subject: self.subject.clone(), message, retry_after: None, is_silent: false }
    }

    /// What the source says does not fit together.
    pub(crate) fn lie(&self, message: String) -> Error {
        Error::BadAnswer { subject: self.subject.clone(), message }
    }

    fn write(&self, batch: Batch) -> Writing {
        let sink = self.sink.clone();
        self.writes.spawn_blocking(move || batch.write(&*sink))
    }

    async fn settle(&self, writing: &mut Option<Writing>) -> Result<u64, Error> {
        match writing.take() {
            None => Ok(0),
            Some(writing) => writing.await.unwrap_or_else(|_| {
                let error = std::io::Error::other("the writing thread is gone");
                Err(Error::io("the download could not be written")(error))
            }),
        }
    }
}

type Writing = tokio::task::JoinHandle<Result<u64, Error>>;

impl Batch {
    fn at(offset: u64) -> Self {
        Self { offset, bytes: 0, parts: Vec::new() }
    }

    fn end(&self) -> u64 {
        self.offset + self.bytes
    }

    fn push(&mut self, part: Bytes) {
        self.bytes += part.len() as u64;
        self.parts.push(part);
    }

    fn write(self, sink: &impl Sink) -> Result<u64, Error> {
        let range = self.offset..self.end();
        let mut at = self.offset;
        for part in self.parts {
            sink.write_at(at, &part)?;
            at += part.len() as u64;
        }
        sink.written(range)?;
        Ok(self.bytes)
    }
}
