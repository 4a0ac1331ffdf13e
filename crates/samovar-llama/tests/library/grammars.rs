//! The grammar of calls in every form is one that llguidance takes, with marks that are control tokens and marks that are text.
//! It allows what models of that form write and ends where that ends, and it allows nothing that the request does not.

use samovar_core::{Chat, Constraint, ToolChoice};
use samovar_grammar::{Grammar, Vocabulary, VocabularyToken};
use samovar_prompt::dialect::{Calls, Dialect, Form, Marks, answer_grammar};

/// The token that ends an answer; those before it are the bytes.
const END: u32 = 256;
/// The first control token that is a mark.
const FIRST: u32 = END + 1;
const CONTROL: [&str; 24] = [
    "<tool_call>",
    "</tool_call>",
    "<think>",
    "</think>",
    "[TOOL_CALLS]",
    "[ARGS]",
    "[CALL_ID]",
    "<｜tool▁calls▁begin｜>",
    "<｜tool▁calls▁end｜>",
    "<｜tool▁call▁begin｜>",
    "<｜tool▁call▁end｜>",
    "<｜tool▁sep｜>",
    "<|tool_calls_section_begin|>",
    "<|tool_calls_section_end|>",
    "<|tool_call_begin|>",
    "<|tool_call_argument_begin|>",
    "<|tool_call_end|>",
    "<|tools_prefix|>",
    "<|tools_suffix|>",
    "<|channel|>",
    "<|start|>",
    "<|end|>",
    "<|message|>",
    "<|constrain|>",
];
/// A strict tool, one of whose values looks like a control token, and one that is not, whose schema names one argument.
const TOOLS: &str = r#"[
    {"type": "function", "function": {"name": "weather", "strict": true, "parameters": {"type": "object",
        "properties": {"city": {"type": "string"}, "days": {"type": "integer"}, "unit": {"enum": ["C", "<think>"]},
            "at": {"type": "object", "properties": {"x": {"type": "number"}}}},
        "required": ["city"], "additionalProperties": false}}},
    {"type": "function", "function": {"name": "get_time", "parameters": {"type": "object",
        "properties": {"zone": {"type": "string"}}}}}
]"#;

/// A vocabulary of bytes and of these control tokens.
struct Model {
    vocabulary: Vocabulary,
    control: &'static [&'static str],
}

impl Model {
    fn new(control: &'static [&'static str]) -> Self {
        let bytes =
            (0..=u8::MAX).map(|byte| VocabularyToken { bytes: vec![byte], ..VocabularyToken::default() });
        let special = |text: &str, is_end| VocabularyToken {
            bytes: text.as_bytes().to_vec(),
            is_control: true,
            is_end,
        };
        let mut tokens: Vec<_> = bytes.collect();
        tokens.push(special("</s>", true));
        tokens.extend(control.iter().map(|text| special(text, false)));
        let tokenize = |text: &[u8]| text.iter().map(|byte| u32::from(*byte)).collect::<Vec<u32>>();
        let vocabulary = Vocabulary::new(tokens, END, tokenize).expect("a vocabulary");
        Self { vocabulary, control }
    }

    fn tokens(&self, text: &str) -> Vec<u32> {
        let (mut tokens, mut rest) = (Vec::new(), text.as_bytes());
        while let [first, behind @ ..] = rest {
            let mark = (FIRST..).zip(self.control).find(|(_, mark)| rest.starts_with(mark.as_bytes()));
            let (token, behind) = match mark {
                Some((token, mark)) => (token, &rest[mark.len()..]),
                None => (u32::from(*first), behind),
            };
            tokens.push(token);
            rest = behind;
        }
        tokens
    }

    fn grammar(&self, dialect: &Dialect, chat: &Chat, constraint: Option<&Constraint>) -> Option<Grammar> {
        let special = |text: &str| {
            let mut marks = (FIRST..).zip(self.control);
            marks.find(|(_, mark)| **mark == text).map(|(token, _)| token)
        };
        let grammar = answer_grammar(dialect, chat, constraint, false, &special).expect("a grammar");
        grammar.map(Grammar::Lark)
    }

    /// Whether an answer may be this, and end there.
    fn allows(&self, grammar: &Grammar, answer: &str) -> bool {
        let compiled = self.vocabulary.compile(grammar, "tools", &|| true);
        let mut rules = compiled.unwrap_or_else(|failure| panic!("{failure:?}\n{grammar:?}"));
        self.tokens(answer).into_iter().all(|token| rules.accept(token).is_ok())
            && rules.mask().is_ok_and(|mask| mask.allows(END))
    }
}

fn models() -> [Model; 2] {
    [Model::new(&CONTROL), Model::new(&[])]
}

struct Case {
    name: &'static str,
    calls: Calls,
    /// A call of `weather`.
    call: &'static str,
    /// The same, and one of `get_time`.
    two: &'static str,
}

#[expect(clippy::unnecessary_wraps, reason = "as a dialect has them")]
fn marks(open: &str, close: &str) -> Option<Marks> {
    Some(Marks { open: open.to_owned(), close: close.to_owned() })
}

fn json(arguments: &str, id: Option<&str>, inside: Option<&str>, is_array: bool) -> Form {
    Form::Json {
        name: "name".to_owned(),
        arguments: arguments.to_owned(),
        id: id.map(str::to_owned),
        inside: inside.map(str::to_owned),
        is_array,
    }
}

fn named(before_name: &str, after_name: &str, after_arguments: &str) -> Form {
    let [before_name, after_name, after_arguments] =
        [before_name, after_name, after_arguments].map(str::to_owned);
    Form::Named { before_name, after_name, after_arguments }
}

fn tagged(marks: [&str; 6]) -> Form {
    let [before_name, after_name, before_key, after_key, after_value, after_arguments] =
        marks.map(str::to_owned);
    Form::Tagged { before_name, after_name, before_key, after_key, after_value, after_arguments }
}

fn calls(around_all: Option<Marks>, around_each: Option<Marks>, form: Form) -> Calls {
    Calls { around_all, around_each, between: String::new(), form }
}

fn case(name: &'static str, calls: Calls, call: &'static str, two: &'static str) -> Case {
    Case { name, calls, call, two }
}

fn cases() -> Vec<Case> {
    [json_cases(), named_cases(), other_cases()].into_iter().flatten().collect()
}

fn json_cases() -> Vec<Case> {
    let each = |form| calls(None, marks("<tool_call>", "</tool_call>"), form);
    vec![
        case(
            "hermes",
            each(json("arguments", None, None, false)),
            "<tool_call>\n{\"name\": \"weather\", \"arguments\": {\"city\": \"Oslo\", \"days\": 2, \"unit\": \"C\"}}\n</tool_call>",
            "<tool_call>\n{\"name\": \"weather\", \"arguments\": {\"city\": \"Oslo\"}}\n</tool_call>\n<tool_call>{\"name\": \"get_time\", \"arguments\": {\"zone\":\"CET\"}}</tool_call>",
        ),
        case(
            "array",
            calls(marks("[TOOL_CALLS]", ""), None, json("arguments", Some("id"), None, true)),
            r#"[TOOL_CALLS] [{"name": "weather", "arguments": {"city": "Oslo"}, "id": "abcDEF123"}]"#,
            r#"[TOOL_CALLS][{"id": "abcDEF123", "name": "weather", "arguments": {"city": "Oslo"}}, {"name": "get_time", "arguments": {}}]"#,
        ),
        case(
            "inside",
            calls(None, None, json("arguments", None, Some("function"), true)),
            r#"[{"type": "function", "function": {"name": "weather", "arguments": {"city": "Oslo"}}}]"#,
            r#"[{"function": {"name": "weather", "arguments": {"city": "Oslo"}}},{"function": {"name": "get_time", "arguments": {}}}]"#,
        ),
        case(
            "bare",
            calls(None, None, json("parameters", None, None, false)),
            r#"{"name": "weather", "parameters": {"city": "Oslo"}}"#,
            "{\"name\": \"weather\", \"parameters\": {\"city\": \"Oslo\"}}\n{\"name\": \"get_time\", \"parameters\": {}}",
        ),
    ]
}

fn named_cases() -> Vec<Case> {
    let before_each = |form| calls(None, marks("[TOOL_CALLS]", ""), form);
    let deepseek = calls(
        marks("<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>"),
        marks("<｜tool▁call▁begin｜>", "<｜tool▁call▁end｜>"),
        named("function<｜tool▁sep｜>", "```json", "```"),
    );
    let kimi = calls(
        marks("<|tool_calls_section_begin|>", "<|tool_calls_section_end|>"),
        marks("<|tool_call_begin|>", "<|tool_call_end|>"),
        named("functions.", ":", ""),
    );
    let name_as_key = Calls {
        between: ",".to_owned(),
        ..calls(marks("<|tools_prefix|>[", "]<|tools_suffix|>"), None, named("{\"", "\":", "}"))
    };
    vec![
        case(
            "named",
            before_each(named("", "[ARGS]", "")),
            r#"[TOOL_CALLS]weather[ARGS]{"city": "Oslo"}"#,
            r#"[TOOL_CALLS]weather[ARGS]{"city": "Oslo"}[TOOL_CALLS]get_time[ARGS]{}"#,
        ),
        case(
            "named with an id",
            before_each(named("", "[CALL_ID]", "")),
            r#"[TOOL_CALLS]weather[CALL_ID]abcDEF123[ARGS]{"city": "Oslo"}"#,
            r#"[TOOL_CALLS]weather[CALL_ID]abcDEF123[ARGS]{"city": "Oslo"}[TOOL_CALLS]get_time[CALL_ID]abcDEF124[ARGS]{}"#,
        ),
        case(
            "fenced",
            deepseek,
            "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>weather\n```json\n{\"city\": \"Oslo\"}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
            "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>weather\n```json\n{\"city\": \"Oslo\"}\n```<｜tool▁call▁end｜>\n<｜tool▁call▁begin｜>function<｜tool▁sep｜>get_time\n```json\n{}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
        ),
        case(
            "numbered",
            kimi,
            r#"<|tool_calls_section_begin|><|tool_call_begin|>functions.weather:0<|tool_call_argument_begin|>{"city": "Oslo"}<|tool_call_end|><|tool_calls_section_end|>"#,
            r#"<|tool_calls_section_begin|><|tool_call_begin|>functions.weather:0<|tool_call_argument_begin|>{"city": "Oslo"}<|tool_call_end|><|tool_call_begin|>functions.get_time:1<|tool_call_argument_begin|>{}<|tool_call_end|><|tool_calls_section_end|>"#,
        ),
        case(
            "name as key",
            name_as_key,
            r#"<|tools_prefix|>[{"weather": {"city": "Oslo"}}]<|tools_suffix|>"#,
            r#"<|tools_prefix|>[{"weather": {"city": "Oslo"}}, {"get_time": {}}]<|tools_suffix|>"#,
        ),
        case(
            "function tag",
            calls(None, None, named("<function=", ">", "</function>")),
            r#"<function=weather>{"city": "Oslo"}</function>"#,
            r#"<function=weather>{"city": "Oslo"}</function><function=get_time>{}</function>"#,
        ),
    ]
}

fn other_cases() -> Vec<Case> {
    let each = |form| calls(None, marks("<tool_call>", "</tool_call>"), form);
    let coder = tagged(["<function=", ">", "<parameter=", ">", "</parameter>", "</function>"]);
    let glm = tagged(["", "", "<arg_key>", "</arg_key>\n<arg_value>", "</arg_value>", ""]);
    vec![
        case(
            "tagged",
            each(coder),
            "<tool_call>\n<function=weather>\n<parameter=city>\nOslo\n</parameter>\n<parameter=days>\n2\n</parameter>\n<parameter=unit>\nC\n</parameter>\n<parameter=at>\n{\"x\": 1.5}\n</parameter>\n</function>\n</tool_call>",
            "<tool_call>\n<function=weather>\n<parameter=city>\nOslo\n</parameter>\n</function>\n</tool_call>\n<tool_call>\n<function=get_time>\n</function>\n</tool_call>",
        ),
        case(
            "tagged keys",
            each(glm),
            "<tool_call>weather\n<arg_key>city</arg_key>\n<arg_value>Oslo</arg_value>\n<arg_key>days</arg_key>\n<arg_value>2</arg_value>\n</tool_call>",
            "<tool_call>weather\n<arg_key>city</arg_key>\n<arg_value>Oslo</arg_value>\n</tool_call>\n<tool_call>get_time\n</tool_call>",
        ),
        case(
            "python",
            calls(marks("[TOOL_CALLS]", "</tool_call>"), None, Form::Python),
            r#"[TOOL_CALLS][weather(city="Oslo", days=2, unit="C")]</tool_call>"#,
            r#"[TOOL_CALLS][weather(city="Oslo"), get_time(zone='CET')]</tool_call>"#,
        ),
        case(
            "bare python",
            calls(None, None, Form::Python),
            r#"[weather(city="Oslo")]"#,
            r#"[weather(city="Oslo"), get_time()]"#,
        ),
    ]
}

fn dialect(calls: &Calls, thinks: bool) -> Dialect {
    let thinking = marks("<think>", "</think>").filter(|_| thinks);
    Dialect { thinking, calls: calls.clone(), knows_tools: true }
}

fn chat(tool_choice: ToolChoice) -> Chat {
    Chat { tools: Some(TOOLS.to_owned()), tool_choice, ..Chat::new("[]", 0) }
}

#[test]
fn every_form_is_compiled_and_allows_what_models_write() {
    for model in models() {
        for (Case { name, calls, call, two }, thinks) in
            cases().iter().flat_map(|case| [(case, false), (case, true)])
        {
            let dialect = dialect(calls, thinks);
            let check = |chat: &Chat, answers: &[(String, bool)]| {
                let grammar = model.grammar(&dialect, chat, None).expect("a strict tool binds");
                for (answer, is_allowed) in answers {
                    let choice = &chat.tool_choice;
                    assert_eq!(
                        model.allows(&grammar, answer),
                        *is_allowed,
                        "{name}, {choice:?}, {thinks}: {answer}\n{grammar:?}"
                    );
                }
            };
            let (call, two) = ((*call).to_owned(), (*two).to_owned());
            let text = "Well, hi\n< there.".to_owned();
            check(
                &chat(ToolChoice::Auto),
                &[
                    (call.clone(), true),
                    (two.clone(), true),
                    (text.clone(), true),
                    (format!("I look.\n{call}"), true),
                ],
            );
            if thinks {
                let thought = "<think>\nhm <b\n</think>\n\n";
                check(
                    &chat(ToolChoice::Auto),
                    &[
                        (format!("{thought}{call}"), true),
                        (format!("{thought}{text}"), true),
                        (format!("{thought}{}", call.replace("weather", "clock")), false),
                    ],
                );
            }
            let single = Chat { parallel_tool_calls: false, ..chat(ToolChoice::Auto) };
            check(&single, &[(call.clone(), true), (two.clone(), false), (text.clone(), true)]);
            check(
                &chat(ToolChoice::Required),
                &[
                    (call.clone(), true),
                    (two.clone(), true),
                    (text, false),
                    (format!("I look.\n{call}"), false),
                    (format!("<think>\nhm\n</think>\n\n{call}"), thinks),
                ],
            );
            check(&chat(ToolChoice::Named("weather".to_owned())), &[(call.clone(), true), (two, false)]);
            check(&chat(ToolChoice::Named("get_time".to_owned())), &[(call, false)]);
        }
    }
}

#[test]
fn arguments_are_those_of_the_schema_in_objects_within_it_too() {
    let case = &cases()[0];
    let call = |name: &str, arguments: &str| {
        format!("<tool_call>\n{{\"name\": \"{name}\", \"arguments\": {arguments}}}\n</tool_call>")
    };
    for model in models() {
        for choice in [ToolChoice::Required, ToolChoice::Auto] {
            let grammar =
                model.grammar(&dialect(&case.calls, false), &chat(choice), None).expect("a grammar");
            for (name, arguments, is_allowed) in [
                ("weather", r#"{"city": "Oslo", "at": {"x": 1}}"#, true),
                ("weather", r#"{"city": "Oslo", "at": {"x": 1, "y": 2}}"#, false),
                ("weather", r#"{"city": "Oslo", "unit": "F"}"#, false),
                ("weather", "{}", false),
                ("get_time", r#"{"zone": "CET"}"#, true),
                ("get_time", "{}", true),
                ("get_time", r#"{"zone": "CET", "type": "string"}"#, false),
                ("clock", "{}", false),
            ] {
                let answer = call(name, arguments);
                assert_eq!(model.allows(&grammar, &answer), is_allowed, "{answer}\n{grammar:?}");
            }
        }
    }
}

#[test]
fn a_strict_tool_is_kept_to_the_lengths_and_patterns_of_its_texts_in_tags_and_in_python() {
    let tools = r#"[{"name": "book", "strict": true, "parameters": {"type": "object", "properties": {
        "city": {"type": "string", "minLength": 2, "maxLength": 5}, "code": {"type": "string", "pattern": "^[A-Z]{2}[0-9]+$"}},
        "required": ["city"], "additionalProperties": false}}]"#;
    let in_tags =
        |arguments: &str| format!("<tool_call>\n<function=book>\n{arguments}\n</function>\n</tool_call>");
    let argument = |name: &str, value: &str| format!("<parameter={name}>{value}</parameter>");
    let city = argument("city", "\nOslo\n");
    let coder = tagged(["<function=", ">", "<parameter=", ">", "</parameter>", "</function>"]);
    let coder = calls(None, marks("<tool_call>", "</tool_call>"), coder);
    let chat_of = |tools: &str| Chat { tools: Some(tools.to_owned()), ..chat(ToolChoice::Required) };
    for model in models() {
        let grammar = model.grammar(&dialect(&coder, false), &chat_of(tools), None).expect("a grammar");
        for (arguments, is_allowed) in [
            (city.clone(), true),
            (argument("city", "Oslo"), true),
            (argument("city", "\nOs</p\n"), true),
            (argument("city", "\nO\n"), false),
            (argument("city", "\nBergen\n"), false),
            (argument("city", "Bergen"), false),
            (format!("{city}\n{}", argument("code", "\nNO47\n")), true),
            (format!("{city}\n{}", argument("code", "\nNO\n")), false),
            (format!("{city}\n{}", argument("code", "\nno47\n")), false),
        ] {
            let answer = in_tags(&arguments);
            assert_eq!(model.allows(&grammar, &answer), is_allowed, "{answer}\n{grammar:?}");
        }
        let loose = tools.replace("\"strict\": true, ", "");
        let loose = model.grammar(&dialect(&coder, false), &chat_of(&loose), None).expect("a grammar");
        assert!(model.allows(&loose, &in_tags(&argument("city", "\nBergen\n"))));
        let nested = r#"[{"name": "book", "strict": true, "parameters": {"type": "object", "properties": {
            "city": {"type": "string", "maxLength": 5}, "days": {"type": "array", "items": {"type": "integer"}},
            "who": {"type": "object", "properties": {"name": {"type": ["string", "null"]}}, "required": ["name"]}},
            "required": ["city"], "additionalProperties": false}}]"#;
        let python = dialect(&calls(None, None, Form::Python), false);
        let grammar = model.grammar(&python, &chat_of(nested), None).expect("a grammar");
        for (arguments, is_allowed) in [
            (r#"city="Oslo""#, true),
            (r#"city="Bergen""#, false),
            (r#"city="Oslo", days=[1, 2]"#, true),
            (r#"city="Oslo", days=["1"]"#, false),
            (r#"city="Oslo", who={"name": None}"#, true),
            (r#"city="Oslo", who={'name': 'Ann'}"#, true),
            (r#"city="Oslo", who={}"#, false),
            (r#"city="Oslo", who={"name": 5}"#, false),
        ] {
            let answer = format!("[book({arguments})]");
            assert_eq!(model.allows(&grammar, &answer), is_allowed, "{answer}\n{grammar:?}");
        }
    }
}

#[test]
fn channels_are_compiled_and_allow_what_models_write() {
    let harmony = dialect(&calls(None, None, Form::Harmony), false);
    let thought = "<|channel|>analysis<|message|>hm <b<|end|><|start|>assistant";
    let call = "<|channel|>commentary to=functions.weather <|constrain|>json<|message|>{\"city\": \"Oslo\"}";
    let text = "<|channel|>final<|message|>Hi";
    for model in models() {
        for (choice, may_be_text) in [(ToolChoice::Auto, true), (ToolChoice::Required, false)] {
            let grammar = model.grammar(&harmony, &chat(choice), None).expect("a grammar");
            for (answer, is_allowed) in [
                (call.to_owned(), true),
                (format!("{thought}{call}"), true),
                (
                    format!(
                        "{thought}<|channel|>commentary<|message|>I look.<|end|><|start|>assistant{call}"
                    ),
                    true,
                ),
                (text.to_owned(), may_be_text),
                (format!("{thought}{text}"), may_be_text),
                ("Hi".to_owned(), false),
            ] {
                assert_eq!(model.allows(&grammar, &answer), is_allowed, "{answer}\n{grammar:?}");
            }
        }
    }
}

#[test]
fn what_a_constraint_allows_stands_in_the_place_of_text() {
    let schema = r#"{"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}"#;
    let constraints = [
        (Constraint::JsonObject, "{\"a\": [1]}"),
        (Constraint::JsonSchema(schema.to_owned()), "{\"a\": 1}"),
        (Constraint::Regex("^a/b\\d+$".to_owned()), "a/b12"),
        (Constraint::Lark("start: \"x\" Y\nY: /y+/".to_owned()), "xyy"),
    ];
    let hermes = cases().swap_remove(0);
    for model in models() {
        for (constraint, answer) in &constraints {
            for (chat, may_call) in [(chat(ToolChoice::Auto), true), (Chat::new("[]", 0), false)] {
                let dialect = dialect(&hermes.calls, true);
                let grammar = model.grammar(&dialect, &chat, Some(constraint)).expect("a grammar");
                for (answer, is_allowed) in [
                    ((*answer).to_owned(), true),
                    (format!("<think>hm</think>\n\n{answer}"), true),
                    ("Hi".to_owned(), false),
                    (hermes.call.to_owned(), may_call),
                ] {
                    assert_eq!(model.allows(&grammar, &answer), is_allowed, "{answer}\n{grammar:?}");
                }
            }
            let harmony = dialect(&calls(None, None, Form::Harmony), false);
            let grammar = model.grammar(&harmony, &chat(ToolChoice::Auto), Some(constraint));
            let grammar = grammar.expect("a grammar");
            for (text, is_allowed) in [(*answer, true), ("Hi", false)] {
                let answer = format!("<|channel|>final<|message|>{text}");
                assert_eq!(model.allows(&grammar, &answer), is_allowed, "{answer}\n{grammar:?}");
            }
        }
    }
}
