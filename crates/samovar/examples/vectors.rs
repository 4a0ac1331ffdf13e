//! A search by meaning: the lines of a file that are nearest to a query.
//!
//! `cargo run --release -p samovar --example vectors -- MODEL FILE QUERY`
//!
//! MODEL is an embedding model: a file, or a name of a hub. All lines are one request, whose vectors come in parts.
#![allow(clippy::print_stdout, reason = "an example talks to whoever runs it")]

use std::error::Error;
use std::time::Duration;

use samovar::{Embed, EmbedInput, Embedded, Failure, Request, Runtime, TextRole};

/// Lines that are shown.
const SHOWN: usize = 5;
const USAGE: &str = "usage: vectors MODEL FILE QUERY";

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let mut argument = || arguments.next().ok_or(USAGE);
    let (model, file, query) = (argument()?, argument()?, argument()?);
    let text = fs_err::read_to_string(file)?;
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    let runtime = Runtime::builder().build()?;
    let query = vectors(&runtime, &model, &[&query], TextRole::Query).await?;
    let mut found: Vec<(f32, &str)> = vectors(&runtime, &model, &lines, TextRole::Document)
        .await?
        .iter()
        .zip(&lines)
        .map(|(line, text)| (similarity(&line.values, &query[0].values), *text))
        .collect();
    found.sort_by(|one, other| other.0.total_cmp(&one.0));
    for (similarity, line) in found.iter().take(SHOWN) {
        println!("{similarity:.3} {line}");
    }
    runtime.shutdown(Duration::from_secs(5)).await;
    Ok(())
}

/// The vectors of these texts, in their order.
async fn vectors(
    runtime: &Runtime,
    model: &str,
    texts: &[&str],
    role: TextRole,
) -> Result<Vec<Embedded>, Failure> {
    let mut embed = Embed::new(texts.iter().map(|text| EmbedInput::Text((*text).to_owned())).collect());
    embed.role = Some(role);
    let (vectors, _) = runtime.generate(Request::embed(model, embed)).collect_embedded().await?;
    Ok(vectors)
}

/// Their cosine: vectors have length 1 unless they are asked for otherwise.
fn similarity(one: &[f32], other: &[f32]) -> f32 {
    one.iter().zip(other).map(|(one, other)| one * other).sum()
}
