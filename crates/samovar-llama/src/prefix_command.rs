//! What others may ask about the state of finished requests: which there is, to save it, to take some in.
//!
//! The loop answers between two of its steps. Saving costs it one copy of the state, restoring another; files
//! are opened, checked and sealed by the caller.

use llama_cpp_2::token::LlamaToken;
use samovar_core::{CachedPrefix, Scope};

use crate::context::Context;
use crate::error::Error;
use crate::kv::Kv;
use crate::saved::{Incoming, Outgoing};
use crate::ticket::Reply;

/// One such question.
#[derive(Debug)]
pub(crate) enum PrefixCommand {
    /// Which state is there? The longest unused first.
    List(Reply<Vec<CachedPrefix>>),
    /// How many bytes has this state?
    Weigh { id: u64, reply: Reply<usize> },
    /// Write this state.
    Save { id: u64, into: Outgoing, reply: Reply<Outgoing> },
    /// Keep this state, as that of a finished request with these tokens and this scope.
    Restore { tokens: Vec<LlamaToken>, scope: Scope, from: Incoming, reply: Reply<()> },
}

impl PrefixCommand {
    /// Answers. `id` names state that is taken in.
    pub(crate) fn serve(self, kv: &mut Kv, context: &mut Context<'_>, id: u64) {
        // The caller waits for the answer, unless its thread has died.
        match self {
            Self::List(reply) => drop(reply.try_send(Ok(kv.prefixes().map(prefix).collect()))),
            Self::Weigh { id, reply } => drop(reply.try_send(kv.state_bytes(context, id))),
            Self::Save { id, mut into, reply } => {
                let saved = kv.save(context, id, into.state_mut());
                drop(reply.try_send(saved.map(|()| into)));
            }
            Self::Restore { tokens, scope, from, reply } => {
                drop(reply.try_send(kv.restore(context, (tokens, scope), from.state(), id)));
            }
        }
    }

    /// Says no.
    pub(crate) fn refuse(self, error: Error) {
        match self {
            Self::List(reply) => drop(reply.try_send(Err(error))),
            Self::Weigh { reply, .. } => drop(reply.try_send(Err(error))),
            Self::Save { reply, .. } => drop(reply.try_send(Err(error))),
            Self::Restore { reply, .. } => drop(reply.try_send(Err(error))),
        }
    }

    /// Answers where there is no state at all.
    pub(crate) fn refuse_parked(self) {
        match self {
            Self::List(reply) => drop(reply.try_send(Ok(Vec::new()))),
            Self::Weigh { .. } | Self::Save { .. } => self.refuse(Error::PrefixGone),
            Self::Restore { .. } => self.refuse(Error::Parked),
        }
    }
}

fn prefix((id, tokens, scope): (u64, &[LlamaToken], Scope)) -> CachedPrefix {
    CachedPrefix { id, tokens: tokens.iter().map(|token| token.0 as u32).collect(), scope }
}
