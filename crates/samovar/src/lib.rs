//! Samovar as a library: load a model once, serve every request from that one copy.
//!
//! ```text
//!   Request ─► resolve ─► acquire ─► generate ─► stream ─► release
//!              catalog    pool (L1)  instance    Answer    lease dropped
//!              └ away ─► fetch: the store (L2) takes it from its source (L3), once
//! ```
//!
//! The way of a request is [`Runtime::generate`] and, for every kind of work, `lease.rs`; read these first. This is the only crate in which
//! the pool, the store and the engines meet. It knows nothing of HTTP or terminals.
//!
//! ```
//! use samovar::{Request, Message, Runtime};
//!
//! # #[cfg(feature = "llama")]
//! # fn main() -> Result<(), samovar::Failure> {
//! # tokio::runtime::Runtime::new().expect("runtime").block_on(async {
//! # let cache = std::env::temp_dir().join(format!("samovar-doctest-{}", std::process::id()));
//! let runtime = Runtime::builder().cache_dir(&cache).build()?;
//! let question = Request::chat("demo", [Message::user("Tell me a story about a fox")]).max_tokens(48);
//! let mut answer = runtime.generate(question);
//! while let Some(text) = answer.next_text().await? {
//!     print!("{text}");
//! }
//! println!("\nloads: {}", runtime.stats().await.pool.loads);
//! runtime.shutdown(std::time::Duration::from_secs(5)).await;
//! # std::fs::remove_dir_all(&cache).ok();
//! # Ok(())
//! # })
//! # }
//! # #[cfg(not(feature = "llama"))]
//! # fn main() {}
//! ```
#![forbid(unsafe_code)]

mod admin;
mod answer;
mod bounded;
mod builder;
mod catalog;
mod constrained;
#[cfg(feature = "llama")]
mod converter;
mod created;
mod directories;
mod disk;
mod embed;
mod engine_choice;
mod engines;
mod experience;
mod fetch;
mod generate;
mod lazy_store;
mod lease;
mod lifetime;
mod memory;
mod options;
mod outlook;
mod packed;
mod prepare;
mod preset;
mod preview;
mod prompt;
mod reply;
mod request;
mod request_check;
mod request_log;
mod request_trace;
mod runtime;
mod sampling;
mod settings;
mod stats;
mod store_engine;
mod thinking;
mod tools;
mod unread;
mod vocabulary;
mod wait;
mod weights;

pub use answer::{Answer, AnswerEvent, CacheStatus, Summary, Timings};
pub use builder::Builder;
pub use catalog::{Changes, Kind, ModelInfo, NameSource, TemplateOrigin, ToolSupport, built_in};
pub use directories::Directories;
pub use disk::{RemovedModel, fitting_artifacts, reference_fits};
pub use embed::{Embed, EmbedderInfo, TextRole};
pub use engine_choice::EngineChoice;
pub use engines::{default_engine, engine_named};
pub use options::{PackOptions, PrepareOptions, WarmOptions};
pub use outlook::{
    ContextMemory, MemoryInUse, MemoryUser, Outlook, OutlookFile, VariantForm, VariantOutlook, Verdict,
};
pub use packed::{PackedInfo, PackedTally};
pub use prepare::PreparedInfo;
pub use preset::{CreateFrom, CreatedFrom, CreatedModel, Deleted, Preset};
pub use reply::Reply;
pub use request::{Common, Generate, Input, Message, Origin, Request, Work};
pub use request_trace::TraceView;
pub use runtime::Runtime;
/// The number format of a model that is prepared.
pub use samovar_core::Quantization;
/// What an answer must look like, and which tools a model may or must call.
pub use samovar_core::{Constraint, ToolChoice};
/// What texts become vectors of, and how.
pub use samovar_core::{EmbedInput, EmbedOutput, Embedded, Pooling, Truncate, Urgency};
/// What every failure is, and its kind.
pub use samovar_core::{ErrorKind, Failure};
/// A gap in a text that a model fills in.
pub use samovar_core::{Infill, InfillChunk};
/// Replays of request logs in virtual time.
pub use samovar_pool::replay;
pub use samovar_pool::{
    Budget, Counters, Decision, EvictionPolicy, Instances, ModelSpec, ModelState, ModelStats,
    NumberedDecision, PoolConfig, PoolStats, Snapshot,
};
pub use sampling::SamplingOptions;
pub use settings::{Alias, ChatTemplate, ModelSettings, PrefixSharing, RuntimeSettings};
pub use stats::{Lifetime, ModelLifetime, Stats, StoredModel, TierStats, Tiers};
pub use thinking::Effort;
pub use tools::{Tool, ToolCall};
pub use wait::{Preparing, Wait};

#[cfg(feature = "llama")]
pub use samovar_llama::{AmxState, BuildInfo, build_info, give_back_memory, keep_little_freed_memory};

/// Gives freed memory back to the system, where the engine knows how; this build has none that does.
#[cfg(not(feature = "llama"))]
pub fn give_back_memory() {}

/// Has memory given back to the system when it is freed, where the engine knows how; this build has none that does.
#[cfg(not(feature = "llama"))]
pub fn keep_little_freed_memory() {}

/// The nouns and ports, for embedders that bring an engine of their own.
pub use samovar_core as core;
/// Artifacts on disk and where they come from, also for use without a runtime.
pub use samovar_store as store;
/// Child processes that run models, one each.
pub use samovar_worker as worker;
