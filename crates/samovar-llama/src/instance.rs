//! The handle of one loaded model: checks requests and passes them to the thread that owns it.

mod requests;
#[cfg(test)]
mod tests;

use std::cell::Cell;
use std::fs::File;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::{Builder, JoinHandle};

use llama_cpp_2::model::LlamaModel;
use llama_cpp_2::token::LlamaToken;
use samovar_core::embedding::EmbedRequest;
use samovar_core::footprint::Measurement;
use samovar_core::generation::Generation;
use samovar_core::port::{Instance, LoadControl, LoadRequest, PackedFile, PromptControl, Unconfined};
use samovar_core::{
    Arrangement, CachedPrefix, Chat, Cores, Failure, GenerationRequest, LoadOptions, Prompt, Scope,
    TokenEvent,
};

use self::requests::answer_tokens;
use crate::constraints::Constraints;
use crate::embed::{EmbedPlan, Inputs};
use crate::error::Error;
use crate::plan::LoadPlan;
use crate::prefix_command::PrefixCommand;
use crate::prompts::{self, Prompts};
use crate::published::Published;
use crate::saved::Kind;
use crate::thread::{self, Loading, Start};
use crate::threads::{PeerPlace, Peers};
use crate::ticket::{Command, Reply};

/// Commands on their way to the thread.
const COMMANDS: usize = 1024;
/// Progress reports on their way from it.
const REPORTS: usize = 16;

/// One model loaded by llama.cpp. Dropping it unloads the model and joins its thread; a step that is
/// running is broken off.
#[derive(Debug)]
pub(crate) struct LlamaInstance {
    /// As loaded: its context may have another size since.
    plan: LoadPlan,
    arrangement: Arrangement,
    kind: Kind,
    architecture: String,
    prompts: Prompts,
    constraints: Constraints,
    /// How inputs become tokens, if vectors are made.
    inputs: Option<Inputs>,
    model: Option<Arc<LlamaModel>>,
    commands: Option<SyncSender<Command>>,
    published: Arc<Published>,
    place: PeerPlace,
    thread: Option<JoinHandle<()>>,
}

impl LlamaInstance {
    /// Loads a model on a thread of its own and waits for it.
    pub(crate) fn load(
        request: LoadRequest<'_>,
        plan: LoadPlan,
        engine: &str,
        peers: &Arc<Peers>,
    ) -> Result<Self, Error> {
        let LoadRequest { descriptor, control, .. } = request;
        let published = Arc::<Published>::default();
        let place = PeerPlace::beside(peers);
        let (commands, receiver) = sync_channel(COMMANDS);
        let (loading, reports) = sync_channel(REPORTS);
        let thread = {
            let (files, descriptor) = (request.files.clone(), descriptor.clone());
            let draft = request.options.draft.clone();
            let packed = request.packed.map(|packed| (packed.path.to_owned(), packed.source.to_owned()));
            let (published, place) = (Arc::clone(&published), place.clone());
            let cancelled = control.cancel_flag();
            let life = move || {
                let packed = packed.as_ref().map(|(path, source)| PackedFile { path, source });
                thread::run(&Start {
                    files: &files,
                    packed,
                    descriptor: &descriptor,
                    draft: draft.as_deref(),
                    plan,
                    published: &published,
                    place: &place,
                    commands: &receiver,
                    loading,
                    cancelled: &cancelled,
                    told: Cell::default(),
                });
            };
            Builder::new().name("llama".to_owned()).spawn(life)
        };
        let thread = thread.map_err(|error| Error::Thread { detail: error.to_string() })?;
        match await_load(&reports, control) {
            Ok((model, arrangement)) => {
                let prompts = Prompts::of(&model, descriptor);
                let inputs = |plan: EmbedPlan| Inputs::of(&model, prompts.vocabulary(), plan.pooling);
                Ok(Self {
                    inputs: plan.embed.map(inputs),
                    prompts,
                    constraints: Constraints::default(),
                    plan,
                    arrangement,
                    kind: Kind::new(engine, descriptor, plan.kv_type),
                    architecture: descriptor.architecture.clone(),
                    model: Some(model),
                    commands: Some(commands),
                    published,
                    place,
                    thread: Some(thread),
                })
            }
            Err(error) => {
                // So that everything is given back when the error arrives.
                let _ = thread.join();
                Err(error)
            }
        }
    }

    fn model(&self) -> &Arc<LlamaModel> {
        self.model.as_ref().expect("invariant: the model is taken away only by drop")
    }

    fn send(&self, command: Command) -> Result<(), Error> {
        let commands = self.commands.as_ref().ok_or(Error::Gone)?;
        commands.try_send(command).map_err(|error| match error {
            TrySendError::Full(_) => Error::TooManyWaiting { waiting: COMMANDS },
            TrySendError::Disconnected(_) => Error::Gone,
        })
    }

    /// Asks the thread and waits for its answer.
    fn ask<T>(&self, question: impl FnOnce(Reply<T>) -> Command) -> Result<T, Error> {
        let (reply, answer) = sync_channel(1);
        self.send(question(reply))?;
        answer.recv().map_err(|_| Error::Gone)?
    }

    fn save(&self, prefix: &CachedPrefix, into: &File) -> Result<u64, Error> {
        let id = prefix.id;
        let bytes = self.ask(|reply| Command::Prefix(PrefixCommand::Weigh { id, reply }))?;
        let into = self.kind.create(into, &prefix.tokens, bytes)?;
        Ok(self.ask(|reply| Command::Prefix(PrefixCommand::Save { id, into, reply }))?.seal())
    }

    fn restore(&self, tokens: &[u32], scope: Scope, from: &File) -> Result<(), Error> {
        let (from, tokens) = (self.kind.open(from, tokens)?, self.checked(tokens)?);
        self.ask(|reply| Command::Prefix(PrefixCommand::Restore { tokens, scope, from, reply }))
    }

    fn checked(&self, tokens: &[u32]) -> Result<Vec<LlamaToken>, Error> {
        prompts::checked(self.model(), tokens)
    }
}

/// Passes progress on until the load has ended.
fn await_load(
    reports: &Receiver<Loading>,
    control: &LoadControl,
) -> Result<(Arc<LlamaModel>, Arrangement), Error> {
    loop {
        match reports.recv() {
            Ok(Loading::Progress(fraction)) => control.report(fraction),
            Ok(Loading::Ready(model, arrangement)) => return Ok((model, arrangement)),
            Ok(Loading::Failed(error)) => return Err(error),
            Err(_) => return Err(Error::Gone),
        }
    }
}

impl Instance for LlamaInstance {
    fn generate(&self, request: GenerationRequest) -> Result<Generation, Failure> {
        self.start(request, &Unconfined)
    }

    fn generate_while(
        &self,
        request: GenerationRequest,
        control: &dyn PromptControl,
    ) -> Result<Generation, Failure> {
        self.start(request, control)
    }

    fn embed(&self, request: EmbedRequest, control: &dyn PromptControl) -> Result<Generation, Failure> {
        self.start_embedding(&request, control)
    }

    fn tokenize(&self, text: &str, add_special: bool, parse_special: bool) -> Result<Vec<u32>, Failure> {
        let tokens = self.prompts.tokenize(self.model(), text, add_special, parse_special)?;
        Ok(tokens.into_iter().map(|token| token.0 as u32).collect())
    }

    fn encode(&self, prompt: &Prompt, control: &dyn PromptControl) -> Result<Vec<u32>, Failure> {
        let tokens = self.prompt(prompt, control)?;
        answer_tokens(tokens.len(), None, self.published.context_tokens())?;
        Ok(tokens.into_iter().map(|token| token.0 as u32).collect())
    }

    fn render(&self, chat: &Chat, control: &dyn PromptControl) -> Result<String, Failure> {
        self.check_generates()?;
        self.prompts.render(chat, self.published.context_tokens(), control)
    }

    fn count(&self, prompt: &Prompt, control: &dyn PromptControl) -> Result<u32, Failure> {
        self.check_generates()?;
        let context_tokens = self.published.context_tokens();
        Ok(self.prompts.count(self.model(), prompt, context_tokens, control)? as u32)
    }

    fn detokenize(&self, tokens: &[u32]) -> Result<Vec<u8>, Failure> {
        let tokens = self.checked(tokens)?;
        let vocab = self.model().vocab();
        let mut bytes = Vec::with_capacity(tokens.len() * 4);
        for token in tokens {
            bytes.extend(vocab.token_to_piece(token, false, None));
        }
        Ok(bytes)
    }

    fn park(&self) -> Result<(), Failure> {
        let (reply, answer) = sync_channel(1);
        // Requests that still run end with this: they need not finish their step.
        self.published.interrupt();
        self.send(Command::Park(reply)).inspect_err(|_| self.published.interrupted())?;
        answer.recv().map_err(|_| Error::Gone)??;
        self.constraints.forget();
        Ok(())
    }

    fn resume(&self, options: &LoadOptions) -> Result<(), Failure> {
        let plan = self.plan.resized(options)?;
        Ok(self.ask(|reply| Command::Resume(plan, reply))?)
    }

    fn arrangement(&self) -> Arrangement {
        self.arrangement.clone()
    }

    fn measure(&self) -> Measurement {
        let measured = self.published.measurement();
        Measurement { held_bytes: measured.held_bytes + self.constraints.bytes(), ..measured }
    }

    fn share_cores(&self, cores: Cores) {
        self.place.allowance.tell(cores);
    }

    fn probe(&self) -> Result<(), Failure> {
        let mut generation = self.start_probe()?;
        while let Some(event) = generation.blocking_next() {
            match event {
                TokenEvent::Done(_) => return Ok(()),
                TokenEvent::Failed(failure) => return Err(failure),
                TokenEvent::Prefilling { .. }
                | TokenEvent::Prefilled { .. }
                | TokenEvent::Token { .. }
                | TokenEvent::Deltas { .. }
                | TokenEvent::Embedded(_) => {}
            }
        }
        Err(Error::Gone.into())
    }

    fn prefixes(&self) -> Result<Vec<CachedPrefix>, Failure> {
        Ok(self.ask(|reply| Command::Prefix(PrefixCommand::List(reply)))?)
    }

    fn save_prefix(&self, prefix: &CachedPrefix, into: &File) -> Result<u64, Failure> {
        Ok(self.save(prefix, into)?)
    }

    fn restore_prefix(&self, tokens: &[u32], scope: Scope, from: &File) -> Result<(), Failure> {
        Ok(self.restore(tokens, scope, from)?)
    }
}

impl Drop for LlamaInstance {
    fn drop(&mut self) {
        self.published.interrupt();
        drop(self.commands.take());
        if let Some(thread) = self.thread.take() {
            // A panic there has been reported already, and there is nothing left to do about it.
            let _ = thread.join();
        }
        // So that their memory is given back below, too.
        drop(std::mem::take(&mut self.constraints));
        drop(self.model.take());
        crate::native::give_back_memory();
    }
}
