//! The whole conversation between the daemon and a worker: what each may say, and how that lies on the wire.
//!
//! ```text
//!   parent                                   child
//!     Hello ─────────────────────────────►          versions must be equal, or both stop
//!           ◄───────────────────────────── Hello
//!     Load ──────────────────────────────►
//!           ◄──────────────── Progress … Ready | LoadFailed
//!     Generate, Cancel ──────────────────►
//!           ◄───────────────────────────── Events  (of all requests; many in one frame when they come so)
//!     Park, Resume, Probe, … (+ files) ──►
//!           ◄───────────────────────────── Answer
//!           ◄───────────────────────────── Beat    (every second, from a thread of its own)
//!     Shutdown ──────────────────────────►          the child ends; so it does when the socket closes
//! ```
//!
//! A frame is its length (four bytes, little-endian) and that many bytes of postcard. Nothing is ever read past a
//! limit, and nothing here believes what the other side says about sizes.

mod frame;
mod hello;
mod socket;
mod wire;

pub(crate) use frame::{FrameError, Inbox, decode, encode};
pub(crate) use hello::Hello;
pub(crate) use socket::{pair, receive, send_now};

use samovar_core::footprint::{LoadOptions, Measurement};
use samovar_core::generation::CachedPrefix;
use samovar_core::model::Descriptor;
use serde::{Deserialize, Serialize};

pub(crate) use wire::{Event, Request};

use crate::sandbox;

/// Changes whenever anything in this folder does.
pub(crate) const PROTOCOL: u32 = 2;

/// What the parent says.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Command {
    /// The first command, and only once.
    Load(Box<Load>),
    /// Adapters that the request names were sent before.
    Generate { id: u64, request: Box<Request> },
    /// Ends a request; nothing more is said about it.
    Cancel { id: u64 },
    /// Comes with one descriptor: an adapter's file, from now on known by its number.
    Adapter { number: u64 },
    /// Wants one `Answer`.
    Operate { id: u64, operation: Operation },
    /// Unload and end.
    Shutdown,
}

/// What takes long, or is asked for its answer.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Operation {
    Tokenize {
        text: String,
        add_special: bool,
        parse_special: bool,
    },
    Detokenize {
        tokens: Vec<u32>,
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
    },
}

impl Command {
    /// How many descriptors come with it.
    pub(crate) const fn descriptors(&self) -> usize {
        match self {
            Self::Adapter { .. }
            | Self::Operate {
                operation: Operation::SavePrefix { .. } | Operation::RestorePrefix { .. },
                ..
            } => 1,
            _ => 0,
        }
    }
}

/// What is to be loaded.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Load {
    /// The model's path; not every path is UTF-8.
    pub(crate) path: Vec<u8>,
    pub(crate) descriptor: Descriptor,
    pub(crate) options: LoadOptions,
    pub(crate) sandbox: sandbox::Mode,
    /// Of memory of its own.
    pub(crate) memory_limit_bytes: Option<u64>,
    /// Between two beats.
    pub(crate) beat_ms: u64,
}

/// What the child says. What it uses goes along, so that numbers and events never contradict each other.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Reply {
    /// The part of the load that is done (0..=1).
    Progress(f32),
    /// It serves from now on.
    Ready { measured: Measurement, sandbox: sandbox::Report },
    /// It does not, and ends.
    LoadFailed(wire::Failure),
    /// What requests have to say, in order.
    Events { events: Vec<(u64, Event)>, measured: Measurement },
    /// To an `Operate` of this id.
    Answer { id: u64, answer: Result<Answer, wire::Failure>, measured: Measurement },
    /// It lives.
    Beat(Beat),
}

/// What an operation came to.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Answer {
    Done,
    Tokens(Vec<u32>),
    Bytes(Vec<u8>),
    Prefixes(Vec<CachedPrefix>),
    Size(u64),
}

/// A sign of life, with the evidence that it gets on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Beat {
    /// Rises with every event, answer, report of a load and change of what is measured.
    pub(crate) steps: u64,
    /// Processor time of the whole process.
    pub(crate) cpu_ms: u64,
    pub(crate) measured: Measurement,
}
