//! Takes requests to the engine, which prepares prompts, inputs and grammars here, on a few threads, so that the main thread
//! is free to hear a cancellation, and a slow prompt or grammar holds up no short prompt.
//!
//! ```text
//!   main thread ─┬─► short prompts ──► two threads ─┬─► the engine: render, tokenize, compile ──► forwarder
//!                ├─► long prompts  ──► one thread  ─┤
//!                └─► with grammars ──► two threads ─┘
//! ```
//!
//! It never waits for an answer, and looks between pieces of its work whether the caller still does.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;

use samovar_core::embedding::{EmbedInput, EmbedRequest};
use samovar_core::generation::{Generation, GenerationRequest, Prompt};
use samovar_core::port::PromptControl;
use samovar_core::{ErrorKind, Failure};

use super::fence::{Fence, Waiting};
use super::forwarder::EventForwarder;
use super::frame_writer::FrameWriter;
use super::instance_cell::InstanceCell;
use super::{lock, thread};
use crate::protocol::{Answer, Operation, Reply};

/// Jobs that wait in one lane; more are refused, so that the main thread never waits.
const JOBS: usize = 1024;
/// A prompt of so many bytes takes milliseconds, and waits with its like.
const LONG_BYTES: usize = 64 << 10;
const THREADS_FOR_SHORT: usize = 2;
const THREADS_FOR_LONG: usize = 1;
/// A grammar may take seconds to compile.
const THREADS_FOR_BOUND: usize = 2;

enum Job {
    Generate(u64, Box<GenerationRequest>),
    Embed(u64, Box<EmbedRequest>),
    Operate(u64, Operation),
}

impl Job {
    const fn id(&self) -> u64 {
        match self {
            Self::Generate(id, _) | Self::Embed(id, _) | Self::Operate(id, _) => *id,
        }
    }

    /// Whether its answer may be bound by a grammar.
    fn is_bound(&self) -> bool {
        let Self::Generate(_, request) = self else { return false };
        request.constraint.is_some() || matches!(&request.prompt, Prompt::Chat(chat) if chat.tools.is_some())
    }

    fn is_long(&self) -> bool {
        let bytes = match self {
            Self::Generate(_, request) => bytes(&request.prompt),
            Self::Embed(_, request) => request.inputs.iter().map(text_bytes).sum(),
            Self::Operate(_, Operation::Encode { prompt } | Operation::Count { prompt }) => bytes(prompt),
            Self::Operate(_, Operation::Render { chat }) => chat.bytes(),
            Self::Operate(_, Operation::Tokenize { text, .. }) => text.len(),
            Self::Operate(..) => 0,
        };
        bytes >= LONG_BYTES
    }
}

/// What there is to read before a request can begin.
fn bytes(prompt: &Prompt) -> usize {
    match prompt {
        Prompt::Text { text, .. } => text.len(),
        Prompt::Chat(chat) => chat.bytes(),
        Prompt::Infill(infill) => infill.bytes(),
        // They are only compared with the vocabulary.
        Prompt::Tokens(_) => 0,
    }
}

/// The same of an input.
fn text_bytes(input: &EmbedInput) -> usize {
    match input {
        EmbedInput::Text(_) | EmbedInput::Pair { .. } => input.bytes(),
        EmbedInput::Tokens(_) => 0,
    }
}

/// The threads, and what waits for them.
pub(super) struct RequestThread {
    clerk: Arc<Clerk>,
    threads: Vec<JoinHandle<()>>,
}

/// What all threads that take requests share.
struct Clerk {
    short: Lane,
    long: Lane,
    bound: Lane,
    frame_writer: Arc<FrameWriter>,
    forwarder: Arc<EventForwarder>,
    instance_cell: Arc<InstanceCell>,
    fence: Arc<Fence>,
}

/// Jobs of one kind, in the order in which they came.
#[derive(Default)]
struct Lane {
    jobs: Mutex<Jobs>,
    changed: Condvar,
}

#[derive(Default)]
struct Jobs {
    waiting: VecDeque<Job>,
    is_ending: bool,
}

impl RequestThread {
    pub(super) fn start(
        frame_writer: Arc<FrameWriter>,
        forwarder: Arc<EventForwarder>,
        instance_cell: Arc<InstanceCell>,
        fence: Arc<Fence>,
    ) -> Result<Self, Failure> {
        let clerk = Arc::new(Clerk {
            short: Lane::default(),
            long: Lane::default(),
            bound: Lane::default(),
            frame_writer,
            forwarder,
            instance_cell,
            fence,
        });
        let mut threads = Vec::new();
        for number in 0..THREADS_FOR_SHORT + THREADS_FOR_LONG + THREADS_FOR_BOUND {
            let clerk = Arc::clone(&clerk);
            threads.push(thread("requests", move || {
                let lane = if number < THREADS_FOR_SHORT {
                    &clerk.short
                } else if number < THREADS_FOR_SHORT + THREADS_FOR_LONG {
                    &clerk.long
                } else {
                    &clerk.bound
                };
                while let Some(job) = lane.take() {
                    clerk.work(job);
                }
            })?);
        }
        Ok(Self { clerk, threads })
    }

    pub(super) fn generate(&self, id: u64, request: GenerationRequest) {
        self.put(Job::Generate(id, Box::new(request)));
    }

    pub(super) fn embed(&self, id: u64, request: Box<EmbedRequest>) {
        self.put(Job::Embed(id, request));
    }

    pub(super) fn operate(&self, id: u64, operation: Operation) {
        self.put(Job::Operate(id, operation));
    }

    fn put(&self, job: Job) {
        let lane = if job.is_bound() {
            &self.clerk.bound
        } else if job.is_long() {
            &self.clerk.long
        } else {
            &self.clerk.short
        };
        if let Err(job) = lane.put(job) {
            let busy = Failure::new(ErrorKind::Busy, format!("{JOBS} prompts wait for this model already"));
            self.clerk.refuse(&job, busy.with_hint("ask again when some of them have been read"));
        }
    }

    /// Drops what waits, and returns when what was begun is done.
    pub(super) fn end(self) {
        self.clerk.short.end();
        self.clerk.long.end();
        self.clerk.bound.end();
        for thread in self.threads {
            // A panic there has ended the process.
            thread.join().ok();
        }
    }
}

impl Lane {
    fn put(&self, job: Job) -> Result<(), Job> {
        let mut jobs = lock(&self.jobs);
        if jobs.waiting.len() >= JOBS {
            return Err(job);
        }
        jobs.waiting.push_back(job);
        self.changed.notify_one();
        Ok(())
    }

    /// The next job; nothing when there will be none.
    fn take(&self) -> Option<Job> {
        let mut jobs = lock(&self.jobs);
        loop {
            if jobs.is_ending {
                return None;
            }
            if let Some(job) = jobs.waiting.pop_front() {
                return Some(job);
            }
            jobs = self.changed.wait(jobs).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn end(&self) {
        let mut jobs = lock(&self.jobs);
        jobs.is_ending = true;
        jobs.waiting.clear();
        self.changed.notify_all();
    }
}

impl Clerk {
    fn work(&self, job: Job) {
        if !self.forwarder.is_wanted(job.id()) {
            return;
        }
        match job {
            // Of one that is not wanted any more the forwarder knows nothing.
            Job::Generate(id, request) => match self.generate(id, *request) {
                Ok(generation) => self.forwarder.run_request(id, generation),
                Err(failure) => self.forwarder.fail(id, failure),
            },
            Job::Embed(id, request) => match self.embed(id, *request) {
                Ok(generation) => self.forwarder.run_request(id, generation),
                Err(failure) => self.forwarder.fail(id, failure),
            },
            Job::Operate(id, operation) => {
                let answer = self.operate(id, operation);
                self.answer(id, answer);
            }
        }
    }

    /// Prepares the prompt and starts the request. A conversation goes to the engine as it is, because how its answer is read
    /// depends on it; so does what binds an answer, which is compiled here.
    fn generate(&self, id: u64, request: GenerationRequest) -> Result<Generation, Failure> {
        self.instance_cell.get()?.generate_while(request, &self.control(Waiting::Request(id)))
    }

    /// Tokenizes the inputs and starts the request.
    fn embed(&self, id: u64, request: EmbedRequest) -> Result<Generation, Failure> {
        self.instance_cell.get()?.embed(request, &self.control(Waiting::Request(id)))
    }

    fn operate(&self, id: u64, operation: Operation) -> Result<Answer, Failure> {
        let instance = self.instance_cell.get()?;
        match operation {
            Operation::Encode { prompt } => {
                instance.encode(&prompt, &self.control(Waiting::Operation(id))).map(Answer::Tokens)
            }
            Operation::Tokenize { text, add_special, parse_special } => {
                instance.tokenize(&text, add_special, parse_special).map(Answer::Tokens)
            }
            Operation::Detokenize { tokens } => instance.detokenize(&tokens).map(Answer::Bytes),
            Operation::Render { chat } => {
                instance.render(&chat, &self.control(Waiting::Operation(id))).map(Answer::Text)
            }
            Operation::Count { prompt } => {
                instance.count(&prompt, &self.control(Waiting::Operation(id))).map(Answer::Count)
            }
            _ => Err(super::broken("this is no work for the request threads")),
        }
    }

    fn control(&self, waiting: Waiting) -> Control<'_> {
        Control { clerk: self, waiting }
    }

    fn answer(&self, id: u64, answer: Result<Answer, Failure>) {
        self.forwarder.forget(id);
        let answer = answer.map_err(Into::into);
        self.frame_writer.stepped();
        self.frame_writer.say_measured(|measured| Reply::Answer { id, answer, measured });
    }

    fn refuse(&self, job: &Job, failure: Failure) {
        match job {
            Job::Generate(id, _) | Job::Embed(id, _) => self.forwarder.fail(*id, failure),
            Job::Operate(id, _) => self.answer(*id, Err(failure)),
        }
    }
}

/// What an engine asks while it prepares a prompt here.
struct Control<'a> {
    clerk: &'a Clerk,
    waiting: Waiting,
}

impl PromptControl for Control<'_> {
    fn is_wanted(&self) -> bool {
        let (Waiting::Request(id) | Waiting::Operation(id)) = self.waiting;
        self.clerk.forwarder.is_wanted(id)
    }

    fn confine(&self, work: &mut dyn FnMut()) {
        self.clerk.fence.confine(self.waiting, work);
    }
}
