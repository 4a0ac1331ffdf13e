//! The handle of one loaded model: checks requests and passes them to the thread that owns it.

use std::cell::Cell;
use std::fs::File;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::{Builder, JoinHandle};
use std::time::Instant;

use llama_cpp_2::model::LlamaModel;
use llama_cpp_2::token::LlamaToken;
use samovar_core::embedding::{EmbedOutput, EmbedRequest, Urgency};
use samovar_core::footprint::Measurement;
use samovar_core::generation::Generation;
use samovar_core::port::{Instance, LoadControl, LoadRequest, PackedFile, PromptControl, Unconfined};
use samovar_core::{
    Arrangement, CachedPrefix, Cores, Failure, GenerationRequest, LoadOptions, Prompt, Sampling, Scope,
    TokenEvent,
};

use crate::adapter_set::AdapterSet;
use crate::context::pooled_width;
use crate::embed::{self, EmbedPlan, EmbedTicket, Inputs, Item};
use crate::error::Error;
use crate::plan::LoadPlan;
use crate::prefix_command::PrefixCommand;
use crate::prompts::{self, Prompts};
use crate::published::Published;
use crate::saved::Kind;
use crate::thread::{self, Loading, Start};
use crate::threads::{PeerPlace, Peers};
use crate::ticket::{Command, Reply, Ticket};

/// Commands on their way to the thread.
const COMMANDS: usize = 1024;
/// Progress reports on their way from it.
const REPORTS: usize = 16;
/// A prompt for the probe: any token will do.
const PROBE_TOKEN: LlamaToken = LlamaToken(0);

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
            let packed = request.packed.map(|packed| (packed.path.to_owned(), packed.source.to_owned()));
            let (published, place) = (Arc::clone(&published), place.clone());
            let cancelled = control.cancel_flag();
            let life = move || {
                let packed = packed.as_ref().map(|(path, source)| PackedFile { path, source });
                thread::run(&Start {
                    files: &files,
                    packed,
                    descriptor: &descriptor,
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

    fn model(&self) -> &LlamaModel {
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

    fn prompt(&self, prompt: &Prompt, control: &dyn PromptControl) -> Result<Vec<LlamaToken>, Failure> {
        if !self.plan.generates() {
            return Err(Error::NotGenerative { architecture: self.architecture.clone() }.into());
        }
        if self.published.is_parked() {
            return Err(Error::Parked.into());
        }
        self.prompts.encode(self.model(), prompt, self.published.context_tokens(), control)
    }

    fn start(&self, request: GenerationRequest) -> Result<Generation, Failure> {
        let prompt = self.prompt(&request.prompt, &Unconfined)?;
        let max_tokens = answer_tokens(prompt.len(), request.max_tokens, self.published.context_tokens())?;
        let adapters = AdapterSet::of(&request.adapters)?;
        let (events, generation) = Generation::channel(max_tokens);
        self.send(Command::Generate(Box::new(Ticket {
            prompt,
            sampling: request.sampling,
            max_tokens,
            stop: request.stop,
            logprobs: request.logprobs,
            ignore_eos: request.ignore_eos,
            reuse_prefix: request.reuse_prefix,
            scope: request.scope,
            adapters,
            is_probe: false,
            arrived: Instant::now(),
            events,
        })))?;
        Ok(generation)
    }

    fn start_embedding(
        &self,
        request: &EmbedRequest,
        control: &dyn PromptControl,
    ) -> Result<Generation, Failure> {
        let (Some(plan), Some(inputs)) = (self.plan.embed, &self.inputs) else {
            return Err(Error::NoVectors.into());
        };
        if self.published.is_parked() {
            return Err(Error::Parked.into());
        }
        let (model, vocabulary) = (self.model(), self.prompts.vocabulary());
        embed::check(request, plan.pooling, pooled_width(model, plan.pooling))?;
        let items = inputs.read(model, vocabulary, request, self.published.context_tokens(), control)?;
        Ok(self.embed_items(items, request.output, request.urgency)?)
    }

    fn embed_items(
        &self,
        items: Vec<Item>,
        output: EmbedOutput,
        urgency: Urgency,
    ) -> Result<Generation, Error> {
        let (events, generation) = Generation::channel_for_inputs(items.len());
        let ticket = EmbedTicket { items, output, urgency, arrived: Instant::now(), events };
        self.send(Command::Embed(Box::new(ticket)))?;
        Ok(generation)
    }

    fn start_probe(&self) -> Result<Generation, Error> {
        if !self.plan.generates() {
            let item = Item { index: 0, tokens: vec![PROBE_TOKEN], was_cut: false };
            return self.embed_items(vec![item], EmbedOutput::Score, Urgency::Interactive);
        }
        let (events, generation) = Generation::channel(1);
        self.send(Command::Generate(Box::new(Ticket {
            prompt: vec![PROBE_TOKEN],
            sampling: Sampling::greedy(),
            max_tokens: 1,
            stop: Vec::new(),
            logprobs: None,
            ignore_eos: false,
            reuse_prefix: false,
            scope: Scope::default(),
            adapters: AdapterSet::default(),
            is_probe: true,
            arrived: Instant::now(),
            events,
        })))?;
        Ok(generation)
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

/// Tokens that may be generated after a prompt.
fn answer_tokens(prompt: usize, wanted: Option<u32>, context: u32) -> Result<u32, Error> {
    if prompt == 0 {
        return Err(Error::EmptyPrompt);
    }
    let rest = u32::try_from(prompt).ok().and_then(|prompt| context.checked_sub(prompt));
    match rest {
        None | Some(0) => Err(Error::PromptTooLong { prompt, context }),
        Some(rest) => Ok(wanted.map_or(rest, |wanted| wanted.min(rest))),
    }
}

impl Instance for LlamaInstance {
    fn generate(&self, request: GenerationRequest) -> Result<Generation, Failure> {
        self.start(request)
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
        Ok(answer.recv().map_err(|_| Error::Gone)??)
    }

    fn resume(&self, options: &LoadOptions) -> Result<(), Failure> {
        let plan = self.plan.resized(options)?;
        Ok(self.ask(|reply| Command::Resume(plan, reply))?)
    }

    fn arrangement(&self) -> Arrangement {
        self.arrangement.clone()
    }

    fn measure(&self) -> Measurement {
        self.published.measurement()
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
        drop(self.model.take());
        crate::native::give_back_memory();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_fills_what_the_prompt_leaves() {
        assert_eq!(answer_tokens(10, None, 100), Ok(90));
        assert_eq!(answer_tokens(10, Some(5), 100), Ok(5));
        assert_eq!(answer_tokens(10, Some(500), 100), Ok(90));
        assert_eq!(answer_tokens(99, None, 100), Ok(1));
        assert_eq!(answer_tokens(10, Some(0), 100), Ok(0));
    }

    #[test]
    fn prompts_that_leave_no_room_are_refused() {
        assert_eq!(answer_tokens(0, None, 100), Err(Error::EmptyPrompt));
        assert_eq!(answer_tokens(100, None, 100), Err(Error::PromptTooLong { prompt: 100, context: 100 }));
        assert!(answer_tokens(5_000_000_000, None, 100).is_err());
    }
}
