//! Every form of calls.

use super::*;

const WEATHER: &str = r#"{"name": "weather", "arguments": {"city": "Oslo \"}", "days": 2}}"#;
const SAID: &str = r#"0:weather|0={"city": "Oslo \"}", "days": 2}"#;

#[test]
fn json_between_marks() {
    let hermes = hermes();
    let call = format!("<tool_call>\n{WEATHER}\n</tool_call>");
    assert_eq!(read(&hermes, &call), format!("{SAID}|calls"));
    assert_eq!(read(&hermes, &format!("Sure. \n{call}\n\nDone.")), format!("Sure.|{SAID}|Done.|calls"));
    let thought = format!("<think>\nhm\n</think>\n\n{call}");
    assert_eq!(read(&hermes, &thought), format!("~hm|{SAID}|calls"));
    let two = format!("{call}\n<tool_call>{{\"name\":\"get_time\"}}</tool_call>");
    assert_eq!(read(&hermes, &two), format!("{SAID}|1:get_time|1={{}}|calls"));
    // In one pair of marks, and in a list.
    let list =
        "<tool_call>[{\"name\": \"a\", \"arguments\": {}}, {\"name\": \"b\", \"arguments\": {}}]</tool_call>";
    assert_eq!(read(&hermes, list), "0:a|0={}|1:b|1={}|calls");
    let lines =
        "<tool_call>{\"name\": \"a\", \"arguments\": {}}\n{\"name\": \"b\", \"arguments\": {}}</tool_call>";
    assert_eq!(read(&hermes, lines), "0:a|0={}|1:b|1={}|calls");
    // The mark behind the call was forgotten.
    assert_eq!(read(&hermes, &format!("<tool_call>{WEATHER}")), format!("{SAID}|calls"));
    assert_eq!(read(&hermes, &format!("<tool_call>{WEATHER} x</tool_call>")), format!("{SAID}|x|calls"));
}

#[test]
fn fields_come_in_any_order_and_arguments_may_be_text() {
    let hermes = hermes();
    let read = |call: &str| read(&hermes, &format!("<tool_call>{call}</tool_call>"));
    assert_eq!(read(r#"{"arguments": {"a": [1]}, "id": 5, "name": "f"}"#), r#"0:f|0={"a": [1]}|calls"#);
    assert_eq!(
        read(r#"{"name": "f", "arguments": "{\"a\": \"\\u00e9\\n\"}"}"#),
        r#"0:f|0={"a": "\u00e9\n"}|calls"#
    );
    assert_eq!(read(r#"{"arguments": " {\"a\":1} ", "name": "f"}"#), r#"0:f|0={"a":1} |calls"#);
    assert_eq!(read(r#"{"name": "f", "arguments": ""}"#), "0:f|0={}|calls");
    assert_eq!(read(r#"{"name": "f", "arguments": null}"#), "0:f|0={}|calls");
    assert_eq!(read(r#"{"name": "f", "parameters": {"a": 1}}"#), r#"0:f|0={"a": 1}|calls"#);
    assert_eq!(read(r#"{"type": "function", "name": "f", "arguments": {}, "x": "}"}"#), "0:f|0={}|calls");
    assert_eq!(read(r#"{"name": "\u0066", "arguments": {}}"#), "0:f|0={}|calls");
}

#[test]
fn fields_have_the_names_of_the_dialect() {
    let form = Form::Json {
        name: "tool_name".to_owned(),
        arguments: "parameters".to_owned(),
        id: Some("tool_call_id".to_owned()),
        inside: None,
        is_array: true,
    };
    let command = dialect(Some(marks("<|START_ACTION|>", "<|END_ACTION|>")), None, form);
    let text = "<|START_ACTION|>[\n  {\"tool_call_id\": \"0\", \"tool_name\": \"f\", \"parameters\": {\"a\": 1}},\n  \
                {\"tool_call_id\": \"1\", \"tool_name\": \"g\", \"parameters\": {}}\n]<|END_ACTION|>";
    assert_eq!(read(&command, text), "0:f|0={\"a\": 1}|1:g|1={}|calls");
    let form = Form::Json {
        name: "name".to_owned(),
        arguments: "arguments".to_owned(),
        id: Some("id".to_owned()),
        inside: Some("function".to_owned()),
        is_array: true,
    };
    let inside = dialect(Some(marks("[TOOL_CALLS]", "")), None, form);
    let text = r#"[TOOL_CALLS] [{"type": "function", "function": {"name": "f", "arguments": {"a": 1}}, "id": "abc"}]"#;
    assert_eq!(read(&inside, text), "0:f|0={\"a\": 1}|calls");
}

#[test]
fn json_without_marks_is_a_call_only_where_it_is_one() {
    let llama = dialect(None, None, json("parameters", false));
    assert_eq!(read(&llama, r#"{"name": "f", "parameters": {"a": 1}}"#), r#"0:f|0={"a": 1}|calls"#);
    assert_eq!(
        read(&llama, "\n{\"name\": \"f\", \"parameters\": {}}\n{\"name\": \"g\", \"parameters\": {}}"),
        "0:f|0={}|1:g|1={}|calls"
    );
    assert_eq!(read(&llama, r#"{"name": "get_time"}"#), "0:get_time|0={}|calls");
    for text in [
        r#"{"name": "Ada", "born": 1815}"#,
        r#"{"name": "Ada"}"#,
        r#" {"city": {"name": "f", "parameters": {}}}"#,
        r#"Write {"name": "f", "parameters": {}}"#,
        "{}",
        "{ x }",
        "{",
    ] {
        assert_eq!(read(&llama, text), text);
    }
    let tagged = dialect(Some(marks("<|python_tag|>", "")), None, json("parameters", false));
    let tagged = Dialect { calls: Calls { between: ";".to_owned(), ..tagged.calls }, ..tagged };
    let call = r#"{"name": "f", "parameters": {}}"#;
    assert_eq!(read(&tagged, call), "0:f|0={}|calls");
    assert_eq!(read(&tagged, &format!("<|python_tag|>{call}; {call}")), "0:f|0={}|1:f|1={}|calls");
}

#[test]
fn names_before_json() {
    let mistral = dialect(None, Some(marks("[TOOL_CALLS]", "")), named("", "[ARGS]", ""));
    let text = "I look.[TOOL_CALLS]f[ARGS]{\"a\": 1}[TOOL_CALLS]g[ARGS]{}";
    assert_eq!(read(&mistral, text), "I look.|0:f|0={\"a\": 1}|1:g|1={}|calls");
    let with_id = dialect(None, Some(marks("[TOOL_CALLS]", "")), named("", "[CALL_ID]", ""));
    assert_eq!(read(&with_id, "[TOOL_CALLS]f[CALL_ID]abcdefghi[ARGS]{\"a\": 1}"), "0:f|0={\"a\": 1}|calls");
    assert_eq!(read(&with_id, "[TOOL_CALLS]f[CALL_ID]abcdefghi{}"), "0:f|0={}|calls");
    let functionary = dialect(None, None, named("<function=", ">", "</function>"));
    assert_eq!(
        read(&functionary, "<function=f>{\"a\": 1}</function><function=g></function> ok"),
        "0:f|0={\"a\": 1}|1:g|1={}|ok|calls"
    );
    let deepseek = dialect(
        Some(marks("<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>")),
        Some(marks("<｜tool▁call▁begin｜>", "<｜tool▁call▁end｜>")),
        named("function<｜tool▁sep｜>", "```json", "```"),
    );
    let call = "<｜tool▁call▁begin｜>function<｜tool▁sep｜>f\n```json\n{\"a\": 1}\n```<｜tool▁call▁end｜>";
    let text = format!("<｜tool▁calls▁begin｜>{call}\n{call}<｜tool▁calls▁end｜>");
    assert_eq!(read(&deepseek, &text), "0:f|0={\"a\": 1}|1:f|1={\"a\": 1}|calls");
    let kimi = dialect(
        Some(marks("<|begin|>", "<|end|>")),
        Some(marks("<|call|>", "<|call_end|>")),
        named("functions.", ":", ""),
    );
    let text = "<|begin|><|call|>functions.f:0<|argument|>{\"a\": 1}<|call_end|><|call|>functions.g:1{}<|call_end|><|end|>";
    assert_eq!(read(&kimi, text), "0:f|0={\"a\": 1}|1:g|1={}|calls");
    for text in
        ["[TOOL_CALLS]two words[ARGS]{}", "[TOOL_CALLS][ARGS]{}", "[TOOL_CALLS]f[ARGS][1]", "[TOOL_CALLS]f"]
    {
        assert_eq!(read(&mistral, text), text);
    }
}

#[test]
fn arguments_between_marks_have_the_types_of_the_schema() {
    let call = "<tool_call>\n<function=weather>\n<parameter=city>\nSão \"Paulo\"\n\\ <b\n</parameter>\n\
                <parameter=days>\n2\n</parameter>\n<parameter=wind>\nTrue\n</parameter>\n<parameter=unit>\nnull\n</parameter>\n\
                <parameter=tags>\n[\"a\", 1]\n</parameter>\n<parameter=any>\nit is\n</parameter>\n</function>\n</tool_call>";
    let arguments = r#"{"city": "São \"Paulo\"\n\\ <b", "days": 2, "wind": true, "unit": null, "tags": ["a", 1], "any": "it is"}"#;
    assert_eq!(read(&coder(), call), format!("0:weather|0={arguments}|calls"));
    assert!(serde_json::from_str::<serde_json::Value>(arguments).is_ok());
    let one = |key: &str, value: &str| {
        let text = format!(
            "<tool_call><function=weather><parameter={key}>{value}</parameter></function></tool_call>"
        );
        read(&coder(), &text)
    };
    assert_eq!(one("city", "5"), r#"0:weather|0={"city": "5"}|calls"#);
    assert_eq!(one("days", "many"), r#"0:weather|0={"days": "many"}|calls"#);
    assert_eq!(one("unit", "5"), r#"0:weather|0={"unit": "5"}|calls"#);
    assert_eq!(one("unknown", "5"), r#"0:weather|0={"unknown": 5}|calls"#);
    assert_eq!(one("city", ""), r#"0:weather|0={"city": ""}|calls"#);
    assert_eq!(one("city", "\na\n\nb\n\n"), r#"0:weather|0={"city": "a\n\nb\n"}|calls"#);
    let none = "<tool_call><function=get_time>\n</function></tool_call>";
    assert_eq!(read(&coder(), none), "0:get_time|0={}|calls");
    let twice =
        "<tool_call><function=f><parameter=a>1</parameter><parameter=a>2</parameter></function></tool_call>";
    assert_eq!(read(&coder(), twice), r#"0:f|0={"a": 1}|calls"#);
    // What breaks off within the call is text behind it, and the call is what was said of it.
    let broken = "<tool_call><function=f><parameter=a>1</parameter>oops</tool_call>";
    assert_eq!(read(&coder(), broken), r#"0:f|0={"a": 1}|oops|calls"#);
}

#[test]
fn a_name_may_end_with_its_line() {
    let form = tagged(["", "", "<arg_key>", "</arg_key>\n<arg_value>", "</arg_value>", ""]);
    let glm = dialect(None, Some(marks("<tool_call>", "</tool_call>")), form);
    let call = "<tool_call>weather\n<arg_key>city</arg_key>\n<arg_value>Oslo</arg_value>\n<arg_key>days</arg_key>\
                <arg_value>2</arg_value>\n</tool_call>\n<tool_call>get_time</tool_call>";
    let expected = r#"0:weather|0={"city": "Oslo", "days": 2}|1:get_time|1={}|calls"#;
    assert_eq!(read(&glm, call), expected);
    assert_eq!(read(&glm, "<tool_call>no tool here</tool_call>"), "<tool_call>no tool here</tool_call>");
}

#[test]
fn several_names_stand_within_one_pair_of_marks() {
    let form = tagged(["<invoke name=\"", "\">", "<parameter name=\"", "\">", "</parameter>", "</invoke>"]);
    let all = dialect(Some(marks("<calls>", "</calls>")), None, form);
    let call = "<invoke name=\"weather\">\n<parameter name=\"city\">Oslo</parameter>\n</invoke>\n";
    let other = "<invoke name=\"get_time\">\n</invoke>\n";
    let both = r#"0:weather|0={"city": "Oslo"}|1:get_time|1={}"#;
    assert_eq!(read(&all, &format!("<calls>\n{call}{other}</calls>")), format!("{both}|calls"));
    // Also behind text, and behind what is no call.
    let said = r#"0:weather|0={"city": "Oslo"}|and|1:get_time|1={}|calls"#;
    assert_eq!(read(&all, &format!("<calls>{call}and {other}</calls>")), said);
    let said = r#"0:weather|0={"city": "Oslo"}|<invoke name=" ">|1:get_time|1={}|calls"#;
    assert_eq!(read(&all, &format!("<calls>{call}<invoke name=\" \">{other}</calls>")), said);
    // Outside of the marks, a name is text.
    assert_eq!(read(&all, other), other);
    assert_eq!(
        read(&all, &format!("<calls>{call}</calls>\n{other}")),
        format!("0:weather|0={{\"city\": \"Oslo\"}}|{other}|calls")
    );
}

#[test]
fn python_calls_have_json_for_arguments() {
    let lfm = dialect(Some(marks("<|tool_call_start|>", "<|tool_call_end|>")), None, Form::Python);
    let text = "<|tool_call_start|>[weather(city='O\\'Hare, (x)', days=2, wind=True), get_time()]<|tool_call_end|>It";
    let expected = r#"0:weather|0={"city": "O'Hare, (x)", "days": 2, "wind": true}|1:get_time|1={}|It|calls"#;
    assert_eq!(read(&lfm, text), expected);
    assert_eq!(
        read(&lfm, "<|tool_call_start|>[weather(\"Oslo\", tags=[{'a': None}])]<|tool_call_end|>"),
        r#"0:weather|0={"city": "Oslo", "tags": [{"a": null}]}|calls"#
    );
    let bare = dialect(None, None, Form::Python);
    assert_eq!(read(&bare, "[f(a=1), g(b=x + 1)]"), r#"0:f|0={"a": 1}|1:g|1={"b": "x + 1"}|calls"#);
    for text in ["[1, 2]", "[a link](https://x)", "[f(1)]", "[f", "f(a=1)"] {
        assert_eq!(read(&bare, text), text);
    }
}

#[test]
fn channels_and_recipients() {
    let harmony = Dialect {
        thinking: Some(marks("<|channel|>analysis<|message|>", "<|end|>")),
        ..dialect(None, None, Form::Harmony)
    };
    let text = "<|channel|>analysis<|message|>Think <|x.<|end|><|start|>assistant<|channel|>commentary \
                to=functions.weather <|constrain|>json<|message|>{\"city\": \"Oslo\"}<|call|>";
    assert_eq!(read(&harmony, text), "~Think <|x.|0:weather|0={\"city\": \"Oslo\"}|calls");
    assert_eq!(read(&harmony, "<|channel|>final<|message|>Hi<|return|>"), "Hi");
    let recipient_first = " to=functions.f<|channel|>commentary json<|message|>{}<|call|>";
    assert_eq!(read(&harmony, recipient_first), "0:f|0={}|calls");
    let preamble = "<|channel|>commentary<|message|>I look.<|end|><|start|>assistant<|channel|>commentary \
                    to=functions.f<|message|>{\"a\": 1}";
    assert_eq!(read(&harmony, preamble), "I look.|0:f|0={\"a\": 1}|calls");
    assert_eq!(read(&harmony, "no channel < at all"), "no channel < at all");
    let opened = "so<|end|><|start|>assistant<|channel|>final<|message|>Yes";
    assert_eq!(read_as(&harmony, &chat(), true, opened), "~so|Yes");
    let wrong = "<|channel|>commentary to=functions.f<|message|>no JSON";
    assert_eq!(read(&harmony, wrong), wrong);
    let mut reader = reader(&harmony, &chat(), true);
    assert!(
        reader.thinking_close().is_some_and(|close| close.starts_with("<|end|>") && close.contains("final"))
    );
    let end = reader.thinking_end().unwrap().to_owned();
    assert!(reader.thinking_close().unwrap().starts_with(&end) && reader.is_thinking());
    reader.push(&end);
    assert!(!reader.is_thinking(), "the grammar writes the rest");
    assert!(reader.wants_special("<|constrain|>") && !reader.wants_special("<|endoftext|>"));
}

#[test]
fn what_is_no_call_is_text_with_its_marks() {
    for text in [
        "<tool_call>",
        "<tool_call>\nweather in Oslo</tool_call>",
        "<tool_call>{\"name\": 5}</tool_call>",
        "<tool_call>{\"arguments\": {}}</tool_call>",
        "<tool_call>{\"name\": \"f\", \"arguments\": 5}</tool_call>",
        "<tool_call>{\"name\": \"f\", \"arguments\": \"Oslo\"}</tool_call>",
        "a <tool_call><tool_call> b",
        "x </tool_call>",
    ] {
        assert_eq!(read(&hermes(), text), text);
    }
    // Another mark within what is none counts.
    let again = format!("<tool_call> <tool_call>{WEATHER}</tool_call>");
    assert_eq!(read(&hermes(), &again), format!("<tool_call>|{SAID}|calls"));
    for text in ["<tool_call><function=>", "<tool_call><function=a b>x", "<tool_call><function=f>x"] {
        assert_eq!(read(&coder(), text), text);
    }
}

#[test]
fn broken_arguments_end_before_the_mark() {
    let text = "<tool_call>{\"name\": \"f\", \"arguments\": {\"a\": [1}</tool_call>\nText";
    assert_eq!(read(&hermes(), text), "0:f|0={\"a\": [1}|Text|calls");
    let more = format!("<tool_call>{WEATHER}}}</tool_call> Text");
    assert_eq!(read(&hermes(), &more), format!("{SAID}|}}Text|calls"));
}
