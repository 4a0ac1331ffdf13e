//! Values and items in a YAML file that people write: only the lines that change are touched. What cannot be changed so is refused.

use std::fmt::Write as _;

use serde_json::Value;

use super::Edit;
use crate::migrate::yaml;

pub(super) fn apply(before: &str, edits: &[Edit]) -> Result<String, String> {
    let mut text = before.to_owned();
    for edit in edits {
        let known = yaml::parse(&text)?;
        if !matches!(known, Value::Object(_) | Value::Null) {
            return Err("is not as expected: it is no mapping".to_owned());
        }
        text = match edit {
            Edit::Set(path, value) => set(text, &known, path.first().copied().unwrap_or_default(), value)?,
            Edit::Needed(key, value) if known.get(key).is_none() => set(text, &known, key, value)?,
            // No program with such a file has secrets in it.
            Edit::Needed(..) | Edit::Secret(..) => text,
            Edit::Item(list, by, entries) => with_item(text, &known, list, by, entries)?,
        };
    }
    let after = yaml::parse(&text)?;
    if edits.iter().all(|edit| holds(&after, edit)) {
        return Ok(text);
    }
    Err("is written in a way that is not understood here: add the lines by hand".to_owned())
}

/// Whether a file says what was to be said.
fn holds(file: &Value, edit: &Edit) -> bool {
    match edit {
        Edit::Set(path, value) => path.first().and_then(|key| file.get(key)) == Some(value),
        Edit::Needed(key, _) => file.get(key).is_some(),
        Edit::Secret(..) => true,
        Edit::Item(list, by, entries) => {
            item(file, list, by, entries).is_some_and(|known| is_same(known, entries))
        }
    }
}

/// The item that is told from others by a key.
fn item<'a>(file: &'a Value, list: &str, by: &str, entries: &[(&str, Value)]) -> Option<&'a Value> {
    let wanted = entries.iter().find(|(key, _)| *key == by).map(|(_, value)| value)?;
    file.get(list)?.as_array()?.iter().find(|item| item.get(by) == Some(wanted))
}

fn is_same(known: &Value, entries: &[(&str, Value)]) -> bool {
    entries.iter().all(|(key, value)| known.get(key) == Some(value))
}

fn set(text: String, known: &Value, key: &str, value: &Value) -> Result<String, String> {
    if known.get(key) == Some(value) {
        return Ok(text);
    }
    let line = format!("{key}: {value}\n");
    if known.get(key).is_none() {
        return Ok(added(text, &line));
    }
    if known.get(key).is_some_and(|known| known.is_object() || known.is_array()) {
        return Err(format!("is not as expected: `{key}` is no plain value"));
    }
    let (start, end) = line_of(&text, key).ok_or_else(|| format!("has no line that begins with `{key}:`"))?;
    Ok(format!("{}{line}{}", &text[..start], &text[end..]))
}

fn with_item(
    text: String,
    known: &Value,
    list: &str,
    by: &str,
    entries: &[(&'static str, Value)],
) -> Result<String, String> {
    if let Some(known) = item(known, list, by, entries) {
        let name = &known[by];
        return if is_same(known, entries) {
            Ok(text)
        } else {
            Err(format!("has an item {name} in `{list}` with other settings: remove it first"))
        };
    }
    let Some(value) = known.get(list).filter(|value| !value.is_null()) else {
        let text = match line_of(&text, list) {
            Some((start, end)) => format!("{}{}", &text[..start], &text[end..]),
            None => text,
        };
        return Ok(added(text, &format!("{list}:\n{}", lines(entries, "  "))));
    };
    let (start, end) =
        line_of(&text, list).ok_or_else(|| format!("has no line that begins with `{list}:`"))?;
    if value.as_array().is_some_and(Vec::is_empty) {
        return Ok(format!("{}{list}:\n{}{}", &text[..start], lines(entries, "  "), &text[end..]));
    }
    let after = text[start..end].trim_end()[list.len() + 1..].trim();
    if !after.is_empty() && !after.starts_with('#') {
        return Err(format!("has the list `{list}` in one line: add the lines by hand"));
    }
    // New items stand first, with the indentation of those that there are.
    let first = text[end..].lines().find(|line| line.trim_start().starts_with('-'));
    let indent = first.map_or("  ", |line| &line[..line.len() - line.trim_start().len()]);
    Ok(format!("{}{}{}", &text[..end], lines(entries, indent), &text[end..]))
}

/// Where the line of a key at the top begins, and where the next one does.
fn line_of(text: &str, key: &str) -> Option<(usize, usize)> {
    let mut start = 0;
    for line in text.split_inclusive('\n') {
        let end = start + line.len();
        if line.strip_prefix(key).is_some_and(|rest| rest.trim_start().starts_with(':')) {
            return Some((start, end));
        }
        start = end;
    }
    None
}

fn added(mut text: String, lines: &str) -> String {
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    text.push_str(lines);
    text
}

/// An item in lines. Plain values and lists are written as JSON, which YAML reads as well.
fn lines(entries: &[(&'static str, Value)], indent: &str) -> String {
    let mut text = String::new();
    for (at, (key, value)) in entries.iter().enumerate() {
        let mark = if at == 0 { "- " } else { "  " };
        match value {
            Value::Object(inner) => {
                _ = writeln!(text, "{indent}{mark}{key}:");
                for (key, value) in inner {
                    _ = writeln!(text, "{indent}    {key}: {value}");
                }
            }
            value => _ = writeln!(text, "{indent}{mark}{key}: {value}"),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn model(name: &str) -> Edit {
        Edit::Item(
            "models",
            "name",
            vec![("name", name.into()), ("params", json!({ "model": "x" })), ("roles", json!(["chat"]))],
        )
    }

    #[test]
    fn items_are_added_to_those_that_there_are() {
        let new = apply("", &[Edit::Needed("schema", "v1".into()), model("a")]).expect("valid");
        let item = |name: &str, indent: &str| {
            format!(
                "{indent}- name: \"{name}\"\n{indent}  params:\n{indent}    model: \"x\"\n{indent}  roles: [\"chat\"]\n"
            )
        };
        assert_eq!(new, format!("schema: \"v1\"\nmodels:\n{}", item("a", "  ")));
        assert_eq!(apply(&new, &[model("a")]).expect("valid"), new);
        let before = "# mine\nmodels: # all\n- name: mine # good\n  model: y\nrules: []\n";
        let after = apply(before, &[model("a")]).expect("valid");
        assert_eq!(after, before.replace("# all\n", &format!("# all\n{}", item("a", ""))));
        assert_eq!(
            apply("models: []\n", &[model("a")]).expect("valid"),
            format!("models:\n{}", item("a", "  "))
        );
    }

    #[test]
    fn values_are_replaced_line_by_line() {
        let before = "# mine\nmodel: gpt-4o\nread: [a.md]\n";
        let edits = [
            Edit::Set(vec!["model"], "openai/x".into()),
            Edit::Set(vec!["openai-api-base"], "http://h/v1".into()),
        ];
        let after = apply(before, &edits).expect("valid");
        assert_eq!(after, "# mine\nmodel: \"openai/x\"\nread: [a.md]\nopenai-api-base: \"http://h/v1\"\n");
        assert_eq!(apply(&after, &edits).expect("valid"), after);
    }

    #[test]
    fn what_cannot_be_changed_by_lines_is_refused() {
        for (text, reason) in [
            ("- a\n", "no mapping"),
            ("models: [{name: b}]\n", "in one line"),
            ("models:\n  - name: a\n    model: y\n", "with other settings"),
            ("models: [\n", "line "),
            ("{ models: [{ name: b }] }\n", "no line that begins"),
        ] {
            let error = apply(text, &[model("a")]).expect_err(text);
            assert!(error.contains(reason), "{text}: {error}");
        }
    }
}
