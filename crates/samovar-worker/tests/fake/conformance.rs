//! The suite that every engine passes, through a worker.

use std::sync::Arc;

use samovar_core::ModelFiles;
use samovar_core::testing::FakeEngine;
use samovar_core::testing::conformance::Subject;

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
