//! How much of the memory budget it takes to make a packed file, and to measure layouts.
//!
//! ```text
//!   pack        what the engine holds, and the packed file, which goes through the page cache
//!   calibrate   what the engine holds, and both files, mapped at once; less what of them the pool counts already
//! ```
//!
//! Packing reads the model from front to back, and what it wrote may leave the page cache once it is on the disk: with
//! room for one file neither pushes out what others have mapped. What it holds, the engine says. Measuring needs all
//! weights to stay, or it would measure the disk.

use samovar_core::Failure;
use samovar_core::footprint::{Footprint, Layout, LoadOptions};
use samovar_core::port::Engine;

use super::subject::Subject;

/// The context that is measured with: eight sequences.
const SLOTS: u32 = 8;
const CONTEXT_TOKENS: u32 = 64;

/// What a model's making and measuring take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Room {
    packing: Footprint,
    /// With both files mapped.
    measuring: Footprint,
}

impl Room {
    /// # Errors
    /// When the engine cannot run such a model, or packs none.
    pub(super) fn of(engine: &dyn Engine, subject: &Subject) -> Result<Self, Failure> {
        let Subject { descriptor, options, .. } = subject;
        let trial = LoadOptions {
            layout: Layout::Hybrid,
            slots: SLOTS,
            context_tokens: CONTEXT_TOKENS,
            ..options.clone()
        };
        Ok(Self {
            packing: engine.packing_footprint(descriptor)?,
            measuring: engine.footprint(descriptor, &trial)?,
        })
    }

    /// To pack it.
    pub(super) const fn to_pack(self) -> u64 {
        self.packing.total_bytes()
    }

    /// To measure its layouts, where so much of its files is counted already.
    pub(super) const fn to_calibrate(self, counted_bytes: u64) -> u64 {
        let Footprint { held_bytes, mapped_bytes } = self.measuring;
        held_bytes.saturating_add(mapped_bytes.saturating_sub(counted_bytes))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use samovar_core::ModelFiles;
    use samovar_core::footprint::LayoutWish;
    use samovar_core::testing::fake::FakeEngine;
    use samovar_core::{Digest, WeightsId};

    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn packing_takes_one_file_and_measuring_two_less_what_is_counted_already() {
        let options = LoadOptions { context_tokens: 8_192, slots: 4, ..FakeEngine::options() };
        let subject = Subject {
            weights: WeightsId::File(Digest::of_bytes(b"weights")),
            files: ModelFiles::of("weights"),
            descriptor: Arc::new(FakeEngine::descriptor("a model", 100 * MIB)),
            options,
            wish: LayoutWish::Auto,
            hybrid_bytes: 0,
        };
        let room = Room::of(&FakeEngine::new(), &subject).unwrap();
        // The KV cache of 512 tokens, not that of the 32,768 which the model is served with.
        let [packing, measuring] = [room.packing, room.measuring].map(|footprint| footprint.held_bytes);
        assert!(packing < MIB && measuring < MIB, "{room:?}");
        assert_eq!(room.to_pack(), packing + 100 * MIB);
        assert_eq!(room.to_calibrate(0), measuring + 200 * MIB);
        // A model that has just been served is mapped, and need not be there twice.
        assert_eq!(room.to_calibrate(100 * MIB), measuring + 100 * MIB);
        assert_eq!(room.to_calibrate(300 * MIB), measuring);
    }
}
