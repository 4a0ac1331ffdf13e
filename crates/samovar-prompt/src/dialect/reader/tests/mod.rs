//! Answers as models write them, whole and cut at every place, and texts that are meant to do harm.

mod calls;
mod hostile;

use super::*;
use crate::dialect::{Calls, Marks};

/// Tools of every kind of argument.
const TOOLS: &str = r#"[
    {"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {
        "city": {"type": "string"}, "days": {"type": "integer"}, "wind": {"type": "boolean"},
        "unit": {"type": ["string", "null"]}, "tags": {"type": "array"}, "any": {}}}}},
    {"type": "function", "function": {"name": "get_time"}}
]"#;

pub(super) fn marks(open: &str, close: &str) -> Marks {
    Marks { open: open.to_owned(), close: close.to_owned() }
}

pub(super) fn json(arguments: &str, is_array: bool) -> Form {
    Form::Json { name: "name".to_owned(), arguments: arguments.to_owned(), id: None, inside: None, is_array }
}

pub(super) fn named(before_name: &str, after_name: &str, after_arguments: &str) -> Form {
    let [before_name, after_name, after_arguments] =
        [before_name, after_name, after_arguments].map(str::to_owned);
    Form::Named { before_name, after_name, after_arguments }
}

pub(super) fn tagged(marks: [&str; 6]) -> Form {
    let [before_name, after_name, before_key, after_key, after_value, after_arguments] =
        marks.map(str::to_owned);
    Form::Tagged { before_name, after_name, before_key, after_key, after_value, after_arguments }
}

/// A dialect with `<think>` as its thoughts' mark.
pub(super) fn dialect(around_all: Option<Marks>, around_each: Option<Marks>, form: Form) -> Dialect {
    let calls = Calls { around_all, around_each, between: String::new(), form };
    Dialect { thinking: Some(marks("<think>", "</think>")), calls, knows_tools: true }
}

pub(super) fn hermes() -> Dialect {
    dialect(None, Some(marks("<tool_call>", "</tool_call>")), json("arguments", false))
}

pub(super) fn coder() -> Dialect {
    let form = tagged(["<function=", ">", "<parameter=", ">", "</parameter>", "</function>"]);
    dialect(None, Some(marks("<tool_call>", "</tool_call>")), form)
}

pub(super) fn chat() -> Chat {
    Chat { tools: Some(TOOLS.to_owned()), ..Chat::new("[]", 0) }
}

pub(super) fn reader(dialect: &Dialect, chat: &Chat, opens_thinking: bool) -> AnswerReader {
    AnswerReader::new(Arc::new(dialect.clone()), chat, opens_thinking).unwrap()
}

/// What was said, in one line: `text|(thought)|name#0|#0 arguments`, and how it ended.
pub(super) fn said<'t>(mut reader: AnswerReader, pieces: impl IntoIterator<Item = &'t str>) -> String {
    let mut deltas = Vec::new();
    for piece in pieces {
        let new = reader.push(piece);
        assert!(new.len() <= DELTAS_MAX);
        deltas.extend(new);
    }
    let (rest, finish) = reader.end(FinishReason::Stop);
    deltas.extend(rest);
    let mut line = String::new();
    let mut last = None;
    for delta in deltas {
        let (kind, prefix, text) = match delta {
            Delta::Text(text) => (0, String::new(), text),
            Delta::Thinking(text) => (1, "~".to_owned(), text),
            Delta::Call { index, id, name } => {
                assert!(id.len() == 29 && id.starts_with("call_"), "{id}");
                (2, format!("{index}:"), name)
            }
            Delta::Arguments { index, text } => (3 + index, format!("{index}="), text),
        };
        if last != Some(kind) || kind == 2 {
            line.push_str(if last.is_some() { "|" } else { "" });
            line.push_str(&prefix);
            last = Some(kind);
        }
        line.push_str(&text);
    }
    if finish == FinishReason::ToolCalls {
        line.push_str("|calls");
    }
    line
}

/// The same, whole, cut at every place, and character by character.
pub(super) fn read_as(dialect: &Dialect, chat: &Chat, opens_thinking: bool, text: &str) -> String {
    let whole = said(reader(dialect, chat, opens_thinking), [text]);
    for cut in (0..text.len()).filter(|cut| text.is_char_boundary(*cut)) {
        let (first, rest) = text.split_at(cut);
        let cut_once = said(reader(dialect, chat, opens_thinking), [first, rest]);
        assert_eq!(cut_once, whole, "{first:?} + {rest:?}");
    }
    let chars = text.char_indices().map(|(at, c)| &text[at..at + c.len_utf8()]);
    assert_eq!(said(reader(dialect, chat, opens_thinking), chars), whole, "{text:?}");
    whole
}

pub(super) fn read(dialect: &Dialect, text: &str) -> String {
    read_as(dialect, &chat(), false, text)
}

#[test]
fn text_without_marks_is_as_it_was() {
    for text in ["", "hi", " \n hi  there \n", "a < b <thin", "{\"a\": 1}", "<|im_end|> \u{e9}\u{1f600}\n\n"]
    {
        assert_eq!(read(&hermes(), text), text);
    }
    let plain = Dialect { thinking: None, ..hermes() };
    assert_eq!(read_as(&plain, &Chat::new("[]", 0), false, " <think> <tool_call> "), " <think> <tool_call> ");
}

#[test]
fn thoughts_are_told_from_text() {
    let opened = |text: &str| read_as(&hermes(), &chat(), true, text);
    assert_eq!(
        read(&hermes(), "<think>\nso \n it </thin is\n</think>\n\nYes. "),
        "~so \n it </thin is|Yes. "
    );
    assert_eq!(opened("so\n</think>\nYes"), "~so|Yes");
    assert_eq!(opened("<think>so</think>Yes"), "~so|Yes");
    assert_eq!(opened("never ends \n"), "~never ends \n");
    assert_eq!(read(&hermes(), "<think></think>Yes"), "Yes");
    // A mark that is spoken of is none.
    assert_eq!(read(&hermes(), "It writes <think> first."), "It writes <think> first.");
    assert_eq!(read(&hermes(), "First.\n<think>hm</think>\nThen."), "First.|~hm|Then.");
}

#[test]
fn a_reader_says_what_ends_a_thought_and_which_tokens_it_needs() {
    let mut thinking = reader(&hermes(), &chat(), true);
    assert_eq!(thinking.thinking_close(), Some("\n</think>\n\n"));
    assert_eq!(thinking.thinking_end(), thinking.thinking_close());
    assert!(thinking.is_thinking());
    assert!(thinking.wants_special("</think>") && thinking.wants_special("<tool_call>"));
    assert!(!thinking.wants_special("<|im_end|>") && !thinking.wants_special(""));
    thinking.push("a</think>");
    assert!(!thinking.is_thinking());
    let deepseek = dialect(None, Some(marks("<c>", "</c>")), named("function<|sep|>", "```json", "```"));
    assert!(reader(&deepseek, &chat(), false).wants_special("<|sep|>"));
    let without = reader(&deepseek, &Chat::new("[]", 0), false);
    assert!(!without.wants_special("<|sep|>") && without.wants_special("<think>"));
}

#[test]
fn calls_are_looked_for_only_where_they_are_allowed() {
    let text = "<tool_call>{\"name\": \"weather\", \"arguments\": {}}</tool_call>";
    let none = Chat { tool_choice: samovar_core::ToolChoice::None, ..chat() };
    assert_eq!(read_as(&hermes(), &none, false, text), text);
    assert_eq!(read_as(&hermes(), &Chat::new("[]", 0), false, text), text);
    let failure =
        AnswerReader::new(Arc::new(hermes()), &Chat { tools: Some("{}".to_owned()), ..chat() }, false);
    assert_eq!(failure.unwrap_err().param.as_deref(), Some("tools"));
}

#[test]
fn one_call_ends_an_answer_where_no_second_one_is_allowed() {
    let single = Chat { parallel_tool_calls: false, ..chat() };
    let call = "<tool_call>{\"name\": \"weather\", \"arguments\": {}}</tool_call>";
    assert_eq!(read_as(&hermes(), &single, false, &format!("a {call}{call} b")), "a|0:weather|0={}|calls");
    let mut reader = reader(&hermes(), &single, false);
    reader.push("a <tool_call>{\"name\": \"weather\", \"arguments\": {");
    assert!(!reader.is_done());
    reader.push("}");
    assert!(reader.is_done());
}

#[test]
fn an_answer_that_breaks_off_keeps_its_reason_and_what_it_said() {
    let mut held = reader(&hermes(), &chat(), false);
    assert_eq!(held.push("Well <tool_call>{\"name\": \"wea"), [Delta::Text("Well".to_owned())]);
    let rest = Delta::Text(" <tool_call>{\"name\": \"wea".to_owned());
    assert_eq!(held.end(FinishReason::Length), (vec![rest], FinishReason::Length));
    let mut begun = reader(&hermes(), &chat(), false);
    let deltas = begun.push("<tool_call>{\"name\": \"weather\", \"arguments\": {\"city\": \"Os");
    assert!(
        matches!(&deltas[..], [Delta::Call { .. }, Delta::Arguments { text, .. }] if text == "{\"city\": \"Os")
    );
    assert_eq!(begun.end(FinishReason::Length), (vec![], FinishReason::Length));
    let mut stopped = reader(&hermes(), &chat(), false);
    stopped.push("<tool_call>{\"name\": \"weather\", \"arguments\": {\"city\": \"Os");
    assert_eq!(stopped.end(FinishReason::Stop).1, FinishReason::Stop);
    let mut whole = reader(&hermes(), &chat(), false);
    whole.push("<tool_call>{\"name\": \"weather\", \"arguments\": {}}\n</tool_");
    assert_eq!(whole.end(FinishReason::Length), (vec![], FinishReason::Length));
}

#[test]
fn deltas_that_are_too_many_for_one_piece_come_with_the_next() {
    let call = "<tool_call>{\"name\": \"weather\", \"arguments\": {}}</tool_call>";
    let mut reader = reader(&hermes(), &chat(), false);
    assert_eq!(reader.push(&call.repeat(50)).len(), DELTAS_MAX);
    assert_eq!(reader.push("x").len(), 2 * 50 + 1 - DELTAS_MAX);
    let ids = said(self::reader(&hermes(), &chat(), false), [call.repeat(3).as_str()]);
    assert_eq!(ids, "0:weather|0={}|1:weather|1={}|2:weather|2={}|calls");
}
