//! Families of models whose form cannot be found by rendering their template, or is known to be another one than it
//! shows, by what stands in the template's source.

use super::{Calls, Form, Marks};

/// A family, and how it writes calls.
struct Family {
    /// All of these stand in the source.
    source: &'static [&'static str],
    calls: fn() -> Calls,
}

/// Families whose templates show another form than their models write, or none.
const KNOWN: [Family; 6] = [
    // gpt-oss.
    Family { source: &["<|channel|>", "<|message|>", "<|call|>"], calls: || plain(Form::Harmony) },
    // Kimi K2: a number behind each name, which counts the calls of the conversation.
    Family {
        source: &["<|tool_calls_section_begin|>", "<|tool_call_argument_begin|>"],
        calls: || Calls {
            around_all: Some(marks("<|tool_calls_section_begin|>", "<|tool_calls_section_end|>")),
            around_each: Some(marks("<|tool_call_begin|>", "<|tool_call_end|>")),
            ..plain(named("functions.", ":", ""))
        },
    },
    // Mistral of the summer of 2025: an id between the name and the arguments.
    Family {
        source: &["[TOOL_CALLS]", "[CALL_ID]", "[ARGS]"],
        calls: || Calls { around_each: Some(marks("[TOOL_CALLS]", "")), ..plain(named("", "[CALL_ID]", "")) },
    },
    // LFM2: the template expects the calls in the content.
    Family {
        source: &["<|tool_list_start|>"],
        calls: || Calls {
            around_all: Some(marks("<|tool_call_start|>", "<|tool_call_end|>")),
            ..plain(Form::Python)
        },
    },
    // Granite 3, likewise.
    Family {
        source: &["<|start_of_role|>", "<|tool_call|>"],
        calls: || Calls { around_all: Some(marks("<|tool_call|>", "")), ..plain(json("arguments", true)) },
    },
    // Phi-4-mini, likewise.
    Family {
        source: &["<|tool|>", "<|/tool|>"],
        calls: || Calls {
            around_all: Some(marks("<|tool_call|>", "<|/tool_call|>")),
            ..plain(json("arguments", true))
        },
    },
];

/// Families whose form is found where their template works: for copies of it that do not.
const LIKELY: [Family; 7] = [
    // DeepSeek V3 and R1.
    Family {
        source: &["<｜tool▁calls▁begin｜>", "```json"],
        calls: || Calls { form: named("function<｜tool▁sep｜>", "```json", "```"), ..deepseek() },
    },
    // DeepSeek V3.1.
    Family { source: &["<｜tool▁calls▁begin｜>"], calls: deepseek },
    // Llama 3.1 and later.
    Family {
        source: &["<|start_header_id|>", "{\"name\": function name, \"parameters\":"],
        calls: || plain(json("parameters", false)),
    },
    // GLM 4.5 and later.
    Family {
        source: &["<tool_call>", "<arg_key>", "<arg_value>"],
        calls: || in_tool_call(tagged(["", "", "<arg_key>", "</arg_key>\n<arg_value>", "</arg_value>", ""])),
    },
    // Qwen3-Coder.
    Family {
        source: &["<tool_call>", "<function=", "<parameter="],
        calls: || {
            in_tool_call(tagged(["<function=", ">", "<parameter=", ">", "</parameter>", "</function>"]))
        },
    },
    // Hermes, Qwen 2.5 and 3, Granite 4.
    Family { source: &["<tool_call>", "arguments"], calls: || in_tool_call(json("arguments", false)) },
    // Mistral up to 2024.
    Family {
        source: &["[TOOL_CALLS]", "[AVAILABLE_TOOLS]"],
        calls: || Calls {
            around_all: Some(marks("[TOOL_CALLS]", "")),
            ..plain(Form::Json {
                name: "name".to_owned(),
                arguments: "arguments".to_owned(),
                id: Some("id".to_owned()),
                inside: None,
                is_array: true,
            })
        },
    },
];

/// Marks of thoughts that templates are known to look for. Those of a family are at its name above.
const THINKING: [(&str, &str); 7] = [
    ("<think>", "</think>"),
    ("[THINK]", "[/THINK]"),
    ("<|START_THINKING|>", "<|END_THINKING|>"),
    ("<seed:think>", "</seed:think>"),
    ("<|inner_prefix|>", "<|inner_suffix|>"),
    ("<|channel>thought", "<channel|>"),
    ("◁think▷", "◁/think▷"),
];

/// The calls of a family whose template shows another form, or none.
pub(super) fn known(source: &str) -> Option<Calls> {
    of(&KNOWN, source)
}

/// The calls of the family that this is likely to be, for a template that shows nothing.
pub(super) fn likely(source: &str) -> Option<Calls> {
    of(&LIKELY, source)
}

fn of(families: &[Family], source: &str) -> Option<Calls> {
    let family = families.iter().find(|family| family.source.iter().all(|text| source.contains(text)))?;
    Some((family.calls)())
}

/// The marks of a thought in a family whose template shows others, or none.
pub(super) fn known_thinking(source: &str) -> Option<Marks> {
    let harmony = ["<|channel|>", "<|message|>", "<|call|>"];
    if harmony.iter().all(|text| source.contains(text)) {
        return Some(marks("<|channel|>analysis<|message|>", "<|end|>"));
    }
    // Apriel: the prompt itself begins the thought, in words.
    let apriel = ["Here are my reasoning steps:", "[BEGIN FINAL RESPONSE]"];
    apriel.iter().all(|text| source.contains(text)).then(|| marks(apriel[0], apriel[1]))
}

/// The marks of a thought that a template takes out of what the model wrote.
pub(super) fn likely_thinking(source: &str) -> Option<Marks> {
    let (open, close) = THINKING.iter().find(|(_, close)| source.contains(close))?;
    Some(marks(open, close))
}

fn marks(open: &str, close: &str) -> Marks {
    Marks { open: open.to_owned(), close: close.to_owned() }
}

fn plain(form: Form) -> Calls {
    Calls { around_all: None, around_each: None, between: String::new(), form }
}

pub(super) fn in_tool_call(form: Form) -> Calls {
    Calls { around_each: Some(marks("<tool_call>", "</tool_call>")), ..plain(form) }
}

fn deepseek() -> Calls {
    Calls {
        around_all: Some(marks("<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>")),
        around_each: Some(marks("<｜tool▁call▁begin｜>", "<｜tool▁call▁end｜>")),
        ..plain(named("", "<｜tool▁sep｜>", ""))
    }
}

pub(super) fn json(arguments: &str, is_array: bool) -> Form {
    Form::Json { name: "name".to_owned(), arguments: arguments.to_owned(), id: None, inside: None, is_array }
}

fn named(before_name: &str, after_name: &str, after_arguments: &str) -> Form {
    Form::Named {
        before_name: before_name.to_owned(),
        after_name: after_name.to_owned(),
        after_arguments: after_arguments.to_owned(),
    }
}

/// In the order of the fields.
fn tagged(marks: [&str; 6]) -> Form {
    let [before_name, after_name, before_key, after_key, after_value, after_arguments] =
        marks.map(str::to_owned);
    Form::Tagged { before_name, after_name, before_key, after_key, after_value, after_arguments }
}
