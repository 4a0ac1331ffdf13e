//! What a model reads of tools where its template tells it nothing: the tools described in the system text, and calls
//! and results as text. The form of calls is its dialect's, or Hermes' where it has none.

use serde_json::{Map, Value as Json, json};

use super::families::{in_tool_call, json as json_form};
use super::{Calls, Form};

/// A call that was made.
#[derive(Debug)]
pub(crate) struct Call<'c> {
    pub(crate) id: &'c str,
    pub(crate) name: &'c str,
    /// An object, unless the model wrote something else.
    pub(crate) arguments: &'c Json,
}

/// How models that were taught no form are asked to write calls.
pub(crate) fn calls() -> Calls {
    in_tool_call(json_form("arguments", false))
}

/// What the system text says of tools. `write_mark` writes what may be a control token.
pub(crate) fn description(tools: &Json, calls: &Calls, write_mark: &dyn Fn(&str) -> String) -> String {
    let listed: Vec<String> = tools
        .as_array()
        .into_iter()
        .flatten()
        .map(|tool| tool.get("function").unwrap_or(tool).to_string())
        .collect();
    let arguments = json!({ "ARGUMENT": "VALUE" });
    let example = Call { id: "ID", name: "NAME", arguments: &arguments };
    format!(
        "You can use these tools, each described by a JSON object:\n{}\nTo use a tool, write its name and its arguments in exactly this form, and nothing after it:\n{}\nTo use several tools, write one such call after the other. You are then told what they returned. Answer in plain text where you need no tool.",
        listed.join("\n"),
        written(calls, &[example], write_mark),
    )
}

/// What a tool returned, in the words of a user.
pub(crate) fn result(content: &str) -> String {
    format!("<tool_response>\n{content}\n</tool_response>")
}

/// Calls as the model writes them.
pub(crate) fn written(calls: &Calls, list: &[Call<'_>], write_mark: &dyn Fn(&str) -> String) -> String {
    let one = |call: &Call<'_>| {
        let inner = inner(&calls.form, call, write_mark);
        match &calls.around_each {
            Some(marks) => {
                let space = if is_on_lines(&calls.form) { "\n" } else { "" };
                format!("{}{space}{inner}{space}{}", write_mark(&marks.open), write_mark(&marks.close))
            }
            None => inner,
        }
    };
    let each: Vec<String> = list.iter().map(one).collect();
    let is_list = matches!(calls.form, Form::Json { is_array: true, .. } | Form::Python);
    let text = if is_list {
        format!("[{}]", each.join(", "))
    } else if calls.between.is_empty() {
        each.join("\n")
    } else {
        each.join(&format!("{} ", calls.between))
    };
    match &calls.around_all {
        Some(marks) => [write_mark(&marks.open), text, write_mark(&marks.close)].concat(),
        None => text,
    }
}

/// Whether what stands between the marks of a call has lines of its own.
fn is_on_lines(form: &Form) -> bool {
    match form {
        Form::Json { .. } => true,
        Form::Tagged { before_name, .. } => !before_name.is_empty(),
        Form::Named { .. } | Form::Python | Form::Harmony => false,
    }
}

fn inner(form: &Form, call: &Call<'_>, write_mark: &dyn Fn(&str) -> String) -> String {
    let Call { id, name, arguments } = call;
    match form {
        Form::Json { name: name_field, arguments: arguments_field, id: id_field, inside, .. } => {
            let mut fields = Map::new();
            fields.insert(name_field.clone(), json!(name));
            fields.insert(arguments_field.clone(), (*arguments).clone());
            let mut outer = match inside {
                Some(inside) => Map::from_iter([(inside.clone(), Json::Object(fields))]),
                None => fields,
            };
            if let Some(field) = id_field {
                outer.insert(field.clone(), json!(id));
            }
            Json::Object(outer).to_string()
        }
        Form::Named { before_name, after_name, after_arguments } => format!(
            "{}{name}{}{arguments}{}",
            write_mark(before_name),
            write_mark(after_name),
            write_mark(after_arguments),
        ),
        Form::Tagged { before_name, after_name, before_key, after_key, after_value, after_arguments } => {
            let mut lines = vec![format!("{}{name}{}", write_mark(before_name), write_mark(after_name))];
            for (key, value) in arguments.as_object().into_iter().flatten() {
                let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                let [before, between, after] =
                    [before_key, after_key, after_value].map(|mark| write_mark(mark));
                lines.push(format!("{before}{key}{between}{value}{after}"));
            }
            lines.push(write_mark(after_arguments));
            lines.join("\n").trim_end().to_owned()
        }
        Form::Python => {
            let arguments: Vec<String> = arguments
                .as_object()
                .into_iter()
                .flatten()
                .map(|(key, value)| format!("{key}={}", python(value)))
                .collect();
            format!("{name}({})", arguments.join(", "))
        }
        Form::Harmony => format!(
            "{}commentary to=functions.{name} {}json{}{arguments}{}",
            write_mark("<|channel|>"),
            write_mark("<|constrain|>"),
            write_mark("<|message|>"),
            write_mark("<|call|>"),
        ),
    }
}

/// A value as Python writes it. JSON that could be read nests no deeper than a stack allows.
fn python(value: &Json) -> String {
    match value {
        Json::Null => "None".to_owned(),
        Json::Bool(true) => "True".to_owned(),
        Json::Bool(false) => "False".to_owned(),
        Json::Number(_) | Json::String(_) => value.to_string(),
        Json::Array(items) => format!("[{}]", items.iter().map(python).collect::<Vec<_>>().join(", ")),
        Json::Object(fields) => {
            let field = |(key, value): (&String, &Json)| format!("{}: {}", json!(key), python(value));
            format!("{{{}}}", fields.iter().map(field).collect::<Vec<_>>().join(", "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn as_it_is(mark: &str) -> String {
        mark.to_owned()
    }

    #[test]
    fn tools_are_described_with_the_form_of_a_call() {
        let tools = json!([{ "type": "function", "function": { "name": "get_time" } }]);
        let text = description(&tools, &calls(), &as_it_is);
        assert!(text.contains("\n{\"name\":\"get_time\"}\n"), "{text}");
        let example =
            "\n<tool_call>\n{\"name\":\"NAME\",\"arguments\":{\"ARGUMENT\":\"VALUE\"}}\n</tool_call>\n";
        assert!(text.contains(example), "{text}");
    }

    #[test]
    fn python_has_words_of_its_own() {
        let value = json!({ "a": [null, true, false, 1.5, "it's \"so\""] });
        assert_eq!(python(&value), r#"{"a": [None, True, False, 1.5, "it's \"so\""]}"#);
    }

    #[test]
    fn a_call_is_written_in_every_form() {
        let arguments = json!({ "city": "Oslo", "days": 2 });
        let call = || Call { id: "id1", name: "weather", arguments: &arguments };
        let forms = [
            (
                Form::Json {
                    name: "name".into(),
                    arguments: "arguments".into(),
                    id: Some("id".into()),
                    inside: Some("function".into()),
                    is_array: true,
                },
                r#"[{"function":{"name":"weather","arguments":{"city":"Oslo","days":2}},"id":"id1"}]"#,
            ),
            (
                Form::Named {
                    before_name: "<f=".into(),
                    after_name: ">".into(),
                    after_arguments: "</f>".into(),
                },
                r#"<f=weather>{"city":"Oslo","days":2}</f>"#,
            ),
            (
                Form::Tagged {
                    before_name: String::new(),
                    after_name: String::new(),
                    before_key: "<k>".into(),
                    after_key: "</k><v>".into(),
                    after_value: "</v>".into(),
                    after_arguments: String::new(),
                },
                "weather\n<k>city</k><v>Oslo</v>\n<k>days</k><v>2</v>",
            ),
            (Form::Python, r#"[weather(city="Oslo", days=2)]"#),
            (
                Form::Harmony,
                r#"<|channel|>commentary to=functions.weather <|constrain|>json<|message|>{"city":"Oslo","days":2}<|call|>"#,
            ),
        ];
        for (form, expected) in forms {
            let calls = Calls { around_all: None, around_each: None, between: String::new(), form };
            assert_eq!(written(&calls, &[call()], &as_it_is), expected);
        }
    }
}
