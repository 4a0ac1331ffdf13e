//! Packed weights: which layout a model is loaded in, and how the file that the fast one needs comes to be.
//!
//! ```text
//!   catalog ── wish ─► choice ◄── what is known ◄── store: packed file, speeds
//!      └ ModelSpec with the layout ─► pool ─► LayoutLoader ─► store: lease ─► engine, with the packed file
//!                                               └ refused: it goes, known, made again
//!   request served ─► scheduler: idle? ─► packer: memory? ─► engine.pack ─► store ─► engine.calibrate ─► store ─► known
//!   request comes ──► the scheduler stops what is made, and has it begun again when it is idle
//! ```
//!
//! Nothing here fails a request or holds one up: what has no packed file is mapped as it lies on the disk. A loaded
//! model keeps the layout it was loaded in; what was made or measured meanwhile counts from its next load on.

mod choice;
mod commands;
mod idle;
mod known;
mod loaded_layout;
mod pack_scheduler;
mod packer;
mod report;
mod room;
mod subject;

pub(crate) use idle::ActivityCounter;
pub(crate) use known::LayoutRegistry;
#[cfg(test)]
pub(crate) use known::Made;
pub(crate) use loaded_layout::{LayoutLoader, LoadedLayout};
pub(crate) use pack_scheduler::PackScheduler;
pub(crate) use packer::Packer;
pub use report::{PackedInfo, PackedTally};
pub(crate) use subject::Subject;
