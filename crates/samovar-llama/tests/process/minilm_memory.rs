//! Predicted memory of a real embedder against what the kernel says.
#![cfg(target_os = "linux")]

use crate::support;

use samovar_core::embedding::EmbedInput;
use samovar_core::port::Engine;
use samovar_llama::LlamaEngine;
use support::embedding::{embed, request};
use support::minilm;

/// Page tables, heap fragments, the test harness itself.
const SLACK_BYTES: u64 = 16 << 20;

#[test]
fn no_more_memory_is_held_than_was_predicted() {
    let _alone = crate::alone();
    let Some(model) = minilm::find() else { return };
    let descriptor = model.descriptor("f32");
    let options = minilm::options(&descriptor);
    let anonymous_bytes = || support::process_status("RssAnon") * 1024;
    let predicted = LlamaEngine::new().footprint(&descriptor, &options).expect("a prediction");
    let before = anonymous_bytes();
    let instance = model.load("f32");
    let long = EmbedInput::Text("kettle ".repeat(510));
    let inputs = vec![long; 8];
    embed(&instance, request(inputs)).expect("it is answered");
    let grown = anonymous_bytes().saturating_sub(before);
    let measured = instance.measure();
    println!("kernel {grown}, predicted {predicted:?}, accounted {measured:?}");
    assert!(predicted.held_bytes + SLACK_BYTES >= grown, "{grown} bytes are more than {predicted:?}");
    assert!(measured.held_bytes <= predicted.held_bytes, "{measured:?} {predicted:?}");
    assert!(measured.held_bytes + SLACK_BYTES >= grown, "{grown} bytes are more than {measured:?}");
}
