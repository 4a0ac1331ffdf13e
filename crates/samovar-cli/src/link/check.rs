//! Asks the daemon as a program does: its routes, the shape of its requests, and what it waits for in an answer. Each answer has
//! one token, or a few.

use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::Request;
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::rustls::pki_types::ServerName;

use super::{ClientProgram, LinkTarget, own_certificate};

/// An answer may have to wait until its model is loaded.
const ANSWER_LIMIT: Duration = Duration::from_secs(120);
const ANSWER_MAX_BYTES: usize = 4 << 20;
/// Characters of an answer that are shown when it is not what was waited for.
const SHOWN_CHARACTERS: usize = 200;

/// One request of a program.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ProgramRequest {
    /// What the program does with it.
    pub(crate) what: &'static str,
    /// The path, with a query if there is one.
    pub(crate) path: &'static str,
    /// What is sent; nothing for a GET.
    pub(crate) body: Option<Value>,
    /// One of these must stand in the answer.
    pub(crate) awaits: Vec<String>,
}

/// How it went.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Checked {
    /// What the program does with the request.
    pub(crate) what: &'static str,
    /// The path that was asked.
    pub(crate) path: &'static str,
    /// It works.
    pub(crate) works: bool,
    /// What came instead.
    pub(crate) answer: Option<String>,
}

/// The requests of a program.
pub(crate) fn asks(program: ClientProgram, target: &LinkTarget) -> Vec<ProgramRequest> {
    let embeds = |form: Option<&str>| {
        target
            .embedder
            .iter()
            .map(move |embedder| embeddings(embedder, form))
            .collect::<Vec<ProgramRequest>>()
    };
    let streamed = || {
        chat(
            "streams an answer",
            target,
            json!({ "stream": true, "stream_options": { "include_usage": true } }),
        )
    };
    let whole = || chat("gets a whole answer", target, json!({ "stream": false, "temperature": 0 }));
    match program {
        ClientProgram::OpenWebui => [vec![models(target), streamed()], embeds(Some("float"))].concat(),
        ClientProgram::Continue => [vec![streamed()], embeds(Some("float"))].concat(),
        ClientProgram::Zed => vec![with_tools(target)],
        ClientProgram::Codex => vec![responses(target)],
        ClientProgram::ClaudeCode => vec![messages(target), count_tokens(target)],
        ClientProgram::Opencode => vec![streamed(), with_tools(target)],
        ClientProgram::Aider => vec![streamed(), whole()],
        ClientProgram::Langchain => [vec![whole()], embeds(Some("base64"))].concat(),
        ClientProgram::Litellm => [vec![models(target), whole(), streamed()], embeds(None)].concat(),
    }
}

fn models(target: &LinkTarget) -> ProgramRequest {
    ProgramRequest {
        what: "lists models",
        path: "/v1/models",
        body: None,
        awaits: vec![Value::from(target.chat.as_str()).to_string()],
    }
}

fn chat(what: &'static str, target: &LinkTarget, more: Value) -> ProgramRequest {
    let is_streamed = more["stream"] == true;
    let mut body = json!({
        "model": target.chat,
        "messages": [{ "role": "system", "content": "Be brief." }, { "role": "user", "content": "Hi" }],
        "max_tokens": 1,
    });
    if let (Some(body), Value::Object(more)) = (body.as_object_mut(), more) {
        body.extend(more);
    }
    let awaits = if is_streamed { "data: [DONE]" } else { "\"finish_reason\"" };
    ProgramRequest { what, path: "/v1/chat/completions", body: Some(body), awaits: vec![awaits.to_owned()] }
}

fn tool() -> Value {
    json!({
        "name": "read_file",
        "description": "Reads a file",
        "parameters": { "type": "object", "properties": { "path": { "type": "string" } }, "required": ["path"] },
    })
}

fn with_tools(target: &LinkTarget) -> ProgramRequest {
    let more = json!({ "stream": true, "tools": [{ "type": "function", "function": tool() }], "tool_choice": "auto" });
    chat("streams an answer that may call tools", target, more)
}

/// As its agent sends it: with kinds of tools that only OpenAI has, and a message of the developer.
fn responses(target: &LinkTarget) -> ProgramRequest {
    let message = |role: &str, text: &str| json!({ "type": "message", "role": role, "content": [{ "type": "input_text", "text": text }] });
    let mut function = tool();
    function["type"] = "function".into();
    let body = json!({
        "model": target.chat,
        "instructions": "Be brief.",
        "input": [message("developer", "You are in a test."), message("user", "Hi")],
        "tools": [function, { "type": "web_search" }],
        "tool_choice": "auto",
        "parallel_tool_calls": false,
        "store": false,
        "stream": true,
        "include": ["reasoning.encrypted_content"],
        "prompt_cache_key": "samovar-link",
        "max_output_tokens": 16,
    });
    ProgramRequest {
        what: "streams an answer",
        path: "/v1/responses",
        body: Some(body),
        // The answer is cut at its length, if it does not end before.
        awaits: ["response.completed", "response.incomplete"].map(str::to_owned).to_vec(),
    }
}

fn anthropic(target: &LinkTarget) -> Value {
    let function = tool();
    json!({
        "model": target.chat,
        "system": [{ "type": "text", "text": "Be brief.", "cache_control": { "type": "ephemeral" } }],
        "messages": [{ "role": "user", "content": [{ "type": "text", "text": "Hi" }] }],
        "tools": [{ "name": function["name"], "description": function["description"], "input_schema": function["parameters"] }],
    })
}

fn messages(target: &LinkTarget) -> ProgramRequest {
    let mut body = anthropic(target);
    body["max_tokens"] = 1.into();
    body["stream"] = true.into();
    body["metadata"] = json!({ "user_id": "samovar-link" });
    ProgramRequest {
        what: "streams an answer",
        path: "/v1/messages?beta=true",
        body: Some(body),
        awaits: vec!["message_stop".to_owned()],
    }
}

fn count_tokens(target: &LinkTarget) -> ProgramRequest {
    ProgramRequest {
        what: "counts tokens",
        path: "/v1/messages/count_tokens?beta=true",
        body: Some(anthropic(target)),
        awaits: vec!["input_tokens".to_owned()],
    }
}

fn embeddings(embedder: &str, form: Option<&str>) -> ProgramRequest {
    let mut body = json!({ "model": embedder, "input": ["Hi"] });
    if let Some(form) = form {
        body["encoding_format"] = form.into();
    }
    ProgramRequest {
        what: "makes vectors",
        path: "/v1/embeddings",
        body: Some(body),
        awaits: vec!["\"embedding\"".to_owned()],
    }
}

/// Sends the requests, one after the other.
pub(crate) async fn check(asks: &[ProgramRequest], target: &LinkTarget, key: Option<&str>) -> Vec<Checked> {
    let mut checked = Vec::with_capacity(asks.len());
    for ask in asks {
        let answer = tokio::time::timeout(ANSWER_LIMIT, send(ask, target, key)).await;
        let answer = answer.unwrap_or_else(|_| Err(format!("no answer within {} s", ANSWER_LIMIT.as_secs())));
        let answer = match answer {
            Ok((200, text)) if ask.awaits.iter().any(|awaited| text.contains(awaited)) => None,
            Ok((status, text)) => Some(format!("{status}: {}", shortened(&text))),
            Err(reason) => Some(reason),
        };
        checked.push(Checked { what: ask.what, path: ask.path, works: answer.is_none(), answer });
    }
    checked
}

/// The message of an error, else the beginning of the answer.
fn shortened(text: &str) -> String {
    let value: Value = serde_json::from_str(text).unwrap_or_default();
    let error = &value["error"];
    let message = error["message"].as_str().or_else(|| error.as_str()).unwrap_or(text).trim();
    message.chars().take(SHOWN_CHARACTERS).collect()
}

async fn send(ask: &ProgramRequest, target: &LinkTarget, key: Option<&str>) -> Result<(u16, String), String> {
    let host = target.authority();
    let stream = TcpStream::connect(&host)
        .await
        .map_err(|error| format!("nothing answers at {host}: {}", samovar_core::system_words(&error)))?;
    if !target.is_tls {
        return exchange(stream, ask, host, key).await;
    }
    let file = target.certificate.as_deref();
    let connector = own_certificate::connector(file.ok_or("`server.tls.certificate` is not set here")?)?;
    let name = ServerName::try_from(target.server_name())
        .map_err(|_| format!("no certificate can be made for {host}"))?;
    let stream = connector.connect(name, stream).await;
    exchange(stream.map_err(|error| format!("the TLS handshake failed: {error}"))?, ask, host, key).await
}

/// One request over a connection, and its answer.
async fn exchange<S>(
    stream: S,
    ask: &ProgramRequest,
    host: String,
    key: Option<&str>,
) -> Result<(u16, String), String>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let broken = |error: hyper::Error| format!("the connection broke: {error}");
    let (mut requests, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
    tokio::spawn(connection);
    let mut request = Request::builder().uri(ask.path).header("host", host);
    if let Some(key) = key {
        request = request.header("authorization", format!("Bearer {key}"));
    }
    let body = match &ask.body {
        Some(body) => {
            request = request.method("POST").header("content-type", "application/json");
            if ask.path.starts_with("/v1/messages") {
                request = request.header("anthropic-version", "2023-06-01");
            }
            Bytes::from(body.to_string())
        }
        None => Bytes::new(),
    };
    let request =
        request.body(Full::new(body)).map_err(|_| "the key cannot be sent in a header".to_owned())?;
    let response = requests.send_request(request).await.map_err(broken)?;
    let status = response.status().as_u16();
    let bytes = Limited::new(response.into_body(), ANSWER_MAX_BYTES).collect().await;
    let bytes = bytes.map_err(|error| format!("the answer broke off: {error}"))?.to_bytes();
    Ok((status, String::from_utf8_lossy(&bytes).into_owned()))
}
