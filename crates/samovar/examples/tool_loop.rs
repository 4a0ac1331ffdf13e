//! A tool loop: the model calls a calculator and a clock until it can answer.
//!
//! `cargo run --release -p samovar --example tool_loop -- MODEL QUESTION`
//!
//! MODEL is a model that was trained to call tools: a file, or a name of a hub. Each call and its result go back to the model with the
//! whole conversation; the prompt's state is reused, so that only what is new is computed.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "an example talks to a person at a terminal")]

use std::error::Error;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use samovar::{ErrorKind, Failure, Message, Request, Runtime, Tool, ToolCall};
use serde::Deserialize;
use serde_json::json;

/// Answers of the model, at most: some call tools without end.
const TURNS: usize = 8;
const USAGE: &str = "usage: tool_loop MODEL QUESTION";

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let mut argument = || arguments.next().ok_or(USAGE);
    let (model, question) = (argument()?, argument()?);
    let runtime = Runtime::builder().build()?;
    println!("{}", answer(&runtime, &model, &question).await?);
    runtime.shutdown(Duration::from_secs(5)).await;
    Ok(())
}

/// What the model may call. A strict tool is called with no other arguments than its schema allows.
fn tools() -> [Tool; 2] {
    let arguments = json!({
        "type": "object",
        "properties": {
            "a": { "type": "number" },
            "operator": { "enum": ["+", "-", "*", "/"] },
            "b": { "type": "number" },
        },
        "required": ["a", "operator", "b"],
        "additionalProperties": false,
    });
    [
        Tool::new("calculate").description("Computes with two numbers.").parameters(arguments).strict(),
        Tool::new("clock").description("Tells the seconds since 1970."),
    ]
}

/// The model's answer to the question, once it calls no more tools.
pub(crate) async fn answer(runtime: &Runtime, model: &str, question: &str) -> Result<String, Failure> {
    let mut conversation = vec![Message::user(question)];
    for _ in 0..TURNS {
        let request = Request::chat(model, conversation.iter().cloned()).tools(tools()).max_tokens(1_024);
        let reply = runtime.generate(request).collect_reply().await?;
        if reply.tool_calls.is_empty() {
            return Ok(reply.text);
        }
        conversation.push(reply.message());
        for call in &reply.tool_calls {
            // What is wrong with a call, the model is told: most correct it.
            let result = run(call).unwrap_or_else(|failure| format!("error: {failure}"));
            eprintln!("{}({}): {result}", call.name, call.arguments);
            conversation.push(Message::tool(&call.id, result).name(&call.name));
        }
    }
    Err(Failure::new(ErrorKind::InvalidRequest, format!("the model still calls tools after {TURNS} turns")))
}

/// What the tool says.
fn run(call: &ToolCall) -> Result<String, Failure> {
    match call.name.as_str() {
        "calculate" => call.arguments_as().map(|sum: Sum| sum.result().to_string()),
        "clock" => {
            let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            Ok(since_1970.as_secs().to_string())
        }
        other => Err(Failure::new(ErrorKind::NotFound, format!("there is no tool {other:?}"))),
    }
}

/// The arguments of the calculator.
#[derive(Deserialize)]
struct Sum {
    a: f64,
    operator: char,
    b: f64,
}

impl Sum {
    fn result(&self) -> f64 {
        match self.operator {
            '+' => self.a + self.b,
            '-' => self.a - self.b,
            '*' => self.a * self.b,
            '/' => self.a / self.b,
            _ => f64::NAN,
        }
    }
}
