//! What grammars say; whether llguidance takes them is tested where it is used.

use super::*;
use crate::dialect::Calls;

const TOOLS: &str = r##"[
    {"type": "function", "function": {"name": "weather", "strict": true, "parameters": {"type": "object",
        "properties": {"city": {"type": "string"}, "days": {"type": "integer"}, "unit": {"enum": ["C", "F"]}},
        "required": ["city"], "additionalProperties": false}}},
    {"type": "function", "function": {"name": "get_time", "parameters": {"type": "object", "not": {},
        "description": "told", "properties": {"zone": {"$ref": "#/$defs/zone"}}, "$defs": {"zone": {"type": "string"}}}}}
]"##;

fn marks(open: &str, close: &str) -> Marks {
    Marks { open: open.to_owned(), close: close.to_owned() }
}

fn json_form(is_array: bool) -> Form {
    let (name, arguments) = ("name".to_owned(), "arguments".to_owned());
    Form::Json { name, arguments, id: None, inside: None, is_array }
}

fn dialect(around_all: Option<Marks>, around_each: Option<Marks>, form: Form) -> Dialect {
    let calls = Calls { around_all, around_each, between: String::new(), form };
    Dialect { thinking: None, calls, knows_tools: true }
}

fn hermes() -> Dialect {
    dialect(None, Some(marks("<tool_call>", "</tool_call>")), json_form(false))
}

fn chat(tool_choice: ToolChoice) -> Chat {
    Chat { tools: Some(TOOLS.to_owned()), tool_choice, ..Chat::new("[]", 0) }
}

/// The grammar where no mark is a control token.
fn written(dialect: &Dialect, chat: &Chat, constraint: Option<&Constraint>) -> String {
    answer_grammar(dialect, chat, constraint, false, &|_| None).unwrap().unwrap()
}

fn rule<'g>(grammar: &'g str, name: &str) -> &'g str {
    let found = grammar.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
    found.unwrap_or_else(|| panic!("no {name} in {grammar}"))
}

#[test]
fn text_is_free_until_the_mark() {
    let grammar = written(&hermes(), &chat(ToolChoice::Auto), None);
    assert!(grammar.contains("r0[lazy]: TEXT \"<tool_call>\"\n"), "{grammar}");
    assert_eq!(rule(&grammar, "start"), "r5* TEXT");
    assert_eq!(rule(&grammar, "r5"), "r0 WS? call WS? \"</tool_call>\"");
    assert_eq!(rule(&grammar, "call"), "r2 | r4");
    let weather = rule(&grammar, "r2");
    assert!(weather.contains(r#""\"name\": \"weather\", \"arguments\": " r1"#), "{weather}");
    let single = Chat { parallel_tool_calls: false, ..chat(ToolChoice::Auto) };
    assert_eq!(rule(&written(&hermes(), &single, None), "start"), "( TEXT | r5 )");
}

#[test]
fn a_model_whose_template_knows_no_tools_is_made_to_call_once() {
    let untaught = Dialect { knows_tools: false, ..hermes() };
    for choice in [ToolChoice::Required, ToolChoice::Named("weather".to_owned())] {
        let several = chat(choice.clone());
        let single = Chat { parallel_tool_calls: false, ..chat(choice) };
        assert_eq!(written(&untaught, &several, None), written(&hermes(), &single, None));
        assert_ne!(written(&hermes(), &several, None), written(&hermes(), &single, None));
    }
    let auto = chat(ToolChoice::Auto);
    assert_eq!(written(&untaught, &auto, None), written(&hermes(), &auto, None));
}

#[test]
fn schemas_are_kept_where_they_are_strict_and_loosened_where_not() {
    let grammar = written(&hermes(), &chat(ToolChoice::Required), None);
    let strict = rule(&grammar, "r0").strip_prefix("%json ").unwrap();
    let strict: Value = serde_json::from_str(strict).unwrap();
    assert_eq!(strict["additionalProperties"], Value::Bool(false));
    let loosened = rule(&grammar, "r2").strip_prefix("%json ").unwrap();
    let loosened: Value = serde_json::from_str(loosened).unwrap();
    assert!(loosened.get("not").is_none() && loosened.get("description").is_none(), "{loosened}");
    assert_eq!(loosened["properties"]["zone"]["$ref"], "#/$defs/zone");
}

#[test]
fn objects_that_name_their_properties_have_no_others() {
    let closed = |mut schema: Value| {
        values::close(&mut schema);
        schema
    };
    let (text, named) = (serde_json::json!({ "type": "string" }), "additionalProperties");
    let nested = serde_json::json!({
        "properties": {
            "at": { "properties": { "x": text } },
            "all": { "type": "array", "items": { "properties": { "x": text } } },
            "any": { "anyOf": [{ "properties": { "x": text } }, { "$ref": "#/$defs/a" }] },
            "properties": { "type": "object" },
        },
        "$defs": { "a": { "properties": { "x": text } } },
    });
    let nested = closed(nested);
    for place in ["", "/properties/at", "/properties/all/items", "/properties/any/anyOf/0", "/$defs/a"] {
        assert_eq!(nested.pointer(place).unwrap()[named], Value::Bool(false), "{place}: {nested}");
    }
    assert!(nested["properties"].get(named).is_none(), "{nested}");
    assert!(nested["properties"]["properties"].get(named).is_none(), "{nested}");
    for free in [
        serde_json::json!({ "type": "object" }),
        serde_json::json!({ "type": "object", "items": { "type": "object", "properties": {} } }),
        serde_json::json!({ "properties": { "x": text }, named: true }),
        serde_json::json!({ "properties": { "x": text }, named: text }),
        serde_json::json!({ "properties": { "x": text }, "patternProperties": { "^y": text } }),
        serde_json::json!({ "properties": { "x": text }, "required": ["x", "y"] }),
        serde_json::json!({ "properties": { "x": text }, "anyOf": [{ "properties": { "y": text } }] }),
        serde_json::json!({ "allOf": [{ "properties": { "x": text } }, { "properties": { "y": text } }] }),
        serde_json::json!({ "required": ["y"], "$ref": "#/$defs/a", "$defs": { "a": { "properties": { "x": text } } } }),
        serde_json::json!({ "properties": { "x": text }, "minProperties": 2 }),
    ] {
        assert_eq!(closed(free.clone()), free);
    }
    assert_eq!(closed(serde_json::json!({ "properties": {} }))[named], Value::Bool(false));
    // It reaches the grammar, whether a tool is strict or not.
    let grammar = written(&hermes(), &chat(ToolChoice::Named("get_time".to_owned())), None);
    let schema: Value = serde_json::from_str(rule(&grammar, "r0").strip_prefix("%json ").unwrap()).unwrap();
    assert_eq!(schema[named], Value::Bool(false), "{schema}");
}

#[test]
fn a_loosened_schema_says_that_what_it_left_out_may_name_other_properties() {
    let schema = serde_json::json!({
        "properties": { "x": { "properties": { "y": true }, "patternProperties": { "^z": true } } },
        "required": ["x"],
        "additionalProperties": false,
        "allOf": [{ "properties": { "w": true } }],
    });
    let loosened = values::json(&schema, false);
    let loosened: Value = serde_json::from_str(loosened.strip_prefix("%json ").unwrap()).unwrap();
    let expected = serde_json::json!({
        "properties": { "x": { "properties": { "y": true }, "additionalProperties": true } },
        "required": ["x"],
        "additionalProperties": false,
    });
    assert_eq!(loosened, expected);
}

#[test]
fn a_call_can_be_demanded_and_named() {
    let grammar = written(&hermes(), &chat(ToolChoice::Required), None);
    assert_eq!(rule(&grammar, "start"), "WS? r4");
    assert!(
        rule(&grammar, "r4")
            .starts_with("\"<tool_call>\" WS? call WS? \"</tool_call>\" ( WS? \"<tool_call>\"")
    );
    let named = written(&hermes(), &chat(ToolChoice::Named("get_time".to_owned())), None);
    assert!(named.contains("get_time") && !named.contains("weather"), "{named}");
    let failure = answer_grammar(&hermes(), &chat(ToolChoice::Named("x".to_owned())), None, false, &|_| None)
        .unwrap_err();
    assert_eq!((failure.kind, failure.param.as_deref()), (ErrorKind::InvalidRequest, Some("tool_choice")));
}

#[test]
fn control_tokens_are_written_by_their_ids() {
    let special = |text: &str| (text == "<tool_call>").then_some(42);
    let grammar = answer_grammar(&hermes(), &chat(ToolChoice::Auto), None, false, &special).unwrap().unwrap();
    assert!(grammar.contains("TEXT <[42]> WS? call WS? \"</tool_call>\""), "{grammar}");
}

#[test]
fn a_thought_that_the_model_may_open_comes_first() {
    let thinking = Dialect { thinking: Some(marks("<think>", "</think>")), ..hermes() };
    let grammar = written(&thinking, &chat(ToolChoice::Auto), None);
    assert_eq!(rule(&grammar, "thought"), "WS? \"<think>\" r0");
    assert_eq!(rule(&grammar, "FREE"), "TEXT & ~THOUGHT");
    assert!(
        rule(&grammar, "start").starts_with("thought? r") && grammar.contains("[lazy]: FREE \"<tool_call>\"")
    );
    let json = written(&thinking, &Chat::new("[]", 0), Some(&Constraint::JsonObject));
    assert_eq!(rule(&json, "start"), "thought? WS? %json {\"type\":\"object\"}");
    // Not where the prompt has opened one, or the request wants none.
    let opened =
        answer_grammar(&thinking, &Chat::new("[]", 0), Some(&Constraint::JsonObject), true, &|_| None);
    assert_eq!(opened, Ok(None));
    let off = Chat { arguments: Some(r#"{"enable_thinking": false}"#.to_owned()), ..Chat::new("[]", 0) };
    let off = answer_grammar(&thinking, &off, Some(&Constraint::JsonObject), false, &|_| None);
    assert_eq!(off, Ok(None));
}

#[test]
fn an_answer_is_calls_or_what_a_constraint_allows() {
    let schema = Constraint::JsonSchema(r#"{"type": "array"}"#.to_owned());
    let grammar = written(&hermes(), &chat(ToolChoice::Auto), Some(&schema));
    assert_eq!(rule(&grammar, "start"), "WS? ( r4 | %json {\"type\":\"array\"} )");
    let regex = Constraint::Regex("a/b".to_owned());
    assert!(
        rule(&written(&hermes(), &chat(ToolChoice::Auto), Some(&regex)), "start").ends_with(r"| /a\/b/ )")
    );
    let gbnf = Constraint::Gbnf("root ::= \"a\"".to_owned());
    let failure =
        answer_grammar(&hermes(), &chat(ToolChoice::Auto), Some(&gbnf), false, &|_| None).unwrap_err();
    assert_eq!((failure.kind, failure.param.as_deref()), (ErrorKind::InvalidRequest, Some("grammar")));
    for (tool_choice, constraint) in [(ToolChoice::None, Some(&schema)), (ToolChoice::None, None)] {
        let alone = answer_grammar(&hermes(), &chat(tool_choice), constraint, false, &|_| None);
        assert_eq!(alone, Ok(None));
    }
}

#[test]
fn without_marks_only_what_is_strict_binds() {
    let bare = dialect(None, None, json_form(false));
    let grammar = written(&bare, &chat(ToolChoice::Auto), None);
    assert!(rule(&grammar, "start").ends_with("| PLAIN )"), "{grammar}");
    let loose = Chat { tools: Some(r#"[{"name": "f"}]"#.to_owned()), ..chat(ToolChoice::Auto) };
    assert_eq!(answer_grammar(&bare, &loose, None, false, &|_| None), Ok(None));
}

#[test]
fn every_form_has_its_calls() {
    let list = dialect(Some(marks("[TOOL_CALLS]", "")), None, json_form(true));
    let grammar = written(&list, &chat(ToolChoice::Required), None);
    assert!(
        grammar.contains("\"[TOOL_CALLS]\" WS? \"[\" WS? call ( \",\" WS? call )* WS? \"]\"\n"),
        "{grammar}"
    );
    let named = |after_name: &str| Form::Named {
        before_name: String::new(),
        after_name: after_name.to_owned(),
        after_arguments: String::new(),
    };
    let mistral = dialect(None, Some(marks("[TOOL_CALLS]", "")), named("[ARGS]"));
    let grammar = written(&mistral, &chat(ToolChoice::Required), None);
    assert!(grammar.contains("\"weather\" WS? \"[ARGS]\" WS? r0"), "{grammar}");
    let with_id = dialect(None, Some(marks("[TOOL_CALLS]", "")), named("[CALL_ID]"));
    let grammar = written(&with_id, &chat(ToolChoice::Required), None);
    assert!(grammar.contains("\"[CALL_ID]\" /[A-Za-z0-9]{9}/ \"[ARGS]\" WS? r0"), "{grammar}");
    let [before_name, after_name, before_key, after_key, after_value, after_arguments] =
        ["<function=", ">", "<parameter=", ">", "</parameter>", "</function>"].map(str::to_owned);
    let form = Form::Tagged { before_name, after_name, before_key, after_key, after_value, after_arguments };
    let coder = dialect(None, Some(marks("<tool_call>", "</tool_call>")), form);
    let grammar = written(&coder, &chat(ToolChoice::Required), None);
    let call = rule(&grammar, "r2");
    assert!(
        call.starts_with(r#""<function=" "weather" ">" ( WS? "<parameter=" "city" ">" r0 ) ( WS? "#),
        "{call}"
    );
    assert!(call.contains(r#""unit" ">" WS? ( "C" | "F" ) WS? "</parameter>" )?"#), "{call}");
    assert!(call.ends_with(r#"WS? "</function>""#) && grammar.contains("r0[lazy]: TEXT \"</parameter>\"\n"));
    let [before_name, after_name, before_key, after_key, after_value, after_arguments] =
        ["<invoke name=\"", "\">", "<p name=\"", "\">", "</p>", "</invoke>"].map(str::to_owned);
    let form = Form::Tagged { before_name, after_name, before_key, after_key, after_value, after_arguments };
    let in_one_pair = dialect(Some(marks("<calls>", "</calls>")), None, form);
    let grammar = written(&in_one_pair, &chat(ToolChoice::Required), None);
    assert!(
        grammar.contains(": \"<calls>\" WS? call ( WS? call )* WS? \"</calls>\"\n")
            && grammar.contains(r#": "<invoke" WS? "name=\"" "weather" "\">" "#),
        "{grammar}"
    );
    let python = written(&dialect(None, None, Form::Python), &chat(ToolChoice::Required), None);
    let weather = r#""weather(" "city=" PYSTRING ( ", " "days=" PYINTEGER )? ( ", " "unit=" ( "\"C\"" | "\"F\"" ) )? ")""#;
    assert!(python.contains(weather), "{python}");
}

#[test]
fn channels_have_their_own_grammar() {
    let harmony = dialect(None, None, Form::Harmony);
    let grammar = written(&harmony, &chat(ToolChoice::Auto), None);
    assert!(rule(&grammar, "start").starts_with("thought* preamble? ( final | r"), "{grammar}");
    assert!(grammar.contains("\"commentary to=functions.weather\""), "{grammar}");
    let required = written(&harmony, &chat(ToolChoice::Required), None);
    assert!(!required.contains("final: "), "{required}");
    let json = written(&harmony, &Chat::new("[]", 0), Some(&Constraint::JsonObject));
    assert_eq!(rule(&json, "start"), "thought* ( final )");
    assert!(rule(&json, "final").ends_with("%json {\"type\":\"object\"}"));
}

#[test]
fn too_many_and_too_large_tools_are_refused() {
    let refused = |tools: Vec<Value>| {
        let chat = Chat { tools: Some(Value::from(tools).to_string()), ..chat(ToolChoice::Auto) };
        let failure = answer_grammar(&hermes(), &chat, None, false, &|_| None).unwrap_err();
        assert_eq!((failure.kind, failure.param.as_deref()), (ErrorKind::InvalidRequest, Some("tools")));
        assert!(failure.hint.is_some(), "{failure}");
    };
    let tool = |name: usize| serde_json::json!({ "name": format!("f{name}") });
    refused((0..500).map(tool).collect());
    let long = "x".repeat(SCHEMAS_MAX_BYTES);
    refused(vec![serde_json::json!({ "name": "f", "parameters": { "description": long } })]);
    // Each argument takes the definitions along, but not all of them together.
    let reference = serde_json::json!({ "$ref": "#/$defs/a" });
    let properties: serde_json::Map<_, _> =
        (0..2000).map(|number| (format!("a{number}"), reference.clone())).collect();
    let definitions = serde_json::json!({ "a": { "enum": ["x".repeat(100_000), 1] } });
    let schema = serde_json::json!({ "properties": properties, "$defs": definitions });
    let tools = serde_json::json!([{ "name": "f", "parameters": schema }]);
    let [before_name, after_name, before_key, after_key, after_value, after_arguments] =
        ["<f=", ">", "<p=", ">", "</p>", "</f>"].map(str::to_owned);
    let form = Form::Tagged { before_name, after_name, before_key, after_key, after_value, after_arguments };
    let chat_of_many = Chat { tools: Some(tools.to_string()), ..chat(ToolChoice::Required) };
    let grammar = written(&dialect(None, None, form), &chat_of_many, None);
    assert!((2 << 20..3 << 20).contains(&grammar.len()), "{}", grammar.len());
    // Deep schemas, odd names and references that lead nowhere end up in a grammar, too.
    let deep =
        (0..50).fold(serde_json::json!({}), |inner, _| serde_json::json!({ "properties": { "a": inner } }));
    let odd = serde_json::json!([
        { "name": "a\"b\n\u{7f}", "parameters": deep },
        { "name": "loop", "parameters": { "$ref": "#", "anyOf": [{ "$ref": "https://example.org/x" }] } },
    ]);
    let chat = Chat { tools: Some(odd.to_string()), ..chat(ToolChoice::Auto) };
    let grammar = written(&hermes(), &chat, None);
    assert!(
        grammar.contains(r#""\"name\": \"a\\\"b\\n\u007f\""#) && !grammar.contains("example.org"),
        "{grammar}"
    );
}
