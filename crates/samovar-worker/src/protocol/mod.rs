//! The whole conversation between the daemon and a worker: what each may say, and how that lies on the wire.
//!
//! ```text
//!   parent                                   child
//!     Hello ─────────────────────────────►          versions must be equal, or both stop
//!           ◄───────────────────────────── Hello
//!     Begin(job) (+ file) ────────────►             one job per worker: load, prepare, pack or calibrate
//!           ◄──────────── Progress … JobOutput | Failed
//!     Generate, Embed, Cancel ───────────►          from here on what a loaded model does
//!           ◄───────────────────────────── Events  (of all requests; many in one frame when they come so)
//!     Cores ─────────────────────────────►          its share, while others compute on the same cores
//!     GiveWay ───────────────────────────►          to a worker that packs or measures: others answer, or do no more
//!     Park, Resume, Probe, … (+ files) ──►
//!           ◄───────────────────────────── Answer
//!           ◄───────────────────────────── Heartbeat  (every second, at rest less often, from a thread of its own)
//!     Shutdown ──────────────────────────►          the child ends; so it does when the socket closes
//! ```
//!
//! A frame is its length (four bytes, little-endian) and that many bytes of postcard. Nothing is ever read past a
//! limit, and nothing here believes what the other side says about sizes.

mod bounded;
mod frame;
mod hello;
mod socket;
mod wire;

pub(crate) use bounded::{ALTERNATIVES, FRAME_BYTES, FRAME_EVENTS, parts};
pub(crate) use frame::{FrameError, Inbox, decode, encode};
pub(crate) use hello::Hello;
pub(crate) use socket::{pair, receive, send_now};

use samovar_core::Chat;
use samovar_core::cores::Cores;
use samovar_core::embedding::EmbedRequest;
use samovar_core::footprint::{Arrangement, LoadOptions, Measurement, Speed};
use samovar_core::generation::{CachedPrefix, Prompt};
use samovar_core::model::{Descriptor, FileRole, Quantization};
use samovar_core::port::EngineId;
use samovar_core::scope::Scope;
use serde::{Deserialize, Serialize};

pub(crate) use wire::{Event, Request};

use crate::sandbox;

/// Changes whenever anything in this folder does.
pub(crate) const PROTOCOL: u32 = 12;

/// What the parent says.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Command {
    /// The first command, and only once. Comes with one descriptor when it packs: the file to write.
    Begin(Box<WorkerJob>),
    /// Adapters that the request names were sent before.
    Generate { id: u64, request: Box<Request> },
    /// Vectors or scores of these inputs.
    Embed { id: u64, request: Box<EmbedRequest> },
    /// Ends a request; nothing more is said about it.
    Cancel { id: u64 },
    /// Comes with one descriptor: an adapter's file, from now on known by its number.
    Adapter { number: u64 },
    /// These adapters mean nothing any more; no request that still runs names one of them.
    ForgetAdapters { numbers: Vec<u64> },
    /// From its next step on it may have these; said whenever that changes while it has requests.
    Cores(Cores),
    /// Wants one `Answer`.
    Operate { id: u64, operation: Operation },
    /// Unload and end.
    Shutdown,
    /// Whether models answer on the same cores: who packs or measures rests between its steps while they do.
    GiveWay(bool),
}

/// What takes long, or is asked for its answer.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Operation {
    /// A conversation is rendered and tokenized.
    Encode {
        prompt: Prompt,
    },
    Tokenize {
        text: String,
        add_special: bool,
        parse_special: bool,
    },
    Detokenize {
        tokens: Vec<u32>,
    },
    /// A conversation is rendered.
    Render {
        chat: Box<Chat>,
    },
    /// The tokens of a prompt are counted.
    Count {
        prompt: Prompt,
    },
    Park,
    Resume {
        options: LoadOptions,
    },
    Probe,
    Prefixes,
    /// Comes with one descriptor: the file to write.
    SavePrefix {
        prefix: CachedPrefix,
    },
    /// Comes with one descriptor: the file to read.
    RestorePrefix {
        tokens: Vec<u32>,
        scope: Scope,
    },
}

impl Command {
    /// How many descriptors come with it.
    pub(crate) fn descriptors(&self) -> usize {
        match self {
            Self::Begin(worker_job) => worker_job.task.descriptors(),
            Self::Adapter { .. }
            | Self::Operate {
                operation: Operation::SavePrefix { .. } | Operation::RestorePrefix { .. },
                ..
            } => 1,
            _ => 0,
        }
    }
}

/// What a worker is there for.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct WorkerJob {
    pub(crate) task: Task,
    /// The engine that the child is to make.
    pub(crate) engine: EngineId,
    /// Paths of the files that it may read; not every path is UTF-8.
    pub(crate) files: Vec<(FileRole, Vec<u8>)>,
    pub(crate) packed: Option<Packed>,
    /// What is known of the model; nothing of one that is to be prepared, and of an adapter what is known of its model.
    pub(crate) descriptor: Option<Descriptor>,
    pub(crate) sandbox: sandbox::Mode,
    /// Of memory of its own.
    pub(crate) memory_limit_bytes: Option<u64>,
    /// Of a file that it writes.
    pub(crate) written_limit_bytes: u64,
    /// Between two heartbeats.
    pub(crate) heartbeat_ms: u64,
    /// The same while it has nothing to do.
    pub(crate) rest_heartbeat_ms: u64,
}

/// The packed file beside a model.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Packed {
    pub(crate) path: Vec<u8>,
    /// What it must be of.
    pub(crate) source: String,
}

/// What is to be done with a model.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Task {
    Load { options: LoadOptions },
    Pack { source: String, is_in_background: bool },
    Calibrate { options: LoadOptions },
    Prepare(Preparation),
}

/// A published model that is to be prepared. Paths are not always UTF-8.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Preparation {
    /// The folder with its files.
    pub(crate) folder: Vec<u8>,
    /// What is written. The worker may make further files next to it.
    pub(crate) target: Vec<u8>,
    pub(crate) quantization: Quantization,
}

impl Task {
    const fn descriptors(&self) -> usize {
        matches!(self, Self::Pack { .. }) as usize
    }

    /// Whether no caller waits for it, and it should yield to everything else.
    pub(crate) const fn is_in_background(&self) -> bool {
        matches!(self, Self::Pack { is_in_background: true, .. })
    }

    /// Whether it rests between its steps while models answer on the same cores. A caller that waits for a load waits for an
    /// answer.
    pub(crate) const fn is_to_give_way(&self) -> bool {
        matches!(self, Self::Pack { .. } | Self::Calibrate { .. })
    }

    /// What it does, in words that follow "while it".
    pub(crate) const fn activity(&self) -> &'static str {
        match self {
            Self::Load { .. } => "loaded the model",
            Self::Pack { .. } => "packed the model's weights",
            Self::Calibrate { .. } => "measured how fast the model is",
            Self::Prepare(_) => "prepared the model",
        }
    }
}

/// What a job came to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum JobOutput {
    /// The model is loaded, this way, and serves from now on.
    Loaded(Arrangement),
    /// So many bytes were written.
    Packed(u64),
    Calibrated(#[serde(deserialize_with = "bounded::speeds")] Vec<Speed>),
    /// So many bytes were written.
    Prepared(u64),
}

/// What the child says. What it uses goes along, so that numbers and events never contradict each other.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Reply {
    /// The part of the job that is done (0..=1).
    Progress(f32),
    /// The job is done.
    JobOutput { job_output: JobOutput, measured: Measurement, sandbox: sandbox::Report },
    /// It cannot be done.
    Failed(wire::Failure),
    /// What requests have to say, in order.
    Events {
        #[serde(deserialize_with = "bounded::events")]
        events: Vec<(u64, Event)>,
        measured: Measurement,
    },
    /// To an `Operate` of this id.
    Answer { id: u64, answer: Result<Answer, wire::Failure>, measured: Measurement },
    /// It lives.
    Heartbeat(Heartbeat),
}

impl Reply {
    /// Refuses texts that are longer than anything of their kind.
    fn check(&self) -> Result<(), FrameError> {
        match self {
            Self::JobOutput { job_output, sandbox, .. } => {
                if let JobOutput::Loaded(Arrangement { refused: Some(why), .. }) = job_output {
                    bounded::sentence("why a packed file is not used", why)?;
                }
                sandbox.parts.iter().try_for_each(|(_, outcome)| {
                    let (sandbox::PartStatus::Reached(how) | sandbox::PartStatus::Missing(how)) = outcome;
                    bounded::sentence("a part of the sandbox", how)
                })
            }
            Self::Failed(failure) | Self::Answer { answer: Err(failure), .. } => failure.check(),
            Self::Events { events, .. } => events.iter().try_for_each(|(_, event)| event.check()),
            Self::Answer { answer: Ok(_), .. } | Self::Progress(_) | Self::Heartbeat(_) => Ok(()),
        }
    }
}

/// What a worker says in a frame, as far as it keeps to every bound.
pub(crate) fn decode_reply(frame: &[u8]) -> Result<Reply, FrameError> {
    let reply: Reply = decode(frame)?;
    reply.check()?;
    Ok(reply)
}

/// What an operation came to.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Answer {
    Done,
    Tokens(#[serde(deserialize_with = "bounded::tokens")] Vec<u32>),
    Bytes(Vec<u8>),
    Prefixes(#[serde(deserialize_with = "bounded::prefixes")] Vec<CachedPrefix>),
    Size(u64),
    /// No longer than the frame that it comes in.
    Text(String),
    Count(u32),
}

/// A sign of life, with the evidence that it gets on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Heartbeat {
    /// Rises with every event, answer, report of a load and change of what is measured.
    pub(crate) steps: u64,
    /// Processor time of the whole process.
    pub(crate) cpu_ms: u64,
    pub(crate) measured: Measurement,
}
