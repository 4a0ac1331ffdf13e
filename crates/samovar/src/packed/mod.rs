//! Packed weights: which layout a model is loaded in, and how the file that the fast one needs comes to be.
//!
//! ```text
//!   catalog ── wish ─► choice ◄── what is known ◄── store: packed file, speeds
//!      └ ModelSpec with the layout ─► pool ─► Fitter ─► store: lease ─► engine, with the packed file
//!                                               └ refused: it goes, known, made again
//!   request served ─► maker: quiet? ─► workshop: memory? ─► engine.pack ─► store ─► engine.calibrate ─► store ─► known
//!   request comes ──► maker stops what is made, and has it begun again when it is quiet
//! ```
//!
//! Nothing here fails a request or holds one up: what has no packed file is mapped as it lies on the disk. A loaded
//! model keeps the layout it was loaded in; what was made or measured meanwhile counts from its next load on.

mod choice;
mod fitted;
mod known;
mod maker;
mod orders;
mod quiet;
mod report;
mod room;
mod subject;
mod workshop;

pub(crate) use fitted::{Fitted, Fitter};
#[cfg(test)]
pub(crate) use known::Made;
pub(crate) use known::Packings;
pub(crate) use maker::Maker;
pub(crate) use quiet::Traffic;
pub use report::{PackedInfo, PackedTally};
pub(crate) use subject::{Source, Subject};
pub(crate) use workshop::Workshop;
