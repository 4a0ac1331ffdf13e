//! A client of the `OpenAI` streaming API that notes when each piece of text arrives.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::subject::milliseconds;

/// One streamed answer.
#[derive(Clone, Debug, Default)]
pub(crate) struct Streamed {
    /// The pieces of text together.
    pub(crate) text: String,
    /// From sending the request to each piece of text, in milliseconds.
    pub(crate) pieces_ms: Vec<f64>,
    /// From sending the request to the end of the answer, in milliseconds.
    pub(crate) total_ms: f64,
    /// Tokens of the prompt, as the server counts them.
    pub(crate) prompt_tokens: u64,
    /// Of these, how many the server did not compute.
    pub(crate) cached_tokens: u64,
    /// Tokens generated, as the server counts them.
    pub(crate) completion_tokens: u64,
}

impl Streamed {
    /// Time to the first piece of text, in milliseconds.
    pub(crate) fn first_ms(&self) -> f64 {
        self.pieces_ms.first().copied().unwrap_or(f64::NAN)
    }

    /// Time of a token between the first piece of text and the last, in milliseconds. Counted in tokens and not in
    /// pieces, since a token may bring no text and a piece may hold several.
    pub(crate) fn token_ms(&self) -> f64 {
        let last = self.pieces_ms.last().copied().unwrap_or(f64::NAN);
        (last - self.first_ms()) / self.completion_tokens.saturating_sub(1).max(1) as f64
    }
}

/// Streams a greedy completion of a fixed length.
pub(crate) fn complete(url: &str, model: &str, prompt: &str, tokens: u32) -> Result<Streamed> {
    let body = json!({
        "model": model, "prompt": prompt, "max_tokens": tokens, "temperature": 0, "stream": true,
        "stream_options": {"include_usage": true},
    });
    ask(&format!("{url}/v1/completions"), &body)
}

/// Streams a greedy answer of a fixed length to a conversation of one message.
pub(crate) fn chat(url: &str, model: &str, content: &str, tokens: u32) -> Result<Streamed> {
    let body = json!({
        "model": model, "messages": [{"role": "user", "content": content}], "max_tokens": tokens,
        "temperature": 0, "stream": true, "stream_options": {"include_usage": true},
    });
    ask(&format!("{url}/v1/chat/completions"), &body)
}

/// Streams the answer to a request that asks for its usage as well.
pub(crate) fn ask(url: &str, body: &Value) -> Result<Streamed> {
    let started = Instant::now();
    let response = ureq::post(url).header("content-type", "application/json").send(body.to_string())?;
    let mut answer = Streamed::default();
    for line in BufReader::new(response.into_body().into_reader()).lines() {
        let line = line?;
        let Some(data) = line.strip_prefix("data: ") else { continue };
        if data == "[DONE]" {
            break;
        }
        let event: Value = serde_json::from_str(data)?;
        ensure!(event["error"].is_null(), "{}", event["error"]);
        let choice = &event["choices"][0];
        let text = choice["text"].as_str().or_else(|| choice["delta"]["content"].as_str());
        if let Some(text) = text.filter(|text| !text.is_empty()) {
            answer.text.push_str(text);
            answer.pieces_ms.push(milliseconds(started.elapsed()));
        }
        if let Some(usage) = event["usage"].as_object() {
            answer.prompt_tokens = usage["prompt_tokens"].as_u64().unwrap_or_default();
            answer.cached_tokens =
                usage["prompt_tokens_details"]["cached_tokens"].as_u64().unwrap_or_default();
            answer.completion_tokens = usage["completion_tokens"].as_u64().unwrap_or_default();
        }
    }
    answer.total_ms = milliseconds(started.elapsed());
    ensure!(answer.completion_tokens > 0, "the server told no usage");
    Ok(answer)
}

/// Whether a GET of `url` answers 200.
pub(crate) fn is_fine(url: &str) -> bool {
    let soon = ureq::Agent::config_builder().timeout_global(Some(Duration::from_secs(1))).build();
    ureq::Agent::new_with_config(soon).get(url).call().is_ok()
}

/// An address on which nothing listens at this moment.
pub(crate) fn free_address() -> Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0").context("no free port")?;
    Ok(listener.local_addr()?.to_string())
}
