//! The suite that every engine passes, through a worker.

use std::sync::Arc;

use samovar_core::testing::FakeEngine;
use samovar_core::testing::conformance::{self, Subject};
use samovar_core::{Descriptor, ModelFiles};

use crate::stand;

fn subject() -> Subject {
    Subject {
        engine: Arc::new(stand::engine(&[])),
        files: ModelFiles::of("/dev/null"),
        packed: None,
        descriptor: FakeEngine::descriptor("any", 1 << 20),
        options: FakeEngine::options(),
        tie_gap: 0.0,
    }
}

samovar_core::engine_conformance!(subject());

#[test]
fn a_model_whose_descriptor_has_marks_fills_gaps_in() {
    let descriptor = Descriptor { infill: Some(FakeEngine::INFILL), ..subject().descriptor };
    conformance::a_gap_has_its_marks_and_no_others(&Subject { descriptor, ..subject() });
}

/// Vectors of a model that was loaded to make them.
mod embedders {
    use samovar_core::testing::FakeEngine;
    use samovar_core::testing::conformance::Subject;

    fn subject() -> Subject {
        Subject { options: FakeEngine::embedder_options(), ..super::subject() }
    }

    samovar_core::engine_conformance!(embeddings: subject());
}

/// The same with the weights that a worker packed.
mod packed {
    use crate::packing::Packed;

    samovar_core::engine_conformance!(Packed::new().subject(super::subject()));
}
