//! The bodies of the admin API, for both of its ends: the daemon that answers and the client that asks.
//!
//! ```text
//!   POST /admin/generate   GenerateBody ──► one GenerateEvent a line   (NDJSON)
//!   POST /admin/embed      EmbedBody    ──► one GenerateEvent a line   (NDJSON)
//!   POST /admin/tokenize   TokenizeBody ──► Tokenized
//!   POST /admin/detokenize DetokenizeBody ► Detokenized
//!   POST /admin/warm       WarmBody     ──► one WarmEvent a line       (NDJSON)
//!   POST /admin/prepare    PrepareBody  ──► one PrepareEvent a line    (NDJSON)
//!   POST /admin/pack       PackBody     ──► one PackEvent a line       (NDJSON)
//!   POST /admin/pin        PinBody      ──► {}
//!   POST /admin/unload     UnloadBody   ──► Unloaded
//!   POST /admin/reload                  ──► Changes
//!   POST /admin/keys/reload             ──► KeysInForce
//!   POST /admin/shutdown   ShutdownBody ──► ShutdownAnswer
//!   POST /admin/pull       PullBody     ──► one PullEvent a line       (NDJSON), or PullBegun
//!   POST /admin/pull/cancel CancelPullBody ► PullsCancelled
//!   POST /admin/rm         RemoveBody   ──► RemovedModel
//!   POST /admin/gc         CollectBody  ──► Collected
//!   POST /admin/verify     VerifyBody   ──► one VerifyEvent a line     (NDJSON)
//!   POST /admin/clear      ClearBody    ──► Cleared
//!   GET  /admin/disk                    ──► DiskUse
//!   GET  /admin/config                  ──► settings, as `samovar config --json`
//!   GET  /admin/events                  ──► snapshot, then deltas      (SSE)
//!   GET  /admin/stats                   ──► DaemonStats
//!   GET  /admin/models                  ──► ModelList
//!   GET  /admin/why?model=NAME          ──► WhyAnswer
//!   GET  /admin/outlook?model=NAME      ──► Outlook
//!   GET  /admin/usage?by=…&since_ms=…   ──► UsageReport
//! ```
//!
//! Every error is a [`Failure`] as JSON, with the status of its kind; in a stream it is the last event.
//! This is the only part of the server's wire that others may name.

mod commands;
mod disk;
mod embed;
mod facts;
mod generate;

pub use commands::{
    KeysInForce, PackBody, PackEvent, PinBody, PrepareBody, PrepareEvent, ShutdownAnswer, ShutdownBody,
    UnloadBody, Unloaded, WarmBody, WarmEvent,
};
pub use disk::{
    CancelPullBody, ClearBody, ClearTier, Cleared, CollectBody, NotRemoved, PullBegun, PullBody, PullEvent,
    PullsCancelled, RemoveBody, Verification, VerifyBody, VerifyEvent,
};
pub use embed::{DetokenizeBody, Detokenized, EmbedBody, EmbedBodyInput, TokenizeBody, Tokenized};
pub use facts::{DaemonStats, Decided, ModelList, WhyAnswer};
pub use generate::{GenerateBody, GenerateEvent, GenerateInput, ToolBody, WaitEvent};

pub use crate::usage::{GroupBy, UsageReport, UsageRow};
