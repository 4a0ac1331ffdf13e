//! Finds a template's dialect by rendering short conversations of words that no template contains: a text, a thought,
//! one call and two, the result of one. What stands around the words is the form, and whether they appear at all says
//! what the template can take.

mod form;
mod pieces;
mod section;

use std::sync::Arc;

use serde_json::{Value as Json, json};

use super::{Calls, Dialect, Marks, families, generic};
use pieces::Pieces;

const FIRST_NAME: &str = "samovar_alpha";
const SECOND_NAME: &str = "samovar_beta";
const TEXT_KEY: &str = "samovar_text";
const COUNT_KEY: &str = "samovar_count";
const VALUE: &str = "samovar value one";
const OTHER_VALUE: &str = "samovar value two";
const COUNT_VALUE: u32 = 7_531_902;
const COUNT: &str = "7531902";
const TEXT: &str = "samovar says this";
const THOUGHT: &str = "samovar thinks this";
const RESULT: &str = "samovar found this";
/// What is offered; the calls call other tools, so that only they have those names in them.
const TOOL: &str = "samovar_tool";
/// Ids as one family insists on them, and as all others have them.
const SHORT_IDS: [&str; 2] = ["Samovar01", "Samovar02"];
const LONG_ID: &str = "call_samovar0123456789abcdef";

/// Fields in which templates look for a thought.
pub(crate) const THINKING_FIELDS: [&str; 3] = ["reasoning_content", "reasoning", "thinking"];

/// A conversation to try a template with.
#[derive(Clone, Debug)]
pub(crate) struct Probe {
    /// The messages.
    pub(crate) messages: Json,
    /// The tools that are offered, as JSON text.
    pub(crate) tools: Option<String>,
    /// With what makes the model speak next.
    pub(crate) add_generation_prompt: bool,
}

/// A template that uses up what a probe may use: nothing more is tried with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Exhausted;

/// What a template makes of a probe; `None` where it refuses or fails.
pub(crate) type Render<'r> = dyn Fn(&Probe) -> Result<Option<String>, Exhausted> + 'r;

/// A template's dialect, and how a conversation is to be fitted to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Detected {
    pub(crate) dialect: Arc<Dialect>,
    pub(crate) fit: Fit,
}

/// What a template can take of a conversation with tools.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own, found by a probe of its own")]
pub(crate) struct Fit {
    /// Where it takes the tools from.
    pub(crate) tools: ToolsPlace,
    /// It writes calls in its dialect; where it does not, they are written into the content.
    pub(crate) writes_calls: bool,
    /// It writes more than one call of a message.
    pub(crate) takes_several_calls: bool,
    /// Arguments are an object for it; otherwise text.
    pub(crate) arguments_are_objects: bool,
    /// A message of calls alone has null for its content; otherwise an empty text.
    pub(crate) content_is_null: bool,
    /// It writes results; where it does not, a user tells them.
    pub(crate) writes_results: bool,
    /// Ids have nine letters or digits.
    pub(crate) ids_are_short: bool,
    /// The field in which it looks for a thought, if it writes thoughts.
    pub(crate) thinking_field: Option<&'static str>,
}

/// Where a template takes tools from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ToolsPlace {
    /// The variable `tools`.
    Variable,
    /// The field `tools` of the system message, as text.
    SystemMessage,
    /// Nowhere: they are described in the system text.
    Described,
}

impl Detected {
    /// Of a template that takes neither tools nor calls.
    fn generic(thinking: Option<Marks>) -> Self {
        Self {
            dialect: Arc::new(Dialect { thinking, calls: generic::calls(), knows_tools: false }),
            fit: Fit {
                tools: ToolsPlace::Described,
                writes_calls: false,
                takes_several_calls: true,
                arguments_are_objects: true,
                content_is_null: false,
                writes_results: false,
                ids_are_short: false,
                thinking_field: None,
            },
        }
    }
}

/// Whether the source of a template names a thought: a field of one, or a mark. Where it does not, no thought is found.
pub(crate) fn names_thoughts(source: &str) -> bool {
    THINKING_FIELDS.iter().any(|field| source.contains(field))
        || families::known_thinking(source).is_some()
        || families::likely_thinking(source).is_some()
}

/// The dialect of answers that are text alone.
pub(crate) fn text_alone() -> Arc<Dialect> {
    Detected::generic(None).dialect
}

/// Finds the dialect of the template with this source. A template that cannot be understood has the generic one.
pub(crate) fn detect(source: &str, eos_token: &str, render: &Render) -> Detected {
    Detector { source, eos_token, render }
        .find()
        .unwrap_or_else(|Exhausted| Detected::generic(families::likely_thinking(source)))
}

struct Detector<'d> {
    source: &'d str,
    eos_token: &'d str,
    render: &'d Render<'d>,
}

/// Calls that a template wrote, and how it had to be asked.
struct Written {
    calls: Calls,
    takes_several_calls: bool,
    arguments_are_objects: bool,
    content_is_null: bool,
}

impl Detector<'_> {
    fn find(&self) -> Result<Detected, Exhausted> {
        let place = self.tools_place()?;
        let knows_tools = place != ToolsPlace::Described;
        let tools = (place == ToolsPlace::Variable).then(tools);
        let opening = self.render(&[], tools.as_ref(), true)?;
        let text = self.render(&[answer(&json!(TEXT))], tools.as_ref(), false)?;
        let (thinking, thinking_field) = self.thinking(text.as_deref(), tools.as_ref())?;
        let known = families::known(self.source);
        let others = [text.as_deref(), opening.as_deref()];
        let written = self.written(tools.as_ref(), others, thinking.as_ref(), known.as_ref())?;
        let found = written.as_ref().map(|written| written.calls.clone());
        let Some(calls) = found.or(known).or_else(|| families::likely(self.source)) else {
            let generic = Detected::generic(thinking);
            return Ok(Detected { fit: Fit { thinking_field, ..generic.fit }, ..generic });
        };
        let (writes_results, ids_are_short) = self.results(tools.as_ref(), written.as_ref())?;
        Ok(Detected {
            dialect: Arc::new(Dialect { thinking, calls, knows_tools }),
            fit: Fit {
                tools: place,
                writes_calls: written.is_some(),
                takes_several_calls: written.as_ref().is_none_or(|written| written.takes_several_calls),
                arguments_are_objects: written.as_ref().is_none_or(|written| written.arguments_are_objects),
                content_is_null: written.as_ref().is_some_and(|written| written.content_is_null),
                writes_results,
                ids_are_short,
                thinking_field,
            },
        })
    }

    /// What the template makes of a user's message and these.
    fn render(
        &self,
        messages: &[Json],
        tools: Option<&String>,
        add_generation_prompt: bool,
    ) -> Result<Option<String>, Exhausted> {
        let user = json!({ "role": "user", "content": "hi" });
        let messages = std::iter::once(user).chain(messages.iter().cloned()).collect();
        (self.render)(&Probe { messages, tools: tools.cloned(), add_generation_prompt })
    }

    fn tools_place(&self) -> Result<ToolsPlace, Exhausted> {
        let is_told = |text: Option<String>| text.is_some_and(|text| text.contains(TOOL));
        if is_told(self.render(&[], Some(&tools()), false)?) {
            return Ok(ToolsPlace::Variable);
        }
        let system = json!({ "role": "system", "content": "x", "tools": tools() });
        let user = json!({ "role": "user", "content": "hi" });
        let probe = Probe { messages: json!([system, user]), tools: None, add_generation_prompt: false };
        let is_told = is_told((self.render)(&probe)?);
        Ok(if is_told { ToolsPlace::SystemMessage } else { ToolsPlace::Described })
    }

    /// The marks of a thought, by a template that writes one, or by the source of one that leaves it out; and the field
    /// it is taken from.
    fn thinking(
        &self,
        text: Option<&str>,
        tools: Option<&String>,
    ) -> Result<(Option<Marks>, Option<&'static str>), Exhausted> {
        let known = families::known_thinking(self.source);
        let likely = || families::likely_thinking(self.source);
        for field in THINKING_FIELDS {
            let mut message = answer(&json!(TEXT));
            message[field] = json!(THOUGHT);
            let Some(written) = self.render(&[message], tools, false)? else { continue };
            let Some((before, behind)) = written.split_once(THOUGHT) else { continue };
            let found = thinking_marks(before, behind, text);
            return Ok((known.or(found).or_else(likely), Some(field)));
        }
        // Some write only the thought before a call.
        if known.is_none() {
            return Ok((likely(), None));
        }
        for field in THINKING_FIELDS {
            let mut message = calling(1, true, false, SHORT_IDS);
            message[field] = json!(THOUGHT);
            if self.render(&[message], tools, false)?.is_some_and(|written| written.contains(THOUGHT)) {
                return Ok((known, Some(field)));
            }
        }
        Ok((known, None))
    }

    /// Calls as the template writes them, by the first way of asking for them that it understands.
    fn written(
        &self,
        tools: Option<&String>,
        [text, opening]: [Option<&str>; 2],
        thinking: Option<&Marks>,
        known: Option<&Calls>,
    ) -> Result<Option<Written>, Exhausted> {
        let thinking_close = thinking.map(|marks| marks.close.as_str()).filter(|close| !close.is_empty());
        for arguments_are_objects in [true, false] {
            let mut has_written = false;
            for content_is_null in [false, true] {
                for takes_several_calls in [true, false] {
                    let count = if takes_several_calls { 2 } else { 1 };
                    let message = calling(count, arguments_are_objects, content_is_null, SHORT_IDS);
                    let Some(written) = self.render(&[message], tools, false)? else { continue };
                    let names = [FIRST_NAME, SECOND_NAME];
                    if !names[..count].iter().chain([&TEXT_KEY]).all(|name| written.contains(*name)) {
                        continue;
                    }
                    // As Python writes a dict: this template wants text.
                    has_written |= !written.contains(&format!("'{TEXT_KEY}':"));
                    let find = || {
                        let section =
                            section::of_calls(&written, text, opening, self.eos_token, thinking_close)?;
                        form::calls(section, takes_several_calls)
                    };
                    if let Some(calls) = known.cloned().or_else(find) {
                        return Ok(Some(Written {
                            calls,
                            takes_several_calls,
                            arguments_are_objects,
                            content_is_null,
                        }));
                    }
                }
            }
            // What it makes of objects is its form, though an unknown one: text would hide that.
            if has_written {
                break;
            }
        }
        Ok(None)
    }

    /// Whether it writes the result of a call, and whether the ids of calls must be short for that.
    fn results(&self, tools: Option<&String>, written: Option<&Written>) -> Result<(bool, bool), Exhausted> {
        for (id, is_short) in [(LONG_ID, false), (SHORT_IDS[0], true)] {
            let call = match written {
                Some(written) => calling(1, written.arguments_are_objects, written.content_is_null, [id; 2]),
                None => answer(&json!(TEXT)),
            };
            let result = json!({ "role": "tool", "content": RESULT, "tool_call_id": id, "name": FIRST_NAME });
            let told = self.render(&[call, result], tools, true)?;
            if told.is_some_and(|told| told.contains(RESULT)) {
                return Ok((true, is_short));
            }
        }
        Ok((false, false))
    }
}

/// The pieces next to a thought, where they are marks and not what the template puts before each message.
fn thinking_marks(before: &str, behind: &str, text: Option<&str>) -> Option<Marks> {
    let opening = Pieces::of(before);
    let mut first = opening.len().checked_sub(1)?;
    let is_mark = |piece: usize| before[opening.start(piece)..].starts_with(['<', '[']);
    while !is_mark(first) && opening.is_joined(first) {
        first -= 1;
    }
    let open = opening.span(first..opening.len());
    let closing = Pieces::of(&behind[..behind.find(TEXT)?]);
    let close = closing.span(0..closing.len().min(1));
    let is_header =
        text.and_then(|text| text.split(TEXT).next()).is_some_and(|before| before.trim_end().ends_with(open));
    (is_mark(first) && close.starts_with(['<', '[']) && !is_header)
        .then(|| Marks { open: open.to_owned(), close: close.to_owned() })
}

fn answer(content: &Json) -> Json {
    json!({ "role": "assistant", "content": content })
}

/// A message of one or two calls.
fn calling(count: usize, arguments_are_objects: bool, content_is_null: bool, ids: [&str; 2]) -> Json {
    let arguments = |object: Json| if arguments_are_objects { object } else { json!(object.to_string()) };
    let call = |name: &str, id: &str, object: Json| json!({ "type": "function", "id": id, "function": { "name": name, "arguments": arguments(object) } });
    let mut calls = vec![call(FIRST_NAME, ids[0], json!({ TEXT_KEY: VALUE, COUNT_KEY: COUNT_VALUE }))];
    if count > 1 {
        calls.push(call(SECOND_NAME, ids[1], json!({ TEXT_KEY: OTHER_VALUE })));
    }
    let content = if content_is_null { Json::Null } else { json!("") };
    let mut message = answer(&content);
    message["tool_calls"] = Json::Array(calls);
    message
}

fn tools() -> String {
    let parameters = json!({
        "type": "object",
        "properties": { "about": { "type": "string", "description": "what" } },
        "required": ["about"],
    });
    let function = json!({ "name": TOOL, "description": "tells", "parameters": parameters });
    json!([{ "type": "function", "function": function }]).to_string()
}

/// Whether something of the probes stands in a text.
fn is_sentinel_in(text: &str) -> bool {
    text.contains(COUNT) || text.to_ascii_lowercase().contains("samovar")
}
