//! What another budget or policy would have done: a log of requests, lived through again in virtual time.
//!
//! ```text
//!   lines ─► log::Reader ─► Trace ─┐
//!   what models cost ─► Subject ───┼─► replay  ─► decide::step, the very same ─► Report
//!                                  ├─► offline    knows the future               Report
//!                                  └─► bound      what none can beat
//! ```
//!
//! A virtual engine answers every effect after the time that the model's [`Costs`] say. Nothing here reads a file
//! or a clock: the same trace gives the same report.

mod costs;
mod harness;
pub mod log;
mod offline;
mod report;
pub mod synthetic;
#[cfg(test)]
mod tests;

pub use costs::{Costs, Subject};
pub use harness::replay;
pub use log::Trace;
pub use offline::{bound, offline};
pub use report::Report;
