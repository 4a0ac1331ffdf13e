//! Tools that a model may call, and its calls of them, in the form that templates know (`OpenAI`'s).

use samovar_core::{ErrorKind, Failure, ToolChoice};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::request::Request;

/// A function that the model may call.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tool {
    /// Its name: letters, digits, `_`, `-` and `.`.
    pub name: String,
    /// What it does, for the model.
    pub description: Option<String>,
    /// The JSON schema of its arguments, an object; `None` = it has none.
    pub parameters: Option<Value>,
    /// The model can write no arguments but those that the schema allows, if it writes them as JSON. Otherwise, and where this is
    /// false, names, types and listed values are all that is sure.
    pub strict: bool,
}

impl Tool {
    /// A tool without a description that takes no arguments.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), description: None, parameters: None, strict: false }
    }

    /// The same, described.
    #[must_use]
    pub fn description(mut self, description: impl Into<String>) -> Self {
        self.description = Some(description.into());
        self
    }

    /// The same with arguments of this JSON schema.
    #[must_use]
    pub fn parameters(mut self, schema: Value) -> Self {
        self.parameters = Some(schema);
        self
    }

    /// The same, and the model can write no arguments but those that the schema allows.
    #[must_use]
    pub fn strict(mut self) -> Self {
        self.strict = true;
        self
    }

    fn to_json(&self) -> Value {
        let mut function = json!({ "name": self.name });
        if let Some(description) = &self.description {
            function["description"] = description.as_str().into();
        }
        if let Some(parameters) = &self.parameters {
            function["parameters"] = parameters.clone();
        }
        if self.strict {
            function["strict"] = true.into();
        }
        json!({ "type": "function", "function": function })
    }
}

/// A call of a tool by the model.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(from = "WireCall")]
#[non_exhaustive]
pub struct ToolCall {
    /// Names it among all calls of the conversation.
    pub id: String,
    /// The tool.
    pub name: String,
    /// Its arguments, as the model wrote them: JSON, unless the model was free to write something else.
    pub arguments: String,
}

impl ToolCall {
    /// A call.
    pub fn new(id: impl Into<String>, name: impl Into<String>, arguments: impl Into<String>) -> Self {
        Self { id: id.into(), name: name.into(), arguments: arguments.into() }
    }

    /// The arguments as a value of this type; none at all are an empty object.
    ///
    /// # Errors
    /// `InvalidRequest` where they are no JSON or that of another type. Told as the result of the call, it helps most models to a
    /// better one.
    pub fn arguments_as<T: DeserializeOwned>(&self) -> Result<T, Failure> {
        let arguments = if self.arguments.trim().is_empty() { "{}" } else { self.arguments.as_str() };
        serde_json::from_str(arguments).map_err(|error| {
            let message = format!("the arguments of {:?} are not those that it takes: {error}", self.name);
            Failure::new(ErrorKind::InvalidRequest, message)
                .with_hint("a tool that is `strict` is called with no others")
        })
    }
}

impl Request {
    /// The same request to a model that may call these tools. [`Answer::collect_reply`](crate::Answer::collect_reply) has its
    /// calls; the next request has them in its conversation, each followed by its result
    /// ([`Reply::message`](crate::Reply::message), [`Message::tool`](crate::Message::tool)).
    #[must_use]
    pub fn tools(self, tools: impl IntoIterator<Item = Tool>) -> Self {
        self.generating(|generate| generate.tools = tools.into_iter().collect())
    }

    /// The same request with another choice among its tools than the model's own.
    #[must_use]
    pub fn tool_choice(self, tool_choice: ToolChoice) -> Self {
        self.generating(|generate| generate.tool_choice = tool_choice)
    }

    /// The same request, whose answer has one call at most.
    #[must_use]
    pub fn one_tool_call(self) -> Self {
        self.generating(|generate| generate.parallel_tool_calls = false)
    }
}

/// A call as templates and `OpenAI`'s clients know it.
#[derive(Serialize, Deserialize)]
struct WireCall {
    #[serde(default)]
    id: String,
    #[serde(rename = "type", default = "function")]
    kind: String,
    function: WireFunction,
}

fn function() -> String {
    "function".to_owned()
}

#[derive(Serialize, Deserialize)]
struct WireFunction {
    name: String,
    arguments: String,
}

impl From<WireCall> for ToolCall {
    fn from(call: WireCall) -> Self {
        Self { id: call.id, name: call.function.name, arguments: call.function.arguments }
    }
}

impl Serialize for ToolCall {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let (name, arguments) = (self.name.clone(), self.arguments.clone());
        let call =
            WireCall { id: self.id.clone(), kind: function(), function: WireFunction { name, arguments } };
        call.serialize(to)
    }
}

/// Tools as a JSON array; `None` where there are none.
pub(crate) fn written(tools: &[Tool]) -> Result<Option<String>, serde_json::Error> {
    if tools.is_empty() {
        return Ok(None);
    }
    serde_json::to_string(&tools.iter().map(Tool::to_json).collect::<Vec<_>>()).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::Message;

    #[test]
    fn tools_are_written_as_templates_know_them() {
        let schema = json!({ "type": "object", "properties": { "zone": { "type": "string" }, "at": {} } });
        let tools =
            [Tool::new("clock").description("Tells the time.").parameters(schema).strict(), Tool::new("a")];
        let json = written(&tools).expect("JSON").expect("tools");
        let expected = r#"[{"type":"function","function":{"name":"clock","description":"Tells the time.","#
            .to_owned()
            + r#""parameters":{"type":"object","properties":{"zone":{"type":"string"},"at":{}}},"strict":true}},"#
            + r#"{"type":"function","function":{"name":"a"}}]"#;
        assert_eq!(json, expected, "fields keep their order");
        assert_eq!(written(&[]).expect("nothing"), None);
    }

    #[test]
    fn calls_and_results_are_messages_as_templates_know_them() {
        let call = ToolCall::new("call_1", "clock", r#"{"zone":"UTC"}"#);
        let messages = [
            Message::assistant("").thinking("so").tool_calls([call]),
            Message::tool("call_1", "noon").name("clock"),
        ];
        let json = json!(messages);
        let expected = json!([
            { "role": "assistant", "content": "", "reasoning_content": "so", "tool_calls": [
                { "id": "call_1", "type": "function",
                  "function": { "name": "clock", "arguments": "{\"zone\":\"UTC\"}" } } ] },
            { "role": "tool", "content": "noon", "tool_call_id": "call_1", "name": "clock" },
        ]);
        assert_eq!(json, expected);
        assert_eq!(serde_json::from_value::<Vec<Message>>(json).expect("messages"), messages);
    }

    #[test]
    fn arguments_are_read_as_a_type_or_told_why_not() {
        #[derive(Debug, PartialEq, Deserialize)]
        struct Arguments {
            #[serde(default)]
            zone: String,
        }
        let read = |text: &str| ToolCall::new("1", "clock", text).arguments_as::<Arguments>();
        assert_eq!(read(r#"{"zone": "UTC"}"#), Ok(Arguments { zone: "UTC".to_owned() }));
        assert_eq!(read(" "), Ok(Arguments { zone: String::new() }));
        for wrong in ["UTC", "{", r#"{"zone": 7}"#] {
            let failure = read(wrong).expect_err("are not those");
            assert!(failure.message.contains("clock") && failure.hint.is_some(), "{failure}");
        }
    }
}
