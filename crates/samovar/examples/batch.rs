//! A batch: every `.txt` of a folder is a prompt, and its answer is written beside it, into a file that ends in `.answer`.
//!
//! `cargo run --release -p samovar --example batch -- FOLDER [MODEL]`
//!
//! The model is loaded once and answers as many prompts at the same time as it has slots; the others wait in its queue. What has an
//! answer already is passed over, so that a batch which was broken off goes on.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "an example talks to a person at a terminal")]

use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures_util::{StreamExt, stream};
use samovar::{Message, Request, Runtime, Summary};

/// More than a model has slots, so that none of them is ever idle.
const AT_THE_SAME_TIME: usize = 8;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let folder = PathBuf::from(arguments.next().ok_or("usage: batch FOLDER [MODEL]")?);
    let model = arguments.next().unwrap_or_else(|| "demo".to_owned());
    let runtime = Runtime::builder().build()?;
    let answers = stream::iter(prompts(&folder)?).map(|prompt| answer(&runtime, &model, prompt));
    let mut answers = answers.buffer_unordered(AT_THE_SAME_TIME);
    while let Some((prompt, outcome)) = answers.next().await {
        let prompt = prompt.display();
        match outcome {
            Ok(summary) => {
                let (tokens, ms) = (summary.usage.completion_tokens, summary.timings.total_ms);
                println!("{prompt}: {tokens} tokens in {:.1} s", ms / 1e3);
            }
            Err(error) => eprintln!("{prompt}: {error}"),
        }
    }
    runtime.shutdown(Duration::from_secs(5)).await;
    Ok(())
}

/// The prompts that have no answer yet, in the order of their names.
fn prompts(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut prompts = Vec::new();
    for entry in fs_err::read_dir(folder)? {
        let path = entry?.path();
        let is_prompt = path.extension().is_some_and(|extension| extension == "txt");
        if is_prompt && !answer_of(&path).exists() {
            prompts.push(path);
        }
    }
    prompts.sort_unstable();
    Ok(prompts)
}

fn answer_of(prompt: &Path) -> PathBuf {
    prompt.with_extension("answer")
}

async fn answer(
    runtime: &Runtime,
    model: &str,
    prompt: PathBuf,
) -> (PathBuf, Result<Summary, Box<dyn Error>>) {
    let outcome = write_answer(runtime, model, &prompt).await;
    (prompt, outcome)
}

async fn write_answer(runtime: &Runtime, model: &str, prompt: &Path) -> Result<Summary, Box<dyn Error>> {
    let question = Message::user(fs_err::read_to_string(prompt)?);
    let request = Request::chat(model, [question]).max_tokens(256);
    let (text, summary) = runtime.generate(request).collect().await?;
    fs_err::write(answer_of(prompt), text)?;
    Ok(summary)
}
