//! Several connections over the gaps of one file.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::time::Instant;

use crate::config::SourceConfig;
use crate::error::Error;
use crate::fetch::feed::Feed;
use crate::fetch::pump::{Pump, Pumped};
use crate::fetch::queue::{CHUNK_BYTES, Queue};
use crate::fetch::retry::Retries;
use crate::fetch::sink::Sink;
use crate::source::{Body, Promise, RemoteFile, Source};

/// Connections at most, whatever the settings say: each holds two batches in memory.
const LANES: u64 = 16;

/// Why connections stopped before all was there.
pub(crate) enum Stop {
    /// For good, or as often as it was tried.
    Failed(Error),
    /// A failure that was not yet tried to be mended.
    Broke(Error),
    /// The source has another version now.
    Changed {
        /// Its size.
        size: Option<u64>,
        /// Its etag.
        etag: Option<String>,
    },
    /// The whole file came where a part was asked for.
    Whole(Body),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

impl Stop {
    pub(crate) fn broke(self) -> Self {
        match self {
            Self::Failed(error) => Self::Broke(error),
            stop => stop,
        }
    }
}

/// One go at the gaps of a file.
pub(crate) struct Round<'a, S, F> {
    source: &'a dyn Source,
    /// As it was resolved.
    announced: &'a RemoteFile,
    /// The same with the etag of the bytes that are there.
    file: RemoteFile,
    pump: &'a Pump<S>,
    config: &'a SourceConfig,
    queue: Queue,
    sent: &'a F,
    /// Lanes at work.
    lanes: AtomicU64,
}

impl<'a, S: Sink, F: Fn(u64) + Send + Sync> Round<'a, S, F> {
    pub(crate) fn new(
        source: &'a dyn Source,
        announced: &'a RemoteFile,
        pump: &'a Pump<S>,
        config: &'a SourceConfig,
        gaps: Vec<Range<u64>>,
        sent: &'a F,
    ) -> Self {
        let file = with_etag(announced, pump.sink.etag());
        Self {
            source,
            announced,
            file,
            pump,
            config,
            queue: Queue::new(gaps),
            sent,
            lanes: AtomicU64::new(1),
        }
    }

    /// Fills the gaps. The first answer comes alone: what it says of the file holds for the others, and a
    /// refusal is one and not several.
    pub(crate) async fn run(mut self) -> Result<(), Stop> {
        let pieces = self.queue.bytes().div_ceil(CHUNK_BYTES).max(1);
        let most = u64::from(self.config.connections).clamp(1, LANES).min(pieces);
        let Some(piece) = self.queue.take(most, 0) else { return Ok(()) };
        let mut retries = Retries::new(self.config.retry);
        let body = loop {
            match self.ask(&piece).await {
                Ok(body) => break body,
                Err(Stop::Failed(error)) => match retries.after(&error) {
                    Some(wait) => pause(&error, wait).await,
                    None => return Err(Stop::Failed(error)),
                },
                Err(stop) => return Err(stop),
            }
        };
        let sink = &self.pump.sink;
        if body.etag.is_some() && sink.etag().is_none() && sink.done_bytes() == 0 {
            restart(self.pump, sink.size(), body.etag.clone()).await?;
            self.file.etag.clone_from(&body.etag);
        }
        self.lanes.store(most, Ordering::Relaxed);
        let round = &self;
        let mut lanes: FuturesUnordered<_> =
            (1..most).map(|_| round.lane(None)).chain([round.lane(Some((piece, body)))]).collect();
        // The first stop stops all: dropping a lane drops its connection.
        while let Some(done) = lanes.next().await {
            done?;
        }
        Ok(())
    }

    /// One connection, until nothing is left to take or it leaves the rest to the others.
    async fn lane(&self, begun: Option<(Range<u64>, Body)>) -> Result<(), Stop> {
        let mut retries = Retries::new(self.config.retry);
        let mut bytes_per_s = 0;
        let mut begun = begun.map(|(piece, body)| (piece, Some(body)));
        loop {
            let take = || self.queue.take(self.lanes.load(Ordering::Relaxed), bytes_per_s);
            let Some((piece, body)) = begun.take().or_else(|| take().map(|piece| (piece, None))) else {
                self.lanes.fetch_sub(1, Ordering::Relaxed);
                return Ok(());
            };
            match self.work(piece, body, &mut retries).await? {
                Some(rate) => bytes_per_s = rate,
                None => return Ok(()),
            }
        }
    }

    /// Does one piece, in as many goes as it takes, and says how fast the last of them was; `None` when the
    /// connection leaves the rest of it to others.
    async fn work(
        &self,
        mut piece: Range<u64>,
        mut body: Option<Body>,
        retries: &mut Retries,
    ) -> Result<Option<u64>, Stop> {
        loop {
            let since = Instant::now();
            let before = piece.start;
            let error = match self.step(&mut piece, body.take()).await {
                Ok(()) => None,
                Err(Stop::Failed(error)) => Some(error),
                Err(stop) => return Err(stop),
            };
            let bytes = piece.start - before;
            if bytes > 0 {
                retries.restore();
            }
            let Some(error) = error else {
                if piece.is_empty() {
                    return Ok(Some((bytes as f64 / since.elapsed().as_secs_f64().max(1e-6)) as u64));
                }
                continue;
            };
            if self.leaves(&error) {
                tracing::debug!(%error, "one connection fewer");
                self.queue.give_back(piece);
                return Ok(None);
            }
            match retries.after(&error) {
                Some(wait) => pause(&error, wait).await,
                None => return Err(Stop::Failed(error)),
            }
        }
    }

    /// Asks for a piece, unless that was done, and pumps what comes. The piece is what is left of it then.
    async fn step(&self, piece: &mut Range<u64>, body: Option<Body>) -> Result<(), Stop> {
        let body = match body {
            Some(body) => body,
            None => self.ask(piece).await?,
        };
        let Pumped { bytes, error } =
            self.pump.run(&mut Feed::new(body.stream), piece.clone(), self.sent).await;
        piece.start += bytes;
        match error {
            Some(error) => Err(error.into()),
            None if bytes == 0 => Err(self.pump.short().into()),
            None => Ok(()),
        }
    }

    /// The answer to a piece, if it is one.
    async fn ask(&self, piece: &Range<u64>) -> Result<Body, Stop> {
        let body = self.source.fetch(&self.file, piece.clone()).await?;
        check_claims(self.pump, self.announced, &body)?;
        let sink = &self.pump.sink;
        // A server without ranges would send the whole file to each connection.
        if body.start != piece.start || body.is_whole && sink.size() != Some(piece.end) {
            return Err(Stop::Whole(body));
        }
        let is_other_size = body.size.is_some() && body.size != sink.size();
        if is_other_size || is_other(sink.etag().as_deref(), body.etag.as_deref()) {
            return Err(Stop::Changed { size: body.size, etag: body.etag });
        }
        Ok(body)
    }

    /// A source that asks to be left alone is asked by fewer connections, as long as one goes on.
    fn leaves(&self, error: &Error) -> bool {
        let asked = matches!(error, Error::Unreachable { retry_after: Some(_), .. });
        let leave = |lanes: u64| (lanes > 1).then(|| lanes - 1);
        asked && self.lanes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, leave).is_ok()
    }
}

async fn pause(error: &Error, wait: Duration) {
    tracing::debug!(%error, ?wait, "will be tried again");
    tokio::time::sleep(wait).await;
}

/// Whether both are known and differ.
pub(crate) fn is_other(before: Option<&str>, now: Option<&str>) -> bool {
    matches!((before, now), (Some(before), Some(now)) if before != now)
}

/// The file as it was resolved, with the etag of the bytes that are there.
pub(crate) fn with_etag(announced: &RemoteFile, etag: Option<String>) -> RemoteFile {
    let etag = etag.or_else(|| announced.etag.clone());
    RemoteFile { etag, ..announced.clone() }
}

/// What was announced of a file still holds: its size, for which there is room, and its version where
/// nothing else says which content was meant.
pub(crate) fn check_claims<S: Sink>(
    pump: &Pump<S>,
    announced: &RemoteFile,
    body: &Body,
) -> Result<(), Error> {
    match (announced.size, body.size) {
        (Some(announced), Some(said)) if announced != said => {
            return Err(pump.lie(format!("a file of {said} bytes, where {announced} were announced")));
        }
        _ => (),
    }
    let is_free = announced.promise == Promise::Unknown;
    if is_free && is_other(announced.etag.as_deref(), body.etag.as_deref()) {
        return Err(pump.passing("the file changed at its source while it was fetched".to_owned()));
    }
    Ok(())
}

/// Lets all that is there count as unwritten.
pub(crate) async fn restart<S: Sink>(
    pump: &Pump<S>,
    size: Option<u64>,
    etag: Option<String>,
) -> Result<(), Error> {
    let sink = pump.sink.clone();
    let restarted = pump.writes.spawn_blocking(move || sink.restart(size, etag.as_deref()));
    restarted.await.unwrap_or_else(|_| {
        let error = std::io::Error::other("the writing thread is gone");
        Err(Error::io("the download could not be restarted")(error))
    })
}
