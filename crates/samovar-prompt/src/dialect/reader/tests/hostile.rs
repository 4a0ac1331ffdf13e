//! Texts that are meant to cost much.

use super::*;

/// More than is ever held back.
const LONG: usize = 80_000;

/// Reads a long text in pieces, and gives the bytes of all that was said.
fn bytes_said(dialect: &Dialect, text: &str) -> usize {
    let mut reader = reader(dialect, &chat(), false);
    let mut said = 0;
    let mut rest = text;
    while !rest.is_empty() {
        let end = (1..=rest.len().min(7)).rev().find(|end| rest.is_char_boundary(*end)).unwrap_or(rest.len());
        let (piece, behind) = rest.split_at(end);
        let deltas = reader.push(piece);
        assert!(deltas.len() <= DELTAS_MAX);
        said += deltas.iter().map(|delta| delta.text().len()).sum::<usize>();
        rest = behind;
    }
    said + reader.end(FinishReason::Length).0.iter().map(|delta| delta.text().len()).sum::<usize>()
}

fn dialects() -> Vec<Dialect> {
    vec![
        hermes(),
        coder(),
        dialect(None, None, json("parameters", true)),
        dialect(Some(marks("<tool_call>", "</tool_call>")), None, Form::Python),
        dialect(None, Some(marks("<tool_call>", "")), named("", "[ARGS]", "")),
        dialect(None, None, Form::Harmony),
    ]
}

#[test]
fn long_texts_of_marks_and_brackets_say_no_more_than_they_are() {
    let texts = [
        "<tool_call>",
        "<tool_call>{",
        "<tool_call>{\"a\": \"",
        "<tool_call>{\"a\": [[",
        "<tool_call><function=f><parameter=a>",
        "[f(a=",
        "[f(a=(",
        "<think>",
        "<tool_call",
        " ",
        "{\"name\": \"",
        "<|channel|>",
        "<|start|>assistant to=functions.f<|message|> ",
    ];
    for text in texts {
        let long = text.repeat(LONG / text.len());
        for dialect in dialects() {
            // Whatever it becomes: escapes take one more byte each.
            let said = bytes_said(&dialect, &long);
            assert!(said <= 2 * long.len() + 64, "{text:?}: {said}");
        }
    }
}

#[test]
fn a_call_that_never_begins_is_text_after_a_while() {
    for opening in
        ["<tool_call>{\"a\": \"", "<tool_call>{\"arguments\": {\"a\": \"", "<tool_call>{\"a\": {\"b\": \""]
    {
        let mut reader = reader(&hermes(), &chat(), false);
        assert!(reader.push(opening).is_empty());
        let mut held = opening.len();
        let piece = "x".repeat(1000);
        while reader.push(&piece).is_empty() {
            held += piece.len();
            assert!(held <= HELD_MAX_BYTES, "{opening}");
        }
        assert_eq!(reader.push("y"), [Delta::Text("y".to_owned())]);
    }
}

#[test]
fn long_arguments_are_said_as_they_arrive() {
    let mut reader = reader(&hermes(), &chat(), false);
    reader.push("<tool_call>{\"name\": \"f\", \"arguments\": {\"a\": \"");
    for _ in 0..LONG / 100 {
        let piece = "x".repeat(100);
        assert_eq!(reader.push(&piece), [Delta::Arguments { index: 0, text: piece }]);
    }
    let text = "<tool_call><function=weather><parameter=days>".to_owned() + &"1".repeat(LONG);
    let long = said(self::reader(&coder(), &chat(), false), [text.as_str()]);
    assert!(long.len() > LONG && long.starts_with("0:weather|0={\"days\": \"111"), "{}", long.len());
}

#[test]
fn names_and_calls_have_bounds() {
    let call = |name: &str| format!("<tool_call>{{\"name\": \"{name}\", \"arguments\": {{}}}}</tool_call>");
    let longest = "n".repeat(256);
    assert_eq!(read(&hermes(), &call(&longest)), format!("0:{longest}|0={{}}|calls"));
    let too_long = call(&(longest + "n"));
    assert_eq!(said(reader(&hermes(), &chat(), false), [too_long.as_str()]), too_long);
    let many = call("f").repeat(130);
    let said = said(reader(&hermes(), &chat(), false), [many.as_str()]);
    assert!(said.contains("|127:f|127={}|<tool_call>{") && !said.contains("128:f"), "{said}");
    assert!(said.ends_with(&(call("f").repeat(2) + "|calls")), "{said}");
}
