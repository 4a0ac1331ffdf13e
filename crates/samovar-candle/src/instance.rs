//! The handle of one loaded model: checks requests and passes them to the thread that owns it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::thread::{Builder, JoinHandle};
use std::time::Instant;

use candle_core::{DType, Device};
use samovar_convert::PublishedModel;
use samovar_core::embedding::EmbedRequest;
use samovar_core::footprint::{KvType, Measurement};
use samovar_core::generation::Generation;
use samovar_core::port::{Instance, LoadRequest, PromptControl, Unconfined};
use samovar_core::{
    Chat, Cores, ErrorKind, Failure, GenerationRequest, Layout, LoadOptions, Pooling, Prompt,
};

use crate::config::Family;
use crate::decoder::Decoder;
use crate::embedding::{self, EmbedTicket};
use crate::encoder::Encoder;
use crate::error::Error;
use crate::figures::Figures;
use crate::footprint;
use crate::prompts::Prompts;
use crate::slot::Ticket;
use crate::thread::{Command, Computer, ContextSize, Network, Reply, WAITING};
use crate::vocabulary::Vocabulary;
use crate::weights::WeightReader;

/// Commands on their way to the thread.
const COMMANDS: usize = WAITING;

/// One model loaded by candle. Dropping it unloads the model and joins its thread, which finishes the step that runs.
#[derive(Debug)]
pub(crate) struct CandleInstance {
    architecture: String,
    prompts: Prompts,
    /// How vectors are made, how many numbers they have, and how many types tokens have; `None` = none are made.
    vectors: Option<(Pooling, usize, u64)>,
    figures: Arc<Figures>,
    commands: Option<SyncSender<Command>>,
    thread: Option<JoinHandle<()>>,
}

impl CandleInstance {
    pub(crate) fn load(request: LoadRequest<'_>, device: &Device, dtype: DType) -> Result<Self, Failure> {
        let LoadRequest { files, descriptor, options, control, .. } = request;
        let size = context_size(options)?;
        control.report(0.0);
        let model = PublishedModel::of_files(files)?;
        let family = Family::of(&model)?;
        let reader = WeightReader::new(&model, device, dtype, control);
        let (network, rows) = match family {
            Family::Decoder(config) => {
                let rows = config.sides.vocabulary;
                (Network::Decoder(Box::new(Decoder::read(config, &reader, dtype, device)?)), rows)
            }
            Family::Encoder(config) => {
                let (rows, most) = (config.sides.vocabulary, config.sides.context);
                if size.context_tokens as u64 > most {
                    let detail =
                        format!("it reads {most} tokens at once, and {} were asked for", size.context_tokens);
                    return Err(Error::Options { detail }.into());
                }
                (Network::Encoder(Box::new(Encoder::read(config, &reader, device)?)), rows)
            }
        };
        let vocabulary = Arc::new(Vocabulary::read(&model, rows)?);
        let prompts = Prompts::new(Arc::clone(&vocabulary), descriptor);
        let pooling = footprint::pooling_of(descriptor, options);
        let vectors = match &network {
            Network::Decoder(_) => None,
            Network::Encoder(encoder) => Some((pooling, encoder.width(pooling), encoder.config().types)),
        };
        let figures = Arc::<Figures>::default();
        let fixed_bytes = reader.held_bytes() + footprint::vocabulary_bytes(rows);
        let threads = options.threads.max(1);
        let (own, known) = (Arc::clone(&figures), descriptor.clone());
        let mut computer = Computer::new(network, vocabulary, pooling, own, known, fixed_bytes, threads)?;
        computer.resume(size)?;
        let (commands, receiver) = sync_channel(COMMANDS);
        let obituary = control.obituary();
        let life = move || {
            if catch_unwind(AssertUnwindSafe(|| computer.run(&receiver))).is_err() {
                obituary(
                    Failure::new(ErrorKind::EngineFailed, "candle panicked")
                        .with_hint("the model is loaded again with the next request"),
                );
            }
        };
        let thread = Builder::new().name("candle".to_owned()).spawn(life);
        let thread = thread.map_err(|error| Error::Thread { detail: error.to_string() })?;
        control.report(1.0);
        Ok(Self {
            architecture: descriptor.architecture.clone(),
            prompts,
            vectors,
            figures,
            commands: Some(commands),
            thread: Some(thread),
        })
    }

    fn send(&self, command: Command) -> Result<(), Error> {
        let commands = self.commands.as_ref().ok_or(Error::Gone)?;
        commands.try_send(command).map_err(|error| match error {
            TrySendError::Full(_) => Error::TooManyWaiting { waiting: COMMANDS },
            TrySendError::Disconnected(_) => Error::Gone,
        })
    }

    /// Asks the thread and waits for its answer.
    fn ask(&self, question: impl FnOnce(Reply) -> Command) -> Result<(), Error> {
        let (reply, answer) = sync_channel(1);
        self.send(question(reply))?;
        answer.recv().map_err(|_| Error::Gone)?
    }

    fn check_generates(&self) -> Result<(), Error> {
        if self.vectors.is_some() {
            return Err(Error::NotGenerative { architecture: self.architecture.clone() });
        }
        Ok(())
    }

    fn check_writes(&self) -> Result<(), Error> {
        self.check_generates()?;
        if self.figures.is_parked() { Err(Error::Parked) } else { Ok(()) }
    }

    fn start(&self, request: GenerationRequest, control: &dyn PromptControl) -> Result<Generation, Failure> {
        self.check_writes()?;
        if request.constraint.is_some() {
            return Err(Error::Lacks {
                what: "cannot bind an answer to a schema or a grammar",
                param: "response_format",
                hint: "ask without response_format, or set engine = \"llama\" in the model's settings",
            }
            .into());
        }
        if !request.adapters.is_empty() {
            return Err(Error::Lacks {
                what: "attaches no adapters",
                param: "model",
                hint: "take `adapters` out of the model's settings, or set engine = \"llama\" there",
            }
            .into());
        }
        let context = self.figures.context_tokens();
        let read = self.prompts.prompt(&request.prompt, context, request.thinking_budget_tokens, control)?;
        let max_tokens = answer_tokens(read.tokens.len(), request.max_tokens, context)?;
        let (events, generation) = Generation::channel(max_tokens);
        self.send(Command::Generate(Box::new(Ticket {
            prompt: read.tokens,
            sampling: request.sampling,
            max_tokens,
            stop: request.stop,
            reading: read.reading.map(Box::new),
            logprobs: request.logprobs,
            ignore_eos: request.ignore_eos,
            reuse_prefix: request.reuse_prefix,
            scope: request.scope,
            arrived: Instant::now(),
            events,
        })))?;
        Ok(generation)
    }
}

/// What a load of these options has; what this engine lacks is refused.
fn context_size(options: &LoadOptions) -> Result<ContextSize, Error> {
    let refuse = |detail: &str| Err(Error::Options { detail: detail.to_owned() });
    if options.draft.is_some() {
        return refuse("it takes no draft model");
    }
    if options.kv_type != KvType::F16 {
        return refuse("its KV cache has one number format; leave `kv_type` out");
    }
    if options.layout != Layout::Mapped {
        return refuse("its weights have no layouts; leave `layout` out");
    }
    if options.context_tokens == 0 {
        return refuse("a context of 0 tokens holds nothing");
    }
    Ok(ContextSize { slots: options.slots.max(1) as usize, context_tokens: options.context_tokens as usize })
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

impl Instance for CandleInstance {
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
        let (pooling, width, types) = self.vectors.ok_or(Error::NoVectors)?;
        embedding::check(&request, pooling, width)?;
        let limit = self.figures.context_tokens();
        let items = embedding::read(self.prompts.vocabulary(), &request, limit, types, control)?;
        let (events, generation) = Generation::channel_for_inputs(items.len());
        self.send(Command::Embed(Box::new(EmbedTicket {
            prompt_tokens: items.iter().map(|item| item.tokens.len() as u32).sum(),
            items,
            output: request.output,
            urgency: request.urgency,
            arrived: Instant::now(),
            events,
        })))?;
        Ok(generation)
    }

    fn tokenize(&self, text: &str, add_special: bool, parse_special: bool) -> Result<Vec<u32>, Failure> {
        let prompt = Prompt::Text { text: text.to_owned(), add_special, parse_special };
        self.prompts.tokens(&prompt, self.figures.context_tokens(), None, &Unconfined)
    }

    fn encode(&self, prompt: &Prompt, control: &dyn PromptControl) -> Result<Vec<u32>, Failure> {
        self.check_writes()?;
        let context = self.figures.context_tokens();
        let tokens = self.prompts.tokens(prompt, context, Some(context), control)?;
        answer_tokens(tokens.len(), None, context)?;
        Ok(tokens)
    }

    fn render(&self, chat: &Chat, control: &dyn PromptControl) -> Result<String, Failure> {
        self.check_generates()?;
        self.prompts.render(chat, self.figures.context_tokens(), control)
    }

    fn count(&self, prompt: &Prompt, control: &dyn PromptControl) -> Result<u32, Failure> {
        self.check_generates()?;
        Ok(self.prompts.tokens(prompt, self.figures.context_tokens(), None, control)?.len() as u32)
    }

    fn detokenize(&self, tokens: &[u32]) -> Result<Vec<u8>, Failure> {
        let vocabulary = self.prompts.vocabulary();
        vocabulary.check(tokens)?;
        Ok(tokens.iter().flat_map(|token| vocabulary.bytes(*token, false)).copied().collect())
    }

    fn park(&self) -> Result<(), Failure> {
        if self.vectors.is_some() {
            return Err(Error::Options { detail: "there is nothing of it to park".to_owned() }.into());
        }
        Ok(self.ask(Command::Park)?)
    }

    fn resume(&self, options: &LoadOptions) -> Result<(), Failure> {
        let size = context_size(options)?;
        if self.vectors.is_some() {
            return Ok(());
        }
        Ok(self.ask(|reply| Command::Resume(size, reply))?)
    }

    fn measure(&self) -> Measurement {
        self.figures.measurement()
    }

    fn share_cores(&self, cores: Cores) {
        self.figures.share.store(cores.share.max(1), Ordering::Relaxed);
    }

    fn probe(&self) -> Result<(), Failure> {
        Ok(self.ask(Command::Probe)?)
    }
}

impl Drop for CandleInstance {
    fn drop(&mut self) {
        drop(self.commands.take());
        if let Some(thread) = self.thread.take() {
            // A panic there has been reported already.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_fills_what_the_prompt_leaves() {
        assert_eq!(answer_tokens(10, None, 100).unwrap(), 90);
        assert_eq!(answer_tokens(10, Some(5), 100).unwrap(), 5);
        assert_eq!(answer_tokens(99, None, 100).unwrap(), 1);
        assert!(matches!(answer_tokens(0, None, 100), Err(Error::EmptyPrompt)));
        assert!(matches!(
            answer_tokens(100, None, 100),
            Err(Error::PromptTooLong { prompt: 100, context: 100 })
        ));
    }
}
