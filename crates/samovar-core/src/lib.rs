//! The nouns and the ports of Samovar: what a model, a request and an engine are.
//!
//! ```text
//!   model/       what the user names, which files that is and what their header says
//!   format/      what a model's files are, read from foreign bytes (the GGUF gate)
//!   chat         a conversation, which the engine renders and tokenizes
//!   generation   a request for text, and the events that answer it
//!   constraint   what an answer must look like
//!   embedding    a request for vectors or scores of texts
//!   infill       a gap in a text, and the prompt by which a model fills it in
//!   scope        whose the state of a prompt is
//!   footprint    bytes: predicted, promised, measured
//!   memory       the same by where it is: arenas, files, sizes
//!   cores        processor cores: there, idle, shared
//!   byte_budget  one bound on the bytes of many holders
//!   gdsf         what keeping a thing saves
//!   logits       the largest ones, and probabilities
//!   penalties    on tokens that occurred lately
//!   json         how deep JSON is nested, before it is parsed
//!   system_words what the operating system said, as people read it
//!   port/        what others must provide: an engine, a clock
//!   error        one table from kind to HTTP status, code and retry
//! ```
//!
//! This crate never starts a runtime, opens a socket or calls native code.
#![forbid(unsafe_code)]

pub mod byte_budget;
pub mod chat;
pub mod constraint;
pub mod cores;
pub mod digest;
pub mod embedding;
pub mod error;
pub mod footprint;
pub mod format;
pub mod gdsf;
pub mod generation;
pub mod infill;
pub mod json;
pub mod logits;
pub mod memory;
pub mod model;
pub mod penalties;
pub mod port;
pub mod scope;
pub mod system_words;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod units;

pub use byte_budget::ByteBudget;
pub use chat::{Chat, ToolChoice, WallTime};
pub use constraint::Constraint;
pub use cores::{Cores, ThreadUse, ThreadsWhy};
pub use digest::Digest;
pub use embedding::{EmbedInput, EmbedOutput, EmbedRequest, Embedded, Pooling, Truncate, Urgency};
pub use error::{ErrorKind, Failure};
pub use footprint::{Arrangement, Footprint, Layout, LayoutWish, LoadOptions, Speed};
pub use generation::{
    Adapter, CachedPrefix, Completion, Delta, FinishReason, GenerationRequest, ParseAdapterError, Prompt,
    Sampling, TokenEvent, TokenLogprob, Usage,
};
pub use infill::{Infill, InfillChunk, InfillTokens};
pub use memory::{Arena, Bytes, Cost, FileId, Mapped, Memory};
pub use model::{
    ArtifactRef, Descriptor, DraftModel, FileRole, Format, HubRef, ModelFiles, ModelKey, ModelRef,
    Quantization, RemoteRef, WeightsId,
};
pub use scope::Scope;
pub use system_words::system_words;
