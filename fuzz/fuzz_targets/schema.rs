//! Any text as a JSON schema, a GBNF grammar, a Lark grammar, or the schema of a tool's arguments in each form of calls is
//! compiled or refused: no panic, within seconds, and its masks follow the tokens that they allow. The first byte says which of
//! them the rest is, and seeds the choice of tokens.
#![no_main]

use std::sync::LazyLock;
use std::time::{Duration, Instant};

use libfuzzer_sys::fuzz_target;
use samovar_core::{Chat, Constraint, ErrorKind, ToolChoice};
use samovar_grammar::{Grammar, Vocabulary, VocabularyToken};
use samovar_prompt::dialect::{Calls, Dialect, Form, Marks, answer_grammar};
use serde_json::{Value, json};

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
    let grammar = match kind % 5 {
        0 => Grammar::Constraint(Constraint::JsonSchema(text)),
        1 => Grammar::Constraint(Constraint::Gbnf(text)),
        2 => Grammar::Constraint(Constraint::Lark(text)),
        3 => Grammar::Constraint(Constraint::Regex(text)),
        _ => match of_tool(kind / 5, &text) {
            Some(grammar) => grammar,
            None => return,
        },
    };
    let began = Instant::now();
    let compiled = VOCABULARY.compile(&grammar, "grammar", &|| true);
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

/// What an answer must be that calls a tool with such arguments: strict or not, in one of the forms of calls.
fn of_tool(which: u8, schema: &str) -> Option<Grammar> {
    let parameters: Value = serde_json::from_str(schema).ok()?;
    let tools = json!([{ "name": "f", "strict": which % 2 == 0, "parameters": parameters }]);
    let chat =
        Chat { tools: Some(tools.to_string()), tool_choice: ToolChoice::Required, ..Chat::new("[]", 0) };
    let mark = |text: &str| text.to_owned();
    let form = match which / 2 % 3 {
        0 => Form::Json {
            name: mark("name"),
            arguments: mark("arguments"),
            id: None,
            inside: None,
            is_array: false,
        },
        1 => Form::Tagged {
            before_name: mark("<f="),
            after_name: mark(">"),
            before_key: mark("<p="),
            after_key: mark(">"),
            after_value: mark("</p>"),
            after_arguments: mark("</f>"),
        },
        _ => Form::Python,
    };
    let around_each = Some(Marks { open: mark("<c>"), close: mark("</c>") });
    let calls = Calls { around_all: None, around_each, between: String::new(), form };
    let dialect = Dialect { thinking: None, calls, knows_tools: true };
    match answer_grammar(&dialect, &chat, None, false, &|_| None) {
        Ok(grammar) => grammar.map(Grammar::Lark),
        Err(failure) => {
            assert_eq!(failure.kind, ErrorKind::InvalidRequest, "{failure}");
            assert!(failure.message.len() < 4096);
            None
        }
    }
}
