//! Speculation: several tokens of one answer in one step, where that is faster here. Pure: no clock, no model.
//!
//! ```text
//!   tokens so far ─┬► lookup ──► draft ──► controller: how many of it ──┬─► a step with 1 + k rows ─┐
//!                  └► model_controller: how many are asked of the ──────┘                           │
//!                     draft model, where the text itself says none ◄── time, accepted tokens ───────┘
//! ```
//!
//! A step computes the last token and the draft's tokens after it. The loop samples row by row, as it would without a
//! draft, for as long as each sampled token is the draft's next one; the rest is removed from the cache. So a draft never
//! changes which tokens are sampled, only how many a step gives.

mod controller;
mod costs;
mod lookup;
mod model_controller;

pub(crate) use controller::Controller;
pub(crate) use costs::Costs;
pub(crate) use lookup::Lookup;
pub(crate) use model_controller::{Drafting, ModelController};

/// The longest draft.
pub(crate) const DRAFT_MAX: usize = 8;
