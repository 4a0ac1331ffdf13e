//! Predicted memory against what the kernel says.
#![cfg(target_os = "linux")]

mod support;

use samovar_core::footprint::KvType;
use samovar_core::port::Engine;
use samovar_core::{Layout, LoadOptions, Prompt};
use samovar_llama::LlamaEngine;

/// Page tables, heap fragments, the test harness itself.
const SLACK_BYTES: u64 = 8 << 20;
/// A prediction may be this much too high: it counts buffers that not every model fills.
const MOST_PERCENT: u64 = 130;

fn anonymous_bytes() -> u64 {
    support::process_status("RssAnon") * 1024
}

/// One test, so that nothing else in the process loads meanwhile.
#[test]
fn predictions_agree_with_the_kernel() {
    let engine = LlamaEngine::new();
    let base = LoadOptions { context_tokens: 1024, slots: 4, ..support::options() };
    let first = anonymous_bytes();
    for options in [
        base.clone(),
        LoadOptions { layout: Layout::Repacked, ..base.clone() },
        LoadOptions { kv_type: KvType::Q8_0, ..base.clone() },
        LoadOptions { context_tokens: 4096, slots: 1, ..base },
    ] {
        let before = anonymous_bytes();
        let instance = support::load(&options);
        // Full slots touch every cell and the largest masks.
        let running: Vec<_> = (0..options.slots)
            .map(|slot| {
                let prompt = (0..options.context_tokens - 8).map(|i| 300 + (i + slot * 37) % 700).collect();
                support::start(&instance, support::greedy(Prompt::Tokens(prompt), 4))
            })
            .collect();
        for answer in running {
            support::collect(answer);
        }
        // The heap keeps some of what earlier instances gave back. If this one lives in it, the growth since
        // its load is less than it uses; if not, the growth since the first is more.
        let now = anonymous_bytes();
        let (least, most) = (now.saturating_sub(before), now - first);
        let predicted = engine.footprint(&support::demo(), &options).unwrap();
        let measured = instance.measure();
        println!("{options:?}\n  kernel {least} to {most}, predicted {predicted:?}, accounted {measured:?}");
        for held in [predicted.held_bytes, measured.held_bytes] {
            assert!(held + SLACK_BYTES >= least, "{held} bytes are too few, the kernel says {least}");
            assert!(held <= most * MOST_PERCENT / 100 + SLACK_BYTES, "{held} bytes are too many for {most}");
        }
        let mapped = measured.mapped_bytes.abs_diff(predicted.mapped_bytes);
        assert!(mapped < 1 << 20, "{measured:?} against {predicted:?}");
    }
}
