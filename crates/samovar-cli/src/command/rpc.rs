//! `samovar rpc`: JSON-RPC 2.0 on standard input and output, passed on to the daemon and back as it is. Reads no message.

use std::io::Read;
use std::pin::pin;

use samovar_core::{ErrorKind, Failure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc;

use super::Context;
use crate::client::{lost, no_daemon};
use crate::daemon::start;
use crate::ended::Ended;
use crate::home;

/// Bytes that are passed on at a time.
const PART_BYTES: usize = 64 << 10;
/// Parts of the input that wait for the daemon.
const PARTS: usize = 4;
/// White space before the first message: it says that this is not HTTP, whatever comes.
const GREETING: &[u8] = b"\n";

type Part = Result<Vec<u8>, Failure>;

pub(super) async fn execute(context: &Context) -> Result<(), Ended> {
    let mut input = input();
    // A program that says nothing needs no daemon.
    let Some(first) = input.recv().await else { return Ok(()) };
    let first = first?;
    let (from_daemon, to_daemon) = connect(context).await?.into_split();
    let mut receiving = pin!(receive(context, from_daemon));
    tokio::select! {
        biased;
        sent = send(first, input, to_daemon) => if let Err(failure) = sent {
            // What the daemon said before is still there.
            receiving.await?;
            return Err(of_daemon(context, failure).await);
        },
        received = &mut receiving => {
            received?;
            return Err(of_daemon(context, lost("it was closed")).await);
        }
    }
    receiving.await?;
    match context.client().connect().await? {
        Some(_) => Ok(()),
        None => Err(of_daemon(context, lost("it was closed")).await),
    }
}

/// A connection to a daemon that takes calls.
async fn connect(context: &Context) -> Result<UnixStream, Failure> {
    if !context.daemon().await?.takes_requests().await {
        start::next(&context.settings).await?;
    }
    context.client().stream().await?.ok_or_else(no_daemon)
}

/// What became of the daemon, where its connection broke.
async fn of_daemon(context: &Context, failure: Failure) -> Ended {
    if failure.kind == ErrorKind::Unavailable {
        start::obituary(&context.settings, failure).await.into()
    } else {
        failure.into()
    }
}

/// Standard input in parts, the last of which may be what went wrong.
fn input() -> mpsc::Receiver<Part> {
    let (parts, input) = mpsc::channel(PARTS);
    // The process ends without it, should it still wait.
    tokio::task::spawn_blocking(move || {
        let mut stdin = std::io::stdin().lock();
        let mut part = vec![0; PART_BYTES];
        loop {
            let read = match stdin.read(&mut part) {
                Ok(0) => return,
                Ok(bytes) => Ok(part[..bytes].to_vec()),
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(error) => Err(unreadable(&error)),
            };
            let is_last = read.is_err();
            if parts.blocking_send(read).is_err() || is_last {
                return;
            }
        }
    });
    input
}

fn unreadable(error: &std::io::Error) -> Failure {
    Failure::new(ErrorKind::Storage, format!("could not read standard input: {}", home::plain(error)))
        .with_hint("check where the input comes from")
}

/// Passes the input on to its end.
///
/// # Errors
/// When the input cannot be read, or the daemon takes no more.
async fn send(
    first: Vec<u8>,
    mut input: mpsc::Receiver<Part>,
    mut to_daemon: OwnedWriteHalf,
) -> Result<(), Failure> {
    let broken = |error: std::io::Error| lost(&home::plain(&error));
    to_daemon.write_all(GREETING).await.map_err(broken)?;
    to_daemon.write_all(&first).await.map_err(broken)?;
    while let Some(part) = input.recv().await {
        to_daemon.write_all(&part?).await.map_err(broken)?;
    }
    to_daemon.shutdown().await.map_err(broken)
}

/// Passes what the daemon says on to standard output, until it closes the connection.
///
/// # Errors
/// When nothing can be written there.
async fn receive(context: &Context, mut from_daemon: OwnedReadHalf) -> Result<(), Ended> {
    let mut part = vec![0; PART_BYTES];
    loop {
        let Ok(bytes @ 1..) = from_daemon.read(&mut part).await else { return Ok(()) };
        let (report, said) = (context.report.clone(), part[..bytes].to_vec());
        // Its reader may take its time, and what comes in must not wait for that.
        let written = tokio::task::spawn_blocking(move || report.bytes(&said)).await;
        written
            .map_err(|_| Failure::new(ErrorKind::Internal, "writing to standard output did not end"))??;
    }
}
