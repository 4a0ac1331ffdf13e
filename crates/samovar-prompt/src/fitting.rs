//! Fits a conversation to what a template can take: a system text where it knows no such role, lists of parts where it
//! knows only texts. It changes nothing that the template can take as it is.

use serde_json::{Value as Json, json};

/// What stands between two texts that become one.
pub(crate) const BETWEEN: &str = "\n";

/// The messages with the system's text in front of the next user message, as llama-server puts it; `None` where they
/// do not begin with one, or no user speaks.
pub(crate) fn system_before_user(messages: &Json) -> Option<Json> {
    let mut messages = messages.as_array()?.clone();
    let count = messages.iter().take_while(|message| message["role"] == "system").count();
    let user = messages.iter().position(|message| message["role"] == "user")?;
    if count == 0 {
        return None;
    }
    let texts: Vec<String> = messages[..count]
        .iter()
        .map(|message| text_of(&message["content"]))
        .filter(|text| !text.is_empty())
        .collect();
    let content = &mut messages[user]["content"];
    if let Json::Array(parts) = content {
        parts.insert(0, json!({ "type": "text", "text": texts.join(BETWEEN) }));
    } else {
        let own = text_of(content);
        *content = Json::String(
            texts.iter().map(String::as_str).chain([own.as_str()]).collect::<Vec<_>>().join(BETWEEN),
        );
    }
    messages.drain(..count);
    Some(Json::Array(messages))
}

/// The messages with each list of text parts as one text, a part a line; `None` where there is none.
pub(crate) fn parts_joined(messages: &Json) -> Option<Json> {
    let list = messages.as_array()?;
    if !list.iter().any(|message| is_text_parts(&message["content"])) {
        return None;
    }
    let mut joined = list.clone();
    for message in &mut joined {
        if is_text_parts(&message["content"]) {
            let text = text_of(&message["content"]);
            message["content"] = Json::String(text);
        }
    }
    Some(Json::Array(joined))
}

fn is_text_parts(content: &Json) -> bool {
    content.as_array().is_some_and(|parts| parts.iter().all(|part| part["text"].is_string()))
}

pub(crate) fn text_of(content: &Json) -> String {
    match content {
        Json::String(text) => text.clone(),
        Json::Array(parts) => {
            parts.iter().filter_map(|part| part["text"].as_str()).collect::<Vec<_>>().join(BETWEEN)
        }
        _ => String::new(),
    }
}

/// A word that no template contains.
const PROBE: &str = "samovar-probe-5309";

/// A conversation of one user message, which every template takes; with a system message first where `with_system`.
pub(crate) fn probe(with_system: bool, with_parts: bool) -> String {
    let content = if with_parts { json!([{ "type": "text", "text": PROBE }]) } else { json!(PROBE) };
    let user = json!({ "role": "user", "content": content });
    let system = json!({ "role": "system", "content": "x" });
    if with_system { json!([system, user]) } else { json!([user]) }.to_string()
}

/// Whether a template that wrote this for a probe of parts took them apart: it wrote their text, and not the list.
pub(crate) fn takes_parts(rendered: &str) -> bool {
    let is_list_written = ["'type'", "\"type\""].iter().any(|key| rendered.contains(key));
    rendered.contains(PROBE) && !is_list_written
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_system_text_goes_before_the_next_user_message() {
        let messages = json!([
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Hello", "name": "Ann"},
            {"role": "assistant", "content": "Hi"},
        ]);
        let expected = json!([
            {"role": "user", "content": "Be brief.\nHello", "name": "Ann"},
            {"role": "assistant", "content": "Hi"},
        ]);
        assert_eq!(system_before_user(&messages), Some(expected));
    }

    #[test]
    fn parts_stay_parts_under_a_system_text() {
        let messages = json!([
            {"role": "system", "content": [{"type": "text", "text": "A"}, {"type": "text", "text": "B"}]},
            {"role": "user", "content": [{"type": "image"}]},
        ]);
        let expected =
            json!([{"role": "user", "content": [{"type": "text", "text": "A\nB"}, {"type": "image"}]}]);
        assert_eq!(system_before_user(&messages), Some(expected));
    }

    #[test]
    fn nothing_is_moved_without_a_system_text_or_a_user() {
        assert_eq!(system_before_user(&json!([{"role": "user", "content": "a"}])), None);
        assert_eq!(system_before_user(&json!([{"role": "system", "content": "a"}])), None);
    }

    #[test]
    fn text_parts_become_lines() {
        let parts = json!([{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}]);
        assert_eq!(parts_joined(&parts), Some(json!([{"role": "user", "content": "a\nb"}])));
        assert_eq!(parts_joined(&json!([{"role": "user", "content": "a"}])), None);
        assert_eq!(parts_joined(&json!([{"role": "user", "content": [{"type": "image"}]}])), None);
    }
}
