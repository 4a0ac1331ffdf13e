//! The nouns and the ports of Samovar: what a model, a request and an engine are.
//!
//! ```text
//!   model/       what the user names and what the file header says
//!   format/      readers of foreign bytes (the GGUF gate)
//!   generation   a request for text, and the events that answer it
//!   footprint    bytes: predicted, promised, measured
//!   gdsf         what keeping a thing saves
//!   port/        what others must provide: an engine, a clock
//!   error        one table from kind to HTTP status, exit code and retry
//! ```
//!
//! This crate never starts a runtime, opens a socket or calls native code.
#![forbid(unsafe_code)]

pub mod digest;
pub mod error;
pub mod footprint;
pub mod format;
pub mod gdsf;
pub mod generation;
pub mod model;
pub mod port;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod units;

pub use digest::Digest;
pub use error::{ErrorKind, Failure};
pub use footprint::{Arrangement, Footprint, Layout, LayoutWish, LoadOptions, Speed};
pub use generation::{
    Adapter, CachedPrefix, Completion, FinishReason, GenerationRequest, ParseAdapterError, Prompt, Sampling,
    TokenEvent, TokenLogprob, Usage,
};
pub use model::{ArtifactRef, Descriptor, HubRef, ModelKey, ModelRef, RemoteRef};
