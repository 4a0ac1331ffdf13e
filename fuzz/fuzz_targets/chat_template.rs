//! Any template with any conversation is rendered or refused: no panic, within a second, and nothing of the
//! conversation becomes a control token.
#![no_main]

use std::sync::Arc;
use std::time::{Duration, Instant};

use libfuzzer_sys::fuzz_target;
use samovar_core::Chat;
use samovar_core::testing::FakeEngine;
use samovar_prompt::{ControlTokens, Renderer};

/// Marks that no template of the fuzzer writes, since they hold what stands in no input.
const CONTROL: [&str; 3] = ["<|\u{1}user|>", "<|\u{1}end|>", "<\u{1}s>"];

fuzz_target!(|input: (&str, &str)| {
    let (template, content) = input;
    if template.contains('\u{1}') || template.contains("\\") {
        return;
    }
    let tokens = Arc::new(ControlTokens::new(CONTROL.map(str::to_owned)));
    let descriptor = FakeEngine::descriptor("fuzzed", 1 << 20);
    let began = Instant::now();
    let Ok(renderer) = Renderer::new(&descriptor, Some(template), tokens) else { return };
    let content = format!("{content}{}", CONTROL.concat());
    let messages = serde_json::json!([{ "role": "user", "content": content }]).to_string();
    if let Ok(rendered) = renderer.render(&Chat::new(messages, 1)) {
        assert_eq!(rendered.control.as_deref(), Some(&[][..]), "{:?}", rendered.text);
        assert!(rendered.text.len() <= 8 << 20);
    }
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
});
