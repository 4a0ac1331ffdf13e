//! `cargo x candle`: lints and tests of the second engine, with its conformance suite, which builds and tests of the whole
//! workspace leave out.

use anyhow::Result;

use crate::process;
use crate::steps::{self, Step};
use crate::tree::Tree;

/// The engine with what others compute of the same weights, the runtime that chooses it, and workers in their sandboxes. Without
/// llama.cpp: it is not built again for them.
const STEPS: [Step; 4] = [("lints", lints), ("engine", engine), ("runtime", runtime), ("workers", workers)];

/// Runs every step.
pub(crate) fn run(tree: &Tree) -> Result<()> {
    steps::run(tree, &STEPS)
}

fn lints(tree: &Tree) -> Result<()> {
    let strict = ["--features", "oracle", "--all-targets", "--", "-D", "warnings"];
    let engine = ["clippy", "--quiet", "--release", "-p", "samovar-candle"];
    process::run(tree.root(), "cargo", &[&engine[..], &strict].concat())
}

fn engine(tree: &Tree) -> Result<()> {
    process::run(tree.root(), "cargo", &["test", "--release", "-p", "samovar-candle", "--features", "oracle"])
}

fn runtime(tree: &Tree) -> Result<()> {
    let only = ["--no-default-features", "--features", "candle", "--test", "candle"];
    process::run(tree.root(), "cargo", &[&["test", "--release", "-p", "samovar"][..], &only].concat())
}

fn workers(tree: &Tree) -> Result<()> {
    let only = ["--no-default-features", "--features", "candle", "--test", "binary", "candle"];
    process::run(tree.root(), "cargo", &[&["test", "--release", "-p", "samovar-cli"][..], &only].concat())
}
