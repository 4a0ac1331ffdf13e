//! A stream of bytes that can be read up to a place and then on.

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;

use crate::error::Error;

/// A stream of bytes, and what of its last chunk was too much.
pub(crate) struct Feed {
    stream: BoxStream<'static, Result<Bytes, Error>>,
    rest: Bytes,
}

impl Feed {
    pub(crate) fn new(stream: BoxStream<'static, Result<Bytes, Error>>) -> Self {
        Self { stream, rest: Bytes::new() }
    }

    /// The next bytes, `most` of them at most; `None` at the end.
    pub(crate) async fn next(&mut self, most: u64) -> Option<Result<Bytes, Error>> {
        while self.rest.is_empty() {
            match self.stream.next().await? {
                Ok(chunk) => self.rest = chunk,
                Err(error) => return Some(Err(error)),
            }
        }
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        Some(Ok(self.rest.split_to(most.min(self.rest.len()))))
    }
}
