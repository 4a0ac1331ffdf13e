//! How much of the memory budget it takes to make a packed file, and to measure layouts.
//!
//! ```text
//!   pack        what the engine holds, and the packed file, which goes through the page cache
//!   calibrate   what the engine holds, and both files, mapped at once; less what of them the pool counts already
//! ```
//!
//! Packing reads the model from front to back, and what it wrote may leave the page cache once it is on the disk: with
//! room for one file neither pushes out what others have mapped. What it allocates is one tensor at a time, and the
//! context of a few tokens with which the result is proved. Measuring needs all weights to stay, or it would measure
//! the disk.

use samovar_core::Descriptor;
use samovar_core::Failure;
use samovar_core::footprint::{Layout, LoadOptions};
use samovar_core::port::Engine;

use super::subject::Subject;

/// The context that is measured with: eight sequences.
const SLOTS: u32 = 8;
const CONTEXT_TOKENS: u32 = 64;
/// No number of a packed tensor takes more.
const NUMBER_BYTES: u64 = 2;

/// What a model's making and measuring take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::struct_field_names, reason = "the unit belongs to the name")]
pub(super) struct Room {
    held_bytes: u64,
    packed_bytes: u64,
    /// Both files.
    mapped_bytes: u64,
}

impl Room {
    /// # Errors
    /// When the engine cannot run such a model.
    pub(super) fn of(engine: &dyn Engine, subject: &Subject) -> Result<Self, Failure> {
        let Subject { descriptor, options, .. } = subject;
        let trial = |layout| {
            let options =
                LoadOptions { layout, slots: SLOTS, context_tokens: CONTEXT_TOKENS, ..options.clone() };
            engine.footprint(descriptor, &options)
        };
        let (plain, both) = (trial(Layout::Mapped)?, trial(Layout::Hybrid)?);
        Ok(Self {
            held_bytes: both.held_bytes.max(largest_tensor_bytes(descriptor)),
            // What is not packed is written as well.
            packed_bytes: plain.mapped_bytes.max(both.mapped_bytes.saturating_sub(plain.mapped_bytes)),
            mapped_bytes: both.mapped_bytes,
        })
    }

    /// To pack it.
    pub(super) const fn to_pack(self) -> u64 {
        self.held_bytes.saturating_add(self.packed_bytes)
    }

    /// To measure its layouts, where so much of its files is counted already.
    pub(super) const fn to_calibrate(self, counted_bytes: u64) -> u64 {
        self.held_bytes.saturating_add(self.mapped_bytes.saturating_sub(counted_bytes))
    }
}

/// The largest matrix, at most.
fn largest_tensor_bytes(descriptor: &Descriptor) -> u64 {
    let Descriptor { vocabulary, feed_forward_width, embedding_width, .. } = descriptor;
    u64::from((*vocabulary).max(*feed_forward_width)) * u64::from(*embedding_width) * NUMBER_BYTES
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use samovar_core::footprint::LayoutWish;
    use samovar_core::testing::fake::FakeEngine;

    use super::super::subject::Source;
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn packing_takes_one_file_and_measuring_two_less_what_is_counted_already() {
        let options = LoadOptions { context_tokens: 8_192, slots: 4, ..FakeEngine::options() };
        let subject = Subject {
            source: Source { text: "weights".to_owned(), parent: None },
            path: "weights".into(),
            descriptor: Arc::new(FakeEngine::descriptor("a model", 100 * MIB)),
            options,
            wish: LayoutWish::Auto,
            hybrid_bytes: 0,
        };
        let room = Room::of(&FakeEngine::new(), &subject).unwrap();
        // The KV cache of 512 tokens, not that of the 32,768 which the model is served with.
        assert!(room.held_bytes < MIB, "{room:?}");
        assert_eq!(room.to_pack(), room.held_bytes + 100 * MIB);
        assert_eq!(room.to_calibrate(0), room.held_bytes + 200 * MIB);
        // A model that has just been served is mapped, and need not be there twice.
        assert_eq!(room.to_calibrate(100 * MIB), room.to_pack());
        assert_eq!(room.to_calibrate(300 * MIB), room.held_bytes);
    }
}
