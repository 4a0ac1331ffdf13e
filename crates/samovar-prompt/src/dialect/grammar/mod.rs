//! The grammar of an answer: text, calls of the tools of a request by their schemas, or what a constraint asks for. It is
//! written in llguidance's form of Lark, and compiled elsewhere.
//!
//! ```text
//!   mod     which of them a request allows, and where
//!   calls   the calls of a dialect
//!   harmony the same in gpt-oss's channels
//!   values  arguments by their schemas: JSON, plain text, Python
//!   strict  what a strict schema says that plain text and Python do not keep
//!   lark    rules, literals, marks
//! ```

mod calls;
mod harmony;
mod lark;
mod strict;
#[cfg(test)]
mod tests;
mod values;

use samovar_core::{Chat, Constraint, ErrorKind, Failure, ToolChoice};
use serde_json::Value;

use self::calls::CallRules;
use self::lark::Lark;
use super::reader::tools::{self, Tool};
use super::{Dialect, Form, Marks};

/// Tools that a grammar holds at most.
const TOOLS_MAX: usize = 128;
/// Bytes of all their schemas together at most.
const SCHEMAS_MAX_BYTES: usize = 256 << 10;

/// The grammar of an answer to `chat`, in llguidance's form of Lark. It holds from the answer's beginning, or where the
/// prompt ends inside a thought (`opens_thinking`) from the end of that thought on; a thought that the model may open
/// itself is a part of it. `special` gives the id of the control token with this text: such tokens are written as
/// `<[id]>`, because bytes do not match them.
///
/// `None` where nothing binds, and where a constraint alone does: that is compiled as it is.
///
/// # Errors
/// `InvalidRequest` with the parameter at fault: too many tools or too long schemas, a chosen tool that is not there, a strict
/// tool whose schema the dialect cannot keep, and a constraint that does not go together with tools.
pub fn answer_grammar(
    dialect: &Dialect,
    chat: &Chat,
    constraint: Option<&Constraint>,
    opens_thinking: bool,
    special: &dyn Fn(&str) -> Option<u32>,
) -> Result<Option<String>, Failure> {
    let tools = chosen_tools(chat)?;
    tools.iter().try_for_each(|tool| strict::check(tool, &dialect.calls.form))?;
    if tools.is_empty() && constraint.is_none() {
        return Ok(None);
    }
    let must_call =
        matches!(chat.tool_choice, ToolChoice::Required | ToolChoice::Named(_)) && !tools.is_empty();
    // What must be a call is no JSON by another schema.
    let constraint = constraint.filter(|_| !must_call);
    let mut lark = Lark::new(special);
    if dialect.calls.form == Form::Harmony {
        let content = constraint.map(|constraint| content(constraint, !tools.is_empty())).transpose()?;
        let Some(content) = content.unwrap_or(Some(String::from("TEXT"))) else { return Ok(None) };
        let content = Some(content).filter(|_| !must_call);
        return Ok(Some(harmony::write(lark, &tools, content.as_deref(), opens_thinking)));
    }
    let thought = dialect.thinking.as_ref().filter(|marks| !opens_thinking && may_think(marks, chat));
    if tools.is_empty() {
        let Some(constraint) = constraint.filter(|_| thought.is_some()) else { return Ok(None) };
        let Some(content) = content(constraint, false)? else { return Ok(None) };
        let thought = write_thought(&mut lark, thought);
        lark.rule("start", &format!("{thought}WS? {content}"));
        return Ok(Some(lark.finish()));
    }
    let is_strict = tools.iter().any(|tool| tool.is_strict);
    let rules = CallRules::new(dialect, &tools, dialect.takes_several_calls(chat));
    let is_free = !must_call && constraint.is_none();
    if is_free && rules.open().is_none() && !is_strict {
        // A call that no mark announces cannot be told from text before it is one.
        return Ok(None);
    }
    let content = constraint.map(|constraint| content(constraint, true)).transpose()?.flatten();
    let thought_rule = write_thought(&mut lark, thought);
    let body = match (is_free, rules.open().is_some()) {
        (true, true) => rules.write_in_text(&mut lark, thought),
        (true, false) => {
            let calls = rules.write(&mut lark);
            let plain = r"/[^\[{ \t\r\n](.|\n)*/";
            // The longest terminal counts: as text, a thought would go on to the answer's end.
            let as_text = thought.filter(|marks| !lark.begins_with_token(&marks.open));
            let but = as_text.map(|marks| format!(" & ~( {} TEXT )", lark::literal(marks.open.trim())));
            lark.rule("PLAIN", &format!("{plain}{}", but.unwrap_or_default()));
            format!("WS? ( {calls} | PLAIN )")
        }
        (false, _) => {
            let calls = rules.write(&mut lark);
            content.map_or_else(|| format!("WS? {calls}"), |content| format!("WS? ( {calls} | {content} )"))
        }
    };
    lark.rule("start", &format!("{thought_rule}{body}"));
    Ok(Some(lark.finish()))
}

/// The tools that the model may call.
fn chosen_tools(chat: &Chat) -> Result<Vec<Tool>, Failure> {
    let Some(text) = chat.tools.as_deref().filter(|_| chat.tool_choice != ToolChoice::None) else {
        return Ok(Vec::new());
    };
    let mut tools = tools::read(text)?;
    if let ToolChoice::Named(name) = &chat.tool_choice {
        tools.retain(|tool| tool.name == *name);
        if tools.is_empty() {
            let message = format!("tool_choice names {name:?}, which is none of the tools");
            return Err(Failure::new(ErrorKind::InvalidRequest, message)
                .with_param("tool_choice")
                .with_hint("name one of the functions in tools"));
        }
        tools.truncate(1);
    }
    let refuse = |message: String, hint: &str| {
        Err(Failure::new(ErrorKind::InvalidRequest, message).with_param("tools").with_hint(hint))
    };
    if tools.len() > TOOLS_MAX {
        let message =
            format!("{} tools are more than the {TOOLS_MAX} of which calls can be made sure", tools.len());
        return refuse(message, "send fewer tools, or name one in tool_choice");
    }
    let bytes: usize =
        tools.iter().filter_map(|tool| tool.parameters.as_ref()).map(|schema| schema.to_string().len()).sum();
    if bytes > SCHEMAS_MAX_BYTES {
        let message =
            format!("the schemas of the tools take {bytes} bytes together, of {SCHEMAS_MAX_BYTES} at most");
        return refuse(message, "shorten the schemas and their descriptions, or send fewer tools");
    }
    tools.iter_mut().filter_map(|tool| tool.parameters.as_mut()).for_each(values::close);
    Ok(tools)
}

/// Whether the model may begin with a thought that the prompt has not opened.
fn may_think(marks: &Marks, chat: &Chat) -> bool {
    let is_off = chat.arguments.as_deref().is_some_and(|arguments| {
        let arguments: Value = serde_json::from_str(arguments).unwrap_or_default();
        arguments.get("enable_thinking") == Some(&Value::Bool(false))
    });
    !is_off && !marks.open.trim().is_empty() && !marks.close.trim().is_empty()
}

/// Writes the rule of a thought, and gives what refers to it.
fn write_thought(lark: &mut Lark<'_>, marks: Option<&Marks>) -> &'static str {
    let Some(marks) = marks else { return "" };
    let (open, until_close) = (lark.mark(&marks.open), lark.text_until(&marks.close, "TEXT"));
    lark.rule("thought", &format!("WS? {open} {until_close}"));
    "thought? "
}

/// What a constraint asks for, as an expression; `None` where that cannot be a part of a grammar.
///
/// # Errors
/// `InvalidRequest` for such a constraint where there are tools, and for JSON or a regular expression that is none.
fn content(constraint: &Constraint, has_tools: bool) -> Result<Option<String>, Failure> {
    let refuse = |why: &str| {
        let message = format!("{} {why}", constraint.kind());
        Err(Failure::new(ErrorKind::InvalidRequest, message).with_param("response_format"))
    };
    match constraint {
        Constraint::JsonObject => Ok(Some(values::json(&serde_json::json!({ "type": "object" }), true))),
        Constraint::JsonSchema(schema) => match serde_json::from_str(schema) {
            Ok(schema) => Ok(Some(values::json(&schema, true))),
            Err(_) => refuse("must be JSON"),
        },
        Constraint::Regex(regex) => match lark::regex(regex) {
            Some(regex) => Ok(Some(regex)),
            None => refuse("must not end with an open escape"),
        },
        Constraint::Lark(grammar) => Ok(Some(format!("%lark {{\n{grammar}\n}}"))),
        Constraint::Gbnf(_) if has_tools => {
            refuse("cannot be combined with tools").map_err(|failure: Failure| {
                failure.with_param("grammar").with_hint("use response_format, or set tool_choice to \"none\"")
            })
        }
        Constraint::Gbnf(_) => Ok(None),
    }
}
