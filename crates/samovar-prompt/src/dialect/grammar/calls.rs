//! The calls of a dialect as rules: each tool's name and arguments as the dialect writes them, and the marks around them.

use std::fmt::Write as _;

use serde_json::Value;

use super::lark::{Lark, literal};
use super::values;
use crate::dialect::reader::tools::Tool;
use crate::dialect::{Calls, Dialect, Form, Marks};

/// What stands behind the mark after a name in some dialects: the mark, an id, and what follows it.
const IDS: [(&str, &str, &str); 2] =
    [(":", "/[0-9]{1,4}/", "<|tool_call_argument_begin|>"), ("[CALL_ID]", "/[A-Za-z0-9]{9}/", "[ARGS]")];

/// Calls of these tools in this dialect.
pub(super) struct CallRules<'a> {
    calls: &'a Calls,
    tools: &'a [Tool],
    is_parallel: bool,
    /// The calls are the items of a list.
    is_list: bool,
    all: Option<&'a Marks>,
    each: Option<&'a Marks>,
}

impl<'a> CallRules<'a> {
    pub(super) fn new(dialect: &'a Dialect, tools: &'a [Tool], is_parallel: bool) -> Self {
        let calls = &dialect.calls;
        let is_list = matches!(calls.form, Form::Json { is_array: true, .. } | Form::Python);
        let marks = |marks: Option<&'a Marks>| marks.filter(|marks| !marks.open.trim().is_empty());
        let (all, each) = (marks(calls.around_all.as_ref()), marks(calls.around_each.as_ref()));
        // A list stands within marks as a whole.
        let (all, each) = if is_list { (all.or(each), None) } else { (all, each) };
        Self { calls, tools, is_parallel, is_list, all, each }
    }

    /// The mark with which calls begin, where there is one.
    pub(super) fn open(&self) -> Option<&'a str> {
        let open = self.all.or(self.each).map(|marks| marks.open.as_str());
        open.or(self.before_name()).filter(|mark| !mark.trim().is_empty())
    }

    fn before_name(&self) -> Option<&'a str> {
        match &self.calls.form {
            Form::Named { before_name, .. } | Form::Tagged { before_name, .. } => Some(before_name),
            Form::Json { .. } | Form::Python | Form::Harmony => None,
        }
    }

    /// Calls, from their first mark on.
    pub(super) fn write(&self, lark: &mut Lark<'_>) -> String {
        self.add_calls(lark, true);
        let list = self.list(lark);
        let calls = around(lark, self.all, &list);
        lark.own_rule("", &calls)
    }

    /// Text, and calls wherever their mark stands in it. A thought, if there is one, has been written before.
    pub(super) fn write_in_text(&self, lark: &mut Lark<'_>, thought: Option<&Marks>) -> String {
        let text = match thought {
            Some(marks) if !lark.begins_with_token(&marks.open) => {
                let open = literal(marks.open.trim());
                lark.rule("THOUGHT", &format!("/[ \\t\\r\\n]*/ {open} TEXT"));
                lark.rule("FREE", "TEXT & ~THOUGHT");
                "FREE"
            }
            _ => "TEXT",
        };
        let head = lark.text_until(self.open().unwrap_or_default(), text);
        let has_marks = self.all.is_some() || self.each.is_some();
        self.add_calls(lark, has_marks);
        let rest = match (self.all, self.each) {
            (Some(all), _) => {
                let list = self.list(lark);
                closed(lark, all, &list)
            }
            (None, Some(each)) => {
                let first = closed(lark, each, "call");
                let further = self.further(lark).filter(|_| !self.calls.between.trim().is_empty());
                format!("{first}{}", further.unwrap_or_default())
            }
            (None, None) => "call".to_owned(),
        };
        let group = lark.own_rule("", &format!("{head} {rest}"));
        match (self.is_parallel, self.all.is_some()) {
            (false, _) => format!("( {text} | {group} )"),
            (true, true) => format!("{group}? {text}"),
            (true, false) => format!("{group}* {text}"),
        }
    }

    /// All calls, without the marks around all.
    fn list(&self, lark: &mut Lark<'_>) -> String {
        if self.is_list {
            let others = if self.is_parallel { " ( \",\" WS? call )*" } else { "" };
            return format!("\"[\" WS? call{others} WS? \"]\"");
        }
        let first = around(lark, self.each, "call");
        format!("{first}{}", self.further(lark).unwrap_or_default())
    }

    /// The calls behind the first one, where there may be any.
    fn further(&self, lark: &mut Lark<'_>) -> Option<String> {
        let one = around(lark, self.each, "call");
        let between = lark.mark(&self.calls.between);
        let between = if between.is_empty() { "WS?".to_owned() } else { format!("WS? {between} WS?") };
        self.is_parallel.then(|| format!(" ( {between} {one} )*"))
    }

    /// The rule `call`: one call without the marks around it.
    fn add_calls(&self, lark: &mut Lark<'_>, has_head: bool) {
        if self.calls.form == Form::Python {
            values::add_python(lark);
        }
        let mut each = Vec::new();
        for tool in self.tools {
            let call = self.call(lark, tool, has_head);
            each.push(lark.own_rule("", &call));
        }
        lark.rule("call", &each.join(" | "));
    }

    fn call(&self, lark: &mut Lark<'_>, tool: &Tool, has_head: bool) -> String {
        let head = |lark: &Lark<'_>, mark: &str| if has_head { lark.mark(mark) } else { String::new() };
        match &self.calls.form {
            Form::Json { name, arguments, id, inside, .. } => {
                let schema = arguments_rule(lark, tool);
                let fields = format!("{}: {}, {}: ", quoted(name), quoted(&tool.name), quoted(arguments));
                let (begin, end) = match inside {
                    Some(inside) => {
                        let is_type = literal("\"type\": \"function\", ");
                        (format!("( {is_type} )? {}", literal(&format!("{}: {{", quoted(inside)))), "\"}\"")
                    }
                    None => (String::new(), ""),
                };
                let fields = literal(&fields);
                let Some(id) = id else {
                    return format!("\"{{\" {begin} {fields} {schema} {end} \"}}\"");
                };
                lark.rule_once("CALLID", "/[A-Za-z0-9_.:-]{1,40}/");
                let before =
                    format!("( {} CALLID {} )?", literal(&format!("{}: \"", quoted(id))), literal("\", "));
                let behind =
                    format!("( {} CALLID {} )?", literal(&format!(", {}: \"", quoted(id))), literal("\""));
                format!("\"{{\" {before} {begin} {fields} {schema} {end} {behind} \"}}\"")
            }
            Form::Named { before_name, after_name, after_arguments } => {
                let schema = arguments_rule(lark, tool);
                let (before, mut after) = (head(lark, before_name), lark.mark(after_name));
                if let Some((_, id, mark)) = IDS.iter().find(|(own, ..)| after_name.trim() == *own) {
                    after = format!("{after} {id} {}", lark.mark(mark));
                }
                let behind = lark.mark(after_arguments);
                let behind = if behind.is_empty() { behind } else { format!("WS? {behind}") };
                format!("{before} {} WS? {after} {} {schema} {behind}", literal(&tool.name), space_if(&after))
            }
            Form::Tagged { before_name, after_name, before_key, after_key, after_value, after_arguments } => {
                let (before, name) = (head(lark, before_name), literal(&tool.name));
                let mut call = format!("{before} {name} {}", lark.mark(after_name));
                let (before_key, after_key) = (lark.mark(before_key), lark.mark(after_key));
                if let Some(properties) = values::properties(tool) {
                    for property in properties {
                        let value = values::tagged(lark, &property, after_value, tool.is_strict);
                        let key = literal(property.name);
                        let may_miss = if property.is_required { "" } else { "?" };
                        let _ = write!(call, " ( WS? {before_key} {key} {after_key} {value} ){may_miss}");
                    }
                } else {
                    lark.rule_once("KEY", "/[A-Za-z0-9_.-]{1,64}/");
                    let value = lark.text_until(after_value, "TEXT");
                    let _ = write!(call, " ( WS? {before_key} KEY {after_key} {value} )*");
                }
                let behind = lark.mark(after_arguments);
                if behind.is_empty() { call } else { format!("{call} WS? {behind}") }
            }
            Form::Python | Form::Harmony => {
                let arguments = values::python(lark, tool);
                format!("{} {arguments} \")\"", literal(&format!("{}(", tool.name)))
            }
        }
    }
}

/// The arguments of a tool as one JSON object.
pub(super) fn arguments_rule(lark: &mut Lark<'_>, tool: &Tool) -> String {
    lark.own_rule("", &values::json(&values::schema_of(tool), tool.is_strict))
}

/// White space, where something stands before it.
fn space_if(before: &str) -> &'static str {
    if before.is_empty() { "" } else { "WS?" }
}

fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

fn around(lark: &Lark<'_>, marks: Option<&Marks>, inside: &str) -> String {
    match marks {
        Some(marks) => format!("{} {}", lark.mark(&marks.open), closed(lark, marks, inside)),
        None => inside.to_owned(),
    }
}

/// What stands behind an opening mark.
fn closed(lark: &Lark<'_>, marks: &Marks, inside: &str) -> String {
    let close = lark.mark(&marks.close);
    if close.is_empty() { format!("WS? {inside}") } else { format!("WS? {inside} WS? {close}") }
}
