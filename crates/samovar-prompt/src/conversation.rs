//! What a template sees of a conversation: its JSON, read, and with nothing in it that could be taken for a mark.

use minijinja::Value;
use samovar_core::chat::Chat;
use samovar_core::{ErrorKind, Failure};
use serde_json::{Map, Value as Json};

use crate::marks;
use crate::template::Clock;

/// A conversation's parts, as values.
#[derive(Debug)]
pub(crate) struct Conversation {
    arguments: Map<String, Json>,
    pub(crate) messages: Json,
    tools: Option<Json>,
    documents: Option<Json>,
}

impl Conversation {
    /// Reads what travelled as text.
    ///
    /// # Errors
    /// `InvalidRequest` when it is no JSON of the kind.
    pub(crate) fn read(chat: &Chat) -> Result<Self, Failure> {
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
        })
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

fn json(text: &str, param: &str) -> Result<Json, Failure> {
    let mut value = serde_json::from_str(text).map_err(|error| {
        Failure::new(ErrorKind::InvalidRequest, format!("{param} cannot be read: {error}")).with_param(param)
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
            .with_param("chat_template_kwargs")),
    }
}

/// Replaces marks in every text. JSON that could be read nests no deeper than a stack allows.
fn clean(value: &mut Json) {
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
