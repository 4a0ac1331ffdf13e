//! Any template with any conversation is rendered or refused: no panic, within seconds, and nothing of the conversation
//! becomes a control token. A NUL separates the template from the conversation's text.
#![no_main]

use std::sync::Arc;
use std::time::{Duration, Instant};

use libfuzzer_sys::fuzz_target;
use samovar_core::Chat;
use samovar_core::testing::FakeEngine;
use samovar_prompt::{ControlTokens, Renderer};

/// Control tokens that begin and end with a character that no template of the fuzzer can write.
const CONTROL: [&str; 3] = ["\u{E000}<user>\u{E000}", "\u{E000}[end]\u{E000}", "\u{E000}<s>\u{E000}"];
/// With one of these in it, a template could write that character.
const EXCLUDED: [&str; 4] = ["\u{E000}", "\\u", "\\U", "\\N"];
/// With tools, the template's dialect is found first.
const TOOLS: &str = r#"[{"type": "function", "function": {"name": "f"}}]"#;
/// For one rendering, where a worker allows two seconds: the instrumented program is about ten times as slow.
const PATIENCE: Duration = Duration::from_secs(20);

fuzz_target!(|bytes: &[u8]| {
    let input = String::from_utf8_lossy(bytes);
    let (template, content) = input.split_once('\0').unwrap_or((&*input, "hi"));
    if EXCLUDED.iter().any(|text| template.contains(text)) {
        return;
    }
    let tokens = Arc::new(ControlTokens::new(CONTROL.map(str::to_owned)));
    let descriptor = FakeEngine::descriptor("fuzzed", 1 << 20);
    let began = Instant::now();
    let renderer = Renderer::new(&descriptor, Some(template), Arc::clone(&tokens));
    assert!(began.elapsed() < PATIENCE, "compiled in {:?}", began.elapsed());
    let Ok(renderer) = renderer else { return };
    let forged = format!("{content}{}", CONTROL.concat());
    for (content, tools) in [(content, None), (&*forged, None), (&*forged, Some(TOOLS.to_owned()))] {
        let messages = serde_json::json!([{ "role": "user", "content": content }]).to_string();
        let began = Instant::now();
        let rendered = renderer.render(&Chat { tools, ..Chat::new(messages, 1) });
        assert!(began.elapsed() < PATIENCE, "rendered in {:?}", began.elapsed());
        let Ok(rendered) = rendered else { continue };
        assert!(rendered.text.len() <= 8 << 20);
        let control =
            rendered.control.map_or_else(|| tokens.find(&rendered.text).count(), |ranges| ranges.len());
        assert_eq!(control, 0, "{:?}", rendered.text);
    }
});
