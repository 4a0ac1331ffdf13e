//! The loop of a model that makes vectors or scores and writes no text.

use std::sync::mpsc::{Receiver, TryRecvError};

use super::embedder::Embedder;
use crate::batch::Exit;
use crate::error::Error;
use crate::prefix_command::PrefixCommand;
use crate::threads::PeerPlace;
use crate::ticket::Command;

/// Serves until told otherwise. Requests that still wait are broken off with `Parked`, `Gone` or the failure itself.
/// `architecture` is named to a client that asks for text.
pub(crate) fn serve_alone(
    mut embedder: Embedder<'_>,
    threads: u32,
    place: &PeerPlace,
    architecture: &str,
    commands: &Receiver<Command>,
) -> Exit {
    let mut computing = None;
    loop {
        if embedder.is_idle() {
            // No other program waits for cores that are not used.
            computing = None;
        }
        if let Some(exit) = listen(&mut embedder, architecture, commands) {
            let reason = if matches!(exit, Exit::Park(_)) { Error::Parked } else { Error::Gone };
            embedder.break_off(&reason);
            return exit;
        }
        let _ = computing.get_or_insert_with(|| place.compute(threads));
        if let Err(error) = embedder.step(false) {
            embedder.break_off(&error);
            return Exit::Dead(error);
        }
    }
}

/// Takes all commands there are; waits for one when there is nothing else to do.
fn listen(embedder: &mut Embedder<'_>, architecture: &str, commands: &Receiver<Command>) -> Option<Exit> {
    let not_generative = || Error::NotGenerative { architecture: architecture.to_owned() };
    loop {
        let command = if embedder.is_idle() {
            commands.recv().map_err(|_| TryRecvError::Disconnected)
        } else {
            commands.try_recv()
        };
        match command {
            Ok(Command::Embed(ticket)) => embedder.receive(*ticket),
            Ok(Command::Generate(ticket)) => ticket.refuse(not_generative()),
            Ok(Command::Park(reply)) => return Some(Exit::Park(reply)),
            Ok(Command::Resume(_, reply)) => {
                let _ = reply.try_send(Ok(()));
            }
            // Nothing of a finished request is kept.
            Ok(Command::Prefix(PrefixCommand::List(reply))) => drop(reply.try_send(Ok(Vec::new()))),
            Ok(Command::Prefix(question)) => question.refuse(not_generative()),
            Err(TryRecvError::Empty) => return None,
            Err(TryRecvError::Disconnected) => return Some(Exit::Unload),
        }
    }
}
