//! The suite that every engine passes, through a worker.

use std::sync::Arc;

use samovar_core::testing::FakeEngine;
use samovar_core::testing::conformance::Subject;

use crate::stand;

fn subject() -> Subject {
    Subject {
        engine: Arc::new(stand::engine(&[])),
        path: "/dev/null".into(),
        packed: None,
        descriptor: FakeEngine::descriptor("any", 1 << 20),
        options: FakeEngine::options(),
        tie_gap: 0.0,
    }
}

samovar_core::engine_conformance!(subject());

/// The same with the weights that a worker packed.
mod packed {
    use std::sync::LazyLock;

    use samovar_core::testing::conformance::Subject;
    use samovar_core::{Layout, LoadOptions};

    use crate::packing::Packed;

    static PACKED: LazyLock<Packed> = LazyLock::new(Packed::new);

    fn subject() -> Subject {
        let plain = super::subject();
        let options = LoadOptions { layout: Layout::Packed, ..plain.options };
        Subject {
            descriptor: Packed::descriptor(),
            packed: Some((PACKED.path(), PACKED.source.to_owned())),
            options,
            ..plain
        }
    }

    samovar_core::engine_conformance!(subject());
}
