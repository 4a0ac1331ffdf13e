//! Lines of `NAME=value`: those that are there are replaced, the others are added.

use serde_json::Value;

use super::Edit;

pub(super) fn apply(before: &str, edits: &[Edit]) -> String {
    let mut lines: Vec<String> = before.lines().map(str::to_owned).collect();
    for edit in edits {
        let (path, value) = match edit {
            Edit::Set(path, value) => (path, text(value)),
            Edit::Secret(path, stand_in) => (path, (*stand_in).to_owned()),
            Edit::Needed(..) | Edit::Item(..) => continue,
        };
        let name = path.join(".");
        let line = format!("{name}={value}");
        let is_it = |line: &String| line.split_once('=').is_some_and(|(known, _)| known.trim() == name);
        match lines.iter().position(is_it) {
            Some(at) if matches!(edit, Edit::Secret(..)) && !is_stand_in(&lines[at]) => {}
            Some(at) => lines[at] = line,
            None => lines.push(line),
        }
    }
    lines.into_iter().flat_map(|line| [line, "\n".to_owned()]).collect()
}

/// Whether a line has no secret yet.
fn is_stand_in(line: &str) -> bool {
    line.split_once('=').is_some_and(|(_, value)| super::is_stand_in(value.trim()))
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
