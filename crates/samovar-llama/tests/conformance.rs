//! The suite that every engine passes, in the layouts and KV types that users can choose.

mod support;

use std::sync::Arc;

use samovar_core::footprint::KvType;
use samovar_core::testing::conformance::{self, Subject};
use samovar_core::{Layout, LoadOptions};
use samovar_llama::LlamaEngine;

/// Sums are rounded in another order when the batch around a sequence differs.
const TIE_GAP: f32 = 0.1;

fn subject_with(options: LoadOptions) -> Subject {
    Subject {
        engine: Arc::new(LlamaEngine::new()),
        path: support::demo_path(),
        packed: None,
        descriptor: support::demo(),
        options,
        tie_gap: TIE_GAP,
    }
}

fn subject() -> Subject {
    subject_with(support::options())
}

samovar_core::engine_conformance!(subject());

#[test]
fn the_packed_layout_computes_large_batches() {
    let subject = subject_with(LoadOptions { layout: Layout::Repacked, threads: 2, ..support::options() });
    conformance::batches_beyond_64_tokens_are_right(&subject);
    conformance::answers_side_by_side_are_as_alone(&subject);
    conformance::reused_prefixes_do_not_change_the_answer(&subject);
}

#[test]
fn the_small_kv_cache_computes_large_batches() {
    let subject = subject_with(LoadOptions { kv_type: KvType::Q8_0, ..support::options() });
    conformance::batches_beyond_64_tokens_are_right(&subject);
    conformance::reused_prefixes_do_not_change_the_answer(&subject);
}
