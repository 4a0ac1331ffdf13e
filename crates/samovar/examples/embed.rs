//! A model in ten lines: the one that is built in, answering from this process.
//!
//! `cargo run --release -p samovar --example embed`
#![allow(clippy::print_stdout, reason = "an example talks to a person at a terminal")]

use std::time::Duration;

use samovar::{Failure, Message, Request, Runtime};

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let runtime = Runtime::builder().build()?;
    let question = Request::chat("demo", [Message::user("Tell me a story about a fox")]).max_tokens(48);
    let mut answer = runtime.generate(question);
    while let Some(text) = answer.next_text().await? {
        print!("{text}");
    }
    println!();
    runtime.shutdown(Duration::from_secs(5)).await;
    Ok(())
}
