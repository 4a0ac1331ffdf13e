//! `/api/blobs/sha256:…`: whether bytes of this digest are here, and bytes that are sent under it, for their owner and clients that may manage models.
//!
//! Nothing is kept of an upload that breaks off or has other bytes than it promised; the client sends it again from the start, as
//! Ollama's clients do.

use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use axum::extract::{Path, State};
use axum::http::StatusCode;
use http_body_util::BodyExt;
use samovar::store::{self, Store, Upload};
use samovar_core::byte_budget::Exhausted;
use samovar_core::{Digest, ErrorKind, Failure};

use super::{Refused, manage};
use crate::app::App;
use crate::generation::running::until_cut;
use crate::refusal::Refusal;

/// Bytes that are put on disk at a time.
const PIECE_BYTES: usize = 1 << 20;

/// `HEAD /api/blobs/{digest}`.
pub(crate) async fn head(State(app): State<App>, Path(digest): Path<String>) -> Result<StatusCode, Refused> {
    manage::check(&app, "ask for bytes", "samovar list")?;
    let (digest, store) = (named(&digest)?, app.runtime.store().await?);
    let here = blocking(move || store.blob_bytes(&digest)).await?;
    Ok(if here.is_some() { StatusCode::OK } else { StatusCode::NOT_FOUND })
}

/// `POST /api/blobs/{digest}`.
pub(crate) async fn send(
    State(app): State<App>,
    Path(digest): Path<String>,
    body: Body,
) -> Result<StatusCode, Refused> {
    manage::check(&app, "send bytes", "samovar adopt takes files over")?;
    let (digest, store) = (named(&digest)?, app.runtime.store().await?);
    let _in_flight = app.server.begin();
    let (looked, pause) = (store.clone(), app.limits.body_timeout);
    if blocking(move || looked.blob_bytes(&digest)).await?.is_some() {
        // A client that sends all the same reads its answer afterwards.
        pass_over(body, pause).await;
        return Ok(StatusCode::OK);
    }
    until_cut(&app, take_in(store, digest, body, pause)).await?;
    Ok(StatusCode::CREATED)
}

/// The digest in a path.
fn named(digest: &str) -> Result<Digest, Refusal> {
    digest.parse::<Digest>().map_err(|error| {
        Refusal::invalid("digest", format!("the path names no digest: {error}"))
            .with_hint("write /api/blobs/sha256: and 64 hexadecimal digits")
    })
}

/// Takes in a body, each part of which comes within `pause`.
async fn take_in(store: Store, digest: Digest, body: Body, pause: Duration) -> Result<(), Failure> {
    let size_bytes = body.size_hint().exact();
    let mut upload = blocking(move || store.begin_upload(digest, size_bytes)).await?;
    let mut body = body;
    let mut piece: Vec<u8> = Vec::new();
    while let Some(bytes) = next(&mut body, pause).await? {
        piece.extend_from_slice(&bytes);
        if piece.len() >= PIECE_BYTES {
            upload = write(upload, std::mem::take(&mut piece)).await?;
        }
    }
    let upload = write(upload, piece).await?;
    blocking(move || upload.finish()).await.map(drop)
}

async fn write(mut upload: Upload, piece: Vec<u8>) -> Result<Upload, Failure> {
    blocking(move || upload.write(&piece).map(|()| upload)).await
}

/// The next bytes of a body; `None` after its end.
async fn next(body: &mut Body, pause: Duration) -> Result<Option<Bytes>, Failure> {
    let broken = |why: String| {
        Failure::new(ErrorKind::InvalidRequest, format!("the upload broke off: {why}"))
            .with_hint("send it again; nothing was kept of it")
    };
    loop {
        let frame = tokio::time::timeout(pause, body.frame()).await;
        let frame = frame.map_err(|_| broken(format!("no byte came within {pause:?}")))?;
        let Some(frame) = frame else { return Ok(None) };
        let frame = frame.map_err(|error| {
            let error = error.into_inner();
            match error.downcast_ref::<Exhausted>() {
                Some(exhausted) => Failure::from(*exhausted),
                None => broken(error.to_string()),
            }
        })?;
        if let Ok(bytes) = frame.into_data() {
            return Ok(Some(bytes));
        }
    }
}

/// Reads a body to its end, to no use but that its sender reads the answer.
async fn pass_over(mut body: Body, pause: Duration) {
    while let Ok(Some(_)) = next(&mut body, pause).await {}
}

/// Does file work away from the event loop.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, store::Error> + Send + 'static,
) -> Result<T, Failure> {
    let done = tokio::task::spawn_blocking(work).await;
    let done = done.map_err(|_| Failure::new(ErrorKind::Internal, "a task of the store did not finish"))?;
    done.map_err(|error| match error {
        // Here the client is the source.
        store::Error::Mismatch { .. } => Failure::new(ErrorKind::InvalidRequest, error.to_string())
            .with_param("digest")
            .with_hint("send the bytes of this digest; nothing was kept of the others"),
        error => error.into(),
    })
}
