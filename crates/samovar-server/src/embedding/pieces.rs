//! Answers of JSON that may be large: a small one is written at once, of a large one each piece when its reader has taken the
//! one before. So neither the event loop is held up, nor is a large text in memory at one time.

use std::convert::Infallible;

use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use samovar_core::Failure;

use crate::buffer_charge::BufferCharge;

/// Bytes of a piece, about; an answer of no more is one piece and says its length.
const PIECE_BYTES: usize = 64 << 10;

/// An answer whose parts `next` writes, one a call, until it returns false with the last one. `held` counts what it is made
/// of. Each part must have at least one byte.
///
/// # Errors
/// `Busy` when no memory is left for an answer of one piece.
pub(crate) fn respond(
    headers: HeaderMap,
    held: BufferCharge,
    next: impl FnMut(&mut Vec<u8>) -> bool + Send + 'static,
) -> Result<Response, Failure> {
    let mut pieces = Pieces { ready: Vec::new(), has_more: true, next, held };
    pieces.fill();
    if !pieces.has_more {
        return whole(headers, pieces.held, pieces.ready);
    }
    let writes = stream::unfold(pieces, |mut pieces| async move {
        pieces.fill();
        let bytes = std::mem::take(&mut pieces.ready);
        (!bytes.is_empty()).then(|| (Ok::<_, Infallible>(Bytes::from(bytes)), pieces))
    });
    Ok((headers, [(header::CONTENT_TYPE, "application/json")], Body::from_stream(writes)).into_response())
}

/// An answer that is written already.
///
/// # Errors
/// `Busy` when no memory is left for it.
pub(crate) fn whole(headers: HeaderMap, held: BufferCharge, bytes: Vec<u8>) -> Result<Response, Failure> {
    let body = Body::from(held.becomes(bytes)?);
    Ok((headers, [(header::CONTENT_TYPE, "application/json")], body).into_response())
}

struct Pieces<F> {
    /// Written and not taken.
    ready: Vec<u8>,
    has_more: bool,
    next: F,
    held: BufferCharge,
}

impl<F: FnMut(&mut Vec<u8>) -> bool> Pieces<F> {
    /// Writes on until there is a piece, or no more.
    fn fill(&mut self) {
        while self.has_more && self.ready.len() < PIECE_BYTES {
            self.has_more = (self.next)(&mut self.ready);
        }
    }
}
