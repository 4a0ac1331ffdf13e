//! Listens, and answers each connection on a task of its own.

use std::io;
use std::sync::Arc;

use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::count::Listener;
use crate::request::Request;
use crate::route;
use crate::send::{self, After};
use crate::state::Shared;

/// Answers all who come to this socket, until it is dropped.
pub(crate) async fn keep(socket: TcpListener, listener: Listener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            Some(_) = connections.join_next() => (),
            accepted = socket.accept() => {
                if let Ok((stream, _)) = accepted {
                    connections.spawn(converse(stream, listener, Arc::clone(&shared)));
                }
            }
        }
    }
}

/// Answers one request after the other; a client that goes in the middle is no fault.
async fn converse(mut stream: TcpStream, listener: Listener, shared: Arc<Shared>) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut rest = Vec::new();
    while let Some(request) = Request::read(&mut stream, &mut rest).await? {
        let reply = route::answer(&shared, listener, &request);
        let after = send::send(&mut stream, &shared, reply, request.is_head()).await?;
        if after == After::Close || !request.keeps_alive() {
            break;
        }
    }
    Ok(())
}
