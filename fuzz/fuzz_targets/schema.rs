//! Any text as a JSON schema, a GBNF grammar or a Lark grammar is compiled or refused: no panic, within seconds, and its masks
//! follow the tokens that they allow. The first byte says which of them the rest is, and seeds the choice of tokens.
#![no_main]

use std::sync::LazyLock;
use std::time::{Duration, Instant};

use libfuzzer_sys::fuzz_target;
use samovar_core::{Constraint, ErrorKind};
use samovar_grammar::{Grammar, Vocabulary, VocabularyToken};

/// For one compilation, where a worker allows five seconds: the instrumented program is about ten times as slow.
const PATIENCE: Duration = Duration::from_secs(30);
const END: u32 = 256;

static VOCABULARY: LazyLock<Vocabulary> = LazyLock::new(|| {
    let bytes = (0..=u8::MAX).map(|byte| VocabularyToken { bytes: vec![byte], ..VocabularyToken::default() });
    let end = VocabularyToken { bytes: b"</s>".to_vec(), is_control: true, is_end: true };
    let tokens = bytes.chain([end]).collect();
    Vocabulary::new(tokens, END, |text| text.iter().map(|byte| u32::from(*byte)).collect())
        .expect("a vocabulary")
});

fuzz_target!(|bytes: &[u8]| {
    let Some((kind, text)) = bytes.split_first() else { return };
    let text = String::from_utf8_lossy(text).into_owned();
    let constraint = match kind % 4 {
        0 => Constraint::JsonSchema(text),
        1 => Constraint::Gbnf(text),
        2 => Constraint::Lark(text),
        _ => Constraint::Regex(text),
    };
    let began = Instant::now();
    let compiled = VOCABULARY.compile(&Grammar::Constraint(constraint), "grammar", &|| true);
    assert!(began.elapsed() < PATIENCE, "compiled in {:?}", began.elapsed());
    let mut rules = match compiled {
        Ok(rules) => rules,
        Err(failure) => {
            assert!(matches!(failure.kind, ErrorKind::InvalidRequest | ErrorKind::Busy), "{failure}");
            assert!(failure.message.len() < 4096);
            return;
        }
    };
    let mut seed = usize::from(*kind);
    for _ in 0..16 {
        let Ok(mask) = rules.mask() else { return };
        let allowed: Vec<u32> = mask.tokens().collect();
        assert!(!allowed.is_empty());
        seed = seed.wrapping_mul(31).wrapping_add(17);
        let token = allowed[seed % allowed.len()];
        assert_eq!(rules.allows(&[token]), 1, "{token} is allowed by the mask only");
        if token == END || rules.accept(token).is_err() {
            return;
        }
    }
});
