//! Fits tools, calls, results and later system texts to what a template can take: it is given them where and as it looks
//! for them, and as text where it does not. Texts and what users wrote stay as they are.

use std::hash::{DefaultHasher, Hash, Hasher};

use samovar_core::{ErrorKind, Failure};
use serde_json::{Map, Value as Json, json};

use crate::conversation::{self, Conversation};
use crate::dialect::Form;
use crate::dialect::detect::{Detected, Fit, THINKING_FIELDS, ToolsPlace};
use crate::dialect::generic::{self, Call};
use crate::fitting::{BETWEEN, text_of};

/// Letters and digits of a short id.
const SHORT_ID_CHARS: usize = 9;

/// Calls of one message: each of its results is looked for among them.
const CALLS_MAX: usize = 1024;

/// Whether there is anything in a conversation that templates differ in.
pub(crate) fn is_plain(conversation: &Conversation) -> bool {
    let is_plain = |message: &Json| {
        message["role"] != "tool"
            && message.get("tool_calls").is_none()
            && THINKING_FIELDS.iter().all(|field| message.get(field).is_none())
    };
    !has_tools(conversation)
        && conversation.messages.as_array().is_none_or(|messages| messages.iter().all(is_plain))
}

/// Whether a message is the system's.
fn is_system(message: &Json) -> bool {
    ["system", "developer"].iter().any(|role| message["role"] == *role)
}

/// The messages with no system message but the first: texts of those that follow it at once stand in it, and later ones
/// are told by a user, in one message with what the user says before and behind them. `None` where there is no other.
/// So a turn changes nothing of the turns before it, and their prompt is the beginning of the next one.
pub(crate) fn one_system_first(messages: &Json) -> Option<Json> {
    let messages = messages.as_array()?;
    if !messages.iter().skip(1).any(is_system) {
        return None;
    }
    let count = messages.iter().take_while(|message| is_system(message)).count();
    let (first, later) = messages.split_at(count);
    let mut fitted: Vec<FittedHistory> = Vec::with_capacity(messages.len());
    if let Some((system, others)) = first.split_first() {
        let mut message = system.clone();
        for other in others {
            append_content(&mut message["content"], other["content"].clone());
        }
        fitted.push(FittedHistory { message, is_told: false });
    }
    fitted.extend(later.iter().map(|message| {
        let is_told = is_system(message);
        let mut message = message.clone();
        if is_told {
            message["role"] = "user".into();
        }
        FittedHistory { message, is_told }
    }));
    Some(Json::Array(joined(fitted)))
}

/// Whether there are tools. An empty list is none; it reaches the template as it was sent.
pub(crate) fn has_tools(conversation: &Conversation) -> bool {
    conversation.tools.as_ref().is_some_and(|tools| tools.as_array().is_none_or(|tools| !tools.is_empty()))
}

/// The conversation as the template of this dialect takes it. `write_mark` writes what may be a control token.
///
/// # Errors
/// `InvalidRequest` when a message has too many calls, or arguments have too many values.
pub(crate) fn fit(
    conversation: &mut Conversation,
    detected: &Detected,
    write_mark: &dyn Fn(&str) -> String,
) -> Result<(), Failure> {
    check_calls(&conversation.messages)?;
    if let Json::Array(messages) = &mut conversation.messages {
        for message in &mut *messages {
            rename_thought(message, detected);
        }
        name_calls(messages);
        let fitted = std::mem::take(messages).into_iter();
        let fitted = fitted.flat_map(|message| text_apart(message, &detected.fit));
        let fitted = fitted.map(|message| fit_message(message, detected, write_mark)).collect();
        *messages = joined(if detected.fit.takes_several_calls { fitted } else { one_by_one(fitted) });
    }
    fit_tools(conversation, detected, write_mark);
    Ok(())
}

/// Bounds the calls, and the arguments that are text, before any is read.
fn check_calls(messages: &Json) -> Result<(), Failure> {
    let calls = || messages.as_array().into_iter().flatten().filter_map(calls_of);
    if let Some(count) = calls().map(Vec::len).find(|count| *count > CALLS_MAX) {
        let message = format!("a message has {count} tool calls, {CALLS_MAX} is the limit");
        return Err(Failure::new(ErrorKind::InvalidRequest, message)
            .with_hint("send the calls in several messages, each with its results")
            .with_param("messages"));
    }
    let texts = calls().flatten().filter_map(|call| call["function"]["arguments"].as_str());
    conversation::check_values(texts.map(conversation::values).sum())
}

fn fit_tools(conversation: &mut Conversation, detected: &Detected, write_mark: &dyn Fn(&str) -> String) {
    if detected.fit.tools == ToolsPlace::Variable || !has_tools(conversation) {
        return;
    }
    let Some(tools) = conversation.tools.take() else { return };
    let Json::Array(messages) = &mut conversation.messages else { return };
    if !messages.first().is_some_and(is_system) {
        messages.insert(0, json!({ "role": "system", "content": "" }));
    }
    let system = &mut messages[0];
    if detected.fit.tools == ToolsPlace::SystemMessage {
        system["tools"] = Json::String(tools.to_string());
    } else {
        append(
            &mut system["content"],
            &generic::description(&tools, &detected.dialect.calls, write_mark),
            "\n\n",
        );
    }
}

/// The conversation with a description and parameters for each tool that lacks them: some templates fail without. `None`
/// where nothing is missing.
pub(crate) fn with_whole_tools(conversation: &Conversation) -> Option<Conversation> {
    let is_whole = |tool: &Json| {
        let function = tool.get("function").unwrap_or(tool);
        function["description"].is_string() && function["parameters"]["properties"].is_object()
    };
    if conversation.tools.as_ref()?.as_array()?.iter().all(is_whole) {
        return None;
    }
    let mut whole = conversation.clone();
    for tool in whole.tools.as_mut().and_then(Json::as_array_mut).into_iter().flatten() {
        let function = if tool.get("function").is_some() { &mut tool["function"] } else { tool };
        let Some(function) = function.as_object_mut() else { continue };
        if !function.get("description").is_some_and(Json::is_string) {
            function.insert("description".to_owned(), json!(""));
        }
        if !function.get("parameters").is_some_and(Json::is_object) {
            function.insert("parameters".to_owned(), json!({ "type": "object" }));
        }
        let properties = &mut function["parameters"]["properties"];
        if !properties.is_object() {
            *properties = json!({});
        }
    }
    Some(whole)
}

/// A text and calls in one message as two messages, where the template writes calls only in the place of a text.
fn text_apart(message: Json, fit: &Fit) -> Vec<Json> {
    let has_both = calls_of(&message).is_some() && !text_of(&message["content"]).is_empty();
    if !has_both || !fit.writes_calls || !fit.content_is_null {
        return vec![message];
    }
    let (mut text, mut calls) = (message.clone(), message);
    if let (Some(text), Some(calls)) = (text.as_object_mut(), calls.as_object_mut()) {
        text.shift_remove("tool_calls");
        calls.insert("content".to_owned(), Json::Null);
        // It was thought once.
        for field in THINKING_FIELDS {
            calls.shift_remove(field);
        }
    }
    vec![text, calls]
}

/// A message, and whether it tells a result or a system text in a user's words.
struct FittedHistory {
    message: Json,
    is_told: bool,
}

fn fit_message(mut message: Json, detected: &Detected, write_mark: &dyn Fn(&str) -> String) -> FittedHistory {
    let fit = &detected.fit;
    if message["role"] == "tool" {
        let content = text_of(&message["content"]);
        if !fit.writes_results {
            let message = json!({ "role": "user", "content": generic::result(&content) });
            return FittedHistory { message, is_told: true };
        }
        if !message["content"].is_array() {
            message["content"] = Json::String(content);
        }
        if let Some(id) = message.get_mut("tool_call_id").filter(|_| fit.ids_are_short) {
            shorten(id);
        }
    } else if calls_of(&message).is_some() {
        if !fit.writes_calls {
            write_calls(&mut message, detected, write_mark);
            return FittedHistory { message, is_told: false };
        }
        for call in message["tool_calls"].as_array_mut().into_iter().flatten() {
            let arguments = &mut call["function"]["arguments"];
            *arguments = if fit.arguments_are_objects { as_object(arguments) } else { as_text(arguments) };
            if fit.ids_are_short {
                shorten(&mut call["id"]);
            }
        }
        if text_of(&message["content"]).is_empty() {
            message["content"] = if fit.content_is_null { Json::Null } else { json!("") };
        }
    } else if let Some(message) = message.as_object_mut()
        && message.get("tool_calls").is_some_and(|calls| calls.is_null() || *calls == json!([]))
    {
        // Templates ask whether it is there.
        message.shift_remove("tool_calls");
    }
    FittedHistory { message, is_told: false }
}

/// A message's calls, where it has any.
fn calls_of(message: &Json) -> Option<&Vec<Json>> {
    let calls = message.get("tool_calls")?.as_array()?;
    // What is no call of a function is left to the template.
    let is_call = |call: &Json| call["function"]["name"].is_string();
    (!calls.is_empty() && calls.iter().all(is_call)).then_some(calls)
}

/// The calls as text behind the content.
fn write_calls(message: &mut Json, detected: &Detected, write_mark: &dyn Fn(&str) -> String) {
    let calls = calls_of(message).cloned().unwrap_or_default();
    let arguments: Vec<Json> = calls.iter().map(|call| as_object(&call["function"]["arguments"])).collect();
    let list: Vec<Call<'_>> = calls
        .iter()
        .zip(&arguments)
        .map(|(call, arguments)| Call {
            id: call["id"].as_str().unwrap_or_default(),
            name: call["function"]["name"].as_str().unwrap_or_default(),
            arguments,
        })
        .collect();
    let text = generic::written(&detected.dialect.calls, &list, write_mark);
    append(&mut message["content"], &text, BETWEEN);
    if let Some(message) = message.as_object_mut() {
        message.shift_remove("tool_calls");
    }
}

/// Gives calls without an id one, and results the id and the name of the call that they answer.
fn name_calls(messages: &mut [Json]) {
    let mut waiting: Vec<(String, String)> = Vec::new();
    for (place, message) in messages.iter_mut().enumerate() {
        if message["role"] == "tool" && message.is_object() {
            let id = message["tool_call_id"].as_str().unwrap_or_default();
            let answered = waiting.iter().position(|(other, _)| id.is_empty() || id == other);
            if let Some(answered) = answered {
                let (id, name) = waiting.remove(answered);
                message["tool_call_id"] = id.into();
                if message["name"].is_null() {
                    message["name"] = name.into();
                }
            }
        } else if calls_of(message).is_some() {
            waiting.clear();
            for (number, call) in message["tool_calls"].as_array_mut().into_iter().flatten().enumerate() {
                if call["id"].as_str().is_none_or(str::is_empty) {
                    call["id"] = format!("call_{place}_{number}").into();
                }
                let text = |value: &Json| value.as_str().unwrap_or_default().to_owned();
                waiting.push((text(&call["id"]), text(&call["function"]["name"])));
            }
        }
    }
}

/// Messages of several calls as several messages, each before its own result.
fn one_by_one(fitted: Vec<FittedHistory>) -> Vec<FittedHistory> {
    let mut split: Vec<FittedHistory> = Vec::with_capacity(fitted.len());
    let mut rest = fitted.into_iter().peekable();
    while let Some(FittedHistory { message, is_told }) = rest.next() {
        let calls = calls_of(&message).filter(|calls| calls.len() > 1).cloned();
        let Some(calls) = calls else {
            split.push(FittedHistory { message, is_told });
            continue;
        };
        let mut results: Vec<FittedHistory> = Vec::new();
        while let Some(result) = rest.next_if(|next| next.is_told || next.message["role"] == "tool") {
            results.push(result);
        }
        for (number, call) in calls.into_iter().enumerate() {
            let mut one = message.clone();
            if number > 0 {
                // The text was said once.
                one["content"] = if one["content"].is_null() { Json::Null } else { json!("") };
            }
            let id = call["id"].clone();
            one["tool_calls"] = json!([call]);
            split.push(FittedHistory { message: one, is_told: false });
            let own = results.iter().position(|result| result.message["tool_call_id"] == id);
            // Told by a user, they have no ids: they come in the order of the calls.
            let own = own.or_else(|| results.first().filter(|first| first.is_told).map(|_| 0));
            split.extend(own.map(|own| results.remove(own)));
        }
        split.append(&mut results);
    }
    split
}

/// The messages, those that tell something in a user's words as one with their neighbours of the same role: templates
/// insist that users and models take turns.
fn joined(fitted: Vec<FittedHistory>) -> Vec<Json> {
    let mut joined: Vec<FittedHistory> = Vec::with_capacity(fitted.len());
    for FittedHistory { message, is_told } in fitted {
        match joined.last_mut() {
            Some(last)
                if (last.is_told || is_told)
                    && last.message["role"] == "user"
                    && message["role"] == "user" =>
            {
                append_content(&mut last.message["content"], message["content"].clone());
                last.is_told |= is_told;
            }
            _ => joined.push(FittedHistory { message, is_told }),
        }
    }
    joined.into_iter().map(|fitted| fitted.message).collect()
}

/// The thought where the template looks for it.
fn rename_thought(message: &mut Json, detected: &Detected) {
    let Some(field) = detected.fit.thinking_field else { return };
    // gpt-oss has no place for a thought and a text before one call.
    let is_full = calls_of(message).is_some() && !text_of(&message["content"]).is_empty();
    if is_full && detected.dialect.calls.form == Form::Harmony {
        return;
    }
    let thought =
        THINKING_FIELDS.iter().find_map(|field| message.get(field).filter(|thought| thought.is_string()));
    if let Some(thought) = thought.cloned() {
        message[field] = thought;
    }
}

/// Adds a text to a content, which is a text, a list of parts, or nothing.
fn append(content: &mut Json, text: &str, between: &str) {
    match content {
        Json::Array(parts) => parts.push(json!({ "type": "text", "text": text })),
        Json::String(own) if !own.is_empty() => {
            own.push_str(between);
            own.push_str(text);
        }
        _ => *content = text.into(),
    }
}

fn append_content(content: &mut Json, other: Json) {
    match other {
        Json::Array(others) => {
            if !content.is_array() {
                *content = json!([{ "type": "text", "text": text_of(content) }]);
            }
            if let Json::Array(parts) = content {
                parts.extend(others);
            }
        }
        other => append(content, &text_of(&other), BETWEEN),
    }
}

/// Arguments as an object. Text that is none, as models write it now and then, becomes its only field.
fn as_object(arguments: &Json) -> Json {
    let Json::String(text) = arguments else {
        return if arguments.is_object() { arguments.clone() } else { json!({}) };
    };
    match serde_json::from_str(text) {
        Ok(mut object @ Json::Object(_)) => {
            // What was written by its number within the text is a character only now.
            conversation::clean(&mut object);
            object
        }
        _ if text.trim().is_empty() => json!({}),
        _ => Map::from_iter([("arguments".to_owned(), arguments.clone())]).into(),
    }
}

fn as_text(arguments: &Json) -> Json {
    match arguments {
        Json::String(text) if !text.trim().is_empty() => arguments.clone(),
        Json::String(_) | Json::Null => json!("{}"),
        other => Json::String(other.to_string()),
    }
}

/// An id in nine letters and digits, the same for the same id.
fn shorten(id: &mut Json) {
    let Some(long) = id.as_str() else { return };
    if long.len() == SHORT_ID_CHARS && long.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return;
    }
    let mut hasher = DefaultHasher::new();
    long.hash(&mut hasher);
    let mut rest = hasher.finish();
    let mut short = String::with_capacity(SHORT_ID_CHARS);
    for _ in 0..SHORT_ID_CHARS {
        let digit = (rest % 36) as u32;
        short.push(char::from_digit(digit, 36).unwrap_or('0'));
        rest /= 36;
    }
    *id = short.into();
}
