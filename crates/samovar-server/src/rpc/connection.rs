//! A connection to the owner's socket that speaks JSON-RPC from its first byte: reading, its session, writing. The end of a
//! connection is the end of its calls; a client that only has no more to say is answered first.

use futures_util::{StreamExt, stream};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;

use super::framing::{Arrived, Messages, write};
use super::methods::METHODS;
use super::session::{Session, UNSENT};
use crate::activity::Phase;
use crate::app::App;
use crate::client::{Asker, Peer};
use crate::connection::{ConnectionTracker, HalfOpen, Stream};

/// Serves one connection to its end. When the server leaves, the calls that run are answered and the connection closed.
pub(crate) async fn serve<S>(stream: S, peer: Peer, tracker: &ConnectionTracker, app: App)
where
    S: AsyncRead + AsyncWrite + HalfOpen + Unpin + Send + 'static,
{
    let _attending = app.server.attend();
    tokio::select! {
        () = talk(stream, &peer, tracker, &app) => {}
        () = tracker.dismissed() => tracing::debug!("a connection of JSON-RPC is closed for another one"),
    }
}

async fn talk<S>(stream: S, peer: &Peer, tracker: &ConnectionTracker, app: &App)
where
    S: AsyncRead + AsyncWrite + HalfOpen + Unpin + Send + 'static,
{
    let asker = Asker::of_peer(peer, app.surface.origin());
    let (reader, writer) = tokio::io::split(Stream::new(stream, tracker.clone(), app.limits.write_stall));
    let budget = app.runtime.buffers().clone();
    let mut messages = Messages::new(reader, budget, asker.client(None), app.limits.body_bytes);
    let framing = tokio::select! {
        framing = messages.framing() => framing.ok().flatten(),
        () = app.server.reached(Phase::Draining) => None,
    };
    let Some(framing) = framing else { return };
    let (queue, unsent) = mpsc::channel(UNSENT);
    let mut writing = std::pin::pin!(write(writer, unsent, framing));
    let mut session = Session::new(app.clone(), asker, METHODS, queue, true);
    let arriving = stream::unfold(messages, |mut messages| async move {
        let arrived = messages.next(framing).await.ok().flatten()?;
        Some((arrived, messages))
    });
    let mut arriving = std::pin::pin!(arriving);
    let mut is_broken = false;
    loop {
        tracker.serves(!session.is_quiet());
        if is_broken && session.is_quiet() {
            break;
        }
        tokio::select! {
            biased;
            _ = &mut writing => {
                tracing::debug!("the client of a connection of JSON-RPC takes nothing any more");
                return;
            }
            Some(()) = session.answered() => {}
            () = app.server.reached(Phase::Draining), if session.is_quiet() => break,
            arrived = arriving.next(), if !is_broken && session.has_room() => match arrived {
                Some(Arrived::Message(bytes, held)) => session.take(&bytes, held),
                Some(Arrived::Refused(fault)) => session.refuse(&fault),
                Some(Arrived::Broken(fault)) => {
                    is_broken = true;
                    session.refuse(&fault);
                }
                // All was answered, or the client has left.
                None => break,
            },
        }
    }
    // Ends what still runs, and with it the queue.
    drop(session);
    if let Err(error) = writing.await {
        tracing::debug!(%error, "the last answers of a connection of JSON-RPC were not taken");
    }
}
