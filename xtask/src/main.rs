//! Tasks of this repository, as `cargo x TASK`.
//!
//! ```text
//!   ci          what must pass before a change is merged: fmt, clippy, tidy, docs, examples, the page, tests
//!   test        what `./dev test` runs: tidy, doc tests, examples, the page, tests; as root some of them as an ordinary user, too
//!   ordinary    those alone
//!   tidy        the house rules that a compiler cannot check
//!   docs        docs/reference, written by the built binary itself
//!   bench       scenarios side by side with what a user would pick instead
//!   candle      the second engine, which the others leave out
//!   clients     official clients of OpenAI's, Anthropic's and Ollama's APIs, frameworks and agents against the built server, with real models
//!   page        the page for people in Chromium, against the built server as well
//!   soak        the long loops that are too slow for every change
//!   oracle      the converter of published models against llama.cpp's own
//!   demo-model  trains the built-in model again
//! ```
//!
//! Tasks call cargo and the built binary; they never contain a part of the product.
#![forbid(unsafe_code)]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "tasks report to a person at a terminal")]

mod bench;
mod candle;
mod ci;
mod clients;
mod demo_model;
mod docs;
mod environment;
mod examples;
mod fuzz;
mod oracle;
mod ordinary;
mod page;
mod process;
mod soak;
mod steps;
mod test;
mod tidy;
mod tree;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo x", about = "Tasks of this repository", disable_help_subcommand = true)]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Everything that must pass before a change is merged
    Ci,
    /// Tidy, documentation tests, examples and tests: what `./dev test` runs
    Test,
    /// As root: the tests of workers and of the command line as an ordinary user
    Ordinary,
    /// The house rules that a compiler cannot check
    Tidy,
    /// Write docs/reference by asking the built binary
    Docs(docs::Arguments),
    /// Measure against what a user would pick instead
    Bench(Box<bench::Arguments>),
    /// Lints and tests of the second engine, candle, which is not part of the usual build
    Candle,
    /// Official clients against the built server (needs python3 with venv, and npm for one of them)
    Clients(clients::Arguments),
    /// The page for people in Chromium (needs Node.js with npm)
    Page(page::Arguments),
    /// Loops that are too long for every change
    Soak(soak::Arguments),
    /// The converter against llama.cpp's own (needs python3 with venv)
    Oracle(oracle::Arguments),
    /// Train the built-in demo model again (needs python3 with venv)
    DemoModel(demo_model::Arguments),
}

fn main() -> ExitCode {
    let outcome = tree::Tree::find().and_then(|tree| match Arguments::parse().task {
        Task::Ci => ci::run(&tree),
        Task::Test => test::run(&tree),
        Task::Ordinary => ordinary::run(&tree),
        Task::Tidy => tidy::run(&tree),
        Task::Docs(arguments) => docs::run(&tree, &arguments),
        Task::Bench(arguments) => bench::run(&tree, &arguments),
        Task::Candle => candle::run(&tree),
        Task::Clients(arguments) => clients::run(&tree, &arguments),
        Task::Page(arguments) => page::run(&tree, &arguments),
        Task::Soak(arguments) => soak::run(&tree, &arguments),
        Task::Oracle(arguments) => oracle::run(&tree, &arguments),
        Task::DemoModel(arguments) => demo_model::run(&tree, &arguments),
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
