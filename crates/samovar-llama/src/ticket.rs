//! What travels to an instance's thread: requests as tickets, and commands.

use std::sync::mpsc::SyncSender;
use std::time::Instant;

use llama_cpp_2::token::LlamaToken;
use samovar_core::{Sampling, Scope, TokenEvent};
use tokio::sync::mpsc::Sender;

use crate::adapter_set::AdapterSet;
use crate::binding::Binding;
use crate::embed::EmbedTicket;
use crate::error::Error;
use crate::plan::LoadPlan;
use crate::prefix_command::PrefixCommand;
use crate::reading::Reading;

/// A request with its prompt tokenized, its limits settled and a reader for its answer.
#[derive(Debug)]
#[allow(clippy::struct_excessive_bools, reason = "independent facts about the request")]
pub(crate) struct Ticket {
    /// At least one token, fewer than the context holds.
    pub prompt: Vec<LlamaToken>,
    pub sampling: Sampling,
    /// Tokens to generate at most; with the prompt they fit the context.
    pub max_tokens: u32,
    pub stop: Vec<String>,
    /// How its answer is read, where thoughts or calls may be in it.
    pub reading: Option<Box<Reading>>,
    /// What its answer must look like.
    pub binding: Option<Box<Binding>>,
    pub logprobs: Option<u32>,
    pub ignore_eos: bool,
    /// Several of its tokens may be computed in one step.
    pub speculates: bool,
    pub reuse_prefix: bool,
    /// Whose it is.
    pub scope: Scope,
    /// It is computed with these.
    pub adapters: AdapterSet,
    /// A probe runs beside full slots.
    pub is_probe: bool,
    pub arrived: Instant,
    /// Holds every event of the answer, so sending never blocks.
    pub events: Sender<TokenEvent>,
}

impl Ticket {
    /// Ends a request that never ran.
    pub(crate) fn refuse(self, error: Error) {
        // The caller may have gone: then the answer is not needed.
        let _ = self.events.try_send(TokenEvent::Failed(error.into()));
    }
}

/// Answers a command; the asking thread waits on the other end.
pub(crate) type Reply<T> = SyncSender<Result<T, Error>>;

/// What an instance's thread can be asked. It ends when all senders are gone.
#[derive(Debug)]
pub(crate) enum Command {
    Generate(Box<Ticket>),
    Embed(Box<EmbedTicket>),
    Park(Reply<()>),
    /// Make a context of this size, unless there is one.
    Resume(LoadPlan, Reply<()>),
    /// About the state of finished requests.
    Prefix(PrefixCommand),
}
