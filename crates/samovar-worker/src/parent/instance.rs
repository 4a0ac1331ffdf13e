//! One loaded model, as the daemon holds it: every call becomes a command, every answer comes from the worker.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::sync::{Arc, Weak};
use std::time::Duration;

use samovar_core::embedding::EmbedRequest;
use samovar_core::footprint::{Arrangement, LoadOptions, Measurement};
use samovar_core::generation::{CachedPrefix, Generation, GenerationRequest, Prompt};
use samovar_core::port::{Instance, PromptControl, Unconfined};
use samovar_core::{Chat, Cores, ThreadUse};
use samovar_core::{ErrorKind, Failure, Scope};

use super::adapters::{Adapters, Sent};
use super::answer_reader::Inputs;
use super::sharing::Sharing;
use super::worker::{Shared, Worker};
use crate::protocol::{ALTERNATIVES, Answer, Command, Operation, Request};

/// Between two looks whether an answer is still wanted.
const LOOK: Duration = Duration::from_millis(50);
/// Bytes of all stop strings of a request. The worker withholds at most so much text, which then fits into one event.
const STOP_BYTES: usize = 64 << 10;

/// A model in a worker. Dropping it ends the worker and returns when it is gone.
#[derive(Debug)]
pub(super) struct WorkerInstance {
    worker: Worker,
    adapters: Arc<Adapters>,
    sharing: Arc<Sharing>,
    sent: Arc<Sent>,
    arrangement: Arrangement,
    /// What the worker may be expected to hold with such options.
    predict: Predict,
    /// Of a step at most.
    threads: u32,
    context_tokens: AtomicU32,
    is_parked: AtomicBool,
}

struct Predict(Box<dyn Fn(&LoadOptions) -> u64 + Send + Sync>);

impl std::fmt::Debug for Predict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Predict")
    }
}

impl WorkerInstance {
    pub(super) fn new(
        worker: Worker,
        options: &LoadOptions,
        arrangement: Arrangement,
        adapters: Arc<Adapters>,
        sharing: Arc<Sharing>,
        predict: impl Fn(&LoadOptions) -> u64 + Send + Sync + 'static,
    ) -> Self {
        Self {
            worker,
            adapters,
            sharing,
            threads: options.threads,
            arrangement,
            predict: Predict(Box::new(predict)),
            sent: Arc::default(),
            context_tokens: AtomicU32::new(options.context_tokens),
            is_parked: AtomicBool::new(false),
        }
    }

    fn check_ready(&self) -> Result<(), Failure> {
        if self.is_parked.load(Ordering::Acquire) {
            return Err(Failure::new(ErrorKind::Unavailable, "the instance is parked"));
        }
        Ok(())
    }

    /// Asks the worker for something and waits for its answer.
    fn operate(&self, operation: Operation, files: Vec<OwnedFd>) -> Result<Answer, Failure> {
        self.operate_while(operation, files, &Unconfined)
    }

    /// The same, unless the answer is no longer wanted: then the worker hears so.
    fn operate_while(
        &self,
        operation: Operation,
        files: Vec<OwnedFd>,
        control: &dyn PromptControl,
    ) -> Result<Answer, Failure> {
        let shared = self.worker.shared();
        let (reply, answer) = sync_channel(1);
        let id = shared.pending_calls.enter_operation(reply)?;
        if let Err(failure) = self.worker.tell(&Command::Operate { id, operation }, files) {
            shared.pending_calls.remove(id);
            return Err(failure);
        }
        loop {
            match answer.recv_timeout(LOOK) {
                Ok(answer) => return answer,
                Err(RecvTimeoutError::Disconnected) => return Err(self.worker.ended()),
                Err(RecvTimeoutError::Timeout) if control.is_wanted() => {}
                Err(RecvTimeoutError::Timeout) => {
                    if shared.pending_calls.remove(id) {
                        shared.tell(&Command::Cancel { id }, Vec::new()).ok();
                    }
                    return Err(Failure::new(
                        ErrorKind::Cancelled,
                        "the request for this prompt was cancelled",
                    ));
                }
            }
        }
    }

    fn done(&self, operation: Operation, files: Vec<OwnedFd>) -> Result<(), Failure> {
        match self.operate(operation, files)? {
            Answer::Done => Ok(()),
            _ => Err(strange()),
        }
    }
}

#[deny(clippy::missing_trait_methods)]
impl Instance for WorkerInstance {
    fn generate(&self, request: GenerationRequest) -> Result<Generation, Failure> {
        self.check_ready()?;
        check(&request)?;
        let context = self.context_tokens.load(Ordering::Relaxed);
        let most = request.max_tokens.unwrap_or(context).min(context);
        let (events, generation) = Generation::channel(most);
        let shared = self.worker.shared();
        let id = shared.pending_calls.enter_generation(events)?;
        let generation = generation.on_drop(cancel(Arc::downgrade(shared), id));
        // Before the request itself, so that its first step has its share already, and the steps of others have theirs.
        self.sharing.stir();
        if self.sent.has_all(&self.adapters, &request.adapters) {
            begin(shared, &self.adapters, &self.sent, id, request)?;
        } else {
            // Reading an adapter's file takes its time, and this call has none.
            let (shared, adapters, sent) =
                (Arc::clone(shared), Arc::clone(&self.adapters), Arc::clone(&self.sent));
            let begin = move || {
                if let Err(failure) = begin(&shared, &adapters, &sent, id, request) {
                    shared.pending_calls.fail(id, failure);
                }
            };
            std::thread::Builder::new().name("adapter".to_owned()).spawn(begin).map_err(|error| {
                Failure::new(ErrorKind::EngineFailed, format!("no thread to read an adapter: {error}"))
                    .with_hint("the system may be out of threads or memory")
            })?;
        }
        Ok(generation)
    }

    /// Nothing is done for a request here before it is on its way.
    fn generate_while(
        &self,
        request: GenerationRequest,
        _control: &dyn PromptControl,
    ) -> Result<Generation, Failure> {
        self.generate(request)
    }

    /// Nothing is tokenized here, so the only event may be a refusal.
    fn embed(&self, request: EmbedRequest, _control: &dyn PromptControl) -> Result<Generation, Failure> {
        self.check_ready()?;
        request.check_inputs()?;
        let (events, generation) = Generation::channel_for_inputs(request.inputs.len());
        let inputs = Inputs::new(&request, self.context_tokens.load(Ordering::Relaxed));
        let shared = self.worker.shared();
        let id = shared.pending_calls.enter_embeddings(events, inputs)?;
        let generation = generation.on_drop(cancel(Arc::downgrade(shared), id));
        self.sharing.stir();
        shared.tell(&Command::Embed { id, request: Box::new(request) }, Vec::new())?;
        Ok(generation)
    }

    fn tokenize(&self, text: &str, add_special: bool, parse_special: bool) -> Result<Vec<u32>, Failure> {
        let operation = Operation::Tokenize { text: text.to_owned(), add_special, parse_special };
        match self.operate(operation, Vec::new())? {
            Answer::Tokens(tokens) => Ok(tokens),
            _ => Err(strange()),
        }
    }

    fn encode(&self, prompt: &Prompt, control: &dyn PromptControl) -> Result<Vec<u32>, Failure> {
        match self.operate_while(Operation::Encode { prompt: prompt.clone() }, Vec::new(), control)? {
            Answer::Tokens(tokens) => Ok(tokens),
            _ => Err(strange()),
        }
    }

    fn render(&self, chat: &Chat, control: &dyn PromptControl) -> Result<String, Failure> {
        match self.operate_while(Operation::Render { chat: Box::new(chat.clone()) }, Vec::new(), control)? {
            Answer::Text(text) => Ok(text),
            _ => Err(strange()),
        }
    }

    fn count(&self, prompt: &Prompt, control: &dyn PromptControl) -> Result<u32, Failure> {
        match self.operate_while(Operation::Count { prompt: prompt.clone() }, Vec::new(), control)? {
            Answer::Count(tokens) => Ok(tokens),
            _ => Err(strange()),
        }
    }

    fn detokenize(&self, tokens: &[u32]) -> Result<Vec<u8>, Failure> {
        match self.operate(Operation::Detokenize { tokens: tokens.to_vec() }, Vec::new())? {
            Answer::Bytes(bytes) => Ok(bytes),
            _ => Err(strange()),
        }
    }

    fn park(&self) -> Result<(), Failure> {
        self.done(Operation::Park, Vec::new())?;
        self.is_parked.store(true, Ordering::Release);
        Ok(())
    }

    fn resume(&self, options: &LoadOptions) -> Result<(), Failure> {
        self.worker.shared().expected.hold((self.predict.0)(options));
        self.done(Operation::Resume { options: options.clone() }, Vec::new())?;
        self.context_tokens.store(options.context_tokens, Ordering::Relaxed);
        self.is_parked.store(false, Ordering::Release);
        Ok(())
    }

    fn arrangement(&self) -> Arrangement {
        self.arrangement.clone()
    }

    fn measure(&self) -> Measurement {
        let measured = self.worker.shared().published.get();
        let threads = measured.threads;
        let [used, most] = [threads.used, threads.most].map(|threads| threads.min(self.threads));
        let threads = ThreadUse { used, most, ..threads };
        Measurement { threads, ..measured }
    }

    /// Which cores a worker has is the business of [`Sharing`], which knows all workers.
    fn share_cores(&self, _cores: Cores) {}

    fn probe(&self) -> Result<(), Failure> {
        self.done(Operation::Probe, Vec::new())
    }

    fn prefixes(&self) -> Result<Vec<CachedPrefix>, Failure> {
        match self.operate(Operation::Prefixes, Vec::new())? {
            Answer::Prefixes(prefixes) => Ok(prefixes),
            _ => Err(strange()),
        }
    }

    fn save_prefix(&self, prefix: &CachedPrefix, into: &File) -> Result<u64, Failure> {
        let operation = Operation::SavePrefix { prefix: prefix.clone() };
        match self.operate(operation, vec![another(into)?])? {
            Answer::Size(bytes) => Ok(bytes),
            _ => Err(strange()),
        }
    }

    fn restore_prefix(&self, tokens: &[u32], scope: Scope, from: &File) -> Result<(), Failure> {
        self.done(Operation::RestorePrefix { tokens: tokens.to_vec(), scope }, vec![another(from)?])
    }
}

/// Refuses a request whose answer would break the bounds of the protocol, because the parent ends such a worker.
fn check(request: &GenerationRequest) -> Result<(), Failure> {
    if let Some(alternatives) = request.logprobs.filter(|alternatives| *alternatives as usize > ALTERNATIVES)
    {
        let message =
            format!("{alternatives} alternatives to each token are too many: {ALTERNATIVES} are allowed");
        return Err(Failure::new(ErrorKind::InvalidRequest, message)
            .with_param("logprobs")
            .with_hint("ask for fewer"));
    }
    let stop_bytes: usize = request.stop.iter().map(String::len).sum();
    if stop_bytes > STOP_BYTES {
        let message = format!("the stop strings have {stop_bytes} bytes: {STOP_BYTES} are allowed");
        return Err(Failure::new(ErrorKind::InvalidRequest, message)
            .with_param("stop")
            .with_hint("send fewer or shorter stop strings"));
    }
    Ok(())
}

/// Sends a request, and before it the adapters that the worker has not seen.
fn begin(
    shared: &Shared,
    adapters: &Adapters,
    sent: &Sent,
    id: u64,
    request: GenerationRequest,
) -> Result<(), Failure> {
    let tell = |command, files| shared.tell(&command, files);
    let numbers = sent.send_missing(adapters, &request.adapters, (&shared.pending_calls, id), tell)?;
    // Before it reads them.
    shared.expected.hold_adapters(sent.bytes());
    let request = Box::new(Request::new(request, &numbers));
    shared.tell(&Command::Generate { id, request }, Vec::new())?;
    // A caller that left before this was sent has told the worker to stop before it began.
    if !shared.pending_calls.has(id) {
        shared.tell(&Command::Cancel { id }, Vec::new()).ok();
    }
    Ok(())
}

/// Tells the worker that no caller waits for a request any more, unless that is over.
fn cancel(shared: Weak<Shared>, id: u64) -> impl FnOnce() + Send + 'static {
    move || {
        if let Some(shared) = shared.upgrade()
            && shared.pending_calls.remove(id)
        {
            shared.tell(&Command::Cancel { id }, Vec::new()).ok();
        }
    }
}

pub(super) fn another(file: &File) -> Result<OwnedFd, Failure> {
    let file = file.try_clone().map_err(|error| {
        Failure::new(ErrorKind::Storage, format!("a file could not be handed to the worker: {error}"))
            .with_hint("the daemon may be out of descriptors (ulimit -n)")
    })?;
    Ok(file.into())
}

pub(super) fn strange() -> Failure {
    Failure::new(ErrorKind::Internal, "the worker answered something else than was asked")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{Inbox, decode, pair, receive};

    /// The commands that were sent to the other end, all of which has been sent.
    fn commands(theirs: &OwnedFd) -> Vec<Command> {
        let (mut inbox, mut commands) = (Inbox::default(), Vec::new());
        loop {
            let mut buffer = [0; 4096];
            match receive(theirs, &mut buffer).unwrap().bytes {
                0 => return commands,
                bytes => inbox.put(&buffer[..bytes]),
            }
            while let Some(frame) = inbox.take().unwrap() {
                commands.push(decode(frame).unwrap());
            }
        }
    }

    #[test]
    fn a_cancellation_never_overtakes_its_request() {
        let (ours, theirs) = pair().unwrap();
        let shared = Arc::new(Shared::new(1, "served", Arc::new(ours)).unwrap());
        let (events, generation) = Generation::channel(4);
        let id = shared.pending_calls.enter_generation(events).unwrap();
        let generation = generation.on_drop(cancel(Arc::downgrade(&shared), id));
        // Its client leaves while an adapter is still being read; only then is the request sent.
        drop(generation);
        let request = GenerationRequest::new(Prompt::Tokens(vec![1]));
        begin(&shared, &Adapters::default(), &Sent::default(), id, request).unwrap();
        drop(shared);
        let sent = commands(&theirs);
        assert!(
            matches!(
                &sent[..],
                [Command::Cancel { .. }, Command::Generate { .. }, Command::Cancel { id: 1 }]
            ),
            "{sent:?}"
        );
    }
}
