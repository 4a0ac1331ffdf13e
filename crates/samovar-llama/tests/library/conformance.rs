//! The suite that every engine passes, in the layouts and KV types that users can choose.

use crate::support;

use std::sync::Arc;

use samovar_core::footprint::KvType;
use samovar_core::testing::conformance::{self, Subject};
use samovar_core::{Layout, LoadOptions, ModelFiles};
use samovar_llama::LlamaEngine;
use support::packed::{Packed, SOURCE};

/// Sums are rounded in another order when the batch around a sequence differs.
const TIE_GAP: f32 = 0.1;

fn subject_with(options: LoadOptions) -> Subject {
    Subject {
        engine: Arc::new(LlamaEngine::new()),
        files: ModelFiles::of(support::demo_path()),
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

/// The whole suite with weights that lie otherwise.
fn run_all_with(layout: Layout) {
    let Some(model) = Packed::demo() else { return support::skipped("this processor packs nothing") };
    conformance::run_all(&Subject {
        files: ModelFiles::of(&model.path),
        packed: layout.needs_packed_file().then(|| (model.file.clone(), SOURCE.to_owned())),
        descriptor: model.descriptor.clone(),
        ..subject_with(LoadOptions { layout, ..support::options() })
    });
    assert_eq!(model.load(layout).arrangement().layout, layout);
}

#[test]
fn the_suite_holds_for_packed_weights() {
    run_all_with(Layout::Packed);
}

#[test]
fn the_suite_holds_for_packed_beside_plain_weights() {
    run_all_with(Layout::Hybrid);
}

#[test]
fn the_suite_holds_for_weights_repacked_at_load() {
    run_all_with(Layout::Repacked);
}

#[test]
fn the_suite_holds_with_a_draft_model() {
    let draft = Some(Box::new(support::draft_model(&support::demo_path())));
    conformance::run_all(&Subject {
        files: ModelFiles::of(support::demo_path()).with_draft(&ModelFiles::of(support::demo_path())),
        ..subject_with(LoadOptions { draft, ..support::options() })
    });
}

#[test]
fn large_batches_of_packed_weights_are_right_on_two_threads() {
    let Some(model) = Packed::demo() else { return support::skipped("this processor packs nothing") };
    conformance::batches_beyond_64_tokens_are_right(&Subject {
        files: ModelFiles::of(&model.path),
        packed: Some((model.file.clone(), SOURCE.to_owned())),
        descriptor: model.descriptor.clone(),
        ..subject_with(LoadOptions { layout: Layout::Packed, threads: 2, ..support::options() })
    });
}

#[test]
fn the_small_kv_cache_computes_large_batches() {
    let subject = subject_with(LoadOptions { kv_type: KvType::Q8_0, ..support::options() });
    conformance::batches_beyond_64_tokens_are_right(&subject);
    conformance::reused_prefixes_do_not_change_the_answer(&subject);
}
