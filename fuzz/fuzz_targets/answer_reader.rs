//! Any answer in any dialect is read without a panic, says the same however it is cut, and says no more than it is. Text
//! without thoughts and calls is kept as it is, and calls that hold the answer as a text are read back as they were.
//! The first byte chooses the dialect, the second one how the answer is cut.
#![no_main]

use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use samovar_core::generation::DELTAS_MAX;
use samovar_core::{Chat, Delta, FinishReason};
use samovar_prompt::dialect::{AnswerReader, Calls, Dialect, Form, Marks};
use serde_json::json;

const TOOLS: &str =
    r#"[{"name": "f", "parameters": {"properties": {"a": {"type": "string"}, "b": {"type": "integer"}}}}]"#;

fuzz_target!(|bytes: &[u8]| {
    let [which, cut, answer @ ..] = bytes else { return };
    let answer = String::from_utf8_lossy(answer);
    let dialect = Arc::new(dialect(*which));
    let opens_thinking = which & 0x80 != 0;
    let whole = read(&dialect, opens_thinking, &answer, usize::MAX);
    let pieces = read(&dialect, opens_thinking, &answer, usize::from(*cut) + 1);
    assert_eq!(whole, pieces, "{answer:?}");
    let said: usize = whole.iter().map(|delta| delta.text().len()).sum();
    // A control character takes six bytes in a string of JSON.
    assert!(said <= 6 * answer.len() + 64, "{said} of {answer:?}");
    let is_text = whole.iter().all(|delta| matches!(delta, Delta::Text(_)));
    let has_thought = opens_thinking || answer.contains("<think>") || dialect.calls.form == Form::Harmony;
    if is_text && !has_thought {
        let said: String = whole.iter().map(Delta::text).collect();
        assert_eq!(said, answer);
    }
    read_back(&dialect, &answer);
});

/// A call with this text as its argument is read as what it is.
fn read_back(dialect: &Arc<Dialect>, text: &str) {
    let arguments = json!({ "a": text }).to_string();
    let inside = match &dialect.calls.form {
        Form::Json { .. } => json!({ "name": "f", "arguments": { "a": text } }).to_string(),
        Form::Named { after_name, .. } => format!("f{after_name}{arguments}"),
        _ => return,
    };
    let Some(Marks { open, close }) = &dialect.calls.around_each else { return };
    let deltas = read(dialect, false, &format!("{open}{inside}{close}"), usize::MAX);
    let expected = [
        Delta::Call { index: 0, id: String::new(), name: "f".to_owned() },
        Delta::Arguments { index: 0, text: arguments },
    ];
    assert_eq!(deltas, expected);
}

/// Everything that is said, neighbours joined, without the ids of calls.
fn read(dialect: &Arc<Dialect>, opens_thinking: bool, answer: &str, most_bytes: usize) -> Vec<Delta> {
    let chat = Chat { tools: Some(TOOLS.to_owned()), ..Chat::new("[]", 0) };
    let mut reader = AnswerReader::new(Arc::clone(dialect), &chat, opens_thinking).expect("tools");
    let mut deltas = Vec::new();
    let mut rest = answer;
    while !rest.is_empty() {
        let most = rest.len().min(most_bytes);
        let end = (most..=rest.len()).find(|end| rest.is_char_boundary(*end)).unwrap_or(rest.len());
        let (piece, behind) = rest.split_at(end);
        let new = reader.push(piece);
        assert!(new.len() <= DELTAS_MAX);
        deltas.extend(new);
        rest = behind;
    }
    deltas.extend(reader.end(FinishReason::Length).0);
    let mut joined: Vec<Delta> = Vec::new();
    for delta in deltas {
        let is_more = match (joined.last_mut(), &delta) {
            (Some(Delta::Text(text)), Delta::Text(more))
            | (Some(Delta::Thinking(text)), Delta::Thinking(more)) => {
                text.push_str(more);
                true
            }
            (Some(Delta::Arguments { index, text }), Delta::Arguments { index: own, text: more })
                if *index == *own =>
            {
                text.push_str(more);
                true
            }
            _ => false,
        };
        match delta {
            _ if is_more => {}
            Delta::Call { index, name, .. } => joined.push(Delta::Call { index, id: String::new(), name }),
            delta => joined.push(delta),
        }
    }
    joined
}

fn dialect(which: u8) -> Dialect {
    let marks = |open: &str, close: &str| Some(Marks { open: open.to_owned(), close: close.to_owned() });
    let json = |is_array| Form::Json {
        name: "name".to_owned(),
        arguments: "arguments".to_owned(),
        id: None,
        inside: None,
        is_array,
    };
    let tagged = |marks: [&str; 6]| {
        let [before_name, after_name, before_key, after_key, after_value, after_arguments] =
            marks.map(str::to_owned);
        Form::Tagged { before_name, after_name, before_key, after_key, after_value, after_arguments }
    };
    let (around_all, around_each, form) = match which & 0x7f {
        0 => (None, marks("<c>", "</c>"), json(false)),
        1 => (None, None, json(false)),
        2 => (marks("<c>", ""), None, json(true)),
        3 => (None, None, json(true)),
        4 => {
            let named = Form::Named {
                before_name: String::new(),
                after_name: "[ARGS]".to_owned(),
                after_arguments: String::new(),
            };
            (None, marks("[CALL]", ""), named)
        }
        5 => {
            let form = tagged(["<f=", ">", "<p=", ">", "</p>", "</f>"]);
            (None, marks("<c>", "</c>"), form)
        }
        6 => {
            let form = tagged(["", "", "<k>", "</k>\n<v>", "</v>", ""]);
            (marks("<all>", "</all>"), marks("<c>", "</c>"), form)
        }
        7 => (marks("<c>", "</c>"), None, Form::Python),
        8 => (None, None, Form::Python),
        9 => {
            let form = tagged(["<f=", ">", "<p=", ">", "</p>", "</f>"]);
            (marks("<all>", "</all>"), None, form)
        }
        _ => (None, None, Form::Harmony),
    };
    let calls = Calls { around_all, around_each, between: String::new(), form };
    Dialect { thinking: marks("<think>", "</think>"), calls, knows_tools: true }
}
