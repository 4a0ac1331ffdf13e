//! What a template sees of a conversation: its JSON, read, and with nothing in it that could be taken for a mark.

use minijinja::Value;
use samovar_core::chat::Chat;
use samovar_core::{ErrorKind, Failure};
use serde_json::{Map, Value as Json};

use crate::control::ControlTokens;
use crate::marks;
use crate::template::Clock;

/// JSON values that a conversation may have, its tools, documents and arguments among them: each takes a hundred bytes
/// and more where it is rendered, however short it is written.
const VALUES: usize = 256 << 10;

/// Names of fields that templates look up. All others are what users wrote.
const KEYS: [&str; 28] = [
    "anyOf",
    "arguments",
    "content",
    "default",
    "description",
    "enum",
    "format",
    "function",
    "id",
    "image_url",
    "input_audio",
    "items",
    "name",
    "parameters",
    "properties",
    "reasoning",
    "reasoning_content",
    "required",
    "response",
    "role",
    "text",
    "thinking",
    "title",
    "tool_call_id",
    "tool_calls",
    "type",
    "url",
    "video",
];

/// Values of `type` that templates compare with.
const KINDS: [&str; 17] = [
    "array",
    "audio",
    "boolean",
    "document",
    "file",
    "function",
    "image",
    "image_url",
    "input_audio",
    "integer",
    "null",
    "number",
    "object",
    "string",
    "text",
    "video",
    "video_url",
];

/// A conversation's parts, as values.
#[derive(Clone, Debug)]
pub(crate) struct Conversation {
    arguments: Map<String, Json>,
    pub(crate) messages: Json,
    pub(crate) tools: Option<Json>,
    documents: Option<Json>,
    /// Marks of ours stand around control tokens in it.
    pub(crate) has_marks: bool,
}

impl Conversation {
    /// Reads what travelled as text.
    ///
    /// # Errors
    /// `InvalidRequest` when it is no JSON of the kind, or has too many parts.
    pub(crate) fn read(chat: &Chat) -> Result<Self, Failure> {
        // Before anything is read: what reading takes counts as the template's.
        check_values(chat.texts().map(values).sum())?;
        let list = |list: &Option<String>, param| list.as_deref().map(|list| json(list, param)).transpose();
        let arguments = match &chat.arguments {
            Some(arguments) => object(arguments)?,
            None => Map::new(),
        };
        Ok(Self {
            arguments,
            messages: json(&chat.messages, "messages")?,
            tools: list(&chat.tools, "tools")?,
            documents: list(&chat.documents, "documents")?,
            has_marks: false,
        })
    }

    /// The conversation with letters in the place of whatever a control token could be made of; `None` where nothing in
    /// it is of that kind. With `replaces_all`, of everything that is said: for templates that make signs of other
    /// characters.
    pub(crate) fn disarmed(&self, tokens: &ControlTokens, replaces_all: bool) -> Option<Self> {
        let said = Disarmer { tokens, replaces_all };
        // Settings are compared with words that the template knows.
        let set = Disarmer { tokens, replaces_all: false };
        let is_armed = said.is_armed(&self.messages, Place::Messages)
            || self.tools.iter().chain(&self.documents).any(|list| said.is_armed(list, Place::Other))
            || self.arguments.values().any(|argument| set.is_armed(argument, Place::Other));
        if !is_armed {
            return None;
        }
        let mut disarmed = self.clone();
        said.disarm(&mut disarmed.messages, Place::Messages);
        for list in disarmed.tools.iter_mut().chain(&mut disarmed.documents) {
            said.disarm(list, Place::Other);
        }
        for argument in disarmed.arguments.values_mut() {
            set.disarm(argument, Place::Other);
        }
        Some(disarmed)
    }

    /// Everything that the template can name. Arguments replace nothing of ours.
    pub(crate) fn variables(&self, chat: &Chat, bos_token: &str, eos_token: &str) -> Value {
        let arguments = self.arguments.iter().map(|(name, argument)| (name.clone(), value(argument)));
        let ours = [
            ("messages", Some(value(&self.messages))),
            ("tools", self.tools.as_ref().map(value)),
            ("documents", self.documents.as_ref().map(value)),
            ("add_generation_prompt", Some(chat.add_generation_prompt.into())),
            ("bos_token", Some(bos_token.into())),
            ("eos_token", Some(eos_token.into())),
            ("strftime_now", Some(Value::from_object(Clock(chat.now)))),
        ];
        let ours = ours.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
        // The last of one name counts.
        Value::from_pairs(arguments.chain(ours))
    }
}

/// JSON as the template engine sees it. What could be read nests no deeper than a stack allows.
fn value(json: &Json) -> Value {
    match json {
        Json::Null => Value::from(()),
        Json::Bool(truth) => Value::from(*truth),
        Json::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(number), _) => Value::from(number),
            (None, Some(number)) => Value::from(number),
            (None, None) => Value::from(number.as_f64().unwrap_or(f64::NAN)),
        },
        Json::String(text) => Value::from(text.as_str()),
        Json::Array(items) => items.iter().map(value).collect(),
        Json::Object(fields) => {
            Value::from_pairs(fields.iter().map(|(name, field)| (name.as_str(), value(field))))
        }
    }
}

/// Where a value stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// The list of messages.
    Messages,
    /// One of them.
    Message,
    /// A message's own role.
    Role,
    /// What names the kind of something.
    Kind,
    Other,
}

impl Place {
    fn of_item(self) -> Self {
        match self {
            Self::Messages => Self::Message,
            Self::Kind => Self::Kind,
            _ => Self::Other,
        }
    }

    fn of_field(self, name: &str) -> Self {
        match (self, name) {
            (Self::Message, "role") => Self::Role,
            (_, "type") => Self::Kind,
            _ => Self::Other,
        }
    }
}

/// Replaces what control tokens could be made of. JSON that could be read nests no deeper than a stack allows.
#[derive(Debug)]
struct Disarmer<'t> {
    tokens: &'t ControlTokens,
    replaces_all: bool,
}

impl Disarmer<'_> {
    fn text(&self, text: &str, place: Place) -> Option<String> {
        match place {
            Place::Role => self.tokens.disarmed(text, true),
            Place::Kind if KINDS.contains(&text) => None,
            _ => self.other(text),
        }
    }

    fn key(&self, name: &str) -> Option<String> {
        if KEYS.contains(&name) { None } else { self.other(name) }
    }

    fn other(&self, text: &str) -> Option<String> {
        if self.replaces_all {
            let is_said = |c: char| !c.is_whitespace() && c != 'x';
            return text.contains(is_said).then(|| text.replace(is_said, "x"));
        }
        self.tokens.disarmed(text, false)
    }

    /// Whether there is anything to replace. Nothing is copied to find out.
    fn is_armed(&self, value: &Json, place: Place) -> bool {
        match value {
            Json::String(text) => self.text(text, place).is_some(),
            Json::Array(items) => items.iter().any(|item| self.is_armed(item, place.of_item())),
            Json::Object(fields) => fields
                .iter()
                .any(|(name, field)| self.key(name).is_some() || self.is_armed(field, place.of_field(name))),
            Json::Null | Json::Bool(_) | Json::Number(_) => false,
        }
    }

    fn disarm(&self, value: &mut Json, place: Place) {
        match value {
            Json::String(text) => {
                if let Some(disarmed) = self.text(text, place) {
                    *text = disarmed;
                }
            }
            Json::Array(items) => items.iter_mut().for_each(|item| self.disarm(item, place.of_item())),
            Json::Object(fields) => {
                for (name, field) in fields.iter_mut() {
                    self.disarm(field, place.of_field(name));
                }
                if fields.keys().any(|name| self.key(name).is_some()) {
                    *fields = std::mem::take(fields)
                        .into_iter()
                        .map(|(name, field)| (self.key(&name).unwrap_or(name), field))
                        .collect();
                }
            }
            Json::Null | Json::Bool(_) | Json::Number(_) => {}
        }
    }
}

/// Refuses a conversation of so many values that there are too many.
///
/// # Errors
/// `InvalidRequest` when there are.
pub(crate) fn check_values(values: usize) -> Result<(), Failure> {
    if values > VALUES {
        return Err(Failure::new(
            ErrorKind::InvalidRequest,
            format!("the conversation has {values} JSON values, {VALUES} is the limit"),
        )
        .with_hint("send fewer messages, tools or documents, or longer texts instead of lists")
        .with_param("messages"));
    }
    Ok(())
}

/// How many values the text of a JSON has, at most: each but the first begins a list or an object, or goes on with it.
pub(crate) fn values(text: &str) -> usize {
    let (mut values, mut is_in_text, mut is_escaped) = (1, false, false);
    for byte in text.bytes() {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' => is_escaped = is_in_text,
            b'"' => is_in_text = !is_in_text,
            b'[' | b'{' | b',' if !is_in_text => values += 1,
            _ => {}
        }
    }
    values
}

fn json(text: &str, param: &str) -> Result<Json, Failure> {
    let mut value = serde_json::from_str(text).map_err(|error| {
        Failure::new(ErrorKind::InvalidRequest, format!("{param} cannot be read: {error}"))
            .with_hint("it must be valid JSON")
            .with_param(param)
    })?;
    // A mark may be written as itself or by its number.
    if !marks::is_clean(text) || text.contains("\\u") {
        clean(&mut value);
    }
    Ok(value)
}

fn object(text: &str) -> Result<Map<String, Json>, Failure> {
    match json(text, "chat_template_kwargs")? {
        Json::Object(object) => Ok(object),
        _ => Err(Failure::new(ErrorKind::InvalidRequest, "chat_template_kwargs must be an object")
            .with_hint("such as {\"enable_thinking\": false}")
            .with_param("chat_template_kwargs")),
    }
}

/// Replaces marks in every text. JSON that could be read nests no deeper than a stack allows.
pub(crate) fn clean(value: &mut Json) {
    match value {
        Json::String(text) if !marks::is_clean(text) => *text = marks::clean(text),
        Json::Array(items) => items.iter_mut().for_each(clean),
        Json::Object(fields) => {
            if fields.keys().any(|name| !marks::is_clean(name)) {
                *fields = std::mem::take(fields)
                    .into_iter()
                    .map(|(name, value)| (marks::clean(&name), value))
                    .collect();
            }
            fields.values_mut().for_each(clean);
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens() -> ControlTokens {
        ControlTokens::new(["<|user|>", "<|end|>", "<|image|>", "<|content|>"].map(str::to_owned))
    }

    fn read(messages: &str) -> Conversation {
        Conversation::read(&Chat::new(messages, 1)).expect("reads")
    }

    /// The messages of the disarmed conversation.
    fn disarmed(messages: &str, replaces_all: bool) -> Option<Json> {
        read(messages).disarmed(&tokens(), replaces_all).map(|disarmed| disarmed.messages)
    }

    #[test]
    fn what_a_token_could_not_be_made_of_stays() {
        let messages = r#"[{"role":"user","content":[{"type":"image"},{"type":"text","text":"a (b)"}]}]"#;
        assert_eq!(disarmed(messages, false), None);
    }

    #[test]
    fn only_a_messages_own_role_and_known_kinds_may_be_the_word_of_a_token() {
        let messages = r#"[{"role":"user","content":[{"role":"user","type":"end","text":"a"}]}]"#;
        let expected = serde_json::json!(
            [{ "role": "user", "content": [{ "role": "xxxx", "type": "xxx", "text": "a" }] }]
        );
        assert_eq!(disarmed(messages, false), Some(expected));
    }

    #[test]
    fn only_keys_that_templates_look_up_may_be_the_word_of_a_token() {
        let messages = r#"[{"role":"user","content":"a","end":1,"tool_calls":[{"<|":2}]}]"#;
        let expected =
            serde_json::json!([{ "role": "user", "content": "a", "xxx": 1, "tool_calls": [{ "xx": 2 }] }]);
        assert_eq!(disarmed(messages, false), Some(expected));
    }

    #[test]
    fn everything_that_is_said_can_be_replaced() {
        let messages = r#"[{"role":"user","content":[{"type":"text","text":"&lt; b"}]}]"#;
        assert_eq!(disarmed(messages, false), None);
        let expected =
            serde_json::json!([{ "role": "user", "content": [{ "type": "text", "text": "xxxx x" }] }]);
        assert_eq!(disarmed(messages, true), Some(expected));
    }

    #[test]
    fn a_conversation_of_too_many_values_is_the_requests_fault() {
        assert_eq!(values(r#"[{"a":"[,\",{"},[1,2]]"#), 5 + 1);
        let list = |count: usize| format!("[{}1]", "1,".repeat(count - 1));
        assert!(Conversation::read(&Chat::new(list(VALUES - 1), 1)).is_ok());
        let failure = Conversation::read(&Chat::new(list(VALUES), 1)).expect_err("refuses");
        assert_eq!(failure.kind, ErrorKind::InvalidRequest);
    }
}
