//! `cargo x test`: is the house in order, and does everything do what it says?

use anyhow::Result;

use crate::process;
use crate::tidy;
use crate::tree::Tree;

/// Tidy and documentation tests first, so that the summary of the tests is the last thing printed.
pub(crate) fn run(tree: &Tree) -> Result<()> {
    tidy::run(tree)?;
    documentation(tree)?;
    tests(tree)
}

/// The examples in the documentation, compiled and run.
pub(crate) fn documentation(tree: &Tree) -> Result<()> {
    process::run(tree.root(), "cargo", &["test", "--quiet", "--release", "--workspace", "--doc"])
}

/// Every test of the workspace. One profile for demo and tests: llama.cpp is built once, and the random
/// simulations run at full speed.
pub(crate) fn tests(tree: &Tree) -> Result<()> {
    if process::works("cargo", &["nextest", "--version"]) {
        return process::run(tree.root(), "cargo", &["nextest", "run", "--release", "--workspace"]);
    }
    let plain = ["test", "--release", "--workspace", "--lib", "--bins", "--tests", "--no-fail-fast"];
    process::run(tree.root(), "cargo", &plain)
}
